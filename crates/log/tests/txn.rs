//! Transactions: the scenarios of the original's `03txn`, on every kind of log, and those it did not have.
//!
//! Its scenario 6, a second commit or abort, is a program that does not compile: see [`tinyraftplus_log::Txn`].

#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;
#[expect(dead_code, reason = "each test uses a part of it")]
mod kits;

use std::task::Poll;

use bytes::Bytes;
use kits::{GatedLog, block_on, contents, each, head, options, payloads, poll_once, seq};
use tinyraftplus_log::{
    Effect, FsLog, Log, LogError, LogExt, SharedLog,
    sim_disk::{SimDisk, SimRng},
};

/// 03txn 1 and 2. Fails if a transaction's work is not seen inside it, or is seen outside, or survives an
/// abort.
#[test]
fn own_work_is_seen_inside_and_kept_by_commit_only() {
    each(|kit| {
        let log = kit.open();
        let mut txn = log.txn().wait().unwrap();
        assert_eq!(txn.append("a").unwrap(), seq(0));
        assert_eq!((txn.end(), txn.head().unwrap().unwrap().payload), (seq(1), Bytes::from("a")));
        assert_eq!((log.end(), head(&log)), (seq(0), None));
        txn.commit().wait().unwrap();
        assert_eq!((log.end(), head(&log)), (seq(1), Some("a".into())));

        let mut txn = log.txn().wait().unwrap();
        assert_eq!(txn.append("b").unwrap(), seq(1));
        assert_eq!(txn.append_batch(["c", "d"]).unwrap(), seq(2)..seq(4));
        assert_eq!(txn.end(), seq(4));
        txn.abort();
        assert_eq!((log.end(), head(&log)), (seq(1), Some("a".into())));

        let mut txn = log.txn().wait().unwrap();
        assert_eq!(txn.append_batch(["e", "f"]).unwrap(), seq(1)..seq(3));
        txn.commit().wait().unwrap();
        assert_eq!(contents(&log), ["a", "e", "f"]);
        let mut txn = log.txn().wait().unwrap();
        txn.append_batch(["g", "h"]).unwrap();
        drop(txn);
        assert_eq!((log.end(), head(&log)), (seq(3), Some("f".into())));
        assert_eq!(log.append("i").wait().unwrap(), seq(3));
    });
}

/// 03txn 3. Fails if a transaction is forgotten on closing, or takes other seqs.
#[test]
fn appends_and_transactions_take_turns_across_reopening() {
    each(|kit| {
        let log = kit.open();
        assert_eq!(log.append("0").wait().unwrap(), seq(0));
        let mut txn = log.txn().wait().unwrap();
        assert_eq!(txn.append("1").unwrap(), seq(1));
        assert_eq!(txn.append("2").unwrap(), seq(2));
        txn.commit().wait().unwrap();
        let log = if kit.keeps {
            log.close().wait().unwrap();
            kit.open()
        } else {
            log
        };
        assert_eq!((log.end(), head(&log)), (seq(3), Some("2".into())));
        let mut txn = log.txn().wait().unwrap();
        assert_eq!(txn.append("3").unwrap(), seq(3));
        txn.commit().wait().unwrap();
        assert_eq!(log.append("4").wait().unwrap(), seq(4));
        assert_eq!(contents(&log), ["0", "1", "2", "3", "4"]);
    });
}

/// 03txn 4. Fails if a call passes an open transaction, or those that waited change places.
#[test]
fn calls_wait_for_an_open_transaction_and_keep_their_order() {
    each(|kit| {
        let log = kit.open();
        let mut txn = log.txn().wait().unwrap();
        for n in 0..3_u8 {
            txn.append(vec![n]).unwrap();
        }
        let (mut third, mut fourth) = (log.append("3"), log.append("4"));
        assert!(poll_once(&mut third).is_pending() && poll_once(&mut fourth).is_pending());
        assert_eq!(log.end(), seq(0));
        txn.commit().wait().unwrap();
        assert_eq!(block_on(fourth).unwrap(), seq(4));
        assert_eq!(block_on(third).unwrap(), seq(3));
        assert_eq!(log.end(), seq(5));
    });
}

