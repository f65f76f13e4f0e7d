//! A cluster goes on with the log of a JavaScript one.

use std::path::Path;

use tinyraftplus::{InProcess, NodeId, RaftNode, Seq};
use tinyraftplus_cli::import_js::{Layout, Source, write_log};
use tinyraftplus_log::{Encoder, EntryKind, FsLog, LogOptions, OsDisk, XxHashEncoder};

use crate::fixtures::Fixture;

fn import(fixture: &Fixture, to: &Path) {
    let source = Source::open(&fixture.disk(), fixture.options()).unwrap();
    let checked = source.check(|_| {}).unwrap();
    let encoder: std::sync::Arc<dyn Encoder> = std::sync::Arc::new(XxHashEncoder::default());
    write_log(&source, &checked, &OsDisk::create(to).unwrap(), &encoder, |_| {}).unwrap();
}

#[tokio::test]
async fn nodes_go_on_with_what_was_imported() {
    let fixture = Fixture::new(Layout::XxHash, "raft");
    let expected = fixture.expected();
    let dir = tempfile::tempdir().unwrap();
    let net = InProcess::new();
    let mut nodes = Vec::new();
    for id in 1..=3_u64 {
        // Each imports its own: a log has an identity, and a copy of it is refused.
        let path = dir.path().join(id.to_string());
        import(&fixture, &path);
        let node = RaftNode::builder(id, 1..=3_u64)
            .log(move || Ok(FsLog::open(path, "x", LogOptions::default())?.0))
            .transport(net.endpoint(NodeId::from(id)))
            .open()
            .await
            .unwrap();
        nodes.push(node);
    }
    let appended = nodes[1].append("after the move").await.unwrap();
    // The old entries, the new leader's own, and this one.
    assert!(appended.seq >= Seq::new(11), "{}", appended.seq);
    for node in &nodes {
        node.wait(|status| status.committed > appended.seq).await.unwrap();
        let found = node.entries(..=appended.seq).all().await.unwrap();
        let old = found.iter().zip(&expected);
        assert!(old.clone().all(|(a, b)| (a.seq, a.term) == (b.id.seq, b.id.term)));
        assert!(old.clone().all(|(a, b)| (a.kind, &a.payload) == (b.kind, &b.payload)));
        assert!(found[expected.len()].term > expected.last().unwrap().id.term);
        assert_eq!(found[expected.len()].kind, EntryKind::Noop);
        assert_eq!(found.last().unwrap().payload, "after the move");
    }
    for node in &nodes {
        node.close().await.unwrap();
    }
}
