//! One seed, from beginning to end.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::check::Violation;
use crate::counts::Counts;
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
}

thread_local! {
    /// Whether this thread simulates, and what a panic in there said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static SIMULATES: RefCell<bool> = const { RefCell::new(false) };
}

/// Runs one seed. A panic in what is simulated is a failure of the seed like any other.
pub fn run(seed: u64, settings: &Settings) -> Run {
    keep_panics_quiet();
    let mut world = World::new(seed, settings);
    SIMULATES.set(true);
    let verdict = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    SIMULATES.set(false);
    let failure = if let Ok(verdict) = verdict {
        verdict.err()
    } else {
        let what = PANIC.take().unwrap_or_else(|| "no message".to_owned());
        Some(Violation::new("nothing panics", what))
    };
    Run {
        seed,
        counts: world.counts(),
        hash: world.trace.hash(),
        calm: world.profile.calm,
        failure,
        transcript: world.trace.into_lines(),
    }
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
