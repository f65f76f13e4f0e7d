//! Histories known to be good or bad: the checks must tell them apart, or all their silence means nothing.

use bytes::Bytes;
use tinyraftplus_core::{EntryId, HardState, Identity, Message, MessageBody, Seq, Term, Time};
use tinyraftplus_log::{EntryKind, LogEntry, Write};
use tinyraftplus_replica::{Outcome, Refused, Unknown};

use super::calls::{Asked, Calls, Life, payload};
use super::matching::{Known, Matching};
use super::model::Model;
use super::promises::Promises;
use super::{NodeModel, Verdict};
use crate::machine::Machine;

const A: Life = Life { node: 0, number: 1 };
const B: Life = Life { node: 1, number: 1 };

/// Calls and commits, one after the other, and what the first check says that does not like it.
struct History {
    calls: Calls,
    machine: Machine,
    states: Vec<Machine>,
    verdict: Verdict,
}

impl History {
    fn new() -> Self {
        let machine = Machine::new(Seq::ZERO);
        Self { calls: Calls::new(Seq::ZERO), machine, states: vec![machine], verdict: Ok(()) }
    }

    fn appends(mut self, life: Life, count: usize) -> Self {
        let number = self.calls.next_number();
        let payloads = (0..count).map(|place| payload(number, place, 20)).collect();
        self.calls.on_call(life, Time::from_nanos(1_000), Asked::Append(payloads));
        self
    }

    fn appends_nothing(mut self, life: Life) -> Self {
        self.calls.on_call(life, Time::from_nanos(1_000), Asked::Append(vec![Bytes::new()]));
        self
    }

    fn reads(mut self, life: Life) -> Self {
        self.calls.on_call(life, Time::from_nanos(1_000), Asked::Read { local: false });
        self
    }

    fn commits(self, call: u64, place: usize, ends_batch: bool) -> Self {
        self.commits_this(EntryKind::Payload, payload(call, place, 20), ends_batch)
    }

    fn commits_this(mut self, kind: EntryKind, payload: Bytes, ends_batch: bool) -> Self {
        let seq = self.machine.end;
        if kind == EntryKind::Payload {
            self.machine.take(seq, &payload);
        }
        self.machine.end = seq.after();
        self.states.push(self.machine);
        let known = Known::new(EntryId::new(Term::new(1), seq), kind, payload, ends_batch);
        self.then(|calls| calls.on_committed(seq, &known))
    }

    fn acknowledges(self, call: u64, first: u64, last: u64) -> Self {
        let count = |seq: u64| self.states[usize::try_from(seq).unwrap() + 1].count;
        let results = (first..=last).map(|seq| Bytes::copy_from_slice(&count(seq).to_le_bytes()));
        let (first, last) = (Seq::new(first), Seq::new(last));
        let outcome = Outcome::Committed { first, last, results: results.collect() };
        self.ends(call, &outcome)
    }

    /// A read sees everything before this.
    fn sees(self, call: u64, end: usize) -> Self {
        let state = self.states[end];
        let outcome = Outcome::Read { seq: state.end.before(), result: state.read() };
        self.ends(call, &outcome)
    }

    fn ends(self, call: u64, outcome: &Outcome) -> Self {
        self.then(|calls| calls.on_outcome(call, outcome).map(|_| ()))
    }

    fn then(mut self, next: impl FnOnce(&mut Calls) -> Verdict) -> Self {
        if self.verdict.is_ok() {
            self.verdict = next(&mut self.calls);
        }
        self
    }

    fn holds(self) {
        assert_eq!(self.verdict, Ok(()));
    }

    fn breaks(self, check: &str) {
        assert_eq!(self.verdict.expect_err("a bad history").check, check);
    }
}

#[test]
fn good_histories_are_good() {
    History::new()
        .appends(A, 1)
        .appends(B, 3)
        .reads(A)
        .commits_this(EntryKind::Noop, Bytes::new(), true)
        .commits(1, 0, false)
        .commits(1, 1, false)
        .commits(1, 2, true)
        .sees(2, 1)
        .acknowledges(1, 1, 3)
        .reads(B)
        .ends(0, &Outcome::Unknown(Unknown::Deadline))
        .commits(0, 0, true)
        .sees(3, 4)
        .appends_nothing(A)
        .commits_this(EntryKind::Payload, Bytes::new(), true)
        .acknowledges(4, 5, 5)
        .holds();
}

#[test]
fn an_acknowledged_append_must_be_there_whole_and_where_it_was_said() {
    let two = || History::new().appends(A, 2).commits(0, 0, false).commits(0, 1, true);
    two().acknowledges(0, 0, 1).holds();
    two().acknowledges(0, 0, 0).breaks("acknowledged is committed");
    History::new()
        .appends(A, 1)
        .appends(A, 1)
        .commits(0, 0, true)
        .acknowledges(1, 0, 0)
        .breaks("acknowledged is committed");
    History::new()
        .appends_nothing(A)
        .appends(A, 1)
        .commits(1, 0, true)
        .acknowledges(0, 0, 0)
        .breaks("acknowledged is committed");
    let twice = History::new().appends_nothing(A).appends_nothing(A);
    let twice = twice.commits_this(EntryKind::Payload, Bytes::new(), true);
    twice.acknowledges(0, 0, 0).acknowledges(1, 0, 0).breaks("acknowledged is committed");
}

