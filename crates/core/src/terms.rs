//! The term of every entry, without the entries.
//!
//! Elections are rare, so a log is a few long runs of equal terms. We keep where each run starts; that and
//! the batch ends of what was appended lately is all the core remembers of what is in the log.

use crate::{EntryId, Seq, Span, Term};
use alloc::vec::Vec;
use core::cmp::Ordering;

/// Where a run of entries of one term begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TermRun {
    /// Its first position.
    pub start: Seq,
    /// The term of its entries.
    pub term: Term,
}

/// Terms of the entries in `start..end`.
///
/// Invariants:
///
/// * `start <= end`.
/// * Runs rise strictly, in `start` and in `term`: terms never go down along a log (Raft section 5.4.1).
/// * If there are entries, the first run begins at `start` and the last before `end`; else there are no runs.
/// * `before`, the term of the entry before `start`, is at most that of the first run; 0 if nothing was there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Terms {
    start: Seq,
    before: Term,
    end: Seq,
    runs: Vec<TermRun>,
}

impl Terms {
    /// A log without entries whose next is at `start`; `before` is the term of what was there before, or 0.
    pub const fn empty(start: Seq, before: Term) -> Self {
        Self { start, before, end: start, runs: Vec::new() }
    }

    /// The first position.
    pub const fn start(&self) -> Seq {
        self.start
    }

    /// The position after the last entry.
    pub const fn end(&self) -> Seq {
        self.end
    }

    /// The runs, oldest first.
    pub fn runs(&self) -> &[TermRun] {
        &self.runs
    }

    /// Adds `count` entries of one term at the end.
    ///
    /// # Panics
    ///
    /// If the term is older than that of the last entry, or there is no room: callers check both.
    pub fn append(&mut self, term: Term, count: u64) {
        let end = self.end.checked_add(count).expect("callers leave room for the seqs");
        if count == 0 {
            return;
        }
        let newest = self.runs.last().map_or(self.before, |run| run.term);
        assert!(term >= newest, "a term went down along the log: {term} after {newest}");
        if self.runs.last().is_none_or(|run| run.term < term) {
            self.runs.push(TermRun { start: self.end, term });
        }
        self.end = end;
    }

    /// Drops `end` and everything after it. Does nothing if that is past the end.
    ///
    /// # Panics
    ///
    /// If `end` is before the start: those entries are gone already.
    pub fn trim(&mut self, end: Seq) {
        assert!(end >= self.start, "entries before {} are gone already", self.start);
        if end < self.end {
            self.end = end;
            self.runs.truncate(self.runs.partition_point(|run| run.start < end));
        }
    }

    /// Puts back what was cut off where the log ends now.
    pub(crate) fn restore(&mut self, cut: &Span) {
        let ends = cut.terms.iter().skip(1).map(|run| run.start).chain([cut.end]);
        for (run, end) in cut.terms.iter().zip(ends) {
            self.append(run.term, end.since(run.start));
        }
    }

    /// Drops everything before `start`, and remembers the term of the entry just before it. Does nothing if
    /// that is not after the start.
    ///
    /// # Panics
    ///
    /// If it is after the end: nobody knows the term of what would come before.
    pub fn compact(&mut self, start: Seq) {
        assert!(start <= self.end, "entries before {start} are not here yet");
        if start <= self.start {
            return;
        }
        self.before = self.entry_before(start).map_or(Term::ZERO, |id| id.term);
        self.start = start;
        let kept = self.runs.partition_point(|run| run.start <= start).saturating_sub(1);
        self.runs.drain(..kept);
        if start == self.end {
            self.runs.clear();
        } else if let Some(first) = self.runs.first_mut() {
            first.start = start;
        }
    }

    /// The same with another term before the start; `None` if an entry has an older one.
    #[must_use]
    pub fn with_before(&self, before: Term) -> Option<Self> {
        let fits = self.runs.first().is_none_or(|run| run.term >= before);
        fits.then(|| Self { before, ..self.clone() })
    }

    /// The term of the entry at `seq`, if it is known; the one just before the start is.
    pub fn term_of(&self, seq: Seq) -> Option<Term> {
        if seq >= self.end {
            return None;
        }
        let run = self
            .runs
            .partition_point(|run| run.start <= seq)
            .checked_sub(1)
            .and_then(|at| self.runs.get(at));
        match run {
            Some(run) => Some(run.term),
            None if seq.after() == self.start && self.before > Term::ZERO => Some(self.before),
            None => None,
        }
    }

    /// Whether this very entry is in the log, or just before its start.
    pub fn has(&self, id: EntryId) -> bool {
        self.term_of(id.seq) == Some(id.term)
    }

    /// What became of an entry that was in some log, if all before the start is committed: whether it is in this log, or
    /// was before its start. `None` if the log no longer tells.
    pub fn became(&self, id: EntryId) -> Option<bool> {
        if id.seq.after() >= self.start {
            return Some(self.has(id));
        }
        match id.term.cmp(&self.before) {
            // The leader of that term had it before it made the entry before the start.
            Ordering::Equal => Some(true),
            // Terms never go down along a log.
            Ordering::Greater => Some(false),
            Ordering::Less => None,
        }
    }

    /// The newest entry, which may be the one just before the start.
    pub fn last(&self) -> Option<EntryId> {
        self.entry_before(self.end)
    }

