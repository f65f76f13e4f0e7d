//! The calls that a log makes.

use std::{collections::BTreeSet, io, path::PathBuf};

use super::{Image, Inner, SimDisk, dead};
use crate::{Disk, DiskFile, Open, num::u64_of};

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

impl SimFile {
    fn write(&self, inner: &mut Inner, offset: u64, data: &[u8]) -> io::Result<()> {
        inner.step(self.life, || {
            let zeros =
                if !data.is_empty() && data.iter().all(|&byte| byte == 0) { " zeros" } else { "" };
            format!("write {} {offset}+{}{zeros}", self.name, data.len())
        })?;
        if let Some(error) = Inner::fault(&mut inner.fail_write) {
            inner.note(&error.to_string());
            return Err(error);
        }
        let len = inner.image(self.number)?.seen.len();
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
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut inner = self.disk.inner();
        inner.alive(self.life)?;
        inner.image(self.number).map(|image| image.seen.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.disk.inner();
        inner.alive(self.life)?;
        Ok(inner.image(self.number)?.seen.read(offset, buffer))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write(&mut self.disk.inner(), offset, data)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.step(self.life, || format!("sync {}", self.name))?;
        let fault = inner.sync_fault();
        let image = inner.image(self.number)?;
        match fault {
            None => image.sync(),
            Some((error, survivors)) => {
                image.fail_sync(survivors);
                return Err(error);
            }
        }
        inner.stats.syncs += 1;
        Ok(())
    }

    /// Two steps, and the process may die between them. Only what it wrote becomes durable: see
    /// [`DiskFile::write_durable_at`].
    fn write_durable_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.disk.inner();
        self.write(&mut inner, offset, data)?;
        inner.step(self.life, || format!("sync {} {offset}+{}", self.name, data.len()))?;
        let fault = inner.sync_fault();
        let (image, count) = (inner.image(self.number)?, u64_of(data.len()));
        match fault {
            None => image.sync_range(offset, count),
            Some((error, survivors)) => {
                image.fail_sync_range(offset, count, survivors);
                return Err(error);
            }
        }
        inner.stats.syncs += 1;
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.step(self.life, || format!("allocate {} {len}", self.name))?;
        let there = inner.image(self.number)?.seen.len();
        let grown = len.saturating_sub(there);
        if inner.capacity.is_some_and(|capacity| inner.used() + grown > capacity) {
            inner.note("no space");
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.image(self.number)?.seen.reach(len);
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
