//! Random calls and crashes, against a plain list.
//!
//! `LOG_MODEL_CASES=10000 cargo test --release -p tinyraftplus-log --test model` runs more of them,
//! `LOG_MODEL_START` says from which on.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use std::io;

use bytes::Bytes;
use common::{Model, append, configuration, entry, hard, noise, open, options, trim};
use tinyraftplus_core::{Seq, Term};
use tinyraftplus_log::{
    Effect, FsLog, Log, LogError, LogExt, MultiFsLog, Recovery, Reset, Write,
    sim_disk::{SimDisk, SimRng},
};

/// A kind of log that is compared with the list.
#[derive(Clone, Copy)]
struct Kind {
    open: fn(&SimDisk) -> Opened,
    compacts: bool,
}

type Opened = Result<(Box<dyn Log>, Recovery), LogError>;

const FS_LOG: Kind = Kind {
    open: |disk| {
        let (log, recovery) = FsLog::open_on(disk, common::NAME, options())?;
        Ok((Box::new(log), recovery))
    },
    compacts: false,
};

/// In segments so small that a case fills many.
const MULTI_FS_LOG: Kind = Kind {
    open: |disk| {
        let mut options = options();
        options.segment_bytes_max = 32 << 10;
        let (log, recovery) = MultiFsLog::open_on(disk, common::NAME, options)?;
        Ok((Box::new(log), recovery))
    },
    compacts: true,
};

/// Fails if anything that was acknowledged is lost, or a group that was not is there in part.
#[test]
fn fs_log_agrees_with_a_plain_list_through_crashes() {
    agrees_with_a_plain_list_through_crashes(FS_LOG);
}

/// Fails as the one before, and if segments are mixed up or given up too early.
#[test]
fn multi_fs_log_agrees_with_a_plain_list_through_crashes() {
    agrees_with_a_plain_list_through_crashes(MULTI_FS_LOG);
}

