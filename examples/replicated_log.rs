//! A replicated log of three nodes in one process: append on any node, and every log ends with the same entry.

use std::error::Error;

use tinyraftplus::{InProcess, NodeId, RaftNode};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let net = InProcess::new();
    let mut nodes = Vec::new();
    for id in 1..=3_u64 {
        let node = RaftNode::builder(id, 1..=3_u64)
            .log_dir(dir.path())
            .transport(net.endpoint(NodeId::from(id)))
            .quorum(3) // full replication, for the demonstration
            .open()
            .await?;
        nodes.push(node);
    }
    println!("open");
    for node in &nodes {
        node.await_leader().await?;
    }
    println!("have leader");

    // An append on any node goes to the leader.
    let payloads = [r#"{"a":1}"#, r#"{"b":2}"#, r#"{"c":3}"#];
    let mut seqs = Vec::new();
    for (node, payload) in nodes.iter().zip(payloads) {
        let appended = node.append(payload).await?;
        println!("seq = {}", appended.seq);
        seqs.push(appended.seq.get());
    }
    let mut heads = Vec::new();
    for node in &nodes {
        let head = node.status().head.ok_or("an empty log")?;
        let payload = String::from_utf8(head.payload.to_vec())?;
        println!("head {payload}");
        heads.push(payload);
    }
    for node in &nodes {
        node.close().await?;
    }
    let is_right = seqs == [1, 2, 3] && heads.iter().all(|head| head == payloads[2]);
    if is_right { Ok(()) } else { Err("not what was appended".into()) }
}
