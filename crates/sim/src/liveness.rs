//! When nothing breaks any more, everything must come right within a stated time: all calls end, a leader is
//! there, every node takes part, an append at each of them commits, and all logs become the same.

use tinyraftplus_core::{Configuration, NodeId, Role};

use crate::check::{
    Verdict, Violation,
    calls::{Asked, Ended, payload},
    require,
};
use crate::lives::read_all;
use crate::profile::node_id;
use crate::trace::EVERYWHERE;
use crate::world::{Phase, What, World};

const CHECK: &str = "a healed cluster works";
/// How often the world is looked at.
const LOOK: u64 = 20_000_000;

/// How far the second phase is.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    /// How long it may take, and when everything must be well.
    time: u64,
    until: u64,
    /// The last append that was tried at each node, if it has not committed yet.
    tries: Vec<Try>,
    done: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Try {
    NotYet,
    Call(u64),
    Committed,
}

impl Liveness {
    pub(crate) const fn is_done(&self) -> bool {
        self.done
    }
}

impl World {
    /// The faults are over.
    pub(crate) fn heal(&mut self) {
        self.phase = Phase::Liveness;
        self.counts.committed_safety = self.checks.committed.count();
        self.note(EVERYWHERE, 70, || "everything is mended".to_owned());
        self.stop_faults();
        let entries = self.checks.entries();
        self.liveness.time = self.profile.liveness(entries);
        self.liveness.until = self.now + self.liveness.time;
        self.liveness.tries = vec![Try::NotYet; self.profile.node_count];
        self.after(LOOK, What::Look);
    }

    /// Looks whether all is well, and tries what is still to be tried.
    pub(crate) fn look(&mut self) -> Verdict {
        let trouble = self.trouble();
        let Some(trouble) = trouble else {
            self.liveness.done = true;
            return Ok(());
        };
        require!(
            self.now < self.liveness.until,
            CHECK,
            "{} ms after all faults ended, {trouble}",
            self.liveness.time / 1_000_000
        );
        self.after(LOOK, What::Look);
        Ok(())
    }

    /// What is not as it should be.
    fn trouble(&mut self) -> Option<String> {
        let mut trouble = None;
        for at in 0..self.profile.node_count {
            if self.takes_part(at) && !self.tried(at) {
                trouble = Some(format!("no append at node {} has committed", at + 1));
            }
        }
        if trouble.is_some() {
            return trouble;
        }
        let Some(leader) = self.leader() else {
            return Some("there is no leader".to_owned());
        };
        let Some(settled) = self.settled() else {
            return Some("a change of members is not over".to_owned());
        };
        if !settled.now().member(node_id(leader)).is_some_and(|member| member.votes) {
            return Some(format!("node {} leads, and is no voter", leader + 1));
        }
        if let Some(better) = self.better_leader(leader, &settled) {
            return Some(format!("node {} leads, not node {better}", leader + 1));
        }
        let end = self.checks.committed.end();
        for at in 0..self.profile.node_count {
            let Some(process) = self.nodes.get(at).and_then(|node| node.process.as_ref()) else {
                return Some(format!("node {} is down", at + 1));
            };
            let core = process.replica.core();
            if let Some(member) = settled.member(node_id(at)) {
                if member.identity != Some(core.identity()) {
                    return Some(format!("the new log of node {} is not a member", at + 1));
                }
                let applied = process.replica.status().applied;
                let ends = [core.terms().end(), core.durable(), core.committed(), applied];
                if ends != [end; 4] || !process.flight.is_empty() {
                    return Some(format!("node {} is at {ends:?} of {end}", at + 1));
                }
                let role = if member.votes { Role::Follower } else { Role::Learner };
                if at != leader && core.role() != role {
                    return Some(format!("node {} is a {:?}", at + 1, core.role()));
                }
                if core.configuration() != Some(&settled) {
                    return Some(format!("node {} goes by another configuration", at + 1));
                }
            }
        }
        let open = self.checks.calls.open_count();
        (open > 0).then(|| format!("{open} calls are still open"))
    }

    /// A voter that should lead rather than this node.
    fn better_leader(&self, leader: usize, settled: &Configuration) -> Option<NodeId> {
        let priority = |at: usize| self.profile.members.priorities.get(at).copied();
        let voters = (0..self.profile.node_count)
            .filter(|&at| settled.member(node_id(at)).is_some_and(|member| member.votes));
        let best = voters.max_by_key(|&at| priority(at))?;
        (priority(best) > priority(leader)).then(|| node_id(best))
    }

    /// Whether an append at that node has committed; tries one if none is under way.
    fn tried(&mut self, at: usize) -> bool {
        let state = self.liveness.tries.get(at).copied().unwrap_or(Try::Committed);
        let again = match state {
            Try::Committed => return true,
            Try::NotYet => true,
            Try::Call(call) => match self.checks.calls.ended(call) {
                Some(Ended::Committed) => {
                    self.set_try(at, Try::Committed);
                    return true;
                }
                // A leader that had to go, or a queue that was full, are no faults: it may be tried again.
                Some(Ended::Refused | Ended::Unknown | Ended::Lost | Ended::Read | Ended::Done) => {
                    true
                }
                None => false,
            },
        };
        if again {
            let number = self.checks.calls.next_number();
            let asked = Asked::Append(vec![payload(number, 0, 16)]);
            let time = self.liveness.time / 4;
            if let Some(call) = self.call(at, vec![(asked, time)]) {
                self.set_try(at, Try::Call(call));
            }
        }
        false
    }

    fn set_try(&mut self, at: usize, state: Try) {
        if let Some(slot) = self.liveness.tries.get_mut(at) {
            *slot = state;
        }
    }

    /// At the end, each log is read from its disk: it holds exactly what was committed.
    pub(crate) fn verify(&mut self) -> Verdict {
        self.checks.calls.at_end()?;
        for at in (0..self.profile.node_count).filter(|&at| self.takes_part(at)) {
            let Some(process) = self.nodes.get(at).and_then(|node| node.process.as_ref()) else {
                continue;
            };
            let entries = read_all(&*process.log.reader()).map_err(|error| {
                Violation::new(CHECK, format!("the log of node {} can't be read: {error}", at + 1))
            })?;
            self.checks.verify(at, &entries)?;
        }
        Ok(())
    }
}
