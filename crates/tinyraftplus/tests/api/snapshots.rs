//! Snapshots and compaction: taken, sent, installed, restored, and refused where they make no sense.

use std::io::Read;
use std::path::Path;

use tinyraftplus::{
    Applied, AsyncStateMachine, Bytes, EntriesError, Event, Events, InProcess, Next, NodeBuilder,
    NodeId, RaftNode, Refused, Seq, SnapshotError, StateMachine, StateMachineError, StateSnapshot,
    StopReason,
};

use crate::common::{all_have, close, describe, leader, memory, quick, soon};

/// Joins what it was given, and answers with how many that were.
#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    refuses: bool,
}

impl Lines {
    fn take(&mut self, entries: &[Applied]) -> Vec<Bytes> {
        let take = |entry: &Applied| {
            let text = String::from_utf8_lossy(&entry.payload);
            self.lines.push(format!("{} {text}", entry.seq));
            Bytes::from(self.lines.len().to_string())
        };
        entries.iter().map(take).collect()
    }

    fn become_what(&mut self, applied: Seq, state: &mut dyn Read) -> Result<(), StateMachineError> {
        let mut text = String::new();
        state.read_to_string(&mut text)?;
        self.lines = text.lines().map(ToOwned::to_owned).collect();
        let newest = self.lines.last().and_then(|line| line.split(' ').next()?.parse().ok());
        assert!(newest.is_none_or(|newest: u64| newest < applied.get()));
        Ok(())
    }

    fn text(&self) -> String {
        self.lines.join("\n")
    }
}

impl StateMachine for Lines {
    fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
        Ok(self.take(entries))
    }

    fn read(&mut self, _query: &[u8]) -> Result<Bytes, StateMachineError> {
        Ok(self.text().into())
    }

    fn takes_snapshots(&self) -> bool {
        true
    }

    fn snapshot(&mut self) -> Result<StateSnapshot, StateMachineError> {
        Ok(self.text().into_bytes().into())
    }

    fn restore(
        &mut self,
        applied: Seq,
        state: &mut (dyn Read + Send),
    ) -> Result<(), StateMachineError> {
        if self.refuses {
            return Err("told to refuse".into());
        }
        self.become_what(applied, state)
    }
}

struct Waiting(Lines);

impl AsyncStateMachine for Waiting {
    async fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
        Ok(self.0.take(entries))
    }

    async fn read(&mut self, _query: &[u8]) -> Result<Bytes, StateMachineError> {
        Ok(self.0.text().into())
    }

    fn takes_snapshots(&self) -> bool {
        true
    }

    async fn snapshot(&mut self) -> Result<StateSnapshot, StateMachineError> {
        tokio::task::yield_now().await;
        let text = self.0.text();
        Ok(StateSnapshot::new(move |out| out.write_all(text.as_bytes())))
    }

    async fn restore(
        &mut self,
        applied: Seq,
        state: &mut (dyn Read + Send),
    ) -> Result<(), StateMachineError> {
        tokio::task::yield_now().await;
        self.0.become_what(applied, state)
    }
}

/// A node with a log in segments that soon takes snapshots, in chunks of the smallest size.
fn on_disk(net: &InProcess, dir: &Path, id: u64) -> NodeBuilder {
    let builder = RaftNode::builder(id, [1, 2, 3]).log_segments(dir);
    let builder = builder.log_options(|options| options.snapshot_chunk_bytes = 1 << 10);
    quick(builder).transport(net.endpoint(NodeId::from(id))).snapshots(|snapshots| {
        snapshots.log_bytes = Some(10_000);
        snapshots.keep_entries = 10;
    })
}

async fn fill(node: &RaftNode, count: usize) -> Seq {
    let payloads = (0..count).map(|number| format!("{number} {:060}", 0));
    let appended = soon("a batch", node.append_batch(payloads)).await.unwrap();
    appended.seqs.end
}

async fn text(node: &RaftNode) -> Bytes {
    soon("a read", node.read_local("")).await.unwrap().result
}

