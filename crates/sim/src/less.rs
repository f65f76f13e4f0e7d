//! Less of a world: what is taken out of what a seed draws, so that a failure can be looked at in a world that
//! is as small as possible.
//!
//! Whatever is left out, all else is drawn as before, but it need not happen as before: one message less, and
//! the next one meets another delay. So a smaller world is tried, and kept if it fails the same way.

use std::collections::BTreeSet;
use std::fmt;

use crate::fault::Fault;

/// What is left out of a world, or bounded.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Less {
    /// At most so many nodes.
    pub nodes: Option<usize>,
    /// At most so many clients.
    pub clients: Option<usize>,
    /// Faults end after so many milliseconds at the latest.
    pub safety: Option<u64>,
    /// These kinds of faults never happen.
    pub without: BTreeSet<Fault>,
    /// Of what breaks now and then, only these happen; they count from 1.
    pub only_faults: Option<BTreeSet<u64>>,
    /// Of all bursts of calls, clients make only these.
    pub only_calls: Option<BTreeSet<u64>>,
    /// The time before what is left out is left out as well.
    pub close_up: bool,
    /// The same world with other dice, if not 0.
    pub roll: u64,
}

impl Less {
    /// Whether this fault happens.
    pub(crate) fn has_fault(&self, number: u64) -> bool {
        self.only_faults.as_ref().is_none_or(|only| only.contains(&number))
    }

    /// Whether these calls are made.
    pub(crate) fn has_calls(&self, burst: u64) -> bool {
        self.only_calls.as_ref().is_none_or(|only| only.contains(&burst))
    }
}

/// As flags for the command line, each with a space before it.
impl fmt::Display for Less {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = [
            ("nodes", self.nodes.map(|count| count as u64)),
            ("clients", self.clients.map(|count| count as u64)),
            ("safety", self.safety),
            ("roll", Some(self.roll).filter(|&roll| roll > 0)),
        ];
        for (flag, number) in numbers {
            if let Some(number) = number {
                write!(f, " --{flag} {number}")?;
            }
        }
        if !self.without.is_empty() {
            write!(f, " --without {}", list(&self.without))?;
        }
        for (flag, only) in [("only-faults", &self.only_faults), ("only-calls", &self.only_calls)] {
            match only {
                // A flag needs a value, and nothing has the number 0.
                Some(only) if only.is_empty() => write!(f, " --{flag} 0")?,
                Some(only) => write!(f, " --{flag} {}", list(only))?,
                None => {}
            }
        }
        if self.close_up { f.write_str(" --close-up") } else { Ok(()) }
    }
}

fn list<T: ToString>(of: &BTreeSet<T>) -> String {
    of.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_said_in_flags() {
        assert_eq!(Less::default().to_string(), "");
        let less = Less {
            nodes: Some(3),
            clients: Some(1),
            without: [Fault::Kill, Fault::Drop].into(),
            only_faults: Some([3, 17].into()),
            only_calls: Some(BTreeSet::new()),
            close_up: true,
            ..Less::default()
        };
        let flags = " --nodes 3 --clients 1 --without kill,drop --only-faults 3,17 --only-calls 0 --close-up";
        assert_eq!(less.to_string(), flags);
        assert!(less.has_fault(17) && !less.has_fault(4) && !less.has_calls(1));
    }
}
