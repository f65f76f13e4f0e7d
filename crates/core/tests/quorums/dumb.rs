//! What rules mean, said as plainly as possible and without any cleverness of the real thing: names instead
//! of places, counting instead of bits, all pairs of sets instead of complements.

use std::collections::BTreeSet;
use tinyraftplus_core::NodeId;
use tinyraftplus_core::quorum::{Group, QuorumRule, Voter};

pub(crate) fn is_quorum(rule: &QuorumRule, voters: &[Voter], there: &BTreeSet<NodeId>) -> bool {
    let groups: BTreeSet<Group> = voters.iter().map(|voter| voter.group.unwrap()).collect();
    let size = |group| voters.iter().filter(|voter| voter.group == Some(group)).count();
    let count = |group| {
        let of = |voter: &&Voter| voter.group == Some(group) && there.contains(&voter.id);
        voters.iter().filter(of).count()
    };
    let has_majority = |group: &Group| 2 * count(*group) > size(*group);
    match rule {
        QuorumRule::Majority => 2 * there.len() > voters.len(),
        QuorumRule::AtLeast(least) => there.len() >= *least as usize,
        QuorumRule::MajorityOfEachGroup => groups.iter().all(has_majority),
        QuorumRule::MajorityOfGroups => {
            2 * groups.iter().filter(|group| has_majority(group)).count() > groups.len()
        }
        QuorumRule::InEachGroup(least) => {
            groups.iter().all(|&group| count(group) >= *least as usize)
        }
        QuorumRule::Weighted { weights, at_least } => {
            let weight = |id: &NodeId| u64::from(weights.get(id).copied().unwrap_or_default());
            there.iter().map(weight).sum::<u64>() >= *at_least
        }
        QuorumRule::All(rules) => rules.iter().all(|rule| is_quorum(rule, voters, there)),
        QuorumRule::Any(rules) => rules.iter().any(|rule| is_quorum(rule, voters, there)),
        QuorumRule::Custom(_) | _ => panic!("{rule} is not declarative"),
    }
}

/// Whether each set of voters, as bits, is a quorum.
pub(crate) fn table(rule: &QuorumRule, voters: &[Voter]) -> Vec<bool> {
    let there = |bits: usize| {
        let there = (0..voters.len()).filter(|at| bits >> at & 1 == 1);
        there.map(|at| voters[at].id).collect()
    };
    (0..1 << voters.len()).map(|bits| is_quorum(rule, voters, &there(bits))).collect()
}

/// DESIGN section 7, word by word, for tables of elections and commits.
pub(crate) fn is_safe(elects: &[bool], commits: &[bool]) -> bool {
    is_monotone(elects)
        && is_monotone(commits)
        && meets_sense(elects)
        && meets_sense(commits)
        && intersect(elects, elects)
        && intersect(elects, commits)
}

/// All are a quorum, nobody is none.
fn meets_sense(table: &[bool]) -> bool {
    !table[0] && table[table.len() - 1]
}

fn is_monotone(table: &[bool]) -> bool {
    let larger = |set: usize| (0..table.len()).filter(move |other| set & other == set);
    (0..table.len()).all(|set| !table[set] || larger(set).all(|other| table[other]))
}

/// Whether any two sets of which one is in the first and one in the second table share a voter.
pub(crate) fn intersect(one: &[bool], other: &[bool]) -> bool {
    let of = |table: &[bool]| (0..table.len()).filter(|&set| table[set]).collect::<Vec<_>>();
    let (one, other) = (of(one), of(other));
    one.iter().all(|a| other.iter().all(|b| a & b != 0))
}
