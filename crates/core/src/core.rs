//! The state of a node, and one step of it.

use crate::{Configuration, HardState, Identity, Input, NodeId, Options, OptionsError, Output, PeerStatus, Seq, Term, Terms, Time};
use alloc::{sync::Arc, vec::Vec};
use core::marker::PhantomData;

/// What part a node plays in its term.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Takes no part yet: the cluster has not formed, or the configuration names another log for this node.
    Learner,
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// What a node remembers across a restart.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The identity of its log.
    pub identity: Identity,
    /// Term and vote.
    pub hard_state: HardState,
    /// The configuration, once the cluster has formed.
    pub configuration: Option<Configuration>,
    /// Which entries the log holds.
    pub terms: Terms,
}

impl Restored {
    /// What a new log remembers: nothing.
    pub fn empty(identity: Identity) -> Self {
        Self { identity, hard_state: HardState::default(), configuration: None, terms: Terms::default() }
    }
}

/// A node of the cluster, without everything that touches the world.
pub struct Core<P> { phantom: PhantomData<P> }

impl<P: AsRef<[u8]> + Clone> Core<P> {
    /// A node that starts, or restarts, with what its log remembers.
    ///
    /// # Errors
    ///
    /// If the options do not fit each other or the log.
    pub fn new(_options: Options, _restored: Restored, _now: Time) -> Result<Self, OptionsError> { unimplemented!() }
    /// What happens now. Never fails, never blocks. Time that goes back is taken as standing still.
    pub fn step(&mut self, _now: Time, _input: Input<P>) -> Output<P> { unimplemented!() }
    /// When to come again with [`Input::Wake`], unless something else happens first.
    pub fn wake_at(&self) -> Time { unimplemented!() }
    /// This node's name.
    pub fn id(&self) -> NodeId { unimplemented!() }
    /// The identity of this node's log.
    pub fn identity(&self) -> Identity { unimplemented!() }
    /// The part it plays.
    pub fn role(&self) -> Role { unimplemented!() }
    /// Its term.
    pub fn term(&self) -> Term { unimplemented!() }
    /// Who leads this term, as far as it knows.
    pub fn leader(&self) -> Option<NodeId> { unimplemented!() }
    /// The configuration, once it knows one.
    pub fn configuration(&self) -> Option<&Arc<Configuration>> { unimplemented!() }
    /// The position after the last entry that is known to be committed.
    pub fn committed(&self) -> Seq { unimplemented!() }
    /// The position after the last entry that is on this disk.
    pub fn durable(&self) -> Seq { unimplemented!() }
    /// Which entries the log holds, durable or on their way.
    pub fn terms(&self) -> &Terms { unimplemented!() }
    /// What a leader knows of its peers; empty for others.
    pub fn peers(&self) -> Vec<(NodeId, PeerStatus)> { unimplemented!() }
    /// The term that was durable when this process started: what happened up to it may be forgotten.
    pub fn term_at_start(&self) -> Term { unimplemented!() }
}
