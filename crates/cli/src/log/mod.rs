//! `tinyraftplus log`: looking at the logs in a directory, and changing one by hand.
//!
//! `inspect`, `verify` and `dump` only read, beside a running owner too. `trim` and `compact` open the log and so
//! need it for themselves.

mod bench;
mod change;
mod dump;
mod inspect;
mod verify;
mod which;

pub(crate) use inspect::{bytes, grouped};
pub(crate) use which::read_key;

use crate::error::Error;

/// What is to be done with logs.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what a log holds, and a picture of its files; reads headers, seals and the newest file
    Inspect(which::Which),
    /// Read everything a log has, and name every damaged place
    Verify(which::Which),
    /// Print the entries of a log
    Dump(dump::Args),
    /// Drop the newest entries of a log, after the one that is named
    Trim(change::TrimArgs),
    /// Drop the oldest entries of a log in segments, before the one that is named
    Compact(change::CompactArgs),
    /// Measure a log on the disk of this directory, beside what the disk itself can do
    Bench(bench::Args),
}

/// Runs one of them.
pub(crate) async fn run(args: Args) -> Result<(), Error> {
    match args.command {
        Command::Inspect(which) => inspect::run(&which),
        Command::Verify(which) => verify::run(&which),
        Command::Dump(args) => dump::run(&args),
        Command::Trim(args) => change::trim(&args),
        Command::Compact(args) => change::compact(&args),
        Command::Bench(args) => bench::run(args).await,
    }
}
