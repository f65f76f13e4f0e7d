//! Which rules are safe and what they survive: the tables of `docs/quorums.md`.

use crate::given::{compile, group, grouped, ids, separate, weighted};
use tinyraftplus_core::quorum::{QuorumRule, Quorums, RuleError, Rules, VoterSet};

const fn each() -> QuorumRule {
    QuorumRule::MajorityOfEachGroup
}

fn all(rules: &[QuorumRule]) -> QuorumRule {
    QuorumRule::All(rules.to_vec())
}

/// A majority of group a or of group b, of three voters each.
fn of_either() -> QuorumRule {
    let a = weighted(&[(1, 1), (2, 1), (3, 1)], 2);
    QuorumRule::Any(vec![a, weighted(&[(4, 1), (5, 1), (6, 1)], 2)])
}

/// A safe row: how many voters elections and commits can lose whichever they are, the groups whose loss stops
/// them, and the report.
struct Row {
    sizes: &'static [usize],
    rules: Rules,
    lose: (usize, usize),
    stops: (&'static str, &'static str),
    report: &'static str,
}

fn safe_rows() -> Vec<Row> {
    let row = |sizes, rules, lose, stops, report| Row { sizes, rules, lose, stops, report };
    let with_one_each = all(&[QuorumRule::Majority, QuorumRule::InEachGroup(1)]);
    let of_a = weighted(&[(1, 1), (2, 1), (3, 1)], 2);
    vec![
        row(
            &[3, 3],
            Rules::same(each()),
            (1, 1),
            ("ab", "ab"),
            "elections survive the loss of any 1 of 6 voters; losing group a or b stops them\n\
             commits survive the loss of any 1 of 6 voters; losing group a or b stops them",
        ),
        row(
            &[3, 3],
            separate(QuorumRule::Majority, each()),
            (2, 1),
            ("ab", "ab"),
            "elections survive the loss of any 2 of 6 voters; losing group a or b stops them\n\
             commits survive the loss of any 1 of 6 voters; losing group a or b stops them",
        ),
        row(
            &[3, 3],
            separate(QuorumRule::Majority, with_one_each),
            (2, 2),
            ("ab", "ab"),
            "elections survive the loss of any 2 of 6 voters; losing group a or b stops them\n\
             commits survive the loss of any 2 of 6 voters; losing group a or b stops them",
        ),
        row(
            &[2, 2],
            Rules::same(each()),
            (0, 0),
            ("ab", "ab"),
            "elections survive the loss of none of 4 voters; losing group a or b stops them\n\
             commits survive the loss of none of 4 voters; losing group a or b stops them",
        ),
        row(
            &[3, 2],
            Rules::same(each()),
            (0, 0),
            ("ab", "ab"),
            "elections survive the loss of some of 5 voters, but not of 4 or 5; losing group a or b stops them\n\
             commits survive the loss of some of 5 voters, but not of 4 or 5; losing group a or b stops them",
        ),
        row(
            &[2, 2],
            separate(QuorumRule::AtLeast(3), QuorumRule::AtLeast(2)),
            (1, 2),
            ("ab", ""),
            "elections survive the loss of any 1 of 4 voters; losing group a or b stops them\n\
             commits survive the loss of any 2 of 4 voters; they survive losing any one of 2 groups",
        ),
        row(
            &[2, 2, 2],
            separate(QuorumRule::AtLeast(4), QuorumRule::AtLeast(3)),
            (2, 3),
            ("", ""),
            "elections survive the loss of any 2 of 6 voters; they survive losing any one of 3 groups\n\
             commits survive the loss of any 3 of 6 voters; they survive losing any one of 3 groups",
        ),
        row(
            &[3, 3, 3],
            Rules::same(QuorumRule::MajorityOfGroups),
            (3, 3),
            ("", ""),
            "elections survive the loss of any 3 of 9 voters; they survive losing any one of 3 groups\n\
             commits survive the loss of any 3 of 9 voters; they survive losing any one of 3 groups",
        ),
        row(
            &[3, 3, 3],
            separate(each(), of_a),
            (1, 1),
            ("abc", "a"),
            "elections survive the loss of any 1 of 9 voters; losing group a, b or c stops them\n\
             commits survive the loss of any 1 of 9 voters; losing group a stops them",
        ),
        // Two clouds and a tie-breaker, by count and by groups.
        row(
            &[2, 2, 1],
            Rules::default(),
            (2, 2),
            ("", ""),
            "elections survive the loss of any 2 of 5 voters; they survive losing any one of 3 groups\n\
             commits survive the loss of any 2 of 5 voters; they survive losing any one of 3 groups",
        ),
        row(
            &[3, 3, 1],
            Rules::same(QuorumRule::MajorityOfGroups),
            (2, 2),
            ("", ""),
            "elections survive the loss of any 2 of 7 voters; they survive losing any one of 3 groups\n\
             commits survive the loss of any 2 of 7 voters; they survive losing any one of 3 groups",
        ),
    ]
}

#[test]
fn what_safe_rules_survive() {
    for row in safe_rows() {
        let quorums = compile(&grouped(row.sizes), &row.rules).unwrap();
        let name = format!("{:?}, {}", row.sizes, row.rules);
        assert_eq!(quorums.check(), Ok(()), "{name}");
        let tolerance = quorums.tolerance();
        let lose = (tolerance.elections.any.unwrap(), tolerance.commits.any.unwrap());
        assert_eq!(lose, row.lose, "{name}");
        assert_eq!(tolerance.to_string(), row.report, "{name}");
        let groups = |list: &[_]| list.iter().map(ToString::to_string).collect::<String>();
        let stops =
            (groups(&tolerance.elections.fatal_groups), groups(&tolerance.commits.fatal_groups));
        assert_eq!(stops, (row.stops.0.into(), row.stops.1.into()), "{name}");
        // The report is true: each group lost in turn.
        for at in 0..row.sizes.len() {
            let left = left_without(&quorums, at);
            let label = group(at).to_string();
            assert_eq!(quorums.elects(left), !row.stops.0.contains(&label), "{name}, {label}");
            assert_eq!(quorums.commits(left), !row.stops.1.contains(&label), "{name}, {label}");
        }
    }
}

