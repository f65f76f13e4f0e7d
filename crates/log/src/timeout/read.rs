//! Reading with a deadline.
//!
//! One thread reads for all; it is started with the first read. Who gives up takes its request back, or leaves
//! the thread to finish it for nobody, so the requests that wait are never more than the threads that do.

#![expect(clippy::disallowed_methods, reason = "deadlines are what this is about")]

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use tinyraftplus_core::Seq;

use super::worker::Allowed;
use crate::{Effect, LogEntry, LogError, LogRead, shared::guarded};

/// Reads what another reader does, in time.
pub(crate) struct TimedRead {
    shared: Arc<Shared>,
    allowed: Allowed,
}

struct Shared {
    inner: Arc<dyn LogRead>,
    desk: Mutex<Desk>,
    /// The thread waits here,
    asked: Condvar,
    /// and callers here.
    answered: Condvar,
}

#[derive(Default)]
struct Desk {
    requests: VecDeque<Request>,
    /// What was read, by the number of the request, for those who still wait.
    answers: std::collections::BTreeMap<u64, Option<Result<Vec<LogEntry>, LogError>>>,
    count: u64,
    is_started: bool,
    is_over: bool,
}

#[derive(Clone, Copy)]
struct Request {
    number: u64,
    start: Seq,
    end: Seq,
    bytes_max: u64,
}

impl TimedRead {
    pub(crate) fn new(inner: Arc<dyn LogRead>, allowed: Allowed) -> Self {
        let shared = Shared {
            inner,
            desk: Mutex::default(),
            asked: Condvar::new(),
            answered: Condvar::new(),
        };
        Self { shared: Arc::new(shared), allowed }
    }
}

impl LogRead for TimedRead {
    fn read(&self, start: Seq, end: Seq, bytes_max: u64) -> Result<Vec<LogEntry>, LogError> {
        let Allowed { op, after } = self.allowed;
        let deadline = Instant::now().checked_add(after);
        let shared = &self.shared;
        let mut desk = shared.desk();
        shared.start(&mut desk)?;
        desk.count += 1;
        let number = desk.count;
        desk.requests.push_back(Request { number, start, end, bytes_max });
        desk.answers.insert(number, None);
        shared.asked.notify_one();
        loop {
            if let Some(Some(_)) = desk.answers.get(&number) {
                return desk.answers.remove(&number).flatten().unwrap_or(Err(LogError::Closed));
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            desk = match left {
                Some(left) if left.is_zero() => {
                    desk.answers.remove(&number);
                    desk.requests.retain(|request| request.number != number);
                    return Err(LogError::Timeout { op, after, effect: Effect::None });
                }
                Some(left) => {
                    shared
                        .answered
                        .wait_timeout(desk, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => shared.answered.wait(desk).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn bounds(&self) -> Range<Seq> {
        self.shared.inner.bounds()
    }

    fn drops(&self) -> u64 {
        self.shared.inner.drops()
    }

    fn kept_since(&self, drops: u64) -> Seq {
        self.shared.inner.kept_since(drops)
    }
}

impl Drop for TimedRead {
    fn drop(&mut self) {
        self.shared.desk().is_over = true;
        self.shared.asked.notify_one();
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>, desk: &mut Desk) -> Result<(), LogError> {
        if !desk.is_started {
            let ours = Arc::clone(self);
            let thread = thread::Builder::new().name("log-timeout-read".to_owned());
            thread.spawn(move || ours.work()).map_err(|source| LogError::Io {
                op: "start a thread to read",
                path: "the log".into(),
                source,
            })?;
            desk.is_started = true;
        }
        Ok(())
    }

    fn work(&self) {
        let mut desk = self.desk();
        while !desk.is_over {
            let Some(request) = desk.requests.pop_front() else {
                desk = self.asked.wait(desk).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(desk);
            let Request { number, start, end, bytes_max } = request;
            let read = guarded(|| self.inner.read(start, end, bytes_max))
                .unwrap_or_else(|message| Err(LogError::Panicked { op: "read", message }));
            desk = self.desk();
            if let Some(answer) = desk.answers.get_mut(&number) {
                *answer = Some(read);
                self.answered.notify_all();
            }
        }
    }
}
