//! The threads that may block: the writer of the log, its reader, and the state machine.
//!
//! Each takes jobs from a queue and reports to the driver. The queues have no limit of their own, because the
//! replica limits what can be in them: bytes that are not committed yet, reads for peers, one apply, the calls
//! of clients. A thread ends when its queue is dropped.

use std::collections::VecDeque;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tinyraftplus_core::{Restored, Seq};
use tinyraftplus_log::{Log, LogError, LogRead, Write};
use tinyraftplus_replica::{Apply, CallId, LoadReply, LoadRequest, Query};
use tokio::sync::{mpsc as tokio_mpsc, oneshot};

use crate::{StateMachine, StopReason};

/// About how many bytes one group of writes gets.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// After how long without a write the log leaves a mark.
const IDLE: Duration = Duration::from_millis(500);
/// After how long a write that found no space is tried again.
const SPACE_RETRY: Duration = Duration::from_millis(200);

/// What a thread reports to the driver.
#[derive(Debug)]
pub(crate) enum Report {
    Persisted { job: u64, syncs: u64 },
    NoSpace { job: u64, what: String },
    Loaded(LoadReply),
    Applied { results: Vec<Bytes> },
    Answered { call: CallId, result: Result<Bytes, String> },
    Failed(StopReason),
}

pub(crate) type Reports = tokio_mpsc::Sender<Report>;

/// What the state machine is asked to do.
#[derive(Debug)]
pub(crate) enum Work {
    Apply(Apply),
    Query(Query),
}

/// A running thread.
pub(crate) struct Running<T> {
    pub(crate) jobs: mpsc::Sender<T>,
    pub(crate) thread: JoinHandle<()>,
}

/// What is known once a log is open.
pub(crate) struct Opened {
    pub(crate) restored: Restored,
    pub(crate) reader: Arc<dyn LogRead>,
}

pub(crate) type OpenLog = Box<dyn FnOnce() -> Result<Box<dyn Log>, LogError> + Send>;
pub(crate) type MakeMachine = Box<dyn FnOnce() -> Box<dyn StateMachine> + Send>;

/// Starts the thread that opens and owns the log. After `killed` it neither writes nor closes it.
pub(crate) fn start_writer(
    name: &str,
    open: OpenLog,
    opened: oneshot::Sender<Result<Opened, LogError>>,
    reports: Reports,
    killed: Arc<AtomicBool>,
) -> io::Result<Running<(u64, Write)>> {
    start(
        format!("{name}-log"),
        reports,
        "log",
        move |jobs: mpsc::Receiver<(u64, Write)>, reports| {
            let mut log = match open() {
                Ok(log) => log,
                Err(error) => {
                    drop(opened.send(Err(error)));
                    return;
                }
            };
            let known = Opened { restored: log.restored(), reader: log.reader() };
            if opened.send(Ok(known)).is_err() {
                return;
            }
            let result = write_all(log.as_mut(), &jobs, reports, &killed);
            let result = if killed.load(Ordering::Acquire) {
                Ok(())
            } else {
                result.and_then(|()| log.close())
            };
            if let Err(error) = result {
                drop(reports.blocking_send(Report::Failed(StopReason::Log(Arc::new(error)))));
            }
        },
    )
}