/// Transactions and calls that wait for each other are served in the order in which they came. Fails if
/// waiting transactions are passed by, or two are open at once.
#[test]
fn transactions_queue_fairly_with_other_calls() {
    each(|kit| {
        let log = kit.open();
        let first = log.txn().wait().unwrap();
        let before = log.append("before");
        let mut second = log.txn();
        let mut third = log.txn();
        let after = log.append("after");
        assert!(poll_once(&mut second).is_pending() && poll_once(&mut third).is_pending());
        first.commit().wait().unwrap();
        assert_eq!(before.wait().unwrap(), seq(0));
        let mut txn = second.wait().unwrap();
        assert!(poll_once(&mut third).is_pending());
        assert_eq!(txn.append("second").unwrap(), seq(1));
        txn.commit().wait().unwrap();
        let mut txn = block_on(third).unwrap();
        assert_eq!(txn.append("third").unwrap(), seq(2));
        drop(txn);
        assert_eq!(after.wait().unwrap(), seq(2));
        assert_eq!(contents(&log), ["before", "second", "after"]);
    });
}

/// 03txn 5. Fails if closing cuts an open transaction off, or does not wait for it.
#[test]
fn closing_waits_for_an_open_transaction() {
    each(|kit| {
        let log = kit.open();
        let mut txn = log.txn().wait().unwrap();
        txn.append("a").unwrap();
        let mut closing = log.close();
        assert!(poll_once(&mut closing).is_pending() && !log.is_open());
        assert!(matches!(log.append("x").wait(), Err(LogError::Closed)));
        txn.append("b").unwrap();
        assert!(poll_once(&mut closing).is_pending());
        txn.commit().wait().unwrap();
        block_on(closing).unwrap();
        if kit.keeps {
            assert_eq!(contents(&kit.open()), ["a", "b"]);
        }
    });
}

/// 03txn 7, but for the last step: here an abort takes the trim back too. Fails if a trim inside is forgotten
/// by commit, or survives an abort.
#[test]
fn trims_inside_are_part_of_it() {
    each(|kit| {
        let log = kit.open();
        let trim = |keep| {
            let mut txn = log.txn().wait().unwrap();
            txn.trim(keep).unwrap();
            txn
        };
        log.append_batch(["a", "b", "c"]).wait().unwrap();
        let txn = trim(None);
        assert_eq!((txn.end(), txn.head().unwrap()), (seq(0), None));
        txn.commit().wait().unwrap();
        assert_eq!((log.end(), head(&log)), (seq(0), None));

        log.append_batch(["a", "b", "c"]).wait().unwrap();
        log.trim(Some(seq(0))).wait().unwrap();
        assert_eq!(head(&log), Some("a".into()));
        log.append_batch(["d", "e"]).wait().unwrap();
        let mut txn = trim(Some(seq(1)));
        assert_eq!(txn.append("f").unwrap(), seq(2));
        assert_eq!(contents(&log), ["a", "d", "e"]);
        txn.commit().wait().unwrap();
        assert_eq!(contents(&log), ["a", "d", "f"]);

        let mut txn = trim(Some(seq(0)));
        txn.append("g").unwrap();
        txn.abort();
        assert_eq!(contents(&log), ["a", "d", "f"]);
        assert_eq!(log.append("h").wait().unwrap(), seq(3));
    });
}

