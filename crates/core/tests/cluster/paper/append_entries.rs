//! Raft figure 2, `AppendEntries` RPC: its arguments, its results, and what its receiver does.

use super::{accepted, append, appends_to, at, heartbeat, log, said, said_to, vote, write_all};
use crate::harness::{Cluster, entry, id};
use tinyraftplus_core::{Event, MessageBody, Refusal, Resolution, Role, Seq, Term};

/// A node of three with this log, in term `term`, of which everything is durable.
fn follower(terms: &[u64], term: u64) -> Cluster {
    let mut cluster = Cluster::formed(3);
    cluster.preset_log(id(2), terms);
    cluster.preset(id(2), |disk| disk.hard_state.term = Term::new(term));
    cluster
}

/// Raft figure 2, argument term: the leader's. It is the message's, so that a receiver compares it before
/// anything else. Fails if `message` takes another.
#[test]
fn term_is_the_leaders() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.elect_by_campaign(id(1));
    cluster.propose(id(1), &["a"]);
    let sent = said(&mut cluster, 1);
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|letter| letter.message.term == Term::new(2)));
}

/// Raft figure 2, argument leaderId: so that a follower can redirect clients. A departure: it is not in the
/// message; the connection says who speaks, and the identity of his log proves it. Fails if `follow` does not
/// remember who spoke.
#[test]
fn leader_id_redirects_clients() {
    let mut cluster = follower(&[1], 1);
    let to_nobody = cluster.propose(id(2), &["a"]);
    let refused = |leader| Some(Resolution::Refused(Refusal::NotLeader { leader }));
    assert_eq!(cluster.answer(to_nobody), refused(None));
    cluster.inject(id(1), id(2), 1, heartbeat(None, 0));
    let to_leader = cluster.propose(id(2), &["a"]);
    assert_eq!(cluster.answer(to_leader), refused(Some(id(1))));
}

/// Raft figure 2, arguments prevLogIndex and prevLogTerm: the entry just before the new ones. At the start of
/// the log there is none. Fails if `send_entries` names another.
#[test]
fn prev_is_the_entry_before_the_new_ones() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.propose(id(1), &["a"]);
    assert_eq!(appends_to(&mut cluster, 1, 2), [(Some(at(1, 0)), vec![at(1, 1)])]);
    cluster.propose(id(1), &["b"]);
    assert_eq!(appends_to(&mut cluster, 1, 2), [(Some(at(1, 1)), vec![at(1, 2)])]);
    let mut cluster = Cluster::formed(3);
    super::win(&mut cluster, 1);
    assert_eq!(appends_to(&mut cluster, 1, 2), [(None, vec![at(1, 0)])]);
}

/// Raft figure 2, argument entries: what to store; none in a heartbeat, many at once where there are many. Fails
/// if `propose` or `fill` sends each by itself, or a heartbeat takes some along.
#[test]
fn entries_are_none_in_a_heartbeat_and_many_where_there_are() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.propose(id(1), &["a", "b", "c"]);
    assert_eq!(
        appends_to(&mut cluster, 1, 3),
        [(Some(at(1, 0)), vec![at(1, 1), at(1, 2), at(1, 3)])]
    );
    cluster.wake(id(1));
    let beats = appends_to(&mut cluster, 1, 3);
    assert!(beats.iter().all(|(_, entries)| entries.is_empty()) && !beats.is_empty());
}

/// Raft figure 2, argument leaderCommit: how far the leader has committed. Fails if `append_message` tells
/// anything else.
#[test]
fn leader_commit_is_the_leaders() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    let told = |cluster: &mut Cluster| {
        let bodies = said_to(cluster, 1, 2).into_iter();
        let told = bodies.map(|body| {
            let MessageBody::Append { committed, .. } = body else { panic!("{body:?}") };
            committed.get()
        });
        told.max()
    };
    cluster.propose(id(1), &["a"]);
    assert_eq!(told(&mut cluster), Some(1));
    cluster.persist(id(1));
    cluster.inject(id(3), id(1), 1, accepted(2));
    cluster.propose(id(1), &["b"]);
    assert_eq!(told(&mut cluster), Some(2));
}

