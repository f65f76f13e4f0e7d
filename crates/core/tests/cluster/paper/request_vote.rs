//! Raft figure 2, `RequestVote` RPC: its arguments, its results, and what its receiver does.

use super::{at, said, said_to, stand, vote, write_all};
use crate::harness::{Cluster, id, identity};
use tinyraftplus_core::{MessageBody, Role, Term};

const YES: MessageBody<String> = MessageBody::VoteReply { granted: true };
const NO: MessageBody<String> = MessageBody::VoteReply { granted: false };

/// A cluster whose node 1 stands in term 3 with entries of terms 1 and 2; its requests are on their way.
fn candidate() -> Cluster {
    let mut cluster = Cluster::formed(3);
    cluster.preset_log(id(1), &[1, 2]);
    stand(&mut cluster, 1);
    write_all(&mut cluster, 1);
    cluster
}

/// Raft figure 2, argument term: the candidate's, which is the new one. Fails if `campaign` asks for votes in the
/// term before.
#[test]
fn term_is_the_candidates() {
    let sent = said(&mut candidate(), 1);
    assert!(sent.iter().all(|letter| letter.message.term == Term::new(3)) && sent.len() == 2);
}

/// Raft figure 2, argument candidateId: who asks. A departure: the vote goes to the log that asks, by its
/// identity, and counts only for a log that the candidate's configuration names. So the candidate of the paper is a
/// log, not a name, and two logs of one name are two candidates, of which one gets the vote. Fails if `on_vote` stores no
/// vote, or compares names.
#[test]
fn candidate_id_is_the_log_that_asks() {
    let mut cluster = candidate();
    assert!(said(&mut cluster, 1).iter().all(|l| l.message.from == identity(id(1), 0)));
    cluster.inject(id(1), id(2), 3, vote(Some(at(2, 1))));
    write_all(&mut cluster, 2);
    assert_eq!(cluster.node(id(2)).disk.hard_state.vote, Some(identity(id(1), 0)));
    cluster.flying.clear();
    cluster.wipe(id(1));
    cluster.inject(id(1), id(2), 3, vote(Some(at(2, 1))));
    write_all(&mut cluster, 2);
    assert_eq!(
        said_to(&mut cluster, 2, 1),
        [MessageBody::VoteReply { granted: false }],
        "the same name on another disk"
    );
}

/// Raft figure 2, arguments lastLogIndex and lastLogTerm: the candidate's last entry, durable or not. Fails if
/// `campaign` names another.
#[test]
fn last_is_the_candidates_last_entry() {
    assert_eq!(said_to(&mut candidate(), 1, 2), [vote(Some(at(2, 1)))]);
    let mut cluster = Cluster::formed(3);
    stand(&mut cluster, 1);
    write_all(&mut cluster, 1);
    assert_eq!(said_to(&mut cluster, 1, 3), [vote(None)]);
}

/// Raft figure 2, result term: from it a candidate learns that its own is over. Fails if `receive` adopts no term
/// from an answer.
#[test]
fn the_answers_term_updates_the_candidate() {
    let mut cluster = candidate();
    cluster.inject(id(2), id(1), 5, NO);
    assert_eq!(cluster.core(id(1)).term(), Term::new(5));
    assert_eq!(cluster.core(id(1)).role(), Role::Follower);
}

/// Raft figure 2, result voteGranted: only a yes is a vote, and only in the term that it names. Fails if
/// `on_vote_reply` does not look at `granted`, or at the term.
#[test]
fn only_a_yes_of_this_term_is_a_vote() {
    let mut cluster = candidate();
    for (term, answer) in [(3, NO), (2, YES)] {
        cluster.inject(id(2), id(1), term, answer);
        assert_eq!(cluster.core(id(1)).role(), Role::Candidate);
    }
    cluster.inject(id(2), id(1), 3, YES);
    assert_eq!(cluster.core(id(1)).role(), Role::Leader);
}

/// Raft figure 2, `RequestVote` receiver, 1: a request of an older term gets no vote, and no log is new enough to
/// change that. Fails if `on_vote` does not compare the term.
#[test]
fn receiver_1_refuses_an_older_term() {
    let mut cluster = Cluster::formed(3);
    cluster.preset(id(2), |disk| disk.hard_state.term = Term::new(3));
    cluster.inject(id(1), id(2), 2, vote(Some(at(1, 9))));
    write_all(&mut cluster, 2);
    let sent = said(&mut cluster, 2);
    assert_eq!((sent.len(), &sent[0].message.body), (1, &NO));
    assert_eq!(sent[0].message.term, Term::new(3));
    assert_eq!(cluster.node(id(2)).disk.hard_state.vote, None);
}

/// Raft figure 2, `RequestVote` receiver, 2, first half: a vote goes to the first who asks, or again to who got
/// it, and to nobody else in that term, itself neither. Fails if `on_vote` does not look at the vote.
#[test]
fn receiver_2_gives_one_vote_a_term() {
    let mut cluster = Cluster::formed(3);
    for (from, term, answer) in [(1, 1, YES), (3, 1, NO), (1, 1, YES), (3, 2, YES), (1, 2, NO)] {
        cluster.inject(id(from), id(2), term, vote(None));
        write_all(&mut cluster, 2);
        assert_eq!(said_to(&mut cluster, 2, from), [answer], "to {from} in term {term}");
    }
    stand(&mut cluster, 2);
    write_all(&mut cluster, 2);
    cluster.flying.clear();
    cluster.inject(id(1), id(2), 3, vote(None));
    write_all(&mut cluster, 2);
    assert_eq!(said_to(&mut cluster, 2, 1), [NO], "it has voted for itself");
}

/// Raft figure 2, `RequestVote` receiver, 2, second half, and section 5.4.1: only a log that is at least as new
/// gets the vote: the later last term wins, and of equal ones the longer log. Fails if `on_vote` does not compare
/// the logs, or compares lengths first.
#[test]
fn receiver_2_votes_for_a_log_at_least_as_new() {
    for (last, answer) in [
        (None, NO),
        (Some(at(1, 9)), NO),
        (Some(at(2, 1)), NO),
        (Some(at(2, 2)), YES),
        (Some(at(2, 3)), YES),
        (Some(at(3, 0)), YES),
    ] {
        let mut cluster = Cluster::formed(3);
        cluster.preset_log(id(2), &[1, 2, 2]);
        cluster.inject(id(1), id(2), 4, vote(last));
        write_all(&mut cluster, 2);
        assert_eq!(said_to(&mut cluster, 2, 1), [answer], "to {last:?}");
    }
}
