//! The one source of chance: a seed gives the same numbers on every machine.
//!
//! Each concern draws from its own fork, so that a fault more does not change what the clients do.

use std::fmt;
use std::time::Duration;

/// A generator of numbers (`SplitMix64`: Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A generator for a concern of its own.
    pub(crate) const fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// Less than `bound`; 0 if that is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the high half of a product of two u64 is one")
    }

    /// From `least` to `most`, both included.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least).saturating_add(1))
    }

    /// The position of one of `count` things.
    pub(crate) fn place(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).expect("less than a usize")
    }

    /// True in that many of a thousand cases.
    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let place = self.place(of.len());
        *of.get(place).expect("nobody picks from nothing")
    }

    /// Within a range, small values as likely as large ones: orders of magnitude are drawn alike.
    pub(crate) fn scale(&mut self, range: Range) -> u64 {
        let bits = |number: u64| u64::from(u64::BITS - number.leading_zeros());
        let drawn = self.between(bits(range.least), bits(range.most));
        let (low, high) = match drawn {
            0 => (0, 0),
            64 => (1 << 63, u64::MAX),
            bits => (1 << (bits - 1), (1 << bits) - 1),
        };
        self.between(low.max(range.least), high.min(range.most))
    }

    /// Within a range, evenly.
    pub(crate) fn within(&mut self, range: Range) -> u64 {
        self.between(range.least, range.most)
    }
}

/// From `least` to `most`, both included; of times, in nanoseconds.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub(crate) struct Range {
    pub(crate) least: u64,
    pub(crate) most: u64,
}

impl Range {
    pub(crate) const fn new(least: u64, most: u64) -> Self {
        Self { least, most }
    }

    pub(crate) const fn micros(least: u64, most: u64) -> Self {
        Self::new(least * 1_000, most * 1_000)
    }

    pub(crate) const fn millis(least: u64, most: u64) -> Self {
        Self::micros(least * 1_000, most * 1_000)
    }
}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.least, self.most)
    }
}

/// Nanoseconds of a duration.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Spreads a number over all 64 bits.
pub(crate) const fn mix(number: u64) -> u64 {
    let z = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_within_their_bounds_and_reach_them() {
        let mut rng = Rng::new(1);
        let mut seen = [0_u32; 7];
        for _ in 0..1000 {
            seen[rng.place(7)] += 1;
            assert!((3..=5).contains(&rng.between(3, 5)));
            assert!((1000..=999_999).contains(&rng.scale(Range::micros(1, 999))));
        }
        assert!(seen.iter().all(|&count| count > 80), "{seen:?}");
        assert_eq!(rng.below(0), 0);
        assert_eq!((rng.chance(0), rng.chance(1000)), (false, true));
    }
}
