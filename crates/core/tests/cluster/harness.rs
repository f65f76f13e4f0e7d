//! Nodes with disks, letters between them, and a hand on every lever.
//!
//! A node's `disk` holds the jobs that were written, its `jobs` those that were not yet, and its `view` what
//! the log shows, which is both: a log serves entries before they are durable. A crash loses `jobs` and
//! everything else but the disk.

use crate::check::Checker;
use crate::show;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tinyraftplus_core::{
    ChangeMembers, Configurations, Core, Entry, EntryBody, EntryId, Event, HardState, Identity,
    Input, Load, Loaded, Member, MemberSpec, Message, MessageBody, NodeId, Options, Output,
    Persist, Placed, Plan, Proposal, Resolution, Restored, Role, Rules, Seq, Span, Term, Terms,
    Ticket, Time, Transmit,
};

/// A log as it is on a disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) identity: Identity,
    pub(crate) hard_state: HardState,
    pub(crate) configuration: Option<Arc<Configurations>>,
    pub(crate) start: Seq,
    /// The term of the entry before the start.
    pub(crate) before: Term,
    pub(crate) entries: Vec<Entry<String>>,
    /// What the newest snapshot stands for, and the configuration there.
    pub(crate) snapshot: Option<(EntryId, Placed)>,
}

impl Disk {
    pub(crate) fn empty(identity: Identity, start: Seq) -> Self {
        let (hard_state, before) = (HardState::default(), Term::ZERO);
        let (configuration, snapshot) = (None, None);
        Self { identity, hard_state, configuration, start, before, entries: Vec::new(), snapshot }
    }

    pub(crate) fn end(&self) -> Seq {
        self.start.checked_add(self.entries.len() as u64).unwrap()
    }

    pub(crate) fn entry(&self, seq: Seq) -> Option<&Entry<String>> {
        let at = seq.get().checked_sub(self.start.get())?;
        self.entries.get(usize::try_from(at).unwrap())
    }

    /// Does one job, and checks that it makes sense for the log it is done to.
    fn write(&mut self, job: &Persist<String>) {
        if let Some(hard_state) = job.hard_state {
            assert!(hard_state.term >= self.hard_state.term, "the term goes back");
            self.hard_state = hard_state;
        }
        if let Some(configuration) = &job.configuration {
            self.configuration = Some(Arc::clone(configuration));
        }
        if let Some(first) = job.begin {
            assert!(self.entries.is_empty(), "a log with entries begins anew");
            self.start = first;
        }
        if let Some(last) = job.reset {
            self.entries.clear();
            (self.start, self.before) = (last.seq.after(), last.term);
            let stands = self.snapshot.as_ref().is_some_and(|(it, _)| it.seq >= last.seq);
            assert!(stands, "a log begins anew after {last}, and no snapshot stands for it");
        }
        if let Some(end) = job.trim {
            assert!(self.start <= end && end < self.end(), "a trim outside of the log");
            self.entries.truncate(usize::try_from(end.since(self.start)).unwrap());
            assert!(self.entries.last().is_none_or(|e| e.ends_batch), "a trim splits a batch");
        }
        if let Some(start) = job.compact {
            assert!(self.start <= start && start <= self.end(), "compacts what is not there");
            let mut gone = self.entries.drain(..usize::try_from(start.since(self.start)).unwrap());
            if let Some(last) = gone.next_back() {
                assert!(last.ends_batch, "a compaction splits a batch");
                (self.start, self.before) = (start, last.id.term);
            }
        }
        for entry in &job.append {
            assert_eq!(entry.id.seq, self.end(), "an append leaves a gap");
            self.entries.push(entry.clone());
        }
        self.check_configuration();
        assert!(self.entries.last().is_none_or(|e| e.ends_batch), "a job ends inside a batch");
    }

