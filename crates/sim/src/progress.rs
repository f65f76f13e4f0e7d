//! How far it is: one line on a terminal, and nothing anywhere else.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::total::Total;

/// How often the line changes.
const EVERY: Duration = Duration::from_millis(250);

/// The line.
pub(crate) struct Progress {
    is_on: bool,
    budget: Option<Duration>,
    seeds: u64,
    shown: Option<Duration>,
}

impl Progress {
    pub(crate) fn new(budget: Option<Duration>, seeds: u64) -> Self {
        Self { is_on: std::io::stderr().is_terminal(), budget, seeds, shown: None }
    }

    /// Says how far it is, if it is time to.
    pub(crate) fn show(&mut self, clock: &Clock, total: &Total) {
        let now = clock.elapsed();
        if !self.is_on || self.shown.is_some_and(|shown| now < shown + EVERY) {
            return;
        }
        self.shown = Some(now);
        let (seeds, steps) = (total.seeds, total.counts.steps);
        let whole = match self.budget {
            Some(budget) => format!("{} of {} s", now.as_secs(), budget.as_secs()),
            None => format!("of {}", self.seeds),
        };
        // Whoever closed the terminal does not want to know.
        let _ = write!(std::io::stderr(), "\r\x1b[K{seeds} seeds, {steps} steps, {whole}");
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// The real clock: only for how long all of it may take, never inside a seed.
pub(crate) struct Clock(Instant);

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "a time budget is about real time; no seed sees it"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
