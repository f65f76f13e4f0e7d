//! Finding out what a file holds, without changing it.
//!
//! Groups are read from the first on. Where one is not whole, the question is whether it was ever durable:
//!
//! * A valid frame further on whose group begins beyond the damage says so: **corruption**, refuse.
//! * A header that is neither valid nor all zeros, or a body that is wrong without having more sectors of
//!   zeros than it was written with: a sector is written whole or not at all, so no crash did this.
//!   **Corruption**, refuse.
//! * Otherwise part of the last group never reached the disk. Nobody was told that it had: **torn**, cut it.
//!
//! A valid frame of the same group proves nothing, because sectors reach the disk in any order.
//!
//! Whoever cut a group left a frame that says so further on. That frame follows the last whole group, and
//! everything between is void, whatever it looks like.

use std::{io, path::Path, sync::Arc};

use bytes::Bytes;
use tinyraftplus_core::{HardState, Seq, Term};

use crate::{
    DiskFile, LogError,
    encode::Effect,
    format::{
        BodyReader, FRAME_HEADER_BYTES, Frame, Record, SECTOR_BYTES, SLOT_BYTES, Segment, Slot,
        Tail, checksum, flags, zero_sectors,
    },
    index::Index,
    num::{u64_of, usize_of},
    state::{State, is_newer},
    window::Window,
};

const AHEAD_BYTES: usize = 1 << 20;
/// A frame that voids a cut group lies at most this far past the reach of the group.
const CUT_REACH_BYTES: u64 = 4096;

/// A group that never became durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tear {
    /// The last byte of it that is not zero, and so everything after, lies before this.
    pub(crate) written_end: u64,
    pub(crate) why: &'static str,
    /// A newer term and vote than the log's, readable only here.
    pub(crate) hard: Option<HardState>,
}

/// What a file holds.
pub(crate) struct Scan<'a, F> {
    window: Window<'a, F>,
    path: &'a Path,
    tag: u64,
    file_bytes: u64,
    group_bytes_max: u64,
    pub(crate) state: State,
    pub(crate) index: Index,
    /// Where the next frame goes.
    pub(crate) position: u64,
    /// The checksum that it repeats.
    pub(crate) prev: u64,
    /// The opening of the last frame.
    opening: u64,
    /// The frames of the last group: nothing says yet that they are durable.
    pub(crate) unproven: Option<(u64, u64)>,
    /// The last group is nothing but a mark.
    pub(crate) marked: bool,
    /// Headers to be written again, known from their copies.
    pub(crate) repairs: Vec<(u64, Vec<u8>)>,
    /// The last cut.
    pub(crate) void: Option<Void>,
    /// The newest opening that left any trace.
    pub(crate) opening_seen: u64,
}

/// What a cut made void.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Void {
    pub(crate) begin: u64,
    pub(crate) end: u64,
    /// How many groups came after the one that says so.
    pub(crate) groups: u64,
}

/// A whole group.
#[derive(Default)]
struct Whole {
    frames: (u64, u64),
    begin: u64,
    prev: u64,
    opening: u64,
    hard: HardState,
    marked: bool,
    effects: Vec<Effect>,
    repairs: Vec<(u64, Vec<u8>)>,
}

/// Why a group is not whole.
struct Fault {
    at: u64,
    why: &'static str,
    /// A crash can do this.
    torn: bool,
}

/// What can be seen from a fault on.
#[derive(Default)]
struct Beyond {
    /// Something durable lies beyond the fault.
    proof: bool,
    hard: Option<HardState>,
    written_end: u64,
    /// Where a frame voids all this.
    cut: Option<u64>,
}

enum Read {
    Whole(Whole),
    Fault(Fault),
}

impl<'a, F: DiskFile> Scan<'a, F> {
    pub(crate) fn new(file: &'a F, path: &'a Path, segment: &Segment) -> Result<Self, LogError> {
        let file_bytes = file.len().map_err(|source| LogError::Io {
            op: "measure",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            window: Window::new(file, AHEAD_BYTES),
            path,
            tag: segment.tag(),
            file_bytes,
            group_bytes_max: segment.group_bytes_max,
            state: State::new(segment.identity, segment.hard, segment.start, segment.before),
            index: Index::default(),
            position: u64::from(segment.header_bytes),
            prev: 0,
            opening: 0,
            unproven: None,
            marked: false,
            repairs: Vec::new(),
            void: None,
            opening_seen: 0,
        })
    }