    /// Remembers the newest configuration among the entries, after they were changed by hand.
    pub(crate) fn remember_newest(&mut self) {
        let known = self.configuration.as_ref().and_then(|all| Some(all.before()?.clone()));
        let of = |entry: &Entry<String>| match &entry.body {
            EntryBody::Configuration(configuration) => {
                let configuration = Arc::clone(configuration);
                Some(Placed { at: Some(entry.id.seq), configuration })
            }
            EntryBody::Noop | EntryBody::Payload(_) => None,
        };
        let mut placed = self.entries.iter().rev().filter_map(of);
        if let Some(newest) = placed.next() {
            let before = placed.next().or_else(|| known.filter(|before| before.at < newest.at));
            self.configuration = Configurations::restored(newest, before).map(Arc::new);
        }
    }

    /// The newest configuration among the entries is the one that is remembered, unless one from beyond the end
    /// is: that of a cluster which this log has joined.
    fn check_configuration(&self) {
        let of = |entry: &Entry<String>| match &entry.body {
            EntryBody::Configuration(configuration) => {
                let configuration = Arc::clone(configuration);
                Some(Placed { at: Some(entry.id.seq), configuration })
            }
            EntryBody::Noop | EntryBody::Payload(_) => None,
        };
        let newest = self.entries.iter().rev().find_map(of);
        let known = self.configuration.as_ref().map(|all| all.newest());
        let elsewhere = known
            .and_then(|known| known.at)
            .is_none_or(|at| newest.is_none() && (at >= self.end() || at < self.start));
        assert!(
            known == newest.as_ref()
                || (elsewhere && newest.is_none())
                || known.is_some_and(|known| known.at >= Some(self.end())),
            "{newest:?} is in force, and {known:?} is remembered"
        );
    }

    pub(crate) fn terms(&self) -> Terms {
        let mut terms = Terms::empty(self.start, self.before);
        for entry in &self.entries {
            terms.append(entry.id.term, 1);
        }
        terms
    }

    /// The entry before the start, if there was one.
    pub(crate) fn before_start(&self) -> Option<EntryId> {
        self.terms().entry_before(self.start)
    }

    /// The entries of a span, if they are all there and have the right terms.
    pub(crate) fn read(&self, span: &Span) -> Option<Vec<Entry<String>>> {
        let seqs = (span.start.get()..span.end.get()).map(Seq::new);
        seqs.map(|seq| {
            let entry = self.entry(seq)?;
            (span.term_of(seq) == Some(entry.id.term)).then(|| entry.clone())
        })
        .collect()
    }

    fn load(&self, load: &Load) -> Loaded {
        let Load { to, number, at_most, end, bytes_max } = *load;
        let mut start = at_most;
        while start > self.start
            && self.entry(start.before().unwrap()).is_some_and(|before| !before.ends_batch)
        {
            start = start.before().unwrap();
        }
        let (mut found, mut bytes, mut upto) = (None, 0, start);
        while upto < end {
            let Some(entry) = self.entry(upto) else { break };
            bytes += Load::ENTRY_COST + size(&entry.body);
            if bytes > bytes_max && found.is_some() {
                break;
            }
            upto = upto.after();
            if entry.ends_batch {
                found = Some((upto, bytes));
            }
        }
        let range = found.map(|(end, _)| (start, end));
        Loaded { to, number, range, bytes: found.map_or(0, |(_, bytes)| bytes) }
    }
}

fn size(body: &EntryBody<String>) -> u64 {
    match body {
        EntryBody::Noop => 0,
        EntryBody::Payload(payload) => payload.len() as u64,
        EntryBody::Configuration(configuration) => 128 * configuration.everyone().count() as u64,
    }
}

pub(crate) struct Node {
    pub(crate) options: Options,
    pub(crate) disk: Disk,
    pub(crate) view: Disk,
    /// `None` while it is down.
    pub(crate) core: Option<Core<String>>,
    pub(crate) jobs: VecDeque<Persist<String>>,
    pub(crate) loads: VecDeque<Load>,
    /// The end of what its state machine has seen since it started.
    pub(crate) applied: Seq,
}

impl Node {
    fn new(options: Options, disk: Disk) -> Self {
        Self {
            applied: options.first_seq,
            view: disk.clone(),
            disk,
            options,
            core: None,
            jobs: VecDeque::new(),
            loads: VecDeque::new(),
        }
    }
}

