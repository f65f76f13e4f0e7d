//! The calls of this node's clients: where each one is, and how it ends.
//!
//! ```text
//!            +-> the core, if this node leads ----+
//!   queued --|                                    |--> in a leader's log --> committed, applied: ended
//!     ^      +-> a route to the leader -----------+           |
//!     |                                           |           | replaced by another leader
//!     +--- surely absent, and no later call ------+-----------+
//!          went to a newer leader
//! ```
//!
//! A call that may be in some leader's log stays bound to that leader's term: sent to the next one as well, it
//! could be committed twice. It goes on only when it is surely absent, and only if no later call of this node
//! was sent on a newer route: it would be committed after that one, and clients count on the order of calls.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tinyraftplus_core::{EntryId, Input, Load, Rising, Seq, Term, Time};

use tinyraftplus_core::planted::{self, Bug};

use crate::applying::Owner;
use crate::routes::RouteOut;
use crate::{Call, CallId, Outcome, Refused, Replica, Request, Unknown};

/// What an entry takes besides its payload, roughly: empty ones must not be free.
const ENTRY_COST: u64 = 32;

/// All calls under way, in the order they were made.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    next_order: u64,
    pub(crate) all: Rising<u64, Pending>,
    by_id: Rising<CallId, u64>,
    by_deadline: Rising<(Time, u64), ()>,
    bytes: u64,
    /// Appends that are in nobody's log, by order.
    pub(crate) queue: Rising<u64, ()>,
    pub(crate) routes: BTreeMap<Term, RouteOut>,
    sent: Sent,
}

#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) id: CallId,
    deadline: Time,
    bytes: u64,
    pub(crate) work: Work,
}

#[derive(Debug)]
pub(crate) enum Work {
    Append {
        payloads: Vec<Bytes>,
        place: Place,
    },
    /// Waits until this node has applied what it must see.
    Read {
        query: Bytes,
        /// What must be applied first, once the leader has told.
        ready: Option<Seq>,
    },
    /// The state machine was asked, after everything before this position.
    Querying {
        seen: Option<Seq>,
    },
    /// Waits until another node leads.
    Transfer {
        number: u64,
    },
    /// Waits until the members are as wanted.
    Change,
    /// Was told to the core.
    Steer,
    /// Waits until there is a snapshot.
    Snapshot,
    /// Waits until the log begins there or after it.
    Compact {
        before: Seq,
    },
}

/// Where an append is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// In nobody's log.
    Queued,
    /// Under this number on the route to the leader of that term, who may have put it into its log.
    Route { term: Term, number: u64, first: Option<Seq> },
    /// In the log of this node, which led that term.
    Own { term: Term, first: Option<Seq> },
}

impl Calls {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn next_deadline(&self) -> Time {
        self.by_deadline.first().map_or(Time::NEVER, |&((deadline, _), ())| deadline)
    }

    pub(crate) fn order_of(&self, id: CallId) -> Option<u64> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn payloads(&self, order: u64) -> Option<&Vec<Bytes>> {
        match &self.all.get(&order)?.work {
            Work::Append { payloads, .. } => Some(payloads),
            Work::Read { .. }
            | Work::Querying { .. }
            | Work::Transfer { .. }
            | Work::Change
            | Work::Steer
            | Work::Snapshot
            | Work::Compact { .. } => None,
        }
    }

    pub(crate) fn place(&mut self, order: u64) -> Option<&mut Place> {
        match &mut self.all.get_mut(&order)?.work {
            Work::Append { place, .. } => Some(place),
            Work::Read { .. }
            | Work::Querying { .. }
            | Work::Transfer { .. }
            | Work::Change
            | Work::Steer
            | Work::Snapshot
            | Work::Compact { .. } => None,
        }
    }

    /// Takes a queued append to a leader of that term.
    pub(crate) fn depart(&mut self, order: u64, term: Term, to: Place) {
        self.queue.remove(&order);
        self.sent.note(term, order);
        if let Some(place) = self.place(order) {
            *place = to;
        }
    }
}

