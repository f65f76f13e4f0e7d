//! `02log`.

use bytes::Bytes;
use tinyraftplus_core::Seq;
use tinyraftplus_log::{LogError, LogExt};

use crate::{
    Kind,
    place::{Place, large},
};

pub(crate) fn log_01_append_reopen(kind: Kind) {
    let mut place = Place::new(kind);
    place.is(None, "");
    for (seq, text) in [(0, "a"), (1, "bb"), (2, "ccc")] {
        assert_eq!(place.append(text), seq);
        place.is(Some(seq), text);
    }
    place.reopen();
    place.is(Some(2), "ccc");
    assert_eq!(place.append("dddd"), 3);
    place.is(Some(3), "dddd");
    place.reopen_unclosed();
    place.is(Some(3), "dddd");
    assert_eq!(place.append("eeeee"), 4);
    place.is(Some(4), "eeeee");
}

pub(crate) fn log_02_append_one_reopen(kind: Kind) {
    let mut place = Place::new(kind);
    assert_eq!(place.append("a"), 0);
    place.reopen();
    assert_eq!(place.append("b"), 1);
    place.is(Some(1), "b");
}

/// Fails, as the two after it, if a write that failed is not latched, if a refused one stays in memory, or if a
/// full disk counts as a failed write.
pub(crate) fn log_03_first_append_fails(kind: Kind) {
    let mut place = Place::new(kind);
    place.fails_for_good(|log| log.append("x"), &[(0, "x")]);
    place.refused_for_space(|log| log.append(large()));
    place.is(None, "");
    assert_eq!(place.append("a"), 0);
}

pub(crate) fn log_04_second_append_fails(kind: Kind) {
    let mut place = Place::new(kind);
    place.append("a");
    place.fails_for_good(|log| log.append("x"), &[(0, "a"), (1, "x")]);
    place.refused_for_space(|log| log.append(large()));
    place.is(Some(0), "a");
    place.reopen();
    place.is(Some(0), "a");
}

pub(crate) fn log_05_third_append_fails(kind: Kind) {
    let mut place = Place::new(kind);
    place.append("a");
    place.append("b");
    place.fails_for_good(|log| log.append("x"), &[(0, "a"), (1, "b"), (2, "x")]);
    place.refused_for_space(|log| log.append(large()));
    place.is(Some(1), "b");
    assert_eq!(place.append("c"), 2);
}

pub(crate) fn log_06_trim(kind: Kind) {
    let mut place = Place::new(kind);
    place.log().trim(None).unwrap();
    place.is(None, "");
    place.append("a");
    place.append("b");
    place.log().trim(None).unwrap();
    place.is(None, "");
    assert_eq!(place.append("c"), 0);
    place.append("d");
    place.log().trim(Some(Seq::ZERO)).unwrap();
    place.is(Some(0), "c");
    assert_eq!(place.append("e"), 1);
    place.is(Some(1), "e");
    assert_eq!(place.append("f"), 2);
    place.is(Some(2), "f");
}

pub(crate) fn log_07_trim_of_an_empty_log_reopen(kind: Kind) {
    let mut place = Place::new(kind);
    place.log().trim(None).unwrap();
    place.reopen();
    place.is(None, "");
}

/// The original trims even though it reports a failure. Here a full disk does not keep a trim from working, and
/// a failed sync leaves it whole or undone. Fails if no space is held back for trims.
pub(crate) fn log_08_trim_fails(kind: Kind) {
    let mut place = Place::new(kind);
    place.append("a");
    place.append("b");
    place.fails_for_good(|log| log.trim(None), &[]);
    place.fails_for_good(|log| log.trim(Some(Seq::ZERO)), &[(0, "a")]);
    place.fill_the_disk();
    place.log().trim(None).unwrap();
    place.is(None, "");
    place.reopen();
    place.is(None, "");
}

pub(crate) fn log_09_append_and_batch(kind: Kind) {
    let mut place = Place::new(kind);
    assert_eq!(place.append("a"), 0);
    assert_eq!(place.batch(&["b", "cc"]), 1);
    place.is(Some(2), "cc");
    assert_eq!(place.append("d"), 3);
    place.is(Some(3), "d");
    assert_eq!(place.append("e"), 4);
    place.is(Some(4), "e");
}

pub(crate) fn log_10_batches_reopen(kind: Kind) {
    let mut place = Place::new(kind);
    assert_eq!(place.batch(&["a", "b"]), 0);
    place.reopen();
    place.is(Some(1), "b");
    assert_eq!(place.batch(&["c", "dd"]), 2);
    place.reopen_unclosed();
    place.is(Some(3), "dd");
    assert_eq!(place.batch(&["e", "fff"]), 4);
    place.is(Some(5), "fff");
}

