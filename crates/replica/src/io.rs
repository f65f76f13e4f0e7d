//! What goes into a replica and what comes out of it.

use std::fmt;

use bytes::Bytes;
use tinyraftplus_core::{self as core, EntryId, NodeId, Plan, Role, Seq, Term, Time};
use tinyraftplus_log::Write;

use crate::{LoadReply, LoadRequest, Message, Outcome, SnapshotNews, SnapshotWork};

/// Names one call of this node's driver; its outcome carries it. Never used twice while the node runs.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallId(pub u64);

/// One call of a client on this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call {
    /// Comes back with the outcome.
    pub id: CallId,
    /// What the client wants.
    pub request: Request,
    /// When the call ends, whatever has happened by then.
    pub deadline: Time,
}

/// What a client wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// These entries at the end of the log, all of them or none, in the order of this node's calls.
    Append {
        /// At least one.
        payloads: Vec<Bytes>,
    },
    /// The state machine's answer, not older than anything that was committed when the call began. Without
    /// a state machine: only the waiting.
    Read {
        /// For the state machine.
        query: Bytes,
    },
    /// The answer of this node's state machine, however old it is.
    ReadLocal {
        /// For the state machine.
        query: Bytes,
    },
    /// That node leads, instead of whoever does now.
    Transfer {
        /// Who is to lead.
        to: NodeId,
    },
    /// Other members, or other rules.
    ChangeMembers(Box<Change>),
    /// This node campaigns now; see [`core::Input::Campaign`]. Done as soon as it was told.
    Campaign,
    /// This node does not lead; see [`core::Input::StepDown`]. Done when it is so.
    StepDown,
    /// This node sits still, or goes on; see [`core::Input::Pause`]. Done as soon as it was told.
    Pause(bool),
    /// A snapshot of everything that this node has applied. Done when it is durable.
    Snapshot,
    /// This node's log begins at this position, or at the start of the batch that holds it; a snapshot stands for what goes.
    /// Without a state machine entries are all there is, so they stay while a member needs them. Done when it is durable.
    Compact {
        /// Where it is to begin.
        before: Seq,
        /// Whatever members need.
        forced: bool,
    },
}

/// A wish for other members, or other rules.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// What they should become. It must be known to be safe: a replica does not check that.
    pub plan: Plan,
    /// If given, only if the members are those of that configuration. Else whatever they are.
    pub base: Option<Base>,
    /// Only if the plan's rules are those that are in force: they were not part of the wish.
    pub keeps_rules: bool,
}

/// Names a configuration by the position of its entry; the first one has none.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Base(pub Option<Seq>);

/// Everything that can happen to a replica.
#[derive(Debug)]
pub enum Happening {
    /// [`Replica::wake_at`](crate::Replica::wake_at) has passed. Early or repeated is harmless.
    Wake,
    /// A message arrived: late, repeated, out of order or made up, all are safe.
    Receive {
        /// The node that the transport says it is from.
        from: NodeId,
        /// The message.
        message: Message,
    },
    /// Something else that node `from` sent, as the leader of that term, has arrived: as good as a heartbeat.
    Alive {
        /// Who is alive.
        from: NodeId,
        /// The term that it leads.
        term: Term,
    },
    /// Clients called, in this order.
    Calls(Vec<Call>),
    /// That write, and so all before it, is durable.
    Persisted {
        /// Its number.
        job: u64,
    },
    /// That write has not completed within the driver's limit, and is still waited for.
    PersistStalled {
        /// Its number.
        job: u64,
    },
    /// There was no space for that write, which has entries. It, and all that were handed out after it, have written
    /// nothing and never will; all before it are durable. A write without entries is not refused: it fits into the
    /// space that the log keeps in reserve, or is waited for.
    PersistRefused {
        /// Its number.
        job: u64,
    },
    /// The answer to a [`LoadRequest`].
    Loaded(LoadReply),
    /// The state machine has taken the [`Apply`] that is under way.
    Applied {
        /// One result for each of its entries; missing ones count as empty.
        results: Vec<Bytes>,
    },
    /// The state machine has answered a [`Query`].
    Answered {
        /// The call it was for.
        call: CallId,
        /// The answer, or why there is none.
        result: Result<Bytes, String>,
    },
    /// Something that [`Actions::snapshots`] asked for was done.
    Snapshot(SnapshotNews),
    /// The node stops: every call ends now, and nothing is done any more.
    Stop,
}

