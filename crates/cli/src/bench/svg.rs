//! A plot as an SVG file that needs nothing else.

use super::plot::{Plot, Point, Series, place, steps};
use super::table::grouped;
use std::fmt::{self, Write as _};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// Of the drawing between the axes.
const LEFT: f64 = 90.0;
const RIGHT: f64 = 740.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 340.0;
/// Between the names of series.
const LINE: f64 = 18.0;
/// Told apart by those who see fewer colours, too (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// Draws it.
pub(super) fn draw(plot: &Plot) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = drawing(plot, &mut text);
    text
}

fn drawing(plot: &Plot, svg: &mut String) -> fmt::Result {
    let mut names = 0.0;
    for _ in plot.series.iter().skip(1) {
        names += LINE;
    }
    let height = HEIGHT + names;
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13" fill="#222">"##
    )?;
    writeln!(svg, r##"<rect width="100%" height="100%" fill="#fff"/>"##)?;
    writeln!(
        svg,
        r#"<text x="{LEFT}" y="24" font-size="15">entries a second against {}</text>"#,
        plot.against
    )?;
    let scale = Scale::of(plot);
    scale.axes(plot, svg)?;
    let mut y = BOTTOM + 60.0;
    for (series, colour) in plot.series.iter().zip(COLOURS.iter().cycle()) {
        scale.line(series, colour, svg)?;
        writeln!(svg, r#"<circle cx="{}" cy="{}" r="4" fill="{colour}"/>"#, LEFT + 5.0, y - 4.0)?;
        writeln!(svg, r#"<text x="{}" y="{y}">{}</text>"#, LEFT + 16.0, escaped(&series.name))?;
        y += LINE;
    }
    writeln!(svg, "</svg>")
}

/// Where numbers are drawn.
struct Scale {
    first: u64,
    last: u64,
    step: f64,
    steps: u32,
}

impl Scale {
    fn of(plot: &Plot) -> Self {
        let at = || plot.series.iter().flat_map(|series| &series.points).map(|point| point.at);
        let (first, last) = (at().min().unwrap_or_default(), at().max().unwrap_or_default());
        let (step, steps) = steps(plot.largest());
        Self { first, last, step, steps }
    }

    fn x(&self, at: u64) -> f64 {
        LEFT + 20.0 + (RIGHT - LEFT - 40.0) * place(at, self.first, self.last)
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * (value / (self.step * f64::from(self.steps)))
    }

    fn axes(&self, plot: &Plot, svg: &mut String) -> fmt::Result {
        for tick in 0..=self.steps {
            let value = self.step * f64::from(tick);
            let (y, shown) = (self.y(value), grouped(value));
            writeln!(svg, r##"<path d="M{LEFT} {y:.1}H{RIGHT}" stroke="#ddd"/>"##)?;
            writeln!(
                svg,
                r#"<text x="{}" y="{:.1}" text-anchor="end">{shown}</text>"#,
                LEFT - 8.0,
                y + 4.0
            )?;
        }
        let mut ats: Vec<u64> =
            plot.series.iter().flat_map(|series| &series.points).map(|point| point.at).collect();
        ats.sort_unstable();
        ats.dedup();
        for at in ats {
            writeln!(
                svg,
                r#"<text x="{:.1}" y="{}" text-anchor="middle">{at}</text>"#,
                self.x(at),
                BOTTOM + 20.0
            )?;
        }
        writeln!(
            svg,
            r#"<text x="{RIGHT}" y="{}" text-anchor="end">{}</text>"#,
            BOTTOM + 38.0,
            plot.against
        )
    }

    fn line(&self, series: &Series, colour: &str, svg: &mut String) -> fmt::Result {
        let mut path = String::new();
        for (number, point) in series.points.iter().enumerate() {
            let step = if number == 0 { 'M' } else { 'L' };
            write!(path, "{step}{:.1} {:.1}", self.x(point.at), self.y(point.value))?;
        }
        writeln!(svg, r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>"#)?;
        for point in &series.points {
            self.point(point, colour, svg)?;
        }
        Ok(())
    }

    /// The median, and a line from the smallest to the largest.
    fn point(&self, point: &Point, colour: &str, svg: &mut String) -> fmt::Result {
        let x = self.x(point.at);
        let (low, high) = (self.y(point.smallest), self.y(point.largest));
        writeln!(svg, r#"<path d="M{x:.1} {low:.1}V{high:.1}" stroke="{colour}"/>"#)?;
        writeln!(
            svg,
            r#"<circle cx="{x:.1}" cy="{:.1}" r="4" fill="{colour}"><title>{}: {} ({} to {})</title></circle>"#,
            self.y(point.value),
            point.at,
            grouped(point.value),
            grouped(point.smallest),
            grouped(point.largest)
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
