//! What a node tells, to whom, and in which order.

use tinyraftplus::{
    Advice, Event, Events, InProcess, Member, Next, NodeId, RaftNode, Role, Seq, Status,
    StopReason, Term, Warning,
};

use crate::common::{Counter, all_have, close, describe, leader, soon};

#[derive(Clone, Debug, Eq, PartialEq)]
struct Change {
    id: NodeId,
    members: Vec<Member>,
    role: Role,
    leader: Option<NodeId>,
    followers: Vec<NodeId>,
    term: Term,
    open: bool,
}

impl Change {
    fn of(status: &Status) -> Self {
        Self {
            id: status.id,
            members: status.members.clone(),
            role: status.role,
            leader: status.leader,
            followers: status.followers.clone(),
            term: status.term,
            open: status.open,
        }
    }
}

#[derive(Default)]
struct Told {
    changes: Vec<Change>,
    commits: Vec<Seq>,
    applies: Vec<Seq>,
    missed: u64,
}

/// Everything until the node is closed.
async fn until_closed(mut events: Events) -> Told {
    let mut told = Told::default();
    while let Some(next) = soon("the end of the events", events.next()).await {
        match next {
            Next::Event(Event::Change { id, members, role, leader, followers, term, open }) => {
                told.changes.push(Change { id, members, role, leader, followers, term, open });
            }
            Next::Event(Event::Commit { seq }) => told.commits.push(seq),
            Next::Event(Event::Apply { seq }) => told.applies.push(seq),
            Next::Event(_) => {}
            Next::Missed(count) => told.missed += count,
        }
    }
    told
}

/// Over elections, a follower that goes and comes back, and a transfer, on every node: the first change says that it is open,
/// the last one that it is closed and agrees with the status; none comes twice; terms, commits and applies rise.
/// Fails if `announce` does not compare, or `report` in the replica forgets lost followers.
#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_once_and_in_order() {
    let (net, mut nodes, mut told) = (InProcess::new(), Vec::new(), Vec::new());
    for id in 1..=3 {
        let builder = describe(&net, id, &[1, 2, 3]).state_machine(Counter::default);
        told.push(tokio::spawn(until_closed(builder.events())));
        nodes.push(soon("open", builder.open()).await.unwrap());
    }
    let at = leader(&nodes).await;
    let (first, away, other) = (&nodes[at], nodes[(at + 1) % 3].id(), &nodes[(at + 2) % 3]);
    let two = first.wait(|status| status.followers.len() == 2);
    soon("both follow", two).await.unwrap();
    for peer in [first.id(), other.id()] {
        net.cut(peer, away);
    }
    let one = first.wait(|status| status.followers == [other.id()]);
    soon("one is lost", one).await.unwrap();
    soon("an append", first.append("without it")).await.unwrap();
    net.heal_all();
    // Whoever leads by now.
    let healed = leader(&nodes).await;
    let two = nodes[healed].wait(|status| status.followers.len() == 2 || status.leader.is_none());
    soon("it is back", two).await.unwrap();
    let mut last = Seq::ZERO;
    for node in &nodes {
        let to = nodes[leader(&nodes).await].id();
        // Another node may campaign meanwhile; all that counts is that something happens.
        drop(soon("a transfer", node.transfer_leadership(to)).await);
        drop(soon("a step down", node.step_down()).await);
        last = soon("an append", node.append("x")).await.unwrap().seq;
    }
    all_have(&nodes, last).await;
    close(&nodes).await;
    let mut led = 0;
    for (node, told) in nodes.iter().zip(told) {
        let Told { changes, commits, applies, missed } = soon("the events", told).await.unwrap();
        assert_eq!(missed, 0);
        assert!(changes[0].open);
        let end = changes.last().unwrap();
        assert_eq!(end, &Change::of(&node.status()));
        assert!(!end.open && end.leader.is_none() && end.followers.is_empty());
        assert_eq!(changes.iter().filter(|change| !change.open).count(), 1);
        assert!(changes.windows(2).all(|pair| pair[0] != pair[1]), "twice: {changes:?}");
        assert!(changes.is_sorted_by(|a, b| a.term <= b.term), "{changes:?}");
        assert!(changes.iter().all(|change| change.id == node.id()));
        assert!(changes.iter().all(|change| change.members.len() == 3));
        assert!(changes.iter().all(|change| !change.followers.contains(&node.id())));
        let leads = |change: &&Change| change.role == Role::Leader && change.open;
        assert!(changes.iter().filter(leads).all(|change| change.leader == Some(node.id())));
        led += changes.iter().filter(leads).count();
        for seqs in [commits, applies] {
            assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
            assert_eq!(seqs.last(), Some(&last));
        }
        if node.id() == first.id() {
            let followers: Vec<usize> =
                changes.iter().filter(leads).map(|change| change.followers.len()).collect();
            assert!(followers.contains(&2) && followers.contains(&1), "{followers:?}");
        }
    }
    assert!(led > 3);
}

/// Somebody listens and does not read: the node goes on, and he is told how many he missed. What he reads after that is what
/// was told last. Fails if the channel has no limit.
#[tokio::test(flavor = "multi_thread")]
async fn slow_listeners_miss_events_and_are_told() {
    let node = soon("open", describe(&InProcess::new(), 1, &[1]).open()).await.unwrap();
    let slow = node.events();
    let count = 2000_u64;
    for _ in 0..count {
        soon("an append", node.append("x")).await.unwrap();
    }
    close(std::slice::from_ref(&node)).await;
    let told = until_closed(slow).await;
    assert!(told.missed > 0 && told.commits.last() == Some(&Seq::new(count)));
    assert!(told.commits.is_sorted_by(|a, b| a < b));
    assert_eq!(told.changes.last(), Some(&Change::of(&node.status())));
    let seen = (told.commits.len() + told.applies.len() + told.changes.len()) as u64;
    assert!(seen <= 1024 && told.missed + seen >= count, "{} missed, {seen} seen", told.missed);
}

