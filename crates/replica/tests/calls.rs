//! What calls are told, whatever happens to messages, leaders and processes.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at what it is about")]

mod common;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use common::{Cluster, Fate, bytes, id, seq};
use tinyraftplus_core::{Identity, Options, Role, Term};
use tinyraftplus_replica::{
    Answer, Effect, Forward, Happening, Inquire, Message, Outcome, Refused, ReplicaOptions,
    Request, Route, Unknown,
};

#[test]
fn appends_and_reads_on_every_node() {
    let mut cluster = Cluster::new(3, |_| {});
    cluster.leader();
    for number in 1..=3 {
        let call = cluster.append(id(number), "x");
        let outcome = cluster.outcome(call);
        let results = vec![bytes(&number.to_string())];
        assert_eq!(outcome, Outcome::Committed { first: seq(number), last: seq(number), results });
    }
    for number in 1..=3 {
        let call = cluster.read(id(number));
        assert_eq!(cluster.outcome(call), Outcome::Read { seq: Some(seq(3)), result: bytes("3") });
    }
}

#[test]
fn a_batch_is_one_and_empty_payloads_are_payloads() {
    let mut cluster = Cluster::new(3, |_| {});
    let follower = cluster.follower();
    let payloads = vec![bytes("a"), bytes(""), bytes("c")];
    let call = cluster.call(follower, Request::Append { payloads });
    let results = vec![bytes("1"), bytes("2"), bytes("3")];
    let outcome = cluster.outcome(call);
    assert_eq!(outcome, Outcome::Committed { first: seq(1), last: seq(3), results });
    let empty = cluster.call(follower, Request::Append { payloads: Vec::new() });
    assert_eq!(cluster.outcome(empty), Outcome::Refused(Refused::Empty));
}

#[test]
fn without_a_state_machine_an_append_has_no_results_and_a_read_waits() {
    let mut cluster = Cluster::new(3, |options| options.state_machine = false);
    let follower = cluster.follower();
    let call = cluster.append(follower, "x");
    let outcome = cluster.outcome(call);
    assert_eq!(outcome, Outcome::Committed { first: seq(1), last: seq(1), results: Vec::new() });
    let call = cluster.read(follower);
    assert_eq!(cluster.outcome(call), Outcome::Read { seq: Some(seq(1)), result: bytes("") });
}

/// `forward_delivered_twice`: the network delivers a forwarded append twice, and the answers to the first
/// copies get lost so that its origin sends it again. Fails if `serve` takes every number as the next one.
#[test]
fn forward_delivered_twice() {
    let mut cluster = Cluster::new(3, |_| {});
    let follower = cluster.follower();
    let mut lost = 0;
    cluster.filter = Box::new(move |_, _, message| match message {
        Message::Forward(_) => Fate::Twice,
        Message::Answers(_) if lost < 4 => {
            lost += 1;
            Fate::Drop
        }
        _ => Fate::Deliver,
    });
    let calls = ["a", "b", "c"].map(|payload| cluster.append(follower, payload));
    let seqs = calls.map(|call| cluster.committed(call));
    assert_eq!(seqs, [seq(1), seq(2), seq(3)]);
    cluster.pass(Duration::from_secs(2));
    for node in 1..=3 {
        let payloads = cluster.node(id(node)).disk.payloads();
        assert_eq!(payloads, [bytes("a"), bytes("b"), bytes("c")], "node {node}");
    }
}

/// Forwards that arrive in the wrong order enter the log in the right one. Fails if `serve` takes any number
/// above the last.
#[test]
fn calls_keep_their_order_on_the_way() {
    let mut cluster = Cluster::new(3, |_| {});
    let follower = cluster.follower();
    cluster.filter = Box::new(|_, _, message| match message {
        Message::Forward(_) => Fate::Hold,
        _ => Fate::Deliver,
    });
    let calls = ["a", "b", "c"].map(|payload| cluster.append(follower, payload));
    cluster.held.reverse();
    cluster.release();
    let seqs = calls.map(|call| cluster.committed(call));
    assert_eq!(seqs, [seq(1), seq(2), seq(3)]);
}

