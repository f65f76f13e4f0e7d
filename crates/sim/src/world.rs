//! The world of one seed: events in order of their time, and time that jumps from one to the next.
//!
//! Nothing in here knows the real clock, a thread or a set without order. What a node does is in `driver`, what
//! breaks in `faults`, how nodes start and die in `lives`, what clients want in `workload`, and what must hold
//! when all is well again in `liveness`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tinyraftplus_core::{Configurations, EntryId, MessageBody, Plan};
use tinyraftplus_replica::{Happening, LoadRequest, Message, SnapshotId};

use crate::check::{Checks, Verdict, Violation, calls::Life, require};
use crate::counts::Counts;
use crate::faults::Planned;
use crate::less::Less;
use crate::liveness::Liveness;
use crate::network::Network;
use crate::node::{Death, Node, Process};
use crate::profile::{Profile, node_id};
use crate::rng::Rng;
use crate::run::Settings;
use crate::trace::{EVERYWHERE, Trace, digest};
use crate::words;
use crate::workload::{Burst, Client};

/// A run has some ten thousand events; one whose nodes replay a long log entry by entry at each of many starts
/// has a million (seed 25390). With more than this, nodes keep each other busy and get nowhere.
pub(crate) const STEPS_MAX: u64 = 3_000_000;

/// Everything about one run.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) profile: Profile,
    pub(crate) less: Less,
    until: Option<&'static str>,
    pub(crate) now: u64,
    /// Events by time, then in the order in which they were made.
    queue: BTreeMap<(u64, u64), What>,
    next_event: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) checks: Checks,
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
    pub(crate) phase: Phase,
    pub(crate) chance: Chance,
    pub(crate) next_partition: u64,
    pub(crate) faults_planned: u64,
    /// The numbers of the faults and of the bursts of calls that there were.
    pub(crate) faults_happened: Vec<u64>,
    pub(crate) calls_happened: Vec<u64>,
    pub(crate) clients: Vec<Client>,
    slow_nodes: u64,
    /// What members were asked for, and until when that may be begun.
    pub(crate) plans: Vec<(Plan, u64)>,
    pub(crate) liveness: Liveness,
}

/// One source of chance for each concern.
#[derive(Debug)]
pub(crate) struct Chance {
    pub(crate) driver: Rng,
    pub(crate) faults: Rng,
    pub(crate) deaths: Rng,
    pub(crate) seeds: Rng,
    pub(crate) snapshots: Rng,
}

/// What the world is up to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// Things break, and nothing wrong may come of it.
    Safety,
    /// Nothing breaks any more, and everything must come right.
    Liveness,
}

/// What can happen.
#[derive(Debug)]
pub(crate) enum What {
    /// A message arrives.
    Deliver { from: usize, to: usize, message: Box<Message> },
    /// A process looks at what arrived.
    Run(Life),
    /// A process asked to be woken at this time.
    Wake(Life),
    /// The disk has done what was asked of it.
    Written(Life),
    /// A write has taken longer than the limit.
    WriteSlow(Life, u64),
    /// A write that a full disk refused is tried again.
    WriteAgain(Life),
    /// The log was read.
    Loaded(Life, LoadRequest),
    /// The state machine has done what was asked of it.
    Worked(Life),
    /// Whoever keeps snapshots has done what was asked of it.
    Kept(Life),
    /// A snapshot of the state machine is written.
    Taken(Life, Box<(SnapshotId, EntryId, Arc<Configurations>, Bytes)>),
    /// A process starts on a node.
    Start(usize),
    /// A process dies, if it still lives.
    Die(Life, Death),
    /// Something breaks.
    Fault(Planned),
    /// A partition ends.
    Mend(u64),
    /// A disk has room again.
    Room(usize),
    /// A disk can be read again.
    Readable(usize),
    /// A client wants something.
    Client(usize, Burst),
    /// A node that was told to sit still is told to go on.
    GoOn(usize),
    /// Time to look whether all is well.
    Look,
}

