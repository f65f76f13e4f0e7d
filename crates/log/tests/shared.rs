//! Many callers on one log: order, groups, refusals, failures, closing.

#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "many callers are many threads")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod kits;

use std::{
    io,
    pin::pin,
    sync::{Arc, Barrier, mpsc},
    task::{Context, Poll, Waker},
    thread,
};

use futures_core::Stream;
use kits::{GatedLog, LONG, block_on, contents, each, head, options, payloads, poll_once, seq};
use tinyraftplus_log::{
    Effect, LogError, MemLog, SharedLog, TimeoutLog, Timeouts, sim_disk::SimRng,
};

/// A log on a gate, and an append that stands there.
fn with_one_inside() -> (SharedLog, Arc<kits::Gate>, thread::JoinHandle<Result<u64, LogError>>) {
    let (log, gate) = GatedLog::new();
    let log = SharedLog::new(log);
    gate.shut("write");
    let first = log.append("first");
    let writer = thread::spawn(move || first.wait().map(tinyraftplus_core::Seq::get));
    gate.await_inside("write");
    (log, gate, writer)
}

/// Fails if calls are refused because others are under way, as the original does: of 64 at once 63 reject,
/// and all are written.
#[test]
fn concurrent_appends_rejected() {
    each(|kit| {
        let log = kit.open();
        let mut seqs: Vec<u64> = thread::scope(|scope| {
            let start = Arc::new(Barrier::new(64));
            let spawned: Vec<_> = (0..64_u8)
                .map(|n| {
                    let (log, start) = (log.clone(), Arc::clone(&start));
                    scope.spawn(move || {
                        start.wait();
                        let seq = log.append(vec![n]).wait().unwrap();
                        assert_eq!(log.iter(seq..).next().unwrap().unwrap().payload, vec![n]);
                        seq.get()
                    })
                })
                .collect();
            spawned.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        seqs.sort_unstable();
        assert_eq!(seqs, (0..64).collect::<Vec<_>>());
        assert_eq!(log.end(), seq(64));
    });
}

/// Fails if a refused call holds up those after it, or takes those beside it along.
#[test]
fn bad_argument_blocks_log() {
    each(|kit| {
        let log = kit.open();
        let limit = 4 << 20;
        assert_eq!(log.append("a").wait().unwrap(), seq(0));
        let calls = [
            log.append_at(seq(7), "x"),
            log.append_at(seq(0), "x"),
            log.append_at(seq(1), "b"),
            log.append_at(seq(1), "x"),
        ];
        let empty = log.append_batch([""; 0]);
        let large = log.append(vec![0; limit + 1]);
        let larger = log.append_batch_at(seq(2), [vec![0; limit], vec![0; 1]]);
        let compact = log.compact(seq(100));
        let last = log.append("c");
        let [far, taken, fits, taken_too] = calls.map(tinyraftplus_log::Pending::wait);
        assert!(
            matches!(far, Err(LogError::WrongSeq { expected, got }) if (expected, got) == (seq(1), seq(7)))
        );
        assert!(matches!(taken, Err(LogError::WrongSeq { .. })));
        fits.unwrap();
        assert!(
            matches!(taken_too, Err(LogError::WrongSeq { expected, .. }) if expected == seq(2))
        );
        assert!(matches!(empty.wait(), Err(LogError::Empty)));
        assert!(matches!(large.wait(), Err(LogError::TooLarge { what: "a batch", .. })));
        assert!(matches!(larger.wait(), Err(LogError::TooLarge { what: "a batch", .. })));
        let refused = compact.wait().unwrap_err();
        assert!(matches!(refused, LogError::OneFile(_) | LogError::Trimmed { .. }), "{refused}");
        assert_eq!((refused.effect(), refused.is_fatal()), (Effect::None, false));
        assert_eq!(last.wait().unwrap(), seq(2));
        log.trim(Some(seq(9))).wait().unwrap();
        assert_eq!(contents(&log), ["a", "b", "c"]);
    });
}

/// Fails if a call that only the log can judge takes its group with it.
#[test]
fn a_call_refused_by_the_log_is_refused_alone() {
    let (log, gate) = GatedLog::new();
    let log = SharedLog::new(log);
    log.append_batch(["a", "b"]).wait().unwrap();
    let mut txn = log.txn().wait().unwrap();
    txn.append("t").unwrap();
    let group = (
        log.append("c"),
        log.compact(seq(50)),
        log.append_batch(["d", "e"]),
        log.trim(Some(seq(4))),
        log.append_at(seq(5), "f"),
    );
    txn.commit().wait().unwrap();
    assert_eq!(group.0.wait().unwrap(), seq(3));
    assert!(matches!(group.1.wait(), Err(LogError::Trimmed { .. })));
    assert_eq!(group.2.wait().unwrap(), seq(4)..seq(6));
    group.3.wait().unwrap();
    group.4.wait().unwrap();
    assert_eq!(contents(&log), ["a", "b", "t", "c", "d", "f"]);
    assert_eq!(gate.groups(), [2, 1, 1, 2, 0, 1]);
}

/// Fails if compaction does not reach the log, or readers don't notice.
#[test]
fn compacts() {
    let log = SharedLog::new(MemLog::new(options()).unwrap());
    log.append_batch(["a", "b", "c"]).wait().unwrap();
    let entries = log.iter(..);
    log.compact(seq(2)).wait().unwrap();
    log.compact(seq(1)).wait().unwrap();
    assert_eq!(log.bounds(), seq(2)..seq(3));
    assert_eq!(contents(&log), ["c"]);
    assert!(matches!(payloads(entries), Err(LogError::Compacted { .. })));
    assert!(matches!(log.trim(Some(seq(1))).wait(), Err(LogError::Compacted { .. })));
    log.compact(seq(3)).wait().unwrap();
    assert_eq!((head(&log), log.start()), (None, seq(3)));
}

/// Whatever arrives while the disk is busy is one write. Fails if waiting calls are written one by one.
#[test]
fn many_writers_share_their_syncs() {
    let (log, gate, first) = with_one_inside();
    let (sender, placed) = mpsc::channel();
    let writers: Vec<_> = (0..63_u8)
        .map(|n| {
            let (log, sender) = (log.clone(), sender.clone());
            thread::spawn(move || {
                let pending = log.append(vec![n]);
                sender.send(()).unwrap();
                pending.wait().unwrap()
            })
        })
        .collect();
    placed.iter().take(63).for_each(drop);
    assert_eq!(log.end(), seq(0));
    gate.open("write");
    assert_eq!(first.join().unwrap().unwrap(), 0);
    let mut seqs: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..64).map(seq).collect::<Vec<_>>());
    assert_eq!(gate.groups(), [1, 63]);
    assert_eq!((log.stats().syncs, log.stats().end), (2, seq(64)));
}

