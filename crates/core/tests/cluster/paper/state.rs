//! Raft figure 2, State: what a server keeps on its disk, in memory, and while it leads.

use super::{
    accepted, append, appends_to, at, heartbeat, log, said, said_to, stand, vote, win, write_all,
};
use crate::harness::{Cluster, entry, id, identity};
use tinyraftplus_core::{EntryBody, HardState, MessageBody, Role, Seq, Term};

fn hard_state(cluster: &Cluster, node: u64) -> (u64, Option<u64>) {
    let HardState { term, vote } = cluster.node(id(node)).disk.hard_state;
    let named = vote.map(|vote| (1..=9).find(|&n| identity(id(n), 0) == vote).unwrap());
    (term.get(), named)
}

/// Raft figure 2, persistent state: what a server keeps is on stable storage before it answers. Here: the
/// term. A candidate's and a leader's message each bring a newer term; nothing is said in it, not even no,
/// before it is durable, even where the entries are there already. Fails if `send_after` does not wait for the job,
/// or `on_append` waits for the entries alone.
#[test]
fn nothing_is_said_in_a_term_before_it_is_stable() {
    for message in [
        vote(None),
        heartbeat(Some(at(2, 7)), 0),
        heartbeat(Some(at(1, 0)), 0),
        append(None, vec![entry(1, 0, "old")], 0),
    ] {
        let mut cluster = Cluster::formed(3);
        cluster.preset_log(id(2), &[1]);
        cluster.inject(id(1), id(2), 3, message);
        assert_eq!(cluster.core(id(2)).term(), Term::new(3));
        assert!(said(&mut cluster, 2).is_empty(), "an answer in a term that a crash would undo");
        cluster.persist(id(2));
        assert_eq!(hard_state(&cluster, 2), (3, None));
        let answers = said(&mut cluster, 2);
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].message.term, Term::new(3));
    }
}

/// The same for the vote, for another and for itself: a crash before it is durable is a vote that was never
/// given. Fails if `on_vote` or `campaign` sends with `send` instead of `send_after`.
#[test]
fn no_vote_is_given_before_it_is_stable() {
    let mut cluster = Cluster::formed(3);
    cluster.inject(id(1), id(2), 1, vote(None));
    assert!(said(&mut cluster, 2).is_empty());
    cluster.restart(id(2));
    assert_eq!(hard_state(&cluster, 2), (0, None));
    stand(&mut cluster, 3);
    assert!(said(&mut cluster, 3).is_empty());
    cluster.persist(id(3));
    assert_eq!(hard_state(&cluster, 3), (1, Some(3)));
    assert_eq!(said(&mut cluster, 3).len(), 2);
}

/// The same for entries. Fails if `on_append` acknowledges at once, or answers a heartbeat for all that it follows.
#[test]
fn no_entry_is_acknowledged_before_it_is_stable() {
    let mut cluster = Cluster::formed(3);
    let entries = vec![entry(1, 0, "a"), entry(1, 1, "b")];
    cluster.inject(id(1), id(2), 1, append(None, entries, 0));
    assert_eq!(log(&cluster, 2), [at(1, 0), at(1, 1)]);
    assert!(said(&mut cluster, 2).is_empty());
    cluster.persist(id(2));
    assert_eq!(said_to(&mut cluster, 2, 1), [accepted(2)]);
    // A heartbeat is answered at once, for what is durable by then.
    cluster.inject(id(1), id(2), 1, append(Some(at(1, 1)), vec![entry(1, 2, "c")], 0));
    cluster.inject(id(1), id(2), 1, heartbeat(Some(at(1, 2)), 0));
    assert_eq!(said_to(&mut cluster, 2, 1), [accepted(2)]);
    cluster.restart(id(2));
    assert_eq!(log(&cluster, 2), [at(1, 0), at(1, 1)]);
}

/// Raft figure 2, currentTerm: the newest term a server has seen; 0 at first, and it only rises, whatever
/// comes late, across restarts too. Fails if `receive` adopts any other term.
#[test]
fn current_term_is_0_at_first_and_only_rises() {
    let mut cluster = Cluster::formed(3);
    assert_eq!(cluster.core(id(2)).term(), Term::ZERO);
    for (term, then) in [(3, 3), (1, 3), (2, 3), (5, 5), (4, 5)] {
        cluster.inject(id(1), id(2), term, vote(None));
        write_all(&mut cluster, 2);
        assert_eq!(cluster.core(id(2)).term(), Term::new(then));
    }
    cluster.restart(id(2));
    assert_eq!(cluster.core(id(2)).term(), Term::new(5));
}

/// Raft figure 2, votedFor: who got the vote in this term, nobody at first. A departure: it names the
/// candidate's log, not the candidate. One log belongs to one candidate, so that is no weaker; and a candidate
/// that lost its disk, and what it promised with it, is another one. Fails if `adopt_term` keeps the vote of the
/// term before.
#[test]
fn voted_for_is_the_candidate_of_this_term_or_nobody() {
    let mut cluster = Cluster::formed(3);
    assert_eq!(hard_state(&cluster, 2), (0, None));
    cluster.inject(id(1), id(2), 1, vote(None));
    write_all(&mut cluster, 2);
    assert_eq!(hard_state(&cluster, 2), (1, Some(1)));
    cluster.inject(id(3), id(2), 2, heartbeat(None, 0));
    write_all(&mut cluster, 2);
    assert_eq!(hard_state(&cluster, 2), (2, None));
    cluster.inject(id(3), id(2), 3, vote(None));
    write_all(&mut cluster, 2);
    assert_eq!(hard_state(&cluster, 2), (3, Some(3)));
}

