//! What goes into the core and what comes out of it.

use crate::quorum::{CustomRule, RuleError};
use crate::{
    ChangeMembers, Configuration, ConfigurationError, Configurations, EntryId, HardState, Message,
    MessageBody, NodeId, Placed, Seq, Term, TermRun, Ticket, TransferError,
};
use alloc::{string::String, sync::Arc, vec::Vec};
use core::fmt;

/// One position of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry<P> {
    /// Its position and term.
    pub id: EntryId,
    /// Whether it is the last entry of its batch. A batch is never split.
    pub ends_batch: bool,
    /// What it holds.
    pub body: EntryBody<P>,
}

/// What an entry holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EntryBody<P> {
    /// A new leader's first entry, so that it can commit what came before (Raft section 8).
    Noop,
    /// A user's bytes, opaque to the core. May be empty.
    Payload(P),
    /// Who belongs to the cluster from here on.
    Configuration(Arc<Configuration>),
}

impl<P: AsRef<[u8]>> EntryBody<P> {
    /// About how many bytes it has.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Noop => 0,
            Self::Payload(payload) => payload.as_ref().len() as u64,
            Self::Configuration(configuration) => {
                configuration.everyone().count() as u64 * Self::MEMBER_COST
            }
        }
    }

    /// About how many bytes a member of a configuration has.
    const MEMBER_COST: u64 = 128;
}

/// One client call: entries that are appended together, all or none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proposal<P> {
    /// Comes back with the outcome.
    pub ticket: Ticket,
    /// At least one.
    pub payloads: Vec<P>,
}

/// Everything that can happen to a node.
#[derive(Clone, Debug)]
pub enum Input<P> {
    /// [`Core::wake_at`](crate::Core::wake_at) has passed. Early or repeated is harmless.
    Wake,
    /// A message arrived: late, repeated, out of order or made up, all are safe.
    Receive {
        /// The node that the transport says it is from.
        from: NodeId,
        /// The message.
        message: Message<P>,
    },
    /// Clients want these appended, in this order. Each is a batch of its own; together they make one write
    /// and one message a peer, so hand over what piled up.
    Propose(Vec<Proposal<P>>),
    /// A client wants to know up to where it must wait before it reads.
    Read {
        /// Comes back with the outcome.
        ticket: Ticket,
    },
    /// Somebody wants that node to lead. Only a leader can help (thesis section 3.10); for a while it refuses
    /// proposals then.
    Transfer {
        /// Comes back with the outcome.
        ticket: Ticket,
        /// Who is to lead; done at once if it does already.
        to: NodeId,
    },
    /// Somebody wants this node to campaign now rather than at its deadline. It asks first whether it would win, so
    /// this deposes no leader that others hear from; for that, ask the leader for a [`Input::Transfer`]. Nothing
    /// happens on a node that leads, is paused or may not be elected.
    Campaign,
    /// Somebody wants this node not to lead. It hands over to the voter that has most of the log and answers; if
    /// that fails within an election timeout, or nobody does, it just stops leading. Either way, and if it did not
    /// lead, its own next campaign comes an election timeout later than it would.
    StepDown,
    /// Somebody wants this node to sit still (`true`): it neither campaigns nor leads, but still votes, takes
    /// entries and answers. Or to go on (`false`).
    Pause(bool),
    /// Something else that node `from` sent, as the leader of that term, has arrived: as good as a heartbeat.
    Alive {
        /// Who is alive.
        from: NodeId,
        /// The term that it leads.
        term: Term,
    },
    /// That persist job, and so all before it, is on disk.
    Persisted {
        /// Its number.
        job: u64,
    },
    /// That persist job has not completed within the driver's limit, and is still waited for.
    PersistStalled {
        /// Its number.
        job: u64,
    },
    /// There is no space for that persist job. All before it are on disk; that one and all begun after it have
    /// written nothing, and never will.
    ///
    /// Only a job with entries may be refused. One without is waited for: it fits into the space in reserve that a
    /// log keeps for such, or what it says can't be said at all. The core takes the entries back, and sends term
    /// and vote anew, if they were in one of these jobs, in a job of their own.
    PersistRefused {
        /// Its number.
        job: u64,
    },
    /// The answer to a [`Load`].
    Loaded(Loaded),
    /// Somebody wants other members, or other rules.
    ChangeMembers(ChangeMembers),
    /// Entries before this position may go: a batch begins here, and a snapshot, or whoever asks, stands for what came
    /// before. Not more goes than is committed and durable here, nor what a peer is just being sent: ask again later.
    Compact {
        /// Where the log is to begin.
        before: Seq,
    },
    /// A snapshot is durable here. If this log lacks its last entry it begins anew after it, and
    /// [`Output::restore`] says when the state machine is to be restored from it; else the log has all that it stands for, and
    /// the entries after it stay.
    Install {
        /// The last entry that the snapshot stands for; committed.
        last: EntryId,
        /// The configuration that is in force there.
        configuration: Placed,
    },
}

