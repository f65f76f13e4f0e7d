//! A log under test and the plain list that it must agree with, step by step.

use std::{
    fmt::Debug,
    ops::{Deref, DerefMut},
};

use bytes::Bytes;
use tinyraftplus_core::{HardState, Identity, Seq, Term};

use super::{
    Make, Subject,
    model::{Model, words},
};
use crate::{Effect, Log, LogEntry, LogError, LogExt, LogOptions, Write, num::u64_of};

/// A log, and what it should be.
pub(super) struct Case {
    subject: Subject,
    /// `None` only while it is being opened again.
    log: Option<Box<dyn Log>>,
    pub(super) model: Model,
    identity: Identity,
}

impl Deref for Case {
    type Target = dyn Log;

    fn deref(&self) -> &Self::Target {
        self.log.as_deref().expect("open, but for a moment in `reopen`")
    }
}

impl DerefMut for Case {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.log.as_deref_mut().expect("open, but for a moment in `reopen`")
    }
}

impl Case {
    /// A new log that begins at 0.
    #[track_caller]
    pub(super) fn new(make: &Make<'_>) -> Self {
        Self::starting_at(make, Seq::ZERO)
    }

    /// A new log.
    #[track_caller]
    pub(super) fn starting_at(make: &Make<'_>, start: Seq) -> Self {
        let mut subject = make();
        subject.options.first_seq = start;
        let log = done(subject.open(), "creating a log");
        let identity = log.identity();
        let case =
            Self { subject, log: Some(log), model: Model { start, ..Model::default() }, identity };
        case.agrees("after it was created");
        case
    }

    pub(super) const fn options(&self) -> &LogOptions {
        &self.subject.options
    }

    pub(super) const fn restarts(&self) -> bool {
        self.subject.restarts
    }

    pub(super) const fn compacts(&self) -> bool {
        self.subject.compacts
    }

    pub(super) const fn has_limits(&self) -> bool {
        self.subject.limits
    }

    pub(super) const fn begins_anywhere(&self) -> bool {
        self.subject.first_seq
    }

    /// Everything the log says of itself is what the list says.
    #[track_caller]
    pub(super) fn agrees(&self, when: &str) {
        let (log, model): (&dyn Log, _) = (&**self, &self.model);
        let end = model.end();
        same(&log.bounds(), &model.bounds(), &format!("bounds() {when}"));
        same(&log.start(), &model.start, &format!("start() {when}"));
        same(&log.end(), &end, &format!("end() {when}"));
        same(&log.last(), &model.last(), &format!("last() {when}"));
        same(&log.hard_state(), &model.hard, &format!("hard_state() {when}"));
        same(&log.identity(), &self.identity, &format!("identity() {when}"));
        same(&log.reader().bounds(), &model.bounds(), &format!("bounds() of a reader {when}"));
        same(
            &log.stats().entries,
            &u64_of(model.entries.len()),
            &format!("the number of entries in stats() {when}"),
        );
        same(&log.stats().end, &end, &format!("the end in stats() {when}"));
        let head = done(log.head(), &format!("reading the head {when}"));
        same_entry(head.as_ref(), model.entries.last(), &format!("head() {when}"));
        same_entries(&entries(log, when), &model.entries, when);
        self.remembers(when);
    }

    /// What it would tell a node that starts.
    #[track_caller]
    fn remembers(&self, when: &str) {
        let (restored, model) = (self.restored(), &self.model);
        same(&restored.identity, &self.identity, &format!("the identity in restored() {when}"));
        same(&restored.hard_state, &model.hard, &format!("the term and vote in restored() {when}"));
        same(
            &restored.configuration,
            &model.configuration,
            &format!("the configuration in restored() {when}"),
        );
        let terms = &restored.terms;
        same(
            &(terms.start()..terms.end()),
            &model.bounds(),
            &format!("the positions in restored() {when}"),
        );
        same(&terms.last(), &model.last(), &format!("the newest entry in restored() {when}"));
        let before = terms.entry_before(model.start).map_or(Term::ZERO, |id| id.term);
        same(&before, &model.before, &format!("the term before the start in restored() {when}"));
        for entry in &model.entries {
            let what = format!("the term of seq {} in restored() {when}", entry.id.seq);
            same(&terms.term_of(entry.id.seq), &Some(entry.id.term), &what);
        }
    }

    /// Writes a group; it must be taken.
    #[track_caller]
    pub(super) fn group(&mut self, group: &[Write], when: &str) {
        done(self.write(group), when);
        for write in group {
            self.model.apply(write);
        }
        self.agrees(when);
    }

    /// Makes one write; it must be taken.
    #[track_caller]
    pub(super) fn one(&mut self, write: Write, when: &str) {
        self.group(&[write], when);
    }

    /// Appends one entry as [`LogExt::append`], more as [`LogExt::append_batch`].
    #[track_caller]
    pub(super) fn add<P: Into<Bytes>>(
        &mut self,
        payloads: impl IntoIterator<Item = P>,
        when: &str,
    ) {
        let payloads: Vec<Bytes> = payloads.into_iter().map(Into::into).collect();
        let append = self.model.next_batch(payloads.iter().cloned());
        let start = self.model.end();
        if let [payload] = payloads.as_slice() {
            let seq = done(self.append(payload.clone()), when);
            same(&seq, &start, &format!("the seq that append() returned {when}"));
        } else {
            let seqs = done(self.append_batch(payloads), when);
            let end = start.checked_add(u64_of(append.len())).unwrap_or(Seq::MAX);
            same(&seqs, &(start..end), &format!("the range that append_batch() returned {when}"));
        }
        self.model.apply(&Write { append, ..Write::default() });
        self.agrees(when);
    }

