//! Peers that have the key and say what no correct node says.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::Wire;
use crate::handshake::HandshakeError;
use crate::lanes::Kind;
use crate::records::{ConnectionError, RecordReader, RecordWriter, initiate};
use crate::wire::Lane;
use tinyraftplus_core::Identity;
use tinyraftplus_replica::ReadIndex;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

struct Ears(UnboundedSender<Heard>);

#[derive(Debug)]
enum Heard {
    Message(Message),
    Event(NetEvent),
}

impl Inbox for Ears {
    fn deliver(&self, _from: NodeId, message: Message) -> bool {
        self.0.send(Heard::Message(message)).is_ok()
    }

    fn id(&self) -> NodeId {
        NodeId::from(2)
    }

    fn tell(&self, event: NetEvent) {
        drop(self.0.send(Heard::Event(event)));
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it hangs")
}

fn key() -> Key {
    Key::from_bytes([7; 32])
}

fn message(number: u64) -> Message {
    Message::ReadIndex(ReadIndex { from: Identity::new(1), incarnation: 1, number })
}

/// A node, and what it hears.
struct Victim {
    transport: TcpTransport,
    heard: UnboundedReceiver<Heard>,
}

/// A connection to it that was let in.
struct Peer {
    records: RecordWriter<OwnedWriteHalf>,
    replies: RecordReader<OwnedReadHalf>,
}

impl Victim {
    async fn new() -> Self {
        Self::with(TcpOptions::default()).await
    }

    async fn with(options: TcpOptions) -> Self {
        let transport = TcpTransport::bind_with("127.0.0.1:0", &key(), &[], options).await.unwrap();
        let (sender, heard) = unbounded_channel();
        transport.attach(Arc::new(Ears(sender)));
        Self { transport, heard }
    }

    /// The handshake alone.
    async fn shake(&self, id: u64) -> Result<Peer, ConnectionError> {
        let mut stream = TcpStream::connect(self.transport.local_addr()).await?;
        let id = Some(NodeId::from(id));
        let hello = Hello { id, to: Some(NodeId::from(2)), ..Hello::default() };
        let key = Purpose::Nodes.key(&key());
        let (session, _) = initiate(&mut stream, &key, Purpose::Nodes, hello).await?;
        let (read, write) = stream.into_split();
        let (sealer, opener) = session.split();
        let records = RecordWriter::new(write, sealer);
        Ok(Peer { records, replies: RecordReader::new(read, opener) })
    }

    async fn peer(&self, id: u64) -> Peer {
        let mut peer = self.shake(id).await.unwrap();
        peer.records.write(&[Kind::Ping.byte()]).await.unwrap();
        assert_eq!(soon(peer.replies.next()).await.unwrap(), [Kind::Pong.byte()]);
        peer
    }

    async fn message(&mut self) -> Message {
        loop {
            if let Heard::Message(message) = soon(self.heard.recv()).await.unwrap() {
                return message;
            }
        }
    }

    async fn event(&mut self) -> NetEvent {
        loop {
            if let Heard::Event(event) = soon(self.heard.recv()).await.unwrap() {
                return event;
            }
        }
    }
}

impl Peer {
    async fn say(&mut self, lane: Lane, bytes: &[u8]) {
        let content = [&[Kind::Part(lane).byte()], bytes].concat();
        self.records.write(&content).await.unwrap();
    }

    async fn frame(&mut self, lane: Lane, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        self.say(lane, &[&length, bytes].concat()).await;
    }

    async fn is_ended(&mut self) {
        while soon(self.replies.next()).await.is_ok() {}
    }
}

/// `malformed_message`: what can't be, and what only a newer version knows: messages are dropped and counted, records and
/// kinds skipped, and the connection goes on.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_message() {
    let mut node = Victim::new().await;
    let mut peer = node.peer(1).await;
    let append = Lane::Append;
    let newer = [&[60][..], &message(1).encode()[1..]].concat();
    for bytes in [&[][..], &[7], &[35, 3, 200], &newer, &[0xff; 40]] {
        peer.frame(append, bytes).await;
    }
    // Records of a kind that does not exist yet, an empty one, and what only the other side says.
    for content in [&[200, 1, 2, 3][..], &[], &[Kind::Pong.byte()], &[Kind::End.byte()]] {
        peer.records.write(content).await.unwrap();
    }
    peer.frame(append, &message(5).encode()).await;
    assert_eq!(node.message().await, message(5));
    let stats = node.transport.stats();
    assert_eq!((stats.malformed, stats.skipped, stats.accepted), (4, 2, 1));
    // Lanes do not mix, wherever they are cut.
    let bytes = message(6).encode();
    let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    for part in [&length[..3], &length[3..], &bytes[..7], &bytes[7..]] {
        peer.say(Lane::Bulk, part).await;
        peer.frame(Lane::Control, &message(7).encode()).await;
        assert_eq!(node.message().await, if part == &bytes[7..] { message(6) } else { message(7) });
    }
    assert_eq!(node.message().await, message(7));
}

