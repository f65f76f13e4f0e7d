//! Leader completeness: what was committed in a term is in the logs of all later leaders (Raft figure 3).

use std::collections::BTreeMap;

use tinyraftplus_core::{EntryId, Seq, Term};

use super::{Verdict, View, committed::Committed, require};

/// What was committed when.
#[derive(Debug, Default)]
pub(crate) struct Completeness {
    /// The last position that was first committed while that term was the newest known to whoever did it.
    last_of: BTreeMap<Term, Seq>,
    /// The newest leader looked at.
    looked_at: BTreeMap<Term, usize>,
}

impl Completeness {
    /// An entry was committed for the first time, by a node in that term.
    pub(crate) fn on_committed(&mut self, term: Term, seq: Seq) {
        self.last_of.insert(term, seq);
    }

    /// That node leads. Its log must hold the last entry committed in earlier terms; log matching does the rest.
    ///
    /// A leader of a term that is over already, elected by votes that were long on their way, need not know
    /// what later terms committed.
    pub(crate) fn on_leader(
        &mut self,
        at: usize,
        view: View<'_>,
        committed: &Committed,
    ) -> Verdict {
        let term = view.term;
        if self.looked_at.insert(term, at).is_some() {
            return Ok(());
        }
        let last = self.last_of.range(..term).map(|(_, &seq)| seq).max();
        let last = last.and_then(|seq| committed.entry(seq));
        // What a log began after was committed, and the same as everywhere.
        let holds = |id: EntryId| id.seq < view.terms.start() || view.terms.has(id);
        require!(
            last.is_none_or(holds),
            "leader completeness",
            "node {} leads term {term} without {}, which was committed before",
            at + 1,
            last.map(|id| id.to_string()).unwrap_or_default()
        );
        Ok(())
    }

    /// How many terms had a leader.
    pub(crate) fn leaders(&self) -> u64 {
        self.looked_at.len() as u64
    }
}
