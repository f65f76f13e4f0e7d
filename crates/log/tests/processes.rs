//! Real files: processes killed while they write, files with two names, directories that are gone.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

use common::{Model, NAME, append, entry, hard, noise, options, reset, trim, vote};
use tinyraftplus_core::Seq;
use tinyraftplus_log::{
    FsLog, Log, LogError, LogExt, LogOptions, OsDisk, Write, inspect, sim_disk::SimRng,
};

const CHILD: &str = "TINYRAFTPLUS_LOG_KILLED_CHILD";

fn small() -> LogOptions {
    let mut small = options();
    small.seed = None;
    small
}

/// The group that is written as number `n` to a log with these bounds.
fn group(n: u64, start: u64, end: u64) -> Vec<Write> {
    let large =
        if n.is_multiple_of(17) { 300 << 10 } else { usize::try_from(n % 9 * 600).unwrap() };
    let entries = |from: u64| {
        (from..=from + n % 4)
            .map(|seq| entry(seq, n / 40 + 1, noise(n * 1000 + seq, large)))
            .collect()
    };
    match n % 8 {
        3 => vec![vote(n, 1)],
        5 => {
            let from = (end - (end - start).min(2)).max(start);
            vec![Write { append: entries(from), hard_state: Some(hard(n, None)), ..trim(from) }]
        }
        _ if n.is_multiple_of(30) => {
            vec![Write { append: entries(end + 3), ..reset(end + 3, n / 40 + 1) }]
        }
        _ => vec![append(entries(end))],
    }
}

/// Writes for ever, from group `n` on, and says which were acknowledged.
fn write_until_killed(dir: &Path, n: u64) {
    let (mut log, _) = FsLog::open(dir, NAME, small()).unwrap();
    let mut out = io::stdout();
    for n in n.. {
        let (start, end) = (log.start().get(), log.end().get());
        log.write(&group(n, start, end)).unwrap();
        out.write_all(format!("\nacknowledged {n}\n").as_bytes()).unwrap();
        out.flush().unwrap();
        if n.is_multiple_of(5) {
            log.mark().unwrap();
        }
        if n.is_multiple_of(23) {
            log.close().unwrap();
            (log, _) = FsLog::open(dir, NAME, small()).unwrap();
        }
    }
}

/// A process is killed again and again at any moment, opening included. What it acknowledged is there, and of
/// the group in flight all or nothing.
///
/// Fails if a write is acknowledged before it was handed to the kernel, or a group is read in part.
#[test]
fn killed_while_writing() {
    if let Some(job) = std::env::var_os(CHILD) {
        let job = job.into_string().unwrap();
        let (n, dir) = job.split_once(' ').unwrap();
        write_until_killed(Path::new(dir), n.parse().unwrap());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut rng = SimRng::new(7);
    let mut model = Model::default();
    let (mut next, mut in_flight) = (1, 0);
    for round in 0..100 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed_while_writing", "--test-threads=1"])
            .env(CHILD, format!("{next} {}", dir.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = Vec::new();
        let mut note = |line: io::Result<String>| {
            let line = line.unwrap();
            acknowledged
                .extend(line.strip_prefix("acknowledged ").map(|n| n.parse::<u64>().unwrap()));
            acknowledged.len() as u64
        };
        let enough = rng.below(8);
        while enough > 0 && note(lines.next().unwrap()) < enough {}
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            note(line);
        }
        for n in acknowledged {
            assert_eq!(n, next, "round {round}");
            model = model.after(&group(n, model.start, model.end()));
            next += 1;
        }
        let after = model.after(&group(next, model.start, model.end()));
        let (mut log, recovery) = FsLog::open(dir.path(), NAME, small()).unwrap();
        let found = Model::of(&log);
        if found == after {
            in_flight += 1;
            next += 1;
        } else {
            let rescued = Model { hard: after.hard, ..model.clone() };
            assert!(found == model || found == rescued, "round {round}: {recovery:?}");
        }
        model = found;
        if rng.below(2) == 0 {
            log.close().unwrap();
        }
    }
    assert!(next > 200, "{next}");
    assert!(in_flight > 0, "nobody was ever killed between a write and its word");
}

/// One file under two names, which have a lock each. Fails if only names are locked.
#[test]
fn one_file_with_two_names() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = FsLog::open(dir.path(), "a", small()).unwrap();
    log.append("a").unwrap();
    fs::hard_link(dir.path().join("a.log"), dir.path().join("b.log")).unwrap();
    symlink("a.log", dir.path().join("c.log")).unwrap();
    for name in ["b", "c"] {
        assert!(matches!(FsLog::open(dir.path(), name, small()), Err(LogError::Locked(_))));
    }
    // A reader that outlives the log does not keep it locked.
    let reader = log.reader();
    log.append("b").unwrap();
    log.close().unwrap();
    for name in ["b", "c", "a"] {
        let (log, recovery) = FsLog::open(dir.path(), name, small()).unwrap();
        assert_eq!((log.end().get(), recovery.created), (2, false));
        let reader = log.reader();
        drop(log);
        assert!(matches!(reader.read(Seq::ZERO, Seq::new(1), 1), Err(LogError::Closed)));
    }
    assert!(matches!(reader.read(Seq::ZERO, Seq::new(1), 1), Err(LogError::Closed)));
    // A link to nothing creates the file where it points.
    let other = tempfile::tempdir().unwrap();
    symlink(other.path().join("far.log"), dir.path().join("d.log")).unwrap();
    FsLog::open(dir.path(), "d", small()).unwrap().0.append("d").unwrap();
    assert_eq!(FsLog::open(other.path(), "far", small()).unwrap().0.end().get(), 1);
}

