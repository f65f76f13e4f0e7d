//! Committed entries, read from a node's log.

use std::collections::VecDeque;
use std::future::{self, Future};
use std::ops::{Bound, Range, RangeBounds};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use tinyraftplus_core::{Seq, Term};
use tinyraftplus_log::{EntryKind, LogEntry, LogRead};
use tokio::sync::watch;

use crate::node::Watching;
use crate::{EntriesError, RaftNode, Status, StopReason};

/// About how many bytes of payload are read at once, and kept until they are taken.
const READ_BYTES: u64 = 1 << 20;
/// How many entries are read at once: empty ones have no bytes.
const READ_ENTRIES: u64 = 4096;

/// A committed entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Its position.
    pub seq: Seq,
    /// The term whose leader created it.
    pub term: Term,
    /// What it is for.
    pub kind: EntryKind,
    /// Its bytes.
    pub payload: Bytes,
}

impl From<LogEntry> for Entry {
    fn from(entry: LogEntry) -> Self {
        let LogEntry { id, kind, payload, .. } = entry;
        Self { seq: id.seq, term: id.term, kind, payload }
    }
}

type Read = Result<Vec<LogEntry>, EntriesError>;

/// Committed entries of one node, in order; see [`RaftNode::entries`] and [`RaftNode::tail`].
///
/// A [`Stream`], too. Reads about 1 MiB ahead, and only when it is asked. It keeps nobody waiting, and does not keep the
/// node open.
pub struct Entries {
    reader: Option<Arc<dyn LogRead>>,
    status: watch::Receiver<Status>,
    watchers: Arc<AtomicUsize>,
    next: Seq,
    /// `None`: endless.
    end: Option<Seq>,
    read: VecDeque<Entry>,
    waits_for: Option<Pin<Box<dyn Future<Output = Read> + Send>>>,
}

