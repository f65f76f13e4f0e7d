//! Named scenarios: snapshots and compaction. Each says which protection, when removed, makes it fail.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use common::{Cluster, Fate, bytes, id, seq};
use tinyraftplus_core::{MessageBody, NodeId, Seq};
use tinyraftplus_log::{EntryKind, LogError, LogRead};
use tinyraftplus_replica::{
    Event, Happening, LoadRequest, Message, Outcome, Refused, ReplicaOptions, Request,
    SnapshotNews, SnapshotOptions, SnapshotWork, Unknown, Want,
};

fn tune(options: &mut ReplicaOptions) {
    options.snapshots = Some(SnapshotOptions {
        log_bytes: Some(4000),
        keep_entries: 10,
        window_bytes: 2048,
        ..SnapshotOptions::default()
    });
}

fn adjust(options: &mut ReplicaOptions, adjust: impl Fn(&mut SnapshotOptions)) {
    tune(options);
    options.snapshots.as_mut().map(adjust).unwrap();
}

fn asked_only(options: &mut ReplicaOptions) {
    adjust(options, |it| it.log_bytes = None);
}

fn without_machine(options: &mut ReplicaOptions) {
    asked_only(options);
    options.state_machine = false;
}

/// Appends so many entries of some fifty bytes at once, and waits for them.
fn fill(cluster: &mut Cluster, node: NodeId, count: u64) {
    let calls: Vec<_> =
        (0..count).map(|n| cluster.append(node, &format!("{n:04} {n:050}"))).collect();
    for call in calls {
        cluster.committed(call);
    }
}

fn start_of(cluster: &Cluster, node: NodeId) -> Seq {
    cluster.replica(node).core().terms().start()
}

/// What the state machine of a leader has is what everybody's has, soon.
fn all_agree(cluster: &mut Cluster) {
    let leader = cluster.leader();
    let call = cluster.append(leader, "last");
    cluster.committed(call);
    cluster.until(|c| {
        let machine = &c.nodes[&leader].machine;
        c.nodes.values().all(|node| node.machine == *machine)
    });
}

fn installed(cluster: &Cluster, node: NodeId) -> usize {
    let events = cluster.nodes[&node].events.iter();
    events.filter(|event| matches!(event, Event::SnapshotInstalled { .. })).count()
}

/// Cuts a follower off until the others no longer have what it needs; returns it and the leader.
fn left_behind(cluster: &mut Cluster) -> (NodeId, NodeId) {
    let leader = cluster.leader();
    let behind = cluster.follower();
    cluster.isolate(behind);
    fill(cluster, leader, 200);
    let end = cluster.nodes[&behind].disk.end();
    cluster.pass(Duration::from_secs(2));
    fill(cluster, leader, 200);
    cluster.until(|c| c.nodes.keys().filter(|&&n| n != behind).all(|&n| start_of(c, n) > end));
    (behind, leader)
}

/// Logs stay short by themselves, and one that was away gets a snapshot, then entries. Fails if nobody compacts, or a peer
/// that is behind is not told.
#[test]
fn logs_stay_short_and_who_is_behind_gets_a_snapshot() {
    let mut cluster = Cluster::new(3, tune);
    let (behind, leader) = left_behind(&mut cluster);
    let kept = cluster.nodes[&leader].disk.entries.len();
    assert!((10..200).contains(&kept), "{kept} entries are kept");
    assert_eq!(cluster.nodes[&leader].disk.snapshots.len(), 1, "older ones are removed");
    cluster.heal();
    all_agree(&mut cluster);
    assert_eq!(installed(&cluster, behind), 1);
    // Who has nearly all gets the rest as entries.
    cluster.isolate(behind);
    fill(&mut cluster, leader, 5);
    cluster.heal();
    all_agree(&mut cluster);
    assert_eq!(installed(&cluster, behind), 1);
}

