//! Which entries were repaired, and where what takes their place lies.

use std::collections::BTreeMap;

use tinyraftplus_core::{Seq, Terms};

use super::{Effect, effect::Patch};
use crate::Damage;

/// Ranges of repaired entries that don't overlap, by their first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patches(BTreeMap<Seq, Place>);

/// Where repaired entries lie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// The seq after the last.
    pub(crate) end: Seq,
    /// The file, and the frame in it. That may have others before and after.
    pub(crate) number: u64,
    pub(crate) position: u64,
}

impl Patches {
    /// Takes note of what a frame of a file does, or all of it. For a seq the newest repair counts.
    pub(crate) fn apply(&mut self, effect: &Effect, number: u64) {
        if effect.reset.is_some() {
            self.0.clear();
        }
        if let Some(end) = effect.trim {
            self.remove(end, Seq::MAX);
        }
        for &Patch { first, end, position } in &effect.patches {
            self.remove(first, end);
            self.0.insert(first, Place { end, number, position });
        }
        if let Some(compact) = effect.compact {
            self.remove(Seq::ZERO, compact.start);
        }
    }

    fn remove(&mut self, from: Seq, to: Seq) {
        let before = self.0.range(..from).next_back().map(|(first, place)| (*first, *place));
        if let Some((first, place)) = before.filter(|(_, place)| place.end > from) {
            self.0.insert(first, Place { end: from, ..place });
            if place.end > to {
                self.0.insert(to, place);
            }
        }
        while let Some((first, place)) = self.0.range(from..to).next().map(|(a, b)| (*a, *b)) {
            self.0.remove(&first);
            if place.end > to {
                self.0.insert(to, place);
            }
        }
    }

    /// The repair of this entry, or the seq of the next that was repaired.
    pub(crate) fn find(&self, seq: Seq) -> Result<Place, Option<Seq>> {
        let at = self.0.range(..=seq).next_back().map(|(_, place)| *place);
        match at.filter(|place| place.end > seq) {
            Some(place) => Ok(place),
            None => Err(self.0.range(seq..).next().map(|(first, _)| *first)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all entries that this damage hides were put back.
    pub(crate) fn cover(&self, damage: &Damage, terms: &Terms) -> bool {
        damage.end.is_some_and(|end| damage.seq < Some(end))
            && self.still(vec![damage.clone()], terms).is_empty()
    }

    /// What of this damage was not repaired, and is of entries that are still there.
    pub(crate) fn still(&self, damage: Vec<Damage>, terms: &Terms) -> Vec<Damage> {
        let mut left = Vec::new();
        for damage in damage {
            let (Some(first), Some(end)) = (damage.seq, damage.end) else {
                left.push(damage);
                continue;
            };
            let (mut seq, end) = (first.max(terms.start()), end.min(terms.end()));
            while seq < end {
                let until = match self.find(seq) {
                    Ok(place) => place.end.min(end),
                    Err(next) => {
                        let until = next.map_or(end, |next| next.min(end));
                        left.push(Damage { seq: Some(seq), end: Some(until), ..damage.clone() });
                        until
                    }
                };
                seq = until;
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim_disk::SimRng;

    /// Random repairs, trims and compactions, beside a plain list of which repair each seq has.
    #[test]
    fn the_newest_repair_counts() {
        for seed in 0..500 {
            let mut rng = SimRng::new(seed);
            let mut patches = Patches::default();
            let mut plain = [None; 30];
            for round in 1..20 {
                let mut effect = Effect::none(0, Seq::ZERO);
                let (a, b) = (rng.below(30), rng.below(30));
                let (first, end) = (a.min(b), a.max(b) + 1);
                let mut fill = |range: std::ops::Range<u64>, value| {
                    range.for_each(|at| plain[usize::try_from(at).unwrap()] = value);
                };
                match rng.below(6) {
                    0 => {
                        effect.trim = Some(Seq::new(first));
                        fill(first..30, None);
                    }
                    1 => {
                        let before = tinyraftplus_core::Term::ZERO;
                        effect.compact = Some(crate::Reset { start: Seq::new(end), before });
                        fill(0..end, None);
                    }
                    _ => {
                        let (first, end) = (Seq::new(first), Seq::new(end));
                        effect.patches.push(Patch { first, end, position: round });
                        fill(first.get()..end.get(), Some(round));
                    }
                }
                patches.apply(&effect, 1);
                for (seq, expected) in (0..).zip(plain) {
                    match patches.find(Seq::new(seq)) {
                        Ok(place) => assert_eq!(Some(place.position), expected, "seed {seed}"),
                        Err(next) => {
                            let found =
                                (seq..30).find(|at| plain[usize::try_from(*at).unwrap()].is_some());
                            assert_eq!((next.map(Seq::get), expected), (found, None));
                        }
                    }
                }
            }
        }
    }
}
