//! Who leads, as programs decide it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tinyraftplus::{
    Effect, Event, InProcess, Inbox, LeadershipError, LogError, LogOptions, MemLog, Message,
    NodeBuilder, NodeId, OpenError, RaftNode, Role, StartError, TransferError, Transport,
};

fn memory() -> Result<MemLog, LogError> {
    MemLog::new(LogOptions::default())
}

const TIMEOUT: Duration = Duration::from_millis(300);

fn describe(net: &InProcess, id: u64) -> NodeBuilder {
    RaftNode::builder(id, [1_u64, 2, 3])
        .heartbeat_interval(Duration::from_millis(30))
        .election_timeout(TIMEOUT)
        .election_jitter(TIMEOUT)
        .log(memory)
        .transport(net.endpoint(id.into()))
}

async fn open(describe: impl Fn(u64) -> NodeBuilder) -> Vec<RaftNode> {
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(describe(id).open().await.unwrap());
    }
    nodes
}

async fn close(nodes: Vec<RaftNode>) {
    for node in nodes {
        node.close().await.unwrap();
    }
}

/// The position of the leader, which all nodes know.
async fn leader(nodes: &[RaftNode]) -> usize {
    let leader = nodes[0].await_committed_leader().await.unwrap();
    for node in nodes {
        node.wait(|status| status.leader == Some(leader)).await.unwrap();
    }
    nodes.iter().position(|node| node.id() == leader).unwrap()
}

/// Leadership goes round while clients append on every node: each transfer is quick, and no call fails.
#[tokio::test(flavor = "multi_thread")]
async fn leadership_goes_round_under_load() {
    let net = InProcess::new();
    let nodes = open(|id| describe(&net, id)).await;
    let mut at = leader(&nodes).await;
    let clients: Vec<_> = nodes
        .iter()
        .cloned()
        .map(|node| {
            tokio::spawn(async move {
                let mut seqs = Vec::new();
                for number in 0..300 {
                    seqs.push(node.append(number.to_string()).await.unwrap().seq);
                }
                assert!(seqs.is_sorted_by(|a, b| a < b));
            })
        })
        .collect();
    for round in 0..6 {
        let (asked, to) = (&nodes[(at + round) % 3], (at + 1) % 3);
        let mut events = nodes[at].events();
        asked.transfer_leadership(nodes[to].id()).await.unwrap();
        nodes[to].wait(|status| status.role == Role::Leader).await.unwrap();
        nodes[at].wait(|status| status.role == Role::Follower).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            match events.next().await {
                Some(tinyraftplus::Next::Event(Event::Transferring { to })) => {
                    seen.push((to, None));
                }
                Some(tinyraftplus::Next::Event(Event::Transferred { to, result })) => {
                    seen.push((to, Some(result)));
                }
                Some(_) => {}
                None => panic!("the node has stopped"),
            }
        }
        let to_id = nodes[to].id();
        assert_eq!(seen, [(to_id, None), (to_id, Some(Ok(())))]);
        at = to;
    }
    for client in clients {
        client.await.unwrap();
    }
    close(nodes).await;
}

/// Each error says what is wrong, and whether anything happened.
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_can_not_be_done() {
    let net = InProcess::new();
    let nodes = open(|id| describe(&net, id)).await;
    let at = leader(&nodes).await;
    let error = nodes[(at + 1) % 3].transfer_leadership(9).await.unwrap_err();
    let not_a_member = LeadershipError::NotTransferred(TransferError::NotAMember);
    assert_eq!((error.to_string(), error.effect()), (not_a_member.to_string(), Effect::None));
    let error = nodes[at].transfer_leadership("no name").await.unwrap_err();
    assert!(matches!(error, LeadershipError::Name { .. }));
    let gone = &nodes[(at + 2) % 3];
    gone.kill().await;
    let error = nodes[at].transfer_leadership(gone.id()).await.unwrap_err();
    assert!(
        matches!(
            error,
            LeadershipError::NotTransferred(TransferError::TimedOut | TransferError::Silent)
        ),
        "{error}"
    );
    assert_eq!(nodes[at].status().role, Role::Leader, "it leads on");
    nodes[at].append("x").await.unwrap();
    let error = gone.transfer_leadership(nodes[at].id()).await.unwrap_err();
    assert!(matches!(error, LeadershipError::Stopped { effect: Effect::None, .. }), "{error:?}");
    close(nodes).await;
}

/// With all up and caught up, the highest priority leads within three election timeouts, and what was appended is
/// there. It is told to step down: another one leads at once, and a while later it does again.
#[tokio::test(flavor = "multi_thread")]
async fn the_highest_priority_leads() {
    let net = InProcess::new();
    let nodes = open(|id| describe(&net, id).priority(u32::from(id == 2))).await;
    let first = leader(&nodes).await;
    let began = Instant::now();
    nodes[first].append("x").await.unwrap();
    let highest = &nodes[1];
    highest.wait(|status| status.role == Role::Leader).await.unwrap();
    // Other tests keep the machine busy too; what matters is that no one else had to fail first.
    assert!(began.elapsed() < TIMEOUT * 10, "{:?}", began.elapsed());
    nodes[0].append("y").await.unwrap();
    assert_eq!(highest.read("").await.unwrap().seq, highest.status().seq().unwrap());
    highest.step_down().await.unwrap();
    assert_ne!(highest.status().role, Role::Leader);
    highest.wait(|status| status.role == Role::Leader).await.unwrap();
    close(nodes).await;
}