/// The first event that is such.
async fn seen(events: &mut Events, is_it: impl Fn(&Event) -> bool) {
    let find = async {
        loop {
            match events.next().await {
                Some(Next::Event(event)) if is_it(&event) => return,
                Some(_) => {}
                None => panic!("the node has ended"),
            }
        }
    };
    soon("an event", find).await;
}

/// Logs on disks stay short; a node that was away gets a snapshot; and all nodes, opened again, have the state that they had,
/// and answer as if they had been open all the time.
#[tokio::test(flavor = "multi_thread")]
async fn snapshots_on_disks() {
    let (net, dir) = (InProcess::new(), tempfile::tempdir().unwrap());
    let open = async |id: u64| {
        let builder = on_disk(&net, dir.path(), id).state_machine(Lines::default);
        let events = builder.events();
        (soon("open", builder.open()).await.unwrap(), events)
    };
    let (mut nodes, mut events) = (Vec::new(), Vec::new());
    for id in 1..=3 {
        let (node, its) = open(id).await;
        nodes.push(node);
        events.push(its);
    }
    let last = fill(&nodes[leader(&nodes).await], 5).await;
    all_have(&nodes, last.before().unwrap()).await;
    let away = (leader(&nodes).await + 1) % 3;
    soon("close", nodes[away].close()).await.unwrap();
    for _ in 0..6 {
        fill(&nodes[(away + 1) % 3], 100).await;
    }
    for at in [(away + 1) % 3, (away + 2) % 3] {
        seen(&mut events[at], |event| matches!(event, Event::Snapshot { .. })).await;
        soon("it compacts", nodes[at].wait(|status| status.start > last)).await.unwrap();
    }
    let (node, mut its) = open(away as u64 + 1).await;
    nodes[away] = node;
    seen(&mut its, |event| matches!(event, Event::Installed { .. })).await;
    let end = fill(&nodes[away], 3).await;
    all_have(&nodes, end.before().unwrap()).await;
    let expected = text(&nodes[0]).await;
    for node in &nodes {
        assert_eq!(text(node).await, expected);
        assert!(node.status().snapshot.is_some());
    }
    let count = String::from_utf8_lossy(&expected).lines().count();
    close(&nodes).await;
    let mut again = Vec::new();
    for id in 1..=3 {
        again.push(open(id).await.0);
    }
    let appended = soon("append", again[1].append("after")).await.unwrap();
    assert_eq!(appended.result, (count + 1).to_string());
    all_have(&again, appended.seq).await;
    for node in &again {
        assert!(text(node).await.starts_with(&expected));
    }
    close(&again).await;
}

/// A snapshot, and then a compaction, that somebody asks for; with a state machine that waits, in memory.
#[tokio::test]
async fn on_demand() {
    let net = InProcess::new();
    let builder = describe(&net, 1, &[1]).async_state_machine(|| Waiting(Lines::default()));
    let mut events = builder.events();
    let node = soon("open", builder.open()).await.unwrap();
    let end = fill(&node, 20).await;
    soon("a snapshot", node.snapshot()).await.unwrap();
    let snapshot = node.status().snapshot.unwrap();
    assert_eq!(snapshot.seq.after(), node.status().applied);
    seen(&mut events, |event| matches!(event, Event::Snapshot { .. })).await;
    assert_eq!(node.status().start, Seq::ZERO, "nothing goes before it has to");
    let more = fill(&node, 20).await;
    soon("a compaction", node.compact(end)).await.unwrap();
    assert_eq!(node.status().start, end);
    seen(&mut events, |event| matches!(event, Event::Compacted { start } if *start == end)).await;
    let read = soon("entries", node.entries(Seq::ZERO..more).all()).await;
    assert!(matches!(read, Err(EntriesError::Compacted { start, .. }) if start == end), "{read:?}");
    let beyond = node.compact(more.after()).await.unwrap_err();
    let words = format!(
        "only what comes before seq {more} is applied here yet; entries after that can't go"
    );
    assert_eq!(beyond.to_string(), words);
    close(&[node]).await;
}

