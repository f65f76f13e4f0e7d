//! What many seeds did together, and whether that is enough to believe them.

use tinyraftplus_sim::{Counts, Run};

/// At least this many seeds of a hundred must commit something while things break.
const COMMITTED_PERCENT: u64 = 80;
/// At most this many of a hundred may see no fault, besides those that are calm on purpose.
const IDLE_PERCENT: u64 = 5;
/// From so many seeds on, every fault and every transition must have happened.
const REACHES_ALL: u64 = 1000;

/// What many seeds did together.
#[derive(Default)]
pub(crate) struct Total {
    pub(crate) seeds: u64,
    pub(crate) counts: Counts,
    pub(crate) hash: u64,
    pub(crate) calm: u64,
    pub(crate) committed: u64,
    pub(crate) idle: u64,
    pub(crate) failed: Option<Run>,
}

impl Total {
    pub(crate) fn add(&mut self, run: Run) {
        let counts = &run.counts;
        self.seeds += 1;
        self.counts += run.counts;
        self.hash = self.hash.rotate_left(7) ^ run.hash;
        self.calm += u64::from(run.calm);
        self.committed += u64::from(counts.committed_safety > 0);
        self.idle += u64::from(!run.calm && !counts.saw_a_fault());
        if run.failure.is_some() {
            self.failed = Some(run);
        }
    }

    /// Why nothing follows from seeds that all held: they did too little.
    pub(crate) fn too_little(&self) -> Option<String> {
        if self.committed * 100 < self.seeds * COMMITTED_PERCENT {
            let (committed, seeds) = (self.committed, self.seeds);
            return Some(format!(
                "only {committed} of {seeds} seeds committed anything under faults"
            ));
        }
        if self.idle * 100 > self.seeds * IDLE_PERCENT {
            return Some(format!("{} of {} seeds saw no fault", self.idle, self.seeds));
        }
        let unreached = self.counts.unreached();
        if self.seeds >= REACHES_ALL && !unreached.is_empty() {
            return Some(format!(
                "in {} seeds there were no {}",
                self.seeds,
                unreached.join(", no ")
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(seeds: u64, committed: u64, idle: u64) -> Total {
        Total { seeds, committed, idle, ..Total::default() }
    }

    #[test]
    fn seeds_that_did_nothing_prove_nothing() {
        assert_eq!(total(100, 80, 5).too_little(), None);
        assert!(total(100, 79, 0).too_little().is_some_and(|why| why.contains("79 of 100")));
        assert!(total(100, 100, 6).too_little().is_some());
        let unreached = total(1000, 1000, 0).too_little();
        assert!(unreached.is_some_and(|why| why.contains("no blackouts")));
    }
}
