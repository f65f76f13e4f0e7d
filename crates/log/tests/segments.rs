//! Logs in segments: what goes wrong with whole files.

#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use common::{
    Model, NAME, Opened, Setup, append, combinations, compact, configuration, entry, hard, noise,
    outcomes, reset, segment, segments, trim, vote,
};
use tinyraftplus_core::Seq;
use tinyraftplus_log::{
    Log, LogError, LogExt, Write,
    sim_disk::{Doubt, SimDisk},
};

/// A log of several segments with entries of every term, a trim across segments, votes and a configuration.
fn filled(setup: &Setup) -> (SimDisk, Model) {
    let disk = SimDisk::new();
    let (mut log, _) = setup.open(&disk);
    let mut model = Model::default();
    let mut write = |log: &mut dyn Log, write: Write| {
        log.write(std::slice::from_ref(&write)).unwrap();
        model.apply(&write);
    };
    write(&mut *log, vote(1, 9));
    write(&mut *log, Write { configuration: Some(configuration(3)), ..Write::default() });
    for seq in 0..12 {
        write(&mut *log, append(vec![entry(seq, 1 + seq / 4, noise(seq, 3000))]));
    }
    write(&mut *log, trim(5));
    for seq in 5..14 {
        write(&mut *log, append(vec![entry(seq, 4, noise(seq + 100, 3000))]));
    }
    drop(log);
    disk.kill();
    (disk, model)
}

/// Whether it was refused with an error that names a file.
fn refused(opened: Opened, what: &str) -> String {
    match opened {
        Err(LogError::SegmentMissing(path) | LogError::Corrupt { path, .. }) => {
            path.to_str().unwrap().to_owned()
        }
        Err(error) => panic!("{what}: {error}"),
        Ok((log, recovery)) => panic!("{what}: opened {:?}, {recovery:?}", log.bounds()),
    }
}

/// The bytes of all files.
fn bytes(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    disk.files().into_iter().map(|file| (file.clone(), disk.contents(&file).unwrap())).collect()
}

/// A segment is missing, empty, twice there, renamed, or of another log: refused, naming a file, and nothing is
/// changed. Fails if a header does not say where the log starts, or if a seal without a successor is taken for
/// the end of the log. (Whose a segment is, its number and where the one before it ended are looked at several
/// times over: header, tags and seal each tell.)
#[test]
fn missing_or_foreign_segment() {
    for setup in [Setup::many(), Setup::encrypted()] {
        let (disk, model) = filled(&setup);
        let numbers = segments(&disk);
        assert!(numbers.len() > 5 && numbers[0] == 0, "{numbers:?}");
        let mut options = setup.options.clone();
        options.seed = Some(2);
        let (other, _) = filled(&Setup { options, ..setup.clone() });
        let last = *numbers.last().unwrap();
        for &number in &numbers {
            let file = segment(number);
            let check = |what: &str, change: &dyn Fn(&SimDisk)| {
                let damaged = disk.fork();
                change(&damaged);
                let before = bytes(&damaged);
                let what = format!("{what}, segment {number}");
                let named = refused(setup.try_open(&damaged), &what);
                assert!(named.starts_with(NAME), "{what}: {named}");
                assert_eq!(bytes(&damaged), before, "{what}");
                named
            };
            let named = check("missing", &|disk| drop(disk.take(&file)));
            // Without the first, the second tells that it is missing.
            assert_eq!(named, segment(number));
            if number < last {
                check("empty", &|disk| disk.put(&file, &[]));
                check("zeros", &|disk| disk.put(&file, &[0; 8192]));
                check("all from here missing but the newest", &|disk| {
                    for number in number..last {
                        disk.take(&segment(number));
                    }
                });
                check("exchanged with the next", &|disk| {
                    let next = segment(number + 1);
                    let (a, b) = (disk.take(&file).unwrap(), disk.take(&next).unwrap());
                    disk.put(&next, &a);
                    disk.put(&file, &b);
                });
                check("all up to here of another log", &|disk| {
                    for number in 0..=number {
                        let file = segment(number);
                        disk.put(&file, &other.contents(&file).unwrap());
                    }
                });
            }
            if number > 0 {
                check("all up to here missing", &|disk| {
                    for number in 0..number {
                        disk.take(&segment(number));
                    }
                });
            }
            check("of another log", &|disk| disk.put(&file, &other.contents(&file).unwrap()));
            check("twice", &|disk| {
                disk.put(&segment(last + 1), &disk.contents(&file).unwrap());
            });
            check("a copy of the first", &|disk| {
                let copy = disk.contents(&segment(u64::from(number == 0))).unwrap();
                disk.put(&file, &copy);
            });
            check("an older version of itself", &|disk| {
                // As it was after its first frames: what a backup brings back. Of the newest, a log alone
                // can't tell.
                let from = if number == last { 0 } else { 4096 + 3500 };
                disk.edit(&file, |bytes| bytes[from..].fill(0));
                if number == last {
                    disk.put(&file, &other.contents(&segment(0)).unwrap());
                }
            });
        }
        // Names that are no names of ours are nobody's business.
        for file in ["x.1.seg", "x.00000000000000000001.seg.bak", "y.00000000000000000001.seg"] {
            disk.put(file, b"?");
        }
        assert_eq!(Model::of(&*setup.open(&disk).0), model);
    }
}

