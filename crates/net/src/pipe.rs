//! Encrypted message pipes for any use: whole messages, both ways.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tinyraftplus_log::Key;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::door::Door;
use crate::handshake::{HandshakeError, Hello, Purpose};
use crate::lanes::{Joiner, Kind, Outgoing};
use crate::records::{ConnectionError, RecordReader, RecordWriter, initiate, respond, within};
use crate::session::Session;
use crate::wire::Lane;
use crate::wire::fields::Encoded;

/// The longest message of a pipe.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// How long it may take to connect, or to prove the key.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// So many connections may be without a proof; with one more the oldest ends.
const HANDSHAKES_MAX: usize = 64;
/// So many pipes may wait to be accepted.
const ACCEPTED_MAX: usize = 16;

/// Listens for pipes, where it is told to and nowhere else.
///
/// ```
/// use tinyraftplus_net::{Key, connect, listen};
///
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// let key = Key::generate()?;
/// let mut listener = listen("127.0.0.1:0", &key).await?;
/// let address = listener.local_addr();
/// tokio::spawn(async move {
///     let mut pipe = listener.accept().await;
///     while let Ok(Some(message)) = pipe.receive().await {
///         pipe.send(&[b"you said ", &message[..]].concat()).await.unwrap();
///     }
/// });
/// let mut pipe = connect(address, &key).await?;
/// pipe.send(b"hello").await?;
/// assert_eq!(pipe.receive().await?.as_deref(), Some(&b"you said hello"[..]));
/// pipe.close().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// If the address can't be used: what the operating system says.
#[doc(alias = "tcpServer")]
pub async fn listen(address: impl ToSocketAddrs, key: &Key) -> io::Result<Listener> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let (accepted, waiting) = mpsc::channel(ACCEPTED_MAX);
    let refused = Arc::new(AtomicU64::new(0));
    let key = Arc::new(Purpose::Pipe.key(key));
    let accepting = accept(listener, key, accepted, Arc::clone(&refused));
    let accepting = tokio::spawn(accepting).abort_handle();
    Ok(Listener { waiting, address, refused, accepting })
}

/// Connects to a [`Listener`] that has the same key. The listener proves that it has it, and that it is there now.
///
/// # Errors
///
/// Why there is no connection: the network, or another key or protocol.
#[doc(alias = "tcpClient")]
pub async fn connect(address: impl ToSocketAddrs, key: &Key) -> Result<Pipe, ConnectionError> {
    let key = Purpose::Pipe.key(key);
    within(HANDSHAKE_TIMEOUT, async {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        let hello = Hello::default();
        let (session, _) = initiate(&mut stream, &key, Purpose::Pipe, hello).await?;
        let mut pipe = Pipe::new(stream, session, peer);
        // The proof that this is no recording.
        pipe.sender.records.write(&[Kind::Ping.byte()]).await?;
        Ok::<_, ConnectionError>(pipe)
    })
    .await
}

/// Where pipes come in. Dropped, it listens no more; pipes that were accepted go on.
#[derive(Debug)]
pub struct Listener {
    waiting: mpsc::Receiver<Pipe>,
    address: SocketAddr,
    refused: Arc<AtomicU64>,
    accepting: AbortHandle,
}

