//! Importing a log of the JavaScript package whose files were changed.
//!
//! An input is a program: which log to begin with, what to change in its files, and whether checksums are made
//! right afterwards, so that what comes behind them is reached.
//!
//! **What must hold**, whatever was changed:
//!
//! 1. Nothing panics (sums are checked for overflow), takes long, or takes much memory.
//! 2. Untouched, the log is what it was.
//! 3. One changed byte, where everything has a checksum: an error, or the log as it was. Never another.
//! 4. What passes the check is written and reads the same, and the source's files are as they were.

use std::sync::{Arc, LazyLock};

use tinyraftplus_cli::import_js::{Error, Layout, Options, Source, write_log};
use tinyraftplus_log::{Encoder, Key, LogEntry, XxHashEncoder, sim_disk::SimDisk};
use twox_hash::{XxHash3_128, XxHash32, XxHash64};

use crate::input::Input;

/// A log to begin with.
struct Base {
    layout: Layout,
    raft: bool,
    disk: SimDisk,
    entries: Vec<LogEntry>,
}

macro_rules! base {
    ($layout:expr, $folder:literal, $raft:literal, [$($file:literal),*]) => {
        Base::new($layout, $raft, &[$((
            $file,
            include_bytes!(concat!("../../fixtures/js-logs/", $folder, "/", $file)),
        )),*])
    };
}

static BASES: LazyLock<Vec<Base>> = LazyLock::new(|| {
    use Layout::{Encrypted, Plain, XxHash, XxHashHeaders};
    vec![
        base!(XxHash, "xxhash/few", false, ["x.lock", "x.off", "x.log"]),
        base!(Plain, "plain/few", false, ["x.lock", "x.off", "x.log"]),
        base!(XxHashHeaders, "xxhash-headers/few", false, ["x.lock", "x.off", "x.log"]),
        base!(Encrypted, "encrypted/few", false, ["x.lock", "x.off", "x.log"]),
        base!(XxHash, "xxhash/killed-in-batch", false, ["x.lock", "x.off", "x.log"]),
        base!(Plain, "plain/killed-in-batch", false, ["x.lock", "x.off", "x.log"]),
        base!(XxHash, "xxhash/raft", true, ["x.lock", "x.off", "x.log"]),
        base!(Plain, "plain/raft", true, ["x.lock", "x.off", "x.log"]),
        base!(
            XxHash,
            "xxhash/segments-killed",
            false,
            [
                "x.lock",
                "x-m0.lock",
                "x-m0.off",
                "x-m0.log",
                "x-m1.lock",
                "x-m1.off",
                "x-m1.log",
                "x-m2.lock",
                "x-m2.off",
                "x-m2.log",
                "x-m3.lock",
                "x-m3.off",
                "x-m3.log",
                "x-m4.lock",
                "x-m4.off",
                "x-m4.log"
            ]
        ),
        base!(
            Plain,
            "plain/segments",
            false,
            [
                "x.lock",
                "x-m0.lock",
                "x-m0.off",
                "x-m0.log",
                "x-m1.lock",
                "x-m1.off",
                "x-m1.log",
                "x-m2.lock",
                "x-m2.off",
                "x-m2.log"
            ]
        ),
    ]
});

impl Base {
    fn new(layout: Layout, raft: bool, files: &[(&str, &[u8])]) -> Self {
        let disk = SimDisk::new();
        for (name, bytes) in files {
            disk.put(name, bytes);
        }
        let mut base = Self { layout, raft, disk, entries: Vec::new() };
        base.entries = import(&base.disk, base.options()).unwrap();
        assert!(base.entries.len() >= 3);
        base
    }

    fn options(&self) -> Options {
        Options {
            layout: Some(self.layout),
            key: (self.layout == Layout::Encrypted).then(key),
            raft: Some(self.raft),
            ..Options::default()
        }
    }

    fn detecting(&self) -> Options {
        Options { layout: None, raft: self.raft.then_some(true), ..self.options() }
    }
}

fn key() -> Key {
    Key::from_bytes(std::array::from_fn(|at| at as u8))
}

