//! What clients asked for, when, and what they were told.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A call that has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Call {
    /// The node.
    pub(crate) node: u64,
    /// Which process of it: each start is another.
    pub(crate) process: u64,
    /// Its place among the calls of this process.
    pub(crate) order: u64,
    /// Moments, in one order for all calls of all nodes: before it was sent, and after it was answered or given up.
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) what: Deed,
}

/// What was asked for and what came of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Deed {
    /// The payloads with these numbers, `count` from `first` on.
    Append { first: u64, count: u64, outcome: Outcome },
    /// Answered with all that is known up to this seq, and the hash of that. A read that fails says nothing.
    Read { seq: u64, hash: u64 },
}

/// What came of an append.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// At this seq and after it; with the hash of the history up to the last of them.
    Committed {
        seq: u64,
        hash: u64,
    },
    Refused,
    Unknown,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, process, order, began, ended, what } = self;
        match what {
            Deed::Append { first, count: 1, outcome } => write!(f, "append of {first} {outcome}")?,
            Deed::Append { first, count, outcome } => {
                write!(f, "batch of {first}..{} {outcome}", first + count)?;
            }
            Deed::Read { seq, .. } => write!(f, "read of seq {seq}")?,
        }
        write!(f, " (node {node}, process {process}, call {order}, moments {began} to {ended})")
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed { seq, .. } => write!(f, "committed at seq {seq}"),
            Self::Refused => f.write_str("refused"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Collects the calls of all clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Arc<Mutex<Vec<Call>>>);

impl History {
    pub(crate) fn add(&self, call: Call) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// What came since this was asked last.
    pub(crate) fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
