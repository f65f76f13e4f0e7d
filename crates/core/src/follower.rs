//! Following: taking a leader's entries (Raft section 5.3).

use crate::core::Part;
use crate::electorate::Active;
use crate::ids::Peer;
use crate::planted::{self, Bug};
use crate::quorum::RuleError;
use crate::{Core, Entry, EntryBody, EntryId, Event, MessageBody, NodeId, Placed, Seq, Term};
use alloc::{sync::Arc, vec::Vec};

/// An acknowledgement that waits for the disk. Of several, the last says what all of them do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acknowledgement {
    pub(crate) job: u64,
    pub(crate) to: Peer,
    pub(crate) matched: Seq,
    pub(crate) round: u64,
}

impl<P: AsRef<[u8]>> Core<P> {
    pub(crate) fn on_append(
        &mut self,
        from: Peer,
        term: Term,
        prev: Option<EntryId>,
        entries: Vec<Entry<P>>,
        committed: Seq,
        round: u64,
    ) {
        if term < self.hard_state.term {
            // Tells a leader of the past that its time is over, and nothing else: it may lead the present
            // term when this arrives, and would take the old append's round for one of its own.
            let over = MessageBody::Rejected { prev: None, hint: None, round: 0 };
            self.send_after(self.gate, from, over);
            return;
        }
        if matches!(self.part, Part::Leader(_)) || self.leader.is_some_and(|leader| leader != from)
        {
            self.out.events.push(Event::Malformed {
                from: from.id,
                what: "leads a term that has another leader",
            });
            return;
        }
        self.follow(from);
        let Some((prev, entries)) = self.above_start(prev, entries) else {
            let what = "contradicts committed entries";
            self.out.events.push(Event::Malformed { from: from.id, what });
            return;
        };
        if prev.is_some_and(|prev| !self.terms.has(prev)) {
            let hint = prev.and_then(|prev| self.terms.newest_within(prev.seq, prev.term));
            self.send_after(self.gate, from, MessageBody::Rejected { prev, hint, round });
            return;
        }
        let verified_start = prev.map_or_else(|| self.terms.start(), |prev| prev.seq.after());
        if entries.first().is_some_and(|first| first.id.seq != verified_start) {
            self.out.events.push(Event::Malformed {
                from: from.id,
                what: "begins elsewhere than the log does",
            });
            return;
        }
        let verified = entries.last().map_or(verified_start, |last| last.id.seq.after());
        let heartbeat = entries.is_empty();
        if !self.take(from.id, entries) {
            return;
        }
        if planted::is(Bug::TruncateLate) && !heartbeat && verified < self.terms.end() {
            let cut = self.terms.span(verified, self.terms.end());
            self.terms.trim(verified);
            self.job().trim = Some(verified);
            self.jobs.note(Some(cut), verified, verified);
        }
        // The leader may have committed more than this message proves to be in both logs.
        let proven = if planted::is(Bug::CommitPastVerified) { self.terms.end() } else { verified };
        self.committed = self.committed.max(committed.min(proven));
        let (job, matched) = if heartbeat {
            // Answers at once, for what is durable already: a slow disk is no reason to depose a leader.
            (self.gate, verified.min(self.jobs.durable()))
        } else {
            (self.jobs.job_for(verified).max(self.gate), verified)
        };
        if self.jobs.is_done(job) || planted::is(Bug::AckBeforeSync) {
            self.send_accepted(from, matched, round);
        } else {
            self.acknowledge_after(Acknowledgement { job, to: from, matched, round });
        }
    }

    /// The part of an append that lies at this log's start or after it. What comes before was committed, so the leader has
    /// it too, and there is nothing to compare it with. `None` if the leader shows another entry in its place.
    fn above_start(
        &self,
        prev: Option<EntryId>,
        mut entries: Vec<Entry<P>>,
    ) -> Option<(Option<EntryId>, Vec<Entry<P>>)> {
        let start = self.terms.start();
        let before = self.terms.entry_before(start);
        if before.is_none() || prev.is_some_and(|prev| prev.seq.after() >= start) {
            return Some((prev, entries));
        }
        let new = entries.split_off(entries.partition_point(|entry| entry.id.seq < start));
        let fits = match entries.last().map(|entry| entry.id) {
            Some(last) => last.seq.after() < start || Some(last) == before,
            // A log that begins here has no entry before.
            None => new.is_empty(),
        };
        fits.then_some((before, new))
    }

