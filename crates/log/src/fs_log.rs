//! A log in one file of a directory.
//!
//! One stream carries everything: entries, term and vote, configuration, trims. A group of writes is one
//! write to the disk and one sync. See `docs/format.md` for the bytes and for what they survive.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use tinyraftplus_core::{EntryId, HardState, Identity, Restored, Seq};

use crate::{
    Disk, DiskFile, Log, LogError, LogOptions, LogRead, LogStats, Open, OsDisk, Recovery, Write,
    drops::Drops,
    encode::{Effect, Group, GroupEncoder, Place},
    format::{ENTRY_OVERHEAD_MAX, Tail, flags},
    num::u64_of,
    open::{Opened, open},
    read::{FileReader, Shared, change, look},
    space::{Need, Space},
    state::{Limits, State},
};

/// A buffer that grew beyond this is not kept.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// A log in one file of a directory.
pub struct FsLog<D: Disk = OsDisk> {
    file: Arc<D::File>,
    path: PathBuf,
    /// `None` once closed.
    lock: Option<D::Lock>,
    poisoned: bool,
    limits: Limits,
    state: State,
    tag: u64,
    group_bytes_max: u64,
    opening: u64,
    position: u64,
    prev: u64,
    /// Where a mark is that no sync has covered yet.
    mark: Option<u64>,
    /// Nothing was written since the last mark.
    marked: bool,
    space: Space,
    syncs: u64,
    buffer: Vec<u8>,
    shared: Arc<RwLock<Shared>>,
}

impl FsLog {
    /// Opens the log of this name in a directory; creates what is missing.
    ///
    /// # Errors
    ///
    /// [`LogError::Locked`] if it is open elsewhere, [`LogError::Corrupt`] if acknowledged bytes are damaged.
    pub fn open(
        dir: impl AsRef<Path>,
        name: &str,
        options: LogOptions,
    ) -> Result<(Self, Recovery), LogError> {
        let dir = dir.as_ref();
        let disk = OsDisk::create(dir).map_err(|source| LogError::Io {
            op: "create",
            path: dir.to_owned(),
            source,
        })?;
        Self::open_on(&disk, name, options)
    }

    /// Deletes the log of this name, if there is one. Nothing else in the directory is touched.
    ///
    /// # Errors
    ///
    /// [`LogError::Locked`] if it is open.
    pub fn destroy(dir: impl AsRef<Path>, name: &str) -> Result<(), LogError> {
        check_name(name)?;
        OsDisk::existing(dir.as_ref()).map_or(Ok(()), |disk| Self::destroy_on(&disk, name))
    }
}

