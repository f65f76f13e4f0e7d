//! What a log is: the words of its interface.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use tinyraftplus_core::{Configurations, EntryId, HardState, Identity, Restored, Seq, Term};

use crate::{LogError, SnapshotStore, Timeouts, Unknown};
#[cfg(doc)]
use crate::{LogExt, SharedLog, TimeoutLog};

/// What an entry is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EntryKind {
    /// A user's bytes; may be empty.
    Payload,
    /// A new leader's first entry. Has no payload.
    Noop,
    /// A configuration of the cluster; [`decode_configuration`](crate::decode_configuration) reads it.
    Configuration,
}

/// One position of a log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogEntry {
    /// Its position and term.
    pub id: EntryId,
    /// What it is for.
    pub kind: EntryKind,
    /// Whether it is the last of its batch.
    pub ends_batch: bool,
    /// Its bytes.
    pub payload: Bytes,
}

/// Where a log begins anew, after a snapshot was installed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reset {
    /// The first position from now on.
    pub start: Seq,
    /// The term of the entry before it; 0 if there is none.
    pub before: Term,
}

/// One all-or-nothing change of a log. Happens in this order: hard state, configuration, reset, trim, compact,
/// repair, append.
#[derive(Clone, Debug, Default)]
pub struct Write {
    /// The term and vote from now on.
    pub hard_state: Option<HardState>,
    /// The configurations to remember from now on. Takes no seq: an entry that is one is among `append`.
    pub configuration: Option<Arc<Configurations>>,
    /// Forget all entries and begin anew.
    pub reset: Option<Reset>,
    /// Drop this position and everything after it. Past the end it does nothing.
    pub trim: Option<Seq>,
    /// Drop everything before this position: the log starts here from now on. At or before the start it does
    /// nothing.
    pub compact: Option<Seq>,
    /// Put these in the place of damaged entries: one after the other, with the seqs and terms that they have in
    /// the log. For a seq the newest repair counts; nothing is overwritten.
    pub repair: Vec<LogEntry>,
    /// What damage hid from the log when it was opened ([`Recovery::unknown`](crate::Recovery)) is known again:
    /// somebody else knows the end, or `configuration` is what is in force.
    pub known: bool,
    /// Then add these: whole batches, from the end on.
    pub append: Vec<LogEntry>,
}

/// What a log has done and holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogStats {
    /// How many entries it holds.
    pub entries: u64,
    /// How many bytes its files have, space kept ahead of the writer included.
    pub bytes: u64,
    /// How many files those are.
    pub segments: u64,
    /// The position after the last durable entry.
    pub end: Seq,
    /// How many durable writes it made since it was opened.
    pub syncs: u64,
    /// How many bytes of memory the index takes.
    pub index_bytes: u64,
}

/// A durable log. Calls block until the disk is done; one writer owns it.
///
/// For use without Raft, [`LogExt`] has the everyday calls.
pub trait Log: Send + 'static {
    /// Which log this is; drawn when it was created.
    fn identity(&self) -> Identity;

    /// What is durable now: all that a node remembers across a restart.
    fn restored(&self) -> Restored;

    /// Makes a whole group durable with one write: all of it or, if the process or the power fails, none.
    ///
    /// # Errors
    ///
    /// A refused group changes nothing, and the next call works. After [`LogError::WriteFailed`] nobody knows
    /// what is on the disk, and every later call says [`LogError::Poisoned`].
    fn write(&mut self, group: &[Write]) -> Result<(), LogError>;

    /// A handle that reads what is durable, from any thread, without waiting for the writer.
    fn reader(&self) -> Arc<dyn LogRead>;

    /// The positions of the entries, half-open.
    fn bounds(&self) -> Range<Seq>;

    /// The term and vote.
    fn hard_state(&self) -> HardState;

    /// The newest entry, or the one before the start if its term is known.
    fn last(&self) -> Option<EntryId>;

    /// Whether calls only change memory: then they may be made where nothing may block. Such a log never says
    /// [`LogError::NoSpace`].
    fn is_instant(&self) -> bool {
        false
    }

    /// Whether it can give its oldest entries back: one that can't says [`LogError::OneFile`].
    fn compacts(&self) -> bool {
        true
    }

    /// How many bytes one group may take: its payloads and configurations, up to 32 bytes more for each entry,
    /// and 1 KiB more for each write. A larger group is refused; split it between writes.
    fn group_bytes_max(&self) -> u64 {
        u64::MAX
    }

    /// How many bytes of payload a batch may have. A larger one is refused.
    fn batch_bytes_max(&self) -> u64 {
        u64::MAX
    }

    /// How many bytes of payload an entry may have. A larger one is refused.
    fn entry_bytes_max(&self) -> u64 {
        u64::MAX
    }

    /// What each call may take, if there is a limit, as there is for a [`TimeoutLog`]. A [`SharedLog`] keeps
    /// to it too, waiting in its queue included.
    fn timeouts(&self) -> Option<Timeouts> {
        None
    }

    /// Waits, however long it takes, until a call that was given up with [`LogError::Timeout`] is over.
    ///
    /// Afterwards [`Log::bounds`] says what became of it.
    fn settle(&mut self) {}

    /// What damage has hidden, and nobody has said to be [known](Write::known) again.
    fn unknown(&self) -> Unknown {
        Unknown::NOTHING
    }

    /// What it has done and holds.
    fn stats(&self) -> LogStats;

    /// The snapshots that lie beside it. Reading and writing them needs no log, and keeps nobody from using it.
    ///
    /// # Errors
    ///
    /// [`LogError::Unsupported`] from a kind of log that has none, [`LogError::ForeignSnapshot`] if there is one of
    /// another log, [`LogError::WrongKey`] and such as when a log is opened, [`LogError::Closed`].
    fn snapshots(&self) -> Result<SnapshotStore, LogError> {
        Err(LogError::Unsupported("snapshots beside this kind of log"))
    }

    /// Leaves a mark that everything so far is durable, without waiting for it: call it when idle.
    ///
    /// With it, damage to the newest entries is told from a write that never finished.
    ///
    /// # Errors
    ///
    /// As for [`Log::write`].
    fn mark(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    /// Leaves a durable mark and gives the lock back. The second time it does nothing.
    ///
    /// # Errors
    ///
    /// If the mark can't be written; the log is closed all the same, and nothing durable is lost.
    fn close(&mut self) -> Result<(), LogError>;
}

/// Reads what is durable.
pub trait LogRead: Send + Sync {
    /// The entries from `start` on and before `end`: at least one if `start < end`, then as many as have
    /// together at most `bytes_max` bytes of payload, and up to a damaged one.
    ///
    /// # Errors
    ///
    /// If an entry of the range is not in the log (any more), or the bytes of the first are damaged.
    fn read(&self, start: Seq, end: Seq, bytes_max: u64) -> Result<Vec<LogEntry>, LogError>;

    /// The positions that can be read now, half-open.
    fn bounds(&self) -> Range<Seq>;

    /// How often entries were dropped, by a trim or a reset.
    fn drops(&self) -> u64;

    /// Entries before this are still those that were there when [`LogRead::drops`] was `drops`.
    fn kept_since(&self, drops: u64) -> Seq;
}
