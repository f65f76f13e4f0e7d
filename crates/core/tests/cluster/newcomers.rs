//! Nodes that are new to a cluster: founders, those that are added, and those whose disk was lost. Each test says which
//! protection, when removed, makes it fail.

use crate::harness::{Cluster, Letter, id, identity};
use crate::membership::{changed, configuration, count, settled, voters_settled, with_a_stranger};
use tinyraftplus_core::{
    Event, Input, MemberSpec, Message, MessageBody, QuorumRule, Resolution, Role, Term,
};

/// A voter whose disk was lost is bound to its new log, once a quorum without it agrees; then it counts again.
#[test]
fn a_wiped_voter_is_readmitted() {
    let mut cluster = Cluster::unformed(3);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some()));
    cluster.elect(id(1));
    cluster.propose(id(1), &["x"]);
    cluster.settle();
    cluster.wipe(id(3));
    assert!(cluster.until(100, |cluster| {
        settled(cluster, 3)
            && configuration(cluster, 3).identity_of(id(3)) == Some(identity(id(3), 1))
    }));
    assert!(cluster.events.contains(&(id(3), Event::Wiped)));
    cluster.crash(id(2), 0);
    let ticket = cluster.propose(id(1), &["y"]);
    let committed =
        |cluster: &Cluster| matches!(cluster.answer(ticket), Some(Resolution::Committed { .. }));
    assert!(cluster.until(20, committed), "it counts");
}

/// What a wiped voter said before its disk was lost arrives when its new log has its place already. Its name stays
/// bound to the new log, which knows a configuration and so would never ask for it again. Fails if a log that asked
/// is given the place without being asked back, or on an answer to anything but the last question (found by seed
/// 3723).
#[test]
fn a_wiped_voter_is_not_bound_to_its_lost_log() {
    let mut cluster = Cluster::unformed(3);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some()));
    cluster.elect(id(1));
    cluster.wipe(id(3));
    let readmitted = |cluster: &Cluster| {
        configuration(cluster, 1).identity_of(id(3)) == Some(identity(id(3), 1))
            && (2..=3).all(|node| settled(cluster, node))
    };
    assert!(cluster.until(100, readmitted));
    let answer =
        |number| MessageBody::Answer { number, configuration: None, founding: 0, group: None };
    let question = (cluster.core(id(1)).term().get() << 32) + 1;
    for body in [MessageBody::Ask { number: 0 }, answer(0), answer(question)] {
        let to = Some(cluster.node(id(1)).disk.identity);
        let message = Message { from: identity(id(3), 0), to, term: Term::ZERO, body };
        cluster.step(id(1), Input::Receive { from: id(3), message });
        for _ in 0..20 {
            cluster.advance();
        }
        assert!(readmitted(&cluster));
    }
}

/// The old log of a wiped voter helped to commit an entry; the new log, empty, must not help to lose it. Nodes
/// 1, 2 and 3; node 2 lacks what 1 and 3 committed, and 3 is wiped: no leader without node 1. Fails if a vote
/// counts by name.
#[test]
fn a_wiped_voter_elects_nobody_without_the_data() {
    let mut cluster = Cluster::unformed(3);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some()));
    cluster.elect(id(1));
    cluster.partition(&[&[1, 3], &[2]]);
    cluster.propose(id(1), &["x"]);
    cluster.settle();
    cluster.wipe(id(3));
    cluster.crash(id(1), 0);
    cluster.heal();
    for _ in 0..200 {
        cluster.advance();
    }
    assert_eq!(cluster.leader(), None);
    cluster.start(id(1));
    assert!(cluster.until(300, |cluster| {
        cluster.nodes.values().all(|node| node.applied == cluster.check.end())
            && cluster.core(id(3)).role() != Role::Learner
    }));
}

