//! Random clusters under random faults: whatever happens, what calls are told is true.
//!
//! A small sibling of the simulator, for what this crate promises: each call ends once, what was committed is
//! in every log once, what was refused is in none, the calls of one process are committed in their order, and
//! a read knows of everything that was committed when it began. Changes of members are made under a label of their own, so
//! that the log shows what became of each: at most one effect, none if it was refused, and in the order of those that were
//! told to be done.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{Cluster, Fate, bytes, id};
use tinyraftplus_core::quorum::{CustomRules, Group};
use tinyraftplus_core::{MemberSpec, Membership, NodeId, Plan, Rules, Seq};
use tinyraftplus_log::{EntryKind, decode_configuration};
use tinyraftplus_replica::{Base, CallId, Change, Effect, Outcome, Request};

const SEEDS: u64 = 300;

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
    /// For a read: the newest entry that somebody had been told to be committed. For a change: the newest configuration.
    committed: Option<Seq>,
    /// For a change: what it wants.
    plan: Option<Plan>,
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
        let mut cluster = Cluster::new(count, tune);
        let others = rng.below(4);
        (count + 1..=count + others).for_each(|number| cluster.join(number));
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
        let mut plan = None;
        let (request, payloads, committed) = if steers < 3 {
            let wanted = self.plan(number);
            let keeps_rules = self.rng.below(2) == 0;
            let known = self.cluster.replica(node).core().configurations();
            let known = known.map(|all| Base(all.newest().at));
            let base = known.filter(|_| self.rng.below(4) == 0);
            let ends = self.cluster.outcomes.values().filter_map(|outcome| match outcome {
                Outcome::Changed { at } => *at,
                Outcome::Committed { .. }
                | Outcome::Read { .. }
                | Outcome::Done
                | Outcome::NotTransferred(_)
                | Outcome::NotChanged(_)
                | Outcome::Refused(_)
                | Outcome::Unknown(_) => None,
            });
            let newest = ends.max();
            plan = Some(wanted.clone());
            let change = Change { plan: wanted, base, keeps_rules };
            (Request::ChangeMembers(Box::new(change)), Vec::new(), newest)
        } else if steers == 3 {
            (Request::Transfer { to: self.node() }, Vec::new(), None)
        } else if steers == 4 {
            (Request::StepDown, Vec::new(), None)
        } else if self.rng.below(4) == 0 {
            let ends = self.cluster.outcomes.values().filter_map(|outcome| match outcome {
                Outcome::Committed { last, .. } => Some(*last),
                Outcome::Read { .. }
                | Outcome::Done
                | Outcome::NotTransferred(_)
                | Outcome::Changed { .. }
                | Outcome::NotChanged(_)
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
        self.made.insert(call, Made { by, payloads, committed, plan });
    }

    /// Some of the nodes, one of them a voter at least, under the label of that call.
    fn plan(&mut self, number: usize) -> Plan {
        let group = Group::new(&format!("c{number}")).ok();
        let nodes: Vec<NodeId> = self.cluster.nodes.keys().copied().collect();
        let mut members = Vec::new();
        for id in nodes {
            if self.rng.below(3) > 0 {
                members.push(MemberSpec { id, group, votes: self.rng.below(5) > 0 });
            }
        }
        if !members.iter().any(|member| member.votes) {
            members = vec![MemberSpec { id: self.node(), group, votes: true }];
        }
        Plan::new(members, Rules::default(), &CustomRules::default()).unwrap()
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

    fn run(mut self, seed: u64) -> [u64; 6] {
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
        // All take part again, so that all know the end of the story.
        let everybody: Vec<u64> = (1..=self.cluster.nodes.len() as u64).collect();
        self.insist(seed, |run, node| run.cluster.set_voters(node, &everybody));
        self.insist(seed, |run, node| run.cluster.append(node, "end"));
        self.cluster.until(|c| {
            c.nodes.values().all(|node| node.disk.payloads().last() == Some(&bytes("end")))
        });
        let [changed, unchanged, perhaps] = self.check_changes(seed);
        let [committed, refused, unknown] = self.check(seed);
        [committed, refused, unknown, changed, unchanged, perhaps]
    }

    /// Bound to a leader of the past a call may be refused, or end unknown; on a node that was removed it is refused.
    fn insist(&mut self, seed: u64, call: impl Fn(&mut Self, NodeId) -> CallId) {
        for _ in 0..100 {
            let node = self.node();
            let call = call(self, node);
            if self.cluster.outcome(call).effect() == Effect::Done {
                return;
            }
            self.cluster.pass(Duration::from_millis(100));
        }
        panic!("seed {seed}: the cluster does not recover");
    }

    /// The configurations that were made under one label, in order: the label, the place, and what it says; of a joint one
    /// only the label.
    fn configurations(&self) -> Vec<(Group, Option<(Seq, Membership)>)> {
        let mut found = Vec::new();
        let log = &self.cluster.nodes.values().next().unwrap().disk.entries;
        for entry in log.iter().filter(|entry| entry.kind == EntryKind::Configuration) {
            let configuration = decode_configuration(&entry.payload).unwrap();
            let now = configuration.now().clone();
            let label = now.members().first().and_then(|member| member.group);
            // New members as learners, under the labels they will have, beside those of before.
            let is_whole = now.members().iter().all(|member| member.group == label);
            if let Some(label) = label.filter(|_| is_whole) {
                let is_settled = configuration.old().is_none();
                found.push((label, is_settled.then_some((entry.id.seq, now))));
            }
        }
        found
    }

    /// What became of the changes of members.
    fn check_changes(&self, seed: u64) -> [u64; 3] {
        let configurations = self.configurations();
        let mut labels: Vec<Group> = configurations.iter().map(|(label, _)| *label).collect();
        // Joint and then there; and there again, if another one gave up after it had made learners.
        labels.dedup();
        let count = labels.len();
        assert_eq!(count, BTreeSet::from_iter(labels).len(), "seed {seed}: a change came back");
        let mut told = [0; 3];
        for (call, made) in &self.made {
            let Some(plan) = &made.plan else {
                continue;
            };
            let label = plan.members().first().unwrap().group.unwrap();
            let of_this = || configurations.iter().filter(|(of, _)| *of == label);
            let met = of_this().filter_map(|(_, settled)| settled.as_ref());
            let met: Vec<Seq> =
                met.filter(|(_, now)| plan.is_met_by(now)).map(|&(at, _)| at).collect();
            match self.cluster.outcomes.get(call) {
                Some(Outcome::Changed { at: Some(at) }) => {
                    told[0] += 1;
                    assert!(met.contains(at), "seed {seed}: change {call} is not at {at}: {met:?}");
                    assert!(
                        Some(*at) > made.committed,
                        "seed {seed}: change {call} is before one that was done when it began"
                    );
                }
                Some(Outcome::Refused(_) | Outcome::NotChanged(_)) => {
                    told[1] += 1;
                    assert!(
                        of_this().next().is_none(),
                        "seed {seed}: change {call} was refused and is there"
                    );
                }
                Some(Outcome::Unknown(_)) => told[2] += 1,
                Some(
                    other @ (Outcome::Changed { at: None }
                    | Outcome::Committed { .. }
                    | Outcome::Read { .. }
                    | Outcome::Done
                    | Outcome::NotTransferred(_)),
                ) => panic!("seed {seed}: change {call} ended as {other:?}"),
                None => assert!(self.lost.contains(call), "seed {seed}: change {call} never ended"),
            }
        }
        told
    }

    fn check(self, seed: u64) -> [u64; 3] {
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
                Some(
                    Outcome::Done
                    | Outcome::NotTransferred(_)
                    | Outcome::Changed { .. }
                    | Outcome::NotChanged(_),
                ) => {}
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
        [committed, refused, unknown]
    }
}

#[test]
fn what_calls_are_told_is_true() {
    let mut told = [0; 6];
    for seed in 0..SEEDS {
        for (sum, more) in told.iter_mut().zip(Run::new(seed).run(seed)) {
            *sum += more;
        }
    }
    // A run in which nothing happened would prove nothing.
    let [committed, refused, unknown, changed, unchanged, perhaps] = told;
    assert!(committed > 1000 && refused > 100 && unknown > 100, "{told:?}");
    assert!(changed > 40 && unchanged > 40 && perhaps > 40, "{told:?}");
}