/// A write that fits the model.
fn random_write(rng: &mut SimRng, model: &Model, compacts: bool) -> Write {
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
    if compacts && rng.below(8) == 0 {
        write.compact = Some(Seq::new(next.start + rng.below(next.entries.len() as u64 + 1)));
        next = model.after(std::slice::from_ref(&write));
    }
    if rng.below(5) == 0 && !next.entries.is_empty() {
        let count = next.entries.len() as u64;
        let first = rng.below(count);
        let end = first + 1 + rng.below((count - first).min(6));
        for at in first..end {
            let mut entry = next.entries[usize::try_from(at).unwrap()].clone();
            entry.payload = noise(rng.next(), [0, 30, 600][usize::try_from(rng.below(3)).unwrap()]);
            write.repair.push(entry);
        }
        next = model.after(std::slice::from_ref(&write));
    }
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

/// What one call of everyday use amounts to.
#[derive(Debug)]
enum Call {
    /// `append` or `append_batch`.
    Batch(Vec<Bytes>),
    /// `trim`.
    Keep(Option<Seq>),
    /// Writes that piled up, or what a transaction did.
    Group(Vec<Write>),
}

impl Call {
    fn random(rng: &mut SimRng, model: &Model, compacts: bool) -> Self {
        match rng.below(10) {
            0 | 1 => Self::Batch(
                (0..=rng.below(4))
                    .map(|_| {
                        let size = [0, 1, 50, 700, 9000][usize::try_from(rng.below(5)).unwrap()];
                        noise(rng.next(), size)
                    })
                    .collect(),
            ),
            2 => Self::Keep(
                (model.start..model.end())
                    .next_back()
                    .map(|last| Seq::new(last.saturating_sub(rng.below(5)).max(model.start))),
            ),
            // A follower's repair, a transaction: a trim and what takes the place of the trimmed.
            3 => {
                let keep = model.start + rng.below(model.entries.len() as u64 + 1);
                let mut write = trim(keep);
                let term = model.after(std::slice::from_ref(&write)).term() + 1;
                for seq in keep..keep + rng.below(6) {
                    write.append.push(entry(seq, term, noise(rng.next(), 300)));
                }
                Self::Group(vec![write])
            }
            4 if compacts => {
                let start = model.start + rng.below(model.entries.len() as u64 + 1);
                Self::Group(vec![Write { compact: Some(Seq::new(start)), ..Write::default() }])
            }
            _ => {
                let mut next = model.clone();
                Self::Group(
                    (0..=rng.below(3))
                        .map(|_| {
                            let write = random_write(rng, &next, compacts);
                            next.apply(&write);
                            write
                        })
                        .collect(),
                )
            }
        }
    }

    /// The list after the call.
    fn after(&self, model: &Model) -> Model {
        match self {
            Self::Batch(payloads) => {
                let term = model.hard.term.get().max(model.term());
                let mut batch: Vec<_> = payloads
                    .iter()
                    .zip(model.end()..)
                    .map(|(payload, seq)| entry(seq, term, payload.clone()))
                    .collect();
                let last = batch.len() - 1;
                batch[..last].iter_mut().for_each(|entry| entry.ends_batch = false);
                model.after(&[append(batch)])
            }
            Self::Keep(keep) => {
                model.after(&[trim(keep.map_or(model.start, |keep| keep.after().get()))])
            }
            Self::Group(group) => model.after(group),
        }
    }

    fn make(&self, log: &mut dyn Log) -> Result<(), LogError> {
        match self {
            Self::Batch(payloads) => match payloads.as_slice() {
                [payload] => log.append(payload.clone()).map(drop),
                payloads => log.append_batch(payloads.iter().cloned()).map(drop),
            },
            Self::Keep(keep) => log.trim(*keep),
            Self::Group(group) => log.write(group),
        }
    }
}

/// A call that must be refused, and changes nothing: a transaction that is given up.
fn refused(rng: &mut SimRng, log: &mut dyn Log, model: &Model, compacts: bool) {
    let end = model.end();
    let bad = match rng.below(4) {
        0 if !compacts => Write { compact: Some(Seq::new(end)), ..Write::default() },
        0 => Write { compact: Some(Seq::new(end + 2)), ..Write::default() },
        1 => Write { append: vec![entry(end + 1, 99, "x")], ..trim(end) },
        _ => append(vec![entry(end + 1, 99, "fits"), entry(end + 3, 99, "x")]),
    };
    let group = [append(vec![entry(end, 99, "gone")]), bad];
    let error = log.write(&group).unwrap_err();
    assert!(error.effect() == Effect::None && !error.is_fatal(), "{error:?}");
    assert_eq!(Model::of(log), *model);
}

/// What a run has met.
#[derive(Debug, Default)]
struct Met {
    writes: u64,
    reopened: u64,
    refused: u64,
    crashes: u64,
    cuts: u64,
    /// Calls that failed, and were there all the same.
    found_after: u64,
}

fn agrees_with_a_plain_list_through_crashes(kind: Kind) {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().unwrap())
    };
    let (start, cases) = (number("LOG_MODEL_START", 0), number("LOG_MODEL_CASES", 256));
    let mut met = Met::default();
    for seed in start..start + cases {
        run(kind, seed, &mut met);
    }
    println!("{met:?}");
    // A run that meets nothing proves nothing.
    let each = |count: u64, in_four_cases: u64| cases < 256 || count > cases * in_four_cases / 4;
    assert!(
        each(met.writes, 80)
            && each(met.reopened, 4)
            && each(met.refused, 6)
            && each(met.crashes, 16)
            && each(met.cuts, 1)
            && each(met.found_after, 1),
        "{met:?}"
    );
}

