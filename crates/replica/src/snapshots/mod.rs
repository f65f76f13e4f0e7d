//! Snapshots: when to take one, what may go from the log then, and when the state machine is restored.
//!
//! One that is taken stands for everything that was applied when the state machine was asked, at once and in order; it is
//! written beside all else. When it is durable, old entries may go: all but those that peers who are only a little behind will
//! need, and those after a snapshot that is on its way to a peer.
//!
//! `transfer` sends snapshots to peers whose entries are gone, `receiving` gets them.

mod keeper;
mod meta;
mod receiving;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use tinyraftplus_core::planted::{self, Bug};
use tinyraftplus_core::{Configurations, EntryId, Input, NodeId, Seq, Time};

pub use self::keeper::Keeper;
pub(crate) use self::meta::malformed;
pub use self::meta::{CHUNK_BYTES_MAX, SnapshotNews, SnapshotWork};
use self::receiving::Receiving;
use self::transfer::Sending;
use crate::calls::Work;
use crate::sending::Purpose;
use crate::{Event, Outcome, Refused, Replica, Want};
pub use tinyraftplus_log::{SnapshotId, SnapshotMeta};

/// So many election timeouts after a snapshot could not be taken it is tried again.
const REST: u32 = 8;

#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    /// The newest complete one.
    pub(crate) newest: Option<SnapshotMeta>,
    /// Bytes of what was handed to the state machine since.
    bytes_since: u64,
    is_taking: bool,
    /// Not before this: the last one failed.
    take_at: Time,
    /// Somebody needs one that stands for everything before this.
    wanted: Option<Seq>,
    /// Calls that wait for one that stands for everything before a position.
    waiting: Vec<(Seq, u64)>,
    /// Old ones are still to be removed.
    removes: bool,
    compaction: Compaction,
    /// The one after which the log begins, or is about to.
    installing: Option<SnapshotMeta>,
    restoring: Restoring,
    receiving: Option<Receiving>,
    /// Peers that need one.
    behind: BTreeSet<NodeId>,
    sending: BTreeMap<NodeId, Sending>,
}

/// What the state machine waits for.
#[derive(Debug, Default)]
enum Restoring {
    #[default]
    Nothing,
    /// It is to be restored from this, when what it has in hand is done.
    Due(SnapshotMeta),
    /// It is being restored to that position; and is to be restored from the next, if there is one.
    UnderWay(Seq, Option<SnapshotMeta>),
}

#[derive(Debug, Default)]
struct Compaction {
    /// Where the log is to begin.
    target: Seq,
    /// The start of a batch at the target or before it.
    found: Option<Seq>,
    is_loading: bool,
    /// When to try again: a peer may have needed the entries.
    retry_at: Time,
    /// The write that drops entries, while it is under way.
    job: u64,
    /// Calls that wait until the log begins at a position or after it.
    waiting: Vec<(Seq, u64)>,
}

fn end_of(meta: &SnapshotMeta) -> Seq {
    meta.last.seq.after()
}

impl Snapshots {
    /// The end of what the newest stands for.
    pub(crate) fn end(&self) -> Seq {
        self.newest.as_ref().map_or(Seq::ZERO, end_of)
    }

    /// The state machine may not be given entries now.
    pub(crate) const fn holds_machine(&self) -> bool {
        !matches!(self.restoring, Restoring::Nothing)
    }

    /// Whatever it is asked from now on, it knows everything before this.
    pub(crate) const fn restoring_to(&self) -> Seq {
        match &self.restoring {
            Restoring::UnderWay(end, _) => *end,
            Restoring::Nothing | Restoring::Due(_) => Seq::ZERO,
        }
    }

    /// More was handed to the state machine.
    pub(crate) const fn note(&mut self, bytes: u64) {
        self.bytes_since = self.bytes_since.saturating_add(bytes);
    }
}

