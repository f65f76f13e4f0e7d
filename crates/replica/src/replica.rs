//! The state of a replica, and one step of it.
//!
//! A step takes in everything that happened, then works until nothing is left to do: calls to the leader,
//! entries to the state machine, answers to whoever waits. What each of these does is in `calls`, `routes`,
//! `serving`, `reads`, `applying`, `sending`, `steering` and `members`.

use std::collections::BTreeMap;
use std::mem;

use bytes::Bytes;
use tinyraftplus_core::{
    self as core, Core, Input, NodeId, Output, Proposal, Refusal, Resolution, Restored, Rising,
    Role, Seq, Term, Ticket, Time,
};

use crate::applying::{Applying, Owner, Tracked};
use crate::cache::Cache;
use crate::calls::{Calls, sum};
use crate::members::Changes;
use crate::reads::{Asker, Reads};
use crate::sending::Loads;
use crate::serving::{Book, Outbox, translate};
use crate::snapshots::{SnapshotMeta, Snapshots};
use crate::steering::Steering;
use crate::{
    Actions, Event, Happening, Message, Outcome, ReplicaOptions, StartError, Status, convert,
};

/// What an entry counts beside its payload.
const ENTRY_COST: u64 = 32;

/// A node without everything that touches the world.
///
/// Invariants:
///
/// * Each call that was taken in gets exactly one outcome.
/// * `applied <= ready <=` what the core has committed *and* knows to be durable here, unless the state machine
///   was further on when it started.
/// * Every number that was answered with "absent" for a term was never proposed in that term, and never is.
#[derive(Debug)]
pub struct Replica {
    pub(crate) options: ReplicaOptions,
    pub(crate) incarnation: u64,
    pub(crate) core: Core<Bytes>,
    pub(crate) now: Time,
    pub(crate) out: Actions,
    pub(crate) is_stopped: bool,
    /// Something came back that another round of this step can deal with.
    pub(crate) is_restless: bool,
    pub(crate) cache: Cache,
    pub(crate) loads: Loads,
    pub(crate) applying: Applying,
    pub(crate) tracked: Tracked,
    pub(crate) calls: Calls,
    pub(crate) reads: Reads,
    pub(crate) steering: Steering,
    pub(crate) changes: Changes,
    pub(crate) snapshots: Snapshots,
    /// What is to be proposed in this step, in order.
    pub(crate) proposals: Vec<(Owner, Vec<Bytes>)>,
    /// What this node knows of the terms it led.
    pub(crate) books: BTreeMap<Term, Book>,
    pub(crate) outbox: Outbox,
    pub(crate) read_tickets: BTreeMap<Ticket, Asker>,
    proposal_tickets: Rising<Ticket, Owner>,
    next_ticket: u64,
    told: Told,
}

/// What was reported last.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Told {
    role: Role,
    term: Term,
    leader: Option<NodeId>,
    followers: Vec<NodeId>,
    committed: Seq,
    applied: Seq,
}

