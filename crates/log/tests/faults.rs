//! What disks do to logs of every kind: full, wrong places, lost writes, failing syncs, hanging; and bytes under
//! a wrong key, or at each other's place.

#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use std::{
    io,
    sync::{Arc, Barrier},
    time::Duration,
};

use common::{
    FILE, Model, NAME, Setup, append, compact, entry, hard, noise, segment, segments, trim, vote,
};
use tinyraftplus_core::Seq;
use tinyraftplus_log::{
    Effect, EncryptingEncoder, Key, Log, LogError, LogExt, MultiFsLog, TimeoutLog, Timeouts,
    sim_disk::{Lost, SimDisk, SimRng},
};

/// A log of so many entries of 2,000 bytes, killed.
fn entries(setup: &Setup, count: u64) -> (SimDisk, Model) {
    let disk = SimDisk::new();
    let (mut log, _) = setup.open(&disk);
    for seq in 0..count {
        log.write(&[append(vec![entry(seq, 1, noise(seq, 2000))])]).unwrap();
    }
    let model = Model::of(&*log);
    drop(log);
    disk.kill();
    (disk, model)
}

/// Reads each entry by itself: it is what was written, or an error. Says how many errors there were.
fn read_errors(log: &dyn Log, model: &Model) -> u64 {
    assert_eq!((log.bounds().start.get(), log.bounds().end.get()), (model.start, model.end()));
    let mut errors = 0;
    for entry in &model.entries {
        let seq = entry.id.seq;
        match log.reader().read(seq, seq.after(), 0) {
            Ok(found) => assert_eq!(found, std::slice::from_ref(entry)),
            Err(LogError::Corrupt { .. }) => errors += 1,
            Err(error) => panic!("{error}"),
        }
    }
    errors
}

/// The disk is full and appends are refused. A vote works, a trim works, and a compaction, which frees segments;
/// then appends work again. Fails without the reserve, if a compaction needs more space than it holds, or if the
/// reserve is of no use where the newest segment is full.
#[test]
fn full_disk_frees_itself() {
    for mut setup in Setup::all().into_iter().filter(|setup| setup.many) {
        // A few blocks.
        setup.options.reserve_bytes = if setup.what == "blocks" { 64 << 10 } else { 8 << 10 };
        let disk = SimDisk::new();
        let (mut log, _) = setup.open(&disk);
        while log.stats().segments < 4 {
            log.append(noise(log.end().get(), 3000)).unwrap();
        }
        // Wherever in a segment it gets full.
        for spare in [0, 3000, 9000, 20_000] {
            disk.set_capacity(Some(disk.bytes_used() + spare));
            let refused = (0..100).find_map(|seq| log.append(noise(seq, 3000)).err()).unwrap();
            assert!(matches!(refused, LogError::NoSpace { .. }), "{}: {refused}", setup.what);
            assert!(refused.effect() == Effect::None && !refused.is_fatal());
            let term = log.hard_state().term.get() + 1;
            log.write(&[vote(term, 3)]).unwrap_or_else(|error| panic!("{}: {error}", setup.what));
            let end = log.end().get();
            log.write(&[trim(end - 1)]).unwrap();
            assert!(log.append(noise(1, 3000)).is_err());
            // It can be opened as it is.
            let model = Model::of(&*log);
            drop(log);
            disk.kill();
            log = setup.open(&disk).0;
            assert_eq!(Model::of(&*log), model);
            log.write(&[compact(end - 2)]).unwrap();
            log.append(noise(2, 3000)).unwrap();
            let model = Model::of(&*log);
            assert_eq!((model.hard, model.entries.len()), (hard(term, Some(3)), 2));
            drop(log);
            disk.power_loss_choosing(|_, _| 0);
            log = setup.open(&disk).0;
            assert_eq!(Model::of(&*log), model);
            disk.set_capacity(None);
            while log.stats().segments < 4 {
                log.append(noise(log.end().get(), 3000)).unwrap();
            }
        }
    }
}

