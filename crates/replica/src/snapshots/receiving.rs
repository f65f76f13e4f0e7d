//! Getting a snapshot from the leader.
//!
//! Only from the leader of this node's term, and one at a time: an offer of another one ends the one before. Chunks are handed
//! on in order; whatever else comes was lost, repeated or meant for another snapshot, and is dropped.

use tinyraftplus_core::planted::{self, Bug};
use tinyraftplus_core::{Identity, NodeId, Term};

use super::{SnapshotId, SnapshotMeta, SnapshotWork, end_of};
use crate::{Event, Message, Replica, SnapshotAck, SnapshotChunk, SnapshotOffer};

/// A snapshot that is being received.
#[derive(Debug)]
pub(super) struct Receiving {
    meta: SnapshotMeta,
    /// The chunk that is durable next, once it is known what is there.
    next: Option<u64>,
    /// The chunk to be handed on next.
    expected: u64,
    is_finishing: bool,
}

impl Replica {
    /// Whether this is the leader that this node follows.
    fn is_from_leader(&self, from: NodeId, identity: Identity, term: Term) -> bool {
        term == self.core.term()
            && self.core.leader() == Some(from)
            && self.core.leader_identity() == Some(identity)
            && !self.leads()
    }

    pub(crate) fn on_snapshot_offer(&mut self, from: NodeId, offer: SnapshotOffer) {
        let SnapshotOffer { from: identity, term, meta } = offer;
        if self.options.snapshots.is_none()
            || !self.is_from_leader(from, identity, term)
            || end_of(&meta) <= self.core.committed()
        {
            return;
        }
        match &mut self.snapshots.receiving {
            Some(receiving) if receiving.meta == meta => {
                if let Some(next) = receiving.next {
                    // What was handed on and is not durable yet may be sent twice.
                    self.acknowledge_chunks(meta.id, next);
                }
            }
            _ => {
                let (next, is_finishing) = (None, false);
                let receiving = Receiving { meta: meta.clone(), next, expected: 0, is_finishing };
                self.snapshots.receiving = Some(receiving);
                self.out.snapshots.push(SnapshotWork::Receive(meta));
            }
        }
    }

    pub(crate) fn on_snapshot_chunk(&mut self, from: NodeId, chunk: SnapshotChunk) {
        let SnapshotChunk { from: identity, term, id, number, checksum, bytes } = chunk;
        if !self.is_from_leader(from, identity, term) {
            return;
        }
        let is_this =
            |it: &&mut Receiving| it.meta.id == id && it.next.is_some() && it.expected == number;
        let Some(receiving) = self.snapshots.receiving.as_mut().filter(is_this) else {
            return;
        };
        if bytes.len() as u64 != receiving.meta.chunk_len(number) || bytes.is_empty() {
            let what = "sends a chunk of another length than its snapshot has";
            self.out.events.push(Event::Malformed { from, what });
            return;
        }
        receiving.expected += 1;
        self.out.snapshots.push(SnapshotWork::Write { id, number, bytes, checksum });
    }

    /// Whoever keeps snapshots has so much of one.
    pub(super) fn snapshot_incoming(&mut self, id: SnapshotId, next: Result<u64, String>) {
        let Some(receiving) = self.snapshots.receiving.as_mut().filter(|it| it.meta.id == id)
        else {
            return;
        };
        let next = match next {
            Ok(next) => next,
            Err(what) => {
                self.snapshots.receiving = None;
                self.out.events.push(Event::SnapshotFailed { what });
                return;
            }
        };
        let is_first = receiving.next.is_none();
        let is_half = planted::is(Bug::InstallHalf) && next * 2 >= receiving.meta.chunks();
        receiving.next = Some(next);
        if is_first || receiving.expected < next {
            receiving.expected = next;
        }
        if (next >= receiving.meta.chunks() || is_half) && !receiving.is_finishing {
            receiving.is_finishing = true;
            self.out.snapshots.push(SnapshotWork::Finish(id));
        }
        self.acknowledge_chunks(id, next);
    }

    /// It is complete and durable: the log begins after it, if it lacks what the snapshot stands for.
    pub(super) fn snapshot_received(&mut self, id: SnapshotId, result: Result<(), String>) {
        let Some(receiving) = self.snapshots.receiving.take_if(|it| it.meta.id == id) else {
            return;
        };
        match result {
            Ok(()) => {
                let meta = receiving.meta;
                let is_newer = end_of(&meta) > self.snapshots.end();
                if is_newer {
                    self.snapshots.newest = Some(meta.clone());
                }
                self.snapshots.removes = true;
                self.install(meta);
            }
            Err(what) => self.out.events.push(Event::SnapshotFailed { what }),
        }
    }

    fn acknowledge_chunks(&mut self, id: SnapshotId, next: u64) {
        if let Some(to) = self.core.leader().filter(|_| !self.leads()) {
            let (from, term) = (self.core.identity(), self.core.term());
            let ack = SnapshotAck { from, term, id, next };
            self.out.send.push((to, Message::SnapshotAck(ack)));
        }
    }
}
