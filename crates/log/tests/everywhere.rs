//! Crashes after every operation of the disk, of every call: both kinds of log, every encoder.
//!
//! `LOG_CRASH_OUTCOMES=500 cargo test --release -p tinyraftplus-log --test everywhere` tries more ways in which
//! each power failure can end.

#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use common::{
    Model, Setup, append, compact, configuration, effort, entry, hard, noise, outcomes, repair,
    reset, trim, vote,
};
use tinyraftplus_log::{
    LogError, LogExt, Write,
    sim_disk::{SimDisk, SimRng},
};

/// What a process does to a log, one after the other.
#[derive(Clone, Debug)]
enum Step {
    Group(Vec<Write>),
    Mark,
    /// Closes it first, or not.
    Reopen(bool),
}

impl Step {
    fn after(&self, model: &Model) -> Model {
        match self {
            Self::Group(group) => model.after(group),
            Self::Mark | Self::Reopen(_) => model.clone(),
        }
    }
}

/// Every kind of write, so large that segments are begun between any two kinds.
fn everything(setup: &Setup) -> Vec<Step> {
    let group = |writes: Vec<Write>| Step::Group(writes);
    let big = |seq: u64, term: u64| append(vec![entry(seq, term, noise(seq, 3500))]);
    let mut steps = vec![
        group(vec![append(vec![entry(0, 1, "a")])]),
        group(vec![vote(2, 9)]),
        Step::Mark,
        group(vec![
            append(vec![entry(1, 2, "b"), entry(2, 2, noise(1, 700))]),
            append(vec![entry(3, 2, "")]),
        ]),
        group(vec![Write { configuration: Some(configuration(3)), ..Write::default() }]),
        group(vec![big(4, 2)]),
        group(vec![big(5, 2)]),
        Step::Reopen(false),
        group(vec![big(6, 3)]),
        Step::Mark,
        group(vec![big(7, 3)]),
        // What a transaction writes: a trim, across segments, with what takes the place of the trimmed.
        group(vec![Write {
            append: vec![entry(3, 4, noise(2, 400))],
            hard_state: Some(hard(4, None)),
            ..trim(3)
        }]),
        group(vec![vote(4, 8)]),
        // In the place of entries of other segments, and of what was just written.
        group(vec![repair(vec![entry(0, 1, "A"), entry(1, 2, noise(5, 300))])]),
        group(vec![big(4, 4)]),
        group(vec![repair(vec![entry(1, 2, "B"), entry(2, 2, "C"), entry(3, 4, noise(6, 900))])]),
        group(vec![
            append(vec![entry(5, 4, noise(3, 900))]),
            Write { append: vec![entry(5, 5, "z")], ..trim(5) },
        ]),
    ];
    if setup.many {
        steps.extend([
            group(vec![compact(2)]),
            group(vec![big(6, 5)]),
            group(vec![Write { append: vec![entry(7, 5, "with")], ..compact(5) }]),
            Step::Reopen(true),
            group(vec![big(8, 5)]),
            group(vec![big(9, 5)]),
            group(vec![compact(9), vote(6, 4)]),
            group(vec![trim(9)]),
        ]);
    }
    steps.extend([
        group(vec![Write { append: vec![entry(20, 6, "r")], ..reset(20, 6) }]),
        group(vec![append(vec![entry(21, 6, vec![0; 1500])])]),
        group(vec![big(22, 6)]),
        group(vec![big(23, 6)]),
        group(vec![reset(30, 7)]),
        group(vec![vote(8, 7), append(vec![entry(30, 8, "end")])]),
    ]);
    steps
}

/// Takes the steps until the disk dies under them. Returns the log as acknowledged, and as it would have been
/// after the step in flight.
fn run(setup: &Setup, disk: &SimDisk, steps: &[Step]) -> (Model, Model) {
    let mut model = Model::default();
    let Ok((mut log, _)) = setup.try_open(disk) else { return (model.clone(), model) };
    for step in steps {
        let next = step.after(&model);
        let done = match step {
            Step::Group(group) => log.write(group),
            Step::Mark => log.mark(),
            Step::Reopen(close) => {
                let closed = if *close { log.close() } else { Ok(()) };
                drop(log);
                match setup.try_open(disk) {
                    Ok((opened, recovery)) => {
                        assert_eq!(recovery.cut, None);
                        log = opened;
                        closed
                    }
                    Err(_) => return (model, next),
                }
            }
        };
        match done {
            Ok(()) => model = next,
            Err(LogError::WriteFailed { .. } | LogError::Io { .. } | LogError::Poisoned) => {
                return (model, next);
            }
            Err(error) => panic!("{}: {step:?}: {error}", setup.what),
        }
    }
    let _ = log.close();
    (model.clone(), model)
}

