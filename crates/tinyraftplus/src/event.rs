//! What happens on a node, for whoever listens.

use std::fmt;

use tinyraftplus_core::quorum::{CustomRule, RuleError, Tolerance};
use tinyraftplus_core::{self as core, EntryId, NodeId, Role, Seq, Term, TransferError};
use tinyraftplus_net::NetEvent;
use tokio::sync::broadcast;

use crate::{Advice, Member, StopReason};

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
    /// A snapshot of this node's state machine is durable.
    Snapshot {
        /// The last entry in it.
        last: EntryId,
        /// How many bytes it has.
        bytes: u64,
    },
    /// This node was too far behind: a snapshot of another took the place of its log and its state machine's state.
    Installed {
        /// The last entry in it.
        last: EntryId,
    },
    /// Old entries of this node's log are gone.
    Compacted {
        /// Where it begins now.
        start: Seq,
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

impl Event {
    /// What to do about it.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Change { .. }
            | Self::Commit { .. }
            | Self::Apply { .. }
            | Self::Transferring { .. }
            | Self::Transferred { .. }
            | Self::Snapshot { .. }
            | Self::Installed { .. }
            | Self::Compacted { .. }
            | Self::Tolerance(_) => Advice::Nothing,
            Self::Warn(warning) => warning.advice(),
            Self::Net(event) => net_advice(event),
            Self::Error(reason) => reason.advice(),
        }
    }
}

fn net_advice(event: &NetEvent) -> Advice {
    match event {
        NetEvent::Connected { .. } => Advice::Nothing,
        NetEvent::Refused { .. }
        | NetEvent::Replaced { .. }
        | NetEvent::Malformed { .. }
        | NetEvent::TooLarge { .. }
        | NetEvent::Used => Advice::Reconfigure,
        NetEvent::Unreachable { .. } | _ => Advice::Inspect,
    }
}

/// Something that the cluster avoids or recovers from by itself, or that keeps it from forming. Each says what to do;
/// [`Warning::advice`] says it to programs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Warning {
    /// This node's log is not the one that the configuration names: its disk was lost or replaced. Nothing has to be done: the
    /// others bind its name to the new log, if a quorum without it agrees.
    Wiped,
    /// The cluster has formed, and this node is not one of its members. It waits: add it with
    /// [`RaftNode::set_members`](crate::RaftNode::set_members).
    NotAMember,
    /// This node was removed from the cluster. Nothing has to be done; it may be closed.
    Removed,
    /// A configuration has a rule that this node was not given, so it can neither take nor judge it. Open it again with that
    /// rule.
    UnknownRule(CustomRule),
    /// The cluster can't form: the rule asks for a label that a member does not have, or is not safe for these members. Open
    /// them with other labels or rules.
    UnsafeRule(RuleError),
    /// The node was opened with something else than the configuration in its log says. The log decides; open it with the
    /// same, or change the members.
    OptionsDiffer {
        /// What differs.
        what: &'static str,
        /// What the node was opened with.
        option: String,
        /// What the configuration says.
        decides: String,
    },
    /// A peer was opened with other members, another rule or another first seq, so the cluster can't form. Make them agree.
    FoundersDisagree {
        /// The peer.
        peer: NodeId,
    },
    /// Two nodes have copies of one log, so the cluster can't form. Replace one of them: start it with an empty directory.
    CopiedLog,
    /// A message that no correct peer sends was dropped, and counted in
    /// [`Status::malformed`](crate::Status::malformed). Look at the peer's version.
    Malformed {
        /// The sender.
        from: NodeId,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A closure that sends ([`NodeBuilder::send`](crate::NodeBuilder::send)) has failed. Nothing has to be done if it is seldom:
    /// what is lost is sent again. Else look at the network. Told at once, then once a second at most for each peer.
    Send {
        /// Whom it was to.
        to: NodeId,
        /// What the closure said.
        what: String,
        /// How often it has failed since this was told last.
        times: u64,
    },
    /// Entries could not be read from the log; it is tried again. Look at the disk; if it goes on, it has failed: replace
    /// the node.
    Load(String),
    /// A snapshot could not be taken, read or received; it is tried again. Look at the disk, and at what the state machine says.
    Snapshot(String),
    /// The log has no space. Entries are refused until there is some, and a leader gives up its role; votes go on.
    /// Free some.
    NoSpace(String),
    /// A write takes longer than the limit; a leader gives up its role. Look at the disk.
    DiskStalled,
    /// This node leads no longer, because its disk is stuck or full. Look at the disk.
    Yielded,
    /// The log has no position left, so this node can't lead again: a term begins with an entry. What is in the log stays
    /// readable; take it to a new cluster.
    LogFull,
}

