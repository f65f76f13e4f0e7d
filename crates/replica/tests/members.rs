//! Clients that decide who belongs to the cluster, on any node. Each test says which protection, when removed, makes it
//! fail.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use common::{Cluster, Fate, id, seq};
use tinyraftplus_core::quorum::{CustomRule, CustomRules};
use tinyraftplus_core::{Identity, MemberSpec, NodeId, Plan, QuorumRule, Role, Rules};
use tinyraftplus_log::EntryKind;
use tinyraftplus_replica::{
    Base, Change, ChangeAnswer, ChangeAsk, ChangeError, Happening, Message, Outcome, Refused,
    Request, Unknown,
};

fn ids(numbers: &[u64]) -> Vec<NodeId> {
    numbers.iter().map(|&number| id(number)).collect()
}

const fn is_ask(message: &Message) -> bool {
    matches!(message, Message::ChangeAsk(_))
}

const fn is_reply(message: &Message) -> bool {
    matches!(message, Message::ChangeReply(_))
}

const fn is_changed(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Changed { .. })
}

/// How many configurations the log of a node has.
fn configurations(cluster: &Cluster, node: NodeId) -> usize {
    let entries = cluster.nodes[&node].disk.entries.iter();
    entries.filter(|entry| entry.kind == EntryKind::Configuration).count()
}

/// Three nodes, and others that wait to be added; the leader and its two followers.
fn cast(others: &[u64]) -> (Cluster, NodeId, [NodeId; 2]) {
    let mut cluster = Cluster::new(3, |_| {});
    for &other in others {
        cluster.join(other);
    }
    let leader = cluster.leader_of(&[1, 2, 3]);
    let mut followers = (1..=3).map(id).filter(|&node| node != leader);
    let followers = [followers.next().unwrap(), followers.next().unwrap()];
    (cluster, leader, followers)
}

/// The call has changed the members to these.
fn changed(cluster: &mut Cluster, call: tinyraftplus_replica::CallId, voters: &[u64]) {
    let outcome = cluster.outcome(call);
    let Outcome::Changed { at } = outcome else {
        panic!("{outcome:?}");
    };
    let now = cluster.leader_of(voters);
    assert_eq!(cluster.voters(now), (ids(voters), at));
}

/// A cluster of one grows to three and to five, asked on the leader and on others, and shrinks again. What was appended
/// before is on every new voter, and any node takes appends. Fails if `pump_changes` asks nobody but this node's core.
#[test]
fn from_one_to_five_and_back() {
    let mut cluster = Cluster::new(1, |_| {});
    (2..=5).for_each(|number| cluster.join(number));
    let before = cluster.append(id(1), "before");
    cluster.committed(before);
    let call = cluster.set_voters(id(1), &[1, 2, 3]);
    changed(&mut cluster, call, &[1, 2, 3]);
    let call = cluster.set_voters(id(2), &[1, 2, 3, 4, 5]);
    changed(&mut cluster, call, &[1, 2, 3, 4, 5]);
    for number in 1..=5 {
        let append = cluster.append(id(number), "on any");
        cluster.committed(append);
        assert_eq!(cluster.node(id(number)).disk.payloads()[0], "before");
    }
    let call = cluster.set_voters(id(5), &[4, 5]);
    changed(&mut cluster, call, &[4, 5]);
}

/// The question comes twice each time, and the first answers are lost: one change, in as many entries as it takes. Fails
/// if `on_change_ask` does not know what it was asked before: the second one is told that a change is under way.
#[test]
fn repeated_questions_are_one_change() {
    let (mut cluster, leader, [asked, _]) = cast(&[4]);
    let replies = Rc::new(RefCell::new(0));
    let seen = Rc::clone(&replies);
    cluster.filter = Box::new(move |_, _, message| {
        if is_ask(message) {
            Fate::Twice
        } else if is_reply(message) {
            *seen.borrow_mut() += 1;
            if *seen.borrow() < 9 { Fate::Drop } else { Fate::Deliver }
        } else {
            Fate::Deliver
        }
    });
    let call = cluster.set_voters(asked, &[1, 2, 3, 4]);
    changed(&mut cluster, call, &[1, 2, 3, 4]);
    cluster.pass(Duration::from_secs(2));
    assert_eq!(configurations(&cluster, leader), 3, "a learner, both memberships, the new one");
}

