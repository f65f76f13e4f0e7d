//! Who belongs to the cluster, and which sets of them are quorums.

use crate::{Identity, NodeId, Seq};
use alloc::vec::Vec;
use core::fmt;

/// A member of the cluster: a name, and the one log that may speak under it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Member {
    /// Its name.
    pub id: NodeId,
    /// The identity of its log.
    pub identity: Identity,
}

/// Which sets of voters may elect a leader and commit entries.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum QuorumRule {
    /// More than half: `floor(n / 2) + 1` of n.
    #[default]
    Majority,
    /// At least this many. Must be more than half, or two halves could each elect a leader.
    AtLeast(u32),
}

impl QuorumRule {
    /// Checks that any two quorums among `members` voters share one, and that all of them are a quorum.
    ///
    /// # Errors
    ///
    /// If the rule is unsafe, or could never be met.
    pub fn check(self, members: usize) -> Result<(), RuleError> {
        match self {
            Self::Majority => Ok(()),
            Self::AtLeast(count) => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                if count > members {
                    Err(RuleError::Unreachable { count, members })
                } else if count <= members / 2 {
                    Err(RuleError::Unsafe { count, members })
                } else {
                    Ok(())
                }
            }
        }
    }

    /// The smallest number of voters that is a quorum.
    fn least(self, members: usize) -> usize {
        let honest = match self {
            Self::Majority => members / 2 + 1,
            Self::AtLeast(count) => usize::try_from(count).unwrap_or(usize::MAX),
        };
        if crate::planted::is(crate::planted::Bug::ShortQuorum) {
            honest.saturating_sub(1)
        } else {
            honest
        }
    }
}

/// Why a quorum rule is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RuleError {
    /// Two disjoint sets of voters would both be quorums.
    Unsafe {
        /// The size of a quorum.
        count: usize,
        /// The number of voters.
        members: usize,
    },
    /// Not even all voters together are a quorum.
    Unreachable {
        /// The size of a quorum.
        count: usize,
        /// The number of voters.
        members: usize,
    },
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsafe { count, members } => write!(
                f,
                "a quorum of {count} among {members} nodes is unsafe: {count} nodes and the other {} could each elect a leader; use at least {}",
                members - count,
                members / 2 + 1
            ),
            Self::Unreachable { count, members } => {
                write!(
                    f,
                    "a quorum of {count} can't be met by {members} nodes; use at most {members}"
                )
            }
        }
    }
}

impl core::error::Error for RuleError {}

/// The members, and the rule that says which sets of them decide.
///
/// Invariants: members are sorted by name, names and identities are distinct, there is at least one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Configuration {
    members: Vec<Member>,
    rule: QuorumRule,
    first: Seq,
}

impl Configuration {
    /// A configuration of these members whose log begins at `first`; `None` if a name or an identity repeats,
    /// there are no members, the rule is not safe for that many, or `first` is past the last position.
    pub fn new(mut members: Vec<Member>, rule: QuorumRule, first: Seq) -> Option<Self> {
        members.sort_unstable();
        let mut identities: Vec<_> = members.iter().map(|member| member.identity).collect();
        identities.sort_unstable();
        let distinct =
            members.is_sorted_by(|a, b| a.id < b.id) && identities.is_sorted_by(|a, b| a < b);
        let decides = !members.is_empty() && rule.check(members.len()).is_ok();
        (distinct && decides && first < Seq::MAX).then_some(Self { members, rule, first })
    }

    /// The members, sorted by name.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The quorum rule.
    pub const fn rule(&self) -> QuorumRule {
        self.rule
    }

    /// The first position of the cluster's log.
    pub const fn first(&self) -> Seq {
        self.first
    }

    /// The identity that this node's log must have to speak for it.
    pub fn identity_of(&self, id: NodeId) -> Option<Identity> {
        self.members.iter().find(|member| member.id == id).map(|member| member.identity)
    }

    /// Whether these members may elect a leader.
    pub fn elects(&self, has: impl Fn(NodeId) -> bool) -> bool {
        self.count(has) >= self.rule.least(self.members.len())
    }

    /// Whether these members may commit an entry.
    pub fn commits(&self, has: impl Fn(NodeId) -> bool) -> bool {
        self.count(has) >= self.rule.least(self.members.len())
    }

    /// Whether no leader can have been elected without one of these members: all the others together do not
    /// elect. What confirms a read, and what a leader must hear from to stay one.
    pub fn confirms(&self, has: impl Fn(NodeId) -> bool) -> bool {
        !self.elects(|id| !has(id))
    }

