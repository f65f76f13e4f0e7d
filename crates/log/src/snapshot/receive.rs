//! Getting a snapshot from another node.

use std::sync::Arc;

use tinyraftplus_core::planted::{self, Bug};

use super::{
    Digest, SnapshotMeta,
    file::{Output, front},
    store::{Claim, Inner},
};
use crate::{
    LogError,
    format::{About, Front, PieceKind},
    num::u64_of,
};

/// A snapshot that comes from another node, chunk by chunk.
///
/// It counts when [`Incoming::finish`] returns. If it is dropped before, what was received is kept, and
/// [`SnapshotStore::receive`](super::SnapshotStore::receive) goes on with it, after a crash with those chunks that
/// are surely durable (up to 8 MiB are received again).
pub struct Incoming {
    meta: SnapshotMeta,
    next: u64,
    /// What is being written; none if it was complete.
    writing: Option<Writing>,
    store: Arc<Inner>,
}

struct Writing {
    output: Output,
    about: About,
    digest: Digest,
    claim: Claim,
}

impl Incoming {
    /// One that is there already.
    pub(super) fn complete(store: &Arc<Inner>, meta: SnapshotMeta) -> Self {
        Self { next: meta.chunks(), meta, writing: None, store: Arc::clone(store) }
    }

    /// Begins one, or goes on with the part that is there.
    pub(super) fn begin(
        mut claim: Claim,
        meta: SnapshotMeta,
        about: &About,
        part: bool,
    ) -> Result<Self, LogError> {
        let resumed = if part { resume(&claim, &meta, about)? } else { None };
        let (output, digest) = match resumed {
            Some(resumed) => resumed,
            None => (claim.begin(about, true)?, Digest::of(meta.id)),
        };
        claim.keep_part();
        let (next, store) = (output.next - 1, claim.store());
        let writing = Some(Writing { output, about: about.clone(), digest, claim });
        Ok(Self { meta, next, writing, store })
    }

    /// What is being received.
    pub const fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The number of the chunk that comes next; how many there are if none is missing.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Adds a chunk, if it is the next. Any other is ignored: it came twice, or others before it got lost. Returns
    /// the number of the chunk that comes next.
    ///
    /// # Errors
    ///
    /// [`LogError::BadSnapshot`] if it has not the length that this chunk has; nothing changes then. After any other
    /// error nothing more can be added: drop it, and receive it again.
    pub fn write_chunk(&mut self, number: u64, bytes: &[u8]) -> Result<u64, LogError> {
        self.store.usable()?;
        let Some(writing) = self.writing.as_mut().filter(|_| number == self.next) else {
            return Ok(self.next);
        };
        if number >= self.meta.chunks() {
            return Ok(self.next);
        }
        if u64_of(bytes.len()) != self.meta.chunk_len(number) {
            return Err(LogError::BadSnapshot("a chunk has another length than it should"));
        }
        writing.output.put(PieceKind::Chunk, bytes)?;
        writing.digest.add(bytes);
        self.next += 1;
        Ok(self.next)
    }

    /// Makes it durable. From then on it is complete, and stays so.
    ///
    /// # Errors
    ///
    /// [`LogError::BadSnapshot`] if chunks are missing, or all together are not those of this snapshot. In the
    /// second case all of them are removed.
    pub fn finish(self) -> Result<SnapshotMeta, LogError> {
        self.store.usable()?;
        let Some(mut writing) = self.writing else { return Ok(self.meta) };
        if self.next < self.meta.chunks() && !planted::is(Bug::InstallHalf) {
            return Err(LogError::BadSnapshot("chunks are missing"));
        }
        let any = planted::is(Bug::InstallHalf) || planted::is(Bug::ResumeAnother);
        if writing.digest.get() != self.meta.digest && !any {
            writing.claim.keep_nothing();
            return Err(LogError::BadSnapshot("its chunks have another digest than it should"));
        }
        writing.claim.finish(writing.output, writing.about, self.meta.bytes, &writing.digest)
    }
}

/// Goes on with a file, if it is a part of this very snapshot. Each chunk is read again.
///
/// A process that was killed, or whose sync failed, leaves chunks that can be read and are not on the disk. A later
/// piece says how many were durable when it was written: those count, and what is behind them is written again.
fn resume(
    claim: &Claim,
    meta: &SnapshotMeta,
    about: &About,
) -> Result<Option<(Output, Digest)>, LogError> {
    let header = claim.header(about, true)?;
    let file = claim.open(&header)?;
    let same = front(&*file.file, &file.path)? == Front::Header(header, None)
        && file.about().is_ok_and(|found| found == *about);
    if !same {
        return Ok(None);
    }
    let mut proven = 0;
    for number in 1..=meta.chunks() {
        match file.header_of(number) {
            Ok((piece, _)) => proven = piece.durable.max(proven),
            Err(_) => break,
        }
    }
    let mut digest = Digest::of(meta.id);
    let mut whole = 1;
    while whole < proven {
        let Ok((bytes, _)) = file.get(PieceKind::Chunk, whole) else { break };
        if u64_of(bytes.len()) != meta.chunk_len(whole - 1) {
            break;
        }
        digest.add(&bytes);
        whole += 1;
    }
    Ok((proven > 0).then(|| (Output::resume(file, whole), digest)))
}
