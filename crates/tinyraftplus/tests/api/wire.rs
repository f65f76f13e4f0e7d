//! Programs that bring their own wire: closures that send, bytes of their own making, and messages that can't be.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::common::{close, memory, quick, soon};
use tinyraftplus::core::{self, EntryId, MessageBody};
use tinyraftplus::{
    Advice, Event, Events, Message, Next, NodeId, RaftNode, Term, Warning, Wire, log::Identity,
};
use tokio::sync::mpsc;

/// The nodes of a test, as soon as they are open.
type All = Arc<[OnceLock<RaftNode>; 3]>;

fn find(all: &All, to: NodeId) -> Option<&RaftNode> {
    all.iter().filter_map(OnceLock::get).find(|node| node.id() == to)
}

/// Opens three nodes; `send` makes the closure of each.
async fn open<S, R, Kind>(send: impl Fn(All, u64) -> S) -> (All, Vec<RaftNode>, Vec<Events>)
where
    S: Fn(NodeId, Message) -> R + Send + Sync + 'static,
    R: tinyraftplus::Sent<Kind> + 'static,
    Kind: 'static,
{
    let (all, mut nodes, mut events) = (All::default(), Vec::new(), Vec::new());
    for id in 1..=3_u64 {
        let node = quick(RaftNode::builder(id, [1, 2, 3])).log(memory);
        let node = node.send(send(Arc::clone(&all), id));
        events.push(node.events());
        let node = soon("open", node.open()).await.unwrap();
        nodes.push(node.clone());
        all[usize::try_from(id).unwrap() - 1].set(node).unwrap();
    }
    (all, nodes, events)
}

async fn works(nodes: &[RaftNode]) {
    for node in nodes {
        soon("an append", node.append("x")).await.unwrap();
        soon("a read", node.read("")).await.unwrap();
    }
    close(nodes).await;
}

/// The next warning of a failed send.
async fn told(events: &mut Events) -> (NodeId, String, u64) {
    loop {
        let next = soon("a warning", events.next()).await.expect("the node is open");
        let Next::Event(event) = next else { continue };
        let advice = event.advice();
        if let Event::Warn(Warning::Send { to, what, times }) = event {
            assert_eq!(advice, Advice::Inspect);
            return (to, what, times);
        }
    }
}

/// A closure may give back nothing, a result, a future, and a future of a result.
#[tokio::test(flavor = "multi_thread")]
async fn closures_of_each_kind_send() {
    let plain = |all: All, id| {
        move |to, message| {
            if let Some(node) = find(&all, to) {
                node.receive(id, message);
            }
        }
    };
    works(&open(plain).await.1).await;
    let fallible = |all: All, id| {
        move |to, message| {
            find(&all, to).ok_or("it is not open yet")?.receive(id, message);
            Ok::<(), &str>(())
        }
    };
    works(&open(fallible).await.1).await;
    let later = |all: All, id| {
        move |to, message| {
            let all = Arc::clone(&all);
            async move {
                tokio::task::yield_now().await;
                if let Some(node) = find(&all, to) {
                    node.receive(id, message);
                }
            }
        }
    };
    works(&open(later).await.1).await;
    let both = |all: All, id| {
        move |to, message| {
            let all = Arc::clone(&all);
            async move {
                tokio::task::yield_now().await;
                let node = find(&all, to).ok_or("it is not open yet")?;
                node.receive(id, message);
                Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
            }
        }
    };
    works(&open(both).await.1).await;
}

/// What fails is told, with the peer and the reason, however it fails; then not again at once, but with a number. The two
/// others go on. Fails if `note` does not tell, or tells each time, or `Going` says nothing of a panic.
#[tokio::test(flavor = "multi_thread")]
async fn failed_sends_are_warnings() {
    let panics = Arc::new(AtomicBool::new(false));
    let send = |all: All, id| {
        let panics = Arc::clone(&panics);
        move |to: NodeId, message| {
            let (all, panics) = (Arc::clone(&all), Arc::clone(&panics));
            async move {
                if to == NodeId::from(3) {
                    assert!(!panics.load(Ordering::Relaxed), "told to panic");
                    return Err("the cable is cut");
                }
                find(&all, to).ok_or("it is not open yet")?.receive(id, message);
                Ok(())
            }
        }
    };
    let (all, nodes, mut events) = open(send).await;
    let mut tellers = events.drain(..2);
    let mut first = tellers.next().unwrap();
    drop(tellers);
    let (to, what, times) = loop {
        let told = told(&mut first).await;
        if told.0 == NodeId::from(3) {
            break told;
        }
    };
    assert_eq!((to, what.as_str(), times), (NodeId::from(3), "the cable is cut", 1));
    // The cluster can't form before node 3 was heard; let it be.
    panics.store(true, Ordering::Relaxed);
    let (_, what, times) = loop {
        let told = told(&mut first).await;
        if told.1 != "the cable is cut" && told.0 == NodeId::from(3) {
            break told;
        }
    };
    assert_eq!(what, "it panicked");
    assert!(times > 1, "several were lost meanwhile, {times}");
    drop(all);
    close(&nodes).await;
}

