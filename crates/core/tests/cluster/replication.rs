//! Named scenarios: replication and commit. Each says which protection, when removed, makes it fail.

use crate::harness::{Cluster, Letter, accepted, entry, id};
use std::time::Duration;
use tinyraftplus_core::{
    Core, Entry, EntryBody, EntryId, Event, HardState, Input, Loaded, MessageBody, Refusal,
    Resolution, Restored, Role, Seq, Term, Terms,
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

/// How far a node has acknowledged, in what it sent, which is thrown away.
fn acknowledged(cluster: &mut Cluster, node: u64) -> Option<Seq> {
    let sent = cluster.take_sent_by(id(node));
    let matched = |letter: &Letter| {
        let MessageBody::Accepted { matched, .. } = letter.message.body else {
            return None;
        };
        Some(matched)
    };
    sent.iter().filter_map(matched).max()
}

/// Raft figure 8: an entry of term 2 is on three of five nodes while its author leads term 4. It can still
/// be replaced, so it is not committed. Fails if `commit` does not look at the entry's term.
#[test]
fn old_term_commit() {
    let mut cluster = Cluster::formed(5);
    for (node, terms) in [(1, &[1, 2][..]), (2, &[1, 2]), (3, &[1]), (4, &[1]), (5, &[1, 3])] {
        cluster.preset_log(id(node), terms);
    }
    cluster.partition(&[&[1, 2, 3]]);
    while cluster.core(id(1)).role() != Role::Leader {
        cluster.wake(id(1));
        while cluster.core(id(1)).role() != Role::Leader && !cluster.flying.is_empty() {
            cluster.deliver(0);
            (1..=3).for_each(|node| while cluster.persist(id(node)) {});
        }
    }
    let term = cluster.core(id(1)).term().get();
    cluster.persist(id(1));
    for node in [2, 3] {
        cluster.inject(id(node), id(1), term, accepted(Seq::new(2), 0));
    }
    assert_eq!(cluster.core(id(1)).committed(), Seq::ZERO, "node 5 could still replace it");
    cluster.flying.clear();
    cluster.crash(id(1), 0);
    cluster.partition(&[&[2, 3, 4, 5]]);
    assert!(cluster.until(100, |cluster| cluster.leader().is_some()));
    cluster.settle();
}

/// A copy of an old append arrives late, and takes nothing away. Fails if `take` cuts the log behind what
/// the message holds.
#[test]
fn late_append_truncates() {
    let mut cluster = Cluster::formed(2);
    cluster.elect(id(1));
    cluster.propose(id(1), &["a"]);
    let late = cluster.flying.clone();
    cluster.settle();
    cluster.propose(id(1), &["b"]);
    cluster.settle();
    let before = log(&cluster, 2);
    cluster.flying.extend(late);
    cluster.settle();
    assert_eq!(log(&cluster, 2), before);
    assert_eq!(before.len(), 3);
}

/// The entry that conflicts goes, and so does everything after it. Fails if `take` appends without `trim`.
#[test]
fn conflict_tail_kept() {
    let mut cluster = Cluster::formed(3);
    cluster.preset_log(id(2), &[1, 2, 2, 2]);
    cluster.inject(id(1), id(2), 3, append(Some(at(1, 0)), vec![entry(3, 1, "x")], 0));
    cluster.settle();
    assert_eq!(log(&cluster, 2), [at(1, 0), at(3, 1)]);
}

/// The leader has committed more than its message proves to be in this log. Fails if `on_append` takes the
/// leader's commit up to the end of the log.
#[test]
fn commit_past_verified() {
    let mut cluster = Cluster::formed(3);
    cluster.preset_log(id(2), &[1, 2, 2]);
    cluster.inject(id(1), id(2), 3, append(Some(at(1, 0)), vec![], 3));
    assert_eq!(cluster.core(id(2)).committed(), Seq::new(1), "the tail is another leader's");
}

/// The log of a follower was compacted, and a leader sends entries from the very start, of an older term than
/// what was there. They are not written. Fails (it panics) if `on_append` takes no previous entry for the
/// start of any log.
#[test]
fn compacted_prev() {
    let mut cluster = Cluster::formed(3);
    let node = cluster.node(id(2));
    let restored = Restored {
        identity: node.disk.identity,
        hard_state: HardState { term: Term::new(3), vote: None },
        configuration: node.disk.configuration.clone(),
        terms: Terms::empty(Seq::new(5), Term::new(3)),
    };
    let core = Core::new(node.options.clone(), restored, cluster.now).unwrap();
    let node = cluster.nodes.get_mut(&id(2)).unwrap();
    node.core = Some(core);
    (node.disk.start, node.view.start) = (Seq::new(5), Seq::new(5));
    (node.disk.before, node.view.before) = (Term::new(3), Term::new(3));
    node.disk.hard_state.term = Term::new(3);
    for prev in [None, Some(at(1, 4))] {
        cluster.inject(id(1), id(2), 3, append(prev, vec![entry(1, 5, "x")], 6));
        assert!(log(&cluster, 2).is_empty());
    }
    cluster.inject(id(1), id(2), 3, append(Some(at(3, 4)), vec![entry(3, 5, "x")], 6));
    assert_eq!(log(&cluster, 2), [at(3, 5)]);
}

/// A message with a hole in its entries is dropped whole, and so is one with an entry from the future, from
/// before all terms, or of half a batch. Fails if `malformed_entries` does not compare each entry with the one
/// before it and with the message, or does not look at the last.
#[test]
fn packed_gap() {
    let half = Entry { ends_batch: false, ..entry(1, 0, "a") };
    for entries in [
        vec![entry(1, 0, "a"), entry(1, 2, "c")],
        vec![entry(2, 0, "a"), entry(1, 1, "b")],
        vec![entry(1, 0, "a"), entry(4, 1, "b")],
        vec![entry(0, 0, "a")],
        vec![half],
    ] {
        let mut cluster = Cluster::formed(3);
        cluster.inject(id(1), id(2), 3, append(None, entries, 0));
        assert!(log(&cluster, 2).is_empty());
        assert!(matches!(cluster.events.last(), Some((_, Event::Malformed { .. }))));
    }
}

/// Entries are acknowledged when they are durable. Fails if `on_append` acknowledges at once.
#[test]
fn reply_before_sync() {
    let mut cluster = Cluster::formed(3);
    cluster.inject(id(1), id(2), 1, append(None, vec![entry(1, 0, "a")], 0));
    assert_eq!(acknowledged(&mut cluster, 2), None);
    // A repetition finds nothing new to write, and yet has to wait for the same write.
    cluster.inject(id(1), id(2), 1, append(None, vec![entry(1, 0, "a")], 0));
    assert_eq!(acknowledged(&mut cluster, 2), None);
    cluster.persist(id(2));
    assert_eq!(acknowledged(&mut cluster, 2), Some(Seq::new(1)));
}

/// A term's first entry and the term reach the disk in one write. Fails if `adopt_term` writes in a job of
/// its own, or not at all.
#[test]
fn hard_state_after_entries() {
    let mut cluster = Cluster::formed(3);
    cluster.inject(id(1), id(2), 4, append(None, vec![entry(4, 0, "a")], 0));
    let jobs = &cluster.node(id(2)).jobs;
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].hard_state.map(|hard_state| hard_state.term), Some(Term::new(4)));
    assert_eq!(jobs[0].append.len(), 1);
}

