//! Named scenarios: logs that were compacted, and snapshots. Each says which protection, when removed, makes it fail.

use crate::harness::{Cluster, Disk, entry, id};
use std::sync::Arc;
use tinyraftplus_core::{
    Configurations, Entry, EntryBody, EntryId, Input, Member, MessageBody, NodeId, Placed,
    QuorumRule, Refusal, Resolution, Role, Seq, Term,
};

const fn at(term: u64, seq: u64) -> EntryId {
    EntryId::new(Term::new(term), Seq::new(seq))
}

fn append(
    prev: Option<EntryId>,
    entries: Vec<Entry<String>>,
    committed: u64,
) -> MessageBody<String> {
    MessageBody::Append { prev, entries, committed: Seq::new(committed), round: 0 }
}

fn log(cluster: &Cluster, node: u64) -> Vec<EntryId> {
    cluster.node(id(node)).view.entries.iter().map(|entry| entry.id).collect()
}

/// The first configuration of these nodes.
fn members(numbers: &[u64]) -> Placed {
    let voter = |&n: &u64| Member::voter(id(n), crate::harness::identity(id(n), 0));
    let members = numbers.iter().map(voter).collect();
    Configurations::found(members, QuorumRule::Majority, Seq::ZERO).unwrap().newest().clone()
}

/// A node is told of a snapshot that ends with this entry.
fn install(cluster: &mut Cluster, node: u64, last: EntryId, placed: Placed) {
    let held = cluster.nodes.get_mut(&id(node)).unwrap();
    for disk in [&mut held.disk, &mut held.view] {
        disk.snapshot = Some((last, placed.clone()));
    }
    cluster.check.chosen.insert(last.seq, last);
    cluster.step(id(node), Input::Install { last, configuration: placed });
}

/// Lets time pass until nobody counts as being heard from any more but those that answer.
fn beat(cluster: &mut Cluster, leader: NodeId) {
    for _ in 0..8 {
        cluster.wake(leader);
        cluster.settle();
    }
}

/// Three nodes; node 3 is away, the others have snapshots and no log.
fn compacted() -> Cluster {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.partition(&[&[1, 2], &[3]]);
    cluster.propose(id(1), &["a"]);
    cluster.propose(id(1), &["b", "c"]);
    cluster.settle();
    beat(&mut cluster, id(1));
    for node in [1, 2] {
        assert!(cluster.snapshot(id(node)));
        cluster.compact(id(node));
    }
    cluster.settle();
    assert!(log(&cluster, 1).is_empty() && log(&cluster, 2).is_empty());
    cluster
}

/// A leader that has just been elected has no log but the entry that it began with, and knows of no follower how far it is:
/// node 3 gets a snapshot after one try. Fails if a rejection of what comes before the start leads to a probe of what is
/// there, or if what is known of a peer begins where this log does.
#[test]
fn purged_leader_unknown_follower() {
    let mut cluster = compacted();
    cluster.crash(id(1), 0);
    cluster.heal();
    cluster.elect(id(2));
    assert!(cluster.core(id(2)).needs_snapshot(id(3)));
    cluster.copy_snapshot(id(2), id(3));
    cluster.install(id(3));
    cluster.settle();
    assert!(!cluster.core(id(2)).needs_snapshot(id(3)), "it has been told");
    assert_eq!(log(&cluster, 3), log(&cluster, 2));
    assert_eq!(cluster.node(id(3)).applied, cluster.core(id(2)).committed());
}

/// A follower that holds all but acknowledged none of it to this leader needs no snapshot. Fails if a heartbeat does not
/// follow what comes before the start.
#[test]
fn one_that_has_everything_needs_nothing() {
    let mut cluster = compacted();
    cluster.elect_by_campaign(id(1));
    assert!(!cluster.core(id(1)).needs_snapshot(id(2)));
    assert_eq!(log(&cluster, 1), log(&cluster, 2));
}

