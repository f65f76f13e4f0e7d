//! Every bit of a small log is flipped, one at a time, and sectors of it are cleared: the damage is repaired and
//! reported, refused, or an error when read. The log is never another one without an error.
//!
//! What can't be noticed is computed from where things lie, before anything is flipped; `docs/format.md` lists
//! it under "What stays undecidable". `cargo test -p tinyraftplus-log --test flips -- --nocapture` prints how
//! often each happened.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use common::{
    FILE, Model, NAME, Setup, append, configuration, effort, entry, hard, noise, reset, segment,
    segments, trim, vote,
};
use tinyraftplus_core::Seq;
use tinyraftplus_log::{Log, LogError, LogExt, Write, inspect, sim_disk::SimDisk};

/// Flags: configuration, reset, trim, entries, compaction.
const RECORDS: u64 = 64 | 128 | 256 | 512 | 1024;

/// Every kind of log; in the first of two segments, there is room for every kind of frame.
fn setups() -> Vec<Setup> {
    let mut setups = Setup::all();
    for setup in &mut setups {
        if setup.what == "blocks" {
            setup.options.segment_bytes_max = 48 << 10;
        }
    }
    setups
}

/// A log with every kind of frame in two segments, the first of them sealed, or all in one file.
fn small(setup: &Setup, marked: bool) -> (SimDisk, Model) {
    let disk = SimDisk::new();
    let (mut log, _) = setup.open(&disk);
    let mut model = Model::default();
    let mut write = |log: &mut dyn Log, write: Write| {
        log.write(std::slice::from_ref(&write)).unwrap();
        model.apply(&write);
    };
    write(&mut *log, append(vec![entry(0, 1, noise(1, 40)), entry(1, 1, noise(2, 700))]));
    write(&mut *log, vote(2, 9));
    write(&mut *log, Write { configuration: Some(configuration(2)), ..Write::default() });
    write(
        &mut *log,
        Write {
            append: vec![entry(1, 3, noise(3, 30))],
            hard_state: Some(hard(3, None)),
            ..trim(1)
        },
    );
    write(&mut *log, Write { append: vec![entry(7, 3, vec![0; 600])], ..reset(7, 3) });
    // If its length is wrong, the rest of it looks like entries.
    write(&mut *log, append(vec![entry(8, 3, [20, 0].repeat(25))]));
    if setup.many {
        // Does not fit, or the next does not; then the next segment's own frames.
        for (seq, bytes) in [(9, 7000), (10, 3000), (11, 9000), (12, 9000)] {
            write(&mut *log, append(vec![entry(seq, 3, noise(seq, bytes))]));
            if log.stats().segments == 2 {
                break;
            }
        }
        write(&mut *log, Write { compact: Some(Seq::new(8)), ..Write::default() });
    }
    write(&mut *log, vote(4, 8));
    let end = log.end().get();
    write(&mut *log, append(vec![entry(end, 4, noise(7, 900))]));
    if marked {
        log.close().unwrap();
    }
    drop(log);
    disk.kill();
    (disk, model)
}

/// A frame as it lies in its file.
#[derive(Clone, Debug)]
struct Place {
    file: String,
    header: Range<usize>,
    body: Range<usize>,
    seal: bool,
    /// Nothing but entries of the term in force: what encoders without checksums don't check.
    entries: bool,
}

/// All frames of a log, found by their magic and position.
fn places(setup: &Setup, disk: &SimDisk) -> Vec<Place> {
    let files = if setup.many {
        segments(disk).into_iter().map(segment).collect()
    } else {
        vec![FILE.to_owned()]
    };
    let mut places = Vec::new();
    for file in &files {
        let bytes = disk.contents(file).unwrap();
        let number = |at: usize, width: usize| {
            let mut value = [0; 8];
            value[..width].copy_from_slice(&bytes[at..at + width]);
            u64::from_le_bytes(value)
        };
        let base = number(40, 8);
        for at in (4096..bytes.len()).step_by(128) {
            if bytes[at..].starts_with(b"TRPf") && number(at + 16, 8) == base + at as u64 {
                let end = at + 128 + usize::try_from(number(at + 76, 4)).unwrap();
                places.push(Place {
                    file: file.clone(),
                    header: at..at + 128,
                    body: at + 128..end,
                    seal: number(at + 6, 2) & 4096 > 0,
                    entries: number(at + 6, 2) & (2048 | RECORDS) == 2048 | 512,
                });
            }
        }
    }
    places
}

