//! Opening a log, and reading it from its start to its end, with all of it in the kernel's memory.

use super::{Meter, Sample, writing};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tinyraftplus_log::{FsLog, Log, LogError, LogExt, LogOptions};

/// How many entries there are to read, together about 100 MB or 256 MiB.
const SMALL: u64 = 1_000_000;
const LARGE: u64 = 256 << 10;
const BATCH: u64 = 1000;

/// What is done with a log.
#[derive(Clone, Copy)]
pub(super) enum Load {
    Open,
    Iterate,
    Decrypt,
}

/// The logs that are read, made when they are needed first.
pub(super) struct Logs {
    dir: PathBuf,
    made: BTreeMap<String, LogOptions>,
}

impl Logs {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), made: BTreeMap::new() }
    }

    pub(super) fn run(
        &mut self,
        load: Load,
        payload: u64,
        time: Duration,
    ) -> Result<Sample, LogError> {
        let decrypt = matches!(load, Load::Decrypt);
        let name = format!("read-{payload}{}", if decrypt { "-encrypted" } else { "" });
        let options = self.options(&name, payload, decrypt)?;
        match load {
            Load::Open => self.open(&name, &options, time),
            Load::Iterate | Load::Decrypt => self.iterate(&name, &options, time),
        }
    }

    fn options(&mut self, name: &str, payload: u64, decrypt: bool) -> Result<LogOptions, LogError> {
        if let Some(options) = self.made.get(name) {
            return Ok(options.clone());
        }
        let options = if decrypt { writing::encrypted()? } else { LogOptions::default() };
        let (mut log, _) = FsLog::open(&self.dir, name, options.clone())?;
        let count = if payload < 1024 { SMALL } else { LARGE };
        let payload = crate::bench::payload(usize::try_from(payload).unwrap_or(usize::MAX));
        for _ in 0..count.div_ceil(BATCH) {
            log.append_batch((0..BATCH).map(|_| payload.clone()))?;
        }
        log.close()?;
        self.made.insert(name.to_owned(), options.clone());
        Ok(options)
    }

    fn open(&self, name: &str, options: &LogOptions, time: Duration) -> Result<Sample, LogError> {
        let mut meter = Meter::new(time);
        while meter.goes_on() {
            let began = Instant::now();
            let (mut log, _) = FsLog::open(&self.dir, name, options.clone())?;
            meter.add(began, 1);
            log.close()?;
        }
        Ok(meter.end())
    }

    fn iterate(
        &self,
        name: &str,
        options: &LogOptions,
        time: Duration,
    ) -> Result<Sample, LogError> {
        let (mut log, _) = FsLog::open(&self.dir, name, options.clone())?;
        let mut meter = Meter::new(time);
        while meter.goes_on() {
            let began = Instant::now();
            let mut count = 0;
            for entry in log.iter(..) {
                std::hint::black_box(entry?);
                count += 1;
            }
            meter.add(began, count);
        }
        let sample = meter.end();
        log.close()?;
        Ok(sample)
    }
}
