//! Passing calls to the leader, as their origin.
//!
//! A route leads from this process of this node to the leader of one term. Its calls are numbered 1, 2, 3 ..
//! and sent again, in order, until the leader has told what became of each. A call that its client gave up
//! keeps its number, or the leader would wait for it for ever: it is sent on without payloads.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use bytes::Bytes;
use tinyraftplus_core::{EntryId, Identity, NodeId, Seq, Term, Time};

use tinyraftplus_core::planted::{self, Bug};

use crate::applying::Owner;
use crate::calls::{Place, Way, size, sum};
use crate::{
    Answer, Answers, Event, Forward, Inquire, Message, Outcome, ROUTE_CALLS_MAX, Replica, Route,
    Unknown,
};

/// The way to the leader of one term.
#[derive(Debug)]
pub(crate) struct RouteOut {
    to: NodeId,
    route: Route,
    /// The number of the next call.
    next: u64,
    /// The calls whose fate the leader has not told, by number.
    items: BTreeMap<u64, Item>,
    /// Bytes of payloads that the leader is not known to have.
    bytes: u64,
    /// How often in a row it was asked again without learning anything.
    repeats: u32,
    /// The leader has said that it leads no more, or was restarted. In this term it never will again, so nothing new is sent
    /// there, although this node may not know of another leader for a while.
    is_over: bool,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    /// The call, unless its client gave up.
    order: Option<u64>,
    bytes: u64,
    /// When it was sent, or asked about, last.
    asked_at: Time,
    /// Whether the leader is known to have it.
    is_accepted: bool,
}

impl RouteOut {
    fn awaiting(&self) -> u64 {
        self.items.first_key_value().map_or(self.next, |(&number, _)| number)
    }

    fn has_room(&self, bytes: u64, bytes_max: u64) -> bool {
        self.next - self.awaiting() < ROUTE_CALLS_MAX
            && (self.bytes == 0 || self.bytes.saturating_add(bytes) <= bytes_max)
    }

    /// The client of that call waits no longer.
    pub(crate) fn give_up(&mut self, number: u64, order: u64) {
        let Some(item) = self.items.get_mut(&number).filter(|item| item.order == Some(order))
        else {
            return;
        };
        if item.is_accepted {
            self.items.remove(&number);
        } else {
            self.bytes = self.bytes.saturating_sub(mem::take(&mut item.bytes));
            item.order = None;
        }
    }

    fn remove(&mut self, number: u64) {
        let Some(item) = self.items.remove(&number) else {
            return;
        };
        self.repeats = 0;
        if !item.is_accepted {
            self.bytes = self.bytes.saturating_sub(item.bytes);
        }
    }

    /// When it is to be asked about its calls again. A leader that has nothing new to say is asked less and less
    /// often, down to every 16th time: its answers name every call that is under way.
    fn ask_at(&self, retry: Duration) -> Option<Time> {
        let patience = retry.saturating_mul(1 << self.repeats.min(4));
        self.items.first_key_value().map(|(_, item)| item.asked_at + patience)
    }

    fn is_live(&self) -> bool {
        self.items.values().any(|item| item.order.is_some())
    }
}

impl Replica {
    /// Which way appends go now.
    pub(crate) fn way(&self) -> Way {
        let term = self.core.term();
        match self.core.leader() {
            _ if self.leads() => Way::Own { term },
            _ if self.calls.routes.get(&term).is_some_and(|route| route.is_over) => Way::None,
            Some(to) if to != self.core.id() => {
                let identity = self.core.leader_identity();
                identity.map_or(Way::None, |leader| Way::Remote { to, leader, term })
            }
            Some(_) | None => Way::None,
        }
    }

