//! Describing and opening a node.

use std::future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use tinyraftplus_core::quorum::{CustomRules, Group};
use tinyraftplus_core::{Lease, NodeId, NodeIdError, Options, QuorumRule, Rules, Seq};
use tinyraftplus_log::{FsLog, Log, LogError, LogOptions, LogRead};
use tinyraftplus_net::Transport;
use tinyraftplus_replica::{LoadRequest, Message, Replica, ReplicaOptions};
use tokio::sync::{broadcast, oneshot, watch};

use crate::clock::{Alarm, Clock};
use crate::driver::{Driver, Outgoing, Published};
use crate::mailbox::{Mail, Mailbox};
use crate::node::{NodeInbox, Shared};
use crate::threads::{self, MakeMachine, OpenLog, Opened, Running, Work};
use crate::writer;
use crate::writes::Writes;
use crate::writing::Writing;
use crate::{Event, Events, Member, OpenError, RaftNode, StateMachine, Status};

/// How many messages may wait for the driver; more are dropped.
const MESSAGES_MAX: usize = 4096;
/// How many events a listener may be behind before it misses some.
const EVENTS_MAX: usize = 1024;

/// Something that names a node: a number, a text, or a [`NodeId`]. `1` and `"1"` are the same node.
pub trait IntoNodeId {
    /// The name.
    ///
    /// # Errors
    ///
    /// If it can't be one: the text, and why.
    fn into_node_id(self) -> Result<NodeId, (String, NodeIdError)>;
}

impl IntoNodeId for NodeId {
    fn into_node_id(self) -> Result<NodeId, (String, NodeIdError)> {
        Ok(self)
    }
}

/// Names made from what they print as.
macro_rules! printed_names {
    ($($type:ty),*) => {$(
        impl IntoNodeId for $type {
            fn into_node_id(self) -> Result<NodeId, (String, NodeIdError)> {
                let name = self.to_string();
                NodeId::new(&name).map_err(|error| (name, error))
            }
        }
    )*};
}

printed_names!(u8, u16, u32, u64, usize, i32, i64, String, &str);

/// Describes a node, to open it.
///
/// | option | default |
/// | --- | --- |
/// | `rule` | a majority |
/// | `first_seq` | 0 |
/// | `heartbeat_interval` | 100 ms |
/// | `election_timeout` | 500 ms, and up to `election_jitter` more |
/// | `election_jitter` | 500 ms |
/// | `priority` | 0; among nodes that have caught up, the highest leads |
/// | `lease_reads` | off: a leader asks its followers before it answers a read |
/// | `append_timeout`, `read_timeout`, `transfer_timeout` | 10 s, for the whole call |
/// | `members_timeout` | 30 s, for the whole change |
/// | `close_timeout` | 5 s, for a disk that hangs |
/// | `stall_timeout` | 2 s, then a leader whose disk hangs gives up its role |
/// | `fail_fast` | off: without a leader calls wait for one |
pub struct NodeBuilder {
    id: NodeId,
    options: ReplicaOptions,
    problem: Option<OpenError>,
    log: Option<OpenWith>,
    transport: Option<Arc<dyn Transport>>,
    machine: Option<MakeMachine>,
    append_timeout: Duration,
    read_timeout: Duration,
    transfer_timeout: Duration,
    members_timeout: Duration,
    close_timeout: Duration,
    stall_timeout: Duration,
    events: broadcast::Sender<Event>,
}

