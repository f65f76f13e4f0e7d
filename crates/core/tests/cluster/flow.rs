//! Named scenarios: flow control. Each says which protection, when removed, makes it fail.

use crate::harness::{Cluster, Letter, id};
use std::time::Duration;
use tinyraftplus_core::{
    Input, Load, MemberSpec, MessageBody, Proposal, Refusal, Resolution, Seq, Ticket,
};

/// What one of these entries costs where bytes are counted.
const COST: u64 = Load::ENTRY_COST + 1;

/// How many appends with entries are on their way to a node, and how many entries.
fn under_way(cluster: &Cluster, to: u64) -> (usize, usize) {
    let counts = cluster.flying.iter().filter(|letter| letter.to == id(to)).map(|letter| {
        let MessageBody::Append { entries, .. } = &letter.message.body else {
            return 0;
        };
        entries.len()
    });
    let counts: Vec<usize> = counts.filter(|&count| count > 0).collect();
    (counts.len(), counts.iter().sum())
}

/// Node 3 answers heartbeats, but its disk takes nothing. The two others commit each entry in one round trip, as
/// if it were not there, and it costs the leader a window of messages, however much it lacks. Fails if `refusal`
/// counts what not all have instead of what is not committed, or `fill` does not look at the window.
#[test]
fn slow_follower_never_slows_a_quorum() {
    let (window, bound) = (10 * COST, 50 * COST);
    let mut cluster = Cluster::formed_with(3, |options| {
        options.append_bytes_max = COST;
        options.window_bytes = window;
        options.uncommitted_bytes_max = bound;
    });
    cluster.elect(id(1));
    cluster.stuck.insert(id(3));
    for number in 0..300 {
        let ticket = cluster.propose(id(1), &["x"]);
        for (from, to) in [(1, 2), (2, 1)] {
            (1..=2).for_each(|node| while cluster.persist(id(node)) {});
            cluster.deliver_all(id(from), id(to));
            (1..=2).for_each(|node| while cluster.persist(id(node)) {});
        }
        let answer = cluster.answer(ticket);
        assert!(matches!(answer, Some(Resolution::Committed { .. })), "{number}: {answer:?}");
        let (_, entries) = under_way(&cluster, 3);
        assert!(entries <= 10, "{entries} entries are on their way to a node that takes none");
        if number % 30 == 0 {
            cluster.now = cluster.now + cluster.node(id(1)).options.heartbeat_interval;
            cluster.step(id(1), Input::Wake);
        }
    }
}

/// How many round trips node 3 needs to get this many entries that it lacks, and in how many messages. It is
/// brought up to date by the leader that appended them, or by a later one who has to look for them in its log.
fn catch_up(count: u64, by_another: bool) -> (usize, usize) {
    let mut cluster = Cluster::formed_with(3, |options| {
        options.append_bytes_max = 100 * COST;
        options.window_bytes = 1000 * COST;
    });
    cluster.elect(id(1));
    cluster.partition(&[&[1, 2]]);
    let proposal =
        |number| Proposal { ticket: Ticket(1_000_000 + number), payloads: vec!["x".to_owned()] };
    cluster.open.extend((0..count).map(|number| (proposal(number).ticket, id(1))));
    cluster.step(id(1), Input::Propose((0..count).map(proposal).collect()));
    cluster.settle();
    let leader = if by_another { 2 } else { 1 };
    if by_another {
        cluster.restart(id(1));
        cluster.elect(id(2));
    }
    cluster.heal();
    let end = cluster.core(id(leader)).terms().end();
    assert!(end > Seq::new(count));
    cluster.now = cluster.now + cluster.node(id(1)).options.election_timeout;
    cluster.step(id(leader), Input::Wake);
    let (mut trips, mut messages) = (0, 0);
    while cluster.core(id(3)).durable() < end {
        assert!(trips < 1000, "it never arrives");
        while cluster.load(id(leader), true) {}
        let (sent, entries) = under_way(&cluster, 3);
        // A message may exceed the window by as much as it has.
        assert!(entries <= 1100, "{entries} are on their way");
        messages += sent;
        trips += 1;
        cluster.deliver_all(id(leader), id(3));
        while cluster.persist(id(3)) {}
        cluster.deliver_all(id(3), id(leader));
    }
    (trips, messages)
}

