//! The rows of a benchmark: what each measures, and what its rounds found.

use super::check::Tally;
use super::cluster::Cluster;
use super::disk::{Limit, Writes};
use super::options::{Called, LogKind, Options, Shape};
use super::protocol::{Load, Until};
use crate::error::Error;
use std::fmt;
use std::path::Path;

/// How often a row is tried that elections disturb.
pub(super) const ATTEMPTS: u64 = 3;

/// One combination of what the flags list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) shape: Shape,
    pub(super) called: Called,
    pub(super) clients: u64,
    pub(super) batch: u64,
    pub(super) payload: u64,
}

/// What one round of a row measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) per_second: f64,
    /// As [`QUANTILES`](super::latency::QUANTILES) says; of calls.
    pub(super) micros: [f64; 5],
    /// Seconds of processor time for a million entries, of clients and nodes together.
    pub(super) cpu: Option<f64>,
    /// Of clients and nodes together.
    pub(super) peak_memory: Option<u64>,
    /// Durable writes of a node for each call.
    pub(super) syncs: f64,
    /// How many nodes hold all that was acknowledged.
    pub(super) held_by: u64,
    /// How often it was begun anew, because there was an election meanwhile.
    pub(super) repeated: u64,
}

/// A row, or a limit, and its rounds.
pub(super) struct Measured<T, S> {
    pub(super) what: T,
    pub(super) rounds: Vec<S>,
}

impl<T, S> Measured<T, S> {
    /// All of them, not measured yet.
    pub(super) fn all(of: Vec<T>) -> Vec<Self> {
        of.into_iter().map(|what| Self { what, rounds: Vec::new() }).collect()
    }
}

/// Every combination.
pub(super) fn rows(options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    for &transport in &options.transport {
        for &log in &options.log {
            for &called in &options.from {
                for &nodes in &options.nodes {
                    let shape = Shape { nodes, transport, log, encrypt: options.encrypt };
                    let (batch, payload) = (options.batch, options.payload);
                    let row = |&clients| Row { shape, called, clients, batch, payload };
                    rows.extend(options.clients.iter().map(row));
                }
            }
        }
    }
    rows
}

/// What the disk has to be asked for these rows: one file, and what each row is compared with.
pub(super) fn limits(rows: &[Row]) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::new();
    for row in rows {
        let one = row.limit().map(|_| Limit::new(1, row.batch * row.payload));
        for limit in one.into_iter().chain(row.limit()) {
            if !limits.contains(&limit) {
                limits.push(limit);
            }
        }
    }
    limits
}

impl Row {
    /// If it is durable, what it can't pass: the waiting calls of all clients as one write of each node.
    pub(super) fn limit(&self) -> Option<Limit> {
        let bytes = self.clients * self.batch * self.payload;
        (self.shape.log != LogKind::Mem).then(|| Limit::new(self.shape.nodes, bytes))
    }

    /// Runs it once, on a cluster of its own; with an election in the middle of it once more.
    pub(super) async fn measure(&self, options: &Options, dir: &Path) -> Result<Sample, Error> {
        for repeated in 0..ATTEMPTS {
            let mut cluster = Cluster::start(&self.shape, dir).await?;
            let sample = self.attempt(options, &mut cluster).await?;
            cluster.end().await?;
            if let Some(sample) = sample {
                return Ok(Sample { repeated, ..sample });
            }
        }
        Err(too_busy())
    }

    async fn attempt(
        &self,
        options: &Options,
        cluster: &mut Cluster,
    ) -> Result<Option<Sample>, Error> {
        let load = |node, seconds| Load {
            node,
            clients: self.clients,
            batch: self.batch,
            payload: self.payload,
            until: Until::Seconds(seconds),
        };
        let mut acked = Tally::default();
        if options.warmup > 0.0 {
            let called = cluster.called(self.called).await?;
            let Some(ran) = cluster.run(load(called, options.warmup)).await? else {
                return Ok(None);
            };
            acked = ran.acked;
        }
        let called = cluster.called(self.called).await?;
        cluster.forget_peak().await?;
        let before = cluster.used().await?;
        let Some(ran) = cluster.run(load(called, options.seconds)).await? else { return Ok(None) };
        let after = cluster.used().await?;
        acked.join(ran.acked);
        let held_by = cluster.check(acked, ran.end, self.payload).await?;
        let (entries, calls) = (float(ran.acked.entries), float(ran.calls));
        let cpu = after.cpu_seconds.zip(before.cpu_seconds).map(|(after, before)| after - before);
        Ok(Some(Sample {
            per_second: entries / ran.seconds,
            micros: ran.micros,
            cpu: cpu.map(|cpu| cpu / entries * 1e6),
            peak_memory: after.peak_memory,
            syncs: float(after.syncs - before.syncs) / float(self.shape.nodes) / calls,
            held_by,
            repeated: 0,
        }))
    }
}

/// There was an election in each attempt.
pub(super) fn too_busy() -> Error {
    Error::failed(format!(
        "there was an election in each of {ATTEMPTS} attempts: this machine is too busy to be measured"
    ))
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} clients, {} called", self.shape, self.clients, self.called)
    }
}

impl Measured<Row, Sample> {
    pub(super) fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }

    /// The median, if every round has it.
    pub(super) fn median_of(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        self.rounds.iter().map(of).collect::<Option<Vec<_>>>().map(median)
    }

    pub(super) fn rates(&self) -> Vec<f64> {
        self.rounds.iter().map(|round| round.per_second).collect()
    }

    /// Entries a second that its limit allows, in each round.
    pub(super) fn limits(&self, limits: &[Measured<Limit, Writes>]) -> Option<Vec<f64>> {
        let limit = self.what.limit()?;
        let entries = float(limit.bytes) / float(self.what.payload);
        let found = limits.iter().find(|it| it.what == limit)?;
        Some(found.rounds.iter().map(|round| round.per_second * entries).collect())
    }

    /// What part of its limit it reaches: the median of the rounds, each compared with the limit in that round.
    pub(super) fn of_limit(&self, limits: &[Measured<Limit, Writes>]) -> Option<f64> {
        let limits = self.limits(limits)?;
        Some(median(self.rates().iter().zip(limits).map(|(rate, limit)| rate / limit).collect()))
    }

    pub(super) fn repeated(&self) -> u64 {
        self.rounds.iter().map(|round| round.repeated).sum()
    }
}

impl Measured<Limit, Writes> {
    pub(super) fn rates(&self) -> Vec<f64> {
        self.rounds.iter().map(|round| round.per_second).collect()
    }

    pub(super) fn median(&self, of: impl Fn(&Writes) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }
}

/// The middle one, or the mean of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = |at: usize| values.get(at).copied().unwrap_or_default();
    let half = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(at(half.saturating_sub(1)), at(half))
    } else {
        at(half)
    }
}

/// The smallest and the largest.
pub(super) fn extremes(values: &[f64]) -> (f64, f64) {
    let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
    (smallest, values.iter().copied().fold(0.0, f64::max))
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}
