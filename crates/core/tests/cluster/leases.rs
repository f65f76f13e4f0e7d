//! Named scenarios: reads on a lease. Each says which protection, when removed, makes it fail.

use crate::harness::{Cluster, accepted, id};
use std::time::Duration;
use tinyraftplus_core::{
    Input, Lease, MessageBody, Options, OptionsError, Resolution, Role, Seq, Term, Ticket,
};

/// A tenth of a promise is taken off for the clocks.
const LEASE: Lease = Lease { clock_error_ppm: 100_000 };

/// Node 1 leads, and everybody has just answered a heartbeat.
fn leased(lease: Lease) -> Cluster {
    let mut cluster = Cluster::formed_with(3, |options| options.lease = Some(lease));
    cluster.elect(id(1));
    beat(&mut cluster);
    cluster
}

fn timeout(cluster: &Cluster) -> Duration {
    cluster.node(id(1)).options.election_timeout
}

fn beat(cluster: &mut Cluster) {
    cluster.wake(id(1));
    cluster.settle();
}

/// Whether a read at node 1 is answered with nobody asked.
fn answers(cluster: &mut Cluster) -> bool {
    let before = cluster.flying.len();
    let read = cluster.read(id(1));
    let sent = cluster.flying.len() > before;
    let is_answered = matches!(cluster.answer(read), Some(Resolution::ReadAt { .. }));
    assert!(!is_answered || !sent, "a lease asks nobody");
    is_answered
}

/// As soon as their promises allow it, nodes 2 and 3 elect node 2 without node 1, which commits an entry.
fn elect_another(cluster: &mut Cluster) {
    cluster.partition(&[&[2, 3]]);
    cluster.step(id(2), Input::Campaign);
    cluster.settle();
    assert_eq!(cluster.core(id(2)).role(), Role::Leader);
    cluster.propose(id(2), &["x"]);
    cluster.settle();
}

/// A leader whose followers have promised to elect nobody answers at once; without leases it asks first. Fails if
/// `lease` is not looked at.
#[test]
fn a_lease_asks_nobody() {
    assert!(answers(&mut leased(LEASE)));
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    beat(&mut cluster);
    assert!(!answers(&mut cluster), "off by default");
}

/// One promise of four is not enough, two are: the other two could not elect anybody then. Fails if `holds_lease`
/// asks for less than `confirms`.
#[test]
fn a_lease_needs_a_quorum_of_promises() {
    let mut cluster = Cluster::formed_with(5, |options| options.lease = Some(LEASE));
    cluster.elect(id(1));
    cluster.partition(&[&[1, 2]]);
    beat(&mut cluster);
    assert!(!answers(&mut cluster));
    cluster.partition(&[&[1, 2, 3]]);
    beat(&mut cluster);
    assert!(answers(&mut cluster));
}

/// The lease is over before anybody else can be elected, whatever the clocks: the leader's runs as slowly as they
/// may. Fails if `shorten` takes nothing off, if the promise is counted from the answer instead of `sent_at`, or if
/// it is the followers' clocks that count.
#[test]
fn deposed_leader_read_with_a_lease() {
    for slow in [0, 50_000, 100_000] {
        let mut cluster = Cluster::formed_with(3, |options| options.lease = Some(LEASE));
        cluster.skew.insert(id(1), -slow);
        cluster.elect(id(1));
        cluster.wake(id(1));
        // The answers take their time. The next heartbeat, which they set off, gets lost.
        cluster.deliver_all(id(1), id(2));
        cluster.deliver_all(id(1), id(3));
        let until = cluster.now + timeout(&cluster);
        cluster.now = cluster.now + timeout(&cluster) / 2;
        cluster.deliver_all(id(2), id(1));
        cluster.deliver_all(id(3), id(1));
        assert!(answers(&mut cluster), "half of it is left");
        cluster.now = until;
        elect_another(&mut cluster);
        assert!(!answers(&mut cluster), "clock slow by {slow}");
    }
}

/// What the bound is for: with clocks that differ by more, a lease lies.
#[test]
#[should_panic(expected = "a stale read")]
fn a_clock_beyond_the_bound() {
    let mut cluster = Cluster::formed_with(3, |options| options.lease = Some(LEASE));
    cluster.skew.insert(id(1), -200_000);
    cluster.elect(id(1));
    beat(&mut cluster);
    cluster.now = cluster.now + timeout(&cluster);
    elect_another(&mut cluster);
    answers(&mut cluster);
}

/// A vote that comes within the promise is dropped, and its term with it. So is one that comes after another message
/// has brought a newer term: the promise is older than that. Fails if `receive` adopts the term first, or if the
/// promise ends with `step_down`.
#[test]
fn a_promise_is_kept() {
    let mut cluster = leased(LEASE);
    let last = cluster.core(id(2)).terms().last();
    let vote = |transfer| MessageBody::Vote { last, transfer };
    cluster.inject(id(3), id(2), 9, vote(false));
    assert_eq!(cluster.core(id(2)).term(), Term::new(1));
    assert_eq!(cluster.core(id(2)).leader(), Some(id(1)));
    cluster.inject(id(3), id(1), 9, vote(false));
    assert_eq!(cluster.core(id(1)).role(), Role::Leader, "its lease counts on itself too");
    cluster.inject(id(3), id(2), 9, accepted(Seq::ZERO, 0));
    assert_eq!(cluster.core(id(2)).term(), Term::new(9));
    let voted = |cluster: &mut Cluster| {
        while cluster.persist(id(2)) {}
        let sent = cluster.take_sent_by(id(2));
        sent.iter().any(|l| matches!(l.message.body, MessageBody::VoteReply { granted: true }))
    };
    cluster.inject(id(3), id(2), 9, vote(false));
    assert!(!voted(&mut cluster), "the promise is still good");
    cluster.now = cluster.now + timeout(&cluster);
    cluster.inject(id(3), id(2), 9, vote(false));
    assert!(voted(&mut cluster), "it is over");
}