/// What was dropped here is sent again from the very start by a leader that still has it: it is taken for what it is, and
/// what follows is written. Fails if `on_append` refuses what lies below the start, as a leader that is told so has
/// nothing older to try.
#[test]
fn entries_from_below_the_start() {
    let mut cluster = compacted();
    let all = vec![entry(1, 0, "x"), entry(1, 1, "a"), entry(1, 2, "b"), entry(1, 3, "c")];
    let more = [all.clone(), vec![entry(1, 4, "d")]].concat();
    let matched = |cluster: &mut Cluster, entries: Vec<Entry<String>>| {
        cluster.flying.clear();
        cluster.inject(id(1), id(2), 1, append(None, entries, 0));
        while cluster.persist(id(2)) {}
        let sent = cluster.take_sent_by(id(2));
        sent.iter().rev().find_map(|letter| {
            let MessageBody::Accepted { matched, .. } = letter.message.body else { return None };
            Some(matched.get())
        })
    };
    assert_eq!(matched(&mut cluster, all[..2].to_vec()), Some(4));
    assert_eq!(matched(&mut cluster, all), Some(4));
    assert_eq!(matched(&mut cluster, more), Some(5));
    assert_eq!(log(&cluster, 2), [at(1, 4)]);
}

/// Members change while node 3 is away; the snapshot tells it. Fails if the members that it knew stay in force
/// (`configured_by_snapshot`).
#[test]
fn stale_members_after_snapshot() {
    let mut cluster = Cluster::formed(4);
    cluster.elect(id(1));
    cluster.partition(&[&[1, 2, 4], &[3]]);
    let change = cluster.set_voters(id(1), &[1, 2, 3]);
    cluster.settle();
    beat(&mut cluster, id(1));
    assert!(matches!(cluster.answer(change), Some(Resolution::Changed { .. })));
    assert!(cluster.snapshot(id(1)));
    cluster.compact(id(1));
    cluster.settle();
    cluster.heal();
    cluster.carries_snapshots = true;
    beat(&mut cluster, id(1));
    let known = |node| Arc::clone(cluster.core(id(node)).configuration().unwrap());
    assert_eq!(known(3), known(1));
    assert!(known(3).member(id(4)).is_none());
    cluster.restart(id(3));
    assert_eq!(cluster.core(id(3)).configuration(), cluster.core(id(1)).configuration());
}

/// An entry that changes members was never committed, and goes with the log that had it: so do its members. Fails if
/// they count as coming from beyond the log.
#[test]
fn config_rollback() {
    let mut cluster = Cluster::formed(3);
    let body = EntryBody::Configuration(members(&[2, 3]).configuration);
    let change = Entry { id: at(1, 0), ends_batch: true, body };
    cluster.inject(id(1), id(2), 2, append(None, vec![change], 0));
    cluster.settle();
    assert!(cluster.core(id(2)).configuration().unwrap().member(id(1)).is_none());
    install(&mut cluster, 2, at(2, 0), members(&[1, 2, 3]));
    let configuration = cluster.core(id(2)).configuration();
    assert!(configuration.unwrap().member(id(1)).is_some());
    cluster.settle();
    cluster.restart(id(2));
    assert!(cluster.core(id(2)).configuration().unwrap().member(id(1)).is_some());
}

/// Members that a leader had committed are known before the log has got that far, and stay although the snapshot knows
/// older ones. Fails if the snapshot's replace them.
#[test]
fn members_from_beyond_the_log_stay() {
    let mut cluster = Cluster::formed(3);
    let beyond = Placed { at: Some(Seq::new(9)), ..members(&[1, 2]) };
    cluster.preset(id(2), |disk: &mut Disk| {
        disk.hard_state.term = Term::new(2);
        disk.configuration = Some(Arc::new(Configurations::first(beyond)));
    });
    install(&mut cluster, 2, at(1, 4), members(&[1, 2, 3]));
    let known = cluster.core(id(2)).configurations().unwrap();
    assert!(known.newest().configuration.member(id(3)).is_none());
    assert!(known.settled(Seq::new(5)).configuration.member(id(3)).is_some());
}

