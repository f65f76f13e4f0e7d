//! What is on disk: a node comes back with what it had, believes no more than what is there, and what is
//! committed is on the disks of a quorum.

use std::collections::BTreeSet;

use tinyraftplus_core::{EntryId, Identity, Restored};
use tinyraftplus_log::{LogEntry, Write};

use super::{NodeModel, Verdict, View, matching::Matching, model::Model, quorums, require};
use crate::words;

/// After a step: the node's idea of its log is what it has written, and of its disk not more than is there.
pub(crate) fn agrees(at: usize, node: &NodeModel, view: View<'_>) -> Verdict {
    const CHECK: &str = "a node knows its own log";
    let (terms, model) = (view.terms, &node.decided);
    let empty = terms.start() == terms.end() && model.last().is_none();
    require!(
        empty || (terms.end(), terms.last()) == (model.end(), model.last()),
        CHECK,
        "node {} believes that its log ends with {:?}, and has written {:?}",
        at + 1,
        terms.last(),
        model.last()
    );
    let (believed, durable) = (view.durable, node.durable_end());
    require!(
        empty || believed <= durable,
        CHECK,
        "node {} believes that everything before {believed} is durable, and its disk holds that up to {durable}",
        at + 1
    );
    Ok(())
}

/// An entry that is committed lies on the disks of so many nodes that the rules are met, in each half of the
/// configuration.
pub(crate) fn on_quorum(nodes: &[NodeModel], at: usize, leads: bool, id: EntryId) -> Verdict {
    let seq = id.seq;
    let holders: BTreeSet<Identity> = nodes.iter().flat_map(|node| node.holding(id)).collect();
    let deciding = |node: &NodeModel| if leads { node.deciding(seq) } else { node.in_force() };
    let configurations = nodes.get(at).map(deciding).unwrap_or_default();
    require!(
        configurations.iter().any(|configuration| quorums::commits(configuration, &holders)),
        "committed is durable on a quorum",
        "node {} has committed seq {seq} as {id} with {holders:?} holding it; {} decides",
        at + 1,
        words::configurations(&configurations)
    );
    Ok(())
}

/// A node starts. Its log holds exactly what was durable or, if it died while writing a group, perhaps all of
/// that group too, but never a part of it.
pub(crate) fn on_start(
    at: usize,
    node: &mut NodeModel,
    restored: &Restored,
    entries: &[LogEntry],
    flight: &[Write],
    matching: &Matching,
) -> Verdict {
    const CHECK: &str = "what was durable survives a crash";
    let who = at + 1;
    let found = Model::restored(restored, entries);
    let before = &node.durable;
    let mut after = before.clone();
    for write in flight {
        after.apply(at, write)?;
    }
    require!(
        found.same_entries(before) || found.same_entries(&after),
        CHECK,
        "node {who} comes back with a log up to {:?}; it had {:?}, and {:?} with the group that was being written",
        found.last(),
        before.last(),
        after.last()
    );
    let hard_state = found.hard_state;
    // Term and vote of a group that is cut may count: they are honoured only after they are durable again.
    let known = hard_state == before.hard_state
        || flight.iter().any(|write| write.hard_state == Some(hard_state));
    require!(
        known && hard_state.term >= before.hard_state.term,
        "term and vote never go back",
        "node {who} comes back with {hard_state:?}; it had {:?}",
        before.hard_state
    );
    let named = [&before.configuration, &after.configuration].contains(&&found.configuration);
    require!(
        named,
        CHECK,
        "node {who} comes back with another configuration: {:?}",
        found.configuration
    );
    let whole = flight.iter().any(|write| !write.append.is_empty() || write.trim.is_some());
    if whole && found.same_entries(&after) && !found.same_entries(before) {
        require!(
            hard_state == after.hard_state && found.configuration == after.configuration,
            CHECK,
            "node {who} comes back with a part of the group that was being written"
        );
    }
    let count = entries.len() as u64;
    require!(
        count == found.end().since(found.start()),
        CHECK,
        "the log of node {who} says that it ends at {}, and has {count} entries",
        found.end()
    );
    for entry in entries {
        require!(
            found.has(entry.id) && matching.is(entry),
            CHECK,
            "node {who} reads something else for {} than what was written",
            entry.id
        );
    }
    found.is_in_force(who)?;
    node.durable = found;
    Ok(())
}
