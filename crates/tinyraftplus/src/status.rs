//! What a node looks like from outside.

use bytes::Bytes;
use tinyraftplus_core::{EntryId, NodeId, PeerStatus, Role, Seq, Term};
use tinyraftplus_log::EntryKind;

use crate::StopReason;

/// A consistent snapshot of a node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// Its name.
    pub id: NodeId,
    /// Whether it runs.
    #[doc(alias = "isOpen")]
    pub open: bool,
    /// Why it no longer runs.
    pub stopped: Option<StopReason>,
    /// The part it plays in its term.
    #[doc(alias = "state")]
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Whether it was paused.
    pub paused: bool,
    /// If it leads: whom it is handing its leadership to.
    pub transferring: Option<NodeId>,
    /// Its term.
    pub term: Term,
    /// All members, itself among them.
    #[doc(alias = "nodes")]
    pub members: Vec<NodeId>,
    /// If it leads: the peers that it has heard from lately.
    pub followers: Vec<NodeId>,
    /// The position after the last entry on its disk.
    pub durable: Seq,
    /// The position after the last entry that it knows to be committed. Goes back when there was no space on the
    /// disk for entries that it had already heard of.
    pub committed: Seq,
    /// The position after the last entry that was applied here.
    pub applied: Seq,
    /// The term of the newest entry that it knows to be committed.
    pub committed_term: Option<Term>,
    /// The newest entry on its disk.
    pub head: Option<Head>,
    /// If it leads: what it knows of each peer.
    pub peers: Vec<(NodeId, PeerStatus)>,
    /// How many calls of this node are under way.
    pub calls: usize,
    /// How often its log was synced since it was opened: once for each group of writes.
    pub syncs: u64,
}

impl Status {
    /// The position of the newest entry on its disk.
    pub fn seq(&self) -> Option<Seq> {
        self.head.as_ref().map(|head| head.id.seq)
    }
}

/// The newest entry of a log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head {
    /// Its position and term.
    pub id: EntryId,
    /// What it is for.
    pub kind: EntryKind,
    /// Its bytes.
    pub payload: Bytes,
}
