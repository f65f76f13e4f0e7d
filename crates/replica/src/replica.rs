//! The state of a replica, and one step of it.
use bytes::Bytes;
use tinyraftplus_core::{Core, Restored, Seq, Time};

use crate::{Actions, Happening, ReplicaOptions, StartError, Status};

/// A node without everything that touches the world.
#[derive(Debug)]
pub struct Replica {
    core: Core<Bytes>,
}

impl Replica {
    /// A node that starts, or restarts, with what its log remembers.
    ///
    /// `applied` is the position after the last entry that the state machine has seen, or anything up to the
    /// log's start for one that has seen nothing. `incarnation` is a number that no earlier start of this
    /// node had.
    ///
    /// # Errors
    ///
    /// If the options do not fit each other, or the state machine not the log.
    pub fn new(
        _options: ReplicaOptions,
        _restored: Restored,
        _applied: Seq,
        _incarnation: u64,
        _now: Time,
    ) -> Result<Self, StartError> {
        unimplemented!()
    }

    /// What happens now. Never fails, never blocks. Time that goes back is taken as standing still.
    pub fn step(&mut self, now: Time, happening: Happening) -> Actions {
        self.step_all(now, [happening])
    }

    /// Everything that piled up, as one step: the calls in it become one write and one message a peer.
    pub fn step_all(
        &mut self,
        _now: Time,
        _happenings: impl IntoIterator<Item = Happening>,
    ) -> Actions {
        unimplemented!()
    }

    /// When to come again with [`Happening::Wake`], unless something else happens first.
    pub fn wake_at(&self) -> Time {
        unimplemented!()
    }

    /// A consistent snapshot.
    pub fn status(&self) -> Status {
        unimplemented!()
    }

    /// The consensus, to look at.
    pub const fn core(&self) -> &Core<Bytes> {
        &self.core
    }
}
