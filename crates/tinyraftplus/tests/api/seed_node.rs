//! The scenarios of the JavaScript package's own tests of its node, by the file and number that `docs/from-js.md` lists them
//! under. What differs, differs there with its reason.

use std::path::Path;
use std::sync::{Arc, Mutex};

use tinyraftplus::{
    Applied, AsyncStateMachine, Bytes, FsLog, InProcess, Member, NodeBuilder, NodeId, RaftNode,
    Role, Seq, StateMachine, StateMachineError, Status,
};

use crate::common::{close, describe, leader, payloads, quick, soon};

/// Nodes, some of which nobody hears: the cluster forms without them.
async fn elect(net: &InProcess, count: u64, mute: &[u64]) -> Vec<RaftNode> {
    let members: Vec<u64> = (1..=count).collect();
    for &silent in mute {
        for &id in &members {
            net.cut(NodeId::from(silent), NodeId::from(id));
        }
    }
    let mut nodes = Vec::new();
    for &id in &members {
        let builder = describe(net, id, &members);
        let builder = if mute.is_empty() { builder } else { builder.form_with_majority() };
        nodes.push(soon("open", builder.open()).await.unwrap());
    }
    nodes
}

/// One of the nodes that are heard leads, and exactly those are its followers.
async fn one_leads(nodes: &[RaftNode], heard: &[u64]) {
    let heard: Vec<NodeId> = heard.iter().map(|&id| NodeId::from(id)).collect();
    // Until the votes are cast there may be several candidates; what counts is that it settles.
    let settled = async {
        loop {
            let leaders: Vec<Status> = nodes
                .iter()
                .map(RaftNode::status)
                .filter(|status| status.role == Role::Leader)
                .collect();
            if let [one] = leaders.as_slice() {
                let others = heard.iter().copied().filter(|&id| id != one.id);
                if heard.contains(&one.id) && others.eq(one.followers.iter().copied()) {
                    return;
                }
            }
            let changed = nodes.iter().map(|node| {
                let node = node.clone();
                Box::pin(async move { node.wait_event(|_| true).await.is_ok() })
            });
            // Any event of any node.
            let (mut any, mut futures) = (false, changed.collect::<Vec<_>>());
            std::future::poll_fn(|context| {
                for future in &mut futures {
                    any |= future.as_mut().poll(context).is_ready();
                }
                if any { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
        }
    };
    soon("one leads and the others follow", settled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elect_01_three() {
    let nodes = elect(&InProcess::new(), 3, &[]).await;
    assert!(nodes.iter().all(|node| node.status().open));
    assert!(nodes.iter().zip(1..).all(|(node, id): (_, u64)| node.id() == NodeId::from(id)));
    one_leads(&nodes, &[1, 2, 3]).await;
    close(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elect_02_three_and_one_is_mute() {
    let nodes = elect(&InProcess::new(), 3, &[3]).await;
    one_leads(&nodes, &[1, 2]).await;
    close(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elect_03_five() {
    let nodes = elect(&InProcess::new(), 5, &[]).await;
    one_leads(&nodes, &[1, 2, 3, 4, 5]).await;
    close(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elect_04_five_and_one_is_mute() {
    let nodes = elect(&InProcess::new(), 5, &[5]).await;
    one_leads(&nodes, &[1, 2, 3, 4]).await;
    close(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elect_05_five_and_one_is_late() {
    let net = InProcess::new();
    let nodes = elect(&net, 5, &[5]).await;
    one_leads(&nodes, &[1, 2, 3, 4]).await;
    net.heal_all();
    one_leads(&nodes, &[1, 2, 3, 4, 5]).await;
    close(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elect_06_five_and_two_are_mute() {
    let nodes = elect(&InProcess::new(), 5, &[4, 5]).await;
    one_leads(&nodes, &[1, 2, 3]).await;
    close(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elect_07_five_and_two_are_late() {
    let net = InProcess::new();
    let nodes = elect(&net, 5, &[4, 5]).await;
    one_leads(&nodes, &[1, 2, 3]).await;
    net.heal_all();
    one_leads(&nodes, &[1, 2, 3, 4, 5]).await;
    close(&nodes).await;
}

fn voters(ids: std::ops::RangeInclusive<u64>) -> Vec<Member> {
    ids.map(Member::voter).collect()
}

/// Disabled there, since there is no `setNodes`: five become seven.
#[tokio::test(flavor = "multi_thread")]
async fn update_01_five_become_seven() {
    let net = InProcess::new();
    let mut nodes = elect(&net, 5, &[]).await;
    for id in [6, 7] {
        let builder = describe(&net, id, &[1, 2, 3, 4, 5]).join();
        nodes.push(soon("open", builder.open()).await.unwrap());
    }
    soon("the change", nodes[2].set_members(voters(1..=7))).await.unwrap();
    one_leads(&nodes, &[1, 2, 3, 4, 5, 6, 7]).await;
    close(&nodes).await;
}

/// Disabled there: of seven two are closed, and the others are told that they are five.
#[tokio::test(flavor = "multi_thread")]
async fn update_02_seven_become_five() {
    let nodes = elect(&InProcess::new(), 7, &[]).await;
    one_leads(&nodes, &[1, 2, 3, 4, 5, 6, 7]).await;
    close(&nodes[5..]).await;
    soon("the change", nodes[2].set_members(voters(1..=5))).await.unwrap();
    one_leads(&nodes[..5], &[1, 2, 3, 4, 5]).await;
    close(&nodes[..5]).await;
}

/// Three nodes with logs on disk that all must have an entry before it is committed.
fn full(dir: &Path, net: &InProcess, id: u64) -> NodeBuilder {
    let builder = quick(RaftNode::builder(id, [1, 2, 3])).log_dir(dir);
    builder.transport(net.endpoint(NodeId::from(id))).quorum(3)
}

/// Opens all three, the leader first, then its followers.
async fn open_full(describe: impl Fn(u64) -> NodeBuilder) -> Vec<RaftNode> {
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(soon("open", describe(id).open()).await.unwrap());
    }
    let at = leader(&nodes).await;
    nodes.rotate_left(at);
    nodes
}

/// That is the newest entry of all three logs, as their status says and as they have it.
async fn head_of_all(nodes: &[RaftNode], seq: Seq, payload: &str) {
    for node in nodes {
        let status = node.status();
        let head = status.head.as_ref().unwrap();
        assert_eq!((head.id.seq, &head.payload), (seq, &Bytes::from(payload.to_owned())));
        assert_eq!(status.seq(), Some(seq));
        let committed = soon("it knows", node.wait(|status| status.committed > seq)).await.unwrap();
        assert_eq!(committed.durable, seq.after());
        let entries = soon("it", node.entries(seq..seq.after()).all()).await.unwrap();
        assert_eq!(entries[0].payload, payload);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repl_01_appends() {
    let (dir, net) = (tempfile::tempdir().unwrap(), InProcess::new());
    let open = || open_full(|id| full(dir.path(), &net, id));
    let nodes = open().await;
    let mut seq = nodes[0].status().seq().unwrap();
    for (at, payload) in [(0, "a"), (0, "bb"), (1, "ccc"), (1, "dddd")] {
        let appended = soon("an append", nodes[at].append(payload)).await.unwrap();
        seq = seq.after();
        assert_eq!(appended.seq, seq);
        head_of_all(&nodes, seq, payload).await;
    }
    close(&nodes).await;
    let nodes = open().await;
    // A new leader has begun with an entry of its own.
    let mut seq = nodes[0].status().seq().unwrap();
    assert!(seq > Seq::new(4));
    for payload in ["eeeee", "ffffff"] {
        let appended = soon("an append", nodes[2].append(payload)).await.unwrap();
        seq = seq.after();
        assert_eq!(appended.seq, seq);
        head_of_all(&nodes, seq, payload).await;
    }
    assert_eq!(payloads(&nodes[0]).await, ["a", "bb", "ccc", "dddd", "eeeee", "ffffff"]);
    close(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repl_02_batches() {
    let (dir, net) = (tempfile::tempdir().unwrap(), InProcess::new());
    let open = || open_full(|id| full(dir.path(), &net, id));
    let nodes = open().await;
    let mut seq = nodes[0].status().seq().unwrap();
    let steps: [(usize, &[&str]); 6] = [
        (0, &["a"]),
        (0, &["b", "c"]),
        (0, &["d"]),
        (1, &["e", "f"]),
        (1, &["g"]),
        (2, &["h", "i"]),
    ];
    for (at, batch) in steps {
        let appended =
            soon("a batch", nodes[at].append_batch(batch.iter().copied())).await.unwrap();
        assert_eq!(appended.seqs.start, seq.after(), "the first of them");
        seq = seq.checked_add(batch.len() as u64).unwrap();
        assert_eq!(appended.seqs.end, seq.after());
        head_of_all(&nodes, seq, batch.last().unwrap()).await;
    }
    close(&nodes).await;
    let nodes = open().await;
    let last = soon("an append", nodes[1].append("j")).await.unwrap().seq;
    head_of_all(&nodes, last, "j").await;
    let all: Vec<String> = ('a'..='j').map(String::from).collect();
    assert_eq!(payloads(&nodes[2]).await, all);
    close(&nodes).await;
}

/// Counts what it was given, and outlives its node.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<(u64, Seq)>>);

impl StateMachine for Kept {
    fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
        let mut kept = self.0.lock().unwrap();
        let mut results = Vec::new();
        for entry in entries {
            if entry.seq < kept.1 {
                return Err(format!("{} again", entry.seq).into());
            }
            *kept = (kept.0 + 1, entry.seq.after());
            results.push(Bytes::from(kept.0.to_string()));
        }
        Ok(results)
    }

    fn read(&mut self, query: &[u8]) -> Result<Bytes, StateMachineError> {
        match query {
            b"123" => Ok(Bytes::from(self.0.lock().unwrap().0.to_string())),
            _ => Err("no such query".into()),
        }
    }

    fn applied(&self) -> Seq {
        self.0.lock().unwrap().1
    }
}

/// The same, and waits before it does anything.
struct Slow(Kept);

impl AsyncStateMachine for Slow {
    async fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
        tokio::task::yield_now().await;
        self.0.apply(entries)
    }

    async fn read(&mut self, query: &[u8]) -> Result<Bytes, StateMachineError> {
        tokio::task::yield_now().await;
        self.0.read(query)
    }

    fn applied(&self) -> Seq {
        StateMachine::applied(&self.0)
    }
}

/// Appends single entries or batches on all nodes, restarts them with the state that they kept, and goes on.
async fn state(is_async: bool, is_batch: bool) {
    let (dir, net) = (tempfile::tempdir().unwrap(), InProcess::new());
    let machines: Vec<Kept> = (0..3).map(|_| Kept::default()).collect();
    let describe = |id: u64| {
        let machine = machines[usize::try_from(id).unwrap() - 1].clone();
        let builder = full(dir.path(), &net, id);
        if is_async {
            builder.async_state_machine(move || Slow(machine))
        } else {
            builder.state_machine(move || machine)
        }
    };
    let mut count = 0_u64;
    for _ in 0..2 {
        let nodes = open_full(describe).await;
        let mut seq = nodes[0].status().seq().unwrap();
        for at in [0, 0, 1, 1, 2] {
            if is_batch {
                let appended = soon("a batch", nodes[at].append_batch(["x", ""])).await.unwrap();
                assert_eq!(appended.seqs.start, seq.after());
                let results = [count + 1, count + 2].map(|count| Bytes::from(count.to_string()));
                assert_eq!(appended.results, results);
                (seq, count) = (seq.after().after(), count + 2);
            } else {
                let appended = soon("an append", nodes[at].append("x")).await.unwrap();
                (seq, count) = (seq.after(), count + 1);
                assert_eq!((appended.seq, appended.result), (seq, Bytes::from(count.to_string())));
            }
            let read = soon("a read", nodes[at].read("123")).await.unwrap();
            assert_eq!((read.seq, read.result), (seq, Bytes::from(count.to_string())));
        }
        for node in &nodes {
            soon("it is applied", node.wait(|status| status.applied > seq)).await.unwrap();
        }
        close(&nodes).await;
        assert!(machines.iter().all(|machine| machine.0.lock().unwrap().0 == count));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn state_01_appends() {
    state(false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_02_appends_async() {
    state(true, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_03_batches() {
    state(false, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_04_batches_async() {
    state(true, true).await;
}

/// A log is deleted, the leader's or a follower's: its node gets everything again, and all three logs are equal.
async fn delete(is_leader: bool) {
    let (dir, net) = (tempfile::tempdir().unwrap(), InProcess::new());
    let describe = |id: u64| {
        let builder = quick(RaftNode::builder(id, [1, 2, 3])).log_dir(dir.path());
        builder.transport(net.endpoint(NodeId::from(id)))
    };
    // The leader first.
    let mut nodes = open_full(describe).await;
    for payload in ["a", "bb"] {
        soon("an append", nodes[0].append(payload)).await.unwrap();
    }
    let gone = usize::from(!is_leader);
    let id = nodes[gone].id();
    close(&nodes[gone..=gone]).await;
    FsLog::destroy(dir.path(), &format!("node-{id}")).unwrap();
    if is_leader {
        // Another one leads.
        let other = nodes[1].wait(|status| status.leader.is_some_and(|leader| leader != id));
        soon("another leader", other).await.unwrap();
    }
    let number = id.as_str().parse().unwrap();
    nodes[gone] = soon("open", describe(number).open()).await.unwrap();
    let appended = soon("an append", nodes[2].append("ccc")).await.unwrap();
    for node in &nodes {
        soon("it has all", node.wait(|status| status.committed > appended.seq)).await.unwrap();
        let durable = node.wait(|status| status.durable > appended.seq);
        soon("it has all on disk", durable).await.unwrap();
        assert_eq!(payloads(node).await, ["a", "bb", "ccc"]);
    }
    let mut logs = Vec::new();
    for node in &nodes {
        let range = Seq::ZERO..appended.seq.after();
        logs.push(soon("its log", node.entries(range).all()).await.unwrap());
    }
    assert!(logs.windows(2).all(|pair| pair[0] == pair[1]));
    close(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn misc_01_a_followers_log_is_deleted() {
    delete(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn misc_02_the_leaders_log_is_deleted() {
    delete(true).await;
}
