//! Messages and outcomes as one number for the trace's hash, and in words for people.

use std::sync::Arc;

use bytes::Bytes;
use tinyraftplus_core::{
    Configuration, Configurations, EntryId, Member, MemberSpec, Membership, MessageBody, NodeId,
    Plan, Role, Seq, Term,
};
use tinyraftplus_log::{Recovery, Write};
use tinyraftplus_replica::{Answer, ChangeAnswer, Message, Outcome, SnapshotMeta};

use crate::trace::digest;

/// One number for a message: two that differ in meaning differ in it.
pub(crate) fn message_digest(message: &Message) -> u64 {
    match message {
        Message::Raft(raft) => {
            let (kind, a, b, c) = raft_numbers(&raft.body);
            digest(&[1, raft.term.get(), kind, a, b, c])
        }
        Message::Forward(forward) => digest(&[
            2,
            forward.route.term.get(),
            forward.awaiting,
            forward.first,
            forward.calls.len() as u64,
        ]),
        Message::Inquire(inquire) => {
            digest(&[3, inquire.route.term.get(), inquire.awaiting, inquire.end])
        }
        Message::Answers(answers) => {
            let numbers = answers
                .answers
                .iter()
                .map(|(number, answer)| digest(&[*number, answer_number(answer)]));
            digest(&[4, answers.route.term.get(), digest(&numbers.collect::<Vec<_>>())])
        }
        Message::ReadIndex(index) => digest(&[5, index.number]),
        Message::ReadIndexReply(reply) => digest(&[6, reply.number, reply.end.get()]),
        Message::TransferAsk(ask) => digest(&[7, ask.term.get(), ask.number]),
        Message::TransferReply(reply) => {
            digest(&[8, reply.number, u64::from(reply.result.is_ok())])
        }
        Message::ChangeAsk(ask) => digest(&[9, ask.term.get(), ask.number]),
        Message::ChangeReply(reply) => {
            let is_there = matches!(reply.answer, ChangeAnswer::Changed { .. });
            digest(&[10, reply.number, u64::from(is_there)])
        }
        Message::SnapshotOffer(offer) => {
            digest(&[11, offer.term.get(), offer.meta.last.seq.get(), offer.meta.bytes])
        }
        Message::SnapshotChunk(chunk) => digest(&[12, chunk.term.get(), chunk.number]),
        Message::SnapshotAck(ack) => digest(&[13, ack.term.get(), ack.next]),
    }
}

fn raft_numbers(body: &MessageBody<Bytes>) -> (u64, u64, u64, u64) {
    match body {
        MessageBody::Ask { number } => (1, *number, 0, 0),
        MessageBody::Answer { number, configuration, founding, .. } => {
            (2, u64::from(configuration.is_some()), *founding, *number)
        }
        MessageBody::PreVote { last } => (3, id_number(*last), 0, 0),
        MessageBody::PreVoteReply { granted } => (4, u64::from(*granted), 0, 0),
        MessageBody::Vote { last, transfer } => (5, id_number(*last), u64::from(*transfer), 0),
        MessageBody::VoteReply { granted } => (6, u64::from(*granted), 0, 0),
        MessageBody::Append { prev, entries, committed, round } => {
            let last = entries.last().map(|entry| entry.id);
            let range = digest(&[id_number(*prev), id_number(last), entries.len() as u64]);
            (7, range, committed.get(), *round)
        }
        MessageBody::Accepted { matched, round, priority, promise } => {
            let rest = digest(&[u64::from(*priority), crate::rng::nanos(*promise)]);
            (8, matched.get(), *round, rest)
        }
        MessageBody::Rejected { prev, hint, round } => {
            (9, id_number(*prev), id_number(*hint), *round)
        }
        MessageBody::TimeoutNow => (10, 0, 0, 0),
    }
}

fn id_number(id: Option<EntryId>) -> u64 {
    id.map_or(0, |id| digest(&[id.term.get(), id.seq.get()]))
}

fn answer_number(answer: &Answer) -> u64 {
    match answer {
        Answer::Accepted { last, .. } => digest(&[1, id_number(Some(*last))]),
        Answer::Committed { last, .. } => digest(&[2, id_number(Some(*last))]),
        Answer::Refused(_) => 3,
        Answer::Absent => 4,
        Answer::Unknown => 5,
    }
}

