//! The state machine: what users build on the log.

use std::error::Error;
use std::fmt;
use std::future::{self, Future};
use std::io::{self, Read, Write};

use bytes::Bytes;
use tinyraftplus_core::Seq;
use tokio::runtime::Handle;
use tokio::sync::watch;

pub use tinyraftplus_replica::Applied;

/// Whatever a state machine can't do.
pub type StateMachineError = Box<dyn Error + Send + Sync>;

/// Takes the same entries in the same order on every node.
///
/// It lives on a thread of its own: however slow it is, votes and heartbeats go on. One that waits for other things than the
/// processor may be an [`AsyncStateMachine`].
///
/// ```
/// use tinyraftplus::{Applied, Bytes, StateMachine, StateMachineError};
///
/// #[derive(Default)]
/// struct Sum(i64);
///
/// impl StateMachine for Sum {
///     fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
///         let mut results = Vec::new();
///         for entry in entries {
///             // What users append may be nonsense, and every node must say the same of it.
///             let number = std::str::from_utf8(&entry.payload).ok().and_then(|text| text.parse().ok());
///             self.0 = self.0.wrapping_add(number.unwrap_or(0));
///             results.push(Bytes::from(self.0.to_string()));
///         }
///         Ok(results)
///     }
///
///     fn read(&mut self, _query: &[u8]) -> Result<Bytes, StateMachineError> {
///         Ok(Bytes::from(self.0.to_string()))
///     }
/// }
/// # use tinyraftplus::{MemLog, RaftNode};
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
/// # runtime.block_on(async {
/// # let node = RaftNode::builder(1, [1]).log(|| MemLog::new(Default::default()));
/// let node = node.state_machine(Sum::default).open().await?;
/// node.append("40").await?;
/// assert_eq!(node.append("2").await?.result, "42");
/// # node.close().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub trait StateMachine: Send + 'static {
    /// Takes the next entries, in order, and returns one result for each. An entry's payload may be empty; what
    /// the cluster itself appends is not shown, so seqs may skip.
    ///
    /// # Errors
    ///
    /// Stops this node: it could only go on with a state that other nodes don't have.
    fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError>;

    /// Answers a query from what was applied so far.
    ///
    /// # Errors
    ///
    /// Goes to whoever asked; the node goes on.
    fn read(&mut self, query: &[u8]) -> Result<Bytes, StateMachineError>;

    /// The position after the last entry that it has taken already: 0 for a state that is not kept, and built
    /// anew at each start. One that is kept must store this together with the state, all or nothing.
    #[doc(alias = "applySeq")]
    fn applied(&self) -> Seq {
        Seq::ZERO
    }

    /// Whether it can be written down and restored: then snapshots are taken, old entries go, and a node that is too far behind
    /// gets a snapshot.
    fn takes_snapshots(&self) -> bool {
        false
    }

    /// What it is now. Entries wait for this call, and not for the writing: return what can be written beside them, such as a
    /// copy, or a persistent structure's root.
    ///
    /// # Errors
    ///
    /// There is no snapshot then; it is tried again later.
    fn snapshot(&mut self) -> Result<StateSnapshot, StateMachineError> {
        Err(NO_SNAPSHOTS.into())
    }

    /// Becomes what a snapshot says, and forgets everything else: from now on it has taken all entries before `applied`. One
    /// that is kept must store both together, all or nothing.
    ///
    /// # Errors
    ///
    /// Stops this node: it could not go on with what it has.
    fn restore(
        &mut self,
        applied: Seq,
        state: &mut (dyn Read + Send),
    ) -> Result<(), StateMachineError> {
        let _ = (applied, state);
        Err(NO_SNAPSHOTS.into())
    }
}

const NO_SNAPSHOTS: &str = "this state machine takes no snapshots";

/// What a state machine is at one moment, to be written on another thread.
pub struct StateSnapshot(Box<Writes>);

type Writes = dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send;

impl StateSnapshot {
    /// What this writes, in any pieces. It is called once, on a thread that may block.
    ///
    /// ```
    /// use tinyraftplus::StateSnapshot;
    ///
    /// let copy = vec![1, 2, 3];
    /// let snapshot = StateSnapshot::new(move |out| out.write_all(&copy));
    /// # drop(snapshot);
    /// ```
    pub fn new(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Self {
        Self(Box::new(write))
    }

    pub(crate) fn write(self, out: &mut dyn Write) -> io::Result<()> {
        (self.0)(out)
    }
}

/// These bytes.
impl From<Vec<u8>> for StateSnapshot {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(move |out| out.write_all(&bytes))
    }
}

impl fmt::Debug for StateSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateSnapshot").finish_non_exhaustive()
    }
}

