//! Bugs on purpose: takes protections away, one after the other, and counts the seeds until that is noticed.

#[cfg(not(planted))]
use std::process::ExitCode;

#[cfg(not(planted))]
use crate::args::Args;

/// Without the build flag there is nothing to plant.
#[cfg(not(planted))]
pub(crate) fn find(_name: &str, _args: &Args) -> ExitCode {
    eprintln!(
        "this build has no planted bugs; build it with them:\n  RUSTFLAGS=\"--cfg planted\" cargo run --release --target-dir target/planted -p tinyraftplus-sim -- --planted all --seeds 1000"
    );
    ExitCode::from(2)
}

/// Without the build flag there is nothing to plant.
#[cfg(not(planted))]
pub(crate) fn one(name: &str, _run: impl FnOnce() -> ExitCode) -> ExitCode {
    let _ = name;
    eprintln!("this build has no planted bugs; build it with RUSTFLAGS=\"--cfg planted\"");
    ExitCode::from(2)
}

#[cfg(planted)]
pub(crate) use with_bugs::{find, one};

#[cfg(planted)]
mod with_bugs {
    use std::ops::ControlFlow;
    use std::process::ExitCode;

    use tinyraftplus_core::planted::{Bug, plant};
    use tinyraftplus_sim::{Run, run_many};

    use crate::args::Args;
    use crate::report;

    /// Does something in a world with that bug.
    pub(crate) fn one(name: &str, run: impl FnOnce() -> ExitCode) -> ExitCode {
        let Some(&bug) = Bug::ALL.iter().find(|bug| bug.name() == name) else {
            return unknown(name);
        };
        plant(Some(bug));
        run()
    }

    /// Plants each bug that is asked for, and says after how many seeds which check found it.
    pub(crate) fn find(name: &str, args: &Args) -> ExitCode {
        let bugs: Vec<Bug> =
            Bug::ALL.iter().copied().filter(|bug| name == "all" || name == bug.name()).collect();
        if bugs.is_empty() {
            return unknown(name);
        }
        let starts: Vec<u64> =
            (0..args.starts).map(|at| args.start.saturating_add(at * 10_000)).collect();
        say!(
            "tinyraftplus-sim {}: planted bugs, at most {} seeds from each of {starts:?}",
            env!("CARGO_PKG_VERSION"),
            args.seeds
        );
        say!("{:<24} {:>6}  {:<28} {}", "bug", "median", "seeds from each start", "found by");
        let mut all_found = true;
        for bug in bugs {
            all_found &= tell(bug, &starts, args);
        }
        if all_found { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Looks for one bug, from each start; says how that went, and whether it was found every time.
    fn tell(bug: Bug, starts: &[u64], args: &Args) -> bool {
        plant(Some(bug));
        let found: Vec<Option<Run>> = starts.iter().map(|&start| search(start, args)).collect();
        let counts = starts.iter().zip(&found);
        let counts =
            counts.map(|(start, run)| run.as_ref().map_or(u64::MAX, |run| run.seed - start + 1));
        let mut counts: Vec<u64> = counts.collect();
        let word = |&count: &u64| {
            if count == u64::MAX { "never".to_owned() } else { count.to_string() }
        };
        let each = counts.iter().map(word).collect::<Vec<_>>().join(" ");
        counts.sort_unstable();
        let median = counts.get(counts.len() / 2).map(word).unwrap_or_default();
        let mut checks: Vec<&str> =
            found.iter().flatten().filter_map(|run| Some(run.failure.as_ref()?.check)).collect();
        checks.sort_unstable();
        checks.dedup();
        say!("{:<24} {median:>6}  {each:<28} {}", bug.name(), checks.join(", "));
        if args.show.shrink {
            for run in found.iter().flatten() {
                if let Some(shrunk) = report::shrunk(run, args) {
                    say!("    seed {}: {}", run.seed, report::in_words(run, &shrunk));
                    say!("      --seed {}{}", run.seed, shrunk.less);
                }
            }
        }
        plant(None);
        found.iter().all(Option::is_some)
    }

    /// The first seed that fails.
    fn search(start: u64, args: &Args) -> Option<Run> {
        let mut found = None;
        let seeds = start..start.saturating_add(args.seeds);
        run_many(seeds, &args.settings(), |run| {
            found = Some(run).filter(|run| run.failure.is_some());
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found
    }

    fn unknown(name: &str) -> ExitCode {
        let known: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        eprintln!("there is no planted bug {name:?}; there are: all, {}", known.join(", "));
        ExitCode::from(2)
    }
}
