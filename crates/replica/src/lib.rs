//! A node without threads, files and sockets: consensus, log and state machine joined.
//!
//! The core decides what is committed. This crate decides everything else that must be right: which entries
//! fill a message, when the state machine sees what, which leader a call goes to, when it may go to another
//! one, and what its client is told. It is still synchronous and deterministic, so a simulator runs exactly
//! what production runs.
//!
//! A [`Happening`] goes into [`Replica::step`], [`Actions`] come out. A driver writes, sends, reads and applies
//! what they say, in the order that [`Actions`] describes, and tells the replica when it is done.
//!
//! What it promises to a call ([`Call`]):
//!
//! * It ends in exactly one [`Outcome`], at its deadline at the latest.
//! * An append enters the log at most once, however often messages are repeated or sent again.
//! * Appends of one node are committed in the order of their calls, across hops and leaders.
//! * `Refused` means that nothing happened and nothing will. When that can't be known, it says `Unknown`.
//! * A read sees everything that was committed when it began.
#![forbid(unsafe_code)]

mod applying;
mod cache;
mod calls;
mod convert;
mod io;
mod load;
mod members;
mod message;
mod options;
mod outcome;
mod reads;
mod replica;
mod routes;
mod sending;
mod serving;
mod snapshots;
mod status;
mod steering;

pub use crate::io::{
    Actions, Applied, Apply, Base, Call, CallId, Change, Event, Happening, Query, Request,
};
pub use crate::load::{LoadReply, LoadRequest, Want};
pub use crate::message::{
    Answer, Answers, ChangeAnswer, ChangeAsk, ChangeReply, ENTRIES_MAX, Forward, Inquire, Message,
    ROUTE_CALLS_MAX, ReadIndex, ReadIndexReply, Route, SnapshotAck, SnapshotChunk, SnapshotOffer,
    TransferAsk, TransferReply,
};
pub use crate::options::{ReplicaOptions, SnapshotOptions, StartError};
pub use crate::outcome::{ChangeError, Effect, Outcome, Refused, Unknown};
pub use crate::replica::Replica;
pub use crate::snapshots::{
    CHUNK_BYTES_MAX, Keeper, SnapshotId, SnapshotMeta, SnapshotNews, SnapshotWork,
};
pub use crate::status::Status;
