//! What goes to peers and to the state machine, whatever the cache still has.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at what it is about")]

mod common;

use std::time::Duration;

use common::{Cluster, Fate, bytes, id, seq};
use tinyraftplus_core::{
    HardState, Identity, MessageBody, NodeId, Options, Restored, Role, Seq, Term, Terms, Time,
};
use tinyraftplus_replica::{
    Happening, LoadReply, LoadRequest, Message, Outcome, Refused, Replica, ReplicaOptions, Request,
    StartError, Want,
};

fn no_cache(options: &mut ReplicaOptions) {
    options.cache_bytes_max = 0;
}

/// A message that carries users' or leaders' entries.
fn carries_entries(message: &Message) -> bool {
    matches!(message, Message::Raft(m)
        if matches!(&m.body, MessageBody::Append { entries, .. } if !entries.is_empty()))
}

/// `send_after_trim`: a message waits for its entries to be read; meanwhile its sender loses its leadership,
/// and its log is trimmed and filled by another term. The message must not leave with the other's entries.
/// Fails if `fill` does not compare terms.
#[test]
fn send_after_trim() {
    let mut cluster = Cluster::new(3, no_cache);
    let old = cluster.leader();
    let term = cluster.term(old);
    // Its entries reach nobody, its heartbeats do: so it reads them again from its disk to send them again.
    cluster.filter =
        Box::new(
            move |from, _, message| {
                if from == old && carries_entries(message) { Fate::Drop } else { Fate::Deliver }
            },
        );
    cluster.node(old).holds_loads = true;
    for payload in ["a", "b", "c"] {
        cluster.append(old, payload);
    }
    cluster.until(|c| !c.nodes[&old].loads.is_empty());
    cluster.isolate(old);
    cluster.until(|c| {
        c.nodes.iter().any(|(&n, node)| {
            n != old && node.replica.as_ref().is_some_and(|r| r.core().role() == Role::Leader)
        })
    });
    let new = cluster
        .nodes
        .keys()
        .copied()
        .find(|&n| n != old && cluster.replica(n).core().role() == Role::Leader);
    // As many as make the two logs of one length, so that no position is missing in the end.
    for payload in ["x", "y"] {
        let call = cluster.append(new.unwrap(), payload);
        cluster.committed(call);
    }
    // Nothing the old leader asks for is answered yet, but it takes what the new one sends.
    cluster.heal();
    cluster.until(|c| {
        let entries = &c.nodes[&old].disk.entries;
        entries.len() == 4 && entries.iter().skip(1).all(|entry| entry.id.term > term)
    });
    let sent = std::rc::Rc::new(std::cell::Cell::new(0));
    let seen = std::rc::Rc::clone(&sent);
    cluster.filter = Box::new(move |from, _, message| {
        seen.set(seen.get() + u32::from(from == old && carries_entries(message)));
        Fate::Deliver
    });
    assert!(!cluster.nodes[&old].loads.is_empty(), "the read is under way still");
    assert!(cluster.term(old) > term && cluster.replica(old).core().role() == Role::Follower);
    cluster.node(old).holds_loads = false;
    cluster.until(|c| c.nodes[&old].loads.is_empty());
    assert_eq!(sent.get(), 0, "a message left with entries of another term");
}

/// `state_machine_ahead_of_log`: the followers commit without the leader's disk. The leader must not apply
/// what its own log would not have after a crash. (`common` checks each apply against the disk.) Fails if the
/// core hands out what is committed without looking at what is durable.
#[test]
fn state_machine_ahead_of_log() {
    let mut cluster = Cluster::new(3, |_| {});
    let leader = cluster.leader();
    let call = cluster.append(leader, "before");
    cluster.committed(call);
    cluster.node(leader).holds_disk = true;
    let call = cluster.append(leader, "x");
    cluster.until(|c| c.replica(leader).status().committed == seq(3));
    cluster.pass(Duration::from_millis(300));
    assert_eq!(cluster.nodes[&leader].machine.len(), 1);
    assert_eq!(cluster.replica(leader).status().applied, seq(2));
    cluster.node(leader).holds_disk = false;
    assert_eq!(cluster.committed(call), seq(2));
}