/// What is to be done now. All of it may be done at once; only persist jobs have an order.
#[derive(Debug)]
#[must_use = "what is not done is lost: votes, acknowledgements and answers are in here"]
pub struct Output<P> {
    /// One write for the log, after all jobs before it.
    pub persist: Option<Persist<P>>,
    /// Messages for peers.
    pub send: Vec<Transmit<P>>,
    /// Questions about old entries, for whoever can read the log.
    pub load: Vec<Load>,
    /// Entries that are committed, durable here, and not handed out before: for the state machine, in order.
    pub apply: Option<Span>,
    /// The log begins after this entry, durably: the state machine is to be restored from the snapshot that ends with it.
    /// What is handed out later follows it.
    pub restore: Option<EntryId>,
    /// Peers that lack entries which this leader's log no longer has: each needs a snapshot, until
    /// [`Core::needs_snapshot`](crate::Core::needs_snapshot) says otherwise.
    pub behind: Vec<NodeId>,
    /// Answers to tickets.
    pub resolve: Vec<(Ticket, Resolution)>,
    /// What happened, for people.
    pub events: Vec<Event>,
}

impl<P> Default for Output<P> {
    fn default() -> Self {
        Self {
            persist: None,
            send: Vec::new(),
            load: Vec::new(),
            apply: None,
            restore: None,
            behind: Vec::new(),
            resolve: Vec::new(),
            events: Vec::new(),
        }
    }
}

/// One durable, all-or-nothing write. In this order: hard state, configuration, begin, reset, trim, compact, append.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Persist<P> {
    /// Counts from 1 without gaps. Confirm with [`Input::Persisted`], or give it back with
    /// [`Input::PersistRefused`].
    pub job: u64,
    /// The term and vote from now on.
    pub hard_state: Option<HardState>,
    /// The configurations to remember from now on: an entry that is one changes them, and so does trimming it.
    pub configuration: Option<Arc<Configurations>>,
    /// The log, still without entries, begins here, whatever it was created for.
    pub begin: Option<Seq>,
    /// Forget all entries: the log begins anew after this one.
    pub reset: Option<EntryId>,
    /// Drop this position and everything after it.
    pub trim: Option<Seq>,
    /// Drop everything before this position.
    pub compact: Option<Seq>,
    /// Then add these.
    pub append: Vec<Entry<P>>,
}

impl<P> Persist<P> {
    pub(crate) const fn new(job: u64) -> Self {
        Self {
            job,
            hard_state: None,
            configuration: None,
            begin: None,
            reset: None,
            trim: None,
            compact: None,
            append: Vec::new(),
        }
    }
}

/// A message for a peer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Transmit<P> {
    /// Send it as it is.
    Message {
        /// The receiver.
        to: NodeId,
        /// The message.
        message: Message<P>,
    },
    /// Send `message`, an append without entries, with the entries of `span` put into it.
    ///
    /// Whoever fills them in checks every entry's term against the span, and drops the message if one
    /// differs or can't be read: the log may have been trimmed and refilled meanwhile.
    Entries {
        /// The receiver.
        to: NodeId,
        /// The append to fill.
        message: Message<P>,
        /// Which entries; never empty, and ends with a batch.
        span: Span,
    },
}