/// Two of three form a cluster, and count three from the start; the third is bound when it appears.
#[test]
fn a_majority_forms() {
    let mut cluster = Cluster::with_options(3, |options| options.form_with_majority = true);
    cluster.crash(id(3), 0);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some()));
    assert_eq!(configuration(&cluster, 1).now().voters().count(), 3);
    assert_eq!(configuration(&cluster, 1).identity_of(id(3)), None);
    cluster.crash(id(2), 0);
    for _ in 0..100 {
        cluster.advance();
    }
    assert_eq!(cluster.leader(), None, "one of three is no quorum");
    cluster.start(id(2));
    cluster.start(id(3));
    assert!(cluster.until(300, |cluster| settled(cluster, 3)));
    let leader = cluster.leader().unwrap();
    let other = if leader == id(1) { id(2) } else { id(1) };
    cluster.crash(other, 0);
    let ticket = cluster.propose(leader, &["x"]);
    cluster.settle();
    assert!(matches!(cluster.answer(ticket), Some(Resolution::Committed { .. })));
    let mut waits = Cluster::with_options(3, |_| {});
    waits.crash(id(3), 0);
    for _ in 0..100 {
        waits.advance();
    }
    assert_eq!(waits.leader(), None, "by default a cluster waits for everybody");
}

/// A new voter catches up although nothing is appended meanwhile. Fails if the entry that adds it is written before
/// the leader knows it as a peer: what comes after that entry is all that it would ever be sent.
#[test]
fn a_new_voter_catches_up_in_silence() {
    let mut cluster = Cluster::with_options(3, |options| options.promote_distance = 0);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some()));
    cluster.elect(id(1));
    cluster.join(9);
    cluster.propose(id(1), &["x"]);
    cluster.settle();
    let ticket = cluster.set_voters(id(1), &[1, 2, 3, 9]);
    assert!(cluster.until(100, |cluster| cluster.answer(ticket).is_some()));
    assert!(changed(cluster.answer(ticket)), "{:?}", cluster.answer(ticket));
}

/// Two of three could elect a leader, but not commit anything, so they don't form a cluster that could never bind the
/// third. Fails if only the rule for elections is asked.
#[test]
fn a_majority_that_can_commit_nothing_does_not_form() {
    let mut cluster = Cluster::with_options(3, |options| {
        options.form_with_majority = true;
        options.rules.commits = QuorumRule::AtLeast(3);
    });
    cluster.crash(id(3), 0);
    for _ in 0..50 {
        cluster.advance();
    }
    assert_eq!(cluster.leader(), None);
    cluster.start(id(3));
    assert!(cluster.until(300, |cluster| (1..=3).all(|node| settled(cluster, node))));
}

/// A learner whose disk was lost receives again, too. Fails if only voters are bound to their new logs.
#[test]
fn a_wiped_learner_is_readmitted() {
    let mut cluster = with_a_stranger(3);
    let mut members: Vec<_> = [1, 2, 3].map(|n| MemberSpec::voter(id(n))).to_vec();
    members.push(MemberSpec::learner(id(9)));
    let ticket = cluster.set_members(id(1), members, None);
    assert!(cluster.until(100, |cluster| changed(cluster.answer(ticket))));
    cluster.propose(id(1), &["x"]);
    cluster.settle();
    cluster.wipe(id(9));
    assert!(cluster.until(100, |cluster| {
        let core = cluster.core(id(9));
        core.configuration().and_then(|it| it.identity_of(id(9))) == Some(identity(id(9), 1))
            && core.committed() == cluster.core(id(1)).committed()
    }));
    assert_eq!(cluster.core(id(9)).role(), Role::Learner);
}

/// Node 2 lost its disk, and somebody wants {1, 2} before the leader knows its new log. That change would need
/// the old one. Fails if `wait_for_learners` does not ask whether the new membership can decide (found by run 164).
#[test]
fn a_change_that_would_lock_out_the_cluster() {
    let mut cluster = Cluster::unformed(3);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some()));
    cluster.elect(id(1));
    cluster.wipe(id(2));
    cluster.now = cluster.now + cluster.node(id(1)).options.election_timeout * 2;
    let ticket = cluster.set_voters(id(1), &[1, 2]);
    assert_eq!(count(&cluster, 1), (0, 0), "nothing is begun that can't be ended");
    assert!(cluster.until(2000, |cluster| cluster.answer(ticket).is_some()));
    assert!(cluster.until(200, |cluster| {
        settled(cluster, 2) && cluster.leader() == Some(id(1)) && voters_settled(cluster, 1)
    }));
}

