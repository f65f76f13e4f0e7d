//! The writer of a log on a disk: one stream of groups, in one file or in many.
//!
//! One stream carries everything: entries, term and vote, configuration, trims, new starts. A group of writes
//! is one write to the disk that is durable when it returns. See `docs/format.md` for the bytes and for what
//! they survive.

mod buffer;
mod damage;
mod effect;
mod group;
mod index;
mod names;
mod open;
mod open_files;
mod parts;
mod patches;
mod read;
mod recover;
mod settle;
mod space;
mod upkeep;
mod window;

use std::{
    io,
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use tinyraftplus_core::{EntryId, HardState, Identity, Restored, Seq};

use self::{
    buffer::Buffer,
    group::{Group, GroupEncoder, Place},
    open::{Opened, Opening},
    open_files::OpenFiles,
    read::{FileReader, Shared, change, look},
    space::{Need, Plan, Space},
    upkeep::{Sealing, Upkeep},
};
pub(crate) use self::{
    effect::{Effect, Patch},
    group::after_group,
    index::{Extent, Index},
    names::{Names, destroy},
    open::{Target, check_encoder, new_identity},
    patches::{Patches, Place as Repair},
    read::{Collect, check_range},
    recover::{Scan, effect_of},
    upkeep::without_effect,
    window::Window,
};
use crate::{
    Disk, DiskFile, Encoder, LogEntry, LogError, LogOptions, LogRead, LogStats, Recovery, Reset,
    SnapshotStore, Unknown, Write,
    drops::Drops,
    format::{ENTRY_OVERHEAD_MAX, Frame, Last, Segment, Summary, Tail, configuration_bytes, flags},
    num::{round_up, u64_of},
    state::{Limits, State},
};

/// What a write takes at most beside its entries: records, headers, padding.
const WRITE_OVERHEAD_MAX: u64 = 1024;

/// The writer.
pub(crate) struct Engine<D: Disk> {
    disk: D,
    names: Names,
    encoder: Arc<dyn Encoder>,
    /// `None` once closed.
    lock: Option<D::Lock>,
    poisoned: bool,
    limits: Limits,
    segment_bytes_max: u64,
    plan: Plan,
    state: State,
    /// The newest file: its header, its handle, its space, what its frames do together.
    segment: Segment,
    file: Arc<D::File>,
    path: PathBuf,
    space: Arc<Space>,
    effect: Effect,
    /// It has damage that was passed over, so it gets no seal: each opening is to see it.
    damaged: bool,
    opening: u64,
    position: u64,
    prev: u64,
    /// A mark that no sync has covered yet.
    mark: Option<Frame>,
    /// Nothing was written since the last mark.
    marked: bool,
    syncs: u64,
    buffer: Buffer,
    shared: Arc<RwLock<Shared>>,
    open_files: Arc<OpenFiles<D>>,
    upkeep: Upkeep<D>,
    snapshot_chunk_bytes: u32,
    /// Looked for when they are first asked for.
    snapshots: Mutex<Option<SnapshotStore>>,
}

impl<D: Disk> Engine<D> {
    /// Opens the log of this name on a disk, in one file or in many; creates what is missing.
    pub(crate) fn open(
        disk: &D,
        name: &str,
        many: bool,
        options: LogOptions,
    ) -> Result<(Self, Recovery), LogError> {
        options.check()?;
        let names = Names::new(name, many)?;
        let lock = names::lock(disk, &names)?;
        let segment_bytes_max = if many { options.segment_bytes_max } else { u64::MAX };
        let plan = Plan {
            step: options.space_bytes,
            reserve: options.reserve_bytes,
            enough: segment_bytes_max,
            block: u64::from(options.block_bytes),
        };
        let opening = Opening { disk, names: &names, options: &options, plan };
        let opened = opening.run().map_err(without_effect)?;
        let Opened { unsealed, void, recovery, .. } = opened;
        let limits = Limits::of(&options);
        let encoder = options.encoder;
        let upkeep = Upkeep::new(disk.clone(), names.clone(), plan, Arc::clone(&encoder));
        let bounds = opened.state.terms.start()..opened.state.terms.end();
        let drops = Drops::default();
        let (parts, index) = (opened.parts, opened.index);
        let mut log = Self {
            disk: disk.clone(),
            encoder: Arc::clone(&encoder),
            lock: Some(lock),
            poisoned: false,
            limits,
            segment_bytes_max,
            plan,
            state: opened.state,
            segment: opened.segment,
            space: opened.space,
            effect: opened.effect,
            damaged: opened.damaged,
            opening: opened.opening,
            position: opened.position,
            prev: opened.prev,
            mark: None,
            marked: opened.marked,
            syncs: 0,
            buffer: Buffer::default(),
            shared: Arc::new(RwLock::new(Shared {
                bounds,
                parts,
                index,
                patches: opened.patches,
                end: opened.position,
                drops,
                closed: false,
            })),
            open_files: Arc::new(OpenFiles::new(
                disk.clone(),
                names.clone(),
                encoder,
                options.damaged,
                (opened.segment.number, Arc::clone(&opened.file)),
            )),
            file: opened.file,
            path: opened.path,
            names,
            upkeep,
            snapshot_chunk_bytes: options.snapshot_chunk_bytes,
            snapshots: Mutex::default(),
        };
        for sealing in unsealed {
            log.upkeep.seal(sealing);
        }
        log.upkeep.retire(void.into_iter().map(|number| (number, None)).collect());
        Ok((log, recovery))
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
            unknown: self.state.unknown,
            stamp: self.segment.stamp(),
            opening: self.opening,
            position: self.position,
            prev: self.prev,
            begin: self.mark.as_ref().map_or(self.position, |mark| mark.position),
            before: Tail::of(self.state.terms.end(), self.state.terms.last()),
            hard,
        }
    }

    const fn offset(&self, position: u64) -> u64 {
        position - self.segment.position
    }

    /// The most that a group of writes can take on disk.
    fn estimate(&self, group: &[Write]) -> u64 {
        let sum = |sum, entry: &LogEntry| sum + u64_of(entry.payload.len()) + ENTRY_OVERHEAD_MAX;
        let bytes = group.iter().flat_map(|write| &write.append).fold(0, sum);
        let bytes = group.iter().flat_map(|write| &write.repair).fold(bytes, sum);
        let members = group.iter().filter_map(|write| write.configuration.as_deref());
        let members = members.fold(0, |sum, it| sum + configuration_bytes(it));
        // Frames cost up to 255 bytes each, and any two neighbours hold more than 256 KiB together.
        let bytes = bytes + members + u64_of(group.len()) * WRITE_OVERHEAD_MAX;
        self.encoder.encoded_bytes_max(bytes + bytes / 256) + self.slack()
    }

    /// What a group takes beside its frames: a copy in another block, the rest of the last block, a mark.
    const fn slack(&self) -> u64 {
        2 * self.segment.block + 512
    }

    fn check_group(&self, bytes: u64) -> Result<(), LogError> {
        let limit = self.segment.group_bytes_max.min(self.segment_bytes_max);
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
        let hard = group.iter().rev().find_map(|write| write.hard_state).unwrap_or(self.state.hard);
        let mut place = self.place(hard);
        if place.unknown != Unknown::NOTHING && group.iter().any(|write| write.known) {
            place.unknown = Unknown::NOTHING;
        }
        let hard_changed = hard != self.state.hard;
        if let Some(mark) = &self.mark {
            // Nothing else makes the mark durable, and without it the group does not follow on: the power could
            // fail, take the mark and leave the group, and opening would cut what was acknowledged.
            self.buffer.bytes().extend(mark.encode(place.stamp).0);
        }
        let mut encoder = GroupEncoder::new(self.buffer.bytes(), &*self.encoder, place);
        let (mut changed, mut need) = (hard_changed, Need::Urgent);
        for write in group {
            if write.compact.is_some() && self.names.is_one() {
                return Err(LogError::OneFile(self.path.clone()));
            }
            let change = self.state.write(write, self.limits)?;
            if !change.is_empty() {
                encoder.push(write, change)?;
                changed = true;
                if change.append || change.repair {
                    need = Need::Entries;
                }
            }
        }
        if !changed {
            return Ok(None);
        }
        let group = encoder.finish(hard_changed)?;
        // Nobody reads a body that would be larger than a group once decoded.
        self.check_group((group.end - place.begin).max(group.plain_bytes_max))?;
        Ok(Some((group, need)))
    }

    /// Makes a group durable. What it did to the state counts only if this succeeds.
    fn write_group(&mut self, group: &[Write], bytes_max: u64) -> Result<Option<Group>, LogError> {
        let at = self.offset(self.mark.as_ref().map_or(self.position, |mark| mark.position));
        self.buffer.begin(&*self.file, at, bytes_max);
        let Some((group, need)) = self.encode(group)? else { return Ok(None) };
        self.take_space(group.end, need)?;
        let end = self.offset(group.end);
        let written = match self.buffer.blocks(&*self.file, at, self.space.bytes() - end) {
            Some((at, blocks)) => {
                let _around = self.space.around_the_cache(at + u64_of(blocks.len()));
                self.file.write_blocks_at(at, blocks)
            }
            None => self.file.write_durable_at(at, self.buffer.group()),
        };
        if let Err(source) = written {
            return Err(self.poison("write", source));
        }
        self.syncs += 1;
        if self.space.wants_zeros(end - at) {
            self.upkeep.zero(self.segment.number, &self.space);
        }
        Ok(Some(group))
    }

    /// Remembers that nobody knows what is on the disk.
    fn poison(&mut self, op: &'static str, source: io::Error) -> LogError {
        self.poisoned = true;
        LogError::WriteFailed { op, path: self.path.clone(), source }
    }

    fn take_space(&mut self, end: u64, need: Need) -> Result<(), LogError> {
        let result = self.space.take(&*self.file, &self.path, self.offset(end), need);
        self.poisoned |= matches!(result, Err(LogError::WriteFailed { .. }));
        self.syncs += result?;
        Ok(())
    }

    /// Tells the readers, and gives back files that hold nothing any more.
    fn publish(&mut self, effects: &[Effect]) {
        let mut shared = change(&self.shared);
        let mut dropped = false;
        for effect in effects {
            shared.index.apply(effect);
            shared.parts.apply(effect);
            if !shared.patches.is_empty() || !effect.patches.is_empty() {
                shared.patches.apply(effect, self.segment.number);
            }
            self.effect.then(effect);
            if let Some(end) = effect.reset.map(|_| Seq::ZERO).or(effect.trim) {
                shared.drops.note(end);
            }
            dropped |= effect.reset.is_some() || effect.compact.is_some();
        }
        let start = self.state.terms.start();
        shared.bounds = start..self.state.terms.end();
        shared.end = self.position;
        let void = if dropped { shared.parts.take_void(start) } else { Vec::new() };
        drop(shared);
        let retire =
            void.iter().map(|part| (part.number, self.open_files.forget(part.number))).collect();
        self.upkeep.retire(retire);
    }

    /// Begins the next file if a group of so many bytes does not fit into this one.
    fn make_room(&mut self, bytes: u64) -> Result<(), LogError> {
        let fits = self.offset(self.position).saturating_add(bytes) <= self.segment_bytes_max;
        if fits || self.position == self.segment.frames() {
            return Ok(());
        }
        // The next file's header says that everything before it is durable, and where it ends.
        if let Some(mark) = self.mark.take() {
            let (bytes, _) = mark.encode(self.segment.stamp());
            if let Err(source) = self.file.write_durable_at(self.offset(mark.position), &bytes) {
                return Err(self.poison("write", source));
            }
            self.syncs += 1;
        }
        let number = self.segment.number + 1;
        let prepared = self.upkeep.next_file(number);
        self.poisoned |= matches!(prepared, Err(LogError::WriteFailed { .. }));
        let prepared = prepared?;
        let last = Last { end: self.position, sum: self.prev };
        let mut segment = Segment {
            number,
            position: round_up(last.end, Segment::BYTES),
            last,
            hard: self.state.hard,
            start: Reset {
                start: self.state.terms.start(),
                before: self.state.last_before_start(),
            },
            tail: Tail::of(self.state.terms.end(), self.state.terms.last()),
            ..self.segment
        };
        let header = segment.encode(self.state.configuration.as_deref())?;
        let space = Space::new(self.plan, prepared.bytes, segment.header_bytes(), prepared.zeroed);
        space.take(&*prepared.file, &self.path, segment.header_bytes(), Need::Urgent)?;
        if let Err(source) = prepared.file.write_durable_at(0, &header) {
            return Err(self.poison("begin the file after", source));
        }
        self.syncs += 1;
        self.rotate(segment, prepared.file, space);
        Ok(())
    }

    fn rotate(&mut self, segment: Segment, file: Arc<D::File>, space: Space) {
        let place = Place { begin: self.position, ..self.place(self.state.hard) };
        let tail = segment.tail;
        let base = self.segment.position;
        let index = {
            let mut shared = change(&self.shared);
            shared.parts.begin(&segment, self.space.bytes());
            shared.end = segment.frames();
            std::mem::take(&mut shared.index)
        };
        let extents = index.extents().to_vec();
        self.open_files.rotated(index, (segment.number, Arc::clone(&file)));
        let effect = std::mem::replace(&mut self.effect, Effect::none(segment.frames(), tail.end));
        let sealing = Sealing {
            file: std::mem::replace(&mut self.file, file),
            space: std::mem::replace(&mut self.space, Arc::new(space)),
            number: self.segment.number,
            base,
            place,
            summary: Summary { effect, extents },
        };
        self.path = self.disk.path(&self.names.file(segment.number));
        (self.position, self.prev) = (segment.frames(), segment.last.sum);
        self.marked = false;
        self.buffer.forget();
        self.segment = segment;
        let damaged = std::mem::take(&mut self.damaged);
        self.upkeep.rotated((!damaged).then_some(sealing), segment.number + 1);
    }

    /// Writes a mark, and syncs it or not.
    fn put_mark(&mut self, durable: bool) -> Result<(), LogError> {
        let stamp = self.segment.stamp();
        let frame = self.place(self.state.hard).bare(flags::MARK | flags::END);
        let next = frame.next_position(stamp);
        self.take_space(next, Need::Urgent)?;
        let (bytes, sum) = frame.encode(stamp);
        let at = self.offset(frame.position);
        let written = if durable {
            self.file.write_durable_at(at, &bytes)
        } else {
            self.file.write_at(at, &bytes)
        };
        if let Err(source) = written {
            return Err(self.poison("write", source));
        }
        self.syncs += u64::from(durable);
        self.mark = (!durable).then_some(frame);
        self.marked = true;
        (self.position, self.prev) = (next, sum);
        Ok(())
    }

    /// Waits until all work in the background is done.
    pub(crate) fn finish_upkeep(&self) {
        self.upkeep.finish();
    }

    pub(crate) const fn batch_bytes_max(&self) -> u64 {
        self.limits.batch_bytes
    }

    pub(crate) const fn entry_bytes_max(&self) -> u64 {
        self.limits.entry_bytes
    }

    pub(crate) fn identity(&self) -> Identity {
        self.state.identity
    }

    pub(crate) const fn unknown(&self) -> Unknown {
        self.state.unknown
    }

    pub(crate) fn restored(&self) -> Restored {
        self.state.restored()
    }

    pub(crate) fn write(&mut self, group: &[Write]) -> Result<(), LogError> {
        self.usable()?;
        let estimate = self.estimate(group);
        if self.segment_bytes_max < u64::MAX {
            self.check_group(estimate + self.segment.header_bytes())?;
            match self.make_room(estimate) {
                // The reserve is behind the newest file's frames: what a full disk must not stop goes there, and
                // the file gets a little longer than it should. A compaction may be what frees the next.
                Err(LogError::NoSpace { .. })
                    if group.iter().all(|it| it.append.is_empty() && it.repair.is_empty()) => {}
                made => made?,
            }
        }
        let undo = self.state.undo(group);
        let written = self.write_group(group, estimate);
        if written.is_err() {
            self.state.take_back(undo);
        }
        if let Some(group) = written? {
            (self.position, self.prev) = (group.end, group.prev);
            (self.mark, self.marked) = (None, false);
            self.publish(&group.effects);
        }
        self.buffer.shrink();
        Ok(())
    }

    pub(crate) fn reader(&self) -> Arc<dyn LogRead> {
        Arc::new(FileReader::new(
            Arc::clone(&self.shared),
            Arc::clone(&self.open_files),
            self.segment.group_bytes_max,
        ))
    }

    pub(crate) fn bounds(&self) -> Range<Seq> {
        self.state.terms.start()..self.state.terms.end()
    }

    pub(crate) fn hard_state(&self) -> HardState {
        self.state.hard
    }

    pub(crate) fn last(&self) -> Option<EntryId> {
        self.state.terms.last()
    }

    pub(crate) fn group_bytes_max(&self) -> u64 {
        // What callers reckon with covers a frame's overhead only for small entries.
        let limit = self.segment.group_bytes_max.min(self.segment_bytes_max);
        limit.saturating_sub(limit / 128 + self.segment.header_bytes() + self.slack())
    }

    pub(crate) fn stats(&self) -> LogStats {
        let Range { start, end } = self.bounds();
        let shared = look(&self.shared);
        LogStats {
            entries: end.since(start),
            bytes: self.space.bytes() + shared.parts.full_bytes(),
            segments: u64_of(shared.parts.len()),
            end,
            syncs: self.syncs,
            index_bytes: shared.index.bytes() + self.open_files.index_bytes(),
        }
    }

    pub(crate) fn snapshots(&self) -> Result<SnapshotStore, LogError> {
        if self.lock.is_none() {
            return Err(LogError::Closed);
        }
        let mut snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = &*snapshots {
            return Ok(store.clone());
        }
        let (identity, bytes) = (self.state.identity, self.snapshot_chunk_bytes);
        let store = SnapshotStore::open(&self.disk, &self.names, identity, &self.encoder, bytes)?;
        *snapshots = Some(store.clone());
        Ok(store)
    }

    fn close_snapshots(&mut self) {
        let snapshots = self.snapshots.get_mut().unwrap_or_else(PoisonError::into_inner);
        snapshots.iter().for_each(SnapshotStore::close);
    }

    pub(crate) fn mark(&mut self) -> Result<(), LogError> {
        self.usable()?;
        match if self.marked { Ok(()) } else { self.put_mark(false) } {
            // A mark is a help, and not needed. It is tried again when idle again.
            Err(LogError::NoSpace { .. }) => Ok(()),
            marked => marked,
        }
    }

    pub(crate) fn close(&mut self) -> Result<(), LogError> {
        if self.lock.is_none() {
            return Ok(());
        }
        let marked = if self.poisoned || self.marked && self.mark.is_none() {
            Ok(())
        } else if self.mark.take().is_some() {
            self.file.sync_data().map_err(|source| self.poison("sync", source))
        } else {
            self.put_mark(true)
        };
        self.upkeep.stop();
        self.close_snapshots();
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

impl<D: Disk> Drop for Engine<D> {
    /// Readers can't outlive the lock: somebody else may destroy the log then.
    fn drop(&mut self) {
        self.upkeep.stop();
        self.close_snapshots();
        change(&self.shared).closed = true;
        self.file.unlock();
    }
}
