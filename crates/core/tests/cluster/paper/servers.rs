//! Raft figure 2, Rules for Servers: all servers, followers, candidates.

use super::{
    accepted, append, at, heartbeat, log, pass, said, said_to, stand, vote, would_vote, write_all,
};
use crate::harness::{Cluster, entry, id, identity};
use tinyraftplus_core::{Input, MessageBody, Role, Seq, Term};

/// Raft figure 2, all servers, 1: what is committed is applied, in the order of the log. A departure: all that is
/// committed is handed out at once, never past what is durable here; so it is applied as the paper says, but
/// after a crash the log never has less than the state machine. Fails if `settle` hands out nothing, or does not
/// look at the disk.
#[test]
fn all_1_what_is_committed_is_applied() {
    let mut cluster = Cluster::formed(3);
    let applied = |cluster: &Cluster| cluster.node(id(2)).applied.get();
    let entries = vec![entry(1, 0, "a"), entry(1, 1, "b"), entry(1, 2, "c")];
    cluster.inject(id(1), id(2), 1, append(None, entries, 0));
    write_all(&mut cluster, 2);
    assert_eq!(applied(&cluster), 0);
    for end in [2, 3] {
        cluster.inject(id(1), id(2), 1, heartbeat(Some(at(1, 2)), end));
        assert_eq!(applied(&cluster), end);
    }
    cluster.inject(id(1), id(2), 1, append(Some(at(1, 2)), vec![entry(1, 3, "d")], 4));
    assert_eq!((cluster.core(id(2)).committed(), applied(&cluster)), (Seq::new(4), 3));
    write_all(&mut cluster, 2);
    assert_eq!(applied(&cluster), 4);
}

/// A node of three that plays this part, in a term that it returns.
fn in_role(role: Role) -> (Cluster, u64) {
    let mut cluster = Cluster::formed(3);
    match role {
        Role::Leader => cluster.elect(id(1)),
        Role::Candidate => stand(&mut cluster, 1),
        Role::Follower => cluster.elect(id(2)),
        Role::Learner => {}
    }
    assert_eq!(cluster.core(id(1)).role(), role);
    let term = cluster.core(id(1)).term().get();
    (cluster, term)
}

/// Raft figure 2, all servers, 2: whatever request or answer has a newer term, that is the term now, and whoever
/// sees it is a follower. Fails if `receive` leaves out any of them.
#[test]
fn all_2_a_newer_term_makes_a_follower() {
    let rejected = |prev| MessageBody::Rejected { prev, hint: None, round: 0 };
    for role in [Role::Follower, Role::Candidate, Role::Leader] {
        for body in [
            vote(None),
            MessageBody::VoteReply { granted: false },
            MessageBody::VoteReply { granted: true },
            heartbeat(None, 0),
            heartbeat(Some(at(3, 8)), 9),
            accepted(0),
            rejected(None),
            rejected(Some(at(1, 0))),
            MessageBody::PreVoteReply { granted: false },
        ] {
            let (mut cluster, term) = in_role(role);
            cluster.inject(id(3), id(1), term + 4, body);
            assert_eq!(cluster.core(id(1)).term(), Term::new(term + 4));
            assert_eq!(cluster.core(id(1)).role(), Role::Follower);
        }
    }
}

/// Raft figure 2, all servers, 2, the departure: a pre-vote, and a yes to one, speak of a term that nobody has
/// begun. They are no requests of the paper's, and change no term. Fails if `receive` adopts it.
#[test]
fn all_2_a_term_that_has_not_begun_makes_nobody_follow() {
    for role in [Role::Follower, Role::Candidate, Role::Leader] {
        let pre_vote = MessageBody::PreVote { last: Some(at(1, 9)) };
        for body in [pre_vote, MessageBody::PreVoteReply { granted: true }] {
            let (mut cluster, term) = in_role(role);
            cluster.inject(id(3), id(1), term + 4, body);
            assert_eq!(cluster.core(id(1)).term(), Term::new(term));
            assert_eq!(cluster.core(id(1)).role(), role);
        }
    }
}

