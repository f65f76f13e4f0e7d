//! Quorum rules of all kinds, safe or not: whoever uses one asks first.

use std::collections::BTreeMap;

use tinyraftplus_core::quorum::{CustomRule, CustomRules, Group, Present, Rules};
use tinyraftplus_core::{NodeId, QuorumRule};

use crate::rng::Rng;

/// The name of a rule of our own: a majority of all, with somebody of every group.
const WITH_EVERY_GROUP: &str = "with-every-group";

/// Gives nodes the rules of our own.
pub(crate) fn add_customs(customs: &mut CustomRules) {
    let holds = |present: &Present<'_>| {
        let of_group = |voter: &tinyraftplus_core::quorum::Voter| {
            present.iter().any(|other| other.group == voter.group)
        };
        present.len() * 2 > present.voters().len() && present.voters().iter().all(of_group)
    };
    customs.add(WITH_EVERY_GROUP, 1, holds).expect("the only rule of that name");
}

/// What the rule of our own says, once more: of so many voters, with so many in each group, and how many are there.
pub(crate) fn custom(
    name: &str,
    count: usize,
    groups: &BTreeMap<Option<Group>, (usize, usize)>,
) -> bool {
    let all: usize = groups.values().map(|&(all, _)| all).sum();
    name == WITH_EVERY_GROUP && count * 2 > all && groups.values().all(|&(_, here)| here > 0)
}

/// Whether a rule of the user's own is part of these.
pub(crate) fn has_custom(rules: &Rules) -> bool {
    fn is_custom(rule: &QuorumRule) -> bool {
        match rule {
            QuorumRule::Custom(_) => true,
            QuorumRule::All(parts) | QuorumRule::Any(parts) => parts.iter().any(is_custom),
            QuorumRule::Majority
            | QuorumRule::AtLeast(_)
            | QuorumRule::MajorityOfEachGroup
            | QuorumRule::MajorityOfGroups
            | QuorumRule::InEachGroup(_)
            | QuorumRule::Weighted { .. }
            | _ => false,
        }
    }
    is_custom(&rules.elections) || is_custom(&rules.commits)
}

/// Some rules for that many voters.
pub(crate) fn draw(rng: &mut Rng, voters: usize) -> Rules {
    let elections = rule(rng, voters, 2);
    let mut rules = Rules::same(elections);
    if rng.chance(500) {
        rules.commits = rule(rng, voters, 2);
    }
    rules
}

fn rule(rng: &mut Rng, voters: usize, depth: u32) -> QuorumRule {
    let at_least = |rng: &mut Rng, most: usize| {
        u32::try_from(rng.between(1, most as u64)).expect("a few voters")
    };
    match rng.below(if depth > 0 { 10 } else { 8 }) {
        0 | 1 => QuorumRule::Majority,
        2 => QuorumRule::AtLeast(at_least(rng, voters)),
        3 => QuorumRule::MajorityOfEachGroup,
        4 => QuorumRule::MajorityOfGroups,
        5 => QuorumRule::InEachGroup(at_least(rng, 2)),
        6 => {
            let ids = (1..=voters as u64).map(NodeId::from);
            let weights: BTreeMap<_, _> = ids.map(|id| (id, at_least(rng, 3))).collect();
            let sum: u64 = weights.values().map(|&weight| u64::from(weight)).sum();
            QuorumRule::Weighted { weights, at_least: rng.between(sum / 2 + 1, sum) }
        }
        7 => QuorumRule::Custom(CustomRule::new(WITH_EVERY_GROUP, 1).expect("a short name")),
        kind => {
            let parts = (0..2).map(|_| rule(rng, voters, depth - 1)).collect();
            if kind == 8 { QuorumRule::All(parts) } else { QuorumRule::Any(parts) }
        }
    }
}
