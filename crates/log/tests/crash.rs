//! Crashes of single writes: what was acknowledged is whole, what was not is there whole or not at all. Every
//! call and every kind of log: `everywhere.rs`.

#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use std::{io, sync::Arc};

use common::{
    FIRST, Model, NAME, append, combinations, entry, hard, noise, open, options, outcomes, trim,
    try_open, vote,
};
use tinyraftplus_log::{
    Encoder, FsLog, Log, LogError, LogExt, PlainEncoder, Recovery, Write, XxHashEncoder, inspect,
    sim_disk::{SimDisk, SimRng},
};

/// Opens after a crash and checks what is left: the log as it was after the last acknowledged group, or
/// after the one that was being written. A newer vote may be left of a group that is gone. Then the log must
/// work on, and keep what it told us even if the power fails at once.
fn check(disk: &SimDisk, before: &Model, after: &Model) {
    let (mut log, recovery) = open(disk);
    let found = Model::of(&log);
    let rescued = Model { hard: after.hard, ..before.clone() };
    assert!(
        found == *before || found == *after || found == rescued,
        "{recovery:?}\n{found:?}\n{before:?}\n{after:?}"
    );
    assert!(!recovery.hard_state_rescued || found == rescued);
    // Whatever was reported is durable: nothing of it rests on the page cache.
    let lost = disk.fork();
    lost.power_loss_choosing(|_, _| 0);
    let (again, recovery) = open(&lost);
    assert_eq!(Model::of(&again), found);
    assert_eq!(recovery.cut, None, "what was cut once is cut for good");
    let term = found.term().max(found.hard.term.get());
    log.write(&[append(vec![entry(found.end(), term, "next")])]).unwrap();
    log.write(&[vote(term + 1, 5)]).unwrap();
    drop(log);
    disk.power_loss_choosing(|_, _| 0);
    let (log, recovery) = open(disk);
    assert_eq!(recovery.cut, None);
    let mut expected = found;
    expected.apply(&append(vec![entry(expected.end(), term, "next")]));
    expected.hard = hard(term + 1, Some(5));
    assert_eq!(Model::of(&log), expected);
}

/// A log with some entries and a group in flight, which never became durable.
fn in_flight(group: &[Write]) -> (SimDisk, Model, Model) {
    in_flight_after(&[append(vec![entry(0, 1, "a"), entry(1, 1, "b")])], group, open)
}

fn in_flight_after(
    first: &[Write],
    group: &[Write],
    open: impl Fn(&SimDisk) -> (FsLog<SimDisk>, Recovery),
) -> (SimDisk, Model, Model) {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    log.write(first).unwrap();
    let before = Model::default().after(first);
    drop(log);
    disk.kill();
    // The last operation is the sync that never comes.
    let probe = disk.fork();
    let (mut log, _) = open(&probe);
    let opened = probe.operation_count();
    log.write(group).unwrap();
    let operations = probe.operation_count() - opened;
    let (mut log, _) = open(&disk);
    disk.crash_after(operations - 1);
    assert!(matches!(log.write(group), Err(LogError::WriteFailed { .. })));
    let after = before.after(group);
    (disk, before, after)
}

/// A last group of several frames, of which any subset of sectors reached the disk: also a later frame
/// without an earlier one. Fails if a valid frame of the same group is taken as proof of anything, or if
/// zeros in a body are taken for damage.
#[test]
fn torn_tail() {
    // Two frames of entries, since a frame does not grow beyond 256 KiB; few sectors in doubt, thanks to
    // payloads of zeros.
    let mut big = vec![0; 256 << 10];
    big[1000] = 1;
    let group = [
        append(vec![entry(2, 1, noise(1, 900)), entry(3, 1, big)]),
        append(vec![entry(4, 1, noise(2, 900))]),
    ];
    let (disk, before, after) = in_flight(&group);
    assert!((64..=4096).contains(&combinations(&disk)), "{}", combinations(&disk));
    let mut cut = 0;
    for disk in outcomes(&disk, 4096, 1) {
        let (log, recovery) = open(&disk.fork());
        let found = Model::of(&log);
        assert_eq!(
            recovery.cut.is_none(),
            found == after || recovery.cut.is_none() && found == before
        );
        cut += u64::from(recovery.cut.is_some());
        check(&disk, &before, &after);
    }
    assert!(cut > 50);
}

