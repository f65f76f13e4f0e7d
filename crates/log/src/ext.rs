//! The everyday calls of a log that is used alone, without Raft.

use std::{
    ops::{Bound, Range, RangeBounds},
    sync::Arc,
};

use bytes::Bytes;
use tinyraftplus_core::{EntryId, Seq, Term};

use crate::{EntryKind, Log, LogEntry, LogError, LogRead, Write, num::u64_of};

/// How much an iterator reads at first, and twice as much each time.
///
/// A large batch is one frame, which is read and verified whole for any part of it: reading it in equal parts
/// would take time as its length squared.
const READ_AHEAD_BYTES: u64 = 256 << 10;
/// How much it reads at a time, at most.
const READ_AHEAD_BYTES_MAX: u64 = 4 << 20;

/// The everyday calls of a log that is used alone. Each returns when it is durable.
///
/// ```
/// use tinyraftplus_log::{FsLog, LogExt, LogOptions};
///
/// let dir = tempfile::tempdir()?;
/// let (mut log, _) = FsLog::open(dir.path(), "events", LogOptions::default())?;
/// let seq = log.append("hello")?;
/// log.append_batch(["all", "or nothing"])?;
/// let texts: Vec<_> = log.iter(seq..).map(|entry| Ok(entry?.payload)).collect::<Result<_, tinyraftplus_log::LogError>>()?;
/// assert_eq!(texts, ["hello", "all", "or nothing"]);
/// log.trim(Some(seq))?;
/// assert_eq!(log.head()?.map(|entry| entry.payload), Some("hello".into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait LogExt: Log {
    /// The first position.
    fn start(&self) -> Seq {
        self.bounds().start
    }

    /// The position after the last entry.
    fn end(&self) -> Seq {
        self.bounds().end
    }

    /// The newest entry.
    ///
    /// # Errors
    ///
    /// If it can't be read.
    fn head(&self) -> Result<Option<LogEntry>, LogError> {
        let Range { start, end } = self.bounds();
        match end.before().filter(|&last| last >= start) {
            Some(last) => Ok(self.reader().read(last, end, 0)?.pop()),
            None => Ok(None),
        }
    }

    /// Adds one entry.
    ///
    /// # Errors
    ///
    /// If it is refused, or the write fails; see [`LogError::effect`].
    fn append(&mut self, payload: impl Into<Bytes>) -> Result<Seq, LogError> {
        self.append_batch([payload]).map(|seqs| seqs.start)
    }

    /// Adds one entry, if `seq` comes next.
    ///
    /// # Errors
    ///
    /// [`LogError::WrongSeq`] if another does, else as for [`LogExt::append`].
    fn append_at(&mut self, seq: Seq, payload: impl Into<Bytes>) -> Result<(), LogError> {
        self.append_batch_at(seq, [payload]).map(drop)
    }

    /// Adds several entries, all or none.
    ///
    /// # Errors
    ///
    /// [`LogError::Empty`] if there are none, else as for [`LogExt::append`].
    #[doc(alias = "appendBatch")]
    fn append_batch<P: Into<Bytes>>(
        &mut self,
        payloads: impl IntoIterator<Item = P>,
    ) -> Result<Range<Seq>, LogError> {
        let start = self.end();
        self.append_batch_at(start, payloads)
    }

    /// Adds several entries, all or none, if `seq` comes next.
    ///
    /// # Errors
    ///
    /// [`LogError::WrongSeq`] if another does, [`LogError::Empty`] if there are none, else as for
    /// [`LogExt::append`].
    fn append_batch_at<P: Into<Bytes>>(
        &mut self,
        seq: Seq,
        payloads: impl IntoIterator<Item = P>,
    ) -> Result<Range<Seq>, LogError> {
        let term = self.hard_state().term.max(self.last().map_or(Term::ZERO, |last| last.term));
        let mut append = Vec::new();
        for payload in payloads {
            let seq = seq.checked_add(u64_of(append.len())).ok_or(LogError::Full)?;
            let id = EntryId::new(term, seq);
            append.push(LogEntry {
                id,
                kind: EntryKind::Payload,
                ends_batch: false,
                payload: payload.into(),
            });
        }
        append.last_mut().ok_or(LogError::Empty)?.ends_batch = true;
        let end = seq.checked_add(u64_of(append.len())).ok_or(LogError::Full)?;
        self.write(&[Write { append, ..Write::default() }])?;
        Ok(seq..end)
    }

    /// Keeps the entries up to this one and drops all after it; `None` drops all. If the log is shorter
    /// already, nothing happens.
    ///
    /// # Errors
    ///
    /// [`LogError::Compacted`] if the log begins later, else as for [`LogExt::append`].
    fn trim(&mut self, keep: Option<Seq>) -> Result<(), LogError> {
        let end = keep.map_or_else(|| self.start(), Seq::after);
        if keep.is_some_and(|keep| keep < self.start()) {
            return Err(LogError::Compacted { start: self.start(), got: keep.unwrap_or_default() });
        }
        self.write(&[Write { trim: Some(end), ..Write::default() }])
    }

    /// The entries of a range, as of now: what is appended later is not among them.
    ///
    /// Never holds up a writer. Ends with an error if the log is trimmed below its end meanwhile, or closed.
    #[doc(alias = "read")]
    fn iter(&self, range: impl RangeBounds<Seq>) -> Entries {
        let bounds = self.bounds();
        let next = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before.after(),
            Bound::Unbounded => bounds.start,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.after(),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => bounds.end,
        };
        let reader = self.reader();
        let drops = reader.drops();
        let end = end.min(bounds.end);
        let ahead = READ_AHEAD_BYTES;
        Entries { reader, drops, next, end, ahead, read: Vec::new().into_iter() }
    }
}

