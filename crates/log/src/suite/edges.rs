//! The far end of the positions.

use tinyraftplus_core::Seq;

use super::{
    Make,
    case::{Case, append, compact_before, refused, trim_to},
    model::entry,
};
use crate::{LogError, LogExt, Write};

/// 2^53: beyond it, floating-point numbers skip positions.
pub(super) fn grows_at_the_limit_of_doubles(make: &Make<'_>) {
    grows_past(make, 1 << 53);
}

/// 2^63: beyond it, signed numbers are negative.
pub(super) fn grows_at_the_limit_of_signed_numbers(make: &Make<'_>) {
    grows_past(make, 1 << 63);
}

fn grows_past(make: &Make<'_>, limit: u64) {
    let mut case = Case::starting_at(make, Seq::ZERO);
    if !case.begins_anywhere() {
        return;
    }
    case = Case::starting_at(make, Seq::new(limit - 2));
    case.restart();
    for number in 0..3 {
        case.add([format!("entry {number}")], "while growing past the limit one by one");
        case.restart();
    }
    case.keep(Some(limit - 2), "after a trim to before the limit");
    case.add(["a", "b", "c", "d"], "after a batch across the limit");
    case.restart();
    case.one(
        Write { append: vec![entry(limit, 1, "A"), entry(limit + 1, 2, "B")], ..trim_to(limit) },
        "after a trim and appends at the limit",
    );
    if case.compacts() {
        case.one(compact_before(limit - 1), "after a compaction to before the limit");
        case.restart();
        case.one(compact_before(limit + 1), "after a compaction to past the limit");
    }
    case.restart();
}

/// 2^64 - 3 up to the last position there is, 2^64 - 2, and no further.
pub(super) fn grows_to_the_last_position(make: &Make<'_>) {
    let mut case = Case::starting_at(make, Seq::ZERO);
    if !case.begins_anywhere() {
        return;
    }
    let first = u64::MAX - 2;
    case = Case::starting_at(make, Seq::new(first));
    case.add(["x", "y"], "after the last two positions were filled");
    let full = |error: &LogError| matches!(error, LogError::Full);
    let expected = "Full for an append when no position is left";
    refused(case.append("z"), expected, full);
    refused(case.append_batch(["z", "z"]), expected, full);
    refused(case.append_at(Seq::MAX, "z"), expected, full);
    case.refuses(&[append(vec![entry(u64::MAX, 0, "z")])], expected, full);
    case.restart();
    refused(case.append("z"), expected, full);
    case.keep(Some(first), "after the last position was trimmed");
    refused(
        case.append_batch(["y", "z"]),
        "Full for a batch that has only one position left",
        full,
    );
    case.agrees("after a batch over the last position was refused");
    case.add(["Y"], "after the last position was filled again");
    case.restart();
    if case.compacts() {
        case.one(compact_before(u64::MAX), "after a full log was compacted to its end");
        case.restart();
        refused(case.append("z"), expected, full);
    }
    case.keep(None, "after a full log was emptied");
    case.restart();
}
