//! Three processes, their logs, and what is between them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tinyraftplus::Key;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::error::Error;
use crate::network::Network;
use crate::node::Times;
use crate::process::{Moments, Process};
use crate::words::{Answer, Ask, Logged, State};

/// The nodes. Three is what most clusters have, and the fewest that survive something.
pub(crate) const IDS: [u64; 3] = [1, 2, 3];

/// How long one look at a node may take.
pub(crate) const QUERY_TIME: Duration = Duration::from_secs(10);

/// The process that runs a node now; `None` while it is down.
pub(crate) type Slot = watch::Receiver<Option<Arc<Process>>>;

/// What nodes are started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) times: Times,
    /// With the state machine that hashes the history.
    pub(crate) machine: bool,
}

/// Three processes and what is between them.
pub(crate) struct Cluster {
    // Dropped in this order: processes are killed before what they use goes.
    slots: BTreeMap<u64, watch::Sender<Option<Arc<Process>>>>,
    network: Network,
    dir: TempDir,
    settings: Settings,
    pub(crate) moments: Moments,
    starts: u64,
}

impl Cluster {
    /// Makes directories and a key, and starts all nodes.
    pub(crate) async fn start(
        network: Network,
        settings: Settings,
        dir: Option<&Path>,
    ) -> Result<Self, Error> {
        let mut made = tempfile::Builder::new();
        made.prefix("tinyraftplus-soak-");
        let made = match dir {
            Some(dir) => made.tempdir_in(dir),
            None => made.tempdir(),
        };
        let dir = made.map_err(|error| Error::cause("can't make a directory for logs", &error))?;
        let slots = IDS.into_iter().map(|id| (id, watch::channel(None).0)).collect();
        let moments = Moments::default();
        let mut cluster = Self { dir, network, settings, moments, slots, starts: 0 };
        cluster.begin().await?;
        Ok(cluster)
    }

    async fn begin(&mut self) -> Result<(), Error> {
        let key = Key::generate().map_err(|error| Error::cause("no key", &error))?;
        std::fs::write(self.key_file(), key.reveal_hex().as_bytes())
            .map_err(|error| Error::cause("can't write the key", &error))?;
        for id in IDS {
            self.start_node(id).await?;
        }
        Ok(())
    }

    fn key_file(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    fn complaints_file(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("node-{id}.stderr"))
    }

    /// What a node's processes complained of so far.
    pub(crate) fn complaints(&self, id: u64) -> String {
        std::fs::read_to_string(self.complaints_file(id)).unwrap_or_default()
    }

    /// Starts the process of a node that is down, and tells everybody where it is.
    pub(crate) async fn start_node(&mut self, id: u64) -> Result<(), Error> {
        let times = self.settings.times;
        let mut spawn = self.network.spawn(id)?;
        let members = IDS.map(|id| id.to_string()).join(",");
        spawn.args(["--id", &id.to_string(), "--members", &members]);
        spawn.args(["--listen", &self.network.listen(id)]);
        spawn.arg("--key").arg(self.key_file()).arg("--dir").arg(self.dir.path());
        spawn.args(["--call-timeout", &times.call_timeout.to_string()]);
        let options = [("--heartbeat", times.heartbeat), ("--election", times.election)];
        for (name, millis) in options.into_iter().chain([("--jitter", times.jitter)]) {
            if let Some(millis) = millis {
                spawn.args([name, &millis.to_string()]);
            }
        }
        if self.settings.machine {
            spawn.arg("--machine");
        }
        self.starts += 1;
        let complaints = self.complaints_file(id);
        let start = (id, self.starts);
        let process = Process::start(start, spawn, &complaints, self.moments.clone()).await?;
        self.network.moved(id, &process.address);
        for other in self.running() {
            let there = self.network.address(other.id, id, &process.address);
            other.set_peer(id, there).await;
            let here = self.network.address(id, other.id, &other.address);
            process.set_peer(other.id, here).await;
        }
        if let Some(slot) = self.slots.get(&id) {
            slot.send_replace(Some(Arc::new(process)));
        }
        Ok(())
    }

    /// The processes that run.
    pub(crate) fn running(&self) -> Vec<Arc<Process>> {
        self.slots.values().filter_map(|slot| slot.borrow().clone()).collect()
    }

