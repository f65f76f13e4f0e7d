//! Iterators and readers beside the writer.

use std::{
    ops::Bound,
    panic::resume_unwind,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use tinyraftplus_core::{Seq, Term};

use super::{
    Make,
    case::{Case, append, done, hard, refused, same, same_entries, same_entry, trim_to},
    model::entry,
};
use crate::{
    LogEntry, LogError, LogExt, LogRead, Reset, Write,
    num::{u64_of, usize_of},
};

pub(super) fn an_iterator_is_a_snapshot(make: &Make<'_>) {
    let mut case = Case::new(make);
    let of_nothing = case.iter(..);
    case.add(["a", "b"], "after a batch");
    let before = case.model.entries.clone();
    let (all, mut paused) = (case.iter(..), case.iter(..));
    let first = paused.next().transpose();
    same_entry(done(first, "reading the first entry").as_ref(), before.first(), "the first entry");
    case.add(["c"], "when an entry is appended beside open iterators");
    case.add(["d", "e"], "when a batch is appended beside open iterators");
    let read = |iter: crate::Entries| -> Vec<LogEntry> {
        iter.map(|entry| done(entry, "iterating as of before the appends")).collect()
    };
    same_entries(&read(of_nothing), &[], "of an iterator made when the log was empty");
    same_entries(&read(all), &before, "of an iterator made before the appends");
    same_entries(
        &read(paused),
        before.get(1..).unwrap_or_default(),
        "of an iterator that was paused",
    );
    // An iterator that is given up is in nobody's way.
    let _abandoned: Vec<_> = (0..20).map(|_| case.iter(..)).collect();
    case.add(["f"], "after iterators were abandoned");
    case.restart();
}

/// An iterator that was trimmed says so: it must not end as if it had seen everything.
pub(super) fn a_trim_stops_an_iterator(make: &Make<'_>) {
    let mut case = Case::new(make);
    let replace = Write { append: vec![entry(1, 1, "B"), entry(2, 1, "C")], ..trim_to(1) };
    let reset = Write {
        reset: Some(Reset { start: Seq::ZERO, before: Term::ZERO }),
        append: vec![entry(0, 2, "x"), entry(1, 2, "y"), entry(2, 2, "z")],
        ..Write::default()
    };
    let changes = [
        (trim_to(2), "a trim of the last entry"),
        (replace, "a trim that was filled again"),
        (trim_to(0), "a trim of all entries"),
        (reset, "a reset with new entries"),
    ];
    for (change, why) in changes {
        case.one(
            Write {
                append: vec![entry(0, 1, "a"), entry(1, 1, "b"), entry(2, 1, "c")],
                ..trim_to(0)
            },
            "after three entries",
        );
        let (mut all, mut end, mut paused) =
            (case.iter(..), case.iter(Seq::new(2)..), case.iter(..));
        let mut old: Vec<_> = paused.next().into_iter().collect();
        let before = case.model.entries.clone();
        case.one(change, &format!("after {why}"));
        let trimmed = |error: &LogError| matches!(error, LogError::Trimmed { .. });
        let expected = format!("Trimmed from an iterator that is open over {why}");
        for iter in [&mut all, &mut end] {
            refused(iter.next().transpose(), &expected, trimmed);
            assert!(iter.next().is_none(), "expected an iterator to yield nothing after its error");
        }
        old.extend(paused);
        // It may have read ahead; what it had read is still what was there.
        match old.split_last() {
            Some((Err(error), old)) if trimmed(error) => {
                let old: Vec<_> = old.iter().flatten().cloned().collect();
                let there = before.get(..old.len()).unwrap_or_default();
                same_entries(&old, there, &format!("of an iterator paused over {why}"));
            }
            _ => {
                let old: Vec<_> =
                    old.into_iter().map(|entry| done(entry, "a paused iterator")).collect();
                same_entries(&old, &before, &format!("of an iterator paused over {why}"));
            }
        }
    }
}

pub(super) fn a_trim_past_its_end_spares_an_iterator(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.add(["a", "b"], "after a batch");
    case.add(["c"], "after an entry");
    let before = case.model.entries.clone();
    let (all, some) = (case.iter(..), case.iter(..Seq::new(1)));
    case.add(["d", "e"], "after more entries");
    case.keep(Some(3), "after a trim past the end of the iterators");
    case.keep(Some(2), "after a trim to the end of an iterator");
    case.add(["D"], "after the trimmed entries were replaced");
    let read = |iter: crate::Entries| -> Vec<LogEntry> {
        iter.map(|entry| done(entry, "iterating beside a trim past its end")).collect()
    };
    same_entries(&read(all), &before, "of an iterator whose entries were never trimmed");
    case.keep(Some(0), "after a trim past the end of the shorter iterator");
    same_entries(&read(some), before.get(..1).unwrap_or_default(), "of the shorter iterator");
}

pub(super) fn iterates_over_any_range(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.add(["a"], "after an entry");
    case.add(["b", "c", "d"], "after a batch");
    case.add(["e"], "after another entry");
    let bounds = |seq: u64| {
        [Bound::Included(Seq::new(seq)), Bound::Excluded(Seq::new(seq)), Bound::Unbounded]
    };
    for from in 0..8 {
        for until in 0..8 {
            for (start, end) in
                bounds(from).into_iter().flat_map(|start| bounds(until).map(|end| (start, end)))
            {
                let found: Vec<_> = case
                    .iter((start, end))
                    .map(|entry| done(entry, &format!("iterating over {start:?}, {end:?}")))
                    .collect();
                let expected: Vec<_> = case
                    .model
                    .entries
                    .iter()
                    .filter(|entry| {
                        let seq = entry.id.seq;
                        (match start {
                            Bound::Included(start) => seq >= start,
                            Bound::Excluded(before) => seq > before,
                            Bound::Unbounded => true,
                        }) && (match end {
                            Bound::Included(last) => seq <= last,
                            Bound::Excluded(end) => seq < end,
                            Bound::Unbounded => true,
                        })
                    })
                    .cloned()
                    .collect();
                same_entries(
                    &found,
                    &expected,
                    &format!("in the range {start:?}, {end:?} of 0..5"),
                );
            }
        }
    }
}

pub(super) fn reads_are_bounded(make: &Make<'_>) {
    let mut case = Case::new(make);
    let sizes: Vec<usize> = (0..100).map(|number| number * 7 % 50).collect();
    let singles: Vec<LogEntry> =
        sizes.iter().zip(0..60).map(|(&size, seq)| entry(seq, 0, vec![1; size])).collect();
    case.one(append(singles), "after 60 entries");
    case.add(sizes.iter().skip(60).map(|&size| vec![2; size]), "after a batch of 40 entries");
    let reader = case.reader();
    let read = |start: u64, end: u64, bytes_max: u64| {
        let entries = reader.read(Seq::new(start), Seq::new(end), bytes_max);
        done(entries, &format!("read({start}, {end}, {bytes_max})"))
    };
    for (start, end) in [(0, 100), (1, 100), (33, 70), (59, 61), (60, 100), (98, 99), (99, 100)] {
        for bytes_max in [0, 1, 49, 50, 200, 1000, u64::MAX] {
            let found = read(start, end, bytes_max);
            let (mut expected, mut bytes) = (Vec::new(), 0);
            for entry in case.model.slice(Seq::new(start)..Seq::new(end)) {
                bytes += u64_of(entry.payload.len());
                if bytes > bytes_max && !expected.is_empty() {
                    break;
                }
                expected.push(entry.clone());
            }
            same_entries(&found, &expected, &format!("of read({start}, {end}, {bytes_max})"));
        }
    }
    same(&read(5, 5, 100).len(), &0, "the number of entries in a read of an empty range");
}

pub(super) fn reads_outside_are_refused(make: &Make<'_>) {
    let mut case = Case::new(make);
    let reset = Reset { start: Seq::new(10), before: Term::new(1) };
    let entries = vec![entry(10, 1, "a"), entry(11, 1, "b")];
    case.one(
        Write { reset: Some(reset), append: entries, ..Write::default() },
        "after a reset to seq 10",
    );
    let reader = case.reader();
    for (start, end) in [(0, 12), (9, 11), (9, 10), (9, 13)] {
        let expected = format!("Compacted {{ start: 10 }} for read({start}, {end}) of 10..12");
        refused(
            reader.read(Seq::new(start), Seq::new(end), 100),
            &expected,
            |error| matches!(error, LogError::Compacted { start, .. } if *start == Seq::new(10)),
        );
    }
    for (start, end) in [(10, 13), (11, 13), (12, 13), (20, 30), (11, u64::MAX)] {
        let expected = format!("Trimmed {{ end: 12 }} for read({start}, {end}) of 10..12");
        refused(
            reader.read(Seq::new(start), Seq::new(end), 100),
            &expected,
            |error| matches!(error, LogError::Trimmed { end, .. } if *end == Seq::new(12)),
        );
    }
    refused(
        case.iter(Seq::new(3)..).next().transpose(),
        "Compacted from an iterator from 3 on",
        |error| matches!(error, LogError::Compacted { .. }),
    );
    case.agrees("after reads outside of it");
}

/// A reader that was made once goes on seeing what is there, and nothing else.
pub(super) fn readers_see_what_is_durable(make: &Make<'_>) {
    let mut case = Case::new(make);
    let reader = case.reader();
    let sees = |case: &Case, when: &str| {
        let (start, end) = (case.model.start, case.model.end());
        same(&reader.bounds(), &(start..end), &format!("bounds() of an old reader {when}"));
        if start < end {
            let mut found = done(reader.read(start, end, u64::MAX), "reading with an old reader");
            same_entries(&found, &case.model.entries, &format!("of an old reader {when}"));
            found = done(case.reader().read(start, end, u64::MAX), "reading with a new reader");
            same_entries(&found, &case.model.entries, &format!("of a new reader {when}"));
        }
    };
    sees(&case, "of an empty log");
    case.add(["a", "b", "c"], "after a batch");
    sees(&case, "after a batch");
    let refused = [append(vec![entry(3, 1, "x")]), append(vec![entry(9, 1, "x")])];
    case.refuses(&refused, "WrongSeq", |error| matches!(error, LogError::WrongSeq { .. }));
    sees(&case, "after a refused write");
    case.keep(Some(0), "after a trim");
    sees(&case, "after a trim");
    case.one(append(vec![entry(1, 3, "B"), entry(2, 3, "C")]), "after the trimmed were replaced");
    sees(&case, "after the trimmed were replaced");
    let reset = Some(Reset { start: Seq::new(30), before: Term::new(3) });
    case.one(Write { reset, append: vec![entry(30, 3, "r")], ..Write::default() }, "after a reset");
    sees(&case, "after a reset");
}

/// Whoever reads bit by bit asks this to notice that entries were trimmed and filled again in between.
pub(super) fn drops_are_counted(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.add(["a", "b", "c", "d", "e"], "after a batch");
    let reader = case.reader();
    let first = reader.drops();
    let end = case.model.end();
    let kept = reader.kept_since(first);
    assert!(kept >= end, "kept_since() before any trim: expected at least {end}, found {kept}");
    case.add(["f"], "after an entry");
    let later = reader.drops();
    same(&later, &first, "drops() after an append");
    for (keep, expected) in [(3, 4), (1, 2), (2, 2)] {
        case.keep(Some(keep), "after a trim");
        case.add(["x", "y", "z"], "after the trimmed were replaced");
        let kept = reader.kept_since(first);
        same(
            &kept,
            &Seq::new(expected),
            &format!("kept_since() the beginning, after a trim to {keep}"),
        );
    }
    assert!(
        reader.drops() > first,
        "expected drops() to rise with each trim, found {}",
        reader.drops()
    );
    let now = reader.drops();
    let kept = reader.kept_since(now);
    assert!(kept >= case.model.end(), "kept_since() now: expected all, found {kept}");
    let reset = Some(Reset { start: Seq::new(2), before: Term::ZERO });
    case.one(Write { reset, ..Write::default() }, "after a reset");
    let kept = reader.kept_since(now);
    assert!(kept <= Seq::new(2), "kept_since() over a reset: expected nothing kept, found {kept}");
}

/// Readers in other threads see entries that were there together, whatever the writer does.
pub(super) fn readers_beside_the_writer(make: &Make<'_>) {
    /// Sets the flag however the writer ends, or the readers would never.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let mut case = Case::new(make);
    let (over, begun) = (AtomicBool::new(false), [AtomicU64::new(0), AtomicU64::new(0)]);
    std::thread::scope(|scope| {
        let readers: Vec<_> = begun
            .iter()
            .map(|begun| {
                let (reader, over) = (case.reader(), &over);
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        begun.fetch_add(1, Ordering::Relaxed);
                        read_beside(&*reader);
                    }
                    read_beside(&*reader);
                })
            })
            .collect();
        let ended = Over(&over);
        for round in 1..40_u64 {
            // Each reader is in the middle of a read, as far as anybody can tell.
            for (reader, begun) in readers.iter().zip(&begun) {
                let before = begun.load(Ordering::Relaxed);
                while begun.load(Ordering::Relaxed) == before && !reader.is_finished() {
                    std::thread::yield_now();
                }
            }
            let (start, end) = (case.model.start.get(), case.model.end().get());
            let back = if round % 2 == 0 { round % 7 } else { 0 };
            let from = end.saturating_sub(back).max(start);
            let kept = case.model.slice(case.model.start..Seq::new(from)).last();
            let mut follows = kept.map_or(case.model.before, |entry| entry.id.term).get();
            let mut entries = Vec::new();
            // The log grows all the same: whoever still asks for the old end finds other entries there.
            let last = end + 2;
            for seq in from..=last {
                let entry = speaking(seq, round, follows);
                entries.push(LogEntry { ends_batch: seq == last, ..entry });
                follows = round;
            }
            case.one(Write { append: entries, ..trim_to(from) }, "while others read");
            if round % 10 == 9 && case.compacts() {
                let compact = Some(Seq::new(case.model.end().get() - 4));
                case.one(
                    Write { compact, ..Write::default() },
                    "when it is compacted while others read",
                );
            }
        }
        drop(ended);
        for reader in readers {
            reader.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
}

/// An entry that says which one it is, and which term the one before it has.
fn speaking(seq: u64, term: u64, follows: u64) -> LogEntry {
    let size = usize_of((seq * 37 + term) % 300);
    entry(seq, term, format!("{seq} of term {term} after term {follows}, {}", "x".repeat(size)))
}

#[track_caller]
fn read_beside(reader: &dyn LogRead) {
    let bounds = reader.bounds();
    let found = match reader.read(bounds.start, bounds.end, u64::MAX) {
        Ok(entries) => entries,
        // Trimmed or compacted in between.
        Err(LogError::Trimmed { .. } | LogError::Compacted { .. }) => return,
        Err(error) => panic!("reading beside a writer: expected entries or Trimmed, got {error:?}"),
    };
    let mut before: Option<&LogEntry> = None;
    for (found, seq) in found.iter().zip(bounds.start.get()..) {
        // Nobody tells which one is before the first of them.
        if let Some(before) = before {
            let follows = before.id.term.get();
            let expected = speaking(seq, found.id.term.get(), follows);
            let expected = LogEntry { ends_batch: found.ends_batch, ..expected };
            same_entry(Some(found), Some(&expected), "an entry read beside a writer");
        }
        before = Some(found);
    }
}

pub(super) fn stats_count(make: &Make<'_>) {
    let mut case = Case::new(make);
    let count = 40;
    let before = case.stats().syncs;
    for number in 0..count {
        done(case.append(Bytes::from(format!("entry {number}"))), "appending");
    }
    case.model.apply(&append((0..count).map(|n| entry(n, 0, format!("entry {n}"))).collect()));
    case.agrees("after 40 appends");
    let after = case.stats().syncs;
    if case.restarts() {
        let syncs = after - before;
        assert!(
            syncs >= count,
            "expected each of {count} appends to be synced, found {syncs} syncs"
        );
    }
    case.agrees("after its stats were asked for");
    same(&case.stats().syncs, &after, "the number of syncs after reading");
    case.keep(Some(3), "after a trim");
    case.one(Write { hard_state: Some(hard(2, None)), ..Write::default() }, "after a term");
    assert!(case.stats().syncs >= after, "expected the number of syncs never to fall");
    case.restart();
    let again = case.stats().syncs;
    assert!(
        !case.restarts() || again < count,
        "expected the number of syncs to count from the opening, found {again}"
    );
}
