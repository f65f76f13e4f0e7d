//! Printing, for a reader who may stop reading at any time.

use std::fmt;
use std::io::{self, Write as _};

/// A line on stdout. If nobody reads it, so be it: what was started is brought to its end all the same.
pub(crate) fn line(text: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// A line on stderr.
pub(crate) fn error_line(text: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}
