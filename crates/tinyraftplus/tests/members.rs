//! Who belongs to the cluster, as programs decide it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tinyraftplus::{
    AppendError, ChangeError, CustomRule, CustomRules, Effect, EntryKind, Event, Events, Group,
    InProcess, LeadershipError, LogError, LogOptions, MemLog, Member, Members, MembersError, Next,
    NodeBuilder, NodeId, QuorumRule, RaftNode, ReadError, Refused, Role, Seq, TransferError,
    Unknown,
};

use tokio::task::JoinHandle;

fn memory() -> Result<MemLog, LogError> {
    MemLog::new(LogOptions::default())
}

fn tune(builder: NodeBuilder, net: &InProcess, id: u64) -> NodeBuilder {
    builder
        .heartbeat_interval(Duration::from_millis(30))
        .election_timeout(Duration::from_millis(200))
        .election_jitter(Duration::from_millis(200))
        .log(memory)
        .transport(net.endpoint(id.into()))
}

fn found(net: &InProcess, id: u64, count: u64) -> NodeBuilder {
    tune(RaftNode::builder(id, 1..=count), net, id)
}

fn join(net: &InProcess, id: u64) -> NodeBuilder {
    tune(RaftNode::builder(id, [1, 2, 3]).join(), net, id)
}

/// Nodes 1 to `founders`, and further ones that wait to be added.
async fn open(net: &InProcess, founders: u64, others: u64) -> Vec<RaftNode> {
    let mut nodes = Vec::new();
    for id in 1..=founders {
        nodes.push(found(net, id, founders).open().await.unwrap());
    }
    for id in founders + 1..=founders + others {
        nodes.push(join(net, id).open().await.unwrap());
    }
    nodes
}

async fn close(nodes: Vec<RaftNode>) {
    for node in nodes {
        node.close().await.unwrap();
    }
}

fn voters(ids: impl IntoIterator<Item = u64>) -> Vec<Member> {
    ids.into_iter().map(Member::voter).collect()
}

fn group(label: &str) -> Group {
    Group::new(label).unwrap()
}

/// The position of the leader among the first nodes, which all know it.
async fn leader(nodes: &[RaftNode]) -> usize {
    let leader = nodes[0].await_committed_leader().await.unwrap();
    nodes.iter().position(|node| node.id() == leader).unwrap()
}

/// Users' payloads, as that node has them.
async fn payloads(node: &RaftNode) -> Vec<String> {
    let end = node.read("").await.unwrap().seq.after();
    let entries = node.entries(Seq::ZERO..end).all().await.unwrap();
    let users = entries.into_iter().filter(|entry| entry.kind == EntryKind::Payload);
    users.map(|entry| String::from_utf8(entry.payload.to_vec()).unwrap()).collect()
}

/// Clients that append on nodes until they are told to stop; each comes back with what it was told to be committed.
struct Load {
    is_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Told>>>,
}

/// A payload, and what its client was told of it.
type Told = (String, Result<Seq, AppendError>);

impl Load {
    /// Returns when each client has had something committed.
    async fn begin(nodes: &[RaftNode]) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let at = COUNT.fetch_add(1, Ordering::Relaxed);
        let is_over = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        for node in nodes {
            let (node, is_over) = (node.clone(), Arc::clone(&is_over));
            let first = format!("{}:{at}:0", node.id());
            let seq = node.append(first.clone()).await.unwrap().seq;
            clients.push(tokio::spawn(async move {
                let mut told = vec![(first, Ok(seq))];
                while !is_over.load(Ordering::Relaxed) {
                    let payload = format!("{}:{at}:{}", node.id(), told.len());
                    let result = node.append(payload.clone()).await.map(|appended| appended.seq);
                    told.push((payload, result));
                    // Refused at once, it would spin.
                    tokio::task::yield_now().await;
                }
                told
            }));
        }
        Self { is_over, clients }
    }

    /// Checks that what was told is so, as `node` has it, and returns the errors.
    async fn end(self, node: &RaftNode) -> Vec<AppendError> {
        self.is_over.store(true, Ordering::Relaxed);
        let (mut errors, mut all) = (Vec::new(), Vec::new());
        for client in self.clients {
            all.push(client.await.unwrap());
        }
        let log = payloads(node).await;
        let places = log.iter().enumerate().map(|(at, payload)| (payload, at));
        let places: BTreeMap<_, _> = places.collect();
        let place = |payload: &String| places.get(payload).copied();
        for told in all {
            let committed: Vec<_> = told
                .iter()
                .filter_map(|(payload, result)| Some((payload, *result.as_ref().ok()?)))
                .collect();
            let places: Vec<_> =
                committed.iter().map(|(payload, _)| place(payload).expect("it is there")).collect();
            assert!(committed.is_sorted_by(|a, b| a.1 < b.1) && places.is_sorted(), "in order");
            for (payload, result) in told {
                if let Err(error) = result {
                    let is_there = error.effect() == Effect::None && place(&payload).is_some();
                    assert!(!is_there, "{payload} was refused: {error}");
                    errors.push(error);
                }
            }
        }
        let of_clients = || log.iter().filter(|payload| payload.contains(':'));
        let unique: BTreeSet<&String> = of_clients().collect();
        assert_eq!(unique.len(), of_clients().count(), "nothing is there twice");
        errors
    }
}