impl Replica {
    pub(crate) fn called(&mut self, call: Call) {
        let Call { id, request, deadline } = call;
        if self.calls.by_id.contains_key(&id) {
            // The driver's mistake; a second answer to the first call would be a worse one.
            return;
        }
        let (bytes, refused) = match &request {
            Request::Append { payloads } => {
                (sum(payloads) + ENTRY_COST * payloads.len() as u64, self.unfit(payloads))
            }
            Request::Read { query } | Request::ReadLocal { query } => {
                let bytes = query.len() as u64;
                (bytes, too_large("a query", bytes, self.options.entry_bytes_max))
            }
            Request::ChangeMembers(_) if self.has_open_change() => {
                (0, Some(Refused::ChangeUnderWay))
            }
            Request::Compact { before, .. } => (0, self.unfit_compaction(*before)),
            Request::Snapshot
            | Request::Transfer { .. }
            | Request::ChangeMembers(_)
            | Request::Campaign
            | Request::StepDown
            | Request::Pause(_) => (0, None),
        };
        // What ends at once takes no place: a node that sits still may be full of calls that wait for it to go on.
        let takes_place = !matches!(request, Request::Campaign | Request::Pause(_));
        let is_busy = takes_place && self.calls.len() >= self.options.calls_max
            || self.calls.bytes.saturating_add(bytes) > self.options.calls_bytes_max;
        let refused = if self.is_stopped { Some(Refused::Stopped) } else { refused };
        if let Some(why) = refused.or_else(|| is_busy.then_some(Refused::Busy)) {
            self.out.reply.push((id, Outcome::Refused(why)));
            return;
        }
        let (mut is_local, mut is_allowed) = (false, false);
        self.calls.next_order += 1;
        let order = self.calls.next_order;
        let mut steered = None;
        let work = match request {
            Request::Append { payloads } => {
                self.calls.queue.insert(order, ());
                Work::Append { payloads, place: Place::Queued }
            }
            Request::Read { query } => {
                self.reads.waiting.push(order);
                Work::Read { query, ready: None }
            }
            Request::ReadLocal { query } => {
                is_local = true;
                Work::Read { query, ready: None }
            }
            Request::Transfer { to } => Work::Transfer { number: self.open_transfer(order, to) },
            Request::ChangeMembers(change) => {
                self.open_change(order, deadline, *change);
                Work::Change
            }
            Request::Snapshot => Work::Snapshot,
            Request::Compact { before, forced } => {
                // With a state machine a snapshot stands for what goes. Without, entries are all there is.
                is_allowed = forced || self.options.state_machine;
                if !is_allowed {
                    self.reads.waiting.push(order);
                }
                Work::Compact { before }
            }
            Request::Campaign => {
                steered = Some(Input::Campaign);
                Work::Steer
            }
            Request::StepDown => {
                steered = Some(Input::StepDown);
                Work::Steer
            }
            Request::Pause(is_paused) => {
                steered = Some(Input::Pause(is_paused));
                Work::Steer
            }
        };
        let is_snapshot = matches!(work, Work::Snapshot);
        self.calls.bytes += bytes;
        self.calls.by_id.insert(id, order);
        self.calls.by_deadline.insert((deadline, order), ());
        self.calls.all.insert(order, Pending { id, deadline, bytes, work });
        if is_local {
            self.read_ready(order, Seq::ZERO);
        }
        if is_allowed {
            self.compaction_allowed(order, None);
        }
        if is_snapshot {
            self.snapshot_asked(order);
        }
        if let Some(input) = steered {
            self.steer(order, input);
        }
    }

    /// Why these could never be appended, whoever leads.
    pub(crate) fn unfit(&self, payloads: &[Bytes]) -> Option<Refused> {
        let largest = payloads.iter().map(Bytes::len).max();
        let Some(largest) = largest else {
            return Some(Refused::Empty);
        };
        let (count, limit) = (payloads.len(), self.options.batch_entries_max);
        if count > limit {
            return Some(Refused::TooMany { count, limit });
        }
        too_large("an entry", largest as u64, self.options.entry_bytes_max)
            .or_else(|| too_large("a batch", sum(payloads), self.options.batch_bytes_max))
    }

