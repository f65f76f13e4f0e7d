//! A disk in memory that fails in every way a disk can, and the same way each time.
//!
//! Each file has two images: what reads see, and what is durable. A write changes the first, sector by
//! sector, and the disk remembers every version that a sector had since the last sync. Then:
//!
//! * [`SimDisk::kill`]: the process dies. The kernel lives, so everything written can be read.
//! * [`SimDisk::power_loss`]: each sector that was not synced keeps any one of its versions, each file any
//!   one of its lengths, each creation, removal or renaming happened or not. In any combination, but for
//!   changes of the directory that build on one another.
//! * A sync that fails loses what it should have made durable: reads still see it, a later sync succeeds and
//!   does not save it, and a power loss takes it.
//! * A durable write is a write and a sync of its own sectors: two steps, between which all this can happen.
//!   It makes nothing else durable.
//!
//! And while the process lives, writes and syncs fail ([`SimDisk::fail_write`], [`SimDisk::fail_sync`],
//! [`SimDisk::set_capacity`]), are lost or go elsewhere though they report success ([`SimDisk::lose_write`],
//! [`SimDisk::misdirect_write`]) or hang ([`SimDisk::stall`]); places can't be read
//! ([`SimDisk::fail_reads`]); bytes and files change behind everybody's back ([`SimDisk::flip_bit`],
//! [`SimDisk::edit`], [`SimDisk::put`], [`SimDisk::take`]).
//!
//! All files of a crashed disk fail for ever: open the log again to get new ones, as a new process would.

mod calls;
mod directory;
mod faults;
mod image;
mod pages;
mod power;
mod rng;
mod stall;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use self::{
    calls::{SimFile, SimLock},
    faults::Lost,
    power::Doubt,
    rng::SimRng,
};
use self::{
    directory::Directory,
    faults::{Planned, Stray},
    image::Image,
    stall::Stall,
};

const SECTOR_BYTES: usize = 512;

/// What happened on a disk so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SimStats {
    /// Calls of `write_at`.
    pub writes: u64,
    /// Bytes they wrote.
    pub bytes_written: u64,
    /// Calls of `sync_data` that succeeded.
    pub syncs: u64,
    /// Sectors that a power loss took back, wholly or to an older version.
    pub sectors_lost: u64,
    /// Faults that were asked for and happened.
    pub faults: u64,
}

#[derive(Debug, Default)]
struct Inner {
    /// Every file that has a name, may have one after a crash, or is open.
    images: BTreeMap<u64, Image>,
    directory: Directory,
    /// How often each file is open.
    open: BTreeMap<u64, u64>,
    next_file: u64,
    locks: BTreeSet<String>,
    /// Rises with each crash. Files and locks of another life are dead.
    life: u64,
    /// Kept only if asked for, or it would grow without end.
    operations: Option<Vec<String>>,
    /// Operations so far, in this life.
    count: u64,
    crash_after: Option<u64>,
    crashed: bool,
    capacity: Option<u64>,
    fail_write: Option<Planned<io::ErrorKind>>,
    stray: Option<Planned<Stray>>,
    fail_sync: Option<Planned<io::ErrorKind>>,
    /// Draws which sectors a sync that fails made durable; none if there is none.
    survivors: Option<SimRng>,
    stall: Stall,
    whole_blocks_from: Option<u64>,
    stats: SimStats,
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

impl SimDisk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk with the same contents, durable and not, and a fate of its own.
    #[must_use]
    pub fn fork(&self) -> Self {
        let inner = self.inner();
        let copy = Inner {
            images: inner.images.clone(),
            directory: inner.directory.clone(),
            next_file: inner.next_file,
            life: inner.life + 1,
            capacity: inner.capacity,
            whole_blocks_from: inner.whole_blocks_from,
            ..Inner::default()
        };
        Self { inner: Arc::new(Mutex::new(copy)) }
    }

    /// From now on `count` operations that change something succeed; then all fail, as if the process died.
    pub fn crash_after(&self, count: u64) {
        let mut inner = self.inner();
        inner.crash_after = Some(inner.count + count);
    }

    /// How many operations that change something there were since the last crash.
    pub fn operation_count(&self) -> u64 {
        self.inner().count
    }

