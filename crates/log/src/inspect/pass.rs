//! Every frame of one file, from the first on, whatever is damaged.
//!
//! A group counts once all of it was read. Where one is not whole, this asks in this order: did somebody cut it,
//! so that it is void? Is it the end? Is it whole by now, because the owner was writing it? Is it the last, so that
//! opening would cut it (the code that opens logs says so itself)? Only then it is damage, and reading goes on at
//! the next frame, which says what the log was there.

use std::time::Duration;

use tinyraftplus_core::{HardState, Seq, Terms};

use super::{Damage, view::View};
use crate::{
    Cut, Disk, Encoder,
    engine::{Effect, Index, Scan, after_group, effect_of},
    format::{Frame, Last, SLOT_BYTES, Slot, Stamp, Summary, Tail, checksum, flags},
    num::round_up,
    state::{State, is_newer},
};

/// How long to wait, at most, before looking at the end of a log again.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// An end that did not change so often is what it looks like.
const STILL_COUNT: u32 = 6;
/// An owner that writes on and on can't be waited for for ever.
const LOOKS_MAX: u32 = 100;
/// A frame that voids a cut group lies at most this far past the reach of the group.
const CUT_REACH_BYTES: u64 = 4 * 4096;
/// How often to tell how far reading has come.
const PROGRESS_BYTES: u64 = 1 << 20;

/// What reading a file found.
pub(super) struct Pass<'a, D: Disk> {
    pub(super) view: View<D>,
    encoder: &'a dyn Encoder,
    stamp: Stamp,
    /// Where the file ends, if the next one says so.
    last: Option<Last>,
    /// The log at the beginning of the file, and after what was read.
    begin: State,
    pub(super) state: State,
    /// What all frames do together.
    pub(super) effect: Effect,
    pub(super) index: Index,
    /// Extents that the index must have: where seqs don't follow on.
    breaks: Vec<(Seq, u64)>,
    broken: bool,
    pub(super) position: u64,
    /// The checksum that the next frame repeats; not known behind damage.
    prev: Option<u64>,
    opening: u64,
    /// Where the last group lies, if it is nothing but a mark.
    mark: Option<u64>,
    /// Behind damage: the next frame is believed what it says about the log.
    loose: bool,
    /// Of the damage of which the end is not known yet.
    open_damage: Option<usize>,
    /// Entries before this are proven durable.
    pub(super) durable_end: Seq,
    pub(super) torn: Option<Cut>,
    /// It ends with a seal, so there is a next file.
    pub(super) sealed: bool,
    pub(super) damage: Vec<Damage>,
    pub(super) frames: u64,
    pub(super) entries: u64,
}

/// A group that was read.
#[derive(Default)]
struct Group {
    effects: Vec<Effect>,
    end: u64,
    prev: u64,
    opening: u64,
    hard: HardState,
    mark: Option<u64>,
    before: Option<Tail>,
    frames: u64,
    entries: u64,
    copies_lost: Vec<(u64, &'static str)>,
}

/// Why a group can't be read.
struct Fault {
    at: u64,
    why: &'static str,
    /// The header is a frame's that belongs here, so it is the body that is wrong.
    frame: Option<Box<(Frame, u64)>>,
    /// It is zeros.
    blank: bool,
}

/// What lies behind a fault.
#[derive(Default)]
struct Beyond {
    /// Bytes that are not zeros.
    any: bool,
    /// A frame says that what is at the fault was durable.
    proof: bool,
    /// A frame voids the group.
    cut: Option<u64>,
    /// A checksum of all of it.
    sum: u64,
}

impl<'a, D: Disk> Pass<'a, D> {
    pub(super) fn new(
        view: View<D>,
        encoder: &'a dyn Encoder,
        state: State,
        last: Option<Last>,
        loose: bool,
    ) -> Self {
        let segment = view.segment;
        Self {
            encoder,
            stamp: segment.stamp(),
            last,
            begin: state.clone(),
            effect: Effect::none(segment.frames(), state.terms.end()),
            index: Index::default(),
            breaks: Vec::new(),
            broken: true,
            position: segment.frames(),
            prev: (!loose).then_some(segment.last.sum),
            opening: 0,
            mark: None,
            loose,
            open_damage: None,
            durable_end: segment.tail.end,
            torn: None,
            sealed: false,
            damage: Vec::new(),
            frames: 0,
            entries: 0,
            state,
            view,
        }
    }