/// A cluster of one grows to three and to five while clients append, asked on any node, and shrinks to two. No call fails.
#[tokio::test(flavor = "multi_thread")]
async fn from_one_to_five_and_back() {
    let net = InProcess::new();
    let nodes = open(&net, 1, 4).await;
    nodes[0].append("first").await.unwrap();
    let load = Load::begin(&nodes[..1]).await;
    let three = nodes[0].set_members(voters(1..=3)).await.unwrap();
    assert_eq!(three.members, voters(1..=3));
    let more = Load::begin(&nodes[1..3]).await;
    let five = nodes[2].set_members(voters(1..=5)).await.unwrap();
    assert!(five.at > three.at, "{five:?}");
    for node in &nodes {
        let status = node.wait(|status| status.members_at == five.at).await.unwrap();
        assert_eq!((status.members, status.replaced), (voters(1..=5), None));
    }
    assert!(nodes[4].append("on a new one").await.unwrap().seq > five.at.unwrap());
    assert_eq!(payloads(&nodes[4]).await[0], "first");
    // Of those that stay.
    for load in [load, more] {
        let errors = load.end(&nodes[0]).await;
        assert!(errors.is_empty(), "{errors:?}");
    }
    nodes[1].set_members(voters([2, 5])).await.unwrap();
    nodes[4].append("of two").await.unwrap();
    close(nodes).await;
}

/// All three members are replaced in one call, on an old one, while clients append on all six. The new ones serve all calls;
/// what the old ones are asked later is refused at once, and says why.
#[tokio::test(flavor = "multi_thread")]
async fn all_members_are_replaced() {
    for asked in 0..3 {
        let net = InProcess::new();
        let nodes = open(&net, 3, 3).await;
        leader(&nodes[..3]).await;
        let load = Load::begin(&nodes[..3]).await;
        nodes[2].wait(|status| status.committed > Seq::new(20)).await.unwrap();
        let now = nodes[asked].set_members(voters(4..=6)).await.unwrap();
        for node in &nodes[3..] {
            node.wait(|status| status.members_at == now.at).await.unwrap();
            node.append("on a new one").await.unwrap();
        }
        for node in &nodes[..3] {
            // The last one to hear of it may be none of those that the new leader knows.
            // One that was written by a leader that goes may be replaced by another.
            let removed = node.wait(|status| status.members_at == now.at).await.unwrap();
            assert!(!removed.is_member() && removed.replaced.is_none());
        }
        let began = Instant::now();
        for error in load.end(&nodes[4]).await {
            assert!(
                matches!(
                    error,
                    AppendError::Refused(Refused::NotAMember | Refused::Overtaken)
                        | AppendError::Unknown(Unknown::NotAMember | Unknown::Forgotten)
                ),
                "{error}"
            );
        }
        for node in &nodes[..3] {
            let error = node.append("late").await.unwrap_err();
            assert!(matches!(error, AppendError::Refused(Refused::NotAMember)), "{error}");
            let error = node.read("").await.unwrap_err();
            assert!(matches!(error, ReadError::Refused(Refused::NotAMember)), "{error}");
            let error = node.set_members(voters(1..=3)).await.unwrap_err();
            assert!(matches!(error, MembersError::Refused(Refused::NotAMember)), "{error}");
            let error = node.transfer_leadership(1).await.unwrap_err();
            assert!(matches!(error, LeadershipError::Refused(Refused::NotAMember)), "{error}");
            assert_eq!(node.status().role, Role::Learner);
            node.read_local("").await.unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(5), "nothing hangs");
        close(nodes).await;
    }
}

