//! Nodes over TCP, and everybody else who finds the port.
#![expect(clippy::unwrap_used, reason = "tests")]

mod node;
mod relay;

use std::time::Duration;

use node::{Node, key, large, quick, small, soon, until};
use relay::{Mode, Relay};
use tinyraftplus_core::NodeId;
use tinyraftplus_core::quorum::CustomRule;
use tinyraftplus_net::{Key, NetEvent, TcpTransport, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn two() -> (Node, Node) {
    let (one, two) = (Node::new(1).await, Node::new(2).await);
    one.knows(&two);
    two.knows(&one);
    (one, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_all_sizes_arrive_both_ways() {
    let (mut one, mut two) = two().await;
    for message in [small(1), large(0), large(100), large(70_000), large(16 << 20)] {
        one.send(&two, message.clone());
        assert_eq!(two.message().await, (one.id, message.clone()));
        two.send(&one, message.clone());
        assert_eq!(one.message().await, (two.id, message));
    }
    until(|| one.transport.stats().received == 5).await;
    let stats = one.transport.stats();
    assert_eq!((stats.connected, stats.accepted, stats.dropped), (1, 1, 0));
}

/// A node whose name is an address needs no map; for another the event says what to do.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_addresses_need_no_map() {
    let bind = || async { TcpTransport::bind("127.0.0.1:0", &key(), &[]).await.unwrap() };
    let (one, two) = (bind().await, bind().await);
    let name = |it: &TcpTransport| NodeId::new(&it.local_addr().to_string()).unwrap();
    let mut one = Node::attach(name(&one), one, &[]);
    let mut two = Node::attach(name(&two), two, &[]);
    one.send(&two, small(1));
    assert_eq!(two.message().await, (one.id, small(1)));
    one.transport.send(NodeId::from(9), small(1));
    let why = one.unreachable().await;
    assert_eq!(why, "there is no address for node 9; name one, or use an address as its name");
}

/// Reads until the other side ends it.
async fn is_ended(mut stream: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    drop(soon(stream.read_to_end(&mut said)).await);
    said
}

/// `foreign_bytes`, and `garbage_kills_server` of the original (68 random bytes ended its process): whatever comes, the
/// connection ends and is counted, nothing is answered to those who speak something else, and the node goes on.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_bytes() {
    let (one, mut two) = two().await;
    one.reaches(&mut two, 1).await;
    let node_head = |end: [u8; 4]| [&b"TRPnode\n"[..], &end].concat();
    let foreign: [Vec<u8>; 8] = [
        (0..68).map(|at: u8| at.wrapping_mul(73) ^ 0x5a).collect(),
        b"GET / HTTP/1.1\r\nHost: db-1\r\n\r\n".to_vec(),
        [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[7; 200]].concat(),
        node_head([1, 1, 0xff, 0xff]),
        [node_head([1, 1, 100, 0]), vec![9; 100]].concat(),
        node_head([1, 1, 0, 0]),
        [node_head([7, 9, 48, 0]), vec![9; 48]].concat(),
        [&b"TRPpipe\n"[..], &[1, 1, 48, 0], &[9; 48]].concat(),
    ];
    let mut said = Vec::new();
    for bytes in &foreign {
        let mut stream = TcpStream::connect(two.transport.local_addr()).await.unwrap();
        drop(stream.write_all(bytes).await);
        said.push(is_ended(stream).await);
    }
    let answers: Vec<usize> = said.iter().map(Vec::len).collect();
    // Those who speak this protocol are told what is wrong: the key, the version.
    assert_eq!(answers, [0, 0, 0, 0, 12, 12, 14, 0]);
    // And what breaks off in the middle of any of it.
    for bytes in &foreign {
        let mut stream = TcpStream::connect(two.transport.local_addr()).await.unwrap();
        drop(stream.write_all(&bytes[..bytes.len().min(11)]).await);
        drop(stream.shutdown().await);
        is_ended(stream).await;
    }
    until(|| two.transport.stats().refused == 16).await;
    one.reaches(&mut two, 2).await;
    assert_eq!(two.transport.stats().accepted, 1);
}

async fn silent(count: u8, node: &Node) -> Vec<TcpStream> {
    let mut silent = Vec::new();
    for at in 0..count {
        let mut stream = TcpStream::connect(node.transport.local_addr()).await.unwrap();
        // Some say a little.
        drop(stream.write_all(b"TRPnode\n".get(..usize::from(at % 8)).unwrap()).await);
        silent.push(stream);
    }
    silent
}

/// Of connections that say nothing there are few at once: the oldest is put out for the newest, and so a node gets in, whatever
/// the number. Fails without the limit, or if the newest is put out.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_few() {
    let mut options = quick();
    options.handshakes_max = 4;
    options.handshake_timeout = Duration::from_mins(10);
    let mut two = Node::with(2, &key(), options, &[]).await;
    let mut silent = silent(20, &two).await;
    let last = silent.split_off(16);
    for stream in silent {
        is_ended(stream).await;
    }
    let one = Node::new(1).await;
    one.knows(&two);
    one.send(&two, small(1));
    assert_eq!(two.message().await.1, small(1));
    drop(last);
}