    /// Takes what a full file does from its seal, without reading its frames. False if there is none that can
    /// be used.
    pub(super) fn take_seal(&mut self) -> bool {
        let Some(last) = self.last else { return false };
        let Some(Ok((Summary { effect, extents }, hard))) = self.seal(last) else { return false };
        let Some(index) = Index::sealed(extents) else { return false };
        let mut state = self.state.clone();
        if state.replay(&effect).is_err() {
            return false;
        }
        state.hard = hard;
        (self.state, self.effect, self.index) = (state, effect, index);
        (self.position, self.prev, self.sealed) = (last.end, Some(last.sum), true);
        true
    }

    /// Reads all frames. `on` is told where reading is.
    pub(super) fn read(&mut self, on: &mut dyn FnMut(u64)) {
        let mut told = self.position;
        loop {
            if self.position >= told.saturating_add(PROGRESS_BYTES) {
                told = self.position;
                on(self.view.offset(told));
            }
            if self.last.is_some_and(|last| last.end <= self.position) {
                break;
            }
            let more = match self.group(self.position, false) {
                Ok(group) => {
                    self.accept(&group);
                    true
                }
                Err(fault) => self.resolve(&fault),
            };
            if !more {
                break;
            }
        }
        if let Some(last) = self.last {
            self.finish(last);
        }
    }

    /// The group whose first frame is at `position`. If `cut`, it is one that voids what lies between.
    fn group(&mut self, position: u64, cut: bool) -> Result<Group, Fault> {
        let (mut at, mut prev) = (position, self.prev);
        let mut group = Group::default();
        let mut first: Option<Frame> = None;
        loop {
            let (frame, sum) = match self.view.slot(at) {
                Slot::Frame(frame, sum) => (frame, sum),
                slot @ (Slot::Blank | Slot::Newer(_) | Slot::Bad(_)) => {
                    let original = if first.is_none() { self.uncopy(at, prev, cut) } else { None };
                    let what = "a frame with a term and vote is damaged, its copy is not";
                    group.copies_lost.extend(original.map(|_| (at, what)));
                    original.ok_or_else(|| fault_of(at, slot))?
                }
            };
            let misfit = move |why| Fault { at, why, frame: None, blank: false };
            if frame.has(flags::SEAL) && first.is_none() && self.last.is_none() {
                self.sealed = prev.is_none_or(|prev| prev == frame.prev);
            }
            if first.is_none() {
                self.state.learn(frame.before);
            }
            if !self.follows(&frame, prev, first.as_ref(), cut) {
                return Err(misfit("a frame does not follow the one before it"));
            }
            if first.is_none() {
                group.before = Some(frame.before);
                group.mark = frame.has(flags::MARK).then_some(at);
                first = Some(frame);
            }
            let stamp = self.stamp;
            let effect = self.view.body(&frame).and_then(|body| {
                effect_of(&frame, &body)
                    .filter(|effect| is_current(&frame, effect))
                    .ok_or("the body of a frame makes no sense")
            });
            match effect {
                Ok(effect) => group.effects.push(effect),
                Err(why) => {
                    return Err(Fault {
                        at,
                        why,
                        frame: Some(Box::new((frame, sum))),
                        blank: false,
                    });
                }
            }
            group.frames += 1;
            group.entries += u64::from(frame.count);
            (group.opening, group.hard) = (frame.opening, frame.hard);
            (at, prev) = (frame.next_position(stamp), Some(sum));
            group.prev = sum;
            if frame.has(flags::COPIED) {
                let copy = frame.copy(sum, stamp);
                match self.view.slot(at) {
                    Slot::Frame(found, _) if found == copy => {}
                    Slot::Frame(..) => {
                        return Err(misfit("a frame does not follow the one before it"));
                    }
                    Slot::Blank | Slot::Newer(_) | Slot::Bad(_) => {
                        group.copies_lost.push((at, "a copy of a term and vote is damaged"));
                    }
                }
                (at, group.prev) = (copy.next_position(stamp), copy.encode(stamp).1);
            }
            if frame.flags & (flags::COPIED | flags::END) != 0 {
                group.end = at;
                return Ok(group);
            }
        }
    }

