//! What a node looks like from outside.

use std::sync::Arc;

use tinyraftplus_core::{Configuration, EntryId, Identity, NodeId, PeerStatus, Role, Seq, Term};
use tinyraftplus_log::LogEntry;

/// A consistent snapshot of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Its name.
    pub id: NodeId,
    /// The identity of its log.
    pub identity: Identity,
    /// The part it plays.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Whether it was told to sit still.
    pub paused: bool,
    /// If it leads: whom it is handing its leadership to.
    pub transferring: Option<NodeId>,
    /// The configuration, once the cluster has formed.
    pub configuration: Option<Arc<Configuration>>,
    /// If it leads: the peers that it has heard from within an election timeout.
    pub followers: Vec<NodeId>,
    /// If it leads: what it knows of each peer.
    pub peers: Vec<(NodeId, PeerStatus)>,
    /// The first position of its log.
    pub start: Seq,
    /// The position after the last entry of its log, durable or not.
    pub end: Seq,
    /// The position after the last entry on its disk.
    pub durable: Seq,
    /// The position after the last entry that it knows to be committed. Goes back when there was no space on the
    /// disk for entries that it had already heard of.
    pub committed: Seq,
    /// The position after the last entry that was applied here.
    pub applied: Seq,
    /// The last entry of the newest complete snapshot here.
    pub snapshot: Option<EntryId>,
    /// The newest durable entry.
    pub head: Option<LogEntry>,
    /// How many calls are under way.
    pub calls: usize,
    /// How many bytes of payloads and queries are under way.
    pub calls_bytes: u64,
    /// How many bytes of entries are kept in memory.
    pub cache_bytes: u64,
}