/// Fails, as the two after it, for the same reasons as the third scenario, and if a batch is there in part.
pub(crate) fn log_11_first_batch_fails(kind: Kind) {
    let mut place = Place::new(kind);
    place.fails_for_good(|log| log.append_batch(["x", "y"]), &[(0, "x"), (1, "y")]);
    place.refused_for_space(|log| log.append_batch([Bytes::from("x"), large()]));
    place.is(None, "");
    assert_eq!(place.batch(&["a", "b"]), 0);
}

pub(crate) fn log_12_second_batch_fails(kind: Kind) {
    let mut place = Place::new(kind);
    place.append("a");
    place.fails_for_good(|log| log.append_batch(["x", "y"]), &[(0, "a"), (1, "x"), (2, "y")]);
    place.refused_for_space(|log| log.append_batch([Bytes::from("x"), large()]));
    place.is(Some(0), "a");
    place.reopen();
    place.is(Some(0), "a");
}

pub(crate) fn log_13_batch_after_a_batch_fails(kind: Kind) {
    let mut place = Place::new(kind);
    place.append("a");
    place.batch(&["b", "c"]);
    let all = [(0, "a"), (1, "b"), (2, "c"), (3, "x"), (4, "y")];
    place.fails_for_good(|log| log.append_batch(["x", "y"]), &all);
    place.refused_for_space(|log| log.append_batch([large(), Bytes::from("y")]));
    place.is(Some(2), "c");
    assert_eq!(place.batch(&["d", "e"]), 3);
}

pub(crate) fn log_14_batch_and_trim_all(kind: Kind) {
    let mut place = Place::new(kind);
    place.batch(&["a", "b"]);
    place.log().trim(None).unwrap();
    place.is(None, "");
}

pub(crate) fn log_15_batch_and_trim_to_the_first(kind: Kind) {
    let mut place = Place::new(kind);
    place.batch(&["a", "b"]);
    place.log().trim(Some(Seq::ZERO)).unwrap();
    place.is(Some(0), "a");
    assert_eq!(place.batch(&["c"]), 1);
    place.is(Some(1), "c");
}

pub(crate) fn log_16_batch_and_trim_to_the_last(kind: Kind) {
    let mut place = Place::new(kind);
    place.batch(&["a", "b"]);
    place.log().trim(Some(Seq::new(1))).unwrap();
    place.is(Some(1), "b");
    assert_eq!(place.batch(&["c"]), 2);
    place.is(Some(2), "c");
}

pub(crate) fn log_17_empty_payloads_reopen(kind: Kind) {
    let mut place = Place::new(kind);
    for (seq, text) in [(0, ""), (1, "a"), (2, ""), (3, "b")] {
        assert_eq!(place.append(text), seq);
        place.is(Some(seq), text);
    }
    place.append("");
    place.reopen();
    place.is(Some(4), "");
    assert_eq!(place.append(""), 5);
    place.reopen_unclosed();
    place.is(Some(5), "");
    let sizes: Vec<_> = place.log().iter(..).map(|entry| entry.unwrap().payload.len()).collect();
    assert_eq!(sizes, [0, 1, 0, 1, 0, 0]);
}

pub(crate) fn log_18_empty_payloads_in_batches_reopen(kind: Kind) {
    let mut place = Place::new(kind);
    assert_eq!(place.batch(&["", "a"]), 0);
    place.is(Some(1), "a");
    assert_eq!(place.batch(&["b", ""]), 2);
    place.is(Some(3), "");
    assert_eq!(place.batch(&["", ""]), 4);
    place.reopen();
    place.is(Some(5), "");
    place.reopen_unclosed();
    place.is(Some(5), "");
    assert_eq!(place.batch(&["c"]), 6);
}

/// There, both calls get the same promise. Here a log is opened by making it, so a second one is another owner.
/// Fails without the lock.
pub(crate) fn log_19_opened_twice(kind: Kind) {
    let mut place = Place::new(kind);
    assert!(matches!((kind.open)(&place.disk).map(drop), Err(LogError::Locked(_))));
    assert_eq!(place.append("a"), 0);
    place.is(Some(0), "a");
}

pub(crate) fn log_20_closed_twice(kind: Kind) {
    let mut place = Place::new(kind);
    place.append("a");
    place.log().close().unwrap();
    place.log().close().unwrap();
    place.reopen_unclosed();
    place.is(Some(0), "a");
}