/// The end of the torn group was never written, and the opening that cuts it dies half-way. What it wrote until
/// then must not lie where the torn group says that its body is: without a checksum of bodies nothing else tells
/// that body from a whole one, and the next opening would take what nobody ever appended. Fails if the frame that
/// says "cut" goes right after the last byte that was written.
#[test]
fn cut_is_not_part_of_the_torn_group() {
    let encoders: [Arc<dyn Encoder>; 2] =
        [Arc::new(PlainEncoder), Arc::new(XxHashEncoder { body: false })];
    // Only entries of the term in force have no checksum at all.
    let first = [vote(1, 5)];
    let group = [append(vec![entry(0, 1, noise(1, 1500)), entry(1, 1, noise(2, 1500))])];
    for encoder in encoders {
        let mut options = options();
        options.encoder = encoder;
        let open = |disk: &SimDisk| FsLog::open_on(disk, NAME, options.clone()).unwrap();
        let (disk, before, _) = in_flight_after(&first, &group, open);
        let sectors = disk.doubts().len();
        assert!(sectors >= 6, "{sectors}");
        // The first sectors of the group are there, and the others are not.
        for kept in 1..sectors {
            let torn = disk.fork();
            let mut count = 0;
            torn.power_loss_choosing(|_, choices| {
                count += 1;
                if count <= kept { choices - 1 } else { 0 }
            });
            for operations in 0..12 {
                let dying = torn.fork();
                dying.crash_after(operations);
                drop(FsLog::open_on(&dying, NAME, options.clone()));
                for disk in outcomes(&dying, 64, 1) {
                    let (log, recovery) = open(&disk);
                    assert!(
                        Model::of(&log) == before,
                        "{kept} sectors, dead after {operations} operations: {recovery:?}"
                    );
                }
            }
        }
    }
}

/// A group that is a clean prefix, cut anywhere, is cut whole: the trim must not happen without the appends.
/// Fails if a frame is applied before its group is known to be whole.
#[test]
fn group_tail_missing() {
    let group = [
        Write { append: vec![entry(1, 2, noise(1, 300 << 10))], ..trim(1) },
        append(vec![entry(2, 2, noise(2, 300 << 10)), entry(3, 2, "end")]),
    ];
    let (disk, before, after) = in_flight(&group);
    let sectors = disk.doubts().len() as u64;
    assert!(sectors > 1000, "{sectors}");
    for keep in (0..=sectors)
        .step_by(37)
        .chain([1, 2, sectors - 1, sectors])
        .chain(595..610)
        .chain(sectors - 20..sectors)
    {
        let torn = disk.fork();
        let mut count = 0;
        torn.power_loss_choosing(|_, _| {
            count += 1;
            u64::from(count <= keep)
        });
        let (log, recovery) = open(&torn);
        assert_eq!(Model::of(&log), if keep == sectors { after.clone() } else { before.clone() });
        assert_eq!(recovery.cut.is_some(), (1..sectors).contains(&keep));
    }
}

/// Sectors of zeros in a payload look like sectors that were never written. The header knows how many there
/// are. Fails if `zero_sectors` is taken as 0, in either direction.
#[test]
fn payload_of_zeros() {
    let mut payload = vec![0; 4000];
    payload[2500] = 7;
    let group = [append(vec![entry(2, 1, payload.clone())])];
    let (disk, before, after) = in_flight(&group);
    for disk in outcomes(&disk, 4096, 1) {
        check(&disk, &before, &after);
    }
    // The same, acknowledged: a damaged byte is no torn write.
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    log.append(payload).unwrap();
    drop(log);
    disk.kill();
    for byte in [FIRST + 128 + 300, FIRST + 128 + 2505, FIRST + 128 + 3900] {
        let damaged = disk.fork();
        damaged.flip_bit(common::FILE, byte * 8);
        assert!(matches!(try_open(&damaged), Err(LogError::Corrupt { .. })), "byte {byte}");
    }
}

