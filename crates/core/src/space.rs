//! When the disk has no space for entries.
//!
//! A write is never tried again behind our back: a vote or a new term would wait behind it. The driver gives the
//! job back, and with it all that were begun after it: none of them wrote anything. The core takes back what they
//! did to its log, and writes what must not wait, term and vote, alone: there is room in reserve for that. What
//! becomes of the entries is for the cluster to say. A leader's may be in others' logs and be committed by the
//! next leader; a follower's are sent again, ever more seldom.

use crate::jobs::Begins;
use crate::{Core, Event, Time};
use alloc::sync::Arc;

/// After so many refusals in a row, the rest before the next campaign grows no more.
const DOUBLINGS_MAX: u32 = 2;

/// What is known of the disk's space.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// How many writes of entries were refused since one succeeded.
    refusals: u32,
    /// No campaign before this: without space this node could not even begin a term. It tries again some time,
    /// because nobody tells it that space has returned, and it may be the only one that can lead.
    rest_until: Time,
}

impl Space {
    /// Whether no campaign makes sense now.
    pub(crate) fn is_lacking(&self, now: Time) -> bool {
        self.refusals > 0 && now < self.rest_until
    }

    /// Whether the newest write of entries was refused.
    pub(crate) const fn is_full(&self) -> bool {
        self.refusals > 0
    }

    /// Entries were written.
    pub(crate) const fn returned(&mut self) {
        self.refusals = 0;
    }
}

impl<P: AsRef<[u8]>> Core<P> {
    /// That job and all after it wrote nothing; see [`crate::Input::PersistRefused`].
    pub(crate) fn persist_refused(&mut self, job: u64) {
        if !self.awaits(job) {
            return;
        }
        let (mut began, mut is_void) = (None, false);
        for job in self.jobs.take_back(job) {
            // What a log had before it began anew does not come back: it begins so again below.
            if let Some(Begins::Anew { .. }) = job.begins {
                (began, is_void) = (job.begins, true);
            }
            if is_void {
                continue;
            }
            // The oldest of them says where the log on disk begins.
            began = job.begins.or(began);
            if let Some(start) = job.start {
                self.terms.trim(start);
                if let Some(cut) = &job.cut {
                    self.terms.restore(cut);
                }
                // Other entries may lie there now, and what was there is known only to the leader.
                self.committed = self.committed.min(start);
            }
            if job.active.is_some() {
                self.active = job.active;
                self.out.events.push(Event::Configured);
            }
        }
        // A request for votes names the newest entry, which may be gone: it no longer leaves.
        self.give_up();
        if self.stalled.is_some_and(|stalled| stalled >= job) {
            self.stalled = None;
        }
        self.acknowledgements.retain(|waiting| waiting.job < job);
        self.persisted(job - 1);
        self.jobs.end_refusal();
        self.rest();
        if self.gate >= job || began.is_some() {
            self.persist_again(job, began);
        }
    }

    /// Writes term and vote once more, and where the log begins. What waited for one of the jobs that were refused waits
    /// for this.
    fn persist_again(&mut self, refused: u64, began: Option<Begins>) {
        self.persist_hard_state();
        let start = self.terms.start();
        let before = self.terms.entry_before(start);
        let active = self.active.as_ref();
        let all = active.map(|active| Arc::clone(active.all()));
        let first = active.map(|active| active.configuration().first());
        let is_empty = start == self.terms.end();
        let job = self.job();
        match began {
            Some(Begins::Anew { old }) => {
                (job.configuration, job.reset) = (all, before);
                self.jobs.note_reset(old, start);
                self.install_again();
            }
            Some(Begins::Later { old }) => {
                job.compact = Some(start);
                self.jobs.note_compaction(old);
            }
            // Nothing was written after it, so it may be the first configuration that was refused.
            None if is_empty && before.is_none() => (job.configuration, job.begin) = (all, first),
            None => {}
        }
        for held in self.held.iter_mut().filter(|held| held.job >= refused) {
            held.job = self.gate;
        }
    }

    fn rest(&mut self) {
        let refusals = self.space.refusals.saturating_add(1);
        self.space.refusals = refusals;
        let rest = self.options.election_timeout.saturating_mul(1 << refusals.min(DOUBLINGS_MAX));
        self.space.rest_until = self.now + rest;
    }
}
