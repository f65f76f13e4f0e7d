//! Reading entries back, beside the writer.
//!
//! A reader takes the lock only to look into the index. The bytes it then reads never change: frames are
//! never written in place, not even by a trim, so a read that began before a trim ends well. A file that is
//! being read is not used again.

use std::{
    io,
    ops::Range,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use bytes::{Bytes, BytesMut};
use tinyraftplus_core::{Seq, Term};

use super::{
    index::{Extent, Index},
    open_files::OpenFiles,
    parts::{Part, Parts},
    patches::Patches,
};
use crate::{
    Disk, DiskFile, LogEntry, LogError, LogRead,
    drops::Drops,
    format::{
        BodyReader, FRAME_FORMAT, FRAME_HEADER_BYTES, Frame, Slot, checksum, flags, zero_sectors,
    },
    num::{u64_of, usize_of},
};

/// Read at once, at least and at most, unless a frame is larger.
const CHUNK_BYTES: Range<u64> = 16 << 10..256 << 10;

/// How many chunks are kept to be used again, if they are not larger than this.
const CHUNKS_KEPT: usize = 4;
const CHUNK_BYTES_KEPT: usize = 2 << 20;

/// What the writer tells the readers, after it is durable.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) bounds: Range<Seq>,
    pub(crate) parts: Parts,
    /// Of the newest file.
    pub(crate) index: Index,
    pub(crate) patches: Patches,
    /// The position after its last frame with an entry.
    pub(crate) end: u64,
    pub(crate) drops: Drops,
    pub(crate) closed: bool,
}

/// The lock is held for moments and never across a panic of ours, so a poisoned one is as good.
pub(crate) fn look(shared: &RwLock<Shared>) -> RwLockReadGuard<'_, Shared> {
    shared.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn change(shared: &RwLock<Shared>) -> RwLockWriteGuard<'_, Shared> {
    shared.write().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a range lies in a log.
pub(crate) fn check_range(bounds: &Range<Seq>, start: Seq, end: Seq) -> Result<(), LogError> {
    if start < bounds.start {
        return Err(LogError::Compacted { start: bounds.start, got: start });
    }
    if end > bounds.end {
        return Err(LogError::Trimmed { end: bounds.end, got: start.max(bounds.end) });
    }
    Ok(())
}

/// Collects entries up to a number of bytes, but at least one.
pub(crate) struct Collect {
    pub(crate) entries: Vec<LogEntry>,
    bytes: u64,
    bytes_max: u64,
}

impl Collect {
    /// There may be about so many entries.
    pub(crate) fn new(bytes_max: u64, about: usize) -> Self {
        Self { entries: Vec::with_capacity(about), bytes: 0, bytes_max }
    }

    /// Whether there is room for so many bytes of payload more.
    #[inline]
    fn fits(&self, payload: usize) -> bool {
        self.entries.is_empty() || self.bytes.saturating_add(u64_of(payload)) <= self.bytes_max
    }

    /// Takes the entry, or says that it does not fit any more.
    pub(crate) fn take(&mut self, entry: LogEntry) -> bool {
        let fits = self.fits(entry.payload.len());
        if fits {
            self.put(entry);
        }
        fits
    }

    /// Takes an entry that fits.
    #[inline]
    fn put(&mut self, entry: LogEntry) {
        self.bytes = self.bytes.saturating_add(u64_of(entry.payload.len()));
        self.entries.push(entry);
    }
}

/// Reads the entries of a log's files.
pub(crate) struct FileReader<D: Disk> {
    shared: Arc<RwLock<Shared>>,
    files: Arc<OpenFiles<D>>,
    group_bytes_max: u64,
    /// What is left of the last call; the next one often goes on there.
    scratch: Mutex<Scratch>,
}

/// Bytes that were read, and where reading can go on.
#[derive(Default)]
struct Scratch {
    /// Bytes of this file, from this offset on.
    number: u64,
    offset: u64,
    chunk: Bytes,
    /// How much of the chunk that is; the rest is left of something else.
    valid: usize,
    /// Chunks whose entries somebody may still hold; memory that is used again costs half.
    used: Vec<Bytes>,
    /// How much the last frame took.
    frame_bytes: u64,
    cursor: Option<Cursor>,
    /// How many entries the last call had.
    count: usize,
}

/// Where to look for an entry.
struct Found {
    part: Part,
    extent: Extent,
    /// From this seq on, look elsewhere.
    until: Seq,
    /// Nothing counts from this position on, or not yet.
    end: u64,
    /// It was repaired, by the frame at this place.
    repaired: bool,
}

/// Where the next entry lies.
struct Cursor {
    number: u64,
    /// The log's count of drops: after another, entries lie elsewhere.
    drops: u64,
    next: Seq,
    frame: Body,
    /// Where the frame after it lies.
    position: u64,
}

