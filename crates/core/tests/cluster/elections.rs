//! Named scenarios: elections. Each says which protection, when removed, makes it fail.

use crate::harness::{Cluster, accepted, id, identity};
use std::collections::BTreeSet;
use std::time::Duration;
use tinyraftplus_core::{
    EntryId, Event, Input, Message, MessageBody, Options, OptionsError, Role, Seq, Term,
};

const fn vote(last: Option<EntryId>) -> MessageBody<String> {
    MessageBody::Vote { last, transfer: false }
}

/// Whether a node has granted a vote in what it sent, which is thrown away.
fn granted(cluster: &mut Cluster, node: u64) -> bool {
    let sent = cluster.take_sent_by(id(node));
    sent.iter().any(|l| matches!(l.message.body, MessageBody::VoteReply { granted: true }))
}

/// Two and two of four nodes elect nobody. Fails if a quorum is `members.div_ceil(2)`.
#[test]
fn even_cluster_split_brain() {
    let mut cluster = Cluster::formed(4);
    cluster.partition(&[&[1, 2], &[3, 4]]);
    assert!(!cluster.until(200, |cluster| cluster.leader().is_some()));
    cluster.heal();
    assert!(cluster.until(200, |cluster| cluster.leader().is_some()), "together they do");
}

/// A node that voted and starts again votes for nobody else in that term. Fails if `on_vote` does not
/// persist the vote.
#[test]
fn vote_forgotten_on_restart() {
    let mut cluster = Cluster::formed(3);
    cluster.inject(id(1), id(2), 1, vote(None));
    while cluster.persist(id(2)) {}
    assert!(granted(&mut cluster, 2));
    cluster.restart(id(2));
    cluster.inject(id(3), id(2), 1, vote(None));
    while cluster.persist(id(2)) {}
    assert!(!granted(&mut cluster, 2), "two votes in one term");
    cluster.inject(id(1), id(2), 1, vote(None));
    assert!(granted(&mut cluster, 2), "the same candidate may ask again");
}

/// A vote belongs to its term, not to the leader it made. Fails if the vote is cleared in `pre_campaign`,
/// where a node gives up its leader.
#[test]
fn vote_cleared_on_leader_change() {
    let mut cluster = Cluster::formed(3);
    cluster.inject(id(1), id(2), 1, vote(None));
    cluster.persist(id(2));
    assert!(granted(&mut cluster, 2));
    let heartbeat =
        MessageBody::Append { prev: None, entries: Vec::new(), committed: Seq::ZERO, round: 0 };
    cluster.inject(id(1), id(2), 1, heartbeat);
    assert_eq!(cluster.core(id(2)).leader(), Some(id(1)));
    cluster.wake(id(2));
    assert_eq!(cluster.core(id(2)).leader(), None);
    cluster.inject(id(3), id(2), 1, vote(None));
    cluster.persist(id(2));
    assert!(!granted(&mut cluster, 2), "two votes in one term");
}

/// A term that was learnt from somebody is no vote for him: node 2 sees term 5 in what node 1 says, whose log is
/// older. It has voted for nobody, gives node 1 nothing when he asks, and node 3, whose log is good, its vote.
/// Fails if `adopt_term` takes who brings a term for who gets the vote in it.
#[test]
fn vote_granted_by_adoption() {
    for brings in [
        MessageBody::VoteReply { granted: false },
        MessageBody::PreVoteReply { granted: false },
        MessageBody::Rejected { prev: None, hint: None, round: 0 },
        vote(None),
    ] {
        let mut cluster = Cluster::formed(3);
        cluster.preset_log(id(2), &[1, 2]);
        cluster.inject(id(1), id(2), 5, brings);
        while cluster.persist(id(2)) {}
        cluster.flying.clear();
        assert_eq!(cluster.core(id(2)).term(), Term::new(5));
        assert_eq!(cluster.node(id(2)).disk.hard_state.vote, None);
        cluster.restart(id(2));
        let last = EntryId::new(Term::new(2), Seq::new(1));
        for (from, last, yes) in [(1, None, false), (3, Some(last), true), (1, Some(last), false)] {
            cluster.inject(id(from), id(2), 5, vote(last));
            while cluster.persist(id(2)) {}
            assert_eq!(granted(&mut cluster, 2), yes, "to {from}");
        }
    }
}

/// A vote leaves only when it is durable. Fails if `on_vote` sends with `send` instead of `send_after`.
#[test]
fn reply_before_sync() {
    let mut cluster = Cluster::formed(3);
    cluster.inject(id(1), id(2), 1, vote(None));
    assert!(cluster.take_sent_by(id(2)).is_empty(), "answered before the sync");
    cluster.persist(id(2));
    assert!(granted(&mut cluster, 2));
}

