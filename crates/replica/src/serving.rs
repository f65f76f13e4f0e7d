//! Taking calls from other nodes, as their leader.
//!
//! For each term that it led since it started, a node keeps one counter per origin process: the number of the
//! last call it accepted. It accepts a number only if it is the next one, so a call that the network delivers
//! twice, or that its origin sends again, enters the log once.
//!
//! What it says about a number must never turn out wrong. "Absent" is a promise: the number was not accepted
//! in that term and never will be. It can be given by a node that led the term and has the counter still, once
//! it leads no more, or by one that never led it: started after the term began, so that nothing of it is
//! forgotten, and the term is over or another's. Anyone else answers "unknown".

use std::collections::BTreeMap;
use std::mem;

use bytes::Bytes;
use tinyraftplus_core::{EntryId, Identity, NodeId, Refusal, Term};

use tinyraftplus_core::planted::{self, Bug};

use crate::applying::Owner;
use crate::calls::size;
use crate::{Answer, Answers, Forward, Inquire, Message, ROUTE_CALLS_MAX, Refused, Replica, Route};

/// Of how many terms that it led a node keeps the counters.
const TERMS_MAX: usize = 4;
/// How many origin processes may call in one term. Counters are never forgotten while the term lasts: whoever
/// comes when there is no room is refused.
const ORIGINS_MAX: usize = 4096;
/// Answers are small and many: however small the messages with entries, so many bytes of them go together.
const ANSWERS_BYTES_MIN: u64 = 64 << 10;

/// The counters of one term.
#[derive(Debug, Default)]
pub(crate) struct Book(BTreeMap<(Identity, u64), Origin>);

/// One process of one node that calls this leader.
#[derive(Debug)]
struct Origin {
    node: NodeId,
    /// The number of the last call that was accepted.
    last: u64,
    /// What is known of the calls whose answers are still awaited.
    known: BTreeMap<u64, Option<Answer>>,
}

/// Names a call that another node passed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    origin: (Identity, u64),
    term: Term,
    number: u64,
}

/// Answers to be sent at the end of the step, by receiver and route.
pub(crate) type Outbox = BTreeMap<(NodeId, Route), BTreeMap<u64, Answer>>;

/// What a node can say about the calls of a term.
enum Standing {
    /// It leads the term.
    Leads,
    /// It led the term and has its counters.
    Led,
    /// It never led the term and never will.
    NeverLed,
    /// It may still come to lead that term, as far as it knows.
    Undecided,
    /// It may have led the term before it was restarted, or so long ago that it has forgotten.
    Forgot,
}

impl Replica {
    /// Opens the book of the term this node leads.
    pub(crate) fn keep_books(&mut self) {
        if !self.leads() {
            return;
        }
        self.books.entry(self.core.term()).or_default();
        while self.books.len() > TERMS_MAX {
            if let Some((closed, _)) = self.books.pop_first() {
                self.tracked.retain(|&(term, _), waiter| {
                    term != closed || matches!(waiter.owner, Owner::Call(_))
                });
            }
        }
    }

    fn standing(&self, route: Route) -> Standing {
        let (term, now, own) = (route.term, self.core.term(), self.core.id());
        if route.leader != self.core.identity() {
            // Meant for the log that this node had before its disk was lost: that one may have led.
            Standing::Forgot
        } else if term == now && self.leads() {
            Standing::Leads
        } else if self.books.contains_key(&term) {
            Standing::Led
        } else if term > now || (term == now && self.core.leader().is_none_or(|id| id == own)) {
            Standing::Undecided
        } else if term > self.core.term_at_start() && !self.has_thrown_away(term) {
            // To lead it before the last start, this node would have made the term durable by then.
            Standing::NeverLed
        } else {
            Standing::Forgot
        }
    }

    /// Whether the book of that term may have been thrown away: only when there were too many, oldest first.
    fn has_thrown_away(&self, term: Term) -> bool {
        let oldest = self.books.first_key_value().map(|(&oldest, _)| oldest);
        self.books.len() >= TERMS_MAX && oldest.is_some_and(|oldest| term < oldest)
    }