/// What is to be done now.
///
/// All of it may be done at once, with two orders to keep: writes go to the log one after the other, and
/// what is for the state machine goes there one after the other, `snapshots` before `apply` before `query`.
#[derive(Debug, Default)]
#[must_use = "what is not done is lost: votes, acknowledgements and answers are in here"]
pub struct Actions {
    /// Writes for the log, each with its number, which comes back when it is durable.
    pub writes: Vec<(u64, Write)>,
    /// Messages for peers.
    pub send: Vec<(NodeId, Message)>,
    /// What to read from the log, any time later: [`LoadRequest::run`] does it.
    pub load: Vec<LoadRequest>,
    /// What to do about snapshots, one after the other.
    pub snapshots: Vec<SnapshotWork>,
    /// Entries for the state machine. At most one of these is under way.
    pub apply: Option<Apply>,
    /// Questions for the state machine.
    pub query: Vec<Query>,
    /// How calls ended. Each call ends exactly once.
    pub reply: Vec<(CallId, Outcome)>,
    /// What happened, for people.
    pub events: Vec<Event>,
}

impl Actions {
    /// What this step says, and then what the next one says.
    pub fn join(&mut self, next: Self) {
        if self.is_empty() {
            *self = next;
            return;
        }
        self.writes.extend(next.writes);
        self.send.extend(next.send);
        self.load.extend(next.load);
        self.snapshots.extend(next.snapshots);
        self.apply = self.apply.take().or(next.apply);
        self.query.extend(next.query);
        self.reply.extend(next.reply);
        self.events.extend(next.events);
    }

    /// Whether there is nothing to do.
    pub const fn is_empty(&self) -> bool {
        self.writes.is_empty()
            && self.send.is_empty()
            && self.load.is_empty()
            && self.snapshots.is_empty()
            && self.apply.is_none()
            && self.query.is_empty()
            && self.reply.is_empty()
            && self.events.is_empty()
    }
}

/// Committed entries for the state machine, in order. Its answer is [`Happening::Applied`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Apply {
    /// The first position it covers.
    pub start: Seq,
    /// The position after the last it covers; where no entry is listed lies a no-op.
    pub end: Seq,
    /// What users appended. Never empty; a payload may be.
    pub entries: Vec<Applied>,
}

/// One entry, as the state machine sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Applied {
    /// Its position.
    pub seq: Seq,
    /// The user's bytes.
    pub payload: Bytes,
}

/// A question for the state machine. Its answer is [`Happening::Answered`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Query {
    /// The call it is for.
    pub call: CallId,
    /// The user's bytes.
    pub query: Bytes,
}

/// What happened, for people: nothing has to be done about any of it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// This node's part in the cluster changed.
    Changed {
        /// Its role now.
        role: Role,
        /// Its term now.
        term: Term,
        /// Who leads, as far as it knows.
        leader: Option<NodeId>,
        /// If it leads: the peers that it has heard from lately.
        followers: Vec<NodeId>,
    },
    /// More entries are known to be committed.
    Committed {
        /// The position after the last of them.
        end: Seq,
    },
    /// More entries have been applied.
    Applied {
        /// The position after the last of them.
        end: Seq,
    },
    /// What the consensus reports.
    Raft(core::Event),
    /// A snapshot of the state machine is durable.
    SnapshotTaken {
        /// The last entry in it.
        last: EntryId,
        /// How many bytes it has.
        bytes: u64,
    },
    /// A snapshot of another node took the place of this node's log, which was too far behind.
    SnapshotInstalled {
        /// The last entry in it.
        last: EntryId,
    },
    /// A snapshot could not be taken, read, or received. It is tried again.
    SnapshotFailed {
        /// What went wrong.
        what: String,
    },
    /// Old entries are gone.
    Compacted {
        /// Where the log begins now.
        start: Seq,
    },
    /// A message that no correct peer sends was dropped.
    Malformed {
        /// The sender.
        from: NodeId,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Entries could not be read from the log. They are asked for again.
    LoadFailed {
        /// What was asked for.
        request: LoadRequest,
        /// What the log said.
        what: String,
    },
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
