//! One file of a log, for reading only.
//!
//! Places that the disk can't read are damage like any other, so nothing here fails but opening.

use std::{borrow::Cow, io, path::PathBuf, sync::Arc};

use crate::{
    Disk, DiskFile, Encoder, LogError, Open,
    engine::{Names, Target},
    format::{
        FRAME_HEADER_BYTES, Frame, SEAL_BYTES_MAX, SECTOR_BYTES, SLOT_BYTES, Segment, SegmentCopy,
        Slot, checksum, flags,
    },
    num::{is_zero, round_up, u64_of, usize_of},
};

const AHEAD_BYTES: u64 = 1 << 20;

/// A copy of something that is written twice, and is missing or wrong.
pub(super) struct LostCopy {
    pub(super) offset: u64,
    pub(super) what: &'static str,
}

/// A file with a readable header.
pub(super) struct View<D: Disk> {
    pub(super) number: u64,
    pub(super) file_name: String,
    pub(super) path: PathBuf,
    pub(super) file: D::File,
    pub(super) segment: Segment,
    pub(super) bytes: u64,
    /// A newer version wrote to it: whatever else it looks like, it is not to be judged.
    pub(super) newer: Option<u16>,
    /// Somebody may be writing to it meanwhile, as far as the disk is concerned.
    pub(super) is_shared: bool,
    encoder: Arc<dyn Encoder>,
    buffer: Vec<u8>,
    /// Where the buffer's first byte lies.
    buffer_at: u64,
}

/// What a file of this name is.
pub(super) enum Seen<D: Disk> {
    /// It is not there any more.
    Gone,
    /// It has no header yet.
    Blank(u64),
    /// Its header can't be read, or is of something else.
    Unreadable(u64, LogError),
    File(Box<View<D>>),
}

/// A body, or what is wrong with it.
pub(super) type Body<'a> = Result<Cow<'a, [u8]>, &'static str>;

