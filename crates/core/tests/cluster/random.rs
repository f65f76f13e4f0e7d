//! Seeded runs of everything that can go wrong, then healing and progress.

use crate::harness::{Cluster, id};
use crate::show;
use tinyraftplus_core::{Event, Input, Lease, NodeId, Resolution, Role, Time};

/// `SplitMix64`.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    /// True once in that many times.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

struct Run {
    cluster: Cluster,
    random: Random,
    /// How often letters are lost or repeated, nodes die, links fail: once in so many times.
    loss: u64,
    deaths: u64,
    /// How often a disk has no space.
    refusals: u64,
    cuts: u64,
    /// Gets no time: nothing reaches it, no deadline of its own passes. Clients that ask it are still heard.
    asleep: Option<NodeId>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let count = 1 + random.below(5);
        let tight = random.once_in(2);
        let ranked = random.once_in(2);
        let leases = random.once_in(2).then_some(Lease { clock_error_ppm: 200_000 });
        let mut cluster = Cluster::with_options(count, |options| {
            options.seed ^= seed << 8;
            options.lease = leases;
            if ranked {
                options.priority = options.id.as_str().parse::<u32>().unwrap() % 3;
            }
            if tight {
                // Windows of a few entries, so that they fill, and old entries have to be loaded.
                options.append_bytes_max = 150;
                options.window_bytes = 400;
                options.uncommitted_bytes_max = 2000;
            }
        });
        // Not more than the leases allow for; other clocks are worse.
        let worst = if leases.is_some() { 95_000 } else { 400_000 };
        for node in 1..=count {
            let skew = i64::try_from(random.below(2 * worst)).unwrap();
            cluster.skew.insert(id(node), skew - i64::try_from(worst).unwrap());
        }
        let loss = 3 + random.below(50);
        let deaths = 10 + random.below(300);
        let cuts = 10 + random.below(300);
        let refusals = if random.once_in(3) { 5 + random.below(50) } else { u64::MAX };
        Self { cluster, random, loss, deaths, refusals, cuts, asleep: None }
    }

    fn any(&mut self) -> NodeId {
        id(1 + self.random.below(self.cluster.nodes.len() as u64))
    }

    fn step(&mut self) {
        let node = self.any();
        match self.random.below(100) {
            0..45 => self.letter(),
            45..65 if self.asleep != Some(node) => {
                let is_full = self.random.once_in(self.refusals) && self.cluster.refuse(node);
                if !is_full {
                    self.cluster.persist(node);
                }
            }
            65..75 if self.asleep != Some(node) => {
                self.cluster.load(node, !self.random.once_in(10));
            }
            75..85 => self.time(),
            85..92 => self.client(node),
            92..96 if self.random.once_in(self.deaths / 10) => self.death(node),
            96..98 if self.random.once_in(self.cuts / 10) => self.cut(),
            98 if self.random.once_in(3) => {
                self.asleep = if self.asleep.is_some() { None } else { self.cluster.leader() };
            }
            _ => {}
        }
        if let Some(leader) = self.cluster.leader() {
            self.cluster.check.leader_is_complete(self.cluster.node(leader));
        }
    }

    fn letter(&mut self) {
        let count = self.cluster.flying.len();
        if count == 0 {
            return;
        }
        // Mostly in order, so that something gets done; sometimes any.
        let at = if self.random.once_in(4) { self.random.index(count) } else { 0 };
        if self.asleep == Some(self.cluster.flying[at].to) {
            let letter = self.cluster.flying.remove(at).unwrap();
            self.cluster.flying.push_back(letter);
        } else if self.random.once_in(self.loss) {
            let letter = self.cluster.flying.remove(at).unwrap();
            if self.random.once_in(2) {
                self.cluster.flying.extend([letter.clone(), letter]);
            }
        } else {
            self.cluster.deliver(at);
        }
    }

    fn time(&mut self) {
        let awake = self.cluster.nodes.keys().filter(|id| self.asleep != Some(**id));
        let next = awake.filter_map(|&id| Some((self.cluster.wakes_at(id)?, id))).min();
        let Some((at, node)) = next.filter(|(at, _)| *at < Time::NEVER) else {
            return;
        };
        if self.random.once_in(3) || at <= self.cluster.now {
            self.cluster.now = self.cluster.now.max(at);
            self.cluster.step(node, Input::Wake);
        } else {
            let left = at.since(self.cluster.now).as_nanos();
            let nanos = self.random.below(u64::try_from(left).unwrap());
            self.cluster.now = Time::from_nanos(self.cluster.now.as_nanos() + nanos);
        }
    }

    fn client(&mut self, any: NodeId) {
        let believer = |node: &crate::harness::Node| {
            node.core.as_ref().is_some_and(|core| core.role() == Role::Leader)
        };
        let leaders: Vec<NodeId> =
            self.cluster.nodes.iter().filter(|(_, n)| believer(n)).map(|(&id, _)| id).collect();
        let node = if let Some(asleep) = self.asleep.filter(|_| self.random.once_in(4)) {
            asleep
        } else if leaders.is_empty() || self.random.once_in(10) {
            any
        } else {
            leaders[self.random.index(leaders.len())]
        };
        if self.cluster.node(node).core.is_none() {
            return;
        }
        if self.random.once_in(20) {
            let to = self.any();
            self.cluster.transfer(node, to);
        } else if self.random.once_in(30) {
            let inputs =
                [Input::Campaign, Input::StepDown, Input::Pause(true), Input::Pause(false)];
            let input = inputs.into_iter().nth(self.random.index(4)).unwrap();
            self.cluster.step(node, input);
        } else if self.random.once_in(3) {
            self.cluster.read(node);
        } else {
            let batch = ["a", "bc", "a payload of some length"];
            let count = 1 + self.random.index(batch.len());
            self.cluster.propose(node, &batch[..count]);
        }
    }

    fn death(&mut self, node: NodeId) {
        if self.cluster.node(node).core.is_some() {
            let written = self.random.index(3);
            self.cluster.crash(node, written);
        }
        if self.random.once_in(2) {
            self.cluster.start(node);
        }
    }

    fn cut(&mut self) {
        if self.random.once_in(3) {
            self.cluster.heal();
        } else {
            let (from, to) = (self.any(), self.any());
            let up = self.random.once_in(3);
            self.cluster.link(from, to, up);
            if self.random.once_in(2) {
                // All of its links, in both directions: a leader that goes on believing in itself.
                let node = self.cluster.leader().unwrap_or(from);
                for other in self.cluster.nodes.keys().copied().collect::<Vec<_>>() {
                    self.cluster.link(node, other, up);
                    self.cluster.link(other, node, up);
                }
            }
        }
    }

    /// Everybody starts, everything arrives: now a new entry must get everywhere.
    fn heal(&mut self) {
        self.cluster.heal();
        for node in self.cluster.nodes.keys().copied().collect::<Vec<_>>() {
            if self.cluster.node(node).core.is_none() {
                self.cluster.start(node);
            }
            self.cluster.step(node, Input::Pause(false));
        }
        let led = self.cluster.until(2000, |cluster| {
            cluster.leader().is_some_and(|leader| {
                let core = cluster.core(leader);
                let follows = |node: &crate::harness::Node| {
                    node.core.as_ref().is_some_and(|c| c.leader() == Some(leader))
                };
                core.terms().last().is_some_and(|last| last.term == core.term())
                    && cluster.nodes.values().all(follows)
                    && core.transferring().is_none()
                    && core.committed() == core.terms().end()
            })
        });
        assert!(led, "a healthy cluster has no leader");
        let leader = self.cluster.leader().unwrap();
        let ticket = self.cluster.propose(leader, &["end"]);
        let read = self.cluster.read(leader);
        let done = self.cluster.until(500, |cluster| {
            let end = cluster.core(leader).terms().end();
            cluster.nodes.values().all(|node| node.applied == end)
        });
        print(self);
        assert!(done, "a new entry does not get everywhere");
        for wanted in [ticket, read] {
            let answer = self.cluster.answer(wanted);
            assert!(
                matches!(answer, Some(Resolution::Committed { .. } | Resolution::ReadAt { .. })),
                "{answer:?}"
            );
        }
        // Those with the highest priority lead in the end, however often that failed before.
        let highest = self.cluster.nodes.values().map(|node| node.options.priority).max();
        let led = self.cluster.until(5000, |cluster| {
            cluster.leader().is_some_and(|l| Some(cluster.node(l).options.priority) == highest)
        });
        assert!(led, "the highest priority does not lead");
        let strange = |event: &&(NodeId, Event)| {
            matches!(
                event.1,
                Event::Malformed { .. } | Event::Wiped | Event::FoundersDisagree { .. }
            )
        };
        assert_eq!(self.cluster.events.iter().find(strange), None, "all these nodes are correct");
    }
}

