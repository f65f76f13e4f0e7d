//! What nodes say to each other: the consensus, and the calls that one node passes to another.
//!
//! Calls go from a node (their origin) to the leader of one term, numbered 1, 2, 3 .. on that route. The leader
//! accepts number n only right after n - 1, so whatever the network repeats, loses or reorders, a call enters
//! the log at most once and in order. Both sides name their logs: a node that lost its disk has forgotten what
//! it accepted, and must not answer for the node it was.
//!
//! What clients wish besides appends and reads is asked again and again under one number, until there is an answer.

use std::time::Duration;

use bytes::Bytes;
use tinyraftplus_core::{self as core, EntryId, Identity, NodeId, Plan, Seq, Term, TransferError};

use crate::snapshots::malformed;
use crate::{Base, CHUNK_BYTES_MAX, ChangeError, Refused, SnapshotId, SnapshotMeta};

/// The most calls that may be on one route unanswered; a leader drops what is beyond.
pub const ROUTE_CALLS_MAX: u64 = 1024;

/// The most entries of a batch, and of a message. Who takes messages can rely on it: an empty entry is two bytes on the wire and
/// some hundred in memory.
pub const ENTRIES_MAX: usize = 1 << 20;

/// A message between two nodes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// Of the consensus.
    Raft(core::Message<Bytes>),
    /// Append these.
    Forward(Forward),
    /// What became of these?
    Inquire(Inquire),
    /// The answer to [`Message::Forward`] and [`Message::Inquire`].
    Answers(Answers),
    /// Up to where must a read wait that begins now?
    ReadIndex(ReadIndex),
    /// The answer to [`Message::ReadIndex`].
    ReadIndexReply(ReadIndexReply),
    /// Hand your leadership over.
    TransferAsk(TransferAsk),
    /// The answer to [`Message::TransferAsk`].
    TransferReply(TransferReply),
    /// Change the members.
    ChangeAsk(Box<ChangeAsk>),
    /// The answer to [`Message::ChangeAsk`].
    ChangeReply(ChangeReply),
    /// Take this snapshot: the entries that you need are gone.
    SnapshotOffer(Box<SnapshotOffer>),
    /// A part of a snapshot.
    SnapshotChunk(SnapshotChunk),
    /// The answer to [`Message::SnapshotOffer`] and [`Message::SnapshotChunk`].
    SnapshotAck(SnapshotAck),
}

/// Names the way from an origin to the leader of a term.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Route {
    /// The identity of the origin's log.
    pub origin: Identity,
    /// Drawn at every start of the origin's process, so that its numbers may begin at 1 again.
    pub incarnation: u64,
    /// The identity of the leader's log.
    pub leader: Identity,
    /// The term it leads.
    pub term: Term,
}

/// Calls for the leader of a term.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Forward {
    /// From where to where.
    pub route: Route,
    /// The origin awaits no answer below this number: they can be forgotten.
    pub awaiting: u64,
    /// The number of the first call.
    pub first: u64,
    /// The payloads of each call, numbered on from `first`. None at all for a call that its client has given
    /// up: it takes its number, and nothing else.
    pub calls: Vec<Vec<Bytes>>,
}

/// A question about calls that were sent before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Inquire {
    /// From where to where.
    pub route: Route,
    /// The first number asked about; none below it matters any more.
    pub awaiting: u64,
    /// The number after the last one asked about.
    pub end: u64,
}

/// What the leader of a term knows of calls.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answers {
    /// The route they came on.
    pub route: Route,
    /// The identity of the log of whoever answers: not the leader's, if that lost its disk.
    pub from: Identity,
    /// The numbers of calls, and what is known of each.
    pub answers: Vec<(u64, Answer)>,
}

