//! Filling messages with entries.
//!
//! The core says which entries a message carries; it does not have them. They come from the cache, or from
//! the log a while later. Meanwhile this node may have lost its leadership, trimmed its log and refilled it in
//! another term: so every entry is compared with what the message was made for, and a message that no longer
//! fits is dropped. The protocol sends again.

use std::collections::BTreeMap;

use bytes::Bytes;
use tinyraftplus_core::{
    self as core, Entry, Input, MessageBody, NodeId, Role, Seq, Span, Transmit,
};
use tinyraftplus_log::{LogEntry, LogError};

use tinyraftplus_core::planted::{self, Bug};

use crate::cache::payload_bytes;
use crate::{Event, LoadReply, LoadRequest, Message, Replica, Want, convert};

/// How many messages may wait for their entries to be read.
const WAITING_MAX: usize = 64;

/// What is being read, and what for.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    next: u64,
    open: BTreeMap<u64, Purpose>,
    waiting: usize,
    /// What was read for a peer, until the message that it was read for is filled.
    staged: BTreeMap<NodeId, Vec<Entry<Bytes>>>,
}

#[derive(Debug)]
pub(crate) enum Purpose {
    /// The core asked, to find a batch for a peer.
    Batches(core::Load),
    /// The front of a message's entries; the rest is in the cache.
    Fill { to: NodeId, message: core::Message<Bytes>, span: Span },
    /// For the state machine.
    Apply,
    /// The newest entry, to show it.
    Head,
    /// The batch in which the log is to begin.
    Compaction,
}

impl Replica {
    pub(crate) fn load(&mut self, want: Want, purpose: Purpose) {
        self.loads.next += 1;
        let number = self.loads.next;
        self.loads.open.insert(number, purpose);
        self.out.load.push(LoadRequest { number, want });
    }

    pub(crate) fn load_batches(&mut self, load: core::Load) {
        let core::Load { at_most, end, bytes_max, .. } = load;
        self.load(Want::Batches { at_most, end, bytes_max }, Purpose::Batches(load));
    }

    pub(crate) fn loaded(&mut self, reply: LoadReply) {
        let LoadReply { request, entries } = reply;
        let Some(purpose) = self.loads.open.remove(&request.number) else {
            return;
        };
        let entries = self.readable(request, entries);
        match purpose {
            Purpose::Batches(load) => self.batches_loaded(&load, entries),
            Purpose::Fill { to, message, span } => {
                self.loads.waiting = self.loads.waiting.saturating_sub(1);
                if let Some(front) = entries {
                    // A failure here is a lost message.
                    self.fill(to, message, &span, &front);
                }
            }
            Purpose::Apply => self.apply_loaded(entries),
            Purpose::Compaction => {
                let first = entries.and_then(|entries| entries.first().map(|first| first.id.seq));
                self.compaction_loaded(first);
            }
            Purpose::Head => {
                if let Some(head) = entries.and_then(|mut entries| entries.pop()) {
                    self.cache.prepend(head);
                }
            }
        }
    }

    /// The entries, if all could be read and are still those of this log.
    fn readable(
        &mut self,
        request: LoadRequest,
        entries: Result<Vec<LogEntry>, LogError>,
    ) -> Option<Vec<Entry<Bytes>>> {
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                self.out.events.push(Event::LoadFailed { request, what: error.to_string() });
                return None;
            }
        };
        let entries: Option<Vec<_>> = entries.into_iter().map(convert::from_log).collect();
        entries.filter(|entries| {
            entries.iter().all(|entry| self.core.terms().has(entry.id))
                && entries.windows(2).all(|pair| match pair {
                    [a, b] => a.id.seq.after() == b.id.seq,
                    _ => true,
                })
        })
    }

    fn batches_loaded(&mut self, load: &core::Load, entries: Option<Vec<Entry<Bytes>>>) {
        let whole = entries.filter(|entries| entries.last().is_some_and(|last| last.ends_batch));
        let bounds = whole.as_deref().and_then(|entries| match entries {
            [] => None,
            [only] => Some((only.id.seq, only.id.seq.after())),
            [first, .., last] => Some((first.id.seq, last.id.seq.after())),
        });
        let cost = |entry| core::Load::ENTRY_COST + payload_bytes(entry);
        let bytes = whole.iter().flatten().map(cost).sum();
        if let Some(entries) = whole {
            self.loads.staged.insert(load.to, entries);
        }
        let loaded = core::Loaded { to: load.to, number: load.number, range: bounds, bytes };
        self.drive(Input::Loaded(loaded));
        // Its message has been filled by now, or never will be.
        self.loads.staged.remove(&load.to);
    }

    pub(crate) fn transmit(&mut self, transmit: Transmit<Bytes>) {
        match transmit {
            Transmit::Message { to, message } => self.out.send.push((to, Message::Raft(message))),
            Transmit::Entries { to, message, span } => {
                let missing_end = self.cache.start().min(span.end);
                if span.start >= missing_end {
                    return self.fill(to, message, &span, &[]);
                }
                let staged = self.loads.staged.remove(&to).unwrap_or_default();
                let covers = staged.first().is_some_and(|first| first.id.seq <= span.start)
                    && staged.last().is_some_and(|last| last.id.seq.after() >= missing_end);
                if covers {
                    self.fill(to, message, &span, &staged);
                } else if self.loads.waiting < WAITING_MAX {
                    self.loads.waiting += 1;
                    let want = Want::Exactly { start: span.start, end: missing_end };
                    self.load(want, Purpose::Fill { to, message, span });
                }
            }
        }
    }

    /// Sends the message with its entries, unless one of them is not what it was made for.
    fn fill(
        &mut self,
        to: NodeId,
        mut message: core::Message<Bytes>,
        span: &Span,
        front: &[Entry<Bytes>],
    ) {
        let MessageBody::Append { entries, .. } = &mut message.body else {
            return;
        };
        let skip = front.partition_point(|entry| entry.id.seq < span.start);
        let mut front = front.iter().skip(skip).peekable();
        let mut seq = span.start;
        while seq < span.end {
            let entry = front.next_if(|entry| entry.id.seq == seq).or_else(|| self.cache.get(seq));
            let blind = planted::is(Bug::FillBlindly);
            let fits = |entry: &&Entry<Bytes>| blind || span.term_of(seq) == Some(entry.id.term);
            let Some(entry) = entry.filter(fits) else {
                return;
            };
            entries.push(entry.clone());
            seq = seq.after();
        }
        self.out.send.push((to, Message::Raft(message)));
    }

    pub(crate) fn load_head(&mut self) {
        let (start, end) = (self.core.terms().start(), self.core.terms().end());
        if let Some(head) = end.before().filter(|&head| head >= start) {
            self.load(Want::Exactly { start: head, end }, Purpose::Head);
        }
    }

    /// What was read for followers is of no use to one.
    pub(crate) fn forget_staged(&mut self) {
        if self.core.role() != Role::Leader {
            self.loads.staged.clear();
        }
    }

    /// The entry at `seq`, from the cache.
    pub(crate) fn cached(&self, seq: Seq) -> Option<&Entry<Bytes>> {
        self.cache.get(seq)
    }
}
