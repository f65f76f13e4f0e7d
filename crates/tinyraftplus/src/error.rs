//! What can go wrong, whether anything happened, and what to do.

use std::fmt;
use std::io;
use std::sync::Arc;

use tinyraftplus_core::{NodeIdError, PlanError, Seq, Term, TransferError};
use tinyraftplus_log::LogError;
use tinyraftplus_replica::{ChangeError, Effect, Refused, StartError, Unknown};

use crate::Advice;

/// Why a node could not be opened. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// An option, or what the log or the state machine holds.
    #[error(transparent)]
    Start(Box<StartError>),
    /// A node's name.
    #[error("{name:?} can't name a node")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: NodeIdError,
    },
    /// The builder was given no log.
    #[error("a node needs a log: call `log_dir` or `log` on the builder")]
    NoLog,
    /// There are other members and no way to reach them.
    #[error("a node with peers needs a transport: call `transport` or `send` on the builder")]
    NoTransport,
    /// The first term would leave no terms for elections.
    #[error("initial_term {0} is out of range: terms are counted from it, use one below 2^63")]
    InitialTerm(Term),
    /// The log can't be opened.
    #[error("can't open the log")]
    Log(#[from] LogError),
    /// A timeout that leaves no time.
    #[error("{0} must not be zero")]
    ZeroTime(&'static str),
    /// A thread can't be started.
    #[error("can't start a thread")]
    Thread(#[source] io::Error),
    /// The operating system has no random numbers.
    #[error("can't draw a random number: {0}")]
    Random(String),
    /// The function that makes the log or the state machine panicked, or the log did.
    #[error("the function that makes {0} panicked")]
    Panicked(&'static str),
    /// A custom quorum rule panicked when it was asked about sets of members.
    #[error("a custom quorum rule panicked")]
    RulePanicked,
}

impl From<StartError> for OpenError {
    fn from(error: StartError) -> Self {
        Self::Start(Box::new(error))
    }
}

/// Why a node no longer runs. Cheap to clone. Each says what to do; [`StopReason::advice`] says it to programs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StopReason {
    /// It was closed, or its last handle was dropped. Open it again whenever you like.
    Closed,
    /// It was killed on purpose. Open it again whenever you like.
    Killed,
    /// Its log failed: nobody knows what is on the disk. Open it again, to find out; if that fails, replace the
    /// disk and start the node with an empty directory.
    Log(Arc<LogError>),
    /// Its state machine failed. Mend it, then open the node again.
    StateMachine(Arc<str>),
    /// A task or thread of the node ended unexpectedly. If the runtime was not shut down before the node was
    /// closed, and neither the transport nor the state machine panicked, it is a defect: please report it.
    Died(&'static str),
}

impl StopReason {
    /// What to do about it.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Closed | Self::Killed => Advice::Nothing,
            Self::Log(error)
                if matches!(**error, LogError::Corrupt { .. } | LogError::SegmentMissing(_)) =>
            {
                Advice::Replace
            }
            Self::Log(error) if matches!(**error, LogError::NoSpace { .. }) => Advice::FreeSpace,
            Self::Log(_) | Self::StateMachine(_) | Self::Died(_) => Advice::Restart,
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the node was closed"),
            Self::Killed => f.write_str("the node was killed"),
            Self::Log(error) => write!(f, "the node stopped because its log failed: {error}"),
            Self::StateMachine(what) => {
                write!(f, "the node stopped because its state machine failed: {what}")
            }
            Self::Died(what) => write!(f, "the node stopped because its {what} ended unexpectedly"),
        }
    }
}

impl std::error::Error for StopReason {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Log(error) => Some(error.as_ref()),
            Self::Closed | Self::Killed | Self::StateMachine(_) | Self::Died(_) => None,
        }
    }
}

