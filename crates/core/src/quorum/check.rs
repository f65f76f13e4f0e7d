//! The proof that rules are safe: all sets of voters are tried.
//!
//! Rules are monotone (that is tried first), so if two disjoint sets decide, then so do one of them and all
//! the others: trying each set against its complement finds every pair. And voters that no rule tells apart
//! are interchangeable: how many there are of each kind is all that matters. So 128 voters in three groups
//! are fewer cases than 20 voters under a custom rule, which could tell any voter from any other.

use super::{Decision, Quorums, RuleError, VoterSet, compile::Test};
use alloc::{boxed::Box, vec, vec::Vec};

/// The most profiles that are tried: all sets of 20 voters.
pub(super) const PROFILES_MAX: usize = 1 << 20;

impl Quorums {
    /// Proves that these rules are safe: that whoever decides still does with more voters, that nobody decides
    /// nothing, and that every set that elects shares a voter with every set that elects and with every set
    /// that commits.
    ///
    /// Takes up to a few seconds with a custom rule, so it is done once, when somebody gives the rules, and
    /// not by a node that is busy.
    ///
    /// # Errors
    ///
    /// If they are not safe, which names the voters that could do harm, or too many for a proof.
    pub fn check(&self) -> Result<(), RuleError> {
        let kinds = Kinds::new(self, &[&self.elections, &self.commits])
            .ok_or_else(|| self.too_many_to_check())?;
        let elects = self.table(Decision::Election, &kinds)?;
        self.check_growth(Decision::Election, &kinds, &elects)?;
        let commits = if self.rules.elections == self.rules.commits {
            None
        } else {
            let commits = self.table(Decision::Commit, &kinds)?;
            self.check_growth(Decision::Commit, &kinds, &commits)?;
            Some(commits)
        };
        if let Some((one, other)) = self.disjoint(&kinds, &elects, Decision::Election, &elects) {
            let rule = Box::new(self.rules.elections.clone());
            return Err(RuleError::TwoLeaders { rule, one, other });
        }
        let Some(commits) = commits else { return Ok(()) };
        if let Some((elects, commits)) = self.disjoint(&kinds, &elects, Decision::Commit, &commits)
        {
            let rules = Box::new(self.rules.clone());
            return Err(RuleError::LostCommit { rules, elects, commits });
        }
        Ok(())
    }

    fn too_many_to_check(&self) -> RuleError {
        let voters = self.voters.len();
        if self.elections.is_custom() || self.commits.is_custom() {
            RuleError::TooManyForCustom { voters }
        } else {
            RuleError::TooManyToCheck { voters }
        }
    }

    /// Which profiles decide. A program's function is asked twice, in another order, since one that goes by a
    /// clock or a counter proves nothing.
    fn table(&self, decision: Decision, kinds: &Kinds) -> Result<Table, RuleError> {
        let table = kinds.table(|set| self.decides(decision, set, 0));
        if self.test(decision).is_custom() {
            let differs =
                |&index: &usize| self.decides(decision, kinds.set(index), 0) != table.holds(index);
            if let Some(index) = (0..kinds.profiles).rev().find(differs) {
                let rule = Box::new(self.rule(decision).clone());
                let voters = self.ids(kinds.set(index));
                return Err(RuleError::Fickle { decision, rule, voters });
            }
        }
        Ok(table)
    }

    /// That nobody is no quorum, and that a quorum stays one when a voter joins.
    fn check_growth(
        &self,
        decision: Decision,
        kinds: &Kinds,
        table: &Table,
    ) -> Result<(), RuleError> {
        let rule = || Box::new(self.rule(decision).clone());
        if table.holds(0) {
            return Err(RuleError::NeedsNobody { decision, rule: rule() });
        }
        for index in (0..kinds.profiles).filter(|&index| table.holds(index)) {
            let spoils = |kind: &&Kind| {
                kind.count(index) < kind.voters.len() && !table.holds(index + kind.stride)
            };
            if let Some(kind) = kinds.kinds.iter().find(spoils) {
                let quorum = kinds.set(index);
                let spoiler = self.ids(kind.voters.without(quorum)).into_iter().next();
                if let Some(spoiler) = spoiler {
                    let quorum = self.ids(quorum);
                    return Err(RuleError::NotMonotone { decision, rule: rule(), quorum, spoiler });
                }
            }
        }
        Ok(())
    }