impl<P> Transmit<P> {
    pub(crate) const fn asks_for_vote(&self) -> bool {
        matches!(
            self,
            Self::Message { message: Message { body: MessageBody::Vote { .. }, .. }, .. }
        )
    }
}

/// A stretch of the log, named so exactly that nobody can take another entry for one of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Span {
    /// Its first position.
    pub start: Seq,
    /// The position after its last.
    pub end: Seq,
    /// The terms of its entries: each run reaches from its `start` to that of the next, the last to `end`.
    pub terms: Vec<TermRun>,
}

impl Span {
    /// How many entries it has.
    pub fn count(&self) -> u64 {
        self.end.since(self.start)
    }

    /// The term that the entry at `seq` must have, if `seq` is in the span.
    pub fn term_of(&self, seq: Seq) -> Option<Term> {
        if seq < self.start || seq >= self.end {
            return None;
        }
        self.terms.iter().rev().find(|run| run.start <= seq).map(|run| run.term)
    }
}

/// A question about entries so old that the core no longer knows where their batches end.
///
/// Find the batch that holds the entry at `at_most`, or the one before the end if there is none; from its
/// first entry on take whole batches: at least one, then as many as fit into `bytes_max` and end at or before
/// `end`. Answer with [`Input::Loaded`], and be ready to send the same range soon.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Load {
    /// The peer it is for.
    pub to: NodeId,
    /// Comes back with the answer.
    pub number: u64,
    /// The range must begin here or, at the start of the batch that holds it, before.
    pub at_most: Seq,
    /// The range must not pass this; it is a batch's end.
    pub end: Seq,
    /// About how many bytes, counting [`Load::ENTRY_COST`] for each entry besides its payload.
    pub bytes_max: u64,
}

impl Load {
    /// What an entry counts besides its payload, so that a million empty ones are not free.
    pub const ENTRY_COST: u64 = 64;
}

/// The answer to a [`Load`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Loaded {
    /// The peer it is for.
    pub to: NodeId,
    /// The number of the [`Load`].
    pub number: u64,
    /// What was found: a first position, and the end of a batch after it. `None` if the log could not be
    /// read there.
    pub range: Option<(Seq, Seq)>,
    /// How many bytes the range has, counted as in [`Load::bytes_max`].
    pub bytes: u64,
}

/// How a ticket ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resolution {
    /// The leader, this node, has put the proposal into its log; it will be committed or replaced later.
    Accepted {
        /// Its first entry.
        first: EntryId,
        /// Its last entry.
        last: EntryId,
    },
    /// The proposal is committed: it survives whatever the quorum survives. Comes after `Accepted`.
    Committed {
        /// Its first entry.
        first: EntryId,
        /// Its last entry.
        last: EntryId,
    },
    /// Everything committed when the read was asked for lies before `end`: apply that far, then answer.
    ReadAt {
        /// The position after the last such entry.
        end: Seq,
    },
    /// The members are as wanted, for good.
    Changed {
        /// The position of the configuration that says so; `None` if it is the first.
        at: Option<Seq>,
    },
    /// It may have happened, or not: this node leads no longer, and the change it had begun may be completed by another
    /// leader; or it has only a snapshot of the part of the log where a proposal may be.
    Unsettled,
    /// Nothing happened, and never will.
    Refused(Refusal),
    /// What became of a transfer: the node leads that was asked for, or why not.
    Transfer(Result<(), TransferError>),
}

/// Why nothing happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// This node does not lead. Ask the other, if it is known.
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// Too much is under way, or the disk has stalled. Ask again later.
    Busy,
    /// The log has no position left.
    LogFull,
    /// The proposal has no payloads.
    Empty,
    /// This leader is handing its leadership over. It takes a moment: ask again, without counting it as a failure.
    Transferring {
        /// Whom to.
        to: NodeId,
    },
    /// The entry was in the log of a leader that lost its leadership, and another was committed in its
    /// place.
    Replaced,
    /// Another change of members is under way, or was not over when this one was asked for.
    ChangeUnderWay,
    /// The members are not those that the change was planned for: it may be an old one.
    MembersChanged {
        /// The position of the configuration in force.
        at: Option<Seq>,
    },
    /// The change adds a node that did not answer in time.
    Unreachable(NodeId),
    /// The change adds a voter that could not be brought up to date in time. It was a learner for a while, and is none
    /// any more.
    TooSlow(NodeId),
    /// The change adds a node that belongs to another cluster.
    ForeignCluster(NodeId),
    /// This node can't evaluate the rules that the change asks for.
    UnfitRules,
    /// The change leads to what is no configuration.
    NoConfiguration(ConfigurationError),
}

