//! Orders that somebody gives to nodes: who is to belong to the cluster, who is to lead, who is to sit still.

use tinyraftplus_core::Role;
use tinyraftplus_replica::{CallId, Change, Outcome, Refused, Request};

use crate::check::calls::{Asked, Life};
use crate::check::{Verdict, require};
use crate::fault::Fault;
use crate::profile::node_id;
use crate::rng::{Range, Rng};
use crate::world::{What, World};

/// How often a node is told to go on.
const GO_ON: u64 = 200_000_000;

/// An order, given to a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    /// These are to be the members.
    Members(Box<Change>),
    /// The node at that place is to lead.
    HandOver(usize),
    /// It is to campaign now.
    Campaign,
    /// It is not to lead.
    StepDown,
    /// It is to neither campaign nor lead, or to go on.
    SitStill(bool),
}

impl Order {
    pub(crate) fn request(self) -> Request {
        match self {
            Self::Members(change) => Request::ChangeMembers(change),
            Self::HandOver(to) => Request::Transfer { to: node_id(to) },
            Self::Campaign => Request::Campaign,
            Self::StepDown => Request::StepDown,
            Self::SitStill(still) => Request::Pause(still),
        }
    }
}

impl World {
    /// Somebody gives an order.
    pub(crate) fn order(&mut self, at: usize, order: Order, time: u64) {
        let _ = self.call(at, vec![(Asked::Order(order), time)]);
    }

    /// An order that comes out of nowhere; one to sit still lasts that long.
    pub(crate) fn draw_order(
        &mut self,
        kind: Fault,
        (at, other, leader): (usize, usize, usize),
        lasting: u64,
        rng: &mut Rng,
    ) {
        let time = rng.scale(Range::millis(100, 5_000));
        let of_leader = if rng.chance(700) { leader } else { at };
        if kind == Fault::HandOver {
            self.counts.hand_overs += 1;
            self.order(at, Order::HandOver(other), time);
        } else if kind == Fault::StepDown {
            self.counts.step_downs += 1;
            self.order(of_leader, Order::StepDown, time);
        } else if kind == Fault::Campaign {
            self.counts.campaign_orders += 1;
            self.order(at, Order::Campaign, time);
        } else {
            self.counts.sit_stills += 1;
            self.order(of_leader, Order::SitStill(true), time);
            self.after(lasting, What::GoOn(of_leader));
        }
    }

    /// A node is told to go on, until it does.
    pub(crate) fn go_on(&mut self, at: usize) {
        self.order(at, Order::SitStill(false), GO_ON);
        if self.node(at).sits_still {
            // It may have been too busy to hear it.
            self.after(GO_ON, What::GoOn(at));
        }
    }

    /// A node that went on in its last step may have done anything in that step.
    pub(crate) fn may_go_on(&mut self, life: Life, reply: &[(CallId, Outcome)]) {
        let goes_on = Asked::Order(Order::SitStill(false));
        let ended = |call: &CallId| self.checks.calls.asked(call.0) == Some(&goes_on);
        if reply.iter().any(|(call, outcome)| *outcome == Outcome::Done && ended(call))
            && self.alive(life).is_some()
        {
            self.node(life.node).sits_still = false;
        }
    }

    /// A node says that it has done what it was told.
    pub(crate) fn obeyed(&mut self, life: Life, call: u64, outcome: &Outcome) -> Verdict {
        const CHECK: &str = "orders are carried out";
        let Some(Asked::Order(order)) = self.checks.calls.asked(call).cloned() else {
            return Ok(());
        };
        if let Order::Members(change) = order {
            return self.changed(life, &change, outcome);
        }
        if *outcome != Outcome::Done {
            return Ok(());
        }
        let who = life.node + 1;
        let Some(process) = self.alive(life) else {
            return Ok(());
        };
        let role = process.replica.core().role();
        match order {
            Order::HandOver(to) => {
                let term = self.checks.calls.term(call);
                require!(
                    self.checks.has_led(to, term),
                    CHECK,
                    "node {who} says that node {} leads, which has led no term from {term} on",
                    to + 1
                );
            }
            Order::StepDown => {
                require!(
                    role != Role::Leader,
                    CHECK,
                    "node {who} says that it has stepped down, and leads"
                );
            }
            // Whether it does is looked at from its next step on.
            Order::SitStill(still) => self.node(life.node).sits_still = still,
            Order::Campaign | Order::Members(_) => {}
        }
        Ok(())
    }

    /// A node says what became of a wish for other members.
    fn changed(&mut self, life: Life, change: &Change, outcome: &Outcome) -> Verdict {
        let counts = &mut self.counts;
        match outcome {
            Outcome::Changed { at } => {
                counts.changes_done += 1;
                require!(
                    self.checks.lineage.was(*at, &change.plan),
                    "members are as a client was told",
                    "node {} says that they are as wanted since {at:?}: {}",
                    life.node + 1,
                    crate::words::plan(&change.plan)
                );
            }
            Outcome::NotChanged(_) => counts.changes_refused += 1,
            Outcome::Refused(Refused::ChangeUnderWay) => counts.changes_one_by_one += 1,
            Outcome::Refused(Refused::NotAMember) => counts.asked_strangers += 1,
            Outcome::Unknown(_) => counts.changes_unknown += 1,
            Outcome::Refused(_)
            | Outcome::Committed { .. }
            | Outcome::Read { .. }
            | Outcome::Done
            | Outcome::NotTransferred(_) => {}
        }
        Ok(())
    }
}