    /// A smallest set that elects while voters outside of it decide, and those, as few as will do.
    fn disjoint(
        &self,
        kinds: &Kinds,
        elects: &Table,
        decision: Decision,
        decides: &Table,
    ) -> Option<(Vec<crate::NodeId>, Vec<crate::NodeId>)> {
        let harmful =
            |&index: &usize| elects.holds(index) && decides.holds(kinds.complement(index));
        let index = (0..kinds.profiles).filter(harmful).min_by_key(|&index| kinds.len(index))?;
        let one = kinds.set(index);
        let mut other = one.complement(self.voters.len());
        let places: Vec<_> = other.iter().collect();
        for place in places.into_iter().rev() {
            let fewer = other.without(VoterSet::only(place));
            if self.decides(decision, fewer, 0) {
                other = fewer;
            }
        }
        Some((self.ids(one), self.ids(other)))
    }

    /// How many voters may be lost, whichever they are; `None` if that takes too long to find out.
    pub(super) fn spare(&self, decision: Decision) -> Option<usize> {
        let kinds = Kinds::new(self, &[self.test(decision)])?;
        let too_few = (0..kinds.profiles)
            .filter(|&index| !self.decides(decision, kinds.set(index), 0))
            .map(|index| kinds.len(index));
        let needed = too_few.max().map_or(0, |most| most + 1);
        Some(self.voters.len().saturating_sub(needed))
    }
}

/// Voters that no rule tells apart.
struct Kind {
    voters: VoterSet,
    /// By how much the number of a profile grows when one more of them is there.
    stride: usize,
}

impl Kind {
    /// How many of them are there.
    const fn count(&self, index: usize) -> usize {
        index / self.stride % (self.voters.len() + 1)
    }
}

/// The kinds of voters. A profile is how many of each kind are there; it stands for all sets of which that is
/// true, and its number has a digit for each kind.
struct Kinds {
    kinds: Vec<Kind>,
    profiles: usize,
}

impl Kinds {
    /// `None` if there are more than [`PROFILES_MAX`] profiles.
    fn new(quorums: &Quorums, tests: &[&Test]) -> Option<Self> {
        let one = vec![quorums.everyone()];
        let classes = tests.iter().fold(one, |classes, test| test.split(classes));
        let mut profiles = 1_usize;
        let mut kinds = Vec::new();
        for voters in classes {
            kinds.push(Kind { voters, stride: profiles });
            profiles =
                profiles.checked_mul(voters.len() + 1).filter(|&count| count <= PROFILES_MAX)?;
        }
        Some(Self { kinds, profiles })
    }

    /// A set of this profile.
    fn set(&self, index: usize) -> VoterSet {
        let some = self.kinds.iter().flat_map(|kind| kind.voters.iter().take(kind.count(index)));
        some.collect()
    }

    /// How many voters such a set has.
    fn len(&self, index: usize) -> usize {
        self.kinds.iter().map(|kind| kind.count(index)).sum()
    }

    /// The profile of the others: every digit is what is missing to its largest.
    const fn complement(&self, index: usize) -> usize {
        self.profiles - 1 - index
    }

    fn table(&self, holds: impl Fn(VoterSet) -> bool) -> Table {
        Table((0..self.profiles).map(|index| holds(self.set(index))).collect())
    }
}

/// Whether a set of each profile is a quorum.
struct Table(Vec<bool>);

impl Table {
    fn holds(&self, index: usize) -> bool {
        self.0.get(index).copied().unwrap_or_default()
    }
}
