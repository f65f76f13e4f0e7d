//! A replicated log of three nodes over TCP: durable, encrypted, each node named after its address.

use std::error::Error;

use tinyraftplus::{Key, RaftNode, TcpTransport};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    // The same for all nodes. Ordinarily from a file that `tinyraftplus keygen` made; see `Key::from_hex`.
    let key = Key::generate()?;
    let mut transports = Vec::new();
    for _ in 0..3 {
        transports.push(TcpTransport::bind("127.0.0.1:0", &key, &[]).await?);
    }
    let members: Vec<String> = transports.iter().map(|it| it.local_addr().to_string()).collect();
    let mut nodes = Vec::new();
    for (id, transport) in members.iter().zip(transports) {
        let node = RaftNode::builder(id.as_str(), members.iter().map(String::as_str));
        nodes.push(node.log_dir(dir.path()).transport(transport).open().await?);
    }
    for node in &nodes {
        node.await_leader().await?;
    }
    println!("have leader");
    for (number, node) in (1_u64..).zip(&nodes) {
        let appended = node.append(format!("payload {number}")).await?;
        println!("seq = {}", appended.seq);
        if appended.seq.get() != number {
            return Err("not where it belongs".into());
        }
    }
    // All of them, before the first is closed: the last one alone is told nothing any more.
    for node in &nodes {
        let status = node.wait(|status| status.committed.get() >= 4).await?;
        println!("head {:?}", status.head.ok_or("an empty log")?.payload);
    }
    for node in &nodes {
        node.close().await?;
    }
    Ok(())
}
