//! Printing, for a reader who may stop reading at any time: `tinyraftplus demo | head` must not panic.

use std::fmt;
use std::io::{self, Write as _};

/// A line on stdout. If nobody reads it, so be it: what was started is brought to its end all the same.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// A line on stderr.
pub(crate) fn error_line(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}
