//! The files of a log, and which of them hold entries that still count.

use tinyraftplus_core::{HardState, Seq};

use super::Effect;
use crate::format::{Last, Segment, Stamp, Tail};

/// A file of the log, without its handle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) number: u64,
    /// The position of its first byte.
    pub(crate) base: u64,
    /// Where its frames end, and its seal lies; of the newest file, nothing.
    pub(crate) last: Last,
    /// The log there, with its term and vote.
    pub(crate) after: Option<(Tail, HardState)>,
    /// How long it is, once it is full.
    pub(crate) bytes: u64,
    pub(crate) stamp: Stamp,
    /// The first entry in it that still counts: was not trimmed. Later files go on where this one was left.
    pub(crate) first: Option<Seq>,
}

/// The files, the oldest first. The last is written to.
#[derive(Debug, Default)]
pub(crate) struct Parts(Vec<Part>);

impl Parts {
    /// Adds the next file; the one before it, if there is one, has so many bytes.
    pub(crate) fn begin(&mut self, segment: &Segment, bytes: u64) {
        if let Some(full) = self.0.last_mut() {
            (full.last, full.bytes) = (segment.last, bytes);
            full.after = Some((segment.tail, segment.hard));
        }
        self.0.push(Part {
            number: segment.number,
            base: segment.position,
            last: Last::default(),
            after: None,
            bytes: 0,
            stamp: segment.stamp(),
            first: None,
        });
    }

    /// Takes note of what a frame of the newest file does, or all of it.
    pub(crate) fn apply(&mut self, effect: &Effect) {
        if effect.reset.is_some() {
            self.0.iter_mut().for_each(|part| part.first = None);
        }
        if let Some(end) = effect.trim {
            for part in &mut self.0 {
                part.first = part.first.filter(|first| *first < end);
            }
        }
        if let Some(newest) = self.0.last_mut()
            && effect.has_entries()
        {
            newest.first = newest.first.or(Some(effect.first));
        }
    }

    /// Takes out the files that hold nothing from `start` on, as far as all older ones are such, too; never the
    /// newest.
    pub(crate) fn take_void(&mut self, start: Seq) -> Vec<Part> {
        let sealed = self.0.len().saturating_sub(1);
        let needed = self
            .0
            .iter()
            .rposition(|part| part.first.is_some_and(|first| first <= start))
            .or_else(|| self.0.iter().position(|part| part.first.is_some()))
            .unwrap_or(sealed);
        self.0.drain(..needed.min(sealed)).collect()
    }

    /// The file with this entry, and the seq from which on a later file has them. The entry must be in the log.
    pub(crate) fn find(&self, seq: Seq) -> Option<(Part, Option<Seq>)> {
        let at = self.0.iter().rposition(|part| part.first.is_some_and(|first| first <= seq))?;
        let until = self.0.iter().skip(at + 1).find_map(|part| part.first);
        self.0.get(at).map(|part| (*part, until))
    }

    pub(crate) fn oldest(&self) -> Option<&Part> {
        self.0.first()
    }

    pub(crate) fn newest(&self) -> Option<&Part> {
        self.0.last()
    }

    /// How many bytes the full files have.
    pub(crate) fn full_bytes(&self) -> u64 {
        self.0.iter().map(|part| part.bytes).sum()
    }

    /// The file with this number.
    pub(crate) fn numbered(&self, number: u64) -> Option<&Part> {
        self.0.iter().find(|part| part.number == number)
    }

    pub(crate) fn has(&self, number: u64) -> bool {
        self.numbered(number).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
