//! Opening a node.

use std::future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use tinyraftplus_core::{HardState, NodeId, Rising, Seq, Term};
use tinyraftplus_log::{Log, LogError, LogOptions, LogRead, SnapshotStore, Write};
use tinyraftplus_replica::{LoadRequest, Message, Replica, ReplicaOptions, SnapshotOptions};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::builder::NodeBuilder;
use crate::clock::{Alarm, Clock};
use crate::driver::{Driver, Outgoing, Published};
use crate::mailbox::{Mail, Mailbox};
use crate::node::{NodeInbox, Shared};
use crate::threads::{self, OpenLog, Opened, Running, Work};
use crate::writer::{self, Limits};
use crate::writes::Writes;
use crate::writing::Writing;
use crate::{Member, OpenError, RaftNode, Status};

/// How many messages may wait for the driver; more are dropped.
const MESSAGES_MAX: usize = 4096;
/// The first term must leave as many terms as there are before it.
const TERMS_END: u64 = 1 << 63;
/// What an entry takes in a log beside its payload, at most.
const ENTRY_BYTES: u64 = 32;

impl NodeBuilder {
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
            ("snapshot_timeout", self.snapshot_timeout),
            ("close_timeout", self.close_timeout),
            ("stall_timeout", self.stall_timeout),
        ];
        if let Some((name, _)) = times.into_iter().find(|(_, time)| time.is_zero()) {
            return Err(OpenError::ZeroTime(name));
        }
        if self.initial_term.get() >= TERMS_END {
            return Err(OpenError::InitialTerm(self.initial_term));
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
    fn log_options_that_fit(&self) -> LogOptions {
        let mut options = self.log_options.clone();
        options.first_seq = self.options.raft.first_seq;
        let batch = options.batch_bytes_max.max(self.options.batch_bytes_max);
        options.batch_bytes_max = batch.min(options.group_bytes_max / 2);
        options.entry_bytes_max = options.entry_bytes_max.max(self.options.entry_bytes_max);
        options
    }

    /// Takes nothing in that the log would refuse: whoever calls is told, where the log could only fail, and the node with it.
    /// A group of writes is never more than half full before its last write is added, which is at most the other half.
    fn keep_to(&mut self, limits: &Limits) {
        let quarter = limits.group / 4;
        let options = &mut self.options;
        options.entry_bytes_max = options.entry_bytes_max.min(limits.entry);
        options.batch_bytes_max = options.batch_bytes_max.min(limits.batch).min(quarter);
        let entries = usize::try_from(quarter / ENTRY_BYTES).unwrap_or(usize::MAX);
        options.batch_entries_max = options.batch_entries_max.min(entries);
        options.write_bytes_max = options.write_bytes_max.min(quarter);
        options.raft.append_bytes_max = options.raft.append_bytes_max.min(quarter);
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
        let (done, done_seen) = watch::channel(false);
        let ends = Ends { killed: Arc::clone(&killed), done: done_seen.clone() };
        let opened = Box::pin(self.open_parts(incarnation, &mailbox, ends)).await;
        let Parts { log, reader, writer, machine, snapshots, clock, replica } = match opened {
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
            snapshot_timeout: self.snapshot_timeout,
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
                snapshots,
                keeper: None,
                status: Published(status),
                watchers,
                events,
                done,
            },
            waiting: Rising::new(),
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
        ends: Ends,
    ) -> Result<Parts, OpenError> {
        let name = format!("raft-{}", self.id);
        let (log_options, initial_term) = (self.log_options_that_fit(), self.initial_term);
        let open_with = self.log.take().ok_or(OpenError::NoLog)?;
        let open: OpenLog = Box::new(move || {
            let mut log = open_with(log_options)?;
            begin_at(log.as_mut(), initial_term)?;
            Ok(log)
        });
        let killed = ends.killed;
        let (opened_sender, opened) = oneshot::channel();
        let writer =
            writer::start(&name, open, opened_sender, mailbox.reporter(), Arc::clone(&killed))
                .map_err(OpenError::Thread)?;
        let opened = opened.await.map_err(|_| OpenError::Panicked("the log"))??;
        let Opened { restored, reader: log, limits, snapshots, compacts, instant } = opened;
        self.keep_to(&limits);
        let writer = match instant {
            Some(log) => Writing::instant(log, killed),
            None => Writing::Thread(writer),
        };
        let reader = threads::start_reader(&name, Arc::clone(&log), mailbox.reporter())
            .map_err(OpenError::Thread)?;
        let (mut machine, mut applied, mut takes_snapshots) = (None, Seq::ZERO, true);
        if let Some(make) = self.machine.take() {
            let (tell, position) = oneshot::channel();
            let (runtime, end) = (Handle::current(), ends.done);
            let make = Box::new(move || make(runtime, end));
            let running =
                threads::start_machine(&name, make, snapshots.clone(), tell, mailbox.reporter())
                    .map_err(OpenError::Thread)?;
            (applied, takes_snapshots) =
                position.await.map_err(|_| OpenError::Panicked("the state machine"))?;
            machine = Some(running);
        }
        let clock = Clock::start();
        let snapshots = snapshots.filter(|_| takes_snapshots);
        self.options.snapshots =
            snapshots.as_ref().map(|_| SnapshotOptions { compacts, ..self.snapshot_options });
        let (options, store) = (self.options.clone(), snapshots.clone());
        let start = move || {
            let newest = store.and_then(|store| store.newest());
            Replica::new(options, restored, applied, newest, incarnation, clock.now())
                .map_err(OpenError::from)
        };
        // It takes some kilobytes, which every future that opens a node would have several times.
        let replica = Box::new(blocking(start).await??);
        Ok(Parts { log, reader, writer, machine, snapshots, clock, replica })
    }
}

/// Raises the term that a log has stored. Nobody has voted in a term above it, so that takes no vote back.
fn begin_at(log: &mut dyn Log, term: Term) -> Result<(), LogError> {
    if log.hard_state().term >= term {
        return Ok(());
    }
    let hard_state = Some(HardState { term, vote: None });
    log.write(&[Write { hard_state, ..Write::default() }])
}

/// What says that the node ends.
struct Ends {
    /// Nothing is written any more.
    killed: Arc<AtomicBool>,
    /// Nobody waits for anything any more.
    done: watch::Receiver<bool>,
}

/// What an open node consists of.
struct Parts {
    log: Arc<dyn LogRead>,
    reader: Running<LoadRequest>,
    writer: Writing,
    machine: Option<Running<Work>>,
    snapshots: Option<SnapshotStore>,
    clock: Clock,
    replica: Box<Replica>,
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
        start: now.start,
        snapshot: now.snapshot,
        durable: now.durable,
        committed: now.committed,
        applied: now.applied,
        committed_term: None,
        head: None,
        peers: Vec::new(),
        calls: 0,
        malformed: 0,
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