    /// The frame without a body that should be at `at`, if its copy is there.
    fn uncopy(&mut self, at: u64, prev: Option<u64>, cut: bool) -> Option<(Frame, u64)> {
        let (prev, block) = (prev?, self.stamp.block);
        let next = at.saturating_add(SLOT_BYTES);
        let copy_at = if next / block == at / block { round_up(next, block) } else { next };
        match self.view.slot(copy_at) {
            Slot::Frame(copy, _) if copy.has(flags::CUT) == cut => {
                copy.original(self.stamp, at, prev)
            }
            Slot::Frame(..) | Slot::Blank | Slot::Newer(_) | Slot::Bad(_) => None,
        }
    }

    /// Whether a frame belongs where it lies.
    fn follows(&self, frame: &Frame, prev: Option<u64>, first: Option<&Frame>, cut: bool) -> bool {
        let of_group = match first {
            Some(first) => {
                frame.begin == first.begin
                    && frame.opening == first.opening
                    && frame.hard == first.hard
            }
            None if self.loose => true,
            None if cut => frame.begin == self.position,
            None => frame.begin == frame.position || self.mark == Some(frame.begin),
        };
        let before = Tail::of(self.state.terms.end(), self.state.terms.last());
        of_group
            && prev.is_none_or(|prev| prev == frame.prev)
            && frame.opening >= self.opening
            && (self.loose || frame.before == before)
            && !frame.has(flags::COPY | flags::SEAL)
            && (frame.has(flags::CUT) == cut || self.loose)
            && !is_newer(self.state.hard, frame.hard)
    }

    fn accept(&mut self, group: &Group) {
        if self.loose {
            self.believe(group);
        }
        for effect in &group.effects {
            if let Err(what) = self.state.replay(effect) {
                self.damaged(effect.position, what, None);
                self.go_to(effect.first, HardState::default());
                for &(term, count) in &effect.runs {
                    let newest = self.state.last_term();
                    self.state.terms.append(term.max(newest), count);
                }
            }
            self.note(effect);
        }
        for &(at, what) in &group.copies_lost {
            let mended = self.last.is_none();
            self.damaged(at, what, None);
            if let Some(damage) = self.damage.last_mut() {
                (damage.mended, damage.end) = (mended, damage.seq);
            }
            self.open_damage = None;
        }
        self.state.hard = group.hard;
        let end = if group.mark.is_some() { group.end } else { after_group(group.end, self.stamp) };
        (self.position, self.prev) = (end, Some(group.prev));
        self.opening = group.opening;
        self.mark = group.mark;
        self.durable_end = match (group.mark, group.before) {
            (None, Some(before)) => before.end,
            (Some(_), _) | (None, None) => self.state.terms.end(),
        };
        self.frames += group.frames;
        self.entries += group.entries;
        self.loose = self.loose && group.entries == 0;
    }

    /// Takes note of what a frame does, beside the log's state.
    fn note(&mut self, effect: &Effect) {
        if effect.reset.is_some() {
            self.breaks.clear();
            self.broken = true;
        }
        if let Some(end) = effect.trim {
            self.breaks.truncate(self.breaks.partition_point(|(first, _)| *first < end));
            self.broken = true;
        }
        if !effect.runs.is_empty() && std::mem::take(&mut self.broken) {
            self.breaks.push((effect.first, effect.position));
        }
        self.index.apply(effect);
        self.effect.then(effect);
    }

