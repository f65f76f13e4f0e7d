//! Committed entries never change, and state machines see exactly those, in order (Raft figure 3).

use tinyraftplus_core::{EntryId, Seq};
use tinyraftplus_log::EntryKind;
use tinyraftplus_replica::Apply;

use super::{
    NodeModel, Verdict, Violation,
    matching::{Known, Matching},
    require,
};

/// What the cluster has committed: the first node to say so decides, all others must agree.
#[derive(Debug)]
pub(crate) struct Committed {
    start: Seq,
    entries: Vec<EntryId>,
}

const CHECK: &str = "committed never changes";

impl Committed {
    pub(crate) const fn new(start: Seq) -> Self {
        Self { start, entries: Vec::new() }
    }

    pub(crate) const fn start(&self) -> Seq {
        self.start
    }

    pub(crate) fn end(&self) -> Seq {
        Seq::new(self.start.get() + self.entries.len() as u64)
    }

    pub(crate) fn count(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn last(&self) -> Option<EntryId> {
        self.entries.last().copied()
    }

    pub(crate) fn entry(&self, seq: Seq) -> Option<EntryId> {
        let place = usize::try_from(seq.get().checked_sub(self.start.get())?).ok()?;
        self.entries.get(place).copied()
    }

    fn known<'a>(&self, seq: Seq, matching: &'a Matching) -> Option<&'a Known> {
        self.entry(seq).and_then(|id| matching.get(id))
    }

    /// A node says that this is committed. Returns the entry if nobody said so before.
    pub(crate) fn on_committed<'a>(
        &mut self,
        at: usize,
        node: &NodeModel,
        seq: Seq,
        matching: &'a Matching,
    ) -> Result<Option<&'a Known>, Violation> {
        let Some(id) = node.decided.entry(seq) else {
            let what = format!(
                "node {} says that seq {seq} is committed, which its log does not hold",
                at + 1
            );
            return Err(Violation::new(CHECK, what));
        };
        if let Some(before) = self.entry(seq) {
            if before == id {
                return Ok(None);
            }
            let what = format!("{before} was committed, and node {} says that {id} is", at + 1);
            return Err(Violation::new(CHECK, what));
        }
        let known = matching.get(id).filter(|_| seq == self.end());
        self.entries.push(id);
        known.map(Some).ok_or_else(|| {
            Violation::new(CHECK, format!("node {} commits {id}, which nobody wrote", at + 1))
        })
    }

    /// A state machine is given these.
    pub(crate) fn on_apply(
        &self,
        at: usize,
        node: &mut NodeModel,
        apply: &Apply,
        matching: &Matching,
    ) -> Verdict {
        const CHECK: &str = "applied is committed, durable and in order";
        let who = at + 1;
        let (start, end) = (apply.start, apply.end);
        // Positions without an entry of a user may be passed over.
        let mut skipped =
            (node.applied.get()..start.get()).filter_map(|seq| self.known(Seq::new(seq), matching));
        let nothing = skipped.all(|known| known.kind != EntryKind::Payload);
        require!(
            start >= node.applied && nothing,
            CHECK,
            "node {who} applies from {start} on, and had applied to {}",
            node.applied
        );
        require!(
            end <= node.committed,
            CHECK,
            "node {who} applies to {end}, committed only to {}",
            node.committed
        );
        require!(
            end <= node.durable_end(),
            CHECK,
            "node {who} applies to {end}, durable only to {}",
            node.durable_end()
        );
        let mut given = apply.entries.iter();
        for seq in (start.get()..end.get()).map(Seq::new) {
            let Some(known) = self.known(seq, matching) else {
                let what = format!("node {who} applies seq {seq}, which is not committed");
                return Err(Violation::new(CHECK, what));
            };
            if known.kind == EntryKind::Payload {
                let same = given
                    .next()
                    .is_some_and(|given| given.seq == seq && given.payload == known.payload);
                require!(same, CHECK, "node {who} applies something else than {}", known.id);
            }
        }
        require!(
            given.next().is_none(),
            CHECK,
            "node {who} applies more entries than lie in {start}..{end}"
        );
        node.applied = end;
        Ok(())
    }
}
