//! Reads on a lease: without asking anybody, for as long as nobody else can have been elected (thesis section
//! 6.4.1).
//!
//! A follower that answers a heartbeat promises to refuse votes and pre-votes for a while, and says for how long.
//! The leader counts that from when it *sent* the heartbeat, as it was there only later, and takes off what their
//! clocks may differ. While the promises that still hold are of so many members that no leader can be elected
//! without one of them, it leads alone, and what it has committed is all there is.
//!
//! What could break a promise:
//!
//! * A restart forgets it: so for an election timeout after its start a node votes for nobody.
//! * A new term makes it no less valid, whatever message brought that term.
//! * A node's own campaign: it waits until its own promise is over.
//! * A transfer overrides it, on purpose. So once the leader has told a successor to campaign it uses no lease for
//!   the rest of its term: the message may arrive late.

use crate::core::Part;
use crate::ids::Peer;
use crate::leader::progress_of;
use crate::planted::{self, Bug};
use crate::{Core, Member, Options, Time};
use alloc::collections::VecDeque;
use core::time::Duration;

/// How many heartbeats may wait for answers that extend the lease.
const SENT_MAX: usize = 4096;

/// What lease reads count on. All members must be told the same, and the same `election_timeout`.
///
/// **The clocks decide whether reads are right.** A machine that is suspended, or a virtual one that is moved, may
/// have a clock that stood still meanwhile: don't use leases there. A node that is to be restarted with a shorter
/// election timeout, or without leases, must be down for one election timeout first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lease {
    /// By how much the clocks of two members may differ in speed at most, in millionths: in a second one clock
    /// counts so many microseconds more than another.
    pub clock_error_ppm: u32,
}

impl Lease {
    /// What is left of a promise once the clocks are allowed for.
    pub(crate) fn shorten(self, promise: Duration) -> Duration {
        let error = promise.saturating_mul(self.clock_error_ppm) / 1_000_000;
        promise.saturating_sub(error)
    }
}

/// What a leader knows of its lease, besides what each peer has promised.
#[derive(Debug, Default)]
pub(crate) struct Tenure {
    /// When each round was first sent.
    sent: VecDeque<(u64, Time)>,
    /// A successor was told to campaign.
    is_over: bool,
}

impl Tenure {
    /// A round is sent for the first time now. Answers that take longer than `timeout` extend nothing.
    pub(crate) fn note(&mut self, round: u64, now: Time, timeout: Duration) {
        self.sent.push_back((round, now));
        while self.sent.len() > SENT_MAX
            || self.sent.front().is_some_and(|&(_, at)| now.since(at) > timeout)
        {
            self.sent.pop_front();
        }
    }

    /// No lease is used any more in this term.
    pub(crate) const fn end(&mut self) {
        self.is_over = true;
    }

    fn sent_at(&self, round: u64) -> Option<Time> {
        let at = self.sent.binary_search_by_key(&round, |&(sent, _)| sent).ok()?;
        self.sent.get(at).map(|&(_, time)| time)
    }
}

/// How long a node with these options votes for nobody after a start: it may have promised that before, if it is part
/// of a cluster.
pub(crate) fn quiet_after_start(options: &Options, has_formed: bool) -> Duration {
    let has_promised = has_formed && !planted::is(Bug::ForgetPromise);
    if has_promised && options.lease.is_some() { options.election_timeout } else { Duration::ZERO }
}

impl<P: AsRef<[u8]>> Core<P> {
    /// What this node promises with the answer to an append: no vote for so long, counted from when it came.
    pub(crate) const fn promise(&self) -> Duration {
        match self.options.lease {
            Some(_) => self.options.election_timeout,
            None => Duration::ZERO,
        }
    }

    /// The leader was heard from: this renews the promise.
    pub(crate) fn renew_promise(&mut self) {
        if self.options.lease.is_some() {
            self.promised_until = self.promised_until.max(self.now + self.options.election_timeout);
        }
    }

    /// Whether this node has promised to vote for nobody. A leader counts itself among those that did.
    pub(crate) fn has_promised(&self) -> bool {
        let has_promised = self.now < self.promised_until || self.holds_lease();
        has_promised && !planted::is(Bug::BreakPromise)
    }

    /// A peer has promised to vote for nobody for so long, when a message of that round came to it.
    pub(crate) fn promised(&mut self, from: Peer, round: u64, promise: Duration) {
        let (Part::Leader(leader), Some(lease)) = (&mut self.part, self.options.lease) else {
            return;
        };
        let now = self.now;
        let promise = promise.min(self.options.election_timeout);
        let is_long = planted::is(Bug::LongLease);
        let promise = if is_long { promise } else { lease.shorten(promise) };
        let peer = leader.peers.get_mut(&from.id);
        let peer = peer.filter(|peer| peer.identity == from.identity);
        if let (Some(peer), Some(sent)) = (peer, leader.tenure.sent_at(round)) {
            let from = if is_long { now } else { sent };
            peer.promised_until = peer.promised_until.max(from + promise);
        }
    }

    pub(crate) fn holds_lease(&self) -> bool {
        self.holds_lease_at(self.now)
    }

    /// Whether this node leads and nobody else can have been elected by that time, which is not before its last step: it
    /// would answer reads without asking.
    pub fn holds_lease_at(&self, now: Time) -> bool {
        let (Part::Leader(leader), Some(active)) = (&self.part, &self.active) else {
            return false;
        };
        let me = self.me();
        let promised = |member: &Member| {
            progress_of(&leader.peers, member).is_some_and(|peer| peer.promised_until > now)
        };
        self.options.lease.is_some()
            && !leader.tenure.is_over
            && active
                .electorate()
                .confirms(|member| member.is(me.id, me.identity) || promised(member))
    }

    /// Begins the next round, whose answers extend the lease.
    pub(crate) fn next_round(&mut self) {
        let (now, timeout) = (self.now, self.options.election_timeout);
        if let Part::Leader(leader) = &mut self.part {
            leader.round += 1;
            if self.options.lease.is_some() {
                leader.tenure.note(leader.round, now, timeout);
            }
        }
    }
}
