//! Raft consensus as a pure state machine.
//!
//! An [`Input`] goes in, an [`Output`] comes out. There is no disk, socket, clock, thread or randomness in
//! here, so the same inputs always give the same outputs, and production and simulation run the same code.
//!
//! One sentence is the whole contract: **everything in an [`Output`] may be done at once; what needs a write
//! to be durable is not listed until that write is confirmed; persist jobs run strictly in job order, the
//! rest in any order.**
//!
//! ```
//! use core::time::Duration;
//! use tinyraftplus_core::{Core, Identity, Input, Member, NodeId, Options, Restored, Role, Time};
//!
//! // A cluster of one forms and elects itself; each step waits for the one write before it.
//! let id = NodeId::new("a").expect("a short name");
//! let options = Options::new(id, vec![id], 7);
//! let mut core = Core::<&'static str>::new(options, Restored::empty(Identity::new(1)), Time::ZERO)
//!     .expect("consistent options");
//! let mut now = Time::ZERO;
//! while core.role() != Role::Leader {
//!     now = core.wake_at().max(now);
//!     let mut output = core.step(now, Input::Wake);
//!     while let Some(job) = output.persist.take() {
//!         output = core.step(now, Input::Persisted { job: job.job });
//!     }
//! }
//! assert!(now < Time::ZERO + Duration::from_secs(5));
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod change;
mod config;
mod core;
mod election;
mod electorate;
mod follower;
mod forming;
mod ids;
mod io;
mod jobs;
mod leader;
mod lease;
mod marks;
mod message;
mod options;
mod plan;
pub mod planted;
mod priority;
mod progress;
pub mod quorum;
mod reads;
mod rising;
mod rng;
mod snapshots;
mod space;
mod steering;
mod terms;
mod transfer;

pub use crate::config::{
    Configuration, ConfigurationError, Configurations, Member, Membership, Placed,
};
pub use crate::core::{Core, Restored, Role};
pub use crate::ids::{EntryId, HardState, Identity, NodeId, NodeIdError, Seq, Term, Ticket, Time};
pub use crate::io::{
    Entry, EntryBody, Event, Input, Load, Loaded, Output, Persist, Proposal, Refusal, Resolution,
    Span, Transmit,
};
pub use crate::lease::Lease;
pub use crate::message::{Message, MessageBody};
pub use crate::options::{Options, OptionsError};
pub use crate::plan::{ChangeMembers, MemberSpec, Plan, PlanError};
pub use crate::progress::PeerStatus;
pub use crate::quorum::{QuorumRule, RuleError, Rules};
pub use crate::rising::Rising;
pub use crate::terms::{TermRun, Terms};
pub use crate::transfer::TransferError;
