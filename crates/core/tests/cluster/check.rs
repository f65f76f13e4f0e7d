//! What must hold at every step of every run, whatever is lost, late, repeated or restarted.

use crate::harness::{Disk, Node};
use std::collections::BTreeMap;
use tinyraftplus_core::{
    Entry, EntryBody, EntryId, HardState, Identity, Message, MessageBody, NodeId, Persist, Refusal,
    Resolution, Role, Seq, Span, Term, Ticket,
};

/// Remembers what the whole cluster ever did, as no node can.
#[derive(Default)]
pub(crate) struct Checker {
    leaders: BTreeMap<Term, Identity>,
    /// Every entry that was ever in any log, and the one before it.
    known: BTreeMap<EntryId, (Entry<String>, Option<EntryId>)>,
    /// Everything that was ever committed.
    pub(crate) chosen: BTreeMap<Seq, EntryId>,
    /// In which term each of these was committed: later than its own, if an old leader left it.
    chosen_in: BTreeMap<Seq, Term>,
    votes: BTreeMap<(Term, Identity), Identity>,
    /// What was committed when a read was asked for.
    asked: BTreeMap<Ticket, Seq>,
    hard_states: BTreeMap<Identity, HardState>,
    committed: BTreeMap<NodeId, Seq>,
    accepted: BTreeMap<Ticket, EntryId>,
    pub(crate) reads: usize,
}

impl Checker {
    /// The position after the last entry that anybody knows to be committed.
    pub(crate) fn end(&self) -> Seq {
        self.chosen.keys().next_back().map_or(Seq::ZERO, |seq| seq.after())
    }

    /// How many configurations were committed.
    pub(crate) fn changes(&self) -> usize {
        let is_one = |id: &&EntryId| {
            let known = self.known.get(*id);
            known.is_some_and(|(entry, _)| matches!(entry.body, EntryBody::Configuration(_)))
        };
        self.chosen.values().filter(is_one).count()
    }

    /// A disk that was made by hand.
    pub(crate) fn preset(&mut self, disk: &Disk) {
        let mut before = None;
        for entry in &disk.entries {
            self.learn(entry, before);
            before = Some(entry.id);
        }
        self.hard_states.insert(disk.identity, disk.hard_state);
    }

    /// Log matching: an entry's id names its content and everything before it, for ever.
    fn learn(&mut self, entry: &Entry<String>, before: Option<EntryId>) {
        let known = self.known.entry(entry.id).or_insert_with(|| (entry.clone(), before));
        assert_eq!(*known, (entry.clone(), before), "two entries are named {}", entry.id);
    }

    pub(crate) fn job(&mut self, view: &Disk, job: &Persist<String>) {
        let end = job.trim.unwrap_or_else(|| view.end());
        for seq in end.get()..view.end().get() {
            let lost = view.entry(Seq::new(seq)).unwrap().id;
            assert_ne!(self.chosen.get(&lost.seq), Some(&lost), "a committed entry is trimmed");
        }
        if let Some(last) = job.reset {
            assert_eq!(
                self.chosen.get(&last.seq),
                Some(&last),
                "begins after what is not committed"
            );
            for lost in view.entries.iter().filter(|lost| lost.id.seq > last.seq) {
                let chosen = self.chosen.get(&lost.id.seq);
                assert_ne!(chosen, Some(&lost.id), "a committed entry goes with the old log");
            }
        }
        if let Some(start) = job.compact {
            let gone = view.entries.iter().filter(|entry| entry.id.seq < start);
            for EntryId { term, seq } in gone.map(|entry| entry.id) {
                assert_eq!(
                    self.chosen.get(&seq).map(|it| it.term),
                    Some(term),
                    "not committed yet"
                );
            }
        }
        let end = job.reset.map_or(end, |last| last.seq.after());
        let mut before = end.before().and_then(|seq| view.entry(seq)).map(|entry| entry.id);
        if job.reset.is_some() || end == view.start {
            before = job.reset.or_else(|| view.before_start());
        }
        for entry in &job.append {
            self.learn(entry, before);
            before = Some(entry.id);
        }
    }

    /// What is durable now: term and vote never go back.
    pub(crate) fn durable(&mut self, disk: &Disk) {
        let before = self.hard_states.insert(disk.identity, disk.hard_state).unwrap_or_default();
        let HardState { term, vote } = disk.hard_state;
        assert!(term >= before.term, "a durable term goes back");
        assert!(
            term > before.term || before.vote.is_none() || before.vote == vote,
            "a durable vote changes within term {term}"
        );
    }

    pub(crate) fn crashed(&mut self, id: NodeId) {
        self.committed.remove(&id);
    }

    /// A node takes back what it could not write, and with it what it knew to be committed there.
    pub(crate) fn took_back(&mut self, id: NodeId, end: Seq) {
        if let Some(committed) = self.committed.get_mut(&id) {
            *committed = end.min(*committed);
        }
    }

