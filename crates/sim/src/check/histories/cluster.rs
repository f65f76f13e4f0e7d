//! A few nodes that write, say and send what a history wants.

use std::sync::Arc;

use bytes::Bytes;
use tinyraftplus_core::{
    Configurations, EntryId, HardState, Identity, Member, Message, MessageBody, NodeId, QuorumRule,
    Restored, Role, Seq, Term, Terms, Time,
};
use tinyraftplus_log::{EntryKind, LogEntry, Write};
use tinyraftplus_replica::{Applied, Apply};

use crate::check::calls::{self, Asked, Life};
use crate::check::{Checks, Verdict, View};

pub(super) const fn id(term: u64, seq: u64) -> EntryId {
    EntryId::new(Term::new(term), Seq::new(seq))
}

pub(super) fn entry(term: u64, seq: u64, payload: &'static str) -> LogEntry {
    let kind = if payload.is_empty() { EntryKind::Noop } else { EntryKind::Payload };
    LogEntry { id: id(term, seq), kind, ends_batch: true, payload: bytes(payload) }
}

/// What "a", "b" and "c" stand for: what one client each has appended.
pub(super) fn bytes(payload: &'static str) -> Bytes {
    match payload {
        "a" => calls::payload(0, 0, 16),
        "b" => calls::payload(1, 0, 16),
        "c" => calls::payload(2, 0, 16),
        other => Bytes::from(other),
    }
}

