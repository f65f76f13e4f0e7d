//! Which transitions a run goes through, seen from outside: by what nodes write, send and answer, and by the
//! part they play. A protection that nothing ever came near was not tested.

use std::collections::BTreeMap;

use bytes::Bytes;
use tinyraftplus_core::{Core, Event as RaftEvent, Message as RaftMessage, MessageBody, Role};
use tinyraftplus_core::{NodeId, Seq, Term};
use tinyraftplus_log::Write;
use tinyraftplus_replica::{Actions, Answer, Event, Message, Outcome, Refused, Unknown, Want};

use crate::check::calls::{Asked, Life};
use crate::trace::digest;
use crate::words;
use crate::world::World;

/// What was seen of a process so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    role: Option<Role>,
    term: Term,
    /// The part it played, as the transcript told it.
    part: Option<(Role, Term, Option<NodeId>)>,
    /// The term that it stands for, until that is decided.
    stands: Option<Term>,
    committed: Seq,
    /// Up to where it has sent each peer entries, and in which term.
    sent: BTreeMap<NodeId, (Term, Seq)>,
    /// The last number that it has forwarded to the leader of each term.
    forwarded: BTreeMap<Term, u64>,
    /// The number of its last question to a leader.
    asked: u64,
}

impl World {
    /// A process has taken a step, and this is to be done.
    pub(crate) fn observe(&mut self, life: Life, actions: &Actions) {
        let Some(mut seen) = self.alive(life).map(|process| std::mem::take(&mut process.seen))
        else {
            return;
        };
        for event in &actions.events {
            self.observe_event(event);
        }
        for (_, write) in &actions.writes {
            self.observe_write(write);
        }
        self.observe_role(life, &mut seen, actions);
        for (to, message) in &actions.send {
            match message {
                Message::Raft(message) => self.observe_raft(&mut seen, *to, message),
                Message::Forward(_)
                | Message::Inquire(_)
                | Message::Answers(_)
                | Message::ReadIndex(_)
                | Message::ReadIndexReply(_)
                | Message::TransferAsk(_)
                | Message::TransferReply(_)
                | Message::ChangeAsk(_)
                | Message::ChangeReply(_)
                | Message::SnapshotOffer(_)
                | Message::SnapshotChunk(_)
                | Message::SnapshotAck(_) => self.observe_call(&mut seen, message),
            }
        }
        if actions.send.iter().any(|(_, message)| is_pre_vote(message)) {
            self.counts.pre_campaigns += 1;
        }
        for request in &actions.load {
            match request.want {
                Want::Batches { .. } => self.counts.looked_up += 1,
                Want::Some { .. } => self.counts.replayed += 1,
                Want::Exactly { .. } => {}
            }
        }
        for (call, outcome) in &actions.reply {
            self.observe_outcome(call.0, seen.role, outcome);
            if matches!(outcome, Outcome::Read { .. }) {
                self.observe_read(life, call.0);
            }
        }
        if let Some(process) = self.alive(life) {
            process.seen = seen;
        }
    }

    fn observe_event(&mut self, event: &Event) {
        self.counts.formed += u64::from(*event == Event::Raft(RaftEvent::Configured));
        self.counts.recognised += u64::from(*event == Event::Raft(RaftEvent::Wiped));
        match event {
            Event::Raft(RaftEvent::Transferring { .. }) => self.counts.transfers += 1,
            Event::Raft(RaftEvent::Transferred { result: Ok(()), .. }) => {
                self.counts.transferred += 1;
            }
            Event::Raft(RaftEvent::Transferred { .. }) => self.counts.not_transferred += 1,
            Event::SnapshotInstalled { .. } => self.counts.installed += 1,
            Event::Compacted { .. } => self.counts.compactions += 1,
            Event::Raft(RaftEvent::Removed) => self.counts.told_removed += 1,
            Event::Changed { .. }
            | Event::Committed { .. }
            | Event::Applied { .. }
            | Event::Raft(_)
            | Event::Malformed { .. }
            | Event::LoadFailed { .. }
            | _ => {}
        }
    }

