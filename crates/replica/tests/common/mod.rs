//! A cluster of replicas in one thread: plain lists for disks, a queue for the network, a clock that jumps.
//!
//! It does what a driver does, and lets a test hold back or repeat any part of it. It checks on the way what
//! must always hold: a call ends once, and the state machine is never ahead of its own disk.
#![allow(dead_code, reason = "each test uses a part of it")]
#![expect(unreachable_pub, reason = "shared by several tests")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod mem_snapshots;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use mem_snapshots::MemSnapshots;
use tinyraftplus_core::quorum::CustomRules;
use tinyraftplus_core::{
    HardState, Identity, MemberSpec, NodeId, Options, Plan, Restored, Role, Seq, Term, Terms, Time,
};
use tinyraftplus_log::{EntryKind, LogEntry, LogError, LogRead, Write};
use tinyraftplus_replica::{
    Actions, Apply, Base, Call, CallId, Change, Event, Happening, LoadRequest, Message, Outcome,
    Query, Replica, ReplicaOptions, Request, SnapshotId, SnapshotNews, SnapshotWork,
};

/// What becomes of a message.
pub enum Fate {
    Deliver,
    Drop,
    Twice,
    Hold,
}

type Filter = Box<dyn FnMut(NodeId, NodeId, &Message) -> Fate>;

pub struct Cluster {
    pub now: Time,
    pub nodes: BTreeMap<NodeId, Node>,
    pub wire: VecDeque<(NodeId, NodeId, Message)>,
    pub held: Vec<(NodeId, NodeId, Message)>,
    pub cut: BTreeSet<(NodeId, NodeId)>,
    pub filter: Filter,
    pub outcomes: BTreeMap<CallId, Outcome>,
    tune: fn(&mut ReplicaOptions),
    founders: Vec<NodeId>,
    next_call: u64,
    starts: u64,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "a lever each")]
pub struct Node {
    pub replica: Option<Replica>,
    pub disk: Disk,
    pub writes: VecDeque<(u64, Write)>,
    pub loads: VecDeque<LoadRequest>,
    pub apply: Option<Apply>,
    pub works: VecDeque<SnapshotWork>,
    pub queries: VecDeque<Query>,
    /// What the state machine was given, in order.
    pub machine: Vec<(Seq, Bytes)>,
    pub holds_disk: bool,
    pub holds_machine: bool,
    pub holds_loads: bool,
    /// Snapshots are neither taken, read, written nor restored.
    pub holds_snapshots: bool,
    pub events: Vec<Event>,
}

/// What survives a crash.
#[derive(Clone, Default)]
pub struct Disk {
    identity: u128,
    hard_state: HardState,
    configuration: Option<std::sync::Arc<tinyraftplus_core::Configurations>>,
    pub entries: Vec<LogEntry>,
    /// Where the log begins, and the term before.
    pub start: Seq,
    before: Term,
    pub snapshots: MemSnapshots,
    /// How many snapshots were made here.
    pub made: u64,
}

pub fn id(number: u64) -> NodeId {
    NodeId::from(number)
}