/// An idle mark that nobody waited for is lost, the group after it is not, in flight or acknowledged. Fails if
/// the group after a mark claims the mark to be durable, or if it is written without the mark: a durable write
/// makes durable what it wrote, and nothing before it.
#[test]
fn idle_mark_lost() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    // As long as it takes for the mark to be the last in its sector.
    log.append(noise(2, 220)).unwrap();
    let before = Model::of(&log);
    log.mark().unwrap();
    disk.crash_after(1);
    log.append(noise(1, 1000)).unwrap_err();
    let after = before.after(&[append(vec![entry(1, 0, noise(1, 1000))])]);
    let mut cut = 0;
    for disk in outcomes(&disk, 256, 1) {
        cut += u64::from(open(&disk.fork()).1.cut.is_some());
        check(&disk, &before, &after);
    }
    assert!(cut > 4);

    // Acknowledged: nothing that the power takes may be needed.
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    log.append(noise(2, 220)).unwrap();
    log.mark().unwrap();
    let doubts = disk.doubts().len();
    assert_eq!(doubts, 1, "the mark is in doubt");
    log.append(noise(1, 1000)).unwrap();
    for disk in outcomes(&disk, 256, 1) {
        assert_eq!(open(&disk.fork()).1.cut, None);
        check(&disk, &after, &after);
    }
}

/// The only readable copy of the newest vote lies in a group that is cut. It counts, and it is durable before
/// the log is open; another crash at any point does not take it. Fails if the cut takes the vote with it.
#[test]
fn vote_only_in_cut_group() {
    let group =
        [Write { hard_state: Some(hard(7, Some(3))), ..append(vec![entry(2, 7, noise(1, 2000))]) }];
    let (disk, before, after) = in_flight(&group);
    let mut rescued = 0;
    for disk in outcomes(&disk, 4096, 1) {
        let probe = disk.fork();
        let (log, recovery) = open(&probe);
        if recovery.hard_state_rescued {
            rescued += 1;
            assert_eq!(log.hard_state(), hard(7, Some(3)));
            assert_eq!(log.end().get(), 2);
            drop(log);
            probe.power_loss_choosing(|_, _| 0);
            assert_eq!(open(&probe).0.hard_state(), hard(7, Some(3)));
        }
        check(&disk, &before, &after);
    }
    assert!(rescued > 4);
}

/// A frame behind a torn one survives. The group is cut, and a new frame as long as the torn one is appended.
/// The old frame must not follow on. Fails if positions are used again, what was cut is not cleared, and
/// frames don't name the one before them (each of the three is enough).
#[test]
fn cut_frame_resurrected() {
    let group = [
        append(vec![entry(2, 1, noise(1, 255 << 10))]),
        append(vec![entry(3, 1, noise(2, 255 << 10))]),
    ];
    let (disk, before, _) = in_flight(&group);
    // The first frame loses one sector, everything else is there.
    let mut first = true;
    disk.power_loss_choosing(|_, choices| if std::mem::take(&mut first) { 0 } else { choices - 1 });
    let (mut log, recovery) = open(&disk);
    assert!(recovery.cut.is_some());
    log.append(noise(3, 255 << 10)).unwrap();
    drop(log);
    disk.kill();
    let (log, _) = open(&disk);
    let mut expected = before;
    expected.apply(&append(vec![entry(2, 1, noise(3, 255 << 10))]));
    assert_eq!(Model::of(&log), expected);
    assert_eq!(
        inspect(&disk, NAME)
            .unwrap()
            .iter()
            .filter(|frame| frame.first.get() == 3 && frame.count > 0)
            .count(),
        0
    );
}

