//! A process of a row, seen from the one that commands it.

use super::protocol::{Answer, Command, Setup};
use crate::error::{Error, explain};
use serde::Serialize;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{self, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;

/// How long a process may take to end.
const ENDING: Duration = Duration::from_secs(20);

/// A process that hosts nodes. It is killed when this is dropped.
pub(super) struct Child {
    process: Killed,
    /// Gone when it was told to end.
    orders: Option<pipe::Sender>,
    answers: BufReader<pipe::Receiver>,
}

/// No process outlives what started it, even if that is given up in the middle of something.
struct Killed(process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It has ended already, or it ends now: there is nothing else to be done.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Child {
    /// Starts this very program again.
    pub(super) async fn start(setup: &Setup) -> Result<Self, Error> {
        let program = std::env::current_exe().map_err(cant_start)?;
        let process = process::Command::new(program)
            .args(["bench", "worker"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut process = Killed(process.map_err(cant_start)?);
        let missing = || cant_start(io::Error::other("it has no pipes"));
        let orders = OwnedFd::from(process.0.stdin.take().ok_or_else(missing)?);
        let answers = OwnedFd::from(process.0.stdout.take().ok_or_else(missing)?);
        let orders = pipe::Sender::from_owned_fd(orders).map_err(cant_start)?;
        let answers = pipe::Receiver::from_owned_fd(answers).map_err(cant_start)?;
        let answers = BufReader::new(answers);
        let mut child = Self { process, orders: Some(orders), answers };
        child.tell("to start a process for nodes", setup, ENDING).await?;
        Ok(child)
    }

    /// Tells it to do something, and waits for its answer at most so long.
    pub(super) async fn ask(&mut self, command: &Command, most: Duration) -> Result<Answer, Error> {
        let what = format!("{command:?}");
        self.tell(&what, command, most).await
    }

    /// Lets it close its nodes, remove their logs and end.
    pub(super) async fn end(mut self) -> Result<(), Error> {
        self.orders = None;
        match tokio::time::timeout(ENDING, self.answers.fill_buf()).await {
            Ok(Ok([])) => {}
            Ok(Ok(_)) => return Err(Error::failed("a process for nodes says what nobody asked")),
            Ok(Err(error)) => return Err(gone(&error)),
            Err(_) => return Err(Error::failed("waited in vain for a process for nodes to end")),
        }
        let status = self.process.0.wait().map_err(|error| gone(&error))?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::failed(format!("a process for nodes has ended badly: {status}")))
        }
    }

    async fn tell(
        &mut self,
        what: &str,
        order: &impl Serialize,
        most: Duration,
    ) -> Result<Answer, Error> {
        let answer = tokio::time::timeout(most, self.exchange(order)).await;
        let answer =
            answer.map_err(|_| Error::failed(format!("waited {most:?} in vain: {what}")))?;
        let answer = answer.map_err(|error| gone(&error))?;
        if let Answer::Failed { what } = answer { Err(Error::failed(what)) } else { Ok(answer) }
    }

    async fn exchange(&mut self, order: &impl Serialize) -> io::Result<Answer> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        let orders = self.orders.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        orders.write_all(&line).await?;
        line.clear();
        if self.answers.read_until(b'\n', &mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "made to be given to map_err")]
fn cant_start(error: io::Error) -> Error {
    Error::failed(explain("can't start a process for nodes", &error))
}

fn gone(error: &io::Error) -> Error {
    Error::failed(explain("a process for nodes is gone", error))
}
