//! Rules that make no sense, or can't be proven, are refused by name.

use crate::given::{compile, grouped, ids, separate, weighted};
use std::sync::atomic::{AtomicUsize, Ordering};
use tinyraftplus_core::NodeId;
use tinyraftplus_core::quorum::{
    CustomRule, CustomRules, Decision, Present, QuorumRule, Quorums, RuleError, Rules, Voter,
};

/// What becomes of this function as both rules of three voters in one group and two in another.
fn custom(
    holds: impl Fn(&Present<'_>) -> bool + Send + Sync + 'static,
) -> Result<Quorums, RuleError> {
    let mut customs = CustomRules::new();
    let rule = QuorumRule::Custom(customs.add("mine", 7, holds).unwrap());
    let quorums = Quorums::compile(&grouped(&[3, 2]), &Rules::same(rule), &customs)?;
    quorums.check()?;
    Ok(quorums)
}

#[test]
fn a_custom_rule_that_is_safe() {
    // Three of five, one of them from the second group.
    let b = crate::given::group(1);
    let quorums = custom(move |present| present.len() >= 3 && present.count_in(b) >= 1).unwrap();
    assert_eq!(
        quorums.tolerance().to_string(),
        "elections survive the loss of any 1 of 5 voters; losing group a or b stops them\n\
         commits survive the loss of any 1 of 5 voters; losing group a or b stops them"
    );
    assert_eq!(
        format!("{:?}", quorums.rules()),
        "Rules { elections: Custom(mine/7), commits: Custom(mine/7) }"
    );
}

#[test]
fn custom_rules_that_are_not_safe() {
    for (refused, says) in [
        (
            custom(|present| present.len() % 2 == 1),
            "quorum rule \"mine/7\" is unsafe: {1} could elect a leader, but no longer once 2 joins; a quorum \
             with more voters must stay one",
        ),
        (
            custom(|present| present.contains(NodeId::from(2)) || present.len() > 2),
            "quorum rule \"mine/7\" is unsafe: {2} could elect a leader and {1, 3, 4} another; any two sets \
             that elect must share a voter",
        ),
        (
            custom(|_| true),
            "quorum rule \"mine/7\" is met by nobody at all: no voters could elect a leader; ask for more",
        ),
        (
            custom(|present| present.len() > 5),
            "quorum rule \"mine/7\" can't be met: not even all voters together could elect a leader",
        ),
    ] {
        assert_eq!(refused.unwrap_err().to_string(), says);
    }
}

/// A rule that goes by anything but its argument could be safe when it is checked and not when it is used.
/// Fails if the check asks once only.
#[test]
fn a_custom_rule_with_a_mind_of_its_own() {
    let calls = AtomicUsize::new(0);
    let refused = custom(move |present| {
        // Majority at first, and later all.
        present.len() >= if calls.fetch_add(1, Ordering::Relaxed) < 40 { 3 } else { 4 }
    });
    assert!(matches!(refused, Err(RuleError::Fickle { decision: Decision::Election, .. })));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "quorum rule \"mine/7\" is unsafe: asked twice whether {1, 4, 5} could elect a leader, it changed its \
         answer; it must depend on the voters alone"
    );
}

#[test]
fn a_custom_rule_inside_of_others() {
    let mut customs = CustomRules::new();
    let odd = QuorumRule::Custom(customs.add("odd", 1, |present| present.len() % 2 == 1).unwrap());
    let rules = separate(QuorumRule::Majority, QuorumRule::All(vec![QuorumRule::Majority, odd]));
    let refused = Quorums::compile(&grouped(&[5]), &rules, &customs).unwrap().check();
    assert_eq!(
        refused.unwrap_err().to_string(),
        "quorum rule \"(majority and odd/1)\" is unsafe: {1, 2, 3} could commit entries, but no longer once 4 \
         joins; a quorum with more voters must stay one"
    );
}

fn refusal(voters: &[Voter], rule: QuorumRule) -> String {
    compile(voters, &Rules::same(rule)).unwrap_err().to_string()
}