    /// Reads everything. Says what has to be cut, if anything.
    pub(crate) fn run(&mut self) -> Result<Option<Tear>, LogError> {
        loop {
            let fault = match self.group(self.position, false)? {
                Read::Whole(whole) => {
                    self.accept(whole)?;
                    continue;
                }
                Read::Fault(fault) => fault,
            };
            let beyond = self.look_beyond(fault.at)?;
            let Some(at) = beyond.cut else { return self.judge(&fault, &beyond) };
            match self.group(at, true)? {
                Read::Whole(whole) => {
                    let void = Void { begin: self.position, end: at, groups: 0 };
                    self.accept(whole)?;
                    self.void = Some(void);
                    self.index.break_off();
                }
                Read::Fault(fault) => return Err(self.corrupt(fault.at, fault.why)),
            }
        }
    }

    fn judge(&self, fault: &Fault, beyond: &Beyond) -> Result<Option<Tear>, LogError> {
        if beyond.proof || !fault.torn {
            return Err(self.corrupt(fault.at, fault.why));
        }
        if beyond.written_end > self.position + self.group_bytes_max + CUT_REACH_BYTES {
            return Err(self.corrupt(fault.at, "bytes lie farther on than any group reaches"));
        }
        if beyond.written_end == 0 {
            return Ok(None);
        }
        let hard = beyond.hard.filter(|&hard| is_newer(hard, self.state.hard));
        Ok(Some(Tear { written_end: beyond.written_end, why: fault.why, hard }))
    }

    fn accept(&mut self, whole: Whole) -> Result<(), LogError> {
        if let Some(void) = &mut self.void {
            void.groups += 1;
        }
        for effect in &whole.effects {
            apply(&mut self.state, effect).map_err(|what| self.corrupt(effect.position, what))?;
            self.index.apply(effect);
        }
        self.state.hard = whole.hard;
        (self.position, self.prev) = (whole.frames.1, whole.prev);
        self.opening = whole.opening;
        self.opening_seen = self.opening_seen.max(whole.opening);
        self.unproven = Some(whole.frames);
        self.marked = whole.marked;
        self.repairs.extend(whole.repairs);
        Ok(())
    }

    /// Reads the group whose first frame is at `position`. If `cut`, it is one that voids what lies between.
    fn group(&mut self, position: u64, cut: bool) -> Result<Read, LogError> {
        let (mut at, mut prev) = (position, self.prev);
        let mut whole = Whole::default();
        let mut first: Option<Frame> = None;
        loop {
            let (frame, sum) = match self.slot(at)? {
                Slot::Frame(frame, sum) => (frame, sum),
                other @ (Slot::Blank | Slot::Bad(_)) => {
                    match if first.is_none() { self.uncopy(at, prev, cut)? } else { None } {
                        Some((frame, sum)) => {
                            whole.repairs.push((at, frame.encode(self.tag).0.to_vec()));
                            (frame, sum)
                        }
                        None => return Ok(unreadable(at, other)),
                    }
                }
            };
            if !self.follows(&frame, prev, first.as_ref(), cut) {
                return Ok(bad(at, "a frame does not follow the one before it"));
            }
            if first.is_none() {
                whole.begin = frame.begin;
                // A mark that was not waited for is the first frame of the group after it.
                let rewrite = if cut { at } else { frame.begin };
                whole.frames = (rewrite, 0);
                whole.marked = frame.has(flags::MARK);
                first = Some(frame);
            }
            match self.body(&frame)? {
                Ok(effect) => whole.effects.push(effect),
                Err(fault) => return Ok(Read::Fault(fault)),
            }
            (whole.opening, whole.hard) = (frame.opening, frame.hard);
            (at, prev) = (frame.next_position(), sum);
            if frame.has(flags::COPIED) {
                let copy = frame.copy(sum);
                let (bytes, sum) = copy.encode(self.tag);
                match self.slot(at)? {
                    Slot::Frame(found, _) if found == copy => {}
                    Slot::Frame(..) => {
                        return Ok(bad(at, "a frame does not follow the one before it"));
                    }
                    Slot::Blank | Slot::Bad(_) => whole.repairs.push((at, bytes.to_vec())),
                }
                (at, prev) = (copy.next_position(), sum);
            }
            if frame.flags & (flags::COPIED | flags::END) != 0 {
                whole.frames.1 = at;
                whole.prev = prev;
                return Ok(Read::Whole(whole));
            }
        }
    }