/// Opens after a crash and checks what is left: the log as it was after the last acknowledged step, or after
/// the one in flight. A newer vote may be left of a group that is gone. Then the log must work on, and keep
/// what it told us even if the power fails at once.
fn check(setup: &Setup, disk: &SimDisk, before: &Model, after: &Model, what: &str) {
    let (mut log, recovery) =
        setup.try_open(disk).unwrap_or_else(|error| panic!("{what}: {error}\n{:?}", disk.files()));
    let found = Model::of(&*log);
    let rescued = Model { hard: after.hard, ..before.clone() };
    assert!(
        found == *before || found == *after || found == rescued,
        "{what}: {recovery:?}\n{found:?}\n{before:?}\n{after:?}"
    );
    assert!(!recovery.hard_state_rescued || found == rescued, "{what}");
    let lost = disk.fork();
    lost.power_loss_choosing(|_, _| 0);
    let (again, recovery) =
        setup.try_open(&lost).unwrap_or_else(|error| panic!("{what}, again: {error}"));
    assert_eq!(Model::of(&*again), found, "{what}");
    assert_eq!(recovery.cut, None, "{what}: what was cut once is cut for good");
    let term = found.term().max(found.hard.term.get());
    // Enough to begin another segment.
    for group in [
        [append(vec![entry(found.end(), term, noise(1, 3000))])],
        [vote(term + 1, 5)],
        [append(vec![entry(found.end() + 1, term, noise(2, 4000))])],
    ] {
        log.write(&group).unwrap_or_else(|error| panic!("{what}, going on: {error}"));
    }
    drop(log);
    disk.power_loss_choosing(|_, _| 0);
    let (log, recovery) = setup.open(disk);
    assert_eq!(recovery.cut, None, "{what}");
    let mut expected = found;
    for (seq, size) in [(expected.end(), 3000), (expected.end() + 1, 4000)] {
        expected.apply(&append(vec![entry(seq, term, noise(size / 1000 - 2, size_of_u64(size)))]));
    }
    expected.hard = hard(term + 1, Some(5));
    assert_eq!(Model::of(&*log), expected, "{what}");
}

fn size_of_u64(size: u64) -> usize {
    usize::try_from(size).unwrap()
}

/// The process dies, or the power fails, after every operation of the disk: of opening, creating, writing,
/// beginning a segment, sealing one, compacting, closing. If few sectors and names are in doubt, every
/// combination of what was lost; else some.
///
/// Fails if a sync is left out, of a file or of the directory, or a group is applied before its last frame was
/// found.
fn crash_everywhere(setup: &Setup) {
    let many = effort("LOG_CRASH_OUTCOMES", 48);
    let steps = everything(setup);
    let disk = setup.disk();
    let (before, after) = run(setup, &disk, &steps);
    assert_eq!(before, after, "without a crash, all is done");
    assert_eq!(before, steps.iter().fold(Model::default(), |model, step| step.after(&model)));
    let operations = count_operations(setup, &steps);
    assert!(operations > if setup.many { 100 } else { 50 }, "{operations}");
    let (mut lost, mut tried) = (0, 0);
    for count in 0..operations {
        let disk = setup.disk();
        disk.crash_after(count);
        let (before, after) = run(setup, &disk, &steps);
        let killed = disk.fork();
        killed.kill();
        check(setup, &killed, &before, &after, &format!("{}, killed at {count}", setup.what));
        for (number, outcome) in outcomes(&disk, many, count).into_iter().enumerate() {
            lost += outcome.stats().sectors_lost;
            tried += 1;
            let what = format!("{}, power lost at {count}, outcome {number}", setup.what);
            check(setup, &outcome, &before, &after, &what);
        }
    }
    println!(
        "{} of {}: {operations} crashes, {tried} power losses",
        if setup.many { "MultiFsLog" } else { "FsLog" },
        setup.what
    );
    assert!(lost > 100, "no power loss ever lost anything");
}

fn count_operations(setup: &Setup, steps: &[Step]) -> u64 {
    let disk = setup.disk();
    run(setup, &disk, steps);
    disk.operation_count()
}

