//! What is special to logs in files: directories, names, foreign files, syncs.

use tinyraftplus_core::Seq;
use tinyraftplus_log::{FsLog, Log, LogError, LogExt, LogOptions, Write, sim_disk::SimDisk};

/// Whatever piled up is one durable write.
#[test]
fn one_sync_a_group() {
    let disk = SimDisk::new();
    let (mut log, recovery) = FsLog::open_on(&disk, "x", LogOptions::default()).unwrap();
    assert!(recovery.created);
    log.append("makes space").unwrap();
    for count in [1, 2, 50] {
        let before = (log.stats().syncs, disk.stats().syncs);
        let group = vec![Write { trim: Some(Seq::ZERO), ..Write::default() }; count];
        log.append("a").unwrap();
        log.write(&group).unwrap();
        assert_eq!((log.stats().syncs, disk.stats().syncs), (before.0 + 2, before.1 + 2));
    }
}

#[test]
fn directories_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/c");
    let (mut log, recovery) = FsLog::open(&path, "x", LogOptions::default()).unwrap();
    assert!(recovery.created);
    log.append("a").unwrap();
    drop(log);
    let (log, recovery) = FsLog::open(&path, "x", LogOptions::default()).unwrap();
    assert_eq!((recovery.created, recovery.cut, recovery.copies_repaired), (false, None, 0));
    assert_eq!(log.end(), Seq::new(1));
}

#[test]
fn names_are_strangers_to_each_other() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("foreign"), "stays").unwrap();
    let names = ["a", "a1", "a-m1", "a.log", "a.lock", "a.log.log"];
    for name in names {
        let (mut log, recovery) = FsLog::open(dir.path(), name, LogOptions::default()).unwrap();
        assert!(recovery.created, "{name}");
        log.append(name).unwrap();
    }
    FsLog::destroy(dir.path(), "a").unwrap();
    FsLog::destroy(dir.path(), "a").unwrap();
    FsLog::destroy(dir.path().join("missing"), "a").unwrap();
    assert!(!dir.path().join("missing").exists());
    for name in names.into_iter().skip(1) {
        let (log, _) = FsLog::open(dir.path(), name, LogOptions::default()).unwrap();
        assert_eq!(log.head().unwrap().unwrap().payload, name);
    }
    assert_eq!(std::fs::read(dir.path().join("foreign")).unwrap(), b"stays");
    for name in ["", ".", "..", "a/b", "a\0", &"x".repeat(129)] {
        assert!(matches!(
            FsLog::open(dir.path(), name, LogOptions::default()),
            Err(LogError::BadName(_))
        ));
        assert!(matches!(FsLog::destroy(dir.path(), name), Err(LogError::BadName(_))));
    }
}

#[test]
fn a_foreign_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let text = "these are my notes, not a log".repeat(100);
    std::fs::write(dir.path().join("x.log"), &text).unwrap();
    assert!(matches!(
        FsLog::open(dir.path(), "x", LogOptions::default()),
        Err(LogError::NotALog(_))
    ));
    assert_eq!(std::fs::read_to_string(dir.path().join("x.log")).unwrap(), text);
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let disk = SimDisk::new();
    let mut options = LogOptions::default();
    options.first_seq = Seq::MAX;
    assert!(matches!(FsLog::open_on(&disk, "x", options), Err(LogError::BadOptions(_))));
    let missing = FsLog::<SimDisk>::destroy_on(&disk, "x");
    assert!(missing.is_ok(), "{missing:?}");
}