/// Fails if a trim below what the transaction added drops more than that, or leaves half a batch without an
/// end.
#[test]
fn trims_cut_its_own_work_first() {
    each(|kit| {
        let log = kit.open();
        log.append_batch(["a", "b"]).wait().unwrap();
        let mut txn = log.txn().wait().unwrap();
        txn.append_batch(["c", "d", "e"]).unwrap();
        txn.trim(Some(seq(9))).unwrap();
        assert_eq!(txn.end(), seq(5));
        txn.trim(Some(seq(3))).unwrap();
        assert_eq!(
            txn.head().unwrap().map(|entry| (entry.ends_batch, entry.payload)),
            Some((true, "d".into()))
        );
        txn.commit().wait().unwrap();
        assert_eq!(contents(&log), ["a", "b", "c", "d"]);
        let ends: Vec<bool> = log.iter(..).map(|entry| entry.unwrap().ends_batch).collect();
        assert_eq!(ends, [false, true, false, true]);

        let mut txn = log.txn().wait().unwrap();
        txn.append("e").unwrap();
        txn.trim(Some(seq(1))).unwrap();
        txn.trim(Some(seq(2))).unwrap();
        assert_eq!(txn.append("f").unwrap(), seq(2));
        txn.commit().wait().unwrap();
        assert_eq!(contents(&log), ["a", "b", "f"]);
    });
}

/// Fails if a transaction's iterator does not see what it did, or sees what it did later.
#[test]
fn its_iterators_see_its_own_work() {
    each(|kit| {
        let log = kit.open();
        log.append_batch(["a", "b", "c"]).wait().unwrap();
        let mut txn = log.txn().wait().unwrap();
        txn.trim(Some(seq(1))).unwrap();
        txn.append_batch(["d", "e"]).unwrap();
        let entries = txn.iter(..);
        txn.append("f").unwrap();
        assert_eq!(payloads(entries).unwrap(), ["a", "b", "d", "e"]);
        assert_eq!(payloads(txn.iter(seq(1)..seq(3))).unwrap(), ["b", "d"]);
        assert_eq!(payloads(txn.iter(seq(3)..)).unwrap(), ["e", "f"]);
        assert_eq!(payloads(txn.iter(seq(5)..)).unwrap(), [""; 0]);
        assert_eq!(payloads(log.iter(..)).unwrap(), ["a", "b", "c"]);
        let late = txn.iter(..);
        txn.abort();
        assert_eq!(payloads(late).unwrap(), ["a", "b", "d", "e", "f"]);
    });
}

/// `bad_argument_blocks_log`, inside. Fails if a refused call changes what it works on.
#[test]
fn a_refused_call_changes_nothing() {
    each(|kit| {
        let log = kit.open();
        let large = vec![0; 4 << 20];
        let mut txn = log.txn().wait().unwrap();
        txn.append("a").unwrap();
        assert!(matches!(txn.append_batch([""; 0]), Err(LogError::Empty)));
        assert!(matches!(
            txn.append_at(seq(7), "x"),
            Err(LogError::WrongSeq { expected, got }) if (expected, got) == (seq(1), seq(7))
        ));
        let refused = txn.append_batch(["x".into(), large.clone()]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a transaction of 4194306 bytes is over the limit of 4194304"
        );
        assert_eq!(refused.effect(), Effect::None);
        assert_eq!(txn.end(), seq(1));
        // What was trimmed makes room again.
        txn.trim(None).unwrap();
        txn.append(large).unwrap();
        txn.trim(None).unwrap();
        txn.append_at(seq(0), "b").unwrap();
        txn.commit().wait().unwrap();
        assert_eq!(contents(&log), ["b"]);
    });
}

/// Fails if a transaction that nobody wants any more keeps its place.
#[test]
fn a_transaction_that_nobody_takes_holds_up_nobody() {
    each(|kit| {
        let log = kit.open();
        let open = log.txn().wait().unwrap();
        let waiting = log.txn();
        let append = log.append("a");
        drop(waiting);
        drop(open);
        assert_eq!(append.wait().unwrap(), seq(0));
        // Granted, and never looked at.
        drop(log.txn());
        assert_eq!(log.append("b").wait().unwrap(), seq(1));
    });
}