/// A snapshot that is asked for is of everything that was applied by then; when there is nothing new, it is there already.
#[test]
fn snapshots_on_demand() {
    let mut cluster = Cluster::new(3, asked_only);
    let leader = cluster.leader();
    fill(&mut cluster, leader, 3);
    let applied = cluster.replica(leader).status().applied;
    let call = cluster.call(leader, Request::Snapshot);
    assert_eq!(cluster.outcome(call), Outcome::Done);
    let snapshot = cluster.replica(leader).status().snapshot.unwrap();
    assert_eq!(snapshot.seq.after(), applied);
    let call = cluster.call(leader, Request::Snapshot);
    assert_eq!(cluster.outcomes.get(&call), Some(&Outcome::Done), "at once");
    assert_eq!(cluster.nodes[&leader].disk.made, 1);
}

/// Appends go on while a snapshot is being written. Fails if a state machine that takes one gets no entries.
#[test]
fn appends_go_on_while_a_snapshot_is_written() {
    let mut cluster = Cluster::new(1, asked_only);
    let leader = cluster.leader();
    fill(&mut cluster, leader, 3);
    cluster.node(leader).holds_snapshots = true;
    let call = cluster.call(leader, Request::Snapshot);
    let appended = cluster.append(leader, "meanwhile");
    cluster.committed(appended);
    assert!(!cluster.outcomes.contains_key(&call));
}

/// A snapshot can't be taken: who asked is told, and nothing else happens.
#[test]
fn a_snapshot_that_fails_is_told() {
    let mut cluster = Cluster::new(1, asked_only);
    let leader = cluster.leader();
    fill(&mut cluster, leader, 3);
    cluster.node(leader).holds_snapshots = true;
    let call = cluster.call(leader, Request::Snapshot);
    let failed = SnapshotNews::Taken(Err("no space".into()));
    cluster.step(leader, Happening::Snapshot(failed));
    let refused = Outcome::Refused(Refused::Snapshot("no space".into()));
    assert_eq!(cluster.outcome(call), refused);
    fill(&mut cluster, leader, 3);
    let never = Cluster::new(1, |_| {}).call(id(1), Request::Snapshot);
    let mut cluster = Cluster::new(1, |_| {});
    assert_eq!(cluster.call(id(1), Request::Snapshot), never);
    assert_eq!(cluster.outcome(never), Outcome::Refused(Refused::NoSnapshots));
}

type Counts = Rc<RefCell<BTreeMap<(u128, u64), usize>>>;

/// Counts the chunks that are sent, and loses some of the messages about snapshots.
fn count_chunks(cluster: &mut Cluster, mut lose: impl FnMut(&Message) -> bool + 'static) -> Counts {
    let counts = Counts::default();
    let seen = Rc::clone(&counts);
    cluster.filter = Box::new(move |_, _, message| {
        if let Message::SnapshotChunk(chunk) = message {
            *seen.borrow_mut().entry((chunk.id.get(), chunk.number)).or_default() += 1;
        }
        if lose(message) { Fate::Drop } else { Fate::Deliver }
    });
    counts
}

/// Chunks, acknowledgements and offers get lost, and the follower starts anew halfway: it goes on with what it has. Fails if
/// an offer begins the transfer anew.
#[test]
fn a_transfer_is_resumed() {
    let mut cluster = Cluster::new(3, tune);
    let (behind, leader) = left_behind(&mut cluster);
    let chunks = {
        let node = &cluster.nodes[&leader];
        node.disk.snapshots.newest().unwrap().chunks()
    };
    assert!(chunks > 10, "{chunks} chunks");
    let about = Cell::new(0);
    let counts = count_chunks(&mut cluster, move |message| {
        let is_about = matches!(
            message,
            Message::SnapshotOffer(_) | Message::SnapshotChunk(_) | Message::SnapshotAck(_)
        );
        about.set(about.get() + u64::from(is_about));
        is_about && about.get().is_multiple_of(7)
    });
    cluster.heal();
    let half = (usize::try_from(chunks).unwrap()) / 2;
    cluster.until(|_| counts.borrow().len() > half);
    cluster.kill(behind);
    cluster.start(behind);
    all_agree(&mut cluster);
    let sent: usize = counts.borrow().values().sum();
    let all = usize::try_from(chunks).unwrap();
    assert!(sent < all + half, "{sent} chunks for {all}: it began anew");
}