impl<L: Log + ?Sized> LogExt for L {}

/// Iterates over entries of a log, reading ahead a little.
pub struct Entries {
    reader: Arc<dyn LogRead>,
    /// The log's count of drops when this was made.
    drops: u64,
    next: Seq,
    end: Seq,
    ahead: u64,
    read: std::vec::IntoIter<LogEntry>,
}

impl Entries {
    fn read_on(&mut self) -> Result<Option<LogEntry>, LogError> {
        if self.next >= self.end {
            return Ok(None);
        }
        let entries = self.reader.read(self.next, self.end, self.ahead)?;
        self.ahead = (self.ahead * 2).min(READ_AHEAD_BYTES_MAX);
        // Asked after reading: what was read may have come after a trim.
        let kept = self.reader.kept_since(self.drops);
        if kept < self.end {
            return Err(LogError::Trimmed { end: kept, got: self.next.max(kept) });
        }
        self.next = entries.last().map_or(self.end, |last| last.id.seq.after());
        self.read = entries.into_iter();
        Ok(self.read.next())
    }
}

impl Iterator for Entries {
    type Item = Result<LogEntry, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(entry) = self.read.next() {
            return Some(Ok(entry));
        }
        let result = self.read_on();
        if result.is_err() {
            self.next = self.end;
        }
        result.transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Counts what is read.
    struct Counting(AtomicU64);

    impl LogRead for Counting {
        fn read(&self, start: Seq, end: Seq, bytes_max: u64) -> Result<Vec<LogEntry>, LogError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let payload = Bytes::from_static(&[7; 1024]);
            Ok((start.get()..end.get().min(start.get() + bytes_max / 1024))
                .map(|seq| LogEntry {
                    id: EntryId::new(Term::new(1), Seq::new(seq)),
                    kind: EntryKind::Payload,
                    ends_batch: true,
                    payload: payload.clone(),
                })
                .collect())
        }

        fn bounds(&self) -> Range<Seq> {
            Seq::ZERO..Seq::MAX
        }

        fn drops(&self) -> u64 {
            0
        }

        fn kept_since(&self, _: u64) -> Seq {
            Seq::MAX
        }
    }

    /// A batch of 16 MiB is one frame. Fails if it is read in equal small parts.
    #[test]
    fn a_large_batch_is_not_read_over_and_over() {
        let reader = Arc::new(Counting(AtomicU64::new(0)));
        let entries = Entries {
            reader: Arc::clone(&reader) as Arc<dyn LogRead>,
            drops: 0,
            next: Seq::ZERO,
            end: Seq::new(16 << 10),
            ahead: READ_AHEAD_BYTES,
            read: Vec::new().into_iter(),
        };
        assert_eq!(entries.map(Result::unwrap).count(), 16 << 10);
        assert!(reader.0.load(Ordering::Relaxed) <= 8);
    }
}
