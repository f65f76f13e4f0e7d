//! Clients that decide who leads, on any node. Each test says which protection, when removed, makes it fail.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use common::{Cluster, Fate, bytes, id};
use tinyraftplus_core::{self as core, NodeId, Role, Term, TransferError};
use tinyraftplus_replica::{Happening, Message, Outcome, Refused, Request, TransferAsk, Unknown};

fn word(message: &Message) -> bool {
    matches!(message, Message::Raft(raft) if raft.body == core::MessageBody::TimeoutNow)
}

fn append(message: &Message) -> bool {
    matches!(message, Message::Raft(raft) if matches!(raft.body, core::MessageBody::Append { .. }))
}

/// The three nodes: the leader, and two others.
fn cast(cluster: &mut Cluster) -> (NodeId, NodeId, NodeId) {
    let leader = cluster.leader();
    let mut others = (1..=3).map(id).filter(|&node| node != leader);
    (leader, others.next().unwrap(), others.next().unwrap())
}

/// Asked on the leader, on the one that is to lead, and on a third: it leads within moments. Fails if
/// `pump_steering` does not pass the wish on, or takes only the leader's word for the end.
#[test]
fn a_transfer_on_any_node() {
    for asked in 0..3 {
        let mut cluster = Cluster::new(3, |_| {});
        let (leader, target, third) = cast(&mut cluster);
        let at = [leader, target, third][asked];
        let (before, term) = (cluster.now, cluster.term(leader));
        let call = cluster.call(at, Request::Transfer { to: target });
        assert_eq!(cluster.outcome(call), Outcome::Done);
        assert_eq!(cluster.leader(), target);
        assert!(cluster.now.since(before) < Duration::from_millis(100));
        assert_eq!(Some(cluster.term(target)), term.next(), "one election");
        let again = cluster.call(at, Request::Transfer { to: target });
        assert_eq!(cluster.outcome(again), Outcome::Done, "it leads already");
    }
}

/// The question comes twice each time, and no answer gets through but by what everybody sees. There is one transfer,
/// and the call ends once. Fails if `on_transfer_ask` does not know what it was asked before.
#[test]
fn repeated_questions_are_one_transfer() {
    let mut cluster = Cluster::new(3, |_| {});
    let (leader, target, third) = cast(&mut cluster);
    cluster.filter = Box::new(move |_, to, message| {
        if matches!(message, Message::TransferAsk(_)) {
            Fate::Twice
        } else if matches!(message, Message::TransferReply(_)) {
            Fate::Drop
        } else if word(message) && to == target {
            // The transfer takes a while.
            Fate::Hold
        } else {
            Fate::Deliver
        }
    });
    let term = cluster.term(leader);
    let call = cluster.call(third, Request::Transfer { to: target });
    cluster.pass(Duration::from_millis(300));
    cluster.release();
    assert_eq!(cluster.outcome(call), Outcome::Done);
    cluster.pass(Duration::from_secs(3));
    assert_eq!((cluster.leader(), cluster.term(target).get()), (target, term.get() + 1));
}

/// The first answer is lost: the leader that gave up on the transfer says the same again, and begins no second one.
/// Fails if results are not kept.
#[test]
fn a_lost_answer_is_given_again() {
    let mut cluster = Cluster::new(3, |_| {});
    let (leader, target, third) = cast(&mut cluster);
    let replies = Rc::new(RefCell::new(0));
    let seen = Rc::clone(&replies);
    cluster.filter = Box::new(move |_, _, message| {
        if matches!(message, Message::TransferReply(_)) {
            *seen.borrow_mut() += 1;
            return if *seen.borrow() == 1 { Fate::Drop } else { Fate::Deliver };
        }
        if word(message) { Fate::Drop } else { Fate::Deliver }
    });
    let call = cluster.call(third, Request::Transfer { to: target });
    assert_eq!(cluster.outcome(call), Outcome::NotTransferred(TransferError::TimedOut));
    assert_eq!((*replies.borrow(), cluster.leader()), (2, leader));
    let begins = |event: &tinyraftplus_replica::Event| {
        matches!(event, tinyraftplus_replica::Event::Raft(core::Event::Transferring { .. }))
    };
    assert_eq!(cluster.node(leader).events.iter().filter(|event| begins(event)).count(), 1);
}