/// With one voter nothing is committed before its own disk has it. Fails if `commit` counts the end of the
/// leader's log instead of its durable end.
#[test]
fn single_node_early_ack() {
    let mut cluster = Cluster::formed(1);
    cluster.elect(id(1));
    let ticket = cluster.propose(id(1), &["x"]);
    assert!(matches!(cluster.answer(ticket), Some(Resolution::Accepted { .. })));
    cluster.persist(id(1));
    assert!(matches!(cluster.answer(ticket), Some(Resolution::Committed { .. })));
}

/// A lone leader applies its log again after a restart. Fails if `lead` does not begin its term with an
/// entry, as older ones are not committed by themselves.
#[test]
fn single_leader_no_reapply() {
    let mut cluster = Cluster::formed(1);
    cluster.elect(id(1));
    cluster.propose(id(1), &["x"]);
    cluster.settle();
    cluster.restart(id(1));
    assert_eq!(cluster.node(id(1)).applied, Seq::ZERO);
    cluster.elect(id(1));
    assert_eq!(cluster.node(id(1)).applied, Seq::new(3));
}

/// A quorum commits without the leader's disk. Its state machine waits for that disk, or it would be ahead
/// of its own log after a crash. Fails if `settle` applies up to `committed`.
#[test]
fn state_machine_ahead_of_log() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.stuck.insert(id(1));
    let ticket = cluster.propose(id(1), &["x"]);
    cluster.settle();
    assert!(matches!(cluster.answer(ticket), Some(Resolution::Committed { .. })));
    assert_eq!(cluster.node(id(1)).applied, Seq::new(1));
    cluster.stuck.clear();
    cluster.settle();
    assert_eq!(cluster.node(id(1)).applied, Seq::new(2));
}

