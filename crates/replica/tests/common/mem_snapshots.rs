//! Snapshots kept in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tinyraftplus_core::{Configurations, EntryId, Seq};

use tinyraftplus_replica::{SnapshotId, SnapshotMeta, SnapshotNews, SnapshotWork};

/// Snapshots kept in memory.
///
/// A snapshot counts from when it is complete; what was received in part stays and is gone on with, but only for the very
/// same snapshot. A clone shares the bytes.
#[derive(Clone, Debug, Default)]
pub struct MemSnapshots {
    complete: BTreeMap<(Seq, SnapshotId), (SnapshotMeta, Bytes)>,
    part: Option<(SnapshotMeta, Vec<u8>)>,
}

impl MemSnapshots {
    /// The newest one that is complete.
    pub fn newest(&self) -> Option<&SnapshotMeta> {
        self.complete.last_key_value().map(|(_, (meta, _))| meta)
    }

    /// How many are complete.
    pub fn len(&self) -> usize {
        self.complete.len()
    }

    /// Whether none is complete.
    pub fn is_empty(&self) -> bool {
        self.complete.is_empty()
    }

    /// The bytes of a complete one.
    pub fn body(&self, id: SnapshotId) -> Option<Bytes> {
        self.complete.values().find(|(meta, _)| meta.id == id).map(|(_, body)| body.clone())
    }

    /// Keeps a snapshot that was made here.
    pub fn create(
        &mut self,
        id: SnapshotId,
        last: EntryId,
        configurations: Arc<Configurations>,
        chunk_bytes: u32,
        body: Bytes,
    ) -> SnapshotMeta {
        let (bytes, digest) = (body.len() as u64, hash(id, 0, &body));
        let configurations = Some(configurations);
        let meta =
            SnapshotMeta { id, last, configurations, chunk_bytes, tables_bytes: 0, bytes, digest };
        self.complete.insert((last.seq, id), (meta.clone(), body));
        meta
    }

    /// Does what a replica says; `None` for what needs no answer, and for [`SnapshotWork::Take`] and
    /// [`SnapshotWork::Restore`], which are for whoever has the state machine.
    pub fn work(&mut self, work: SnapshotWork) -> Option<SnapshotNews> {
        match work {
            SnapshotWork::Take { .. } | SnapshotWork::Restore(_) => None,
            SnapshotWork::Receive(meta) => Some(self.receive(&meta)),
            SnapshotWork::Write { id, number, bytes, checksum } => {
                self.write(id, number, &bytes, checksum)
            }
            SnapshotWork::Finish(id) => {
                Some(SnapshotNews::Received { id, result: self.finish(id) })
            }
            SnapshotWork::Read { to, id, number } => {
                let result = self.read(id, number).ok_or_else(|| "there is no such chunk".into());
                Some(SnapshotNews::Chunk { to, id, number, result })
            }
            SnapshotWork::RemoveOlder(than) => {
                let last = self.complete.values().find(|(meta, _)| meta.id == than);
                if let Some(last) = last.map(|(meta, _)| meta.last.seq) {
                    self.complete.retain(|(seq, id), _| *seq > last || *id == than);
                }
                None
            }
        }
    }

    fn receive(&mut self, meta: &SnapshotMeta) -> SnapshotNews {
        let id = meta.id;
        if self.body(id).is_some() {
            return SnapshotNews::Incoming { id, next: Ok(meta.chunks()) };
        }
        let goes_on = self.part.as_ref().is_some_and(|(part, _)| part == meta);
        if !goes_on {
            self.part = Some((meta.clone(), Vec::new()));
        }
        SnapshotNews::Incoming { id, next: Ok(self.next().min(meta.chunks())) }
    }

    /// The chunk that comes next of the one that is being received.
    fn next(&self) -> u64 {
        let of = |(meta, bytes): &(SnapshotMeta, Vec<u8>)| {
            (bytes.len() as u64).div_ceil(meta.chunk_bytes.max(1).into())
        };
        self.part.as_ref().map_or(0, of)
    }

    fn write(
        &mut self,
        id: SnapshotId,
        number: u64,
        bytes: &[u8],
        checksum: u64,
    ) -> Option<SnapshotNews> {
        let expected = self.next();
        let (meta, part) = self.part.as_mut().filter(|(meta, _)| meta.id == id)?;
        if number != expected {
            return Some(SnapshotNews::Incoming { id, next: Ok(expected.min(meta.chunks())) });
        }
        if hash(id, number, bytes) != checksum {
            let what = "a chunk came with another checksum than it should".to_owned();
            return Some(SnapshotNews::Incoming { id, next: Err(what) });
        }
        part.extend_from_slice(bytes);
        Some(SnapshotNews::Incoming { id, next: Ok(expected + 1) })
    }

    fn finish(&mut self, id: SnapshotId) -> Result<(), String> {
        if self.body(id).is_some() {
            return Ok(());
        }
        let part = self.part.take_if(|(meta, _)| meta.id == id);
        let (meta, bytes) = part.ok_or("it is not being received")?;
        let is_whole = hash(id, 0, &bytes) == meta.digest;
        if !is_whole {
            return Err("its chunks have another digest than it should".into());
        }
        self.complete.insert((meta.last.seq, id), (meta, bytes.into()));
        Ok(())
    }

    /// A chunk of a complete one, and its checksum.
    fn read(&self, id: SnapshotId, number: u64) -> Option<(Bytes, u64)> {
        let (meta, body) = self.complete.values().find(|(meta, _)| meta.id == id)?;
        let start = usize::try_from(number.checked_mul(u64::from(meta.chunk_bytes))?).ok()?;
        let end = start.checked_add(usize::try_from(meta.chunk_len(number)).ok()?)?;
        let bytes = (end <= body.len() && start < end).then(|| body.slice(start..end))?;
        let checksum = hash(id, number, &bytes);
        Some((bytes, checksum))
    }
}

/// FNV-1a: what it has to notice are accidents.
fn hash(id: SnapshotId, number: u64, bytes: &[u8]) -> u64 {
    let place = id.get().to_le_bytes().into_iter().chain(number.to_le_bytes());
    place.chain(bytes.iter().copied()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