/// Raft figure 2, followers, 1: they answer candidates and leaders, each of which is told once. Fails if one of
/// the handlers sends nothing.
#[test]
fn followers_1_answer_candidates_and_leaders() {
    let mut cluster = Cluster::formed(3);
    let yes = MessageBody::PreVoteReply { granted: true };
    cluster.inject(id(1), id(2), 1, MessageBody::PreVote { last: None });
    assert_eq!(said_to(&mut cluster, 2, 1), [yes]);
    cluster.inject(id(1), id(2), 1, vote(None));
    write_all(&mut cluster, 2);
    assert_eq!(said_to(&mut cluster, 2, 1), [MessageBody::VoteReply { granted: true }]);
    cluster.inject(id(1), id(2), 1, append(None, vec![entry(1, 0, "a")], 0));
    write_all(&mut cluster, 2);
    assert_eq!(said_to(&mut cluster, 2, 1), [accepted(1)]);
    cluster.inject(id(1), id(2), 1, heartbeat(Some(at(1, 7)), 0));
    assert!(matches!(said_to(&mut cluster, 2, 1)[..], [MessageBody::Rejected { .. }]));
}

/// Raft figure 2, followers, 2: who hears nothing for an election timeout becomes a candidate, and not before.
/// Fails if `wake` does not look at the time, or does nothing. (A departure: it first asks whether it could win,
/// see `pre_vote`; so it campaigns later than the paper's follower, or not at all, never earlier.)
#[test]
fn followers_2_campaign_when_the_timeout_is_over() {
    let mut cluster = Cluster::formed(3);
    cluster.inject(id(1), id(2), 1, heartbeat(None, 0));
    let wakes = cluster.core(id(2)).wake_at();
    assert!(wakes >= cluster.now + cluster.node(id(2)).options.election_timeout);
    write_all(&mut cluster, 2);
    pass(&mut cluster, 499);
    cluster.step(id(2), Input::Wake);
    assert_eq!(cluster.core(id(2)).role(), Role::Follower);
    stand(&mut cluster, 2);
    assert_eq!(cluster.core(id(2)).term(), Term::new(2));
}

/// Raft figure 2, followers, 2, the exceptions: an append of the present leader, and a vote that was given, begin
/// the wait anew. Nothing else in this term does: a vote refused, a pre-vote, a leader of the past. Fails if
/// `follow` or `on_vote` does not reset the timer, or `on_vote` resets it for a no.
#[test]
fn followers_2_wait_anew_for_a_leader_and_after_a_vote() {
    let ready = || {
        let mut cluster = Cluster::formed(3);
        cluster.preset_log(id(2), &[1, 2]);
        let wakes = cluster.core(id(2)).wake_at();
        // More than is ever drawn at random, and the node was not woken.
        pass(&mut cluster, 1100);
        (cluster, wakes)
    };
    for message in
        [heartbeat(Some(at(2, 1)), 0), heartbeat(Some(at(1, 7)), 0), vote(Some(at(2, 1)))]
    {
        let (mut cluster, wakes) = ready();
        // A vote is asked for in a term after its last entry's, and here in the node's own.
        cluster.preset(id(2), |disk| disk.hard_state.term = Term::new(3));
        let wakes = wakes.max(cluster.core(id(2)).wake_at());
        pass(&mut cluster, 1100);
        cluster.inject(id(1), id(2), 3, message);
        assert!(cluster.core(id(2)).wake_at() > wakes);
        assert!(cluster.core(id(2)).wake_at() > cluster.now);
    }
    let pre_vote = MessageBody::PreVote { last: Some(at(2, 1)) };
    for (term, message) in
        [(2, vote(Some(at(1, 9)))), (9, pre_vote), (1, heartbeat(Some(at(1, 0)), 0))]
    {
        let (mut cluster, wakes) = ready();
        cluster.inject(id(1), id(2), term, message);
        assert_eq!(cluster.core(id(2)).wake_at(), wakes);
    }
}

/// Raft figure 2, candidates, 1a: a campaign begins a new term, one further. Fails if `campaign` stays in its
/// term.
#[test]
fn candidates_1_begin_a_new_term() {
    let mut cluster = Cluster::formed(3);
    cluster.preset_log(id(1), &[1, 7]);
    stand(&mut cluster, 1);
    assert_eq!(cluster.core(id(1)).term(), Term::new(8));
}