/// A handshake that takes long ends, however it is drawn out: whoever says a byte now and then gains no time. Fails without the
/// limit, or if it begins anew with each byte.
#[tokio::test(flavor = "multi_thread")]
async fn slow_handshakes_end() {
    let mut options = quick();
    options.handshake_timeout = Duration::from_millis(300);
    let two = Node::with(2, &key(), options, &[]).await;
    let silent = silent(4, &two).await;
    // The head of a long packet, and then a byte at a time.
    let mut slow = TcpStream::connect(two.transport.local_addr()).await.unwrap();
    slow.write_all(&[&b"TRPnode\n"[..], &[1, 1, 0, 16]].concat()).await.unwrap();
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    let drawn_out = async {
        loop {
            beat.tick().await;
            if slow.write_all(b"T").await.is_err() {
                return;
            }
        }
    };
    soon(drawn_out).await;
    for stream in silent {
        is_ended(stream).await;
    }
}

/// `wrong_cluster`: another key, another name of the cluster, rules that contradict each other, another node at the
/// address. Both sides say why.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_cluster() {
    let rule = |version| [CustomRule::new("near", version).unwrap()];
    let mut named = quick();
    named.cluster = "tests".into();
    let both = [rule(1)[0], rule(2)[0]];

    let mut two = Node::with(2, &key(), quick(), &rule(1)).await;
    let other_key = Key::from_bytes([8; 32]);
    let cases = [
        (
            Node::with(1, &other_key, quick(), &rule(1)).await,
            2,
            "the other side has another key; give both sides the same",
            "the other side has another key; give both sides the same",
        ),
        (
            Node::with(1, &key(), named, &rule(1)).await,
            2,
            "the other side belongs to cluster \"\", this node to \"tests\"; look at the addresses",
            "the other side belongs to cluster \"tests\", this node to \"\"; look at the addresses",
        ),
        (
            Node::with(1, &key(), quick(), &rule(2)).await,
            2,
            "the other side has the custom rule near/1 and not near/2; give all nodes the same rules",
            "the other side has the custom rule near/2 and not near/1; give all nodes the same rules",
        ),
        (
            Node::with(1, &key(), quick(), &rule(1)).await,
            3,
            "the other side node 2 is at the address of node 3; look at the addresses",
            "the other side node 2 is at the address of node 3; look at the addresses",
        ),
        (
            Node::with(2, &key(), quick(), &rule(1)).await,
            2,
            "the other side has the name of this node, 2; every node needs its own",
            "the other side has the name of this node, 2; every node needs its own",
        ),
    ];
    for (mut one, wanted, here, there) in cases {
        let wanted = NodeId::from(wanted);
        one.transport.set_peer(wanted, two.transport.local_addr().to_string());
        one.transport.send(wanted, small(1));
        assert_eq!(one.unreachable().await, here);
        // It is told once a second, whoever it was.
        let mut beat = tokio::time::interval(Duration::from_millis(10));
        soon(async {
            loop {
                tokio::select! {
                    _ = beat.tick() => one.transport.send(wanted, small(1)),
                    why = two.refused() => {
                        if why == there {
                            return;
                        }
                    }
                }
            }
        })
        .await;
        assert_eq!(one.transport.stats().connected, 0);
    }
    assert_eq!((two.transport.stats().accepted, two.messages()), (0, vec![]));

    // One that knows more rules gets in: so they can be added to one node after the other.
    let one = Node::with(1, &key(), quick(), &both).await;
    one.knows(&two);
    one.reaches(&mut two, 7).await;
}