    /// The entry just before `seq`, if there is one and its term is known.
    pub fn entry_before(&self, seq: Seq) -> Option<EntryId> {
        let seq = seq.before()?;
        if seq.after() == self.start {
            return (self.before > Term::ZERO).then_some(EntryId { term: self.before, seq });
        }
        self.term_of(seq).map(|term| EntryId { term, seq })
    }

    /// The newest entry at or before `seq` whose term is not above `term`.
    pub fn newest_within(&self, seq: Seq, term: Term) -> Option<EntryId> {
        let by_seq = seq.after().min(self.end);
        let above = self.runs.partition_point(|run| run.term <= term);
        let by_term = self.runs.get(above).map_or(self.end, |run| run.start);
        self.entry_before(by_seq.min(by_term)).filter(|id| id.term <= term)
    }

    /// Names the entries in `start..end`, which must lie in the log.
    pub fn span(&self, start: Seq, end: Seq) -> Span {
        debug_assert!(self.start <= start && end <= self.end, "a span lies in the log");
        let first = self.runs.partition_point(|run| run.start <= start).saturating_sub(1);
        let runs = self.runs.iter().skip(first).take_while(|run| run.start < end);
        let terms =
            runs.map(|run| TermRun { start: run.start.max(start), term: run.term }).collect();
        Span { start, end, terms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs against the obvious implementation: one term per entry.
    #[test]
    fn agrees_with_a_plain_list() {
        for seed in 0..200 {
            let mut rng = crate::rng::Rng::new(seed, crate::Identity::new(1));
            let mut start = rng.below(5);
            let mut before = if start == 0 { 0 } else { rng.below(3) };
            let mut terms = Terms::empty(Seq::new(start), Term::new(before));
            let mut list: Vec<u64> = Vec::new();
            let mut term = before.max(1);
            for _ in 0..60 {
                if rng.below(8) == 0 {
                    let count = usize::try_from(rng.below(list.len() as u64 + 1)).unwrap();
                    before = list.drain(..count).next_back().unwrap_or(before);
                    start += count as u64;
                    terms.compact(Seq::new(start));
                } else if rng.below(3) == 0 {
                    let keep = usize::try_from(rng.below(list.len() as u64 + 2)).unwrap();
                    let cut =
                        terms.span(Seq::new(start + keep.min(list.len()) as u64), terms.end());
                    terms.trim(Seq::new(start + keep as u64));
                    if rng.below(2) == 0 {
                        terms.restore(&cut);
                    } else {
                        list.truncate(keep);
                    }
                    term = list.last().copied().unwrap_or(before).max(term);
                } else {
                    term += rng.below(2);
                    let count = rng.below(4);
                    terms.append(Term::new(term), count);
                    list.extend((0..count).map(|_| term));
                }
                check(&terms, start, before, &list);
            }
        }
    }

    fn check(terms: &Terms, start: u64, before: u64, list: &[u64]) {
        let at = |seq: u64| -> Option<u64> {
            if seq + 1 == start && before > 0 {
                return Some(before);
            }
            list.get(usize::try_from(seq.checked_sub(start)?).unwrap()).copied()
        };
        let end = start + list.len() as u64;
        assert_eq!(terms.end(), Seq::new(end));
        for seq in 0..end + 2 {
            assert_eq!(terms.term_of(Seq::new(seq)), at(seq).map(Term::new), "seq {seq}");
            for term in 0..8 {
                let dumb = (0..=seq).rev().find_map(|s| {
                    at(s).filter(|&t| t <= term).map(|t| EntryId::new(Term::new(t), Seq::new(s)))
                });
                assert_eq!(
                    terms.newest_within(Seq::new(seq), Term::new(term)),
                    dumb,
                    "seq {seq} term {term}"
                );
            }
            for to in seq.max(start)..=end {
                let span = terms.span(Seq::new(seq.max(start)), Seq::new(to));
                for s in 0..=end {
                    let inside = (seq.max(start)..to).contains(&s);
                    assert_eq!(span.term_of(Seq::new(s)), at(s).filter(|_| inside).map(Term::new));
                }
            }
        }
        let newest =
            end.checked_sub(1).and_then(|s| at(s).map(|t| EntryId::new(Term::new(t), Seq::new(s))));
        assert_eq!(terms.last(), newest);
    }

    /// What lies before a compacted log can be told only of the term that its last entry has, and of later ones.
    #[test]
    fn what_became_of_entries_before_the_start() {
        let mut terms = Terms::empty(Seq::new(5), Term::new(3));
        terms.append(Term::new(4), 1);
        let became = |term, seq| terms.became(EntryId::new(Term::new(term), Seq::new(seq)));
        assert_eq!(
            [became(4, 5), became(3, 5), became(4, 6)],
            [Some(true), Some(false), Some(false)]
        );
        assert_eq!(
            [became(3, 4), became(2, 4)],
            [Some(true), Some(false)],
            "just before it is known"
        );
        assert_eq!([became(3, 2), became(4, 2), became(2, 2)], [Some(true), Some(false), None]);
    }

    #[test]
    #[should_panic(expected = "a term went down")]
    fn refuses_a_term_that_goes_down() {
        let mut terms = Terms::default();
        terms.append(Term::new(2), 1);
        terms.append(Term::new(1), 1);
    }
}
