//! The task that steps the replica.
//!
//! It waits until something happens, takes everything that piled up meanwhile as one step, and hands out what
//! the step says: so what arrived during one write of the log is the next write. It decides nothing itself.

use std::future;
use std::mem;
use std::ops::Deref;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use tinyraftplus_core::quorum::CustomRules;
use tinyraftplus_core::{
    self as core, Configurations, EntryId, NodeId, Placed, Rising, Role, Term, Time,
};
use tinyraftplus_log::{SnapshotStore, Write};
use tinyraftplus_net::Transport;
use tinyraftplus_replica::{
    self as replica, Actions, Call, CallId, Happening, LoadRequest, Outcome, Replica, SnapshotWork,
};
use tokio::sync::{broadcast, oneshot, watch};

use crate::clock::{Alarm, Clock};
use crate::mailbox::{Arrived, Asked, Mail, Taken};
use crate::threads::{self, Report, Running, Work};
use crate::writes::Writes;
use crate::writing::Writing;
use crate::{Event, Head, Member, Peer, StateSnapshot, Status, StopReason, Warning};

/// How many calls one step takes.
const STEP_MAX: usize = 4096;

/// How long after the last one a step waits for another of the callers that were just answered. Another thread
/// may be running them, and takes about a microsecond for each.
const CALLERS_WAIT: Duration = Duration::from_micros(5);

/// What [`RaftNode::status`](crate::RaftNode::status) shows. However the driver ends, it shows that it has.
pub(crate) struct Published(pub(crate) watch::Sender<Status>);

impl Deref for Published {
    type Target = watch::Sender<Status>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        if self.0.borrow().stopped.is_none() {
            // The runtime was shut down under the driver.
            self.0.send_modify(|status| stopped(status, StopReason::Died("task")));
        }
    }
}

fn stopped(status: &mut Status, reason: StopReason) {
    status.open = false;
    status.leader = None;
    status.followers.clear();
    status.peers.clear();
    status.stopped = Some(reason);
}

/// Where the driver hands things to.
pub(crate) struct Outgoing {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) writer: Writing,
    pub(crate) reader: Running<LoadRequest>,
    pub(crate) machine: Option<Running<Work>>,
    pub(crate) snapshots: Option<SnapshotStore>,
    /// Runs once there is something to do about snapshots.
    pub(crate) keeper: Option<Running<SnapshotWork>>,
    pub(crate) status: Published,
    /// How many wait for a change of the status.
    pub(crate) watchers: Arc<AtomicUsize>,
    pub(crate) events: broadcast::Sender<Event>,
    /// True once no task and no thread is left.
    pub(crate) done: watch::Sender<bool>,
}

pub(crate) struct Driver {
    pub(crate) replica: Box<Replica>,
    pub(crate) clock: Clock,
    pub(crate) mail: Mail,
    pub(crate) alarm: Alarm,
    pub(crate) outgoing: Outgoing,
    /// Who waits for which call.
    pub(crate) waiting: Rising<CallId, oneshot::Sender<Outcome>>,
    pub(crate) next_call: u64,
    /// How many were answered and may ask again at once.
    pub(crate) told: usize,
    pub(crate) writes: Writes,
    /// The writer has refused a write, and waits for word that the replica knows.
    pub(crate) was_refused: bool,
    /// How often the log has synced.
    pub(crate) syncs: u64,
    /// Cleared when the replica panicked: it is not asked again then.
    pub(crate) is_sound: bool,
    pub(crate) close_timeout: Duration,
    /// The configuration that was published last.
    pub(crate) configuration: Option<Placed>,
    pub(crate) custom_rules: CustomRules,
    /// What was announced last.
    pub(crate) announced: Option<Announced>,
}

/// What an [`Event::Change`] says of a node that runs.
#[derive(Eq, PartialEq)]
pub(crate) struct Announced {
    members: Vec<Member>,
    role: Role,
    leader: Option<NodeId>,
    followers: Vec<NodeId>,
    term: Term,
}

