//! The nodes of a row, in one process or one each, commanded together.

use super::check::{self, Held, Tally};
use super::child::Child;
use super::options::{Called, Shape, Transport, duration};
use super::protocol::{Answer, CaughtUp, Command, Load, Ran, Setup, Until, Used};
use crate::error::{Error, explain};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tinyraftplus::Key;

/// How much longer than it should an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// A follower that is far behind may need longer.
const CATCH_UP: Duration = Duration::from_mins(6);

/// A running cluster.
pub(super) struct Cluster {
    /// One for all nodes, or one for each.
    processes: Vec<Child>,
    nodes: u64,
    /// Where those listen that do.
    addresses: BTreeMap<u64, String>,
    /// Their logs are removed with this, should a process not have come to it.
    _dir: tempfile::TempDir,
}

impl Cluster {
    /// Starts all nodes.
    pub(super) async fn start(shape: &Shape, dir: &Path) -> Result<Self, Error> {
        let dir = tempfile::Builder::new().prefix("row-").tempdir_in(dir);
        let dir = dir.map_err(|error| {
            Error::failed(explain("can't make a directory for the logs", &error))
        })?;
        let key =
            Key::generate().map_err(|error| Error::failed(explain("can't make a key", &error)))?;
        let setup = Setup {
            dir: dir.path().to_owned(),
            nodes: shape.nodes,
            tcp: shape.transport != Transport::InProcess,
            log: shape.log,
            encrypt: shape.encrypt,
            key: key.reveal_hex().to_string(),
        };
        let count = if shape.transport == Transport::Processes { shape.nodes } else { 1 };
        let mut processes = Vec::new();
        for _ in 0..count {
            processes.push(Child::start(&setup).await?);
        }
        let addresses = BTreeMap::new();
        let mut cluster = Self { processes, nodes: shape.nodes, addresses, _dir: dir };
        for node in 1..=shape.nodes {
            cluster.bind(node).await?;
        }
        cluster.introduce().await?;
        for node in 1..=shape.nodes {
            cluster.on(node, &Command::Open { node }).await?;
        }
        Ok(cluster)
    }

    /// Waits until all nodes know a leader, and the same. Returns the node that clients call.
    pub(super) async fn called(&mut self, called: Called) -> Result<u64, Error> {
        let mut leaders = Vec::new();
        // While they disagree, an election is under way.
        for _ in 0..10 {
            leaders.clear();
            for node in 1..=self.nodes {
                let answer = self.on(node, &Command::Leader { node }).await?;
                let Answer::Leader { node } = answer else { return Err(strange(&answer)) };
                leaders.push(node);
            }
            leaders.dedup();
            if let [leader] = leaders.as_slice() {
                return Ok(match called {
                    Called::Leader => *leader,
                    Called::Follower => (1..=self.nodes).find(|it| it != leader).unwrap_or(*leader),
                });
            }
        }
        Err(Error::failed(format!("the nodes do not agree on a leader: {leaders:?}")))
    }

    /// Lets clients append. `None` if there was an election meanwhile: it would be measured, too, and calls may have
    /// failed for it.
    pub(super) async fn run(&mut self, load: Load) -> Result<Option<Ran>, Error> {
        let term = self.used().await?.term;
        let ran = self.run_whatever_happens(load).await;
        match self.used().await {
            Ok(used) if used.term == term => ran.map(Some),
            Ok(_) => Ok(None),
            Err(error) => Err(ran.err().unwrap_or(error)),
        }
    }

    async fn run_whatever_happens(&mut self, load: Load) -> Result<Ran, Error> {
        let time = match load.until {
            Until::Seconds(seconds) => duration(seconds),
            Until::Entries(_) => CATCH_UP,
        };
        let answer = self.process(load.node)?.ask(&Command::Run(load), time + PATIENCE).await?;
        if let Answer::Ran(ran) = answer { Ok(ran) } else { Err(strange(&answer)) }
    }