/// Raft figure 2, candidates, 1b: a candidate votes for itself; that vote counts as any other does, once it is
/// durable. Fails if `campaign` counts itself at once, or never, or `own_vote_durable` takes the end of an older write
/// for that of its vote.
#[test]
fn candidates_1_vote_for_themselves() {
    let mut cluster = Cluster::formed(3);
    cluster.inject(id(3), id(1), 1, append(None, vec![entry(1, 0, "a")], 0));
    stand(&mut cluster, 1);
    cluster.inject(id(2), id(1), 2, MessageBody::VoteReply { granted: true });
    for _ in 0..2 {
        assert_eq!(cluster.core(id(1)).role(), Role::Candidate, "a crash would undo its own vote");
        cluster.persist(id(1));
    }
    assert_eq!(cluster.node(id(1)).disk.hard_state.vote, Some(identity(id(1), 0)));
    assert_eq!(cluster.core(id(1)).role(), Role::Leader, "two of three");
}

/// Raft figure 2, candidates, 1c: the wait begins anew with the campaign. Fails if neither `campaign` nor what it
/// comes from resets the timer.
#[test]
fn candidates_1_wait_anew() {
    let mut cluster = Cluster::formed(3);
    cluster.wake(id(1));
    pass(&mut cluster, 1100);
    would_vote(&mut cluster, 1);
    let timeout = cluster.node(id(1)).options.election_timeout;
    assert!(cluster.core(id(1)).wake_at() >= cluster.now + timeout);
}

/// Raft figure 2, candidates, 1d: all other servers are asked. Fails if `campaign` leaves one out.
#[test]
fn candidates_1_ask_all_others() {
    let mut cluster = Cluster::formed(5);
    stand(&mut cluster, 3);
    write_all(&mut cluster, 3);
    let asked = said(&mut cluster, 3).into_iter();
    let asked = asked.map(|letter| (letter.to, letter.message.body)).collect::<Vec<_>>();
    assert_eq!(asked, [1, 2, 4, 5].map(|to| (id(to), vote(None))));
}

/// Raft figure 2, candidates, 2: the votes of a majority make a leader, and no fewer: each node counts once,
/// however often it answers. Fails if `count_votes` asks for less, or counts answers.
#[test]
fn candidates_2_lead_with_the_votes_of_a_majority() {
    let mut cluster = Cluster::formed(5);
    stand(&mut cluster, 1);
    write_all(&mut cluster, 1);
    for (from, role) in [(2, Role::Candidate), (2, Role::Candidate), (5, Role::Leader)] {
        cluster.inject(id(from), id(1), 1, MessageBody::VoteReply { granted: true });
        assert_eq!(cluster.core(id(1)).role(), role);
    }
}

/// Raft figure 2, candidates, 3: an append of this term comes from who has won it, and makes the candidate his
/// follower; its vote stays, and votes that come now count no more. One of an older term does not. Fails if
/// `follow` does not give up the campaign, or `on_append` does not compare the term.
#[test]
fn candidates_3_follow_a_new_leader() {
    let mut cluster = Cluster::formed(3);
    cluster.preset_log(id(1), &[1]);
    stand(&mut cluster, 1);
    write_all(&mut cluster, 1);
    cluster.inject(id(2), id(1), 1, heartbeat(None, 0));
    assert_eq!(cluster.core(id(1)).role(), Role::Candidate);
    cluster.inject(id(2), id(1), 2, append(Some(at(1, 0)), vec![entry(2, 1, "x")], 0));
    assert_eq!(cluster.core(id(1)).role(), Role::Follower);
    assert_eq!(cluster.core(id(1)).leader(), Some(id(2)));
    assert_eq!(log(&cluster, 1), [at(1, 0), at(2, 1)]);
    cluster.inject(id(3), id(1), 2, MessageBody::VoteReply { granted: true });
    assert_eq!(cluster.core(id(1)).role(), Role::Follower);
    write_all(&mut cluster, 1);
    assert_eq!(cluster.node(id(1)).disk.hard_state.vote, Some(identity(id(1), 0)));
}

/// Raft figure 2, candidates, 4: a campaign that has not ended when its time is over is followed by another one, in
/// another term. Fails if `wake` leaves candidates alone.
#[test]
fn candidates_4_campaign_again_when_the_timeout_is_over() {
    let mut cluster = Cluster::formed(3);
    for term in 1..4 {
        stand(&mut cluster, 1);
        write_all(&mut cluster, 1);
        assert_eq!(cluster.core(id(1)).term(), Term::new(term));
        assert_eq!(said_to(&mut cluster, 1, 2), [vote(None)]);
    }
}
