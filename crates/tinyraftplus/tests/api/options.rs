//! How a node is described: its log, its members, where its log and its terms begin, and what does not fit.

use std::time::Duration;

use tinyraftplus::{
    AppendError, Bytes, EncryptingEncoder, Event, FsLog, Group, InProcess, Key, LogError,
    LogOptions, MemLog, MultiFsLog, Next, NodeBuilder, NodeId, QuorumRule, RaftNode, Refused, Seq,
    Term, TimeoutLog, Timeouts, Warning,
};

use crate::common::{all_have, close, describe, leader, memory, payloads, quick, soon};

/// Each member has another kind of log: one file, segments, memory, encrypted, with time limits.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_log_serves_a_node() {
    let dir = tempfile::tempdir().unwrap();
    let net = InProcess::new();
    let builder = |id: u64| {
        let builder = quick(RaftNode::builder(id, 1..=5_u64));
        builder.transport(net.endpoint(NodeId::from(id)))
    };
    let path = |_: u64| dir.path().to_owned();
    let (one, many, sealed, timed) = (path(1), path(2), path(3), path(4));
    let nodes = [
        builder(1).log(move || Ok(FsLog::open(one, "one", LogOptions::default())?.0)),
        builder(2).log(move || Ok(MultiFsLog::open(many, "many", LogOptions::default())?.0)),
        builder(3).log(memory),
        builder(4).log(move || {
            let mut options = LogOptions::default();
            let key = Key::from_bytes([7; 32]);
            options.encoder = std::sync::Arc::new(EncryptingEncoder::new(&key));
            Ok(FsLog::open(sealed, "sealed", options)?.0)
        }),
        builder(5).log(move || {
            let mut timeouts = Timeouts::default();
            timeouts.default = Duration::from_mins(1);
            let open = move || FsLog::open(timed, "timed", LogOptions::default());
            Ok(TimeoutLog::open(timeouts, open)?.0)
        }),
    ];
    let mut open = Vec::new();
    for node in nodes {
        open.push(soon("open", node.open()).await.unwrap());
    }
    let mut last = Seq::ZERO;
    for node in &open {
        last = soon("an append", node.append_batch(["a secret", ""])).await.unwrap().seqs.start;
    }
    all_have(&open, last.after()).await;
    let expected = payloads(&open[0]).await;
    assert_eq!(expected.len(), 10);
    for node in &open {
        assert_eq!(payloads(node).await, expected);
    }
    close(&open).await;
}

/// A log whose segments are small: what it would refuse is refused to the caller, with its limit, and what fits is written,
/// however much of it comes at once. Fails (the node stops) without `keep_to`, and if `collect` knows only its own limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_keeps_to_the_limits_of_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let open = move || {
        let mut options = LogOptions::default();
        options.segment_bytes_max = 64 << 10;
        Ok(MultiFsLog::open(path, "small", options)?.0)
    };
    let node = soon("open", quick(RaftNode::builder(1, [1])).log(open).open()).await.unwrap();
    let calls: Vec<_> = (0..500_usize)
        .map(|number| {
            let node = node.clone();
            let payload = vec![7; 100 + number * 8];
            tokio::spawn(async move { node.append(payload).await.map(|_| ()) })
        })
        .collect();
    for call in calls {
        soon("an append", call).await.unwrap().unwrap();
    }
    let batch = soon("a batch", node.append_batch(vec![[7_u8; 1000].to_vec(); 12])).await.unwrap();
    assert_eq!(batch.results.len(), 12);
    for refused in [
        node.append_batch(vec![vec![7_u8; 1000]; 70]).await.map(|_| ()),
        node.append_batch(vec![""; 2000]).await.map(|_| ()),
        node.append(vec![7; 60_000]).await.map(|_| ()),
    ] {
        match refused.unwrap_err() {
            AppendError::Refused(Refused::TooLarge { .. } | Refused::TooMany { .. }) => {}
            other => panic!("{other}"),
        }
    }
    soon("an append", node.append("it goes on")).await.unwrap();
    close(&[node]).await;
}

/// 1 to 15 voters, each of which takes an append.
#[tokio::test(flavor = "multi_thread")]
async fn one_to_fifteen_voters() {
    for count in 1..=15 {
        let (net, mut nodes) = (InProcess::new(), Vec::new());
        let members: Vec<u64> = (1..=count).collect();
        for &id in &members {
            nodes.push(soon("open", describe(&net, id, &members).open()).await.unwrap());
        }
        let mut last = Seq::ZERO;
        for node in &nodes {
            last = soon("an append", node.append("x")).await.unwrap().seq;
        }
        all_have(&nodes, last).await;
        assert_eq!(payloads(&nodes[0]).await.len(), nodes.len());
        close(&nodes).await;
    }
}

