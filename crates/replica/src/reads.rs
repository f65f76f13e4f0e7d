//! Linearizable reads on any node.
//!
//! The leader tells up to where everything lies that was committed when a read began; the node that has the
//! read waits until it has applied that much, and answers from its own state machine. Reads that arrive
//! together share one question. A read has no effect, so it may be asked again, of another leader too: an
//! answer given after the read began is a good one, whoever was asked first.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tinyraftplus_core::{Input, NodeId, Resolution, Seq, Ticket, Time};

use tinyraftplus_core::planted::{self, Bug};

use crate::calls::{Way, Work};
use crate::{CallId, Message, Outcome, Query, ReadIndex, ReadIndexReply, Refused, Replica};

/// How many questions may be open; reads that come meanwhile share the next one.
const QUESTIONS_MAX: usize = 8;
/// How many questions of other nodes a leader has open.
const FOREIGN_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Calls that are not part of a question yet.
    pub(crate) waiting: Vec<u64>,
    next: u64,
    /// Questions without an answer, by number.
    open: BTreeMap<u64, Question>,
    /// Calls that wait until everything before a position is applied.
    ready: BTreeSet<(Seq, u64)>,
    /// How many questions the state machine has not answered, those of calls that have ended included.
    asked: usize,
    /// Which way the questions went last.
    way: Option<Way>,
    foreign: usize,
}

#[derive(Debug)]
struct Question {
    calls: Vec<u64>,
    /// When to ask again.
    ask_at: Time,
    /// Open at the core of this node, which answers every ticket.
    ticket: Option<Ticket>,
}

/// Who asked the core about a read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker {
    /// This node, for the question of that number.
    Own(u64),
    /// Another node.
    Foreign(NodeId, ReadIndex),
}

impl Replica {
    /// Asks about reads that wait, and again about those without an answer.
    pub(crate) fn pump_reads(&mut self) {
        let way = self.way();
        let is_new_way = self.reads.way.replace(way) != Some(way);
        let is_removed = self.is_removed();
        if is_removed || (way == Way::None && self.options.fail_fast) {
            let why = if is_removed { Refused::NotAMember } else { Refused::NoLeader };
            let waiting = std::mem::take(&mut self.reads.waiting);
            let asked = std::mem::take(&mut self.reads.open).into_values().flat_map(|q| q.calls);
            for order in waiting.into_iter().chain(asked) {
                self.finish(order, Outcome::Refused(why.clone()));
            }
            return;
        }
        self.reads.waiting.retain(|order| self.calls.all.contains_key(order));
        if !self.reads.waiting.is_empty()
            && self.reads.open.len() < QUESTIONS_MAX
            && way != Way::None
        {
            self.reads.next += 1;
            let calls = std::mem::take(&mut self.reads.waiting);
            let question = Question { calls, ask_at: self.now, ticket: None };
            self.reads.open.insert(self.reads.next, question);
        }
        let now = self.now;
        let due = |q: &Question| q.ticket.is_none() && (q.ask_at <= now || is_new_way);
        let due = self.reads.open.iter().filter(|(_, question)| due(question));
        let due: Vec<u64> = due.map(|(&number, _)| number).collect();
        for number in due {
            self.ask(number, way);
        }
    }

    fn ask(&mut self, number: u64, way: Way) {
        let ask_at = self.now + self.options.retry_interval;
        let Some(question) = self.reads.open.get_mut(&number) else {
            return;
        };
        question.calls.retain(|order| self.calls.all.contains_key(order));
        if question.calls.is_empty() {
            self.reads.open.remove(&number);
            return;
        }
        question.ask_at = ask_at;
        match way {
            Way::None => {}
            Way::Own { .. } => {
                let ticket = self.ticket();
                if let Some(question) = self.reads.open.get_mut(&number) {
                    question.ticket = Some(ticket);
                }
                self.read_tickets.insert(ticket, Asker::Own(number));
                self.drive(Input::Read { ticket });
            }
            Way::Remote { to, .. } => {
                let (from, incarnation) = (self.core.identity(), self.incarnation);
                let index = ReadIndex { from, incarnation, number };
                self.out.send.push((to, Message::ReadIndex(index)));
            }
        }
    }

    pub(crate) fn on_read_index(&mut self, from: NodeId, index: ReadIndex) {
        if !self.leads() || self.reads.foreign >= FOREIGN_MAX {
            // Whoever asked asks again, maybe somebody else.
            return;
        }
        self.reads.foreign += 1;
        let ticket = self.ticket();
        self.read_tickets.insert(ticket, Asker::Foreign(from, index));
        self.drive(Input::Read { ticket });
    }