/// A frame's body, and how much of it was read.
#[derive(Default)]
struct Body {
    /// Where its frame lies.
    position: u64,
    bytes: Bytes,
    at: usize,
    term: Term,
    next: Seq,
    /// The seq after its last entry, and their term if the header says it.
    end: Seq,
    current: Option<Term>,
}

impl<D: Disk> FileReader<D> {
    pub(crate) fn new(
        shared: Arc<RwLock<Shared>>,
        files: Arc<OpenFiles<D>>,
        group_bytes_max: u64,
    ) -> Self {
        Self { shared, files, group_bytes_max, scratch: Mutex::default() }
    }

    /// Where to look for an entry; `None` if it is not there any more.
    fn find(&self, seq: Seq, drops: u64) -> Result<Option<Found>, LogError> {
        let (part, until, extent, end, repair) = {
            let shared = look(&self.shared);
            // Dropped meanwhile: what follows may be other entries than those that were asked for.
            if shared.drops.count() != drops {
                return Ok(None);
            }
            let end_of = |part: &Part| {
                let newest =
                    shared.parts.newest().is_some_and(|newest| newest.number == part.number);
                if newest { shared.end } else { part.last.end }
            };
            let mut repair = None;
            if !shared.patches.is_empty() {
                match shared.patches.find(seq) {
                    Ok(place) => {
                        let Some(part) = shared.parts.numbered(place.number) else {
                            return Ok(None);
                        };
                        let extent = Extent { first: seq, position: place.position };
                        let (part, end, until) = (*part, end_of(part), place.end);
                        return Ok(Some(Found { part, extent, until, end, repaired: true }));
                    }
                    Err(next) => repair = next,
                }
            }
            let Some((part, until)) = shared.parts.find(seq) else { return Ok(None) };
            let newest = shared.parts.newest().is_some_and(|newest| newest.number == part.number);
            let extent = newest.then(|| shared.index.find(seq));
            (part, until, extent, end_of(&part), repair)
        };
        let extent = match extent {
            Some(extent) => extent,
            None => match self.files.index(&part, &self.shared)? {
                Some(index) => index.find(seq),
                None => return Ok(None),
            },
        };
        Ok(extent.map(|(extent, next)| {
            let until = next.into_iter().chain(until).chain(repair).min().unwrap_or(Seq::MAX);
            Found { part, extent, until, end, repaired: false }
        }))
    }
}

impl<D: Disk> LogRead for FileReader<D> {
    fn read(&self, start: Seq, end: Seq, bytes_max: u64) -> Result<Vec<LogEntry>, LogError> {
        let drops = {
            let shared = look(&self.shared);
            if shared.closed {
                return Err(LogError::Closed);
            }
            if start >= end {
                return Ok(Vec::new());
            }
            check_range(&shared.bounds, start, end)?;
            shared.drops.count()
        };
        // Somebody else reads by this handle just now: begin anew beside him.
        let mut own = Scratch::default();
        let mut held = self.scratch.try_lock();
        let scratch = held.as_deref_mut().unwrap_or(&mut own);
        let about = scratch.count.min(usize::try_from(end.since(start)).unwrap_or(usize::MAX));
        let mut collect = Collect::new(bytes_max, about);
        let mut next = start;
        while next < end {
            let Some(found) = self.find(next, drops)? else { break };
            let Some(file) = self.files.file(&found.part, &self.shared)? else { break };
            let until = found.until.min(end);
            let Found { part, end, repaired, .. } = found;
            let mut walk = Walk { reader: self, file: &*file, part, end, repaired, scratch, drops };
            let full = walk.collect(found.extent, next, until, &mut collect);
            let full = match full {
                // What is before the damage can be read; the next call will meet it.
                Err(_) if !collect.entries.is_empty() => true,
                full => full?,
            };
            if full {
                break;
            }
            next = until;
        }
        if collect.entries.is_empty() {
            check_range(&look(&self.shared).bounds, start, end)?;
            return Err(LogError::Trimmed { end: start, got: start });
        }
        scratch.count = collect.entries.len();
        Ok(collect.entries)
    }

    fn bounds(&self) -> Range<Seq> {
        look(&self.shared).bounds.clone()
    }

    fn drops(&self) -> u64 {
        look(&self.shared).drops.count()
    }

    fn kept_since(&self, drops: u64) -> Seq {
        look(&self.shared).drops.kept_since(drops)
    }
}

/// Reads frames of one file, one after the other.
struct Walk<'a, D: Disk> {
    reader: &'a FileReader<D>,
    file: &'a D::File,
    part: Part,
    end: u64,
    /// What is looked for is in one frame, which is a repair.
    repaired: bool,
    scratch: &'a mut Scratch,
    drops: u64,
}

