//! What frames do to a log.

use std::sync::Arc;

use tinyraftplus_core::{Configurations, Seq, Term, Terms};

use crate::{Reset, Unknown, format::Tail, state::State};

/// What a frame does to the log, or all frames of a file together. Happens in this order: configuration,
/// reset, trim, compact, entries.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    pub(crate) position: u64,
    pub(crate) configuration: Option<Arc<Configurations>>,
    pub(crate) reset: Option<Reset>,
    pub(crate) trim: Option<Seq>,
    pub(crate) compact: Option<Reset>,
    /// The seq of its first entry; without entries, the end of the log.
    pub(crate) first: Seq,
    /// The terms of its entries, and how many have it.
    pub(crate) runs: Vec<(Term, u64)>,
    /// Entries that take the place of others, the newest last. What it drops itself is not among them.
    pub(crate) patches: Vec<Patch>,
    /// What damage hides from here on, if it says anything about that.
    pub(crate) unknown: Option<Unknown>,
}

/// Entries from `first` on and before `end` that were repaired, by the frame at `position`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Patch {
    pub(crate) first: Seq,
    pub(crate) end: Seq,
    pub(crate) position: u64,
}

impl Effect {
    pub(crate) const fn none(position: u64, first: Seq) -> Self {
        Self {
            position,
            configuration: None,
            reset: None,
            trim: None,
            compact: None,
            first,
            runs: Vec::new(),
            patches: Vec::new(),
            unknown: None,
        }
    }

    pub(crate) fn add_entries(&mut self, term: Term, count: u64) {
        match self.runs.last_mut() {
            Some((last, have)) if *last == term => *have += count,
            Some(_) | None => self.runs.push((term, count)),
        }
    }

    fn count(&self) -> u64 {
        self.runs.iter().map(|(_, count)| count).sum()
    }

    /// Makes this what it and then another effect do together: what it drops of its own entries is gone, and a
    /// new start comes last.
    pub(crate) fn then(&mut self, next: &Self) {
        if next.configuration.is_some() {
            self.configuration.clone_from(&next.configuration);
            if let Some(unknown) = &mut self.unknown {
                unknown.configuration = false;
            }
        }
        if let Some(reset) = next.reset {
            (self.reset, self.trim, self.compact) = (Some(reset), None, None);
            self.first = reset.start;
            self.runs.clear();
            self.patches.clear();
        }
        if let Some(end) = next.trim {
            self.drop_from(end);
        }
        if next.compact.is_some() {
            self.compact = next.compact;
        }
        for &(term, count) in &next.runs {
            self.add_entries(term, count);
        }
        if !next.patches.is_empty() {
            self.patches.extend(&next.patches);
        }
        self.unknown = next.unknown.or(self.unknown);
    }

    /// Takes out of a list of ranges what it drops: each is told by its first seq and the one after its last.
    pub(crate) fn prune<T>(&self, list: &mut Vec<T>, range: impl Fn(&mut T) -> (Seq, &mut Seq)) {
        if self.reset.is_some() {
            list.clear();
        }
        if let Some(kept) = self.trim {
            list.retain_mut(|it| {
                let (first, end) = range(it);
                *end = kept.min(*end);
                first < *end
            });
        }
    }

    fn drop_from(&mut self, end: Seq) {
        if end < self.first {
            (self.trim, self.first) = (Some(end), end);
        }
        let mut patches = std::mem::take(&mut self.patches);
        let trim = Self { trim: Some(end), ..Self::none(0, end) };
        trim.prune(&mut patches, |patch| (patch.first, &mut patch.end));
        self.patches = patches;
        let mut keep = end.since(self.first);
        self.runs.retain_mut(|(_, count)| {
            *count = (*count).min(keep);
            keep -= *count;
            *count > 0
        });
    }

    /// Whether it has entries, or had some that were dropped again.
    pub(crate) fn has_entries(&self) -> bool {
        self.count() > 0
    }
}

/// What is wrong with an effect that does not fit the log.
pub(crate) type Misfit = &'static str;

