//! The threads that may block: the reader of the log and the state machine. The log's writer is in `writer`.
//!
//! Each takes jobs from a queue and reports to the driver. The queues have no limit of their own, because the
//! replica limits what can be in them: bytes that are not committed yet, reads for peers, one apply, the calls
//! of clients. A thread ends when its queue is dropped.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use tinyraftplus_core::quorum::{CustomRules, Quorums, Tolerance, Voter};
use tinyraftplus_core::{Configuration, Configurations, EntryId, Restored, Seq};
use tinyraftplus_log::{Log, LogError, LogRead, SnapshotId, SnapshotMeta, SnapshotStore};
use tinyraftplus_replica::{
    Apply, CallId, Keeper, LoadReply, LoadRequest, Query, SnapshotNews, SnapshotWork,
};
use tokio::sync::oneshot;

use crate::mailbox::Reporter;
use crate::writer::Limits;
use crate::{StateMachine, StateSnapshot, StopReason};

/// What a thread reports to the driver.
#[derive(Debug)]
pub(crate) enum Report {
    Persisted {
        job: u64,
        syncs: u64,
    },
    /// There was no space for that write. It, and all that were handed out after it, have written nothing if it is
    /// refused; else it is tried again. What the log said, if it is news.
    NoSpace {
        job: u64,
        what: Option<String>,
        is_refused: bool,
    },
    Loaded(LoadReply),
    Applied {
        results: Vec<Bytes>,
    },
    Answered {
        call: CallId,
        result: Result<Bytes, String>,
    },
    /// What the members of a configuration survive.
    Tolerance {
        of: Arc<Configuration>,
        tolerance: Tolerance,
    },
    /// The state machine is to be written down as this, after that entry.
    State {
        last: EntryId,
        configurations: Arc<Configurations>,
        state: StateSnapshot,
    },
    Snapshot(SnapshotNews),
    Failed(StopReason),
}

/// What the state machine is asked to do.
#[derive(Debug)]
pub(crate) enum Work {
    Apply(Apply),
    Query(Query),
    Snapshot { last: EntryId, configurations: Arc<Configurations> },
    Restore(SnapshotMeta),
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
    pub(crate) limits: Limits,
    /// The snapshots beside it, if it has such.
    pub(crate) snapshots: Option<SnapshotStore>,
    /// Whether it can give its oldest entries back.
    pub(crate) compacts: bool,
    /// The log itself if it needs no thread.
    pub(crate) instant: Option<Box<dyn Log>>,
}

pub(crate) type OpenLog = Box<dyn FnOnce() -> Result<Box<dyn Log>, LogError> + Send>;
pub(crate) type MakeMachine = Box<dyn FnOnce() -> Box<dyn StateMachine> + Send>;