/// One number for an outcome.
pub(crate) fn outcome_digest(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Committed { first, last, .. } => digest(&[1, first.get(), last.get()]),
        Outcome::Read { seq, .. } => digest(&[2, seq.map_or(u64::MAX, Seq::get)]),
        Outcome::Refused(_) => 3,
        Outcome::Unknown(_) => 4,
        Outcome::Done => 5,
        Outcome::NotTransferred(_) => 6,
        Outcome::Changed { at } => digest(&[7, at.map_or(u64::MAX, Seq::get)]),
        Outcome::NotChanged(_) => 8,
    }
}

/// A message in words.
pub(crate) fn message(message: &Message) -> String {
    match message {
        Message::Raft(raft) => format!("term={} {}", raft.term, body(&raft.body)),
        Message::Forward(forward) => {
            let (first, count) = (forward.first, forward.calls.len());
            format!(
                "forward to the leader of {}: {count} calls from number {first} on",
                forward.route.term
            )
        }
        Message::Inquire(inquire) => {
            format!(
                "inquire at the leader of {} after {}..{}",
                inquire.route.term, inquire.awaiting, inquire.end
            )
        }
        Message::Answers(answers) => {
            let words = answers.answers.iter().map(|(number, answer)| match answer {
                Answer::Accepted { first, last } => format!("{number} accepted {first}..={last}"),
                Answer::Committed { first, last, .. } => {
                    format!("{number} committed {first}..={last}")
                }
                Answer::Refused(why) => format!("{number} refused: {why}"),
                Answer::Absent => format!("{number} absent"),
                Answer::Unknown => format!("{number} unknown"),
            });
            format!(
                "answers for term {}: {}",
                answers.route.term,
                words.collect::<Vec<_>>().join(", ")
            )
        }
        Message::ReadIndex(index) => format!("read index {}?", index.number),
        Message::ReadIndexReply(reply) => format!("read index {} is {}", reply.number, reply.end),
        Message::TransferAsk(ask) => {
            format!("transfer {} of term {} to {}?", ask.number, ask.term, ask.to)
        }
        Message::TransferReply(reply) => format!("transfer {}: {:?}", reply.number, reply.result),
        Message::ChangeAsk(ask) => {
            format!("change {} of members in term {}?", ask.number, ask.term)
        }
        Message::ChangeReply(reply) => format!("change {}: {:?}", reply.number, reply.answer),
        Message::SnapshotOffer(offer) => {
            let SnapshotMeta { last, bytes, .. } = &offer.meta;
            format!("term={} offers a snapshot up to {last}, of {bytes} bytes", offer.term)
        }
        Message::SnapshotChunk(chunk) => {
            format!("term={} chunk {} of a snapshot", chunk.term, chunk.number)
        }
        Message::SnapshotAck(ack) => {
            format!("term={} wants chunk {} of a snapshot", ack.term, ack.next)
        }
    }
}

fn body(body: &MessageBody<Bytes>) -> String {
    let id = |id: &Option<EntryId>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    match body {
        MessageBody::Ask { number } => format!("ask {number}"),
        MessageBody::Answer { configuration: Some(_), .. } => {
            "answer: here is the configuration".to_owned()
        }
        MessageBody::Answer { configuration: None, .. } => "answer: no configuration".to_owned(),
        MessageBody::PreVote { last } => format!("pre-vote? last={}", id(last)),
        MessageBody::PreVoteReply { granted } => format!("pre-vote granted={granted}"),
        MessageBody::Vote { last, transfer } => {
            format!("vote? last={} transfer={transfer}", id(last))
        }
        MessageBody::VoteReply { granted } => format!("vote granted={granted}"),
        MessageBody::Append { prev, entries, committed, round } => {
            let range = match (entries.first(), entries.last()) {
                (Some(first), Some(last)) => format!(" [{}..={}]", first.id, last.id),
                _ => String::new(),
            };
            format!("append prev={}{range} committed={committed} round={round}", id(prev))
        }
        MessageBody::Accepted { matched, round, priority, promise } => {
            format!(
                "accepted matched={matched} round={round} priority={priority} promise={promise:?}"
            )
        }
        MessageBody::Rejected { prev, hint, round } => {
            format!("rejected prev={} hint={} round={round}", id(prev), id(hint))
        }
        MessageBody::TimeoutNow => "campaign now".to_owned(),
    }
}

/// An outcome in words.
pub(crate) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Committed { first, last, .. } => format!("committed at {first}..={last}"),
        Outcome::Read { seq: Some(seq), .. } => format!("answered, as of {seq}"),
        Outcome::Read { seq: None, .. } => "answered, nothing is there".to_owned(),
        Outcome::Refused(why) => format!("refused: {why}"),
        Outcome::Unknown(why) => format!("unknown: {why}"),
        Outcome::Done => "done".to_owned(),
        Outcome::NotTransferred(why) => format!("not transferred: {why}"),
        Outcome::Changed { at } => format!("changed at {at:?}"),
        Outcome::NotChanged(why) => format!("not changed: {why}"),
    }
}

