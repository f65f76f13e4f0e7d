//! A set of voters as bits.

use super::VOTERS_MAX;
use core::fmt;

/// A set of voters, each by its place in the sorted voter list of one configuration half.
///
/// Places from [`VOTERS_MAX`] on are nobody's: they are never in a set.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VoterSet(u128);

impl VoterSet {
    /// Nobody.
    pub const EMPTY: Self = Self(0);

    /// The first `count` places.
    pub const fn first(count: usize) -> Self {
        if count < VOTERS_MAX { Self((1 << count) - 1) } else { Self(u128::MAX) }
    }

    /// Only the voter at this place.
    pub const fn only(place: usize) -> Self {
        if place < VOTERS_MAX { Self(1 << place) } else { Self::EMPTY }
    }

    /// Adds the voter at this place.
    pub const fn insert(&mut self, place: usize) {
        self.0 |= Self::only(place).0;
    }

    /// Whether the voter at this place is in.
    pub const fn contains(self, place: usize) -> bool {
        self.0 & Self::only(place).0 != 0
    }

    /// Who is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Who is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Who is in this but not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// All the others of `count` voters.
    #[must_use]
    pub const fn complement(self, count: usize) -> Self {
        Self::first(count).without(self)
    }

    /// How many are in.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether nobody is in.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The places of those in, from the lowest.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let place = rest.trailing_zeros() as usize;
            rest &= rest.wrapping_sub(1);
            (place < VOTERS_MAX).then_some(place)
        })
    }
}

impl FromIterator<usize> for VoterSet {
    fn from_iter<I: IntoIterator<Item = usize>>(places: I) -> Self {
        let mut set = Self::EMPTY;
        places.into_iter().for_each(|place| set.insert(place));
        set
    }
}

impl fmt::Debug for VoterSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
