//! Good histories pass; each kind of wrong one is found, and as what it is.

use super::*;

/// A log with these payloads in term 1; `None` is an entry of the cluster's own.
fn log(payloads: &[Option<u64>]) -> Vec<Logged> {
    let what = |payload: &Option<u64>| payload.map_or(What::Own, What::Payload);
    payloads.iter().map(|payload| Logged { term: 1, what: what(payload) }).collect()
}

/// The hash of the history up to this seq.
fn hash(log: &[Logged], seq: u64) -> u64 {
    let mut hash = 0;
    for (at, entry) in (0..=seq).zip(log) {
        if let What::Payload(number) = entry.what {
            hash = machine::after(hash, at, number);
        }
    }
    hash
}

fn append(log: &[Logged], (began, ended): (u64, u64), first: u64, count: u64, seq: u64) -> Call {
    let outcome = Outcome::Committed { seq, hash: hash(log, seq + count - 1) };
    call((began, ended), Deed::Append { first, count, outcome })
}

fn other(moments: (u64, u64), first: u64, count: u64, outcome: Outcome) -> Call {
    call(moments, Deed::Append { first, count, outcome })
}

fn read(log: &[Logged], moments: (u64, u64), seq: u64) -> Call {
    call(moments, Deed::Read { seq, hash: hash(log, seq) })
}

/// Each call comes from a process of its own, unless a test says otherwise.
fn call((began, ended): (u64, u64), what: Deed) -> Call {
    Call { node: 1, process: began, order: 0, began, ended, what }
}

fn of_process(process: u64, order: u64, call: Call) -> Call {
    Call { process, order, ..call }
}

fn kinds(calls: &[Call], entries: &[Logged]) -> Vec<Kind> {
    Checker::default().part(calls, entries).into_iter().map(|found| found.kind).collect()
}

#[test]
fn a_good_history_passes() {
    let log = log(&[None, Some(10), Some(20), Some(21), None, Some(30), Some(50)]);
    let calls = [
        append(&log, (0, 5), 10, 1, 1),
        // At the same time as the one before: in any order.
        append(&log, (1, 4), 20, 2, 2),
        read(&log, (2, 3), 0),
        read(&log, (6, 7), 3),
        append(&log, (8, 9), 30, 1, 5),
        other((10, 11), 40, 3, Outcome::Refused),
        other((12, 13), 50, 1, Outcome::Unknown),
        other((14, 15), 60, 2, Outcome::Unknown),
        read(&log, (16, 17), 6),
    ];
    assert_eq!(Checker::default().part(&calls, &log), []);
}

#[test]
fn an_unknown_append_may_come_in_a_later_part() {
    let whole = log(&[None, Some(10), Some(20), Some(21)]);
    let mut checker = Checker::default();
    let calls = [append(&whole, (0, 1), 10, 1, 1), other((2, 3), 20, 2, Outcome::Unknown)];
    assert_eq!(checker.part(&calls, &whole[..2]), []);
    assert_eq!(checker.part(&[read(&whole, (4, 5), 3)], &whole[2..]), []);
    assert_eq!(checker.end(), 4);
    assert_eq!(checker.whole(2, &whole), []);
}

#[test]
fn a_lost_append_is_found() {
    let log = log(&[None, Some(10)]);
    let short = [append(&log, (0, 1), 10, 1, 1), append(&log, (2, 3), 20, 1, 2)];
    assert_eq!(kinds(&short, &log), [Kind::Lost]);
    let elsewhere = [append(&log, (0, 1), 10, 1, 0)];
    assert_eq!(kinds(&elsewhere, &log), [Kind::Lost]);
    let half = [append(&log, (0, 1), 10, 2, 1)];
    assert_eq!(kinds(&half, &log), [Kind::Lost]);
}

#[test]
fn a_duplicated_append_is_found() {
    let log = log(&[None, Some(10), Some(10)]);
    assert_eq!(kinds(&[append(&log, (0, 1), 10, 1, 1)], &log), [Kind::Duplicated]);
    // In a later part too: a retry that comes late.
    let mut checker = Checker::default();
    assert_eq!(checker.part(&[append(&log, (0, 1), 10, 1, 1)], &log[..2]), []);
    let found = checker.part(&[], &log[2..]);
    assert_eq!(found.first().map(|found| found.kind), Some(Kind::Duplicated));
}

#[test]
fn a_refused_append_that_is_there_is_found() {
    let log = log(&[None, Some(10)]);
    let refused = [other((0, 1), 10, 1, Outcome::Refused)];
    assert_eq!(kinds(&refused, &log), [Kind::NotRefused]);
    let mut checker = Checker::default();
    assert_eq!(checker.part(&refused, &log[..1]), []);
    let found = checker.part(&[], &log[1..]);
    assert_eq!(found.first().map(|found| found.kind), Some(Kind::NotRefused));
}