    /// Up to where a set of members that commits agrees, given how far each does.
    pub fn agreed(&self, matched: impl Fn(NodeId) -> Seq) -> Seq {
        let mut ends: Vec<Seq> = self.members.iter().map(|member| matched(member.id)).collect();
        ends.sort_unstable();
        let agreed = ends.into_iter().rev().find(|&end| self.commits(|id| matched(id) >= end));
        agreed.unwrap_or_default()
    }

    /// A number that differs between different sets of names, rules and first positions. Identities do not
    /// count: they are what forming finds out.
    pub fn fingerprint<'a>(
        ids: impl IntoIterator<Item = &'a NodeId>,
        rule: QuorumRule,
        first: Seq,
    ) -> u64 {
        let mut ids: Vec<&NodeId> = ids.into_iter().collect();
        ids.sort_unstable();
        let (kind, count) = match rule {
            QuorumRule::Majority => (1, 0),
            QuorumRule::AtLeast(count) => (2, count),
        };
        let names = ids.into_iter().flat_map(|id| id.as_str().bytes().chain([0]));
        // FNV-1a: collisions by accident, not by malice, are what this has to tell apart.
        [kind]
            .into_iter()
            .chain(count.to_le_bytes())
            .chain(first.get().to_le_bytes())
            .chain(names)
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
    }

    fn count(&self, has: impl Fn(NodeId) -> bool) -> usize {
        self.members.iter().filter(|member| has(member.id)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(count: u64, rule: QuorumRule) -> Configuration {
        let members = (1..=count)
            .map(|n| Member { id: NodeId::from(n), identity: Identity::new(u128::from(n)) })
            .collect();
        Configuration::new(members, rule, Seq::ZERO).unwrap()
    }

    /// `even_cluster_split_brain`: with half of an even cluster as a quorum, both halves elect a leader and
    /// acknowledge different entries at one seq. Fails if `least` becomes `members.div_ceil(2)`.
    #[test]
    fn even_cluster_split_brain() {
        for count in 1..=7_u64 {
            let mut rules = alloc::vec![QuorumRule::Majority];
            rules.extend((1..=7).map(QuorumRule::AtLeast).filter(|rule| rule.check(7).is_ok()));
            for rule in rules {
                if rule.check(usize::try_from(count).unwrap()).is_err() {
                    continue;
                }
                let cluster = cluster(count, rule);
                let ids: Vec<NodeId> = (1..=count).map(NodeId::from).collect();
                for mask in 0..1_u32 << count {
                    let has = |id| {
                        ids.iter()
                            .position(|&other| other == id)
                            .is_some_and(|at| mask >> at & 1 == 1)
                    };
                    assert!(
                        !(cluster.elects(has) && cluster.elects(|id| !has(id))),
                        "{rule:?} of {count}: {mask:b}"
                    );
                    assert!(
                        !(cluster.elects(has) && cluster.commits(|id| !has(id))),
                        "{rule:?} of {count}: {mask:b}"
                    );
                    assert!(
                        !(cluster.elects(has) && cluster.confirms(|id| !has(id))),
                        "{rule:?} of {count}: {mask:b}"
                    );
                }
            }
        }
        assert!(matches!(
            QuorumRule::AtLeast(2).check(4),
            Err(RuleError::Unsafe { count: 2, members: 4 })
        ));
        assert!(matches!(QuorumRule::AtLeast(0).check(1), Err(RuleError::Unsafe { .. })));
        assert!(matches!(QuorumRule::AtLeast(5).check(4), Err(RuleError::Unreachable { .. })));
    }

    #[test]
    fn agreed_is_what_a_quorum_has() {
        let cluster = cluster(5, QuorumRule::Majority);
        let ends = [9, 2, 7, 2, 5].map(Seq::new);
        let matched = |id: NodeId| {
            (1..=5)
                .zip(ends)
                .find(|(n, _)| NodeId::from(*n) == id)
                .map_or(Seq::ZERO, |(_, end)| end)
        };
        assert_eq!(cluster.agreed(matched), Seq::new(5));
    }

    #[test]
    fn what_could_not_work_is_no_configuration() {
        let member = |n: u64, i| Member { id: NodeId::from(n), identity: Identity::new(i) };
        let two = alloc::vec![member(1, 1), member(2, 2)];
        let of_two = |rule, first| Configuration::new(two.clone(), rule, first);
        assert!(of_two(QuorumRule::AtLeast(2), Seq::ZERO).is_some());
        assert_eq!(of_two(QuorumRule::AtLeast(1), Seq::ZERO), None, "two leaders at once");
        assert_eq!(of_two(QuorumRule::Majority, Seq::MAX), None, "no room for an entry");
        for members in [
            alloc::vec![],
            alloc::vec![member(1, 1), member(1, 2)],
            alloc::vec![member(1, 1), member(2, 1)],
        ] {
            assert_eq!(Configuration::new(members, QuorumRule::Majority, Seq::ZERO), None);
        }
    }
}