/// The questions are lost for a while, then copies of all of them arrive, also after the call has ended and another one has
/// changed the members since. Fails if a question carries no term and no base, or the leader forgets what it was asked.
#[test]
fn late_questions_undo_nothing() {
    let (mut cluster, leader, [asked, other]) = cast(&[]);
    cluster.filter =
        Box::new(|_, _, message| if is_ask(message) { Fate::Hold } else { Fate::Deliver });
    let call = cluster.set_voters(asked, &[1, 2]);
    cluster.pass(Duration::from_millis(350));
    assert!(cluster.held.len() >= 3, "it asks again");
    let copies = cluster.held.clone();
    cluster.release();
    changed(&mut cluster, call, &[1, 2]);
    let back = cluster.set_voters(leader, &[1, 2, 3]);
    changed(&mut cluster, back, &[1, 2, 3]);
    let count = configurations(&cluster, leader);
    cluster.wire.extend(copies.clone());
    cluster.pass(Duration::from_secs(1));
    let now = cluster.leader_of(&[1, 2, 3]);
    let move_to = if now == other { asked } else { other };
    let call = cluster.call(now, Request::Transfer { to: move_to });
    assert_eq!(cluster.outcome(call), Outcome::Done);
    cluster.wire.extend(copies.into_iter().map(|(from, _, message)| (from, move_to, message)));
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cluster.voters(move_to).0, ids(&[1, 2, 3]));
    assert_eq!(configurations(&cluster, move_to), count);
}

/// All three members are replaced in one call, asked on each of them, while clients append. The call succeeds although its
/// node, and the leader it asked, are no members any more; what is appended later on an old one is refused, at once; nothing
/// that was committed is lost, and the order is kept. Fails if `is_removed` is always false: calls hang on nodes that nobody
/// tells anything any more.
#[test]
fn all_members_are_replaced() {
    for asked in 1..=3 {
        let (mut cluster, _, _) = cast(&[4, 5, 6]);
        let change = cluster.set_voters(id(asked), &[4, 5, 6]);
        let mut appends = Vec::new();
        for round in 0.. {
            let node = id(1 + round % 3);
            appends.push((node, round, cluster.append(node, &round.to_string())));
            if cluster.outcomes.contains_key(&change) || round > 500 {
                break;
            }
            cluster.pass(Duration::from_millis(1));
        }
        let began = cluster.now;
        changed(&mut cluster, change, &[4, 5, 6]);
        let mut committed = 0;
        for &(_, _, call) in &appends {
            match cluster.outcome(call) {
                Outcome::Committed { .. } => committed += 1,
                Outcome::Refused(Refused::NotAMember | Refused::Overtaken)
                | Outcome::Unknown(Unknown::NotAMember | Unknown::Forgotten) => {}
                other @ (Outcome::Read { .. }
                | Outcome::Done
                | Outcome::NotTransferred(_)
                | Outcome::Changed { .. }
                | Outcome::NotChanged(_)
                | Outcome::Refused(_)
                | Outcome::Unknown(_)) => panic!("asked on {asked}: {other:?}"),
            }
        }
        assert!(committed > 0);
        assert!(cluster.now.since(began) < Duration::from_secs(5), "no call hangs");
        let end = cluster.append(id(4), "end");
        cluster.committed(end);
        let log = cluster.node(id(4)).disk.payloads();
        for node in (1..=3).map(id) {
            let of = |&&(at, round, call): &&(NodeId, u64, _)| {
                let is_there = matches!(cluster.outcomes[&call], Outcome::Committed { .. });
                (at == node && is_there).then(|| round.to_string())
            };
            let places: Vec<_> = appends
                .iter()
                .filter_map(|append| of(&append))
                .map(|payload| log.iter().position(|it| *it == payload).expect("it is there"))
                .collect();
            assert!(places.is_sorted(), "in their order");
            let late = cluster.append(node, "late");
            let read = cluster.read(node);
            let change = cluster.set_voters(node, &[1]);
            let before = cluster.now;
            for call in [late, read, change] {
                assert_eq!(cluster.outcome(call), Outcome::Refused(Refused::NotAMember));
            }
            assert!(cluster.now.since(before) < Duration::from_secs(1));
        }
    }
}