    /// Behind damage: what the group says the log was before it.
    fn believe(&mut self, group: &Group) {
        let before = group.before.map_or_else(|| self.state.terms.end(), |before| before.end);
        let at = group.effects.first().map_or(before, |effect| effect.first);
        if let Some(damage) = self.open_damage.take().and_then(|it| self.damage.get_mut(it)) {
            damage.end = damage.seq.map(|seq| at.max(seq));
        }
        self.go_to(at, group.hard);
        if let Some(before) = group.before
            && self.state.terms.runs().is_empty()
            && at == before.end
        {
            self.state.terms = Terms::empty(at, before.term);
        }
    }

    /// The log ends at this seq, whatever was read before.
    fn go_to(&mut self, seq: Seq, hard: HardState) {
        let (end, start) = (self.state.terms.end(), self.state.terms.start());
        let mut jump = Effect::none(self.position, seq);
        if seq < start {
            self.state.terms = Terms::empty(seq, tinyraftplus_core::Term::ZERO);
        } else if seq <= end {
            self.state.terms.trim(seq);
        } else {
            let term = self.state.last_term();
            self.state.terms.append(term, seq.since(end));
            jump.add_entries(term, seq.since(end));
            jump.first = end;
            self.effect.then(&jump);
        }
        if seq < end {
            jump.trim = Some(seq);
            self.effect.then(&jump);
            self.index.apply(&jump);
        }
        self.index.break_off();
        self.broken = true;
        if is_newer(hard, self.state.hard) {
            self.state.hard = hard;
        }
    }

    /// Decides what a fault is. Says whether to read on.
    fn resolve(&mut self, fault: &Fault) -> bool {
        let beyond = self.look_beyond(fault.at);
        if let Some(at) = beyond.cut {
            match self.group(at, true) {
                Ok(group) => {
                    self.accept(&group);
                    self.index.break_off();
                    self.broken = true;
                    return true;
                }
                Err(fault) => return self.damage_at(&fault),
            }
        }
        let newest = self.last.is_none();
        if newest && (self.sealed || fault.blank && !beyond.any) {
            return false;
        }
        if let Some(group) = self.look_again(newest && !beyond.proof) {
            self.sealed = false;
            self.accept(&group);
            return true;
        }
        if self.sealed {
            return false;
        }
        if newest && !beyond.proof {
            return self.judge(fault);
        }
        self.damage_at(fault)
    }

    /// The group, if it is whole by now.
    ///
    /// At the end of the log the owner may be writing just now. It says so to nobody, but bytes change while it
    /// does; until they hold still for a while, nothing is decided.
    fn look_again(&mut self, at_end: bool) -> Option<Group> {
        let (mut still, mut sum) = (0, None);
        for look in 1..=LOOKS_MAX {
            self.view.forget();
            match self.group(self.position, false) {
                Ok(group) => return Some(group),
                Err(_) if !at_end || self.sealed => return None,
                Err(fault) => {
                    let beyond = self.look_beyond(fault.at);
                    still = if sum == Some(beyond.sum) { still + 1 } else { 0 };
                    sum = Some(beyond.sum);
                }
            }
            if still >= STILL_COUNT || !self.view.is_shared {
                return None;
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "nobody can be asked to tell when the owner's write is over"
            )]
            std::thread::sleep(Duration::from_millis(u64::from(look) * 5).min(PAUSE_MAX));
        }
        None
    }

