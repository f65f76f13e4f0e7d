//! Reading the entries of a log, one after the other.

use bytes::Bytes;
use tinyraftplus_log::{Disk, EntryId, LogEntry, Seq};

use super::{
    Doubt, ENTRY_BYTES_MAX, Error, Layout,
    bytes::{Bodies, Record, Records, is_hashed, record},
    part::Part,
    source::RolledBack,
    terms::Terms,
    window::Window,
};

/// An entry, or why there is none.
pub(super) type Step = Result<LogEntry, Doubt>;

/// Where reading is.
pub(super) struct Walk<'a, D: Disk> {
    disk: &'a D,
    parts: std::slice::Iter<'a, Part>,
    records: Records,
    /// Whether no body should begin with a checksum of its own.
    unhashed: bool,
    /// How many do all the same.
    pub(super) hashed: u64,
    bodies: Bodies,
    open: Option<Reading<'a, D::File>>,
    pub(super) terms: Terms,
    pub(super) rolled_back: RolledBack,
}

/// A part that is being read.
struct Reading<'a, F> {
    part: &'a Part,
    off: Window<F>,
    log: Window<F>,
    /// How many of its records were read.
    read: u64,
    /// Where the next body begins, if the record before it could be read.
    next: Option<u64>,
}

impl<'a, D: Disk> Walk<'a, D> {
    pub(super) fn new(
        disk: &'a D,
        parts: &'a [Part],
        layout: Layout,
        bodies: Bodies,
        raft: bool,
    ) -> Self {
        Self {
            disk,
            parts: parts.iter(),
            records: layout.records(),
            unhashed: layout == Layout::XxHashHeaders,
            hashed: 0,
            bodies,
            open: None,
            terms: Terms::new(raft),
            rolled_back: RolledBack::default(),
        }
    }

    /// The next entry, or a doubt, behind which it goes on; `None` at the end.
    pub(super) fn step(&mut self) -> Result<Option<Step>, Error> {
        loop {
            let Some(reading) = &mut self.open else {
                let Some(part) = self.parts.next() else { return Ok(None) };
                self.open = Some(Reading::open(self.disk, part)?);
                continue;
            };
            if reading.read == reading.part.count {
                let end = reading.end(self.records, &mut self.rolled_back)?;
                self.open = None;
                match end {
                    Some(doubt) => return Ok(Some(Err(doubt))),
                    None => continue,
                }
            }
            let seq = reading.part.first + reading.read;
            let body = match reading.body(self.records, &self.bodies)? {
                Ok(body) => body,
                Err(doubt) => return Ok(Some(Err(doubt))),
            };
            let is_hashed = self.unhashed && is_hashed(&body.payload);
            let taken = if is_hashed {
                self.hashed += 1;
                let what = "the body begins with its own checksum, as --layout xxhash has it, not xxhash-headers";
                Err(what.to_owned())
            } else {
                self.terms.take(body.payload)
            };
            return Ok(Some(match taken {
                Ok((term, kind, payload)) => Ok(LogEntry {
                    id: EntryId::new(term, Seq::new(seq)),
                    kind,
                    // The package does not store which entries were appended together.
                    ends_batch: true,
                    payload,
                }),
                Err(what) => Err(Doubt {
                    path: reading.log.path().clone(),
                    byte: Some(body.place),
                    seq: Some(seq),
                    what,
                }),
            }));
        }
    }
}

struct Body {
    place: u64,
    payload: Bytes,
}

impl<'a, F: tinyraftplus_log::DiskFile> Reading<'a, F> {
    fn open<D: Disk<File = F>>(disk: &D, part: &'a Part) -> Result<Self, Error> {
        Ok(Self {
            off: Window::open(disk, &format!("{}.off", part.name), part.off_len)?,
            log: Window::open(disk, &format!("{}.log", part.name), part.log_len)?,
            part,
            read: 0,
            next: Some(0),
        })
    }