/// `replayed_session`: everything that a node said over a connection is said again by somebody without the key. It has no
/// effect: the original delivered the messages again ("pay eve 100" was executed twice).
#[tokio::test(flavor = "multi_thread")]
async fn replayed_session() {
    let (one, mut two) = (Node::new(1).await, Node::new(2).await);
    let relay = Relay::new(two.transport.local_addr()).await;
    one.transport.set_peer(two.id, relay.address.to_string());
    one.send(&two, large(1000));
    assert_eq!(two.message().await.1, large(1000));
    let session = relay.recorded(0);
    assert!(session.len() > 1000);
    // While the connection stands, and when it does not.
    for _ in 0..2 {
        let refused = two.transport.stats().refused;
        let mut stream = TcpStream::connect(two.transport.local_addr()).await.unwrap();
        drop(stream.write_all(&session).await);
        // The first packet is genuine, and is answered; what follows tells that it was a recording.
        is_ended(stream).await;
        until(|| two.transport.stats().refused > refused).await;
        assert_eq!((two.messages().len(), two.transport.stats().accepted), (0, 1));
        one.transport.detach();
    }
}

/// `first_message_replayed`: only the first packet, which is genuine, and then silence. The healthy link stays: it is
/// not replaced before the other side has proved that it is there now. Fails if a connection counts after the handshake.
#[tokio::test(flavor = "multi_thread")]
async fn first_message_replayed() {
    let (one, mut two) = (Node::new(1).await, Node::new(2).await);
    let relay = Relay::new(two.transport.local_addr()).await;
    one.transport.set_peer(two.id, relay.address.to_string());
    one.reaches(&mut two, 1).await;
    let session = relay.recorded(0);
    let length = usize::from(u16::from_le_bytes([session[10], session[11]]));
    let mut stream = TcpStream::connect(two.transport.local_addr()).await.unwrap();
    stream.write_all(&session[..12 + length]).await.unwrap();
    let mut answer = vec![0; 12 + 32];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer[..8], *b"TRPnode\n");
    one.send(&two, small(2));
    assert_eq!(two.message().await, (one.id, small(2)));
    assert_eq!((two.transport.stats().accepted, one.transport.stats().connected), (1, 1));
}

/// `impersonated_node`: whoever has the key can claim any name. The newest connection of a name replaces the one before,
/// and that is told.
#[tokio::test(flavor = "multi_thread")]
async fn impersonated_node() {
    let (one, mut two) = two().await;
    one.reaches(&mut two, 1).await;
    let other = Node::new(1).await;
    other.knows(&two);
    other.send(&two, small(2));
    let peer =
        two.event(|event| if let NetEvent::Replaced { peer } = event { Some(peer) } else { None });
    assert_eq!(peer.await, one.id);
    let mut found = two.message().await;
    while found.1 != small(2) {
        found = two.message().await;
    }
    assert_eq!(found.0, other.id);
}

