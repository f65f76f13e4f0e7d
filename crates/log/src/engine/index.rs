//! Where in a file an entry lies, without remembering every entry.
//!
//! We keep one position about every [`STEP_BYTES`]. From it on, frames lie one after the other with rising
//! seqs until the next position kept, so finding an entry is a look into this list and a short walk. After a
//! trim or a reset seqs begin again lower, so the next entry always gets a position of its own.

use std::ops::Range;

use tinyraftplus_core::Seq;

use super::Effect;
use crate::num::u64_of;

/// How far it is from one position to the next, at least.
const STEP_BYTES: u64 = 64 << 10;

/// From `position` on lie frames whose entries begin at or before `first`, up to the next one's `first`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Extent {
    pub(crate) first: Seq,
    pub(crate) position: u64,
}

/// Extents, rising in both seq and position.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    extents: Vec<Extent>,
    /// The next entry does not follow on: what lies before it was trimmed or cut.
    broken: bool,
}

impl Index {
    /// An index as a seal has it; `None` if it is none.
    pub(crate) fn sealed(mut extents: Vec<Extent>) -> Option<Self> {
        extents.shrink_to_fit();
        let rising = |pair: &[Extent]| match pair {
            [a, b] => a.first < b.first && a.position < b.position,
            _ => true,
        };
        extents.windows(2).all(rising).then_some(Self { extents, broken: false })
    }

    /// Whether it points to nothing outside of these positions.
    pub(crate) fn lies_in(&self, frames: &Range<u64>) -> bool {
        self.extents.iter().all(|extent| frames.contains(&extent.position))
    }

    pub(crate) fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Takes note of a frame.
    pub(crate) fn apply(&mut self, effect: &Effect) {
        if effect.reset.is_some() {
            self.extents.clear();
            self.broken = true;
        }
        if let Some(end) = effect.trim {
            self.extents.truncate(self.extents.partition_point(|extent| extent.first < end));
            self.broken = true;
        }
        if effect.runs.is_empty() {
            return;
        }
        let far =
            self.extents.last().is_none_or(|last| effect.position >= last.position + STEP_BYTES);
        if self.broken || far {
            self.extents.push(Extent { first: effect.first, position: effect.position });
            self.broken = false;
        }
    }

    /// Takes note that frames don't follow each other here.
    pub(crate) const fn break_off(&mut self) {
        self.broken = true;
    }

    /// Where the frame that holds this entry is to be looked for, and the seq from which on to look elsewhere.
    pub(crate) fn find(&self, seq: Seq) -> Option<(Extent, Option<Seq>)> {
        let after = self.extents.partition_point(|extent| extent.first <= seq);
        let extent = after.checked_sub(1).and_then(|at| self.extents.get(at))?;
        Some((*extent, self.extents.get(after).map(|next| next.first)))
    }

    /// How much memory it takes.
    pub(crate) fn bytes(&self) -> u64 {
        u64_of(self.extents.capacity() * size_of::<Extent>())
    }
}
