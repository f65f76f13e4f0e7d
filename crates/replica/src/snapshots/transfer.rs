//! Sending a snapshot to a peer whose next entries are gone.
//!
//! The core says who needs one. It is offered until the peer says which chunk it wants, then chunks follow: a few at a time, and
//! not faster than the rate that was set, so that entries never wait for them. Where nothing comes back the offer is made
//! again, ever more seldom, and the peer says from where to go on: it may have started anew, with what it has durably.

use std::mem;

use bytes::Bytes;
use tinyraftplus_core::{NodeId, Seq, Time};

use super::{SnapshotId, SnapshotMeta, SnapshotWork, end_of};
use crate::{Event, Message, Replica, SnapshotAck, SnapshotChunk, SnapshotOffer};

/// How often the time between two offers is doubled.
const DOUBLINGS_MAX: u32 = 5;
/// So many offers without an answer, and the log is not kept for this peer any more.
const PATIENCE: u32 = 3;

/// A snapshot on its way to a peer.
#[derive(Debug)]
pub(super) struct Sending {
    meta: SnapshotMeta,
    /// The peer has said which chunk it wants.
    is_taken: bool,
    /// The chunk that it wants next.
    wanted: u64,
    /// The chunk to be read next.
    next: u64,
    /// When the next chunk may go.
    next_at: Time,
    /// When to offer it (again).
    offer_at: Time,
    /// Offers without an answer.
    offers: u32,
}

impl Sending {
    const fn new(meta: SnapshotMeta, now: Time) -> Self {
        let (is_taken, wanted, next, offers) = (false, 0, 0, 0);
        Self { meta, is_taken, wanted, next, next_at: now, offer_at: now, offers }
    }

    /// Whether there is another chunk to be sent, with so many bytes on their way at most.
    fn may_send(&self, window: u64) -> bool {
        let chunks = (window / u64::from(self.meta.chunk_bytes.max(1))).max(1);
        self.is_taken && self.next < self.meta.chunks() && self.next - self.wanted < chunks
    }
}

impl Replica {
    /// A peer lacks entries that the log no longer has.
    pub(crate) fn peer_is_behind(&mut self, peer: NodeId) {
        if self.options.snapshots.is_some() {
            self.snapshots.sending.remove(&peer);
            self.snapshots.behind.insert(peer);
        }
    }

    pub(super) fn pump_transfers(&mut self) {
        if self.snapshots.behind.is_empty() && !self.snapshots.removes {
            return;
        }
        self.prune_transfers();
        let peers: Vec<NodeId> = self.snapshots.behind.iter().copied().collect();
        for to in peers {
            self.send_newest(to);
            self.offer(to);
            self.read_chunks(to);
        }
    }

    /// Begins with the newest snapshot, or has one made if there is none that would help.
    fn send_newest(&mut self, peer: NodeId) {
        if self.snapshots.sending.contains_key(&peer) {
            return;
        }
        let start = self.core.terms().start();
        match self.snapshots.newest.clone().filter(|meta| end_of(meta) >= start) {
            Some(meta) => {
                self.snapshots.sending.insert(peer, Sending::new(meta, self.now));
            }
            None => self.snapshots.wanted = self.snapshots.wanted.max(Some(start)),
        }
    }

    /// Ends what nobody needs any more, and what would not help.
    fn prune_transfers(&mut self) {
        let (leads, start) = (self.leads(), self.core.terms().start());
        let core = &self.core;
        self.snapshots.behind.retain(|peer| leads && core.needs_snapshot(*peer));
        let behind = &self.snapshots.behind;
        let newest = self.snapshots.newest.as_ref().map(|meta| meta.id);
        self.snapshots.sending.retain(|peer, sending| {
            let helps = end_of(&sending.meta) >= start;
            let is_newest = Some(sending.meta.id) == newest;
            behind.contains(peer) && helps && (sending.is_taken || is_newest)
        });
        let are_new = self.snapshots.sending.values().all(|it| Some(it.meta.id) == newest);
        if let Some(newest) = newest.filter(|_| are_new && self.snapshots.removes) {
            self.snapshots.removes = false;
            self.out.snapshots.push(SnapshotWork::RemoveOlder(newest));
        }
    }

