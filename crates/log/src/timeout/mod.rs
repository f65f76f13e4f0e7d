//! A log whose calls end in time, even if the disk does not.
//!
//! A disk that hangs can't be cancelled: the kernel has the write, and may yet do it. What can be done is to
//! let the caller go. So the log lives on a thread of its own, and a caller waits there for its answer as long
//! as allowed. After that it is told [`LogError::Timeout`], and whether the call had begun: what never reached
//! the log never happens, what did may still happen, and is seen before anything that follows it.

mod read;
mod worker;

use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tinyraftplus_core::{EntryId, HardState, Identity, Restored, Seq};

use self::{
    read::TimedRead,
    worker::{Allowed, Worker},
};
#[cfg(doc)]
use crate::{Entries, SharedLog, Txn};
use crate::{Log, LogError, LogRead, LogStats, SnapshotStore, Unknown, Write};

/// What each kind of call may take. Those that are not set have the time of `default`; `commit` and `abort`
/// that of `txn`.
///
/// ```
/// use std::time::Duration;
/// use tinyraftplus_log::Timeouts;
///
/// let mut timeouts = Timeouts::default();
/// timeouts.open = Some(Duration::from_secs(60));
/// assert_eq!(timeouts.default, Duration::from_millis(1500));
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Timeouts {
    /// Whatever is not set below. Default 1500 ms.
    pub default: Duration,
    /// [`TimeoutLog::open`].
    pub open: Option<Duration>,
    /// Closing.
    pub close: Option<Duration>,
    /// Waiting for a transaction to begin.
    pub txn: Option<Duration>,
    /// Committing a transaction.
    pub commit: Option<Duration>,
    /// Undoing a transaction. It needs no disk here, and never takes long.
    pub abort: Option<Duration>,
    /// Appending one entry.
    pub append: Option<Duration>,
    /// Appending several.
    #[doc(alias = "appendBatch")]
    pub append_batch: Option<Duration>,
    /// Dropping the newest entries.
    pub trim: Option<Duration>,
    /// Dropping the oldest entries.
    pub compact: Option<Duration>,
    /// Reading, for each entry that an iterator gives.
    pub iter: Option<Duration>,
    /// [`TimeoutLog::destroy`].
    #[doc(alias = "del")]
    pub destroy: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::all(Duration::from_millis(1500))
    }
}

/// A kind of call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Op {
    Open,
    Close,
    Txn,
    Commit,
    Append,
    AppendBatch,
    Trim,
    Compact,
    Iter,
    Destroy,
    /// What has no time of its own.
    Other,
}

impl Op {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Close => "close",
            Self::Txn => "txn",
            Self::Commit => "commit",
            Self::Append => "append",
            Self::AppendBatch => "append_batch",
            Self::Trim => "trim",
            Self::Compact => "compact",
            Self::Iter => "iter",
            Self::Destroy => "destroy",
            Self::Other => "write",
        }
    }

    /// What a write does, as far as it has a name.
    const fn of(write: &Write) -> Self {
        match write.append.len() {
            0 if write.trim.is_some() => Self::Trim,
            0 if write.compact.is_some() => Self::Compact,
            0 => Self::Other,
            1 => Self::Append,
            _ => Self::AppendBatch,
        }
    }
}

impl Timeouts {
    /// The same for every kind of call.
    pub const fn all(default: Duration) -> Self {
        Self {
            default,
            open: None,
            close: None,
            txn: None,
            commit: None,
            abort: None,
            append: None,
            append_batch: None,
            trim: None,
            compact: None,
            iter: None,
            destroy: None,
        }
    }

    pub(crate) fn of(&self, op: Op) -> Duration {
        let own = match op {
            Op::Open => self.open,
            Op::Close => self.close,
            Op::Txn => self.txn,
            Op::Commit => self.commit.or(self.txn),
            Op::Append => self.append,
            Op::AppendBatch => self.append_batch,
            Op::Trim => self.trim,
            Op::Compact => self.compact,
            Op::Iter => self.iter,
            Op::Destroy => self.destroy,
            Op::Other => None,
        };
        own.unwrap_or(self.default)
    }

