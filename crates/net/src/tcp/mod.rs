//! Nodes over TCP: encrypted, each side proves that it has the key.
//!
//! Each node connects to each other one, and sends over its own connections only; over those that others made it
//! receives. So no two sides have to agree on whose connection counts. The newest connection of a name replaces the one
//! before, once it has proved to be no recording.

mod accept;
mod event;
mod link;
mod options;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tinyraftplus_core::NodeId;
use tinyraftplus_log::Key;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use self::event::Reporter;
use self::link::Link;
use crate::handshake::{Hello, Purpose};
use crate::wire::{encode, lane};
use crate::{Inbox, Message, Transport};

pub use self::event::{NetEvent, TcpStats};
pub use self::options::TcpOptions;

/// More peers than any cluster has.
const PEERS_MAX: usize = 512;

/// Joins nodes over TCP. Clones are the same transport.
///
/// All traffic is encrypted, and both sides prove that they have the key (Noise, `NNpsk0`). **Whoever has the key is trusted
/// with every name**: names guard against mistakes, the key against strangers.
///
/// It listens where it is told to and nowhere else. Nodes find each other by the addresses that are given here; a
/// node whose name is an address (`"db-1.example.org:7000"`) needs none. Connections are made when there is something
/// to send, and made again when they end, after waits that grow. What can't be sent is dropped and counted:
/// the protocol sends again.
///
/// ```
/// use tinyraftplus_net::{Key, NodeId, TcpTransport};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let key = Key::generate()?; // the same for all nodes: from a key file, see `Key::from_hex`
/// let peers = [(NodeId::from(2), "10.0.0.2:7000"), (NodeId::from(3), "10.0.0.3:7000")];
/// let transport = TcpTransport::bind("127.0.0.1:0", &key, &peers).await?;
/// println!("listening on {}", transport.local_addr());
/// // RaftNode::builder(1, [1, 2, 3]).transport(transport) ..
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone)]
#[doc(alias = "tcpServer")]
#[doc(alias = "tcpClient")]
pub struct TcpTransport {
    owner: Arc<Owner>,
}

/// The last transport that goes takes the connections with it.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.detach();
    }
}

struct Shared {
    key: Key,
    options: TcpOptions,
    address: SocketAddr,
    runtime: Handle,
    reporter: Reporter,
    state: Mutex<State>,
}

struct State {
    /// Taken by whom the node is attached to; gone once it is detached.
    listener: Option<Arc<TcpListener>>,
    addresses: BTreeMap<NodeId, String>,
    node: Option<Attached>,
}

/// While a node is open.
struct Attached {
    inbox: Arc<dyn Inbox>,
    hello: Hello,
    accepting: AbortHandle,
    /// The ways to others, each with the task that keeps it up.
    links: BTreeMap<NodeId, (Arc<Link>, AbortHandle)>,
    /// The connections that others made.
    receiving: BTreeMap<NodeId, AbortHandle>,
}

impl TcpTransport {
    /// Listens on this address. The first node that is opened with it gets what arrives.
    ///
    /// Needs a tokio runtime with I/O and time, which it uses from then on.
    ///
    /// # Errors
    ///
    /// If the address can't be used: what the operating system says.
    pub async fn bind(
        address: impl ToSocketAddrs,
        key: &Key,
        peers: &[(NodeId, &str)],
    ) -> io::Result<Self> {
        Self::bind_with(address, key, peers, TcpOptions::default()).await
    }