impl Replica {
    /// A node that starts, or restarts, with what its log remembers.
    ///
    /// `applied` is the position after the last entry that the state machine has seen, or anything up to the
    /// log's start for one that has seen nothing. `snapshot` is the newest complete one that is kept: a state machine
    /// that is behind it is restored from it, and a log that lacks its last entry begins anew after it. `incarnation` is a
    /// number that no earlier start of this node had.
    ///
    /// # Errors
    ///
    /// If the options do not fit each other, or the state machine not the log.
    pub fn new(
        options: ReplicaOptions,
        restored: Restored,
        applied: Seq,
        snapshot: Option<SnapshotMeta>,
        incarnation: u64,
        now: Time,
    ) -> Result<Self, StartError> {
        options.check()?;
        let core = Core::new(options.raft.clone(), restored, now)?;
        let (start, end) = (core.terms().start(), core.terms().end());
        let applied = if options.state_machine { applied } else { start };
        let snapshot = snapshot.filter(|_| options.snapshots.is_some());
        let snapshot_end = snapshot.as_ref().map_or(Seq::ZERO, |meta| meta.last.seq.after());
        if applied > end.max(snapshot_end) {
            return Err(StartError::AheadOfLog { applied, end });
        }
        if applied < start && snapshot_end < start && core.terms().entry_before(start).is_some() {
            return Err(StartError::BehindLog { applied, start });
        }
        let seen = applied;
        let applied = applied.max(start);
        let told = Told {
            role: core.role(),
            term: core.term(),
            leader: core.leader(),
            followers: Vec::new(),
            committed: core.committed().max(applied),
            applied,
        };
        let mut replica = Self {
            options,
            incarnation,
            core,
            now,
            out: Actions::default(),
            is_stopped: false,
            is_restless: false,
            cache: Cache::new(end),
            loads: Loads::default(),
            applying: Applying::new(applied),
            tracked: Tracked::new(),
            calls: Calls::default(),
            reads: Reads::default(),
            steering: Steering::default(),
            changes: Changes::default(),
            snapshots: Snapshots::default(),
            proposals: Vec::new(),
            books: BTreeMap::new(),
            outbox: Outbox::new(),
            read_tickets: BTreeMap::new(),
            proposal_tickets: Rising::new(),
            next_ticket: 0,
            told,
        };
        replica.begin_with_snapshot(snapshot, seen);
        replica.load_head();
        Ok(replica)
    }

    /// What happens now. Never fails, never blocks. Time that goes back is taken as standing still.
    pub fn step(&mut self, now: Time, happening: Happening) -> Actions {
        self.step_all(now, [happening])
    }

    /// Everything that piled up, as one step: the calls in it become one write and one message a peer.
    pub fn step_all(
        &mut self,
        now: Time,
        happenings: impl IntoIterator<Item = Happening>,
    ) -> Actions {
        self.now = self.now.max(now);
        for happening in happenings {
            self.take(happening);
        }
        if !self.is_stopped {
            if self.core.wake_at() <= self.now {
                self.drive(Input::Wake);
            }
            self.expire();
            self.work();
            self.resend();
            self.flush_answers();
            self.forget_staged();
            self.cache.evict(self.options.cache_bytes_max, self.core.durable());
            self.report();
        }
        mem::take(&mut self.out)
    }

    /// When to come again with [`Happening::Wake`], unless something else happens first.
    pub fn wake_at(&self) -> Time {
        if self.is_stopped {
            return Time::NEVER;
        }
        let mine = [
            self.calls.next_deadline(),
            self.resend_at(),
            self.ask_at(),
            self.steer_at(),
            self.change_at(),
            self.applying.wake_at(),
            self.snapshots_wake_at(),
        ];
        mine.into_iter().fold(self.core.wake_at(), Time::min)
    }

    /// A consistent snapshot.
    pub fn status(&self) -> Status {
        let core = &self.core;
        let head = core.durable().before().and_then(|head| self.cache.get(head));
        Status {
            id: core.id(),
            identity: core.identity(),
            role: core.role(),
            term: core.term(),
            leader: core.leader(),
            paused: core.is_paused(),
            transferring: core.transferring(),
            configuration: core.configuration().cloned(),
            followers: self.followers().collect(),
            peers: core.peers().collect(),
            start: core.terms().start(),
            end: core.terms().end(),
            durable: core.durable(),
            committed: core.committed().max(self.applying.applied),
            applied: self.applying.applied,
            snapshot: self.snapshots.newest.as_ref().map(|meta| meta.last),
            head: head.cloned().map(convert::to_log),
            calls: self.calls.len(),
            calls_bytes: self.calls.bytes(),
            cache_bytes: self.cache.bytes(),
        }
    }

    /// The consensus, to look at.
    pub const fn core(&self) -> &Core<Bytes> {
        &self.core
    }

    pub(crate) fn leads(&self) -> bool {
        self.core.role() == Role::Leader
    }