/// Names are numbers or texts; `1` and `"1"` are one name, so together they are one name twice.
#[tokio::test(flavor = "multi_thread")]
async fn names() {
    let net = InProcess::new();
    let mut nodes = Vec::new();
    let ids = ["1", "db-1.example.org:7000", "0"];
    for (at, id) in ids.into_iter().enumerate() {
        let name = NodeId::new(id).unwrap();
        let builder = if at == 0 { RaftNode::builder(1, ids) } else { RaftNode::builder(id, ids) };
        let builder = quick(builder).log(memory).transport(net.endpoint(name));
        nodes.push(soon("open", builder.open()).await.unwrap());
    }
    assert_eq!(nodes[0].id(), NodeId::from(1));
    for node in &nodes {
        soon("an append", node.append("x")).await.unwrap();
    }
    let members: Vec<_> = nodes[0].status().members.iter().map(|member| member.id).collect();
    assert_eq!(members.len(), 3);
    close(&nodes).await;
    let twice = [NodeId::from(1), NodeId::new("1").unwrap()];
    let error = RaftNode::builder(1, twice).log(memory).open().await.unwrap_err();
    assert!(error.to_string().contains("member 1 is listed twice"), "{error}");
}

/// Clusters whose seqs begin where JavaScript's numbers, its files and all numbers end: they append, are opened again and
/// replicate. At the very last one the log is full, which is said, and what is in there stays.
#[tokio::test(flavor = "multi_thread")]
async fn extreme_first_seqs() {
    for first in [(1 << 53) - 2, (1 << 63) - 2, u64::MAX - 2] {
        let (dir, net) = (tempfile::tempdir().unwrap(), InProcess::new());
        let open = async || {
            let (mut nodes, mut events) = (Vec::new(), Vec::new());
            for id in 1..=3_u64 {
                let builder = quick(RaftNode::builder(id, [1, 2, 3])).log_dir(dir.path());
                let builder = builder.transport(net.endpoint(NodeId::from(id)));
                let builder = builder.first_seq(Seq::new(first));
                let builder = builder.append_timeout(Duration::from_secs(50));
                events.push(builder.events());
                nodes.push(soon("open", builder.open()).await.unwrap());
            }
            (nodes, events)
        };
        let (nodes, _) = open().await;
        let last = soon("an append", nodes[1].append("x")).await.unwrap().seq;
        assert_eq!(last.get(), first + 1, "after the leader's own");
        all_have(&nodes, last).await;
        let is_end = last.after() == Seq::MAX;
        if is_end {
            for node in &nodes {
                let error = soon("a refusal", node.append("y")).await.unwrap_err();
                assert!(matches!(error, AppendError::Refused(Refused::LogFull)), "{error}");
            }
            assert_eq!(payloads(&nodes[0]).await, ["x"]);
        }
        close(&nodes).await;
        let (nodes, mut events) = open().await;
        if is_end {
            // Nobody can lead any more, since a term begins with an entry. It says so, and what is there is there.
            loop {
                let told = soon("a warning", events[1].next()).await.unwrap();
                if matches!(told, Next::Event(Event::Warn(Warning::LogFull))) {
                    break;
                }
            }
            let full = nodes[0].wait(|status| status.seq() == Some(last));
            let head = soon("its head", full).await.unwrap().head.unwrap();
            assert_eq!((head.id.seq, &head.payload), (last, &Bytes::from("x")));
        } else {
            let again = soon("an append", nodes[2].append("y")).await.unwrap().seq;
            all_have(&nodes, again).await;
            for node in &nodes {
                assert_eq!(payloads(node).await, ["x", "y"]);
            }
        }
        close(&nodes).await;
    }
    let end = RaftNode::builder(1, [1]).log(memory).first_seq(Seq::MAX).open().await.unwrap_err();
    assert!(end.to_string().contains("can't begin at seq"), "{end}");
}

/// The first leader's term is above `initial_term`; a stored term that is higher counts, so a lower one does nothing; raised,
/// it takes no vote back and no entry. One beyond use is refused. Fails if `begin_at` does not look at what is stored.
#[tokio::test(flavor = "multi_thread")]
async fn initial_term() {
    let dir = tempfile::tempdir().unwrap();
    let mut term = Term::ZERO;
    for (initial, least) in [(1000, 1001), (5, 1001), (0, 1001), (5000, 5001)] {
        let net = InProcess::new();
        let mut nodes = Vec::new();
        for id in 1..=3_u64 {
            let builder = quick(RaftNode::builder(id, [1, 2, 3])).log_dir(dir.path());
            let builder = builder.transport(net.endpoint(NodeId::from(id)));
            nodes
                .push(soon("open", builder.initial_term(Term::new(initial)).open()).await.unwrap());
        }
        assert!(nodes[1].status().term >= Term::new(least - 1));
        soon("an append", nodes[0].append(least.to_string())).await.unwrap();
        let now = nodes[leader(&nodes).await].status().term;
        assert!(now >= Term::new(least) && now > term, "{now}");
        term = now;
        if initial == 5000 {
            soon("a read", nodes[0].read("")).await.unwrap();
            assert_eq!(payloads(&nodes[0]).await, ["1001", "1001", "1001", "5001"]);
        }
        close(&nodes).await;
    }
    let error =
        RaftNode::builder(1, [1]).log(memory).initial_term(Term::new(u64::MAX)).open().await;
    assert!(error.unwrap_err().to_string().contains("initial_term"));
}

