//! The suite must notice a log that is wrong, or it has proved nothing about those that are right.
//!
//! A right log is made from a [`MemLog`] by keeping what was written and writing it again when it is opened. Then
//! it is made wrong in one way after the other; each must be noticed by the check that is for it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
#![expect(clippy::wildcard_enum_match_arm, reason = "each log is wrong in one place")]

use std::{
    collections::BTreeSet,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tinyraftplus_core::{EntryId, HardState, Identity, Restored, Seq, Term};
use tinyraftplus_log::{
    EntryKind, Log, LogEntry, LogError, LogOptions, LogRead, LogStats, MemLog, Write, log_suite,
    suite::{self, Subject},
};

/// What a wrong log does wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Bug {
    None,
    // When it is opened again.
    ForgetsTheLastEntry,
    ForgetsTrims,
    ForgetsTheVote,
    ForgetsTheConfiguration,
    ForgetsTheTermBeforeTheStart,
    ForgetsCompaction,
    ForgetsBatchEnds,
    ForgetsKinds,
    ForgetsEmptyPayloads,
    ForgetsWhatWasNotClosed,
    ForgetsAllOnTheSecondOpening,
    DrawsANewIdentity,
    OneIdentityForAll,
    IgnoresTheFirstSeq,
    LetsASecondOwnerIn,
    KeepsTheLockWhenClosed,
    // When it is written to.
    TakesAnySeq,
    TakesAnEmptyBatchsPlace,
    TakesAnyTerm,
    TakesASplitBatch,
    EndsTheFirstBatchOnly,
    SplitsBatches,
    LetsAVoteChange,
    HasNoLimits,
    LimitIsOneTooLow,
    GroupLimitIsTooHigh,
    KeepsTheFirstWriteOfABadGroup,
    FailsAfterARefusal,
    TrimsOneTooMany,
    TrimsBelowTheStart,
    EmptyWritesTrim,
    CompactionMovesTheEnd,
    CompactsOneTooMany,
    CompactsBeforeItTrims,
    CompactsPastTheEnd,
    CompactsBackwards,
    ResetKeepsTheStart,
    ResetForgetsTheVote,
    WritesAgainAfterClose,
    TakesEntriesPastTheLast,
    TruncatesSeqs,
    // When it is read.
    ReadsTheTermWrong,
    ReadsOneLess,
    ReadsTheEndToo,
    ReadsWithoutBound,
    ReadsStale,
    ReadsPastTheEnd,
    ReadsBelowTheStart,
    ReadsAfterClose,
    ForgetsDrops,
    DropsTooMuch,
    CountsTrimmedEntries,
    CountsNoSyncs,
    SecondCloseFails,
    MarksAppend,
    MarksDrop,
    LastIsNoneWhenEmpty,
    ReadsTornBesideTheWriter,
    ForgetsRepairs,
    TakesAnyRepair,
}

/// What is left of a wrong log when it is closed.
#[derive(Debug, Default)]
struct Disk {
    groups: Vec<Vec<Write>>,
    /// How many of them were there when it was last closed.
    closed: usize,
    openings: u64,
    open: bool,
}

struct Wrong {
    bug: Bug,
    inner: MemLog,
    disk: Arc<Mutex<Disk>>,
    owner: bool,
    closed: bool,
    refusals: u64,
    /// Writes that opening made.
    replayed: u64,
    trimmed: u64,
    options: LogOptions,
}

fn subject(bug: Bug) -> Subject {
    static IDENTITIES: AtomicU64 = AtomicU64::new(1);
    let disk = Arc::new(Mutex::new(Disk::default()));
    let identity = IDENTITIES.fetch_add(1, Ordering::Relaxed);
    Subject::new(move |options| Wrong::open(bug, &disk, options, identity))
}

