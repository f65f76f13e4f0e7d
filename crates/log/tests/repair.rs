//! Going on behind damage and putting back what was lost, as a node does that can ask others for it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use std::collections::BTreeMap;

use common::{
    FILE, Model, NAME, Setup, append, compact, configuration, effort, entry, hard, noise, repair,
    reset, segment, segments, trim, vote,
};
use tinyraftplus_core::Seq;
use tinyraftplus_log::{
    Damaged, Log, LogEntry, LogError, LogExt, Recovery, Unknown, Write, dump, inspect,
    sim_disk::{SimDisk, SimRng},
    verify,
};

fn reporting(mut setup: Setup) -> Setup {
    setup.options.damaged = Damaged::Report;
    setup
}

fn all() -> Vec<Setup> {
    Setup::all()
        .into_iter()
        .map(|mut setup| {
            if setup.what == "blocks" {
                setup.options.segment_bytes_max = 48 << 10;
            }
            reporting(setup)
        })
        .collect()
}

/// The positions that can't be read, each tried by itself. Panics if another entry is read in the place of one.
fn unreadable(log: &dyn Log, model: &Model, what: &str) -> Vec<u64> {
    let bounds = log.bounds();
    let mut lost = Vec::new();
    for seq in bounds.start.get()..bounds.end.get() {
        let at = usize::try_from(seq - model.start).unwrap();
        match log.reader().read(Seq::new(seq), Seq::new(seq + 1), 0) {
            Ok(found) => assert_eq!(found, [model.entries[at].clone()], "{what}"),
            Err(LogError::Corrupt { seq: told, .. }) => {
                assert_eq!(told, Some(Seq::new(seq)), "{what}");
                lost.push(seq);
            }
            Err(error) => panic!("{what}: seq {seq}: {error}"),
        }
    }
    lost
}

/// What was lost, from somebody who has it.
fn from_elsewhere(model: &Model, lost: &[u64]) -> Vec<Write> {
    let entry = |seq: &u64| model.entries[usize::try_from(seq - model.start).unwrap()].clone();
    lost.iter().map(|seq| repair(vec![entry(seq)])).collect()
}

/// A log with every kind of frame, small enough to damage every bit of it, of a leader's and followers' lives: an entry
/// is replaced only in another term.
fn small(setup: &Setup) -> (SimDisk, Model) {
    let disk = SimDisk::new();
    let (mut log, _) = setup.open(&disk);
    let mut model = Model::default();
    let mut write = |group: &[Write]| {
        log.write(group).unwrap();
        model = model.after(group);
    };
    write(&[append(vec![entry(0, 1, noise(1, 40)), entry(1, 1, noise(2, 700))])]);
    write(&[vote(2, 9)]);
    write(&[Write { configuration: Some(configuration(2)), ..Write::default() }]);
    write(&[append(vec![entry(2, 2, noise(3, 30))]), append(vec![entry(3, 2, "three")])]);
    write(&[Write {
        append: vec![entry(3, 3, noise(3, 30))],
        hard_state: Some(hard(3, None)),
        ..trim(3)
    }]);
    for seq in 4..9 {
        write(&[append(vec![entry(seq, 3, noise(seq, 300))])]);
    }
    write(&[Write { append: vec![entry(9, 3, vec![0; 600])], ..Write::default() }]);
    write(&[append(vec![entry(10, 3, [20, 0].repeat(25)), entry(11, 3, "")])]);
    if setup.many {
        write(&[append(vec![entry(12, 3, noise(12, 9000))])]);
        write(&[append(vec![entry(13, 3, noise(13, 3000))])]);
        write(&[compact(1)]);
    }
    write(&[vote(4, 8)]);
    let end = model.end();
    let mut write = |group: &[Write]| {
        log.write(group).unwrap();
        model = model.after(group);
    };
    for seq in end..end + 4 {
        write(&[append(vec![entry(seq, 4, noise(seq, 200))])]);
    }
    log.close().unwrap();
    drop(log);
    disk.kill();
    (disk, model)
}

