//! The handle of a node.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tinyraftplus_core::quorum::{CustomRule, CustomRules};
use tinyraftplus_core::{NodeId, Seq};
use tinyraftplus_log::LogRead;
use tinyraftplus_net::{Inbox, NetEvent};
use tinyraftplus_replica::{Effect, Message, Outcome, Refused, Request, Unknown};
use tokio::sync::{broadcast, oneshot, watch};

use crate::clock::Clock;
use crate::mailbox::{Arrived, Asked, Mailbox, NoPlace};
use crate::{AppendError, Event, Events, IntoNodeId, NodeBuilder, ReadError, Status, StopReason};

/// A node of the cluster. Clones are handles of the same node; when the last one is dropped, the node stops.
#[derive(Clone)]
pub struct RaftNode {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) killed: Arc<AtomicBool>,
    pub(crate) status: watch::Receiver<Status>,
    /// How many wait for a change of it.
    pub(crate) watchers: Arc<AtomicUsize>,
    pub(crate) events: broadcast::WeakSender<Event>,
    pub(crate) done: watch::Receiver<bool>,
    pub(crate) reader: Arc<dyn LogRead>,
    pub(crate) clock: Clock,
    pub(crate) append_timeout: Duration,
    pub(crate) read_timeout: Duration,
    pub(crate) transfer_timeout: Duration,
    pub(crate) members_timeout: Duration,
    pub(crate) snapshot_timeout: Duration,
    /// What rules of the program's own are checked with.
    pub(crate) custom_rules: CustomRules,
}

/// With the last handle the node goes.
impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.mailbox.close());
    }
}

/// One appended entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Appended {
    /// Its position.
    pub seq: Seq,
    /// The state machine's answer; empty without one.
    pub result: Bytes,
}

/// Entries appended together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AppendedBatch {
    /// Their positions.
    pub seqs: Range<Seq>,
    /// The state machine's answers, one for each; empty ones without one.
    pub results: Vec<Bytes>,
}

/// An answered read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Read {
    /// The newest entry that the answer knows of.
    pub seq: Seq,
    /// The state machine's answer; empty without one.
    pub result: Bytes,
}

/// What this node's own state machine answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalRead {
    /// The newest entry that the answer knows of; `None` if there was none.
    pub seq: Option<Seq>,
    /// The state machine's answer; empty without one.
    pub result: Bytes,
}

impl RaftNode {
    /// Begins to describe a node: its name, and the names of all members, itself among them. They form the cluster. A node that
    /// is to be added to one says [`NodeBuilder::join`].
    pub fn builder<M: IntoNodeId>(
        id: impl IntoNodeId,
        members: impl IntoIterator<Item = M>,
    ) -> NodeBuilder {
        NodeBuilder::new(id, members)
    }

    /// Its name.
    pub fn id(&self) -> NodeId {
        self.shared.status.borrow().id
    }

    /// Appends an entry, on any node. Returns when it is committed and, with a state machine, applied.
    ///
    /// Calls on one node are committed in the order in which they were first polled.
    ///
    /// ```
    /// # use tinyraftplus::{MemLog, RaftNode};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// # let node = RaftNode::builder(1, [1]).log(|| MemLog::new(Default::default())).open().await?;
    /// let (a, b) = tokio::join!(node.append("first"), node.append("second")); // any number at a time
    /// assert!(a?.seq < b?.seq);
    ///
    /// match node.append(vec![0; 1 << 30]).await {
    ///     Ok(appended) => println!("committed at {}", appended.seq),
    ///     // Nothing happened, and never will: it may be tried again.
    ///     Err(error) if error.effect() == tinyraftplus::Effect::None => println!("{error}"),
    ///     // It may be committed or not: look before trying again.
    ///     Err(error) => println!("{error}"),
    /// }
    /// # node.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`AppendError::effect`] says whether anything happened.
    pub async fn append(&self, payload: impl Into<Bytes>) -> Result<Appended, AppendError> {
        let (seqs, results) = self.append_all(vec![payload.into()]).await?;
        let result = results.into_iter().next().unwrap_or_default();
        Ok(Appended { seq: seqs.start, result })
    }