/// `removed_leader_lingers`: the leader is removed, asked on itself and on another, while clients append on the others: no
/// call of them fails, and the removed one leads no more.
#[tokio::test(flavor = "multi_thread")]
async fn removed_leader_lingers() {
    for on_itself in [true, false] {
        let net = InProcess::new();
        let nodes = open(&net, 3, 0).await;
        let at = leader(&nodes).await;
        let rest: Vec<RaftNode> = [1, 2].map(|next| nodes[(at + next) % 3].clone()).to_vec();
        let load = Load::begin(&rest).await;
        rest[0].wait(|status| status.committed > Seq::new(20)).await.unwrap();
        let asked = if on_itself { &nodes[at] } else { &rest[0] };
        let members: Vec<Member> = rest.iter().map(|node| Member::voter(node.id())).collect();
        asked.set_members(members).await.unwrap();
        nodes[at].wait(|status| status.role == Role::Learner).await.unwrap();
        // One call of a node at a time: of several, one can overtake those that the old leader did not take any more.
        let end = rest[0].status().committed;
        rest[0].wait(|status| status.committed > end.checked_add(20).unwrap()).await.unwrap();
        let errors = load.end(&rest[0]).await;
        assert!(errors.is_empty(), "{errors:?}");
        let error = nodes[at].append("late").await.unwrap_err();
        assert!(matches!(error, AppendError::Refused(Refused::NotAMember)), "{error}");
        close(nodes).await;
    }
}