    /// Ends the calls whose time is up.
    pub(crate) fn expire(&mut self) {
        while self.calls.next_deadline() <= self.now {
            let Some(&((_, order), ())) = self.calls.by_deadline.first() else {
                return;
            };
            self.give_up(order, Refused::Deadline, Unknown::Deadline);
        }
    }

    pub(crate) fn stop(&mut self) {
        self.is_stopped = true;
        while let Some(&(order, _)) = self.calls.all.first() {
            self.give_up(order, Refused::Stopped, Unknown::Stopped);
        }
    }

    /// Ends a call without an answer: refused if it is surely in nobody's log.
    fn give_up(&mut self, order: u64, refused: Refused, unknown: Unknown) {
        let is_absent = match self.calls.all.get(&order).map(|pending| &pending.work) {
            Some(Work::Append { place, .. }) => *place == Place::Queued,
            // What the core was told it does, whoever waits for it.
            Some(Work::Transfer { .. } | Work::Steer | Work::Snapshot | Work::Compact { .. }) => {
                false
            }
            Some(Work::Change) => self.is_unchanged(order),
            Some(Work::Read { .. } | Work::Querying { .. }) | None => true,
        };
        let is_absent = is_absent || planted::is(Bug::RefuseSent);
        let outcome = if is_absent { Outcome::Refused(refused) } else { Outcome::Unknown(unknown) };
        self.finish(order, outcome);
    }

    /// Hands queued appends to whoever leads.
    pub(crate) fn pump_queue(&mut self) {
        let is_removed = self.is_removed();
        match self.way() {
            way if is_removed || (way == Way::None && self.options.fail_fast) => {
                let why = if is_removed { Refused::NotAMember } else { Refused::NoLeader };
                for (order, ()) in std::mem::take(&mut self.calls.queue) {
                    self.finish(order, Outcome::Refused(why.clone()));
                }
            }
            Way::None => {}
            // The next leader gets them, or this one if nothing comes of it.
            Way::Own { .. } if self.core.transferring().is_some() => {}
            Way::Own { term } => {
                for (order, ()) in std::mem::take(&mut self.calls.queue) {
                    let Some(payloads) = self.calls.payloads(order).cloned() else {
                        continue;
                    };
                    self.calls.depart(order, term, Place::Own { term, first: None });
                    self.proposals.push((Owner::Call(order), payloads));
                }
            }
            Way::Remote { to, leader, term } => self.forward(to, leader, term),
        }
    }

    /// The core has put a call into this node's log.
    pub(crate) fn call_accepted(&mut self, order: u64, first: EntryId, last: EntryId) {
        if let Some(place) = self.calls.place(order) {
            *place = Place::Own { term: first.term, first: Some(first.seq) };
            self.track(first, last, Owner::Call(order));
        }
    }

    pub(crate) fn call_committed(
        &mut self,
        order: u64,
        first: EntryId,
        last: EntryId,
        results: Vec<Bytes>,
    ) {
        self.finish(order, Outcome::Committed { first: first.seq, last: last.seq, results });
    }

    /// A call is surely not in the log of that term's leader, and never will be.
    pub(crate) fn call_absent(&mut self, order: u64, term: Term) {
        let Some(&mut place) = self.calls.place(order) else {
            return;
        };
        self.leave(order, place);
        if self.calls.sent.was_overtaken(term, order) {
            self.finish(order, Outcome::Refused(Refused::Overtaken));
        } else if let Some(place) = self.calls.place(order) {
            *place = Place::Queued;
            self.calls.queue.insert(order, ());
            self.is_restless = true;
        }
    }

