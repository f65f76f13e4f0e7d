//! Who writes, and when.
//!
//! The log lies at rest in the queue's lock. Whoever wants something done and finds it there takes it out,
//! and with it the next group, and writes; meanwhile others queue up, and they are the group after it. So
//! groups grow as the disk is slow, without a timer, and a single blocking caller writes on its own thread.
//!
//! A group that could be written may wait a moment for callers that were just told, see `gather`. Whoever makes
//! it complete writes it, and somebody watches that it does not wait for long.
//!
//! **Invariant:** if the log is at rest and a group could be written, and a thread waits or a future was polled
//! or dropped, then somebody was told to write, or to watch: a waiting thread (`lead`), or the writer thread.
//! Everyone who may make this untrue calls [`Core::pass_on`] before it gives the queue's lock back.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    },
    task::Waker,
    thread,
    time::{Duration, Instant},
};

use tinyraftplus_core::Seq;

use crate::{
    Effect, Log, LogEntry, LogError, LogRead, LogStats, Timeouts, Write,
    shared::{
        clock::{AlarmKey, Clock},
        event::{Base, Notices, Outcome, Place},
        group::{self, Newest, Report},
        queue::{Group, What},
        state::{State, Thread, now},
        stream::Reads,
        watch::Watch,
    },
    timeout::Op,
};

/// How many bytes may wait to be written.
pub(crate) const QUEUE_BYTES_MAX: u64 = 64 << 20;

/// What all handles of a log share.
pub(crate) struct Core {
    state: Mutex<State>,
    /// Where the writer thread waits.
    work: Condvar,
    snapshot: RwLock<Snapshot>,
    pub(crate) reader: Arc<dyn LogRead>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Option<Timeouts>,
    pub(crate) clock: Clock,
    pub(crate) reads: Reads,
}

/// How many bytes things may have, as the log says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) group: u64,
    pub(crate) batch: u64,
    pub(crate) entry: u64,
}

/// What is known without asking the log.
#[derive(Debug)]
struct Snapshot {
    stats: LogStats,
    /// The newest entry, if it is known.
    newest: Option<LogEntry>,
}

/// When a call must be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) after: Duration,
    pub(crate) op: Op,
}

impl Core {
    pub(crate) fn new(log: Box<dyn Log>) -> Arc<Self> {
        let base = group::base(&*log);
        let limits = Limits {
            group: log.group_bytes_max(),
            batch: log.batch_bytes_max(),
            entry: log.entry_bytes_max(),
        };
        Arc::new(Self {
            work: Condvar::new(),
            snapshot: RwLock::new(Snapshot { stats: log.stats(), newest: None }),
            reader: log.reader(),
            watch: Arc::default(),
            limits,
            timeouts: log.timeouts(),
            clock: Clock::default(),
            reads: Reads::default(),
            state: Mutex::new(State::new(log, base, limits.group)),
        })
    }

    /// When a call that begins now must be told.
    pub(crate) fn deadline(&self, op: Op) -> Option<Deadline> {
        let after = self.timeouts?.of(op);
        #[expect(clippy::disallowed_methods, reason = "a log with timeouts was asked for")]
        let at = Instant::now().checked_add(after)?;
        Some(Deadline { at, after, op })
    }

    /// A call takes its place.
    pub(crate) fn push(&self, what: What) -> Result<Place, LogError> {
        let mut state = self.state();
        if state.closing.is_some() {
            Err(LogError::Closed)
        } else if state.poisoned {
            Err(LogError::Poisoned)
        } else {
            state.queue.push(what)
        }
    }

    /// Closing takes its place, if it did not before. `None` once the log is closed.
    pub(crate) fn push_close(&self) -> Result<Option<Place>, LogError> {
        let mut state = self.state();
        if state.closed {
            return Ok(None);
        }
        if let Some(place) = &state.closing {
            let index = place.event.told().open();
            return Ok(Some(Place { event: Arc::clone(&place.event), index }));
        }
        let place = state.queue.push(What::Close)?;
        state.closing = Some(place.clone());
        Ok(Some(place))
    }

