//! Describing and opening a node.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tinyraftplus_core::quorum::{CustomRules, Group};
use tinyraftplus_core::{Lease, NodeId, NodeIdError, Options, QuorumRule, Rules, Seq, Term};
use tinyraftplus_log::{FsLog, Log, LogError, LogOptions, MultiFsLog};
use tinyraftplus_net::{Message, Transport};
use tinyraftplus_replica::{ReplicaOptions, SnapshotOptions};
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};

use crate::sender::{Sender, Sent};
use crate::state_machine::Waiting;
use crate::{AsyncStateMachine, Event, Events, IntoNodeId, OpenError, StateMachine};

/// How many events a listener may be behind before it misses some.
const EVENTS_MAX: usize = 1024;

/// Describes a node, to open it.
///
/// | option | default | |
/// | --- | --- | --- |
/// | `log`, `log_dir`, `log_segments` | none: one of them is needed | only segments give disk space back |
/// | `transport`, `send` | none: one of them is needed, but for a cluster of one | |
/// | `state_machine`, `async_state_machine` | none: an entry is answered when it is committed | |
/// | `quorum`, `rule`, `rules` | more than half | until the cluster has formed; then its log decides |
/// | `group` | none | until the cluster has formed; then its log decides |
/// | `custom_rules` | none | the same on all nodes |
/// | `join`, `form_with_majority` | off | |
/// | `first_seq` | 0 | for a new log |
/// | `initial_term` | 0 | never below the stored one |
/// | `heartbeat_interval` | 100 ms | |
/// | `election_timeout` | 500 ms | at least two heartbeat intervals |
/// | `election_jitter` | 500 ms | up to so much more, drawn anew each time |
/// | `priority` | 0 | among nodes that have caught up, the highest leads |
/// | `lease_reads` | off | a leader asks its followers before it answers a read |
/// | `append_timeout` | 10 s | for the whole call |
/// | `read_timeout` | 10 s | for the whole call |
/// | `transfer_timeout` | 10 s | for the whole call |
/// | `members_timeout` | 30 s | for the whole change |
/// | `snapshot_timeout` | 60 s | for a snapshot or a compaction that somebody asks for |
/// | `close_timeout` | 5 s | for a disk, or a state machine, that hangs |
/// | `stall_timeout` | 2 s | then a leader whose disk hangs gives up its role |
/// | `fail_fast` | off | without a leader calls wait for one |
/// | `snapshots` | as below | matters where the state machine takes snapshots, and for compaction |
///
/// The limits below have no method of their own; [`NodeBuilder::options`] changes them. A node also keeps to the limits of
/// its log, where those are lower.
///
/// | limit | default | |
/// | --- | --- | --- |
/// | `entry_bytes_max` | 16 MiB | the largest payload |
/// | `batch_bytes_max` | 16 MiB | the largest batch |
/// | `batch_entries_max` | 1048576 | |
/// | `calls_max` | 65536 | calls under way |
/// | `calls_bytes_max` | 64 MiB | their payloads |
/// | `forward_bytes_max` | 8 MiB | on the way to a leader unanswered |
/// | `retry_interval` | 100 ms | an unanswered message about a call is sent again |
/// | `write_bytes_max` | 4 MiB | an aim: what a leader writes at once |
/// | `apply_entries_max` | 4096 | an aim: what the state machine gets at once |
/// | `apply_bytes_max` | 1 MiB | the same, in bytes |
/// | `cache_bytes_max` | 32 MiB | the newest entries, kept in memory |
/// | `raft.append_bytes_max` | 1 MiB | an aim: what is in one message |
/// | `raft.window_bytes` | 8 MiB | on the way to one peer |
/// | `raft.uncommitted_bytes_max` | 64 MiB | then appends are refused as busy |
/// | `raft.commit_notice_delay` | 1 ms | a follower with nothing else to hear is told what is committed |
/// | `raft.promote_distance` | 1024 | entries that a new voter may lack when it begins to vote |
///
/// How snapshots are taken, kept and sent; [`NodeBuilder::snapshots`] changes it:
///
/// | option | default | |
/// | --- | --- | --- |
/// | `log_bytes` | 64 MiB | of entries since the last one: then one is taken; each entry counts 32 bytes more |
/// | `keep_entries` | 10000 | before a snapshot stay in the log, for nodes that are a little behind |
/// | `window_bytes` | 1 MiB | on the way to one peer |
/// | `bytes_per_second` | 64 MiB | to one peer, at most |
///
/// An aim groups small things, and is no limit of a large one: a batch goes whole.
///
/// ```
/// use std::time::Duration;
/// use tinyraftplus::{MemLog, RaftNode};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
/// # runtime.block_on(async {
/// let node = RaftNode::builder("a", ["a"]) // and two more, with a transport
///     .log(|| MemLog::new(Default::default()))
///     .election_timeout(Duration::from_secs(1))
///     .append_timeout(Duration::from_secs(3))
///     .options(|options| options.batch_bytes_max = 1 << 20)
///     .open()
///     .await?;
/// # node.close().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// # How long a failover takes
///
/// When a leader's machine dies, the others wait for `election_timeout` and a part of `election_jitter`, counted from its last
/// heartbeat. With the defaults a new leader appends after about 0.65 s. Where all nodes are near each other and not short of
/// processors, a fast profile does that in about 0.13 s:
///
/// ```
/// # use std::time::Duration;
/// # use tinyraftplus::{InProcess, MemLog, RaftNode};
/// # let net = InProcess::new();
/// # let builder = RaftNode::builder(1, [1, 2, 3]);
/// builder
///     .heartbeat_interval(Duration::from_millis(20))
///     .election_timeout(Duration::from_millis(100))
///     .election_jitter(Duration::from_millis(100))
/// # ;
/// ```
///
/// Its price: five times as many heartbeats, 50 a second to each follower, and less patience. A leader that is not heard for 100 ms
/// (one lost packet, as TCP sends it again after 200 ms, or a machine that is busy for so long) is replaced, and appends pause for as
/// long as after a crash. The times must be several times as long as a round trip; all nodes should have the same.
///
/// Calls that the dead leader had taken and not answered stay open: they are in its log or not, and nobody else knows. They end when
/// it is back, or at their deadline as unknown. Later calls do not wait for them.
#[must_use = "nothing runs before `open`"]
pub struct NodeBuilder {
    pub(crate) id: NodeId,
    pub(crate) options: ReplicaOptions,
    pub(crate) problem: Option<OpenError>,
    pub(crate) log: Option<OpenWith>,
    pub(crate) log_options: LogOptions,
    pub(crate) transport: Option<Arc<dyn Transport>>,
    pub(crate) machine: Option<MakeWith>,
    pub(crate) initial_term: Term,
    pub(crate) append_timeout: Duration,
    pub(crate) read_timeout: Duration,
    pub(crate) transfer_timeout: Duration,
    pub(crate) members_timeout: Duration,
    pub(crate) snapshot_timeout: Duration,
    pub(crate) snapshot_options: SnapshotOptions,
    pub(crate) close_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) events: broadcast::Sender<Event>,
}