/// `reordered_duplicated`: every message comes late, twice, and after those that were sent later; the leadership changes meanwhile; and in the end
/// all of them come once more, the newest first. Every call is in every log once, or in none if it was refused, and those of a node are in their
/// order. Fails if `serve` takes a number twice, or any that is above the last, and if a follower cuts its log off behind the entries of an append.
#[test]
fn reordered_duplicated() {
    let mut cluster = Cluster::new(3, |_| {});
    cluster.leader();
    cluster.filter = Box::new(|_, _, _| Fate::Hold);
    let (mut sent, mut calls) = (Vec::new(), Vec::new());
    let mut scramble = |cluster: &mut Cluster| {
        cluster.pass(Duration::from_millis(5));
        let held = std::mem::take(&mut cluster.held);
        sent.extend(held.iter().cloned());
        let twice = held.into_iter().rev().flat_map(|message| [message.clone(), message]);
        cluster.wire.extend(twice);
    };
    for round in 0..60 {
        for (node, part) in [(1, "a"), (2, "a"), (3, "a"), (1, "b"), (2, "b"), (3, "b")] {
            let payload = format!("{node}.{round}{part}");
            calls.push((node, payload.clone(), cluster.append(id(node), &payload)));
        }
        if round == 30 {
            let leader = cluster.leader();
            cluster.call(leader, Request::StepDown);
        }
        scramble(&mut cluster);
    }
    for _ in 0..1000 {
        scramble(&mut cluster);
    }
    let log = cluster.node(id(1)).disk.payloads();
    cluster.filter = Box::new(|_, _, _| Fate::Deliver);
    cluster.wire.extend(sent.into_iter().rev());
    cluster.pass(Duration::from_secs(1));
    for node in 1..=3 {
        assert_eq!(cluster.node(id(node)).disk.payloads(), log, "node {node}");
    }
    let mut count = 0;
    let mut last_of = BTreeMap::new();
    for (node, payload, call) in calls {
        let places = log.iter().enumerate().filter(|(_, it)| **it == *payload.as_bytes());
        let places: Vec<usize> = places.map(|(at, _)| at).collect();
        match cluster.outcomes.get(&call).unwrap() {
            Outcome::Committed { .. } => assert_eq!(places.len(), 1, "{payload}"),
            Outcome::Refused(_) => assert!(places.is_empty(), "{payload}"),
            other => panic!("{payload}: {other:?}"),
        }
        if let Some(&at) = places.first() {
            assert!(last_of.insert(node, at).is_none_or(|last| last < at), "{payload}");
        }
        count += places.len();
    }
    assert!(count > 200, "{count} of 360 were committed");
}

/// `lost_forward_delays_all_later`: one forward is lost while more calls keep coming. The leader drops them too,
/// as they are not next; they must all come again with the lost one, or each waits for its own time, the
/// next ones are too early again, and the node never catches up. Fails if `resend` sends only what is due.
#[test]
fn lost_forward_delays_all_later() {
    let mut cluster = Cluster::new(3, |options| options.retry_interval = Duration::from_secs(1));
    let follower = cluster.follower();
    let mut is_lost = false;
    cluster.filter = Box::new(move |_, _, message| match message {
        Message::Forward(_) if !is_lost => {
            is_lost = true;
            Fate::Drop
        }
        _ => Fate::Deliver,
    });
    let mut calls = Vec::new();
    // For some retry intervals, so that calls are under way whenever something is sent again.
    for _ in 0..80 {
        calls.push(cluster.append(follower, "x"));
        cluster.pass(Duration::from_millis(10));
    }
    let last = calls.pop().unwrap();
    assert!(matches!(cluster.outcomes.get(&last), Some(Outcome::Committed { .. })), "still late");
    for call in calls {
        cluster.committed(call);
    }
}

