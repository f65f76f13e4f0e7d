//! A few seeds, as part of every test run. `cargo run --release -p tinyraftplus-sim` does more.

use std::ops::ControlFlow;

use tinyraftplus_sim::{Counts, Settings, run_many};

#[test]
fn a_few_seeds_hold_and_do_something() {
    let mut total = Counts::default();
    run_many(0..90, &Settings::default(), |run| {
        assert_eq!(run.failure, None, "seed {}", run.seed);
        total += run.counts;
        ControlFlow::Continue(())
    });
    let happened = [
        ("committed under faults", total.committed_safety),
        ("leaders", total.leaders),
        ("acknowledged", total.acknowledged),
        ("unknown", total.unknown),
        ("reads", total.reads_answered),
        ("kills", total.kills),
        ("power losses", total.power_losses),
        ("crashes in a write", total.crashed_writing),
        ("crashes in recovery", total.crashed_opening),
        ("torn groups", total.torn),
        ("sync failures", total.sync_failures),
        ("stalls", total.stalls),
        ("dropped", total.dropped),
        ("duplicated", total.duplicated),
        ("delayed", total.delayed),
        ("partitions", total.splits + total.isolated_leaders),
        ("segments", total.segments),
        ("reads of a log that fail", total.read_failures),
        ("conflicting suffixes", total.conflicts),
        ("reads on followers", total.read_on_follower),
        ("overtaken", total.overtaken),
        ("pauses", total.pauses),
    ];
    for (what, count) in happened {
        assert!(count > 0, "no {what} in 90 seeds: the simulator does not test that any more");
    }
}
