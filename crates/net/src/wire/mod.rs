//! Messages as bytes. `docs/protocol.md` has every byte; nothing else knows the layout.
//!
//! A message is its kind, a varint, and [tagged fields](fields). Fields that a version does not know are skipped;
//! so is a message of a kind that it does not know, or that holds something of such a kind.

mod change;
pub(crate) mod fields;
mod raft;
mod snapshots;

use bytes::Bytes;
use tinyraftplus_core::{EntryId, Identity, NodeId, Seq, Term, TransferError};
use tinyraftplus_replica::{
    Answer, Answers, ENTRIES_MAX, Forward, Inquire, Message, ReadIndex, ReadIndexReply, Refused,
    Route, TransferAsk, TransferReply,
};

use self::fields::{Encoded, Fields, ITEMS, Writer, take_varint};

/// The most entries, payloads, calls and answers of one message together: as many as the entries of the largest batch, and the
/// calls that may be under way to a leader.
const ITEMS_MAX: usize = ENTRIES_MAX + 1024;

/// Messages as bytes, for a wire of one's own; TCP does this by itself.
///
/// ```
/// use tinyraftplus_net::{Message, Wire};
/// # fn example(message: Message, send: impl Fn(bytes::Bytes)) -> Result<(), Box<dyn std::error::Error>> {
/// let bytes = message.encode();
/// assert_eq!(Message::decode(&bytes)?, message);
/// # Ok(()) }
/// ```
pub trait Wire: Sized {
    /// The bytes of this message.
    fn encode(&self) -> Bytes;

    /// The message of which these are the bytes. Its payloads are parts of them, not copies.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Newer`] for one that a newer version may understand: skip it. Anything else was sent by no
    /// correct peer.
    fn decode(bytes: &Bytes) -> Result<Self, DecodeError>;
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// It, or something in it, is of a kind that this version does not know.
    #[error("is, or holds, {what} of kind {kind}, which this version does not know")]
    Newer {
        /// What is new.
        what: &'static str,
        /// Its number.
        kind: u64,
    },
    /// It ends too early.
    #[error("ends in the middle")]
    Cut,
    /// Something in it can't be.
    #[error("has {0}")]
    Malformed(&'static str),
}

impl Wire for Message {
    fn encode(&self) -> Bytes {
        encode(self).join()
    }

    fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut rest = &bytes[..];
        let kind = take_varint(&mut rest)?;
        let input = Input { whole: bytes, room: ITEMS_MAX };
        if kind < FORWARD {
            return raft::decode(kind, rest, input).map(Message::Raft);
        }
        decode_call(kind, rest, input)
    }
}

/// Kinds below this are messages of the consensus.
const FORWARD: u64 = 32;
const INQUIRE: u64 = 33;
const ANSWERS: u64 = 34;
const READ_INDEX: u64 = 35;
const READ_INDEX_REPLY: u64 = 36;
const TRANSFER_ASK: u64 = 37;
const TRANSFER_REPLY: u64 = 38;
const CHANGE_ASK: u64 = 39;
const CHANGE_REPLY: u64 = 40;
const SNAPSHOT_OFFER: u64 = 41;
const SNAPSHOT_CHUNK: u64 = 42;
const SNAPSHOT_ACK: u64 = 43;

/// Which messages wait for which: each lane is a queue of its own, and a lower one goes first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Lane {
    /// What must not wait, and is small.
    Control,
    /// Entries, and what became of calls.
    Append,
    /// Everything else that is large.
    Bulk,
}

/// Heartbeats name an entry that the receiver is known to have, so they may overtake entries.
pub(crate) fn lane(message: &Message) -> Lane {
    match message {
        Message::Raft(message) => raft::lane(message),
        Message::Inquire(_)
        | Message::ReadIndex(_)
        | Message::ReadIndexReply(_)
        | Message::TransferAsk(_)
        | Message::TransferReply(_)
        | Message::ChangeReply(_)
        | Message::SnapshotAck(_) => Lane::Control,
        Message::Answers(_) => Lane::Append,
        // A thousand members are large.
        Message::Forward(_)
        | Message::ChangeAsk(_)
        | Message::SnapshotOffer(_)
        | Message::SnapshotChunk(_) => Lane::Bulk,
    }
}

/// What is decoded, and how many items there may be yet.
struct Input<'a> {
    whole: &'a Bytes,
    room: usize,
}

