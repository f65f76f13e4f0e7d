//! A commit group as the bytes of one write.
//!
//! Payloads are copied once, into a buffer that is used again, and a checksum is computed once.

use std::sync::Arc;

use tinyraftplus_core::{Configuration, HardState, Seq, Term};

use crate::{
    LogError, Reset, Write,
    format::{
        FRAME_BODY_BYTES, FRAME_HEADER_BYTES, Frame, SLOT_BYTES, Tail, checksum, flags,
        put_configuration, put_entry, put_reset, put_term, put_trim, zero_sectors,
    },
    num::{u32_of, u64_of, usize_of},
    state::Change,
};

/// What a frame does to the log.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    pub(crate) position: u64,
    pub(crate) configuration: Option<Arc<Configuration>>,
    pub(crate) reset: Option<Reset>,
    pub(crate) trim: Option<Seq>,
    /// The seq of its first entry.
    pub(crate) first: Seq,
    /// The terms of its entries, and how many have it.
    pub(crate) runs: Vec<(Term, u64)>,
}

impl Effect {
    pub(crate) const fn none(position: u64, first: Seq) -> Self {
        Self { position, configuration: None, reset: None, trim: None, first, runs: Vec::new() }
    }

    pub(crate) fn add_entry(&mut self, term: Term) {
        match self.runs.last_mut() {
            Some((last, count)) if *last == term => *count += 1,
            Some(_) | None => self.runs.push((term, 1)),
        }
    }
}

/// What all frames of a group have in common, and where they follow on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) tag: u64,
    pub(crate) opening: u64,
    pub(crate) position: u64,
    pub(crate) prev: u64,
    pub(crate) begin: u64,
    pub(crate) before: Tail,
    pub(crate) hard: HardState,
}

impl Place {
    /// A frame without a body.
    pub(crate) fn bare(&self, flags: u16) -> Frame {
        Frame {
            flags,
            position: self.position,
            opening: self.opening,
            prev: self.prev,
            begin: self.begin,
            before: self.before,
            first: self.before.end,
            count: 0,
            body_bytes: 0,
            zero_sectors: 0,
            hard: self.hard,
            body_sum: checksum(&[]),
        }
    }
}

/// A frame without a body and its copy, as they lie on the disk; and the checksum and end of the copy.
pub(crate) fn put_copied(out: &mut Vec<u8>, original: &Frame, tag: u64) -> (u64, u64) {
    let (bytes, sum) = original.encode(tag);
    out.extend(bytes);
    put_copy(out, original, sum, tag)
}

/// The copy of a frame that ends at the end of `out`.
fn put_copy(out: &mut Vec<u8>, original: &Frame, sum: u64, tag: u64) -> (u64, u64) {
    let copy = original.copy(sum);
    out.resize(out.len() + usize_of(copy.position - original.body_end()), 0);
    let (bytes, sum) = copy.encode(tag);
    out.extend(bytes);
    (sum, copy.next_position())
}

/// Builds a group.
pub(crate) struct GroupEncoder<'a> {
    out: &'a mut Vec<u8>,
    place: Place,
    /// Where in `out` the header of the open frame goes.
    header_at: usize,
    flags: u16,
    count: u32,
    effect: Effect,
    effects: Vec<Effect>,
}

/// A built group.
#[derive(Debug)]
pub(crate) struct Group {
    /// Where the next frame goes.
    pub(crate) end: u64,
    /// The checksum that it repeats.
    pub(crate) prev: u64,
    pub(crate) effects: Vec<Effect>,
}

impl<'a> GroupEncoder<'a> {
    /// The group goes behind what is in `out`.
    pub(crate) fn new(out: &'a mut Vec<u8>, place: Place) -> Self {
        let effect = Effect::none(place.position, place.before.end);
        let mut encoder =
            Self { out, place, header_at: 0, flags: 0, count: 0, effect, effects: Vec::new() };
        encoder.open(place.before.end);
        encoder
    }

