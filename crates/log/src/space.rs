//! Zero-filled space ahead of the writer.
//!
//! A frame only ever enters space that is there and zero on the disk itself. So a full disk shows before any
//! byte of a frame is written, a sector that reads as zeros was never written, and writing costs half: the
//! file system has no new length and no new blocks to record.

use std::{io, path::Path};

use crate::{
    DiskFile, LogError,
    num::{u64_of, usize_of},
};

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

    /// Makes space up to `end`, and the reserve beyond it. What is `urgent` may use up the reserve.
    ///
    /// Returns whether it had to sync.
    pub(crate) fn ensure<F: DiskFile>(
        &mut self,
        file: &F,
        path: &Path,
        end: u64,
        urgent: bool,
    ) -> Result<bool, LogError> {
        if end + self.reserve <= self.bytes {
            return Ok(false);
        }
        match self.grow(file, path, end + self.reserve) {
            Err(LogError::NoSpace { .. }) if urgent && end <= self.bytes => Ok(false),
            result => result.map(|()| true),
        }
    }

    fn grow<F: DiskFile>(&mut self, file: &F, path: &Path, end: u64) -> Result<(), LogError> {
        let target = end.next_multiple_of(self.step);
        let zeros = vec![0; usize_of(self.step)];
        let mut at = self.bytes;
        while at < target {
            let piece = zeros.get(..usize_of((target - at).min(self.step))).unwrap_or(&zeros);
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
