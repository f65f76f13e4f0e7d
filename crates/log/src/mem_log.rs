//! A log in memory: the same interface, and nothing is left after a restart.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use tinyraftplus_core::{EntryId, HardState, Identity, Restored, Seq, Term};

use crate::{
    Log, LogEntry, LogError, LogOptions, LogRead, LogStats, Reset, SnapshotStore, Write,
    drops::Drops,
    engine::{Collect, Names, check_range},
    num::{u64_of, usize_of},
    sim_disk::SimDisk,
    state::{Limits, State},
};

/// A log in memory.
#[derive(Debug)]
pub struct MemLog {
    state: State,
    limits: Limits,
    writes: u64,
    shared: Arc<RwLock<Entries>>,
    /// On a disk in memory.
    snapshots: SnapshotStore,
}

/// What the readers see.
#[derive(Debug)]
struct Entries {
    start: Seq,
    list: VecDeque<LogEntry>,
    drops: Drops,
    bytes: u64,
    closed: bool,
}

impl MemLog {
    /// An empty log.
    ///
    /// # Errors
    ///
    /// If the options do not fit each other, or the system has no randomness.
    #[expect(clippy::needless_pass_by_value, reason = "as for the other kinds of log")]
    pub fn new(options: LogOptions) -> Result<Self, LogError> {
        options.check()?;
        let identity = crate::engine::new_identity(options.seed).map_err(|source| {
            LogError::Io { op: "draw an identity for", path: "a log in memory".into(), source }
        })?;
        let start = options.first_seq;
        let snapshots = SnapshotStore::open(
            &SimDisk::new(),
            &Names::new("memory", false)?,
            identity,
            &options.encoder,
            options.snapshot_chunk_bytes,
        )?;
        Ok(Self {
            snapshots,
            state: State::new(identity, HardState::default(), start, Term::ZERO),
            limits: Limits::of(&options),
            writes: 0,
            shared: Arc::new(RwLock::new(Entries {
                start,
                list: VecDeque::new(),
                drops: Drops::default(),
                bytes: 0,
                closed: false,
            })),
        })
    }

    fn look(&self) -> RwLockReadGuard<'_, Entries> {
        look(&self.shared)
    }

    fn change(&self) -> RwLockWriteGuard<'_, Entries> {
        self.shared.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look(shared: &RwLock<Entries>) -> RwLockReadGuard<'_, Entries> {
    shared.read().unwrap_or_else(PoisonError::into_inner)
}

impl Entries {
    fn bounds(&self) -> Range<Seq> {
        self.start..self.start.checked_add(u64_of(self.list.len())).unwrap_or(Seq::MAX)
    }

    fn compact(&mut self, start: Seq) {
        let gone = usize_of(start.since(self.start)).min(self.list.len());
        self.bytes -= self.list.drain(..gone).map(|entry| u64_of(entry.payload.len())).sum::<u64>();
        self.start = start;
    }

    /// Nothing in memory is ever damaged; a repair is taken all the same.
    fn repair(&mut self, entries: &[LogEntry]) {
        for entry in entries {
            let at = usize_of(entry.id.seq.since(self.start));
            if let Some(place) = self.list.get_mut(at) {
                self.bytes += u64_of(entry.payload.len());
                self.bytes -= u64_of(place.payload.len());
                place.clone_from(entry);
            }
        }
    }

    fn trim(&mut self, end: Seq) {
        let keep = usize_of(end.since(self.start));
        self.bytes -= self
            .list
            .range(keep.min(self.list.len())..)
            .map(|entry| u64_of(entry.payload.len()))
            .sum::<u64>();
        self.list.truncate(keep);
    }
}

impl Log for MemLog {
    fn identity(&self) -> Identity {
        self.state.identity
    }

    fn restored(&self) -> Restored {
        self.state.restored()
    }

    fn write(&mut self, group: &[Write]) -> Result<(), LogError> {
        if self.look().closed {
            return Err(LogError::Closed);
        }
        let undo = self.state.undo(group);
        let judged: Result<Vec<_>, _> =
            group.iter().map(|write| self.state.write(write, self.limits)).collect();
        if judged.is_err() {
            self.state.take_back(undo);
        }
        let changes = judged?;
        let mut entries = self.change();
        for (write, change) in group.iter().zip(changes) {
            if let Some(reset) = change.reset {
                (entries.start, entries.bytes) = (reset.start, 0);
                entries.list.clear();
                entries.drops.note(Seq::ZERO);
            }
            if let Some(end) = change.trim {
                entries.trim(end);
                entries.drops.note(end);
            }
            if let Some(Reset { start, .. }) = change.compact {
                entries.compact(start);
            }
            entries.repair(&write.repair);
            entries.bytes +=
                write.append.iter().map(|entry| u64_of(entry.payload.len())).sum::<u64>();
            entries.list.extend(write.append.iter().cloned());
        }
        drop(entries);
        self.writes += 1;
        Ok(())
    }

    fn reader(&self) -> Arc<dyn LogRead> {
        Arc::new(MemReader { shared: Arc::clone(&self.shared) })
    }

    fn bounds(&self) -> Range<Seq> {
        self.look().bounds()
    }

    fn hard_state(&self) -> HardState {
        self.state.hard
    }

    fn last(&self) -> Option<EntryId> {
        self.state.terms.last()
    }

    fn is_instant(&self) -> bool {
        true
    }

    fn batch_bytes_max(&self) -> u64 {
        self.limits.batch_bytes
    }

    fn entry_bytes_max(&self) -> u64 {
        self.limits.entry_bytes
    }

    fn stats(&self) -> LogStats {
        let entries = self.look();
        LogStats {
            entries: u64_of(entries.list.len()),
            bytes: entries.bytes,
            segments: 0,
            end: entries.bounds().end,
            syncs: self.writes,
            index_bytes: 0,
        }
    }

    fn snapshots(&self) -> Result<SnapshotStore, LogError> {
        if self.look().closed { Err(LogError::Closed) } else { Ok(self.snapshots.clone()) }
    }

    fn close(&mut self) -> Result<(), LogError> {
        self.snapshots.close();
        self.change().closed = true;
        Ok(())
    }
}

struct MemReader {
    shared: Arc<RwLock<Entries>>,
}

impl LogRead for MemReader {
    fn read(&self, start: Seq, end: Seq, bytes_max: u64) -> Result<Vec<LogEntry>, LogError> {
        let entries = look(&self.shared);
        if entries.closed {
            return Err(LogError::Closed);
        }
        if start >= end {
            return Ok(Vec::new());
        }
        check_range(&entries.bounds(), start, end)?;
        let mut collect = Collect::new(bytes_max, 0);
        for entry in entries
            .list
            .range(usize_of(start.since(entries.start))..usize_of(end.since(entries.start)))
        {
            if !collect.take(entry.clone()) {
                break;
            }
        }
        Ok(collect.entries)
    }

    fn bounds(&self) -> Range<Seq> {
        look(&self.shared).bounds()
    }

    fn drops(&self) -> u64 {
        look(&self.shared).drops.count()
    }

    fn kept_since(&self, drops: u64) -> Seq {
        look(&self.shared).drops.kept_since(drops)
    }
}
