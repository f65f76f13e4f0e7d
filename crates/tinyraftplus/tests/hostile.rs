//! Nodes among disks, state machines, transports and callers that misbehave.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tinyraftplus::{
    Appended, Applied, Bytes, Effect, EntryId, Event, InProcess, Log, LogError, LogOptions, MemLog,
    Message, NodeBuilder, NodeId, OpenError, RaftNode, Role, Seq, StartError, StateMachine,
    StateMachineError, StopReason, Warning,
};
use tinyraftplus_core::{HardState, Identity, Restored};
use tinyraftplus_log::{LogRead, LogStats, Write};

fn quick(builder: NodeBuilder) -> NodeBuilder {
    builder
        .heartbeat_interval(Duration::from_millis(30))
        .election_timeout(Duration::from_millis(150))
        .election_jitter(Duration::from_millis(150))
}

fn memory() -> Result<MemLog, LogError> {
    MemLog::new(LogOptions::default())
}

type OnWrite = dyn FnMut(&[Write]) -> Result<(), LogError> + Send;
type OnMark = dyn FnMut() -> Result<(), LogError> + Send;

/// A log that does what a test says.
struct Told {
    log: MemLog,
    write: Box<OnWrite>,
    mark: Box<OnMark>,
}

fn told(write: impl FnMut(&[Write]) -> Result<(), LogError> + Send + 'static) -> Told {
    Told { log: memory().unwrap(), write: Box::new(write), mark: Box::new(|| Ok(())) }
}

fn holds(group: &[Write], payload: &str) -> bool {
    group.iter().any(|write| write.append.iter().any(|entry| entry.payload == payload))
}

fn no_space() -> LogError {
    LogError::NoSpace { path: "disk".into(), source: std::io::Error::other("full") }
}

impl Log for Told {
    fn write(&mut self, group: &[Write]) -> Result<(), LogError> {
        (self.write)(group)?;
        self.log.write(group)
    }
    fn mark(&mut self) -> Result<(), LogError> {
        (self.mark)()
    }
    fn identity(&self) -> Identity {
        self.log.identity()
    }
    fn restored(&self) -> Restored {
        self.log.restored()
    }
    fn reader(&self) -> Arc<dyn LogRead> {
        self.log.reader()
    }
    fn bounds(&self) -> Range<Seq> {
        self.log.bounds()
    }
    fn hard_state(&self) -> HardState {
        self.log.hard_state()
    }
    fn last(&self) -> Option<EntryId> {
        self.log.last()
    }
    fn stats(&self) -> LogStats {
        self.log.stats()
    }
    fn close(&mut self) -> Result<(), LogError> {
        self.log.close()
    }
}

/// A state machine that claims to have seen more than there is.
struct Ahead;

impl StateMachine for Ahead {
    fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
        Ok(vec![Bytes::new(); entries.len()])
    }
    fn read(&mut self, _query: &[u8]) -> Result<Bytes, StateMachineError> {
        Ok(Bytes::new())
    }
    fn applied(&self) -> Seq {
        Seq::new(1000)
    }
}

/// More calls than a channel has room for, and another one when the node has taken many of them: all are
/// committed in the order in which they were first polled. Fails if callers wait for room, or for their
/// task's turn, before they have a place: they are overtaken then.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_calls_keeps_its_order() {
    let node = quick(RaftNode::builder(1, [1])).log(memory).open().await.unwrap();
    node.append("first").await.unwrap();
    let mut calls: Vec<Pin<Box<dyn Future<Output = Appended> + Send>>> = Vec::new();
    let mut poll = |payload: String| {
        let node = node.clone();
        let mut call = Box::pin(async move { node.append(payload).await.unwrap() });
        match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => calls.push(call),
            Poll::Ready(appended) => calls.push(Box::pin(std::future::ready(appended))),
        }
    };
    (0..5000).for_each(|number| poll(number.to_string()));
    let taken = node.wait(|status| status.committed >= Seq::new(4096));
    tokio::time::timeout(Duration::from_secs(20), taken).await.expect("no place").unwrap();
    poll("late".to_owned());
    let mut seqs = Vec::new();
    for call in calls {
        seqs.push(call.await.seq);
    }
    assert!(seqs.is_sorted_by(|a, b| a < b), "a later call was faster");
    assert_eq!(seqs.last(), Some(&Seq::new(5002)));
    node.close().await.unwrap();
}