/// A question about another term arrives late: the leader of this one stays. Fails if `on_transfer_ask` does not
/// compare the term.
#[test]
fn a_late_question_moves_nobody() {
    let mut cluster = Cluster::new(3, |_| {});
    let (leader, target, third) = cast(&mut cluster);
    let term = cluster.term(leader).get();
    let from = cluster.replica(third).core().identity();
    for term in [term - 1, term + 1] {
        let term = Term::new(term);
        let ask = TransferAsk { from, incarnation: 9, number: 1, term, to: target };
        let message = Message::TransferAsk(ask);
        cluster.step(leader, Happening::Receive { from: third, message });
        assert_eq!(cluster.replica(leader).status().transferring, None);
    }
}

/// Clients write on while leadership moves, on the leader and elsewhere: no call fails, and all are committed in
/// order. Fails if `pump_queue` proposes during a transfer (the core refuses, and the step never ends), or if
/// `serve` takes numbers.
#[test]
fn transfer_with_writes() {
    let mut cluster = Cluster::new(3, |_| {});
    let (leader, target, third) = cast(&mut cluster);
    cluster.filter =
        Box::new(
            move |_, to, message| {
                if to == target && append(message) { Fate::Hold } else { Fate::Deliver }
            },
        );
    let before = cluster.append(leader, "before");
    let transfer = cluster.call(leader, Request::Transfer { to: target });
    let mut calls = vec![before];
    for round in 0..3 {
        for node in [leader, third] {
            calls.push(cluster.append(node, &format!("{round} on {node}")));
        }
        cluster.pass(Duration::from_millis(1));
    }
    assert!(cluster.replica(leader).status().transferring.is_some());
    assert_eq!(cluster.node(third).disk.payloads(), [bytes("before")]);
    cluster.release();
    assert_eq!(cluster.outcome(transfer), Outcome::Done);
    let seqs: Vec<_> = calls.iter().map(|&call| cluster.committed(call)).collect();
    assert!(seqs[1..].chunks(2).is_sorted_by(|a, b| a[0] < b[0] && a[1] < b[1]), "{seqs:?}");
}

/// A call of another node arrives just before the question for a transfer, in one step, and the transfer fails. The
/// call is committed all the same. Fails if `propose` hands over what was taken in: refused, it would end the
/// route to a leader that goes on leading.
#[test]
fn a_call_taken_in_before_a_transfer_is_kept() {
    let mut cluster = Cluster::new(3, |_| {});
    let (leader, target, third) = cast(&mut cluster);
    cluster.filter = Box::new(|_, _, message| {
        if matches!(message, Message::Forward(_) | Message::TransferAsk(_)) {
            Fate::Hold
        } else if word(message) {
            Fate::Drop
        } else {
            Fate::Deliver
        }
    });
    let call = cluster.append(third, "x");
    let transfer = cluster.call(third, Request::Transfer { to: target });
    let held = std::mem::take(&mut cluster.held);
    assert_eq!(held.len(), 2);
    let receive = |(from, _, message)| Happening::Receive { from, message };
    cluster.step_all(leader, held.into_iter().map(receive).collect());
    assert!(cluster.replica(leader).status().transferring.is_some());
    cluster.filter =
        Box::new(|_, _, message| if word(message) { Fate::Drop } else { Fate::Deliver });
    assert_eq!(cluster.outcome(transfer), Outcome::NotTransferred(TransferError::TimedOut));
    cluster.committed(call);
    assert_eq!(cluster.leader(), leader);
}

