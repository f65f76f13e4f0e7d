//! What the demo measured and found.

use bytes::Bytes;
use hdrhistogram::Histogram;
use std::{fmt, time::Duration};

/// What the demo measured and found. It is only made complete if everything held.
pub(crate) struct Report {
    pub(crate) nodes: u64,
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    /// The leaders there were, in order.
    pub(crate) leaders: Vec<u64>,
    pub(crate) batches: u64,
    /// Outcomes that were unknown at first, and were looked up in the log.
    pub(crate) unknown: u64,
    pub(crate) appending: Duration,
    /// Of appends of one line, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// From the kill until another node led.
    pub(crate) leader_found: Option<Duration>,
    /// From the kill until an append was acknowledged again.
    pub(crate) append_after: Option<Duration>,
    /// From the restart until the node had everything.
    pub(crate) caught_up: Option<Duration>,
    pub(crate) logs: Vec<LogFound>,
}

/// What was found in one node's log after it was opened again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogFound {
    /// All entries, those included that leaders begin their terms with.
    pub(crate) entries: u64,
    pub(crate) bytes_on_disk: u64,
    /// Durable writes since its last start.
    pub(crate) syncs: u64,
}

impl Report {
    pub(crate) fn new(nodes: u64, lines: &[Bytes]) -> Self {
        Self {
            nodes,
            lines: lines.len() as u64,
            bytes: lines.iter().map(|line| line.len() as u64).sum(),
            leaders: Vec::new(),
            batches: 0,
            unknown: 0,
            appending: Duration::ZERO,
            latency: crate::bench::histogram(),
            leader_found: None,
            append_after: None,
            caught_up: None,
            logs: Vec::new(),
        }
    }

    fn leader_changes(&self) -> u64 {
        self.leaders.len().saturating_sub(1) as u64
    }

    fn entries_per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let lines = self.lines as f64;
        lines / self.appending.as_secs_f64().max(1e-9)
    }

    fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.latency.value_at_quantile(quantile))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let ms = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1e3);
        let logs: Vec<_> = self
            .logs
            .iter()
            .zip(1..)
            .map(|(log, node)| {
                serde_json::json!({
                    "node": node, "entries": log.entries, "bytes_on_disk": log.bytes_on_disk,
                    "syncs": log.syncs, "identical": true,
                })
            })
            .collect();
        serde_json::json!({
            "held": true,
            "nodes": self.nodes,
            "lines": self.lines,
            "bytes": self.bytes,
            "leader_changes": self.leader_changes(),
            "leaders": self.leaders,
            "batches": self.batches,
            "unknown_outcomes": self.unknown,
            "appending_ms": ms(Some(self.appending)),
            "entries_per_second": self.entries_per_second(),
            "append_p50_ms": ms(Some(self.quantile(0.5))),
            "append_p99_ms": ms(Some(self.quantile(0.99))),
            "leader_found_ms": ms(self.leader_found),
            "append_after_ms": ms(self.append_after),
            "caught_up_ms": ms(self.caught_up),
            "logs": logs,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        let mut row = |name: &str, value: String| writeln!(f, "  {name:<28}{value}");
        let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
        row("nodes", format!("{}", self.nodes))?;
        row(
            "lines appended",
            format!("{} ({} bytes), {} batches", self.lines, self.bytes, self.batches),
        )?;
        row("leader changes", format!("{}", self.leader_changes()))?;
        if let Some(time) = self.leader_found {
            row("new leader after the kill", ms(time))?;
        }
        if let Some(time) = self.append_after {
            row("next append after the kill", ms(time))?;
        }
        if let Some(time) = self.caught_up {
            row("restarted node caught up in", ms(time))?;
        }
        row("speed", format!("{:.0} entries/s", self.entries_per_second()))?;
        row(
            "append of one line",
            format!("p50 {}, p99 {}", ms(self.quantile(0.5)), ms(self.quantile(0.99))),
        )?;
        for (log, node) in self.logs.iter().zip(1..) {
            let LogFound { entries, bytes_on_disk, syncs } = log;
            row(
                &format!("log of node {node}"),
                format!("{entries} entries, {bytes_on_disk} bytes, {syncs} syncs"),
            )?;
        }
        row("lost, doubled or changed", "nothing".to_owned())
    }
}
