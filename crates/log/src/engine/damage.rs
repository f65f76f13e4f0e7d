//! Going on behind damage, for those who can get what is lost from somebody else.
//!
//! What is lost must be known: which entries, and of which terms. There are two ways to know it:
//!
//! * The header of the frame is whole and says it all: so many entries of the term in force.
//! * Headers are damaged, too. Then everything up to the next group is lost. Its header says how the log ended
//!   before it. If the newest term is the same on both sides, then what is lost is entries of that term: a leader
//!   has one log, so no entry before can have been replaced by another (Raft section 5.3, log matching). What may
//!   also be lost is a configuration: until somebody says that it is known, it isn't.
//!
//! If no group follows, entries may be lost that nobody can count: the end is not known. All else is refused.

use tinyraftplus_core::HardState;

use super::{
    Effect,
    recover::{Beyond, Fault, Lost, Mode, Read, Scan, Tear, failed, unknown_in},
};
use crate::{
    DiskFile, LogError, Unknown,
    format::{Frame, SLOT_BYTES, Slot, Tail, flags},
    num::{is_zero, usize_of},
    state::is_newer,
};

/// Where frames can be read again.
struct Again {
    position: u64,
    /// The checksum that the frame there repeats.
    prev: u64,
    tail: Tail,
    hard: HardState,
}

impl<F: DiskFile> Scan<'_, F> {
    /// Goes on behind damage, or says `refused`. What is to be made void if the end of the log is damaged.
    pub(super) fn pass_over(
        &mut self,
        fault: &Fault,
        beyond: &Beyond,
        refused: LogError,
    ) -> Result<Option<Tear>, LogError> {
        self.is_damaged = true;
        self.mode = Mode::PassOver;
        let group = self.group(self.position, false);
        self.mode = Mode::Report;
        if let Read::Whole(whole) = group? {
            self.accept(whole)?;
            return Ok(None);
        }
        match self.again(fault.at)? {
            Some(again) => self.leave_out(fault, &again).then_some(None).ok_or(refused),
            // The vote may be lost if nothing readable has one; and of a full file, the next one knows the end.
            None if self.last.is_some() || beyond.hard.is_none() => Err(refused),
            None => {
                self.state.unknown = Unknown { end: true, configuration: true };
                let hard = beyond.hard.filter(|&hard| is_newer(hard, self.state.hard));
                let (written_end, reach) = (beyond.written_end, beyond.reach);
                Ok(Some(Tear { written_end, reach, why: fault.why, hard, damaged: true }))
            }
        }
    }

    /// What a frame with a damaged body did, if its header says all of it and damage is passed over.
    pub(super) fn passable(&self, frame: &Frame, fault: &Fault) -> Option<(Effect, Lost)> {
        let entries = frame.flags & flags::RECORDS & !flags::TRIM == flags::ENTRIES;
        if self.mode != Mode::PassOver
            || !entries
            || !frame.has(flags::CURRENT)
            || frame.body_end() > self.file_end
        {
            return None;
        }
        let mut effect = Effect::none(frame.position, frame.first);
        // Entries come right after what was trimmed.
        effect.trim = frame.has(flags::TRIM).then_some(frame.first);
        effect.add_entries(frame.hard.term, u64::from(frame.count));
        effect.unknown = unknown_in(frame);
        let (position, what) = (frame.position, fault.why);
        Some((effect, Lost { first: frame.first, end: frame.end(), position, what }))
    }

    /// The first group behind a place that no later cut has made void; or the end of a full file.
    fn again(&mut self, fault: u64) -> Result<Option<Again>, LogError> {
        let stamp = self.stamp();
        let end = self.last.map_or(self.file_end, |last| last.end);
        let mut found: Option<(u64, Frame)> = None;
        let look = |at: u64, piece: &[u8]| {
            if is_zero(piece) {
                return true;
            }
            let slots = piece.chunks_exact(usize_of(SLOT_BYTES));
            for (slot, position) in slots.zip((at..).step_by(usize_of(SLOT_BYTES))) {
                let Slot::Frame(frame, _) = Frame::decode(slot, stamp, position) else { continue };
                if position <= fault || frame.has(flags::COPY | flags::SEAL) {
                    continue;
                }
                let cuts = frame.has(flags::CUT);
                let void = cuts && found.is_some_and(|(at, _)| frame.begin <= at);
                if void || found.is_none() && (cuts || frame.begin == position) {
                    found = Some((position, frame));
                }
            }
            true
        };
        self.window.pieces(self.position, end, look).map_err(|error| failed(self.path, error))?;
        if let Some((_, frame)) = found {
            // What was cut lies before the frame that says so.
            let position = frame.begin.max(self.position);
            let Frame { prev, before: tail, hard, .. } = frame;
            return Ok(Some(Again { position, prev, tail, hard }));
        }
        Ok(self.last.zip(self.last_state).map(|(last, (tail, hard))| Again {
            position: last.end,
            prev: last.sum,
            tail,
            hard,
        }))
    }

    /// Leaves out everything up to a place. False if it can't be told what that is.
    fn leave_out(&mut self, fault: &Fault, again: &Again) -> bool {
        let (end, term) = (self.state.terms.end(), self.state.last_term());
        // Of a log without entries, no term is known that what is lost could have.
        let none = self.state.terms.last().is_none();
        if again.tail.term != term || none && again.tail.end != end {
            return false;
        }
        let mut effect = Effect::none(self.position, end.min(again.tail.end));
        if again.tail.end < end {
            effect.trim = Some(again.tail.end);
        } else {
            effect.add_entries(term, again.tail.end.since(end));
            effect.runs.retain(|(_, count)| *count > 0);
        }
        effect.unknown = Some(Unknown { configuration: true, ..self.state.unknown });
        if self.state.replay(&effect).is_err() || is_newer(self.state.hard, again.hard) {
            return false;
        }
        self.index.break_off();
        self.index.apply(&effect);
        self.index.break_off();
        self.effect.then(&effect);
        if again.tail.end > end {
            let (position, what) = (fault.at, fault.why);
            self.lost.push(Lost { first: end, end: again.tail.end, position, what });
        }
        if let Some(void) = &mut self.void {
            void.groups += 1;
        }
        (self.position, self.prev) = (again.position, again.prev);
        self.marked = false;
        true
    }
}
