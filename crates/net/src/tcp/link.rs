//! The way to one peer: what waits to be sent, and the connection that is made for it again and again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tinyraftplus_core::NodeId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::event::Sparse;
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
    inbox: Arc<dyn Inbox>,
    waiting: Mutex<Waiting>,
    /// There is something to send.
    sent: Notify,
    /// The peer is there: it just connected to this node.
    seen: Notify,
    /// How many messages were dropped for lack of room since that was told.
    dropped: AtomicU64,
    dropped_told: Sparse,
    too_large_told: Sparse,
}

struct Waiting {
    outgoing: Outgoing,
    /// There is a connection, or one is being made. What is sent otherwise is dropped: when there is one again, it would
    /// be long out of date.
    is_up: bool,
    is_wanted: bool,
    /// The longest message that both sides take, as far as that is known.
    message_bytes_max: usize,
    used_at: Instant,
}

/// What became of a message.
enum Pushed {
    Dropped(u64),
    Overflowed(u64),
    TooLarge { limit: usize },
}

impl Link {
    pub(super) fn new(peer: NodeId, options: &TcpOptions, inbox: Arc<dyn Inbox>) -> Self {
        let waiting = Waiting {
            outgoing: Outgoing::new(options.queue_bytes_max),
            is_up: true,
            is_wanted: true,
            message_bytes_max: options.message_bytes_max,
            used_at: Instant::now(),
        };
        Self {
            peer,
            inbox,
            waiting: Mutex::new(waiting),
            sent: Notify::new(),
            seen: Notify::new(),
            dropped: AtomicU64::new(0),
            dropped_told: Sparse::default(),
            too_large_told: Sparse::default(),
        }
    }

    /// When it was last asked for.
    pub(super) fn used_at(&self) -> Instant {
        self.waiting().used_at
    }

    /// How many bytes wait to be sent.
    pub(super) fn bytes(&self) -> usize {
        self.waiting().outgoing.bytes()
    }

    /// Whether there is a connection, or one is being made. If not, it is known from now on that one is wanted.
    pub(super) fn is_up(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.is_wanted = true;
        waiting.used_at = Instant::now();
        if !waiting.is_up {
            self.sent.notify_one();
        }
        waiting.is_up
    }

    /// Says how many messages were dropped for it. The node is told why, unless it knows that there is no connection.
    pub(super) fn push(&self, lane: Lane, message: Encoded) -> u64 {
        let (bytes, mut waiting) = (message.bytes, self.waiting());
        let pushed = if bytes > waiting.message_bytes_max {
            Pushed::TooLarge { limit: waiting.message_bytes_max }
        } else if waiting.is_up {
            Pushed::Overflowed(waiting.outgoing.push(lane, message))
        } else {
            Pushed::Dropped(1)
        };
        drop(waiting);
        match pushed {
            Pushed::TooLarge { limit } => {
                self.tell_too_large(bytes, limit);
                1
            }
            Pushed::Overflowed(count) => {
                self.sent.notify_one();
                self.tell_dropped(count);
                count
            }
            Pushed::Dropped(count) => count,
        }
    }

    fn tell_too_large(&self, bytes: usize, limit: usize) {
        if self.too_large_told.is_due() {
            self.inbox.tell(NetEvent::TooLarge { peer: self.peer, bytes, limit });
        }
    }

    fn tell_dropped(&self, count: u64) {
        if count > 0 {
            self.dropped.fetch_add(count, Ordering::Relaxed);
            if self.dropped_told.is_due() {
                let count = self.dropped.swap(0, Ordering::Relaxed);
                self.inbox.tell(NetEvent::Dropped { peer: self.peer, count });
            }
        }
    }

    /// There is a connection now, to a peer that takes messages of so many bytes. What waits and is longer would end it.
    fn limit(&self, message_bytes_max: usize) -> u64 {
        let mut waiting = self.waiting();
        waiting.message_bytes_max = message_bytes_max;
        let dropped = waiting.outgoing.limit(message_bytes_max);
        drop(waiting);
        dropped.map_or(0, |(count, largest)| {
            self.tell_too_large(largest, message_bytes_max);
            count
        })
    }