    pub(crate) fn on_read_index_reply(&mut self, reply: ReadIndexReply) {
        let ReadIndexReply { to, incarnation, number, end, kept } = reply;
        // The numbers of an earlier process of this node were other reads.
        if to == self.core.identity() && incarnation == self.incarnation {
            self.read_at(number, end, kept);
        }
    }

    /// The core has answered a question, of this node or another.
    pub(crate) fn read_resolved(&mut self, asker: Asker, resolution: Resolution) {
        let end = match resolution {
            Resolution::ReadAt { end } => Some(end),
            Resolution::Refused(_)
            | Resolution::Accepted { .. }
            | Resolution::Committed { .. }
            | Resolution::Changed { .. }
            | Resolution::Unsettled
            | Resolution::Transfer(_) => None,
        };
        match (asker, end) {
            (Asker::Own(number), Some(end)) => self.read_at(number, end, self.held_by_all()),
            (Asker::Own(number), None) => {
                if let Some(question) = self.reads.open.get_mut(&number) {
                    question.ticket = None;
                }
            }
            (Asker::Foreign(to, index), end) => {
                self.reads.foreign = self.reads.foreign.saturating_sub(1);
                if let Some(end) = end {
                    let ReadIndex { from, incarnation, number } = index;
                    let kept = self.held_by_all();
                    let reply = ReadIndexReply { to: from, incarnation, number, end, kept };
                    self.out.send.push((to, Message::ReadIndexReply(reply)));
                }
            }
        }
    }

    fn read_at(&mut self, number: u64, end: Seq, kept: Seq) {
        if let Some(question) = self.reads.open.remove(&number) {
            for order in question.calls {
                self.read_ready(order, end);
                self.compaction_allowed(order, Some(kept));
            }
            self.is_restless |= !self.reads.waiting.is_empty();
        }
    }

    /// A read can be answered once everything before `end` is applied.
    pub(crate) fn read_ready(&mut self, order: u64, end: Seq) {
        if let Some(Work::Read { ready, .. }) = self.calls.all.get_mut(&order).map(|p| &mut p.work)
        {
            *ready = Some(end);
            self.reads.ready.insert((end, order));
        }
    }

    /// Nobody waits for that read any more.
    pub(crate) fn read_ended(&mut self, order: u64, ready: Option<Seq>) {
        if let Some(end) = ready {
            self.reads.ready.remove(&(end, order));
        }
    }

    /// Answers the reads that this node has applied enough for.
    ///
    /// Not more than so many questions wait for the state machine: one that hangs would else be asked anew
    /// by every call that comes after those that have timed out.
    pub(crate) fn serve_reads(&mut self) {
        let seen_end = self.applying.handed_out().max(self.snapshots.restoring_to());
        let first = self.core.configuration().map_or(Seq::ZERO, |it| it.first());
        let seen = seen_end.before().filter(|&seq| seq >= first);
        while self.reads.asked < self.options.calls_max
            && let Some((end, order)) = self.reads.ready.first().copied()
            && (end <= seen_end || planted::is(Bug::ServeEarly))
        {
            self.reads.ready.remove(&(end, order));
            let Some(pending) = self.calls.all.get_mut(&order) else {
                continue;
            };
            let Work::Read { query, .. } = &mut pending.work else {
                continue;
            };
            let query = std::mem::take(query);
            if self.options.state_machine {
                pending.work = Work::Querying { seen };
                self.reads.asked += 1;
                self.out.query.push(Query { call: pending.id, query });
            } else {
                self.finish(order, Outcome::Read { seq: seen, result: Bytes::new() });
            }
        }
    }

    /// The state machine has answered.
    pub(crate) fn answered(&mut self, call: CallId, result: Result<Bytes, String>) {
        self.reads.asked = self.reads.asked.saturating_sub(1);
        let Some(order) = self.calls.order_of(call) else {
            return;
        };
        let Some(Work::Querying { seen }) = self.calls.all.get(&order).map(|p| &p.work) else {
            return;
        };
        let seq = *seen;
        let outcome = match result {
            Ok(result) => Outcome::Read { seq, result },
            Err(why) => Outcome::Refused(Refused::Query(why)),
        };
        self.finish(order, outcome);
    }

    pub(crate) fn ask_at(&self) -> Time {
        let open = self.reads.open.values().filter(|question| question.ticket.is_none());
        open.map(|question| question.ask_at).min().unwrap_or(Time::NEVER)
    }
}
