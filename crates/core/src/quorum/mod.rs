//! Which sets of voters elect a leader and commit entries: rules, the proof that they are safe, and what they
//! survive.
//!
//! A [`QuorumRule`] is data: it is written into configurations and compared by its fingerprint.
//! [`Quorums::compile`] makes bit operations of it for given voters, [`Quorums::check`] proves that no two
//! disjoint sets can both decide, [`Quorums::tolerance`] says which failures it survives.
//!
//! ```
//! use tinyraftplus_core::NodeId;
//! use tinyraftplus_core::quorum::{CustomRules, Group, QuorumRule, Quorums, Rules, Voter};
//!
//! let group = |name| Group::new(name).ok();
//! let voters = [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "b"), (6, "b")]
//!     .map(|(id, name)| Voter { id: NodeId::from(id), group: group(name) });
//! let compile = |rule| Quorums::compile(&voters, &Rules::same(rule), &CustomRules::new());
//!
//! let quorums = compile(QuorumRule::MajorityOfEachGroup).expect("all are labelled");
//! assert_eq!(quorums.check(), Ok(()));
//! assert!(quorums.elects([0, 1, 3, 4].into_iter().collect()));
//! assert!(!quorums.elects([0, 1, 2, 3].into_iter().collect()));
//!
//! let halves = compile(QuorumRule::AtLeast(3)).expect("six can be three");
//! assert_eq!(
//!     halves.check().expect_err("two halves").to_string(),
//!     "quorum rule \"at least 3\" is unsafe: {1, 2, 3} could elect a leader and {4, 5, 6} another; \
//!      any two sets that elect must share a voter"
//! );
//! ```

#[cfg(doctest)]
#[doc = include_str!("../../../../docs/quorums.md")]
struct Manual;

mod check;
mod compile;
mod custom;
mod error;
mod names;
mod rule;
mod set;
mod tolerance;

pub use custom::{CustomRules, Predicate, Present};
pub use error::{Decision, RuleError};
pub use names::{CustomRule, CustomRuleError, Group, GroupError, Voter};
pub use rule::{QuorumRule, Rules};
pub use set::VoterSet;
pub use tolerance::{Survives, Tolerance};

use crate::{NodeId, Seq, planted};
use alloc::{boxed::Box, vec::Vec};
use compile::{Compiler, Test};
use core::cmp::Reverse;

/// The most voters of one configuration half.
pub const VOTERS_MAX: usize = 128;

/// The voters of one half of a configuration and its rules, ready to be asked.
///
/// In a joint configuration each half has its own, and every answer must be yes in both: an answer derived
/// from the union of the voters would be another rule (Raft section 6).
#[derive(Clone, Debug)]
pub struct Quorums {
    voters: Vec<Voter>,
    rules: Rules,
    elections: Test,
    commits: Test,
}

impl Quorums {
    /// Prepares these rules for these voters, which are sorted by name.
    ///
    /// It proves nothing: a node does this with any configuration that its log or a leader gives it, whose
    /// first user called [`Quorums::check`].
    ///
    /// # Errors
    ///
    /// If a rule makes no sense for these voters, or needs a function that `customs` has not.
    pub fn compile(
        voters: &[Voter],
        rules: &Rules,
        customs: &CustomRules,
    ) -> Result<Self, RuleError> {
        if voters.is_empty() {
            return Err(RuleError::NoVoters);
        }
        if voters.len() > VOTERS_MAX {
            return Err(RuleError::TooManyVoters { count: voters.len() });
        }
        let unsorted = voters.iter().zip(voters.iter().skip(1)).find(|(a, b)| a.id >= b.id);
        if let Some((_, voter)) = unsorted {
            return Err(RuleError::Unsorted { voter: voter.id });
        }
        let compiler = Compiler { voters, customs };
        let elections = compiler.compile(&rules.elections)?;
        let commits = compiler.compile(&rules.commits)?;
        let quorums = Self { voters: voters.to_vec(), rules: rules.clone(), elections, commits };
        for decision in [Decision::Election, Decision::Commit] {
            if !quorums.decides(decision, quorums.everyone(), 0) {
                let rule = Box::new(quorums.rule(decision).clone());
                return Err(RuleError::Unreachable { decision, rule });
            }
        }
        Ok(quorums)
    }

