//! What a replica is told when it starts.

use std::time::Duration;

use tinyraftplus_core::{Load, Options, OptionsError, Seq};

use crate::{CHUNK_BYTES_MAX, ENTRIES_MAX};

/// What an entry takes in a message besides its payload, at most: tags, lengths and flags.
const ENTRY_BYTES: u64 = 16;
/// What a message takes besides its entries, at most. So much has a configuration of as many members as there may be, twice.
const MESSAGE_BYTES: u64 = 1 << 20;
/// The most that messages of several batches may be made to hold: each entry counts as 64 bytes there.
const APPEND_BYTES_MAX: u64 = ENTRIES_MAX as u64 * Load::ENTRY_COST;

/// What a replica is told when it starts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReplicaOptions {
    /// What the consensus is told.
    pub raft: Options,
    /// Whether there is a state machine: without one nothing is handed to it, and a read only waits.
    pub state_machine: bool,
    /// Refuses calls while there is no leader, instead of letting them wait for one. Default: they wait.
    pub fail_fast: bool,
    /// After how long an unanswered message about a call is sent again. Default 100 ms.
    pub retry_interval: Duration,
    /// How many calls may be under way. Default 65,536.
    pub calls_max: usize,
    /// How many bytes of payloads and queries may be under way, each entry counted as 32 more. Default 64 MiB.
    pub calls_bytes_max: u64,
    /// How many bytes of payloads may be on their way to a leader unanswered. Default 8 MiB.
    pub forward_bytes_max: u64,
    /// The largest payload. Default 16 MiB.
    pub entry_bytes_max: u64,
    /// The largest batch, in bytes of payload. Default 16 MiB.
    pub batch_bytes_max: u64,
    /// The most entries of a batch. Default 1,048,576, and not more: a message has no room for them.
    pub batch_entries_max: usize,
    /// About how many bytes of payload one write of a leader gets, each entry counted as 32 more. A batch that is larger is a
    /// write of its own. Default 4 MiB.
    pub write_bytes_max: u64,
    /// How many entries the state machine gets at once. Default 4,096.
    pub apply_entries_max: usize,
    /// About how many bytes of payload the state machine gets at once. Default 1 MiB.
    pub apply_bytes_max: u64,
    /// How many bytes of the newest entries are kept in memory. What is not durable yet is kept in any case.
    /// Default 32 MiB.
    pub cache_bytes_max: u64,
    /// Whether whoever drives the replica keeps snapshots, and how that is done. Default: no.
    pub snapshots: Option<SnapshotOptions>,
}

impl ReplicaOptions {
    /// The defaults, without a state machine.
    pub const fn new(raft: Options) -> Self {
        Self {
            raft,
            state_machine: false,
            fail_fast: false,
            retry_interval: Duration::from_millis(100),
            calls_max: 65_536,
            calls_bytes_max: 64 << 20,
            forward_bytes_max: 8 << 20,
            entry_bytes_max: 16 << 20,
            batch_bytes_max: 16 << 20,
            batch_entries_max: 1 << 20,
            write_bytes_max: 4 << 20,
            apply_entries_max: 4096,
            apply_bytes_max: 1 << 20,
            cache_bytes_max: 32 << 20,
            snapshots: None,
        }
    }

