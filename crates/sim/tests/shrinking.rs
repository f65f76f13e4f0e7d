//! Shrinking, with something harmless in place of a failure: a suffix that had to be cut off.

use tinyraftplus_sim::{Less, Run, Settings, run, shrink};

const UNTIL: &str = "conflicting suffixes cut";

fn settings(less: Less) -> Settings {
    Settings { until: Some(UNTIL), transcript: true, less, ..Settings::default() }
}

/// What remains must still fail, be seen again by its flags alone, and be far shorter. Fails if nothing is left
/// out, or more than the failure survives.
#[test]
fn a_failure_is_shrunk_to_a_small_world_that_fails_too() {
    // Each try takes as many events as the failure does: one that comes late would get too few of them.
    let is_early = |run: &Run| run.failure.is_some() && run.size.lines < 10_000;
    let seed = (0..400).find(|&seed| is_early(&run(seed, &settings(Less::default())))).unwrap();
    let whole = run(seed, &settings(Less::default()));
    let shrunk = shrink(seed, &settings(Less::default()), 2_000_000).unwrap();
    let again = run(seed, &settings(shrunk.less.clone()));
    assert_eq!((again.hash, &again.failure), (shrunk.run.hash, &shrunk.run.failure));
    assert_eq!(again.failure.map(|failure| failure.check), Some("until"));
    let (before, after) = (whole.transcript.len(), again.transcript.len());
    assert!(after * 5 < before && after < 300, "from {before} lines to {after}");
    assert!(again.size.nodes <= 3 && again.size.calls.len() <= 5, "{:?}", again.size);
    let once_more = shrink(seed, &settings(Less::default()), 2_000_000).unwrap();
    assert_eq!(once_more.less, shrunk.less, "shrinking depends on the seed alone");
}

#[test]
fn a_seed_that_holds_is_not_shrunk() {
    assert!(shrink(1, &Settings::default(), 1_000).is_none());
}
