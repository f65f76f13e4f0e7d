//! `soak failover`: the leader's process is killed again and again while clients append through the others.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use crate::cluster::{Cluster, Settings};
use crate::error::Error;
use crate::network::Network;
use crate::node::Times;
use crate::process::Process;
use crate::report::quantile;
use crate::words::{Answer, Ask};
use crate::{out, unless_interrupted};

/// How often an append is made through each surviving node, whatever became of those before.
const BEAT: Duration = Duration::from_millis(10);
/// How long before the kill appends begin.
const CALM: Duration = Duration::from_millis(300);
/// After this time there should have been a leader and an append long since.
const LIMIT: Duration = Duration::from_secs(20);
/// How long after the first appends the calls that were under way when the leader was killed are watched.
const AFTER: Duration = Duration::from_secs(1);
/// How long a call may take: the library's default.
const CALL_MILLIS: u64 = 10_000;

/// What is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often the leader is killed
    #[arg(long, default_value_t = 30)]
    kills: usize,
    /// The fast profile: heartbeats every 20 ms, elections after 100 to 200 ms
    #[arg(long)]
    fast: bool,
    /// Fail if the median time to the first append is above so many milliseconds
    #[arg(long, value_name = "MILLIS")]
    target: Option<u64>,
    /// Where the logs go [default: a temporary directory]; removed afterwards
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Measures.
pub(crate) async fn run(args: Args) -> Result<(), Error> {
    if args.kills == 0 {
        return Err(Error::usage("--kills must be 1 or more"));
    }
    let times = if args.fast { Times::fast(CALL_MILLIS) } else { Times::ordinary(CALL_MILLIS) };
    let settings = Settings { times, machine: false };
    let start = Cluster::start(Network::Direct, settings, args.dir.as_deref());
    let mut cluster = unless_interrupted(start).await?;
    let (mut measured, mut elections) = (Vec::new(), 0);
    let result = unless_interrupted(async {
        cluster.settled(LIMIT).await?;
        let began = term(&cluster).await?;
        for kill in 1..=args.kills {
            cluster.settled(LIMIT).await?;
            let one = failover(&mut cluster).await?;
            if !args.json {
                out::line(format_args!("{kill:>4}: {one}"));
            }
            measured.push(one);
        }
        elections = term(&cluster).await? - began;
        Ok(())
    })
    .await;
    let ended = cluster.end().await;
    result.and(ended)?;
    let summary = Summary::new(&measured, elections);
    if args.json {
        let profile = if args.fast { "fast" } else { "default" };
        out::line(summary.json(profile));
    } else {
        out::line(&summary);
    }
    let median = quantile(&summary.first, 50);
    match args.target.map(Duration::from_millis) {
        Some(target) if median > target => {
            Err(Error::failed(format_args!("a median of {median:?} is above {target:?}")))
        }
        Some(_) | None => Ok(()),
    }
}

/// The newest term that a node knows.
async fn term(cluster: &Cluster) -> Result<u64, Error> {
    let states = cluster.states().await?;
    Ok(states.iter().map(|state| state.term).max().unwrap_or_default())
}

/// What one kill led to; times are from the kill on.
struct Measured {
    leader: Duration,
    /// The first append that began after the kill and was committed, through any node and through the last of both.
    first: Duration,
    both: Duration,
    /// What became of the calls that were under way: committed, refused, unknown, and still under way a second after `both`.
    under_way: [usize; 4],
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [committed, refused, unknown, waiting] = self.under_way;
        write!(
            f,
            "leader after {:?}, append after {:?}, through both nodes after {:?}; calls under way: {committed} committed, {refused} refused, {unknown} unknown, {waiting} waiting",
            quantile(&[self.leader], 100),
            quantile(&[self.first], 100),
            quantile(&[self.both], 100),
        )
    }
}

/// A call that ended.
struct Ended {
    node: u64,
    began: Instant,
    at: Instant,
    answer: Option<Answer>,
}

async fn failover(cluster: &mut Cluster) -> Result<Measured, Error> {
    let states = cluster.states().await?;
    let leader = states.iter().find(|state| state.leads).map(|state| state.leader);
    let leader = leader.ok_or_else(|| Error::failed("nobody leads"))?;
    let survivors: Vec<_> =
        cluster.running().into_iter().filter(|node| node.id != leader).collect();
    let (sender, mut ended) = mpsc::channel(4096);
    let begun = Arc::new(Mutex::new(Vec::new()));
    let mut feeders = JoinSet::new();
    for node in &survivors {
        feeders.spawn(feed(Arc::clone(node), Arc::clone(&begun), sender.clone()));
    }
    drop(sender);
    let mut ended_before = 0;
    let calm = Instant::now() + CALM;
    while let Ok(Some(_)) = timeout_at(calm, ended.recv()).await {
        ended_before += 1;
    }
    if ended_before == 0 {
        return Err(Error::failed(format_args!("no append in {CALM:?} of peace")));
    }
    let killed = Instant::now();
    cluster.signal(leader, Signal::KILL)?;
    let calls = first_appends(&survivors, &mut ended, killed).await?;
    let elected = survivors.iter().filter_map(|node| *node.leads().borrow());
    let elected = elected.map(|(_, at)| at).filter(|&at| at > killed).min();
    let elected = elected.ok_or_else(|| Error::failed("an append without a leader"))?;
    feeders.shutdown().await;
    cluster.kill(leader).await?;
    cluster.start_node(leader).await?;
    let begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
    let begun = begun.iter().filter(|&&began| began < killed).count();
    let FirstAppends { first, both, ended: [committed, refused, unknown] } = calls;
    let waiting = begun.saturating_sub(ended_before + committed + refused + unknown);
    let under_way = [committed, refused, unknown, waiting];
    Ok(Measured { leader: elected - killed, first, both, under_way })
}