    /// Asks the code that opens logs what it would do about the end of this one.
    fn judge(&mut self, fault: &Fault) -> bool {
        if !self.damage.is_empty() || self.loose {
            return self.damage_at(fault);
        }
        let view = &self.view;
        let begin = self.begin.clone();
        let judged = Scan::new(&view.file, &view.path, view.segment, begin, self.encoder)
            .and_then(|mut scan| scan.run());
        match judged {
            Ok(tear) => {
                if let Some(tear) = tear {
                    let offset = view.offset(self.position);
                    let bytes = tear.written_end.saturating_sub(self.position);
                    self.torn = Some(Cut { position: offset, bytes, why: tear.why });
                    self.state.hard = tear.hard.unwrap_or(self.state.hard);
                }
                false
            }
            Err(_) => self.damage_at(fault),
        }
    }

    /// Notes a damaged place, and goes to the next frame behind it. Says whether there is any.
    fn damage_at(&mut self, fault: &Fault) -> bool {
        self.damaged(fault.at, fault.why, fault.frame.as_ref().map(|known| &known.0));
        self.loose = true;
        self.mark = None;
        if let Some((frame, sum)) = fault.frame.as_deref().copied() {
            if frame.count > 0 {
                self.go_to(frame.end(), frame.hard);
            }
            let next = frame.next_position(self.stamp);
            let reachable = next <= self.view.end() && next > fault.at;
            if reachable && matches!(self.view.slot(next), Slot::Frame(..)) {
                self.position = next;
                // A copy follows from its frame, and what follows a copy from that.
                let copied = frame.has(flags::COPIED).then(|| frame.copy(sum, self.stamp));
                self.prev = Some(sum);
                if let Some(copy) = copied {
                    self.position = copy.next_position(self.stamp);
                    self.prev = None;
                }
                return true;
            }
        }
        self.prev = None;
        let end = self.last.map_or_else(|| self.view.end(), |last| last.end);
        let next = self.view.next_frame(fault.at.saturating_add(SLOT_BYTES), end);
        if next.is_none() && self.open_damage.is_none() && self.last.is_some() {
            let rest = fault.frame.as_deref().map_or(fault.at, |(frame, _)| frame.body_end());
            self.damaged(rest.min(end), "no frame can be read up to the end of the file", None);
        }
        self.position = next.unwrap_or(end);
        next.is_some()
    }

    /// Notes a damaged place. If the frame is known, so are the entries it has.
    fn damaged(&mut self, at: u64, what: &'static str, frame: Option<&Frame>) {
        let path = self.view.path.clone();
        let offset = self.view.offset(at);
        let known = frame.filter(|frame| frame.count > 0);
        let seq = match known {
            Some(frame) => Some(frame.first),
            // Behind other damage, of which nothing is known, neither is this.
            None => Some(self.state.terms.end()).filter(|_| self.open_damage.is_none()),
        };
        let end = known.map(Frame::end);
        self.damage.push(Damage {
            path,
            offset,
            seq,
            end,
            what: what.into(),
            mended: false,
            repaired: false,
        });
        if known.is_none() && self.open_damage.is_none() {
            self.open_damage = Some(self.damage.len() - 1);
        }
    }

    fn look_beyond(&mut self, fault: u64) -> Beyond {
        let (begin, prev, stamp) = (self.position, self.prev, self.stamp);
        let reach = self.view.segment.group_bytes_max.saturating_add(CUT_REACH_BYTES);
        let end = self.last.map_or_else(|| self.view.end(), |last| last.end);
        let end = end.min(begin.saturating_add(reach));
        let mut beyond = Beyond::default();
        self.view.slots(begin, end, |at, slot| {
            beyond.any = true;
            beyond.sum = beyond.sum.rotate_left(1) ^ checksum(slot) ^ at;
            let Slot::Frame(frame, _) = Frame::decode(slot, stamp, at) else { return true };
            beyond.proof |= frame.begin > fault || frame.has(flags::SEAL);
            if frame.has(flags::CUT) && frame.begin == begin {
                beyond.cut = if frame.has(flags::COPY) {
                    let original = at.saturating_sub(stamp.block);
                    prev.and_then(|prev| frame.original(stamp, original, prev)).map(|_| original)
                } else {
                    prev.is_none_or(|prev| prev == frame.prev).then_some(at)
                };
            }
            // What voids a group lies before all that came later.
            beyond.cut.is_none() && !beyond.proof
        });
        beyond
    }

