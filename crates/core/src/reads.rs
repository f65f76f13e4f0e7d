//! Linearizable reads without a log entry (thesis section 6.4).
//!
//! A read may be answered from everything committed when it was asked for, once it is certain that this node
//! still led at that time: a set of peers without which nobody else can have been elected answers a message
//! that was sent after the read arrived. Reads that arrive while one such round is under way share the next.

use crate::core::Part;
use crate::leader::{has_committed, progress_of};
use crate::planted::{self, Bug};
use crate::{Core, Refusal, Resolution, Seq, Ticket};
use alloc::vec::Vec;
use core::mem;

/// How many reads may wait at a leader.
const WAITING_MAX: usize = 1 << 16;

#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Not yet part of a round.
    waiting: Vec<Ticket>,
    under_way: Option<Round>,
}

#[derive(Debug)]
struct Round {
    number: u64,
    /// What was committed when it began.
    end: Seq,
    tickets: Vec<Ticket>,
}

impl Reads {
    pub(crate) fn into_tickets(self) -> impl Iterator<Item = Ticket> {
        self.waiting.into_iter().chain(self.under_way.into_iter().flat_map(|round| round.tickets))
    }
}

impl<P: AsRef<[u8]>> Core<P> {
    pub(crate) fn read(&mut self, ticket: Ticket) {
        let Part::Leader(leader) = &mut self.part else {
            let leader = self.leader.map(|leader| leader.id);
            let refused = Refusal::NotLeader { leader };
            self.out.resolve.push((ticket, Resolution::Refused(refused)));
            return;
        };
        if leader.reads.waiting.len() >= WAITING_MAX {
            self.out.resolve.push((ticket, Resolution::Refused(Refusal::Busy)));
            return;
        }
        if planted::is(Bug::UnconfirmedRead) {
            self.out.resolve.push((ticket, Resolution::ReadAt { end: self.committed }));
            return;
        }
        if planted::is(Bug::JoinRound)
            && let Some(round) = &mut leader.reads.under_way
        {
            round.tickets.push(ticket);
            return;
        }
        leader.reads.waiting.push(ticket);
    }

    /// Ends the round under way if enough peers have answered it, and begins the next if reads wait.
    pub(crate) fn confirm_reads(&mut self) {
        let me = self.me();
        loop {
            let (Part::Leader(leader), Some(active)) = (&mut self.part, &self.active) else {
                return;
            };
            if let Some(round) = leader.reads.under_way.take_if(|round| {
                let peers = &leader.peers;
                active.electorate().confirms(|member| {
                    member.is(me.id, me.identity)
                        || progress_of(peers, member).is_some_and(|peer| peer.round >= round.number)
                })
            }) {
                let read_at = Resolution::ReadAt { end: round.end };
                self.out.resolve.extend(round.tickets.into_iter().map(|ticket| (ticket, read_at)));
            }
            // Before its own first commit a leader does not know what its predecessors committed.
            let committed_own = has_committed(&self.terms, self.committed, self.hard_state.term)
                || planted::is(Bug::ReadBeforeOwnCommit);
            if leader.reads.waiting.is_empty() || !committed_own {
                return;
            }
            if self.holds_lease() {
                return self.answer_reads();
            }
            let Part::Leader(leader) = &mut self.part else {
                return;
            };
            if leader.reads.under_way.is_some() {
                return;
            }
            let tickets = mem::take(&mut leader.reads.waiting);
            leader.reads.under_way =
                Some(Round { number: leader.round + 1, end: self.committed, tickets });
            let peers: Vec<_> = leader.peers.iter().map(|(&id, peer)| (id, peer.matched)).collect();
            self.next_round();
            for (to, matched) in peers {
                self.send_heartbeat(to, matched);
            }
        }
    }

    /// Answers the reads that wait from what is committed now.
    fn answer_reads(&mut self) {
        if let Part::Leader(leader) = &mut self.part {
            let read_at = Resolution::ReadAt { end: self.committed };
            let tickets = leader.reads.waiting.drain(..);
            self.out.resolve.extend(tickets.map(|ticket| (ticket, read_at)));
        }
    }
}