pub fn seq(number: u64) -> Seq {
    Seq::new(number)
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

impl Disk {
    pub fn end(&self) -> Seq {
        self.entries.last().map_or(self.start, |entry| entry.id.seq.after())
    }

    fn write(&mut self, write: Write) {
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
        self.configuration = write.configuration.or_else(|| self.configuration.take());
        if let Some(reset) = write.reset {
            self.entries.clear();
            (self.start, self.before) = (reset.start, reset.before);
        }
        if let Some(end) = write.trim {
            self.entries.retain(|entry| entry.id.seq < end);
        }
        if let Some(start) = write.compact {
            assert!(start <= self.end(), "what is not there can't go");
            let gone: Vec<LogEntry> =
                self.entries.extract_if(.., |entry| entry.id.seq < start).collect();
            if let Some(last) = gone.last() {
                assert!(last.ends_batch, "a compaction splits a batch");
                (self.start, self.before) = (start, last.id.term);
            }
        }
        for entry in write.append {
            assert_eq!(entry.id.seq, self.end(), "writes follow each other");
            self.entries.push(entry);
        }
    }

    fn restored(&self) -> Restored {
        let mut terms = Terms::empty(self.start, self.before);
        for entry in &self.entries {
            terms.append(entry.id.term, 1);
        }
        let identity = Identity::new(self.identity);
        let mut restored = Restored::empty(identity);
        restored.hard_state = self.hard_state;
        restored.configuration.clone_from(&self.configuration);
        restored.terms = terms;
        restored
    }

    /// The users' payloads, in order.
    pub fn payloads(&self) -> Vec<Bytes> {
        let users = self.entries.iter().filter(|entry| entry.kind == EntryKind::Payload);
        users.map(|entry| entry.payload.clone()).collect()
    }
}

impl LogRead for Disk {
    fn read(&self, start: Seq, end: Seq, bytes_max: u64) -> Result<Vec<LogEntry>, LogError> {
        if start < self.start {
            return Err(LogError::Compacted { start: self.start, got: start });
        }
        if end > self.end() {
            return Err(LogError::Trimmed { end: self.end(), got: end });
        }
        let mut bytes = 0;
        let wanted = self.entries.iter().filter(|e| e.id.seq >= start && e.id.seq < end);
        let fits = wanted.enumerate().take_while(|(at, entry)| {
            bytes += entry.payload.len() as u64;
            *at == 0 || bytes <= bytes_max
        });
        Ok(fits.map(|(_, entry)| entry.clone()).collect())
    }

    fn bounds(&self) -> Range<Seq> {
        self.start..self.end()
    }

    // Only iterators ask, and a replica has none.
    fn drops(&self) -> u64 {
        0
    }

    fn kept_since(&self, _drops: u64) -> Seq {
        self.end()
    }
}

impl Cluster {
    pub fn new(count: u64, tune: fn(&mut ReplicaOptions)) -> Self {
        let mut cluster = Self {
            now: Time::ZERO,
            nodes: BTreeMap::new(),
            wire: VecDeque::new(),
            held: Vec::new(),
            cut: BTreeSet::new(),
            filter: Box::new(|_, _, _| Fate::Deliver),
            outcomes: BTreeMap::new(),
            tune,
            founders: (1..=count).map(id).collect(),
            next_call: 0,
            starts: 0,
        };
        for number in 1..=count {
            let disk = Disk { identity: u128::from(number), ..Disk::default() };
            cluster.nodes.insert(id(number), Node { disk, ..Node::default() });
        }
        for number in 1..=count {
            cluster.start(id(number));
        }
        cluster
    }

    /// Another node, which knows the founders and waits to be added.
    pub fn join(&mut self, number: u64) {
        let disk = Disk { identity: u128::from(number), ..Disk::default() };
        self.nodes.insert(id(number), Node { disk, ..Node::default() });
        self.start(id(number));
    }

    /// A node loses its disk, and starts with an empty one.
    pub fn wipe(&mut self, node: NodeId) {
        self.starts += 1;
        let disk = Disk { identity: u128::from(1000 + self.starts), ..Disk::default() };
        self.nodes.insert(node, Node { disk, ..Node::default() });
        self.start(node);
    }

    /// Starts a node, or starts it again, with what its disk holds and an empty state machine.
    pub fn start(&mut self, node: NodeId) {
        self.start_at(node, Seq::ZERO);
    }

    /// Starts a node whose state machine has kept what it was given before that position.
    pub fn start_at(&mut self, node: NodeId, applied: Seq) {
        self.starts += 1;
        let mut options =
            ReplicaOptions::new(Options::new(node, self.founders.clone(), self.starts));
        options.raft.joins = !self.founders.contains(&node);
        options.state_machine = true;
        (self.tune)(&mut options);
        let (starts, now) = (self.starts, self.now);
        let node = self.nodes.get_mut(&node).unwrap();
        let restored = node.disk.restored();
        // As far as it was kept.
        node.machine.retain(|(seq, _)| *seq < applied);
        let snapshot = node.disk.snapshots.newest().cloned();
        let replica = Replica::new(options, restored, applied, snapshot, starts, now);
        node.replica = Some(replica.unwrap());
    }

    /// The process of a node dies: what was not written is lost.
    pub fn kill(&mut self, node: NodeId) {
        let disk = self.nodes[&node].disk.clone();
        self.nodes.insert(node, Node { disk, ..Node::default() });
    }

    pub fn replica(&self, node: NodeId) -> &Replica {
        self.nodes[&node].replica.as_ref().unwrap()
    }

    pub fn node(&mut self, node: NodeId) -> &mut Node {
        self.nodes.get_mut(&node).unwrap()
    }

    pub fn call(&mut self, node: NodeId, request: Request) -> CallId {
        self.call_for(node, request, Duration::from_secs(10))
    }

    pub fn call_for(&mut self, node: NodeId, request: Request, time: Duration) -> CallId {
        self.next_call += 1;
        let call = Call { id: CallId(self.next_call), request, deadline: self.now + time };
        let id = call.id;
        self.step(node, Happening::Calls(vec![call]));
        id
    }

    /// Asks a node for these voters under the rules that it knows, whatever the members are.
    pub fn set_voters(&mut self, node: NodeId, voters: &[u64]) -> CallId {
        let request = self.change(node, voters, None);
        self.call(node, request)
    }

    /// The wish for these voters under the rules that a node knows, if the members are those at `base`.
    pub fn change(&self, node: NodeId, voters: &[u64], base: Option<Base>) -> Request {
        let members = voters.iter().map(|&voter| MemberSpec::voter(id(voter))).collect();
        let known = self.replica(node).core().configuration();
        let rules = known.map(|it| it.now().rules().clone()).unwrap_or_default();
        let plan = Plan::new(members, rules, &CustomRules::default()).unwrap();
        Request::ChangeMembers(Box::new(Change { plan, base, keeps_rules: true }))
    }

    /// The voters that a node knows, and where that is written.
    pub fn voters(&self, node: NodeId) -> (Vec<NodeId>, Option<Seq>) {
        let newest = self.replica(node).core().configurations().unwrap().newest().clone();
        assert!(newest.configuration.old().is_none(), "node {node} is between two memberships");
        (newest.configuration.now().voters().map(|voter| voter.id).collect(), newest.at)
    }

    pub fn append(&mut self, node: NodeId, payload: &str) -> CallId {
        self.call(node, Request::Append { payloads: vec![bytes(payload)] })
    }

    pub fn read(&mut self, node: NodeId) -> CallId {
        self.call(node, Request::Read { query: Bytes::new() })
    }

    pub fn step(&mut self, node: NodeId, happening: Happening) {
        self.step_all(node, vec![happening]);
    }

    pub fn step_all(&mut self, node: NodeId, happenings: Vec<Happening>) {
        let now = self.now;
        let Some(replica) = self.nodes.get_mut(&node).and_then(|n| n.replica.as_mut()) else {
            return;
        };
        let actions = replica.step_all(now, happenings);
        self.act(node, actions);
    }

    fn act(&mut self, from: NodeId, actions: Actions) {
        let Actions { writes, send, load, snapshots, apply, query, reply, events } = actions;
        let node = self.nodes.get_mut(&from).unwrap();
        node.works.extend(snapshots);
        node.writes.extend(writes);
        node.loads.extend(load);
        if let Some(apply) = apply {
            assert!(node.apply.is_none(), "one apply at a time");
            assert!(apply.end <= node.disk.end(), "the state machine is ahead of its disk");
            node.apply = Some(apply);
        }
        node.queries.extend(query);
        node.events.extend(events);
        for (call, outcome) in reply {
            assert!(self.outcomes.insert(call, outcome).is_none(), "call {call} ended twice");
        }
        for (to, message) in send {
            match (self.filter)(from, to, &message) {
                Fate::Deliver => self.wire.push_back((from, to, message)),
                Fate::Drop => {}
                Fate::Twice => {
                    self.wire.push_back((from, to, message.clone()));
                    self.wire.push_back((from, to, message));
                }
                Fate::Hold => self.held.push((from, to, message)),
            }
        }
    }

    /// Lets the messages go that were held back.
    pub fn release(&mut self) {
        self.filter = Box::new(|_, _, _| Fate::Deliver);
        self.wire.extend(std::mem::take(&mut self.held));
    }

    /// Cuts all links of a node.
    pub fn isolate(&mut self, node: NodeId) {
        for &other in self.nodes.keys() {
            self.cut.extend([(node, other), (other, node)]);
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Does one thing that is due; lets time pass if there is none.
    fn advance(&mut self) {
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            if let Some(happening) = self.nodes.get_mut(&node).and_then(next_happening) {
                return self.step(node, happening);
            }
        }
        if let Some((from, to, message)) = self.wire.pop_front() {
            if !self.cut.contains(&(from, to)) {
                self.step(to, Happening::Receive { from, message });
            }
            return;
        }
        let replicas = self.nodes.iter().filter_map(|(&n, node)| Some((n, node.replica.as_ref()?)));
        let (at, node) = replicas.map(|(n, replica)| (replica.wake_at(), n)).min().unwrap();
        // Where nobody waits for anything, the clock goes on all the same.
        self.now = self.now.max(at.min(self.now + Duration::from_secs(1)));
        self.step(node, Happening::Wake);
    }

    /// Goes on until that is true.
    pub fn until(&mut self, mut is_true: impl FnMut(&Self) -> bool) {
        for _ in 0..200_000 {
            if is_true(self) {
                return;
            }
            self.advance();
        }
        for (id, node) in &self.nodes {
            let up = node.replica.as_ref().map(|replica| (replica.wake_at(), replica.status()));
            eprintln!("node {id}: {} writes wait, {up:?}", node.writes.len());
            eprintln!(
                "  {:?} machine {} {:?}",
                node.works,
                node.machine.len(),
                node.machine.last()
            );
            eprintln!("  {:?}", &node.events[node.events.len().saturating_sub(6)..]);
        }
        panic!("nothing moves at {:?}, {} messages are on their way", self.now, self.wire.len());
    }

    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.until(|cluster| cluster.now >= end);
    }

    pub fn leader(&mut self) -> NodeId {
        let everybody: Vec<NodeId> = self.nodes.keys().copied().collect();
        self.leader_among(&everybody)
    }

    /// The leader, once these know it; others may be no members.
    pub fn leader_of(&mut self, members: &[u64]) -> NodeId {
        let members: Vec<NodeId> = members.iter().map(|&member| id(member)).collect();
        self.leader_among(&members)
    }

    fn leader_among(&mut self, members: &[NodeId]) -> NodeId {
        let leads = |c: &Self, n: NodeId| {
            c.nodes[&n].replica.as_ref().is_some_and(|replica| {
                let core = replica.core();
                let newest =
                    members.iter().filter_map(|n| Some(c.nodes[n].replica.as_ref()?.core().term()));
                core.role() == Role::Leader
                    && Some(core.term()) == newest.max()
                    && core.terms().entry_before(core.committed()).map(|e| e.term)
                        == Some(core.term())
            })
        };
        let find = |c: &Self| members.iter().copied().find(|&n| leads(c, n));
        self.until(|cluster| find(cluster).is_some());
        let leader = find(self).unwrap();
        // Everybody who can hear it knows it.
        self.until(|c| {
            members.iter().all(|&n| {
                c.cut.contains(&(leader, n))
                    || c.nodes[&n]
                        .replica
                        .as_ref()
                        .is_none_or(|r| r.core().leader() == Some(leader))
            })
        });
        leader
    }

    /// A member that does not lead.
    pub fn follower(&mut self) -> NodeId {
        let leader = self.leader();
        self.nodes.keys().copied().find(|&n| n != leader).unwrap()
    }

    pub fn outcome(&mut self, call: CallId) -> Outcome {
        self.until(|cluster| cluster.outcomes.contains_key(&call));
        self.outcomes[&call].clone()
    }

    pub fn committed(&mut self, call: CallId) -> Seq {
        match self.outcome(call) {
            Outcome::Committed { first, .. } => first,
            other @ (Outcome::Read { .. }
            | Outcome::Done
            | Outcome::NotTransferred(_)
            | Outcome::Changed { .. }
            | Outcome::NotChanged(_)
            | Outcome::Refused(_)
            | Outcome::Unknown(_)) => panic!("call {call} ended as {other:?}"),
        }
    }

    pub fn term(&self, node: NodeId) -> Term {
        self.replica(node).core().term()
    }
}

/// What the disk or the state machine of a node has to say.
fn next_happening(node: &mut Node) -> Option<Happening> {
    node.replica.as_ref()?;
    if !node.holds_disk
        && let Some((job, write)) = node.writes.pop_front()
    {
        node.disk.write(write);
        return Some(Happening::Persisted { job });
    }
    if !node.holds_loads
        && let Some(request) = node.loads.pop_front()
    {
        return Some(Happening::Loaded(request.run(&node.disk)));
    }
    if node.holds_machine {
        return None;
    }
    while !node.holds_snapshots
        && let Some(work) = node.works.pop_front()
    {
        if let Some(news) = snapshot_work(node, work) {
            return Some(Happening::Snapshot(news));
        }
    }
    if let Some(apply) = node.apply.take() {
        let mut results = Vec::new();
        for entry in apply.entries {
            node.machine.push((entry.seq, entry.payload));
            results.push(bytes(&node.machine.len().to_string()));
        }
        return Some(Happening::Applied { results });
    }
    let query = node.queries.pop_front()?;
    let result = Ok(bytes(&node.machine.len().to_string()));
    Some(Happening::Answered { call: query.call, result })
}

/// Chunks are of the smallest size there is, so that a snapshot of some hundred entries has several.
fn snapshot_work(node: &mut Node, work: SnapshotWork) -> Option<SnapshotNews> {
    match work {
        SnapshotWork::Take { last, configurations } => {
            node.disk.made += 1;
            let id = SnapshotId::new(node.disk.identity << 64 | u128::from(node.disk.made));
            let line = |(seq, payload): &(Seq, Bytes)| {
                format!("{seq} {}\n", String::from_utf8_lossy(payload))
            };
            assert!(node.machine.iter().all(|(seq, _)| *seq <= last.seq), "it has seen more");
            let body: String = node.machine.iter().map(line).collect();
            let meta = node.disk.snapshots.create(id, last, configurations, 1024, bytes(&body));
            Some(SnapshotNews::Taken(Ok(meta)))
        }
        SnapshotWork::Restore(meta) => {
            let body = node.disk.snapshots.body(meta.id).unwrap();
            let lines = str::from_utf8(&body).unwrap().lines();
            let entry = |line: &str| {
                let (number, payload) = line.split_once(' ').unwrap();
                (seq(number.parse().unwrap()), bytes(payload))
            };
            node.machine = lines.map(entry).collect();
            Some(SnapshotNews::Restored)
        }
        work @ (SnapshotWork::Receive(_)
        | SnapshotWork::Write { .. }
        | SnapshotWork::Finish(_)
        | SnapshotWork::Read { .. }
        | SnapshotWork::RemoveOlder(_)) => node.disk.snapshots.work(work),
    }
}