/// `half_open`: the cable is cut, and no word of it comes. It is noticed in time, and the connection is made again, with
/// waits, once there is a way.
#[tokio::test(flavor = "multi_thread")]
async fn half_open() {
    let (mut one, mut two) = (Node::new(1).await, Node::new(2).await);
    let relay = Relay::new(two.transport.local_addr()).await;
    one.transport.set_peer(two.id, relay.address.to_string());
    one.reaches(&mut two, 1).await;
    relay.set(Mode::Swallow);
    assert_eq!(one.unreachable().await, "nothing came for 400ms");
    relay.set(Mode::Pass);
    one.reaches(&mut two, 2).await;
    assert!(one.transport.stats().connected >= 2);
}

/// `slow_reader`: a peer that takes nothing costs so much memory and no more, and the others nothing. It is told what it costs. Fails if a lane has
/// no limit, or nothing is told.
#[tokio::test(flavor = "multi_thread")]
async fn slow_reader() {
    let mut options = quick();
    options.queue_bytes_max = 4 << 20;
    options.silence_timeout = Duration::from_secs(20);
    let mut one = Node::with(1, &key(), options, &[]).await;
    let (mut slow, mut three) = (Node::new(2).await, Node::new(3).await);
    let relay = Relay::new(slow.transport.local_addr()).await;
    one.transport.set_peer(slow.id, relay.address.to_string());
    one.knows(&three);
    one.reaches(&mut slow, 1).await;
    one.reaches(&mut three, 1).await;
    let dropped = one.transport.stats().dropped;
    relay.set(Mode::Stand);
    for number in 0..100 {
        one.send(&slow, large(1 << 20));
        one.send(&three, large(1 << 20));
        one.send(&three, small(100 + number));
        let mut got = Vec::new();
        while got.len() < 2 {
            let (_, message) = three.message().await;
            got.extend((message != small(1)).then_some(message));
        }
        assert!(got.contains(&large(1 << 20)) && got.contains(&small(100 + number)));
    }
    // Of 100 MiB a few are in the kernels' buffers and three wait.
    let stats = one.transport.stats();
    let dropped = stats.dropped - dropped;
    assert!((80..=97).contains(&dropped), "{dropped}");
    assert!(stats.waiting <= 4 << 20, "{} bytes wait", stats.waiting);
    let told = one.event(|event| {
        if let NetEvent::Dropped { peer, count } = event { Some((peer, count)) } else { None }
    });
    let (peer, count) = told.await;
    assert!(peer == slow.id && (1..=dropped).contains(&count), "{peer} {count}");
}

/// A peer that is not there: what is sent to it is dropped, not kept, and costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_peer_costs_nothing() {
    let mut one = Node::new(1).await;
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    one.transport.set_peer(NodeId::from(2), nobody.local_addr().unwrap().to_string());
    drop(nobody);
    for _ in 0..1000 {
        one.transport.send(NodeId::from(2), large(100_000));
    }
    assert!(one.unreachable().await.starts_with("the connection failed: "));
    one.transport.send(NodeId::from(2), small(1));
    until(|| one.transport.stats().dropped >= 1000).await;
}

/// `control_behind_bulk`: 16 MiB on a link of 4 MiB a second. Urgent messages pass it, one after the other. Fails if there is
/// one queue for all, or if the kernel takes as much as it likes.
#[tokio::test(flavor = "multi_thread")]
async fn control_behind_bulk() {
    let mut options = quick();
    options.silence_timeout = Duration::from_secs(5);
    let one = Node::with(1, &key(), options.clone(), &[]).await;
    let mut two = Node::with(2, &key(), options, &[]).await;
    let relay = Relay::new(two.transport.local_addr()).await;
    one.transport.set_peer(two.id, relay.address.to_string());
    one.reaches(&mut two, 1).await;
    relay.set(Mode::Slow(4 << 10));
    let batch = large(16 << 20);
    one.send(&two, batch.clone());
    for number in 0..8 {
        one.send(&two, small(100 + number));
        loop {
            let (_, message) = two.message().await;
            assert_ne!(message, batch, "it came before urgent message {number}");
            if message == small(100 + number) {
                break;
            }
        }
    }
    relay.set(Mode::Pass);
    while two.message().await.1 != batch {}
    assert_eq!(one.transport.stats().connected, 1);
}

