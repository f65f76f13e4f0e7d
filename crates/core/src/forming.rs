//! How a cluster comes into being, once.
//!
//! Every log has an identity of its own. A node without a configuration asks all members who they are. The
//! one with the smallest name waits until all have answered and none has a configuration, then writes the
//! first one, with everybody's identity in it; the others take it from whoever has it. So a node whose disk
//! was lost can't help to found a second cluster: the others tell it that there is one already.

use crate::{
    Configuration, Core, Event, Identity, Member, Message, MessageBody, NodeId, Options, Time,
    Transmit,
};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

#[derive(Debug)]
pub(crate) struct Forming {
    pub(crate) ask_at: Time,
    fingerprint: u64,
    /// Members that answered that they have no configuration.
    unformed: BTreeMap<NodeId, Identity>,
    /// What keeps the cluster from forming; each is reported once.
    complaints: Vec<Event>,
}

impl Forming {
    pub(crate) fn new(options: &Options, now: Time) -> Self {
        let fingerprint =
            Configuration::fingerprint(&options.members, options.rule, options.first_seq);
        Self { ask_at: now, fingerprint, unformed: BTreeMap::new(), complaints: Vec::new() }
    }
}

impl<P: AsRef<[u8]>> Core<P> {
    /// Asks the others who they are.
    pub(crate) fn form(&mut self) {
        if self.now < self.forming.ask_at {
            return;
        }
        self.forming.ask_at = self.now + self.options.heartbeat_interval;
        for &to in self.options.members.iter().filter(|&&id| id != self.options.id) {
            let message = self.introduction(None, MessageBody::Ask);
            self.out.send.push(Transmit::Message { to, message });
        }
        self.found();
    }

    pub(crate) fn answer(&mut self, from: NodeId, identity: Identity) {
        if !self.options.members.contains(&from)
            && self.configuration.as_ref().is_none_or(|c| c.identity_of(from).is_none())
        {
            return;
        }
        if !self.jobs.is_done(self.gate) {
            // A configuration that is not durable yet can't be told, and can't be denied either.
            return;
        }
        let body = MessageBody::Answer {
            configuration: self.configuration.clone(),
            founding: self.forming.fingerprint,
        };
        let message = self.introduction(Some(identity), body);
        self.out.send.push(Transmit::Message { to: from, message });
    }

    pub(crate) fn answered(
        &mut self,
        from: NodeId,
        identity: Identity,
        configuration: Option<Arc<Configuration>>,
        founding: u64,
    ) {
        if self.configuration.is_some() || !self.options.members.contains(&from) {
            return;
        }
        match configuration {
            Some(configuration) => {
                if configuration.identity_of(self.options.id).is_some() {
                    self.configure(configuration);
                } else {
                    self.out.events.push(Event::Malformed {
                        from,
                        what: "has a configuration without this node",
                    });
                }
            }
            None if founding == self.forming.fingerprint => {
                self.forming.unformed.insert(from, identity);
                self.found();
            }
            None => {
                self.forming.unformed.remove(&from);
                self.complain(Event::FoundersDisagree { peer: from });
            }
        }
    }

    /// Writes the first configuration, if this node is the one to do it and all others are known.
    fn found(&mut self) {
        let own = self.options.id;
        let others = self.options.members.iter().filter(|&&id| id != own);
        let known = |id: &NodeId| {
            self.forming.unformed.get(id).map(|&identity| Member { id: *id, identity })
        };
        let Some(mut members) = others.map(known).collect::<Option<Vec<Member>>>() else {
            return;
        };
        if self.configuration.is_some() || members.iter().any(|member| member.id < own) {
            return;
        }
        members.push(Member { id: own, identity: self.identity });
        let Some(configuration) =
            Configuration::new(members, self.options.rule, self.options.first_seq)
        else {
            // Two logs with one identity are copies of each other: a vote of one would pass for the other's.
            self.complain(Event::CopiedLog);
            return;
        };
        let configuration = Arc::new(configuration);
        self.configure(Arc::clone(&configuration));
        for to in self.peer_ids() {
            let body = MessageBody::Answer {
                configuration: Some(Arc::clone(&configuration)),
                founding: self.forming.fingerprint,
            };
            self.send_after(self.gate, to, body);
        }
    }

    fn configure(&mut self, configuration: Arc<Configuration>) {
        let job = self.job();
        job.configuration = Some(Arc::clone(&configuration));
        self.gate = job.job;
        if self.terms.last().is_none() {
            self.begin_log(configuration.first());
        }
        self.configuration = Some(configuration);
        self.reset_election_timer();
        self.out.events.push(if self.is_member() { Event::Configured } else { Event::Wiped });
    }

    fn complain(&mut self, event: Event) {
        if !self.forming.complaints.contains(&event) {
            self.forming.complaints.push(event.clone());
            self.out.events.push(event);
        }
    }

    fn introduction(&self, to: Option<Identity>, body: MessageBody<P>) -> Message<P> {
        Message { from: self.identity, to, term: self.hard_state.term, body }
    }
}