/// The same from one task. Fails if futures are written one by one.
#[test]
fn many_futures_share_their_syncs() {
    let (log, gate, first) = with_one_inside();
    let mut pending: Vec<_> = (0..64_u8).map(|n| log.append(vec![n])).collect();
    assert!(pending.iter_mut().all(|pending| poll_once(pending).is_pending()));
    gate.open("write");
    first.join().unwrap().unwrap();
    for (n, pending) in (1..).zip(pending) {
        assert_eq!(block_on(pending).unwrap(), seq(n));
    }
    assert_eq!(gate.groups(), [1, 64]);
}

/// Fails if a group grows over what the log takes at once.
#[test]
fn groups_keep_to_the_log_limit() {
    let mut small = options();
    small.group_bytes_max = 64 << 10;
    (small.batch_bytes_max, small.entry_bytes_max) = (32 << 10, 32 << 10);
    let disk = tinyraftplus_log::sim_disk::SimDisk::new();
    let log = tinyraftplus_log::FsLog::open_on(&disk, "x", small).unwrap().0;
    let log = SharedLog::new(log);
    let pending: Vec<_> = (0..40).map(|_| log.append(vec![1; 10 << 10])).collect();
    for (n, pending) in (0..).zip(pending) {
        assert_eq!(pending.wait().unwrap(), seq(n));
    }
    // Five of them fit into a group. One that is too large would be refused, and each call tried by itself.
    assert!(log.stats().syncs <= 20, "{}", log.stats().syncs);
    let many: Vec<&str> = vec![""; 10_000];
    assert!(matches!(
        log.append_batch(many).wait(),
        Err(LogError::TooLarge { what: "a group", .. })
    ));
}