impl Listener {
    /// Where it listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were not let in.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The next pipe whose other side has proved that it has the key. May be cancelled.
    pub async fn accept(&mut self) -> Pipe {
        match self.waiting.recv().await {
            Some(pipe) => pipe,
            // The runtime ends.
            None => pending().await,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    key: Arc<Key>,
    accepted: mpsc::Sender<Pipe>,
    refused: Arc<AtomicU64>,
) {
    let mut door = Door::new(HANDSHAKES_MAX);
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Most likely there are too many open files; that takes a while.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (key, accepted, refused) = (Arc::clone(&key), accepted.clone(), Arc::clone(&refused));
        door.open(async move {
            match within(HANDSHAKE_TIMEOUT, prove(stream, peer, &key)).await {
                Ok(pipe) => drop(accepted.send(pipe).await),
                Err(_) => drop(refused.fetch_add(1, Ordering::Relaxed)),
            }
        });
    }
}

async fn prove(
    mut stream: TcpStream,
    peer: SocketAddr,
    key: &Key,
) -> Result<Pipe, ConnectionError> {
    stream.set_nodelay(true)?;
    let (session, _) = respond(&mut stream, key, Purpose::Pipe, &Hello::default()).await?;
    let mut pipe = Pipe::new(stream, session, peer);
    if pipe.receiver.records.next().await?.first() != Some(&Kind::Ping.byte()) {
        return Err(HandshakeError::Foreign.into());
    }
    Ok(pipe)
}

/// An encrypted connection that carries whole messages both ways.
#[derive(Debug)]
pub struct Pipe {
    sender: PipeSender,
    receiver: PipeReceiver,
    peer: SocketAddr,
}

impl Pipe {
    fn new(stream: TcpStream, session: Session, peer: SocketAddr) -> Self {
        let (read, write) = stream.into_split();
        let (sealer, opener) = session.split();
        let records = RecordWriter::new(write, sealer);
        let sender = PipeSender { records, content: Vec::new() };
        let records = RecordReader::new(read, opener);
        let receiver =
            PipeReceiver { records, message: Joiner::new(MESSAGE_BYTES_MAX), is_ended: false };
        Self { sender, receiver, peer }
    }

    /// The address of the other side.
    pub const fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// See [`PipeSender::send`].
    ///
    /// # Errors
    ///
    /// The same.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), ConnectionError> {
        self.sender.send(message).await
    }

    /// See [`PipeReceiver::receive`].
    ///
    /// # Errors
    ///
    /// The same.
    pub async fn receive(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        self.receiver.receive().await
    }

    /// See [`PipeSender::close`].
    ///
    /// # Errors
    ///
    /// The same.
    pub async fn close(self) -> Result<(), ConnectionError> {
        self.sender.close().await
    }

    /// Both directions, each on its own.
    pub fn split(self) -> (PipeSender, PipeReceiver) {
        (self.sender, self.receiver)
    }
}

/// The direction away.
#[derive(Debug)]
pub struct PipeSender {
    records: RecordWriter<OwnedWriteHalf>,
    content: Vec<u8>,
}

impl PipeSender {
    /// Sends a message, which arrives whole or not at all. Waits while the other side takes nothing.
    ///
    /// # Errors
    ///
    /// If it is longer than [`MESSAGE_BYTES_MAX`], then nothing was sent; or if the connection ended. If this is cancelled in
    /// the middle, the connection has ended.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), ConnectionError> {
        let bytes = message.len();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(ConnectionError::TooLarge { bytes, limit: MESSAGE_BYTES_MAX });
        }
        let mut outgoing = Outgoing::new(MESSAGE_BYTES_MAX);
        outgoing
            .push(Lane::Control, Encoded { pieces: vec![Bytes::copy_from_slice(message)], bytes });
        self.content.clear();
        while outgoing.fill(&mut self.content) {
            self.records.write(&self.content).await?;
            self.content.clear();
        }
        Ok(())
    }

    /// Says that nothing more comes: the other side gets `None`, after all that was sent.
    ///
    /// # Errors
    ///
    /// If the connection ended before.
    pub async fn close(mut self) -> Result<(), ConnectionError> {
        self.records.write(&[Kind::End.byte()]).await?;
        self.records.shutdown().await
    }
}

/// The direction here.
#[derive(Debug)]
pub struct PipeReceiver {
    records: RecordReader<OwnedReadHalf>,
    message: Joiner,
    is_ended: bool,
}

impl PipeReceiver {
    /// The next message; `None` once the other side has closed. May be cancelled, and called again.
    ///
    /// # Errors
    ///
    /// If the connection ended in any other way, or what came is not what was sent.
    pub async fn receive(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        while !self.is_ended {
            if let Some(message) = self.message.next()? {
                return Ok(Some(message));
            }
            let Some((&kind, part)) = self.records.next().await?.split_first() else { continue };
            match Kind::of(kind) {
                Some(Kind::Part(_)) => self.message.push(part),
                Some(Kind::End) if self.message.is_begun() => return Err(ConnectionError::CutOff),
                Some(Kind::End) => self.is_ended = true,
                Some(Kind::Ping | Kind::Pong) | None => {}
            }
        }
        Ok(None)
    }
}