/// A long log of an old term and a short log of a new one need each other's vote. Fails if a refused
/// pre-vote does not bring its sender the newer term.
#[test]
fn prevote_deadlock() {
    let mut cluster = Cluster::formed(3);
    cluster.preset_log(id(1), &[1, 1, 2, 2]);
    cluster.preset(id(2), |disk| disk.hard_state.term = Term::new(9));
    cluster.crash(id(3), 0);
    assert!(cluster.until(200, |cluster| cluster.leader() == Some(id(1))));
}

/// Pre-vote grants that come late, or twice, are no votes and start no second campaign. Fails if
/// `on_pre_vote_reply` counts a grant whatever the campaign and the term.
#[test]
fn stale_prevote_after_winning() {
    let mut cluster = Cluster::formed(5);
    cluster.wake(id(1));
    let grant = |cluster: &mut Cluster, from| {
        let body = MessageBody::PreVoteReply { granted: true };
        cluster.inject(id(from), id(1), 1, body);
    };
    (2..=3).for_each(|from| grant(&mut cluster, from));
    while cluster.persist(id(1)) {}
    (2..=5).for_each(|from| grant(&mut cluster, from));
    assert_eq!(cluster.core(id(1)).role(), Role::Candidate, "a pre-vote is no vote");
    assert_eq!(cluster.core(id(1)).term(), Term::new(1));
    cluster.flying.retain(|l| matches!(l.message.body, MessageBody::Vote { .. }));
    cluster.settle();
    assert_eq!(cluster.core(id(1)).role(), Role::Leader);
    (2..=5).for_each(|from| grant(&mut cluster, from));
    cluster.settle();
    assert_eq!(cluster.core(id(1)).role(), Role::Leader);
    assert_eq!(cluster.core(id(1)).term(), Term::new(1));
}

/// Node 3 reaches node 2 but not the leader: it must not depose it, again and again. Fails if `on_pre_vote`
/// does not ask whether it hears from a leader.
#[test]
fn partial_partition_livelock() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.partition(&[&[1, 2], &[2, 3]]);
    for _ in 0..100 {
        cluster.advance();
    }
    assert_eq!(cluster.leader(), Some(id(1)));
    assert_eq!(cluster.core(id(2)).term(), Term::new(1));
    cluster.propose(id(1), &["x"]);
    cluster.settle();
    assert_eq!(cluster.core(id(2)).durable(), Seq::new(2), "and it works on");
}

/// A leader whose heartbeats arrive but who hears nothing can commit nothing, and keeps all others from
/// electing one who can. Fails if `check_quorum` does not step down.
#[test]
fn deaf_leader_steps_down() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.link(id(2), id(1), false);
    cluster.link(id(3), id(1), false);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some_and(|leader| leader != id(1))));
}

/// The leader's disk hangs: it yields, another leads and commits. Fails if `persist_stalled` does not step
/// down, or if a node with a stalled disk campaigns.
#[test]
fn leader_disk_stall() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.stuck.insert(id(1));
    cluster.propose(id(1), &["x"]);
    let job = cluster.node(id(1)).jobs.front().unwrap().job;
    cluster.step(id(1), Input::PersistStalled { job });
    assert!(cluster.events.contains(&(id(1), Event::Yielded)));
    let ok = cluster.until(100, |cluster| {
        assert_ne!(cluster.core(id(1)).role(), Role::Candidate, "it can't lead");
        cluster.leader().is_some_and(|l| l != id(1) && cluster.core(l).committed() > Seq::new(1))
    });
    assert!(ok, "nobody takes over");
}

/// All nodes are given one seed, and yet draw different timeouts. Fails if `Rng::new` leaves out the identity.
#[test]
fn same_seed_timeouts() {
    let cluster = Cluster::formed_with(5, |options| options.seed = 7);
    let deadlines: BTreeSet<_> = (1..=5).map(|n| cluster.core(id(n)).wake_at()).collect();
    assert_eq!(deadlines.len(), 5);
}