/// Raft figure 2, result term: from it a leader learns that its own is over. Fails if `on_append` answers
/// nothing to a leader of the past, or `receive` adopts no term from an answer.
#[test]
fn the_answers_term_updates_the_leader() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.inject(id(3), id(2), 3, vote(None));
    cluster.persist(id(2));
    cluster.flying.clear();
    cluster.wake(id(1));
    cluster.deliver_all(id(1), id(2));
    let answer = cluster.flying.iter().find(|letter| letter.from == id(2)).unwrap();
    assert_eq!(answer.message.term, Term::new(3));
    cluster.deliver_all(id(2), id(1));
    assert_eq!(cluster.core(id(1)).term(), Term::new(3));
    assert_eq!(cluster.core(id(1)).role(), Role::Follower);
}

/// Raft figure 2, result success: the follower had the entry before the new ones. A departure: a success names
/// no message, but how far the two logs are known to be equal and durable here. That is at least as far as the
/// message that it answers reached, so the paper's success follows from it; and it never claims more than a
/// message has proved, though the log be longer. Fails if `on_append` acknowledges to the end of the log.
#[test]
fn success_says_how_far_the_logs_are_equal() {
    let mut cluster = follower(&[1, 1, 1, 1], 1);
    for (message, matched) in [
        (heartbeat(None, 0), 0),
        (heartbeat(Some(at(1, 0)), 0), 1),
        (append(Some(at(1, 0)), vec![entry(1, 1, "old"), entry(1, 2, "old")], 0), 3),
    ] {
        cluster.inject(id(1), id(2), 1, message);
        assert_eq!(said_to(&mut cluster, 2, 1), [accepted(matched)]);
    }
    cluster.inject(id(1), id(2), 1, heartbeat(Some(at(1, 4)), 0));
    assert!(matches!(said_to(&mut cluster, 2, 1)[..], [MessageBody::Rejected { .. }]));
}

/// Raft figure 2, `AppendEntries` receiver, 1: an append of an older term is refused, and changes nothing: not
/// the log, not the commit, not who leads, not how long to wait for him. Fails if `on_append` does not compare
/// the term.
#[test]
fn receiver_1_refuses_an_older_term() {
    let mut cluster = follower(&[1, 3], 3);
    let wakes = cluster.core(id(2)).wake_at();
    super::pass(&mut cluster, 400);
    cluster.inject(id(1), id(2), 2, append(Some(at(1, 0)), vec![entry(2, 1, "x")], 2));
    let sent = said(&mut cluster, 2);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].message.term, Term::new(3));
    assert!(matches!(sent[0].message.body, MessageBody::Rejected { prev: None, .. }));
    assert_eq!(log(&cluster, 2), [at(1, 0), at(3, 1)]);
    let core = cluster.core(id(2));
    assert_eq!((core.committed(), core.leader(), core.wake_at()), (Seq::ZERO, None, wakes));
}

/// Raft figure 2, `AppendEntries` receiver, 2: an append is refused if its previous entry is not in the log:
/// because the log is shorter, or has one of another term there. A departure: the refusal hints at the newest
/// entry that may be in both logs; `leaders` shows what for. Fails if `on_append` does not look for it, or by its
/// position alone.
#[test]
fn receiver_2_refuses_what_does_not_follow() {
    for (prev, hint) in [(at(2, 5), at(2, 2)), (at(1, 2), at(1, 0)), (at(3, 2), at(2, 2))] {
        let mut cluster = follower(&[1, 2, 2], 3);
        let entries = vec![entry(3, prev.seq.get() + 1, "x")];
        cluster.inject(id(1), id(2), 3, append(Some(prev), entries, 9));
        write_all(&mut cluster, 2);
        let refused = MessageBody::Rejected { prev: Some(prev), hint: Some(hint), round: 0 };
        assert_eq!(said_to(&mut cluster, 2, 1), [refused]);
        assert_eq!(log(&cluster, 2), [at(1, 0), at(2, 1), at(2, 2)]);
        assert_eq!(cluster.core(id(2)).committed(), Seq::ZERO);
    }
}

