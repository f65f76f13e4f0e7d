//! What the benchmark is asked for, checked as far as it can be before anything is started.

use crate::error::{Error, explain};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A node takes no more bytes than this at once; what is above it would measure refusals.
const AT_ONCE_MAX: u64 = 32 << 20;
/// What an entry costs a node beside its payload, at most.
const ENTRY_COST: u64 = 256;

/// What is measured.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// How many clients append at the same time, 1 to 1024
    #[arg(
        long, value_delimiter = ',', default_value = "1,64", value_name = "COUNT,..",
        value_parser = clap::value_parser!(u64).range(1..=1024)
    )]
    pub(super) clients: Vec<u64>,
    /// How many nodes, 3 to 15
    #[arg(
        long, value_delimiter = ',', default_value = "3", value_name = "COUNT,..",
        value_parser = clap::value_parser!(u64).range(3..=15)
    )]
    pub(super) nodes: Vec<u64>,
    /// How the nodes are joined
    #[arg(long, value_delimiter = ',', default_value = "in-process", value_name = "HOW,..")]
    pub(super) transport: Vec<Transport>,
    /// What the nodes keep their logs in
    #[arg(long, value_delimiter = ',', default_value = "fs", value_name = "KIND,..")]
    pub(super) log: Vec<LogKind>,
    /// Which node the clients call
    #[arg(long, value_delimiter = ',', default_value = "leader", value_name = "NODE,..")]
    pub(super) from: Vec<Called>,
    /// Bytes of an entry
    #[arg(
        long, default_value_t = 1024, value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(1..=1 << 20)
    )]
    pub(super) payload: u64,
    /// Entries that a call appends together
    #[arg(
        long, default_value_t = 1, value_name = "ENTRIES",
        value_parser = clap::value_parser!(u64).range(1..=65_536)
    )]
    pub(super) batch: u64,
    /// Encrypt the logs
    #[arg(long)]
    pub(super) encrypt: bool,
    /// How long a row is measured in each round, from 0.1
    #[arg(long, default_value = "2", value_name = "SECONDS", value_parser = measured, allow_negative_numbers = true)]
    pub(super) seconds: f64,
    /// How long its clients append before that; 0 for not at all
    #[arg(long, default_value = "0.5", value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub(super) warmup: f64,
    /// How often; rows take their turns, and a figure is the median of its rounds
    #[arg(
        long, default_value_t = 3, value_name = "COUNT",
        value_parser = clap::value_parser!(u64).range(1..=1000)
    )]
    pub(super) rounds: u64,
    /// Where the logs go; choose a real disk [default: a temporary directory, removed afterwards]
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// Draw entries a second against clients (or nodes, if they vary and clients don't) into this file
    #[arg(long, value_name = "FILE.svg")]
    pub(super) plot: Option<PathBuf>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(super) json: bool,
}

/// What the nodes of a row are, and who calls them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Shape {
    pub(super) nodes: u64,
    pub(super) transport: Transport,
    pub(super) log: LogKind,
    pub(super) encrypt: bool,
}

/// How nodes are joined.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Transport {
    /// One process, messages handed over
    InProcess,
    /// One process, encrypted TCP on loopback
    Tcp,
    /// A process for each node, encrypted TCP on loopback
    Processes,
}

/// What a node keeps its log in.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
pub(super) enum LogKind {
    /// Memory: nothing is durable
    Mem,
    /// One file
    Fs,
    /// Segments
    Multi,
}

/// Whom the clients call.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Called {
    /// The leader
    Leader,
    /// A follower, which passes calls on
    Follower,
}

impl Called {
    /// There is one leader, and more than one follower.
    pub(super) const fn article(self) -> &'static str {
        match self {
            Self::Leader => "the",
            Self::Follower => "a",
        }
    }
}

impl Options {
    /// What only all options together say.
    pub(super) fn check(&self) -> Result<(), Error> {
        refuse_encrypted_memory(self.encrypt, &self.log)?;
        let most = self.clients.iter().max().copied().unwrap_or_default();
        let bytes = self.batch.saturating_mul(self.payload.saturating_add(ENTRY_COST));
        if most.saturating_mul(bytes) > AT_ONCE_MAX {
            return Err(Error::usage(format!(
                "--clients {most} with --batch {} and --payload {} is more than a node takes at once: choose less than {} MiB together",
                self.batch,
                self.payload,
                AT_ONCE_MAX >> 20
            )));
        }
        if let Some(file) = &self.plot {
            // After minutes of measuring it is too late to hear of it.
            let made = std::fs::OpenOptions::new().create(true).append(true).open(file);
            made.map_err(|error| {
                Error::usage(explain(format!("--plot: can't write {}", file.display()), &error))
            })?;
        }
        Ok(())
    }
}

/// A directory of our own on the disk that is to be measured, removed with what is returned.
pub(super) fn directory(below: Option<&Path>) -> Result<TempDir, Error> {
    let mut made = tempfile::Builder::new();
    made.prefix("tinyraftplus-bench-");
    let made = match below {
        Some(dir) => made.tempdir_in(dir),
        None => made.tempdir(),
    };
    made.map_err(|error| Error::usage(explain("can't make a directory for the logs", &error)))
}

pub(super) fn refuse_encrypted_memory(encrypt: bool, log: &[LogKind]) -> Result<(), Error> {
    if encrypt && log.contains(&LogKind::Mem) {
        return Err(Error::usage(
            "--encrypt: a log in memory is not encrypted; use --log fs or multi",
        ));
    }
    Ok(())
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("it must be a number from 0 to 3600".to_owned()),
    }
}

fn measured(text: &str) -> Result<f64, String> {
    match seconds(text) {
        Ok(seconds) if seconds >= 0.1 => Ok(seconds),
        _ => Err("it must be a number from 0.1 to 3600".to_owned()),
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = match self.log {
            LogKind::Mem => "memory",
            LogKind::Fs => "file",
            LogKind::Multi => "segments",
        };
        let encrypted = if self.encrypt { ", encrypted" } else { "" };
        write!(f, "{} nodes, {}, {log}{encrypted}", self.nodes, self.transport)
    }
}

/// As the flags are written.
macro_rules! shown_as_written {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let value = self.to_possible_value();
                f.write_str(value.as_ref().map_or("", |value| value.get_name()))
            }
        }
    )*};
}

shown_as_written!(Transport, LogKind, Called);

/// Seconds of a flag, which were checked.
pub(super) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