    /// Ends a call.
    pub(crate) fn finish(&mut self, order: u64, outcome: Outcome) {
        let Some(Pending { id, deadline, bytes, work }) = self.calls.all.remove(&order) else {
            return;
        };
        self.calls.by_id.remove(&id);
        self.calls.by_deadline.remove(&(deadline, order));
        self.calls.queue.remove(&order);
        self.calls.bytes = self.calls.bytes.saturating_sub(bytes);
        match work {
            Work::Append { place, .. } => self.leave(order, place),
            Work::Read { ready, .. } => self.read_ended(order, ready),
            Work::Transfer { number } => self.transfer_given_up(number),
            Work::Change => self.change_given_up(order),
            Work::Snapshot | Work::Compact { .. } => self.keeping_given_up(order),
            Work::Querying { .. } | Work::Steer => {}
        }
        if self.calls.all.is_empty() {
            self.calls.sent = Sent::default();
        }
        self.out.reply.push((id, outcome));
    }

    /// Nobody waits for that place any more.
    fn leave(&mut self, order: u64, place: Place) {
        let (term, first) = match place {
            Place::Queued => return,
            Place::Own { term, first } => (term, first),
            Place::Route { term, number, first } => {
                if let Some(route) = self.calls.routes.get_mut(&term) {
                    route.give_up(number, order);
                }
                (term, first)
            }
        };
        if let Some(first) = first {
            self.tracked.remove(&(term, first));
        }
    }
}

/// Which way appends go now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    /// Nobody leads.
    None,
    /// This node leads.
    Own { term: Term },
    /// Another node leads, with this log.
    Remote { to: tinyraftplus_core::NodeId, leader: tinyraftplus_core::Identity, term: Term },
}

/// What these count for in a message: so there are never more of them, however small, than a message has room for.
pub(crate) fn size(payloads: &[Bytes]) -> u64 {
    sum(payloads) + Load::ENTRY_COST * payloads.len() as u64
}

pub(crate) fn sum(payloads: &[Bytes]) -> u64 {
    payloads.iter().map(|payload| payload.len() as u64).sum()
}

fn too_large(what: &'static str, bytes: u64, limit: u64) -> Option<Refused> {
    (bytes > limit).then_some(Refused::TooLarge { what, bytes, limit })
}

/// Which calls went to the leaders of which terms: the latest call of each term.
///
/// Invariant: terms rise and orders fall, because a term whose latest call is before that of a newer term
/// tells nothing that the newer one does not.
#[derive(Debug, Default)]
struct Sent(VecDeque<(Term, u64)>);

impl Sent {
    fn note(&mut self, term: Term, order: u64) {
        if self.0.back().is_some_and(|&(newest, _)| newest > term) {
            // Calls only ever go to the newest leader; a late note of an old one changes nothing.
            return;
        }
        let latest =
            self.0.back().map_or(0, |&(newest, latest)| if newest == term { latest } else { 0 });
        let latest = latest.max(order);
        while self.0.pop_back_if(|&mut (_, before)| before <= latest).is_some() {}
        self.0.push_back((term, latest));
    }

    /// Whether a later call than this one went to the leader of a newer term.
    fn was_overtaken(&self, term: Term, order: u64) -> bool {
        let overtook = |&(newer, latest): &(Term, u64)| newer > term && latest > order;
        self.0.iter().any(overtook) && !planted::is(Bug::Overtake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the obvious list of everything that was ever sent.
    #[test]
    fn overtaking_agrees_with_a_plain_list() {
        let mut seed = 7_u64;
        for _ in 0..300 {
            let (mut sent, mut list, mut term) = (Sent::default(), Vec::new(), 1);
            for _ in 0..20 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                term += seed >> 62;
                let order = seed >> 33 & 15;
                sent.note(Term::new(term), order);
                list.push((term, order));
                for t in 0..term + 2 {
                    for o in 0..16 {
                        let dumb = list.iter().any(|&(newer, later)| newer > t && later > o);
                        assert_eq!(sent.was_overtaken(Term::new(t), o), dumb);
                    }
                }
                assert!(sent.0.len() <= 16, "bounded by the calls under way");
            }
        }
    }
}
