//! Up to where a set of voters that commits agrees.

use crate::given::{Dice, compile, grouped, sets, weighted};
use tinyraftplus_core::Seq;
use tinyraftplus_core::quorum::{QuorumRule, Quorums, Rules, Voter};

fn ends(numbers: &[u64]) -> Vec<Seq> {
    numbers.iter().copied().map(Seq::new).collect()
}

fn quorums(voters: &[Voter], rule: QuorumRule) -> Quorums {
    compile(voters, &Rules::same(rule)).unwrap()
}

/// The definition: of every set that commits, the end that all of them have; of those, the largest.
fn dumb(quorums: &Quorums, ends: &[Seq]) -> Seq {
    let committing = sets(ends.len()).filter(|(_, set)| quorums.commits(*set));
    committing.map(|(_, set)| set.iter().map(|at| ends[at]).min().unwrap()).max().unwrap()
}

/// All orders of these, by exchanging each with the last (Heap).
fn permutations(items: &mut Vec<u64>, count: usize, each: &mut impl FnMut(&[u64])) {
    if count <= 1 {
        return each(items);
    }
    for at in 0..count {
        permutations(items, count - 1, each);
        items.swap(if count.is_multiple_of(2) { at } else { 0 }, count - 1);
    }
}

/// `unsorted_progress_false_quorum`: match positions lose their order, and commit advances with 2 of 5. Which
/// voter has which end makes no difference to a rule that counts. Fails if `agreed` does not sort.
#[test]
fn unsorted_progress_false_quorum() {
    let five = quorums(&grouped(&[5]), QuorumRule::Majority);
    for (numbers, agreed) in [
        ([0, 0, 0, 7, 9], 0),
        ([0, 0, 5, 7, 9], 5),
        ([3, 3, 3, 9, 9], 3),
        ([1, 2, 3, 4, 5], 3),
        ([4, 4, 4, 4, 4], 4),
        ([0, 0, 0, 0, 9], 0),
    ] {
        let mut orders = 0;
        permutations(&mut numbers.to_vec(), 5, &mut |order| {
            orders += 1;
            assert_eq!(five.agreed(&ends(order)), Seq::new(agreed), "{order:?}");
            let have = order.iter().filter(|&&end| end >= agreed).count();
            assert!(have >= 3, "{have} of 5 are no quorum");
        });
        assert_eq!(orders, 120);
    }
}

/// Every way in which up to six voters can have one of four ends, under every kind of rule.
#[test]
fn agreed_is_what_a_committing_set_has() {
    for sizes in [&[1][..], &[2], &[2, 1], &[2, 2], &[3, 2], &[2, 2, 2], &[3, 3], &[4, 1, 1]] {
        let voters = grouped(sizes);
        let first = u64::try_from(voters.len()).unwrap();
        let all_of = |rules: &[QuorumRule]| QuorumRule::All(rules.to_vec());
        for rule in [
            QuorumRule::Majority,
            QuorumRule::AtLeast(1),
            QuorumRule::AtLeast(u32::try_from(voters.len()).unwrap()),
            QuorumRule::MajorityOfEachGroup,
            QuorumRule::MajorityOfGroups,
            QuorumRule::InEachGroup(1),
            weighted(&[(1, 3), (first, 2)], 2),
            all_of(&[QuorumRule::Majority, QuorumRule::InEachGroup(1)]),
            QuorumRule::Any(vec![QuorumRule::MajorityOfGroups, weighted(&[(1, 1)], 1)]),
        ] {
            let quorums = quorums(&voters, rule);
            for n in 0..4_u64.pow(u32::try_from(voters.len()).unwrap()) {
                let digits = voters.iter().enumerate().map(|(at, _)| n >> (2 * at) & 3);
                let ends = ends(&digits.collect::<Vec<_>>());
                assert_eq!(quorums.agreed(&ends), dumb(&quorums, &ends), "{quorums:?} {ends:?}");
            }
        }
    }
}

#[test]
fn agreed_among_many() {
    let mut dice = Dice(11);
    for rule in [
        QuorumRule::Majority,
        QuorumRule::MajorityOfEachGroup,
        QuorumRule::All(vec![QuorumRule::MajorityOfGroups, QuorumRule::InEachGroup(1)]),
    ] {
        let quorums = quorums(&grouped(&[4, 4, 3]), rule);
        for _ in 0..100 {
            let ends: Vec<_> = (0..11).map(|_| Seq::new(dice.below(30) as u64)).collect();
            assert_eq!(quorums.agreed(&ends), dumb(&quorums, &ends), "{quorums:?} {ends:?}");
        }
    }
}

/// A voter whose end is not given holds nothing; ends of nobody are not counted.
#[test]
fn ends_that_are_missing_or_too_many() {
    let three = quorums(&grouped(&[3]), QuorumRule::Majority);
    assert_eq!(three.agreed(&ends(&[9])), Seq::ZERO);
    assert_eq!(three.agreed(&[]), Seq::ZERO);
    assert_eq!(three.agreed(&ends(&[0, 0, 1, 9, 9, 9])), Seq::ZERO);
    let many = quorums(&grouped(&[128]), QuorumRule::Majority);
    assert_eq!(many.agreed(&(0..128).map(Seq::new).collect::<Vec<_>>()), Seq::new(63));
}
