//! State machines that wait for other things.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tinyraftplus::{
    Applied, AsyncStateMachine, Bytes, Effect, InProcess, OpenError, RaftNode, Seq, StartError,
    StateMachineError, StopReason,
};
use tokio::sync::watch;

use crate::common::{close, describe, leader, quick, soon};

/// What it was given, and a gate at which it waits.
#[derive(Clone)]
struct Gated {
    seen: Arc<Mutex<Vec<(Seq, Bytes)>>>,
    gate: watch::Receiver<bool>,
}

impl Gated {
    fn new() -> (Self, watch::Sender<bool>) {
        let (open, gate) = watch::channel(false);
        (Self { seen: Arc::default(), gate }, open)
    }

    fn seen(&self) -> Vec<(Seq, Bytes)> {
        self.seen.lock().unwrap().clone()
    }
}

impl AsyncStateMachine for Gated {
    async fn apply(&mut self, entries: &[Applied]) -> Result<Vec<Bytes>, StateMachineError> {
        self.gate.wait_for(|open| *open).await?;
        // A timer of the node's runtime works in here.
        let never = std::future::pending::<()>();
        drop(tokio::time::timeout(Duration::from_millis(1), never).await);
        let mut results = Vec::new();
        let mut seen = self.seen.lock().unwrap();
        for entry in entries {
            if entry.payload == "fail" {
                return Err("told to fail".into());
            }
            seen.push((entry.seq, entry.payload.clone()));
            results.push(Bytes::from(format!("result {}", seen.len())));
        }
        Ok(results)
    }

    async fn read(&mut self, query: &[u8]) -> Result<Bytes, StateMachineError> {
        tokio::task::yield_now().await;
        if query == b"fail" {
            return Err("told to fail".into());
        }
        Ok(Bytes::from(self.seen().len().to_string()))
    }

    fn applied(&self) -> Seq {
        self.seen().last().map_or(Seq::ZERO, |(seq, _)| seq.after())
    }
}

/// `slow_apply_starves_election`, with state machines that wait: on every node, for longer than several election timeouts.
/// The leader stays, and each entry is applied once, when they go on; a query that fails goes to its caller.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_machine_that_waits_holds_up_no_heartbeats() {
    let (net, mut nodes) = (InProcess::new(), Vec::new());
    let (machine, open) = Gated::new();
    let mut machines = Vec::new();
    for id in 1..=3 {
        let own = Gated { seen: Arc::default(), gate: machine.gate.clone() };
        machines.push(own.clone());
        let node = describe(&net, id, &[1, 2, 3]).async_state_machine(move || own);
        nodes.push(soon("open", node.open()).await.unwrap());
    }
    let at = leader(&nodes).await;
    let term = nodes[at].status().term;
    let calls: Vec<_> = (0..6)
        .map(|number| {
            let node = nodes[number % 3].clone();
            tokio::spawn(async move { node.append(number.to_string()).await })
        })
        .collect();
    // Contacts go on for as long as ten heartbeats take, and more.
    let mut contacts = std::collections::BTreeSet::new();
    let heard = nodes[at].wait(|status| {
        contacts.extend(status.peers.iter().filter_map(|peer| peer.last_contact));
        contacts.len() > 30
    });
    soon("heartbeats go on", heard).await.unwrap();
    assert!(calls.iter().all(|call| !call.is_finished()));
    assert_eq!(nodes[at].status().term, term, "nobody campaigned");
    open.send_replace(true);
    for call in calls {
        let appended = soon("an append", call).await.unwrap().unwrap();
        assert!(appended.result.starts_with(b"result "));
    }
    let read = soon("a read", nodes[(at + 1) % 3].read("count")).await.unwrap();
    assert_eq!(read.result, "6");
    assert!(soon("a read", nodes[0].read("fail")).await.is_err(), "and the node goes on");
    for (node, machine) in nodes.iter().zip(&machines) {
        soon("it is applied", node.wait(|status| status.applied >= Seq::new(7))).await.unwrap();
        assert_eq!(machine.seen().len(), 6);
    }
    close(&nodes).await;
}

/// A state machine that waits for ever: closing waits as long as it was told to, then the future is dropped where it stands,
/// and its thread ends. Fails if `Waiting` does not look at `done`.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_machine_that_hangs_is_left() {
    let (machine, open) = Gated::new();
    let builder = describe(&InProcess::new(), 1, &[1]);
    let builder = builder.close_timeout(Duration::from_millis(50));
    let node = soon("open", builder.async_state_machine(move || machine).open()).await.unwrap();
    let call = tokio::spawn({
        let node = node.clone();
        async move { node.append("x").await }
    });
    soon("it is committed", node.wait(|status| status.committed > Seq::new(1))).await.unwrap();
    soon("close", node.close()).await.unwrap();
    assert_eq!(soon("its call", call).await.unwrap().unwrap_err().effect(), Effect::Possible);
    // The gate has no other owner than the state machine.
    soon("the state machine goes", open.closed()).await;
}

/// An error stops the node with its reason, and is never a success.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_stops_the_node() {
    let (machine, open) = Gated::new();
    open.send_replace(true);
    let builder = describe(&InProcess::new(), 1, &[1]).async_state_machine(move || machine);
    let node = soon("open", builder.open()).await.unwrap();
    soon("an append", node.append("fine")).await.unwrap();
    let error = soon("an append", node.append("fail")).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Possible);
    let reason = soon("close", node.close()).await.unwrap_err();
    assert!(matches!(&reason, StopReason::StateMachine(what) if &**what == "told to fail"));
    assert!(error.to_string().contains("told to fail"), "{error}");
}

/// `apply_index_not_atomic`, for one that waits: it goes on where it was, whatever ended its node; and one that has seen more
/// than the log has is refused with both positions. Fails if `Waiting` does not pass `applied` on.
#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (machine, open) = Gated::new();
    open.send_replace(true);
    let describe = |name: &str| {
        let machine = machine.clone();
        let builder = quick(RaftNode::builder(1, [1])).log_dir(dir.path().join(name));
        builder.async_state_machine(move || machine)
    };
    for round in 0..4 {
        let node = soon("open", describe("log").open()).await.unwrap();
        soon("an append", node.append(round.to_string())).await.unwrap();
        if round % 2 == 0 {
            soon("kill", node.kill()).await;
        } else {
            close(&[node]).await;
        }
        let payloads: Vec<_> = machine.seen().into_iter().map(|(_, payload)| payload).collect();
        assert_eq!(payloads, (0..=round).map(|round: u32| round.to_string()).collect::<Vec<_>>());
    }
    let error = soon("open", describe("another").open()).await.unwrap_err();
    let OpenError::Start(start) = &error else { panic!("{error}") };
    let StartError::AheadOfLog { applied, end } = **start else { panic!("{error}") };
    assert!(applied > end && error.to_string().contains("start with an empty state machine"));
}
