//! Random writes and crashes, against a plain list.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use std::io;

use common::{Model, append, configuration, entry, hard, noise, open, trim, try_open};
use tinyraftplus_core::{Seq, Term};
use tinyraftplus_log::{
    Log, LogError, Reset, Write,
    sim_disk::{SimDisk, SimRng},
};

/// A write that fits the model.
fn random_write(rng: &mut SimRng, model: &Model) -> Write {
    let mut write = Write::default();
    if rng.below(4) == 0 {
        let term = model.hard.term.get() + rng.below(2);
        let free = term > model.hard.term.get() || model.hard.vote.is_none();
        let vote = if free {
            Some(u128::from(rng.below(3))).filter(|&n| n > 0)
        } else {
            model.hard.vote.map(tinyraftplus_core::Identity::get)
        };
        write.hard_state = Some(hard(term, vote));
    }
    if rng.below(12) == 0 {
        write.configuration = Some(configuration(rng.below(4) + 1));
    }
    let mut next = model.after(std::slice::from_ref(&write));
    if rng.below(15) == 0 {
        let start = rng.below(50);
        write.reset = Some(Reset {
            start: Seq::new(start),
            before: Term::new(if start == 0 { 0 } else { rng.below(4) }),
        });
    } else if rng.below(5) == 0 {
        write.trim = Some(Seq::new(next.start + rng.below(next.entries.len() as u64 + 2)));
    }
    next = model.after(std::slice::from_ref(&write));
    for _ in 0..[0, 1, 1, 1, 2, 6][usize::try_from(rng.below(6)).unwrap()] {
        let term = next.term().max(1) + rng.below(10) / 9;
        let size = [0, 10, 100, 600, 5000][usize::try_from(rng.below(5)).unwrap()];
        let payload =
            if rng.below(3) == 0 { vec![0; size].into() } else { noise(rng.next(), size) };
        let mut entry = entry(next.end(), term, payload);
        entry.ends_batch = rng.below(3) > 0;
        next.entries.push(entry.clone());
        write.append.push(entry);
    }
    if let Some(last) = write.append.last_mut() {
        last.ends_batch = true;
    }
    write
}

/// Which models the log may be found as after a crash.
fn reopen(
    disk: &SimDisk,
    before: &Model,
    after: &Model,
    what: &str,
) -> (tinyraftplus_log::FsLog<SimDisk>, Model, bool) {
    let (log, recovery) = open(disk);
    let found = Model::of(&log);
    let rescued = Model { hard: after.hard, ..before.clone() };
    assert!(
        found == *before || found == *after || found == rescued,
        "{what}: {recovery:?}\n{found:?}\n{before:?}\n{after:?}"
    );
    let cut = recovery.cut.is_some();
    (log, found, cut)
}

/// Fails if anything that was acknowledged is lost, or a group that was not is there in part.
#[test]
fn agrees_with_a_plain_list_through_crashes() {
    let (mut crashes, mut cuts, mut writes, mut found_after) = (0, 0, 0, 0);
    for seed in 0..400 {
        let mut rng = SimRng::new(seed);
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk);
        let mut model = Model::default();
        for step in 0..40 {
            let what = format!("seed {seed} step {step}");
            let mut group = Vec::new();
            let mut next = model.clone();
            for _ in 0..=rng.below(3) {
                let write = random_write(&mut rng, &next);
                next.apply(&write);
                group.push(write);
            }
            let mut marked = Ok(());
            match rng.below(8) {
                0 => marked = log.mark(),
                1 => disk.crash_after(rng.below(4)),
                2 if rng.below(3) == 0 => disk.fail_sync(rng.below(2), io::ErrorKind::Other),
                3 if rng.below(3) == 0 => disk.fail_write(rng.below(2), io::ErrorKind::Other),
                _ => {}
            }
            let written = log.write(&group);
            let refused = written.is_err();
            match written {
                Ok(()) => {
                    writes += 1;
                    model = next.clone();
                    assert_eq!(Model::of(&log), model, "{what}");
                }
                Err(LogError::Poisoned) => assert!(marked.is_err(), "{what}"),
                Err(error) => {
                    assert!(matches!(error, LogError::WriteFailed { .. }), "{what}: {error}");
                    assert!(matches!(log.write(&group), Err(LogError::Poisoned)));
                }
            }
            let failed = model != next;
            if !refused && rng.below(12) > 0 {
                continue;
            }
            if rng.below(6) == 0 {
                let _ = log.close();
            }
            drop(log);
            crashes += 1;
            if rng.below(3) == 0 {
                disk.kill();
            } else {
                disk.power_loss(&mut rng);
            }
            // Sometimes recovery itself crashes.
            while rng.below(3) == 0 {
                disk.crash_after(rng.below(8));
                if try_open(&disk).is_ok() {
                    break;
                }
                if rng.below(2) == 0 { disk.kill() } else { disk.power_loss(&mut rng) }
            }
            disk.kill();
            let cut;
            (log, model, cut) = reopen(&disk, &model, &next, &what);
            cuts += u64::from(cut);
            found_after += u64::from(failed && model == next);
        }
    }
    assert!(
        writes > 5000 && crashes > 1000 && cuts > 200 && found_after > 100,
        "{writes} {crashes} {cuts} {found_after}"
    );
}

/// The whole run again gives the same bytes: nothing but the seed decides.
#[test]
fn same_seed_same_bytes() {
    let run = || {
        let mut rng = SimRng::new(11);
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk);
        let mut model = Model::default();
        for _ in 0..50 {
            let write = random_write(&mut rng, &model);
            log.write(std::slice::from_ref(&write)).unwrap();
            model.apply(&write);
        }
        log.write(&[append(vec![]), trim(model.end())]).unwrap();
        disk.contents(common::FILE).unwrap()
    };
    assert_eq!(run(), run());
}
