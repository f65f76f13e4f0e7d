//! What happens to connections, and how often.

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
    /// A message to a peer was dropped: it is over the limit of the transport, and would be each time.
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
}

/// Counts, and tells the node of it, but not too often.
#[derive(Default)]
pub(super) struct Reporter {
    connected: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    received: AtomicU64,
    dropped: AtomicU64,
    overflowed: AtomicU64,
    malformed: AtomicU64,
    skipped: AtomicU64,
    refused_told: Sparse,
    malformed_told: Sparse,
}

impl Reporter {
    pub(super) fn stats(&self) -> TcpStats {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        TcpStats {
            connected: get(&self.connected),
            accepted: get(&self.accepted),
            refused: get(&self.refused),
            received: get(&self.received),
            dropped: get(&self.dropped),
            overflowed: get(&self.overflowed),
            malformed: get(&self.malformed),
            skipped: get(&self.skipped),
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

    pub(super) fn undecodable(&self, inbox: &dyn Inbox, peer: NodeId, why: DecodeError) {
        if matches!(why, DecodeError::Newer { .. }) {
            self.skipped();
            return;
        }
        self.malformed.fetch_add(1, Ordering::Relaxed);
        if self.malformed_told.is_due() {
            inbox.tell(NetEvent::Malformed { peer, why });
        }
    }
}

/// Once a second.
#[derive(Default)]
struct Sparse(Mutex<Option<Instant>>);

impl Sparse {
    fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1));
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}