/// Many open one log at once: each time one has it, the others are told so, and nobody waits for ever. Fails if
/// the lock is given back before the log is closed, or not at all.
#[test]
fn many_openers() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.log"), "").unwrap();
    fs::hard_link(dir.path().join("a.log"), dir.path().join("b.log")).unwrap();
    let open = AtomicU64::new(0);
    let total: u64 = std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..6_usize)
            .map(|number| {
                let (dir, open) = (dir.path(), &open);
                scope.spawn(move || {
                    let mut appended = 0;
                    for round in 0..60 {
                        match FsLog::open(dir, ["a", "b"][number % 2], small()) {
                            Ok((mut log, _)) => {
                                assert_eq!(open.fetch_add(1, Ordering::SeqCst), 0);
                                log.append("x").unwrap();
                                appended += 1;
                                assert_eq!(open.fetch_sub(1, Ordering::SeqCst), 1);
                                if round % 2 == 0 {
                                    log.close().unwrap();
                                }
                            }
                            Err(error) => assert!(matches!(error, LogError::Locked(_)), "{error}"),
                        }
                    }
                    appended
                })
            })
            .collect();
        tasks.into_iter().map(|task| task.join().unwrap()).sum()
    });
    assert!(total > 0);
    assert_eq!(FsLog::open(dir.path(), "a", small()).unwrap().0.end().get(), total);
}

/// Things that are no file, or not there any more: an error, and no hanging, no panic.
#[test]
fn no_file_at_all() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("dir.log")).unwrap();
    assert!(matches!(FsLog::open(dir.path(), "dir", small()), Err(LogError::Io { .. })));
    symlink("/dev/null", dir.path().join("null.log")).unwrap();
    symlink("/dev/zero", dir.path().join("zero.log")).unwrap();
    symlink("loop.log", dir.path().join("loop.log")).unwrap();
    for name in ["null", "zero", "loop"] {
        let error = FsLog::open(dir.path(), name, small()).err().unwrap();
        assert!(matches!(error, LogError::Io { .. } | LogError::NotALog(_)), "{name}: {error}");
    }
    for name in ["ü ñ", "-x", "a\u{202e}b", "x.log", "x.lock", "x log", "%s", "~", "con"] {
        let (mut log, recovery) = FsLog::open(dir.path(), name, small()).unwrap();
        assert!(recovery.created);
        log.append(name.to_owned()).unwrap();
    }
    // The directory is removed under an open log: it works on, and another directory is another log.
    let gone = dir.path().join("gone");
    let (mut log, _) = FsLog::open(&gone, NAME, small()).unwrap();
    log.append("a").unwrap();
    fs::remove_dir_all(&gone).unwrap();
    log.append("b").unwrap();
    assert_eq!(log.iter(..).map(Result::unwrap).count(), 2);
    log.close().unwrap();
    assert!(FsLog::open(&gone, NAME, small()).unwrap().1.created);
}

/// A length is never believed beyond the file, for looking at it neither. Fails (slowly) if it is.
#[test]
fn inspect_believes_no_length() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = FsLog::open(dir.path(), NAME, LogOptions::default()).unwrap();
    for number in 0..3000 {
        log.append(noise(number, 10)).unwrap();
    }
    log.close().unwrap();
    let path = dir.path().join("x.log");
    let mut bytes = fs::read(&path).unwrap();
    for frame in bytes.chunks_exact_mut(128).filter(|frame| frame.starts_with(b"TRPf")) {
        frame[76..84].fill(0xff);
        let sum = twox_hash::XxHash3_64::oneshot(&frame[..120]);
        frame[120..].copy_from_slice(&sum.to_le_bytes());
    }
    bytes.truncate(bytes.len() / 2);
    fs::write(&path, bytes).unwrap();
    let frames = inspect(&OsDisk::create(dir.path()).unwrap(), NAME).unwrap();
    assert!(frames.len() > 1000);
}
