//! A plain list that does what a log should do.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use tinyraftplus_core::{Configurations, EntryId, HardState, Seq, Term};

use crate::{
    EntryKind, LogEntry, Reset, Write,
    num::{u64_of, usize_of},
};

/// All that a log should hold and remember.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) hard: HardState,
    pub(super) configuration: Option<Arc<Configurations>>,
    pub(super) start: Seq,
    /// The term of the entry before the start, 0 if it is not known.
    pub(super) before: Term,
    pub(super) entries: Vec<LogEntry>,
}

impl Model {
    pub(super) fn end(&self) -> Seq {
        self.start.checked_add(u64_of(self.entries.len())).unwrap_or(Seq::MAX)
    }

    pub(super) fn bounds(&self) -> Range<Seq> {
        self.start..self.end()
    }

    pub(super) fn last(&self) -> Option<EntryId> {
        match self.entries.last() {
            Some(entry) => Some(entry.id),
            None if self.before == Term::ZERO => None,
            None => self.start.before().map(|seq| EntryId::new(self.before, seq)),
        }
    }

    /// The term below which no entry may come next.
    pub(super) fn newest_term(&self) -> Term {
        self.entries.last().map_or(self.before, |entry| entry.id.term)
    }

    /// The entries of a range that lies in the log.
    pub(super) fn slice(&self, range: Range<Seq>) -> &[LogEntry] {
        let at = |seq: Seq| usize_of(seq.since(self.start));
        self.entries.get(at(range.start)..at(range.end)).unwrap_or_default()
    }

    pub(super) fn apply(&mut self, write: &Write) {
        self.hard = write.hard_state.unwrap_or(self.hard);
        if let Some(configuration) = &write.configuration {
            self.configuration = Some(Arc::clone(configuration));
        }
        if let Some(Reset { start, before }) = write.reset {
            (self.start, self.before) = (start, before);
            self.entries.clear();
        }
        if let Some(end) = write.trim {
            self.entries.truncate(usize_of(end.since(self.start)));
        }
        if let Some(start) = write.compact.filter(|&start| start > self.start) {
            let gone = self.entries.drain(..usize_of(start.since(self.start)));
            self.before = gone.last().map_or(self.before, |entry| entry.id.term);
            self.start = start;
        }
        for entry in &write.repair {
            let at = usize_of(entry.id.seq.since(self.start));
            if let Some(place) = self.entries.get_mut(at) {
                place.clone_from(entry);
            }
        }
        self.entries.extend(write.append.iter().cloned());
    }

    /// Entries that could be appended now, one batch.
    pub(super) fn next_batch(&self, payloads: impl IntoIterator<Item = Bytes>) -> Vec<LogEntry> {
        let term = self.hard.term.max(self.newest_term());
        let mut batch: Vec<LogEntry> = payloads
            .into_iter()
            .zip(self.end().get()..)
            .map(|(payload, seq)| entry(seq, term.get(), payload))
            .collect();
        if let Some((_, others)) = batch.split_last_mut() {
            for entry in others {
                entry.ends_batch = false;
            }
        }
        batch
    }
}

/// A user's entry that is a batch of its own.
pub(super) fn entry(seq: u64, term: u64, payload: impl Into<Bytes>) -> LogEntry {
    LogEntry {
        id: EntryId::new(Term::new(term), Seq::new(seq)),
        kind: EntryKind::Payload,
        ends_batch: true,
        payload: payload.into(),
    }
}

/// What an entry is, short enough for a message.
pub(super) fn words(entry: Option<&LogEntry>) -> String {
    let Some(entry) = entry else { return "nothing".to_owned() };
    let LogEntry { id, kind, ends_batch, payload } = entry;
    let shown = payload.slice(..payload.len().min(24));
    let place = if *ends_batch { "ends its batch" } else { "does not end its batch" };
    format!("{kind:?} {id}, which {place}, of {} bytes {shown:?}", payload.len())
}
