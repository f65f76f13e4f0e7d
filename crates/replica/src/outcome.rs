//! How a call ends, and what a client may conclude from it.

use bytes::Bytes;
use tinyraftplus_core::{ConfigurationError, NodeId, Seq, TransferError};

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
    /// The members are as wanted, for good.
    Changed {
        /// The position of the configuration that says so; `None` if it is the first.
        at: Option<Seq>,
    },
    /// The members are not as wanted, and this call will not change that.
    NotChanged(ChangeError),
    /// Nothing happened, and never will.
    Refused(Refused),
    /// The entries may be committed or not, now or later; the wanted node may lead or not; the members may be as wanted or
    /// not.
    Unknown(Unknown),
}

impl Outcome {
    /// Whether the call changed anything.
    pub const fn effect(&self) -> Effect {
        match self {
            Self::Committed { .. } | Self::Done | Self::Changed { .. } => Effect::Done,
            // Its last message may still arrive.
            Self::NotTransferred(TransferError::TimedOut) | Self::Unknown(_) => Effect::Possible,
            Self::Read { .. }
            | Self::Refused(_)
            | Self::NotTransferred(_)
            | Self::NotChanged(_) => Effect::None,
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
    /// This node was removed from the cluster.
    #[error("this node is not a member of the cluster any more; call one that is")]
    NotAMember,
    /// A change of members that was asked for on this node is under way.
    #[error("this node has another change of members under way; wait for it")]
    ChangeUnderWay,
    /// Nobody keeps snapshots here, and the log is not to go without.
    #[error("this node keeps no snapshots; give it a log and a state machine that can")]
    NoSnapshots,
    /// A snapshot could not be taken.
    #[error("no snapshot could be taken: {0}")]
    Snapshot(String),
    /// This kind of log can't give its oldest entries back.
    #[error("this log is one file and can't give its oldest entries back; use a MultiFsLog")]
    NeverCompacts,
    /// The entries are not applied here yet.
    #[error("only what comes before seq {end} is applied here yet; entries after that can't go")]
    NotApplied {
        /// Up to where they are.
        end: Seq,
    },
    /// A member does not have the entries yet, and could get them from nowhere.
    #[error(
        "a member still needs the entries from seq {from} on; wait for it, remove it from the cluster, or drop them by force"
    )]
    StillNeeded {
        /// The first of them.
        from: Seq,
    },
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
    /// A snapshot took the place of that part of the log, so whether the entries are in it, or what the state machine said
    /// about them, is not known here.
    #[error(
        "a snapshot took the place of the entries here, so that the outcome is lost; look at the state, or append once more if it can be twice"
    )]
    Snapshot,
    /// The node stops.
    #[error("the node stops before the outcome was known; read the log to find out")]
    Stopped,
    /// The leader that had the change of members is gone, and they were changed since: this change may have been among those.
    #[error("the members were changed meanwhile, perhaps by this call too; look at the status")]
    MembersChanged,
    /// This node was removed from the cluster.
    #[error(
        "this node was removed from the cluster before the outcome was known; look at one that is a member"
    )]
    NotAMember,
}

/// Why a leader did not change the members. Nothing happened, and nothing will.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Another change is under way, or the leader readmits a member whose disk was lost.
    #[error("another change of members is under way; try again when it is over")]
    UnderWay,
    /// The members or the rules are not those that the change was planned on.
    #[error(
        "the members or the rules are not those that the change was planned on; look at the status and decide anew"
    )]
    MembersChanged {
        /// The position of the configuration that is in force instead; `None` for the first.
        at: Option<Seq>,
    },
    /// A new member did not say who it is, in all the time there was.
    #[error("node {0} does not answer: open it, or look at its network")]
    Unreachable(NodeId),
    /// A new voter did not catch up in time, or the new members could decide nothing without one that is not there. New ones
    /// were learners for a while, and are none any more.
    #[error(
        "node {0} does not catch up, and the new members could not do without it; give it more time, or look why it is slow"
    )]
    TooSlow(NodeId),
    /// A new member belongs to another cluster.
    #[error("node {0} belongs to another cluster; open it on an empty directory, to join")]
    ForeignCluster(NodeId),
    /// The leader can't evaluate the rules.
    #[error(
        "the leader was not given a custom rule that the change asks for; open all members with it"
    )]
    UnfitRules,
    /// The change leads to what is no configuration.
    #[error("not a membership: {0}")]
    NoConfiguration(ConfigurationError),
    /// The log has no position left.
    #[error("the log has no position left")]
    LogFull,
    /// The leader came to nothing in all the time there was, or has been asked by too many.
    #[error("the leader was too busy to begin; try again later")]
    Busy,
}
