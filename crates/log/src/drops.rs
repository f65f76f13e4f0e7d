//! How far back entries were dropped, and since when.
//!
//! Whoever reads a range bit by bit must notice that it was trimmed and filled again in between: the seqs are
//! there, and belong to other entries.

use std::collections::VecDeque;

use tinyraftplus_core::Seq;

/// More than this many trims, each less far back than the one before, are not told apart.
const LOWS_MAX: usize = 256;

/// The trims and resets of a log.
///
/// Invariant: `lows` rise in both number and seq. A trim that went less far back than a later one is of no
/// interest: whoever was before it was before the later one, too.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    count: u64,
    lows: VecDeque<(u64, Seq)>,
    /// The newest that was left out of `lows` for lack of room.
    forgotten: u64,
}

impl Drops {
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// Entries from `end` on were dropped.
    pub(crate) fn note(&mut self, end: Seq) {
        self.count += 1;
        while self.lows.back().is_some_and(|(_, low)| *low >= end) {
            self.lows.pop_back();
        }
        self.lows.push_back((self.count, end));
        if self.lows.len() > LOWS_MAX
            && let Some((number, _)) = self.lows.pop_front()
        {
            self.forgotten = number;
        }
    }

    /// Entries before this are the same as when the count was `count`.
    pub(crate) fn kept_since(&self, count: u64) -> Seq {
        if count < self.forgotten {
            return Seq::ZERO;
        }
        let after = self.lows.partition_point(|(number, _)| *number <= count);
        self.lows.get(after).map_or(Seq::MAX, |(_, low)| *low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_plain_list() {
        let mut rng = crate::sim_disk::SimRng::new(1);
        let mut drops = Drops::default();
        let mut list = Vec::new();
        for _ in 0..200 {
            let end = rng.below(100);
            drops.note(Seq::new(end));
            list.push(end);
            for count in 0..=list.len() {
                let dumb = list[count..].iter().min().map_or(Seq::MAX, |&low| Seq::new(low));
                assert_eq!(drops.kept_since(count as u64), dumb);
            }
        }
    }

    #[test]
    fn what_is_forgotten_counts_as_dropped() {
        let mut drops = Drops::default();
        (0..10_000).for_each(|end| drops.note(Seq::new(end)));
        assert!(drops.lows.len() <= LOWS_MAX);
        assert_eq!(drops.kept_since(5), Seq::ZERO);
        assert_eq!(drops.kept_since(9999), Seq::new(9999));
    }
}