    /// The frame without a body that should be at `at`, if its copy is there.
    fn uncopy(&mut self, at: u64, prev: u64, cut: bool) -> Result<Option<(Frame, u64)>, LogError> {
        let next = at + SLOT_BYTES;
        let copy_at = if next / SECTOR_BYTES == at / SECTOR_BYTES {
            next.next_multiple_of(SECTOR_BYTES)
        } else {
            next
        };
        Ok(match self.slot(copy_at)? {
            Slot::Frame(copy, _) if copy.has(flags::CUT) == cut => {
                copy.original(self.tag, at, prev)
            }
            Slot::Frame(..) | Slot::Blank | Slot::Bad(_) => None,
        })
    }

    fn follows(&self, frame: &Frame, prev: u64, first: Option<&Frame>, cut: bool) -> bool {
        let group = match first {
            Some(first) => {
                frame.begin == first.begin
                    && frame.opening == first.opening
                    && frame.hard == first.hard
            }
            None if cut => frame.begin == self.position,
            // After a mark that was not waited for, the group begins with the mark.
            None => {
                frame.begin == frame.position
                    || self.marked && self.unproven.is_some_and(|(begin, _)| begin == frame.begin)
            }
        };
        let before = Tail::of(self.state.terms.end(), self.state.terms.last());
        let from = if cut { frame.position } else { frame.begin };
        group
            && frame.prev == prev
            && frame.opening >= self.opening
            && frame.before == before
            && !frame.has(flags::COPY)
            && frame.has(flags::CUT) == cut
            && !is_newer(self.state.hard, frame.hard)
            && frame.next_position() - from <= self.group_bytes_max
    }

    /// What the body of a frame does.
    fn body(&mut self, frame: &Frame) -> Result<Result<Effect, Fault>, LogError> {
        let torn = Fault {
            at: frame.position,
            why: "a sector of its last group was never written",
            torn: true,
        };
        if frame.body_end() > self.file_bytes && frame.body_bytes > 0 {
            // Space is there before a frame enters it, so a frame beyond it can only be a torn one.
            return Ok(Err(torn));
        }
        let bytes = self
            .window
            .bytes(frame.body(), u64::from(frame.body_bytes))
            .map_err(|error| failed(self.path, error))?;
        if checksum(bytes) != frame.body_sum {
            if zero_sectors(frame.body(), bytes) > frame.zero_sectors {
                return Ok(Err(torn));
            }
            return Ok(Err(Fault { torn: false, why: "the body of a frame is damaged", ..torn }));
        }
        let body = Bytes::copy_from_slice(bytes);
        Ok(effect_of(frame, &body).ok_or(Fault {
            torn: false,
            why: "the body of a frame makes no sense",
            ..torn
        }))
    }

