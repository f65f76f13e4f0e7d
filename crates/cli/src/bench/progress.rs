//! How far a benchmark is, on stderr and only if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use std::fmt;
use std::time::Duration;

/// A bar with what is measured just now.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(steps: usize) -> Self {
        let bar = ProgressBar::new(steps as u64);
        let style = ProgressStyle::with_template("{bar:20} {pos} of {len}, {elapsed} {wide_msg}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_secs(1));
        Self(bar)
    }

    pub(super) fn begin(&self, what: &dyn fmt::Display) {
        self.0.set_message(what.to_string());
    }

    pub(super) fn done(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
