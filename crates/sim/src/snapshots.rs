//! Snapshots in a world: what a state machine says of itself, and a keeper that takes its time and dies with its process.
//!
//! What a snapshot holds is the machine's three numbers, once in each chunk: so half of one, or one made of two, is noticed.

use std::io::Read;

use bytes::Bytes;
use tinyraftplus_core::EntryId;
use tinyraftplus_replica::{Happening, SnapshotId, SnapshotMeta, SnapshotNews, SnapshotWork};

use crate::check::{Verdict, Violation, calls::Life};
use crate::machine::Machine;
use crate::node::Task;
use crate::rng::{Range, Rng};
use crate::trace::digest;
use crate::world::{What, World};

/// How large a chunk is: the smallest there may be.
pub(crate) const CHUNK_BYTES: u32 = 1 << 10;

/// How snapshots are taken, and how their keeper fares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotProfile {
    /// After so many bytes of entries.
    pub(crate) log_bytes: u64,
    pub(crate) keep_entries: u64,
    /// How many chunks a snapshot has, at most.
    pub(crate) chunks: u64,
    pub(crate) window_chunks: u64,
    pub(crate) bytes_per_second: u64,
    /// How long the keeper takes for one thing.
    pub(crate) work: Range,
    /// How long it takes to write a snapshot.
    pub(crate) take: Range,
    /// In how many of a thousand cases the process dies before it hears that a thing is done.
    pub(crate) dies: u64,
    /// In how many of a thousand cases a thing fails.
    pub(crate) fails: u64,
}

impl SnapshotProfile {
    /// Half of the worlds have snapshots.
    pub(crate) fn draw(rng: &mut Rng, calm: bool) -> Option<Self> {
        let profile = Self {
            log_bytes: rng.pick(&[1, 500, 2_000, 10_000]),
            keep_entries: rng.pick(&[0, 0, 5, 100]),
            chunks: rng.pick(&[1, 3, 10, 60]),
            window_chunks: rng.pick(&[1, 2, 8]),
            bytes_per_second: rng.pick(&[20_000, 1 << 20, 64 << 20]),
            work: Range::micros(1, rng.pick(&[100, 2_000, 50_000])),
            take: Range::micros(1, rng.pick(&[1_000, 100_000, 1_000_000])),
            dies: if calm { 0 } else { rng.pick(&[0, 10, 60]) },
            fails: if calm { 0 } else { rng.pick(&[0, 0, 10]) },
        };
        rng.chance(500).then_some(profile)
    }
}

/// What a snapshot of that machine holds.
fn body(machine: &Machine, chunks: u64) -> Bytes {
    let count = chunks - machine.hash % chunks.div_ceil(2);
    let mut chunk = machine.read().to_vec();
    chunk.extend(count.to_le_bytes());
    chunk.resize(CHUNK_BYTES as usize, 0);
    chunk.repeat(usize::try_from(count).expect("a few chunks")).into()
}

/// The machine that a snapshot is of; `None` if it was not made as a whole.
fn machine(body: &[u8]) -> Option<Machine> {
    let chunk = body.get(..CHUNK_BYTES as usize)?;
    let count = chunk.get(24..32)?.try_into().ok().map(u64::from_le_bytes)?;
    let is_whole = body.len() as u64 == count * u64::from(CHUNK_BYTES)
        && body.chunks(CHUNK_BYTES as usize).all(|other| other == chunk);
    Machine::parse(chunk.get(..24)?).filter(|_| is_whole)
}

impl World {
    /// Hands out what a replica says about snapshots, in order.
    pub(crate) fn keep(&mut self, life: Life, works: Vec<SnapshotWork>) {
        for work in works {
            match work {
                SnapshotWork::Take { last, configurations } => {
                    self.task(life, Task::Snapshot(last, configurations));
                }
                SnapshotWork::Restore(meta) => self.task(life, Task::Restore(meta)),
                work @ (SnapshotWork::Receive(_)
                | SnapshotWork::Write { .. }
                | SnapshotWork::Finish(_)
                | SnapshotWork::Read { .. }
                | SnapshotWork::RemoveOlder(_)) => {
                    if let Some(process) = self.alive(life) {
                        process.works.push_back(work);
                        if process.works.len() == 1 {
                            self.keep_next(life);
                        }
                    }
                }
            }
        }
    }