/// A transport that panics stops its node, as any failed part does: callers are told, the status says so, and
/// the name is free at the switchboard. Fails if `act` does not catch the panic.
#[tokio::test(flavor = "multi_thread")]
async fn a_transport_that_panics_stops_the_node() {
    let is_bad = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_bad);
    let transport = move |_: NodeId, _: Message| {
        assert!(!seen.load(Ordering::Relaxed), "told to panic");
    };
    let builder = quick(RaftNode::builder(1, [1, 2])).log(memory).transport(transport);
    let node = builder.open().await.unwrap();
    let mut calls = Vec::new();
    for _ in 0..3 {
        let node = node.clone();
        calls.push(tokio::spawn(async move { node.append("x").await.unwrap_err() }));
    }
    node.wait(|status| status.calls == 3).await.unwrap();
    is_bad.store(true, Ordering::Relaxed);
    let reason = node.wait(|_| false).await.unwrap_err();
    assert!(matches!(reason, StopReason::Died("transport")), "{reason:?}");
    for call in calls {
        assert_eq!(call.await.unwrap().effect(), Effect::None, "there never was a leader");
    }
    assert!(matches!(node.close().await, Err(StopReason::Died("transport"))));
    assert!(!node.status().open);
}

/// Nodes that have nothing to do do next to nothing. Fails if any deadline stays due.
#[tokio::test]
async fn idle_nodes_are_idle() {
    let cpu = || {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
        let fields: Vec<&str> = stat.split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        ticks(13) + ticks(14)
    };
    let net = InProcess::new();
    let mut nodes = Vec::new();
    for id in 1..=3_u64 {
        let builder = quick(RaftNode::builder(id, 1..=3_u64)).log(memory);
        let builder = builder.transport(net.endpoint(NodeId::from(id))).state_machine(|| Counts);
        nodes.push(builder.open().await.unwrap());
    }
    for node in &nodes {
        node.append("x").await.unwrap();
        node.read("").await.unwrap();
    }
    let began = cpu();
    let id = nodes.first().unwrap().await_leader().await.unwrap();
    let leader = nodes.iter().find(|node| node.id() == id).unwrap();
    // Fifty heartbeats, 1.5 s, each told by an answer of both followers.
    let mut beats = BTreeSet::new();
    leader
        .wait(|status| {
            beats.extend(status.peers.iter().filter_map(|peer| peer.last_contact));
            beats.len() >= 100
        })
        .await
        .unwrap();
    let ticks = cpu() - began;
    assert!(ticks < 30, "{ticks} ticks of the processor, of 150");
    for node in &nodes {
        node.close().await.unwrap();
    }
}

/// A transport that calls back into its node, or into the other one, while it is called.
#[tokio::test(flavor = "multi_thread")]
async fn a_transport_that_calls_nodes_directly_works() {
    let nodes: Arc<Mutex<Vec<RaftNode>>> = Arc::default();
    let mut opened = Vec::new();
    for id in 1..=3_u64 {
        let others = Arc::clone(&nodes);
        let transport = move |to: NodeId, message: Message| {
            let others = others.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for node in &others {
                assert!(node.status().term >= tinyraftplus::Term::ZERO);
            }
            if let Some(node) = others.iter().find(|node| node.id() == to) {
                node.receive(NodeId::from(id), message);
            }
        };
        let builder = quick(RaftNode::builder(id, 1..=3_u64)).log(memory).transport(transport);
        let node = builder.open().await.unwrap();
        opened.push(node.clone());
        nodes.lock().unwrap().push(node);
    }
    for node in &opened {
        node.append("x").await.unwrap();
    }
    for node in &opened {
        node.close().await.unwrap();
    }
    nodes.lock().unwrap().clear();
}

/// Who waits for a status may take his time, and ask the node for more meanwhile. Fails if `wait` looks at the
/// original, which the node can't change then.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_condition_does_not_hold_up_the_node() {
    let node = quick(RaftNode::builder(1, [1])).log(memory).open().await.unwrap();
    node.append("x").await.unwrap();
    let (done, is_done) = mpsc::channel();
    let (other, handle) = (node.clone(), tokio::runtime::Handle::current());
    let mut done = Some(done);
    let status = node.wait(|_| {
        if let Some(done) = done.take() {
            let other = other.clone();
            handle.spawn(async move { done.send(other.append("y").await.is_ok()) });
            return is_done.recv_timeout(Duration::from_secs(5)).unwrap_or(false);
        }
        false
    });
    tokio::time::timeout(Duration::from_secs(8), status).await.expect("it was held up").unwrap();
    node.close().await.unwrap();
}

/// A node that can't be opened leaves its log free: the next try, at once, finds it so. Fails if `open` does
/// not wait for its threads.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_open_leaves_the_log_free() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..50 {
        let builder = RaftNode::builder(1, [1]).log_dir(dir.path());
        let error = builder.state_machine(|| Ahead).open().await.unwrap_err();
        let OpenError::Start(start) = &error else { panic!("{error}") };
        assert!(matches!(**start, StartError::AheadOfLog { .. }), "{error}");
    }
    RaftNode::builder(1, [1]).log_dir(dir.path()).open().await.unwrap().close().await.unwrap();
}