    /// For a group: the kind of call in it that may take longest.
    fn of_group(&self, group: &[Write]) -> Allowed {
        let longest = group.iter().map(Op::of).max_by_key(|&op| self.of(op));
        self.allowed(longest.unwrap_or(Op::Other))
    }

    fn allowed(&self, op: Op) -> Allowed {
        Allowed { op: op.name(), after: self.of(op) }
    }
}

/// A log of any kind whose calls end in time.
///
/// A call that takes longer than its [`Timeouts`] allow says [`LogError::Timeout`]. If it had begun, its
/// effect is [`Possible`](crate::Effect::Possible): it may still happen. The next call works as soon as the
/// disk does, and sees in [`Log::bounds`] what became of the late one.
///
/// In a [`SharedLog`] each call's time begins when it is made: waiting for its turn counts too, a call that is
/// given up before its turn never happens, and a transaction that is given up leaves the queue.
///
/// ```
/// use std::time::Duration;
/// use tinyraftplus_log::{FsLog, LogOptions, SharedLog, TimeoutLog, Timeouts};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().to_owned();
/// let timeouts = Timeouts::all(Duration::from_secs(10));
/// let (log, recovery) =
///     TimeoutLog::open(timeouts, move || FsLog::open(path, "events", LogOptions::default()))?;
/// assert!(recovery.created);
/// let log = SharedLog::new(log);
/// log.append("hello").wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TimeoutLog<L: Log> {
    worker: Worker<L>,
    known: Arc<Mutex<Known>>,
    reader: Arc<TimedRead>,
    timeouts: Timeouts,
    limits: Limits,
}

/// What does not change.
#[derive(Clone, Copy, Debug)]
struct Limits {
    identity: Identity,
    compacts: bool,
    group_bytes: u64,
    batch_bytes: u64,
    entry_bytes: u64,
}

/// What the log was like after its last call. Told before the call's own result, and before the next begins.
#[derive(Clone, Debug)]
struct Known {
    bounds: Range<Seq>,
    hard_state: HardState,
    last: Option<EntryId>,
    unknown: Unknown,
    stats: LogStats,
}

impl<L: Log> TimeoutLog<L> {
    /// Opens a log on a thread of its own. What `open` gives beside the log, a report of what recovery did, is
    /// handed on.
    ///
    /// # Errors
    ///
    /// [`LogError::Timeout`] if it takes too long: a log that opens later is closed at once. Else what `open`
    /// says.
    pub fn open<R: Send + 'static>(
        timeouts: Timeouts,
        open: impl FnOnce() -> Result<(L, R), LogError> + Send + 'static,
    ) -> Result<(Self, R), LogError> {
        let (log, report) = worker::run(timeouts.allowed(Op::Open), open)?;
        Ok((Self::new(timeouts, log)?, report))
    }

    /// Deletes a log: `destroy` runs on a thread of its own.
    ///
    /// # Errors
    ///
    /// [`LogError::Timeout`] if it takes too long; else what `destroy` says.
    #[doc(alias = "del")]
    pub fn destroy(
        timeouts: Timeouts,
        destroy: impl FnOnce() -> Result<(), LogError> + Send + 'static,
    ) -> Result<(), LogError> {
        worker::run(timeouts.allowed(Op::Destroy), destroy)
    }

    /// Puts an open log on a thread of its own.
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub fn new(timeouts: Timeouts, log: L) -> Result<Self, LogError> {
        let limits = Limits {
            identity: log.identity(),
            compacts: log.compacts(),
            group_bytes: log.group_bytes_max(),
            batch_bytes: log.batch_bytes_max(),
            entry_bytes: log.entry_bytes_max(),
        };
        let known = Arc::new(Mutex::new(Known::of(&log)));
        let reader = Arc::new(TimedRead::new(log.reader(), timeouts.allowed(Op::Iter)));
        let worker = Worker::start(log, timeouts.of(Op::Close))?;
        Ok(Self { worker, known, reader, timeouts, limits })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        look(&self.known)
    }

    /// Runs a call on the log's thread.
    fn call<T: Send + 'static>(
        &self,
        allowed: Option<Allowed>,
        call: impl FnOnce(&mut L) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let known = Arc::clone(&self.known);
        self.worker.call(allowed, move |log| {
            let result = call(log);
            let now = Known::of(log);
            *look(&known) = now;
            result
        })
    }
}