/// `state_machine_ahead_of_log`, at a start: a state machine that has seen more than the log holds is not
/// taken. Fails if `new` does not compare them.
#[test]
fn a_state_machine_that_does_not_fit_the_log_is_refused() {
    let mut terms = Terms::empty(seq(10), Term::new(1));
    terms.append(Term::new(1), 5);
    let restored = |terms: &Terms| {
        let mut restored = Restored::empty(Identity::new(1));
        restored.hard_state = HardState { term: Term::new(1), vote: None };
        restored.configuration = tinyraftplus_core::Configurations::found(
            vec![tinyraftplus_core::Member::voter(id(1), Identity::new(1))],
            tinyraftplus_core::QuorumRule::Majority,
            seq(0),
        )
        .ok()
        .map(std::sync::Arc::new);
        restored.terms = terms.clone();
        restored
    };
    let mut options = ReplicaOptions::new(Options::new(id(1), vec![id(1)], 1));
    options.state_machine = true;
    let start = |applied| {
        Replica::new(options.clone(), restored(&terms), seq(applied), None, 1, Time::ZERO)
            .map(|_| ())
    };
    assert_eq!(start(16), Err(StartError::AheadOfLog { applied: seq(16), end: seq(15) }));
    assert_eq!(start(9), Err(StartError::BehindLog { applied: seq(9), start: seq(10) }));
    assert_eq!(start(10), Ok(()));
    assert_eq!(start(15), Ok(()));
}

/// A read on a follower waits until the follower has applied what it must see. Fails if `serve_reads` does not
/// look at the position.
#[test]
fn a_read_on_a_slow_follower_is_not_stale() {
    let mut cluster = Cluster::new(3, |_| {});
    let (leader, follower) = (cluster.leader(), cluster.follower());
    cluster.node(follower).holds_machine = true;
    for payload in ["a", "b", "c"] {
        let call = cluster.append(leader, payload);
        cluster.committed(call);
    }
    let read = cluster.read(follower);
    cluster.pass(Duration::from_secs(1));
    assert!(!cluster.outcomes.contains_key(&read), "it has applied nothing yet");
    cluster.node(follower).holds_machine = false;
    assert_eq!(cluster.outcome(read), Outcome::Read { seq: Some(seq(3)), result: bytes("3") });
    let local = cluster.call(follower, Request::ReadLocal { query: bytes("") });
    assert_eq!(cluster.outcome(local), Outcome::Read { seq: Some(seq(3)), result: bytes("3") });
}

/// A leader that was cut off while another one committed must not answer reads; once it is back, its reads
/// are answered by the new leader. (`deposed_leader_read`, seen from the calls.)
#[test]
fn a_read_at_a_deposed_leader_is_not_stale() {
    let mut cluster = Cluster::new(3, |_| {});
    let old = cluster.leader();
    cluster.isolate(old);
    let read = cluster.read(old);
    let others: Vec<NodeId> = cluster.nodes.keys().copied().filter(|&n| n != old).collect();
    let call = cluster.append(others[0], "x");
    cluster.until(|c| {
        c.nodes[&others[0]]
            .replica
            .as_ref()
            .is_some_and(|r| r.core().leader().is_some_and(|leader| leader != old))
    });
    let new = cluster.append(others[0], "y");
    cluster.committed(new);
    assert!(!cluster.outcomes.contains_key(&read));
    cluster.heal();
    match cluster.outcome(read) {
        Outcome::Read { seq: Some(seen), .. } => assert!(seen >= seq(2), "saw only {seen}"),
        other => panic!("{other:?}"),
    }
    cluster.outcome(call);
}

/// Without a cache everything is read from the log: entries for a peer that was away, batches whole, and all
/// of them again for a state machine that starts empty.
#[test]
fn what_the_cache_lost_is_read_from_the_log() {
    let mut cluster = Cluster::new(3, |options| {
        options.cache_bytes_max = 0;
        options.apply_bytes_max = 40;
        options.apply_entries_max = 7;
        options.raft.append_bytes_max = 64;
    });
    let (leader, away) = (cluster.leader(), cluster.follower());
    cluster.isolate(away);
    let mut want = Vec::new();
    for number in 0..40_u64 {
        let payloads: Vec<_> =
            (0..=number % 5).map(|at| bytes(&format!("{number}.{at}"))).collect();
        want.extend(payloads.clone());
        let call = cluster.call(leader, Request::Append { payloads });
        cluster.committed(call);
    }
    // Another leader knows nothing of old batches: it has to look where they begin.
    cluster.kill(leader);
    cluster.heal();
    let new = cluster.leader();
    assert_ne!(new, away);
    cluster.until(|c| c.nodes[&away].machine.len() == want.len());
    cluster.start(leader);
    cluster.until(|c| c.nodes[&leader].machine.len() == want.len());
    for node in cluster.nodes.values() {
        assert_eq!(node.disk.payloads(), want);
        let applied: Vec<_> = node.machine.iter().map(|(_, payload)| payload.clone()).collect();
        assert_eq!(applied, want);
        assert!(node.machine.is_sorted_by(|(a, _), (b, _)| a < b), "each entry once");
    }
    let status = cluster.replica(new).status();
    assert!(status.cache_bytes < 1000, "{} bytes are cached", status.cache_bytes);
    assert_eq!(status.head.map(|head| head.id.seq), status.end.before());
}