#[test]
fn a_batch_must_not_be_split_mixed_or_cut_short() {
    let begun = || History::new().appends(A, 2).appends(B, 1).commits(0, 0, false);
    begun().commits(0, 1, true).commits(1, 0, true).holds();
    begun().commits(1, 0, true).breaks("batches are whole");
    begun().commits_this(EntryKind::Noop, Bytes::new(), true).breaks("batches are whole");
    History::new().appends(A, 2).commits(0, 0, true).breaks("batches are whole");
}

#[test]
fn nothing_commits_twice_after_a_refusal_or_out_of_nowhere() {
    let one = || History::new().appends(A, 1);
    one().commits(0, 0, true).commits(0, 0, true).breaks("an append commits once");
    one().ends(0, &Outcome::Refused(Refused::Busy)).commits(0, 0, true).breaks("outcomes are true");
    one().commits(0, 0, true).ends(0, &Outcome::Refused(Refused::Busy)).breaks("outcomes are true");
    one().commits(7, 0, true).breaks("outcomes are true");
    one().reads(A).ends(1, &Outcome::Unknown(Unknown::Deadline)).breaks("outcomes are true");
}

#[test]
fn calls_of_a_node_keep_their_order_and_end_once_and_in_time() {
    let two = |other| History::new().appends(A, 1).appends(other, 1).commits(1, 0, true);
    two(A).commits(0, 0, true).breaks("calls of a node are committed in order");
    two(B).commits(0, 0, true).holds();
    two(A).acknowledges(1, 0, 0).acknowledges(1, 0, 0).breaks("a call ends once");
    two(A).then(|calls| calls.on_step(A, Time::from_nanos(999))).holds();
    two(A).then(|calls| calls.on_step(A, Time::from_nanos(1_000))).breaks("calls end in time");
    two(A).then(|calls| calls.on_stopped(A)).breaks("every call ends");
    let died = |calls: &mut Calls| {
        calls.on_died(A);
        calls.on_stopped(A)
    };
    two(A).then(died).holds();
}

#[test]
fn a_read_must_see_what_was_known_before_it_began_and_nothing_else() {
    let known = || History::new().appends(A, 1).commits(0, 0, true).acknowledges(0, 0, 0);
    known().reads(B).sees(1, 1).holds();
    known().reads(B).sees(1, 0).breaks("reads are linearizable");
    // What an earlier read saw, a later one sees too, although nobody was told that it is committed.
    let seen = || History::new().appends(A, 1).reads(A).commits(0, 0, true).sees(1, 1);
    seen().reads(B).sees(2, 1).holds();
    seen().reads(B).sees(2, 0).breaks("reads are linearizable");
    // One that began before may still see the old state.
    let before = || History::new().appends(A, 1).reads(B).commits(0, 0, true).acknowledges(0, 0, 0);
    before().sees(1, 0).holds();
    let mut other = Machine::new(Seq::ZERO);
    other.take(Seq::ZERO, b"something else");
    let answer = Outcome::Read { seq: Some(Seq::ZERO), result: other.read() };
    before().ends(1, &answer).breaks("reads are linearizable");
    let late = History::new().appends(A, 1).reads(A);
    let unseen = Outcome::Read { seq: Some(Seq::ZERO), result: other.read() };
    late.ends(1, &unseen).breaks("reads are linearizable");
}

fn entry(term: u64, seq: u64, payload: &'static str) -> LogEntry {
    let id = EntryId::new(Term::new(term), Seq::new(seq));
    LogEntry { id, kind: EntryKind::Payload, ends_batch: true, payload: Bytes::from(payload) }
}

#[test]
fn one_entry_has_one_content_and_one_predecessor() {
    let (mut matching, mut first, second) =
        (Matching::default(), Model::new(Seq::ZERO), Model::new(Seq::ZERO));
    let write = |entries: Vec<LogEntry>| Write { append: entries, ..Write::default() };
    let good = write(vec![entry(1, 0, "a"), entry(2, 1, "b")]);
    assert_eq!(matching.on_write(0, &first, &good), Ok(()));
    first.apply(0, &good).unwrap();
    assert_eq!(matching.on_write(1, &second, &good), Ok(()));
    let other_content = write(vec![entry(1, 0, "b")]);
    assert!(matching.on_write(1, &second, &other_content).is_err());
    let other_past = write(vec![entry(2, 0, "a"), entry(2, 1, "b")]);
    assert!(matching.on_write(1, &second, &other_past).is_err());
    assert!(first.apply(0, &write(vec![entry(2, 3, "gap")])).is_err());
    assert!(first.apply(0, &write(vec![entry(1, 2, "older term")])).is_err());
}

#[test]
fn a_vote_is_given_once_a_term_and_not_before_it_is_durable() {
    let (voter, one, two) = (Identity::new(1), Identity::new(2), Identity::new(3));
    let vote = |to: Identity| Message {
        from: voter,
        to: Some(to),
        term: Term::new(5),
        body: MessageBody::VoteReply { granted: true },
    };
    let mut node = NodeModel {
        identity: voter,
        decided: Model::new(Seq::ZERO),
        durable: Model::new(Seq::ZERO),
        lost: Vec::new(),
        committed: Seq::ZERO,
        applied: Seq::ZERO,
    };
    let mut promises = Promises::default();
    assert!(promises.on_sent(0, &node, Some(one), true, &vote(one)).is_err());
    node.durable.hard_state = HardState { term: Term::new(5), vote: Some(one) };
    assert_eq!(promises.on_sent(0, &node, Some(one), true, &vote(one)), Ok(()));
    assert!(promises.on_sent(0, &node, Some(two), false, &vote(two)).is_err());
    let back = Write {
        hard_state: Some(HardState { term: Term::new(4), vote: None }),
        ..Write::default()
    };
    assert!(node.durable.apply(0, &back).is_err());
}
