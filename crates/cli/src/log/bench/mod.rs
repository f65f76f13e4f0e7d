//! `tinyraftplus log bench`: one log on this disk, beside what the disk itself can do.
//!
//! Everything is measured in one run, in rounds that take their turns, because a disk that others use is not the
//! same from one minute to the next. A figure is the median of its rounds; a ratio compares it with the fastest
//! limit of the same kind of write, from the same rounds. Compare them with each other, not with another machine's.

mod limits;
mod reading;
mod writing;

use crate::bench::cpu_time;
use crate::error::{Error, explain};
use hdrhistogram::Histogram;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tinyraftplus_log::{LogError, OsDisk};

/// What is to be measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory on the disk to measure; what is written goes into a new one below it, removed afterwards
    dir: PathBuf,
    /// Seconds that a workload takes in each round
    #[arg(long, default_value_t = 2, value_name = "SECONDS")]
    seconds: u64,
    /// How many rounds
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    rounds: usize,
    /// Measure only these, and the limits they are compared with
    #[arg(long, num_args = 1.., value_name = "NAME")]
    only: Vec<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// One thing to measure.
struct Workload {
    name: &'static str,
    what: &'static str,
    /// Bytes of an entry.
    payload: u64,
    /// What it is compared with: the fastest of these.
    limits: &'static [&'static str],
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Limit(limits::Limit),
    Write(writing::Load),
    Read(reading::Load),
}

const SYNCED: &[&str] = &["disk-dsync", "disk-fdatasync"];
const GROWING: &[&str] = &["disk-growing"];
const OVER: &[&str] = &["disk-over"];
const MANY: &[&str] = &["disk-64k"];

#[rustfmt::skip]
const WORKLOADS: &[Workload] = &[
    limit("disk-dsync", "the disk: 1 KiB, O_DSYNC", limits::Limit::Dsync),
    limit("disk-fdatasync", "the disk: 1 KiB, fdatasync", limits::Limit::Fdatasync),
    write("one", "one writer, 1 KiB each", SYNCED, writing::Load::One),
    write("one-shared", "the same, a blocking handle", SYNCED, writing::Load::OneShared),
    write("one-async", "the same, an async handle", SYNCED, writing::Load::OneAsync),
    limit("disk-64k", "the disk: 64 KiB a sync", limits::Limit::Sync64),
    write("threads", "64 threads, 1 KiB each", MANY, writing::Load::Threads),
    write("async", "64 in flight, 1 KiB each", MANY, writing::Load::Async),
    limit("disk-growing", "the disk: 1,000 KiB, file grows", limits::Limit::Growing),
    write("batch", "batches of 1,000 x 1 KiB", GROWING, writing::Load::Batch),
    write("batch-encrypted", "the same, encrypted", GROWING, writing::Load::BatchEncrypted),
    write("txn", "transactions of 1,000 x 1 KiB", GROWING, writing::Load::Txn),
    limit("disk-over", "the disk: 1,000 KiB, overwritten", limits::Limit::Over),
    write("batch-recycled", "batches, compacted, space reused", OVER, writing::Load::BatchRecycled),
    read("open", "open a log of 1,000,000 x 100 B", 100, reading::Load::Open),
    read("open-segments", "the same in 100 segments", 100, reading::Load::OpenSegments),
    read("iterate-100", "iterate, 100 B", 100, reading::Load::Iterate),
    read("iterate-1k", "iterate, 1 KiB", 1024, reading::Load::Iterate),
    read("iterate-encrypted", "iterate, 1 KiB, encrypted", 1024, reading::Load::Decrypt),
];

const fn limit(name: &'static str, what: &'static str, limit: limits::Limit) -> Workload {
    Workload { name, what, payload: 1024, limits: &[], kind: Kind::Limit(limit) }
}

const fn write(
    name: &'static str,
    what: &'static str,
    limits: &'static [&'static str],
    load: writing::Load,
) -> Workload {
    Workload { name, what, payload: 1024, limits, kind: Kind::Write(load) }
}

const fn read(
    name: &'static str,
    what: &'static str,
    payload: u64,
    load: reading::Load,
) -> Workload {
    Workload { name, what, payload, limits: &[], kind: Kind::Read(load) }
}

