//! Faults upon faults, in segments: crashes while things fail, with work in a thread of its own or not. What was
//! acknowledged stays, and what a crash leaves can be opened.
//!
//! `LOG_ATTACKS=20000 cargo test --release -p tinyraftplus-log --test attacks` makes more of them.

#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use std::{io, path::PathBuf};

use common::{Model, NAME, Setup, compact, configuration, effort, entry, noise, reset, trim, vote};
use tinyraftplus_log::{
    Disk, Log, LogError, MultiFsLog, Open, Recovery, Write,
    sim_disk::{SimDisk, SimFile, SimLock, SimRng},
};

/// A simulated disk on which a log works in a thread of its own, as on a real one. What comes before what is
/// not decided by a seed then: a failure may not come again.
#[derive(Clone, Debug)]
struct Threaded(SimDisk);

impl Disk for Threaded {
    type File = SimFile;
    type Lock = SimLock;

    fn open(&self, name: &str, how: Open) -> io::Result<SimFile> {
        self.0.open(name, how)
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

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }
}

type Opened = Result<(Box<dyn Log>, Recovery), LogError>;

fn open(setup: &Setup, disk: &SimDisk, threaded: bool) -> Opened {
    if threaded {
        let disk = Threaded(disk.clone());
        let (log, recovery) = MultiFsLog::open_on(&disk, NAME, setup.options.clone())?;
        Ok((Box::new(log), recovery))
    } else {
        setup.try_open(disk)
    }
}

fn group(rng: &mut SimRng, model: &Model) -> Vec<Write> {
    let mut next = model.clone();
    let mut group = Vec::new();
    for _ in 0..=rng.below(2) {
        let count = next.entries.len() as u64;
        let mut write = match rng.below(12) {
            0 => trim(next.start + rng.below(count + 1)),
            1 => vote(next.hard.term.get() + 1, u128::from(rng.below(3) + 1)),
            2 => reset(next.end() + 1 + rng.below(3), next.term()),
            3 => Write { configuration: Some(configuration(rng.below(3) + 1)), ..Write::default() },
            4 | 5 => compact(next.start + rng.below(count + 1)),
            6 => compact(next.end()),
            _ => Write::default(),
        };
        next.apply(&write);
        for _ in 0..rng.below(3) {
            let size = [0, 120, 512, 1000, 2500, 3500]
                .into_iter()
                .nth(usize::try_from(rng.below(6)).unwrap())
                .unwrap();
            let payload =
                if rng.below(3) > 0 { noise(rng.next(), size) } else { vec![0; size].into() };
            let entry = entry(next.end(), next.term().max(1), payload);
            next.entries.push(entry.clone());
            write.append.push(entry);
        }
        group.push(write);
    }
    group
}

/// Plans a fault.
fn harm(disk: &SimDisk, rng: &mut SimRng, soon: u64) {
    match rng.below(9) {
        0 => disk.fail_sync(rng.below(soon), io::ErrorKind::Other),
        1 => {
            let survivors = SimRng::new(rng.next());
            disk.fail_sync_partly(rng.below(soon), io::ErrorKind::Other, survivors);
        }
        2 => disk.fail_write(rng.below(soon), io::ErrorKind::Other),
        3 => disk.fail_write(rng.below(soon), io::ErrorKind::StorageFull),
        4 => disk.set_capacity(Some(disk.bytes_used() + rng.below(30_000))),
        _ => {}
    }
    if rng.below(2) == 0 {
        disk.crash_after(rng.below(soon * 4));
    }
}

/// What a run has met.
#[derive(Debug, Default)]
struct Met {
    written: u64,
    refused: u64,
    failed: u64,
    cuts: u64,
    rescued: u64,
    seals: u64,
    segments: u64,
}

impl Met {
    fn note(&mut self, recovery: &Recovery) {
        self.cuts += u64::from(recovery.cut.is_some());
        self.rescued += u64::from(recovery.hard_state_rescued);
        self.seals += recovery.seals_rebuilt;
        self.segments = self.segments.max(recovery.segments);
    }
}