/// The leader is removed, asked on itself and on another: it hands over, and the others go on at once.
#[test]
fn the_leader_is_removed() {
    for on_itself in [true, false] {
        let (mut cluster, leader, followers) = cast(&[]);
        let rest: Vec<u64> = (1..=3).filter(|&number| id(number) != leader).collect();
        let asked = if on_itself { leader } else { followers[0] };
        let (before, call) = (cluster.now, cluster.set_voters(asked, &rest));
        changed(&mut cluster, call, &rest);
        for follower in followers {
            let append = cluster.append(follower, "x");
            cluster.committed(append);
        }
        assert!(cluster.now.since(before) < Duration::from_secs(1), "no election was waited for");
        cluster.until(|c| c.replica(leader).core().role() == Role::Learner);
        let late = cluster.append(leader, "late");
        assert_eq!(cluster.outcome(late), Outcome::Refused(Refused::NotAMember));
    }
}

/// Two nodes are asked for different members at the same time: each call is told the truth, and if both are done, the last
/// one holds. A second call on one node is refused at once. Fails if `open_change` takes a second one.
#[test]
fn two_changes_at_once() {
    let (mut cluster, leader, [one, other]) = cast(&[4, 5]);
    let first = cluster.set_voters(one, &[1, 2, 3, 4]);
    let again = cluster.set_voters(one, &[1, 2, 3]);
    assert_eq!(cluster.outcomes[&again], Outcome::Refused(Refused::ChangeUnderWay));
    let second = cluster.set_voters(other, &[1, 2, 3, 5]);
    let third = cluster.set_voters(leader, &[1, 2]);
    let outcomes = [first, second, third].map(|call| cluster.outcome(call));
    assert!(outcomes.iter().any(is_changed), "{outcomes:?}");
    let under_way =
        |outcome: &&Outcome| matches!(outcome, Outcome::NotChanged(ChangeError::UnderWay));
    let refused = outcomes.iter().filter(under_way).count();
    assert_eq!(refused + outcomes.iter().filter(|it| is_changed(it)).count(), 3, "{outcomes:?}");
    cluster.pass(Duration::from_secs(1));
    let last = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Changed { at } => Some(*at),
        Outcome::NotChanged(_)
        | Outcome::Committed { .. }
        | Outcome::Read { .. }
        | Outcome::Done
        | Outcome::NotTransferred(_)
        | Outcome::Refused(_)
        | Outcome::Unknown(_) => None,
    });
    let leader = cluster.leader_of(&[1, 2, 3]);
    assert_eq!(Some(cluster.voters(leader).1), last.max());
}

