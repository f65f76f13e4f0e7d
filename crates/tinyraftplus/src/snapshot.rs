//! Snapshots and compaction on demand.

use tinyraftplus_core::Seq;
use tinyraftplus_replica::{Outcome, Refused, Request, Unknown};

use crate::{RaftNode, SnapshotError};

impl RaftNode {
    /// Takes a snapshot of everything that this node's state machine has applied. Returns when it is durable; at once if
    /// there is nothing new. Where the log is long enough they are taken without this: see
    /// [`NodeBuilder::snapshots`](crate::NodeBuilder::snapshots).
    ///
    /// Appends go on meanwhile; they wait only for [`StateMachine::snapshot`](crate::StateMachine::snapshot).
    ///
    /// ```no_run
    /// # async fn example(node: tinyraftplus::RaftNode) -> Result<(), tinyraftplus::SnapshotError> {
    /// node.snapshot().await?;
    /// println!("everything up to {:?} is in it", node.status().snapshot);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the state machine takes none, or writing it fails.
    pub async fn snapshot(&self) -> Result<(), SnapshotError> {
        self.keep(Request::Snapshot).await
    }

    /// Drops the entries before that position from this node's log, up to the start of the batch that holds it. Returns when
    /// the log durably begins there; disk space comes back by whole segments. A snapshot stands for what goes: one is taken
    /// first if it has to be.
    ///
    /// Without a state machine entries are all there is: then they stay while a member does not hold them.
    ///
    /// ```no_run
    /// # async fn example(node: tinyraftplus::RaftNode) -> Result<(), tinyraftplus::SnapshotError> {
    /// let applied = node.status().applied;
    /// node.compact(applied).await?;
    /// assert!(node.status().start <= applied);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If they are not applied here yet, a member needs them, or the log is one file ([`FsLog`](crate::FsLog)): a
    /// [`MultiFsLog`](crate::MultiFsLog) can give entries back.
    pub async fn compact(&self, before: Seq) -> Result<(), SnapshotError> {
        self.keep(Request::Compact { before, forced: false }).await
    }

    /// As [`RaftNode::compact`], whatever members need: one that lacks the entries never gets them, and goes on without them.
    ///
    /// # Errors
    ///
    /// As for [`RaftNode::compact`], but for what members need.
    pub async fn force_compact(&self, before: Seq) -> Result<(), SnapshotError> {
        self.keep(Request::Compact { before, forced: true }).await
    }

    async fn keep(&self, request: Request) -> Result<(), SnapshotError> {
        match self.ask(request, self.shared.snapshot_timeout).await {
            Ok(Outcome::Done) => Ok(()),
            Ok(Outcome::Refused(Refused::Stopped) | Outcome::Unknown(Unknown::Stopped))
            | Err(_) => Err(SnapshotError::Stopped(self.stop_reason())),
            Ok(Outcome::Refused(why)) => Err(SnapshotError::Refused(why)),
            Ok(Outcome::Unknown(why)) => Err(SnapshotError::Unknown(why)),
            Ok(
                Outcome::Committed { .. }
                | Outcome::Read { .. }
                | Outcome::Changed { .. }
                | Outcome::NotTransferred(_)
                | Outcome::NotChanged(_),
            ) => Err(SnapshotError::Unknown(Unknown::Forgotten)),
        }
    }
}
