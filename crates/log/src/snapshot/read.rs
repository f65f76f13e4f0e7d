//! Reading a snapshot.

use std::{io, sync::Arc};

use super::{Digest, SnapshotMeta, file::SnapshotFile, store::Inner, write::as_io};
use crate::{
    LogError,
    format::PieceKind,
    num::{u64_of, usize_of},
};

/// A complete snapshot, to be sent or restored.
pub struct SnapshotReader {
    store: Arc<Inner>,
    file: SnapshotFile,
    meta: SnapshotMeta,
}

impl SnapshotReader {
    pub(super) fn new(store: &Arc<Inner>, file: SnapshotFile, meta: SnapshotMeta) -> Self {
        Self { store: Arc::clone(store), file, meta }
    }

    /// What it is of.
    pub const fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The chunk with this number, in any order.
    ///
    /// # Errors
    ///
    /// [`LogError::SnapshotCorrupt`] if it is not what was written, [`LogError::BadSnapshot`] if there are not so
    /// many.
    pub fn read_chunk(&self, number: u64) -> Result<Vec<u8>, LogError> {
        self.store.usable()?;
        if number >= self.meta.chunks() {
            return Err(LogError::BadSnapshot("it has not so many chunks"));
        }
        let (bytes, _) = self.file.get(PieceKind::Chunk, number + 1)?;
        if u64_of(bytes.len()) != self.meta.chunk_len(number) {
            return Err(self.file.corrupt(number + 1, "a chunk has another length than it should"));
        }
        Ok(bytes)
    }

    /// The tables, all at once.
    ///
    /// # Errors
    ///
    /// As for [`SnapshotReader::read_chunk`].
    pub fn tables(&self) -> Result<Vec<u8>, LogError> {
        let mut tables = Vec::new();
        let mut number = 0;
        let mut left = self.meta.tables_bytes;
        while left > 0 {
            let chunk = self.read_chunk(number)?;
            let count = left.min(u64_of(chunk.len()));
            tables.extend_from_slice(chunk.get(..usize_of(count)).unwrap_or_default());
            left -= count;
            number += 1;
        }
        Ok(tables)
    }

    /// What the state machine wrote, from its beginning.
    pub fn state(self) -> SnapshotState {
        let skip = self.meta.tables_bytes;
        let digest = Digest::of(self.meta.id);
        SnapshotState { reader: self, next: 0, skip, chunk: Vec::new(), at: 0, digest }
    }

    /// Reads all of it, and compares it with its digest.
    ///
    /// # Errors
    ///
    /// As for [`SnapshotReader::read_chunk`].
    pub fn verify(&self) -> Result<(), LogError> {
        let mut digest = Digest::of(self.meta.id);
        for number in 0..self.meta.chunks() {
            digest.add(&self.read_chunk(number)?);
        }
        self.check(&digest)
    }

    fn check(&self, digest: &Digest) -> Result<(), LogError> {
        let last = self.meta.chunks() + 1;
        let same = digest.get() == self.meta.digest;
        if same { Ok(()) } else { Err(self.file.corrupt(last, "the chunks have another digest")) }
    }
}

/// What a state machine wrote into a snapshot. Holds one chunk in memory.
///
/// What fails is a [`LogError`] inside an [`io::Error`]. The end is only told when all that was read has the right
/// digest.
pub struct SnapshotState {
    reader: SnapshotReader,
    next: u64,
    /// Bytes before it begins: the tables.
    skip: u64,
    chunk: Vec<u8>,
    at: usize,
    digest: Digest,
}

impl SnapshotState {
    fn fill(&mut self) -> Result<(), LogError> {
        while self.at == self.chunk.len() {
            if self.next == self.reader.meta.chunks() {
                return self.reader.check(&self.digest);
            }
            self.chunk = self.reader.read_chunk(self.next)?;
            self.digest.add(&self.chunk);
            self.next += 1;
            let skipped = self.skip.min(u64_of(self.chunk.len()));
            self.skip -= skipped;
            self.at = usize_of(skipped);
        }
        Ok(())
    }
}

impl io::Read for SnapshotState {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !buffer.is_empty() {
            self.fill().map_err(as_io)?;
        }
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.at += count;
        Ok(count)
    }
}
