//! Thesis, section 9.6: a server asks whether it would be elected before it begins a term.

use super::{at, heartbeat, pass, said, said_to, vote, write_all};
use crate::harness::{Cluster, id};
use tinyraftplus_core::{MessageBody, Role, Term};

const fn pre_vote(last: Option<tinyraftplus_core::EntryId>) -> MessageBody<String> {
    MessageBody::PreVote { last }
}

const fn reply(granted: bool) -> MessageBody<String> {
    MessageBody::PreVoteReply { granted }
}

/// Thesis 9.6: a candidate begins a new term only when a majority has said that it would vote for it. Fails if
/// `pre_campaign` campaigns at once, or `count_votes` takes fewer.
#[test]
fn a_term_begins_only_when_a_majority_would_vote() {
    let mut cluster = Cluster::formed(5);
    for _ in 0..3 {
        cluster.wake(id(1));
        let asked = said(&mut cluster, 1);
        assert_eq!(asked.len(), 4);
        assert!(asked.iter().all(|letter| letter.message.body == pre_vote(None)));
        assert!(asked.iter().all(|letter| letter.message.term == Term::new(1)));
        assert_eq!(cluster.core(id(1)).term(), Term::ZERO);
        assert!(cluster.node(id(1)).jobs.is_empty(), "nothing is promised by asking");
    }
    for (from, term) in [(2, 0), (2, 0), (3, 1)] {
        cluster.inject(id(from), id(1), 1, reply(true));
        assert_eq!(cluster.core(id(1)).term(), Term::new(term));
    }
}

/// Thesis 9.6: they would if the log is new enough, as for a vote. Fails if `on_pre_vote` does not compare.
#[test]
fn nobody_would_vote_for_an_older_log() {
    let mut cluster = Cluster::formed(3);
    cluster.preset_log(id(2), &[1, 2, 2]);
    for (last, granted) in
        [(None, false), (Some(at(1, 9)), false), (Some(at(2, 1)), false), (Some(at(2, 2)), true)]
    {
        cluster.inject(id(1), id(2), 3, pre_vote(last));
        assert_eq!(said_to(&mut cluster, 2, 1), [reply(granted)]);
    }
}

/// Thesis 9.6: and if the voter has heard from no leader for at least the smallest election timeout; a leader always
/// has. Fails if `on_pre_vote` does not look at the last contact, or `step_down` keeps it.
#[test]
fn nobody_would_vote_who_hears_from_a_leader() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    let last = cluster.core(id(2)).terms().last();
    cluster.inject(id(1), id(2), 1, heartbeat(last, 0));
    cluster.flying.clear();
    for (millis, granted) in [(0, false), (499, false), (1, true)] {
        pass(&mut cluster, millis);
        cluster.inject(id(3), id(2), 2, pre_vote(last));
        assert_eq!(said_to(&mut cluster, 2, 3), [reply(granted)]);
    }
    pass(&mut cluster, 10_000);
    cluster.inject(id(3), id(1), 2, pre_vote(last));
    let answers = said_to(&mut cluster, 1, 3);
    assert!(answers.contains(&reply(false)), "it leads");
    // A leader of a past term is none.
    cluster.inject(id(1), id(2), 1, heartbeat(last, 0));
    cluster.inject(id(3), id(2), 2, vote(None));
    write_all(&mut cluster, 2);
    cluster.flying.clear();
    cluster.inject(id(3), id(2), 3, pre_vote(last));
    assert_eq!(said_to(&mut cluster, 2, 3), [reply(true)]);
}

/// Thesis 9.6: a yes promises nothing and changes nothing. Two may ask in one term, and get it. Fails if
/// `on_pre_vote` stores anything, or resets the timer.
#[test]
fn a_pre_vote_changes_nothing_at_the_voter() {
    let mut cluster = Cluster::formed(3);
    cluster.preset_log(id(2), &[1]);
    let before = cluster.core(id(2)).wake_at();
    for from in [1, 3] {
        cluster.inject(id(from), id(2), 2, pre_vote(Some(at(1, 0))));
        assert_eq!(said_to(&mut cluster, 2, from), [reply(true)]);
    }
    let core = cluster.core(id(2));
    assert_eq!((core.term(), core.role(), core.wake_at()), (Term::new(1), Role::Follower, before));
    assert!(cluster.node(id(2)).jobs.is_empty());
    // The true vote is still free, and given once.
    for (from, granted) in [(3, true), (1, false)] {
        cluster.inject(id(from), id(2), 2, vote(Some(at(1, 0))));
        write_all(&mut cluster, 2);
        assert_eq!(said_to(&mut cluster, 2, from), [MessageBody::VoteReply { granted }]);
    }
}

/// Thesis 9.6: a server that was cut off has the term of before when it comes back, however long that took, and
/// deposes nobody. Fails if `pre_campaign` begins a term.
#[test]
fn a_server_that_was_cut_off_disturbs_nobody() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.partition(&[&[1, 2]]);
    cluster.propose(id(1), &["a"]);
    for _ in 0..200 {
        cluster.advance();
    }
    assert_eq!(cluster.core(id(3)).role(), Role::Candidate);
    assert_eq!(cluster.core(id(3)).term(), Term::new(1));
    cluster.heal();
    for _ in 0..50 {
        cluster.advance();
    }
    assert_eq!(cluster.leader(), Some(id(1)));
    assert_eq!(cluster.core(id(1)).term(), Term::new(1));
    assert_eq!(cluster.core(id(3)).leader(), Some(id(1)));
}

/// A departure: a no carries the voter's term, so who asks learns of a newer one. Where all ask before they vote, a
/// newer term that nobody tells is never learnt: a long log of an old term and a short one of a new would refuse each
/// other for ever. That it is adopted is Raft figure 2's rule for all servers. Fails if `on_pre_vote` answers in the
/// asker's term, or before its own is durable.
#[test]
fn a_no_tells_the_term() {
    let mut cluster = Cluster::formed(3);
    cluster.preset_log(id(2), &[1]);
    cluster.inject(id(3), id(2), 7, vote(None));
    cluster.inject(id(1), id(2), 2, pre_vote(Some(at(1, 0))));
    assert!(said(&mut cluster, 2).is_empty(), "its term is not durable yet");
    write_all(&mut cluster, 2);
    cluster.flying.clear();
    cluster.inject(id(1), id(2), 2, pre_vote(Some(at(1, 0))));
    let sent = said(&mut cluster, 2);
    assert_eq!((sent[0].message.term, &sent[0].message.body), (Term::new(7), &reply(false)));
    cluster.flying.extend(sent);
    cluster.deliver(0);
    assert_eq!(cluster.core(id(1)).term(), Term::new(7));
}
