//! The check accepts what the definition accepts, and nothing else.

use crate::dumb;
use crate::given::{Dice, compile, labelled, separate, sets, weighted};
use std::collections::BTreeSet;
use tinyraftplus_core::quorum::{
    CustomRule, CustomRules, Decision, QuorumRule, Quorums, RuleError, Rules, Voter, VoterSet,
};

/// All ways to split this many voters into groups, up to the names of the groups.
fn groupings(count: usize) -> Vec<Vec<usize>> {
    let longer = |short: Vec<usize>| {
        let groups = short.iter().max().map_or(0, |most| most + 1);
        (0..=groups).map(move |group| [short.as_slice(), &[group]].concat())
    };
    (0..count).fold(vec![vec![]], |all, _| all.into_iter().flat_map(longer).collect())
}

/// Each rule with each number that could matter, and a sample of weights and combinations.
fn rules(count: usize, dice: &mut Dice) -> Vec<QuorumRule> {
    let most = u32::try_from(count).unwrap();
    let mut rules =
        vec![QuorumRule::Majority, QuorumRule::MajorityOfEachGroup, QuorumRule::MajorityOfGroups];
    rules.extend((0..=most + 1).map(QuorumRule::AtLeast));
    rules.extend((0..=3).map(QuorumRule::InEachGroup));
    for _ in 0..6 {
        let weights: Vec<_> =
            (1..=u64::from(most)).zip((0..count).map(|_| dice.below(4))).collect();
        let total: usize = weights.iter().map(|&(_, weight)| weight).sum();
        let weights: Vec<_> =
            weights.into_iter().map(|(n, weight)| (n, u32::try_from(weight).unwrap())).collect();
        rules.push(weighted(&weights, dice.below(total + 2) as u64));
    }
    for _ in 0..10 {
        let parts = (0..=dice.below(3)).map(|_| rules[dice.below(rules.len())].clone()).collect();
        rules.push(if dice.below(2) == 0 { QuorumRule::All } else { QuorumRule::Any }(parts));
    }
    rules
}

/// What the proof met: a proof in which nothing is refused, or nothing accepted, proves nothing.
#[derive(Debug, Default)]
struct Met {
    safe: u64,
    two_leaders: u64,
    lost_commit: u64,
    nobody: u64,
    unreachable: u64,
}

impl Met {
    /// Compares the check with the definition.
    fn compare(&mut self, compiled: Result<Quorums, RuleError>, elects: &[bool], commits: &[bool]) {
        let all = elects.len() - 1;
        let quorums = match compiled {
            Ok(quorums) => quorums,
            Err(RuleError::Unreachable { decision, .. }) => {
                let table = if decision == Decision::Election { elects } else { commits };
                assert!(!table[all]);
                self.unreachable += 1;
                return;
            }
            Err(other) => panic!("{other}"),
        };
        assert!(elects[all] && commits[all]);
        let checked = quorums.check();
        assert_eq!(checked.is_ok(), dumb::is_safe(elects, commits), "{checked:?} of {quorums:?}");
        let bits =
            |ids: &[_]| -> usize { ids.iter().map(|&id| 1 << quorums.place(id).unwrap()).sum() };
        match checked {
            Ok(()) => self.safe += 1,
            Err(RuleError::NeedsNobody { .. }) => {
                assert!(elects[0] || commits[0]);
                self.nobody += 1;
            }
            Err(RuleError::TwoLeaders { one, other, .. }) => {
                self.two_leaders += 1;
                assert_smallest(bits(&one), bits(&other), elects, elects);
            }
            Err(RuleError::LostCommit { elects: one, commits: other, .. }) => {
                self.lost_commit += 1;
                assert!(dumb::intersect(elects, elects));
                assert_smallest(bits(&one), bits(&other), elects, commits);
            }
            Err(other) => panic!("{other} of {quorums:?}"),
        }
    }
}

/// These two sets decide apart from each other, no set smaller than the first does, and none smaller within
/// the second.
fn assert_smallest(one: usize, other: usize, elects: &[bool], decides: &[bool]) {
    let all = elects.len() - 1;
    assert!(one & other == 0 && elects[one] && decides[other], "{one:b} {other:b}");
    let decides_apart = |set: &usize| elects[*set] && decides[all ^ *set];
    let smallest = (0..=all).filter(decides_apart).map(usize::count_ones).min();
    assert_eq!(smallest, Some(one.count_ones()));
    let fewer = (0..all.count_ones()).filter(|at| other >> at & 1 == 1).map(|at| other ^ (1 << at));
    fewer.for_each(|fewer| assert!(!decides[fewer], "{fewer:b}"));
}

