//! Writing the calls of a group: one write to the log, and what becomes of each call.
//!
//! A call that does not fit is refused alone, before anything is written. What only the log can judge it
//! judges for the whole group; then each call is tried by itself, so that a refused one takes no other with it.

use std::io;

use tinyraftplus_core::{EntryId, Seq, Term};

use crate::{
    Effect, EntryKind, Log, LogEntry, LogError, Write,
    num::{u64_of, usize_of},
    shared::{
        event::{Base, Outcome},
        queue::{Call, What},
    },
};

/// What a log says of its newest entry, after writing.
#[derive(Debug, Default)]
pub(crate) enum Newest {
    /// As before.
    #[default]
    Same,
    /// It is this one.
    Entry(LogEntry),
    /// Whichever is there.
    Unknown,
}

/// What became of a group.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What to tell which call, in their order.
    pub(crate) results: Vec<(usize, Result<Outcome, LogError>)>,
    pub(crate) newest: Newest,
    /// Entries were dropped.
    pub(crate) trimmed: bool,
    /// A write took too long, and may still happen.
    pub(crate) late: bool,
    /// Nobody knows what is on the disk.
    pub(crate) poisoned: bool,
}

/// What a log is like between two writes.
pub(crate) fn base(log: &dyn Log) -> Base {
    let term = log.hard_state().term.max(log.last().map_or(Term::ZERO, |last| last.term));
    Base { bounds: log.bounds(), term }
}

/// Writes the calls.
pub(crate) fn write(log: &mut dyn Log, calls: Vec<Call>, report: &mut Report) {
    for call in attempt(log, calls, report) {
        if report.poisoned {
            report.results.push((call.index, Err(LogError::Poisoned)));
        } else {
            let refused = attempt(log, vec![call], report);
            debug_assert!(refused.is_empty(), "there is nobody to be tried without");
        }
    }
}

/// Writes the calls at once. Gives those that must be tried one by one.
fn attempt(log: &mut dyn Log, calls: Vec<Call>, report: &mut Report) -> Vec<Call> {
    let mut plan = Plan::new(base(log));
    let mut accepted = Vec::with_capacity(calls.len());
    for Call { index, what } in calls {
        match plan.add(what) {
            Ok(part) => accepted.push((index, part)),
            Err(error) => report.results.push((index, Err(error))),
        }
    }
    let written = if plan.writes.is_empty() { Ok(()) } else { log.write(&plan.writes) };
    match written {
        Ok(()) => {
            plan.tell(report);
            report
                .results
                .extend(accepted.into_iter().map(|(index, part)| (index, Ok(part.outcome()))));
            Vec::new()
        }
        Err(error) if accepted.len() > 1 && is_refusal(&error) => plan.take_back(accepted),
        Err(error) => {
            report.late |= matches!(error, LogError::Timeout { .. });
            report.poisoned |= error.effect() == Effect::Possible && !report.late;
            let last = accepted.pop();
            let others = accepted.into_iter().map(|(index, _)| (index, Err(copy(&error))));
            report.results.extend(others);
            report.results.extend(last.map(|(index, _)| (index, Err(error))));
            Vec::new()
        }
    }
}

/// Whether the log did nothing, and might do it for others.
const fn is_refusal(error: &LogError) -> bool {
    matches!(error.effect(), Effect::None)
        && !error.is_fatal()
        && !matches!(error, LogError::Timeout { .. })
}

/// The same error again, for another call of its group.
fn copy(error: &LogError) -> LogError {
    if let LogError::WriteFailed { op, path, source } = error {
        let source = match source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(source.kind(), source.to_string()),
        };
        LogError::WriteFailed { op, path: path.clone(), source }
    } else if let LogError::Timeout { op, after, effect } = error {
        LogError::Timeout { op, after: *after, effect: *effect }
    } else if let LogError::Panicked { op, message } = error {
        LogError::Panicked { op, message: message.clone() }
    } else if matches!(error, LogError::Closed) {
        LogError::Closed
    } else {
        LogError::Poisoned
    }
}

/// One write that holds all calls of a group that fit.
struct Plan {
    writes: Vec<Write>,
    /// The first of them is a transaction's, and nothing may join it.
    commits: bool,
    base: Base,
}

/// A call's part in the plan.
enum Part {
    Append { at: Option<Seq>, seq: Seq },
    Batch { at: Option<Seq>, start: Seq, end: Seq },
    Trim(Option<Seq>),
    Compact(Seq),
    Commit,
}

