//! Who belongs to the cluster, as clients ask for it: on any node.
//!
//! A change of members is the leader's to make, so other nodes ask it to, again and again until it answers. What keeps one
//! call from having two effects:
//!
//! * A question goes to the leader of one term, numbered, and each leader remembers for its term what it told each asker.
//!   Whoever leads another term ignores it.
//! * It names the configuration that it is planned on. Once another is committed, it can't begin any more.
//! * A leader takes it only when an entry of its own term is committed. Then what earlier leaders began, and did not commit, is
//!   gone for good, and what they did commit shows.
//!
//! A node makes one change at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tinyraftplus_core::{
    ChangeMembers, Configurations, Identity, Input, NodeId, Placed, Plan, Refusal, Resolution,
    Term, Ticket, Time,
};

use crate::calls::Way;
use crate::{
    Base, Change, ChangeAnswer, ChangeAsk, ChangeError, ChangeReply, Message, Outcome, Refused,
    Replica, Unknown,
};

/// How many processes of other nodes may ask a leader for changes in one term. What they were told is not forgotten while the
/// term lasts: whoever comes when there is no room is refused.
const ASKERS_MAX: usize = 1024;
/// How long new members may take at most, whatever somebody asks for: no other change can begin meanwhile.
const TIME_MAX: Duration = Duration::from_hours(1);
/// How much of its time a call keeps for the answer, at most.
const MARGIN_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Changes {
    next: u64,
    /// The change that a client of this node wants.
    open: Option<Open>,
    /// Who asked the core.
    tickets: BTreeMap<Ticket, Asker>,
    term: Term,
    /// What others were told in this term.
    told: BTreeMap<Key, Told>,
    /// Which way the question went last.
    way: Option<Way>,
}

/// What a client wants.
#[derive(Debug)]
struct Open {
    order: u64,
    plan: Plan,
    conditions: Conditions,
    deadline: Time,
    /// Asked, and not answered.
    question: Option<Question>,
    /// When to ask (again).
    ask_at: Time,
    /// The configuration that it was planned on when a leader may have begun it that is none any more.
    possible: Option<Base>,
    /// The first configuration that a leader has agreed it is planned on.
    begun: Option<Base>,
    /// That term's leader has said that it is none any more.
    over: Option<Term>,
}

/// What else must be so, or nothing is to be changed.
#[derive(Clone, Copy, Debug, Default)]
struct Conditions {
    /// The members are those of this configuration.
    base: Option<Base>,
    /// The rules stay as they are.
    keeps_rules: bool,
}

#[derive(Clone, Copy, Debug)]
struct Question {
    number: u64,
    term: Term,
    base: Base,
    /// Open at the core of this node, which answers every ticket.
    ticket: Option<Ticket>,
}

/// A process of another node: its name, its log, its start.
type Key = (NodeId, Identity, u64);

#[derive(Clone, Copy, Debug)]
struct Told {
    number: u64,
    answer: ChangeAnswer,
}

#[derive(Clone, Copy, Debug)]
enum Asker {
    Own(u64),
    Foreign(Key, u64),
}

impl Replica {
    /// Whether a client of this node waits for a change.
    pub(crate) const fn has_open_change(&self) -> bool {
        self.changes.open.is_some()
    }

    /// A call wants other members, and no other does.
    pub(crate) fn open_change(&mut self, order: u64, deadline: Time, change: Change) {
        let Change { plan, base, keeps_rules } = change;
        self.changes.open = Some(Open {
            order,
            plan,
            conditions: Conditions { base, keeps_rules },
            deadline,
            question: None,
            ask_at: self.now,
            possible: None,
            begun: None,
            over: None,
        });
    }

    /// Whether that call surely changes nothing, now or later.
    pub(crate) fn is_unchanged(&self, order: u64) -> bool {
        let open = self.changes.open.as_ref().filter(|open| open.order == order);
        open.is_none_or(|open| open.question.is_none() && open.possible.is_none())
    }

    /// Nobody waits for that change any more.
    pub(crate) fn change_given_up(&mut self, order: u64) {
        self.changes.open.take_if(|open| open.order == order);
    }