    /// Looks for the peak of memory anew.
    pub(super) async fn forget_peak(&mut self) -> Result<(), Error> {
        for process in &mut self.processes {
            process.ask(&Command::ForgetPeak, PATIENCE).await?;
        }
        Ok(())
    }

    /// What all nodes together have used so far.
    pub(super) async fn used(&mut self) -> Result<Used, Error> {
        let mut all: Option<Used> = None;
        for process in &mut self.processes {
            let answer = process.ask(&Command::Usage, PATIENCE).await?;
            let Answer::Used(used) = answer else { return Err(strange(&answer)) };
            all = Some(all.map_or(used, |all| all.and(&used)));
        }
        Ok(all.unwrap_or_default())
    }

    /// Checks that a quorum holds what was acknowledged. Returns how many nodes do.
    pub(super) async fn check(
        &mut self,
        acked: Tally,
        end: u64,
        payload: u64,
    ) -> Result<u64, Error> {
        let mut held: Vec<Held> = Vec::new();
        for node in 1..=self.nodes {
            let answer = self.on(node, &Command::Hold { node, end, payload }).await?;
            let Answer::Held(it) = answer else { return Err(strange(&answer)) };
            held.push(it);
        }
        check::judge(acked, &held).map_err(Error::failed)
    }

    /// Closes a node.
    pub(super) async fn close(&mut self, node: u64) -> Result<(), Error> {
        self.on(node, &Command::Close { node }).await.map(drop)
    }

    /// Opens it again, and waits until it has everything before `end`.
    pub(super) async fn catch_up(&mut self, node: u64, end: u64) -> Result<CaughtUp, Error> {
        self.bind(node).await?;
        self.introduce().await?;
        let process = self.process(node)?;
        let answer = process.ask(&Command::CatchUp { node, end }, CATCH_UP).await?;
        if let Answer::CaughtUp(found) = answer { Ok(found) } else { Err(strange(&answer)) }
    }

    /// Closes everything.
    pub(super) async fn end(self) -> Result<(), Error> {
        for process in self.processes {
            process.end().await?;
        }
        Ok(())
    }

    async fn bind(&mut self, node: u64) -> Result<(), Error> {
        let answer = self.on(node, &Command::Bind { node }).await?;
        let Answer::Bound { address } = &answer else { return Err(strange(&answer)) };
        self.addresses.extend(address.clone().map(|address| (node, address)));
        Ok(())
    }

    async fn introduce(&mut self) -> Result<(), Error> {
        let command = Command::Peers { addresses: self.addresses.clone() };
        for process in &mut self.processes {
            process.ask(&command, PATIENCE).await?;
        }
        Ok(())
    }

    async fn on(&mut self, node: u64, command: &Command) -> Result<Answer, Error> {
        self.process(node)?.ask(command, PATIENCE).await
    }

    /// The process that hosts a node.
    fn process(&mut self, node: u64) -> Result<&mut Child, Error> {
        let at = if self.processes.len() == 1 { 0 } else { node.saturating_sub(1) };
        let found = usize::try_from(at).ok().and_then(|at| self.processes.get_mut(at));
        found.ok_or_else(|| Error::failed(format!("there is no node {node}")))
    }
}

impl Used {
    fn and(&self, other: &Self) -> Self {
        let (cpu, memory) = (self.cpu_seconds, self.memory);
        Self {
            cpu_seconds: cpu.zip(other.cpu_seconds).map(|(a, b)| a + b),
            memory: memory.zip(other.memory).map(|(a, b)| a + b),
            peak_memory: self.peak_memory.zip(other.peak_memory).map(|(a, b)| a + b),
            syncs: self.syncs + other.syncs,
            term: self.term.max(other.term),
        }
    }
}

fn strange(answer: &Answer) -> Error {
    Error::failed(format!("a process for nodes gave a strange answer: {answer:?}"))
}
