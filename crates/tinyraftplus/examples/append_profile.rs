//! Where the time of one durable append goes: `cargo run --release -p tinyraftplus --example append_profile`.
//!
//! Three nodes in one process, one client, 1 KiB, logs on this disk. Clocks are read where an append leaves one part of a node for another: in
//! a transport and in a log that do nothing else than that. The disk's own limit is measured first: three logs written at the same
//! time by three threads, as long as the second of them takes.

#![expect(clippy::print_stdout, reason = "a measuring program")]

use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tinyraftplus::core::{EntryId, HardState, Identity, MessageBody, Restored, Seq};
use tinyraftplus::log::{FsLog, Log, LogError, LogExt, LogOptions, LogRead, LogStats, Write};
use tinyraftplus::net::{Endpoint, InProcess, Inbox, Message, Transport};
use tinyraftplus::{NodeId, RaftNode};

const APPENDS: usize = 3000;
const PAYLOAD: [u8; 1024] = [7; 1024];
const LEADER: u64 = 1;
/// An append leaves about ten.
const MARKS_NEAR: usize = 100;

type Failure = Box<dyn Error + Send + Sync>;

/// Where an append has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mark {
    Sent,
    WriteBegins,
    WriteEnds,
}

/// What happened in which node, when, and to everything before which seq.
#[derive(Clone, Copy, Debug)]
struct Marked {
    node: u64,
    mark: Mark,
    end: Seq,
    at: Instant,
}

#[derive(Clone, Default)]
struct Marks(Arc<Mutex<Vec<Marked>>>);

impl Marks {
    fn all(&self) -> MutexGuard<'_, Vec<Marked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, node: u64, mark: Mark, end: Seq) {
        self.all().push(Marked { node, mark, end, at: Instant::now() });
    }
}

struct Watched {
    endpoint: Endpoint,
    node: u64,
    marks: Marks,
}

/// Everything before this is sent on, or durable at the sender.
fn end_of(message: &Message) -> Option<Seq> {
    let Message::Raft(message) = message else { return None };
    if let MessageBody::Append { entries, .. } = &message.body {
        return entries.last()?.id.seq.checked_add(1);
    }
    if let MessageBody::Accepted { matched, .. } = &message.body { Some(*matched) } else { None }
}

impl Transport for Watched {
    fn send(&self, to: NodeId, message: Message) {
        if let Some(end) = end_of(&message) {
            self.marks.note(self.node, Mark::Sent, end);
        }
        self.endpoint.send(to, message);
    }

    fn attach(&self, inbox: Arc<dyn Inbox>) {
        self.endpoint.attach(inbox);
    }

    fn detach(&self) {
        self.endpoint.detach();
    }
}

struct WatchedLog {
    log: FsLog,
    node: u64,
    marks: Marks,
}

impl Log for WatchedLog {
    fn write(&mut self, group: &[Write]) -> Result<(), LogError> {
        self.marks.note(self.node, Mark::WriteBegins, Seq::ZERO);
        let written = self.log.write(group);
        self.marks.note(self.node, Mark::WriteEnds, self.log.bounds().end);
        written
    }

    fn identity(&self) -> Identity {
        self.log.identity()
    }

    fn restored(&self) -> Restored {
        self.log.restored()
    }

    fn reader(&self) -> Arc<dyn LogRead> {
        self.log.reader()
    }

    fn bounds(&self) -> Range<Seq> {
        self.log.bounds()
    }

    fn hard_state(&self) -> HardState {
        self.log.hard_state()
    }

    fn last(&self) -> Option<EntryId> {
        self.log.last()
    }

    fn stats(&self) -> LogStats {
        self.log.stats()
    }

    fn close(&mut self) -> Result<(), LogError> {
        self.log.close()
    }
}