    pub(crate) fn on_forward(&mut self, from: NodeId, forward: Forward) {
        let Forward { route, awaiting, first, calls } = forward;
        let numbers = first..first + calls.len() as u64;
        match self.standing(route) {
            Standing::Leads => self.serve(from, route, awaiting, first, calls),
            Standing::Led => self.recall(from, route, numbers),
            Standing::NeverLed => {
                numbers.for_each(|number| self.answer(from, route, number, Answer::Absent));
            }
            Standing::Forgot => {
                numbers.for_each(|number| self.answer(from, route, number, Answer::Unknown));
            }
            Standing::Undecided => {}
        }
    }

    pub(crate) fn on_inquire(&mut self, from: NodeId, inquire: Inquire) {
        let Inquire { route, awaiting, end } = inquire;
        let numbers = awaiting..end;
        match self.standing(route) {
            Standing::Leads | Standing::Led => self.recall(from, route, numbers),
            Standing::NeverLed => {
                numbers.for_each(|number| self.answer(from, route, number, Answer::Absent));
            }
            Standing::Forgot => {
                numbers.for_each(|number| self.answer(from, route, number, Answer::Unknown));
            }
            Standing::Undecided => {}
        }
    }

    /// Takes the calls that come next, and answers for those that came before.
    fn serve(
        &mut self,
        from: NodeId,
        route: Route,
        awaiting: u64,
        first: u64,
        calls: Vec<Vec<Bytes>>,
    ) {
        if self.core.transferring().is_some() {
            // Taken now, their numbers would be bound to this term, which is about to end. The origin sends
            // them again.
            let numbers = first..first + calls.len() as u64;
            return self.recall(from, route, numbers);
        }
        let key = (route.origin, route.incarnation);
        let Some(book) = self.books.get_mut(&route.term) else {
            return;
        };
        if book.0.len() >= ORIGINS_MAX && !book.0.contains_key(&key) {
            let numbers = first..first + calls.len() as u64;
            let busy = Answer::Refused(Refused::Busy);
            return numbers.for_each(|number| self.answer(from, route, number, busy.clone()));
        }
        let origin = book.0.entry(key).or_insert_with(|| Origin {
            node: from,
            last: 0,
            known: BTreeMap::new(),
        });
        origin.known = origin.known.split_off(&awaiting);
        let mut before = Vec::new();
        let mut fresh = Vec::new();
        for (payloads, number) in calls.into_iter().zip(first..) {
            if number <= origin.last && !planted::is(Bug::ForwardTwice) {
                before.push(number);
            } else if (number == origin.last + 1 || planted::is(Bug::ForwardTwice))
                && (origin.known.len() as u64) < ROUTE_CALLS_MAX
            {
                origin.last = number;
                origin.known.insert(number, None);
                fresh.push((number, payloads));
            } else {
                // One before it got lost: the origin sends both again.
                break;
            }
        }
        for number in before {
            self.recall(from, route, number..number + 1);
        }
        for (number, payloads) in fresh {
            let served = Served { origin: key, term: route.term, number };
            // A call that its client gave up takes its number and nothing else.
            let answer = if payloads.is_empty() {
                Some(Answer::Absent)
            } else {
                self.unfit(&payloads).map(Answer::Refused)
            };
            match answer {
                Some(answer) => self.conclude(served, answer),
                None => self.proposals.push((Owner::Foreign(served), payloads)),
            }
        }
    }

