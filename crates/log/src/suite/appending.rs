//! Entries, batches, payloads.

use bytes::Bytes;
use tinyraftplus_core::Seq;

use super::{
    Make,
    case::{Case, append, done, hard},
    model::entry,
};
use crate::{EntryKind, LogExt, Write, num::usize_of, sim_disk::SimRng};

pub(super) fn an_empty_log(make: &Make<'_>) {
    let mut case = Case::new(make);
    assert!(case.head().is_ok_and(|head| head.is_none()), "expected no head in an empty log");
    assert!(case.iter(..).next().is_none(), "expected no entries in an empty log");
    case.restart();
    case.add(["first"], "after an empty log was opened again");
    case.restart();
}

pub(super) fn appends_in_order(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.add(["a"], "after the first append");
    case.add(["bb"], "after the second append");
    done(case.append_at(Seq::new(2), "ccc"), "append_at() with the seq that comes next");
    case.model.apply(&append(vec![entry(2, 0, "ccc")]));
    case.agrees("after append_at()");
    case.restart();
    case.add(["dddd"], "after opening again");
    let seqs = done(case.append_batch_at(Seq::new(4), ["e", "f"]), "append_batch_at()");
    assert!(
        seqs == (Seq::new(4)..Seq::new(6)),
        "expected append_batch_at() at 4 to return 4..6, found {seqs:?}"
    );
    let batch = case.model.next_batch(["e".into(), "f".into()]);
    case.model.apply(&append(batch));
    case.agrees("after append_batch_at()");
    case.restart();
    for number in 0..40 {
        case.add([format!("entry {number}")], "while appending one by one");
    }
    case.restart();
}

/// It begins where it should and ends once: whoever sends it on can tell where it is whole.
pub(super) fn a_batch_is_one(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.add(["a", "b", "c"], "after a batch of three");
    done(case.append_batch(["alone"]), "a batch of one");
    case.model.apply(&append(vec![entry(3, 0, "alone")]));
    case.agrees("after a batch of one");
    case.add((0..3000).map(|_| Bytes::new()), "after a batch of 3000 empty entries");
    case.add((0..1000).map(|number| format!("{number}")), "after a batch of 1000 entries");
    let both: Vec<_> = [["d", "e"], ["f", "g"]]
        .into_iter()
        .flatten()
        .zip(case.model.end().get()..)
        .map(|(payload, seq)| {
            let mut entry = entry(seq, 0, payload);
            entry.ends_batch = payload == "e" || payload == "g";
            entry
        })
        .collect();
    case.one(append(both), "after two batches in one write");
    case.restart();
}

pub(super) fn empty_payloads(make: &Make<'_>) {
    let mut case = Case::new(make);
    case.add([""], "after an empty entry");
    case.restart();
    case.add(["a"], "after an empty entry and another");
    case.add([""], "after a second empty entry");
    case.add(["", "b", "", ""], "after a batch with empty entries");
    case.add(["", ""], "after a batch of empty entries only");
    case.restart();
    case.keep(Some(2), "after a trim to an empty entry");
    case.restart();
}

pub(super) fn kinds_and_terms_are_kept(make: &Make<'_>) {
    let mut case = Case::new(make);
    let mut noop = entry(0, 1, "");
    noop.kind = EntryKind::Noop;
    case.one(append(vec![noop.clone()]), "after a no-op");
    let mut changed = entry(1, 1, "members");
    changed.kind = EntryKind::Configuration;
    case.one(
        append(vec![changed, entry(2, 1, "")]),
        "after a configuration entry and an empty one",
    );
    noop.id = entry(3, 7, "").id;
    case.one(
        append(vec![noop, entry(4, 7, "x"), entry(5, 9, "y")]),
        "after entries of later terms",
    );
    case.add(["standalone"], "when an append carries on in the newest entry's term");
    case.one(
        Write { hard_state: Some(hard(12, None)), ..Write::default() },
        "after the term rose to 12",
    );
    case.add(["z"], "when an append carries on in the newest term that was stored");
    case.restart();
    case.one(append(vec![entry(8, u64::MAX, "last term")]), "after an entry of the last term");
    case.restart();
}

pub(super) fn payloads_of_all_sizes(make: &Make<'_>) {
    let mut case = Case::new(make);
    let mut rng = SimRng::new(1);
    let max = usize_of(case.options().entry_bytes_max.min(1 << 20));
    let sizes = [1, 2, 3, 7, 127, 128, 129, 511, 512, 513, 1023, 2048, 4095, 4096, 4097, 16_383];
    let sizes = sizes.into_iter().filter(|&size| size < max).chain([max - 1, max]);
    for (number, size) in sizes.enumerate() {
        // A payload of zeros must not look like space that nothing was written to.
        let payload: Bytes = match number % 3 {
            0 => vec![0; size].into(),
            1 => vec![0xff; size].into(),
            _ => (0..size).map(|_| rng.next().to_le_bytes()[0]).collect(),
        };
        case.add([payload], &format!("after a payload of {size} bytes"));
    }
    case.restart();
}
