//! Thesis, section 3.10: handing leadership over.

use super::{accepted, appends_to, said, write_all};
use crate::harness::{Cluster, Letter, id};
use tinyraftplus_core::{Input, MessageBody, Refusal, Resolution, Role, Term, TransferError};

fn leader_of_three() -> Cluster {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster
}

fn is_word(letter: &Letter) -> bool {
    letter.message.body == MessageBody::TimeoutNow
}

/// Thesis 3.10, step 1: the prior leader takes no more requests of clients. Reads still go on: they do not make the log
/// longer. Fails if `refusal` does not look for a transfer.
#[test]
fn step_1_takes_no_more_requests() {
    let mut cluster = leader_of_three();
    cluster.transfer(id(1), id(2));
    let ticket = cluster.propose(id(1), &["x"]);
    let refused = Resolution::Refused(Refusal::Transferring { to: id(2) });
    assert_eq!(cluster.answer(ticket), Some(refused));
    assert_eq!(cluster.core(id(1)).terms().end().get(), 1);
}

/// Thesis 3.10, step 2: he brings the target's log up to his own, by the ordinary replication; it is not sent off before.
/// Fails if `hand_over` does not compare the logs, or goes by what was sent.
#[test]
fn step_2_brings_the_target_up_to_date() {
    let mut cluster = leader_of_three();
    cluster.propose(id(1), &["x"]);
    write_all(&mut cluster, 1);
    let sent = cluster.flying.clone();
    assert_eq!(appends_to(&mut cluster, 1, 2).len(), 1);
    cluster.flying = sent;
    cluster.transfer(id(1), id(2));
    cluster.deliver_all(id(1), id(3));
    write_all(&mut cluster, 3);
    cluster.deliver_all(id(3), id(1));
    assert!(!cluster.flying.iter().any(is_word), "that node 3 has it is of no use");
    cluster.deliver_all(id(1), id(2));
    write_all(&mut cluster, 2);
    assert!(!cluster.flying.iter().any(is_word));
    cluster.deliver_all(id(2), id(1));
    assert!(cluster.flying.iter().any(is_word), "now it has all there is");
}

/// Thesis 3.10, step 3: he sends the target `TimeoutNow`, which does what the end of its election timeout does: it begins
/// a new term and asks for votes; and only the target. A departure that thesis 9.6 asks for: it does not ask first
/// whether it would win, since all hear from their leader and would say no. Fails if `on_timeout_now` does not
/// campaign, or asks for pre-votes.
#[test]
fn step_3_makes_the_target_campaign_at_once() {
    let mut cluster = leader_of_three();
    cluster.transfer(id(1), id(2));
    let words: Vec<_> = cluster.flying.iter().filter(|letter| is_word(letter)).collect();
    assert_eq!(words.iter().map(|letter| letter.to).collect::<Vec<_>>(), [id(2)]);
    cluster.deliver_all(id(1), id(2));
    assert_eq!(cluster.core(id(2)).role(), Role::Candidate);
    assert_eq!(cluster.core(id(2)).term(), Term::new(2));
    cluster.flying.clear();
    write_all(&mut cluster, 2);
    let last = cluster.core(id(2)).terms().last();
    let asked = said(&mut cluster, 2).into_iter();
    let asked = asked.map(|letter| (letter.to, letter.message.body)).collect::<Vec<_>>();
    let request = MessageBody::Vote { last, transfer: true };
    assert_eq!(asked, [(id(1), request.clone()), (id(3), request)]);
}

/// Thesis 3.10: the target's next message has a newer term, by which the prior leader steps down; then the transfer is
/// complete. Fails if `watch_transfer` does not look who leads.
#[test]
fn the_prior_leader_steps_down_by_the_newer_term() {
    let mut cluster = leader_of_three();
    let ticket = cluster.transfer(id(1), id(2));
    cluster.deliver_all(id(1), id(2));
    write_all(&mut cluster, 2);
    cluster.deliver_all(id(2), id(1));
    assert_eq!(cluster.core(id(1)).role(), Role::Follower);
    assert_eq!(cluster.core(id(1)).term(), Term::new(2));
    assert_eq!(cluster.answer(ticket), None, "it asks for votes, and has none yet");
    cluster.settle();
    assert_eq!(cluster.answer(ticket), Some(Resolution::Transfer(Ok(()))));
    assert_eq!(cluster.core(id(1)).leader(), Some(id(2)));
}

/// Thesis 3.10: if it has not come about after an election timeout, the prior leader gives it up and takes requests again.
/// Fails if `watch_transfer` waits for ever.
#[test]
fn a_transfer_that_takes_an_election_timeout_is_given_up() {
    let mut cluster = leader_of_three();
    cluster.partition(&[&[1, 3]]);
    let timeout = cluster.node(id(1)).options.election_timeout;
    let ticket = cluster.transfer(id(1), id(2));
    let begun = cluster.now;
    while cluster.answer(ticket).is_none() {
        assert_eq!(cluster.core(id(1)).transferring(), Some(id(2)));
        cluster.wake(id(1));
        cluster.settle();
    }
    assert_eq!(cluster.now.since(begun), timeout);
    let given_up = Resolution::Transfer(Err(TransferError::TimedOut));
    assert_eq!(cluster.answer(ticket), Some(given_up));
    let write = cluster.propose(id(1), &["x"]);
    cluster.settle();
    assert!(matches!(cluster.answer(write), Some(Resolution::Committed { .. })));
}

/// Thesis 4.2.3: that a leader lives is no reason to refuse the votes that he himself has asked for. Fails if a vote is
/// refused by who hears from a leader, whatever the request says.
#[test]
fn the_leaders_own_wish_is_no_disturbance() {
    let mut cluster = leader_of_three();
    cluster.wake(id(1));
    cluster.settle();
    cluster.transfer(id(1), id(2));
    cluster.deliver_all(id(1), id(2));
    write_all(&mut cluster, 2);
    cluster.deliver_all(id(2), id(3));
    write_all(&mut cluster, 3);
    let answers = said(&mut cluster, 3).into_iter().map(|letter| letter.message.body);
    let yes = MessageBody::VoteReply { granted: true };
    assert_eq!(answers.collect::<Vec<_>>(), [yes], "although it has just heard from node 1");
}

/// Thesis 3.10: `TimeoutNow` is word of this term's leader. Late, or from anybody else, it moves nobody. Fails if
/// `on_timeout_now` does not compare the term or the sender.
#[test]
fn a_late_word_moves_nobody() {
    let mut cluster = leader_of_three();
    cluster.inject(id(3), id(2), 1, MessageBody::TimeoutNow);
    assert_eq!(cluster.core(id(2)).role(), Role::Follower, "node 3 does not lead");
    cluster.elect_by_campaign(id(1));
    cluster.settle();
    cluster.inject(id(1), id(2), 1, MessageBody::TimeoutNow);
    cluster.step(id(2), Input::Wake);
    assert_eq!(cluster.core(id(2)).role(), Role::Follower, "that term is over");
    cluster.inject(id(2), id(1), 2, accepted(2));
    assert_eq!(cluster.core(id(1)).role(), Role::Leader);
}
