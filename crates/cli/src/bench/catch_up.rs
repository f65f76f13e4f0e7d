//! `tinyraftplus bench catch-up`: a follower that was away for many appends, until it has them all on its disk.

use super::cluster::Cluster;
use super::options::{self, Called, LogKind, Shape, Transport};
use super::progress::Progress;
use super::protocol::{Load, Until};
use super::rows::{ATTEMPTS, Measured, extremes, float, median, too_busy};
use crate::error::Error;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const NODES: u64 = 3;
/// Who appends what the follower misses.
const CLIENTS: u64 = 64;

/// What is measured.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many entries the follower is behind
    #[arg(
        long, default_value_t = 100_000, value_name = "COUNT",
        value_parser = clap::value_parser!(u64).range(1..=100_000_000)
    )]
    entries: u64,
    /// Bytes of an entry
    #[arg(
        long, default_value_t = 1024, value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(1..=1 << 18)
    )]
    payload: u64,
    /// How the nodes are joined
    #[arg(long, value_delimiter = ',', default_value = "in-process,tcp", value_name = "HOW,..")]
    transport: Vec<Transport>,
    /// What the nodes keep their logs in
    #[arg(long, default_value = "fs", value_name = "KIND")]
    log: LogKind,
    /// Encrypt the logs
    #[arg(long)]
    encrypt: bool,
    /// How often; transports take their turns, and a figure is the median of its rounds
    #[arg(
        long, default_value_t = 3, value_name = "COUNT",
        value_parser = clap::value_parser!(u64).range(1..=1000)
    )]
    rounds: u64,
    /// Where the logs go; choose a real disk [default: a temporary directory, removed afterwards]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What one round measured.
struct Sample {
    /// Seconds from the call that opens the follower until the last entry is durable there.
    all: f64,
    /// Until the first ones are: the others have to notice it.
    first: f64,
    /// Bytes of payload a second between the two; if all came at once, from the call on.
    per_second: f64,
    cpu: Option<f64>,
    memory_before: Option<u64>,
    peak_memory: Option<u64>,
}

/// Runs the benchmark.
pub(super) async fn run(args: &Args) -> Result<(), Error> {
    options::refuse_encrypted_memory(args.encrypt, &[args.log])?;
    let dir = options::directory(args.dir.as_deref())?;
    if !args.json {
        crate::out::line(format_args!(
            "A follower of {NODES} nodes is {} entries of {} bytes behind.",
            args.entries, args.payload
        ));
    }
    let mut rows = Measured::all(args.transport.clone());
    let rounds = usize::try_from(args.rounds).unwrap_or(usize::MAX);
    let progress = Progress::new(rows.len().saturating_mul(rounds));
    for _ in 0..rounds {
        for row in &mut rows {
            progress.begin(&row.what);
            let sample = measure(args, row.what, dir.path()).await;
            let sample = sample.map_err(|why| Error::failed(format!("{}: {why}", row.what)))?;
            row.rounds.push(sample);
            progress.done();
        }
    }
    drop(progress);
    if args.json {
        crate::out::line(format_args!("{}", json_of(args, &rows)));
    } else {
        print(args, &rows);
    }
    Ok(())
}

/// Runs it once, on a cluster of its own; with an election while the follower was away once more.
async fn measure(args: &Args, transport: Transport, dir: &Path) -> Result<Sample, Error> {
    let shape = Shape { nodes: NODES, transport, log: args.log, encrypt: args.encrypt };
    for _ in 0..ATTEMPTS {
        let mut cluster = Cluster::start(&shape, dir).await?;
        let sample = attempt(args, &mut cluster).await?;
        cluster.end().await?;
        if let Some(sample) = sample {
            return Ok(sample);
        }
    }
    Err(too_busy())
}

