//! A replicated, durable log to embed.
//!
//! ```
//! use tinyraftplus::{MemLog, RaftNode};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
//! # runtime.block_on(async {
//! // A cluster of one, in memory. For three nodes, name three members and give each a transport.
//! let node = RaftNode::builder(1, [1]).log(|| MemLog::new(Default::default())).open().await?;
//! let appended = node.append("hello").await?;
//! assert_eq!(appended.seq.get(), 1); // 0 is the leader's own first entry
//! node.close().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! [`RaftNode`] is the handle of a node; [`NodeBuilder`] has its options. What is built on the log implements
//! [`StateMachine`]. Every error says with `effect()` whether anything happened.
//!
//! This crate is plumbing: one task that steps the replica, and threads for what may block. Decisions are made
//! in `tinyraftplus-replica`, consensus in `tinyraftplus-core`.
#![forbid(unsafe_code)]

mod advice;
mod builder;
mod clock;
mod driver;
mod entries;
mod error;
mod event;
mod leadership;
mod mailbox;
mod members;
mod names;
mod node;
mod open;
mod sender;
mod snapshot;
mod state_machine;
mod status;
mod threads;
mod writer;
mod writes;
mod writing;

pub use crate::advice::Advice;
pub use crate::builder::NodeBuilder;
pub use crate::entries::{Entries, Entry};
pub use crate::error::{
    AppendError, EntriesError, LeadershipError, MembersError, OpenError, ReadError, SnapshotError,
    StopReason,
};
pub use crate::event::{Event, Events, Next, Warning};
pub use crate::members::{Member, Members, Membership};
pub use crate::names::IntoNodeId;
pub use crate::node::{Appended, AppendedBatch, LocalRead, RaftNode, Read};
pub use crate::sender::Sent;
pub use crate::state_machine::{
    Applied, AsyncStateMachine, StateMachine, StateMachineError, StateSnapshot,
};
pub use crate::status::{Head, Peer, Status};
pub use bytes::Bytes;
pub use tinyraftplus_core::{
    EntryId, Lease, NodeId, NodeIdError, PlanError, QuorumRule, Role, RuleError, Rules, Seq, Term,
    TransferError,
    quorum::{
        CustomRule, CustomRules, Group, GroupError, Present, Quorums, Survives, Tolerance, Voter,
    },
};
pub use tinyraftplus_log::{
    Encoder, EncryptingEncoder, EntryKind, FsLog, Key, KeyError, Log, LogError, LogExt, LogOptions,
    MemLog, MultiFsLog, PlainEncoder, Recovery, SharedLog, TimeoutLog, Timeouts, XxHashEncoder,
};
pub use tinyraftplus_net::{
    ConnectionError, DecodeError, Endpoint, HandshakeError, InProcess, Inbox, NetEvent, TcpOptions,
    TcpStats, TcpTransport, Transport, Wire,
};
pub use tinyraftplus_replica::{
    ChangeError, Effect, Message, Refused, ReplicaOptions, SnapshotOptions, StartError, Unknown,
};

/// The consensus by itself, for programs with a clock and a disk of their own: [`Core::step`](core::Core::step) is all of it.
pub use tinyraftplus_core as core;
/// All of the log, which is a product of its own: inspection, encoders, a simulated disk, [`log_suite!`](log::log_suite).
pub use tinyraftplus_log as log;
/// All of the network: encrypted message pipes ([`listen`](net::listen), [`connect`](net::connect)) and streams.
pub use tinyraftplus_net as net;

/// What the README shows must compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