    /// Appends entries together: all of them or none, one after the other.
    ///
    /// ```
    /// # use tinyraftplus::{MemLog, RaftNode};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// # let node = RaftNode::builder(1, [1]).log(|| MemLog::new(Default::default())).open().await?;
    /// let batch = node.append_batch(["all", "or none"]).await?;
    /// assert_eq!((batch.seqs.start.get(), batch.seqs.end.get()), (1, 3));
    /// # node.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`AppendError::effect`] says whether anything happened.
    #[doc(alias = "appendBatch")]
    pub async fn append_batch(
        &self,
        payloads: impl IntoIterator<Item = impl Into<Bytes>>,
    ) -> Result<AppendedBatch, AppendError> {
        let payloads: Vec<Bytes> = payloads.into_iter().map(Into::into).collect();
        let count = payloads.len();
        let (seqs, mut results) = self.append_all(payloads).await?;
        results.resize(count, Bytes::new());
        Ok(AppendedBatch { seqs, results })
    }

    async fn append_all(
        &self,
        payloads: Vec<Bytes>,
    ) -> Result<(Range<Seq>, Vec<Bytes>), AppendError> {
        let stopped = |effect| AppendError::Stopped { effect, reason: self.stop_reason() };
        match self.ask(Request::Append { payloads }, self.shared.append_timeout).await {
            Ok(Outcome::Committed { first, last, results }) => Ok((first..last.after(), results)),
            Ok(Outcome::Refused(Refused::Stopped)) => Err(stopped(Effect::None)),
            Ok(Outcome::Refused(why)) => Err(AppendError::Refused(why)),
            Ok(Outcome::Unknown(Unknown::Stopped)) => Err(stopped(Effect::Possible)),
            Ok(Outcome::Unknown(why)) => Err(AppendError::Unknown(why)),
            Ok(
                Outcome::Read { .. }
                | Outcome::Done
                | Outcome::NotTransferred(_)
                | Outcome::Changed { .. }
                | Outcome::NotChanged(_),
            ) => Err(AppendError::Unknown(Unknown::Forgotten)),
            Err(effect) => Err(stopped(effect)),
        }
    }

    /// Asks the state machine, on any node: the answer knows of everything that was committed when the call
    /// began. Without a state machine it is a barrier: it returns when all of that is committed here.
    ///
    /// ```
    /// # use tinyraftplus::{MemLog, RaftNode};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// # let node = RaftNode::builder(1, [1]).log(|| MemLog::new(Default::default())).open().await?;
    /// let appended = node.append("x").await?;
    /// let read = node.read("").await?; // on another node just as well
    /// assert!(read.seq >= appended.seq);
    /// # node.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// A read has no effect: it is always safe to try again.
    pub async fn read(&self, query: impl Into<Bytes>) -> Result<Read, ReadError> {
        let (seq, result) = self.read_with(Request::Read { query: query.into() }).await?;
        // A leader's own entry was committed before it confirmed the read, so there is one.
        Ok(Read { seq: seq.unwrap_or_default(), result })
    }

    /// Asks this node's own state machine, however old its state is.
    ///
    /// ```
    /// # use tinyraftplus::{MemLog, RaftNode};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// # let node = RaftNode::builder(1, [1]).log(|| MemLog::new(Default::default())).open().await?;
    /// let local = node.read_local("any query").await?;
    /// println!("as of {:?}", local.seq);
    /// # node.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// A read has no effect: it is always safe to try again.
    pub async fn read_local(&self, query: impl Into<Bytes>) -> Result<LocalRead, ReadError> {
        let (seq, result) = self.read_with(Request::ReadLocal { query: query.into() }).await?;
        Ok(LocalRead { seq, result })
    }

    async fn read_with(&self, request: Request) -> Result<(Option<Seq>, Bytes), ReadError> {
        match self.ask(request, self.shared.read_timeout).await {
            Ok(Outcome::Read { seq, result }) => Ok((seq, result)),
            Ok(Outcome::Refused(Refused::Stopped)) | Err(_) => {
                Err(ReadError::Stopped(self.stop_reason()))
            }
            Ok(Outcome::Refused(why)) => Err(ReadError::Refused(why)),
            Ok(
                Outcome::Committed { .. }
                | Outcome::Unknown(_)
                | Outcome::Done
                | Outcome::NotTransferred(_)
                | Outcome::Changed { .. }
                | Outcome::NotChanged(_),
            ) => Err(ReadError::Refused(Refused::Deadline)),
        }
    }

