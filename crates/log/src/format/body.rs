//! The body of a frame: records, one after the other.
//!
//! A configuration, then a reset or a trim, then a new start, then entries; or a repair: entries in the place of
//! others. Each is optional, and each begins with a tag. The term of entries is written before the first and wherever it changes. A seal is a summary of
//! its file instead.

use std::sync::Arc;

use tinyraftplus_core::{Configurations, EntryId, Seq, Term};

use super::{Take, configuration, put_varint, summary};
use crate::{EntryKind, LogEntry, LogError, Reset, num::u64_of};

const CONFIGURATION: u8 = 1;
const RESET: u8 = 2;
const TRIM: u8 = 3;
const TERM: u8 = 4;
const COMPACT: u8 = 5;
const SUMMARY: u8 = 6;
const REPAIR: u8 = 7;
const KNOWN: u8 = 8;
/// Entries: the kind in the two lowest bits, the end of a batch in the third.
const ENTRY: u8 = 16;
const ENDS_BATCH: u8 = 4;

/// One record.
#[derive(Debug)]
pub(crate) enum Record<'a> {
    Configuration(Arc<Configurations>),
    Reset(Reset),
    Trim(Seq),
    Compact(Reset),
    /// The entries that follow take the place of those from here on.
    Repair(Seq),
    /// Nothing is hidden by damage any more.
    Known,
    Term,
    Entry(EntryRecord<'a>),
    /// Boxed, or every entry would be as large.
    Summary(Box<summary::Summary>),
}

/// What is no record.
#[derive(Debug)]
pub(crate) struct Nonsense;

/// An entry in the body of its frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryRecord<'a> {
    pub(crate) id: EntryId,
    pub(crate) kind: EntryKind,
    pub(crate) ends_batch: bool,
    pub(crate) payload: &'a [u8],
}

pub(crate) fn put_configuration(out: &mut Vec<u8>, value: &Configurations) -> Result<(), LogError> {
    out.push(CONFIGURATION);
    configuration::put(out, value)
}

pub(crate) fn put_reset(out: &mut Vec<u8>, reset: Reset) {
    out.push(RESET);
    put_start(out, reset);
}

pub(crate) fn put_compact(out: &mut Vec<u8>, compact: Reset) {
    out.push(COMPACT);
    put_start(out, compact);
}

fn put_start(out: &mut Vec<u8>, Reset { start, before }: Reset) {
    out.extend(start.get().to_le_bytes());
    out.extend(before.get().to_le_bytes());
}

pub(crate) fn put_trim(out: &mut Vec<u8>, end: Seq) {
    out.push(TRIM);
    out.extend(end.get().to_le_bytes());
}

pub(crate) fn put_repair(out: &mut Vec<u8>, first: Seq) {
    out.push(REPAIR);
    out.extend(first.get().to_le_bytes());
}

pub(crate) fn put_known(out: &mut Vec<u8>) {
    out.push(KNOWN);
}

pub(crate) fn put_term(out: &mut Vec<u8>, term: Term) {
    out.push(TERM);
    put_varint(out, term.get());
}

pub(crate) fn put_summary(out: &mut Vec<u8>, value: &summary::Summary) -> Result<(), LogError> {
    if let Some(configuration) = &value.effect.configuration {
        put_configuration(out, configuration)?;
    }
    out.push(SUMMARY);
    summary::put(out, value);
    Ok(())
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
    take: Take<'a>,
    term: Term,
    next: Seq,
}

impl<'a> BodyReader<'a> {
    /// `first` is the seq of the first entry.
    pub(crate) const fn new(body: &'a [u8], first: Seq) -> Self {
        Self { take: Take(body), term: Term::ZERO, next: first }
    }

    /// Goes on where [`BodyReader::place`] was so.
    pub(crate) const fn resume(rest: &'a [u8], term: Term, next: Seq) -> Self {
        Self { take: Take(rest), term, next }
    }

    /// How many bytes were not read yet.
    pub(crate) const fn left(&self) -> usize {
        self.take.0.len()
    }

    /// The term in force, and the seq of the next entry.
    pub(crate) const fn place(&self) -> (Term, Seq) {
        (self.term, self.next)
    }

    fn record(&mut self, tag: u8) -> Option<Record<'a>> {
        Some(match tag {
            CONFIGURATION => Record::Configuration(Arc::new(configuration::take(&mut self.take)?)),
            RESET => Record::Reset(self.take.start()?),
            TRIM => Record::Trim(Seq::new(self.take.u64()?)),
            COMPACT => Record::Compact(self.take.start()?),
            KNOWN => Record::Known,
            REPAIR => {
                (self.next, self.term) = (Seq::new(self.take.u64()?), Term::ZERO);
                Record::Repair(self.next)
            }
            TERM => {
                self.term = Term::new(self.take.varint()?);
                Record::Term
            }
            SUMMARY => Record::Summary(Box::new(summary::take(&mut self.take)?)),
            _ => Record::Entry(self.entry(tag)?),
        })
    }

    /// The next entry, past whatever is before it.
    #[inline]
    pub(crate) fn next_entry(&mut self) -> Option<Result<EntryRecord<'a>, Nonsense>> {
        loop {
            let tag = self.take.u8()?;
            let entry = if tag < ENTRY { None } else { self.entry(tag) };
            if let Some(entry) = entry {
                return Some(Ok(entry));
            }
            if tag >= ENTRY || self.record(tag).is_none() {
                self.take = Take(&[]);
                return Some(Err(Nonsense));
            }
        }
    }

    #[inline]
    fn entry(&mut self, tag: u8) -> Option<EntryRecord<'a>> {
        let kind = match tag & !ENDS_BATCH {
            16 => EntryKind::Payload,
            17 => EntryKind::Noop,
            18 => EntryKind::Configuration,
            _ => return None,
        };
        let length = usize::try_from(self.take.varint()?).ok()?;
        let payload = self.take.bytes(length)?;
        let id = EntryId::new(self.term, self.next);
        self.next = self.next.checked_add(1)?;
        Some(EntryRecord { id, kind, ends_batch: tag & ENDS_BATCH != 0, payload })
    }
}

impl<'a> Iterator for BodyReader<'a> {
    type Item = Option<Record<'a>>;

    fn next(&mut self) -> Option<Option<Record<'a>>> {
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
            let bytes: Vec<u8> =
                (0..length).map(|_| u8::try_from(rng.below(256)).unwrap()).collect();
            assert!(BodyReader::new(&bytes, Seq::MAX).count() <= 40);
        }
    }
}
