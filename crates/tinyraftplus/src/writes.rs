//! Writes that are not durable yet, and which of them were told to be stalled.

use std::collections::VecDeque;
use std::time::Duration;

use tinyraftplus_core::Time;

/// Invariant: jobs rise.
#[derive(Debug)]
pub(crate) struct Writes {
    /// Each with the time when it was handed out.
    under_way: VecDeque<(u64, Time)>,
    /// The newest one that was told, or that waited behind one that was.
    told: u64,
    limit: Duration,
}

impl Writes {
    pub(crate) const fn new(limit: Duration) -> Self {
        Self { under_way: VecDeque::new(), told: 0, limit }
    }

    pub(crate) fn begun(&mut self, job: u64, now: Time) {
        self.under_way.push_back((job, now));
    }

    /// That one, and so all before it, is durable.
    pub(crate) fn done(&mut self, job: u64) {
        while self.under_way.pop_front_if(|(written, _)| *written <= job).is_some() {}
    }

    /// That one and all after it were given back.
    pub(crate) fn refused(&mut self, job: u64) {
        while self.under_way.pop_back_if(|(refused, _)| *refused >= job).is_some() {}
    }

    /// That one was told to be stalled by somebody else.
    pub(crate) fn note_told(&mut self, job: u64) {
        self.told = self.told.max(job);
    }

    /// When to call [`Writes::overdue`].
    pub(crate) fn due_at(&self) -> Time {
        self.oldest().map_or(Time::NEVER, |(_, since)| since + self.limit)
    }

    /// The oldest write that has taken longer than the limit, if that was not told yet.
    pub(crate) fn overdue(&mut self, now: Time) -> Option<u64> {
        // The same write that `due_at` speaks of: else it would be due for ever, and the driver never rest.
        let (job, since) = self.oldest()?;
        if now < since + self.limit {
            return None;
        }
        self.told = self.under_way.back().map_or(job, |&(newest, _)| newest);
        Some(job)
    }

    fn oldest(&self) -> Option<(u64, Time)> {
        let told = self.under_way.partition_point(|(job, _)| *job <= self.told);
        self.under_way.get(told).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    /// A write hangs and is told; another one comes after it, and is told too when its time is up. In between,
    /// and afterwards, nothing is due. Fails if `overdue` looks at the oldest write of all, as the driver then
    /// comes back at full speed until the disk does.
    #[test]
    fn a_write_behind_a_stalled_one_does_not_keep_the_driver_busy() {
        let mut writes = Writes::new(Duration::from_secs(2));
        assert_eq!((writes.due_at(), writes.overdue(at(9))), (Time::NEVER, None));
        writes.begun(1, at(0));
        writes.begun(2, at(1));
        assert_eq!(writes.overdue(at(1)), None);
        assert_eq!(writes.due_at(), at(2));
        assert_eq!(writes.overdue(at(2)), Some(1));
        assert_eq!(writes.due_at(), Time::NEVER, "2 waits behind 1");
        writes.begun(3, at(3));
        assert_eq!(writes.due_at(), at(5));
        assert_eq!(writes.overdue(at(6)), Some(3));
        assert_eq!((writes.due_at(), writes.overdue(at(7))), (Time::NEVER, None));
        writes.begun(4, at(7));
        writes.note_told(4);
        assert_eq!(writes.due_at(), Time::NEVER);
        writes.done(4);
        writes.begun(5, at(8));
        writes.begun(6, at(8));
        writes.refused(5);
        assert_eq!(writes.due_at(), Time::NEVER, "nothing is under way");
        writes.begun(7, at(8));
        assert_eq!(writes.due_at(), at(10));
    }
}