/// A leader whose answers are lost is asked less and less often, because each of its answers names every call
/// that is under way (found by seed 8268 of the simulator). Fails if `ask_at` ignores the repeats.
#[test]
fn a_leader_without_news_is_asked_less_often() {
    let mut cluster = Cluster::new(3, |options| {
        options.retry_interval = Duration::from_millis(100);
    });
    let follower = cluster.follower();
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    cluster.filter = Box::new(move |_, _, message| match message {
        Message::Answers(_) => Fate::Drop,
        Message::Forward(_) | Message::Inquire(_) => {
            count.set(count.get() + 1);
            Fate::Deliver
        }
        _ => Fate::Deliver,
    });
    let call = cluster.append(follower, "x");
    for _ in 0..60 {
        cluster.pass(Duration::from_millis(50));
    }
    assert!((3..=8).contains(&asked.get()), "asked {} times in three seconds", asked.get());
    cluster.filter = Box::new(|_, _, _| Fate::Deliver);
    for _ in 0..60 {
        cluster.pass(Duration::from_millis(50));
    }
    cluster.committed(call);
}

/// `waiters_dropped`: the leader dies with calls of its own and of others in flight, and comes back having
/// forgotten them. Every call ends, and ends truthfully. Fails if `expire` does nothing.
#[test]
fn waiters_dropped() {
    let mut cluster = Cluster::new(3, |_| {});
    let leader = cluster.leader();
    let followers: Vec<_> = (1..=3).map(id).filter(|&node| node != leader).collect();
    cluster.isolate(leader);
    let mut calls = Vec::new();
    for &node in &followers {
        calls.push(cluster.append(node, "x"));
        calls.push(cluster.read(node));
    }
    cluster.kill(leader);
    let deadline = cluster.now + Duration::from_secs(10);
    for &call in &calls {
        cluster.outcome(call);
    }
    assert!(cluster.now <= deadline);
    for (at, &call) in calls.iter().enumerate() {
        let outcome = cluster.outcome(call);
        match at % 2 {
            0 => assert_eq!(outcome, Outcome::Unknown(Unknown::Deadline), "it had left the node"),
            _ => assert!(
                matches!(outcome, Outcome::Read { .. }),
                "the next leader answers: {outcome:?}"
            ),
        }
    }
    assert!(followers.iter().all(|&node| cluster.replica(node).status().calls == 0));
}

/// A stop ends every call at once: refused if it is surely nowhere, else unknown.
#[test]
fn a_stop_ends_all_calls() {
    let mut cluster = Cluster::new(3, |_| {});
    let leader = cluster.leader();
    let follower = cluster.follower();
    cluster.isolate(leader);
    let own = cluster.append(leader, "a");
    let forwarded = cluster.append(follower, "b");
    let read = cluster.read(leader);
    cluster.step(leader, Happening::Stop);
    cluster.step(follower, Happening::Stop);
    assert_eq!(cluster.outcomes[&own], Outcome::Unknown(Unknown::Stopped));
    assert_eq!(cluster.outcomes[&forwarded], Outcome::Unknown(Unknown::Stopped));
    assert_eq!(cluster.outcomes[&read], Outcome::Refused(Refused::Stopped));
    let late = cluster.append(leader, "c");
    assert_eq!(cluster.outcomes[&late], Outcome::Refused(Refused::Stopped));
}

#[test]
fn without_a_leader_calls_wait_or_are_refused() {
    for fail_fast in [false, true] {
        let tune = if fail_fast {
            |options: &mut ReplicaOptions| options.fail_fast = true
        } else {
            |_: &mut ReplicaOptions| {}
        };
        let mut cluster = Cluster::new(3, tune);
        let call = cluster.append(id(1), "x");
        let read = cluster.read(id(1));
        if fail_fast {
            assert_eq!(cluster.outcomes[&call], Outcome::Refused(Refused::NoLeader));
            assert_eq!(cluster.outcomes[&read], Outcome::Refused(Refused::NoLeader));
        } else {
            assert_eq!(cluster.committed(call), seq(1));
            assert!(matches!(cluster.outcome(read), Outcome::Read { .. }));
        }
        // Nobody to talk to: the deadline comes, and it is certain that nothing happened.
        let lonely = id(2);
        cluster.leader();
        cluster.isolate(lonely);
        cluster.pass(Duration::from_secs(3));
        let payloads = vec![bytes("y")];
        let call = cluster.call_for(lonely, Request::Append { payloads }, Duration::from_secs(1));
        let refused = if fail_fast { Refused::NoLeader } else { Refused::Deadline };
        assert_eq!(cluster.outcome(call), Outcome::Refused(refused));
    }
}