/// The same for state machines that wait: for a database, for another service. While it waits, so do entries and queries of
/// this node, one at a time, and nothing else.
///
/// Its futures run on the runtime of the node, on a thread of their own. Closing the node waits for the one that is under
/// way, as long as `close_timeout`; then it is dropped where it stands.
///
/// ```
/// use tinyraftplus::{Applied, AsyncStateMachine, Bytes, StateMachineError};
///
/// struct Remote(u64);
///
/// impl AsyncStateMachine for Remote {
///     async fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
///         tokio::task::yield_now().await; // in place of a call of a database
///         self.0 += entries.len() as u64;
///         Ok(vec![Bytes::new(); entries.len()])
///     }
///
///     async fn read(&mut self, _query: &[u8]) -> Result<Bytes, StateMachineError> {
///         Ok(Bytes::from(self.0.to_string()))
///     }
/// }
/// # use tinyraftplus::{MemLog, RaftNode};
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
/// # runtime.block_on(async {
/// # let node = RaftNode::builder(1, [1]).log(|| MemLog::new(Default::default()));
/// let node = node.async_state_machine(|| Remote(0)).open().await?;
/// node.append("x").await?;
/// assert_eq!(node.read("").await?.result, "1");
/// # node.close().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub trait AsyncStateMachine: Send + 'static {
    /// As [`StateMachine::apply`].
    ///
    /// # Errors
    ///
    /// Stops this node: it could only go on with a state that other nodes don't have.
    fn apply(
        &mut self,
        entries: &[Applied],
    ) -> impl Future<Output = Result<Vec<Bytes>, StateMachineError>> + Send;

    /// As [`StateMachine::read`].
    ///
    /// # Errors
    ///
    /// Goes to whoever asked; the node goes on.
    fn read(
        &mut self,
        query: &[u8],
    ) -> impl Future<Output = Result<Bytes, StateMachineError>> + Send;

    /// As [`StateMachine::applied`].
    fn applied(&self) -> Seq {
        Seq::ZERO
    }

    /// As [`StateMachine::takes_snapshots`].
    fn takes_snapshots(&self) -> bool {
        false
    }

    /// As [`StateMachine::snapshot`].
    ///
    /// # Errors
    ///
    /// There is no snapshot then; it is tried again later.
    fn snapshot(
        &mut self,
    ) -> impl Future<Output = Result<StateSnapshot, StateMachineError>> + Send {
        future::ready(Err(NO_SNAPSHOTS.into()))
    }

    /// As [`StateMachine::restore`].
    ///
    /// # Errors
    ///
    /// Stops this node: it could not go on with what it has.
    fn restore(
        &mut self,
        applied: Seq,
        state: &mut (dyn Read + Send),
    ) -> impl Future<Output = Result<(), StateMachineError>> + Send {
        let _ = (applied, state);
        future::ready(Err(NO_SNAPSHOTS.into()))
    }
}

/// Lets the state machine's thread wait for its futures.
pub(crate) struct Waiting<M> {
    pub(crate) machine: M,
    pub(crate) runtime: Handle,
    /// Becomes true when the node is closed and nobody waits any more.
    pub(crate) done: watch::Receiver<bool>,
}

impl<M: AsyncStateMachine> StateMachine for Waiting<M> {
    fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
        let Self { machine, runtime, done } = self;
        runtime.block_on(unless_closed(machine.apply(entries), done))
    }

    fn read(&mut self, query: &[u8]) -> Result<Bytes, StateMachineError> {
        let Self { machine, runtime, done } = self;
        runtime.block_on(unless_closed(machine.read(query), done))
    }

    fn applied(&self) -> Seq {
        self.machine.applied()
    }

    fn takes_snapshots(&self) -> bool {
        self.machine.takes_snapshots()
    }

    fn snapshot(&mut self) -> Result<StateSnapshot, StateMachineError> {
        let Self { machine, runtime, done } = self;
        runtime.block_on(unless_closed(machine.snapshot(), done))
    }

    fn restore(
        &mut self,
        applied: Seq,
        state: &mut (dyn Read + Send),
    ) -> Result<(), StateMachineError> {
        let Self { machine, runtime, done } = self;
        runtime.block_on(unless_closed(machine.restore(applied, state), done))
    }
}

async fn unless_closed<T>(
    answer: impl Future<Output = Result<T, StateMachineError>>,
    done: &mut watch::Receiver<bool>,
) -> Result<T, StateMachineError> {
    tokio::select! {
        biased;
        answer = answer => answer,
        _ = done.wait_for(|done| *done) => Err("the node was closed meanwhile".into()),
    }
}