/// The middle one and the one above which is a hundredth.
fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    (at(50), at(99))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// How long the second of three logs takes that are written at the same time.
fn limit(dir: &Path) -> Result<Vec<Duration>, Failure> {
    let mut logs = Vec::new();
    for node in 0..3 {
        logs.push(FsLog::open(dir, &format!("limit-{node}"), LogOptions::default())?.0);
    }
    let barrier = Barrier::new(3);
    let write = |mut log: FsLog| {
        let mut times = Vec::with_capacity(APPENDS);
        for _ in 0..APPENDS {
            barrier.wait();
            let began = Instant::now();
            log.append(PAYLOAD.as_slice())?;
            times.push(began.elapsed());
        }
        Ok(times)
    };
    let write = &write;
    let threads: Vec<Result<Vec<Duration>, LogError>> = thread::scope(|scope| {
        let threads: Vec<_> = logs.into_iter().map(|log| scope.spawn(move || write(log))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let threads = threads.into_iter().collect::<Result<Vec<_>, _>>()?;
    let second = |round: usize| {
        let mut times: Vec<_> =
            threads.iter().filter_map(|times| times.get(round).copied()).collect();
        times.sort_unstable();
        times.get(1).copied()
    };
    Ok((0..APPENDS).filter_map(second).collect())
}

/// The parts of one append, in the order in which they happen.
const PARTS: [&str; 9] = [
    "call -> leader has sent it on",
    "leader has sent it on -> its write begins",
    "leader's write begins -> durable there",
    "leader has sent it on -> a follower's write begins",
    "a follower's write begins -> durable there",
    "durable at a follower -> it has answered",
    "second of three is durable -> the caller knows",
    "call -> second of three is durable",
    "call -> the caller knows",
];

/// How long each part of an append took, of the one at `seq`. `None` if it is not all there.
fn parts(marks: &[Marked], seq: Seq, began: Instant, ended: Instant) -> Option<[Duration; 9]> {
    let first = |node: u64, mark: Mark| {
        marks.iter().position(|it| it.node == node && it.mark == mark && it.end > seq)
    };
    let at = |place: usize| marks.get(place).map(|it| it.at);
    let write = |node: u64| {
        let ends = first(node, Mark::WriteEnds)?;
        let begins = |it: &Marked| it.node == node && it.mark == Mark::WriteBegins;
        let begins = marks.get(..ends)?.iter().rposition(begins)?;
        Some((at(begins)?, at(ends)?))
    };
    let sent = at(first(LEADER, Mark::Sent)?)?;
    let (begins, ends) = write(LEADER)?;
    let mut followers = Vec::new();
    for node in [2, 3] {
        let (begins, ends) = write(node)?;
        followers.push((begins, ends, at(first(node, Mark::Sent)?)?));
    }
    followers.sort_by_key(|(_, ends, _)| *ends);
    let (follower_begins, follower_ends, answered) = *followers.first()?;
    let mut durable = [ends, follower_ends, followers.last()?.1];
    durable.sort_unstable();
    let second = durable[1];
    (second <= ended).then(|| {
        [
            sent - began,
            begins.saturating_duration_since(sent),
            ends - begins,
            follower_begins.saturating_duration_since(sent),
            follower_ends - follower_begins,
            answered - follower_ends,
            ended - second,
            second - began,
            ended - began,
        ]
    })
}

async fn cluster(dir: &Path, marks: &Marks) -> Result<Vec<RaftNode>, Failure> {
    let board = InProcess::new();
    let mut nodes = Vec::new();
    for node in 1..=3 {
        let (at, here) = (dir.to_owned(), marks.clone());
        let open = move || {
            let (log, _) = FsLog::open(&at, &format!("node-{node}"), LogOptions::default())?;
            Ok(WatchedLog { log, node, marks: here })
        };
        let endpoint = board.endpoint(NodeId::from(node));
        let transport = Watched { endpoint, node, marks: marks.clone() };
        let builder = RaftNode::builder(node, 1..=3_u64).log(open).transport(transport);
        nodes.push(builder.open().await?);
    }
    for node in &nodes {
        node.await_committed_leader().await?;
    }
    for node in &nodes {
        let _ = node.transfer_leadership(LEADER).await;
    }
    Ok(nodes)
}

async fn measure(dir: &Path) -> Result<Vec<[Duration; 9]>, Failure> {
    let marks = Marks::default();
    let nodes = cluster(dir, &marks).await?;
    let leader = nodes.first().ok_or("there are three nodes")?;
    if leader.await_committed_leader().await? != NodeId::from(LEADER) {
        return Err("another node leads; run it again".into());
    }
    let mut calls = Vec::new();
    for _ in 0..APPENDS {
        let began = Instant::now();
        let seq = leader.append(PAYLOAD.as_slice()).await?.seq;
        calls.push((seq, began, Instant::now()));
    }
    for node in &nodes {
        node.close().await?;
    }
    let marks = marks.all();
    // An append's own marks, and those of a follower that is some appends late.
    let near = |began: Instant| {
        let from = marks.partition_point(|it| it.at < began);
        marks.get(from..(from + MARKS_NEAR).min(marks.len())).unwrap_or_default()
    };
    let all = calls.iter().filter_map(|&(seq, began, ended)| parts(near(began), seq, began, ended));
    Ok(all.collect())
}

fn main() -> Result<(), Failure> {
    let dir = tempfile::tempdir_in(std::env::args().nth(1).unwrap_or_else(|| ".".to_owned()))?;
    let (limit, limit_99) = percentiles(limit(dir.path())?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let all = runtime.block_on(measure(dir.path()))?;
    println!("{} appends of {} bytes, one at a time    p50 us  p99 us", all.len(), PAYLOAD.len());
    println!(
        "{:<52} {:>6.0}  {:>6.0}",
        "the limit: second of three logs is durable",
        micros(limit),
        micros(limit_99)
    );
    for (part, what) in PARTS.iter().enumerate() {
        let times = all.iter().filter_map(|times| times.get(part).copied()).collect();
        let (middle, late) = percentiles(times);
        println!("{} {what:<50} {:>6.0}  {:>6.0}", part + 1, micros(middle), micros(late));
    }
    Ok(())
}
