//! A transaction: everything in it happens at once or never.

use std::{
    fmt,
    ops::{Range, RangeBounds},
    sync::Arc,
};

use bytes::Bytes;
use tinyraftplus_core::{EntryId, Seq};

use crate::{
    Entries, EntryKind, LogEntry, LogError, Pending, Write,
    ext::resolve,
    num::{u64_of, usize_of},
    shared::{
        core::Core,
        event::{Base, Outcome},
        queue::group_bytes,
    },
    timeout::Op,
};

/// A transaction on a [`SharedLog`](crate::SharedLog). While it is open, all other calls wait.
///
/// What it does is seen by itself only, until it is committed: then it is one write, so after a crash all of
/// it is there or nothing. Dropping it undoes everything, its trims too. A call that is refused changes
/// nothing, and the next one works.
///
/// ```
/// use tinyraftplus_log::{LogOptions, MemLog, SharedLog};
///
/// let log = SharedLog::new(MemLog::new(LogOptions::default())?);
/// log.append_batch(["a", "b", "wrong"]).wait()?;
/// let mut txn = log.txn().wait()?;
/// txn.trim(Some(log.start().after()))?;
/// txn.append("c")?;
/// assert_eq!(log.head()?.map(|entry| entry.payload), Some("wrong".into()));
/// txn.commit().wait()?;
/// assert_eq!(log.head()?.map(|entry| entry.payload), Some("c".into()));
/// # Ok::<(), tinyraftplus_log::LogError>(())
/// ```
///
/// It ends once: what the original refuses when it runs does not compile here.
///
/// ```compile_fail
/// # fn twice(txn: tinyraftplus_log::Txn) {
/// txn.commit();
/// txn.abort();
/// # }
/// ```
#[must_use = "dropping a transaction undoes it"]
pub struct Txn {
    /// `None` once it ended.
    core: Option<Arc<Core>>,
    base: Base,
    /// Where what is kept of the log ends.
    kept: Seq,
    /// What was added after it. Shared with iterators.
    own: Arc<Vec<LogEntry>>,
    /// How many bytes of payload that is.
    bytes: u64,
}

impl Txn {
    pub(crate) fn new(core: &Arc<Core>, base: Base) -> Self {
        let kept = base.bounds.end;
        Self { core: Some(Arc::clone(core)), base, kept, own: Arc::default(), bytes: 0 }
    }

    /// The first position.
    pub const fn start(&self) -> Seq {
        self.base.bounds.start
    }

    /// The position after the newest entry, its own work included.
    #[doc(alias = "seq")]
    pub fn end(&self) -> Seq {
        // Appends are refused before this could be more than there is.
        self.kept.checked_add(u64_of(self.own.len())).unwrap_or(Seq::MAX)
    }

    /// The newest entry, its own included.
    ///
    /// # Errors
    ///
    /// If it can't be read.
    pub fn head(&self) -> Result<Option<LogEntry>, LogError> {
        if let Some(last) = self.own.last() {
            return Ok(Some(last.clone()));
        }
        match self.kept.before().filter(|&last| last >= self.start()) {
            Some(last) => Ok(self.core()?.reader.read(last, self.kept, 0)?.pop()),
            None => Ok(None),
        }
    }

    /// Adds one entry.
    ///
    /// # Errors
    ///
    /// [`LogError::TooLarge`] if it is over a limit, its own or the transaction's, [`LogError::Full`] if no
    /// position is left.
    pub fn append(&mut self, payload: impl Into<Bytes>) -> Result<Seq, LogError> {
        self.append_batch([payload]).map(|seqs| seqs.start)
    }

    /// Adds one entry, if `seq` comes next.
    ///
    /// # Errors
    ///
    /// [`LogError::WrongSeq`] if another does, else as for [`Txn::append`].
    pub fn append_at(&mut self, seq: Seq, payload: impl Into<Bytes>) -> Result<(), LogError> {
        self.append_batch_at(seq, [payload]).map(drop)
    }

    /// Adds several entries, all or none.
    ///
    /// # Errors
    ///
    /// [`LogError::Empty`] if there are none, else as for [`Txn::append`].
    #[doc(alias = "appendBatch")]
    pub fn append_batch<P: Into<Bytes>>(
        &mut self,
        payloads: impl IntoIterator<Item = P>,
    ) -> Result<Range<Seq>, LogError> {
        self.append_batch_at(self.end(), payloads)
    }

