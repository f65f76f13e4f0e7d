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

use std::{borrow::Cow, io, path::Path};

use tinyraftplus_core::{HardState, Seq};

use super::{Effect, Patch, group::after_group, index::Index, window::Window};
use crate::{
    Damaged, DiskFile, Encoder, LogError, Unknown,
    format::{
        BodyReader, FRAME_FORMAT, FRAME_HEADER_BYTES, Frame, Last, Record, SEAL_BYTES_MAX,
        SLOT_BYTES, Segment, Slot, Stamp, Summary, Tail, checksum, flags, zero_sectors,
    },
    num::{is_zero, round_up, u64_of, usize_of},
    state::{State, is_newer},
};

const AHEAD_BYTES: usize = 1 << 20;
/// A frame that voids a cut group lies at most this far past the reach of the group.
const CUT_REACH_BYTES: u64 = 4 * 4096;

/// A group that never became durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tear {
    /// The last byte of it that is not zero, and so everything after, lies before this.
    pub(crate) written_end: u64,
    /// Its bodies lie before this, written or not, as far as its headers can be read.
    pub(crate) reach: u64,
    pub(crate) why: &'static str,
    /// A newer term and vote than the log's, readable only here.
    pub(crate) hard: Option<HardState>,
    /// It is no torn group but a damaged one: somebody may have been told of it.
    pub(crate) damaged: bool,
}

/// What a file holds, and what the log is after it.
pub(crate) struct Scan<'a, F> {
    pub(super) window: Window<'a, F>,
    pub(super) path: &'a Path,
    encoder: &'a dyn Encoder,
    pub(super) segment: Segment,
    stamp: Stamp,
    /// The position after the file's last byte.
    pub(super) file_end: u64,
    /// Where a full file ends; it was durable before the next was begun.
    pub(super) last: Option<Last>,
    /// And the log there, with its term and vote, if that is known.
    pub(super) last_state: Option<(Tail, HardState)>,
    pub(crate) state: State,
    pub(crate) index: Index,
    /// What all frames do together.
    pub(crate) effect: Effect,
    /// Where the next frame goes.
    pub(crate) position: u64,
    /// The checksum that it repeats.
    pub(crate) prev: u64,
    /// The opening of the last frame.
    pub(super) opening: u64,
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
    /// The newest file ends with a seal: another came after it, and is not there.
    pub(crate) sealed: bool,
    /// What is done about damage, and what was found.
    pub(super) mode: Mode,
    pub(super) lost: Vec<Lost>,
    pub(super) is_damaged: bool,
}

/// What is done about damage.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mode {
    Refuse,
    Report,
    /// Just now a damaged body is passed over, if its header says all that matters.
    PassOver,
}

/// Entries that can't be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    pub(crate) first: Seq,
    pub(crate) end: Seq,
    /// The damaged place.
    pub(crate) position: u64,
    pub(crate) what: &'static str,
}

/// What a cut made void.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Void {
    pub(crate) begin: u64,
    pub(crate) end: u64,
    /// It says a newer term and vote than anything before it.
    pub(crate) rescued: bool,
    /// How many groups came after the one that says so.
    pub(crate) groups: u64,
    /// It was damaged, and is left as it is.
    pub(crate) damaged: bool,
}

/// A whole group.
#[derive(Default)]
pub(super) struct Whole {
    frames: (u64, u64),
    begin: u64,
    prev: u64,
    opening: u64,
    hard: HardState,
    marked: bool,
    effects: Vec<Effect>,
    repairs: Vec<(u64, Vec<u8>)>,
    lost: Vec<Lost>,
    unknown_end: bool,
}

/// Why a group is not whole.
pub(super) struct Fault {
    pub(super) at: u64,
    pub(super) why: &'static str,
    /// A crash can do this.
    torn: bool,
}

/// What can be seen from a fault on.
#[derive(Default)]
pub(super) struct Beyond {
    /// Something durable lies beyond the fault.
    proof: bool,
    pub(super) hard: Option<HardState>,
    pub(super) written_end: u64,
    pub(super) reach: u64,
    /// Where a frame voids all this.
    cut: Option<u64>,
}

pub(super) enum Read {
    Whole(Whole),
    Fault(Fault),
}

