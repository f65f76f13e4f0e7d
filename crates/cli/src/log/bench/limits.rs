//! What the disk itself can do: a file, and nothing else.

use super::{Meter, Sample};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use tinyraftplus_log::{Disk, DiskFile, Open, OsDisk};

/// Written before anything is measured, so that no write has to grow the file.
const FILE_BYTES: u64 = 64 << 20;

/// How to write.
#[derive(Clone, Copy)]
pub(super) enum Limit {
    /// 1 KiB at a time, each durable when it returns.
    Dsync,
    /// 1 KiB at a time, a sync after each.
    Fdatasync,
    /// 64 KiB at a time: what 64 writers of 1 KiB could share.
    Sync64,
    /// 1,000 KiB at a time, into a file that grows.
    Growing,
    /// 1,000 KiB at a time, over what was written before.
    Over,
}

pub(super) fn run(limit: Limit, dir: &Path, time: Duration) -> io::Result<Sample> {
    let entries: u64 = match limit {
        Limit::Dsync | Limit::Fdatasync => 1,
        Limit::Sync64 => 64,
        Limit::Growing | Limit::Over => 1000,
    };
    let disk = OsDisk::create(dir)?;
    let file = disk.open("limit", Open::Create)?;
    let data = crate::bench::payload(usize::try_from(entries * 1024).unwrap_or(usize::MAX));
    let bytes = data.len() as u64;
    let grows = matches!(limit, Limit::Growing);
    if !grows {
        let zeros = vec![0; 1 << 20];
        for at in (0..FILE_BYTES).step_by(1 << 20) {
            file.write_at(at, &zeros)?;
        }
        file.sync_data()?;
    }
    let mut meter = Meter::new(time);
    let mut at = 0;
    while meter.goes_on() {
        if !grows && at + bytes > FILE_BYTES {
            at = 0;
        }
        let began = Instant::now();
        match limit {
            Limit::Fdatasync | Limit::Growing => {
                file.write_at(at, &data)?;
                file.sync_data()?;
            }
            Limit::Dsync | Limit::Sync64 | Limit::Over => file.write_durable_at(at, &data)?,
        }
        meter.add(began, entries);
        at += bytes;
    }
    let sample = meter.end();
    drop(file);
    disk.remove("limit")?;
    Ok(sample)
}
