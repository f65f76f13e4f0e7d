//! Clients of all nodes, and the record of what they were told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::check::{Finding, Kind};
use crate::cluster::Slot;
use crate::history::{Call, Deed, History, Outcome};
use crate::process::{Asked, Moments, Process};
use crate::rng::Rng;
use crate::words::{Answer, Ask};

/// Clients of each node.
const CLIENTS: usize = 4;
/// How many calls one client makes at once.
const AT_ONCE_MAX: u64 = 4;
/// The largest batch.
const BATCH_MAX: u64 = 8;
/// The largest payload.
const BYTES_MAX: u64 = 1024;
/// How much longer than its deadline a call may take: its process may have been stopped meanwhile.
const GRACE: Duration = Duration::from_secs(10);

/// How many calls ended how.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) committed: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    pub(crate) read: u64,
    pub(crate) not_read: u64,
    /// Why not, in the nodes' words.
    pub(crate) reasons: BTreeMap<String, u64>,
}

/// Makes calls and records them.
#[derive(Clone)]
pub(crate) struct Calls(Arc<Shared>);

struct Shared {
    history: History,
    moments: Moments,
    /// A call ends within this time.
    limit: Duration,
    next_payload: AtomicU64,
    counts: Mutex<Counts>,
    findings: Mutex<Vec<Finding>>,
}

/// A call that is under way.
pub(crate) struct Begun {
    process: Arc<Process>,
    append: Option<(u64, u64)>,
    asked: Result<Asked, (u64, u64)>,
}

impl Calls {
    pub(crate) fn new(moments: Moments, call_timeout: Duration) -> Self {
        Self(Arc::new(Shared {
            history: History::default(),
            moments,
            limit: call_timeout + GRACE,
            next_payload: AtomicU64::new(1),
            counts: Mutex::default(),
            findings: Mutex::default(),
        }))
    }

    pub(crate) fn counts(&self) -> Counts {
        lock(&self.0.counts).clone()
    }

    /// What ended since this was asked last.
    pub(crate) fn take(&self) -> (Vec<Call>, Vec<Finding>) {
        (self.0.history.take(), std::mem::take(&mut *lock(&self.0.findings)))
    }

    /// Begins an append.
    pub(crate) async fn append(&self, process: Arc<Process>, count: u64, bytes: usize) -> Begun {
        let first = self.0.next_payload.fetch_add(count, Ordering::Relaxed);
        let asked = process.ask(Ask::Append { first, count, bytes }).await;
        Begun { process, append: Some((first, count)), asked }
    }

    /// Begins a read.
    pub(crate) async fn read(&self, process: Arc<Process>) -> Begun {
        let asked = process.ask(Ask::Read).await;
        Begun { process, append: None, asked }
    }

    /// Waits for the end of a call. Says whether it did what it was to do.
    pub(crate) async fn end(&self, Begun { process, append, asked }: Begun) -> bool {
        let (began, order) = match &asked {
            Ok(asked) => (asked.began, asked.order),
            Err(place) => *place,
        };
        let told = match asked {
            Ok(asked) => timeout(self.0.limit, asked.answer()).await.unwrap_or_else(|_| {
                let what = format!("call {order} of node {} did not end", process.id);
                lock(&self.0.findings).push(Finding { kind: Kind::Endless, what });
                None
            }),
            Err(_) => None,
        };
        let (ended, answer) = match told {
            Some((ended, answer)) => (ended, Some(answer)),
            None => (self.0.moments.next(), None),
        };
        let what = match append {
            Some((first, count)) => {
                Some(Deed::Append { first, count, outcome: self.appended(answer) })
            }
            None => self.was_read(answer.as_ref()),
        };
        let Some(what) = what else { return false };
        let (node, process) = (process.id, process.start);
        self.0.history.add(Call { node, process, order, began, ended, what });
        match what {
            Deed::Append { outcome, .. } => matches!(outcome, Outcome::Committed { .. }),
            Deed::Read { .. } => true,
        }
    }

    fn appended(&self, answer: Option<Answer>) -> Outcome {
        let mut counts = lock(&self.0.counts);
        match answer {
            Some(Answer::Committed { first, hash }) => {
                counts.committed += 1;
                Outcome::Committed { seq: first, hash }
            }
            Some(Answer::Refused { why }) => {
                counts.refused += 1;
                *counts.reasons.entry(why).or_default() += 1;
                Outcome::Refused
            }
            other => {
                counts.unknown += 1;
                let why = match other {
                    Some(Answer::Unknown { why }) => why,
                    Some(other) => format!("answered {other}"),
                    None => "the process is gone".to_owned(),
                };
                *counts.reasons.entry(why).or_default() += 1;
                Outcome::Unknown
            }
        }
    }

    fn was_read(&self, answer: Option<&Answer>) -> Option<Deed> {
        let mut counts = lock(&self.0.counts);
        if let Some(&Answer::Read { seq, hash }) = answer {
            counts.read += 1;
            return Some(Deed::Read { seq, hash });
        }
        counts.not_read += 1;
        None
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Clients that call until they are told to stop.
pub(crate) struct Clients {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Clients {
    pub(crate) fn start(slots: &[Slot], calls: &Calls, rng: &mut Rng) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for slot in slots {
            for _ in 0..CLIENTS {
                tasks.spawn(client(slot.clone(), calls.clone(), rng.fork(), stopped.clone()));
            }
        }
        Self { stop, tasks }
    }

    /// Returns when the last call has ended.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn client(mut slot: Slot, calls: Calls, mut rng: Rng, mut stop: watch::Receiver<bool>) {
    loop {
        let pause = rng.millis(2, 20);
        if timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
        let process = tokio::select! {
            process = slot.wait_for(Option::is_some) => match process {
                Ok(process) => process.clone(),
                Err(_) => return,
            },
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Some(process) = process else { continue };
        let mut begun = Vec::new();
        for _ in 0..rng.between(1, AT_ONCE_MAX) {
            let process = Arc::clone(&process);
            let bytes = usize::try_from(rng.between(0, BYTES_MAX)).unwrap_or_default();
            begun.push(match rng.between(0, 9) {
                0..=4 => calls.append(process, 1, bytes).await,
                5 | 6 => calls.append(process, rng.between(2, BATCH_MAX), bytes).await,
                _ => calls.read(process).await,
            });
        }
        for call in begun {
            calls.end(call).await;
        }
    }
}
