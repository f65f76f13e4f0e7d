//! Whole clusters in one thread, under every fault that the design promises to survive.
//!
//! A seed decides everything: how many nodes there are, their timeouts, what the network and the disks do, what
//! breaks and when, what clients ask for. Each node is the real [`Replica`](tinyraftplus_replica::Replica) over
//! the real logs of [`tinyraftplus_log`]; only the disk, the network, the clock and the state machine
//! are made up. The same seed always gives the same run, so whatever is found can be looked at as often as
//! needed.
//!
//! A run has two phases. In the first, things break, and the checks look at every step that nothing wrong comes
//! of it. In the second all is mended, and within a stated time the cluster must work again.
//!
//! ```
//! use tinyraftplus_sim::{Settings, run};
//!
//! let first = run(7, &Settings::default());
//! assert_eq!(first.failure, None);
//! assert_eq!(first.hash, run(7, &Settings::default()).hash);
//! ```
#![forbid(unsafe_code)]

mod check;
mod counts;
mod driver;
mod fault;
mod faults;
mod less;
mod liveness;
mod lives;
mod machine;
mod many;
mod members;
mod network;
mod node;
mod observe;
mod orders;
mod profile;
mod rng;
mod rules;
mod run;
mod shrink;
mod snapshots;
mod trace;
mod words;
mod workload;
mod world;

pub use crate::check::Violation;
pub use crate::counts::{Count, Counts, Kind};
pub use crate::fault::Fault;
pub use crate::less::Less;
pub use crate::many::run_many;
pub use crate::run::{Run, Settings, Size, run};
pub use crate::shrink::{Shrunk, shrink};
