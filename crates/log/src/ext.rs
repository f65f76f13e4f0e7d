//! The everyday calls of a log that is used alone, without Raft.

use std::{
    fmt,
    ops::{Bound, Range, RangeBounds},
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use tinyraftplus_core::{EntryId, Seq, Term};

use crate::{EntryKind, Log, LogEntry, LogError, LogRead, Write, num::u64_of, shared::Watch};

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

    /// Drops the entries before this one: the log begins here from now on. If it begins later already, nothing
    /// happens.
    ///
    /// # Errors
    ///
    /// [`LogError::Trimmed`] if the log ends before, [`LogError::OneFile`] if this kind of log can't give
    /// its oldest entries back, else as for [`LogExt::append`].
    fn compact(&mut self, before: Seq) -> Result<(), LogError> {
        self.write(&[Write { compact: Some(before), ..Write::default() }])
    }

    /// The entries of a range, as of now: what is appended later is not among them.
    ///
    /// Never holds up a writer. Ends with an error if the log is trimmed below its end meanwhile, or closed.
    #[doc(alias = "read")]
    fn iter(&self, range: impl RangeBounds<Seq>) -> Entries {
        Entries::new(self.reader(), range)
    }
}

impl<L: Log + ?Sized> LogExt for L {}

/// Iterates over the entries that were in a range of a log when this was made.
///
/// It holds up nobody, and takes the memory of what it reads ahead. After an error it ends.
#[doc(alias = "iter")]
pub struct Entries {
    reader: Arc<dyn LogRead>,
    /// Says when to look again whether what was read ahead still holds.
    watch: Option<Arc<Watch>>,
    seen: u64,
    /// The log's count of drops when this was made.
    drops: u64,
    next: Seq,
    end: Seq,
    ahead: u64,
    ahead_max: u64,
    read: std::vec::IntoIter<LogEntry>,
}

impl Entries {
    pub(crate) fn new(reader: Arc<dyn LogRead>, range: impl RangeBounds<Seq>) -> Self {
        // Asked again if the log was trimmed in between: an end from before and a count from after would hide
        // that other entries have these seqs now.
        let mut drops = reader.drops();
        let bounds = loop {
            let bounds = reader.bounds();
            let now = reader.drops();
            if now == drops {
                break bounds;
            }
            drops = now;
        };
        let (next, end) = resolve(range, &bounds);
        Self {
            reader,
            watch: None,
            seen: 0,
            drops,
            next,
            end: end.min(bounds.end),
            ahead: READ_AHEAD_BYTES,
            ahead_max: READ_AHEAD_BYTES_MAX,
            read: Vec::new().into_iter(),
        }
    }

    /// Looks at `watch` before each entry, so that even what was read ahead ends with a trim or with closing.
    pub(crate) fn watched(mut self, watch: Arc<Watch>) -> Self {
        self.seen = watch.count();
        self.watch = Some(watch);
        self
    }

    /// How many bytes to read ahead at most. Default 4 MiB, reached step by step.
    #[doc(alias = "iterStepSize")]
    #[must_use]
    pub fn read_ahead_bytes(mut self, bytes: u64) -> Self {
        self.ahead_max = bytes;
        self.ahead = self.ahead.min(bytes);
        self
    }

    /// What can be said without reading: an entry that was read ahead, an error, or the end.
    pub(crate) fn at_hand(&mut self) -> Poll<Option<Result<LogEntry, LogError>>> {
        if let Err(error) = self.look_again() {
            return Poll::Ready(Some(Err(self.end_with(error))));
        }
        match self.read.next() {
            Some(entry) => Poll::Ready(Some(Ok(entry))),
            None if self.next >= self.end => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Whether there is nothing more to come.
    fn is_over(&self) -> bool {
        self.next >= self.end && self.read.as_slice().is_empty()
    }

    fn end_with(&mut self, error: LogError) -> LogError {
        self.next = self.end;
        self.read = Vec::new().into_iter();
        error
    }

    /// Whether entries were dropped, or the log closed, since it was last asked.
    fn look_again(&mut self) -> Result<(), LogError> {
        let Some(watch) = &self.watch else { return Ok(()) };
        let now = watch.count();
        if now == self.seen || self.is_over() {
            return Ok(());
        }
        if watch.is_closed() {
            return Err(LogError::Closed);
        }
        self.seen = now;
        self.check_kept()
    }

    fn check_kept(&self) -> Result<(), LogError> {
        let kept = self.reader.kept_since(self.drops);
        if kept < self.end {
            return Err(LogError::Trimmed { end: kept, got: self.next.max(kept) });
        }
        Ok(())
    }

    fn read_on(&mut self) -> Result<Option<LogEntry>, LogError> {
        if self.watch.as_ref().is_some_and(|watch| watch.is_closed()) {
            return Err(LogError::Closed);
        }
        let entries = self.reader.read(self.next, self.end, self.ahead)?;
        self.ahead = (self.ahead * 2).min(self.ahead_max);
        // Asked after reading: what was read may have come after a trim.
        self.check_kept()?;
        self.next = entries.last().map_or(self.end, |last| last.id.seq.after());
        self.read = entries.into_iter();
        Ok(self.read.next())
    }
}

impl Iterator for Entries {
    type Item = Result<LogEntry, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Poll::Ready(at_hand) = self.at_hand() {
            return at_hand;
        }
        self.read_on().map_err(|error| self.end_with(error)).transpose()
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries")
            .field("next", &self.next)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// The first and the end of a range, as far as the log goes.
pub(crate) fn resolve(range: impl RangeBounds<Seq>, bounds: &Range<Seq>) -> (Seq, Seq) {
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
    (next, end)
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
        let entries = Entries::new(Arc::clone(&reader) as Arc<dyn LogRead>, ..Seq::new(16 << 10));
        assert_eq!(entries.map(Result::unwrap).count(), 16 << 10);
        assert!(reader.0.load(Ordering::Relaxed) <= 8);
    }
}
