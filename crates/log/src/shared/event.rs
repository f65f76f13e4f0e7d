//! What becomes of the calls of one group, and who waits for it.
//!
//! All blocking callers of a group wait at one place, so that one system call wakes them all: with 64 of them
//! the waking is what costs, more than the disk. It takes tens of microseconds, so the one who wrote leaves it
//! to the first that wakes: on the processor that this frees, the next writer begins. Futures leave their
//! wakers.
//!
//! Locks are taken in this order: the queue's, then an event's. No foreign code runs under either: wakers are
//! collected and called afterwards.

use std::{
    ops::Range,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Instant,
};

use tinyraftplus_core::{Seq, Term};

use crate::{LogError, shared::core::guarded};

/// What a call that succeeded gives.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// These entries were added.
    Seqs(Range<Seq>),
    /// It is done.
    Done,
    /// A transaction may begin from here.
    Granted(Base),
}

/// What a transaction begins with.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) bounds: Range<Seq>,
    /// The term of entries that are added.
    pub(crate) term: Term,
}

/// Where the calls of one group are told.
#[derive(Debug, Default)]
pub(crate) struct Event {
    told: Mutex<Told>,
    changed: Condvar,
}

/// Where a call is told.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) event: Arc<Event>,
    pub(crate) index: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Told {
    slots: Vec<Slot>,
    /// How many threads wait here.
    pub(crate) waiting: usize,
    /// One of them shall write.
    pub(crate) lead: bool,
    /// All were told, and whoever finds this first wakes the others.
    wake_others: bool,
    /// A future of the group was polled or dropped: somebody else must see to it that it is done.
    pub(crate) detached: bool,
}

#[derive(Debug)]
enum Slot {
    Open(Option<Waker>),
    Told(Result<Outcome, LogError>),
    /// The result was taken, or nobody wants it.
    Gone,
}

/// Whom to wake once no lock is held.
#[derive(Debug, Default)]
#[must_use = "whoever waits is not woken before this is sent"]
pub(crate) struct Notices {
    /// Here one thread is to go on writing. Woken first, so that the disk is not kept waiting.
    pub(crate) lead: Option<Arc<Event>>,
    /// The writer thread is to go on.
    pub(crate) thread: bool,
    events: Vec<Arc<Event>>,
    wakers: Vec<Waker>,
}

impl Event {
    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is told here. Says whether the deadline passed first.
    pub(crate) fn wait<'a>(
        &'a self,
        told: MutexGuard<'a, Told>,
        deadline: Option<Instant>,
    ) -> (MutexGuard<'a, Told>, bool) {
        let Some(deadline) = deadline else {
            return (self.changed.wait(told).unwrap_or_else(PoisonError::into_inner), false);
        };
        #[expect(clippy::disallowed_methods, reason = "callers bring a deadline")]
        let left = deadline.saturating_duration_since(Instant::now());
        let (told, timeout) =
            self.changed.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner);
        (told, timeout.timed_out())
    }

    /// A thread has waited enough, and gives what it was told. If it is the first, it wakes the others.
    pub(crate) fn leave(
        &self,
        mut told: MutexGuard<'_, Told>,
        index: usize,
    ) -> Option<Result<Outcome, LogError>> {
        told.waiting -= 1;
        let result = told.take(index);
        // Else it was called to write. It leaves nobody behind by that: it looks again who does.
        told.lead &= result.is_some();
        let wakes = std::mem::take(&mut told.wake_others) && told.waiting > 0;
        drop(told);
        if wakes {
            self.changed.notify_all();
        }
        result
    }
}

impl Told {
    /// A place for one more call.
    pub(crate) fn open(&mut self) -> usize {
        self.slots.push(Slot::Open(None));
        self.slots.len() - 1
    }

    /// Whether the call was told.
    pub(crate) fn is_told(&self, index: usize) -> bool {
        matches!(self.slots.get(index), Some(Slot::Told(_)))
    }

    /// Whether anybody still waits for the call.
    pub(crate) fn is_open(&self, index: usize) -> bool {
        matches!(self.slots.get(index), Some(Slot::Open(_)))
    }

    /// The places of calls that were not told.
    pub(crate) fn open_places(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|&index| self.is_open(index)).collect()
    }

    /// What the call was told, if it was.
    pub(crate) fn take(&mut self, index: usize) -> Option<Result<Outcome, LogError>> {
        let slot = self.slots.get_mut(index)?;
        match std::mem::replace(slot, Slot::Gone) {
            Slot::Told(result) => Some(result),
            open @ Slot::Open(_) => {
                *slot = open;
                None
            }
            Slot::Gone => None,
        }
    }

    /// Nobody wants the result any more. Gives what is there, to be dropped without a lock.
    pub(crate) fn give_up(
        &mut self,
        index: usize,
    ) -> (Option<Waker>, Option<Result<Outcome, LogError>>) {
        match self.slots.get_mut(index).map(|slot| std::mem::replace(slot, Slot::Gone)) {
            Some(Slot::Open(waker)) => (waker, None),
            Some(Slot::Told(result)) => (None, Some(result)),
            Some(Slot::Gone) | None => (None, None),
        }
    }

    /// Leaves a waker; gives the one that was there, to be dropped without a lock.
    pub(crate) fn set_waker(&mut self, index: usize, waker: Waker) -> Option<Waker> {
        match self.slots.get_mut(index) {
            Some(Slot::Open(old)) => old.replace(waker),
            Some(Slot::Told(_) | Slot::Gone) | None => Some(waker),
        }
    }
}

impl Notices {
    /// Tells a call, if it waits. What was told first counts. Says whether it was told.
    pub(crate) fn tell(
        &mut self,
        told: &mut Told,
        index: usize,
        result: Result<Outcome, LogError>,
    ) -> bool {
        let Some(slot) = told.slots.get_mut(index) else { return false };
        match slot {
            Slot::Open(waker) => {
                self.wakers.extend(waker.take());
                *slot = Slot::Told(result);
                true
            }
            Slot::Told(_) | Slot::Gone => false,
        }
    }

    /// All threads that wait there are to look.
    pub(crate) fn wake_all(&mut self, event: &Arc<Event>, told: &mut Told) {
        if told.waiting > 0 {
            told.wake_others = true;
            self.events.push(Arc::clone(event));
        }
    }

    /// Wakes everybody. No lock may be held.
    pub(crate) fn send(self, thread: &Condvar) {
        if let Some(event) = self.lead {
            event.changed.notify_one();
        }
        if self.thread {
            thread.notify_one();
        }
        for event in self.events {
            event.changed.notify_one();
        }
        for waker in self.wakers {
            // One that panics is its executor's business: others wait here too.
            drop(guarded(|| waker.wake()));
        }
    }
}