impl Plan {
    const fn new(base: Base) -> Self {
        Self { writes: Vec::new(), commits: false, base }
    }

    fn add(&mut self, what: What) -> Result<Part, LogError> {
        match what {
            What::Append { at, payload } => {
                let seq = self.next(at, 1)?;
                self.push(seq, payload, true);
                Ok(Part::Append { at, seq })
            }
            What::Batch { at, payloads } => {
                let start = self.next(at, u64_of(payloads.len()))?;
                let last = payloads.len().checked_sub(1).ok_or(LogError::Empty)?;
                for (n, payload) in payloads.into_iter().enumerate() {
                    self.push(self.base.bounds.end, payload, n == last);
                }
                Ok(Part::Batch { at, start, end: self.base.bounds.end })
            }
            What::Trim(keep) => {
                let start = self.base.bounds.start;
                if let Some(got) = keep.filter(|&keep| keep < start) {
                    return Err(LogError::Compacted { start, got });
                }
                let end = keep.map_or(start, Seq::after);
                if end < self.base.bounds.end {
                    self.base.bounds.end = end;
                    self.writes.push(Write { trim: Some(end), ..Write::default() });
                }
                Ok(Part::Trim(keep))
            }
            What::Compact(before) => {
                let bounds = &mut self.base.bounds;
                bounds.start = bounds.start.max(before.min(bounds.end));
                self.writes.push(Write { compact: Some(before), ..Write::default() });
                Ok(Part::Compact(before))
            }
            What::Commit(write) => {
                debug_assert!(
                    self.writes.is_empty(),
                    "a transaction goes before all that waited for it"
                );
                if let Some(end) = write.trim {
                    self.base.bounds.end = end;
                }
                if let Some(last) = write.append.last() {
                    self.base.bounds.end = last.id.seq.after();
                }
                if write.trim.is_some() || !write.append.is_empty() {
                    self.writes.push(*write);
                    self.commits = true;
                }
                Ok(Part::Commit)
            }
            What::Txn | What::Close => Err(LogError::Closed),
        }
    }

    /// Where the next entries go.
    fn next(&self, at: Option<Seq>, count: u64) -> Result<Seq, LogError> {
        let expected = self.base.bounds.end;
        if let Some(got) = at.filter(|&at| at != expected) {
            return Err(LogError::WrongSeq { expected, got });
        }
        expected.checked_add(count).map(|_| expected).ok_or(LogError::Full)
    }

    fn push(&mut self, seq: Seq, payload: bytes::Bytes, ends_batch: bool) {
        if self.writes.is_empty() || self.commits && self.writes.len() == 1 {
            self.writes.push(Write::default());
        }
        let id = EntryId::new(self.base.term, seq);
        if let Some(write) = self.writes.last_mut() {
            write.append.push(LogEntry { id, kind: EntryKind::Payload, ends_batch, payload });
        }
        self.base.bounds.end = seq.after();
    }

    /// Says what the writes did.
    fn tell(&self, report: &mut Report) {
        for write in &self.writes {
            if write.trim.is_some() {
                report.trimmed = true;
                report.newest = Newest::Unknown;
            }
            if let Some(last) = write.append.last() {
                report.newest = Newest::Entry(last.clone());
            }
        }
    }

    /// The calls as they were before they were added.
    fn take_back(mut self, accepted: Vec<(usize, Part)>) -> Vec<Call> {
        let first = if self.commits { Some(self.writes.remove(0)) } else { None };
        let mut commit = first.map(Box::new);
        let mut payloads =
            self.writes.into_iter().flat_map(|write| write.append).map(|e| e.payload);
        let calls = accepted.into_iter().map(|(index, part)| {
            let what = match part {
                Part::Append { at, .. } => {
                    What::Append { at, payload: payloads.next().unwrap_or_default() }
                }
                Part::Batch { at, start, end } => {
                    let count = usize_of(end.since(start));
                    What::Batch { at, payloads: payloads.by_ref().take(count).collect() }
                }
                Part::Trim(keep) => What::Trim(keep),
                Part::Compact(before) => What::Compact(before),
                Part::Commit => What::Commit(commit.take().unwrap_or_default()),
            };
            Call { index, what }
        });
        calls.collect()
    }
}

impl Part {
    fn outcome(self) -> Outcome {
        match self {
            Self::Append { seq, .. } => Outcome::Seqs(seq..seq.after()),
            Self::Batch { start, end, .. } => Outcome::Seqs(start..end),
            Self::Trim(_) | Self::Compact(_) | Self::Commit => Outcome::Done,
        }
    }
}
