//! What nodes say to each other.

use crate::quorum::Group;
use crate::{Entry, EntryId, Identity, Placed, Seq, Term};
use alloc::vec::Vec;
use core::time::Duration;

/// A message between two nodes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message<P> {
    /// The identity of the sender's log.
    pub from: Identity,
    /// The identity of the log that it is meant for; `None` if the sender does not know it yet, which only
    /// [`MessageBody::Ask`] and [`MessageBody::Answer`] may say.
    pub to: Option<Identity>,
    /// The sender's term. In a pre-vote, and a granted answer to one: the term it would campaign in.
    pub term: Term,
    /// The rest.
    pub body: MessageBody<P>,
}

/// What a message says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MessageBody<P> {
    /// Who are you? A node without a configuration asks all members; a leader asks a log that it is to give a place.
    Ask {
        /// Comes back in the answer.
        number: u64,
    },
    /// The answer to [`MessageBody::Ask`].
    Answer {
        /// The number of the question; 0 if nobody asked.
        number: u64,
        /// The newest configuration that can't be taken back any more, if the node knows one.
        configuration: Option<Placed>,
        /// [`Options::founding`](crate::Options::founding) of what the node would found.
        founding: u64,
        /// The label that the node was started with.
        group: Option<Group>,
    },
    /// Would you vote for me? Changes nothing at the receiver (thesis section 9.6).
    PreVote {
        /// The newest entry of the sender's log.
        last: Option<EntryId>,
    },
    /// The answer to [`MessageBody::PreVote`].
    PreVoteReply {
        /// Whether it would.
        granted: bool,
    },
    /// Vote for me (`RequestVote`, Raft section 5.2).
    Vote {
        /// The newest entry of the sender's log.
        last: Option<EntryId>,
        /// Whether the leader itself has asked for this election, with [`MessageBody::TimeoutNow`].
        transfer: bool,
    },
    /// The answer to [`MessageBody::Vote`]; the vote is durable.
    VoteReply {
        /// Whether it was granted.
        granted: bool,
    },
    /// Take these entries (`AppendEntries`, Raft section 5.3). Without entries: a heartbeat.
    Append {
        /// The entry just before the first; `None` at the start of the log.
        prev: Option<EntryId>,
        /// Whole batches.
        entries: Vec<Entry<P>>,
        /// Up to where the leader has committed.
        committed: Seq,
        /// Counts the leader's requests for confirmation; comes back in the reply.
        round: u64,
    },
    /// The answer to [`MessageBody::Append`] when the log fits.
    Accepted {
        /// Everything before this is durable here and equal to the leader's log.
        matched: Seq,
        /// The newest round seen.
        round: u64,
        /// How much the sender should be preferred as a leader; 0 while it can't lead.
        priority: u32,
        /// For how long after the newest message of this leader came to it the sender votes for nobody. Zero unless it
        /// uses leases.
        promise: Duration,
    },
    /// The answer to [`MessageBody::Append`] when `prev` is not in the log, or when its term is over.
    Rejected {
        /// The `prev` of the append; `None` if its term is over.
        prev: Option<EntryId>,
        /// The newest entry that may be in both logs: at or before `prev`, of its term or an older one.
        hint: Option<EntryId>,
        /// The newest round seen.
        round: u64,
    },
    /// Your log is as long as mine: campaign at once (thesis section 3.10).
    TimeoutNow,
}

impl<P> Message<P> {
    /// The only gate for foreign data: says what is wrong with a message that no correct peer sends.
    pub fn malformed(&self) -> Option<&'static str> {
        match &self.body {
            MessageBody::Ask { .. } | MessageBody::Answer { .. } => None,
            _ if self.to.is_none() => Some("names no receiver"),
            // A node that has seen no term yet may refuse a pre-vote, and say nothing else.
            MessageBody::PreVoteReply { granted } => {
                (*granted && self.term == Term::ZERO).then_some("has term 0")
            }
            _ if self.term == Term::ZERO => Some("has term 0"),
            MessageBody::PreVote { last } => last
                .is_some_and(|last| last.term >= self.term || last.seq == Seq::MAX)
                .then_some("has a log from its own future"),
            MessageBody::Vote { last, .. } => last
                .is_some_and(|last| last.term >= self.term || last.seq == Seq::MAX)
                .then_some("has a log from its own future"),
            MessageBody::Append { prev, entries, .. } => {
                malformed_entries(self.term, *prev, entries)
            }
            MessageBody::VoteReply { .. }
            | MessageBody::Accepted { .. }
            | MessageBody::Rejected { .. }
            | MessageBody::TimeoutNow => None,
        }
    }
}

fn malformed_entries<P>(
    term: Term,
    prev: Option<EntryId>,
    entries: &[Entry<P>],
) -> Option<&'static str> {
    if prev.is_some_and(|prev| prev.term > term || prev.term == Term::ZERO || prev.seq == Seq::MAX)
    {
        return Some("has an impossible previous entry");
    }
    if entries.last().is_some_and(|last| !last.ends_batch) {
        return Some("ends in the middle of a batch");
    }
    let mut before = prev;
    for entry in entries {
        let follows = before.is_none_or(|before| {
            entry.id.seq == before.seq.after() && entry.id.term >= before.term
        });
        if !follows
            || entry.id.term > term
            || entry.id.term == Term::ZERO
            || entry.id.seq == Seq::MAX
        {
            return Some("has entries that do not follow each other");
        }
        before = Some(entry.id);
    }
    None
}
