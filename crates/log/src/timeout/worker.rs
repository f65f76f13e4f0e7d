//! A thread that owns a log, and callers that wait for it only so long.
//!
//! At most one call is with the thread. A caller first waits until the one before it is over, which may be one
//! that its own caller has given up; if that takes too long, its own call never began.

#![expect(clippy::disallowed_methods, reason = "deadlines are what this is about")]

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{Effect, LogError, shared::guarded};

/// What a call may take, and its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    pub(crate) op: &'static str,
    pub(crate) after: Duration,
}

type Call<L> = Box<dyn FnOnce(&mut L) + Send>;

/// A log on its thread. Dropping this ends both.
pub(crate) struct Worker<L> {
    shared: Arc<Shared<L>>,
    /// How long dropping it may take.
    drop_after: Duration,
}

struct Shared<L> {
    desk: Mutex<Desk<L>>,
    changed: Condvar,
}

struct Desk<L> {
    call: Option<Call<L>>,
    /// The thread works on a call.
    is_busy: bool,
    /// The log's code panicked.
    panicked: Option<String>,
    /// No more calls come.
    is_over: bool,
    /// The log was dropped.
    is_gone: bool,
}

/// Where a call leaves its result.
struct Answer<T> {
    result: Mutex<Option<Result<T, String>>>,
    changed: Condvar,
}

impl Allowed {
    fn deadline(self) -> Option<Instant> {
        Instant::now().checked_add(self.after)
    }

    fn passed(self, effect: Effect) -> LogError {
        LogError::Timeout { op: self.op, after: self.after, effect }
    }
}

impl<L: Send + 'static> Worker<L> {
    pub(crate) fn start(log: L, drop_after: Duration) -> Result<Self, LogError> {
        let shared = Arc::new(Shared {
            desk: Mutex::new(Desk {
                call: None,
                is_busy: false,
                panicked: None,
                is_over: false,
                is_gone: false,
            }),
            changed: Condvar::new(),
        });
        let ours = Arc::clone(&shared);
        spawn("log-timeout", move || ours.work(log))?;
        Ok(Self { shared, drop_after })
    }

    /// Runs a call on the thread; waits for it as long as allowed, or for ever.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        allowed: Option<Allowed>,
        call: impl FnOnce(&mut L) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let deadline = allowed.and_then(Allowed::deadline);
        let passed = |effect| allowed.map_or(LogError::Poisoned, |allowed| allowed.passed(effect));
        let mut desk = self.shared.desk();
        while desk.is_busy {
            match wait(&self.shared.changed, desk, deadline) {
                Some(locked) => desk = locked,
                None => return Err(passed(Effect::None)),
            }
        }
        if desk.panicked.is_some() {
            return Err(LogError::Poisoned);
        }
        let answer = Answer::new();
        let theirs = Arc::clone(&answer);
        desk.call = Some(Box::new(move |log| {
            let result = guarded(|| call(log));
            let panicked = result.as_ref().err().cloned();
            theirs.tell(result);
            if let Some(message) = panicked {
                std::panic::resume_unwind(Box::new(message));
            }
        }));
        desk.is_busy = true;
        drop(desk);
        self.shared.changed.notify_all();
        let op = allowed.map_or("a call", |allowed| allowed.op);
        match answer.wait(deadline) {
            Some(Ok(result)) => {
                // The next call would wait for this anyway: the thread is about to say that it is free.
                result
            }
            Some(Err(message)) => Err(LogError::Panicked { op, message }),
            None => Err(passed(Effect::Possible)),
        }
    }
}

impl<L> Drop for Worker<L> {
    /// Waits a little for the log to be dropped, so that it can be opened again.
    fn drop(&mut self) {
        let deadline = Instant::now().checked_add(self.drop_after);
        let mut desk = self.shared.desk();
        desk.is_over = true;
        self.shared.changed.notify_all();
        while !desk.is_gone {
            match wait(&self.shared.changed, desk, deadline) {
                Some(locked) => desk = locked,
                None => return,
            }
        }
    }
}

impl<L> Shared<L> {
    fn desk(&self) -> MutexGuard<'_, Desk<L>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, log: L) {
        let mut log = Some(log);
        let mut desk = self.desk();
        loop {
            if let Some(call) = desk.call.take() {
                drop(desk);
                let ran = match &mut log {
                    Some(log) => guarded(|| call(log)),
                    None => Ok(()),
                };
                if ran.is_err() {
                    // Nobody knows what state it is in.
                    drop(guarded(|| drop(log.take())));
                }
                desk = self.desk();
                desk.panicked = desk.panicked.take().or_else(|| ran.err());
                desk.is_busy = false;
                self.changed.notify_all();
            } else if desk.is_over {
                break;
            } else {
                desk = self.changed.wait(desk).unwrap_or_else(PoisonError::into_inner);
            }
        }
        drop(desk);
        drop(guarded(|| drop(log)));
        self.desk().is_gone = true;
        self.changed.notify_all();
    }
}

impl<T> Answer<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self { result: Mutex::new(None), changed: Condvar::new() })
    }

    fn tell(&self, result: Result<T, String>) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.changed.notify_all();
    }

    fn wait(&self, deadline: Option<Instant>) -> Option<Result<T, String>> {
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(result) = result.take() {
                return Some(result);
            }
            result = wait(&self.changed, result, deadline)?;
        }
    }
}

/// Waits for a change; `None` if the deadline passed.
fn wait<'a, T>(
    changed: &Condvar,
    locked: MutexGuard<'a, T>,
    deadline: Option<Instant>,
) -> Option<MutexGuard<'a, T>> {
    let Some(deadline) = deadline else {
        return Some(changed.wait(locked).unwrap_or_else(PoisonError::into_inner));
    };
    let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
    Some(changed.wait_timeout(locked, left).unwrap_or_else(PoisonError::into_inner).0)
}

fn spawn(name: &'static str, run: impl FnOnce() + Send + 'static) -> Result<(), LogError> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map(drop).map_err(|source| LogError::Io {
        op: "start a thread for",
        path: "the log".into(),
        source,
    })
}

/// Runs something on a thread of its own, and waits for it only as long as allowed. What comes later is
/// dropped.
pub(crate) fn run<T: Send + 'static>(
    allowed: Allowed,
    run: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    let deadline = allowed.deadline();
    let answer = Answer::new();
    let theirs = Arc::clone(&answer);
    spawn("log-timeout", move || theirs.tell(guarded(run)))?;
    match answer.wait(deadline) {
        Some(Ok(result)) => result,
        Some(Err(message)) => Err(LogError::Panicked { op: allowed.op, message }),
        None => Err(allowed.passed(Effect::Possible)),
    }
}