/// What was trimmed still lies on the disk and parses; then an append is torn. Fails if entries are found by
/// looking for frames.
#[test]
fn trim_then_torn() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    for number in 0..10 {
        log.append(noise(number, 100)).unwrap();
    }
    log.trim(Some(tinyraftplus_core::Seq::new(3))).unwrap();
    let before = Model::of(&log);
    disk.crash_after(1);
    log.append(noise(1, 2000)).unwrap_err();
    let after = before.after(&[append(vec![entry(4, 0, noise(1, 2000))])]);
    for disk in outcomes(&disk, 256, 1) {
        check(&disk, &before, &after);
    }
}

/// Killed between write and sync; opened again, the group is in the page cache and gets acknowledged by its
/// presence; then the power fails. Fails if opening does not sync, or a new header is not written again.
#[test]
fn page_cache_believed() {
    let (disk, _, after) = in_flight(&[append(vec![entry(2, 1, noise(1, 3000))])]);
    disk.kill();
    let (log, _) = open(&disk);
    assert_eq!(Model::of(&log), after);
    drop(log);
    disk.power_loss_choosing(|_, _| 0);
    assert_eq!(Model::of(&open(&disk).0), after);

    // A log that was only just created, too: its identity was told. Here the first sync failed, so that
    // the next one saves only what is written again.
    let disk = SimDisk::new();
    disk.fail_sync(0, io::ErrorKind::Other);
    assert!(try_open(&disk).is_err());
    let mut other = options();
    other.seed = Some(2);
    let (log, _) = FsLog::open_on(&disk, NAME, other.clone()).unwrap();
    let identity = log.identity();
    drop(log);
    disk.power_loss_choosing(|_, _| 0);
    other.seed = Some(3);
    assert_eq!(FsLog::open_on(&disk, NAME, other).unwrap().0.identity(), identity);
}

/// One sync fails, and all later ones succeed. Nothing is acknowledged any more, though readers of the file
/// still see the lost bytes; opened again, the log counts only what it wrote and synced again. Fails if a
/// failed sync is tried again, or if opening believes what it reads.
#[test]
fn sync_fails_once() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    log.append("a").unwrap();
    let before = Model::of(&log);
    disk.fail_sync(0, io::ErrorKind::Other);
    let error = log.append("b").unwrap_err();
    assert!(error.is_fatal() && error.effect() == tinyraftplus_log::Effect::Possible, "{error}");
    assert!(matches!(log.append("c"), Err(LogError::Poisoned)));
    assert!(matches!(log.mark(), Err(LogError::Poisoned)));
    assert!(matches!(log.write(&[vote(5, 5)]), Err(LogError::Poisoned)));
    assert_eq!(Model::of(&log), before, "readers see what is durable");
    log.close().unwrap();
    let power_failed = disk.fork();
    power_failed.power_loss_choosing(|_, choices| choices - 1);
    assert_eq!(Model::of(&open(&power_failed).0), before);
    // The bytes are still in the page cache: they may count, if they are then made durable.
    let after = before.after(&[append(vec![entry(1, 0, "b")])]);
    let (log, _) = open(&disk);
    assert_eq!(Model::of(&log), after);
    drop(log);
    disk.power_loss_choosing(|_, _| 0);
    assert_eq!(Model::of(&open(&disk).0), after);
}

/// The sync of a vote fails: the call says so, so nobody sends the vote. Fails if the vote is in force before
/// it is durable.
#[test]
fn sync_fails_on_vote() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    log.write(&[vote(1, 1)]).unwrap();
    disk.fail_sync(0, io::ErrorKind::Other);
    assert!(log.write(&[vote(2, 2)]).is_err());
    assert_eq!(log.hard_state(), hard(1, Some(1)));
    assert_eq!(log.restored().hard_state, hard(1, Some(1)));
    assert!(matches!(log.write(&[vote(2, 2)]), Err(LogError::Poisoned)));
    drop(log);
    disk.power_loss(&mut SimRng::new(1));
    assert_eq!(open(&disk).0.hard_state(), hard(1, Some(1)));
}
