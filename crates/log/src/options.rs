//! What a log is told when it is opened, and what opening it found.

use std::sync::Arc;

use tinyraftplus_core::Seq;

use crate::{
    Damage, Encoder, LogError, XxHashEncoder,
    format::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN},
};

/// What opening a log does about damage.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Damaged {
    /// Refuse, naming file, byte and seq.
    #[default]
    Refuse,
    /// Open all the same, if it is known which entries are damaged, and say which: [`Recovery::damaged`]. Reading
    /// one is an error; [`Write::repair`](crate::Write) puts it back. For those who can get them elsewhere.
    ///
    /// Refused is still what could make another log of it: damage to both headers of a file, to the only copies of
    /// the newest term and vote, or where terms change.
    Report,
}

/// What damage has hidden, besides entries whose positions and terms are known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Unknown {
    /// The log had more entries, or may have had: the newest that is known is no promise that it was the last.
    pub end: bool,
    /// There may have been a newer configuration.
    pub configuration: bool,
}

impl Unknown {
    /// All is known.
    pub const NOTHING: Self = Self { end: false, configuration: false };
}

/// What a log is told when it is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogOptions {
    /// The first position, if the log has to be created. Default 0.
    pub first_seq: Seq,
    /// How many bytes of payload a batch may have. Default 16 MiB.
    pub batch_bytes_max: u64,
    /// How many bytes of payload an entry may have. Default 16 MiB.
    pub entry_bytes_max: u64,
    /// How many bytes one group may take on disk; stored when the log is created. Default 128 MiB.
    pub group_bytes_max: u64,
    /// How many bytes a segment of a [`MultiFsLog`](crate::MultiFsLog) has at most; the next group begins
    /// another. Default 1 GiB.
    #[doc(alias = "maxLogLen")]
    pub segment_bytes_max: u64,
    /// How much space is made at a time ahead of the writer, at least; a quarter of the file, if that is more.
    /// Default 1 MiB.
    pub space_bytes: u64,
    /// How much of it is held back, so that votes and trims work on a full disk. Default 64 KiB.
    pub reserve_bytes: u64,
    /// What the disk is trusted to write whole or not at all: 512, or 4096 for disks that do not promise 512;
    /// stored when the log is created. Default 512.
    pub block_bytes: u32,
    /// How many bytes a chunk of a snapshot has, which is the memory that writing or reading one takes. Default
    /// 256 KiB.
    pub snapshot_chunk_bytes: u32,
    /// What opening does about damage.
    pub damaged: Damaged,
    /// What happens to bodies on their way to the disk and back; a log is opened with the encoder and key that
    /// wrote it. Default: as they are, with checksums.
    pub encoder: Arc<dyn Encoder>,
    /// Makes the identity of a log that has to be created a function of this, for simulations only: two logs
    /// must never have the same. Default `None`: random.
    pub seed: Option<u64>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            first_seq: Seq::ZERO,
            batch_bytes_max: 16 << 20,
            entry_bytes_max: 16 << 20,
            group_bytes_max: 128 << 20,
            segment_bytes_max: 1 << 30,
            space_bytes: 1 << 20,
            reserve_bytes: 64 << 10,
            block_bytes: 512,
            snapshot_chunk_bytes: 256 << 10,
            damaged: Damaged::Refuse,
            encoder: Arc::new(XxHashEncoder::default()),
            seed: None,
        }
    }
}

impl LogOptions {
    /// The smallest [`LogOptions::group_bytes_max`].
    pub const GROUP_BYTES_MIN: u64 = 64 << 10;
    /// The largest [`LogOptions::group_bytes_max`].
    pub const GROUP_BYTES_MAX: u64 = 1 << 30;

    /// The smallest [`LogOptions::segment_bytes_max`].
    pub const SEGMENT_BYTES_MIN: u64 = 16 << 10;

    /// Checks that the options fit each other.
    ///
    /// # Errors
    ///
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), LogError> {
        let what = if self.first_seq == Seq::MAX {
            "a log can't begin at the last position there is"
        } else if !(Self::GROUP_BYTES_MIN..=Self::GROUP_BYTES_MAX).contains(&self.group_bytes_max) {
            "group_bytes_max must lie between 64 KiB and 1 GiB"
        } else if self.batch_bytes_max > self.group_bytes_max / 2 {
            "batch_bytes_max must be at most half of group_bytes_max"
        } else if self.segment_bytes_max < Self::SEGMENT_BYTES_MIN {
            "segment_bytes_max must be at least 16 KiB"
        } else if self.block_bytes != 512 && self.block_bytes != 4096 {
            "block_bytes must be 512 or 4096"
        } else if self.space_bytes < 4096 || self.space_bytes > 1 << 30 {
            "space_bytes must lie between 4 KiB and 1 GiB"
        } else if self.reserve_bytes < 4096 || self.reserve_bytes > 1 << 30 {
            "reserve_bytes must lie between 4 KiB and 1 GiB"
        } else if !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&self.snapshot_chunk_bytes) {
            "snapshot_chunk_bytes must lie between 1 KiB and 1 MiB"
        } else {
            return Ok(());
        };
        Err(LogError::BadOptions(what))
    }
}

/// What opening a log found and did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Recovery {
    /// There was no log, and now there is.
    pub created: bool,
    /// A last group that never became durable was cut off. Nothing of it had been acknowledged.
    pub cut: Option<Cut>,
    /// The newest term and vote were found only in what was cut, and are durable again.
    pub hard_state_rescued: bool,
    /// How many files it has.
    pub segments: u64,
    /// How many full segments had no seal, because the process died before it was written. They were read in
    /// full, and are sealed now.
    pub seals_rebuilt: u64,
    /// How many damaged or missing copies were written again from their twin: of the log's header, or of a
    /// term and vote.
    pub copies_repaired: u64,
    /// With [`Damaged::Report`], entries that can't be read, as far as opening has met them: it reads all of the
    /// newest file, and full files without a sound seal. Each has its first seq and the seq after its last.
    pub damaged: Vec<Damage>,
    /// What else damage has hidden.
    pub unknown: Unknown,
}

/// A last group that never became durable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cut {
    /// Where it began.
    pub position: u64,
    /// How many bytes were given up.
    pub bytes: u64,
    /// How it was told from damage.
    pub why: &'static str,
}
