//! The demo's nodes: starting, appending through each in turn, killing, restarting, comparing.

use super::journal::Journal;
use super::report::{LogFound, Report};
use super::story::Story;
use crate::error::{Error, explain};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tinyraftplus::{
    Effect, EntryKind, Event, Events, FsLog, InProcess, Log, LogExt, LogOptions, Next, NodeId,
    RaftNode, Seq,
};
use tinyraftplus_log::{OsDisk, inspect};

/// Lines that go one by one before a batch of as many, through one node; then it is the next one's turn.
const TURN: usize = 24;
/// How many warnings are kept to explain a failure.
const WARNINGS_MAX: usize = 10;
/// How long the demo waits for anything before it says that it did not happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// The demo's nodes.
pub(crate) struct Cluster {
    dir: PathBuf,
    count: u64,
    wire: InProcess,
    nodes: BTreeMap<u64, RaftNode>,
    warnings: Arc<Mutex<Vec<String>>>,
    turn: u64,
    /// What was appended so far.
    journal: Journal,
    leaders: Vec<u64>,
    killed_at: Option<Instant>,
    /// Durable writes of each node, those before it was killed included.
    syncs: BTreeMap<u64, u64>,
    acknowledged_after_kill: Option<Duration>,
}

/// What followed a kill.
pub(crate) struct Failover {
    pub(crate) leader: u64,
    pub(crate) leader_found: Duration,
}

