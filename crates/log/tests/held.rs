//! Segments that a reader holds while they are compacted.

#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex},
};

use common::{NAME, Setup, noise, segment};
use tinyraftplus_core::Seq;
use tinyraftplus_log::{
    Disk, DiskFile, Log, LogError, LogExt, MultiFsLog, Open,
    sim_disk::{SimDisk, SimFile, SimLock},
};

/// Stops reads of one file.
#[derive(Debug, Default)]
struct Gate {
    /// The name of the file, and whether a read stands at the gate.
    shut: Mutex<(Option<String>, bool)>,
    changed: Condvar,
}

impl Gate {
    fn shut(&self, file: Option<String>) {
        *self.shut.lock().unwrap() = (file, false);
        self.changed.notify_all();
    }

    fn await_inside(&self) {
        let state = self.shut.lock().unwrap();
        drop(self.changed.wait_while(state, |state| !state.1).unwrap());
    }

    fn pass(&self, file: &str) {
        let mut state = self.shut.lock().unwrap();
        if state.0.as_deref() == Some(file) {
            state.1 = true;
            self.changed.notify_all();
            drop(self.changed.wait_while(state, |state| state.0.is_some()).unwrap());
        }
    }
}

/// A disk whose reads can be held up.
#[derive(Clone, Debug)]
struct Gated(SimDisk, Arc<Gate>);

struct GatedFile(SimFile, String, Arc<Gate>);

impl Disk for Gated {
    type File = GatedFile;
    type Lock = SimLock;

    fn open(&self, name: &str, how: Open) -> io::Result<GatedFile> {
        Ok(GatedFile(self.0.open(name, how)?, name.to_owned(), Arc::clone(&self.1)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }

    fn lock(&self, name: &str) -> io::Result<SimLock> {
        self.0.lock(name)
    }

    fn in_background(&self) -> bool {
        false
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }
}

impl DiskFile for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.2.pass(&self.1);
        self.0.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write_durable_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_durable_at(offset, data)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }
}

fn payload(seq: u64) -> bytes::Bytes {
    noise(seq, 3000)
}

/// A log of five segments.
fn filled(disk: &Gated) -> MultiFsLog<Gated> {
    let (mut log, _) = MultiFsLog::open_on(disk, NAME, Setup::many().options).unwrap();
    while log.stats().segments < 5 {
        let end = log.end().get();
        log.append(payload(end)).unwrap();
    }
    log
}

/// A read is in the middle of a segment when that is compacted, whether its index was known or not: it ends
/// with the bytes that were there, and the segment is removed, not cleared and used again; or it says that the
/// entries are gone. Fails if a segment is recycled that is being read, or a segment is read that was taken out
/// of the log meanwhile.
#[test]
fn a_segment_that_is_read_is_not_recycled() {
    for known in [false, true] {
        let disk = Gated(SimDisk::new(), Arc::new(Gate::default()));
        let mut log = filled(&disk);
        if known {
            // Its bytes are not in the reader's own buffer.
            assert_eq!(log.iter(..).count() as u64, log.end().get());
        } else {
            drop(log);
            disk.0.kill();
            log = MultiFsLog::open_on(&disk, NAME, Setup::many().options).unwrap().0;
        }
        let reader = log.reader();
        disk.1.shut(Some(segment(0)));
        disk.0.take_operations();
        std::thread::scope(|scope| {
            let read = scope.spawn(|| reader.read(Seq::ZERO, Seq::new(2), u64::MAX));
            disk.1.await_inside();
            // Only this one is to be given up: one is kept for later use, if nobody reads it.
            let mut gone = 1;
            while disk.0.files().contains(&segment(0)) {
                log.compact(Seq::new(gone)).unwrap();
                gone += 1;
            }
            disk.1.shut(None);
            match read.join().unwrap() {
                Ok(entries) => {
                    assert!(
                        entries.iter().zip(0..).all(|(entry, seq)| entry.payload == payload(seq))
                    );
                    assert!(known);
                }
                Err(error) => {
                    assert!(!known && matches!(error, LogError::Compacted { .. }), "{error}");
                }
            }
        });
        let operations = disk.0.take_operations();
        let recycled = operations.iter().any(|line| line.starts_with("rename"));
        assert_eq!(recycled, !known, "{operations:?}");
    }
}

/// An iterator is paused while the log is compacted below, at and above where it stands: it goes on with what is
/// still there and what it had read, or says that the rest is gone. Never anything else. Fails if an iterator
/// looks into a segment that was used again.
#[test]
fn a_paused_iterator_and_compaction() {
    for taken in [0, 1, 4, 7] {
        for start in [1, 5, 8, 12] {
            let disk = Gated(SimDisk::new(), Arc::new(Gate::default()));
            let mut log = filled(&disk);
            let end = log.end().get();
            assert!(end > 12);
            let mut entries = log.iter(..).read_ahead_bytes(1);
            for seq in 0..taken {
                assert_eq!(entries.next().unwrap().unwrap().payload, payload(seq));
            }
            log.compact(Seq::new(start)).unwrap();
            // The segments it was in are used again.
            for seq in end..end + 8 {
                log.append(payload(seq)).unwrap();
            }
            let mut next = taken;
            for entry in entries {
                match entry {
                    Ok(entry) => {
                        assert_eq!((entry.id.seq.get(), entry.payload), (next, payload(next)));
                        next += 1;
                    }
                    Err(error) => {
                        assert!(matches!(error, LogError::Compacted { .. }), "{error}");
                        assert!(next < start);
                        next = end;
                    }
                }
            }
            assert_eq!(next, end);
        }
    }
}
