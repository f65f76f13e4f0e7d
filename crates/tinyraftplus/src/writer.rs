//! The thread that owns the log and writes to it.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use tinyraftplus_log::{Log, LogError, Write};
use tokio::sync::oneshot;

use crate::StopReason;
use crate::mailbox::Reporter;
use crate::threads::{self, OpenLog, Opened, Report, Running};

/// About how many bytes one group of writes gets.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// After how long without a write the log leaves a mark.
const IDLE: Duration = Duration::from_millis(500);
/// After how long a write that found no space, and can't be given back, is tried again.
const SPACE_RETRY: Duration = Duration::from_millis(200);

/// What the writer is told.
#[derive(Debug)]
pub(crate) enum ToWriter {
    /// Write this, after everything before.
    Write(u64, Write),
    /// The core has taken back the writes that were refused: what comes now counts again.
    GoOn,
}

/// How many bytes a log takes at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) group: u64,
    pub(crate) batch: u64,
    pub(crate) entry: u64,
}

impl Limits {
    fn of(log: &dyn Log) -> Self {
        Self {
            group: log.group_bytes_max(),
            batch: log.batch_bytes_max(),
            entry: log.entry_bytes_max(),
        }
    }

    /// About how many bytes a group of writes gets before the last one.
    fn group_size(&self) -> usize {
        let half = usize::try_from(self.group / 2).unwrap_or(usize::MAX);
        half.min(GROUP_BYTES_MAX)
    }
}

/// Starts the thread that opens and owns the log. After `killed` it neither writes nor closes it. A log that is
/// instant it gives away, and ends.
pub(crate) fn start(
    name: &str,
    open: OpenLog,
    opened: oneshot::Sender<Result<Opened, LogError>>,
    reports: Reporter,
    killed: Arc<AtomicBool>,
) -> io::Result<Running<ToWriter>> {
    threads::start(
        format!("{name}-log"),
        reports,
        "log",
        move |jobs: mpsc::Receiver<ToWriter>, reports| {
            let mut log = match open() {
                Ok(log) => log,
                Err(error) => {
                    drop(opened.send(Err(error)));
                    return;
                }
            };
            let (restored, reader) = (log.restored(), log.reader());
            let limits = Limits::of(log.as_ref());
            let (snapshots, compacts) = (log.snapshots().ok(), log.compacts());
            let found =
                |instant| Ok(Opened { restored, reader, limits, snapshots, compacts, instant });
            if log.is_instant() {
                drop(opened.send(found(Some(log))));
                return;
            }
            if opened.send(found(None)).is_err() {
                return;
            }
            let group_bytes = limits.group_size();
            let mut writer = Writer {
                log: log.as_mut(),
                jobs: &jobs,
                reports,
                killed: &killed,
                group_bytes,
                later: VecDeque::new(),
                is_marked: true,
                singly: 0,
                is_told: false,
            };
            let result = writer.run();
            let result = if killed.load(Ordering::Acquire) {
                Ok(())
            } else {
                result.and_then(|()| log.close())
            };
            if let Err(error) = result {
                let _ = reports.report(Report::Failed(StopReason::Log(Arc::new(error))));
            }
        },
    )
}

struct Writer<'a> {
    log: &'a mut dyn Log,
    jobs: &'a mpsc::Receiver<ToWriter>,
    reports: &'a Reporter,
    killed: &'a AtomicBool,
    group_bytes: usize,
    /// Writes that came while the disk was full, or were in a group that did not fit.
    later: VecDeque<(u64, Write)>,
    is_marked: bool,
    /// So many are to be written each for itself: they were a group for which there was no space.
    singly: usize,
    /// Whether a lack of space was told, and nothing has been written since.
    is_told: bool,
}

/// Nothing comes any more, or nobody listens.
struct Ended;

