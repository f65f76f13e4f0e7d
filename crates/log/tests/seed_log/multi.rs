//! `05multi`: segments of 64 bytes there, of 64 times `scale` here.

use std::io::ErrorKind;

use bytes::Bytes;
use tinyraftplus_core::Seq;
use tinyraftplus_log::{Disk, Effect, Log, LogError, LogExt};

use crate::{
    Kind, log,
    place::{Place, large},
};

/// How many segments there are, where that can be said: a segment has a header too, and frames.
#[track_caller]
pub(crate) fn has_segments(place: &mut Place, at_least: u64) {
    let segments = place.segments();
    if place.kind.segmented {
        assert!(segments >= at_least, "{segments} segments, and not {at_least}");
    }
}

pub(crate) fn multi_01_append_reopen(kind: Kind) {
    let mut place = Place::new(kind);
    for (seq, count, segments) in [(0, 32, 1), (1, 40, 2), (2, 24, 2)] {
        let payload = place.payload(count, &format!("{seq}"));
        assert_eq!(place.log().append(payload).unwrap().get(), seq);
        place.is(Some(seq), &format!("{seq}"));
        has_segments(&mut place, segments);
    }
    place.reopen();
    place.is(Some(2), "2");
    let payload = place.payload(16, "3");
    place.log().append(payload).unwrap();
    has_segments(&mut place, 2);
    place.reopen_unclosed();
    place.is(Some(3), "3");
    let before = place.segments();
    assert_eq!(place.append("small"), 4);
    place.is(Some(4), "small");
    assert!(place.segments() <= before + 1);
}

pub(crate) fn multi_02_append_one_reopen(kind: Kind) {
    let mut place = Place::new(kind);
    let payload = place.payload(32, "a");
    place.log().append(payload).unwrap();
    place.reopen();
    let payload = place.payload(32, "b");
    assert_eq!(place.log().append(payload).unwrap().get(), 1);
    place.is(Some(1), "b");
}

/// Each entry takes a segment: the one that fails would have begun another.
pub(crate) fn fails_after(
    kind: Kind,
    count: u64,
    call: impl Fn(&mut dyn Log) -> Result<(), LogError>,
) -> Place {
    let mut place = Place::new(kind);
    for number in 0..count {
        let payload = place.payload(48, &format!("entry {number}"));
        place.log().append(payload).unwrap();
    }
    let before: Vec<_> = place.log().iter(..).map(Result::unwrap).collect();
    for sync in 0..3 {
        let disk = place.disk.fork();
        disk.kill();
        let mut log = (kind.open)(&disk).unwrap();
        disk.fail_sync(sync, ErrorKind::Other);
        if let Err(error) = call(&mut *log) {
            if error.effect() == Effect::None {
                // Another segment could not be begun: nothing was in doubt.
                assert!(!error.is_fatal(), "{error:?}");
                assert_eq!(log.iter(..).map(Result::unwrap).collect::<Vec<_>>(), before);
                log.trim(None).unwrap();
                log.append("works on").unwrap();
                continue;
            }
            assert!(error.is_fatal(), "{error:?}");
            drop(log);
            disk.power_loss_choosing(|_, _| 0);
            let log = (kind.open)(&disk).unwrap();
            assert_eq!(log.iter(..).map(Result::unwrap).collect::<Vec<_>>(), before);
        }
    }
    place.refused_for_space(call);
    let after: Vec<_> = place.log().iter(..).map(Result::unwrap).collect();
    assert_eq!(after, before);
    place
}

pub(crate) fn multi_03_first_append_fails(kind: Kind) {
    let mut place = fails_after(kind, 0, |log| log.append(large()).map(drop));
    place.is(None, "");
}

pub(crate) fn multi_04_second_append_fails(kind: Kind) {
    let mut place = fails_after(kind, 1, |log| log.append(large()).map(drop));
    place.is(Some(0), "entry 0");
    place.reopen();
    place.is(Some(0), "entry 0");
}

pub(crate) fn multi_05_third_append_fails(kind: Kind) {
    let mut place = fails_after(kind, 3, |log| log.append(large()).map(drop));
    has_segments(&mut place, 3);
    place.is(Some(2), "entry 2");
    assert_eq!(place.append("next"), 3);
}

