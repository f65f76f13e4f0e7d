//! Named scenarios: a node is told to campaign, to step down, to pause. Each says which protection, when removed,
//! makes it fail.

use crate::harness::{Cluster, id};
use std::time::Duration;
use tinyraftplus_core::{Event, Input, MessageBody, NodeId, Role, Seq, Term, Time};

fn timeout(cluster: &Cluster) -> Duration {
    cluster.node(id(1)).options.election_timeout
}

/// Without a leader a node that is told to campaign does so at once.
#[test]
fn campaign_does_not_wait() {
    let mut cluster = Cluster::formed(3);
    cluster.step(id(3), Input::Campaign);
    cluster.settle();
    assert_eq!((cluster.leader(), cluster.now), (Some(id(3)), Time::ZERO));
    cluster.step(id(3), Input::Campaign);
    assert_eq!(cluster.core(id(3)).role(), Role::Leader, "it leads already");
}

/// A campaign on demand is no coup: the others hear from their leader. Fails if `campaign_now` campaigns without
/// asking first.
#[test]
fn campaign_deposes_nobody() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.step(id(3), Input::Campaign);
    cluster.settle();
    cluster.wake(id(1));
    cluster.settle();
    assert_eq!(cluster.leader(), Some(id(1)));
    assert_eq!(cluster.core(id(3)).term(), Term::new(1));
    assert_eq!(cluster.core(id(3)).role(), Role::Follower);
}

/// A leader that is told to step down hands over to the node that has most, and nobody waits. Fails if
/// `successor` takes any node.
#[test]
fn step_down_hands_over_to_the_best() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.propose(id(1), &["x"]);
    cluster.flying.retain(|letter| letter.to != id(2));
    cluster.settle();
    let before = cluster.now;
    cluster.step(id(1), Input::StepDown);
    cluster.settle();
    assert_eq!((cluster.leader(), cluster.now), (Some(id(3)), before));
}

/// Nobody takes over: the leader stops all the same, and for an election timeout longer than others it does not
/// campaign. Fails if `watch_transfer` goes on leading, or if `leave` does not add to the deadline.
#[test]
fn step_down_without_a_successor() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.step(id(1), Input::StepDown);
    cluster.flying.clear();
    assert_eq!(cluster.core(id(1)).role(), Role::Leader, "it waits for its successor");
    cluster.now = cluster.now + timeout(&cluster);
    cluster.step(id(1), Input::Wake);
    assert_eq!(cluster.core(id(1)).role(), Role::Follower);
    let wait = cluster.core(id(1)).wake_at().since(cluster.now);
    assert!(wait >= timeout(&cluster) * 2, "{wait:?}");
    let ended = |(at, event): &(NodeId, Event)| {
        *at == id(1) && matches!(event, Event::Transferred { result: Err(_), .. })
    };
    assert!(cluster.events.iter().any(ended));
}

/// With nobody to hand over to, it stops at once, and a cluster of one has a leader again a while later.
#[test]
fn step_down_alone() {
    let mut cluster = Cluster::formed(1);
    cluster.elect(id(1));
    cluster.step(id(1), Input::StepDown);
    assert_eq!(cluster.core(id(1)).role(), Role::Follower);
    let before = cluster.now;
    assert!(cluster.until(3, |cluster| cluster.leader().is_some()));
    assert!(cluster.now.since(before) >= timeout(&cluster) * 2);
}

/// A paused node neither leads nor campaigns, and yet votes and takes entries. Fails if `pause` does not step
/// down, if `may_campaign` does not look, or if `wake_at` still names a deadline.
#[test]
fn a_paused_node_only_answers() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.step(id(1), Input::Pause(true));
    assert_eq!(cluster.core(id(1)).role(), Role::Follower);
    assert_eq!(cluster.core(id(1)).wake_at(), Time::NEVER);
    cluster.flying.clear();
    cluster.step(id(1), Input::Campaign);
    cluster.now = cluster.now + timeout(&cluster) * 9;
    cluster.step(id(1), Input::Wake);
    assert!(cluster.flying.is_empty(), "it is silent");
    // Node 3 is gone, so node 2 needs its vote, and then its acknowledgement.
    cluster.crash(id(3), 0);
    cluster.elect(id(2));
    cluster.propose(id(2), &["x"]);
    cluster.settle();
    assert_eq!(cluster.core(id(2)).committed(), Seq::new(3));
    // Nor is it made the leader by a transfer.
    let last = cluster.core(id(2)).term().get();
    cluster.inject(id(2), id(1), last, MessageBody::TimeoutNow);
    assert_eq!(cluster.core(id(1)).role(), Role::Follower);
    cluster.step(id(1), Input::Pause(false));
    cluster.crash(id(2), 0);
    cluster.start(id(3));
    assert!(cluster.until(50, |cluster| cluster.leader() == Some(id(1))));
}

/// The user's own traffic from the leader counts as its heartbeats, that from others or of another term does
/// not. Fails if `alive` does not compare the sender or the term.
#[test]
fn alive_is_a_heartbeat() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.settle();
    cluster.partition(&[]);
    let mut hear = |from: u64, term: u64| {
        let deadline = cluster.core(id(2)).wake_at();
        cluster.now = cluster.now + Duration::from_millis(10);
        cluster.step(id(2), Input::Alive { from: id(from), term: Term::new(term) });
        cluster.core(id(2)).wake_at() != deadline
    };
    assert!(hear(1, 1));
    for (from, term) in [(3, 1), (2, 1), (1, 0), (1, 2)] {
        assert!(!hear(from, term), "{from} in term {term}");
    }
    for _ in 0..20 {
        cluster.now = cluster.now + timeout(&cluster) / 2;
        cluster.step(id(2), Input::Alive { from: id(1), term: Term::new(1) });
        cluster.step(id(2), Input::Wake);
        assert_eq!(cluster.core(id(2)).role(), Role::Follower);
    }
}
