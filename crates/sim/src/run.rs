//! One seed, from beginning to end.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::check::{Verdict, Violation};
use crate::counts::Counts;
use crate::fault::Fault;
use crate::less::Less;
use crate::world::World;

/// How to run a seed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// Keep a transcript.
    pub transcript: bool,
    /// Look only at what disks, clients and committed entries show, not at promises that are broken but have
    /// not done harm yet. Bugs take longer to find that way; it shows that the other checks work too.
    pub outside_only: bool,
    /// Stop when this [`Count`](crate::Count) is reached, as if it were a failure. With [`shrink`](crate::shrink)
    /// it gives a short transcript of how a cluster comes to that.
    pub until: Option<&'static str>,
    /// What is left out of the world that the seed draws.
    pub less: Less,
}

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// What happened, in numbers.
    pub counts: Counts,
    /// One number for everything that happened: equal if the runs were.
    pub hash: u64,
    /// Whether the world was drawn to have no faults.
    pub calm: bool,
    /// What did not hold, if anything.
    pub failure: Option<Violation>,
    /// Every event, if asked for.
    pub transcript: Vec<String>,
    /// How large it was.
    pub size: Size,
}

/// How large a run was, up to its failure if it failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Size {
    /// How many lines its transcript has.
    pub lines: u64,
    /// How many nodes there were.
    pub nodes: usize,
    /// How many clients.
    pub clients: usize,
    /// After how many milliseconds all was mended, or would have been.
    pub safety: u64,
    /// Which kinds of faults the world had.
    pub kinds: BTreeSet<Fault>,
    /// The numbers of the faults that happened.
    pub faults: Vec<u64>,
    /// The numbers of the bursts of calls that clients made.
    pub calls: Vec<u64>,
}

thread_local! {
    /// Whether this thread simulates, and what a panic in there said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static SIMULATES: RefCell<bool> = const { RefCell::new(false) };
}

/// Runs one seed. A panic in what is simulated is a failure of the seed like any other.
pub fn run(seed: u64, settings: &Settings) -> Run {
    run_within(seed, settings, u64::MAX)
}

/// Runs one seed as long as its transcript has at most so many lines; what would come after is not looked at.
pub(crate) fn run_within(seed: u64, settings: &Settings, lines: u64) -> Run {
    let mut world = World::new(seed, settings);
    let failure = guarded(|| world.run(lines)).err();
    Run {
        seed,
        counts: world.counts(),
        hash: world.trace.hash(),
        calm: world.profile.calm,
        failure,
        size: Size {
            lines: world.trace.count(),
            nodes: world.profile.node_count,
            clients: world.profile.clients.count,
            safety: world.profile.safety / 1_000_000,
            kinds: world.profile.faults(),
            faults: world.faults_happened,
            calls: world.calls_happened,
        },
        transcript: world.trace.into_lines(),
    }
}

/// Takes a panic for a failure like any other.
pub(crate) fn guarded(live: impl FnOnce() -> Verdict) -> Verdict {
    keep_panics_quiet();
    SIMULATES.set(true);
    let verdict = panic::catch_unwind(AssertUnwindSafe(live));
    SIMULATES.set(false);
    verdict.unwrap_or_else(|_| {
        let what = PANIC.take().unwrap_or_else(|| "no message".to_owned());
        Err(Violation::new("nothing panics", what))
    })
}

/// Panics of simulated nodes are reported with their seed, not where they happen.
fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if SIMULATES.with_borrow(|simulates| *simulates) {
                PANIC.set(Some(info.to_string().replace('\n', " ")));
            } else {
                before(info);
            }
        }));
    });
}