fn run(kind: Kind, seed: u64, met: &mut Met) {
    let mut rng = SimRng::new(seed);
    let disk = SimDisk::new();
    let (mut log, _) = (kind.open)(&disk).unwrap();
    let mut model = Model::default();
    // A fault waits for its call: without one the log can be opened again.
    let mut armed = false;
    for step in 0..40 {
        let what = format!(
            "step {step}; see it again: LOG_MODEL_START={seed} LOG_MODEL_CASES=1 cargo test -p tinyraftplus-log --test model"
        );
        let call = Call::random(&mut rng, &model, kind.compacts);
        let mut next = call.after(&model);
        let mut marked = Ok(());
        let chance = rng.below(9);
        armed |= (1..4).contains(&chance);
        match chance {
            0 => marked = log.mark(),
            1 => disk.crash_after(rng.below(4)),
            2 if rng.below(3) == 0 => disk.fail_sync(rng.below(2), io::ErrorKind::Other),
            3 if rng.below(3) == 0 => disk.fail_write(rng.below(2), io::ErrorKind::Other),
            4 if !armed => {
                refused(&mut rng, &mut *log, &model, kind.compacts);
                met.refused += 1;
            }
            5 | 6 if !armed => {
                if rng.below(2) == 0 {
                    log.close().unwrap();
                }
                drop(log);
                log = (kind.open)(&disk)
                    .unwrap_or_else(|error| panic!("reopening unharmed, {what}: {error}"))
                    .0;
                assert_eq!(Model::of(&*log), model, "reopened, {what}");
                met.reopened += 1;
            }
            _ => {}
        }
        let written = call.make(&mut *log);
        // It may have died just after a write that succeeded; that write counts.
        let died = armed && log.iter(..).any(|entry| matches!(entry, Err(LogError::Io { .. })));
        let failed = written.is_err();
        match written {
            Ok(()) => {
                met.writes += 1;
                model = next.clone();
                if !died {
                    assert_eq!(Model::of(&*log), model, "{what}");
                }
            }
            Err(LogError::Poisoned) => assert!(marked.is_err(), "{what}"),
            // Larger than a segment, or another file could not be begun: nothing happened, and nothing will have
            // after a crash.
            Err(error @ (LogError::Io { .. } | LogError::TooLarge { .. })) => {
                assert!(error.effect() == Effect::None && !error.is_fatal(), "{what}: {error}");
                assert_eq!(log.bounds(), Seq::new(model.start)..Seq::new(model.end()), "{what}");
                next = model.clone();
            }
            Err(error) => {
                assert!(matches!(error, LogError::WriteFailed { .. }), "{what}: {error}");
                let again = call.make(&mut *log);
                assert!(matches!(again, Err(LogError::Poisoned)), "{what}: {again:?}");
            }
        }
        if !failed && !died && rng.below(12) > 0 {
            continue;
        }
        if rng.below(6) == 0 {
            let _ = log.close();
        }
        drop(log);
        met.crashes += 1;
        crash(kind, &disk, &mut rng);
        armed = false;
        let recovery;
        (log, recovery) =
            (kind.open)(&disk).unwrap_or_else(|error| panic!("opening after {what}: {error}"));
        let found = Model::of(&*log);
        let rescued = Model { hard: next.hard, ..model.clone() };
        assert!(
            found == model || found == next || found == rescued,
            "{what}: {recovery:?}\n{found:?}\n{model:?}\n{next:?}"
        );
        met.cuts += u64::from(recovery.cut.is_some());
        met.found_after += u64::from(failed && found != model && found == next);
        model = found;
    }
}

/// The process dies or the power fails, and sometimes again while the log is being opened.
fn crash(kind: Kind, disk: &SimDisk, rng: &mut SimRng) {
    if rng.below(3) == 0 {
        disk.kill();
    } else {
        disk.power_loss(rng);
    }
    while rng.below(3) == 0 {
        disk.crash_after(rng.below(8));
        if (kind.open)(disk).is_ok() {
            break;
        }
        if rng.below(2) == 0 { disk.kill() } else { disk.power_loss(rng) }
    }
    disk.kill();
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
            let write = random_write(&mut rng, &model, false);
            log.write(std::slice::from_ref(&write)).unwrap();
            model.apply(&write);
        }
        log.write(&[append(vec![]), trim(model.end())]).unwrap();
        disk.contents(common::FILE).unwrap()
    };
    assert_eq!(run(), run());
}
