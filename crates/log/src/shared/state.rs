//! What waits, and whether it can be written now.

use std::time::Instant;

use crate::{
    Log, LogError,
    shared::{
        core::QUEUE_BYTES_MAX,
        event::{Base, Notices, Outcome, Place},
        gather::Gather,
        queue::{Group, Queue},
    },
};

/// Whoever holds the lock of this decides what is done next.
pub(crate) struct State {
    /// The log, unless somebody writes, or it was closed.
    pub(crate) log: Option<Box<dyn Log>>,
    /// What it was like when it was put here.
    pub(crate) base: Base,
    pub(crate) queue: Queue,
    pub(crate) txn_is_open: bool,
    /// Where it is told that the log was closed, once somebody asked for it.
    pub(crate) closing: Option<Place>,
    pub(crate) closed: bool,
    pub(crate) poisoned: bool,
    pub(crate) thread: Thread,
    pub(crate) gather: Gather,
}

/// What the writer thread does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Thread {
    /// There is none.
    Missing,
    Idle,
    Busy,
}

impl State {
    pub(crate) fn new(log: Box<dyn Log>, base: Base, group_bytes_max: u64) -> Self {
        Self {
            log: Some(log),
            base,
            queue: Queue::new(QUEUE_BYTES_MAX, group_bytes_max),
            txn_is_open: false,
            closing: None,
            closed: false,
            poisoned: false,
            thread: Thread::Missing,
            gather: Gather::default(),
        }
    }

    /// Whether a group could be written now.
    pub(crate) fn is_runnable(&self) -> bool {
        self.could_run() && !self.is_short()
    }

    fn could_run(&self) -> bool {
        self.log.is_some() && !self.txn_is_open && !self.queue.is_empty()
    }

    /// Whether the next group waits for callers that were just told.
    pub(crate) fn is_short(&self) -> bool {
        self.queue.joinable().is_some_and(|calls| self.gather.is_short(calls))
    }

    /// Whether it does, and nobody ends that in time.
    pub(crate) fn is_unwatched(&self) -> bool {
        self.could_run() && self.is_short() && !self.gather.is_watched()
    }

    /// The caller is to end the wait for others at this time, if nobody else does.
    pub(crate) fn watch(&mut self) -> Option<Instant> {
        if self.is_unwatched() { self.gather.watch() } else { None }
    }

    /// The caller looks no longer, and ends the wait if it took long enough.
    pub(crate) fn stop_watching(&mut self) {
        self.gather.stop_watching(self.queue.joinable().unwrap_or(0), now());
    }

    /// Whether a transaction is open, or will be.
    pub(crate) fn is_held_up(&self) -> bool {
        self.txn_is_open || self.queue.groups().any(Group::is_txn)
    }

    /// Begins the transaction that is next, if nothing else is under way.
    pub(crate) fn grant(&mut self, notices: &mut Notices) {
        while !self.txn_is_open && (self.log.is_some() || self.closed) {
            let Some(group) = self.queue.pop_txn() else { return };
            let mut told = group.event.told();
            for call in &group.calls {
                let result = if self.poisoned {
                    Err(LogError::Poisoned)
                } else {
                    Ok(Outcome::Granted(self.base.clone()))
                };
                self.txn_is_open = notices.tell(&mut told, call.index, result) && !self.poisoned;
            }
            notices.wake_all(&group.event, &mut told);
        }
    }

    /// Takes the log, and what to write.
    pub(crate) fn take(&mut self) -> Option<(Box<dyn Log>, Group)> {
        if !self.is_runnable() {
            return None;
        }
        let group = self.queue.pop()?;
        self.gather.end(group.calls.len());
        group.event.told().lead = false;
        Some((self.log.take()?, group))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long to wait for callers is learned from writes"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
