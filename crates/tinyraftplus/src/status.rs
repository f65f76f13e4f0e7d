//! What a node looks like from outside.

use std::time::Instant;

use bytes::Bytes;
use tinyraftplus_core::quorum::{Group, Tolerance};
use tinyraftplus_core::{EntryId, NodeId, PeerStatus, Placed, Role, Rules, Seq, Term};
use tinyraftplus_log::EntryKind;

use crate::clock::Clock;
use crate::{Member, StopReason};

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
    /// The part it plays in its term; once it is closed, the part that it played last.
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
    /// All members, as the configuration in force says, sorted by name; while one membership replaces another, those of the new
    /// one. Before the cluster has formed, those that the node was opened with.
    #[doc(alias = "nodes")]
    pub members: Vec<Member>,
    /// Where in the log that is written; `None` for what the cluster was formed with. See
    /// [`Members::based_on`](crate::Members::based_on).
    pub members_at: Option<Seq>,
    /// Whether this node knows a cluster: it has formed, and named it.
    pub formed: bool,
    /// While one membership replaces another, and every decision needs a quorum of both (Raft section 6): the members of the
    /// one that goes.
    pub replaced: Option<Vec<Member>>,
    /// Which sets of voters decide, in words if printed.
    #[doc(alias = "quorum")]
    pub rules: Rules,
    /// Which failures these members survive under these rules, in words if printed. `None` until it was worked out, and while one
    /// membership replaces another.
    pub tolerance: Option<Tolerance>,
    /// If it leads: the peers that it has heard from lately.
    pub followers: Vec<NodeId>,
    /// The first position of its log: older entries are gone, and a snapshot stands for them.
    pub start: Seq,
    /// The last entry in its newest snapshot.
    pub snapshot: Option<EntryId>,
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
    pub peers: Vec<Peer>,
    /// How many calls of this node are under way.
    pub calls: usize,
    /// How many messages were dropped that no correct peer sends: [`Warning::Malformed`](crate::Warning::Malformed).
    pub malformed: u64,
    /// How often its log was synced since it was opened: once for each group of writes.
    pub syncs: u64,
}

impl Status {
    /// Whether it is a member. If not, it waits to be added, or was removed: then its calls are refused.
    pub fn is_member(&self) -> bool {
        self.members.iter().any(|member| member.id == self.id)
    }

    /// Its label for quorum rules, as the configuration says.
    pub fn group(&self) -> Option<Group> {
        self.members.iter().find(|member| member.id == self.id)?.group
    }

    /// Takes over what a configuration says.
    pub(crate) fn configure(&mut self, placed: &Placed) {
        let Placed { at, configuration } = placed;
        let members = |of: &[tinyraftplus_core::Member]| of.iter().map(Member::from).collect();
        self.members = members(configuration.members());
        self.members_at = *at;
        self.formed = true;
        self.replaced = configuration.old().map(|old| members(old.members()));
        self.rules = configuration.now().rules().clone();
        self.tolerance = None;
    }

    /// The position of the newest entry on its disk.
    pub fn seq(&self) -> Option<Seq> {
        self.head.as_ref().map(|head| head.id.seq)
    }
}

/// What a leader knows of a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Peer {
    /// The peer.
    pub id: NodeId,
    /// Everything before this is durable there and equal to this node's log.
    pub matched: Seq,
    /// When it was last heard from in this term.
    pub last_contact: Option<Instant>,
    /// The priority it told last; 0 for one that can't lead now.
    pub priority: u32,
    /// Whether it lacks entries that this node's log no longer has, and is sent a snapshot.
    pub needs_snapshot: bool,
}

impl Peer {
    pub(crate) fn all(peers: Vec<(NodeId, PeerStatus)>, clock: Clock) -> Vec<Self> {
        let peer = |(id, peer): (NodeId, PeerStatus)| {
            let PeerStatus { matched, last_contact, priority, needs_snapshot } = peer;
            let last_contact = last_contact.map(|time| clock.past(time).into_std());
            Self { id, matched, last_contact, priority, needs_snapshot }
        };
        peers.into_iter().map(peer).collect()
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
