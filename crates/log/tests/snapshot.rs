//! Snapshots beside a log: what is made, received, read and removed, and what is refused. Crashes:
//! `snapshot_crash.rs`.

#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use std::{
    io::{self, Read, Write as _},
    sync::Arc,
};

use common::{NAME, Setup, configuration, noise, reset};
use tinyraftplus_core::{EntryId, Seq, Term};
use tinyraftplus_log::{
    EncryptingEncoder, Key, Log, LogError, LogOptions, MemLog, SnapshotId, SnapshotMeta,
    SnapshotReader, SnapshotStore, SnapshotWriter, TimeoutLog, Timeouts, XxHashEncoder,
    sim_disk::{SimDisk, SimRng},
};

const CHUNK: u64 = 1024;
/// The front of a file.
const FRONT: u64 = 8192;

fn setup(mut setup: Setup) -> Setup {
    setup.options.snapshot_chunk_bytes = u32::try_from(CHUNK).unwrap();
    setup
}

fn all() -> Vec<Setup> {
    Setup::all().into_iter().map(setup).collect()
}

fn id(number: u128) -> SnapshotId {
    SnapshotId::new(number)
}

fn last(seq: u64) -> EntryId {
    EntryId::new(Term::new(3), Seq::new(seq))
}

fn file(seq: u64, number: u128) -> String {
    format!("{NAME}.{seq:020}-{number:032x}.snap")
}

fn begin(store: &SnapshotStore, number: u128, seq: u64) -> SnapshotWriter {
    store.create(id(number), last(seq), Some(configuration(3)), b"tables").unwrap()
}

fn make(store: &SnapshotStore, number: u128, seq: u64, bytes: usize) -> SnapshotMeta {
    let mut writer = begin(store, number, seq);
    writer.write_all(&noise(seq, bytes)).unwrap();
    writer.finish().unwrap()
}

fn state(reader: SnapshotReader) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.state().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Sends all chunks from one to the other.
fn send(from: &SnapshotStore, to: &SnapshotStore, number: u128) -> SnapshotMeta {
    let reader = from.reader(id(number)).unwrap();
    let mut incoming = to.receive(reader.meta()).unwrap();
    while incoming.next() < reader.meta().chunks() {
        let chunk = reader.read_chunk(incoming.next()).unwrap();
        incoming.write_chunk(incoming.next(), &chunk).unwrap();
    }
    incoming.finish().unwrap()
}

/// Every length around a chunk's, with every encoder, in any pieces, is read as written: at once, by chunks, and by
/// a node that received it and was opened again.
#[test]
fn snapshots_are_read_as_written() {
    for setup in all() {
        let (disk, other) = (SimDisk::new(), SimDisk::new());
        let (log, _) = setup.open(&disk);
        let (follower, _) = setup.open(&other);
        let (store, received) = (log.snapshots().unwrap(), follower.snapshots().unwrap());
        let mut number = 0;
        for bytes in [0, 1, 1000, 1017, 1018, 1019, 2041, 2042, 2043, 9000] {
            number += 1;
            let expected = noise(number, bytes);
            let tables = vec![7; usize::try_from(number).unwrap() * 300 - 300];
            let mut writer = store.create(id(number.into()), last(number), None, &tables).unwrap();
            for piece in expected.chunks(bytes / 7 + 1) {
                assert_eq!(writer.write(piece).unwrap(), piece.len());
            }
            assert!(store.get(id(number.into())).is_none(), "it counts when it is finished");
            let meta = writer.finish().unwrap();
            assert_eq!(meta.bytes, (tables.len() + bytes) as u64);
            assert_eq!(meta.chunks(), meta.bytes.div_ceil(CHUNK));
            assert_eq!(store.newest().as_ref(), Some(&meta));
            assert_eq!(send(&store, &received, number.into()), meta);
            for store in [&store, &received] {
                let reader = || store.reader(meta.id).unwrap();
                assert_eq!(reader().meta(), &meta);
                assert_eq!(reader().tables().unwrap(), tables);
                assert_eq!(state(reader()).unwrap(), expected);
                reader().verify().unwrap();
                let chunks = (0..meta.chunks()).rev();
                let mut chunks: Vec<_> =
                    chunks.map(|number| reader().read_chunk(number).unwrap()).collect();
                chunks.reverse();
                assert_eq!(chunks.concat(), [&tables[..], &expected[..]].concat());
                assert!(reader().read_chunk(meta.chunks()).is_err());
            }
        }
        let list = store.list();
        assert_eq!((list.len(), received.list()), (10, list.clone()));
        // The log has never heard of them.
        drop((log, follower));
        disk.power_loss_choosing(|_, _| 0);
        other.power_loss_choosing(|_, _| 0);
        for disk in [disk, other] {
            let (log, _) = setup.open(&disk);
            let store = log.snapshots().unwrap();
            assert_eq!(store.list(), list, "{}", setup.what);
            for meta in &list {
                store.reader(meta.id).unwrap().verify().unwrap();
            }
        }
    }
}

