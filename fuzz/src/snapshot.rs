//! Opening and reading snapshots whose files were changed by somebody who knows the format.
//!
//! **What must hold**, whatever was changed:
//!
//! 1. Nothing panics, takes long, or takes memory that the file does not have.
//! 2. One damaged byte: an error, a report, or the snapshot as it was. Never another, never none.
//! 3. Where the store opens, the same snapshot can be received, over whatever there is of it, and is right then.

use std::{
    io::Read as _,
    sync::{Arc, LazyLock},
};

use tinyraftplus_core::{Configurations, EntryId, Identity, Member, NodeId, QuorumRule, Seq, Term};
use tinyraftplus_log::{
    Encoder, EncryptingEncoder, Key, Log, LogError, LogOptions, MultiFsLog, PlainEncoder,
    SnapshotId, SnapshotMeta, SnapshotStore, XxHashEncoder, sim_disk::SimDisk,
};

use crate::input::Input;

/// The complete one and the part.
const IDS: [u128; 2] = [1, 2];

struct Base {
    options: LogOptions,
    disk: SimDisk,
    chunks: Vec<Vec<u8>>,
    metas: [SnapshotMeta; 2],
}

static BASES: LazyLock<Vec<Base>> = LazyLock::new(|| {
    let encoders: [Arc<dyn Encoder>; 3] = [
        Arc::new(XxHashEncoder::default()),
        Arc::new(PlainEncoder),
        Arc::new(EncryptingEncoder::new(&Key::from_bytes([7; 32]))),
    ];
    encoders.map(base).into()
});

fn base(encoder: Arc<dyn Encoder>) -> Base {
    let mut options = LogOptions::default();
    options.space_bytes = 4096;
    options.reserve_bytes = 4096;
    options.snapshot_chunk_bytes = 1024;
    options.encoder = encoder;
    options.seed = Some(7);
    let (elsewhere, disk) = (SimDisk::new(), SimDisk::new());
    let (from, from_store) = open(&elsewhere, &options).unwrap();
    let (log, store) = open(&disk, &options).unwrap();
    let member = |n: u64| Member::voter(NodeId::from(n), Identity::new(n.into()));
    let members = (1..=3).map(member).collect();
    let members =
        Arc::new(Configurations::found(members, QuorumRule::Majority, Seq::ZERO).unwrap());
    let make = |store: &SnapshotStore, number| {
        let last = EntryId::new(Term::new(2), Seq::new(8));
        let mut writer = store
            .create(SnapshotId::new(number), last, Some(Arc::clone(&members)), b"tables")
            .unwrap();
        writer.write_all(&b"some state ".repeat(200)).unwrap();
        writer.finish().unwrap()
    };
    let metas = [make(&store, IDS[0]), make(&from_store, IDS[1])];
    let reader = from_store.reader(SnapshotId::new(IDS[1])).unwrap();
    let chunks: Vec<_> =
        (0..reader.meta().chunks()).map(|number| reader.read_chunk(number).unwrap()).collect();
    store.receive(&metas[1]).unwrap().write_chunk(0, &chunks[0]).unwrap();
    drop((log, from));
    disk.kill();
    Base { options, disk, chunks, metas }
}

fn open(
    disk: &SimDisk,
    options: &LogOptions,
) -> Result<(MultiFsLog<SimDisk>, SnapshotStore), LogError> {
    let log = MultiFsLog::open_on(disk, "x", options.clone())?.0;
    let store = log.snapshots()?;
    Ok((log, store))
}

/// Opens snapshots from changed files; see above.
pub fn snapshot(bytes: &[u8]) {
    let mut input = Input(bytes);
    let base = &BASES[usize::from(input.byte()) % BASES.len()];
    let mend = input.byte() % 2 == 0;
    let disk = base.disk.fork();
    let files: Vec<String> =
        disk.files().into_iter().filter(|file| file.ends_with(".snap")).collect();
    let (mut edits, mut bytes_damaged) = (0, 0);
    while !input.is_empty() && edits < 8 {
        let file = &files[usize::from(input.byte()) % files.len()];
        let damaged = disk.edit(file, |bytes| change(bytes, &mut input));
        bytes_damaged += u64::from(damaged == Some(true));
        edits += 1;
    }
    if mend {
        for file in &files {
            let _ = disk.edit(file, |bytes| mend_sums(bytes));
        }
    }
    check(base, &disk, edits == bytes_damaged && edits <= 1 && !mend);
}