impl<D: Disk> Walk<'_, D> {
    /// Collects the entries in `start..end`, all of them in frames from the extent on. True when full.
    fn collect(
        &mut self,
        extent: Extent,
        start: Seq,
        end: Seq,
        collect: &mut Collect,
    ) -> Result<bool, LogError> {
        let number = self.part.number;
        let cursor = self.scratch.cursor.take().filter(|cursor| {
            (cursor.number, cursor.drops, cursor.next) == (number, self.drops, start)
                // What was trimmed and written again lies further on.
                && cursor.frame.position >= extent.position
                && !self.repaired
        });
        let (mut body, mut position) = match cursor {
            Some(cursor) => (cursor.frame, cursor.position),
            None => (Body::default(), extent.position),
        };
        let mut next = start;
        let mut full = false;
        loop {
            if next < end && !full {
                // Nothing of a frame that turns out to make no sense.
                let (kept, bytes) = (collect.entries.len(), collect.bytes);
                let read = self.entries(&mut body, position, &mut next, end, collect);
                if read.is_err() {
                    collect.entries.truncate(kept);
                    collect.bytes = bytes;
                }
                full = read?;
            }
            if next >= end || full {
                break;
            }
            // Its bytes are to be used again.
            drop(std::mem::take(&mut body));
            (body, position) = self.frame(position, next)?;
        }
        // What comes behind a repair in its frame may have been dropped, or repaired anew.
        let drops = self.drops;
        let cursor = Cursor { number, drops, next, frame: body, position };
        self.scratch.cursor = (!self.repaired).then_some(cursor);
        Ok(full)
    }

    /// Collects entries of a body from `next` on and before `end`. True when full.
    fn entries(
        &self,
        body: &mut Body,
        position: u64,
        next: &mut Seq,
        end: Seq,
        collect: &mut Collect,
    ) -> Result<bool, LogError> {
        let Body { bytes, at, end: body_end, current, .. } = body;
        // Without a checksum, this is what keeps entries in their frame.
        let misfit = "the body of a frame makes no sense";
        let rest = bytes.get(*at..).unwrap_or_default();
        let mut records = BodyReader::resume(rest, body.term, body.next);
        while *next < end {
            let left = records.left();
            let Some(entry) = records.next_entry() else {
                if records.place().1 != *body_end {
                    return Err(self.corrupt(position, *next, misfit));
                }
                break;
            };
            let entry = entry.map_err(|_| self.corrupt(position, *next, misfit))?;
            if entry.id.seq >= *body_end || current.is_some_and(|term| term != entry.id.term) {
                return Err(self.corrupt(position, *next, misfit));
            }
            if entry.id.seq < *next {
                continue;
            }
            if !collect.fits(entry.payload.len()) {
                // To be read again by the next call.
                *at += rest.len() - left;
                (body.term, body.next) = (entry.id.term, entry.id.seq);
                return Ok(true);
            }
            *next = entry.id.seq.after();
            collect.put(LogEntry {
                id: entry.id,
                kind: entry.kind,
                ends_batch: entry.ends_batch,
                payload: bytes.slice_ref(entry.payload),
            });
        }
        *at += rest.len() - records.left();
        (body.term, body.next) = records.place();
        if records.left() == 0 {
            (body.bytes, body.at) = (Bytes::new(), 0);
        }
        Ok(false)
    }

    /// The body of the frame at `position`, if it has entries from `next` on, and the position after it.
    fn frame(&mut self, position: u64, next: Seq) -> Result<(Body, u64), LogError> {
        let stamp = self.part.stamp;
        let header = self.bytes(position, FRAME_HEADER_BYTES)?;
        let frame = match Frame::decode(&header, stamp, position) {
            Slot::Frame(frame, _)
                if u64::from(frame.body_bytes.max(frame.plain_bytes))
                    <= self.reader.group_bytes_max =>
            {
                frame
            }
            Slot::Frame(..) => {
                return Err(self.corrupt(position, next, "a frame is longer than any group"));
            }
            Slot::Newer(found) => {
                let path = self.reader.files.path(self.part.number);
                return Err(LogError::NewerFormat { path, found, newest_known: FRAME_FORMAT });
            }
            Slot::Blank => return Err(self.corrupt(position, next, "a frame is gone")),
            Slot::Bad(what) => return Err(self.corrupt(position, next, what)),
        };
        // A group may begin with a block of its own.
        let after = frame.next_position(stamp);
        let after = if frame.flags & (flags::END | flags::MARK) == flags::END {
            super::group::after_group(after, stamp)
        } else {
            after
        };
        let (first, end) = if self.repaired {
            if !frame.has(flags::REPAIR) {
                return Err(self.corrupt(position, next, "a repair is gone"));
            }
            // The body says which entries it has.
            (Seq::ZERO, Seq::MAX)
        } else {
            if !frame.has(flags::ENTRIES) || frame.end() <= next {
                return Ok((Body { position, ..Body::default() }, after));
            }
            if next < frame.first {
                let what = "a frame does not follow the one before it";
                return Err(self.corrupt(position, next, what));
            }
            (frame.first, frame.end())
        };
        self.scratch.frame_bytes = after - position;
        let bytes = self.body(&frame, next)?;
        let current = frame.has(flags::CURRENT).then_some(frame.hard.term);
        Ok((Body { position, bytes, at: 0, term: Term::ZERO, next: first, end, current }, after))
    }

    /// The body of a frame, checked and decoded.
    fn body(&mut self, frame: &Frame, seq: Seq) -> Result<Bytes, LogError> {
        let stored = self.bytes(frame.body(), u64::from(frame.body_bytes))?;
        let encoder = self.reader.files.encoder();
        let sound = if frame.is_checked(encoder.checks_bodies()) {
            checksum(&stored) == frame.body_sum
        } else {
            zero_sectors(frame.body(), &stored) == frame.zero_sectors
        };
        if !sound {
            return Err(self.corrupt(frame.position, seq, "the body of a frame is damaged"));
        }
        if encoder.keeps_bodies() {
            return Ok(stored);
        }
        let mut body = Vec::from(stored);
        let plain_bytes = u64::from(frame.plain_bytes);
        let decoded = encoder.decode(&frame.associated(self.part.stamp), &mut body, plain_bytes);
        if decoded.is_err() || u64_of(body.len()) != plain_bytes {
            let what = "the encoder can't decode the body of a frame";
            return Err(self.corrupt(frame.position, seq, what));
        }
        Ok(body.into())
    }

    /// These bytes of the file; what lies after its end reads as zeros.
    fn bytes(&mut self, position: u64, count: u64) -> Result<Bytes, LogError> {
        let offset = position - self.part.base;
        if let Some(known) = self.scratch.known(self.part.number, offset, count) {
            return Ok(known);
        }
        // Large frames are read whole, with the header of the next.
        let ahead = self.scratch.frame_bytes.saturating_add(FRAME_HEADER_BYTES);
        let wanted = count.max(ahead).max(CHUNK_BYTES.start);
        let fill = CHUNK_BYTES.end / self.scratch.frame_bytes.max(1);
        let wanted = wanted
            .max(fill.saturating_mul(self.scratch.frame_bytes).saturating_add(FRAME_HEADER_BYTES));
        // What comes after the end is not there yet, and would be taken for what is there later.
        let wanted = wanted.min(self.end.saturating_sub(position)).max(count);
        let wanted = usize_of(wanted);
        let mut buffer = self.scratch.buffer();
        if buffer.len() < wanted {
            buffer.resize(wanted, 0);
        }
        let target = buffer.get_mut(..wanted).unwrap_or_default();
        let read = self.file.read_at(offset, target).map_err(|source| self.failed(source))?;
        target.get_mut(read..).unwrap_or_default().fill(0);
        (self.scratch.number, self.scratch.offset) = (self.part.number, offset);
        self.scratch.valid = wanted;
        self.scratch.chunk = buffer.freeze();
        Ok(self.scratch.chunk.slice(..usize_of(count)))
    }

    fn failed(&self, source: io::Error) -> LogError {
        LogError::Io { op: "read", path: self.reader.files.path(self.part.number), source }
    }

    fn corrupt(&self, position: u64, seq: Seq, what: &'static str) -> LogError {
        let offset = position.saturating_sub(self.part.base);
        let path = self.reader.files.path(self.part.number);
        LogError::Corrupt { path, offset, seq: Some(seq), what }
    }
}

impl Scratch {
    /// Memory to read into: a chunk that nobody holds any more, or new.
    fn buffer(&mut self) -> BytesMut {
        self.valid = 0;
        let chunk = std::mem::take(&mut self.chunk);
        if chunk.len() <= CHUNK_BYTES_KEPT {
            self.used.push(chunk);
        }
        if self.used.len() > CHUNKS_KEPT {
            self.used.remove(0);
        }
        let free = self.used.iter().position(Bytes::is_unique);
        free.and_then(|at| self.used.swap_remove(at).try_into_mut().ok()).unwrap_or_default()
    }

    fn known(&self, number: u64, offset: u64, count: u64) -> Option<Bytes> {
        let at = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        let end = at.checked_add(usize_of(count))?;
        (self.number == number && end <= self.valid).then(|| self.chunk.slice(at..end))
    }
}
