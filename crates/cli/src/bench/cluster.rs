//! Three nodes in this process, each with its own durable log, and clients that append one entry at a time.

use crate::error::{Error, explain};
use bytes::Bytes;
use std::path::Path;
use std::time::{Duration, Instant};
use tinyraftplus::{InProcess, Key, NodeId, RaftNode, TcpTransport};

const NODES: u64 = 3;
/// Before anything is measured: files grow to their size, caches fill.
const WARM_UP: Duration = Duration::from_millis(500);

/// How fast that many clients append through the leader; an append ends when a quorum has synced it.
pub(crate) async fn appends(
    dir: &Path,
    clients: usize,
    payload: usize,
    time: Duration,
    over_tcp: bool,
) -> Result<super::Row, Error> {
    let dir = tempfile::Builder::new().prefix("nodes-").tempdir_in(dir);
    let dir =
        dir.map_err(|error| Error::failed(explain("can't make a directory for the logs", &error)))?;
    let wire = InProcess::new();
    let mut sockets = if over_tcp { sockets().await? } else { Vec::new() }.into_iter();
    let mut nodes = Vec::new();
    for number in 1..=NODES {
        let node = RaftNode::builder(number, 1..=NODES).log_dir(dir.path());
        let node = match sockets.next() {
            Some(socket) => node.transport(socket),
            None => node.transport(wire.endpoint(NodeId::from(number))),
        };
        let node = node.open().await;
        nodes.push(node.map_err(|error| failed("can't start a node", &error))?);
    }
    let mut leader = None;
    for node in &nodes {
        leader =
            Some(node.await_committed_leader().await.map_err(|error| failed("no leader", &error))?);
    }
    let leader = nodes.iter().find(|node| Some(node.status().id) == leader);
    let leader = leader.ok_or_else(|| Error::failed("the leader is not one of the nodes"))?;

    run(leader, clients, payload, WARM_UP).await?;
    let began = Instant::now();
    let latency = run(leader, clients, payload, time).await?;
    let what = if over_tcp { "the same over TCP" } else { "three nodes: append on a quorum" };
    let row = super::Row::new(what, clients, latency, began.elapsed());
    for node in nodes {
        node.close().await.map_err(|error| failed("a node did not close", &error))?;
    }
    Ok(row)
}

/// A transport for each node, encrypted, each with the addresses of the others.
async fn sockets() -> Result<Vec<TcpTransport>, Error> {
    let key = Key::generate().map_err(|error| failed("no key", &error))?;
    let mut sockets = Vec::new();
    for _ in 1..=NODES {
        let socket = TcpTransport::bind("127.0.0.1:0", &key, &[]).await;
        sockets.push(socket.map_err(|error| failed("can't listen", &error))?);
    }
    for here in &sockets {
        for (number, there) in (1..).zip(&sockets) {
            here.set_peer(NodeId::from(number), there.local_addr().to_string());
        }
    }
    Ok(sockets)
}

async fn run(
    node: &RaftNode,
    clients: usize,
    payload: usize,
    time: Duration,
) -> Result<hdrhistogram::Histogram<u64>, Error> {
    let payload: Bytes = super::payload(payload);
    let end = Instant::now() + time;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..clients {
        let (node, payload) = (node.clone(), payload.clone());
        tasks.spawn(async move {
            let mut latency = super::histogram();
            while Instant::now() < end {
                let began = Instant::now();
                node.append(payload.clone()).await?;
                super::record(&mut latency, began.elapsed());
            }
            Ok::<_, tinyraftplus::AppendError>(latency)
        });
    }
    let mut all = super::histogram();
    while let Some(joined) = tasks.join_next().await {
        let latency = joined.map_err(|error| failed("a client died", &error))?;
        let latency = latency.map_err(|error| failed("an append failed", &error))?;
        all.add(latency).map_err(|error| failed("can't add up", &error))?;
    }
    Ok(all)
}

fn failed(what: &str, error: &dyn std::error::Error) -> Error {
    Error::failed(explain(what, error))
}
