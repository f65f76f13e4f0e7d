//! Between the core's words and the log's.

use bytes::Bytes;
use tinyraftplus_core::{Entry, EntryBody, Persist, Term};
use tinyraftplus_log::{EntryKind, LogEntry, Reset, Write};

pub(crate) fn write(persist: Persist<Bytes>) -> Write {
    let Persist { job: _, hard_state, configuration, trim, append } = persist;
    let append = append.into_iter().map(to_log).collect();
    // It comes to an empty log, which may have been created to begin elsewhere.
    let reset = configuration.as_ref().map(|c| Reset { start: c.first(), before: Term::ZERO });
    Write { hard_state, configuration, reset, trim, compact: None, append }
}

pub(crate) fn to_log(entry: Entry<Bytes>) -> LogEntry {
    let Entry { id, ends_batch, body } = entry;
    let (kind, payload) = match body {
        EntryBody::Noop => (EntryKind::Noop, Bytes::new()),
        EntryBody::Payload(payload) => (EntryKind::Payload, payload),
    };
    LogEntry { id, kind, ends_batch, payload }
}

/// `None` for a kind that the core does not know: such an entry can't be sent or applied.
pub(crate) fn from_log(entry: LogEntry) -> Option<Entry<Bytes>> {
    let LogEntry { id, kind, ends_batch, payload } = entry;
    let body = match kind {
        EntryKind::Noop => EntryBody::Noop,
        EntryKind::Payload => EntryBody::Payload(payload),
        EntryKind::Configuration => return None,
    };
    Some(Entry { id, ends_batch, body })
}