/// Why an append did not succeed. Look at [`AppendError::effect`] before trying again.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Nothing happened, and never will.
    #[error("not appended: {0}")]
    Refused(#[source] Refused),
    /// The entries may be committed or not.
    #[error("nobody knows whether it is appended: {0}")]
    Unknown(#[source] Unknown),
    /// The node no longer runs.
    #[error("{}: {reason}", if *effect == Effect::None { "not appended" } else { "nobody knows whether it is appended" })]
    Stopped {
        /// Whether anything happened.
        effect: Effect,
        /// Why it no longer runs.
        #[source]
        reason: StopReason,
    },
}

impl AppendError {
    /// Whether anything happened: after [`Effect::None`] it is safe to append again.
    pub const fn effect(&self) -> Effect {
        match self {
            Self::Refused(_) => Effect::None,
            Self::Unknown(_) => Effect::Possible,
            Self::Stopped { effect, .. } => *effect,
        }
    }
}

/// Why a read did not succeed. Reads have no effect, so it is always safe to try again.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It was not answered.
    #[error("not read: {0}")]
    Refused(#[source] Refused),
    /// The node no longer runs.
    #[error("not read: {0}")]
    Stopped(#[source] StopReason),
}

impl ReadError {
    /// Whether anything happened: never.
    pub const fn effect(&self) -> Effect {
        Effect::None
    }
}

/// Why somebody does not lead who was to, or leads who was not.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeadershipError {
    /// The leader could not hand over.
    #[error("leadership was not transferred: {0}")]
    NotTransferred(#[source] TransferError),
    /// It was not tried.
    #[error("not tried: {0}")]
    Refused(#[source] Refused),
    /// The deadline passed. It may still happen.
    #[error(
        "the deadline passed before it was known whether leadership was transferred; look at who leads"
    )]
    Deadline,
    /// It may have happened, or may still happen.
    #[error("nobody knows whether leadership was transferred: {0}")]
    Unknown(#[source] Unknown),
    /// A node's name.
    #[error("{name:?} can't name a node")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: NodeIdError,
    },
    /// The node no longer runs.
    #[error("{reason}")]
    Stopped {
        /// Whether anything happened.
        effect: Effect,
        /// Why it no longer runs.
        #[source]
        reason: StopReason,
    },
}

impl LeadershipError {
    /// Whether anything happened.
    pub const fn effect(&self) -> Effect {
        match self {
            // The last word to the other node may still arrive.
            Self::NotTransferred(TransferError::TimedOut) | Self::Deadline | Self::Unknown(_) => {
                Effect::Possible
            }
            Self::NotTransferred(_) | Self::Refused(_) | Self::Name { .. } => Effect::None,
            Self::Stopped { effect, .. } => *effect,
        }
    }
}

/// Why the members are not as wanted. Look at [`MembersError::effect`] before trying again.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MembersError {
    /// These members can't be: none votes, one is listed twice, or the rules are not safe for them, which names two sets of
    /// voters that could decide against each other.
    #[error("the members were not changed: {0}")]
    Plan(#[from] PlanError),
    /// The leader says why not. It will not come of this call any more.
    #[error("the members were not changed: {0}")]
    NotChanged(#[source] ChangeError),
    /// It was not tried.
    #[error("the members were not changed: {0}")]
    Refused(#[source] Refused),
    /// The members may be as wanted, or may still come to be.
    #[error("nobody knows whether the members were changed: {0}")]
    Unknown(#[source] Unknown),
    /// A custom rule panicked when it was asked about sets of these members.
    #[error("the members were not changed: a custom quorum rule panicked")]
    Panicked,
    /// The node no longer runs.
    #[error("{}: {reason}", if *effect == Effect::None { "the members were not changed" } else { "nobody knows whether the members were changed" })]
    Stopped {
        /// Whether anything happened.
        effect: Effect,
        /// Why it no longer runs.
        #[source]
        reason: StopReason,
    },
}

impl MembersError {
    /// Whether anything happened: after [`Effect::None`] the members are not as wanted, unless somebody else wants the same. New
    /// ones may have been learners for a while.
    pub const fn effect(&self) -> Effect {
        match self {
            Self::Plan(_) | Self::NotChanged(_) | Self::Refused(_) | Self::Panicked => Effect::None,
            Self::Unknown(_) => Effect::Possible,
            Self::Stopped { effect, .. } => *effect,
        }
    }
}

/// Why there is no snapshot, or old entries are still there.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It was not done.
    #[error("{0}")]
    Refused(#[source] Refused),
    /// It is not done yet, and may still be.
    #[error("{0}")]
    Unknown(#[source] Unknown),
    /// The node no longer runs.
    #[error("{0}")]
    Stopped(#[source] StopReason),
}

/// Why entries could not be read from the log.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntriesError {
    /// They are not committed here yet, or never were.
    #[error("seq {seq} is not committed on this node, whose committed entries end at {end}")]
    NotCommitted {
        /// The first one that is not.
        seq: Seq,
        /// Where the committed entries end.
        end: Seq,
    },
    /// The log begins later: older entries are gone from this node.
    #[error("seq {seq} is gone from this node, whose log begins at {start}")]
    Compacted {
        /// The first one that is gone.
        seq: Seq,
        /// Where the log begins.
        start: Seq,
    },
    /// The log could not read them.
    #[error("can't read the log: {0}")]
    Log(#[source] Arc<LogError>),
    /// The node no longer runs.
    #[error("{0}")]
    Stopped(#[source] StopReason),
}

impl From<LogError> for EntriesError {
    fn from(error: LogError) -> Self {
        if let LogError::Compacted { start, got } = error {
            return Self::Compacted { seq: got, start };
        }
        Self::Log(Arc::new(error))
    }
}