    /// Looks at everything from the damaged group on.
    fn look_beyond(&mut self, fault: u64) -> Result<Beyond, LogError> {
        let (begin, tag, prev) = (self.position, self.tag, self.prev);
        let mut beyond = Beyond::default();
        let mut opening = self.opening_seen;
        let end = self.file_bytes;
        let look = |at: u64, piece: &[u8]| {
            if let Some(last) = piece.iter().rposition(|&byte| byte != 0) {
                beyond.written_end = at + u64_of(last) + 1;
            }
            for (slot, position) in
                piece.chunks_exact(usize_of(SLOT_BYTES)).zip((at..).step_by(usize_of(SLOT_BYTES)))
            {
                let Slot::Frame(frame, _) = Frame::decode(slot, tag, position) else { continue };
                opening = opening.max(frame.opening);
                if beyond.hard.is_none_or(|hard| is_newer(frame.hard, hard)) {
                    beyond.hard = Some(frame.hard);
                }
                beyond.proof |= frame.begin > fault;
                if frame.has(flags::CUT) && frame.begin == begin && beyond.cut.is_none() {
                    beyond.cut = if frame.has(flags::COPY) {
                        let original = position.saturating_sub(SECTOR_BYTES);
                        frame.original(tag, original, prev).map(|_| original)
                    } else {
                        (frame.prev == prev).then_some(position)
                    };
                }
            }
            // A log that was cut often must not be looked through as often.
            beyond.cut.is_none()
        };
        self.window.pieces(begin, end, look).map_err(|error| failed(self.path, error))?;
        self.opening_seen = opening;
        Ok(beyond)
    }

    fn slot(&mut self, at: u64) -> Result<Slot, LogError> {
        let bytes =
            self.window.bytes(at, FRAME_HEADER_BYTES).map_err(|error| failed(self.path, error))?;
        Ok(Frame::decode(bytes, self.tag, at))
    }

    fn corrupt(&self, offset: u64, what: &'static str) -> LogError {
        LogError::Corrupt {
            path: self.path.to_owned(),
            offset,
            seq: Some(self.state.terms.end()),
            what,
        }
    }
}

const fn unreadable(at: u64, slot: Slot) -> Read {
    match slot {
        Slot::Bad(why) => bad(at, why),
        Slot::Blank | Slot::Frame(..) => Read::Fault(Fault {
            at,
            why: "a frame of its last group was never written",
            torn: true,
        }),
    }
}

const fn bad(at: u64, why: &'static str) -> Read {
    Read::Fault(Fault { at, why, torn: false })
}

fn failed(path: &Path, source: io::Error) -> LogError {
    LogError::Io { op: "read", path: path.to_owned(), source }
}

/// What the records of a frame do together, if they agree with its header.
fn effect_of(frame: &Frame, body: &Bytes) -> Option<Effect> {
    let mut effect = Effect::none(frame.position, frame.first);
    let (mut found, mut count) = (0, 0);
    for record in BodyReader::new(body, body, frame.first) {
        found |= match record? {
            Record::Configuration(configuration) => {
                effect.configuration = Some(configuration);
                flags::CONFIGURATION
            }
            Record::Reset(reset) => {
                effect.reset = Some(reset);
                flags::RESET
            }
            Record::Trim(end) => {
                effect.trim = Some(end);
                flags::TRIM
            }
            Record::Term => 0,
            Record::Entry(entry) => {
                effect.add_entry(entry.id.term);
                count += 1;
                flags::ENTRIES
            }
        };
    }
    let records = flags::CONFIGURATION | flags::RESET | flags::TRIM | flags::ENTRIES;
    (frame.flags & records == found && frame.count == count).then_some(effect)
}

/// Applies a frame to a log that it must fit.
fn apply(state: &mut State, effect: &Effect) -> Result<(), &'static str> {
    if let Some(configuration) = &effect.configuration {
        state.configuration = Some(Arc::clone(configuration));
    }
    if let Some(reset) = effect.reset {
        if reset.start == Seq::ZERO && reset.before != Term::ZERO {
            return Err("a reset names an entry before the first position");
        }
        state.terms = tinyraftplus_core::Terms::empty(reset.start, reset.before);
    }
    if let Some(end) = effect.trim {
        if end < state.terms.start() || end > state.terms.end() {
            return Err("a trim lies outside of the log");
        }
        state.terms.trim(end);
    }
    if state.terms.end() != effect.first {
        return Err("entries do not follow those before them");
    }
    for &(term, count) in &effect.runs {
        if term < state.last_term()
            || state.terms.end().checked_add(count).is_none_or(|end: Seq| end < effect.first)
        {
            return Err("a term goes down along the log");
        }
        state.terms.append(term, count);
    }
    Ok(())
}
