//! Logs of every kind behind a `SharedLog`, a log that stops where a test wants it, and a small executor.

use std::{
    collections::BTreeSet,
    future::Future,
    io,
    ops::Range,
    pin::pin,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use bytes::Bytes;
use tinyraftplus_core::{EntryId, HardState, Identity, Restored, Seq};
use tinyraftplus_log::{
    FsLog, Log, LogEntry, LogError, LogOptions, LogRead, LogStats, MemLog, SharedLog, TimeoutLog,
    Timeouts, Write, sim_disk::SimDisk,
};

/// Long enough that only a hang is longer.
pub(crate) const LONG: Duration = Duration::from_mins(1);

/// A kind of log.
pub(crate) struct Kit {
    pub(crate) name: &'static str,
    /// Whether it is there after closing.
    pub(crate) keeps: bool,
    open: Box<dyn Fn() -> SharedLog>,
}

impl Kit {
    pub(crate) fn open(&self) -> SharedLog {
        (self.open)()
    }
}

pub(crate) fn options() -> LogOptions {
    let mut options = LogOptions::default();
    options.space_bytes = 16 << 10;
    options.reserve_bytes = 4096;
    options.group_bytes_max = 8 << 20;
    options.batch_bytes_max = 4 << 20;
    options.seed = Some(1);
    options
}

/// Makes a kit from a way to open a log, bare and with timeouts.
fn pair<L: Log>(
    names: [&'static str; 2],
    keeps: bool,
    open: impl Fn() -> Result<L, LogError> + Clone + Send + 'static,
) -> [Kit; 2] {
    let bare = open.clone();
    let timed = move || {
        let open = open.clone();
        TimeoutLog::open(Timeouts::all(LONG), move || Ok((open()?, ()))).unwrap().0
    };
    [
        Kit { name: names[0], keeps, open: Box::new(move || SharedLog::new(bare().unwrap())) },
        Kit { name: names[1], keeps, open: Box::new(move || SharedLog::new(timed())) },
    ]
}

/// Every kind of log, each bare and with timeouts.
pub(crate) fn kits() -> Vec<Kit> {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let disk = SimDisk::new();
    let in_file = move || Ok(FsLog::open(dir.path(), "kit", options())?.0);
    let on_sim = move || Ok(FsLog::open_on(&disk, "kit", options())?.0);
    [
        pair(["MemLog", "TimeoutLog<MemLog>"], false, || MemLog::new(options())),
        pair(["FsLog", "TimeoutLog<FsLog>"], true, in_file),
        pair(["FsLog<SimDisk>", "TimeoutLog<FsLog<SimDisk>>"], true, on_sim),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Runs a scenario on every kind of log. Kits of a pair share their files: each begins with an empty log.
pub(crate) fn each(scenario: impl Fn(&Kit)) {
    for kit in kits() {
        println!("{}", kit.name);
        if kit.keeps {
            let log = kit.open();
            log.trim(None).wait().unwrap();
            log.close().wait().unwrap();
        }
        scenario(&kit);
    }
}

pub(crate) fn seq(n: u64) -> Seq {
    Seq::new(n)
}

/// The newest payload.
pub(crate) fn head(log: &SharedLog) -> Option<Bytes> {
    log.head().unwrap().map(|entry| entry.payload)
}

/// All payloads of an iterator, or how it ended.
pub(crate) fn payloads(
    entries: impl Iterator<Item = Result<LogEntry, LogError>>,
) -> Result<Vec<Bytes>, LogError> {
    entries.map(|entry| entry.map(|entry| entry.payload)).collect()
}

pub(crate) fn contents(log: &SharedLog) -> Vec<Bytes> {
    payloads(log.iter(..)).unwrap()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Polls a future once.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Stops a log where a test wants it.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    shut: BTreeSet<&'static str>,
    inside: BTreeSet<&'static str>,
    panics: BTreeSet<&'static str>,
    fails: Option<io::ErrorKind>,
    is_dropped: bool,
    groups: Vec<usize>,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// From now on this call does not go on.
    pub(crate) fn shut(&self, op: &'static str) {
        self.state().shut.insert(op);
    }

    pub(crate) fn open(&self, op: &'static str) {
        self.state().shut.remove(op);
        self.changed.notify_all();
    }

    /// Waits until a call stands at the gate.
    pub(crate) fn await_inside(&self, op: &'static str) {
        let mut state = self.state();
        while !state.inside.contains(op) {
            state = self.changed.wait(state).unwrap();
        }
    }

    /// The next such call panics.
    pub(crate) fn panic_in(&self, op: &'static str) {
        self.state().panics.insert(op);
    }

    /// The next write fails.
    pub(crate) fn fail_write(&self, kind: io::ErrorKind) {
        self.state().fails = Some(kind);
    }

    /// Whether the log behind it is gone.
    pub(crate) fn is_dropped(&self) -> bool {
        self.state().is_dropped
    }

    /// How many entries each write had.
    pub(crate) fn groups(&self) -> Vec<usize> {
        self.state().groups.clone()
    }

    pub(crate) fn pass(&self, op: &'static str) {
        let mut state = self.state();
        let panics = state.panics.remove(op);
        state.inside.insert(op);
        self.changed.notify_all();
        while state.shut.contains(op) {
            state = self.changed.wait(state).unwrap();
        }
        state.inside.remove(op);
        drop(state);
        assert!(!panics, "asked to panic in {op}");
    }
}

/// A log with a gate before each call.
pub(crate) struct GatedLog {
    log: MemLog,
    gate: Arc<Gate>,
}

struct GatedRead {
    reader: Arc<dyn LogRead>,
    gate: Arc<Gate>,
}

impl GatedLog {
    pub(crate) fn new() -> (Self, Arc<Gate>) {
        let gate = Arc::new(Gate::default());
        (Self::with(&gate), gate)
    }

    pub(crate) fn with(gate: &Arc<Gate>) -> Self {
        Self { log: MemLog::new(options()).unwrap(), gate: Arc::clone(gate) }
    }
}

impl Log for GatedLog {
    fn identity(&self) -> Identity {
        self.log.identity()
    }

    fn restored(&self) -> Restored {
        self.log.restored()
    }

    fn write(&mut self, group: &[Write]) -> Result<(), LogError> {
        let count = group.iter().map(|write| write.append.len()).sum();
        self.gate.pass("write");
        if let Some(kind) = self.gate.state().fails.take() {
            return Err(LogError::WriteFailed {
                op: "write",
                path: "gated".into(),
                source: io::Error::new(kind, "asked to fail"),
            });
        }
        self.log.write(group)?;
        self.gate.state().groups.push(count);
        Ok(())
    }

    fn reader(&self) -> Arc<dyn LogRead> {
        Arc::new(GatedRead { reader: self.log.reader(), gate: Arc::clone(&self.gate) })
    }

    fn bounds(&self) -> Range<Seq> {
        Log::bounds(&self.log)
    }

    fn hard_state(&self) -> HardState {
        self.log.hard_state()
    }

    fn last(&self) -> Option<EntryId> {
        self.log.last()
    }

    fn batch_bytes_max(&self) -> u64 {
        self.log.batch_bytes_max()
    }

    fn entry_bytes_max(&self) -> u64 {
        self.log.entry_bytes_max()
    }

    fn stats(&self) -> LogStats {
        self.log.stats()
    }

    fn close(&mut self) -> Result<(), LogError> {
        self.gate.pass("close");
        self.log.close()
    }
}

impl Drop for GatedLog {
    fn drop(&mut self) {
        self.gate.pass("drop");
        self.gate.state().is_dropped = true;
    }
}

impl LogRead for GatedRead {
    fn read(&self, start: Seq, end: Seq, bytes_max: u64) -> Result<Vec<LogEntry>, LogError> {
        self.gate.pass("read");
        self.reader.read(start, end, bytes_max)
    }

    fn bounds(&self) -> Range<Seq> {
        self.reader.bounds()
    }

    fn drops(&self) -> u64 {
        self.reader.drops()
    }

    fn kept_since(&self, drops: u64) -> Seq {
        self.reader.kept_since(drops)
    }
}
