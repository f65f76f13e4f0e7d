//! Rules that a program wrote itself, and what they get to see.

use super::{CustomRule, CustomRuleError, Group, Voter, VoterSet};
use crate::NodeId;
use alloc::{collections::BTreeMap, sync::Arc};
use core::fmt;

/// Whether these voters are a quorum.
///
/// It must answer from its argument alone, always the same, and never say no to a larger set than one it
/// said yes to. It must not panic. [`Quorums::check`](super::Quorums::check) tries all sets.
pub type Predicate = Arc<dyn Fn(&Present<'_>) -> bool + Send + Sync>;

/// The voters that are there: those that granted a vote, or that hold an entry.
#[derive(Clone, Copy, Debug)]
pub struct Present<'a> {
    voters: &'a [Voter],
    set: VoterSet,
}

impl<'a> Present<'a> {
    pub(super) const fn new(voters: &'a [Voter], set: VoterSet) -> Self {
        Self { voters, set }
    }

    pub(super) const fn set(&self) -> VoterSet {
        self.set
    }

    /// All voters of the configuration, there or not, sorted by name.
    pub const fn voters(&self) -> &'a [Voter] {
        self.voters
    }

    /// Those that are there, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &'a Voter> {
        let voters = self.voters;
        self.set.iter().filter_map(|place| voters.get(place))
    }

    /// How many are there.
    pub const fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether nobody is there.
    pub const fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Whether the voter of this name is there.
    pub fn contains(&self, id: NodeId) -> bool {
        let place = self.voters.binary_search_by_key(&id, |voter| voter.id);
        place.is_ok_and(|place| self.set.contains(place))
    }

    /// How many voters of this group are there.
    pub fn count_in(&self, group: Group) -> usize {
        self.iter().filter(|voter| voter.group == Some(group)).count()
    }
}

/// The custom rules that a node can evaluate.
#[derive(Clone, Default)]
pub struct CustomRules {
    rules: BTreeMap<CustomRule, Predicate>,
}

impl CustomRules {
    /// The most that a node has: their names travel in its first message to every peer.
    pub const COUNT_MAX: usize = 64;

    /// None.
    pub const fn new() -> Self {
        Self { rules: BTreeMap::new() }
    }

    /// Adds a rule; see [`Predicate`] for what it must obey.
    ///
    /// # Errors
    ///
    /// If the name is no name, there is one of this name and version, or there are too many.
    pub fn add(
        &mut self,
        name: &str,
        version: u32,
        holds: impl Fn(&Present<'_>) -> bool + Send + Sync + 'static,
    ) -> Result<CustomRule, CustomRuleError> {
        let rule = CustomRule::new(name, version)?;
        if self.rules.contains_key(&rule) {
            return Err(CustomRuleError::Repeated(rule));
        }
        if self.rules.len() == Self::COUNT_MAX {
            return Err(CustomRuleError::TooMany);
        }
        self.rules.insert(rule, Arc::new(holds));
        Ok(rule)
    }

    /// The function of this name and version.
    pub fn get(&self, rule: CustomRule) -> Option<&Predicate> {
        self.rules.get(&rule)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = CustomRule> {
        self.rules.keys().copied()
    }
}

impl fmt::Debug for CustomRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.rules.keys()).finish()
    }
}
