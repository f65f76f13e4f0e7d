//! How a cluster comes into being, once, and how a node finds one that is there.
//!
//! Every log has an identity of its own. A node without a configuration asks all members who they are. The
//! one with the smallest name waits until all have answered and none has a configuration, then writes the
//! first one, with everybody's identity in it; the others take it from whoever has it. So a node whose disk
//! was lost can't help to found a second cluster: the others tell it that there is one already.
//!
//! A configuration is taken only by a log that it names, and only if it can't be taken back any more.

use crate::electorate::Active;
use crate::ids::Peer;
use crate::quorum::{Group, Quorums, RuleError, Voter, VoterSet};
use crate::{
    Configuration, ConfigurationError, Configurations, Core, Event, Identity, Member, Membership,
    Message, MessageBody, NodeId, Options, Placed, Time, Transmit,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::ToString,
    sync::Arc,
    vec::Vec,
};

/// A node that nobody needs asks less and less often, down to every eighth time.
const PATIENCE_MAX: u32 = 8;

#[derive(Debug)]
pub(crate) struct Forming {
    pub(crate) ask_at: Time,
    /// How many heartbeat intervals lie before the next question.
    patience: u32,
    founding: u64,
    /// The members of a configuration that was told, and does not name this node's log: the leader may be one that this
    /// node was not started with.
    told: Vec<NodeId>,
    /// Members that answered that they have no configuration.
    unformed: BTreeMap<NodeId, (Identity, Option<Group>)>,
    /// What keeps the cluster from forming, and other things that are reported once.
    complaints: Vec<Event>,
}

impl Forming {
    pub(crate) fn new(options: &Options, now: Time) -> Self {
        Self {
            ask_at: now,
            patience: 1,
            told: Vec::new(),
            founding: options.founding(),
            unformed: BTreeMap::new(),
            complaints: Vec::new(),
        }
    }
}

impl<P: AsRef<[u8]>> Core<P> {
    /// Asks the others who they are.
    pub(crate) fn form(&mut self) {
        if self.now < self.forming.ask_at {
            return;
        }
        let interval = self.options.heartbeat_interval;
        self.forming.ask_at = self.now + interval.saturating_mul(self.forming.patience);
        if self.forming.complaints.iter().any(|it| matches!(it, Event::NotAMember | Event::Wiped)) {
            self.forming.patience = (self.forming.patience * 2).min(PATIENCE_MAX);
        }
        let asked: BTreeSet<NodeId> =
            self.options.members.iter().chain(&self.forming.told).copied().collect();
        for to in asked.into_iter().filter(|&id| id != self.options.id) {
            let message = self.introduction(None, MessageBody::Ask { number: 0 });
            self.out.send.push(Transmit::Message { to, message });
        }
        self.found();
    }

    pub(crate) fn answer(&mut self, from: Peer, number: u64) {
        self.asked(from);
        if !self.jobs.is_done(self.gate) {
            // A configuration that is not durable yet can't be told, and can't be denied either.
            return;
        }
        let known = self.active.as_ref().map(|active| active.all().settled(self.committed));
        let body = self.introducing(known.cloned(), number);
        let message = self.introduction(Some(from.identity), body);
        self.out.send.push(Transmit::Message { to: from.id, message });
    }

    pub(crate) fn answered(
        &mut self,
        from: Peer,
        configuration: Option<Placed>,
        founding: u64,
        group: Option<Group>,
    ) {
        match configuration {
            Some(placed) => self.take_configuration(placed),
            None if self.options.joins || !self.options.members.contains(&from.id) => {}
            None if founding == self.forming.founding => {
                self.forming.unformed.insert(from.id, (from.identity, group));
                self.found();
            }
            None => {
                self.forming.unformed.remove(&from.id);
                self.complain(Event::FoundersDisagree { peer: from.id });
            }
        }
    }

    fn take_configuration(&mut self, placed: Placed) {
        let me = self.me();
        if placed.configuration.names(me.id, me.identity) {
            return self.configure(placed);
        }
        self.forming.told = placed.configuration.everyone().map(|member| member.id).collect();
        if placed.configuration.identity_of(me.id).is_some() {
            self.complain(Event::Wiped);
        } else if placed.configuration.member(me.id).is_none() {
            self.complain(Event::NotAMember);
        }
    }