/// Fails if commit and those who waited for it take more than one write.
#[test]
fn a_commit_takes_those_who_waited_along() {
    let (log, gate) = GatedLog::new();
    let log = SharedLog::new(log);
    let mut txn = log.txn().wait().unwrap();
    let waiting: Vec<_> = (0..8).map(|n| log.append(vec![n])).collect();
    txn.append_batch(["x", "y"]).unwrap();
    txn.commit().wait().unwrap();
    for (n, waiting) in (2..).zip(waiting) {
        assert_eq!(waiting.wait().unwrap(), seq(n));
    }
    assert_eq!(gate.groups(), [10]);
}

/// Fails if any of a transaction can be found without the rest, however the process or the power ends it: its
/// trim and its appends must be one write.
#[test]
fn killed_at_any_point_it_is_whole_or_absent() {
    let before = ["a", "b", "c"].map(Bytes::from).to_vec();
    let large = Bytes::from(vec![7; 300 << 10]);
    let after = vec!["a".into(), "d".into(), "e".into(), large.clone()];
    let (mut whole, mut absent) = (0, 0);
    for crash_after in 0.. {
        let disk = SimDisk::new();
        let (mut log, _) = FsLog::open_on(&disk, "txn", options()).unwrap();
        log.append_batch(before.clone()).unwrap();
        let log = SharedLog::new(log);
        let mut txn = log.txn().wait().unwrap();
        txn.trim(Some(seq(0))).unwrap();
        txn.append_batch(["d", "e"]).unwrap();
        txn.append(large.clone()).unwrap();
        disk.crash_after(crash_after);
        let committed = txn.commit().wait().is_ok();
        for disk in common::outcomes(&disk, 40, crash_after) {
            let (log, _) = FsLog::open_on(&disk, "txn", options()).unwrap();
            let found = payloads(log.iter(..)).unwrap();
            assert!(found == after || found == before && !committed, "{} entries", found.len());
            whole += u64::from(found == after);
            absent += u64::from(found == before);
        }
        if committed {
            break;
        }
    }
    assert!(whole > 1 && absent > 1, "{whole} {absent}");
}

/// Fails if what was never committed can be found after a restart.
#[test]
fn killed_before_commit_it_is_absent() {
    let disk = SimDisk::new();
    let (log, _) = FsLog::open_on(&disk, "txn", options()).unwrap();
    let log = SharedLog::new(log);
    log.append("a").wait().unwrap();
    let mut txn = log.txn().wait().unwrap();
    txn.trim(None).unwrap();
    txn.append("b").unwrap();
    disk.power_loss(&mut SimRng::new(1));
    let (found, _) = FsLog::open_on(&disk, "txn", options()).unwrap();
    assert_eq!(payloads(found.iter(..)).unwrap(), ["a"]);
    assert!(matches!(txn.commit().wait(), Err(error) if error.effect() == Effect::Possible));
    assert_eq!(found.stats().entries, 1);
}

/// Fails if a commit that fails leaves the queue standing.
#[test]
fn a_failed_commit_lets_the_others_know() {
    let (log, gate) = GatedLog::new();
    let log = SharedLog::new(log);
    let mut txn = log.txn().wait().unwrap();
    txn.append("a").unwrap();
    let mut waiting = log.append("b");
    let mut next = log.txn();
    assert!(matches!(poll_once(&mut waiting), Poll::Pending));
    gate.fail_write(std::io::ErrorKind::Other);
    assert_eq!(txn.commit().wait().unwrap_err().effect(), Effect::Possible);
    assert_eq!(block_on(waiting).unwrap_err().effect(), Effect::Possible);
    assert!(matches!(poll_once(&mut next), Poll::Ready(Err(LogError::Poisoned))));
    assert!(matches!(log.txn().wait(), Err(LogError::Poisoned)));
    log.close().wait().unwrap();
}
