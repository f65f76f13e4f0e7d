//! Opening a log, and reading it from its start to its end, with all of it in the kernel's memory.

use super::{Meter, Sample, writing};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tinyraftplus_log::{FsLog, Log, LogError, LogExt, LogOptions, MultiFsLog};

/// How many entries there are to read, together about 100 MB or 256 MiB.
const SMALL: u64 = 1_000_000;
const LARGE: u64 = 256 << 10;
const BATCH: u64 = 1000;
/// A segment that takes ten batches of 100 B an entry: a hundred segments for all.
const SEGMENT_BYTES: u64 = 1100 << 10;

/// What is done with a log.
#[derive(Clone, Copy)]
pub(super) enum Load {
    Open,
    OpenSegments,
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
        let (kind, options) = match load {
            Load::Open | Load::Iterate => ("one", LogOptions::default()),
            Load::OpenSegments => ("segments", segments()),
            Load::Decrypt => ("encrypted", writing::encrypted()?),
        };
        let name = format!("{kind}-{payload}");
        let options = self.make(load, &name, payload, options)?;
        match load {
            Load::Open | Load::OpenSegments => self.open(load, &name, &options, time),
            Load::Iterate | Load::Decrypt => self.iterate(&name, &options, time),
        }
    }

    /// Makes a log, unless it is there. Gives the options with which it is opened.
    fn make(
        &mut self,
        load: Load,
        name: &str,
        payload: u64,
        options: LogOptions,
    ) -> Result<LogOptions, LogError> {
        if let Some(options) = self.made.get(name) {
            return Ok(options.clone());
        }
        let mut log = self.log(load, name, &options)?;
        let count = if payload < 1024 { SMALL } else { LARGE };
        let payload = crate::bench::payload(usize::try_from(payload).unwrap_or(usize::MAX));
        for _ in 0..count.div_ceil(BATCH) {
            log.append_batch((0..BATCH).map(|_| payload.clone()))?;
        }
        log.close()?;
        self.made.insert(name.to_owned(), options.clone());
        Ok(options)
    }

    fn log(&self, load: Load, name: &str, options: &LogOptions) -> Result<Box<dyn Log>, LogError> {
        Ok(match load {
            Load::OpenSegments => Box::new(MultiFsLog::open(&self.dir, name, options.clone())?.0),
            Load::Open | Load::Iterate | Load::Decrypt => {
                Box::new(FsLog::open(&self.dir, name, options.clone())?.0)
            }
        })
    }

    fn open(
        &self,
        load: Load,
        name: &str,
        options: &LogOptions,
        time: Duration,
    ) -> Result<Sample, LogError> {
        let mut meter = Meter::new(time);
        while meter.goes_on() {
            let began = Instant::now();
            let mut log = self.log(load, name, options)?;
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

fn segments() -> LogOptions {
    let mut options = LogOptions::default();
    options.segment_bytes_max = SEGMENT_BYTES;
    options.group_bytes_max = SEGMENT_BYTES / 2;
    options.batch_bytes_max = SEGMENT_BYTES / 4;
    options
}