impl Writer<'_> {
    /// Writes what is in the queue, all that piled up as one group, until the queue is dropped.
    fn run(&mut self) -> Result<(), LogError> {
        loop {
            let first = match self.later.pop_front() {
                Some(first) => first,
                None => match self.next_job()? {
                    Some(first) => first,
                    None => return Ok(()),
                },
            };
            self.is_marked = false;
            let (numbers, group) = self.collect(first);
            if self.killed.load(Ordering::Acquire) {
                return Ok(());
            }
            let going_on = match self.log.write(&group) {
                Ok(()) => {
                    self.is_told = false;
                    let job = numbers.last().copied().unwrap_or_default();
                    self.report(Report::Persisted { job, syncs: self.log.stats().syncs })
                }
                // Nothing was written.
                Err(LogError::NoSpace { path, source }) => {
                    let jobs = numbers.into_iter().zip(group).collect();
                    self.no_space(jobs, &path, &source)
                }
                Err(error) => return Err(error),
            };
            if going_on.is_err() {
                return Ok(());
            }
        }
    }

    /// What is written together: all that piled up.
    fn collect(&mut self, first: (u64, Write)) -> (Vec<u64>, Vec<Write>) {
        let mut bytes = size(&first.1);
        let (mut numbers, mut group) = (vec![first.0], vec![first.1]);
        if self.singly > 0 {
            self.singly -= 1;
            return (numbers, group);
        }
        while bytes < self.group_bytes {
            let next = self.later.pop_front();
            let Some((job, write)) = next.or_else(|| self.jobs.try_recv().ok().and_then(write_of))
            else {
                break;
            };
            bytes += size(&write);
            numbers.push(job);
            group.push(write);
        }
        (numbers, group)
    }

    /// There was no space for these. Those of a group are tried each for itself; a single one with entries is
    /// given back, one without is tried until there is space.
    fn no_space(
        &mut self,
        jobs: Vec<(u64, Write)>,
        path: &Path,
        source: &io::Error,
    ) -> Result<(), Ended> {
        let (job, is_refused) = match jobs.as_slice() {
            [(job, write)] => (*job, !write.append.is_empty()),
            several => {
                self.singly = several.len();
                jobs.into_iter().rev().for_each(|job| self.later.push_front(job));
                return Ok(());
            }
        };
        let is_news = !std::mem::replace(&mut self.is_told, true);
        let what = is_news.then(|| format!("{}: {source}", path.display()));
        self.report(Report::NoSpace { job, what, is_refused })?;
        if is_refused {
            return self.await_go_on();
        }
        jobs.into_iter().rev().for_each(|job| self.later.push_front(job));
        self.await_space()
    }

    fn report(&self, report: Report) -> Result<(), Ended> {
        self.reports.report(report).map_err(|_| Ended)
    }

    /// Drops everything that was handed out before the core knew that this write was refused.
    fn await_go_on(&mut self) -> Result<(), Ended> {
        self.later.clear();
        self.singly = 0;
        loop {
            match self.jobs.recv() {
                Ok(ToWriter::GoOn) => return Ok(()),
                Ok(ToWriter::Write(..)) => {}
                Err(_) => return Err(Ended),
            }
        }
    }

    /// Waits a while, and keeps what comes meanwhile.
    fn await_space(&mut self) -> Result<(), Ended> {
        let until = Instant::now() + SPACE_RETRY;
        loop {
            match self.jobs.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(job) => self.later.extend(write_of(job)),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Ended),
            }
        }
    }

    /// Waits for a job; leaves a mark in the log if none comes for a while. `None` once the queue is dropped.
    fn next_job(&mut self) -> Result<Option<(u64, Write)>, LogError> {
        if !self.is_marked {
            match self.jobs.recv_timeout(IDLE) {
                Ok(ToWriter::Write(job, write)) => return Ok(Some((job, write))),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Ok(ToWriter::GoOn) | Err(RecvTimeoutError::Timeout) => {}
            }
            self.is_marked = true;
            match self.log.mark() {
                // Without a mark the log is as durable; the next pause is another chance.
                Ok(()) | Err(LogError::NoSpace { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        while let Ok(job) = self.jobs.recv() {
            if let Some(write) = write_of(job) {
                return Ok(Some(write));
            }
        }
        Ok(None)
    }
}

/// [`ToWriter::GoOn`] comes only while it is awaited.
fn write_of(job: ToWriter) -> Option<(u64, Write)> {
    match job {
        ToWriter::Write(job, write) => Some((job, write)),
        ToWriter::GoOn => None,
    }
}

fn size(write: &Write) -> usize {
    1024 + write.append.iter().map(|entry| 64 + entry.payload.len()).sum::<usize>()
}