/// Counts what is there.
struct Count(Arc<AtomicUsize>);
impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A wire that never delivers fills no memory: so many futures may be under way, and no more; closing ends them. Fails if
/// `send` has no limit, or `detach` leaves them.
#[tokio::test(flavor = "multi_thread")]
async fn sends_that_hang_have_a_limit() {
    let going = Arc::new(AtomicUsize::new(0));
    let started = Arc::clone(&going);
    let builder = RaftNode::builder(1, [1, 2]).log(memory);
    let builder = builder.heartbeat_interval(Duration::from_micros(20));
    let builder = builder.election_timeout(Duration::from_micros(100));
    let builder = builder.send(move |_, _| {
        started.fetch_add(1, Ordering::SeqCst);
        let count = Count(Arc::clone(&started));
        async move {
            let _count = count;
            std::future::pending::<Result<(), String>>().await
        }
    });
    let mut events = builder.events();
    let node = soon("open", builder.open()).await.unwrap();
    let (_, what, _) = told(&mut events).await;
    assert_eq!(what, "1024 are under way already");
    assert!(going.load(Ordering::SeqCst) <= 1025);
    close(&[node]).await;
    soon("the futures end", async {
        while going.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A wire of bytes: what is encoded at one side is decoded at the other, and what is no message is the program's to drop.
#[tokio::test(flavor = "multi_thread")]
async fn messages_travel_as_bytes() {
    let (wire, mut arrives) = mpsc::unbounded_channel();
    let send = move |_: All, id: u64| {
        let wire = wire.clone();
        move |to: NodeId, message: Message| wire.send((id, to, message.encode()))
    };
    let (all, nodes, _events) = open(send).await;
    let carrier = tokio::spawn(async move {
        while let Some((from, to, bytes)) = arrives.recv().await {
            let message = Message::decode(&bytes).unwrap();
            if let Some(node) = find(&all, to) {
                node.receive(from, message);
            }
        }
    });
    works(&nodes).await;
    drop(nodes);
    carrier.abort();
    assert!(Message::decode(&"no message".into()).is_err());
}

/// `malformed_message_panics`: messages that no correct peer sends are dropped and counted, each with a warning that says why;
/// those for a closed node, and from nobody, are counted as dropped. The node goes on.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_can_not_be() {
    let switchboard = tinyraftplus::InProcess::new();
    let builder = crate::common::describe(&switchboard, 1, &[1]);
    let mut events = builder.events();
    let node = soon("open", builder.open()).await.unwrap();
    soon("an append", node.append("x")).await.unwrap();
    let make = |body| {
        let (from, to) = (Identity::new(77), Some(Identity::new(78)));
        Message::Raft(core::Message { from, to, term: Term::new(1 << 40), body })
    };
    let far = EntryId::new(Term::new(1 << 50), tinyraftplus::Seq::new(9));
    let bodies = [
        MessageBody::Append { prev: Some(far), entries: Vec::new(), committed: far.seq, round: 1 },
        MessageBody::Vote { last: Some(far), transfer: false },
    ];
    for (count, body) in (1_u64..).zip(bodies) {
        node.receive(2, make(body));
        let what = loop {
            let next = soon("a warning", events.next()).await.unwrap();
            if let Next::Event(Event::Warn(Warning::Malformed { from, what })) = next {
                assert_eq!(from, NodeId::from(2));
                break what;
            }
        };
        assert!(!what.is_empty());
        assert_eq!(node.status().malformed, count);
    }
    soon("an append", node.append("y")).await.unwrap();
    assert_eq!(node.messages_dropped(), 0);
    node.receive("no name", make(MessageBody::TimeoutNow));
    assert_eq!(node.messages_dropped(), 1);
    close(std::slice::from_ref(&node)).await;
    node.receive(2, make(MessageBody::TimeoutNow));
    assert_eq!(node.messages_dropped(), 2);
}
