//! The state of a node, and one step of it.
//!
//! This file holds what every role shares: the term rule, persist jobs and what waits for them, commit and
//! apply. What a role does is in `election`, `leader`, `follower` and `forming`.

use crate::election::Campaign;
use crate::electorate::Active;
use crate::follower::Acknowledgement;
use crate::forming::Forming;
use crate::ids::Peer;
use crate::jobs::Jobs;
use crate::leader::Leader;
use crate::lease;
use crate::planted::{self, Bug};
use crate::priority::Preference;
use crate::rng::Rng;
use crate::snapshots::Installing;
use crate::space::Space;
use crate::transfer::Transfer;
use crate::{
    Configuration, Configurations, EntryId, Event, HardState, Identity, Input, Message,
    MessageBody, NodeId, Options, OptionsError, Output, PeerStatus, Persist, Refusal, Resolution,
    Rising, Seq, Term, Terms, Ticket, Time, Transmit,
};
use alloc::{boxed::Box, collections::VecDeque, sync::Arc, vec::Vec};
use core::mem;

/// How many messages may wait for the disk: more are dropped, and their senders ask again.
const HELD_MAX: usize = 1024;

/// What part a node plays in its term.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Does not vote: the cluster has not formed, or the configuration says so, or does not name this node's log.
    Learner,
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// What a node remembers across a restart.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The identity of its log.
    pub identity: Identity,
    /// Term and vote.
    pub hard_state: HardState,
    /// The configurations, once the cluster has formed.
    pub configuration: Option<Arc<Configurations>>,
    /// Which entries the log holds.
    pub terms: Terms,
}

impl Restored {
    /// What a new log remembers: nothing.
    pub const fn empty(identity: Identity) -> Self {
        Self {
            identity,
            hard_state: HardState { term: Term::ZERO, vote: None },
            configuration: None,
            terms: Terms::empty(Seq::ZERO, Term::ZERO),
        }
    }

