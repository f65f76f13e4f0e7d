//! How much memory a log takes. Alone in its process, because that is what is measured.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;

use tinyraftplus_log::{FsLog, Log, LogExt, LogOptions};

/// What the process had in memory at most so far.
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    kib >> 10
}

/// Fails if what is read, or where it lies, stays in memory. `LOG_MEMORY_MIB` says how large the log is.
#[test]
fn writing_and_iterating_a_large_log_takes_little_memory() {
    let mib = std::env::var("LOG_MEMORY_MIB").map_or(128, |mib| mib.parse().unwrap());
    let dir = tempfile::Builder::new().prefix("large").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
    let dir = dir.unwrap();
    let (mut log, _) = FsLog::open(dir.path(), "x", LogOptions::default()).unwrap();
    let payload = bytes::Bytes::from(vec![0xa5; 1024]);
    for _ in 0..mib {
        log.append_batch((0..1024).map(|_| payload.clone())).unwrap();
    }
    let stats = log.stats();
    assert_eq!(stats.entries, mib * 1024);
    log.close().unwrap();
    let (log, _) = FsLog::open(dir.path(), "x", LogOptions::default()).unwrap();
    let read = log.iter(..).map(|entry| entry.unwrap().payload.len() as u64).sum::<u64>();
    assert_eq!(read, mib << 20);
    let peak = peak_mib();
    println!(
        "{mib} MiB: index {} bytes for {} entries, peak {peak} MiB",
        stats.index_bytes, stats.entries
    );
    assert!(stats.index_bytes <= stats.entries, "{stats:?}");
    assert!(log.stats().index_bytes <= stats.entries, "{:?}", log.stats());
    assert!(peak < 64, "{peak} MiB");
}
