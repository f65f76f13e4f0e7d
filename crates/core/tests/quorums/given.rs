//! What the tests begin with.

use std::collections::BTreeMap;
use tinyraftplus_core::NodeId;
use tinyraftplus_core::quorum::{
    CustomRules, Group, QuorumRule, Quorums, RuleError, Rules, Voter, VoterSet,
};

/// Voters 1, 2, 3.. of groups a, b, c.. of these sizes.
pub(crate) fn grouped(sizes: &[usize]) -> Vec<Voter> {
    let groups = sizes.iter().enumerate().flat_map(|(at, &size)| vec![at; size]);
    labelled(&groups.collect::<Vec<_>>())
}

/// Voters whose groups are a for 0, b for 1 and so on. Sorted by name, so 10 is before 2.
pub(crate) fn labelled(groups: &[usize]) -> Vec<Voter> {
    let voter = |(n, &at): (u64, &usize)| Voter { id: NodeId::from(n), group: Some(group(at)) };
    let mut voters: Vec<_> = (1..).zip(groups).map(voter).collect();
    voters.sort_unstable();
    voters
}

pub(crate) fn group(at: usize) -> Group {
    Group::new(&"abcdefghijklmnopqrstuvwxyz"[at..=at]).unwrap()
}

pub(crate) fn compile(voters: &[Voter], rules: &Rules) -> Result<Quorums, RuleError> {
    Quorums::compile(voters, rules, &CustomRules::new())
}

pub(crate) fn separate(elections: QuorumRule, commits: QuorumRule) -> Rules {
    let mut rules = Rules::same(elections);
    rules.commits = commits;
    rules
}

pub(crate) fn weighted(weights: &[(u64, u32)], at_least: u64) -> QuorumRule {
    let weights = weights.iter().map(|&(n, weight)| (NodeId::from(n), weight));
    QuorumRule::Weighted { weights: weights.collect::<BTreeMap<_, _>>(), at_least }
}

pub(crate) fn ids<const N: usize>(numbers: [u64; N]) -> Vec<NodeId> {
    numbers.map(NodeId::from).to_vec()
}

/// The sets of `count` voters, as bits.
pub(crate) fn sets(count: usize) -> impl Iterator<Item = (usize, VoterSet)> {
    (0..1_usize << count)
        .map(move |bits| (bits, (0..count).filter(|at| bits >> at & 1 == 1).collect()))
}

/// Numbers that look random and are the same each time (Steele and others, `SplitMix64`).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((x ^ (x >> 31)) % bound as u64).unwrap()
    }
}
