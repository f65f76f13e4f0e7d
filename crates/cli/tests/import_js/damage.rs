//! Flipped bits, cut files, garbage: refused, or the log that was written.

use tinyraftplus_cli::import_js::{Error, Layout, Options};
use tinyraftplus_log::LogEntry;
use tinyraftplus_log::sim_disk::SimDisk;

use crate::fixtures::{Fixture, all, check, import};

/// Small enough to try everything.
fn small() -> Vec<Fixture> {
    all().into_iter().filter(|it| it.name != "large" && it.name != "segments-13").collect()
}

/// Imports it with all that is known, and once more with what can be detected.
fn results(fixture: &Fixture, disk: &SimDisk) -> Vec<Vec<LogEntry>> {
    [fixture.options(), fixture.detecting()]
        .into_iter()
        .filter_map(|options| match check(disk, options) {
            Ok(entries) => Some(entries),
            Err(Error::Doubtful { first, .. }) => {
                assert!(!first.is_empty() && first.iter().all(|it| !it.what.is_empty()));
                None
            }
            Err(Error::Ask(_)) => None,
            Err(error) => panic!("{fixture:?}: {error}"),
        })
        .collect()
}

fn is(file: &str, end: &str) -> bool {
    file.strip_suffix(end).is_some()
}

/// What no checksum covers, as `docs/from-js.md` lists it.
fn nobody_can_tell(fixture: &Fixture, file: &str, found: &[LogEntry]) -> bool {
    let expected = fixture.expected();
    let payload = |entry: &LogEntry| entry.payload.clone();
    let differ = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
    match fixture.layout {
        // A body, or the term in it.
        Layout::Plain | Layout::XxHashHeaders if is(file, ".log") => {
            found.len() == expected.len() && differ <= 2
        }
        // The lock of a log that was being written.
        Layout::Plain if is(file, ".lock") => {
            found.iter().zip(&expected).all(|(a, b)| a == b) && found.len() != expected.len()
        }
        // Of a log that was being written, the length of the last entry that is kept.
        Layout::Plain if is(file, ".off") && fixture.is_locked() => {
            let last = found.last().zip(expected.last());
            found.len() == expected.len()
                && differ == 1
                && last.is_some_and(|(a, b)| payload(b).starts_with(&payload(a)))
        }
        Layout::Plain | Layout::XxHash | Layout::XxHashHeaders | Layout::Encrypted => false,
    }
}

#[test]
fn each_bit_flipped() {
    let (mut flips, mut refused, mut same, mut unnoticed) = (0, 0, 0, 0);
    for fixture in small() {
        let expected = fixture.expected();
        for (file, bytes) in fixture.files() {
            for bit in 0..bytes.len() * 8 {
                let disk = fixture.disk();
                disk.edit(&file, |bytes| bytes[bit / 8] ^= 1 << (bit % 8)).unwrap();
                flips += 1;
                let found = results(&fixture, &disk);
                let differs = found.iter().find(|found| **found != expected);
                match differs {
                    Some(found) => {
                        assert!(
                            nobody_can_tell(&fixture, &file, found),
                            "{fixture:?}, bit {bit} of {file}: {found:?}"
                        );
                        unnoticed += 1;
                    }
                    None if found.is_empty() => refused += 1,
                    // Of a log that was closed, every bit means something.
                    None => {
                        assert!(fixture.is_locked(), "{fixture:?}, bit {bit} of {file}");
                        same += 1;
                    }
                }
            }
        }
    }
    println!(
        "{flips} flips: {refused} refused, {same} without meaning, {unnoticed} of what has no checksum"
    );
    assert!(refused > 50_000 && same > 0 && unnoticed > 0);
}

