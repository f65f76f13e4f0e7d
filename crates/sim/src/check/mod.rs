//! What must hold, always. One file a property; all of them look at every step, and at what is new only.
//!
//! Most checks compare against [`model`]: what each log should hold by what was written to it, kept a second
//! time in the dumbest possible way.

pub(crate) mod calls;
pub(crate) mod committed;
pub(crate) mod completeness;
pub(crate) mod durability;
pub(crate) mod election;
#[cfg(test)]
mod histories;
pub(crate) mod leases;
pub(crate) mod lineage;
pub(crate) mod matching;
pub(crate) mod model;
pub(crate) mod promises;
pub(crate) mod quorums;
pub(crate) mod reads;
pub(crate) mod states;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tinyraftplus_core::{
    Configuration, Configurations, Core, EntryId, Event as RaftEvent, Identity, Role, Seq, Term,
    Terms, Time,
};
use tinyraftplus_log::{LogEntry, Write};
use tinyraftplus_replica::{Apply, Event, Message, SnapshotMeta};

use self::{
    calls::Calls, committed::Committed, completeness::Completeness, election::Election,
    leases::Leases, lineage::Lineage, matching::Matching, model::Model, promises::Promises,
    states::States,
};
use crate::machine::Machine;

/// A property that did not hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// The name of the property.
    pub check: &'static str,
    /// What was seen instead, in a sentence.
    pub what: String,
}

impl Violation {
    pub(crate) const fn new(check: &'static str, what: String) -> Self {
        Self { check, what }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.what)
    }
}

/// What a check says.
pub(crate) type Verdict = Result<(), Violation>;

/// Returns a violation of `check` unless the condition holds.
macro_rules! require {
    ($condition:expr, $check:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::check::Violation::new($check, format!($($what)+)));
        }
    };
}
pub(crate) use require;

/// What a node says of itself after a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) role: Role,
    pub(crate) term: Term,
    /// Everything before this is committed.
    pub(crate) committed: Seq,
    /// Everything before this is on its disk.
    pub(crate) durable: Seq,
    pub(crate) terms: &'a Terms,
    /// Whether it was told to sit still.
    pub(crate) sits_still: bool,
}

impl<'a> View<'a> {
    pub(crate) fn of(core: &'a Core<Bytes>, sits_still: bool) -> Self {
        Self {
            role: core.role(),
            term: core.term(),
            committed: core.committed(),
            durable: core.durable(),
            terms: core.terms(),
            sits_still,
        }
    }
}

/// All checks of a run.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) nodes: Vec<NodeModel>,
    pub(crate) matching: Matching,
    pub(crate) committed: Committed,
    pub(crate) calls: Calls,
    pub(crate) lineage: Lineage,
    pub(crate) leases: Leases,
    states: States,
    election: Election,
    completeness: Completeness,
    promises: Promises,
    /// Whether nodes may be looked at while they run. Without, only disks, clients and leaders' words count.
    inside: bool,
}

/// What is known of a node.
#[derive(Debug)]
pub(crate) struct NodeModel {
    pub(crate) identity: Identity,
    /// The log as the node has decided it.
    pub(crate) decided: Model,
    /// The log as it is on disk.
    pub(crate) durable: Model,
    /// What was on the disks that it lost, by their logs: it was there when it was acknowledged.
    pub(crate) lost: Vec<(Identity, Model)>,
    /// The configuration that was in force before its last step.
    before: Option<Arc<Configurations>>,
    /// Up to where its disk held what it had decided, before it decided what its last step brings.
    durable_before: Seq,
    /// Up to where it has said that entries are committed, since it started.
    pub(crate) committed: Seq,
    /// Up to where its state machine has been given entries, since it started.
    pub(crate) applied: Seq,
}

impl NodeModel {
    /// The logs of this node, lost ones too, whose disks hold that entry.
    pub(crate) fn holding(&self, id: EntryId) -> impl Iterator<Item = Identity> {
        let now = std::iter::once((self.identity, &self.durable));
        let lost = self.lost.iter().map(|(identity, model)| (*identity, model));
        now.chain(lost).filter(move |(_, model)| model.has(id)).map(|(identity, _)| identity)
    }

