//! What is said about snapshots.

use std::sync::Arc;

use bytes::Bytes;
use tinyraftplus_core::{Configurations, EntryId, NodeId};
use tinyraftplus_log::{SnapshotId, SnapshotMeta};

/// The largest chunk, in bytes.
pub const CHUNK_BYTES_MAX: u32 = 1 << 20;
/// The smallest chunk there may be, but for the last of a snapshot.
const CHUNK_BYTES_MIN: u32 = 1 << 10;
/// So many chunks may one snapshot have.
const CHUNKS_MAX: u64 = 1 << 32;

/// What is wrong with a snapshot that no correct peer offers.
pub(crate) fn malformed(meta: &SnapshotMeta) -> Option<&'static str> {
    if !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&meta.chunk_bytes) {
        Some("offers a snapshot in chunks of an impossible size")
    } else if meta.chunks() > CHUNKS_MAX || meta.tables_bytes > meta.bytes {
        Some("offers a snapshot of an impossible size")
    } else if meta.configurations.is_none() {
        Some("offers a snapshot without members")
    } else {
        None
    }
}

/// What is to be done about snapshots, by whoever keeps them; in this order, one after the other.
///
/// `Take` and `Restore` also go to the state machine, after every [`Apply`](crate::Apply) and query that was handed out
/// before, and before every later one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SnapshotWork {
    /// Make one of the state machine as it is now; without a state machine, one without bytes. Answered with
    /// [`SnapshotNews::Taken`], any time later.
    Take {
        /// The last entry that the state machine has seen.
        last: EntryId,
        /// What is in force there.
        configurations: Arc<Configurations>,
    },
    /// Make the state machine what this one says. Answered with [`SnapshotNews::Restored`].
    Restore(SnapshotMeta),
    /// Begin to receive this one, or go on with it: with what is durable of this very snapshot, and nothing of any other.
    /// Answered with [`SnapshotNews::Incoming`].
    Receive(SnapshotMeta),
    /// Add this chunk, if it is the next and this snapshot is being received. Answered with [`SnapshotNews::Incoming`].
    Write {
        /// The snapshot.
        id: SnapshotId,
        /// The number of the chunk.
        number: u64,
        /// Its bytes.
        bytes: Bytes,
        /// Their checksum, for the snapshot and the number.
        checksum: u64,
    },
    /// All chunks are here: make it complete and durable. Answered with [`SnapshotNews::Received`].
    Finish(SnapshotId),
    /// Read a chunk for a peer. Answered with [`SnapshotNews::Chunk`].
    Read {
        /// The peer.
        to: NodeId,
        /// The snapshot.
        id: SnapshotId,
        /// The number of the chunk.
        number: u64,
    },
    /// Remove all snapshots that end at or before this one, but for itself. No answer.
    RemoveOlder(SnapshotId),
}

/// What whoever keeps snapshots has to say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SnapshotNews {
    /// The one that was asked for is complete and durable, or why not.
    Taken(Result<SnapshotMeta, String>),
    /// The state machine was restored.
    Restored,
    /// How far a snapshot was received.
    Incoming {
        /// The snapshot.
        id: SnapshotId,
        /// The number of the next chunk, or why there can't be one.
        next: Result<u64, String>,
    },
    /// A snapshot that was being received is complete and durable, or why not.
    Received {
        /// The snapshot.
        id: SnapshotId,
        /// Whether it is.
        result: Result<(), String>,
    },
    /// A chunk was read.
    Chunk {
        /// For this peer.
        to: NodeId,
        /// Of this snapshot.
        id: SnapshotId,
        /// The number of the chunk.
        number: u64,
        /// Its bytes and their checksum, for the snapshot and the number; or why it can't be read.
        result: Result<(Bytes, u64), String>,
    },
}
