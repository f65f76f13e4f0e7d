//! Thesis, sections 4.1 to 4.3, and Raft section 6: changing the members by joint consensus.

use super::{accepted, append, at, log, others, said_to, vote, win, write_all};
use crate::harness::{Cluster, entry, id};
use tinyraftplus_core::{
    EntryBody, MemberSpec, MessageBody, NodeId, Resolution, Role, Seq, Ticket,
};

fn is_joint(cluster: &Cluster, node: u64) -> bool {
    cluster.core(id(node)).configuration().is_some_and(|it| it.old().is_some())
}

/// The voters by which a node decides: those that come, then those that go.
fn halves(cluster: &Cluster, node: u64) -> Vec<Vec<NodeId>> {
    let configuration = cluster.core(id(node)).configuration().unwrap();
    let halves = configuration.halves();
    halves.map(|half| half.voters().map(|member| member.id).collect()).collect()
}

fn ids(numbers: &[u64]) -> Vec<NodeId> {
    numbers.iter().copied().map(id).collect()
}

/// The positions of the configurations in a node's log.
fn configurations(cluster: &Cluster, node: u64) -> Vec<Seq> {
    let entries = cluster.node(id(node)).view.entries.iter();
    let changes = entries.filter(|entry| matches!(entry.body, EntryBody::Configuration(_)));
    changes.map(|entry| entry.id.seq).collect()
}

/// Nodes 1 to 3, led by node 1, and learners 4 and 5, which have everything. Node 1 is asked for {1, 4, 5} and has just
/// put the joint configuration into its log; the others know of it in the letters that are on their way, at most.
fn between() -> (Cluster, Ticket) {
    changing(&[1, 4, 5])
}

fn changing(voters: &[u64]) -> (Cluster, Ticket) {
    let mut cluster = with_learners(&[4, 5]);
    let ticket = cluster.set_voters(id(1), voters);
    assert!(is_joint(&cluster, 1));
    (cluster, ticket)
}

fn with_learners(learners: &[u64]) -> Cluster {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    let mut members = [1, 2, 3].map(|voter| MemberSpec::voter(id(voter))).to_vec();
    for &learner in learners {
        cluster.join(learner);
        members.push(MemberSpec::learner(id(learner)));
    }
    let ticket = cluster.set_members(id(1), members, None);
    let have_all = |cluster: &Cluster| {
        let end = cluster.core(id(1)).terms().end();
        cluster.nodes.values().all(|node| node.applied == end)
    };
    assert!(cluster.until(50, |cluster| cluster.answer(ticket).is_some() && have_all(cluster)));
    cluster
}

/// Node 1's own disk has everything, and these say that theirs have too.
fn acknowledged_by(cluster: &mut Cluster, nodes: &[u64]) {
    write_all(cluster, 1);
    let (term, end) = (cluster.core(id(1)).term().get(), cluster.core(id(1)).terms().end());
    for &node in nodes {
        cluster.inject(id(node), id(1), term, accepted(end.get()));
    }
}

/// All others get what node 1 has sent, and write it; nothing comes back, and node 1 dies.
fn all_have_it_and_the_leader_dies(cluster: &mut Cluster) {
    for node in others(cluster, 1) {
        cluster.deliver_all(id(1), id(node));
        write_all(cluster, node);
        assert!(is_joint(cluster, node));
    }
    cluster.flying.clear();
    cluster.crash(id(1), 0);
}

/// Whether a node of those that reach each other is elected. (One that is removed does not lead for long.)
fn is_elected(cluster: &mut Cluster, node: u64, among: &[u64]) -> bool {
    cluster.partition(&[among]);
    for _ in 0..5 {
        cluster.now = cluster.now + cluster.node(id(node)).options.election_timeout * 3;
        cluster.wake(id(node));
        while !cluster.flying.is_empty() {
            cluster.deliver(0);
            for &node in among {
                write_all(cluster, node);
            }
            if cluster.core(id(node)).role() == Role::Leader {
                return true;
            }
        }
    }
    false
}