    /// The next body. It is read whole only if its record can be right.
    fn body(&mut self, records: Records, bodies: &Bodies) -> Result<Result<Body, Doubt>, Error> {
        let index = self.read;
        let (at, seq) = (index * records.bytes(), self.part.first + index);
        self.read += 1;
        let expected = self.next.take();
        let found = record(records, self.off.bytes(at, records.bytes())?);
        let (offset, len) = match self.place(found, index, expected, bodies.overhead()) {
            Ok(place) => place,
            Err((field, what)) => {
                let byte = at + field.map_or(0, |field| records.fields() + 8 * field);
                let path = self.off.path().clone();
                return Ok(Err(Doubt { path, byte: Some(byte), seq: Some(seq), what }));
            }
        };
        self.next = Some(offset + len);
        let stored = self.log.bytes(offset, len)?;
        Ok(bodies.open(stored).map(|payload| Body { place: offset, payload }).map_err(|what| {
            Doubt {
                path: self.log.path().clone(),
                byte: Some(offset),
                seq: Some(seq),
                what: what.to_owned(),
            }
        }))
    }

    /// Where the body is that a record tells of; else which field is wrong, and why.
    fn place(
        &self,
        found: Option<Record>,
        index: u64,
        expected: Option<u64>,
        overhead: u64,
    ) -> Result<(u64, u64), (Option<u64>, String)> {
        let Some(record) = found else {
            return Err((None, "the checksum of the record does not fit it".to_owned()));
        };
        if u64::try_from(record.seq) != Ok(index) {
            let what =
                format!("the record says seq {}, and is number {index} of its file", record.seq);
            return Err((Some(0), what));
        }
        let offset = u64::try_from(record.offset)
            .ok()
            .filter(|&offset| expected.is_none_or(|expected| expected == offset));
        let Some(offset) = offset else {
            let before = expected.map_or_else(String::new, |expected| {
                format!(", and the one before ends at byte {expected}")
            });
            let what =
                format!("the record says that its body is at byte {}{before}", record.offset);
            return Err((Some(1), what));
        };
        let room = self.part.log_len.saturating_sub(offset);
        let Some(len) =
            u64::try_from(record.len).ok().filter(|&len| len <= room && len >= overhead)
        else {
            let what = format!(
                "the record says that its body has {} bytes; at least {overhead} are needed, and {room} are there",
                record.len
            );
            return Err((Some(2), what));
        };
        if len - overhead > ENTRY_BYTES_MAX {
            let what = format!(
                "the entry has {} bytes, and logs of this program take entries of up to {ENTRY_BYTES_MAX}",
                len - overhead
            );
            return Err((Some(2), what));
        }
        Ok((offset, len))
    }

    /// What is behind the last entry that counts.
    fn end(
        &mut self,
        records: Records,
        rolled_back: &mut RolledBack,
    ) -> Result<Option<Doubt>, Error> {
        let Some(end) = self.next else { return Ok(None) };
        let (count, rest) = (self.part.count, self.part.log_len.saturating_sub(end));
        let seq = Some(self.part.first + count);
        if self.part.whole {
            if rest == 0 {
                return Ok(None);
            }
            let what = format!("{rest} bytes follow the last body, and no record names them");
            let path = self.log.path().clone();
            return Ok(Some(Doubt { path, byte: Some(end), seq, what }));
        }
        let there = self.part.records(records);
        rolled_back.entries += there - count;
        rolled_back.bytes += rest;
        // What was being written may be there in any part. But if its first record is there, and records have
        // no checksums, that is the only witness of the last one's length.
        if records == Records::Plain && there > count {
            let at = count * records.bytes();
            let next = record(records, self.off.bytes(at, records.bytes())?);
            let says = next.filter(|it| u64::try_from(it.seq) == Ok(count)).map(|it| it.offset);
            if says.is_some_and(|says| u64::try_from(says) != Ok(end)) {
                let what = format!(
                    "the record, which is to be rolled back, says that its body is at byte {}, and the one before ends at byte {end}",
                    says.unwrap_or_default()
                );
                let path = self.off.path().clone();
                return Ok(Some(Doubt { path, byte: Some(at + 8), seq, what }));
            }
        }
        Ok(None)
    }
}
