//! Thesis, sections 6.2 and 4.2.3: a leader without a quorum steps down, and one with a quorum is left alone.

use super::{accepted, at, heartbeat, pass, said, vote, write_all};
use crate::harness::{Cluster, id};
use tinyraftplus_core::{Input, MessageBody, Refusal, Resolution, Role, Term};

/// Whether a leader of five stays one for two seconds in which each of these gives it that answer every 100 ms.
fn stays(from: &[u64], answer: &MessageBody<String>) -> bool {
    let mut cluster = Cluster::formed(5);
    cluster.elect(id(1));
    for _ in 0..20 {
        pass(&mut cluster, 100);
        for &node in from {
            cluster.inject(id(node), id(1), 1, answer.clone());
        }
        cluster.step(id(1), Input::Wake);
        cluster.flying.clear();
    }
    cluster.core(id(1)).role() == Role::Leader
}

/// Thesis 6.2: a leader steps down when an election timeout has passed without an answer from a majority. He counts
/// himself; whatever he is answered shows that he is heard. Fails if `check_quorum` does not step down, or asks for
/// more than a majority, or a refusal is no contact.
#[test]
fn a_leader_steps_down_without_a_majority() {
    let no = MessageBody::Rejected { prev: Some(at(1, 7)), hint: None, round: 0 };
    for answer in [accepted(1), no] {
        assert!(!stays(&[2], &answer));
        assert!(stays(&[2, 4], &answer));
    }
}

/// Thesis 6.2: after an election timeout, and before two have passed: not at the first lost heartbeat, and not much
/// later either. Fails if `check_quorum` comes at every heartbeat, or forgets to come again.
#[test]
fn a_leader_steps_down_within_two_timeouts() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.wake(id(1));
    cluster.settle();
    let heard = cluster.now;
    cluster.partition(&[&[2, 3]]);
    while cluster.core(id(1)).role() == Role::Leader {
        cluster.wake(id(1));
    }
    let silence = cluster.now.since(heard);
    let timeout = cluster.node(id(1)).options.election_timeout;
    assert!(silence > timeout && silence <= timeout * 2, "{silence:?}");
}

/// Thesis 6.2: so that his clients try elsewhere, they are told: those that wait for a read, and all that come. What
/// is in the log may yet be committed, and so stays without an answer. Fails if `step_down` drops the reads.
#[test]
fn clients_of_a_leader_that_steps_down_are_told() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.partition(&[&[2, 3]]);
    let (write, read) = (cluster.propose(id(1), &["a"]), cluster.read(id(1)));
    while cluster.core(id(1)).role() == Role::Leader {
        assert_eq!(cluster.answer(read), None);
        cluster.wake(id(1));
    }
    let refused = Some(Resolution::Refused(Refusal::NotLeader { leader: None }));
    assert_eq!(cluster.answer(read), refused);
    assert!(matches!(cluster.answer(write), Some(Resolution::Accepted { .. })));
    let late = cluster.propose(id(1), &["b"]);
    assert_eq!(cluster.answer(late), refused);
}

/// Thesis 4.2.3: who hears from a leader gives no vote, and takes no newer term from who asks. A departure: that is
/// said to the pre-vote, which everybody asks first; a true request follows only the yes of a majority, of which
/// none has heard from a leader lately, and is obeyed. So a server that was removed, or cut off, deposes nobody, as
/// the thesis wants; it never gets to ask. Where reads go by leases, the request is refused as well (`leases`). Fails if `on_pre_vote` does not look whether there is a leader.
#[test]
fn who_hears_from_a_leader_is_not_won_over() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    let last = cluster.core(id(1)).terms().last();
    for _ in 0..20 {
        pass(&mut cluster, 100);
        cluster.inject(id(1), id(2), 1, heartbeat(last, 1));
        cluster.flying.clear();
        cluster.inject(id(3), id(2), 9, MessageBody::PreVote { last: Some(at(8, 9)) });
        let sent = said(&mut cluster, 2);
        assert_eq!(sent[0].message.body, MessageBody::PreVoteReply { granted: false });
        assert_eq!(cluster.core(id(2)).term(), Term::new(1));
    }
    cluster.inject(id(3), id(2), 9, vote(Some(at(8, 9))));
    write_all(&mut cluster, 2);
    assert_eq!(cluster.core(id(2)).term(), Term::new(9));
}