/// Opens a log, given the options that the node decides.
type OpenWith = Box<dyn FnOnce(LogOptions) -> Result<Box<dyn Log>, LogError> + Send>;

/// Makes a state machine, given the runtime of the node and what says that it has ended.
type MakeWith = Box<dyn FnOnce(Handle, watch::Receiver<bool>) -> Box<dyn StateMachine> + Send>;

impl NodeBuilder {
    pub(crate) fn new<M: IntoNodeId>(
        id: impl IntoNodeId,
        members: impl IntoIterator<Item = M>,
    ) -> Self {
        let mut problem = None;
        let mut name = |name: Result<NodeId, (String, NodeIdError)>| match name {
            Ok(id) => id,
            Err((name, source)) => {
                problem.get_or_insert(OpenError::Name { name, source });
                NodeId::from(0)
            }
        };
        let id = name(id.into_node_id());
        let members = members.into_iter().map(|member| name(member.into_node_id())).collect();
        let mut options = ReplicaOptions::new(Options::new(id, members, 0));
        options.raft.commit_notice_delay = Duration::from_millis(1);
        Self {
            id,
            options,
            problem,
            log: None,
            log_options: LogOptions::default(),
            transport: None,
            machine: None,
            initial_term: Term::ZERO,
            append_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(10),
            transfer_timeout: Duration::from_secs(10),
            members_timeout: Duration::from_secs(30),
            snapshot_timeout: Duration::from_mins(1),
            snapshot_options: SnapshotOptions::default(),
            close_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(2),
            events: broadcast::channel(EVENTS_MAX).0,
        }
    }

