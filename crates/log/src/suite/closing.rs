//! Closing, dropping, opening again.

use tinyraftplus_core::Seq;

use super::{
    Make,
    case::{Case, Leave, append, done, fails, refused, trim_to},
    model::entry,
};
use crate::{LogError, LogExt, num::u64_of};

pub(super) fn closing_ends_everything(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.add(["a"], "after an entry");
    case.add(["b"], "after another");
    let (mut iter, reader) = (case.iter(..), case.reader());
    done(case.close(), "closing the log");
    let closed = |error: &LogError| matches!(error, LogError::Closed);
    fails(case.append("c"), "Closed for an append after close()", closed);
    fails(case.append_batch(["c", "d"]), "Closed for a batch after close()", closed);
    fails(case.append_at(Seq::new(2), "c"), "Closed for append_at() after close()", closed);
    fails(case.trim(None), "Closed for a trim after close()", closed);
    fails(case.write(&[trim_to(0)]), "Closed for a write after close()", closed);
    let expected = "Closed for reading after close()";
    fails(reader.read(Seq::ZERO, Seq::new(2), 1), expected, closed);
    fails(case.reader().read(Seq::ZERO, Seq::new(1), 1), expected, closed);
    fails(iter.next().transpose(), "an iterator that was open to end with Closed", closed);
    assert!(iter.next().is_none(), "expected an iterator to yield nothing after its error");
    case.reopen(Leave::Dropped);
}

pub(super) fn closes_twice(make: &Make<'_>) {
    let mut case = Case::new(make);
    done(case.close(), "closing an empty log");
    done(case.close(), "closing it a second time");
    if case.reopen(Leave::Dropped) {
        case.add(["a"], "after an empty log was closed twice and opened again");
        done(case.mark(), "leaving a mark");
        done(case.close(), "closing the log");
        done(case.close(), "closing it a second time");
        done(case.close(), "closing it a third time");
        case.reopen(Leave::Dropped);
    }
}

pub(super) fn reopens_many_times(make: &Make<'_>) {
    let mut case = Case::new(make);
    for round in 0..25_u64 {
        match round % 5 {
            0 => case.add([format!("entry of round {round}")], "after an append"),
            1 => case.add([format!("a {round}"), format!("b {round}")], "after a batch"),
            2 => case.keep(case.model.end().get().checked_sub(2), "after a trim"),
            // Opened and closed without a change.
            _ => {}
        }
        let leave = if round % 3 == 0 { Leave::Dropped } else { Leave::Closed };
        if !case.reopen(leave) {
            return;
        }
    }
}

/// What was acknowledged needs no close.
pub(super) fn a_log_that_was_dropped_is_whole(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.reopen(Leave::Dropped);
    case.add(["a", "b"], "after a batch");
    case.reopen(Leave::Dropped);
    case.one(append(vec![entry(2, 4, "c")]), "after an entry of term 4");
    let reader = case.reader();
    if case.reopen(Leave::Dropped) {
        let closed = |error: &LogError| matches!(error, LogError::Closed);
        fails(
            reader.read(Seq::ZERO, Seq::new(1), 1),
            "Closed for a reader of a log that was dropped and opened again",
            closed,
        );
    }
    case.keep(Some(1), "after a trim");
    case.reopen(Leave::Dropped);
}

pub(super) fn marks_change_nothing(make: &Make<'_>) {
    let mut case = Case::new(make);
    for round in 0..4_u64 {
        done(case.mark(), "leaving a mark");
        case.agrees("after a mark");
        done(case.mark(), "leaving a mark where there is one");
        case.agrees("after two marks");
        case.add([format!("entry {round}")], "after an entry that follows a mark");
        if round % 2 == 1 {
            done(case.mark(), "leaving a mark");
            case.reopen(Leave::Dropped);
        }
    }
    case.restart();
}

/// Two owners would overwrite each other.
pub(super) fn opens_only_once(make: &Make<'_>) {
    let mut case = Case::new(make);
    if !case.restarts() {
        return;
    }
    case.add(["a"], "after an entry");
    let locked = |error: &LogError| matches!(error, LogError::Locked(_));
    let expected = "Locked for opening a log that is open";
    refused(case.open_another().map(drop), expected, locked);
    case.add(["b"], "after a second opener was refused");
    refused(case.open_another().map(drop), expected, locked);
    done(case.close(), "closing the log");
    let other =
        done(case.open_another(), "opening a log that was closed, whose handle still exists");
    case.replace(other);
    case.agrees("after the log was opened by somebody else");
    refused(case.open_another().map(drop), expected, locked);
    case.add(["c"], "after the log was opened by somebody else");
    case.restart();
    assert!(u64_of(case.model.entries.len()) == case.stats().entries, "expected three entries");
}
