//! Which logs are a quorum, asked in the dumbest way: by counting, rule by rule, in each half of a configuration
//! among its own voters. What the core prepares, sorts and searches is not used here.

use std::collections::{BTreeMap, BTreeSet};

use tinyraftplus_core::quorum::Group;
use tinyraftplus_core::{Configuration, Identity, Member, Membership, QuorumRule};

/// Whether these logs elect a leader under that configuration.
pub(crate) fn elects(configuration: &Configuration, logs: &BTreeSet<Identity>) -> bool {
    configuration.halves().all(|half| holds(&half.rules().elections, half, logs))
}

/// Whether these logs could elect somebody whom one half is enough for: a node may know only what was before.
pub(crate) fn some_half_elects(configuration: &Configuration, logs: &BTreeSet<Identity>) -> bool {
    configuration.halves().any(|half| holds(&half.rules().elections, half, logs))
}

/// Whether an entry that these logs hold may be committed under that configuration.
pub(crate) fn commits(configuration: &Configuration, logs: &BTreeSet<Identity>) -> bool {
    configuration.halves().all(|half| holds(&half.rules().commits, half, logs))
}

/// Which of the voters of a membership are these logs.
fn present<'a>(half: &'a Membership, logs: &BTreeSet<Identity>) -> Vec<&'a Member> {
    let is_here = |member: &&Member| member.identity.is_some_and(|log| logs.contains(&log));
    half.voters().filter(is_here).collect()
}

/// How many voters a membership has in each group, and how many of them are these logs.
fn groups(half: &Membership, logs: &BTreeSet<Identity>) -> BTreeMap<Option<Group>, (usize, usize)> {
    let mut groups: BTreeMap<_, (usize, usize)> = BTreeMap::new();
    for voter in half.voters() {
        let (all, here) = groups.entry(voter.group).or_default();
        *all += 1;
        *here += usize::from(voter.identity.is_some_and(|log| logs.contains(&log)));
    }
    groups
}

fn holds(rule: &QuorumRule, half: &Membership, logs: &BTreeSet<Identity>) -> bool {
    let count = present(half, logs).len();
    let is_majority = |&(all, here): &(usize, usize)| here * 2 > all;
    let groups = groups(half, logs);
    match rule {
        QuorumRule::Majority => count * 2 > half.voters().count(),
        QuorumRule::AtLeast(least) => count as u64 >= u64::from(*least),
        QuorumRule::MajorityOfEachGroup => groups.values().all(is_majority),
        QuorumRule::MajorityOfGroups => {
            groups.values().filter(|group| is_majority(group)).count() * 2 > groups.len()
        }
        QuorumRule::InEachGroup(least) => {
            groups.values().all(|&(_, here)| here as u64 >= u64::from(*least))
        }
        QuorumRule::Weighted { weights, at_least } => {
            let weight = |member: &Member| weights.get(&member.id).copied().unwrap_or_default();
            let sum: u64 =
                present(half, logs).into_iter().map(|member| u64::from(weight(member))).sum();
            sum >= *at_least
        }
        QuorumRule::All(parts) => parts.iter().all(|part| holds(part, half, logs)),
        QuorumRule::Any(parts) => parts.iter().any(|part| holds(part, half, logs)),
        QuorumRule::Custom(custom) => crate::rules::custom(custom.name(), count, &groups),
        // A rule that nobody here knows is met by nobody.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tinyraftplus_core::quorum::{CustomRules, Quorums, Rules};
    use tinyraftplus_core::{NodeId, Seq};

    fn membership(labels: &[&str], rules: &Rules) -> Membership {
        let members = (1..).zip(labels).map(|(n, label)| Member {
            group: Group::new(label).ok(),
            ..Member::voter(NodeId::from(n), Identity::new(u128::from(n)))
        });
        Membership::new(members.collect(), rules.clone()).unwrap()
    }

    /// Against what the core makes of the same rules, for all sets: two who agree by chance would have to be wrong
    /// in the same way.
    #[test]
    fn counting_says_what_the_core_says() {
        let mut rng = crate::rng::Rng::new(5);
        let mut customs = CustomRules::new();
        crate::rules::add_customs(&mut customs);
        let mut compiled = 0;
        for _ in 0..400 {
            let count = rng.place(7) + 1;
            let labels: Vec<&str> = (0..count).map(|_| rng.pick(&["x", "y", "z"])).collect();
            let rules = crate::rules::draw(&mut rng, count);
            let half = membership(&labels, &rules);
            let voters: Vec<_> = half
                .voters()
                .map(|m| tinyraftplus_core::quorum::Voter { id: m.id, group: m.group })
                .collect();
            let Ok(quorums) = Quorums::compile(&voters, &rules, &customs) else {
                continue;
            };
            compiled += 1;
            let configuration = Configuration::found(half, Seq::ZERO).unwrap();
            for mask in 0..1_u32 << count {
                let places = || (0..count).filter(|at| mask >> at & 1 == 1);
                let set = places().collect();
                let logs = places().map(|at| Identity::new(at as u128 + 1)).collect();
                assert_eq!(elects(&configuration, &logs), quorums.elects(set), "{rules} {mask:b}");
                assert_eq!(
                    commits(&configuration, &logs),
                    quorums.commits(set),
                    "{rules} {mask:b}"
                );
            }
        }
        assert!(compiled > 200, "{compiled}");
    }

    /// From {1, 2, 3} to {1, 4, 5}: what one half holds is not enough, nor is a majority of all five.
    #[test]
    fn both_halves_must_agree() {
        let rules = Rules::default();
        let member = |n: u64| Member::voter(NodeId::from(n), Identity::new(u128::from(n)));
        let half =
            |ids: [u64; 3]| Membership::new(ids.map(member).to_vec(), rules.clone()).unwrap();
        let (old, new) = (half([1, 2, 3]), half([1, 4, 5]));
        let joint = Configuration::restored(Identity::new(1), Seq::ZERO, new, Some(old)).unwrap();
        let logs = |ids: &[u128]| ids.iter().copied().map(Identity::new).collect();
        for (ids, decide) in [
            (&[1, 4, 5][..], false),
            (&[2, 3, 4], false),
            (&[1, 2, 4], true),
            (&[2, 3, 4, 5], true),
        ] {
            assert_eq!(commits(&joint, &logs(ids)), decide, "{ids:?}");
            assert_eq!(elects(&joint, &logs(ids)), decide, "{ids:?}");
        }
    }
}