    /// The configurations by which it may have decided in its last step: the one that was in force before, and
    /// the one that is now. A leader that has committed the one goes on to the next at once.
    pub(crate) fn in_force(&self) -> Vec<Arc<Configuration>> {
        let all = [&self.before, &self.decided.configuration];
        all.into_iter().flatten().map(|all| Arc::clone(&all.newest().configuration)).collect()
    }

    /// The configurations by which a leader may have committed that position in its last step. It begins the next
    /// one only when the one before is committed, and everything up to that by nothing newer.
    pub(crate) fn deciding(&self, seq: Seq) -> Vec<Arc<Configuration>> {
        let Some(before) = self.before.as_ref().map(|all| all.newest()) else {
            return self.in_force();
        };
        let mut deciding = vec![Arc::clone(&before.configuration)];
        let mut at = before.at;
        for (next, configuration) in self.decided.changes_after(before.at) {
            if at < Some(seq) {
                deciding.push(Arc::new(configuration.clone()));
            }
            at = Some(next);
        }
        deciding
    }

    /// Up to where its disk holds what the node has decided: a suffix that is still being replaced is there too,
    /// and does not count.
    pub(crate) fn durable_end(&self) -> Seq {
        let (durable, decided) = (&self.durable, &self.decided);
        let mut end = durable.end().min(decided.end());
        // Logs that agree on an entry agree on all before it.
        while let Some(id) = end.before().and_then(|last| durable.entry(last))
            && end > durable.start()
            && !decided.has(id)
        {
            end = id.seq;
        }
        end
    }
}

impl Checks {
    pub(crate) fn new(node_count: usize, start: Seq, inside: bool) -> Self {
        let node = || NodeModel {
            identity: Identity::new(0),
            decided: Model::new(start),
            durable: Model::new(start),
            lost: Vec::new(),
            before: None,
            durable_before: start,
            committed: start,
            applied: start,
        };
        Self {
            nodes: (0..node_count).map(|_| node()).collect(),
            matching: Matching::default(),
            committed: Committed::new(start),
            calls: Calls::new(start),
            lineage: Lineage::default(),
            leases: Leases::default(),
            states: States::new(start),
            election: Election::default(),
            completeness: Completeness::default(),
            promises: Promises::default(),
            inside,
        }
    }

    fn node(&mut self, at: usize) -> &mut NodeModel {
        self.nodes.get_mut(at).expect("as many models as nodes")
    }

    /// A node has taken a step; what it writes and says comes next.
    pub(crate) fn on_step_begun(&mut self, at: usize) {
        let node = self.node(at);
        node.durable_before = node.durable_end();
    }

    /// A node has decided to write this.
    pub(crate) fn on_write(&mut self, at: usize, write: &Write) -> Verdict {
        let model = &mut self.nodes.get_mut(at).expect("as many models as nodes").decided;
        self.matching.on_write(at, model, write)?;
        self.lineage.on_write(at, model, write)?;
        model.apply(at, write)
    }

    /// There was no space for these, which a node had decided to write: it takes them back, and what it knew of them.
    pub(crate) fn on_refused(&mut self, at: usize, void: &[Write]) {
        let node = self.node(at);
        node.decided = node.durable.clone();
        for write in void {
            let start = write.trim.or_else(|| write.append.first().map(|entry| entry.id.seq));
            node.committed = start.map_or(node.committed, |start| node.committed.min(start));
        }
    }

    /// The disk of a node has made this durable.
    pub(crate) fn on_durable(&mut self, at: usize, write: &Write) -> Verdict {
        self.lineage.on_durable(at, write.configuration.as_ref())?;
        self.node(at).durable.apply(at, write)
    }