async fn attempt(args: &Args, cluster: &mut Cluster) -> Result<Option<Sample>, Error> {
    let leader = cluster.called(Called::Leader).await?;
    let behind = (1..=NODES).find(|&node| node != leader).unwrap_or_default();
    cluster.close(behind).await?;
    let load = Load {
        node: leader,
        clients: CLIENTS,
        batch: 1,
        payload: args.payload,
        until: Until::Entries(args.entries),
    };
    let Some(ran) = cluster.run(load).await? else { return Ok(None) };
    cluster.forget_peak().await?;
    let before = cluster.used().await?;
    let caught_up = cluster.catch_up(behind, ran.end).await?;
    let after = cluster.used().await?;
    let held_by = cluster.check(ran.acked, ran.end, args.payload).await?;
    if held_by < NODES {
        return Err(Error::failed(format!("only {held_by} of {NODES} nodes hold all entries")));
    }
    let (count, time) = match ran.end.saturating_sub(caught_up.at_first) {
        0 => (args.entries, caught_up.last),
        count => (count, caught_up.last - caught_up.first),
    };
    let cpu = after.cpu_seconds.zip(before.cpu_seconds).map(|(after, before)| after - before);
    Ok(Some(Sample {
        all: caught_up.last,
        first: caught_up.first,
        per_second: float(count * args.payload) / time,
        cpu,
        memory_before: before.memory,
        peak_memory: after.peak_memory,
    }))
}

impl Measured<Transport, Sample> {
    fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }

    fn median_of(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        self.rounds.iter().map(of).collect::<Option<Vec<_>>>().map(median)
    }

    fn rates(&self) -> Vec<f64> {
        self.rounds.iter().map(|it| it.per_second).collect()
    }
}

fn print(args: &Args, rows: &[Measured<Transport, Sample>]) {
    crate::out::line(format_args!(
        "\n{:<12} {:>8} {:>16} {:>10} {:>10} {:>7} {:>11} {:>9}",
        "", "MB/s", "smallest-largest", "ms to 1st", "ms to all", "CPU s", "MiB before", "MiB peak"
    ));
    for row in rows {
        let rates: Vec<_> = row.rates().into_iter().map(|rate| rate / 1e6).collect();
        let (smallest, largest) = extremes(&rates);
        let mib = |bytes: Option<u64>| bytes.map(|bytes| float(bytes) / f64::from(1 << 20));
        let shown = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        crate::out::line(format_args!(
            "{:<12} {:>8.0} {:>16} {:>10.0} {:>10.0} {:>7} {:>11} {:>9}",
            row.what.to_string(),
            median(rates),
            format!("{smallest:.0}-{largest:.0}"),
            row.median(|it| it.first * 1e3),
            row.median(|it| it.all * 1e3),
            shown(row.median_of(|it| it.cpu), 2),
            shown(row.median_of(|it| mib(it.memory_before)), 0),
            shown(row.median_of(|it| mib(it.peak_memory)), 0),
        ));
    }
    crate::out::line(format_args!(
        "\nMedians of {} rounds. Times are from the call that opens the follower until the first entries, and all, are on its disk; MB/s\n\
         between the two. The others' logs are in the kernel's memory. CPU and memory are of all nodes together. At the end all\n\
         nodes held exactly what was acknowledged.",
        args.rounds
    ));
}

fn json_of(args: &Args, rows: &[Measured<Transport, Sample>]) -> Value {
    let object = |row: &Measured<Transport, Sample>| {
        let rates = row.rates();
        let (smallest, largest) = extremes(&rates);
        json!({
            "transport": row.what.to_string(),
            "bytes_per_second": median(rates.clone()),
            "smallest": smallest, "largest": largest, "rounds": rates,
            "first_ms": row.median(|it| it.first * 1e3),
            "all_ms": row.median(|it| it.all * 1e3),
            "cpu_seconds": row.median_of(|it| it.cpu),
            "memory_before_bytes": row.median_of(|it| it.memory_before.map(float)),
            "peak_memory_bytes": row.median_of(|it| it.peak_memory.map(float)),
        })
    };
    let found: Vec<_> = rows.iter().map(object).collect();
    json!({
        "nodes": NODES, "entries": args.entries, "payload_bytes": args.payload,
        "log": args.log.to_string(), "encrypted": args.encrypt, "rounds": args.rounds,
        "rows": found,
    })
}
