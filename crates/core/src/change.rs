//! Changing who belongs to the cluster (Raft section 6, thesis chapter 4).
//!
//! ```text
//!   finding ----> learning ----> joint ----> there
//!   who are       new voters     a quorum    a quorum of the new
//!   the new?      catch up       of both     membership alone
//! ```
//!
//! New voters receive before they vote: one that counts from the start, with an empty log, could hold up every
//! commit. Where no set of voters changes, the joint step is left out. Whichever leader finds a committed joint
//! configuration ends it; what comes before is over when the leader is.
//!
//! A member whose disk was lost asks who is there, under a new identity. Once its old log has been silent for an
//! election timeout, its name is bound to the new one by the same joint step: in the old half its old log counts and can't speak, so a quorum without it has to
//! agree. A voter that was absent when the cluster formed is bound the same way.

use crate::core::Part;
use crate::electorate::Electorate;
use crate::ids::Peer;
use crate::leader::{has_committed, progress_of};
use crate::planted::{self, Bug};
use crate::progress::Progress;
use crate::{
    ChangeMembers, Configuration, Core, Entry, EntryBody, EntryId, Event, Identity, Member,
    Membership, MessageBody, NodeId, Placed, Plan, Refusal, Resolution, Seq, Term, Ticket, Time,
};
use alloc::{collections::BTreeMap, sync::Arc, vec, vec::Vec};
use core::mem;

/// What a leader knows of changes that are wanted.
#[derive(Debug, Default)]
pub(crate) struct Changing {
    wanted: Option<Wanted>,
    /// How many questions were put in this term.
    questions: u64,
    /// Logs that asked under the name of a member whose log is another, or who has none yet, and the question
    /// that they are to answer before it is believed: one that was lost may have asked long ago.
    strange: BTreeMap<NodeId, (Identity, u64)>,
    /// Those that have answered.
    newcomers: BTreeMap<NodeId, Identity>,
}

#[derive(Debug)]
struct Wanted {
    ticket: Ticket,
    plan: Plan,
    until: Time,
    stage: Stage,
    /// The logs of those that were not members when it was asked for, by their answers to this question.
    found: BTreeMap<NodeId, Identity>,
    question: u64,
    ask_at: Time,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Waits until the new members have said who they are.
    Finding,
    /// Waits until the new voters have caught up.
    Learning,
    /// On the way through the log.
    Entering,
}

impl Changing {
    /// Whoever waits for the change, and whether something may have come of it already.
    pub(crate) fn into_ticket(self) -> Option<(Ticket, bool)> {
        self.wanted.map(|wanted| (wanted.ticket, wanted.stage != Stage::Finding))
    }

    /// The number of a new question: no other of this log has it, by whichever process.
    const fn question(&mut self, term: Term) -> u64 {
        self.questions += 1;
        (term.get() << 32).wrapping_add(self.questions)
    }

    pub(crate) fn wake_at(&self) -> Time {
        self.wanted.as_ref().map_or(Time::NEVER, |wanted| match wanted.stage {
            Stage::Finding | Stage::Learning => wanted.until,
            Stage::Entering => Time::NEVER,
        })
    }
}

impl<P: AsRef<[u8]>> Core<P> {
    pub(crate) fn change_members(&mut self, change: ChangeMembers) {
        let ChangeMembers { ticket, base, plan, until } = change;
        let at = self.active.as_ref().and_then(crate::electorate::Active::at);
        let committed = self.committed;
        let settled = at.is_none_or(|at| at < committed);
        let joint = self.configuration().is_some_and(|c| c.old().is_some());
        let refusal = match &self.part {
            Part::Follower | Part::Candidate(_) => {
                Some(Refusal::NotLeader { leader: self.leader() })
            }
            Part::Leader(_) if base != at => Some(Refusal::MembersChanged { at }),
            Part::Leader(leader) if leader.changing.wanted.is_some() || joint || !settled => {
                Some(Refusal::ChangeUnderWay)
            }
            Part::Leader(_) => None,
        };
        if let Some(refusal) = refusal {
            self.out.resolve.push((ticket, Resolution::Refused(refusal)));
            return;
        }
        let term = self.hard_state.term;
        if let Part::Leader(leader) = &mut self.part {
            let (stage, found, ask_at) = (Stage::Finding, BTreeMap::new(), self.now);
            let question = leader.changing.question(term);
            leader.changing.wanted =
                Some(Wanted { ticket, plan, until, stage, found, question, ask_at });
        }
    }

