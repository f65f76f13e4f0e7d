//! What a log remembers, and which writes fit it.
//!
//! Every kind of log judges a write here, before it does anything: a refused write changes nothing.

use std::sync::Arc;

use tinyraftplus_core::{Configurations, EntryId, HardState, Identity, Restored, Seq, Term, Terms};

use crate::{LogEntry, LogError, LogOptions, Reset, Unknown, Write, num::u64_of};

/// All that a log remembers, without the payloads.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) identity: Identity,
    pub(crate) hard: HardState,
    pub(crate) configuration: Option<Arc<Configurations>>,
    pub(crate) terms: Terms,
    /// While files are replayed whose older ones were deleted: where the log starts, if that lies in one of
    /// those. A later record must start it higher, or a file is missing.
    pub(crate) owed: Option<Reset>,
    /// What damage hides.
    pub(crate) unknown: Unknown,
}

/// How large things may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) batch_bytes: u64,
    pub(crate) entry_bytes: u64,
}

impl Limits {
    pub(crate) const fn of(options: &LogOptions) -> Self {
        Self { batch_bytes: options.batch_bytes_max, entry_bytes: options.entry_bytes_max }
    }
}

/// What a group of writes takes back if it fails.
///
/// Appends are taken back by dropping them, so that an append costs the same however many terms the log has.
#[derive(Debug)]
pub(crate) struct Undo {
    hard: HardState,
    configuration: Option<Arc<Configurations>>,
    unknown: Unknown,
    end: Seq,
    /// If the group drops any of them.
    terms: Option<Terms>,
}

/// What a write that fits changes. What changes nothing is left out.
#[expect(clippy::struct_excessive_bools, reason = "each is another thing that a write may change")]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Change {
    pub(crate) configuration: bool,
    pub(crate) reset: Option<Reset>,
    pub(crate) trim: Option<Seq>,
    /// The new start, and the term of the entry before it.
    pub(crate) compact: Option<Reset>,
    pub(crate) repair: bool,
    /// Nothing is hidden by damage any more.
    pub(crate) known: bool,
    pub(crate) append: bool,
}

impl Change {
    /// Whether it does anything that comes before the entries.
    pub(crate) const fn is_more_than_entries(self) -> bool {
        self.configuration
            || self.reset.is_some()
            || self.trim.is_some()
            || self.compact.is_some()
            || self.repair
            || self.known
    }

    pub(crate) const fn is_empty(self) -> bool {
        !self.is_more_than_entries() && !self.append
    }
}

impl State {
    pub(crate) const fn new(identity: Identity, hard: HardState, start: Seq, before: Term) -> Self {
        Self {
            identity,
            hard,
            configuration: None,
            terms: Terms::empty(start, before),
            owed: None,
            unknown: Unknown::NOTHING,
        }
    }

    pub(crate) fn restored(&self) -> Restored {
        Restored {
            identity: self.identity,
            hard_state: self.hard,
            configuration: self.configuration.clone(),
            terms: self.terms.clone(),
        }
    }

    /// The term of the newest entry, or of the one before the start.
    pub(crate) fn last_term(&self) -> Term {
        self.terms.last().map_or(Term::ZERO, |id| id.term)
    }

    /// The term of the entry before the start.
    pub(crate) fn last_before_start(&self) -> Term {
        self.terms.entry_before(self.terms.start()).map_or(Term::ZERO, |id| id.term)
    }

    /// How to take back these writes.
    pub(crate) fn undo(&self, group: &[Write]) -> Undo {
        let end = self.terms.end();
        let drops = |write: &Write| {
            write.reset.is_some()
                || write.compact.is_some()
                || write.trim.is_some_and(|trim| trim < end)
        };
        Undo {
            hard: self.hard,
            configuration: self.configuration.clone(),
            unknown: self.unknown,
            end,
            terms: group.iter().any(drops).then(|| self.terms.clone()),
        }
    }

    /// Takes back what was written since [`State::undo`], whole or in part.
    pub(crate) fn take_back(&mut self, undo: Undo) {
        self.hard = undo.hard;
        self.configuration = undo.configuration;
        self.unknown = undo.unknown;
        match undo.terms {
            Some(terms) => self.terms = terms,
            None => self.terms.trim(undo.end),
        }
    }

