//! The nodes that one process of a row hosts.

use super::check::Held;
use super::load;
use super::options::LogKind;
use super::protocol::{Answer, CaughtUp, Command, Load, Setup, Used};
use super::stamps::Stamps;
use super::usage;
use crate::error::explain;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tinyraftplus::{
    EntryKind, FsLog, InProcess, Key, LogOptions, MemLog, NodeBuilder, NodeId, RaftNode, Seq,
    TcpTransport,
};
use tinyraftplus_log::{EncryptingEncoder, MultiFsLog};

/// More than any of it takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);
/// A follower that is far behind may need longer than that.
const CATCH_UP: Duration = Duration::from_mins(5);

/// Nodes of one cluster, with what belongs to them. Their logs go with it.
pub(super) struct Host {
    setup: Setup,
    key: Key,
    dir: TempDir,
    wire: InProcess,
    sockets: BTreeMap<u64, TcpTransport>,
    nodes: BTreeMap<u64, RaftNode>,
    /// How often clients ran.
    runs: u64,
    /// How long anything may take that is no measurement.
    patience: Duration,
}

impl Host {
    pub(super) fn new(setup: Setup) -> Result<Self, String> {
        let key = Key::from_hex(&setup.key).map_err(|error| explain("no key", &error))?;
        let dir = tempfile::Builder::new().prefix("nodes-").tempdir_in(&setup.dir);
        let dir = dir.map_err(|error| explain("can't make a directory for the logs", &error))?;
        Ok(Self {
            setup,
            key,
            dir,
            wire: InProcess::new(),
            sockets: BTreeMap::new(),
            nodes: BTreeMap::new(),
            runs: 0,
            patience: PATIENCE,
        })
    }

    /// Does as it is told.
    pub(super) async fn obey(&mut self, command: Command) -> Answer {
        let done = match command {
            Command::Bind { node } => self.bind(node).await,
            Command::Peers { addresses } => {
                self.meet(&addresses);
                Ok(Answer::Done)
            }
            Command::Open { node } => self.open(node).await.map(|()| Answer::Done),
            Command::Leader { node } => self.leader(node).await,
            Command::Run(load) => self.run(load).await,
            Command::ForgetPeak => {
                usage::forget_peak();
                Ok(Answer::Done)
            }
            Command::Usage => Ok(Answer::Used(self.used())),
            Command::Hold { node, end, payload } => self.hold(node, end, payload).await,
            Command::Close { node } => self.close(node).await,
            Command::CatchUp { node, end } => self.catch_up(node, end).await,
        };
        done.unwrap_or_else(|what| Answer::Failed { what })
    }

    /// Closes all nodes and removes their logs.
    pub(super) async fn end(mut self) {
        while let Some((_, node)) = self.nodes.pop_first() {
            // Whoever cared has read what it holds; kept open it would write on.
            let _ = node.close().await;
        }
    }

    /// Stops all nodes as they are and removes their logs.
    pub(super) async fn abandon(mut self) {
        while let Some((_, node)) = self.nodes.pop_first() {
            node.kill().await;
        }
    }

    async fn bind(&mut self, node: u64) -> Result<Answer, String> {
        if !self.setup.tcp {
            return Ok(Answer::Bound { address: None });
        }
        let socket = TcpTransport::bind("127.0.0.1:0", &self.key, &[]).await;
        let socket = socket.map_err(|error| explain("can't listen", &error))?;
        let address = Some(socket.local_addr().to_string());
        self.sockets.insert(node, socket);
        Ok(Answer::Bound { address })
    }

    fn meet(&self, addresses: &BTreeMap<u64, String>) {
        for socket in self.sockets.values() {
            for (node, address) in addresses {
                socket.set_peer(NodeId::from(*node), address.clone());
            }
        }
    }

