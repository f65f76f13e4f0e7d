//! Bugs on purpose: takes protections away, one after the other, and counts the seeds until that is noticed.

use std::process::ExitCode;

use crate::args::Args;

/// Without the build flag there is nothing to plant.
#[cfg(not(planted))]
pub(crate) fn find(_name: &str, _args: &Args) -> ExitCode {
    eprintln!(
        "this build has no planted bugs; build it with them:\n  RUSTFLAGS=\"--cfg planted\" cargo run --release --target-dir target/planted -p tinyraftplus-sim -- --planted all --seeds 1000"
    );
    ExitCode::from(2)
}

/// Plants each bug that is asked for, and says after how many seeds which check found it.
#[cfg(planted)]
pub(crate) fn find(name: &str, args: &Args) -> ExitCode {
    use std::ops::ControlFlow;

    use tinyraftplus_core::planted::plant;

    let bugs: Vec<_> =
        ALL.into_iter().filter(|(known, _)| name == "all" || name == *known).collect();
    if bugs.is_empty() {
        let known: Vec<_> = ALL.into_iter().map(|(known, _)| known).collect();
        eprintln!("there is no planted bug {name:?}; there are: all, {}", known.join(", "));
        return ExitCode::from(2);
    }
    let seeds = args.start..args.start.saturating_add(args.seeds);
    say!("tinyraftplus-sim {}: planted bugs, seeds {seeds:?}", env!("CARGO_PKG_VERSION"));
    let mut all_found = true;
    for (name, bug) in bugs {
        plant(Some(bug));
        let mut found = None;
        tinyraftplus_sim::run_many(seeds.clone(), &args.settings(), |run| match run.failure {
            Some(failure) => {
                found = Some((run.seed, failure));
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        });
        plant(None);
        all_found &= found.is_some();
        if let Some((seed, failure)) = found {
            let count = seed - seeds.start + 1;
            say!("{name}: found at seed {seed}, after {count} seeds, by \"{}\"", failure.check);
            say!("    {}", failure.what);
        } else {
            say!("{name}: NOT found in {} seeds", args.seeds);
        }
    }
    if all_found { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(planted)]
use tinyraftplus_core::planted::Bug;

/// Every bug by the name it has on the command line.
#[cfg(planted)]
const ALL: [(&str, Bug); 6] = [
    ("forget-vote", Bug::ForgetVote),
    ("commit-old-term", Bug::CommitOldTerm),
    ("ack-before-sync", Bug::AckBeforeSync),
    ("short-quorum", Bug::ShortQuorum),
    ("keep-conflict", Bug::KeepConflict),
    ("unconfirmed-read", Bug::UnconfirmedRead),
];