/// Fails if a file that was cut short is taken for a shorter log.
#[test]
fn each_file_cut_at_each_byte() {
    let (mut refused, mut same) = (0, 0);
    for fixture in small() {
        let expected = fixture.expected();
        for (file, bytes) in fixture.files() {
            for len in 0..bytes.len() {
                // That is how the package says that everything was committed.
                if is(&file, ".lock") && len == 0 {
                    continue;
                }
                let disk = fixture.disk();
                disk.edit(&file, |bytes| bytes.truncate(len)).unwrap();
                let found = results(&fixture, &disk);
                refused += usize::from(found.is_empty());
                same += usize::from(!found.is_empty());
                for found in found {
                    assert!(fixture.is_locked(), "{fixture:?}, {file} cut to {len} bytes");
                    assert_eq!(found, expected, "{fixture:?}, {file} cut to {len} bytes");
                }
            }
        }
    }
    assert!(refused > 1000 && same > 0, "{refused} {same}");
}

/// Fails if bytes that no record names are passed over.
#[test]
fn bytes_behind_the_end() {
    for fixture in small() {
        let expected = fixture.expected();
        for (file, bytes) in fixture.files() {
            let zeros = vec![0; 64];
            let again = bytes.get(bytes.len().saturating_sub(32)..).unwrap_or_default().to_vec();
            for more in [b"g".to_vec(), b"garbage ".repeat(9), zeros, again] {
                if more.is_empty() {
                    continue;
                }
                let disk = fixture.disk();
                disk.edit(&file, |bytes| bytes.extend(&more)).unwrap();
                for found in results(&fixture, &disk) {
                    assert!(fixture.is_locked(), "{fixture:?} {file}");
                    assert_eq!(found, expected, "{fixture:?} {file}");
                }
            }
        }
    }
}

fn is_zeroed_payload(fixture: &Fixture, file: &str, to: &[u8]) -> bool {
    !fixture.layout.checks_bodies() && is(file, ".log") && !to.is_empty()
}

/// Zeroed and lost files, which the package itself opens as shorter logs.
#[test]
fn zeroed_and_emptied_files() {
    for fixture in small() {
        let expected = fixture.expected();
        for (file, bytes) in fixture.files() {
            if bytes.is_empty() || is(&file, ".lock") {
                continue;
            }
            for to in [Vec::new(), vec![0; bytes.len()]] {
                let disk = fixture.disk();
                disk.put(&file, &to);
                for found in results(&fixture, &disk) {
                    let told = found == expected || nobody_can_tell(&fixture, &file, &found);
                    assert!(told || is_zeroed_payload(&fixture, &file, &to), "{fixture:?} {file}");
                }
            }
        }
    }
}

#[test]
fn garbage() {
    let mut state = 7_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..2000_u64 {
        let disk = SimDisk::new();
        for file in ["x.lock", "x.off", "x.log", "x-m0.off", "x-m0.log", "x-m0.lock"] {
            if round % 2 == 0 && file.contains("-m") {
                continue;
            }
            let len = random() % 100;
            let bytes: Vec<u8> = (0..len).map(|_| random().to_le_bytes()[0]).collect();
            disk.put(file, if round % 3 == 0 && file.ends_with("lock") { b"" } else { &bytes });
        }
        for layout in [None, Some(Layout::Plain), Some(Layout::XxHashHeaders)] {
            let options = Options { layout, ..Options::default() };
            assert!(check(&disk, options).is_err());
        }
    }
}

/// Every damaged place is named, not only the first.
#[test]
fn all_places_are_named() {
    let fixture = Fixture::new(Layout::XxHash, "few");
    let disk = fixture.disk();
    disk.edit("x.off", |bytes| bytes[2 * 32 + 9] ^= 1).unwrap();
    disk.edit("x.log", |bytes| bytes[16] ^= 1).unwrap();
    disk.edit("x.log", |bytes| *bytes.last_mut().unwrap() ^= 1).unwrap();
    let Err(Error::Doubtful { first, more }) = import(&disk, fixture.detecting()) else { panic!() };
    let places: Vec<_> = first
        .iter()
        .map(|it| {
            (it.path.file_name().unwrap().to_str().unwrap(), it.byte.unwrap(), it.seq.unwrap())
        })
        .collect();
    let log = fixture.files()[1].1.len();
    let last = u64::try_from(log).unwrap() - 20;
    assert_eq!(places, [("x.log", 0, 0), ("x.off", 64, 2), ("x.log", last, 6)]);
    assert_eq!(more, 0);
}