/// What became of damage.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Outcome {
    /// Opening wrote it again from a copy, and said so.
    Repaired,
    /// Opening read the segment instead of its seal, and said so.
    SealRebuilt,
    Refused,
    /// Reading the entry is an error.
    OnRead,
    /// The log is as it was, and nothing was reported: the bytes have no meaning any more.
    Unnoticed,
    /// Entries of one frame are others, where bodies have no checksum.
    OtherEntries,
    /// A cut that is reported.
    Cut,
}

/// Opens and reads everything, and says what became of the damage. Panics if the log is another one without
/// an error.
fn outcome(setup: &Setup, disk: &SimDisk, model: &Model, allowed: &Allowed, what: &str) -> Outcome {
    let (log, recovery) = match setup.try_open(disk) {
        Ok(opened) => opened,
        Err(LogError::Corrupt { path, offset, .. }) => {
            let bytes = disk.contents(path.to_str().unwrap()).unwrap().len();
            assert!(offset <= bytes as u64, "{what}");
            return Outcome::Refused;
        }
        // A file that lost its name tag.
        Err(LogError::NotALog(_)) => return Outcome::Refused,
        Err(error) => panic!("{what}: {error}"),
    };
    assert_eq!(log.hard_state(), model.hard, "{what}: {recovery:?}");
    let configuration = log.restored().configuration;
    assert_eq!(configuration.as_deref(), model.configuration.as_ref(), "{what}");
    let bounds = log.bounds();
    if allowed.cut && recovery.cut.is_some() {
        assert_eq!(bounds.end.get() + 1, model.end(), "{what}");
        return Outcome::Cut;
    }
    assert_eq!((bounds.start.get(), bounds.end.get()), (model.start, model.end()), "{what}");
    assert_eq!(recovery.cut, None, "{what}");
    let mut differ = false;
    for (seq, expected) in (model.start..).zip(&model.entries) {
        // Each by itself: an error must not hide behind another.
        match log.reader().read(Seq::new(seq), Seq::new(seq + 1), 0) {
            Ok(found) => {
                assert_eq!((found.len(), found[0].id.seq.get()), (1, seq), "{what}");
                assert_eq!(found[0].id, expected.id, "{what}");
                if found[0] != *expected {
                    assert!(allowed.entries.contains(&seq), "{what}: {found:?}");
                    differ = true;
                }
            }
            Err(LogError::Corrupt { .. }) => return Outcome::OnRead,
            Err(error) => panic!("{what}: {error}"),
        }
    }
    // One after the other, too: what is wrong in a frame stays in it.
    for (entry, expected) in log.iter(..).zip(&model.entries) {
        let Ok(entry) = entry else { return Outcome::OnRead };
        assert!(entry == *expected || allowed.entries.contains(&expected.id.seq.get()), "{what}");
        assert_eq!(entry.id, expected.id, "{what}");
    }
    match (differ, recovery.copies_repaired, recovery.seals_rebuilt) {
        (true, ..) => Outcome::OtherEntries,
        (false, 1.., _) => Outcome::Repaired,
        (false, 0, 1..) => Outcome::SealRebuilt,
        (false, 0, 0) => Outcome::Unnoticed,
    }
}

/// What may become of damage at a place, besides an error: computed from the place.
#[derive(Clone, Debug, Default)]
struct Allowed {
    /// Bytes without meaning: padding, and bodies that a reset or a compaction made void.
    unnoticed: bool,
    /// Entries that may be others: those of a frame whose body has no checksum.
    entries: Vec<u64>,
    /// A sector of the last group that reads as never written.
    cut: bool,
    /// How many bytes the body has that it lies in, but for a large one's first.
    body_bytes: usize,
}

/// The entries of a frame that are still in the log, by the frame's header.
fn entries_of(disk: &SimDisk, place: &Place, model: &Model) -> Vec<u64> {
    let bytes = disk.contents(&place.file).unwrap();
    let at = place.header.start;
    let first = u64::from_le_bytes(bytes[at + 64..at + 72].try_into().unwrap());
    let count = u32::from_le_bytes(bytes[at + 72..at + 76].try_into().unwrap());
    let live = |seq: &u64| (model.start..model.end()).contains(seq);
    // Before the reset, the same seqs were others: they are below its start.
    (first..first + u64::from(count)).filter(live).collect()
}