impl Wrong {
    fn open(
        bug: Bug,
        disk: &Arc<Mutex<Disk>>,
        options: &LogOptions,
        identity: u64,
    ) -> Result<Self, LogError> {
        let mut kept = disk.lock().unwrap();
        if kept.open && bug != Bug::LetsASecondOwnerIn {
            return Err(LogError::Locked(PathBuf::from("wrong")));
        }
        kept.open = true;
        kept.openings += 1;
        let mut wanted = options.clone();
        wanted.seed = Some(match bug {
            Bug::DrawsANewIdentity => identity << 32 | kept.openings,
            Bug::OneIdentityForAll => 7,
            _ => identity,
        });
        if bug == Bug::IgnoresTheFirstSeq {
            wanted.first_seq = Seq::ZERO;
        }
        if bug == Bug::HasNoLimits {
            wanted.entry_bytes_max = 1 << 30;
            wanted.batch_bytes_max = 1 << 29;
            wanted.group_bytes_max = 1 << 30;
        }
        if bug == Bug::LimitIsOneTooLow {
            wanted.batch_bytes_max -= 1;
        }
        let mut inner = MemLog::new(wanted)?;
        let mut groups = kept.groups.clone();
        if bug == Bug::ForgetsWhatWasNotClosed {
            groups.truncate(kept.closed);
        }
        if bug == Bug::ForgetsAllOnTheSecondOpening && kept.openings > 2 {
            groups.clear();
        }
        for mut group in groups {
            for write in &mut group {
                forget(bug, write);
            }
            // What forgetting makes impossible is forgotten too.
            let _ = inner.write(&group);
        }
        if bug == Bug::ForgetsTheLastEntry && !inner.bounds().is_empty() {
            let last = inner.bounds().end.before();
            inner.write(&[Write { trim: last, ..Write::default() }])?;
        }
        drop(kept);
        let (disk, options) = (Arc::clone(disk), options.clone());
        let replayed = inner.stats().syncs;
        Ok(Self {
            bug,
            inner,
            disk,
            owner: true,
            closed: false,
            refusals: 0,
            replayed,
            trimmed: 0,
            options,
        })
    }

    fn leave(&mut self) {
        if self.owner {
            self.disk.lock().unwrap().open = false;
            self.owner = false;
        }
    }

    /// The group as the wrong log writes it.
    fn bent(&self, group: &[Write]) -> Vec<Write> {
        let mut group = group.to_vec();
        let bounds = self.inner.bounds();
        let mut next = bounds.end;
        for write in &mut group {
            let last = write.append.len().saturating_sub(1);
            for (at, entry) in write.append.iter_mut().enumerate() {
                match self.bug {
                    Bug::TakesAnySeq => entry.id.seq = next,
                    Bug::TakesAnyTerm => {
                        let newest = self.inner.last().map_or(Term::ZERO, |last| last.term);
                        entry.id.term = entry.id.term.max(newest);
                    }
                    Bug::TakesASplitBatch if at == last => entry.ends_batch = true,
                    Bug::SplitsBatches => entry.ends_batch = true,
                    Bug::EndsTheFirstBatchOnly if at < last => entry.ends_batch = false,
                    Bug::TruncatesSeqs => {
                        entry.id.seq = Seq::new(entry.id.seq.get() & ((1 << 63) - 1));
                    }
                    _ => {}
                }
                next = next.after();
            }
            match self.bug {
                Bug::LetsAVoteChange => {
                    write.hard_state =
                        write.hard_state.filter(|hard| hard.term != self.inner.hard_state().term);
                }
                Bug::TrimsOneTooMany => {
                    write.trim = write
                        .trim
                        .map(|end| end.before().map_or(end, |before| before.max(bounds.start)));
                }
                Bug::TrimsBelowTheStart => {
                    write.trim = write.trim.map(|end| end.max(bounds.start));
                }
                Bug::EmptyWritesTrim
                    if write.append.is_empty()
                        && write.hard_state.is_none()
                        && write.configuration.is_none()
                        && write.reset.is_none()
                        && write.compact.is_none()
                        && write.trim.is_none() =>
                {
                    write.trim = Some(bounds.start);
                }
                Bug::CompactionMovesTheEnd if write.compact.is_some() => {
                    write.trim = bounds.end.before().filter(|&end| end >= bounds.start);
                }
                Bug::CompactsOneTooMany => {
                    write.compact =
                        write.compact.map(|start| start.after().min(self.inner.bounds().end));
                }
                Bug::CompactsPastTheEnd => {
                    write.compact = write.compact.map(|start| start.min(bounds.end));
                }
                Bug::CompactsBackwards
                    if write.compact.is_some_and(|start| start < bounds.start) =>
                {
                    write.trim = Some(bounds.start);
                }
                Bug::ResetKeepsTheStart if write.reset.take().is_some() => {
                    write.trim = Some(bounds.start);
                }
                Bug::ForgetsTheTermBeforeTheStart => {
                    if let Some(reset) = &mut write.reset {
                        reset.before = Term::ZERO;
                    }
                }
                _ => {}
            }
        }
        if self.bug == Bug::CompactsBeforeItTrims {
            group = group
                .into_iter()
                .flat_map(|write| {
                    let first = Write { compact: write.compact, ..Write::default() };
                    [first, Write { compact: None, ..write }]
                })
                .collect();
        }
        group
    }
}