impl<'a, F: DiskFile> Scan<'a, F> {
    /// Reads the frames of a file that begins with this header; the log is as `state` says there.
    pub(crate) fn new(
        file: &'a F,
        path: &'a Path,
        segment: Segment,
        state: State,
        encoder: &'a dyn Encoder,
    ) -> Result<Self, LogError> {
        let bytes = file.len().map_err(|source| LogError::Io {
            op: "measure",
            path: path.to_owned(),
            source,
        })?;
        let position = segment.frames();
        Ok(Self {
            window: Window::new(file, segment.position, AHEAD_BYTES),
            path,
            encoder,
            segment,
            stamp: segment.stamp(),
            file_end: segment.position.saturating_add(bytes),
            last: None,
            last_state: None,
            effect: Effect::none(position, state.terms.end()),
            state,
            index: Index::default(),
            position,
            prev: segment.last.sum,
            opening: 0,
            unproven: None,
            marked: false,
            repairs: Vec::new(),
            void: None,
            opening_seen: 0,
            sealed: false,
            mode: Mode::Refuse,
            lost: Vec::new(),
            is_damaged: false,
        })
    }

    /// Damage is to be refused, or passed over and reported.
    pub(crate) const fn on_damage(mut self, mode: Damaged) -> Self {
        self.mode = match mode {
            Damaged::Refuse => Mode::Refuse,
            Damaged::Report => Mode::Report,
        };
        self
    }

    /// Reads the newest file. Says what has to be cut, if anything.
    pub(crate) fn run(&mut self) -> Result<Option<Tear>, LogError> {
        loop {
            if self.last.is_some_and(|last| last.end <= self.position) {
                return Ok(None);
            }
            let fault = match self.group(self.position, false)? {
                Read::Whole(whole) => {
                    self.accept(whole)?;
                    continue;
                }
                Read::Fault(fault) => fault,
            };
            if let Slot::Frame(frame, _) = self.slot(self.position)? {
                self.sealed = frame.has(flags::SEAL) && frame.prev == self.prev;
            }
            let beyond = self.look_beyond(fault.at)?;
            let Some(at) = beyond.cut else {
                match self.judge(&fault, &beyond) {
                    Err(error) if self.mode == Mode::Report && !self.sealed => {
                        match self.pass_over(&fault, &beyond, error)? {
                            None => continue,
                            tear => return Ok(tear),
                        }
                    }
                    judged => return judged,
                }
            };
            match self.group(at, true)? {
                Read::Whole(whole) => {
                    let rescued = is_newer(whole.hard, self.state.hard);
                    let (begin, damaged) = (self.position, whole.unknown_end);
                    let void = Void { begin, end: at, rescued, groups: 0, damaged };
                    self.accept(whole)?;
                    self.void = Some(void);
                    self.index.break_off();
                }
                Read::Fault(fault) => return Err(self.corrupt(fault.at, fault.why)),
            }
        }
    }

    /// Reads a file that is followed by another, which says where it ends. True if its seal was read, false if
    /// that is missing and every frame was.
    pub(crate) fn run_full(
        &mut self,
        last: Last,
        state: Option<(Tail, HardState)>,
    ) -> Result<bool, LogError> {
        if let Some(Summary { effect, extents }) = self.seal(last)? {
            let frames = self.segment.frames()..last.end;
            let index = Index::sealed(extents).filter(|index| index.lies_in(&frames));
            let fits = self.state.replay(&effect);
            let (index, ()) = index
                .zip(fits.ok())
                .ok_or_else(|| self.corrupt(last.end, "the seal of a file does not fit the log"))?;
            (self.index, self.effect) = (index, effect);
            (self.position, self.prev) = (last.end, last.sum);
            return Ok(true);
        }
        (self.last, self.last_state) = (Some(last), state);
        self.run()?;
        if (self.position, self.prev) != (last.end, last.sum) {
            let what = "the next file says that this one goes on otherwise";
            return Err(self.corrupt(self.position, what));
        }
        Ok(false)
    }

    /// The summary in the seal of a full file, if it was written and is whole.
    fn seal(&mut self, last: Last) -> Result<Option<Summary>, LogError> {
        let Slot::Frame(frame, _) = self.slot(last.end)? else { return Ok(None) };
        let sound = frame.has(flags::SEAL)
            && frame.prev == last.sum
            && frame.body_end() <= self.file_end
            && u64::from(frame.body_bytes) <= SEAL_BYTES_MAX;
        if !sound {
            return Ok(None);
        }
        let Ok(body) = self.plain(&frame)? else { return Ok(None) };
        let mut summary = None;
        let mut configuration = None;
        for record in BodyReader::new(&body, frame.first) {
            match record {
                Some(Record::Configuration(value))
                    if configuration.is_none() && summary.is_none() =>
                {
                    configuration = Some(value);
                }
                Some(Record::Summary(value)) if summary.is_none() => summary = Some(*value),
                _ => return Ok(None),
            }
        }
        drop(body);
        if let Some(summary) = &mut summary {
            summary.effect.configuration = configuration;
            summary.effect.unknown = unknown_in(&frame).or(summary.effect.unknown);
            self.opening_seen = self.opening_seen.max(frame.opening);
            self.state.hard = frame.hard;
        }
        Ok(summary)
    }

