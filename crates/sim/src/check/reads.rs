//! Reads are linearizable: each answer is the state after some prefix of what is committed, and that prefix
//! holds everything that anyone knew to be committed when the read began.
//!
//! This is all that linearizability asks for here, because the log itself is the order of the appends.

use bytes::Bytes;
use tinyraftplus_core::Seq;

use super::{Verdict, Violation, require};
use crate::machine::Machine;

const CHECK: &str = "reads are linearizable";

/// What reads must see.
#[derive(Debug)]
pub(crate) struct Reads {
    start: Seq,
    /// The state after each committed entry.
    states: Vec<Machine>,
    /// Everything before this was acknowledged, or seen by a read that was answered.
    known: Seq,
}

impl Reads {
    pub(crate) const fn new(start: Seq) -> Self {
        Self { start, states: Vec::new(), known: start }
    }

    /// What a call that begins now must come after.
    pub(crate) const fn floor(&self) -> Seq {
        self.known
    }

    /// The next entry is committed; a no-op has no payload.
    pub(crate) fn on_committed(&mut self, seq: Seq, payload: Option<&Bytes>) {
        let mut state = self.states.last().copied().unwrap_or_else(|| Machine::new(self.start));
        if let Some(payload) = payload {
            state.take(seq, payload);
        }
        state.end = seq.after();
        self.states.push(state);
    }

    /// A client was told that everything up to `last` is committed.
    pub(crate) fn on_acknowledged(&mut self, last: Seq) {
        self.known = self.known.max(last.after());
    }

    /// A client got the results of its append, of so many entries, which begins at `first`.
    pub(crate) fn on_results(
        &self,
        call: u64,
        first: Seq,
        count: usize,
        results: &[Bytes],
    ) -> Verdict {
        let place = usize::try_from(first.since(self.start)).unwrap_or(usize::MAX);
        let states = self.states.iter().skip(place);
        let expected = states.take(count).map(|state| state.count.to_le_bytes());
        let same = results.iter().map(|result| &result[..]).eq(expected.clone());
        require!(
            same,
            "results are the state machine's",
            "call {call} got the results {results:?} instead of {:?}",
            expected.collect::<Vec<_>>()
        );
        Ok(())
    }

    /// A read was answered.
    pub(crate) fn on_answer(
        &mut self,
        call: u64,
        floor: Seq,
        local: bool,
        seq: Option<Seq>,
        answer: &[u8],
    ) -> Verdict {
        let Some(state) = Machine::parse(answer) else {
            return Err(Violation::new(CHECK, format!("read {call} got no answer: {answer:?}")));
        };
        // Positions that hold no entry of a user are not shown to the state machine.
        let end = seq.map_or(self.start, Seq::after);
        let expected = match usize::try_from(end.since(self.start))
            .ok()
            .and_then(|count| count.checked_sub(1))
        {
            Some(place) => self.states.get(place).copied(),
            None => Some(Machine::new(self.start)),
        };
        let same =
            expected.is_some_and(|right| (right.count, right.hash) == (state.count, state.hash));
        require!(
            same,
            CHECK,
            "read {call} says that it knows everything before {end} and got {state:?}; {expected:?} would be right"
        );
        require!(
            local || end >= floor,
            CHECK,
            "read {call} saw everything before {end}, and when it began everything before {floor} was known to be committed"
        );
        if !local {
            self.known = self.known.max(end);
        }
        Ok(())
    }
}
