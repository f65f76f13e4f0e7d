//! What can be asked for on the command line.

use std::time::Duration;

use clap::Parser;
use tinyraftplus_sim::Settings;

/// Simulates whole clusters under faults. One seed decides everything in a run.
#[derive(Debug, Parser)]
#[command(name = "tinyraftplus-sim", version)]
pub(crate) struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 200)]
    pub(crate) seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    pub(crate) start: u64,
    /// Run this seed only.
    #[arg(long, conflicts_with_all = ["seeds", "start", "budget", "planted"])]
    pub(crate) seed: Option<u64>,
    /// With --seed: print every event.
    #[arg(long, requires = "seed")]
    pub(crate) trace: bool,
    /// Run seeds until this time is over, such as 90s, 10m or 2h.
    #[arg(long, value_parser = duration, conflicts_with = "seeds")]
    pub(crate) budget: Option<Duration>,
    /// Take a protection away and count the seeds until it is missed: a name, or "all".
    #[arg(long, value_name = "NAME")]
    pub(crate) planted: Option<String>,
    /// Ignore promises that are broken without harm yet: only disks, clients and committed entries count.
    #[arg(long)]
    pub(crate) outside_only: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Args {
    pub(crate) const fn settings(&self) -> Settings {
        Settings { transcript: false, outside_only: self.outside_only }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('h') {
        Some(number) => (number, 3600),
        None => match text.strip_suffix('m') {
            Some(number) => (number, 60),
            None => (text.strip_suffix('s').unwrap_or(text), 1),
        },
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is not like 90s, 10m or 2h"))?;
    Ok(Duration::from_secs(number.saturating_mul(unit)))
}