/// Imports a changed log; see above.
pub fn import_js(bytes: &[u8]) {
    let mut input = Input(bytes);
    let base = &BASES[usize::from(input.byte()) % BASES.len()];
    let how = input.byte();
    let (mend, detect) = (how & 1 == 1, how & 2 == 2);
    let disk = base.disk.fork();
    let (mut edits, mut damage) = (0, 0);
    while !input.is_empty() && edits < 16 {
        damage += u32::from(edit(&disk, &mut input));
        edits += 1;
    }
    if mend {
        mend_sums(&disk, base.layout);
    }
    let before: Vec<_> =
        disk.files().into_iter().map(|it| (it.clone(), disk.contents(&it))).collect();
    let found = import(&disk, if detect { base.detecting() } else { base.options() });
    let after: Vec<_> =
        disk.files().into_iter().map(|it| (it.clone(), disk.contents(&it))).collect();
    assert!(before == after, "the source was changed");
    if let Ok(found) = &found {
        let must_notice = edits == 1 && damage == 1 && !mend && base.layout.checks_bodies();
        if edits == 0 || must_notice {
            assert!(*found == base.entries, "another log than was written");
        }
    } else {
        let asked = matches!(found, Err(Error::Ask(_))) && detect;
        assert!(edits > 0 || asked, "an untouched log is refused: {:?}", found.err());
    }
}

/// What passes the check, once it was written.
fn import(disk: &SimDisk, options: Options) -> Result<Vec<LogEntry>, Error> {
    let source = Source::open(disk, options)?;
    let mut entries = Vec::new();
    let checked = source.check(|entry| entries.push(entry.clone()))?;
    let to = SimDisk::new();
    let encoder: Arc<dyn Encoder> = Arc::new(XxHashEncoder::default());
    let stats = write_log(&source, &checked, &to, &encoder, |_| {})
        .unwrap_or_else(|error| panic!("what was checked can't be written: {error}"));
    assert_eq!(stats.entries, entries.len() as u64);
    Ok(entries)
}

/// Changes something. True if it is one byte.
fn edit(disk: &SimDisk, input: &mut Input<'_>) -> bool {
    let files = disk.files();
    let Some(name) = files.get(usize::from(input.byte()) % files.len().max(1)) else {
        return false;
    };
    let kind = input.byte() % 8;
    let at = input.short();
    match kind {
        0 | 1 => {
            let change = input.byte().max(1);
            let flip = |bytes: &mut Vec<u8>| {
                let at = at.checked_rem(bytes.len())?;
                bytes[at] ^= change;
                Some(())
            };
            return disk.edit(name, flip).flatten().is_some();
        }
        2 => {
            // A number where records and locks have theirs.
            let number = input.number().to_be_bytes();
            disk.edit(name, |bytes| {
                let at =
                    at % 64 * 8 + usize::from(name.ends_with(".lock") && bytes.len() == 12) * 4;
                if let Some(place) = bytes.get_mut(at..at + 8) {
                    place.copy_from_slice(&number);
                }
            });
        }
        3 => drop(disk.edit(name, |bytes| bytes.truncate(at % (bytes.len() + 1)))),
        4 => {
            let more = input.take(at % 64).to_vec();
            disk.edit(name, |bytes| bytes.extend(more));
        }
        5 => drop(disk.take(name)),
        6 => {
            let other = files.get(at % files.len()).and_then(|it| disk.contents(it));
            disk.put(name, &other.unwrap_or_default());
        }
        _ => {
            let names =
                ["x.off", "x.log", "x-m1.off", "x-m5.log", "x-m01.log", "y.off", "x-m0.lock"];
            disk.put(names[at % names.len()], input.take(64));
        }
    }
    false
}

/// Makes the checksums of locks, records and bodies right.
fn mend_sums(disk: &SimDisk, layout: Layout) {
    if layout == Layout::Plain {
        return;
    }
    let mut bodies = Vec::new();
    disk.edit_all(|name, bytes| {
        if name.ends_with(".lock") && bytes.len() == 12 {
            let sum = XxHash32::oneshot(0, &bytes[4..]);
            bytes[..4].copy_from_slice(&sum.to_be_bytes());
        }
        if let Some(stem) = name.strip_suffix(".off") {
            for record in bytes.chunks_exact_mut(32) {
                let sum = XxHash64::oneshot(0, &record[8..]);
                record[..8].copy_from_slice(&sum.to_be_bytes());
                let number = |at: usize| u64::from_be_bytes(record[at..at + 8].try_into().unwrap());
                bodies.push((format!("{stem}.log"), number(16), number(24)));
            }
        }
    });
    if layout != Layout::XxHash {
        return;
    }
    for (name, offset, len) in bodies {
        disk.edit(&name, |bytes| {
            let range =
                usize::try_from(offset).ok()?..usize::try_from(offset.checked_add(len)?).ok()?;
            let (sum, body) = bytes.get_mut(range)?.split_first_chunk_mut::<16>()?;
            *sum = XxHash3_128::oneshot(body).to_be_bytes();
            Some(())
        });
    }
}
