//! How a call ends, and what a client may conclude from it.

use bytes::Bytes;
use tinyraftplus_core::{Seq, TransferError};

/// Whether a call changed anything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Nothing happened, and never will.
    None,
    /// Something may have happened, or may still happen.
    Possible,
    /// It happened, and survives whatever the quorum survives.
    Done,
}

/// How a call ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The entries are committed and, with a state machine, applied.
    Committed {
        /// The position of the first.
        first: Seq,
        /// The position of the last.
        last: Seq,
        /// The state machine's answers, one for each entry; none without a state machine.
        results: Vec<Bytes>,
    },
    /// The read was answered.
    Read {
        /// The newest entry that the answer knows of; `None` if there was none yet.
        seq: Option<Seq>,
        /// The state machine's answer; empty without one.
        result: Bytes,
    },
    /// It was done: a transfer, a campaign, a step down, a pause.
    Done,
    /// The wanted node does not lead.
    NotTransferred(TransferError),
    /// Nothing happened, and never will.
    Refused(Refused),
    /// The entries may be committed or not, now or later; the wanted node may lead or not.
    Unknown(Unknown),
}

impl Outcome {
    /// Whether the call changed anything.
    pub const fn effect(&self) -> Effect {
        match self {
            Self::Committed { .. } | Self::Done => Effect::Done,
            // Its last message may still arrive.
            Self::NotTransferred(TransferError::TimedOut) | Self::Unknown(_) => Effect::Possible,
            Self::Read { .. } | Self::Refused(_) | Self::NotTransferred(_) => Effect::None,
        }
    }
}

/// Why nothing happened.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// There is no leader, and the node was told not to wait for one.
    #[error("there is no leader; try again once there is one")]
    NoLeader,
    /// Too much is under way.
    #[error("too many calls or bytes are under way; try again later")]
    Busy,
    /// A batch needs at least one entry.
    #[error("a batch needs at least one entry")]
    Empty,
    /// An entry or a batch is over its limit.
    #[error("{what} of {bytes} bytes is over the limit of {limit}; make it smaller")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size in bytes.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A batch has too many entries.
    #[error("a batch of {count} entries is over the limit of {limit}; make it smaller")]
    TooMany {
        /// How many it has.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// The log has no position left.
    #[error("the log has no position left")]
    LogFull,
    /// The deadline came before the call had any effect.
    #[error("the deadline passed before the call had any effect; try again with more time")]
    Deadline,
    /// The leader changed, the entries are surely not in the log, and a later call of this node already went
    /// to the next leader: to go there now would break the order of calls.
    #[error(
        "the leader changed and a later call was faster; append again if the order does not matter"
    )]
    Overtaken,
    /// The node stops.
    #[error("the node stops; call another one")]
    Stopped,
    /// The state machine could not answer the query.
    #[error("the state machine could not answer: {0}")]
    Query(String),
}

/// Why nobody knows what happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Unknown {
    /// The deadline came first.
    #[error("the deadline passed before the outcome was known; read the log to find out")]
    Deadline,
    /// The leader that had the call has forgotten it.
    #[error("the leader that had the call was restarted; read the log to find out")]
    Forgotten,
    /// The node stops.
    #[error("the node stops before the outcome was known; read the log to find out")]
    Stopped,
}
