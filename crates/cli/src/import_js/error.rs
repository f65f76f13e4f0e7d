//! Why a log is not imported.

use std::{fmt, io, path::PathBuf};

use tinyraftplus_log::LogError;

/// How many doubts are kept; of a log with more, the first ones say enough.
const DOUBTS_MAX: usize = 50;
/// After so many, nobody looks for more: a file that is not a log has no end of them.
const ENOUGH: u64 = 100_000;

/// A place that is damaged, or that can be read in more than one way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Doubt {
    /// The file.
    pub path: PathBuf,
    /// Where in the file.
    pub byte: Option<u64>,
    /// The first entry concerned, as far as it is known.
    pub seq: Option<u64>,
    /// What is wrong, and what to do if there is something to do.
    pub what: String,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(byte) = self.byte {
            write!(f, " at byte {byte}")?;
        }
        if let Some(seq) = self.seq {
            write!(f, " (seq {seq})")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Why a log is not imported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is damaged, or incomplete.
    #[error("{}", told(first, *more))]
    Doubtful {
        /// The first places, in the order of the log; at least one.
        first: Vec<Doubt>,
        /// How many more there are, or were when it was given up.
        more: u64,
    },
    /// It can't be told how it is meant, and an option can.
    #[error("{0}")]
    Ask(String),
    /// The operating system refused to read it.
    #[error("can't {op} {}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The new log could not be written or read.
    #[error("the new log can't be written")]
    Log(#[from] LogError),
    /// What was read the second time is not what was read the first.
    #[error(
        "{}: its files changed while they were read; end the process that writes to it, then import again", .0.display()
    )]
    Changed(PathBuf),
    /// The new log does not read as it was written.
    #[error("{}: the new log reads otherwise than it was written; the disk or this program is at fault", .0.display())]
    NotTheSame(PathBuf),
}

fn told(first: &[Doubt], more: u64) -> String {
    let more = (more > 0).then(|| format!("and {more} more"));
    first.iter().map(ToString::to_string).chain(more).collect::<Vec<_>>().join("\n")
}

impl From<Doubt> for Error {
    fn from(doubt: Doubt) -> Self {
        Self::Doubtful { first: vec![doubt], more: 0 }
    }
}

/// The doubts that were found so far.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    first: Vec<Doubt>,
    more: u64,
}

impl Doubts {
    pub(super) fn push(&mut self, doubt: Doubt) {
        if self.first.len() < DOUBTS_MAX {
            self.first.push(doubt);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    pub(super) const fn is_enough(&self) -> bool {
        self.more >= ENOUGH
    }

    pub(super) fn none_or_err(self) -> Result<(), Error> {
        if self.first.is_empty() {
            return Ok(());
        }
        Err(Error::Doubtful { first: self.first, more: self.more })
    }
}