/// With a cloud away nothing is committed, but whoever leads in the other one stays and serves reads: half of the
/// voters keep all others from electing anybody.
#[test]
fn half_of_the_voters_keep_a_leader() {
    let commits = all(&[QuorumRule::Majority, QuorumRule::InEachGroup(1)]);
    let quorums = compile(&grouped(&[3, 3]), &separate(QuorumRule::Majority, commits)).unwrap();
    let left = left_without(&quorums, 0);
    assert!(quorums.confirms(left) && !quorums.elects(left) && !quorums.commits(left));
    assert!(!quorums.may_discard(VoterSet::only(0)) && quorums.may_discard(left));
}

fn left_without(quorums: &Quorums, lost: usize) -> VoterSet {
    let voters = quorums.voters().iter().enumerate();
    voters.filter(|(_, voter)| voter.group != Some(group(lost))).map(|(place, _)| place).collect()
}

fn refusal(sizes: &[usize], rules: &Rules) -> RuleError {
    compile(&grouped(sizes), rules).unwrap().check().unwrap_err()
}

fn two_leaders(rule: &QuorumRule, one: &[u64], other: &[u64]) -> RuleError {
    let ids = |numbers: &[u64]| numbers.iter().copied().map(Into::into).collect();
    RuleError::TwoLeaders { rule: Box::new(rule.clone()), one: ids(one), other: ids(other) }
}

#[test]
fn unsafe_rules_are_refused_with_the_sets_that_prove_it() {
    let rows: [(&[usize], _, &[u64], &[u64]); 4] = [
        (&[3, 3], of_either(), &[1, 2], &[4, 5]),
        (&[3, 3], QuorumRule::InEachGroup(1), &[1, 4], &[2, 5]),
        (&[4], QuorumRule::AtLeast(2), &[1, 2], &[3, 4]),
        (&[2, 2, 2], QuorumRule::AtLeast(3), &[1, 2, 3], &[4, 5, 6]),
    ];
    for (sizes, rule, one, other) in rows {
        let error = refusal(sizes, &Rules::same(rule.clone()));
        assert_eq!(error, two_leaders(&rule, one, other));
    }
    // With safe elections, these rules still lose what was committed.
    for (sizes, rule, elects, commits) in [
        (&[3, 3][..], of_either(), ids([1, 2, 3, 4]), ids([5, 6])),
        (&[3, 3], QuorumRule::InEachGroup(1), ids([1, 2, 4, 5]), ids([3, 6])),
        (&[4], QuorumRule::AtLeast(1), ids([1, 2, 3]), ids([4])),
    ] {
        let rules = separate(QuorumRule::Majority, rule);
        let error = refusal(sizes, &rules);
        assert_eq!(error, RuleError::LostCommit { rules: Box::new(rules), elects, commits });
    }
    assert_eq!(
        refusal(&[4], &Rules::same(QuorumRule::AtLeast(2))).to_string(),
        "quorum rule \"at least 2\" is unsafe: {1, 2} could elect a leader and {3, 4} another; any two sets \
         that elect must share a voter"
    );
    assert_eq!(
        refusal(&[4], &separate(QuorumRule::Majority, QuorumRule::AtLeast(1))).to_string(),
        "quorum rules \"elections majority, commits at least 1\" are unsafe: {1, 2, 3} could elect a leader \
         that lacks what {4} committed; every set that elects must share a voter with every set that commits"
    );
}

/// Two groups can't be made to survive the loss of either: whatever is left would have to decide alone, and
/// so could the other.
#[test]
fn two_groups_need_a_third() {
    for sizes in [[2, 2], [3, 3], [3, 2], [1, 1]] {
        let voters = grouped(&sizes);
        let alone = |at: usize| {
            let members = voters.iter().filter(|voter| voter.group == Some(group(at)));
            let weights = members.map(|voter| (voter.id, 1)).collect();
            QuorumRule::Weighted { weights, at_least: sizes[at] as u64 }
        };
        let rule = QuorumRule::Any(vec![alone(0), alone(1)]);
        let error = compile(&voters, &Rules::same(rule)).unwrap().check();
        assert!(matches!(error, Err(RuleError::TwoLeaders { .. })), "{sizes:?} {error:?}");
    }
}

/// Far more than 20 voters, if rules don't tell them apart.
#[test]
fn large_clusters_of_few_kinds() {
    let sixty = grouped(&[20, 20, 20]);
    for rule in [QuorumRule::Majority, each(), QuorumRule::MajorityOfGroups] {
        let quorums = compile(&sixty, &Rules::same(rule)).unwrap();
        assert_eq!(quorums.check(), Ok(()));
    }
    let all = compile(&grouped(&[128]), &Rules::default()).unwrap();
    assert_eq!(all.check(), Ok(()));
    assert_eq!(all.tolerance().elections.any, Some(63));
    let error = compile(&grouped(&[64, 64]), &Rules::same(QuorumRule::InEachGroup(1)))
        .unwrap()
        .check()
        .unwrap_err();
    let RuleError::TwoLeaders { one, other, .. } = error else { panic!("{error}") };
    assert_eq!((one, other), (ids([1, 100]), ids([10, 101])), "as names sort");
}
