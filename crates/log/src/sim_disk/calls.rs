//! The calls that a log makes.

use std::{io, path::PathBuf};

use super::{Image, Inner, SimDisk, faults::Planned, stall};
use crate::{Disk, DiskFile, Open, num::u64_of};

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn open(&self, name: &str, how: Open) -> io::Result<SimFile> {
        let mut inner = self.inner();
        let life = inner.life;
        inner.alive(life)?;
        let number = match inner.directory.number(name) {
            Some(number) => number,
            None if how == Open::Create => {
                inner.step(life, || format!("create {name}"))?;
                inner.add(name, Image::default())
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        *inner.open.entry(number).or_default() += 1;
        drop(inner);
        Ok(SimFile { disk: self.clone(), name: name.to_owned(), number, life })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let inner = self.inner();
        inner.alive(inner.life)?;
        Ok(inner.directory.names())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.inner();
        let life = inner.life;
        inner.directory.number(name).ok_or(io::ErrorKind::NotFound)?;
        inner.step(life, || format!("remove {name}"))?;
        inner.directory.remove(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.inner();
        let life = inner.life;
        inner.directory.number(from).ok_or(io::ErrorKind::NotFound)?;
        inner.step(life, || format!("rename {from} {to}"))?;
        inner.directory.rename(from, to);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut inner = self.inner();
        let life = inner.life;
        inner.step(life, || "sync directory".to_owned())?;
        inner = stall::pass(inner, life)?;
        inner.directory.sync();
        inner.forget_unlinked();
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
    /// Says whether it is a write like any other: not one that goes astray.
    fn write(&self, inner: &mut Inner, offset: u64, data: &[u8]) -> io::Result<bool> {
        inner.step(self.life, || {
            let zeros =
                if !data.is_empty() && data.iter().all(|&byte| byte == 0) { " zeros" } else { "" };
            format!("write {} {offset}+{}{zeros}", self.name, data.len())
        })?;
        if let Some(kind) = Planned::due(&mut inner.fail_write) {
            let error = io::Error::from(kind);
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
        if let Some(stray) = Planned::due(&mut inner.stray) {
            inner.go_astray(&stray, self.number, offset, data)?;
            return Ok(false);
        }
        inner.image(self.number)?.write(offset, data);
        Ok(true)
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
        let read = inner.image(self.number)?.read(offset, buffer);
        inner.stats.faults += u64::from(read.is_err());
        read
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write(&mut self.disk.inner(), offset, data).map(|_| ())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.step(self.life, || format!("sync {}", self.name))?;
        inner = stall::pass(inner, self.life)?;
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
        let whole = self.write(&mut inner, offset, data)?;
        inner.step(self.life, || format!("sync {} {offset}+{}", self.name, data.len()))?;
        inner = stall::pass(inner, self.life)?;
        let fault = inner.sync_fault();
        let (image, count) = (inner.image(self.number)?, u64_of(data.len()));
        match fault {
            None if whole => image.sync_range(offset, count),
            // Whatever went astray had its effect.
            None => {}
            Some((error, survivors)) => {
                image.fail_sync_range(offset, count, survivors);
                return Err(error);
            }
        }
        inner.stats.syncs += 1;
        Ok(())
    }

    fn whole_blocks_from(&self) -> Option<u64> {
        self.disk.inner().whole_blocks_from
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

impl Drop for SimFile {
    /// A file that was removed goes when nobody has it open any more.
    fn drop(&mut self) {
        let mut inner = self.disk.inner();
        if inner.life != self.life {
            return;
        }
        if let Some(count) = inner.open.get_mut(&self.number) {
            *count -= 1;
            if *count == 0 {
                inner.open.remove(&self.number);
                inner.forget_unlinked();
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim_disk::{Doubt, SimRng};

    /// Two sectors of ones, durable, and an open file.
    fn file() -> (SimDisk, SimFile) {
        let disk = SimDisk::new();
        disk.put("f", &[1; 1024]);
        let file = disk.open("f", Open::Write).unwrap();
        (disk, file)
    }

    /// What is left after the power fails and takes all it can.
    fn left(disk: &SimDisk) -> Vec<u8> {
        let disk = disk.fork();
        disk.power_loss_choosing(|_, _| 0);
        disk.contents("f").unwrap()
    }

    /// Fails if a durable write syncs more than it wrote.
    #[test]
    fn a_durable_write_covers_its_own_sectors() {
        let (disk, file) = file();
        disk.take_operations();
        file.write_at(0, &[2; 10]).unwrap();
        file.write_at(600, &[2; 10]).unwrap();
        file.allocate(4096).unwrap();
        file.write_durable_at(1024, &[3; 100]).unwrap();
        assert_eq!(disk.take_operations().last().unwrap(), "sync f 1024+100");
        let sector = |sector| (Doubt::Sector { file: "f".to_owned(), sector }, 2);
        let length = (Doubt::Length { file: "f".to_owned() }, 2);
        assert_eq!(disk.doubts(), [length.clone(), sector(0), sector(1)]);
        assert_eq!(left(&disk), [vec![1; 1024], vec![3; 100]].concat());
        // Of a sector that both wrote, all is durable.
        file.write_durable_at(500, &[4; 20]).unwrap();
        assert_eq!(disk.doubts(), [length]);
        assert_eq!(left(&disk)[..10], [2; 10]);
        assert_eq!(left(&disk)[600..610], [2; 10]);
        let before = disk.stats();
        file.write_durable_at(4000, &[]).unwrap();
        assert_eq!(left(&disk).len(), 1124);
        assert_eq!(disk.stats().syncs, before.syncs + 1);
    }

    /// The process dies before the write, between its two steps, or after both.
    #[test]
    fn a_durable_write_is_two_steps() {
        for steps in 0..3 {
            let (disk, file) = file();
            disk.crash_after(steps);
            assert_eq!(file.write_durable_at(0, &[5; 512]).is_ok(), steps == 2);
            assert_eq!(disk.doubts().len(), usize::from(steps == 1));
            assert_eq!(left(&disk)[0], if steps == 2 { 5 } else { 1 });
            disk.kill();
            assert_eq!(disk.contents("f").unwrap()[0], if steps > 0 { 5 } else { 1 });
        }
    }

    /// A durable write fails: its own sectors are lost, or those that are drawn, and nothing else.
    #[test]
    fn a_durable_write_that_fails_loses_its_own_sectors() {
        let (disk, file) = file();
        file.write_at(0, &[2; 10]).unwrap();
        disk.fail_sync(0, io::ErrorKind::Other);
        file.write_durable_at(512, &[3; 1000]).unwrap_err();
        assert_eq!(disk.contents("f").unwrap()[512..], [3; 1000], "reads see it");
        assert_eq!(disk.doubts().len(), 2, "the first sector and the length");
        file.sync_data().unwrap();
        assert_eq!(left(&disk)[..11], [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]);
        assert_eq!(left(&disk)[512..], [vec![1; 512], vec![0; 488]].concat());

        let mut kept = 0;
        for seed in 0..20 {
            disk.fail_sync_partly(0, io::ErrorKind::Other, SimRng::new(seed));
            file.write_durable_at(0, &[4; 1024]).unwrap_err();
            kept += left(&disk).chunks(512).filter(|sector| sector[100] == 4).count();
            file.write_durable_at(0, &[1; 1024]).unwrap();
        }
        assert!((5..35).contains(&kept), "{kept} of 40");
    }

    /// Fails if removing a file takes it from those who have it open.
    #[test]
    fn a_removed_file_can_be_read_while_it_is_open() {
        let (disk, file) = file();
        disk.remove("f").unwrap();
        disk.sync_dir().unwrap();
        assert!(disk.open("f", Open::Read).is_err() && disk.files().is_empty());
        let mut buffer = [0; 2000];
        assert_eq!(file.read_at(0, &mut buffer).unwrap(), 1024);
        assert_eq!(disk.bytes_used(), 1024);
        drop(file);
        assert_eq!(disk.bytes_used(), 0, "its space is free");
    }

    #[test]
    fn files_behind_everybodys_back() {
        let (disk, file) = file();
        disk.put("g", b"good");
        disk.put("h", b"gone");
        assert_eq!(disk.take("h"), Some(b"gone".to_vec()));
        assert_eq!(disk.take("h"), None);
        file.write_at(0, &[2; 10]).unwrap();
        disk.edit_all(|name, bytes| bytes.extend(name.bytes()));
        let after = disk.fork();
        after.power_loss_choosing(|_, _| 0);
        assert_eq!(after.files(), ["f", "g"]);
        assert_eq!(after.contents("g").unwrap(), b"goodg");
        assert_eq!(after.contents("f").unwrap().len(), 1025);
        assert_eq!(after.contents("f").unwrap()[9], 2);
        // Another file of the same name: who has the old one open sees that.
        disk.put("f", b"other");
        assert_eq!((file.len().unwrap(), disk.contents("f").unwrap().len()), (1025, 5));
    }
}