/// A second snapshot comes while the record of the first is being written. The node goes on from the second, says so
/// once, and takes what follows. Fails if an installation under way refuses the next, or its record counts for both.
#[test]
fn snapshot_vs_inflight_persist() {
    let mut cluster = Cluster::formed(3);
    cluster.inject(id(1), id(2), 3, append(None, vec![], 0));
    cluster.settle();
    install(&mut cluster, 2, at(2, 4), members(&[1, 2, 3]));
    install(&mut cluster, 2, at(3, 8), members(&[1, 2, 3]));
    cluster.persist(id(2));
    assert!(cluster.core(id(2)).installs(), "the newer one is not durable yet");
    cluster.persist(id(2));
    let sent = cluster.take_sent_by(id(2));
    let is_matched = |body: &MessageBody<String>| matches!(body, MessageBody::Accepted { matched, .. } if *matched == Seq::new(9));
    assert_eq!(sent.iter().filter(|letter| is_matched(&letter.message.body)).count(), 1);
    assert_eq!(cluster.node(id(2)).applied, Seq::new(9));
    cluster.inject(id(1), id(2), 3, append(Some(at(3, 8)), vec![entry(3, 9, "x")], 10));
    cluster.settle();
    assert_eq!(cluster.node(id(2)).applied, Seq::new(10));
}

/// A snapshot of what is committed here already, one from the future of this node's term, and one of nothing change
/// nothing. Fails if `install` does not look.
#[test]
fn snapshots_that_say_nothing() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.propose(id(1), &["a"]);
    cluster.settle();
    cluster.wake(id(1));
    cluster.settle();
    let before = log(&cluster, 2);
    let placed = members(&[1, 2, 3]);
    for last in [at(1, 1), at(1, 0), at(9, 7), at(0, 7), EntryId::new(Term::new(1), Seq::MAX)] {
        cluster.step(id(2), Input::Install { last, configuration: placed.clone() });
        assert!(cluster.node(id(2)).jobs.is_empty());
    }
    cluster.step(id(1), Input::Install { last: at(1, 7), configuration: placed });
    assert_eq!((cluster.core(id(1)).role(), log(&cluster, 2)), (Role::Leader, before));
}

/// The log has the snapshot's last entry and more: all of it stays, and is known to be committed that far. Fails if
/// `install` begins anew in any case.
#[test]
fn matching_entries_after_it_are_kept() {
    let mut cluster = Cluster::formed(3);
    let entries = vec![entry(1, 0, "a"), entry(1, 1, "b"), entry(1, 2, "c")];
    cluster.inject(id(1), id(2), 1, append(None, entries, 0));
    cluster.settle();
    install(&mut cluster, 2, at(1, 1), members(&[1, 2, 3]));
    assert_eq!(log(&cluster, 2), [at(1, 0), at(1, 1), at(1, 2)]);
    assert_eq!(cluster.core(id(2)).committed(), Seq::new(2));
    assert_eq!(cluster.node(id(2)).applied, Seq::new(2), "applied from the log");
}

/// There is no space for an entry, and behind it the log is to begin after a snapshot. That is written again, without the
/// entry, and the state machine is restored when it is durable, not before. Fails if `persist_again` forgets the record,
/// or `take_back` brings back what it replaced.
#[test]
fn no_space_behind_a_snapshot() {
    let mut cluster = Cluster::formed(3);
    cluster.inject(id(1), id(2), 2, append(None, vec![entry(1, 0, "x")], 0));
    install(&mut cluster, 2, at(2, 4), members(&[1, 2]));
    cluster.inject(id(1), id(2), 2, append(Some(at(2, 4)), vec![entry(2, 5, "y")], 0));
    assert!(cluster.refuse(id(2)));
    assert_eq!((cluster.node(id(2)).applied, log(&cluster, 2)), (Seq::ZERO, vec![]));
    let job = cluster.node(id(2)).jobs.front().unwrap();
    assert_eq!(job.reset, Some(at(2, 4)));
    cluster.persist(id(2));
    assert_eq!(cluster.node(id(2)).applied, Seq::new(5));
    cluster.restart(id(2));
    assert!(cluster.core(id(2)).configuration().unwrap().member(id(3)).is_none());
    assert_eq!(cluster.core(id(2)).terms().last(), Some(at(2, 4)));
}