    /// A transaction ends, and what it did takes its place before everything that waits.
    pub(crate) fn push_commit(self: &Arc<Self>, write: Write) -> Result<Place, LogError> {
        let mut state = self.state();
        state.txn_is_open = false;
        let place = if state.poisoned {
            Err(LogError::Poisoned)
        } else {
            state.queue.push(What::Commit(Box::new(write)))
        };
        self.release(state, Notices::default());
        place
    }

    /// A transaction ends without a trace.
    pub(crate) fn end_txn(self: &Arc<Self>) {
        let mut state = self.state();
        state.txn_is_open = false;
        self.release(state, Notices::default());
    }

    /// The time of a call is up. What never left the queue never happens.
    pub(crate) fn expire(self: &Arc<Self>, place: &Place, deadline: Deadline) {
        let mut state = self.state();
        let effect = if state.queue.remove(place) { Effect::None } else { Effect::Possible };
        let mut notices = Notices::default();
        let error = LogError::Timeout { op: deadline.op.name(), after: deadline.after, effect };
        notices.tell(&mut place.event.told(), place.index, Err(error));
        self.release(state, notices);
    }

    /// What a call was told, if it was. Else its waker is kept, and somebody else sees to it.
    pub(crate) fn poll(
        self: &Arc<Self>,
        place: &Place,
        waker: &Waker,
    ) -> Option<Result<Outcome, LogError>> {
        let waker = waker.clone();
        let mut told = place.event.told();
        if let Some(result) = told.take(place.index) {
            return Some(result);
        }
        if told.detached {
            // Somebody sees to the whole group already.
            let old = told.set_waker(place.index, waker);
            drop(told);
            drop(old);
            return None;
        }
        drop(told);
        let state = self.state();
        let mut told = place.event.told();
        if let Some(result) = told.take(place.index) {
            return Some(result);
        }
        told.detached = true;
        let old = told.set_waker(place.index, waker);
        drop(told);
        self.release(state, Notices::default());
        drop(old);
        place.event.told().take(place.index)
    }

    /// Nobody wants to be told what became of a call.
    pub(crate) fn give_up(self: &Arc<Self>, place: &Place) {
        let (waker, result) = place.event.told().give_up(place.index);
        drop(waker);
        match result {
            Some(Ok(Outcome::Granted(_))) => self.end_txn(),
            Some(_) => {}
            None => self.detach(place),
        }
    }

    /// Tells a call when its time is up, whoever polls it or not.
    pub(crate) fn set_alarm(
        self: &Arc<Self>,
        place: &Place,
        deadline: Deadline,
    ) -> Option<AlarmKey> {
        let (core, place) = (Arc::downgrade(self), place.clone());
        let ring = move || {
            if let Some(core) = core.upgrade() {
                core.expire(&place, deadline);
            }
        };
        self.clock.set(deadline.at, Box::new(ring))
    }

    /// Somebody else is to see to it that this call is done.
    pub(crate) fn detach(self: &Arc<Self>, place: &Place) {
        let state = self.state();
        place.event.told().detached = true;
        self.release(state, Notices::default());
    }

    /// Waits for a call, and writes meanwhile if nobody else does.
    pub(crate) fn wait(
        self: &Arc<Self>,
        place: &Place,
        deadline: Option<Deadline>,
    ) -> Result<Outcome, LogError> {
        let Place { event, index } = place;
        let mut watches = false;
        loop {
            if let Some(result) = event.told().take(*index) {
                return result;
            }
            let mut state = self.state();
            if std::mem::take(&mut watches) {
                state.stop_watching();
            }
            let mut notices = Notices::default();
            state.grant(&mut notices);
            if self.timeouts.is_none() && state.is_runnable() {
                drop(state);
                notices.send(&self.work);
                self.drive(Some(place));
                continue;
            }
            let until = if self.timeouts.is_none() { state.watch() } else { None };
            watches = until.is_some();
            event.told().waiting += 1;
            self.release(state, notices);
            let (mut told, mut late) = (event.told(), false);
            while !told.is_told(*index) && !told.lead && !late {
                (told, late) =
                    event.wait(told, until.or_else(|| deadline.map(|deadline| deadline.at)));
            }
            if let Some(result) = event.leave(told, *index) {
                return result;
            }
            if let Some(deadline) = deadline.filter(|_| late) {
                self.expire(place, deadline);
            }
        }
    }

