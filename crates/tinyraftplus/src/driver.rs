//! The task that steps the replica.
//!
//! It waits until something happens, takes everything that piled up meanwhile as one step, and hands out what
//! the step says: so what arrived during one write of the log is the next write. It decides nothing itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tinyraftplus_core::{self as core, NodeId, Time};
use tinyraftplus_log::Write;
use tinyraftplus_net::Transport;
use tinyraftplus_replica::{
    self as replica, Actions, Call, CallId, Happening, LoadRequest, Message, Outcome, Replica,
    Request,
};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::threads::{Report, Running, Work};
use crate::{Event, Head, Status, StopReason, Warning};

/// How many messages, calls and reports one step takes.
const STEP_MAX: usize = 4096;

/// Turns the clock into the replica's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Time {
        Time::ZERO + self.0.elapsed()
    }

    fn instant(self, time: Time) -> Instant {
        // Past the end of the clock is as good as never; a day is often enough to look.
        let after = time.since(Time::ZERO).min(self.0.elapsed() + Duration::from_hours(24));
        self.0 + after
    }
}

/// A client's call on its way to the replica.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) deadline: Time,
    pub(crate) reply: oneshot::Sender<Outcome>,
}

/// What comes to the driver.
pub(crate) struct Incoming {
    /// Closed when the last handle is dropped.
    pub(crate) calls: mpsc::Receiver<Asked>,
    pub(crate) messages: mpsc::Receiver<(NodeId, Message)>,
    pub(crate) reports: mpsc::Receiver<Report>,
    /// Why the node is to stop.
    pub(crate) stop: mpsc::Receiver<StopReason>,
}

/// Where the driver hands things to.
pub(crate) struct Outgoing {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) writer: Running<(u64, Write)>,
    pub(crate) reader: Running<LoadRequest>,
    pub(crate) machine: Option<Running<Work>>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) events: broadcast::Sender<Event>,
    /// True once no task and no thread is left.
    pub(crate) done: watch::Sender<bool>,
}

pub(crate) struct Driver {
    pub(crate) replica: Replica,
    pub(crate) clock: Clock,
    pub(crate) incoming: Incoming,
    pub(crate) outgoing: Outgoing,
    /// Who waits for which call.
    pub(crate) waiting: BTreeMap<CallId, oneshot::Sender<Outcome>>,
    pub(crate) next_call: u64,
    /// Writes that are not durable yet, and when they were handed out.
    pub(crate) writes: VecDeque<(u64, Time)>,
    /// How often the log has synced.
    pub(crate) syncs: u64,
    pub(crate) stall_limit: Duration,
    /// The newest write that was reported as stalled.
    pub(crate) stalled: u64,
    pub(crate) close_timeout: Duration,
}

impl Driver {
    pub(crate) async fn run(mut self) {
        self.publish();
        self.announce();
        let reason = loop {
            match self.happenings().await {
                Ok(happenings) => {
                    let actions = self.replica.step_all(self.clock.now(), happenings);
                    self.act(actions);
                }
                Err(reason) => break reason,
            }
        };
        self.end(reason).await;
    }

    /// Waits until something happens, and takes what happened.
    async fn happenings(&mut self) -> Result<Vec<Happening>, StopReason> {
        let wake_at = self.clock.instant(self.wake_at());
        let Incoming { calls, messages, reports, stop } = &mut self.incoming;
        let (mut asked, mut received, mut reported) = (Vec::new(), Vec::new(), Vec::new());
        tokio::select! {
            biased;
            reason = stop.recv() => return Err(reason.unwrap_or(StopReason::Closed)),
            _ = reports.recv_many(&mut reported, STEP_MAX) => {}
            _ = messages.recv_many(&mut received, STEP_MAX) => {}
            count = calls.recv_many(&mut asked, STEP_MAX) => {
                if count == 0 {
                    return Err(StopReason::Closed);
                }
            }
            () = tokio::time::sleep_until(wake_at) => {}
        }
        drain(reports, &mut reported);
        drain(messages, &mut received);
        drain(calls, &mut asked);
        let asked: Vec<Call> = asked.into_iter().map(|asked| self.asked(asked)).collect();
        let mut happenings = Vec::with_capacity(reported.len() + received.len() + 2);
        for report in reported {
            happenings.extend(self.reported(report)?);
        }
        let receive = |(from, message)| Happening::Receive { from, message };
        happenings.extend(received.into_iter().map(receive));
        if !asked.is_empty() {
            happenings.push(Happening::Calls(asked));
        }
        happenings.extend(self.stalled_write());
        happenings.push(Happening::Wake);
        Ok(happenings)
    }