/// There is no space for an entry, and behind it old ones were dropped: that is written again. Fails if `persist_again`
/// forgets it, as core and log differ.
#[test]
fn no_space_before_a_compaction() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.propose(id(1), &["a"]);
    cluster.settle();
    assert!(cluster.snapshot(id(1)));
    cluster.propose(id(1), &["b"]);
    cluster.compact(id(1));
    assert!(cluster.refuse(id(1)));
    cluster.persist(id(1));
    assert_eq!(cluster.node(id(1)).disk.start, cluster.core(id(1)).terms().start());
    assert_eq!(cluster.node(id(1)).disk.start, Seq::new(2));
}

/// A deposed leader has proposals under way, and hears no more of the log than a snapshot that stands for them. Of one it
/// can be told that it was replaced, of the other nothing. Fails if what is before the start counts as replaced, or as not
/// decided yet: then its client would wait for ever.
#[test]
fn snapshot_strands_client() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.partition(&[&[1], &[2, 3]]);
    let unsettled = cluster.propose(id(1), &["a"]);
    let replaced = cluster.propose(id(1), &["b"]);
    while cluster.persist(id(1)) {}
    cluster.elect(id(2));
    cluster.propose(id(2), &["c"]);
    cluster.settle();
    beat(&mut cluster, id(2));
    assert!(cluster.snapshot(id(2)));
    cluster.compact(id(2));
    cluster.settle();
    assert_eq!(cluster.node(id(2)).disk.start, Seq::new(3), "the second lies just before it");
    cluster.heal();
    cluster.carries_snapshots = true;
    beat(&mut cluster, id(2));
    assert_eq!(cluster.answer(unsettled), Some(Resolution::Unsettled));
    assert_eq!(cluster.answer(replaced), Some(Resolution::Refused(Refusal::Replaced)));
}

/// Nothing goes that is not committed and durable here, nor what a peer that answers has yet to acknowledge.
#[test]
fn what_is_needed_stays() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.propose(id(1), &["a"]);
    cluster.deliver_all(id(1), id(2));
    cluster.persist(id(2));
    cluster.deliver_all(id(2), id(1));
    let compact = |cluster: &mut Cluster, before| {
        cluster.step(id(1), Input::Compact { before: Seq::new(before) });
        cluster.core(id(1)).terms().start().get()
    };
    assert_eq!(
        compact(&mut cluster, 9),
        1,
        "the entry is on one disk, and being written on another"
    );
    cluster.persist(id(1));
    assert_eq!(compact(&mut cluster, 9), 1, "node 3 is about to take it");
    cluster.settle();
    assert_eq!(compact(&mut cluster, 9), 2);
}

/// The configuration of a position is that of the newest entry before it, committed; if two came after it, it is unknown.
#[test]
fn configuration_at_a_position() {
    let mut cluster = Cluster::formed(3);
    let placed = |at, who: &[u64]| Placed { at: Some(Seq::new(at)), ..members(who) };
    let all = Configurations::restored(placed(7, &[1, 2]), Some(placed(4, &[1, 2, 3]))).unwrap();
    cluster.preset(id(1), |disk: &mut Disk| disk.configuration = Some(Arc::new(all)));
    let core = cluster.core(id(1));
    let known = |end| core.configuration_at(Seq::new(end)).and_then(|placed| placed.at);
    assert_eq!(
        [known(8), known(7), known(5), known(4)].map(|at| at.map(Seq::get)),
        [Some(7), Some(4), Some(4), None]
    );
}
