//! Appends and reads: how many at once, and when there is nobody to take them.

use std::time::Duration;

use tinyraftplus::{AppendError, Effect, InProcess, RaftNode, ReadError, Refused, Seq, StopReason};

use crate::common::{Counter, all_have, close, describe, leader, payloads, quick, soon};

async fn three() -> Vec<RaftNode> {
    let (net, mut nodes) = (InProcess::new(), Vec::new());
    for id in 1..=3 {
        let node = describe(&net, id, &[1, 2, 3]).state_machine(Counter::default);
        nodes.push(soon("open", node.open()).await.unwrap());
    }
    nodes
}

/// `concurrent_appends_rejected`: 64 appends at once on one node, the leader and then a follower: all are committed, each
/// once, in the order of the calls. The original rejects 63 of them, and commits all.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_appends_rejected() {
    let nodes = three().await;
    let at = leader(&nodes).await;
    let (mut expected, mut last) = (Vec::new(), Seq::ZERO);
    for (who, node) in [("leader", &nodes[at]), ("follower", &nodes[(at + 1) % 3])] {
        let mut calls = tokio::task::JoinSet::new();
        let (began, mut begins) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..64 {
            let (node, began) = (node.clone(), began.clone());
            calls.spawn(async move {
                let mut call = std::pin::pin!(node.append(format!("{who} {number}")));
                let mut began = Some(began);
                let appended = std::future::poll_fn(|context| {
                    let polled = call.as_mut().poll(context);
                    // Its place is that of its first poll.
                    if let Some(began) = began.take() {
                        began.send(()).unwrap();
                    }
                    polled
                });
                (number, appended.await.unwrap())
            });
            // So that the next one is called after this one.
            begins.recv().await.unwrap();
        }
        let mut seqs = vec![Seq::ZERO; 64];
        while let Some(call) = soon("64 appends", calls.join_next()).await {
            let (number, appended) = call.unwrap();
            seqs[number] = appended.seq;
        }
        assert!(seqs.is_sorted_by(|a, b| a < b), "{who}: {seqs:?}");
        last = *seqs.last().unwrap();
        expected.extend((0..64).map(|number| format!("{who} {number}")));
    }
    all_have(&nodes, last).await;
    for node in &nodes {
        assert_eq!(payloads(node).await, expected);
    }
    close(&nodes).await;
}

/// The same with batches and single appends mixed, polled by one task at once.
#[tokio::test(flavor = "multi_thread")]
async fn batches_at_once_stay_whole() {
    let nodes = three().await;
    let node = &nodes[(leader(&nodes).await + 1) % 3];
    let calls = (0..32).map(|number| {
        let node = node.clone();
        tokio::spawn(async move {
            let batch = (0..=number % 5).map(|part| format!("{number}.{part}"));
            (number, node.append_batch(batch).await.unwrap())
        })
    });
    let mut batches = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        batches.push(soon("a batch", call).await.unwrap());
    }
    // What a follower was answered, it need not know to be committed yet: a read waits for that.
    soon("a read", node.read("")).await.unwrap();
    for (number, batch) in &batches {
        let entries = soon("it", node.entries(batch.seqs.clone()).all()).await.unwrap();
        let parts: Vec<_> = entries.into_iter().map(|entry| entry.payload).collect();
        let expected: Vec<_> = (0..=number % 5).map(|part| format!("{number}.{part}")).collect();
        assert_eq!(parts, expected);
        let results: Vec<u64> = batch
            .results
            .iter()
            .map(|r| std::str::from_utf8(r).unwrap().parse().unwrap())
            .collect();
        assert_eq!(results.len(), expected.len());
        assert!(results.is_sorted_by(|a, b| a + 1 == *b), "applied together: {results:?}");
    }
    close(&nodes).await;
}

