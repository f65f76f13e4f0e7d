//! The `tinyraftplus` binary.
//!
//! Exit codes say what happened: 0 done, 1 it did not hold, 2 it was asked for something impossible and
//! nothing was changed.

mod bench;
mod demo;
mod error;
mod import;
mod keygen;
mod log;
mod out;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A replicated, durable log: Raft, storage and state machine in one.
#[derive(Debug, Parser)]
#[command(name = "tinyraftplus", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a cluster on this machine, kill its leader in the middle, and check that nothing was lost
    Demo(demo::Args),
    /// Measure appends of a cluster beside what the disk itself can do
    Bench(bench::Args),
    /// Look at logs, or change one by hand
    Log(log::Args),
    /// Make a secret key, for the connections of a cluster and for encrypted logs
    Keygen(keygen::Args),
    /// Bring a log of the JavaScript package: read it, check it, and write a log with the same entries
    ImportJs(import::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            out::error_line(format_args!("error: can't start the async runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Demo(args) => demo::run(args).await,
            Command::Bench(args) => bench::run(args).await,
            Command::Log(args) => log::run(args).await,
            Command::Keygen(args) => keygen::run(&args),
            Command::ImportJs(args) => import::run(&args),
        }
    });
    // What still waits, for a line of input say, is not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out::error_line(format_args!("error: {error}"));
            error.exit_code()
        }
    }
}