    fn follow(&mut self, leader: Peer) {
        if self.leader != Some(leader) || !matches!(self.part, Part::Follower) {
            if planted::is(Bug::ClearVote) {
                self.hard_state.vote = None;
            }
            self.part = Part::Follower;
            self.leader = Some(leader);
            self.out.events.push(Event::Changed);
        }
        self.leader_contact = Some(self.now);
        self.renew_promise();
        self.reset_election_timer();
    }

    /// Writes what the log lacks, and cuts what contradicts it. What is there already stays untouched: a
    /// late copy of an old append must not take away what was acknowledged since.
    fn take(&mut self, from: NodeId, mut entries: Vec<Entry<P>>) -> bool {
        let held = entries.iter().take_while(|entry| {
            let kept = planted::is(Bug::KeepConflict) && entry.id.seq < self.terms.end();
            kept || self.terms.has(entry.id)
        });
        let new = entries.split_off(held.count());
        let Some(first) = new.first().map(|entry| entry.id.seq) else {
            return true;
        };
        let trim = (first < self.terms.end()).then_some(first);
        if trim.is_some_and(|end| end < self.committed) {
            self.out.events.push(Event::Malformed { from, what: "contradicts committed entries" });
            return false;
        }
        let active = match self.configured_by(trim, &new) {
            Ok(active) => active,
            Err(RuleError::UnknownRule { rule }) => {
                // What it can't judge it must not acknowledge: it might be the vote that decides.
                self.out.events.push(Event::UnknownRule(rule));
                return false;
            }
            Err(_) => {
                let what = "has a configuration whose rules make no sense";
                self.out.events.push(Event::Malformed { from, what });
                return false;
            }
        };
        let cut = trim.map(|start| self.terms.span(start, self.terms.end()));
        if let Some(end) = trim {
            self.terms.trim(end);
        }
        for entry in &new {
            self.terms.append(entry.id.term, 1);
        }
        let end = self.terms.end();
        let job = self.job();
        job.trim = trim;
        job.append = new;
        self.jobs.note(cut, first, end);
        if let Some(active) = active {
            self.activate(active);
        }
        true
    }

    /// The configurations after that trim and these entries, if they change them.
    fn configured_by(
        &self,
        trim: Option<Seq>,
        new: &[Entry<P>],
    ) -> Result<Option<Active>, RuleError> {
        let Some(now) = &self.active else {
            return Ok(None);
        };
        let mut active = trim.map_or_else(|| now.clone(), |end| now.without(end, self.terms.end()));
        for entry in new {
            if let EntryBody::Configuration(configuration) = &entry.body {
                let configuration = Arc::clone(configuration);
                let placed = Placed { at: Some(entry.id.seq), configuration };
                active = active.with(placed, &self.options.custom_rules)?;
            }
        }
        Ok((active.all() != now.all()).then_some(active))
    }

    fn send_accepted(&mut self, to: Peer, matched: Seq, round: u64) {
        let (priority, promise) = (self.told_priority(), self.promise());
        self.send(to, MessageBody::Accepted { matched, round, priority, promise });
    }

    pub(crate) fn acknowledge_after(&mut self, next: Acknowledgement) {
        self.acknowledgements.push_back(next);
        while self.acknowledgements.len() > ACKNOWLEDGEMENTS_MAX {
            self.acknowledgements.pop_front();
        }
    }

    /// Sends the newest acknowledgement whose entries are durable now; it says what the older ones would.
    pub(crate) fn acknowledge(&mut self) {
        let mut newest: Option<Acknowledgement> = None;
        while let Some(next) =
            self.acknowledgements.pop_front_if(|next| self.jobs.is_done(next.job))
        {
            newest = Some(match newest {
                Some(before) => Acknowledgement {
                    matched: before.matched.max(next.matched),
                    round: before.round.max(next.round),
                    ..next
                },
                None => next,
            });
        }
        if let Some(Acknowledgement { to, matched, round, .. }) = newest {
            self.send_accepted(to, matched, round);
        }
    }
}

/// How many acknowledgements may wait for the disk; older ones are implied by newer ones.
const ACKNOWLEDGEMENTS_MAX: usize = 1024;
