//! What can be asked for on the command line.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Parser;
use tinyraftplus_sim::{Counts, Fault, Kind, Less, Settings};

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
    #[arg(long, conflicts_with_all = ["seeds", "start", "budget"])]
    pub(crate) seed: Option<u64>,
    /// Run seeds until this time is over, such as 90s, 10m or 2h.
    #[arg(long, value_parser = duration, conflicts_with = "seeds")]
    pub(crate) budget: Option<Duration>,
    /// Take a protection away and count the seeds until it is missed: a name, or "all". With --seed: run that
    /// seed without the protection.
    #[arg(long, value_name = "NAME")]
    pub(crate) planted: Option<String>,
    /// With --planted: look from so many starts, 10,000 seeds apart.
    #[arg(long, default_value_t = 1)]
    pub(crate) starts: u64,
    /// Ignore promises that are broken without harm yet: only disks, clients and committed entries count.
    #[arg(long)]
    pub(crate) outside_only: bool,
    /// Stop when this happens for the first time, as if it were a failure: the name of a fault or a transition.
    #[arg(long, value_name = "NAME", value_parser = count_name)]
    until: Option<&'static str>,
    #[command(flatten)]
    pub(crate) show: ShowArgs,
    #[command(flatten)]
    less: LessArgs,
}

/// What is shown.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// With --seed: print every event.
    #[arg(long, requires = "seed")]
    pub(crate) trace: bool,
    /// With --seed or --planted: look for a smaller world that fails too.
    #[arg(long)]
    pub(crate) shrink: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is left out of the world that a seed draws. A failure prints these for a smaller world that fails too.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "A smaller world")]
struct LessArgs {
    /// At most so many nodes.
    #[arg(long, value_name = "COUNT")]
    nodes: Option<usize>,
    /// At most so many clients.
    #[arg(long, value_name = "COUNT")]
    clients: Option<usize>,
    /// Faults end after so many milliseconds.
    #[arg(long, value_name = "MILLIS")]
    safety: Option<u64>,
    /// These kinds of faults never happen.
    #[arg(long, value_name = "FAULTS", value_delimiter = ',')]
    without: Vec<Fault>,
    /// Of the faults in a trace, only those with these numbers happen; 0 for none.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    only_faults: Option<Vec<u64>>,
    /// Of the calls in a trace, only those with these numbers are made; 0 for none.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    only_calls: Option<Vec<u64>>,
    /// Leave out the time before faults and calls that are left out.
    #[arg(long)]
    close_up: bool,
    /// The same world with other dice.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    roll: u64,
}

impl Args {
    pub(crate) fn settings(&self) -> Settings {
        let less = &self.less;
        let numbers = |only: &Option<Vec<u64>>| {
            only.as_ref().map(|only| only.iter().copied().filter(|&number| number > 0).collect())
        };
        let less = Less {
            nodes: less.nodes,
            clients: less.clients,
            safety: less.safety,
            without: less.without.iter().copied().collect::<BTreeSet<_>>(),
            only_faults: numbers(&less.only_faults),
            only_calls: numbers(&less.only_calls),
            close_up: less.close_up,
            roll: less.roll,
        };
        Settings { transcript: false, outside_only: self.outside_only, until: self.until, less }
    }
}

fn count_name(name: &str) -> Result<&'static str, String> {
    let counts = Counts::default().list();
    let known = counts.iter().find(|count| count.kind != Kind::Work && count.name == name);
    known.map(|count| count.name).ok_or_else(|| {
        let names = counts.iter().filter(|count| count.kind != Kind::Work).map(|count| count.name);
        format!("there is no {name:?}; there are: {}", names.collect::<Vec<_>>().join(", "))
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    let units = [('h', 3600), ('m', 60), ('s', 1)];
    let unit = units.into_iter().find(|&(unit, _)| text.ends_with(unit));
    let number = unit.map_or(text, |(unit, _)| text.strip_suffix(unit).unwrap_or(text));
    match number.parse::<u64>() {
        Ok(number) if number > 0 => {
            Ok(Duration::from_secs(number.saturating_mul(unit.map_or(1, |(_, seconds)| seconds))))
        }
        Ok(_) | Err(_) => Err(format!("{text:?} is not like 90s, 10m or 2h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_minutes_or_hours() {
        let seconds = |text| duration(text).map(|time| time.as_secs());
        assert_eq!(seconds("30s"), Ok(30));
        assert_eq!(seconds("10m"), Ok(600));
        assert_eq!(seconds("2h"), Ok(7200));
        assert_eq!(seconds("45"), Ok(45));
        for nonsense in ["", "m", "0s", "1.5h", "10 m", "-3s", "10d", "5mm"] {
            assert!(duration(nonsense).is_err(), "{nonsense}");
        }
    }

    /// Fails if a world that is said in flags is not the world that those flags ask for.
    #[test]
    fn flags_for_less_say_the_same_both_ways() {
        let less = Less {
            nodes: Some(3),
            clients: Some(1),
            safety: Some(900),
            without: [Fault::Kill, Fault::Drop].into(),
            only_faults: Some([3, 17].into()),
            only_calls: Some(BTreeSet::new()),
            close_up: true,
            roll: 9,
        };
        let line = format!("sim --seed 7{less}");
        let args = Args::try_parse_from(line.split(' ')).unwrap();
        assert_eq!((args.seed, args.settings().less), (Some(7), less));
    }
}