/// Prints how to repeat a run that panics.
struct Hint(u64);

impl Drop for Hint {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("run {} failed: TRP_SEED={} prints its transcript", self.0, self.0);
        }
    }
}

fn run(seed: u64, steps: usize, transcript: bool) -> (usize, usize) {
    let hint = Hint(seed);
    let mut run = Run::new(seed);
    if transcript {
        run.cluster.transcript = Some(Vec::new());
    }
    for _ in 0..steps {
        run.step();
        print(&mut run);
    }
    if transcript {
        for (&id, node) in &run.cluster.nodes {
            eprintln!("{}", show::status(id, node));
        }
        eprintln!("healing");
    }
    run.heal();
    drop(hint);
    (run.cluster.check.chosen.len(), run.cluster.check.reads)
}

fn print(run: &mut Run) {
    if let Some(lines) = &mut run.cluster.transcript {
        for line in lines.drain(..) {
            eprintln!("{} {line}", run.cluster.now.as_nanos() / 1_000_000);
        }
    }
}

/// Elections, replication, reads, crashes and forming in whatever order they can happen. What is checked is
/// in `check`; a run that never commits or reads would check nothing, so that is an error too.
#[test]
fn anything_may_happen() {
    if let Some(seed) = std::env::var("TRP_SEED").ok().and_then(|seed| seed.parse().ok()) {
        run(seed, 3000, true);
        return;
    }
    let runs: u64 =
        std::env::var("TRP_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(150);
    let (mut committed, mut reads) = (0, 0);
    for seed in 0..runs {
        let (more, answers) = run(seed, 3000, false);
        committed += more as u64;
        reads += answers as u64;
    }
    let enough = committed > 10 * runs && reads > runs;
    assert!(enough, "{committed} commits and {reads} reads test nothing");
}
