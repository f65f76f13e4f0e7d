//! How much memory a snapshot takes. Alone in its process, because that is what is measured.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{fs, io::Read, sync::Arc};

use tinyraftplus_core::{EntryId, Seq, Term};
use tinyraftplus_log::{EncryptingEncoder, FsLog, Key, Log, LogOptions, SnapshotId};

/// What the process had in memory at most so far.
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    kib >> 10
}

/// Made, sent, received and restored, all at once. Fails if more of it than a few chunks is ever in memory.
#[test]
fn a_large_snapshot_takes_little_memory() {
    let mib = std::env::var("LOG_MEMORY_MIB").map_or(128, |mib| mib.parse().unwrap());
    let dir = tempfile::Builder::new().prefix("large").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
    let dir = dir.unwrap();
    let mut options = LogOptions::default();
    options.encoder = Arc::new(EncryptingEncoder::new(&Key::from_bytes([3; 32])));
    let open = |name| FsLog::open(dir.path(), name, options.clone()).unwrap().0;
    let (log, follower) = (open("x"), open("y"));
    let (store, received) = (log.snapshots().unwrap(), follower.snapshots().unwrap());
    let last = EntryId::new(Term::new(1), Seq::new(9));
    let mut writer = store.create(SnapshotId::new(7), last, None, b"tables").unwrap();
    let bytes = vec![0xa5; 10_000];
    let rounds = (mib << 20) / 10_000;
    for _ in 0..rounds {
        writer.write_all(&bytes).unwrap();
    }
    let meta = writer.finish().unwrap();
    let reader = store.reader(meta.id).unwrap();
    let mut incoming = received.receive(&meta).unwrap();
    for number in 0..meta.chunks() {
        incoming.write_chunk(number, &reader.read_chunk(number).unwrap()).unwrap();
    }
    incoming.finish().unwrap();
    drop((log, follower));
    let log = open("y");
    let mut state = log.snapshots().unwrap().reader(meta.id).unwrap().state();
    let (mut buffer, mut total) = ([0; 7000], 0);
    loop {
        let count = state.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        assert!(buffer[..count].iter().all(|&byte| byte == 0xa5));
        total += count as u64;
    }
    assert_eq!(total, rounds * 10_000);
    let peak = peak_mib();
    println!("{mib} MiB, peak {peak} MiB");
    assert!(peak < 32, "{peak} MiB");
}