    pub(super) fn note_seen(&self) {
        self.seen.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection is being made, perhaps to another process than before.
    fn set_up(&self, options: &TcpOptions) {
        let mut waiting = self.waiting();
        waiting.is_up = true;
        waiting.is_wanted = false;
        waiting.message_bytes_max = options.message_bytes_max;
    }

    /// There is no connection any more. Says how many messages were dropped.
    fn set_down(&self) -> u64 {
        let mut waiting = self.waiting();
        waiting.is_up = false;
        waiting.is_wanted = false;
        waiting.outgoing.clear()
    }

    fn fill(&self, content: &mut Vec<u8>) -> bool {
        self.waiting().outgoing.fill(content)
    }

    async fn wanted(&self) {
        while !self.waiting().is_wanted {
            self.sent.notified().await;
        }
    }
}

/// Keeps up a connection for as long as somebody wants to send. Never ends by itself.
pub(super) async fn run(shared: Arc<Shared>, link: Arc<Link>, hello: Hello) {
    let (options, counts, peer, inbox) =
        (&shared.options, &shared.reporter, link.peer, &link.inbox);
    let mut wait = options.retry_min;
    let mut told = None;
    loop {
        let mut stood_since = None;
        let error = match connect(&shared, peer, hello.clone()).await {
            Ok((stream, session, theirs)) => {
                counts.connected();
                told = None;
                stood_since = Some(Instant::now());
                inbox.tell(NetEvent::Connected { peer });
                counts.dropped(link.limit(longest(options, &theirs)));
                exchange(stream, session, &link, options).await
            }
            Err(error) => error,
        };
        counts.dropped(link.set_down());
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
        // The shortest wait is for all: two nodes of which each sees the other connect and ends its connection would not come
        // to rest.
        let (least, whole) = (jittered(options.retry_min), jittered(wait));
        tokio::time::sleep(least).await;
        // Also if it was seen while the connection stood: it may have been started anew meanwhile.
        drop(tokio::time::timeout(whole.saturating_sub(least), link.seen.notified()).await);
        wait = (wait * 2).min(options.retry_max);
        link.wanted().await;
        link.set_up(options);
    }
}

/// At least half of it. Nodes that lost each other at the same time do not come back at the same time.
fn jittered(wait: Duration) -> Duration {
    // Without random numbers there is no handshake either.
    let random = getrandom::u32().unwrap_or(0);
    wait / 2 + wait.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
}

/// The longest message that both sides take.
fn longest(options: &TcpOptions, theirs: &Hello) -> usize {
    let takes = usize::try_from(theirs.takes).unwrap_or(usize::MAX);
    let said = (takes > 0).then_some(takes);
    said.map_or(options.message_bytes_max, |takes| takes.min(options.message_bytes_max))
}

async fn connect(
    shared: &Arc<Shared>,
    peer: NodeId,
    hello: Hello,
) -> Result<(TcpStream, Session, Hello), ConnectionError> {
    let address = shared.address_of(peer).ok_or(ConnectionError::NoAddress(peer))?;
    within(shared.options.handshake_timeout, async {
        let mut stream = TcpStream::connect(address).await?;
        tune(&stream)?;
        let (session, theirs) = initiate(&mut stream, &shared.key, Purpose::Nodes, hello).await?;
        Ok::<_, ConnectionError>((stream, session, theirs))
    })
    .await
}

/// Sends for as long as it goes, and says why it ended.
async fn exchange(
    stream: TcpStream,
    session: Session,
    link: &Link,
    options: &TcpOptions,
) -> ConnectionError {
    let (read, write) = stream.into_split();
    let (sealer, opener) = session.split();
    let result = tokio::select! {
        result = send(RecordWriter::new(write, sealer), link, options) => result,
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
        } else if !link.fill(&mut content) {
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
