//! One log, many callers.
//!
//! A [`Log`] has one owner and its calls block. Here it gets a handle that anybody may clone: blocking threads
//! and async tasks, beside each other. What they want while the disk is busy becomes one write: 64 callers that
//! each wait for the disk cost it not much more than one. A caller that is alone waits for nobody, so it is as
//! fast as an owner; callers that were just told together are waited for, for not longer than a write takes.
//!
//! No async runtime is needed, and any will do. The rule for who writes is in `core` and `state`, for whom a group
//! waits in `gather`, what is written in `group`, where callers wait in `event`.

mod clock;
mod core;
mod event;
mod gather;
mod group;
mod pending;
mod queue;
mod state;
mod stream;
mod txn;
mod watch;

use std::{
    fmt,
    ops::{Range, RangeBounds},
    sync::Arc,
};

use bytes::Bytes;
use tinyraftplus_core::Seq;

pub(crate) use self::{core::guarded, watch::Watch};
use self::{
    core::{Core, QUEUE_BYTES_MAX},
    event::Outcome,
    queue::{What, group_bytes},
    txn::check,
};
pub use self::{
    pending::Pending,
    stream::EntryStream,
    txn::{Txn, TxnEntries},
};
use crate::{Entries, Log, LogEntry, LogError, LogStats, num::u64_of, timeout::Op};
#[cfg(doc)]
use crate::{LogExt, TimeoutLog};

/// A handle of a log, for any number of threads and tasks. Clones are handles of the same log.
///
/// The words are those of [`LogExt`]. A call takes its place among all calls at once, and gives a
/// [`Pending`]: a future that also has [`wait`](Pending::wait). Calls happen and are told in the order in
/// which they were made.
///
/// What is asked for while the disk is busy is written together. Callers that append again as soon as they are
/// told are written together, too: a group waits for those of the last one, if that pays. A call that is refused
/// takes no other with it. When a write fails for real, every call of its group is told so, with
/// [`Effect::Possible`](crate::Effect::Possible), and all later ones [`LogError::Poisoned`].
///
/// Up to 64 MiB may wait; beyond that, calls are refused with [`LogError::Busy`].
///
/// When the last handle is dropped, the log is closed; what was accepted is written first. Dropping waits for
/// that, unless a transaction is open or waits: then whoever ends the last one closes. Async code should use
/// [`SharedLog::close`] before.
///
/// ```
/// use tinyraftplus_log::{FsLog, LogOptions, SharedLog};
///
/// let dir = tempfile::tempdir()?;
/// let (log, _) = FsLog::open(dir.path(), "events", LogOptions::default())?;
/// let log = SharedLog::new(log);
/// std::thread::scope(|scope| {
///     for n in 0..4 {
///         let log = log.clone();
///         scope.spawn(move || log.append(format!("from thread {n}")).wait());
///     }
/// });
/// assert_eq!(log.end().get(), 4);
/// log.close().wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SharedLog {
    handle: Arc<Handle>,
}

/// Closes the log when the last one is gone.
struct Handle {
    core: Arc<Core>,
}

impl SharedLog {
    /// How many bytes may wait to be written, what a call costs beside its payloads included.
    pub const QUEUE_BYTES_MAX: u64 = QUEUE_BYTES_MAX;

    /// Handles for a log.
    pub fn new(log: impl Log) -> Self {
        Self { handle: Arc::new(Handle { core: Core::new(Box::new(log)) }) }
    }

    /// Adds one entry. Gives its seq once it is durable.
    ///
    /// # Errors
    ///
    /// If it is refused, or the write fails; see [`LogError::effect`].
    pub fn append(&self, payload: impl Into<Bytes>) -> Pending<Seq> {
        self.append_one(None, payload.into(), |_, outcome| match outcome {
            Outcome::Seqs(seqs) => seqs.start,
            Outcome::Done | Outcome::Granted(_) => Seq::MAX,
        })
    }

