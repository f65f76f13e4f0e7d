//! Load that is made inside of a node's process, so that pipes and words do not limit it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tinyraftplus::RaftNode;
use tokio::task::JoinSet;

use crate::payload;
use crate::words::Answer;

/// Appends `count` payloads, `batch` of them in each of `calls` calls at once.
pub(crate) async fn appends(
    node: Arc<RaftNode>,
    count: u64,
    bytes: usize,
    calls: u64,
    batch: u64,
) -> Answer {
    let payload = payload::make(0, bytes);
    let batch = batch.max(1);
    many(count.div_ceil(batch), calls, move || {
        let (node, payload) = (Arc::clone(&node), payload.clone());
        async move {
            if batch == 1 {
                return node.append(payload).await.is_ok();
            }
            node.append_batch((0..batch).map(|_| payload.clone())).await.is_ok()
        }
    })
    .await
}

/// Reads `count` times, `calls` at once.
pub(crate) async fn reads(node: Arc<RaftNode>, count: u64, calls: u64) -> Answer {
    many(count, calls, move || {
        let node = Arc::clone(&node);
        async move { node.read("").await.is_ok() }
    })
    .await
}

async fn many<F: Future<Output = bool> + Send>(
    count: u64,
    at_once: u64,
    call: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> Answer {
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..at_once.max(1) {
        let (next, call) = (Arc::clone(&next), call.clone());
        tasks.spawn(async move {
            let (mut answered, mut failed) = (0_u64, 0_u64);
            while next.fetch_add(1, Ordering::Relaxed) < count {
                if call().await { answered += 1 } else { failed += 1 }
            }
            (answered, failed)
        });
    }
    let (mut answered, mut failed) = (0, 0);
    while let Some(done) = tasks.join_next().await {
        if let Ok((some, others)) = done {
            answered += some;
            failed += others;
        }
    }
    Answer::Loaded { answered, failed }
}