/// A rule that could tell any voter from any other, so that the check tries every single set.
fn without_kinds(rule: &QuorumRule) -> QuorumRule {
    let anybody = QuorumRule::Custom(CustomRule::new("anybody", 1).unwrap());
    QuorumRule::All(vec![rule.clone(), anybody])
}

fn customs() -> CustomRules {
    let mut customs = CustomRules::new();
    customs.add("anybody", 1, |_| true).unwrap();
    customs
}

/// Every rule for 1 to 7 voters in all groupings: the compiled form means what the rule says, for every set;
/// and the check accepts a pair of rules exactly if the definition does, by kinds of voters and by single
/// voters. Fails if the check leaves out a comparison, or takes voters of two kinds for one.
#[test]
fn the_check_is_the_definition() {
    let mut dice = Dice(7);
    let (mut met, customs) = (Met::default(), customs());
    for count in 1..=7 {
        for groups in groupings(count) {
            let voters = labelled(&groups);
            let rules = rules(count, &mut dice);
            let tables: Vec<_> = rules.iter().map(|rule| dumb::table(rule, &voters)).collect();
            for (rule, table) in rules.iter().zip(&tables) {
                assert_meaning(rule, &voters, table);
                let singly = Rules::same(without_kinds(rule));
                met.compare(Quorums::compile(&voters, &singly, &customs), table, table);
            }
            // All pairs for the groupings that differ in more than who is who; some for the others.
            let is_sorted = groups.is_sorted();
            for (e, elections) in rules.iter().enumerate() {
                let pairs = if is_sorted { rules.len() } else { 3 };
                for n in 0..pairs {
                    let c = match n {
                        _ if is_sorted => n,
                        0 => e,
                        _ => dice.below(rules.len()),
                    };
                    let pair = separate(elections.clone(), rules[c].clone());
                    met.compare(compile(&voters, &pair), &tables[e], &tables[c]);
                }
            }
        }
    }
    for count in [met.safe, met.two_leaders, met.lost_commit, met.nobody, met.unreachable] {
        assert!(count > 1_000, "{met:?}");
    }
}

fn assert_meaning(rule: &QuorumRule, voters: &[Voter], table: &[bool]) {
    let all = table.len() - 1;
    let Ok(quorums) = compile(voters, &Rules::same(rule.clone())) else {
        return assert!(!table[all], "{rule}");
    };
    for (bits, set) in sets(voters.len()) {
        assert_eq!(quorums.elects(set), table[bits], "{rule}: {set:?}");
        assert_eq!(quorums.commits(set), table[bits], "{rule}: {set:?}");
        assert_eq!(quorums.confirms(set), !table[all ^ bits], "{rule}: {set:?}");
        assert_eq!(quorums.may_discard(set), !table[all ^ bits], "{rule}: {set:?}");
    }
    let least_lost = (0..=all).filter(|&bits| !table[bits]).map(|bits| (all ^ bits).count_ones());
    let spare = least_lost.min().map_or(voters.len(), |lost| (lost - 1) as usize);
    assert_eq!(quorums.tolerance().commits.any, Some(spare), "{rule}");
}

/// What confirms a read meets every set that elects, and what may be discarded was not committed: it lacks
/// a voter of every set that commits.
#[test]
fn derived_quorums_intersect() {
    let mut dice = Dice(8);
    let mut met = 0;
    for groups in groupings(5) {
        let voters = labelled(&groups);
        let rules = rules(5, &mut dice);
        for _ in 0..30 {
            let pair = [(); 2].map(|()| rules[dice.below(rules.len())].clone());
            let [elections, commits] = pair;
            let Ok(quorums) = compile(&voters, &separate(elections, commits)) else { continue };
            if quorums.check().is_err() {
                continue;
            }
            met += 1;
            for (one, a) in sets(5) {
                // Raft may read at any leader that a committing set followed.
                assert!(!quorums.commits(a) || quorums.confirms(a), "{quorums:?}: {a:?}");
                for (other, b) in sets(5).filter(|(other, _)| one & other == 0) {
                    let apart = format!("{quorums:?}: {a:?} {b:?} {one} {other}");
                    assert!(!(quorums.elects(a) && quorums.elects(b)), "{apart}");
                    assert!(!(quorums.elects(a) && quorums.commits(b)), "{apart}");
                    assert!(!(quorums.elects(a) && quorums.confirms(b)), "{apart}");
                    assert!(!(quorums.commits(a) && quorums.may_discard(b)), "{apart}");
                }
            }
        }
    }
    assert!(met > 50, "{met}");
}

/// All functions there are of up to three voters, as both rules, and all of four voters as one.
#[test]
fn every_function_as_a_custom_rule() {
    let mut dice = Dice(9);
    for count in 1..=3_usize {
        let functions = 1_u64 << (1 << count);
        for elections in 0..functions {
            for _ in 0..16 {
                let commits = dice.below(usize::try_from(functions).unwrap()) as u64;
                assert_function(count, elections, commits);
            }
            assert_function(count, elections, elections);
        }
    }
    for function in 0..1 << 16 {
        assert_function(4, function, function);
    }
}

