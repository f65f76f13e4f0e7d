//! What is on disk: a node comes back with what it had, believes no more than what is there, and what is
//! committed is on the disks of a quorum.

use tinyraftplus_core::{EntryId, Restored, Seq};
use tinyraftplus_log::{LogEntry, Write};

use super::{NodeModel, Verdict, View, matching::Matching, model::Model, require};

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

/// An entry that is committed lies on the disks of so many nodes that the quorum rule is met.
pub(crate) fn on_quorum(
    nodes: &[NodeModel],
    quorum: usize,
    inside: bool,
    seq: Seq,
    id: EntryId,
) -> Verdict {
    let held =
        |node: &&NodeModel| node.durable.has(id) || node.lost.iter().any(|model| model.has(id));
    let copies = nodes.iter().filter(held).count();
    require!(
        !inside || copies >= quorum,
        "committed is durable on a quorum",
        "seq {seq} was committed as {id} with {copies} of {} disks holding it; {quorum} are needed",
        nodes.len()
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
    let found = Model::restored(restored);
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
    node.durable = found;
    Ok(())
}
