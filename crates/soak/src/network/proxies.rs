//! Proxies on the loopback that hold back what they are given while a link is cut, as a network does that loses every packet
//! and is mended later.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

use crate::error::Error;

/// How many connections one proxy has at once; more wait.
const CONNECTIONS_MAX: usize = 64;

/// A proxy for each way from one node to another. Nodes send over connections of their own only, so one that is cut
/// is cut one way.
pub(crate) struct Proxies {
    ways: BTreeMap<(u64, u64), Way>,
}

struct Way {
    address: SocketAddr,
    to: watch::Sender<Option<String>>,
    link: Arc<Link>,
    task: AbortHandle,
}

struct Link {
    is_cut: watch::Sender<bool>,
    /// How often something was held back.
    held: AtomicU64,
}

impl Proxies {
    pub(super) async fn new(ids: &[u64]) -> Result<Self, Error> {
        let mut ways = BTreeMap::new();
        for &from in ids {
            for &to in ids.iter().filter(|&&to| to != from) {
                let way = Way::new().await.map_err(|error| Error::cause("no proxy", &error))?;
                ways.insert((from, to), way);
            }
        }
        Ok(Self { ways })
    }

    pub(super) fn address(&self, from: u64, to: u64) -> Option<String> {
        self.ways.get(&(from, to)).map(|way| way.address.to_string())
    }

    pub(super) fn moved(&self, id: u64, address: &str) {
        for (_, way) in self.ways.iter().filter(|((_, to), _)| *to == id) {
            way.to.send_replace(Some(address.to_owned()));
        }
    }

    pub(super) fn cut(&self, from: u64, to: u64) {
        if let Some(way) = self.ways.get(&(from, to)) {
            way.link.held.store(0, Ordering::Relaxed);
            way.link.is_cut.send_replace(true);
        }
    }

    /// Says whether something was held back.
    pub(super) fn heal(&self) -> bool {
        let mut cut = self.ways.values().filter(|way| *way.link.is_cut.borrow());
        let held = cut.any(|way| way.link.held.load(Ordering::Relaxed) > 0);
        for way in self.ways.values() {
            way.link.is_cut.send_replace(false);
        }
        held
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        for way in self.ways.values() {
            way.task.abort();
        }
    }
}

impl Way {
    async fn new() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (to, to_seen) = watch::channel(None);
        let link = Arc::new(Link { is_cut: watch::channel(false).0, held: AtomicU64::new(0) });
        let task = tokio::spawn(accept(listener, to_seen, Arc::clone(&link))).abort_handle();
        Ok(Self { address, to, link, task })
    }
}

async fn accept(listener: TcpListener, to: watch::Receiver<Option<String>>, link: Arc<Link>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((from, _)) = listener.accept().await else { return };
        let (to, link) = (to.clone(), Arc::clone(&link));
        tokio::spawn(async move {
            relay(from, to, link).await;
            drop(place);
        });
    }
}

async fn relay(from: TcpStream, mut to: watch::Receiver<Option<String>>, link: Arc<Link>) {
    if !link.passes().await {
        return;
    }
    let Some(to) = to.borrow_and_update().clone() else { return };
    let Ok(to) = TcpStream::connect(to).await else { return };
    if from.set_nodelay(true).is_err() || to.set_nodelay(true).is_err() {
        return;
    }
    let (from_read, from_write) = from.into_split();
    let (to_read, to_write) = to.into_split();
    tokio::select! {
        () = copy(from_read, to_write, &link) => {}
        () = copy(to_read, from_write, &link) => {}
    }
}

impl Link {
    /// Waits until the link is whole. `false` if that will never be.
    async fn passes(&self) -> bool {
        let mut is_cut = self.is_cut.subscribe();
        if *is_cut.borrow_and_update() {
            self.held.fetch_add(1, Ordering::Relaxed);
        }
        is_cut.wait_for(|is_cut| !is_cut).await.is_ok()
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, link: &Link) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let part = bytes.get(..count).unwrap_or_default();
        if !link.passes().await || to.write_all(part).await.is_err() {
            return;
        }
    }
    // A cut link carries no end of a connection either.
    link.passes().await;
}