    /// The voters, sorted by name.
    pub fn voters(&self) -> &[Voter] {
        &self.voters
    }

    /// The rules.
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The place of this voter in [`Quorums::voters`], which names it in a [`VoterSet`].
    pub fn place(&self, id: NodeId) -> Option<usize> {
        self.voters.binary_search_by_key(&id, |voter| voter.id).ok()
    }

    /// All voters.
    pub fn everyone(&self) -> VoterSet {
        VoterSet::first(self.voters.len())
    }

    /// Whether these voters may elect a leader.
    pub fn elects(&self, set: VoterSet) -> bool {
        self.decides(Decision::Election, set, slack())
    }

    /// Whether an entry that these voters hold durably may be committed.
    pub fn commits(&self, set: VoterSet) -> bool {
        self.decides(Decision::Commit, set, slack())
    }

    /// Whether no leader can have been elected without one of these voters: all the others together do not
    /// elect. What confirms a read, and what a leader must hear from to stay one.
    pub fn confirms(&self, set: VoterSet) -> bool {
        !self.elects(set.complement(self.voters.len()))
    }

    /// Whether an entry that these voters are known not to hold can't have been committed: all the others
    /// together do not commit.
    pub fn may_discard(&self, nacks: VoterSet) -> bool {
        !self.commits(nacks.complement(self.voters.len()))
    }

    /// Up to where a set of voters that commits agrees; `ends` has how far each does, by its place. Who has no
    /// place in it holds nothing.
    ///
    /// O(n log n), and asks the rule O(log n) times: more voters are never a worse set, so only the voters that
    /// are furthest have to be tried.
    pub fn agreed(&self, ends: &[Seq]) -> Seq {
        let end = |place: u8| ends.get(usize::from(place)).copied().unwrap_or_default();
        let mut places = [0; VOTERS_MAX];
        let places = places.get_mut(..self.voters.len()).unwrap_or_default();
        places.iter_mut().zip(0..).for_each(|(place, n)| *place = n);
        places.sort_unstable_by_key(|&place| Reverse(end(place)));
        // How many of the furthest are too few, and how many are enough: all of them are, or they had not
        // been compiled.
        let (mut few, mut enough) = (0, places.len());
        while enough - few > 1 {
            let count = usize::midpoint(few, enough);
            let set = places.iter().take(count).map(|&place| usize::from(place)).collect();
            if self.commits(set) {
                enough = count;
            } else {
                few = count;
            }
        }
        places.get(enough - 1).map_or(Seq::ZERO, |&place| end(place))
    }

    fn decides(&self, decision: Decision, set: VoterSet, slack: usize) -> bool {
        self.test(decision).holds(&Present::new(&self.voters, set), slack)
    }

    const fn test(&self, decision: Decision) -> &Test {
        match decision {
            Decision::Election => &self.elections,
            Decision::Commit => &self.commits,
        }
    }

    const fn rule(&self, decision: Decision) -> &QuorumRule {
        match decision {
            Decision::Election => &self.rules.elections,
            Decision::Commit => &self.rules.commits,
        }
    }

    fn ids(&self, set: VoterSet) -> Vec<NodeId> {
        Present::new(&self.voters, set).iter().map(|voter| voter.id).collect()
    }
}

/// Equal voters under equal rules; a custom rule is its name and version.
impl PartialEq for Quorums {
    fn eq(&self, other: &Self) -> bool {
        self.voters == other.voters && self.rules == other.rules
    }
}

impl Eq for Quorums {}

/// How many votes too few pass for a quorum.
fn slack() -> usize {
    usize::from(planted::is(planted::Bug::ShortQuorum))
}
