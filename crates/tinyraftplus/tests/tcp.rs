//! Nodes over TCP: three of them, one that comes back, one with another key, and a slow link.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../../net/tests/tcp/relay.rs"]
mod relay;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use relay::{Mode, Relay};
use tinyraftplus::{
    Bytes, Event, HandshakeError, Key, LogOptions, MemLog, NetEvent, Next, NodeId, RaftNode, Seq,
    TcpOptions, TcpTransport,
};

const IDS: [u64; 3] = [1, 2, 3];

/// What must happen, and soon.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it hangs")
}

fn key() -> Key {
    Key::from_bytes([7; 32])
}

async fn bind(address: &str) -> TcpTransport {
    TcpTransport::bind(address, &key(), &[]).await.unwrap()
}

async fn open(dir: &Path, id: u64, transport: TcpTransport) -> RaftNode {
    RaftNode::builder(id, IDS).log_dir(dir).transport(transport).open().await.unwrap()
}

fn tell(transport: &TcpTransport, addresses: &[SocketAddr]) {
    for (id, address) in IDS.into_iter().zip(addresses) {
        transport.set_peer(NodeId::from(id), address.to_string());
    }
}

async fn cluster(dir: &Path) -> (Vec<RaftNode>, Vec<SocketAddr>) {
    let transports =
        [bind("127.0.0.1:0").await, bind("127.0.0.1:0").await, bind("127.0.0.1:0").await];
    let addresses: Vec<_> = transports.iter().map(TcpTransport::local_addr).collect();
    let mut nodes = Vec::new();
    for (id, transport) in IDS.into_iter().zip(transports) {
        tell(&transport, &addresses);
        nodes.push(open(dir, id, transport).await);
    }
    (nodes, addresses)
}

/// Three nodes elect, and each takes an append and a read; then each in turn is killed, misses entries, and comes
/// back at its address.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let (mut nodes, addresses) = cluster(dir.path()).await;
    let mut seq = 0;
    for node in &nodes {
        soon(node.await_committed_leader()).await.unwrap();
        seq = soon(node.append("before")).await.unwrap().seq.get();
    }
    assert_eq!(seq, 3);
    for at in 0..3 {
        soon(nodes[at].kill()).await;
        let other = &nodes[(at + 1) % 3];
        let gone = NodeId::from(IDS[at]);
        soon(other.wait(|status| status.leader.is_some_and(|leader| leader != gone)))
            .await
            .unwrap();
        seq = soon(other.append("while one is away")).await.unwrap().seq.get();
        let transport = bind(&addresses[at].to_string()).await;
        tell(&transport, &addresses);
        nodes[at] = open(dir.path(), IDS[at], transport).await;
        soon(nodes[at].wait(|status| status.committed > Seq::new(seq))).await.unwrap();
        assert!(soon(nodes[at].append("after")).await.unwrap().seq.get() > seq);
    }
    for node in &nodes {
        soon(node.close()).await.unwrap();
    }
}

/// A node with another key is told so, and the two others do without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_key_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let (nodes, addresses) = cluster(dir.path()).await;
    for node in &nodes {
        soon(node.await_committed_leader()).await.unwrap();
    }
    soon(nodes[2].kill()).await;
    let address = addresses[2].to_string();
    let other = TcpTransport::bind(&address, &Key::from_bytes([8; 32]), &[]).await.unwrap();
    tell(&other, &addresses);
    let stranger = open(dir.path(), 3, other).await;
    let mut events = stranger.events();
    soon(async {
        loop {
            let Some(Next::Event(Event::Net(event))) = events.next().await else { continue };
            if let NetEvent::Unreachable { why, .. } = &event
                && why.to_string() == format!("the other side {}", HandshakeError::Key)
            {
                return;
            }
        }
    })
    .await;
    // What a leader that is gone may have taken nobody can refuse, so it must be one of the two.
    let leads = |leader: NodeId| leader != NodeId::from(3);
    soon(nodes[0].wait(move |status| status.leader.is_some_and(leads))).await.unwrap();
    soon(nodes[0].append("two are enough")).await.unwrap();
    assert_eq!(stranger.status().leader, None);
}

