//! Iterators and streams: the scenarios of the original's `04iter`, on every kind of log, and more.

#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "many callers are many threads")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod kits;

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread,
};

use bytes::Bytes;
use futures_core::Stream;
use kits::{GatedLog, Kit, block_on, each, payloads, seq};
use tinyraftplus_log::{EntryStream, LogEntry, LogError, SharedLog};

/// A log with three entries of different sizes.
fn three(kit: &Kit) -> SharedLog {
    let log = kit.open();
    for payload in ["a", "bbb", "cc"] {
        log.append(payload).wait().unwrap();
    }
    log
}

/// All payloads of a stream, or how it ended.
fn collect(stream: EntryStream) -> Result<Vec<Bytes>, LogError> {
    let mut stream = pin!(stream);
    let mut all = Vec::new();
    while let Some(entry) = block_on(poll_fn(|context| stream.as_mut().poll_next(context))) {
        all.push(entry?.payload);
    }
    Ok(all)
}

/// 04iter 1 to 3 and 10. Fails if a range is not what it says.
#[test]
fn gives_the_entries_of_a_range() {
    each(|kit| {
        let log = three(kit);
        for (range, expected) in [
            (seq(0)..seq(9), &["a", "bbb", "cc"][..]),
            (seq(1)..seq(9), &["bbb", "cc"]),
            (seq(1)..seq(2), &["bbb"]),
            (seq(3)..seq(9), &[]),
            (seq(2)..seq(1), &[]),
        ] {
            assert_eq!(payloads(log.iter(range.clone())).unwrap(), expected);
            assert_eq!(collect(log.stream(range)).unwrap(), expected);
        }
        assert_eq!(payloads(log.iter(..=seq(1))).unwrap(), ["a", "bbb"]);
        log.trim(Some(seq(0))).wait().unwrap();
        assert_eq!(payloads(log.iter(..)).unwrap(), ["a"]);
    });
}

/// 04iter 4 to 7. Fails if entries are lost or doubled where one read ends and the next begins.
#[test]
fn reads_ahead_as_little_as_asked() {
    each(|kit| {
        let log = three(kit);
        for bytes in [0, 1, 2, 3, 4, 5, 6, 1 << 20] {
            let all = ["a", "bbb", "cc"];
            assert_eq!(payloads(log.iter(..).read_ahead_bytes(bytes)).unwrap(), all);
            assert_eq!(collect(log.stream(..).read_ahead_bytes(bytes)).unwrap(), all);
        }
    });
}

/// 04iter 8, where the original ends silently. Fails if an iterator ends as if it had seen all, or goes on
/// with what it read ahead.
#[test]
fn ends_with_an_error_when_the_log_is_closed() {
    each(|kit| {
        let log = three(kit);
        let (mut entries, untouched) = (log.iter(..), log.iter(..));
        let mut stream = pin!(log.stream(..));
        let mut next = || block_on(poll_fn(|context| stream.as_mut().poll_next(context)));
        assert_eq!(entries.next().unwrap().unwrap().payload, "a");
        assert_eq!(next().unwrap().unwrap().payload, "a");
        log.close().wait().unwrap();
        assert!(matches!(entries.next(), Some(Err(LogError::Closed))));
        assert!(entries.next().is_none());
        assert!(matches!(next(), Some(Err(LogError::Closed))));
        assert!(next().is_none());
        assert!(matches!(payloads(untouched), Err(LogError::Closed)));
        assert!(matches!(payloads(log.iter(..)), Err(LogError::Closed)));
        assert!(matches!(collect(log.stream(..)), Err(LogError::Closed)));
        assert!(matches!(log.head(), Err(LogError::Closed)));
    });
}

/// 04iter 9. Fails if an iterator sees what came after it.
#[test]
fn does_not_see_what_is_appended_later() {
    each(|kit| {
        let log = three(kit);
        let (entries, stream) = (log.iter(..), log.stream(..));
        log.append("later").wait().unwrap();
        assert_eq!(payloads(entries).unwrap(), ["a", "bbb", "cc"]);
        assert_eq!(collect(stream).unwrap(), ["a", "bbb", "cc"]);
    });
}

/// 04iter 11. Fails if one that was left early holds anything up.
#[test]
fn may_be_left_early() {
    each(|kit| {
        let log = three(kit);
        let mut left = Vec::new();
        for _ in 0..100 {
            let mut entries = log.iter(..);
            assert!(entries.next().unwrap().is_ok());
            left.push(entries);
        }
        log.trim(None).wait().unwrap();
        log.append("d").wait().unwrap();
        drop(left);
        log.close().wait().unwrap();
    });
}

/// 04iter 12. Fails if a read that fails looks like the end of the log.
#[test]
fn a_read_that_fails_is_an_error_and_then_the_end() {
    let (log, gate) = GatedLog::new();
    let log = SharedLog::new(log);
    log.append("a").wait().unwrap();
    let mut stream = pin!(log.stream(..));
    gate.panic_in("read");
    let mut next = || block_on(poll_fn(|context| stream.as_mut().poll_next(context)));
    assert!(matches!(next(), Some(Err(LogError::Panicked { op: "read", .. }))));
    assert!(next().is_none());
    // The reading thread lives on.
    assert_eq!(collect(log.stream(..)).unwrap(), ["a"]);
}

