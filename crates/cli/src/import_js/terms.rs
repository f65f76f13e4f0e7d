//! The term that a `RaftNode` of the JavaScript package puts before each entry.

use bytes::Bytes;
use tinyraftplus_log::{EntryKind, Term};

const TERM_BYTES: usize = 8;
/// Terms are counted by elections, so none is as large as this; eight bytes of text are larger.
const TERM_MAX: u64 = 1 << 53;

/// What an entry is, once its term is taken off.
pub(super) type Parts = (Term, EntryKind, Bytes);

/// Takes terms off, or says whether the entries look as if they had some.
#[derive(Debug)]
pub(super) struct Terms {
    raft: bool,
    newest: u64,
    entries: u64,
    fits: bool,
    /// Empty entries of which nobody can tell whether a user or a leader appended them.
    pub(super) empty: u64,
}

impl Terms {
    pub(super) const fn new(raft: bool) -> Self {
        Self { raft, newest: 0, entries: 0, fits: true, empty: 0 }
    }

    /// The newest term.
    pub(super) const fn newest(&self) -> Term {
        Term::new(if self.raft { self.newest } else { 0 })
    }

    /// Whether every entry could have been a `RaftNode`'s.
    pub(super) const fn looks_raft(&self) -> bool {
        self.fits && self.entries > 0
    }

    /// Takes the term off an entry; what is wrong with it, if it can't be a `RaftNode`'s.
    pub(super) fn take(&mut self, payload: Bytes) -> Result<Parts, String> {
        let is_first = self.entries == 0;
        self.entries += 1;
        let taken = self.read(&payload, is_first);
        if !self.raft {
            self.fits &= taken.is_ok();
            return Ok((Term::ZERO, EntryKind::Payload, payload));
        }
        let (kind, term) = taken?;
        let rest = payload.slice(TERM_BYTES..);
        if rest.is_empty() && kind == EntryKind::Payload {
            self.empty += 1;
        }
        Ok((Term::new(term), kind, rest))
    }

    fn read(&mut self, payload: &[u8], is_first: bool) -> Result<(EntryKind, u64), String> {
        const HINT: &str = "leave --raft out if no RaftNode wrote this log";
        let Some((term, rest)) = payload.split_first_chunk::<TERM_BYTES>() else {
            return Err(format!(
                "the entry has {} bytes, and 8 are needed for its term; {HINT}",
                payload.len()
            ));
        };
        let term = u64::from_le_bytes(*term);
        if term == 0 || term >= TERM_MAX {
            return Err(format!("the entry begins with {term}, which is no term; {HINT}"));
        }
        if is_first && !rest.is_empty() {
            return Err(format!(
                "the first entry of a RaftNode's log is its leader's, which is empty, and this one is not; {HINT}"
            ));
        }
        if term < self.newest {
            return Err(format!(
                "the entry has term {term}, and one before it has term {}: terms never go down, so the entries are in the wrong order; {HINT}",
                self.newest
            ));
        }
        // A leader appends an empty entry before it takes any others.
        let begins = term > self.newest;
        self.newest = term;
        let kind = if begins && rest.is_empty() { EntryKind::Noop } else { EntryKind::Payload };
        Ok((kind, term))
    }
}