    /// The contract of the output: what is sent is covered by what is durable.
    pub(crate) fn sent(&mut self, from: NodeId, disk: &Disk, message: &Message<String>) {
        assert_eq!(message.malformed(), None, "{from} sends {message:?}");
        let durable = disk.hard_state;
        let mut vote = |candidate: Identity| {
            assert_eq!(durable.vote, Some(candidate), "{from} votes before the vote is durable");
            let first = *self.votes.entry((message.term, disk.identity)).or_insert(candidate);
            assert_eq!(first, candidate, "{from} votes twice in term {}", message.term);
        };
        match &message.body {
            MessageBody::Ask { .. }
            | MessageBody::PreVote { .. }
            | MessageBody::PreVoteReply { granted: true } => return,
            MessageBody::Answer { configuration, .. } => {
                if configuration.as_ref().is_some_and(|placed| placed.at.is_none()) {
                    let first = disk.configuration.as_ref().map(|known| known.settled(Seq::ZERO));
                    // A snapshot may have brought a newer one since it was said.
                    let is_over = first.is_some_and(|first| first.at.is_some());
                    assert!(
                        is_over || configuration.as_ref() == first,
                        "{from} tells before it is durable"
                    );
                }
                return;
            }
            MessageBody::Vote { .. } => vote(disk.identity),
            MessageBody::VoteReply { granted: true } => vote(message.to.unwrap()),
            MessageBody::Accepted { matched, .. } => {
                assert!(*matched <= disk.end(), "{from} acknowledges before it is durable");
            }
            MessageBody::Append { prev, entries, .. } => {
                let before = prev.and_then(|prev| self.known.get(&prev));
                assert!(
                    entries.is_empty() || before.is_none_or(|(entry, _)| entry.ends_batch),
                    "{from} splits a batch"
                );
            }
            MessageBody::TimeoutNow
            | MessageBody::VoteReply { granted: false }
            | MessageBody::PreVoteReply { granted: false }
            | MessageBody::Rejected { .. } => {}
        }
        assert_eq!(message.term, durable.term, "{from} speaks for a term that is not durable");
    }

    pub(crate) fn asked(&mut self, ticket: Ticket) {
        let end = self.end();
        self.asked.insert(ticket, end);
    }

    pub(crate) fn resolved(&mut self, ticket: Ticket, resolution: &Resolution, term: Term) {
        match *resolution {
            Resolution::Accepted { last, .. } => {
                self.accepted.insert(ticket, last);
            }
            Resolution::Committed { last, .. } => {
                assert_eq!(self.accepted.get(&ticket), Some(&last), "{ticket:?} changed its place");
                // `step` compares it with what else is committed.
                self.commit(last, term);
            }
            Resolution::ReadAt { end } => {
                self.reads += 1;
                assert!(end >= self.asked[&ticket], "a stale read: {end} is too early");
            }
            Resolution::Refused(Refusal::Replaced) => {
                let lost = self.accepted[&ticket];
                assert_ne!(self.chosen.get(&lost.seq), Some(&lost), "a committed entry refused");
            }
            Resolution::Changed { .. } | Resolution::Unsettled | Resolution::Transfer(_) => {}
            Resolution::Refused(_) => {
                assert!(!self.accepted.contains_key(&ticket), "refused after it was accepted");
            }
        }
    }

    /// Committed never changes.
    fn commit(&mut self, id: EntryId, term: Term) {
        self.chosen_in.entry(id.seq).or_insert(term);
        let chosen = *self.chosen.entry(id.seq).or_insert(id);
        assert_eq!(chosen, id, "two entries are committed at seq {}", id.seq);
    }

    /// The state machine is replaced by one that is further on, by a snapshot and a log that fit each other.
    pub(crate) fn restore(node: &Node, last: EntryId) {
        assert!(last.seq >= node.applied, "the state machine goes back");
        assert_eq!(node.disk.before_start(), Some(last), "restored before the log begins there");
        let snapshot = node.disk.snapshot.as_ref().map(|(last, _)| *last);
        assert_eq!(snapshot, Some(last), "there is no such snapshot");
    }

    /// The state machine sees what is committed and on this disk, whole batches, without a gap.
    pub(crate) fn apply(node: &Node, span: &Span) {
        assert_eq!(span.start, node.applied, "a gap in what is applied");
        assert!(node.disk.read(span).is_some(), "applied before it is on this disk");
        let last = node.disk.entry(span.end.before().unwrap()).unwrap();
        assert!(last.ends_batch, "half a batch is applied");
    }

    /// After every step of a node.
    pub(crate) fn step(&mut self, id: NodeId, node: &Node) {
        let Some(core) = &node.core else {
            return;
        };
        assert_eq!(core.terms().end(), node.view.end(), "core and log differ");
        assert_eq!(core.terms().runs(), node.view.terms().runs(), "core and log differ");
        assert!(core.durable() <= node.disk.end(), "{id} takes for durable what is not");
        if core.configuration().is_none() {
            // Where its log begins is not settled yet.
            return;
        }
        let before = self.committed.insert(id, core.committed()).unwrap_or(node.view.start);
        assert!(before <= core.committed() && core.committed() <= node.view.end());
        assert_eq!(core.terms().entry_before(node.view.start), node.view.before_start());
        if let Some(before) = node.view.before_start() {
            self.commit(before, core.term());
        }
        for seq in before.max(node.view.start).get()..core.committed().get() {
            self.commit(node.view.entry(Seq::new(seq)).unwrap().id, core.term());
        }
        if core.committed() > node.view.start {
            let last = node.view.entry(core.committed().before().unwrap()).unwrap();
            assert!(last.ends_batch, "{id} commits half a batch");
        }
        if core.role() == Role::Leader {
            let first = *self.leaders.entry(core.term()).or_insert_with(|| core.identity());
            assert_eq!(first, core.identity(), "two leaders in term {}", core.term());
        }
    }

    /// Leader completeness: a leader's log has everything that was committed in older terms.
    pub(crate) fn leader_is_complete(&self, node: &Node) {
        let core = node.core.as_ref().unwrap();
        let older = |seq: &Seq| self.chosen_in[seq] < core.term();
        let kept = self.chosen.range(node.view.start..);
        for (&seq, &id) in kept.filter(|(seq, _)| older(seq)) {
            assert!(node.view.entry(seq).is_some_and(|e| e.id == id), "a leader lacks {id}");
        }
    }
}