/// What a leader knows of a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It is in the leader's log, and may still be replaced.
    Accepted {
        /// Its first entry.
        first: EntryId,
        /// Its last entry.
        last: EntryId,
    },
    /// It is committed and, with a state machine, applied.
    Committed {
        /// Its first entry.
        first: EntryId,
        /// Its last entry.
        last: EntryId,
        /// The state machine's answers.
        results: Vec<Bytes>,
    },
    /// It is not in the log and never will be, for a reason that holds at any leader.
    Refused(Refused),
    /// It never came into the log by this route, and never will: it may be sent on another.
    Absent,
    /// Whoever answers may have forgotten it.
    Unknown,
}

/// A question for the leader: up to where is everything that was committed when this was asked?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReadIndex {
    /// The identity of the asker's log.
    pub from: Identity,
    /// The number of its process start.
    pub incarnation: u64,
    /// Comes back with the answer.
    pub number: u64,
}

/// The answer to [`ReadIndex`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReadIndexReply {
    /// The identity of the asker's log.
    pub to: Identity,
    /// The number of its process start.
    pub incarnation: u64,
    /// The number of the question.
    pub number: u64,
    /// The position to wait for.
    pub end: Seq,
    /// All members hold the log up to here, as far as the leader knows; 0 from one that does not say.
    pub kept: Seq,
}

/// A wish of one of the sender's clients: the leader of that term is to hand over to that node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TransferAsk {
    /// The identity of the asker's log.
    pub from: Identity,
    /// The number of its process start.
    pub incarnation: u64,
    /// Comes back with the answer. Sent again under the same number, it is the same wish.
    pub number: u64,
    /// The term that is to end. A leader of any other ignores it.
    pub term: Term,
    /// Who is to lead.
    pub to: NodeId,
}

/// The answer to [`TransferAsk`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TransferReply {
    /// The identity of the asker's log.
    pub to: Identity,
    /// The number of its process start.
    pub incarnation: u64,
    /// The number of the wish.
    pub number: u64,
    /// Whether the node leads that was wanted, and if not, why.
    pub result: Result<(), TransferError>,
}

/// A wish of one of the sender's clients: other members, or other rules.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChangeAsk {
    /// The identity of the asker's log.
    pub from: Identity,
    /// The number of its process start.
    pub incarnation: u64,
    /// Comes back with the answer. Sent again under the same number, it is the same wish. A higher one says that the asker
    /// awaits nothing below it.
    pub number: u64,
    /// The term whose leader is asked. A leader of any other ignores it.
    pub term: Term,
    /// The configuration that it was planned on: on another it is refused.
    pub base: Base,
    /// What they should become. Whoever asks has checked that the rules are safe.
    pub plan: Plan,
    /// How long new members may take to answer and to catch up.
    pub time: Duration,
}

/// The answer to [`ChangeAsk`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChangeReply {
    /// The identity of the asker's log.
    pub to: Identity,
    /// The number of its process start.
    pub incarnation: u64,
    /// The number of the wish.
    pub number: u64,
    /// What became of it.
    pub answer: ChangeAnswer,
}

/// What a leader knows of a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChangeAnswer {
    /// It is under way.
    Begun,
    /// The members are as wanted, for good.
    Changed {
        /// The position of the configuration that says so; `None` if it is the first.
        at: Option<Seq>,
    },
    /// Nothing came of it and never will.
    Refused(ChangeError),
    /// Nothing came of it in this term, and the leader leads no more: another one may be asked.
    Absent,
    /// It had begun, and the leader leads no more: another one may complete it, or not.
    Unsettled,
}

/// A snapshot that a leader has, for a peer whose next entries are gone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SnapshotOffer {
    /// The identity of the leader's log.
    pub from: Identity,
    /// The term it leads.
    pub term: Term,
    /// What it is.
    pub meta: SnapshotMeta,
}

/// A part of a snapshot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SnapshotChunk {
    /// The identity of the leader's log.
    pub from: Identity,
    /// The term it leads.
    pub term: Term,
    /// Of which snapshot.
    pub id: SnapshotId,
    /// Which part.
    pub number: u64,
    /// A checksum of the bytes, for the snapshot and the number.
    pub checksum: u64,
    /// Its bytes.
    pub bytes: Bytes,
}

