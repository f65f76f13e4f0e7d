//! Deadlines of futures, kept by one thread that sleeps until the next one.
//!
//! Blocking callers keep their own deadlines while they wait. A future has no thread to wait on, so a log with
//! timeouts starts one for all of them. It is woken only for a deadline before all others, which is rare:
//! most calls have the same time, and later ones end later.

#![expect(clippy::disallowed_methods, reason = "a log with timeouts was asked for")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

/// Rings at given instants. Its thread ends with it.
#[derive(Default)]
pub(crate) struct Clock {
    shared: Arc<Shared>,
}

/// Names an alarm.
pub(crate) type AlarmKey = (Instant, u64);

type Ring = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Shared {
    alarms: Mutex<Alarms>,
    changed: Condvar,
}

#[derive(Default)]
struct Alarms {
    next: BTreeMap<AlarmKey, Ring>,
    count: u64,
    is_started: bool,
    is_over: bool,
}

impl Clock {
    /// Calls `ring` at an instant, from a thread of its own. `None` if there can be no such thread: then
    /// nobody rings.
    pub(crate) fn set(&self, at: Instant, ring: Ring) -> Option<AlarmKey> {
        let mut alarms = self.shared.alarms();
        if !alarms.is_started {
            let shared = Arc::clone(&self.shared);
            let thread = thread::Builder::new().name("log-clock".to_owned());
            thread.spawn(move || shared.run()).ok()?;
            alarms.is_started = true;
        }
        alarms.count += 1;
        let key = (at, alarms.count);
        let is_first = alarms.next.keys().next().is_none_or(|first| key < *first);
        alarms.next.insert(key, ring);
        drop(alarms);
        if is_first {
            self.shared.changed.notify_one();
        }
        Some(key)
    }

    pub(crate) fn cancel(&self, key: Option<AlarmKey>) {
        let Some(key) = key else { return };
        let ring = self.shared.alarms().next.remove(&key);
        drop(ring);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.shared.alarms().is_over = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn alarms(&self) -> MutexGuard<'_, Alarms> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut alarms = self.alarms();
        while !alarms.is_over {
            let now = Instant::now();
            let first = alarms.next.keys().next().copied();
            alarms = match first {
                Some(key) if key.0 <= now => {
                    let ring = alarms.next.remove(&key);
                    drop(alarms);
                    // A waker that panics is its executor's business; other alarms still ring.
                    drop(ring.map(super::core::guarded));
                    self.alarms()
                }
                Some((at, _)) => {
                    let left = at.saturating_duration_since(now);
                    self.changed
                        .wait_timeout(alarms, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self.changed.wait(alarms).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}
