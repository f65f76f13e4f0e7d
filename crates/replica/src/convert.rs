//! Between the core's words and the log's.

use bytes::Bytes;
use tinyraftplus_core::{Configuration, Entry, EntryBody, Persist, Term};
use tinyraftplus_log::{
    EntryKind, LogEntry, Reset, Write, decode_configuration, encode_configuration,
};

pub(crate) fn write(persist: Persist<Bytes>) -> Write {
    let Persist { job: _, hard_state, configuration, begin, reset, trim, compact, append } =
        persist;
    let append = append.into_iter().map(to_log).collect();
    // The log is empty, and may have been created to begin elsewhere.
    let begin = begin.map(|start| Reset { start, before: Term::ZERO });
    let anew = reset.map(|last| Reset { start: last.seq.after(), before: last.term });
    Write {
        hard_state,
        configuration,
        reset: begin.or(anew),
        trim,
        compact,
        append,
        ..Write::default()
    }
}

pub(crate) fn to_log(entry: Entry<Bytes>) -> LogEntry {
    let Entry { id, ends_batch, body } = entry;
    let (kind, payload) = match body {
        EntryBody::Noop => (EntryKind::Noop, Bytes::new()),
        EntryBody::Payload(payload) => (EntryKind::Payload, payload),
        EntryBody::Configuration(it) => (EntryKind::Configuration, configuration_payload(&it)),
    };
    LogEntry { id, kind, ends_batch, payload }
}

/// A rule that this version can evaluate is one that it can write.
fn configuration_payload(configuration: &Configuration) -> Bytes {
    encode_configuration(configuration).expect("every rule that is evaluated has bytes").into()
}

/// `None` for a configuration that makes no sense: such an entry can't be sent or applied.
pub(crate) fn from_log(entry: LogEntry) -> Option<Entry<Bytes>> {
    let LogEntry { id, kind, ends_batch, payload } = entry;
    let body = match kind {
        EntryKind::Noop => EntryBody::Noop,
        EntryKind::Payload => EntryBody::Payload(payload),
        EntryKind::Configuration => {
            EntryBody::Configuration(decode_configuration(&payload)?.into())
        }
    };
    Some(Entry { id, ends_batch, body })
}