#[test]
fn a_log_in_memory_and_a_timed_one_have_snapshots_too() {
    let mut options = LogOptions::default();
    options.snapshot_chunk_bytes = u32::try_from(CHUNK).unwrap();
    options.encoder = Arc::new(EncryptingEncoder::new(&Key::from_bytes([1; 32])));
    let memory = MemLog::new(options.clone()).unwrap();
    let timed = TimeoutLog::new(Timeouts::default(), MemLog::new(options).unwrap()).unwrap();
    let logs: [Box<dyn Log>; 2] = [Box::new(memory), Box::new(timed)];
    for mut log in logs {
        let store = log.snapshots().unwrap();
        let meta = make(&store, 1, 5, 5000);
        assert_eq!(log.snapshots().unwrap().newest(), Some(meta), "each call gives the same store");
        assert_eq!(state(store.reader(id(1)).unwrap()).unwrap(), noise(5, 5000));
        log.close().unwrap();
        assert!(matches!(log.snapshots(), Err(LogError::Closed)));
        assert!(matches!(store.reader(id(1)), Err(LogError::Closed)));
    }
}

/// Fails if a store outlives the lock of its log: somebody else may own the files then.
#[test]
fn nothing_works_once_the_log_is_closed() {
    for setup in [Setup::one(), Setup::many()].map(setup) {
        for close in [true, false] {
            let disk = SimDisk::new();
            let (mut log, _) = setup.open(&disk);
            let store = log.snapshots().unwrap();
            let meta = make(&store, 1, 5, 5000);
            let reader = store.reader(meta.id).unwrap();
            let mut writer = begin(&store, 2, 6);
            let other = SnapshotMeta { id: id(3), ..meta.clone() };
            let mut incoming = store.receive(&other).unwrap();
            if close {
                log.close().unwrap();
                assert!(matches!(log.snapshots(), Err(LogError::Closed)));
            }
            drop(log);
            let closed = [
                reader.read_chunk(0).err(),
                writer.write_all(b"more").err(),
                writer.finish().err(),
                incoming.write_chunk(0, &[0; 1024]).err(),
                incoming.finish().err(),
                store.reader(meta.id).err(),
                store.receive(&meta).err(),
                store.create(id(4), last(7), None, b"").err(),
                store.remove(meta.id).err(),
                store.remove_older(meta.id).err(),
            ];
            for error in closed {
                assert!(matches!(error, Some(LogError::Closed)), "{error:?}");
            }
            let (log, _) = setup.open(&disk);
            assert_eq!(log.snapshots().unwrap().list(), [meta]);
        }
    }
}

#[test]
fn what_is_given_up_is_removed() {
    let (disk, setup) = (SimDisk::new(), setup(Setup::many()));
    let (log, _) = setup.open(&disk);
    let store = log.snapshots().unwrap();
    let files = disk.files();
    begin(&store, 1, 5).abort();
    drop(begin(&store, 2, 6));
    assert_eq!(disk.files(), files);
    assert_eq!(store.list(), []);
    assert!(matches!(store.remove(id(1)), Err(LogError::SnapshotMissing(_))));
    make(&store, 1, 5, 100);
}