/// A deposed leader's entries are still being written when another leader's replace them. The end of the
/// first write makes nothing durable that the second takes away. Fails if `Jobs::durable` ignores trims.
#[test]
fn ack_after_trim() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.propose(id(1), &["a", "b", "c"]);
    cluster.flying.clear();
    cluster.inject(id(2), id(1), 2, append(Some(at(1, 0)), vec![entry(2, 1, "x")], 0));
    assert_eq!(cluster.node(id(1)).jobs.len(), 2);
    cluster.persist(id(1));
    assert_eq!(cluster.core(id(1)).durable(), Seq::new(1));
    assert_eq!(acknowledged(&mut cluster, 1), None);
    cluster.persist(id(1));
    assert_eq!(acknowledged(&mut cluster, 1), Some(Seq::new(2)));
}

/// Node 2 had acknowledged three entries of term 1 when another leader replaced two of them. That old
/// acknowledgement arrives when node 1 leads, in term 3: it speaks of a log that is gone, and counts for nothing.
/// Fails if `peer` does not compare terms: node 1 would never again look for an earlier place where the logs
/// meet, and node 2 refuse all it sends.
#[test]
fn ack_after_reversion() {
    let mut cluster = Cluster::formed(5);
    for (node, terms) in [(1, &[1, 1, 1][..]), (2, &[1, 2]), (4, &[1]), (5, &[1])] {
        cluster.preset_log(id(node), terms);
        cluster.preset(id(node), |disk| disk.hard_state.term = Term::new(2));
    }
    cluster.crash(id(3), 0);
    cluster.partition(&[&[1, 4, 5]]);
    cluster.elect(id(1));
    assert_eq!(log(&cluster, 1), [at(1, 0), at(1, 1), at(1, 2), at(3, 3)]);
    let old = accepted(Seq::new(3), 0);
    cluster.inject(id(2), id(1), 1, old);
    assert_eq!(cluster.core(id(1)).peers().next().unwrap().1.matched, Seq::ZERO);
    cluster.heal();
    assert!(cluster.until(100, |cluster| log(cluster, 2) == log(cluster, 1)));
}

/// Writes are confirmed out of order; the later one counts for both and the earlier one then for nothing, and
/// neither does one that was never begun. Fails if `Jobs::finish` does not compare with what is done and
/// what is begun.
#[test]
fn out_of_order_sync_completion() {
    let mut cluster = Cluster::formed(3);
    cluster.inject(id(1), id(2), 1, append(None, vec![entry(1, 0, "a")], 0));
    cluster.inject(id(3), id(2), 2, append(Some(at(1, 0)), vec![entry(2, 1, "b")], 0));
    let first = cluster.write(id(2)).unwrap();
    let second = cluster.write(id(2)).unwrap();
    for job in [second, first, second, second + 1, u64::MAX, 0] {
        cluster.step(id(2), Input::Persisted { job });
        assert_eq!(cluster.core(id(2)).durable(), Seq::new(2), "after {job}");
    }
    assert_eq!(acknowledged(&mut cluster, 2), Some(Seq::new(2)));
    // The hard state came with the second, and is still durable: a heartbeat is answered at once.
    cluster.inject(id(3), id(2), 2, append(Some(at(2, 1)), vec![], 0));
    assert_eq!(acknowledged(&mut cluster, 2), Some(Seq::new(2)));
    // And a write that begins now has not been confirmed by anything before.
    cluster.inject(id(3), id(2), 2, append(Some(at(2, 1)), vec![entry(2, 2, "c")], 0));
    assert_eq!(acknowledged(&mut cluster, 2), None);
}