/// The leader is cut off with calls of a follower in flight that it never saw. When it learns that its term
/// is over it says so, and the calls go to the next leader in their order. Fails, with calls that end unknown,
/// if `recall` does not answer for numbers above the last.
#[test]
fn calls_that_were_surely_not_taken_go_to_the_next_leader_in_order() {
    let mut cluster = Cluster::new(3, |_| {});
    let leader = cluster.leader();
    let follower = cluster.follower();
    cluster.isolate(leader);
    let calls = ["a", "b", "c"].map(|payload| cluster.append(follower, payload));
    let before = cluster.term(follower);
    cluster.until(|c| {
        c.nodes.iter().any(|(&n, node)| {
            n != leader
                && node
                    .replica
                    .as_ref()
                    .is_some_and(|r| r.core().role() == Role::Leader && r.core().term() > before)
        })
    });
    cluster.heal();
    let seqs = calls.map(|call| cluster.committed(call));
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    let payloads = cluster.node(follower).disk.payloads();
    assert_eq!(payloads, [bytes("a"), bytes("b"), bytes("c")]);
}

/// As before, but a later call went to the new leader first: the earlier ones are refused, as the order of
/// calls could not be kept. Fails if `was_overtaken` says no.
#[test]
fn a_call_is_refused_when_a_later_one_was_faster() {
    let mut cluster = Cluster::new(3, |_| {});
    let leader = cluster.leader();
    let follower = cluster.follower();
    cluster.isolate(leader);
    let early = cluster.append(follower, "early");
    let before = cluster.term(follower);
    cluster.until(|c| {
        let core = c.replica(follower).core();
        core.term() > before && core.leader().is_some()
    });
    let late = cluster.append(follower, "late");
    cluster.committed(late);
    cluster.heal();
    assert_eq!(cluster.outcome(early), Outcome::Refused(Refused::Overtaken));
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.node(leader).disk.payloads(), [bytes("late")]);
}

/// A leader gives up its role without a new term, and says so to a node that takes it for the leader still.
/// The call waits for the next leader; it is not sent to the old one again and again. Fails if `way` ignores
/// that the route is over.
#[test]
fn a_leader_that_stepped_down_is_not_asked_again_and_again() {
    let mut cluster = Cluster::new(3, |_| {});
    let (leader, follower) = (cluster.leader(), cluster.follower());
    cluster.node(leader).holds_disk = true;
    cluster.append(leader, "stuck");
    let job = cluster.node(leader).writes.front().unwrap().0;
    cluster.step(leader, Happening::PersistStalled { job });
    let sent = Rc::new(Cell::new(0));
    let seen = Rc::clone(&sent);
    cluster.filter = Box::new(move |_, to, message| {
        seen.set(seen.get() + u32::from(to == leader && matches!(message, Message::Forward(_))));
        Fate::Deliver
    });
    let call = cluster.append(follower, "x");
    cluster.committed(call);
    assert_eq!(sent.get(), 1);
}

