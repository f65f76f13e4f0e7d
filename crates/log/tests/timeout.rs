//! Calls that end in time: the scenarios of the original's `08timeout`, and what it got wrong.
//!
//! Disks hang at a gate. Where a test waits for a timeout, it waits that long: a fifth of a second, so that a
//! busy machine has reached the gate by then.

#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "deadlines are what this is about")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod kits;

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use futures_core::Stream;
use kits::{Gate, GatedLog, LONG, block_on, contents, options, payloads, poll_once, seq};
use tinyraftplus_log::{
    Effect, FsLog, Log, LogError, LogExt, Pending, SharedLog, TimeoutLog, Timeouts,
    sim_disk::SimDisk,
};

type Set = fn(&mut Timeouts);
type Call = fn(&SharedLog) -> Pending<()>;

const SHORT: Duration = Duration::from_millis(200);

/// A log at a gate, with a time for some calls and much for all others.
fn gated(set: impl FnOnce(&mut Timeouts)) -> (SharedLog, Arc<Gate>) {
    let (log, gate) = GatedLog::new();
    let mut timeouts = Timeouts::all(LONG);
    set(&mut timeouts);
    (SharedLog::new(TimeoutLog::new(timeouts, log).unwrap()), gate)
}

/// Begins a call, and waits until it stands at the gate.
fn begin<T>(gate: &Gate, op: &'static str, mut call: Pending<T>) -> Pending<T> {
    assert!(poll_once(&mut call).is_pending());
    gate.await_inside(op);
    call
}

#[track_caller]
fn assert_timeout<T: std::fmt::Debug>(result: Result<T, LogError>, name: &str, expected: Effect) {
    let error = result.unwrap_err();
    let LogError::Timeout { op, after, effect } = error else { panic!("{error}") };
    assert_eq!((op, after, effect), (name, SHORT, expected));
    assert!(!error.is_fatal());
}

/// 08timeout, fast enough: values pass. Fails if any call does not reach the log or its value is lost.
#[test]
fn calls_that_are_fast_enough_pass() {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let (log, report) =
        TimeoutLog::open(Timeouts::default(), move || Ok((GatedLog::with(&theirs), "report")))
            .unwrap();
    assert_eq!(report, "report");
    let log = SharedLog::new(log);
    assert_eq!(log.append("a").wait().unwrap(), seq(0));
    assert_eq!(log.append_batch(["b", "c"]).wait().unwrap(), seq(1)..seq(3));
    log.trim(Some(seq(1))).wait().unwrap();
    let mut txn = log.txn().wait().unwrap();
    assert_eq!(txn.append("d").unwrap(), seq(2));
    assert_eq!(txn.append_batch(["e"]).unwrap(), seq(3)..seq(4));
    txn.commit().wait().unwrap();
    log.txn().wait().unwrap().abort();
    log.compact(seq(1)).wait().unwrap();
    assert_eq!(payloads(log.iter(..)).unwrap(), ["b", "d", "e"]);
    assert_eq!(log.stats().entries, 3);
    log.close().wait().unwrap();
    TimeoutLog::<GatedLog>::destroy(Timeouts::default(), || Ok(())).unwrap();
    let refused = TimeoutLog::<GatedLog>::destroy(Timeouts::default(), || Err(LogError::Closed));
    assert!(matches!(refused, Err(LogError::Closed)));
}

/// 08timeout, too slow, each kind of write: its own time counts, and its own name is told. Fails if a kind has
/// another's time, if the effect is wrong, or if the late write is lost, or is not seen by what follows it.
#[test]
fn a_write_that_is_too_slow_may_still_happen() {
    let check = |name, set: Set, call: Call, after: &[&str]| {
        let (log, gate) = gated(set);
        log.append_batch(["a", "b"]).wait().unwrap();
        gate.shut("write");
        let call = begin(&gate, "write", call(&log));
        assert_timeout(call.wait(), name, Effect::Possible);
        assert_eq!(log.end(), seq(2));
        gate.open("write");
        // Its place is behind the late one.
        log.append_batch(["next"]).wait().unwrap();
        assert_eq!(contents(&log), after);
        log.close().wait().unwrap();
    };
    thread::scope(|scope| {
        let cases: [(_, Set, Call, &[&str]); 4] = [
            (
                "append",
                |timeouts| timeouts.append = Some(SHORT),
                |log| log.append_at(seq(2), "late"),
                &["a", "b", "late", "next"],
            ),
            (
                "trim",
                |timeouts| timeouts.trim = Some(SHORT),
                |log| log.trim(Some(seq(0))),
                &["a", "next"],
            ),
            (
                "compact",
                |timeouts| timeouts.compact = Some(SHORT),
                |log| log.compact(seq(1)),
                &["b", "next"],
            ),
            (
                "commit",
                |timeouts| timeouts.txn = Some(SHORT),
                |log| {
                    let mut txn = log.txn().wait().unwrap();
                    txn.append("late").unwrap();
                    txn.commit()
                },
                &["a", "b", "late", "next"],
            ),
        ];
        for (name, set, call, after) in cases {
            scope.spawn(move || check(name, set, call, after));
        }
        scope.spawn(|| {
            let (log, gate) = gated(|timeouts| timeouts.append_batch = Some(SHORT));
            gate.shut("write");
            let call = begin(&gate, "write", log.append_batch(["a", "b"]));
            assert_timeout(block_on(call), "append_batch", Effect::Possible);
            gate.open("write");
            assert_eq!(log.append("next").wait().unwrap(), seq(2));
        });
    });
}

