//! What a leader knows of one peer, and what is on its way there.
//!
//! ```text
//!            the peer holds what the probe followed
//!   Probe ------------------------------------------> Stream
//!     ^   one message at a time, until the logs          | many messages at a time
//!     |   are known to meet                              |
//!     +--------------------------------------------------+
//!            an append did not fit, or no answer came
//!
//!   either, when the next entry lies before the log's start --> Snapshot, until it holds what comes before the start
//! ```

use crate::{Identity, Seq, Time};
use alloc::collections::VecDeque;
use core::time::Duration;

/// So many appends may always be on their way.
const FEW: usize = 4;

/// What this leader knows of a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerStatus {
    /// Everything before this is durable there and equal to this node's log.
    pub matched: Seq,
    /// When it was last heard from in this term.
    pub last_contact: Option<Time>,
    /// The priority it told last; 0 for one that can't lead now.
    pub priority: u32,
    /// Whether it needs a snapshot: it lacks entries that this node's log no longer has.
    pub needs_snapshot: bool,
}

#[derive(Debug)]
pub(crate) struct Progress {
    /// The log that it is about: what another log says under the same name does not count.
    pub(crate) identity: Identity,
    /// Whether it has answered in this term. A log that was just added knows no configuration, and answers nothing before.
    pub(crate) heard: bool,
    /// When it was last told of the configuration that names it. Members that may be taken to know it need not be.
    pub(crate) introduced: Option<Time>,
    /// Since when it is no member any more. It is still told that, for a while.
    pub(crate) leaving: Option<Time>,
    pub(crate) matched: Seq,
    /// The first position not sent yet; the start of a batch, as far as this leader knows.
    pub(crate) next: Seq,
    pub(crate) state: State,
    pub(crate) contact: Option<Time>,
    pub(crate) priority: u32,
    /// Until when, by this node's clock, it votes for nobody.
    pub(crate) promised_until: Time,
    /// The newest round it has answered.
    pub(crate) round: u64,
    /// How far it has been told that entries are committed.
    pub(crate) committed_told: Seq,
    pub(crate) question: Question,
    in_flight: VecDeque<(Seq, u64)>,
    in_flight_bytes: u64,
    /// How many bytes may be in flight while it streams: grows by what is acknowledged, so doubles each round
    /// trip, and begins anew after a probe. Appends that come in another order than they were sent look like lost
    /// ones; answering that with a whole window each time would never end.
    window: u64,
    /// Since when an answer is awaited.
    awaited_since: Time,
    /// How often in a row something was sent again without an answer.
    retries: u32,
}

/// What was asked about the peer's entries, of whoever can read the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Question {
    /// Nothing.
    None,
    /// This, and it will be answered.
    Open(u64),
    /// They could not be read. Asked again after a while.
    Unreadable,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// Where the logs meet is not known. At most one append is under way, following `meet`.
    Probe { meet: Seq, sent: bool },
    /// Appends follow one another without waiting.
    Stream,
    /// It lacks entries that this log no longer has: it is sent heartbeats, and a snapshot by whoever holds one.
    Snapshot,
}

impl Progress {
    pub(crate) const fn new(identity: Identity, first: Seq, next: Seq, now: Time) -> Self {
        Self {
            identity,
            heard: false,
            introduced: None,
            leaving: None,
            matched: first,
            next,
            state: State::Probe { meet: next, sent: false },
            contact: None,
            priority: 0,
            promised_until: Time::ZERO,
            round: 0,
            committed_told: first,
            question: Question::None,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            window: 0,
            awaited_since: now,
            retries: 0,
        }
    }

    /// Whether an append is to be sent of a log that ends at `end`, with at most `limit` bytes under way.
    pub(crate) fn wants(&self, end: Seq, limit: u64) -> bool {
        // Who was not told yet that it belongs here drops all but that.
        let listens = self.heard || self.introduced.is_some();
        self.next < end && listens && self.may_send(limit)
    }

    /// Whether another append may leave, with at most `limit` bytes under way.
    fn may_send(&self, limit: u64) -> bool {
        let open = match self.state {
            State::Probe { sent, .. } => !sent,
            State::Snapshot => false,
            State::Stream => {
                let few = self.in_flight.len() < FEW;
                self.in_flight_bytes < if few { limit } else { self.window.min(limit) }
            }
        };
        open && self.question == Question::None
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

    /// Its entries can't be read now.
    pub(crate) fn unreadable(&mut self, now: Time) {
        self.question = Question::Unreadable;
        self.awaited_since = now;
    }

    /// Its next entry is no longer in the log.
    pub(crate) fn fall_behind(&mut self) {
        self.probe(self.next);
        self.state = State::Snapshot;
    }

    /// The peer holds everything before `matched`, of a log that begins at `start`.
    pub(crate) fn accepted(&mut self, matched: Seq, start: Seq, now: Time) {
        if self.state == State::Snapshot && matched >= start {
            self.probe(matched);
        }
        // Only what is past `meet` answers the probe. The answer to a heartbeat proves that the logs meet,
        // but not that entries get through: a slow peer would be sent its whole window again at each retry.
        if let State::Probe { meet, .. } = self.state
            && matched > meet
        {
            self.state = State::Stream;
        }
        if matched > self.matched {
            self.matched = matched;
            self.awaited_since = now;
            self.retries = 0;
        }
        self.next = self.next.max(matched);
        while let Some((_, bytes)) = self.in_flight.pop_front_if(|(end, _)| *end <= matched) {
            self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
            self.window = self.window.saturating_add(bytes);
        }
    }

    /// An append that followed `end` did not fit. Whether that is news, rather than an answer to something
    /// that a later answer has made void.
    pub(crate) fn rejection_counts(&self, end: Seq) -> bool {
        match self.state {
            // Who refuses what follows an entry that it has acknowledged has lost it, and won't find it again however
            // often it is asked: that has the time of what gets no answer.
            State::Probe { meet, sent } => sent && end == meet && end > self.matched,
            State::Stream => end > self.matched,
            State::Snapshot => false,
        }
    }

    /// Tries again from `next`.
    pub(crate) fn probe(&mut self, next: Seq) {
        self.next = next.max(self.matched);
        self.state = State::Probe { meet: self.next, sent: false };
        self.question = Question::None;
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.window = 0;
    }

    /// Whether no answer came for that long, or for up to 16 times that when it was sent again before.
    pub(crate) fn overdue(&self, now: Time, patience: Duration) -> bool {
        let awaited = !self.in_flight.is_empty() || self.question == Question::Unreadable;
        awaited && now.since(self.awaited_since) > patience.saturating_mul(1 << self.retries.min(4))
    }

    /// Sends again what got no answer: from where the logs are known to meet, or the same probe.
    pub(crate) fn retry(&mut self, now: Time) {
        self.awaited_since = now;
        self.retries = self.retries.saturating_add(1);
        match self.state {
            State::Probe { meet, .. } => self.probe(meet),
            State::Stream => self.probe(self.matched),
            State::Snapshot => {}
        }
    }
}
