//! `tinyraftplus bench`: appends of a cluster, beside what the disk itself can do.
//!
//! Rows and limits take their turns in one run, on one disk: compare them with each other, not with another machine's.

mod catch_up;
mod check;
mod child;
mod cluster;
mod disk;
mod host;
mod latency;
mod load;
mod options;
mod plot;
mod progress;
mod protocol;
mod rows;
mod stamps;
mod svg;
mod table;
mod usage;
mod worker;

use crate::error::{Error, explain};
pub(crate) use latency::{histogram, payload, record};
use options::{Options, duration};
use plot::Plot;
use progress::Progress;
use rows::Measured;
use std::path::Path;
use std::time::Duration;
use table::Report;
use tokio::signal::unix::{SignalKind, signal};
pub(crate) use usage::cpu_time;

/// A limit of the disk is measured no longer than this in a round.
const LIMIT_TIME: Duration = Duration::from_secs(1);

/// What the benchmark is asked for.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Each row runs in processes of its own. Flags that end in ,.. take a list, and there is a row for each combination:\n\
                  `--log mem --nodes 3,5,7,9,15 --clients 64` shows what more nodes cost. `tinyraftplus log bench` measures a log alone."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Measure how fast a follower that is far behind catches up
    CatchUp(catch_up::Args),
    /// Host nodes, for a benchmark that is running
    #[command(hide = true)]
    Worker,
}

/// Runs the benchmark.
pub(crate) async fn run(args: Args) -> Result<(), Error> {
    match args.command {
        Some(Command::Worker) => worker::run().await,
        Some(Command::CatchUp(args)) => unless_interrupted(catch_up::run(&args)).await,
        None => unless_interrupted(appends(&args.options)).await,
    }
}

/// Whoever is told to stop ends its processes and removes its files first.
async fn unless_interrupted(work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    let listen = |kind| {
        signal(kind).map_err(|error| Error::failed(explain("can't listen to signals", &error)))
    };
    let (mut interrupt, mut terminate, mut hangup) = (
        listen(SignalKind::interrupt())?,
        listen(SignalKind::terminate())?,
        listen(SignalKind::hangup())?,
    );
    // All that belongs to the work is dropped before this returns.
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
        done = work => return done,
    }
    Err(Error::failed("interrupted; no process and no file is left"))
}

async fn appends(options: &Options) -> Result<(), Error> {
    options.check()?;
    let dir = options::directory(options.dir.as_deref())?;
    let rows = rows::rows(options);
    let limits = rows::limits(&rows);
    if !options.json {
        crate::out::line(format_args!(
            "{} bytes an entry, {} a call; {} rows, about {:.0} s.",
            options.payload,
            if options.batch == 1 { "one".to_owned() } else { options.batch.to_string() },
            rows.len(),
            about(options, rows.len(), limits.len())
        ));
    }
    let report = measure(options, dir.path(), rows, limits).await?;
    if options.json {
        crate::out::line(format_args!("{}", report.json()));
    } else {
        report.print();
    }
    let Some(plot) = Plot::of(&report.rows) else { return Ok(()) };
    if !options.json {
        plot.print();
    }
    if let Some(file) = &options.plot {
        std::fs::write(file, svg::draw(&plot)).map_err(|error| {
            Error::failed(explain(format_args!("can't write {}", file.display()), &error))
        })?;
    }
    Ok(())
}

/// About how many seconds all of it takes: a cluster needs one to elect a leader.
fn about(options: &Options, rows: usize, limits: usize) -> f64 {
    let row = 1.3 + options.warmup + options.seconds;
    let limit = options.seconds.min(LIMIT_TIME.as_secs_f64());
    let count = |count: usize| rows::float(count as u64);
    rows::float(options.rounds) * (count(rows) * row + count(limits) * limit)
}

/// In each round all limits and all rows, one after the other: on a shared machine the disk changes.
async fn measure<'a>(
    options: &'a Options,
    dir: &Path,
    rows: Vec<rows::Row>,
    limits: Vec<disk::Limit>,
) -> Result<Report<'a>, Error> {
    let (mut rows, mut limits) = (Measured::all(rows), Measured::all(limits));
    let rounds = usize::try_from(options.rounds).unwrap_or(usize::MAX);
    let progress = Progress::new((limits.len() + rows.len()).saturating_mul(rounds));
    for _ in 0..rounds {
        for limit in &mut limits {
            progress.begin(&limit.what);
            limit.rounds.push(measure_limit(limit.what, dir, options).await?);
            progress.done();
        }
        for row in &mut rows {
            progress.begin(&row.what);
            let sample = row.what.measure(options, dir).await;
            let sample = sample.map_err(|why| Error::failed(format!("{}: {why}", row.what)))?;
            row.rounds.push(sample);
            progress.done();
        }
    }
    Ok(Report { options, limits, rows })
}

/// Elsewhere, so that signals are heard meanwhile.
async fn measure_limit(
    limit: disk::Limit,
    dir: &Path,
    options: &Options,
) -> Result<disk::Writes, Error> {
    let (dir, time) = (dir.to_owned(), duration(options.seconds).min(LIMIT_TIME));
    let measured = tokio::task::spawn_blocking(move || limit.measure(&dir, time)).await;
    measured.map_err(|error| Error::failed(explain("the disk could not be measured", &error)))?
}
