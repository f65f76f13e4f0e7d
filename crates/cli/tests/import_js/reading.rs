//! What is imported is what the package reads, entry for entry.

use std::sync::Arc;

use tinyraftplus_cli::import_js::{Checked, Error, Layout, RolledBack, Source, write_log};
use tinyraftplus_log::sim_disk::SimDisk;
use tinyraftplus_log::{Encoder, EncoderError, EntryKind, LogKind, Term, XxHashEncoder};

use crate::fixtures::{Fixture, all, import, of};

#[test]
fn every_log_is_imported_entry_for_entry() {
    let mut entries = 0;
    for fixture in all() {
        let (found, checked) = import(&fixture.disk(), fixture.options())
            .unwrap_or_else(|error| panic!("{fixture:?}: {error}"));
        assert_eq!(found, fixture.expected(), "{fixture:?}");
        let bytes = found.iter().map(|entry| entry.payload.len()).sum::<usize>();
        assert_eq!(checked.payload_bytes, u64::try_from(bytes).unwrap());
        entries += found.len();
    }
    assert!(entries > 200, "{entries}");
}

/// Fails if a layout is not told from its bytes, or one is guessed.
#[test]
fn layouts_are_detected() {
    let mut detected = 0;
    for fixture in [Layout::Plain, Layout::XxHash, Layout::Encrypted].into_iter().flat_map(of) {
        if fixture.name.starts_with("segments-13") {
            continue;
        }
        let source = Source::open(&fixture.disk(), fixture.detecting())
            .unwrap_or_else(|error| panic!("{fixture:?}: {error}"));
        let is_empty = fixture.expected().is_empty();
        assert_eq!(source.layout(), (!is_empty).then_some(fixture.layout), "{fixture:?}");
        let (found, _) = import(&fixture.disk(), fixture.detecting()).unwrap();
        assert_eq!(found, fixture.expected(), "{fixture:?}");
        detected += usize::from(!is_empty);
    }
    assert!(detected > 30);
}

#[test]
fn kinds_are_kept() {
    for layout in Layout::ALL {
        for (name, kind) in [("few", LogKind::OneFile), ("segments", LogKind::Segments)] {
            let fixture = Fixture::new(layout, name);
            let source = Source::open(&fixture.disk(), fixture.options()).unwrap();
            assert_eq!((source.kind(), source.name()), (kind, "x"));
        }
    }
}

/// "10" comes after "9". Fails if segments are taken in the order of their names.
#[test]
fn thirteen_segments_are_in_the_order_of_their_numbers() {
    let fixture = Fixture::new(Layout::XxHash, "segments-13");
    let (found, _) = import(&fixture.disk(), fixture.options()).unwrap();
    assert_eq!(found.len(), 26);
    for (number, entry) in found.iter().enumerate() {
        assert_eq!(entry.payload, format!("{:14}", format!("number {number}")));
    }
}

#[test]
fn terms_of_a_raft_node_are_kept() {
    let fixture = Fixture::new(Layout::XxHash, "raft");
    let (found, checked) = import(&fixture.disk(), fixture.options()).unwrap();
    let terms: Vec<_> = found.iter().map(|entry| entry.id.term.get()).collect();
    assert_eq!(terms, [1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
    let noops: Vec<_> = found.iter().map(|entry| entry.kind == EntryKind::Noop).collect();
    assert_eq!(noops.iter().filter(|&&it| it).count(), 2);
    assert!(noops[0] && noops[5]);
    assert_eq!(found[1].payload, "life 0");
    // The user's empty entry, of which the package's files do not say that it is one.
    assert_eq!((found[4].kind, found[4].payload.len()), (EntryKind::Payload, 0));
    assert_eq!((checked.empty, checked.last_term), (2, Term::new(2)));
    // Without the option, entries are what the log holds.
    let mut options = fixture.options();
    options.raft = Some(false);
    let (found, _) = import(&fixture.disk(), options).unwrap();
    assert_eq!(found[1].payload, &b"\x01\0\0\0\0\0\0\0life 0"[..]);
    assert_eq!(found[1].id.term, Term::ZERO);
}

fn rolled_back(layout: Layout, name: &str) -> RolledBack {
    let fixture = Fixture::new(layout, name);
    let source = Source::open(&fixture.disk(), fixture.options()).unwrap();
    assert!(source.locked());
    let Checked { rolled_back, .. } = source.check(|_| {}).unwrap();
    rolled_back
}

/// Fails if the lock is not honoured, or what it takes back is not told.
#[test]
fn what_was_not_committed_is_left_out_and_told() {
    for (layout, overhead) in [
        (Layout::Plain, 0),
        (Layout::XxHashHeaders, 0),
        (Layout::XxHash, 16),
        (Layout::Encrypted, 40),
    ] {
        for (name, entries, bytes) in [
            ("killed-in-append", 1, 15),
            ("killed-in-first-append", 1, 15),
            ("killed-in-batch", 2, 12),
            ("killed-in-trim", 0, 0),
            ("segments-killed", 1, 68),
        ] {
            let bytes = bytes + entries * overhead;
            assert_eq!(rolled_back(layout, name), RolledBack { entries, bytes }, "{name}");
        }
    }
}

#[test]
fn nothing_is_changed_by_reading() {
    for fixture in all() {
        let disk = fixture.disk();
        import(&disk, fixture.options()).unwrap();
        let files: Vec<_> =
            disk.files().into_iter().map(|it| (it.clone(), disk.contents(&it).unwrap())).collect();
        assert_eq!(files, fixture.files());
    }
}

/// A program that is still running writes on. Fails if what was checked is not what is written.
#[test]
fn files_that_change_meanwhile_are_noticed() {
    let fixture = Fixture::new(Layout::Plain, "few");
    let changes: [fn(&SimDisk); 3] = [
        |disk| disk.edit("x.log", |bytes| bytes[1] ^= 1).unwrap(),
        |disk| disk.edit("x.log", |bytes| bytes.truncate(5)).unwrap(),
        |disk| disk.edit("x.off", |bytes| bytes[7] ^= 1).unwrap(),
    ];
    for change in changes {
        let disk = fixture.disk();
        let source = Source::open(&disk, fixture.options()).unwrap();
        let checked = source.check(|_| {}).unwrap();
        change(&disk);
        let encoder: Arc<dyn Encoder> = Arc::new(XxHashEncoder::default());
        let written = write_log(&source, &checked, &SimDisk::new(), &encoder, |_| {});
        assert!(matches!(written, Err(Error::Changed(_))), "{written:?}");
    }
}

/// Gives back other bytes than it was given.
#[derive(Debug)]
struct Wrong;

impl Encoder for Wrong {
    fn id(&self) -> u8 {
        99
    }

    fn encode(&self, _: &[u8], _: &mut Vec<u8>, _: usize) -> Result<(), EncoderError> {
        Ok(())
    }

    fn decode(&self, _: &[u8], body: &mut Vec<u8>, _: u64) -> Result<(), EncoderError> {
        *body.last_mut().unwrap() ^= 1;
        Ok(())
    }
}

/// Fails if nobody reads what was written.
#[test]
fn a_log_that_reads_otherwise_is_noticed() {
    let fixture = Fixture::new(Layout::Plain, "one");
    let source = Source::open(&fixture.disk(), fixture.options()).unwrap();
    let checked = source.check(|_| {}).unwrap();
    let encoder: Arc<dyn Encoder> = Arc::new(Wrong);
    let written = write_log(&source, &checked, &SimDisk::new(), &encoder, |_| {});
    assert!(matches!(written, Err(Error::NotTheSame(_))), "{written:?}");
}
