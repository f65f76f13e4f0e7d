//! Elections: pre-vote, vote, and winning (Raft sections 5.2 and 5.4.1, thesis section 9.6).
//!
//! A pre-vote asks whether a campaign could be won before it disturbs anyone. A campaign writes the new term
//! and the vote for oneself to disk first; only then do its requests leave, and only then does the own vote
//! count.

use crate::core::Part;
use crate::ids::Peer;
use crate::planted::{self, Bug};
use crate::{Core, EntryId, Event, HardState, Identity, Member, MessageBody, Seq, Term};
use alloc::collections::BTreeSet;
use core::mem;

/// A round of asking for votes.
#[derive(Debug)]
pub(crate) struct Campaign {
    /// Whether it only asks what would be.
    pre: bool,
    /// The logs that said yes. This node's is among them once its own vote is durable.
    votes: BTreeSet<Identity>,
    /// The job that makes its own vote durable.
    job: u64,
}

impl<P: AsRef<[u8]>> Core<P> {
    /// Asks whether a campaign would be won.
    pub(crate) fn pre_campaign(&mut self) {
        self.reset_election_timer();
        let Some(term) = self.hard_state.term.next().filter(|_| self.may_campaign()) else {
            return;
        };
        if self.leader.take().is_some() || !matches!(self.part, Part::Candidate(_)) {
            self.out.events.push(Event::Changed);
        }
        self.part =
            Part::Candidate(Campaign { pre: true, votes: BTreeSet::from([self.identity]), job: 0 });
        let last = self.terms.last();
        for to in self.others() {
            let mut message = self.message(to, MessageBody::PreVote { last });
            message.term = term;
            self.out.send.push(crate::Transmit::Message { to: to.id, message });
        }
        self.count_votes();
    }

    /// Whether this node would be of any use as a leader.
    pub(crate) fn may_campaign(&mut self) -> bool {
        if self.sits_still() || self.stalled.is_some() || self.space.is_lacking(self.now) {
            // It was told not to, or it can't write.
            return false;
        }
        if self.terms.end() == Seq::MAX {
            // A term begins with an entry of its own, and there is no room for one.
            if !mem::replace(&mut self.full_reported, true) {
                self.out.events.push(Event::LogFull);
            }
            return false;
        }
        true
    }

    /// Stands for election in the next term; `transfer` if the leader wants it to.
    pub(crate) fn campaign(&mut self, transfer: bool) {
        let Some(term) = self.hard_state.term.next() else {
            return;
        };
        self.begin_term(HardState { term, vote: Some(self.identity) });
        self.leader = None;
        self.reset_election_timer();
        self.part =
            Part::Candidate(Campaign { pre: false, votes: BTreeSet::new(), job: self.gate });
        self.out.events.push(Event::Changed);
        let last = self.terms.last();
        for to in self.others() {
            self.send_after(self.gate, to, MessageBody::Vote { last, transfer });
        }
    }

    /// Counts this node's own vote once it is durable.
    pub(crate) fn own_vote_durable(&mut self) {
        let own = self.identity;
        if let Part::Candidate(campaign) = &mut self.part
            && !campaign.pre
            && self.jobs.is_done(campaign.job)
            && campaign.votes.insert(own)
        {
            self.count_votes();
        }
    }

    pub(crate) fn on_pre_vote(&mut self, from: Peer, term: Term, last: Option<EntryId>) {
        // A node that hears from its leader helps nobody to depose it.
        let has_leader = matches!(self.part, Part::Leader(_))
            || self.has_promised()
            || self
                .leader_contact
                .is_some_and(|contact| self.now.since(contact) < self.options.election_timeout);
        let complete = last >= self.terms.last() || planted::is(Bug::VoteForAnyLog);
        let granted = term > self.hard_state.term && complete && !has_leader;
        let mut message = self.message(from, MessageBody::PreVoteReply { granted });
        if granted {
            message.term = term;
        }
        if self.jobs.is_done(self.gate) || granted {
            self.out.send.push(crate::Transmit::Message { to: from.id, message });
        }
    }

    pub(crate) fn on_pre_vote_reply(&mut self, from: Peer, term: Term, granted: bool) {
        let asked = self.hard_state.term.next();
        if let Part::Candidate(campaign) = &self.part
            && campaign.pre
            && granted
            && Some(term) == asked
        {
            self.take_vote(from);
        }
    }

    pub(crate) fn on_vote(&mut self, from: Peer, term: Term, last: Option<EntryId>) {
        let free = self.hard_state.vote.is_none_or(|vote| vote == from.identity);
        let complete = last >= self.terms.last() || planted::is(Bug::VoteForAnyLog);
        let granted = term == self.hard_state.term && free && complete;
        if granted && self.hard_state.vote.is_none() {
            self.hard_state.vote = Some(from.identity);
            if !planted::is(Bug::ForgetVote) {
                self.persist_hard_state();
            }
            self.reset_election_timer();
        }
        self.send_after(self.gate, from, MessageBody::VoteReply { granted });
    }

    pub(crate) fn on_vote_reply(&mut self, from: Peer, term: Term, granted: bool) {
        if let Part::Candidate(campaign) = &self.part
            && !campaign.pre
            && granted
            && term == self.hard_state.term
        {
            self.take_vote(from);
        }
    }

    /// Takes a vote of a log that counts; there is no end of others.
    fn take_vote(&mut self, from: Peer) {
        let counts = self.configuration().is_some_and(|it| it.counts(from.id, from.identity));
        if let Part::Candidate(campaign) = &mut self.part
            && counts
        {
            campaign.votes.insert(from.identity);
            self.count_votes();
        }
    }

    fn count_votes(&mut self) {
        let (Part::Candidate(campaign), Some(active)) = (&self.part, &self.active) else {
            return;
        };
        let has = |member: &Member| {
            member.identity.is_some_and(|identity| campaign.votes.contains(&identity))
        };
        if !active.electorate().elects(has) {
            return;
        }
        if campaign.pre {
            self.campaign(false);
        } else {
            self.lead();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Configurations, Input, Message, NodeId, Options, QuorumRule, Restored, Seq, Time};
    use alloc::sync::Arc;

    /// Made-up logs are not remembered: there is no end of them.
    #[test]
    fn only_votes_that_count_are_kept() {
        let ids = [1, 2, 3].map(NodeId::from);
        let member =
            |number: u64| Member::voter(NodeId::from(number), Identity::new(number.into()));
        let members = [1, 2, 3].map(member).to_vec();
        let all = Configurations::found(members, QuorumRule::Majority, Seq::ZERO).ok();
        let identity = Identity::new(1);
        let restored = Restored { configuration: all.map(Arc::new), ..Restored::empty(identity) };
        let options = Options::new(ids[0], ids.to_vec(), 1);
        let mut core: Core<&str> = Core::new(options, restored, Time::ZERO).unwrap();
        let _ = core.step(core.wake_at(), Input::Wake);
        for number in 9..100 {
            let body = MessageBody::PreVoteReply { granted: true };
            let (from, to, term) = (Identity::new(number), Some(identity), Term::new(1));
            let message = Message { from, to, term, body };
            let _ = core.step(Time::ZERO, Input::Receive { from: ids[1], message });
        }
        let Part::Candidate(campaign) = &core.part else { panic!("it is a candidate") };
        assert_eq!(campaign.votes, BTreeSet::from([identity]));
    }
}
