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

use std::ops::{ControlFlow, Range};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tinyraftplus_sim::{Counts, Run, Settings, run, run_many};

use crate::args::Args;

/// How many lines of transcript are shown with a failure.
const LINES_SHOWN: usize = 30;
/// At least this many seeds of a hundred must commit something while things break.
const COMMITTED_PERCENT: u64 = 80;

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(name) = &args.planted {
        return planted::find(name, &args);
    }
    match args.seed {
        Some(seed) => one(seed, &args),
        None => many(&args),
    }
}

/// Runs one seed and shows what it did.
fn one(seed: u64, args: &Args) -> ExitCode {
    let settings = Settings { transcript: args.trace, ..args.settings() };
    let run = run(seed, settings);
    for line in &run.transcript {
        say!("{line}");
    }
    if args.json {
        say!("{}", json(seed..seed + 1, &run.counts, run.failure.as_ref().map(|_| &run), run.hash));
    } else {
        say!("seed {seed}: trace {:016x}", run.hash);
        show(&run.counts, 1);
    }
    match &run.failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            say!("seed {seed} FAILED: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs many seeds and stops at the first that fails.
fn many(args: &Args) -> ExitCode {
    let start = args.start;
    let end = match args.budget {
        Some(_) => u64::MAX,
        None => start.saturating_add(args.seeds),
    };
    if !args.json {
        let range = match args.budget {
            Some(budget) => format!("seeds from {start} on, for {budget:?}"),
            None => format!("seeds {start}..{end}"),
        };
        say!("tinyraftplus-sim {}: {range}", env!("CARGO_PKG_VERSION"));
    }
    let mut total = Total::default();
    let clock = Clock::start();
    run_many(start..end, args.settings(), |run| {
        total.add(run);
        let time_is_up = args.budget.is_some_and(|budget| clock.elapsed() >= budget);
        if total.failed.is_some() || time_is_up {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let seeds = start..start + total.seeds;
    if args.json {
        say!("{}", json(seeds, &total.counts, total.failed.as_ref(), total.hash));
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
    total.verdict(args)
}

/// What many seeds did together.
#[derive(Default)]
struct Total {
    seeds: u64,
    counts: Counts,
    hash: u64,
    calm: u64,
    committed: u64,
    idle: u64,
    failed: Option<Run>,
}

impl Total {
    fn add(&mut self, run: Run) {
        let counts = &run.counts;
        let faults = [
            counts.kills,
            counts.power_losses,
            counts.restarts,
            counts.dropped,
            counts.duplicated,
            counts.delayed,
            counts.partitions,
            counts.pauses,
            counts.stalls,
            counts.full,
        ];
        self.seeds += 1;
        self.counts += run.counts;
        self.hash = self.hash.rotate_left(7) ^ run.hash;
        self.calm += u64::from(run.calm);
        self.committed += u64::from(counts.committed_safety > 0);
        self.idle += u64::from(!run.calm && faults.iter().all(|&count| count == 0));
        if run.failure.is_some() {
            self.failed = Some(run);
        }
    }

    fn verdict(&self, args: &Args) -> ExitCode {
        if let Some(run) = &self.failed {
            if !args.json {
                report(run, args);
            }
            return ExitCode::FAILURE;
        }
        if self.committed * 100 < self.seeds * COMMITTED_PERCENT {
            eprintln!("too few seeds committed anything: a run that does nothing finds nothing");
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

/// Says what failed, and how to see it again.
fn report(run: &Run, args: &Args) {
    let Some(failure) = &run.failure else {
        return;
    };
    let again = tinyraftplus_sim::run(run.seed, Settings { transcript: true, ..args.settings() });
    say!("");
    say!("seed {} FAILED: {failure}", run.seed);
    say!("the last events:");
    let skip = again.transcript.len().saturating_sub(LINES_SHOWN);
    for line in again.transcript.iter().skip(skip) {
        say!("  {line}");
    }
    let outside = if args.outside_only { " --outside-only" } else { "" };
    say!(
        "see it again: cargo run --release -p tinyraftplus-sim -- --seed {} --trace{outside}",
        run.seed
    );
}

fn show(counts: &Counts, seeds: u64) {
    for (name, count) in counts.list() {
        if seeds > 1 {
            say!("{count:>12} {name} ({} a seed)", tenths(count, seeds));
        } else {
            say!("{count:>12} {name}");
        }
    }
}

/// A mean with one decimal.
fn tenths(count: u64, seeds: u64) -> String {
    let tenths = count.saturating_mul(10) / seeds.max(1);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn json(seeds: Range<u64>, counts: &Counts, failed: Option<&Run>, hash: u64) -> serde_json::Value {
    let counts: serde_json::Map<_, _> = counts
        .list()
        .into_iter()
        .map(|(name, count)| (name.replace(' ', "_"), count.into()))
        .collect();
    let failed = failed.and_then(|run| {
        let failure = run.failure.as_ref()?;
        Some(serde_json::json!({ "seed": run.seed, "check": failure.check, "what": failure.what }))
    });
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "start": seeds.start,
        "seeds": seeds.end - seeds.start,
        "trace": format!("{hash:016x}"),
        "counts": counts,
        "failure": failed,
    })
}

/// The real clock: only for how long all of it may take, never inside a seed.
struct Clock(Instant);

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "a time budget is about real time; no seed sees it"
    )]
    fn start() -> Self {
        Self(Instant::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
