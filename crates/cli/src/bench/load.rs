//! Clients that append as fast as they are answered.

use super::check::Tally;
use super::latency;
use super::options::duration;
use super::protocol::{Load, Ran, Until};
use super::stamps::Stamps;
use crate::error::explain;
use hdrhistogram::Histogram;
use std::time::Instant;
use tinyraftplus::{AppendError, RaftNode};
use tokio::task::JoinSet;

/// Runs the clients. `number` tells apart what runs on the same cluster append.
pub(super) async fn run(node: &RaftNode, load: Load, number: u64) -> Result<Ran, String> {
    let stamps = Stamps::new(load.payload);
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..load.clients {
        let goal = match load.until {
            Until::Seconds(seconds) => Goal::Time(began + duration(seconds)),
            Until::Entries(all) => Goal::Entries(all.div_ceil(load.clients)),
        };
        let client = Client {
            node: node.clone(),
            stamps: stamps.clone(),
            batch: load.batch,
            next: Stamps::first(number, client),
            goal,
        };
        clients.spawn(client.run());
    }
    let mut all = Seen::new();
    while let Some(client) = clients.join_next().await {
        let seen = client.map_err(|error| explain("a client died", &error))?;
        let seen = seen.map_err(|error| explain("an append failed", &error))?;
        all.acked.join(seen.acked);
        all.end = all.end.max(seen.end);
        // Both count in three digits and grow as needed.
        let _ = all.latency.add(&seen.latency);
    }
    Ok(Ran {
        calls: all.latency.len(),
        seconds: began.elapsed().as_secs_f64(),
        micros: latency::quantiles(&all.latency),
        acked: all.acked,
        end: all.end,
    })
}

/// When a client has done enough.
enum Goal {
    Time(Instant),
    Entries(u64),
}

impl Goal {
    fn is_reached(&self, entries: u64) -> bool {
        match self {
            Self::Time(end) => Instant::now() >= *end,
            Self::Entries(goal) => entries >= *goal,
        }
    }
}

struct Client {
    node: RaftNode,
    stamps: Stamps,
    batch: u64,
    /// The stamp of its next entry.
    next: u64,
    goal: Goal,
}

/// What clients saw.
struct Seen {
    acked: Tally,
    /// The seq after the last that was acknowledged.
    end: u64,
    latency: Histogram<u64>,
}

impl Seen {
    fn new() -> Self {
        Self { acked: Tally::default(), end: 0, latency: latency::histogram() }
    }
}

impl Client {
    async fn run(mut self) -> Result<Seen, AppendError> {
        let mut seen = Seen::new();
        while !self.goal.is_reached(seen.acked.entries) {
            let began = Instant::now();
            let first = self.append().await?;
            latency::record(&mut seen.latency, began.elapsed());
            for (seq, stamp) in (first..).zip(self.next..self.next + self.batch) {
                seen.acked.add(seq, self.stamps.what_is_kept(stamp));
            }
            self.next += self.batch;
            seen.end = seen.end.max(first + self.batch);
        }
        Ok(seen)
    }

    /// Appends what comes next, and returns where its first entry is.
    async fn append(&self) -> Result<u64, AppendError> {
        if self.batch == 1 {
            return Ok(self.node.append(self.stamps.entry(self.next)).await?.seq.get());
        }
        let entries = (self.next..self.next + self.batch).map(|stamp| self.stamps.entry(stamp));
        Ok(self.node.append_batch(entries).await?.seqs.start.get())
    }
}
