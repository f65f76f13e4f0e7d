//! Why rules are refused.

use super::{CustomRule, QuorumRule, Rules, VOTERS_MAX, check};
use crate::NodeId;
use alloc::{boxed::Box, vec::Vec};
use core::fmt;

/// What a set of voters decides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Who leads.
    Election,
    /// That an entry stays.
    Commit,
}

/// After "could".
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Election => "elect a leader",
            Self::Commit => "commit entries",
        })
    }
}

/// Why quorum rules are refused.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RuleError {
    /// There are no voters.
    NoVoters,
    /// There are more than [`VOTERS_MAX`] voters.
    TooManyVoters {
        /// How many.
        count: usize,
    },
    /// The voters are not sorted by name, or one is there twice.
    Unsorted {
        /// The first that is not after the one before.
        voter: NodeId,
    },
    /// This node has no function for this custom rule.
    UnknownRule {
        /// The rule.
        rule: CustomRule,
    },
    /// A rule goes by groups, and this voter has none.
    Unlabelled {
        /// The voter.
        voter: NodeId,
    },
    /// A weight is given to somebody who is not a voter.
    WeightOfStranger {
        /// Whom it names.
        id: NodeId,
    },
    /// All or any of no rules.
    NoParts,
    /// A rule is nested more than [`QuorumRule::DEPTH_MAX`] levels deep.
    TooDeep,
    /// A rule is made of more than [`QuorumRule::PARTS_MAX`] rules.
    TooManyParts,
    /// Not even all voters together are a quorum.
    Unreachable {
        /// What they could never do.
        decision: Decision,
        /// The rule for it.
        rule: Box<QuorumRule>,
    },
    /// Nobody at all is a quorum.
    NeedsNobody {
        /// What would happen by itself.
        decision: Decision,
        /// The rule for it.
        rule: Box<QuorumRule>,
    },
    /// A set of voters is a quorum, and with one voter more it is none.
    NotMonotone {
        /// What they decide.
        decision: Decision,
        /// The rule for it.
        rule: Box<QuorumRule>,
        /// The voters that are a quorum.
        quorum: Vec<NodeId>,
        /// The voter that spoils it.
        spoiler: NodeId,
    },
    /// The rule answered twice, and not the same.
    Fickle {
        /// What they decide.
        decision: Decision,
        /// The rule for it.
        rule: Box<QuorumRule>,
        /// The voters it was asked about.
        voters: Vec<NodeId>,
    },
    /// Two sets without a common voter could each elect a leader, in the same term.
    TwoLeaders {
        /// The rule for elections.
        rule: Box<QuorumRule>,
        /// One set.
        one: Vec<NodeId>,
        /// The other.
        other: Vec<NodeId>,
    },
    /// A leader could be elected by voters none of which has what others committed.
    LostCommit {
        /// The rules.
        rules: Box<Rules>,
        /// The set that elects.
        elects: Vec<NodeId>,
        /// The set that commits.
        commits: Vec<NodeId>,
    },
    /// A custom rule can be checked only by trying all sets, and these are too many.
    TooManyForCustom {
        /// How many voters there are.
        voters: usize,
    },
    /// The rules tell too many voters apart for all sets to be tried.
    TooManyToCheck {
        /// How many voters there are.
        voters: usize,
    },
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVoters => f.write_str("a configuration needs at least one voter"),
            Self::TooManyVoters { count } => {
                write!(f, "a configuration has at most {VOTERS_MAX} voters, not {count}")
            }
            Self::Unsorted { voter } => {
                write!(f, "voters must be sorted by name, each there once; see voter {voter}")
            }
            Self::UnknownRule { rule } => {
                write!(f, "custom rule {rule} is not known here; give this node the function")
            }
            Self::Unlabelled { voter } => {
                write!(
                    f,
                    "voter {voter} has no group, and a quorum rule needs one; give it a label"
                )
            }
            Self::WeightOfStranger { id } => {
                write!(f, "a quorum rule gives a weight to {id}, who is not a voter; leave it out")
            }
            Self::NoParts => f.write_str("a quorum rule of all or any needs at least one part"),
            Self::TooDeep => {
                write!(f, "a quorum rule has at most {} levels", QuorumRule::DEPTH_MAX)
            }
            Self::TooManyParts => {
                write!(f, "a quorum rule has at most {} parts", QuorumRule::PARTS_MAX)
            }
            Self::Unreachable { decision, rule } => write!(
                f,
                "quorum rule \"{rule}\" can't be met: not even all voters together could {decision}"
            ),
            Self::NeedsNobody { decision, rule } => write!(
                f,
                "quorum rule \"{rule}\" is met by nobody at all: no voters could {decision}; ask for more"
            ),
            Self::NotMonotone { decision, rule, quorum, spoiler } => write!(
                f,
                "quorum rule \"{rule}\" is unsafe: {} could {decision}, but no longer once {spoiler} joins; \
                 a quorum with more voters must stay one",
                Ids(quorum)
            ),
            Self::Fickle { decision, rule, voters } => write!(
                f,
                "quorum rule \"{rule}\" is unsafe: asked twice whether {} could {decision}, it changed its \
                 answer; it must depend on the voters alone",
                Ids(voters)
            ),
            Self::TwoLeaders { rule, one, other } => write!(
                f,
                "quorum rule \"{rule}\" is unsafe: {} could elect a leader and {} another; any two sets that \
                 elect must share a voter",
                Ids(one),
                Ids(other)
            ),
            Self::LostCommit { rules, elects, commits } => write!(
                f,
                "quorum rules \"{rules}\" are unsafe: {} could elect a leader that lacks what {} committed; \
                 every set that elects must share a voter with every set that commits",
                Ids(elects),
                Ids(commits)
            ),
            Self::TooManyForCustom { voters } => write!(
                f,
                "a custom rule can be checked for at most {} voters, not {voters}; use fewer or a built-in rule",
                check::PROFILES_MAX.ilog2()
            ),
            Self::TooManyToCheck { voters } => write!(
                f,
                "quorum rules tell too many of {voters} voters apart to be checked; use fewer voters, groups or \
                 weights"
            ),
        }
    }
}

impl core::error::Error for RuleError {}

/// `{1, 2}`
struct Ids<'a>(&'a [NodeId]);

impl fmt::Display for Ids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0).finish()
    }
}