    /// Keeps up to here, as [`LogExt::trim`].
    #[track_caller]
    pub(super) fn keep(&mut self, keep: Option<u64>, when: &str) {
        done(self.trim(keep.map(Seq::new)), when);
        let end = keep.map_or(self.model.start, |keep| Seq::new(keep).after());
        self.model.apply(&Write { trim: Some(end), ..Write::default() });
        self.agrees(when);
    }

    /// A group that must be refused, and change nothing.
    #[track_caller]
    pub(super) fn refuses(
        &mut self,
        group: &[Write],
        expected: &str,
        fits: impl Fn(&LogError) -> bool,
    ) -> LogError {
        let error = refused(self.write(group), expected, fits);
        self.agrees(&format!("after a refused write: {expected}"));
        error
    }

    /// Closes or drops the log and opens it again, if anything is left of it then. Says whether it did.
    #[track_caller]
    pub(super) fn reopen(&mut self, leave: Leave) -> bool {
        if !self.restarts() {
            return false;
        }
        let how = match leave {
            Leave::Closed => {
                done(self.close(), "closing the log");
                "after it was closed and opened again"
            }
            Leave::Dropped => "after it was dropped and opened again",
        };
        self.log = None;
        self.log = Some(done(self.subject.open(), &format!("opening the log {how}")));
        self.agrees(how);
        true
    }

    /// Closes it and opens it again, and drops it and opens it again.
    #[track_caller]
    pub(super) fn restart(&mut self) {
        self.reopen(Leave::Closed);
        self.reopen(Leave::Dropped);
    }

    /// Opens it beside the one that is open.
    pub(super) fn open_another(&mut self) -> Result<Box<dyn Log>, LogError> {
        self.subject.open()
    }

    /// Goes on with another handle.
    pub(super) fn replace(&mut self, log: Box<dyn Log>) {
        self.log = Some(log);
    }
}

/// How a log is left before it is opened again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Leave {
    Closed,
    Dropped,
}

/// All entries, read one after the other.
#[track_caller]
pub(super) fn entries(log: &dyn Log, when: &str) -> Vec<LogEntry> {
    log.iter(..).map(|entry| done(entry, &format!("reading all entries {when}"))).collect()
}

#[track_caller]
pub(super) fn same<T: PartialEq + Debug>(found: &T, expected: &T, what: &str) {
    assert!(found == expected, "{what}: expected {expected:?}, found {found:?}");
}

#[track_caller]
pub(super) fn same_entry(found: Option<&LogEntry>, expected: Option<&LogEntry>, what: &str) {
    assert!(found == expected, "{what}: expected {}, found {}", words(expected), words(found));
}

#[track_caller]
pub(super) fn same_entries(found: &[LogEntry], expected: &[LogEntry], when: &str) {
    for (at, expected) in expected.iter().enumerate() {
        same_entry(found.get(at), Some(expected), &format!("entry {} {when}", expected.id.seq));
    }
    let more = found.get(expected.len());
    same_entry(more, None, &format!("after the last entry {when}"));
}

/// The result of a call that must succeed.
#[track_caller]
pub(super) fn done<T>(result: Result<T, LogError>, what: &str) -> T {
    result.unwrap_or_else(|error| panic!("{what}: expected success, got the error: {error}"))
}

/// The error of a call that must be refused for this reason, with the log in working order.
#[track_caller]
pub(super) fn refused<T: Debug>(
    result: Result<T, LogError>,
    expected: &str,
    fits: impl Fn(&LogError) -> bool,
) -> LogError {
    let error = fails(result, expected, fits);
    assert!(
        error.effect() == Effect::None && !error.is_fatal(),
        "expected {expected}, which has no effect and is not fatal; found effect {:?}, fatal {} of {error:?}",
        error.effect(),
        error.is_fatal(),
    );
    error
}

/// The error of a call that must fail for this reason.
#[track_caller]
pub(super) fn fails<T: Debug>(
    result: Result<T, LogError>,
    expected: &str,
    fits: impl Fn(&LogError) -> bool,
) -> LogError {
    match result {
        Err(error) if fits(&error) => error,
        Err(error) => panic!("expected {expected}; got another error: {error:?}"),
        Ok(done) => panic!("expected {expected}; but it succeeded with {done:?}"),
    }
}

pub(super) fn append(entries: Vec<LogEntry>) -> Write {
    Write { append: entries, ..Write::default() }
}

pub(super) fn trim_to(end: u64) -> Write {
    Write { trim: Some(Seq::new(end)), ..Write::default() }
}

pub(super) fn compact_before(start: u64) -> Write {
    Write { compact: Some(Seq::new(start)), ..Write::default() }
}

pub(super) fn hard(term: u64, vote: Option<u128>) -> HardState {
    HardState { term: Term::new(term), vote: vote.map(Identity::new) }
}
