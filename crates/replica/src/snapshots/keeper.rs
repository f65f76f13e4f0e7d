//! Does what a replica says about snapshots, with those that lie beside its log.

use tinyraftplus_core::planted::{self, Bug};
use tinyraftplus_log::{Incoming, LogError, SnapshotReader, SnapshotStore};

use super::{SnapshotId, SnapshotMeta, SnapshotNews, SnapshotWork};

/// Does what a replica says about snapshots, with those that lie beside its log. Blocks as long as the disk does.
pub struct Keeper {
    store: SnapshotStore,
    incoming: Option<Incoming>,
    /// The one that is being sent.
    reader: Option<SnapshotReader>,
}

impl Keeper {
    /// With these snapshots.
    pub const fn new(store: SnapshotStore) -> Self {
        Self { store, incoming: None, reader: None }
    }

    /// The snapshots.
    pub const fn store(&self) -> &SnapshotStore {
        &self.store
    }

    /// Does it; `None` for what needs no answer, and for [`SnapshotWork::Take`] and [`SnapshotWork::Restore`], which are
    /// for whoever has the state machine.
    pub fn work(&mut self, work: SnapshotWork) -> Option<SnapshotNews> {
        match work {
            SnapshotWork::Take { .. } | SnapshotWork::Restore(_) => None,
            SnapshotWork::Receive(meta) => {
                let next = self.receive(&meta).map_err(|error| error.to_string());
                Some(SnapshotNews::Incoming { id: meta.id, next })
            }
            SnapshotWork::Write { id, number, bytes, checksum } => {
                let next = self.write(id, number, &bytes, checksum)?;
                if next.is_err() {
                    self.incoming = None;
                }
                Some(SnapshotNews::Incoming { id, next })
            }
            SnapshotWork::Finish(id) => {
                let result = self.finish(id).map_err(|error| error.to_string());
                Some(SnapshotNews::Received { id, result })
            }
            SnapshotWork::Read { to, id, number } => {
                let chunk = self.read(id, number).map_err(|error| error.to_string());
                let result = chunk.map(|bytes| {
                    let checksum = id.chunk_checksum(number, &bytes);
                    (bytes.into(), checksum)
                });
                Some(SnapshotNews::Chunk { to, id, number, result })
            }
            SnapshotWork::RemoveOlder(than) => {
                // What can't be removed now is when the next one is.
                let _ = self.store.remove_older(than);
                self.reader.take_if(|reader| reader.meta().id != than);
                None
            }
        }
    }

    fn receive(&mut self, meta: &SnapshotMeta) -> Result<u64, LogError> {
        if planted::is(Bug::ResumeAnother)
            && let Some(incoming) = &self.incoming
        {
            return Ok(incoming.next().min(meta.chunks()));
        }
        // Dropped first: what was received of it may be what this goes on with.
        self.incoming = None;
        let incoming = self.store.receive(meta)?;
        let next = incoming.next();
        self.incoming = Some(incoming);
        Ok(next)
    }

    /// `None` if another one is being received.
    fn write(
        &mut self,
        id: SnapshotId,
        number: u64,
        bytes: &[u8],
        checksum: u64,
    ) -> Option<Result<u64, String>> {
        let any = planted::is(Bug::ResumeAnother);
        let incoming = self.incoming.as_mut().filter(|it| any || it.meta().id == id)?;
        if id.chunk_checksum(number, bytes) != checksum {
            return Some(Err(format!("chunk {number} came with another checksum than it should")));
        }
        Some(incoming.write_chunk(number, bytes).map_err(|error| error.to_string()))
    }

    fn finish(&mut self, id: SnapshotId) -> Result<(), LogError> {
        let any = planted::is(Bug::ResumeAnother);
        match self.incoming.take_if(|it| any || it.meta().id == id) {
            Some(incoming) => incoming.finish().map(drop),
            None if self.store.get(id).is_some() => Ok(()),
            None => Err(LogError::SnapshotMissing(id)),
        }
    }

    fn read(&mut self, id: SnapshotId, number: u64) -> Result<Vec<u8>, LogError> {
        let reader = match self.reader.take().filter(|reader| reader.meta().id == id) {
            Some(reader) => reader,
            None => self.store.reader(id)?,
        };
        let chunk = reader.read_chunk(number);
        self.reader = Some(reader);
        chunk
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("store", &self.store).finish_non_exhaustive()
    }
}