    /// A node has taken a step, and its writes were noted.
    pub(crate) fn on_step(&mut self, at: usize, view: View<'_>) -> Verdict {
        let node = self.nodes.get(at).expect("as many models as nodes");
        durability::agrees(at, node, view)?;
        let leads = view.role == Role::Leader;
        let is_active = matches!(view.role, Role::Leader | Role::Candidate);
        require!(
            !view.sits_still || !is_active,
            "who was told to sit still does",
            "node {} is a {:?} in term {}",
            at + 1,
            view.role,
            view.term
        );
        if leads {
            self.election.on_leader(at, view.term)?;
            if self.inside {
                self.promises.on_leader(at, node, view.term)?;
                Lineage::on_leader(at, node, view)?;
            }
            self.completeness.on_leader(at, view, &self.committed)?;
        }
        // A snapshot stands for what comes before the start: where it ends must be what is committed there.
        let before_start = node.decided.start().before().and_then(|last| node.decided.entry(last));
        if let Some(before) = before_start {
            require!(
                self.committed.entry(before.seq) == Some(before),
                "logs begin after what is committed",
                "the log of node {} begins after {before}, and {:?} is committed there",
                at + 1,
                self.committed.entry(before.seq)
            );
        }
        let (before, end) = (node.committed, view.committed);
        require!(
            end >= before,
            "committed never changes",
            "node {} took back its commits from {before} to {end}",
            at + 1
        );
        let mut first_seen = None;
        if end > before {
            let from = before.max(node.decided.start());
            for seq in (from.get()..end.get()).map(Seq::new) {
                let new = self.committed.on_committed(at, node, seq, &self.matching)?;
                if let Some(entry) = new {
                    first_seen = Some(entry.id);
                    self.completeness.on_committed(view.term, seq);
                    if self.inside {
                        durability::on_quorum(&self.nodes, at, leads, entry.id)?;
                    }
                    let leader = self.election.leader(entry.id.term);
                    let leader = leader.and_then(|at| self.nodes.get(at)).map(|node| node.identity);
                    self.states.on_committed(entry);
                    self.lineage.on_committed(entry, leader);
                    self.calls.on_committed(seq, entry)?;
                }
            }
            self.node(at).committed = end;
        }
        require!(
            !self.inside || !leads || first_seen.is_none_or(|id| id.term == view.term),
            "a leader commits by an entry of its own term",
            "node {} commits up to {first_seen:?} in term {}",
            at + 1,
            view.term
        );
        let node = self.node(at);
        node.before.clone_from(&node.decided.configuration);
        Ok(())
    }

    /// A leader holds a lease, while the clocks of the nodes show that.
    pub(crate) fn on_lease(&self, at: usize, core: &Core<Bytes>, clocks: &[Time]) -> Verdict {
        let logs = self.nodes.iter().map(|node| node.identity);
        let clocks = logs.zip(clocks.iter().copied()).collect();
        match core.configuration().filter(|_| self.inside) {
            Some(decides) => {
                self.leases.on_lease(at, core.term(), decides, core.identity(), &clocks)
            }
            None => Ok(()),
        }
    }

    /// A node reports this. All nodes are correct, so none may find that another is not.
    pub(crate) fn on_events(&self, at: usize, events: &[Event]) -> Verdict {
        let strange = events.iter().find_map(|event| match event {
            Event::Malformed { from, what } | Event::Raft(RaftEvent::Malformed { from, what }) => {
                Some(format!("node {} takes node {from} for broken: it {what}", at + 1))
            }
            Event::Changed { .. }
            | Event::Committed { .. }
            | Event::Applied { .. }
            | Event::Raft(_)
            | Event::LoadFailed { .. }
            | _ => None,
        });
        match strange.filter(|_| self.inside) {
            Some(what) => Err(Violation::new("no node seems broken", what)),
            None => Ok(()),
        }
    }

    /// A node has sent this.
    pub(crate) fn on_sent(
        &mut self,
        at: usize,
        to: usize,
        shown: Time,
        message: &Message,
    ) -> Verdict {
        let Message::Raft(message) = message else {
            return Ok(());
        };
        let node = self.nodes.get(at).expect("as many models as nodes");
        let receiver = self.nodes.get(to).map(|node| node.identity);
        self.election.on_sent(at, message)?;
        if self.inside {
            self.leases.on_sent(at, node.identity, shown, message)?;
        }
        self.promises.on_sent(at, node, receiver, self.inside, message)
    }

    /// A state machine is given these.
    pub(crate) fn on_apply(&mut self, at: usize, apply: &Apply) -> Verdict {
        let node = self.nodes.get_mut(at).expect("as many models as nodes");
        self.committed.on_apply(at, node, apply, &self.matching)
    }

