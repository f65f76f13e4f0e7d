//! Everything that comes to the driver: calls, messages of peers, reports of threads, the wish to stop.
//!
//! One lock and one waker for all of it, because the driver takes whatever piled up as one step, and most of the
//! time of a step in memory would go into asking several queues whether they have something.
//!
//! A call gets its place when its future is polled for the first time, and keeps it: that is the order in
//! which a node's calls are committed. A channel with a limit does not promise that. Once it is full its
//! senders wait for room, and while those that got some are not polled yet, later ones walk past them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tinyraftplus_core::{NodeId, Term, Time};
use tinyraftplus_replica::{Message, Outcome, Request};
use tokio::sync::oneshot;

use crate::StopReason;
use crate::threads::Report;

/// A client's call on its way to the replica.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) deadline: Time,
    pub(crate) reply: oneshot::Sender<Outcome>,
}

/// How many bytes of messages may wait, about. A correct peer sends no more than its window, and its calls, before it is answered; this is for others.
const MESSAGES_BYTES_MAX: u64 = 256 << 20;

/// What comes from other nodes.
#[derive(Debug)]
pub(crate) enum Arrived {
    Message(NodeId, Message),
    /// Something of the program's own, from the leader of that term.
    Alive(NodeId, Term),
}

/// Why a call got no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoPlace {
    Full,
    Closed,
}

/// The driver is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Gone;

/// Where everybody but the driver puts things.
#[derive(Debug)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    calls_max: usize,
    messages_max: usize,
}

#[derive(Debug, Default)]
struct State {
    calls: VecDeque<Asked>,
    messages: Vec<Arrived>,
    /// About what they take in memory.
    messages_bytes: u64,
    /// No limit of its own: each answers something that the replica has asked for, and that has limits.
    reports: Vec<Report>,
    stop: Option<StopReason>,
    /// How many threads may still report.
    reporters: usize,
    /// Messages for which there was no room.
    dropped: u64,
    /// No calls and no messages come any more.
    is_closed: bool,
    /// Nobody listens any more.
    is_gone: bool,
    /// The driver, while it waits.
    driver: Option<Waker>,
}

impl Mailbox {
    pub(crate) fn new(calls_max: usize, messages_max: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), calls_max, messages_max })
    }

    pub(crate) fn call(&self, asked: Asked) -> Result<(), NoPlace> {
        let mut state = self.state();
        if state.is_closed {
            return Err(NoPlace::Closed);
        }
        if state.calls.len() >= self.calls_max {
            return Err(NoPlace::Full);
        }
        state.calls.push_back(asked);
        wake(state);
        Ok(())
    }

    /// False if there is no room for it.
    pub(crate) fn deliver(&self, arrived: Arrived) -> bool {
        let bytes = match &arrived {
            Arrived::Message(_, message) => message.memory_bytes(),
            Arrived::Alive(..) => 0,
        };
        let mut state = self.state();
        let has_room = state.messages.len() < self.messages_max
            && state.messages_bytes.saturating_add(bytes) <= MESSAGES_BYTES_MAX;
        if state.is_closed || !(has_room || state.messages.is_empty()) {
            state.dropped += 1;
            return false;
        }
        state.messages_bytes += bytes;
        state.messages.push(arrived);
        wake(state);
        true
    }

    /// One more that is of no use.
    pub(crate) fn count_dropped(&self) {
        self.state().dropped += 1;
    }

    /// How many messages were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// The first reason counts.
    pub(crate) fn stop(&self, reason: StopReason) {
        let mut state = self.state();
        state.stop.get_or_insert(reason);
        wake(state);
    }

    /// Nothing but reports comes any more; returns the calls that nobody has taken. Under one lock with `call`, so
    /// that no call slips in afterwards and waits for ever.
    pub(crate) fn close(&self) -> VecDeque<Asked> {
        let mut state = self.state();
        state.is_closed = true;
        let left = std::mem::take(&mut state.calls);
        state.messages.clear();
        state.messages_bytes = 0;
        wake(state);
        left
    }

    /// One more thread that reports.
    pub(crate) fn reporter(self: &Arc<Self>) -> Reporter {
        self.state().reporters += 1;
        Reporter(Arc::clone(self))
    }

    // A panic elsewhere leaves nothing half done in here.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let driver = state.driver.take();
    drop(state);
    if let Some(driver) = driver {
        driver.wake();
    }
}

/// A thread's way to report. Dropped as the last thing that the thread does.
#[derive(Debug)]
pub(crate) struct Reporter(Arc<Mailbox>);

impl Reporter {
    /// Fails if nobody listens any more.
    pub(crate) fn report(&self, report: Report) -> Result<(), Gone> {
        let mut state = self.0.state();
        if state.is_gone {
            return Err(Gone);
        }
        state.reports.push(report);
        wake(state);
        Ok(())
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.reporters -= 1;
        wake(state);
    }
}

/// What the driver took at once.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) calls: Vec<Asked>,
    pub(crate) messages: Vec<Arrived>,
    pub(crate) reports: Vec<Report>,
}

/// The driver's end. However the driver ends, the mailbox is closed with it.
#[derive(Debug)]
pub(crate) struct Mail(pub(crate) Arc<Mailbox>);