impl World {
    pub(crate) fn new(seed: u64, settings: &Settings) -> Self {
        let mut rng = Rng::new(seed);
        let less = settings.less.clone();
        let profile = Profile::new(&mut rng.fork(), &less);
        let mut rng = Rng::new(rng.next() ^ crate::rng::mix(less.roll));
        let count = profile.node_count;
        let mut of_nodes = rng.fork();
        let mut of_clients = rng.fork();
        let clients = (0..profile.clients.count).map(|_| Client::new(of_clients.fork()));
        let inside = !settings.outside_only;
        let nodes: Vec<_> = (0..count).map(|_| Node::draw(&mut of_nodes, &profile)).collect();
        let mut world = Self {
            slow_nodes: nodes.iter().map(|node| u64::from(node.slowness > 1)).sum(),
            nodes,
            now: 0,
            queue: BTreeMap::new(),
            next_event: 0,
            network: Network::new(profile.network.clone(), rng.fork(), count),
            checks: Checks::new(count, profile.first_seq, inside),
            trace: Trace::new(settings.transcript),
            counts: Counts::default(),
            phase: Phase::Safety,
            chance: Chance {
                driver: rng.fork(),
                faults: rng.fork(),
                deaths: rng.fork(),
                seeds: rng.fork(),
                snapshots: rng.fork(),
            },
            next_partition: 0,
            faults_planned: 0,
            faults_happened: Vec::new(),
            calls_happened: Vec::new(),
            clients: clients.collect(),
            plans: Vec::new(),
            liveness: Liveness::default(),
            less,
            until: settings.until,
            profile,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let profile = format!("{:?}", self.profile);
        self.trace.note(0, EVERYWHERE, 0, || profile);
        for at in 0..self.profile.node_count {
            let node = self.node(at);
            let words = node.kind();
            self.note(at, 23, || words);
            let delay = self.chance.deaths.below(300_000_000);
            self.after(delay, What::Start(at));
        }
        for client in 0..self.profile.clients.count {
            self.plan_calls(client);
        }
        self.plan_fault(self.profile.faults.grace);
    }

    /// Lives the whole run, or as much of it as so many lines of a transcript tell.
    pub(crate) fn run(&mut self, lines: u64) -> Verdict {
        while !self.liveness.is_done() {
            if self.trace.count() > lines {
                return Ok(());
            }
            let Some(((time, _), what)) = self.queue.pop_first() else {
                return Err(Violation::new(
                    "the world goes on",
                    "nothing will ever happen again".to_owned(),
                ));
            };
            self.now = time;
            self.counts.steps += 1;
            require!(
                self.counts.steps < STEPS_MAX,
                "a run ends",
                "after {STEPS_MAX} events no end is in sight: something goes round in circles"
            );
            self.happen(what)?;
            if let Some(until) = self.until {
                require!(!self.counts().reached(until), "until", "there were {until}");
            }
            if self.phase == Phase::Safety && self.now >= self.profile.safety {
                self.heal();
            }
        }
        self.verify()
    }

    /// Nothing will happen any more.
    #[cfg(test)]
    pub(crate) fn forget_all(&mut self) {
        self.queue.clear();
    }

    /// Makes something happen later.
    pub(crate) fn after(&mut self, delay: u64, what: What) {
        self.at(self.now.saturating_add(delay), what);
    }

    /// Makes something happen at that time.
    pub(crate) fn at(&mut self, time: u64, what: What) {
        self.queue.insert((time.max(self.now), self.next_event), what);
        self.next_event += 1;
    }

    fn happen(&mut self, what: What) -> Verdict {
        match what {
            What::Deliver { from, to, message } => self.deliver(from, to, *message),
            What::Run(life) => return self.run_process(life),
            What::Wake(life) => {
                let now = self.now;
                if let Some(process) = self.alive(life)
                    && process.wake == Some(now)
                {
                    process.wake = None;
                    self.hand(life, Happening::Wake);
                }
            }
            What::Written(life) => return self.written(life),
            What::WriteSlow(life, job) => self.write_slow(life, job),
            What::WriteAgain(life) => return self.write_again(life),
            What::Loaded(life, request) => self.loaded(life, request),
            What::Worked(life) => return self.worked(life),
            What::Kept(life) => self.kept(life),
            What::Taken(life, snapshot) => self.taken(life, *snapshot),
            What::Start(at) => return self.start(at),
            What::Die(life, death) => self.die(life, death),
            What::Fault(planned) => return self.fault(planned),
            What::Mend(partition) => {
                self.note(EVERYWHERE, digest(&[20, partition]), || {
                    format!("partition {partition} ends")
                });
                self.network.mend(partition);
            }
            What::Room(at) => {
                self.note(at, 21, || "the disk has room again".to_owned());
                self.node(at).disk.set_capacity(None);
            }
            What::Readable(at) => self.mend_reads(at),
            What::Client(client, burst) => self.client(client, burst),
            What::GoOn(at) => self.go_on(at),
            What::Look => return self.look(),
        }
        Ok(())
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message) {
        let what = digest(&[22, from as u64, words::message_digest(&message)]);
        let Some(life) = self.node(to).process.as_ref().map(|process| process.life) else {
            self.note(to, what, || {
                format!("is down; n{} -> {}", from + 1, words::message(&message))
            });
            return;
        };
        self.note(to, what, || format!("<- n{} {}", from + 1, words::message(&message)));
        let is_append =
            matches!(&message, Message::Raft(it) if matches!(it.body, MessageBody::Append { .. }));
        if let Message::Raft(raft) = &message
            && is_append
            && self.chance.driver.chance(self.profile.alive)
        {
            // As if the first part of it had come by itself.
            self.counts.alive += 1;
            self.hand(life, Happening::Alive { from: node_id(from), term: raft.term });
        }
        self.hand(life, Happening::Receive { from: node_id(from), message });
    }

    /// Puts something before a process, which will look at it soon.
    pub(crate) fn hand(&mut self, life: Life, happening: Happening) {
        let delay = self.chance.driver.within(self.profile.wakeup) * self.node(life.node).slowness;
        let due_at = (self.now + delay).max(self.node(life.node).paused_until);
        if let Some(process) = self.alive(life) {
            process.inbox.push(happening);
            if !std::mem::replace(&mut process.due, true) {
                self.at(due_at, What::Run(life));
            }
        }
    }

    /// The process of that life, if it still lives.
    pub(crate) fn alive(&mut self, life: Life) -> Option<&mut Process> {
        self.node(life.node).process.as_mut().filter(|process| process.life == life)
    }

    pub(crate) fn node(&mut self, at: usize) -> &mut Node {
        self.nodes.get_mut(at).expect("nodes are named by their place")
    }

    pub(crate) fn note(&mut self, node: usize, what: u64, words: impl FnOnce() -> String) {
        self.trace.note(self.now, node, what, words);
    }

    /// What the run did.
    pub(crate) fn counts(&self) -> Counts {
        let calls = self.checks.calls.counts;
        let mut counts = self.counts;
        counts.millis = self.now / 1_000_000;
        counts.committed = self.checks.committed.count();
        counts.leaders = self.checks.leaders();
        counts.appends = calls.appends;
        counts.acknowledged = calls.acknowledged;
        counts.refused = calls.refused;
        counts.unknown = calls.unknown;
        counts.lost = calls.lost;
        counts.reads = calls.reads;
        counts.reads_answered = calls.reads_answered;
        counts.drifting = self.nodes.iter().map(|node| u64::from(node.drifts())).sum();
        counts.slow_nodes = self.slow_nodes;
        counts += self.checks.lineage.counts;
        counts.sectors_lost = self.nodes.iter().map(|node| node.disk.stats().sectors_lost).sum();
        counts
    }
}