/// What happened, for people: nothing has to be done about any of it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The role, the leader or the term of this node changed.
    Changed,
    /// The cluster formed, this node learned its configuration, or another one is in force now.
    Configured,
    /// This node's log is not the one that the configuration names: its disk was lost or replaced. The leader
    /// binds its name to the new log, if a quorum without it agrees.
    Wiped,
    /// The cluster has formed, and this node is not one of its members. It waits to be added.
    NotAMember,
    /// The configuration in force no longer names this node.
    Removed,
    /// A configuration has a rule that this node was not given, so it can neither take nor judge it. Start it
    /// with that rule.
    UnknownRule(CustomRule),
    /// The cluster can't form: the rule asks for a label that a member does not have, or is not safe for these
    /// members.
    UnsafeRule(RuleError),
    /// The configuration in the log says something else than this node was started with; the log decides.
    OptionsDiffer {
        /// What differs.
        what: &'static str,
        /// What the node was started with.
        option: String,
        /// What the configuration says.
        decides: String,
    },
    /// A peer was started with other members, or another quorum rule; the cluster can't form.
    FoundersDisagree {
        /// The peer.
        peer: NodeId,
    },
    /// Two nodes have logs of the same identity, so one is a copy of the other; the cluster can't form.
    /// Start one of them on an empty directory.
    CopiedLog,
    /// A message that no correct peer sends was dropped.
    Malformed {
        /// The sender.
        from: NodeId,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The leader gave up its role because its own disk has stalled, or is full.
    Yielded,
    /// The log has no position left, so this node can't lead again: a term begins with an entry. What is in
    /// the log stays readable.
    LogFull,
    /// This leader hands its leadership over, and takes no proposals meanwhile.
    Transferring {
        /// Whom to.
        to: NodeId,
    },
    /// A transfer has ended.
    Transferred {
        /// Whom it was to.
        to: NodeId,
        /// Whether that node leads now, and if not, why.
        result: Result<(), TransferError>,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed => f.write_str("the role, the leader or the term changed"),
            Self::Configured => f.write_str("a configuration came into force"),
            Self::NotAMember => f.write_str("this node is no member of the cluster; it waits to be added"),
            Self::Removed => f.write_str("this node is no longer a member of the cluster"),
            Self::UnknownRule(rule) => write!(
                f,
                "the configuration asks for the quorum rule {rule}, which this node was not given; start it with that rule"
            ),
            Self::UnsafeRule(error) => write!(f, "the cluster can't form: {error}"),
            Self::OptionsDiffer { what, option, decides } => write!(
                f,
                "this node was started with {what} \"{option}\", and the configuration in its log says \"{decides}\"; the log decides"
            ),
            Self::Wiped => f.write_str(
                "this node's log is not the one it joined with: its disk was lost or replaced; it takes part again once the others have agreed to it",
            ),
            Self::FoundersDisagree { peer } => write!(
                f,
                "node {peer} was started with other members, another quorum rule or another first seq; the cluster can't form until they agree"
            ),
            Self::CopiedLog => f.write_str(
                "two nodes have copies of one log; start one of them on an empty directory",
            ),
            Self::Malformed { from, what } => {
                write!(f, "a message from node {from} was dropped: it {what}")
            }
            Self::Yielded => f.write_str("this node's disk is stuck or full, so it leads no longer"),
            Self::LogFull => f.write_str("the log has no position left, so this node can't lead again"),
            Self::Transferring { to } => write!(f, "this node hands its leadership to node {to}"),
            Self::Transferred { to, result: Ok(()) } => {
                write!(f, "this node has handed its leadership to node {to}")
            }
            Self::Transferred { to, result: Err(error) } => {
                write!(f, "this node could not hand its leadership to node {to}: {error}")
            }
        }
    }
}
