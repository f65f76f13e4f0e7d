//! The body of a frame: records, one after the other.
//!
//! A configuration, then a reset or a trim, then entries. Each is optional, and each begins with a tag. The
//! term of entries is written before the first and wherever it changes.

use std::sync::Arc;

use bytes::Bytes;
use tinyraftplus_core::{Configuration, EntryId, Seq, Term};

use super::{Take, configuration, put_varint};
use crate::{EntryKind, LogEntry, LogError, Reset, num::u64_of};

const CONFIGURATION: u8 = 1;
const RESET: u8 = 2;
const TRIM: u8 = 3;
const TERM: u8 = 4;
/// Entries: the kind in the two lowest bits, the end of a batch in the third.
const ENTRY: u8 = 16;
const ENDS_BATCH: u8 = 4;

/// One record.
#[derive(Debug)]
pub(crate) enum Record {
    Configuration(Arc<Configuration>),
    Reset(Reset),
    Trim(Seq),
    Term,
    Entry(LogEntry),
}

pub(crate) fn put_configuration(out: &mut Vec<u8>, value: &Configuration) -> Result<(), LogError> {
    out.push(CONFIGURATION);
    configuration::put(out, value)
}

pub(crate) fn put_reset(out: &mut Vec<u8>, reset: Reset) {
    out.push(RESET);
    out.extend(reset.start.get().to_le_bytes());
    out.extend(reset.before.get().to_le_bytes());
}

pub(crate) fn put_trim(out: &mut Vec<u8>, end: Seq) {
    out.push(TRIM);
    out.extend(end.get().to_le_bytes());
}

pub(crate) fn put_term(out: &mut Vec<u8>, term: Term) {
    out.push(TERM);
    put_varint(out, term.get());
}

/// How many bytes an entry takes at most, beside its payload: a term, a tag and a length.
pub(crate) const ENTRY_OVERHEAD_MAX: u64 = 11 + 1 + 10;

pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &LogEntry) {
    let kind = match entry.kind {
        EntryKind::Payload => 0,
        EntryKind::Noop => 1,
        EntryKind::Configuration => 2,
    };
    out.push(ENTRY | kind | if entry.ends_batch { ENDS_BATCH } else { 0 });
    put_varint(out, u64_of(entry.payload.len()));
    out.extend_from_slice(&entry.payload);
}

/// Reads the records of a body whose checksum held. Ends after the first that makes no sense, with `None`
/// inside.
pub(crate) struct BodyReader<'a> {
    body: &'a Bytes,
    take: Take<'a>,
    term: Term,
    next: Seq,
}

impl<'a> BodyReader<'a> {
    /// `first` is the seq of the first entry.
    pub(crate) const fn new(body: &'a Bytes, bytes: &'a [u8], first: Seq) -> Self {
        Self { body, take: Take(bytes), term: Term::ZERO, next: first }
    }

    fn record(&mut self, tag: u8) -> Option<Record> {
        Some(match tag {
            CONFIGURATION => Record::Configuration(Arc::new(configuration::take(&mut self.take)?)),
            RESET => Record::Reset(Reset {
                start: Seq::new(self.take.u64()?),
                before: Term::new(self.take.u64()?),
            }),
            TRIM => Record::Trim(Seq::new(self.take.u64()?)),
            TERM => {
                self.term = Term::new(self.take.varint()?);
                Record::Term
            }
            _ => Record::Entry(self.entry(tag)?),
        })
    }

    fn entry(&mut self, tag: u8) -> Option<LogEntry> {
        let kind = match tag & !ENDS_BATCH {
            16 => EntryKind::Payload,
            17 => EntryKind::Noop,
            18 => EntryKind::Configuration,
            _ => return None,
        };
        let length = usize::try_from(self.take.varint()?).ok()?;
        let payload = self.body.slice_ref(self.take.bytes(length)?);
        let id = EntryId::new(self.term, self.next);
        self.next = self.next.checked_add(1)?;
        Some(LogEntry { id, kind, ends_batch: tag & ENDS_BATCH != 0, payload })
    }
}

impl Iterator for BodyReader<'_> {
    type Item = Option<Record>;

    fn next(&mut self) -> Option<Option<Record>> {
        let tag = self.take.u8()?;
        let record = self.record(tag);
        if record.is_none() {
            self.take = Take(&[]);
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_bytes_make_no_record_and_no_panic() {
        let mut rng = crate::sim_disk::SimRng::new(5);
        for _ in 0..2000 {
            let length = rng.below(40);
            let bytes: Bytes = (0..length)
                .map(|_| u8::try_from(rng.below(256)).unwrap())
                .collect::<Vec<u8>>()
                .into();
            assert!(BodyReader::new(&bytes, &bytes, Seq::MAX).count() <= 40);
        }
    }
}
