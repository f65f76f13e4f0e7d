//! Looking for damage in a log that is in use.

#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use std::{collections::BTreeSet, io};

use common::{Setup, append, compact, entry, noise, repair, segment, segments, trim, vote};
use tinyraftplus_core::Seq;
use tinyraftplus_log::{
    Damage, Damaged, Log, LogError, LogExt, MemLog, Scrub,
    sim_disk::{SimDisk, SimRng},
};

/// Scrubs to the end. Returns what is damaged, how many entries are sound, and how many steps it took.
fn scrub(log: &dyn Log, bytes: u64) -> (Vec<Damage>, u64, u64) {
    let mut scrub = Scrub::new(log.reader());
    let (mut damage, mut sound, mut steps) = (Vec::new(), 0, 0);
    while let Some(scrubbed) = scrub.step(bytes).unwrap() {
        assert!(scrubbed.bytes <= bytes.max(3000), "a step reads little");
        sound += scrubbed.sound.end.since(scrubbed.sound.start);
        damage.extend(scrubbed.damaged);
        steps += 1;
    }
    assert!(scrub.left().is_empty());
    (damage, sound, steps)
}

fn filled(setup: &Setup, seed: u64) -> (SimDisk, Box<dyn Log>) {
    let disk = SimDisk::new();
    let mut rng = SimRng::new(seed);
    let (mut log, _) = setup.open(&disk);
    log.write(&[vote(1, 3)]).unwrap();
    let mut seq = 0;
    while seq < 60 {
        let count = 1 + rng.below(4);
        let entries = (seq..seq + count).map(|seq| entry(seq, 1, noise(seq, 1200)));
        log.write(&[append(entries.collect())]).unwrap();
        seq += count;
    }
    (disk, log)
}

/// Random damage in segments that are full: all that can't be read is told, with its file, and nothing else; once it
/// is put back, nothing is.
///
/// Fails if what comes behind a damaged place is passed over, or a place is told shorter than it is.
#[test]
fn all_damage_in_cold_segments_is_found() {
    let (mut found, mut places) = (0, 0);
    for mut setup in [Setup::many(), Setup::encrypted()] {
        setup.options.damaged = Damaged::Report;
        for seed in 0..40 {
            let (disk, log) = filled(&setup, seed);
            assert_eq!(scrub(&*log, 2000).0, []);
            drop(log);
            disk.kill();
            let mut rng = SimRng::new(seed);
            let numbers = segments(&disk);
            for _ in 0..=rng.below(5) {
                let number = numbers[usize::try_from(rng.below(numbers.len() as u64 - 1)).unwrap()];
                disk.flip_bit(&segment(number), (4096 + rng.below(11_000)) * 8);
            }
            let (mut log, _) = setup.open(&disk);
            let bounds = log.bounds();
            let lost: BTreeSet<u64> = (bounds.start.get()..bounds.end.get())
                .filter(|&seq| log.reader().read(Seq::new(seq), Seq::new(seq + 1), 0).is_err())
                .collect();
            let (damage, sound, _) = scrub(&*log, 4000);
            let told: BTreeSet<u64> = damage
                .iter()
                .flat_map(|damage| damage.seq.unwrap().get()..damage.end.unwrap().get())
                .collect();
            assert!(lost.is_subset(&told), "seed {seed}: {lost:?}, {told:?}");
            assert!(told.len() <= 3 * lost.len(), "seed {seed}: {lost:?}, {told:?}");
            assert_eq!(sound + told.len() as u64, bounds.end.since(bounds.start));
            assert!(damage.iter().all(|damage| !damage.path.as_os_str().is_empty()));
            (found, places) = (found + lost.len(), places + damage.len());
            for seq in told {
                log.write(&[repair(vec![entry(seq, 1, noise(seq, 1200))])]).unwrap();
            }
            assert_eq!(scrub(&*log, 4000).0, [], "seed {seed}");
        }
    }
    println!("{found} entries in {places} places");
    assert!(found > 100, "{found}");
}

/// The log goes on meanwhile: entries are added, dropped and replaced between any two steps.
#[test]
fn a_log_in_use_is_scrubbed() {
    let setup = Setup::many();
    for seed in 0..30 {
        let (_disk, mut log) = filled(&setup, seed);
        let mut rng = SimRng::new(seed);
        let mut scrub = Scrub::new(log.reader());
        let mut steps = 0;
        while let Some(scrubbed) = scrub.step(2000).unwrap() {
            assert_eq!(scrubbed.damaged, None);
            steps += 1;
            let bounds = log.bounds();
            let (start, end) = (bounds.start.get(), bounds.end.get());
            let group = match rng.below(3) {
                0 => append(vec![entry(end, 1, noise(end, 500))]),
                1 if end - start > 5 => trim(end - 1 - rng.below(2)),
                _ => compact(start + rng.below(2)),
            };
            log.write(&[group]).unwrap();
            assert!(steps < 1000);
        }
        assert!(steps > 5);
    }
}

/// A place that the disk can't read is damage, too; a closed log is none.
#[test]
fn unreadable_sectors_are_damage() {
    let setup = Setup::many();
    let (disk, mut log) = filled(&setup, 1);
    let first = segment(segments(&disk)[0]);
    disk.fail_reads(&first, 6000..6001, io::ErrorKind::InvalidData);
    let (damage, sound, _) = scrub(&*log, 500);
    assert!(!damage.is_empty() && sound > 40, "{damage:?}");
    assert!(damage[0].what.contains("can't be read"), "{damage:?}");
    disk.mend_reads(&first);
    assert_eq!(scrub(&*log, 500).0, []);
    let mut left = Scrub::new(log.reader());
    log.close().unwrap();
    assert!(matches!(left.step(500), Err(LogError::Closed)));
}

/// Nothing to read takes no step.
#[test]
fn an_empty_log_is_scrubbed_at_once() {
    let mut log = MemLog::new(common::options()).unwrap();
    assert_eq!(scrub(&log, 100), (vec![], 0, 0));
    log.append("one").unwrap();
    assert_eq!(scrub(&log, 100), (vec![], 1, 1));
}
