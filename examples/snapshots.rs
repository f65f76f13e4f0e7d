//! Logs that stay short: a state machine writes itself down, old entries go, and a node that starts again, or was away for too
//! long, begins with what was written.

use std::error::Error;
use std::io::Read;
use std::path::Path;

use tinyraftplus::{
    Applied, Bytes, InProcess, NodeId, RaftNode, Seq, StateMachine, StateMachineError,
    StateSnapshot,
};

#[derive(Default)]
struct Sum(u64);

impl StateMachine for Sum {
    fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
        let add = |entry: &Applied| {
            self.0 += entry.payload.len() as u64;
            Bytes::from(self.0.to_string())
        };
        Ok(entries.iter().map(add).collect())
    }

    fn read(&mut self, _query: &[u8]) -> Result<Bytes, StateMachineError> {
        Ok(Bytes::from(self.0.to_string()))
    }

    fn takes_snapshots(&self) -> bool {
        true
    }

    fn snapshot(&mut self) -> Result<StateSnapshot, StateMachineError> {
        // A copy, made at once; it is written while entries go on.
        Ok(self.0.to_le_bytes().to_vec().into())
    }

    fn restore(
        &mut self,
        _applied: Seq,
        state: &mut (dyn Read + Send),
    ) -> Result<(), StateMachineError> {
        let mut bytes = [0; 8];
        state.read_exact(&mut bytes)?;
        self.0 = u64::from_le_bytes(bytes);
        Ok(())
    }
}

async fn open(net: &InProcess, dir: &Path, id: u64) -> Result<RaftNode, Box<dyn Error>> {
    let node = RaftNode::builder(id, 1..=3_u64)
        .log_segments(dir)
        .transport(net.endpoint(NodeId::from(id)))
        .state_machine(Sum::default)
        // So small that this example sees it happen; the default is 64 MiB.
        .snapshots(|snapshots| {
            snapshots.log_bytes = Some(10_000);
            snapshots.keep_entries = 10;
        });
    Ok(node.open().await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (dir, net) = (tempfile::tempdir()?, InProcess::new());
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(open(&net, dir.path(), id).await?);
    }
    let [first, second, third] = nodes.as_slice() else { return Err("no nodes".into()) };
    first.append("a first entry, which all have").await?;
    // A leader that goes takes the calls with it that it has just been sent, so another one leads.
    first.transfer_leadership(1).await?;
    third.close().await?;
    // Entries that a node may be about to ask for stay for a moment; then they go as well.
    let mut sum = "a first entry, which all have".len();
    while [first, second].iter().any(|node| node.status().start < Seq::new(100)) {
        first.append("123456789").await?;
        sum += "123456789".len();
    }
    println!("the logs of nodes 1 and 2 have given old entries back");
    // What node 3 lacks is gone from the others: it gets a snapshot, and then the rest as entries.
    let third = open(&net, dir.path(), 3).await?;
    let read = third.read("").await?;
    let is_right = read.result == sum.to_string();
    println!("node 3 is back, and knows the sum: {is_right}");
    for node in nodes.iter().take(2).chain([&third]) {
        node.close().await?;
    }
    if is_right { Ok(()) } else { Err("not what was appended".into()) }
}