    /// The state machine of a node is asked for a snapshot: it is what everything up to `last` makes.
    pub(crate) fn on_snapshot(&self, at: usize, last: EntryId, machine: &Machine) -> Verdict {
        let committed = self.committed.entry(last.seq);
        require!(
            committed == Some(last) && self.states.are(last, machine),
            "a snapshot is of what is committed",
            "node {} takes a snapshot up to {last} of {machine:?}; {committed:?} is committed there",
            at + 1
        );
        Ok(())
    }

    /// The state machine of a node becomes what a snapshot says.
    pub(crate) fn on_restore(&mut self, at: usize, meta: &SnapshotMeta, is: &Machine) -> Verdict {
        const CHECK: &str = "a snapshot is of what is committed";
        let last = meta.last;
        let committed = self.committed.entry(last.seq);
        require!(
            committed == Some(last) && self.states.are(last, is),
            CHECK,
            "node {} is restored to {is:?} by a snapshot up to {last}; {committed:?} is committed there",
            at + 1
        );
        let placed = meta.configurations.as_ref().map(|all| all.newest().clone());
        let known = placed.is_some_and(|placed| {
            self.lineage.newest_before(last.seq.after())
                == Some((placed.at, &*placed.configuration))
        });
        require!(known, CHECK, "the snapshot of node {} up to {last} has other members", at + 1);
        let node = self.node(at);
        let log = &node.durable;
        require!(
            log.has(last) && last.seq.after() >= log.start(),
            "a log begins before its state machine is restored",
            "node {} is restored to {last}, and its log holds {}..{}",
            at + 1,
            log.start(),
            log.end()
        );
        node.applied = last.seq.after();
        Ok(())
    }

    /// A node has started, with this in its log and a state machine that had seen everything before `applied`.
    pub(crate) fn on_start(
        &mut self,
        at: usize,
        restored: &tinyraftplus_core::Restored,
        entries: &[LogEntry],
        flight: &[Write],
        applied: Seq,
    ) -> Verdict {
        let node = self.nodes.get_mut(at).expect("as many models as nodes");
        durability::on_start(at, node, restored, entries, flight, &self.matching)?;
        self.lineage.on_durable(at, restored.configuration.as_ref())?;
        node.identity = restored.identity;
        node.decided = node.durable.clone();
        node.before = None;
        node.committed = node.durable.start();
        node.applied = applied.max(node.durable.start());
        Ok(())
    }

    /// A node lost its disk and has an empty one now.
    pub(crate) fn on_wiped(&mut self, at: usize) {
        let start = self.committed.start();
        let node = self.node(at);
        let empty = Model::new(start);
        node.decided = empty.clone();
        let lost = std::mem::replace(&mut node.durable, empty);
        // The new log draws its own when it is created.
        let identity = std::mem::replace(&mut node.identity, Identity::new(0));
        node.lost.push((identity, lost));
    }

    /// A node's log, read from its disk at the end, holds exactly what was committed.
    pub(crate) fn verify(&self, at: usize, entries: &[LogEntry]) -> Verdict {
        const CHECK: &str = "all logs become the same";
        let (count, end) = (entries.len() as u64, self.committed.end());
        let start = self.nodes.get(at).map_or(Seq::ZERO, |node| node.durable.start());
        require!(
            start.checked_add(count) == Some(end),
            CHECK,
            "node {} has {count} entries from {start} on, and everything before {end} is committed",
            at + 1
        );
        for entry in entries {
            let same =
                self.committed.entry(entry.id.seq) == Some(entry.id) && self.matching.is(entry);
            require!(
                same,
                CHECK,
                "node {} has something else at {} than what was committed",
                at + 1,
                entry.id
            );
        }
        Ok(())
    }

    /// Whether that node has led a term, that one or a later one.
    pub(crate) fn has_led(&self, at: usize, from: Term) -> bool {
        self.election.has_led(at, from)
    }

    /// How many terms had a leader.
    pub(crate) fn leaders(&self) -> u64 {
        self.completeness.leaders()
    }

    /// How many entries the longest log has.
    pub(crate) fn entries(&self) -> u64 {
        let counts = self.nodes.iter().map(|node| node.decided.end().since(node.decided.start()));
        counts.max().unwrap_or_default()
    }
}
