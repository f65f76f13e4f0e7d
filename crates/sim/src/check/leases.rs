//! Leases: who has promised a leader to vote for nobody keeps that, restarts or not, and while a leader answers
//! reads by its lease, so many have promised that nobody else can be elected (thesis section 6.4.1).
//!
//! A promise is seen when it is given, on the clock of whoever gives it; a leader can only know of less.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tinyraftplus_core::{Configuration, Identity, Message, MessageBody, Term, Time};

use super::{Verdict, quorums, require};
use crate::words;

/// What logs have promised, and to whom.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// When the leader of that term was last heard.
    heard: BTreeMap<Identity, (Term, Time)>,
    /// Until when it votes for nobody, as the leader of each term was told.
    promises: BTreeMap<Identity, BTreeMap<Term, Time>>,
    /// The logs that campaign in a term because the leader wanted it.
    wished: BTreeSet<(Term, Identity)>,
    /// The terms whose leaders have told somebody to campaign.
    handing_over: BTreeSet<Term>,
}

impl Leases {
    /// An append of a leader of that term is looked at.
    pub(crate) fn on_heard(&mut self, log: Identity, term: Term, shown: Time) {
        let heard = self.heard.entry(log).or_insert((term, shown));
        if term >= heard.0 {
            *heard = (term, shown);
        }
    }

    /// A node sends a message of the consensus; its clock shows that.
    pub(crate) fn on_sent(
        &mut self,
        at: usize,
        log: Identity,
        shown: Time,
        message: &Message<Bytes>,
    ) -> Verdict {
        let term = message.term;
        match message.body {
            MessageBody::Accepted { promise, .. } if !promise.is_zero() => {
                let heard = self.heard.get(&log).filter(|(of, _)| *of == term);
                if let Some(&(_, heard)) = heard {
                    let until = self.promises.entry(log).or_default().entry(term).or_default();
                    *until = (*until).max(heard + promise);
                }
            }
            MessageBody::TimeoutNow => {
                self.handing_over.insert(term);
            }
            MessageBody::Vote { transfer: true, .. } => {
                self.wished.insert((term, log));
            }
            MessageBody::Vote { transfer: false, .. } => self.is_free(at, log, term, shown)?,
            MessageBody::VoteReply { granted: true }
                if message.to.is_none_or(|to| !self.wished.contains(&(term, to))) =>
            {
                self.is_free(at, log, term, shown)?;
            }
            MessageBody::Accepted { .. }
            | MessageBody::VoteReply { .. }
            | MessageBody::Ask { .. }
            | MessageBody::Answer { .. }
            | MessageBody::PreVote { .. }
            | MessageBody::PreVoteReply { .. }
            | MessageBody::Append { .. }
            | MessageBody::Rejected { .. } => {}
        }
        Ok(())
    }

    /// It may vote in that term: what it promised in earlier ones is over.
    fn is_free(&self, at: usize, log: Identity, term: Term, shown: Time) -> Verdict {
        let promises = self.promises.get(&log).into_iter().flat_map(|all| all.range(..term));
        let longest = promises.max_by_key(|(_, until)| **until);
        require!(
            longest.is_none_or(|(_, until)| *until <= shown),
            "who promised not to vote does not",
            "node {} votes in term {term} at {shown:?}, and has promised {longest:?}",
            at + 1
        );
        Ok(())
    }