/// A leader is restarted, and a node takes it for the leader still. The call that finds out ends unknown; the
/// next one waits for the next leader. Fails if the answer "unknown" does not end the route.
#[test]
fn only_one_call_pays_for_a_restarted_leader() {
    let mut cluster = Cluster::new(3, |options| {
        if options.raft.id == id(3) {
            // Believes in a leader for long.
            options.raft.election_timeout = Duration::from_mins(1);
        }
    });
    let (leader, follower) = (cluster.leader(), id(3));
    let before = cluster.term(leader);
    cluster.isolate(follower);
    cluster.kill(leader);
    cluster.start(leader);
    cluster.until(|c| {
        let core = c.replica(leader).core();
        core.term() > before && core.leader().is_some()
    });
    cluster.wire.clear();
    cluster.heal();
    let first = cluster.append(follower, "first");
    assert_eq!(cluster.outcome(first), Outcome::Unknown(Unknown::Forgotten));
    let second = cluster.append(follower, "second");
    cluster.committed(second);
}

/// The leader put a call into its log, told its origin so, and died before it could tell the outcome. The
/// origin sees the entry committed by the next leader, result and all. Fails if `track` does nothing for
/// calls on a route.
#[test]
fn the_origin_sees_by_itself_what_became_of_an_accepted_call() {
    let mut cluster = Cluster::new(3, |_| {});
    let leader = cluster.leader();
    let follower = cluster.follower();
    cluster.filter = Box::new(move |from, _, message| match message {
        Message::Answers(answers)
            if from == leader
                && answers.answers.iter().any(|(_, a)| matches!(a, Answer::Committed { .. })) =>
        {
            Fate::Drop
        }
        // The others hold the entry, but the leader does not learn it.
        Message::Raft(_) if from != leader => Fate::Drop,
        _ => Fate::Deliver,
    });
    let call = cluster.append(follower, "x");
    cluster.until(|c| c.nodes.values().all(|node| node.disk.payloads().len() == 1));
    cluster.until(|c| c.wire.is_empty());
    cluster.kill(leader);
    cluster.release();
    let results = vec![bytes("1")];
    assert_eq!(cluster.outcome(call), Outcome::Committed { first: seq(1), last: seq(1), results });
}

/// The leader alone has the call in its log, and another leader takes its place: the call was replaced, which
/// its origin learns from its own log, and goes to the new leader. Fails if `settle` waits for committed ones
/// only.
#[test]
fn a_replaced_call_goes_to_the_next_leader() {
    let mut cluster = Cluster::new(3, |_| {});
    let leader = cluster.leader();
    let call = cluster.append(leader, "first");
    cluster.committed(call);
    cluster.isolate(leader);
    let call = cluster.append(leader, "again");
    let before = cluster.term(leader);
    cluster.until(|c| {
        c.nodes.values().any(|n| {
            n.replica
                .as_ref()
                .is_some_and(|r| r.core().role() == Role::Leader && r.core().term() > before)
        })
    });
    cluster.heal();
    assert_eq!(cluster.committed(call), seq(3), "after the no-op of the next leader");
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cluster.node(leader).disk.payloads(), [bytes("first"), bytes("again")]);
}

/// Who may say "absent", and who must say "unknown".
///
/// Fails if `standing` does not compare the term with that at the start, or the identity with its own.
#[test]
fn a_restarted_leader_does_not_know_what_it_took() {
    let mut cluster = Cluster::new(3, |_| {});
    let leader = cluster.leader();
    let follower = cluster.follower();
    let term = cluster.term(leader);
    let taken = cluster.append(follower, "taken");
    cluster.committed(taken);
    let route = Route {
        origin: cluster.replica(follower).core().identity(),
        incarnation: 77,
        leader: cluster.replica(leader).core().identity(),
        term,
    };
    let ask = |cluster: &mut Cluster, route| {
        let sent = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&sent);
        cluster.filter = Box::new(move |from, _, message| match message {
            Message::Answers(answers) if from == leader => {
                seen.borrow_mut().extend(answers.answers.iter().map(|(_, answer)| answer.clone()));
                Fate::Drop
            }
            _ => Fate::Deliver,
        });
        let message = Message::Inquire(Inquire { route, awaiting: 1, end: 2 });
        cluster.step(leader, Happening::Receive { from: follower, message });
        cluster.filter = Box::new(|_, _, _| Fate::Deliver);
        sent.take()
    };
    assert_eq!(ask(&mut cluster, route), [], "it still leads: the call may be on its way");
    // Its term ends while it lives: it has the counters, and can promise.
    cluster.isolate(leader);
    cluster.until(|c| c.replica(leader).core().role() != Role::Leader);
    assert_eq!(ask(&mut cluster, route), [Answer::Absent]);
    // Now it is restarted.
    cluster.kill(leader);
    cluster.start(leader);
    cluster.heal();
    cluster.until(|c| c.replica(leader).core().leader().is_some_and(|l| l != leader));
    assert_eq!(ask(&mut cluster, route), [Answer::Unknown], "it led that term and has forgotten");
    let newer = Route { term: cluster.term(leader), ..route };
    assert!(newer.term > term);
    assert_eq!(ask(&mut cluster, newer), [Answer::Absent], "another node leads that term");
    let wiped = Route { leader: Identity::new(99), ..newer };
    assert_eq!(ask(&mut cluster, wiped), [Answer::Unknown], "meant for the log it had before");
    let future = Route { term: Term::new(1000), ..route };
    assert_eq!(ask(&mut cluster, future), []);
}