/// A node that lacks ten thousand entries gets them a hundred a message, and many messages a round trip: the way
/// there and back is taken a few times, never once an entry. Fails if `Marks::take` takes one batch at a time, or
/// a window is a message.
#[test]
fn catch_up_in_windows() {
    for by_another in [false, true] {
        let (trips, messages) = catch_up(10_000, by_another);
        assert!(messages <= 110, "{messages} messages");
        assert!(trips <= 20, "{trips} round trips");
        let (fewer, _) = catch_up(1000, by_another);
        assert!(fewer <= 8, "{fewer} round trips for a tenth");
    }
}

/// What waits to be committed is bounded: a leader without followers refuses as busy what would exceed it, and takes
/// as much again when they are back. One batch may exceed it, as none is split. Fails if `refusal` does not look at
/// the bytes, or `commit` does not give them back.
#[test]
fn uncommitted_bytes_bound() {
    let mut cluster = Cluster::formed_with(3, |options| options.uncommitted_bytes_max = 20 * COST);
    cluster.elect(id(1));
    let busy = Some(Resolution::Refused(Refusal::Busy));
    for _ in 0..3 {
        cluster.partition(&[]);
        let end = cluster.core(id(1)).terms().end();
        for _ in 0..20 {
            let ticket = cluster.propose(id(1), &["x"]);
            assert!(matches!(cluster.answer(ticket), Some(Resolution::Accepted { .. })));
        }
        let more = cluster.propose(id(1), &["x"]);
        let empty = cluster.propose(id(1), &[""]);
        assert_eq!((cluster.answer(more), cluster.answer(empty)), (busy, busy));
        cluster.settle();
        assert_eq!(cluster.core(id(1)).terms().end().since(end), 20, "on disk, and refused yet");
        cluster.heal();
        cluster.now = cluster.now + cluster.node(id(1)).options.heartbeat_interval;
        let committed = |cluster: &Cluster| {
            cluster.core(id(1)).committed() == cluster.core(id(1)).terms().end()
        };
        assert!(cluster.until(20, committed));
    }
    cluster.partition(&[]);
    let large = cluster.propose(id(1), &["x"; 100]);
    assert!(matches!(cluster.answer(large), Some(Resolution::Accepted { .. })));
    let more = cluster.propose(id(1), &["x"]);
    assert_eq!(cluster.answer(more), busy);
}

/// A refusal is delivered ten times, and once more when the follower has long got what it lacks. The leader goes back
/// once, and sends nothing again. Fails if `rejection_counts` takes any refusal for news.
#[test]
fn repeated_refusals_are_no_news() {
    let mut cluster = Cluster::formed(3);
    for node in [1, 3] {
        cluster.preset_log(id(node), &[1, 2, 2]);
    }
    cluster.preset_log(id(2), &[1]);
    cluster.partition(&[&[1, 3]]);
    cluster.elect(id(1));
    cluster.heal();
    cluster.wake(id(1));
    let is_refusal = |letter: &&Letter| matches!(letter.message.body, MessageBody::Rejected { .. });
    let refusal = loop {
        cluster.deliver_all(id(1), id(2));
        while cluster.persist(id(2)) {}
        if let Some(refusal) = cluster.flying.iter().find(is_refusal) {
            break refusal.clone();
        }
        cluster.deliver_all(id(2), id(1));
        cluster.now = cluster.now + cluster.node(id(1)).options.heartbeat_interval;
        cluster.step(id(1), Input::Wake);
    };
    for _ in 0..10 {
        cluster.flying.push_back(refusal.clone());
    }
    cluster.deliver_all(id(2), id(1));
    assert_eq!(cluster.node(id(1)).loads.len(), 1, "it looks once for what to send");
    cluster.load(id(1), true);
    assert_eq!(under_way(&cluster, 2).0, 1);
    cluster.settle();
    let (end, durable) = (cluster.core(id(1)).terms().end(), cluster.core(id(2)).durable());
    assert_eq!(durable, end);
    cluster.flying.push_back(refusal);
    cluster.settle();
    cluster.propose(id(1), &["a"]);
    cluster.propose(id(1), &["b"]);
    assert_eq!(under_way(&cluster, 2), (2, 2), "it streams as before");
}