impl Input<'_> {
    fn fields<'b>(&mut self, bytes: &'b [u8]) -> Result<Fields<'b>, DecodeError> {
        Fields::read(bytes, &mut self.room)
    }

    /// A part of the message, shared.
    fn share(&self, bytes: &[u8]) -> Bytes {
        self.whole.slice_ref(bytes)
    }
}

pub(crate) fn encode(message: &Message) -> Encoded {
    let mut out = Writer::default();
    match message {
        Message::Raft(message) => raft::encode(&mut out, message),
        Message::Forward(Forward { route, awaiting, first, calls }) => {
            out.varint(FORWARD);
            put_route(&mut out, *route);
            out.number(5, *awaiting);
            out.number(6, *first);
            for call in calls {
                out.nested(ITEMS, |out| call.iter().for_each(|it| out.payload(ITEMS, it)));
            }
        }
        Message::Inquire(Inquire { route, awaiting, end }) => {
            out.varint(INQUIRE);
            put_route(&mut out, *route);
            out.number(5, *awaiting);
            out.number(6, *end);
        }
        Message::Answers(Answers { route, from, answers }) => {
            out.varint(ANSWERS);
            put_route(&mut out, *route);
            put_identity(&mut out, 5, *from);
            for (number, answer) in answers {
                out.nested(ITEMS, |out| put_answer(out, *number, answer));
            }
        }
        Message::ReadIndex(ReadIndex { from, incarnation, number }) => {
            out.varint(READ_INDEX);
            put_asker(&mut out, *from, *incarnation, *number);
        }
        Message::ReadIndexReply(ReadIndexReply { to, incarnation, number, end, kept }) => {
            out.varint(READ_INDEX_REPLY);
            put_asker(&mut out, *to, *incarnation, *number);
            out.number(4, end.get());
            out.number(5, kept.get());
        }
        Message::TransferAsk(TransferAsk { from, incarnation, number, term, to }) => {
            out.varint(TRANSFER_ASK);
            put_asker(&mut out, *from, *incarnation, *number);
            out.number(4, term.get());
            out.bytes(5, to.as_str().as_bytes());
        }
        Message::TransferReply(TransferReply { to, incarnation, number, result }) => {
            out.varint(TRANSFER_REPLY);
            put_asker(&mut out, *to, *incarnation, *number);
            put_transfer_result(&mut out, *result);
        }
        Message::ChangeAsk(ask) => {
            out.varint(CHANGE_ASK);
            change::put_ask(&mut out, ask);
        }
        Message::ChangeReply(reply) => {
            out.varint(CHANGE_REPLY);
            change::put_reply(&mut out, *reply);
        }
        Message::SnapshotOffer(offer) => {
            out.varint(SNAPSHOT_OFFER);
            snapshots::put_offer(&mut out, offer);
        }
        Message::SnapshotChunk(chunk) => {
            out.varint(SNAPSHOT_CHUNK);
            snapshots::put_chunk(&mut out, chunk);
        }
        Message::SnapshotAck(ack) => {
            out.varint(SNAPSHOT_ACK);
            snapshots::put_ack(&mut out, *ack);
        }
    }
    out.finish()
}

fn decode_call(kind: u64, bytes: &[u8], mut input: Input<'_>) -> Result<Message, DecodeError> {
    let fields = input.fields(bytes)?;
    let incarnation = fields.number(2);
    Ok(match kind {
        FORWARD => Message::Forward(Forward {
            route: take_route(&fields)?,
            awaiting: fields.number(5),
            first: fields.number(6),
            calls: take_each(&fields.items, |call| {
                let fields = input.fields(call)?;
                Ok(fields.items.iter().map(|payload| input.share(payload)).collect())
            })?,
        }),
        INQUIRE => Message::Inquire(Inquire {
            route: take_route(&fields)?,
            awaiting: fields.number(5),
            end: fields.number(6),
        }),
        ANSWERS => Message::Answers(Answers {
            route: take_route(&fields)?,
            from: take_identity(&fields, 5)?,
            answers: take_each(&fields.items, |answer| take_answer(answer, &mut input))?,
        }),
        READ_INDEX => Message::ReadIndex(ReadIndex {
            from: take_identity(&fields, 1)?,
            incarnation,
            number: fields.number(3),
        }),
        READ_INDEX_REPLY => Message::ReadIndexReply(ReadIndexReply {
            to: take_identity(&fields, 1)?,
            incarnation,
            number: fields.number(3),
            end: Seq::new(fields.number(4)),
            kept: Seq::new(fields.number(5)),
        }),
        TRANSFER_ASK => Message::TransferAsk(TransferAsk {
            from: take_identity(&fields, 1)?,
            incarnation,
            number: fields.number(3),
            term: Term::new(fields.number(4)),
            to: take_id(&fields, 5)?,
        }),
        TRANSFER_REPLY => Message::TransferReply(TransferReply {
            to: take_identity(&fields, 1)?,
            incarnation,
            number: fields.number(3),
            result: take_transfer_result(&fields)?,
        }),
        CHANGE_ASK => Message::ChangeAsk(Box::new(change::take_ask(&fields)?)),
        CHANGE_REPLY => Message::ChangeReply(change::take_reply(&fields)?),
        SNAPSHOT_OFFER => Message::SnapshotOffer(Box::new(snapshots::take_offer(&fields)?)),
        SNAPSHOT_CHUNK => Message::SnapshotChunk(snapshots::take_chunk(&fields, &input)?),
        SNAPSHOT_ACK => Message::SnapshotAck(snapshots::take_ack(&fields)?),
        kind => return Err(DecodeError::Newer { what: "a message", kind }),
    })
}

