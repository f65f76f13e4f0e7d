//! Letting the voter with the highest priority lead.
//!
//! Priorities decide nothing in an election: whoever has the newest log may win it. But a leader that has seen a
//! voter of a higher priority keep up for two election timeouts hands over to it, as on request: so no entry is
//! at stake, and nodes of equal priority never take turns.

use crate::core::Part;
use crate::planted::{self, Bug};
use crate::transfer::Aim;
use crate::{Core, NodeId, Seq, Time};
use core::cmp::Reverse;

/// After so many failures in a row, the wait before the next try grows no more.
const DOUBLINGS_MAX: u32 = 6;

/// Whom a leader would rather see leading.
#[derive(Debug)]
pub(crate) struct Preference {
    /// Who it is, and since when it has kept up.
    better: Option<(NodeId, Time)>,
    /// The end of the log a heartbeat ago: whoever has this much keeps up.
    mark: Seq,
    look_at: Time,
    /// Not tried again before that.
    rest_until: Time,
    failures: u32,
}

impl Preference {
    pub(crate) const fn new() -> Self {
        Self {
            better: None,
            mark: Seq::MAX,
            look_at: Time::ZERO,
            rest_until: Time::ZERO,
            failures: 0,
        }
    }

    /// A new term, a new look at everybody. What failed before is not forgotten.
    pub(crate) const fn begin_term(&mut self) {
        (self.better, self.mark) = (None, Seq::MAX);
    }
}

impl<P: AsRef<[u8]>> Core<P> {
    /// The priority to tell the leader: the lowest for a node that is of no use as one now.
    pub(crate) const fn told_priority(&self) -> u32 {
        let is_of_no_use = self.is_paused || self.stalled.is_some() || self.space.is_full();
        if is_of_no_use { 0 } else { self.options.priority }
    }

    /// A peer has told its priority.
    pub(crate) fn told(&mut self, from: NodeId, priority: u32) {
        if let Part::Leader(leader) = &mut self.part
            && let Some(peer) = leader.peers.get_mut(&from)
        {
            peer.priority = priority;
        }
    }

    /// Hands over to a better one, if there is one. As often as a leader speaks.
    pub(crate) fn prefer(&mut self) {
        let (now, end, timeout) = (self.now, self.terms.end(), self.options.election_timeout);
        if now < self.preference.look_at || planted::is(Bug::IgnorePriority) {
            return;
        }
        self.preference.look_at = now + self.options.heartbeat_interval;
        let mark = core::mem::replace(&mut self.preference.mark, end);
        let better = self.better(mark);
        let since = self.preference.better.filter(|(id, _)| Some(*id) == better);
        self.preference.better = better.map(|id| (id, since.map_or(now, |(_, since)| since)));
        if let Some((to, since)) = self.preference.better
            && now.since(since) >= timeout.saturating_mul(2)
            && now >= self.preference.rest_until
            && self.transfer.is_none()
        {
            self.preference.better = None;
            self.begin_transfer(to, Aim::Prefer);
        }
    }

    /// Of the voters above this node's priority that have everything before `mark`, the highest; of several,
    /// the one it was before.
    fn better(&self, mark: Seq) -> Option<NodeId> {
        let Part::Leader(leader) = &self.part else {
            return None;
        };
        let before = self.preference.better.map(|(id, _)| id);
        let better = leader.peers.iter().filter(|&(&id, peer)| {
            peer.priority > self.options.priority && peer.matched >= mark && self.is_able(id)
        });
        let best =
            better.max_by_key(|&(&id, peer)| (peer.priority, Some(id) == before, Reverse(id)));
        best.map(|(&id, _)| id)
    }

    /// A transfer that this node began by itself has ended. After a failure it waits four election timeouts, then
    /// eight, up to 128: each try keeps proposals waiting.
    pub(crate) fn preferred(&mut self, is_done: bool) {
        let failures = if is_done { 0 } else { self.preference.failures.saturating_add(1) };
        self.preference.failures = failures;
        if !is_done {
            let wait =
                self.options.election_timeout.saturating_mul(2 << failures.min(DOUBLINGS_MAX));
            self.preference.rest_until = self.now + wait;
        }
    }
}
