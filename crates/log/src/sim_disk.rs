//! A disk in memory that fails in every way a disk can, and the same way each time.
//!
//! Each file has two images: what reads see, and what is durable. A write changes the first, sector by
//! sector, and the disk remembers every version that a sector had since the last sync. Then:
//!
//! * [`SimDisk::kill`]: the process dies. The kernel lives, so everything written can be read.
//! * [`SimDisk::power_loss`]: each sector that was not synced keeps any one of its versions, each file any
//!   one of its lengths, each creation or removal happened or not. In any combination.
//! * A sync that fails loses what it should have made durable: reads still see it, a later sync succeeds and
//!   does not save it, and a power loss takes it.
//!
//! All files of a crashed disk fail for ever: open the log again to get new ones, as a new process would.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    Disk, DiskFile, Open,
    num::{u64_of, usize_of},
};

const SECTOR_BYTES: usize = 512;

/// Randomness from a given seed: `SplitMix64`.
#[derive(Clone, Debug)]
pub struct SimRng(u64);

impl SimRng {
    /// The numbers of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..limit`; 0 if `limit` is 0.
    pub const fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next() % limit }
    }
}

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
    /// Whether a file was created or removed: 0 is not, 1 is.
    Entry {
        /// The file.
        file: String,
    },
}

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

/// A fault that waits for its call.
#[derive(Clone, Copy, Debug)]
struct Planned {
    /// How many calls succeed before.
    after: u64,
    kind: io::ErrorKind,
}

#[derive(Clone, Debug, Default)]
struct Image {
    /// What reads see.
    seen: Vec<u8>,
    /// What is durable.
    durable: Vec<u8>,
    /// Versions of sectors since the last sync.
    versions: BTreeMap<u64, Vec<[u8; SECTOR_BYTES]>>,
    /// The length changed since the last sync.
    resized: bool,
}

