//! What a leader knows of one peer, and what is on its way there.
//!
//! ```text
//!            the peer holds what the probe followed
//!   Probe ------------------------------------------> Stream
//!     ^   one message at a time, until the logs          | many messages at a time
//!     |   are known to meet                              |
//!     +--------------------------------------------------+
//!            an append did not fit, or no answer came
//! ```

use crate::{Seq, Time};
use alloc::collections::VecDeque;

/// What this leader knows of a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerStatus {
    /// Everything before this is durable there and equal to this node's log.
    pub matched: Seq,
    /// When it was last heard from in this term.
    pub last_contact: Option<Time>,
}

#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) matched: Seq,
    /// The first position not sent yet; the start of a batch, as far as this leader knows.
    pub(crate) next: Seq,
    pub(crate) state: State,
    pub(crate) contact: Option<Time>,
    /// The newest round it has answered.
    pub(crate) round: u64,
    /// How far it has been told that entries are committed.
    pub(crate) committed_told: Seq,
    /// The question about its entries that is open.
    pub(crate) load: Option<u64>,
    in_flight: VecDeque<(Seq, u64)>,
    in_flight_bytes: u64,
    /// Since when an answer is awaited.
    awaited_since: Time,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// Where the logs meet is not known. At most one append is under way, following `meet`.
    Probe { meet: Seq, sent: bool },
    /// Appends follow one another without waiting.
    Stream,
}

impl Progress {
    pub(crate) const fn new(first: Seq, next: Seq, now: Time) -> Self {
        Self {
            matched: first,
            next,
            state: State::Probe { meet: next, sent: false },
            contact: None,
            round: 0,
            committed_told: first,
            load: None,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            awaited_since: now,
        }
    }

    /// Whether another append may leave.
    pub(crate) fn may_send(&self, window: u64) -> bool {
        let open = match self.state {
            State::Probe { sent, .. } => !sent,
            State::Stream => self.in_flight_bytes < window,
        };
        open && self.load.is_none()
    }

    /// Notes an append of `start..end`.
    pub(crate) fn sent(&mut self, start: Seq, end: Seq, bytes: u64, now: Time) {
        if self.in_flight.is_empty() {
            self.awaited_since = now;
        }
        if let State::Probe { meet, sent } = &mut self.state {
            *meet = start;
            *sent = true;
        }
        self.next = end;
        self.in_flight.push_back((end, bytes));
        self.in_flight_bytes = self.in_flight_bytes.saturating_add(bytes);
    }

    /// Notes a question about its entries.
    pub(crate) fn ask(&mut self, number: u64, now: Time) {
        self.load = Some(number);
        self.awaited_since = now;
    }

    /// The peer holds everything before `matched`.
    pub(crate) fn accepted(&mut self, matched: Seq, now: Time) {
        if let State::Probe { meet, .. } = self.state
            && matched >= meet
        {
            self.state = State::Stream;
        }
        if matched > self.matched {
            self.matched = matched;
            self.awaited_since = now;
        }
        self.next = self.next.max(matched);
        while let Some((_, bytes)) = self.in_flight.pop_front_if(|(end, _)| *end <= matched) {
            self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        }
    }

    /// An append that followed `end` did not fit. Whether that is news, rather than an answer to something
    /// that a later answer has made void.
    pub(crate) fn rejection_counts(&self, end: Seq) -> bool {
        match self.state {
            State::Probe { meet, sent } => sent && end == meet,
            State::Stream => end > self.matched,
        }
    }

    /// Tries again from `next`.
    pub(crate) fn probe(&mut self, next: Seq) {
        self.next = next.max(self.matched);
        self.state = State::Probe { meet: self.next, sent: false };
        self.load = None;
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }

    /// Whether an answer is overdue since before `limit`.
    pub(crate) fn overdue(&self, limit: Time) -> bool {
        (!self.in_flight.is_empty() || self.load.is_some()) && self.awaited_since < limit
    }

    /// Sends again what got no answer: from where the logs are known to meet, or the same probe.
    pub(crate) fn retry(&mut self, now: Time) {
        self.awaited_since = now;
        match self.state {
            State::Probe { meet, .. } => self.probe(meet),
            State::Stream => self.probe(self.matched),
        }
    }
}
