//! The state machine: what users build on the log.

use std::error::Error;

use bytes::Bytes;
use tinyraftplus_core::Seq;

pub use tinyraftplus_replica::Applied;

/// Whatever a state machine can't do.
pub type StateMachineError = Box<dyn Error + Send + Sync>;

/// Takes the same entries in the same order on every node.
///
/// It lives on a thread of its own: however slow it is, votes and heartbeats go on.
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
}
