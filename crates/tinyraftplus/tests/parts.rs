//! Nodes whose state machines, logs and threads are slow, fail or die.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tinyraftplus::{
    Applied, Bytes, Effect, EntryId, Event, FsLog, InProcess, Log, LogError, LogOptions, MemLog,
    NodeBuilder, NodeId, RaftNode, Seq, StateMachine, StateMachineError, Status, StopReason,
    Warning,
};
use tinyraftplus_core::{HardState, Identity, Restored};
use tinyraftplus_log::{LogEntry, LogRead, LogStats, Write};
use tokio::sync::mpsc::UnboundedSender;

fn quick(builder: NodeBuilder) -> NodeBuilder {
    builder
        .heartbeat_interval(Duration::from_millis(30))
        .election_timeout(Duration::from_millis(150))
        .election_jitter(Duration::from_millis(150))
        .close_timeout(Duration::from_millis(50))
}

/// What must happen, and soon.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it hangs")
}

/// A state machine that is kept: what it was given, and how far that got, stored together. Takes nothing while its
/// gate is closed.
#[derive(Clone, Default)]
struct Kept(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    entries: Vec<(Seq, Bytes)>,
    applied: Seq,
    is_closed: bool,
}

impl Kept {
    fn close(&self, is_closed: bool) {
        self.0.0.lock().unwrap().is_closed = is_closed;
        self.0.1.notify_all();
    }

    fn entries(&self) -> Vec<(Seq, Bytes)> {
        self.0.0.lock().unwrap().entries.clone()
    }
}

impl StateMachine for Kept {
    fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
        let (state, gate) = &*self.0;
        let mut state = state.lock().unwrap();
        while state.is_closed {
            state = gate.wait(state).unwrap();
        }
        for entry in entries {
            state.entries.push((entry.seq, entry.payload.clone()));
            state.applied = entry.seq.after();
        }
        Ok(vec![Bytes::new(); entries.len()])
    }

    fn read(&mut self, _query: &[u8]) -> Result<Bytes, StateMachineError> {
        Ok(Bytes::new())
    }

    fn applied(&self) -> Seq {
        self.0.0.lock().unwrap().applied
    }
}

/// `slow_apply_starves_election`: the state machines of all nodes hang, and one node that was started again has its
/// whole log to replay. Heartbeats go on; a leader that dies is replaced; and when the state machines go on, so does
/// all the rest. Fails if the driver waits for the state machine.
#[tokio::test(flavor = "multi_thread")]
async fn slow_apply_starves_election() {
    let (dir, net) = (tempfile::tempdir().unwrap(), InProcess::new());
    let machines: Vec<Kept> = (0..3).map(|_| Kept::default()).collect();
    let open = |at: usize, machine: Kept| {
        let id = u64::try_from(at).unwrap() + 1;
        let builder = quick(RaftNode::builder(id, [1, 2, 3])).log_dir(dir.path());
        builder.transport(net.endpoint(NodeId::from(id))).state_machine(move || machine).open()
    };
    let mut nodes = Vec::new();
    for (at, machine) in machines.iter().enumerate() {
        machine.close(true);
        nodes.push(open(at, machine.clone()).await.unwrap());
    }
    let position = |leader: NodeId| (1..=3).position(|id| NodeId::from(id) == leader).unwrap();
    let mut leader = position(soon(nodes[0].await_committed_leader()).await.unwrap());
    let calls: Vec<_> = (0..10)
        .map(|number: u32| {
            let node = nodes[leader].clone();
            tokio::spawn(async move { node.append(number.to_string()).await })
        })
        .collect();
    let end = Seq::new(11);
    for node in &nodes {
        soon(node.wait(|status| status.committed >= end)).await.unwrap();
    }
    let fresh = Kept::default();
    fresh.close(true);
    for _ in 0..2 {
        let term = nodes[leader].status().term;
        soon(nodes[leader].kill()).await;
        let other = (leader + 1) % 3;
        let new = soon(nodes[other].wait(|status| {
            let newer = status.term > term && status.leader.is_some();
            newer && status.committed_term == Some(status.term)
        }));
        let new = position(new.await.unwrap().leader.unwrap());
        // It has nothing kept: all its log is to be applied, and its state machine does not begin.
        nodes[leader] = open(leader, fresh.clone()).await.unwrap();
        soon(nodes[leader].wait(|status| status.committed >= end)).await.unwrap();
        leader = new;
    }
    assert!(nodes.iter().all(|node| node.status().applied <= Seq::new(1)));
    machines.iter().chain([&fresh]).for_each(|machine| machine.close(false));
    for node in &nodes {
        soon(node.wait(|status| status.applied >= end)).await.unwrap();
    }
    for call in calls {
        // Its node was killed, or has told it by now.
        if let Err(error) = soon(call).await.unwrap() {
            assert_eq!(error.effect(), Effect::Possible, "{error}");
        }
    }
    for node in &nodes {
        soon(node.close()).await.unwrap();
    }
}