    /// The process of this node.
    pub(crate) fn node(&self, id: u64) -> Result<Arc<Process>, Error> {
        let process = self.slots.get(&id).and_then(|slot| slot.borrow().clone());
        process.ok_or_else(|| Error::failed(format_args!("node {id} is down")))
    }

    /// Each node's process, now and later.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        self.slots.values().map(watch::Sender::subscribe).collect()
    }

    /// Kills a node's process as a crash would.
    pub(crate) async fn kill(&self, id: u64) -> Result<(), Error> {
        let process = self.node(id)?;
        let result = process.kill().await;
        if let Some(slot) = self.slots.get(&id) {
            slot.send_replace(None);
        }
        result
    }

    /// Starts all nodes that are down.
    pub(crate) async fn restart(&mut self) -> Result<(), Error> {
        for id in IDS {
            if self.node(id).is_err() {
                self.start_node(id).await?;
            }
        }
        Ok(())
    }

    pub(crate) const fn network(&self) -> &Network {
        &self.network
    }

    /// Which node leads in the newest term, as far as anybody said.
    pub(crate) fn leader(&self) -> Option<u64> {
        let running = self.running();
        let leads =
            running.iter().filter_map(|node| Some((node.leads().borrow().as_ref()?.0, node.id)));
        leads.max().map(|(_, id)| id)
    }

    /// Waits until all nodes run, follow one leader, and have committed and applied the same. Returns the end of their logs.
    pub(crate) async fn settled(&self, time: Duration) -> Result<u64, Error> {
        let deadline = Instant::now() + time;
        let mut beat = interval(Duration::from_millis(20));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            let states = self.states().await?;
            if let Some(end) = same(&states, self.settings.machine) {
                return Ok(end);
            }
            if Instant::now() >= deadline {
                let what = format!("the logs are not the same after {time:?} of peace: {states:?}");
                return Err(Error::failed(what));
            }
        }
    }

    /// What the nodes know of themselves.
    pub(crate) async fn states(&self) -> Result<Vec<State>, Error> {
        let mut states = Vec::new();
        for id in IDS {
            let answer = self.node(id)?.query(Ask::Status, QUERY_TIME).await?;
            let Answer::Status(state) = answer else {
                return Err(Error::failed(format_args!("node {id}: no status but {answer}")));
            };
            states.push(state);
        }
        Ok(states)
    }

    /// What a node's log holds.
    pub(crate) async fn entries(&self, id: u64, from: u64, to: u64) -> Result<Vec<Logged>, Error> {
        let (node, mut entries) = (self.node(id)?, Vec::new());
        loop {
            let from = from + entries.len() as u64;
            if from >= to {
                return Ok(entries);
            }
            let answer = node.query(Ask::Entries { from, to }, QUERY_TIME).await?;
            let Answer::Entries(more) = answer else {
                let what = format!("node {id} can't show its log from seq {from} on: {answer}");
                return Err(Error::failed(what));
            };
            if more.is_empty() {
                return Err(Error::failed(format_args!("node {id} shows nothing at seq {from}")));
            }
            entries.extend(more);
        }
    }

    /// Keeps the logs, and says where they are.
    pub(crate) fn keep(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir.path().to_owned()
    }

    /// Kills what still runs and removes everything.
    pub(crate) async fn end(self) -> Result<(), Error> {
        let mut result = Ok(());
        for node in self.running() {
            // One that is gone already has been noticed before.
            if !node.is_gone() {
                result = result.and(node.kill().await);
            }
        }
        result
    }

    /// Closes all nodes properly.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        for node in self.running() {
            node.close().await?;
            if let Some(slot) = self.slots.get(&node.id) {
                slot.send_replace(None);
            }
        }
        Ok(())
    }

    /// Sends a signal to a node's process.
    pub(crate) fn signal(&self, id: u64, signal: Signal) -> Result<(), Error> {
        self.node(id)?.signal(signal)
    }
}

/// The end of the logs if all are the same and at rest.
fn same(states: &[State], machine: bool) -> Option<u64> {
    let first = states.first()?;
    let at_rest = |state: &State| {
        let applied = !machine || state.applied == state.committed;
        applied && state.leader != 0 && state.committed == state.durable
    };
    let as_first = |state: &State| {
        (state.leader, state.term, state.committed) == (first.leader, first.term, first.committed)
    };
    states.iter().all(|state| at_rest(state) && as_first(state)).then_some(first.committed)
}
