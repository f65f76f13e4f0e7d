//! Who belongs to the cluster, and how that changes: what is drawn once, and what is asked for while it runs.

use std::collections::BTreeSet;

use tinyraftplus_core::quorum::{CustomRules, Group, Rules};
use tinyraftplus_core::{
    Configuration, Identity, Lease, Member, MemberSpec, Membership, NodeId, Options, Plan,
};

use crate::check::quorums;
use crate::profile::node_id;
use crate::rng::Rng;
use crate::rules;
use crate::world::World;

const LABELS: [&str; 3] = ["x", "y", "z"];
/// How often rules are drawn until some are safe for the members.
const TRIES: usize = 12;

/// Who founds the cluster, and how it decides.
#[derive(Clone, Debug)]
pub(crate) struct MembersProfile {
    /// How many nodes found it: the first ones. The others wait to be added.
    pub(crate) founders: usize,
    /// The label of each node, if they have labels.
    labels: Vec<Option<Group>>,
    rules: Rules,
    /// How much each node is preferred as a leader.
    pub(crate) priorities: Vec<u32>,
    form_with_majority: bool,
    promote_distance: u64,
    lease: Option<Lease>,
}

impl MembersProfile {
    pub(crate) fn draw(rng: &mut Rng, nodes: usize, drift_ppm: u64) -> Self {
        let is_labelled = rng.chance(500);
        let label = |rng: &mut Rng| is_labelled.then(|| group(rng));
        let labels: Vec<_> = (0..nodes).map(|_| label(rng)).collect();
        let founders = if rng.chance(600) { nodes } else { rng.place(nodes) + 1 };
        let has_priorities = rng.chance(250);
        let priority = |rng: &mut Rng| if has_priorities { rng.below(4) } else { 0 };
        let priorities = (0..nodes).map(|_| priority(rng));
        let priorities = priorities.map(|it| u32::try_from(it).expect("at most 3")).collect();
        let voters: Vec<_> = (0..founders).map(|at| voter(at, &labels)).collect();
        let is_plain = rng.chance(500);
        Self {
            founders,
            rules: if is_plain { Rules::default() } else { safe_rules(rng, &voters) },
            labels,
            priorities,
            form_with_majority: rng.chance(200),
            promote_distance: rng.pick(&[0, 5, 1024]),
            lease: rng.chance(300).then(|| lease(drift_ppm)),
        }
    }

    /// With fewer nodes, and rules that fit them.
    pub(crate) fn lessen(&mut self, nodes: usize) {
        self.labels.truncate(nodes);
        if self.founders > nodes {
            self.founders = nodes;
            self.rules = Rules::default();
        }
    }

    /// What the node at that place is told of the others.
    pub(crate) fn tell(&self, at: usize, is_new_disk: bool, raft: &mut Options) {
        // One that waits to be added is no founder, and the rules of those need not be safe with it.
        let founds = at < self.founders && !is_new_disk;
        raft.rules = if founds { self.rules.clone() } else { Rules::default() };
        rules::add_customs(&mut raft.custom_rules);
        raft.group = self.labels.get(at).copied().flatten();
        raft.priority = self.priorities.get(at).copied().unwrap_or_default();
        raft.form_with_majority = self.form_with_majority && !is_new_disk;
        raft.promote_distance = self.promote_distance;
        raft.lease = self.lease;
        if raft.check().is_err() {
            // The lease is too short for the heartbeats.
            raft.lease = None;
        }
    }

    /// Whether leaders may answer reads by a lease.
    pub(crate) const fn has_lease(&self) -> bool {
        self.lease.is_some()
    }

    /// The names that a node is told whose disk was lost: one that lists only itself would found another cluster.
    pub(crate) fn all_names(&self) -> Vec<NodeId> {
        (0..self.labels.len()).map(node_id).collect()
    }

    /// The names that the node at that place is told at first.
    pub(crate) fn names(&self, at: usize) -> Vec<NodeId> {
        let founders: BTreeSet<usize> = (0..self.founders).chain([at]).collect();
        founders.into_iter().map(node_id).collect()
    }
}

/// A lease that allows for clocks that run so much fast or slow.
fn lease(drift_ppm: u64) -> Lease {
    // One is that much fast and the other that much slow, and what is counted is counted by the slow one.
    let error = 2 * drift_ppm * 1_000_000 / (1_000_000 - drift_ppm);
    Lease { clock_error_ppm: u32::try_from(error).expect("clocks are not that wrong") + 10 }
}

fn group(rng: &mut Rng) -> Group {
    Group::new(rng.pick(&LABELS)).expect("a short label")
}

fn voter(at: usize, labels: &[Option<Group>]) -> MemberSpec {
    MemberSpec { group: labels.get(at).copied().flatten(), ..MemberSpec::voter(node_id(at)) }
}

/// Rules that are safe for these members: some of our own if they can be found, else a majority.
fn safe_rules(rng: &mut Rng, members: &[MemberSpec]) -> Rules {
    let drawn = (0..TRIES).map(|_| rules::draw(rng, members.len())).collect::<Vec<_>>();
    let is_safe = |rules: &Rules| plan(members.to_vec(), rules.clone()).is_some();
    drawn.into_iter().find(is_safe).unwrap_or_default()
}

fn plan(members: Vec<MemberSpec>, rules: Rules) -> Option<Plan> {
    let mut customs = CustomRules::new();
    rules::add_customs(&mut customs);
    Plan::new(members, rules, &customs).ok()
}