/// A lone leader shows its state machine the whole log after a restart. (`single_leader_no_reapply`.)
#[test]
fn a_lone_leader_applies_its_log_again() {
    let mut cluster = Cluster::new(1, |_| {});
    for payload in ["a", "", "c"] {
        let call = cluster.append(id(1), payload);
        cluster.committed(call);
    }
    cluster.kill(id(1));
    cluster.start(id(1));
    let read = cluster.read(id(1));
    assert_eq!(cluster.outcome(read), Outcome::Read { seq: Some(seq(4)), result: bytes("3") });
    let payloads: Vec<_> = cluster.node(id(1)).machine.drain(..).collect();
    assert_eq!(payloads, [(seq(1), bytes("a")), (seq(2), bytes("")), (seq(3), bytes("c"))]);
}

/// A log that can't be read holds up the state machine and nothing else, and is asked again.
#[test]
fn a_failed_read_is_tried_again() {
    let mut cluster = Cluster::new(1, |_| {});
    let call = cluster.append(id(1), "a");
    cluster.committed(call);
    cluster.kill(id(1));
    cluster.start(id(1));
    cluster.node(id(1)).holds_loads = true;
    cluster.until(|c| c.nodes[&id(1)].loads.len() == 2);
    let node = cluster.node(id(1));
    let requests: Vec<_> = node.loads.drain(..).collect();
    for request in requests {
        let entries = Err(tinyraftplus_log::LogError::Closed);
        let reply = LoadReply { request, entries };
        cluster.step(id(1), Happening::Loaded(reply));
    }
    cluster.node(id(1)).holds_loads = false;
    cluster.until(|c| c.nodes[&id(1)].machine.len() == 1);
    let told = &cluster.nodes[&id(1)].events;
    assert!(told.iter().any(|e| matches!(e, tinyraftplus_replica::Event::LoadFailed { .. })));
    assert_eq!(cluster.replica(id(1)).status().durable, Seq::new(3));
}

/// Empty entries have no bytes, so a limit in bytes alone would read a whole log of them into memory, for a
/// peer or for the state machine. Fails if an entry costs nothing in `read_batches`, or `load_for_apply` asks
/// for all there is.
#[test]
fn a_log_of_empty_entries_is_read_in_parts() {
    let mut cluster = Cluster::new(1, |options| options.apply_entries_max = 100);
    for _ in 0..5 {
        let payloads = vec![bytes(""); 1000];
        let call = cluster.call(id(1), Request::Append { payloads });
        cluster.committed(call);
    }
    for _ in 0..1000 {
        cluster.append(id(1), "");
    }
    let call = cluster.append(id(1), "end");
    cluster.committed(call);
    let end = cluster.node(id(1)).disk.end();
    let batches = |at_most, bytes_max| {
        let want = Want::Batches { at_most, end, bytes_max };
        let request = LoadRequest { number: 1, want };
        request.run(&cluster.nodes[&id(1)].disk).entries.unwrap().len()
    };
    assert_eq!(batches(seq(5001), 640), 10, "64 bytes each");
    assert_eq!(batches(seq(2), 640), 1000, "one batch in any case");
    cluster.kill(id(1));
    cluster.start(id(1));
    cluster.node(id(1)).holds_loads = true;
    let asked = |node: &common::Node| {
        node.loads.iter().find_map(|request| match request.want {
            Want::Some { start, end, .. } => Some(end.since(start)),
            _ => None,
        })
    };
    cluster.until(|c| asked(&c.nodes[&id(1)]).is_some());
    assert_eq!(asked(&cluster.nodes[&id(1)]), Some(100));
    cluster.node(id(1)).holds_loads = false;
    cluster.until(|c| c.nodes[&id(1)].machine.len() == 6001);
}

