//! Handing committed entries to the state machine, and results to whoever waits for them.
//!
//! The core hands out what is committed *and durable here*: a state machine that was ahead of its own log
//! could not be rebuilt from it. One [`Apply`] is under way at a time; while it is, the next one grows.

use bytes::Bytes;
use tinyraftplus_core::{Entry, EntryBody, EntryId, Rising, Seq, Term, Time};

use crate::cache::payload_bytes;
use crate::sending::Purpose;
use crate::serving::Served;
use crate::{Applied, Apply, Outcome, Replica, Unknown, Want};

/// What an entry counts besides its payload.
const ENTRY_COST: u64 = 32;

#[derive(Debug)]
pub(crate) struct Applying {
    /// Everything before this may be applied.
    pub(crate) ready: Seq,
    /// Everything before this has been applied.
    pub(crate) applied: Seq,
    under_way: Option<UnderWay>,
    /// Entries too old for the cache, read from the log.
    window: Vec<Entry<Bytes>>,
    is_loading: bool,
    /// When to read again what could not be read.
    retry_at: Time,
}

#[derive(Debug)]
struct UnderWay {
    end: Seq,
    seqs: Vec<Seq>,
}

impl Applying {
    pub(crate) const fn new(applied: Seq) -> Self {
        Self {
            ready: applied,
            applied,
            under_way: None,
            window: Vec::new(),
            is_loading: false,
            retry_at: Time::NEVER,
        }
    }

    /// When to read again what could not be read. Never while something else is what it waits for: nobody
    /// would look at a time that has passed, and the driver would come again and again.
    pub(crate) fn wake_at(&self) -> Time {
        let reads = self.under_way.is_none() && !self.is_loading && self.applied < self.ready;
        if reads { self.retry_at } else { Time::NEVER }
    }

    /// Whether the state machine has something in hand.
    pub(crate) const fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// The state machine is as if everything before `end` had been applied.
    pub(crate) fn restored(&mut self, end: Seq) {
        self.applied = end;
        self.ready = self.ready.max(end);
        self.window.clear();
    }

    /// Everything before this was handed out: a question that is asked now sees it.
    pub(crate) fn handed_out(&self) -> Seq {
        self.under_way.as_ref().map_or(self.applied, |under_way| under_way.end)
    }
}

/// Batches of calls that are in the log, by term and first position, until their fate is known.
pub(crate) type Tracked = Rising<(Term, Seq), Waiter>;

/// Somebody who waits for a batch.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) last: Seq,
    pub(crate) owner: Owner,
    pub(crate) results: Vec<Bytes>,
}

/// Who waits for a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner {
    /// A call of this node.
    Call(u64),
    /// A call that another node passed on.
    Foreign(Served),
}

impl Replica {
    pub(crate) fn pump_apply(&mut self) {
        if !self.options.state_machine {
            self.applying.applied = self.applying.applied.max(self.applying.ready);
            return;
        }
        if self.snapshots.holds_machine() {
            return;
        }
        while self.applying.under_way.is_none() && self.applying.applied < self.applying.ready {
            let (end, entries, bytes) = self.next_apply();
            let start = self.applying.applied;
            if end == start {
                self.load_for_apply();
                return;
            }
            self.snapshots.note(bytes + ENTRY_COST * end.since(start));
            if entries.is_empty() {
                // Nothing but no-ops.
                self.applying.applied = end;
                continue;
            }
            let seqs = entries.iter().map(|entry| entry.seq).collect();
            self.applying.under_way = Some(UnderWay { end, seqs });
            self.out.apply = Some(Apply { start, end, entries });
        }
    }

    /// What can be handed out now: up to where, the users' entries in it, and how many bytes those are.
    fn next_apply(&mut self) -> (Seq, Vec<Applied>, u64) {
        let applied = self.applying.applied;
        let passed = self.applying.window.partition_point(|entry| entry.id.seq < applied);
        self.applying.window.drain(..passed);
        let mut window = self.applying.window.iter().peekable();
        let (mut end, mut bytes, mut entries) = (applied, 0, Vec::new());
        while end < self.applying.ready
            && entries.len() < self.options.apply_entries_max
            && bytes < self.options.apply_bytes_max
        {
            let entry = window.next_if(|entry| entry.id.seq == end);
            let entry = entry.or_else(|| self.cached(end));
            // Committed entries never change, so one of another term is damage.
            let Some(entry) = entry.filter(|entry| self.core.terms().has(entry.id)) else {
                break;
            };
            bytes += payload_bytes(entry);
            match &entry.body {
                EntryBody::Noop | EntryBody::Configuration(_) => {}
                EntryBody::Payload(payload) => {
                    entries.push(Applied { seq: end, payload: payload.clone() });
                }
            }
            end = end.after();
        }
        (end, entries, bytes)
    }