    /// Asks for the change, and ends it when it is done.
    pub(crate) fn pump_changes(&mut self) {
        if self.changes.term != self.core.term() {
            self.changes.term = self.core.term();
            self.changes.told.clear();
        }
        let way = self.way();
        let is_new_way = self.changes.way.replace(way) != Some(way);
        let Some(open) = &mut self.changes.open else {
            return;
        };
        if is_new_way {
            open.ask_at = self.now;
        }
        let order = open.order;
        if let Some(question) = open.question
            && question.ticket.is_none()
            && question.term != self.core.term()
        {
            // Its leader is gone, and has not told.
            open.possible = Some(question.base);
            open.question = None;
        }
        if let Some(outcome) = self.shows_in_log() {
            return self.finish(order, outcome);
        }
        match (self.is_unchanged(order), self.is_removed()) {
            (true, true) => return self.finish(order, Outcome::Refused(Refused::NotAMember)),
            (true, false) if way == Way::None && self.options.fail_fast => {
                return self.finish(order, Outcome::Refused(Refused::NoLeader));
            }
            (false, true) if way == Way::None => {
                return self.finish(order, Outcome::Unknown(Unknown::NotAMember));
            }
            (true | false, _) => {}
        }
        if self.can_ask_change() && self.asks_change_at() <= self.now {
            self.ask_change(way);
        }
    }

    /// The change is done, as far as this node's own log shows: also if the leader that made it is gone, or this node is no
    /// member any more. Only of a configuration that came after one that was in force during the call.
    fn shows_in_log(&self) -> Option<Outcome> {
        let open = self.changes.open.as_ref()?;
        let (Base(begun), at) = (open.begun?, self.core.configurations()?.newest().at);
        (at > begun && self.is_met(&open.plan)).then_some(Outcome::Changed { at })
    }

    /// Whether the members are as that plan wants them, for good.
    fn is_met(&self, plan: &Plan) -> bool {
        self.core.configurations().is_some_and(|all| {
            let newest = all.newest();
            newest.at.is_none_or(|at| at < self.core.committed())
                && newest.configuration.old().is_none()
                && plan.is_met_by(newest.configuration.now())
        })
    }

    /// Whether there is somebody to ask now, who would answer.
    fn can_ask_change(&self) -> bool {
        let over = self.changes.open.as_ref().and_then(|open| open.over);
        match self.way() {
            Way::None => false,
            Way::Own { term } => over != Some(term) && self.takes_changes(),
            Way::Remote { term, .. } => over != Some(term),
        }
    }

    /// Whether this node is no member any more, as far as it knows: then it does not learn who leads, and nobody tells it what is
    /// committed.
    pub(crate) fn is_removed(&self) -> bool {
        self.core.configurations().is_some_and(|all| {
            let newest = all.newest();
            let is_settled = newest.at.is_none_or(|at| at < self.core.committed());
            !newest.configuration.names(self.core.id(), self.core.identity())
                && !self.leads()
                && (is_settled || self.way() == Way::None)
        })
    }

    /// Whether this node leads, and knows what became of everything that earlier leaders began.
    fn takes_changes(&self) -> bool {
        let newest = self.core.terms().entry_before(self.core.committed());
        self.leads()
            && newest.is_some_and(|newest| newest.term == self.core.term())
            && self.core.transferring().is_none()
    }

    fn asks_change_at(&self) -> Time {
        let open = self.changes.open.as_ref();
        let open = open.filter(|open| open.question.is_none_or(|it| it.ticket.is_none()));
        open.map_or(Time::NEVER, |open| open.ask_at)
    }

    pub(crate) fn change_at(&self) -> Time {
        if self.can_ask_change() { self.asks_change_at() } else { Time::NEVER }
    }

    fn ask_change(&mut self, way: Way) {
        let (now, term) = (self.now, self.core.term());
        let Some(open) = &mut self.changes.open else {
            return;
        };
        open.ask_at = now + self.options.retry_interval;
        let Some(newest) = self.core.configurations().map(|all| all.newest()) else {
            return;
        };
        let base = open.possible.or(open.conditions.base).unwrap_or(Base(newest.at));
        let rules_changed = open.conditions.keeps_rules
            && *newest.configuration.now().rules() != *open.plan.rules();
        if open.question.is_none() && open.possible.is_none() && rules_changed {
            let (order, error) = (open.order, ChangeError::MembersChanged { at: newest.at });
            return self.finish(order, Outcome::NotChanged(error));
        }
        let question = *open.question.get_or_insert_with(|| {
            self.changes.next += 1;
            Question { number: self.changes.next, term, base, ticket: None }
        });
        let (number, plan, deadline) = (question.number, open.plan.clone(), open.deadline);
        match way {
            Way::None => {}
            Way::Own { .. } => {
                let until = now + time_for_members(deadline.since(now));
                self.begin_change(Asker::Own(number), question.base, plan, until);
            }
            Way::Remote { to, .. } => {
                let (from, incarnation) = (self.core.identity(), self.incarnation);
                let time = time_for_members(deadline.since(now));
                let base = question.base;
                let ask = ChangeAsk { from, incarnation, number, term, base, plan, time };
                self.out.send.push((to, Message::ChangeAsk(Box::new(ask))));
            }
        }
    }