    /// That node leads a term and would answer reads without asking. `clocks` are what the clocks show of all logs that
    /// are there.
    pub(crate) fn on_lease(
        &self,
        at: usize,
        term: Term,
        configuration: &Configuration,
        own: Identity,
        clocks: &BTreeMap<Identity, Time>,
    ) -> Verdict {
        const CHECK: &str = "a lease is backed by promises";
        require!(
            !self.handing_over.contains(&term),
            CHECK,
            "node {} holds a lease in term {term}, and has told somebody to campaign",
            at + 1
        );
        let promised = |log: &Identity| {
            let until = self.promises.get(log).and_then(|all| all.get(&term));
            until.is_some_and(|until| clocks.get(log).is_some_and(|shown| until > shown))
        };
        let free = |log: &&Identity| **log != own && !promised(log);
        let free: BTreeSet<Identity> = clocks.keys().filter(free).copied().collect();
        require!(
            !quorums::some_half_elects(configuration, &free),
            CHECK,
            "node {} holds a lease in term {term}, and {free:?} could elect another; {} decides",
            at + 1,
            words::configuration(configuration)
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tinyraftplus_core::{Member, Membership, NodeId, QuorumRule, Seq};

    const fn log(n: u64) -> Identity {
        Identity::new(n as u128)
    }

    const fn time(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    /// Logs that say this, one after the other, each at a time of its clock and in a term.
    fn history(sent: &[(u64, u64, u64, MessageBody<Bytes>)]) -> (Leases, Verdict) {
        let mut leases = Leases::default();
        for (from, millis, term, body) in sent {
            let to = Some(log(1));
            let message =
                Message { from: log(*from), to, term: Term::new(*term), body: body.clone() };
            if matches!(body, MessageBody::Accepted { .. }) {
                leases.on_heard(log(*from), Term::new(*term), time(*millis));
            }
            let verdict = leases.on_sent(0, log(*from), time(*millis), &message);
            if verdict.is_err() {
                return (leases, verdict);
            }
        }
        (leases, Ok(()))
    }

    fn promise() -> MessageBody<Bytes> {
        let promise = Duration::from_millis(100);
        MessageBody::Accepted { matched: Seq::ZERO, round: 0, priority: 0, promise }
    }

    #[test]
    fn who_promised_votes_when_that_is_over() {
        let vote = || MessageBody::VoteReply { granted: true };
        let asks = |transfer| MessageBody::Vote { last: None, transfer };
        let verdict = |sent: &[_]| history(sent).1.is_ok();
        assert!(verdict(&[(2, 10, 5, promise()), (2, 110, 6, vote())]));
        assert!(!verdict(&[(2, 10, 5, promise()), (2, 109, 6, vote())]));
        assert!(!verdict(&[(2, 10, 5, promise()), (2, 109, 6, asks(false))]));
        assert!(verdict(&[(2, 10, 5, promise()), (2, 20, 6, asks(true))]), "the leader wants it");
        let wished = [(2, 10, 5, promise()), (1, 15, 6, asks(true)), (2, 20, 6, vote())];
        assert!(verdict(&wished));
        // What it says to the leader that it votes for is not what it promised another before.
        assert!(verdict(&[(2, 10, 6, promise()), (2, 20, 6, vote())]));
        assert!(verdict(&[(2, 10, 5, promise()), (3, 20, 6, vote())]), "another log is free");
    }

    #[test]
    fn a_lease_needs_promises_that_still_hold() {
        let member = |n: u64| Member::voter(NodeId::from(n), log(n));
        let half = Membership::new([1, 2, 3].map(member).to_vec(), QuorumRule::Majority).unwrap();
        let decides = Configuration::found(half, Seq::ZERO).unwrap();
        let holds = |sent: &[_], millis: u64, others: &[u64]| {
            let clocks = others.iter().map(|&n| (log(n), time(millis))).collect();
            history(sent).0.on_lease(0, Term::new(5), &decides, log(1), &clocks).is_ok()
        };
        let promised = [(2, 10, 5, promise())];
        assert!(holds(&promised, 109, &[1, 2, 3]));
        assert!(!holds(&promised, 110, &[1, 2, 3]), "it is over");
        assert!(!holds(&[], 10, &[1, 2, 3]));
        assert!(
            !holds(&[(2, 10, 4, promise())], 20, &[1, 2, 3]),
            "another leader was promised that"
        );
        assert!(holds(&[], 10, &[1, 2]), "a log that is lost votes for nobody");
        let told = [(2, 10, 5, promise()), (1, 20, 5, MessageBody::TimeoutNow)];
        assert!(!holds(&told, 30, &[1, 2, 3]), "a successor was told to campaign");
    }
}