#[test]
fn older_ones_are_removed() {
    let (disk, setup) = (SimDisk::new(), setup(Setup::many()));
    let (log, _) = setup.open(&disk);
    let store = log.snapshots().unwrap();
    let metas = [(1, 5), (2, 7), (3, 7), (4, 9)].map(|(n, seq)| make(&store, n, seq, 3000));
    let part = SnapshotMeta { id: id(5), last: last(6), ..metas[0].clone() };
    drop(store.receive(&part).unwrap());
    let busy = begin(&store, 6, 4);
    let reader = store.reader(id(1)).unwrap();
    store.remove_older(id(2)).unwrap();
    assert_eq!(store.list(), [metas[1].clone(), metas[3].clone()]);
    let names = |numbers: &[(u64, u128)]| {
        let mut names: Vec<_> = numbers.iter().map(|&(seq, number)| file(seq, number)).collect();
        names.sort();
        names
    };
    let snapshots =
        || -> Vec<_> { disk.files().into_iter().filter(|file| file.contains('-')).collect() };
    assert_eq!(snapshots(), names(&[(4, 6), (7, 2), (9, 4)]), "none that is being written");
    assert_eq!(state(reader).unwrap(), noise(5, 3000), "who reads it goes on");
    assert!(matches!(store.remove_older(id(1)), Err(LogError::SnapshotMissing(_))));
    assert!(matches!(store.remove(id(6)), Err(LogError::SnapshotBusy(_))));
    store.remove(id(2)).unwrap();
    busy.finish().unwrap();
    assert_eq!(snapshots(), names(&[(4, 6), (9, 4)]));
    // Their removal is durable.
    drop(log);
    disk.power_loss_choosing(|_, _| 0);
    assert_eq!(snapshots(), names(&[(4, 6), (9, 4)]));
}

/// Destroying a log takes its snapshots, and no other's: not those of logs whose names begin alike.
#[test]
fn snapshots_go_with_their_log() {
    let (disk, setup) = (SimDisk::new(), setup(Setup::many()));
    let (log, _) = setup.open(&disk);
    make(&log.snapshots().unwrap(), 1, 5, 3000);
    drop(log);
    let others = [
        format!("{NAME}.{}", file(5, 1)),
        format!("{NAME}.1-2.snap"),
        format!("{NAME}{}", file(5, 1)),
        format!("{NAME}.00000000000000000005-0000000000000000000000000000000A.snap"),
        format!("{NAME}.0000000000000000000+5-00000000000000000000000000000001.snap"),
    ];
    for other in &others {
        disk.put(other, b"another's");
    }
    let (log, _) = setup.open(&disk);
    assert_eq!(log.snapshots().unwrap().list().len(), 1);
    drop(log);
    setup.destroy(&disk).unwrap();
    let mut left = disk.files();
    left.retain(|file| *file != format!("{NAME}.lock"));
    let mut expected = others.to_vec();
    expected.sort();
    assert_eq!(left, expected);
    let (log, _) = setup.open(&disk);
    assert_eq!(log.snapshots().unwrap().list(), []);
}

/// A snapshot of another log is refused by name, with another key or encoder, too; the file stays as it is.
#[test]
fn snapshots_of_others_are_refused() {
    let (disk, setup) = (SimDisk::new(), setup(Setup::encrypted()));
    let (log, _) = setup.open(&disk);
    make(&log.snapshots().unwrap(), 1, 5, 3000);
    drop(log);
    let bytes = disk.contents(&file(5, 1)).unwrap();
    let refused = |change: &dyn Fn(&mut LogOptions)| {
        let mut setup = setup.clone();
        change(&mut setup.options);
        let other = SimDisk::new();
        let (log, _) = setup.open(&other);
        other.put(&file(5, 1), &bytes);
        let error = log.snapshots().unwrap_err();
        assert!(error.is_fatal(), "{error}");
        drop(log);
        assert_eq!(other.contents(&file(5, 1)).unwrap(), bytes);
        setup.open(&other);
        error
    };
    let foreign = refused(&|options| options.seed = Some(2));
    assert!(matches!(foreign, LogError::ForeignSnapshot { .. }), "{foreign}");
    let key = EncryptingEncoder::new(&Key::from_bytes([8; 32]));
    let wrong = refused(&|options| options.encoder = Arc::new(key.clone()));
    assert!(matches!(wrong, LogError::WrongKey(_)), "{wrong}");
    let wrong = refused(&|options| options.encoder = Arc::new(XxHashEncoder::default()));
    assert!(matches!(wrong, LogError::WrongEncoder { found: 3, given: 1, .. }), "{wrong}");
    // Under another name, it is no snapshot of that entry.
    disk.put(&file(6, 1), &bytes);
    disk.put(&file(5, 2), &bytes);
    let (log, _) = setup.open(&disk);
    let store = log.snapshots().unwrap();
    assert_eq!((store.list().len(), store.damaged().len()), (1, 2));
}