    fn observe_write(&mut self, write: &Write) {
        self.counts.conflicts += u64::from(write.trim.is_some());
    }

    /// What part it plays now, and how it came to that.
    fn observe_role(&mut self, life: Life, seen: &mut Seen, actions: &Actions) {
        let Some(process) = self.nodes.get(life.node).and_then(|node| node.process.as_ref()) else {
            return;
        };
        let (core, counts) = (process.replica.core(), &mut self.counts);
        let (role, term) = (core.role(), core.term());
        let own_vote = |write: &Write| {
            let own = Some(core.identity());
            write.hard_state.filter(|hard| hard.vote == own).map(|hard| hard.term)
        };
        if let Some(stands) = seen.stands {
            let again = actions.writes.iter().any(|(_, write)| own_vote(write).is_some());
            let other = core.leader().is_some_and(|leader| leader != core.id());
            let decided = term > stands || role == Role::Leader || other;
            counts.undecided += u64::from(term > stands && again);
            counts.election_lost += u64::from(term > stands && !again || term == stands && other);
            let won = term == stands && role == Role::Leader;
            counts.won += u64::from(won);
            let is_joint = core.configuration().is_some_and(|it| it.old().is_some());
            counts.won_joint += u64::from(won && is_joint);
            seen.stands = seen.stands.filter(|_| !decided);
        }
        for stands in actions.writes.iter().filter_map(|(_, write)| own_vote(write)) {
            counts.campaigns += 1;
            // A cluster of one may win within the same step.
            let won = term == stands && role == Role::Leader;
            counts.won += u64::from(won);
            seen.stands = (!won && term == stands).then_some(stands);
        }
        match (seen.role, role) {
            (Some(Role::Leader), Role::Leader) | (None, _) => {}
            (Some(Role::Leader), _) => {
                let yielded = |event: &Event| *event == Event::Raft(RaftEvent::Yielded);
                if actions.events.iter().any(yielded) {
                    counts.yielded += 1;
                } else if term > seen.term {
                    counts.deposed += 1;
                } else {
                    counts.abandoned += 1;
                }
            }
            (Some(Role::Candidate), Role::Follower) => {
                counts.joined += u64::from(core.leader().is_some());
            }
            (Some(_), _) => {}
        }
        if role == Role::Leader && core.committed() > seen.committed && seen.term == term {
            counts.ahead_of_disk += u64::from(core.committed() > core.durable());
            counts.inherited += u64::from(inherits(core, seen.committed));
        }
        let (before, committed) = (seen.part, core.committed());
        let part = Some((role, term, core.leader()));
        let further = committed > seen.committed;
        (seen.role, seen.term, seen.committed, seen.part) = (Some(role), term, committed, part);
        if part != before {
            let what = digest(&[80, role as u64, term.get()]);
            self.note(life.node, what, || words::part(role, term, part.and_then(|part| part.2)));
        }
        if further {
            self.note(life.node, digest(&[81, committed.get()]), || {
                format!("knows that everything before {committed} is committed")
            });
        }
    }