/// `apply_index_not_atomic`: a state machine that stores how far it got together with its state is given each entry
/// once, however often its node dies. Fails if `open` does not ask for `applied`.
#[tokio::test(flavor = "multi_thread")]
async fn apply_index_not_atomic() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Kept::default();
    let mut want = Vec::new();
    for round in 0..5 {
        let kept = machine.clone();
        let builder = quick(RaftNode::builder(1, [1])).log_dir(dir.path());
        let node = builder.state_machine(move || kept).open().await.unwrap();
        for number in 0..3 {
            let payload = Bytes::from(format!("{round}.{number}"));
            let appended = soon(node.append(payload.clone())).await.unwrap();
            want.push((appended.seq, payload));
        }
        if round % 2 == 0 {
            soon(node.kill()).await;
        } else {
            soon(node.close()).await.unwrap();
        }
        assert_eq!(machine.entries(), want);
    }
}

/// What a log does when it is told to.
#[derive(Clone, Default)]
struct Faults {
    /// What lies before seq 20 can't be read, and each try is told.
    no_reads: Arc<Mutex<Option<UnboundedSender<()>>>>,
    panics: Arc<AtomicBool>,
}

struct Faulty<L> {
    log: L,
    faults: Faults,
}

struct FaultyReader {
    log: Arc<dyn LogRead>,
    faults: Faults,
}

