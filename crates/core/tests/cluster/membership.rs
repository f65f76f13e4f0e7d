//! Changing who belongs to the cluster (Raft section 6, thesis chapter 4).

use crate::harness::{Cluster, accepted, id, identity};
use tinyraftplus_core::{
    Configuration, EntryBody, Event, Input, MemberSpec, Message, MessageBody, NodeId, Options,
    QuorumRule, Refusal, Resolution, Role, Rules, Seq, Term, quorum::CustomRule,
};

fn configuration(cluster: &Cluster, node: u64) -> &Configuration {
    cluster.core(id(node)).configuration().unwrap()
}

fn voters(cluster: &Cluster, node: u64) -> Vec<NodeId> {
    let configuration = configuration(cluster, node);
    assert!(configuration.old().is_none(), "node {node} is between two memberships");
    configuration.now().voters().map(|member| member.id).collect()
}

fn ids(numbers: &[u64]) -> Vec<NodeId> {
    numbers.iter().map(|&number| id(number)).collect()
}

/// Nodes 1 to `count`, led by node 1, and node 9, which is no member yet.
fn with_a_stranger(count: u64) -> Cluster {
    let mut cluster = Cluster::unformed(count);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some()));
    cluster.elect(id(1));
    cluster.join(9);
    cluster
}

fn changed(answer: Option<Resolution>) -> bool {
    matches!(answer, Some(Resolution::Changed { .. }))
}

/// Whether a node votes, and everything it has is committed.
fn settled(cluster: &Cluster, node: u64) -> bool {
    let core = cluster.core(id(node));
    core.role() == Role::Follower
        && core.committed() == core.terms().end()
        && core.configuration().is_some_and(|configuration| configuration.old().is_none())
}

/// How many configurations a log has, and how many of them are joint.
fn count(cluster: &Cluster, node: u64) -> (usize, usize) {
    let entries = cluster.node(id(node)).view.entries.iter();
    let configurations: Vec<_> = entries
        .filter_map(|entry| match &entry.body {
            EntryBody::Configuration(configuration) => Some(configuration),
            EntryBody::Noop | EntryBody::Payload(_) => None,
        })
        .collect();
    let joint = configurations.iter().filter(|configuration| configuration.old().is_some());
    (configurations.len(), joint.count())
}

/// A new voter is found, receives, catches up, and then counts; one that is removed no longer does, and is told.
#[test]
fn members_come_and_go() {
    let mut cluster = with_a_stranger(3);
    cluster.propose(id(1), &["a"]);
    let ticket = cluster.set_voters(id(1), &[1, 2, 3, 9]);
    assert!(cluster.until(100, |cluster| cluster.answer(ticket).is_some()));
    assert!(changed(cluster.answer(ticket)), "{:?}", cluster.answer(ticket));
    assert_eq!(voters(&cluster, 9), ids(&[1, 2, 3, 9]));
    assert_eq!(cluster.core(id(9)).role(), Role::Follower);
    assert_eq!(count(&cluster, 9), (3, 1), "a learner, both memberships, the new one");
    let ticket = cluster.set_voters(id(1), &[1, 9]);
    assert!(cluster.until(100, |cluster| changed(cluster.answer(ticket))));
    for node in [1, 2, 3, 9] {
        assert_eq!(voters(&cluster, node), ids(&[1, 9]), "node {node} knows");
    }
    assert_eq!(cluster.core(id(2)).role(), Role::Learner);
    assert!(cluster.events.contains(&(id(2), Event::Removed)));
    cluster.partition(&[&[1, 9], &[2, 3]]);
    let ticket = cluster.propose(id(1), &["b"]);
    cluster.settle();
    assert!(matches!(cluster.answer(ticket), Some(Resolution::Committed { .. })));
    cluster.crash(id(9), 0);
    let ticket = cluster.propose(id(1), &["c"]);
    cluster.settle();
    assert!(!matches!(cluster.answer(ticket), Some(Resolution::Committed { .. })));
}

/// Every member is replaced in one call.
#[test]
fn all_members_are_replaced_at_once() {
    let mut cluster = Cluster::unformed(3);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some()));
    for number in 4..=6 {
        cluster.join(number);
    }
    let leader = cluster.leader().unwrap();
    let ticket = cluster.set_voters(leader, &[4, 5, 6]);
    assert!(cluster.until(200, |cluster| changed(cluster.answer(ticket))));
    let leaves = |cluster: &Cluster| cluster.core(leader).role() != Role::Leader;
    assert!(cluster.until(100, leaves), "it leads nobody any more");
    for number in 1..=3 {
        cluster.crash(id(number), 0);
    }
    assert!(cluster.until(200, |cluster| cluster.leader().is_some()));
    let ticket = cluster.propose(cluster.leader().unwrap(), &["x"]);
    cluster.settle();
    assert!(matches!(cluster.answer(ticket), Some(Resolution::Committed { .. })));
}