fn check(base: &Base, disk: &SimDisk, damaged_once: bool) {
    let (_log, store) = match open(disk, &base.options) {
        Ok(opened) => opened,
        Err(_) => return,
    };
    for meta in store.list() {
        let Ok(reader) = store.reader(meta.id) else { continue };
        let verified = reader.verify();
        let _ = reader.tables();
        let mut state = Vec::new();
        let read = reader.state().read_to_end(&mut state);
        if damaged_once && read.is_ok() && verified.is_ok() {
            assert!(meta == base.metas[0] && state == b"some state ".repeat(200));
        }
    }
    let damaged = store.damaged();
    if damaged_once {
        let id = SnapshotId::new(IDS[0]);
        assert!(store.get(id).is_some() || damaged.iter().any(|(damaged, _)| *damaged == id));
    }
    // Somebody may have made a whole one of the part, which then is in the way of the real one.
    let meta = &base.metas[1];
    if store.get(meta.id).is_some() {
        store.remove(meta.id).unwrap();
    }
    let mut incoming = store.receive(meta).unwrap();
    while let Some(chunk) = usize::try_from(incoming.next()).ok().and_then(|n| base.chunks.get(n)) {
        incoming.write_chunk(incoming.next(), chunk).unwrap();
    }
    // A part whose checksums were made right is believed until its digest is known.
    if incoming.finish().is_ok() {
        let reader = store.reader(meta.id).unwrap();
        reader.verify().unwrap();
        let mut state = Vec::new();
        reader.state().read_to_end(&mut state).unwrap();
        assert_eq!(state, b"some state ".repeat(200));
    } else {
        assert!(!damaged_once);
    }
}

/// Changes something. True if it is one byte at most.
fn change(bytes: &mut Vec<u8>, input: &mut Input<'_>) -> bool {
    let op = input.byte();
    let at = match op % 4 {
        // The header, the end, any piece's header, anything.
        0 => usize::from(input.byte()) * 2,
        1 => 512 + usize::from(input.byte()) * 2,
        2 => 8192 + usize::from(input.byte() % 8) * 1536 + usize::from(input.byte()) % 128,
        _ => input.short(),
    };
    match op / 4 % 4 {
        3 => bytes.resize(input.short(), 0),
        2 => {
            let count = 1 + usize::from(input.byte());
            let end = (at + count).min(bytes.len());
            bytes.get_mut(at..end).unwrap_or_default().fill(0);
        }
        1 => {
            let value = input.number().to_le_bytes();
            let width = 1 << (input.byte() % 4);
            if let Some(place) = bytes.get_mut(at..at + width) {
                place.copy_from_slice(&value[..width]);
            }
        }
        _ => {
            let flip = input.byte().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= flip;
            }
            return true;
        }
    }
    false
}

/// Makes the sums of the front and of each piece right, and both copies of the front equal.
fn mend_sums(bytes: &mut [u8]) {
    let seal = |bytes: &mut [u8], at: usize, len: usize| {
        let Some(part) = bytes.get_mut(at..at + len) else { return };
        if part.iter().any(|&byte| byte != 0) {
            let sum = twox_hash::XxHash3_64::oneshot(&part[..len - 8]);
            part[len - 8..].copy_from_slice(&sum.to_le_bytes());
        }
    };
    seal(bytes, 0, 512);
    seal(bytes, 512, 512);
    if bytes.len() >= 8192 {
        bytes.copy_within(..4096, 4096);
    }
    for at in (8192..bytes.len().saturating_sub(128)).step_by(512) {
        if bytes[at..].starts_with(b"TRPs") {
            let stored = u32::from_le_bytes(bytes[at + 48..at + 52].try_into().unwrap_or_default());
            let end = at + 128 + stored as usize;
            if let Some(body) = bytes.get(at + 128..end) {
                let sum = twox_hash::XxHash3_64::oneshot(body).to_le_bytes();
                bytes[at + 64..at + 72].copy_from_slice(&sum);
            }
            seal(bytes, at, 128);
        }
    }
}
