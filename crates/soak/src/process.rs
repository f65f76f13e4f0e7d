//! A node's process, seen from the harness: calls, signals, and how it ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command as Spawn};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::error::Error;
use crate::words::{Answer, Ask, Command, Line};

/// How long a process may take to open its log and to listen.
const READY_TIME: Duration = Duration::from_secs(20);
/// How long a process may take to go when it was killed, or told to.
const END_TIME: Duration = Duration::from_secs(10);

/// What happens, in one order: each beginning of a call and each answer has a number of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moments(Arc<AtomicU64>);

impl Moments {
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// A call that was made.
#[derive(Debug)]
pub(crate) struct Asked {
    /// When, before anything was sent.
    pub(crate) began: u64,
    /// Its place among the calls of this process.
    pub(crate) order: u64,
    reply: oneshot::Receiver<(u64, Answer)>,
}

impl Asked {
    /// When it ended, and how; `None` if the process is gone and nobody knows.
    pub(crate) async fn answer(self) -> Option<(u64, Answer)> {
        self.reply.await.ok()
    }
}

/// The process of a node.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: u64,
    /// Which process of the cluster it is: each start is another.
    pub(crate) start: u64,
    pid: Pid,
    /// Where it listens.
    pub(crate) address: String,
    moments: Moments,
    stdin: tokio::sync::Mutex<(ChildStdin, u64)>,
    heard: Arc<Heard>,
    child: tokio::sync::Mutex<Child>,
    ended: watch::Receiver<bool>,
}

/// What comes from the process.
#[derive(Debug)]
struct Heard {
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<(u64, Answer)>>>,
    /// Its newest term as a leader, and when that was heard.
    leads: watch::Sender<Option<(u64, Instant)>>,
    /// Why it stopped, or what it said that makes no sense.
    fault: Mutex<Option<String>>,
}

