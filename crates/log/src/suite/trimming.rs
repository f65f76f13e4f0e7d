//! Dropping the newest entries, and beginning anew.

use tinyraftplus_core::{Seq, Term};

use super::{
    Make,
    case::{Case, append, refused, trim_to},
    model::entry,
};
use crate::{LogError, LogExt, Reset, Write};

pub(super) fn trim_drops_the_newest(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.keep(None, "after an empty log was trimmed");
    case.keep(Some(4), "after an empty log was trimmed to seq 4");
    case.add(["a"], "after an entry");
    case.add(["b", "c", "d"], "after a batch");
    case.add(["e"], "after another entry");
    case.keep(Some(3), "after a trim to the end of a batch");
    case.restart();
    case.keep(Some(3), "after a trim to the newest entry, which changes nothing");
    case.keep(Some(9), "after a trim past the end, which changes nothing");
    case.restart();
    case.add(["E"], "when an entry takes the place of a trimmed one");
    case.keep(Some(0), "after a trim to the first entry");
    case.restart();
    case.add(["B", "C"], "when a batch takes the place of trimmed entries");
    case.restart();
    case.keep(None, "after all entries were trimmed");
    case.restart();
    case.add(["A"], "when a log begins again");
    for number in 0..20 {
        case.add([format!("more {number}")], "while appending");
        case.add(["gone", "too"], "while appending");
        let keep = case.model.end().get() - 3;
        case.keep(Some(keep), "while trimming again and again");
    }
    case.restart();
}

pub(super) fn trim_below_the_start_is_refused(make: &Make<'_>) {
    let mut case = Case::new(make);
    let reset = Reset { start: Seq::new(50), before: Term::new(2) };
    case.one(
        Write {
            reset: Some(reset),
            append: vec![entry(50, 2, "a"), entry(51, 2, "b")],
            ..Write::default()
        },
        "after a reset to seq 50",
    );
    let is = |error: &LogError| matches!(error, LogError::Compacted { start, .. } if *start == Seq::new(50));
    for keep in [0, 20, 48, 49] {
        let expected = format!("Compacted for trim({keep}) of a log that starts at 50");
        refused(case.trim(Some(Seq::new(keep))), &expected, is);
        case.agrees(&format!("after a refused trim({keep})"));
    }
    case.refuses(&[trim_to(49)], "Compacted for a trim below the start", is);
    // Keeping what lies before the start keeps nothing that is here.
    case.one(trim_to(50), "after a trim to the start");
    case.restart();
}

/// A follower's repair: nobody ever sees the log without the old entries and without the new ones.
pub(super) fn trim_with_appends_is_one(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.one(
        append(vec![entry(0, 1, "a"), entry(1, 1, "b"), entry(2, 2, "c")]),
        "after three entries",
    );
    case.one(
        Write { append: vec![entry(1, 3, "B"), entry(2, 3, "C"), entry(3, 3, "D")], ..trim_to(1) },
        "after a trim with more entries than it dropped",
    );
    case.restart();
    case.one(
        Write { append: vec![entry(1, 4, "b")], ..trim_to(1) },
        "after a trim with fewer entries than it dropped",
    );
    case.restart();
    case.one(Write { append: vec![entry(0, 1, "z")], ..trim_to(0) }, "after all was replaced");
    case.restart();
    case.refuses(
        &[Write { append: vec![entry(1, 5, "x")], ..trim_to(0) }],
        "WrongSeq for a trim with an append that does not follow it",
        |error| matches!(error, LogError::WrongSeq { .. }),
    );
    case.restart();
}

/// A snapshot was installed: the log starts behind it.
pub(super) fn reset_begins_anew(make: &Make<'_>) {
    let mut case = Case::new(make);
    let reset = |start: u64, before: u64| Write {
        reset: Some(Reset { start: Seq::new(start), before: Term::new(before) }),
        ..Write::default()
    };
    case.add(["a", "b", "c"], "after a batch");
    case.one(reset(100, 6), "after a reset further on");
    case.restart();
    case.one(append(vec![entry(100, 6, "r")]), "after an entry that follows a reset");
    case.restart();
    case.keep(None, "after all since the reset was trimmed");
    case.refuses(
        &[append(vec![entry(100, 5, "x")])],
        "WrongTerm for an entry older than the one before the start",
        |error| matches!(error, LogError::WrongTerm { .. }),
    );
    case.one(reset(40, 2), "after a reset further back");
    case.restart();
    case.one(
        Write { append: vec![entry(70, 9, "s")], ..reset(70, 8) },
        "after a reset with an append",
    );
    case.restart();
    case.one(reset(70, 8), "after a reset to where the log starts, with entries there");
    case.restart();
    case.one(reset(5, 0), "after a reset behind an entry whose term is not known");
    case.restart();
    case.one(reset(0, 0), "after a reset to the first position there is");
    case.add(["first"], "when a log begins at 0 again");
    case.restart();
    case.refuses(
        &[reset(0, 3)],
        "WrongTerm for a reset that claims an entry before the first position",
        |error| matches!(error, LogError::WrongTerm { .. }),
    );
    case.restart();
    let bounds = case.bounds();
    assert!(bounds == (Seq::ZERO..Seq::new(1)), "expected bounds 0..1, found {bounds:?}");
}
