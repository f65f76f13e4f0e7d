//! What the disk and its other users do to a log.

#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use std::{io, process::Command};

use common::{Model, NAME, append, entry, hard, noise, open, options, trim, try_open, vote};
use tinyraftplus_core::Seq;
use tinyraftplus_log::{Effect, FsLog, Log, LogError, LogExt, LogOptions, sim_disk::SimDisk};

/// One log, two openers: in one process, in two, and after the first is gone. Fails if the lock is left out,
/// and, where the kernel gives locks to processes, without the table.
#[test]
fn two_openers() {
    const CHILD: &str = "TINYRAFTPLUS_LOG_TEST_CHILD";
    if let Some(dir) = std::env::var_os(CHILD) {
        let locked =
            matches!(FsLog::open(dir, NAME, LogOptions::default()), Err(LogError::Locked(_)));
        std::process::exit(if locked { 42 } else { 43 });
    }
    let dir = tempfile::tempdir().unwrap();
    let child = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "two_openers", "--test-threads=1"]).env(CHILD, dir.path());
        command.output().unwrap().status.code()
    };
    let (mut log, _) = FsLog::open(dir.path(), NAME, LogOptions::default()).unwrap();
    // By another path, too.
    for path in
        [dir.path().to_owned(), dir.path().join("../").join(dir.path().file_name().unwrap())]
    {
        let error = FsLog::open(&path, NAME, LogOptions::default()).err().unwrap();
        assert!(matches!(error, LogError::Locked(_)) && error.effect() == Effect::None, "{error}");
        assert!(matches!(FsLog::destroy(&path, NAME), Err(LogError::Locked(_))));
    }
    assert_eq!(child(), Some(42));
    log.append("still ours").unwrap();
    log.close().unwrap();
    assert_eq!(child(), Some(43), "free once closed");
    let (second, _) = FsLog::open(dir.path(), NAME, LogOptions::default()).unwrap();
    assert_eq!(second.head().unwrap().unwrap().payload, "still ours");
    assert!(dir.path().join("x.lock").exists(), "the lock's file is never removed");
    // A closed log that is dropped later must not give the lock of its successor back.
    drop(log);
    assert!(matches!(
        FsLog::open(dir.path(), NAME, LogOptions::default()),
        Err(LogError::Locked(_))
    ));
}

/// No space: appends are refused before any byte of a frame is written, nothing acknowledged is lost, votes
/// and trims still work, and appends do again when space returns. Fails if frames are written beyond the
/// space that is there, or without the reserve.
#[test]
fn disk_full() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    log.append("first").unwrap();
    disk.set_capacity(Some(disk.bytes_used() + 1000));
    let mut refused = None;
    for number in 0..1000 {
        if let Err(error) = log.append(noise(number, 300)) {
            refused = Some((number, error));
            break;
        }
    }
    let (count, error) = refused.unwrap();
    assert!(count > 10, "the space that is there is used: {count}");
    assert!(
        matches!(error, LogError::NoSpace { .. })
            && error.effect() == Effect::None
            && !error.is_fatal(),
        "{error}"
    );
    assert!(matches!(log.append(noise(1, 300)), Err(LogError::NoSpace { .. })));
    log.write(&[vote(3, 3)]).unwrap();
    log.trim(Some(Seq::new(10))).unwrap();
    let model = Model::of(&log);
    assert_eq!((model.hard, model.end()), (hard(3, Some(3)), 11));
    // After a crash too, and a torn tail can be cut.
    disk.crash_after(1);
    assert!(log.write(&[vote(4, 4)]).is_err());
    drop(log);
    let torn = disk.fork();
    let mut sector = 0;
    torn.power_loss_choosing(|_, choices| {
        sector += 1;
        if sector == 1 { 0 } else { choices - 1 }
    });
    let (mut log, _) = open(&torn);
    assert_eq!(Model::of(&log).entries, model.entries);
    log.write(&[vote(5, 5)]).unwrap();
    drop(log);
    disk.power_loss_choosing(|_, _| 0);
    let (mut log, _) = open(&disk);
    assert_eq!(Model::of(&log), model);
    assert!(matches!(log.append(noise(1, 20_000)), Err(LogError::NoSpace { .. })));
    disk.set_capacity(None);
    log.append("more").unwrap();
    assert_eq!(log.head().unwrap().unwrap().payload, "more");
}