impl<D: Disk> FsLog<D> {
    /// Opens the log of this name on a disk; creates what is missing.
    ///
    /// # Errors
    ///
    /// [`LogError::Locked`] if it is open elsewhere, [`LogError::Corrupt`] if acknowledged bytes are damaged.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a log's options are used once, and go with the call"
    )]
    pub fn open_on(
        disk: &D,
        name: &str,
        options: LogOptions,
    ) -> Result<(Self, Recovery), LogError> {
        options.check()?;
        check_name(name)?;
        let lock = lock(disk, name)?;
        let file_name = file_name(name);
        let path = disk.path(&file_name);
        let file = disk.open(&file_name, Open::Create).map_err(|source| LogError::Io {
            op: "open",
            path: path.clone(),
            source,
        })?;
        // Links give a file two names, and each name has a lock of its own.
        file.lock().map_err(|source| lock_failed(path.clone(), source))?;
        let opened = open(disk, &file, &path, &options).map_err(without_effect)?;
        let Opened { segment, state, index, position, prev, opening, marked, space, recovery } =
            opened;
        let bounds = state.terms.start()..state.terms.end();
        let log = Self {
            file: Arc::new(file),
            path,
            lock: Some(lock),
            poisoned: false,
            limits: Limits::of(&options),
            state,
            tag: segment.tag(),
            group_bytes_max: segment.group_bytes_max,
            opening,
            position,
            prev,
            mark: None,
            marked,
            space,
            syncs: 0,
            buffer: Vec::new(),
            shared: Arc::new(RwLock::new(Shared {
                bounds,
                index,
                drops: Drops::default(),
                closed: false,
            })),
        };
        Ok((log, recovery))
    }

    /// Deletes the log of this name from a disk, if there is one.
    ///
    /// # Errors
    ///
    /// [`LogError::Locked`] if it is open.
    pub fn destroy_on(disk: &D, name: &str) -> Result<(), LogError> {
        check_name(name)?;
        // The lock's file stays: whoever waits for it would otherwise lock one that nobody else sees.
        let _lock = lock(disk, name)?;
        let file_name = file_name(name);
        let failed = |op, source| LogError::Io { op, path: disk.path(&file_name), source };
        match disk.remove(&file_name) {
            Ok(()) => disk.sync_dir().map_err(|source| failed("sync the directory of", source)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(failed("remove", source)),
        }
    }

    fn usable(&self) -> Result<(), LogError> {
        if self.lock.is_none() {
            Err(LogError::Closed)
        } else if self.poisoned {
            Err(LogError::Poisoned)
        } else {
            Ok(())
        }
    }

    /// Where the next group goes, if the term and vote are these from then on.
    fn place(&self, hard: HardState) -> Place {
        Place {
            tag: self.tag,
            opening: self.opening,
            position: self.position,
            prev: self.prev,
            begin: self.mark.unwrap_or(self.position),
            before: Tail::of(self.state.terms.end(), self.state.terms.last()),
            hard,
        }
    }

    fn check_group(&self, bytes: u64) -> Result<(), LogError> {
        let limit = self.group_bytes_max;
        if bytes > limit {
            Err(LogError::TooLarge { what: "a group", bytes, limit })
        } else {
            Ok(())
        }
    }

    /// Judges a group, encodes it into the buffer, and applies it to the state. `None` if it changes nothing.
    ///
    /// After an error, the caller takes back what there is of it in the state.
    fn encode(&mut self, group: &[Write]) -> Result<Option<(Group, Need)>, LogError> {
        let entries = group.iter().flat_map(|write| &write.append);
        self.check_group(
            entries.fold(0, |sum, entry| sum + u64_of(entry.payload.len()) + ENTRY_OVERHEAD_MAX),
        )?;
        let hard = group.iter().rev().find_map(|write| write.hard_state).unwrap_or(self.state.hard);
        let place = self.place(hard);
        let hard_changed = hard != self.state.hard;
        let mut encoder = GroupEncoder::new(&mut self.buffer, place);
        let (mut changed, mut need) = (hard_changed, Need::Urgent);
        for write in group {
            if write.compact.is_some() {
                return Err(LogError::OneFile(self.path.clone()));
            }
            let change = self.state.write(write, self.limits)?;
            if !change.is_empty() {
                encoder.push(write, change)?;
                changed = true;
                if change.append {
                    need = Need::Entries;
                }
            }
        }
        if !changed {
            return Ok(None);
        }
        let group = encoder.finish(hard_changed);
        self.check_group(group.end - place.begin)?;
        Ok(Some((group, need)))
    }

    /// Makes a group durable. What it did to the state counts only if this succeeds.
    fn write_group(&mut self, group: &[Write]) -> Result<Option<Group>, LogError> {
        let Some((group, need)) = self.encode(group)? else { return Ok(None) };
        self.ensure_space(group.end, need)?;
        if let Err(source) = self.file.write_durable_at(self.position, &self.buffer) {
            return Err(self.poison("write", source));
        }
        self.syncs += 1;
        Ok(Some(group))
    }

    /// Remembers that nobody knows what is on the disk.
    fn poison(&mut self, op: &'static str, source: io::Error) -> LogError {
        self.poisoned = true;
        LogError::WriteFailed { op, path: self.path.clone(), source }
    }

    fn ensure_space(&mut self, end: u64, need: Need) -> Result<(), LogError> {
        let result = self.space.ensure(&*self.file, &self.path, end, need);
        self.poisoned |= matches!(result, Err(LogError::WriteFailed { .. }));
        self.syncs += u64::from(result?);
        Ok(())
    }

    /// Tells the readers.
    fn publish(&self, effects: &[Effect]) {
        let mut shared = change(&self.shared);
        for effect in effects {
            shared.index.apply(effect);
            if let Some(end) = effect.reset.map(|_| Seq::ZERO).or(effect.trim) {
                shared.drops.note(end);
            }
        }
        shared.bounds = self.state.terms.start()..self.state.terms.end();
    }

    /// Writes a mark, and syncs it or not.
    fn put_mark(&mut self, durable: bool) -> Result<(), LogError> {
        let frame = self.place(self.state.hard).bare(flags::MARK | flags::END);
        self.ensure_space(frame.next_position(), Need::Urgent)?;
        let (bytes, sum) = frame.encode(self.tag);
        let written = if durable {
            self.file.write_durable_at(frame.position, &bytes)
        } else {
            self.file.write_at(frame.position, &bytes)
        };
        if let Err(source) = written {
            return Err(self.poison("write", source));
        }
        self.syncs += u64::from(durable);
        self.mark = (!durable).then_some(frame.position);
        self.marked = true;
        (self.position, self.prev) = (frame.next_position(), sum);
        Ok(())
    }
}