/// A disk that hangs for ever does not keep the program from ending. Fails if closing leaves the waiting to
/// a task of the runtime, which can't be shut down then.
#[test]
fn a_disk_that_hangs_does_not_hold_up_the_runtime() {
    let (ended, is_ended) = mpsc::channel();
    let (release, gate) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let open = move || {
                Ok(told(move |group| {
                    if holds(group, "hang") {
                        let _ = gate.recv();
                    }
                    Ok(())
                }))
            };
            let builder = quick(RaftNode::builder(1, [1])).log(open);
            let node = builder.close_timeout(Duration::from_millis(20)).open().await.unwrap();
            node.append("x").await.unwrap();
            let hangs = node.clone();
            tokio::spawn(async move { hangs.append("hang").await });
            node.wait(|status| status.calls == 1).await.unwrap();
            node.close().await.unwrap();
        });
        drop(runtime);
        ended.send(()).unwrap();
    });
    is_ended.recv_timeout(Duration::from_secs(20)).expect("the runtime waits for the disk");
    drop(release);
}

/// The runtime is shut down under a node, with calls under way: they end, and the status says that it is over.
/// Fails if `Published` or `Calls` does nothing when it is dropped.
#[test]
fn a_runtime_that_is_dropped_takes_the_node_with_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let transport = |_: NodeId, _: Message| {};
    let builder = quick(RaftNode::builder(1, [1, 2])).log(memory).transport(transport);
    let node = runtime.block_on(builder.open()).unwrap();
    let other = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let calls = node.clone();
    let call = other.spawn(async move { calls.append("x").await });
    other.block_on(node.wait(|status| status.calls == 1)).unwrap();
    drop(runtime);
    assert!(other.block_on(call).unwrap().is_err());
    assert!(!node.status().open && node.status().stopped.is_some());
    let late = other.block_on(node.append("late")).unwrap_err();
    assert_eq!(late.effect(), Effect::None);
    assert!(other.block_on(node.close()).is_err());
}

/// The disk of a cluster of one is full: its leader gives what it can't write back, and calls wait. When there is space
/// again all of it is written, in groups no larger than ever. Fails if calls are forgotten with the entries that were
/// taken back, if a node without space never leads again, or if `collect` has no limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_for() {
    let (is_full, largest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (full, seen) = (Arc::clone(&is_full), Arc::clone(&largest));
    let (failed, failures) = mpsc::channel();
    let (begin, begins) = mpsc::channel::<()>();
    let open = move || {
        Ok(told(move |group| {
            let bytes = group.iter().flat_map(|w| &w.append).map(|entry| entry.payload.len());
            seen.fetch_max(bytes.sum(), Ordering::Relaxed);
            if full.load(Ordering::Relaxed) {
                // The first time, until all calls are in the leader's log; then at once.
                let _ = begins.recv();
                let _ = failed.send(());
                return Err(no_space());
            }
            Ok(())
        }))
    };
    let node = quick(RaftNode::builder(1, [1])).log(open).open().await.unwrap();
    node.append("x").await.unwrap();
    is_full.store(true, Ordering::Relaxed);
    let mut calls = Vec::new();
    for number in 0..12 {
        let node = node.clone();
        calls.push(tokio::spawn(async move { node.append(vec![number; 4 << 20]).await }));
    }
    node.wait(|status| status.calls == 12).await.unwrap();
    drop(begin);
    tokio::task::block_in_place(|| (0..4).for_each(|_| failures.recv().unwrap()));
    is_full.store(false, Ordering::Relaxed);
    let mut seqs = BTreeSet::new();
    for call in calls {
        assert!(seqs.insert(call.await.unwrap().unwrap().seq));
    }
    let largest = largest.load(Ordering::Relaxed);
    assert!(largest <= 12 << 20, "a group of {largest} bytes");
    node.close().await.unwrap();
}