/// A message under way.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) message: Message<String>,
}

pub(crate) struct Cluster {
    pub(crate) now: Time,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) flying: VecDeque<Letter>,
    pub(crate) answers: Vec<(NodeId, Ticket, Resolution)>,
    pub(crate) events: Vec<(NodeId, Event)>,
    pub(crate) check: Checker,
    /// What happened, in lines, if it is wanted.
    pub(crate) transcript: Option<Vec<String>>,
    /// Letters from the one to the other are lost.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// By how many millionths a node's clock is faster than the cluster's time.
    pub(crate) skew: BTreeMap<NodeId, i64>,
    /// Questions without an answer, and whom they were asked; those of a node that dies are forgotten.
    pub(crate) open: BTreeMap<Ticket, NodeId>,
    /// Disks that finish nothing.
    pub(crate) stuck: BTreeSet<NodeId>,
    next_ticket: u64,
    /// How long new members may take.
    pub(crate) patience: Duration,
    /// Whoever needs a snapshot gets it, in time.
    pub(crate) carries_snapshots: bool,
}

/// The name of a node.
pub(crate) fn id(number: u64) -> NodeId {
    NodeId::from(number)
}

/// The identity of the log that a node has after it was wiped that often.
pub(crate) fn identity(node: NodeId, wiped: u128) -> Identity {
    let number: u128 = node.as_str().parse().unwrap();
    Identity::new(number << 96 | wiped)
}

/// Word that everything before `matched` is durable.
pub(crate) const fn accepted(matched: Seq, round: u64) -> MessageBody<String> {
    MessageBody::Accepted { matched, round, priority: 0, promise: Duration::ZERO }
}

/// An entry that is a batch of its own.
pub(crate) fn entry(term: u64, seq: u64, payload: &str) -> Entry<String> {
    Entry {
        id: EntryId::new(Term::new(term), Seq::new(seq)),
        ends_batch: true,
        body: EntryBody::Payload(payload.to_owned()),
    }
}

impl Cluster {
    /// Nodes 1 to `count` on empty disks, not formed yet.
    pub(crate) fn unformed(count: u64) -> Self {
        Self::with_options(count, |_| {})
    }

    /// The same, with other options.
    pub(crate) fn with_options(count: u64, adjust: impl Fn(&mut Options)) -> Self {
        let ids: Vec<NodeId> = (1..=count).map(id).collect();
        let mut cluster = Self {
            now: Time::ZERO,
            nodes: BTreeMap::new(),
            flying: VecDeque::new(),
            answers: Vec::new(),
            events: Vec::new(),
            check: Checker::default(),
            transcript: None,
            cut: BTreeSet::new(),
            skew: BTreeMap::new(),
            open: BTreeMap::new(),
            stuck: BTreeSet::new(),
            next_ticket: 1,
            patience: Duration::from_mins(1),
            carries_snapshots: false,
        };
        for &id in &ids {
            let seed = id.as_str().parse().unwrap();
            let mut options = Options::new(id, ids.clone(), seed);
            adjust(&mut options);
            let disk = Disk::empty(identity(id, 0), options.first_seq);
            cluster.nodes.insert(id, Node::new(options, disk));
            cluster.start(id);
        }
        cluster
    }

    /// Nodes 1 to `count` that know each other, on empty logs, in term 0.
    pub(crate) fn formed(count: u64) -> Self {
        Self::formed_with(count, |_| {})
    }

    /// The same, with other options.
    pub(crate) fn formed_with(count: u64, adjust: impl Fn(&mut Options)) -> Self {
        let mut cluster = Self::with_options(count, adjust);
        let configuration = cluster.founding();
        for number in 1..=count {
            cluster
                .preset(id(number), |disk| disk.configuration = Some(Arc::clone(&configuration)));
        }
        cluster
    }

    /// Another node, on an empty disk, that knows the names of the others.
    pub(crate) fn join(&mut self, number: u64) {
        self.join_with(number, |_| {});
    }

