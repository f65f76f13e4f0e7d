//! `soak memory`: the traffic of a day in minutes, and what each node has in memory meanwhile.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::cluster::{Cluster, IDS, Settings};
use crate::error::Error;
use crate::network::Network;
use crate::node::Times;
use crate::words::{Answer, Ask};
use crate::{out, unless_interrupted};

/// How often memory is looked at.
const BEAT: Duration = Duration::from_millis(100);
/// How long one step may take.
const STEP_TIME: Duration = Duration::from_mins(5);
/// How long a call may take. Load waits for its turn, and is not to fail for that.
const CALL_MILLIS: u64 = 60_000;
/// In how many steps the load is made. A follower is down for some of them.
const STEPS: u64 = 20;
const DOWN_AT: u64 = 8;
const UP_AT: u64 = 11;
/// Steps until caches, buffers and the allocator have what they take; a process that was just started needs them too.
const WARM_UP: u64 = 4;

/// What is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many entries are appended, through all nodes together
    #[arg(long, default_value_t = 1_000_000)]
    appends: u64,
    /// Bytes of an entry
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
    /// How many reads there are, through all nodes together
    #[arg(long, default_value_t = 100_000)]
    reads: u64,
    /// How many calls each node makes at once
    #[arg(long, default_value_t = 64)]
    calls: u64,
    /// Entries a call
    #[arg(long, default_value_t = 1)]
    batch: u64,
    /// Fail if a node takes more MiB at the end than after the first steps by so many
    #[arg(long, value_name = "MIB")]
    growth: Option<u64>,
    /// Where the logs go; needs three times what is appended [default: a temporary directory]; removed afterwards
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Measures.
pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let least = STEPS * IDS.len() as u64;
    if args.appends < least || args.reads < least || args.calls == 0 || args.batch == 0 {
        let what = format!("--appends and --reads must be {least} or more, the others 1 or more");
        return Err(Error::usage(what));
    }
    let settings = Settings { times: Times::ordinary(CALL_MILLIS), machine: false };
    let start = Cluster::start(Network::Direct, settings, args.dir.as_deref());
    let mut cluster = unless_interrupted(start).await?;
    let mut load = Load { args, down: None, samples: Vec::new(), peaks: BTreeMap::new() };
    let result = unless_interrupted(load.all(&mut cluster)).await;
    let ended = cluster.end().await;
    result.and(ended)?;
    let growth = load.growth();
    if load.args.json {
        out::line(load.json(&growth));
    } else {
        for (id, entries, kib) in &growth {
            out::line(format_args!("node {id}: {kib:+} KiB over the last {entries} entries"));
        }
        let peaks = load.peaks.iter().map(|(id, kib)| format!("node {id} {} MiB", mib(*kib)));
        out::line(format_args!("at most: {}", peaks.collect::<Vec<_>>().join(", ")));
    }
    let worst = growth.iter().map(|(.., kib)| *kib).max().unwrap_or_default();
    match load.args.growth {
        Some(limit) if worst > i64::try_from(limit << 10).unwrap_or(i64::MAX) => {
            Err(Error::failed(format_args!("a node grew by {worst} KiB, more than {limit} MiB")))
        }
        Some(_) | None => Ok(()),
    }
}

/// Load, and what it took.
struct Load {
    args: Args,
    down: Option<u64>,
    samples: Vec<Sample>,
    /// Of each node, at any time, in KiB.
    peaks: BTreeMap<u64, u64>,
}

/// What was seen after a step.
struct Sample {
    entries: u64,
    seconds: f64,
    leader: u64,
    /// Of each node that runs: its process, and KiB resident, and of them not those of files.
    memory: BTreeMap<u64, (u64, u64, u64)>,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10} entries {:>6.1} s", self.entries, self.seconds)?;
        for id in IDS {
            match self.memory.get(&id) {
                Some((_, resident, _)) => write!(f, "{:>8} MiB", mib(*resident))?,
                None => write!(f, "{:>12}", "down")?,
            }
        }
        write!(f, "   node {} leads", self.leader)
    }
}

fn mib(kib: u64) -> String {
    format!("{}.{}", kib >> 10, (kib & 1023) * 10 / 1024)
}

impl Load {
    async fn all(&mut self, cluster: &mut Cluster) -> Result<(), Error> {
        cluster.settled(STEP_TIME).await?;
        let began = Instant::now();
        if !self.args.json {
            out::line("                                node 1      node 2      node 3");
        }
        for step in 1..=STEPS {
            if step == DOWN_AT {
                let leader = cluster.states().await?.iter().find(|it| it.leads).map(|it| it.leader);
                let follower = IDS.into_iter().find(|&id| Some(id) != leader);
                let follower = follower.ok_or_else(|| Error::failed("no follower"))?;
                cluster.kill(follower).await?;
                self.down = Some(follower);
            }
            if step == UP_AT
                && let Some(follower) = self.down.take()
            {
                let began = Instant::now();
                cluster.start_node(follower).await?;
                self.watch(cluster, cluster.settled(STEP_TIME)).await?;
                let took = began.elapsed().as_secs_f64();
                if !self.args.json {
                    out::line(format_args!("node {follower} is back and caught up in {took:.1} s"));
                }
            }
            self.step(cluster).await?;
            let sample = self.sample(cluster, began).await?;
            if !self.args.json {
                out::line(&sample);
            }
            self.samples.push(sample);
        }
        Ok(())
    }