    fn keep_next(&mut self, life: Life) {
        if let Some(profile) = self.profile.snapshots {
            let time = self.chance.snapshots.within(profile.work) * self.node(life.node).slowness;
            self.after(time, What::Kept(life));
        }
    }

    /// The keeper has done the first thing that it had to do.
    pub(crate) fn kept(&mut self, life: Life) {
        let Some(profile) = self.profile.snapshots else {
            return;
        };
        let Some(work) = self.alive(life).and_then(|process| process.works.pop_front()) else {
            return;
        };
        if self.alive(life).is_some_and(|process| !process.works.is_empty()) {
            self.keep_next(life);
        }
        let fails = self.breaks() && self.chance.snapshots.chance(profile.fails);
        let news = if fails { failure(&work) } else { None };
        let (done, at) = (number(&work), life.node);
        self.counts.snapshot_failures += u64::from(news.is_some());
        self.note(at, digest(&[50, done, u64::from(news.is_some())]), || words(&work));
        let goes_on = matches!(work, SnapshotWork::Receive(_));
        let Some(process) = self.alive(life) else {
            return;
        };
        let news = news.or_else(|| process.keeper.work(work));
        if let Some(SnapshotNews::Incoming { next: Ok(next), .. }) = &news
            && goes_on
            && *next > 0
        {
            self.counts.resumed += 1;
        }
        if self.dies_keeping(life) {
            return;
        }
        if let Some(news) = news {
            self.hand(life, Happening::Snapshot(news));
        }
    }

    /// The process may die just when something about a snapshot was done, before anybody hears of it.
    fn dies_keeping(&mut self, life: Life) -> bool {
        let dies = self.profile.snapshots.map_or(0, |profile| profile.dies);
        let dies = self.breaks() && self.chance.snapshots.chance(dies);
        if dies {
            self.counts.crashed_keeping += 1;
            let death = self.death();
            self.die(life, death);
        }
        dies
    }

    /// The state machine is asked for a snapshot: what it holds is as of now, and is written beside all else.
    pub(crate) fn snapshot(
        &mut self,
        life: Life,
        last: EntryId,
        configurations: std::sync::Arc<tinyraftplus_core::Configurations>,
    ) -> Verdict {
        let (Some(profile), Some(process)) = (self.profile.snapshots, self.alive(life)) else {
            return Ok(());
        };
        let machine = process.machine;
        self.checks.on_snapshot(life.node, last, &machine)?;
        let id = SnapshotId::new(u128::from(self.chance.snapshots.next()) << 64 | 1);
        let body = body(&machine, profile.chunks);
        let time = self.chance.snapshots.within(profile.take) * self.node(life.node).slowness;
        self.after(time, What::Taken(life, Box::new((id, last, configurations, body))));
        Ok(())
    }

    /// A snapshot is written, all of it at once.
    pub(crate) fn taken(
        &mut self,
        life: Life,
        (id, last, configurations, body): (
            SnapshotId,
            EntryId,
            std::sync::Arc<tinyraftplus_core::Configurations>,
            Bytes,
        ),
    ) {
        let Some(profile) = self.profile.snapshots.filter(|_| self.alive(life).is_some()) else {
            return;
        };
        let at = life.node;
        let fails = self.breaks() && self.chance.snapshots.chance(profile.fails);
        self.note(at, digest(&[51, last.seq.get(), u64::from(fails)]), || {
            format!("has a snapshot up to {last}, failed: {fails}")
        });
        let result = if fails {
            self.counts.snapshot_failures += 1;
            Err("no space".to_owned())
        } else {
            self.create(life, id, last, configurations, &body)
        };
        if !self.dies_keeping(life) {
            self.hand(life, Happening::Snapshot(SnapshotNews::Taken(result)));
        }
    }

    fn create(
        &mut self,
        life: Life,
        id: SnapshotId,
        last: EntryId,
        configurations: std::sync::Arc<tinyraftplus_core::Configurations>,
        body: &[u8],
    ) -> Result<SnapshotMeta, String> {
        let process = self.alive(life).ok_or("its process is gone")?;
        let written = process.keeper.store().create(id, last, Some(configurations), &[]);
        let written = written.and_then(|mut writer| {
            writer.write_all(body)?;
            writer.finish()
        });
        match &written {
            Ok(_) => self.counts.snapshots += 1,
            Err(_) => self.counts.snapshot_failures += 1,
        }
        written.map_err(|error| error.to_string())
    }