/// Whether a frame's body has no checksum.
fn unchecked(setup: &Setup) -> bool {
    matches!(setup.what, "plain" | "bodies unchecked")
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Outcome {
    Refused,
    Unnoticed,
    Mended,
    Repaired,
    /// What was lost is at the end, and is appended again.
    UnknownEnd,
}

/// Opens a damaged log, puts back what it says is lost, and checks that all of it is there, and is after a power failure.
fn mend(setup: &Setup, disk: &SimDisk, model: &Model, what: &str) -> (Outcome, Recovery) {
    let (mut log, recovery) = match setup.try_open(disk) {
        Ok(opened) => opened,
        Err(LogError::Corrupt { .. } | LogError::NotALog(_) | LogError::SegmentMissing(_)) => {
            return (Outcome::Refused, Recovery::default());
        }
        Err(error) => panic!("{what}: {error}"),
    };
    assert_eq!(log.hard_state(), model.hard, "{what}: {recovery:?}");
    assert_eq!(log.unknown(), recovery.unknown, "{what}");
    let restored = log.restored();
    if !recovery.unknown.configuration {
        let known = model.configuration.as_ref();
        assert_eq!(restored.configuration.as_deref(), known, "{what}");
    }
    let end = log.bounds().end.get();
    assert!(
        end == model.end() || recovery.unknown.end && end < model.end(),
        "{what}: ends at {end}, {recovery:?}"
    );
    assert_eq!(recovery.cut, None, "{what}");
    let start = log.bounds().start.get();
    assert!(start <= model.start, "{what}");
    // Where a compaction was lost, entries before it are there again.
    let mut longer = model.clone();
    if start < model.start {
        let missing = (start..model.start).map(|seq| entry(seq, 1, noise(seq + 1, 40)));
        longer.entries.splice(0..0, missing);
        longer.start = start;
    }
    let lost = unreadable(&*log, &longer, what);
    let told = |seq: &u64| {
        let seq = Seq::new(*seq);
        recovery.damaged.iter().any(|it| it.seq <= Some(seq) && it.end.is_none_or(|end| seq < end))
    };
    if !setup.many {
        assert!(lost.iter().all(told), "{what}: {lost:?} {:?}", recovery.damaged);
    }
    let told_first =
        recovery.damaged.iter().find_map(|damage| damage.seq.filter(|_| damage.end.is_some()));
    if let Some(seq) = told_first.filter(|seq| seq.get() >= longer.start) {
        // Whether all of a lost group can be read or not: its first frames may be whole.
        assert!(seq.get() < end, "{what}: {:?}", recovery.damaged);
    }
    let outcome = if recovery.unknown.end {
        Outcome::UnknownEnd
    } else if !lost.is_empty() {
        Outcome::Repaired
    } else if recovery.copies_repaired > 0 || recovery.seals_rebuilt > 0 {
        Outcome::Mended
    } else {
        Outcome::Unnoticed
    };
    for write in from_elsewhere(&longer, &lost) {
        log.write(&[write]).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    let missing: Vec<LogEntry> =
        longer.entries[usize::try_from(end - longer.start).unwrap()..].to_vec();
    let known = recovery.unknown != Unknown::NOTHING;
    let configuration = model.configuration.clone().map(std::sync::Arc::new).filter(|_| known);
    log.write(&[Write { configuration, known, append: missing, ..Write::default() }]).unwrap();
    assert_eq!(log.unknown(), Unknown::NOTHING, "{what}");
    let mut expected = longer;
    expected.before = Model::of(&*log).before;
    assert_eq!(Model::of(&*log), expected, "{what}");
    drop(log);
    disk.power_loss_choosing(|_, _| 0);
    let (mut log, again) =
        setup.try_open(disk).unwrap_or_else(|error| panic!("{what}, again: {error}"));
    assert_eq!((again.unknown, again.cut), (Unknown::NOTHING, None), "{what}");
    let left: Vec<_> = again
        .damaged
        .iter()
        .filter(|damage| damage.seq >= Some(Seq::new(expected.start)))
        .collect();
    assert!(left.is_empty() || lost.is_empty(), "{what}: {left:?}");
    assert_eq!(Model::of(&*log), expected, "{what}, again");
    // And on it goes, into other segments.
    for round in 0..3 {
        let next = append(vec![entry(expected.end(), 9, noise(round, 7000))]);
        log.write(std::slice::from_ref(&next)).unwrap_or_else(|error| panic!("{what}: {error}"));
        expected.apply(&next);
    }
    drop(log);
    disk.kill();
    let (log, again) =
        setup.try_open(disk).unwrap_or_else(|error| panic!("{what}, later: {error}"));
    assert_eq!((again.unknown, again.cut), (Unknown::NOTHING, None), "{what}");
    assert_eq!(Model::of(&*log), expected, "{what}, later");
    (outcome, recovery)
}

/// Every bit of a small log, one at a time. What opens reads right or is an error, and what is an error reads right once
/// it was put back; the term and vote, the configuration and the end are what they were, or said not to be known.
///
/// Fails if damage is passed over where it may hide something else than entries, if a repair is not found again, or if
/// a damaged file gets a seal that hides it.
#[test]
fn every_flipped_bit_can_be_repaired() {
    let mut counts: BTreeMap<(&str, bool, Outcome), u64> = BTreeMap::new();
    for setup in all() {
        let (disk, model) = small(&setup);
        let files = if setup.many {
            segments(&disk).into_iter().map(segment).collect()
        } else {
            vec![FILE.to_owned()]
        };
        for file in files {
            let bytes = disk.contents(&file).unwrap();
            let used = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
            let step = usize::try_from(effort("LOG_FLIP_STEP", 7)).unwrap();
            for at in (0..used).step_by(step) {
                if (1024..4096).contains(&at) {
                    continue;
                }
                // Without checksums, what entries hold is not checked.
                let slot = at / 128 * 128;
                let body = at >= 4096 && !bytes[slot..].starts_with(b"TRPf");
                if unchecked(&setup) && body {
                    continue;
                }
                let damaged = disk.fork();
                assert!(damaged.flip_bit(&file, (at * 8 + at % 8) as u64));
                let what = format!("{} {}, byte {at} of {file}", setup.what, setup.many);
                let (outcome, _) = mend(&setup, &damaged, &model, &what);
                *counts.entry((setup.what, setup.many, outcome)).or_default() += 1;
            }
        }
    }
    println!("{counts:?}");
    for setup in all() {
        let of = |outcome| counts.get(&(setup.what, setup.many, outcome)).copied().unwrap_or(0);
        if !unchecked(&setup) {
            assert!(of(Outcome::Repaired) > 100, "{}: {counts:?}", setup.what);
        }
    }
}

/// Sectors of anything at all, and several damaged places.
#[test]
fn damaged_sectors_can_be_repaired() {
    let mut counts: BTreeMap<Outcome, u64> = BTreeMap::new();
    for setup in all().into_iter().filter(|setup| !unchecked(setup)) {
        let (disk, model) = small(&setup);
        let mut rng = SimRng::new(7);
        for round in 0..effort("LOG_SECTORS", 120) {
            let damaged = disk.fork();
            let mut what = format!("{} {}, round {round}", setup.what, setup.many);
            for _ in 0..=rng.below(3) {
                let numbers = segments(&disk);
                let file = if setup.many {
                    segment(numbers[usize::try_from(rng.below(numbers.len() as u64)).unwrap()])
                } else {
                    FILE.to_owned()
                };
                let used =
                    disk.contents(&file).unwrap().iter().rposition(|&byte| byte != 0).unwrap();
                let first = 8 + rng.below(used as u64 / 512 - 7);
                let count = 1 + rng.below(4);
                let zeros = rng.below(3) == 0;
                what = format!("{what}, sectors {first}+{count} of {file}, zeros {zeros}");
                let noise = noise(rng.next(), usize::try_from(count * 512).unwrap());
                damaged.edit(&file, |bytes| {
                    let at = usize::try_from(first * 512).unwrap();
                    for (byte, noise) in bytes[at..].iter_mut().zip(&noise) {
                        *byte = if zeros { 0 } else { *noise };
                    }
                });
            }
            // Zeros over the end are undecidable; opening may say that it cut what was there.
            if let Ok((log, recovery)) = setup.try_open(&damaged.fork())
                && (recovery.cut.is_some()
                    || log.hard_state() != model.hard
                    || log.end().get() < model.end() && !recovery.unknown.end)
            {
                assert!(what.contains("zeros true"), "{what}");
                continue;
            }
            let (outcome, _) = mend(&setup, &damaged, &model, &what);
            *counts.entry(outcome).or_default() += 1;
        }
    }
    println!("{counts:?}");
    assert!(counts[&Outcome::Repaired] > 100, "{counts:?}");
}

/// A node that learns what it lost, file, byte and seq; what is beside it is read all the same.
#[test]
fn a_damaged_entry_is_named_and_put_back() {
    for setup in Setup::both() {
        let disk = SimDisk::new();
        let (mut log, _) = setup.open(&disk);
        let mut model = Model::default();
        log.write(&[vote(1, 5)]).unwrap();
        model.apply(&vote(1, 5));
        for seq in 0..20 {
            let write = append(vec![entry(seq, 1, noise(seq, 200))]);
            log.write(std::slice::from_ref(&write)).unwrap();
            model.apply(&write);
        }
        log.close().unwrap();
        drop(log);
        let frames = inspect(&disk, NAME).unwrap();
        let frame = frames.iter().find(|frame| frame.first.get() == 7).unwrap();
        let file = if setup.many { segment(0) } else { FILE.to_owned() };
        assert!(disk.flip_bit(&file, (frame.position + 150) * 8));
        let refused = setup.try_open(&disk).err().unwrap();
        assert!(matches!(refused, LogError::Corrupt { seq: Some(seq), .. } if seq.get() == 7));
        let setup = reporting(setup);
        let (mut log, recovery) = setup.open(&disk);
        let [damage] = &recovery.damaged[..] else { panic!("{recovery:?}") };
        assert_eq!((damage.seq, damage.end), (Some(Seq::new(7)), Some(Seq::new(8))));
        assert_eq!((damage.path.to_str().unwrap(), damage.offset), (file.as_str(), frame.position));
        assert_eq!((recovery.unknown, log.end().get()), (Unknown::NOTHING, 20));
        assert_eq!(unreadable(&*log, &model, "damaged"), [7]);
        // An iterator stops there, with an error.
        let read: Vec<_> = log.iter(..).collect();
        assert_eq!(read.len(), 8);
        assert!(matches!(read[7], Err(LogError::Corrupt { .. })), "{:?}", read[7]);
        log.write(&[repair(vec![model.entries[7].clone()])]).unwrap();
        assert_eq!(Model::of(&*log), model);
        drop(log);
        disk.power_loss_choosing(|_, _| 0);
        let (log, recovery) = setup.open(&disk);
        assert_eq!((&recovery.damaged[..], Model::of(&*log)), (&[][..], model.clone()));
        looked_at(&setup, &disk, &model, 1);
    }
}

/// From outside, too, what was put back is there, and the damage is said to be no loss.
fn looked_at(setup: &Setup, disk: &SimDisk, model: &Model, places: usize) {
    let encoder = &setup.options.encoder;
    let verified = verify(disk, NAME, encoder, |_| {}).unwrap();
    let damage = verified.survey.damage;
    assert!(damage.len() == places && damage.iter().all(|it| it.repaired), "{damage:?}");
    assert!(damage.iter().all(|it| it.to_string().ends_with("; what it had was put back")));
    let dumped: Result<Vec<_>, _> = dump(disk, NAME, encoder, ..).unwrap().collect();
    assert_eq!(dumped.unwrap(), model.entries);
    // Any range, from the middle of a repair, too.
    for start in model.start..model.end() {
        for end in start..=model.end() {
            let range = Seq::new(start)..Seq::new(end);
            let dumped: Result<Vec<_>, _> = dump(disk, NAME, encoder, range).unwrap().collect();
            let at = |seq: u64| usize::try_from(seq - model.start).unwrap();
            assert_eq!(dumped.unwrap(), model.entries[at(start)..at(end)]);
        }
    }
}

/// Repairs of anything, of repairs, across files: read from outside as by the log. Fails if a dump takes what lies
/// behind a repair from before it, or the reverse.
#[test]
fn repairs_are_seen_from_outside() {
    for setup in [Setup::one(), Setup::many(), Setup::encrypted()] {
        for seed in 0..6 {
            let disk = SimDisk::new();
            let mut rng = SimRng::new(seed);
            let (mut log, _) = setup.open(&disk);
            let mut model = Model::default();
            while model.end() < 24 {
                let mut write = append(vec![entry(model.end(), 1, noise(rng.next(), 1500))]);
                if model.end() > 3 && rng.below(2) == 0 {
                    let first = rng.below(model.end());
                    let end = (first + 1 + rng.below(4)).min(model.end());
                    let size = usize::try_from(rng.below(500)).unwrap();
                    write.repair =
                        (first..end).map(|seq| entry(seq, 1, noise(rng.next(), size))).collect();
                }
                log.write(std::slice::from_ref(&write)).unwrap();
                model.apply(&write);
            }
            looked_at(&setup, &disk, &model, 0);
        }
    }
}

/// The end of the log is damaged, and a copy of a vote after it says that something was there. The last entry that is
/// surely there is told; that the end is not known outlives restarts and other segments, until somebody knows it.
///
/// Fails if such an end is cut like one that nobody was told of: then the node would vote as if it had never had
/// what it acknowledged.
#[test]
fn unknown_end() {
    for setup in [Setup::one(), Setup::many()].map(reporting) {
        let disk = SimDisk::new();
        let (mut log, _) = setup.open(&disk);
        log.write(&[append(vec![entry(0, 1, "zero"), entry(1, 1, "one")])]).unwrap();
        // Entries and a vote in one group: the frame, and a copy of term and vote.
        let last = append(vec![entry(2, 3, noise(1, 600)), entry(3, 3, "three")]);
        log.write(&[vote(3, 7), last]).unwrap();
        drop(log);
        disk.kill();
        let frames = inspect(&disk, NAME).unwrap();
        let frame = frames.iter().rfind(|frame| frame.count > 0).unwrap();
        let file = if setup.many { segment(0) } else { FILE.to_owned() };
        disk.flip_bit(&file, (frame.position + 60) * 8);
        let unknown = Unknown { end: true, configuration: true };
        for round in 0..4 {
            let (mut log, recovery) = setup.open(&disk);
            assert_eq!((recovery.unknown, log.unknown(), recovery.cut), (unknown, unknown, None));
            assert_eq!(log.hard_state(), hard(4.min(3 + round), Some(7 + u128::from(round > 0))));
            assert_eq!(log.last().unwrap().seq.get(), if round > 1 { 2 } else { 1 });
            match round {
                // It stores votes and entries, and still does not know.
                0 => log.write(&[vote(4, 8)]).unwrap(),
                1 => log.write(&[append(vec![entry(2, 3, noise(2, 9000))])]).unwrap(),
                2 => log.mark().unwrap(),
                _ => {
                    log.write(&[Write { known: true, ..append(vec![entry(3, 4, "last")]) }])
                        .unwrap();
                    assert_eq!(log.unknown(), Unknown::NOTHING);
                }
            }
            drop(log);
            disk.power_loss_choosing(|_, _| 0);
        }
        let (log, recovery) = setup.open(&disk);
        assert_eq!((recovery.unknown, log.unknown()), (Unknown::NOTHING, Unknown::NOTHING));
        assert_eq!((log.hard_state(), log.end().get()), (hard(4, Some(8)), 4));
    }
}

/// The newest vote may lie in what is damaged, and nothing after it has one: refused. Fails if an older vote is
/// believed.
#[test]
fn damaged_hard_state_is_refused() {
    let setup = reporting(Setup::one());
    let disk = SimDisk::new();
    let (mut log, _) = setup.open(&disk);
    log.write(&[append(vec![entry(0, 1, "zero")])]).unwrap();
    log.write(&[vote(2, 5)]).unwrap();
    drop(log);
    disk.kill();
    let frames = inspect(&disk, NAME).unwrap();
    for frame in frames.iter().filter(|frame| frame.position > 4096) {
        disk.flip_bit(FILE, (frame.position + 90) * 8);
    }
    assert!(matches!(setup.try_open(&disk), Err(LogError::Corrupt { .. })));
}

/// Damage where terms change: nobody can say which term a lost entry had, or which entries were replaced. Refused.
/// Fails if an entry that was replaced is read as if it never had been.
#[test]
fn damage_across_terms_is_refused() {
    let setup = reporting(Setup::one());
    let disk = SimDisk::new();
    let (mut log, _) = setup.open(&disk);
    for seq in 0..5 {
        log.write(&[append(vec![entry(seq, 1, noise(seq, 100))])]).unwrap();
    }
    let begin = log.stats();
    log.write(&[Write { append: vec![entry(2, 3, "two"), entry(3, 3, "three")], ..trim(2) }])
        .unwrap();
    for seq in 4..8 {
        log.write(&[append(vec![entry(seq, 3, noise(seq, 100))])]).unwrap();
    }
    assert_eq!(begin.end.get(), 5);
    log.close().unwrap();
    drop(log);
    let frames = inspect(&disk, NAME).unwrap();
    let frame = frames.iter().find(|frame| frame.first.get() == 2 && frame.count == 2).unwrap();
    disk.flip_bit(FILE, (frame.position + 60) * 8);
    assert!(matches!(setup.try_open(&disk), Err(LogError::Corrupt { .. })));
}

/// Damaged files go like all others: a compaction past what is lost needs no repair, and a reset none either.
#[test]
fn damaged_segments_leave_by_compaction() {
    for by_reset in [false, true] {
        let setup = reporting(Setup::many());
        let disk = SimDisk::new();
        let (mut log, _) = setup.open(&disk);
        for seq in 0..30 {
            log.write(&[append(vec![entry(seq, 1, noise(seq, 2000))])]).unwrap();
        }
        log.close().unwrap();
        drop(log);
        let first = segments(&disk)[0];
        for at in [5000, 6000, 9000] {
            disk.flip_bit(&segment(first), at * 8);
        }
        let (mut log, _) = setup.open(&disk);
        assert!(log.reader().read(Seq::new(0), Seq::new(3), 0).is_err());
        let seqs: Vec<u64> = (0..30)
            .filter(|&seq| log.reader().read(Seq::new(seq), Seq::new(seq + 1), 0).is_err())
            .collect();
        assert!((2..6).contains(&seqs.len()), "{seqs:?}");
        log.write(&[repair(vec![entry(seqs[0], 1, noise(seqs[0], 2000))])]).unwrap();
        let write = if by_reset { reset(30, 1) } else { compact(20) };
        log.write(&[write]).unwrap();
        assert!(!segments(&disk).contains(&first), "it is gone");
        log.write(&[append(vec![entry(30, 1, noise(1, 9000))])]).unwrap();
        drop(log);
        disk.kill();
        let (log, recovery) = setup.open(&disk);
        assert_eq!(recovery.damaged, []);
        assert!(log.iter(..).all(|entry| entry.is_ok()));
    }
}
