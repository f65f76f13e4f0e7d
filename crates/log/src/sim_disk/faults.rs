//! What goes wrong while the process lives.

use std::{fmt::Write as _, io, ops::Range};

use super::{Image, Inner, SimDisk, SimRng};

/// How a write gets lost that reports success.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lost {
    /// For everybody: the old bytes remain.
    Everywhere,
    /// For the disk: readers see it as long as the machine runs, and no sync finds anything to do.
    OnDisk,
}

/// A fault that waits for its call.
#[derive(Clone, Debug)]
pub(super) struct Planned<T> {
    /// How many calls come before.
    after: u64,
    what: T,
}

impl<T> Planned<T> {
    /// The fault that is planned for this call, if it is its turn.
    pub(super) fn due(planned: &mut Option<Self>) -> Option<T> {
        match planned {
            Some(Self { after: 0, .. }) => planned.take().map(|planned| planned.what),
            Some(Self { after, .. }) => {
                *after -= 1;
                None
            }
            None => None,
        }
    }
}

/// What becomes of a write that goes astray.
#[derive(Clone, Debug)]
pub(super) enum Stray {
    Lost(Lost),
    Misdirected { file: String, offset: u64 },
}

impl SimDisk {
    /// After `after` more writes, one fails. Nothing of it is written.
    pub fn fail_write(&self, after: u64, kind: io::ErrorKind) {
        self.inner().fail_write = Some(Planned { after, what: kind });
    }

    /// After `after` more syncs, one fails: what it should have made durable is lost, though reads still see
    /// it. A durable write counts as a sync of its own sectors.
    pub fn fail_sync(&self, after: u64, kind: io::ErrorKind) {
        self.inner().fail_sync = Some(Planned { after, what: kind });
    }

    /// After `after` more syncs, one fails: of what it should have made durable, the sectors that `rng` draws
    /// are, and the others are lost, though reads still see them.
    pub fn fail_sync_partly(&self, after: u64, kind: io::ErrorKind, rng: SimRng) {
        let mut inner = self.inner();
        inner.fail_sync = Some(Planned { after, what: kind });
        inner.survivors = Some(rng);
    }

    /// After `after` more writes, durable ones too, one is lost, though it reports success.
    pub fn lose_write(&self, after: u64, how: Lost) {
        self.inner().stray = Some(Planned { after, what: Stray::Lost(how) });
    }

    /// After `after` more writes, durable ones too, the disk puts one elsewhere: at this offset of this file,
    /// durably, whoever syncs. Where it belongs, the old bytes remain. What would lie beyond the end of the file
    /// is lost, and all of it if there is no such file.
    pub fn misdirect_write(&self, after: u64, file: &str, offset: u64) {
        let what = Stray::Misdirected { file: file.to_owned(), offset };
        self.inner().stray = Some(Planned { after, what });
    }

    /// From now on what touches these bytes of a file can't be read, whatever happens to the process, and in
    /// copies of this disk too. Says whether there is such a file.
    pub fn fail_reads(&self, file: &str, range: Range<u64>, kind: io::ErrorKind) -> bool {
        self.with_image(file, |image| image.fail_reads(range, kind)).is_some()
    }

    /// All of a file can be read again. Says whether there is such a file.
    pub fn mend_reads(&self, file: &str) -> bool {
        self.with_image(file, Image::mend_reads).is_some()
    }

    /// Flips one bit, durably. Says whether the file is that long.
    pub fn flip_bit(&self, file: &str, bit: u64) -> bool {
        self.with_image(file, |image| image.flip(bit)).unwrap_or(false)
    }

    fn with_image<T>(&self, file: &str, with: impl FnOnce(&mut Image) -> T) -> Option<T> {
        let mut inner = self.inner();
        let number = inner.directory.number(file)?;
        inner.images.get_mut(&number).map(with)
    }
}

impl Inner {
    /// The fault that is planned for this sync, and which sectors survive it.
    pub(super) fn sync_fault(&mut self) -> Option<(io::Error, Option<SimRng>)> {
        let error = io::Error::from(Planned::due(&mut self.fail_sync)?);
        self.note(&error.to_string());
        Some((error, self.survivors.take()))
    }

    /// What becomes of a write that does not go where it should.
    pub(super) fn go_astray(
        &mut self,
        stray: &Stray,
        number: u64,
        offset: u64,
        data: &[u8],
    ) -> io::Result<()> {
        match stray {
            Stray::Lost(Lost::Everywhere) => self.note("lost"),
            Stray::Lost(Lost::OnDisk) => {
                self.note("lost on the disk");
                self.image(number)?.write_past_disk(offset, data);
            }
            Stray::Misdirected { file, offset } => {
                self.note(&format!("went to {file} {offset}"));
                if let Some(number) = self.directory.number(file) {
                    self.image(number)?.write_astray(*offset, data);
                }
            }
        }
        Ok(())
    }