    /// Checks that the options fit each other.
    ///
    /// # Errors
    ///
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), StartError> {
        self.raft.check()?;
        let limits = [
            ("retry_interval", self.retry_interval.is_zero()),
            ("calls_max", self.calls_max == 0),
            ("calls_bytes_max", self.calls_bytes_max == 0),
            ("forward_bytes_max", self.forward_bytes_max == 0),
            ("entry_bytes_max", self.entry_bytes_max == 0),
            ("batch_bytes_max", self.batch_bytes_max == 0),
            ("batch_entries_max", self.batch_entries_max == 0),
            ("write_bytes_max", self.write_bytes_max == 0),
            ("apply_entries_max", self.apply_entries_max == 0),
            ("apply_bytes_max", self.apply_bytes_max == 0),
            ("snapshots.log_bytes", self.snapshots.is_some_and(|it| it.log_bytes == Some(0))),
            (
                "snapshots.bytes_per_second",
                self.snapshots.is_some_and(|it| it.bytes_per_second == 0),
            ),
        ];
        if let Some((name, _)) = limits.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(StartError::Zero(name));
        }
        let limits = [
            ("batch_entries_max", self.batch_entries_max as u64, ENTRIES_MAX as u64),
            ("append_bytes_max", self.raft.append_bytes_max, APPEND_BYTES_MAX),
        ];
        match limits.into_iter().find(|(_, value, limit)| value > limit) {
            Some((name, value, limit)) => Err(StartError::OverLimit { name, value, limit }),
            None => Ok(()),
        }
    }

    /// The longest message that a node with these options can come to send, encoded; with results of a state machine it may be
    /// longer, and those that get lost its own state machine makes again.
    pub fn message_bytes_max(&self) -> u64 {
        let entries = ENTRY_BYTES.saturating_mul(self.batch_entries_max as u64);
        let batch = self.batch_bytes_max.saturating_add(entries);
        let chunk = if self.snapshots.is_some() { u64::from(CHUNK_BYTES_MAX) } else { 0 };
        batch.max(self.raft.append_bytes_max).max(chunk).saturating_add(MESSAGE_BYTES)
    }

    /// Checks that a transport takes all messages that there may be.
    ///
    /// # Errors
    ///
    /// If it does not: what is needed.
    pub fn check_transport(&self, message_bytes_max: u64) -> Result<(), StartError> {
        let (needed, limit) = (self.message_bytes_max(), message_bytes_max);
        if needed > limit { Err(StartError::LongMessages { needed, limit }) } else { Ok(()) }
    }
}

/// How snapshots are taken, kept and sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SnapshotOptions {
    /// Whether the log can give its oldest entries back. Default: yes.
    pub compacts: bool,
    /// After how many bytes of entries for the state machine a snapshot is taken, each entry counted as 32 more; `None`: only
    /// when somebody asks for one. Default 64 MiB.
    pub log_bytes: Option<u64>,
    /// How many entries before a snapshot stay in the log, for peers that are a little behind. Default 10,000.
    pub keep_entries: u64,
    /// How many bytes of a snapshot may be on their way to a peer; at least one chunk is. Default 1 MiB.
    pub window_bytes: u64,
    /// How fast a snapshot goes to a peer, in bytes a second. Default 64 MiB.
    pub bytes_per_second: u64,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self {
            compacts: true,
            log_bytes: Some(64 << 20),
            keep_entries: 10_000,
            window_bytes: 1 << 20,
            bytes_per_second: 64 << 20,
        }
    }
}

/// Why a replica can't start.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Options of the consensus.
    #[error(transparent)]
    Raft(#[from] OptionsError),
    /// A limit that would let nothing happen.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// A limit that is too high.
    #[error("{name} is {value}, and must be at most {limit}: a message holds no more")]
    OverLimit {
        /// Its name.
        name: &'static str,
        /// What it is.
        value: u64,
        /// What it may be.
        limit: u64,
    },
    /// The transport does not take messages that are as long as a batch may be.
    #[error(
        "a batch may need a message of {needed} bytes, and the transport takes {limit}: lower batch_bytes_max or batch_entries_max, or raise the limit of the transport (message_bytes_max) on all nodes"
    )]
    LongMessages {
        /// The longest message there may be.
        needed: u64,
        /// The longest that the transport takes.
        limit: u64,
    },
    /// The state machine has seen entries that the log does not have.
    #[error(
        "the state machine has applied everything before seq {applied}, but the log ends at {end}: they do not belong together, or the log lost entries; start with an empty state machine"
    )]
    AheadOfLog {
        /// Where the state machine is.
        applied: Seq,
        /// Where the log ends.
        end: Seq,
    },
    /// The state machine lacks entries that the log no longer has.
    #[error(
        "the state machine has applied everything before seq {applied}, but the log begins at {start}: the entries between are gone, and there is no snapshot that stands for them"
    )]
    BehindLog {
        /// Where the state machine is.
        applied: Seq,
        /// Where the log begins.
        start: Seq,
    },
}