impl Entries {
    /// The next entry. `None` when all were taken, and after an error.
    ///
    /// # Errors
    ///
    /// Why the next one can't be had.
    pub async fn next(&mut self) -> Option<Result<Entry, EntriesError>> {
        future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// All that are left. Never returns for a [`RaftNode::tail`] while its node runs.
    ///
    /// # Errors
    ///
    /// Why not all can be had.
    pub async fn all(mut self) -> Result<Vec<Entry>, EntriesError> {
        let mut all = Vec::new();
        while let Some(entry) = self.next().await {
            all.push(entry?);
        }
        Ok(all)
    }

    /// Waits until there is something to read, if need be, and reads it.
    fn begin(&self, reader: Arc<dyn LogRead>) -> impl Future<Output = Read> + Send + use<> {
        let (mut status, watchers) = (self.status.clone(), Arc::clone(&self.watchers));
        let (next, end) = (self.next, self.end);
        async move {
            let committed = committed_after(&mut status, watchers, next, end).await?;
            let end = end.map_or(committed, |end| end.min(committed));
            let end = next.checked_add(READ_ENTRIES).map_or(end, |most| most.min(end));
            let read = move || reader.read(next, end, READ_BYTES);
            let read = tokio::task::spawn_blocking(read).await;
            Ok(read.map_err(|_| EntriesError::Stopped(StopReason::Died("reading task")))??)
        }
    }

    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

/// Where the committed entries end, once that is after `next`, unless the entries that are wanted must be there already.
async fn committed_after(
    status: &mut watch::Receiver<Status>,
    watchers: Arc<AtomicUsize>,
    next: Seq,
    end: Option<Seq>,
) -> Result<Seq, EntriesError> {
    let _watching = Watching::new(watchers);
    loop {
        {
            let now = status.borrow_and_update();
            if let Some(reason) = &now.stopped {
                return Err(EntriesError::Stopped(reason.clone()));
            }
            let committed = now.committed.min(now.durable);
            if let Some(wanted) = end.filter(|&wanted| wanted > committed) {
                let seq = next.max(committed);
                debug_assert!(seq < wanted, "what is over is not read");
                return Err(EntriesError::NotCommitted { seq, end: committed });
            }
            if committed > next {
                return Ok(committed);
            }
        }
        if status.changed().await.is_err() {
            let reason = status.borrow().stopped.clone();
            return Err(EntriesError::Stopped(reason.unwrap_or(StopReason::Died("task"))));
        }
    }
}

impl Stream for Entries {
    type Item = Result<Entry, EntriesError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(entry) = self.read.pop_front() {
                self.next = entry.seq.after();
                return Poll::Ready(Some(Ok(entry)));
            }
            let Some(reader) = self.reader.clone().filter(|_| !self.is_over()) else {
                self.reader = None;
                return Poll::Ready(None);
            };
            let mut waits_for =
                self.waits_for.take().unwrap_or_else(|| Box::pin(self.begin(reader)));
            let Poll::Ready(read) = waits_for.as_mut().poll(context) else {
                self.waits_for = Some(waits_for);
                return Poll::Pending;
            };
            match read {
                Ok(entries) if !entries.is_empty() => {
                    self.read = entries.into_iter().map(Entry::from).collect();
                }
                Ok(_) => {
                    // No log does that; to ask again might go on for ever.
                    self.reader = None;
                    let at = self.next;
                    let gone = EntriesError::NotCommitted { seq: at, end: at };
                    return Poll::Ready(Some(Err(gone)));
                }
                Err(error) => {
                    self.reader = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl RaftNode {
    /// Committed entries from this node's log, those of the cluster itself among them. Without an end: up to what this node
    /// knows to be committed now.
    ///
    /// ```
    /// # use tinyraftplus::{EntryKind, MemLog, RaftNode, Seq};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// # let node = RaftNode::builder(1, [1]).log(|| MemLog::new(Default::default())).open().await?;
    /// node.append_batch(["a", "b"]).await?;
    /// let mut entries = node.entries(Seq::ZERO..);
    /// assert_eq!(entries.next().await.unwrap()?.kind, EntryKind::Noop); // its leader's own
    /// while let Some(entry) = entries.next().await {
    ///     println!("{:?}", entry?.payload);
    /// }
    /// assert_eq!(node.entries(Seq::new(1)..Seq::new(3)).all().await?[1].payload, "b");
    /// # node.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// The first error is the last item: [`EntriesError::NotCommitted`] if the range goes beyond what this node knows to be
    /// committed. A follower may be told of that a moment after its call was answered: [`RaftNode::read`] waits for it, and so
    /// does [`RaftNode::tail`].
    #[doc(alias = "iter")]
    pub fn entries(&self, range: impl RangeBounds<Seq>) -> Entries {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before.after(),
            Bound::Unbounded => self.shared.reader.bounds().start,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.after(),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => self.readable_end(),
        };
        self.read_entries(start, Some(end))
    }

    /// Committed entries from this position on, for ever: it waits for those that are not committed yet. Ends with
    /// [`EntriesError::Stopped`] when the node does, and with [`EntriesError::Compacted`] if it is so slow that
    /// entries have gone meanwhile.
    ///
    /// ```
    /// # use tinyraftplus::{MemLog, RaftNode, Seq};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// # let node = RaftNode::builder(1, [1]).log(|| MemLog::new(Default::default())).open().await?;
    /// let mut tail = node.tail(Seq::new(1));
    /// node.append("news").await?;
    /// assert_eq!(tail.next().await.unwrap()?.payload, "news");
    /// node.close().await?;
    /// assert!(tail.next().await.unwrap().is_err()); // the node is closed
    /// assert!(tail.next().await.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn tail(&self, from: Seq) -> Entries {
        self.read_entries(from, None)
    }

    fn readable_end(&self) -> Seq {
        let status = self.shared.status.borrow();
        status.committed.min(status.durable)
    }

    fn read_entries(&self, next: Seq, end: Option<Seq>) -> Entries {
        Entries {
            reader: Some(Arc::clone(&self.shared.reader)),
            status: self.shared.status.clone(),
            watchers: Arc::clone(&self.shared.watchers),
            next,
            end,
            read: VecDeque::new(),
            waits_for: None,
        }
    }
}

impl std::fmt::Debug for Entries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let range: Range<Seq> = self.next..self.end.unwrap_or(Seq::MAX);
        f.debug_struct("Entries").field("range", &range).finish_non_exhaustive()
    }
}
