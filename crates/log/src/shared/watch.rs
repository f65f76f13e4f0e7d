//! Tells iterators, at the price of one load an entry, that what they read ahead may be void.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often a log was trimmed, and whether it is closed.
#[derive(Debug, Default)]
pub(crate) struct Watch(AtomicU64);

/// Nobody trims that often.
const CLOSED: u64 = 1 << 63;

impl Watch {
    /// Differs from what it was if anything happened.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.count() >= CLOSED
    }

    pub(crate) fn trimmed(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn close(&self) {
        self.0.fetch_or(CLOSED, Ordering::AcqRel);
    }
}