/// 08timeout, too slow: opening and destroying. Fails if a log that opens too late stays open.
#[test]
fn what_opens_too_late_is_closed() {
    /// Tells when it is dropped, which is after the log beside it.
    struct Told(mpsc::Sender<()>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }

    let (gate, disk) = (Arc::new(Gate::default()), SimDisk::new());
    let (sender, dropped) = mpsc::channel();
    gate.shut("open");
    let (theirs, on) = (Arc::clone(&gate), disk.clone());
    let opened = TimeoutLog::open(Timeouts::all(SHORT), move || {
        theirs.pass("open");
        Ok((FsLog::open_on(&on, "x", options())?.0, Told(sender)))
    });
    assert_timeout(opened.map(drop), "open", Effect::Possible);
    gate.open("open");
    dropped.recv().unwrap();
    FsLog::open_on(&disk, "x", options()).unwrap();

    let (sender, receiver) = mpsc::channel::<()>();
    let mut timeouts = Timeouts::all(LONG);
    timeouts.destroy = Some(SHORT);
    let destroyed = TimeoutLog::<FsLog>::destroy(timeouts, move || {
        let _ = receiver.recv();
        Ok(())
    });
    assert_timeout(destroyed, "destroy", Effect::Possible);
    drop(sender);
}

/// 08timeout, too slow: closing. Fails if it hangs, or the log can be used as if it had failed.
#[test]
fn closing_that_is_too_slow_goes_on() {
    let (log, gate) = gated(|timeouts| timeouts.close = Some(SHORT));
    gate.shut("close");
    let closing = begin(&gate, "close", log.close());
    assert_timeout(closing.wait(), "close", Effect::Possible);
    assert!(matches!(log.append("x").wait(), Err(LogError::Closed)));
    gate.open("close");
    // The last handle does not hang either.
    drop(log);

    let (log, gate) = gated(|timeouts| timeouts.close = Some(SHORT));
    gate.shut("close");
    drop(log);
    gate.open("close");
}

/// 08timeout, too slow: reading, for each entry. Fails if an iterator hangs, ends silently, or the time of one
/// entry counts for the next.
#[test]
fn reading_has_its_time_for_each_entry() {
    let (log, gate) = gated(|timeouts| timeouts.iter = Some(SHORT));
    log.append_batch(["a", "b"]).wait().unwrap();
    let mut entries = log.iter(..).read_ahead_bytes(0);
    let mut stream = pin!(log.stream(..).read_ahead_bytes(0));
    let mut next = || block_on(poll_fn(|context| stream.as_mut().poll_next(context)));
    assert_eq!(entries.next().unwrap().unwrap().payload, "a");
    assert_eq!(next().unwrap().unwrap().payload, "a");
    gate.shut("read");
    assert_timeout(next().unwrap(), "iter", Effect::None);
    assert!(next().is_none());
    assert_timeout(entries.next().unwrap(), "iter", Effect::None);
    assert!(entries.next().is_none());
    gate.open("read");
    assert_eq!(payloads(log.iter(..)).unwrap(), ["a", "b"]);
}

/// The original's timed-out transaction is acquired later and never released: the log is dead. Fails if one
/// that was given up keeps its place.
#[test]
fn a_transaction_that_is_given_up_leaves_the_queue() {
    let (log, _gate) = gated(|timeouts| timeouts.txn = Some(SHORT));
    let mut open = log.txn().wait().unwrap();
    let (mut blocking, polled) = (log.txn(), log.txn());
    let after = log.append("after");
    assert!(poll_once(&mut blocking).is_pending());
    assert_timeout(block_on(polled), "txn", Effect::None);
    assert_timeout(blocking.wait(), "txn", Effect::None);
    open.append("in").unwrap();
    open.commit().wait().unwrap();
    assert_eq!(after.wait().unwrap(), seq(1));
    drop(log.txn().wait().unwrap());
}