/// `slow_member_blocks_change`: a new member that does not answer, and one that does not catch up, end the call in time and
/// are named; appends go on meanwhile, and the next change works. Fails if the core gets all the time that the call has: at
/// the deadline the call ends before the answer.
#[test]
fn slow_member_blocks_change() {
    let (mut cluster, _, [asked, _]) = cast(&[4]);
    cluster.isolate(id(4));
    let time = Duration::from_secs(3);
    let request = cluster.change(asked, &[1, 2, 3, 4], None);
    let call = cluster.call_for(asked, request.clone(), time);
    let append = cluster.append(asked, "meanwhile");
    cluster.committed(append);
    let unreachable = Outcome::NotChanged(ChangeError::Unreachable(id(4)));
    assert_eq!(cluster.outcome(call), unreachable);
    cluster.heal();
    cluster.node(id(4)).holds_disk = true;
    let call = cluster.call_for(asked, request.clone(), time);
    let append = cluster.append(asked, "meanwhile");
    cluster.committed(append);
    assert_eq!(cluster.outcome(call), Outcome::NotChanged(ChangeError::TooSlow(id(4))));
    cluster.node(id(4)).holds_disk = false;
    let leader = cluster.leader_of(&[1, 2, 3]);
    cluster.until(|c| c.replica(leader).status().configuration.unwrap().members().len() == 3);
    cluster.pass(Duration::from_millis(100));
    let call = cluster.call_for(asked, request, time);
    changed(&mut cluster, call, &[1, 2, 3, 4]);
}

/// The leader dies at some moment of the change: the caller is told the truth, and most often that it is done, by the next
/// leader. Fails if an answer of one leader counts for all.
#[test]
fn the_leader_dies_at_any_moment() {
    let (mut done, mut others) = (0, 0);
    for moment in 0..90 {
        let (mut cluster, leader, [asked, _]) = cast(&[4]);
        cluster.filter =
            Box::new(
                move |_, _, message| {
                    if is_reply(message) && moment % 3 == 0 { Fate::Drop } else { Fate::Deliver }
                },
            );
        let call = cluster.set_voters(asked, &[1, 2, 3, 4]);
        let mut steps = moment;
        cluster.until(|_| {
            steps -= 1;
            steps <= 0
        });
        cluster.kill(leader);
        let outcome = cluster.outcome(call);
        let now = cluster.leader_of(&[1, 2, 3, 4]);
        let members = cluster.replica(now).core().configuration().unwrap().now().clone();
        let is_there = members.voters().count() == 4;
        match outcome {
            Outcome::Changed { .. } => {
                done += 1;
                assert!(is_there, "moment {moment}");
            }
            Outcome::Refused(_) | Outcome::NotChanged(_) => {
                others += 1;
                assert!(!is_there, "moment {moment}: {outcome:?}");
            }
            Outcome::Unknown(_) => others += 1,
            Outcome::Committed { .. }
            | Outcome::Read { .. }
            | Outcome::Done
            | Outcome::NotTransferred(_) => panic!("{outcome:?}"),
        }
    }
    assert!(done > others, "{done} are done, and {others} not");
}

/// A node that is behind asks on the ground of an old configuration; it catches up and asks again. Fails if
/// `MembersChanged` ends a call that has no base of its own.
#[test]
fn a_node_that_is_behind() {
    let (mut cluster, leader, [asked, _]) = cast(&[4]);
    let call = cluster.set_voters(leader, &[1, 2, 3, 4]);
    let from = cluster.voters(asked).1;
    let based = cluster.change(asked, &[1, 2, 3], Some(Base(from)));
    changed(&mut cluster, call, &[1, 2, 3, 4]);
    cluster.pass(Duration::from_secs(1));
    // What it was to be based on is no longer so, whoever asks.
    for node in [asked, leader] {
        let call = cluster.call(node, based.clone());
        let outcome = cluster.outcome(call);
        assert!(
            matches!(outcome, Outcome::NotChanged(ChangeError::MembersChanged { at: Some(_) })),
            "{outcome:?}"
        );
    }
    // It hears nothing but answers for a while.
    cluster.filter = Box::new(move |from, to, message| {
        let is_raft = matches!(message, Message::Raft(_));
        if is_raft && to == asked && from == leader { Fate::Hold } else { Fate::Deliver }
    });
    let append = cluster.set_voters(leader, &[1, 2, 3]);
    changed(&mut cluster, append, &[1, 2, 3]);
    assert_eq!(cluster.voters(asked).0, ids(&[1, 2, 3, 4]), "it is behind");
    let request = cluster.change(asked, &[1, 2, 3, 4], None);
    let call = cluster.call(asked, request);
    cluster.pass(Duration::from_millis(150));
    assert!(!cluster.outcomes.contains_key(&call));
    cluster.release();
    changed(&mut cluster, call, &[1, 2, 3, 4]);
}