/// A call that its client gave up must not block those after it, and must not be taken later. Fails if
/// `give_up` takes the number away.
#[test]
fn a_call_that_was_given_up_leaves_no_gap() {
    let mut cluster = Cluster::new(3, |_| {});
    let follower = cluster.follower();
    cluster.filter = Box::new(|_, _, message| match message {
        Message::Forward(_) => Fate::Drop,
        _ => Fate::Deliver,
    });
    let payloads = vec![bytes("gone")];
    let gone = cluster.call_for(follower, Request::Append { payloads }, Duration::from_millis(50));
    assert_eq!(cluster.outcome(gone), Outcome::Unknown(Unknown::Deadline));
    assert_eq!(cluster.outcomes[&gone].effect(), Effect::Possible);
    cluster.release();
    let call = cluster.append(follower, "next");
    assert_eq!(cluster.committed(call), seq(1));
    assert_eq!(cluster.node(follower).disk.payloads(), [bytes("next")]);
}

/// `too_large`: an entry or a batch over its limit is refused with the limit, and too many calls at once as busy; all of them leave nothing behind.
/// Fails if `unfit` compares no sizes, or a refused call keeps its bytes.
#[test]
fn too_large() {
    let mut cluster = Cluster::new(3, |options| {
        options.calls_max = 4;
        options.calls_bytes_max = 4 * 33;
        options.batch_bytes_max = 50;
        options.entry_bytes_max = 40;
    });
    let follower = cluster.follower();
    let calls: Vec<_> = (0..5).map(|_| cluster.append(follower, "x")).collect();
    assert_eq!(cluster.outcome(calls[4]), Outcome::Refused(Refused::Busy));
    for &call in &calls[..4] {
        cluster.committed(call);
    }
    let large = vec![bytes(&"x".repeat(41))];
    let call = cluster.call(follower, Request::Append { payloads: large });
    assert!(matches!(cluster.outcome(call), Outcome::Refused(Refused::TooLarge { limit: 40, .. })));
    let large = vec![bytes(&"x".repeat(30)); 2];
    let call = cluster.call(follower, Request::Append { payloads: large });
    assert!(matches!(cluster.outcome(call), Outcome::Refused(Refused::TooLarge { limit: 50, .. })));
    let most = Request::Append { payloads: vec![bytes(&"x".repeat(25)); 1] };
    let calls = [0, 1, 2].map(|_| cluster.call(follower, most.clone()));
    assert_eq!(cluster.outcome(calls[2]), Outcome::Refused(Refused::Busy));
    cluster.committed(calls[1]);
    let status = cluster.replica(follower).status();
    assert_eq!((status.calls, status.calls_bytes), (0, 0));
}