fn put_route(out: &mut Writer, route: Route) {
    put_identity(out, 1, route.origin);
    out.number(2, route.incarnation);
    put_identity(out, 3, route.leader);
    out.number(4, route.term.get());
}

fn take_route(fields: &Fields<'_>) -> Result<Route, DecodeError> {
    Ok(Route {
        origin: take_identity(fields, 1)?,
        incarnation: fields.number(2),
        leader: take_identity(fields, 3)?,
        term: Term::new(fields.number(4)),
    })
}

fn put_asker(out: &mut Writer, asker: Identity, incarnation: u64, number: u64) {
    put_identity(out, 1, asker);
    out.number(2, incarnation);
    out.number(3, number);
}

const ACCEPTED: u64 = 1;
const COMMITTED: u64 = 2;
const REFUSED: u64 = 3;
const ABSENT: u64 = 4;
const UNKNOWN: u64 = 5;

fn put_answer(out: &mut Writer, number: u64, answer: &Answer) {
    out.number(1, number);
    match answer {
        Answer::Accepted { first, last } => {
            out.number(2, ACCEPTED);
            put_entry_id(out, 3, Some(*first));
            put_entry_id(out, 4, Some(*last));
        }
        Answer::Committed { first, last, results } => {
            out.number(2, COMMITTED);
            put_entry_id(out, 3, Some(*first));
            put_entry_id(out, 4, Some(*last));
            for result in results {
                out.payload(ITEMS, result);
            }
        }
        Answer::Refused(refused) => {
            out.number(2, REFUSED);
            put_refused(out, refused);
        }
        Answer::Absent => out.number(2, ABSENT),
        Answer::Unknown => out.number(2, UNKNOWN),
    }
}

fn take_answer(bytes: &[u8], input: &mut Input<'_>) -> Result<(u64, Answer), DecodeError> {
    const NO_ENTRY: DecodeError = DecodeError::Malformed("an answer without its entries");
    let fields = input.fields(bytes)?;
    let first = || take_entry_id(&fields, 3)?.ok_or(NO_ENTRY);
    let last = || take_entry_id(&fields, 4)?.ok_or(NO_ENTRY);
    let answer = match fields.number(2) {
        ACCEPTED => Answer::Accepted { first: first()?, last: last()? },
        COMMITTED => {
            let results = fields.items.iter().map(|result| input.share(result)).collect();
            Answer::Committed { first: first()?, last: last()?, results }
        }
        REFUSED => Answer::Refused(take_refused(&fields)?),
        ABSENT => Answer::Absent,
        UNKNOWN => Answer::Unknown,
        kind => return Err(DecodeError::Newer { what: "an answer", kind }),
    };
    Ok((fields.number(1), answer))
}

/// What can be too large, by number.
const LARGE: [&str; 4] = ["something", "an entry", "a batch", "a query"];

/// Number 5 says which, 6 and 7 are sizes, 8 is a text.
fn put_refused(out: &mut Writer, refused: &Refused) {
    let kind = match refused {
        Refused::NoLeader => 1,
        Refused::Busy => 2,
        Refused::Empty => 3,
        Refused::TooLarge { .. } => 4,
        Refused::TooMany { .. } => 5,
        Refused::LogFull => 6,
        Refused::Deadline => 7,
        Refused::Overtaken => 8,
        Refused::Stopped => 9,
        Refused::Query(_) => 10,
        // No kind is 0: a version that meets this skips the answer. Others a node says to its own clients only.
        Refused::NotAMember | Refused::ChangeUnderWay | _ => 0,
    };
    out.number(5, kind);
    if let Refused::TooLarge { what, bytes, limit } = refused {
        out.number(6, *bytes);
        out.number(7, *limit);
        out.number(9, LARGE.iter().position(|it| it == what).unwrap_or(0) as u64);
    } else if let Refused::TooMany { count, limit } = refused {
        out.number(6, *count as u64);
        out.number(7, *limit as u64);
    } else if let Refused::Query(text) = refused {
        out.bytes(8, text.as_bytes());
    }
}

