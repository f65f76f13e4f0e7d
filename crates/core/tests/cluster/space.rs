//! Named scenarios: a disk without space (`disk_full`, `full_disk_frees_itself`). Each says which protection, when
//! removed, makes it fail.

use crate::harness::{Cluster, Letter, entry, id};
use tinyraftplus_core::{
    Entry, EntryId, Event, Input, MessageBody, Refusal, Resolution, Role, Seq, Term,
};

const fn at(term: u64, seq: u64) -> EntryId {
    EntryId::new(Term::new(term), Seq::new(seq))
}

fn append(
    prev: Option<EntryId>,
    entries: Vec<Entry<String>>,
    committed: u64,
) -> MessageBody<String> {
    MessageBody::Append { prev, entries, committed: Seq::new(committed), round: 0 }
}

fn log(cluster: &Cluster, node: u64) -> Vec<EntryId> {
    cluster.node(id(node)).view.entries.iter().map(|entry| entry.id).collect()
}

/// A vote is decided behind an append for which there is no space. It is written by itself, and given. Fails if
/// `persist_refused` does not write the hard state again, or leaves the reply waiting for the old job.
#[test]
fn a_vote_does_not_wait_behind_an_append() {
    let mut cluster = Cluster::formed(3);
    cluster.inject(id(1), id(2), 1, append(None, vec![entry(1, 0, "a")], 0));
    cluster.inject(id(3), id(2), 2, MessageBody::Vote { last: Some(at(1, 0)), transfer: false });
    assert!(cluster.refuse(id(2)));
    assert!(cluster.take_sent_by(id(2)).is_empty(), "the vote is not durable yet");
    let job = cluster.node(id(2)).jobs.front().unwrap();
    assert!(job.append.is_empty() && job.hard_state.is_some_and(|h| h.term == Term::new(2)));
    cluster.persist(id(2));
    let sent = cluster.take_sent_by(id(2));
    let granted = |l: &Letter| matches!(l.message.body, MessageBody::VoteReply { granted: true });
    assert!(sent.iter().any(granted));
    assert!(log(&cluster, 2).is_empty());
}

/// There is no space for entries that replace others: the others are still there, and what the leader said about
/// its own entries is not true of them. Fails if `take_back` does not bring the cut back, or if `committed` stays.
#[test]
fn what_was_cut_for_it_comes_back() {
    let mut cluster = Cluster::formed(3);
    cluster.preset_log(id(2), &[1, 3, 3, 4]);
    let before = log(&cluster, 2);
    let other = append(Some(at(1, 0)), vec![entry(2, 1, "x"), entry(2, 2, "y")], 3);
    cluster.inject(id(1), id(2), 5, other.clone());
    assert_eq!(log(&cluster, 2), [at(1, 0), at(2, 1), at(2, 2)]);
    // One more behind it, which trims again.
    cluster.inject(id(1), id(2), 6, append(Some(at(2, 1)), vec![entry(6, 2, "z")], 2));
    assert!(cluster.refuse(id(2)));
    assert_eq!(log(&cluster, 2), before);
    assert_eq!(cluster.core(id(2)).committed(), Seq::new(1));
    cluster.persist(id(2));
    assert!(cluster.take_sent_by(id(2)).is_empty(), "nothing was acknowledged");
    cluster.inject(id(1), id(2), 6, other);
    cluster.persist(id(2));
    assert_eq!(log(&cluster, 2), [at(1, 0), at(2, 1), at(2, 2)]);
    assert_eq!(cluster.core(id(2)).committed(), Seq::new(3));
}

/// A follower's entries are not written yet when it campaigns, and then there is no space for them. It must not
/// ask for votes in the name of entries that it does not have. Fails if `persist_refused` keeps the requests.
#[test]
fn no_votes_for_entries_that_were_taken_back() {
    let mut cluster = Cluster::formed(3);
    cluster.inject(id(1), id(2), 1, append(None, vec![entry(1, 0, "a")], 0));
    cluster.now = cluster.now + cluster.node(id(2)).options.election_timeout * 3;
    cluster.step(id(2), Input::Wake);
    cluster.inject(id(3), id(2), 2, MessageBody::PreVoteReply { granted: true });
    assert_eq!((cluster.core(id(2)).role(), cluster.node(id(2)).jobs.len()), (Role::Candidate, 2));
    cluster.flying.clear();
    cluster.refuse(id(2));
    while cluster.persist(id(2)) {}
    assert_eq!(cluster.core(id(2)).role(), Role::Follower);
    let asks = |l: &Letter| matches!(l.message.body, MessageBody::Vote { .. });
    assert!(!cluster.flying.iter().any(asks));
}