macro_rules! everywhere {
    ($($name:ident $number:literal)*) => {
        mod crash_everywhere {
            $(#[test]
            fn $name() {
                super::crash_everywhere(&super::Setup::all()[$number]);
            })*
        }
    };
}

everywhere! {
    one_file 0
    one_file_bodies_unchecked 1
    one_file_plain 2
    one_file_encrypted 3
    one_file_blocks 4
    one_file_whole_blocks 5
    segments 6
    segments_bodies_unchecked 7
    segments_plain 8
    segments_encrypted 9
    segments_blocks 10
    segments_whole_blocks 11
}

/// Opening after a crash crashes too, at every operation, and so does the opening after that.
///
/// Fails if the torn group is cleared before the frame that voids it is durable (the vote is lost), the frame
/// and the zeros share a sync, or a file is removed that is still needed.
#[test]
fn crash_while_recovering() {
    let many = effort("LOG_CRASH_OUTCOMES", 6);
    let mut cuts = 0;
    for setup in Setup::all() {
        let steps = everything(&setup);
        let operations = count_operations(&setup, &steps);
        let mut rng = SimRng::new(operations);
        // Every crash would be too many: some, others for each kind.
        for _ in 0..effort("LOG_CRASH_POINTS", 12) {
            let count = rng.below(operations);
            let disk = setup.disk();
            disk.crash_after(count);
            let (before, after) = run(&setup, &disk, &steps);
            for torn in outcomes(&disk, 3, rng.next()).into_iter().skip(1) {
                let probe = torn.fork();
                let (log, recovery) = setup.open(&probe);
                let hard = log.hard_state();
                drop(log);
                cuts += u64::from(recovery.cut.is_some());
                for stop in 0..probe.operation_count() {
                    let disk = torn.fork();
                    disk.crash_after(stop);
                    drop(setup.try_open(&disk));
                    let mut again = outcomes(&disk, many, rng.next());
                    let killed = disk.fork();
                    killed.kill();
                    again.push(killed);
                    for disk in again {
                        let what = format!("{}, crashes at {count} and {stop}", setup.what);
                        if recovery.hard_state_rescued {
                            let (log, _) = setup.open(&disk.fork());
                            assert_eq!(log.hard_state(), hard, "{what}: a readable vote is gone");
                        }
                        check(&setup, &disk, &before, &after, &what);
                    }
                }
            }
        }
    }
    assert!(cuts > 10, "{cuts}");
}

/// Deleting a log crashes after every operation. What is left is the whole log, or none, or it is refused:
/// never a shorter one. Deleting it again works, and then it can be made anew.
///
/// Fails if the seal of a segment without successor is taken for its end.
#[test]
fn crash_while_destroying() {
    let mut met = [0; 3];
    for setup in Setup::all() {
        let steps = everything(&setup);
        // The last step of them leaves little: stop before.
        for steps in [&steps[..8], &steps[..13], &steps[..]] {
            let disk = setup.disk();
            let (model, _) = run(&setup, &disk, steps);
            disk.kill();
            let probe = disk.fork();
            setup.destroy(&probe).unwrap();
            assert!(probe.files().iter().all(|file| !file.starts_with(common::NAME)));
            for count in 0..=probe.operation_count() {
                let crashed = disk.fork();
                crashed.crash_after(count);
                let done = setup.destroy(&crashed);
                assert_eq!(done.is_ok(), count == probe.operation_count());
                let mut left = outcomes(&crashed, 64, count);
                let killed = crashed.fork();
                killed.kill();
                left.push(killed);
                for disk in left {
                    met[match setup.try_open(&disk.fork()) {
                        Ok((log, recovery)) if recovery.created => {
                            assert_eq!(Model::of(&*log), Model::default());
                            0
                        }
                        Ok((log, _)) => {
                            assert_eq!(
                                Model::of(&*log),
                                model,
                                "{} {:?}",
                                setup.what,
                                disk.files()
                            );
                            1
                        }
                        Err(LogError::SegmentMissing(_) | LogError::Corrupt { .. }) => 2,
                        Err(error) => panic!("{error}"),
                    }] += 1;
                    setup.destroy(&disk).unwrap();
                    let (mut log, recovery) = setup.open(&disk);
                    assert!(recovery.created && log.append("anew").unwrap().get() == 0);
                }
            }
        }
    }
    assert!(met.iter().all(|&met| met > 5), "{met:?}");
}
