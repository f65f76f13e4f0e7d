//! The bytes of the messages of the consensus.

use std::time::Duration;

use bytes::Bytes;
use tinyraftplus_core::{
    Entry, EntryBody, EntryId, Message, MessageBody, Placed, Seq, Term, quorum::Group,
};
use tinyraftplus_log::{decode_configuration, encode_configuration};

use super::fields::{Fields, ITEMS, Writer};
use super::{DecodeError, Input, Lane, put_entry_id, put_identity, take_entry_id, take_identity};

const ASK: u64 = 1;
const ANSWER: u64 = 2;
const PRE_VOTE: u64 = 3;
const PRE_VOTE_REPLY: u64 = 4;
const VOTE: u64 = 5;
const VOTE_REPLY: u64 = 6;
const APPEND: u64 = 7;
const ACCEPTED: u64 = 8;
const REJECTED: u64 = 9;
const TIMEOUT_NOW: u64 = 10;

const PAYLOAD: u64 = 0;
const NOOP: u64 = 1;
const CONFIGURATION: u64 = 2;

pub(super) fn lane(message: &Message<Bytes>) -> Lane {
    match &message.body {
        MessageBody::Append { entries, .. } if !entries.is_empty() => Lane::Append,
        MessageBody::Append { .. }
        | MessageBody::Ask { .. }
        | MessageBody::Answer { .. }
        | MessageBody::PreVote { .. }
        | MessageBody::PreVoteReply { .. }
        | MessageBody::Vote { .. }
        | MessageBody::VoteReply { .. }
        | MessageBody::Accepted { .. }
        | MessageBody::Rejected { .. }
        | MessageBody::TimeoutNow => Lane::Control,
    }
}

/// Numbers 1 to 3 are the same in all of them.
pub(super) fn encode(out: &mut Writer, message: &Message<Bytes>) {
    let Message { from, to, term, body } = message;
    let head = |out: &mut Writer, kind| {
        out.varint(kind);
        put_identity(out, 1, *from);
        if let Some(to) = to {
            put_identity(out, 2, *to);
        }
        out.number(3, term.get());
    };
    match body {
        MessageBody::Ask { number } => {
            head(out, ASK);
            out.number(4, *number);
        }
        MessageBody::Answer { number, configuration, founding, group } => {
            head(out, ANSWER);
            if let Some(Placed { at, configuration }) = configuration {
                out.given(4, at.map(Seq::get));
                out.bytes(5, &encode_configuration(configuration).expect(HAS_BYTES));
            }
            out.number(6, *founding);
            if let Some(group) = group {
                out.bytes(7, group.as_str().as_bytes());
            }
            out.number(8, *number);
        }
        MessageBody::PreVote { last } => {
            head(out, PRE_VOTE);
            put_entry_id(out, 4, *last);
        }
        MessageBody::PreVoteReply { granted } => {
            head(out, PRE_VOTE_REPLY);
            out.number(4, u64::from(*granted));
        }
        MessageBody::Vote { last, transfer } => {
            head(out, VOTE);
            put_entry_id(out, 4, *last);
            out.number(5, u64::from(*transfer));
        }
        MessageBody::VoteReply { granted } => {
            head(out, VOTE_REPLY);
            out.number(4, u64::from(*granted));
        }
        MessageBody::Append { prev, entries, committed, round } => {
            head(out, APPEND);
            put_entry_id(out, 4, *prev);
            out.number(5, committed.get());
            out.number(6, *round);
            let mut expected = after(*prev, *term);
            for entry in entries {
                out.nested(ITEMS, |out| put_entry(out, entry, expected));
                expected = after(Some(entry.id), *term);
            }
        }
        MessageBody::Accepted { matched, round, priority, promise } => {
            head(out, ACCEPTED);
            out.number(4, matched.get());
            out.number(5, *round);
            out.number(6, u64::from(*priority));
            out.number(7, u64::try_from(promise.as_nanos()).unwrap_or(u64::MAX));
        }
        MessageBody::Rejected { prev, hint, round } => {
            head(out, REJECTED);
            put_entry_id(out, 4, *prev);
            put_entry_id(out, 5, *hint);
            out.number(6, *round);
        }
        MessageBody::TimeoutNow => head(out, TIMEOUT_NOW),
    }
}

pub(super) const HAS_BYTES: &str = "every rule that this version can evaluate has bytes";

