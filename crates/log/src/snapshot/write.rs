//! Making a snapshot.

use std::io;

use super::{Digest, SnapshotMeta, file::Output, store::Claim};
use crate::{
    LogError,
    format::{About, PieceKind},
    num::{u64_of, usize_of},
};

/// A snapshot that is being made. Bytes are written to it in any pieces; it holds one chunk of them in memory.
///
/// It counts when [`SnapshotWriter::finish`] returns. If it is dropped before, it is removed.
pub struct SnapshotWriter {
    output: Output,
    about: About,
    /// Bytes that don't fill a chunk yet.
    chunk: Vec<u8>,
    bytes: u64,
    digest: Digest,
    claim: Claim,
}

impl SnapshotWriter {
    pub(super) fn new(claim: Claim, output: Output, about: About) -> Self {
        let digest = Digest::of(output.file.header.id);
        Self { output, about, chunk: Vec::new(), bytes: 0, digest, claim }
    }

    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// [`LogError::NoSpace`] if the disk is full. After any error nothing more can be added: drop it.
    pub fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), LogError> {
        self.claim.usable()?;
        let size = usize_of(self.about.chunk_bytes.into());
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(size - self.chunk.len()));
            self.chunk.extend_from_slice(part);
            bytes = rest;
            if self.chunk.len() == size {
                self.put_chunk()?;
            }
        }
        Ok(())
    }

    fn put_chunk(&mut self) -> Result<(), LogError> {
        self.output.put(PieceKind::Chunk, &self.chunk)?;
        self.digest.add(&self.chunk);
        self.bytes += u64_of(self.chunk.len());
        self.chunk.clear();
        Ok(())
    }

    /// Makes it durable. From then on it is complete, and stays so.
    ///
    /// # Errors
    ///
    /// As for writing; then there is no snapshot.
    pub fn finish(mut self) -> Result<SnapshotMeta, LogError> {
        self.claim.usable()?;
        if !self.chunk.is_empty() {
            self.put_chunk()?;
        }
        self.claim.finish(self.output, self.about, self.bytes, &self.digest)
    }

    /// Gives it up, and removes what there is of it.
    pub fn abort(self) {
        drop(self);
    }
}

/// What fails is a [`LogError`] inside.
impl io::Write for SnapshotWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map_err(as_io)?;
        Ok(bytes.len())
    }

    /// Does nothing: [`SnapshotWriter::finish`] makes it durable.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An error for those who know no log.
pub(super) fn as_io(error: LogError) -> io::Error {
    let kind = if matches!(error, LogError::NoSpace { .. }) {
        io::ErrorKind::StorageFull
    } else if matches!(error, LogError::SnapshotCorrupt { .. }) {
        io::ErrorKind::InvalidData
    } else {
        io::ErrorKind::Other
    };
    io::Error::new(kind, error)
}