/// In the middle of a transfer another node becomes the leader, whose snapshot is another. Its chunks are not put behind those
/// of the first. Fails if what was received counts for any snapshot.
#[test]
fn another_snapshot_begins_anew() {
    let mut cluster = Cluster::new(3, tune);
    let (behind, leader) = left_behind(&mut cluster);
    let counts = count_chunks(&mut cluster, |_| false);
    cluster.heal();
    cluster.until(|_| counts.borrow().len() > 3);
    cluster.kill(leader);
    let others: Vec<u64> = (1..=3).filter(|&n| id(n) != leader).collect();
    cluster.leader_of(&others);
    cluster.until(|c| installed(c, behind) == 1);
    cluster.start(leader);
    all_agree(&mut cluster);
    let ids = counts.borrow().keys().map(|(id, _)| *id).collect::<std::collections::BTreeSet<_>>();
    assert!(ids.len() > 1, "there was no other snapshot");
}

/// A node dies after each thing that it does while a snapshot is installed, and starts again: the snapshot, the log and the
/// state machine come to fit each other. Fails if a start does not look whether its log lacks what its snapshot has
/// (`snapshot_interrupted`).
#[test]
fn snapshot_interrupted() {
    let mut ends = 0;
    for steps in 0.. {
        let mut cluster = Cluster::new(3, tune);
        let (behind, _) = left_behind(&mut cluster);
        cluster.heal();
        // So many things happen at that node from the first offer on.
        let done = Rc::new(Cell::new(0));
        let counted = Rc::clone(&done);
        cluster.filter = Box::new(move |from, to, message| {
            let begun = matches!(message, Message::SnapshotOffer(_)) && to == behind;
            let counts = begun || counted.get() > 0 && (from == behind || to == behind);
            counted.set(counted.get() + u64::from(counts));
            Fate::Deliver
        });
        cluster.until(|c| done.get() > 0 || installed(c, behind) > 0);
        let end = steps;
        let mut count = 0;
        cluster.until(|c| {
            count += 1;
            count > end || installed(c, behind) > 0
        });
        let is_over = installed(&cluster, behind) > 0;
        cluster.kill(behind);
        cluster.start(behind);
        all_agree(&mut cluster);
        ends += usize::from(is_over);
        if ends > 2 {
            assert!(steps > 30, "only {steps} steps were interrupted");
            return;
        }
    }
}

/// A state machine keeps what it has, and a node that was restored starts again: what comes after the snapshot is applied
/// once, and nothing before it. Fails if where to go on is stored apart from the snapshot (`apply_index_not_atomic`).
#[test]
fn apply_index_not_atomic() {
    let mut cluster = Cluster::new(3, tune);
    let (behind, _) = left_behind(&mut cluster);
    cluster.heal();
    cluster.until(|c| installed(c, behind) == 1 && c.nodes[&behind].machine.len() > 100);
    for kept in [true, false] {
        let applied = cluster.replica(behind).status().applied;
        let machine = cluster.nodes[&behind].machine.clone();
        cluster.kill(behind);
        cluster.node(behind).machine = machine;
        cluster.start_at(behind, if kept { applied } else { Seq::ZERO });
        all_agree(&mut cluster);
        let seqs: Vec<Seq> = cluster.nodes[&behind].machine.iter().map(|(seq, _)| *seq).collect();
        assert!(seqs.is_sorted_by(|a, b| a < b), "an entry was applied twice");
    }
}

