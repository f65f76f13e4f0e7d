//! Clusters of real nodes: threads, files and the clock.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at what it is about")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tinyraftplus::{
    AppendError, Applied, Bytes, Effect, EntriesError, EntryKind, Event, FsLog, InProcess, Log,
    LogError, LogOptions, MemLog, Next, NodeBuilder, NodeId, OpenError, RaftNode, Refused, Role,
    Seq, StateMachine, StateMachineError, StopReason,
};

/// A node was first started to begin at 0, and before its cluster had formed, all were started to begin at 1000.
/// Fails (the node stops) if the configuration does not move the empty log.
#[tokio::test]
async fn another_first_seq_before_forming() {
    let (dir, net) = (tempfile::tempdir().unwrap(), InProcess::new());
    let early = describe(dir.path(), &net, 1, 3).open().await.unwrap();
    early.close().await.unwrap();
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let node = describe(dir.path(), &net, id, 3).first_seq(Seq::new(1000)).open();
        nodes.push(node.await.unwrap());
    }
    for (node, seq) in nodes.iter().zip(1001..) {
        assert_eq!(node.append("x").await.unwrap().seq, Seq::new(seq));
    }
    // All of them, before the first is closed: two could not tell the third any more what is committed.
    for node in &nodes {
        node.wait(|status| status.applied >= Seq::new(1004)).await.unwrap();
    }
    for node in &nodes {
        node.close().await.unwrap();
    }
}

/// Keeps what it was given.
#[derive(Default)]
struct Kept(Vec<Bytes>);

impl StateMachine for Kept {
    fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
        let mut results = Vec::new();
        for entry in entries {
            if entry.payload == "fail" {
                return Err("told to fail".into());
            }
            assert!(entry.payload != "panic", "told to panic");
            self.0.push(entry.payload.clone());
            results.push(Bytes::from(self.0.len().to_string()));
        }
        Ok(results)
    }

    fn read(&mut self, query: &[u8]) -> Result<Bytes, StateMachineError> {
        match query {
            b"count" => Ok(Bytes::from(self.0.len().to_string())),
            _ => Err("no such query".into()),
        }
    }
}

struct Cluster {
    dir: tempfile::TempDir,
    net: InProcess,
    nodes: Vec<RaftNode>,
}

fn quick(builder: NodeBuilder) -> NodeBuilder {
    builder
        .heartbeat_interval(Duration::from_millis(30))
        .election_timeout(Duration::from_millis(150))
        .election_jitter(Duration::from_millis(150))
}

fn describe(dir: &Path, net: &InProcess, id: u64, count: u64) -> NodeBuilder {
    quick(RaftNode::builder(id, 1..=count))
        .log_dir(dir)
        .transport(net.endpoint(NodeId::from(id)))
        .state_machine(Kept::default)
}

impl Cluster {
    async fn open(count: u64) -> Self {
        let (dir, net) = (tempfile::tempdir().unwrap(), InProcess::new());
        let mut nodes = Vec::new();
        for id in 1..=count {
            nodes.push(describe(dir.path(), &net, id, count).open().await.unwrap());
        }
        Self { dir, net, nodes }
    }

    /// The position of the leader among the nodes that run.
    async fn leader(&self) -> usize {
        let node = self.nodes.iter().find(|node| node.status().open).unwrap();
        let leader = node.await_committed_leader().await.unwrap();
        self.nodes.iter().position(|node| node.id() == leader).unwrap()
    }

    async fn reopen(&mut self, at: usize) {
        let count = u64::try_from(self.nodes.len()).unwrap();
        let id = u64::try_from(at).unwrap() + 1;
        self.nodes[at] = describe(self.dir.path(), &self.net, id, count).open().await.unwrap();
    }