/// `huge_frame`: a length of 4 GiB ends the connection at once, and nothing is kept for it. Fails without the limit: it
/// would wait for the rest.
#[tokio::test(flavor = "multi_thread")]
async fn huge_frame() {
    let options = TcpOptions { silence_timeout: Duration::from_mins(10), ..TcpOptions::default() };
    let mut node = Victim::with(options).await;
    for bytes in [&u32::MAX.to_le_bytes()[..], &[1, 0, 0, 4]] {
        let mut peer = node.peer(1).await;
        peer.say(Lane::Append, bytes).await;
        peer.is_ended().await;
    }
    let mut peer = node.peer(1).await;
    peer.frame(Lane::Append, &message(1).encode()).await;
    assert_eq!(node.message().await, message(1));
}

/// A record that was changed on the way ends the connection, and that is told; a message before it arrives, none after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_record_ends_the_connection() {
    use tokio::io::AsyncWriteExt;
    let mut node = Victim::new().await;
    let mut stream = TcpStream::connect(node.transport.local_addr()).await.unwrap();
    let hello = Hello { id: Some(NodeId::from(1)), ..Hello::default() };
    let key = Purpose::Nodes.key(&key());
    let (session, _) = initiate(&mut stream, &key, Purpose::Nodes, hello).await.unwrap();
    let (mut sealer, opener) = session.split();
    let mut bytes = Vec::new();
    sealer.seal(&[Kind::Ping.byte()], &mut bytes).unwrap();
    let encoded = message(1).encode();
    let content = [&[0, u8::try_from(encoded.len()).unwrap(), 0, 0, 0], &encoded[..]].concat();
    sealer.seal(&content, &mut bytes).unwrap();
    let end = bytes.len();
    sealer.seal(&content, &mut bytes).unwrap();
    bytes[end + 9] ^= 1;
    sealer.seal(&content, &mut bytes).unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut replies = RecordReader::new(stream, opener);
    while soon(replies.next()).await.is_ok() {}
    assert_eq!(node.message().await, message(1));
    let event = node.event().await;
    let text =
        "a connection of node 1 was ended: a record was changed, repeated or lost on the way";
    assert_eq!(event.to_string(), text);
    assert!(node.heard.try_recv().is_err());
}

/// A connection whose first record is anything but a ping, and one that has no name.
#[tokio::test(flavor = "multi_thread")]
async fn the_proof_is_a_ping() {
    let mut node = Victim::new().await;
    let mut peer = node.shake(1).await.unwrap();
    peer.frame(Lane::Control, &message(1).encode()).await;
    peer.is_ended().await;
    let event = node.event().await;
    let NetEvent::Refused { why, .. } = event else { panic!("{event}") };
    let is_foreign = matches!(&*why, ConnectionError::Handshake(HandshakeError::Foreign));
    assert!(is_foreign, "{why}");
    assert_eq!(node.transport.stats().accepted, 0);
}

/// A peer that asks all the time and never reads the answers holds up itself, and not for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_reads_answers_is_given_up() {
    let mut node = Victim::new().await;
    let mut deaf = node.peer(1).await;
    let pings = async { while deaf.records.write(&[Kind::Ping.byte()]).await.is_ok() {} };
    let other = async {
        let mut peer = node.peer(3).await;
        peer.frame(Lane::Control, &message(1).encode()).await;
        assert_eq!(node.message().await, message(1));
    };
    soon(async { tokio::join!(pings, other) }).await;
}

/// Two nodes of which each lets the other in and then has its own connection ended: each sees the other come, so neither waits, and they would do
/// nothing else any more. Fails if the shortest wait can be cut short.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_end_each_other_come_to_rest() {
    let mut options = TcpOptions::default();
    (options.retry_min, options.retry_max) = (Duration::from_mins(10), Duration::from_mins(10));
    let mut node = Victim::with(options).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = NodeId::from(1);
    node.transport.set_peer(other, listener.local_addr().unwrap().to_string());
    node.transport.send(other, message(1));
    drop(soon(listener.accept()).await.unwrap());
    assert!(matches!(node.event().await, NetEvent::Unreachable { .. }));
    for _ in 0..5 {
        drop(node.peer(1).await);
        node.transport.send(other, message(1));
        let again = tokio::time::timeout(Duration::from_millis(50), listener.accept());
        assert!(again.await.is_err(), "it connected again at once");
    }
}