    /// Sends queued calls to the leader, as far as there is room on the route.
    pub(crate) fn forward(&mut self, to: NodeId, leader: Identity, term: Term) {
        let (asked_at, bytes_max) = (self.now, self.options.forward_bytes_max);
        let (origin, incarnation) = (self.core.identity(), self.incarnation);
        let mut first = None;
        while let Some(&(order, ())) = self.calls.queue.first() {
            let bytes = self.calls.payloads(order).map_or(0, |payloads| sum(payloads));
            let route = self.calls.routes.entry(term).or_insert_with(|| RouteOut {
                to,
                route: Route { origin, incarnation, leader, term },
                next: 1,
                items: BTreeMap::new(),
                bytes: 0,
                repeats: 0,
                is_over: false,
            });
            if !route.has_room(bytes, bytes_max) {
                break;
            }
            let number = route.next;
            route.next += 1;
            route.bytes += bytes;
            let item = Item { order: Some(order), bytes, asked_at, is_accepted: false };
            route.items.insert(number, item);
            first = first.or(Some(number));
            self.calls.depart(order, term, Place::Route { term, number, first: None });
        }
        if let Some(first) = first {
            self.send_calls(term, first, asked_at);
        }
    }

    /// Sends the calls of a route from that number on that were sent last at `asked_by` or before, but none
    /// that the leader is known to have.
    fn send_calls(&mut self, term: Term, first: u64, asked_by: Time) {
        let Some(route) = self.calls.routes.get(&term) else {
            return;
        };
        let (to, awaiting, bytes_max) =
            (route.to, route.awaiting(), self.options.raft.append_bytes_max);
        let mut messages: Vec<Forward> = Vec::new();
        let mut bytes = u64::MAX;
        let lacks = |item: &Item| !item.is_accepted && item.asked_at <= asked_by;
        for (&number, item) in route.items.range(first..).filter(|(_, item)| lacks(item)) {
            let payloads = item.order.and_then(|order| self.calls.payloads(order));
            let payloads: Vec<Bytes> = payloads.cloned().unwrap_or_default();
            let more = size(&payloads);
            bytes = bytes.saturating_add(more);
            let follows = |last: &&mut Forward| last.first + last.calls.len() as u64 == number;
            if let Some(last) = messages.last_mut().filter(follows).filter(|_| bytes <= bytes_max) {
                last.calls.push(payloads);
            } else {
                bytes = more;
                let calls = vec![payloads];
                messages.push(Forward { route: route.route, awaiting, first: number, calls });
            }
        }
        self.out.send.extend(messages.into_iter().map(|forward| (to, Message::Forward(forward))));
    }

    /// Sends again what was not answered in time, and asks about what is known to be there.
    pub(crate) fn resend(&mut self) {
        let (now, term) = (self.now, self.core.term());
        self.calls.routes.retain(|&of, route| of >= term || route.is_live());
        let retry = self.options.retry_interval;
        let is_due = |route: &RouteOut| route.ask_at(retry).is_some_and(|at| at <= now);
        let due = self.calls.routes.iter().filter(|(_, route)| is_due(route));
        let due: Vec<Term> = due.map(|(&of, _)| of).collect();
        let way = self.way();
        for of in due {
            let Some(route) = self.calls.routes.get(&of) else {
                continue;
            };
            let (to, awaiting) = (route.to, route.awaiting());
            // The present leader is sent again what it may lack. One of the past won't take it any more; all
            // there is to learn is what became of it.
            let is_present = matches!(way, Way::Remote { term, .. } if term == of);
            let lacking = route.items.iter().find(|(_, item)| !item.is_accepted);
            let lacking = lacking.filter(|_| is_present).map(|(&number, _)| number);
            let end = lacking.unwrap_or(route.next);
            if awaiting < end {
                let inquire = Inquire { route: route.route, awaiting, end };
                self.out.send.push((to, Message::Inquire(inquire)));
            }
            if let Some(first) = lacking {
                // What came after a lost call was dropped with it. Sent again one by one, each when its own time
                // has come, they would be late for ever: the next calls are always too early.
                let before_now = Time::from_nanos(now.as_nanos().saturating_sub(1));
                self.send_calls(of, first, before_now);
            }
            if let Some(route) = self.calls.routes.get_mut(&of) {
                route.repeats = route.repeats.saturating_add(1);
                route.items.values_mut().for_each(|item| item.asked_at = now);
            }
        }
    }