/// Thesis 4.3: entries go to all servers of both configurations. Fails if `know_peers` takes away those that leave and
/// `everyone` leaves them out: either alone is enough to send to them.
#[test]
fn entries_go_to_both_configurations() {
    let (mut cluster, _) = between();
    assert_eq!(halves(&cluster, 1), [ids(&[1, 4, 5]), ids(&[1, 2, 3])]);
    let last = cluster.core(id(1)).terms().last().unwrap();
    let sent = cluster.flying.clone();
    for node in 2..=5 {
        cluster.flying.clone_from(&sent);
        let bodies = said_to(&mut cluster, 1, node);
        let has = |body: &MessageBody<String>| matches!(body, MessageBody::Append { entries, .. } if entries.iter().any(|e| e.id == last));
        assert!(bodies.iter().any(has), "node {node} is not told");
    }
}

/// Thesis 4.3: any server of either configuration may lead. Fails if `may_lead` asks only one half.
#[test]
fn a_server_of_either_configuration_may_lead() {
    for candidate in [3, 4] {
        let (mut cluster, _) = between();
        all_have_it_and_the_leader_dies(&mut cluster);
        assert!(is_elected(&mut cluster, candidate, &[2, 3, 4, 5]), "node {candidate}");
    }
}

/// Thesis 4.3: an election needs a majority of the old configuration and one of the new. Fails if `elects` asks one
/// half, or counts both together.
#[test]
fn elections_need_a_majority_of_both() {
    for (candidate, among, elected) in [
        (3, &[2, 3][..], false),
        (3, &[3, 4, 5], false),
        (4, &[4, 5], false),
        (3, &[2, 3, 4], false),
        (3, &[2, 3, 4, 5], true),
        (5, &[2, 3, 4, 5], true),
    ] {
        let (mut cluster, _) = between();
        all_have_it_and_the_leader_dies(&mut cluster);
        assert_eq!(is_elected(&mut cluster, candidate, among), elected, "{candidate} by {among:?}");
    }
}

/// Thesis 4.3: and so does a commit. The joint configuration itself is such an entry: what decides is the newest
/// configuration in a server's log, committed or not. Fails if `agreed` takes one half, or the larger.
#[test]
fn commits_need_a_majority_of_both() {
    for (have, committed) in
        [(&[2, 3][..], false), (&[4, 5], false), (&[2, 4], true), (&[2, 3, 4, 5], true)]
    {
        let (mut cluster, _) = between();
        let at = configurations(&cluster, 1).pop().unwrap();
        acknowledged_by(&mut cluster, have);
        assert_eq!(cluster.core(id(1)).committed() > at, committed, "{have:?} have it");
    }
}

/// Thesis 4.1: a server decides by the newest configuration in its log from when it is there, not from when it is
/// committed; one that lacks it, by the one before. So a majority of the old may elect a server that has not
/// got it; the new alone decides nothing. Fails if `take` does not put it in force, or `receive` goes by another's.
#[test]
fn a_configuration_is_in_force_as_soon_as_it_is_in_the_log() {
    let (mut cluster, _) = between();
    for node in [3, 4, 5] {
        cluster.deliver_all(id(1), id(node));
        assert_eq!(halves(&cluster, node), [ids(&[1, 4, 5]), ids(&[1, 2, 3])], "not even durable");
        write_all(&mut cluster, node);
    }
    assert_eq!(halves(&cluster, 2).len(), 1);
    cluster.flying.clear();
    cluster.crash(id(1), 0);
    assert!(!is_elected(&mut cluster, 3, &[2, 3]), "it knows that it needs the new");
    assert!(!is_elected(&mut cluster, 4, &[3, 4, 5]), "the new alone decide nothing");
    cluster.crash(id(3), 0);
    cluster.preset(id(3), |disk| {
        disk.entries.pop();
        disk.remember_newest();
    });
    assert_eq!(halves(&cluster, 3).len(), 1);
    assert!(is_elected(&mut cluster, 2, &[2, 3]), "under the old, of which nobody here has left");
}

