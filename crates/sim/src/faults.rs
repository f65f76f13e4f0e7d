//! What breaks, and when it is mended.

use tinyraftplus_core::Configurations;
use tinyraftplus_log::Write;
use tinyraftplus_replica::{Base, Change};

use crate::check::Verdict;
use crate::fault::Fault;
use crate::node::Death;
use crate::orders::Order;
use crate::profile::node_id;
use crate::rng::{Range, Rng};
use crate::trace::{EVERYWHERE, digest};
use crate::words;
use crate::world::{What, World};

/// Something that will break.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// They count from 1.
    number: u64,
    /// Chance of its own, so that those before it can be left out and it stays the same.
    rng: Rng,
}

impl World {
    /// Plans what breaks next, that long from now and then some.
    pub(crate) fn plan_fault(&mut self, mut delay: u64) {
        if self.profile.faults.kinds.is_empty() {
            return;
        }
        let last = self.less.only_faults.as_ref().map(|only| only.last().copied().unwrap_or(0));
        while last.is_none_or(|last| self.faults_planned < last) {
            self.faults_planned += 1;
            let number = self.faults_planned;
            let interval = self.chance.faults.scale(self.profile.faults.interval);
            let rng = self.chance.faults.fork();
            let happens = self.less.has_fault(number);
            if happens || !self.less.close_up {
                delay += interval;
            }
            if happens {
                self.after(delay, What::Fault(Planned { number, rng }));
                return;
            }
        }
    }

    /// Something breaks, and something else will soon.
    pub(crate) fn fault(&mut self, planned: Planned) -> Verdict {
        if !self.breaks() {
            return Ok(());
        }
        let Planned { number, mut rng } = planned;
        let kinds = &self.profile.faults.kinds;
        let kind = *kinds.get(rng.place(kinds.len())).expect("there are kinds of faults");
        self.note(EVERYWHERE, digest(&[50, kind as u64]), || format!("fault {number}: {kind}"));
        self.faults_happened.push(number);
        self.break_it(kind, &mut rng)?;
        self.plan_fault(0);
        Ok(())
    }

    fn break_it(&mut self, kind: Fault, rng: &mut Rng) -> Verdict {
        let count = self.profile.node_count;
        let at = rng.place(count);
        let other = rng.place(count);
        let lasting = rng.scale(self.profile.faults.lasting);
        let until = self.now + lasting;
        let death = if rng.chance(500) { Death::Killed } else { Death::PowerLost };
        // A leader if there is one: most of what can go wrong goes wrong there.
        let leader = self.leader().unwrap_or(at);
        match kind {
            Fault::Split | Fault::OneWay | Fault::IsolateLeader | Fault::DeafLeader => {
                self.cut(kind, (at, other, leader), lasting, rng);
            }
            Fault::Clog => {
                self.counts.clogs += 1;
                self.network.clog(at, other, until);
            }
            Fault::Pause => {
                let at = if rng.chance(500) { leader } else { at };
                self.counts.pauses += 1;
                self.node(at).paused_until = until;
                self.note(at, digest(&[51, until]), || "pauses".to_owned());
            }
            Fault::Kill => self.kill(at, Death::Killed),
            Fault::PowerLoss => self.kill(at, Death::PowerLost),
            Fault::CrashInWrite => {
                let plans = &mut self.node(at).plans;
                plans.dies_writing = Some(death);
                plans.dies_voting = rng.chance(300);
            }
            Fault::CrashLeader => self.kill(leader, death),
            Fault::Blackout => {
                self.counts.blackouts += 1;
                (0..count).for_each(|at| self.kill(at, Death::PowerLost));
            }
            Fault::SyncFails => self.node(at).plans.sync_fails = true,
            Fault::ReadsFail => self.fail_reads(at, until),
            Fault::Stall => {
                let at = if rng.chance(500) { leader } else { at };
                self.node(at).plans.stalls = true;
            }
            Fault::Restart => return self.restart(at),
            Fault::FullDisk => {
                let disk = &self.node(at).disk;
                disk.set_capacity(Some(disk.bytes_used()));
                self.after(lasting, What::Room(at));
            }
            Fault::Wipe => {
                if self.can_do_without(at) {
                    self.wipe(at);
                }
            }
            Fault::HandOver | Fault::StepDown | Fault::Campaign | Fault::SitStill => {
                self.draw_order(kind, (at, other, leader), lasting, rng);
            }
            Fault::ChangeMembers => {
                let at = if rng.chance(500) { leader } else { at };
                self.change_members(at, rng);
            }
            // These go on all the time.
            Fault::Drop
            | Fault::Duplicate
            | Fault::Delay
            | Fault::SlowDisk
            | Fault::CrashInRecovery
            | Fault::Drift
            | Fault::SlowNodes
            | Fault::Snapshots
            | Fault::SplitChange => {}
        }
        Ok(())
    }