    pub(crate) fn resend_at(&self) -> Time {
        let retry = self.options.retry_interval;
        let ask_at = self.calls.routes.values().filter_map(|route| route.ask_at(retry));
        ask_at.min().unwrap_or(Time::NEVER)
    }

    /// What a leader, present or past, says of calls that were sent to it.
    pub(crate) fn on_answers(&mut self, from: NodeId, answers: Answers) {
        let Answers { route, from: identity, answers } = answers;
        let known = self.calls.routes.get(&route.term);
        if known.is_none_or(|known| known.route != route || known.to != from) {
            return;
        }
        for (number, answer) in answers {
            // Whoever lost its disk can't know what it accepted before.
            let answer = if identity == route.leader { answer } else { Answer::Unknown };
            let retries = planted::is(Bug::RetryUnknown) && answer == Answer::Unknown;
            let answer = if retries { Answer::Absent } else { answer };
            self.on_answer(from, route.term, number, answer);
        }
    }

    fn on_answer(&mut self, from: NodeId, term: Term, number: u64, answer: Answer) {
        let Some(route) = self.calls.routes.get_mut(&term) else {
            return;
        };
        let Some(&item) = route.items.get(&number) else {
            return;
        };
        let Some(order) = item.order else {
            // Its client is gone, its number is taken: that is all there was to wait for.
            route.remove(number);
            return;
        };
        match answer {
            Answer::Accepted { first, last } => {
                if item.is_accepted {
                    return;
                }
                if self.names_call(term, order, first, last) {
                    self.route_accepted(term, number, first, last);
                } else {
                    self.out.events.push(Event::Malformed { from, what: "accepted another batch" });
                }
            }
            Answer::Committed { first, last, results } => {
                if self.names_call(term, order, first, last) {
                    self.end_route(term, number);
                    self.call_committed(order, first, last, results);
                } else {
                    self.out
                        .events
                        .push(Event::Malformed { from, what: "committed another batch" });
                }
            }
            Answer::Refused(why) => {
                self.end_route(term, number);
                self.finish(order, Outcome::Refused(why));
            }
            Answer::Absent => {
                route.is_over = true;
                self.end_route(term, number);
                self.call_absent(order, term);
            }
            Answer::Unknown => {
                route.is_over = true;
                self.end_route(term, number);
                // If it is known where it went, this node sees by itself what becomes of that entry.
                if !item.is_accepted {
                    self.finish(order, Outcome::Unknown(Unknown::Forgotten));
                }
            }
        }
    }

    fn end_route(&mut self, term: Term, number: u64) {
        if let Some(route) = self.calls.routes.get_mut(&term) {
            route.remove(number);
        }
    }

    fn route_accepted(&mut self, term: Term, number: u64, first: EntryId, last: EntryId) {
        let Some(route) = self.calls.routes.get_mut(&term) else {
            return;
        };
        let Some(item) = route.items.get_mut(&number) else {
            return;
        };
        item.is_accepted = true;
        route.repeats = 0;
        route.bytes = route.bytes.saturating_sub(mem::take(&mut item.bytes));
        let Some(order) = item.order else {
            return;
        };
        if let Some(place) = self.calls.place(order) {
            *place = Place::Route { term, number, first: Some(first.seq) };
        }
        self.track(first, last, Owner::Call(order));
    }

    /// Whether these ids can be those of that call in the log of that term's leader.
    fn names_call(&self, term: Term, order: u64, first: EntryId, last: EntryId) -> bool {
        let count = self.calls.payloads(order).map_or(0, |payloads| payloads.len() as u64);
        let fits = last.seq < Seq::MAX && last.seq.since(first.seq).checked_add(1) == Some(count);
        first.term == term && last.term == term && first.seq <= last.seq && fits
    }
}