/// Thesis 4.3: once the joint configuration is committed, and not before, the leader appends the new one. Fails if
/// `change_on` does not wait for the commit, or nobody ends it.
#[test]
fn the_new_configuration_follows_when_the_joint_one_is_committed() {
    let (mut cluster, _) = between();
    let before = configurations(&cluster, 1);
    for node in [4, 5] {
        acknowledged_by(&mut cluster, &[node]);
        assert_eq!(configurations(&cluster, 1), before, "the old have not agreed");
    }
    acknowledged_by(&mut cluster, &[2]);
    assert_eq!(configurations(&cluster, 1).len(), before.len() + 1);
    assert_eq!(halves(&cluster, 1), [ids(&[1, 4, 5])]);
    acknowledged_by(&mut cluster, &[4]);
    assert_eq!(configurations(&cluster, 1).len(), before.len() + 1, "and once");
}

/// Thesis 4.3: the new configuration too is in force when it is in the log, and committed by its own rules; then the
/// old is over, and servers that are not in the new can be shut down. Fails if `towards` or `left` keeps the old half.
#[test]
fn servers_that_are_not_in_the_new_configuration_are_free_to_go() {
    let (mut cluster, ticket) = between();
    acknowledged_by(&mut cluster, &[2, 4]);
    let at = configurations(&cluster, 1).pop().unwrap();
    acknowledged_by(&mut cluster, &[2, 3]);
    assert!(cluster.core(id(1)).committed() <= at, "they have no say any more");
    acknowledged_by(&mut cluster, &[5]);
    assert!(cluster.core(id(1)).committed() > at);
    assert!(cluster.answer(ticket).is_some());
    cluster.crash(id(2), 0);
    cluster.crash(id(3), 0);
    cluster.settle();
    assert!(is_elected(&mut cluster, 4, &[4, 5]));
}

/// Thesis 4.2.1: new servers receive first, as members without a vote, and are in no majority; the change goes on when
/// they have caught up. Fails if `find` takes them as voters, or `wait_for_learners` does not wait.
#[test]
fn new_servers_catch_up_before_they_vote() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    for _ in 0..1500 {
        cluster.propose(id(1), &["much"]);
    }
    cluster.settle();
    cluster.join(4);
    cluster.stuck.insert(id(4));
    cluster.set_voters(id(1), &[1, 2, 3, 4]);
    for _ in 0..50 {
        cluster.advance();
        assert_eq!(halves(&cluster, 1), [ids(&[1, 2, 3])]);
    }
    assert!(cluster.core(id(1)).configuration().unwrap().member(id(4)).is_some(), "it receives");
    cluster.stuck.clear();
    let done = cluster.until(300, |cluster| halves(cluster, 4) == [ids(&[1, 2, 3, 4])]);
    assert!(
        done,
        "{:?} {:?} {:?}",
        cluster.answers.last(),
        halves(&cluster, 1),
        halves(&cluster, 4)
    );
    // One that has everything, and no vote yet, makes no majority either.
    let mut cluster = with_learners(&[4]);
    cluster.partition(&[&[1, 4]]);
    let write = cluster.propose(id(1), &["x"]);
    cluster.settle();
    assert_eq!(cluster.core(id(4)).durable(), cluster.core(id(1)).terms().end());
    assert!(!matches!(cluster.answer(write), Some(Resolution::Committed { .. })));
}