impl<D: Disk> View<D> {
    /// Opens a file. `previous` is the header of the one before it, if there is one.
    pub(super) fn open(
        disk: &D,
        names: &Names,
        number: u64,
        previous: Option<&Segment>,
        encoder: &Arc<dyn Encoder>,
    ) -> Result<Seen<D>, LogError> {
        let file_name = names.file(number);
        let path = disk.path(&file_name);
        let file = match disk.open(&file_name, Open::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::Gone),
            Err(source) => return Err(LogError::Io { op: "open", path, source }),
        };
        let target = Target { file, path };
        let bytes = target.file.len().map_err(|error| target.failed("measure", error))?;
        let segment = match target.segment(previous) {
            Ok(Some((segment, _))) => segment,
            Ok(None) => return Ok(Seen::Blank(bytes)),
            Err(error) => return Ok(Seen::Unreadable(bytes, error)),
        };
        let Target { file, path } = target;
        if segment.number != number {
            let what = "it is another file of this log, or of another log, renamed";
            let error = LogError::Corrupt { path, offset: 0, seq: None, what };
            return Ok(Seen::Unreadable(bytes, error));
        }
        Ok(Seen::File(Box::new(Self {
            number,
            file_name,
            path,
            file,
            segment,
            bytes,
            newer: None,
            is_shared: disk.in_background(),
            encoder: Arc::clone(encoder),
            buffer: Vec::new(),
            buffer_at: 0,
        })))
    }

    /// The position after its last byte.
    pub(super) const fn end(&self) -> u64 {
        self.segment.position.saturating_add(self.bytes)
    }

    pub(super) const fn offset(&self, position: u64) -> u64 {
        position.saturating_sub(self.segment.position)
    }

    /// What was read is to be read again; the file may have grown, too.
    pub(super) fn forget(&mut self) {
        self.buffer.clear();
        self.bytes = self.file.len().unwrap_or(self.bytes);
    }

    /// The copies of its header and its configuration that are missing or damaged, and the configuration.
    pub(super) fn copies(
        &mut self,
    ) -> (Option<Arc<tinyraftplus_core::Configurations>>, Vec<LostCopy>) {
        let mut lost = Vec::new();
        let Some(header) = self.read(self.segment.position, self.segment.header_bytes()) else {
            let what = "the disk can't read all of the header";
            return (None, vec![LostCopy { offset: 0, what }]);
        };
        let sector = usize_of(SECTOR_BYTES);
        for (copy, offset) in header.chunks(sector).take(2).zip([0, SECTOR_BYTES]) {
            if !matches!(Segment::decode(copy), SegmentCopy::Valid(_)) {
                lost.push(LostCopy { offset, what: "a copy of the header is damaged" });
            }
        }
        let Some(stored) = self.segment.configuration else { return (None, lost) };
        let Some(header) = self.read(self.segment.position, self.segment.header_bytes()) else {
            return (None, lost);
        };
        let copies = stored.read(header);
        for (copy, offset) in copies.iter().zip(stored.offsets()) {
            if copy.is_none() {
                let what = "a copy of the configuration in the header is damaged";
                lost.push(LostCopy { offset, what });
            }
        }
        (copies.into_iter().flatten().next().map(Arc::new), lost)
    }

    /// These bytes; zeros after the end of the file; none where the disk can't read them.
    fn read(&mut self, position: u64, count: u64) -> Option<&[u8]> {
        let known = position
            .checked_sub(self.buffer_at)
            .filter(|at| at.saturating_add(count) <= u64_of(self.buffer.len()));
        let at = if let Some(at) = known {
            at
        } else {
            // Where reading ahead fails, what is asked for may still be readable.
            if !self.fill(position, count.max(AHEAD_BYTES)) && !self.fill(position, count) {
                self.buffer.clear();
                return None;
            }
            0
        };
        self.buffer.get(usize_of(at)..)?.get(..usize_of(count))
    }

    fn fill(&mut self, position: u64, count: u64) -> bool {
        self.buffer.resize(usize_of(count), 0);
        self.buffer_at = position;
        let offset = position.saturating_sub(self.segment.position);
        match self.file.read_at(offset, &mut self.buffer) {
            Ok(read) => {
                self.buffer.get_mut(read..).unwrap_or_default().fill(0);
                true
            }
            Err(_) => false,
        }
    }

    /// What lies where a header could be.
    pub(super) fn slot(&mut self, at: u64) -> Slot {
        let stamp = self.segment.stamp();
        if at.saturating_add(FRAME_HEADER_BYTES) > self.end() {
            return Slot::Blank;
        }
        let slot = self
            .read(at, FRAME_HEADER_BYTES)
            .map_or(Slot::Bad("the disk can't read it"), |bytes| Frame::decode(bytes, stamp, at));
        if let Slot::Newer(found) = slot {
            self.newer = Some(found);
        }
        slot
    }

    /// The body of a frame as it was before it was encoded.
    pub(super) fn body(&mut self, frame: &Frame) -> Body<'_> {
        let limit =
            if frame.has(flags::SEAL) { SEAL_BYTES_MAX } else { self.segment.group_bytes_max };
        if u64::from(frame.body_bytes.max(frame.plain_bytes)) > limit {
            return Err("a frame is longer than any group");
        }
        if frame.body_end() > self.end() {
            return Err("the file ends in the middle of a frame: it was cut short");
        }
        let (encoder, stamp) = (Arc::clone(&self.encoder), self.segment.stamp());
        let stored = self
            .read(frame.body(), u64::from(frame.body_bytes))
            .ok_or("the disk can't read the body of a frame")?;
        let checked = frame.is_checked(encoder.checks_bodies());
        if (if checked { checksum(stored) } else { 0 }) != frame.body_sum {
            return Err("the body of a frame is damaged");
        }
        if encoder.keeps_bodies() || frame.plain_bytes == 0 {
            return Ok(Cow::Borrowed(stored));
        }
        let plain_bytes = u64::from(frame.plain_bytes);
        let mut body = stored.to_vec();
        let decoded = encoder.decode(&frame.associated(stamp), &mut body, plain_bytes);
        if decoded.is_err() || u64_of(body.len()) != plain_bytes {
            return Err("the encoder can't decode the body of a frame");
        }
        Ok(Cow::Owned(body))
    }

    /// Calls `on` with each slot of `start..end` that is not zeros, and where it lies, as long as it says to go
    /// on.
    pub(super) fn slots(&mut self, start: u64, end: u64, mut on: impl FnMut(u64, &[u8]) -> bool) {
        let slot_bytes = usize_of(SLOT_BYTES);
        let end = end.min(self.end());
        let mut at = start;
        while at < end {
            // Space that was never written is not worth reading: there may be much of it.
            let data = self.file.data_from(self.offset(at)).unwrap_or_else(|_| self.offset(at));
            at = at.max(self.segment.position.saturating_add(data) / SLOT_BYTES * SLOT_BYTES);
            let count = end.saturating_sub(at).min(AHEAD_BYTES);
            let Some(piece) = self.read(at, count) else {
                // Somewhere in it is what the disk can't read.
                let unread = SECTOR_BYTES.min(count);
                if let Some(piece) = self.read(at, unread)
                    && !chunks(piece, at, slot_bytes, &mut on)
                {
                    return;
                }
                at += unread;
                continue;
            };
            if !chunks(piece, at, slot_bytes, &mut on) {
                return;
            }
            at += count.max(SLOT_BYTES);
        }
    }

    /// The first frame at or after `start` and before `end`; copies and seals are none.
    pub(super) fn next_frame(&mut self, start: u64, end: u64) -> Option<u64> {
        let stamp = self.segment.stamp();
        let mut found = None;
        self.slots(round_up(start, SLOT_BYTES), end, |at, slot| {
            found = match Frame::decode(slot, stamp, at) {
                Slot::Frame(frame, _) if !frame.has(flags::COPY | flags::SEAL) => Some(at),
                Slot::Frame(..) | Slot::Blank | Slot::Newer(_) | Slot::Bad(_) => None,
            };
            found.is_none()
        });
        found
    }
}

fn chunks(
    piece: &[u8],
    at: u64,
    slot_bytes: usize,
    on: &mut impl FnMut(u64, &[u8]) -> bool,
) -> bool {
    piece
        .chunks(slot_bytes)
        .zip((at..).step_by(slot_bytes))
        .all(|(slot, position)| is_zero(slot) || on(position, slot))
}