/// What can't work is refused at `open`, with what is wrong.
#[tokio::test]
async fn misuse() {
    let net = InProcess::new();
    let alone = || RaftNode::builder(1, [1]).log(memory);
    let three = || describe(&net, 1, &[1, 2, 3]);
    let ms = Duration::from_millis;
    let none: [u64; 0] = [];
    let told: Vec<(NodeBuilder, &str)> = vec![
        (RaftNode::builder(1, [1]), "needs a log"),
        (RaftNode::builder(1, [1, 2]).log(memory), "call `transport` or `send`"),
        (RaftNode::builder(4, [1, 2, 3]).log(memory), "node 4 is not in its own list"),
        (RaftNode::builder(1, none).log(memory), "not in its own list"),
        (RaftNode::builder("", ["a"]).log(memory), "can't name a node"),
        (RaftNode::builder("a", ["a", &"b".repeat(999)]).log(memory), "can't name a node"),
        (three().quorum(4), "can't be met"),
        (three().quorum(1), "unsafe"),
        (three().quorum(0), ""),
        (three().rule(QuorumRule::MajorityOfEachGroup), "has no group"),
        (three().heartbeat_interval(ms(300)).election_timeout(ms(500)), "at least twice as long"),
        (three().heartbeat_interval(Duration::ZERO), "not zero"),
        (three().election_jitter(Duration::ZERO), "election_jitter must not be zero"),
        (three().lease_reads(999_999), "a lease of"),
        (alone().append_timeout(Duration::ZERO), "append_timeout must not be zero"),
        (alone().read_timeout(Duration::ZERO), "read_timeout must not be zero"),
        (alone().transfer_timeout(Duration::ZERO), "transfer_timeout must not be zero"),
        (alone().members_timeout(Duration::ZERO), "members_timeout must not be zero"),
        (alone().close_timeout(Duration::ZERO), "close_timeout must not be zero"),
        (alone().stall_timeout(Duration::ZERO), "stall_timeout must not be zero"),
        (alone().options(|options| options.calls_max = 0), "calls_max must not be zero"),
        (
            alone().options(|options| options.write_bytes_max = 0),
            "write_bytes_max must not be zero",
        ),
        (alone().options(|options| options.raft.window_bytes = 0), "window_bytes"),
        (alone().first_seq(Seq::MAX), "can't begin at seq"),
    ];
    for (builder, part) in told {
        match soon("a refusal", builder.open()).await {
            Ok(_) => panic!("opened, and should say {part:?}"),
            Err(error) => assert!(error.to_string().contains(part), "{part:?}: {error}"),
        }
    }
    let fails = || Err::<MemLog, _>(LogError::Poisoned);
    let error = RaftNode::builder(1, [1]).log(fails).open().await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.to_string().contains("can't open the log") && cause.contains("failed to write"));
}

/// A cluster under a group rule does not form while a member has no label, and says so on a node that has one; labels that the
/// others were opened with decide.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_rule_needs_all_labels() {
    let net = InProcess::new();
    let east = Group::new("east").unwrap();
    let labelled =
        |id: u64| describe(&net, id, &[1, 2, 3]).rule(QuorumRule::MajorityOfEachGroup).group(east);
    let bare = describe(&net, 2, &[1, 2, 3]).rule(QuorumRule::MajorityOfEachGroup);
    let error = soon("a refusal", bare.open()).await.unwrap_err().to_string();
    assert!(error.contains('2') && error.contains("group"), "{error}");
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(soon("open", labelled(id).open()).await.unwrap());
    }
    soon("an append", nodes[2].append("x")).await.unwrap();
    let status = nodes[2].status();
    assert_eq!(
        (status.group(), status.rules.to_string().as_str()),
        (Some(east), "majority of each group")
    );
    close(&nodes).await;
}

/// A node that opens with another rule than its log goes by the log, and its warning names both.
#[tokio::test(flavor = "multi_thread")]
async fn a_differing_option_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let describe = || quick(RaftNode::builder(1, [1])).log_dir(dir.path());
    let node = soon("open", describe().open()).await.unwrap();
    soon("an append", node.append("the cluster has formed")).await.unwrap();
    close(&[node]).await;
    let builder = describe().quorum(1);
    let mut events = builder.events();
    let node = soon("open", builder.open()).await.unwrap();
    loop {
        let next = soon("a warning", events.next()).await.unwrap();
        if let Next::Event(Event::Warn(Warning::OptionsDiffer { what, option, decides })) = next {
            assert_eq!(
                (what, option.as_str(), decides.as_str()),
                ("quorum rule", "at least 1", "majority")
            );
            break;
        }
    }
    soon("an append", node.append("x")).await.unwrap();
    close(&[node]).await;
}
