//! Entries a second against clients, or against nodes: as bars in a terminal. `svg` draws the same.

use super::rows::{Measured, Row, Sample, extremes, float, median};
use super::table::grouped;

/// Characters of the longest bar.
const WIDTH: f64 = 50.0;

/// Rows that differ in one number only.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<Point>,
}

/// A median, with the smallest and the largest of its rounds.
pub(super) struct Point {
    pub(super) at: u64,
    pub(super) value: f64,
    pub(super) smallest: f64,
    pub(super) largest: f64,
}

/// Several series over the same number.
pub(super) struct Plot {
    /// What they are drawn against.
    pub(super) against: &'static str,
    pub(super) series: Vec<Series>,
}

impl Plot {
    /// Draws against clients; if there is one count of them only, against nodes. `None` if neither varies.
    pub(super) fn of(rows: &[Measured<Row, Sample>]) -> Option<Self> {
        let varies = |of: fn(&Row) -> u64| {
            let first = rows.first().map(|row| of(&row.what));
            rows.iter().any(|row| Some(of(&row.what)) != first)
        };
        let (clients, nodes) = (|row: &Row| row.clients, |row: &Row| row.shape.nodes);
        let (against, at): (_, fn(&Row) -> u64) = match (varies(clients), varies(nodes)) {
            (true, _) => ("clients", clients),
            (false, true) => ("nodes", nodes),
            (false, false) => return None,
        };
        let mut series: Vec<Series> = Vec::new();
        for row in rows {
            let name = name_of(&row.what, against);
            let rates = row.rates();
            let (smallest, largest) = extremes(&rates);
            let point = Point { at: at(&row.what), value: median(rates), smallest, largest };
            match series.iter_mut().find(|it| it.name == name) {
                Some(series) => series.points.push(point),
                None => series.push(Series { name, points: vec![point] }),
            }
        }
        for series in &mut series {
            series.points.sort_by_key(|point| point.at);
        }
        Some(Self { against, series })
    }

    pub(super) fn largest(&self) -> f64 {
        let points = self.series.iter().flat_map(|series| &series.points);
        points.map(|point| point.largest).fold(f64::MIN_POSITIVE, f64::max)
    }

    /// Prints bars.
    pub(super) fn print(&self) {
        crate::out::line(format_args!("\nentries/s against {}", self.against));
        for series in &self.series {
            crate::out::line(format_args!("  {}", series.name));
            for point in &series.points {
                let bar = bar(point.value / self.largest());
                let value = grouped(point.value);
                crate::out::line(format_args!("  {:>6} {bar} {value}", point.at));
            }
        }
    }
}

fn name_of(row: &Row, against: &str) -> String {
    let shape = row.shape;
    let encrypted = if shape.encrypt { " (encrypted)" } else { "" };
    let fixed = if against == "clients" {
        format!("{} nodes", shape.nodes)
    } else {
        format!("{} clients", row.clients)
    };
    format!("{fixed}, {}, log {}{encrypted}, {} called", shape.transport, shape.log, row.called)
}

/// Whole blocks, and an eighth part of one at the end.
fn bar(part: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let mut left = part.clamp(0.0, 1.0) * WIDTH;
    let mut bar = String::new();
    while left >= 1.0 {
        bar.push('█');
        left -= 1.0;
    }
    let eighth = (1_u8..8).rev().find(|&eighth| left * 8.0 >= f64::from(eighth));
    bar.push_str(eighth.and_then(|eighth| EIGHTHS.get(usize::from(eighth))).unwrap_or(&""));
    bar
}

/// About five round steps of an axis that reaches this number: how large one is, and how many there are.
pub(super) fn steps(largest: f64) -> (f64, u32) {
    let about = largest.max(1.0) / 5.0;
    let power = 10_f64.powf(about.log10().floor());
    let rounds = [1.0, 2.0, 2.5, 5.0].map(|step| step * power);
    let step = rounds.into_iter().find(|&step| step >= about).unwrap_or(10.0 * power);
    let count = (1..=5).find(|&count| step * f64::from(count) >= largest).unwrap_or(5);
    (step, count)
}

/// Where a number lies between the first and the last of an axis, from 0 to 1; on the scale of logarithms if it
/// spans a lot.
pub(super) fn place(at: u64, first: u64, last: u64) -> f64 {
    if first == last {
        return 0.5;
    }
    let scale = |at: u64| if last / first.max(1) >= 8 { float(at).ln() } else { float(at) };
    (scale(at) - scale(first)) / (scale(last) - scale(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_what_they_stand_for() {
        assert_eq!(bar(1.0).chars().count(), 50);
        assert_eq!(bar(0.5), "█".repeat(25));
        assert_eq!(bar(0.01), "▌");
        assert_eq!(bar(0.0), "");
    }

    #[test]
    fn an_axis_has_round_steps_and_its_ends_at_its_ends() {
        let shown = |largest: f64| {
            let (step, count) = steps(largest);
            format!("{count} x {step:.0}")
        };
        assert_eq!(shown(48_445.0), "5 x 10000");
        assert_eq!(shown(53_904.0), "3 x 20000");
        assert_eq!(shown(1_000.0), "5 x 200");
        for (first, last) in [(1, 1024), (3, 15)] {
            assert!(place(first, first, last).abs() < 1e-9);
            assert!((place(last, first, last) - 1.0).abs() < 1e-9);
        }
        assert!((place(32, 1, 1024) - 0.5).abs() < 1e-9);
        assert!((place(9, 3, 15) - 0.5).abs() < 1e-9);
    }
}