/// The right bytes go to a wrong offset, in the same or in another file. Opening or reading tells, unless it
/// was the last group, and hit nothing that counts. Fails if a frame does not say where it belongs, or a
/// checksum is left out.
#[test]
fn misdirected_write() {
    let (mut refused, mut on_read, mut harmless) = (0, 0, 0);
    for setup in Setup::both().into_iter().chain([Setup::encrypted()]) {
        for count in [1, 4, 9] {
            let (start, _) = entries(&setup, count);
            let targets: Vec<String> =
                start.files().into_iter().filter(|file| !file.ends_with("lock")).collect();
            for target in &targets {
                for offset in (0..14_000).step_by(896) {
                    let disk = start.fork();
                    let (mut log, _) = setup.open(&disk);
                    disk.misdirect_write(0, target, offset);
                    log.append(noise(77, 600)).unwrap();
                    log.append(noise(78, 600)).unwrap();
                    let model = Model {
                        entries: (0..count)
                            .map(|seq| entry(seq, 1, noise(seq, 2000)))
                            .chain([
                                entry(count, 1, noise(77, 600)),
                                entry(count + 1, 1, noise(78, 600)),
                            ])
                            .collect(),
                        ..Model::default()
                    };
                    drop(log);
                    disk.power_loss_choosing(|_, _| 0);
                    match setup.try_open(&disk) {
                        Ok((log, _)) if read_errors(&*log, &model) > 0 => on_read += 1,
                        Ok(_) => harmless += 1,
                        Err(LogError::Corrupt { .. } | LogError::NotALog(_)) => refused += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
    }
    println!("{refused} refused, {on_read} noticed on reading, {harmless} harmless");
    // Those that were sent where they belong.
    assert!(refused > 50 && harmless < refused / 4, "{refused} {on_read} {harmless}");
}

/// A write that reported success never reached the disk; a later one did. Refused when the later one proves it:
/// in the newest segment, and in one that is not sealed yet. Fails if a damaged place is taken for the end
/// although a later frame says that it was durable.
#[test]
fn lost_write() {
    for setup in Setup::all() {
        let (start, before) = entries(&setup, 2);
        for how in [Lost::Everywhere, Lost::OnDisk] {
            for lost in 0..5 {
                let disk = start.fork();
                let (mut log, _) = setup.open(&disk);
                disk.lose_write(lost, how);
                let mut model = before.clone();
                for seq in 2..8 {
                    let write = append(vec![entry(seq, 1, noise(seq, 300))]);
                    log.write(std::slice::from_ref(&write)).unwrap();
                    model.apply(&write);
                }
                drop(log);
                disk.power_loss_choosing(|_, _| 0);
                match setup.try_open(&disk) {
                    Err(LogError::Corrupt { .. } | LogError::SegmentMissing(_)) => {}
                    Err(error) => panic!("{error}"),
                    // Of a segment that was sealed meanwhile; or it was the seal.
                    Ok((log, recovery)) => {
                        assert!(setup.many, "{} {lost}", setup.what);
                        if read_errors(&*log, &model) == 0 {
                            assert_eq!(recovery.seals_rebuilt, 1, "{} {lost}", setup.what);
                        }
                    }
                }
            }
        }
    }
}

/// Each sync of beginning the next segment fails, and each write: nothing more is acknowledged unless nothing
/// can have happened, and after reopening everything acknowledged is there. Fails if the next segment is begun
/// without a durable header, or its failure is forgotten.
#[test]
fn sync_fails_during_rotation() {
    let (mut failed, mut fine) = (0, 0);
    for setup in Setup::all().into_iter().filter(|setup| setup.many) {
        for kind in 0..4 {
            for after in 0..14 {
                let disk = SimDisk::new();
                let (mut log, _) = setup.open(&disk);
                let mut model = Model::default();
                match kind {
                    0 => disk.fail_sync(after, io::ErrorKind::Other),
                    1 => disk.fail_sync_partly(after, io::ErrorKind::Other, SimRng::new(after)),
                    2 => disk.fail_write(after, io::ErrorKind::Other),
                    _ => disk.fail_write(after, io::ErrorKind::StorageFull),
                }
                let mut next = model.clone();
                let mut poisoned = false;
                for seq in 0..12 {
                    let write = append(vec![entry(model.end(), 1, noise(seq, 4000))]);
                    next = model.after(std::slice::from_ref(&write));
                    match log.write(&[write]) {
                        Ok(()) => {
                            assert!(!poisoned);
                            model = next.clone();
                        }
                        Err(error) => {
                            poisoned |= error.is_fatal();
                            failed += 1;
                        }
                    }
                }
                fine += u64::from(!poisoned);
                let seen = Model::of(&*log);
                assert_eq!(seen, model);
                drop(log);
                disk.power_loss(&mut SimRng::new(after));
                let (mut log, _) = setup.open(&disk);
                let found = Model::of(&*log);
                let step = Model { entries: next.entries[..found.entries.len()].to_vec(), ..next };
                assert!(found == model || found == step && poisoned, "{kind} {after}");
                log.append("on").unwrap();
            }
        }
    }
    assert!(failed > 100 && fine > 10, "{failed} {fine}");
}

/// Another key, or another encoder: refused with a word for it, and no file is changed. Then the right one
/// opens. Fails if the header has no key check or encoder, or opening changes anything before it looked.
#[test]
fn wrong_key_and_wrong_encoder() {
    for right in Setup::all() {
        let (disk, model) = entries(&right, 6);
        let whole = |disk: &SimDisk| -> Vec<_> {
            disk.files().into_iter().map(|file| (disk.contents(&file), file)).collect()
        };
        // A last group that is torn, too: nothing is cut with the wrong key.
        let (mut log, _) = right.open(&disk);
        disk.crash_after(1);
        log.append(noise(9, 2000)).unwrap_err();
        drop(log);
        disk.power_loss(&mut SimRng::new(1));
        let before = whole(&disk);
        for wrong in Setup::all().into_iter().filter(|setup| setup.many == right.many) {
            let mut wrong = wrong;
            if wrong.what == right.what && wrong.what.ends_with("encrypted") {
                wrong.options.encoder = Arc::new(EncryptingEncoder::new(&Key::from_bytes([8; 32])));
                let error = wrong.try_open(&disk).err().unwrap();
                assert!(matches!(error, LogError::WrongKey(_)), "{error}");
                assert!(error.to_string().contains("another key"), "{error}");
            } else if wrong.options.encoder.id() != right.options.encoder.id() {
                let error = wrong.try_open(&disk).err().unwrap();
                assert!(matches!(error, LogError::WrongEncoder { .. }), "{error}");
            }
            assert_eq!(whole(&disk), before, "{} by {}", right.what, wrong.what);
        }
        assert_eq!(Model::of(&*right.open(&disk).0).entries[..6], model.entries);
    }
}

/// One frame of an encrypted log is changed by somebody who makes all checksums right: that frame is corrupt,
/// the key is not wrong. Fails if the tag is not verified, or a body that can't be decoded is taken for a wrong
/// key or for torn.
#[test]
fn wrong_tag_of_one_frame() {
    let one = Setup { many: false, ..Setup::encrypted() };
    for (setup, file) in [(one, FILE.to_owned()), (Setup::encrypted(), segment(0))] {
        let (disk, model) = entries(&setup, 12);
        disk.edit(&file, |bytes| {
            // The second frame.
            let at = (4096 + 128..bytes.len())
                .step_by(128)
                .find(|&at| bytes[at..].starts_with(b"TRPf"))
                .unwrap();
            let length = u32::from_le_bytes(bytes[at + 76..at + 80].try_into().unwrap());
            let body = at + 128..at + 128 + usize::try_from(length).unwrap();
            bytes[body.start + 100] ^= 1;
            let sum = twox_hash::XxHash3_64::oneshot(&bytes[body]).to_le_bytes();
            bytes[at + 112..at + 120].copy_from_slice(&sum);
            let sum = twox_hash::XxHash3_64::oneshot(&bytes[at..at + 120]).to_le_bytes();
            bytes[at + 120..at + 128].copy_from_slice(&sum);
        });
        match setup.try_open(&disk) {
            Ok((log, _)) => assert_eq!(read_errors(&*log, &model), 1),
            Err(error) => assert!(matches!(error, LogError::Corrupt { .. }), "{error}"),
        }
    }
}

/// Valid frames at each other's place: in one segment, between segments, between two logs; encrypted or not,
/// with checksums or without. Fails if a frame does not say to which log and segment it belongs, where it
/// lies, and what came before.
#[test]
fn swapped_frames() {
    let (mut refused, mut on_read) = (0, 0);
    for setup in Setup::all() {
        let (disk, model) = entries(&setup, 12);
        let mut options = setup.options.clone();
        options.seed = Some(2);
        let (other, _) = entries(&Setup { options, ..setup.clone() }, 12);
        let files: Vec<String> = if setup.many {
            segments(&disk).into_iter().map(segment).collect()
        } else {
            vec![FILE.to_owned()]
        };
        let frames = |file: &str| -> Vec<usize> {
            let bytes = disk.contents(file).unwrap();
            (4096..bytes.len())
                .step_by(128)
                .filter(|&at| bytes[at..].starts_with(b"TRPf") && bytes[at + 72] == 1)
                .collect()
        };
        // Header and body: all these frames are as long.
        let bytes = 128 + 2000 + if setup.what.ends_with("encrypted") { 45 } else { 5 };
        for to_file in &files {
            for to in frames(to_file) {
                for from_file in &files {
                    for from in frames(from_file) {
                        for source in [&disk, &other] {
                            let frame = source.contents(from_file).unwrap()[from..].to_vec();
                            if (from_file, from) == (to_file, to)
                                && source.contents(FILE) == disk.contents(FILE)
                                && !setup.many
                            {
                                continue;
                            }
                            let damaged = disk.fork();
                            damaged.edit(to_file, |file| {
                                file[to..to + bytes].copy_from_slice(&frame[..bytes]);
                            });
                            if damaged.contents(to_file) == disk.contents(to_file) {
                                continue;
                            }
                            match setup.try_open(&damaged) {
                                Ok((log, _)) => {
                                    assert!(read_errors(&*log, &model) > 0, "{}", setup.what);
                                    on_read += 1;
                                }
                                Err(error) => {
                                    assert!(matches!(error, LogError::Corrupt { .. }), "{error}");
                                    refused += 1;
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(refused > 500 && on_read > 200, "{refused} {on_read}");
}

/// A sync hangs for ever. The caller hears of it in time, that it may still happen, and nothing is
/// acknowledged; when the disk goes on, what was written is there. In the middle of a segment, and while the
/// next is begun. Fails if a call waits for the disk without limit.
#[test]
fn disk_stalls() {
    let setup = Setup::many();
    for entries_before in [1, 2, 3, 4] {
        // Nothing but what hangs has so little time.
        let (disk, _) = entries(&setup, entries_before);
        let (sim, options) = (disk.clone(), setup.options.clone());
        let mut timeouts = Timeouts::all(Duration::from_mins(1));
        timeouts.append = Some(Duration::from_millis(20));
        timeouts.append_batch = Some(Duration::from_millis(20));
        let open = move || MultiFsLog::open_on(&sim, NAME, options);
        let (mut log, _) = TimeoutLog::open(timeouts, open).unwrap();
        disk.stall();
        let error = log.append(noise(9, 2500)).unwrap_err();
        assert!(matches!(error, LogError::Timeout { effect: Effect::Possible, .. }), "{error}");
        disk.wait_until_stalled(1);
        assert_eq!(log.reader().bounds().end.get(), entries_before, "not acknowledged");
        // The power fails while it hangs: nothing that was acknowledged is lost.
        let lost = disk.fork();
        lost.power_loss_choosing(|_, _| 0);
        assert_eq!(setup.open(&lost).0.end().get(), entries_before);
        disk.release();
        log.settle();
        assert_eq!(log.bounds().end.get(), entries_before + 1);
        log.write(&[vote(3, 3)]).unwrap();
        assert_eq!(log.iter(..).map(Result::unwrap).count() as u64, entries_before + 1);
    }
}

/// Readers on threads of their own, on a real disk, while segments are begun, sealed, compacted and used again:
/// what they read is what was written, or an error that says it is gone. Fails if a segment that is being read
/// is cleared.
#[test]
fn readers_beside_rotation_and_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Setup::many().options;
    options.segment_bytes_max = 32 << 10;
    let (mut log, _) = MultiFsLog::open(dir.path(), NAME, options).unwrap();
    let payload = |seq: Seq| noise(seq.get(), 300 + usize::try_from(seq.get() % 900).unwrap());
    log.append(payload(Seq::ZERO)).unwrap();
    let (done, barrier) = (std::sync::atomic::AtomicBool::new(false), Barrier::new(4));
    let (mut compacted, mut read) = (0, 0);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|number| {
                let (reader, done, barrier) = (log.reader(), &done, &barrier);
                scope.spawn(move || {
                    let mut rng = SimRng::new(number);
                    let (mut read, mut compacted) = (0_u64, 0_u64);
                    barrier.wait();
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        let bounds = reader.bounds();
                        let count = bounds.end.get() - bounds.start.get();
                        let from = Seq::new(bounds.start.get() + rng.below(count));
                        match reader.read(from, bounds.end, rng.below(20_000)) {
                            Ok(entries) => {
                                for (entry, seq) in entries.iter().zip(from.get()..) {
                                    assert_eq!(entry.id.seq.get(), seq);
                                    assert_eq!(entry.payload, payload(entry.id.seq));
                                    read += 1;
                                }
                            }
                            Err(error) => {
                                assert!(
                                    matches!(
                                        error,
                                        LogError::Compacted { .. } | LogError::Trimmed { .. }
                                    ),
                                    "{error}"
                                );
                                compacted += 1;
                            }
                        }
                    }
                    (read, compacted)
                })
            })
            .collect();
        barrier.wait();
        for round in 0..250 {
            let end = log.end().get();
            log.append_batch((end..end + 4).map(|seq| payload(Seq::new(seq)))).unwrap();
            if round % 20 == 19 {
                log.compact(Seq::new(end - 30)).unwrap();
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for reader in readers {
            let (seen, gone) = reader.join().unwrap();
            (read, compacted) = (read + seen, compacted + gone);
        }
    });
    log.finish_upkeep();
    assert!(read > 100, "{read} read, {compacted} gone");
    assert!(log.start().get() > 500);
}