/// A client's call is in the log of a leader that is cut off, and all it hears later is a snapshot. It is answered at once, and
/// not with an outcome that nobody knows. Fails if what lies under a snapshot counts as replaced, or is waited for.
#[test]
fn snapshot_strands_client() {
    let mut cluster = Cluster::new(3, tune);
    let leader = cluster.leader();
    cluster.isolate(leader);
    let time = Duration::from_hours(1);
    let request = |text| Request::Append { payloads: vec![bytes(text)] };
    let stranded = cluster.call_for(leader, request("stranded"), time);
    cluster.until(|c| c.nodes[&leader].writes.is_empty());
    let others: Vec<u64> = (1..=3).filter(|&n| id(n) != leader).collect();
    let next = cluster.leader_of(&others);
    fill(&mut cluster, next, 200);
    cluster.pass(Duration::from_secs(2));
    fill(&mut cluster, next, 200);
    cluster.heal();
    cluster.until(|c| installed(c, leader) == 1);
    let began = cluster.now;
    assert_eq!(cluster.outcome(stranded), Outcome::Unknown(Unknown::Snapshot));
    assert!(cluster.now.since(began) < Duration::from_secs(5));
    all_agree(&mut cluster);
}

/// A node that is behind passed a call on, which was committed; then all it gets is a snapshot. The leader's word is what its
/// client hears.
#[test]
fn a_forwarded_call_under_a_snapshot_is_answered() {
    let mut cluster = Cluster::new(3, tune);
    let leader = cluster.leader();
    let behind = cluster.follower();
    // Entries do not reach it, everything else does.
    cluster.filter = Box::new(move |_, to, message| {
        let is_entries = matches!(message, Message::Raft(message) if matches!(&message.body, MessageBody::Append { entries, .. } if !entries.is_empty()));
        if to == behind && is_entries { Fate::Drop } else { Fate::Deliver }
    });
    let call = cluster.append(behind, "passed on");
    let outcome = cluster.outcome(call);
    assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
    fill(&mut cluster, leader, 400);
    cluster.until(|c| installed(c, behind) == 1);
    cluster.release();
    all_agree(&mut cluster);
}

/// A log begins where a batch does: one in the middle of a batch is moved to its start. Fails if `Compact` takes any position
/// (`batch_split_by_hint`).
#[test]
fn a_compaction_does_not_split_a_batch() {
    let mut cluster = Cluster::new(1, asked_only);
    let leader = cluster.leader();
    fill(&mut cluster, leader, 3);
    let batch = Request::Append { payloads: vec![bytes("a"), bytes("b"), bytes("c")] };
    let call = cluster.call(leader, batch);
    let first = cluster.committed(call);
    let call = cluster.call(leader, Request::Snapshot);
    cluster.outcome(call);
    let before = seq(first.get() + 2);
    let call = cluster.call(leader, Request::Compact { before, forced: false });
    assert_eq!(cluster.outcome(call), Outcome::Done);
    assert_eq!(cluster.nodes[&leader].disk.bounds().start, first);
    let end = cluster.replica(leader).status().applied;
    let beyond = Request::Compact { before: end.after(), forced: false };
    let call = cluster.call(leader, beyond);
    assert_eq!(cluster.outcome(call), Outcome::Refused(Refused::NotApplied { end }));
    // What no snapshot stands for gets one first.
    fill(&mut cluster, leader, 3);
    let before = cluster.replica(leader).status().applied;
    let call = cluster.call(leader, Request::Compact { before, forced: false });
    assert_eq!(cluster.outcome(call), Outcome::Done);
    assert_eq!(cluster.nodes[&leader].disk.start, before);
    assert_eq!(cluster.nodes[&leader].disk.made, 2);
}

