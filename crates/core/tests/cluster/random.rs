//! Seeded runs of everything that can go wrong, then healing and progress.

use crate::harness::{Cluster, id};
use crate::show;
use std::sync::Arc;
use std::time::Duration;
use tinyraftplus_core::{
    Event, Input, Lease, MemberSpec, NodeId, QuorumRule, Resolution, Role, Rules, Ticket, Time,
    quorum::Group,
};

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

fn group(id: NodeId) -> Group {
    Group::new(if id.as_str() < "3" { "a" } else { "b" }).unwrap()
}

/// Safe rules for that many voters, other than a majority for everything.
fn rules(random: &mut Random, voters: u64) -> Rules {
    if random.once_in(3) {
        return QuorumRule::MajorityOfEachGroup.into();
    }
    let least = |n: u64| QuorumRule::AtLeast(u32::try_from(n).unwrap());
    let elects = voters / 2 + 1 + random.below(voters - voters / 2);
    let commits = voters + 1 - elects + random.below(elects);
    Rules { elections: least(elects), commits: least(commits) }
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
    stalls: u64,
    /// Whether members come, go and lose their disks.
    changes: bool,
    /// Whether snapshots are taken, and logs compacted.
    snaps: bool,
    installs: usize,
    /// The node that lost its disk, until it votes again.
    wiped: Option<NodeId>,
    wipes: usize,
    /// The changes of members that were asked for and not answered.
    wishes: Vec<Ticket>,
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
        let notice = [0, 0, 3, 80].map(Duration::from_millis)[usize::try_from(seed % 4).unwrap()];
        let majority_forms = random.once_in(3);
        let rules = if random.once_in(4) { rules(&mut random, count) } else { Rules::default() };
        let mut cluster = Cluster::with_options(count, |options| {
            options.seed ^= seed << 8;
            options.commit_notice_delay = notice;
            options.lease = leases;
            options.form_with_majority = majority_forms;
            options.rules = rules.clone();
            options.group = Some(group(options.id));
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
        let changes = random.once_in(2);
        let stalls = 1 + random.below(20);
        let refusals = if random.once_in(3) { 5 + random.below(50) } else { u64::MAX };
        let snaps = Random(seed ^ 0x5eed).once_in(2);
        let mut run = Self {
            snaps,
            installs: 0,
            cluster,
            random,
            loss,
            deaths,
            refusals,
            cuts,
            stalls,
            changes,
            wiped: None,
            wipes: 0,
            wishes: Vec::new(),
            asleep: None,
        };
        if changes {
            run.cluster.patience = Duration::from_secs(2);
            for number in [count + 1, count + 2] {
                run.cluster.join_with(number, |options| {
                    (options.rules, options.group) = (Rules::default(), Some(group(options.id)));
                });
            }
        }
        if majority_forms && run.random.once_in(2) {
            let absent = run.any();
            run.cluster.crash(absent, 0);
        }
        run
    }

    /// The leader gets no time for a while, or again. Meanwhile somebody may want to be elected at once: what the others
    /// have promised to the leader is all that keeps them from it.
    fn doze(&mut self) {
        self.asleep = if self.asleep.is_some() { None } else { self.cluster.leader() };
        if self.asleep.is_some() && self.random.once_in(2) {
            let millis = self.random.below(600);
            self.cluster.now = self.cluster.now + Duration::from_millis(millis);
            for node in self.cluster.nodes.keys().copied().collect::<Vec<_>>() {
                if Some(node) != self.asleep && self.random.once_in(2) {
                    self.cluster.step(node, Input::Campaign);
                }
            }
        }
    }

    /// The oldest write of a node takes too long; it may still end.
    fn stall(&mut self, node: NodeId) {
        if let Some(job) = self.cluster.node(node).jobs.front().map(|job| job.job) {
            self.cluster.step(node, Input::PersistStalled { job });
        }
    }

    /// A node takes a snapshot, drops what it stands for, or gets that of another.
    fn snapshot(&mut self, node: NodeId) {
        let other = self.any();
        let up = |run: &Self, node| run.cluster.node(node).core.is_some();
        if !up(self, node) {
            return;
        }
        match self.random.below(3) {
            0 if !self.cluster.core(node).installs() => drop(self.cluster.snapshot(node)),
            1 if self.cluster.node(node).disk.snapshot.is_some() => self.cluster.compact(node),
            2 => {
                // Mostly to the one that needs it most.
                let nodes = self.cluster.nodes.iter();
                let nodes = nodes.filter_map(|(&id, it)| Some((it.core.as_ref()?.committed(), id)));
                let last = nodes.min().map_or(other, |(_, id)| id);
                let to = if self.random.once_in(4) { other } else { last };
                if up(self, to) && to != node {
                    self.pass_snapshot(node, to);
                }
            }
            _ => {}
        }
    }

    /// The snapshot of a leader comes to one that needs it, if it is newer than its own.
    fn pass_snapshot(&mut self, from: NodeId, to: NodeId) {
        let end = |node| self.cluster.node(node).disk.snapshot.as_ref().map(|(last, _)| last.seq);
        if end(from) <= end(to) || self.cluster.core(to).installs() {
            return;
        }
        let before = self.cluster.core(to).terms().start();
        self.cluster.copy_snapshot(from, to);
        if self.random.once_in(10) {
            return self.cluster.restart(to);
        }
        self.cluster.install(to);
        self.installs += usize::from(self.cluster.core(to).terms().start() > before);
    }

    /// Whether the leader is on the way from one membership to the next.
    fn is_between(&self) -> bool {
        self.cluster.leader().is_some_and(|leader| {
            self.cluster.core(leader).configuration().is_some_and(|it| it.old().is_some())
        })
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
            96 if self.random.once_in(self.cuts / 20 + 1) => self.cut(),
            97 if self.random.once_in(self.stalls) => self.stall(node),
            98 if self.random.once_in(3) => self.doze(),
            99 if self.changes => self.change(),
            _ => {}
        }
        if self.snaps && self.random.once_in(6) {
            self.snapshot(node);
        }
        if self.is_between() && self.random.once_in(15) {
            self.split();
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
        let node = if let Some(asleep) = self.asleep.filter(|_| self.random.once_in(2)) {
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
        } else if self.random.once_in(if self.asleep == Some(node) { 1 } else { 3 }) {
            self.cluster.read(node);
        } else {
            let batch = ["a", "bc", "a payload of some length"];
            let count = 1 + self.random.index(batch.len());
            self.cluster.propose(node, &batch[..count]);
        }
    }

    /// Somebody wants other members, or a voter loses its disk.
    fn change(&mut self) {
        let Some(leader) = self.cluster.leader().filter(|_| !self.random.once_in(10)) else {
            return;
        };
        if self.random.once_in(2) {
            return self.wipe(leader);
        }
        let mut members = Vec::new();
        // Few, so that old and new quorums have little in common, or most.
        let absent = 1 + self.random.below(4);
        for &id in self.cluster.nodes.keys() {
            match (self.random.below(absent + 3) + 1).saturating_sub(absent) {
                0 => {}
                kind => members.push(MemberSpec { id, group: Some(group(id)), votes: kind > 1 }),
            }
        }
        if !members.iter().any(|member| member.votes) {
            return;
        }
        let voters = members.iter().filter(|member| member.votes).count();
        if self.wiped.is_some() && voters < 3 {
            // A lost disk may not be noticed yet, and two voters can do without neither.
            return;
        }
        let least = voters / 2 + 1 + self.random.index(2);
        let least = u32::try_from(least.min(voters)).unwrap();
        let rule = QuorumRule::AtLeast(least);
        let rules = match self.random.below(6) {
            0 | 1 if self.wiped.is_none() => rule.into(),
            2 if self.wiped.is_none() => rules(&mut self.random, voters as u64),
            _ => Rules::default(),
        };
        self.wishes.push(self.cluster.set_members(leader, members, Some(rules)));
    }

    /// Not two at a time, and only where the others can do without it: nothing else promises to survive it.
    fn wipe(&mut self, leader: NodeId) {
        let configuration = Arc::clone(self.cluster.core(leader).configuration().unwrap());
        if let Some(wiped) = self.wiped {
            let identity = self.cluster.node(wiped).disk.identity;
            let settled = self.cluster.core(leader).configurations().unwrap();
            let settled = settled.settled(self.cluster.core(leader).committed());
            let gone = settled.configuration.member(wiped).is_none();
            if configuration.old().is_some()
                || !(settled.configuration.counts(wiped, identity) || gone)
            {
                return;
            }
            self.wiped = None;
        }
        // A wish that is still under way may lead to two voters as well.
        let cluster = &self.cluster;
        self.wishes.retain(|&wish| cluster.answer(wish).is_none());
        if !self.wishes.is_empty() {
            return;
        }
        let node = self.any();
        let options = &self.cluster.node(node).options;
        let mut fellows = options.members.iter().filter(|&&id| id != node);
        let is_new = |id: &NodeId| self.cluster.node(*id).disk.configuration.is_none();
        if options.members.len() == 1 || (options.form_with_majority && fellows.any(is_new)) {
            // It would found a cluster again, as it was told.
            return;
        }
        let end = self.cluster.check.end();
        let others_do = configuration.halves().all(|half| {
            let others: Vec<_> = half.voters().filter(|member| member.id != node).collect();
            let whole = others.iter().all(|member| {
                let disk = &self.cluster.node(member.id).disk;
                Some(disk.identity) == member.identity && disk.end() >= end
            });
            whole && others.len() >= 2 && half.rules() == &Rules::default()
        });
        if others_do && node != leader && configuration.member(node).is_some_and(|m| m.votes) {
            self.cluster.wipe(node);
            self.wiped = Some(node);
            self.wipes += 1;
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
        match self.random.below(9) {
            0..3 => return self.cluster.heal(),
            3..5 => return self.split(),
            _ => {}
        }
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

    /// Two sides that do not hear each other; whoever leads may be alone with those that are new, or with the old ones.
    fn split(&mut self) {
        let ids: Vec<NodeId> = self.cluster.nodes.keys().copied().collect();
        let side: Vec<bool> = ids.iter().map(|_| self.random.once_in(2)).collect();
        for (a, of_a) in ids.iter().zip(&side) {
            for (b, of_b) in ids.iter().zip(&side) {
                self.cluster.link(*a, *b, of_a == of_b);
            }
        }
    }

    /// Everybody starts, everything arrives: now a new entry must get everywhere.
    fn heal(&mut self) {
        self.cluster.heal();
        self.cluster.carries_snapshots = true;
        for node in self.cluster.nodes.keys().copied().collect::<Vec<_>>() {
            if self.cluster.node(node).core.is_none() {
                self.cluster.start(node);
            }
            self.cluster.step(node, Input::Pause(false));
        }
        let led = self.cluster.until(20_000, |cluster| {
            cluster.leader().is_some_and(|leader| {
                let core = cluster.core(leader);
                let configuration = core.configuration().unwrap();
                let follows = |node: &crate::harness::Node| {
                    let core = node.core.as_ref().unwrap();
                    let identity = node.disk.identity;
                    !configuration.counts(core.id(), identity) || core.leader() == Some(leader)
                };
                core.terms().last().is_some_and(|last| last.term == core.term())
                    && cluster.nodes.values().all(follows)
                    && core.transferring().is_none()
                    && core.committed() == core.terms().end()
                    && configuration.old().is_none()
                    && configuration.members().iter().all(|member| {
                        Some(cluster.node(member.id).disk.identity) == member.identity
                            || !member.votes
                    })
            })
        });
        print(self);
        if !led {
            for (&id, node) in &self.cluster.nodes {
                let configurations = node.core.as_ref().and_then(|core| core.configurations());
                eprintln!(
                    "{}, {} of {}, {configurations:?}",
                    show::status(id, node),
                    node.applied,
                    node.view.end(),
                );
            }
        }
        assert!(led, "a healthy cluster has no leader, or does not know its members");
        // A change that is still under way may remove the leader; then the next one is asked.
        let done = (0..5).any(|_| self.ends());
        assert!(done, "a new entry does not get everywhere");
        let answered = self.cluster.until(1000, Self::all_are_answered);
        assert!(answered, "some wait for ever: {:?}", self.cluster.open);
        // Those with the highest priority lead in the end, however often that failed before.
        let led = self.cluster.until(20_000, |cluster| {
            cluster.leader().is_some_and(|leader| {
                let configuration = cluster.core(leader).configuration().unwrap();
                let of = |id| cluster.node(id).options.priority;
                let highest = configuration.now().voters().map(|member| of(member.id)).max();
                Some(of(leader)) == highest
            })
        });
        assert!(led, "the highest priority does not lead");
        let strange = |event: &&(NodeId, Event)| {
            matches!(event.1, Event::Malformed { .. } | Event::UnknownRule(_))
                || (!self.changes
                    && matches!(event.1, Event::Wiped | Event::FoundersDisagree { .. }))
        };
        assert_eq!(self.cluster.events.iter().find(strange), None, "all these nodes are correct");
    }
}

impl Run {
    /// Nobody waits for ever, but for entries at nodes that are no members any more, and hear nothing.
    fn all_are_answered(cluster: &Cluster) -> bool {
        cluster.leader().is_some_and(|leader| {
            let configuration = cluster.core(leader).configuration().unwrap();
            cluster.open.iter().all(|(&ticket, &node)| {
                let is_member = configuration.names(node, cluster.node(node).disk.identity);
                cluster.answer(ticket).is_some() && !is_member
            })
        })
    }

    /// Whether a new entry gets to all members, and a read is answered.
    fn ends(&mut self) -> bool {
        assert!(self.cluster.until(20_000, |cluster| cluster.leader().is_some()));
        let leader = self.cluster.leader().unwrap();
        let (ticket, read) = (self.cluster.propose(leader, &["end"]), self.cluster.read(leader));
        // Nodes that are no members wake too, and an empty log fills up through small windows.
        let done = self.cluster.until(500 * self.cluster.nodes.len(), |cluster| {
            let core = cluster.core(leader);
            let end = core.terms().end();
            let mut members = core.configuration().unwrap().members().iter();
            members.all(|member| {
                let node = cluster.node(member.id);
                node.applied == end || Some(node.disk.identity) != member.identity
            })
        });
        let answers = [ticket, read].map(|wanted| self.cluster.answer(wanted));
        let fine = |answer: &Option<Resolution>| {
            matches!(answer, Some(Resolution::Committed { .. } | Resolution::ReadAt { .. }))
        };
        done && answers.iter().all(fine)
    }
}

/// Says which run it was that panics.
pub(crate) struct Hint(pub(crate) u64);

impl Drop for Hint {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("run {} failed; of `random`, TRP_SEED={} prints it", self.0, self.0);
        }
    }
}

/// What a run did: entries committed, reads answered, configurations committed, disks lost, snapshots installed.
fn run(seed: u64, steps: usize, transcript: bool) -> [usize; 5] {
    let hint = Hint(seed);
    let mut run = Run::new(seed);
    if transcript {
        run.cluster.transcript = Some(Vec::new());
    }
    // What leads from one membership to the next takes many letters.
    let steps = if run.changes { 3 * steps } else { steps };
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
    let check = &run.cluster.check;
    [check.chosen.len(), check.reads, check.changes(), run.wipes, run.installs]
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
    let mut sums = [0; 5];
    for seed in 0..runs {
        let did = run(seed, 3000, false);
        sums.iter_mut().zip(did).for_each(|(sum, more)| *sum += more as u64);
    }
    let [committed, reads, changes, wipes, installs] = sums;
    let enough = committed > 10 * runs
        && reads > runs
        && changes > runs / 2
        && wipes > runs / 20
        && installs > runs / 4;
    let did = format!(
        "{committed} commits, {reads} reads, {changes} changes, {wipes} lost disks, {installs} installed snapshots"
    );
    println!("{did}");
    assert!(enough, "{did} test nothing");
}
