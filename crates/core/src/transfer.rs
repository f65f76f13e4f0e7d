//! Handing leadership over on purpose (thesis section 3.10).
//!
//! The leader takes no more proposals, brings its successor up to date, and then tells it to campaign at once.
//! The successor asks for real votes without asking first whether it would win: everybody still hears from the
//! leader and would say no. If nothing comes of it within an election timeout, the leader goes on leading.

use crate::core::Part;
use crate::ids::Peer;
use crate::leader::progress_of;
use crate::planted::{self, Bug};
use crate::{Core, Event, MessageBody, NodeId, Resolution, Term, Ticket, Time};
use core::fmt;

/// A transfer under way. It outlives the leadership that began it, until it is known who leads next.
#[derive(Debug)]
pub(crate) struct Transfer {
    to: NodeId,
    aim: Aim,
    /// The term that this node leads, or led.
    term: Term,
    /// When it has failed.
    until: Time,
    /// When to tell the successor (again).
    tell_at: Time,
    /// Whether this node has seen its own term end.
    is_deposed: bool,
    /// Whether this node stops leading however it ends.
    leaves: bool,
}

/// What a transfer is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    /// Somebody asked for it.
    Asked(Ticket),
    /// This node is to stop leading, whoever is next.
    Leave,
    /// The other has a higher priority.
    Prefer,
}

/// Why leadership did not go to the node that was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum TransferError {
    /// This node does not lead. Ask the other, if it is known.
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// It is not a member of the cluster.
    NotAMember,
    /// Another transfer is under way.
    UnderWay {
        /// Where to.
        to: NodeId,
    },
    /// It has not been heard from for an election timeout.
    Silent,
    /// It did not take over within an election timeout: it lacks too many entries, or does not answer. Unless
    /// another was elected meanwhile, this node still leads.
    TimedOut,
    /// Another node was elected.
    Another {
        /// Who leads now.
        leader: NodeId,
    },
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: Some(leader) } => {
                write!(f, "this node does not lead; ask node {leader}")
            }
            Self::NotLeader { leader: None } => f.write_str(
                "this node does not lead, and knows of nobody who does; try again later",
            ),
            Self::NotAMember => f.write_str("it is not a member of the cluster"),
            Self::UnderWay { to } => {
                write!(f, "a transfer to node {to} is under way; wait until it has ended")
            }
            Self::Silent => f.write_str(
                "it has not been heard from for an election timeout; look whether it runs",
            ),
            Self::TimedOut => f.write_str(
                "it did not take over within an election timeout; try again once it has caught up",
            ),
            Self::Another { leader } => write!(f, "node {leader} was elected instead"),
        }
    }
}

impl core::error::Error for TransferError {}

impl<P: AsRef<[u8]>> Core<P> {
    /// The node that this one, which leads, is handing its leadership to. Proposals are refused meanwhile.
    pub fn transferring(&self) -> Option<NodeId> {
        let transfer = self.transfer.as_ref()?;
        (matches!(self.part, Part::Leader(_)) && !transfer.is_deposed).then_some(transfer.to)
    }

    pub(crate) fn transfer(&mut self, ticket: Ticket, to: NodeId) {
        let result = match self.transfer_refusal(to) {
            Some(error) => Err(error),
            None if to == self.options.id => Ok(()),
            None => return self.begin_transfer(to, Aim::Asked(ticket)),
        };
        self.out.resolve.push((ticket, Resolution::Transfer(result)));
    }

    fn transfer_refusal(&self, to: NodeId) -> Option<TransferError> {
        if !matches!(self.part, Part::Leader(_)) {
            return Some(TransferError::NotLeader { leader: self.leader() });
        }
        if let Some(transfer) = &self.transfer {
            return Some(TransferError::UnderWay { to: transfer.to });
        }
        if to == self.options.id {
            return None;
        }
        if !self.is_voter(to) {
            return Some(TransferError::NotAMember);
        }
        (!self.is_able(to)).then_some(TransferError::Silent)
    }