/// Without a state machine entries are all there is: they stay while a member lacks them, whoever is asked; by force they go, and
/// the member gets a snapshot of nothing and goes on from there. Fails if what members hold is not asked for.
#[test]
fn without_a_state_machine_entries_stay_while_they_are_needed() {
    let mut cluster = Cluster::new(3, without_machine);
    let leader = cluster.leader();
    let behind = cluster.follower();
    let third = (1..=3).map(id).find(|n| ![leader, behind].contains(n)).unwrap();
    fill(&mut cluster, leader, 3);
    cluster.until(|c| c.nodes[&behind].disk.end() == c.nodes[&leader].disk.end());
    cluster.isolate(behind);
    fill(&mut cluster, leader, 10);
    cluster.pass(Duration::from_secs(2));
    let before = cluster.nodes[&leader].disk.end();
    cluster.until(|c| c.replica(third).status().applied == before);
    for node in [leader, third] {
        let call = cluster.call(node, Request::Compact { before, forced: false });
        let outcome = cluster.outcome(call);
        let Outcome::Refused(Refused::StillNeeded { from }) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(from <= cluster.nodes[&behind].disk.end());
        let call = cluster.call(node, Request::Compact { before: from, forced: false });
        assert_eq!(cluster.outcome(call), Outcome::Done);
    }
    for node in [leader, third] {
        let call = cluster.call(node, Request::Compact { before, forced: true });
        assert_eq!(cluster.outcome(call), Outcome::Done);
        assert_eq!(cluster.nodes[&node].disk.start, before);
    }
    cluster.heal();
    let call = cluster.append(leader, "after");
    let at = cluster.committed(call);
    cluster.until(|c| c.nodes[&behind].disk.end() > at);
    assert_eq!(installed(&cluster, behind), 1);
    let entries = &cluster.nodes[&behind].disk.entries;
    assert!(entries.iter().all(|entry| entry.id.seq >= before));
    assert!(entries.iter().any(|it| it.kind == EntryKind::Payload && it.payload == "after"));
}

/// What is to be read was dropped since it was asked for. Fails (it hangs) if the start of a batch is looked for below the
/// log's (seed 660).
#[test]
fn reading_below_the_start_ends() {
    let mut cluster = Cluster::new(1, asked_only);
    let leader = cluster.leader();
    fill(&mut cluster, leader, 9);
    let call = cluster.call(leader, Request::Compact { before: seq(5), forced: false });
    assert_eq!(cluster.outcome(call), Outcome::Done);
    let want = Want::Batches { at_most: seq(2), end: seq(8), bytes_max: 100 };
    let reply = LoadRequest { number: 1, want }.run(&cluster.nodes[&leader].disk);
    assert!(matches!(reply.entries, Err(LogError::Compacted { .. })), "{reply:?}");
}

/// A log of one file says so by name.
#[test]
fn a_log_that_never_compacts_is_told() {
    let mut cluster = Cluster::new(1, |options| adjust(options, |it| it.compacts = false));
    let leader = cluster.leader();
    fill(&mut cluster, leader, 200);
    cluster.until(|c| c.nodes[&leader].disk.made > 0);
    assert_eq!(start_of(&cluster, leader), Seq::ZERO);
    let call = cluster.call(leader, Request::Compact { before: seq(1), forced: false });
    assert_eq!(cluster.outcome(call), Outcome::Refused(Refused::NeverCompacts));
}