#[test]
fn a_torn_batch_is_found() {
    let log = log(&[None, Some(10), None, Some(11)]);
    assert_eq!(kinds(&[other((0, 1), 10, 2, Outcome::Unknown)], &log), [Kind::Torn]);
    assert_eq!(kinds(&[other((0, 1), 9, 2, Outcome::Unknown)], &log[..2]), [Kind::Torn]);
}

#[test]
fn what_nobody_appended_is_found() {
    let mut log = log(&[None, Some(12)]);
    assert_eq!(kinds(&[], &log), [Kind::Foreign]);
    assert_eq!(kinds(&[other((0, 1), 10, 2, Outcome::Unknown)], &log), [Kind::Foreign]);
    log[1].what = What::Damaged;
    assert_eq!(kinds(&[], &log), [Kind::Foreign]);
}

#[test]
fn appends_in_another_order_than_they_were_made_in_are_found() {
    let log = log(&[None, Some(10), Some(20)]);
    let calls = [append(&log, (0, 1), 20, 1, 2), append(&log, (2, 3), 10, 1, 1)];
    assert_eq!(kinds(&calls, &log), [Kind::Order]);
    // The second one's caller does not know, and yet it must not come first.
    let calls = [append(&log, (0, 1), 20, 1, 2), other((2, 3), 10, 1, Outcome::Unknown)];
    assert_eq!(kinds(&calls, &log), [Kind::Order]);
    // After a read, everything new comes after what was read.
    let calls =
        [append(&log, (0, 10), 20, 1, 2), read(&log, (1, 2), 2), append(&log, (3, 4), 10, 1, 1)];
    assert_eq!(kinds(&calls, &log), [Kind::Order]);
}

#[test]
fn calls_of_one_process_at_once_that_change_places_are_found() {
    let log = log(&[None, Some(10), Some(20)]);
    let late = of_process(7, 1, append(&log, (1, 9), 10, 1, 1));
    let early = of_process(7, 0, append(&log, (0, 8), 20, 1, 2));
    assert_eq!(kinds(&[early, late], &log), [Kind::CallOrder]);
    assert_eq!(kinds(&[late, early], &log), [Kind::CallOrder]);
    let elsewhere = of_process(8, 1, late);
    assert_eq!(kinds(&[early, elsewhere], &log), []);
}

#[test]
fn a_stale_read_is_found() {
    let log = log(&[None, Some(10), Some(20)]);
    let calls = [append(&log, (0, 1), 10, 1, 1), read(&log, (2, 3), 0)];
    assert_eq!(kinds(&calls[..], &log[..2]), [Kind::Stale]);
    // Two reads, one after the other, go back.
    let calls = [append(&log, (0, 9), 10, 1, 1), read(&log, (1, 2), 1), read(&log, (3, 4), 0)];
    assert_eq!(kinds(&calls, &log[..2]), [Kind::Stale]);
    // In a later part.
    let mut checker = Checker::default();
    assert_eq!(checker.part(&[append(&log, (0, 1), 10, 1, 1)], &log[..2]), []);
    let calls = [append(&log, (9, 10), 20, 1, 2), read(&log, (2, 3), 0)];
    let found = checker.part(&calls, &log[2..]);
    assert_eq!(found.first().map(|found| found.kind), Some(Kind::Stale));
}

#[test]
fn an_answer_that_is_not_of_the_history_is_found() {
    let log = log(&[None, Some(10)]);
    let wrong = call((2, 3), Deed::Read { seq: 1, hash: 4711 });
    assert_eq!(kinds(&[append(&log, (0, 1), 10, 1, 1), wrong], &log), [Kind::Answer]);
    let wrong = other((0, 1), 10, 1, Outcome::Committed { seq: 1, hash: 4711 });
    assert_eq!(kinds(&[wrong], &log), [Kind::Answer]);
    let beyond = read(&log, (2, 3), 2);
    assert_eq!(kinds(&[append(&log, (0, 1), 10, 1, 1), beyond], &log), [Kind::Answer]);
}

#[test]
fn logs_that_differ_are_found() {
    let one = log(&[None, Some(10), Some(20)]);
    let mut other = one.clone();
    assert_eq!(diverged("node 1", &one, 2, &other, 5), None);
    other[1].term = 2;
    let found = diverged("node 1", &one, 2, &other, 5).unwrap();
    assert_eq!(found.kind, Kind::Diverged);
    assert!(found.what.contains("seq 6"), "{found}");
    assert!(diverged("node 1", &one, 2, &one[..2], 0).is_some());
    assert!(diverged("node 1", &one[..2], 2, &one, 0).is_some());
}
