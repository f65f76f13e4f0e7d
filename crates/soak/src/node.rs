//! `soak node`: one durable node over TCP in a process of its own, told what to do by lines on stdin.

use std::future::{Future, pending, poll_fn};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tinyraftplus::{
    AppendError, Effect, EntryKind, Key, NodeId, RaftNode, Role, Seq, StopReason, TcpTransport,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::error::Error;
use crate::words::{Answer, Ask, Command, Line, Logged, State, What};
use crate::{load, machine, out, payload};

/// How many entries one answer has.
const ENTRIES_MAX: u64 = 4096;

/// What a node is started with.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name, a number
    #[arg(long)]
    pub(crate) id: u64,
    /// All members
    #[arg(long, value_delimiter = ',')]
    pub(crate) members: Vec<u64>,
    /// Where it listens; port 0 for any
    #[arg(long)]
    pub(crate) listen: String,
    /// The file with the key of the cluster
    #[arg(long)]
    pub(crate) key: PathBuf,
    /// Where its log is
    #[arg(long)]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) times: Times,
    /// Keep a state machine that hashes the history
    #[arg(long)]
    pub(crate) machine: bool,
}

/// The timeouts of a node.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Times {
    /// Milliseconds an append or a read may take
    #[arg(long, default_value_t = 10_000)]
    pub(crate) call_timeout: u64,
    /// Milliseconds between heartbeats [default: the library's]
    #[arg(long)]
    pub(crate) heartbeat: Option<u64>,
    /// Milliseconds without a leader until an election [default: the library's]
    #[arg(long)]
    pub(crate) election: Option<u64>,
    /// Milliseconds that are added to it at random at most [default: the library's]
    #[arg(long)]
    pub(crate) jitter: Option<u64>,
}

impl Times {
    /// The library's defaults.
    pub(crate) const fn ordinary(call_timeout: u64) -> Self {
        Self { call_timeout, heartbeat: None, election: None, jitter: None }
    }

    /// The fast profile that `NodeBuilder` documents.
    pub(crate) const fn fast(call_timeout: u64) -> Self {
        Self { call_timeout, heartbeat: Some(20), election: Some(100), jitter: Some(100) }
    }
}

/// Runs a node until it is told to close, or nobody is left to tell it anything.
pub(crate) async fn run(args: Args) -> Result<(), Error> {
    die_with_the_harness()?;
    let key = std::fs::read_to_string(&args.key)
        .map_err(|error| Error::cause(format_args!("can't read {}", args.key.display()), &error))?;
    let key = Key::from_hex(key.trim()).map_err(|error| Error::cause("bad key", &error))?;
    let transport = TcpTransport::bind(&args.listen, &key, &[])
        .await
        .map_err(|error| Error::cause(format_args!("can't listen on {}", args.listen), &error))?;
    let node = open(&args, transport.clone()).await?;
    out::line(Line::Ready { address: transport.local_addr().to_string() });
    let told = tell(node.clone());
    let commands = obey(node, transport);
    tokio::select! {
        // It stopped by itself, and said why.
        () = told => Err(Error::failed(format_args!("node {} stopped", args.id))),
        result = commands => result,
    }
}

/// A node that was stopped by SIGSTOP reads no end of its input, so it would outlive a harness that is killed.
#[cfg(target_os = "linux")]
fn die_with_the_harness() -> Result<(), Error> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| Error::cause("can't ask to be killed with the harness", &error))
}

#[cfg(not(target_os = "linux"))]
fn die_with_the_harness() -> Result<(), Error> {
    Ok(())
}

async fn open(args: &Args, transport: TcpTransport) -> Result<RaftNode, Error> {
    let timeout = Duration::from_millis(args.times.call_timeout);
    let mut builder = RaftNode::builder(args.id, args.members.iter().copied())
        .log_dir(&args.dir)
        .transport(transport)
        .append_timeout(timeout)
        .read_timeout(timeout);
    if let Some(heartbeat) = args.times.heartbeat {
        builder = builder.heartbeat_interval(Duration::from_millis(heartbeat));
    }
    if let Some(election) = args.times.election {
        builder = builder.election_timeout(Duration::from_millis(election));
    }
    if let Some(jitter) = args.times.jitter {
        builder = builder.election_jitter(Duration::from_millis(jitter));
    }
    if args.machine {
        builder = builder.state_machine(machine::Machine::default);
    }
    builder
        .open()
        .await
        .map_err(|error| Error::cause(format_args!("can't open node {}", args.id), &error))
}