/// How much of a snapshot a peer has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SnapshotAck {
    /// The identity of the peer's log.
    pub from: Identity,
    /// The term of the leader.
    pub term: Term,
    /// Of which snapshot.
    pub id: SnapshotId,
    /// The chunk that it wants next; as many as there are when it has all.
    pub next: u64,
}

impl Message {
    /// About how many bytes it takes in memory, with its payloads.
    pub fn memory_bytes(&self) -> u64 {
        /// A message, and each entry, call or answer, besides payloads.
        const COST: u64 = 96;
        let all = |payloads: &[Bytes]| -> u64 {
            payloads.iter().map(|payload| COST + payload.len() as u64).sum()
        };
        let parts: u64 = match self {
            Self::Raft(message) => {
                let core::MessageBody::Append { entries, .. } = &message.body else { return COST };
                entries.iter().map(|entry| COST + entry.body.bytes()).sum()
            }
            Self::Forward(forward) => forward.calls.iter().map(|call| COST + all(call)).sum(),
            Self::Answers(answers) => {
                let cost = |(_, answer): &(u64, Answer)| {
                    let Answer::Committed { results, .. } = answer else { return COST };
                    COST + all(results)
                };
                answers.answers.iter().map(cost).sum()
            }
            Self::ChangeAsk(ask) => COST * ask.plan.members().len() as u64,
            Self::SnapshotOffer(offer) => {
                let all = offer.meta.configurations.as_ref();
                COST * all.map_or(0, |all| all.newest().configuration.everyone().count() as u64)
            }
            Self::SnapshotChunk(chunk) => chunk.bytes.len() as u64,
            Self::Inquire(_)
            | Self::ReadIndex(_)
            | Self::ReadIndexReply(_)
            | Self::TransferAsk(_)
            | Self::TransferReply(_)
            | Self::ChangeReply(_)
            | Self::SnapshotAck(_) => 0,
        };
        COST + parts
    }

    /// The gate for foreign data, besides that of the consensus: says what is wrong with a message that no
    /// correct peer sends.
    pub fn malformed(&self) -> Option<&'static str> {
        match self {
            Self::Raft(_)
            | Self::ReadIndex(_)
            | Self::ReadIndexReply(_)
            | Self::TransferAsk(_)
            | Self::TransferReply(_)
            // A plan that makes no sense can't be made of what arrives.
            | Self::ChangeAsk(_)
            | Self::ChangeReply(_)
            | Self::SnapshotAck(_) => None,
            Self::SnapshotOffer(offer) => malformed(&offer.meta),
            Self::SnapshotChunk(chunk) => (chunk.bytes.len() > CHUNK_BYTES_MAX as usize)
                .then_some("has a chunk of impossible size"),
            Self::Forward(forward) => {
                let count = forward.calls.len() as u64;
                malformed_numbers(forward.route, forward.awaiting, forward.first, count)
            }
            Self::Inquire(inquire) => {
                let count = inquire.end.saturating_sub(inquire.awaiting);
                malformed_numbers(inquire.route, inquire.awaiting, inquire.awaiting, count)
            }
            Self::Answers(answers) => {
                (answers.answers.len() as u64 > ROUTE_CALLS_MAX).then_some("has too many answers")
            }
        }
    }
}

fn malformed_numbers(route: Route, awaiting: u64, first: u64, count: u64) -> Option<&'static str> {
    if route.term == Term::ZERO {
        return Some("goes to the leader of term 0");
    }
    if awaiting == 0 || first < awaiting {
        return Some("numbers calls that nobody awaits");
    }
    if count == 0 || count > ROUTE_CALLS_MAX || first - awaiting > ROUTE_CALLS_MAX {
        return Some("has no calls, or too many");
    }
    first.checked_add(count).is_none().then_some("numbers calls past the last number")
}
