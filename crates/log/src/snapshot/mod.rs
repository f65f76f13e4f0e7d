//! Snapshots of what the entries of a log have made, kept beside it so that old entries can go.
//!
//! A snapshot is one file. It is complete exactly if it ends with an end, which is written when everything before
//! is durable; `docs/format.md` has the bytes. What it holds is opaque: *tables*, and then what a state machine
//! wrote. It is cut into chunks, each with its own checksum, through the log's [`Encoder`], so that it is encrypted
//! if the log is. Nothing here needs more memory than a chunk or two, and nothing starts threads.

mod file;
mod read;
mod receive;
mod store;
mod write;

use std::{fmt, hash::Hasher as _, sync::Arc};

use tinyraftplus_core::{Configurations, EntryId};
use twox_hash::xxhash3_64::Hasher;

pub use self::{
    read::{SnapshotReader, SnapshotState},
    receive::Incoming,
    store::SnapshotStore,
    write::SnapshotWriter,
};
#[cfg(doc)]
use crate::Encoder;
use crate::{
    LogError,
    format::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, SNAPSHOT_CHUNKS_MAX, checksum},
};

/// Names a snapshot: drawn at random by the node that made it, and the same on all nodes that got it from there.
///
/// Two snapshots with the same id have the same bytes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SnapshotId(u128);

impl SnapshotId {
    /// The id with this number, which must come from a good source of random numbers.
    pub const fn new(number: u128) -> Self {
        Self(number)
    }

    /// A new one, from the operating system's random numbers.
    ///
    /// # Errors
    ///
    /// If it has none.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        Ok(Self(u128::from_le_bytes(bytes)))
    }

    /// Its number.
    pub const fn get(self) -> u128 {
        self.0
    }

    /// The checksum of a chunk of this snapshot on its way to another node.
    pub fn chunk_checksum(self, number: u64, bytes: &[u8]) -> u64 {
        let place = [self.0.to_le_bytes().as_slice(), &number.to_le_bytes()].concat();
        checksum(bytes).rotate_left(1) ^ checksum(&place)
    }
}

/// All 32 hexadecimal digits.
impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:x}")
    }
}

impl fmt::LowerHex for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a complete snapshot is of, and how large it is: all that a node must know before it can receive it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SnapshotMeta {
    /// Its id.
    pub id: SnapshotId,
    /// The last entry in it.
    pub last: EntryId,
    /// The configurations in force there, if there were any.
    pub configurations: Option<Arc<Configurations>>,
    /// How many bytes each chunk has, but for the last: 1 KiB to 1 MiB.
    pub chunk_bytes: u32,
    /// How many bytes of tables there are. They come before what the state machine wrote.
    pub tables_bytes: u64,
    /// How many bytes there are, tables included.
    pub bytes: u64,
    /// XXH3-64 of the id (16 bytes, little-endian) and all bytes.
    pub digest: u64,
}

impl SnapshotMeta {
    /// How many chunks there are. They have numbers from 0. A snapshot without bytes has none.
    pub fn chunks(&self) -> u64 {
        self.bytes.div_ceil(self.chunk_bytes.max(1).into())
    }

    /// How many bytes the chunk with this number has; 0 past the end.
    pub fn chunk_len(&self, number: u64) -> u64 {
        let size = u64::from(self.chunk_bytes);
        self.bytes.saturating_sub(number.saturating_mul(size)).min(size)
    }

    /// Whether it can be: it may come from anybody.
    fn check(&self) -> Result<(), LogError> {
        let what = if !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&self.chunk_bytes) {
            "a chunk has 1 KiB to 1 MiB"
        } else if self.chunks() > SNAPSHOT_CHUNKS_MAX {
            "it is too large"
        } else if self.tables_bytes > self.bytes {
            "its tables are larger than all of it"
        } else {
            return Ok(());
        };
        Err(LogError::BadSnapshot(what))
    }
}

/// Makes the digest of a snapshot.
struct Digest(Hasher);

impl Digest {
    fn of(id: SnapshotId) -> Self {
        let mut hasher = Hasher::new();
        hasher.write(&id.get().to_le_bytes());
        Self(hasher)
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn get(&self) -> u64 {
        self.0.finish()
    }
}