    async fn open(&mut self, number: u64) -> Result<(), String> {
        let node = RaftNode::builder(number, 1..=self.setup.nodes);
        let node = match self.sockets.get(&number) {
            Some(socket) => node.transport(socket.clone()),
            None => node.transport(self.wire.endpoint(NodeId::from(number))),
        };
        let node = self.with_log(node, number).open().await;
        let node =
            node.map_err(|error| explain(format_args!("node {number} did not start"), &error))?;
        self.nodes.insert(number, node);
        Ok(())
    }

    fn with_log(&self, node: NodeBuilder, number: u64) -> NodeBuilder {
        let mut options = LogOptions::default();
        if self.setup.encrypt {
            options.encoder = Arc::new(EncryptingEncoder::new(&self.key));
        }
        let (dir, name) = (self.dir.path().to_owned(), format!("node-{number}"));
        match self.setup.log {
            LogKind::Mem => node.log(move || MemLog::new(options)),
            LogKind::Fs => node.log(move || Ok(FsLog::open(dir, &name, options)?.0)),
            LogKind::Multi => node.log(move || Ok(MultiFsLog::open(dir, &name, options)?.0)),
        }
    }

    fn node(&self, number: u64) -> Result<&RaftNode, String> {
        self.nodes.get(&number).ok_or_else(|| format!("node {number} is not open here"))
    }

    async fn leader(&self, number: u64) -> Result<Answer, String> {
        let found = within(self.patience, self.node(number)?.await_committed_leader()).await;
        let leader =
            found.ok_or_else(|| format!("node {number} saw no leader for {:?}", self.patience))?;
        let leader =
            leader.map_err(|why| explain(format_args!("node {number} has no leader"), &why))?;
        let node = leader.as_str().parse().map_err(|_| format!("{leader} leads, a stranger"))?;
        Ok(Answer::Leader { node })
    }

    async fn run(&mut self, load: Load) -> Result<Answer, String> {
        let number = self.runs;
        self.runs += 1;
        load::run(self.node(load.node)?, load, number).await.map(Answer::Ran)
    }

    fn used(&self) -> Used {
        let status = || self.nodes.values().map(RaftNode::status);
        Used {
            cpu_seconds: usage::cpu_time().map(|time| time.as_secs_f64()),
            memory: usage::memory(),
            peak_memory: usage::peak_memory(),
            syncs: status().map(|it| it.syncs).sum(),
            term: status().map(|it| it.term.get()).max().unwrap_or_default(),
        }
    }

    /// Reads a node's log from its start. One that does not get there in time holds what it has.
    async fn hold(&self, number: u64, end: u64, payload: u64) -> Result<Answer, String> {
        let node = self.node(number)?;
        let known = |status: &tinyraftplus::Status| status.committed.min(status.durable);
        let end = Seq::new(end);
        let reached = within(self.patience, node.wait(|status| known(status) >= end)).await;
        if let Some(Err(why)) = reached {
            return Err(explain(format_args!("node {number} has stopped"), &why));
        }
        let end = known(&node.status()).min(end);
        let stamps = Stamps::new(payload);
        let mut held = Held::nothing(number);
        let mut entries = node.entries(..end);
        while let Some(entry) = entries.next().await {
            let entry = entry.map_err(|why| {
                explain(format_args!("can't read the log of node {number}"), &why)
            })?;
            held.add_id(entry.term.get(), entry.seq.get());
            match (entry.kind, stamps.of(&entry.payload)) {
                (EntryKind::Payload, Some(stamp)) => held.tally.add(entry.seq.get(), stamp),
                (EntryKind::Payload, None) => held.strange += 1,
                (EntryKind::Noop | EntryKind::Configuration, _) => {}
            }
        }
        Ok(Answer::Held(held))
    }

    async fn close(&mut self, number: u64) -> Result<Answer, String> {
        self.node(number)?;
        if let Some(node) = self.nodes.remove(&number) {
            let closed = node.close().await;
            closed.map_err(|why| explain(format_args!("node {number} did not close"), &why))?;
        }
        self.sockets.remove(&number);
        Ok(Answer::Done)
    }