/// The node that is to lead is gone, or was never there: the call says so, wherever it was made.
#[test]
fn what_can_not_be_done_is_said() {
    let mut cluster = Cluster::new(3, |_| {});
    let (leader, target, third) = cast(&mut cluster);
    cluster.kill(target);
    cluster.pass(Duration::from_secs(1));
    for at in [leader, third] {
        for (to, expected) in [(target, TransferError::Silent), (id(9), TransferError::NotAMember)]
        {
            let call = cluster.call(at, Request::Transfer { to });
            assert_eq!(cluster.outcome(call), Outcome::NotTransferred(expected));
        }
    }
    cluster.kill(leader);
    cluster.pass(Duration::from_secs(3));
    let call = cluster.call(third, Request::Transfer { to: third });
    assert_eq!(cluster.outcome(call), Outcome::Unknown(Unknown::Deadline));
}

/// Two clients want the same at once: both get it. Fails if the second one is told that a transfer is under way.
#[test]
fn two_who_want_the_same() {
    let mut cluster = Cluster::new(3, |_| {});
    let (leader, target, third) = cast(&mut cluster);
    let calls =
        [leader, third, leader].map(|at| cluster.call(at, Request::Transfer { to: target }));
    for call in calls {
        assert_eq!(cluster.outcome(call), Outcome::Done);
    }
    assert_eq!(cluster.leader(), target);
}

/// Stepping down is done when it is so; elsewhere it is done at once. Fails if `steer` ends the call too early.
#[test]
fn step_down_campaign_pause() {
    let mut cluster = Cluster::new(3, |_| {});
    let (leader, _, third) = cast(&mut cluster);
    let call = cluster.call(leader, Request::StepDown);
    assert!(!cluster.outcomes.contains_key(&call), "it hands over first");
    assert_eq!(cluster.outcome(call), Outcome::Done);
    assert_ne!(cluster.replica(leader).core().role(), Role::Leader);
    let now = cluster.leader();
    assert_ne!(now, leader);
    let call = cluster.call(now, Request::Pause(true));
    assert_eq!(cluster.outcome(call), Outcome::Done);
    assert!(cluster.replica(now).status().paused);
    let next = cluster.leader();
    assert_ne!(next, now);
    let call = cluster.call(now, Request::Pause(false));
    assert_eq!(cluster.outcome(call), Outcome::Done);
    // With the leader gone for a while, whoever is told to campaign is first.
    cluster.kill(next);
    let candidate = if third == next { leader } else { third };
    cluster.until(|c| {
        c.nodes.values().all(|n| n.replica.as_ref().is_none_or(|r| r.core().leader() != Some(next)))
    });
    let call = cluster.call(candidate, Request::Campaign);
    assert_eq!(cluster.outcome(call), Outcome::Done);
    cluster.leader();
}

/// A leader that was told to step down does so, also when nobody waits for that any more: the call whose time is up must
/// not say that nothing happens. Fails if `give_up` takes it for absent (seen by the simulator).
#[test]
fn a_step_down_outlives_its_call() {
    let mut cluster = Cluster::new(3, |_| {});
    let leader = cluster.leader();
    cluster.isolate(leader);
    let call = cluster.call_for(leader, Request::StepDown, Duration::from_millis(20));
    assert_eq!(cluster.outcome(call), Outcome::Unknown(Unknown::Deadline));
    assert_eq!(cluster.replica(leader).core().role(), Role::Leader, "its successor has a while");
    cluster.until(|cluster| cluster.replica(leader).core().role() != Role::Leader);
}

/// A node that sits still, and is full of calls that wait for a leader, can be told to go on: nothing else would ever free
/// it. Fails if what ends at once is refused as busy (found by seed 974 of the simulator).
#[test]
fn a_node_full_of_calls_can_go_on() {
    let mut cluster = Cluster::new(1, |options| options.calls_max = 2);
    let leader = cluster.leader();
    let call = cluster.call(leader, Request::Pause(true));
    assert_eq!(cluster.outcome(call), Outcome::Done);
    let waiting = [cluster.append(leader, "a"), cluster.append(leader, "b")];
    let call = cluster.append(leader, "c");
    assert_eq!(cluster.outcome(call), Outcome::Refused(Refused::Busy));
    let call = cluster.call(leader, Request::Pause(false));
    assert_eq!(cluster.outcome(call), Outcome::Done);
    for call in waiting {
        cluster.committed(call);
    }
}
