//! The simulator on the command line: runs seeds, says what did not hold and how to see it again.
//!
//! Exit codes: 0 everything held, 1 something did not (or a planted bug was not found), 2 usage.

/// Prints a line. Whoever reads may have had enough (`| head`): that is no reason to fail.
macro_rules! say {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($what)*);
    }};
}

mod args;
mod planted;
mod progress;
mod report;
mod total;

use std::ops::{ControlFlow, Range};
use std::process::ExitCode;

use clap::Parser;
use tinyraftplus_sim::{Counts, Kind, Run, Settings, run, run_many};

use crate::args::Args;
use crate::progress::{Clock, Progress};
use crate::total::Total;

fn main() -> ExitCode {
    let args = Args::parse();
    match (args.seed, &args.planted) {
        (Some(seed), None) => one(seed, &args),
        (Some(seed), Some(name)) => planted::one(name, || one(seed, &args)),
        (None, Some(name)) => planted::find(name, &args),
        (None, None) => many(&args),
    }
}

/// Runs one seed and shows what it did.
fn one(seed: u64, args: &Args) -> ExitCode {
    let settings = Settings { transcript: args.show.trace, ..args.settings() };
    let run = run(seed, &settings);
    for line in &run.transcript {
        say!("{line}");
    }
    let failed = run.failure.as_ref().map(|_| &run);
    if args.show.json {
        say!("{}", json(seed..seed.saturating_add(1), &run.counts, failed, run.hash, args));
    } else {
        say!("seed {seed}: trace {:016x}", run.hash);
        show(&run.counts, 1);
    }
    let Some(failure) = &run.failure else {
        return ExitCode::SUCCESS;
    };
    if args.show.shrink && !args.show.json {
        report::report(&run, args);
    } else if !args.show.json {
        say!("seed {seed} FAILED: {failure}");
    }
    ExitCode::FAILURE
}

/// Runs many seeds and stops at the first that fails.
fn many(args: &Args) -> ExitCode {
    let start = args.start;
    let end = match args.budget {
        Some(_) => u64::MAX,
        None => start.saturating_add(args.seeds),
    };
    if !args.show.json {
        let range = match args.budget {
            Some(budget) => format!("seeds from {start} on, for {budget:?}"),
            None => format!("seeds {start}..{end}"),
        };
        say!("tinyraftplus-sim {}: {range}", env!("CARGO_PKG_VERSION"));
    }
    let mut total = Total::default();
    let clock = Clock::start();
    let mut progress = Progress::new(args.budget, args.seeds);
    run_many(start..end, &args.settings(), |run| {
        total.add(run);
        progress.show(&clock, &total);
        let time_is_up = args.budget.is_some_and(|budget| clock.elapsed() >= budget);
        if total.failed.is_some() || time_is_up {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    progress.clear();
    if args.show.json {
        let seeds = start..start + total.seeds;
        say!("{}", json(seeds, &total.counts, total.failed.as_ref(), total.hash, args));
    } else {
        say!(
            "{} seeds in {:.1} s, all traces together {:016x}",
            total.seeds,
            clock.elapsed().as_secs_f64(),
            total.hash
        );
        show(&total.counts, total.seeds);
        say!(
            "{} of {} seeds committed something under faults; {} were calm on purpose, {} others saw no fault",
            total.committed,
            total.seeds,
            total.calm,
            total.idle
        );
    }
    verdict(&total, args)
}

fn verdict(total: &Total, args: &Args) -> ExitCode {
    if let Some(run) = &total.failed {
        if !args.show.json {
            report::report(run, args);
        }
        return ExitCode::FAILURE;
    }
    if let Some(why) = total.too_little() {
        eprintln!("{why}: what does not happen is not tested");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn show(counts: &Counts, seeds: u64) {
    let mut kind = Kind::Work;
    for count in counts.list() {
        if count.kind != kind {
            kind = count.kind;
            say!("{}", if kind == Kind::Fault { "faults:" } else { "what nodes went through:" });
        }
        let (name, value) = (count.name, count.value);
        if seeds > 1 {
            say!("{value:>12} {name} ({} a seed)", tenths(value, seeds));
        } else {
            say!("{value:>12} {name}");
        }
    }
}

/// A mean with one decimal.
fn tenths(count: u64, seeds: u64) -> String {
    let tenths = count.saturating_mul(10) / seeds.max(1);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn json(
    seeds: Range<u64>,
    counts: &Counts,
    failed: Option<&Run>,
    hash: u64,
    args: &Args,
) -> serde_json::Value {
    let of = |kind| -> serde_json::Map<String, serde_json::Value> {
        let counts = counts.list().into_iter().filter(|count| count.kind == kind);
        counts.map(|count| (count.name.replace(' ', "_"), count.value.into())).collect()
    };
    let failed = failed.and_then(|run| {
        let failure = run.failure.as_ref()?;
        let shrunk = report::shrunk(run, args)?;
        let smaller = Settings { less: shrunk.less, ..args.settings() };
        Some(serde_json::json!({
            "seed": run.seed,
            "check": failure.check,
            "what": failure.what,
            "lines": run.size.lines,
            "again": report::command(run.seed, &args.settings(), args),
            "shrunk_lines": shrunk.run.size.lines,
            "shrunk": report::command(run.seed, &smaller, args),
        }))
    });
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "start": seeds.start,
        "seeds": seeds.end - seeds.start,
        "trace": format!("{hash:016x}"),
        "counts": of(Kind::Work),
        "faults": of(Kind::Fault),
        "transitions": of(Kind::Transition),
        "failure": failed,
    })
}
