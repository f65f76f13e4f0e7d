//! Everything in one readable line.

use crate::harness::Node;
use tinyraftplus_core::{
    Configuration, Entry, EntryBody, EntryId, Event, Identity, Member, Membership, Message,
    MessageBody, NodeId, Persist, Placed, Refusal, Resolution, Role, Rules,
};

/// `2a` is the first log of node 2, `2b` the one after it was wiped.
pub(crate) fn identity(identity: Identity) -> String {
    let number = identity.get();
    let letter = u8::try_from(number & 0xf).map_or('?', |wiped| char::from(b'a' + wiped));
    format!("{}{letter}", number >> 96)
}

fn entry_id(id: Option<EntryId>) -> String {
    id.map_or_else(|| "-".to_owned(), |id| id.to_string())
}

/// Each batch in brackets of its own.
pub(crate) fn entries(entries: &[Entry<String>]) -> String {
    let mut text = String::new();
    let mut open = false;
    for entry in entries {
        text += if open { " " } else { " [" };
        text += &entry.id.to_string();
        text += " ";
        text += &match &entry.body {
            EntryBody::Noop => "noop".to_owned(),
            EntryBody::Payload(payload) => payload.clone(),
            EntryBody::Configuration(it) => configuration(it),
        };
        open = !entry.ends_batch;
        if entry.ends_batch {
            text += "]";
        }
    }
    text
}

fn configuration(configuration: &Configuration) -> String {
    let old = configuration.old().map(|old| format!(" from {}", membership(old)));
    format!("{}{}", membership(configuration.now()), old.unwrap_or_default())
}

/// Learners in parentheses, labels and rules where there are any.
fn membership(membership: &Membership) -> String {
    let member = |member: &Member| {
        let name = member.identity.map_or_else(|| format!("{}?", member.id), identity);
        let group = member.group.map(|group| format!(":{group}")).unwrap_or_default();
        if member.votes { format!("{name}{group}") } else { format!("({name}{group})") }
    };
    let members: Vec<String> = membership.members().iter().map(member).collect();
    let rules = membership.rules();
    let rules = if *rules == Rules::default() { String::new() } else { format!(" by {rules}") };
    format!("{{{}{rules}}}", members.join(" "))
}

pub(crate) fn message(message: &Message<String>) -> String {
    let term = message.term;
    let yes = |granted: &bool| if *granted { "yes" } else { "no" };
    match &message.body {
        MessageBody::Ask { .. } => "ask".to_owned(),
        MessageBody::Answer { configuration: None, .. } => "answer unformed".to_owned(),
        MessageBody::Answer { configuration: Some(c), .. } => {
            format!("answer {}", configuration(&c.configuration))
        }
        MessageBody::PreVote { last } => format!("prevote term={term} last={}", entry_id(*last)),
        MessageBody::PreVoteReply { granted } => {
            format!("prevote-reply term={term} {}", yes(granted))
        }
        MessageBody::Vote { last, transfer } => {
            let transfer = if *transfer { " transfer" } else { "" };
            format!("vote term={term} last={}{transfer}", entry_id(*last))
        }
        MessageBody::VoteReply { granted } => format!("vote-reply term={term} {}", yes(granted)),
        MessageBody::Append { prev, entries: list, committed, round } => format!(
            "append term={term} prev={}{} commit={committed} round={round}",
            entry_id(*prev),
            entries(list)
        ),
        MessageBody::Accepted { matched, round, priority, promise } => {
            let priority =
                if *priority > 0 { format!(" priority={priority}") } else { String::new() };
            let promise =
                if promise.is_zero() { String::new() } else { format!(" promise={promise:?}") };
            format!("accepted term={term} matched={matched} round={round}{priority}{promise}")
        }
        MessageBody::Rejected { prev, hint, round } => format!(
            "rejected term={term} prev={} hint={} round={round}",
            entry_id(*prev),
            entry_id(*hint)
        ),
        MessageBody::TimeoutNow => format!("timeout-now term={term}"),
    }
}

pub(crate) fn job(job: &Persist<String>) -> String {
    let hard_state = job.hard_state.map(|hard_state| {
        let vote = hard_state.vote.map(|vote| format!(" vote={}", identity(vote)));
        format!(" term={}{}", hard_state.term, vote.unwrap_or_default())
    });
    let members = job.configuration.as_ref().map(|all| {
        let before = all.before().map(|it| format!(" after {}", configuration(&it.configuration)));
        let newest = configuration(&all.newest().configuration);
        format!(" members={newest}{}", before.unwrap_or_default())
    });
    let reset = job.reset.map(|last| format!(" reset={last}"));
    let trim = job.trim.map(|end| format!(" trim={end}"));
    let compact = job.compact.map(|start| format!(" compact={start}"));
    let parts = [hard_state, members, reset, trim, compact].map(Option::unwrap_or_default).concat();
    format!("#{}{parts}{}", job.job, entries(&job.append))
}

pub(crate) fn snapshot(snapshot: Option<&(EntryId, Placed)>) -> String {
    let words = |(last, placed): &(EntryId, Placed)| {
        format!("up to {last} with {}\n", configuration(&placed.configuration))
    };
    snapshot.map(words).unwrap_or_default()
}

pub(crate) fn resolution(resolution: &Resolution) -> String {
    let range = |first: &EntryId, last: &EntryId| {
        if first == last { first.to_string() } else { format!("{first} to {last}") }
    };
    match resolution {
        Resolution::Accepted { first, last } => format!("accepted {}", range(first, last)),
        Resolution::Committed { first, last } => format!("committed {}", range(first, last)),
        Resolution::ReadAt { end } => format!("read at {end}"),
        Resolution::Changed { at } => format!("changed at {at:?}"),
        Resolution::Unsettled => "unsettled".to_owned(),
        Resolution::Refused(Refusal::NotLeader { leader }) => match leader {
            Some(leader) => format!("refused, {leader} leads"),
            None => "refused, no known leader".to_owned(),
        },
        Resolution::Refused(refusal) => format!("refused, {refusal:?}"),
        Resolution::Transfer(Ok(())) => "transferred".to_owned(),
        Resolution::Transfer(Err(error)) => format!("not transferred, {error:?}"),
    }
}

pub(crate) fn event(id: NodeId, node: &Node, event: &Event) -> String {
    if *event == Event::Changed {
        status(id, node)
    } else if let Event::Malformed { from, what } = event {
        format!("{id} drops a message: {from} {what}")
    } else {
        format!("{id} event {event:?}")
    }
}

pub(crate) fn status(id: NodeId, node: &Node) -> String {
    let Some(core) = &node.core else {
        return format!("{id} is down");
    };
    let leader = match core.leader() {
        Some(leader) if core.role() != Role::Leader => format!(" of {leader}"),
        Some(_) | None => String::new(),
    };
    let role = format!("{:?}", core.role()).to_lowercase();
    format!("{id} is {role}{leader} in term {}", core.term())
}
