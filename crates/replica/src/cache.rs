//! The newest entries, kept in memory.
//!
//! What is not durable yet exists nowhere else and is always here. Beyond that the cache saves reading what
//! followers and the state machine are about to need.

use std::collections::VecDeque;

use bytes::Bytes;
use tinyraftplus_core::{Entry, Seq, Terms};

/// What an entry without a payload takes, roughly.
const ENTRY_COST: u64 = 96;

/// Invariant: the entries follow each other without a gap and end at `end`, the end of the log.
#[derive(Debug)]
pub(crate) struct Cache {
    entries: VecDeque<Entry<Bytes>>,
    end: Seq,
    bytes: u64,
}

impl Cache {
    pub(crate) const fn new(end: Seq) -> Self {
        Self { entries: VecDeque::new(), end, bytes: 0 }
    }

    /// The oldest position it has; the end of the log if it is empty.
    pub(crate) fn start(&self) -> Seq {
        self.entries.front().map_or(self.end, |entry| entry.id.seq)
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn get(&self, seq: Seq) -> Option<&Entry<Bytes>> {
        if seq < self.start() || seq >= self.end {
            return None;
        }
        let at = usize::try_from(seq.since(self.start())).ok()?;
        self.entries.get(at)
    }

    pub(crate) fn trim(&mut self, end: Seq) {
        while let Some(entry) = self.entries.pop_back_if(|entry| entry.id.seq >= end) {
            self.bytes = self.bytes.saturating_sub(cost(&entry));
        }
        self.end = self.end.min(end);
    }

    /// The log begins anew at `start`, without entries.
    pub(crate) fn reset(&mut self, start: Seq) {
        *self = Self::new(start);
    }

    pub(crate) fn append(&mut self, entries: &[Entry<Bytes>]) {
        for entry in entries {
            assert!(
                self.entries.is_empty() || entry.id.seq == self.end,
                "the core appends where its log ends"
            );
            self.bytes = self.bytes.saturating_add(cost(entry));
            self.end = entry.id.seq.after();
            self.entries.push_back(entry.clone());
        }
    }

    /// Drops the newest entries that the log does not have. False if the log goes on behind what is left: all of it
    /// is on disk then, and the cache begins anew.
    pub(crate) fn agree(&mut self, log: &Terms) -> bool {
        while let Some(entry) = self.entries.pop_back_if(|entry| !log.has(entry.id)) {
            self.bytes = self.bytes.saturating_sub(cost(&entry));
        }
        self.end = self.entries.back().map_or_else(|| log.end(), |entry| entry.id.seq.after());
        let goes_on = self.end == log.end();
        if !goes_on {
            *self = Self::new(log.end());
        }
        goes_on && !self.entries.is_empty()
    }

    /// Puts in an entry that was read from the log, if it is the one before those that are here.
    pub(crate) fn prepend(&mut self, entry: Entry<Bytes>) {
        if entry.id.seq.after() == self.start() {
            self.bytes = self.bytes.saturating_add(cost(&entry));
            self.entries.push_front(entry);
        }
    }

    /// Drops the oldest entries over the limit, but none that is not durable, nor the newest that is.
    pub(crate) fn evict(&mut self, bytes_max: u64, durable: Seq) {
        while self.bytes > bytes_max {
            let Some(entry) = self.entries.pop_front_if(|entry| entry.id.seq.after() < durable)
            else {
                return;
            };
            self.bytes = self.bytes.saturating_sub(cost(&entry));
        }
    }
}

fn cost(entry: &Entry<Bytes>) -> u64 {
    ENTRY_COST.saturating_add(payload_bytes(entry))
}

pub(crate) fn payload_bytes(entry: &Entry<Bytes>) -> u64 {
    entry.body.bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tinyraftplus_core::EntryBody;
    use tinyraftplus_core::{EntryId, Term};

    fn entry(seq: u64, term: u64) -> Entry<Bytes> {
        let body = EntryBody::Payload(Bytes::from(vec![0; 10]));
        Entry { id: EntryId::new(Term::new(term), Seq::new(seq)), ends_batch: true, body }
    }

    /// Fails if `evict` does not look at `durable`: what is nowhere else would be gone.
    #[test]
    fn what_is_not_durable_is_never_dropped() {
        let mut cache = Cache::new(Seq::new(5));
        cache.append(&(5..10).map(|seq| entry(seq, 1)).collect::<Vec<_>>());
        cache.evict(0, Seq::new(8));
        assert_eq!(cache.start(), Seq::new(7), "7 is the newest durable entry");
        assert!((7..10).all(|seq| cache.get(Seq::new(seq)).is_some()));
        assert!(cache.get(Seq::new(6)).is_none() && cache.get(Seq::new(10)).is_none());
    }

    #[test]
    fn a_trim_and_a_refill_leave_no_old_entry() {
        let mut cache = Cache::new(Seq::ZERO);
        cache.append(&(0..4).map(|seq| entry(seq, 1)).collect::<Vec<_>>());
        cache.trim(Seq::new(2));
        cache.append(&[entry(2, 2)]);
        assert_eq!(cache.get(Seq::new(2)).map(|entry| entry.id.term), Some(Term::new(2)));
        assert!(cache.get(Seq::new(3)).is_none());
        assert_eq!(cache.bytes(), 3 * (ENTRY_COST + 10));
        cache.trim(Seq::ZERO);
        assert_eq!((cache.bytes(), cache.start()), (0, Seq::ZERO));
    }

    /// A full disk refused what replaced 2..4 and what came behind it: what was there before is on disk. Fails if
    /// `agree` keeps entries that do not reach the end of the log.
    #[test]
    fn what_was_taken_back_is_dropped() {
        let log = |term_at_2: u64, end: u64| {
            let mut terms = Terms::empty(Seq::ZERO, Term::ZERO);
            terms.append(Term::new(1), 2);
            terms.append(Term::new(term_at_2), end - 2);
            terms
        };
        let mut cache = Cache::new(Seq::ZERO);
        cache.append(&[entry(0, 1), entry(1, 1), entry(2, 1), entry(3, 1)]);
        assert!(cache.agree(&log(1, 4)), "nothing was taken back");
        assert!(cache.agree(&log(1, 3)));
        assert_eq!((cache.end, cache.entries.len()), (Seq::new(3), 3));
        assert!(!cache.agree(&log(2, 5)), "2 to 4 are to be read from the log");
        assert_eq!((cache.start(), cache.bytes()), (Seq::new(5), 0));
    }

    #[test]
    fn only_the_entry_just_before_is_put_in_front() {
        let mut cache = Cache::new(Seq::new(5));
        cache.prepend(entry(3, 1));
        assert_eq!(cache.start(), Seq::new(5));
        cache.prepend(entry(4, 1));
        assert_eq!(cache.start(), Seq::new(4));
    }
}