impl Heard {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<(u64, Answer)>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// Starts a process and waits until it listens. What it complains of goes to that file.
    pub(crate) async fn start(
        (id, start): (u64, u64),
        mut spawn: Spawn,
        complaints: &Path,
        moments: Moments,
    ) -> Result<Self, Error> {
        let failed = |what: &str, error| Error::cause(format_args!("node {id}: {what}"), &error);
        let complaints = File::options()
            .create(true)
            .append(true)
            .open(complaints)
            .map_err(|error| failed("can't write beside its log", error))?;
        spawn.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints).kill_on_drop(true);
        // In a group of its own: Ctrl-C is for the harness, which ends what it started.
        spawn.process_group(0);
        let mut child = spawn.spawn().map_err(|error| failed("can't be started", error))?;
        let gone = || Error::failed(format_args!("node {id} ended before it ran"));
        let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let pid = pid.ok_or_else(gone)?;
        let stdin = child.stdin.take().ok_or_else(gone)?;
        let stdout = child.stdout.take().ok_or_else(gone)?;
        let heard = Arc::new(Heard {
            waiting: Mutex::default(),
            leads: watch::channel(None).0,
            fault: Mutex::default(),
        });
        let (ready, is_ready) = oneshot::channel();
        let (end, ended) = watch::channel(false);
        tokio::spawn(listen(stdout, Arc::clone(&heard), moments.clone(), ready, end));
        let address = timeout(READY_TIME, is_ready)
            .await
            .map_err(|_| {
                Error::failed(format_args!("node {id} did not listen within {READY_TIME:?}"))
            })?
            .map_err(|_| gone())?;
        let (stdin, child) = ((stdin, 0).into(), child.into());
        Ok(Self { id, start, pid, address, moments, stdin, heard, child, ended })
    }

    /// Tells it where another one is.
    pub(crate) async fn set_peer(&self, id: u64, address: String) {
        // If it is gone, the next one will be told.
        let _ = self.write(&Command::Peer { id, address }).await;
    }

    async fn write(&self, command: &Command) -> std::io::Result<()> {
        self.stdin.lock().await.0.write_all(format!("{command}\n").as_bytes()).await
    }

    /// Makes a call. `Err` if the process is gone; it may have got it all the same.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Asked, (u64, u64)> {
        let mut stdin = self.stdin.lock().await;
        let (pipe, next) = &mut *stdin;
        let order = *next;
        *next += 1;
        let (reply, receiver) = oneshot::channel();
        self.heard.waiting().insert(order, reply);
        // The end of the output is the end of all answers: what was entered after it would wait for ever.
        if *self.ended.borrow() {
            self.heard.waiting().remove(&order);
        }
        let began = self.moments.next();
        let line = format!("{}\n", Command::Call { number: order, ask });
        match pipe.write_all(line.as_bytes()).await {
            Ok(()) => Ok(Asked { began, order, reply: receiver }),
            Err(_) => Err((began, order)),
        }
    }

    /// Makes a call that is no part of any history, and must be answered in time.
    pub(crate) async fn query(&self, ask: Ask, time: Duration) -> Result<Answer, Error> {
        let what = format!("node {} was asked: {ask}", self.id);
        let answer = async { self.ask(ask).await.ok()?.answer().await };
        match timeout(time, answer).await {
            Ok(Some((_, answer))) => Ok(answer),
            Ok(None) => Err(Error::failed(format_args!("{what}; and it is gone"))),
            Err(_) => Err(Error::failed(format_args!("{what}; no answer within {time:?}"))),
        }
    }

    /// The newest term in which it leads, and when that was heard.
    pub(crate) fn leads(&self) -> watch::Receiver<Option<(u64, Instant)>> {
        self.heard.leads.subscribe()
    }

    /// What it complained of on its own.
    pub(crate) fn fault(&self) -> Option<String> {
        self.heard.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Error> {
        kill_process(self.pid, signal)
            .map_err(|error| Error::cause(format_args!("can't signal node {}", self.id), &error))
    }

    /// Kills it as a crash would, and waits until it is gone. All that it was asked is unknown then.
    pub(crate) async fn kill(&self) -> Result<(), Error> {
        self.signal(Signal::KILL)?;
        let status = self.wait().await?;
        if status.signal() != Some(Signal::KILL.as_raw()) {
            return Err(Error::failed(format_args!(
                "node {} ended by itself before it was killed: {status}",
                self.id
            )));
        }
        Ok(())
    }

    /// Closes it properly.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        let _ = self.write(&Command::Close).await;
        let status = self.wait().await?;
        if status.success() {
            return Ok(());
        }
        Err(Error::failed(format_args!("node {} was told to close and ended: {status}", self.id)))
    }

    async fn wait(&self) -> Result<ExitStatus, Error> {
        let mut child = self.child.lock().await;
        let status = timeout(END_TIME, child.wait()).await.map_err(|_| {
            Error::failed(format_args!("node {} did not end within {END_TIME:?}", self.id))
        })?;
        // Answers that are still in the pipe count.
        let mut ended = self.ended.clone();
        drop(timeout(END_TIME, ended.wait_for(|ended| *ended)).await);
        status.map_err(|error| Error::cause(format_args!("node {}", self.id), &error))
    }

    /// Whether it ended.
    pub(crate) fn is_gone(&self) -> bool {
        *self.ended.borrow()
    }

    /// Whether it stands still, by SIGSTOP.
    pub(crate) fn is_stopped(&self) -> bool {
        self.proc("stat").is_some_and(|stat| {
            // The name before it may hold anything, a bracket too.
            let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
            state.is_some_and(|state| state.starts_with('T'))
        })
    }

    /// What it has in memory, in KiB: all of it, and what is not a file's.
    pub(crate) fn memory(&self) -> Option<(u64, u64)> {
        let status = self.proc("status")?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches(" kB").parse().ok()
        };
        Some((kib("VmRSS:")?, kib("RssAnon:")?))
    }

    fn proc(&self, what: &str) -> Option<String> {
        std::fs::read_to_string(format!("/proc/{}/{what}", self.pid.as_raw_nonzero())).ok()
    }
}

/// Takes what a process says until it has nothing more to say.
async fn listen(
    stdout: ChildStdout,
    heard: Arc<Heard>,
    moments: Moments,
    ready: oneshot::Sender<String>,
    end: watch::Sender<bool>,
) {
    let mut ready = Some(ready);
    let (mut stdout, mut line) = (BufReader::new(stdout), String::new());
    loop {
        line.clear();
        // A kill can cut a line where the words before still make sense: only what ends with a newline was said.
        if stdout.read_line(&mut line).await.is_err() || !line.ends_with('\n') {
            break;
        }
        let ended = moments.next();
        match line.parse() {
            Ok(Line::Ready { address }) => {
                if let Some(ready) = ready.take() {
                    drop(ready.send(address));
                }
            }
            Ok(Line::Leads { term }) => {
                heard.leads.send_replace(Some((term, Instant::now())));
            }
            Ok(Line::Stopped { why }) => note(&heard, why),
            Ok(Line::Answer { number, answer }) => {
                if let Some(reply) = heard.waiting().remove(&number) {
                    drop(reply.send((ended, answer)));
                }
            }
            Err(_) => note(&heard, format!("it said {line:?}")),
        }
    }
    end.send_replace(true);
    heard.waiting().clear();
}

fn note(heard: &Heard, what: String) {
    heard.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
}
