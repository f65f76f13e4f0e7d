//! The state machine of the test: it counts what it has seen and hashes it, in order.
//!
//! Its answer to any query says how far it is and what it has seen, so that a reader can tell one history from
//! another by 24 bytes.

use bytes::Bytes;
use tinyraftplus_core::Seq;
use tinyraftplus_replica::Apply;

use crate::trace::{digest, digest_bytes};

/// Everything that a state machine has seen, in three numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Machine {
    /// The position after the last entry it has seen, no-ops included.
    pub(crate) end: Seq,
    /// How many of users' entries it has seen.
    pub(crate) count: u64,
    /// What they were, and where, and in which order.
    pub(crate) hash: u64,
}

impl Machine {
    pub(crate) const fn new(start: Seq) -> Self {
        Self { end: start, count: 0, hash: 0 }
    }

    /// Takes one entry of a user.
    pub(crate) fn take(&mut self, seq: Seq, payload: &[u8]) -> Bytes {
        self.end = seq.after();
        self.count += 1;
        self.hash = digest(&[self.hash, seq.get(), digest_bytes(payload)]);
        Bytes::copy_from_slice(&self.count.to_le_bytes())
    }

    /// Takes what a replica hands over.
    pub(crate) fn apply(&mut self, apply: &Apply) -> Vec<Bytes> {
        let take = |entry: &tinyraftplus_replica::Applied| self.take(entry.seq, &entry.payload);
        let results = apply.entries.iter().map(take).collect();
        self.end = apply.end;
        results
    }

    /// The answer to a query.
    pub(crate) fn read(&self) -> Bytes {
        let numbers = [self.end.get(), self.count, self.hash];
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    /// What an answer says; `None` if it is not one.
    pub(crate) fn parse(answer: &[u8]) -> Option<Self> {
        let (numbers, rest) = answer.as_chunks::<8>();
        match numbers {
            [end, count, hash] if rest.is_empty() => Some(Self {
                end: Seq::new(u64::from_le_bytes(*end)),
                count: u64::from_le_bytes(*count),
                hash: u64::from_le_bytes(*hash),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_histories_apart() {
        let history = |entries: &[(u64, &str)]| {
            let mut machine = Machine::new(Seq::ZERO);
            for (seq, payload) in entries {
                machine.take(Seq::new(*seq), payload.as_bytes());
            }
            machine
        };
        let first = history(&[(1, "a"), (2, "b")]);
        assert_eq!(Machine::parse(&first.read()), Some(first));
        assert_ne!(first.hash, history(&[(1, "b"), (2, "a")]).hash);
        assert_ne!(first.hash, history(&[(1, "a"), (3, "b")]).hash);
        assert_eq!(Machine::parse(b"short"), None);
    }
}
