//! What goes wrong in a round.

use std::fmt;

use rustix::process::Signal;

use crate::cluster::{Cluster, IDS};
use crate::error::Error;
use crate::rng::Rng;

/// A kind of fault.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, clap::ValueEnum)]
pub(crate) enum Kind {
    /// kill -9 of one node
    KillOne,
    /// kill -9 of two nodes
    KillTwo,
    /// kill -9 of all nodes
    KillAll,
    /// SIGSTOP of one node, then SIGCONT
    StopOne,
    /// SIGSTOP of two nodes, then SIGCONT
    StopTwo,
    /// One node is off the network.
    Isolate,
    /// Two nodes can't reach each other, and both reach the third.
    Part,
    /// One node hears everybody, and nobody hears it.
    Mute,
    /// Everybody hears one node, and it hears nobody.
    Deaf,
    /// One node can't reach one other, which reaches it.
    OneWay,
}

impl Kind {
    pub(crate) const ALL: [Self; 10] = [
        Self::KillOne,
        Self::KillTwo,
        Self::KillAll,
        Self::StopOne,
        Self::StopTwo,
        Self::Isolate,
        Self::Part,
        Self::Mute,
        Self::Deaf,
        Self::OneWay,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::KillOne => "kill one",
            Self::KillTwo => "kill two",
            Self::KillAll => "kill all",
            Self::StopOne => "stop one",
            Self::StopTwo => "stop two",
            Self::Isolate => "isolate",
            Self::Part => "part two",
            Self::Mute => "mute",
            Self::Deaf => "deaf",
            Self::OneWay => "one way",
        }
    }
}

/// Deals kinds of faults so that each comes as often as the others.
pub(crate) struct Deck {
    rng: Rng,
    all: Vec<Kind>,
    left: Vec<Kind>,
}

impl Deck {
    /// Of these kinds; of all if there are none.
    pub(crate) fn new(rng: Rng, only: &[Kind]) -> Self {
        let all = if only.is_empty() { Kind::ALL.to_vec() } else { only.to_vec() };
        Self { rng, all, left: Vec::new() }
    }

    /// The next fault. The leader is hit more often than chance would.
    pub(crate) fn next(&mut self, leader: Option<u64>) -> Fault {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
        }
        let kind = self.rng.pick(&self.left).unwrap_or(Kind::KillOne);
        self.left.retain(|&other| other != kind);
        let mut nodes = Vec::new();
        if let Some(leader) = leader.filter(|_| self.rng.chance(60)) {
            nodes.push(leader);
        }
        while nodes.len() < IDS.len() {
            let left: Vec<u64> = IDS.into_iter().filter(|id| !nodes.contains(id)).collect();
            nodes.extend(self.rng.pick(&left));
        }
        Fault { kind, nodes, leader }
    }
}

/// A fault of some nodes: those that it hits come first.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    nodes: Vec<u64>,
    leader: Option<u64>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        for id in self.hit() {
            write!(f, " {id}{}", if self.leader == Some(*id) { " (leader)" } else { "" })?;
        }
        Ok(())
    }
}

impl Fault {
    fn hit(&self) -> &[u64] {
        let count = match self.kind {
            Kind::KillOne | Kind::StopOne | Kind::Isolate | Kind::Mute | Kind::Deaf => 1,
            Kind::KillTwo | Kind::StopTwo | Kind::Part | Kind::OneWay => 2,
            Kind::KillAll => 3,
        };
        self.nodes.get(..count).unwrap_or_default()
    }

    fn spared(&self) -> &[u64] {
        self.nodes.get(self.hit().len()..).unwrap_or_default()
    }

    /// Makes it happen.
    pub(crate) async fn inject(&self, cluster: &Cluster) -> Result<(), Error> {
        let network = cluster.network();
        match (self.kind, self.hit()) {
            (Kind::KillOne | Kind::KillTwo | Kind::KillAll, hit) => {
                for &id in hit {
                    cluster.kill(id).await?;
                }
            }
            (Kind::StopOne | Kind::StopTwo, hit) => {
                for &id in hit {
                    cluster.signal(id, Signal::STOP)?;
                }
            }
            (Kind::Isolate, hit) => {
                for &id in hit {
                    network.isolate(id, self.spared()).await?;
                }
            }
            (Kind::Mute, hit) => {
                for (&id, &other) in
                    hit.iter().flat_map(|id| self.spared().iter().map(move |it| (id, it)))
                {
                    network.cut(id, other).await?;
                }
            }
            (Kind::Deaf, hit) => {
                for (&id, &other) in
                    hit.iter().flat_map(|id| self.spared().iter().map(move |it| (id, it)))
                {
                    network.cut(other, id).await?;
                }
            }
            (Kind::Part | Kind::OneWay, hit) => {
                if let &[one, other] = hit {
                    network.cut(one, other).await?;
                    if self.kind == Kind::Part {
                        network.cut(other, one).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Mends it. Says whether it was seen to have happened.
    pub(crate) async fn heal(&self, cluster: &mut Cluster) -> Result<bool, Error> {
        match self.kind {
            Kind::KillOne | Kind::KillTwo | Kind::KillAll => {
                // That the processes ended by this signal was seen when they were killed.
                cluster.restart().await?;
                Ok(true)
            }
            Kind::StopOne | Kind::StopTwo => {
                let mut stood = true;
                for &id in self.hit() {
                    stood &= cluster.node(id)?.is_stopped();
                    cluster.signal(id, Signal::CONT)?;
                }
                Ok(stood)
            }
            Kind::Isolate | Kind::Part | Kind::Mute | Kind::Deaf | Kind::OneWay => {
                cluster.network().heal().await
            }
        }
    }
}
