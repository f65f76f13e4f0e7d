//! Where the batches of this term's entries end, and how many bytes they have.
//!
//! A leader remembers this for what it has appended itself, as far back as peers usually need it. About
//! older entries it asks whoever can read the log.

use crate::Seq;
use alloc::collections::VecDeque;

/// How many batches are remembered beyond those that are not committed yet.
const SPARE_MAX: usize = 4096;

#[derive(Debug)]
pub(crate) struct Marks {
    start: Seq,
    /// Bytes of all batches before `start` since the term began.
    base: u64,
    batches: VecDeque<Mark>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    end: Seq,
    /// Bytes of all batches since the term began, this one included.
    total: u64,
}

impl Marks {
    pub(crate) const fn new(start: Seq) -> Self {
        Self { start, base: 0, batches: VecDeque::new() }
    }

    /// The first position it knows about: the start of a batch.
    pub(crate) const fn start(&self) -> Seq {
        self.start
    }

    pub(crate) fn push(&mut self, end: Seq, bytes: u64) {
        let total = self.total().saturating_add(bytes);
        self.batches.push_back(Mark { end, total });
    }

    /// Forgets the oldest batches that are committed and more than anyone will soon ask for.
    pub(crate) fn forget(&mut self, committed: Seq) {
        while self.batches.len() > SPARE_MAX
            && let Some(mark) = self.batches.pop_front_if(|mark| mark.end <= committed)
        {
            self.start = mark.end;
            self.base = mark.total;
        }
    }

    /// How many bytes lie after `committed`.
    pub(crate) fn bytes_after(&self, committed: Seq) -> u64 {
        self.total() - self.total_before(committed)
    }

    /// Whole batches from `start` on: at least one, then as many as fit into `bytes_max`. Returns their end and
    /// their bytes; `None` if it does not know a batch that begins there.
    pub(crate) fn take(&self, start: Seq, bytes_max: u64) -> Option<(Seq, u64)> {
        if start < self.start || self.snap(start) != start {
            return None;
        }
        let first = self.batches.partition_point(|mark| mark.end <= start);
        let before = self.total_before(start);
        let fits =
            self.batches.partition_point(|mark| mark.total.saturating_sub(before) <= bytes_max);
        let last = self.batches.get(fits.max(first + 1) - 1)?;
        Some((last.end, last.total - before))
    }

    /// The start of the batch that holds `seq`, or `seq` itself if it lies outside of what is known.
    pub(crate) fn snap(&self, seq: Seq) -> Seq {
        if seq <= self.start || self.batches.back().is_none_or(|mark| mark.end <= seq) {
            return seq;
        }
        let before = self.batches.partition_point(|mark| mark.end <= seq).checked_sub(1);
        before.and_then(|at| self.batches.get(at)).map_or(self.start, |mark| mark.end)
    }

    fn total(&self) -> u64 {
        self.batches.back().map_or(self.base, |mark| mark.total)
    }

    fn total_before(&self, seq: Seq) -> u64 {
        let before = self.batches.partition_point(|mark| mark.end <= seq).checked_sub(1);
        before.and_then(|at| self.batches.get(at)).map_or(self.base, |mark| mark.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seq(number: u64) -> Seq {
        Seq::new(number)
    }

    /// Batches 10..11, 11..14, 14..15, of 5, 30 and 5 bytes.
    fn marks() -> Marks {
        let mut marks = Marks::new(seq(10));
        for (end, bytes) in [(11, 5), (14, 30), (15, 5)] {
            marks.push(seq(end), bytes);
        }
        marks
    }

    #[test]
    fn takes_whole_batches_and_at_least_one() {
        let marks = marks();
        assert_eq!(
            marks.take(seq(10), 1),
            Some((seq(11), 5)),
            "one batch goes even when it is over the limit"
        );
        assert_eq!(marks.take(seq(10), 34), Some((seq(11), 5)));
        assert_eq!(marks.take(seq(10), 35), Some((seq(14), 35)));
        assert_eq!(marks.take(seq(11), 1), Some((seq(14), 30)));
        assert_eq!(marks.take(seq(10), 1000), Some((seq(15), 40)));
        for nowhere in [9, 12, 13, 15] {
            assert_eq!(marks.take(seq(nowhere), 1000), None, "no batch begins at {nowhere}");
        }
        assert_eq!([11, 12, 13, 14].map(|s| marks.snap(seq(s)).get()), [11, 11, 11, 14]);
        assert_eq!(
            [9, 15, 16].map(|s| marks.snap(seq(s)).get()),
            [9, 15, 16],
            "outside nothing is known"
        );
    }

    #[test]
    fn forgets_only_what_is_committed_and_plenty() {
        let mut marks = Marks::new(seq(0));
        let count = SPARE_MAX as u64 + 10;
        (1..=count).for_each(|end| marks.push(seq(end), 1));
        marks.forget(seq(4));
        assert_eq!((marks.start(), marks.bytes_after(seq(4))), (seq(4), count - 4));
        marks.forget(seq(100));
        assert_eq!((marks.start(), marks.bytes_after(seq(100))), (seq(10), count - 100));
        assert_eq!(marks.take(seq(10), 3), Some((seq(13), 3)));
        assert_eq!(marks.take(seq(9), 3), None);
    }
}