impl<L: Log> Log for Faulty<L> {
    fn write(&mut self, group: &[Write]) -> Result<(), LogError> {
        let panics = group.iter().flat_map(|write| &write.append).any(|e| e.payload == "panic");
        assert!(!panics, "told to panic");
        self.log.write(group)
    }
    fn identity(&self) -> Identity {
        self.log.identity()
    }
    fn restored(&self) -> Restored {
        self.log.restored()
    }
    fn reader(&self) -> Arc<dyn LogRead> {
        Arc::new(FaultyReader { log: self.log.reader(), faults: self.faults.clone() })
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

impl LogRead for FaultyReader {
    fn read(&self, start: Seq, end: Seq, bytes_max: u64) -> Result<Vec<LogEntry>, LogError> {
        assert!(!self.faults.panics.load(Ordering::Relaxed), "told to panic");
        let told = self.faults.no_reads.lock().unwrap().clone();
        if let Some(told) = told.filter(|_| start < Seq::new(20)) {
            let _ = told.send(());
            return Err(LogError::Closed);
        }
        self.log.read(start, end, bytes_max)
    }
    fn bounds(&self) -> Range<Seq> {
        self.log.bounds()
    }
    fn drops(&self) -> u64 {
        self.log.drops()
    }
    fn kept_since(&self, drops: u64) -> Seq {
        self.log.kept_since(drops)
    }
}

fn faulty(dir: &Path, net: &InProcess, id: u64, faults: &Faults) -> NodeBuilder {
    let (dir, faults) = (dir.join(id.to_string()), faults.clone());
    let open = move || {
        let (log, _) = FsLog::open(dir, "log", LogOptions::default())?;
        Ok(Faulty { log, faults })
    };
    let builder = quick(RaftNode::builder(id, [1, 2, 3])).log(open);
    let builder = builder.transport(net.endpoint(NodeId::from(id)));
    builder.options(|options| options.cache_bytes_max = 0)
}

/// `read_error_as_end_of_log`: a node that was away needs entries which nobody can read. The others warn of it and go
/// on; it gets nothing in their place, and everything when the disks are well again. Fails if `readable` in the replica
/// swallows the error, or the core does not ask again.
#[tokio::test(flavor = "multi_thread")]
async fn read_error_as_end_of_log() {
    let (dir, net, faults) = (tempfile::tempdir().unwrap(), InProcess::new(), Faults::default());
    let open = async |at: usize, faults: &Faults| {
        let id = u64::try_from(at).unwrap() + 1;
        soon(faulty(dir.path(), &net, id, faults).open()).await.unwrap()
    };
    let mut nodes = Vec::new();
    for at in 0..3 {
        nodes.push(open(at, &faults).await);
    }
    let position = |leader: NodeId| (1..=3).position(|id| NodeId::from(id) == leader).unwrap();
    let at_work = position(soon(nodes[0].await_committed_leader()).await.unwrap());
    let away = (at_work + 1) % 3;
    soon(nodes[away].close()).await.unwrap();
    for number in 0..20_u32 {
        soon(nodes[at_work].append(number.to_string())).await.unwrap();
    }
    // Whoever leads next has to look in its log for what came before.
    soon(nodes[at_work].close()).await.unwrap();
    let (refused, mut refusals) = tokio::sync::mpsc::unbounded_channel();
    *faults.no_reads.lock().unwrap() = Some(refused);
    nodes[at_work] = open(at_work, &faults).await;
    soon(nodes[at_work].append("20")).await.unwrap();
    let (warns, mut warned) = tokio::sync::mpsc::unbounded_channel();
    for node in nodes.clone() {
        let warns = warns.clone();
        tokio::spawn(async move {
            if node.wait_event(|e| matches!(e, Event::Warn(Warning::Load(_)))).await.is_ok() {
                let _ = warns.send(());
            }
        });
    }
    nodes[away] = open(away, &Faults::default()).await;
    let before = nodes[away].status().durable;
    soon(warned.recv()).await.unwrap();
    for _ in 0..3 {
        soon(refusals.recv()).await.unwrap();
    }
    for number in 21..30_u32 {
        soon(nodes[at_work].append(number.to_string())).await.unwrap();
    }
    assert_eq!(nodes[away].status().durable, before);
    *faults.no_reads.lock().unwrap() = None;
    let end = nodes[at_work].status().committed;
    let has_all = |status: &Status| status.committed.min(status.durable) >= end;
    soon(nodes[away].wait(has_all)).await.unwrap();
    let mut logs = Vec::new();
    for node in &nodes {
        let entries = soon(node.entries(Seq::ZERO..end).all()).await.unwrap();
        logs.push(entries.into_iter().map(|entry| (entry.seq, entry.payload)).collect::<Vec<_>>());
    }
    assert_eq!(logs[away], logs[at_work]);
    for node in &nodes {
        soon(node.close()).await.unwrap();
    }
}

/// `waiters_dropped`, where a thread dies: the one that writes the log, or the one that reads it. Every call ends, none is
/// said to have done nothing, and the reason stays readable. Fails if `start` does not report a panic.
#[tokio::test(flavor = "multi_thread")]
async fn waiters_dropped() {
    for thread in ["log", "reader"] {
        let faults = Faults::default();
        let told = faults.clone();
        let open = move || Ok(Faulty { log: MemLog::new(LogOptions::default())?, faults: told });
        let machine = Kept::default();
        let kept = machine.clone();
        let builder = quick(RaftNode::builder(1, [1])).log(open).state_machine(move || kept);
        let builder = builder.options(|options| options.cache_bytes_max = 0);
        let node = builder.append_timeout(Duration::from_hours(1)).open().await.unwrap();
        soon(node.append("first")).await.unwrap();
        machine.close(true);
        let mut calls = Vec::new();
        for (payload, end) in [("a", 3), ("b", 4), ("c", 5)] {
            let node_of_call = node.clone();
            calls.push(tokio::spawn(async move { node_of_call.append(payload).await }));
            soon(node.wait(|status| status.committed >= Seq::new(end))).await.unwrap();
        }
        if thread == "log" {
            let node = node.clone();
            calls.push(tokio::spawn(async move { node.append("panic").await }));
        } else {
            // What comes next for the state machine has left the cache.
            faults.panics.store(true, Ordering::Relaxed);
            machine.close(false);
        }
        let mut effects = Vec::new();
        for call in calls {
            effects.push(soon(call).await.unwrap().map_err(|error| error.effect()).err());
        }
        assert!(effects.contains(&Some(Effect::Possible)), "{thread}: {effects:?}");
        assert!(!effects.contains(&Some(Effect::None)), "{thread}: {effects:?}");
        machine.close(false);
        let reason = soon(node.close()).await.unwrap_err();
        assert!(matches!(reason, StopReason::Died(what) if what == thread), "{reason:?}");
    }
}
