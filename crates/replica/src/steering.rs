//! Who leads, as clients ask for it: transfers on any node; campaigns, stepping down and pauses of this one.
//!
//! A transfer is the leader's to do, so other nodes ask it to, again and again until it answers. The question names
//! the term that is to end: however late or often it arrives, it can't end another one. A node that already sees the
//! wanted one lead needs no answer.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tinyraftplus_core::{Identity, Input, NodeId, Ticket, Time, TransferError};

use crate::calls::Way;
use crate::{Message, Outcome, Refused, Replica, TransferAsk, TransferReply, Unknown};

/// How many transfers of other nodes a leader remembers.
const ASKED_MAX: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Steering {
    next: u64,
    /// Transfers of this node's clients, by number.
    open: BTreeMap<u64, Open>,
    /// Calls that wait until this node leads no more.
    leaving: Vec<u64>,
    /// Who asked the core.
    tickets: BTreeMap<Ticket, Asker>,
    /// What became of transfers that others asked for, the oldest first.
    asked: VecDeque<(Key, Option<Result<(), TransferError>>)>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    order: u64,
    to: NodeId,
    /// When to ask (again).
    ask_at: Time,
    /// Somebody was asked.
    is_asked: bool,
    /// Open at the core of this node, which answers every ticket.
    ticket: Option<Ticket>,
}

/// Names a transfer that another node asks for: its log, the start of its process, its number there.
type Key = (Identity, u64, u64);

#[derive(Clone, Copy, Debug)]
enum Asker {
    Own(u64),
    Foreign(NodeId, Key),
}

impl Replica {
    /// A call wants that node to lead. Returns the number of the transfer.
    pub(crate) fn open_transfer(&mut self, order: u64, to: NodeId) -> u64 {
        self.steering.next += 1;
        let (number, ask_at) = (self.steering.next, self.now);
        self.steering
            .open
            .insert(number, Open { order, to, ask_at, is_asked: false, ticket: None });
        number
    }

    /// Tells the core what a call wants of this node.
    pub(crate) fn steer(&mut self, order: u64, input: Input<Bytes>) {
        let leaves = matches!(input, Input::StepDown);
        self.drive(input);
        if leaves {
            self.steering.leaving.push(order);
        } else {
            self.finish(order, Outcome::Done);
        }
    }

    /// Asks for transfers, and ends those that are done.
    pub(crate) fn pump_steering(&mut self) {
        if !self.leads() {
            for order in std::mem::take(&mut self.steering.leaving) {
                self.finish(order, Outcome::Done);
            }
        }
        let (way, leader, is_removed) = (self.way(), self.core.leader(), self.is_removed());
        let numbers: Vec<u64> = self.steering.open.keys().copied().collect();
        for number in numbers {
            let open = self.steering.open.get(&number).copied();
            let Some(Open { order, to, ask_at, is_asked, ticket }) = open else {
                continue;
            };
            if is_removed && !is_asked {
                // Whom it takes for the leader may be none any more.
                self.finish(order, Outcome::Refused(Refused::NotAMember));
            } else if leader == Some(to) {
                self.finish(order, Outcome::Done);
            } else if way == Way::None && is_removed {
                self.finish(order, Outcome::Unknown(Unknown::NotAMember));
            } else if way == Way::None && self.options.fail_fast {
                self.finish(order, Outcome::Refused(Refused::NoLeader));
            } else if ticket.is_none() && ask_at <= self.now {
                self.ask_transfer(number, to, way);
            }
        }
    }

    fn ask_transfer(&mut self, number: u64, to: NodeId, way: Way) {
        let ask_at = self.now + self.options.retry_interval;
        let ticket = matches!(way, Way::Own { .. }).then(|| self.ticket());
        if let Some(open) = self.steering.open.get_mut(&number) {
            (open.ask_at, open.ticket) = (ask_at, ticket);
            open.is_asked |= way != Way::None;
        }
        if let Some(ticket) = ticket {
            self.steering.tickets.insert(ticket, Asker::Own(number));
            self.drive(Input::Transfer { ticket, to });
        } else if let Way::Remote { to: leader, term, .. } = way {
            let (from, incarnation) = (self.core.identity(), self.incarnation);
            let ask = TransferAsk { from, incarnation, number, term, to };
            self.out.send.push((leader, Message::TransferAsk(ask)));
        }
    }

    pub(crate) fn on_transfer_ask(&mut self, from: NodeId, ask: TransferAsk) {
        let key = (ask.from, ask.incarnation, ask.number);
        if let Some((_, result)) = self.steering.asked.iter().find(|(known, _)| *known == key) {
            if let Some(result) = *result {
                self.answer_transfer(from, key, result);
            }
        } else if self.leads() && ask.term == self.core.term() {
            self.steering.asked.push_back((key, None));
            while self.steering.asked.len() > ASKED_MAX {
                self.steering.asked.pop_front();
            }
            let ticket = self.ticket();
            self.steering.tickets.insert(ticket, Asker::Foreign(from, key));
            self.drive(Input::Transfer { ticket, to: ask.to });
        }
    }

    pub(crate) fn on_transfer_reply(&mut self, reply: TransferReply) {
        let TransferReply { to, incarnation, number, result } = reply;
        // The numbers of an earlier process of this node were other transfers.
        if to == self.core.identity() && incarnation == self.incarnation {
            self.transfer_ended(number, result);
        }
    }

    /// The core has told what became of a transfer.
    pub(crate) fn transfer_resolved(&mut self, ticket: Ticket, result: Result<(), TransferError>) {
        match self.steering.tickets.remove(&ticket) {
            Some(Asker::Own(number)) => self.transfer_ended(number, result),
            Some(Asker::Foreign(to, key)) => {
                let entry = self.steering.asked.iter_mut().find(|(known, _)| *known == key);
                if is_passing(result) {
                    // Asked again, it may go better.
                    self.steering.asked.retain(|(known, _)| *known != key);
                } else if let Some((_, kept)) = entry {
                    *kept = Some(result);
                }
                self.answer_transfer(to, key, result);
            }
            None => {}
        }
    }

    fn answer_transfer(&mut self, node: NodeId, key: Key, result: Result<(), TransferError>) {
        let (to, incarnation, number) = key;
        let reply = TransferReply { to, incarnation, number, result };
        self.out.send.push((node, Message::TransferReply(reply)));
    }

    fn transfer_ended(&mut self, number: u64, result: Result<(), TransferError>) {
        let Some(open) = self.steering.open.get_mut(&number) else {
            return;
        };
        open.ticket = None;
        let (order, to) = (open.order, open.to);
        match result {
            Ok(()) => self.finish(order, Outcome::Done),
            // Somebody else may be told the same by now, or has asked for the same before.
            Err(TransferError::NotLeader { .. }) => {}
            Err(TransferError::UnderWay { to: other }) if other == to => {}
            Err(error) => self.finish(order, Outcome::NotTransferred(error)),
        }
    }

    /// Nobody waits for that transfer any more.
    pub(crate) fn transfer_given_up(&mut self, number: u64) {
        self.steering.open.remove(&number);
    }

    pub(crate) fn steer_at(&self) -> Time {
        let open = self.steering.open.values().filter(|open| open.ticket.is_none());
        open.map(|open| open.ask_at).min().unwrap_or(Time::NEVER)
    }
}

/// Whether a transfer failed for a reason that is soon over.
const fn is_passing(result: Result<(), TransferError>) -> bool {
    matches!(result, Err(TransferError::NotLeader { .. } | TransferError::UnderWay { .. }))
}