fn take_refused(fields: &Fields<'_>) -> Result<Refused, DecodeError> {
    let count = |field| usize::try_from(fields.number(field)).unwrap_or(usize::MAX);
    Ok(match fields.number(5) {
        1 => Refused::NoLeader,
        2 => Refused::Busy,
        3 => Refused::Empty,
        4 => Refused::TooLarge {
            what: LARGE.get(count(9)).copied().unwrap_or(LARGE[0]),
            bytes: fields.number(6),
            limit: fields.number(7),
        },
        5 => Refused::TooMany { count: count(6), limit: count(7) },
        6 => Refused::LogFull,
        7 => Refused::Deadline,
        8 => Refused::Overtaken,
        9 => Refused::Stopped,
        10 => Refused::Query(fields.text(8)?.unwrap_or_default().to_owned()),
        kind => return Err(DecodeError::Newer { what: "a refusal", kind }),
    })
}

/// Number 4 says what became of it, 5 names a node.
fn put_transfer_result(out: &mut Writer, result: Result<(), TransferError>) {
    let (kind, node) = match result {
        Ok(()) => (1, None),
        Err(TransferError::NotLeader { leader }) => (2, leader),
        Err(TransferError::NotAMember) => (3, None),
        Err(TransferError::UnderWay { to }) => (4, Some(to)),
        Err(TransferError::Silent) => (5, None),
        Err(TransferError::TimedOut) => (6, None),
        Err(TransferError::Another { leader }) => (7, Some(leader)),
        // No kind is 0: a version that meets this skips the message.
        Err(_) => (0, None),
    };
    out.number(4, kind);
    if let Some(node) = node {
        out.bytes(5, node.as_str().as_bytes());
    }
}

fn take_transfer_result(fields: &Fields<'_>) -> Result<Result<(), TransferError>, DecodeError> {
    Ok(Err(match fields.number(4) {
        1 => return Ok(Ok(())),
        2 => {
            let leader = fields.bytes(5).map(|_| take_id(fields, 5)).transpose()?;
            TransferError::NotLeader { leader }
        }
        3 => TransferError::NotAMember,
        4 => TransferError::UnderWay { to: take_id(fields, 5)? },
        5 => TransferError::Silent,
        6 => TransferError::TimedOut,
        7 => TransferError::Another { leader: take_id(fields, 5)? },
        kind => return Err(DecodeError::Newer { what: "a result", kind }),
    }))
}

fn put_identity(out: &mut Writer, field: u8, identity: Identity) {
    out.bytes(field, &identity.get().to_le_bytes());
}

fn take_identity(fields: &Fields<'_>, field: u8) -> Result<Identity, DecodeError> {
    let bytes = fields.bytes(field).and_then(|bytes| bytes.try_into().ok());
    let number = bytes.map(u128::from_le_bytes).filter(|&number| number != 0);
    number.map(Identity::new).ok_or(DecodeError::Malformed("no identity where one must be"))
}

fn put_entry_id(out: &mut Writer, field: u8, id: Option<EntryId>) {
    if let Some(id) = id {
        out.nested(field, |out| {
            out.varint(id.term.get());
            out.varint(id.seq.get());
        });
    }
}

fn take_entry_id(fields: &Fields<'_>, field: u8) -> Result<Option<EntryId>, DecodeError> {
    let Some(mut bytes) = fields.bytes(field) else { return Ok(None) };
    let term = Term::new(take_varint(&mut bytes)?);
    Ok(Some(EntryId::new(term, Seq::new(take_varint(&mut bytes)?))))
}

fn take_id(fields: &Fields<'_>, field: u8) -> Result<NodeId, DecodeError> {
    let name = fields.text(field)?.unwrap_or_default();
    NodeId::new(name).map_err(|_| DecodeError::Malformed("a name that no node can have"))
}

fn take_each<T>(
    items: &[&[u8]],
    take: impl FnMut(&[u8]) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    items.iter().copied().map(take).collect()
}
