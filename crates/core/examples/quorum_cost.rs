//! What quorum rules cost, for `time` and `valgrind --tool=callgrind` to measure:
//!
//!     quorum_cost agreed RULE VOTERS ROUNDS    finds what a committing set has, ROUNDS times
//!     quorum_cost none RULE VOTERS ROUNDS      all but that, to be subtracted
//!     quorum_cost check RULE VOTERS ROUNDS     proves the rule safe
//!
//! RULE is majority, groups (a majority of each of three groups) or custom (a majority, as a function).

use std::{env, error::Error, hint::black_box};
use tinyraftplus_core::quorum::{CustomRules, Group, QuorumRule, Quorums, Rules, Voter};
use tinyraftplus_core::{NodeId, Seq};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [what, rule, voters, rounds] = args.as_slice() else {
        return Err(
            "usage: quorum_cost agreed|none|check majority|groups|custom VOTERS ROUNDS".into()
        );
    };
    let count: usize = voters.parse()?;
    let rounds: usize = rounds.parse()?;
    let quorums = quorums(rule, count)?;
    // Ends that no branch predictor knows by heart.
    let mut number = 1_u64;
    let ends = (0..1 << 16).map(|_| {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Seq::new(number >> 40)
    });
    let ends: Vec<Seq> = ends.collect();
    let mut sum = 0_u64;
    for round in 0..rounds {
        let start = round * 7 % (ends.len() - count);
        let ends = black_box(ends.get(start..start + count).unwrap_or_default());
        match what.as_str() {
            "agreed" => sum = sum.wrapping_add(quorums.agreed(ends).get()),
            "check" => quorums.check()?,
            _ => sum = sum.wrapping_add(ends.first().copied().unwrap_or_default().get()),
        }
    }
    black_box(sum);
    Ok(())
}

fn quorums(rule: &str, count: usize) -> Result<Quorums, Box<dyn Error>> {
    let groups =
        ["a", "b", "c"].iter().map(|label| Group::new(label)).collect::<Result<Vec<_>, _>>()?;
    let mut voters: Vec<Voter> = (1_u64..)
        .zip(groups.into_iter().cycle())
        .take(count)
        .map(|(n, group)| Voter { id: NodeId::from(n), group: Some(group) })
        .collect();
    voters.sort_unstable();
    let mut customs = CustomRules::new();
    let rule = match rule {
        "majority" => QuorumRule::Majority,
        "groups" => QuorumRule::MajorityOfEachGroup,
        _ => QuorumRule::Custom(customs.add("majority", 1, |present| {
            // By name, as a function that was not written for speed would.
            let there = present.voters().iter().filter(|voter| present.contains(voter.id)).count();
            2 * there > present.voters().len()
        })?),
    };
    Ok(Quorums::compile(&voters, &Rules::same(rule), &customs)?)
}
