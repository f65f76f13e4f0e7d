//! What clients ask for and are told.

use bytes::Bytes;
use tinyraftplus_core::{EntryId, MemberSpec, NodeId, Plan, Rules, Seq, Term, Time, TransferError};
use tinyraftplus_log::EntryKind;
use tinyraftplus_replica::{Change, ChangeError, Outcome, Refused, Unknown};

use crate::check::Verdict;
use crate::check::calls::{Asked, Calls, Life, payload};
use crate::check::matching::Known;
use crate::machine::Machine;
use crate::orders::Order;

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
        self.calls.on_call(life, Time::from_nanos(1_000), Term::ZERO, Asked::Append(payloads));
        self
    }

    fn appends_nothing(mut self, life: Life) -> Self {
        self.calls.on_call(
            life,
            Time::from_nanos(1_000),
            Term::ZERO,
            Asked::Append(vec![Bytes::new()]),
        );
        self
    }

    fn reads(mut self, life: Life) -> Self {
        self.calls.on_call(life, Time::from_nanos(1_000), Term::ZERO, Asked::Read { local: false });
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

/// An empty payload names no call, so only its place can tell that it is not the later one.
#[test]
fn what_begins_later_is_committed_later() {
    let noop = |history: History| history.commits_this(EntryKind::Payload, Bytes::new(), true);
    // The first of two places for empty payloads was there before the second call began.
    let acknowledged = || {
        let both = noop(noop(History::new().appends_nothing(A).appends_nothing(B)));
        both.acknowledges(0, 1, 1).appends_nothing(B)
    };
    noop(acknowledged()).acknowledges(2, 2, 2).holds();
    acknowledged().acknowledges(2, 0, 0).breaks("acknowledged is committed");
    let entry = |call: u64, seq: u64| {
        let id = EntryId::new(Term::new(1), Seq::new(seq));
        (Seq::new(seq), Known::new(id, EntryKind::Payload, payload(call, 0, 20), true))
    };
    let later =
        || History::new().appends(A, 1).commits(0, 0, true).acknowledges(0, 0, 0).appends(B, 1);
    let commits = |calls: &mut Calls, (seq, known): (Seq, Known)| calls.on_committed(seq, &known);
    later().then(|calls| commits(calls, entry(1, 1))).holds();
    later().then(|calls| commits(calls, entry(1, 0))).breaks("later appends come later");
}

#[test]
fn an_outcome_is_one_of_a_call_that_was_made_and_of_its_kind() {
    let unknown = Outcome::Unknown(Unknown::Deadline);
    let one = || History::new().appends(A, 1).reads(A).commits(0, 0, true);
    one().ends(0, &unknown).sees(1, 1).holds();
    one().ends(2, &unknown).breaks("outcomes are true");
    one().sees(0, 1).breaks("outcomes are true");
    one().acknowledges(1, 0, 0).breaks("outcomes are true");
    // A read that was committed, though its payload says so.
    History::new().reads(A).commits(0, 0, true).breaks("outcomes are true");
}

/// An order ends as what it is. Fails if a transfer may end as a change of members, or either as a read.
#[test]
fn an_order_ends_as_what_it_is() {
    const CHECK: &str = "outcomes are true";
    let told = |order: Order| {
        let mut history = History::new();
        history.calls.on_call(A, Time::from_nanos(1_000), Term::ZERO, Asked::Order(order));
        history
    };
    let plan = Plan::unchecked(vec![MemberSpec::voter(NodeId::from(1))], Rules::default());
    let change = Change { plan: plan.unwrap(), base: None, keeps_rules: false };
    let members = || told(Order::Members(Box::new(change.clone())));
    let changed = Outcome::Changed { at: None };
    let refused = Outcome::NotChanged(ChangeError::UnderWay);
    members().ends(0, &changed).holds();
    members().ends(0, &refused).holds();
    members().ends(0, &Outcome::Unknown(Unknown::Deadline)).holds();
    members().ends(0, &Outcome::Done).breaks(CHECK);
    members().ends(0, &changed).ends(0, &changed).breaks("a call ends once");
    let failed = Outcome::NotTransferred(TransferError::TimedOut);
    told(Order::HandOver(1)).ends(0, &Outcome::Done).holds();
    told(Order::HandOver(1)).ends(0, &failed).holds();
    told(Order::HandOver(1)).ends(0, &changed).breaks(CHECK);
    told(Order::StepDown).ends(0, &failed).breaks(CHECK);
    History::new().reads(A).ends(0, &Outcome::Done).breaks(CHECK);
    let read = Outcome::Read { seq: None, result: Bytes::new() };
    told(Order::SitStill(true)).ends(0, &read).breaks(CHECK);
}

#[test]
fn results_are_what_the_state_machine_said_of_just_these_entries() {
    let two = || History::new().appends(A, 2).commits(0, 0, false).commits(0, 1, true);
    let told = |results: Vec<u64>| {
        let results = results.iter().map(|n| Bytes::copy_from_slice(&n.to_le_bytes())).collect();
        Outcome::Committed { first: Seq::new(0), last: Seq::new(1), results }
    };
    two().ends(0, &told(vec![1, 2])).holds();
    for wrong in [vec![1, 3], vec![2, 1], vec![1], vec![]] {
        two().ends(0, &told(wrong)).breaks("results are the state machine's");
    }
}

/// A local read may be old, but it is still the state after some prefix.
#[test]
fn a_local_read_may_be_old_and_not_made_up() {
    let known = || {
        let mut history = History::new().appends(A, 1).commits(0, 0, true).acknowledges(0, 0, 0);
        let local = Asked::Read { local: true };
        history.calls.on_call(B, Time::from_nanos(1_000), Term::ZERO, local);
        history
    };
    known().sees(1, 0).holds();
    let mut other = Machine::new(Seq::ZERO);
    other.take(Seq::ZERO, b"something else");
    let made_up = Outcome::Read { seq: Some(Seq::ZERO), result: other.read() };
    known().ends(1, &made_up).breaks("reads are linearizable");
    let nonsense = Outcome::Read { seq: None, result: Bytes::from_static(b"?") };
    known().ends(1, &nonsense).breaks("reads are linearizable");
    // What a local read saw binds nobody.
    known().sees(1, 1).reads(A).sees(2, 1).holds();
}

#[test]
fn at_the_end_every_call_has_ended_and_no_empty_payload_is_one_too_many() {
    let empty = || {
        let one = History::new().appends_nothing(A);
        one.commits_this(EntryKind::Payload, Bytes::new(), true)
    };
    let unknown = Outcome::Unknown(Unknown::Deadline);
    empty().ends(0, &unknown).then(|calls| calls.at_end()).holds();
    empty().then(|calls| calls.at_end()).breaks("every call ends");
    let twice = empty().commits_this(EntryKind::Payload, Bytes::new(), true).ends(0, &unknown);
    twice.then(|calls| calls.at_end()).breaks("an append commits once");
    // One that was refused may not be one of them.
    let two = || empty().appends_nothing(B).ends(0, &Outcome::Refused(Refused::Busy));
    two().ends(1, &unknown).then(|calls| calls.at_end()).holds();
    let refused = two().ends(1, &Outcome::Refused(Refused::Busy));
    refused.then(|calls| calls.at_end()).breaks("an append commits once");
}
