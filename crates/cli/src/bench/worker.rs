//! `tinyraftplus bench worker`, which only `tinyraftplus bench` starts: a process that hosts nodes and does as it is told.

use super::host::Host;
use super::protocol::{Answer, Command, Setup};
use crate::error::{Error, explain};
use std::io::{BufRead as _, Write as _};
use tokio::sync::mpsc;

/// Obeys until stdin ends, and leaves nothing behind: not even if whoever started it was killed in the middle of
/// something.
pub(super) async fn run() -> Result<(), Error> {
    let (sender, mut lines) = mpsc::channel(1);
    let reading = tokio::task::spawn_blocking(move || {
        // Whatever ends the lines ends the process.
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let Some(setup) = lines.recv().await else { return Ok(()) };
    let setup: Setup = parse(&setup)?;
    let mut host = match Host::new(setup) {
        Ok(host) => host,
        Err(what) => return tell(&Answer::Failed { what }),
    };
    tell(&Answer::Done)?;
    while let Some(line) = lines.recv().await {
        let command: Command = parse(&line)?;
        let answer = tokio::select! {
            answer = host.obey(command) => Some(answer),
            // Who waits for an answer says nothing meanwhile: it is gone.
            _ = lines.recv() => None,
        };
        let Some(answer) = answer else {
            host.abandon().await;
            return Ok(());
        };
        tell(&answer)?;
    }
    host.end().await;
    drop(reading);
    Ok(())
}

fn parse<T: serde::de::DeserializeOwned>(line: &str) -> Result<T, Error> {
    serde_json::from_str(line).map_err(|error| {
        Error::usage(explain(format_args!("`bench worker` is for `bench` alone: {line:?}"), &error))
    })
}

fn tell(answer: &Answer) -> Result<(), Error> {
    let text = serde_json::to_string(answer)
        .map_err(|error| Error::failed(explain("can't write an answer", &error)))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|error| Error::failed(explain("nobody reads the answers", &error)))
}
