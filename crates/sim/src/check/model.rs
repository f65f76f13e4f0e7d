//! What a log should hold: a plain list, changed as the writes say.

use std::sync::Arc;

use tinyraftplus_core::{Configurations, EntryId, HardState, Restored, Seq, Term};
use tinyraftplus_log::Write;

use super::{Verdict, require};

/// A log, as dumb as it can be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    start: Seq,
    terms: Vec<Term>,
    pub(crate) hard_state: HardState,
    pub(crate) configuration: Option<Arc<Configurations>>,
}

const CHECK: &str = "a write follows its log";

impl Model {
    pub(crate) fn new(start: Seq) -> Self {
        Self { start, terms: Vec::new(), hard_state: HardState::default(), configuration: None }
    }

    /// What a log says it holds.
    pub(crate) fn restored(restored: &Restored) -> Self {
        let terms = &restored.terms;
        let seqs = (terms.start().get()..terms.end().get()).map(Seq::new);
        Self {
            start: terms.start(),
            terms: seqs.map(|seq| terms.term_of(seq).unwrap_or_default()).collect(),
            hard_state: restored.hard_state,
            configuration: restored.configuration.clone(),
        }
    }

    pub(crate) const fn start(&self) -> Seq {
        self.start
    }

    pub(crate) fn end(&self) -> Seq {
        Seq::new(self.start.get() + self.terms.len() as u64)
    }

    pub(crate) fn entry(&self, seq: Seq) -> Option<EntryId> {
        let place = usize::try_from(seq.get().checked_sub(self.start.get())?).ok()?;
        self.terms.get(place).map(|&term| EntryId::new(term, seq))
    }

    pub(crate) fn last(&self) -> Option<EntryId> {
        self.entry(self.end().before()?)
    }

    pub(crate) fn has(&self, id: EntryId) -> bool {
        self.entry(id.seq) == Some(id)
    }

    /// Whether the entries of both are the same.
    pub(crate) fn same_entries(&self, other: &Self) -> bool {
        // Where a log without entries begins is nobody's business.
        self.terms == other.terms && (self.terms.is_empty() || self.start == other.start)
    }

    /// Changes it as a write says.
    pub(crate) fn apply(&mut self, at: usize, write: &Write) -> Verdict {
        let node = at + 1;
        if let Some(next) = write.hard_state {
            let now = self.hard_state;
            let kept = next.term > now.term
                || next.term == now.term && (now.vote.is_none() || now.vote == next.vote);
            require!(
                kept,
                "term and vote never go back",
                "node {node} had {now:?} and writes {next:?}"
            );
            self.hard_state = next;
        }
        if let Some(configuration) = &write.configuration {
            self.configuration = Some(Arc::clone(configuration));
        }
        if let Some(reset) = write.reset {
            let first = write.configuration.as_ref();
            let first = first.map(|all| all.newest().configuration.first());
            require!(
                first == Some(reset.start) && self.terms.is_empty(),
                CHECK,
                "node {node} resets its log to {}, which only a first configuration may do to an empty one",
                reset.start
            );
            self.start = reset.start;
        }
        if let Some(end) = write.trim {
            require!(
                end >= self.start,
                CHECK,
                "node {node} trims to {end}, before its start {}",
                self.start
            );
            self.terms.truncate(usize::try_from(end.since(self.start)).unwrap_or(usize::MAX));
        }
        for entry in &write.append {
            let (id, end) = (entry.id, self.end());
            require!(id.seq == end, CHECK, "node {node} writes {id} where seq {end} comes next");
            let before = self.terms.last().copied().unwrap_or_default();
            require!(
                id.term >= before,
                CHECK,
                "node {node} writes {id} after an entry of term {before}"
            );
            self.terms.push(id.term);
        }
        let whole = write.append.last().is_none_or(|last| last.ends_batch);
        require!(
            whole,
            "batches are whole",
            "node {node} writes a part of a batch: {:?}",
            write.append.last().map(|last| last.id)
        );
        Ok(())
    }
}
