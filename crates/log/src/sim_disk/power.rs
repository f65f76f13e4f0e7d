//! How a life ends: the process dies, or the power fails.

use super::{Inner, SimDisk, SimRng};

/// Something that a power loss decides.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Doubt {
    /// Which version of a sector is on the disk: 0 is the durable one, then each that was written since.
    Sector {
        /// The file.
        file: String,
        /// The number of the sector.
        sector: u64,
    },
    /// Which length a file has: 0 is the durable one, 1 the newest.
    Length {
        /// The file.
        file: String,
    },
    /// Whether a file was created, removed or renamed: 0 is not, 1 is, if what it builds on is.
    Entry {
        /// The file; of a rename, the new name.
        file: String,
    },
}

impl SimDisk {
    /// The process dies: open files and locks are gone, what was written can be read.
    pub fn kill(&self) {
        self.inner().die();
    }

    /// The power fails: what was not synced is there or not, as drawn from `rng`.
    pub fn power_loss(&self, rng: &mut SimRng) {
        self.power_loss_choosing(|_, choices| rng.below(choices));
    }

    /// The power fails: for everything that was not synced, `choose` says which of so many choices it is; see
    /// [`Doubt`].
    pub fn power_loss_choosing(&self, choose: impl FnMut(&Doubt, u64) -> u64) {
        self.inner().power_loss(choose);
    }

    /// What a power loss would decide now, and between how many choices each: if every file that is new is
    /// there, and as long as it was.
    pub fn doubts(&self) -> Vec<(Doubt, u64)> {
        let mut doubts = Vec::new();
        self.fork().power_loss_choosing(|doubt, choices| {
            doubts.push((doubt.clone(), choices));
            choices - 1
        });
        doubts
    }
}

impl Inner {
    fn die(&mut self) {
        self.life += 1;
        self.locks.clear();
        (self.count, self.crash_after, self.crashed) = (0, None, false);
        (self.fail_write, self.stray, self.fail_sync, self.survivors) = (None, None, None, None);
        self.open.clear();
        self.forget_unlinked();
        self.release();
    }

    fn power_loss(&mut self, mut choose: impl FnMut(&Doubt, u64) -> u64) {
        self.directory.lose(&mut choose);
        for (file, number) in self.directory.files() {
            let Some(image) = self.images.get_mut(&number) else { continue };
            self.stats.sectors_lost += image.lose(file, &mut choose);
        }
        self.die();
    }
}
