//! Reading entries back, beside the writer.
//!
//! A reader takes the lock only to look into the index. The bytes it then reads never change: frames are
//! never written in place, not even by a trim, so a read that began before a trim ends well.

use std::{
    io,
    ops::Range,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use bytes::Bytes;
use tinyraftplus_core::Seq;

use crate::{
    DiskFile, LogEntry, LogError, LogRead,
    drops::Drops,
    format::{BodyReader, FRAME_HEADER_BYTES, Frame, Record, Slot, checksum, flags},
    index::Index,
    num::{u64_of, usize_of},
    window::Window,
};

/// How much is read at once when looking for a frame.
const AHEAD_BYTES: usize = 16 << 10;

/// What the writer tells the readers, after it is durable.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) bounds: Range<Seq>,
    pub(crate) index: Index,
    pub(crate) drops: Drops,
    pub(crate) closed: bool,
}

/// Reads the entries of a file.
pub(crate) struct FileReader<F> {
    pub(crate) file: Arc<F>,
    pub(crate) path: PathBuf,
    pub(crate) tag: u64,
    pub(crate) group_bytes_max: u64,
    pub(crate) shared: Arc<RwLock<Shared>>,
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
    pub(crate) const fn new(bytes_max: u64) -> Self {
        Self { entries: Vec::new(), bytes: 0, bytes_max }
    }

    /// Takes the entry, or says that it does not fit any more.
    pub(crate) fn take(&mut self, entry: LogEntry) -> bool {
        let bytes = self.bytes.saturating_add(u64_of(entry.payload.len()));
        if !self.entries.is_empty() && bytes > self.bytes_max {
            return false;
        }
        self.bytes = bytes;
        self.entries.push(entry);
        true
    }
}

impl<F: DiskFile> LogRead for FileReader<F> {
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
        let mut collect = Collect::new(bytes_max);
        let mut window = Window::new(&*self.file, AHEAD_BYTES);
        let mut next = start;
        while next < end {
            let found = {
                let shared = look(&self.shared);
                // Dropped meanwhile: what follows may be other entries than those that were asked for.
                if shared.drops.count() == drops { shared.index.find(next) } else { None }
            };
            let Some((extent, until)) = found else { break };
            let end = until.unwrap_or(end).min(end);
            let done = self.walk(&mut window, extent.position, next, end, &mut collect)?;
            next = end;
            if done {
                break;
            }
        }
        if collect.entries.is_empty() {
            check_range(&look(&self.shared).bounds, start, end)?;
            return Err(LogError::Trimmed { end: start, got: start });
        }
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

impl<F: DiskFile> FileReader<F> {
    /// Collects the entries in `start..end`, all of them in frames from `position` on. True when full.
    fn walk(
        &self,
        window: &mut Window<'_, F>,
        mut position: u64,
        start: Seq,
        end: Seq,
        collect: &mut Collect,
    ) -> Result<bool, LogError> {
        let mut next = start;
        while next < end {
            let header =
                window.bytes(position, FRAME_HEADER_BYTES).map_err(|error| self.failed(error))?;
            let frame = match Frame::decode(header, self.tag, position) {
                Slot::Frame(frame, _) if u64::from(frame.body_bytes) <= self.group_bytes_max => {
                    frame
                }
                Slot::Frame(..) => {
                    return Err(self.corrupt(position, next, "a frame is longer than any group"));
                }
                Slot::Blank => return Err(self.corrupt(position, next, "a frame is gone")),
                Slot::Bad(what) => return Err(self.corrupt(position, next, what)),
            };
            if frame.has(flags::ENTRIES) && next < frame.end() {
                if next < frame.first {
                    return Err(self.corrupt(
                        position,
                        next,
                        "a frame does not follow the one before it",
                    ));
                }
                let body = self.body(window, &frame, next)?;
                for record in BodyReader::new(&body, &body, frame.first) {
                    let Some(record) = record else {
                        return Err(self.corrupt(
                            position,
                            next,
                            "the body of a frame makes no sense",
                        ));
                    };
                    if let Record::Entry(entry) = record
                        && (next..end).contains(&entry.id.seq)
                    {
                        next = entry.id.seq.after();
                        if !collect.take(entry) {
                            return Ok(true);
                        }
                    }
                }
            }
            position = frame.next_position();
        }
        Ok(false)
    }

    fn body(&self, window: &mut Window<'_, F>, frame: &Frame, seq: Seq) -> Result<Bytes, LogError> {
        let count = u64::from(frame.body_bytes);
        let body = if count <= u64_of(AHEAD_BYTES) {
            Bytes::copy_from_slice(
                window.bytes(frame.body(), count).map_err(|error| self.failed(error))?,
            )
        } else {
            let mut body = vec![0; usize_of(count)];
            self.file.read_at(frame.body(), &mut body).map_err(|error| self.failed(error))?;
            body.into()
        };
        if checksum(&body) != frame.body_sum {
            return Err(self.corrupt(frame.position, seq, "the body of a frame is damaged"));
        }
        Ok(body)
    }

    fn failed(&self, source: io::Error) -> LogError {
        LogError::Io { op: "read", path: self.path.clone(), source }
    }

    fn corrupt(&self, offset: u64, seq: Seq, what: &'static str) -> LogError {
        LogError::Corrupt { path: self.path.clone(), offset, seq: Some(seq), what }
    }
}