/// What is not read back.
fn forget(bug: Bug, write: &mut Write) {
    match bug {
        Bug::ForgetsTrims => write.trim = None,
        Bug::ForgetsTheVote => {
            if let Some(hard) = &mut write.hard_state {
                hard.vote = None;
            }
        }
        Bug::ForgetsTheConfiguration => write.configuration = None,
        Bug::ForgetsRepairs => write.repair.clear(),
        Bug::ForgetsCompaction => write.compact = None,
        Bug::ForgetsBatchEnds => write.append.iter_mut().for_each(|entry| entry.ends_batch = true),
        Bug::ForgetsKinds => {
            write.append.iter_mut().for_each(|entry| entry.kind = EntryKind::Payload);
        }
        Bug::ForgetsEmptyPayloads => write.append.retain(|entry| !entry.payload.is_empty()),
        Bug::ResetForgetsTheVote if write.reset.is_some() => write.hard_state = None,
        _ => {}
    }
}

impl Log for Wrong {
    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn restored(&self) -> Restored {
        self.inner.restored()
    }

    fn write(&mut self, group: &[Write]) -> Result<(), LogError> {
        if self.closed && self.bug == Bug::WritesAgainAfterClose {
            return Ok(());
        }
        let past = |entry: &LogEntry| entry.id.seq == Seq::MAX;
        if self.bug == Bug::TakesEntriesPastTheLast
            && group.iter().any(|write| write.append.iter().any(past))
        {
            return Ok(());
        }
        if self.bug == Bug::FailsAfterARefusal && self.refusals > 0 {
            return Err(LogError::Poisoned);
        }
        if self.bug == Bug::TakesAnEmptyBatchsPlace && group.iter().any(|w| w.append.len() > 2) {
            return Err(LogError::Empty);
        }
        let limit = Log::group_bytes_max(self);
        let bytes = group
            .iter()
            .flat_map(|write| &write.append)
            .map(|entry| entry.payload.len() as u64)
            .sum();
        if bytes > limit {
            return Err(LogError::TooLarge { what: "a group", bytes, limit });
        }
        if self.bug == Bug::GroupLimitIsTooHigh && bytes > 100_000 {
            return Err(LogError::TooLarge { what: "a group", bytes, limit: 100_000 });
        }
        let mut bent = self.bent(group);
        if self.bug == Bug::TakesAnyRepair {
            for write in &mut bent {
                write.repair.clear();
            }
        }
        let result = self.inner.write(&bent);
        if result.is_ok() {
            self.trimmed += bent.iter().filter(|write| write.trim.is_some()).count() as u64;
            self.disk.lock().unwrap().groups.push(bent);
        } else {
            self.refusals += 1;
            if self.bug == Bug::KeepsTheFirstWriteOfABadGroup && bent.len() > 1 {
                let first = vec![bent[0].clone()];
                if self.inner.write(&first).is_ok() {
                    self.disk.lock().unwrap().groups.push(first);
                }
            }
        }
        result
    }

