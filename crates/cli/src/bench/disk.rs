//! What the disk itself can do: the limit that an append can't pass.

use crate::error::{Error, explain};
use hdrhistogram::Histogram;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// Written before anything is measured, so that no write has to grow its file.
const FILE_BYTES: u64 = 16 << 20;

/// One writer that syncs every write, into space already written.
pub(crate) fn one_file(dir: &Path, payload: usize, time: Duration) -> Result<super::Row, Error> {
    let mut writer = Writer::new(&dir.join("limit-0"), payload).map_err(cant)?;
    let mut latency = super::histogram();
    let started = Instant::now();
    while started.elapsed() < time {
        let began = Instant::now();
        writer.write().map_err(cant)?;
        super::record(&mut latency, began.elapsed());
    }
    Ok(super::Row::new("disk: one file, written and synced", 1, latency, started.elapsed()))
}

/// Three writers at the same moment, and two of them awaited: what a quorum of three costs on one disk.
pub(crate) fn three_files(dir: &Path, payload: usize, time: Duration) -> Result<super::Row, Error> {
    let writers = (0..3).map(|n| Writer::new(&dir.join(format!("limit-{n}")), payload));
    let writers = writers.collect::<io::Result<Vec<_>>>().map_err(cant)?;
    std::thread::scope(|scope| {
        let (done, results) = mpsc::channel();
        let go: Vec<Sender<u64>> = writers
            .into_iter()
            .map(|writer| {
                let (go, rounds) = mpsc::channel();
                let done = done.clone();
                scope.spawn(move || serve(writer, &rounds, &done));
                go
            })
            .collect();
        drop(done);
        rounds(&go, &results, time).map_err(cant)
    })
}

fn serve(mut writer: Writer, rounds: &Receiver<u64>, done: &Sender<io::Result<u64>>) {
    for round in rounds {
        if done.send(writer.write().map(|()| round)).is_err() {
            return;
        }
    }
}

fn rounds(
    go: &[Sender<u64>],
    results: &Receiver<io::Result<u64>>,
    time: Duration,
) -> io::Result<super::Row> {
    let mut latency: Histogram<u64> = super::histogram();
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
        while answers < 2 {
            let answer = results.recv().map_err(|_| io::Error::other("the writers are gone"))?;
            answers += u32::from(answer? == round);
        }
        super::record(&mut latency, began.elapsed());
    }
    Ok(super::Row::new("disk: three files, two awaited", 1, latency, started.elapsed()))
}

struct Writer {
    file: File,
    data: Vec<u8>,
    position: u64,
}

impl Writer {
    fn new(path: &Path, payload: usize) -> io::Result<Self> {
        let file = File::create(path)?;
        let zeros = vec![0; 1 << 20];
        for chunk in 0..FILE_BYTES >> 20 {
            file.write_all_at(&zeros, chunk << 20)?;
        }
        file.sync_all()?;
        Ok(Self { file, data: super::payload(payload).to_vec(), position: 0 })
    }

    fn write(&mut self) -> io::Result<()> {
        if self.position + self.data.len() as u64 > FILE_BYTES {
            self.position = 0;
        }
        self.file.write_all_at(&self.data, self.position)?;
        self.position += self.data.len() as u64;
        self.file.sync_data()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "made to be given to map_err")]
fn cant(error: io::Error) -> Error {
    Error::failed(explain("can't measure the disk", &error))
}
