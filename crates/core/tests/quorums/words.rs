//! Labels, names of custom rules, fingerprints, and how rules read.

use crate::given::{grouped, separate, weighted};
use std::collections::BTreeMap;
use tinyraftplus_core::quorum::{
    CustomRule, CustomRuleError, CustomRules, Group, QuorumRule, Quorums, Rules,
};

#[test]
fn labels() {
    assert_eq!(Group::new("eu-1").unwrap().to_string(), "eu-1");
    assert!(Group::new("a").unwrap() < Group::new("b").unwrap());
    for (label, says) in [
        ("", "a group's label must not be empty"),
        ("a b", "a group's label holds no spaces or control characters"),
        (&"x".repeat(64), "a group's label has at most 63 bytes"),
    ] {
        assert_eq!(Group::new(label).unwrap_err().to_string(), says);
    }
    assert!(Group::new(&"x".repeat(63)).is_ok());
}

#[test]
fn names_of_custom_rules() {
    let mut customs = CustomRules::new();
    let rule = customs.add("half", 2, |_| true).unwrap();
    customs.add("half", 1, |_| true).unwrap();
    assert_eq!((rule.name(), rule.version()), ("half", 2));
    assert_eq!(format!("{customs:?}"), "{half/1, half/2}", "names only");
    assert!(customs.get(rule).is_some());
    assert!(customs.get(CustomRule::new("half", 3).unwrap()).is_none());
    let again = customs.add("half", 2, |_| false).unwrap_err();
    assert_eq!(
        again.to_string(),
        "custom rule half/2 is there already; give a new function a new version"
    );
    let nameless = customs.add("a b", 1, |_| true).unwrap_err();
    assert_eq!(nameless.to_string(), "a custom rule's name holds no spaces or control characters");
    for version in 3..=64 {
        customs.add("half", version, |_| true).unwrap();
    }
    assert_eq!(customs.add("half", 65, |_| true), Err(CustomRuleError::TooMany));
    assert_eq!(customs.names().count(), CustomRules::COUNT_MAX);
}

#[test]
fn rules_read_well() {
    let custom = CustomRule::new("mine", 1).unwrap();
    for (rule, reads) in [
        (QuorumRule::Majority, "majority"),
        (QuorumRule::AtLeast(3), "at least 3"),
        (QuorumRule::MajorityOfEachGroup, "majority of each group"),
        (QuorumRule::MajorityOfGroups, "majority of groups"),
        (QuorumRule::InEachGroup(2), "at least 2 in each group"),
        (weighted(&[(1, 2), (3, 1)], 3), "weight of at least 3 among (1: 2, 3: 1)"),
        (
            QuorumRule::Any(vec![
                QuorumRule::All(vec![QuorumRule::Majority, QuorumRule::InEachGroup(1)]),
                QuorumRule::Custom(custom),
            ]),
            "((majority and at least 1 in each group) or mine/1)",
        ),
    ] {
        assert_eq!(rule.to_string(), reads);
    }
    assert_eq!(Rules::default().to_string(), "majority");
}

/// Nodes compare rules by these numbers. Their values are written into logs, so they never change.
#[test]
fn fingerprints_tell_rules_apart() {
    let custom = |name, version| QuorumRule::Custom(CustomRule::new(name, version).unwrap());
    let all = |rules: &[QuorumRule]| QuorumRule::All(rules.to_vec());
    let mut rules = vec![
        QuorumRule::Majority,
        QuorumRule::MajorityOfEachGroup,
        QuorumRule::MajorityOfGroups,
        custom("mine", 1),
        custom("mine", 2),
        custom("yours", 1),
        weighted(&[], 1),
        weighted(&[(1, 1)], 1),
        weighted(&[(1, 1)], 2),
        weighted(&[(1, 2)], 1),
        weighted(&[(2, 1)], 1),
        weighted(&[(1, 1), (2, 1)], 1),
        all(&[QuorumRule::Majority]),
        all(&[QuorumRule::Majority, QuorumRule::Majority]),
        all(&[all(&[QuorumRule::Majority]), QuorumRule::Majority]),
        all(&[all(&[QuorumRule::Majority, QuorumRule::Majority])]),
        QuorumRule::Any(vec![QuorumRule::Majority]),
    ];
    rules.extend((0..300).map(QuorumRule::AtLeast));
    rules.extend((0..300).map(QuorumRule::InEachGroup));
    let mut seen = BTreeMap::new();
    for rule in &rules {
        let same = seen.insert(rule.fingerprint(), rule);
        assert_eq!(same, None, "{rule}");
        assert_eq!(rule.fingerprint(), rule.clone().fingerprint());
    }
    let (a, b) = (QuorumRule::Majority, QuorumRule::AtLeast(3));
    let pairs = [
        separate(a.clone(), b.clone()),
        separate(b.clone(), a.clone()),
        Rules::same(a.clone()),
        Rules::same(b),
    ];
    for (at, pair) in pairs.iter().enumerate() {
        let same = pairs.iter().filter(|other| other.fingerprint() == pair.fingerprint());
        assert_eq!(same.count(), 1, "{at}: {pair}");
    }
    assert_eq!(a.fingerprint(), 0x89cd_3129_1d2a_efa4);
    assert_eq!(Rules::default().fingerprint(), 0x581c_d0fa_58d9_9645);
    assert_eq!(weighted(&[(1, 1)], 2).fingerprint(), 0xc527_7ada_4f47_7ef1);
    assert_eq!(all(&[custom("mine", 1)]).fingerprint(), 0x110e_801c_2abd_61ec);
}

#[test]
fn equal_quorums() {
    let compile = |rules: &Rules| Quorums::compile(&grouped(&[3]), rules, &CustomRules::new());
    let majority = compile(&Rules::default()).unwrap();
    assert_eq!(majority, compile(&Rules::default()).unwrap());
    assert_ne!(majority, compile(&Rules::same(QuorumRule::AtLeast(2))).unwrap());
}