/// Says when it leads. Returns if it stops by itself, and says why.
async fn tell(node: RaftNode) {
    let mut told = None;
    loop {
        match node.wait(|now| now.role == Role::Leader && told != Some(now.term)).await {
            Ok(status) => {
                told = Some(status.term);
                out::line(Line::Leads { term: status.term.get() });
            }
            // It was told to close: whoever told it says how that ended.
            Err(StopReason::Closed) => return pending().await,
            Err(why) => return out::line(Line::Stopped { why: why.to_string() }),
        }
    }
}

async fn obey(node: RaftNode, transport: TcpTransport) -> Result<(), Error> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let read = |error| Error::cause("can't read stdin", &error);
    while let Some(line) = lines.next_line().await.map_err(read)? {
        match line.parse() {
            Ok(Command::Peer { id, address }) => transport.set_peer(NodeId::from(id), address),
            Ok(Command::Call { number, ask }) => begin(number, answer(node.clone(), ask)).await,
            Ok(Command::Close) => {
                return node.close().await.map_err(|why| Error::cause("not closed well", &why));
            }
            Err(_) => return Err(Error::usage(format_args!("not understood: {line:?}"))),
        }
    }
    Ok(())
}

/// Polls a call once before the next line is read: a node promises the order of calls that are made one after the other, and
/// tasks would make them in any.
async fn begin(number: u64, answer: impl Future<Output = Answer> + Send + 'static) {
    let mut answer: Pin<Box<dyn Future<Output = Answer> + Send>> = Box::pin(answer);
    let say = move |answer| out::line(Line::Answer { number, answer });
    match poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await {
        Poll::Ready(answer) => say(answer),
        Poll::Pending => drop(tokio::spawn(async move { say(answer.await) })),
    }
}

async fn answer(node: RaftNode, ask: Ask) -> Answer {
    match ask {
        Ask::Append { first, count, bytes } => append(&node, first, count, bytes).await,
        Ask::Read => match node.read("").await {
            Ok(read) => Answer::Read {
                seq: read.seq.get(),
                hash: machine::hash(&read.result).unwrap_or_default(),
            },
            Err(error) => Answer::Failed { why: error.to_string() },
        },
        Ask::Status => Answer::Status(state(&node)),
        Ask::Entries { from, to } => entries(&node, from, to).await,
        Ask::Load { count, bytes, calls, batch } => {
            load::appends(Arc::new(node), count, bytes, calls, batch).await
        }
        Ask::Reads { count, calls } => load::reads(Arc::new(node), count, calls).await,
    }
}

async fn append(node: &RaftNode, first: u64, count: u64, bytes: usize) -> Answer {
    let appended = if count == 1 {
        let appended = node.append(payload::make(first, bytes)).await;
        appended.map(|appended| (appended.seq, Some(appended.result)))
    } else {
        let payloads = (first..first.saturating_add(count)).map(|it| payload::make(it, bytes));
        let appended = node.append_batch(payloads).await;
        appended.map(|appended| (appended.seqs.start, appended.results.last().cloned()))
    };
    match appended {
        Ok((first, result)) => {
            let hash = result.and_then(|result| machine::hash(&result)).unwrap_or_default();
            Answer::Committed { first: first.get(), hash }
        }
        Err(error) => not_appended(&error),
    }
}

/// What a client may conclude from an error, by its effect alone.
pub(crate) fn not_appended(error: &AppendError) -> Answer {
    let why = error.to_string();
    match error.effect() {
        Effect::None => Answer::Refused { why },
        Effect::Possible | Effect::Done => Answer::Unknown { why },
    }
}

fn state(node: &RaftNode) -> State {
    let status = node.status();
    State {
        leads: status.role == Role::Leader,
        leader: status.leader.and_then(|id| id.as_str().parse().ok()).unwrap_or(0),
        term: status.term.get(),
        durable: status.durable.get(),
        committed: status.committed.get(),
        applied: status.applied.get(),
    }
}

async fn entries(node: &RaftNode, from: u64, to: u64) -> Answer {
    let range = Seq::new(from)..Seq::new(to.min(from.saturating_add(ENTRIES_MAX)));
    match node.entries(range).all().await {
        Ok(entries) => Answer::Entries(entries.iter().map(logged).collect()),
        Err(error) => Answer::Failed { why: error.to_string() },
    }
}

fn logged(entry: &tinyraftplus::Entry) -> Logged {
    let what = match entry.kind {
        EntryKind::Payload => payload::number(&entry.payload).map_or(What::Damaged, What::Payload),
        EntryKind::Noop | EntryKind::Configuration => What::Own,
    };
    Logged { term: entry.term.get(), what }
}