    /// The same, with other options.
    pub(crate) fn join_with(&mut self, number: u64, adjust: impl Fn(&mut Options)) {
        let first = self.nodes.values().next().unwrap();
        let mut options = first.options.clone();
        options.id = id(number);
        options.seed = number;
        options.members.push(options.id);
        adjust(&mut options);
        let disk = Disk::empty(identity(options.id, 0), options.first_seq);
        self.nodes.insert(id(number), Node::new(options, disk));
        self.start(id(number));
    }

    /// Asks a node for these voters, under the rules in force; comes back with the ticket.
    pub(crate) fn set_voters(&mut self, node: NodeId, voters: &[u64]) -> Ticket {
        let members = voters.iter().map(|&voter| MemberSpec::voter(id(voter))).collect();
        self.set_members(node, members, None)
    }

    /// Asks a node for these members, and rules other than those in force.
    pub(crate) fn set_members(
        &mut self,
        node: NodeId,
        members: Vec<MemberSpec>,
        rules: Option<Rules>,
    ) -> Ticket {
        let (ticket, input) = self.change(node, members, rules);
        self.step(node, input);
        ticket
    }

    /// Such a wish, not handed in yet.
    pub(crate) fn change_input(&mut self, node: NodeId, voters: &[u64]) -> (Ticket, Input<String>) {
        let members = voters.iter().map(|&voter| MemberSpec::voter(id(voter))).collect();
        self.change(node, members, None)
    }

    fn change(
        &mut self,
        node: NodeId,
        members: Vec<MemberSpec>,
        rules: Option<Rules>,
    ) -> (Ticket, Input<String>) {
        let ticket = self.ticket();
        self.open.insert(ticket, node);
        let core = self.core(node);
        let newest = core.configurations().unwrap().newest();
        let rules = rules.unwrap_or_else(|| newest.configuration.now().rules().clone());
        let base = newest.at;
        let plan = Plan::new(members, rules, &self.node(node).options.custom_rules).unwrap();
        let until = self.now + self.patience;
        (ticket, Input::ChangeMembers(ChangeMembers { ticket, base, plan, until }))
    }

    /// The configuration that these nodes would found.
    pub(crate) fn founding(&self) -> Arc<Configurations> {
        let member = |(&id, node): (&NodeId, &Node)| {
            let group = node.options.group;
            Member { group, ..Member::voter(id, node.disk.identity) }
        };
        let options = self.nodes.values().next().map(|node| &node.options);
        let (rules, first) = options
            .map_or_else(|| (Rules::default(), Seq::ZERO), |o| (o.rules.clone(), o.first_seq));
        let members = self.nodes.iter().map(member).collect();
        Arc::new(Configurations::found(members, rules, first).unwrap())
    }

    /// Restarts a node on a disk that was changed by hand.
    pub(crate) fn preset(&mut self, id: NodeId, change: impl FnOnce(&mut Disk)) {
        self.crash(id, 0);
        let disk = &mut self.nodes.get_mut(&id).unwrap().disk;
        change(disk);
        let disk = disk.clone();
        self.check.preset(&disk);
        self.start(id);
    }

    /// Gives a node a log of these terms, each entry a batch of its own, and makes the last its term.
    pub(crate) fn preset_log(&mut self, id: NodeId, terms: &[u64]) {
        self.preset(id, |disk| {
            disk.entries =
                (0..).zip(terms).map(|(at, &t)| entry(t, disk.start.get() + at, "old")).collect();
            disk.hard_state.term = Term::new(terms.last().copied().unwrap_or(0));
        });
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[&id]
    }

    pub(crate) fn core(&self, id: NodeId) -> &Core<String> {
        self.node(id).core.as_ref().unwrap_or_else(|| panic!("node {id} is down"))
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leads = |node: &Node| node.core.as_ref().is_some_and(|c| c.role() == Role::Leader);
        let leaders = self.nodes.iter().filter(|(_, node)| leads(node));
        leaders.max_by_key(|(_, node)| node.core.as_ref().map(Core::term)).map(|(&id, _)| id)
    }

