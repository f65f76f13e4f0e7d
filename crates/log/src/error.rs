//! What can go wrong with a log, and whether anything happened.

use std::{io, path::PathBuf, time::Duration};

use tinyraftplus_core::{Identity, Seq, Term};

use crate::{EncoderError, SnapshotId};

/// Whether a call that failed may nevertheless have changed the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Nothing happened, and never will.
    None,
    /// The write may or may not be there after a restart.
    Possible,
}

/// Why a call on a log failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The operating system refused; nothing was changed.
    #[error("can't {op} {}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A write or its sync failed: nobody knows what is on the disk. The log accepts no more.
    #[error("can't {op} {}; what was being written may or may not be there, so the log must be opened again", path.display())]
    WriteFailed {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Bytes that were durable once are not what was written.
    #[error("{} is corrupt at byte {offset}{}: {what}", path.display(), seq.map(|seq| format!(" (seq {seq})")).unwrap_or_default())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// The first entry concerned, as far as it is known.
        seq: Option<Seq>,
        /// What is wrong.
        what: &'static str,
    },
    /// Somebody has the log open, in this process or another.
    #[error("{} is locked: the log is open elsewhere; close it there first", .0.display())]
    Locked(PathBuf),
    /// An earlier write failed: nobody knows what is on the disk.
    #[error("the log has failed to write before; open it again to find out what is on the disk")]
    Poisoned,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// The file was written by a newer version of this library.
    #[error("{} has format {found}, this version knows formats up to {newest_known}; use a newer one", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The format of the file.
        found: u16,
        /// The newest format known.
        newest_known: u16,
    },
    /// The file is something else; it is left alone.
    #[error("{} is not a log of ours", .0.display())]
    NotALog(PathBuf),
    /// The name can't be part of a file name.
    #[error(
        "{0:?} can't name a log: use 1 to 128 bytes without slashes or control characters, not beginning with a dot"
    )]
    BadName(String),
    /// Options that do not fit each other.
    #[error("bad log options: {0}")]
    BadOptions(&'static str),
    /// An entry does not follow the one before it.
    #[error("the next seq is {expected}, not {got}")]
    WrongSeq {
        /// The seq that comes next.
        expected: Seq,
        /// The seq that was given.
        got: Seq,
    },
    /// A term went down along the log, or a stored term or vote would be taken back.
    #[error(
        "term {got} can't follow term {newest}: terms never go down, and a vote is never changed within its term"
    )]
    WrongTerm {
        /// The newest term so far.
        newest: Term,
        /// The term that was given.
        got: Term,
    },
    /// The last entry of a write does not end its batch.
    #[error("seq {last} does not end its batch; a batch is written whole")]
    BatchSplit {
        /// The last entry of the write.
        last: Seq,
    },
    /// A batch has no entries.
    #[error("a batch needs at least one entry")]
    Empty,
    /// Something is over its limit.
    #[error("{what} of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The log has no position left.
    #[error("no positions are left after seq {}", Seq::MAX.get() - 1)]
    Full,
    /// The disk is full. Nothing was written; votes and trims still are.
    #[error("no space left for {}", path.display())]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The log begins later: those entries were compacted, or never there.
    #[error("seq {got} is before the start of the log, {start}")]
    Compacted {
        /// The start of the log.
        start: Seq,
        /// The seq that was asked for.
        got: Seq,
    },
    /// The log ends earlier: those entries were trimmed, or never there.
    #[error("seq {got} is not in the log, which ends at {end}")]
    Trimmed {
        /// The end of the log.
        end: Seq,
        /// The seq that was asked for.
        got: Seq,
    },
    /// A log in one file can't give its oldest entries back to the disk.
    #[error("{} is a log in one file and can't be compacted; use a MultiFsLog", .0.display())]
    OneFile(PathBuf),
    /// The files of a log are not all there.
    #[error("{} is missing: the segment before or after it needs it", .0.display())]
    SegmentMissing(PathBuf),
    /// There is a log of this name, and it is of the other kind.
    #[error("{} is {found}, and was to be opened as {wanted}", path.display())]
    OtherKind {
        /// One of its files.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What it should have been.
        wanted: &'static str,
    },
    /// The log was written with another encoder.
    #[error("{} was written with encoder {found}, and was to be opened with encoder {given}", path.display())]
    WrongEncoder {
        /// The file.
        path: PathBuf,
        /// The id of the encoder that wrote it.
        found: u8,
        /// The id of the encoder in the options.
        given: u8,
    },
    /// The log was written with another key.
    #[error("{} was encrypted with another key", .0.display())]
    WrongKey(PathBuf),
    /// An encoder refused. Nothing was written.
    #[error("the encoder failed to {op}")]
    Encoder {
        /// What it was to do.
        op: &'static str,
        /// What it said.
        source: EncoderError,
    },
    /// Too much waits to be written. Nothing happened; try again when earlier calls are done.
    #[error("{queued} bytes wait to be written, and {limit} may; wait for earlier calls first")]
    Busy {
        /// How many bytes wait.
        queued: u64,
        /// How many may.
        limit: u64,
    },
    /// The code of a log panicked: nobody knows what it did. The log accepts no more.
    #[error(
        "the log panicked in {op}: {message}; what was being written may or may not be there, so the log must be opened again"
    )]
    Panicked {
        /// What was being done.
        op: &'static str,
        /// What it said.
        message: String,
    },
    /// It took longer than allowed.
    #[error("{op} took longer than {} ms; {}", after.as_millis(), match effect {
        Effect::None => "it never began",
        Effect::Possible => "it may still happen",
    })]
    Timeout {
        /// What was being done.
        op: &'static str,
        /// What was allowed.
        after: Duration,
        /// Whether it may still change the log.
        effect: Effect,
    },
    /// A repair is of another entry than the one that was there.
    #[error(
        "seq {seq} can't be repaired with an entry of term {got}: the log had one of another term there"
    )]
    BadRepair {
        /// The position.
        seq: Seq,
        /// The term that was given.
        got: Term,
    },
    /// Bytes of a snapshot are not what was written. The log itself is as good as it was.
    #[error("{} is corrupt at byte {offset}: {what}; take another snapshot, or get one from another node", path.display())]
    SnapshotCorrupt {
        /// Its file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A snapshot lies beside a log that it does not belong to.
    #[error("{} is a snapshot of log {found}, not of log {log} beside it; move it away", path.display())]
    ForeignSnapshot {
        /// Its file.
        path: PathBuf,
        /// The log that it belongs to.
        found: Identity,
        /// The log that was opened.
        log: Identity,
    },
    /// There is no such snapshot, or it is not complete.
    #[error("there is no complete snapshot {0}")]
    SnapshotMissing(SnapshotId),
    /// Somebody writes this snapshot.
    #[error("snapshot {0} is being written already; finish or drop that first")]
    SnapshotBusy(SnapshotId),
    /// What should become a snapshot does not fit together. Nothing of it counts.
    #[error("bad snapshot: {0}")]
    BadSnapshot(&'static str),
    /// A configuration holds something that this version can't store.
    #[error("this version can't store {0}")]
    Unsupported(&'static str),
}

impl LogError {
    /// Whether the log is of no more use as it is. After any other error it works on.
    pub const fn is_fatal(&self) -> bool {
        match self {
            Self::WriteFailed { .. }
            | Self::Panicked { .. }
            | Self::Corrupt { .. }
            | Self::Poisoned
            | Self::Closed
            | Self::NewerFormat { .. }
            | Self::NotALog(_)
            | Self::SegmentMissing(_)
            | Self::OtherKind { .. }
            | Self::WrongEncoder { .. }
            | Self::ForeignSnapshot { .. }
            | Self::WrongKey(_) => true,
            Self::Io { .. }
            | Self::Locked(_)
            | Self::BadName(_)
            | Self::BadOptions(_)
            | Self::WrongSeq { .. }
            | Self::WrongTerm { .. }
            | Self::BatchSplit { .. }
            | Self::Empty
            | Self::TooLarge { .. }
            | Self::Full
            | Self::NoSpace { .. }
            | Self::Compacted { .. }
            | Self::Trimmed { .. }
            | Self::OneFile(_)
            | Self::Encoder { .. }
            | Self::Timeout { .. }
            | Self::Busy { .. }
            | Self::BadRepair { .. }
            | Self::SnapshotCorrupt { .. }
            | Self::SnapshotMissing(_)
            | Self::SnapshotBusy(_)
            | Self::BadSnapshot(_)
            | Self::Unsupported(_) => false,
        }
    }

    /// Whether the write that failed may be there after a restart.
    pub const fn effect(&self) -> Effect {
        match self {
            Self::WriteFailed { .. } | Self::Panicked { .. } => Effect::Possible,
            Self::Timeout { effect, .. } => *effect,
            Self::Io { .. }
            | Self::Corrupt { .. }
            | Self::Poisoned
            | Self::Closed
            | Self::NewerFormat { .. }
            | Self::NotALog(_)
            | Self::Locked(_)
            | Self::BadName(_)
            | Self::BadOptions(_)
            | Self::WrongSeq { .. }
            | Self::WrongTerm { .. }
            | Self::BatchSplit { .. }
            | Self::Empty
            | Self::TooLarge { .. }
            | Self::Full
            | Self::NoSpace { .. }
            | Self::Compacted { .. }
            | Self::Trimmed { .. }
            | Self::OneFile(_)
            | Self::SegmentMissing(_)
            | Self::OtherKind { .. }
            | Self::WrongEncoder { .. }
            | Self::WrongKey(_)
            | Self::Encoder { .. }
            | Self::Busy { .. }
            | Self::BadRepair { .. }
            | Self::SnapshotCorrupt { .. }
            | Self::ForeignSnapshot { .. }
            | Self::SnapshotMissing(_)
            | Self::SnapshotBusy(_)
            | Self::BadSnapshot(_)
            | Self::Unsupported(_) => Effect::None,
        }
    }
}
