//! Logs of the JavaScript package: what they hold, checked, and written anew.
//!
//! A [`Source`] reads the files of a `FsLog` or `MultiFsLog` as the package left them, and changes nothing.
//! [`Source::check`] reads all of it; [`write_log`] reads it again, writes a log of ours and compares.
//!
//! **Invariant:** what is damaged or can be read in two ways is an [`Error`] that names file, byte and seq, or
//! asks for the option that decides. Nothing is guessed.

mod bytes;
mod error;
mod names;
mod part;
mod source;
mod terms;
mod walk;
mod window;
mod write;

pub use bytes::Layout;
pub use error::{Doubt, Error};
pub use source::{Checked, Options, RolledBack, Source};
pub use write::write_log;

/// The largest entry that a log of ours can hold.
pub const ENTRY_BYTES_MAX: u64 = 512 << 20;

/// The length of something in memory.
fn u64_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// A length that was checked against the length of a file and [`ENTRY_BYTES_MAX`].
fn usize_of(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