/// Fails if a call is told after, or before, another than it was made.
#[test]
fn results_come_in_call_order() {
    let (log, gate, first) = with_one_inside();
    let mut calls: Vec<_> = (0..32_u8).map(|n| log.append(vec![n])).collect();
    let mut txn = log.txn();
    let mut late: Vec<_> = (0..32_u8).map(|n| log.append(vec![n])).collect();
    assert!(late.iter_mut().all(|pending| poll_once(pending).is_pending()));
    gate.open("write");
    first.join().unwrap().unwrap();
    let txn = block_on(&mut txn).unwrap();
    // The transaction began, so all before it is done, and nothing after it.
    for (n, call) in (1..).zip(&mut calls) {
        assert!(matches!(poll_once(call), Poll::Ready(Ok(at)) if at == seq(n)));
    }
    assert!(late.iter_mut().all(|pending| poll_once(pending).is_pending()));
    drop(txn);
    let last = late.pop().unwrap();
    assert_eq!(block_on(last).unwrap(), seq(64));
    assert!(late.iter_mut().all(|pending| matches!(poll_once(pending), Poll::Ready(Ok(_)))));
}

/// Fails if dropping a call undoes it, or nobody writes it.
#[test]
fn a_dropped_call_still_happens() {
    each(|kit| {
        let log = kit.open();
        drop(log.append("a"));
        let mut polled = log.append("b");
        let _ = poll_once(&mut polled);
        drop(polled);
        assert_eq!(log.append("c").wait().unwrap(), seq(2));
        drop(log.append("d"));
        drop(log);
        if kit.keeps {
            let log = kit.open();
            assert_eq!(contents(&log), ["a", "b", "c", "d"]);
        }
    });
}

/// Fails if a call that nobody else waits for needs another call to be written.
#[test]
fn a_dropped_call_needs_no_company() {
    let (log, gate) = GatedLog::new();
    let log = SharedLog::new(log);
    gate.shut("write");
    drop(log.append("a"));
    gate.await_inside("write");
    gate.open("write");
    log.close().wait().unwrap();
    assert_eq!(log.end(), seq(1));
}

/// Fails if a failed write is told to some of its group as less than possible, or anything is accepted after.
#[test]
fn a_failed_write_is_told_to_all_of_its_group() {
    let (log, gate, first) = with_one_inside();
    let mut group: Vec<_> = (0..8_u8).map(|n| log.append(vec![n])).collect();
    assert!(group.iter_mut().all(|pending| poll_once(pending).is_pending()));
    let refused = log.append_at(seq(77), "x");
    gate.shut("write");
    let mut later = log.txn();
    assert!(poll_once(&mut later).is_pending());
    gate.fail_write(io::ErrorKind::StorageFull);
    gate.open("write");
    // The first call's write takes the failure; the others were behind it, and never began.
    let failed = first.join().unwrap().unwrap_err();
    assert_eq!(failed.effect(), Effect::Possible);
    for pending in group {
        assert!(matches!(block_on(pending), Err(LogError::Poisoned)));
    }
    assert!(matches!(refused.wait(), Err(LogError::Poisoned)));
    assert!(matches!(block_on(later), Err(LogError::Poisoned)));
    assert!(matches!(log.append("x").wait(), Err(LogError::Poisoned)));
    log.close().wait().unwrap();

    let (log, gate) = GatedLog::new();
    let log = SharedLog::new(log);
    let group: Vec<_> = (0..8_u8).map(|n| log.append(vec![n])).collect();
    let refused = log.append_at(seq(77), "x");
    gate.fail_write(io::ErrorKind::StorageFull);
    for pending in group {
        let failed = pending.wait().unwrap_err();
        let LogError::WriteFailed { source, .. } = &failed else { panic!("{failed}") };
        assert_eq!(
            (source.kind(), failed.effect()),
            (io::ErrorKind::StorageFull, Effect::Possible)
        );
        assert!(source.to_string().contains("asked to fail"), "{source}");
    }
    assert!(matches!(refused.wait(), Err(LogError::WrongSeq { .. })));
    assert_eq!(log.end(), seq(0));
}

