//! What is between the processes, and how it is cut.

mod namespaces;
mod proxies;

use std::ffi::OsStr;
use std::path::PathBuf;

use tokio::process::Command as Spawn;

use self::namespaces::Namespaces;
use self::proxies::Proxies;
use crate::error::Error;

/// What is between the processes.
pub(crate) enum Network {
    /// The loopback, as it is: nothing can be cut.
    Direct,
    /// The loopback, with a proxy on each way from one node to another.
    Proxies(Proxies),
    /// A network namespace for each node, joined by a bridge.
    Namespaces(Namespaces),
}

impl Network {
    pub(crate) async fn proxies(ids: &[u64]) -> Result<Self, Error> {
        Ok(Self::Proxies(Proxies::new(ids).await?))
    }

    pub(crate) async fn namespaces(ids: &[u64]) -> Result<Self, Error> {
        Ok(Self::Namespaces(Namespaces::new(ids).await?))
    }

    /// What starts this program as a node.
    pub(crate) fn spawn(&self, id: u64) -> Result<Spawn, Error> {
        let program = std::env::current_exe()
            .map_err(|error| Error::cause("can't find the own program", &error))?;
        let mut spawn = match self {
            Self::Direct | Self::Proxies(_) => Spawn::new(program),
            Self::Namespaces(namespaces) => in_namespace(&namespaces.name(id), program),
        };
        spawn.arg("node");
        Ok(spawn)
    }

    /// Where a node is told to listen.
    pub(crate) fn listen(&self, id: u64) -> String {
        match self {
            Self::Direct | Self::Proxies(_) => "127.0.0.1:0".to_owned(),
            Self::Namespaces(_) => namespaces::address(id),
        }
    }

    /// A node listens there from now on.
    pub(crate) fn moved(&self, id: u64, address: &str) {
        if let Self::Proxies(proxies) = self {
            proxies.moved(id, address);
        }
    }

    /// Where one node finds another that listens there.
    pub(crate) fn address(&self, from: u64, to: u64, listens: &str) -> String {
        match self {
            Self::Proxies(proxies) => proxies.address(from, to).unwrap_or_else(|| listens.into()),
            Self::Direct | Self::Namespaces(_) => listens.to_owned(),
        }
    }

    /// Nothing gets from one node to the other; the way back is not touched.
    pub(crate) async fn cut(&self, from: u64, to: u64) -> Result<(), Error> {
        match self {
            Self::Direct => Err(Error::usage("this network can't be cut")),
            Self::Proxies(proxies) => {
                proxies.cut(from, to);
                Ok(())
            }
            Self::Namespaces(namespaces) => namespaces.cut(from, to).await,
        }
    }

    /// Takes a node off the network, as when its cable is pulled.
    pub(crate) async fn isolate(&self, id: u64, others: &[u64]) -> Result<(), Error> {
        if let Self::Namespaces(namespaces) = self {
            return namespaces.unplug(id).await;
        }
        for &other in others {
            self.cut(id, other).await?;
            self.cut(other, id).await?;
        }
        Ok(())
    }

    /// Mends everything. Says whether the cuts were seen to do something.
    pub(crate) async fn heal(&self) -> Result<bool, Error> {
        match self {
            Self::Direct => Ok(false),
            Self::Proxies(proxies) => Ok(proxies.heal()),
            Self::Namespaces(namespaces) => namespaces.heal().await,
        }
    }
}

/// `ip` becomes the program, so its process is the program's.
fn in_namespace(name: &str, program: PathBuf) -> Spawn {
    let mut spawn = Spawn::new("ip");
    spawn.args(["netns", "exec", name].map(OsStr::new)).arg(program);
    spawn
}