    /// Somebody asks a node for other members, or other rules.
    fn change_members(&mut self, at: usize, rng: &mut Rng) {
        let time = rng.scale(Range::millis(100, 5_000));
        let process = self.nodes.get(at).and_then(|node| node.process.as_ref());
        let known = process.and_then(|process| process.replica.core().configurations().cloned());
        let Some(known) = known else {
            return;
        };
        let newest = known.newest();
        let Some(plan) = self.draw_plan(rng, &newest.configuration) else {
            return;
        };
        if !self.can_plan_without(&plan, None) {
            return;
        }
        // Its clock may be slow, and the leader hears of it late and then takes as much time.
        let late = self.profile.network.detour_time.most.max(2 * self.profile.faults.lasting.most);
        self.plans.push((plan.clone(), self.now + 4 * time + late));
        let words = format!("is asked for {} as members, by {}", words::plan(&plan), plan.rules());
        self.note(at, digest(&[54, plan.rules().fingerprint()]), || words);
        self.counts.change_orders += 1;
        let keeps_rules = plan.rules() == newest.configuration.now().rules();
        // Half of those who ask have not looked at what there is.
        let base = rng.chance(500).then_some(Base(newest.at));
        let keeps_rules = keeps_rules && rng.chance(500);
        let change = Change { plan, base, keeps_rules };
        self.order(at, Order::Members(Box::new(change)), time);
    }

    /// Some can't talk to others for a while.
    fn cut(
        &mut self,
        kind: Fault,
        (at, other, leader): (usize, usize, usize),
        lasting: u64,
        rng: &mut Rng,
    ) {
        let partition = self.partition(lasting);
        let counts = &mut self.counts;
        if kind == Fault::Split {
            let sides = rng.next();
            counts.splits += 1;
            // A leader with one follower goes on appending what will be replaced, and sends it on.
            let with_one = rng.chance(300);
            let is_here = |node: usize| {
                if with_one { node == leader || node == other } else { sides >> node & 1 == 1 }
            };
            self.network.split(partition, is_here);
        } else if kind == Fault::OneWay {
            counts.one_way_cuts += 1;
            self.network.cut(partition, at, other);
        } else if kind == Fault::IsolateLeader {
            counts.isolated_leaders += 1;
            self.network.split(partition, |node| node == leader);
            // What it appends then is nowhere else, and still being written when another leader replaces it.
            self.node(leader).plans.stalls |= rng.chance(250);
        } else {
            let deaf = rng.chance(500);
            counts.deaf_leaders += u64::from(deaf);
            counts.mute_leaders += u64::from(!deaf);
            for peer in 0..self.profile.node_count {
                let (from, to) = if deaf { (peer, leader) } else { (leader, peer) };
                self.network.cut(partition, from, to);
            }
        }
    }

    /// A leader that begins to replace one membership by another may find itself alone with those that come.
    pub(crate) fn split_change(&mut self, at: usize, write: &Write) {
        let begins = |all: &Configurations| all.newest().configuration.old().is_some();
        let newest = write.configuration.as_ref().filter(|all| begins(all)).cloned();
        let Some(newest) = newest.filter(|_| self.breaks() && self.leader() == Some(at)) else {
            return;
        };
        if !self.chance.deaths.chance(self.profile.faults.split_change) {
            return;
        }
        let configuration = &newest.newest().configuration;
        let stays = |node: usize| {
            let was = configuration.old().is_some_and(|old| old.member(node_id(node)).is_some());
            node == at || !was && configuration.now().member(node_id(node)).is_some()
        };
        let lasting = self.chance.deaths.scale(self.profile.faults.lasting);
        let partition = self.partition(lasting);
        self.counts.split_changes += 1;
        self.note(EVERYWHERE, digest(&[55, partition]), || {
            format!("partition {partition} of those that come")
        });
        self.network.split(partition, stays);
    }

    /// Nothing on the disk of a node can be read for a while.
    fn fail_reads(&mut self, at: usize, until: u64) {
        let disk = &self.node(at).disk;
        for file in disk.files() {
            disk.fail_reads(&file, 0..u64::MAX, std::io::ErrorKind::Other);
        }
        self.node(at).unreadable_until = until;
        self.note(at, digest(&[52, until]), || "can't read its disk".to_owned());
        self.at(until, What::Readable(at));
    }

    /// The disk of a node can be read again.
    pub(crate) fn mend_reads(&mut self, at: usize) {
        let now = self.now;
        let node = self.node(at);
        // It may have broken again meanwhile.
        if node.unreadable_until > now {
            return;
        }
        for file in node.disk.files() {
            node.disk.mend_reads(&file);
        }
        self.note(at, 53, || "can read its disk again".to_owned());
    }

    /// A new partition, which ends after that time.
    fn partition(&mut self, lasting: u64) -> u64 {
        self.next_partition += 1;
        self.after(lasting, What::Mend(self.next_partition));
        self.next_partition
    }

    /// A node that paused goes on: what piled up is looked at soon.
    pub(crate) fn resume(&mut self, at: usize) {
        let now = self.now;
        let node = self.node(at);
        node.paused_until = node.paused_until.min(now);
        if let Some(life) = self.life(at) {
            self.hand(life, tinyraftplus_replica::Happening::Wake);
        }
    }

    /// All faults end, and no more will come.
    pub(crate) fn stop_faults(&mut self) {
        self.network.heal();
        self.profile.network.heal();
        self.profile.disk.heal();
        self.profile.machine.most = self.profile.machine.most.min(200_000);
        for at in 0..self.profile.node_count {
            let node = self.node(at);
            node.plans = crate::node::Plans::default();
            node.disk.set_capacity(None);
            node.slowness = 1;
            node.unreadable_until = 0;
            self.mend_reads(at);
            self.resume(at);
            self.after(0, What::Start(at));
            self.after(0, What::GoOn(at));
        }
    }
}