    /// One part of the load, through all nodes that run.
    async fn step(&mut self, cluster: &Cluster) -> Result<(), Error> {
        let running = cluster.running();
        let share = |all: u64| all.div_ceil(STEPS * running.len() as u64);
        let Args { bytes, calls, batch, .. } = self.args;
        let asks = [
            Ask::Load { count: share(self.args.appends), bytes, calls, batch },
            Ask::Reads { count: share(self.args.reads), calls: calls.div_ceil(4) },
        ];
        let mut tasks = JoinSet::new();
        for node in running {
            for ask in asks.clone() {
                let node = Arc::clone(&node);
                tasks.spawn(async move { node.query(ask, STEP_TIME).await });
            }
        }
        let done = async {
            while let Some(done) = tasks.join_next().await {
                let answer = done.map_err(|error| Error::cause("load", &error))??;
                if !matches!(answer, Answer::Loaded { failed: 0, .. }) {
                    return Err(Error::failed(format_args!("calls failed: {answer}")));
                }
            }
            Ok(())
        };
        self.watch(cluster, done).await
    }

    /// Looks at memory for as long as something takes.
    async fn watch<T>(
        &mut self,
        cluster: &Cluster,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<(), Error> {
        let mut work = std::pin::pin!(work);
        let mut beat = interval(BEAT);
        loop {
            tokio::select! {
                result = &mut work => return result.map(drop),
                _ = beat.tick() => {}
            }
            for node in cluster.running() {
                if let Some((resident, _)) = node.memory() {
                    let peak = self.peaks.entry(node.id).or_default();
                    *peak = resident.max(*peak);
                }
            }
        }
    }

    async fn sample(&self, cluster: &Cluster, began: Instant) -> Result<Sample, Error> {
        let mut memory = BTreeMap::new();
        for node in cluster.running() {
            let (resident, own) = node.memory().ok_or_else(|| {
                Error::failed("this system does not say what a process has in memory (Linux does)")
            })?;
            memory.insert(node.id, (node.start, resident, own));
        }
        // A follower that is behind knows of fewer entries than there are.
        let (mut entries, mut leader) = (0, 0);
        for node in cluster.running() {
            let Answer::Status(state) = node.query(Ask::Status, STEP_TIME).await? else {
                return Err(Error::failed("no status"));
            };
            if state.committed >= entries {
                (entries, leader) = (state.committed, state.leader);
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        Ok(Sample { entries, seconds, leader, memory })
    }

    /// By how many KiB each node grew, over how many entries: from when it was warm until the end.
    fn growth(&self) -> Vec<(u64, u64, i64)> {
        let Some(last) = self.samples.last() else { return Vec::new() };
        let mut growth = Vec::new();
        for (&id, &(start, resident, _)) in &last.memory {
            let warm = usize::try_from(WARM_UP).unwrap_or_default();
            let same = self.samples.iter().filter(|sample| {
                sample.memory.get(&id).is_some_and(|(process, ..)| *process == start)
            });
            if let Some(sample) = same.into_iter().nth(warm)
                && let Some(&(_, then, _)) = sample.memory.get(&id)
            {
                let kib = i64::try_from(resident).unwrap_or(i64::MAX)
                    - i64::try_from(then).unwrap_or(i64::MAX);
                growth.push((id, last.entries - sample.entries, kib));
            }
        }
        growth
    }

    fn json(&self, growth: &[(u64, u64, i64)]) -> serde_json::Value {
        let memory = |(id, (_, resident, own)): (&u64, &(u64, u64, u64))| json!({ "node": id, "resident_kib": resident, "anonymous_kib": own });
        let samples = self.samples.iter().map(|sample| {
            json!({
                "entries": sample.entries,
                "seconds": sample.seconds,
                "leader": sample.leader,
                "memory": sample.memory.iter().map(memory).collect::<Vec<_>>(),
            })
        });
        let growth = growth
            .iter()
            .map(|(id, entries, kib)| json!({ "node": id, "entries": entries, "kib": kib }));
        json!({
            "payload_bytes": self.args.bytes,
            "samples": samples.collect::<Vec<_>>(),
            "growth": growth.collect::<Vec<_>>(),
            "peak_kib": self.peaks,
        })
    }
}
