//! `tinyraftplus bench`: durable appends of three nodes in one process, beside what the disk itself can do.
//!
//! All rows are measured one after the other in one run, on one disk: compare them with each other, not with
//! another machine's.

mod cluster;
mod disk;

use crate::error::{Error, explain};
use bytes::Bytes;
use hdrhistogram::Histogram;
use std::path::PathBuf;
use std::time::Duration;

/// What the benchmark is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many clients append at the same time, one row each
    #[arg(long, value_delimiter = ',', default_value = "1,64", value_name = "COUNT,..")]
    clients: Vec<usize>,
    /// Bytes of an entry
    #[arg(long, default_value_t = 1024, value_name = "BYTES")]
    payload: usize,
    /// Seconds a row takes
    #[arg(long, default_value_t = 3, value_name = "SECONDS")]
    seconds: u64,
    /// Where the logs go; choose a real disk [default: a temporary directory, removed afterwards]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Measure nodes that are joined over encrypted TCP, too
    #[arg(long)]
    tcp: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the benchmark.
pub(crate) async fn run(args: Args) -> Result<(), Error> {
    if args.clients.iter().any(|&clients| !(1..=1024).contains(&clients)) {
        return Err(Error::usage("--clients: each count must be 1 to 1024"));
    }
    if !(1..=1 << 20).contains(&args.payload) || !(1..=3600).contains(&args.seconds) {
        return Err(Error::usage("--payload must be 1 to 1048576 bytes, --seconds 1 to 3600"));
    }
    let mut made = tempfile::Builder::new();
    made.prefix("tinyraftplus-bench-");
    let dir = match &args.dir {
        Some(dir) => made.tempdir_in(dir),
        None => made.tempdir(),
    };
    let dir =
        dir.map_err(|error| Error::usage(explain("can't make a directory for the logs", &error)))?;
    let time = Duration::from_secs(args.seconds);

    let mut rows = Vec::new();
    let mut add = |row: Row| {
        if !args.json {
            crate::out::line(format_args!("{row}"));
        }
        rows.push(row);
    };
    if !args.json {
        crate::out::line(format_args!(
            "{} bytes an entry, synced before it is acknowledged, {} s a row\n{}",
            args.payload,
            args.seconds,
            Row::HEADER
        ));
    }
    // The limit is measured before and after: on a shared machine it moves.
    add(disk::one_file(dir.path(), args.payload, time)?);
    add(disk::three_files(dir.path(), args.payload, time)?);
    for &clients in &args.clients {
        add(cluster::appends(dir.path(), clients, args.payload, time, false).await?);
        if args.tcp {
            add(cluster::appends(dir.path(), clients, args.payload, time, true).await?);
        }
    }
    add(disk::three_files(dir.path(), args.payload, time)?);
    if args.json {
        let rows: Vec<_> = rows.iter().map(Row::json).collect();
        crate::out::line(format_args!(
            "{}",
            serde_json::json!({ "payload_bytes": args.payload, "durable": true, "nodes": 3, "rows": rows })
        ));
    }
    Ok(())
}

/// What one row measured.
pub(crate) struct Row {
    what: &'static str,
    clients: usize,
    latency: Histogram<u64>,
    time: Duration,
}

impl Row {
    const HEADER: &'static str =
        "                                     clients     ops/s    p50 us    p99 us  p99.9 us";

    fn new(what: &'static str, clients: usize, latency: Histogram<u64>, time: Duration) -> Self {
        Self { what, clients, latency, time }
    }

    fn ops_per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let ops = self.latency.len() as f64;
        ops / self.time.as_secs_f64()
    }

    fn micros(&self, quantile: f64) -> f64 {
        Duration::from_nanos(self.latency.value_at_quantile(quantile)).as_secs_f64() * 1e6
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "what": self.what, "clients": self.clients, "ops": self.latency.len(),
            "ops_per_second": self.ops_per_second(),
            "p50_us": self.micros(0.5), "p99_us": self.micros(0.99), "p999_us": self.micros(0.999),
        })
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<36} {:>7} {:>9.0} {:>9.0} {:>9.0} {:>9.0}",
            self.what,
            self.clients,
            self.ops_per_second(),
            self.micros(0.5),
            self.micros(0.99),
            self.micros(0.999)
        )
    }
}

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

pub(crate) fn record(latency: &mut Histogram<u64>, took: Duration) {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    // The histogram grows with what it is given, up to half of all numbers there are: 292 years.
    let _ = latency.record(nanos);
}

/// Bytes that no disk compresses away.
pub(crate) fn payload(len: usize) -> Bytes {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(len)
    .collect()
}