    pub(crate) const fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Calls(calls) => calls.into_iter().for_each(|call| self.called(call)),
            Happening::Stop => self.stop(),
            _ if self.is_stopped => {}
            Happening::Wake => {}
            Happening::Receive { from, message } => self.receive(from, message),
            Happening::Persisted { job } => self.drive(Input::Persisted { job }),
            Happening::PersistStalled { job } => self.drive(Input::PersistStalled { job }),
            Happening::PersistRefused { job } => self.persist_refused(job),
            Happening::Alive { from, term } => self.drive(Input::Alive { from, term }),
            Happening::Loaded(reply) => self.loaded(reply),
            Happening::Applied { results } => self.applied(results),
            Happening::Answered { call, result } => self.answered(call, result),
            Happening::Snapshot(news) => self.snapshot_news(news),
        }
    }

    /// The core takes back what that write and later ones did to the log, and so does everything else.
    fn persist_refused(&mut self, job: u64) {
        if !self.core.awaits(job) {
            return;
        }
        // Those of this very step have not left yet.
        self.out.writes.retain(|&(number, _)| number < job);
        self.drive(Input::PersistRefused { job });
        let terms = self.core.terms();
        if !self.cache.agree(terms) {
            self.load_head();
        }
    }

    fn receive(&mut self, from: NodeId, message: Message) {
        if let Some(what) = message.malformed() {
            self.out.events.push(Event::Malformed { from, what });
            return;
        }
        let message = match message {
            Message::Raft(message) => return self.drive(Input::Receive { from, message }),
            message @ (Message::Forward(_)
            | Message::Inquire(_)
            | Message::Answers(_)
            | Message::ReadIndex(_)
            | Message::ReadIndexReply(_)
            | Message::TransferAsk(_)
            | Message::TransferReply(_)
            | Message::ChangeAsk(_)
            | Message::ChangeReply(_)
            | Message::SnapshotOffer(_)
            | Message::SnapshotChunk(_)
            | Message::SnapshotAck(_)) => message,
        };
        // Whoever has the key may pass calls on: a member that this node's log does not name yet, one whose disk
        // was lost, one that was removed.
        if from == self.core.id() {
            return;
        }
        match message {
            Message::Forward(forward) => self.on_forward(from, forward),
            Message::Inquire(inquire) => self.on_inquire(from, inquire),
            Message::Answers(answers) => self.on_answers(from, answers),
            Message::ReadIndex(index) => self.on_read_index(from, index),
            Message::ReadIndexReply(reply) => self.on_read_index_reply(reply),
            Message::TransferAsk(ask) => self.on_transfer_ask(from, ask),
            Message::TransferReply(reply) => self.on_transfer_reply(reply),
            Message::ChangeAsk(ask) => self.on_change_ask(from, *ask),
            Message::ChangeReply(reply) => self.on_change_reply(reply),
            Message::SnapshotOffer(offer) => self.on_snapshot_offer(from, *offer),
            Message::SnapshotChunk(chunk) => self.on_snapshot_chunk(from, chunk),
            Message::SnapshotAck(ack) => self.on_snapshot_ack(from, ack),
            Message::Raft(_) => {}
        }
    }

    /// Does what can be done now. Ends, because each round needs a call that came back, and a call comes back
    /// only when the leader or its term changes.
    fn work(&mut self) {
        loop {
            self.is_restless = false;
            self.pump_queue();
            self.propose();
            self.pump_reads();
            self.pump_steering();
            self.pump_changes();
            self.pump_snapshots();
            self.pump_apply();
            self.settle();
            self.serve_reads();
            if !self.is_restless {
                return;
            }
        }
    }

    /// Proposes what was collected, in writes of a reasonable size.
    fn propose(&mut self) {
        if self.core.transferring().is_some() {
            // Taken in just before the transfer began: they are proposed when it has ended, whatever that brings.
            return;
        }
        let mut proposals = Vec::new();
        let mut bytes = 0;
        for (owner, payloads) in mem::take(&mut self.proposals) {
            let more = sum(&payloads) + ENTRY_COST * payloads.len() as u64;
            if bytes > 0 && bytes + more > self.options.write_bytes_max {
                self.drive(Input::Propose(mem::take(&mut proposals)));
                bytes = 0;
            }
            bytes += more;
            let ticket = self.ticket();
            self.proposal_tickets.insert(ticket, owner);
            proposals.push(Proposal { ticket, payloads });
        }
        if !proposals.is_empty() {
            self.drive(Input::Propose(proposals));
        }
    }

    /// Steps the core and does what it says.
    pub(crate) fn drive(&mut self, input: Input<Bytes>) {
        let Output { persist, send, load, apply, restore, behind, resolve, events } =
            self.core.step(self.now, input);
        if let Some(persist) = persist {
            if let Some(last) = persist.reset {
                self.cache.reset(last.seq.after());
            }
            if let Some(end) = persist.trim {
                self.cache.trim(end);
            }
            if let Some(start) = persist.compact {
                self.compaction_begins(persist.job, start);
            }
            self.cache.append(&persist.append);
            self.out.writes.push((persist.job, convert::write(persist)));
        }
        self.keep_books();
        if let Some(span) = apply {
            self.applying.ready = self.applying.ready.max(span.end);
        }
        if let Some(last) = restore {
            self.restore(last);
        }
        for peer in behind {
            self.peer_is_behind(peer);
        }
        for (ticket, resolution) in resolve {
            self.resolved(ticket, resolution);
        }
        for transmit in send {
            self.transmit(transmit);
        }
        for load in load {
            self.load_batches(load);
        }
        let news = events.into_iter().filter(|event| *event != core::Event::Changed);
        self.out.events.extend(news.map(Event::Raft));
    }

    fn resolved(&mut self, ticket: Ticket, resolution: Resolution) {
        if let Some(asker) = self.read_tickets.remove(&ticket) {
            return self.read_resolved(asker, resolution);
        }
        if self.change_resolved(ticket, resolution) {
            return;
        }
        if let Resolution::Transfer(result) = resolution {
            return self.transfer_resolved(ticket, result);
        }
        // What becomes of an accepted batch shows in the log itself: `settle` looks.
        let Some(owner) = self.proposal_tickets.remove(&ticket) else {
            return;
        };
        match (owner, resolution) {
            (Owner::Call(order), Resolution::Accepted { first, last }) => {
                self.call_accepted(order, first, last);
            }
            (Owner::Foreign(served), Resolution::Accepted { first, last }) => {
                self.served_accepted(served, first, last);
            }
            (Owner::Call(order), Resolution::Refused(refusal)) => self.refused(order, refusal),
            (Owner::Foreign(served), Resolution::Refused(refusal)) => {
                self.served_refused(served, refusal);
            }
            (
                _,
                Resolution::Committed { .. }
                | Resolution::ReadAt { .. }
                | Resolution::Changed { .. }
                | Resolution::Unsettled
                | Resolution::Transfer(_),
            ) => {}
        }
    }

    fn refused(&mut self, order: u64, refusal: Refusal) {
        match translate(refusal) {
            Some(why) => self.finish(order, Outcome::Refused(why)),
            None => self.call_absent(order, self.core.term()),
        }
    }

    /// If it leads: the peers that it has heard from within an election timeout.
    fn followers(&self) -> impl Iterator<Item = NodeId> {
        let (now, timeout) = (self.now, self.options.raft.election_timeout);
        let lately = move |at: Time| now.since(at) <= timeout;
        let peers = self.core.peers();
        peers.filter(move |(_, peer)| peer.last_contact.is_some_and(lately)).map(|(id, _)| id)
    }

    fn report(&mut self) {
        let core = &self.core;
        let (role, term, leader) = (core.role(), core.term(), core.leader());
        let applied = self.applying.applied;
        // What was taken back for lack of space is as committed as before.
        let committed = core.committed().max(applied).max(self.told.committed);
        let stays = self.followers().eq(self.told.followers.iter().copied());
        if !stays || (role, term, leader) != (self.told.role, self.told.term, self.told.leader) {
            let followers: Vec<NodeId> = self.followers().collect();
            self.told.followers.clone_from(&followers);
            self.out.events.push(Event::Changed { role, term, leader, followers });
        }
        let before = mem::replace(&mut self.told.committed, committed);
        if committed > before {
            self.out.events.push(Event::Committed { end: committed });
        }
        let before = mem::replace(&mut self.told.applied, applied);
        if applied > before {
            self.out.events.push(Event::Applied { end: applied });
        }
        (self.told.role, self.told.term, self.told.leader) = (role, term, leader);
    }
}
