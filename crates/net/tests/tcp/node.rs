//! What a transport needs of a node, and messages for it to carry.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tinyraftplus_core::quorum::CustomRule;
use tinyraftplus_core::{Identity, NodeId, Term};
use tinyraftplus_net::{Inbox, Key, Message, NetEvent, TcpOptions, TcpTransport, Transport};
use tinyraftplus_replica::{Forward, ReadIndex, Route};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What must happen, and soon.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it hangs")
}

pub(crate) fn key() -> Key {
    Key::from_bytes([7; 32])
}

pub(crate) fn quick() -> TcpOptions {
    let mut options = TcpOptions::default();
    options.handshake_timeout = Duration::from_secs(1);
    options.ping_interval = Duration::from_millis(50);
    options.silence_timeout = Duration::from_millis(400);
    options.retry_min = Duration::from_millis(10);
    options.retry_max = Duration::from_millis(50);
    options
}

pub(crate) struct Node {
    pub(crate) transport: TcpTransport,
    pub(crate) id: NodeId,
    /// Whether anybody holds its inbox.
    pub(crate) ears: Weak<Ears>,
    messages: UnboundedReceiver<(NodeId, Message)>,
    events: UnboundedReceiver<NetEvent>,
}

pub(crate) struct Ears {
    id: NodeId,
    rules: Vec<CustomRule>,
    messages: UnboundedSender<(NodeId, Message)>,
    events: UnboundedSender<NetEvent>,
}

impl Inbox for Ears {
    fn deliver(&self, from: NodeId, message: Message) -> bool {
        self.messages.send((from, message)).is_ok()
    }

    fn id(&self) -> NodeId {
        self.id
    }

    fn custom_rules(&self) -> Vec<CustomRule> {
        self.rules.clone()
    }

    fn tell(&self, event: NetEvent) {
        drop(self.events.send(event));
    }
}

impl Node {
    pub(crate) async fn new(id: u64) -> Self {
        Self::with(id, &key(), quick(), &[]).await
    }

    pub(crate) async fn with(
        id: u64,
        key: &Key,
        options: TcpOptions,
        rules: &[CustomRule],
    ) -> Self {
        let transport = TcpTransport::bind_with("127.0.0.1:0", key, &[], options).await.unwrap();
        Self::attach(NodeId::from(id), transport, rules)
    }

    pub(crate) fn attach(id: NodeId, transport: TcpTransport, rules: &[CustomRule]) -> Self {
        let (message_sender, messages) = unbounded_channel();
        let (event_sender, events) = unbounded_channel();
        let rules = rules.to_vec();
        let ears = Ears { id, rules, messages: message_sender, events: event_sender };
        let held = Arc::new(ears);
        let ears = Arc::downgrade(&held);
        transport.attach(held);
        Self { transport, id, ears, messages, events }
    }

    /// Tells it where the other one is.
    pub(crate) fn knows(&self, other: &Self) {
        self.transport.set_peer(other.id, other.transport.local_addr().to_string());
    }

    pub(crate) fn send(&self, to: &Self, message: Message) {
        self.transport.send(to.id, message);
    }

    pub(crate) async fn message(&mut self) -> (NodeId, Message) {
        soon(self.messages.recv()).await.unwrap()
    }

    /// Those that are here.
    pub(crate) fn messages(&mut self) -> Vec<(NodeId, Message)> {
        std::iter::from_fn(|| self.messages.try_recv().ok()).collect()
    }

    /// The next event that is of this kind.
    pub(crate) async fn event<T>(&mut self, is: impl Fn(NetEvent) -> Option<T>) -> T {
        loop {
            let event = soon(self.events.recv()).await.unwrap();
            if let Some(found) = is(event) {
                return found;
            }
        }
    }

    /// Why it can't reach a node, in words.
    pub(crate) async fn unreachable(&mut self) -> String {
        self.event(|event| {
            if let NetEvent::Unreachable { why, .. } = event { Some(why.to_string()) } else { None }
        })
        .await
    }

    /// Why it let nobody in, in words.
    pub(crate) async fn refused(&mut self) -> String {
        self.event(|event| {
            if let NetEvent::Refused { why, .. } = event { Some(why.to_string()) } else { None }
        })
        .await
    }

    /// Sends it a message again and again until one arrives: what is sent while there is no connection is dropped.
    pub(crate) async fn reaches(&self, to: &mut Self, number: u64) {
        let mut beat = tokio::time::interval(Duration::from_millis(5));
        soon(async {
            loop {
                tokio::select! {
                    _ = beat.tick() => self.send(to, small(number)),
                    (_, message) = to.message() => {
                        if message == small(number) {
                            return;
                        }
                    }
                }
            }
        })
        .await;
    }
}

/// Waits until it is so. There is no event for a counter.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    let mut beat = tokio::time::interval(Duration::from_millis(2));
    soon(async {
        while !is_so() {
            beat.tick().await;
        }
    })
    .await;
}

/// An urgent message.
pub(crate) fn small(number: u64) -> Message {
    Message::ReadIndex(ReadIndex { from: Identity::new(1), incarnation: 1, number })
}

/// One that is not.
pub(crate) fn large(bytes: usize) -> Message {
    let route = Route {
        origin: Identity::new(1),
        incarnation: 2,
        leader: Identity::new(3),
        term: Term::new(4),
    };
    let payload = Bytes::from(vec![9; bytes]);
    Message::Forward(Forward { route, awaiting: 1, first: 1, calls: vec![vec![payload]] })
}