    /// What the end of a full file must be.
    fn finish(&mut self, last: Last) {
        let ends_right = self.position == last.end && self.prev.is_none_or(|sum| sum == last.sum);
        if !ends_right {
            let what = "the next file says that this one goes on otherwise";
            self.damaged(self.position.min(last.end), what, None);
        }
        let whole = self.damage.is_empty() && !self.loose;
        let mut looks = 0;
        let what = loop {
            let found = self.seal(last);
            looks += 1;
            match found {
                None => break None,
                Some(Ok((summary, _))) => {
                    self.sealed = true;
                    break if whole { self.contradiction(&summary) } else { None };
                }
                // The owner may be writing it just now.
                Some(Err(_)) if looks < 2 => self.view.forget(),
                Some(Err(what)) => break Some((what, true)),
            }
        };
        if let Some((what, mended)) = what {
            let end = self.state.terms.end();
            self.damaged(last.end, what, None);
            if let Some(damage) = self.damage.last_mut() {
                (damage.mended, damage.seq, damage.end) = (mended, Some(end), Some(end));
            }
        }
    }

    /// The seal of a full file, and the term and vote there; none if none was written.
    fn seal(&mut self, last: Last) -> Option<Result<(Summary, HardState), &'static str>> {
        let frame = match self.view.slot(last.end) {
            Slot::Frame(frame, _) if frame.has(flags::SEAL) && frame.prev == last.sum => frame,
            Slot::Blank => return None,
            Slot::Frame(..) | Slot::Newer(_) | Slot::Bad(_) => {
                return Some(Err("the seal of the file is damaged"));
            }
        };
        let Ok(body) = self.view.body(&frame) else {
            return Some(Err("the seal of the file is damaged"));
        };
        let summary = super::survey::summary_of(&frame, &body);
        Some(summary.map(|it| (it, frame.hard)).ok_or("the seal of the file makes no sense"))
    }

    /// How a seal contradicts the frames that were read, and whether opening mends that.
    fn contradiction(&mut self, summary: &Summary) -> Option<(&'static str, bool)> {
        let (says, does) = (&summary.effect, &self.effect);
        let same = says.configuration == does.configuration
            && (says.reset, says.trim, says.compact) == (does.reset, does.trim, does.compact)
            && says.first == does.first
            && says.runs == does.runs
            && (says.patches == does.patches || !self.damage.is_empty());
        if !same {
            return Some(("the seal of the file says that its frames do something else", false));
        }
        let found = |first, position| {
            summary.extents.iter().any(|it| (it.first, it.position) == (first, position))
        };
        let sound = Index::sealed(summary.extents.clone()).is_some()
            && summary.extents.iter().all(|extent| match self.view.slot(extent.position) {
                Slot::Frame(frame, _) => frame.has(flags::ENTRIES) && frame.first == extent.first,
                Slot::Blank | Slot::Newer(_) | Slot::Bad(_) => false,
            });
        if !sound || !self.breaks.iter().all(|&(first, position)| found(first, position)) {
            return Some(("the seal of the file says that its entries lie elsewhere", false));
        }
        None
    }
}

fn fault_of(at: u64, slot: Slot) -> Fault {
    match slot {
        Slot::Bad(why) => Fault { at, why, frame: None, blank: false },
        Slot::Blank | Slot::Newer(_) | Slot::Frame(..) => {
            Fault { at, why: "a frame is gone: zeros lie there", frame: None, blank: true }
        }
    }
}

/// Whether the entries have the term in force, if the frame says so.
fn is_current(frame: &Frame, effect: &Effect) -> bool {
    !frame.has(flags::CURRENT) || effect.runs.iter().all(|(term, _)| *term == frame.hard.term)
}
