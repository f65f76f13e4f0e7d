//! A durable log.
mod error;
mod log;
pub use crate::error::{Effect, LogError};
pub use crate::log::{EntryKind, Log, LogEntry, LogRead, LogStats, Reset, Write};