pub(super) fn append(entries: &[(u64, u64, &'static str)]) -> Write {
    let entry = |&(term, seq, payload): &(u64, u64, &'static str)| entry(term, seq, payload);
    Write { append: entries.iter().map(entry).collect(), ..Write::default() }
}

pub(super) fn vote(term: u64, vote: u128) -> Write {
    let vote = (vote > 0).then_some(Identity::new(vote));
    Write { hard_state: Some(HardState { term: Term::new(term), vote }), ..Write::default() }
}

/// The log of the node at that place.
pub(super) const fn log(at: usize) -> Identity {
    Identity::new(at as u128 + 1)
}

/// The cluster of the first `count` nodes, as it was founded.
pub(super) fn founded(count: u64) -> Arc<Configurations> {
    let member = |n: u64| Member::voter(NodeId::from(n), Identity::new(u128::from(n)));
    let members = (1..=count).map(member).collect();
    Arc::new(Configurations::found(members, QuorumRule::Majority, Seq::ZERO).unwrap())
}

/// Three nodes, of which two are a quorum. Node `n` has the identity `n + 1`.
pub(super) struct Cluster {
    pub(super) checks: Checks,
    verdict: Verdict,
}

impl Cluster {
    pub(super) fn new() -> Self {
        Self::of(3)
    }

    /// So many nodes, of which the first three have founded a cluster.
    pub(super) fn of(nodes: usize) -> Self {
        let mut checks = Checks::new(nodes, Seq::ZERO, true);
        let founded_by = Write { configuration: Some(founded(3)), ..Write::default() };
        checks.on_durable(0, &founded_by).unwrap();
        for (at, node) in checks.nodes.iter_mut().enumerate() {
            node.identity = log(at);
            node.decided.configuration = Some(founded(3));
            node.durable.configuration = Some(founded(3));
        }
        for (payload, number) in ["a", "b", "c"].into_iter().zip(1..) {
            let asked = Asked::Append(vec![bytes(payload)]);
            checks.calls.on_call(Life { node: 0, number }, Time::NEVER, Term::ZERO, asked);
        }
        Self { checks, verdict: Ok(()) }
    }

    pub(super) fn then(mut self, next: impl FnOnce(&mut Checks) -> Verdict) -> Self {
        if self.verdict.is_ok() {
            self.verdict = next(&mut self.checks);
        }
        self
    }

    /// A node decides to write this.
    pub(super) fn writes(self, at: usize, write: &Write) -> Self {
        self.then(|checks| checks.on_write(at, write))
    }

    /// .. and it is durable at once.
    pub(super) fn stores(self, at: usize, write: &Write) -> Self {
        self.writes(at, write).then(|checks| checks.on_durable(at, write))
    }

    /// All three nodes store this.
    pub(super) fn all_store(self, write: &Write) -> Self {
        (0..3).fold(self, |cluster, at| cluster.stores(at, write))
    }

    /// A node says what it is, and that everything before `committed` is committed; of its log, what it wrote.
    pub(super) fn says(self, at: usize, role: Role, term: u64, committed: u64) -> Self {
        self.then(|checks| {
            let node = &checks.nodes[at];
            let (terms, durable) =
                (terms_of(node.decided.end(), |seq| node.decided.entry(seq)), node.durable.end());
            let (term, committed) = (Term::new(term), Seq::new(committed));
            checks.on_step(
                at,
                View { role, term, committed, durable, terms: &terms, sits_still: false },
            )
        })
    }

    /// A node was elected by itself and that other, and says what `says` says.
    pub(super) fn leads(self, at: usize, with: usize, term: u64, committed: u64) -> Self {
        self.leads_by(&[at, with], term, committed)
    }

    /// .. the first of these was elected by all of them.
    pub(super) fn leads_by(self, voters: &[usize], term: u64, committed: u64) -> Self {
        let at = voters[0];
        let elected = voters.iter().fold(self, |cluster, &voter| {
            cluster.then(|checks| {
                checks.promises.vote(voter + 1, log(voter), Term::new(term), log(at))
            })
        });
        elected.says(at, Role::Leader, term, committed)
    }

    pub(super) fn applies(
        self,
        at: usize,
        start: u64,
        end: u64,
        entries: &[(u64, &'static str)],
    ) -> Self {
        let applied = |&(seq, payload): &(u64, &'static str)| Applied {
            seq: Seq::new(seq),
            payload: bytes(payload),
        };
        let entries = entries.iter().map(applied).collect();
        let apply = Apply { start: Seq::new(start), end: Seq::new(end), entries };
        self.then(|checks| checks.on_apply(at, &apply))
    }

    pub(super) fn sends(self, at: usize, to: usize, term: u64, body: MessageBody<Bytes>) -> Self {
        let message = Message { from: log(at), to: Some(log(to)), term: Term::new(term), body };
        self.then(|checks| {
            checks.on_sent(at, to, Time::ZERO, &tinyraftplus_replica::Message::Raft(message))
        })
    }

    /// A node starts, and finds these in its log, and that term and vote.
    pub(super) fn starts(
        self,
        at: usize,
        flight: &[Write],
        hard: &Write,
        found: &[LogEntry],
    ) -> Self {
        let end = Seq::new(found.len() as u64);
        let entry = |seq: Seq| found.iter().map(|entry| entry.id).find(|id| id.seq == seq);
        let restored = Restored {
            hard_state: hard.hard_state.unwrap_or_default(),
            configuration: Some(founded(3)),
            terms: terms_of(end, entry),
            ..Restored::empty(log(at))
        };
        self.then(|checks| checks.on_start(at, &restored, found, flight, Seq::ZERO))
    }

    pub(super) fn holds(self) {
        assert_eq!(self.verdict, Ok(()));
    }

    pub(super) fn breaks(self, check: &str) {
        assert_eq!(self.verdict.expect_err("a bad history").check, check);
    }
}

pub(super) fn terms_of(end: Seq, entry: impl Fn(Seq) -> Option<EntryId>) -> Terms {
    let mut terms = Terms::empty(Seq::ZERO, Term::ZERO);
    for seq in (0..end.get()).map(Seq::new) {
        terms.append(entry(seq).unwrap().term, 1);
    }
    terms
}

pub(super) const fn append_message() -> MessageBody<Bytes> {
    MessageBody::Append { prev: None, entries: Vec::new(), committed: Seq::ZERO, round: 0 }
}