/// Node 2 lost its disk, and was started with members that have all been replaced but one; it finds the leader
/// through that one. Fails if `form` asks only those it was started with (found by run 48).
#[test]
fn a_wiped_voter_finds_members_it_was_not_told_of() {
    let mut cluster = Cluster::unformed(3);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some()));
    cluster.join(4);
    cluster.join(5);
    let leader = cluster.leader().unwrap();
    let ticket = cluster.set_voters(leader, &[1, 2, 4, 5]);
    assert!(cluster.until(200, |cluster| changed(cluster.answer(ticket))));
    cluster.crash(id(3), 0);
    assert!(cluster.until(200, |cluster| cluster.leader().is_some()));
    let leader = cluster.leader().unwrap();
    if leader != id(4) {
        cluster.transfer(leader, id(4));
        assert!(cluster.until(200, |cluster| cluster.leader() == Some(id(4))));
    }
    cluster.crash(id(1), 0);
    cluster.wipe(id(2));
    cluster.start(id(1));
    assert!(cluster.until(200, |cluster| settled(cluster, 2)));
}

/// Node 3 lost its disk twice. Word of its second log, which is gone too, comes late: it must not take the place of the
/// third, which is there. That one would never be heard again, for it knows the cluster and asks no more. Fails if
/// `introduced` lets go of a log that was heard from lately.
#[test]
fn a_late_question_of_a_lost_log() {
    let mut cluster = Cluster::unformed(3);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some()));
    cluster.elect(id(1));
    let mut late = None;
    for wiped in 1..=2 {
        cluster.wipe(id(3));
        cluster.wake(id(3));
        let asks = |letter: &&Letter| letter.from == id(3) && letter.to == id(1);
        late = late.or_else(|| cluster.flying.iter().find(asks).cloned());
        assert!(cluster.until(100, |cluster| {
            settled(cluster, 3)
                && configuration(cluster, 3).identity_of(id(3)) == Some(identity(id(3), wiped))
        }));
    }
    cluster.flying.extend(late);
    for _ in 0..100 {
        cluster.advance();
    }
    let bound = configuration(&cluster, 1).identity_of(id(3));
    assert_eq!(bound, Some(identity(id(3), 2)));
}

/// Two of three have formed a cluster, and the third never came. A fourth can join: the third holds nothing up that the
/// others can decide. Fails if `find` waits for members that have no log.
#[test]
fn an_absent_founder_blocks_no_change() {
    let mut cluster = Cluster::with_options(3, |options| options.form_with_majority = true);
    cluster.crash(id(3), 0);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some()));
    cluster.join(4);
    let leader = cluster.leader().unwrap();
    let ticket = cluster.set_voters(leader, &[1, 2, 3, 4]);
    assert!(cluster.until(1000, |cluster| cluster.answer(ticket).is_some()));
    assert!(changed(cluster.answer(ticket)), "{:?}", cluster.answer(ticket));
    cluster.start(id(3));
    assert!(cluster.until(300, |cluster| settled(cluster, 3)));
    assert_eq!(configuration(&cluster, 1).identity_of(id(3)), Some(identity(id(3), 0)));
}

/// A node is added that was started with the names of members that are gone by now, so it can ask nobody who knows it, and
/// the word that it belongs to the cluster is lost. It is told again. Fails if `introduce` tells each only once.
#[test]
fn a_lost_introduction_is_repeated() {
    let mut cluster = with_a_stranger(3);
    let ticket = cluster.set_voters(id(1), &[1, 2, 3, 9]);
    let mut lost = false;
    for _ in 0..2000 {
        cluster.flying.retain(|letter| {
            let asks = letter.from == id(9) && matches!(letter.message.body, MessageBody::Ask { .. });
            let told = letter.to == id(9)
                && matches!(&letter.message.body, MessageBody::Answer { configuration: Some(it), .. }
                    if it.configuration.names(id(9), identity(id(9), 0)));
            let first = told && !lost;
            lost |= told;
            !asks && !first
        });
        if cluster.answer(ticket).is_some() {
            break;
        }
        if cluster.flying.is_empty() {
            for node in [1, 2, 3, 9] {
                while cluster.persist(id(node)) || cluster.load(id(node), true) {}
            }
            if cluster.flying.is_empty() {
                cluster.advance_a_bit();
            }
        } else {
            cluster.deliver(0);
        }
    }
    assert!(lost);
    assert!(changed(cluster.answer(ticket)), "{:?}", cluster.answer(ticket));
}