/// A hint points into the middle of a batch that the leader has and the follower lacks: the batch is sent
/// whole. Fails if `loaded` sends from the peer's next position instead of the start that was found.
#[test]
fn batch_split_by_hint() {
    let mut cluster = Cluster::formed(3);
    for node in [1, 3] {
        cluster.preset(id(node), |disk| {
            let terms = (0..).zip([1, 3, 3, 3, 5]);
            disk.entries = terms.map(|(seq, term)| entry(term, seq, "old")).collect();
            (disk.entries[1].ends_batch, disk.entries[2].ends_batch) = (false, false);
            disk.hard_state.term = Term::new(5);
        });
    }
    // Its newest entry not above 4@5 is 2@4; the leader's newest not above that is 2@3, inside the batch.
    cluster.preset_log(id(2), &[1, 4, 4]);
    cluster.elect(id(1));
    cluster.settle();
    assert_eq!(log(&cluster, 2), log(&cluster, 1));
    let ends: Vec<bool> = cluster.node(id(2)).view.entries.iter().map(|e| e.ends_batch).collect();
    assert_eq!(ends[..5], [true, false, false, true, true]);
}

/// The leader can't read the entries that a follower lacks: a failing disk is not the end of the log. The follower is
/// sent nothing in their place, others go on, and the question comes again now and then, until it is answered.
/// Fails if `loaded` takes no answer for the peer having everything, or `retry_overdue` does not ask again.
#[test]
fn read_error_as_end_of_log() {
    let mut cluster = Cluster::formed(3);
    for node in [1, 3] {
        cluster.preset_log(id(node), &[1, 1, 1]);
    }
    cluster.partition(&[&[1, 3]]);
    cluster.elect(id(1));
    cluster.heal();
    let mut asked = 0;
    for _ in 0..100 {
        cluster.now = cluster.now + Duration::from_millis(100);
        cluster.step(id(1), Input::Wake);
        cluster.propose(id(1), &["x"]);
        for _ in 0..2 {
            while cluster.load(id(1), false) {
                asked += 1;
            }
            for (from, to) in [(1, 2), (1, 3), (2, 1), (3, 1)] {
                cluster.deliver_all(id(from), id(to));
                (1..=3).for_each(|node| while cluster.persist(id(node)) {});
            }
        }
        assert!(log(&cluster, 2).is_empty());
        assert_eq!(cluster.core(id(2)).leader(), Some(id(1)));
    }
    assert!((4..40).contains(&asked), "asked {asked} times in ten seconds");
    assert_eq!(cluster.core(id(1)).committed(), Seq::new(104), "the others go on");
    assert!(cluster.until(100, |cluster| log(cluster, 2) == log(cluster, 1)));
}

/// Nobody can have what was never sent. Who says so is not believed: when the log gets that far, it would count as a
/// copy that nobody has. Fails if `on_accepted` does not compare with the end of the log.
#[test]
fn acknowledgement_of_what_was_never_sent() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.inject(id(2), id(1), 1, accepted(Seq::new(3), 0));
    assert!(matches!(cluster.events.last(), Some((_, Event::Malformed { .. }))));
    cluster.flying.clear();
    cluster.propose(id(1), &["a", "b"]);
    cluster.persist(id(1));
    assert_eq!(cluster.core(id(1)).committed(), Seq::new(1), "it is on one disk");
}