/// The chunks of one snapshot, changed: received as another, out of order, twice, of wrong lengths, with a wrong
/// digest. Fails if any of them becomes a snapshot.
#[test]
fn what_does_not_fit_is_not_received() {
    let (disk, other) = (SimDisk::new(), SimDisk::new());
    let setup = setup(Setup::one());
    let (log, _) = setup.open(&disk);
    let (follower, _) = setup.open(&other);
    let (store, to) = (log.snapshots().unwrap(), follower.snapshots().unwrap());
    let meta = make(&store, 1, 5, 5000);
    let reader = store.reader(id(1)).unwrap();
    let chunk = |number| reader.read_chunk(number).unwrap();
    let mut incoming = to.receive(&meta).unwrap();
    assert_eq!(incoming.write_chunk(1, &chunk(1)).unwrap(), 0, "one before it is missing");
    assert_eq!(incoming.write_chunk(0, &chunk(0)).unwrap(), 1);
    assert_eq!(incoming.write_chunk(0, &chunk(0)).unwrap(), 1, "it came twice");
    for bytes in [vec![], vec![0; 1023], vec![0; 1025]] {
        let refused = incoming.write_chunk(1, &bytes);
        assert!(matches!(refused, Err(LogError::BadSnapshot(_))));
    }
    assert!(matches!(to.receive(&meta), Err(LogError::SnapshotBusy(_))));
    assert!(matches!(incoming.finish(), Err(LogError::BadSnapshot(_))), "chunks are missing");
    let mut incoming = to.receive(&meta).unwrap();
    let wrong = [chunk(1), chunk(0), chunk(2), chunk(3), chunk(4)];
    for (number, bytes) in (0..).zip(&wrong) {
        incoming.write_chunk(number, bytes).unwrap();
    }
    assert_eq!(incoming.write_chunk(5, b"").unwrap(), 5);
    let error = incoming.finish().unwrap_err();
    assert!(error.to_string().contains("digest"), "{error}");
    assert_eq!((to.list(), to.receive(&meta).unwrap().next()), (vec![], 0));
    for bad in [
        SnapshotMeta { chunk_bytes: 0, ..meta.clone() },
        SnapshotMeta { chunk_bytes: 1023, ..meta.clone() },
        SnapshotMeta { chunk_bytes: (1 << 20) + 1, ..meta.clone() },
        SnapshotMeta { bytes: u64::MAX, ..meta.clone() },
        SnapshotMeta { tables_bytes: meta.bytes + 1, ..meta.clone() },
    ] {
        assert!(matches!(to.receive(&bad), Err(LogError::BadSnapshot(_))), "{bad:?}");
    }
    assert_eq!(send(&store, &to, 1), meta);
    // Once it is there, it is there, and no other takes its place.
    let again = to.receive(&meta).unwrap();
    assert_eq!((again.next(), again.finish().unwrap()), (5, meta.clone()));
    let changed = SnapshotMeta { digest: 1, ..meta.clone() };
    assert!(matches!(to.receive(&changed), Err(LogError::BadSnapshot(_))));
    let taken = store.create(id(1), last(9), None, b"");
    assert!(matches!(taken, Err(LogError::BadSnapshot(_))));
    assert!(matches!(
        store.create(id(9), last(u64::MAX), None, b""),
        Err(LogError::BadSnapshot(_))
    ));
}