/// Raft figure 2, `AppendEntries` receiver, 3: an entry of another term than the new one at its position goes, and
/// all after it; what comes before stays. In one write with what takes their place, so that no crash leaves a
/// log without either. Fails if `take` does not trim, or trims from the message's start.
#[test]
fn receiver_3_deletes_what_conflicts_and_all_that_follows() {
    let mut cluster = follower(&[1, 2, 2, 2, 2], 3);
    let entries = vec![entry(2, 1, "old"), entry(3, 2, "x")];
    cluster.inject(id(1), id(2), 3, append(Some(at(1, 0)), entries, 0));
    assert_eq!(log(&cluster, 2), [at(1, 0), at(2, 1), at(3, 2)]);
    let jobs = &cluster.node(id(2)).jobs;
    assert_eq!(jobs.len(), 1);
    assert_eq!((jobs[0].trim, jobs[0].append.len()), (Some(Seq::new(2)), 1));
}

/// The limit of that, Raft section 5.4.3: what is committed is in the log of every later leader, so nobody who is one
/// contradicts it. Who does is not obeyed. Fails if `take` does not look at the commit.
#[test]
fn receiver_3_never_deletes_what_is_committed() {
    let mut cluster = follower(&[1, 2, 2], 3);
    cluster.inject(id(1), id(2), 3, heartbeat(Some(at(2, 2)), 2));
    cluster.flying.clear();
    cluster.inject(id(1), id(2), 3, append(Some(at(1, 0)), vec![entry(3, 1, "x")], 2));
    assert_eq!(log(&cluster, 2), [at(1, 0), at(2, 1), at(2, 2)]);
    assert!(matches!(cluster.events.last(), Some((_, Event::Malformed { .. }))));
    assert!(said(&mut cluster, 2).is_empty());
    cluster.inject(id(1), id(2), 3, append(Some(at(2, 1)), vec![entry(3, 2, "x")], 2));
    assert_eq!(log(&cluster, 2), [at(1, 0), at(2, 1), at(3, 2)], "what is not committed may go");
}

/// Raft figure 2, `AppendEntries` receiver, 4: only what is not in the log is appended; what is there stays, and
/// so does what lies behind a message that is shorter than the log. Fails if `take` writes all entries, or
/// cuts the log behind the message.
#[test]
fn receiver_4_appends_what_is_missing() {
    let mut cluster = follower(&[1, 1], 1);
    let all = || vec![entry(1, 0, "old"), entry(1, 1, "old"), entry(1, 2, "new")];
    cluster.inject(id(1), id(2), 1, append(None, all(), 0));
    let jobs = &cluster.node(id(2)).jobs;
    assert_eq!((jobs.len(), jobs[0].trim), (1, None));
    assert_eq!(jobs[0].append, [entry(1, 2, "new")]);
    write_all(&mut cluster, 2);
    for entries in [vec![entry(1, 0, "old")], all()] {
        cluster.inject(id(1), id(2), 1, append(None, entries, 0));
        assert!(cluster.node(id(2)).jobs.is_empty());
        assert_eq!(log(&cluster, 2).len(), 3);
    }
}

/// Raft figure 2, `AppendEntries` receiver, 5: the commit follows the leader's, up to the last new entry and not
/// further: what lies behind it may be another leader's. Fails if `on_append` does not take the smaller, or
/// takes the end of the log.
#[test]
fn receiver_5_commits_up_to_the_last_new_entry() {
    let mut cluster = follower(&[1, 1, 1, 1], 1);
    let committed = |cluster: &Cluster| cluster.core(id(2)).committed().get();
    cluster.inject(id(1), id(2), 1, append(None, vec![entry(1, 0, "old")], 3));
    assert_eq!(committed(&cluster), 1, "the last new entry is the first");
    cluster.inject(id(1), id(2), 1, heartbeat(Some(at(1, 3)), 2));
    assert_eq!(committed(&cluster), 2, "the leader has committed no more");
    cluster.inject(id(1), id(2), 1, append(Some(at(1, 3)), vec![entry(1, 4, "x")], 9));
    assert_eq!(committed(&cluster), 5);
    cluster.inject(id(1), id(2), 1, heartbeat(Some(at(1, 4)), 3));
    assert_eq!(committed(&cluster), 5, "only if the leader's is greater");
}