/// Timeouts that would never elect a leader, or never let one stay, are refused, and absurd ones don't
/// overflow. Fails if `Options::check` compares without the factor of two, or does not look at the jitter.
#[test]
fn timeouts_inconsistent() {
    let options = |heartbeat: Duration, election: Duration| {
        let mut options = Options::new(id(1), vec![id(1)], 0);
        (options.heartbeat_interval, options.election_timeout) = (heartbeat, election);
        options.check()
    };
    let millis = Duration::from_millis;
    let refused = |result| matches!(result, Err(OptionsError::Timeouts { .. }));
    assert!(refused(options(millis(100), millis(199))));
    assert!(refused(options(Duration::ZERO, millis(199))));
    assert!(refused(options(Duration::MAX, millis(500))));
    assert_eq!(options(millis(100), millis(200)), Ok(()));
    assert_eq!(options(millis(1), Duration::MAX), Ok(()));
    let without_jitter = |members: Vec<_>| {
        let mut options = Options::new(id(1), members, 0);
        options.election_jitter = Duration::ZERO;
        options.check()
    };
    assert_eq!(without_jitter(vec![id(1)]), Ok(()));
    assert_eq!(without_jitter(vec![id(1), id(2)]), Err(OptionsError::NoJitter));
}

/// A vote for the log that this node had before comes late, to the log that has its place now. It is not for this one.
/// Fails if `receive` does not look whom a message is meant for.
#[test]
fn a_vote_for_the_log_before() {
    let mut cluster = Cluster::formed(3);
    cluster.wake(id(1));
    cluster.inject(id(2), id(1), 1, MessageBody::PreVoteReply { granted: true });
    while cluster.persist(id(1)) {}
    let reply = |to| Message {
        from: identity(id(2), 0),
        to: Some(to),
        term: Term::new(1),
        body: MessageBody::VoteReply { granted: true },
    };
    for (to, role) in [(identity(id(1), 7), Role::Candidate), (identity(id(1), 0), Role::Leader)] {
        cluster.step(id(1), Input::Receive { from: id(2), message: reply(to) });
        assert_eq!(cluster.core(id(1)).role(), role);
    }
}

/// A node lost its disk and is asked for its vote under its old name, and says that it has entries. It helps
/// nobody to be elected, and what it acknowledges counts for nothing. Fails if what a log says counts
/// for its name.
#[test]
fn wiped_node_same_id() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.wipe(id(3));
    cluster.partition(&[&[1, 3]]);
    cluster.wake(id(3));
    cluster.settle();
    assert_eq!(cluster.core(id(3)).role(), Role::Learner);
    cluster.propose(id(1), &["x"]);
    cluster.settle();
    let end = cluster.core(id(1)).terms().end();
    cluster.inject(id(3), id(1), 1, accepted(end, 0));
    assert!(cluster.core(id(1)).committed() < end, "an empty disk is no copy");
    cluster.flying.clear();
    let last = cluster.core(id(1)).terms().last();
    cluster.inject(id(1), id(3), 5, vote(last));
    cluster.settle();
    assert_eq!(cluster.core(id(3)).term(), Term::ZERO, "it takes no part");
}

/// The node that formed the cluster comes back on an empty disk while only another empty one answers. It
/// does not form a second cluster. Fails if `found` does not wait for all members.
#[test]
fn rebootstrap_after_wipe() {
    let mut cluster = Cluster::unformed(3);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some()));
    cluster.wipe(id(1));
    cluster.wipe(id(3));
    cluster.partition(&[&[1, 3]]);
    for _ in 0..50 {
        cluster.advance();
    }
    assert_eq!(cluster.core(id(1)).configuration(), None);
    cluster.heal();
    for _ in 0..50 {
        cluster.advance();
    }
    assert_eq!(cluster.core(id(1)).role(), Role::Learner);
    assert!(cluster.events.contains(&(id(1), Event::Wiped)));
}

/// A node was started with another first position after the founder had counted it in. The configuration
/// decides where the log begins. Fails if `configure` leaves an empty log where it is.
#[test]
fn configuration_decides_where_the_log_begins() {
    let mut cluster = Cluster::unformed(2);
    cluster.wake(id(1));
    cluster.deliver_all(id(1), id(2));
    cluster.deliver_all(id(2), id(1));
    cluster.crash(id(2), 0);
    let node = cluster.nodes.get_mut(&id(2)).unwrap();
    node.options.first_seq = Seq::new(10);
    node.disk.start = Seq::new(10);
    cluster.start(id(2));
    let node = cluster.nodes.get_mut(&id(2)).unwrap();
    node.applied = Seq::ZERO;
    cluster.settle();
    cluster.elect(id(1));
    assert_eq!(cluster.core(id(2)).committed(), Seq::new(1));
    cluster.restart(id(2));
    assert_eq!(cluster.core(id(2)).terms().start(), Seq::ZERO);
}
