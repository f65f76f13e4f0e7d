//! What an encoder of one's own can rely on.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use common::{FILE, NAME, append, configuration, entry};
use tinyraftplus_core::Seq;
use tinyraftplus_log::{
    Encoder, EncoderError, FsLog, Log, LogError, LogExt, LogOptions, Write, inspect,
    sim_disk::SimDisk,
};

/// Makes runs of equal bytes short, and remembers the largest body that it was asked for.
#[derive(Debug, Default)]
struct Watching(AtomicU64);

impl Encoder for Watching {
    fn id(&self) -> u8 {
        64
    }

    fn encoded_bytes_max(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(2)
    }

    fn encode(&self, _: &[u8], buffer: &mut Vec<u8>, at: usize) -> Result<(), EncoderError> {
        for run in buffer.split_off(at).chunk_by(|a, b| a == b) {
            for part in run.chunks(255) {
                buffer.extend([u8::try_from(part.len()).unwrap(), part[0]]);
            }
        }
        Ok(())
    }

    fn decode(&self, _: &[u8], body: &mut Vec<u8>, plain_bytes: u64) -> Result<(), EncoderError> {
        self.0.fetch_max(plain_bytes, Ordering::Relaxed);
        let runs = body.chunks_exact(2);
        *body = runs.flat_map(|run| std::iter::repeat_n(run[1], run[0].into())).collect();
        Ok(())
    }
}

fn options(encoder: &Arc<Watching>) -> LogOptions {
    let mut options = common::options();
    options.group_bytes_max = LogOptions::GROUP_BYTES_MIN;
    options.batch_bytes_max = 16 << 10;
    options.entry_bytes_max = 16 << 10;
    options.encoder = Arc::<Watching>::clone(encoder);
    options
}

/// A header with a valid checksum says that its body decodes to 4 GiB. Nobody asks a decoder for them.
///
/// Fails if recovery, or a reader, hands on a length that it has not compared with the limit of a group.
#[test]
fn decoders_are_told_no_length_beyond_a_group() {
    let encoder = Arc::new(Watching::default());
    let disk = SimDisk::new();
    let (mut log, _) = FsLog::open_on(&disk, NAME, options(&encoder)).unwrap();
    let members = Write { configuration: Some(configuration(1)), ..append(vec![entry(0, 1, "a")]) };
    log.write(&[members]).unwrap();
    log.close().unwrap();
    drop(log);
    let frames = inspect(&disk, NAME).unwrap();
    let forge = |bytes: &mut Vec<u8>| {
        for frame in &frames {
            let header = &mut bytes[usize::try_from(frame.position).unwrap()..][..128];
            if header[80..84] == [0; 4] {
                continue;
            }
            header[80..84].copy_from_slice(&u32::MAX.to_le_bytes());
            let sum = twox_hash::XxHash3_64::oneshot(&header[..120]);
            header[120..].copy_from_slice(&sum.to_le_bytes());
        }
    };
    let open = disk.fork();
    let (log, _) = FsLog::open_on(&open, NAME, options(&encoder)).unwrap();
    assert!(encoder.0.load(Ordering::Relaxed) > 0, "recovery looks into a configuration");
    open.edit(FILE, forge).unwrap();
    let error = log.iter(..).find_map(Result::err).unwrap();
    assert!(matches!(error, LogError::Corrupt { .. }), "{error}");

    disk.edit(FILE, forge).unwrap();
    let error = FsLog::open_on(&disk, NAME, options(&encoder)).map(drop).unwrap_err();
    assert!(matches!(error, LogError::Corrupt { .. }), "{error}");
    assert!(encoder.0.load(Ordering::Relaxed) <= LogOptions::GROUP_BYTES_MIN);
}

/// An encoder makes a body short, so that it fits the log. But decoded it is larger than any group, and nobody would
/// read it again.
///
/// Fails if a group is judged by what it takes on the disk alone.
#[test]
fn a_body_that_nobody_would_read_is_not_written() {
    let encoder = Arc::new(Watching::default());
    let disk = SimDisk::new();
    let (mut log, _) = FsLog::open_on(&disk, NAME, options(&encoder)).unwrap();
    let many = |count| append((0..count).map(|seq| entry(seq, 1, vec![6; 6])).collect());
    let error = log.write(&[many(12_000)]).unwrap_err();
    assert!(matches!(error, LogError::TooLarge { what: "a group", .. }), "{error}");
    log.write(&[many(7000)]).unwrap();
    drop(log);
    let (log, _) = FsLog::open_on(&disk, NAME, options(&encoder)).unwrap();
    assert_eq!(log.iter(..).map(Result::unwrap).count(), 7000);
    assert_eq!(log.end(), Seq::new(7000));
}
