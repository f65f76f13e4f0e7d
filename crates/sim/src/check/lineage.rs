//! Configurations are of one lineage: one cluster is founded, each configuration follows from the one before it,
//! and the next waits until that one is there to stay (Raft section 6, thesis chapter 4).

use std::collections::BTreeMap;
use std::sync::Arc;

use tinyraftplus_core::{
    Configuration, Configurations, Identity, MemberSpec, Membership, Plan, Role, Seq, Term,
};
use tinyraftplus_log::{EntryKind, Write, decode_configuration};

use super::{NodeModel, Verdict, View, matching::Known, model::Model, require};
use crate::counts::Counts;
use crate::words;

/// The configurations of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Lineage {
    /// The one that it was founded with.
    first: Option<Arc<Configuration>>,
    /// The newest that is committed, and the term of its entry.
    newest: Option<(Term, Configuration)>,
    /// The newest that was not joint.
    settled: Option<Membership>,
    /// All that were committed, by the positions of their entries.
    all: BTreeMap<Seq, Configuration>,
    pub(crate) counts: Counts,
}

const CHECK: &str = "configurations are of one lineage";

impl Lineage {
    /// A node has these configurations on its disk. One that dies before has told nobody, and may found another cluster.
    pub(crate) fn on_durable(&mut self, at: usize, all: Option<&Arc<Configurations>>) -> Verdict {
        let Some(founded) = all.map(|all| all.newest()).filter(|placed| placed.at.is_none()) else {
            return Ok(());
        };
        let first = self.first.get_or_insert_with(|| Arc::clone(&founded.configuration));
        require!(
            *first == founded.configuration,
            "one cluster is founded",
            "node {} goes by {}; the cluster was founded as {}",
            at + 1,
            words::configuration(&founded.configuration),
            words::configuration(first)
        );
        Ok(())
    }

    /// A node decides to write this to a log that is as `model` says.
    pub(crate) fn on_write(&mut self, at: usize, model: &Model, write: &Write) -> Verdict {
        let who = at + 1;
        if let Some(end) = write.trim {
            let cut = model.change_before(Seq::MAX).is_some_and(|(at, _)| at >= end);
            self.counts.changes_cut += u64::from(cut);
        }
        let mut newest: Option<Configuration> = None;
        for entry in write.append.iter().filter(|it| it.kind == EntryKind::Configuration) {
            let Some(next) = decode_configuration(&entry.payload) else {
                continue;
            };
            let cut = write.trim.unwrap_or(Seq::MAX).min(entry.id.seq);
            let in_log = model.change_before(cut).map(|(_, before)| before);
            // What comes before the log's start is committed.
            let gone = self.newest_before(model.start()).map(|(_, before)| before);
            let before = newest.as_ref().or(in_log).or(gone);
            require!(
                before.is_some_and(|before| follows(before, &next)),
                CHECK,
                "node {who} writes {} as {} after {}",
                words::configuration(&next),
                entry.id,
                before.map(words::configuration).unwrap_or_default()
            );
            newest = Some(next);
        }
        Ok(())
    }

    /// The newest committed configuration before that position, and where it is.
    pub(crate) fn newest_before(&self, end: Seq) -> Option<(Option<Seq>, &Configuration)> {
        let newest = self.all.range(..end).next_back();
        let newest = newest.map(|(&at, configuration)| (Some(at), configuration));
        newest.or_else(|| Some((None, self.first.as_deref()?)))
    }

    /// Whether the members were as that plan wants them, by the configuration at that position, for good.
    pub(crate) fn was(&self, at: Option<Seq>, plan: &Plan) -> bool {
        let first = self.first.as_deref().filter(|_| at.is_none());
        let Some(configuration) = first.or_else(|| self.all.get(&at?)) else {
            return false;
        };
        let now = configuration.now();
        let is = |spec: &MemberSpec| {
            let member = now.member(spec.id);
            member.is_some_and(|it| (it.group, it.votes) == (spec.group, spec.votes))
        };
        configuration.old().is_none()
            && now.rules() == plan.rules()
            && now.members().len() == plan.members().len()
            && plan.members().iter().all(is)
    }

    /// A leader has taken a step: if it has begun a change in this term, it might.
    pub(crate) fn on_leader(at: usize, node: &NodeModel, view: View<'_>) -> Verdict {
        let (who, log) = (at + 1, &node.decided);
        let Some((seq, _)) = log.change_before(Seq::MAX) else {
            return Ok(());
        };
        if view.role != Role::Leader || log.entry(seq).is_none_or(|id| id.term != view.term) {
            return Ok(());
        }
        let end = view.committed;
        let before = log.change_before(seq).map(|(before, _)| before);
        require!(
            before.is_none_or(|before| before < end),
            "one change at a time",
            "node {who} has a configuration at {seq} while the one at {before:?} is not committed"
        );
        let newest = end.before().and_then(|last| log.entry(last));
        require!(
            newest.is_some_and(|id| id.term == view.term),
            "a leader changes members after its first commit",
            "node {who} has a configuration at {seq}, and in term {} nothing is committed yet",
            view.term
        );
        Ok(())
    }

