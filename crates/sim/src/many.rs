//! Many seeds on all cores, reported in their order, so that the output depends on the seeds alone.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::run::{Run, Settings, run};

/// How many results may wait to be reported, each core.
const AHEAD: usize = 64;

/// Runs these seeds, as many at once as there are cores, and hands in the results in the order of the seeds,
/// until `report` breaks off.
pub fn run_many(
    seeds: Range<u64>,
    settings: &Settings,
    report: impl FnMut(Run) -> ControlFlow<()>,
) {
    let count = usize::try_from(seeds.end.saturating_sub(seeds.start)).unwrap_or(usize::MAX);
    in_order(count, |place| run(seeds.start + place as u64, settings), report);
}

/// Does `count` things, as many at once as there are cores, and hands in the results in order, until `report`
/// breaks off.
pub(crate) fn in_order<T: Send>(
    count: usize,
    work: impl Fn(usize) -> T + Sync,
    mut report: impl FnMut(T) -> ControlFlow<()>,
) {
    let cores = thread::available_parallelism().map_or(1, NonZero::get).min(count);
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (results, incoming) = mpsc::sync_channel(AHEAD * cores);
    thread::scope(|scope| {
        for _ in 0..cores {
            let results = results.clone();
            let (next, is_over, work) = (&next, &is_over, &work);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    if place >= count || results.send((place, work(place))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        let mut waiting = BTreeMap::new();
        let mut due = 0;
        'all: for (place, done) in incoming {
            waiting.insert(place, done);
            while let Some(done) = waiting.remove(&due) {
                due += 1;
                if report(done).is_break() {
                    break 'all;
                }
            }
        }
        // Whoever still works finds nobody to tell, and ends.
        is_over.store(true, Ordering::Relaxed);
    });
}
