//! `soak run`: rounds of calls with a fault in each, and a check after each.

use std::fmt;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::check::{Checker, Finding, Kind, diverged};
use crate::clients::{Calls, Clients};
use crate::cluster::{Cluster, IDS, Settings};
use crate::error::Error;
use crate::faults::Deck;
use crate::network::Network;
use crate::node::Times;
use crate::process::Process;
use crate::report::Report;
use crate::rng::Rng;
use crate::{faults, out, unless_interrupted};

/// How long a call may take.
const CALL_MILLIS: u64 = 4_000;
/// When a fault is mended, an append through each node must be committed within this time.
const PROGRESS_TIME: Duration = Duration::from_secs(10);
/// And when nobody calls any more, all logs must be the same within this one.
const SETTLE_TIME: Duration = Duration::from_secs(10);

/// What a soak is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many faults, one after the other
    #[arg(long, default_value_t = 20)]
    rounds: u64,
    /// Network namespaces that are joined by a bridge, instead of proxies on the loopback; needs root and iproute2
    #[arg(long)]
    netns: bool,
    /// Which faults and which calls: a number of an earlier run [default: another each time]
    #[arg(long)]
    seed: Option<u64>,
    /// Milliseconds a fault lasts at most
    #[arg(long, default_value_t = 2_000, value_name = "MILLIS")]
    fault: u64,
    /// Only these kinds of faults
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    only: Vec<faults::Kind>,
    /// Where the logs go [default: a temporary directory]; removed unless something did not hold
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Runs a soak.
pub(crate) async fn run(args: Args) -> Result<(), Error> {
    if args.rounds == 0 || !(200..=60_000).contains(&args.fault) {
        return Err(Error::usage("--rounds must be 1 or more, --fault 200 to 60000 milliseconds"));
    }
    let seed = match args.seed {
        Some(seed) => seed,
        None => getrandom::u32().map_err(|error| Error::failed(format_args!("{error}")))?.into(),
    };
    let mut rng = Rng::new(seed);
    let network =
        if args.netns { Network::namespaces(&IDS).await? } else { Network::proxies(&IDS).await? };
    let settings = Settings { times: Times::ordinary(CALL_MILLIS), machine: true };
    let start = Cluster::start(network, settings, args.dir.as_deref());
    let cluster = unless_interrupted(start).await?;
    let network = if args.netns { "namespaces" } else { "proxies" };
    let mut soak = Soak {
        calls: Calls::new(cluster.moments.clone(), Duration::from_millis(CALL_MILLIS)),
        checker: Checker::default(),
        deck: Deck::new(rng.fork(), &args.only),
        report: Report { seed, network, ..Report::default() },
        cluster,
        rng,
        args,
    };
    let result = unless_interrupted(soak.all()).await;
    soak.end(result).await
}

/// A soak that runs.
struct Soak {
    cluster: Cluster,
    calls: Calls,
    checker: Checker,
    deck: Deck,
    rng: Rng,
    report: Report,
    args: Args,
}

impl Soak {
    async fn all(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        self.progress().await;
        while self.report.findings.is_empty() && self.report.rounds < self.args.rounds {
            self.round().await?;
            self.report.time = began.elapsed();
        }
        if self.report.findings.is_empty() {
            self.finish().await?;
        }
        self.report.time = began.elapsed();
        Ok(())
    }

    async fn round(&mut self) -> Result<(), Error> {
        self.report.rounds += 1;
        let clients = Clients::start(&self.cluster.slots(), &self.calls, &mut self.rng);
        pause(self.rng.millis(100, 400)).await;
        let fault = self.deck.next(self.cluster.leader());
        let before = self.calls.counts().committed;
        fault.inject(&self.cluster).await?;
        let lasts = self.rng.millis(200, self.args.fault);
        pause(lasts).await;
        let under = self.calls.counts().committed - before;
        self.report.committed_under_faults += under;
        let seen = fault.heal(&mut self.cluster).await?;
        let count = self.report.faults.entry(fault.kind).or_default();
        count.0 += 1;
        count.1 += u64::from(seen);
        let progress = self.progress().await;
        self.report.progress.extend(progress);
        clients.stop().await;
        self.settle().await;
        self.say(format_args!(
            "{:>4}: {fault} for {} ms, {under} appends committed meanwhile{}; all nodes append again after {} ms; {} entries, term {}",
            self.report.rounds,
            lasts.as_millis(),
            if seen { "" } else { " (not seen to happen)" },
            progress.map_or_else(|| "?".to_owned(), |time| time.as_millis().to_string()),
            self.report.entries,
            self.report.term,
        ));
        Ok(())
    }

