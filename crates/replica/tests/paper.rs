//! The sentences of the Raft paper and the thesis that speak of state machines and clients. The others are in
//! `crates/core/tests/cluster/paper`, where it says how these tests are written.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use common::{Cluster, Fate, bytes, seq};
use tinyraftplus_replica::{Message, Outcome, Request};

/// Raft figure 2, leaders, 2: a client's command is answered after it has been applied, with what the state machine
/// said, on whichever node it was called. A departure: without a state machine it is answered when it is committed.
/// Fails if `settle` does not wait for results.
#[test]
fn leaders_2_answer_after_applying() {
    let mut cluster = Cluster::new(3, |_| {});
    let (leader, follower) = (cluster.leader(), cluster.follower());
    for node in [leader, follower] {
        cluster.node(leader).holds_machine = true;
        cluster.node(follower).holds_machine = true;
        let before = cluster.replica(node).status().committed;
        let call = cluster.append(node, "x");
        cluster.until(|c| c.replica(node).status().committed > before);
        cluster.pass(Duration::from_secs(1));
        assert!(!cluster.outcomes.contains_key(&call), "answered before it was applied");
        cluster.node(leader).holds_machine = false;
        cluster.node(follower).holds_machine = false;
        let results = vec![bytes(&before.get().to_string())];
        assert_eq!(
            cluster.outcome(call),
            Outcome::Committed { first: before, last: before, results }
        );
    }
    let mut cluster = Cluster::new(3, |options| options.state_machine = false);
    let leader = cluster.leader();
    let call = cluster.append(leader, "x");
    let results = Vec::new();
    assert_eq!(cluster.outcome(call), Outcome::Committed { first: seq(1), last: seq(1), results });
}

/// Thesis 6.4, steps 4 and 5: the leader waits until his state machine has got as far as the read must see, then asks
/// it, and answers with what it says. A departure: it is asked as soon as it was handed all of that, as it does one
/// thing after the other. Fails if `serve_reads` does not look at the position.
#[test]
fn read_index_4_and_5_wait_for_the_state_machine_and_ask_it() {
    let mut cluster = Cluster::new(3, |_| {});
    let leader = cluster.leader();
    cluster.node(leader).holds_machine = true;
    for payload in ["a", "b"] {
        let before = cluster.replica(leader).status().committed;
        cluster.append(leader, payload);
        cluster.until(|c| c.replica(leader).status().committed > before);
    }
    let read = cluster.read(leader);
    cluster.pass(Duration::from_secs(1));
    assert!(cluster.node(leader).queries.is_empty(), "asked before it had applied all of it");
    cluster.node(leader).holds_machine = false;
    assert_eq!(cluster.outcome(read), Outcome::Read { seq: Some(seq(2)), result: bytes("2") });
}

/// Thesis 6.4: a follower can serve a read: it asks the leader for the read index, who does steps 1 to 3, and does
/// steps 4 and 5 itself. So the leader's state machine has nothing to do with it; and without a leader who still is
/// one there is no answer. Fails if a follower answers from what it has, or the leader is asked for the answer.
#[test]
fn read_index_on_a_follower_asks_the_leader_for_the_index_alone() {
    let mut cluster = Cluster::new(3, |_| {});
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let call = cluster.append(leader, "a");
    cluster.committed(call);
    let asked = Rc::new(Cell::new(0));
    let seen = Rc::clone(&asked);
    cluster.filter = Box::new(move |from, to, message| {
        let asks = from == follower && to == leader && matches!(message, Message::ReadIndex(_));
        seen.set(seen.get() + u32::from(asks));
        Fate::Deliver
    });
    cluster.node(leader).holds_machine = true;
    let read = cluster.read(follower);
    assert_eq!(cluster.outcome(read), Outcome::Read { seq: Some(seq(1)), result: bytes("1") });
    assert_eq!(asked.get(), 1);
    assert!(cluster.node(leader).queries.is_empty());
    // The leader hears from nobody but this follower's calls: he confirms nothing.
    cluster.filter = Box::new(move |_, to, message| {
        let is_answer = to == leader && matches!(message, Message::Raft(_));
        if is_answer { Fate::Drop } else { Fate::Deliver }
    });
    let request = Request::Read { query: bytes("") };
    let read = cluster.call_for(follower, request, Duration::from_millis(400));
    assert!(matches!(cluster.outcome(read), Outcome::Refused(_)));
}
