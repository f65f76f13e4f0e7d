//! What several tests need.

use std::time::Duration;

use tinyraftplus::{
    Applied, Bytes, EntryKind, InProcess, LogError, LogOptions, MemLog, NodeBuilder, NodeId,
    RaftNode, Seq, StateMachine, StateMachineError,
};

/// What must happen, and soon; says what it waited for.
pub(crate) async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    let limited = tokio::time::timeout(Duration::from_mins(1), happens).await;
    limited.unwrap_or_else(|_| panic!("it hangs: {what}"))
}

/// Short times, so that elections are quick.
pub(crate) fn quick(builder: NodeBuilder) -> NodeBuilder {
    builder
        .heartbeat_interval(Duration::from_millis(30))
        .election_timeout(Duration::from_millis(200))
        .election_jitter(Duration::from_millis(200))
}

pub(crate) fn memory() -> Result<MemLog, LogError> {
    MemLog::new(LogOptions::default())
}

/// A node with a log in memory, at a switchboard.
pub(crate) fn describe(net: &InProcess, id: u64, members: &[u64]) -> NodeBuilder {
    let builder = RaftNode::builder(id, members.iter().copied());
    quick(builder).log(memory).transport(net.endpoint(NodeId::from(id)))
}

pub(crate) async fn close(nodes: &[RaftNode]) {
    for node in nodes {
        soon("close", node.close()).await.unwrap();
    }
}

/// The position of the leader among these nodes.
pub(crate) async fn leader(nodes: &[RaftNode]) -> usize {
    let open = nodes.iter().find(|node| node.status().open).unwrap();
    let leader = soon("a leader", open.await_committed_leader()).await.unwrap();
    nodes.iter().position(|node| node.id() == leader).unwrap()
}

/// What users appended, as this node's log has it.
pub(crate) async fn payloads(node: &RaftNode) -> Vec<Bytes> {
    let entries = soon("its entries", node.entries(..).all()).await.unwrap();
    let users = entries.into_iter().filter(|entry| entry.kind == EntryKind::Payload);
    users.map(|entry| entry.payload).collect()
}

/// Waits until all of these have everything up to and with that entry, applied.
pub(crate) async fn all_have(nodes: &[RaftNode], seq: Seq) {
    for node in nodes {
        soon("it catches up", node.wait(|status| status.applied > seq)).await.unwrap();
    }
}

/// Counts what it was given; answers each with the count, and refuses a gap.
#[derive(Default)]
pub(crate) struct Counter {
    pub(crate) count: u64,
    pub(crate) next: Seq,
}

impl StateMachine for Counter {
    fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
        let mut results = Vec::new();
        for entry in entries {
            if entry.seq < self.next {
                return Err(format!("{} again", entry.seq).into());
            }
            self.next = entry.seq.after();
            self.count += 1;
            results.push(Bytes::from(self.count.to_string()));
        }
        Ok(results)
    }

    fn read(&mut self, query: &[u8]) -> Result<Bytes, StateMachineError> {
        if query == b"fail" {
            return Err("told to fail".into());
        }
        Ok(Bytes::from(self.count.to_string()))
    }
}