    pub(super) fn note(&mut self, text: &str) {
        self.stats.faults += 1;
        if let Some(last) = self.operations.as_mut().and_then(|operations| operations.last_mut()) {
            let _ = write!(last, " -> {text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Disk, DiskFile, Open, sim_disk::SimFile};

    /// Two sectors of ones, durable, and an open file.
    fn file() -> (SimDisk, SimFile) {
        let disk = SimDisk::new();
        disk.put("f", &[1; 1024]);
        let file = disk.open("f", Open::Write).unwrap();
        disk.take_operations();
        (disk, file)
    }

    fn byte(disk: &SimDisk, file: &str, at: usize) -> u8 {
        disk.contents(file).unwrap()[at]
    }

    fn byte_left(disk: &SimDisk, file: &str, at: usize) -> u8 {
        let disk = disk.fork();
        disk.power_loss_choosing(|_, choices| choices - 1);
        byte(&disk, file, at)
    }

    #[test]
    fn a_lost_write_reports_success() {
        for durable in [false, true] {
            for (how, seen) in [(Lost::Everywhere, 1), (Lost::OnDisk, 3)] {
                let (disk, file) = file();
                let write = |at, byte| {
                    if durable {
                        file.write_durable_at(at, &[byte; 512]).unwrap();
                    } else {
                        file.write_at(at, &[byte; 512]).unwrap();
                        file.sync_data().unwrap();
                    }
                };
                disk.lose_write(1, how);
                write(0, 2);
                write(512, 3);
                write(0, 4);
                assert!(disk.take_operations().iter().any(|line| line.contains("-> lost")));
                assert_eq!(disk.stats().faults, 1);
                assert_eq!((byte(&disk, "f", 0), byte(&disk, "f", 512)), (4, seen));
                assert_eq!((byte_left(&disk, "f", 0), byte_left(&disk, "f", 512)), (4, 1));
                write(512, 5);
                assert_eq!(byte_left(&disk, "f", 512), 5);
            }
        }
    }

    #[test]
    fn a_misdirected_write_is_durable_elsewhere() {
        for durable in [false, true] {
            let (disk, file) = file();
            disk.put("g", &[7; 600]);
            disk.misdirect_write(0, "g", 500);
            if durable {
                file.write_durable_at(0, &[2; 512]).unwrap();
            } else {
                file.write_at(0, &[2; 512]).unwrap();
                file.sync_data().unwrap();
            }
            for byte in [byte, byte_left] {
                assert_eq!(byte(&disk, "f", 0), 1);
                assert_eq!((byte(&disk, "g", 499), byte(&disk, "g", 599)), (7, 2));
            }
            assert_eq!(disk.contents("g").unwrap().len(), 600);
            // In the same file, and where there is none.
            disk.misdirect_write(0, "f", 512);
            file.write_durable_at(0, &[3; 8]).unwrap();
            assert_eq!((byte_left(&disk, "f", 0), byte_left(&disk, "f", 512)), (1, 3));
            disk.misdirect_write(0, "nowhere", 0);
            file.write_durable_at(0, &[4; 8]).unwrap();
            assert_eq!((byte(&disk, "f", 0), disk.stats().faults), (1, 3));
        }
    }

    #[test]
    fn what_touches_a_bad_place_cannot_be_read() {
        let (disk, file) = file();
        assert!(disk.fail_reads("f", 100..200, io::ErrorKind::InvalidData));
        assert!(!disk.fail_reads("g", 0..1, io::ErrorKind::Other));
        let check = |file: &SimFile| {
            let read = |at, count| file.read_at(at, &mut vec![0; count]).map_err(|e| e.kind());
            assert_eq!(read(0, 100), Ok(100));
            assert_eq!(read(0, 101), Err(io::ErrorKind::InvalidData));
            assert_eq!(read(199, 1), Err(io::ErrorKind::InvalidData));
            assert_eq!(read(200, 2000), Ok(824));
            assert_eq!(read(150, 0), Ok(0));
        };
        check(&file);
        file.write_durable_at(0, &[2; 512]).unwrap();
        let copy = disk.fork();
        copy.power_loss_choosing(|_, _| 0);
        copy.rename("f", "g").unwrap();
        check(&copy.open("g", Open::Read).unwrap());
        assert!(disk.mend_reads("f"));
        assert_eq!(file.read_at(0, &mut [0; 300]).unwrap(), 300);
        assert_eq!(disk.stats().faults, 2);
    }
}