/// Every byte of a log that has a meaning, and what may become of damage there.
fn map(setup: &Setup, disk: &SimDisk, model: &Model) -> Vec<(String, usize, Allowed)> {
    let unchecked = matches!(setup.what, "plain" | "bodies unchecked");
    let mut map = Vec::new();
    let places = places(setup, disk);
    let files: BTreeSet<String> = places.iter().map(|place| place.file.clone()).collect();
    for file in &files {
        // The header, twice; its zeros are checked, too.
        map.extend((0..1024).map(|at| (file.clone(), at, Allowed::default())));
        let bytes = disk.contents(file).unwrap();
        let configured =
            usize::try_from(u64::from_le_bytes(bytes[160..168].try_into().unwrap())).unwrap();
        let copies = [1024, 1024 + configured.next_multiple_of(512)];
        for at in copies.into_iter().flat_map(|copy| copy..copy + configured) {
            map.push((file.clone(), at, Allowed::default()));
        }
    }
    let sealed = |file: &str| places.iter().any(|place| place.seal && place.file == file);
    for place in &places {
        let full = sealed(&place.file);
        let live = entries_of(disk, place, model);
        for at in place.header.clone() {
            // Opening reads of a full segment the seal only; who reads meets the frames with entries, and what
            // lies between them.
            map.push((
                place.file.clone(),
                at,
                Allowed { unnoticed: full && !place.seal && live.is_empty(), ..Allowed::default() },
            ));
        }
        for at in place.body.clone() {
            let unchecked = unchecked && place.entries;
            map.push((
                place.file.clone(),
                at,
                Allowed {
                    unnoticed: full && live.is_empty() && !place.seal || unchecked,
                    entries: if unchecked { live.clone() } else { Vec::new() },
                    body_bytes: if at < place.body.start + 20 { 20 } else { place.body.len() },
                    cut: false,
                },
            ));
        }
    }
    map
}

fn matrix(setup: &Setup, marked: bool) -> BTreeMap<Outcome, u64> {
    let (disk, model) = small(setup, marked);
    assert!(inspect(&disk, NAME).unwrap().len() >= 10);
    let mut counts = BTreeMap::new();
    for (file, at, allowed) in map(setup, &disk, &model) {
        // Each bit with checksums; with the others, which differ little, one of each byte. And a sample of large
        // payloads.
        let all =
            matches!(setup.what, "one file" | "segments") && !marked || effort("LOG_FLIPS", 0) > 0;
        let all = all || (1..64).contains(&allowed.body_bytes);
        let few = allowed.body_bytes > 2000 && effort("LOG_FLIPS", 0) == 0;
        if marked && at % 3 > 0 && effort("LOG_FLIPS", 0) == 0 {
            continue;
        }
        for bit in (0..8).filter(|bit| if few { at % 104 == *bit } else { all || at % 8 == *bit }) {
            let damaged = disk.fork();
            assert!(damaged.flip_bit(&file, (at * 8 + bit) as u64));
            let what = format!("{}, bit {bit} of byte {at} of {file}", setup.what);
            let outcome = outcome(setup, &damaged, &model, &allowed, &what);
            let fine = match outcome {
                Outcome::Unnoticed => allowed.unnoticed,
                Outcome::OtherEntries => !allowed.entries.is_empty(),
                Outcome::Cut => allowed.cut,
                Outcome::Repaired | Outcome::SealRebuilt | Outcome::Refused | Outcome::OnRead => {
                    true
                }
            };
            assert!(fine, "{what}: {outcome:?}");
            *counts.entry(outcome).or_default() += 1;
        }
    }
    println!("{}, mark {marked}: {counts:?}", setup.what);
    counts
}

/// Fails if a header, a body, a copy or a seal is believed unchecked, or damage is taken for the end of the log.
fn flips(index: usize) {
    let setup = &setups()[index];
    for marked in [false, true] {
        let counts = matrix(setup, marked);
        let mut expected = vec![Outcome::Repaired, Outcome::Refused];
        if setup.many {
            expected.extend([Outcome::SealRebuilt, Outcome::OnRead]);
        }
        for outcome in expected {
            assert!(
                counts.get(&outcome).is_some_and(|&count| count > 50),
                "{outcome:?}: {counts:?}"
            );
        }
        let unchecked = matches!(setup.what, "plain" | "bodies unchecked");
        assert_eq!(counts.contains_key(&Outcome::OtherEntries), unchecked, "{counts:?}");
    }
}

