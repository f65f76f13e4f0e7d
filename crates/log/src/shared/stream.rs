//! Reading for async code: one thread reads for all streams of a log.
//!
//! A stream sends its iterator there and gets it back with what it read, so each has at most one request
//! under way, of the size that the iterator reads ahead.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread,
};

use futures_core::Stream;

use crate::{
    Effect, Entries, LogEntry, LogError,
    shared::{
        clock::AlarmKey,
        core::{Core, Deadline, guarded},
    },
    timeout::Op,
};

/// The entries that were in a range of a log when this was made, for async code.
///
/// ```
/// # use tinyraftplus_log::{LogOptions, MemLog, SharedLog};
/// use std::{future::poll_fn, pin::pin};
/// use futures_core::Stream;
///
/// async fn first(log: &SharedLog) -> Option<bytes::Bytes> {
///     let mut entries = pin!(log.stream(..));
///     poll_fn(|context| entries.as_mut().poll_next(context)).await?.ok().map(|entry| entry.payload)
/// }
/// ```
#[doc(alias = "iter")]
#[must_use = "a stream does nothing unless polled"]
pub struct EntryStream {
    core: Arc<Core>,
    stage: Stage,
}

enum Stage {
    Here(Box<Entries>),
    /// The thread has the iterator.
    Away(Arc<Slot>, Option<AlarmKey>),
    Over,
}

/// Where the thread gives an iterator back.
#[derive(Default)]
struct Slot(Mutex<Answer>);

#[derive(Default)]
struct Answer {
    waker: Option<Waker>,
    read: Option<Read>,
}

enum Read {
    Done(Box<Entries>, Option<Result<LogEntry, LogError>>),
    Failed(LogError),
}

struct Request {
    entries: Box<Entries>,
    slot: Arc<Slot>,
}

/// The reading thread, once there is one. It ends when this is dropped.
#[derive(Default)]
pub(crate) struct Reads(Arc<Desk>);

#[derive(Default)]
struct Desk {
    inbox: Mutex<Inbox>,
    changed: Condvar,
}

/// What streams ask for. Each that still lives has at most one request here.
#[derive(Default)]
struct Inbox {
    requests: VecDeque<Request>,
    is_started: bool,
    is_over: bool,
}

impl EntryStream {
    pub(crate) fn new(core: &Arc<Core>, entries: Entries) -> Self {
        Self { core: Arc::clone(core), stage: Stage::Here(Box::new(entries)) }
    }

    /// How many bytes to read ahead at most, if it was not polled yet; see [`Entries::read_ahead_bytes`].
    pub fn read_ahead_bytes(mut self, bytes: u64) -> Self {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Here(entries) => Stage::Here(Box::new(entries.read_ahead_bytes(bytes))),
            away @ (Stage::Away(..) | Stage::Over) => away,
        };
        self
    }

    /// Sends the iterator to the thread.
    fn send(&mut self, entries: Box<Entries>, waker: &Waker) -> Result<(), LogError> {
        let slot = Arc::new(Slot::default());
        slot.answer().waker = Some(waker.clone());
        let deadline = self.core.deadline(Op::Iter);
        self.core.reads.send(Request { entries, slot: Arc::clone(&slot) })?;
        let alarm = deadline.and_then(|deadline| {
            let slot = Arc::clone(&slot);
            self.core.clock.set(deadline.at, Box::new(move || slot.expire(deadline)))
        });
        self.stage = Stage::Away(slot, alarm);
        Ok(())
    }
}

/// Ends after an error.
impl Stream for EntryStream {
    type Item = Result<LogEntry, LogError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Here(mut entries) => match entries.at_hand() {
                    Poll::Ready(at_hand) => {
                        if matches!(at_hand, Some(Ok(_))) {
                            self.stage = Stage::Here(entries);
                        }
                        return Poll::Ready(at_hand);
                    }
                    Poll::Pending => {
                        if let Err(error) = self.send(entries, context.waker()) {
                            return Poll::Ready(Some(Err(error)));
                        }
                    }
                },
                Stage::Away(slot, alarm) => {
                    let mut answer = slot.answer();
                    let Some(read) = answer.read.take() else {
                        let old = answer.waker.replace(context.waker().clone());
                        drop(answer);
                        drop(old);
                        self.stage = Stage::Away(slot, alarm);
                        return Poll::Pending;
                    };
                    drop(answer);
                    self.core.clock.cancel(alarm);
                    let item = match read {
                        Read::Done(entries, item) => {
                            if matches!(item, Some(Ok(_))) {
                                self.stage = Stage::Here(entries);
                            }
                            item
                        }
                        Read::Failed(error) => {
                            self.core.reads.take_back(&slot);
                            Some(Err(error))
                        }
                    };
                    return Poll::Ready(item);
                }
                Stage::Over => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for EntryStream {
    fn drop(&mut self) {
        if let Stage::Away(slot, alarm) = std::mem::replace(&mut self.stage, Stage::Over) {
            self.core.clock.cancel(alarm);
            self.core.reads.take_back(&slot);
        }
    }
}

impl fmt::Debug for EntryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stage {
            Stage::Here(entries) => f.debug_tuple("EntryStream").field(entries).finish(),
            Stage::Away(..) => f.write_str("EntryStream(reading)"),
            Stage::Over => f.write_str("EntryStream(over)"),
        }
    }
}

impl Slot {
    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was told first counts.
    fn tell(&self, read: Read) {
        let mut answer = self.answer();
        let spare = if answer.read.is_some() { Some(read) } else { answer.read.replace(read) };
        let waker = answer.waker.take();
        drop(answer);
        drop(spare);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn expire(&self, deadline: Deadline) {
        let (op, after) = (deadline.op.name(), deadline.after);
        self.tell(Read::Failed(LogError::Timeout { op, after, effect: Effect::None }));
    }
}

impl Reads {
    fn send(&self, request: Request) -> Result<(), LogError> {
        let mut inbox = self.0.inbox();
        if !inbox.is_started {
            let desk = Arc::clone(&self.0);
            let thread = thread::Builder::new().name("log-reader".to_owned());
            thread.spawn(move || desk.run()).map_err(|source| LogError::Io {
                op: "start a thread to read",
                path: "the log".into(),
                source,
            })?;
            inbox.is_started = true;
        }
        inbox.requests.push_back(request);
        drop(inbox);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Takes a request back, if nobody works on it yet.
    fn take_back(&self, slot: &Arc<Slot>) {
        let mut inbox = self.0.inbox();
        let at = inbox.requests.iter().position(|request| Arc::ptr_eq(&request.slot, slot));
        let request = at.and_then(|at| inbox.requests.remove(at));
        drop(inbox);
        drop(request);
    }
}

impl Drop for Reads {
    fn drop(&mut self) {
        self.0.inbox().is_over = true;
        self.0.changed.notify_one();
    }
}

impl Desk {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut inbox = self.inbox();
        while !inbox.is_over {
            let Some(Request { mut entries, slot }) = inbox.requests.pop_front() else {
                inbox = self.changed.wait(inbox).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(inbox);
            let read = match guarded(move || {
                let item = entries.next();
                (entries, item)
            }) {
                Ok((entries, item)) => Read::Done(entries, item),
                Err(message) => Read::Failed(LogError::Panicked { op: "read", message }),
            };
            // A waker that panics is its executor's business.
            drop(guarded(|| slot.tell(read)));
            inbox = self.inbox();
        }
    }
}
