//! Appending, each way a caller can.

use super::{Meter, Sample};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tinyraftplus_log::{
    EncryptingEncoder, FsLog, Key, LogError, LogExt, LogOptions, MultiFsLog, Seq, SharedLog,
};

const NAME: &str = "bench";
const WRITERS: usize = 64;
const BATCH: u64 = 1000;
/// Before a log's space is measured as recycled, each segment was used once.
const SEGMENT_BYTES: u64 = 64 << 20;
const SEGMENTS_KEPT: u64 = 2;

/// Who appends what.
#[derive(Clone, Copy)]
pub(super) enum Load {
    One,
    OneShared,
    OneAsync,
    Threads,
    Async,
    Batch,
    BatchEncrypted,
    BatchRecycled,
    Txn,
}

pub(super) async fn run(load: Load, dir: &Path, time: Duration) -> Result<Sample, LogError> {
    let payload = crate::bench::payload(1024);
    match load {
        Load::One => one(open(dir, LogOptions::default())?, &payload, time),
        Load::OneShared => one_shared(&shared(dir)?, &payload, time),
        Load::OneAsync => one_async(&shared(dir)?, &payload, time).await,
        Load::Threads => threads(&shared(dir)?, &payload, time),
        Load::Async => in_flight(&shared(dir)?, &payload, time).await,
        Load::Batch => batches(open(dir, LogOptions::default())?, &payload, time),
        Load::BatchEncrypted => batches(open(dir, encrypted()?)?, &payload, time),
        Load::BatchRecycled => recycled(dir, &payload, time),
        Load::Txn => transactions(&shared(dir)?, &payload, time),
    }
}

/// Options with a new key.
pub(super) fn encrypted() -> Result<LogOptions, LogError> {
    let key = Key::generate().map_err(|error| LogError::Encoder {
        op: "draw a key",
        source: tinyraftplus_log::EncoderError::new(error),
    })?;
    let mut options = LogOptions::default();
    options.encoder = Arc::new(EncryptingEncoder::new(&key));
    Ok(options)
}

fn open(dir: &Path, options: LogOptions) -> Result<FsLog, LogError> {
    Ok(FsLog::open(dir, NAME, options)?.0)
}

fn shared(dir: &Path) -> Result<SharedLog, LogError> {
    Ok(SharedLog::new(open(dir, LogOptions::default())?))
}

/// What a log does once: a thread starts, space is made.
const WARM_UP: u64 = 500;

fn one(mut log: FsLog, payload: &Bytes, time: Duration) -> Result<Sample, LogError> {
    for _ in 0..WARM_UP {
        log.append(payload.clone())?;
    }
    let mut meter = Meter::new(time);
    while meter.goes_on() {
        let began = Instant::now();
        log.append(payload.clone())?;
        meter.add(began, 1);
    }
    Ok(meter.end())
}

fn one_shared(log: &SharedLog, payload: &Bytes, time: Duration) -> Result<Sample, LogError> {
    for _ in 0..WARM_UP {
        log.append(payload.clone()).wait()?;
    }
    let mut meter = Meter::new(time);
    while meter.goes_on() {
        let began = Instant::now();
        log.append(payload.clone()).wait()?;
        meter.add(began, 1);
    }
    Ok(meter.end())
}

async fn one_async(log: &SharedLog, payload: &Bytes, time: Duration) -> Result<Sample, LogError> {
    for _ in 0..WARM_UP {
        log.append(payload.clone()).await?;
    }
    let mut meter = Meter::new(time);
    while meter.goes_on() {
        let began = Instant::now();
        log.append(payload.clone()).await?;
        meter.add(began, 1);
    }
    Ok(meter.end())
}

fn threads(log: &SharedLog, payload: &Bytes, time: Duration) -> Result<Sample, LogError> {
    let mut all = Meter::new(time);
    let meters = std::thread::scope(|scope| {
        let work = || {
            let mut meter = Meter::new(time);
            while meter.goes_on() {
                let began = Instant::now();
                log.append(payload.clone()).wait()?;
                meter.add(began, 1);
            }
            Ok::<_, LogError>(meter)
        };
        let workers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().map_err(|_| died())?).collect::<Vec<_>>()
    });
    for meter in meters {
        add(&mut all, &meter?);
    }
    Ok(all.end())
}

async fn in_flight(log: &SharedLog, payload: &Bytes, time: Duration) -> Result<Sample, LogError> {
    let mut all = Meter::new(time);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        let (log, payload) = (log.clone(), payload.clone());
        tasks.spawn(async move {
            let mut meter = Meter::new(time);
            while meter.goes_on() {
                let began = Instant::now();
                log.append(payload.clone()).await?;
                meter.add(began, 1);
            }
            Ok::<_, LogError>(meter)
        });
    }
    while let Some(joined) = tasks.join_next().await {
        add(&mut all, &joined.map_err(|_| died())??);
    }
    Ok(all.end())
}

fn add(all: &mut Meter, one: &Meter) {
    all.count += one.count;
    // Both count in three digits and grow as needed.
    let _ = all.latency.add(&one.latency);
}

fn died() -> LogError {
    LogError::Panicked { op: "a writer of the benchmark", message: "see above".to_owned() }
}

fn batches(mut log: FsLog, payload: &Bytes, time: Duration) -> Result<Sample, LogError> {
    let mut meter = Meter::new(time);
    while meter.goes_on() {
        let began = Instant::now();
        log.append_batch((0..BATCH).map(|_| payload.clone()))?;
        meter.add(began, BATCH);
    }
    Ok(meter.end())
}

/// A log that drops its oldest entries as it goes, so that what it writes to was written before. The zeroing of
/// old segments happens meanwhile, and counts.
fn recycled(dir: &Path, payload: &Bytes, time: Duration) -> Result<Sample, LogError> {
    let mut options = LogOptions::default();
    options.segment_bytes_max = SEGMENT_BYTES;
    options.group_bytes_max = SEGMENT_BYTES / 2;
    options.batch_bytes_max = SEGMENT_BYTES / 4;
    let (mut log, _) = MultiFsLog::open(dir, NAME, options)?;
    let kept = SEGMENTS_KEPT * SEGMENT_BYTES / 1024;
    let step = |log: &mut MultiFsLog| {
        log.append_batch((0..BATCH).map(|_| payload.clone()))?;
        let before = log.end().get().saturating_sub(kept);
        if before > log.start().get() + kept / 2 {
            log.compact(Seq::new(before))?;
        }
        Ok::<_, LogError>(())
    };
    while log.start() == Seq::ZERO {
        step(&mut log)?;
    }
    log.finish_upkeep();
    let mut meter = Meter::new(time);
    while meter.goes_on() {
        let began = Instant::now();
        step(&mut log)?;
        meter.add(began, BATCH);
    }
    Ok(meter.end())
}

fn transactions(log: &SharedLog, payload: &Bytes, time: Duration) -> Result<Sample, LogError> {
    let mut meter = Meter::new(time);
    while meter.goes_on() {
        let began = Instant::now();
        let mut txn = log.txn().wait()?;
        for _ in 0..BATCH {
            txn.append(payload.clone())?;
        }
        txn.commit().wait()?;
        meter.add(began, BATCH);
    }
    Ok(meter.end())
}