impl State {
    /// Applies what a frame does, or a whole file. It comes from a disk, so anything is possible.
    pub(crate) fn replay(&mut self, effect: &Effect) -> Result<(), Misfit> {
        if let Some(configuration) = &effect.configuration {
            self.configuration = Some(Arc::clone(configuration));
            self.unknown.configuration = false;
        }
        if let Some(Reset { start, before }) = effect.reset {
            if start == Seq::ZERO && before != Term::ZERO {
                return Err("a reset names an entry before the first position");
            }
            self.terms = Terms::empty(start, before);
            self.owed = None;
        }
        if let Some(end) = effect.trim {
            if end > self.terms.end() {
                return Err("a trim lies outside of the log");
            }
            if end < self.terms.start() {
                // The file with the entries before this was compacted: a later record says so, or it is missing.
                let owed = self.owed.ok_or("a trim lies outside of the log")?;
                if end == owed.start {
                    // All of them were trimmed: nothing of that file is missed.
                    self.terms = Terms::empty(end, owed.before);
                    self.owed = None;
                } else {
                    self.terms = Terms::empty(end, Term::ZERO);
                }
            }
            self.terms.trim(end);
        }
        if self.terms.end() != effect.first {
            return Err("entries do not follow those before them");
        }
        for &(term, count) in &effect.runs {
            if term < self.last_term() || self.terms.end().checked_add(count).is_none() {
                return Err("a term goes down along the log");
            }
            self.terms.append(term, count);
        }
        if effect.patches.iter().any(|patch| patch.end > self.terms.end()) {
            return Err("a repair is of entries that are not there");
        }
        if let Some(compact) = effect.compact {
            self.start_at(compact)?;
        }
        self.unknown = effect.unknown.unwrap_or(self.unknown);
        Ok(())
    }

    /// A log whose first entries are in a file that is gone, and that was trimmed to one of those, does not know
    /// the term of its newest entry. Whatever comes next says it.
    pub(crate) fn learn(&mut self, tail: Tail) {
        if self.owed.is_some() && self.terms.runs().is_empty() && self.terms.end() == tail.end {
            self.terms = Terms::empty(tail.end, tail.term);
        }
    }

    /// The log starts here: everything before is gone, known or not.
    pub(crate) fn start_at(&mut self, start: Reset) -> Result<(), Misfit> {
        let terms = &self.terms;
        if start.start > terms.end() {
            return Err("the log starts after its end");
        }
        if start.start < terms.start() {
            // Its first entries are in a file that is not there; a later record may start it higher.
            let owed = self.owed.as_mut().ok_or("the start of the log goes back")?;
            *owed = start;
            return Ok(());
        }
        let known = terms.entry_before(start.start).map(|id| id.term);
        if known.is_some_and(|known| known != start.before) {
            return Err("the start of the log names another term");
        }
        self.terms.compact(start.start);
        if known.is_none() && start.before > Term::ZERO {
            self.terms = self
                .terms
                .with_before(start.before)
                .ok_or("the start of the log has too new a term")?;
        }
        self.owed = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tinyraftplus_core::{HardState, Identity};

    use super::*;
    use crate::sim_disk::SimRng;

    /// A random effect that fits a log.
    fn effect(rng: &mut SimRng, state: &State, term: &mut u64) -> Effect {
        let (start, end) = (state.terms.start().get(), state.terms.end().get());
        let mut effect = Effect::none(0, Seq::new(end));
        match rng.below(8) {
            0 => {
                let reset =
                    Reset { start: Seq::new(end + rng.below(3) + 1), before: Term::new(*term) };
                (effect.reset, effect.first) = (Some(reset), reset.start);
            }
            1 | 2 => {
                effect.first = Seq::new(start + rng.below(end - start + 1));
                effect.trim = Some(effect.first);
            }
            3 => {
                let at = Seq::new(start + rng.below(end - start + 1));
                let before = state.terms.entry_before(at).map_or(Term::ZERO, |id| id.term);
                effect.compact = Some(Reset { start: at, before });
            }
            _ => {}
        }
        for _ in 0..rng.below(3) {
            *term += rng.below(2);
            effect.add_entries(Term::new(*term), 1 + rng.below(4));
        }
        effect
    }

    #[test]
    fn together_they_do_what_they_do_one_by_one() {
        for seed in 0..300 {
            let mut rng = SimRng::new(seed);
            let mut term = 1;
            let mut state =
                State::new(Identity::new(1), HardState::default(), Seq::new(5), Term::new(1));
            state
                .replay(&{
                    let mut some = Effect::none(0, Seq::new(5));
                    some.add_entries(Term::new(1), rng.below(6) + 1);
                    some
                })
                .unwrap();
            let mut together = state.clone();
            let mut all = Effect::none(0, state.terms.end());
            for _ in 0..rng.below(12) {
                let next = effect(&mut rng, &state, &mut term);
                state.replay(&next).unwrap();
                all.then(&next);
            }
            together.replay(&all).unwrap();
            assert_eq!(together.terms, state.terms, "seed {seed}");
        }
    }
}