    /// Adds one entry, if `seq` comes next when it is this call's turn.
    ///
    /// # Errors
    ///
    /// [`LogError::WrongSeq`] if another does, else as for [`SharedLog::append`].
    pub fn append_at(&self, seq: Seq, payload: impl Into<Bytes>) -> Pending<()> {
        self.append_one(Some(seq), payload.into(), |_, _| ())
    }

    /// Adds several entries, all or none.
    ///
    /// # Errors
    ///
    /// [`LogError::Empty`] if there are none, else as for [`SharedLog::append`].
    #[doc(alias = "appendBatch")]
    pub fn append_batch<P: Into<Bytes>>(
        &self,
        payloads: impl IntoIterator<Item = P>,
    ) -> Pending<Range<Seq>> {
        self.append_many(None, payloads.into_iter().map(Into::into).collect())
    }

    /// Adds several entries, all or none, if `seq` comes next when it is this call's turn.
    ///
    /// # Errors
    ///
    /// [`LogError::WrongSeq`] if another does, [`LogError::Empty`] if there are none, else as for
    /// [`SharedLog::append`].
    pub fn append_batch_at<P: Into<Bytes>>(
        &self,
        seq: Seq,
        payloads: impl IntoIterator<Item = P>,
    ) -> Pending<Range<Seq>> {
        self.append_many(Some(seq), payloads.into_iter().map(Into::into).collect())
    }

    /// Keeps the entries up to this one and drops all after it; `None` drops all. If the log is shorter
    /// already, nothing happens.
    ///
    /// # Errors
    ///
    /// [`LogError::Compacted`] if the log begins later, else as for [`SharedLog::append`].
    pub fn trim(&self, keep: Option<Seq>) -> Pending<()> {
        self.call(Op::Trim, What::Trim(keep), |_, _| ())
    }

    /// Drops the entries before this one: the log begins here from now on. If it begins later already, nothing
    /// happens.
    ///
    /// # Errors
    ///
    /// [`LogError::Trimmed`] if the log ends before, [`LogError::OneFile`] if this kind of log can't give
    /// its oldest entries back, else as for [`SharedLog::append`].
    pub fn compact(&self, before: Seq) -> Pending<()> {
        self.call(Op::Compact, What::Compact(before), |_, _| ())
    }

    /// Begins a transaction, when all calls before this one are done. All calls after it wait until it ends.
    ///
    /// # Errors
    ///
    /// [`LogError::Closed`] or [`LogError::Poisoned`].
    #[doc(alias = "lock")]
    pub fn txn(&self) -> Pending<Txn> {
        self.call(Op::Txn, What::Txn, |core, outcome| match outcome {
            Outcome::Granted(base) => Txn::new(core, base),
            Outcome::Done | Outcome::Seqs(_) => unreachable!("only a transaction is granted"),
        })
    }

    /// Closes the log, when all calls before this one are done and no transaction is open: an open one can
    /// still be committed. Later calls say [`LogError::Closed`]. Closing again waits for the same.
    ///
    /// # Errors
    ///
    /// If the log can't be closed as it should; it is closed all the same, and nothing durable is lost.
    pub fn close(&self) -> Pending<()> {
        let core = &self.handle.core;
        match core.push_close() {
            Ok(Some(place)) => Pending::new(core, Ok(place), core.deadline(Op::Close), |_, _| ()),
            Ok(None) => Pending::known(core, Ok(Outcome::Done), |_, _| ()),
            Err(error) => Pending::known(core, Err(error), |_, _| ()),
        }
    }

    /// Whether calls are still accepted.
    #[doc(alias = "isOpen")]
    pub fn is_open(&self) -> bool {
        !self.handle.core.is_closing()
    }

    /// The first position.
    pub fn start(&self) -> Seq {
        self.bounds().start
    }

    /// The position after the newest durable entry.
    #[doc(alias = "seq")]
    pub fn end(&self) -> Seq {
        self.bounds().end
    }