/// Without a state machine entries are all there is: they stay while a member lacks them. By force they go, and the member
/// goes on without them.
#[tokio::test(flavor = "multi_thread")]
async fn entries_stay_while_a_member_needs_them() {
    let (net, dir) = (InProcess::new(), tempfile::tempdir().unwrap());
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(soon("open", on_disk(&net, dir.path(), id).open()).await.unwrap());
    }
    let end = fill(&nodes[leader(&nodes).await], 5).await;
    all_have(&nodes, end.before().unwrap()).await;
    let at = leader(&nodes).await;
    let (away, other) = ((at + 1) % 3, (at + 2) % 3);
    soon("close", nodes[away].close()).await.unwrap();
    let end = fill(&nodes[at], 50).await;
    soon("it has them", nodes[other].wait(|status| status.applied >= end)).await.unwrap();
    for node in [at, other] {
        let refused = soon("a refusal", nodes[node].compact(end)).await;
        let is_needed = matches!(refused, Err(SnapshotError::Refused(Refused::StillNeeded { from })) if from < end);
        assert!(is_needed, "{refused:?}");
        soon("a compaction", nodes[node].force_compact(end)).await.unwrap();
        assert_eq!(nodes[node].status().start, end);
    }
    let node = on_disk(&net, dir.path(), away as u64 + 1);
    let mut events = node.events();
    nodes[away] = soon("open", node.open()).await.unwrap();
    seen(&mut events, |event| matches!(event, Event::Installed { .. })).await;
    let last = soon("append", nodes[away].append("after")).await.unwrap();
    all_have(&nodes, last.seq).await;
    assert!(nodes[away].status().start >= end);
    close(&nodes).await;
}

/// A log of one file can't give entries back, and a state machine may take no snapshots: both say so by name.
#[tokio::test]
async fn what_can_not_be_is_refused_by_name() {
    let (net, dir) = (InProcess::new(), tempfile::tempdir().unwrap());
    let builder = quick(RaftNode::builder(1, [1])).log_dir(dir.path());
    let node = builder.state_machine(Lines::default).open().await.unwrap();
    fill(&node, 3).await;
    soon("a snapshot", node.snapshot()).await.unwrap();
    let refused = node.compact(Seq::new(2)).await.unwrap_err().to_string();
    assert_eq!(
        refused,
        "this log is one file and can't give its oldest entries back; use a MultiFsLog"
    );
    close(&[node]).await;
    let builder = describe(&net, 1, &[1]).state_machine(crate::common::Counter::default);
    let node = builder.open().await.unwrap();
    fill(&node, 3).await;
    for refused in [node.snapshot().await, node.compact(Seq::new(2)).await] {
        assert!(
            matches!(refused, Err(SnapshotError::Refused(Refused::NoSnapshots))),
            "{refused:?}"
        );
    }
    close(&[node]).await;
}

/// A state machine that can't be restored stops its node, which says why.
#[tokio::test]
async fn a_state_machine_that_can_not_be_restored() {
    let dir = tempfile::tempdir().unwrap();
    let open = |refuses| {
        let make = move || Lines { refuses, ..Lines::default() };
        quick(RaftNode::builder(1, [1])).log_segments(dir.path()).state_machine(make).open()
    };
    let node = soon("open", open(false)).await.unwrap();
    let end = fill(&node, 3).await;
    soon("a compaction", node.compact(end)).await.unwrap();
    close(&[node]).await;
    let node = soon("open", open(true)).await.unwrap();
    let reason = soon("it stops", node.wait(|_| false)).await.unwrap_err();
    let words = reason.to_string();
    assert!(
        matches!(reason, StopReason::StateMachine(_)) && words.contains("told to refuse"),
        "{words}"
    );
    let memory = quick(RaftNode::builder(1, [1])).log(memory).state_machine(Lines::default);
    close(&[soon("open", memory.open()).await.unwrap()]).await;
}
