//! Crashes after every operation of the disk while snapshots are made, received, finished and removed.
//!
//! `LOG_CRASH_OUTCOMES=500 cargo test --release -p tinyraftplus-log --test snapshot_crash` tries more ways in which
//! each power failure can end.

#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use std::{collections::BTreeSet, io::Read as _};

use common::{Setup, configuration, effort, noise, outcomes};
use tinyraftplus_core::{EntryId, Seq, Term};
use tinyraftplus_log::{
    LogError, SnapshotId, SnapshotMeta, SnapshotStore,
    sim_disk::{SimDisk, SimRng},
};

/// What a process does, one after the other.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Makes one of so many bytes.
    Make(u128, u64, usize),
    GiveUp(u128, u64),
    /// Receives chunks of one up to a number, and finishes it when there are no more.
    Receive(u128, u64),
    RemoveOlder(u128),
    Remove(u128),
    Reopen,
}

/// Two chunks are synced at a time if chunks are so large; the others are smaller than what is synced at once.
const STEPS: &[Step] = &[
    Step::Make(1, 5, 2500),
    Step::GiveUp(2, 6),
    Step::Receive(101, 2),
    Step::Reopen,
    Step::Receive(101, 3),
    Step::Receive(101, 99),
    Step::Make(3, 9, 0),
    Step::RemoveOlder(3),
    Step::Receive(102, 5),
    Step::Reopen,
    Step::Receive(101, 1),
    Step::Receive(102, 99),
    Step::Remove(102),
    Step::Make(4, 12, 700),
    Step::RemoveOlder(4),
];

/// What other nodes have: snapshots 101, of a few small chunks, and 102, of chunks of 1 MiB.
struct Elsewhere {
    store: SnapshotStore,
    _logs: Vec<Box<dyn tinyraftplus_log::Log>>,
    large: SnapshotStore,
}

fn elsewhere(setup: &Setup) -> Elsewhere {
    let mut large = setup.clone();
    large.options.snapshot_chunk_bytes = 1 << 20;
    let logs = [setup, &large].map(|setup| setup.open(&SimDisk::new()).0);
    let stores = [&logs[0], &logs[1]].map(|log| log.snapshots().unwrap());
    for (store, number, bytes) in [(&stores[0], 101, 4000), (&stores[1], 102, 9 << 20)] {
        let id = SnapshotId::new(number);
        let last = EntryId::new(Term::new(3), Seq::new(u64::try_from(number).unwrap() - 93));
        let mut writer = store.create(id, last, Some(configuration(3)), b"tables").unwrap();
        writer.write_all(&content(number, bytes)).unwrap();
        writer.finish().unwrap();
    }
    let [store, large] = stores;
    Elsewhere { store, large, _logs: logs.into() }
}

impl Elsewhere {
    fn of(&self, number: u128) -> &SnapshotStore {
        if number == 101 { &self.store } else { &self.large }
    }
}

fn content(number: u128, bytes: usize) -> Vec<u8> {
    let pattern = noise(u64::try_from(number).unwrap(), bytes.min(5000));
    pattern.iter().copied().cycle().take(bytes).collect()
}

fn setup(mut setup: Setup) -> Setup {
    setup.options.snapshot_chunk_bytes = 1024;
    setup
}

/// The numbers of the snapshots that are complete.
type Model = BTreeSet<u128>;

fn take(step: Step, store: &SnapshotStore, from: &Elsewhere) -> Result<Model, LogError> {
    let id = SnapshotId::new;
    let last = |seq| EntryId::new(Term::new(2), Seq::new(seq));
    match step {
        Step::Make(number, seq, bytes) => {
            let mut writer = store.create(id(number), last(seq), None, &[])?;
            writer.write_all(&content(number, bytes))?;
            writer.finish()?;
        }
        Step::GiveUp(number, seq) => {
            let mut writer = store.create(id(number), last(seq), None, &[])?;
            writer.write_all(&content(number, 3000))?;
            writer.abort();
        }
        Step::Receive(number, end) => {
            let reader = from.of(number).reader(id(number))?;
            let meta = reader.meta();
            let mut incoming = store.receive(meta)?;
            while incoming.next() < end.min(meta.chunks()) {
                let chunk = reader.read_chunk(incoming.next())?;
                incoming.write_chunk(incoming.next(), &chunk)?;
            }
            if end >= meta.chunks() {
                incoming.finish()?;
            }
        }
        Step::RemoveOlder(number) => store.remove_older(id(number))?,
        Step::Remove(number) => store.remove(id(number))?,
        Step::Reopen => {}
    }
    Ok(store.list().iter().map(|meta| meta.id.get()).collect())
}