/// Raft figure 2, log: each entry holds a command, and the term in which a leader received it. It keeps that
/// term when a later leader replicates it. A departure: the first position is 0, or whatever the cluster was
/// founded with. Fails if `append_own` or `send_entries` names entries by another term.
#[test]
fn entries_hold_their_command_and_the_term_of_their_leader() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.partition(&[&[1, 2]]);
    cluster.propose(id(1), &["a"]);
    cluster.settle();
    cluster.heal();
    cluster.elect_by_campaign(id(1));
    cluster.propose(id(1), &["b"]);
    cluster.settle();
    for node in 1..=3 {
        assert_eq!(log(&cluster, node), [at(1, 0), at(1, 1), at(2, 2), at(2, 3)]);
        let entries = &cluster.node(id(node)).disk.entries;
        assert_eq!(entries[1].body, EntryBody::Payload("a".to_owned()));
        assert_eq!(entries[3].body, EntryBody::Payload("b".to_owned()));
    }
}

/// Raft figure 2, commitIndex: nothing at first, again after a restart, and it only rises: a heartbeat that
/// comes late takes nothing back. Fails if `on_append` takes the leader's as it is.
#[test]
fn commit_index_is_nothing_at_first_and_only_rises() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.propose(id(1), &["a"]);
    cluster.settle();
    assert_eq!(cluster.core(id(2)).committed(), Seq::new(2));
    cluster.inject(id(1), id(2), 1, heartbeat(Some(at(1, 0)), 1));
    assert_eq!(cluster.core(id(2)).committed(), Seq::new(2));
    cluster.restart(id(2));
    assert_eq!(cluster.core(id(2)).committed(), Seq::ZERO, "not kept on disk");
    assert!(cluster.until(100, |cluster| cluster.core(id(2)).committed() == Seq::new(2)));
}

/// Raft figure 2, lastApplied: nothing at first, again after a restart, and it only rises: each entry is
/// handed out once. (The harness compares every hand-over with the one before.) Fails if `settle` does not
/// remember what it handed out.
#[test]
fn last_applied_is_nothing_at_first_and_only_rises() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    for _ in 0..2 {
        cluster.propose(id(1), &["a"]);
        cluster.settle();
        let seen = cluster.node(id(2)).applied;
        assert_eq!(seen, cluster.core(id(2)).committed());
        cluster.inject(id(1), id(2), 1, heartbeat(Some(at(1, 0)), 1));
        assert_eq!(cluster.node(id(2)).applied, seen);
    }
    cluster.restart(id(2));
    assert_eq!(cluster.node(id(2)).applied, Seq::ZERO);
    assert!(cluster.until(100, |cluster| cluster.node(id(2)).applied == Seq::new(3)));
}

/// Raft figure 2, nextIndex: after each election it begins anew, right after the leader's last entry, for every
/// server. Seen in the first message to each, which follows the last entry of the leader's log. Fails if `lead`
/// begins elsewhere, or keeps what an earlier term knew.
#[test]
fn next_index_begins_after_the_leaders_log() {
    let mut cluster = Cluster::formed(3);
    for node in 1..=3 {
        cluster.preset_log(id(node), &[1, 1]);
    }
    for (last, first) in [(at(1, 1), at(2, 2)), (at(2, 2), at(4, 3))] {
        win(&mut cluster, 1);
        let sent = cluster.flying.clone();
        for node in 2..=3 {
            cluster.flying.clone_from(&sent);
            assert_eq!(appends_to(&mut cluster, 1, node), [(Some(last), vec![first])]);
        }
        let newer = first.term.get() + 1;
        cluster.inject(id(2), id(1), newer, vote(None));
        write_all(&mut cluster, 1);
        assert_eq!(cluster.core(id(1)).role(), Role::Follower);
    }
}

/// Raft figure 2, matchIndex: after each election nothing is known to be anywhere, whatever was known in an
/// earlier term; then it only rises. Fails if `lead` keeps it, or `accepted` takes any answer for the newest.
#[test]
fn match_index_is_nothing_at_first_and_only_rises() {
    let matched = |cluster: &Cluster| {
        let peers = cluster.core(id(1)).peers();
        peers.map(|(_, peer)| peer.matched.get()).collect::<Vec<_>>()
    };
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.propose(id(1), &["a"]);
    cluster.settle();
    assert_eq!(matched(&cluster), [2, 2]);
    cluster.inject(id(2), id(1), 2, vote(None));
    win(&mut cluster, 1);
    assert_eq!(matched(&cluster), [0, 0]);
    for (says, then) in [(2, 2), (1, 2), (3, 3), (0, 3)] {
        cluster.inject(id(2), id(1), 3, accepted(says));
        assert_eq!(matched(&cluster), [then, 0]);
    }
    let rejected = MessageBody::Rejected { prev: Some(at(1, 1)), hint: Some(at(1, 0)), round: 0 };
    cluster.inject(id(2), id(1), 3, rejected);
    assert_eq!(matched(&cluster), [3, 0], "a late no is no news");
}