/// `learner_counted`: a learner acknowledges and is asked for nothing: neither what it has nor its vote make a
/// quorum. Fails if `Membership::voters` lists all members.
#[test]
fn learner_counted() {
    let mut cluster = with_a_stranger(2);
    let members = [MemberSpec::voter(id(1)), MemberSpec::voter(id(2)), MemberSpec::learner(id(9))];
    let ticket = cluster.set_members(id(1), members.to_vec(), None);
    assert!(cluster.until(100, |cluster| changed(cluster.answer(ticket))));
    assert_eq!(count(&cluster, 1), (1, 0), "no quorum changed, so no joint step");
    cluster.partition(&[&[1, 9]]);
    let ticket = cluster.propose(id(1), &["x"]);
    cluster.settle();
    assert_eq!(cluster.core(id(9)).terms().end(), cluster.core(id(1)).terms().end());
    assert!(!matches!(cluster.answer(ticket), Some(Resolution::Committed { .. })));
    cluster.restart(id(1));
    for _ in 0..100 {
        cluster.advance();
    }
    assert_eq!(cluster.leader(), None, "one voter and a learner elect nobody");
    assert_eq!(cluster.core(id(9)).role(), Role::Learner);
}

/// `joint_read_stale`: from {1, 2, 3} to {1, 4, 5}, node 1 is still answered by 4 and 5, while 2 and 3 could
/// have elected another under the old membership. It confirms no read. Fails if `confirms` asks whether all
/// others of both halves together elect: 2 and 3 alone are no quorum of the new half.
#[test]
fn joint_read_stale() {
    let mut cluster = Cluster::unformed(3);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some()));
    cluster.elect(id(1));
    cluster.join(4);
    cluster.join(5);
    cluster.set_voters(id(1), &[1, 4, 5]);
    let joint = |cluster: &Cluster| configuration(cluster, 1).old().is_some();
    while !joint(&cluster) {
        assert!(!cluster.flying.is_empty() || cluster.advance_a_bit(), "there is no joint step");
        if !cluster.flying.is_empty() {
            cluster.deliver(0);
        }
        for node in [1, 2, 3, 4, 5].map(id) {
            if !joint(&cluster) {
                cluster.persist(node);
            }
        }
    }
    cluster.flying.clear();
    cluster.partition(&[&[1, 4, 5], &[2, 3]]);
    let read = cluster.read(id(1));
    cluster.settle();
    assert_eq!(cluster.answer(read), None, "2 and 3 may have elected another");
    cluster.heal();
    assert!(cluster.until(100, |cluster| cluster.answer(read).is_some()));
}

/// `uncommitted_config_ignored`: node 2 has the joint configuration in its log, not committed. It needs both
/// quorums to be elected. Fails if a campaign goes by the newest committed configuration.
#[test]
fn uncommitted_config_ignored() {
    let mut cluster = with_a_stranger(2);
    let ticket = cluster.set_voters(id(1), &[9]);
    assert!(cluster.until(100, |cluster| {
        cluster.core(id(2)).configuration().unwrap().old().is_some()
            || cluster.answer(ticket).is_some()
    }));
    // Node 2 keeps what it has, and the committed prefix is short of it.
    let at = joint_at(&cluster, 2);
    cluster.crash(id(1), 0);
    cluster.preset(id(2), |disk| {
        let end = usize::try_from(at.after().since(disk.start)).unwrap();
        disk.entries.truncate(end);
        disk.remember_newest();
    });
    cluster.preset(id(1), |_| {});
    cluster.crash(id(1), 0);
    cluster.crash(id(9), 0);
    for _ in 0..20 {
        cluster.now = cluster.now + cluster.node(id(2)).options.election_timeout * 3;
        cluster.wake(id(2));
        cluster.settle();
        assert_ne!(cluster.core(id(2)).role(), Role::Leader, "neither quorum is there");
    }
    cluster.start(id(1));
    for _ in 0..20 {
        cluster.now = cluster.now + cluster.node(id(2)).options.election_timeout * 3;
        cluster.wake(id(2));
        cluster.settle();
        assert_ne!(cluster.core(id(2)).role(), Role::Leader, "the new membership was not asked");
    }
}