    /// Waits to be added to a cluster, by [`RaftNode::set_members`](crate::RaftNode::set_members) on one of its nodes, and never forms one. The members that
    /// this node was described with are those that it may ask for a cluster: some that are there, itself among them or not.
    ///
    /// ```
    /// # use tinyraftplus::{InProcess, Member, MemLog, RaftNode};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// let net = InProcess::new();
    /// let log = || MemLog::new(Default::default());
    /// let first = RaftNode::builder(1, [1]).log(log).transport(net.endpoint(1.into())).open().await?;
    /// let second = RaftNode::builder(2, [1]).join().log(log).transport(net.endpoint(2.into())).open().await?;
    /// first.set_members([Member::voter(1), Member::voter(2)]).await?;
    /// second.append("on either").await?;
    /// # second.close().await?;
    /// # first.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// The transports of the others must know the way to it: [`TcpTransport::set_peer`](crate::TcpTransport::set_peer).
    ///
    /// It changes nothing for a node whose log knows a cluster, so it can stay there. A program that always opens its node like this,
    /// but for the first nodes on their first start, does not form a second cluster when a disk is lost.
    pub const fn join(mut self) -> Self {
        self.options.raft.joins = true;
        self
    }

    /// Listens to the node that is opened, from the start on. A slow listener misses events and is told how many.
    ///
    /// ```
    /// # use tinyraftplus::{MemLog, RaftNode};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// use tinyraftplus::{Event, Next};
    ///
    /// let node = RaftNode::builder(1, [1]).log(|| MemLog::new(Default::default()));
    /// let mut events = node.events();
    /// let node = node.open().await?;
    /// let first = events.next().await;
    /// assert!(matches!(first, Some(Next::Event(Event::Change { open: true, .. }))));
    /// # node.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn events(&self) -> Events {
        Events { receiver: self.events.subscribe() }
    }

    /// Keeps the log in files of this directory, created if missing. Several nodes may share one.
    ///
    /// ```
    /// # use tinyraftplus::RaftNode;
    /// # let dir = tempfile::tempdir()?;
    /// let node = RaftNode::builder(1, [1]).log_dir(dir.path()); // in files named `node-1`
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn log_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        let (dir, name) = (dir.into(), format!("node-{}", self.id));
        self.log = Some(Box::new(move |options| {
            let (log, _) = FsLog::open(dir, &name, options)?;
            Ok(Box::new(log))
        }));
        self
    }

    /// The same in segments, of which old ones go once a snapshot stands for them. The choice for a node that runs for years.
    ///
    /// ```
    /// # use tinyraftplus::RaftNode;
    /// # let dir = tempfile::tempdir()?;
    /// let node = RaftNode::builder(1, [1])
    ///     .log_segments(dir.path())
    ///     .log_options(|options| options.segment_bytes_max = 64 << 20);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn log_segments(mut self, dir: impl Into<PathBuf>) -> Self {
        let (dir, name) = (dir.into(), format!("node-{}", self.id));
        self.log = Some(Box::new(move |options| {
            let (log, _) = MultiFsLog::open(dir, &name, options)?;
            Ok(Box::new(log))
        }));
        self
    }

    /// Changes the options of a log that [`NodeBuilder::log_dir`] or [`NodeBuilder::log_segments`] keeps: encryption, limits, space.
    ///
    /// ```
    /// # use tinyraftplus::{InProcess, RaftNode};
    /// use std::sync::Arc;
    /// use tinyraftplus::{EncryptingEncoder, Key};
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// # let dir = tempfile::tempdir()?;
    /// let key = Key::generate()?; // to be kept: without it nobody reads the log again
    /// let node = RaftNode::builder(1, [1])
    ///     .log_dir(dir.path())
    ///     .log_options(|options| options.encoder = Arc::new(EncryptingEncoder::new(&key)))
    ///     .open()
    ///     .await?;
    /// # node.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn log_options(mut self, change: impl FnOnce(&mut LogOptions)) -> Self {
        change(&mut self.log_options);
        self
    }

    /// Keeps the log wherever this function says: it is called once, on the thread that owns the log.
    ///
    /// ```
    /// # use tinyraftplus::{LogOptions, MultiFsLog, RaftNode, TimeoutLog, Timeouts};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().to_owned();
    /// let segments = move || Ok(MultiFsLog::open(path, "node-1", LogOptions::default())?.0);
    /// let node = RaftNode::builder(1, [1]).log(segments).open().await?;
    /// # node.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// Any [`Log`] does: [`FsLog`], [`MultiFsLog`](crate::MultiFsLog), [`MemLog`](crate::MemLog),
    /// [`TimeoutLog`](crate::TimeoutLog) around one of them, or one of the program's own that passes
    /// [`log_suite!`](crate::log::log_suite). A log that gives up a write, as a `TimeoutLog` does, stops its node: what became of
    /// the write is found out by opening it again. `stall_timeout` needs no such log.
    ///
    /// A log in memory forgets who it was: its node comes back as one whose disk was lost, and votes when the others have
    /// agreed to it.
    pub fn log<L: Log>(
        mut self,
        open: impl FnOnce() -> Result<L, LogError> + Send + 'static,
    ) -> Self {
        self.log = Some(Box::new(|_| Ok(Box::new(open()?))));
        self
    }

    /// How messages get to the other members.
    ///
    /// ```
    /// use tinyraftplus::{InProcess, Key, NodeId, RaftNode, TcpTransport};
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(async {
    /// let key = Key::generate()?; // the same for all nodes
    /// let peers = [(NodeId::from(2), "10.0.0.2:7000"), (NodeId::from(3), "10.0.0.3:7000")];
    /// let tcp = TcpTransport::bind("127.0.0.1:0", &key, &peers).await?;
    /// let node = RaftNode::builder(1, [1, 2, 3]).transport(tcp);
    ///
    /// // Or all nodes in one process:
    /// let net = InProcess::new();
    /// let node = RaftNode::builder(1, [1, 2, 3]).transport(net.endpoint(1.into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// How messages get to the other members: a closure that sends one. It may give back nothing, a `Result`, or a future of
    /// either. What arrives at the other side goes to [`RaftNode::receive`](crate::RaftNode::receive).
    ///
    /// ```
    /// use std::sync::{Arc, OnceLock};
    /// use tinyraftplus::{MemLog, Message, NodeId, RaftNode};
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// let nodes: Arc<[OnceLock<RaftNode>; 3]> = Arc::default();
    /// for id in 1..=3_u64 {
    ///     let all = Arc::clone(&nodes);
    ///     let send = move |to: NodeId, message: Message| {
    ///         let all = Arc::clone(&all);
    ///         async move {
    ///             let to = all.iter().filter_map(OnceLock::get).find(|node| node.id() == to);
    ///             let node = to.ok_or("it is not open yet")?;
    ///             node.receive(id, message);
    ///             Ok::<(), &str>(())
    ///         }
    ///     };
    ///     let node = RaftNode::builder(id, [1, 2, 3]).log(|| MemLog::new(Default::default())).send(send);
    ///     nodes[id as usize - 1].set(node.open().await?).unwrap();
    /// }
    /// let node = nodes[2].get().unwrap();
    /// assert_eq!(node.append("hello").await?.seq.get(), 1);
    /// # for node in nodes.iter().filter_map(OnceLock::get) {
    /// #     node.close().await?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// Nobody waits for a future: up to 1,024 are under way at once, in any order, and beyond that messages are dropped. Those that are
    /// under way when the node closes are dropped. Failures are told as [`Warning::Send`](crate::Warning::Send), and change
    /// nothing else: the protocol sends again. The closure itself must not block, nor panic: that stops the node.
    pub fn send<R, Kind>(
        mut self,
        send: impl Fn(NodeId, Message) -> R + Send + Sync + 'static,
    ) -> Self
    where
        R: Sent<Kind> + 'static,
        Kind: 'static,
    {
        self.transport = Some(Arc::new(Sender::new(send, self.events.downgrade())));
        self
    }

    /// What is built on the log: the function is called once, on the thread that owns the state machine.
    #[doc(alias = "apply")]
    pub fn state_machine<M: StateMachine>(
        mut self,
        make: impl FnOnce() -> M + Send + 'static,
    ) -> Self {
        self.machine = Some(Box::new(|_, _| Box::new(make())));
        self
    }

    /// The same for a state machine that waits for other things.
    #[doc(alias = "apply")]
    pub fn async_state_machine<M: AsyncStateMachine>(
        mut self,
        make: impl FnOnce() -> M + Send + 'static,
    ) -> Self {
        self.machine =
            Some(Box::new(|runtime, done| Box::new(Waiting { machine: make(), runtime, done })));
        self
    }

    /// So many nodes elect a leader and commit an entry. More than half.
    pub fn quorum(self, count: u32) -> Self {
        self.rule(QuorumRule::AtLeast(count))
    }

    /// Which nodes elect a leader and commit an entry.
    ///
    /// ```
    /// use tinyraftplus::{Group, QuorumRule};
    ///
    /// # use tinyraftplus::{InProcess, MemLog, RaftNode};
    /// # let net = InProcess::new();
    /// # let node = |id: u64| RaftNode::builder(id, [1, 2, 3]).log(|| MemLog::new(Default::default())).transport(net.endpoint(id.into()));
    /// # let node = node(1);
    /// let node = node.group(Group::new("cloud-a")?).rule(QuorumRule::MajorityOfEachGroup);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rule(self, rule: QuorumRule) -> Self {
        self.rules(Rules::same(rule))
    }

    /// Which nodes elect a leader, and which commit an entry.
    ///
    /// ```
    /// use tinyraftplus::{QuorumRule, Rules};
    /// # use tinyraftplus::{InProcess, MemLog, RaftNode};
    /// # let net = InProcess::new();
    /// # let node = |id: u64| RaftNode::builder(id, [1, 2, 3]).log(|| MemLog::new(Default::default())).transport(net.endpoint(id.into()));
    /// # let node = node(1);
    /// // Two of three commit, which is quick; then all three must elect, to see every entry.
    /// let rules = Rules { elections: QuorumRule::AtLeast(3), commits: QuorumRule::AtLeast(2) };
    /// let node = node.rules(rules);
    /// ```
    pub fn rules(mut self, rules: Rules) -> Self {
        self.options.raft.rules = rules;
        self
    }

    /// This node's label for quorum rules: its cloud, zone or rack. It counts when the cluster forms; afterwards the
    /// configuration in the log decides.
    pub const fn group(mut self, group: Group) -> Self {
        self.options.raft.group = Some(group);
        self
    }

    /// A rule of one's own, under a name and a version: all nodes must be given the same function.
    ///
    /// ```
    /// use tinyraftplus::{CustomRule, CustomRules, QuorumRule};
    ///
    /// # use tinyraftplus::{InProcess, MemLog, RaftNode};
    /// # let net = InProcess::new();
    /// # let node = |id: u64| RaftNode::builder(id, [1, 2, 3]).log(|| MemLog::new(Default::default())).transport(net.endpoint(id.into()));
    /// # let node = node(1);
    /// let mut rules = CustomRules::new();
    /// rules.add("most", 1, |present| present.len() * 2 > present.voters().len())?;
    /// let rule = QuorumRule::Custom(CustomRule::new("most", 1)?);
    /// let node = node.custom_rules(rules).rule(rule);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn custom_rules(mut self, rules: CustomRules) -> Self {
        self.options.raft.custom_rules = rules;
        self
    }

    /// Forms the cluster as soon as members that could elect a leader have answered, the one with the smallest name among
    /// them, instead of waiting for all.
    pub const fn form_with_majority(mut self) -> Self {
        self.options.raft.form_with_majority = true;
        self
    }

    /// The term to begin with, at least: the next leader's is above it. A log that has stored a higher one goes by that. For a
    /// cluster that has to be told from an older one by its terms.
    ///
    /// ```
    /// # use tinyraftplus::{MemLog, RaftNode, Term};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// let node = RaftNode::builder(1, [1]).log(|| MemLog::new(Default::default()));
    /// let node = node.initial_term(Term::new(1000)).open().await?;
    /// node.await_leader().await?;
    /// assert!(node.status().term > Term::new(1000));
    /// # node.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    #[doc(alias = "initialTerm")]
    pub const fn initial_term(mut self, term: Term) -> Self {
        self.initial_term = term;
        self
    }

    /// The first position of the log.
    pub const fn first_seq(mut self, seq: Seq) -> Self {
        self.options.raft.first_seq = seq;
        self
    }

    /// How often a leader speaks.
    #[doc(alias = "heartbeatTimeout")]
    pub const fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.options.raft.heartbeat_interval = interval;
        self
    }

    /// How long a follower waits for its leader before it campaigns.
    pub const fn election_timeout(mut self, timeout: Duration) -> Self {
        self.options.raft.election_timeout = timeout;
        self
    }

    /// How much longer it waits at most, drawn at random.
    #[doc(alias = "randomTimeout")]
    pub const fn election_jitter(mut self, jitter: Duration) -> Self {
        self.options.raft.election_jitter = jitter;
        self
    }

    /// How long an append may take, from the call to its answer.
    pub const fn append_timeout(mut self, timeout: Duration) -> Self {
        self.append_timeout = timeout;
        self
    }

    /// How long a read may take, from the call to its answer.
    pub const fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// How long [`RaftNode::transfer_leadership`](crate::RaftNode::transfer_leadership) and the like may take, from the call to its answer.
    pub const fn transfer_timeout(mut self, timeout: Duration) -> Self {
        self.transfer_timeout = timeout;
        self
    }

    /// How long [`RaftNode::set_members`](crate::RaftNode::set_members) may take, from the call to its answer. New voters have to catch up meanwhile.
    pub const fn members_timeout(mut self, timeout: Duration) -> Self {
        self.members_timeout = timeout;
        self
    }

    /// Who should lead. A leader hands over to a voter of a higher priority that has kept up with it for two election
    /// timeouts: so with all nodes up and caught up, the highest leads within three. No entry is at stake, and equal
    /// ones never take turns. A transfer that fails is tried again after four election timeouts, then eight, up to 128.
    #[doc(alias = "leaderPriority")]
    pub const fn priority(mut self, priority: u32) -> Self {
        self.options.raft.priority = priority;
        self
    }

    /// Lets a leader answer reads without asking its followers, while they have promised to elect nobody else. That
    /// saves a round trip for each read, and **makes clocks decide whether reads are right**: those of two members
    /// may differ in speed by at most so many millionths (1000 is generous for ordinary machines). See [`Lease`] for
    /// what else must hold. All members must be given the same.
    pub const fn lease_reads(mut self, clock_error_ppm: u32) -> Self {
        self.options.raft.lease = Some(Lease { clock_error_ppm });
        self
    }

    /// How long closing waits for a disk that hangs.
    pub const fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// How long a write may take before a leader gives up its role.
    pub const fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// Refuses calls while there is no leader, instead of letting them wait.
    ///
    /// ```
    /// # use tinyraftplus::{InProcess, MemLog, RaftNode};
    /// # let net = InProcess::new();
    /// # let node = |id: u64| RaftNode::builder(id, [1, 2, 3]).log(|| MemLog::new(Default::default())).transport(net.endpoint(id.into()));
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// // One of three, and nobody else is there.
    /// let node = node(1).fail_fast(true).open().await?;
    /// let error = node.append("x").await.unwrap_err();
    /// assert_eq!(error.to_string(), "not appended: there is no leader; try again once there is one");
    /// # node.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub const fn fail_fast(mut self, is_on: bool) -> Self {
        self.options.fail_fast = is_on;
        self
    }

    /// How long [`RaftNode::snapshot`](crate::RaftNode::snapshot) and
    /// [`RaftNode::compact`](crate::RaftNode::compact) may take.
    pub const fn snapshot_timeout(mut self, timeout: Duration) -> Self {
        self.snapshot_timeout = timeout;
        self
    }

    /// Changes how snapshots are taken, kept and sent.
    ///
    /// ```
    /// # use tinyraftplus::RaftNode;
    /// # let builder = RaftNode::builder(1, [1]);
    /// builder.snapshots(|snapshots| snapshots.log_bytes = Some(1 << 20))
    /// # ;
    /// ```
    pub fn snapshots(mut self, change: impl FnOnce(&mut SnapshotOptions)) -> Self {
        change(&mut self.snapshot_options);
        self
    }

    /// Changes limits that have no method of their own.
    pub fn options(mut self, change: impl FnOnce(&mut ReplicaOptions)) -> Self {
        change(&mut self.options);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(time: Duration) -> String {
        if time.subsec_millis() == 0 {
            format!("{} s", time.as_secs())
        } else {
            format!("{} ms", time.as_millis())
        }
    }

    fn mib(bytes: u64) -> String {
        format!("{} MiB", bytes >> 20)
    }

    /// The tables above say what the code does. Fails if a default is changed, or an option added, without them.
    #[test]
    fn the_tables_have_every_default() {
        let builder = NodeBuilder::new(1, [1]);
        let ReplicaOptions { raft, .. } = &builder.options;
        let options = &builder.options;
        let off = |is_on: bool| if is_on { "on" } else { "off" }.to_owned();
        let expected = [
            ("first_seq", raft.first_seq.to_string()),
            ("initial_term", builder.initial_term.to_string()),
            ("heartbeat_interval", time(raft.heartbeat_interval)),
            ("election_timeout", time(raft.election_timeout)),
            ("election_jitter", time(raft.election_jitter)),
            ("priority", raft.priority.to_string()),
            ("lease_reads", off(raft.lease.is_some())),
            ("append_timeout", time(builder.append_timeout)),
            ("read_timeout", time(builder.read_timeout)),
            ("transfer_timeout", time(builder.transfer_timeout)),
            ("members_timeout", time(builder.members_timeout)),
            ("close_timeout", time(builder.close_timeout)),
            ("stall_timeout", time(builder.stall_timeout)),
            ("fail_fast", off(options.fail_fast)),
            ("entry_bytes_max", mib(options.entry_bytes_max)),
            ("batch_bytes_max", mib(options.batch_bytes_max)),
            ("batch_entries_max", options.batch_entries_max.to_string()),
            ("calls_max", options.calls_max.to_string()),
            ("calls_bytes_max", mib(options.calls_bytes_max)),
            ("forward_bytes_max", mib(options.forward_bytes_max)),
            ("retry_interval", time(options.retry_interval)),
            ("write_bytes_max", mib(options.write_bytes_max)),
            ("apply_entries_max", options.apply_entries_max.to_string()),
            ("apply_bytes_max", mib(options.apply_bytes_max)),
            ("cache_bytes_max", mib(options.cache_bytes_max)),
            ("snapshot_timeout", time(builder.snapshot_timeout)),
            ("log_bytes", mib(builder.snapshot_options.log_bytes.unwrap_or(0))),
            ("keep_entries", builder.snapshot_options.keep_entries.to_string()),
            ("window_bytes", mib(builder.snapshot_options.window_bytes)),
            ("bytes_per_second", mib(builder.snapshot_options.bytes_per_second)),
            ("raft.append_bytes_max", mib(raft.append_bytes_max)),
            ("raft.window_bytes", mib(raft.window_bytes)),
            ("raft.uncommitted_bytes_max", mib(raft.uncommitted_bytes_max)),
            ("raft.commit_notice_delay", time(raft.commit_notice_delay)),
            ("raft.promote_distance", raft.promote_distance.to_string()),
        ];
        assert_eq!(raft.rules.to_string(), "majority");
        assert!(!raft.joins && !raft.form_with_majority && raft.group.is_none());
        let source = include_str!("builder.rs");
        for (name, default) in expected {
            let row = format!("/// | `{name}` | {default} |");
            assert!(source.contains(&row), "no row {row:?}");
        }
        let (_, methods) = source.split_once("impl NodeBuilder {").expect("the methods");
        let methods = methods.split("\n    pub ").skip(1).map(|rest| {
            rest.trim_start_matches("const ").trim_start_matches("fn ").split(['(', '<']).next()
        });
        let (tables, _) = source.split_once("pub struct NodeBuilder").expect("the tables");
        for method in methods.flatten() {
            let is_there = ["events", "options", "log_options"].contains(&method)
                || tables.contains(&format!("`{method}`"));
            assert!(is_there, "no row of `{method}`");
        }
    }
}