/// A node starts again and has forgotten what it promised. It votes for nobody until that is over for sure. Fails if
/// `Core::new` does not wait.
#[test]
fn a_promise_survives_a_restart() {
    let mut cluster = leased(LEASE);
    cluster.restart(id(2));
    cluster.partition(&[&[2, 3]]);
    cluster.step(id(2), Input::Campaign);
    cluster.step(id(3), Input::Campaign);
    cluster.settle();
    assert!(cluster.nodes.values().all(|n| n.core.as_ref().unwrap().role() != Role::Candidate));
    let last = cluster.core(id(3)).terms().last();
    cluster.inject(id(3), id(2), 2, MessageBody::Vote { last, transfer: false });
    assert_eq!(cluster.core(id(2)).term(), Term::new(1));
    assert!(answers(&mut cluster));
}

/// A node told to campaign waits until its own promise is over, and does it then. Fails if `wake` does not look at
/// it.
#[test]
fn a_campaign_waits_for_the_own_promise() {
    let mut cluster = leased(LEASE);
    cluster.partition(&[]);
    cluster.step(id(2), Input::Campaign);
    assert_eq!(cluster.core(id(2)).role(), Role::Follower);
    let before = cluster.now;
    cluster.wake(id(2));
    assert_eq!(cluster.now.since(before), timeout(&cluster));
    assert_eq!(cluster.core(id(2)).role(), Role::Candidate);
}

/// A transfer overrides the promises: the successor leads at once, while the old leader, cut off, still has all of
/// them. Fails if `hand_over` does not end the lease.
#[test]
fn lease_read_during_transfer() {
    let mut cluster = leased(LEASE);
    assert!(answers(&mut cluster));
    cluster.transfer(id(1), id(2));
    cluster.deliver_all(id(1), id(2));
    cluster.partition(&[&[2, 3]]);
    cluster.settle();
    assert_eq!(cluster.core(id(2)).role(), Role::Leader);
    cluster.propose(id(2), &["x"]);
    cluster.settle();
    assert_eq!(cluster.core(id(1)).role(), Role::Leader, "as far as it knows");
    assert!(!answers(&mut cluster));
}

/// A transfer fails, the leader goes on and gathers promises again; then the message arrives after all. Fails if
/// the lease comes back when the transfer has ended.
#[test]
fn late_transfer_message() {
    let mut cluster = leased(LEASE);
    cluster.transfer(id(1), id(2));
    let is_word = |l: &crate::harness::Letter| l.message.body == MessageBody::TimeoutNow;
    let late = cluster.flying.iter().position(is_word).unwrap();
    let late = cluster.flying.remove(late).unwrap();
    cluster.now = cluster.now + timeout(&cluster);
    cluster.step(id(1), Input::Wake);
    cluster.flying.retain(|letter| !is_word(letter));
    cluster.settle();
    beat(&mut cluster);
    assert_eq!(cluster.core(id(1)).transferring(), None);
    assert!(!answers(&mut cluster), "no lease for the rest of the term");
    cluster.partition(&[&[2, 3]]);
    cluster.flying.push_back(late);
    cluster.settle();
    assert_eq!(cluster.core(id(2)).role(), Role::Leader);
    cluster.propose(id(2), &["x"]);
    cluster.settle();
    assert!(!answers(&mut cluster));
}

/// A new leader with every promise there is knows nothing before its own first commit. Fails if `confirm_reads` does
/// not look for that first.
#[test]
fn a_lease_does_not_replace_the_own_commit() {
    let mut cluster = Cluster::formed_with(3, |options| options.lease = Some(LEASE));
    for node in 1..=3 {
        cluster.preset_log(id(node), &[1]);
    }
    cluster.now = cluster.now + timeout(&cluster) * 3;
    cluster.wake(id(1));
    while cluster.core(id(1)).role() != Role::Leader {
        cluster.deliver(0);
        (1..=3).for_each(|node| while cluster.persist(id(node)) {});
    }
    let heartbeat = |l: &crate::harness::Letter| matches!(&l.message.body, MessageBody::Append { entries, .. } if entries.is_empty());
    let read: Ticket = cluster.read(id(1));
    cluster.wake(id(1));
    cluster.flying.retain(heartbeat);
    (2..=3).for_each(|node| cluster.deliver_all(id(1), id(node)));
    (2..=3).for_each(|node| cluster.deliver_all(id(node), id(1)));
    assert_eq!(cluster.answer(read), None);
    assert!(cluster.until(100, |cluster| cluster.answer(read).is_some()));
    assert_eq!(cluster.answer(read), Some(Resolution::ReadAt { end: Seq::new(2) }));
}

/// A lease that no heartbeat could renew in time is refused.
#[test]
fn a_lease_that_never_holds() {
    let with = |clock_error_ppm| {
        let mut options = Options::new(id(1), vec![id(1), id(2)], 0);
        options.lease = Some(Lease { clock_error_ppm });
        options.check()
    };
    assert_eq!(with(799_999), Ok(()));
    for ppm in [800_000, 1_000_000, u32::MAX] {
        assert!(matches!(with(ppm), Err(OptionsError::LeaseTooShort { .. })));
    }
}