/// Thesis 4.2.2: a leader that is not in the new configuration leads until that is committed, and does not count
/// himself for it; then he steps down. Fails if `retire` does not, or comes before the commit, or the new half counts
/// him. (A departure: he hands over first, so that nobody waits for an election.)
#[test]
fn a_leader_that_is_removed_leads_until_it_is_committed() {
    let (mut cluster, ticket) = changing(&[2, 3]);
    acknowledged_by(&mut cluster, &[2]);
    assert!(is_joint(&cluster, 1), "two of the old, one of the new");
    acknowledged_by(&mut cluster, &[3]);
    assert_eq!(halves(&cluster, 1), [ids(&[2, 3])]);
    acknowledged_by(&mut cluster, &[2]);
    assert_eq!(cluster.answer(ticket), None, "one of two, and himself, who is none of them");
    assert_eq!(cluster.core(id(1)).role(), Role::Leader);
    assert_eq!(cluster.core(id(1)).transferring(), None, "not before that is sure");
    acknowledged_by(&mut cluster, &[3]);
    assert!(cluster.answer(ticket).is_some());
    let left = |cluster: &Cluster| cluster.core(id(1)).role() == Role::Learner;
    assert!(cluster.until(20, left));
    assert!(cluster.until(20, |cluster| cluster.leader().is_some()));
}

/// Thesis 4.2.3: servers that were removed, and do not know it, time out and ask for votes, again and again; they must
/// not depose a leader of the new configuration. Fails if `on_pre_vote` does not look whether there is a leader.
#[test]
fn removed_servers_disturb_nobody() {
    let mut cluster = Cluster::formed(4);
    cluster.elect(id(1));
    cluster.partition(&[&[1, 2, 3]]);
    let ticket = cluster.set_voters(id(1), &[1, 2, 3]);
    assert!(cluster.until(100, |cluster| cluster.answer(ticket).is_some()));
    let term = cluster.core(id(1)).term();
    // It reaches the others, who hear from the leader; he does not reach it.
    cluster.partition(&[&[1, 2, 3], &[2, 3, 4]]);
    for _ in 0..200 {
        cluster.advance();
    }
    assert_eq!(cluster.core(id(1)).role(), Role::Leader);
    assert_eq!(cluster.core(id(1)).term(), term);
}

/// Thesis 4.1: a configuration that was not committed goes when its entry is replaced, and the one before is in force
/// again. Fails if `take` does not ask `without`.
#[test]
fn an_entry_that_goes_takes_its_configuration_along() {
    let (mut cluster, _) = changing(&[1, 2]);
    cluster.flying.clear();
    write_all(&mut cluster, 1);
    assert_eq!(halves(&cluster, 1).len(), 2);
    let last = cluster.core(id(1)).terms().last().unwrap();
    let prev = at(last.term.get(), last.seq.get() - 1);
    let other = entry(last.term.get() + 1, last.seq.get(), "x");
    cluster.inject(id(2), id(1), other.id.term.get(), append(Some(prev), vec![other.clone()], 0));
    assert_eq!(log(&cluster, 1).last(), Some(&other.id));
    assert_eq!(halves(&cluster, 1), [ids(&[1, 2, 3])]);
}

/// Thesis 4.1 leaves it out, and Ongaro added it in 2015: a leader changes nothing before an entry of his own term is
/// committed; an older leader's change may be, of which he does not know. Fails if `change_on` does not ask.
#[test]
fn a_leader_changes_nothing_before_his_first_commit() {
    let mut cluster = Cluster::formed(3);
    win(&mut cluster, 1);
    cluster.set_voters(id(1), &[1, 2]);
    for node in [2, 3] {
        cluster.inject(id(node), id(1), 1, accepted(0));
    }
    assert_eq!(configurations(&cluster, 1), [], "they hear him, and have nothing of his");
    acknowledged_by(&mut cluster, &[2]);
    assert_eq!(configurations(&cluster, 1), [Seq::new(1)]);
}

/// Thesis 4.1: one change at a time: the next begins when the one before is committed. Fails if `change_members` does not
/// look for one.
#[test]
fn one_change_at_a_time() {
    let (mut cluster, ticket) = between();
    let base = cluster.set_voters(id(1), &[1, 2]);
    assert!(cluster.answer(base).is_some(), "refused");
    cluster.settle();
    assert_eq!(halves(&cluster, 1), [ids(&[1, 4, 5])]);
    assert!(cluster.answer(ticket).is_some());
    let last = cluster.core(id(1)).terms().last();
    cluster.inject(id(2), id(4), 1, vote(last));
}