/// The disk of one follower is full and the leader is gone: the other one needs its vote to lead, and gets it, though
/// entries were refused before it and are refused after it. When there is space, they go on together. Fails if the
/// writer tries a refused write again itself (`is_refused`), as the vote then waits behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_still_votes() {
    let net = InProcess::new();
    let full: Vec<Arc<AtomicBool>> = (0..3).map(|_| Arc::default()).collect();
    let mut nodes = Vec::new();
    for (id, is_full) in (1_u64..).zip(&full) {
        let is_full = Arc::clone(is_full);
        let open = move || {
            Ok(told(move |group| {
                let has_entries = group.iter().any(|write| !write.append.is_empty());
                if has_entries && is_full.load(Ordering::Relaxed) {
                    return Err(no_space());
                }
                Ok(())
            }))
        };
        let builder = quick(RaftNode::builder(id, [1_u64, 2, 3])).log(open);
        nodes.push(builder.transport(net.endpoint(id.into())).open().await.unwrap());
    }
    let leads = nodes[0].await_committed_leader().await.unwrap();
    let at = nodes.iter().position(|node| node.id() == leads).unwrap();
    let (leader, other, short) = (&nodes[at], &nodes[(at + 1) % 3], &nodes[(at + 2) % 3]);
    let refused = short.wait_event(|event| matches!(event, Event::Warn(Warning::NoSpace(_))));
    full[(at + 2) % 3].store(true, Ordering::Relaxed);
    other.append("x").await.unwrap();
    refused.await.unwrap();
    let before = short.status().durable;
    leader.kill().await;
    other.wait(|status| status.role == Role::Leader).await.unwrap();
    assert_eq!(short.status().durable, before, "it has written no entry");
    full[(at + 2) % 3].store(false, Ordering::Relaxed);
    let appended = other.append("y").await.unwrap();
    short.wait(|status| status.durable > appended.seq).await.unwrap();
    for node in &nodes {
        node.close().await.unwrap();
    }
}

/// The disk is full when the idle log wants to leave a mark: no reason to stop. Fails if `next_job` passes
/// that error on.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_finds_no_space_stops_nobody() {
    let (marked, marks) = mpsc::channel();
    let open = move || {
        let mut log = told(|_| Ok(()));
        log.mark = Box::new(move || {
            let _ = marked.send(());
            Err(no_space())
        });
        Ok(log)
    };
    let node = quick(RaftNode::builder(1, [1])).log(open).open().await.unwrap();
    for _ in 0..2 {
        node.append("x").await.unwrap();
        tokio::task::block_in_place(|| marks.recv_timeout(Duration::from_secs(20))).unwrap();
    }
    node.append("y").await.unwrap();
    node.close().await.unwrap();
}

/// The longest and the shortest times there are.
#[tokio::test(flavor = "multi_thread")]
async fn times_without_end_and_times_of_nothing() {
    let builder = quick(RaftNode::builder(1, [1])).log(memory);
    let builder = builder.append_timeout(Duration::MAX).read_timeout(Duration::MAX);
    let builder = builder.close_timeout(Duration::MAX).stall_timeout(Duration::MAX);
    let node = builder.open().await.unwrap();
    node.append("x").await.unwrap();
    node.read("").await.unwrap();
    node.close().await.unwrap();
    let builder = quick(RaftNode::builder(1, [1, 2])).log(memory).transport(|_, _| {});
    let node = builder.append_timeout(Duration::from_nanos(1)).open().await.unwrap();
    assert_eq!(node.append("x").await.unwrap_err().effect(), Effect::None);
    let (first, second) = tokio::join!(node.close(), node.close());
    assert!(first.is_ok() && second.is_ok());
    node.kill().await;
    node.close().await.unwrap();
}

/// Fails if a thread goes on after `close`, or is not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn many_nodes_open_and_close_and_leave_no_thread() {
    let ours = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
        tasks
            .filter_map(|task| name(task.ok()?))
            .filter(|name| name.starts_with("raft-leak"))
            .count()
    };
    for round in 0..20 {
        let net = InProcess::new();
        let names = ["leak1", "leak2", "leak3"];
        let mut nodes = Vec::new();
        for name in names {
            let endpoint = net.endpoint(NodeId::new(name).unwrap());
            let builder = quick(RaftNode::builder(name, names)).log(memory).transport(endpoint);
            nodes.push(builder.state_machine(|| Counts).open().await.unwrap());
        }
        if round % 5 == 0 {
            for node in &nodes {
                node.append("x").await.unwrap();
            }
        }
        for node in &nodes {
            node.close().await.unwrap();
        }
        if cfg!(target_os = "linux") {
            // A thread that was joined is listed a moment longer.
            let until = std::time::Instant::now() + Duration::from_secs(5);
            while ours() > 0 && std::time::Instant::now() < until {
                tokio::task::yield_now().await;
            }
            assert_eq!(ours(), 0, "round {round}");
        }
    }
}

struct Counts;

impl StateMachine for Counts {
    fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
        Ok(vec![Bytes::new(); entries.len()])
    }
    fn read(&mut self, _query: &[u8]) -> Result<Bytes, StateMachineError> {
        Ok(Bytes::new())
    }
}
