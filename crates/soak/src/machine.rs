//! The state machine of the nodes: a hash of everything that was appended and where. An answer of it names one history only.

use bytes::Bytes;
use tinyraftplus::{Applied, StateMachine, StateMachineError};

use crate::payload;
use crate::rng::mix;

/// The hash of a history with one more payload.
pub(crate) const fn after(hash: u64, seq: u64, number: u64) -> u64 {
    mix(hash ^ mix(seq ^ mix(number)))
}

/// Hashes what it is given.
#[derive(Default)]
pub(crate) struct Machine {
    hash: u64,
}

impl StateMachine for Machine {
    fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
        let mut results = Vec::with_capacity(entries.len());
        for entry in entries {
            let number = payload::number(&entry.payload)
                .ok_or_else(|| format!("the payload of seq {} is damaged", entry.seq))?;
            self.hash = after(self.hash, entry.seq.get(), number);
            results.push(Bytes::copy_from_slice(&self.hash.to_le_bytes()));
        }
        Ok(results)
    }

    fn read(&mut self, _: &[u8]) -> Result<Bytes, StateMachineError> {
        Ok(Bytes::copy_from_slice(&self.hash.to_le_bytes()))
    }
}

/// The hash that an answer is.
pub(crate) fn hash(answer: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*answer.first_chunk()?))
}