    /// Applies a write. After an error callers take back what there is of it.
    pub(crate) fn write(&mut self, write: &Write, limits: Limits) -> Result<Change, LogError> {
        if let Some(hard) = write.hard_state {
            self.hard = newer_hard_state(self.hard, hard)?;
        }
        let mut change =
            Change { reset: write.reset, append: !write.append.is_empty(), ..Change::default() };
        if let Some(configuration) = &write.configuration {
            self.configuration = Some(Arc::clone(configuration));
            change.configuration = true;
        }
        if let Some(Reset { start, before }) = write.reset {
            if start == Seq::ZERO && before != Term::ZERO {
                // There is no entry before the first position.
                return Err(LogError::WrongTerm { newest: Term::ZERO, got: before });
            }
            self.terms = Terms::empty(start, before);
        }
        if let Some(end) = write.trim {
            let start = self.terms.start();
            if end < start {
                return Err(LogError::Compacted { start, got: end });
            }
            if end < self.terms.end() {
                self.terms.trim(end);
                change.trim = Some(end);
            }
        }
        if let Some(start) = write.compact {
            let end = self.terms.end();
            if start > end {
                return Err(LogError::Trimmed { end, got: start });
            }
            if start > self.terms.start() {
                self.terms.compact(start);
                change.compact = Some(Reset { start, before: self.last_before_start() });
            }
        }
        if !write.repair.is_empty() {
            self.judge_repair(&write.repair, limits)?;
            change.repair = true;
        }
        if write.known && self.unknown != Unknown::NOTHING {
            self.unknown = Unknown::NOTHING;
            change.known = true;
        }
        self.append(write, limits)?;
        Ok(change)
    }

    /// A repair puts back what was there: entries that follow each other, of positions and terms that the log has.
    fn judge_repair(&self, entries: &[LogEntry], limits: Limits) -> Result<(), LogError> {
        let mut expected = None;
        for entry in entries {
            let EntryId { seq, term } = entry.id;
            if let Some(expected) = expected.filter(|&expected| expected != seq) {
                return Err(LogError::WrongSeq { expected, got: seq });
            }
            let (start, end) = (self.terms.start(), self.terms.end());
            if seq < start {
                return Err(LogError::Compacted { start, got: seq });
            }
            if seq >= end {
                return Err(LogError::Trimmed { end, got: seq });
            }
            if self.terms.term_of(seq) != Some(term) {
                return Err(LogError::BadRepair { seq, got: term });
            }
            let (bytes, limit) = (u64_of(entry.payload.len()), limits.entry_bytes);
            if bytes > limit {
                return Err(LogError::TooLarge { what: "an entry", bytes, limit });
            }
            expected = seq.checked_add(1);
        }
        Ok(())
    }

    fn append(&mut self, write: &Write, limits: Limits) -> Result<(), LogError> {
        let mut batch_bytes = 0_u64;
        for entry in &write.append {
            let bytes = u64_of(entry.payload.len());
            batch_bytes = batch_bytes.saturating_add(bytes);
            if bytes > limits.entry_bytes {
                return Err(LogError::TooLarge {
                    what: "an entry",
                    bytes,
                    limit: limits.entry_bytes,
                });
            }
            if batch_bytes > limits.batch_bytes {
                return Err(LogError::TooLarge {
                    what: "a batch",
                    bytes: batch_bytes,
                    limit: limits.batch_bytes,
                });
            }
            if entry.ends_batch {
                batch_bytes = 0;
            }
            let (expected, newest) = (self.terms.end(), self.last_term());
            if expected == Seq::MAX {
                return Err(LogError::Full);
            }
            if entry.id.seq != expected {
                return Err(LogError::WrongSeq { expected, got: entry.id.seq });
            }
            if entry.id.term < newest {
                return Err(LogError::WrongTerm { newest, got: entry.id.term });
            }
            self.terms.append(entry.id.term, 1);
        }
        match write.append.last() {
            Some(entry) if !entry.ends_batch => Err(LogError::BatchSplit { last: entry.id.seq }),
            Some(_) | None => Ok(()),
        }
    }
}

/// Terms never go down, and a vote is final within its term (Raft figure 2).
fn newer_hard_state(now: HardState, next: HardState) -> Result<HardState, LogError> {
    let fits = next.term > now.term
        || next.term == now.term && (now.vote.is_none() || now.vote == next.vote);
    if fits { Ok(next) } else { Err(LogError::WrongTerm { newest: now.term, got: next.term }) }
}

/// Whether a term and vote were stored after others.
pub(crate) fn is_newer(a: HardState, b: HardState) -> bool {
    (a.term, a.vote.is_some()) > (b.term, b.vote.is_some())
}
