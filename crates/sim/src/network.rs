//! The network: when a message arrives, how often, and whether at all.
//!
//! Nothing is promised about order. A partition acts on what is sent while it lasts: what was on its way before
//! still arrives, perhaps long after.

use std::collections::BTreeMap;

use crate::profile::NetworkProfile;
use crate::rng::Rng;

/// All links between the nodes.
#[derive(Debug)]
pub(crate) struct Network {
    profile: NetworkProfile,
    rng: Rng,
    node_count: usize,
    /// Directions in which nothing gets through, each with the partition that did it.
    cuts: Vec<Cut>,
    /// Directions in which everything waits until some time.
    clogs: Vec<Clog>,
    /// When the last message arrives, by link.
    latest: BTreeMap<(usize, usize), u64>,
}

#[derive(Clone, Copy, Debug)]
struct Cut {
    from: usize,
    to: usize,
    partition: u64,
}

#[derive(Clone, Copy, Debug)]
struct Clog {
    from: usize,
    to: usize,
    until: u64,
}

/// What becomes of a message.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Fate {
    /// When it arrives: never, once or twice.
    pub(crate) arrivals: Vec<u64>,
    /// Whether it takes much longer than usual.
    pub(crate) delayed: bool,
    /// Whether it arrives before one that was sent earlier.
    pub(crate) overtakes: bool,
}

impl Network {
    pub(crate) fn new(profile: NetworkProfile, rng: Rng, node_count: usize) -> Self {
        let (cuts, clogs, latest) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { profile, rng, node_count, cuts, clogs, latest }
    }

    /// What becomes of a message that is sent now.
    pub(crate) fn send(&mut self, now: u64, from: usize, to: usize) -> Fate {
        let cut = self.cuts.iter().any(|cut| (cut.from, cut.to) == (from, to));
        // Drawn whether or not it matters, so that a partition does not change the fate of other messages.
        let lost = self.rng.chance(self.profile.drop);
        let twice = self.rng.chance(self.profile.duplicate);
        if cut || lost {
            return Fate::default();
        }
        let mut fate = Fate::default();
        for _ in 0..=usize::from(twice) {
            let detour = self.rng.chance(self.profile.detour);
            let route = if detour { self.profile.detour_time } else { self.profile.latency };
            let through = self.unclogged(now, from, to);
            fate.delayed |= detour || through > now;
            fate.arrivals.push(through + self.rng.within(route));
        }
        let latest = self.latest.entry((from, to)).or_default();
        fate.overtakes = fate.arrivals.iter().any(|arrival| arrival < latest);
        *latest = fate.arrivals.iter().fold(*latest, |latest, &arrival| latest.max(arrival));
        fate
    }

    fn unclogged(&self, now: u64, from: usize, to: usize) -> u64 {
        let clogs = self.clogs.iter().filter(|clog| (clog.from, clog.to) == (from, to));
        clogs.map(|clog| clog.until).fold(now, u64::max)
    }

    /// Cuts everything between two sides, in both directions.
    pub(crate) fn split(&mut self, partition: u64, is_here: impl Fn(usize) -> bool) {
        for from in 0..self.node_count {
            for to in 0..self.node_count {
                if is_here(from) != is_here(to) {
                    self.cuts.push(Cut { from, to, partition });
                }
            }
        }
    }

    /// Cuts one direction.
    pub(crate) fn cut(&mut self, partition: u64, from: usize, to: usize) {
        self.cuts.push(Cut { from, to, partition });
    }

    /// Ends a partition.
    pub(crate) fn mend(&mut self, partition: u64) {
        self.cuts.retain(|cut| cut.partition != partition);
    }

    /// Makes everything in one direction wait.
    pub(crate) fn clog(&mut self, from: usize, to: usize, until: u64) {
        self.clogs.push(Clog { from, to, until });
    }

    /// Ends every fault. What was delayed stays on its way.
    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
        self.clogs.clear();
        self.profile.heal();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Range;

    fn network(drop: u64, duplicate: u64) -> Network {
        let profile = NetworkProfile {
            latency: Range::new(10, 20),
            drop,
            duplicate,
            detour: 0,
            detour_time: Range::default(),
        };
        Network::new(profile, Rng::new(1), 4)
    }

    #[test]
    fn a_split_cuts_both_ways_until_it_is_mended() {
        let mut network = network(0, 0);
        network.split(7, |node| node < 2);
        network.cut(8, 0, 1);
        let through =
            |network: &mut Network, from, to| !network.send(0, from, to).arrivals.is_empty();
        assert!(!through(&mut network, 0, 2) && !through(&mut network, 3, 1));
        assert!(
            through(&mut network, 2, 3)
                && through(&mut network, 1, 0)
                && !through(&mut network, 0, 1)
        );
        network.mend(7);
        assert!(through(&mut network, 0, 2) && !through(&mut network, 0, 1));
        network.heal();
        assert!(through(&mut network, 0, 1));
    }

    #[test]
    fn messages_are_lost_doubled_and_held_back() {
        assert!(network(1000, 0).send(5, 0, 1).arrivals.is_empty());
        assert_eq!(network(0, 1000).send(5, 0, 1).arrivals.len(), 2);
        let mut clogged = network(0, 0);
        clogged.clog(0, 1, 1_000);
        let fate = clogged.send(5, 0, 1);
        assert!(fate.delayed && fate.arrivals.iter().all(|&at| (1_010..=1_020).contains(&at)));
        assert!(clogged.send(5, 1, 0).arrivals.iter().all(|&at| at <= 25));
    }
}