    /// A log without a configuration asks who is there. If it may be a newcomer it is asked back: its question may
    /// have been long on its way, and it may have been lost since. If its name were bound to it again then, the log
    /// that has its place, which knows a configuration and so asks nobody, would never get it back.
    pub(crate) fn asked(&mut self, from: Peer) {
        let term = self.hard_state.term;
        let (Part::Leader(leader), Some(active)) = (&mut self.part, &self.active) else {
            return;
        };
        let changing = &mut leader.changing;
        let is_known = changing.newcomers.get(&from.id) == Some(&from.identity);
        if is_known || !is_newcomer(active.configuration(), from) {
            return;
        }
        let before = changing.strange.get(&from.id).filter(|(log, _)| *log == from.identity);
        let number = match before {
            Some(&(_, number)) => number,
            None => changing.question(term),
        };
        changing.strange.insert(from.id, (from.identity, number));
        let message = self.introduction(Some(from.identity), MessageBody::Ask { number });
        self.out.send.push(crate::Transmit::Message { to: from.id, message });
    }

    /// Somebody has said who it is.
    pub(crate) fn introduced(&mut self, from: Peer, number: u64, configuration: Option<&Placed>) {
        let (Part::Leader(leader), Some(active)) = (&mut self.part, &self.active) else {
            return;
        };
        let known = active.configuration();
        if let Some(wanted) = &mut leader.changing.wanted
            && wanted.stage == Stage::Finding
            && wanted.question == number
            && wanted.plan.members().iter().any(|member| member.id == from.id)
        {
            let foreign =
                configuration.is_some_and(|it| it.configuration.cluster() != known.cluster());
            if foreign {
                return self.refuse_change(Refusal::ForeignCluster(from.id));
            }
            wanted.found.insert(from.id, from.identity);
            leader.changing.strange.remove(&from.id);
            leader.changing.newcomers.remove(&from.id);
        }
        // Only a log that knows no configuration is new: an old one may be a copy that somebody has kept. And while the
        // log speaks that has the name, it is not lost.
        let has_answered = leader.changing.strange.get(&from.id) == Some(&(from.identity, number));
        let is_lost = !leader.hears(from.id, self.now, self.options.election_timeout);
        if configuration.is_none() && has_answered && is_lost && is_newcomer(known, from) {
            leader.changing.strange.remove(&from.id);
            leader.changing.newcomers.insert(from.id, from.identity);
        }
    }

    /// Takes the next step of a change, once the one before is committed.
    pub(crate) fn change_on(&mut self) {
        let (committed, term) = (self.committed, self.hard_state.term);
        self.expire_change();
        let Some(active) = &self.active else {
            return;
        };
        // Before a leader's own first commit, another configuration that it does not know of may be committed:
        // two changes of one voter each would have quorums without a common member (Ongaro 2015).
        let committed_own =
            has_committed(&self.terms, committed, term) || planted::is(Bug::ChangeBeforeOwnCommit);
        let is_settled = active.at().is_none_or(|at| at < committed);
        if !committed_own || !is_settled && !planted::is(Bug::OverlapChanges) {
            return;
        }
        self.introduce();
        let Some(active) = &self.active else {
            return;
        };
        if active.configuration().old().is_some() && !planted::is(Bug::StayJoint) {
            let left = active.configuration().left();
            self.append_configuration(left);
            return;
        }
        self.bind_newcomers();
        self.advance_wanted();
    }

    /// Ends a change whose time is up, however little has come of it. What is in the log already goes on.
    fn expire_change(&mut self) {
        let now = self.now;
        let (Part::Leader(leader), Some(active)) = (&self.part, &self.active) else {
            return;
        };
        let Some(wanted) = leader.changing.wanted.as_ref().filter(|it| it.until <= now) else {
            return;
        };
        let known = active.configuration();
        let settled = active.at().is_none_or(|at| at < self.committed);
        match wanted.stage {
            Stage::Finding => {
                let mut ids = wanted.plan.members().iter().map(|member| member.id);
                let missing =
                    ids.find(|id| known.member(*id).is_none() && !wanted.found.contains_key(id));
                self.refuse_change(missing.map_or(Refusal::Busy, Refusal::Unreachable));
            }
            Stage::Learning if !settled => self.end_change(Resolution::Unsettled),
            // Once it is settled what was done, it can be undone.
            Stage::Learning | Stage::Entering => {}
        }
    }

    /// Takes back that new voters became learners, and says who was too slow.
    fn give_up_on(&mut self, slow: NodeId) {
        let (Part::Leader(leader), Some(active)) = (&self.part, &self.active) else {
            return;
        };
        let Some(wanted) = &leader.changing.wanted else {
            return;
        };
        let configuration = Arc::clone(active.configuration());
        let stay = configuration.members().iter().copied();
        let stay = stay.filter(|member| member.votes || !wanted.found.contains_key(&member.id));
        let before = Membership::new(stay.collect(), configuration.now().rules().clone());
        self.refuse_change(Refusal::TooSlow(slow));
        if let Ok(before) = before
            && before != *configuration.now()
        {
            self.append_configuration(configuration.towards(before));
        }
    }

