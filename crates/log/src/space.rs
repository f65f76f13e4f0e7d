//! Zero-filled space ahead of the writer.
//!
//! A frame only ever enters space that is there and zero on the disk itself. So a full disk shows before any
//! byte of a frame is written, a sector that reads as zeros was never written, and writing costs half: the
//! file system has no new length and no new blocks to record.

use std::{io, path::Path};

use crate::{
    DiskFile, LogError,
    format::SECTOR_BYTES,
    num::{u64_of, usize_of},
};

/// Written at a time.
const PIECE_BYTES: u64 = 1 << 20;
/// What opening a log may need beyond everything that was written, to void a torn group: a frame and its copy
/// in two sectors, a mark, and what it takes to begin with a sector.
///
/// Nothing else may use it: on a full disk a log that can't be opened is worse than a vote refused.
const RECOVERY_BYTES: u64 = 4 * SECTOR_BYTES;

/// For what space is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Need {
    /// For entries: the reserve stays free.
    Entries,
    /// For what a full disk must not stop: the reserve may be used up.
    Urgent,
    /// To open the log at all.
    Recovery,
}

impl Need {
    /// How much must stay free behind it, on a full disk too.
    const fn spare(self, reserve: u64) -> u64 {
        match self {
            Self::Entries => reserve,
            Self::Urgent => RECOVERY_BYTES,
            Self::Recovery => 0,
        }
    }
}

/// The space of one file.
#[derive(Debug)]
pub(crate) struct Space {
    /// Up to here the file is durably there.
    pub(crate) bytes: u64,
    /// Made at a time.
    step: u64,
    /// Held back for what a full disk must not stop.
    reserve: u64,
}

impl Space {
    pub(crate) const fn new(bytes: u64, step: u64, reserve: u64) -> Self {
        Self { bytes, step, reserve }
    }

    /// Makes space up to `end`, and the reserve beyond it; on a full disk less will do, as [`Need`] says.
    ///
    /// Returns whether it had to sync.
    pub(crate) fn ensure<F: DiskFile>(
        &mut self,
        file: &F,
        path: &Path,
        end: u64,
        need: Need,
    ) -> Result<bool, LogError> {
        if end + self.reserve <= self.bytes {
            return Ok(false);
        }
        match self.grow(file, path, end + self.reserve) {
            Err(LogError::NoSpace { .. }) if end + need.spare(self.reserve) <= self.bytes => {
                Ok(false)
            }
            result => result.map(|()| true),
        }
    }

    fn grow<F: DiskFile>(&mut self, file: &F, path: &Path, end: u64) -> Result<(), LogError> {
        let target = end.next_multiple_of(self.step);
        let zeros = vec![0; usize_of(self.step.min(PIECE_BYTES))];
        let mut at = self.bytes;
        while at < target {
            let piece =
                zeros.get(..usize_of((target - at).min(u64_of(zeros.len())))).unwrap_or(&zeros);
            file.write_at(at, piece).map_err(|source| refused(path, source))?;
            at += u64_of(piece.len());
        }
        file.sync_data().map_err(|source| LogError::WriteFailed {
            op: "sync",
            path: path.to_owned(),
            source,
        })?;
        self.bytes = target;
        Ok(())
    }
}

/// A full disk is refused before anything was written; anything else leaves us in doubt.
fn refused(path: &Path, source: io::Error) -> LogError {
    let path = path.to_owned();
    if is_full(&source) {
        LogError::NoSpace { path, source }
    } else {
        LogError::WriteFailed { op: "extend", path, source }
    }
}

/// Whether a write was refused because there is no room for it.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
