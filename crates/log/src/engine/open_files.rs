//! The files that readers have open, and the indexes of full ones.
//!
//! A log may have thousands of files: only the last used stay open. The index of a full file is in its seal,
//! and read when somebody looks for an entry there.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use tinyraftplus_core::Terms;

use super::{
    Names, Target,
    index::Index,
    open::check_encoder,
    parts::Part,
    read::{Shared, look},
    recover::Scan,
};
use crate::{Damaged, Disk, Encoder, LogError, Open, state::State};

/// How many full files stay open.
const FILES_MAX: usize = 16;

/// The open files of a log.
pub(crate) struct OpenFiles<D: Disk> {
    disk: D,
    names: Names,
    encoder: Arc<dyn Encoder>,
    damaged: Damaged,
    state: Mutex<Files<D>>,
}

struct Files<D: Disk> {
    newest: (u64, Arc<D::File>),
    /// The last used at the end.
    full: VecDeque<Full<D>>,
}

struct Full<D: Disk> {
    number: u64,
    file: Arc<D::File>,
    index: Arc<Index>,
}

/// A full file and its index.
type Loaded<D> = (Arc<<D as Disk>::File>, Arc<Index>);

impl<D: Disk> OpenFiles<D> {
    pub(crate) fn new(
        disk: D,
        names: Names,
        encoder: Arc<dyn Encoder>,
        damaged: Damaged,
        newest: (u64, Arc<D::File>),
    ) -> Self {
        let state = Mutex::new(Files { newest, full: VecDeque::new() });
        Self { disk, names, encoder, damaged, state }
    }

    fn state(&self) -> MutexGuard<'_, Files<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn encoder(&self) -> &dyn Encoder {
        &*self.encoder
    }

    pub(crate) fn path(&self, number: u64) -> PathBuf {
        self.disk.path(&self.names.file(number))
    }

    /// The newest file is full, and another is the newest.
    pub(crate) fn rotated(&self, index: Index, newest: (u64, Arc<D::File>)) {
        let mut state = self.state();
        let (number, file) = std::mem::replace(&mut state.newest, newest);
        state.keep(Full { number, file, index: Arc::new(index) });
    }

    /// The handle of a file that is not part of the log any more, if it is open.
    pub(crate) fn forget(&self, number: u64) -> Option<Arc<D::File>> {
        let mut state = self.state();
        let at = state.full.iter().position(|full| full.number == number)?;
        state.full.remove(at).map(|full| full.file)
    }

    /// How much memory the indexes of full files take.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.state().full.iter().map(|full| full.index.bytes()).sum()
    }

    /// The handle of a file; `None` if it is not part of the log any more.
    pub(crate) fn file(
        &self,
        part: &Part,
        shared: &RwLock<Shared>,
    ) -> Result<Option<Arc<D::File>>, LogError> {
        {
            let state = self.state();
            if state.newest.0 == part.number {
                return Ok(Some(Arc::clone(&state.newest.1)));
            }
        }
        Ok(self.full(part, shared)?.map(|(file, _)| file))
    }

    /// The index of a full file; `None` if it is not part of the log any more.
    pub(crate) fn index(
        &self,
        part: &Part,
        shared: &RwLock<Shared>,
    ) -> Result<Option<Arc<Index>>, LogError> {
        Ok(self.full(part, shared)?.map(|(_, index)| index))
    }

    fn full(&self, part: &Part, shared: &RwLock<Shared>) -> Result<Option<Loaded<D>>, LogError> {
        if let Some(found) = self.state().find(part.number) {
            return Ok(Some(found));
        }
        let loaded = self.load(part);
        let mut state = self.state();
        // While nobody can take a file out of the log without hearing of this handle: what was removed
        // meanwhile may be full of zeros already, and is not to be read.
        if !look(shared).parts.has(part.number) {
            return Ok(None);
        }
        let (file, index) = loaded?;
        state.keep(Full {
            number: part.number,
            file: Arc::clone(&file),
            index: Arc::clone(&index),
        });
        Ok(Some((file, index)))
    }

    /// Opens a full file, and reads its index.
    fn load(&self, part: &Part) -> Result<Loaded<D>, LogError> {
        let path = self.path(part.number);
        let file = self
            .disk
            .open(&self.names.file(part.number), Open::Read)
            .map_err(|source| LogError::Io { op: "open", path: path.clone(), source })?;
        let target = Target { file, path };
        let missing = || LogError::Corrupt {
            path: target.path.clone(),
            offset: 0,
            seq: part.first,
            what: "its header is gone",
        };
        let (segment, _) = target.segment(None)?.ok_or_else(missing)?;
        check_encoder(&segment, &*self.encoder, &target.path)?;
        if segment.stamp() != part.stamp {
            return Err(missing());
        }
        let mut state =
            State::new(segment.identity, segment.hard, segment.tail.end, segment.tail.term);
        state.terms = Terms::empty(segment.tail.end, segment.tail.term);
        state.owed = Some(segment.start);
        let scan = Scan::new(&target.file, &target.path, segment, state, &*self.encoder)?;
        let mut scan = scan.on_damage(self.damaged);
        scan.run_full(part.last, part.after)?;
        let index = std::mem::take(&mut scan.index);
        drop(scan);
        Ok((Arc::new(target.file), Arc::new(index)))
    }
}

impl<D: Disk> Files<D> {
    fn find(&mut self, number: u64) -> Option<Loaded<D>> {
        let at = self.full.iter().position(|full| full.number == number)?;
        let full = self.full.remove(at)?;
        let found = (Arc::clone(&full.file), Arc::clone(&full.index));
        self.full.push_back(full);
        Some(found)
    }

    fn keep(&mut self, full: Full<D>) {
        self.full.retain(|other| other.number != full.number);
        self.full.push_back(full);
        if self.full.len() > FILES_MAX {
            self.full.pop_front();
        }
    }
}