    async fn catch_up(&mut self, number: u64, end: u64) -> Result<Answer, String> {
        let began = Instant::now();
        self.open(number).await?;
        let node = self.node(number)?;
        let from = node.status().durable;
        let reach = |goal: Seq| async move {
            let reached = within(CATCH_UP, node.wait(|status| status.durable >= goal)).await;
            let reached = reached.ok_or_else(|| {
                let at = node.status().durable;
                format!("node {number} was at {at} of {goal} entries after {CATCH_UP:?}")
            })?;
            reached.map_err(|why| explain(format_args!("node {number} has stopped"), &why))?;
            Ok::<_, String>(began.elapsed().as_secs_f64())
        };
        let first = reach(from.after()).await?;
        let at_first = node.status().durable;
        let last = reach(Seq::new(end)).await?;
        Ok(Answer::CaughtUp(CaughtUp { first, at_first: at_first.get(), last }))
    }
}

async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(time, future).await.ok()
}

#[cfg(test)]
mod tests {
    use super::super::check::judge;
    use super::super::protocol::{Ran, Until};
    use super::*;

    async fn host(nodes: u64) -> Host {
        let (dir, key) = (std::env::temp_dir(), Key::generate().unwrap().reveal_hex().to_string());
        let setup = Setup { dir, nodes, tcp: false, log: LogKind::Mem, encrypt: false, key };
        let mut host = Host::new(setup).unwrap();
        for node in 1..=nodes {
            assert!(matches!(host.obey(Command::Open { node }).await, Answer::Done));
        }
        host
    }

    async fn leader(host: &mut Host) -> u64 {
        let answer = host.obey(Command::Leader { node: 1 }).await;
        let Answer::Leader { node } = answer else { panic!("{answer:?}") };
        node
    }

    async fn run(host: &mut Host, node: u64) -> Ran {
        let until = Until::Entries(50);
        let load = Load { node, clients: 5, batch: 1, payload: 20, until };
        let answer = host.obey(Command::Run(load)).await;
        let Answer::Ran(ran) = answer else { panic!("{answer:?}") };
        ran
    }

    async fn held(host: &mut Host, node: u64, end: u64, payload: u64) -> Held {
        let answer = host.obey(Command::Hold { node, end, payload }).await;
        let Answer::Held(held) = answer else { panic!("{answer:?}") };
        held
    }

    /// A follower that was cut off holds less, and two such are no quorum. Fails if `hold` does not read logs, or does
    /// not look into the entries.
    #[tokio::test]
    async fn a_log_is_read_entry_for_entry() {
        let mut host = host(3).await;
        let leader = leader(&mut host).await;
        let mut others = (1..=3).filter(|&node| node != leader);
        let (near, far) = (others.next().unwrap(), others.next().unwrap());
        let before = run(&mut host, near).await;
        held(&mut host, far, before.end, 20).await;
        host.wire.cut(NodeId::from(far), NodeId::from(leader));
        host.wire.cut(NodeId::from(far), NodeId::from(near));
        let ran = run(&mut host, near).await;
        let mut acked = before.acked;
        acked.join(ran.acked);

        let (first, second) =
            (held(&mut host, leader, ran.end, 20).await, held(&mut host, near, ran.end, 20).await);
        host.patience = Duration::from_millis(1);
        let third = held(&mut host, far, ran.end, 20).await;
        assert_eq!((acked.entries, third.tally), (100, before.acked));
        assert_eq!(judge(acked, &[first, second, third]), Ok(2));
        assert!(judge(acked, &[first, third, third]).is_err());
        let others = held(&mut host, leader, ran.end, 19).await;
        assert_eq!(others.strange, 100, "entries of another size are not ours");
        host.end().await;
    }
}