pub(crate) fn multi_06_trim_across_segments(kind: Kind) {
    for count in 1..=3_u64 {
        for keep in [None, Some(0), Some(1)] {
            let mut place = Place::new(kind);
            for number in 0..count {
                let payload = place.payload(48, &format!("entry {number}"));
                place.log().append(payload).unwrap();
            }
            has_segments(&mut place, count);
            place.log().trim(keep.map(Seq::new)).unwrap();
            let last = keep.map(|keep| keep.min(count - 1));
            for _ in 0..2 {
                place.is(last, &last.map(|seq| format!("entry {seq}")).unwrap_or_default());
                place.reopen();
            }
            let payload = place.payload(48, "next");
            let next = last.map_or(0, |last| last + 1);
            assert_eq!(place.log().append(payload).unwrap().get(), next);
            place.reopen_unclosed();
            place.is(Some(next), "next");
        }
    }
}

/// `segments_misordered`: the original reopens 11 segments and more in the order of their names as text. Fails if
/// segments are ordered so.
pub(crate) fn multi_07_many_segments_keep_their_order(kind: Kind) {
    for of_a_segment in [32, 20, 10, 5] {
        let mut place = Place::new(kind);
        for number in 0..100 {
            let payload = place.payload(of_a_segment, &format!("entry {number}."));
            assert_eq!(place.log().append(payload).unwrap().get(), number);
        }
        has_segments(&mut place, 100 * of_a_segment as u64 / 64);
        for keep in [99, 55, 44] {
            place.log().trim(Some(Seq::new(keep))).unwrap();
            place.is(Some(keep), &format!("entry {keep}."));
            place.reopen();
            place.is(Some(keep), &format!("entry {keep}."));
            for (entry, number) in place.log().iter(..).zip(0..) {
                let entry = entry.unwrap();
                assert_eq!(entry.id.seq.get(), number);
                assert!(entry.payload.starts_with(format!("entry {number}.").as_bytes()));
            }
        }
        assert_eq!(place.append("next"), 45);
    }
}

pub(crate) fn multi_08_trim_fails(kind: Kind) {
    let mut place = fails_after_trim(kind);
    place.is(Some(2), "entry 2");
    place.fill_the_disk();
    place.log().trim(None).unwrap();
    place.is(None, "");
    place.reopen();
    place.is(None, "");
}

/// A failed trim across segments leaves all or, after a restart, what it was to leave.
pub(crate) fn fails_after_trim(kind: Kind) -> Place {
    let mut place = Place::new(kind);
    for number in 0..3 {
        let payload = place.payload(48, &format!("entry {number}"));
        place.log().append(payload).unwrap();
    }
    let before: Vec<_> = place.log().iter(..).map(Result::unwrap).collect();
    for power in [true, false] {
        let disk = place.disk.fork();
        disk.kill();
        let mut log = (kind.open)(&disk).unwrap();
        disk.fail_sync(0, ErrorKind::Other);
        assert!(matches!(log.trim(Some(Seq::ZERO)), Err(LogError::WriteFailed { .. })));
        drop(log);
        if power {
            disk.power_loss_choosing(|_, _| 0);
        } else {
            disk.kill();
        }
        let log = (kind.open)(&disk).unwrap();
        let after: Vec<_> = log.iter(..).map(Result::unwrap).collect();
        assert!(after == before || !power && after == before[..1], "{after:?}");
    }
    place
}

pub(crate) fn multi_09_append_and_batch(kind: Kind) {
    let mut place = Place::new(kind);
    let (a, b, c) = (place.payload(40, "a"), place.payload(20, "b"), place.payload(20, "c"));
    place.log().append(a).unwrap();
    assert_eq!(place.log().append_batch([b, c]).unwrap(), Seq::new(1)..Seq::new(3));
    place.is(Some(2), "c");
    has_segments(&mut place, 2);
    assert_eq!((place.append("d"), place.append("e")), (3, 4));
    place.is(Some(4), "e");
}

pub(crate) fn multi_10_batches_reopen(kind: Kind) {
    let mut place = Place::new(kind);
    for round in 0..3_u64 {
        let batch = [place.payload(20, "first"), place.payload(28, &format!("round {round}"))];
        assert_eq!(place.log().append_batch(batch).unwrap().start.get(), 2 * round);
        has_segments(&mut place, round + 1);
        if round == 0 {
            place.reopen();
        } else {
            place.reopen_unclosed();
        }
        place.is(Some(2 * round + 1), &format!("round {round}"));
    }
}

