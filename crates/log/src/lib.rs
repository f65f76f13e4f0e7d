//! A durable log that tells a torn tail from corruption.
//!
//! [`FsLog`] keeps entries, a term and vote, and a configuration in one stream of one file. A group of writes
//! is made durable by one write and one sync; after a crash all of it is there or none. What was acknowledged
//! and is damaged later is refused by name, never dropped silently. [`MemLog`] has the same interface.
//!
//! It is a product of its own: [`LogExt`] has the everyday calls for use without Raft. Below is a [`Disk`] of
//! few calls, the real one or [`sim_disk::SimDisk`], which fails in every way a disk can.
#![forbid(unsafe_code)]

mod disk;
mod drops;
mod encoder;
mod engine;
mod error;
mod ext;
mod format;
mod fs_log;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod inspect;
mod log;
mod mem_log;
mod num;
mod options;
mod os_disk;
mod scrub;
mod shared;
pub mod sim_disk;
mod snapshot;
mod state;
pub mod suite;
mod timeout;

/// The words of the interface that the consensus core shares.
pub use tinyraftplus_core::{EntryId, HardState, Identity, Seq, Term};

pub use crate::disk::{BLOCK_BYTES, CACHED_TOGETHER_BYTES, Disk, DiskFile, Open};
pub use crate::encoder::{
    Encoder, EncoderError, EncryptingEncoder, Key, KeyError, PlainEncoder, XxHashEncoder,
};
pub use crate::error::{Effect, LogError};
pub use crate::ext::{Entries, LogExt};
pub use crate::format::{decode_configuration, decode_plan, encode_configuration, encode_plan};
pub use crate::fs_log::{FsLog, MultiFsLog};
#[doc(hidden)]
pub use crate::inspect::frames as inspect;
pub use crate::inspect::{
    Damage, Dump, FoundLog, FrameInfo, LogKind, Progress, SegmentInfo, SegmentState, SpareInfo,
    Survey, Verified, dump, find_logs, frames, survey, verify,
};
pub use crate::log::{EntryKind, Log, LogEntry, LogRead, LogStats, Reset, Write};
pub use crate::mem_log::MemLog;
pub use crate::options::{Cut, Damaged, LogOptions, Recovery, Unknown};
pub use crate::os_disk::{OsDisk, OsFile, OsLock};
pub use crate::scrub::{Scrub, Scrubbed};
pub use crate::shared::{EntryStream, Pending, SharedLog, Txn, TxnEntries};
pub use crate::snapshot::{
    Incoming, SnapshotId, SnapshotMeta, SnapshotReader, SnapshotState, SnapshotStore,
    SnapshotWriter,
};
pub use crate::timeout::{TimeoutLog, Timeouts};
