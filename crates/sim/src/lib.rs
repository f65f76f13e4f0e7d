//! Whole clusters in one thread, under every fault that the design promises to survive.
//!
//! A seed decides everything: how many nodes there are, their timeouts, what the network and the disks do, what
//! breaks and when, what clients ask for. Each node is the real [`Replica`](tinyraftplus_replica::Replica) over
//! the real [`FsLog`](tinyraftplus_log::FsLog); only the disk, the network, the clock and the state machine
//! are made up. The same seed always gives the same run, so whatever is found can be looked at as often as
//! needed.
//!
//! A run has two phases. In the first, things break, and the checks look at every step that nothing wrong comes
//! of it. In the second all is mended, and within a stated time the cluster must work again.
//!
//! ```
//! let run = tinyraftplus_sim::run(7, tinyraftplus_sim::Settings::default());
//! assert_eq!(run.failure, None);
//! assert_eq!(run.hash, tinyraftplus_sim::run(7, tinyraftplus_sim::Settings::default()).hash);
//! ```
#![forbid(unsafe_code)]

mod check;
mod counts;
mod driver;
mod faults;
mod liveness;
mod lives;
mod machine;
mod many;
mod network;
mod node;
mod profile;
mod rng;
mod run;
mod trace;
mod words;
mod workload;
mod world;

pub use crate::check::Violation;
pub use crate::counts::Counts;
pub use crate::many::run_many;
pub use crate::run::{Run, Settings, run};