/// A paused leader stops, and does not come back before it is told to; told to campaign, a node does not wait.
#[tokio::test(flavor = "multi_thread")]
async fn pause_campaign_resume() {
    let net = InProcess::new();
    let nodes = open(|id| describe(&net, id)).await;
    let at = leader(&nodes).await;
    let (paused, second, other) = (&nodes[at], &nodes[(at + 1) % 3], &nodes[(at + 2) % 3]);
    paused.pause().await.unwrap();
    assert!(paused.status().paused && paused.status().role == Role::Follower);
    other.pause().await.unwrap();
    second.wait(|status| status.role == Role::Leader).await.unwrap();
    // Both paused ones vote and take entries, or this could not be.
    let appended = second.append("x").await.unwrap();
    // Without it, it could not lead; and the other one that has it sits still.
    paused.wait(|status| status.seq() >= Some(appended.seq)).await.unwrap();
    second.kill().await;
    paused.resume().await.unwrap();
    assert!(!paused.status().paused);
    paused.campaign().await.unwrap();
    paused.wait(|status| status.role == Role::Leader).await.unwrap();
    paused.append("y").await.unwrap();
    assert_eq!(other.status().role, Role::Follower);
    close(nodes).await;
}

/// A follower hears nothing from its leader but what the program says: it goes on following. Then nothing at all,
/// and it campaigns. Fails if `mark_alive` does not get through to the core.
#[tokio::test(flavor = "multi_thread")]
async fn mark_alive() {
    let net = InProcess::new();
    let nodes = open(|id| describe(&net, id)).await;
    let at = leader(&nodes).await;
    let (leader, follower) = (&nodes[at], nodes[(at + 1) % 3].clone());
    let (id, term) = (leader.id(), leader.status().term);
    for other in [id, nodes[(at + 2) % 3].id()] {
        net.cut(other, follower.id());
    }
    let listens = follower.clone();
    let campaigns = tokio::spawn(async move {
        listens.wait(|status| status.role == Role::Candidate).await.unwrap();
        Instant::now()
    });
    let mut ticks = tokio::time::interval(TIMEOUT / 10);
    let mut last = Instant::now();
    for _ in 0..50 {
        ticks.tick().await;
        last = Instant::now();
        follower.mark_alive(id, term);
    }
    let first = campaigns.await.unwrap();
    assert!(first > last, "it campaigned although its leader was alive");
    close(nodes).await;
}

/// Counts what a node sends.
struct Counted<T>(T, Arc<AtomicU64>);

impl<T: Transport> Transport for Counted<T> {
    fn send(&self, to: NodeId, message: Message) {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.send(to, message);
    }
    fn attach(&self, inbox: Arc<dyn Inbox>) {
        self.0.attach(inbox);
    }
    fn detach(&self) {
        self.0.detach();
    }
}

/// With leases, reads on the leader send nothing; without, each asks the followers.
#[tokio::test(flavor = "multi_thread")]
async fn lease_reads_ask_nobody() {
    for leases in [true, false] {
        let net = InProcess::new();
        let sent: Vec<Arc<AtomicU64>> = (0..3).map(|_| Arc::default()).collect();
        let nodes = open(|id| {
            let counter = Arc::clone(&sent[usize::try_from(id).unwrap() - 1]);
            let node = describe(&net, id).transport(Counted(net.endpoint(id.into()), counter));
            if leases { node.lease_reads(1000) } else { node }
        })
        .await;
        let at = leader(&nodes).await;
        nodes[at].append("x").await.unwrap();
        // The first heartbeat brings the promises.
        let beats = |count: u64| sent[at].load(Ordering::Relaxed) + count;
        let enough = beats(8);
        while sent[at].load(Ordering::Relaxed) < enough {
            tokio::task::yield_now().await;
        }
        let (before, began) = (sent[at].load(Ordering::Relaxed), Instant::now());
        for _ in 0..500 {
            nodes[at].read("").await.unwrap();
        }
        let messages = sent[at].load(Ordering::Relaxed) - before;
        let heartbeats = 2 * (began.elapsed().as_millis() / 30 + 2);
        if leases {
            assert!(u128::from(messages) <= heartbeats, "{messages} for 500 reads on a lease");
        } else {
            assert!(messages >= 1000, "{messages} for 500 reads");
        }
        close(nodes).await;
    }
}

/// What could not work is refused at open, with its reason.
#[tokio::test]
async fn options_that_do_not_fit_are_refused() {
    let net = InProcess::new();
    let refused = describe(&net, 1).lease_reads(900_000).open().await.map(|_| ());
    assert!(matches!(refused, Err(OpenError::Start(why)) if matches!(*why, StartError::Raft(_))));
    let refused = describe(&net, 1).election_jitter(Duration::ZERO).open().await.map(|_| ());
    assert!(matches!(refused, Err(OpenError::Start(why)) if matches!(*why, StartError::Raft(_))));
    let refused = describe(&net, 1).transfer_timeout(Duration::ZERO).open().await.map(|_| ());
    assert!(matches!(refused, Err(OpenError::ZeroTime("transfer_timeout"))));
}
