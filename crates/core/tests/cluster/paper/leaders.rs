//! Raft figure 2, Rules for Servers: leaders.

use super::{accepted, append, appends_to, at, log, pass, said, said_to, win, write_all};
use crate::harness::{Cluster, entry, id};
use std::collections::BTreeMap;
use std::time::Duration;
use tinyraftplus_core::{Entry, EntryBody, MessageBody, Resolution, Role, Seq, Term};

/// Raft figure 2, leaders, 1, first half: who is elected says so at once, to every server. A departure: not with an
/// empty append but with the entry that his term begins with. It has the same term and follows the same rules, so
/// nobody campaigns against him; and one message less is sent. Fails if `lead` waits for the next heartbeat.
#[test]
fn leaders_1_speak_to_everybody_at_once() {
    let mut cluster = Cluster::formed(5);
    win(&mut cluster, 1);
    let sent = said(&mut cluster, 1);
    let to: Vec<_> = sent.iter().map(|letter| letter.to).collect();
    assert_eq!(to, [2, 3, 4, 5].map(id));
    for letter in sent {
        assert_eq!(letter.message.term, Term::new(1));
        let MessageBody::Append { prev: None, entries, .. } = letter.message.body else {
            panic!("no append");
        };
        let noop = Entry { id: at(1, 0), ends_batch: true, body: EntryBody::Noop };
        assert_eq!(entries, [noop]);
    }
}

/// Raft figure 2, leaders, 1, second half: while nothing is appended, heartbeats go on, often enough that nobody
/// campaigns. Fails if `speak` does not look at the time, or `wake_at` does not name it.
#[test]
fn leaders_1_keep_their_office_while_nothing_happens() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    let end = cluster.now + Duration::from_secs(20);
    let interval = cluster.node(id(1)).options.heartbeat_interval;
    let mut beats: BTreeMap<_, u64> = BTreeMap::new();
    while cluster.now < end {
        let before = cluster.now;
        cluster.wake(id(1));
        assert!(cluster.now.since(before) <= interval);
        for letter in &cluster.flying {
            *beats.entry(letter.to).or_default() += 1;
        }
        cluster.settle();
        for node in 1..=3 {
            assert!(cluster.core(id(node)).wake_at() > cluster.now, "node {node} would campaign");
        }
    }
    assert_eq!(beats, BTreeMap::from([(id(2), 200), (id(3), 200)]));
    assert_eq!(cluster.core(id(1)).term(), Term::new(1));
}

/// Raft figure 2, leaders, 2: a client's command becomes an entry of the leader's log at once, and is answered when
/// it is applied. A departure: the core answers when it is committed; whoever has a state machine waits for that
/// (`crates/replica/tests/paper.rs`). It is never answered before. Fails if `accept` answers at once, or
/// `settle` does not wait for the commit.
#[test]
fn leaders_2_append_commands_and_answer_them_once_committed() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    let ticket = cluster.propose(id(1), &["a"]);
    assert_eq!(log(&cluster, 1), [at(1, 0), at(1, 1)]);
    let id_of = at(1, 1);
    let taken = Some(Resolution::Accepted { first: id_of, last: id_of });
    assert_eq!(cluster.answer(ticket), taken);
    cluster.persist(id(1));
    assert_eq!(cluster.answer(ticket), taken, "one of three has it");
    cluster.inject(id(2), id(1), 1, accepted(2));
    assert_eq!(cluster.answer(ticket), Some(Resolution::Committed { first: id_of, last: id_of }));
    assert_eq!(cluster.node(id(1)).applied, Seq::new(2));
}

/// Raft figure 2, leaders, 3: who lacks entries is sent them, from the next one that he needs. A departure: what is
/// on its way counts as sent, so messages follow one another without waiting; where that was wrong, the answer is no
/// or none comes, and what was sent is sent again. Fails if `fill` does not send, or begins elsewhere.
#[test]
fn leaders_3_send_what_a_follower_lacks() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    for seq in 1..4 {
        cluster.propose(id(1), &["a"]);
        assert_eq!(appends_to(&mut cluster, 1, 2), [(Some(at(1, seq - 1)), vec![at(1, seq)])]);
    }
    // All of it was lost, which shows when heartbeats are answered and these are not.
    let mut again = Vec::new();
    for _ in 0..5 {
        pass(&mut cluster, 100);
        cluster.step(id(1), tinyraftplus_core::Input::Wake);
        again.extend(appends_to(&mut cluster, 1, 2).into_iter().filter(|(_, e)| !e.is_empty()));
        cluster.inject(id(2), id(1), 1, accepted(1));
    }
    assert_eq!(again, [(Some(at(1, 0)), vec![at(1, 1), at(1, 2), at(1, 3)])]);
}

/// Raft figure 2, leaders, 3, on success: what the follower has is known now, and the next entries follow it, even
/// where the leader would have begun before. Fails if `accepted` raises only one of the two.
#[test]
fn leaders_3_learn_from_a_success() {
    let mut cluster = Cluster::formed(3);
    cluster.preset_log(id(1), &[1, 1]);
    win(&mut cluster, 1);
    cluster.flying.clear();
    let rejected = MessageBody::Rejected { prev: Some(at(1, 1)), hint: None, round: 0 };
    cluster.inject(id(2), id(1), 2, rejected);
    assert_eq!(cluster.node(id(1)).loads.len(), 1, "it looks for older entries to send");
    cluster.inject(id(2), id(1), 2, accepted(3));
    let (_, peer) = cluster.core(id(1)).peers().next().unwrap();
    assert_eq!(peer.matched, Seq::new(3));
    cluster.load(id(1), true);
    cluster.flying.clear();
    cluster.propose(id(1), &["a"]);
    assert!(cluster.node(id(1)).loads.is_empty(), "nothing older is needed");
    assert_eq!(appends_to(&mut cluster, 1, 2), [(Some(at(2, 2)), vec![at(2, 3)])]);
}

