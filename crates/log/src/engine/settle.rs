//! Making durable what was found in the newest file, and void what was cut.
//!
//! What was cut is made void in an order that survives a crash between any two steps:
//!
//! 1. After everything that was ever written, or that the torn group was to write, a frame that voids the torn group, with the newest term and
//!    vote that can be read anywhere, and its copy. Synced. The torn group may hold the only copy of a vote,
//!    and until here it is untouched.
//! 2. Zeros over the torn group, and a mark that proves step 1. Synced.
//!
//! What was not torn but damaged at the end of the log is made void in the same way, but is left as it is, and
//! the frame says that the end is not known.
//!
//! Positions are never used twice, so there is no moment at which bytes of the torn group and of its
//! successor lie side by side.

use tinyraftplus_core::Configurations;

use super::{
    group::{Place, after_group, put_copied},
    open::Target,
    recover::{Scan, Tear, Void},
    space::{Need, Space},
};
use crate::{
    Cut, DiskFile, LogError, Recovery,
    format::{Segment, Tail, flags},
    num::{round_up, u64_of, usize_of},
};

const PIECE_BYTES: u64 = 1 << 20;

/// Makes what was found durable.
pub(crate) struct Settle<'a, F> {
    pub(crate) target: &'a Target<F>,
    pub(crate) segment: Segment,
    pub(crate) scan: Scan<'a, F>,
    pub(crate) space: &'a Space,
}

impl<F: DiskFile> Settle<'_, F> {
    /// Writes again whatever may be known to the kernel alone.
    pub(crate) fn rewrite(
        &mut self,
        header_damaged: bool,
        configuration: Option<&Configurations>,
    ) -> Result<(), LogError> {
        for (at, bytes) in &self.scan.repairs {
            self.write("repair", *at, bytes)?;
        }
        if header_damaged || self.scan.unproven.is_none() {
            let header = self.segment.encode(configuration)?;
            self.write("write", self.segment.position, &header)?;
        }
        let (mut at, end) = self.scan.unproven.unwrap_or_default();
        while at < end {
            let mut piece = vec![0; usize_of((end - at).min(PIECE_BYTES))];
            self.target
                .file
                .read_at(at - self.segment.position, &mut piece)
                .map_err(|error| self.target.failed("read", error))?;
            self.write("write again", at, &piece)?;
            at += u64_of(piece.len());
        }
        self.sync()
    }

    /// Makes what was cut void, now or before. Says whether it left a mark.
    pub(crate) fn void(
        &mut self,
        tear: Option<Tear>,
        recovery: &mut Recovery,
    ) -> Result<bool, LogError> {
        let void = match (tear, self.scan.void) {
            (Some(tear), _) if tear.damaged => self.cut(tear)?,
            (Some(tear), _) => {
                let begin = self.scan.position;
                let position = begin - self.segment.position;
                recovery.cut =
                    Some(Cut { position, bytes: tear.written_end - begin, why: tear.why });
                recovery.hard_state_rescued = tear.hard.is_some();
                self.cut(tear)?
            }
            // The process that made this void may have died before the zeros were durable.
            (None, Some(void)) if void.groups <= 1 => {
                if void.groups == 0 && !void.damaged {
                    // Nobody can have been told.
                    recovery.cut = Some(Cut {
                        position: void.begin - self.segment.position,
                        bytes: void.end - void.begin,
                        why: "an opening cut its last group off, and did not finish",
                    });
                    recovery.hard_state_rescued = void.rescued;
                }
                void
            }
            (None, _) => return Ok(false),
        };
        if !void.damaged {
            self.zero(void.begin, void.end)?;
        }
        if void.groups == 0 {
            self.mark()?;
        }
        self.sync()?;
        Ok(void.groups == 0)
    }

    /// Step 1: a frame that voids the torn group, after everything that was ever written.
    ///
    /// And after what should have been: in place of a sector of the torn group that is missing, it would make up
    /// for it. Without a checksum of that body, an opening after another crash would take the group for whole.
    fn cut(&mut self, tear: Tear) -> Result<Void, LogError> {
        let begin = self.scan.position;
        if let Some(hard) = tear.hard {
            self.scan.state.hard = hard;
        }
        let stamp = self.segment.stamp();
        let position = round_up(tear.written_end.max(tear.reach), stamp.block);
        let place = Place { position, ..self.place() };
        let original = place.bare(flags::CUT | flags::HARD_STATE | flags::COPIED);
        let mut bytes = Vec::new();
        let (prev, end) = put_copied(&mut bytes, &original, stamp);
        let end = after_group(end, stamp);
        self.take_space(end + stamp.block)?;
        self.write("write", place.position, &bytes)?;
        self.sync()?;
        (self.scan.prev, self.scan.position) = (prev, end);
        self.scan.index.break_off();
        let (rescued, damaged) = (tear.hard.is_some(), tear.damaged);
        Ok(Void { begin, end: place.position, rescued, groups: 0, damaged })
    }

    /// Step 2, the mark.
    fn mark(&mut self) -> Result<(), LogError> {
        let stamp = self.segment.stamp();
        let frame = self.place().bare(flags::MARK | flags::END);
        let (bytes, sum) = frame.encode(stamp);
        self.take_space(frame.next_position(stamp))?;
        self.write("write", frame.position, &bytes)?;
        (self.scan.prev, self.scan.position) = (sum, frame.next_position(stamp));
        Ok(())
    }

    fn take_space(&self, end: u64) -> Result<(), LogError> {
        let Target { file, path } = self.target;
        let end = end - self.segment.position;
        self.space.take(file, path, end, Need::Recovery).map(drop).map_err(super::without_effect)
    }

    fn zero(&self, begin: u64, end: u64) -> Result<(), LogError> {
        let zeros = vec![0; usize_of((end - begin).min(PIECE_BYTES))];
        let mut at = begin;
        while at < end {
            let piece = zeros.get(..usize_of((end - at).min(PIECE_BYTES))).unwrap_or(&zeros);
            self.write("clear", at, piece)?;
            at += u64_of(piece.len());
        }
        Ok(())
    }

    fn write(&self, op: &'static str, position: u64, bytes: &[u8]) -> Result<(), LogError> {
        self.target
            .file
            .write_at(position - self.segment.position, bytes)
            .map_err(|error| self.target.failed(op, error))
    }

    fn sync(&self) -> Result<(), LogError> {
        self.target.file.sync_data().map_err(|error| self.target.failed("sync", error))
    }

    /// Where the next frame goes.
    fn place(&self) -> Place {
        let terms = &self.scan.state.terms;
        Place {
            stamp: self.segment.stamp(),
            opening: self.scan.opening_seen.saturating_add(1),
            position: self.scan.position,
            prev: self.scan.prev,
            begin: self.scan.position,
            before: Tail::of(terms.end(), terms.last()),
            hard: self.scan.state.hard,
            unknown: self.scan.state.unknown,
        }
    }
}
