//! Log matching: if two logs hold the same entry, they agree on everything up to it (Raft figure 3).
//!
//! It is enough to look at each entry as it is written: whoever writes it must write the same content after the
//! same entry as whoever wrote it first. Everything before follows by induction.

use std::collections::BTreeMap;

use bytes::Bytes;
use tinyraftplus_core::EntryId;
use tinyraftplus_log::{EntryKind, LogEntry, Write};

use super::{Verdict, model::Model, require};

/// Every entry that any log ever held.
#[derive(Debug, Default)]
pub(crate) struct Matching {
    entries: BTreeMap<EntryId, Known>,
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    pub(crate) id: EntryId,
    pub(crate) kind: EntryKind,
    pub(crate) payload: Bytes,
    pub(crate) ends_batch: bool,
    before: Option<EntryId>,
}

const CHECK: &str = "log matching";

#[cfg(test)]
impl Known {
    pub(crate) const fn new(
        id: EntryId,
        kind: EntryKind,
        payload: Bytes,
        ends_batch: bool,
    ) -> Self {
        Self { id, kind, payload, ends_batch, before: None }
    }
}

impl Matching {
    /// A node decides to write this to a log that is as `model` says.
    pub(crate) fn on_write(&mut self, at: usize, model: &Model, write: &Write) -> Verdict {
        let mut before = match (write.trim, write.append.first()) {
            (_, Some(first)) => first.id.seq.before().and_then(|seq| model.entry(seq)),
            (_, None) => None,
        };
        for entry in &write.append {
            let known = Known {
                id: entry.id,
                kind: entry.kind,
                payload: entry.payload.clone(),
                ends_batch: entry.ends_batch,
                before,
            };
            before = Some(entry.id);
            let first = self.entries.entry(entry.id).or_insert_with(|| known.clone());
            require!(
                first.before == known.before,
                CHECK,
                "entry {} follows {:?} on node {} but {:?} elsewhere",
                entry.id,
                known.before,
                at + 1,
                first.before
            );
            require!(
                *first == known,
                CHECK,
                "entry {} differs on node {} from elsewhere",
                entry.id,
                at + 1
            );
        }
        Ok(())
    }

    pub(crate) fn get(&self, id: EntryId) -> Option<&Known> {
        self.entries.get(&id)
    }

    /// Whether an entry read from a log is the one that was written.
    pub(crate) fn is(&self, entry: &LogEntry) -> bool {
        self.entries.get(&entry.id).is_some_and(|known| {
            (known.kind, &known.payload, known.ends_batch)
                == (entry.kind, &entry.payload, entry.ends_batch)
        })
    }
}
