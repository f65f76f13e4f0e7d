//! Seeded runs around one moment: a leader with a lease loses sight of some, perhaps between two memberships or two
//! leaders, and the others do all they can to elect another one while clients read at the old one.
//!
//! `random` meets all of that too, but seldom within the tenths of a second that count. A read that is answered too early
//! fails in `check`.

use crate::harness::{Cluster, id};
use crate::random::{Hint, Random};
use std::time::Duration;
use tinyraftplus_core::{Input, Lease, NodeId, Role, Time};

struct Run {
    cluster: Cluster,
    random: Random,
    old: NodeId,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let leases = (!random.once_in(4)).then_some(Lease { clock_error_ppm: 200_000 });
        let mut cluster = Cluster::formed_with(3 + random.below(2), |options| {
            options.seed ^= seed << 8;
            options.lease = leases;
        });
        let old = id(1);
        cluster.elect(old);
        let worst = [95_000, -95_000];
        for node in cluster.nodes.keys().copied().collect::<Vec<_>>() {
            // From here on, or the clocks would be hours apart already.
            cluster.skew.insert(node, worst[random.index(2)]);
        }
        for node in cluster.nodes.keys().copied().collect::<Vec<_>>() {
            cluster.restart(node);
        }
        cluster.elect(old);
        for number in 8..=9 {
            cluster.join(number);
        }
        cluster.propose(old, &["x"]);
        cluster.wake(old);
        cluster.settle();
        Self { cluster, random, old }
    }

    fn any(&mut self) -> NodeId {
        let ids: Vec<NodeId> = self.cluster.nodes.keys().copied().collect();
        ids[self.random.index(ids.len())]
    }

    /// A change, a transfer or neither gets as far as it happens to.
    fn prepare(&mut self) {
        if self.random.once_in(2) {
            let mut voters = vec![1];
            voters.extend([2, 3, 8, 9].into_iter().filter(|_| self.random.once_in(2)));
            self.cluster.set_voters(self.old, &voters);
        }
        if self.random.once_in(4) {
            let to = self.any();
            self.cluster.transfer(self.old, to);
        }
        for _ in 0..self.random.below(80) {
            self.move_on();
        }
    }

    /// Something of what is under way arrives or is written.
    fn move_on(&mut self) {
        let node = self.any();
        self.cluster.persist(node);
        self.cluster.load(node, true);
        let count = self.cluster.flying.len();
        if count > 0 {
            let at = if self.random.once_in(4) { self.random.index(count) } else { 0 };
            self.cluster.deliver(at);
        }
    }

    /// Who stays with the old leader hears only that side.
    fn split(&mut self) {
        let ids: Vec<NodeId> = self.cluster.nodes.keys().copied().collect();
        let stays: Vec<bool> =
            ids.iter().map(|&it| it == self.old || self.random.once_in(3)).collect();
        for (a, of_a) in ids.iter().zip(&stays) {
            for (b, of_b) in ids.iter().zip(&stays) {
                self.cluster.link(*a, *b, of_a == of_b);
            }
        }
        if self.random.once_in(2) {
            let cut = |from: NodeId, to: NodeId| {
                let side = |node| ids.iter().position(|it| *it == node).map(|at| stays[at]);
                side(from) != side(to)
            };
            self.cluster.flying.retain(|letter| !cut(letter.from, letter.to));
        }
    }

    fn usurp(&mut self) {
        match self.random.below(12) {
            0 | 1 => {
                let millis = self.random.below(80);
                self.cluster.now = self.cluster.now + Duration::from_millis(millis);
            }
            2 => {
                let node = self.any();
                if self.cluster.wakes_at(node).is_some_and(|at| at < Time::NEVER) {
                    let at = self.cluster.wakes_at(node).unwrap();
                    if at.since(self.cluster.now) < Duration::from_millis(300) {
                        self.cluster.wake(node);
                    }
                }
            }
            3 => {
                let node = self.any();
                if node != self.old {
                    self.cluster.step(node, Input::Campaign);
                }
            }
            4 if self.random.once_in(8) => {
                let node = self.any();
                if node != self.old {
                    self.cluster.restart(node);
                }
            }
            5 => {
                self.cluster.read(self.old);
            }
            _ => (0..8).for_each(|_| self.move_on()),
        }
    }

    /// Whether another one leads and has committed, while the old one still believes in itself.
    fn has_usurper(&self) -> bool {
        let core = self.cluster.core(self.old);
        core.role() == Role::Leader && self.cluster.check.end() > core.terms().end()
    }
}

/// Fails if one of these protections is taken away: the error of clocks is taken off a promise (`shorten`); a restart
/// renews it (`quiet_after_start`); a transfer ends the lease (`Tenure::end`); both halves confirm a read (`confirms`).
#[test]
fn nobody_reads_what_is_over() {
    let runs: u64 =
        std::env::var("TRP_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(10_000);
    let (mut usurped, mut reads) = (0, 0);
    for seed in 0..runs {
        let hint = Hint(seed);
        let mut run = Run::new(seed);
        run.prepare();
        run.split();
        let mut is_usurped = false;
        for _ in 0..150 {
            run.usurp();
            is_usurped |= run.has_usurper();
        }
        usurped += u64::from(is_usurped);
        reads += run.cluster.check.reads;
        drop(hint);
    }
    println!("{usurped} usurpers, {reads} reads");
    assert!(usurped > runs / 20 && reads > 100, "{usurped} usurpers, {reads} reads test nothing");
}
