//! Damage to bytes that were durable: refused by name, or healed from a copy, never dropped silently.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use common::{
    FILE, FIRST, Model, NAME, append, configuration, entry, hard, noise, open, reset, trim,
    try_open, vote,
};
use tinyraftplus_log::{
    FsLog, Log, LogError, LogExt, Write, inspect,
    sim_disk::{SimDisk, SimRng},
};

/// A log with every kind of frame, killed after its last write.
fn mixed() -> (SimDisk, Model) {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    for write in [
        append(vec![entry(0, 1, noise(1, 40)), entry(1, 1, noise(2, 300))]),
        vote(2, 9),
        Write { configuration: Some(configuration(2)), ..Write::default() },
        append(vec![entry(2, 2, "x")]),
        Write {
            append: vec![entry(2, 3, noise(3, 30))],
            hard_state: Some(hard(3, None)),
            ..trim(2)
        },
        Write { append: vec![entry(7, 3, "r")], ..reset(7, 3) },
        vote(4, 8),
        append(vec![entry(8, 4, noise(4, 50))]),
    ] {
        log.write(&[write]).unwrap();
    }
    let model = Model::of(&log);
    drop(log);
    disk.kill();
    (disk, model)
}

/// Where the header and the body of each frame lie.
fn frames(disk: &SimDisk) -> Vec<(u64, u64)> {
    let bytes = disk.contents(FILE).unwrap();
    let length = |at: u64| {
        let at = usize::try_from(at).unwrap() + 76;
        u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()))
    };
    inspect(disk, NAME)
        .unwrap()
        .iter()
        .map(|frame| (frame.position, frame.position + 128 + length(frame.position)))
        .collect()
}