    /// Answers for calls of a term that this node leads or led, as far as it knows.
    fn recall(&mut self, from: NodeId, route: Route, numbers: std::ops::Range<u64>) {
        let leads = self.leads() && route.term == self.core.term();
        let origin = self
            .books
            .get(&route.term)
            .and_then(|book| book.0.get(&(route.origin, route.incarnation)));
        let last = origin.map_or(0, |origin| origin.last);
        let mut answers = Vec::new();
        for number in numbers {
            if number > last {
                if !leads || planted::is(Bug::AbsentTooEarly) {
                    answers.push((number, Answer::Absent));
                }
            } else if let Some(Some(answer)) = origin.and_then(|origin| origin.known.get(&number)) {
                answers.push((number, answer.clone()));
            }
        }
        for (number, answer) in answers {
            self.answer(from, route, number, answer);
        }
    }

    /// The core has put a foreign call into this node's log.
    pub(crate) fn served_accepted(&mut self, served: Served, first: EntryId, last: EntryId) {
        self.conclude(served, Answer::Accepted { first, last });
        self.track(first, last, Owner::Foreign(served));
    }

    pub(crate) fn served_refused(&mut self, served: Served, refusal: Refusal) {
        self.conclude(
            served,
            match translate(refusal) {
                Some(refused) => Answer::Refused(refused),
                None => Answer::Absent,
            },
        );
    }

    pub(crate) fn served_committed(
        &mut self,
        served: Served,
        first: EntryId,
        last: EntryId,
        results: Vec<Bytes>,
    ) {
        self.conclude(served, Answer::Committed { first, last, results });
    }

    pub(crate) fn served_unknown(&mut self, served: Served) {
        self.conclude(served, Answer::Unknown);
    }

    pub(crate) fn served_absent(&mut self, served: Served) {
        self.conclude(served, Answer::Absent);
    }

    /// Remembers what is known of a call now, and tells its origin.
    fn conclude(&mut self, served: Served, answer: Answer) {
        let Served { origin: key, term, number } = served;
        let origin = self.books.get_mut(&term).and_then(|book| book.0.get_mut(&key));
        let Some((node, known)) = origin.and_then(|origin| {
            let node = origin.node;
            origin.known.get_mut(&number).map(|known| (node, known))
        }) else {
            // The origin waits no longer.
            return;
        };
        *known = Some(answer.clone());
        let (origin, incarnation) = key;
        let route = Route { origin, incarnation, leader: self.core.identity(), term };
        self.answer(node, route, number, answer);
    }

    fn answer(&mut self, to: NodeId, route: Route, number: u64, answer: Answer) {
        // Of two answers in one step the later one says more.
        self.outbox.entry((to, route)).or_default().insert(number, answer);
    }

    /// Sends the answers of this step, cut into messages of a reasonable size.
    pub(crate) fn flush_answers(&mut self) {
        let from = self.core.identity();
        let bytes_max = self.options.raft.append_bytes_max.max(ANSWERS_BYTES_MIN);
        for ((to, route), answers) in mem::take(&mut self.outbox) {
            let mut answers = answers.into_iter().peekable();
            while answers.peek().is_some() {
                let (mut bytes, mut count, mut part) = (0, 0, Vec::new());
                while let Some(next) = answers.next_if(|(_, answer)| {
                    bytes += answer_bytes(answer);
                    count += 1;
                    count == 1 || (bytes <= bytes_max && count <= ROUTE_CALLS_MAX)
                }) {
                    part.push(next);
                }
                let message = Answers { route, from, answers: part };
                self.out.send.push((to, Message::Answers(message)));
            }
        }
    }
}

/// What a refusal of the core means to a client; `None` if the call may try its luck elsewhere.
pub(crate) const fn translate(refusal: Refusal) -> Option<Refused> {
    match refusal {
        Refusal::Empty => Some(Refused::Empty),
        Refusal::LogFull => Some(Refused::LogFull),
        Refusal::NotLeader { .. } | Refusal::Transferring { .. } | Refusal::Replaced => None,
        Refusal::Busy | _ => Some(Refused::Busy),
    }
}

fn answer_bytes(answer: &Answer) -> u64 {
    match answer {
        Answer::Committed { results, .. } => 64 + size(results),
        Answer::Accepted { .. } | Answer::Refused(_) | Answer::Absent | Answer::Unknown => 64,
    }
}
