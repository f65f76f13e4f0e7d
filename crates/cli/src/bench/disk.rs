//! What the disk itself can do: the limit that appends on a quorum can't pass.

use super::latency;
use crate::error::{Error, explain};
use hdrhistogram::Histogram;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// What is written before anything is measured, so that no write has to grow its file: so much, or so many writes.
const FILE_BYTES: u64 = 16 << 20;
const FILE_WRITES: u64 = 4;
/// A node's log writes no more than about this at once.
const WRITE_BYTES_MAX: u64 = 8 << 20;

/// So many files, written and synced at the same moment, and a majority of them awaited: what a cluster's quorum
/// costs if all its nodes share a disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Limit {
    pub(super) files: u64,
    /// Bytes of a write.
    pub(super) bytes: u64,
}

/// What one round of it measured.
pub(super) struct Writes {
    pub(super) per_second: f64,
    /// As [`latency::QUANTILES`] says.
    pub(super) micros: [f64; 5],
}

impl Limit {
    pub(super) fn new(files: u64, bytes: u64) -> Self {
        Self { files, bytes: bytes.min(WRITE_BYTES_MAX) }
    }

    pub(super) const fn awaited(&self) -> u64 {
        self.files / 2 + 1
    }

    /// Measures it.
    pub(super) fn measure(&self, dir: &Path, time: Duration) -> Result<Writes, Error> {
        let latency =
            if self.files == 1 { self.alone(dir, time) } else { self.together(dir, time) };
        let (latency, took) =
            latency.map_err(|error| Error::failed(explain("can't measure the disk", &error)))?;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let count = latency.len() as f64;
        Ok(Writes { per_second: count / took.as_secs_f64(), micros: latency::quantiles(&latency) })
    }

    fn alone(&self, dir: &Path, time: Duration) -> io::Result<(Histogram<u64>, Duration)> {
        let mut writer = Writer::new(dir, 0, self.bytes)?;
        let mut latency = latency::histogram();
        let started = Instant::now();
        while started.elapsed() < time {
            let began = Instant::now();
            writer.write()?;
            latency::record(&mut latency, began.elapsed());
        }
        Ok((latency, started.elapsed()))
    }

    fn together(&self, dir: &Path, time: Duration) -> io::Result<(Histogram<u64>, Duration)> {
        let writers = (0..self.files).map(|number| Writer::new(dir, number, self.bytes));
        let writers = writers.collect::<io::Result<Vec<_>>>()?;
        std::thread::scope(|scope| {
            let (done, results) = mpsc::channel();
            let start = |writer| {
                let (go, rounds) = mpsc::channel();
                let done = done.clone();
                scope.spawn(move || serve(writer, &rounds, &done));
                go
            };
            let go: Vec<Sender<u64>> = writers.into_iter().map(start).collect();
            drop(done);
            self.rounds(&go, &results, time)
        })
    }

    fn rounds(
        &self,
        go: &[Sender<u64>],
        results: &Receiver<io::Result<u64>>,
        time: Duration,
    ) -> io::Result<(Histogram<u64>, Duration)> {
        let mut latency = latency::histogram();
        let started = Instant::now();
        let mut round = 0;
        while started.elapsed() < time {
            round += 1;
            let began = Instant::now();
            for go in go {
                // A closed channel means that its writer failed, and its result says why.
                let _ = go.send(round);
            }
            let mut answers = 0;
            while answers < self.awaited() {
                let answer =
                    results.recv().map_err(|_| io::Error::other("the writers are gone"))?;
                answers += u64::from(answer? == round);
            }
            latency::record(&mut latency, began.elapsed());
        }
        Ok((latency, started.elapsed()))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, bytes } = self;
        if *files == 1 {
            write!(f, "one file, {bytes} bytes a write")
        } else {
            write!(f, "{files} files in lockstep, {} awaited, {bytes} bytes each", self.awaited())
        }
    }
}

fn serve(mut writer: Writer, rounds: &Receiver<u64>, done: &Sender<io::Result<u64>>) {
    for round in rounds {
        if done.send(writer.write().map(|()| round)).is_err() {
            return;
        }
    }
}

struct Writer {
    file: File,
    file_bytes: u64,
    data: Vec<u8>,
    position: u64,
}

impl Writer {
    fn new(dir: &Path, number: u64, bytes: u64) -> io::Result<Self> {
        let file = File::create(dir.join(format!("limit-{number}")))?;
        let file_bytes = FILE_BYTES.max(FILE_WRITES * bytes).next_multiple_of(1 << 20);
        let zeros = vec![0; 1 << 20];
        for at in (0..file_bytes).step_by(1 << 20) {
            file.write_all_at(&zeros, at)?;
        }
        file.sync_all()?;
        let data = latency::payload(usize::try_from(bytes).unwrap_or_default()).to_vec();
        Ok(Self { file, file_bytes, data, position: 0 })
    }

    fn write(&mut self) -> io::Result<()> {
        let len = self.data.len() as u64;
        if self.position + len > self.file_bytes {
            self.position = 0;
        }
        self.file.write_all_at(&self.data, self.position)?;
        self.position += len;
        self.file.sync_data()
    }
}
