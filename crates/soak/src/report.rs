//! What a soak did and found.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::check::Finding;
use crate::clients::Counts;
use crate::faults::Kind;

/// What a soak did and found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) network: &'static str,
    pub(crate) rounds: u64,
    /// How often each kind was tried, and how often it was seen to have happened.
    pub(crate) faults: BTreeMap<Kind, (u64, u64)>,
    pub(crate) calls: Counts,
    /// Appends that were committed while a fault lasted.
    pub(crate) committed_under_faults: u64,
    pub(crate) entries: u64,
    pub(crate) term: u64,
    /// From the end of each fault until an append through each node was committed.
    pub(crate) progress: Vec<Duration>,
    pub(crate) time: Duration,
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    /// Why the run proves nothing, if it does not.
    pub(crate) fn too_little(&self) -> Option<&'static str> {
        if self.faults.values().all(|(_, seen)| *seen == 0) {
            return Some("no fault happened: nothing was tested");
        }
        if self.calls.committed == 0 {
            return Some("nothing was committed: nothing was tested");
        }
        if self.calls.read == 0 {
            return Some("nothing was read: no read was tested");
        }
        None
    }

    pub(crate) fn json(&self) -> Value {
        let faults: serde_json::Map<String, Value> = self
            .faults
            .iter()
            .map(|(kind, (tried, seen))| {
                (kind.name().replace(' ', "_"), json!({ "tried": tried, "seen": seen }))
            })
            .collect();
        let calls = &self.calls;
        json!({
            "seed": self.seed,
            "network": self.network,
            "rounds": self.rounds,
            "seconds": self.time.as_secs_f64(),
            "faults": faults,
            "appends": {
                "committed": calls.committed,
                "committed_under_faults": self.committed_under_faults,
                "refused": calls.refused,
                "unknown": calls.unknown,
                "why_not": calls.reasons,
            },
            "reads": { "answered": calls.read, "failed": calls.not_read },
            "entries": self.entries,
            "term": self.term,
            "progress_seconds": {
                "median": quantile(&self.progress, 50).as_secs_f64(),
                "worst": quantile(&self.progress, 100).as_secs_f64(),
            },
            "findings": self.findings.iter().map(Finding::to_string).collect::<Vec<_>>(),
            "too_little": self.too_little(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = &self.calls;
        writeln!(
            f,
            "{} rounds on {} in {:.0} s, seed {}",
            self.rounds,
            self.network,
            self.time.as_secs_f64(),
            self.seed
        )?;
        writeln!(f, "faults, tried and seen to have happened:")?;
        for (kind, (tried, seen)) in &self.faults {
            writeln!(f, "{tried:>10} {seen:>6} {}", kind.name())?;
        }
        writeln!(f, "appends:")?;
        let under = self.committed_under_faults;
        writeln!(f, "{:>10} committed, {under} of them under a fault", calls.committed)?;
        writeln!(f, "{:>10} refused", calls.refused)?;
        writeln!(f, "{:>10} unknown", calls.unknown)?;
        for (why, count) in &calls.reasons {
            writeln!(f, "{count:>17} {why}")?;
        }
        writeln!(f, "reads:\n{:>10} answered\n{:>10} failed", calls.read, calls.not_read)?;
        writeln!(f, "{} entries in the end, term {}", self.entries, self.term)?;
        write!(
            f,
            "after a fault an append through each node was committed within {:?} (median), {:?} (worst)",
            quantile(&self.progress, 50),
            quantile(&self.progress, 100)
        )
    }
}

/// The smallest that so many percent of them do not exceed, in whole milliseconds.
pub(crate) fn quantile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    let time = sorted.get(place).copied().unwrap_or_default();
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_did_nothing_proves_nothing() {
        let mut report = Report::default();
        assert!(report.too_little().is_some());
        report.faults.insert(Kind::KillOne, (3, 0));
        report.calls = Counts { committed: 1, read: 1, ..Counts::default() };
        assert!(report.too_little().unwrap().contains("no fault"));
        report.faults.insert(Kind::KillOne, (3, 1));
        assert_eq!(report.too_little(), None);
        report.calls.committed = 0;
        assert!(report.too_little().unwrap().contains("committed"));
    }

    #[test]
    fn quantiles_are_of_what_was_measured() {
        let times = [30, 10, 20, 40].map(Duration::from_millis);
        assert_eq!(quantile(&times, 50), Duration::from_millis(20));
        assert_eq!(quantile(&times, 100), Duration::from_millis(40));
        assert_eq!(quantile(&[], 50), Duration::ZERO);
    }
}