/// `too_large`: refused before it is sent, with the limit named, whichever side has it: each says in its hello what it takes, and what waited for the
/// connection is looked at too. Fails if `limit` does not take away what waits: the receiver would end the connection, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn too_large() {
    let mut options = quick();
    options.message_bytes_max = 1000;
    let (mut one, mut two) = (Node::new(1).await, Node::with(2, &key(), options, &[]).await);
    one.knows(&two);
    two.knows(&one);
    two.send(&one, large(1000));
    let event = two.event(|event| matches!(event, NetEvent::TooLarge { .. }).then_some(event));
    let text = "a message of 1051 bytes to node 1 is over the limit of 1000; raise message_bytes_max on all nodes";
    assert_eq!(event.await.to_string(), text);
    two.reaches(&mut one, 1).await;
    one.reaches(&mut two, 2).await;
    let text = "a message of 1051 bytes to node 2 is over the limit of 1000; raise message_bytes_max on all nodes";
    one.send(&two, large(1000));
    let told =
        |event: NetEvent| matches!(event, NetEvent::TooLarge { .. }).then(|| event.to_string());
    assert_eq!(one.event(told).await, text);
    one.reaches(&mut two, 3).await;
    let mut early = Node::new(4).await;
    early.knows(&two);
    early.send(&two, large(1000));
    early.send(&two, small(5));
    assert_eq!(early.event(told).await, text);
    while two.message().await != (early.id, small(5)) {}
    let stats = [one.transport.stats(), early.transport.stats()];
    assert_eq!(stats.map(|stats| stats.connected), [1, 1]);
    assert!(stats.iter().all(|stats| stats.dropped >= 1));
}

/// Members come and go for years, and each may have a new name: the newest is reached, whatever the number. Fails if there is a last one.
#[tokio::test(flavor = "multi_thread")]
async fn members_with_new_names_are_reached() {
    let (one, mut two) = (Node::new(1).await, Node::new(2).await);
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    for name in 1000..2000 {
        one.transport.set_peer(NodeId::from(name), nowhere.clone());
        one.transport.send(NodeId::from(name), small(1));
    }
    one.knows(&two);
    one.reaches(&mut two, 1).await;
}

/// What a node has open when it closes is closed: sockets, and whatever holds its inbox. Fails if `detach` forgets the connections, either way.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_node_leaves_nothing_open() {
    let (mut one, mut two) = two().await;
    let silent = silent(3, &two).await;
    one.reaches(&mut two, 1).await;
    two.reaches(&mut one, 2).await;
    let held = two.ears.clone();
    assert!(held.strong_count() > 0);
    two.transport.detach();
    for stream in silent {
        is_ended(stream).await;
    }
    one.unreachable().await;
    until(|| held.strong_count() == 0).await;
}

/// A node that closes gives its address back at once, and the next one gets the messages.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_node_leaves_its_address_to_the_next() {
    let (one, mut two) = two().await;
    one.reaches(&mut two, 1).await;
    for number in 2..5 {
        let address = two.transport.local_addr();
        two.transport.detach();
        let transport = TcpTransport::bind_with(address, &key(), &[], quick()).await.unwrap();
        let mut used = Node::attach(two.id, two.transport.clone(), &[]);
        let event = used.event(|event| matches!(event, NetEvent::Used).then_some(event)).await;
        assert!(event.to_string().starts_with("this transport has served another node"));
        two = Node::attach(two.id, transport, &[]);
        one.reaches(&mut two, number).await;
    }
    let mut one = one;
    drop(two);
    one.unreachable().await;
}

/// Nothing of it is printed, and options that make no sense are refused.
#[tokio::test]
async fn options_are_checked() {
    let mut options = quick();
    options.silence_timeout = options.ping_interval;
    let bound = TcpTransport::bind_with("127.0.0.1:0", &key(), &[], options).await;
    let error = bound.err().unwrap();
    assert_eq!(error.to_string(), "silence_timeout must be at least twice ping_interval");
}