    /// Adds several entries, all or none, if `seq` comes next.
    ///
    /// # Errors
    ///
    /// [`LogError::WrongSeq`] if another does, [`LogError::Empty`] if there are none, else as for
    /// [`Txn::append`].
    pub fn append_batch_at<P: Into<Bytes>>(
        &mut self,
        seq: Seq,
        payloads: impl IntoIterator<Item = P>,
    ) -> Result<Range<Seq>, LogError> {
        let limits = self.core()?.limits;
        let start = self.end();
        if seq != start {
            return Err(LogError::WrongSeq { expected: start, got: seq });
        }
        let (mut added, mut bytes) = (Vec::new(), self.bytes);
        for payload in payloads {
            let payload = payload.into();
            let size = u64_of(payload.len());
            check("an entry", size, limits.entry)?;
            bytes = bytes.saturating_add(size);
            check("a transaction", bytes, limits.batch)?;
            let count = u64_of(self.own.len() + added.len() + 1);
            check("a transaction", group_bytes(bytes, count), limits.group)?;
            let seq = start.checked_add(u64_of(added.len())).filter(|&seq| seq < Seq::MAX);
            let id = EntryId::new(self.base.term, seq.ok_or(LogError::Full)?);
            added.push(LogEntry { id, kind: EntryKind::Payload, ends_batch: false, payload });
        }
        added.last_mut().ok_or(LogError::Empty)?.ends_batch = true;
        self.bytes = bytes;
        Arc::make_mut(&mut self.own).append(&mut added);
        Ok(start..self.end())
    }

    /// Keeps the entries up to this one and drops all after it; `None` drops all. If there are no more
    /// already, nothing happens.
    ///
    /// # Errors
    ///
    /// [`LogError::Compacted`] if the log begins later.
    pub fn trim(&mut self, keep: Option<Seq>) -> Result<(), LogError> {
        let start = self.start();
        if let Some(got) = keep.filter(|&keep| keep < start) {
            return Err(LogError::Compacted { start, got });
        }
        let end = keep.map_or(start, Seq::after);
        if end >= self.end() {
            return Ok(());
        }
        let own = Arc::make_mut(&mut self.own);
        let left = usize_of(end.since(self.kept)).min(own.len());
        self.bytes -= own.drain(left..).map(|entry| u64_of(entry.payload.len())).sum::<u64>();
        if let Some(last) = own.last_mut() {
            // What is left of a batch of its own is a batch.
            last.ends_batch = true;
        }
        self.kept = self.kept.min(end);
        Ok(())
    }

    /// The entries of a range, as of now, its own included.
    #[doc(alias = "read")]
    pub fn iter(&self, range: impl RangeBounds<Seq>) -> TxnEntries {
        let (next, end) = resolve(range, &(self.start()..self.end()));
        let end = end.min(self.end());
        let own = usize_of(next.since(self.kept)).min(self.own.len())
            ..usize_of(end.since(self.kept)).min(self.own.len());
        let base = self.core.as_ref().map(|core| {
            Entries::new(Arc::clone(&core.reader), next..end.min(self.kept))
                .watched(Arc::clone(&core.watch))
        });
        TxnEntries { base, own: Arc::clone(&self.own), left: own }
    }

    /// Makes all of it durable, with one write. It takes its place before all calls that wait.
    ///
    /// # Errors
    ///
    /// If the write fails; see [`LogError::effect`].
    pub fn commit(mut self) -> Pending<()> {
        // `None` only once it ended, and this ends it.
        let Some(core) = self.core.take() else { unreachable!("a transaction ends once") };
        let trim = (self.kept < self.base.bounds.end).then_some(self.kept);
        let append = Arc::unwrap_or_clone(std::mem::take(&mut self.own));
        let deadline = core.deadline(Op::Commit);
        let place = core.push_commit(Write { trim, append, ..Write::default() });
        Pending::new(&core, place, deadline, |_, _: Outcome| ())
    }

    /// Undoes all of it, as dropping does.
    #[doc(alias = "rollback")]
    pub fn abort(self) {}

    fn core(&self) -> Result<&Arc<Core>, LogError> {
        self.core.as_ref().ok_or(LogError::Closed)
    }
}

impl Drop for Txn {
    fn drop(&mut self) {
        if let Some(core) = self.core.take() {
            core.end_txn();
        }
    }
}

impl fmt::Debug for Txn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Txn")
            .field("start", &self.start())
            .field("kept", &self.kept)
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}

/// Whether something is within its limit.
pub(crate) const fn check(what: &'static str, bytes: u64, limit: u64) -> Result<(), LogError> {
    if bytes > limit { Err(LogError::TooLarge { what, bytes, limit }) } else { Ok(()) }
}

/// Iterates over what a transaction saw: the log's entries, then its own.
#[derive(Debug)]
pub struct TxnEntries {
    /// `None` once it is through.
    base: Option<Entries>,
    own: Arc<Vec<LogEntry>>,
    left: Range<usize>,
}

impl Iterator for TxnEntries {
    type Item = Result<LogEntry, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.base.as_mut().and_then(Iterator::next) {
            Some(Ok(entry)) => Some(Ok(entry)),
            Some(Err(error)) => {
                (self.base, self.left) = (None, 0..0);
                Some(Err(error))
            }
            None => {
                self.base = None;
                self.left.next().and_then(|at| self.own.get(at)).cloned().map(Ok)
            }
        }
    }
}