    /// Kills all at once, and looks at all that is on their disks.
    async fn finish(&mut self) -> Result<(), Error> {
        for id in IDS {
            self.cluster.kill(id).await?;
        }
        self.cluster.restart().await?;
        self.progress().await;
        self.settle().await;
        if !self.report.findings.is_empty() {
            return Ok(());
        }
        for id in IDS {
            let entries = self.cluster.entries(id, 0, self.checker.end()).await?;
            self.report.findings.extend(self.checker.whole(id, &entries));
        }
        self.cluster.close().await
    }

    /// Appends through each node, until each was committed, and says how long it took.
    async fn progress(&mut self) -> Option<Duration> {
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for node in self.cluster.running() {
            tasks.spawn(insist(self.calls.clone(), node));
        }
        if timeout(PROGRESS_TIME, tasks.join_all()).await.is_ok() {
            return Some(began.elapsed());
        }
        let states = self.cluster.states().await;
        let what = format!(
            "not every node had an append committed within {PROGRESS_TIME:?} of peace: {states:?}"
        );
        self.find(Kind::Stuck, what);
        None
    }

    /// Once all logs are the same: checks what came since.
    async fn settle(&mut self) {
        self.notice_deaths();
        let from = self.checker.end();
        let end = match self.cluster.settled(SETTLE_TIME).await {
            Ok(end) => end,
            Err(error) => return self.find(Kind::Stuck, error),
        };
        let mut first = None;
        for id in IDS {
            let entries = match self.cluster.entries(id, from, end).await {
                Ok(entries) => entries,
                Err(error) => return self.find(Kind::Lost, error),
            };
            match &first {
                None => first = Some(entries),
                Some(first) => {
                    self.report.findings.extend(diverged("node 1", first, id, &entries, from));
                }
            }
        }
        let (calls, findings) = self.calls.take();
        self.report.findings.extend(findings);
        self.report.findings.extend(self.checker.part(&calls, &first.unwrap_or_default()));
        self.report.entries = end;
        if let Ok(states) = self.cluster.states().await {
            self.report.term = states.iter().map(|state| state.term).max().unwrap_or_default();
        }
        self.notice_deaths();
    }

    fn notice_deaths(&mut self) {
        for node in self.cluster.running() {
            if let Some(why) = node.fault() {
                self.find(Kind::Died, format_args!("node {}: {why}", node.id));
            } else if node.is_gone() {
                self.find(
                    Kind::Died,
                    format_args!("node {} is gone, and nobody killed it", node.id),
                );
            }
        }
        for id in IDS {
            let complaints = self.cluster.complaints(id);
            if !complaints.is_empty() {
                self.find(Kind::Died, format_args!("node {id} complained: {}", complaints.trim()));
            }
        }
    }

    fn find(&mut self, kind: Kind, what: impl fmt::Display) {
        let finding = Finding { kind, what: what.to_string() };
        if !self.report.findings.contains(&finding) {
            self.report.findings.push(finding);
        }
    }

    fn say(&self, text: fmt::Arguments<'_>) {
        if !self.args.json {
            out::line(text);
        }
    }

    /// Reports, and leaves nothing behind but the logs of a failure.
    async fn end(mut self, result: Result<(), Error>) -> Result<(), Error> {
        self.report.calls = self.calls.counts();
        if self.args.json {
            out::line(self.report.json());
        } else {
            out::line(&self.report);
        }
        let broken = !self.report.findings.is_empty() || matches!(result, Err(Error::Failed(_)));
        let kept = broken.then(|| self.cluster.keep());
        for finding in &self.report.findings {
            out::error_line(format_args!("FAILED {finding}"));
        }
        if let Some(dir) = kept {
            out::error_line(format_args!("the logs are in {}", dir.display()));
        }
        let ended = self.cluster.end().await;
        result?;
        if broken {
            let count = self.report.findings.len();
            return Err(Error::failed(format_args!("{count} findings, seed {}", self.report.seed)));
        }
        if let Some(why) = self.report.too_little() {
            return Err(Error::failed(why));
        }
        ended
    }
}

async fn insist(calls: Calls, node: Arc<Process>) {
    loop {
        let begun = calls.append(Arc::clone(&node), 1, 64).await;
        if calls.end(begun).await {
            return;
        }
        pause(Duration::from_millis(20)).await;
    }
}

/// Lets a fault, or calm, last.
async fn pause(time: Duration) {
    let _ = timeout(time, pending::<()>()).await;
}