impl Cluster {
    pub(crate) fn new(dir: &Path, count: u64) -> Self {
        Self {
            dir: dir.to_path_buf(),
            count,
            wire: InProcess::new(),
            nodes: BTreeMap::new(),
            warnings: Arc::default(),
            turn: 0,
            journal: Journal::default(),
            leaders: Vec::new(),
            killed_at: None,
            syncs: BTreeMap::new(),
            acknowledged_after_kill: None,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// From the kill until an append was acknowledged.
    pub(crate) const fn append_after_kill(&self) -> Option<Duration> {
        self.acknowledged_after_kill
    }

    /// The leaders there were, in order.
    pub(crate) fn leaders_seen(&self) -> Vec<u64> {
        self.leaders.clone()
    }

    pub(crate) async fn start_all(&mut self) -> Result<(), Error> {
        for number in 1..=self.count {
            self.start(number).await?;
        }
        Ok(())
    }

    async fn start(&mut self, number: u64) -> Result<(), Error> {
        let node = RaftNode::builder(number, 1..=self.count)
            .log_dir(&self.dir)
            .transport(self.wire.endpoint(NodeId::from(number)))
            .state_machine(Journal::default)
            .open()
            .await
            .map_err(|error| {
                Error::failed(explain(format_args!("node {number} did not start"), &error))
            })?;
        tokio::spawn(note_warnings(number, node.events(), Arc::clone(&self.warnings)));
        self.nodes.insert(number, node);
        Ok(())
    }

    /// What the nodes warned of lately, each warning once.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().map(|warnings| warnings.clone()).unwrap_or_default()
    }

    /// Waits for a leader that all running nodes know.
    pub(crate) async fn leader(&mut self) -> Result<u64, Error> {
        let mut leader = None;
        for (number, node) in &self.nodes {
            let known = within("a leader", node.await_committed_leader()).await?;
            leader = Some(known.map_err(|error| {
                Error::failed(explain(format_args!("node {number} has no leader"), &error))
            })?);
        }
        let number =
            leader.and_then(number_of).ok_or_else(|| Error::failed("there is no leader"))?;
        if self.leaders.last() != Some(&number) {
            self.leaders.push(number);
        }
        Ok(number)
    }

    /// Appends the lines in order, through every running node in turn, one by one and in batches.
    pub(crate) async fn append(
        &mut self,
        lines: &[Bytes],
        story: &Story,
        report: &mut Report,
    ) -> Result<(), Error> {
        let started = Instant::now();
        for (turn, part) in lines.chunks(TURN).enumerate() {
            if turn % 2 == 0 {
                self.turn += 1;
                for line in part {
                    let began = Instant::now();
                    self.append_surely(std::slice::from_ref(line), report).await?;
                    crate::bench::record(&mut report.latency, began.elapsed());
                    story.appended(1);
                }
            } else {
                self.append_surely(part, report).await?;
                report.batches += 1;
                story.appended(part.len() as u64);
            }
        }
        report.appending += started.elapsed();
        Ok(())
    }

    /// Appends one batch exactly once, as a careful client does: what was refused is tried again, and after an
    /// unknown outcome the log is read before anything is repeated.
    async fn append_surely(&mut self, lines: &[Bytes], report: &mut Report) -> Result<(), Error> {
        let mut after = self.journal;
        for line in lines {
            after.add(line);
        }
        let started = Instant::now();
        loop {
            let (number, node) = self.next_node()?;
            let Err(error) = node.append_batch(lines.to_vec()).await else {
                break;
            };
            if error.effect() == Effect::Possible {
                report.unknown += 1;
                if journal_of(number, node).await? == after {
                    break;
                }
            }
            if started.elapsed() > PATIENCE {
                return Err(Error::failed(explain(
                    format_args!("node {number} could not append"),
                    &error,
                )));
            }
        }
        self.journal = after;
        if let (Some(killed), None) = (self.killed_at, self.acknowledged_after_kill) {
            self.acknowledged_after_kill = Some(killed.elapsed());
        }
        Ok(())
    }

    /// The node whose turn it is, of those that run.
    fn next_node(&self) -> Result<(u64, &RaftNode), Error> {
        let at = self.turn % (self.nodes.len() as u64).max(1);
        let node = self.nodes.iter().zip(0..).find(|(_, position)| *position == at);
        node.map(|((&number, node), _)| (number, node)).ok_or_else(|| Error::failed("no node runs"))
    }

    /// Stops a leader as a crash would, and waits until all others know the next one.
    pub(crate) async fn kill(&mut self, number: u64) -> Result<Failover, Error> {
        let killed = self
            .nodes
            .remove(&number)
            .ok_or_else(|| Error::failed(format!("node {number} does not run")))?;
        let began = Instant::now();
        *self.syncs.entry(number).or_default() += killed.status().syncs;
        killed.kill().await;
        self.killed_at = Some(began);
        let gone = NodeId::from(number);
        let mut leader_found = None;
        for (other, node) in &self.nodes {
            let other_leads =
                |status: &tinyraftplus::Status| status.leader.is_some_and(|leader| leader != gone);
            let status = within("a new leader", node.wait(other_leads)).await?;
            let status = status.map_err(|error| {
                Error::failed(explain(format_args!("node {other} stopped"), &error))
            })?;
            leader_found = leader_found.or_else(|| status.leader.map(|_| began.elapsed()));
        }
        let leader = self.leader().await?;
        Ok(Failover { leader, leader_found: leader_found.unwrap_or_else(|| began.elapsed()) })
    }

    /// Starts a node again, and waits until it has applied everything that was acknowledged.
    pub(crate) async fn restart(&mut self, number: u64) -> Result<Duration, Error> {
        let goal = self.applied_anywhere();
        let began = Instant::now();
        self.start(number).await?;
        let node = self
            .nodes
            .get(&number)
            .ok_or_else(|| Error::failed(format!("node {number} does not run")))?;
        let caught_up =
            within("the restarted node to catch up", node.wait(|status| status.applied >= goal))
                .await?;
        caught_up.map_err(|error| {
            Error::failed(explain(format_args!("node {number} stopped"), &error))
        })?;
        Ok(began.elapsed())
    }

    fn applied_anywhere(&self) -> Seq {
        self.nodes.values().map(|node| node.status().applied).max().unwrap_or_default()
    }

    /// Reads the state machine of every node, and compares it with what was appended.
    pub(crate) async fn check_states(&self, lines: &[Bytes]) -> Result<(), Error> {
        let expected = Journal::of(lines);
        for (&number, node) in &self.nodes {
            let found = journal_of(number, node).await?;
            if found != expected {
                return Err(Error::failed(format!(
                    "the state machine of node {number} has {} lines with hash {:x}, the input {} with {:x}",
                    found.lines, found.hash, expected.lines, expected.hash
                )));
            }
        }
        Ok(())
    }

    pub(crate) async fn close(&mut self) -> Result<(), Error> {
        while let Some((number, node)) = self.nodes.pop_first() {
            *self.syncs.entry(number).or_default() += node.status().syncs;
            node.close().await.map_err(|error| {
                Error::failed(explain(format_args!("node {number} did not close"), &error))
            })?;
        }
        Ok(())
    }

    /// Opens a node's log from disk, and compares its payloads with the input, one by one.
    pub(crate) fn compare(&self, number: u64, lines: &[Bytes]) -> Result<LogFound, Error> {
        let cant = |error: tinyraftplus::LogError| {
            Error::failed(explain(format_args!("can't read the log of node {number}"), &error))
        };
        let (mut log, _) =
            FsLog::open(&self.dir, &log_name(number), LogOptions::default()).map_err(cant)?;
        let mut expected = lines.iter().zip(1_u64..);
        let mut entries = 0;
        for entry in log.iter(..) {
            let entry = entry.map_err(cant)?;
            entries += 1;
            if entry.kind != EntryKind::Payload {
                continue;
            }
            match expected.next() {
                Some((line, _)) if *line == entry.payload => {}
                Some((_, line)) => {
                    return Err(Error::failed(format!(
                        "node {number}: entry {} is not line {line} of the input",
                        entry.id
                    )));
                }
                None => {
                    return Err(Error::failed(format!(
                        "node {number}: entry {} is one too many",
                        entry.id
                    )));
                }
            }
        }
        if let Some((_, line)) = expected.next() {
            return Err(Error::failed(format!(
                "node {number}: line {line} of the input and all after it are missing"
            )));
        }
        let stats = log.stats();
        log.close().map_err(cant)?;
        Ok(LogFound {
            entries,
            bytes_on_disk: stats.bytes,
            syncs: self.syncs.get(&number).copied().unwrap_or_default(),
        })
    }
}

/// Remembers what a node warns of, for the case that the demo fails.
async fn note_warnings(number: u64, mut events: Events, warnings: Arc<Mutex<Vec<String>>>) {
    while let Some(next) = events.next().await {
        let Next::Event(Event::Warn(warning)) = next else { continue };
        let text = format!("node {number} warned: {warning}");
        if let Ok(mut warnings) = warnings.lock()
            && !warnings.contains(&text)
            && warnings.len() < WARNINGS_MAX
        {
            warnings.push(text);
        }
    }
}

async fn journal_of(number: u64, node: &RaftNode) -> Result<Journal, Error> {
    let read = node.read(Bytes::new()).await;
    let read = read.map_err(|error| {
        Error::failed(explain(format_args!("can't read from node {number}"), &error))
    })?;
    Journal::decode(&read.result)
        .ok_or_else(|| Error::failed(format!("node {number} gave a strange answer")))
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> Result<T, Error> {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.map_err(|_| Error::failed(format!("waited {} s for {what} in vain", PATIENCE.as_secs())))
}

fn log_name(number: u64) -> String {
    format!("node-{number}")
}

fn number_of(id: NodeId) -> Option<u64> {
    id.as_str().parse().ok()
}

/// What a file named like a node's log is.
pub(crate) fn describe(path: &Path) -> String {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    let found = OsDisk::create(dir)
        .map_err(|error| error.to_string())
        .and_then(|disk| inspect(&disk, name).map_err(|error| error.to_string()));
    match found {
        Ok(frames) => {
            format!("a log with {} entries", frames.iter().map(|frame| frame.count).sum::<u64>())
        }
        Err(what) => what,
    }
}
