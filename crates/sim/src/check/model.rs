//! What a log should hold: a plain list, changed as the writes say.

use std::collections::BTreeMap;
use std::sync::Arc;

use tinyraftplus_core::{Configuration, Configurations, EntryId, HardState, Restored, Seq, Term};
use tinyraftplus_log::{EntryKind, LogEntry, Write, decode_configuration};

use super::{Verdict, require};

/// A log, as dumb as it can be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    start: Seq,
    /// The term of the entry before the start, 0 if there was none.
    before: Term,
    terms: Vec<Term>,
    pub(crate) hard_state: HardState,
    pub(crate) configuration: Option<Arc<Configurations>>,
    /// The entries of the log that are configurations.
    changes: BTreeMap<Seq, Configuration>,
}

const CHECK: &str = "a write follows its log";

impl Model {
    pub(crate) fn new(start: Seq) -> Self {
        Self {
            start,
            before: Term::ZERO,
            terms: Vec::new(),
            hard_state: HardState::default(),
            configuration: None,
            changes: BTreeMap::new(),
        }
    }

    /// What a log says it holds, and what is read from it.
    pub(crate) fn restored(restored: &Restored, entries: &[LogEntry]) -> Self {
        let terms = &restored.terms;
        let seqs = (terms.start().get()..terms.end().get()).map(Seq::new);
        Self {
            start: terms.start(),
            before: terms.entry_before(terms.start()).map_or(Term::ZERO, |id| id.term),
            terms: seqs.map(|seq| terms.term_of(seq).unwrap_or_default()).collect(),
            hard_state: restored.hard_state,
            configuration: restored.configuration.clone(),
            changes: entries.iter().filter_map(change).collect(),
        }
    }

    pub(crate) const fn start(&self) -> Seq {
        self.start
    }

    pub(crate) fn end(&self) -> Seq {
        Seq::new(self.start.get() + self.terms.len() as u64)
    }

    /// The entry at `seq`; the one before the start is known too.
    pub(crate) fn entry(&self, seq: Seq) -> Option<EntryId> {
        if seq.after() == self.start && self.before > Term::ZERO {
            return Some(EntryId::new(self.before, seq));
        }
        let place = usize::try_from(seq.get().checked_sub(self.start.get())?).ok()?;
        self.terms.get(place).map(|&term| EntryId::new(term, seq))
    }

    pub(crate) fn last(&self) -> Option<EntryId> {
        self.entry(self.end().before()?)
    }

    pub(crate) fn has(&self, id: EntryId) -> bool {
        self.entry(id.seq) == Some(id)
    }

    /// The newest configuration before that position, and where it is.
    pub(crate) fn change_before(&self, seq: Seq) -> Option<(Seq, &Configuration)> {
        self.changes.range(..seq).next_back().map(|(&at, change)| (at, change))
    }

    /// The configurations after that position, in order.
    pub(crate) fn changes_after(
        &self,
        at: Option<Seq>,
    ) -> impl Iterator<Item = (Seq, &Configuration)> {
        let start = at.map_or(Seq::ZERO, Seq::after);
        self.changes.range(start..).map(|(&at, change)| (at, change))
    }

    /// Whether the entries of both are the same.
    pub(crate) fn same_entries(&self, other: &Self) -> bool {
        // Where a log without entries begins is nobody's business, unless it had some.
        let is_blank = self.terms.is_empty() && self.before == Term::ZERO;
        (&self.terms, self.before) == (&other.terms, other.before)
            && (is_blank || self.start == other.start)
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
            // Or a snapshot stands for all before: whether it does is looked at where it is restored.
            let is_snapshot = reset.before > Term::ZERO && reset.start > self.start;
            require!(
                is_snapshot || first == Some(reset.start) && self.terms.is_empty(),
                CHECK,
                "node {node} resets its log to {}, which only a first configuration may do to an empty one",
                reset.start
            );
            (self.start, self.before) = (reset.start, reset.before);
            self.terms.clear();
            self.changes.clear();
        }
        if let Some(end) = write.trim {
            require!(
                end >= self.start,
                CHECK,
                "node {node} trims to {end}, before its start {}",
                self.start
            );
            self.terms.truncate(usize::try_from(end.since(self.start)).unwrap_or(usize::MAX));
            self.changes.split_off(&end);
        }
        if let Some(start) = write.compact {
            require!(
                start <= self.end(),
                CHECK,
                "node {node} drops entries before {start}, and has them only to {}",
                self.end()
            );
            if start > self.start {
                self.before = start
                    .before()
                    .and_then(|last| self.entry(last))
                    .map_or(Term::ZERO, |id| id.term);
                self.terms.drain(..usize::try_from(start.since(self.start)).unwrap_or(usize::MAX));
                self.changes = self.changes.split_off(&start);
                self.start = start;
            }
        }
        for entry in &write.append {
            let (id, end) = (entry.id, self.end());
            require!(id.seq == end, CHECK, "node {node} writes {id} where seq {end} comes next");
            let before = self.terms.last().copied().unwrap_or(self.before);
            require!(
                id.term >= before,
                CHECK,
                "node {node} writes {id} after an entry of term {before}"
            );
            self.terms.push(id.term);
            self.changes.extend(change(entry));
        }
        let whole = write.append.last().is_none_or(|last| last.ends_batch);
        require!(
            whole,
            "batches are whole",
            "node {node} writes a part of a batch: {:?}",
            write.append.last().map(|last| last.id)
        );
        self.is_in_force(node)
    }

    /// The configuration in force is the newest one in the log, or one that it has not got as far as.
    pub(crate) fn is_in_force(&self, node: usize) -> Verdict {
        let newest = self.configuration.as_ref().map(|all| all.newest());
        let at = newest.and_then(|newest| newest.at);
        let last = self.changes.last_key_value();
        let same = match (at, last) {
            (Some(at), _) if at >= self.end() => true,
            // Its entry is gone, or a snapshot told of it.
            (Some(at), None) if at < self.start => true,
            (Some(at), Some((&seq, change))) => {
                at == seq && newest.is_some_and(|newest| *newest.configuration == *change)
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        require!(
            same,
            "the newest configuration of a log is in force",
            "node {node} goes by the configuration at {at:?}, and the newest in its log is at {:?}",
            last.map(|(seq, _)| *seq)
        );
        Ok(())
    }
}

/// The configuration that an entry is, and where.
fn change(entry: &LogEntry) -> Option<(Seq, Configuration)> {
    let is_one = entry.kind == EntryKind::Configuration;
    Some((entry.id.seq, decode_configuration(&entry.payload).filter(|_| is_one)?))
}
