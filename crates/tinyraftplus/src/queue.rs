//! Where calls wait for the driver.
//!
//! A call gets its place when its future is polled for the first time, and keeps it: that is the order in
//! which a node's calls are committed. A channel with a limit does not promise that. Once it is full its
//! senders wait for room, and while those that got some are not polled yet, later ones walk past them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tinyraftplus_core::Time;
use tinyraftplus_replica::{Outcome, Request};
use tokio::sync::{Notify, oneshot};

/// A client's call on its way to the replica.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) deadline: Time,
    pub(crate) reply: oneshot::Sender<Outcome>,
}

/// Why a call got no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoPlace {
    Full,
    Closed,
}

/// Calls in the order in which they were made.
#[derive(Debug)]
pub(crate) struct CallQueue {
    state: Mutex<State>,
    news: Notify,
    calls_max: usize,
}

#[derive(Debug, Default)]
struct State {
    calls: VecDeque<Asked>,
    is_closed: bool,
}

impl CallQueue {
    pub(crate) fn new(calls_max: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), news: Notify::new(), calls_max })
    }

    pub(crate) fn put(&self, asked: Asked) -> Result<(), NoPlace> {
        let mut state = self.state();
        if state.is_closed {
            return Err(NoPlace::Closed);
        }
        if state.calls.len() >= self.calls_max {
            return Err(NoPlace::Full);
        }
        state.calls.push_back(asked);
        drop(state);
        self.news.notify_one();
        Ok(())
    }

    /// Nothing comes any more; returns what nobody has taken. Under one lock with `put`, so that no call slips
    /// in afterwards and waits for ever.
    pub(crate) fn close(&self) -> VecDeque<Asked> {
        let mut state = self.state();
        state.is_closed = true;
        let left = std::mem::take(&mut state.calls);
        drop(state);
        self.news.notify_one();
        left
    }

    // A panic elsewhere leaves nothing half done in here.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The driver's end. However the driver ends, the queue is closed with it.
#[derive(Debug)]
pub(crate) struct Calls(pub(crate) Arc<CallQueue>);

impl Calls {
    /// Waits until there is a call; false once the queue is closed.
    pub(crate) async fn wait(&self) -> bool {
        loop {
            {
                let state = self.0.state();
                if state.is_closed || !state.calls.is_empty() {
                    return !state.is_closed;
                }
            }
            self.0.news.notified().await;
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.state().calls.len()
    }

    /// The oldest ones, at most that many.
    pub(crate) fn take(&self, count: usize) -> Vec<Asked> {
        let mut state = self.0.state();
        let count = count.min(state.calls.len());
        state.calls.drain(..count).collect()
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        drop(self.0.close());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn asked(number: u8) -> (Asked, oneshot::Receiver<Outcome>) {
        let (reply, outcome) = oneshot::channel();
        let request = Request::Read { query: Bytes::from(vec![number]) };
        (Asked { request, deadline: Time::NEVER, reply }, outcome)
    }

    #[test]
    fn a_full_queue_refuses_and_a_closed_one_leaves_nobody_waiting() {
        let queue = CallQueue::new(2);
        let calls = Calls(Arc::clone(&queue));
        let mut waiting = Vec::new();
        for (number, expected) in [(1, Ok(())), (2, Ok(())), (3, Err(NoPlace::Full))] {
            let (asked, outcome) = asked(number);
            assert_eq!(queue.put(asked), expected);
            waiting.push(outcome);
        }
        assert_eq!(calls.take(1).len(), 1);
        drop(calls);
        assert_eq!(queue.put(asked(4).0), Err(NoPlace::Closed));
        for mut outcome in waiting {
            assert_eq!(outcome.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        }
    }
}
