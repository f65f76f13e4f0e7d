//! A commit group as the bytes of one write.
//!
//! Payloads are copied once, into a buffer that is used again, and a checksum is computed once.

use std::sync::Arc;

use tinyraftplus_core::{EntryId, HardState};

use super::{Effect, Patch};
use crate::{
    Encoder, LogEntry, LogError, Unknown, Write,
    format::{
        FRAME_BODY_BYTES, FRAME_HEADER_BYTES, Frame, SECTOR_BYTES, Stamp, Summary, Tail, checksum,
        flags, put_compact, put_configuration, put_entry, put_known, put_repair, put_reset,
        put_summary, put_term, put_trim, zero_sectors,
    },
    num::{round_up, u32_of, u64_of, usize_of},
    state::Change,
};

/// What all frames of a group have in common, and where they follow on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) stamp: Stamp,
    pub(crate) opening: u64,
    pub(crate) position: u64,
    pub(crate) prev: u64,
    pub(crate) begin: u64,
    pub(crate) before: Tail,
    pub(crate) hard: HardState,
    pub(crate) unknown: Unknown,
}

impl Place {
    /// A frame without a body.
    pub(crate) fn bare(&self, mut flags: u16) -> Frame {
        if self.unknown.end {
            flags |= flags::UNKNOWN_END;
        }
        if self.unknown.configuration {
            flags |= flags::UNKNOWN_CONFIGURATION;
        }
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
            plain_bytes: 0,
            zero_sectors: 0,
            hard: self.hard,
            body_sum: checksum(&[]),
        }
    }
}

/// Where the group after one that ends here begins.
pub(crate) const fn after_group(end: u64, stamp: Stamp) -> u64 {
    if stamp.block > SECTOR_BYTES { round_up(end, stamp.block) } else { end }
}

/// A frame without a body and its copy, as they lie on the disk; and the checksum and end of the copy.
pub(crate) fn put_copied(out: &mut Vec<u8>, original: &Frame, stamp: Stamp) -> (u64, u64) {
    let (bytes, sum) = original.encode(stamp);
    out.extend(bytes);
    put_copy(out, original, sum, stamp)
}

/// The copy of a frame that ends at the end of `out`.
fn put_copy(out: &mut Vec<u8>, original: &Frame, sum: u64, stamp: Stamp) -> (u64, u64) {
    let copy = original.copy(sum, stamp);
    out.resize(out.len() + usize_of(copy.position - original.body_end()), 0);
    let (bytes, sum) = copy.encode(stamp);
    out.extend(bytes);
    (sum, copy.next_position(stamp))
}

/// Encodes what lies in `out` from the header at `header_at` on as the body of this frame, and fills in the
/// header. Returns the checksum that the next frame repeats.
fn seal_frame(
    out: &mut Vec<u8>,
    header_at: usize,
    frame: &mut Frame,
    stamp: Stamp,
    encoder: &dyn Encoder,
) -> Result<u64, LogError> {
    let body_at = header_at + usize_of(FRAME_HEADER_BYTES);
    frame.plain_bytes = u32_of(out.len() - body_at);
    if frame.plain_bytes > 0 {
        if !encoder.keeps_bodies() {
            encoder
                .encode(&frame.associated(stamp), out, body_at)
                .map_err(|source| LogError::Encoder { op: "encode", source })?;
        }
        let body = out.get(body_at..).unwrap_or_default();
        frame.body_bytes = u32_of(body.len());
        frame.zero_sectors = zero_sectors(frame.body(), body);
        frame.body_sum = if frame.is_checked(encoder.checks_bodies()) { checksum(body) } else { 0 };
    }
    let (bytes, sum) = frame.encode(stamp);
    if let Some(header) = out.get_mut(header_at..).and_then(|out| out.first_chunk_mut()) {
        *header = bytes;
    }
    Ok(sum)
}

/// The seal of a file, as the bytes of its only frame.
pub(crate) fn encode_seal(
    place: Place,
    summary: &Summary,
    encoder: &dyn Encoder,
) -> Result<Vec<u8>, LogError> {
    let mut out = vec![0; usize_of(FRAME_HEADER_BYTES)];
    put_summary(&mut out, summary)?;
    let newer = !summary.effect.patches.is_empty() || summary.effect.unknown.is_some();
    let newer = if newer { flags::REPAIR } else { 0 };
    let mut frame = place.bare(flags::SEAL | flags::END | newer);
    seal_frame(&mut out, 0, &mut frame, place.stamp, encoder)?;
    Ok(out)
}

/// Builds a group.
pub(crate) struct GroupEncoder<'a> {
    out: &'a mut Vec<u8>,
    encoder: &'a dyn Encoder,
    place: Place,
    /// Where in `out` the header of the open frame goes.
    header_at: usize,
    flags: u16,
    count: u32,
    plain_bytes_max: u64,
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
    /// The length of the largest body before it was encoded.
    pub(crate) plain_bytes_max: u64,
    pub(crate) effects: Vec<Effect>,
}