    /// The state machine becomes what a snapshot says.
    pub(crate) fn restore(&mut self, life: Life, meta: &SnapshotMeta) -> Verdict {
        let at = life.node;
        let Some(process) = self.alive(life) else {
            return Ok(());
        };
        let mut body = Vec::new();
        let read = process.keeper.store().reader(meta.id).map_err(std::io::Error::other);
        let read = read.and_then(|reader| reader.state().read_to_end(&mut body));
        if read.is_err() && self.is_unreadable(at) {
            // Such a process can't go on.
            let death = self.death();
            self.die(life, death);
            return Ok(());
        }
        let Some(machine) = machine(&body).filter(|_| read.is_ok()) else {
            let what = format!(
                "the snapshot of node {} up to {} is not whole: {read:?}",
                at + 1,
                meta.last
            );
            return Err(Violation::new("a snapshot is whole", what));
        };
        self.note(at, digest(&[52, meta.last.seq.get()]), || {
            format!("is restored to {}", meta.last)
        });
        self.checks.on_restore(at, meta, &machine)?;
        self.counts.restored += 1;
        if let Some(process) = self.alive(life) {
            process.machine = machine;
        }
        let node = self.node(at);
        node.kept = node.keeps_machine.then_some(machine);
        if !self.dies_keeping(life) {
            self.hand(life, Happening::Snapshot(SnapshotNews::Restored));
        }
        Ok(())
    }
}

/// What it says that it could not do.
fn failure(work: &SnapshotWork) -> Option<SnapshotNews> {
    let what = "the disk has failed".to_owned();
    match work {
        SnapshotWork::Receive(meta) => {
            Some(SnapshotNews::Incoming { id: meta.id, next: Err(what) })
        }
        SnapshotWork::Write { id, .. } => Some(SnapshotNews::Incoming { id: *id, next: Err(what) }),
        SnapshotWork::Finish(id) => Some(SnapshotNews::Received { id: *id, result: Err(what) }),
        SnapshotWork::Read { to, id, number } => {
            Some(SnapshotNews::Chunk { to: *to, id: *id, number: *number, result: Err(what) })
        }
        SnapshotWork::Take { .. } | SnapshotWork::Restore(_) | SnapshotWork::RemoveOlder(_) => None,
    }
}

fn words(work: &SnapshotWork) -> String {
    match work {
        SnapshotWork::Take { last, .. } => format!("takes a snapshot up to {last}"),
        SnapshotWork::Restore(meta) => format!("restores a snapshot up to {}", meta.last),
        SnapshotWork::Receive(meta) => {
            format!("receives a snapshot up to {} of {} chunks", meta.last, meta.chunks())
        }
        SnapshotWork::Write { number, .. } => format!("keeps chunk {number}"),
        SnapshotWork::Finish(_) => "completes a snapshot".to_owned(),
        SnapshotWork::Read { to, number, .. } => format!("reads chunk {number} for node {to}"),
        SnapshotWork::RemoveOlder(_) => "removes old snapshots".to_owned(),
    }
}

fn number(work: &SnapshotWork) -> u64 {
    match work {
        SnapshotWork::Take { last, .. } => digest(&[1, last.seq.get()]),
        SnapshotWork::Restore(meta) => digest(&[2, meta.last.seq.get()]),
        SnapshotWork::Receive(meta) => digest(&[3, meta.last.seq.get()]),
        SnapshotWork::Write { number, .. } => digest(&[4, *number]),
        SnapshotWork::Finish(_) => 5,
        SnapshotWork::Read { number, .. } => digest(&[6, *number]),
        SnapshotWork::RemoveOlder(_) => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tinyraftplus_core::Seq;

    #[test]
    fn a_snapshot_of_parts_is_noticed() {
        let (mut first, mut second) = (Machine::new(Seq::ZERO), Machine::new(Seq::ZERO));
        first.take(Seq::ZERO, b"a");
        second.take(Seq::ZERO, b"b");
        (first.hash, second.hash) = (3, 3 + 10 * 7);
        let (a, b) = (body(&first, 10), body(&second, 10));
        assert_eq!((machine(&a), machine(&b)), (Some(first), Some(second)));
        assert_eq!(machine(&a[..2048]), None);
        assert_eq!(machine(&[&a[..2048], &b[2048..]].concat()), None);
        assert_eq!(machine(b""), None);
    }
}
