//! What was measured, as tables for people and as JSON.

use super::disk::{Limit, Writes};
use super::latency::QUANTILES;
use super::options::Options;
use super::rows::{Measured, Row, Sample, extremes, float, median};
use serde_json::{Value, json};

/// All that was measured.
pub(super) struct Report<'a> {
    pub(super) options: &'a Options,
    pub(super) limits: Vec<Measured<Limit, Writes>>,
    pub(super) rows: Vec<Measured<Row, Sample>>,
}

impl Report<'_> {
    /// Prints tables.
    pub(super) fn print(&self) {
        if !self.limits.is_empty() {
            self.print_limits();
        }
        let mut heading = String::new();
        for row in &self.rows {
            let next = heading_of(&row.what);
            if next != heading {
                heading = next;
                crate::out::line(format_args!("\n{heading}"));
                crate::out::line(format_args!("{}", columns()));
            }
            crate::out::line(format_args!("{}", self.line(row)));
        }
        self.print_notes();
    }

    fn print_limits(&self) {
        crate::out::line(format_args!(
            "\n{:<58} {:>9} {:>17} {:>8} {:>8}",
            "the disk: each write synced", "writes/s", "smallest-largest", "p50 us", "p99 us"
        ));
        for limit in &self.limits {
            let rates = limit.rates();
            crate::out::line(format_args!(
                "{:<58} {:>9} {:>17} {:>8.0} {:>8.0}",
                limit.what.to_string(),
                grouped(median(rates.clone())),
                range(&rates),
                limit.median(|it| it.micros[0]),
                limit.median(|it| it.micros[2]),
            ));
        }
    }

    fn line(&self, row: &Measured<Row, Sample>) -> String {
        let rates = row.rates();
        let [p50, p90, p99, p999, max] = micros(row);
        let shown = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        format!(
            "{:>5} {:>7} {:>10} {:>17} {p50:>7.0} {p90:>7.0} {p99:>7.0} {p999:>7.0} {max:>7.0} {:>7} {:>6} {:>6.3} {:>6}",
            row.what.shape.nodes,
            row.what.clients,
            grouped(median(rates.clone())),
            range(&rates),
            shown(row.median_of(|it| it.cpu), 1),
            shown(row.median_of(peak_mib), 0),
            row.median(|it| it.syncs),
            shown(row.of_limit(&self.limits), 2),
        )
    }

    fn print_notes(&self) {
        let Options { batch, rounds, seconds, .. } = self.options;
        let calls = if *batch == 1 { "" } else { ", of calls" };
        crate::out::line(format_args!(
            "\nMedians of {rounds} rounds of {seconds} s; latency in us{calls}, CPU in seconds a million entries, memory in MiB, both of\n\
             clients and nodes together; syncs of a node a call; ratio to the disk: the same bytes of all clients as one write of each node."
        ));
        for row in &self.rows {
            let held = row.rounds.iter().map(|it| it.held_by).min().unwrap_or_default();
            if held < row.what.shape.nodes {
                crate::out::line(format_args!(
                    "{}: a quorum held all entries at the end, but in some rounds only {held} nodes.",
                    row.what
                ));
            }
            if row.repeated() > 0 {
                crate::out::line(format_args!(
                    "{}: begun anew {} times, because there was an election.",
                    row.what,
                    row.repeated()
                ));
            }
        }
        crate::out::line(format_args!(
            "After each round a quorum held exactly the entries that were acknowledged."
        ));
    }

    /// One object.
    pub(super) fn json(&self) -> Value {
        let options = self.options;
        let limits: Vec<_> = self.limits.iter().map(limit_json).collect();
        let rows: Vec<_> = self.rows.iter().map(|row| self.row_json(row)).collect();
        json!({
            "payload_bytes": options.payload, "batch": options.batch, "encrypted": options.encrypt,
            "seconds": options.seconds, "warmup_seconds": options.warmup, "rounds": options.rounds,
            "limits": limits, "rows": rows,
        })
    }

    fn row_json(&self, row: &Measured<Row, Sample>) -> Value {
        let rates = row.rates();
        let (smallest, largest) = extremes(&rates);
        let of_calls = QUANTILES.iter().zip(micros(row));
        let of_calls = of_calls.map(|((name, _), micros)| ((*name).to_owned(), json!(micros)));
        let mut value = json!({
            "nodes": row.what.shape.nodes,
            "transport": row.what.shape.transport.to_string(),
            "log": row.what.shape.log.to_string(),
            "from": row.what.called.to_string(),
            "clients": row.what.clients,
            "entries_per_second": median(rates.clone()),
            "smallest": smallest, "largest": largest, "rounds": rates,
            "cpu_seconds_per_million": row.median_of(|it| it.cpu),
            "peak_memory_bytes": row.median_of(|it| it.peak_memory.map(float)),
            "syncs_per_call": row.median(|it| it.syncs),
            "limit_entries_per_second": row.limits(&self.limits).map(median),
            "of_limit": row.of_limit(&self.limits),
            "held_by": row.rounds.iter().map(|it| it.held_by).min(),
            "repeated": row.repeated(),
        });
        if let Some(value) = value.as_object_mut() {
            value.extend(of_calls);
        }
        value
    }
}

fn limit_json(limit: &Measured<Limit, Writes>) -> Value {
    let rates = limit.rates();
    let (smallest, largest) = extremes(&rates);
    json!({
        "files": limit.what.files, "awaited": limit.what.awaited(), "write_bytes": limit.what.bytes,
        "writes_per_second": median(rates.clone()), "smallest": smallest, "largest": largest,
        "rounds": rates,
        "p50_us": limit.median(|it| it.micros[0]), "p99_us": limit.median(|it| it.micros[2]),
    })
}

fn heading_of(row: &Row) -> String {
    let encrypted = if row.shape.encrypt { " (encrypted)" } else { "" };
    format!(
        "{}, log {}{encrypted}, clients call {} {}",
        row.shape.transport,
        row.shape.log,
        row.called.article(),
        row.called
    )
}

fn columns() -> String {
    format!(
        "{:>5} {:>7} {:>10} {:>17} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>6} {:>6} {:>6}",
        "nodes",
        "clients",
        "entries/s",
        "smallest-largest",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "CPU",
        "memory",
        "syncs",
        "ratio",
    )
}

fn micros(row: &Measured<Row, Sample>) -> [f64; 5] {
    let mut micros = [0.0; 5];
    for (at, to) in micros.iter_mut().enumerate() {
        *to = row.median(|it| it.micros.get(at).copied().unwrap_or_default());
    }
    micros
}

fn peak_mib(sample: &Sample) -> Option<f64> {
    sample.peak_memory.map(|bytes| float(bytes) / f64::from(1 << 20))
}

fn range(values: &[f64]) -> String {
    let (smallest, largest) = extremes(values);
    format!("{}-{}", grouped(smallest), grouped(largest))
}

/// With commas between the thousands.
pub(super) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_told_apart() {
        let shown = [0.4, 999.0, 1000.0, 1_234_567.0].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(Vec::new()).abs() < f64::EPSILON);
    }
}