    fn load_for_apply(&mut self) {
        let waits = self.applying.retry_at != Time::NEVER && self.now < self.applying.retry_at;
        if self.applying.is_loading || waits {
            return;
        }
        self.applying.retry_at = Time::NEVER;
        self.applying.is_loading = true;
        let start = self.applying.applied;
        // What one apply can take, and no more: empty entries have no bytes that would limit them.
        let count = self.options.apply_entries_max as u64;
        let end = self.applying.ready.min(self.cache.start());
        let end = start.checked_add(count).map_or(end, |most| most.min(end));
        let want = Want::Some { start, end, bytes_max: self.options.apply_bytes_max };
        self.load(want, Purpose::Apply);
    }

    pub(crate) fn apply_loaded(&mut self, entries: Option<Vec<Entry<Bytes>>>) {
        self.applying.is_loading = false;
        match entries {
            Some(entries) if !entries.is_empty() => self.applying.window = entries,
            Some(_) | None => self.applying.retry_at = self.now + self.options.retry_interval,
        }
    }

    /// The state machine is done with what it was given.
    pub(crate) fn applied(&mut self, results: Vec<Bytes>) {
        let Some(UnderWay { end, seqs }) = self.applying.under_way.take() else {
            return;
        };
        self.applying.applied = end;
        let results = results.into_iter().chain(std::iter::repeat_with(Bytes::new));
        for (seq, result) in seqs.into_iter().zip(results) {
            let Some(term) = self.core.terms().term_of(seq) else {
                continue;
            };
            if let Some((of, waiter)) = self.tracked.at_most(&(term, seq))
                && of.0 == term
                && seq <= waiter.last
            {
                waiter.results.push(result);
            }
        }
    }

    /// Somebody waits for this batch, which is in a leader's log.
    pub(crate) fn track(&mut self, first: EntryId, last: EntryId, owner: Owner) {
        if self.options.state_machine && first.seq < self.applying.applied {
            // Its results are gone; the leader that applied it has to tell.
            return;
        }
        let waiter = Waiter { last: last.seq, owner, results: Vec::new() };
        self.tracked.insert((first.term, first.seq), waiter);
    }

    /// Tells whoever waits for batches whose fate is known now.
    pub(crate) fn settle(&mut self) {
        let mut next = (Term::ZERO, Seq::ZERO);
        while let Some(&((term, first), ref waiter)) = self.tracked.at_least(&next) {
            let last = EntryId { term, seq: waiter.last };
            let is_committed = waiter.last < self.core.committed();
            let became = self.core.terms().became(last);
            let is_ours = became == Some(true);
            let awaits_result = self.options.state_machine && waiter.last >= self.applying.applied;
            if !is_committed || (became != Some(false) && awaits_result) {
                // Later ones of this term are no further; those of other terms may be.
                next = (term, Seq::MAX);
                continue;
            }
            next = (term, first);
            let Some(Waiter { owner, results, .. }) = self.tracked.remove(&next) else {
                return;
            };
            let count = last.seq.after().since(first);
            let first = EntryId { term, seq: first };
            // A snapshot has the entry, or not; and what the state machine said of it, nobody knows here.
            let is_lost = self.options.state_machine && (results.len() as u64) < count;
            if became.is_none() || is_ours && is_lost {
                match owner {
                    Owner::Call(order) => self.finish(order, Outcome::Unknown(Unknown::Snapshot)),
                    Owner::Foreign(served) => self.served_unknown(served),
                }
                continue;
            }
            match owner {
                Owner::Call(order) if is_ours => self.call_committed(order, first, last, results),
                Owner::Call(order) => self.call_absent(order, term),
                Owner::Foreign(served) if is_ours => {
                    self.served_committed(served, first, last, results);
                }
                Owner::Foreign(served) => self.served_absent(served),
            }
        }
    }
}
