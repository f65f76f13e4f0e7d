//! What a row's processes are told over stdin and answer over stdout: a line of JSON each, one at a time.
//!
//! Every row runs in processes of its own, so that its memory and processor time are its own: one for all nodes, or
//! one for each. A process that hosts nodes ends when its stdin does, however that comes about.

use super::check::{Held, Tally};
use super::options::LogKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The first line a process is told.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Setup {
    /// Where it makes a directory for its logs.
    pub(super) dir: PathBuf,
    /// How many nodes the cluster has: 1 to that.
    pub(super) nodes: u64,
    /// Encrypted TCP on loopback; else its nodes are joined within it.
    pub(super) tcp: bool,
    pub(super) log: LogKind,
    pub(super) encrypt: bool,
    /// Of connections and logs.
    pub(super) key: String,
}

/// What a process is told to do next.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Command {
    /// Prepare a node's transport; answers where it listens.
    Bind { node: u64 },
    /// All nodes' addresses.
    Peers { addresses: BTreeMap<u64, String> },
    /// Open a node.
    Open { node: u64 },
    /// Wait until a node knows a leader that has committed, and answer which.
    Leader { node: u64 },
    /// Append through a node.
    Run(Load),
    /// Look for the peak of memory anew.
    ForgetPeak,
    /// What the process and its nodes have used so far.
    Usage,
    /// Wait until a node knows everything before `end` to be committed, and say what it holds.
    Hold { node: u64, end: u64, payload: u64 },
    /// Close a node.
    Close { node: u64 },
    /// Open a node that is behind, and wait until everything before `end` is durable there.
    CatchUp { node: u64, end: u64 },
}

/// What it answers.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Answer {
    Done,
    Bound { address: Option<String> },
    Leader { node: u64 },
    Ran(Ran),
    Used(Used),
    Held(Held),
    CaughtUp(CaughtUp),
    Failed { what: String },
}

/// Who appends what.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Load {
    pub(super) node: u64,
    pub(super) clients: u64,
    /// Entries of a call.
    pub(super) batch: u64,
    /// Bytes of an entry.
    pub(super) payload: u64,
    pub(super) until: Until,
}

/// How long clients append. They finish the calls they have begun, and those count.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) enum Until {
    /// So long.
    Seconds(f64),
    /// At least so many entries in all.
    Entries(u64),
}

/// What clients saw.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Ran {
    pub(super) calls: u64,
    pub(super) seconds: f64,
    /// As [`QUANTILES`](super::latency::QUANTILES) says.
    pub(super) micros: [f64; 5],
    /// The entries that were acknowledged.
    pub(super) acked: Tally,
    /// The seq after the last of them.
    pub(super) end: u64,
}

/// What a process, or all of a row together, used so far.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(super) struct Used {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) memory: Option<u64>,
    pub(super) peak_memory: Option<u64>,
    /// Durable writes of all its nodes.
    pub(super) syncs: u64,
    /// The highest term that its nodes know.
    pub(super) term: u64,
}

/// How a node caught up, in seconds from the call that opened it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct CaughtUp {
    /// Until the first missing entries were durable.
    pub(super) first: f64,
    /// The seq after those.
    pub(super) at_first: u64,
    /// Until the last was.
    pub(super) last: f64,
}
