//! Network namespaces, one a node, joined by a bridge in one of its own: a real network that loses packets, of which the host
//! sees nothing. Needs root and `ip` (iproute2).

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::process::{Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::process::Command as Spawn;
use tokio::time::timeout;

use crate::error::Error;

/// How long one `ip` may take.
const IP_TIME: Duration = Duration::from_secs(10);
/// What all names begin with; the process that made them follows.
const PREFIX: &str = "tinyraftplus-soak-";
/// Where nodes listen, each in a namespace of its own.
const PORT: u16 = 7000;
/// A hardware address that nobody has. Frames to it reach everybody, and everybody drops them.
const NOBODY: &str = "02:00:00:00:00:ff";

/// A network of namespaces.
pub(crate) struct Namespaces {
    prefix: String,
    ids: Vec<u64>,
    cuts: Mutex<Cuts>,
}

#[derive(Default)]
struct Cuts {
    unplugged: BTreeSet<u64>,
    ways: BTreeSet<(u64, u64)>,
}

impl Namespaces {
    pub(super) async fn new(ids: &[u64]) -> Result<Self, Error> {
        remove_left_over().await?;
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let this = Self { prefix, ids: ids.to_vec(), cuts: Mutex::default() };
        this.make().await?;
        Ok(this)
    }

    async fn make(&self) -> Result<(), Error> {
        let switch = self.switch();
        ip(&["netns", "add", &switch]).await?;
        ip(&["-n", &switch, "link", "add", "bridge", "type", "bridge"]).await?;
        ip(&["-n", &switch, "link", "set", "bridge", "up"]).await?;
        for &id in &self.ids {
            let (name, port, address) = (self.name(id), port(id), host(id));
            ip(&["netns", "add", &name]).await?;
            let (plug, peer) = (["link", "add", &port, "type", "veth"], ["peer", "name", "net"]);
            ip(&[&["-n", &switch][..], &plug, &peer, &["netns", &name]].concat()).await?;
            ip(&["-n", &switch, "link", "set", &port, "master", "bridge", "up"]).await?;
            ip(&["-n", &name, "address", "add", &format!("{address}/24"), "dev", "net"]).await?;
            ip(&["-n", &name, "link", "set", "lo", "up"]).await?;
            ip(&["-n", &name, "link", "set", "net", "up"]).await?;
        }
        Ok(())
    }

    pub(super) fn name(&self, id: u64) -> String {
        format!("{}{id}", self.prefix)
    }

    fn switch(&self) -> String {
        format!("{}switch", self.prefix)
    }

    /// Takes a node's plug out of the bridge.
    pub(super) async fn unplug(&self, id: u64) -> Result<(), Error> {
        self.change(|cuts| cuts.unplugged.insert(id));
        ip(&["-n", &self.switch(), "link", "set", &port(id), "down"]).await.map(drop)
    }

    /// What one node sends to another goes to nobody.
    pub(super) async fn cut(&self, from: u64, to: u64) -> Result<(), Error> {
        self.change(|cuts| cuts.ways.insert((from, to)));
        let (name, to) = (self.name(from), host(to));
        let neighbor = ["neighbor", "replace", &to, "lladdr", NOBODY];
        ip(&[&["-n", &name][..], &neighbor, &["nud", "permanent", "dev", "net"]].concat())
            .await
            .map(drop)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Cuts) -> T) -> T {
        change(&mut self.cuts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says whether each cut was still in force.
    pub(super) async fn heal(&self) -> Result<bool, Error> {
        let Cuts { unplugged, ways } = self.change(std::mem::take);
        let mut held = !unplugged.is_empty() || !ways.is_empty();
        for id in unplugged {
            let switch = self.switch();
            let seen = ip(&["-n", &switch, "-oneline", "link", "show", &port(id)]).await?;
            held &= seen.contains("state DOWN");
            ip(&["-n", &switch, "link", "set", &port(id), "up"]).await?;
        }
        for (from, to) in ways {
            let (name, to) = (self.name(from), host(to));
            let seen = ip(&["-n", &name, "neighbor", "show", &to]).await?;
            held &= seen.contains(NOBODY);
            ip(&["-n", &name, "neighbor", "delete", &to, "dev", "net"]).await?;
        }
        Ok(held)
    }
}

/// With a namespace goes all that is in it, once its processes have gone. However the harness ends, this is done.
impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in self.ids.iter().map(|&id| self.name(id)).chain([self.switch()]) {
            let mut delete = std::process::Command::new("ip");
            delete.args(["netns", "delete", &name]).stderr(Stdio::null()).process_group(0);
            // Without an answer: it may not have been made yet.
            let _ = delete.status();
        }
    }
}

/// Where a node listens, in its namespace.
pub(super) fn address(id: u64) -> String {
    format!("{}:{PORT}", host(id))
}

fn host(id: u64) -> String {
    format!("10.0.0.{id}")
}

fn port(id: u64) -> String {
    format!("port{id}")
}

/// Removes what a harness that was killed left behind.
async fn remove_left_over() -> Result<(), Error> {
    let listed = ip(&["netns", "list"]).await?;
    for name in listed.lines().filter_map(|line| line.split_whitespace().next()) {
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let is_gone = |pid: &str| !std::path::Path::new("/proc").join(pid).exists();
        if maker.is_some_and(is_gone) {
            ip(&["netns", "delete", name]).await?;
        }
    }
    Ok(())
}

/// Runs `ip` and returns what it printed.
async fn ip(arguments: &[&str]) -> Result<String, Error> {
    let what = format!("ip {}", arguments.join(" "));
    let mut spawn = Spawn::new("ip");
    // In a group of its own, so that Ctrl-C does not kill the one that cleans up.
    spawn.args(arguments).process_group(0).kill_on_drop(true);
    let output = timeout(IP_TIME, spawn.output())
        .await
        .map_err(|_| Error::failed(format_args!("{what}: not done within {IP_TIME:?}")))?;
    let Output { status, stdout, stderr } = output
        .map_err(|error| Error::cause(format_args!("{what} (is iproute2 installed?)"), &error))?;
    if !status.success() {
        let why = String::from_utf8_lossy(&stderr);
        return Err(Error::failed(format_args!("{what}: {} (needs root)", why.trim())));
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