pub(crate) fn failing_batch(log: &mut dyn Log) -> Result<(), LogError> {
    log.append_batch([Bytes::from("x"), large()]).map(drop)
}

pub(crate) fn multi_11_first_batch_fails(kind: Kind) {
    fails_after(kind, 0, failing_batch).is(None, "");
}

pub(crate) fn multi_12_second_batch_fails(kind: Kind) {
    let mut place = fails_after(kind, 1, failing_batch);
    place.is(Some(0), "entry 0");
    place.reopen();
    place.is(Some(0), "entry 0");
}

pub(crate) fn multi_13_batch_after_a_batch_fails(kind: Kind) {
    let mut place = fails_after(kind, 3, failing_batch);
    place.is(Some(2), "entry 2");
    assert_eq!(place.batch(&["d", "e"]), 3);
}

pub(crate) fn segmented_batch(kind: Kind) -> Place {
    let mut place = Place::new(kind);
    for batch in [["a", "b"], ["c", "d"]] {
        let batch = batch.map(|mark| place.payload(24, mark));
        place.log().append_batch(batch).unwrap();
    }
    has_segments(&mut place, 2);
    place
}

pub(crate) fn multi_14_batch_and_trim_all(kind: Kind) {
    let mut place = segmented_batch(kind);
    place.log().trim(None).unwrap();
    place.is(None, "");
    place.reopen();
    place.is(None, "");
}

pub(crate) fn multi_15_batch_and_trim_to_the_first(kind: Kind) {
    let mut place = segmented_batch(kind);
    place.log().trim(Some(Seq::ZERO)).unwrap();
    place.is(Some(0), "a");
    place.reopen();
    assert_eq!(place.batch(&["e"]), 1);
    place.is(Some(1), "e");
}

pub(crate) fn multi_16_batch_and_trim_to_the_last(kind: Kind) {
    let mut place = segmented_batch(kind);
    place.log().trim(Some(Seq::new(1))).unwrap();
    place.is(Some(1), "b");
    place.reopen();
    assert_eq!(place.batch(&["e"]), 2);
    place.is(Some(2), "e");
}

pub(crate) fn multi_17_empty_payloads_destroy_and_reuse(kind: Kind) {
    destroy_and_reuse(kind, |place| {
        place.append("");
        let payload = place.payload(48, "a");
        place.log().append(payload).unwrap();
        place.append("");
    });
}

pub(crate) fn multi_18_empty_batches_destroy_and_reuse(kind: Kind) {
    destroy_and_reuse(kind, |place| {
        place.batch(&["", ""]);
        let batch = [place.payload(24, "a"), place.payload(24, "b")];
        place.log().append_batch(batch).unwrap();
        place.batch(&["", ""]);
    });
}

/// Fails if destroying a log leaves a file of it, or works on an open one.
pub(crate) fn destroy_and_reuse(kind: Kind, fill: impl Fn(&mut Place)) {
    let mut place = Place::new(kind);
    for _ in 0..2 {
        fill(&mut place);
        let sizes = |place: &mut Place| -> Vec<usize> {
            place.log().iter(..).map(|entry| entry.unwrap().payload.len()).collect()
        };
        let before = sizes(&mut place);
        place.reopen();
        assert_eq!(sizes(&mut place), before);
        let identity = place.log().identity();
        assert!(matches!((kind.destroy)(&place.disk), Err(LogError::Locked(_))));
        place.log().close().unwrap();
        place.log = None;
        (kind.destroy)(&place.disk).unwrap();
        (kind.destroy)(&place.disk).unwrap();
        let left: Vec<_> = place
            .disk
            .list()
            .unwrap()
            .into_iter()
            .filter(|name| name.as_str() != "x.lock")
            .collect();
        assert!(left.is_empty(), "{left:?}");
        place.reopen_unclosed();
        place.is(None, "");
        assert_ne!(place.log().identity(), identity);
    }
    place.reopen();
    place.is(None, "");
}

pub(crate) fn multi_19_opened_twice(kind: Kind) {
    log::log_19_opened_twice(kind);
}

pub(crate) fn multi_20_closed_twice(kind: Kind) {
    let mut place = segmented_batch(kind);
    place.log().close().unwrap();
    place.log().close().unwrap();
    place.reopen_unclosed();
    place.is(Some(3), "d");
}