fn look(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    fn of(log: &impl Log) -> Self {
        Self {
            bounds: log.bounds(),
            hard_state: log.hard_state(),
            last: log.last(),
            unknown: log.unknown(),
            stats: log.stats(),
        }
    }
}

impl<L: Log> Log for TimeoutLog<L> {
    fn identity(&self) -> Identity {
        self.limits.identity
    }

    /// Waits for a call that is late: there is no other way to know.
    fn restored(&self) -> Restored {
        let restored = self.call(None, |log| Ok(log.restored()));
        restored.unwrap_or_else(|_| {
            // The log is gone: its code panicked, and every call that could fail says so.
            let known = self.known();
            Restored {
                identity: self.limits.identity,
                hard_state: known.hard_state,
                configuration: None,
                terms: tinyraftplus_core::Terms::empty(
                    known.bounds.end,
                    known.last.map(|last| last.term).unwrap_or_default(),
                ),
            }
        })
    }

    fn write(&mut self, group: &[Write]) -> Result<(), LogError> {
        let allowed = self.timeouts.of_group(group);
        let group = group.to_vec();
        self.call(Some(allowed), move |log| log.write(&group))
    }

    fn reader(&self) -> Arc<dyn LogRead> {
        Arc::clone(&self.reader) as Arc<dyn LogRead>
    }

    fn bounds(&self) -> Range<Seq> {
        self.known().bounds.clone()
    }

    fn hard_state(&self) -> HardState {
        self.known().hard_state
    }

    fn last(&self) -> Option<EntryId> {
        self.known().last
    }

    fn compacts(&self) -> bool {
        self.limits.compacts
    }

    fn group_bytes_max(&self) -> u64 {
        self.limits.group_bytes
    }

    fn batch_bytes_max(&self) -> u64 {
        self.limits.batch_bytes
    }

    fn entry_bytes_max(&self) -> u64 {
        self.limits.entry_bytes
    }

    fn timeouts(&self) -> Option<Timeouts> {
        Some(self.timeouts)
    }

    fn settle(&mut self) {
        // It fails only if the log is gone, and then there is nothing to wait for.
        drop(self.call(None, |log| {
            log.settle();
            Ok(())
        }));
    }

    fn unknown(&self) -> Unknown {
        self.known().unknown
    }

    fn stats(&self) -> LogStats {
        self.known().stats
    }

    /// The snapshots themselves have no time limit: whoever writes one has a thread for that.
    fn snapshots(&self) -> Result<SnapshotStore, LogError> {
        self.call(Some(self.timeouts.allowed(Op::Other)), |log| log.snapshots())
    }

    fn mark(&mut self) -> Result<(), LogError> {
        self.call(Some(self.timeouts.allowed(Op::Other)), L::mark)
    }

    fn close(&mut self) -> Result<(), LogError> {
        self.call(Some(self.timeouts.allowed(Op::Close)), L::close)
    }
}

impl<L: Log> fmt::Debug for TimeoutLog<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutLog").field("timeouts", &self.timeouts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in the original: commit has the time of a transaction, all others that of `default`.
    #[test]
    fn what_is_not_set_falls_back() {
        let mut timeouts = Timeouts::default();
        let all = [
            Op::Open,
            Op::Close,
            Op::Txn,
            Op::Commit,
            Op::Append,
            Op::AppendBatch,
            Op::Trim,
            Op::Compact,
            Op::Iter,
            Op::Destroy,
            Op::Other,
        ];
        assert!(all.iter().all(|&op| timeouts.of(op) == Duration::from_millis(1500)));
        let (txn, commit) = (Duration::from_millis(7), Duration::from_millis(8));
        timeouts.txn = Some(txn);
        assert_eq!((timeouts.of(Op::Txn), timeouts.of(Op::Commit)), (txn, txn));
        timeouts.commit = Some(commit);
        assert_eq!((timeouts.of(Op::Txn), timeouts.of(Op::Commit)), (txn, commit));
        assert_eq!(timeouts.of(Op::Append), Duration::from_millis(1500));
    }
}