/// Opens a log, given the options that the node decides.
type OpenWith = Box<dyn FnOnce(LogOptions) -> Result<Box<dyn Log>, LogError> + Send>;

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
            transport: None,
            machine: None,
            append_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(10),
            transfer_timeout: Duration::from_secs(10),
            members_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(2),
            events: broadcast::channel(EVENTS_MAX).0,
        }
    }

    /// Waits to be added to a cluster, by [`RaftNode::set_members`] on one of its nodes, and never forms one. The members that
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
    #[must_use]
    pub const fn join(mut self) -> Self {
        self.options.raft.joins = true;
        self
    }

    /// Listens to the node that is opened, from the start on. A slow listener misses events and is told how many.
    pub fn events(&self) -> Events {
        Events { receiver: self.events.subscribe() }
    }

    /// Keeps the log in files of this directory, created if missing. Several nodes may share one.
    #[must_use]
    pub fn log_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        let (dir, name) = (dir.into(), format!("node-{}", self.id));
        self.log = Some(Box::new(move |options| {
            let (log, _) = FsLog::open(dir, &name, options)?;
            Ok(Box::new(log))
        }));
        self
    }

    /// Keeps the log wherever this function says: it is called once, on the thread that owns the log.
    #[must_use]
    pub fn log<L: Log>(
        mut self,
        open: impl FnOnce() -> Result<L, LogError> + Send + 'static,
    ) -> Self {
        self.log = Some(Box::new(|_| Ok(Box::new(open()?))));
        self
    }

    /// How messages get to the other members.
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// What is built on the log: the function is called once, on the thread that owns the state machine.
    #[must_use]
    #[doc(alias = "apply")]
    pub fn state_machine<M: StateMachine>(
        mut self,
        make: impl FnOnce() -> M + Send + 'static,
    ) -> Self {
        self.machine = Some(Box::new(|| Box::new(make())));
        self
    }

    /// So many nodes elect a leader and commit an entry. More than half.
    #[must_use]
    pub fn quorum(self, count: u32) -> Self {
        self.rule(QuorumRule::AtLeast(count))
    }

    /// Which nodes elect a leader and commit an entry.
    #[must_use]
    pub fn rule(self, rule: QuorumRule) -> Self {
        self.rules(Rules::same(rule))
    }

    /// Which nodes elect a leader, and which commit an entry.
    #[must_use]
    pub fn rules(mut self, rules: Rules) -> Self {
        self.options.raft.rules = rules;
        self
    }

    /// This node's label for quorum rules: its cloud, zone or rack. It counts when the cluster forms; afterwards the
    /// configuration in the log decides.
    #[must_use]
    pub const fn group(mut self, group: Group) -> Self {
        self.options.raft.group = Some(group);
        self
    }

    /// A rule of one's own, under a name and a version: all nodes must be given the same function.
    #[must_use]
    pub fn custom_rules(mut self, rules: CustomRules) -> Self {
        self.options.raft.custom_rules = rules;
        self
    }

    /// Forms the cluster as soon as members that could elect a leader have answered, the one with the smallest name among
    /// them, instead of waiting for all.
    #[must_use]
    pub const fn form_with_majority(mut self) -> Self {
        self.options.raft.form_with_majority = true;
        self
    }

    /// The first position of the log.
    #[must_use]
    pub const fn first_seq(mut self, seq: Seq) -> Self {
        self.options.raft.first_seq = seq;
        self
    }

    /// How often a leader speaks.
    #[must_use]
    #[doc(alias = "heartbeatTimeout")]
    pub const fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.options.raft.heartbeat_interval = interval;
        self
    }

    /// How long a follower waits for its leader before it campaigns.
    #[must_use]
    pub const fn election_timeout(mut self, timeout: Duration) -> Self {
        self.options.raft.election_timeout = timeout;
        self
    }

    /// How much longer it waits at most, drawn at random.
    #[must_use]
    #[doc(alias = "randomTimeout")]
    pub const fn election_jitter(mut self, jitter: Duration) -> Self {
        self.options.raft.election_jitter = jitter;
        self
    }

    /// How long an append may take, from the call to its answer.
    #[must_use]
    pub const fn append_timeout(mut self, timeout: Duration) -> Self {
        self.append_timeout = timeout;
        self
    }

    /// How long a read may take, from the call to its answer.
    #[must_use]
    pub const fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// How long [`RaftNode::transfer_leadership`] and the like may take, from the call to its answer.
    #[must_use]
    pub const fn transfer_timeout(mut self, timeout: Duration) -> Self {
        self.transfer_timeout = timeout;
        self
    }

    /// How long [`RaftNode::set_members`] may take, from the call to its answer. New voters have to catch up meanwhile.
    #[must_use]
    pub const fn members_timeout(mut self, timeout: Duration) -> Self {
        self.members_timeout = timeout;
        self
    }

    /// Who should lead. A leader hands over to a voter of a higher priority that has kept up with it for two election
    /// timeouts: so with all nodes up and caught up, the highest leads within three. No entry is at stake, and equal
    /// ones never take turns. A transfer that fails is tried again after four election timeouts, then eight, up to 128.
    #[must_use]
    #[doc(alias = "leaderPriority")]
    pub const fn priority(mut self, priority: u32) -> Self {
        self.options.raft.priority = priority;
        self
    }

    /// Lets a leader answer reads without asking its followers, while they have promised to elect nobody else. That
    /// saves a round trip for each read, and **makes clocks decide whether reads are right**: those of two members
    /// may differ in speed by at most so many millionths (1000 is generous for ordinary machines). See [`Lease`] for
    /// what else must hold. All members must be given the same.
    #[must_use]
    pub const fn lease_reads(mut self, clock_error_ppm: u32) -> Self {
        self.options.raft.lease = Some(Lease { clock_error_ppm });
        self
    }

    /// How long closing waits for a disk that hangs.
    #[must_use]
    pub const fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// How long a write may take before a leader gives up its role.
    #[must_use]
    pub const fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// Refuses calls while there is no leader, instead of letting them wait.
    #[must_use]
    pub const fn fail_fast(mut self, is_on: bool) -> Self {
        self.options.fail_fast = is_on;
        self
    }

    /// Changes limits that have no method of their own.
    #[must_use]
    pub fn options(mut self, change: impl FnOnce(&mut ReplicaOptions)) -> Self {
        change(&mut self.options);
        self
    }

    async fn check(&mut self) -> Result<(), OpenError> {
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        let options = self.options.clone();
        blocking(move || options.check().map_err(OpenError::from)).await??;
        let times = [
            ("append_timeout", self.append_timeout),
            ("read_timeout", self.read_timeout),
            ("transfer_timeout", self.transfer_timeout),
            ("members_timeout", self.members_timeout),
            ("close_timeout", self.close_timeout),
            ("stall_timeout", self.stall_timeout),
        ];
        if let Some((name, _)) = times.into_iter().find(|(_, time)| time.is_zero()) {
            return Err(OpenError::ZeroTime(name));
        }
        let has_peers = self.options.raft.joins || self.options.raft.members.len() > 1;
        if self.transport.is_none() && has_peers {
            return Err(OpenError::NoTransport);
        }
        if let Some(transport) = &self.transport {
            self.options.check_transport(transport.message_bytes_max())?;
        }
        Ok(())
    }

    /// The options of a log that fit those of the node.
    fn log_options(&self) -> LogOptions {
        let mut options = LogOptions::default();
        options.first_seq = self.options.raft.first_seq;
        options.batch_bytes_max = options.batch_bytes_max.max(self.options.batch_bytes_max);
        options.entry_bytes_max = options.entry_bytes_max.max(self.options.entry_bytes_max);
        options
    }

    /// Opens the log, makes the state machine and starts the node. Needs a tokio runtime with time.
    ///
    /// # Errors
    ///
    /// What does not fit or can't be opened. Nothing runs then.
    pub async fn open(mut self) -> Result<RaftNode, OpenError> {
        self.check().await?;
        let random = || getrandom::u64().map_err(|error| OpenError::Random(error.to_string()));
        let (seed, incarnation) = (random()?, random()?);
        self.options.raft.seed = seed;
        self.options.state_machine = self.machine.is_some();

        let killed = Arc::new(AtomicBool::new(false));
        let mailbox = Mailbox::new(self.options.calls_max, MESSAGES_MAX);
        let mail = Mail(Arc::clone(&mailbox));
        let opened = self.open_parts(incarnation, &mailbox, Arc::clone(&killed)).await;
        let Parts { log, reader, writer, machine, clock, replica } = match opened {
            Ok(parts) => parts,
            Err(error) => {
                // The threads end by themselves: then the log is free.
                let ended = future::poll_fn(|context| mail.poll_threads(context));
                drop(tokio::time::timeout(self.close_timeout, ended).await);
                return Err(error);
            }
        };
        let events = self.events;
        let (status, status_seen) = watch::channel(first_status(&self.options, &replica));
        let (done, done_seen) = watch::channel(false);
        let watchers = Arc::new(AtomicUsize::new(0));
        let inbox = Arc::new(NodeInbox {
            id: self.id,
            custom_rules: self.options.raft.custom_rules.names().collect(),
            mailbox: Arc::clone(&mailbox),
            events: events.downgrade(),
        });
        let transport = self.transport.unwrap_or_else(|| Arc::new(|_: NodeId, _: Message| {}));
        transport.attach(inbox);
        let shared = Shared {
            mailbox,
            killed,
            status: status_seen,
            watchers: Arc::clone(&watchers),
            events: events.downgrade(),
            done: done_seen,
            reader: log,
            clock,
            append_timeout: self.append_timeout,
            read_timeout: self.read_timeout,
            transfer_timeout: self.transfer_timeout,
            members_timeout: self.members_timeout,
            custom_rules: self.options.raft.custom_rules.clone(),
        };
        let driver = Driver {
            replica,
            clock,
            mail,
            alarm: Alarm::new(clock),
            outgoing: Outgoing {
                transport,
                writer,
                reader,
                machine,
                status: Published(status),
                watchers,
                events,
                done,
            },
            waiting: tinyraftplus_core::Rising::new(),
            next_call: 0,
            told: 0,
            writes: Writes::new(self.stall_timeout),
            was_refused: false,
            syncs: 0,
            is_sound: true,
            close_timeout: self.close_timeout,
            configuration: None,
            custom_rules: self.options.raft.custom_rules,
            announced: None,
        };
        tokio::spawn(driver.run());
        Ok(RaftNode { shared: Arc::new(shared) })
    }

    /// Starts the threads, and the replica with what they found.
    async fn open_parts(
        &mut self,
        incarnation: u64,
        mailbox: &Arc<Mailbox>,
        killed: Arc<AtomicBool>,
    ) -> Result<Parts, OpenError> {
        let name = format!("raft-{}", self.id);
        let log_options = self.log_options();
        let open_with = self.log.take().ok_or(OpenError::NoLog)?;
        let open: OpenLog = Box::new(move || open_with(log_options));
        let (opened_sender, opened) = oneshot::channel();
        let writer =
            writer::start(&name, open, opened_sender, mailbox.reporter(), Arc::clone(&killed))
                .map_err(OpenError::Thread)?;
        let opened = opened.await.map_err(|_| OpenError::Panicked("the log"))??;
        let Opened { restored, reader: log, instant } = opened;
        let writer = match instant {
            Some(log) => Writing::instant(log, killed),
            None => Writing::Thread(writer),
        };
        let reader = threads::start_reader(&name, Arc::clone(&log), mailbox.reporter())
            .map_err(OpenError::Thread)?;
        let (mut machine, mut applied) = (None, Seq::ZERO);
        if let Some(make) = self.machine.take() {
            let (made_sender, made) = oneshot::channel();
            let running = threads::start_machine(&name, make, made_sender, mailbox.reporter())
                .map_err(OpenError::Thread)?;
            applied = made.await.map_err(|_| OpenError::Panicked("the state machine"))?;
            machine = Some(running);
        }
        let clock = Clock::start();
        let options = self.options.clone();
        let start = move || {
            Replica::new(options, restored, applied, incarnation, clock.now())
                .map_err(OpenError::from)
        };
        let replica = blocking(start).await??;
        Ok(Parts { log, reader, writer, machine, clock, replica })
    }
}