/// One number for a write.
pub(crate) fn write_digest(write: &Write) -> u64 {
    let hard_state = write
        .hard_state
        .map_or(0, |hard| digest(&[hard.term.get(), u64::from(hard.vote.is_some())]));
    let last = id_number(write.append.last().map(|entry| entry.id));
    digest(&[
        hard_state,
        write.trim.map_or(0, |end| end.get() + 1),
        last,
        write.append.len() as u64,
        write.reset.map_or(0, |reset| reset.start.get() + 1),
        write.compact.map_or(0, |start| start.get() + 1),
    ])
}

/// A write in words.
pub(crate) fn write(write: &Write) -> String {
    let mut words = Vec::new();
    if let Some(hard) = write.hard_state {
        let vote = hard.vote.map_or_else(|| "none".to_owned(), |vote| vote.to_string());
        words.push(format!("term {} vote {vote}", hard.term));
    }
    if write.configuration.is_some() {
        let newest = |all: &Arc<Configurations>| configuration(&all.newest().configuration);
        words.push(write.configuration.as_ref().map(newest).unwrap_or_default());
    }
    if let Some(reset) = write.reset {
        words.push(format!("begin anew at {} after term {}", reset.start, reset.before));
    }
    if let Some(start) = write.compact {
        words.push(format!("drop all before {start}"));
    }
    if let Some(end) = write.trim {
        words.push(format!("trim to {end}"));
    }
    if let (Some(first), Some(last)) = (write.append.first(), write.append.last()) {
        words.push(format!("append {}..={}", first.id, last.id));
    }
    words.join(", ")
}

/// What opening a log found, in words: only what there is to tell.
pub(crate) fn recovery(recovery: &Recovery) -> String {
    let mut words = Vec::new();
    if recovery.created {
        words.push("new".to_owned());
    }
    if let Some(cut) = &recovery.cut {
        words.push(format!("a torn group of {} bytes was cut, {}", cut.bytes, cut.why));
    }
    if recovery.hard_state_rescued {
        words.push("its term and vote were rescued".to_owned());
    }
    if recovery.seals_rebuilt > 0 || recovery.copies_repaired > 0 {
        let (seals, copies) = (recovery.seals_rebuilt, recovery.copies_repaired);
        words.push(format!("{seals} seals rebuilt, {copies} copies repaired"));
    }
    words.push(format!("{} files", recovery.segments));
    words.join(", ")
}

/// The part that a node plays.
pub(crate) fn part(role: Role, term: Term, leader: Option<NodeId>) -> String {
    match (role, leader) {
        (Role::Leader, _) => format!("leads term {term}"),
        (Role::Candidate, _) => format!("is a candidate, in term {term}"),
        (Role::Learner, _) => format!("takes no part, in term {term}"),
        (Role::Follower, Some(leader)) => format!("follows n{leader} in term {term}"),
        (Role::Follower, None) => format!("waits for a leader, in term {term}"),
    }
}

/// What decides, in words: of one configuration or of another.
pub(crate) fn configurations(of: &[Arc<Configuration>]) -> String {
    if of.is_empty() {
        return "nobody".to_owned();
    }
    of.iter().map(|it| configuration(it)).collect::<Vec<_>>().join(" or ")
}

/// A configuration in words, each half with its members: a label after a colon, learners in brackets.
pub(crate) fn configuration(of: &Configuration) -> String {
    let member = |member: &Member| {
        let log = member.identity.map_or_else(|| "?".to_owned(), |log| log.to_string());
        let label = member.group.map(|group| format!(":{group}")).unwrap_or_default();
        let words = format!("n{}={log}{label}", member.id);
        if member.votes { words } else { format!("({words})") }
    };
    let half = |half: &Membership| {
        let members: Vec<_> = half.members().iter().map(member).collect();
        format!("{} of {}", half.rules(), members.join(" "))
    };
    match of.old() {
        Some(old) => format!("[{}, and {} before]", half(of.now()), half(old)),
        None => format!("[{}]", half(of.now())),
    }
}

/// The members of a plan in words.
pub(crate) fn plan(of: &Plan) -> String {
    let member = |member: &MemberSpec| {
        let label = member.group.map(|group| format!(":{group}")).unwrap_or_default();
        let words = format!("n{}{label}", member.id);
        if member.votes { words } else { format!("({words})") }
    };
    of.members().iter().map(member).collect::<Vec<_>>().join(" ")
}