    async fn close(self) {
        for node in &self.nodes {
            node.close().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_append_batch_and_read_on_each() {
    let cluster = Cluster::open(3).await;
    let mut expected = 1;
    for node in &cluster.nodes {
        let appended = node.append("x").await.unwrap();
        assert_eq!(appended.seq.get(), expected);
        assert_eq!(appended.result, expected.to_string());
        let batch = node.append_batch(["a", "", "c"]).await.unwrap();
        assert_eq!(batch.seqs, Seq::new(expected + 1)..Seq::new(expected + 4));
        assert_eq!(batch.results.last().unwrap(), &(expected + 3).to_string());
        expected += 4;
    }
    for node in &cluster.nodes {
        let read = node.read("count").await.unwrap();
        assert_eq!((read.seq.get(), read.result), (12, Bytes::from("12")));
        node.wait(|status| status.applied == Seq::new(13)).await.unwrap();
        let local = node.read_local("count").await.unwrap();
        assert_eq!((local.seq, local.result), (Some(Seq::new(12)), Bytes::from("12")));
        let entries = node.entries(Seq::ZERO..Seq::new(13)).all().await.unwrap();
        assert_eq!(entries.len(), 13);
        assert_eq!(entries[0].kind, EntryKind::Noop);
        assert_eq!((entries[3].kind, entries[3].payload.len()), (EntryKind::Payload, 0));
        let beyond = node.entries(Seq::ZERO..Seq::new(99)).all().await;
        assert!(matches!(beyond, Err(EntriesError::NotCommitted { .. })));
    }
    assert!(cluster.nodes[0].read("nonsense").await.is_err(), "and the node goes on");
    assert_eq!(cluster.nodes[0].read("count").await.unwrap().result, "12");
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed_and_the_others_go_on() {
    let mut cluster = Cluster::open(3).await;
    cluster.nodes[0].append("before").await.unwrap();
    let killed = cluster.leader().await;
    cluster.nodes[killed].kill().await;
    assert!(matches!(cluster.nodes[killed].status().stopped, Some(StopReason::Killed)));
    let other = &cluster.nodes[(killed + 1) % 3];
    let gone = cluster.nodes[killed].id();
    let appended = loop {
        // The first tries may be bound to the leader that is gone; a refusal says that they did nothing.
        other.wait(|status| status.leader.is_some_and(|leader| leader != gone)).await.unwrap();
        match other.append("after").await {
            Ok(appended) => break appended,
            Err(error) => assert_eq!(error.effect(), Effect::None, "{error}"),
        }
    };
    assert_eq!(appended.result, "2");
    // It comes back with the same log, and catches up.
    cluster.reopen(killed).await;
    let back = &cluster.nodes[killed];
    back.wait(|status| status.applied > appended.seq).await.unwrap();
    assert_eq!(back.read("count").await.unwrap().result, "2");
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_are_closed_and_opened_again() {
    let mut cluster = Cluster::open(3).await;
    for number in 0..20 {
        cluster.nodes[number % 3].append(number.to_string()).await.unwrap();
    }
    for round in 0..2 {
        for node in &cluster.nodes {
            if round == 0 {
                node.close().await.unwrap();
            } else {
                node.kill().await;
            }
            node.close().await.unwrap();
            assert!(!node.status().open);
        }
        for at in 0..3 {
            cluster.reopen(at).await;
        }
        for node in &cluster.nodes {
            assert_eq!(node.read("count").await.unwrap().result, "20");
        }
    }
    cluster.close().await;
}

/// 64 clients at once, on all nodes: every call is committed once, each client's in order.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_clients_each_commit_once_and_in_order() {
    let cluster = Cluster::open(3).await;
    let mut clients = Vec::new();
    for client in 0..64 {
        let node = cluster.nodes[client % 3].clone();
        clients.push(tokio::spawn(async move {
            let mut before = Seq::ZERO;
            for call in 0..20 {
                let appended = node.append(format!("{client}:{call}")).await.unwrap();
                assert!(appended.seq > before);
                before = appended.seq;
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let node = &cluster.nodes[0];
    let end = node.read("count").await.unwrap().seq.after();
    let entries = node.entries(Seq::ZERO..end).all().await.unwrap();
    let users = entries.iter().filter(|entry| entry.kind == EntryKind::Payload);
    let payloads: BTreeSet<_> = users.clone().map(|entry| entry.payload.clone()).collect();
    assert_eq!((users.count(), payloads.len()), (64 * 20, 64 * 20));
    cluster.close().await;
}

/// `waiters_dropped`: the leader is killed and the others closed with calls in flight. Every future ends, and
/// what was refused is not in any log afterwards. Fails if `end` does not step the replica with `Stop`, and so
/// refuses what may have left.
#[tokio::test(flavor = "multi_thread")]
async fn waiters_dropped() {
    let mut cluster = Cluster::open(3).await;
    let leader = cluster.leader().await;
    let mut calls = Vec::new();
    for (at, node) in cluster.nodes.iter().enumerate() {
        for number in 0..100 {
            let (append, read) = (node.clone(), node.clone());
            calls.push(tokio::spawn(async move {
                let payload = format!("{at}:{number}");
                append.append(payload.clone()).await.err().map(|error| (payload, error.effect()))
            }));
            calls.push(tokio::spawn(async move {
                read.read("count").await.err().map(|error| ("a read".to_owned(), error.effect()))
            }));
        }
    }
    // In flight: in the leader's log, or on the way there.
    cluster.nodes[leader].wait(|status| status.durable > Seq::new(1)).await.unwrap();
    cluster.nodes[leader].kill().await;
    cluster.nodes[(leader + 1) % 3].close().await.unwrap();
    cluster.nodes[(leader + 2) % 3].close().await.unwrap();
    let mut refused = BTreeSet::new();
    for call in calls {
        let ended = tokio::time::timeout(Duration::from_secs(20), call).await;
        if let Some((payload, Effect::None)) = ended.expect("a call hangs").unwrap() {
            refused.insert(Bytes::from(payload));
        }
    }
    for node in &cluster.nodes {
        match node.append("late").await {
            Err(AppendError::Stopped { effect: Effect::None, .. }) => {}
            other => panic!("{other:?}"),
        }
        assert!(node.wait(|_| false).await.is_err());
    }
    for at in 0..3 {
        cluster.reopen(at).await;
    }
    let end = cluster.nodes[0].read("count").await.unwrap().seq.after();
    let entries = cluster.nodes[0].entries(Seq::ZERO..end).all().await.unwrap();
    let lied = entries.iter().filter(|entry| refused.contains(&entry.payload)).count();
    assert_eq!(lied, 0, "refused and committed");
    cluster.close().await;
}

/// A call whose write hangs ends when the node is closed, and is not said to have done nothing. Fails if `end`
/// does not step the replica with `Stop`.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_holds_up_nobody() {
    let (release, gate) = std::sync::mpsc::channel();
    let open = move || {
        let log = MemLog::new(LogOptions::default())?;
        Ok(Failing { log, has_failed: false, gate: Some(gate) })
    };
    let builder = quick(RaftNode::builder(1, [1])).log(open);
    let node = builder.close_timeout(Duration::from_millis(50)).open().await.unwrap();
    node.append("x").await.unwrap();
    let hangs = node.clone();
    let call = tokio::spawn(async move { hangs.append("hang").await });
    node.wait(|status| status.calls == 1).await.unwrap();
    node.close().await.unwrap();
    assert_eq!(call.await.unwrap().unwrap_err().effect(), Effect::Possible);
    release.send(()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_after_the_last_handle_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let node = RaftNode::builder(1, [1]).log_dir(dir.path()).open().await.unwrap();
    assert_eq!(node.append("x").await.unwrap().seq.get(), 1);
    let mut events = node.events();
    assert_eq!(node.await_leader().await.unwrap(), node.id());
    drop(node);
    let mut last = None;
    while let Some(next) = events.next().await {
        last = Some(next);
    }
    assert!(matches!(last, Some(Next::Event(Event::Change { open: false, .. }))), "{last:?}");
    // The lock is free.
    FsLog::open(dir.path(), "node-1", LogOptions::default()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_order_and_the_last_one_agrees_with_the_status() {
    let node = quick(RaftNode::builder("a", ["a"]))
        .log(|| MemLog::new(LogOptions::default()))
        .open()
        .await
        .unwrap();
    let mut events = node.events();
    for _ in 0..10 {
        node.append("x").await.unwrap();
    }
    node.close().await.unwrap();
    let (mut commits, mut applies, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(Next::Event(event)) = events.next().await {
        match event {
            Event::Commit { seq } => commits.push(seq),
            Event::Apply { seq } => applies.push(seq),
            Event::Change { role, open, leader, .. } => changes.push((role, open, leader)),
            Event::Tolerance(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(commits.is_sorted_by(|a, b| a < b) && commits.last() == Some(&Seq::new(10)));
    assert!(applies.is_sorted_by(|a, b| a < b) && applies.last() == Some(&Seq::new(10)));
    assert!(changes.contains(&(Role::Leader, true, Some(node.id()))), "{changes:?}");
    let status = node.status();
    assert_eq!(changes.last(), Some(&(status.role, status.open, status.leader)));
}

/// A state machine that fails, or panics, stops its node: the reason reaches the calls and stays readable, and
/// no append is said to have succeeded.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_state_machine_stops_the_node() {
    for payload in ["fail", "panic"] {
        let dir = tempfile::tempdir().unwrap();
        let builder = quick(RaftNode::builder(1, [1])).log_dir(dir.path());
        let node = builder.state_machine(Kept::default).open().await.unwrap();
        let error = node.append(payload).await.unwrap_err();
        assert_eq!(error.effect(), Effect::Possible, "{error}");
        let reason = node.close().await.unwrap_err();
        match (payload, &reason) {
            ("fail", StopReason::StateMachine(what)) => assert_eq!(&**what, "told to fail"),
            ("panic", StopReason::Died("state machine")) => {}
            other => panic!("{other:?}"),
        }
        assert!(!node.status().open && node.status().stopped.is_some());
    }
}

/// A log that fails or hangs when it is told to.
struct Failing {
    log: MemLog,
    has_failed: bool,
    gate: Option<std::sync::mpsc::Receiver<()>>,
}

impl Log for Failing {
    fn write(&mut self, group: &[tinyraftplus_log::Write]) -> Result<(), LogError> {
        let has = |what: &str| {
            group.iter().any(|write| write.append.iter().any(|entry| entry.payload == what))
        };
        if has("hang")
            && let Some(gate) = self.gate.take()
        {
            let _ = gate.recv();
        }
        self.has_failed |= has("fail");
        if self.has_failed { Err(LogError::Poisoned) } else { self.log.write(group) }
    }
    fn identity(&self) -> tinyraftplus_core::Identity {
        self.log.identity()
    }
    fn restored(&self) -> tinyraftplus_core::Restored {
        self.log.restored()
    }
    fn reader(&self) -> Arc<dyn tinyraftplus_log::LogRead> {
        self.log.reader()
    }
    fn bounds(&self) -> std::ops::Range<Seq> {
        self.log.bounds()
    }
    fn hard_state(&self) -> tinyraftplus_core::HardState {
        self.log.hard_state()
    }
    fn last(&self) -> Option<tinyraftplus::EntryId> {
        self.log.last()
    }
    fn stats(&self) -> tinyraftplus_log::LogStats {
        self.log.stats()
    }
    fn close(&mut self) -> Result<(), LogError> {
        self.log.close()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_log_stops_the_node() {
    let open = || {
        let log = MemLog::new(LogOptions::default())?;
        Ok(Failing { log, has_failed: false, gate: None })
    };
    let node = quick(RaftNode::builder(1, [1])).log(open).open().await.unwrap();
    node.append("x").await.unwrap();
    let error = node.append("fail").await.unwrap_err();
    assert_eq!(error.effect(), Effect::Possible, "{error}");
    let reason = node.close().await.unwrap_err();
    assert!(matches!(&reason, StopReason::Log(cause) if cause.is_fatal()), "{reason}");
    assert!(node.append("y").await.is_err_and(|error| error.effect() == Effect::None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_with_its_reason() {
    let mem = || MemLog::new(LogOptions::default());
    let open = |builder: NodeBuilder| async { builder.open().await.err().map(|e| e.to_string()) };
    let told = [
        (RaftNode::builder(1, [1]), "needs a log"),
        (RaftNode::builder(1, [1, 2]).log(mem), "needs a transport"),
        (RaftNode::builder(1, [2]).log(mem), "not in its own list"),
        (RaftNode::builder(1, [1, 1]).log(mem), "listed twice"),
        (RaftNode::builder("a b", ["a b"]).log(mem), "can't name a node"),
        (RaftNode::builder(1, [1]).log(mem).quorum(2), "can't be met"),
        (RaftNode::builder(1, [1]).log(mem).append_timeout(Duration::ZERO), "append_timeout"),
        (
            RaftNode::builder(1, [1]).log(mem).election_timeout(Duration::from_millis(1)),
            "too short",
        ),
    ];
    for (builder, part) in told {
        let error = open(builder).await.expect(part);
        assert!(error.contains(part), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let first = RaftNode::builder(1, [1]).log_dir(dir.path()).open().await.unwrap();
    let second = RaftNode::builder(1, [1]).log_dir(dir.path()).open().await;
    assert!(matches!(second, Err(OpenError::Log(LogError::Locked(_)))), "{second:?}");
    let empty: [Bytes; 0] = [];
    let error = first.append_batch(empty).await.unwrap_err();
    assert!(matches!(error, AppendError::Refused(Refused::Empty)));
    first.close().await.unwrap();
}
