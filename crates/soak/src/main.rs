//! Real processes under real faults: three durable nodes over encrypted TCP, a process each, that are killed, stopped and cut
//! off while clients call; and how long a failover takes, and how much memory a node.
//!
//! Exit codes: 0 everything held, 1 something did not or too little happened, 2 usage, 130 interrupted.
#![cfg(unix)]
#![forbid(unsafe_code)]

mod check;
mod clients;
mod cluster;
mod error;
mod failover;
mod faults;
mod history;
mod load;
mod machine;
mod memory;
mod network;
mod node;
mod out;
mod payload;
mod process;
mod report;
mod rng;
mod run;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Error;

/// Three real processes under real faults, and what they promise checked.
#[derive(Debug, Parser)]
#[command(name = "tinyraftplus-soak", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kill, stop and cut off nodes while clients call, and check what clients were told
    Run(run::Args),
    /// Kill the leader again and again, and measure how long it takes until there is another
    Failover(failover::Args),
    /// Much traffic, and how much memory each node takes
    Memory(memory::Args),
    /// One node in this process, told what to do on stdin: what the other commands start
    Node(node::Args),
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
            Command::Run(args) => run::run(args).await,
            Command::Failover(args) => failover::run(args).await,
            Command::Memory(args) => memory::run(args).await,
            Command::Node(args) => node::run(args).await,
        }
    });
    // Reading stdin holds a thread that nothing ends.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out::error_line(format_args!("error: {error}"));
            error.exit_code()
        }
    }
}

/// Does work that Ctrl-C ends.
async fn unless_interrupted<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::select! {
        result = work => result,
        result = tokio::signal::ctrl_c() => {
            result.map_err(|error| Error::cause("can't wait for Ctrl-C", &error))?;
            Err(Error::Interrupted)
        }
    }
}
