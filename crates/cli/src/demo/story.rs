//! What a person sees while the demo runs.

use indicatif::{ProgressBar, ProgressStyle};
use std::fmt;

/// Tells what happens, and draws a bar if somebody is watching.
pub(crate) struct Story {
    silent: bool,
    bar: ProgressBar,
}

impl Story {
    pub(crate) fn new(silent: bool, lines: u64) -> Self {
        // Draws on stderr, and only if that is a terminal.
        let bar = if silent { ProgressBar::hidden() } else { ProgressBar::new(lines) };
        if let Ok(style) =
            ProgressStyle::with_template("  {bar:40} {human_pos} of {human_len} lines")
        {
            bar.set_style(style);
        }
        Self { silent, bar }
    }

    pub(crate) fn say(&self, what: fmt::Arguments<'_>) {
        if !self.silent {
            self.bar.suspend(|| crate::out::line(format_args!("{what}")));
        }
    }

    pub(crate) fn appended(&self, lines: u64) {
        self.bar.inc(lines);
    }

    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
