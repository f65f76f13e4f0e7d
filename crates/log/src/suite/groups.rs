//! Groups of writes: all or nothing, in their order.

use bytes::Bytes;
use tinyraftplus_core::{Seq, Term};

use super::{
    Make,
    case::{Case, append, hard, refused, trim_to},
    model::entry,
};
use crate::{
    LogError, Reset, Write,
    num::{u64_of, usize_of},
};

pub(super) fn a_group_is_all_or_nothing(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.add(["a"], "after an entry");
    case.group(
        &[
            append(vec![entry(1, 1, "b")]),
            Write { append: vec![entry(0, 1, "A")], ..trim_to(0) },
            append(vec![entry(1, 2, "B"), entry(2, 2, "C")]),
        ],
        "after a group that trims what it appended",
    );
    case.restart();
    let everything = Write {
        hard_state: Some(hard(9, Some(9))),
        reset: Some(Reset { start: Seq::new(5), before: Term::new(3) }),
        append: vec![entry(5, 9, "gone"), entry(6, 9, "gone")],
        ..Write::default()
    };
    case.refuses(
        &[everything.clone(), trim_to(6), append(vec![entry(7, 9, "does not follow")])],
        "WrongSeq for a group whose last write does not follow",
        |error| matches!(error, LogError::WrongSeq { .. }),
    );
    case.restart();
    case.group(
        &[everything, trim_to(6), append(vec![entry(6, 9, "follows")])],
        "after the same group with a last write that follows",
    );
    case.restart();
}

/// Hard state, configuration, reset, trim, compact, append: each sees what the ones before it did.
pub(super) fn a_write_happens_in_its_order(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.add(["a", "b", "c"], "after three entries");
    case.one(
        Write {
            hard_state: Some(hard(4, Some(2))),
            reset: Some(Reset { start: Seq::new(10), before: Term::new(2) }),
            trim: Some(Seq::new(10)),
            append: vec![entry(10, 3, "d"), entry(11, 4, "e")],
            ..Write::default()
        },
        "after a write with a term, a reset, a trim to its start and appends",
    );
    case.restart();
    let late = Write { append: vec![entry(12, 4, "x")], ..trim_to(11) };
    case.refuses(
        &[late],
        "WrongSeq for an append after a trim in the same write",
        |error| matches!(error, LogError::WrongSeq { expected, .. } if *expected == Seq::new(11)),
    );
    let early =
        Write { reset: Some(Reset { start: Seq::new(20), before: Term::new(4) }), ..trim_to(11) };
    case.refuses(
        &[early],
        "Compacted for a trim below the start of a reset in the same write",
        |error| matches!(error, LogError::Compacted { start, .. } if *start == Seq::new(20)),
    );
    case.restart();
}

pub(super) fn groups_that_change_nothing(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.group(&[], "after a group without writes, on an empty log");
    case.add(["a", "b"], "after two entries");
    case.group(&[], "after a group without writes");
    case.group(&[Write::default(), Write::default()], "after a group of empty writes");
    case.group(&[trim_to(2), trim_to(7)], "after a group of trims that trim nothing");
    case.one(Write { hard_state: Some(hard(0, None)), ..Write::default() }, "after the same term");
    case.restart();
    case.group(
        &[Write::default(), append(vec![entry(2, 0, "c")]), Write::default()],
        "after a group with an append between empty writes",
    );
    case.restart();
}

/// Whoever splits what piled up at [`Log::group_bytes_max`] is never refused.
pub(super) fn groups_of_any_size_in_the_limit(make: &Make<'_>) {
    let mut case = Case::new(make);
    let limit = case.group_bytes_max();
    if !case.has_limits() || limit > 64 << 20 {
        return;
    }
    for payload in [0, 1, 100, case.options().entry_bytes_max] {
        let each = payload + 32 + 1024;
        let group: Vec<Write> = (0..limit / each)
            .map(|number| {
                let seq = case.model.end().get() + number;
                append(vec![entry(seq, 0, Bytes::from(vec![1; usize_of(payload)]))])
            })
            .collect();
        case.group(&group, &format!("after a group of {} entries of {payload} bytes", group.len()));
        case.keep(Some(0), "after a trim to the first entry");
    }
    case.restart();
    let seqs = 0..limit / case.options().entry_bytes_max + 40;
    let payload = Bytes::from(vec![1; usize_of(case.options().entry_bytes_max)]);
    let group: Vec<Write> =
        seqs.map(|number| append(vec![entry(1 + number, 0, payload.clone())])).collect();
    let error = refused(
        case.write(&group),
        "TooLarge for a group whose payloads alone are over group_bytes_max()",
        |error| matches!(error, LogError::TooLarge { .. }),
    );
    assert!(
        matches!(error, LogError::TooLarge { bytes, limit, .. } if bytes > limit),
        "expected TooLarge to name more bytes than its limit; found {error:?}"
    );
    case.agrees("after a group over the limit was refused");
    // A group costs as a whole, not for each write.
    let before = case.stats().syncs;
    let mut writes = 0;
    for round in 0..5_u64 {
        let end = case.model.end().get();
        let group: Vec<Write> = (0..8).map(|n| append(vec![entry(end + n, 0, "x")])).collect();
        writes += u64_of(group.len());
        case.group(&group, &format!("after group {round} of eight writes"));
    }
    let syncs = case.stats().syncs - before;
    assert!(
        syncs < writes / 2,
        "expected {writes} writes in 5 groups to need less than half as many syncs, found {syncs}"
    );
    case.restart();
}