/// Writes what is in the queue, all that piled up as one group, until the queue is dropped.
fn write_all(
    log: &mut dyn Log,
    jobs: &mpsc::Receiver<(u64, Write)>,
    reports: &Reports,
    killed: &AtomicBool,
) -> Result<(), LogError> {
    // Jobs that came while the disk was full.
    let mut later = VecDeque::new();
    let mut is_marked = true;
    loop {
        let first = match later.pop_front() {
            Some(first) => first,
            None => match next_job(log, jobs, &mut is_marked)? {
                Some(first) => first,
                None => return Ok(()),
            },
        };
        is_marked = false;
        let (mut bytes, mut last) = (size(&first.1), first.0);
        let mut group = vec![first.1];
        while bytes < GROUP_BYTES_MAX
            && let Some((job, write)) = later.pop_front().or_else(|| jobs.try_recv().ok())
        {
            bytes += size(&write);
            last = job;
            group.push(write);
        }
        let mut is_told = false;
        loop {
            if killed.load(Ordering::Acquire) {
                return Ok(());
            }
            match log.write(&group) {
                Ok(()) => break,
                Err(LogError::NoSpace { path, source }) => {
                    if !is_told {
                        is_told = true;
                        let what = format!("{}: {source}", path.display());
                        drop(reports.blocking_send(Report::NoSpace { job: last, what }));
                    }
                    // Nothing was written. The group stays as it is, or it would grow over the log's limit.
                    if !wait_for_space(jobs, &mut later) {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if reports.blocking_send(Report::Persisted { job: last, syncs: log.stats().syncs }).is_err()
        {
            return Ok(());
        }
    }
}

/// Waits for a job; leaves a mark in the log if none comes for a while. `None` once the queue is dropped.
fn next_job(
    log: &mut dyn Log,
    jobs: &mpsc::Receiver<(u64, Write)>,
    is_marked: &mut bool,
) -> Result<Option<(u64, Write)>, LogError> {
    if *is_marked {
        return Ok(jobs.recv().ok());
    }
    match jobs.recv_timeout(IDLE) {
        Ok(job) => return Ok(Some(job)),
        Err(RecvTimeoutError::Disconnected) => return Ok(None),
        Err(RecvTimeoutError::Timeout) => {}
    }
    *is_marked = true;
    match log.mark() {
        // Without a mark the log is as durable; the next pause is another chance.
        Ok(()) | Err(LogError::NoSpace { .. }) => Ok(jobs.recv().ok()),
        Err(error) => Err(error),
    }
}

/// Waits a while, and keeps what comes meanwhile. False once the queue is dropped.
fn wait_for_space(jobs: &mpsc::Receiver<(u64, Write)>, later: &mut VecDeque<(u64, Write)>) -> bool {
    let until = Instant::now() + SPACE_RETRY;
    loop {
        match jobs.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(job) => later.push_back(job),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

fn size(write: &Write) -> usize {
    write.append.iter().map(|entry| 64 + entry.payload.len()).sum()
}

/// Starts the thread that reads what the cache no longer has.
pub(crate) fn start_reader(
    name: &str,
    log: Arc<dyn LogRead>,
    reports: Reports,
) -> io::Result<Running<LoadRequest>> {
    start(
        format!("{name}-reader"),
        reports,
        "reader",
        move |jobs: mpsc::Receiver<LoadRequest>, reports| {
            while let Ok(request) = jobs.recv() {
                if reports.blocking_send(Report::Loaded(request.run(log.as_ref()))).is_err() {
                    return;
                }
            }
        },
    )
}

/// Starts the thread of the state machine.
pub(crate) fn start_machine(
    name: &str,
    make: MakeMachine,
    at: oneshot::Sender<Seq>,
    reports: Reports,
) -> io::Result<Running<Work>> {
    start(
        format!("{name}-machine"),
        reports,
        "state machine",
        move |jobs: mpsc::Receiver<Work>, reports| {
            let mut machine = make();
            if at.send(machine.applied()).is_err() {
                return;
            }
            while let Ok(work) = jobs.recv() {
                let report = match work {
                    Work::Apply(apply) => applied(machine.as_mut(), &apply),
                    Work::Query(Query { call, query }) => {
                        let result = machine.read(&query).map_err(|error| error.to_string());
                        Report::Answered { call, result }
                    }
                };
                if reports.blocking_send(report).is_err() {
                    return;
                }
            }
        },
    )
}

fn applied(machine: &mut dyn StateMachine, apply: &Apply) -> Report {
    let failed = |what: String| Report::Failed(StopReason::StateMachine(what.into()));
    match machine.apply(&apply.entries) {
        Ok(results) if results.len() == apply.entries.len() => Report::Applied { results },
        Ok(results) => failed(format!(
            "it returned {} results for {} entries",
            results.len(),
            apply.entries.len()
        )),
        Err(error) => failed(error.to_string()),
    }
}

/// Starts a thread; if it panics, the driver is told.
fn start<T: Send + 'static>(
    name: String,
    reports: Reports,
    what: &'static str,
    run: impl FnOnce(mpsc::Receiver<T>, &Reports) + Send + 'static,
) -> io::Result<Running<T>> {
    let (jobs, receiver) = mpsc::channel();
    let thread = thread::Builder::new().name(name).spawn(move || {
        let result = panic::catch_unwind(AssertUnwindSafe(|| run(receiver, &reports)));
        if result.is_err() {
            drop(reports.blocking_send(Report::Failed(StopReason::Died(what))));
        }
    })?;
    Ok(Running { jobs, thread })
}
