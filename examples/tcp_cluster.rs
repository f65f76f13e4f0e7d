//! Everything at once: three nodes in three clouds over encrypted TCP, logs encrypted on disk, a state machine, a quorum rule,
//! time limits. Each node is named after its address, so that they find each other.

use std::{error::Error, sync::Arc, time::Duration};

use tinyraftplus::{
    Applied, Bytes, EncryptingEncoder, Group, Key, QuorumRule, RaftNode, StateMachine,
    StateMachineError, TcpTransport,
};

/// Counts what was appended.
struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
        let counts = (self.0 + 1..).take(entries.len()).map(|count| count.to_string().into());
        self.0 += entries.len() as u64;
        Ok(counts.collect())
    }
    fn read(&mut self, _query: &[u8]) -> Result<Bytes, StateMachineError> {
        Ok(self.0.to_string().into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The same for all nodes. Ordinarily from a file that `tinyraftplus keygen` made; see `Key::from_hex`.
    let (dir, key, mut counts) = (tempfile::tempdir()?, Key::generate()?, Vec::new());
    let bind = || TcpTransport::bind("127.0.0.1:0", &key, &[]);
    let (transports, mut nodes) = ([bind().await?, bind().await?, bind().await?], Vec::new());
    let members: Vec<_> = transports.iter().map(|it| it.local_addr().to_string()).collect();
    for ((id, transport), cloud) in members.iter().zip(transports).zip(["a", "b", "c"]) {
        let node = RaftNode::builder(id, &members).log_dir(dir.path()).transport(transport);
        let node = node.log_options(|log| log.encoder = Arc::new(EncryptingEncoder::new(&key)));
        let node = node.group(Group::new(cloud)?).rule(QuorumRule::MajorityOfGroups);
        let node = node.append_timeout(Duration::from_secs(30)).state_machine(|| Counter(0));
        nodes.push(node.open().await?);
    }
    for node in &nodes {
        let batch = node.append_batch(["one", "and another"]).await?;
        let read = node.read("how many?").await?;
        println!("seq {} {:?} {:?}", batch.seqs.start, batch.results, read.result);
        counts.extend(batch.results);
    }
    for node in &nodes {
        node.close().await?;
    }
    if counts == ["1", "2", "3", "4", "5", "6"] { Ok(()) } else { Err("miscounted".into()) }
}