/// A transfer that ended goes on with what was durable: of this snapshot, and of no other. Fails if a part is taken
/// for another snapshot's because entry and lengths are the same.
#[test]
fn resume_never_continues_another_snapshot() {
    for setup in all() {
        let (disk, other) = (SimDisk::new(), SimDisk::new());
        let (log, _) = setup.open(&disk);
        let store = log.snapshots().unwrap();
        let bytes = 11 << 20;
        let [one, two] = [1_u128, 2].map(|number| {
            let mut writer = store.create(id(number), last(5), None, b"").unwrap();
            let byte = u8::try_from(number).unwrap();
            writer.write_all(&vec![byte; bytes]).unwrap();
            writer.finish().unwrap()
        });
        let resumed = |meta: &SnapshotMeta, at: u64| {
            let (follower, _) = setup.open(&other);
            let to = follower.snapshots().unwrap();
            let reader = store.reader(meta.id).unwrap();
            let mut incoming = to.receive(meta).unwrap();
            let resumed = incoming.next();
            for number in resumed..at {
                incoming.write_chunk(number, &reader.read_chunk(number).unwrap()).unwrap();
            }
            let done = at == meta.chunks();
            if done {
                incoming.finish().unwrap();
                to.reader(meta.id).unwrap().verify().unwrap();
            }
            drop(follower);
            other.power_loss_choosing(|_, _| 0);
            resumed
        };
        let what = setup.what;
        assert_eq!(resumed(&one, 9000), 0, "{what}");
        let durable = resumed(&one, 100);
        assert!((3000..9000).contains(&durable), "{what}: {durable}");
        assert_eq!(resumed(&two, 9000), 0, "{what}");
        assert_eq!(resumed(&one, 9000), 0, "{what}: the other one took its place");
        // The same id, and another claim of what it is.
        let changed = SnapshotMeta { last: EntryId::new(Term::new(4), Seq::new(5)), ..one.clone() };
        assert_eq!(resumed(&changed, 10), 0, "{what}");
        let changed = SnapshotMeta { configurations: Some(configuration(1)), ..one.clone() };
        assert_eq!(resumed(&changed, 10), 0, "{what}");
        resumed(&one, 9000);
        assert!(resumed(&one, one.chunks()) > 3000, "{what}");
        let (follower, _) = setup.open(&other);
        let to = follower.snapshots().unwrap();
        assert_eq!(to.list(), std::slice::from_ref(&one));
        if setup.what != "segments" && setup.what != "segments, encrypted" {
            continue;
        }
        // A sync that failed lost what was received before it, though it can still be read.
        drop(follower);
        setup.destroy(&other).unwrap();
        let (follower, _) = setup.open(&other);
        let to = follower.snapshots().unwrap();
        let reader = store.reader(one.id).unwrap();
        let mut incoming = to.receive(&one).unwrap();
        other.fail_sync(1, io::ErrorKind::Other);
        let failed = loop {
            let chunk = reader.read_chunk(incoming.next()).unwrap();
            if let Err(error) = incoming.write_chunk(incoming.next(), &chunk) {
                break error;
            }
        };
        assert!(matches!(failed, LogError::Io { .. }), "{failed}");
        let reached = incoming.next();
        assert!(incoming.write_chunk(reached, &reader.read_chunk(reached).unwrap()).is_err());
        drop(incoming);
        let mut incoming = to.receive(&one).unwrap();
        // Small chunks are synced by the sixteen.
        let next = incoming.next();
        assert!(next > 0 && next + 10 < reached, "{next} of {reached}");
        while incoming.next() < one.chunks() {
            let chunk = reader.read_chunk(incoming.next()).unwrap();
            incoming.write_chunk(incoming.next(), &chunk).unwrap();
        }
        incoming.finish().unwrap();
        drop(follower);
        other.power_loss_choosing(|_, _| 0);
        let (follower, _) = setup.open(&other);
        follower.snapshots().unwrap().reader(one.id).unwrap().verify().unwrap();
    }
}