/// Without a leader a call waits within its deadline, and is refused then: it never left. With `fail_fast` it is refused at
/// once. Fails if `fail_fast` does not get through to the replica.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_leader() {
    for fail_fast in [false, true] {
        let builder = describe(&InProcess::new(), 1, &[1, 2, 3]).fail_fast(fail_fast);
        // With fail_fast nobody waits so long.
        let time = if fail_fast { Duration::from_hours(9) } else { Duration::from_millis(80) };
        let builder = builder.append_timeout(time).read_timeout(time);
        let node = soon("open", builder.open()).await.unwrap();
        let error = soon("an append", node.append("x")).await.unwrap_err();
        assert_eq!(error.effect(), Effect::None);
        match (fail_fast, error) {
            (false, AppendError::Refused(Refused::Deadline))
            | (true, AppendError::Refused(Refused::NoLeader)) => {}
            other => panic!("{other:?}"),
        }
        match (fail_fast, soon("a read", node.read("")).await.unwrap_err()) {
            (false, ReadError::Refused(Refused::Deadline))
            | (true, ReadError::Refused(Refused::NoLeader)) => {}
            other => panic!("{other:?}"),
        }
        close(&[node]).await;
    }
}

/// A call that has left its node when its deadline comes is unknown; one that has not is refused, and never happens.
#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_says_what_may_have_happened() {
    let (net, mut nodes) = (InProcess::new(), Vec::new());
    for id in 1..=3 {
        let node = describe(&net, id, &[1, 2, 3]).append_timeout(Duration::from_millis(150));
        nodes.push(soon("open", node.open()).await.unwrap());
    }
    let at = leader(&nodes).await;
    let ids: Vec<_> = nodes.iter().map(RaftNode::id).collect();
    net.cut(ids[at], ids[(at + 1) % 3]);
    net.cut(ids[at], ids[(at + 2) % 3]);
    // It takes it in, as it leads, and can't commit it.
    let error = soon("its end", nodes[at].append("lost?")).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Possible, "{error}");
    close(&nodes).await;
}

/// What is called on a node that was closed is refused with the reason, whatever it is; closing again is fine, by several at
/// once too, and it can be opened again on the same log.
#[tokio::test(flavor = "multi_thread")]
async fn calls_on_a_closed_node() {
    let dir = tempfile::tempdir().unwrap();
    let open = || quick(RaftNode::builder(1, [1])).log_dir(dir.path()).open();
    let node = soon("open", open()).await.unwrap();
    soon("an append", node.append("x")).await.unwrap();
    let waits = (node.clone(), node.clone());
    let never = tokio::spawn(async move { waits.0.wait(|_| false).await.map(|_| ()) });
    let event = waits.1.wait_event(|_| false);
    let (first, second) = tokio::join!(node.close(), node.close());
    first.unwrap();
    second.unwrap();
    let closed = |reason: StopReason| assert!(matches!(reason, StopReason::Closed), "{reason}");
    closed(soon("wait", never).await.unwrap().unwrap_err());
    closed(soon("wait_event", event).await.unwrap_err());
    match soon("an append", node.append("x")).await.unwrap_err() {
        AppendError::Stopped { effect: Effect::None, reason } => closed(reason),
        other => panic!("{other}"),
    }
    match soon("a read", node.read("")).await.unwrap_err() {
        ReadError::Stopped(reason) => closed(reason),
        other => panic!("{other}"),
    }
    closed(soon("a leader", node.await_leader()).await.unwrap_err());
    closed(soon("a leader", node.await_committed_leader()).await.unwrap_err());
    assert_eq!(soon("a pause", node.pause()).await.unwrap_err().effect(), Effect::None);
    assert!(soon("no event", node.events().next()).await.is_none());
    assert!(!node.status().open);
    let again = soon("open", open()).await.unwrap();
    let appended = soon("an append", again.append("y")).await.unwrap();
    assert_eq!(payloads(&again).await, ["x", "y"]);
    assert!(appended.seq > Seq::new(2), "a new term began with an entry");
    close(&[again]).await;
}