/// A flipped bit is refused, naming file and byte, or healed from a copy without any loss.
fn refuses_or_heals(disk: &SimDisk, model: &Model, what: &str) -> bool {
    match try_open(disk) {
        Ok((log, recovery)) => {
            assert_eq!(Model::of(&log), *model, "{what}: {recovery:?}");
            assert!(recovery.copies_repaired > 0, "{what}: {recovery:?}");
            drop(log);
            let (log, recovery) = open(disk);
            assert_eq!((Model::of(&log), recovery.copies_repaired), (model.clone(), 0), "{what}");
            true
        }
        Err(LogError::Corrupt { path, offset, .. }) => {
            assert_eq!(path.to_str(), Some(FILE));
            assert!(offset < disk.contents(FILE).unwrap().len() as u64);
            false
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

/// Any bit of any frame before the last. Fails if a damaged place is taken for the end of the log although a
/// later frame says that it was durable.
#[test]
fn bit_flip_middle() {
    let (disk, model) = mixed();
    let frames = frames(&disk);
    let mut healed = 0;
    for &(start, end) in &frames[..frames.len() - 1] {
        for bit in start * 8..end * 8 {
            let damaged = disk.fork();
            assert!(damaged.flip_bit(FILE, bit));
            healed += u64::from(refuses_or_heals(
                &damaged,
                &model,
                &format!("bit {bit} of the frame at {start}"),
            ));
        }
    }
    assert!(healed > 0, "a copy of a term and vote heals");
}

/// Damage that comes while the log is open is an error when it is read. Fails if bodies are not verified on
/// every read, or an error is taken for the end.
#[test]
fn bit_flip_under_an_open_log() {
    let (disk, _) = mixed();
    let (log, _) = open(&disk);
    let position = inspect(&disk, NAME)
        .unwrap()
        .iter()
        .find(|frame| frame.first.get() == 7 && frame.count > 0)
        .unwrap()
        .position;
    for bit in [0, 70, 130].map(|byte| (position + byte) * 8) {
        disk.flip_bit(FILE, bit);
        let error = log.iter(..).next().unwrap().unwrap_err();
        assert!(
            matches!(error, LogError::Corrupt { offset, seq: Some(seq), .. } if offset == position && seq.get() == 7),
            "{error}"
        );
        disk.flip_bit(FILE, bit);
    }
    assert_eq!(log.iter(..).map(Result::unwrap).count(), 2);
}

/// The length of entry 50 of 100. Fails like `bit_flip_middle`.
#[test]
fn bit_flip_length() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    for number in 0..100 {
        log.append(noise(number, 40)).unwrap();
    }
    drop(log);
    disk.kill();
    let (position, _) = frames(&disk)[50];
    for bit in (position + 76) * 8..(position + 80) * 8 {
        let damaged = disk.fork();
        damaged.flip_bit(FILE, bit);
        let error = try_open(&damaged).err().unwrap();
        assert!(
            matches!(error, LogError::Corrupt { offset, seq: Some(seq), .. } if offset == position && seq.get() == 50),
            "{error}"
        );
    }
}

/// Any bit of the last, acknowledged frame, which nothing later proves durable. Fails if a damaged header, or
/// a body without a sector of zeros, is taken for a torn write.
#[test]
fn bit_flip_last() {
    for last in [
        append(vec![entry(9, 4, noise(5, 900))]),
        vote(6, 1),
        append(vec![entry(9, 4, "")]),
        trim(8),
    ] {
        let (disk, _) = mixed();
        let (mut log, _) = open(&disk);
        log.write(&[last]).unwrap();
        let model = Model::of(&log);
        drop(log);
        disk.kill();
        let frames = frames(&disk);
        // A term and vote are two frames.
        for &(start, end) in &frames[frames.len() - 2..] {
            for bit in start * 8..end * 8 {
                let damaged = disk.fork();
                damaged.flip_bit(FILE, bit);
                refuses_or_heals(&damaged, &model, &format!("bit {bit} of the frame at {start}"));
            }
        }
    }
}

/// One or both copies of the newest term and vote are flipped or gone. One copy is enough, and heals the
/// other; if both are damaged, or gone although a mark says they were durable, the log is refused. Fails if
/// a copy is not looked for, or an older vote is fallen back to.
#[test]
fn damaged_hard_state() {
    for marked in [false, true] {
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk);
        log.append("a").unwrap();
        log.write(&[vote(1, 1)]).unwrap();
        log.write(&[vote(2, 2)]).unwrap();
        if marked {
            log.mark().unwrap();
        }
        let model = Model::of(&log);
        drop(log);
        disk.kill();
        let found = inspect(&disk, NAME).unwrap();
        let copies: Vec<u64> = found
            .iter()
            .filter(|frame| frame.hard_state == hard(2, Some(2)) && !frame.text.contains("mark"))
            .map(|frame| frame.position)
            .collect();
        assert_eq!(copies.len(), 2);
        assert_ne!(copies[0] / 512, copies[1] / 512, "in different sectors");
        let flip = |disk: &SimDisk, at: u64| assert!(disk.flip_bit(FILE, (at + 100) * 8));
        let blank = |disk: &SimDisk, at: u64| {
            let at = usize::try_from(at).unwrap();
            disk.edit(FILE, |bytes| bytes[at..at + 128].fill(0)).unwrap();
        };
        for harm in [&flip as &dyn Fn(&SimDisk, u64), &blank] {
            for &copy in &copies {
                let damaged = disk.fork();
                harm(&damaged, copy);
                assert!(refuses_or_heals(&damaged, &model, "one copy"));
            }
        }
        let both = disk.fork();
        for &copy in &copies {
            flip(&both, copy);
        }
        assert!(matches!(try_open(&both), Err(LogError::Corrupt { .. })));
        let both = disk.fork();
        for &copy in &copies {
            blank(&both, copy);
        }
        match try_open(&both) {
            Err(LogError::Corrupt { .. }) => assert!(marked),
            // Both sectors read as never written, and nothing proves otherwise: `docs/format.md` lists it.
            Ok((log, _)) => assert!(!marked && log.hard_state() == hard(1, Some(1))),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A synced write that never reached the disk is noticed where a later frame proves it. Fails like
/// `bit_flip_middle`.
#[test]
fn lost_write() {
    let (disk, _) = mixed();
    let frames = frames(&disk);
    for &(start, end) in &frames[..frames.len() - 1] {
        let damaged = disk.fork();
        damaged
            .edit(FILE, |bytes| {
                bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()].fill(0);
            })
            .unwrap();
        let error =
            try_open(&damaged).map(|(_, recovery)| assert!(recovery.copies_repaired > 0)).err();
        assert!(error.is_none_or(|error| matches!(error, LogError::Corrupt { .. })));
    }
}

/// Valid frames at each other's place, or of another log at the same place. Fails if a frame neither says
/// which log it belongs to nor what comes before it: either is enough.
#[test]
fn swapped_frames() {
    let make = |seed| {
        let disk = SimDisk::new();
        let mut options = common::options();
        options.seed = Some(seed);
        let (mut log, _) = FsLog::open_on(&disk, NAME, options).unwrap();
        for number in 0..6 {
            log.append(noise(number + seed * 100, 100)).unwrap();
        }
        drop(log);
        disk.kill();
        disk
    };
    let (disk, other) = (make(1), make(2));
    let ours = disk.contents(FILE).unwrap();
    let theirs = other.contents(FILE).unwrap();
    let frames = frames(&disk);
    let range = |index: usize| {
        usize::try_from(frames[index].0).unwrap()..usize::try_from(frames[index].1).unwrap()
    };
    for to in 0..frames.len() {
        for from in 0..frames.len() {
            for source in [&ours, &theirs] {
                if from == to && source == &ours {
                    continue;
                }
                let damaged = disk.fork();
                damaged
                    .edit(FILE, |bytes| bytes[range(to)].copy_from_slice(&source[range(from)]))
                    .unwrap();
                assert!(
                    matches!(try_open(&damaged), Err(LogError::Corrupt { .. })),
                    "{from} to {to}"
                );
            }
        }
    }
}

/// Valid frames lie after the end: old ones of this log, and another log's. Fails if a frame says neither
/// where it lies nor what comes before it.
#[test]
fn recycled_bytes() {
    let (disk, model) = mixed();
    let frames = frames(&disk);
    let end = usize::try_from(frames[frames.len() - 1].1.next_multiple_of(128)).unwrap();
    let mut opened = 0;
    for &(from, to) in &frames {
        for gap in [0, 128, 512, 2048] {
            let damaged = disk.fork();
            damaged
                .edit(FILE, |bytes| {
                    let old = bytes[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()]
                        .to_vec();
                    bytes[end + gap..end + gap + old.len()].copy_from_slice(&old);
                })
                .unwrap();
            match try_open(&damaged) {
                Ok((log, recovery)) => {
                    opened += 1;
                    assert!(recovery.cut.is_some());
                    assert_eq!(Model::of(&log), model);
                }
                Err(error) => assert!(matches!(error, LogError::Corrupt { .. }), "{error}"),
            }
        }
    }
    assert!(opened > 0);
}

/// Changes a field of a frame's header and makes its checksum right.
fn forge(disk: &SimDisk, position: u64, change: impl FnOnce(&mut [u8])) {
    let at = usize::try_from(position).unwrap();
    disk.edit(FILE, |bytes| {
        change(&mut bytes[at..at + 120]);
        let sum = twox_hash::XxHash3_64::oneshot(&bytes[at..at + 120]);
        bytes[at + 120..at + 128].copy_from_slice(&sum.to_le_bytes());
    })
    .unwrap();
}

/// A header with a valid checksum claims 4 GiB. Fails (out of memory, or slow) if a length is not checked
/// against the limit of a group.
#[test]
fn huge_length() {
    let (disk, _) = mixed();
    let frames = frames(&disk);
    for &(position, _) in &frames {
        for claim in [u32::MAX, 1 << 30, 9 << 20] {
            let damaged = disk.fork();
            forge(&damaged, position, |header| {
                header[76..80].copy_from_slice(&claim.to_le_bytes());
                header[80..84].copy_from_slice(&claim.to_le_bytes());
            });
            let result = try_open(&damaged);
            assert!(
                matches!(result, Err(LogError::Corrupt { .. }))
                    || result.unwrap().1.copies_repaired > 0
            );
            // The reader checks for itself.
            let open_log = disk.fork();
            let (log, _) = open(&open_log);
            forge(&open_log, position, |header| header[76..84].fill(0xff));
            let _ = log.iter(..).find(Result::is_err);
        }
    }
}

/// Whatever the bytes, opening and reading say something and never panic. Forged headers get past the
/// checksums.
#[test]
fn foreign_bytes() {
    let (disk, _) = mixed();
    let frames = frames(&disk);
    let bytes = disk.contents(FILE).unwrap().len() as u64;
    let mut rng = SimRng::new(3);
    let mut refused = 0;
    for round in 0..3000 {
        let damaged = disk.fork();
        if round % 2 == 0 {
            let (position, _) = frames[usize::try_from(rng.below(frames.len() as u64)).unwrap()];
            let field = usize::try_from(4 + rng.below(29) * 4).unwrap();
            let value = if rng.below(2) == 0 { rng.next() } else { rng.below(20) };
            forge(&damaged, position, |header| {
                header[field..field + 4].copy_from_slice(&value.to_le_bytes()[..4]);
            });
        } else {
            let start = rng.below(bytes - 600);
            let (start, length) =
                (usize::try_from(start).unwrap(), usize::try_from(rng.below(600)).unwrap());
            let garbage = noise(round, length);
            damaged
                .edit(FILE, |bytes| bytes[start..start + length].copy_from_slice(&garbage))
                .unwrap();
        }
        match try_open(&damaged) {
            Ok((mut log, _)) => {
                let _ = log.iter(..).find(Result::is_err);
                let _ = log.append("on");
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 1000);
}

/// The header of the file is there twice. Fails if only the first is looked at, or a log without a readable
/// header is created anew.
#[test]
fn damaged_header() {
    let (disk, model) = mixed();
    for at in [20, 532] {
        let damaged = disk.fork();
        damaged.flip_bit(FILE, at * 8);
        assert!(refuses_or_heals(&damaged, &model, "one header"));
    }
    let both = disk.fork();
    both.flip_bit(FILE, 20 * 8);
    both.flip_bit(FILE, 532 * 8);
    assert!(matches!(try_open(&both), Err(LogError::Corrupt { .. })));
    let gone = disk.fork();
    gone.edit(FILE, |bytes| bytes[..usize::try_from(FIRST).unwrap()].fill(0)).unwrap();
    assert!(matches!(try_open(&gone), Err(LogError::Corrupt { .. })));
    let newer = disk.fork();
    newer
        .edit(FILE, |bytes| {
            for at in [0, 512] {
                bytes[at + 8] = 2;
                let sum = twox_hash::XxHash3_64::oneshot(&bytes[at..at + 504]);
                bytes[at + 504..at + 512].copy_from_slice(&sum.to_le_bytes());
            }
        })
        .unwrap();
    assert!(matches!(
        try_open(&newer),
        Err(LogError::NewerFormat { found: 2, newest_known: 1, .. })
    ));
}