/// The disk is full at any byte: a clear error, nothing counts, nothing else is harmed, and it works once there is
/// space.
#[test]
fn disk_full() {
    let (disk, setup) = (SimDisk::new(), setup(Setup::many()));
    let (mut log, _) = setup.open(&disk);
    let store = log.snapshots().unwrap();
    let meta = make(&store, 1, 5, 9000);
    let reader = store.reader(meta.id).unwrap();
    let (mut made, mut received) = (0, 0);
    for bytes in (0..30_000).step_by(700) {
        disk.set_capacity(Some(disk.bytes_used() + bytes));
        let written = store.create(id(2), last(8), None, b"").and_then(|mut writer| {
            writer.write_all(&noise(1, 9000))?;
            writer.finish()
        });
        match written {
            Ok(_) => store.remove(id(2)).unwrap(),
            Err(LogError::NoSpace { .. }) => made += 1,
            Err(error) => panic!("{error}"),
        }
        let other = SnapshotMeta { id: id(3), digest: 0, ..meta.clone() };
        let got = store.receive(&other).and_then(|mut incoming| {
            for number in 0..meta.chunks() {
                incoming.write_chunk(number, &reader.read_chunk(number)?)?;
            }
            Ok(())
        });
        match got {
            Ok(()) => {}
            Err(LogError::NoSpace { .. }) => received += 1,
            Err(error) => panic!("{error}"),
        }
        if store.remove(id(3)).is_err() {
            assert!(got.is_err());
        }
        assert_eq!(store.list(), std::slice::from_ref(&meta));
        disk.set_capacity(None);
    }
    assert!(made > 20 && received > 20, "{made} {received}");
    log.write(&[reset(6, 3)]).unwrap();
    make(&store, 2, 8, 9000);
}

/// A snapshot with every kind of piece, and what is known of it.
fn small(setup: &Setup) -> (SimDisk, SnapshotMeta) {
    let disk = SimDisk::new();
    let (log, _) = setup.open(&disk);
    let meta = make(&log.snapshots().unwrap(), 1, 5, 2500);
    drop(log);
    disk.kill();
    (disk, meta)
}

/// Every bit of a small snapshot is flipped, one at a time: it is mended from the other copy, refused when it is
/// opened or when it is read, or lies where nothing was ever written. Never is it another snapshot, and never does
/// it disappear.
///
/// Fails if a header, an end or a piece is believed unchecked, or if a damaged end is taken for one that was never
/// written: then all of it is removed.
#[test]
fn every_flipped_bit_is_refused() {
    for setup in all().into_iter().skip(5) {
        let (disk, meta) = small(&setup);
        let name = file(5, 1);
        let bytes = disk.contents(&name).unwrap();
        let (mut mended, mut at_open, mut at_read, mut padding) = (0, 0, 0, 0);
        for at in 0..bytes.len() {
            let bits = if at % 64 == 0 { 0..8 } else { at as u64 % 8..at as u64 % 8 + 1 };
            for bit in bits {
                let damaged = disk.fork();
                assert!(damaged.flip_bit(&name, at as u64 * 8 + bit));
                let (log, _) = setup.open(&damaged);
                let what = format!("{}, bit {bit} of byte {at}", setup.what);
                let store = match log.snapshots() {
                    Ok(store) => store,
                    // Its checksum is right only by chance: 2^-64.
                    Err(error) => panic!("{what}: {error}"),
                };
                if let [(damaged, damage)] = &store.damaged()[..] {
                    assert!(*damaged == meta.id && store.list().is_empty(), "{what}: {damage}");
                    at_open += 1;
                    // It stays until somebody removes it, or a good one takes its place.
                    let good = disk.fork();
                    let (from, _) = setup.open(&good);
                    send(&from.snapshots().unwrap(), &store, 1);
                    assert_eq!((store.list().len(), store.damaged().len()), (1, 0), "{what}");
                    continue;
                }
                assert_eq!(store.list(), std::slice::from_ref(&meta), "{what}");
                let reader = store.reader(meta.id).unwrap();
                match reader.verify() {
                    Ok(()) => {
                        assert_eq!(state(reader).unwrap(), noise(5, 2500), "{what}");
                        let same = damaged.contents(&name).unwrap() == bytes;
                        *(if same { &mut mended } else { &mut padding }) += 1;
                    }
                    Err(LogError::SnapshotCorrupt { .. }) => {
                        let error = state(reader).unwrap_err();
                        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{what}");
                        at_read += 1;
                    }
                    Err(error) => panic!("{what}: {error}"),
                }
            }
        }
        println!(
            "{}: {mended} mended, {at_open} at opening, {at_read} at reading, {padding} in padding",
            setup.what
        );
        assert!(mended > 1000 && at_open > 200 && at_read > 2500, "{}", setup.what);
        // Behind pieces, and up to the next place; all of the front is written again.
        let pieces: usize = 5 * 128 + 2500 + 6 + 24;
        assert!(padding < bytes.len() * 2 - 2 * pieces - 8192, "{padding}");
    }
}

