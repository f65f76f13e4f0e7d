//! The simulator about itself: a seed is a run, and another seed is another run.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use tinyraftplus_sim::{Settings, run, run_many};

/// Fails if anything in a run depends on something else than its seed: an address, the time, the order of a
/// hash table.
#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..6 {
        let (first, second) = (run(seed, &Settings::default()), run(seed, &Settings::default()));
        assert_eq!((first.hash, first.counts), (second.hash, second.counts), "seed {seed}");
        let words = run(seed, &Settings { transcript: true, ..Settings::default() });
        assert_eq!(first.hash, words.hash, "a transcript changes nothing: seed {seed}");
        assert!(words.transcript.len() > 100);
    }
}

#[test]
fn different_seeds_give_different_runs() {
    let hashes: BTreeSet<u64> =
        (100..120).map(|seed| run(seed, &Settings::default()).hash).collect();
    assert_eq!(hashes.len(), 20);
}

/// Fails if results are reported as they come.
#[test]
fn seeds_are_reported_in_order_and_no_more_than_asked_for() {
    let mut seen = Vec::new();
    run_many(5..40, &Settings::default(), |run| {
        seen.push(run.seed);
        if run.seed == 16 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(seen, (5..=16).collect::<Vec<_>>());
}