    /// The same with other limits.
    ///
    /// # Errors
    ///
    /// If the address can't be used, or an option makes no sense.
    pub async fn bind_with(
        address: impl ToSocketAddrs,
        key: &Key,
        peers: &[(NodeId, &str)],
        options: TcpOptions,
    ) -> io::Result<Self> {
        options.check().map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        let listener = TcpListener::bind(address).await?;
        let addresses = peers.iter().map(|&(id, address)| (id, address.to_owned())).collect();
        let shared = Shared {
            key: Purpose::Nodes.key(key),
            options,
            address: listener.local_addr()?,
            runtime: Handle::current(),
            reporter: Reporter::default(),
            state: Mutex::new(State { listener: Some(listener.into()), addresses, node: None }),
        };
        Ok(Self { owner: Arc::new(Owner(Arc::new(shared))) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.owner.0.address
    }

    /// Where that node is from now on. Connections that stand are left alone.
    pub fn set_peer(&self, id: NodeId, address: impl Into<String>) {
        self.owner.0.state().addresses.insert(id, address.into());
    }

    /// What it did so far.
    pub fn stats(&self) -> TcpStats {
        let state = self.owner.0.state();
        let links = state.node.iter().flat_map(|node| node.links.values());
        let waiting = links.map(|(link, _)| link.bytes() as u64).sum();
        TcpStats { waiting, ..self.owner.0.reporter.stats() }
    }
}

impl Shared {
    // A panic elsewhere leaves nothing half done in here.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a node is; one whose name is an address is there.
    fn address_of(&self, id: NodeId) -> Option<String> {
        let known = self.state().addresses.get(&id).cloned();
        known.or_else(|| {
            let is_address = id
                .as_str()
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            is_address.then(|| id.as_str().to_owned())
        })
    }

    /// The way to a peer, with the task that keeps it up.
    fn link(self: &Arc<Self>, to: NodeId) -> Option<Arc<Link>> {
        let mut state = self.state();
        let node = state.node.as_mut()?;
        if let Some((link, _)) = node.links.get(&to) {
            return Some(Arc::clone(link));
        }
        if node.links.len() >= PEERS_MAX {
            // Members come and go, and each may have a new name.
            let used = node.links.iter().map(|(&id, (link, _))| (link.used_at(), id));
            let oldest = used.min().and_then(|(_, id)| node.links.remove(&id));
            if let Some((_, running)) = oldest {
                running.abort();
            }
        }
        let link = Arc::new(Link::new(to, &self.options, Arc::clone(&node.inbox)));
        let hello = Hello { to: Some(to), ..node.hello.clone() };
        let running = link::run(Arc::clone(self), Arc::clone(&link), hello);
        let running = self.runtime.spawn(running).abort_handle();
        node.links.insert(to, (Arc::clone(&link), running));
        Some(link)
    }
}

impl Shared {
    /// The address is free again when this returns; the tasks end as soon as the runtime gets to them.
    fn detach(&self) {
        let (node, listener) = {
            let mut state = self.state();
            (state.node.take(), state.listener.take())
        };
        if let Some(node) = node {
            node.accepting.abort();
            node.links.values().for_each(|(_, running)| running.abort());
            node.receiving.values().for_each(AbortHandle::abort);
        }
        drop(listener);
    }
}

impl Transport for TcpTransport {
    fn send(&self, to: NodeId, message: Message) {
        let counts = &self.owner.0.reporter;
        let Some(link) = self.owner.0.link(to).filter(|link| link.is_up()) else {
            counts.dropped(1);
            return;
        };
        counts.dropped(link.push(lane(&message), encode(&message)));
    }

    fn message_bytes_max(&self) -> u64 {
        self.owner.0.options.message_bytes_max as u64
    }

    fn attach(&self, inbox: Arc<dyn Inbox>) {
        let shared = &self.owner.0;
        let mut state = shared.state();
        let listener = state.listener.clone().filter(|_| state.node.is_none());
        let Some(listener) = listener else {
            drop(state);
            inbox.tell(NetEvent::Used);
            return;
        };
        let hello = Hello {
            id: Some(inbox.id()),
            to: None,
            cluster: shared.options.cluster.clone(),
            rules: inbox.custom_rules(),
            takes: shared.options.message_bytes_max as u64,
        };
        let weak = Arc::downgrade(shared);
        let accepting = accept::run(weak, Arc::downgrade(&listener), hello.clone());
        let accepting = shared.runtime.spawn(accepting).abort_handle();
        state.node = Some(Attached {
            inbox,
            hello,
            accepting,
            links: BTreeMap::new(),
            receiving: BTreeMap::new(),
        });
    }

    fn detach(&self) {
        self.owner.0.detach();
    }
}

/// Records leave at once, and the kernel takes no more of them than it can send soon: what waits in there can't be
/// overtaken.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    socket.set_send_buffer_size(4 * UNSENT_BYTES_MAX as usize)?;
    Ok(())
}

/// Two records.
const UNSENT_BYTES_MAX: u32 = 128 << 10;

#[cfg(test)]
mod tests;