/// A sector reads as zeros. Repaired, refused or an error when read, as for flips; in the last group, if no mark
/// says that it was durable, it looks like one that was never written, and the group is cut.
///
/// Fails if a mark is not taken for what it says, or sectors of zeros are not counted.
#[test]
fn cleared_sectors() {
    let mut counts = BTreeMap::new();
    for setup in setups() {
        for marked in [false, true] {
            let (disk, model) = small(&setup, marked);
            let mut sectors: BTreeMap<(String, usize), Allowed> = BTreeMap::new();
            let places = places(&setup, &disk);
            let last =
                places.iter().rfind(|place| place.entries && place.body.len() > 900).unwrap();
            // A mark says that everything before it was durable, unless it is gone itself with what it should
            // prove.
            let undecidable = if marked { places.last().unwrap() } else { last };
            assert_eq!(last.file, undecidable.file);
            for (file, at, allowed) in map(&setup, &disk, &model) {
                let cut = file == last.file && at / 512 * 512 + 512 > undecidable.header.start;
                let bytes = &disk.contents(&file).unwrap()[at / 512 * 512..][..512];
                let zeros = bytes.iter().all(|&byte| byte == 0)
                    || marked && file == last.file && at / 512 * 512 >= undecidable.header.start;
                sectors
                    .entry((file, at / 512))
                    .and_modify(|all| {
                        all.unnoticed &= zeros || allowed.unnoticed;
                        all.cut |= cut;
                        all.entries.extend(&allowed.entries);
                    })
                    .or_insert(Allowed { cut, unnoticed: zeros || allowed.unnoticed, ..allowed });
            }
            for ((file, sector), allowed) in sectors {
                let damaged = disk.fork();
                damaged.edit(&file, |bytes| bytes[sector * 512..][..512].fill(0));
                let same = damaged.contents(&file) == disk.contents(&file);
                let what = format!("{}, mark {marked}, sector {sector} of {file}", setup.what);
                let outcome = outcome(&setup, &damaged, &model, &allowed, &what);
                let fine = match outcome {
                    Outcome::Unnoticed => same || allowed.unnoticed,
                    Outcome::OtherEntries => !allowed.entries.is_empty(),
                    Outcome::Cut => allowed.cut,
                    Outcome::Repaired
                    | Outcome::SealRebuilt
                    | Outcome::Refused
                    | Outcome::OnRead => true,
                };
                assert!(fine, "{what}: {outcome:?}, {allowed:?}");
                *counts.entry(outcome).or_insert(0) += 1;
            }
        }
    }
    println!("{counts:?}");
    // Even without checksums of bodies: headers say how many sectors of zeros there are.
    assert!(!counts.contains_key(&Outcome::OtherEntries), "{counts:?}");
    assert!(counts.len() == 6 && counts.values().all(|&count| count > 3), "{counts:?}");
}

/// Bits that nobody wrote: padding, and the space after the end. The log is the same, or it is refused.
///
/// Fails if what lies after the end is taken for frames.
#[test]
fn flips_where_nothing_is() {
    let (mut same, mut refused) = (0, 0);
    for setup in [Setup::one(), Setup::many(), Setup::encrypted()] {
        let (disk, model) = small(&setup, true);
        let mapped: BTreeSet<(String, usize)> =
            map(&setup, &disk, &model).into_iter().map(|(file, at, _)| (file, at)).collect();
        for file in disk.files().into_iter().filter(|file| !file.ends_with("lock")) {
            for at in 0..disk.contents(&file).unwrap().len() {
                if at % 7 > 0 || mapped.contains(&(file.clone(), at)) {
                    continue;
                }
                let damaged = disk.fork();
                damaged.flip_bit(&file, at as u64 * 8);
                match setup.try_open(&damaged) {
                    Ok((log, _)) => {
                        assert_eq!(Model::of(&*log), model, "byte {at} of {file}");
                        same += 1;
                    }
                    Err(LogError::Corrupt { .. }) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    assert!(same > 1000 && refused > 10, "{same} {refused}");
}

macro_rules! flips {
    ($($name:ident $number:literal)*) => {
        mod each_bit {
            $(#[test]
            fn $name() {
                super::flips($number);
            })*
        }
    };
}

flips! {
    one_file 0
    one_file_bodies_unchecked 1
    one_file_plain 2
    one_file_encrypted 3
    one_file_blocks 4
    segments 5
    segments_bodies_unchecked 6
    segments_plain 7
    segments_encrypted 8
    segments_blocks 9
}