/// Lets the tasks that wait for this thread run. The runtime's own way looks at sockets and timers as well, which takes
/// longer than many of the tasks do.
async fn let_others_run() {
    let mut has_run = false;
    future::poll_fn(|context| {
        if mem::replace(&mut has_run, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Driver {
    pub(crate) async fn run(mut self) {
        self.publish();
        self.announce();
        let reason = loop {
            match self.happenings().await {
                Ok(happenings) => {
                    if let Err(reason) = self.steps(happenings) {
                        break reason;
                    }
                }
                Err(reason) => break reason,
            }
        };
        self.end(reason).await;
    }

    /// A step, and one more for each write whose end is known at once; then does what they say.
    fn steps(&mut self, mut happenings: Vec<Happening>) -> Result<(), StopReason> {
        let mut all = Actions::default();
        let reason = loop {
            let mut actions = match self.step(happenings) {
                Ok(actions) => actions,
                Err(reason) => break Some(reason),
            };
            self.write(mem::take(&mut actions.writes));
            all.join(actions);
            let Some(report) = self.outgoing.writer.settle() else { break None };
            happenings = match self.reported(report) {
                Ok(happening) => happening.into_iter().collect(),
                Err(reason) => break Some(reason),
            };
        };
        let done = self.act(all);
        reason.map_or(done, Err)
    }

    /// One step of the replica. A defect in there ends this node, and no call is left without an answer.
    fn step(&mut self, happenings: Vec<Happening>) -> Result<Actions, StopReason> {
        let (replica, now) = (&mut self.replica, self.clock.now());
        let step = AssertUnwindSafe(|| replica.step_all(now, happenings));
        panic::catch_unwind(step).map_err(|_| {
            self.is_sound = false;
            StopReason::Died("replica")
        })
    }

    /// Waits until something happens, and takes what happened.
    async fn happenings(&mut self) -> Result<Vec<Happening>, StopReason> {
        // There may be mail for ever, and others have to run, too.
        tokio::task::coop::consume_budget().await;
        let wake_at = self.wake_at();
        let (mail, alarm) = (&self.mail, &mut self.alarm);
        future::poll_fn(|context| match mail.poll(context) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => alarm.poll(context, wake_at).map(Ok),
        })
        .await?;
        self.await_callers().await;
        let Taken { calls, messages, reports } = self.mail.take(STEP_MAX);
        self.told = self.told.saturating_sub(calls.len());
        let mut happenings = Vec::with_capacity(reports.len() + messages.len() + 3);
        for report in reports {
            happenings.extend(self.reported(report)?);
        }
        let receive = |arrived| match arrived {
            Arrived::Message(from, message) => Happening::Receive { from, message },
            Arrived::Alive(from, term) => Happening::Alive { from, term },
        };
        happenings.extend(messages.into_iter().map(receive));
        if !calls.is_empty() {
            let calls = calls.into_iter().map(|asked| self.asked(asked)).collect();
            happenings.push(Happening::Calls(calls));
        }
        happenings.extend(self.stalled_write());
        happenings.push(Happening::Wake);
        Ok(happenings)
    }

    /// The first of those that were just answered have asked again, and the runtime runs what they wake at once: the
    /// others come first, as long as they come, so that all of them are one step.
    async fn await_callers(&mut self) {
        let (mut here, mut since) = (self.mail.calls(), self.clock.now());
        while here > 0 && here < self.told {
            let_others_run().await;
            let (before, now) = (here, self.clock.now());
            here = self.mail.calls();
            if here > before {
                since = now;
            } else if now.since(since) > CALLERS_WAIT {
                self.told = here;
            }
        }
    }

    fn wake_at(&self) -> Time {
        self.replica.wake_at().min(self.writes.due_at())
    }

    fn asked(&mut self, asked: Asked) -> Call {
        self.next_call += 1;
        let id = CallId(self.next_call);
        self.waiting.insert(id, asked.reply);
        Call { id, request: asked.request, deadline: asked.deadline }
    }

    fn reported(&mut self, report: Report) -> Result<Option<Happening>, StopReason> {
        Ok(Some(match report {
            Report::Persisted { job, syncs } => {
                self.syncs = syncs;
                self.writes.done(job);
                Happening::Persisted { job }
            }
            Report::NoSpace { job, what, is_refused } => {
                if let Some(what) = what {
                    self.tell(Event::Warn(Warning::NoSpace(what)));
                }
                if is_refused {
                    self.was_refused = true;
                    self.writes.refused(job);
                    return Ok(Some(Happening::PersistRefused { job }));
                }
                self.writes.note_told(job);
                Happening::PersistStalled { job }
            }
            Report::Loaded(reply) => Happening::Loaded(reply),
            Report::Applied { results } => Happening::Applied { results },
            Report::Answered { call, result } => Happening::Answered { call, result },
            Report::Tolerance { of, tolerance } => {
                if self.configuration.as_ref().is_some_and(|it| it.configuration == of) {
                    let status = &self.outgoing.status;
                    status.send_modify(|status| status.tolerance = Some(tolerance.clone()));
                    self.tell(Event::Tolerance(tolerance));
                }
                return Ok(None);
            }
            Report::State { last, configurations, state } => {
                return self.write_snapshot(last, configurations, state).map(|()| None);
            }
            Report::Snapshot(news) => Happening::Snapshot(news),
            Report::Failed(reason) => return Err(reason),
        }))
    }

    /// The oldest write, if it has taken longer than the limit and that was not told yet.
    fn stalled_write(&mut self) -> Option<Happening> {
        let job = self.writes.overdue(self.clock.now())?;
        self.tell(Event::Warn(Warning::DiskStalled));
        Some(Happening::PersistStalled { job })
    }

    /// Hands writes to whoever writes them.
    fn write(&mut self, writes: Vec<(u64, Write)>) {
        if mem::take(&mut self.was_refused) {
            // What was handed out before is void, and what this step says is not.
            self.outgoing.writer.go_on();
        }
        if writes.is_empty() {
            return;
        }
        let now = self.clock.now();
        for (job, write) in writes {
            self.writes.begun(job, now);
            self.outgoing.writer.write(job, write);
        }
    }

    /// Does what steps say. What a thread that has ended does not take is lost; its end is reported.
    fn act(&mut self, actions: Actions) -> Result<(), StopReason> {
        let Actions { writes: _, send, load, snapshots, apply, query, reply, events } = actions;
        // Before messages and answers leave, so that whoever has one finds the state it speaks of.
        self.publish();
        let transport = &self.outgoing.transport;
        let sent = panic::catch_unwind(AssertUnwindSafe(|| {
            for (to, message) in send {
                transport.send(to, message);
            }
        }));
        for request in load {
            let _ = self.outgoing.reader.jobs.send(request);
        }
        for work in snapshots {
            self.keep(work)?;
        }
        if let Some(machine) = &self.outgoing.machine {
            let work = apply.into_iter().map(Work::Apply).chain(query.into_iter().map(Work::Query));
            for work in work {
                drop(machine.jobs.send(work));
            }
        }
        self.told += reply.len();
        for (call, outcome) in reply {
            if let Some(reply) = self.waiting.remove(&call) {
                // A client that waits no longer is no concern.
                drop(reply.send(outcome));
            }
        }
        for event in events {
            self.happened(event);
        }
        sent.map_err(|_| StopReason::Died("transport"))
    }

    /// Does something about snapshots, or has it done.
    fn keep(&mut self, work: SnapshotWork) -> Result<(), StopReason> {
        let outgoing = &mut self.outgoing;
        let work = match (work, &outgoing.machine) {
            (SnapshotWork::Take { last, configurations }, Some(machine)) => {
                drop(machine.jobs.send(Work::Snapshot { last, configurations }));
                return Ok(());
            }
            (SnapshotWork::Take { last, configurations }, None) => {
                return self.write_snapshot(last, configurations, Vec::new().into());
            }
            (SnapshotWork::Restore(meta), machine) => {
                if let Some(machine) = machine {
                    drop(machine.jobs.send(Work::Restore(meta)));
                }
                return Ok(());
            }
            (work, _) => work,
        };
        let Some(snapshots) = outgoing.snapshots.clone() else {
            return Ok(());
        };
        let keeper = if let Some(keeper) = outgoing.keeper.take() {
            keeper
        } else {
            let name = format!("raft-{}", self.replica.core().id());
            threads::start_keeper(&name, snapshots, self.mail.0.reporter())
                .map_err(|_| StopReason::Died("keeper of snapshots"))?
        };
        drop(keeper.jobs.send(work));
        self.outgoing.keeper = Some(keeper);
        Ok(())
    }

    fn write_snapshot(
        &self,
        last: EntryId,
        configurations: Arc<Configurations>,
        state: StateSnapshot,
    ) -> Result<(), StopReason> {
        let Some(snapshots) = self.outgoing.snapshots.clone() else {
            return Ok(());
        };
        let name = format!("raft-{}", self.replica.core().id());
        let reports = self.mail.0.reporter();
        threads::write_snapshot(&name, snapshots, last, configurations, state, reports)
            .map_err(|_| StopReason::Died("writer of a snapshot"))
    }

    fn happened(&mut self, event: replica::Event) {
        match event {
            replica::Event::Changed { .. } | replica::Event::Raft(core::Event::Configured) => {
                self.announce();
            }
            replica::Event::Committed { end } => {
                if let Some(seq) = end.before() {
                    self.tell(Event::Commit { seq });
                }
            }
            replica::Event::Applied { end } => {
                if let Some(seq) = end.before() {
                    self.tell(Event::Apply { seq });
                }
            }
            replica::Event::Raft(core::Event::Transferring { to }) => {
                self.tell(Event::Transferring { to });
            }
            replica::Event::Raft(core::Event::Transferred { to, result }) => {
                self.tell(Event::Transferred { to, result });
            }
            replica::Event::Raft(event) => {
                let Some(warning) = Warning::of(event) else { return };
                if matches!(warning, Warning::Removed) {
                    self.announce();
                }
                self.warn(warning);
            }
            replica::Event::Malformed { from, what } => {
                self.warn(Warning::Malformed { from, what });
            }
            replica::Event::LoadFailed { what, .. } => self.warn(Warning::Load(what)),
            replica::Event::SnapshotFailed { what } => self.warn(Warning::Snapshot(what)),
            replica::Event::SnapshotTaken { last, bytes } => {
                self.tell(Event::Snapshot { last, bytes });
            }
            replica::Event::SnapshotInstalled { last } => self.tell(Event::Installed { last }),
            replica::Event::Compacted { start } => self.tell(Event::Compacted { start }),
            _ => {}
        }
    }

    fn warn(&self, warning: Warning) {
        if matches!(warning, Warning::Malformed { .. }) {
            self.outgoing.status.send_modify(|status| status.malformed += 1);
        }
        self.tell(Event::Warn(warning));
    }

    fn tell(&self, event: Event) {
        // Nobody listens: fine.
        drop(self.outgoing.events.send(event));
    }

    /// Tells what `status()` says now, if that is news.
    fn announce(&mut self) {
        let now = {
            let status = self.outgoing.status.borrow();
            Announced {
                members: status.members.clone(),
                role: status.role,
                leader: status.leader,
                followers: status.followers.clone(),
                term: status.term,
            }
        };
        if self.announced.as_ref() == Some(&now) {
            return;
        }
        self.tell(Event::Change {
            id: self.replica.core().id(),
            members: now.members.clone(),
            role: now.role,
            leader: now.leader,
            followers: now.followers.clone(),
            term: now.term,
            open: true,
        });
        self.announced = Some(now);
    }

    /// Notes whether members or rules have changed. Returns the new ones.
    fn reconfigured(&mut self) -> Option<Placed> {
        let newest = self.replica.core().configurations()?.newest();
        let is_same = |known: &Placed| {
            known.at == newest.at && Arc::ptr_eq(&known.configuration, &newest.configuration)
        };
        if self.configuration.as_ref().is_some_and(is_same) {
            return None;
        }
        let newest = newest.clone();
        if newest.configuration.old().is_none() {
            let (of, customs) = (Arc::clone(&newest.configuration), self.custom_rules.clone());
            threads::work_out_tolerance(of, customs, self.mail.0.reporter());
        }
        self.configuration = Some(newest.clone());
        Some(newest)
    }

    fn publish(&mut self) {
        let now = self.replica.status();
        let configuration = self.reconfigured();
        let terms = self.replica.core().terms();
        let watchers = &self.outgoing.watchers;
        self.outgoing.status.send_if_modified(|status| {
            if let Some(placed) = configuration {
                status.configure(&placed);
            }
            status.role = now.role;
            status.leader = now.leader;
            status.paused = now.paused;
            status.transferring = now.transferring;
            status.term = now.term;
            status.followers = now.followers;
            status.start = now.start;
            status.snapshot = now.snapshot;
            status.durable = now.durable;
            status.committed = now.committed;
            status.applied = now.applied;
            status.committed_term = terms.entry_before(now.committed).map(|id| id.term);
            status.head =
                now.head.map(|head| Head { id: head.id, kind: head.kind, payload: head.payload });
            status.peers = Peer::all(now.peers, self.clock);
            status.calls = now.calls;
            status.syncs = self.syncs;
            // To wake nobody takes longer than all the rest of it.
            watchers.load(Ordering::Relaxed) > 0
        });
    }

    /// Ends every call, then every thread.
    async fn end(mut self, reason: StopReason) {
        self.outgoing.status.send_modify(|status| stopped(status, reason.clone()));
        let mail = self.mail;
        let unseen = mail.0.close();
        if self.is_sound {
            let actions = self.replica.step(self.clock.now(), Happening::Stop);
            for (call, outcome) in actions.reply {
                if let Some(reply) = self.waiting.remove(&call) {
                    drop(reply.send(outcome));
                }
            }
        } else {
            // Nobody knows what became of these: without an answer, that is what their callers say.
            self.waiting = Rising::new();
        }
        // The replica never saw these.
        let taken = mem::take(&mut self.waiting).into_iter().map(|(_, reply)| reply);
        for reply in taken.chain(unseen.into_iter().map(|asked| asked.reply)) {
            drop(reply.send(Outcome::Refused(replica::Refused::Stopped)));
        }
        let Outgoing { transport, writer, reader, machine, keeper, status, events, done, .. } =
            self.outgoing;
        drop(panic::catch_unwind(AssertUnwindSafe(|| transport.detach())));
        drop(transport);
        let (writer, mut late) = writer.end();
        let mut threads = vec![end_thread(reader)];
        threads.extend(writer);
        threads.extend(machine.map(end_thread));
        threads.extend(keeper.map(end_thread));
        let ended = future::poll_fn(|context| mail.poll_threads(context));
        // A disk that hangs is not waited for longer: its thread ends when it comes back.
        // Nor is it left to the runtime to wait for: that would never shut down.
        if tokio::time::timeout(self.close_timeout, ended).await.is_ok() {
            for thread in threads {
                // It caught its panic, if it had one.
                drop(thread.join());
            }
        }
        for report in mail.take(0).reports {
            if let Report::Failed(reason) = report {
                late = Some(reason);
            }
        }
        let reason = match (reason, late) {
            (StopReason::Closed, Some(late)) => late,
            (reason, _) => reason,
        };
        let change = {
            status.send_modify(|status| status.stopped = Some(reason.clone()));
            let status = status.borrow();
            Event::Change {
                id: status.id,
                members: status.members.clone(),
                role: status.role,
                leader: None,
                followers: Vec::new(),
                term: status.term,
                open: false,
            }
        };
        if !matches!(reason, StopReason::Closed | StopReason::Killed) {
            drop(events.send(Event::Error(reason)));
        }
        drop(events.send(change));
        drop(events);
        done.send_replace(true);
    }
}

/// Takes a thread's queue away, which ends it once it has done what is in there.
fn end_thread<T>(running: Running<T>) -> JoinHandle<()> {
    drop(running.jobs);
    running.thread
}