/// What one round of one workload measured.
struct Sample {
    /// Entries, or openings.
    count: u64,
    time: Duration,
    /// Of the calls, each of which may be many entries.
    latency: Histogram<u64>,
    cpu: Option<Duration>,
}

/// Counts while a workload runs.
struct Meter {
    began: Instant,
    cpu: Option<Duration>,
    until: Instant,
    count: u64,
    latency: Histogram<u64>,
}

impl Meter {
    fn new(time: Duration) -> Self {
        let began = Instant::now();
        Self {
            began,
            cpu: cpu_time(),
            until: began + time,
            count: 0,
            latency: crate::bench::histogram(),
        }
    }

    fn goes_on(&self) -> bool {
        self.count == 0 || Instant::now() < self.until
    }

    /// A call is over that began then and was for so many entries.
    fn add(&mut self, began: Instant, count: u64) {
        crate::bench::record(&mut self.latency, began.elapsed());
        self.count += count;
    }

    fn end(self) -> Sample {
        let cpu = cpu_time().zip(self.cpu).map(|(now, then)| now.saturating_sub(then));
        Sample { count: self.count, time: self.began.elapsed(), latency: self.latency, cpu }
    }
}

/// Runs the benchmark.
pub(crate) async fn run(args: Args) -> Result<(), Error> {
    if !(1..=3600).contains(&args.seconds) || !(1..=1000).contains(&args.rounds) {
        return Err(Error::usage("--seconds must be 1 to 3600, --rounds 1 to 1000"));
    }
    let chosen = choose(&args.only)?;
    if OsDisk::existing(&args.dir).is_none() {
        return Err(Error::usage(format!("{} is not a directory; name one", args.dir.display())));
    }
    let dir = tempfile::Builder::new().prefix("tinyraftplus-log-bench-").tempdir_in(&args.dir);
    let dir =
        dir.map_err(|error| Error::usage(explain("can't make a directory below it", &error)))?;
    let time = Duration::from_secs(args.seconds);
    let mut samples: Vec<Vec<Sample>> = chosen.iter().map(|_| Vec::new()).collect();
    let mut logs = reading::Logs::new(dir.path());
    for round in 1..=args.rounds {
        for (workload, samples) in chosen.iter().zip(&mut samples) {
            samples.push(measure(workload, dir.path(), &mut logs, time).await?);
        }
        if !args.json {
            crate::out::error_line(format_args!("round {round} of {} is over", args.rounds));
        }
    }
    let rows: Vec<Row> =
        chosen.iter().zip(&samples).map(|(it, samples)| Row::of(it, samples)).collect();
    print(&args, &rows);
    Ok(())
}

/// The workloads with these names, and the limits they are compared with.
fn choose(only: &[String]) -> Result<Vec<&'static Workload>, Error> {
    if let Some(name) = only.iter().find(|name| WORKLOADS.iter().all(|it| it.name != **name)) {
        let names: Vec<_> = WORKLOADS.iter().map(|it| it.name).collect();
        return Err(Error::usage(format!("--only {name}: there are {}", names.join(", "))));
    }
    let named = |it: &Workload| only.is_empty() || only.iter().any(|name| name == it.name);
    let needed = |it: &Workload| {
        WORKLOADS.iter().any(|other| named(other) && other.limits.contains(&it.name))
    };
    Ok(WORKLOADS.iter().filter(|it| named(it) || needed(it)).collect())
}

async fn measure(
    workload: &Workload,
    dir: &Path,
    logs: &mut reading::Logs,
    time: Duration,
) -> Result<Sample, Error> {
    match workload.kind {
        Kind::Limit(limit) => limits::run(limit, dir, time)
            .map_err(|error| Error::failed(explain("can't measure the disk", &error))),
        Kind::Write(load) => {
            let own = tempfile::tempdir_in(dir)
                .map_err(|error| Error::failed(explain("can't make a directory", &error)))?;
            writing::run(load, own.path(), time).await.map_err(|error| failed(&error))
        }
        Kind::Read(load) => logs.run(load, workload.payload, time).map_err(|error| failed(&error)),
    }
}

fn failed(error: &LogError) -> Error {
    Error::failed(explain("the log failed", error))
}

/// A line of the table.
struct Row {
    workload: &'static Workload,
    rates: Vec<f64>,
    micros: [f64; 2],
    cpu_per_million: Option<f64>,
}