impl Replica {
    /// What whoever keeps snapshots has at the start, and up to where the state machine has seen entries: what a crash left
    /// undone is done now.
    pub(crate) fn begin_with_snapshot(&mut self, newest: Option<SnapshotMeta>, seen: Seq) {
        let Some(meta) = newest else {
            return;
        };
        let end = end_of(&meta);
        self.snapshots.newest = Some(meta.clone());
        self.install(meta.clone());
        let stands = self.core.terms().has(meta.last) && !self.core.installs();
        if self.options.state_machine && stands && end > seen {
            self.snapshots.restoring = Restoring::Due(meta);
        }
    }

    /// A snapshot is durable here; the core decides what that means for the log.
    fn install(&mut self, meta: SnapshotMeta) {
        let Some(all) = meta.configurations.clone() else {
            return;
        };
        let (last, configuration) = (meta.last, all.newest().clone());
        self.snapshots.installing = Some(meta);
        self.drive(Input::Install { last, configuration });
    }

    /// The log begins after that entry, durably.
    pub(crate) fn restore(&mut self, last: EntryId) {
        let Some(meta) = self.snapshots.installing.take_if(|meta| meta.last == last) else {
            return;
        };
        self.out.events.push(Event::SnapshotInstalled { last });
        let restoring = mem::take(&mut self.snapshots.restoring);
        self.snapshots.restoring = match restoring {
            Restoring::UnderWay(end, _) => Restoring::UnderWay(end, Some(meta)),
            Restoring::Nothing | Restoring::Due(_) => Restoring::Due(meta),
        };
    }

    pub(crate) fn snapshot_news(&mut self, news: SnapshotNews) {
        match news {
            SnapshotNews::Taken(result) => self.snapshot_taken(result),
            SnapshotNews::Restored => self.restored(),
            SnapshotNews::Incoming { id, next } => self.snapshot_incoming(id, next),
            SnapshotNews::Received { id, result } => self.snapshot_received(id, result),
            SnapshotNews::Chunk { to, id, number, result } => {
                self.chunk_read(to, id, number, result);
            }
        }
    }

    /// What comes before entries for the state machine.
    pub(crate) fn pump_snapshots(&mut self) {
        if self.options.snapshots.is_none() {
            return;
        }
        self.pump_restore();
        self.pump_take();
        self.pump_compaction();
        self.pump_transfers();
    }

    pub(crate) fn snapshots_wake_at(&self) -> Time {
        if self.options.snapshots.is_none() {
            return Time::NEVER;
        }
        let compaction = &self.snapshots.compaction;
        let compacts = compaction.target > self.core.terms().start() && !compaction.is_loading;
        let compact_at = if compacts { compaction.retry_at } else { Time::NEVER };
        let takes = !self.snapshots.is_taking && self.snapshots.take_at > self.now;
        let take_at = if takes { self.snapshots.take_at } else { Time::NEVER };
        compact_at.min(take_at).min(self.transfers_wake_at())
    }

    fn pump_restore(&mut self) {
        if !matches!(self.snapshots.restoring, Restoring::Due(_)) || self.applying.is_busy() {
            return;
        }
        if let Restoring::Due(meta) = mem::take(&mut self.snapshots.restoring) {
            let end = end_of(&meta);
            if self.options.state_machine {
                self.snapshots.restoring = Restoring::UnderWay(end, None);
                self.out.snapshots.push(SnapshotWork::Restore(meta));
            } else {
                self.applying.restored(end);
            }
        }
    }

    fn restored(&mut self) {
        if let Restoring::UnderWay(end, next) = mem::take(&mut self.snapshots.restoring) {
            self.applying.restored(end);
            self.snapshots.bytes_since = 0;
            self.snapshots.restoring = next.map_or(Restoring::Nothing, Restoring::Due);
        }
    }

