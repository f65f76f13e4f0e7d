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

/// A record that was changed on the way ends the connection; a message before it arrives, none after it.
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