    fn wake_at(&self) -> Time {
        let oldest = self.writes.iter().find(|(job, _)| *job > self.stalled);
        let stall_at = oldest.map_or(Time::NEVER, |&(_, since)| since + self.stall_limit);
        self.replica.wake_at().min(stall_at)
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
                while self.writes.pop_front_if(|(written, _)| *written <= job).is_some() {}
                Happening::Persisted { job }
            }
            Report::NoSpace { job, what } => {
                self.stalled = self.stalled.max(job);
                self.tell(Event::Warn(Warning::NoSpace(what)));
                Happening::PersistStalled { job }
            }
            Report::Loaded(reply) => Happening::Loaded(reply),
            Report::Applied { results } => Happening::Applied { results },
            Report::Answered { call, result } => Happening::Answered { call, result },
            Report::Failed(reason) => return Err(reason),
        }))
    }

    /// The oldest write, if it has taken longer than the limit and that was not told yet.
    fn stalled_write(&mut self) -> Option<Happening> {
        let &(job, since) = self.writes.front()?;
        if job <= self.stalled || self.clock.now().since(since) < self.stall_limit {
            return None;
        }
        self.stalled = self.writes.back().map_or(job, |&(newest, _)| newest);
        self.tell(Event::Warn(Warning::DiskStalled));
        Some(Happening::PersistStalled { job })
    }

    /// Does what a step says. What a thread that has ended does not take is lost; its end is reported.
    fn act(&mut self, actions: Actions) {
        let Actions { writes, send, load, apply, query, reply, events } = actions;
        let now = self.clock.now();
        for (job, write) in writes {
            self.writes.push_back((job, now));
            drop(self.outgoing.writer.jobs.send((job, write)));
        }
        // Before messages and answers leave, so that whoever has one finds the state it speaks of.
        self.publish();
        for (to, message) in send {
            self.outgoing.transport.send(to, message);
        }
        for request in load {
            let _ = self.outgoing.reader.jobs.send(request);
        }
        if let Some(machine) = &self.outgoing.machine {
            let work = apply.into_iter().map(Work::Apply).chain(query.into_iter().map(Work::Query));
            for work in work {
                drop(machine.jobs.send(work));
            }
        }
        for (call, outcome) in reply {
            if let Some(reply) = self.waiting.remove(&call) {
                // A client that waits no longer is no concern.
                drop(reply.send(outcome));
            }
        }
        for event in events {
            self.happened(event);
        }
    }

    fn happened(&self, event: replica::Event) {
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
            replica::Event::Raft(event) => self.tell(Event::Warn(Warning::Raft(event))),
            replica::Event::Malformed { from, what } => {
                self.tell(Event::Warn(Warning::Malformed { from, what }));
            }
            replica::Event::LoadFailed { what, .. } => self.tell(Event::Warn(Warning::Load(what))),
            _ => {}
        }
    }

    fn tell(&self, event: Event) {
        // Nobody listens: fine.
        drop(self.outgoing.events.send(event));
    }

    /// Tells what `status()` says now.
    fn announce(&self) {
        let event = {
            let status = self.outgoing.status.borrow();
            Event::Change {
                id: status.id,
                members: status.members.clone(),
                role: status.role,
                leader: status.leader,
                followers: status.followers.clone(),
                term: status.term,
                open: status.open,
            }
        };
        self.tell(event);
    }

    fn publish(&self) {
        let now = self.replica.status();
        let terms = self.replica.core().terms();
        self.outgoing.status.send_modify(|status| {
            if let Some(configuration) = &now.configuration {
                status.members.clear();
                status.members.extend(configuration.members().iter().map(|member| member.id));
            }
            status.role = now.role;
            status.leader = now.leader;
            status.term = now.term;
            status.followers = now.followers;
            status.durable = now.durable;
            status.committed = now.committed;
            status.applied = now.applied;
            status.committed_term = terms.entry_before(now.committed).map(|id| id.term);
            status.head =
                now.head.map(|head| Head { id: head.id, kind: head.kind, payload: head.payload });
            status.peers = now.peers;
            status.calls = now.calls;
            status.syncs = self.syncs;
        });
    }

    /// Ends every call, then every thread.
    async fn end(mut self, reason: StopReason) {
        self.outgoing.status.send_modify(|status| {
            status.open = false;
            status.leader = None;
            status.followers.clear();
            status.peers.clear();
            status.stopped = Some(reason.clone());
        });
        let Incoming { mut calls, messages, mut reports, stop } = self.incoming;
        calls.close();
        let actions = self.replica.step(self.clock.now(), Happening::Stop);
        for (call, outcome) in actions.reply {
            if let Some(reply) = self.waiting.remove(&call) {
                drop(reply.send(outcome));
            }
        }
        // The replica never saw these.
        let mut unseen: Vec<_> = std::mem::take(&mut self.waiting).into_values().collect();
        while let Ok(asked) = calls.try_recv() {
            unseen.push(asked.reply);
        }
        for reply in unseen {
            drop(reply.send(Outcome::Refused(replica::Refused::Stopped)));
        }
        let Outgoing { transport, writer, reader, machine, status, events, done } = self.outgoing;
        transport.detach();
        drop(messages);
        drop(stop);
        let mut threads = vec![end_thread(writer), end_thread(reader)];
        threads.extend(machine.map(end_thread));
        let join = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // It caught its panic, if it had one.
                drop(thread.join());
            }
        });
        let mut late = None;
        let ended = async {
            tokio::pin!(join);
            loop {
                tokio::select! {
                    _ = &mut join => break,
                    Some(report) = reports.recv() => {
                        if let Report::Failed(reason) = report {
                            late = Some(reason);
                        }
                    }
                }
            }
        };
        // A disk that hangs is not waited for longer: its thread ends when it comes back.
        drop(tokio::time::timeout(self.close_timeout, ended).await);
        while let Ok(report) = reports.try_recv() {
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

fn drain<T>(from: &mut mpsc::Receiver<T>, to: &mut Vec<T>) {
    while to.len() < STEP_MAX
        && let Ok(next) = from.try_recv()
    {
        to.push(next);
    }
}
