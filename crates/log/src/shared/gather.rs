//! Whether the next group waits a moment for the callers that were just told.
//!
//! Callers that append, wait and append again fall into two groups that take turns: one half is on its way back
//! while the other is written, so that each write carries half of them, and each caller waits for two writes.
//! They are all back soon after they were told. To wait for them makes one full group of two halves: twice as
//! much a write, and little more than half the time of a call.
//!
//! It is wrong to wait for callers that do not come back. So nobody waits longer than the last write took, and
//! nobody who is alone waits at all; and each time it did not pay, it is left out for twice as many groups as
//! the time before. `docs/decisions/004-groups-wait-for-their-callers.md` has what it gains and costs.

use std::time::{Duration, Instant};

/// A write that is over sooner is not worth waiting for.
const WRITE_MIN: Duration = Duration::from_micros(20);
/// Nobody waits longer, however slow the disk is.
const WAIT_MAX: Duration = Duration::from_millis(1);
/// After so many groups at the latest it is tried again.
const SKIPS_MAX: u32 = 255;

/// The waits, and what was learned from them.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    wait: Option<Wait>,
    /// The group that is being written was waited for.
    gathered: bool,
    /// For how many groups nobody waits from now on, and how many that were when it did not pay last.
    skip: u32,
    skips: u32,
}

/// A wait that is under way.
#[derive(Debug)]
struct Wait {
    /// How many calls the group has when all are back.
    all: usize,
    /// How many of them are enough to say that it paid.
    enough: usize,
    until: Instant,
    /// Somebody ends it then.
    watched: bool,
}

impl Gather {
    /// A group was written from `began` to `now`, and so many calls were told. So many wait for the next write
    /// already, `None` if nobody can join them: they are to wait for the others, or they are not.
    pub(crate) fn told(
        &mut self,
        told: usize,
        waiting: Option<usize>,
        began: Instant,
        now: Instant,
    ) {
        self.wait = None;
        let gathered = std::mem::take(&mut self.gathered);
        let Some(waiting) = waiting else { return };
        // All callers were in that group. Many others during its write: they come on their own, told or not.
        if gathered && waiting > told / 4 {
            self.did_not_pay();
        } else if gathered {
            self.skips /= 2;
        }
        let took = now.saturating_duration_since(began);
        if told + waiting < 2 || took < WRITE_MIN {
            return;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        self.wait = Some(Wait {
            all: told + waiting,
            enough: waiting + told.div_ceil(2),
            until: now + took.min(WAIT_MAX),
            watched: false,
        });
    }

    /// Whether a group of so many calls still waits for others.
    pub(crate) fn is_short(&self, calls: usize) -> bool {
        self.wait.as_ref().is_some_and(|wait| calls < wait.all)
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.wait.as_ref().is_some_and(|wait| wait.watched)
    }

    /// The caller is to end the wait at this time.
    pub(crate) fn watch(&mut self) -> Option<Instant> {
        let wait = self.wait.as_mut()?;
        wait.watched = true;
        Some(wait.until)
    }

    /// It does so, if the time has come for a group of so many calls; else somebody else must.
    pub(crate) fn stop_watching(&mut self, calls: usize, now: Instant) {
        match &mut self.wait {
            Some(wait) if now < wait.until => wait.watched = false,
            Some(_) => self.end(calls),
            None => {}
        }
    }

    /// Nobody can watch: the group is written as it is.
    pub(crate) fn give_up(&mut self) {
        self.wait = None;
    }

    /// A group of so many calls is about to be written.
    pub(crate) fn end(&mut self, calls: usize) {
        let Some(wait) = self.wait.take() else { return };
        if calls < wait.enough {
            self.did_not_pay();
        } else {
            self.gathered = true;
        }
    }

    fn did_not_pay(&mut self) {
        self.skips = (self.skips * 2 + 1).min(SKIPS_MAX);
        self.skip = self.skips;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: Duration = Duration::from_micros(100);

    /// A group was told, after a write of the usual time.
    fn told(gather: &mut Gather, told: usize, waiting: usize) -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let began = Instant::now();
        gather.told(told, Some(waiting), began, began + WRITE);
        began + WRITE
    }

    /// Of `groups` groups, how many wait, if of those told so many are back in time and so many others wait
    /// at the end of each write.
    fn waits(groups: usize, told_each: usize, back: usize, others: usize) -> usize {
        let mut gather = Gather::default();
        let mut waits = 0;
        for _ in 0..groups {
            let now = told(&mut gather, told_each, others);
            if gather.is_short(others) {
                waits += 1;
                assert!(gather.watch().is_some_and(|until| until <= now + WRITE));
            }
            gather.end(others + back);
        }
        waits
    }

    /// Fails if a caller that is alone waits for company.
    #[test]
    fn who_is_alone_waits_for_nobody() {
        assert_eq!(waits(1000, 1, 1, 0), 0);
    }

    /// Fails if callers that take turns are not brought together.
    #[test]
    fn two_halves_become_one() {
        let mut gather = Gather::default();
        told(&mut gather, 32, 32);
        assert!(gather.is_short(32) && gather.is_short(63) && !gather.is_short(64));
        gather.end(64);
        told(&mut gather, 64, 0);
        assert!(gather.is_short(63) && !gather.is_short(64));
        assert_eq!(waits(1000, 2, 2, 0), 1000);
    }

    /// Fails if it is tried as often where nobody comes back.
    #[test]
    fn what_does_not_pay_is_seldom_tried() {
        // 1, 3, 7 .. 255 groups apart, which takes 8 of them; then every 256th.
        assert_eq!(waits(255 + 256 * 20, 32, 0, 32), 8 + 20);
    }

    /// Fails if callers that come on their own are waited for: each write has as many new ones, told or not, and
    /// a wait only makes them later.
    #[test]
    fn who_comes_on_their_own_is_not_waited_for() {
        assert_eq!(waits(255 + 256 * 20, 32, 32, 32), 8 + 20);
    }

    /// Fails if a wait is not over in time, or its watcher ends another's.
    #[test]
    fn a_wait_is_over_in_time() {
        let mut gather = Gather::default();
        let now = told(&mut gather, 4, 4);
        assert!(!gather.is_watched());
        assert_eq!(gather.watch(), Some(now + WRITE));
        assert!(gather.is_watched());
        gather.stop_watching(4, now);
        assert!(gather.is_short(4) && !gather.is_watched());
        gather.stop_watching(4, now + WRITE);
        assert!(!gather.is_short(4));
    }

    /// Fails if a fast log's callers wait, or a slow disk's for as long as it takes.
    #[test]
    fn waits_are_as_long_as_writes_within_limits() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let began = Instant::now();
        let mut gather = Gather::default();
        gather.told(8, Some(8), began, began + WRITE_MIN / 2);
        assert!(gather.watch().is_none());
        let now = began + Duration::from_secs(3);
        gather.told(8, Some(8), began, now);
        assert_eq!(gather.watch(), Some(now + WAIT_MAX));
    }
}