    /// What the log has done and holds, as of its last write.
    pub(crate) fn stats(&self) -> LogStats {
        self.snapshot().stats
    }

    /// The newest entry, if it is known and this one.
    pub(crate) fn newest(&self, seq: Seq) -> Option<LogEntry> {
        self.snapshot().newest.clone().filter(|newest| newest.id.seq == seq)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state().closing.is_some()
    }

    /// The last handle is gone.
    pub(crate) fn close_last(self: &Arc<Self>) {
        let Ok(Some(place)) = self.push_close() else { return };
        let is_held_up = self.state().is_held_up();
        if is_held_up {
            // It may be this thread that has the transaction. Whoever ends it closes.
            self.detach(&place);
        } else {
            // Closed on return, so that the log can be opened again.
            drop(self.wait(&place, self.deadline(Op::Close)));
        }
    }

    /// Gives the queue's lock back, and sees to it that somebody writes if there is need.
    fn release(self: &Arc<Self>, mut state: MutexGuard<'_, State>, mut notices: Notices) {
        let somebody_does = self.pass_on(&mut state, &mut notices);
        drop(state);
        notices.send(&self.work);
        if !somebody_does {
            self.drive(None);
        }
    }

    /// Finds somebody who writes next, if anybody waits for it. False if nobody can be found.
    fn pass_on(self: &Arc<Self>, state: &mut State, notices: &mut Notices) -> bool {
        state.grant(notices);
        if !state.is_runnable() && !state.is_unwatched() {
            return true;
        }
        for group in state.queue.groups() {
            let mut told = group.event.told();
            if told.waiting > 0 && self.timeouts.is_none() {
                if !told.lead {
                    told.lead = true;
                    notices.lead = Some(Arc::clone(&group.event));
                }
                return true;
            }
            if told.waiting > 0 || told.detached {
                drop(told);
                let called = self.call_thread(&mut state.thread, notices);
                if !called {
                    state.gather.give_up();
                }
                return called;
            }
        }
        true
    }

    /// Calls the writer thread. False if there is none, and none can be started.
    fn call_thread(self: &Arc<Self>, thread: &mut Thread, notices: &mut Notices) -> bool {
        match thread {
            Thread::Busy => {}
            Thread::Idle => {
                *thread = Thread::Busy;
                notices.thread = true;
            }
            Thread::Missing => {
                let core = Arc::clone(self);
                let started = thread::Builder::new()
                    .name("log-writer".to_owned())
                    .spawn(move || core.write_on());
                if started.is_err() {
                    return false;
                }
                *thread = Thread::Busy;
            }
        }
        true
    }

    /// The writer thread.
    fn write_on(self: &Arc<Self>) {
        loop {
            self.drive(None);
            let mut state = self.state();
            if state.is_runnable() {
                continue;
            }
            if state.closed {
                state.thread = Thread::Missing;
                return;
            }
            state.thread = Thread::Idle;
            while state.thread == Thread::Idle {
                state = self.rest(state);
            }
        }
    }

    /// The writer thread has nothing to do, or sees that callers on their way back are not waited for too long.
    fn rest<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let Some(until) = state.watch() else {
            return self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        // To sleep and be woken takes longer than they do.
        state.thread = Thread::Busy;
        while state.is_short() && now() < until {
            drop(state);
            thread::yield_now();
            state = self.state();
        }
        state.stop_watching();
        state
    }

    /// Writes group after group: until this call was told, if there is one, or nothing is left to do.
    fn drive(self: &Arc<Self>, own: Option<&Place>) {
        let mut notices = Notices::default();
        loop {
            let mut state = self.state();
            state.grant(&mut notices);
            if own.is_some_and(|own| !own.event.told().is_open(own.index))
                && self.pass_on(&mut state, &mut notices)
            {
                drop(state);
                notices.send(&self.work);
                return;
            }
            let Some((log, group)) = state.take() else {
                drop(state);
                notices.send(&self.work);
                return;
            };
            let poisoned = state.poisoned;
            drop(state);
            notices.send(&self.work);
            notices = if group.is_close() {
                self.close(log, poisoned)
            } else {
                self.write(log, group, poisoned)
            };
        }
    }

