//! Deciding who leads.

use tinyraftplus_core::{NodeId, Term};
use tinyraftplus_replica::{Effect, Outcome, Refused, Request, Unknown};

use crate::mailbox::Arrived;
use crate::{IntoNodeId, LeadershipError, RaftNode};

impl RaftNode {
    /// Makes that node the leader, from any node (Raft thesis, section 3.10). Returns when it leads, as far as this
    /// node knows; at once if it does already.
    ///
    /// The leader takes no appends meanwhile: calls wait, and none is lost or refused for it. It needs a moment if the
    /// node has all entries already, and gives up after an election timeout; then it leads on. Asked for the same
    /// again, it is the same transfer.
    ///
    /// ```no_run
    /// # async fn example(node: tinyraftplus::RaftNode) -> Result<(), Box<dyn std::error::Error>> {
    /// node.transfer_leadership(2).await?;
    /// assert_eq!(node.status().leader, Some(2.into()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the node is no member, has not been heard from, does not take over in time, or another one is elected.
    pub async fn transfer_leadership(&self, to: impl IntoNodeId) -> Result<(), LeadershipError> {
        let to =
            to.into_node_id().map_err(|(name, source)| LeadershipError::Name { name, source })?;
        self.steer(Request::Transfer { to }).await
    }

    /// Campaigns now instead of waiting for the deadline. It first asks the others whether it would win, so it deposes
    /// no leader that they hear from; [`RaftNode::transfer_leadership`] does. Returns when the campaign has begun: wait
    /// for [`RaftNode::await_leader`].
    ///
    /// Nothing happens on a node that leads, is paused, or can't lead: a learner, or one whose disk is stuck or full.
    ///
    /// # Errors
    ///
    /// If the node stops.
    #[doc(alias = "start")]
    pub async fn campaign(&self) -> Result<(), LeadershipError> {
        self.steer(Request::Campaign).await
    }

    /// Stops leading: hands over to the voter that has most of the log, or else just stops after an election timeout.
    /// Returns when this node leads no more; at once if it does not. It lets others campaign first, but it may be
    /// elected again: pause it, if it shall not.
    ///
    /// # Errors
    ///
    /// If the node stops.
    pub async fn step_down(&self) -> Result<(), LeadershipError> {
        self.steer(Request::StepDown).await
    }

    /// Sits still: neither leads nor campaigns, until [`RaftNode::resume`] or a restart. It still votes, takes entries and
    /// answers, so it counts in quorums. A leader that is paused stops at once and hands over to nobody:
    /// [`RaftNode::step_down`] first avoids the wait for an election.
    ///
    /// ```
    /// # use tinyraftplus::{MemLog, RaftNode};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// # let node = RaftNode::builder(1, [1]).log(|| MemLog::new(Default::default())).open().await?;
    /// node.await_leader().await?;
    /// node.pause().await?;
    /// node.wait(|status| status.leader.is_none()).await?;
    /// node.resume().await?;
    /// node.campaign().await?; // or wait for its deadline
    /// node.await_leader().await?;
    /// # node.close().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// If the node stops.
    #[doc(alias = "stop")]
    pub async fn pause(&self) -> Result<(), LeadershipError> {
        self.steer(Request::Pause(true)).await
    }

    /// Goes on after [`RaftNode::pause`].
    ///
    /// # Errors
    ///
    /// If the node stops.
    pub async fn resume(&self) -> Result<(), LeadershipError> {
        self.steer(Request::Pause(false)).await
    }

    /// Says that something of the program's own arrived from node `from`, which sent it as the leader of that term. Counts
    /// as a heartbeat, so a busy link may carry fewer of them. Of any other node or term it means nothing.
    ///
    /// ```no_run
    /// # fn example(node: &tinyraftplus::RaftNode, from: tinyraftplus::NodeId, term: tinyraftplus::Term) {
    /// // Something of the program's own arrived, and says that its sender leads that term.
    /// node.mark_alive(from, term);
    /// # }
    /// ```
    ///
    /// Never blocks. If there is no room for it, it is dropped, as a heartbeat may be.
    #[doc(alias = "markAlive")]
    pub fn mark_alive(&self, from: NodeId, term: Term) {
        self.shared.mailbox.deliver(Arrived::Alive(from, term));
    }

    async fn steer(&self, request: Request) -> Result<(), LeadershipError> {
        match self.ask(request, self.shared.transfer_timeout).await {
            Ok(Outcome::Done) => Ok(()),
            Ok(Outcome::NotTransferred(why)) => Err(LeadershipError::NotTransferred(why)),
            Ok(Outcome::Refused(Refused::Stopped)) | Err(Effect::None) => {
                Err(self.no_more(Effect::None))
            }
            Ok(Outcome::Refused(why)) => Err(LeadershipError::Refused(why)),
            Ok(Outcome::Unknown(Unknown::Deadline)) => Err(LeadershipError::Deadline),
            Ok(Outcome::Unknown(Unknown::Stopped)) | Err(_) => Err(self.no_more(Effect::Possible)),
            Ok(Outcome::Unknown(why)) => Err(LeadershipError::Unknown(why)),
            Ok(
                Outcome::Committed { .. }
                | Outcome::Read { .. }
                | Outcome::Changed { .. }
                | Outcome::NotChanged(_),
            ) => Err(LeadershipError::Unknown(Unknown::Forgotten)),
        }
    }

    fn no_more(&self, effect: Effect) -> LeadershipError {
        LeadershipError::Stopped { effect, reason: self.stop_reason() }
    }
}