fn assert_function(count: usize, elections: u64, commits: u64) {
    let table = |function: u64| -> Vec<bool> {
        (0..1 << count).map(|bits: usize| function >> bits & 1 == 1).collect()
    };
    let mut customs = CustomRules::new();
    let mut custom = |name, function| {
        let table = table(function);
        let holds = move |present: &tinyraftplus_core::quorum::Present<'_>| {
            let place = |id| present.voters().iter().position(|voter| voter.id == id).unwrap();
            let bits: usize = present.iter().map(|voter| 1 << place(voter.id)).sum();
            table[bits]
        };
        QuorumRule::Custom(customs.add(name, 1, holds).unwrap())
    };
    let rules = separate(custom("e", elections), custom("c", commits));
    let voters = labelled(&vec![0; count]);
    let accepted =
        Quorums::compile(&voters, &rules, &customs).is_ok_and(|quorums| quorums.check().is_ok());
    assert_eq!(accepted, dumb::is_safe(&table(elections), &table(commits)));
}

/// With more voters than the definition has time for, by kinds and by single voters comes to the same.
#[test]
fn kinds_lose_nothing() {
    let mut dice = Dice(10);
    let customs = customs();
    let mut seen = BTreeSet::new();
    for round in 0..200 {
        let count = 8 + round % 4;
        let groups: Vec<_> = (0..count).map(|_| dice.below(3)).collect();
        let voters = labelled(&groups);
        let rules = rules(count, &mut dice);
        let [elections, commits] = [(); 2].map(|()| &rules[dice.below(rules.len())]);
        let by_kinds = compile(&voters, &separate(elections.clone(), commits.clone()));
        let singly = separate(without_kinds(elections), without_kinds(commits));
        let singly = Quorums::compile(&voters, &singly, &customs);
        assert_eq!(by_kinds.is_ok(), singly.is_ok());
        let (Ok(by_kinds), Ok(singly)) = (by_kinds, singly) else { continue };
        assert_eq!(by_kinds.check().is_ok(), singly.check().is_ok(), "{by_kinds:?}");
        let any = |quorums: &Quorums| {
            let tolerance = quorums.tolerance();
            (tolerance.elections.any, tolerance.commits.any)
        };
        assert_eq!(any(&by_kinds), any(&singly), "{by_kinds:?}");
        seen.insert(by_kinds.check().is_ok());
    }
    assert_eq!(seen.len(), 2, "some are safe, some are not");
}

/// `even_cluster_split_brain`: with half of an even cluster as a quorum, both halves elect a leader and
/// acknowledge different entries at one seq. Fails if a majority becomes `n.div_ceil(2)`.
#[test]
fn even_cluster_split_brain() {
    for count in 1..=7 {
        let voters = labelled(&vec![0; count]);
        let majority = compile(&voters, &Rules::default()).unwrap();
        assert_eq!(majority.check(), Ok(()));
        for (_, set) in sets(count) {
            let rest = set.complement(count);
            assert!(!(majority.elects(set) && majority.elects(rest)), "{count}: {set:?}");
            assert!(!(majority.elects(set) && majority.commits(rest)), "{count}: {set:?}");
            assert!(!(majority.elects(set) && majority.confirms(rest)), "{count}: {set:?}");
        }
        let half = u32::try_from(count / 2).unwrap();
        let half = compile(&voters, &Rules::same(QuorumRule::AtLeast(half))).unwrap().check();
        assert!(
            matches!(half, Err(RuleError::TwoLeaders { .. } | RuleError::NeedsNobody { .. })),
            "{half:?}"
        );
    }
}

#[test]
fn sets_of_voters() {
    let set: VoterSet = [3, 1, 127, 128, 1].into_iter().collect();
    assert_eq!(set.iter().collect::<Vec<_>>(), [1, 3, 127]);
    assert_eq!(format!("{set:?}"), "{1, 3, 127}");
    assert_eq!(set.len(), 3);
    assert!(set.contains(127) && !set.contains(128) && !set.contains(usize::MAX));
    assert_eq!(set.complement(4).iter().collect::<Vec<_>>(), [0, 2]);
    assert_eq!(set.union(VoterSet::first(2)).len(), 4);
    assert_eq!(set.intersection(VoterSet::first(2)), VoterSet::only(1));
    assert_eq!(VoterSet::first(128).len(), 128);
    assert_eq!(VoterSet::first(500), VoterSet::first(128));
    assert!(VoterSet::EMPTY.is_empty() && VoterSet::only(128).is_empty());
}