impl<'a> GroupEncoder<'a> {
    /// Adds to what is in `out`, which ends where the group begins.
    pub(crate) fn new(out: &'a mut Vec<u8>, encoder: &'a dyn Encoder, place: Place) -> Self {
        let mut group = Self {
            out,
            encoder,
            place,
            header_at: 0,
            flags: 0,
            count: 0,
            plain_bytes_max: 0,
            effect: Effect::none(place.position, place.before.end),
            effects: Vec::new(),
        };
        group.open();
        group
    }

    /// Adds a write that fits the log and makes this change.
    pub(crate) fn push(&mut self, write: &Write, change: Change) -> Result<(), LogError> {
        // In a frame, everything else comes before the entries, and each of it once.
        if self.flags != 0 && change.is_more_than_entries() {
            self.close(0)?;
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
        if let Some(compact) = change.compact {
            put_compact(self.out, compact);
            self.flags |= flags::COMPACT;
            self.effect.compact = Some(compact);
        }
        if change.known || change.repair {
            self.repair(&write.repair, change.known)?;
        }
        if self.flags & flags::REPAIR != 0 && !write.append.is_empty() {
            self.close(0)?;
        }
        for batch in write.append.split_inclusive(|entry| entry.ends_batch) {
            let bytes: u64 = batch
                .iter()
                .map(|entry| u64_of(entry.payload.len()) + crate::format::ENTRY_OVERHEAD_MAX)
                .sum();
            let body = u64_of(self.out.len() - self.header_at);
            if self.flags & flags::ENTRIES != 0 && body + bytes > FRAME_BODY_BYTES {
                self.close(0)?;
            }
            self.flags |= flags::ENTRIES;
            for entry in batch {
                if self.effect.runs.last().is_none_or(|(term, _)| *term != entry.id.term) {
                    put_term(self.out, entry.id.term);
                }
                put_entry(self.out, entry);
                self.effect.add_entries(entry.id.term, 1);
                self.count += 1;
            }
        }
        Ok(())
    }

    /// Entries in the place of others, in frames of their own.
    fn repair(&mut self, entries: &[LogEntry], known: bool) -> Result<(), LogError> {
        if self.flags != 0 {
            self.close(0)?;
        }
        self.flags |= flags::REPAIR;
        if known {
            put_known(self.out);
            self.effect.unknown = Some(Unknown::NOTHING);
        }
        let mut term = None;
        for entry in entries {
            if u64_of(self.out.len() - self.header_at) + u64_of(entry.payload.len())
                > FRAME_BODY_BYTES
                && !self.effect.patches.is_empty()
            {
                self.close(0)?;
                self.flags |= flags::REPAIR;
            }
            let EntryId { seq, term: new } = entry.id;
            let end = seq.after();
            if let Some(patch) = self.effect.patches.last_mut() {
                patch.end = end;
            } else {
                put_repair(self.out, seq);
                let position = self.place.position;
                self.effect.patches.push(Patch { first: seq, end, position });
                term = None;
            }
            if term.replace(new) != Some(new) {
                put_term(self.out, new);
            }
            put_entry(self.out, entry);
        }
        Ok(())
    }

    /// Ends the group. If it changes the term or vote, they are written twice, in two blocks.
    pub(crate) fn finish(mut self, hard_changed: bool) -> Result<Group, LogError> {
        let flag = if hard_changed { flags::HARD_STATE | flags::COPIED } else { flags::END };
        let (frame, sum) = self.close(flag)?;
        let stamp = self.place.stamp;
        let (mut prev, mut end) = (sum, frame.next_position(stamp));
        if hard_changed {
            self.out.truncate(self.header_at - usize_of(end - frame.body_end()));
            (prev, end) = put_copy(self.out, &frame, sum, stamp);
        } else {
            self.out.truncate(self.header_at);
        }
        let (end, plain_bytes_max) = (after_group(end, stamp), self.plain_bytes_max);
        Ok(Group { end, prev, plain_bytes_max, effects: self.effects })
    }

    fn open(&mut self) {
        self.header_at = self.out.len();
        self.out.resize(self.header_at + usize_of(FRAME_HEADER_BYTES), 0);
        (self.flags, self.count) = (0, 0);
    }

    /// Completes the open frame, pads it, and opens the next.
    fn close(&mut self, flag: u16) -> Result<(Frame, u64), LogError> {
        let stamp = self.place.stamp;
        let current = self.count > 0
            && self.effect.runs.iter().all(|(term, _)| *term == self.place.hard.term);
        let mut frame =
            self.place.bare(self.flags | flag | if current { flags::CURRENT } else { 0 });
        frame.first = self.effect.first;
        frame.count = self.count;
        let sum = seal_frame(self.out, self.header_at, &mut frame, stamp, self.encoder)?;
        self.plain_bytes_max = self.plain_bytes_max.max(u64::from(frame.plain_bytes));
        let next = frame.next_position(stamp);
        self.out.resize(self.out.len() + usize_of(next - frame.body_end()), 0);
        (self.place.position, self.place.prev) = (next, sum);
        let effect = Effect::none(next, frame.end());
        self.effects.push(std::mem::replace(&mut self.effect, effect));
        self.open();
        Ok((frame, sum))
    }
}