/// A follower has lost entries that it had acknowledged: somebody has put back an old copy of its disk. Nothing can
/// bring them back; but the leader must not say the same thing to it again as fast as it refuses. Fails if
/// `rejection_counts` takes the refusal of what is known to be there for news (`settle` never returns then).
#[test]
fn a_log_that_went_back_is_not_asked_at_full_speed() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    for payload in ["a", "b", "c"] {
        cluster.propose(id(1), &[payload]);
    }
    cluster.settle();
    cluster.preset(id(2), |disk| disk.entries.truncate(1));
    cluster.transcript = Some(Vec::new());
    for _ in 0..100 {
        cluster.propose(id(1), &["x"]);
        cluster.now = cluster.now + cluster.node(id(1)).options.heartbeat_interval;
        cluster.step(id(1), Input::Wake);
        cluster.settle();
    }
    let lines = cluster.transcript.take().unwrap();
    let full = |line: &&String| line.starts_with("1 -> 2 append") && line.contains('[');
    let sent = lines.iter().filter(full).count();
    assert!(sent < 20, "{sent} appends in ten seconds to a node that refuses them all");
    assert_eq!(cluster.core(id(1)).committed(), cluster.core(id(1)).terms().end());
}

/// A learner joins a cluster that nobody writes to. It gets what is there, and does not wait for the next write. Fails if
/// `append_configuration` learns of new peers only when the entry that adds them counts as sent (`know_peers` after
/// `append_own`): heartbeats follow what a peer is known to hold, so they never show that it lacks something.
#[test]
fn a_learner_of_an_idle_cluster_catches_up() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    for _ in 0..10 {
        cluster.propose(id(1), &["x"]);
    }
    cluster.settle();
    cluster.join(4);
    let mut members = [1, 2, 3].map(|voter| MemberSpec::voter(id(voter))).to_vec();
    members.push(MemberSpec::learner(id(4)));
    cluster.set_members(id(1), members, None);
    assert!(cluster.until(100, |cluster| cluster.node(id(4)).applied == Seq::new(12)));
}

/// A leader with a notice delay: how far each follower knows the log to be committed.
fn told(cluster: &Cluster) -> [u64; 2] {
    [2, 3].map(|node| cluster.core(id(node)).committed().get())
}

/// Word of what is committed travels with the next entries, and by itself only when a while has passed without any.
/// Fails if `speak` does not wait, or if `wake_at` forgets what waits.
#[test]
fn commits_are_told_with_the_next_entries() {
    let delay = Duration::from_millis(5);
    let mut cluster = Cluster::formed_with(3, |options| options.commit_notice_delay = delay);
    cluster.elect(id(1));
    cluster.settle();
    cluster.now = cluster.now + delay;
    cluster.step(id(1), Input::Wake);
    cluster.settle();
    let begun = cluster.core(id(1)).committed().get();
    assert_eq!(told(&cluster), [begun; 2]);

    cluster.propose(id(1), &["a"]);
    cluster.settle();
    assert_eq!(cluster.core(id(1)).committed().get(), begun + 1);
    assert_eq!(told(&cluster), [begun; 2], "nothing was sent for it");
    cluster.propose(id(1), &["b"]);
    cluster.settle();
    assert_eq!(cluster.core(id(1)).committed().get(), begun + 2);
    assert_eq!(told(&cluster), [begun + 1; 2], "it came with the next entry");
    assert!(cluster.core(id(1)).wake_at() <= cluster.now + delay);
    cluster.now = cluster.core(id(1)).wake_at();
    cluster.step(id(1), Input::Wake);
    cluster.settle();
    assert_eq!(told(&cluster), [begun + 2; 2], "its time was up");
    assert!(cluster.core(id(1)).wake_at() > cluster.now + delay, "and it rests again");
}

/// A member that is removed hears at once that it is: whoever removed it waits for that to switch it off. Fails if
/// `speak` waits with configurations, too.
#[test]
fn changed_members_are_told_at_once() {
    let mut cluster = Cluster::formed_with(3, |options| {
        options.commit_notice_delay = Duration::from_millis(50);
    });
    cluster.elect(id(1));
    cluster.settle();
    let now = cluster.now;
    let ticket = cluster.set_voters(id(1), &[1, 2]);
    cluster.settle();
    let answer = cluster.answer(ticket);
    let Some(Resolution::Changed { at: Some(at) }) = answer else { panic!("{answer:?}") };
    assert_eq!(cluster.now, now);
    assert!(told(&cluster).iter().all(|&end| end > at.get()), "{:?} {at}", told(&cluster));
}
