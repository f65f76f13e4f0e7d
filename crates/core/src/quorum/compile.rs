//! Rules as a tree of thresholds over bit sets.

use super::{
    CustomRule, CustomRules, Group, Predicate, Present, QuorumRule, RuleError, Voter, VoterSet,
};
use crate::NodeId;
use alloc::{collections::BTreeMap, vec::Vec};
use core::fmt;

/// A rule for given voters. Every declarative rule is a threshold, so they are all monotone by construction.
#[derive(Clone)]
pub(super) enum Test {
    /// At least so many of these voters.
    Count { of: VoterSet, least: usize },
    /// Enough weight: each weight with those who have it.
    Weigh { weights: Vec<(u64, VoterSet)>, least: u64 },
    /// At least so many of these tests.
    Of { tests: Vec<Self>, least: usize },
    /// A function of the program's.
    Custom { rule: CustomRule, holds: Predicate },
}

impl Test {
    /// Whether these voters are a quorum. `slack` is how many voters too few each count accepts: 0 in earnest.
    pub(super) fn holds(&self, present: &Present<'_>, slack: usize) -> bool {
        match self {
            Self::Count { of, least } => present.set().intersection(*of).len() + slack >= *least,
            Self::Weigh { weights, least } => {
                let weight = |(weight, of): &(u64, VoterSet)| {
                    // At most 128 times a u32.
                    weight * present.set().intersection(*of).len() as u64
                };
                weights.iter().map(weight).sum::<u64>() >= *least
            }
            Self::Of { tests, least } => {
                let mut missing = *least;
                let mut tests = tests.iter();
                while missing > 0 {
                    let Some(test) = tests.next() else { return false };
                    missing -= usize::from(test.holds(present, slack));
                }
                true
            }
            Self::Custom { holds, .. } => holds(present),
        }
    }

    /// Splits classes of voters until none holds two that this test could tell apart.
    pub(super) fn split(&self, classes: Vec<VoterSet>) -> Vec<VoterSet> {
        let by = |classes: Vec<VoterSet>, of: VoterSet| {
            let parts =
                classes.iter().flat_map(|class| [class.intersection(of), class.without(of)]);
            parts.filter(|part| !part.is_empty()).collect()
        };
        match self {
            Self::Count { of, .. } => by(classes, *of),
            Self::Weigh { weights, .. } => {
                weights.iter().fold(classes, |classes, (_, of)| by(classes, *of))
            }
            Self::Of { tests, .. } => {
                tests.iter().fold(classes, |classes, test| test.split(classes))
            }
            Self::Custom { .. } => {
                classes.iter().flat_map(|class| class.iter().map(VoterSet::only)).collect()
            }
        }
    }

    /// Whether a function of the program's takes part.
    pub(super) fn is_custom(&self) -> bool {
        match self {
            Self::Count { .. } | Self::Weigh { .. } => false,
            Self::Of { tests, .. } => tests.iter().any(Self::is_custom),
            Self::Custom { .. } => true,
        }
    }
}

impl fmt::Debug for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count { of, least } => write!(f, "{least} of {of:?}"),
            Self::Weigh { weights, least } => write!(f, "{least} by {weights:?}"),
            Self::Of { tests, least } => write!(f, "{least} of {tests:?}"),
            Self::Custom { rule, .. } => write!(f, "{rule}"),
        }
    }
}

/// Compiles the rules of one configuration half.
pub(super) struct Compiler<'a> {
    pub(super) voters: &'a [Voter],
    pub(super) customs: &'a CustomRules,
}

impl Compiler<'_> {
    pub(super) fn compile(&self, rule: &QuorumRule) -> Result<Test, RuleError> {
        let mut parts = 0;
        self.part(rule, 1, &mut parts)
    }

    fn part(&self, rule: &QuorumRule, depth: usize, parts: &mut usize) -> Result<Test, RuleError> {
        *parts += 1;
        if depth > QuorumRule::DEPTH_MAX {
            return Err(RuleError::TooDeep);
        }
        if *parts > QuorumRule::PARTS_MAX {
            return Err(RuleError::TooManyParts);
        }
        let everyone = VoterSet::first(self.voters.len());
        Ok(match rule {
            QuorumRule::Majority => majority(everyone),
            QuorumRule::AtLeast(least) => count(everyone, *least),
            QuorumRule::MajorityOfEachGroup => all(self.groups()?.into_values().map(majority)),
            QuorumRule::MajorityOfGroups => {
                let tests: Vec<_> = self.groups()?.into_values().map(majority).collect();
                Test::Of { least: tests.len() / 2 + 1, tests }
            }
            QuorumRule::InEachGroup(least) => {
                all(self.groups()?.into_values().map(|group| count(group, *least)))
            }
            QuorumRule::Weighted { weights, at_least } => self.weigh(weights, *at_least)?,
            QuorumRule::All(rules) => all(self.parts(rules, depth, parts)?.into_iter()),
            QuorumRule::Any(rules) => {
                Test::Of { tests: self.parts(rules, depth, parts)?, least: 1 }
            }
            QuorumRule::Custom(rule) => {
                let holds =
                    self.customs.get(*rule).ok_or(RuleError::UnknownRule { rule: *rule })?;
                Test::Custom { rule: *rule, holds: holds.clone() }
            }
        })
    }

    fn parts(
        &self,
        rules: &[QuorumRule],
        depth: usize,
        parts: &mut usize,
    ) -> Result<Vec<Test>, RuleError> {
        if rules.is_empty() {
            return Err(RuleError::NoParts);
        }
        rules.iter().map(|rule| self.part(rule, depth + 1, parts)).collect()
    }

    fn groups(&self) -> Result<BTreeMap<Group, VoterSet>, RuleError> {
        let mut groups = BTreeMap::<Group, VoterSet>::new();
        for (place, voter) in self.voters.iter().enumerate() {
            let group = voter.group.ok_or(RuleError::Unlabelled { voter: voter.id })?;
            groups.entry(group).or_default().insert(place);
        }
        Ok(groups)
    }

    fn weigh(&self, weights: &BTreeMap<NodeId, u32>, least: u64) -> Result<Test, RuleError> {
        let mut classes = BTreeMap::<u64, VoterSet>::new();
        for (&voter, &weight) in weights {
            let place = self.voters.binary_search_by_key(&voter, |voter| voter.id);
            let place = place.map_err(|_| RuleError::WeightOfStranger { id: voter })?;
            if weight > 0 {
                classes.entry(u64::from(weight)).or_default().insert(place);
            }
        }
        Ok(Test::Weigh { weights: classes.into_iter().collect(), least })
    }
}

fn majority(of: VoterSet) -> Test {
    Test::Count { of, least: of.len() / 2 + 1 }
}

fn count(of: VoterSet, least: u32) -> Test {
    Test::Count { of, least: usize::try_from(least).unwrap_or(usize::MAX) }
}

fn all(tests: impl Iterator<Item = Test>) -> Test {
    let tests: Vec<_> = tests.collect();
    Test::Of { least: tests.len(), tests }
}