    /// Writes a group, puts the log back, and says whom to wake.
    fn write(&self, mut log: Box<dyn Log>, group: Group, poisoned: bool) -> Notices {
        let Group { event, calls, .. } = group;
        let began = now();
        let mut report = Report { poisoned, ..Report::default() };
        let mut base = None;
        if poisoned {
            let told = calls.iter().map(|call| (call.index, Err(LogError::Poisoned)));
            report.results.extend(told);
        } else {
            let indexes: Vec<usize> = calls.iter().map(|call| call.index).collect();
            let ran = guarded(|| {
                group::write(&mut *log, calls, &mut report);
                base = Some(self.publish(&*log, &mut report));
            });
            if let Err(message) = ran {
                report.poisoned = true;
                report.fail(&indexes, "write", &message);
            }
        }
        let mut notices = Notices::default();
        let mut count = 0;
        {
            let mut told = event.told();
            for (index, result) in std::mem::take(&mut report.results) {
                count += usize::from(notices.tell(&mut told, index, result));
            }
            notices.wake_all(&event, &mut told);
        }
        if report.late {
            // Whoever waits is told now: how long the disk still takes, nobody knows.
            std::mem::take(&mut notices).send(&self.work);
            (report.newest, report.trimmed) = (Newest::Unknown, true);
            let ran = guarded(|| {
                log.settle();
                base = Some(self.publish(&*log, &mut report));
            });
            report.poisoned |= ran.is_err();
        }
        let mut state = self.state();
        state.poisoned = report.poisoned;
        if let Some(base) = base {
            state.base = base;
        }
        state.log = Some(log);
        let waiting = state.queue.joinable();
        state.gather.told(count, waiting, began, now());
        notices
    }

    /// Closes the log, and says whom to wake.
    fn close(&self, mut log: Box<dyn Log>, poisoned: bool) -> Notices {
        let mut result = Ok(Outcome::Done);
        let ran = guarded(|| {
            if let Err(error) = log.close() {
                result = Err(error);
            }
            self.watch.close();
            let stats = log.stats();
            self.snapshot_mut().stats = stats;
        });
        self.watch.close();
        if let Err(message) = ran {
            result = Err(LogError::Panicked { op: "close", message });
        }
        if poisoned {
            // It was told already that nothing is certain.
            result = Ok(Outcome::Done);
        }
        drop(guarded(move || drop(log)));
        let mut notices = Notices::default();
        let mut state = self.state();
        state.closed = true;
        if state.thread == Thread::Idle {
            // It has nothing to wait for any more.
            state.thread = Thread::Busy;
            notices.thread = true;
        }
        if let Some(Place { event, .. }) = &state.closing {
            let mut told = event.told();
            for index in told.open_places() {
                let result = std::mem::replace(&mut result, Ok(Outcome::Done));
                notices.tell(&mut told, index, result);
            }
            notices.wake_all(event, &mut told);
        }
        notices
    }

    /// Shows what was written, before anybody is told.
    fn publish(&self, log: &dyn Log, report: &mut Report) -> Base {
        let (stats, base) = (log.stats(), group::base(log));
        let mut snapshot = self.snapshot_mut();
        snapshot.stats = stats;
        let old = match std::mem::take(&mut report.newest) {
            Newest::Same => None,
            Newest::Entry(entry) => snapshot.newest.replace(entry),
            Newest::Unknown => snapshot.newest.take(),
        };
        drop(snapshot);
        drop(old);
        if report.trimmed {
            self.watch.trimmed();
        }
        base
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self) -> RwLockReadGuard<'_, Snapshot> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot_mut(&self) -> RwLockWriteGuard<'_, Snapshot> {
        self.snapshot.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    /// Tells all who were told nothing that the log panicked.
    fn fail(&mut self, indexes: &[usize], op: &'static str, message: &str) {
        for &index in indexes {
            if self.results.iter().all(|(told, _)| *told != index) {
                let message = message.to_owned();
                self.results.push((index, Err(LogError::Panicked { op, message })));
            }
        }
    }
}

/// Runs code of a log, which may be a user's own: if it panics, that ends this log and nothing else.
pub(crate) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without a word".to_owned())
    })
}
