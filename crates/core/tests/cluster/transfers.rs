//! Named scenarios: handing leadership over. Each says which protection, when removed, makes it fail.

use crate::harness::{Cluster, Letter, id};
use tinyraftplus_core::{
    Event, MessageBody, NodeId, Refusal, Resolution, Role, Seq, Term, Ticket, TransferError,
};

fn is_word(letter: &Letter) -> bool {
    letter.message.body == MessageBody::TimeoutNow
}

fn result(cluster: &Cluster, ticket: Ticket) -> Option<Result<(), TransferError>> {
    match cluster.answer(ticket) {
        Some(Resolution::Transfer(result)) => Some(result),
        None => None,
        Some(other) => panic!("a transfer is answered with {other:?}"),
    }
}

/// Lets the transfer's time pass at the leader, while the others' clocks stand.
fn time_out(cluster: &mut Cluster, leader: NodeId) {
    cluster.now = cluster.now + cluster.node(leader).options.election_timeout;
    cluster.step(leader, tinyraftplus_core::Input::Wake);
}

/// Everybody hears from the leader and would refuse to depose it; the node that it hands over to is elected all
/// the same, and no time passes. Fails if `on_timeout_now` asks for pre-votes (`pre_campaign`).
#[test]
fn prevote_blocks_transfer() {
    let mut cluster = Cluster::formed(5);
    cluster.elect(id(1));
    cluster.propose(id(1), &["x"]);
    cluster.settle();
    let ticket = cluster.transfer(id(1), id(3));
    cluster.settle();
    assert_eq!(cluster.leader(), Some(id(3)));
    assert_eq!(result(&cluster, ticket), Some(Ok(())));
    assert_eq!(cluster.core(id(3)).term(), Term::new(2));
    assert!(cluster.events.contains(&(id(1), Event::Transferred { to: id(3), result: Ok(()) })));
}

/// Clients write on while the successor catches up, one entry for each message that arrives. They are told to
/// come again, so it does catch up, and what was accepted before is not lost. Fails if `refusal` does not look
/// at the transfer: the target is always a little behind.
#[test]
fn transfer_with_writes() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    let before = cluster.propose(id(1), &["before"]);
    let ticket = cluster.transfer(id(1), id(2));
    for _ in 0..200 {
        let write = cluster.propose(id(1), &["during"]);
        if cluster.core(id(1)).role() == Role::Leader {
            let refused = Resolution::Refused(Refusal::Transferring { to: id(2) });
            assert_eq!(cluster.answer(write), Some(refused));
        }
        if cluster.flying.is_empty() {
            break;
        }
        cluster.deliver(0);
        (1..=3).for_each(|node| {
            cluster.persist(id(node));
        });
    }
    cluster.settle();
    assert_eq!(result(&cluster, ticket), Some(Ok(())));
    assert!(matches!(cluster.answer(before), Some(Resolution::Committed { .. })));
    assert_eq!(cluster.node(id(2)).view.entries.len(), 3, "two of term 1, the first of term 2");
}

/// The word is said only to a node that has everything, or it could not be elected. Fails if `hand_over` does
/// not compare the target's log with the leader's.
#[test]
fn a_target_that_is_behind_is_not_sent_off() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.propose(id(1), &["x"]);
    cluster.flying.retain(|letter| letter.to != id(2));
    cluster.settle();
    let ticket = cluster.transfer(id(1), id(2));
    assert!(!cluster.flying.iter().any(is_word), "it lacks an entry");
    cluster.settle();
    assert_eq!(result(&cluster, ticket), None);
    // The entry is sent again, in time.
    cluster.now = cluster.now + cluster.node(id(1)).options.election_timeout * 3 / 4;
    cluster.step(id(1), tinyraftplus_core::Input::Wake);
    cluster.settle();
    assert_eq!(result(&cluster, ticket), Some(Ok(())));
    assert_eq!(cluster.leader(), Some(id(2)));
}

