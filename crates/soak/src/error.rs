//! Why a command ended badly, and with which exit code.

use std::process::ExitCode;
use std::{error, fmt};

/// Why a command ended badly.
#[derive(Debug)]
pub(crate) enum Error {
    /// It was asked for something impossible. Nothing was changed.
    Usage(String),
    /// Something did not hold, or could not be done.
    Failed(String),
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

impl Error {
    pub(crate) fn usage(what: impl fmt::Display) -> Self {
        Self::Usage(what.to_string())
    }

    pub(crate) fn failed(what: impl fmt::Display) -> Self {
        Self::Failed(what.to_string())
    }

    /// What was being done when an error came up, and what the error says, causes included.
    pub(crate) fn cause(what: impl fmt::Display, error: &dyn error::Error) -> Self {
        let mut text = format!("{what}: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            let said = error.to_string();
            if !text.ends_with(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            cause = error.source();
        }
        Self::Failed(text)
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::from(1),
            Self::Interrupted => ExitCode::from(130),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) | Self::Failed(what) => f.write_str(what),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}
