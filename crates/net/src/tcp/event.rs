//! What happens to connections, and how often.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tinyraftplus_core::NodeId;
use tokio::time::Instant;

use crate::{ConnectionError, DecodeError, Inbox};

/// Something that happened to the connections of a node.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetEvent {
    /// What this node sends to that one gets there from now on.
    #[error("connected to node {peer}")]
    Connected {
        /// The other node.
        peer: NodeId,
    },
    /// It does not any more. It is tried again.
    #[error("node {peer} can't be reached: {why}")]
    Unreachable {
        /// The other node.
        peer: NodeId,
        /// Why.
        why: Arc<ConnectionError>,
    },
    /// Somebody connected who is not let in. Told once a second at most; all are counted.
    #[error("a connection from {from} was refused: {why}")]
    Refused {
        /// Where it came from.
        from: SocketAddr,
        /// Why.
        why: Arc<ConnectionError>,
    },
    /// A node connected while a connection of its name stood, and the older one ended. If that goes on, two nodes
    /// have one name.
    #[error("a newer connection of node {peer} replaced the one before")]
    Replaced {
        /// The other node.
        peer: NodeId,
    },
    /// A message was dropped that no correct node sends. Told once a second at most; all are counted.
    #[error("a message of node {peer} was dropped: it {why}")]
    Malformed {
        /// Who sent it.
        peer: NodeId,
        /// What is wrong with it.
        why: DecodeError,
    },
    /// A connection of another node ended because of what came over it. Told once a second at most.
    #[error("a connection of node {peer} was ended: {why}")]
    Ended {
        /// The other node.
        peer: NodeId,
        /// What came.
        why: Arc<ConnectionError>,
    },
    /// Messages to a peer were dropped, because too much waits for it: it takes less than there is to send, or nothing. They are
    /// sent again if they still matter. Told once a second at most for each peer.
    #[error(
        "{count} messages to node {peer} were dropped: it takes too little; look at it, and at the network"
    )]
    Dropped {
        /// Whom they were for.
        peer: NodeId,
        /// How many, since this was told last.
        count: u64,
    },
    /// A node said something that only a newer version understands; what it may matter for waits until this node is updated. Told
    /// once for each of its connections.
    #[error("node {peer} is of a newer version: what it sent {why}; update this node")]
    Newer {
        /// Who sent it.
        peer: NodeId,
        /// What is not known here.
        why: DecodeError,
    },
    /// No connection can be accepted at present; it is tried again. Told once a second at most.
    #[error("no connection can be accepted: {why}; are there too many open files?")]
    CantAccept {
        /// What the operating system says.
        why: Arc<io::Error>,
    },
    /// A message to a peer was dropped: it is over the limit of this side or of that one, and would be each time. Told once a
    /// second at most for each peer.
    #[error(
        "a message of {bytes} bytes to node {peer} is over the limit of {limit}; raise message_bytes_max on all nodes"
    )]
    TooLarge {
        /// Whom it was for.
        peer: NodeId,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The transport was attached to a node before. This one can't send or receive.
    #[error("this transport has served another node already; bind one for each node")]
    Used,
}

/// What a transport did so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct TcpStats {
    /// Connections that it made.
    pub connected: u64,
    /// Connections that others made, and proved.
    pub accepted: u64,
    /// Connections of others that ended before they were proved: foreign bytes, other keys, recordings, silence.
    pub refused: u64,
    /// How often no connection could be accepted: too many open files, most likely.
    pub unaccepted: u64,
    /// Messages that it received for its node.
    pub received: u64,
    /// Messages that were not sent: no connection, or too much waiting.
    pub dropped: u64,
    /// Messages that its node had no room for.
    pub overflowed: u64,
    /// Messages that no correct node sends.
    pub malformed: u64,
    /// Messages and records that only a newer version understands.
    pub skipped: u64,
    /// How many bytes of messages wait to be sent, now.
    pub waiting: u64,
}

/// Counts, and tells the node of it, but not too often.
#[derive(Default)]
pub(super) struct Reporter {
    connected: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    unaccepted: AtomicU64,
    received: AtomicU64,
    dropped: AtomicU64,
    overflowed: AtomicU64,
    malformed: AtomicU64,
    skipped: AtomicU64,
    refused_told: Sparse,
    malformed_told: Sparse,
    ended_told: Sparse,
    cant_accept_told: Sparse,
}

impl Reporter {
    pub(super) fn stats(&self) -> TcpStats {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        TcpStats {
            connected: get(&self.connected),
            accepted: get(&self.accepted),
            refused: get(&self.refused),
            unaccepted: get(&self.unaccepted),
            received: get(&self.received),
            dropped: get(&self.dropped),
            overflowed: get(&self.overflowed),
            malformed: get(&self.malformed),
            skipped: get(&self.skipped),
            waiting: 0,
        }
    }

    pub(super) fn connected(&self) {
        self.connected.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn skipped(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// A message for the node, which had room for it or not.
    pub(super) fn received(&self, is_taken: bool) {
        let count = if is_taken { &self.received } else { &self.overflowed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, inbox: &dyn Inbox, from: SocketAddr, why: ConnectionError) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        if self.refused_told.is_due() {
            inbox.tell(NetEvent::Refused { from, why: Arc::new(why) });
        }
    }

    pub(super) fn ended(&self, inbox: &dyn Inbox, peer: NodeId, why: ConnectionError) {
        if self.ended_told.is_due() {
            inbox.tell(NetEvent::Ended { peer, why: Arc::new(why) });
        }
    }

    pub(super) fn cant_accept(&self, inbox: &dyn Inbox, why: io::Error) {
        self.unaccepted.fetch_add(1, Ordering::Relaxed);
        if self.cant_accept_told.is_due() {
            inbox.tell(NetEvent::CantAccept { why: Arc::new(why) });
        }
    }

    pub(super) fn malformed(&self, inbox: &dyn Inbox, peer: NodeId, why: DecodeError) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
        if self.malformed_told.is_due() {
            inbox.tell(NetEvent::Malformed { peer, why });
        }
    }
}

/// Once a second.
#[derive(Default)]
pub(super) struct Sparse(Mutex<Option<Instant>>);

impl Sparse {
    pub(super) fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1));
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}