/// What an open node consists of.
struct Parts {
    log: Arc<dyn LogRead>,
    reader: Running<LoadRequest>,
    writer: Writing,
    machine: Option<Running<Work>>,
    clock: Clock,
    replica: Replica,
}

/// Does what may take seconds, such as the proof that rules are safe, where it holds up nobody else.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, OpenError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| OpenError::RulePanicked)
}

fn first_status(options: &ReplicaOptions, replica: &Replica) -> Status {
    let now = replica.status();
    Status {
        id: now.id,
        open: true,
        stopped: None,
        role: now.role,
        leader: None,
        paused: false,
        transferring: None,
        term: now.term,
        members: opened_with(options),
        members_at: None,
        formed: false,
        replaced: None,
        rules: options.raft.rules.clone(),
        tolerance: None,
        followers: Vec::new(),
        durable: now.durable,
        committed: now.committed,
        applied: now.applied,
        committed_term: None,
        head: None,
        peers: Vec::new(),
        calls: 0,
        syncs: 0,
    }
}

/// The members that a node was described with: a node that joins has no say in it.
fn opened_with(options: &ReplicaOptions) -> Vec<Member> {
    let (own, group) = (options.raft.id, options.raft.group);
    let member = |&id: &NodeId| {
        let member = Member::voter(id);
        if id == own { Member { group, ..member } } else { member }
    };
    let others = options.raft.members.iter().filter(|&&id| !options.raft.joins || id != own);
    let mut members: Vec<Member> = others.map(member).collect();
    members.sort_unstable();
    members
}
