//! Persist jobs under way, and what is durable when they complete.
//!
//! The disk confirms jobs, not positions. A position can be written, trimmed and written again while its
//! first write is still under way; a confirmation that named the position would then vouch for bytes that
//! never arrived.

use crate::electorate::Active;
use crate::planted::{self, Bug};
use crate::{Seq, Span};
use alloc::{collections::VecDeque, vec::Vec};

#[derive(Debug)]
pub(crate) struct Jobs {
    under_way: VecDeque<Job>,
    begun: u64,
    done: u64,
    /// The end of the log on disk, as of the last confirmed job.
    on_disk: Seq,
}

#[derive(Debug)]
pub(crate) struct Job {
    number: u64,
    /// The configurations before it, if it changes them.
    pub(crate) active: Option<Active>,
    /// What it cuts off the log before it appends.
    pub(crate) cut: Option<Span>,
    /// Where its entries begin, if it has any.
    pub(crate) start: Option<Seq>,
    /// The log begins anew with it, or later than before.
    pub(crate) begins: Option<Begins>,
    /// The end of the log after it; `None` if it leaves the end alone.
    end: Option<Seq>,
}

/// How a job changes where the log begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Begins {
    /// The oldest entries go, of a log that began at `old`.
    Later { old: Seq },
    /// All entries go, of a log that began at `old`.
    Anew { old: Seq },
}

impl Jobs {
    pub(crate) const fn new(end: Seq) -> Self {
        Self { under_way: VecDeque::new(), begun: 0, done: 0, on_disk: end }
    }

    /// The log, still empty, begins at `first`.
    pub(crate) const fn begin_log(&mut self, first: Seq) {
        self.on_disk = first;
    }

    /// Begins the next job and returns its number.
    pub(crate) fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.under_way.push_back(Job {
            number: self.begun,
            active: None,
            cut: None,
            start: None,
            begins: None,
            end: None,
        });
        self.begun
    }

    /// Notes that the job begun last cuts this off the log, then appends `start..end`.
    pub(crate) fn note(&mut self, cut: Option<Span>, start: Seq, end: Seq) {
        if let Some(job) = self.under_way.back_mut() {
            job.cut = cut;
            job.start = Some(start);
            job.end = Some(end);
        }
    }

    /// Notes that the job begun last drops the oldest entries.
    pub(crate) fn note_compaction(&mut self, old: Seq) {
        if let Some(job) = self.under_way.back_mut() {
            job.begins = Some(Begins::Later { old });
        }
    }

    /// Notes that the job begun last replaces a log that began at `old` by one without entries that begins at `new`.
    pub(crate) fn note_reset(&mut self, old: Seq, new: Seq) {
        // On disk it may begin even earlier.
        let olds = self.under_way.iter().filter_map(|job| match job.begins? {
            Begins::Later { old } | Begins::Anew { old } => Some(old),
        });
        let old = olds.fold(old, Seq::min);
        if let Some(job) = self.under_way.back_mut() {
            job.begins = Some(Begins::Anew { old });
            job.end = Some(new);
        }
    }

    /// Notes that the job begun last changes the configurations from these.
    pub(crate) fn note_configurations(&mut self, before: Active) {
        if let Some(job) = self.under_way.back_mut() {
            job.active.get_or_insert(before);
        }
    }

    pub(crate) const fn is_done(&self, job: u64) -> bool {
        job <= self.done
    }

    pub(crate) const fn is_begun(&self, job: u64) -> bool {
        job <= self.begun
    }

    /// Takes a confirmation of that job and all before it; false if it says nothing new.
    pub(crate) fn finish(&mut self, number: u64) -> bool {
        if number <= self.done || number > self.begun {
            return false;
        }
        while let Some(job) = self.under_way.pop_front_if(|job| job.number <= number) {
            self.on_disk = job.end.unwrap_or(self.on_disk);
        }
        self.done = number;
        true
    }

    /// Whether one of the jobs up to that one, if it ends now, wrote entries.
    pub(crate) fn writes_entries(&self, number: u64) -> bool {
        self.under_way.iter().any(|job| job.number <= number && job.start.is_some())
    }

    /// Forgets that job and all after it. Returns, newest first, what each of them did.
    pub(crate) fn take_back(&mut self, number: u64) -> Vec<Job> {
        let mut taken = Vec::new();
        while let Some(job) = self.under_way.pop_back_if(|job| job.number >= number) {
            taken.push(job);
        }
        taken
    }

    /// After [`Jobs::take_back`], when all others are confirmed: nobody waits for any of those.
    pub(crate) const fn end_refusal(&mut self) {
        self.done = self.begun;
    }

    /// The end of what is on disk and will stay: entries that a job under way trims do not count.
    pub(crate) fn durable(&self) -> Seq {
        let ignored = planted::is(Bug::AckAfterTrim);
        let cut = |job: &Job| match (job.begins, &job.cut) {
            (Some(Begins::Anew { old }), _) => Some(old),
            (_, Some(cut)) => Some(cut.start),
            (_, None) => None,
        };
        let cuts = self.under_way.iter().filter(|_| !ignored).filter_map(cut);
        cuts.fold(self.on_disk, Seq::min)
    }

    /// The job after which everything before `end` is durable: the newest that writes some of it.
    pub(crate) fn job_for(&self, end: Seq) -> u64 {
        let touches = |job: &Job| {
            job.start.is_some_and(|start| start < end)
                || matches!(job.begins, Some(Begins::Anew { .. }))
        };
        let writer = self.under_way.iter().rev().find(|job| touches(job));
        writer.map_or(self.done, |job| job.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seq(number: u64) -> Seq {
        Seq::new(number)
    }

    /// `ack_after_trim`: entries 2..5 are being written, then trimmed and replaced by 2..4. The confirmation of
    /// the first write must not make anything from 2 on durable. Fails if `durable` ignores the trims.
    #[test]
    fn ack_after_trim() {
        let mut jobs = Jobs::new(seq(2));
        let first = jobs.begin();
        jobs.note(None, seq(2), seq(5));
        let second = jobs.begin();
        let cut = Span { start: seq(2), end: seq(5), terms: Vec::new() };
        jobs.note(Some(cut), seq(2), seq(4));
        assert!(jobs.finish(first));
        assert_eq!(jobs.durable(), seq(2));
        assert!(!jobs.finish(first), "a confirmation counts once");
        assert!(jobs.finish(second));
        assert_eq!(jobs.durable(), seq(4));
    }

    #[test]
    fn an_end_waits_for_the_newest_job_that_writes_below_it() {
        let mut jobs = Jobs::new(seq(0));
        for (start, end) in [(0, 2), (2, 5)] {
            jobs.begin();
            jobs.note(None, seq(start), seq(end));
        }
        let vote = jobs.begin();
        assert_eq!((jobs.job_for(seq(2)), jobs.job_for(seq(3)), jobs.job_for(seq(0))), (1, 2, 0));
        assert!(jobs.finish(vote), "a confirmation covers all jobs before it");
        assert_eq!((jobs.durable(), jobs.job_for(seq(5))), (seq(5), 3));
        assert!(!jobs.finish(4), "a job that was never begun is not confirmed");
    }
}
