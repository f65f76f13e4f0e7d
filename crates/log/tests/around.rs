//! Small and large writes, zeros ahead of them and readers behind, all at once in files of the operating system.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tinyraftplus_log::{FsLog, LogOptions, MultiFsLog, Seq, SharedLog, sim_disk::SimRng};

/// Large ones go around the page cache, small ones through it, and readers read what lies in the same pages.
const SIZES: [u64; 6] = [10, 1000, 30_000, 70_000, 200_000, 600_000];

fn payload(seq: u64) -> Vec<u8> {
    let mut rng = SimRng::new(seq);
    let size = *SIZES.get(usize::try_from(rng.below(6)).unwrap()).unwrap();
    let start = rng.next();
    (0..=rng.below(size)).map(|at| u8::try_from((start + at) % 251).unwrap()).collect()
}

/// Fails if a reader sees a page as it was before a write around the cache, if that write takes bytes that stood before it, or
/// if the two ways meet in a page of the cache, which fails the next sync.
fn readers_beside_the_writer(log: &SharedLog) {
    let written = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let read = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let end = written.load(Ordering::Acquire);
                    let start = end.saturating_sub(3);
                    for (entry, seq) in log.iter(Seq::new(start)..Seq::new(end)).zip(start..) {
                        assert_eq!(entry.unwrap().payload, payload(seq), "{seq}");
                        read.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for seq in 0..600 {
            assert_eq!(log.append(payload(seq)).wait().unwrap(), Seq::new(seq));
            written.store(seq + 1, Ordering::Release);
        }
        done.store(true, Ordering::Release);
    });
    assert!(read.load(Ordering::Relaxed) > 600);
}

fn all_is_there(log: &SharedLog) {
    for (entry, seq) in log.iter(..).zip(0..) {
        assert_eq!(entry.unwrap().payload, payload(seq), "{seq}");
    }
    assert_eq!(log.end(), Seq::new(600));
}

#[test]
fn in_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let open = || SharedLog::new(FsLog::open(dir.path(), "log", LogOptions::default()).unwrap().0);
    let log = open();
    readers_beside_the_writer(&log);
    log.close().wait().unwrap();
    all_is_there(&open());
}

#[test]
fn in_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = LogOptions::default();
    options.segment_bytes_max = 6 << 20;
    options.group_bytes_max = 2 << 20;
    options.batch_bytes_max = 1 << 20;
    let open = || SharedLog::new(MultiFsLog::open(dir.path(), "log", options.clone()).unwrap().0);
    let log = open();
    readers_beside_the_writer(&log);
    assert!(log.stats().segments > 5);
    log.close().wait().unwrap();
    all_is_there(&open());
}