/// `wait_event` listens from the call on, not only when its future is polled for the first time.
#[tokio::test(flavor = "multi_thread")]
async fn wait_event_listens_before_it_returns() {
    let node = soon("open", describe(&InProcess::new(), 1, &[1]).open()).await.unwrap();
    soon("a leader", node.await_leader()).await.unwrap();
    let committed = node.wait_event(|event| matches!(event, Event::Commit { .. }));
    let appended = soon("an append", node.append("x")).await.unwrap();
    let event = soon("the event of before", committed).await.unwrap();
    // The leader's own entry, if that was not committed before, or this one.
    assert!(matches!(event, Event::Commit { seq } if seq <= appended.seq), "{event:?}");
    close(&[node]).await;
}

/// The leader's name comes at once when it is known, and `await_committed_leader` waits for an entry of its term.
#[tokio::test(flavor = "multi_thread")]
async fn leaders_are_awaited() {
    let (net, mut nodes) = (InProcess::new(), Vec::<RaftNode>::new());
    for id in 1..=3 {
        nodes.push(soon("open", describe(&net, id, &[1, 2, 3]).open()).await.unwrap());
    }
    for node in &nodes {
        let leader = soon("a leader", node.await_committed_leader()).await.unwrap();
        let status = node.status();
        assert!(status.leader.is_none_or(|now| now == leader || status.term > Term::new(1)));
        assert!(status.committed > Seq::ZERO, "its first entry is committed");
        assert!(nodes.iter().any(|node| node.id() == leader));
    }
    close(&nodes).await;
}

/// The status of a leader says of each peer how far it is and when it was heard, by the clock of the program.
#[tokio::test(flavor = "multi_thread")]
async fn peers_in_the_status() {
    let before = std::time::Instant::now();
    let (net, mut nodes) = (InProcess::new(), Vec::new());
    for (id, priority) in [(1, 0), (2, 5), (3, 0)] {
        let builder = describe(&net, id, &[1, 2, 3]).priority(priority);
        nodes.push(soon("open", builder.open()).await.unwrap());
    }
    let leads = nodes[1].wait(|status| status.role == Role::Leader && status.peers.len() == 2);
    soon("the one with priority leads", leads).await.unwrap();
    let appended = soon("an append", nodes[0].append("x")).await.unwrap();
    let all = nodes[1].wait(|status| status.peers.iter().all(|it| it.matched > appended.seq));
    let status = soon("all have it", all).await.unwrap();
    let ids: Vec<_> = status.peers.iter().map(|peer| peer.id).collect();
    assert_eq!(ids, [NodeId::from(1), NodeId::from(3)]);
    for peer in &status.peers {
        let contact = peer.last_contact.unwrap();
        assert!(contact > before && contact <= std::time::Instant::now());
    }
    let head = status.head.unwrap();
    assert_eq!((head.id.seq, &head.payload), (appended.seq, &"x".into()));
    close(&nodes).await;
}

/// Every event says what to do, and the text names the thing.
#[test]
fn every_event_has_advice() {
    let peer = NodeId::from(2);
    let differ = Warning::OptionsDiffer {
        what: "group",
        option: "east".to_owned(),
        decides: "west".to_owned(),
    };
    let told = [
        (Warning::Wiped, Advice::Nothing, "its disk was lost or replaced"),
        (Warning::NotAMember, Advice::Reconfigure, "waits to be added"),
        (Warning::Removed, Advice::Nothing, "no longer a member"),
        (
            differ,
            Advice::Reconfigure,
            "group \"east\", and the configuration in its log says \"west\"",
        ),
        (Warning::FoundersDisagree { peer }, Advice::Reconfigure, "node 2 was started with other"),
        (Warning::CopiedLog, Advice::Replace, "copies of one log"),
        (
            Warning::Malformed { from: peer, what: "is odd" },
            Advice::Reconfigure,
            "from node 2 was dropped: it is odd",
        ),
        (
            Warning::Send { to: peer, what: "cut".into(), times: 1 },
            Advice::Inspect,
            "to node 2 was not sent: cut",
        ),
        (Warning::Send { to: peer, what: "cut".into(), times: 9 }, Advice::Inspect, "9 messages"),
        (Warning::Load("io".into()), Advice::Inspect, "can't be read"),
        (Warning::NoSpace("full".into()), Advice::FreeSpace, "no space"),
        (Warning::DiskStalled, Advice::Inspect, "look at the disk"),
        (Warning::Yielded, Advice::Inspect, "leads no longer"),
        (Warning::LogFull, Advice::StartOver, "no position left"),
    ];
    for (warning, advice, part) in told {
        let text = warning.to_string();
        assert!(text.contains(part), "{text}");
        assert_eq!(Event::Warn(warning).advice(), advice, "{text}");
    }
    let stopped = [
        (StopReason::Closed, Advice::Nothing),
        (StopReason::Killed, Advice::Nothing),
        (StopReason::Died("task"), Advice::Restart),
        (StopReason::StateMachine("x".into()), Advice::Restart),
        (StopReason::Log(std::sync::Arc::new(tinyraftplus::LogError::Poisoned)), Advice::Restart),
    ];
    for (reason, advice) in stopped {
        assert_eq!(Event::Error(reason).advice(), advice);
    }
    assert_eq!(Event::Commit { seq: Seq::ZERO }.advice(), Advice::Nothing);
}