    fn judge(&self, fault: &Fault, beyond: &Beyond) -> Result<Option<Tear>, LogError> {
        if beyond.proof || !fault.torn || self.last.is_some() {
            return Err(self.corrupt(fault.at, fault.why));
        }
        if beyond.written_end > self.position + self.segment.group_bytes_max + CUT_REACH_BYTES {
            return Err(self.corrupt(fault.at, "bytes lie farther on than any group reaches"));
        }
        if beyond.written_end == 0 {
            return Ok(None);
        }
        let hard = beyond.hard.filter(|&hard| is_newer(hard, self.state.hard));
        let reach = beyond.reach.min(self.position + self.segment.group_bytes_max);
        Ok(Some(Tear {
            written_end: beyond.written_end,
            reach,
            why: fault.why,
            hard,
            damaged: false,
        }))
    }

    pub(super) fn accept(&mut self, whole: Whole) -> Result<(), LogError> {
        if let Some(void) = &mut self.void {
            void.groups += 1;
        }
        for effect in &whole.effects {
            self.state.replay(effect).map_err(|what| self.corrupt(effect.position, what))?;
            self.index.apply(effect);
            self.effect.then(effect);
            if self.is_damaged {
                effect.prune(&mut self.lost, |lost| (lost.first, &mut lost.end));
                let here = whole.lost.iter().filter(|lost| lost.position == effect.position);
                self.lost.extend(here);
            }
        }
        self.state.hard = whole.hard;
        // What follows a mark may be of its group.
        let end = whole.frames.1;
        self.position = if whole.marked { end } else { after_group(end, self.stamp) };
        self.prev = whole.prev;
        self.opening = whole.opening;
        self.opening_seen = self.opening_seen.max(whole.opening);
        self.unproven = Some(whole.frames);
        self.marked = whole.marked;
        self.repairs.extend(whole.repairs);
        Ok(())
    }