impl Mail {
    /// Whether something has come; else wakes the task when it does. An error says why to stop.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Result<(), StopReason>> {
        let mut state = self.0.state();
        if let Some(reason) = &state.stop {
            return Poll::Ready(Err(reason.clone()));
        }
        if state.is_closed {
            return Poll::Ready(Err(StopReason::Closed));
        }
        if !(state.calls.is_empty() && state.messages.is_empty() && state.reports.is_empty()) {
            return Poll::Ready(Ok(()));
        }
        register(&mut state, context);
        Poll::Pending
    }

    /// How many calls wait.
    pub(crate) fn calls(&self) -> usize {
        self.0.state().calls.len()
    }

    /// All that came, and the oldest calls, at most that many.
    pub(crate) fn take(&self, calls_max: usize) -> Taken {
        let mut state = self.0.state();
        let count = calls_max.min(state.calls.len());
        state.messages_bytes = 0;
        Taken {
            calls: state.calls.drain(..count).collect(),
            messages: std::mem::take(&mut state.messages),
            reports: std::mem::take(&mut state.reports),
        }
    }

    /// Ready when no thread is left. What they reported until then is in `take`.
    pub(crate) fn poll_threads(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.0.state();
        if state.reporters == 0 {
            return Poll::Ready(());
        }
        register(&mut state, context);
        Poll::Pending
    }
}

fn register(state: &mut State, context: &Context<'_>) {
    if !state.driver.as_ref().is_some_and(|driver| driver.will_wake(context.waker())) {
        state.driver = Some(context.waker().clone());
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        drop(self.0.close());
        let mut state = self.0.state();
        state.is_gone = true;
        state.reports.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use tinyraftplus_core::Identity;
    use tinyraftplus_replica::{Forward, Route};

    fn asked(number: u8) -> (Asked, oneshot::Receiver<Outcome>) {
        let (reply, outcome) = oneshot::channel();
        let request = Request::Read { query: Bytes::from(vec![number]) };
        (Asked { request, deadline: Time::NEVER, reply }, outcome)
    }

    #[test]
    fn a_full_mailbox_refuses_and_a_closed_one_leaves_nobody_waiting() {
        let mailbox = Mailbox::new(2, 1);
        let mail = Mail(Arc::clone(&mailbox));
        let mut waiting = Vec::new();
        for (number, expected) in [(1, Ok(())), (2, Ok(())), (3, Err(NoPlace::Full))] {
            let (asked, outcome) = asked(number);
            assert_eq!(mailbox.call(asked), expected);
            waiting.push(outcome);
        }
        let alive = || Arrived::Alive(NodeId::from(1), Term::ZERO);
        assert_eq!([mailbox.deliver(alive()), mailbox.deliver(alive())], [true, false]);
        assert_eq!(mailbox.dropped(), 1);
        assert_eq!(mail.take(1).calls.len(), 1);
        drop(mail);
        assert_eq!(mailbox.call(asked(4).0), Err(NoPlace::Closed));
        assert!(!mailbox.deliver(alive()));
        for mut outcome in waiting {
            assert_eq!(outcome.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        }
    }

    /// `slow_reader`, inside of a node: whatever peers send while the driver is busy, so much is kept and no more. Fails if messages are only counted.
    #[test]
    fn messages_are_limited_in_bytes() {
        let mailbox = Mailbox::new(1, 1000);
        let mail = Mail(Arc::clone(&mailbox));
        let (one, two) = (Identity::new(1), Identity::new(2));
        let route = Route { origin: one, incarnation: 1, leader: two, term: Term::new(1) };
        let payload = Bytes::from(vec![7; 1 << 20]);
        let forward = |payloads| {
            let forward = Forward { route, awaiting: 1, first: 1, calls: vec![payloads] };
            Arrived::Message(NodeId::from(1), Message::Forward(forward))
        };
        for _ in 0..2 {
            let taken = (0..1000).filter(|_| mailbox.deliver(forward(vec![payload.clone(); 8])));
            assert_eq!(taken.count(), 31);
            assert_eq!(mail.take(0).messages.len(), 31);
        }
        // Empty ones take memory, too. One that is alone may be of any size.
        let taken = (0..9).filter(|_| mailbox.deliver(forward(vec![Bytes::new(); 1 << 20])));
        assert_eq!(taken.count(), 2);
        mail.take(0);
        assert!(mailbox.deliver(forward(vec![payload; 300])));
        assert!(!mailbox.deliver(Arrived::Alive(NodeId::from(1), Term::ZERO)));
    }

    /// The last thing of each thread is heard, also when the node is closed meanwhile. Fails if `close` ends reports,
    /// or a thread's end is not counted.
    #[test]
    fn threads_are_waited_for() {
        let mailbox = Mailbox::new(1, 1);
        let mail = Mail(Arc::clone(&mailbox));
        let (one, two) = (mailbox.reporter(), mailbox.reporter());
        let context = Context::from_waker(Waker::noop());
        drop(one);
        drop(mailbox.close());
        assert_eq!(mail.poll_threads(&context), Poll::Pending);
        assert_eq!(two.report(Report::Failed(StopReason::Died("log"))), Ok(()));
        let late = mailbox.reporter();
        drop(two);
        assert_eq!(mail.poll_threads(&context), Poll::Pending);
        assert_eq!(mail.take(0).reports.len(), 1);
        drop(mail);
        assert_eq!(late.report(Report::Failed(StopReason::Died("log"))), Err(Gone));
    }
}