/// Space that was there is gone when it is written: nobody knows what is on the disk. Fails if every lack of
/// space is taken for a refusal.
#[test]
fn no_space_where_there_was_some_poisons() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    log.append("a").unwrap();
    disk.fail_write(0, io::ErrorKind::StorageFull);
    let error = log.append("b").unwrap_err();
    assert!(
        matches!(error, LogError::WriteFailed { .. }) && error.effect() == Effect::Possible,
        "{error}"
    );
    assert!(matches!(log.append("c"), Err(LogError::Poisoned)));
}

/// Everything that can fail while a log is opened leaves it as it was.
#[test]
fn failing_to_open_is_no_harm() {
    let (disk, model) = {
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk);
        log.write(&[append(vec![entry(0, 1, "a")])]).unwrap();
        let model = Model::of(&log);
        drop(log);
        disk.kill();
        (disk, model)
    };
    disk.fail_sync(0, io::ErrorKind::Other);
    let error = try_open(&disk).err().unwrap();
    assert_eq!(error.effect(), Effect::None);
    disk.fail_write(0, io::ErrorKind::Other);
    assert!(matches!(try_open(&disk), Err(LogError::Io { .. })));
    assert_eq!(Model::of(&open(&disk).0), model, "and the lock is free");
}

/// One sync an append, and none more for many entries; and the index stays small for single appends.
#[test]
fn costs_are_bounded() {
    let disk = SimDisk::new();
    let mut options = options();
    options.space_bytes = 8 << 20;
    let (mut log, _) = FsLog::open_on(&disk, NAME, options).unwrap();
    log.append("warm").unwrap();
    let before = disk.stats();
    for number in 0..2000 {
        log.append(noise(number, 1000)).unwrap();
    }
    let stats = log.stats();
    assert_eq!(stats.entries, 2001);
    assert_eq!(disk.stats().syncs - before.syncs, 2000);
    assert!(stats.index_bytes <= stats.entries, "{stats:?}");
    let before = disk.stats();
    log.append_batch((0..2000).map(|number| noise(number, 20))).unwrap();
    assert_eq!(disk.stats().syncs - before.syncs, 1);
    // Closing leaves a mark, and so opening again has next to nothing to write.
    log.close().unwrap();
    let before = disk.stats();
    let (log, recovery) = open(&disk);
    assert_eq!(recovery.cut, None);
    assert_eq!(
        (disk.stats().writes - before.writes, disk.stats().bytes_written - before.bytes_written),
        (1, 128)
    );
    assert_eq!(log.iter(..).map(Result::unwrap).count(), 4001);
}

/// Readers on other threads see whole, right entries while the writer appends and trims, and errors only
/// where a trim took what they asked for.
#[test]
fn readers_beside_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let mut log_options = LogOptions::default();
    log_options.space_bytes = 1 << 20;
    let (mut log, _) = FsLog::open(dir.path(), NAME, log_options).unwrap();
    let payload = |seq: u64| noise(seq, usize::try_from(seq % 90).unwrap());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = log.reader();
        let done = &done;
        let read = scope.spawn(move || {
            let mut seen = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) || seen == 0 {
                let bounds = reader.bounds();
                match reader.read(bounds.start, bounds.end, 4000) {
                    Ok(entries) => {
                        seen += entries.len();
                        assert!(
                            entries
                                .iter()
                                .all(|entry| entry.payload == payload(entry.id.seq.get()))
                        );
                    }
                    Err(error) => assert!(matches!(error, LogError::Trimmed { .. }), "{error}"),
                }
            }
            seen
        });
        for round in 0..100 {
            let end = log.end().get();
            log.append_batch((end..end + 5).map(payload)).unwrap();
            if round % 4 == 3 {
                log.write(&[trim(end + 2)]).unwrap();
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(read.join().unwrap() > 0);
    });
    assert_eq!(log.stats().entries, 100 * 5 - 25 * 3);
}
