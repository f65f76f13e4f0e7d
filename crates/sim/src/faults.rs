//! What breaks, and when it is mended.

use crate::check::Verdict;
use crate::node::Death;
use crate::profile::FaultKind;
use crate::trace::{EVERYWHERE, digest};
use crate::world::{What, World};

impl World {
    /// Something breaks, and something else will soon.
    pub(crate) fn fault(&mut self) -> Verdict {
        if !self.breaks() {
            return Ok(());
        }
        let kinds = &self.profile.faults.kinds;
        let kind =
            *kinds.get(self.chance.faults.place(kinds.len())).expect("there are kinds of faults");
        let interval = self.chance.faults.scale(self.profile.faults.interval);
        self.after(interval, What::Fault);
        self.note(EVERYWHERE, digest(&[50, kind as u64]), || format!("fault: {kind:?}"));
        self.break_it(kind)
    }

    fn break_it(&mut self, kind: FaultKind) -> Verdict {
        let count = self.profile.node_count;
        let at = self.chance.faults.place(count);
        let other = self.chance.faults.place(count);
        let lasting = self.chance.faults.scale(self.profile.faults.lasting);
        let until = self.now + lasting;
        // A leader if there is one: most of what can go wrong goes wrong there.
        let leader = self.leader().unwrap_or(at);
        match kind {
            FaultKind::Split => {
                let sides = self.chance.faults.next();
                let partition = self.partition(lasting);
                self.network.split(partition, |node| sides >> node & 1 == 1);
            }
            FaultKind::OneWay => {
                let partition = self.partition(lasting);
                self.network.cut(partition, at, other);
            }
            FaultKind::IsolateLeader => {
                let partition = self.partition(lasting);
                self.network.split(partition, |node| node == leader);
            }
            FaultKind::DeafLeader => {
                let deaf = self.chance.faults.chance(500);
                let partition = self.partition(lasting);
                for peer in 0..count {
                    let (from, to) = if deaf { (peer, leader) } else { (leader, peer) };
                    self.network.cut(partition, from, to);
                }
            }
            FaultKind::Clog => {
                self.counts.clogs += 1;
                self.network.clog(at, other, until);
            }
            FaultKind::Pause => {
                let at = if self.chance.faults.chance(500) { leader } else { at };
                self.counts.pauses += 1;
                self.node(at).paused_until = until;
                self.note(at, digest(&[51, until]), || "pauses".to_owned());
            }
            FaultKind::Kill => self.kill(at, Death::Killed),
            FaultKind::PowerLoss => self.kill(at, Death::PowerLost),
            FaultKind::CrashInWrite => {
                let death = self.death();
                self.node(at).plans.dies_writing = Some(death);
            }
            FaultKind::CrashLeader => {
                let death = self.death();
                self.kill(leader, death);
            }
            FaultKind::Blackout => (0..count).for_each(|at| self.kill(at, Death::PowerLost)),
            FaultKind::SyncFails => self.node(at).plans.sync_fails = true,
            FaultKind::Stall => self.node(at).plans.stalls = true,
            FaultKind::Restart => return self.restart(at),
            FaultKind::FullDisk => {
                let disk = &self.node(at).disk;
                disk.set_capacity(Some(disk.bytes_used()));
                self.after(lasting, What::Room(at));
            }
            FaultKind::Wipe => {
                let left = self.wiped.iter().filter(|&&wiped| !wiped).count();
                let more =
                    self.wiped.get(at).is_some_and(|&wiped| wiped) || left > self.profile.quorum();
                // Never so many that the others are no quorum: what was committed would be gone.
                if more && self.chance.faults.chance(200) {
                    self.wipe(at);
                }
            }
        }
        Ok(())
    }

    /// A new partition, which ends after that time.
    fn partition(&mut self, lasting: u64) -> u64 {
        self.counts.partitions += 1;
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
            self.resume(at);
            self.after(0, What::Start(at));
        }
    }
}