/// The answer to a question about old entries arrives when the leader that asked was deposed and leads again. It
/// does not pass for the answer to a question of the new term. Fails if `lead` counts questions from 0.
#[test]
fn late_answer_about_old_entries() {
    let mut cluster = Cluster::formed(3);
    for node in [1, 3] {
        cluster.preset_log(id(node), &[1, 1, 1]);
    }
    let asks = |cluster: &Cluster| !cluster.node(id(1)).loads.is_empty();
    let mut loads = Vec::new();
    for _ in 0..2 {
        cluster.now = cluster.now + cluster.node(id(1)).options.election_timeout * 3;
        cluster.step(id(1), Input::Wake);
        cluster.flying.clear();
        cluster.now = cluster.now + cluster.node(id(1)).options.election_timeout * 3;
        cluster.step(id(1), Input::Wake);
        while !asks(&cluster) {
            assert!(!cluster.flying.is_empty(), "nothing makes the leader ask");
            cluster.deliver(0);
            (1..=3).for_each(|node| while cluster.persist(id(node)) {});
        }
        loads.extend(cluster.nodes.get_mut(&id(1)).unwrap().loads.drain(..));
    }
    assert_eq!(loads.len(), 2);
    cluster.flying.clear();
    let late = Loaded {
        to: id(2),
        number: loads[0].number,
        range: Some((Seq::ZERO, Seq::new(3))),
        bytes: 0,
    };
    cluster.step(id(1), Input::Loaded(late));
    assert!(cluster.flying.is_empty(), "the answer was to another question");
    cluster.step(id(1), Input::Loaded(Loaded { number: loads[1].number, ..late }));
    assert_eq!(cluster.flying.len(), 1);
}

/// Every message of a leader with a tiny window is lost, for long. When they get through again, so do new
/// entries. Fails if `Progress::probe` leaves bytes in flight, or `accepted` does not give them back.
#[test]
fn inflight_counter_leak() {
    let mut cluster = Cluster::formed_with(3, |options| {
        options.window_bytes = 100;
        options.append_bytes_max = 100;
    });
    cluster.elect(id(1));
    for round in 0..20 {
        cluster.propose(id(1), &["x"]);
        cluster.flying.retain(|l| {
            !matches!(&l.message.body, MessageBody::Append { entries, .. } if !entries.is_empty())
        });
        cluster.settle();
        cluster.now = cluster.now + Duration::from_millis(300 + round);
        cluster.step(id(1), Input::Wake);
    }
    let ticket = cluster.propose(id(1), &["y"]);
    let done =
        |cluster: &Cluster| matches!(cluster.answer(ticket), Some(Resolution::Committed { .. }));
    assert!(cluster.until(100, done));
}

/// A slow peer answers heartbeats while a large append is on its way to it: it is not sent the whole window
/// again and again. Fails if the answer to a heartbeat ends a probe (`matched >= meet` in `accepted`).
#[test]
fn slow_peer_is_not_flooded() {
    let mut cluster = Cluster::formed_with(3, |options| options.append_bytes_max = 100);
    cluster.elect(id(1));
    cluster.stuck.insert(id(2));
    for _ in 0..50 {
        cluster.propose(id(1), &["a payload"]);
    }
    cluster.settle();
    cluster.transcript = Some(Vec::new());
    for _ in 0..100 {
        cluster.now = cluster.now + Duration::from_millis(100);
        cluster.step(id(1), Input::Wake);
        cluster.settle();
    }
    let lines = cluster.transcript.take().unwrap();
    let full = |line: &&String| line.starts_with("1 -> 2 append") && line.contains('[');
    let sent = lines.iter().filter(full).count();
    assert!(sent < 10, "{sent} appends in ten seconds to a peer that can't write");
    cluster.stuck.clear();
    let end = cluster.core(id(1)).terms().end();
    assert!(cluster.until(100, |cluster| cluster.core(id(2)).durable() == end));
}