/// Whoever has the key can claim any number of names. There is a limit to how many of them are connected, and who is not let in for it is told.
/// Fails without the limit.
#[tokio::test(flavor = "multi_thread")]
async fn names_are_few() {
    let mut node = Victim::new().await;
    let mut peers = Vec::new();
    for name in 0..PEERS_MAX as u64 {
        peers.push(node.peer(1000 + name).await);
    }
    let mut late = node.shake(5).await.unwrap();
    late.records.write(&[Kind::Ping.byte()]).await.unwrap();
    late.is_ended().await;
    let event = node.event().await.to_string();
    assert!(
        event.ends_with("was refused: connections of 512 other nodes stand already"),
        "{event}"
    );
    // One that has its place may come again, and with one that goes there is room.
    drop(node.peer(1000).await);
    drop(peers.pop());
    soon(async {
        loop {
            let mut late = node.shake(5).await.unwrap();
            late.records.write(&[Kind::Ping.byte()]).await.unwrap();
            if soon(late.replies.next()).await.is_ok() {
                return;
            }
        }
    })
    .await;
}

/// `newer_version_is_skipped`: a node of a version that does not exist yet, which still speaks this one. It says more in its hello, uses lanes and kinds
/// of messages that are not known here, and fields in those that are: what is known arrives, the rest is skipped and told once. Fails if any of
/// the three ends the connection.
#[tokio::test(flavor = "multi_thread")]
async fn newer_version_is_skipped() {
    use crate::handshake::{HEAD_BYTES, Head, Initiator};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut node = Victim::new().await;
    let mut stream = TcpStream::connect(node.transport.local_addr()).await.unwrap();
    let hello = Hello { id: Some(NodeId::from(1)), ..Hello::default() };
    let (initiator, packet) = Initiator::start_newer(&Purpose::Nodes.key(&key()), hello);
    stream.write_all(&packet).await.unwrap();
    let mut head = [0; HEAD_BYTES];
    soon(stream.read_exact(&mut head)).await.unwrap();
    let head = Head::read(Purpose::Nodes, head).unwrap();
    let mut packet = vec![0; head.bytes];
    soon(stream.read_exact(&mut packet)).await.unwrap();
    let (session, _) = initiator.finish(head, &packet).unwrap();
    let (read, write) = stream.into_split();
    let (sealer, opener) = session.split();
    let records = RecordWriter::new(write, sealer);
    let mut peer = Peer { records, replies: RecordReader::new(read, opener) };
    peer.records.write(&[Kind::Ping.byte(), 7, 7]).await.unwrap();
    for number in 0..10_u64 {
        let known = message(number).encode();
        // A lane of its own, with half a message in it.
        peer.records
            .write(&[&[6 + number.to_le_bytes()[0]][..], &known[..9]].concat())
            .await
            .unwrap();
        let newer_kind = [&[100][..], &known[1..]].concat();
        peer.frame(Lane::Control, &newer_kind).await;
        let newer_fields = [&known[..], &[22, 1, 35, 3, 1, 2, 3]].concat();
        peer.frame(Lane::Control, &newer_fields).await;
    }
    let text = "node 1 is of a newer version: what it sent is, or holds, a message of kind 100, which this version does not know; update this node";
    assert_eq!(node.event().await.to_string(), text);
    for number in 0..10 {
        let next = soon(node.heard.recv()).await.unwrap();
        assert!(matches!(&next, Heard::Message(it) if *it == message(number)), "{next:?}");
    }
    // A message is counted once its node has it.
    soon(async {
        while node.transport.stats().received < 10 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let stats = node.transport.stats();
    assert_eq!((stats.skipped, stats.received, stats.malformed), (20, 10, 0));
}

/// The process has no file left to open: nobody can be let in for a while, which is told, and tried again in no hurry. When there are files again,
/// nodes get in. A process of its own, as the limit is the process's. Fails if `run` ends with the error, or does not wait.
#[test]
fn too_many_open_files() {
    const NAME: &str = "tcp::tests::too_many_open_files";
    if std::env::var_os("TRP_FEW_FILES").is_none() {
        let command = "ulimit -n 64 && exec \"$0\" \"$@\"";
        let child = std::process::Command::new("sh")
            .args(["-c", command])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env("TRP_FEW_FILES", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "{child:?}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut node = Victim::new().await;
        let mut open = Vec::new();
        while let Ok(stream) = TcpStream::connect(node.transport.local_addr()).await {
            open.push(stream);
        }
        let began = tokio::time::Instant::now();
        let event = node.event().await;
        assert!(matches!(event, NetEvent::CantAccept { .. }), "{event}");
        let before = node.transport.stats().unaccepted;
        let mut beat = tokio::time::interval(Duration::from_millis(2));
        soon(async {
            while node.transport.stats().unaccepted < before + 4 {
                beat.tick().await;
            }
        })
        .await;
        assert!(began.elapsed() >= Duration::from_millis(150), "it is in a hurry");
        drop(open);
        let mut peer = soon(async {
            loop {
                let Ok(mut peer) = node.shake(1).await else { continue };
                if peer.records.write(&[Kind::Ping.byte()]).await.is_ok() {
                    return peer;
                }
            }
        })
        .await;
        peer.frame(Lane::Control, &message(1).encode()).await;
        assert_eq!(node.message().await, message(1));
    });
}