/// A state machine that hangs is asked by call after call, and each gives up. What waits for it stays bounded,
/// and a call that has ended leaves nothing behind. Fails if `serve_reads` does not count what is asked, or
/// `finish` leaves a read in `ready`.
#[test]
fn reads_that_gave_up_leave_nothing_behind() {
    let mut cluster = Cluster::new(1, |options| options.calls_max = 4);
    cluster.leader();
    let time = Duration::from_millis(5);
    let round = |cluster: &mut Cluster| {
        for request in [Request::ReadLocal { query: bytes("") }, Request::Read { query: bytes("") }]
        {
            let call = cluster.call_for(id(1), request, time);
            assert_eq!(cluster.outcome(call), Outcome::Refused(Refused::Deadline));
        }
    };
    cluster.node(id(1)).holds_machine = true;
    (0..10).for_each(|_| round(&mut cluster));
    assert_eq!(cluster.node(id(1)).queries.len(), 4);
    let size = |cluster: &Cluster| format!("{:?}", cluster.replica(id(1))).len();
    let before = size(&cluster);
    (0..200).for_each(|_| round(&mut cluster));
    assert!(size(&cluster) < before + 100, "{before} grew to {}", size(&cluster));
    cluster.node(id(1)).holds_machine = false;
    let read = cluster.read(id(1));
    assert!(matches!(cluster.outcome(read), Outcome::Read { .. }));
}

/// The entry that could not be read for the state machine came another way, and the state machine takes its
/// time. Nothing is due then. Fails, as every driver would at full speed, if `wake_at` always looks at the time
/// of the next try.
#[test]
fn a_failed_read_that_is_not_needed_any_more_wakes_nobody() {
    let mut cluster = Cluster::new(1, |_| {});
    cluster.leader();
    let call = cluster.append(id(1), "a");
    cluster.committed(call);
    cluster.kill(id(1));
    // The state machine kept its state: only the newest entry is new to it.
    cluster.start_at(id(1), seq(1));
    cluster.node(id(1)).holds_loads = true;
    cluster.node(id(1)).holds_machine = true;
    cluster.until(|c| c.nodes[&id(1)].loads.len() == 2);
    let mut loads: Vec<_> = cluster.node(id(1)).loads.drain(..).collect();
    let head = loads.remove(0);
    assert!(matches!(head.want, Want::Exactly { .. }));
    let failed = LoadReply { request: loads[0], entries: Err(tinyraftplus_log::LogError::Closed) };
    cluster.step(id(1), Happening::Loaded(failed));
    let reply = head.run(&cluster.nodes[&id(1)].disk);
    cluster.step(id(1), Happening::Loaded(reply));
    assert!(cluster.nodes[&id(1)].apply.is_some());
    cluster.pass(Duration::from_secs(1));
    let now = cluster.now;
    cluster.step(id(1), Happening::Wake);
    assert!(cluster.replica(id(1)).wake_at() > now);
}

/// `slow_apply_starves_election`: the state machines of all nodes hang in the middle of an apply, and one that was
/// started again has its whole log to replay. Heartbeats go on, and a leader that dies is replaced at once, again and
/// again. Fails if anything that `take` takes in waits for `Applied`.
#[test]
fn slow_apply_starves_election() {
    let mut cluster = Cluster::new(3, |options| options.apply_entries_max = 1);
    let first = cluster.leader();
    let all: Vec<NodeId> = cluster.nodes.keys().copied().collect();
    for &node in &all {
        cluster.node(node).holds_machine = true;
    }
    for payload in ["a", "b", "c"] {
        cluster.append(first, payload);
    }
    cluster.until(|c| all.iter().all(|&n| c.replica(n).status().committed == seq(4)));
    let term = cluster.term(first);
    cluster.pass(Duration::from_secs(30));
    assert!(all.iter().all(|&n| cluster.term(n) == term && cluster.nodes[&n].apply.is_some()));
    let mut dead = first;
    for _ in 0..5 {
        cluster.kill(dead);
        let before = cluster.now;
        let leader = cluster.leader();
        assert!(cluster.now.since(before) < Duration::from_secs(5));
        cluster.start(dead);
        cluster.node(dead).holds_machine = true;
        cluster.until(|c| c.nodes[&dead].apply.is_some());
        let status = cluster.replica(dead).status();
        assert!(status.committed >= seq(4) && status.applied <= seq(1), "it has all to replay");
        dead = leader;
    }
    for &node in &all {
        cluster.node(node).holds_machine = false;
    }
    cluster.until(|c| all.iter().all(|&n| c.nodes[&n].machine.len() == 3));
}