/// Several nodes are asked at once, again and again: each call is done, or refused because another one was under way; what
/// holds at the end is what was done last.
#[tokio::test(flavor = "multi_thread")]
async fn changes_at_once() {
    let net = InProcess::new();
    let nodes = open(&net, 3, 2).await;
    leader(&nodes[..3]).await;
    let mut last = None;
    for _ in 0..5 {
        let wanted = [voters(1..=3), voters(1..=4), voters([1, 2, 3, 5])];
        let calls = nodes[..3].iter().zip(wanted).map(|(node, wanted)| {
            let node = node.clone();
            tokio::spawn(async move { node.set_members(wanted).await })
        });
        let mut done = 0;
        for call in calls.collect::<Vec<_>>() {
            match call.await.unwrap() {
                Ok(now) => {
                    done += 1;
                    last = last.max(Some((now.at, now.members)));
                }
                Err(MembersError::NotChanged(ChangeError::UnderWay)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(done > 0, "one of them is first");
        let (at, members) = last.clone().unwrap();
        let status = nodes[0].wait(|status| status.members_at >= at).await.unwrap();
        assert_eq!((status.members_at, status.members), (at, members));
    }
    close(nodes).await;
}

/// What can't be is refused before anybody is asked, and says what is wrong: unsafe rules name two sets that could decide
/// against each other.
#[tokio::test(flavor = "multi_thread")]
async fn members_that_can_not_be() {
    let net = InProcess::new();
    let nodes = open(&net, 3, 0).await;
    let four = || Members::new(voters(1..=4));
    let told = [
        (Members::new([]), "at least one voter"),
        (Members::from([Member::learner(1)]), "at least one voter"),
        (Members::new(voters([1, 2, 1])), "member 1 is listed twice"),
        (four().quorum(2), "{1, 2} could elect a leader and {3, 4} another"),
        (four().quorum(5), "can't be met"),
        (four().rule(QuorumRule::MajorityOfEachGroup), "voter 1 has no group"),
        (four().rule(QuorumRule::Custom(CustomRule::new("mine", 1).unwrap())), "not known here"),
        (Members::new(voters(1..=2000)), "at most 1000 members"),
    ];
    for (members, part) in told {
        let error = nodes[0].set_members(members).await.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(error.effect(), Effect::None);
    }
    let status = nodes[0].status();
    assert_eq!((status.members, status.members_at), (voters(1..=3), None));
    // The change is planned on what was read; somebody else was faster.
    nodes[1].set_members(voters(1..=2)).await.unwrap();
    let late = Members::new(voters(2..=3)).based_on(status.members_at);
    let error = nodes[0].set_members(late).await.unwrap_err();
    assert!(
        matches!(error, MembersError::NotChanged(ChangeError::MembersChanged { at: Some(_) })),
        "{error}"
    );
    let now = nodes[0].wait(|status| status.members_at.is_some()).await.unwrap();
    nodes[0].set_members(Members::new(voters(1..=3)).based_on(now.members_at)).await.unwrap();
    close(nodes).await;
}

/// `slow_member_blocks_change`: a new member that is not there, or belongs to another cluster, ends the call with its name;
/// appends go on meanwhile, and the next change works.
#[tokio::test(flavor = "multi_thread")]
async fn slow_member_blocks_change() {
    let net = InProcess::new();
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let node = found(&net, id, 3).members_timeout(Duration::from_secs(2));
        nodes.push(node.open().await.unwrap());
    }
    leader(&nodes).await;
    for node in &nodes {
        let load = Load::begin(std::slice::from_ref(node)).await;
        let began = Instant::now();
        let error = node.set_members(voters(1..=4)).await.unwrap_err();
        assert!(
            matches!(error, MembersError::NotChanged(ChangeError::Unreachable(id)) if id == 4.into()),
            "{error}"
        );
        assert!(began.elapsed() < Duration::from_secs(4));
        assert!(load.end(node).await.is_empty());
    }
    let foreign = tune(RaftNode::builder(4, [4]), &net, 4).open().await.unwrap();
    foreign.append("of its own cluster").await.unwrap();
    let error = nodes[0].set_members(voters(1..=4)).await.unwrap_err();
    assert!(
        matches!(error, MembersError::NotChanged(ChangeError::ForeignCluster(id)) if id == 4.into()),
        "{error}"
    );
    foreign.close().await.unwrap();
    nodes.push(join(&net, 4).open().await.unwrap());
    nodes[1].set_members(voters(1..=4)).await.unwrap();
    close(nodes).await;
}

/// `wiped_node_same_id`: a member whose log is gone is readmitted by the others, has everything again and votes; meanwhile the
/// two others go on. Opened to join or as before, it founds nothing.
#[tokio::test(flavor = "multi_thread")]
async fn wiped_node_same_id() {
    let net = InProcess::new();
    let mut nodes = open(&net, 3, 0).await;
    for joins in [false, true] {
        let at = (leader(&nodes).await + 1) % 3;
        nodes[at].append("before").await.unwrap();
        nodes[at].kill().await;
        let id = u64::try_from(at).unwrap() + 1;
        let again = found(&net, id, 3);
        let again = if joins { again.join() } else { again };
        let mut events = again.events();
        nodes[at] = again.open().await.unwrap();
        nodes[(at + 1) % 3].append("meanwhile").await.unwrap();
        nodes[at].wait(|status| status.role == Role::Follower).await.unwrap();
        nodes[at].append("after").await.unwrap();
        let log = payloads(&nodes[at]).await;
        assert_eq!(log[log.len() - 3..], ["before", "meanwhile", "after"]);
        assert!(warned(&mut events, "its disk was lost or replaced").await);
        assert_eq!(nodes[at].status().members.len(), 3);
    }
    close(nodes).await;
}

/// Waits for a warning that says so.
async fn warned(events: &mut Events, part: &str) -> bool {
    while let Some(next) = events.next().await {
        if let Next::Event(Event::Warn(warning)) = next
            && warning.to_string().contains(part)
        {
            return true;
        }
    }
    false
}

/// `learner_counted`: a learner has what is committed, answers reads and passes appends on. It is in nobody's way: a leader
/// can't be made of it, and what it has is not committed for that.
#[tokio::test(flavor = "multi_thread")]
async fn learner_counted() {
    let net = InProcess::new();
    let mut nodes = Vec::new();
    for id in 1..=2 {
        let node = found(&net, id, 2).append_timeout(Duration::from_secs(1));
        nodes.push(node.open().await.unwrap());
    }
    nodes.push(join(&net, 3).open().await.unwrap());
    let mut members = voters(1..=2);
    members.push(Member::learner(3));
    nodes[0].set_members(members.clone()).await.unwrap();
    let learner = &nodes[2];
    let appended = learner.append("on a learner").await.unwrap();
    assert_eq!(learner.read("").await.unwrap().seq, appended.seq);
    assert_eq!(payloads(learner).await, ["on a learner"]);
    let status = learner.wait(|status| status.members == members).await.unwrap();
    assert_eq!((status.role, status.is_member()), (Role::Learner, true));
    let error = learner.transfer_leadership(3).await.unwrap_err();
    assert!(
        matches!(error, LeadershipError::NotTransferred(TransferError::NotAMember)),
        "{error:?}"
    );
    learner.campaign().await.unwrap();
    let at = leader(&nodes[..2]).await;
    // Leader and learner are two of three, and not two of two.
    nodes[1 - at].kill().await;
    let error = nodes[at].append("of no quorum").await.unwrap_err();
    assert!(matches!(error, AppendError::Unknown(Unknown::Deadline)), "{error}");
    learner.wait(|status| status.seq() > Some(appended.seq)).await.unwrap();
    assert_ne!(learner.status().role, Role::Candidate);
    nodes[at].close().await.unwrap();
    learner.close().await.unwrap();
}

/// What the status and the events say: members with their labels, the rules in words, what they survive, and where the node was
/// opened with something else than the log says.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_members() {
    let net = InProcess::new();
    let (east, west) = (group("east"), group("west"));
    let mut nodes = Vec::new();
    let mut events = Vec::new();
    for (id, group) in [(1, east), (2, east), (3, west)] {
        let node = found(&net, id, 3).group(group);
        events.push(node.events());
        nodes.push(node.open().await.unwrap());
    }
    let labelled = |labels: [Group; 3]| -> Vec<Member> {
        voters(1..=3).into_iter().zip(labels).map(|(member, label)| member.group(label)).collect()
    };
    let before = nodes[0].status();
    assert!(
        before.formed
            || before.members == [Member::voter(1).group(east), Member::voter(2), Member::voter(3)]
    );
    let formed = nodes[2].wait(|status| status.tolerance.is_some()).await.unwrap();
    assert_eq!((formed.members_at, formed.group()), (None, Some(west)));
    assert_eq!(formed.members, labelled([east, east, west]));
    assert_eq!(formed.rules.to_string(), "majority");
    let tolerance = "elections survive the loss of any 1 of 3 voters; losing group east stops them\n\
                     commits survive the loss of any 1 of 3 voters; losing group east stops them";
    assert_eq!(formed.tolerance.unwrap().to_string(), tolerance);
    let members = labelled([east, west, west]);
    let wanted = Members::new(members.clone()).rule(QuorumRule::MajorityOfEachGroup);
    let set = nodes[1].set_members(wanted).await.unwrap();
    let now = nodes[2].wait(|status| status.members_at == set.at).await.unwrap();
    assert_eq!(
        (now.members, now.rules.to_string()),
        (members.clone(), "majority of each group".into())
    );
    let (mut changes, mut tolerances) = (Vec::new(), Vec::new());
    let (mut warnings, mut missed) = (Vec::new(), 0);
    while tolerances.len() < 2 {
        match events[1].next().await.unwrap() {
            Next::Event(Event::Change { members, open, .. }) => changes.push((open, members)),
            Next::Event(Event::Tolerance(tolerance)) => tolerances.push(tolerance.to_string()),
            Next::Event(Event::Warn(warning)) => warnings.push(warning.to_string()),
            Next::Event(_) => {}
            Next::Missed(count) => missed += count,
        }
    }
    assert_eq!(missed, 0);
    assert!(changes[0].0 && changes[0].1.len() == 3, "the first one says that it is open");
    assert_eq!(changes.last().unwrap().1, members);
    assert_eq!(tolerances[0], tolerance);
    assert!(tolerances[1].contains("losing group east or west stops them"), "{}", tolerances[1]);
    for told in [
        "quorum rule \"majority\", and the configuration in its log says \"majority of each group\"",
        "group \"east\", and the configuration in its log says \"west\"",
    ] {
        assert!(warnings.iter().any(|it| it.contains(told)), "{warnings:?}");
    }
    close(nodes).await;
}

/// A node that is opened again with other options than its log says warns of it, from the start on, and goes by the log.
#[tokio::test(flavor = "multi_thread")]
async fn options_that_differ_from_the_log() {
    let (dir, net) = (tempfile::tempdir().unwrap(), InProcess::new());
    let describe = || tune(RaftNode::builder(1, [1]), &net, 1).log_dir(dir.path());
    let node = describe().group(group("east")).open().await.unwrap();
    node.append("x").await.unwrap();
    node.close().await.unwrap();
    let again = describe().quorum(1).group(group("west"));
    let mut events = again.events();
    let node = again.open().await.unwrap();
    let rule = "quorum rule \"at least 1\", and the configuration in its log says \"majority\"";
    assert!(warned(&mut events, rule).await);
    assert!(
        warned(&mut events, "group \"west\", and the configuration in its log says \"east\"").await
    );
    assert_eq!(node.status().group(), Some(group("east")));
    node.append("y").await.unwrap();
    node.close().await.unwrap();
}

/// Rules are proven safe where it holds up nobody: the runtime has one thread, and wherever else a rule is asked, it waits for
/// a task on that one. Fails if `set_members` or `open` check them on the runtime: nobody waits then. A rule that panics is an
/// error.
#[tokio::test]
async fn rules_are_checked_elsewhere() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let (waits, panics) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let mut customs = CustomRules::new();
    let (waiting, panicking) = (Arc::clone(&waits), Arc::clone(&panics));
    let runtime = thread::current().id();
    customs
        .add("most", 1, move |present| {
            // The node asks as well, on the runtime, for each decision.
            if thread::current().id() != runtime {
                if waiting.swap(false, Ordering::SeqCst) {
                    gate.lock().unwrap().recv_timeout(Duration::from_secs(30)).unwrap();
                }
                assert!(!panicking.load(Ordering::SeqCst), "told to panic");
            }
            present.len() * 2 > present.voters().len()
        })
        .unwrap();
    let rule = || QuorumRule::Custom(CustomRule::new("most", 1).unwrap());
    let net = InProcess::new();
    let node = tune(RaftNode::builder(1, [1]), &net, 1).custom_rules(customs).rule(rule());
    let ((), node) = tokio::join!(async { release.send(()).unwrap() }, node.open());
    let node = node.unwrap();
    assert!(!waits.load(Ordering::SeqCst), "open has asked elsewhere");
    node.append("x").await.unwrap();
    let learner = join(&net, 2).open().await.unwrap();
    node.wait(|status| status.tolerance.is_some()).await.unwrap();
    waits.store(true, Ordering::SeqCst);
    let members = Members::new([Member::voter(1), Member::learner(2)]).rule(rule());
    let releases = async {
        node.append("meanwhile").await.unwrap();
        release.send(()).unwrap();
    };
    let (set, ()) = tokio::join!(node.set_members(members.clone()), releases);
    set.unwrap();
    assert!(!waits.load(Ordering::SeqCst), "set_members has asked elsewhere");
    panics.store(true, Ordering::SeqCst);
    let error = node.set_members(members).await.unwrap_err();
    assert!(matches!(error, MembersError::Panicked), "{error}");
    panics.store(false, Ordering::SeqCst);
    learner.close().await.unwrap();
    node.close().await.unwrap();
}

/// A node that joins waits, and says so: its status, its calls, and what a node says that has no name for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins() {
    let net = InProcess::new();
    let nodes = open(&net, 1, 1).await;
    nodes[0].append("x").await.unwrap();
    let (waits, id) = (&nodes[1], NodeId::from(2));
    let status = waits.status();
    assert!(!status.formed && !status.is_member() && status.role == Role::Learner);
    let hurry = join(&net, 9).append_timeout(Duration::from_millis(50)).open().await.unwrap();
    let error = hurry.append("x").await.unwrap_err();
    assert!(matches!(error, AppendError::Refused(Refused::Deadline)), "{error}");
    hurry.close().await.unwrap();
    let call = tokio::spawn({
        let waits = waits.clone();
        async move { waits.append("as soon as it can").await }
    });
    nodes[0].set_members([Member::voter(1), Member::voter(id)]).await.unwrap();
    call.await.unwrap().unwrap();
    assert!(waits.status().is_member());
    let alone = tune(RaftNode::builder(5, [1, 2, 3]), &net, 5).open().await.map(|_| ());
    let told = alone.unwrap_err().to_string();
    assert!(told.contains("not in its own list") && told.contains("join"), "{told}");
    close(nodes).await;
}