/// Fails if a call that never left the queue happens after its caller was told otherwise.
#[test]
fn what_never_left_the_queue_never_happens() {
    let (log, gate) = gated(|timeouts| {
        (timeouts.append, timeouts.trim) = (Some(SHORT), Some(SHORT));
    });
    gate.shut("write");
    let slow = begin(&gate, "write", log.append_batch(["a", "b"]));
    let (waiting, mut polled, trim) = (log.append("x"), log.append("y"), log.trim(None));
    assert!(poll_once(&mut polled).is_pending());
    assert_timeout(waiting.wait(), "append", Effect::None);
    assert_timeout(block_on(polled), "append", Effect::None);
    assert_timeout(block_on(trim), "trim", Effect::None);
    gate.open("write");
    assert_eq!(block_on(slow).unwrap(), seq(0)..seq(2));
    assert_eq!(log.append_batch(["c"]).wait().unwrap(), seq(2)..seq(3));
    assert_eq!(contents(&log), ["a", "b", "c"]);
}

/// Fails if a transaction begins before the log knows what became of a write that is late.
#[test]
fn a_late_write_is_seen_before_what_follows() {
    let (log, gate) = gated(|timeouts| timeouts.append = Some(SHORT));
    gate.shut("write");
    let late = begin(&gate, "write", log.append("late"));
    assert_timeout(late.wait(), "append", Effect::Possible);
    let mut txn = log.txn();
    assert!(poll_once(&mut txn).is_pending());
    assert_eq!(log.end(), seq(0));
    gate.open("write");
    let mut txn = block_on(txn).unwrap();
    assert_eq!((txn.end(), log.end()), (seq(1), seq(1)));
    txn.append("next").unwrap();
    txn.commit().wait().unwrap();
    assert_eq!(contents(&log), ["late", "next"]);
}

/// As a node uses it. Fails if a call reaches the log beside one that is late, or what the late one did is not
/// seen.
#[test]
fn an_owner_sees_what_became_of_a_late_write() {
    let (log, gate) = GatedLog::new();
    let mut log = TimeoutLog::new(Timeouts::all(SHORT), log).unwrap();
    gate.shut("write");
    assert_timeout(log.append("late"), "append", Effect::Possible);
    assert_timeout(log.append("never"), "append", Effect::None);
    assert_timeout(log.append_batch(["n", "ever"]), "append_batch", Effect::None);
    assert_timeout(log.close(), "close", Effect::None);
    assert_eq!(log.end(), seq(0));
    gate.open("write");
    log.settle();
    assert_eq!(log.end(), seq(1));
    assert_eq!(log.append("next").unwrap(), seq(1));
    assert_eq!(payloads(log.iter(..)).unwrap(), ["late", "next"]);
    assert_eq!((log.last().unwrap().seq, log.restored().terms.end()), (seq(1), seq(2)));
    log.close().unwrap();
    assert!(matches!(log.append("x"), Err(LogError::Closed)));
}

/// The original rounds up to the next tenth of a second. Fails if a call is told early, or if none of many is
/// told within a few milliseconds.
#[test]
fn durations_are_exact() {
    let after = Duration::from_millis(20);
    let (log, _gate) = gated(|timeouts| timeouts.txn = Some(after));
    let _open = log.txn().wait().unwrap();
    let mut late = Vec::new();
    for n in 0..20 {
        let began = Instant::now();
        let txn = log.txn();
        let result = if n % 2 == 0 { txn.wait() } else { block_on(txn) };
        assert!(matches!(result, Err(LogError::Timeout { .. })));
        late.push(began.elapsed().checked_sub(after).unwrap());
    }
    assert!(*late.iter().min().unwrap() < Duration::from_millis(10), "{late:?}");
}

/// Fails if dropping returns before the log is gone, so that it can't be opened again yet.
#[test]
fn dropping_waits_for_the_log_to_be_gone() {
    let (log, gate) = GatedLog::new();
    let log = TimeoutLog::new(Timeouts::all(LONG), log).unwrap();
    gate.shut("drop");
    let theirs = Arc::clone(&gate);
    let opener = thread::spawn(move || {
        theirs.await_inside("drop");
        theirs.open("drop");
    });
    drop(log);
    assert!(gate.is_dropped());
    opener.join().unwrap();

    let disk = SimDisk::new();
    for _ in 0..3 {
        let on = disk.clone();
        let open = move || FsLog::open_on(&on, "x", options());
        let (mut log, _) = TimeoutLog::open(Timeouts::all(LONG), open).unwrap();
        log.append("a").unwrap();
    }
}
