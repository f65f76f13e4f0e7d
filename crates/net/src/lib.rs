//! Transports: how messages get from one node to another.
//!
//! A [`Transport`] never fails and never blocks. What it can't deliver it drops, and the protocol sends again;
//! so there is nothing a node could do wrong with it. [`InProcess`] joins the nodes of one process, [`TcpTransport`] those of
//! many machines, encrypted.
#![forbid(unsafe_code)]

mod door;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod in_process;
mod lanes;
mod pipe;
mod records;
mod session;
mod stream;
mod tcp;
mod wire;

use std::sync::Arc;

pub use crate::handshake::{HandshakeError, Versions};
pub use crate::in_process::{Endpoint, InProcess};
pub use crate::pipe::{
    Listener, MESSAGE_BYTES_MAX, Pipe, PipeReceiver, PipeSender, connect, listen,
};
pub use crate::records::ConnectionError;
pub use crate::stream::{DecryptingStream, EncryptingStream, StreamError};
pub use crate::tcp::{NetEvent, TcpOptions, TcpStats, TcpTransport};
pub use crate::wire::{DecodeError, Wire};
use tinyraftplus_core::quorum::CustomRule;

pub use tinyraftplus_core::NodeId;
pub use tinyraftplus_log::{Key, KeyError};
pub use tinyraftplus_replica::Message;

/// Carries messages away from a node.
pub trait Transport: Send + Sync + 'static {
    /// Sends, or drops: never fails, never blocks. One that blocks holds up its node and all calls on it; one
    /// that panics stops the node.
    fn send(&self, to: NodeId, message: Message);

    /// The longest message that it takes, encoded. A node whose batches could be longer is not opened: they would be committed by
    /// whoever got them by other means, and never get anywhere else.
    fn message_bytes_max(&self) -> u64 {
        u64::MAX
    }

    /// The node opens: what arrives for it goes to this inbox from now on.
    ///
    /// A transport that is sent to by other means (the program calls the node itself) has nothing to do here.
    fn attach(&self, _inbox: Arc<dyn Inbox>) {}

    /// The node closes: nothing is to be sent or delivered any more.
    fn detach(&self) {}
}

/// Takes messages for a node.
pub trait Inbox: Send + Sync + 'static {
    /// Whether there was room. Never blocks.
    fn deliver(&self, from: NodeId, message: Message) -> bool;

    /// The node.
    fn id(&self) -> NodeId;

    /// The custom rules that it can evaluate, in order: nodes with different ones do not connect.
    fn custom_rules(&self) -> Vec<CustomRule> {
        Vec::new()
    }

    /// Something happened to its connections.
    fn tell(&self, _event: NetEvent) {}
}

impl<F: Fn(NodeId, Message) + Send + Sync + 'static> Transport for F {
    fn send(&self, to: NodeId, message: Message) {
        self(to, message);
    }
}
