//! The format as it was frozen: bytes of every kind in `fixtures/`, read by today's code and by a reader that
//! was made from `docs/format.md` alone, and written again by today's code.
//!
//! `LOG_FIXTURES=write cargo test -p tinyraftplus-log --test format` writes the fixtures anew. That is for
//! formats that nobody has written yet: what is released is never written again.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod fixtures;
mod reader;
mod script;
mod snapshots;

use std::{collections::BTreeMap, fs, sync::Once};

use fixtures::{Fixture, all, every, options, path, shown};
use tinyraftplus_log::{FsLog, Log, LogError, LogExt, MultiFsLog, sim_disk::SimDisk};

fn open(fixture: &Fixture, disk: &SimDisk) -> Result<Box<dyn Log>, LogError> {
    let options = options(fixture);
    Ok(if fixture.many {
        Box::new(MultiFsLog::open_on(disk, "x", options)?.0)
    } else {
        Box::new(FsLog::open_on(disk, "x", options)?.0)
    })
}

/// A disk with the files of this folder.
fn disk(folder: &str) -> SimDisk {
    let disk = SimDisk::new();
    for (name, bytes) in files(folder) {
        disk.put(&name, &bytes);
    }
    disk
}

fn files(folder: &str) -> BTreeMap<String, Vec<u8>> {
    static WRITTEN: Once = Once::new();
    WRITTEN.call_once(|| {
        let asked = |what| std::env::var_os("LOG_FIXTURES").is_some_and(|value| value == what);
        if asked("write") {
            fixtures::write(all());
        }
        if asked("repaired") {
            fixtures::write(fixtures::repaired());
        }
        if asked("snapshots") {
            snapshots::write();
        }
    });
    let folder = path(folder);
    let list =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files = BTreeMap::new();
    for file in list {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        if name != "expected.txt" {
            files.insert(name, fs::read(file.path()).unwrap());
        }
    }
    files
}

fn expected(fixture: &Fixture) -> String {
    files(fixture.folder);
    fs::read_to_string(path(fixture.folder).join("expected.txt")).unwrap()
}

/// Logs that format 1 was frozen with hold exactly what the text beside them says, and go on. Fails if any
/// byte of the format is read otherwise than it was.
#[test]
fn fixtures_hold_what_they_did() {
    for fixture in every() {
        let disk = disk(fixture.folder);
        let mut log = open(&fixture, &disk).unwrap();
        assert_eq!(shown(log.as_ref()), expected(&fixture), "{}", fixture.folder);
        let end = log.append("one more").unwrap();
        log.close().unwrap();
        drop(log);
        disk.kill();
        let log = open(&fixture, &disk).unwrap();
        assert_eq!(log.head().unwrap().unwrap().id.seq, end);
    }
}

/// What is written today can be read by what was released. Fails if any byte is written otherwise than it was;
/// nonces of encrypted bodies are drawn, so those are read only.
#[test]
fn the_same_calls_make_the_same_bytes() {
    for fixture in every().iter().filter(|fixture| fixture.encoder != 3) {
        let (written, text) = script::run(fixture);
        assert_eq!(text, expected(fixture), "{}", fixture.folder);
        let kept = files(fixture.folder);
        assert!(written.keys().eq(kept.keys()), "{}", fixture.folder);
        for (name, bytes) in written {
            let differs = bytes.iter().zip(&kept[&name]).position(|(a, b)| a != b);
            assert_eq!(differs, None, "{}/{name}", fixture.folder);
            assert_eq!(bytes.len(), kept[&name].len(), "{}/{name}", fixture.folder);
        }
    }
}

/// The document is enough to read a log. Fails if it leaves out or misstates anything, or if a fixture lacks
/// one of the things that frames can say.
#[test]
fn the_document_is_enough_to_read_a_log() {
    let mut flags = 0;
    for fixture in every() {
        let log = reader::read(&files(fixture.folder), "x", fixtures::KEY);
        assert_eq!(log.to_string(), expected(&fixture), "{}", fixture.folder);
        flags |= log.flags;
    }
    // What is unknown is said only by logs that something happened to.
    assert_eq!(flags, 16383, "each other flag is in some fixture");
}

/// A seal may have more to say than fits into the largest group of its log. Fails (the seal is rebuilt at each
/// opening) if the limit of a group is that of a seal.
#[test]
fn a_seal_larger_than_a_group() {
    let mut options = options(&all()[5]);
    options.segment_bytes_max = 1 << 20;
    let disk = SimDisk::new();
    let (mut log, _) = MultiFsLog::open_on(&disk, "x", options.clone()).unwrap();
    // Each entry has a term of its own.
    while disk.files().iter().filter(|file| file.ends_with("seg")).count() < 2 {
        let end = log.bounds().end.get();
        log.write(&[script::rising(end, 1000)]).unwrap();
    }
    drop(log);
    disk.kill();
    let seal = disk.contents("x.00000000000000000000.seg").unwrap();
    let at = (0..seal.len() / 128).rfind(|at| seal[at * 128..].starts_with(b"TRPf")).unwrap();
    let length = &seal[at * 128 + 76..at * 128 + 80];
    assert!(u32::from_le_bytes(length.try_into().unwrap()) > 64 << 10);
    let (_, recovery) = MultiFsLog::open_on(&disk, "x", options).unwrap();
    assert_eq!((recovery.segments, recovery.seals_rebuilt), (2, 0));
}

/// A header and a frame of a format that does not exist yet. Fails if they are taken for damage, or if what is
/// behind them is cut.
#[test]
fn a_newer_format_is_refused_with_a_sentence() {
    for folder in ["log-newer/header", "log-newer/frame", "log-newer/frame-after-torn"] {
        let disk = disk(folder);
        let before = disk.contents("x.log").unwrap();
        let error = open(&all()[0], &disk).err().unwrap();
        // Frames have had a second format already.
        let (newer, known) = if folder.ends_with("header") { (2, 1) } else { (3, 2) };
        let LogError::NewerFormat { found, newest_known, .. } = error else { panic!("{error}") };
        assert_eq!((found, newest_known), (newer, known));
        let sentence = error.to_string();
        let expected = format!(
            "x.log has format {newer}, this version knows formats up to {known}; use a newer one"
        );
        assert!(sentence.ends_with(&expected), "{sentence}");
        assert_eq!(disk.contents("x.log").unwrap(), before, "a refused file is left alone");
    }
}