    /// Tells logs that were just added where they belong, once that can't be taken back. Tells them again until they
    /// answer: they ask, too, but perhaps nobody who knows them.
    fn introduce(&mut self) {
        let known = self.active.as_ref().map(|active| active.all().newest().clone());
        let (now, patience) = (self.now, self.options.election_timeout);
        let Part::Leader(leader) = &mut self.part else {
            return;
        };
        let mut strangers = Vec::new();
        for (&id, peer) in &mut leader.peers {
            let is_due = peer.introduced.is_none_or(|at| now.since(at) >= patience);
            if !peer.heard && is_due {
                peer.introduced = Some(now);
                strangers.push(Peer { id, identity: peer.identity });
            }
        }
        for to in strangers {
            let body = self.introducing(known.clone(), 0);
            self.send(to, body);
        }
    }

    fn advance_wanted(&mut self) {
        let at = self.active.as_ref().and_then(crate::electorate::Active::at);
        let Part::Leader(leader) = &self.part else {
            return;
        };
        if at.is_some_and(|at| at >= self.committed) {
            return;
        }
        match leader.changing.wanted.as_ref().map(|wanted| wanted.stage) {
            Some(Stage::Finding) => self.find(),
            Some(Stage::Learning) => self.wait_for_learners(),
            Some(Stage::Entering) => self.end_change(Resolution::Changed { at }),
            None => {}
        }
    }

    /// Asks new members who they are; when all have answered, lets them receive.
    fn find(&mut self) {
        let (now, interval) = (self.now, self.options.heartbeat_interval);
        let me = self.me();
        let (Part::Leader(leader), Some(active)) = (&mut self.part, &self.active) else {
            return;
        };
        let Some(wanted) = &mut leader.changing.wanted else {
            return;
        };
        let configuration = Arc::clone(active.configuration());
        // A leader that was removed may be asked to come back, and need not ask itself.
        let log_of = |id| match configuration.member(id) {
            Some(member) => member.identity,
            None if id == me.id => Some(me.identity),
            None => wanted.found.get(&id).copied(),
        };
        let specs = wanted.plan.members().iter().map(|spec| spec.id);
        let is_missing = |id: &NodeId| configuration.member(*id).is_none() && log_of(*id).is_none();
        let missing: Vec<NodeId> = specs.filter(is_missing).collect();
        if !missing.is_empty() {
            if now >= wanted.ask_at {
                wanted.ask_at = now + interval;
                let number = wanted.question;
                for to in missing {
                    let message = self.introduction(None, MessageBody::Ask { number });
                    self.out.send.push(crate::Transmit::Message { to, message });
                }
            }
            return;
        }
        let target = match target(&wanted.plan, log_of) {
            Ok(target) => target,
            Err(error) => return self.refuse_change(Refusal::NoConfiguration(error)),
        };
        let strangers = target.members().iter().filter(|m| configuration.member(m.id).is_none());
        let learners: Vec<Member> =
            strangers.map(|&member| Member { votes: false, ..member }).collect();
        wanted.stage = Stage::Learning;
        if learners.is_empty() {
            self.wait_for_learners();
        } else {
            let mut members = configuration.now().members().to_vec();
            members.extend(learners);
            match Membership::new(members, configuration.now().rules().clone()) {
                Ok(with) => self.append_configuration(configuration.towards(with)),
                Err(error) => self.refuse_change(Refusal::NoConfiguration(error)),
            }
        }
    }

    /// When the new voters have nearly all that is committed, begins to count them.
    fn wait_for_learners(&mut self) {
        let (now, committed, me) = (self.now, self.committed, self.me());
        let (distance, patience) = (self.options.promote_distance, self.options.election_timeout);
        let (Part::Leader(leader), Some(active)) = (&mut self.part, &self.active) else {
            return;
        };
        let Some(wanted) = &mut leader.changing.wanted else {
            return;
        };
        let configuration = Arc::clone(active.configuration());
        let target = match target(&wanted.plan, |id| configuration.identity_of(id)) {
            Ok(target) => target,
            Err(error) => return self.refuse_change(Refusal::NoConfiguration(error)),
        };
        let ready = |member: &Member| {
            let near = |peer: &Progress| {
                let lately = peer.contact.is_some_and(|at| now.since(at) <= patience);
                peer.heard && lately && committed.since(peer.matched) <= distance
            };
            member.is(me.id, me.identity) || progress_of(&leader.peers, member).is_some_and(near)
        };
        let is_new = |member: &Member| {
            configuration.now().member(member.id).is_none_or(|known| !known.votes)
        };
        // From here on nothing is decided without a quorum of the new membership: one that is not there now
        // would lock the cluster out of its own log.
        let next = configuration.towards(target.clone());
        let decides = Electorate::new(&next.left(), &self.options.custom_rules)
            .is_ok_and(|electorate| electorate.elects(ready) && electorate.may_commit(ready));
        let mut missing = target.voters().filter(|member| !ready(member));
        let slow = missing.find(|member| !decides || is_new(member)).map(|member| member.id);
        match slow {
            None if target == *configuration.now() => {
                let at = active.at();
                self.end_change(Resolution::Changed { at });
            }
            None => {
                wanted.stage = Stage::Entering;
                self.append_configuration(next);
            }
            Some(id) if now >= wanted.until => self.give_up_on(id),
            Some(_) => {}
        }
    }