    /// Checks that this is the log of that node, and that its term is not behind its entries.
    fn check(&self, id: NodeId) -> Result<(), OptionsError> {
        let named = self.configuration.as_ref();
        let owner = named.and_then(|all| all.newest().configuration.name_of(self.identity));
        if let Some(owner) = owner.filter(|&owner| owner != id) {
            return Err(OptionsError::LogOfAnother { id, owner });
        }
        match self.terms.last() {
            Some(last) if last.term > self.hard_state.term => {
                Err(OptionsError::TermBehindLog { last, term: self.hard_state.term })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// A node of the cluster, without everything that touches the world.
///
/// Invariants, besides Raft's own:
///
/// * `applied <= committed`, and `applied` never passes what is durable here: the state machine must not be
///   ahead of the log that it is rebuilt from.
/// * Committed entries are never trimmed.
/// * A message that speaks for a term, a vote or an entry leaves only when that is durable.
#[derive(Debug)]
pub struct Core<P> {
    pub(crate) options: Options,
    pub(crate) identity: Identity,
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    /// Term and vote as decided, durable once `gate` is.
    pub(crate) hard_state: HardState,
    pub(crate) active: Option<Active>,
    pub(crate) terms: Terms,
    pub(crate) jobs: Jobs,
    /// The newest job that changed the hard state or the configuration: nothing that speaks for the term
    /// leaves before it is durable.
    pub(crate) gate: u64,
    pub(crate) part: Part,
    pub(crate) leader: Option<Peer>,
    /// When the leader of this term last spoke.
    pub(crate) leader_contact: Option<Time>,
    /// It votes for nobody until then, except on the leader's own wish.
    pub(crate) promised_until: Time,
    pub(crate) election_at: Time,
    /// The job that the disk is stuck on.
    pub(crate) stalled: Option<u64>,
    pub(crate) forming: Forming,
    pub(crate) committed: Seq,
    pub(crate) out: Output<P>,
    pub(crate) applied: Seq,
    pub(crate) installing: Option<Installing>,
    pub(crate) held: Vec<Held<P>>,
    pub(crate) acknowledgements: VecDeque<Acknowledgement>,
    pub(crate) pending: Rising<(Seq, Term), (Ticket, EntryId)>,
    /// The newest term of which something was seen committed while proposals were pending.
    term_committed: Term,
    term_at_start: Term,
    /// How many questions about old entries were asked: a late answer must not pass for one of another term.
    pub(crate) loads: u64,
    pub(crate) full_reported: bool,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) is_paused: bool,
    pub(crate) space: Space,
    pub(crate) preference: Preference,
}

/// What a role needs to remember.
#[derive(Debug)]
pub(crate) enum Part {
    Follower,
    Candidate(Campaign),
    Leader(Box<Leader>),
}

/// A message that waits for a job, and the term it speaks for.
#[derive(Debug)]
pub(crate) struct Held<P> {
    pub(crate) job: u64,
    term: Term,
    pub(crate) send: Transmit<P>,
}

impl<P: AsRef<[u8]>> Core<P> {
    /// A node that starts, or restarts, with what its log remembers.
    ///
    /// # Errors
    ///
    /// If the options do not fit each other.
    pub fn new(options: Options, restored: Restored, now: Time) -> Result<Self, OptionsError> {
        options.check()?;
        restored.check(options.id)?;
        let Restored { identity, hard_state, configuration, mut terms } = restored;
        if terms.last().is_none() {
            let first = configuration.as_ref().map(|all| all.newest().configuration.first());
            terms = Terms::empty(first.unwrap_or(options.first_seq), Term::ZERO);
        }
        let active = configuration
            .map(|all| Active::new(all, &options.custom_rules))
            .transpose()
            .map_err(OptionsError::Rule)?;
        let mut core = Self {
            identity,
            now,
            rng: Rng::new(options.seed, identity),
            hard_state,
            jobs: Jobs::new(terms.end()),
            gate: 0,
            part: Part::Follower,
            leader: None,
            leader_contact: None,
            promised_until: now + lease::quiet_after_start(&options, active.is_some()),
            election_at: now,
            stalled: None,
            forming: Forming::new(&options, now),
            committed: terms.start(),
            applied: terms.start(),
            installing: None,
            out: Output::default(),
            held: Vec::new(),
            acknowledgements: VecDeque::new(),
            pending: Rising::new(),
            term_committed: Term::ZERO,
            term_at_start: hard_state.term,
            loads: 0,
            full_reported: false,
            transfer: None,
            is_paused: false,
            space: Space::default(),
            preference: Preference::new(),
            active,
            terms,
            options,
        };
        core.reset_election_timer();
        // Comes with the first step.
        core.tell_differences();
        Ok(core)
    }

    /// What happens now. Never fails, never blocks. Time that goes back is taken as standing still.
    pub fn step(&mut self, now: Time, input: Input<P>) -> Output<P> {
        self.now = self.now.max(now);
        match input {
            Input::Wake => self.wake(),
            Input::Receive { from, message } => self.receive(from, message),
            Input::Propose(proposals) => self.propose(proposals),
            Input::Read { ticket } => self.read(ticket),
            Input::Transfer { ticket, to } => self.transfer(ticket, to),
            Input::Campaign => self.campaign_now(),
            Input::StepDown => self.resign(),
            Input::Pause(is_paused) => self.pause(is_paused),
            Input::Alive { from, term } => self.alive(from, term),
            Input::Persisted { job } => self.persisted(job),
            Input::PersistStalled { job } => self.persist_stalled(job),
            Input::PersistRefused { job } => self.persist_refused(job),
            Input::Loaded(loaded) => self.loaded(loaded),
            Input::ChangeMembers(change) => self.change_members(change),
            Input::Compact { before } => self.compact(before),
            Input::Install { last, configuration } => self.install(last, configuration),
        }
        self.watch_transfer();
        self.lead_on();
        self.settle();
        mem::take(&mut self.out)
    }

    /// When to come again with [`Input::Wake`], unless something else happens first.
    pub fn wake_at(&self) -> Time {
        let mine = match &self.part {
            _ if self.active.is_none() => self.forming.ask_at,
            Part::Follower | Part::Candidate(_) if !self.may_lead() || self.sits_still() => {
                Time::NEVER
            }
            Part::Leader(leader) => leader.wake_at(),
            Part::Follower | Part::Candidate(_) => self.election_at,
        };
        mine.min(self.transfer_wake_at())
    }

    /// This node's name.
    pub const fn id(&self) -> NodeId {
        self.options.id
    }

    /// The identity of this node's log.
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// The part it plays.
    pub fn role(&self) -> Role {
        match self.part {
            Part::Follower if !self.may_lead() => Role::Learner,
            Part::Follower => Role::Follower,
            Part::Candidate(_) => Role::Candidate,
            Part::Leader(_) => Role::Leader,
        }
    }

    /// Its term.
    pub const fn term(&self) -> Term {
        self.hard_state.term
    }

    /// Who leads this term, as far as it knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader.map(|leader| leader.id)
    }

    /// The identity of the log of whoever leads this term.
    pub fn leader_identity(&self) -> Option<Identity> {
        self.leader.map(|leader| leader.identity)
    }

    /// The configuration in force, committed or not, once it knows one.
    pub fn configuration(&self) -> Option<&Arc<Configuration>> {
        self.active.as_ref().map(Active::configuration)
    }

    /// The configurations that it remembers, once it knows one.
    pub fn configurations(&self) -> Option<&Arc<Configurations>> {
        self.active.as_ref().map(Active::all)
    }

    /// The position after the last entry that is known to be committed.
    pub const fn committed(&self) -> Seq {
        self.committed
    }

    /// The position after the last entry that is on this disk.
    pub fn durable(&self) -> Seq {
        self.jobs.durable()
    }

    /// Whether that persist job is under way: neither confirmed nor given back.
    pub const fn awaits(&self, job: u64) -> bool {
        self.jobs.is_begun(job) && !self.jobs.is_done(job)
    }

    /// Which entries the log holds, durable or on their way.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Whether it was told to sit still.
    pub const fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// What a leader knows of its peers, by name; empty for others.
    pub fn peers(&self) -> impl Iterator<Item = (NodeId, PeerStatus)> {
        let leader = match &self.part {
            Part::Leader(leader) => Some(leader),
            Part::Follower | Part::Candidate(_) => None,
        };
        leader.into_iter().flat_map(|leader| leader.status())
    }

    /// The term that was durable when this process started: what it did in terms up to it, it has forgotten.
    pub const fn term_at_start(&self) -> Term {
        self.term_at_start
    }

    pub(crate) fn wake(&mut self) {
        if self.active.is_none() {
            self.form();
        } else if matches!(self.part, Part::Leader(_)) {
            self.check_quorum();
        } else if self.may_lead() && self.now >= self.election_at {
            if self.now < self.promised_until {
                self.election_at = self.promised_until;
            } else {
                self.pre_campaign();
            }
        }
    }

    fn receive(&mut self, from: NodeId, message: Message<P>) {
        let strange = message
            .malformed()
            .or_else(|| (from == self.options.id).then_some("claims to be from this node"));
        if let Some(what) = strange {
            self.out.events.push(Event::Malformed { from, what });
            return;
        }
        let Message { from: identity, to, term, body } = message;
        if to.is_some_and(|to| to != self.identity) && !planted::is(Bug::TrustWiped) {
            // Meant for the log that this node had before its disk was lost.
            return;
        }
        // Requests are taken from whoever makes them: the sender may have been added by an entry that this log
        // lacks. Whose answers count is decided where they are counted, by the log that gave them: a node that
        // lost its disk has forgotten its votes, and must not be counted as if it had not.
        let from = Peer { id: from, identity };
        let body = match body {
            MessageBody::Ask { number } => return self.answer(from, number),
            MessageBody::Answer { number, configuration, founding, group } => {
                return match &self.active {
                    Some(_) => self.introduced(from, number, configuration.as_ref()),
                    None => self.answered(from, configuration, founding, group),
                };
            }
            body @ (MessageBody::PreVote { .. }
            | MessageBody::PreVoteReply { .. }
            | MessageBody::Vote { .. }
            | MessageBody::VoteReply { .. }
            | MessageBody::Append { .. }
            | MessageBody::Accepted { .. }
            | MessageBody::Rejected { .. }
            | MessageBody::TimeoutNow) => body,
        };
        if self.active.is_none() {
            // It knows no cluster yet, so it can't know what this is about.
            return;
        }
        // A pre-vote, and a yes to one, speak of a term that does not exist yet. A no carries the term of the
        // sender: nodes whose terms differ must learn of it, or they refuse each other for ever.
        let speaks_of_future = matches!(
            body,
            MessageBody::PreVote { .. } | MessageBody::PreVoteReply { granted: true }
        ) || planted::is(Bug::DeafPreVote)
            && matches!(body, MessageBody::PreVoteReply { .. });
        if matches!(body, MessageBody::Vote { transfer: false, .. }) && self.has_promised() {
            // Not even its term counts: this leader may be answering reads on the strength of the promise.
            return;
        }
        if term > self.hard_state.term && !speaks_of_future {
            self.adopt_term(term);
        }
        match body {
            MessageBody::PreVote { last } => self.on_pre_vote(from, term, last),
            MessageBody::PreVoteReply { granted } => self.on_pre_vote_reply(from, term, granted),
            MessageBody::Vote { last, .. } => self.on_vote(from, term, last),
            MessageBody::VoteReply { granted } => self.on_vote_reply(from, term, granted),
            MessageBody::Append { prev, entries, committed, round } => {
                self.on_append(from, term, prev, entries, committed, round);
            }
            MessageBody::Accepted { matched, round, priority, promise } => {
                if self.on_accepted(from, term, matched, round) {
                    self.told(from.id, priority);
                    self.promised(from, round, promise);
                }
            }
            MessageBody::Rejected { prev, hint, round } => {
                self.on_rejected(from, term, prev, hint, round);
            }
            MessageBody::TimeoutNow => self.on_timeout_now(from, term),
            MessageBody::Ask { .. } | MessageBody::Answer { .. } => {}
        }
    }

    /// A newer term begins: whatever this node was in the old one, it no longer is (Raft section 5.1).
    fn adopt_term(&mut self, term: Term) {
        self.begin_term(HardState { term, vote: None });
        self.step_down();
    }

    /// Moves to a newer term, and forgets the acknowledgements that still wait for the disk: sent now, they
    /// would speak for the new term before it is durable, and confirm to its leader the rounds of another's.
    pub(crate) fn begin_term(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
        if hard_state.vote.is_some() || !planted::is(Bug::ForgetTerm) {
            self.persist_hard_state();
        }
        if !planted::is(Bug::StaleAcknowledgement) {
            self.acknowledgements.clear();
        }
    }

    /// Becomes a follower that knows no leader. The term and the vote stay: a vote belongs to its term, not
    /// to a leader.
    pub(crate) fn step_down(&mut self) {
        if let Part::Leader(leader) = mem::replace(&mut self.part, Part::Follower) {
            let refused = Resolution::Refused(Refusal::NotLeader { leader: None });
            self.out.resolve.extend(leader.into_waiting().map(|(ticket, began)| {
                (ticket, if began { Resolution::Unsettled } else { refused })
            }));
        }
        self.leader = None;
        self.leader_contact = None;
        self.reset_election_timer();
        self.out.events.push(Event::Changed);
    }

    /// It can't write: it neither leads nor stands for election.
    pub(crate) fn give_up(&mut self) {
        if matches!(self.part, Part::Leader(_)) {
            self.out.events.push(Event::Yielded);
        }
        if !matches!(self.part, Part::Follower) {
            self.step_down();
        }
    }

    pub(crate) fn reset_election_timer(&mut self) {
        let jitter = u64::try_from(self.options.election_jitter.as_nanos()).unwrap_or(u64::MAX);
        let drawn = core::time::Duration::from_nanos(self.rng.below(jitter.saturating_add(1)));
        self.election_at = self.now + self.options.election_timeout + drawn;
    }

    /// This node, as it speaks now.
    pub(crate) const fn me(&self) -> Peer {
        Peer { id: self.options.id, identity: self.identity }
    }

    /// Whether this node's present log counts in quorums.
    pub(crate) fn votes(&self) -> bool {
        self.configuration().is_some_and(|c| c.counts(self.options.id, self.identity))
    }

    /// Whether this node may have to lead: it counts, or did before an entry that may still be replaced.
    ///
    /// From {A} to {C}: A has the entry that removes it, and more that C lacks. C needs a vote of A by the joint
    /// configuration that it knows, and A refuses one with less; if A did not campaign either, nobody ever could
    /// (thesis section 4.2.2).
    pub(crate) fn may_lead(&self) -> bool {
        let Some(active) = &self.active else {
            return false;
        };
        let settled = active.all().settled(self.committed);
        self.votes() || settled.configuration.counts(self.options.id, self.identity)
    }

    /// All others that a candidate asks or a leader sends to.
    pub(crate) fn others(&self) -> Vec<Peer> {
        let everyone = self.active.iter().flat_map(|active| active.configuration().everyone());
        let peers =
            everyone.filter_map(|member| Some(Peer { id: member.id, identity: member.identity? }));
        peers.filter(|peer| peer.id != self.options.id).collect()
    }

    /// Takes a configuration into force, and remembers it with the write of this step.
    pub(crate) fn activate(&mut self, active: Active) {
        let job = self.job();
        job.configuration = Some(Arc::clone(active.all()));
        if let Some(before) = self.active.clone() {
            self.jobs.note_configurations(before);
        }
        let names = |active: &Active| active.configuration().names(self.options.id, self.identity);
        let (was, is) = (self.active.as_ref().is_some_and(names), names(&active));
        self.active = Some(active);
        self.out.events.push(if was && !is { Event::Removed } else { Event::Configured });
        self.tell_differences();
    }

    /// A message to a node, for this term.
    pub(crate) const fn message(&self, to: Peer, body: MessageBody<P>) -> Message<P> {
        let term = self.hard_state.term;
        Message { from: self.identity, to: Some(to.identity), term, body }
    }

    /// Sends now what needs nothing to be durable but what already is.
    pub(crate) fn send(&mut self, to: Peer, body: MessageBody<P>) {
        let message = self.message(to, body);
        self.out.send.push(Transmit::Message { to: to.id, message });
    }

    /// Sends a message once that job is durable, unless another term has begun by then.
    pub(crate) fn send_after(&mut self, job: u64, to: Peer, body: MessageBody<P>) {
        let message = self.message(to, body);
        let send = Transmit::Message { to: to.id, message };
        if self.jobs.is_done(job) {
            self.out.send.push(send);
        } else if self.held.len() < HELD_MAX {
            self.held.push(Held { job, term: self.hard_state.term, send });
        }
    }

    /// The write of this step, begun if there is none yet.
    pub(crate) fn job(&mut self) -> &mut Persist<P> {
        let jobs = &mut self.jobs;
        self.out.persist.get_or_insert_with(|| Persist::new(jobs.begin()))
    }

    /// The log, still empty, begins at `first`.
    pub(crate) fn begin_log(&mut self, first: Seq) {
        self.terms = Terms::empty(first, Term::ZERO);
        self.jobs.begin_log(first);
        (self.committed, self.applied) = (first, first);
    }

    pub(crate) fn persist_hard_state(&mut self) {
        let hard_state = self.hard_state;
        let job = self.job();
        job.hard_state = Some(hard_state);
        self.gate = job.job;
    }

    pub(crate) fn persisted(&mut self, job: u64) {
        if self.jobs.writes_entries(job) {
            self.space.returned();
        }
        if !self.jobs.finish(job) {
            return;
        }
        if self.stalled.is_some_and(|stalled| stalled <= job) {
            self.stalled = None;
        }
        let (ready, waiting): (Vec<Held<P>>, Vec<Held<P>>) =
            mem::take(&mut self.held).into_iter().partition(|held| held.job <= job);
        self.held = waiting;
        let (term, stands) = (self.hard_state.term, matches!(self.part, Part::Candidate(_)));
        let holds = |held: &Held<P>| held.term == term && (stands || !held.send.asks_for_vote());
        self.out.send.extend(ready.into_iter().filter(holds).map(|held| held.send));
        self.acknowledge();
        self.installed();
        self.own_vote_durable();
    }

    fn persist_stalled(&mut self, job: u64) {
        if !self.awaits(job) {
            return;
        }
        self.stalled = Some(job);
        // Its heartbeats would keep a leader in office that can't write: let another one lead. And who asks for votes would
        // begin a term that it can't write, be deaf to everybody in older ones, and depose their leader later.
        self.give_up();
    }

    /// After a committed entry nothing of an older term is ever committed: whoever waits for such an entry is told so now,
    /// as the log may not get that far again for long.
    fn refuse_replaced(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let committed = self.terms.entry_before(self.committed);
        let Some(term) = committed.map(|id| id.term).filter(|&term| term > self.term_committed)
        else {
            return;
        };
        self.term_committed = term;
        let resolve = &mut self.out.resolve;
        self.pending.retain(|(_, of), (ticket, _)| {
            if *of < term {
                resolve.push((*ticket, Resolution::Refused(Refusal::Replaced)));
            }
            *of >= term
        });
    }

    /// Hands out what is settled: outcomes of proposals, and entries for the state machine.
    fn settle(&mut self) {
        while let Some(&((seq, term), (ticket, first))) = self.pending.first() {
            if seq >= self.committed {
                break;
            }
            self.pending.pop_first();
            let last = EntryId { term, seq };
            let resolution = match self.terms.became(last) {
                Some(true) => Resolution::Committed { first, last },
                Some(false) => Resolution::Refused(Refusal::Replaced),
                None => Resolution::Unsettled,
            };
            self.out.resolve.push((ticket, resolution));
        }
        self.refuse_replaced();
        let durable =
            if planted::is(Bug::ApplyPastDurable) { Seq::MAX } else { self.jobs.durable() };
        let end = self.committed.min(durable);
        if end > self.applied {
            self.out.apply = Some(self.terms.span(self.applied, end));
            self.applied = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Member, QuorumRule};

    fn start(id: u64, restored: Restored) -> Result<Core<&'static str>, OptionsError> {
        let members = [1, 2, 3].map(NodeId::from).to_vec();
        Core::new(Options::new(NodeId::from(id), members, 1), restored, Time::ZERO)
    }

    fn configured(identity: u128) -> Restored {
        let member = |n: u64| Member::voter(n.into(), Identity::new(n.into()));
        let members = [1, 2, 3].map(member).to_vec();
        let configuration = Configurations::found(members, QuorumRule::Majority, Seq::ZERO);
        Restored {
            configuration: configuration.ok().map(Arc::new),
            ..Restored::empty(Identity::new(identity))
        }
    }

    /// Started on the directory of node 2, node 1 would vote and acknowledge under two names.
    #[test]
    fn the_log_of_another_member_is_refused() {
        assert!(start(1, configured(1)).is_ok());
        let refused = start(1, configured(2)).map(|_| ());
        let expected = OptionsError::LogOfAnother { id: NodeId::from(1), owner: NodeId::from(2) };
        assert_eq!(refused, Err(expected));
        assert_eq!(start(1, configured(9)).map(|core| core.role()), Ok(Role::Learner));
    }

    /// An entry and its term come in one write, so a log that has one without the other has lost votes too.
    #[test]
    fn a_term_behind_the_log_is_refused() {
        let mut restored = configured(1);
        restored.terms.append(Term::new(7), 2);
        let last = EntryId::new(Term::new(7), Seq::new(1));
        let refused = start(1, restored.clone()).map(|_| ());
        assert_eq!(refused, Err(OptionsError::TermBehindLog { last, term: Term::ZERO }));
        restored.hard_state.term = Term::new(7);
        assert!(start(1, restored).is_ok());
    }
}