/// Fails if the panic of a log's own code reaches callers, leaves one of them hanging, or is forgotten.
#[test]
fn a_log_that_panics_is_poisoned() {
    for timed in [false, true] {
        let (log, gate) = GatedLog::new();
        let log = if timed {
            SharedLog::new(TimeoutLog::new(Timeouts::all(LONG), log).unwrap())
        } else {
            SharedLog::new(log)
        };
        log.append("a").wait().unwrap();
        gate.shut("write");
        gate.panic_in("write");
        let inside: Vec<_> = (0..4)
            .map(|_| {
                let pending = log.append("b");
                thread::spawn(move || pending.wait())
            })
            .collect();
        gate.await_inside("write");
        let mut queued = log.append("c");
        let mut txn = log.txn();
        assert!(poll_once(&mut queued).is_pending() && poll_once(&mut txn).is_pending());
        gate.open("write");
        let mut panicked = 0;
        for thread in inside {
            let error = thread.join().unwrap().unwrap_err();
            if !matches!(error, LogError::Poisoned) {
                panicked += 1;
                assert_eq!((error.effect(), error.is_fatal()), (Effect::Possible, true));
                assert!(error.to_string().contains("asked to panic in write"), "{error}");
            }
        }
        assert!(panicked > 0);
        assert!(matches!(block_on(queued), Err(LogError::Poisoned)));
        assert!(matches!(block_on(txn), Err(LogError::Poisoned)));
        assert_eq!(log.end(), seq(1));
        let closed = log.close().wait();
        assert!(closed.is_ok() || timed, "{closed:?}");
    }
}

/// Fails if closing hangs, cuts off what was accepted, or accepts more.
#[test]
fn closing_with_everything_in_flight() {
    let (log, gate, first) = with_one_inside();
    let mut stream = pin!(log.stream(..));
    let entries = log.iter(..);
    let append = log.append("second");
    let (mut granted, dropped) = (log.txn(), log.txn());
    let after = log.trim(Some(seq(0)));
    assert!(poll_once(&mut granted).is_pending());
    let (closing, mut again) = (log.close(), log.close());
    assert!(poll_once(&mut again).is_pending());
    drop(dropped);
    assert!(!log.is_open());
    assert!(matches!(log.append("x").wait(), Err(LogError::Closed)));
    assert!(matches!(poll_once(&mut log.txn()), Poll::Ready(Err(LogError::Closed))));
    let closer = thread::spawn(move || closing.wait());
    gate.open("write");
    assert_eq!(first.join().unwrap().unwrap(), 0);
    assert_eq!(append.wait().unwrap(), seq(1));
    let mut txn = granted.wait().unwrap();
    txn.append("third").unwrap();
    txn.commit().wait().unwrap();
    after.wait().unwrap();
    closer.join().unwrap().unwrap();
    block_on(again).unwrap();
    log.close().wait().unwrap();
    assert_eq!(log.end(), seq(1));
    assert!(payloads(entries).unwrap().is_empty());
    let polled = stream.as_mut().poll_next(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(None)), "it was made when the log was empty");
}

/// Fails if dropping the last handle leaves the log open or locked, or hangs.
#[test]
fn the_last_handle_closes() {
    each(|kit| {
        let log = kit.open();
        let (clone, entries) = (log.clone(), log.iter(..));
        let pending = log.append("a");
        drop(log);
        assert_eq!(pending.wait().unwrap(), seq(0));
        let last = clone.append("b");
        drop(clone);
        assert_eq!(block_on(last).unwrap(), seq(1));
        assert!(payloads(entries).unwrap().is_empty());
        if kit.keeps {
            let log = kit.open();
            assert_eq!(contents(&log), ["a", "b"]);
            log.close().wait().unwrap();
        }
    });
}

