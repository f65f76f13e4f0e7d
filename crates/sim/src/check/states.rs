//! What state machines are after each committed entry: whoever skips entries by a snapshot must be the same.

use tinyraftplus_core::{EntryId, Seq};
use tinyraftplus_log::EntryKind;

use super::matching::Known;
use crate::machine::Machine;

/// The state after every committed entry.
#[derive(Debug)]
pub(crate) struct States {
    start: Seq,
    now: Machine,
    /// How many of users' entries there were, and what they were.
    after: Vec<(u64, u64)>,
}

impl States {
    pub(crate) const fn new(start: Seq) -> Self {
        Self { start, now: Machine::new(start), after: Vec::new() }
    }

    /// The next entry is committed.
    pub(crate) fn on_committed(&mut self, entry: &Known) {
        if entry.kind == EntryKind::Payload {
            self.now.take(entry.id.seq, &entry.payload);
        }
        self.after.push((self.now.count, self.now.hash));
    }

    /// Whether a state machine is what everything up to that entry makes.
    pub(crate) fn are(&self, last: EntryId, machine: &Machine) -> bool {
        let place = last.seq.get().checked_sub(self.start.get());
        let after = place.and_then(|place| self.after.get(usize::try_from(place).ok()?));
        // Positions without an entry of a user may be passed over.
        after == Some(&(machine.count, machine.hash)) && machine.end <= last.seq.after()
    }
}
