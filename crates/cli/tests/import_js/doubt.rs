//! What can be read in two ways is refused, with the option that decides.

use tinyraftplus_cli::import_js::{Error, Layout, Options, Source};
use tinyraftplus_log::LogOptions;
use tinyraftplus_log::sim_disk::SimDisk;

use crate::fixtures::{Fixture, import, of, put_plain};

fn asked(disk: &SimDisk, options: Options) -> String {
    match import(disk, options) {
        Err(Error::Ask(what)) => what,
        other => panic!("{other:?}"),
    }
}

fn doubted(disk: &SimDisk, options: Options) -> String {
    match import(disk, options) {
        Err(error @ Error::Doubtful { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn bodies_without_checksums_are_asked_about() {
    for fixture in of(Layout::XxHashHeaders) {
        if fixture.expected().is_empty() {
            continue;
        }
        let what = asked(&fixture.disk(), fixture.detecting());
        for flag in ["--key-file", "--layout xxhash-headers", "--layout xxhash "] {
            assert!(what.contains(flag), "{what}");
        }
    }
}

/// Fails if checksums are imported as payload.
#[test]
fn the_wrong_layout_is_refused() {
    for fixture in crate::fixtures::all() {
        if fixture.expected().is_empty() {
            continue;
        }
        for layout in Layout::ALL {
            // Nobody can tell what bodies without checksums hold: of ciphertext that is said to be plain, too.
            let same = [(Layout::Encrypted, Layout::XxHashHeaders)];
            if layout == fixture.layout || same.contains(&(fixture.layout, layout)) {
                continue;
            }
            let key = (layout == Layout::Encrypted).then(crate::fixtures::key);
            let options = Options { layout: Some(layout), key, ..fixture.options() };
            let result = import(&fixture.disk(), options);
            assert!(
                matches!(result, Err(Error::Doubtful { .. })),
                "{fixture:?} {layout:?}: {result:?}"
            );
        }
    }
}

#[test]
fn keys_are_asked_for_and_turned_down() {
    let few = Fixture::new(Layout::Encrypted, "few");
    let without = Options { layout: Some(Layout::Encrypted), ..Options::default() };
    assert!(asked(&few.disk(), without).contains("--key-file"));
    assert!(asked(&few.disk(), Options::default()).contains("--key-file"));
    let plain = Fixture::new(Layout::Plain, "few");
    let with = Options { key: few.detecting().key, ..Options::default() };
    assert!(asked(&plain.disk(), with).contains("leave --key-file out"));
    let hashed = Fixture::new(Layout::XxHash, "few");
    let with = Options { key: few.detecting().key, ..Options::default() };
    assert!(asked(&hashed.disk(), with).contains("leave --key-file out"));
    let other = tinyraftplus_log::Key::from_bytes([9; 32]);
    let what = doubted(&few.disk(), Options { key: Some(other), ..Options::default() });
    assert!(what.contains("another key") && what.contains("x.log at byte 0 (seq 0)"), "{what}");
}

#[test]
fn what_looks_like_terms_is_asked_about() {
    for layout in Layout::ALL {
        let fixture = Fixture::new(layout, "raft");
        let what = asked(&fixture.disk(), Options { raft: None, ..fixture.options() });
        assert!(what.contains("--raft") && what.contains("--no-raft"), "{what}");
        for name in ["few", "one", "segments"] {
            let fixture = Fixture::new(layout, name);
            import(&fixture.disk(), Options { raft: None, ..fixture.options() }).unwrap();
            let what = doubted(&fixture.disk(), Options { raft: Some(true), ..fixture.options() });
            assert!(what.contains("leave --raft out"), "{what}");
        }
    }
}

/// A term, and what is behind it.
fn with_term(term: u64, payload: &str) -> Vec<u8> {
    [&term.to_le_bytes()[..], payload.as_bytes()].concat()
}

/// Fails if bytes are taken off that are no terms, or entries kept that are in the wrong order.
#[test]
fn terms_that_a_raft_node_never_writes_are_named() {
    let raft = || Options { raft: Some(true), ..Options::default() };
    for (entries, part) in [
        (vec![with_term(1, "x")], "at byte 0 (seq 0): the first entry of a RaftNode's log"),
        (vec![with_term(2, ""), with_term(1, "")], "at byte 8 (seq 1): the entry has term 1"),
        (vec![with_term(1, ""), b"short".to_vec()], "(seq 1): the entry has 5 bytes"),
        (vec![with_term(0, "")], "begins with 0, which is no term"),
        (vec![b"{\"a\":12}".to_vec()], "which is no term"),
    ] {
        let disk = SimDisk::new();
        put_plain(&disk, "x", &entries);
        let what = doubted(&disk, raft());
        assert!(what.contains(part) && what.contains("leave --raft out"), "{what}");
        // Nor does anybody ask for it.
        assert_eq!(import(&disk, Options::default()).unwrap().0.len(), entries.len());
    }
    // A counter of eight bytes may be one, and be a term.
    let disk = SimDisk::new();
    put_plain(&disk, "x", &[with_term(1, ""), with_term(2, ""), with_term(2, "")]);
    assert!(asked(&disk, Options::default()).contains("--no-raft"));
    let not = Options { raft: Some(false), ..Options::default() };
    assert_eq!(import(&disk, not).unwrap().0[1].payload, with_term(2, ""));
    assert!(import(&disk, raft()).unwrap().0.iter().all(|entry| entry.payload.is_empty()));
}

/// The package appends to the ninth segment of such a log after it was opened again. Fails if it is imported
/// without a word.
#[test]
fn more_than_ten_segments_are_asked_about() {
    for name in ["segments-13", "segments-13-reopened"] {
        let fixture = Fixture::new(Layout::XxHash, name);
        let what = asked(&fixture.disk(), fixture.detecting());
        assert!(what.contains("--segments-in-order"), "{what}");
    }
    // The doubt is real.
    let fixture = Fixture::new(Layout::XxHash, "segments-13-reopened");
    let (entries, _) = import(&fixture.disk(), fixture.options()).unwrap();
    let newest = entries.iter().position(|entry| entry.payload == "the newest entry");
    assert_eq!(newest, Some(20));
    assert_eq!(entries.len(), 27);
}

#[test]
fn several_logs_are_asked_about() {
    let disk = Fixture::new(Layout::XxHash, "segments").disk();
    for (name, bytes) in Fixture::new(Layout::Plain, "few").files() {
        disk.put(&name.replace('x', "y"), &bytes);
    }
    assert!(asked(&disk, Options::default()).contains(": x, y; choose one with --name"));
    let name = |name: &str| Options { name: Some(name.to_owned()), ..Options::default() };
    assert_eq!(import(&disk, name("y")).unwrap().0, Fixture::new(Layout::Plain, "few").expected());
    let segments = Fixture::new(Layout::XxHash, "segments").expected();
    assert_eq!(import(&disk, name("x")).unwrap().0, segments);
    assert!(asked(&disk, name("z")).contains("there is x, y"));
    assert!(asked(&disk, name("x-m0")).contains("is a segment of the log x"));
    assert!(asked(&SimDisk::new(), Options::default()).contains("there is no log"));
}

/// A log of ours has some of the same names.
#[test]
fn our_own_logs_are_not_theirs() {
    let disk = SimDisk::new();
    drop(tinyraftplus_log::FsLog::open_on(&disk, "x", LogOptions::default()).unwrap());
    drop(tinyraftplus_log::MultiFsLog::open_on(&disk, "y", LogOptions::default()).unwrap());
    assert!(asked(&disk, Options::default()).contains("there is no log of the JavaScript package"));
}

#[test]
fn missing_files_are_named() {
    for name in ["few", "segments", "killed-in-append", "segments-killed", "empty"] {
        let fixture = Fixture::new(Layout::XxHash, name);
        for (file, bytes) in fixture.files() {
            let disk = fixture.disk();
            disk.take(&file).unwrap();
            match import(&disk, fixture.options()) {
                Err(Error::Doubtful { first, .. }) => {
                    let what = first[0].to_string();
                    // Without the last segment the lock says more than there is.
                    assert!(what.contains("missing") || what.contains("the lock says"), "{what}");
                }
                Err(Error::Ask(what)) => assert!(what.contains("no log"), "{file}: {what}"),
                // An empty segment that is being deleted.
                Ok((found, _)) => {
                    assert!(bytes.is_empty() && found == fixture.expected(), "{name} {file}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn a_missing_segment_is_named() {
    for number in 0..12 {
        let fixture = Fixture::new(Layout::XxHash, "segments-13");
        let disk = fixture.disk();
        for end in ["lock", "off", "log"] {
            disk.take(&format!("x-m{number}.{end}")).unwrap();
        }
        let what = doubted(&disk, fixture.options());
        assert!(what.contains(&format!("x-m{number}.log: it is missing")), "{what}");
    }
}

/// Fails if a log whose process was killed may lack segments that its lock counts.
#[test]
fn a_missing_last_segment_of_a_killed_log_is_named() {
    let fixture = Fixture::new(Layout::Plain, "segments-killed");
    let disk = fixture.disk();
    for number in [1, 2] {
        for end in ["lock", "off", "log"] {
            disk.take(&format!("x-m{number}.{end}")).unwrap();
        }
    }
    let what = doubted(&disk, fixture.options());
    let part = "x.lock at byte 0 (seq 2): the lock says that everything up to seq 3";
    assert!(what.contains(part), "{what}");
}

#[test]
fn an_emptied_segment_in_the_middle_is_named() {
    let fixture = Fixture::new(Layout::XxHash, "segments");
    let disk = fixture.disk();
    for end in ["off", "log"] {
        disk.put(&format!("x-m1.{end}"), b"");
    }
    let what = doubted(&disk, fixture.options());
    assert!(what.contains("x-m1.off at byte 0 (seq 1): the segment is empty"), "{what}");
}

#[test]
fn strange_names_and_locks_are_named() {
    let fixture = Fixture::new(Layout::XxHash, "segments");
    for name in ["x-m01.log", "x-m1 (copy).log", "x-m2.bak.log"] {
        let disk = fixture.disk();
        disk.put(name, b"");
        assert!(doubted(&disk, fixture.options()).contains("move it away"), "{name}");
    }
    for name in ["x-main.log", "x-m.log", "xx-m1.log", "x-m1.txt"] {
        let disk = fixture.disk();
        disk.put(name, b"");
        import(&disk, fixture.options()).unwrap();
    }
    // A lock of a segment only.
    let disk = fixture.disk();
    disk.put("x-m1.lock", &fixture_lock());
    assert!(doubted(&disk, fixture.options()).contains("x-m1.lock"));
    // Both kinds at once.
    let disk = fixture.disk();
    disk.put("x.off", b"");
    disk.put("x.log", b"");
    assert!(asked(&disk, fixture.options()).contains("another directory"));
}

/// The lock of a log with seqs 0 and 1.
fn fixture_lock() -> Vec<u8> {
    let files = Fixture::new(Layout::XxHash, "killed-in-append").files();
    files.into_iter().find(|(name, _)| name == "x.lock").unwrap().1
}

/// `trim(-2n)` leaves such a lock, and has trimmed nothing; the package then opens an empty log.
#[test]
fn a_lock_that_is_no_seq_is_named() {
    let fixture = Fixture::new(Layout::Plain, "few");
    for (seq, part) in [(-2_i64, "which is no seq"), (i64::MIN, "which is no seq"), (7, "only 7")] {
        let disk = fixture.disk();
        let mut bytes = seq.to_le_bytes();
        bytes.reverse();
        disk.put("x.lock", &bytes);
        assert!(doubted(&disk, fixture.options()).contains(part));
    }
}

/// Two names may both be logs in one file.
#[test]
fn a_log_in_one_file_may_be_called_like_a_segment() {
    let fixture = Fixture::new(Layout::Plain, "few");
    let disk = SimDisk::new();
    for (name, bytes) in fixture.files() {
        disk.put(&name.replace('x', "a-m0"), &bytes);
    }
    let source = Source::open(&disk, fixture.options()).unwrap();
    assert_eq!(source.name(), "a-m0");
    for (name, bytes) in fixture.files() {
        disk.put(&name.replace('x', "a-m1"), &bytes);
    }
    assert!(doubted(&disk, fixture.options()).contains("a.lock: it is missing"));
}