impl World {
    /// Other members, or other rules, for somebody to wish for, who knows that configuration.
    pub(crate) fn draw_plan(&self, rng: &mut Rng, from: &Configuration) -> Option<Plan> {
        if rng.chance(150)
            && let Some(plan) = self.others_only(rng, from)
        {
            return Some(plan);
        }
        let relabels = rng.chance(200);
        let mut members = Vec::new();
        for at in 0..self.profile.node_count {
            let known = from.now().member(node_id(at));
            let stays = if known.is_some() { 700 } else { 400 };
            if !rng.chance(stays) {
                continue;
            }
            let mut spec = voter(at, &self.profile.members.labels);
            spec.group =
                if relabels { Some(group(rng)) } else { known.map_or(spec.group, |it| it.group) };
            spec.votes = rng.chance(850);
            members.push(spec);
        }
        let voters: Vec<_> = members.iter().copied().filter(|member| member.votes).collect();
        let keeps = rng.chance(500);
        let rules = if keeps { from.now().rules().clone() } else { safe_rules(rng, &voters) };
        plan(members.clone(), rules).or_else(|| plan(members, Rules::default()))
    }

    /// One member stays, and with it come all who are none.
    fn others_only(&self, rng: &mut Rng, from: &Configuration) -> Option<Plan> {
        let stays = self.leader().unwrap_or_else(|| rng.place(self.profile.node_count));
        let comes = |&at: &usize| at == stays || from.now().member(node_id(at)).is_none();
        let all = (0..self.profile.node_count).filter(comes);
        let members: Vec<_> = all.map(|at| voter(at, &self.profile.members.labels)).collect();
        if members.len() < 2 {
            return None;
        }
        plan(members, Rules::default())
    }

    /// Whether that plan can be carried out without the log of that node, and without any that are lost already. If
    /// not, a log that is lost while it is carried out, before the leader could notice, may be one that nothing can
    /// be decided without.
    pub(crate) fn can_plan_without(&self, plan: &Plan, at: Option<usize>) -> bool {
        let machine = |id| (0..self.profile.node_count).find(|&other| node_id(other) == id);
        let identity = |other: usize| self.checks.nodes.get(other).map(|node| node.identity);
        let is_lost = |other: usize| {
            let named = self.known_configurations();
            let mut named = named.filter_map(|it| it.identity_of(node_id(other)));
            named.any(|named| Some(named) != identity(other))
        };
        let member = |spec: &MemberSpec| {
            let other = machine(spec.id)?;
            let (votes, group) = (spec.votes, spec.group);
            // Of nodes that have never run nothing is known yet.
            let unborn = Identity::new(u128::MAX - other as u128);
            let identity = identity(other).filter(|log| log.get() > 1).unwrap_or(unborn);
            Some(Member { id: spec.id, identity: Some(identity), group, votes })
        };
        let members: Vec<Member> = plan.members().iter().filter_map(member).collect();
        let logs = members.iter().filter(|member| {
            machine(member.id).is_some_and(|other| Some(other) != at && !is_lost(other))
        });
        let logs: BTreeSet<Identity> = logs.filter_map(|member| member.identity).collect();
        let membership = Membership::new(members, plan.rules().clone());
        let configuration =
            membership.and_then(|now| Configuration::found(now, self.profile.first_seq));
        configuration.is_ok_and(|it| quorums::elects(&it, &logs) && quorums::commits(&it, &logs))
    }

    /// All configurations that any node goes by, or would go back to.
    fn known_configurations(&self) -> impl Iterator<Item = std::sync::Arc<Configuration>> + '_ {
        let models = self.checks.nodes.iter().flat_map(|node| [&node.decided, &node.durable]);
        let known = models.filter_map(|model| model.configuration.clone());
        known.flat_map(|all| {
            let before = all.before().map(|placed| placed.configuration.clone());
            before.into_iter().chain([all.newest().configuration.clone()])
        })
    }

    /// Whether the cluster can do without the present log of that node: what is committed is on a quorum of the
    /// others, whichever configuration any node goes by, and they can decide without it.
    pub(crate) fn can_do_without(&self, at: usize) -> bool {
        let now = self.now;
        let plans = self.plans.iter().filter(|&&(_, until)| now <= until);
        if plans.into_iter().any(|(plan, _)| !self.can_plan_without(plan, Some(at))) {
            return false;
        }
        let Some(last) = self.checks.committed.last() else {
            return false;
        };
        let others = self.checks.nodes.iter().enumerate().filter(|&(other, _)| other != at);
        let holders: BTreeSet<Identity> = others
            .filter(|(_, node)| node.durable.has(last))
            .map(|(_, node)| node.identity)
            .collect();
        let mut configurations = self.known_configurations();
        let own = self.checks.nodes.get(at).map(|node| node.identity);
        configurations.all(|it| {
            let is_named = own.is_some_and(|own| it.name_of(own).is_some());
            !is_named || quorums::elects(&it, &holders) && quorums::commits(&it, &holders)
        })
    }

    /// The configuration that is there to stay, once there is one, as the leader says.
    pub(crate) fn settled(&self) -> Option<std::sync::Arc<Configuration>> {
        let process = self.nodes.get(self.leader()?)?.process.as_ref()?;
        let core = process.replica.core();
        let newest = core.configurations()?.newest();
        let is_settled = newest.at.is_none_or(|at| at < core.committed());
        (is_settled && newest.configuration.old().is_none()).then(|| newest.configuration.clone())
    }
}