    fn observe_raft(&mut self, seen: &mut Seen, to: NodeId, message: &RaftMessage<Bytes>) {
        let counts = &mut self.counts;
        match &message.body {
            MessageBody::PreVoteReply { granted } => {
                counts.pre_votes_refused += u64::from(!granted);
            }
            MessageBody::VoteReply { granted } => counts.votes_refused += u64::from(!granted),
            MessageBody::Rejected { prev: Some(_), .. } => counts.misfits += 1,
            MessageBody::Rejected { prev: None, .. } => counts.outdated += 1,
            MessageBody::Append { entries, .. } => {
                let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
                    return;
                };
                let (term, end) = seen.sent.entry(to).or_default();
                if *term != message.term {
                    (*term, *end) = (message.term, Seq::ZERO);
                }
                counts.repeated += u64::from(first.id.seq < *end);
                *end = last.id.seq.after().max(*end);
            }
            MessageBody::Ask { .. }
            | MessageBody::Answer { .. }
            | MessageBody::PreVote { .. }
            | MessageBody::Vote { .. }
            | MessageBody::TimeoutNow
            | MessageBody::Accepted { .. } => {}
        }
    }

    fn observe_call(&mut self, seen: &mut Seen, message: &Message) {
        let counts = &mut self.counts;
        match message {
            Message::Forward(forward) => {
                let last = seen.forwarded.entry(forward.route.term).or_default();
                counts.forwards_repeated += u64::from(forward.first <= *last);
                *last = (forward.first + forward.calls.len() as u64 - 1).max(*last);
            }
            Message::Inquire(_) => counts.inquiries += 1,
            Message::Answers(answers) => {
                for (_, answer) in &answers.answers {
                    counts.absent += u64::from(*answer == Answer::Absent);
                    counts.forgotten += u64::from(*answer == Answer::Unknown);
                }
            }
            Message::ReadIndex(index) => {
                counts.reads_repeated += u64::from(index.number <= seen.asked);
                seen.asked = index.number.max(seen.asked);
            }
            Message::SnapshotOffer(_) => counts.offered += 1,
            Message::Raft(_)
            | Message::SnapshotChunk(_)
            | Message::SnapshotAck(_)
            | Message::ReadIndexReply(_)
            | Message::TransferAsk(_)
            | Message::TransferReply(_)
            | Message::ChangeAsk(_)
            | Message::ChangeReply(_) => {}
        }
    }

    /// A read was answered: by a leader, how did that know?
    fn observe_read(&mut self, life: Life, call: u64) {
        let shown = self.node(life.node).clock.shows(self.now);
        let process = self.nodes.get(life.node).and_then(|node| node.process.as_ref());
        let is_local = matches!(self.checks.calls.asked(call), Some(Asked::Read { local: true }));
        let Some(core) = process.map(|process| process.replica.core()) else {
            return;
        };
        if core.role() != Role::Leader || is_local {
            return;
        }
        let is_joint = core.configuration().is_some_and(|it| it.old().is_some());
        self.counts.read_joint += u64::from(is_joint);
        let holds = core.holds_lease_at(shown);
        self.counts.leased += u64::from(holds);
        self.counts.in_doubt += u64::from(self.profile.members.has_lease() && !holds);
    }

    fn observe_outcome(&mut self, call: u64, role: Option<Role>, outcome: &Outcome) {
        let (counts, leads) = (&mut self.counts, role == Some(Role::Leader));
        match outcome {
            Outcome::Committed { first, last, .. } => {
                counts.through_follower += u64::from(!leads);
                counts.batches += u64::from(first < last);
            }
            Outcome::Read { .. } => match self.checks.calls.asked(call) {
                Some(Asked::Read { local: true }) => counts.read_locally += 1,
                Some(_) | None if leads => counts.read_on_leader += 1,
                Some(_) | None => counts.read_on_follower += 1,
            },
            Outcome::Refused(Refused::Overtaken) => counts.overtaken += 1,
            Outcome::Refused(Refused::Busy) => counts.busy += 1,
            Outcome::Refused(Refused::NoLeader) => counts.leaderless += 1,
            Outcome::Refused(Refused::Deadline) => counts.late += 1,
            Outcome::Unknown(Unknown::Snapshot) => counts.under_snapshot += 1,
            Outcome::Refused(_)
            | Outcome::Unknown(_)
            | Outcome::Done
            | Outcome::NotTransferred(_)
            | Outcome::Changed { .. }
            | Outcome::NotChanged(_) => {}
        }
    }
}

/// Whether a leader has just committed, after `before`, entries of earlier terms too.
fn inherits(core: &Core<Bytes>, before: Seq) -> bool {
    core.terms().term_of(before.max(core.terms().start())).is_some_and(|term| term < core.term())
}

fn is_pre_vote(message: &Message) -> bool {
    matches!(message, Message::Raft(RaftMessage { body: MessageBody::PreVote { .. }, .. }))
}