    fn offer(&mut self, to: NodeId) {
        let (now, patience) = (self.now, self.options.raft.election_timeout);
        let (from, term) = (self.core.identity(), self.core.term());
        let Some(sending) = self.snapshots.sending.get_mut(&to).filter(|it| it.offer_at <= now)
        else {
            return;
        };
        sending.offer_at = now + patience * (1 << sending.offers.min(DOUBLINGS_MAX));
        sending.offers += 1;
        // Until it says what it has, nothing more is sent.
        sending.is_taken = false;
        let offer = SnapshotOffer { from, term, meta: sending.meta.clone() };
        self.out.send.push((to, Message::SnapshotOffer(Box::new(offer))));
    }

    fn read_chunks(&mut self, to: NodeId) {
        let Some(options) = self.options.snapshots else {
            return;
        };
        let (now, window, rate) = (self.now, options.window_bytes, options.bytes_per_second.max(1));
        while let Some(sending) = self.snapshots.sending.get_mut(&to)
            && sending.next_at <= now
            && sending.may_send(window)
        {
            let (id, number) = (sending.meta.id, sending.next);
            let nanos = sending.meta.chunk_len(number).saturating_mul(1_000_000_000) / rate;
            sending.next += 1;
            sending.next_at = now + std::time::Duration::from_nanos(nanos);
            self.out.snapshots.push(SnapshotWork::Read { to, id, number });
        }
    }

    pub(super) fn chunk_read(
        &mut self,
        to: NodeId,
        id: SnapshotId,
        number: u64,
        result: Result<(Bytes, u64), String>,
    ) {
        let is_sent = |sending: &Sending| sending.meta.id == id;
        if !self.leads() || !self.snapshots.sending.get(&to).is_some_and(is_sent) {
            return;
        }
        match result {
            Ok((bytes, checksum)) => {
                let (from, term) = (self.core.identity(), self.core.term());
                let chunk = SnapshotChunk { from, term, id, number, checksum, bytes };
                self.out.send.push((to, Message::SnapshotChunk(chunk)));
            }
            Err(what) => {
                // Of no use to anybody: another one must be made.
                self.out.events.push(Event::SnapshotFailed { what });
                self.snapshots.newest.take_if(|meta| meta.id == id);
                self.snapshots.sending.retain(|_, it| it.meta.id != id);
                self.snapshots.wanted = self.snapshots.wanted.max(Some(self.applying.applied));
            }
        }
    }

    pub(crate) fn on_snapshot_ack(&mut self, from: NodeId, ack: SnapshotAck) {
        let SnapshotAck { from: identity, term, id, next } = ack;
        let is_peer =
            self.core.configuration().and_then(|it| it.identity_of(from)) == Some(identity);
        let (now, patience) = (self.now, self.options.raft.election_timeout);
        if term != self.core.term() || !self.leads() || !is_peer {
            return;
        }
        let Some(sending) = self.snapshots.sending.get_mut(&from).filter(|it| it.meta.id == id)
        else {
            return;
        };
        if next > sending.meta.chunks() {
            let what = "wants a chunk that its snapshot does not have";
            self.out.events.push(Event::Malformed { from, what });
            return;
        }
        if !mem::replace(&mut sending.is_taken, true) || next < sending.wanted {
            // What was sent and did not arrive is sent again.
            sending.next = next;
        }
        if next > sending.wanted {
            sending.offers = 0;
        }
        sending.wanted = next;
        sending.next = sending.next.max(next);
        sending.offer_at = now + patience * (1 << sending.offers.min(DOUBLINGS_MAX));
    }

    /// Where the entries begin that a peer will need after the snapshot that it is being sent.
    pub(super) fn needed_by_transfers(&self) -> Seq {
        let hopeful = self.snapshots.sending.values().filter(|it| it.offers <= PATIENCE);
        hopeful.map(|it| end_of(&it.meta)).min().unwrap_or(Seq::MAX)
    }

    pub(super) fn transfers_wake_at(&self) -> Time {
        let window = self.options.snapshots.map_or(0, |options| options.window_bytes);
        let wake = |sending: &Sending| {
            let next_at = if sending.may_send(window) { sending.next_at } else { Time::NEVER };
            next_at.min(sending.offer_at)
        };
        self.snapshots.sending.values().map(wake).min().unwrap_or(Time::NEVER)
    }
}