    fn reader(&self) -> Arc<dyn LogRead> {
        let inner = self.inner.reader();
        let bounds = inner.bounds();
        let stale = if bounds.is_empty() {
            Vec::new()
        } else {
            inner.read(bounds.start, bounds.end, u64::MAX).unwrap_or_default()
        };
        Arc::new(WrongReader { bug: self.bug, inner, stale })
    }

    fn bounds(&self) -> Range<Seq> {
        self.inner.bounds()
    }

    fn hard_state(&self) -> HardState {
        self.inner.hard_state()
    }

    fn last(&self) -> Option<EntryId> {
        match self.bug {
            Bug::LastIsNoneWhenEmpty if self.inner.bounds().is_empty() => None,
            _ => self.inner.last(),
        }
    }

    fn group_bytes_max(&self) -> u64 {
        if self.bug == Bug::HasNoLimits { u64::MAX } else { self.options.group_bytes_max }
    }

    fn batch_bytes_max(&self) -> u64 {
        self.inner.batch_bytes_max()
    }

    fn entry_bytes_max(&self) -> u64 {
        self.inner.entry_bytes_max()
    }

    fn stats(&self) -> LogStats {
        let mut stats = self.inner.stats();
        stats.syncs -= self.replayed;
        match self.bug {
            Bug::CountsTrimmedEntries => stats.entries += self.trimmed,
            Bug::CountsNoSyncs => stats.syncs = 0,
            _ => {}
        }
        stats
    }