/// Many segments are read in the order of their numbers. Fails if they are taken in the order of their names,
/// or are numbered without leading zeros.
#[test]
fn segments_misordered() {
    let setup = Setup::many();
    for count in [11, 1000] {
        let disk = SimDisk::new();
        let (mut log, _) = setup.open(&disk);
        let mut payloads = Vec::new();
        while log.stats().segments < count {
            let payload = noise(log.end().get(), 9000);
            log.append(payload.clone()).unwrap();
            payloads.push(payload);
        }
        drop(log);
        disk.kill();
        let (log, recovery) = setup.open(&disk);
        assert_eq!((recovery.segments, recovery.seals_rebuilt), (count, 0));
        let found: Vec<_> = log.iter(..).map(|entry| entry.unwrap().payload).collect();
        assert_eq!(found, payloads);
        // From the middle, and backwards.
        for seq in [count - 1, count / 2, 3, 0].map(Seq::new) {
            let first = log.iter(seq..).next().unwrap().unwrap();
            assert_eq!(first.id.seq, seq);
        }
    }
}

/// The only frames that say the term, the vote and the configuration lie in segments that are compacted. Fails
/// if the header of a segment does not repeat them.
#[test]
fn compaction_deletes_vote() {
    for setup in Setup::all().into_iter().filter(|setup| setup.many) {
        let disk = SimDisk::new();
        let (mut log, _) = setup.open(&disk);
        log.write(&[vote(7, 9)]).unwrap();
        log.write(&[Write { configuration: Some(configuration(3)), ..Write::default() }]).unwrap();
        while log.stats().segments < 4 {
            log.append(noise(1, 3000)).unwrap();
        }
        let end = log.end();
        log.compact(end.before().unwrap()).unwrap();
        assert!(!disk.files().contains(&segment(0)), "{:?}", disk.files());
        let model = Model::of(&*log);
        assert_eq!(model.hard, hard(7, Some(9)));
        drop(log);
        disk.power_loss_choosing(|_, _| 0);
        let (log, _) = setup.open(&disk);
        assert_eq!(Model::of(&*log), model, "{}", setup.what);
        drop(log);
        disk.kill();
        // And through a crash after each operation of beginning another segment.
        let (mut begun, mut count) = (0, 0);
        loop {
            let crashed = disk.fork();
            crashed.crash_after(count);
            let before = segments(&crashed);
            let done = setup
                .try_open(&crashed)
                .is_ok_and(|(mut log, _)| (0..4).all(|seq| log.append(noise(seq, 3000)).is_ok()));
            if done {
                break;
            }
            begun += u64::from(segments(&crashed) != before);
            for disk in outcomes(&crashed, 8, count) {
                let (log, _) = setup.open(&disk);
                assert_eq!(log.hard_state(), model.hard, "{}, crash at {count}", setup.what);
                let found = log.restored().configuration;
                assert_eq!(found.as_deref(), model.configuration.as_ref());
            }
            count += 1;
        }
        assert!(begun > 3, "{begun}");
    }
}