    /// Asks for a snapshot, if one is due. Only of a state machine that has nothing in hand, so that it is known what the
    /// snapshot stands for.
    fn pump_take(&mut self) {
        let snapshots = &self.snapshots;
        let applied = self.applying.applied;
        let limit = self.options.snapshots.and_then(|options| options.log_bytes);
        let grown =
            self.options.state_machine && limit.is_some_and(|limit| snapshots.bytes_since >= limit);
        let wanted = snapshots.wanted.is_some_and(|wanted| wanted > snapshots.end());
        if !(grown || wanted)
            || snapshots.is_taking
            || self.now < snapshots.take_at
            || self.applying.is_busy()
            || snapshots.holds_machine()
            || self.core.installs()
            || applied <= snapshots.end()
        {
            return;
        }
        // Of two changes of members since, the first is not known any more: what is applied soon has passed one of them.
        let last = self.core.terms().entry_before(applied);
        let placed = self.core.configuration_at(applied);
        if let (Some(last), Some(placed)) = (last, placed) {
            let configurations = Arc::new(Configurations::first(placed.clone()));
            self.snapshots.is_taking = true;
            self.snapshots.bytes_since = 0;
            self.out.snapshots.push(SnapshotWork::Take { last, configurations });
        }
    }

    fn snapshot_taken(&mut self, result: Result<SnapshotMeta, String>) {
        if !mem::take(&mut self.snapshots.is_taking) {
            return;
        }
        match result {
            Ok(meta) => {
                self.snapshots.take_at = self.now;
                self.out.events.push(Event::SnapshotTaken { last: meta.last, bytes: meta.bytes });
                self.keep_newest(meta);
            }
            Err(what) => {
                self.snapshots.take_at = self.now + self.options.raft.election_timeout * REST;
                self.out.events.push(Event::SnapshotFailed { what: what.clone() });
                self.snapshots.wanted = None;
                self.snapshots.compaction.target = self.core.terms().start();
                let waiting = mem::take(&mut self.snapshots.waiting);
                let compacting = mem::take(&mut self.snapshots.compaction.waiting);
                for (_, order) in waiting.into_iter().chain(compacting) {
                    self.finish(order, Outcome::Refused(Refused::Snapshot(what.clone())));
                }
            }
        }
    }

    /// A snapshot is complete here: what it stands for may go.
    fn keep_newest(&mut self, meta: SnapshotMeta) {
        let end = end_of(&meta);
        self.snapshots.removes = true;
        self.snapshots.compaction.retry_at = self.now;
        if end > self.snapshots.end() {
            self.snapshots.newest = Some(meta);
        }
        let end = self.snapshots.end();
        if self.snapshots.wanted.is_some_and(|wanted| wanted <= end) {
            self.snapshots.wanted = None;
        }
        let done = self.snapshots.waiting.extract_if(.., |(wanted, _)| *wanted <= end);
        let done: Vec<u64> = done.map(|(_, order)| order).collect();
        for order in done {
            self.finish(order, Outcome::Done);
        }
        // Without a state machine entries are all there is: they go only when somebody says so.
        if let Some(options) = self.options.snapshots.filter(|_| self.options.state_machine) {
            let kept = end.get().saturating_sub(options.keep_entries);
            let too_far = planted::is(Bug::CompactTooFar);
            let target = if too_far { self.applying.applied } else { Seq::new(kept) };
            self.compact_to(target);
        }
    }

    fn compact_to(&mut self, target: Seq) {
        let compaction = &mut self.snapshots.compaction;
        if self.options.snapshots.is_some_and(|it| it.compacts) && target > compaction.target {
            (compaction.target, compaction.found) = (target, None);
            compaction.retry_at = self.now;
        }
    }

    /// Drops old entries, as far as the newest snapshot stands for them and nobody who is sent an older one needs them.
    fn pump_compaction(&mut self) {
        self.end_compactions();
        let start = self.core.terms().start();
        let compaction = &mut self.snapshots.compaction;
        if compaction.target <= start || compaction.is_loading || self.now < compaction.retry_at {
            return;
        }
        compaction.retry_at = self.now + self.options.retry_interval;
        let (target, found) = (compaction.target, compaction.found);
        let too_far = planted::is(Bug::CompactTooFar);
        let stands_for = if too_far { Seq::MAX } else { self.snapshots.end() };
        let most = self.applying.applied.min(stands_for);
        let Some(before) = found.or_else(|| (target == most).then_some(target)) else {
            if target < most {
                self.snapshots.compaction.is_loading = true;
                let want = Want::Batches { at_most: target, end: most, bytes_max: 0 };
                self.load(want, Purpose::Compaction);
            }
            return;
        };
        let before = before.min(self.needed_by_transfers());
        if before > start && before <= most {
            self.drive(Input::Compact { before });
        }
        if self.core.terms().start() >= before {
            // A batch may begin before the target.
            self.snapshots.compaction.target = self.core.terms().start();
        }
        self.end_compactions();
    }

