//! What goes wrong while the process lives.

use std::{fmt::Write as _, io};

use super::{Inner, SimDisk, SimRng};
use crate::num::usize_of;

/// A fault that waits for its call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    /// How many calls succeed before.
    after: u64,
    kind: io::ErrorKind,
}

impl SimDisk {
    /// After `after` more writes, one fails. Nothing of it is written.
    pub fn fail_write(&self, after: u64, kind: io::ErrorKind) {
        self.inner().fail_write = Some(Planned { after, kind });
    }

    /// After `after` more syncs, one fails: what it should have made durable is lost, though reads still see
    /// it. A durable write counts as a sync of its own sectors.
    pub fn fail_sync(&self, after: u64, kind: io::ErrorKind) {
        self.inner().fail_sync = Some(Planned { after, kind });
    }

    /// After `after` more syncs, one fails: of what it should have made durable, the sectors that `rng` draws
    /// are, and the others are lost, though reads still see them.
    pub fn fail_sync_partly(&self, after: u64, kind: io::ErrorKind, rng: SimRng) {
        let mut inner = self.inner();
        inner.fail_sync = Some(Planned { after, kind });
        inner.survivors = Some(rng);
    }

    /// Flips one bit, durably. Says whether the file is that long.
    pub fn flip_bit(&self, file: &str, bit: u64) -> bool {
        self.edit(file, |bytes| {
            bytes.get_mut(usize_of(bit / 8)).map(|byte| *byte ^= 1 << (bit % 8)).is_some()
        })
        .unwrap_or(false)
    }
}

impl Inner {
    /// The fault that is planned for this call, if it is its turn.
    pub(super) fn fault(planned: &mut Option<Planned>) -> Option<io::Error> {
        match planned {
            Some(Planned { after: 0, kind }) => {
                let error = (*kind).into();
                *planned = None;
                Some(error)
            }
            Some(Planned { after, .. }) => {
                *after -= 1;
                None
            }
            None => None,
        }
    }

    /// The fault that is planned for this sync, and which sectors survive it.
    pub(super) fn sync_fault(&mut self) -> Option<(io::Error, Option<SimRng>)> {
        let error = Self::fault(&mut self.fail_sync)?;
        self.note(&error.to_string());
        Some((error, self.survivors.take()))
    }

    pub(super) fn note(&mut self, text: &str) {
        self.stats.faults += 1;
        if let Some(last) = self.operations.as_mut().and_then(|operations| operations.last_mut()) {
            let _ = write!(last, " -> {text}");
        }
    }
}