/// `apply_index_not_atomic`: a state machine has stored its state together with how far it got, and is handed exactly
/// what comes after that, wherever that is: nothing twice, nothing left out. Fails if `new` begins anywhere else.
#[test]
fn apply_index_not_atomic() {
    let mut cluster = Cluster::new(1, |options| options.cache_bytes_max = 0);
    let payloads: Vec<_> = (0..6).map(|number| bytes(&number.to_string())).collect();
    for payload in &payloads {
        let payloads = vec![payload.clone(); 2];
        let call = cluster.call(id(1), Request::Append { payloads });
        cluster.committed(call);
    }
    for kept in 0..=13 {
        cluster.kill(id(1));
        cluster.start_at(id(1), seq(kept));
        let end = cluster.replica(id(1)).status().end;
        cluster.until(|c| c.replica(id(1)).status().applied > end);
        let handed_out: Vec<_> = cluster.nodes[&id(1)].machine.clone();
        let want = (kept.max(1)..13)
            .map(|at| (seq(at), payloads[usize::try_from((at - 1) / 2).unwrap()].clone()));
        assert_eq!(handed_out, want.collect::<Vec<_>>(), "kept {kept}");
    }
}

/// `read_error_as_end_of_log`: what a follower lacks can't be read from the leader's log: an error, nothing, half a
/// batch, or a batch too far on. It is sent nothing in its place, and asked for again later; others go on. Fails if
/// the core's `loaded` takes no answer for the end of the log, or believes any range, or if `batches_loaded` does not
/// look at the last entry.
#[test]
fn read_error_as_end_of_log() {
    let mut cluster = Cluster::new(3, |options| {
        options.cache_bytes_max = 0;
        options.raft.append_bytes_max = 1;
    });
    let (first, away) = (cluster.leader(), cluster.follower());
    cluster.isolate(away);
    for payload in ["a", "b", "c"] {
        let payloads = vec![bytes(payload); 3];
        let call = cluster.call(first, Request::Append { payloads });
        cluster.committed(call);
    }
    // Whoever leads next has to look in its log where batches begin.
    cluster.kill(first);
    cluster.start(first);
    let leader = cluster.leader();
    assert_ne!(leader, away);
    cluster.node(leader).holds_loads = true;
    cluster.heal();
    let sent = std::rc::Rc::new(std::cell::Cell::new(0));
    let seen = std::rc::Rc::clone(&sent);
    cluster.filter = Box::new(move |_, to, message| {
        // The leader's own first entry, with which it finds out what is missing, comes after these.
        let is_old = matches!(message, Message::Raft(m) if matches!(&m.body,
            MessageBody::Append { entries, .. } if entries.first().is_some_and(|e| e.id.seq < seq(10))));
        seen.set(seen.get() + u32::from(to == away && is_old));
        Fate::Deliver
    });
    for answer in 0..12 {
        let asks = |c: &Cluster| {
            let wants = c.nodes[&leader].loads.iter();
            wants.copied().find(|load| !matches!(load.want, Want::Some { .. }))
        };
        cluster.until(|c| asks(c).is_some());
        let request = asks(&cluster).unwrap();
        cluster.node(leader).loads.retain(|load| *load != request);
        let whole = request.run(&cluster.nodes[&leader].disk).entries.unwrap();
        let from = |seqs: std::ops::Range<u64>| {
            let entries = cluster.nodes[&leader].disk.entries.iter();
            Ok(entries.filter(|e| seqs.contains(&e.id.seq.get())).cloned().collect::<Vec<_>>())
        };
        let entries = match answer % 4 {
            0 => Err(tinyraftplus_log::LogError::Closed),
            1 => Ok(Vec::new()),
            2 => Ok(whole.into_iter().take(2).collect()),
            _ => from(7..10),
        };
        cluster.step(leader, Happening::Loaded(LoadReply { request, entries }));
        assert_eq!(sent.get(), 0, "something was sent after answer {answer}");
    }
    let call = cluster.append(leader, "d");
    cluster.until(|c| c.replica(leader).status().committed == seq(12));
    cluster.node(leader).holds_loads = false;
    cluster.committed(call);
    cluster.until(|c| c.nodes[&away].disk.end() == c.nodes[&leader].disk.end());
    assert_eq!(cluster.node(away).disk.payloads(), cluster.node(leader).disk.payloads());
    assert_eq!(cluster.leader(), leader);
}
