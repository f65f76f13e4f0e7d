//! Named scenarios: priorities. Each says which protection, when removed, makes it fail.

use crate::harness::{Cluster, id};
use std::time::Duration;
use tinyraftplus_core::{Event, Input, MessageBody, NodeId, Resolution};

/// Nodes with these priorities, the first of them elected.
fn cluster(priorities: &'static [u32]) -> Cluster {
    let mut cluster = Cluster::formed_with(priorities.len() as u64, |options| {
        let at: usize = options.id.as_str().parse().unwrap();
        options.priority = priorities[at - 1];
    });
    cluster.elect(id(1));
    cluster
}

fn timeout(cluster: &Cluster) -> Duration {
    cluster.node(id(1)).options.election_timeout
}

/// How often a node began to hand over.
fn tries(cluster: &Cluster) -> usize {
    let begins = |(_, event): &&(NodeId, Event)| matches!(event, Event::Transferring { .. });
    cluster.events.iter().filter(begins).count()
}

/// Lets so many election timeouts pass.
fn pass(cluster: &mut Cluster, timeouts: u32) {
    let until = cluster.now + timeout(cluster) * timeouts;
    while cluster.now < until {
        cluster.advance();
    }
}

/// With all up and caught up, the highest leads within three election timeouts, and stays. Writes go on meanwhile,
/// and none is lost. Fails if `lead_on` does not look (`prefer`), or if `better` takes the first that is higher.
#[test]
fn the_highest_leads() {
    let mut cluster = cluster(&[1, 5, 9, 9, 2]);
    let (began, mut last) = (cluster.now, None);
    while cluster.leader() != Some(id(3)) {
        if cluster.leader() == Some(id(1)) {
            last = Some(cluster.propose(id(1), &["x"])).or(last);
        }
        cluster.advance();
        assert!(cluster.now.since(began) <= timeout(&cluster) * 3, "it takes too long");
    }
    assert!(cluster.now.since(began) >= timeout(&cluster) * 2, "it did not look long enough");
    pass(&mut cluster, 20);
    assert_eq!((cluster.leader(), tries(&cluster)), (Some(id(3)), 1));
    let outcome = cluster.answer(last.unwrap());
    assert!(
        matches!(outcome, Some(Resolution::Committed { .. } | Resolution::Refused(_))),
        "{outcome:?}"
    );
}

/// Nodes of one priority never take turns. Fails if `better` compares with `>=`.
#[test]
fn equals_do_not_take_turns() {
    let mut cluster = cluster(&[3, 3, 3]);
    pass(&mut cluster, 20);
    assert_eq!((cluster.leader(), tries(&cluster)), (Some(id(1)), 0));
}

/// The highest has a slow disk and is always behind: it does not get what it could not keep. When it has caught
/// up, it does. Fails if `better` does not compare the logs.
#[test]
fn who_is_behind_does_not_lead() {
    let mut cluster = cluster(&[0, 0, 1]);
    cluster.stuck.insert(id(3));
    let until = cluster.now + timeout(&cluster) * 10;
    while cluster.now < until {
        cluster.propose(id(1), &["x"]);
        cluster.advance();
    }
    assert_eq!((cluster.leader(), tries(&cluster)), (Some(id(1)), 0));
    cluster.stuck.clear();
    assert!(cluster.until(100, |cluster| cluster.leader() == Some(id(3))));
    let end = cluster.check.end();
    cluster.settle();
    assert!(cluster.core(id(3)).committed() >= end, "nothing acknowledged is lost");
}

/// The highest never hears the word. Each try keeps clients waiting, so there are ever fewer of them. Fails if
/// `preferred` does not wait, or always as long.
#[test]
fn failed_transfers_become_rare() {
    let mut cluster = cluster(&[0, 1]);
    let began = cluster.now;
    let mut at = Vec::new();
    while cluster.now.since(began) < timeout(&cluster) * 600 {
        let before = tries(&cluster);
        // One after the other: the word is what it must not get.
        let next =
            [id(1), id(2)].map(|node| cluster.core(node).wake_at()).into_iter().min().unwrap();
        cluster.now = cluster.now.max(next);
        for node in [id(1), id(2)] {
            cluster.step(node, Input::Wake);
        }
        cluster.flying.retain(|letter| letter.message.body != MessageBody::TimeoutNow);
        while !cluster.flying.is_empty() {
            cluster.deliver(0);
            cluster.flying.retain(|letter| letter.message.body != MessageBody::TimeoutNow);
            for node in [id(1), id(2)] {
                while cluster.persist(node) {}
            }
        }
        if tries(&cluster) > before {
            at.push(cluster.now);
        }
    }
    let waits: Vec<Duration> = at.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    let rises = waits.windows(2).all(|pair| pair[1] > pair[0] || pair[0] > timeout(&cluster) * 128);
    assert!(rises && (6..=9).contains(&at.len()), "{waits:?}");
    assert_eq!(cluster.leader(), Some(id(1)));
}

/// A node that is paused asks for no leadership, however high its priority. Fails if `told_priority` does not look.
#[test]
fn who_can_not_lead_asks_for_nothing() {
    let mut cluster = cluster(&[0, 1, 0]);
    cluster.step(id(2), Input::Pause(true));
    pass(&mut cluster, 10);
    assert_eq!((cluster.leader(), tries(&cluster)), (Some(id(1)), 0));
    cluster.step(id(2), Input::Pause(false));
    pass(&mut cluster, 4);
    assert_eq!((cluster.leader(), tries(&cluster)), (Some(id(2)), 1));
}

/// No time is too long to be doubled. Fails if `prefer` multiplies the election timeout unchecked.
#[test]
fn an_endless_election_timeout() {
    let mut cluster = Cluster::formed_with(3, |options| {
        options.election_timeout = Duration::MAX;
        options.priority = u32::from(options.id == id(2));
    });
    cluster.step(id(1), Input::Campaign);
    cluster.settle();
    for _ in 0..10 {
        cluster.wake(id(1));
        cluster.settle();
    }
    assert_eq!(cluster.leader(), Some(id(1)));
}