/// Fails if dropping the last handle waits for a transaction, or the log stays open when that ends.
#[test]
fn the_last_handle_waits_for_nobody() {
    let (log, gate) = GatedLog::new();
    let log = SharedLog::new(log);
    gate.shut("close");
    let txn = log.txn().wait().unwrap();
    let after = log.append("a");
    drop(log);
    drop(txn);
    assert_eq!(after.wait().unwrap(), seq(0));
    gate.await_inside("close");
    gate.open("close");
}

/// Fails if what waits has no limit.
#[test]
fn the_queue_has_a_limit() {
    let (log, gate, first) = with_one_inside();
    let payload = bytes::Bytes::from(vec![0; 4 << 20]);
    let mut accepted = Vec::new();
    let refused = loop {
        let mut pending = log.append(payload.clone());
        match poll_once(&mut pending) {
            Poll::Pending => accepted.push(pending),
            Poll::Ready(result) => break result.unwrap_err(),
        }
        assert!(accepted.len() < 100);
    };
    assert!(matches!(refused, LogError::Busy { .. }) && refused.effect() == Effect::None);
    assert_eq!(accepted.len(), 15);
    // Closing is never refused, and a small call still fits.
    let small = log.append("small");
    let closing = log.close();
    gate.open("write");
    first.join().unwrap().unwrap();
    for pending in accepted {
        block_on(pending).unwrap();
    }
    assert_eq!(small.wait().unwrap(), seq(16));
    closing.wait().unwrap();
}

/// Fails if a thread or a task that waits is forgotten: every kind of caller at once, in random order. Run it
/// longer with `STRESS=1000 cargo test --release -p tinyraftplus-log --test shared stress`.
#[test]
fn stress() {
    let rounds = std::env::var("STRESS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(6);
    for round in 0..rounds {
        let kits = kits::kits();
        let log = kits[usize::try_from(round).unwrap() % kits.len()].open();
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let log = log.clone();
                let rng = SimRng::new(round * 100 + n);
                thread::spawn(move || one_of_many(&log, rng))
            })
            .collect();
        let added: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        // What was dropped is behind nobody.
        assert_eq!(log.append("last").wait().unwrap(), seq(added));
        let closers: Vec<_> = (0..3)
            .map(|n| {
                let closing = log.close();
                thread::spawn(move || if n == 1 { block_on(closing) } else { closing.wait() })
            })
            .collect();
        drop(log);
        for closer in closers {
            closer.join().unwrap().unwrap();
        }
    }
}

/// Makes calls of every kind; says how many entries it added.
fn one_of_many(log: &SharedLog, mut rng: SimRng) -> u64 {
    let mut added = 0;
    let mut open = Vec::new();
    for _ in 0..200 {
        added += match rng.below(9) {
            0 => {
                drop(log.append("dropped"));
                1
            }
            1 => {
                block_on(log.append("awaited")).unwrap();
                1
            }
            2 => {
                log.append_batch(["waited", "for"]).wait().unwrap();
                2
            }
            3 => {
                let mut pending = log.append("polled once");
                if poll_once(&mut pending).is_pending() {
                    open.push(pending);
                }
                1
            }
            4 => {
                open.push(log.append("left alone"));
                1
            }
            5 => {
                let mut txn = log.txn().wait().unwrap();
                txn.append("in a transaction").unwrap();
                txn.commit().wait().unwrap();
                1
            }
            6 => {
                let mut txn = block_on(log.txn()).unwrap();
                txn.append("undone").unwrap();
                0
            }
            7 => {
                let mut txn = block_on(log.txn()).unwrap();
                txn.append("not waited for").unwrap();
                drop(txn.commit());
                1
            }
            _ => {
                let mut txn = log.txn();
                let _ = poll_once(&mut txn);
                0
            }
        };
        if open.len() > 20 {
            for pending in open.drain(..) {
                if rng.below(2) == 0 { pending.wait() } else { block_on(pending) }.unwrap();
            }
        }
    }
    added
}
