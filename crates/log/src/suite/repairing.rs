//! Putting back what is damaged. No log here is: a repair counts all the same, and the newest counts.

use tinyraftplus_core::{EntryId, Seq, Term};

use super::{
    Make,
    case::{Case, append, compact_before},
    model::entry,
};
use crate::{EntryKind, LogEntry, Reset, Write};

fn repair(entries: Vec<LogEntry>) -> Write {
    Write { repair: entries, ..Write::default() }
}

pub(super) fn repairs_take_the_place_of_entries(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.one(
        append((0..9).map(|seq| entry(seq, 1, format!("{seq}"))).collect()),
        "after nine entries",
    );
    case.one(append(vec![entry(9, 2, "nine"), entry(10, 2, "ten")]), "after two more");
    case.one(repair(vec![entry(3, 1, "three"), entry(4, 1, "")]), "after a repair of two");
    let noop = LogEntry { kind: EntryKind::Noop, ends_batch: false, ..entry(8, 1, "") };
    case.one(repair(vec![noop, entry(9, 2, "NINE")]), "after a repair across two terms");
    case.restart();
    case.one(
        repair((2..6).map(|seq| entry(seq, 1, "again")).collect()),
        "after a repair of what was repaired",
    );
    case.one(repair(vec![entry(4, 1, "once more")]), "after a repair in the middle of that");
    case.restart();
    case.one(
        Write {
            trim: Some(Seq::new(4)),
            append: vec![entry(4, 2, "new"), entry(5, 2, "new")],
            ..Write::default()
        },
        "when a trim drops what was repaired, and other entries come there",
    );
    case.restart();
    case.one(repair(vec![entry(5, 2, "newer")]), "after a repair of those");
    if case.compacts() {
        case.one(compact_before(3), "after a compaction in a repair");
        case.one(compact_before(5), "after a compaction past it");
        case.restart();
    }
    let reset = Reset { start: Seq::new(2), before: Term::new(2) };
    let append = (2..7).map(|seq| entry(seq, 3, "after a reset")).collect();
    case.one(
        Write { reset: Some(reset), append, ..Write::default() },
        "after a reset to where repairs were",
    );
    case.restart();
}

pub(super) fn repairs_of_something_else_are_refused(make: &Make<'_>) {
    let mut case = Case::new(make);
    let reset = Reset { start: Seq::new(20), before: Term::new(1) };
    let append = vec![entry(20, 2, "a"), entry(21, 3, "b"), entry(22, 3, "c")];
    case.one(Write { reset: Some(reset), append, ..Write::default() }, "after a reset to seq 20");
    let at = |term: u64, seq: u64| LogEntry {
        id: EntryId::new(Term::new(term), Seq::new(seq)),
        ..entry(seq, term, "wrong")
    };
    for (entries, what) in [
        (vec![at(3, 20)], "BadRepair for an entry of another term"),
        (vec![at(2, 20), at(2, 21)], "BadRepair for an entry of an older term"),
        (vec![at(1, 19)], "Compacted for a repair below the start"),
        (vec![at(3, 23)], "Trimmed for a repair past the end"),
        (vec![at(3, 22), at(3, 23)], "Trimmed for a repair that reaches past the end"),
        (vec![at(2, 20), at(3, 22)], "WrongSeq for a repair with a hole"),
        (vec![at(3, 22), at(3, 21)], "WrongSeq for a repair backwards"),
    ] {
        case.refuses(&[repair(entries)], what, |error| {
            let said = format!("{error:?}");
            said.starts_with(what.split(' ').next().unwrap_or_default())
        });
    }
    case.one(Write { known: true, ..Write::default() }, "when all is known to be known");
    case.restart();
}
