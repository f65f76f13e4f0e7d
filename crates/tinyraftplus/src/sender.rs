//! Closures that send.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tinyraftplus_core::NodeId;
use tinyraftplus_net::{Message, Transport};
use tokio::runtime::Handle;
use tokio::sync::broadcast::WeakSender;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{Event, Warning};

/// How many futures of one node may be under way. What is sent meanwhile is dropped, and sent again later.
const UNDER_WAY_MAX: usize = 1024;
/// How often failures to reach one peer are told.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// What a closure that sends may give back: nothing, a `Result`, or a future of either. See
/// [`NodeBuilder::send`](crate::NodeBuilder::send).
///
/// `Kind` is one of the three, found by the compiler.
pub trait Sent<Kind> {
    /// What became of the message.
    #[doc(hidden)]
    fn sent(self) -> Sending;
}

/// A closure that gives back nothing.
#[doc(hidden)]
pub struct Nothing;
/// A closure that gives back a `Result`.
#[doc(hidden)]
pub struct Fallible;
/// A closure that gives back a future of one of the others.
#[doc(hidden)]
pub struct Later<Kind>(PhantomData<Kind>);

/// What became of a message.
#[doc(hidden)]
pub enum Sending {
    Over(Result<(), String>),
    UnderWay(Pin<Box<dyn Future<Output = Result<(), String>> + Send>>),
}

impl Sent<Nothing> for () {
    fn sent(self) -> Sending {
        Sending::Over(Ok(()))
    }
}

impl<E: Display> Sent<Fallible> for Result<(), E> {
    fn sent(self) -> Sending {
        Sending::Over(self.map_err(|error| error.to_string()))
    }
}

impl<F, Kind> Sent<Later<Kind>> for F
where
    F: Future + Send + 'static,
    F::Output: Sent<Kind>,
{
    fn sent(self) -> Sending {
        let over = async move {
            match self.await.sent() {
                Sending::Over(result) => result,
                Sending::UnderWay(more) => more.await,
            }
        };
        Sending::UnderWay(Box::pin(over))
    }
}

/// A closure as a transport. Its futures run beside the node, which waits for none of them.
pub(crate) struct Sender<F, Kind> {
    send: F,
    failures: Arc<Failures>,
    under_way: Mutex<JoinSet<()>>,
    kind: PhantomData<fn() -> Kind>,
}

impl<F, Kind> Sender<F, Kind> {
    pub(crate) fn new(send: F, events: WeakSender<Event>) -> Self {
        let failures = Arc::new(Failures { events, peers: Mutex::default() });
        Self { send, failures, under_way: Mutex::default(), kind: PhantomData }
    }

    // A panic elsewhere leaves nothing half done in here.
    fn under_way(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F, R, Kind> Transport for Sender<F, Kind>
where
    F: Fn(NodeId, Message) -> R + Send + Sync + 'static,
    R: Sent<Kind>,
    Kind: 'static,
{
    fn send(&self, to: NodeId, message: Message) {
        let future = match (self.send)(to, message).sent() {
            Sending::Over(result) => return self.failures.note(to, result),
            Sending::UnderWay(future) => future,
        };
        let mut under_way = self.under_way();
        while under_way.try_join_next().is_some() {}
        if under_way.len() >= UNDER_WAY_MAX {
            drop(under_way);
            return self.failures.note(to, Err(format!("{UNDER_WAY_MAX} are under way already")));
        }
        let mut going = Going { to, failures: Arc::clone(&self.failures), is_over: false };
        under_way.spawn_on(
            async move {
                let result = future.await;
                going.is_over = true;
                going.failures.note(to, result);
            },
            &Handle::current(),
        );
    }

    fn detach(&self) {
        self.under_way().abort_all();
    }
}

/// A future that is under way; one that panics has failed like one that says so.
struct Going {
    to: NodeId,
    failures: Arc<Failures>,
    is_over: bool,
}

impl Drop for Going {
    fn drop(&mut self) {
        if !self.is_over && std::thread::panicking() {
            self.failures.note(self.to, Err("it panicked".to_owned()));
        }
    }
}

/// Tells of failures: at once, then at most so often, with their number.
struct Failures {
    events: WeakSender<Event>,
    peers: Mutex<BTreeMap<NodeId, Untold>>,
}

struct Untold {
    told_at: Instant,
    times: u64,
}

impl Failures {
    fn note(&self, to: NodeId, result: Result<(), String>) {
        let Err(what) = result else { return };
        let times = {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(untold) = peers.get_mut(&to) {
                untold.times += 1;
                if untold.told_at.elapsed() < TOLD_EVERY {
                    return;
                }
                untold.told_at = Instant::now();
                std::mem::take(&mut untold.times)
            } else {
                peers.insert(to, Untold { told_at: Instant::now(), times: 0 });
                1
            }
        };
        if let Some(events) = self.events.upgrade() {
            // Nobody listens: fine.
            drop(events.send(Event::Warn(Warning::Send { to, what, times })));
        }
    }
}