/// A snapshot takes the time that its rate gives it, with few chunks on their way at once, and appends go on meanwhile.
#[test]
fn transfers_are_slow_on_purpose() {
    // A chunk every 100 ms.
    let slow = |options: &mut ReplicaOptions| adjust(options, |it| it.bytes_per_second = 10_240);
    let mut cluster = Cluster::new(3, slow);
    let (behind, leader) = left_behind(&mut cluster);
    let under_way = Rc::new(Cell::new(0_i64));
    let most = Rc::new(Cell::new(0_i64));
    let (now, seen) = (Rc::clone(&under_way), Rc::clone(&most));
    cluster.filter = Box::new(move |_, _, message| {
        if matches!(message, Message::SnapshotChunk(_)) {
            now.set(now.get() + 1);
        } else if matches!(message, Message::SnapshotAck(_)) {
            now.set((now.get() - 1).max(0));
        }
        seen.set(seen.get().max(now.get()));
        Fate::Deliver
    });
    cluster.heal();
    let began = cluster.now;
    let mut appended = 0;
    while installed(&cluster, behind) == 0 {
        let call = cluster.append(leader, "meanwhile");
        let asked = cluster.now;
        cluster.committed(call);
        assert!(cluster.now.since(asked) < Duration::from_millis(300));
        appended += 1;
        cluster.pass(Duration::from_millis(20));
    }
    let bytes = cluster.nodes[&behind].disk.snapshots.newest().unwrap().bytes;
    let least = Duration::from_millis(bytes / 1024 * 90);
    assert!(cluster.now.since(began) >= least, "{:?} for {bytes} bytes", cluster.now.since(began));
    assert!(most.get() <= 2, "{} chunks at once", most.get());
    assert!(appended > 0);
    all_agree(&mut cluster);
}

/// A snapshot turns out to be damaged while it is sent: another one is made and sent. Fails if it is tried for ever.
#[test]
fn a_damaged_snapshot_is_replaced() {
    let mut cluster = Cluster::new(3, tune);
    let (behind, leader) = left_behind(&mut cluster);
    let made = cluster.nodes[&leader].disk.made;
    cluster.node(leader).holds_snapshots = true;
    cluster.heal();
    let reads = |c: &Cluster| {
        let works = c.nodes[&leader].works.iter();
        works.filter(|work| matches!(work, SnapshotWork::Read { .. })).count()
    };
    cluster.until(|c| reads(c) > 0);
    for work in std::mem::take(&mut cluster.node(leader).works) {
        let SnapshotWork::Read { to, id, number } = work else {
            cluster.node(leader).works.push_back(work);
            continue;
        };
        let result = Err("its bytes are damaged".to_owned());
        cluster.step(leader, Happening::Snapshot(SnapshotNews::Chunk { to, id, number, result }));
    }
    cluster.node(leader).holds_snapshots = false;
    fill(&mut cluster, leader, 1);
    cluster.until(|c| installed(c, behind) == 1);
    assert!(cluster.nodes[&leader].disk.made > made);
    all_agree(&mut cluster);
}

/// Messages about snapshots from nodes that do not lead, of other terms, and of lengths that can't be, do nothing.
#[test]
fn made_up_snapshots_do_no_harm() {
    let mut cluster = Cluster::new(3, tune);
    let (behind, leader) = left_behind(&mut cluster);
    let third = (1..=3).map(id).find(|n| ![leader, behind].contains(n)).unwrap();
    let kept = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&kept);
    cluster.filter = Box::new(move |_, _, message| {
        let is_about = matches!(message, Message::SnapshotOffer(_) | Message::SnapshotChunk(_));
        if is_about {
            seen.borrow_mut().push(message.clone());
        }
        Fate::Deliver
    });
    cluster.heal();
    cluster.until(|c| installed(c, behind) == 1);
    all_agree(&mut cluster);
    let before = cluster.nodes[&behind].disk.snapshots.len();
    for message in kept.borrow().iter() {
        for to in [behind, leader, third] {
            for from in [leader, third] {
                let mut message = message.clone();
                cluster.step(to, Happening::Receive { from, message: message.clone() });
                if let Message::SnapshotOffer(offer) = &mut message {
                    offer.meta.last.seq = Seq::MAX;
                }
                if let Message::SnapshotChunk(chunk) = &mut message {
                    chunk.number = u64::MAX;
                }
                cluster.step(to, Happening::Receive { from, message });
            }
        }
    }
    all_agree(&mut cluster);
    assert_eq!(
        (cluster.nodes[&behind].disk.snapshots.len(), installed(&cluster, behind)),
        (before, 1)
    );
}