/// Empty payloads are next to nothing on the wire and much in memory, so there is a limit to how many of them a receiver takes in one message.
/// A node that forwards more of them than that must not put them into one: it would be dropped, and sent again for ever. Fails if `size` counts
/// payloads alone.
#[test]
fn forwarded_messages_hold_no_more_than_receivers_take() {
    let mut cluster = Cluster::new(3, |options| {
        options.raft.append_bytes_max = 1 << 20;
        options.state_machine = false;
    });
    let follower = cluster.follower();
    // All are lost, so all are sent again at once.
    cluster.filter = Box::new(|_, _, message| match message {
        Message::Forward(_) => Fate::Drop,
        _ => Fate::Deliver,
    });
    let append = || Request::Append { payloads: vec![bytes(""); 10_000] };
    let calls = [(); 8].map(|()| cluster.call(follower, append()));
    let most = Rc::new(Cell::new(0));
    let seen = Rc::clone(&most);
    cluster.filter = Box::new(move |_, _, message| {
        if let Message::Forward(forward) = message {
            seen.set(seen.get().max(forward.calls.iter().map(Vec::len).sum()));
        }
        Fate::Deliver
    });
    for call in calls {
        cluster.committed(call);
    }
    assert!(most.get() > 0);
    assert!(most.get() <= (1 << 20) / 64, "{} entries in one message", most.get());
}

/// Limits that no message has room for are refused at the start, and a transport that is too small for the largest batch.
#[test]
fn limits_that_no_message_has_room_for_are_refused() {
    let options = |tune: fn(&mut ReplicaOptions)| {
        let mut options = ReplicaOptions::new(Options::new(id(1), vec![id(1)], 0));
        tune(&mut options);
        options
    };
    let check = |tune| options(tune).check().map_err(|error| error.to_string());
    assert_eq!(check(|_| {}), Ok(()));
    let text = "batch_entries_max is 1048577, and must be at most 1048576: a message holds no more";
    assert_eq!(check(|options| options.batch_entries_max = (1 << 20) + 1), Err(text.into()));
    let text =
        "append_bytes_max is 67108865, and must be at most 67108864: a message holds no more";
    let long = |options: &mut ReplicaOptions| options.raft.append_bytes_max = (64 << 20) + 1;
    assert_eq!(check(long), Err(text.into()));

    let standard = options(|_| {});
    let needed = standard.message_bytes_max();
    assert_eq!((needed, standard.check_transport(needed)), (33 << 20, Ok(())));
    let error = standard.check_transport(needed - 1).unwrap_err();
    assert!(error.to_string().starts_with(
        "a batch may need a message of 34603008 bytes, and the transport takes 34603007: lower"
    ));
    assert!(options(|options| options.batch_bytes_max = u64::MAX).check_transport(needed).is_err());
}

/// `malformed_message`: impossible numbers from a peer are dropped and told.
#[test]
fn impossible_forwards_are_dropped() {
    let mut cluster = Cluster::new(3, |_| {});
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let route = Route {
        origin: Identity::new(9),
        incarnation: 1,
        leader: cluster.replica(leader).core().identity(),
        term: cluster.term(leader),
    };
    let forward = |awaiting, first, count| {
        let calls = vec![vec![bytes("x")]; count];
        Message::Forward(Forward { route, awaiting, first, calls })
    };
    let zero = Route { term: Term::ZERO, ..route };
    let bad = [
        forward(0, 1, 1),
        forward(2, 1, 1),
        forward(1, 1, 0),
        forward(1, 1, 2000),
        forward(1, 5000, 1),
        forward(u64::MAX, u64::MAX, 1),
        Message::Inquire(Inquire { route, awaiting: 1, end: u64::MAX }),
        Message::Inquire(Inquire { route: zero, awaiting: 1, end: 2 }),
    ];
    let count = bad.len();
    cluster.node(leader).events.clear();
    for message in bad {
        cluster.step(leader, Happening::Receive { from: follower, message });
    }
    let told = cluster
        .node(leader)
        .events
        .iter()
        .filter(|event| matches!(event, tinyraftplus_replica::Event::Malformed { .. }));
    assert_eq!(told.count(), count);
    assert_eq!(cluster.replica(leader).status().end, seq(1));
}