/// The members were read while one membership replaced another. When that is over they are the same, and a change that is based
/// on them is made; when there was another change in between, it is not. Fails if `completed` returns what it was given.
#[test]
fn based_on_a_joint_configuration() {
    for is_late in [false, true] {
        let (mut cluster, leader, [asked, _]) = cast(&[4]);
        let call = cluster.set_voters(leader, &[1, 2, 3, 4]);
        let is_joint = |c: &Cluster| {
            let configuration = c.replica(asked).core().configuration();
            configuration.is_some_and(|it| it.old().is_some())
        };
        cluster.until(is_joint);
        let seen = cluster.replica(asked).core().configurations().unwrap().newest().at;
        let request = cluster.change(asked, &[1, 2, 3], Some(Base(seen)));
        changed(&mut cluster, call, &[1, 2, 3, 4]);
        if is_late {
            let call = cluster.set_voters(leader, &[1, 2, 4]);
            changed(&mut cluster, call, &[1, 2, 4]);
        }
        let call = cluster.call(asked, request);
        if is_late {
            let outcome = cluster.outcome(call);
            assert!(
                matches!(
                    outcome,
                    Outcome::NotChanged(ChangeError::MembersChanged { .. })
                        | Outcome::Refused(Refused::NotAMember)
                ),
                "{outcome:?}"
            );
        } else {
            changed(&mut cluster, call, &[1, 2, 3]);
        }
    }
}

/// Rules that were not part of the wish have changed meanwhile: the call is refused, or it would bring the old ones back.
/// Fails if `keeps_rules` is not asked for.
#[test]
fn rules_that_were_not_asked_for() {
    let (mut cluster, leader, [asked, _]) = cast(&[]);
    let old = cluster.change(asked, &[1, 2], None);
    let members = [1, 2, 3].map(|n| MemberSpec::voter(id(n))).to_vec();
    let rules = Rules::same(QuorumRule::AtLeast(3));
    let plan = Plan::new(members, rules.clone(), &CustomRules::default()).unwrap();
    let change = Change { plan, base: None, keeps_rules: false };
    let call = cluster.call(leader, Request::ChangeMembers(Box::new(change)));
    changed(&mut cluster, call, &[1, 2, 3]);
    cluster.pass(Duration::from_secs(1));
    let call = cluster.call(asked, old);
    let outcome = cluster.outcome(call);
    assert!(
        matches!(outcome, Outcome::NotChanged(ChangeError::MembersChanged { .. })),
        "{outcome:?}"
    );
    let configuration = cluster.replica(leader).status().configuration.unwrap();
    assert_eq!(*configuration.now().rules(), rules);
}

/// A rule that the leader was not given is refused before anything is done: new members do not stay learners. Fails if
/// `begin_change` leaves it to the core.
#[test]
fn an_unknown_rule_changes_nothing() {
    let (mut cluster, leader, [asked, _]) = cast(&[4]);
    let rule = QuorumRule::Custom(CustomRule::new("two", 1).unwrap());
    let members = [1, 2, 3, 4].map(|n| MemberSpec::voter(id(n))).to_vec();
    let plan = Plan::unchecked(members, Rules::same(rule)).unwrap();
    for node in [asked, leader] {
        let change = Change { plan: plan.clone(), base: None, keeps_rules: false };
        let call = cluster.call(node, Request::ChangeMembers(Box::new(change)));
        assert_eq!(cluster.outcome(call), Outcome::NotChanged(ChangeError::UnfitRules));
        assert_eq!(configurations(&cluster, leader), 0);
    }
}