#[derive(Debug, Default)]
struct Inner {
    /// Every file that may exist after a crash.
    images: BTreeMap<u64, Image>,
    /// Which name is which file, as the process sees it and durably.
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Renames since the directory was last synced, by the new name: what the old one was.
    renames: BTreeMap<String, String>,
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
    fail_write: Option<Planned>,
    fail_sync: Option<Planned>,
    /// Draws which sectors a sync that fails made durable; none if there is none.
    survivors: Option<SimRng>,
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
            names: inner.names.clone(),
            durable_names: inner.durable_names.clone(),
            renames: inner.renames.clone(),
            next_file: inner.next_file,
            life: inner.life + 1,
            capacity: inner.capacity,
            ..Inner::default()
        };
        Self { inner: Arc::new(Mutex::new(copy)) }
    }

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

    /// What a power loss would decide now, and between how many choices each.
    pub fn doubts(&self) -> Vec<(Doubt, u64)> {
        let mut doubts = Vec::new();
        self.fork().power_loss_choosing(|doubt, choices| {
            doubts.push((doubt.clone(), choices));
            0
        });
        doubts
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

    /// After `after` more writes, one fails. Nothing of it is written.
    pub fn fail_write(&self, after: u64, kind: io::ErrorKind) {
        self.inner().fail_write = Some(Planned { after, kind });
    }

    /// After `after` more syncs, one fails: what it should have made durable is lost, though reads still see
    /// it.
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

    /// How many bytes all files together may have; a write beyond fails with
    /// [`io::ErrorKind::StorageFull`].
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.inner().capacity = bytes;
    }

    /// How many bytes all files together have.
    pub fn bytes_used(&self) -> u64 {
        self.inner().used()
    }

    /// Flips one bit, durably. Says whether the file is that long.
    pub fn flip_bit(&self, file: &str, bit: u64) -> bool {
        self.edit(file, |bytes| {
            bytes.get_mut(usize_of(bit / 8)).map(|byte| *byte ^= 1 << (bit % 8)).is_some()
        })
        .unwrap_or(false)
    }

    /// Changes the bytes of a file behind everybody's back, durably.
    pub fn edit<T>(&self, file: &str, change: impl FnOnce(&mut Vec<u8>) -> T) -> Option<T> {
        let mut inner = self.inner();
        let number = *inner.names.get(file)?;
        let image = inner.images.get_mut(&number)?;
        let result = change(&mut image.seen);
        image.durable.clone_from(&image.seen);
        image.versions.clear();
        image.resized = false;
        Some(result)
    }

    /// The bytes of a file, as reads see them.
    pub fn contents(&self, file: &str) -> Option<Vec<u8>> {
        let inner = self.inner();
        inner
            .names
            .get(file)
            .and_then(|number| inner.images.get(number))
            .map(|image| image.seen.clone())
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
    fn die(&mut self) {
        self.life += 1;
        self.locks.clear();
        (self.count, self.crash_after, self.crashed) = (0, None, false);
        (self.fail_write, self.fail_sync, self.survivors) = (None, None, None);
    }

    fn power_loss(&mut self, mut choose: impl FnMut(&Doubt, u64) -> u64) {
        let names: BTreeSet<String> =
            self.names.keys().chain(self.durable_names.keys()).cloned().collect();
        for file in names {
            let (seen, durable) =
                (self.names.get(&file).copied(), self.durable_names.get(&file).copied());
            // The old name of a renamed file goes when the new one comes.
            if self.renames.values().any(|old| *old == file) {
                continue;
            }
            if seen != durable && choose(&Doubt::Entry { file: file.clone() }, 2) > 0 {
                if let Some(old) = self.renames.get(&file) {
                    self.durable_names.remove(old);
                }
                match seen {
                    Some(number) => self.durable_names.insert(file, number),
                    None => self.durable_names.remove(&file),
                };
            }
        }
        self.renames.clear();
        self.names = self.durable_names.clone();
        for (file, number) in &self.names {
            let Some(image) = self.images.get_mut(number) else { continue };
            self.stats.sectors_lost += image.lose(file, &mut choose);
        }
        let kept: BTreeSet<u64> = self.names.values().copied().collect();
        self.images.retain(|number, _| kept.contains(number));
        self.die();
    }

    /// Whether this life goes on; counts an operation that changes something.
    fn step(&mut self, life: u64, operation: impl FnOnce() -> String) -> io::Result<()> {
        self.alive(life)?;
        if self.crash_after.is_some_and(|after| self.count >= after) {
            self.crashed = true;
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
        self.images.values().map(|image| u64_of(image.seen.len())).sum()
    }

    fn image(&mut self, number: u64) -> io::Result<&mut Image> {
        self.images.get_mut(&number).ok_or_else(dead)
    }

    /// The fault that is planned for this call, if it is its turn.
    fn fault(planned: &mut Option<Planned>) -> Option<io::Error> {
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

    fn note(&mut self, text: &str) {
        self.stats.faults += 1;
        if let Some(last) = self.operations.as_mut().and_then(|operations| operations.last_mut()) {
            let _ = write!(last, " -> {text}");
        }
    }
}

impl Image {
    fn sector(bytes: &[u8], sector: u64) -> [u8; SECTOR_BYTES] {
        let mut copy = [0; SECTOR_BYTES];
        let at = usize_of(sector) * SECTOR_BYTES;
        let there = bytes.get(at..bytes.len().min(at + SECTOR_BYTES)).unwrap_or_default();
        copy.iter_mut().zip(there).for_each(|(to, from)| *to = *from);
        copy
    }

    fn put_sector(bytes: &mut [u8], sector: u64, content: &[u8; SECTOR_BYTES]) {
        let at = usize_of(sector) * SECTOR_BYTES;
        let end = bytes.len().min(at + SECTOR_BYTES);
        if let Some(there) = bytes.get_mut(at..end) {
            there.iter_mut().zip(content).for_each(|(to, from)| *to = *from);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let (start, end) = (usize_of(offset), usize_of(offset) + data.len());
        if self.seen.len() < end {
            self.seen.resize(end, 0);
            self.resized = true;
        }
        if let Some(there) = self.seen.get_mut(start..end) {
            there.copy_from_slice(data);
        }
        if !data.is_empty() {
            for sector in start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
                let sector = u64_of(sector);
                self.versions.entry(sector).or_default().push(Self::sector(&self.seen, sector));
            }
        }
    }

    fn sync(&mut self) {
        self.durable.resize(self.seen.len(), 0);
        for sector in std::mem::take(&mut self.versions).into_keys() {
            Self::put_sector(&mut self.durable, sector, &Self::sector(&self.seen, sector));
        }
        self.resized = false;
    }

    /// The kernel gave up writing: it counts its pages as clean and forgets that they differ.
    fn fail_sync(&mut self, survivors: Option<SimRng>) {
        self.durable.resize(self.seen.len(), 0);
        let mut survivors = survivors;
        for sector in std::mem::take(&mut self.versions).into_keys() {
            if survivors.as_mut().is_some_and(|rng| rng.below(2) > 0) {
                Self::put_sector(&mut self.durable, sector, &Self::sector(&self.seen, sector));
            }
        }
        self.resized = false;
    }

    fn lose(&mut self, file: &str, choose: &mut impl FnMut(&Doubt, u64) -> u64) -> u64 {
        let mut lost = 0;
        if self.resized && choose(&Doubt::Length { file: file.to_owned() }, 2) > 0 {
            self.durable.resize(self.seen.len(), 0);
        }
        for (sector, versions) in std::mem::take(&mut self.versions) {
            if usize_of(sector) * SECTOR_BYTES >= self.durable.len() {
                continue;
            }
            // Versions that repeat are one choice, or most choices would be none.
            let mut distinct = vec![Self::sector(&self.durable, sector)];
            for version in versions {
                if distinct.last() != Some(&version) {
                    distinct.push(version);
                }
            }
            let choices = u64_of(distinct.len());
            if choices < 2 {
                continue;
            }
            let chosen =
                choose(&Doubt::Sector { file: file.to_owned(), sector }, choices).min(choices - 1);
            lost += u64::from(chosen + 1 < choices);
            if let Some(content) = distinct.get(usize_of(chosen)) {
                Self::put_sector(&mut self.durable, sector, content);
            }
        }
        self.seen.clone_from(&self.durable);
        self.resized = false;
        lost
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn open(&self, name: &str, how: Open) -> io::Result<SimFile> {
        let mut inner = self.inner();
        let life = inner.life;
        inner.alive(life)?;
        let number = match inner.names.get(name) {
            Some(&number) => number,
            None if how == Open::Create => {
                inner.step(life, || format!("create {name}"))?;
                let number = inner.next_file;
                inner.next_file += 1;
                inner.images.insert(number, Image::default());
                inner.names.insert(name.to_owned(), number);
                number
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        drop(inner);
        Ok(SimFile { disk: self.clone(), name: name.to_owned(), number, life })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let inner = self.inner();
        inner.alive(inner.life)?;
        Ok(inner.names.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.inner();
        let life = inner.life;
        if !inner.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.step(life, || format!("remove {name}"))?;
        inner.names.remove(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.inner();
        let life = inner.life;
        if !inner.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.step(life, || format!("rename {from} {to}"))?;
        let Some(number) = inner.names.remove(from) else { return Err(dead()) };
        inner.names.insert(to.to_owned(), number);
        inner.renames.insert(to.to_owned(), from.to_owned());
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut inner = self.inner();
        let life = inner.life;
        inner.step(life, || "sync directory".to_owned())?;
        inner.durable_names = inner.names.clone();
        inner.renames.clear();
        let kept: BTreeSet<u64> = inner.names.values().copied().collect();
        inner.images.retain(|number, _| kept.contains(number));
        Ok(())
    }

    fn lock(&self, name: &str) -> io::Result<SimLock> {
        let mut inner = self.inner();
        inner.alive(inner.life)?;
        if !inner.locks.insert(name.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let life = inner.life;
        drop(inner);
        Ok(SimLock { disk: self.clone(), name: name.to_owned(), life })
    }

    fn in_background(&self) -> bool {
        false
    }

    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }
}

/// A file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    name: String,
    number: u64,
    life: u64,
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut inner = self.disk.inner();
        inner.alive(self.life)?;
        inner.image(self.number).map(|image| u64_of(image.seen.len()))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.disk.inner();
        inner.alive(self.life)?;
        let image = inner.image(self.number)?;
        let there =
            usize::try_from(offset).ok().and_then(|at| image.seen.get(at..)).unwrap_or_default();
        buffer.iter_mut().zip(there).for_each(|(to, from)| *to = *from);
        Ok(buffer.len().min(there.len()))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.step(self.life, || {
            let zeros =
                if !data.is_empty() && data.iter().all(|&byte| byte == 0) { " zeros" } else { "" };
            format!("write {} {offset}+{}{zeros}", self.name, data.len())
        })?;
        if let Some(error) = Inner::fault(&mut inner.fail_write) {
            inner.note(&error.to_string());
            return Err(error);
        }
        let len = u64_of(inner.image(self.number)?.seen.len());
        let grown = (offset + u64_of(data.len())).saturating_sub(len);
        if inner.capacity.is_some_and(|capacity| inner.used() + grown > capacity) {
            inner.note("no space");
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.stats.writes += 1;
        inner.stats.bytes_written += u64_of(data.len());
        inner.image(self.number)?.write(offset, data);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.step(self.life, || format!("sync {}", self.name))?;
        if let Some(error) = Inner::fault(&mut inner.fail_sync) {
            inner.note(&error.to_string());
            let survivors = inner.survivors.take();
            inner.image(self.number)?.fail_sync(survivors);
            return Err(error);
        }
        inner.stats.syncs += 1;
        inner.image(self.number)?.sync();
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.step(self.life, || format!("allocate {} {len}", self.name))?;
        let there = u64_of(inner.image(self.number)?.seen.len());
        let grown = len.saturating_sub(there);
        if inner.capacity.is_some_and(|capacity| inner.used() + grown > capacity) {
            inner.note("no space");
            return Err(io::ErrorKind::StorageFull.into());
        }
        if grown > 0 {
            let image = inner.image(self.number)?;
            image.seen.resize(usize_of(len), 0);
            image.resized = true;
        }
        Ok(())
    }
}

/// A lock on a [`SimDisk`].
#[derive(Debug)]
pub struct SimLock {
    disk: SimDisk,
    name: String,
    life: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut inner = self.disk.inner();
        if inner.life == self.life {
            inner.locks.remove(&self.name);
        }
    }
}