    /// Hands a change to the core, unless the answer is known without it.
    fn begin_change(&mut self, asker: Asker, base: Base, plan: Plan, until: Time) {
        let newest = self.core.configurations().and_then(|all| all.newest().at);
        let base = self.completed(base);
        let answer = if base != Base(newest) && self.is_met(&plan) {
            // By an earlier leader, perhaps; the answer got lost.
            Some(ChangeAnswer::Changed { at: newest })
        } else if !self.can_evaluate(&plan) {
            // The core would notice too, but only after new members have become learners.
            Some(ChangeAnswer::Refused(ChangeError::UnfitRules))
        } else {
            None
        };
        if let Some(answer) = answer {
            return self.tell_change(asker, answer);
        }
        let ticket = self.ticket();
        self.changes.tickets.insert(ticket, asker);
        if let Asker::Own(_) = asker
            && let Some(open) = &mut self.changes.open
            && let Some(question) = &mut open.question
        {
            question.ticket = Some(ticket);
        }
        self.drive(Input::ChangeMembers(ChangeMembers { ticket, base: base.0, plan, until }));
        if self.changes.tickets.contains_key(&ticket) {
            self.tell_change(asker, ChangeAnswer::Begun);
        }
    }

    /// Where that is the joint configuration that the newest one completes, the newest: who has seen the one knows what the other
    /// says.
    fn completed(&self, base: Base) -> Base {
        let completes = |all: &&Arc<Configurations>| {
            let is_joint = |placed: &Placed| placed.configuration.old().is_some();
            let is_base = |before: &Placed| Base(before.at) == base && is_joint(before);
            all.before().is_some_and(is_base) && !is_joint(all.newest())
        };
        self.core.configurations().filter(completes).map_or(base, |all| Base(all.newest().at))
    }

    fn can_evaluate(&self, plan: &Plan) -> bool {
        plan.quorums(&self.options.raft.custom_rules).is_ok()
    }

    /// Another node has a client that wants other members.
    pub(crate) fn on_change_ask(&mut self, from: NodeId, ask: ChangeAsk) {
        let ChangeAsk { from: identity, incarnation, number, term, base, plan, time } = ask;
        if term != self.core.term() || !self.leads() {
            return;
        }
        if self.changes.term != term {
            self.changes.term = term;
            self.changes.told.clear();
        }
        let key = (from, identity, incarnation);
        match self.changes.told.get(&key).copied() {
            Some(told) if told.number == number => {
                return self.reply_change(key, number, told.answer);
            }
            // A copy of one that nobody asks any more.
            Some(told) if told.number > number => return,
            None if self.changes.told.len() >= ASKERS_MAX => {
                return self.reply_change(key, number, ChangeAnswer::Refused(ChangeError::Busy));
            }
            Some(_) | None => {}
        }
        if self.takes_changes() {
            let until = self.now + time.min(TIME_MAX);
            self.begin_change(Asker::Foreign(key, number), base, plan, until);
        }
    }

    /// The core has told what became of a change.
    pub(crate) fn change_resolved(&mut self, ticket: Ticket, resolution: Resolution) -> bool {
        let Some(asker) = self.changes.tickets.remove(&ticket) else {
            return false;
        };
        let answer = match resolution {
            Resolution::Changed { at } => ChangeAnswer::Changed { at },
            Resolution::Refused(refusal) => translate(refusal, self.is_between()),
            Resolution::Unsettled
            | Resolution::Accepted { .. }
            | Resolution::Committed { .. }
            | Resolution::ReadAt { .. }
            | Resolution::Transfer(_) => ChangeAnswer::Unsettled,
        };
        self.tell_change(asker, answer);
        true
    }