impl Row {
    fn of(workload: &'static Workload, samples: &[Sample]) -> Self {
        let rates = samples.iter().map(|it| float(it.count) / it.time.as_secs_f64()).collect();
        let micros = [0.5, 0.99].map(|quantile| {
            let of = |it: &Sample| Duration::from_nanos(it.latency.value_at_quantile(quantile));
            median(samples.iter().map(|it| of(it).as_secs_f64() * 1e6).collect())
        });
        let cpu = samples.iter().map(|it| Some(it.cpu?.as_secs_f64() / float(it.count) * 1e6));
        let cpu_per_million = cpu.collect::<Option<Vec<_>>>().map(median);
        Self { workload, rates, micros, cpu_per_million }
    }

    fn rate(&self) -> f64 {
        median(self.rates.clone())
    }

    /// What part of its limit it reaches: the median of the rounds, each compared with the limit in that round.
    fn ratio(&self, rows: &[Self]) -> Option<f64> {
        let limits: Vec<_> =
            rows.iter().filter(|row| self.workload.limits.contains(&row.workload.name)).collect();
        let ratios = self.rates.iter().enumerate().map(|(round, rate)| {
            let best = limits.iter().filter_map(|row| row.rates.get(round)).copied();
            Some(rate / best.reduce(f64::max)?)
        });
        ratios.collect::<Option<Vec<_>>>().map(median)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn float(count: u64) -> f64 {
    count as f64
}

fn print(args: &Args, rows: &[Row]) {
    if args.json {
        let object = |row: &Row| {
            json!({
                "name": row.workload.name, "what": row.workload.what,
                "payload_bytes": row.workload.payload, "per_second": row.rate(),
                "rounds": row.rates, "p50_us": row.micros[0], "p99_us": row.micros[1],
                "cpu_seconds_per_million": row.cpu_per_million, "of_limit": row.ratio(rows),
                "limits": row.workload.limits,
            })
        };
        let rows: Vec<_> = rows.iter().map(object).collect();
        crate::out::line(format_args!(
            "{}",
            json!({ "seconds": args.seconds, "rounds": args.rounds, "rows": rows })
        ));
        return;
    }
    crate::out::line(format_args!(
        "{:<18} {:<34} {:>10} {:>9} {:>9} {:>9} {:>8} {:>8}",
        "name", "what", "a second", "MiB/s", "p50 us", "p99 us", "CPU s/M", "of limit"
    ));
    for row in rows {
        let (rate, [half, most]) = (row.rate(), row.micros);
        // An opening is not an entry.
        let bytes = match row.workload.kind {
            Kind::Read(reading::Load::Open | reading::Load::OpenSegments) => "-".to_owned(),
            Kind::Limit(_) | Kind::Write(_) | Kind::Read(_) => {
                format!("{:.1}", rate * float(row.workload.payload) / f64::from(1 << 20))
            }
        };
        let cpu = row.cpu_per_million.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.1}"));
        let ratio = row.ratio(rows).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        crate::out::line(format_args!(
            "{:<18} {:<34} {rate:>10.0} {bytes:>9} {half:>9.0} {most:>9.0} {cpu:>8} {ratio:>8}",
            row.workload.name, row.workload.what
        ));
    }
    crate::out::line(format_args!(
        "Medians of {} rounds of {} s. Latencies are of calls: a batch is one call.",
        args.rounds, args.seconds
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chosen_comes_with_its_limits_and_a_mistyped_name_is_refused() {
        let names = |only: &[&str]| {
            let only: Vec<_> = only.iter().map(|&name| name.to_owned()).collect();
            choose(&only).map(|chosen| chosen.iter().map(|it| it.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["one"]).unwrap(), ["disk-dsync", "disk-fdatasync", "one"]);
        assert_eq!(names(&[]).unwrap().len(), WORKLOADS.len());
        assert!(names(&["onn"]).unwrap_err().to_string().contains("batch-recycled"));
    }

    #[test]
    fn every_limit_that_is_named_is_measured() {
        for name in WORKLOADS.iter().flat_map(|it| it.limits) {
            assert!(WORKLOADS.iter().any(|it| it.name == *name), "{name}");
        }
    }
}