fn joint_at(cluster: &Cluster, node: u64) -> Seq {
    let entries = cluster.node(id(node)).view.entries.iter();
    let joint = entries.filter(|entry| match &entry.body {
        EntryBody::Configuration(configuration) => configuration.old().is_some(),
        EntryBody::Noop | EntryBody::Payload(_) => false,
    });
    joint.map(|entry| entry.id.seq).next().unwrap()
}

/// `reconfig_before_own_commit`: a new leader changes no member before an entry of its own term is committed.
/// Fails if `change_on` does not ask `has_committed`.
#[test]
fn reconfig_before_own_commit() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    // It leads again, and nothing of its new term gets through.
    cluster.now = cluster.now + cluster.node(id(1)).options.election_timeout * 3;
    cluster.wake(id(1));
    cluster.flying.clear();
    cluster.now = cluster.now + cluster.node(id(1)).options.election_timeout * 3;
    cluster.wake(id(1));
    cluster.deliver_all(id(1), id(2));
    cluster.deliver_all(id(2), id(1));
    cluster.persist(id(1));
    cluster.deliver_all(id(1), id(2));
    cluster.persist(id(2));
    cluster.deliver_all(id(2), id(1));
    assert_eq!(cluster.core(id(1)).role(), Role::Leader);
    cluster.flying.clear();
    let ticket = cluster.set_voters(id(1), &[1, 2]);
    cluster.partition(&[&[1]]);
    while cluster.persist(id(1)) {}
    for node in [2, 3] {
        // It is heard, but not obeyed yet.
        cluster.inject(id(node), id(1), 2, accepted(Seq::new(1), 0));
    }
    assert_eq!(count(&cluster, 1), (0, 0), "no change before the own commit");
    cluster.heal();
    assert!(cluster.until(100, |cluster| cluster.answer(ticket).is_some()));
}

/// `joint_auto_leave_repeats`: each joint configuration is ended once, by whoever leads then, also after its
/// leader has died. Fails if `change_on` ends a joint configuration that is not committed, or never.
#[test]
fn joint_auto_leave_repeats() {
    let mut cluster = with_a_stranger(3);
    cluster.set_voters(id(1), &[1, 2, 9]);
    assert!(cluster.until(100, |cluster| {
        let joint = |node| cluster.core(id(node)).configuration().unwrap().old().is_some();
        [1, 2, 3].into_iter().any(joint) || count(cluster, 1).1 > 0
    }));
    cluster.crash(id(1), 0);
    assert!(cluster.until(300, |cluster| {
        let led = cluster.leader().is_some_and(|leader| leader != id(1));
        led && configuration(cluster, 2).old().is_none() && count(cluster, 2).1 > 0
    }));
    for _ in 0..50 {
        cluster.advance();
    }
    assert_eq!(count(&cluster, 2), (3, 1));
    assert_eq!(voters(&cluster, 2), ids(&[1, 2, 9]));
}

/// `config_rollback`: a configuration that was never committed is replaced, and the one before it is in force
/// again, also after a restart in between. Fails if `without` keeps the newest, or `Persist::configuration`
/// leaves out the one before.
#[test]
fn config_rollback() {
    for restarts in [false, true] {
        let mut cluster = Cluster::formed(3);
        cluster.elect(id(1));
        cluster.partition(&[&[1], &[2, 3]]);
        cluster.set_voters(id(1), &[1]);
        while cluster.persist(id(1)) {}
        assert!(configuration(&cluster, 1).old().is_some());
        if restarts {
            cluster.restart(id(1));
            assert!(configuration(&cluster, 1).old().is_some(), "it is in force, committed or not");
        }
        cluster.elect(id(2));
        cluster.heal();
        assert!(cluster.until(100, |cluster| {
            cluster.core(id(1)).terms().last() == cluster.core(id(2)).terms().last()
        }));
        assert_eq!(voters(&cluster, 1), ids(&[1, 2, 3]), "restarts: {restarts}");
        cluster.restart(id(1));
        assert_eq!(voters(&cluster, 1), ids(&[1, 2, 3]), "restarts: {restarts}");
    }
}