    /// How many bytes all files together may have; a write beyond fails with
    /// [`io::ErrorKind::StorageFull`].
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.inner().capacity = bytes;
    }

    /// What [`DiskFile::whole_blocks_from`](crate::DiskFile::whole_blocks_from) says from now on; nothing on a new disk.
    pub fn set_whole_blocks_from(&self, bytes: Option<u64>) {
        self.inner().whole_blocks_from = bytes;
    }

    /// How many bytes all files together have.
    pub fn bytes_used(&self) -> u64 {
        self.inner().used()
    }

    /// Changes the bytes of a file behind everybody's back, durably.
    pub fn edit<T>(&self, file: &str, change: impl FnOnce(&mut Vec<u8>) -> T) -> Option<T> {
        let mut inner = self.inner();
        let number = inner.directory.number(file)?;
        let image = inner.images.get_mut(&number)?;
        let mut bytes = image.seen.to_vec();
        let result = change(&mut bytes);
        image.replace(&bytes);
        Some(result)
    }

    /// Changes the bytes of every file, in the order of their names, behind everybody's back, durably.
    pub fn edit_all(&self, mut change: impl FnMut(&str, &mut Vec<u8>)) {
        for file in self.files() {
            self.edit(&file, |bytes| change(&file, bytes));
        }
    }

    /// Puts a file there behind everybody's back, durably; one that had this name is gone. Which files there
    /// are is durable then.
    pub fn put(&self, file: &str, bytes: &[u8]) {
        let mut inner = self.inner();
        inner.add(file, Image::of(bytes));
        inner.directory.sync();
        inner.forget_unlinked();
    }

    /// Takes a file away behind everybody's back, durably, and returns its bytes. Which files there are is
    /// durable then.
    pub fn take(&self, file: &str) -> Option<Vec<u8>> {
        let bytes = self.contents(file)?;
        let mut inner = self.inner();
        inner.directory.remove(file);
        inner.directory.sync();
        inner.forget_unlinked();
        Some(bytes)
    }

    /// The names of the files, sorted, on a crashed disk too.
    pub fn files(&self) -> Vec<String> {
        self.inner().directory.names()
    }

    /// The bytes of a file, as reads see them if all of it can be read.
    pub fn contents(&self, file: &str) -> Option<Vec<u8>> {
        let inner = self.inner();
        let number = inner.directory.number(file)?;
        inner.images.get(&number).map(|image| image.seen.to_vec())
    }

    /// The operations since this was last called, those that only read left out; none the first time.
    pub fn take_operations(&self) -> Vec<String> {
        self.inner().operations.replace(Vec::new()).unwrap_or_default()
    }

    /// What happened so far.
    pub fn stats(&self) -> SimStats {
        self.inner().stats
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn dead() -> io::Error {
    io::Error::other("the process that had this open has died")
}

impl Inner {
    /// Whether this life goes on; counts an operation that changes something.
    fn step(&mut self, life: u64, operation: impl FnOnce() -> String) -> io::Result<()> {
        self.alive(life)?;
        if self.crash_after.is_some_and(|after| self.count >= after) {
            self.crashed = true;
            self.stall.wake.notify_all();
            return Err(dead());
        }
        self.count += 1;
        if let Some(operations) = &mut self.operations {
            operations.push(operation());
        }
        Ok(())
    }

    fn alive(&self, life: u64) -> io::Result<()> {
        if self.crashed || life != self.life { Err(dead()) } else { Ok(()) }
    }

    fn used(&self) -> u64 {
        self.images.values().map(|image| image.seen.len()).sum()
    }

    /// A new file of this name.
    fn add(&mut self, name: &str, image: Image) -> u64 {
        let number = self.next_file;
        self.next_file += 1;
        self.images.insert(number, image);
        self.directory.create(name, number);
        number
    }

    fn forget_unlinked(&mut self) {
        let linked = self.directory.linked();
        let open = &self.open;
        self.images.retain(|number, _| linked.contains(number) || open.contains_key(number));
    }

    fn image(&mut self, number: u64) -> io::Result<&mut Image> {
        self.images.get_mut(&number).ok_or_else(dead)
    }
}