    /// Writes the first configuration, if this node is the one to do it and the others are known.
    fn found(&mut self) {
        let own = self.options.id;
        let ids = &self.options.members;
        if self.active.is_some() || self.options.joins || ids.iter().any(|&id| id < own) {
            return;
        }
        let member = |&id: &NodeId| {
            let known = self.forming.unformed.get(&id).copied();
            let (identity, group) = match known {
                _ if id == own => (Some(self.identity), self.options.group),
                Some((identity, group)) => (Some(identity), group),
                None => (None, None),
            };
            Member { id, identity, group, votes: true }
        };
        let members: Vec<Member> = ids.iter().map(member).collect();
        if members.iter().any(|member| member.identity.is_none())
            && !self.options.form_with_majority
        {
            return;
        }
        match self.first_configuration(members) {
            Ok(Some(configuration)) => self.tell_first(configuration),
            Ok(None) => {}
            Err(complaint) => self.complain(complaint),
        }
    }

    /// What these members found, if those present could elect a leader, and commit: else nobody could ever bind those
    /// that are absent.
    fn first_configuration(&self, members: Vec<Member>) -> Result<Option<Configuration>, Event> {
        let membership =
            Membership::new(members, self.options.rules.clone()).map_err(|error| match error {
                // Two logs with one identity are copies of each other: a vote of one would pass for the other's.
                ConfigurationError::IdentityTwice(..) => Event::CopiedLog,
                ConfigurationError::NameTwice(_)
                | ConfigurationError::LearnerWithoutLog(_)
                | ConfigurationError::NoVoters
                | ConfigurationError::TooManyMembers { .. }
                | ConfigurationError::NoFounder
                | ConfigurationError::NoRoom => Event::UnsafeRule(RuleError::NoVoters),
            })?;
        let voters: Vec<Voter> = membership.electors();
        let quorums = Quorums::compile(&voters, membership.rules(), &self.options.custom_rules)
            .and_then(|quorums| quorums.check().map(|()| quorums))
            .map_err(Event::UnsafeRule)?;
        let present = membership.voters().enumerate().filter(|(_, m)| m.identity.is_some());
        let present: VoterSet = present.map(|(at, _)| at).collect();
        if !quorums.elects(present) || !quorums.commits(present) {
            return Ok(None);
        }
        Ok(Configuration::found(membership, self.options.first_seq).ok())
    }

    fn tell_first(&mut self, configuration: Configuration) {
        let placed = Placed { at: None, configuration: Arc::new(configuration) };
        self.configure(placed.clone());
        for to in self.others() {
            let body = self.introducing(Some(placed.clone()), 0);
            self.send_after(self.gate, to, body);
        }
    }

    fn configure(&mut self, placed: Placed) {
        let first = placed.configuration.first();
        let all = Arc::new(Configurations::first(placed));
        match Active::new(all, &self.options.custom_rules) {
            Ok(active) => {
                self.activate(active);
                let empty = self.terms.last().is_none();
                let job = self.job();
                job.begin = empty.then_some(first);
                self.gate = job.job;
                if empty {
                    self.begin_log(first);
                }
                self.reset_election_timer();
            }
            Err(RuleError::UnknownRule { rule }) => self.complain(Event::UnknownRule(rule)),
            Err(error) => self.complain(Event::UnsafeRule(error)),
        }
    }

    /// Says once where the configuration in force differs from what this node was started with.
    pub(crate) fn tell_differences(&mut self) {
        let Some(configuration) = self.configuration().map(Arc::clone) else {
            return;
        };
        let rules = configuration.now().rules();
        // One that joins has no say in the rules.
        if *rules != self.options.rules && !self.options.joins {
            let (option, decides) = (self.options.rules.to_string(), rules.to_string());
            self.complain(Event::OptionsDiffer { what: "quorum rule", option, decides });
        }
        if let Some(member) = configuration.member(self.options.id)
            && member.group != self.options.group
        {
            let label =
                |group: Option<Group>| group.map_or_else(|| "none".into(), |it| it.to_string());
            let (option, decides) = (label(self.options.group), label(member.group));
            self.complain(Event::OptionsDiffer { what: "group", option, decides });
        }
    }

    fn complain(&mut self, event: Event) {
        if let Event::OptionsDiffer { what, .. } = event {
            // Only the newest counts: rules may change for ever.
            let same =
                |it: &Event| matches!(it, Event::OptionsDiffer { what: it, .. } if *it == what);
            self.forming.complaints.retain(|it| *it == event || !same(it));
        }
        if !self.forming.complaints.contains(&event) {
            self.forming.complaints.push(event.clone());
            self.out.events.push(event);
        }
    }

    pub(crate) fn introducing(&self, configuration: Option<Placed>, number: u64) -> MessageBody<P> {
        let (founding, group) = (self.forming.founding, self.options.group);
        MessageBody::Answer { number, configuration, founding, group }
    }

    pub(crate) fn introduction(&self, to: Option<Identity>, body: MessageBody<P>) -> Message<P> {
        Message { from: self.identity, to, term: self.hard_state.term, body }
    }
}