/// `slow_member_blocks_change`: a new voter that never answers, and one that never catches up, hold up nobody:
/// the change is refused in time, naming it, and the leader goes on. Fails if `find` or `wait_for_learners`
/// ignore `until`.
#[test]
fn slow_member_blocks_change() {
    let mut cluster = with_a_stranger(3);
    cluster.crash(id(9), 0);
    let ticket = cluster.set_voters(id(1), &[1, 2, 3, 9]);
    let write = cluster.propose(id(1), &["a"]);
    assert!(cluster.until(2000, |cluster| cluster.answer(ticket).is_some()));
    let unreachable = Resolution::Refused(Refusal::Unreachable(id(9)));
    assert_eq!(cluster.answer(ticket), Some(unreachable));
    assert!(matches!(cluster.answer(write), Some(Resolution::Committed { .. })));
    assert_eq!(count(&cluster, 1), (0, 0), "refused means that nothing happened");

    cluster.start(id(9));
    for _ in 0..1500 {
        cluster.propose(id(1), &["much"]);
    }
    cluster.settle();
    let ticket = cluster.set_voters(id(1), &[1, 2, 3, 9]);
    // It says who it is, and its disk never finishes anything afterwards.
    cluster.stuck.insert(id(9));
    assert!(cluster.until(3000, |cluster| cluster.answer(ticket).is_some()));
    let slow = Resolution::Refused(Refusal::TooSlow(id(9)));
    assert_eq!(cluster.answer(ticket), Some(slow));
    assert_eq!(configuration(&cluster, 1).members().len(), 3, "it is no learner any more");
    let write = cluster.propose(id(1), &["b"]);
    cluster.settle();
    assert!(matches!(cluster.answer(write), Some(Resolution::Committed { .. })));
}

/// One change at a time, and none that was planned on other members than those in force.
#[test]
fn changes_do_not_cross() {
    let mut cluster = with_a_stranger(3);
    cluster.partition(&[&[1, 2, 3], &[9]]);
    let first = cluster.set_voters(id(1), &[1, 2, 3, 9]);
    let second = cluster.set_voters(id(1), &[1, 2]);
    assert_eq!(cluster.answer(second), Some(Resolution::Refused(Refusal::ChangeUnderWay)));
    let late = cluster.change_input(id(1), &[1, 2, 3]);
    cluster.heal();
    assert!(cluster.until(100, |cluster| changed(cluster.answer(first))));
    cluster.step(id(1), late.1);
    let refused = cluster.answer(late.0);
    assert!(
        matches!(refused, Some(Resolution::Refused(Refusal::MembersChanged { at: Some(_) }))),
        "a copy of an old wish undoes nothing: {refused:?}"
    );
    let follower = cluster.set_voters(id(2), &[1, 2]);
    let refused = Resolution::Refused(Refusal::NotLeader { leader: Some(id(1)) });
    assert_eq!(cluster.answer(follower), Some(refused));
}

/// `removed_leader_lingers`: a leader that removes itself leads until the others can do without it, and then
/// no more; a member that was removed without learning of it disturbs nobody. Fails if `retire` does not step
/// down, or if a pre-vote is granted by nodes that hear from their leader.
#[test]
fn removed_leader_lingers() {
    let mut cluster = Cluster::unformed(4);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some()));
    cluster.elect(id(1));
    cluster.partition(&[&[1, 2, 3], &[4]]);
    let ticket = cluster.set_voters(id(1), &[2, 3]);
    assert!(cluster.until(100, |cluster| changed(cluster.answer(ticket))));
    let leads = |cluster: &Cluster| {
        let gone = cluster.core(id(1)).role() != Role::Leader;
        gone && cluster.leader().is_some()
    };
    assert!(cluster.until(100, leads));
    cluster.heal();
    let leader = cluster.leader().unwrap();
    assert!([id(2), id(3)].contains(&leader));
    let term = cluster.core(leader).term();
    for _ in 0..200 {
        cluster.advance();
    }
    assert_eq!(cluster.leader(), Some(leader));
    assert_eq!(cluster.core(leader).term(), term, "node 4 campaigns in vain, and without a trace");
}

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