/// Starts the thread that reads what the cache no longer has.
pub(crate) fn start_reader(
    name: &str,
    log: Arc<dyn LogRead>,
    reports: Reporter,
) -> io::Result<Running<LoadRequest>> {
    start(
        format!("{name}-reader"),
        reports,
        "reader",
        move |jobs: mpsc::Receiver<LoadRequest>, reports| {
            while let Ok(request) = jobs.recv() {
                if reports.report(Report::Loaded(request.run(log.as_ref()))).is_err() {
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
    snapshots: Option<SnapshotStore>,
    at: oneshot::Sender<(Seq, bool)>,
    reports: Reporter,
) -> io::Result<Running<Work>> {
    start(
        format!("{name}-machine"),
        reports,
        "state machine",
        move |jobs: mpsc::Receiver<Work>, reports| {
            let mut machine = make();
            if at.send((machine.applied(), machine.takes_snapshots())).is_err() {
                return;
            }
            while let Ok(work) = jobs.recv() {
                let report = match work {
                    Work::Apply(apply) => applied(machine.as_mut(), &apply),
                    Work::Query(Query { call, query }) => {
                        let result = machine.read(&query).map_err(|error| error.to_string());
                        Report::Answered { call, result }
                    }
                    Work::Snapshot { last, configurations } => match machine.snapshot() {
                        Ok(state) => Report::State { last, configurations, state },
                        Err(error) => Report::Snapshot(SnapshotNews::Taken(Err(error.to_string()))),
                    },
                    Work::Restore(meta) => restored(machine.as_mut(), snapshots.as_ref(), &meta),
                };
                if reports.report(report).is_err() {
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

fn restored(
    machine: &mut dyn StateMachine,
    snapshots: Option<&SnapshotStore>,
    meta: &SnapshotMeta,
) -> Report {
    let reader =
        snapshots.ok_or(LogError::SnapshotMissing(meta.id)).and_then(|it| it.reader(meta.id));
    let mut state = match reader {
        Ok(reader) => reader.state(),
        Err(error) => return Report::Failed(StopReason::Log(Arc::new(error))),
    };
    match machine.restore(meta.last.seq.after(), &mut state) {
        Ok(()) => Report::Snapshot(SnapshotNews::Restored),
        Err(error) => {
            let what = format!("it can't be restored from a snapshot: {error}");
            Report::Failed(StopReason::StateMachine(what.into()))
        }
    }
}

/// Starts the thread that receives snapshots and reads those that are sent.
pub(crate) fn start_keeper(
    name: &str,
    snapshots: SnapshotStore,
    reports: Reporter,
) -> io::Result<Running<SnapshotWork>> {
    start(
        format!("{name}-snapshots"),
        reports,
        "keeper of snapshots",
        move |jobs: mpsc::Receiver<SnapshotWork>, reports| {
            let mut keeper = Keeper::new(snapshots);
            while let Ok(work) = jobs.recv() {
                if let Some(news) = keeper.work(work)
                    && reports.report(Report::Snapshot(news)).is_err()
                {
                    return;
                }
            }
        },
    )
}

/// Writes a snapshot on a thread of its own, which ends then.
pub(crate) fn write_snapshot(
    name: &str,
    snapshots: SnapshotStore,
    last: EntryId,
    configurations: Arc<Configurations>,
    state: StateSnapshot,
    reports: Reporter,
) -> io::Result<()> {
    let write = move || -> Result<SnapshotMeta, String> {
        let id = SnapshotId::random().map_err(|error| error.to_string())?;
        let writer = snapshots.create(id, last, Some(configurations), &[]);
        let mut writer = writer.map_err(|error| error.to_string())?;
        state.write(&mut writer).map_err(|error| error.to_string())?;
        writer.finish().map_err(|error| error.to_string())
    };
    let running = start(format!("{name}-snapshot"), reports, "writer of a snapshot", {
        move |_: mpsc::Receiver<()>, reports| {
            let _ = reports.report(Report::Snapshot(SnapshotNews::Taken(write())));
        }
    })?;
    // Closing the node waits for it like for every thread that reports.
    drop(running);
    Ok(())
}

/// Works out what the members of a configuration survive. With rules of the program's own that may take seconds.
pub(crate) fn work_out_tolerance(of: Arc<Configuration>, customs: CustomRules, reports: Reporter) {
    tokio::task::spawn_blocking(move || {
        let voters = of.now().voters().map(|voter| Voter { id: voter.id, group: voter.group });
        let voters: Vec<Voter> = voters.collect();
        // A rule that this node was not given it can't judge; that is told elsewhere.
        if let Ok(quorums) = Quorums::compile(&voters, of.now().rules(), &customs) {
            let tolerance = quorums.tolerance();
            let _ = reports.report(Report::Tolerance { of, tolerance });
        }
    });
}

/// Starts a thread; if it panics, the driver is told.
pub(crate) fn start<T: Send + 'static>(
    name: String,
    reports: Reporter,
    what: &'static str,
    run: impl FnOnce(mpsc::Receiver<T>, &Reporter) + Send + 'static,
) -> io::Result<Running<T>> {
    let (jobs, receiver) = mpsc::channel();
    let thread = thread::Builder::new().name(name).spawn(move || {
        let result = panic::catch_unwind(AssertUnwindSafe(|| run(receiver, &reports)));
        if result.is_err() {
            let _ = reports.report(Report::Failed(StopReason::Died(what)));
        }
    })?;
    Ok(Running { jobs, thread })
}
