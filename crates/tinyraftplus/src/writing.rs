//! Where writes of the log go: to a thread that may block, or straight to a log that is instant.

use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tinyraftplus_log::{Log, Write};

use crate::StopReason;
use crate::threads::{Report, Running};
use crate::writer::ToWriter;

pub(crate) enum Writing {
    /// What becomes of the writes is reported later.
    Thread(Running<ToWriter>),
    /// Two changes of threads would cost ten times what the write costs.
    Instant(Instant),
}

/// A log that only changes memory, and what is to be written to it.
pub(crate) struct Instant {
    log: Box<dyn Log>,
    jobs: Vec<u64>,
    group: Vec<Write>,
    /// Once it is set nothing is written any more.
    killed: Arc<AtomicBool>,
}

impl Writing {
    pub(crate) fn instant(log: Box<dyn Log>, killed: Arc<AtomicBool>) -> Self {
        Self::Instant(Instant { log, jobs: Vec::new(), group: Vec::new(), killed })
    }

    /// What was handed out before is void: the core has taken back what was refused.
    pub(crate) fn go_on(&mut self) {
        match self {
            Self::Thread(writer) => drop(writer.jobs.send(ToWriter::GoOn)),
            // It refuses nothing for lack of space.
            Self::Instant(_) => {}
        }
    }

    /// A thread that has ended does not take it; its end is reported.
    pub(crate) fn write(&mut self, job: u64, write: Write) {
        match self {
            Self::Thread(writer) => drop(writer.jobs.send(ToWriter::Write(job, write))),
            Self::Instant(instant) => {
                instant.jobs.push(job);
                instant.group.push(write);
            }
        }
    }

    /// What became of the writes of this step, if that is known at once.
    pub(crate) fn settle(&mut self) -> Option<Report> {
        let Self::Instant(Instant { log, jobs, group, killed }) = self else {
            return None;
        };
        let job = mem::take(jobs).into_iter().next_back()?;
        if killed.load(Ordering::Acquire) {
            return None;
        }
        let written = panic::catch_unwind(AssertUnwindSafe(|| log.write(&mem::take(group))));
        Some(match written {
            Ok(Ok(())) => Report::Persisted { job, syncs: log.stats().syncs },
            Ok(Err(error)) => Report::Failed(StopReason::Log(Arc::new(error))),
            Err(_) => Report::Failed(StopReason::Died("log")),
        })
    }

    /// Ends the thread, which first does what it was told, or closes the log.
    pub(crate) fn end(self) -> (Option<JoinHandle<()>>, Option<StopReason>) {
        match self {
            Self::Thread(Running { jobs, thread }) => {
                drop(jobs);
                (Some(thread), None)
            }
            Self::Instant(Instant { mut log, killed, .. }) => {
                if killed.load(Ordering::Acquire) {
                    return (None, None);
                }
                match panic::catch_unwind(AssertUnwindSafe(|| log.close())) {
                    Ok(Ok(())) => (None, None),
                    Ok(Err(error)) => (None, Some(StopReason::Log(Arc::new(error)))),
                    Err(_) => (None, Some(StopReason::Died("log"))),
                }
            }
        }
    }
}