/// Thousands of processes ask, again and again, under all kinds of numbers: a leader remembers some of them, answers, and goes
/// on; a change of its own client still works. Fails if `told` has no limit, or `begin_change` remembers tickets that are
/// answered.
#[test]
fn a_flood_of_questions() {
    let (mut cluster, leader, [from, _]) = cast(&[4]);
    let (term, base) = (cluster.term(leader), cluster.voters(leader).1);
    let plan = Plan::unchecked(vec![MemberSpec::voter(id(9))], Rules::default()).unwrap();
    let replies = Rc::new(RefCell::new(0));
    let seen = Rc::clone(&replies);
    cluster.filter = Box::new(move |_, _, message| {
        if let Message::ChangeReply(reply) = message {
            let is_busy = reply.answer == ChangeAnswer::Refused(ChangeError::Busy);
            *seen.borrow_mut() += u64::from(is_busy);
            return Fate::Drop;
        }
        Fate::Deliver
    });
    for asker in 0..5000_u64 {
        for number in [asker, u64::MAX, 1] {
            let (identity, time) = (Identity::new(u128::from(asker)), Duration::MAX);
            let (plan, incarnation, base) = (plan.clone(), asker, Base(base));
            let ask = ChangeAsk { from: identity, incarnation, number, term, base, plan, time };
            let message = Message::ChangeAsk(Box::new(ask));
            cluster.step(leader, Happening::Receive { from, message });
        }
    }
    assert!(*replies.borrow() > 3000, "those beyond the limit are told so: {}", replies.borrow());
    assert!(format!("{:?}", cluster.replica(leader)).len() < 1 << 20);
    let append = cluster.append(leader, "x");
    cluster.committed(append);
    // The first one is under way for an hour, as node 9 is not there. A leader that leaves ends it.
    let call = cluster.set_voters(leader, &[1, 2, 3, 4]);
    assert_eq!(cluster.outcome(call), Outcome::NotChanged(ChangeError::UnderWay));
    let call = cluster.call(leader, Request::StepDown);
    cluster.outcome(call);
    cluster.release();
    let now = cluster.leader_of(&[1, 2, 3]);
    let call = cluster.set_voters(now, &[1, 2, 3, 4]);
    changed(&mut cluster, call, &[1, 2, 3, 4]);
}

/// A call without a leader waits within its deadline, and says what is known at the end: nothing has happened if nobody was
/// asked, and nobody knows if somebody was.
#[test]
fn without_a_leader() {
    let (mut cluster, leader, [asked, other]) = cast(&[]);
    cluster.filter =
        Box::new(|_, _, message| if is_ask(message) { Fate::Drop } else { Fate::Deliver });
    let call = cluster.set_voters(asked, &[1, 2]);
    cluster.pass(Duration::from_millis(50));
    cluster.kill(leader);
    cluster.kill(other);
    assert_eq!(cluster.outcome(call), Outcome::Unknown(Unknown::Deadline));
    cluster.until(|c| c.replica(asked).core().leader().is_none());
    let call = cluster.set_voters(asked, &[1, 2]);
    assert_eq!(cluster.outcome(call), Outcome::Refused(Refused::Deadline));
    let call = cluster.set_voters(asked, &[1, 2]);
    cluster.step(asked, Happening::Stop);
    assert_eq!(cluster.outcome(call), Outcome::Refused(Refused::Stopped));
}

/// A node whose disk was lost is readmitted, and takes appends again; meanwhile it is no use to anybody.
#[test]
fn wiped_node_same_id() {
    let (mut cluster, _, [wiped, _]) = cast(&[]);
    let before = cluster.append(wiped, "before");
    cluster.committed(before);
    cluster.wipe(wiped);
    let append = cluster.append(wiped, "after");
    assert_eq!(cluster.committed(append), seq(cluster.node(wiped).disk.end().get() - 1));
    assert_eq!(cluster.node(wiped).disk.payloads(), ["before", "after"]);
    assert_eq!(cluster.replica(wiped).core().role(), Role::Follower);
}