/// `rule_change_locks_out`: a change of rules reaches nodes at different positions of the log, some of them down
/// meanwhile, and all go on. Fails if a node takes messages only from those its own configuration names.
#[test]
fn rule_change_locks_out() {
    let mut cluster = with_a_stranger(3);
    cluster.crash(id(3), 0);
    let voters = |numbers: &[u64]| numbers.iter().map(|&n| MemberSpec::voter(id(n))).collect();
    let all = Rules::same(QuorumRule::AtLeast(2));
    let ticket = cluster.set_members(id(1), voters(&[1, 2, 3]), Some(all));
    assert!(cluster.until(100, |cluster| changed(cluster.answer(ticket))));
    let ticket = cluster.set_members(id(1), voters(&[2, 3, 9]), Some(Rules::default()));
    assert!(cluster.until(200, |cluster| changed(cluster.answer(ticket))));
    cluster.start(id(3));
    // Node 3 never heard of node 9, which may be its leader now.
    assert!(cluster.until(300, |cluster| {
        cluster.core(id(3)).configuration() == cluster.core(id(9)).configuration()
            && cluster.leader().is_some()
    }));
    cluster.crash(id(2), 0);
    assert!(cluster.until(300, |cluster| cluster.leader().is_some_and(|leader| leader != id(2))));
    let ticket = cluster.propose(cluster.leader().unwrap(), &["x"]);
    cluster.settle();
    assert!(matches!(cluster.answer(ticket), Some(Resolution::Committed { .. })));
}

/// A node that was not given a custom rule neither acknowledges the configuration that asks for it, nor loses
/// it: given the rule, it goes on. Fails if `take` writes what it can't evaluate.
#[test]
fn an_unknown_rule_is_not_acknowledged() {
    let rule = CustomRule::new("two", 1).unwrap();
    let give = |options: &mut Options| {
        options.custom_rules.add("two", 1, |present| present.len() >= 2).unwrap();
    };
    let mut cluster = Cluster::formed_with(3, |options| {
        if options.id != id(3) {
            give(options);
        }
    });
    cluster.elect(id(1));
    let voters = [1, 2, 3].map(|n| MemberSpec::voter(id(n))).to_vec();
    let rules = Rules::same(QuorumRule::Custom(rule));
    let ticket = cluster.set_members(id(1), voters, Some(rules));
    assert!(cluster.until(100, |cluster| changed(cluster.answer(ticket))));
    assert!(cluster.events.contains(&(id(3), Event::UnknownRule(rule))));
    let end = cluster.core(id(3)).terms().end();
    assert!(end < cluster.core(id(1)).terms().end());
    cluster.crash(id(3), 0);
    give(&mut cluster.nodes.get_mut(&id(3)).unwrap().options);
    cluster.start(id(3));
    assert!(cluster.until(100, |cluster| {
        cluster.core(id(3)).terms().end() == cluster.core(id(1)).terms().end()
    }));
}

/// A message in the name of a member, from another log, changes nothing at the leader.
#[test]
fn another_log_under_the_same_name() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.partition(&[&[1]]);
    cluster.propose(id(1), &["x"]);
    while cluster.persist(id(1)) {}
    let end = cluster.core(id(1)).terms().end();
    let body = accepted(end, 0);
    let leader = cluster.node(id(1)).disk.identity;
    for from in [2, 3] {
        let message = Message {
            from: identity(id(from), 7),
            to: Some(leader),
            term: cluster.core(id(1)).term(),
            body: body.clone(),
        };
        cluster.step(id(1), Input::Receive { from: id(from), message });
    }
    assert!(cluster.core(id(1)).committed() < end);
}

/// From {1} to {3}: node 1 has the entry that removes it, which is not committed, and writes that node 3 lacks.
/// It has to lead once more. Fails if `may_lead` asks only the newest configuration (found by run 133).
#[test]
fn a_removed_node_leads_until_it_is_surely_removed() {
    let mut cluster = Cluster::unformed(1);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some()));
    cluster.join(3);
    let ticket = cluster.set_voters(id(1), &[3]);
    while count(&cluster, 1) != (3, 1) {
        assert!(!cluster.flying.is_empty() || cluster.advance_a_bit());
        if !cluster.flying.is_empty() {
            cluster.deliver(0);
        }
        if count(&cluster, 1) != (3, 1) {
            cluster.persist(id(1));
            cluster.persist(id(3));
        }
    }
    cluster.flying.clear();
    while cluster.persist(id(1)) {}
    cluster.restart(id(1));
    cluster.restart(id(3));
    assert_eq!(cluster.answer(ticket), None);
    assert!(
        cluster.until(200, |cluster| {
            voters_settled(cluster, 3) && cluster.leader() == Some(id(3))
        })
    );
}

fn voters_settled(cluster: &Cluster, node: u64) -> bool {
    let core = cluster.core(id(node));
    core.committed() == core.terms().end() && configuration(cluster, node).old().is_none()
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
