//! The way to one peer: what waits to be sent, and the connection that is made for it again and again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tinyraftplus_core::NodeId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{NetEvent, Shared, TcpOptions, tune};
use crate::handshake::{Hello, Purpose};
use crate::lanes::{Kind, Outgoing};
use crate::records::{RecordReader, RecordWriter, initiate, within};
use crate::session::Session;
use crate::wire::Lane;
use crate::wire::fields::Encoded;
use crate::{ConnectionError, Inbox};

/// What waits for one peer.
pub(super) struct Link {
    peer: NodeId,
    waiting: Mutex<Waiting>,
    /// There is something to send, or something to tell.
    sent: Notify,
    /// The peer is there: it just connected to this node.
    seen: Notify,
}

struct Waiting {
    outgoing: Outgoing,
    /// There is a connection, or one is being made. What is sent otherwise is dropped: when there is one again, it would
    /// be long out of date.
    is_up: bool,
    is_wanted: bool,
    too_large: Option<(usize, usize)>,
}

impl Link {
    pub(super) fn new(peer: NodeId, queue_bytes_max: usize) -> Self {
        let outgoing = Outgoing::new(queue_bytes_max);
        let waiting = Waiting { outgoing, is_up: true, is_wanted: true, too_large: None };
        let waiting = Mutex::new(waiting);
        Self { peer, waiting, sent: Notify::new(), seen: Notify::new() }
    }

    /// Whether there is a connection, or one is being made. If not, it is known from now on that one is wanted.
    pub(super) fn is_up(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.is_wanted = true;
        if !waiting.is_up {
            self.sent.notify_one();
        }
        waiting.is_up
    }

    /// Says how many messages were dropped for it.
    pub(super) fn push(&self, lane: Lane, message: Encoded) -> u64 {
        let mut waiting = self.waiting();
        let dropped = if waiting.is_up { waiting.outgoing.push(lane, message) } else { 1 };
        drop(waiting);
        self.sent.notify_one();
        dropped
    }

    pub(super) fn note_too_large(&self, bytes: usize, limit: usize) {
        self.waiting().too_large = Some((bytes, limit));
        self.sent.notify_one();
    }

    pub(super) fn note_seen(&self) {
        self.seen.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_up(&self, is_up: bool) -> u64 {
        let mut waiting = self.waiting();
        waiting.is_up = is_up;
        waiting.is_wanted = false;
        if is_up { 0 } else { waiting.outgoing.clear() }
    }

    fn fill(&self, inbox: &dyn Inbox, content: &mut Vec<u8>) -> bool {
        let mut waiting = self.waiting();
        let (is_filled, too_large) = (waiting.outgoing.fill(content), waiting.too_large.take());
        drop(waiting);
        if let Some((bytes, limit)) = too_large {
            inbox.tell(NetEvent::TooLarge { peer: self.peer, bytes, limit });
        }
        is_filled
    }

    async fn wanted(&self) {
        while !self.waiting().is_wanted {
            self.sent.notified().await;
        }
    }
}

/// Keeps up a connection for as long as somebody wants to send. Never ends by itself.
pub(super) async fn run(shared: Arc<Shared>, link: Arc<Link>, hello: Hello, inbox: Arc<dyn Inbox>) {
    let (options, counts, peer) = (&shared.options, &shared.reporter, link.peer);
    let mut wait = options.retry_min;
    let mut told = None;
    loop {
        let mut stood_since = None;
        let error = match connect(&shared, peer, hello.clone()).await {
            Ok((stream, session)) => {
                counts.connected();
                told = None;
                stood_since = Some(Instant::now());
                inbox.tell(NetEvent::Connected { peer });
                exchange(stream, session, &link, &*inbox, options).await
            }
            Err(error) => error,
        };
        counts.dropped(link.set_up(false));
        // The same reason again and again is told once.
        let text = error.to_string();
        if told.as_ref() != Some(&text) {
            inbox.tell(NetEvent::Unreachable { peer, why: Arc::new(error) });
            told = Some(text);
        }
        // A connection that ends at once is no success: two nodes of one name would take turns for ever.
        if stood_since.is_some_and(|since| since.elapsed() > options.retry_max) {
            wait = options.retry_min;
        }
        // Also if it was seen while the connection stood: it may have been started anew meanwhile.
        let pause = tokio::time::timeout(jittered(wait), link.seen.notified());
        drop(pause.await);
        wait = (wait * 2).min(options.retry_max);
        link.wanted().await;
        link.set_up(true);
    }
}

/// At least half of it. Nodes that lost each other at the same time do not come back at the same time.
fn jittered(wait: Duration) -> Duration {
    // Without random numbers there is no handshake either.
    let random = getrandom::u32().unwrap_or(0);
    wait / 2 + wait.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
}

async fn connect(
    shared: &Arc<Shared>,
    peer: NodeId,
    hello: Hello,
) -> Result<(TcpStream, Session), ConnectionError> {
    let address = shared.address_of(peer).ok_or(ConnectionError::NoAddress(peer))?;
    within(shared.options.handshake_timeout, async {
        let mut stream = TcpStream::connect(address).await?;
        tune(&stream)?;
        let (session, _) = initiate(&mut stream, &shared.key, Purpose::Nodes, hello).await?;
        Ok::<_, ConnectionError>((stream, session))
    })
    .await
}

/// Sends for as long as it goes, and says why it ended.
async fn exchange(
    stream: TcpStream,
    session: Session,
    link: &Link,
    inbox: &dyn Inbox,
    options: &TcpOptions,
) -> ConnectionError {
    let (read, write) = stream.into_split();
    let (sealer, opener) = session.split();
    let result = tokio::select! {
        result = send(RecordWriter::new(write, sealer), link, inbox, options) => result,
        result = hear(RecordReader::new(read, opener), options) => result,
    };
    match result {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// The first record is the proof that this side is no recording.
async fn send(
    mut records: RecordWriter<impl AsyncWrite + Unpin>,
    link: &Link,
    inbox: &dyn Inbox,
    options: &TcpOptions,
) -> Result<std::convert::Infallible, ConnectionError> {
    records.write(&[Kind::Ping.byte()]).await?;
    let mut ping_at = Instant::now() + options.ping_interval;
    let mut content = Vec::new();
    loop {
        content.clear();
        // Pings go between the records of a long message, too.
        let is_due = Instant::now() >= ping_at;
        if is_due {
            content.push(Kind::Ping.byte());
            ping_at = Instant::now() + options.ping_interval;
        } else if !link.fill(inbox, &mut content) {
            drop(tokio::time::timeout_at(ping_at, link.sent.notified()).await);
            continue;
        }
        records.write(&content).await?;
    }
}

/// The other side has nothing to say here but that it is there.
async fn hear(
    mut records: RecordReader<impl AsyncRead + Unpin>,
    options: &TcpOptions,
) -> Result<std::convert::Infallible, ConnectionError> {
    loop {
        within(options.silence_timeout, async { records.next().await.map(|_| ()) }).await?;
    }
}