/// What was learned from calls.
struct FirstAppends {
    first: Duration,
    both: Duration,
    /// Of the calls that began before the kill: committed, refused, unknown.
    ended: [usize; 3],
}

/// Waits until an append that began after the kill was committed through each node, and a little longer.
async fn first_appends(
    survivors: &[Arc<Process>],
    ended: &mut mpsc::Receiver<Ended>,
    killed: Instant,
) -> Result<FirstAppends, Error> {
    let mut deadline = killed + LIMIT;
    let mut firsts: Vec<(u64, Duration)> = Vec::new();
    let mut before = [0; 3];
    while let Ok(Some(call)) = timeout_at(deadline, ended.recv()).await {
        let is_committed = matches!(call.answer, Some(Answer::Committed { .. }));
        if call.began < killed {
            let [committed, refused, unknown] = &mut before;
            *match call.answer {
                Some(Answer::Committed { .. }) => committed,
                Some(Answer::Refused { .. }) => refused,
                _ => unknown,
            } += 1;
        }
        if is_committed && call.began >= killed && !firsts.iter().any(|(id, _)| *id == call.node) {
            firsts.push((call.node, call.at - killed));
            if firsts.len() == survivors.len() {
                deadline = Instant::now() + AFTER;
            }
        }
    }
    let (first, both) =
        (firsts.iter().map(|(_, at)| *at).min(), firsts.iter().map(|(_, at)| *at).max());
    match (first, both) {
        (Some(first), Some(both)) if firsts.len() == survivors.len() => {
            Ok(FirstAppends { first, both, ended: before })
        }
        _ => Err(Error::failed(format_args!(
            "only through {} of {} nodes an append was committed within {LIMIT:?} of the kill",
            firsts.len(),
            survivors.len()
        ))),
    }
}

/// Appends through a node at a steady pace.
async fn feed(node: Arc<Process>, all: Arc<Mutex<Vec<Instant>>>, ended: mpsc::Sender<Ended>) {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting = JoinSet::new();
    for number in 1.. {
        beat.tick().await;
        let began = Instant::now();
        all.lock().unwrap_or_else(PoisonError::into_inner).push(began);
        let Ok(asked) = node.ask(Ask::Append { first: number, count: 1, bytes: 64 }).await else {
            return;
        };
        let (node, ended) = (node.id, ended.clone());
        waiting.spawn(async move {
            let answer = asked.answer().await.map(|(_, answer)| answer);
            let call = Ended { node, began, at: Instant::now(), answer };
            drop(timeout(LIMIT, ended.send(call)).await);
        });
        while waiting.try_join_next().is_some() {}
    }
}

/// All kills together.
struct Summary {
    leader: Vec<Duration>,
    first: Vec<Duration>,
    both: Vec<Duration>,
    under_way: [usize; 4],
    /// Terms that began. One a kill is the least.
    elections: u64,
}

impl Summary {
    fn new(measured: &[Measured], elections: u64) -> Self {
        let mut under_way = [0; 4];
        for one in measured {
            for (sum, count) in under_way.iter_mut().zip(one.under_way) {
                *sum += count;
            }
        }
        Self {
            leader: measured.iter().map(|one| one.leader).collect(),
            first: measured.iter().map(|one| one.first).collect(),
            both: measured.iter().map(|one| one.both).collect(),
            under_way,
            elections,
        }
    }

    const fn rows(&self) -> [(&'static str, &Vec<Duration>); 3] {
        [
            ("new leader", &self.leader),
            ("first append", &self.first),
            ("first append through each node", &self.both),
        ]
    }

    fn json(&self, profile: &str) -> serde_json::Value {
        let [committed, refused, unknown, waiting] = self.under_way;
        let rows: serde_json::Map<String, serde_json::Value> = self
            .rows()
            .into_iter()
            .map(|(what, times)| {
                let millis = |percent| quantile(times, percent).as_millis();
                (
                    what.replace(' ', "_"),
                    json!({ "median_ms": millis(50), "worst_ms": millis(100) }),
                )
            })
            .collect();
        json!({
            "profile": profile,
            "kills": self.leader.len(),
            "elections": self.elections,
            "from_the_kill": rows,
            "calls_under_way": {
                "committed": committed, "refused": refused, "unknown": unknown, "waiting": waiting,
            },
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [committed, refused, unknown, waiting] = self.under_way;
        writeln!(f, "{} kills; from the kill to        median      worst", self.leader.len())?;
        for (what, times) in self.rows() {
            let (median, worst) = (quantile(times, 50), quantile(times, 100));
            writeln!(f, "{what:<32} {:>6} ms {:>7} ms", median.as_millis(), worst.as_millis())?;
        }
        write!(
            f,
            "{} elections; calls under way at the kills: {committed} committed, {refused} refused, {unknown} unknown, {waiting} without an answer a second later",
            self.elections
        )
    }
}