    /// Whether that peer can be elected and has been heard from lately.
    pub(crate) fn is_able(&self, id: NodeId) -> bool {
        let Part::Leader(leader) = &self.part else {
            return false;
        };
        self.is_voter(id) && leader.hears(id, self.now, self.options.election_timeout)
    }

    /// Whether that peer stays a voter, with the log that this leader sends to.
    fn is_voter(&self, id: NodeId) -> bool {
        let (Part::Leader(leader), Some(configuration)) = (&self.part, self.configuration()) else {
            return false;
        };
        let member = configuration.now().member(id).filter(|member| member.votes);
        let peer = member.and_then(|member| progress_of(&leader.peers, member));
        peer.is_some() || id == self.options.id
    }

    pub(crate) fn begin_transfer(&mut self, to: NodeId, aim: Aim) {
        let until = self.now + self.options.election_timeout;
        self.transfer = Some(Transfer {
            to,
            aim,
            term: self.hard_state.term,
            until,
            tell_at: self.now,
            is_deposed: false,
            leaves: matches!(aim, Aim::Leave),
        });
        self.out.events.push(Event::Transferring { to });
    }

    /// However the transfer under way ends, this node does not lead on.
    pub(crate) fn leave_after_transfer(&mut self) {
        if let Some(transfer) = &mut self.transfer {
            transfer.leaves = true;
        }
    }

    /// Tells the successor to campaign once its log is as long as this one. The message may be lost, so it is
    /// told again with every heartbeat; whoever campaigns already has left the term that it speaks of.
    pub(crate) fn hand_over(&mut self) {
        let end = self.terms.end();
        let (Part::Leader(leader), Some(transfer)) = (&mut self.part, &mut self.transfer) else {
            return;
        };
        let to = transfer.to;
        let peer = leader.peers.get(&to);
        let Some(identity) = peer.filter(|peer| peer.matched == end).map(|peer| peer.identity)
        else {
            return;
        };
        if self.now >= transfer.tell_at {
            transfer.tell_at = self.now + self.options.heartbeat_interval;
            if !planted::is(Bug::LeaseInTransfer) {
                leader.tenure.end();
            }
            self.send(Peer { id: to, identity }, MessageBody::TimeoutNow);
        }
    }

    /// Looks whether a transfer has ended, whatever part this node plays by now.
    pub(crate) fn watch_transfer(&mut self) {
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        let (now, term) = (self.now, transfer.term);
        if self.hard_state.term > term && !transfer.is_deposed {
            // Its votes are on their way: it gets the time that an election takes.
            transfer.is_deposed = true;
            transfer.until = transfer.until.max(now + self.options.election_timeout);
        }
        let leader = self.leader.map(|leader| leader.id);
        let result = match leader.filter(|_| transfer.is_deposed) {
            Some(leader) if leader == transfer.to => Ok(()),
            Some(leader) => Err(TransferError::Another { leader }),
            None if now >= transfer.until => Err(TransferError::TimedOut),
            None => return,
        };
        let (to, aim, leaves) = (transfer.to, transfer.aim, transfer.leaves);
        self.transfer = None;
        if leaves && self.hard_state.term == term {
            self.leave();
        }
        self.out.events.push(Event::Transferred { to, result });
        match aim {
            Aim::Asked(ticket) => self.out.resolve.push((ticket, Resolution::Transfer(result))),
            Aim::Leave => {}
            Aim::Prefer => self.preferred(result.is_ok()),
        }
    }

    pub(crate) fn transfer_wake_at(&self) -> Time {
        self.transfer.as_ref().map_or(Time::NEVER, |transfer| transfer.until)
    }

    /// The leader of this term wants this node to take over.
    pub(crate) fn on_timeout_now(&mut self, from: Peer, term: Term) {
        if term != self.hard_state.term && !planted::is(Bug::LateTimeoutNow) {
            return;
        }
        if self.leader.is_some_and(|leader| leader != from) {
            let what = "hands over a term that another leads";
            self.out.events.push(Event::Malformed { from: from.id, what });
        } else if self.may_campaign() {
            self.campaign(true);
        }
    }
}