    /// Adds a write that fits the log and makes this change.
    pub(crate) fn push(&mut self, write: &Write, change: Change) -> Result<(), LogError> {
        let replaces = change.reset.is_some() || change.trim.is_some();
        // In a frame, everything else comes before the entries, and at most one of reset and trim.
        if self.flags != 0 && (change.configuration || replaces) {
            self.close(0);
        }
        if let Some(configuration) = write.configuration.as_ref().filter(|_| change.configuration) {
            put_configuration(self.out, configuration)?;
            self.flags |= flags::CONFIGURATION;
            self.effect.configuration = Some(Arc::clone(configuration));
        }
        if let Some(reset) = change.reset {
            put_reset(self.out, reset);
            self.flags |= flags::RESET;
            self.effect.reset = Some(reset);
            self.effect.first = reset.start;
        }
        if let Some(end) = change.trim {
            put_trim(self.out, end);
            self.flags |= flags::TRIM;
            self.effect.trim = Some(end);
            self.effect.first = end;
        }
        for batch in write.append.split_inclusive(|entry| entry.ends_batch) {
            let bytes: u64 = batch
                .iter()
                .map(|entry| u64_of(entry.payload.len()) + crate::format::ENTRY_OVERHEAD_MAX)
                .sum();
            let body = u64_of(self.out.len() - self.header_at);
            if self.flags & flags::ENTRIES != 0 && body + bytes > FRAME_BODY_BYTES {
                self.close(0);
            }
            self.flags |= flags::ENTRIES;
            for entry in batch {
                if self.effect.runs.last().is_none_or(|(term, _)| *term != entry.id.term) {
                    put_term(self.out, entry.id.term);
                }
                put_entry(self.out, entry);
                self.effect.add_entry(entry.id.term);
                self.count += 1;
            }
        }
        Ok(())
    }

    /// Ends the group. If it changes the term or vote, they are written twice, in two sectors.
    pub(crate) fn finish(mut self, hard_changed: bool) -> Group {
        let flag = if hard_changed { flags::HARD_STATE | flags::COPIED } else { flags::END };
        let (frame, sum) = self.close(flag);
        let (mut prev, mut end) = (sum, frame.next_position());
        if hard_changed {
            self.out.truncate(self.header_at - usize_of(frame.next_position() - frame.body_end()));
            (prev, end) = put_copy(self.out, &frame, sum, self.place.tag);
        } else {
            self.out.truncate(self.header_at);
        }
        Group { end, prev, effects: self.effects }
    }

    fn open(&mut self, first: Seq) {
        self.header_at = self.out.len();
        self.out.resize(self.header_at + usize_of(FRAME_HEADER_BYTES), 0);
        (self.flags, self.count) = (0, 0);
        self.effect = Effect::none(self.place.position, first);
    }

    /// Completes the open frame, pads it, and opens the next.
    fn close(&mut self, flag: u16) -> (Frame, u64) {
        let body =
            self.out.get(self.header_at + usize_of(FRAME_HEADER_BYTES)..).unwrap_or_default();
        let mut frame = self.place.bare(self.flags | flag);
        frame.first = self.effect.first;
        frame.count = self.count;
        frame.body_bytes = u32_of(body.len());
        frame.zero_sectors = zero_sectors(frame.body(), body);
        frame.body_sum = checksum(body);
        let (bytes, sum) = frame.encode(self.place.tag);
        if let Some(header) =
            self.out.get_mut(self.header_at..).and_then(|out| out.first_chunk_mut())
        {
            *header = bytes;
        }
        let padding = usize_of(frame.next_position() - frame.body_end());
        self.out.resize(self.out.len() + padding, 0);
        debug_assert!(
            self.out.len().is_multiple_of(usize_of(SLOT_BYTES)) || frame.has(flags::COPIED)
        );
        (self.place.position, self.place.prev) = (frame.next_position(), sum);
        let next = Effect::none(self.place.position, frame.end());
        self.effects.push(std::mem::replace(&mut self.effect, next));
        self.open(frame.end());
        (frame, sum)
    }
}