    /// Whether one configuration is being replaced by another.
    fn is_between(&self) -> bool {
        self.core.configurations().is_some_and(|all| {
            let newest = all.newest();
            newest.configuration.old().is_some()
                || newest.at.is_some_and(|at| at >= self.core.committed())
        })
    }

    fn tell_change(&mut self, asker: Asker, answer: ChangeAnswer) {
        match asker {
            Asker::Own(number) => self.change_answered(number, answer),
            Asker::Foreign(key, number) => {
                // What a leader of the past says is as true; only repeated it can't be.
                let is_newer = |told: &Told| told.number <= number;
                if self.changes.term == self.core.term()
                    && self.changes.told.get(&key).is_none_or(is_newer)
                {
                    self.changes.told.insert(key, Told { number, answer });
                }
                self.reply_change(key, number, answer);
            }
        }
    }

    fn reply_change(&mut self, key: Key, number: u64, answer: ChangeAnswer) {
        let (node, to, incarnation) = key;
        let reply = ChangeReply { to, incarnation, number, answer };
        self.out.send.push((node, Message::ChangeReply(reply)));
    }

    pub(crate) fn on_change_reply(&mut self, reply: ChangeReply) {
        let ChangeReply { to, incarnation, number, answer } = reply;
        // The numbers of an earlier process of this node were other changes.
        if to == self.core.identity() && incarnation == self.incarnation {
            self.change_answered(number, answer);
        }
    }

    /// A leader has told what became of the question of that number.
    fn change_answered(&mut self, number: u64, answer: ChangeAnswer) {
        let Some(open) = &mut self.changes.open else {
            return;
        };
        let Some(question) = open.question.filter(|it| it.number == number) else {
            return;
        };
        let order = open.order;
        let again_at = self.now + self.options.retry_interval;
        match answer {
            ChangeAnswer::Begun => {
                // What earlier leaders began on the same configuration, and did not commit, can't come back.
                open.possible = None;
                open.begun = open.begun.or(Some(question.base));
            }
            ChangeAnswer::Changed { at } => self.finish(order, Outcome::Changed { at }),
            ChangeAnswer::Absent => {
                (open.question, open.possible, open.over) = (None, None, Some(question.term));
            }
            ChangeAnswer::Unsettled => {
                open.begun = open.begun.or(Some(question.base));
                open.possible = Some(question.base);
                (open.question, open.over) = (None, Some(question.term));
            }
            ChangeAnswer::Refused(ChangeError::UnderWay | ChangeError::Busy)
                if open.possible.is_some() =>
            {
                // Perhaps its own: what comes of it shows when that is over.
                (open.question, open.ask_at) = (None, again_at);
            }
            ChangeAnswer::Refused(ChangeError::MembersChanged { .. } | ChangeError::UnfitRules)
                if open.possible.is_some() =>
            {
                self.finish(order, Outcome::Unknown(Unknown::MembersChanged));
            }
            ChangeAnswer::Refused(ChangeError::MembersChanged { .. })
                if open.conditions.base.is_none() =>
            {
                // This node was behind, and will have caught up.
                (open.question, open.ask_at) = (None, again_at);
            }
            ChangeAnswer::Refused(error) => self.finish(order, Outcome::NotChanged(error)),
        }
    }
}

/// How long new members may take, so that there is time left to say which one took too long.
fn time_for_members(time: Duration) -> Duration {
    time.saturating_sub((time / 4).min(MARGIN_MAX)).min(TIME_MAX)
}

/// What a refusal of the core means to whoever asked.
const fn translate(refusal: Refusal, is_between: bool) -> ChangeAnswer {
    ChangeAnswer::Refused(match refusal {
        Refusal::NotLeader { .. } => return ChangeAnswer::Absent,
        // On the way to another, or already there.
        Refusal::MembersChanged { .. } if is_between => ChangeError::UnderWay,
        Refusal::MembersChanged { at } => ChangeError::MembersChanged { at },
        Refusal::ChangeUnderWay => ChangeError::UnderWay,
        Refusal::Unreachable(id) => ChangeError::Unreachable(id),
        Refusal::TooSlow(id) => ChangeError::TooSlow(id),
        Refusal::ForeignCluster(id) => ChangeError::ForeignCluster(id),
        Refusal::UnfitRules => ChangeError::UnfitRules,
        Refusal::NoConfiguration(error) => ChangeError::NoConfiguration(error),
        Refusal::LogFull => ChangeError::LogFull,
        Refusal::Busy | _ => ChangeError::Busy,
    })
}