    /// Hands a call to the driver and waits for its outcome. `Err` if the driver is gone: whether anything
    /// may have happened.
    pub(crate) async fn ask(&self, request: Request, timeout: Duration) -> Result<Outcome, Effect> {
        let deadline = self.shared.clock.now() + timeout;
        let (reply, outcome) = oneshot::channel();
        let asked = Asked { request, deadline, reply };
        match self.shared.mailbox.call(asked) {
            Ok(()) => {}
            Err(NoPlace::Full) => return Ok(Outcome::Refused(Refused::Busy)),
            Err(NoPlace::Closed) => return Err(Effect::None),
        }
        outcome.await.map_err(|_| Effect::Possible)
    }

    pub(crate) fn stop_reason(&self) -> StopReason {
        self.shared.status.borrow().stopped.clone().unwrap_or(StopReason::Died("task"))
    }

    /// A consistent snapshot.
    ///
    /// ```
    /// # use tinyraftplus::{MemLog, RaftNode};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// # let node = RaftNode::builder(1, [1]).log(|| MemLog::new(Default::default())).open().await?;
    /// node.append("x").await?;
    /// let status = node.status();
    /// assert!(status.open && status.leader == Some(node.id()));
    /// assert_eq!((status.seq(), status.durable.get()), (Some(tinyraftplus::Seq::new(1)), 2));
    /// # node.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn status(&self) -> Status {
        self.shared.status.borrow().clone()
    }

    /// Waits until the status is as wanted, and returns it: at once if it is already.
    ///
    /// ```
    /// # use tinyraftplus::{MemLog, RaftNode};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// # let node = RaftNode::builder(1, [1]).log(|| MemLog::new(Default::default())).open().await?;
    /// let appended = node.append("x").await?;
    /// let status = node.wait(|status| status.applied > appended.seq).await?;
    /// assert_eq!(status.head.unwrap().payload, "x");
    /// # node.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Why the node stopped, if it does first.
    pub async fn wait(&self, mut until: impl FnMut(&Status) -> bool) -> Result<Status, StopReason> {
        let mut status = self.shared.status.clone();
        // Before it looks: what changes afterwards is told.
        let _watching = Watching::new(Arc::clone(&self.shared.watchers));
        loop {
            // A copy: who looks at the original holds up the node.
            let now = status.borrow_and_update().clone();
            if until(&now) {
                return Ok(now);
            }
            if let Some(reason) = now.stopped {
                return Err(reason);
            }
            if status.changed().await.is_err() {
                return Err(self.stop_reason());
            }
        }
    }

    /// Waits until somebody leads, and returns who.
    ///
    /// ```
    /// # use tinyraftplus::{MemLog, RaftNode};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// # let node = RaftNode::builder(1, [1]).log(|| MemLog::new(Default::default())).open().await?;
    /// assert_eq!(node.await_leader().await?, node.id());
    /// # node.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Why the node stopped, if it does first.
    #[doc(alias = "awaitLeader")]
    pub async fn await_leader(&self) -> Result<NodeId, StopReason> {
        let mut leader = None;
        self.wait(|status| {
            leader = status.leader;
            leader.is_some()
        })
        .await?;
        leader.ok_or_else(|| self.stop_reason())
    }

    /// Waits until somebody leads and has committed an entry of its term, as far as this node knows.
    ///
    /// # Errors
    ///
    /// Why the node stopped, if it does first.
    pub async fn await_committed_leader(&self) -> Result<NodeId, StopReason> {
        let mut leader = None;
        self.wait(|status| {
            leader = status.leader.filter(|_| status.committed_term == Some(status.term));
            leader.is_some()
        })
        .await?;
        leader.ok_or_else(|| self.stop_reason())
    }

    /// Listens from now on: [`NodeBuilder::events`] listens from the start on. A slow listener misses events and is told how
    /// many; it never slows the node.
    ///
    /// ```
    /// # use tinyraftplus::{MemLog, RaftNode};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// # let node = RaftNode::builder(1, [1]).log(|| MemLog::new(Default::default())).open().await?;
    /// use tinyraftplus::{Event, Next};
    ///
    /// let mut events = node.events();
    /// node.append("x").await?;
    /// loop {
    ///     match events.next().await {
    ///         Some(Next::Event(Event::Commit { seq })) => {
    ///             println!("committed up to {seq}");
    ///             break;
    ///         }
    ///         Some(Next::Event(event)) => println!("{}", event.advice()),
    ///         Some(Next::Missed(count)) => println!("too slow for {count} events"),
    ///         None => break, // the node is closed
    ///     }
    /// }
    /// # node.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn events(&self) -> Events {
        let receiver = match self.shared.events.upgrade() {
            Some(events) => events.subscribe(),
            None => broadcast::channel(1).1,
        };
        Events { receiver }
    }

    /// Waits for an event. Listens from this call on, not only from the first poll.
    ///
    /// ```
    /// # use tinyraftplus::{MemLog, RaftNode};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// # let node = RaftNode::builder(1, [1]).log(|| MemLog::new(Default::default())).open().await?;
    /// use tinyraftplus::Event;
    ///
    /// let committed = node.wait_event(|event| matches!(event, Event::Commit { .. }));
    /// node.append("x").await?;
    /// committed.await?; // although it came before anybody waited
    /// # node.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Why the node stopped, if it does first.
    #[doc(alias = "awaitEvent")]
    pub fn wait_event(
        &self,
        mut is_wanted: impl FnMut(&Event) -> bool,
    ) -> impl Future<Output = Result<Event, StopReason>> {
        let mut events = self.events();
        async move {
            while let Some(next) = events.next().await {
                match next {
                    crate::Next::Event(event) if is_wanted(&event) => return Ok(event),
                    crate::Next::Event(_) | crate::Next::Missed(_) => {}
                }
            }
            Err(self.stop_reason())
        }
    }

    /// Takes a message from a peer: for programs that bring their own wire. See [`NodeBuilder::send`] for the other way.
    ///
    /// ```
    /// # fn example(node: &tinyraftplus::RaftNode, bytes: bytes::Bytes) -> Result<(), tinyraftplus::DecodeError> {
    /// use tinyraftplus::{Message, Wire};
    ///
    /// node.receive(2, Message::decode(&bytes)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Never blocks, never fails. What there is no room for, what comes when the node is closed and what is from nobody
    /// (a name that can't be one) is dropped and counted: [`RaftNode::messages_dropped`]. So is what no correct peer
    /// sends: [`Status::malformed`]. What is lost, the peer sends again.
    #[doc(alias = "onReceive")]
    pub fn receive(&self, from: impl IntoNodeId, message: Message) {
        match from.into_node_id() {
            Ok(from) => drop(self.shared.mailbox.deliver(Arrived::Message(from, message))),
            Err(_) => self.shared.mailbox.count_dropped(),
        }
    }

    /// How many messages were dropped because there was no room for them, or the node was closed.
    pub fn messages_dropped(&self) -> u64 {
        self.shared.mailbox.dropped()
    }

    /// Stops the node: every call that waits ends, the log is closed, and no task or thread is left. The second
    /// time it waits for the same end.
    ///
    /// # Errors
    ///
    /// Why the node stopped, if it was not this.
    pub async fn close(&self) -> Result<(), StopReason> {
        self.stop(StopReason::Closed).await;
        match self.stop_reason() {
            StopReason::Closed | StopReason::Killed => Ok(()),
            other @ (StopReason::Log(_) | StopReason::StateMachine(_) | StopReason::Died(_)) => {
                Err(other)
            }
        }
    }

    /// Stops the node as a crash would: nothing more is written, and the log is not closed but dropped. For
    /// demonstrations and tests.
    pub async fn kill(&self) {
        self.shared.killed.store(true, Ordering::Release);
        self.stop(StopReason::Killed).await;
    }

    async fn stop(&self, reason: StopReason) {
        self.shared.mailbox.stop(reason);
        let mut done = self.shared.done.clone();
        // An error means that the driver is gone altogether.
        drop(done.wait_for(|done| *done).await);
    }
}

/// Somebody who waits for a change of the status.
pub(crate) struct Watching(Arc<AtomicUsize>);

impl Watching {
    pub(crate) fn new(watchers: Arc<AtomicUsize>) -> Self {
        watchers.fetch_add(1, Ordering::Relaxed);
        Self(watchers)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for RaftNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftNode").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Where messages for the node arrive. It does not keep the node alive.
pub(crate) struct NodeInbox {
    pub(crate) id: NodeId,
    pub(crate) custom_rules: Vec<CustomRule>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) events: broadcast::WeakSender<Event>,
}

impl Inbox for NodeInbox {
    fn deliver(&self, from: NodeId, message: Message) -> bool {
        self.mailbox.deliver(Arrived::Message(from, message))
    }

    fn id(&self) -> NodeId {
        self.id
    }

    fn custom_rules(&self) -> Vec<CustomRule> {
        self.custom_rules.clone()
    }

    fn tell(&self, event: NetEvent) {
        if let Some(events) = self.events.upgrade() {
            // Nobody listens: fine.
            drop(events.send(Event::Net(event)));
        }
    }
}
