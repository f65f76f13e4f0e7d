//! Large entries, many entries, many segments.

use std::sync::Arc;

use tinyraftplus_cli::import_js::{Error, Options, Source, write_log};
use tinyraftplus_log::sim_disk::SimDisk;
use tinyraftplus_log::{Encoder, LogKind, XxHashEncoder};

use crate::fixtures::{big_endian, put_plain, read};

/// A log with entries of these lengths.
fn plain(disk: &SimDisk, name: &str, lens: &[usize]) {
    let body = |(seq, &len): (usize, &usize)| vec![u8::try_from(seq % 251).unwrap(); len];
    put_plain(disk, name, &lens.iter().enumerate().map(body).collect::<Vec<_>>());
}

fn import(disk: &SimDisk, segments_in_order: bool) -> Vec<usize> {
    let options = Options { segments_in_order, ..Options::default() };
    let source = Source::open(disk, options).unwrap();
    let checked = source.check(|_| {}).unwrap();
    let to = SimDisk::new();
    let encoder: Arc<dyn Encoder> = Arc::new(XxHashEncoder::default());
    write_log(&source, &checked, &to, &encoder, |_| {}).unwrap();
    let lens = |kind| read(&to, "x", kind).iter().map(|entry| entry.payload.len()).collect();
    lens(source.kind())
}

/// The usual limit is 16 MiB. Fails if a larger entry is refused, or its log opens only with other options.
#[test]
fn entries_over_the_usual_limit() {
    let disk = SimDisk::new();
    let lens = [5, (16 << 20) + 1, 0, 70 << 20, 3];
    plain(&disk, "x", &lens);
    assert_eq!(import(&disk, false), lens);
}

#[test]
fn more_entries_than_a_write_takes() {
    let disk = SimDisk::new();
    let lens: Vec<_> = (0..50_000).map(|seq| seq % 5).collect();
    plain(&disk, "x", &lens);
    assert_eq!(import(&disk, false), lens);
}

#[test]
fn hundreds_of_segments() {
    let disk = SimDisk::new();
    disk.put("x.lock", b"");
    let mut lens = Vec::new();
    for segment in 0..300 {
        plain(&disk, &format!("x-m{segment}"), &[segment, 1]);
        lens.extend([segment, 1]);
    }
    assert_eq!(import(&disk, true), lens);
    let source = Source::open(&disk, Options { segments_in_order: true, ..Options::default() });
    assert_eq!(source.unwrap().kind(), LogKind::Segments);
}

/// Fails if somebody goes on for ever naming what is no log at all.
#[test]
fn not_everything_is_named() {
    let disk = SimDisk::new();
    plain(&disk, "x", &[3]);
    disk.put("x.off", &vec![0; 24 << 20]);
    let source = Source::open(&disk, Options::default()).unwrap();
    let Err(Error::Doubtful { first, more }) = source.check(|_| {}) else { panic!() };
    assert_eq!((first.len(), more), (50, 100_000));
}

/// Fails if a record is believed that says more than there is.
#[test]
fn lengths_that_are_lies() {
    for len in [usize::MAX >> 1, usize::MAX, 1 << 62, 1 << 40, 4] {
        let disk = SimDisk::new();
        plain(&disk, "x", &[3]);
        disk.edit("x.off", |bytes| bytes[16..].copy_from_slice(&big_endian(len))).unwrap();
        let source = Source::open(&disk, Options::default());
        assert!(source.and_then(|source| source.check(|_| {})).is_err());
    }
}