impl Warning {
    /// What to do about it.
    pub const fn advice(&self) -> Advice {
        match self {
            Self::Wiped | Self::Removed => Advice::Nothing,
            Self::NotAMember
            | Self::UnknownRule(_)
            | Self::UnsafeRule(_)
            | Self::OptionsDiffer { .. }
            | Self::FoundersDisagree { .. }
            | Self::Malformed { .. } => Advice::Reconfigure,
            Self::CopiedLog => Advice::Replace,
            Self::Send { .. }
            | Self::Load(_)
            | Self::Snapshot(_)
            | Self::DiskStalled
            | Self::Yielded => Advice::Inspect,
            Self::NoSpace(_) => Advice::FreeSpace,
            Self::LogFull => Advice::StartOver,
        }
    }

    /// What the consensus reports, as far as it is a warning.
    pub(crate) fn of(event: core::Event) -> Option<Self> {
        Some(match event {
            core::Event::Wiped => Self::Wiped,
            core::Event::NotAMember => Self::NotAMember,
            core::Event::Removed => Self::Removed,
            core::Event::UnknownRule(rule) => Self::UnknownRule(rule),
            core::Event::UnsafeRule(error) => Self::UnsafeRule(error),
            core::Event::OptionsDiffer { what, option, decides } => {
                Self::OptionsDiffer { what, option, decides }
            }
            core::Event::FoundersDisagree { peer } => Self::FoundersDisagree { peer },
            core::Event::CopiedLog => Self::CopiedLog,
            core::Event::Malformed { from, what } => Self::Malformed { from, what },
            core::Event::Yielded => Self::Yielded,
            core::Event::LogFull => Self::LogFull,
            core::Event::Changed
            | core::Event::Configured
            | core::Event::Transferring { .. }
            | core::Event::Transferred { .. }
            | _ => return None,
        })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What the consensus reports is told in its words.
        let report = match self {
            Self::Wiped => core::Event::Wiped,
            Self::NotAMember => core::Event::NotAMember,
            Self::Removed => core::Event::Removed,
            Self::UnknownRule(rule) => core::Event::UnknownRule(*rule),
            Self::UnsafeRule(error) => core::Event::UnsafeRule(error.clone()),
            Self::OptionsDiffer { what, option, decides } => {
                let (option, decides) = (option.clone(), decides.clone());
                core::Event::OptionsDiffer { what, option, decides }
            }
            Self::FoundersDisagree { peer } => core::Event::FoundersDisagree { peer: *peer },
            Self::CopiedLog => core::Event::CopiedLog,
            Self::Malformed { from, what } => core::Event::Malformed { from: *from, what },
            Self::Yielded => core::Event::Yielded,
            Self::LogFull => core::Event::LogFull,
            Self::Send { to, what, times: 1 } => {
                return write!(f, "a message to node {to} was not sent: {what}");
            }
            Self::Send { to, what, times } => {
                return write!(
                    f,
                    "{times} messages to node {to} were not sent, the last one: {what}"
                );
            }
            Self::Snapshot(what) => return write!(f, "a snapshot failed, trying again: {what}"),
            Self::Load(what) => return write!(f, "the log can't be read, trying again: {what}"),
            Self::NoSpace(what) => return write!(f, "the log has no space, free some: {what}"),
            Self::DiskStalled => return f.write_str("a write takes very long; look at the disk"),
        };
        report.fmt(f)
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