    fn mark(&mut self) -> Result<(), LogError> {
        match self.bug {
            Bug::MarksAppend => {
                let seq = self.inner.bounds().end;
                let term = self.inner.last().map_or(Term::ZERO, |last| last.term);
                let (id, payload) = (EntryId::new(term, seq), Bytes::new());
                let mark = LogEntry { id, kind: EntryKind::Noop, ends_batch: true, payload };
                self.write(&[Write { append: vec![mark], ..Write::default() }])
            }
            Bug::MarksDrop => {
                self.disk.lock().unwrap().groups.pop();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), LogError> {
        if self.closed && self.bug == Bug::SecondCloseFails {
            return Err(LogError::Closed);
        }
        self.closed = true;
        let mut disk = self.disk.lock().unwrap();
        disk.closed = disk.groups.len();
        drop(disk);
        if self.bug != Bug::KeepsTheLockWhenClosed {
            self.leave();
        }
        if self.bug == Bug::ReadsAfterClose { Ok(()) } else { self.inner.close() }
    }
}

impl Drop for Wrong {
    fn drop(&mut self) {
        self.leave();
        let _ = self.inner.close();
    }
}

struct WrongReader {
    bug: Bug,
    inner: Arc<dyn LogRead>,
    stale: Vec<LogEntry>,
}

impl LogRead for WrongReader {
    fn read(&self, start: Seq, end: Seq, bytes_max: u64) -> Result<Vec<LogEntry>, LogError> {
        let bounds = self.inner.bounds();
        let mut entries = match self.bug {
            Bug::ReadsWithoutBound => self.inner.read(start, end, u64::MAX)?,
            Bug::ReadsTheEndToo if end < bounds.end => {
                self.inner.read(start, end.after(), bytes_max)?
            }
            Bug::ReadsPastTheEnd => self.inner.read(start, end.min(bounds.end), bytes_max)?,
            Bug::ReadsBelowTheStart => self.inner.read(start.max(bounds.start), end, bytes_max)?,
            Bug::ReadsTornBesideTheWriter if bytes_max == u64::MAX => {
                // Reads in two pieces, and does not ask whether that is still the same log.
                let middle = Seq::new(end.get().saturating_sub(2)).max(start);
                let mut entries = self.inner.read(start, middle, bytes_max)?;
                let drops = self.inner.drops();
                for _ in 0..20_000 {
                    if self.inner.drops() > drops {
                        break;
                    }
                    std::thread::yield_now();
                }
                entries.extend(self.inner.read(middle, end, bytes_max)?);
                entries
            }
            Bug::ReadsStale => {
                self.inner.read(start, end, bytes_max)?;
                self.stale.iter().filter(|e| e.id.seq >= start && e.id.seq < end).cloned().collect()
            }
            _ => self.inner.read(start, end, bytes_max)?,
        };
        match self.bug {
            Bug::ReadsTheTermWrong => {
                for entry in &mut entries {
                    entry.id.term = Term::ZERO;
                }
            }
            Bug::ReadsOneLess if entries.len() > 7 => {
                entries.remove(0);
            }
            _ => {}
        }
        Ok(entries)
    }

    fn bounds(&self) -> Range<Seq> {
        self.inner.bounds()
    }

    fn drops(&self) -> u64 {
        self.inner.drops()
    }

    fn kept_since(&self, drops: u64) -> Seq {
        match self.bug {
            Bug::ForgetsDrops => Seq::MAX,
            Bug::DropsTooMuch if self.inner.kept_since(drops) < Seq::MAX => Seq::ZERO,
            _ => self.inner.kept_since(drops),
        }
    }
}

log_suite!(a_right_log, subject(Bug::None));

/// Each wrong log, and the check that is for it.
const WRONG: &[(Bug, &str)] = &[
    (Bug::ForgetsTheLastEntry, "appends_in_order"),
    (Bug::ForgetsTrims, "trim_drops_the_newest"),
    (Bug::ForgetsTheVote, "hard_state_never_goes_back"),
    (Bug::ForgetsTheConfiguration, "a_configuration_is_kept"),
    (Bug::ForgetsTheTermBeforeTheStart, "reset_begins_anew"),
    (Bug::ForgetsCompaction, "nothing_to_compact"),
    (Bug::ForgetsBatchEnds, "a_batch_is_one"),
    (Bug::ForgetsKinds, "kinds_and_terms_are_kept"),
    (Bug::ForgetsEmptyPayloads, "empty_payloads"),
    (Bug::ForgetsWhatWasNotClosed, "a_log_that_was_dropped_is_whole"),
    (Bug::ForgetsAllOnTheSecondOpening, "reopens_many_times"),
    (Bug::DrawsANewIdentity, "an_identity_is_kept"),
    (Bug::OneIdentityForAll, "an_identity_is_kept"),
    (Bug::IgnoresTheFirstSeq, "grows_at_the_limit_of_doubles"),
    (Bug::LetsASecondOwnerIn, "opens_only_once"),
    (Bug::KeepsTheLockWhenClosed, "opens_only_once"),
    (Bug::TakesAnySeq, "a_wrong_seq_is_refused"),
    (Bug::TakesAnEmptyBatchsPlace, "a_batch_is_one"),
    (Bug::TakesAnyTerm, "terms_never_go_down"),
    (Bug::TakesASplitBatch, "a_split_batch_is_refused"),
    (Bug::EndsTheFirstBatchOnly, "a_batch_is_one"),
    (Bug::SplitsBatches, "a_batch_is_one"),
    (Bug::LetsAVoteChange, "hard_state_never_goes_back"),
    (Bug::HasNoLimits, "limits_are_named"),
    (Bug::LimitIsOneTooLow, "limits_are_named"),
    (Bug::GroupLimitIsTooHigh, "groups_of_any_size_in_the_limit"),
    (Bug::KeepsTheFirstWriteOfABadGroup, "a_group_is_all_or_nothing"),
    (Bug::FailsAfterARefusal, "a_refused_call_changes_nothing"),
    (Bug::TrimsOneTooMany, "trim_with_appends_is_one"),
    (Bug::TrimsBelowTheStart, "trim_below_the_start_is_refused"),
    (Bug::EmptyWritesTrim, "groups_that_change_nothing"),
    (Bug::CompactionMovesTheEnd, "compaction_moves_the_start"),
    (Bug::CompactsOneTooMany, "compaction_moves_the_start"),
    (Bug::CompactsBeforeItTrims, "compacts_with_other_changes"),
    (Bug::CompactsPastTheEnd, "compacts_to_the_end_and_past_it"),
    (Bug::CompactsBackwards, "nothing_to_compact"),
    (Bug::ResetKeepsTheStart, "a_write_happens_in_its_order"),
    (Bug::ResetForgetsTheVote, "a_write_happens_in_its_order"),
    (Bug::WritesAgainAfterClose, "closing_ends_everything"),
    (Bug::TakesEntriesPastTheLast, "grows_to_the_last_position"),
    (Bug::TruncatesSeqs, "grows_at_the_limit_of_signed_numbers"),
    (Bug::ReadsTheTermWrong, "kinds_and_terms_are_kept"),
    (Bug::ReadsOneLess, "reads_are_bounded"),
    (Bug::ReadsTheEndToo, "iterates_over_any_range"),
    (Bug::ReadsWithoutBound, "reads_are_bounded"),
    (Bug::ReadsStale, "readers_see_what_is_durable"),
    (Bug::ReadsPastTheEnd, "reads_outside_are_refused"),
    (Bug::ReadsBelowTheStart, "reads_outside_are_refused"),
    (Bug::ReadsAfterClose, "closing_ends_everything"),
    (Bug::ForgetsDrops, "a_trim_stops_an_iterator"),
    (Bug::DropsTooMuch, "a_trim_past_its_end_spares_an_iterator"),
    (Bug::CountsTrimmedEntries, "trim_drops_the_newest"),
    (Bug::CountsNoSyncs, "stats_count"),
    (Bug::SecondCloseFails, "closes_twice"),
    (Bug::MarksAppend, "marks_change_nothing"),
    (Bug::MarksDrop, "marks_change_nothing"),
    (Bug::LastIsNoneWhenEmpty, "reset_begins_anew"),
    (Bug::ForgetsRepairs, "repairs_take_the_place_of_entries"),
    (Bug::TakesAnyRepair, "repairs_of_something_else_are_refused"),
    (Bug::ReadsTornBesideTheWriter, "readers_beside_the_writer"),
];

/// What the check says about the wrong log; `None` if it does not notice.
fn complaint(bug: Bug, check: &str) -> Option<String> {
    let run = AssertUnwindSafe(|| suite::check(check, &|| subject(bug)));
    let panic = catch_unwind(run).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
}

#[test]
fn every_wrong_log_is_noticed_by_the_check_that_is_for_it() {
    let mut missed = Vec::new();
    for (bug, check) in WRONG {
        match complaint(*bug, check) {
            None => {
                let others: Vec<_> =
                    suite::names().filter(|name| complaint(*bug, name).is_some()).collect();
                missed.push(format!("{bug:?}: not by {check}, but by {others:?}"));
            }
            Some(text) => {
                println!("{bug:?}, {check}: {text}");
                assert!(text.contains("expected"), "{bug:?}, {check} says only: {text}");
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// A check that no wrong log fails checks nothing.
#[test]
fn every_check_notices_a_wrong_log() {
    let mut idle: BTreeSet<&str> = suite::names().collect();
    let named: Vec<&str> = WRONG.iter().map(|(_, check)| *check).collect();
    idle.retain(|check| !named.contains(check));
    idle.retain(|check| WRONG.iter().all(|(bug, _)| complaint(*bug, check).is_none()));
    assert!(idle.is_empty(), "these checks notice none of the wrong logs: {idle:?}");
}