/// A segment that was compacted is used again: the crash comes before, while and after it is given another
/// name, cleared, and begun. Old entries never come back, and the log opens.
///
/// Fails if a segment is begun in a file that was not cleared, or cleared under its old name.
#[test]
fn recycled_bytes() {
    for setup in [Setup::many(), Setup::encrypted()] {
        let start = SimDisk::new();
        let (mut log, _) = setup.open(&start);
        while log.stats().segments < 4 {
            log.append(noise(log.end().get(), 3000)).unwrap();
        }
        let before = Model::of(&*log);
        drop(log);
        start.kill();
        let groups: Vec<Write> =
            std::iter::once(compact(before.end() - 1))
                .chain((0..8).map(|n| {
                    append(vec![entry(before.end() + n, before.term(), noise(n + 50, 3000))])
                }))
                .collect();
        let run = |disk: &SimDisk| {
            let mut model = before.clone();
            let Ok((mut log, _)) = setup.try_open(disk) else { return (model.clone(), model) };
            for write in &groups {
                let next = model.after(std::slice::from_ref(write));
                if log.write(std::slice::from_ref(write)).is_err() {
                    return (model, next);
                }
                model = next;
            }
            (model.clone(), model)
        };
        let whole = start.fork();
        whole.take_operations();
        run(&whole);
        let operations = whole.take_operations();
        let has = |start: &str, end: &str| {
            operations.iter().any(|line| line.starts_with(start) && line.ends_with(end))
        };
        assert!(has("rename", ".spare") && has("rename", ".seg") && has("write", "zeros"));
        let mut spares = 0;
        for count in 0..operations.len() as u64 {
            let disk = start.fork();
            disk.crash_after(count);
            let (model, next) = run(&disk);
            let mut left = outcomes(&disk, 64, count);
            let killed = disk.fork();
            killed.kill();
            left.push(killed);
            for disk in left {
                spares += u64::from(disk.files().iter().any(|file| file.contains(".spare")));
                let (mut log, _) = setup.open(&disk);
                let found = Model::of(&*log);
                assert!(found == model || found == next, "crash at {count}");
                log.append("on").unwrap();
            }
        }
        assert!(spares > 20, "{spares}");
    }
}

/// Files are created, renamed and removed, and the power fails with any part of that done, in every
/// combination. Fails if the directory is not synced before a segment is begun, before bytes of a spare file
/// change, or before opening returns.
#[test]
fn directory_not_synced() {
    let setup = Setup::many();
    let run = |disk: &SimDisk| {
        let mut model = Model::default();
        let Ok((mut log, _)) = setup.try_open(disk) else { return (model.clone(), model) };
        for seq in 0..30 {
            let write = if seq % 10 == 9 {
                compact(model.end() - 1)
            } else {
                append(vec![entry(model.end(), 1, noise(seq, 3000))])
            };
            let next = model.after(std::slice::from_ref(&write));
            if log.write(&[write]).is_err() {
                return (model, next);
            }
            model = next;
        }
        (model.clone(), model)
    };
    let whole = SimDisk::new();
    run(&whole);
    let mut met = 0;
    for count in 0..whole.operation_count() {
        let disk = SimDisk::new();
        disk.crash_after(count);
        let (model, next) = run(&disk);
        let names: Vec<_> = disk
            .doubts()
            .into_iter()
            .filter(|(doubt, _)| matches!(doubt, Doubt::Entry { .. }))
            .collect();
        for choice in 0..1_u64 << names.len() {
            for rest in [false, true] {
                let after = disk.fork();
                let mut bit = 0;
                after.power_loss_choosing(|doubt, choices| match doubt {
                    Doubt::Entry { .. } => {
                        bit += 1;
                        choice >> (bit - 1) & 1
                    }
                    Doubt::Sector { .. } | Doubt::Length { .. } => {
                        if rest {
                            choices - 1
                        } else {
                            0
                        }
                    }
                });
                met += u64::from(!names.is_empty());
                let found = Model::of(&*setup.open(&after).0);
                assert!(found == model || found == next, "crash at {count}, {choice:b}");
            }
        }
    }
    assert!(met > 50, "{met}");
}

/// What is done to the bytes of a file.
type Harm<'a> = (&'a str, &'a dyn Fn(&mut Vec<u8>));

