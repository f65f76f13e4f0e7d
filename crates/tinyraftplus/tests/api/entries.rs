//! Reading what is committed: ranges, and the endless end of the log.

use crate::common::{close, describe, quick, soon};
use tinyraftplus::{
    EntriesError, EntryKind, FsLog, InProcess, Log, LogOptions, MultiFsLog, RaftNode, Seq,
    StopReason, log::Write,
};

/// All kinds of ranges, across the limits of one read: each entry once, in order, with what it is for.
#[tokio::test(flavor = "multi_thread")]
async fn ranges() {
    let node = soon("open", describe(&InProcess::new(), 1, &[1]).open()).await.unwrap();
    // More entries than one read has, and more bytes.
    let many = vec![""; 5000];
    soon("a batch", node.append_batch(many)).await.unwrap();
    for size in [900_000, 900_000, 3_000_000] {
        soon("an append", node.append(vec![7; size])).await.unwrap();
    }
    let seq = Seq::new;
    let all = soon("all", node.entries(..).all()).await.unwrap();
    let seqs: Vec<u64> = all.iter().map(|entry| entry.seq.get()).collect();
    assert_eq!(seqs, (0..5004).collect::<Vec<_>>());
    assert_eq!((all[0].kind, all[1].kind), (EntryKind::Noop, EntryKind::Payload));
    assert!(all.iter().all(|entry| entry.term == node.status().term));
    assert_eq!(all[5003].payload.len(), 3_000_000);
    for (range, expected) in [
        (node.entries(seq(2)..=seq(4)), 2..5),
        (node.entries(..seq(3)), 0..3),
        (node.entries(seq(5000)..), 5000..5004),
        (node.entries(seq(9)..seq(9)), 9..9),
        (node.entries(seq(5004)..), 5004..5004),
    ] {
        let entries = soon("a range", range.all()).await.unwrap();
        let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq.get()).collect();
        assert_eq!(seqs, expected.collect::<Vec<_>>());
    }
    let mut beyond = node.entries(seq(5003)..seq(5005));
    let error = soon("an error", beyond.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, EntriesError::NotCommitted { seq, end } if seq == end), "{error}");
    assert!(soon("the end", beyond.next()).await.is_none(), "an error is the last item");
    close(std::slice::from_ref(&node)).await;
    let error = soon("an error", node.entries(seq(0)..seq(1)).next()).await.unwrap();
    assert!(matches!(error, Err(EntriesError::Stopped(StopReason::Closed))));
}

/// Readers of the end of the log, on all nodes, while clients append: each has each entry once, in order, until the node is
/// closed, and hears that it is. Fails if `committed_after` does not announce that it watches: nobody wakes it then.
#[tokio::test(flavor = "multi_thread")]
async fn tails() {
    let (net, mut nodes) = (InProcess::new(), Vec::new());
    for id in 1..=3 {
        nodes.push(soon("open", describe(&net, id, &[1, 2, 3]).open()).await.unwrap());
    }
    let read = |node: &RaftNode| {
        let mut tail = node.tail(Seq::ZERO);
        tokio::spawn(async move {
            let mut payloads = Vec::new();
            loop {
                match soon("the tail goes on", tail.next()).await.unwrap() {
                    Ok(entry) => {
                        assert_eq!(entry.seq.get(), payloads.len() as u64);
                        payloads.push(entry.payload);
                    }
                    Err(error) => {
                        assert!(matches!(error, EntriesError::Stopped(StopReason::Closed)));
                        assert!(soon("the end", tail.next()).await.is_none());
                        return payloads;
                    }
                }
            }
        })
    };
    let tails: Vec<_> = nodes.iter().map(read).collect();
    let mut last = Seq::ZERO;
    for number in 0..50_usize {
        let appended = nodes[number % 3].append(number.to_string());
        last = soon("an append", appended).await.unwrap().seq;
    }
    crate::common::all_have(&nodes, last).await;
    for node in &nodes {
        // What is committed is read before it is closed.
        let read = soon("all", node.entries(..).all()).await.unwrap();
        assert!(read.len() as u64 > last.get());
    }
    let ends: Vec<Vec<_>> = {
        let mut late = Vec::new();
        for node in &nodes {
            let mut tail = node.tail(Seq::new(1));
            assert_eq!(soon("the first", tail.next()).await.unwrap().unwrap().payload, "0");
            late.push(tail);
        }
        close(&nodes).await;
        drop(late);
        let mut ends = Vec::new();
        for tail in tails {
            ends.push(soon("the end of the tail", tail).await.unwrap());
        }
        ends
    };
    for payloads in ends {
        let users: Vec<_> = payloads.into_iter().filter(|payload| !payload.is_empty()).collect();
        let expected: Vec<String> = (0..50).map(|number: u32| number.to_string()).collect();
        assert!(users.len() <= 50 && users.iter().zip(&expected).all(|(a, b)| a == b.as_str()));
    }
}

/// A tail that waits for an entry hears of the end of its node, also if nobody else watches it.
#[tokio::test]
async fn a_tail_that_waits_ends_with_its_node() {
    let node = soon("open", describe(&InProcess::new(), 1, &[1]).open()).await.unwrap();
    soon("a leader", node.await_leader()).await.unwrap();
    let mut tail = node.tail(Seq::new(7));
    let waits = tokio::spawn(async move { (tail.next().await, tail.next().await.is_none()) });
    tokio::task::yield_now().await;
    drop(node);
    let (last, is_over) = soon("the end", waits).await.unwrap();
    assert!(matches!(last, Some(Err(EntriesError::Stopped(_)))) && is_over, "{last:?}");
}

/// A log that begins later says so by name, to a range and to a tail.
#[tokio::test]
async fn what_is_gone_is_said_to_be_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let open = move || {
        let (mut log, _) = MultiFsLog::open(path, "log", LogOptions::default())?;
        if log.bounds().end > Seq::new(3) {
            // As a compaction does.
            log.write(&[Write { compact: Some(Seq::new(3)), ..Write::default() }])?;
        }
        Ok(log)
    };
    let node = quick(RaftNode::builder(1, [1])).log(open.clone()).open();
    let node = soon("open", node).await.unwrap();
    soon("a batch", node.append_batch(["a", "b", "c", "d"])).await.unwrap();
    close(&[node]).await;
    let node = soon("open", quick(RaftNode::builder(1, [1])).log(open).open()).await.unwrap();
    soon("a read", node.read("")).await.unwrap();
    for mut entries in [node.entries(Seq::ZERO..Seq::new(4)), node.tail(Seq::ZERO)] {
        let error = soon("an error", entries.next()).await.unwrap().unwrap_err();
        let EntriesError::Compacted { seq, start } = error else { panic!("{error}") };
        assert_eq!((seq, start), (Seq::ZERO, Seq::new(3)));
    }
    let rest = soon("the rest", node.entries(..).all()).await.unwrap();
    assert_eq!((rest[0].seq, &rest[0].payload), (Seq::new(3), &"c".into()));
    close(&[node]).await;
    // And the file is free.
    FsLog::open(dir.path(), "other", LogOptions::default()).unwrap();
}
