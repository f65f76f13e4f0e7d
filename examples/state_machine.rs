//! A state machine on a replicated log: it counts what was appended, the same on every node.

use std::error::Error;

use tinyraftplus::{Applied, Bytes, InProcess, NodeId, RaftNode, StateMachine, StateMachineError};

#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
        let count = |_: &Applied| {
            self.0 += 1;
            Bytes::from(self.0.to_string())
        };
        Ok(entries.iter().map(count).collect())
    }

    fn read(&mut self, _query: &[u8]) -> Result<Bytes, StateMachineError> {
        Ok(Bytes::from(self.0.to_string()))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let net = InProcess::new();
    let mut nodes = Vec::new();
    for id in 1..=3_u64 {
        let node = RaftNode::builder(id, 1..=3_u64)
            .log_dir(dir.path())
            .transport(net.endpoint(NodeId::from(id)))
            .state_machine(Counter::default)
            .open();
        nodes.push(node.await?);
    }
    let mut seen = Vec::new();
    for (node, payload) in nodes.iter().zip(["a", "b", "c"]) {
        let appended = node.append(payload).await?;
        let result = String::from_utf8(appended.result.to_vec())?;
        println!("state {} {result}", appended.seq);
        seen.push((appended.seq.get(), result));
    }
    let [first, ..] = nodes.as_slice() else { return Err("no nodes".into()) };
    let read = first.read("any query").await?;
    let result = String::from_utf8(read.result.to_vec())?;
    println!("read  {} {result}", read.seq);
    seen.push((read.seq.get(), result));
    for node in &nodes {
        node.close().await?;
    }
    let expected = [(1, "1"), (2, "2"), (3, "3"), (3, "3")].map(|(seq, r)| (seq, r.to_string()));
    if seen == expected { Ok(()) } else { Err("not what was counted".into()) }
}
