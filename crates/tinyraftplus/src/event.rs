//! What happens on a node, for whoever listens.

use std::fmt;

use tinyraftplus_core::quorum::Tolerance;
use tinyraftplus_core::{self as core, NodeId, Role, Seq, Term, TransferError};
use tinyraftplus_net::NetEvent;
use tokio::sync::broadcast;

use crate::{Member, StopReason};

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The node opened or closed, or its role, term, leader, followers or members changed. The last one agrees with
    /// [`RaftNode::status`](crate::RaftNode::status).
    Change {
        /// The node.
        id: NodeId,
        /// All members; while one membership replaces another, those of the new one.
        members: Vec<Member>,
        /// Its role.
        role: Role,
        /// Who leads.
        leader: Option<NodeId>,
        /// If it leads: the peers it has heard from lately.
        followers: Vec<NodeId>,
        /// Its term.
        term: Term,
        /// Whether it runs.
        open: bool,
    },
    /// Everything up to this entry is committed.
    Commit {
        /// The newest of them.
        seq: Seq,
    },
    /// Everything up to this entry has been applied here.
    Apply {
        /// The newest of them.
        seq: Seq,
    },
    /// This node leads, and hands its leadership over. Appends wait meanwhile.
    Transferring {
        /// Whom to.
        to: NodeId,
    },
    /// That has ended.
    Transferred {
        /// Whom it was to.
        to: NodeId,
        /// Whether that node leads now, and if not, why.
        result: Result<(), TransferError>,
    },
    /// Which failures the members survive, when the node opens and whenever members or rules have changed. Print it where
    /// an operator sees it before it matters.
    Tolerance(Tolerance),
    /// Something that the cluster avoids or recovers from by itself.
    Warn(Warning),
    /// Something happened to its connections; those that are lost are made again by themselves.
    Net(NetEvent),
    /// The node stops. The reason says what to do.
    Error(StopReason),
}

/// Something that the cluster avoids or recovers from by itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Warning {
    /// What the consensus reports.
    Raft(core::Event),
    /// A message that no correct peer sends was dropped. Look at the peer's version.
    Malformed {
        /// The sender.
        from: NodeId,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Entries could not be read from the log; it is tried again. If it goes on, the disk has failed: replace
    /// the node.
    Load(String),
    /// The log has no space. Entries are refused until there is some, and a leader gives up its role; votes go on.
    /// Free some.
    NoSpace(String),
    /// A write takes longer than the limit; a leader gives up its role. Look at the disk.
    DiskStalled,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raft(event) => event.fmt(f),
            Self::Malformed { from, what } => {
                write!(f, "a message from node {from} was dropped: it {what}")
            }
            Self::Load(what) => write!(f, "the log can't be read, trying again: {what}"),
            Self::NoSpace(what) => write!(f, "the log has no space, free some: {what}"),
            Self::DiskStalled => f.write_str("a write takes very long; look at the disk"),
        }
    }
}

/// Listens to a node. A slow listener misses events, and never slows the node.
pub struct Events {
    pub(crate) receiver: broadcast::Receiver<Event>,
}

/// What a listener gets next.
#[derive(Clone, Debug)]
pub enum Next {
    /// An event.
    Event(Event),
    /// The listener was too slow: this many events are gone.
    Missed(u64),
}

impl Events {
    /// The next event; `None` once the node is closed and all have been seen.
    pub async fn next(&mut self) -> Option<Next> {
        match self.receiver.recv().await {
            Ok(event) => Some(Next::Event(event)),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Next::Missed(count)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