/// A follower that is far behind gets appends in any order, as some networks deliver them. Each that comes too
/// early is rejected, and the leader goes back; it must not send its whole window again each time, or the
/// follower gets one entry for each window and never arrives. Fails if the window does not begin small
/// again after a probe (found by seed 5185 of the simulator).
#[test]
fn reordered_appends_do_not_go_round() {
    let mut cluster = Cluster::formed_with(3, |options| options.append_bytes_max = 100);
    cluster.elect(id(1));
    cluster.partition(&[&[1, 2]]);
    for _ in 0..300 {
        cluster.propose(id(1), &["a payload"]);
    }
    cluster.settle();
    cluster.heal();
    cluster.transcript = Some(Vec::new());
    let end = cluster.core(id(1)).terms().end();
    let mut random = 7_u64;
    for _ in 0..100_000 {
        if cluster.core(id(3)).durable() == end {
            break;
        }
        for node in [id(1), id(2), id(3)] {
            while cluster.persist(node) || cluster.load(node, true) {}
        }
        if cluster.flying.is_empty() {
            cluster.now = cluster.now + Duration::from_millis(100);
            cluster.step(id(1), Input::Wake);
        } else {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = usize::try_from(random >> 33).unwrap() % cluster.flying.len();
            cluster.deliver(at);
        }
    }
    assert_eq!(cluster.core(id(3)).durable(), end);
    let lines = cluster.transcript.take().unwrap();
    let full = |line: &&String| line.starts_with("1 -> 3 append") && line.contains('[');
    let sent = lines.iter().filter(full).count();
    assert!(sent < 1500, "{sent} appends for 300 entries");
}

/// What a deposed leader had accepted is either committed by its successor or refused for good. Fails if
/// `settle` does not look whether the entry is still the one.
#[test]
fn replaced_is_not_committed() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.partition(&[&[2, 3]]);
    let lost = cluster.propose(id(1), &["lost"]);
    cluster.elect(id(2));
    cluster.propose(id(2), &["won"]);
    cluster.heal();
    let answered =
        |cluster: &Cluster| cluster.answer(lost) == Some(Resolution::Refused(Refusal::Replaced));
    assert!(cluster.until(100, answered));
}

/// The same, and the log that won is shorter: the answer does not wait until it is as long as the other was. Fails if
/// `refuse_replaced` is left out (found by run 21).
#[test]
fn what_is_replaced_by_a_shorter_log() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.partition(&[&[2, 3]]);
    let lost = ["a", "b", "c"].map(|payload| cluster.propose(id(1), &[payload]));
    cluster.elect(id(2));
    cluster.heal();
    assert!(cluster.until(100, |cluster| cluster.node(id(1)).applied == Seq::new(2)));
    for ticket in lost {
        assert_eq!(cluster.answer(ticket), Some(Resolution::Refused(Refusal::Replaced)));
    }
}

/// The newest positions of a log that began near the end of all numbers work, and past them proposals are
/// refused; nothing wraps, and nobody campaigns for a term that could not begin. Fails if `pre_campaign`
/// does not look for room: terms would rise for ever.
#[test]
fn full_log_is_refused() {
    let first = Seq::new(u64::MAX - 2);
    let mut cluster = Cluster::formed_with(3, |options| options.first_seq = first);
    cluster.elect(id(1));
    let (two, one) = (cluster.propose(id(1), &["a", "b"]), cluster.propose(id(1), &["a"]));
    let more = cluster.propose(id(1), &["c"]);
    cluster.settle();
    assert_eq!(cluster.answer(two), Some(Resolution::Refused(Refusal::LogFull)));
    assert_eq!(cluster.answer(more), Some(Resolution::Refused(Refusal::LogFull)));
    assert!(matches!(cluster.answer(one), Some(Resolution::Committed { .. })));
    for node in 1..=3 {
        cluster.restart(id(node));
    }
    for _ in 0..50 {
        cluster.advance();
    }
    assert_eq!(cluster.core(id(1)).term(), Term::new(1));
    assert!(cluster.events.contains(&(id(1), Event::LogFull)));
}

/// An entry with an empty payload is an entry like any other.
#[test]
fn empty_payload_is_not_a_noop() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.propose(id(1), &[""]);
    cluster.settle();
    let newest = cluster.node(id(2)).disk.entries.last().unwrap();
    assert_eq!(newest.body, EntryBody::Payload(String::new()));
}