/// The leader's disk is full: it yields, and another leads. What it had accepted and sent is committed by that
/// one; what nobody else has is replaced, and only then known to be lost. Fails if `persist_refused` does not
/// step down, or answers for entries by itself.
#[test]
fn a_full_leader_yields() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    let sent = cluster.propose(id(1), &["sent"]);
    cluster.deliver_all(id(1), id(2));
    cluster.deliver_all(id(1), id(3));
    let kept = cluster.propose(id(1), &["kept"]);
    cluster.flying.clear();
    assert!(cluster.refuse(id(1)));
    assert!(cluster.events.contains(&(id(1), Event::Yielded)));
    assert_eq!(log(&cluster, 1), [at(1, 0)]);
    for ticket in [sent, kept] {
        assert!(matches!(cluster.answer(ticket), Some(Resolution::Accepted { .. })));
    }
    let led = cluster.until(100, |c| c.leader().is_some_and(|leader| leader != id(1)));
    assert!(led, "nobody takes over");
    let answered = |cluster: &Cluster| cluster.core(id(1)).committed() > Seq::new(2);
    assert!(cluster.until(100, answered));
    assert!(matches!(cluster.answer(sent), Some(Resolution::Committed { .. })));
    assert_eq!(cluster.answer(kept), Some(Resolution::Refused(Refusal::Replaced)));
}

/// A node without space lets others lead. Fails if `may_campaign` does not look at the space.
#[test]
fn a_full_node_lets_others_campaign() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.propose(id(1), &["x"]);
    cluster.settle();
    for _ in 0..20 {
        cluster.propose(id(1), &["x"]);
        cluster.deliver_all(id(1), id(3));
        cluster.refuse(id(3));
    }
    cluster.partition(&[&[1, 2]]);
    cluster.settle();
    cluster.crash(id(1), 0);
    cluster.heal();
    cluster.now = cluster.core(id(3)).wake_at();
    cluster.step(id(3), Input::Wake);
    assert_eq!(cluster.core(id(3)).role(), Role::Follower, "it has written none of those");
    assert!(cluster.until(100, |cluster| cluster.leader() == Some(id(2))));
}

/// All disks are full, the leader's too, and then have space again, which nobody tells. There is a leader again, and
/// it commits. Fails if a node without space never campaigns (`is_lacking` without its time).
#[test]
fn space_returns() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    let ticket = cluster.propose(id(1), &["x"]);
    for node in [2, 3] {
        cluster.deliver_all(id(1), id(node));
        cluster.refuse(id(node));
    }
    cluster.refuse(id(1));
    assert_eq!(cluster.leader(), None);
    let began = cluster.now;
    assert!(cluster.until(100, |cluster| cluster.check.end() > Seq::new(1)));
    let waited = cluster.now.since(began);
    assert!(waited <= cluster.node(id(1)).options.election_timeout * 8, "{waited:?}");
    assert_eq!(cluster.answer(ticket), Some(Resolution::Refused(Refusal::Replaced)));
}

/// A follower's disk stays full. It answers heartbeats, and the leader does not send it the same again and again.
/// Fails if what was refused is acknowledged, or answered with a rejection.
#[test]
fn a_full_follower_is_not_flooded() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    let mut tries = 0;
    for _ in 0..100 {
        cluster.propose(id(1), &["x"]);
        cluster.now = cluster.now + std::time::Duration::from_millis(100);
        cluster.step(id(1), Input::Wake);
        for _ in 0..100 {
            tries += usize::from(cluster.refuse(id(2)));
            for node in 1..=3 {
                cluster.persist(id(node));
                cluster.load(id(node), true);
            }
            if cluster.flying.is_empty() {
                break;
            }
            cluster.deliver(0);
        }
    }
    assert_eq!(cluster.core(id(2)).durable(), Seq::new(1));
    assert_eq!(cluster.core(id(1)).committed(), Seq::new(101));
    assert!(tries < 12, "{tries} tries in ten seconds");
    cluster.settle();
    assert!(cluster.until(100, |cluster| cluster.core(id(2)).durable() == Seq::new(101)));
}

/// A node asks whether it would win, and then its disk gets stuck. When the others say yes it begins no term: it could not
/// write that, and would be deaf to the leader that they find meanwhile, to depose it when the disk goes on. Fails if
/// `persist_stalled` looks only at leaders.
#[test]
fn a_stuck_disk_begins_no_term() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.propose(id(1), &["x"]);
    cluster.deliver_all(id(1), id(2));
    cluster.now = cluster.now + cluster.node(id(2)).options.election_timeout * 3;
    cluster.step(id(2), Input::Wake);
    let job = cluster.node(id(2)).jobs.front().unwrap().job;
    cluster.step(id(2), Input::PersistStalled { job });
    cluster.inject(id(3), id(2), 2, MessageBody::PreVoteReply { granted: true });
    assert_eq!(cluster.core(id(2)).term(), Term::new(1));
    // It still answers.
    cluster.flying.clear();
    let heartbeat = append(Some(at(1, 0)), Vec::new(), 1);
    cluster.inject(id(1), id(2), 1, heartbeat);
    let answers = |l: &Letter| matches!(l.message.body, MessageBody::Accepted { .. });
    assert!(cluster.flying.iter().any(answers));
}