    /// Starts a node that is down, from its disk.
    pub(crate) fn start(&mut self, id: NodeId) {
        let now = self.shows(id);
        let node = self.nodes.get_mut(&id).unwrap();
        assert!(node.core.is_none(), "node {id} is up already");
        let restored = Restored {
            identity: node.disk.identity,
            hard_state: node.disk.hard_state,
            configuration: node.disk.configuration.clone(),
            terms: node.disk.terms(),
        };
        node.view = node.disk.clone();
        node.applied = node.disk.start;
        node.core = Some(Core::new(node.options.clone(), restored, now).unwrap());
        // A crash came between the snapshot and the log's record of it.
        let end = node.disk.end();
        if node.disk.snapshot.as_ref().is_some_and(|(last, _)| last.seq >= end) {
            self.install(id);
        }
    }

    /// A node dies. Of its unfinished jobs the first `written` reached the disk, unconfirmed.
    pub(crate) fn crash(&mut self, id: NodeId, written: usize) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.core = None;
        for job in node.jobs.drain(..).take(written) {
            node.disk.write(&job);
        }
        node.loads.clear();
        self.open.retain(|_, asked| *asked != id);
        let disk = node.disk.clone();
        self.check.crashed(id);
        self.check.durable(&disk);
    }

    pub(crate) fn restart(&mut self, id: NodeId) {
        self.crash(id, 0);
        self.start(id);
    }

    /// A node loses its disk, and starts on an empty one.
    pub(crate) fn wipe(&mut self, id: NodeId) {
        self.crash(id, 0);
        let node = self.nodes.get_mut(&id).unwrap();
        let next = Identity::new(node.disk.identity.get() + 1);
        node.disk = Disk::empty(next, node.options.first_seq);
        self.start(id);
    }

    /// Nothing passes from one to the other any more, or everything does again.
    pub(crate) fn link(&mut self, from: NodeId, to: NodeId, up: bool) {
        if up {
            self.cut.remove(&(from, to));
        } else {
            self.cut.insert((from, to));
        }
    }

    /// Only nodes of the same side reach each other; who is on none reaches nobody.
    pub(crate) fn partition(&mut self, sides: &[&[u64]]) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let together = |a: NodeId, b: NodeId| {
            let has = |side: &&[u64], x: NodeId| side.iter().any(|&n| id(n) == x);
            sides.iter().any(|side| has(side, a) && has(side, b))
        };
        for &a in &ids {
            for &b in &ids {
                self.link(a, b, together(a, b));
            }
        }
        let cut = &self.cut;
        self.flying.retain(|letter| !cut.contains(&(letter.from, letter.to)));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// What a node's clock shows.
    fn shows(&self, id: NodeId) -> Time {
        let elapsed = u128::from(self.now.as_nanos()) * self.speed(id) / 1_000_000;
        Time::from_nanos(u64::try_from(elapsed).unwrap())
    }

    /// When a node wants to be woken, if it is up.
    pub(crate) fn wakes_at(&self, id: NodeId) -> Option<Time> {
        let at = self.nodes[&id].core.as_ref()?.wake_at();
        if at == Time::NEVER {
            return Some(at);
        }
        let when = (u128::from(at.as_nanos()) * 1_000_000).div_ceil(self.speed(id));
        Some(Time::from_nanos(u64::try_from(when).unwrap()))
    }

    fn speed(&self, id: NodeId) -> u128 {
        let skew = self.skew.get(&id).copied().unwrap_or(0);
        u128::try_from(1_000_000 + skew).unwrap()
    }

    /// Something happens to a node. Nothing does while it is down.
    pub(crate) fn step(&mut self, id: NodeId, input: Input<String>) {
        let now = self.shows(id);
        let Some(core) = self.nodes.get_mut(&id).and_then(|node| node.core.as_mut()) else {
            return;
        };
        let is_wake = matches!(input, Input::Wake);
        let output = core.step(now, input);
        assert!(!is_wake || core.wake_at() > now, "node {id} wants to be woken for ever");
        self.carry_out(id, output);
        let node = &self.nodes[&id];
        self.check.step(id, node);
    }

    fn carry_out(&mut self, id: NodeId, output: Output<String>) {
        let Output { persist, send, load, apply, restore, behind, resolve, events } = output;
        if let Some(lines) = &mut self.transcript {
            lines.extend(events.iter().map(|e| show::event(id, &self.nodes[&id], e)));
            lines.extend(
                resolve
                    .iter()
                    .map(|(t, r)| format!("{id} ticket {}: {}", t.0, show::resolution(r))),
            );
            lines.extend(persist.iter().map(|job| format!("{id} persist {}", show::job(job))));
        }
        let node = self.nodes.get_mut(&id).unwrap();
        if let Some(job) = persist {
            self.check.job(&node.view, &job);
            node.view.write(&job);
            node.jobs.push_back(job);
        }
        for transmit in send {
            let (to, message) = match transmit {
                Transmit::Message { to, message } => (to, message),
                Transmit::Entries { to, mut message, span } => {
                    let MessageBody::Append { entries, .. } = &mut message.body else {
                        panic!("only appends are filled");
                    };
                    *entries = node.view.read(&span).expect("the log holds what its leader sends");
                    (to, message)
                }
            };
            if let Some(lines) = &mut self.transcript {
                lines.push(format!("{id} -> {to} {}", show::message(&message)));
            }
            self.check.sent(id, &node.disk, &message);
            if !self.cut.contains(&(id, to)) {
                self.flying.push_back(Letter { from: id, to, message });
            }
        }
        for load in load {
            if let Some(lines) = &mut self.transcript {
                lines.push(format!("{id} load for {}: {}..{}", load.to, load.at_most, load.end));
            }
            node.loads.push_back(load);
        }
        for peer in behind {
            if let Some(lines) = &mut self.transcript {
                lines.push(format!("{id} has a snapshot to send to {peer}"));
            }
        }
        if let Some(last) = restore {
            if let Some(lines) = &mut self.transcript {
                lines.push(format!("{id} restore {last}"));
            }
            Checker::restore(node, last);
            node.applied = last.seq.after();
        }
        if let Some(span) = apply {
            if let Some(lines) = &mut self.transcript {
                lines.push(format!("{id} apply {}..{}", span.start, span.end));
            }
            Checker::apply(node, &span);
            node.applied = span.end;
        }
        let term = node.core.as_ref().map_or(Term::ZERO, Core::term);
        for (ticket, resolution) in resolve {
            self.check.resolved(ticket, &resolution, term);
            if !matches!(resolution, Resolution::Accepted { .. }) {
                assert!(self.open.remove(&ticket).is_some(), "{ticket:?} is answered twice");
            }
            self.answers.push((id, ticket, resolution));
        }
        self.events.extend(events.into_iter().map(|event| (id, event)));
    }

    /// A node takes a snapshot of what it has applied; whether it could.
    pub(crate) fn snapshot(&mut self, id: NodeId) -> bool {
        let node = self.nodes.get_mut(&id).unwrap();
        let core = node.core.as_ref().unwrap();
        let last = core.terms().entry_before(node.applied);
        let placed = core.configuration_at(node.applied).cloned();
        let Some(snapshot) = last.zip(placed) else {
            return false;
        };
        for disk in [&mut node.disk, &mut node.view] {
            disk.snapshot = Some(snapshot.clone());
        }
        true
    }

    /// A node drops what its snapshot stands for.
    pub(crate) fn compact(&mut self, id: NodeId) {
        let before = self.node(id).disk.snapshot.as_ref().unwrap().0.seq.after();
        self.step(id, Input::Compact { before });
    }

    /// The snapshot of one node is durable at another, which has not been told.
    pub(crate) fn copy_snapshot(&mut self, from: NodeId, to: NodeId) {
        let snapshot = self.node(from).disk.snapshot.clone();
        let node = self.nodes.get_mut(&to).unwrap();
        for disk in [&mut node.disk, &mut node.view] {
            disk.snapshot.clone_from(&snapshot);
        }
    }

    /// A node is told of the snapshot that it has.
    pub(crate) fn install(&mut self, id: NodeId) {
        let (last, configuration) = self.node(id).disk.snapshot.clone().unwrap();
        self.step(id, Input::Install { last, configuration });
    }

    /// The oldest unfinished job of a node reaches the disk, and is confirmed. False if there is none.
    pub(crate) fn persist(&mut self, id: NodeId) -> bool {
        let job = self.write(id);
        if let Some(job) = job {
            self.step(id, Input::Persisted { job });
        }
        job.is_some()
    }

    /// The oldest unfinished job of a node reaches the disk, and is not confirmed yet.
    pub(crate) fn write(&mut self, id: NodeId) -> Option<u64> {
        let node = self.nodes.get_mut(&id).unwrap();
        let job = node.jobs.pop_front()?;
        node.disk.write(&job);
        let disk = node.disk.clone();
        self.check.durable(&disk);
        Some(job.job)
    }

    /// There is no space for the oldest unfinished job of a node, so it and all after it are given back. False if
    /// there is none, or it has no entries: then there is space in reserve.
    pub(crate) fn refuse(&mut self, id: NodeId) -> bool {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(job) = node.jobs.front().filter(|job| !job.append.is_empty()) else {
            return false;
        };
        let (job, start) = (job.job, job.append[0].id.seq);
        node.jobs.clear();
        node.view = node.disk.clone();
        self.check.took_back(id, start);
        self.step(id, Input::PersistRefused { job });
        true
    }

    /// The oldest open question about a node's log is answered. False if there is none.
    pub(crate) fn load(&mut self, id: NodeId, readable: bool) -> bool {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(load) = node.loads.pop_front() else {
            return false;
        };
        let found = node.view.load(&load);
        let loaded = if readable { found } else { Loaded { range: None, bytes: 0, ..found } };
        self.step(id, Input::Loaded(loaded));
        true
    }

    /// That letter arrives, or is lost if its receiver is down.
    pub(crate) fn deliver(&mut self, at: usize) {
        let Letter { from, to, message } = self.flying.remove(at).unwrap();
        self.step(to, Input::Receive { from, message });
    }

    /// Everything under way from the one to the other arrives; what that causes does not.
    pub(crate) fn deliver_all(&mut self, from: NodeId, to: NodeId) {
        let (chosen, rest) = std::mem::take(&mut self.flying)
            .into_iter()
            .partition(|letter| (letter.from, letter.to) == (from, to));
        self.flying = rest;
        let chosen: VecDeque<Letter> = chosen;
        for Letter { from, to, message } in chosen {
            self.step(to, Input::Receive { from, message });
        }
    }

    /// A message that nobody sent, or that somebody sent long ago, arrives.
    pub(crate) fn inject(
        &mut self,
        from: NodeId,
        to: NodeId,
        term: u64,
        body: MessageBody<String>,
    ) {
        let (of, at) = (self.node(from).disk.identity, self.node(to).disk.identity);
        let message = Message { from: of, to: Some(at), term: Term::new(term), body };
        self.step(to, Input::Receive { from, message });
    }

    /// What a node has sent, which then never arrives.
    pub(crate) fn take_sent_by(&mut self, from: NodeId) -> VecDeque<Letter> {
        let (chosen, rest) =
            std::mem::take(&mut self.flying).into_iter().partition(|letter| letter.from == from);
        self.flying = rest;
        chosen
    }

    /// Time passes until a node wants to be woken, and it is.
    pub(crate) fn wake(&mut self, id: NodeId) {
        let at = self.wakes_at(id).unwrap();
        assert!(at < Time::NEVER, "node {id} never wakes");
        self.now = self.now.max(at);
        self.step(id, Input::Wake);
    }

    /// Asks a node to append a batch; comes back with the ticket.
    pub(crate) fn propose(&mut self, id: NodeId, payloads: &[&str]) -> Ticket {
        let ticket = self.ticket();
        self.open.insert(ticket, id);
        let payloads = payloads.iter().map(|&p| p.to_owned()).collect();
        self.step(id, Input::Propose(vec![Proposal { ticket, payloads }]));
        ticket
    }

    pub(crate) fn read(&mut self, id: NodeId) -> Ticket {
        let ticket = self.ticket();
        self.check.asked(ticket);
        self.open.insert(ticket, id);
        self.step(id, Input::Read { ticket });
        ticket
    }

    /// Asks a node to hand its leadership over; comes back with the ticket.
    pub(crate) fn transfer(&mut self, id: NodeId, to: NodeId) -> Ticket {
        let ticket = self.ticket();
        self.open.insert(ticket, id);
        self.step(id, Input::Transfer { ticket, to });
        ticket
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket - 1)
    }

    /// The newest answer to a ticket.
    pub(crate) fn answer(&self, ticket: Ticket) -> Option<Resolution> {
        self.answers.iter().rev().find(|(_, t, _)| *t == ticket).map(|(_, _, answer)| *answer)
    }

    /// Everything that is under way arrives, in order, until nothing is. Time stands still.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1_000_000 {
            let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
            let mut busy = false;
            for id in ids {
                busy |= (!self.stuck.contains(&id) && self.persist(id)) || self.load(id, true);
            }
            if !self.flying.is_empty() {
                self.deliver(0);
                busy = true;
            }
            busy |= self.carries_snapshots && self.carry_snapshot();
            if !busy {
                return;
            }
        }
        panic!("the cluster does not come to rest");
    }

    /// One that needs a snapshot gets that of its leader. False if nobody does.
    fn carry_snapshot(&mut self) -> bool {
        let needing = |from: NodeId| {
            let peers = self.node(from).core.iter().flat_map(Core::peers);
            peers.filter(|(_, peer)| peer.needs_snapshot).map(move |(to, _)| (from, to))
        };
        let ids = self.nodes.keys().copied();
        let lacks = |&(from, to): &(NodeId, NodeId)| {
            let last = self.node(from).disk.snapshot.as_ref().map(|(last, _)| *last);
            let takes = |core: &Core<String>| {
                let fits = |last: EntryId| last.seq >= core.committed() && last.term <= core.term();
                !core.installs() && last.is_some_and(fits)
            };
            self.node(to).core.as_ref().is_some_and(takes)
        };
        let Some((from, to)) = ids.flat_map(needing).find(lacks) else {
            return false;
        };
        self.copy_snapshot(from, to);
        self.install(to);
        true
    }

    /// The next deadline, and nothing that follows from it. False if nobody waits for anything.
    pub(crate) fn advance_a_bit(&mut self) -> bool {
        let deadlines = self.nodes.keys();
        let next = deadlines.filter_map(|&id| Some((self.wakes_at(id)?, id))).min();
        let Some((at, id)) = next.filter(|(at, _)| *at < Time::NEVER) else {
            return false;
        };
        self.now = self.now.max(at);
        self.step(id, Input::Wake);
        true
    }

    /// The next deadline, then everything that follows from it. False if nobody waits for anything.
    pub(crate) fn advance(&mut self) -> bool {
        self.settle();
        let is_awaited = self.advance_a_bit();
        self.settle();
        is_awaited
    }

    /// Lets time pass until something holds; whether it came to hold within that many deadlines.
    pub(crate) fn until(&mut self, deadlines: usize, holds: impl Fn(&Self) -> bool) -> bool {
        self.settle();
        for _ in 0..deadlines {
            if holds(self) {
                return true;
            }
            if !self.advance() {
                break;
            }
        }
        holds(self)
    }

    /// Lets a node that leads already step down for lack of a quorum, and be elected again.
    pub(crate) fn elect_by_campaign(&mut self, id: NodeId) {
        self.now = self.now + self.node(id).options.election_timeout * 3;
        self.wake(id);
        assert_ne!(self.core(id).role(), Role::Leader);
        self.flying.clear();
        self.elect(id);
    }

    /// Makes that node the leader, with the votes of all that it reaches.
    pub(crate) fn elect(&mut self, id: NodeId) {
        for _ in 0..20 {
            // Long enough that nobody believes in the old leader any more; others' deadlines are left alone.
            self.now = self.now + self.node(id).options.election_timeout * 3;
            self.wake(id);
            self.settle();
            if self.core(id).role() == Role::Leader {
                return;
            }
        }
        panic!("node {id} is not elected: {}", show::status(id, self.node(id)));
    }
}
