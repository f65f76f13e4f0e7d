//! Election safety: at most one leader a term (Raft figure 3).

use std::collections::BTreeMap;

use bytes::Bytes;
use tinyraftplus_core::{Message, MessageBody, Term};

use super::{Verdict, require};

/// Who led which term.
#[derive(Debug, Default)]
pub(crate) struct Election {
    leaders: BTreeMap<Term, usize>,
}

impl Election {
    /// That node leads that term.
    pub(crate) fn on_leader(&mut self, at: usize, term: Term) -> Verdict {
        let first = *self.leaders.entry(term).or_insert(at);
        require!(
            first == at,
            "one leader a term",
            "nodes {} and {} both lead term {term}",
            first + 1,
            at + 1
        );
        Ok(())
    }

    /// Who led that term.
    pub(crate) fn leader(&self, term: Term) -> Option<usize> {
        self.leaders.get(&term).copied()
    }

    /// Whether that node has led a term, that one or a later one.
    pub(crate) fn has_led(&self, at: usize, from: Term) -> bool {
        self.leaders.range(from..).any(|(_, &leader)| leader == at)
    }

    /// Who sends entries or heartbeats claims to lead.
    pub(crate) fn on_sent(&mut self, at: usize, message: &Message<Bytes>) -> Verdict {
        match message.body {
            MessageBody::Append { .. } => self.on_leader(at, message.term),
            MessageBody::Ask { .. }
            | MessageBody::Answer { .. }
            | MessageBody::PreVote { .. }
            | MessageBody::PreVoteReply { .. }
            | MessageBody::Vote { .. }
            | MessageBody::VoteReply { .. }
            | MessageBody::Accepted { .. }
            | MessageBody::Rejected { .. }
            | MessageBody::TimeoutNow => Ok(()),
        }
    }
}
