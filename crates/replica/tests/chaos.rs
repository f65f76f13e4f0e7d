//! Random clusters under random faults: whatever happens, what calls are told is true.
//!
//! A small sibling of the simulator, for what this crate promises: each call ends once, what was committed is
//! in every log once, what was refused is in none, the calls of one process are committed in their order, and
//! a read knows of everything that was committed when it began.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{Cluster, Fate, bytes, id};
use tinyraftplus_core::{NodeId, Seq};
use tinyraftplus_replica::{CallId, Outcome, Request};

struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What is known of a call.
struct Made {
    /// The process that made it: the node, and how often it was started before.
    by: (NodeId, u64),
    payloads: Vec<String>,
    /// For a read: the newest entry that somebody had been told to be committed.
    committed: Option<Seq>,
}

struct Run {
    rng: Rng,
    cluster: Cluster,
    made: BTreeMap<CallId, Made>,
    starts: BTreeMap<NodeId, u64>,
    down: BTreeSet<NodeId>,
    lost: BTreeSet<CallId>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        for _ in 0..3 {
            rng.below(2);
        }
        let tunes: [fn(&mut tinyraftplus_replica::ReplicaOptions); 3] = [
            |_| {},
            |options| {
                options.cache_bytes_max = 0;
                options.raft.append_bytes_max = 16;
                options.forward_bytes_max = 20;
                options.apply_bytes_max = 10;
            },
            |options| options.state_machine = false,
        ];
        let tune = *tunes.get(usize::try_from(rng.below(3)).unwrap()).unwrap();
        let count = 1 + 2 * rng.below(3);
        let cluster = Cluster::new(count, tune);
        Self {
            rng,
            cluster,
            made: BTreeMap::new(),
            starts: BTreeMap::new(),
            down: BTreeSet::new(),
            lost: BTreeSet::new(),
        }
    }

    fn node(&mut self) -> NodeId {
        let count = u64::try_from(self.cluster.nodes.len()).unwrap();
        id(1 + self.rng.below(count))
    }

    fn call(&mut self) {
        let node = self.node();
        if self.down.contains(&node) {
            return;
        }
        let by = (node, self.starts.get(&node).copied().unwrap_or(0));
        let time = Duration::from_millis(50 + self.rng.below(3000));
        let number = self.made.len();
        let steers = self.rng.below(40);
        let (request, payloads, committed) = if steers == 0 {
            (Request::Transfer { to: self.node() }, Vec::new(), None)
        } else if steers == 1 {
            (Request::StepDown, Vec::new(), None)
        } else if self.rng.below(4) == 0 {
            let ends = self.cluster.outcomes.values().filter_map(|outcome| match outcome {
                Outcome::Committed { last, .. } => Some(*last),
                Outcome::Read { .. }
                | Outcome::Done
                | Outcome::NotTransferred(_)
                | Outcome::Refused(_)
                | Outcome::Unknown(_) => None,
            });
            (Request::Read { query: bytes("") }, Vec::new(), ends.max())
        } else {
            let payloads: Vec<_> =
                (0..=self.rng.below(3)).map(|at| format!("{number}.{at}")).collect();
            let request = payloads.iter().map(|payload| bytes(payload)).collect();
            (Request::Append { payloads: request }, payloads, None)
        };
        let call = self.cluster.call_for(node, request, time);
        self.made.insert(call, Made { by, payloads, committed });
    }

    fn disturb(&mut self) {
        let node = self.node();
        match self.rng.below(9) {
            0 => self.cluster.isolate(node),
            1 | 2 => self.cluster.heal(),
            3 => {
                let mut rng = Rng(self.rng.below(u64::MAX >> 33));
                let noise = self.rng.below(30);
                self.cluster.filter = Box::new(move |_, _, _| match rng.below(100) {
                    n if n < noise => Fate::Drop,
                    n if n < noise * 2 => Fate::Twice,
                    n if n < noise * 3 => Fate::Hold,
                    _ => Fate::Deliver,
                });
            }
            4 => self.cluster.release(),
            5 if !self.down.contains(&node) => {
                let ended: BTreeSet<CallId> = self.cluster.outcomes.keys().copied().collect();
                let by = (node, self.starts.get(&node).copied().unwrap_or(0));
                let open = self.made.iter().filter(|(c, m)| m.by == by && !ended.contains(c));
                self.lost.extend(open.map(|(call, _)| *call));
                self.cluster.kill(node);
                *self.starts.entry(node).or_default() += 1;
                self.down.insert(node);
            }
            6 if self.down.remove(&node) => self.cluster.start(node),
            7 if !self.down.contains(&node) => {
                let node = self.cluster.node(node);
                node.holds_disk = !node.holds_disk;
            }
            _ => {}
        }
    }

    fn run(mut self, seed: u64) -> (u64, u64, u64) {
        for _ in 0..150 {
            match self.rng.below(4) {
                0 | 1 => self.call(),
                2 => self.disturb(),
                _ => {
                    let mut steps = self.rng.below(150);
                    // A cluster that is down altogether has nothing to do.
                    let none_up = self.down.len() == self.cluster.nodes.len();
                    self.cluster.until(|_| {
                        steps = steps.saturating_sub(1);
                        steps == 0 || none_up
                    });
                }
            }
        }
        self.cluster.heal();
        self.cluster.release();
        for node in std::mem::take(&mut self.down) {
            self.cluster.start(node);
        }
        for node in self.cluster.nodes.values_mut() {
            node.holds_disk = false;
        }
        let open: Vec<CallId> =
            self.made.keys().copied().filter(|call| !self.lost.contains(call)).collect();
        self.cluster.until(|c| open.iter().all(|call| c.outcomes.contains_key(call)));
        for tries in 0.. {
            assert!(tries < 100, "seed {seed}: the cluster does not recover");
            // Bound to a leader of the past it may be refused, or end unknown.
            let end = self.cluster.append(id(1), "end");
            if matches!(self.cluster.outcome(end), Outcome::Committed { .. }) {
                break;
            }
        }
        self.cluster.until(|c| {
            c.nodes.values().all(|node| node.disk.payloads().last() == Some(&bytes("end")))
        });
        self.check(seed)
    }

    fn check(self, seed: u64) -> (u64, u64, u64) {
        let logs: Vec<_> = self.cluster.nodes.values().map(|node| node.disk.payloads()).collect();
        assert!(
            logs.windows(2).all(|pair| pair.first() == pair.last()),
            "seed {seed}: logs differ"
        );
        let log = logs.first().unwrap();
        let (mut committed, mut refused, mut unknown) = (0, 0, 0);
        let mut last_of: BTreeMap<(NodeId, u64), usize> = BTreeMap::new();
        for (call, made) in &self.made {
            let places: Vec<usize> = made
                .payloads
                .iter()
                .flat_map(|payload| {
                    log.iter()
                        .enumerate()
                        .filter(move |(_, p)| **p == *payload.as_bytes())
                        .map(|(at, _)| at)
                })
                .collect();
            let whole = places.len() == made.payloads.len()
                && places.windows(2).all(|pair| matches!(pair, [a, b] if a + 1 == *b));
            assert!(
                whole || places.is_empty(),
                "seed {seed}: call {call} is there in part or twice"
            );
            let is_there = !places.is_empty();
            match self.cluster.outcomes.get(call) {
                Some(Outcome::Committed { first, last, .. }) => {
                    committed += 1;
                    assert!(is_there, "seed {seed}: call {call} was committed and is gone");
                    assert_eq!(last.since(*first) + 1, made.payloads.len() as u64);
                }
                Some(Outcome::Refused(why)) => {
                    refused += 1;
                    assert!(!is_there, "seed {seed}: call {call} was refused ({why}) and is there");
                }
                Some(Outcome::Read { seq, .. }) => {
                    assert!(*seq >= made.committed, "seed {seed}: call {call} read an old state");
                }
                Some(Outcome::Done | Outcome::NotTransferred(_)) => {}
                Some(Outcome::Unknown(_)) => unknown += 1,
                None => assert!(self.lost.contains(call), "seed {seed}: call {call} never ended"),
            }
            if let Some(&at) = places.first() {
                let before = last_of.insert(made.by, at);
                assert!(
                    before.is_none_or(|before| before < at),
                    "seed {seed}: call {call} is out of order"
                );
            }
        }
        (committed, refused, unknown)
    }
}

#[test]
fn what_calls_are_told_is_true() {
    let (mut committed, mut refused, mut unknown) = (0, 0, 0);
    for seed in 0..150 {
        let told = Run::new(seed).run(seed);
        committed += told.0;
        refused += told.1;
        unknown += told.2;
    }
    // A run in which nothing happened would prove nothing.
    assert!(committed > 1000 && refused > 100 && unknown > 100, "{committed} {refused} {unknown}");
}