/// `slow_reader`, of a whole cluster: one node takes nothing any more, as a process that was stopped. The others commit what they are given, it gets
/// none of that, and what the leader keeps for it is limited. When it takes something again, it catches up. The limit of a lane and the window of
/// the consensus both keep it so; it passes without the first, whose own test is `slow_reader` of the transport.
#[tokio::test(flavor = "multi_thread")]
async fn slow_reader() {
    let dir = tempfile::tempdir().unwrap();
    let (mut transports, mut relays, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
    let mut options = TcpOptions::default();
    options.queue_bytes_max = 1 << 20;
    options.silence_timeout = Duration::from_mins(1);
    for _ in IDS {
        let key = key();
        let transport = TcpTransport::bind_with("127.0.0.1:0", &key, &[], options.clone());
        let transport = transport.await.unwrap();
        let relay = Relay::new(transport.local_addr()).await;
        addresses.push(relay.address);
        transports.push(transport);
        relays.push(relay);
    }
    let mut nodes = Vec::new();
    for (id, transport) in IDS.into_iter().zip(&transports) {
        tell(transport, &addresses);
        nodes.push(open(dir.path(), id, transport.clone()).await);
    }
    let mut leads = NodeId::from(1);
    for node in &nodes {
        leads = soon(node.await_committed_leader()).await.unwrap();
        soon(node.append("all are well")).await.unwrap();
    }
    let at = nodes.iter().position(|node| node.id() == leads).unwrap();
    let (leader, other, slow) = (&nodes[at], &nodes[(at + 1) % 3], &nodes[(at + 2) % 3]);
    let seen = soon(leader.append("the last that it hears of")).await.unwrap().seq;
    soon(slow.wait(|status| status.durable > seen)).await.unwrap();
    relays[(at + 2) % 3].set(Mode::Stand);
    let (mut most, mut last) = (0, seen);
    for _ in 0..200 {
        last = soon(leader.append(vec![9; 100_000])).await.unwrap().seq;
        for transport in &transports {
            most = most.max(transport.stats().waiting);
        }
    }
    soon(other.wait(|status| status.committed > last)).await.unwrap();
    // 20 MB were appended. A few records were in the kernels' buffers.
    assert!(slow.status().durable < Seq::new(seen.get() + 50), "it was not slow");
    assert!(most <= 3 << 20, "{most} bytes waited");
    relays[(at + 2) % 3].set(Mode::Pass);
    soon(slow.wait(|status| status.committed > last)).await.unwrap();
}

/// What no message holds must not be committed: it would be in one log and never get into another. Fails if `open` does not ask the transport.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_no_message_holds_is_refused_at_open() {
    let builder = |transport: TcpTransport, batch_bytes_max| {
        let builder = RaftNode::builder(1, [1, 2]).log(|| MemLog::new(LogOptions::default()));
        builder
            .options(move |options| options.batch_bytes_max = batch_bytes_max)
            .transport(transport)
    };
    let transport = bind("127.0.0.1:0").await;
    let error = builder(transport.clone(), 64 << 20).open().await.unwrap_err().to_string();
    let text = "a batch may need a message of 84934656 bytes, and the transport takes 67108864: lower batch_bytes_max";
    assert!(error.starts_with(text), "{error}");
    let node = builder(transport, 47 << 20).open().await.unwrap();
    soon(node.close()).await.unwrap();
}

/// `control_behind_bulk`: a batch of 8 MiB on links of 4 MiB a second. Heartbeats pass it: nobody campaigns.
#[tokio::test(flavor = "multi_thread")]
async fn control_behind_bulk() {
    let dir = tempfile::tempdir().unwrap();
    let (mut transports, mut relays, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
    for _ in IDS {
        let transport = bind("127.0.0.1:0").await;
        let relay = Relay::new(transport.local_addr()).await;
        addresses.push(relay.address);
        transports.push(transport);
        relays.push(relay);
    }
    let mut nodes = Vec::new();
    for (id, transport) in IDS.into_iter().zip(transports) {
        tell(&transport, &addresses);
        nodes.push(open(dir.path(), id, transport).await);
    }
    let mut leader = NodeId::from(1);
    for node in &nodes {
        leader = soon(node.await_committed_leader()).await.unwrap();
    }
    let leader = nodes.iter().find(|node| node.status().id == leader).unwrap();
    let term = leader.status().term;
    for relay in &relays {
        relay.set(Mode::Slow(4 << 10));
    }
    let batch = vec![Bytes::from(vec![9; 1 << 20]); 8];
    let appended = soon(leader.append_batch(batch)).await.unwrap();
    let last = appended.seqs.end;
    for node in &nodes {
        soon(node.wait(|status| status.committed >= last)).await.unwrap();
        assert_eq!(node.status().term, term);
    }
    assert!(relays.iter().all(|relay| !relay.recorded(0).is_empty()));
}