pub(super) fn decode(
    kind: u64,
    bytes: &[u8],
    mut input: Input<'_>,
) -> Result<Message<Bytes>, DecodeError> {
    let fields = input.fields(bytes)?;
    let term = Term::new(fields.number(3));
    let body = match kind {
        ASK => MessageBody::Ask { number: fields.number(4) },
        ANSWER => MessageBody::Answer {
            number: fields.number(8),
            configuration: take_placed(&fields)?,
            founding: fields.number(6),
            group: take_group(&fields)?,
        },
        PRE_VOTE => MessageBody::PreVote { last: take_entry_id(&fields, 4)? },
        PRE_VOTE_REPLY => MessageBody::PreVoteReply { granted: fields.flag(4) },
        VOTE => MessageBody::Vote { last: take_entry_id(&fields, 4)?, transfer: fields.flag(5) },
        VOTE_REPLY => MessageBody::VoteReply { granted: fields.flag(4) },
        APPEND => {
            let prev = take_entry_id(&fields, 4)?;
            let mut entries = Vec::with_capacity(fields.items.len());
            let mut expected = after(prev, term);
            for item in &fields.items {
                let entry = take_entry(item, expected, &mut input)?;
                expected = after(Some(entry.id), term);
                entries.push(entry);
            }
            let committed = Seq::new(fields.number(5));
            MessageBody::Append { prev, entries, committed, round: fields.number(6) }
        }
        ACCEPTED => MessageBody::Accepted {
            matched: Seq::new(fields.number(4)),
            round: fields.number(5),
            priority: u32::try_from(fields.number(6)).unwrap_or(u32::MAX),
            promise: Duration::from_nanos(fields.number(7)),
        },
        REJECTED => MessageBody::Rejected {
            prev: take_entry_id(&fields, 4)?,
            hint: take_entry_id(&fields, 5)?,
            round: fields.number(6),
        },
        TIMEOUT_NOW => MessageBody::TimeoutNow,
        kind => return Err(DecodeError::Newer { what: "a message", kind }),
    };
    let to = fields.bytes(2).map(|_| take_identity(&fields, 2)).transpose()?;
    Ok(Message { from: take_identity(&fields, 1)?, to, term, body })
}

/// Where an entry most likely is, so that this need not be said: after the one before it, and of its term.
fn after(before: Option<EntryId>, term: Term) -> EntryId {
    match before {
        Some(before) => EntryId::new(before.term, before.seq.after()),
        None => EntryId::new(term, Seq::ZERO),
    }
}

/// The payload comes last, so that it need not be copied.
fn put_entry(out: &mut Writer, entry: &Entry<Bytes>, expected: EntryId) {
    let Entry { id, ends_batch, body } = entry;
    out.given(1, (id.term != expected.term).then_some(id.term.get()));
    out.given(2, (id.seq != expected.seq).then_some(id.seq.get()));
    out.number(4, u64::from(!ends_batch));
    match body {
        EntryBody::Payload(payload) if payload.is_empty() => {}
        EntryBody::Payload(payload) => out.payload(5, payload),
        EntryBody::Noop => out.number(3, NOOP),
        EntryBody::Configuration(configuration) => {
            out.number(3, CONFIGURATION);
            out.bytes(5, &encode_configuration(configuration).expect(HAS_BYTES));
        }
    }
}

fn take_entry(
    bytes: &[u8],
    expected: EntryId,
    input: &mut Input<'_>,
) -> Result<Entry<Bytes>, DecodeError> {
    let fields = input.fields(bytes)?;
    let term = fields.given(1).map_or(expected.term, Term::new);
    let seq = fields.given(2).map_or(expected.seq, Seq::new);
    let payload = fields.bytes(5).unwrap_or_default();
    let body = match fields.number(3) {
        PAYLOAD if payload.is_empty() => EntryBody::Payload(Bytes::new()),
        PAYLOAD => EntryBody::Payload(input.share(payload)),
        NOOP => EntryBody::Noop,
        CONFIGURATION => {
            let configuration = decode_configuration(payload);
            EntryBody::Configuration(configuration.ok_or(NO_CONFIGURATION)?.into())
        }
        kind => return Err(DecodeError::Newer { what: "an entry", kind }),
    };
    Ok(Entry { id: EntryId::new(term, seq), ends_batch: !fields.flag(4), body })
}

pub(super) const NO_CONFIGURATION: DecodeError =
    DecodeError::Malformed("a configuration that makes no sense or is of a newer version");

fn take_placed(fields: &Fields<'_>) -> Result<Option<Placed>, DecodeError> {
    let Some(bytes) = fields.bytes(5) else { return Ok(None) };
    let configuration = decode_configuration(bytes).ok_or(NO_CONFIGURATION)?.into();
    Ok(Some(Placed { at: fields.given(4).map(Seq::new), configuration }))
}

fn take_group(fields: &Fields<'_>) -> Result<Option<Group>, DecodeError> {
    let group = fields.text(7)?.map(Group::new).transpose();
    group.map_err(|_| DecodeError::Malformed("a label that can't be one"))
}