/// The seal of a full segment is damaged, missing, or too large for the file: the segment is read in full, the
/// log is the same, and sealed again. Fails if a seal is believed unchecked, or needed.
#[test]
fn damaged_or_missing_seal() {
    for setup in Setup::all().into_iter().filter(|setup| setup.many) {
        let (disk, model) = filled(&setup);
        for number in 0..*segments(&disk).last().unwrap() {
            let file = segment(number);
            let content = disk.contents(&file).unwrap();
            let seal =
                content.chunks_exact(128).rposition(|slot| slot.starts_with(b"TRPf")).unwrap()
                    * 128;
            assert!(content[seal + 7] & 16 > 0, "the last frame is the seal");
            let harms: [Harm<'_>; 5] = [
                ("gone", &|bytes| bytes[seal..].fill(0)),
                ("cut short", &|bytes| bytes.truncate(seal + 100)),
                ("header", &|bytes| bytes[seal + 70] ^= 1),
                ("body", &|bytes| bytes[seal + 128] ^= 0x80),
                ("magic", &|bytes| bytes[seal] = 0),
            ];
            for (what, harm) in harms {
                let damaged = disk.fork();
                damaged.edit(&file, harm).unwrap();
                let (log, recovery) = setup.open(&damaged);
                assert_eq!(Model::of(&*log), model, "{what} of segment {number}");
                assert_eq!(recovery.seals_rebuilt, 1, "{what}");
                drop(log);
                damaged.power_loss_choosing(|_, _| 0);
                let (log, recovery) = setup.open(&damaged);
                assert_eq!((Model::of(&*log), recovery.seals_rebuilt), (model.clone(), 0));
            }
            // Without the seal, damage to a frame shows when the log is opened.
            let damaged = disk.fork();
            damaged.edit(&file, |bytes| {
                bytes[seal..].fill(0);
                bytes[4096 + 100] ^= 1;
            });
            match setup.try_open(&damaged) {
                // The twin of a vote.
                Ok((log, _)) => assert_eq!(Model::of(&*log), model),
                Err(error) => assert!(matches!(error, LogError::Corrupt { .. }), "{error}"),
            }
        }
    }
}

/// One copy of a header is damaged, of a full segment and of the newest: it is written again, and that is
/// reported. Both: refused. Fails if only the first copy is looked at, or the other is left as it is.
#[test]
fn damaged_headers_of_segments() {
    for setup in [Setup::many(), Setup::encrypted()] {
        let (disk, model) = filled(&setup);
        for number in segments(&disk) {
            let file = segment(number);
            // The header twice, then the configuration twice, if there is one.
            let configured = number > 0;
            for (pair, at) in [(0, 20), (0, 532), (1, 1024 + 20), (1, 1536 + 20)] {
                if pair == 1 && !configured {
                    continue;
                }
                for zeros in [false, true] {
                    let damaged = disk.fork();
                    damaged.edit(&file, |bytes| {
                        if zeros {
                            bytes[at / 512 * 512..][..512].fill(0);
                        } else {
                            bytes[at] ^= 1;
                        }
                    });
                    let (log, recovery) = setup.open(&damaged);
                    assert_eq!(Model::of(&*log), model, "segment {number}, byte {at}");
                    assert_eq!(recovery.copies_repaired, 1, "segment {number}, byte {at}");
                    drop(log);
                    damaged.power_loss_choosing(|_, _| 0);
                    assert_eq!(damaged.contents(&file), disk.contents(&file), "as it was");
                    assert_eq!(setup.open(&damaged).1.copies_repaired, 0);
                }
            }
            let both = disk.fork();
            both.edit(&file, |bytes| {
                bytes[20] ^= 1;
                bytes[532] ^= 1;
            });
            assert_eq!(refused(setup.try_open(&both), "both copies"), file);
        }
    }
}