/// A flip in a part of a snapshot that is being received is found when it goes on, and that chunk comes again.
#[test]
fn a_damaged_part_is_received_again() {
    let (disk, other) = (SimDisk::new(), SimDisk::new());
    let setup = setup(Setup::many());
    let (log, _) = setup.open(&disk);
    let store = log.snapshots().unwrap();
    let meta = make(&store, 1, 5, 9 << 20);
    let reader = store.reader(meta.id).unwrap();
    let (follower, _) = setup.open(&other);
    let mut incoming = follower.snapshots().unwrap().receive(&meta).unwrap();
    for number in 0..9000 {
        incoming.write_chunk(number, &reader.read_chunk(number).unwrap()).unwrap();
    }
    drop((incoming, follower));
    let mut rng = SimRng::new(1);
    let len = other.contents(&file(5, 1)).unwrap().len() as u64;
    let mut earlier = 0;
    for round in 0..40 {
        let damaged = other.fork();
        let at = if round < 10 { FRONT * 8 + round * 700 } else { rng.below(len * 8) };
        damaged.flip_bit(&file(5, 1), at);
        let (follower, _) = setup.open(&damaged);
        let to = follower.snapshots().unwrap();
        if to.damaged().is_empty() {
            let incoming = to.receive(&meta).unwrap();
            earlier += u64::from(incoming.next() < 7000);
            drop(incoming);
        }
        assert_eq!(send(&store, &to, 1), meta, "bit {at}");
        to.reader(meta.id).unwrap().verify().unwrap();
    }
    assert!(earlier > 20, "{earlier}");
}

/// Lengths in a header whose checksum is right, because somebody made it so. Fails if memory is taken for what the
/// file does not have.
#[test]
fn huge_length() {
    let setup = setup(Setup::many());
    let (disk, meta) = small(&setup);
    let sum = |bytes: &mut [u8], at: usize, len: usize| {
        let sum = twox_hash::XxHash3_64::oneshot(&bytes[at..at + len - 8]);
        bytes[at + len - 8..at + len].copy_from_slice(&sum.to_le_bytes());
    };
    // In each: chunk bytes, places; number of chunks; bytes of a piece.
    for (at, begin, len) in [
        (12, 0, 512),
        (80, 0, 512),
        (84, 0, 512),
        (512 + 26, 512, 512),
        (512 + 30, 512, 512),
        (8192 + 48, 8192, 128),
        (8192 + 52, 8192, 128),
        (8192 + 56, 8192, 128),
    ] {
        for value in [u32::MAX, 1 << 26, 1 << 20, (1 << 20) + 512, 0] {
            let damaged = disk.fork();
            let same = damaged.edit(&file(5, 1), |bytes| {
                if bytes[at..at + 4] == value.to_le_bytes() {
                    return true;
                }
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
                sum(bytes, begin, len);
                if begin < 8192 {
                    bytes.copy_within(..4096, 4096);
                }
                false
            });
            if same.unwrap() {
                continue;
            }
            let (log, _) = setup.open(&damaged);
            let store = log.snapshots().unwrap();
            let whole = store.reader(meta.id).and_then(|reader| reader.verify());
            assert!(whole.is_err() && !store.damaged().is_empty(), "{value} at {at}");
        }
    }
}