/// The steps that were taken until the disk died: what was complete then, and what may have been with the step
/// in flight.
fn run(setup: &Setup, disk: &SimDisk, steps: &[Step], from: &Elsewhere) -> (Model, Model) {
    let mut model = Model::new();
    let Ok((log, _)) = setup.try_open(disk) else { return (model.clone(), model) };
    let mut log = Some(log);
    let Ok(mut store) = log.as_ref().unwrap().snapshots() else { return (model.clone(), model) };
    for step in steps {
        if let Step::Reopen = step {
            // Killed: nothing of it has to wait for a crash.
            drop(log.take());
            match setup.try_open(disk) {
                Ok((opened, _)) => log = Some(opened),
                Err(_) => return (model.clone(), model),
            }
            match log.as_ref().unwrap().snapshots() {
                Ok(opened) => store = opened,
                Err(LogError::Io { .. }) => return (model.clone(), model),
                Err(error) => panic!("{error}"),
            }
        }
        let Ok(now) = take(*step, &store, from) else {
            let mut after = model.clone();
            match step {
                Step::Make(number, ..) | Step::Receive(number, 99) => drop(after.insert(*number)),
                Step::Remove(number) => drop(after.remove(number)),
                Step::RemoveOlder(number) => after.retain(|other| other == number),
                Step::Receive(..) | Step::GiveUp(..) | Step::Reopen => {}
            }
            return (model, after);
        };
        model = now;
    }
    (model.clone(), model)
}

fn read(store: &SnapshotStore, meta: &SnapshotMeta) -> Vec<u8> {
    let reader = store.reader(meta.id).unwrap();
    reader.verify().unwrap();
    let mut bytes = Vec::new();
    reader.state().read_to_end(&mut bytes).unwrap();
    bytes
}

/// What is left: every snapshot that was complete and not being removed, whole, and none that never was. Both
/// survive a power failure that follows at once, and a transfer goes on to the end.
fn check(
    setup: &Setup,
    disk: &SimDisk,
    before: &Model,
    after: &Model,
    from: &Elsewhere,
    what: &str,
) {
    let opened = |disk: &SimDisk| {
        let (log, _) = setup.open(disk);
        let store = log.snapshots().unwrap_or_else(|error| panic!("{what}: {error}"));
        (log, store)
    };
    let (log, store) = opened(disk);
    assert!(store.damaged().is_empty(), "{what}: {:?}", store.damaged());
    let found: Model = store.list().iter().map(|meta| meta.id.get()).collect();
    let kept = before.intersection(after).all(|number| found.contains(number));
    let known = found.iter().all(|number| before.contains(number) || after.contains(number));
    assert!(kept && known, "{what}: {found:?}, {before:?}, {after:?}");
    for meta in store.list() {
        let number = meta.id.get();
        let bytes = usize::try_from(meta.bytes - meta.tables_bytes).unwrap();
        assert!(read(&store, &meta) == content(number, bytes), "{what}");
    }
    for file in disk.files().into_iter().filter(|file| file.contains('-')) {
        let number = file.split(['-', '.']).rev().nth(1).unwrap();
        let number = u128::from_str_radix(number, 16).unwrap();
        assert!(number > 100 || found.contains(&number), "{what}: {file} was begun, and is left");
    }
    let lost = disk.fork();
    lost.power_loss_choosing(|_, _| 0);
    let (_log, again) = opened(&lost);
    assert_eq!(again.list(), store.list(), "{what}: it was told, and is gone");
    drop((log, store));
    let part = disk.files().iter().any(|file| file.ends_with(&format!("{:032x}.snap", 102)));
    let (_log, store) = opened(disk);
    for number in [101, 102].into_iter().take(if part { 2 } else { 1 }) {
        take(Step::Receive(number, 99), &store, from)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let meta = store.get(SnapshotId::new(number)).unwrap();
        assert!(read(&store, &meta) == content(number, if number == 101 { 4000 } else { 9 << 20 }));
    }
}

/// Fails if the end is written before what it stands for is durable, a directory is not synced, what was begun is
/// not removed, or a part is believed beyond what is proven.
fn crash_everywhere(setup: &Setup) {
    let many = effort("LOG_CRASH_OUTCOMES", 12);
    let from = elsewhere(setup);
    let disk = SimDisk::new();
    let (whole, _) = run(setup, &disk, STEPS, &from);
    assert_eq!(whole, [4].into());
    let operations = disk.operation_count();
    assert!(operations > 80, "{operations}");
    let (mut lost, mut tried) = (0, 0);
    for count in 0..operations {
        let disk = SimDisk::new();
        disk.crash_after(count);
        let (before, after) = run(setup, &disk, STEPS, &from);
        let killed = disk.fork();
        killed.kill();
        check(setup, &killed, &before, &after, &from, &format!("killed at {count}"));
        for (number, outcome) in outcomes(&disk, many, count).into_iter().enumerate() {
            lost += outcome.stats().sectors_lost;
            tried += 1;
            let what = format!("{}, power lost at {count}, outcome {number}", setup.what);
            check(setup, &outcome, &before, &after, &from, &what);
        }
    }
    println!("{}: {operations} crashes, {tried} power losses", setup.what);
    assert!(lost > 1000, "no power loss ever lost anything");
}

