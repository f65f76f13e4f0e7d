//! Dropping the oldest entries. A log that can't must refuse, and then all checks here are that it does.

use tinyraftplus_core::Seq;

use super::{
    Make,
    case::{Case, append, compact_before, done, fails, refused, trim_to},
    model::entry,
};
use crate::{Effect, LogError, LogExt, Write};

/// A log of six entries in terms 1 and 2; `None` if it can't be compacted and says so.
#[track_caller]
fn six(make: &Make<'_>) -> Option<Case> {
    let mut case = Case::new(make);
    let entries = [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 2)];
    let payload = |seq: u64| format!("payload {seq}");
    let entries = entries.map(|(seq, term)| entry(seq, term, payload(seq)));
    case.one(append(entries.into()), "after six entries");
    if case.compacts() {
        return Some(case);
    }
    let error =
        fails(case.write(&[compact_before(2)]), "a log that never compacts to refuse", |_| true);
    assert!(
        error.effect() == Effect::None && !error.is_fatal(),
        "expected a refused compaction to have no effect and not to be fatal; found {error:?}"
    );
    case.agrees("after a compaction was refused");
    case.add(["next"], "after a compaction was refused");
    case.restart();
    None
}

pub(super) fn compaction_moves_the_start(make: &Make<'_>) {
    let Some(mut case) = six(make) else { return };
    let reader = case.reader();
    let mut paused = case.iter(..);
    case.one(compact_before(2), "after a compaction before seq 2");
    let is = |error: &LogError| matches!(error, LogError::Compacted { start, .. } if *start == Seq::new(2));
    let expected = "Compacted { start: 2 } for reading below the start";
    for (start, end) in [(0, 6), (1, 2), (0, 1), (1, 6)] {
        for reader in [&reader, &case.reader()] {
            refused(reader.read(Seq::new(start), Seq::new(end), u64::MAX), expected, is);
        }
    }
    let first = paused.next();
    assert!(
        matches!(&first, Some(Err(LogError::Compacted { .. }))),
        "expected an iterator over compacted entries to end with Compacted, found {first:?}"
    );
    refused(case.iter(Seq::ZERO..).next().transpose(), expected, is);
    refused(case.trim(Some(Seq::ZERO)), "Compacted for a trim below the start", is);
    case.restart();
    case.add(["g", "h"], "after a batch that follows a compaction");
    case.one(compact_before(4), "after another compaction, into the next term");
    case.restart();
    case.one(compact_before(7), "after a compaction into a batch");
    case.restart();
    case.keep(None, "after all was trimmed that a compaction left");
    case.restart();
    case.add(["G"], "when an append follows");
    case.restart();
}

pub(super) fn compacts_to_the_end_and_past_it(make: &Make<'_>) {
    let Some(mut case) = six(make) else { return };
    case.refuses(
        &[compact_before(7)],
        "Trimmed { end: 6 } for a compaction past the end",
        |error| matches!(error, LogError::Trimmed { end, .. } if *end == Seq::new(6)),
    );
    case.one(compact_before(6), "after a compaction of everything");
    case.restart();
    case.refuses(
        &[append(vec![entry(6, 1, "x")])],
        "WrongTerm for an entry older than the one before the start",
        |error| matches!(error, LogError::WrongTerm { .. }),
    );
    case.add(["g"], "after an append that follows a compaction of everything");
    case.restart();
    case.one(compact_before(7), "after another compaction of everything");
    case.restart();
}

pub(super) fn compacts_with_other_changes(make: &Make<'_>) {
    let Some(mut case) = six(make) else { return };
    // Trims come first: it is compacted up to the new end.
    let both = Write {
        append: vec![entry(4, 3, "E"), entry(5, 3, "F")],
        compact: Some(Seq::new(2)),
        ..trim_to(4)
    };
    case.one(both, "after a trim, a compaction and appends in one write");
    case.restart();
    case.refuses(
        &[Write { compact: Some(Seq::new(5)), ..trim_to(4) }],
        "Trimmed { end: 4 } for a compaction past the end that a trim in the same write left",
        |error| matches!(error, LogError::Trimmed { end, .. } if *end == Seq::new(4)),
    );
    case.refuses(
        &[compact_before(4), trim_to(3)],
        "Compacted for a trim below where the write before it compacted",
        |error| matches!(error, LogError::Compacted { start, .. } if *start == Seq::new(4)),
    );
    case.restart();
    let all = Write { append: vec![entry(4, 7, "e")], compact: Some(Seq::new(4)), ..trim_to(4) };
    case.one(all, "after a trim and a compaction to the same seq, with an append");
    case.restart();
    case.group(
        &[append(vec![entry(5, 7, "f"), entry(6, 7, "g")]), compact_before(6), trim_to(6)],
        "after a group that appends, compacts and trims",
    );
    case.restart();
}

pub(super) fn nothing_to_compact(make: &Make<'_>) {
    let Some(mut case) = six(make) else { return };
    case.one(compact_before(0), "after a compaction to the start, which changes nothing");
    done(case.compact(Seq::new(3)), "compact()");
    case.model.apply(&compact_before(3));
    case.agrees("after compact() before seq 3");
    case.one(compact_before(3), "after a compaction to the start, which changes nothing");
    case.one(compact_before(1), "after a compaction below the start, which changes nothing");
    case.restart();
}
