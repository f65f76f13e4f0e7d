//! What rules survive, for people to read.

use super::{Decision, Group, Quorums, VoterSet};
use crate::NodeId;
use alloc::{collections::BTreeSet, vec::Vec};
use core::fmt;

/// Which failures elections and commits survive.
///
/// Safe is not available: a rule that asks for much in every group stops when one group is lost. Print this
/// where an operator sees it before it happens.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Tolerance {
    /// Of how many voters.
    pub voters: usize,
    /// Of how many groups.
    pub groups: usize,
    /// What elections survive.
    pub elections: Survives,
    /// What commits survive.
    pub commits: Survives,
}

/// Which failures a decision survives.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Survives {
    /// How many voters may fail at once, whichever they are; `None` if that takes too long to find out.
    pub any: Option<usize>,
    /// The voters whose loss alone stops it, sorted.
    pub fatal_voters: Vec<NodeId>,
    /// The groups whose loss alone stops it, sorted.
    pub fatal_groups: Vec<Group>,
}

impl Quorums {
    /// Which failures these rules survive; with a custom rule and 20 voters it takes up to seconds, as
    /// [`Quorums::check`] does.
    pub fn tolerance(&self) -> Tolerance {
        let groups: BTreeSet<Group> = self.voters.iter().filter_map(|voter| voter.group).collect();
        Tolerance {
            voters: self.voters.len(),
            groups: groups.len(),
            elections: self.survives(Decision::Election, &groups),
            commits: self.survives(Decision::Commit, &groups),
        }
    }

    fn survives(&self, decision: Decision, groups: &BTreeSet<Group>) -> Survives {
        let stops = |lost: VoterSet| !self.decides(decision, self.everyone().without(lost), 0);
        let numbered = || self.voters.iter().enumerate();
        let fatal_voters = numbered()
            .filter(|(place, _)| stops(VoterSet::only(*place)))
            .map(|(_, voter)| voter.id)
            .collect();
        let of = |group: Group| {
            let members = numbered().filter(|(_, voter)| voter.group == Some(group));
            members.map(|(place, _)| place).collect()
        };
        let fatal_groups = groups.iter().copied().filter(|&group| stops(of(group))).collect();
        let any = self.spare(decision);
        Survives { any, fatal_voters, fatal_groups }
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_line(f, "elections", &self.elections)?;
        f.write_str("\n")?;
        self.fmt_line(f, "commits", &self.commits)
    }
}

impl Tolerance {
    fn fmt_line(&self, f: &mut fmt::Formatter<'_>, what: &str, survives: &Survives) -> fmt::Result {
        let voters = self.voters;
        write!(f, "{what} survive ")?;
        match survives.any {
            None => write!(f, "the loss of an unknown number of {voters} voters")?,
            Some(0) if survives.fatal_voters.len() == voters => {
                write!(f, "the loss of none of {voters} voters")?;
            }
            Some(0) => {
                write!(f, "the loss of some of {voters} voters, but not of ")?;
                fmt_or(f, &survives.fatal_voters)?;
            }
            Some(count) => write!(f, "the loss of any {count} of {voters} voters")?,
        }
        if self.groups == 0 {
            return Ok(());
        }
        if survives.fatal_groups.is_empty() {
            return write!(f, "; they survive losing any one of {} groups", self.groups);
        }
        f.write_str("; losing group ")?;
        fmt_or(f, &survives.fatal_groups)?;
        f.write_str(" stops them")
    }
}

/// `a, b or c`
fn fmt_or<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (at, item) in items.iter().enumerate() {
        let before = match at {
            0 => "",
            _ if at + 1 == items.len() => " or ",
            _ => ", ",
        };
        write!(f, "{before}{item}")?;
    }
    Ok(())
}