#[test]
fn what_does_not_compile() {
    let five = grouped(&[3, 2]);
    let mut unlabelled = five.clone();
    unlabelled[3].group = None;
    let deep = (0..8).fold(QuorumRule::Majority, |rule, _| QuorumRule::All(vec![rule]));
    let wide = QuorumRule::Any(vec![QuorumRule::Majority; 64]);
    let mine = QuorumRule::Custom(CustomRule::new("mine", 2).unwrap());
    for (refused, says) in [
        (refusal(&[], QuorumRule::Majority), "a configuration needs at least one voter"),
        (
            refusal(&vec![five[0]; 129], QuorumRule::Majority),
            "a configuration has at most 128 voters, not 129",
        ),
        (
            refusal(&[five[0], five[0]], QuorumRule::Majority),
            "voters must be sorted by name, each there once; see voter 1",
        ),
        (
            refusal(&[five[1], five[0]], QuorumRule::Majority),
            "voters must be sorted by name, each there once; see voter 1",
        ),
        (
            refusal(&unlabelled, QuorumRule::MajorityOfEachGroup),
            "voter 4 has no group, and a quorum rule needs one; give it a label",
        ),
        (
            refusal(&unlabelled, QuorumRule::All(vec![QuorumRule::InEachGroup(1)])),
            "voter 4 has no group, and a quorum rule needs one; give it a label",
        ),
        (
            refusal(&five, weighted(&[(1, 1), (6, 1)], 1)),
            "a quorum rule gives a weight to 6, who is not a voter; leave it out",
        ),
        (
            refusal(&five, QuorumRule::Any(vec![])),
            "a quorum rule of all or any needs at least one part",
        ),
        (refusal(&five, deep), "a quorum rule has at most 8 levels"),
        (refusal(&five, wide), "a quorum rule has at most 64 parts"),
        (refusal(&five, mine), "custom rule mine/2 is not known here; give this node the function"),
        (
            refusal(&five, QuorumRule::AtLeast(6)),
            "quorum rule \"at least 6\" can't be met: not even all voters together could elect a leader",
        ),
        (
            refusal(&five, QuorumRule::InEachGroup(3)),
            "quorum rule \"at least 3 in each group\" can't be met: not even all voters together could elect a leader",
        ),
        (
            refusal(&five, weighted(&[(1, 2), (2, 3)], u64::MAX)),
            "quorum rule \"weight of at least 18446744073709551615 among (1: 2, 2: 3)\" can't be met: not \
             even all voters together could elect a leader",
        ),
    ] {
        assert_eq!(refused, says);
    }
    let commits = compile(&five, &separate(QuorumRule::Majority, QuorumRule::AtLeast(9)));
    assert!(matches!(commits, Err(RuleError::Unreachable { decision: Decision::Commit, .. })));
}

#[test]
fn the_largest_rule_that_compiles() {
    let five = grouped(&[3, 2]);
    let deep = (0..7).fold(QuorumRule::Majority, |rule, _| QuorumRule::All(vec![rule]));
    let wide = QuorumRule::All(vec![QuorumRule::Majority; 63]);
    for rule in [deep, wide] {
        assert_eq!(compile(&five, &Rules::same(rule)).unwrap().check(), Ok(()));
    }
}

#[test]
fn what_is_too_much_to_prove() {
    let mut customs = CustomRules::new();
    let half = |present: &Present<'_>| 2 * present.len() > present.voters().len();
    let rule = QuorumRule::Custom(customs.add("half", 1, half).unwrap());
    let custom = |sizes: &[usize]| {
        Quorums::compile(&grouped(sizes), &Rules::same(rule.clone()), &customs).unwrap()
    };
    assert_eq!(
        custom(&[21]).check().unwrap_err().to_string(),
        "a custom rule can be checked for at most 20 voters, not 21; use fewer or a built-in rule"
    );
    assert_eq!(
        custom(&[21]).tolerance().to_string(),
        "elections survive the loss of an unknown number of 21 voters; losing group a stops them\n\
         commits survive the loss of an unknown number of 21 voters; losing group a stops them"
    );
    let weights: Vec<_> = (1..=21).zip(1..).collect();
    let rules = Rules::same(weighted(&weights, 116));
    assert_eq!(
        compile(&grouped(&[21]), &rules).unwrap().check(),
        Err(RuleError::TooManyToCheck { voters: 21 })
    );
    assert_eq!(compile(&grouped(&[20]), &Rules::default()).unwrap().check(), Ok(()));
}

/// 0 voters are a quorum: refused as a whole, harmless as a part that others make up for.
#[test]
fn nobody_is_no_quorum() {
    let five = grouped(&[3, 2]);
    for rule in [QuorumRule::AtLeast(0), QuorumRule::InEachGroup(0), weighted(&[(1, 1)], 0)] {
        let refused = compile(&five, &Rules::same(rule.clone())).unwrap().check();
        assert!(matches!(refused, Err(RuleError::NeedsNobody { .. })), "{refused:?}");
        let part = QuorumRule::All(vec![QuorumRule::Majority, rule]);
        assert_eq!(compile(&five, &Rules::same(part)).unwrap().check(), Ok(()));
    }
    let dictator = compile(&five, &Rules::same(weighted(&[(4, 1)], 1))).unwrap();
    assert_eq!(dictator.check(), Ok(()), "safe, if not wise");
    assert_eq!(dictator.tolerance().elections.fatal_voters, ids([4]));
}
