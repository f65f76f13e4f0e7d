//! Steering a node from outside: campaign now, step down, pause, and word that the leader lives.

use crate::core::Part;
use crate::planted::{self, Bug};
use crate::transfer::Aim;
use crate::{Core, NodeId, Term};

impl<P: AsRef<[u8]>> Core<P> {
    /// Campaigns without waiting for the deadline. It asks first whether it would win, so this deposes no leader
    /// that others hear from.
    pub(crate) fn campaign_now(&mut self) {
        if self.may_lead() && !matches!(self.part, Part::Leader(_)) {
            self.election_at = self.now;
            self.wake();
        }
    }

    /// Stops leading: hands over to the voter that has most of the log, if one answers in time. A node that does
    /// not lead only gives the others a start.
    pub(crate) fn resign(&mut self) {
        if self.transferring().is_some() {
            return self.leave_after_transfer();
        }
        match self.successor() {
            Some(to) => self.begin_transfer(to, Aim::Leave),
            None => self.leave(),
        }
    }

    /// Stops leading or campaigning at once, and lets others go first: the next campaign of its own comes an
    /// election timeout later than it else would.
    pub(crate) fn leave(&mut self) {
        if !matches!(self.part, Part::Follower) {
            self.step_down();
        }
        self.reset_election_timer();
        self.election_at = self.election_at + self.options.election_timeout;
    }

    /// Of the voters that were heard from lately, the one that has most of the log.
    fn successor(&self) -> Option<NodeId> {
        let Part::Leader(leader) = &self.part else {
            return None;
        };
        let able = leader.peers.iter().filter(|&(&id, _)| self.is_able(id));
        able.max_by_key(|(_, peer)| peer.matched).map(|(&id, _)| id)
    }

    pub(crate) fn pause(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
        if is_paused && !matches!(self.part, Part::Follower) {
            self.step_down();
        }
        self.reset_election_timer();
    }

    /// Whether it neither campaigns nor leads because it was told so.
    pub(crate) fn sits_still(&self) -> bool {
        self.is_paused && !planted::is(Bug::CampaignPaused)
    }

    /// The leader of that term was heard from by other means than its messages.
    pub(crate) fn alive(&mut self, from: NodeId, term: Term) {
        let follows = matches!(self.part, Part::Follower) && self.leader() == Some(from);
        if follows && term == self.hard_state.term {
            self.leader_contact = Some(self.now);
            self.reset_election_timer();
        }
    }
}