    /// The positions of the durable entries, half-open. Waits for nobody.
    pub fn bounds(&self) -> Range<Seq> {
        self.handle.core.reader.bounds()
    }

    /// The newest durable entry. Waits for no writer; after a trim it is read from the disk.
    ///
    /// # Errors
    ///
    /// If it can't be read.
    pub fn head(&self) -> Result<Option<LogEntry>, LogError> {
        let core = &self.handle.core;
        loop {
            if core.watch.is_closed() {
                return Err(LogError::Closed);
            }
            let Range { start, end } = self.bounds();
            let Some(last) = end.before().filter(|&last| last >= start) else { return Ok(None) };
            if let Some(newest) = core.newest(last) {
                return Ok(Some(newest));
            }
            match core.reader.read(last, end, 0) {
                Ok(mut entries) => return Ok(entries.pop()),
                Err(LogError::Trimmed { .. } | LogError::Compacted { .. })
                    if self.bounds() != (start..end) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What the log has done and holds, as of its last write. Waits for nobody.
    pub fn stats(&self) -> LogStats {
        self.handle.core.stats()
    }

    /// The entries of a range, as of now: what is appended later is not among them. Reading blocks.
    ///
    /// Never holds up a writer. Ends with an error if the log is trimmed below its end meanwhile, or closed.
    #[doc(alias = "read")]
    pub fn iter(&self, range: impl RangeBounds<Seq>) -> Entries {
        let core = &self.handle.core;
        Entries::new(Arc::clone(&core.reader), range).watched(Arc::clone(&core.watch))
    }

    /// The entries of a range, as of now, for async code: like [`SharedLog::iter`], but another thread reads.
    pub fn stream(&self, range: impl RangeBounds<Seq>) -> EntryStream {
        EntryStream::new(&self.handle.core, self.iter(range))
    }

    fn append_one<T>(
        &self,
        at: Option<Seq>,
        payload: Bytes,
        finish: fn(&Arc<Core>, Outcome) -> T,
    ) -> Pending<T> {
        match self.check([&payload].into_iter()) {
            Ok(()) => self.call(Op::Append, What::Append { at, payload }, finish),
            Err(error) => Pending::known(&self.handle.core, Err(error), finish),
        }
    }

    fn append_many(&self, at: Option<Seq>, payloads: Vec<Bytes>) -> Pending<Range<Seq>> {
        let finish = |_: &Arc<Core>, outcome| match outcome {
            Outcome::Seqs(seqs) => seqs,
            Outcome::Done | Outcome::Granted(_) => Seq::MAX..Seq::MAX,
        };
        let checked =
            if payloads.is_empty() { Err(LogError::Empty) } else { self.check(payloads.iter()) };
        match checked {
            Ok(()) => self.call(Op::AppendBatch, What::Batch { at, payloads }, finish),
            Err(error) => Pending::known(&self.handle.core, Err(error), finish),
        }
    }

    /// Whether a batch is within the limits: such a call needs no turn to be refused.
    fn check<'a>(&self, payloads: impl Iterator<Item = &'a Bytes>) -> Result<(), LogError> {
        let limits = self.handle.core.limits;
        let (mut bytes, mut count) = (0_u64, 0);
        for payload in payloads {
            let size = u64_of(payload.len());
            check("an entry", size, limits.entry)?;
            (bytes, count) = (bytes.saturating_add(size), count + 1);
        }
        check("a batch", bytes, limits.batch)?;
        check("a group", group_bytes(bytes, count), limits.group)
    }

    fn call<T>(&self, op: Op, what: What, finish: fn(&Arc<Core>, Outcome) -> T) -> Pending<T> {
        let core = &self.handle.core;
        let deadline = core.deadline(op);
        Pending::new(core, core.push(what), deadline, finish)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.close_last();
    }
}

impl fmt::Debug for SharedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLog").field("bounds", &self.bounds()).finish_non_exhaustive()
    }
}
