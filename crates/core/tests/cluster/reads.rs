//! Named scenarios: reads. Each says which protection, when removed, makes it fail.

use crate::harness::{Cluster, Letter, accepted, id};
use tinyraftplus_core::{Event, MessageBody, Resolution, Role, Seq};

/// A new leader serves no read before an entry of its own term is committed. Fails if `confirm_reads` does
/// not look for one.
#[test]
fn read_before_own_commit() {
    let mut cluster = Cluster::formed(3);
    for node in 1..=3 {
        cluster.preset_log(id(node), &[1]);
    }
    cluster.wake(id(1));
    while cluster.core(id(1)).role() != Role::Leader {
        cluster.deliver(0);
        (1..=3).for_each(|node| while cluster.persist(id(node)) {});
    }
    let read = cluster.read(id(1));
    // Heartbeats are answered, entries are lost.
    let heartbeat = |l: &Letter| matches!(&l.message.body, MessageBody::Append { entries, .. } if entries.is_empty());
    for _ in 0..3 {
        cluster.wake(id(1));
        cluster.flying.retain(heartbeat);
        (2..=3).for_each(|node| cluster.deliver_all(id(1), id(node)));
        (2..=3).for_each(|node| cluster.deliver_all(id(node), id(1)));
        assert_eq!(cluster.answer(read), None);
    }
    assert!(cluster.until(100, |cluster| cluster.answer(read).is_some()));
    assert_eq!(cluster.answer(read), Some(Resolution::ReadAt { end: Seq::new(2) }));
}

/// A leader that is cut off answers no read, whatever was committed elsewhere. Fails if `read` resolves at
/// once, or if the leader alone confirms a round.
#[test]
fn deposed_leader_read() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.partition(&[&[2, 3]]);
    cluster.elect(id(2));
    cluster.propose(id(2), &["x"]);
    cluster.settle();
    assert_eq!(cluster.core(id(1)).role(), Role::Leader, "as far as it knows");
    let read = cluster.read(id(1));
    assert_eq!(cluster.answer(read), None);
    cluster.heal();
    assert!(cluster.until(100, |cluster| cluster.answer(read).is_some()));
    assert!(matches!(cluster.answer(read), Some(Resolution::Refused(_))));
}

/// Node 2 owes the leader of term 1 an acknowledgement of round 3, and its disk is slow. It campaigns, in
/// vain; node 1 is elected again, in term 2, and a read there begins round 1. Whatever node 2 sends now, it
/// has not confirmed that round. Fails if `begin_term` keeps the acknowledgements.
#[test]
fn readindex_reused_context() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    for _ in 0..3 {
        cluster.read(id(1));
        cluster.settle();
    }
    cluster.stuck.insert(id(2));
    cluster.propose(id(1), &["x"]);
    cluster.settle();
    cluster.now = cluster.now + cluster.node(id(1)).options.election_timeout * 3;
    cluster.wake(id(2));
    cluster.deliver_all(id(2), id(3));
    cluster.deliver_all(id(3), id(2));
    assert_eq!(cluster.core(id(2)).role(), Role::Candidate);
    assert_eq!(cluster.core(id(2)).term().get(), 2);
    cluster.flying.clear();
    cluster.partition(&[&[1, 3]]);
    cluster.elect_by_campaign(id(1));
    assert_eq!(cluster.core(id(1)).term().get(), 2);
    let read = cluster.read(id(1));
    cluster.flying.clear();
    cluster.heal();
    cluster.persist(id(2));
    cluster.deliver_all(id(2), id(1));
    assert_eq!(cluster.answer(read), None, "nobody has confirmed it");
}

/// A late append of node 1's term 1, with a high round, reaches node 2 in term 2, which node 1 leads again. The
/// refusal that comes back is no answer to the reads of term 2. Fails if it carries the append's round, and if
/// `on_rejected` believed one that did.
#[test]
fn readindex_reused_context_in_a_refusal() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    for _ in 0..3 {
        cluster.read(id(1));
        cluster.settle();
    }
    let late =
        MessageBody::Append { prev: None, entries: Vec::new(), committed: Seq::ZERO, round: 3 };
    cluster.partition(&[]);
    cluster.now = cluster.now + cluster.node(id(1)).options.election_timeout * 3;
    cluster.wake(id(1));
    cluster.heal();
    cluster.elect(id(1));
    assert_eq!(cluster.core(id(1)).term().get(), 2);
    cluster.inject(id(1), id(2), 1, late);
    let refusal = cluster.flying.pop_back().unwrap();
    let over = |round| MessageBody::Rejected { prev: None, hint: None, round };
    assert_eq!(refusal.message.body, over(0));
    // Two rounds of term 2 are answered; the third, which begins now, is not.
    for round in 1..=2 {
        cluster.read(id(1));
        cluster.inject(id(3), id(1), 2, accepted(Seq::ZERO, round));
    }
    let read = cluster.read(id(1));
    cluster.flying.clear();
    cluster.flying.push_back(refusal);
    cluster.deliver(0);
    assert_eq!(cluster.answer(read), None, "nobody has confirmed it");
    cluster.inject(id(2), id(1), 2, over(3));
    assert_eq!(cluster.answer(read), None, "nor has this");
}

/// An answer to an older round confirms no newer one, and nobody answers a round that was not asked for.
/// Fails if `on_accepted` believes any round.
#[test]
fn a_round_from_nowhere() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    let read = cluster.read(id(1));
    cluster.flying.clear();
    let answer = |round| accepted(Seq::new(1), round);
    cluster.inject(id(2), id(1), 1, answer(0));
    assert_eq!(cluster.answer(read), None);
    cluster.inject(id(2), id(1), 1, answer(99));
    assert!(matches!(cluster.events.last(), Some((_, Event::Malformed { .. }))));
    cluster.inject(id(2), id(1), 1, answer(1));
    assert_eq!(cluster.answer(read), Some(Resolution::ReadAt { end: Seq::new(1) }));
    let next = cluster.read(id(1));
    cluster.inject(id(3), id(1), 1, answer(1));
    assert_eq!(cluster.answer(next), None);
}