#[test]
fn crash_everywhere_plain() {
    crash_everywhere(&setup(Setup::many()));
}

#[test]
fn crash_everywhere_encrypted() {
    crash_everywhere(&setup(Setup::encrypted()));
}

/// Opening crashes after every operation, and the next opening works: nothing complete is lost, nothing that was
/// not is there.
#[test]
fn crash_while_opening() {
    let setup = setup(Setup::many());
    let from = elsewhere(&setup);
    let mut rng = SimRng::new(3);
    let mut tried = 0;
    for end in [1, 3, 6, 9, 13] {
        let disk = SimDisk::new();
        let (model, _) = run(&setup, &disk, &STEPS[..end], &from);
        let disk = disk.fork();
        disk.kill();
        let probe = disk.fork();
        drop(setup.open(&probe).0.snapshots().unwrap());
        for count in 0..=probe.operation_count() {
            let crashed = disk.fork();
            crashed.crash_after(count);
            if let Ok((log, _)) = setup.try_open(&crashed) {
                drop(log.snapshots());
            }
            for outcome in outcomes(&crashed, 6, rng.next()) {
                tried += 1;
                check(&setup, &outcome, &model, &model, &from, &format!("{end}, {count}"));
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

/// The last sync of a snapshot fails, and the process is started again: it reads an end that is not on the disk.
/// Fails if opening believes what it reads without writing it again.
#[test]
fn an_end_in_the_page_cache_is_written_again() {
    let setup = setup(Setup::many());
    for fail in 0..3 {
        let disk = SimDisk::new();
        let (log, _) = setup.open(&disk);
        let store = log.snapshots().unwrap();
        let last = EntryId::new(Term::new(2), Seq::new(5));
        let mut writer = store.create(SnapshotId::new(1), last, None, b"").unwrap();
        writer.write_all(&content(1, 3000)).unwrap();
        disk.fail_sync(fail, std::io::ErrorKind::Other);
        assert_eq!(writer.finish().is_ok(), fail > 1, "two syncs");
        // It was removed; as if the process had died first.
        let name = format!("{}.{:020}-{:032x}.snap", common::NAME, 5, 1);
        if fail < 2 {
            assert!(disk.contents(&name).is_none());
        }
        drop(log);
    }
    // The process dies before the sync of the end returns.
    let disk = SimDisk::new();
    let (log, _) = setup.open(&disk);
    let store = log.snapshots().unwrap();
    let last = EntryId::new(Term::new(2), Seq::new(5));
    let mut writer = store.create(SnapshotId::new(1), last, None, b"").unwrap();
    writer.write_all(&content(1, 3000)).unwrap();
    // The last chunk, the last piece, its sync, that of the directory, the end.
    disk.crash_after(5);
    writer.finish().unwrap_err();
    drop(log);
    disk.kill();
    let (log, _) = setup.open(&disk);
    assert_eq!(log.snapshots().unwrap().list().len(), 1);
    drop(log);
    disk.power_loss_choosing(|_, _| 0);
    let (log, _) = setup.open(&disk);
    let store = log.snapshots().unwrap();
    assert_eq!(read(&store, &store.newest().unwrap()), content(1, 3000));
}

/// Deleting a log crashes after every operation: its snapshots are gone before any of its files is, so that no log
/// that is created later meets them.
#[test]
fn crash_while_destroying() {
    let setup = setup(Setup::many());
    let from = elsewhere(&setup);
    let disk = SimDisk::new();
    run(&setup, &disk, &STEPS[..9], &from);
    let disk = disk.fork();
    disk.kill();
    let probe = disk.fork();
    setup.destroy(&probe).unwrap();
    // What is created later is another log.
    let mut setup = setup;
    setup.options.seed = Some(9);
    for count in 0..=probe.operation_count() {
        let crashed = disk.fork();
        crashed.crash_after(count);
        drop(setup.destroy(&crashed));
        for outcome in outcomes(&crashed, 64, count) {
            if let Ok((log, _)) = setup.try_open(&outcome) {
                log.snapshots().unwrap();
                drop(log);
            }
            setup.destroy(&outcome).unwrap();
            let (log, recovery) = setup.open(&outcome);
            assert!(recovery.created && log.snapshots().unwrap().list().is_empty());
        }
    }
}
