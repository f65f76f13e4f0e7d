//! Promises: a vote or an acknowledgement is durable before it leaves, and a node votes once a term, restarts
//! or not (Raft figure 2, "updated on stable storage before responding").

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tinyraftplus_core::{HardState, Identity, Message, MessageBody, Term};

use super::{NodeModel, Verdict, quorums, require};
use crate::words;

/// Which votes were sent.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    votes: BTreeMap<(Identity, Term), Identity>,
    /// The logs that the leader of a term told to campaign.
    wishes: BTreeSet<(Term, Identity)>,
    /// The leaders that were looked at.
    leaders: BTreeSet<(Term, usize)>,
}

impl Promises {
    /// A node sends a message of the consensus.
    pub(crate) fn on_sent(
        &mut self,
        at: usize,
        node: &NodeModel,
        receiver: Option<Identity>,
        inside: bool,
        message: &Message<Bytes>,
    ) -> Verdict {
        const CHECK: &str = "promises are durable";
        let (who, term, hard_state) = (at + 1, message.term, node.durable.hard_state);
        match message.body {
            MessageBody::Vote { transfer, .. } => {
                self.vote(who, node.identity, term, node.identity)?;
                let wished = |&(of, log): &(Term, Identity)| {
                    log == node.identity && of.get() + 1 == term.get()
                };
                require!(
                    !inside || !transfer || self.wishes.iter().any(wished),
                    "a transfer is the leader's wish",
                    "node {who} campaigns in term {term} as if a leader of the term before wanted it"
                );
                require!(
                    !inside || covers(hard_state, term, Some(node.identity)),
                    CHECK,
                    "node {who} campaigns in term {term} with {hard_state:?} on disk"
                );
            }
            MessageBody::VoteReply { granted: true } => {
                // Whom a vote is for is in its address; a receiver that lost its disk meanwhile is nobody.
                let Some(candidate) = message.to.filter(|to| receiver == Some(*to)) else {
                    return Ok(());
                };
                self.vote(who, node.identity, term, candidate)?;
                require!(
                    !inside || covers(hard_state, term, Some(candidate)),
                    CHECK,
                    "node {who} votes in term {term} with {hard_state:?} on disk"
                );
            }
            MessageBody::Accepted { matched, .. } => {
                // What it says in a term that ends in the same step, it says of the log that it had then.
                let is_over = term < node.decided.hard_state.term;
                let end = if is_over { node.durable_before } else { node.durable_end() };
                require!(
                    !inside || covers(hard_state, term, None) && matched <= end,
                    CHECK,
                    "node {who} acknowledges everything before {matched} in term {term}; its disk holds that up to {end} and has {hard_state:?}"
                );
            }
            MessageBody::Append { .. } => {
                require!(
                    !inside || covers(hard_state, term, Some(node.identity)),
                    CHECK,
                    "node {who} leads term {term} with {hard_state:?} on disk"
                );
            }
            MessageBody::TimeoutNow => self.wishes.extend(message.to.map(|to| (term, to))),
            MessageBody::VoteReply { granted: false }
            | MessageBody::Ask { .. }
            | MessageBody::Answer { .. }
            | MessageBody::PreVote { .. }
            | MessageBody::PreVoteReply { .. }
            | MessageBody::Rejected { .. } => {}
        }
        Ok(())
    }

    /// That node leads that term: a quorum of each half of its configuration has voted for it.
    pub(crate) fn on_leader(&mut self, at: usize, node: &NodeModel, term: Term) -> Verdict {
        if !self.leaders.insert((term, at)) {
            return Ok(());
        }
        let own = node.identity;
        let for_it = |&(&(_, of), &candidate): &(&(Identity, Term), &Identity)| {
            of == term && candidate == own
        };
        let voters = self.votes.iter().filter(for_it).map(|(&(voter, _), _)| voter);
        // In a cluster of one nobody has to be asked.
        let voted = node.durable.hard_state == HardState { term, vote: Some(own) };
        let voters: BTreeSet<Identity> = voters.chain(voted.then_some(own)).collect();
        let configurations = node.in_force();
        require!(
            configurations.iter().any(|configuration| quorums::elects(configuration, &voters)),
            "a leader has the votes of a quorum",
            "node {} leads term {term} with the votes of {voters:?}; {} decides",
            at + 1,
            words::configurations(&configurations)
        );
        Ok(())
    }

    /// A log votes for another in that term.
    pub(crate) fn vote(
        &mut self,
        who: usize,
        voter: Identity,
        term: Term,
        candidate: Identity,
    ) -> Verdict {
        let first = *self.votes.entry((voter, term)).or_insert(candidate);
        require!(
            first == candidate,
            "one vote a term",
            "node {who} votes for {candidate} in term {term}, and voted for {first} before"
        );
        Ok(())
    }
}

/// Whether what is on disk keeps a node from breaking what it says in that term.
fn covers(durable: HardState, term: Term, vote: Option<Identity>) -> bool {
    durable.term > term || durable.term == term && (vote.is_none() || durable.vote == vote)
}