fn attack(setup: &Setup, threaded: bool, seed: u64, met: &mut Met) {
    let mut rng = SimRng::new(seed);
    let disk = SimDisk::new();
    let mut model = Model::default();
    // What else may be there after the last life.
    let mut others: Vec<Model> = Vec::new();
    for step in 0..10 {
        let what = format!("{}, threaded {threaded}, seed {seed}, step {step}", setup.what);
        disk.set_capacity(None);
        let (mut log, recovery) =
            open(setup, &disk, threaded).unwrap_or_else(|error| panic!("{what}: {error}"));
        met.note(&recovery);
        let found = Model::of(&*log);
        assert!(
            found == model || others.contains(&found),
            "{what}: {found:?}\nis not {model:?}\nnor one of {others:?}"
        );
        model = found;
        others.clear();
        harm(&disk, &mut rng, 8);
        for _ in 0..rng.below(14) {
            if rng.below(4) == 0 {
                let _ = log.mark();
            }
            let group = group(&mut rng, &model);
            let next = model.after(&group);
            match log.write(&group) {
                Ok(()) => {
                    met.written += 1;
                    model = next;
                }
                Err(error) if !error.is_fatal() => met.refused += 1,
                Err(LogError::Poisoned) => break,
                Err(error) => {
                    assert!(matches!(error, LogError::WriteFailed { .. }), "{what}: {error}");
                    met.failed += 1;
                    others.push(Model { hard: next.hard, ..model.clone() });
                    others.push(next);
                    break;
                }
            }
        }
        if rng.below(4) == 0 {
            let _ = log.close();
        }
        // While its thread works, or after.
        let late = rng.below(2) == 0;
        let mut log = Some(log);
        if late {
            drop(log.take());
        }
        let crash = |rng: &mut SimRng| {
            if rng.below(2) == 0 { disk.kill() } else { disk.power_loss(rng) }
        };
        crash(&mut rng);
        drop(log);
        // Openings that fail, in every way, one after the other.
        while rng.below(3) > 0 {
            harm(&disk, &mut rng, 5);
            match open(setup, &disk, threaded) {
                Ok((log, recovery)) => {
                    met.note(&recovery);
                    // What was told is durable: it may be dead already, and can't be read in full.
                    let known = log.restored();
                    others.push(model);
                    others.retain(|one| {
                        (one.start, one.end(), one.hard)
                            == (
                                known.terms.start().get(),
                                known.terms.end().get(),
                                known.hard_state,
                            )
                    });
                    model = others.pop().unwrap_or_else(|| panic!("{what}: {known:?}"));
                }
                Err(
                    error @ (LogError::Corrupt { .. }
                    | LogError::SegmentMissing(_)
                    | LogError::NotALog(_)),
                ) => panic!("{what}: a crash looks like damage: {error}"),
                Err(_) => {}
            }
            disk.set_capacity(None);
            crash(&mut rng);
        }
        // A fault that was planned and never came must not hit the next opening.
        disk.kill();
    }
}

fn attacks(setups: &[Setup], threaded: bool, count: u64) {
    let mut met = Met::default();
    for seed in 0..effort("LOG_ATTACKS", count) {
        for setup in setups {
            attack(setup, threaded, seed, &mut met);
        }
    }
    println!("threaded {threaded}: {met:?}");
    assert!(met.written > count && met.refused > 10 && met.failed > 10, "{met:?}");
    assert!(met.cuts > 10 && met.rescued > 1 && met.segments > 3, "{met:?}");
    assert!(met.seals > 1, "{met:?}");
}

/// Failing and partial syncs, failing writes, full disks and crashes in every call, rotation and compaction
/// included, and again while opening. Fails if opening does not write and sync again what nothing proves
/// durable, or a file is removed that is still needed.
#[test]
fn faults_upon_faults() {
    let setups: Vec<_> = Setup::all().into_iter().filter(|setup| setup.many).collect();
    attacks(&setups, false, 60);
}

/// The same while seals are written, segments made ready, given back and cleared by a thread of its own. Fails
/// like the one before, or if the thread's work is waited for where a crash may come first.
#[test]
fn faults_upon_faults_beside_a_thread() {
    attacks(&[Setup::many(), Setup::encrypted()], true, 60);
}
