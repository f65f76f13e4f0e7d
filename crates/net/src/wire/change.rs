//! Wishes for other members, and what becomes of them.

use std::time::Duration;

use tinyraftplus_core::{ConfigurationError, NodeId, Seq, Term};
use tinyraftplus_log::{decode_plan, encode_plan};
use tinyraftplus_replica::{Base, ChangeAnswer, ChangeAsk, ChangeError, ChangeReply};

use super::fields::{Fields, Writer};
use super::{DecodeError, put_asker, take_id, take_identity};

pub(super) fn put_ask(out: &mut Writer, ask: &ChangeAsk) {
    let ChangeAsk { from, incarnation, number, term, base: Base(base), plan, time } = ask;
    put_asker(out, *from, *incarnation, *number);
    out.number(4, term.get());
    out.given(5, base.map(Seq::get));
    out.bytes(6, &encode_plan(plan).expect("rules that were checked have bytes"));
    out.number(7, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

pub(super) fn take_ask(fields: &Fields<'_>) -> Result<ChangeAsk, DecodeError> {
    let plan = fields.bytes(6).and_then(decode_plan);
    Ok(ChangeAsk {
        from: take_identity(fields, 1)?,
        incarnation: fields.number(2),
        number: fields.number(3),
        term: Term::new(fields.number(4)),
        base: Base(fields.given(5).map(Seq::new)),
        plan: plan.ok_or(DecodeError::Malformed("members that can't be"))?,
        time: Duration::from_nanos(fields.number(7)),
    })
}

const BEGUN: u64 = 1;
const CHANGED: u64 = 2;
const REFUSED: u64 = 3;
const ABSENT: u64 = 4;
const UNSETTLED: u64 = 5;

pub(super) fn put_reply(out: &mut Writer, reply: ChangeReply) {
    let ChangeReply { to, incarnation, number, answer } = reply;
    put_asker(out, to, incarnation, number);
    let (kind, at) = match answer {
        ChangeAnswer::Begun => (BEGUN, None),
        ChangeAnswer::Changed { at } => (CHANGED, at),
        ChangeAnswer::Refused(ChangeError::MembersChanged { at }) => (REFUSED, at),
        ChangeAnswer::Refused(_) => (REFUSED, None),
        ChangeAnswer::Absent => (ABSENT, None),
        ChangeAnswer::Unsettled => (UNSETTLED, None),
    };
    out.number(4, kind);
    out.given(5, at.map(Seq::get));
    if let ChangeAnswer::Refused(why) = answer {
        put_error(out, why);
    }
}

pub(super) fn take_reply(fields: &Fields<'_>) -> Result<ChangeReply, DecodeError> {
    let at = fields.given(5).map(Seq::new);
    let answer = match fields.number(4) {
        BEGUN => ChangeAnswer::Begun,
        CHANGED => ChangeAnswer::Changed { at },
        REFUSED => ChangeAnswer::Refused(take_error(fields, at)?),
        ABSENT => ChangeAnswer::Absent,
        UNSETTLED => ChangeAnswer::Unsettled,
        kind => return Err(DecodeError::Newer { what: "an answer", kind }),
    };
    Ok(ChangeReply {
        to: take_identity(fields, 1)?,
        incarnation: fields.number(2),
        number: fields.number(3),
        answer,
    })
}

/// Number 6 says why not, 7 and 8 name nodes, 9 counts.
fn put_error(out: &mut Writer, why: ChangeError) {
    let (kind, names, count): (u64, [Option<NodeId>; 2], usize) = match why {
        ChangeError::UnderWay => (1, [None; 2], 0),
        ChangeError::MembersChanged { .. } => (2, [None; 2], 0),
        ChangeError::Unreachable(id) => (3, [Some(id), None], 0),
        ChangeError::TooSlow(id) => (4, [Some(id), None], 0),
        ChangeError::ForeignCluster(id) => (5, [Some(id), None], 0),
        ChangeError::UnfitRules => (6, [None; 2], 0),
        ChangeError::LogFull => (7, [None; 2], 0),
        ChangeError::Busy => (8, [None; 2], 0),
        ChangeError::NoConfiguration(error) => match error {
            ConfigurationError::NameTwice(id) => (9, [Some(id), None], 0),
            ConfigurationError::IdentityTwice(a, b) => (10, [Some(a), Some(b)], 0),
            ConfigurationError::LearnerWithoutLog(id) => (11, [Some(id), None], 0),
            ConfigurationError::NoVoters => (12, [None; 2], 0),
            ConfigurationError::TooManyMembers { count } => (13, [None; 2], count),
            ConfigurationError::NoFounder => (14, [None; 2], 0),
            ConfigurationError::NoRoom => (15, [None; 2], 0),
            // No kind is 0: a version that meets this skips the message.
            _ => (0, [None; 2], 0),
        },
        _ => (0, [None; 2], 0),
    };
    out.number(6, kind);
    for (field, name) in (7..).zip(names) {
        if let Some(name) = name {
            out.bytes(field, name.as_str().as_bytes());
        }
    }
    out.number(9, count as u64);
}

fn take_error(fields: &Fields<'_>, at: Option<Seq>) -> Result<ChangeError, DecodeError> {
    let id = || take_id(fields, 7);
    let configuration = match fields.number(6) {
        1 => return Ok(ChangeError::UnderWay),
        2 => return Ok(ChangeError::MembersChanged { at }),
        3 => return Ok(ChangeError::Unreachable(id()?)),
        4 => return Ok(ChangeError::TooSlow(id()?)),
        5 => return Ok(ChangeError::ForeignCluster(id()?)),
        6 => return Ok(ChangeError::UnfitRules),
        7 => return Ok(ChangeError::LogFull),
        8 => return Ok(ChangeError::Busy),
        9 => ConfigurationError::NameTwice(id()?),
        10 => ConfigurationError::IdentityTwice(id()?, take_id(fields, 8)?),
        11 => ConfigurationError::LearnerWithoutLog(id()?),
        12 => ConfigurationError::NoVoters,
        13 => {
            let count = usize::try_from(fields.number(9)).unwrap_or(usize::MAX);
            ConfigurationError::TooManyMembers { count }
        }
        14 => ConfigurationError::NoFounder,
        15 => ConfigurationError::NoRoom,
        kind => return Err(DecodeError::Newer { what: "a refusal", kind }),
    };
    Ok(ChangeError::NoConfiguration(configuration))
}