/// The first group of a new segment is large and torn in every way: it is cut whole, with the trim in it, and
/// the segment before it counts. Fails if a frame is applied before its group is known to be whole, or a
/// segment without a whole group is taken for one that was never begun.
#[test]
fn group_tail_missing_after_a_rotation() {
    let mut setup = Setup::many();
    setup.options.segment_bytes_max = 1 << 20;
    let disk = SimDisk::new();
    let (mut log, _) = setup.open(&disk);
    log.write(&[append(vec![entry(0, 1, "a"), entry(1, 1, noise(1, 500 << 10))])]).unwrap();
    let before = Model::of(&*log);
    let group = [
        Write { append: vec![entry(1, 2, noise(1, 300 << 10))], ..trim(1) },
        Write {
            hard_state: Some(hard(3, Some(5))),
            ..append(vec![entry(2, 2, noise(2, 255 << 10))])
        },
    ];
    let probe = disk.fork();
    let (mut twin, _) = setup.open(&probe);
    let opened = probe.operation_count();
    twin.write(&group).unwrap();
    assert_eq!(twin.stats().segments, 2);
    let (mut log, _) = {
        drop(log);
        disk.kill();
        setup.open(&disk)
    };
    disk.crash_after(probe.operation_count() - opened - 1);
    log.write(&group).unwrap_err();
    let after = before.after(&group);
    let sectors = disk.doubts().len() as u64;
    assert!(combinations(&disk) > 1 << 40);
    let rescued = Model { hard: after.hard, ..before.clone() };
    let mut found = [0; 3];
    for keep in (0..=sectors).step_by(61).chain([1, 2, sectors - 2, sectors - 1, sectors]) {
        for rest in [false, true] {
            // The first so many sectors, or all but one.
            let torn = disk.fork();
            let mut count = 0;
            torn.power_loss_choosing(|_, _| {
                count += 1;
                u64::from(if rest { count != keep } else { count <= keep })
            });
            let model = Model::of(&*setup.open(&torn).0);
            let which = [&before, &after, &rescued].iter().position(|it| **it == model);
            found[which.unwrap_or_else(|| panic!("{keep} {rest}"))] += 1;
        }
    }
    assert!(found.iter().all(|&count| count > 0), "{found:?}");
}

/// A new start over a log with more, fewer or other entries, in the same segment or beginning another, crashes
/// at every operation. What is left is the log before or after, and older files don't bring anything back.
///
/// Fails if files that the reset made void are removed before it is durable, or their leftovers are an error.
#[test]
fn snapshot_reset_interrupted() {
    let mut files = 0;
    for setup in Setup::all() {
        for (start, entries) in [(3, 10), (10, 10), (50, 10), (10, 2), (1, 0)] {
            let begin = SimDisk::new();
            let (mut log, _) = setup.open(&begin);
            for seq in 0..entries {
                log.write(&[append(vec![entry(seq, 2, noise(seq, 3000))])]).unwrap();
            }
            let before = Model::of(&*log);
            drop(log);
            begin.kill();
            let install = vec![Write {
                hard_state: Some(hard(4, None)),
                configuration: Some(configuration(2)),
                append: vec![entry(start, 4, noise(60, 3000)), entry(start + 1, 4, "s")],
                ..reset(start, 3)
            }];
            let after = before.after(&install);
            let rescued = Model { hard: after.hard, ..before.clone() };
            let probe = begin.fork();
            let (mut log, _) = setup.open(&probe);
            log.write(&install).unwrap();
            drop(log);
            for count in 0..probe.operation_count() {
                let disk = begin.fork();
                disk.crash_after(count);
                if let Ok((mut log, _)) = setup.try_open(&disk) {
                    let _ = log.write(&install);
                }
                let mut left = outcomes(&disk, 24, count);
                let killed = disk.fork();
                killed.kill();
                left.push(killed);
                for disk in left {
                    files = files.max(segments(&disk).len());
                    let (mut log, _) = setup.open(&disk);
                    let found = Model::of(&*log);
                    assert!(
                        [&before, &after, &rescued].contains(&&found),
                        "{} {start} {entries} {count}",
                        setup.what
                    );
                    // Done again, it is done.
                    log.write(&install).unwrap();
                    drop(log);
                    disk.power_loss_choosing(|_, _| 0);
                    let (log, _) = setup.open(&disk);
                    assert_eq!(Model::of(&*log), after);
                    if setup.many {
                        assert!(segments(&disk).len() <= 2, "{:?}", disk.files());
                    }
                }
            }
        }
    }
    assert!(files > 3);
}
