//! Why a command ended badly, and with which exit code.

use std::{fmt, process::ExitCode};

/// Why a command ended badly.
#[derive(Debug)]
pub(crate) enum Error {
    /// It was asked for something impossible. Nothing was changed.
    Usage(String),
    /// It was tried and did not hold.
    Failed(String),
}

impl Error {
    pub(crate) fn usage(what: impl fmt::Display) -> Self {
        Self::Usage(what.to_string())
    }

    pub(crate) fn failed(what: impl fmt::Display) -> Self {
        Self::Failed(what.to_string())
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::from(1),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) | Self::Failed(what) => f.write_str(what),
        }
    }
}

/// Says what was being done when an error came up, and keeps what the error itself says, causes included.
pub(crate) fn explain(what: impl fmt::Display, error: &dyn std::error::Error) -> String {
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
    text
}
