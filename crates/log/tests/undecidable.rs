//! What `docs/format.md` lists as undecidable, line by line: each is what it says, and no more.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use std::sync::Arc;

use common::{FILE, Model, NAME, append, entry, noise, open, options, try_open, vote};
use tinyraftplus_core::Seq;
use tinyraftplus_log::{
    FsLog, Log, LogError, LogExt, MultiFsLog, PlainEncoder, Write, inspect, sim_disk::SimDisk,
};

/// A log whose last group has more than one sector, with or without a mark after it.
fn log(marked: bool, last: &[Write]) -> (SimDisk, Model, Model) {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    log.append("first").unwrap();
    let before = Model::of(&log);
    log.write(last).unwrap();
    let after = Model::of(&log);
    if marked {
        log.mark().unwrap();
        log.close().unwrap();
    }
    drop(log);
    disk.kill();
    (disk, before, after)
}

fn zero(disk: &SimDisk, at: u64, count: usize) -> SimDisk {
    let disk = disk.fork();
    let at = usize::try_from(at).unwrap();
    disk.edit(FILE, |bytes| bytes[at..at + count].fill(0)).unwrap();
    disk
}

/// Lines 1 and 2. Fails if the mark is not written, or if a body with more sectors of zeros than it was written
/// with is always torn.
#[test]
fn a_sector_of_the_last_group_that_reads_as_zeros() {
    for marked in [false, true] {
        let (disk, before, _) = log(marked, &[append(vec![entry(1, 1, noise(1, 1500))])]);
        let damaged = zero(&disk, 4096 + 1024, 512);
        match try_open(&damaged) {
            Ok((log, recovery)) => {
                assert!(!marked && recovery.cut.is_some());
                assert_eq!(Model::of(&log), before);
            }
            Err(error) => assert!(marked && matches!(error, LogError::Corrupt { .. }), "{error}"),
        }
    }
}

/// Line 3. Fails if one copy of a vote is not enough.
#[test]
fn both_copies_of_the_newest_vote_read_as_zeros() {
    let (disk, before, after) = log(false, &[vote(5, 9)]);
    let frames = inspect(&disk, NAME).unwrap();
    let [.., original, copy] = &frames[..] else { panic!("{frames:?}") };
    for one in [original, copy] {
        let (log, recovery) = open(&zero(&disk, one.position, 128));
        assert_eq!((Model::of(&log), recovery.copies_repaired), (after.clone(), 1));
    }
    let both = zero(&zero(&disk, original.position, 128), copy.position, 128);
    assert_eq!(Model::of(&open(&both).0), before);
}

/// Lines 4 and 5. Fails if a file of zeros beside others, or one cut short in a group, is taken for new.
#[test]
fn a_file_of_zeros_or_cut_short() {
    let (disk, before, _) = log(true, &[append(vec![entry(1, 1, noise(1, 1500))])]);
    let zeros = disk.fork();
    zeros.edit(FILE, |bytes| bytes.fill(0)).unwrap();
    assert!(open(&zeros).1.created);
    let frames = inspect(&disk, NAME).unwrap();
    let short = disk.fork();
    short.edit(FILE, |bytes| bytes.truncate(usize::try_from(frames[1].position).unwrap())).unwrap();
    assert_eq!(Model::of(&open(&short).0), before);
}

fn segments() -> (SimDisk, Vec<String>) {
    let disk = SimDisk::new();
    let mut many = options();
    many.segment_bytes_max = 32 << 10;
    many.batch_bytes_max = 16 << 10;
    let (mut log, _) = MultiFsLog::open_on(&disk, NAME, many).unwrap();
    for number in 0..8 {
        log.append(noise(number, 9000)).unwrap();
    }
    log.close().unwrap();
    drop(log);
    disk.kill();
    let files: Vec<String> =
        disk.files().into_iter().filter(|file| file.ends_with("seg")).collect();
    assert!(files.len() > 2);
    (disk, files)
}

fn try_segments(disk: &SimDisk) -> Result<(u64, u64), LogError> {
    let mut many = options();
    many.segment_bytes_max = 32 << 10;
    many.batch_bytes_max = 16 << 10;
    let (log, recovery) = MultiFsLog::open_on(disk, NAME, many)?;
    assert_eq!(log.iter(..).map(Result::unwrap).count() as u64, log.end().get());
    Ok((log.end().get(), recovery.seals_rebuilt))
}

/// Lines 5 and 8: the newest file is missing. The seal before it says that there was one. Fails if a seal
/// is taken for a part of the stream, or a file of zeros before others for one that was never begun.
#[test]
fn a_newest_file_that_is_missing_is_missed_while_there_is_a_seal() {
    let (disk, files) = segments();
    let [.., before, newest] = &files[..] else { panic!("{files:?}") };
    let missing = disk.fork();
    missing.take(newest).unwrap();
    assert!(try_segments(&missing).is_err());
    let seal = inspect(&disk, NAME).unwrap();
    let seal = seal.iter().rfind(|frame| frame.text.contains("seal")).unwrap().position;
    let zeros = disk.fork();
    zeros.edit(&files[1], |bytes| bytes.fill(0)).unwrap();
    assert!(try_segments(&zeros).is_err());
    // The seal of the last full file, by its magic: the last header there.
    let unsealed = disk.fork();
    let at = unsealed
        .edit(before, |bytes| {
            let at = (0..bytes.len() / 128).rfind(|at| bytes[at * 128..].starts_with(b"TRPf"));
            bytes[at.unwrap() * 128..].fill(0);
            at.unwrap() * 128
        })
        .unwrap();
    assert!(seal % 128 == 0 && at > 4096);
    assert_eq!(try_segments(&unsealed.fork()).unwrap(), (8, 1));
    unsealed.take(newest).unwrap();
    assert!(try_segments(&unsealed).unwrap().0 < 8);
}

/// Line 7. Fails if a flip in a payload that nobody checks changes more than that payload.
#[test]
fn a_payload_without_a_checksum() {
    let disk = SimDisk::new();
    let mut plain = options();
    plain.encoder = Arc::new(PlainEncoder);
    let (mut log, _) = FsLog::open_on(&disk, NAME, plain.clone()).unwrap();
    log.append_batch(["abc", "def"]).unwrap();
    log.close().unwrap();
    drop(log);
    disk.kill();
    let bytes = disk.contents(FILE).unwrap();
    let at = bytes.windows(3).position(|window| window == b"abc").unwrap();
    disk.flip_bit(FILE, at as u64 * 8);
    let (log, _) = FsLog::open_on(&disk, NAME, plain).unwrap();
    let found: Vec<_> = log.iter(..).map(|entry| entry.unwrap().payload).collect();
    assert_eq!(found, ["`bc", "def"]);
    assert_eq!(log.bounds(), Seq::ZERO..Seq::new(2));
}