impl<D: Disk> Log for FsLog<D> {
    fn identity(&self) -> Identity {
        self.state.identity
    }

    fn restored(&self) -> Restored {
        self.state.restored()
    }

    fn write(&mut self, group: &[Write]) -> Result<(), LogError> {
        self.usable()?;
        let undo = self.state.undo(group);
        let written = self.write_group(group);
        if written.is_err() {
            self.state.take_back(undo);
        }
        if let Some(group) = written? {
            (self.position, self.prev) = (group.end, group.prev);
            (self.mark, self.marked) = (None, false);
            self.publish(&group.effects);
        }
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn LogRead> {
        Arc::new(FileReader {
            file: Arc::clone(&self.file),
            path: self.path.clone(),
            tag: self.tag,
            group_bytes_max: self.group_bytes_max,
            shared: Arc::clone(&self.shared),
        })
    }

    fn bounds(&self) -> Range<Seq> {
        self.state.terms.start()..self.state.terms.end()
    }

    fn hard_state(&self) -> HardState {
        self.state.hard
    }

    fn last(&self) -> Option<EntryId> {
        self.state.terms.last()
    }

    fn group_bytes_max(&self) -> u64 {
        // Frames cost up to 255 bytes each, beside what callers reckon with, and any two neighbours hold more
        // than 256 KiB together.
        self.group_bytes_max - self.group_bytes_max / 256
    }

    fn batch_bytes_max(&self) -> u64 {
        self.limits.batch_bytes
    }

    fn entry_bytes_max(&self) -> u64 {
        self.limits.entry_bytes
    }

    fn stats(&self) -> LogStats {
        let Range { start, end } = Log::bounds(self);
        LogStats {
            entries: end.since(start),
            bytes: self.space.bytes,
            segments: 1,
            end,
            syncs: self.syncs,
            index_bytes: look(&self.shared).index.bytes(),
        }
    }

    fn mark(&mut self) -> Result<(), LogError> {
        self.usable()?;
        match if self.marked { Ok(()) } else { self.put_mark(false) } {
            // A mark is a help, and not needed. It is tried again when idle again.
            Err(LogError::NoSpace { .. }) => Ok(()),
            marked => marked,
        }
    }

    fn close(&mut self) -> Result<(), LogError> {
        if self.lock.is_none() {
            return Ok(());
        }
        let marked = if self.poisoned || self.marked && self.mark.is_none() {
            Ok(())
        } else if let Some(position) = self.mark.take() {
            debug_assert!(position < self.position, "a mark lies before what comes next");
            self.file.sync_data().map_err(|source| self.poison("sync", source))
        } else {
            self.put_mark(true)
        };
        change(&self.shared).closed = true;
        self.file.unlock();
        self.lock = None;
        match marked {
            // The mark is a help to the next opening, and not needed.
            Err(LogError::NoSpace { .. }) => Ok(()),
            marked => marked,
        }
    }
}

impl<D: Disk> Drop for FsLog<D> {
    /// Readers can't outlive the lock: somebody else may destroy the log then.
    fn drop(&mut self) {
        change(&self.shared).closed = true;
        self.file.unlock();
    }
}

/// Whatever fails while a log is opened, nothing that anybody was told of is in doubt.
fn without_effect(error: LogError) -> LogError {
    if let LogError::WriteFailed { op, path, source } = error {
        LogError::Io { op, path, source }
    } else {
        error
    }
}

fn lock<D: Disk>(disk: &D, name: &str) -> Result<D::Lock, LogError> {
    let lock_name = format!("{name}.lock");
    disk.lock(&lock_name).map_err(|source| lock_failed(disk.path(&lock_name), source))
}

fn lock_failed(path: PathBuf, source: io::Error) -> LogError {
    if source.kind() == io::ErrorKind::WouldBlock {
        LogError::Locked(path)
    } else {
        LogError::Io { op: "lock", path, source }
    }
}

/// Names of logs can't be mistaken for each other, whatever they are: no name's files end like another's.
pub(crate) fn file_name(name: &str) -> String {
    format!("{name}.log")
}

pub(crate) fn check_name(name: &str) -> Result<(), LogError> {
    let sound = !name.is_empty()
        && name.len() <= 128
        && !name.starts_with('.')
        && !name.chars().any(|c| c == '/' || c == '\\' || c.is_control());
    if sound { Ok(()) } else { Err(LogError::BadName(name.to_owned())) }
}
