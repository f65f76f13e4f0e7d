//! Many seeds on all cores, reported in their order, so that the output depends on the seeds alone.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::run::{Run, Settings, run};

/// How many results may wait to be reported, each core.
const AHEAD: usize = 64;

/// Runs these seeds, as many at once as there are cores, and hands in the results in the order of the seeds,
/// until `report` breaks off.
pub fn run_many(
    seeds: Range<u64>,
    settings: Settings,
    mut report: impl FnMut(Run) -> ControlFlow<()>,
) {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let (next, is_over) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let (results, incoming) = mpsc::sync_channel(AHEAD * cores);
    thread::scope(|scope| {
        for _ in 0..cores {
            let results = results.clone();
            let (next, is_over, end) = (&next, &is_over, seeds.end);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || results.send(run(seed, settings)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        let mut waiting = BTreeMap::new();
        let mut due = seeds.start;
        'all: for done in incoming {
            waiting.insert(done.seed, done);
            while let Some(done) = waiting.remove(&due) {
                due += 1;
                if report(done).is_break() {
                    break 'all;
                }
            }
        }
        // Whoever still runs a seed finds nobody to tell, and ends.
        is_over.store(true, Ordering::Relaxed);
    });
}