/// Raft figure 2, leaders, 3, on failure: the leader goes back and tries again. A departure: not by one entry but to
/// the newest one that may be in both logs, as the refusal hints; and to before what was refused in any case, so
/// each try is at least one further back, as the paper's is, whatever the hint says. Fails if `on_rejected` trusts
/// the hint alone.
#[test]
fn leaders_3_go_back_after_a_failure() {
    let mut cluster = Cluster::formed(3);
    cluster.preset_log(id(1), &[1, 1, 1, 1, 1]);
    win(&mut cluster, 1);
    cluster.load(id(1), true);
    let mut tries = Vec::new();
    for _ in 0..6 {
        while cluster.load(id(1), true) {}
        let sent = appends_to(&mut cluster, 1, 2);
        let [(prev, _)] = sent[..] else { panic!("not one try: {sent:?}") };
        tries.push(prev.map(|prev| prev.seq.get()));
        // The hint says what was just refused.
        cluster.inject(id(2), id(1), 2, MessageBody::Rejected { prev, hint: prev, round: 0 });
    }
    assert_eq!(tries, [Some(4), Some(3), Some(2), Some(1), Some(0), None]);
}

/// The same with true hints: one try for each term that the logs differ in, and they are equal in the end. Fails if
/// `on_append` hints at nothing, or `on_rejected` goes back by one.
#[test]
fn leaders_3_skip_a_term_a_try() {
    let mut cluster = Cluster::formed(3);
    let terms = |parts: &[(u64, usize)]| {
        parts.iter().flat_map(|&(term, count)| vec![term; count]).collect::<Vec<u64>>()
    };
    for node in [1, 3] {
        cluster.preset_log(id(node), &terms(&[(1, 30), (4, 30), (6, 30)]));
    }
    cluster.preset_log(id(2), &terms(&[(1, 30), (2, 30), (3, 30)]));
    cluster.partition(&[&[1, 3]]);
    cluster.elect(id(1));
    cluster.heal();
    cluster.transcript = Some(Vec::new());
    let equal = |cluster: &Cluster| log(cluster, 2) == log(cluster, 1);
    assert!(cluster.until(20, equal));
    let lines = cluster.transcript.take().unwrap();
    let refused = lines.iter().filter(|line| line.starts_with("2 -> 1 rejected")).count();
    assert!((1..=3).contains(&refused), "{refused} tries");
}

/// Raft figure 2, leaders, 4: what a majority has is committed, and no more. Fails if `agreed` asks for fewer.
#[test]
fn leaders_4_commit_what_a_majority_has() {
    let mut cluster = Cluster::formed(5);
    win(&mut cluster, 1);
    cluster.propose(id(1), &["a"]);
    cluster.propose(id(1), &["b"]);
    write_all(&mut cluster, 1);
    let told = [(2, 1, 0), (2, 3, 0), (2, 3, 0), (3, 1, 1), (4, 2, 2), (5, 3, 3)];
    for (from, matched, committed) in told {
        cluster.inject(id(from), id(1), 1, accepted(matched));
        assert_eq!(cluster.core(id(1)).committed(), Seq::new(committed), "{from} has {matched}");
    }
}

/// Raft figure 2, leaders, 4, and section 5.4.2: what a majority has is committed only if it is of this term; then all
/// before it is too. Fails if `commit` does not look at the term.
#[test]
fn leaders_4_commit_by_an_entry_of_their_own_term() {
    let mut cluster = Cluster::formed(5);
    cluster.preset_log(id(1), &[1, 1]);
    win(&mut cluster, 1);
    for node in 2..=5 {
        cluster.inject(id(node), id(1), 2, accepted(2));
        assert_eq!(cluster.core(id(1)).committed(), Seq::ZERO, "all have it, of term 1");
    }
    for node in [2, 3] {
        cluster.inject(id(node), id(1), 2, accepted(3));
    }
    assert_eq!(cluster.core(id(1)).committed(), Seq::new(3));
}

/// Raft figure 2, leaders, 4: a leader counts himself as far as his own disk has got, as anybody else. So a majority
/// may commit without him, and he with too few not. Fails if `commit` takes him for having all he has appended.
#[test]
fn leaders_4_count_themselves_as_far_as_their_disk() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    let ticket = cluster.propose(id(1), &["a"]);
    cluster.inject(id(2), id(1), 1, accepted(2));
    assert!(matches!(cluster.answer(ticket), Some(Resolution::Accepted { .. })));
    cluster.inject(id(3), id(1), 1, accepted(2));
    assert!(matches!(cluster.answer(ticket), Some(Resolution::Committed { .. })));
    assert_eq!(cluster.core(id(1)).durable(), Seq::new(1));
}

/// Raft section 5.3, which figure 2 rests on: a leader never overwrites or deletes entries of his own log. Who sends
/// him other ones is no leader of this term. Fails if `on_append` lets a leader follow another.
#[test]
fn leaders_never_change_their_log() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.propose(id(1), &["a"]);
    let before = log(&cluster, 1);
    cluster.inject(id(2), id(1), 1, append(Some(at(1, 0)), vec![entry(1, 1, "other")], 0));
    assert_eq!(log(&cluster, 1), before);
    assert_eq!(cluster.core(id(1)).role(), Role::Leader);
    assert_eq!(said_to(&mut cluster, 1, 2).len(), 1, "only its own append");
}