/// The word is lost: it is said again with the next heartbeat. Fails if `hand_over` says it only once.
#[test]
fn a_lost_word_is_said_again() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    let ticket = cluster.transfer(id(1), id(2));
    cluster.flying.clear();
    cluster.wake(id(1));
    cluster.settle();
    assert_eq!(result(&cluster, ticket), Some(Ok(())));
}

/// The target dies. After an election timeout the leader gives up and takes proposals again; asked once more, it
/// knows that nobody is there. Fails if `watch_transfer` waits for a new leader only.
#[test]
fn transfer_to_a_dead_node() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.crash(id(2), 0);
    let ticket = cluster.transfer(id(1), id(2));
    cluster.settle();
    assert_eq!(result(&cluster, ticket), None);
    assert!(cluster.core(id(1)).transferring().is_some());
    time_out(&mut cluster, id(1));
    assert_eq!(result(&cluster, ticket), Some(Err(TransferError::TimedOut)));
    let write = cluster.propose(id(1), &["x"]);
    cluster.settle();
    assert!(matches!(cluster.answer(write), Some(Resolution::Committed { .. })));
    cluster.now = cluster.now + std::time::Duration::from_nanos(1);
    let again = cluster.transfer(id(1), id(2));
    assert_eq!(result(&cluster, again), Some(Err(TransferError::Silent)));
}

/// What can't be done is refused at once, each with its reason.
#[test]
fn transfers_are_refused_with_a_reason() {
    let mut cluster = Cluster::formed(3);
    let ticket = cluster.transfer(id(1), id(2));
    let expected = Err(TransferError::NotLeader { leader: None });
    assert_eq!(result(&cluster, ticket), Some(expected));
    cluster.elect(id(1));
    for (node, to, expected) in [
        (2, 3, Err(TransferError::NotLeader { leader: Some(id(1)) })),
        (1, 9, Err(TransferError::NotAMember)),
        (1, 1, Ok(())),
    ] {
        let ticket = cluster.transfer(id(node), id(to));
        assert_eq!(result(&cluster, ticket), Some(expected));
    }
    cluster.transfer(id(1), id(2));
    let second = cluster.transfer(id(1), id(3));
    assert_eq!(result(&cluster, second), Some(Err(TransferError::UnderWay { to: id(2) })));
}

/// While node 1 hands over to node 2, which hears nothing, node 3 is elected. Whoever asked is told so. Fails if
/// `watch_transfer` takes any new leader for the one that was wanted.
#[test]
fn another_one_is_elected() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    let ticket = cluster.transfer(id(1), id(2));
    cluster.flying.clear();
    let term = 2;
    let last = cluster.core(id(3)).terms().last();
    for node in [1, 2] {
        cluster.inject(id(3), id(node), term, MessageBody::Vote { last, transfer: false });
    }
    assert_eq!(result(&cluster, ticket), None, "nobody has won yet");
    let heartbeat =
        MessageBody::Append { prev: None, entries: Vec::new(), committed: Seq::ZERO, round: 0 };
    cluster.inject(id(3), id(1), term, heartbeat);
    assert_eq!(result(&cluster, ticket), Some(Err(TransferError::Another { leader: id(3) })));
}

/// The transfer fails, and its message arrives late: in the leader's own term it still does what it says, for
/// the target has all the leader had; after another election it does nothing. Fails if `on_timeout_now` does not
/// compare the terms.
#[test]
fn late_transfer_message_of_an_old_term() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.transfer(id(1), id(2));
    let at = cluster.flying.iter().position(is_word).unwrap();
    let late = cluster.flying.remove(at).unwrap();
    time_out(&mut cluster, id(1));
    cluster.flying.clear();
    cluster.transfer(id(1), id(3));
    cluster.settle();
    cluster.flying.push_back(late);
    cluster.settle();
    assert_eq!(cluster.leader(), Some(id(3)));
    assert_eq!(cluster.core(id(2)).term(), cluster.core(id(3)).term());
}