    /// Reads the group whose first frame is at `position`. If `cut`, it is one that voids what lies between.
    pub(super) fn group(&mut self, position: u64, cut: bool) -> Result<Read, LogError> {
        let (mut at, mut prev) = (position, self.prev);
        let mut whole = Whole::default();
        let mut first: Option<Frame> = None;
        loop {
            if first.is_some() && at + FRAME_HEADER_BYTES > self.file_end {
                return Ok(Read::Fault(Self::cut_short(position)));
            }
            let (frame, sum) = match self.slot(at)? {
                Slot::Frame(frame, sum) => (frame, sum),
                other @ (Slot::Blank | Slot::Newer(_) | Slot::Bad(_)) => {
                    match if first.is_none() { self.uncopy(at, prev, cut)? } else { None } {
                        Some((frame, sum)) => {
                            whole.repairs.push((at, frame.encode(self.stamp).0.to_vec()));
                            (frame, sum)
                        }
                        None => return Ok(unreadable(at, other)),
                    }
                }
            };
            if first.is_none() {
                self.state.learn(frame.before);
            }
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
                Err(fault) => match self.passable(&frame, &fault) {
                    Some((effect, lost)) => {
                        whole.effects.push(effect);
                        whole.lost.push(lost);
                    }
                    None => return Ok(Read::Fault(fault)),
                },
            }
            (whole.opening, whole.hard) = (frame.opening, frame.hard);
            whole.unknown_end |= frame.has(flags::UNKNOWN_END);
            (at, prev) = (frame.next_position(self.stamp), sum);
            if frame.has(flags::COPIED) {
                let copy = frame.copy(sum, self.stamp);
                let (bytes, sum) = copy.encode(self.stamp);
                if copy.body() > self.file_end {
                    return Ok(Read::Fault(Self::cut_short(position)));
                }
                match self.slot(at)? {
                    Slot::Frame(found, _) if found == copy => {}
                    Slot::Frame(..) => {
                        return Ok(bad(at, "a frame does not follow the one before it"));
                    }
                    Slot::Blank | Slot::Newer(_) | Slot::Bad(_) => {
                        whole.repairs.push((at, bytes.to_vec()));
                    }
                }
                (at, prev) = (copy.next_position(self.stamp), sum);
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
        let block = self.stamp.block;
        let copy_at = if next / block == at / block { round_up(next, block) } else { next };
        Ok(match self.slot(copy_at)? {
            Slot::Frame(copy, _) if copy.has(flags::CUT) == cut => {
                copy.original(self.stamp, at, prev)
            }
            Slot::Frame(..) | Slot::Blank | Slot::Newer(_) | Slot::Bad(_) => None,
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
            && !frame.has(flags::SEAL)
            && frame.next_position(self.stamp) - from <= self.segment.group_bytes_max
    }

    /// What the body of a frame does.
    fn body(&mut self, frame: &Frame) -> Result<Result<Effect, Fault>, LogError> {
        let misfit =
            Fault { at: frame.position, why: "the body of a frame makes no sense", torn: false };
        Ok(if frame.flags & flags::RECORDS == flags::ENTRIES && frame.has(flags::CURRENT) {
            // The header says it all.
            let mut effect = Effect::none(frame.position, frame.first);
            effect.add_entries(frame.hard.term, u64::from(frame.count));
            effect.unknown = unknown_in(frame);
            self.stored(frame)?.map(|_| effect)
        } else {
            self.plain(frame)?.and_then(|body| effect_of(frame, &body).ok_or(misfit))
        })
    }

    /// The body of a frame as it is stored, if it is whole.
    fn stored(&mut self, frame: &Frame) -> Result<Result<&[u8], Fault>, LogError> {
        let at = frame.position;
        let fault = |why, torn| Fault { at, why, torn };
        if frame.body_end() > self.file_end {
            return Ok(Err(Self::cut_short(at)));
        }
        let checked = frame.is_checked(self.encoder.checks_bodies());
        let path = self.path;
        let bytes = self
            .window
            .bytes(frame.body(), u64::from(frame.body_bytes))
            .map_err(|error| failed(path, error))?;
        let sound = if checked { checksum(bytes) == frame.body_sum } else { frame.body_sum == 0 };
        Ok(if !(checked && sound) && zero_sectors(frame.body(), bytes) > frame.zero_sectors {
            Err(fault("a sector of its last group was never written", true))
        } else if sound {
            Ok(bytes)
        } else {
            Err(fault("the body of a frame is damaged", false))
        })
    }

    /// The body of a frame as it was before it was encoded, if it is whole.
    fn plain(&mut self, frame: &Frame) -> Result<Result<Cow<'_, [u8]>, Fault>, LogError> {
        let (encoder, stamp) = (self.encoder, self.stamp);
        let plain_bytes = u64::from(frame.plain_bytes);
        let fault = |why| Fault { at: frame.position, why, torn: false };
        let sealing = frame.has(flags::SEAL);
        if plain_bytes > if sealing { SEAL_BYTES_MAX } else { self.segment.group_bytes_max } {
            return Ok(Err(fault("a frame is longer than any group")));
        }
        Ok(self.stored(frame)?.and_then(|stored| {
            if encoder.keeps_bodies() || frame.plain_bytes == 0 {
                return Ok(Cow::Borrowed(stored));
            }
            let mut body = stored.to_vec();
            let decoded = encoder.decode(&frame.associated(stamp), &mut body, plain_bytes);
            match decoded {
                Ok(()) if u64_of(body.len()) == plain_bytes => Ok(Cow::Owned(body)),
                _ => Err(fault("the encoder can't decode the body of a frame")),
            }
        }))
    }

    /// Space is durably there before a frame enters it, so no crash leaves a group that the file is too short
    /// for.
    const fn cut_short(at: u64) -> Fault {
        Fault { at, why: "the file ends in the middle of a group: it was cut short", torn: false }
    }

    /// Looks at everything from the damaged group on.
    fn look_beyond(&mut self, fault: u64) -> Result<Beyond, LogError> {
        let (begin, stamp, prev) = (self.position, self.stamp, self.prev);
        let mut beyond = Beyond::default();
        let mut opening = self.opening_seen;
        // What such a frame says about the damage is not known, so nothing is cut.
        let mut newer = None;
        let end = self.last.map_or(self.file_end, |last| last.end);
        let look = |at: u64, piece: &[u8]| {
            if is_zero(piece) {
                return true;
            }
            if let Some(last) = piece.iter().rposition(|&byte| byte != 0) {
                beyond.written_end = at + u64_of(last) + 1;
            }
            for (slot, position) in
                piece.chunks_exact(usize_of(SLOT_BYTES)).zip((at..).step_by(usize_of(SLOT_BYTES)))
            {
                let frame = match Frame::decode(slot, stamp, position) {
                    Slot::Frame(frame, _) => frame,
                    Slot::Newer(found) => {
                        newer = Some(found);
                        continue;
                    }
                    Slot::Blank | Slot::Bad(_) => continue,
                };
                opening = opening.max(frame.opening);
                beyond.reach = beyond.reach.max(frame.body_end());
                if beyond.hard.is_none_or(|hard| is_newer(frame.hard, hard)) {
                    beyond.hard = Some(frame.hard);
                }
                beyond.proof |= frame.begin > fault;
                if frame.has(flags::CUT) && frame.begin == begin && beyond.cut.is_none() {
                    beyond.cut = if frame.has(flags::COPY) {
                        let original = position.saturating_sub(stamp.block);
                        frame.original(stamp, original, prev).map(|_| original)
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
        newer.map_or(Ok(beyond), |found| Err(self.newer(found)))
    }

    fn slot(&mut self, at: u64) -> Result<Slot, LogError> {
        let bytes =
            self.window.bytes(at, FRAME_HEADER_BYTES).map_err(|error| failed(self.path, error))?;
        match Frame::decode(bytes, self.stamp, at) {
            Slot::Newer(found) => Err(self.newer(found)),
            slot @ (Slot::Blank | Slot::Frame(..) | Slot::Bad(_)) => Ok(slot),
        }
    }

    fn newer(&self, found: u16) -> LogError {
        LogError::NewerFormat { path: self.path.to_owned(), found, newest_known: FRAME_FORMAT }
    }

    pub(super) const fn stamp(&self) -> Stamp {
        self.stamp
    }

    pub(crate) fn corrupt(&self, position: u64, what: &'static str) -> LogError {
        LogError::Corrupt {
            path: self.path.to_owned(),
            offset: position.saturating_sub(self.segment.position),
            seq: Some(self.state.terms.end()),
            what,
        }
    }
}

const fn unreadable(at: u64, slot: Slot) -> Read {
    match slot {
        Slot::Bad(why) => bad(at, why),
        Slot::Blank | Slot::Newer(_) | Slot::Frame(..) => Read::Fault(Fault {
            at,
            why: "a frame of its last group was never written",
            torn: true,
        }),
    }
}

const fn bad(at: u64, why: &'static str) -> Read {
    Read::Fault(Fault { at, why, torn: false })
}

pub(super) fn failed(path: &Path, source: io::Error) -> LogError {
    LogError::Io { op: "read", path: path.to_owned(), source }
}

/// What the records of a frame do together, if they agree with its header.
pub(crate) fn effect_of(frame: &Frame, body: &[u8]) -> Option<Effect> {
    let mut effect = Effect::none(frame.position, frame.first);
    effect.unknown = unknown_in(frame);
    let (mut found, mut count, mut last) = (0, 0, 0);
    for record in BodyReader::new(body, frame.first) {
        let flag = match record? {
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
            Record::Compact(start) => {
                effect.compact = Some(start);
                flags::COMPACT
            }
            Record::Term => 0,
            Record::Repair(first) if effect.patches.is_empty() => {
                let position = frame.position;
                effect.patches.push(Patch { first, end: first, position });
                flags::REPAIR
            }
            Record::Known if effect.unknown.is_none() => {
                effect.unknown = Some(Unknown::NOTHING);
                flags::REPAIR
            }
            Record::Entry(entry) => {
                if let Some(patch) = effect.patches.last_mut() {
                    patch.end = entry.id.seq.after();
                    flags::REPAIR
                } else {
                    effect.add_entries(entry.id.term, 1);
                    count += 1;
                    flags::ENTRIES
                }
            }
            Record::Repair(_) | Record::Known | Record::Summary(_) => return None,
        };
        // Each but for entries at most once, in the order of their flags; entries come last.
        let rank = if flag & !(flags::ENTRIES | flags::REPAIR) == 0 { u16::MAX } else { flag };
        if rank < last || rank == last && rank < u16::MAX {
            return None;
        }
        (found, last) = (found | flag, rank);
    }
    let empty = effect.patches.iter().any(|patch| patch.first >= patch.end);
    let mixed = found & flags::REPAIR != 0 && found != flags::REPAIR;
    let sound = !empty && !mixed && frame.flags & flags::RECORDS == found && frame.count == count;
    sound.then_some(effect)
}

/// What a frame says about what damage hides, but for a record.
pub(super) fn unknown_in(frame: &Frame) -> Option<Unknown> {
    Some(frame.unknown()).filter(|&unknown| unknown != Unknown::NOTHING)
}