/// 04iter 13 and 14, where the original ends silently. Fails if an iterator gives what was dropped, or what
/// took its place, or ends as if it had seen all.
#[test]
fn ends_with_an_error_when_its_entries_are_trimmed() {
    each(|kit| {
        for keep in [None, Some(seq(0)), Some(seq(1))] {
            let log = three(kit);
            let (mut entries, untouched) = (log.iter(..), log.iter(..));
            let stream = log.stream(..);
            assert_eq!(entries.next().unwrap().unwrap().payload, "a");
            log.trim(keep).wait().unwrap();
            // Other entries have these seqs now.
            log.append_batch(["x", "y", "z"]).wait().unwrap();
            for ended in [payloads(entries), payloads(untouched), collect(stream)] {
                assert!(matches!(ended, Err(LogError::Trimmed { .. })), "{ended:?}");
            }
            log.trim(None).wait().unwrap();
            log.close().wait().unwrap();
        }
    });
}

/// 04iter 15 and 16. Fails if a trim above its end disturbs an iterator.
#[test]
fn a_trim_above_its_end_is_nothing_to_it() {
    each(|kit| {
        let log = three(kit);
        let mut entries = log.iter(..);
        entries.next().unwrap().unwrap();
        let stream = log.stream(..);
        log.append_batch(["d", "e", "f"]).wait().unwrap();
        log.trim(Some(seq(3))).wait().unwrap();
        log.trim(Some(seq(2))).wait().unwrap();
        assert_eq!(payloads(entries).unwrap(), ["bbb", "cc"]);
        assert_eq!(collect(stream).unwrap(), ["a", "bbb", "cc"]);
    });
}

/// 04iter 17 to 19. Fails if batches or empty payloads read differently.
#[test]
fn gives_batches_and_empty_payloads() {
    each(|kit| {
        let log = three(kit);
        log.append_batch(["", "e"]).wait().unwrap();
        assert_eq!(payloads(log.iter(..)).unwrap(), ["a", "bbb", "cc", "", "e"]);
        log.trim(None).wait().unwrap();
        for payload in ["", "b", ""] {
            log.append(payload).wait().unwrap();
        }
        assert_eq!(collect(log.stream(..)).unwrap(), ["", "b", ""]);
        log.trim(None).wait().unwrap();
        log.append_batch(["", "", ""]).wait().unwrap();
        assert_eq!(payloads(log.iter(..)).unwrap(), ["", "", ""]);
    });
}

/// Fails if an open iterator holds up a writer, or a write inside its loop waits for the loop.
#[test]
fn iterator_blocks_writer() {
    each(|kit| {
        let log = three(kit);
        let mut paused = log.iter(..);
        paused.next().unwrap().unwrap();
        let mut stream = pin!(log.stream(..));
        block_on(poll_fn(|context| stream.as_mut().poll_next(context))).unwrap().unwrap();
        for entry in log.iter(..) {
            log.append(entry.unwrap().payload).wait().unwrap();
            let mut txn = log.txn().wait().unwrap();
            txn.append("t").unwrap();
            txn.commit().wait().unwrap();
        }
        assert_eq!(log.end(), seq(9));
        assert_eq!(payloads(paused).unwrap(), ["bbb", "cc"]);
    });
}

/// The same while a read hangs on its disk. Fails if a reader and a writer share anything that either waits
/// for.
#[test]
fn a_read_that_hangs_holds_up_no_writer() {
    let (log, gate) = GatedLog::new();
    let log = SharedLog::new(log);
    log.append("a").wait().unwrap();
    gate.shut("read");
    let (blocked, stream) = (log.iter(..), log.stream(..));
    let reader = thread::spawn(move || payloads(blocked));
    let streamer = thread::spawn(move || collect(stream));
    gate.await_inside("read");
    assert_eq!(log.append("b").wait().unwrap(), seq(1));
    assert_eq!(log.head().unwrap().map(|entry| entry.payload), Some("b".into()));
    gate.open("read");
    assert_eq!(reader.join().unwrap().unwrap(), ["a"]);
    assert_eq!(streamer.join().unwrap().unwrap(), ["a"]);
}

struct Flag(AtomicBool, mpsc::SyncSender<()>);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
        let _ = self.1.try_send(());
    }
}

/// Fails if a stream blocks the task that polls it, wakes another than the newest one that polled, or reads
/// on for nobody.
#[test]
fn a_stream_never_blocks_its_task() {
    let (log, gate) = GatedLog::new();
    let log = SharedLog::new(log);
    log.append_batch(["a", "b"]).wait().unwrap();
    gate.shut("read");
    let mut stream = log.stream(..).read_ahead_bytes(0);
    let (sender, woken) = mpsc::sync_channel(8);
    let flags = [0, 1].map(|_| Arc::new(Flag(AtomicBool::new(false), sender.clone())));
    let mut poll = |flag: &Arc<Flag>| {
        let waker = Waker::from(Arc::clone(flag));
        pin!(&mut stream).poll_next(&mut Context::from_waker(&waker))
    };
    let payload = |polled: Poll<Option<Result<LogEntry, LogError>>>| match polled {
        Poll::Ready(Some(entry)) => Some(entry.unwrap().payload),
        Poll::Ready(None) | Poll::Pending => None,
    };
    let [old, new] = &flags;
    assert!(poll(old).is_pending() && poll(new).is_pending());
    gate.await_inside("read");
    gate.open("read");
    woken.recv().unwrap();
    assert!(new.0.load(Ordering::Acquire) && !old.0.load(Ordering::Acquire));
    assert_eq!(payload(poll(new)), Some("a".into()));
    gate.shut("read");
    assert!(poll(new).is_pending());
    gate.await_inside("read");
    drop(stream);
    gate.open("read");
    // The thread is free for others.
    assert_eq!(collect(log.stream(..)).unwrap(), ["a", "b"]);
}
