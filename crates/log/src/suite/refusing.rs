//! What is refused, and that a refused call changes nothing.

use bytes::Bytes;
use tinyraftplus_core::Seq;

use super::{
    Make,
    case::{Case, append, hard, refused, same, trim_to},
    model::entry,
};
use crate::{
    LogError, LogExt, Write,
    num::{u64_of, usize_of},
};

pub(super) fn a_wrong_seq_is_refused(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.add(["a", "b"], "after two entries");
    for (seq, why) in [(3, "past"), (1, "within"), (0, "within"), (u64::MAX - 1, "far past")] {
        let expected = format!("WrongSeq for append_at({seq}), {why} a log that ends at 2");
        let is = |error: &LogError| matches!(error, LogError::WrongSeq { expected, got } if *expected == Seq::new(2) && *got == Seq::new(seq));
        let error = refused(case.append_at(Seq::new(seq), "x"), &expected, is);
        let text = error.to_string();
        assert!(
            text.contains('2') && text.contains(&seq.to_string()),
            "expected the words of WrongSeq to name both seqs, 2 and {seq}; found: {text}"
        );
        refused(case.append_batch_at(Seq::new(seq), ["x"]), &expected, is);
        case.refuses(&[append(vec![entry(seq, 0, "x")])], &expected, is);
    }
    case.refuses(
        &[append(vec![entry(2, 0, "fits"), entry(4, 0, "x")])],
        "WrongSeq for a gap inside a write",
        |error| matches!(error, LogError::WrongSeq { .. }),
    );
    case.refuses(
        &[append(vec![entry(2, 0, "fits"), entry(2, 0, "x")])],
        "WrongSeq for the same seq twice in a write",
        |error| matches!(error, LogError::WrongSeq { .. }),
    );
    done_after(&mut case);
}

pub(super) fn an_empty_batch_is_refused(make: &Make<'_>) {
    let mut case = Case::new(make);
    let none: [Bytes; 0] = [];
    let is = |error: &LogError| matches!(error, LogError::Empty);
    refused(case.append_batch(none.clone()), "Empty for a batch without entries", is);
    refused(case.append_batch_at(Seq::ZERO, none.clone()), "Empty for a batch without entries", is);
    case.agrees("after empty batches were refused");
    case.add(["a"], "after empty batches were refused");
    refused(case.append_batch(none), "Empty for a batch without entries", is);
    done_after(&mut case);
}

pub(super) fn a_split_batch_is_refused(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.add(["a"], "after an entry");
    let mut open = entry(1, 0, "b");
    open.ends_batch = false;
    let is =
        |error: &LogError| matches!(error, LogError::BatchSplit { last } if *last == Seq::new(1));
    case.refuses(&[append(vec![open.clone()])], "BatchSplit for a batch without its end", is);
    // Not even if the rest comes with the next write of the group.
    case.refuses(
        &[append(vec![open]), append(vec![entry(2, 0, "c")])],
        "BatchSplit for a batch over two writes",
        is,
    );
    done_after(&mut case);
}

pub(super) fn terms_never_go_down(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.one(append(vec![entry(0, 3, "a"), entry(1, 5, "b")]), "after entries of terms 3 and 5");
    let is = |error: &LogError| matches!(error, LogError::WrongTerm { .. });
    let expected = "WrongTerm for an entry of term 4 after one of term 5";
    case.refuses(&[append(vec![entry(2, 4, "x")])], expected, is);
    case.refuses(&[append(vec![entry(2, 6, "y"), entry(3, 5, "x")])], expected, is);
    // What was trimmed does not count.
    let repaired = Write { append: vec![entry(1, 4, "B")], ..trim_to(1) };
    case.one(repaired, "after a trim to term 3, with an entry of term 4");
    done_after(&mut case);
}

