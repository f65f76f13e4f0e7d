//! Logs that do not begin at the beginning: compaction, and snapshots that stand for what is gone.
//!
//! The core knows of a snapshot only what it stands for: its last entry and the configuration there. Whoever drives it
//! keeps the bytes, and has them durable before it says [`crate::Input::Install`]. The order is: snapshot durable, then the log's
//! record, then the state machine. A restart finds which of them are missing and goes on from there.

use crate::core::Part;
use crate::electorate::Active;
use crate::follower::Acknowledgement;
use crate::planted::{self, Bug};
use crate::progress::{Progress, State};
use crate::quorum::RuleError;
use crate::{Configurations, Core, EntryId, Event, NodeId, Placed, Seq, Term, Terms};
use alloc::sync::Arc;

/// A snapshot in whose place the log begins anew, and the job that says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Installing {
    job: u64,
    last: EntryId,
}

impl<P: AsRef<[u8]>> Core<P> {
    /// Whether that peer lacks entries that this leader's log no longer has.
    pub fn needs_snapshot(&self, peer: NodeId) -> bool {
        match &self.part {
            Part::Leader(leader) => {
                leader.peers.get(&peer).is_some_and(|peer| peer.state == State::Snapshot)
            }
            Part::Follower | Part::Candidate(_) => false,
        }
    }

    /// Whether a snapshot waits for the log to begin after it.
    pub const fn installs(&self) -> bool {
        self.installing.is_some()
    }

    /// The configuration in force after everything before that position, which is committed. `None` if this node no
    /// longer knows it: there were two since.
    pub fn configuration_at(&self, end: Seq) -> Option<&Placed> {
        let all = self.configurations()?;
        let is_older = |placed: &&Placed| placed.at.is_none_or(|at| at < end);
        core::iter::once(all.newest()).chain(all.before()).find(is_older)
    }

    /// Drops the oldest entries. Only what is durable: what is refused for lack of space must not reach below the start.
    /// And not what a peer has yet to acknowledge that answers: it would need all of a snapshot for want of a few.
    pub(crate) fn compact(&mut self, before: Seq) {
        let durable = before.min(self.committed).min(self.jobs.durable()).min(self.applied);
        let (now, patience) = (self.now, self.options.election_timeout);
        let streaming = match &self.part {
            Part::Leader(leader) => {
                let lately = |peer: &&Progress| {
                    peer.contact.is_some_and(|at| now.since(at) <= patience)
                        && peer.state == State::Stream
                };
                leader.peers.values().filter(lately).map(|peer| peer.matched).min()
            }
            Part::Follower | Part::Candidate(_) => None,
        };
        let start = streaming.map_or(durable, |matched| durable.min(matched));
        if start <= self.terms.start() || self.installing.is_some() {
            return;
        }
        let old = self.terms.start();
        self.terms.compact(start);
        self.job().compact = Some(start);
        self.jobs.note_compaction(old);
    }

    /// A snapshot is durable. What it stands for is committed, so a log that has its last entry has all of it, and one
    /// that has not has nothing after it that could stay.
    pub(crate) fn install(&mut self, last: EntryId, configuration: Placed) {
        let start = last.seq.after();
        let is_sound = last.term > Term::ZERO
            && last.term <= self.hard_state.term
            && last.seq < Seq::MAX
            && start < Seq::MAX
            && configuration.at.is_none_or(|at| at < start);
        if start <= self.committed || !is_sound || matches!(self.part, Part::Leader(_)) {
            return;
        }
        if self.terms.has(last) {
            self.committed = start;
            return;
        }
        match self.configured_by_snapshot(configuration) {
            Ok(active) => self.begin_after(last, active),
            Err(RuleError::UnknownRule { rule }) => {
                self.out.events.push(Event::UnknownRule(rule));
            }
            Err(error) => self.out.events.push(Event::UnsafeRule(error)),
        }
    }

    fn begin_after(&mut self, last: EntryId, active: Option<Active>) {
        let (old, start) = (self.terms.start(), last.seq.after());
        self.terms = Terms::empty(start, last.term);
        (self.committed, self.applied) = (start, start);
        // It asks for votes with a log that is no more.
        self.give_up();
        let job = self.job();
        job.reset = Some(last);
        let job = job.job;
        self.jobs.note_reset(old, start);
        if let Some(active) = active {
            self.activate(active);
        }
        self.installing = Some(Installing { job, last });
        self.acknowledgements.clear();
        if let Some(to) = self.leader {
            self.acknowledge_after(Acknowledgement { job, to, matched: start, round: 0 });
        }
    }

    /// The configurations of a log that begins after a snapshot, if they are others: those of the entries that it had are gone
    /// with them. But one from beyond its end came from a leader that had it committed.
    fn configured_by_snapshot(&self, placed: Placed) -> Result<Option<Active>, RuleError> {
        let end = self.terms.end();
        let known = self.active.as_ref().map(|active| active.all().newest().clone());
        if planted::is(Bug::KeepMembers) && known.is_some() {
            return Ok(None);
        }
        let beyond = known.filter(|known| known.at > placed.at && known.at >= Some(end));
        let all = beyond.and_then(|newest| Configurations::restored(newest, Some(placed.clone())));
        let all = Arc::new(all.unwrap_or_else(|| Configurations::first(placed)));
        if self.active.as_ref().is_some_and(|active| *active.all() == all) {
            return Ok(None);
        }
        Active::new(all, &self.options.custom_rules).map(Some)
    }

    /// The record that a log begins anew is written once more.
    pub(crate) const fn install_again(&mut self) {
        if let Some(installing) = &mut self.installing {
            installing.job = self.gate;
        }
    }

    /// Says that the log begins after the snapshot, once that is durable.
    pub(crate) fn installed(&mut self) {
        if let Some(Installing { job, last }) = self.installing
            && self.jobs.is_done(job)
        {
            self.installing = None;
            self.out.restore = Some(last);
        }
    }
}
