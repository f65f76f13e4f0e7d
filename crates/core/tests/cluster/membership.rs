//! Changing who belongs to the cluster (Raft section 6, thesis chapter 4).

use crate::harness::{Cluster, accepted, entry, id, identity};
use std::sync::Arc;
use tinyraftplus_core::{
    ChangeMembers, Configuration, Configurations, Entry, EntryBody, EntryId, Event, Input,
    MemberSpec, Membership, Message, NodeId, Options, Plan, QuorumRule, Refusal, Resolution, Role,
    Rules, Seq, Term, Time, quorum::CustomRule,
};

pub(crate) fn configuration(cluster: &Cluster, node: u64) -> &Configuration {
    cluster.core(id(node)).configuration().unwrap()
}

pub(crate) fn voters(cluster: &Cluster, node: u64) -> Vec<NodeId> {
    let configuration = configuration(cluster, node);
    assert!(configuration.old().is_none(), "node {node} is between two memberships");
    configuration.now().voters().map(|member| member.id).collect()
}

pub(crate) fn ids(numbers: &[u64]) -> Vec<NodeId> {
    numbers.iter().map(|&number| id(number)).collect()
}

/// Nodes 1 to `count`, led by node 1, and node 9, which is no member yet.
pub(crate) fn with_a_stranger(count: u64) -> Cluster {
    let mut cluster = Cluster::unformed(count);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some()));
    cluster.elect(id(1));
    cluster.join(9);
    cluster
}

pub(crate) fn changed(answer: Option<Resolution>) -> bool {
    matches!(answer, Some(Resolution::Changed { .. }))
}

/// Whether a node votes, and everything it has is committed.
pub(crate) fn settled(cluster: &Cluster, node: u64) -> bool {
    let core = cluster.core(id(node));
    core.role() == Role::Follower
        && core.committed() == core.terms().end()
        && core.configuration().is_some_and(|configuration| configuration.old().is_none())
}

/// How many configurations a log has, and how many of them are joint.
pub(crate) fn count(cluster: &Cluster, node: u64) -> (usize, usize) {
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

/// `uncommitted_config_ignored`: nodes 1 and 2, of three, have the configuration in their logs that leads to node 3 alone,
/// not committed. They are a quorum of the old membership, and need one of the new as well. Fails if a campaign goes by
/// the newest committed configuration.
#[test]
fn uncommitted_config_ignored() {
    let mut cluster = Cluster::formed(3);
    let founded = Configuration::clone(configuration(&cluster, 1));
    let alone = Membership::new(vec![founded.members()[2]], QuorumRule::Majority).unwrap();
    let (of, first, old) = (founded.cluster(), founded.first(), founded.now().clone());
    let joint = Configuration::restored(of, first, alone, Some(old)).unwrap();
    let body = EntryBody::Configuration(Arc::new(joint));
    for node in [1, 2] {
        cluster.preset(id(node), |disk| {
            let at = Seq::new(1);
            let before = disk.configuration.as_ref().map(|all| all.newest().clone());
            let id = EntryId::new(Term::new(1), at);
            disk.entries =
                vec![entry(1, 0, "x"), Entry { id, ends_batch: true, body: body.clone() }];
            disk.hard_state.term = Term::new(1);
            disk.remember_newest();
            let newest = disk.configuration.as_ref().unwrap().newest().clone();
            disk.configuration = Configurations::restored(newest, before).map(Arc::new);
        });
    }
    cluster.crash(id(3), 0);
    for _ in 0..100 {
        cluster.advance();
        assert_eq!(cluster.leader(), None, "the new membership was not asked");
    }
    cluster.start(id(3));
    assert!(cluster.until(300, |cluster| cluster.leader() == Some(id(3))));
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
    for _ in 0..10_000 {
        if count(&cluster, 1).1 > 0 {
            break;
        }
        for node in [1, 2, 3, 9] {
            cluster.persist(id(node));
            cluster.load(id(node), true);
        }
        if cluster.flying.is_empty() {
            cluster.advance_a_bit();
        } else {
            cluster.deliver(0);
        }
    }
    // Nobody but its leader has it.
    while cluster.persist(id(1)) {}
    cluster.wake(id(1));
    assert_eq!(count(&cluster, 1), (2, 1), "it is ended when it is committed");
    cluster.deliver_all(id(1), id(2));
    while cluster.persist(id(2)) {}
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

pub(crate) fn voters_settled(cluster: &Cluster, node: u64) -> bool {
    let core = cluster.core(id(node));
    core.committed() == core.terms().end() && configuration(cluster, node).old().is_none()
}

/// Somebody wants rules by which not even all members together decide, and has not checked that. Fails if
/// `Quorums::compile` does not ask: the change could never be ended, and nothing be committed any more.
#[test]
fn rules_that_decide_nothing() {
    let mut cluster = Cluster::formed_with(3, |options| {
        options.custom_rules.add("never", 1, |_| false).unwrap();
    });
    cluster.elect(id(1));
    let never = QuorumRule::Custom(CustomRule::new("never", 1).unwrap());
    let members = [1, 2, 3].map(|number| MemberSpec::voter(id(number))).to_vec();
    let plan = Plan::unchecked(members, never.into()).unwrap();
    let (ticket, _) = cluster.change_input(id(1), &[1, 2, 3]);
    let (base, until) = (None, Time::NEVER);
    cluster.step(id(1), Input::ChangeMembers(ChangeMembers { ticket, base, plan, until }));
    cluster.settle();
    assert_eq!(cluster.answer(ticket), Some(Resolution::Refused(Refusal::UnfitRules)));
    let ticket = cluster.propose(id(1), &["x"]);
    cluster.settle();
    assert!(matches!(cluster.answer(ticket), Some(Resolution::Committed { .. })));
}