    /// An entry is committed, for the first time anywhere; `leader` leads its term.
    pub(crate) fn on_committed(&mut self, entry: &Known, leader: Option<Identity>) {
        if entry.kind != EntryKind::Configuration {
            return;
        }
        let Some(next) = decode_configuration(&entry.payload) else {
            return;
        };
        let term = entry.id.term;
        self.all.insert(entry.id.seq, next.clone());
        let counts = &mut self.counts;
        let joint_of = self.newest.as_ref().filter(|(_, before)| before.old().is_some());
        if let Some(&(begun, _)) = joint_of {
            counts.joints_left += 1;
            counts.left_by_another += u64::from(begun != term);
        }
        if next.old().is_some() {
            counts.joints += 1;
        } else {
            let first = || self.first.as_ref().map(|first| first.now().clone());
            if let Some(before) = self.settled.take().or_else(first) {
                count(counts, &before, next.now());
                let leaves = |half: &Membership| {
                    half.voters().any(|member| leader.is_some() && member.identity == leader)
                };
                counts.leaders_removed += u64::from(leaves(&before) && !leaves(next.now()));
            }
            self.settled = Some(next.now().clone());
        }
        self.newest = Some((term, next));
    }
}

/// Whether a configuration may come right after another.
fn follows(before: &Configuration, next: &Configuration) -> bool {
    let is_same_cluster = before.cluster() == next.cluster() && before.first() == next.first();
    is_same_cluster
        && match (before.old(), next.old()) {
            (Some(_), None) => before.now() == next.now(),
            (Some(_), Some(_)) => false,
            (None, Some(old)) => before.now() == old,
            // The same logs must decide.
            (None, None) => {
                before.now().rules() == next.now().rules()
                    && before.now().voters().eq(next.now().voters())
            }
        }
}

/// Counts what a change has changed.
fn count(counts: &mut Counts, before: &Membership, after: &Membership) {
    let mut bound = 0;
    for member in after.members() {
        let Some(known) = before.member(member.id) else {
            counts.members_added += 1;
            continue;
        };
        counts.promoted += u64::from(member.votes && !known.votes);
        counts.demoted += u64::from(!member.votes && known.votes);
        counts.relabelled += u64::from(member.group != known.group);
        counts.absent_bound += u64::from(known.identity.is_none() && member.identity.is_some());
        bound += u64::from(known.identity.is_some() && member.identity != known.identity);
    }
    let gone = before.members().iter().filter(|member| after.member(member.id).is_none());
    counts.members_removed += gone.count() as u64;
    counts.readmitted += bound;
    counts.readmitted_at_once += u64::from(bound > 1);
    let (rules, others) = (before.rules(), after.rules());
    counts.rules_changed += u64::from(rules != others);
    counts.custom_rules += u64::from(rules != others && crate::rules::has_custom(others));
}

#[cfg(test)]
mod tests {
    use super::*;
    use tinyraftplus_core::{Member, NodeId};

    #[test]
    fn what_follows_a_configuration() {
        let member = |n: u64| Member::voter(NodeId::from(n), Identity::new(u128::from(n)));
        let half = |ids: &[u64]| {
            Membership::new(
                ids.iter().copied().map(member).collect(),
                tinyraftplus_core::QuorumRule::Majority,
            )
            .unwrap()
        };
        let make = |cluster: u128, now: &[u64], old: Option<&[u64]>| {
            let (cluster, old) = (Identity::new(cluster), old.map(half));
            Configuration::restored(cluster, Seq::ZERO, half(now), old).unwrap()
        };
        let alone = make(1, &[1, 2, 3], None);
        let joint = make(1, &[1, 4, 5], Some(&[1, 2, 3]));
        let next = make(1, &[1, 4, 5], None);
        assert!(follows(&alone, &joint) && follows(&joint, &next));
        assert!(follows(&alone, &alone), "learners and labels may come and go");
        assert!(!follows(&alone, &next), "other voters, and no joint configuration between");
        assert!(!follows(&joint, &alone) && !follows(&joint, &joint));
        assert!(!follows(&next, &joint), "the old half is not what there was");
        assert!(!follows(&alone, &make(2, &[1, 4, 5], Some(&[1, 2, 3]))), "another cluster");
    }
}
