//! The demo's state machine: how many lines, and a hash of all of them in order.

use bytes::Bytes;
use std::hash::{DefaultHasher, Hasher};
use tinyraftplus::{Applied, StateMachine, StateMachineError};

/// How many lines, and a hash of all of them in order: two nodes that agree on both have applied the same.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Journal {
    pub(crate) lines: u64,
    pub(crate) hash: u64,
}

impl Journal {
    /// The journal after all these lines.
    pub(crate) fn of<'a>(lines: impl IntoIterator<Item = &'a Bytes>) -> Self {
        let mut journal = Self::default();
        for line in lines {
            journal.add(line);
        }
        journal
    }

    /// Takes one more line.
    pub(crate) fn add(&mut self, line: &[u8]) {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.hash);
        hasher.write(line);
        self.hash = hasher.finish();
        self.lines += 1;
    }

    pub(crate) fn encode(self) -> Bytes {
        let mut bytes = [0; 16];
        let (lines, hash) = bytes.split_at_mut(8);
        lines.copy_from_slice(&self.lines.to_le_bytes());
        hash.copy_from_slice(&self.hash.to_le_bytes());
        Bytes::copy_from_slice(&bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (lines, hash) = bytes.split_at_checked(8)?;
        let lines = u64::from_le_bytes(lines.try_into().ok()?);
        let hash = u64::from_le_bytes(hash.try_into().ok()?);
        Some(Self { lines, hash })
    }
}

impl StateMachine for Journal {
    fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
        for entry in entries {
            self.add(&entry.payload);
        }
        Ok(vec![Bytes::new(); entries.len()])
    }

    fn read(&mut self, _query: &[u8]) -> Result<Bytes, StateMachineError> {
        Ok(self.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_every_line_count() {
        let lines = ["a", "b", ""].map(Bytes::from);
        let journal = Journal::of(&lines);
        assert_eq!(journal.lines, 3);
        assert_ne!(journal, Journal::of(&["b", "a", ""].map(Bytes::from)));
        assert_ne!(journal.hash, Journal::of(&["a", "b"].map(Bytes::from)).hash);
        assert_eq!(Journal::decode(&journal.encode()), Some(journal));
        assert_eq!(Journal::decode(b"short"), None);
    }
}