    /// The batch that holds the target was read: its first position, if it could be.
    pub(crate) fn compaction_loaded(&mut self, first: Option<Seq>) {
        let compaction = &mut self.snapshots.compaction;
        compaction.is_loading = false;
        compaction.found = first.filter(|first| *first <= compaction.target);
        if compaction.found.is_some() {
            compaction.retry_at = self.now;
        }
    }

    /// A write drops entries.
    pub(crate) fn compaction_begins(&mut self, job: u64, start: Seq) {
        self.snapshots.compaction.job = job;
        self.out.events.push(Event::Compacted { start });
    }

    /// Answers those whose entries are gone.
    fn end_compactions(&mut self) {
        let compaction = &mut self.snapshots.compaction;
        if compaction.waiting.is_empty() || self.core.awaits(compaction.job) {
            return;
        }
        let start = self.core.terms().start();
        let (target, is_loading) = (compaction.target, compaction.is_loading);
        let is_done = |wanted: Seq| start >= wanted || target <= start && !is_loading;
        let done = compaction.waiting.extract_if(.., |(wanted, _)| is_done(*wanted));
        let done: Vec<u64> = done.map(|(_, order)| order).collect();
        for order in done {
            self.finish(order, Outcome::Done);
        }
    }

    /// A client wants a snapshot.
    pub(crate) fn snapshot_asked(&mut self, order: u64) {
        let applied = self.applying.applied;
        if self.options.snapshots.is_none() {
            return self.finish(order, Outcome::Refused(Refused::NoSnapshots));
        }
        if self.snapshots.end() >= applied {
            return self.finish(order, Outcome::Done);
        }
        self.snapshots.wanted = self.snapshots.wanted.max(Some(applied));
        self.snapshots.take_at = self.now;
        self.snapshots.waiting.push((applied, order));
    }

    /// Why a compaction is refused at once.
    pub(crate) fn unfit_compaction(&self, before: Seq) -> Option<Refused> {
        let end = self.applying.applied;
        match self.options.snapshots {
            None => Some(Refused::NoSnapshots),
            Some(options) if !options.compacts => Some(Refused::NeverCompacts),
            Some(_) => (before > end).then_some(Refused::NotApplied { end }),
        }
    }

    /// Nobody needs the entries before that, or it is so wanted: they go once a snapshot stands for them.
    pub(crate) fn compaction_allowed(&mut self, order: u64, kept: Option<Seq>) {
        let Some(Work::Compact { before }) = self.calls.all.get(&order).map(|it| &it.work) else {
            return;
        };
        let before = *before;
        if let Some(from) = kept.filter(|kept| *kept < before) {
            return self.finish(order, Outcome::Refused(Refused::StillNeeded { from }));
        }
        if before > self.snapshots.end() {
            self.snapshots.wanted = self.snapshots.wanted.max(Some(before));
            self.snapshots.take_at = self.now;
        }
        self.compact_to(before);
        self.snapshots.compaction.waiting.push((before, order));
        self.is_restless = true;
    }

    /// Up to where all members hold the log, as far as this leader knows.
    pub(crate) fn held_by_all(&self) -> Seq {
        let Some(configuration) = self.core.configuration() else {
            return Seq::ZERO;
        };
        let me = self.core.id();
        let matched = |id: NodeId| {
            let mut peers = self.core.peers();
            peers.find(|(peer, _)| *peer == id).map_or(Seq::ZERO, |(_, peer)| peer.matched)
        };
        let others = configuration.everyone().filter(|member| member.id != me);
        others.map(|member| matched(member.id)).min().unwrap_or(Seq::MAX)
    }

    /// Nobody waits for that any more.
    pub(crate) fn keeping_given_up(&mut self, order: u64) {
        self.snapshots.waiting.retain(|(_, waiting)| *waiting != order);
        self.snapshots.compaction.waiting.retain(|(_, waiting)| *waiting != order);
    }
}