pub(super) fn limits_are_named(make: &Make<'_>) {
    let mut case = Case::new(make);
    if !case.has_limits() {
        return;
    }
    let (entry_max, batch_max) = (case.options().entry_bytes_max, case.options().batch_bytes_max);
    same(&case.entry_bytes_max(), &entry_max, "entry_bytes_max()");
    same(&case.batch_bytes_max(), &batch_max, "batch_bytes_max()");
    let zeros = |size: u64| Bytes::from(vec![0; usize_of(size)]);
    let names = |error: LogError, limit: u64| {
        let text = error.to_string();
        assert!(
            text.contains(&limit.to_string()),
            "expected the words of TooLarge to name the limit of {limit} bytes; found: {text}"
        );
    };
    let of = |limit: u64| move |error: &LogError| matches!(error, LogError::TooLarge { limit: found, .. } if *found == limit);
    if entry_max <= batch_max {
        let error = refused(
            case.append(zeros(entry_max + 1)),
            "TooLarge for an entry of one byte more than entry_bytes_max",
            of(entry_max),
        );
        names(error, entry_max);
        case.agrees("after an entry over the limit was refused");
        case.add([zeros(entry_max)], "after an entry of exactly entry_bytes_max");
    }
    let one = entry_max.min(batch_max);
    let mut batch: Vec<Bytes> = (0..batch_max / one).map(|_| zeros(one)).collect();
    batch.push(zeros(batch_max % one));
    case.add(batch.clone(), "after a batch of exactly batch_bytes_max");
    batch.push(zeros(1));
    let error = refused(
        case.append_batch(batch.clone()),
        "TooLarge for a batch of one byte more than batch_bytes_max",
        of(batch_max),
    );
    names(error, batch_max);
    case.agrees("after a batch over the limit was refused");
    // Each batch counts for itself.
    let halves = case.model.next_batch([zeros(one), zeros(1)]);
    let mut two = halves.clone();
    two.extend(halves.into_iter().map(|mut entry| {
        entry.id.seq = Seq::new(entry.id.seq.get() + 2);
        entry
    }));
    case.one(append(two), "after two batches in one write");
    done_after(&mut case);
}

/// One refused call after the other, and each time the next call works.
pub(super) fn a_refused_call_changes_nothing(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.one(append(vec![entry(0, 2, "a"), entry(1, 2, "b")]), "after two entries");
    let fine = |case: &Case| append(case.model.next_batch(["fine".into()]));
    let wrong = |seq: u64, term: u64| append(vec![entry(seq, term, "x")]);
    for round in 0..3_u64 {
        let end = case.model.end().get();
        let mut whole = fine(&case);
        whole.hard_state = Some(hard(20 + round, Some(3)));
        let bad = [
            vec![wrong(end + 1, 9)],
            vec![wrong(end, 1)],
            vec![whole.clone(), wrong(end, 30)],
            vec![Write { hard_state: Some(hard(20, None)), ..Write::default() }, wrong(end, 1)],
            vec![trim_to(1), wrong(end, 9)],
            vec![
                Write {
                    reset: Some(crate::Reset { start: Seq::ZERO, before: case.model.before }),
                    ..Write::default()
                },
                wrong(7, 9),
            ],
        ];
        for (number, group) in bad.iter().enumerate() {
            case.refuses(
                group,
                &format!("refusal {number} of a group whose last write is wrong"),
                |error| matches!(error, LogError::WrongSeq { .. } | LogError::WrongTerm { .. }),
            );
            case.add(["next"], "after a refused call");
        }
        whole.append = case.model.next_batch([Bytes::from(format!("round {round}"))]);
        case.one(whole, "after several refused calls");
        case.restart();
    }
    assert!(case.stats().entries == u64_of(case.model.entries.len()), "expected all entries");
}

/// The log works on.
#[track_caller]
fn done_after(case: &mut Case) {
    case.agrees("after refused calls");
    case.add(["next"], "after refused calls");
    case.restart();
}