    /// Binds the names of members to the logs that speak for them now, if no other change is under way.
    fn bind_newcomers(&mut self) {
        let (Part::Leader(leader), Some(active)) = (&mut self.part, &self.active) else {
            return;
        };
        let at = active.at();
        let settled = at.is_none_or(|at| at < self.committed);
        let is_begun =
            leader.changing.wanted.as_ref().is_some_and(|wanted| wanted.stage != Stage::Finding);
        if is_begun || leader.changing.newcomers.is_empty() || !settled {
            return;
        }
        let newcomers = mem::take(&mut leader.changing.newcomers);
        if planted::is(Bug::ForgetNewcomers) {
            return;
        }
        let configuration = Arc::clone(active.configuration());
        let bound = configuration.members().iter().map(|member| {
            let identity = newcomers.get(&member.id).copied();
            Member { identity: identity.or(member.identity), ..*member }
        });
        let rules = configuration.now().rules().clone();
        if let Ok(next) = Membership::new(bound.collect(), rules)
            && next != *configuration.now()
        {
            self.append_configuration(configuration.towards(next));
        }
    }

    fn append_configuration(&mut self, configuration: Configuration) {
        let seq = self.terms.end();
        if seq == Seq::MAX {
            return self.refuse_change(Refusal::LogFull);
        }
        let Some(active) = &self.active else {
            return;
        };
        let configuration = Arc::new(configuration);
        let placed = Placed { at: Some(seq), configuration: Arc::clone(&configuration) };
        match active.with(placed, &self.options.custom_rules) {
            Ok(next) => {
                self.activate(next);
                // Before the entry is there, so that it is what new peers are sent first: an idle leader would have
                // nothing to say to them, and never learn that they lack everything.
                self.know_peers(false);
                let id = EntryId { term: self.hard_state.term, seq };
                let body = EntryBody::Configuration(configuration);
                self.append_own(vec![Entry { id, ends_batch: true, body }]);
            }
            Err(crate::quorum::RuleError::UnknownRule { rule }) => {
                self.out.events.push(Event::UnknownRule(rule));
                self.refuse_change(Refusal::UnfitRules);
            }
            Err(_) => self.refuse_change(Refusal::UnfitRules),
        }
    }

    fn refuse_change(&mut self, refusal: Refusal) {
        self.end_change(Resolution::Refused(refusal));
    }

    fn end_change(&mut self, resolution: Resolution) {
        if let Part::Leader(leader) = &mut self.part
            && let Some(wanted) = leader.changing.wanted.take()
        {
            self.out.resolve.push((wanted.ticket, resolution));
        }
    }

    /// Lets those go that are no members any more: peers once they know it, and this node once a quorum of
    /// the others does (thesis section 4.2.2).
    pub(crate) fn retire(&mut self) {
        let patience = self.options.election_timeout.saturating_mul(2);
        let (now, committed) = (self.now, self.committed);
        let Some(active) = &self.active else {
            return;
        };
        let at = active.at();
        if let Part::Leader(leader) = &mut self.part {
            if leader.peers.values().any(|peer| peer.leaving.is_some()) {
                leader.peers.retain(|_, peer| {
                    let knows = at.is_none_or(|at| peer.committed_told > at && peer.matched > at);
                    let overdue = |since| now.since(since) >= patience;
                    peer.leaving.is_none_or(|since| !knows && !overdue(since))
                });
            }
            let settled = at.is_none_or(|at| at < committed);
            let is_over = settled && active.configuration().old().is_none() && !self.votes();
            if is_over && !planted::is(Bug::LeadUnnamed) {
                self.resign();
            }
        }
    }
}

/// Whether this log speaks under the name of a member, and is not the one that may.
fn is_newcomer(known: &Configuration, log: Peer) -> bool {
    known.member(log.id).is_some() && known.name_of(log.identity).is_none()
}

fn target(
    plan: &Plan,
    log_of: impl Fn(NodeId) -> Option<Identity>,
) -> Result<Membership, crate::ConfigurationError> {
    let member = |spec: &crate::MemberSpec| Member {
        id: spec.id,
        identity: log_of(spec.id),
        group: spec.group,
        votes: spec.votes,
    };
    Membership::new(plan.members().iter().map(member).collect(), plan.rules().clone())
}
