//! Is a history right? Decided from what clients were told and what the logs hold, by nothing that the nodes say of themselves.
//!
//! It is checked in parts: between two parts no call is under way, so only appends whose outcome is unknown reach from one
//! into the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::history::{Call, Deed, Outcome};
use crate::machine;
use crate::words::{Logged, What};

/// More findings than anybody reads.
const FINDINGS_MAX: usize = 20;

/// What did not hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    pub(crate) what: String,
}

/// Which promise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A committed append is not where its caller was told.
    Lost,
    /// A payload is in the log twice.
    Duplicated,
    /// A refused append is in the log.
    NotRefused,
    /// A part of a batch is in the log.
    Torn,
    /// The log holds something that nobody appended.
    Foreign,
    /// An append that began after another had ended comes before it.
    Order,
    /// Calls of one node are not in the order in which they were made.
    CallOrder,
    /// A read does not know of something that was committed, or read, before it began.
    Stale,
    /// A state machine's answer is not that of the history up to its seq.
    Answer,
    /// Two logs differ.
    Diverged,
    /// A call did not end in time.
    Endless,
    /// Nothing is committed though all is mended.
    Stuck,
    /// A node ended or complained by itself.
    Died,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

/// Checks a history part by part.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// The log so far, and the hash of the history up to each entry.
    log: Vec<Logged>,
    hashes: Vec<u64>,
    /// Where each payload is.
    places: BTreeMap<u64, u64>,
    /// All payloads of all appends: the first of each, and how many.
    appended: BTreeMap<u64, u64>,
    refused: BTreeSet<u64>,
    /// Appends that may still come, and what was certain when they began.
    open: Vec<(Call, Option<u64>)>,
    /// Where the calls of each process are.
    calls: BTreeMap<(u64, u64), u64>,
    /// The newest seq that somebody was told of.
    certain: Option<u64>,
    findings: Vec<Finding>,
}

impl Checker {
    /// How long the log is that was checked.
    pub(crate) fn end(&self) -> u64 {
        self.log.len() as u64
    }

    /// Checks the calls that ended since the last part, and the entries that came since.
    pub(crate) fn part(&mut self, calls: &[Call], entries: &[Logged]) -> Vec<Finding> {
        for call in calls {
            if let Deed::Append { first, count, .. } = call.what {
                self.appended.insert(first, count);
            }
        }
        for &entry in entries {
            self.extend(entry);
        }
        for (call, certain) in std::mem::take(&mut self.open) {
            self.append(call, certain);
        }
        self.in_time(calls);
        std::mem::take(&mut self.findings)
    }

    /// Checks the whole log of a node.
    pub(crate) fn whole(&self, node: u64, entries: &[Logged]) -> Vec<Finding> {
        diverged("what all agreed on", &self.log, node, entries, 0).into_iter().collect()
    }

    fn find(&mut self, kind: Kind, what: impl fmt::Display) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { kind, what: what.to_string() });
        }
    }

    fn extend(&mut self, entry: Logged) {
        let seq = self.end();
        let mut hash = self.hashes.last().copied().unwrap_or_default();
        self.log.push(entry);
        match entry.what {
            What::Own => {}
            What::Damaged => self.find(Kind::Foreign, format_args!("seq {seq} holds no payload")),
            What::Payload(number) => {
                hash = machine::after(hash, seq, number);
                let known = self.appended.range(..=number).next_back();
                if known.is_none_or(|(first, count)| number >= first + count) {
                    self.find(
                        Kind::Foreign,
                        format_args!("nobody appended {number}, at seq {seq}"),
                    );
                }
                if self.refused.contains(&number) {
                    self.find(
                        Kind::NotRefused,
                        format_args!("{number} was refused and came later, at seq {seq}"),
                    );
                }
                if let Some(other) = self.places.insert(number, seq) {
                    self.find(
                        Kind::Duplicated,
                        format_args!("{number} is at seq {other} and at seq {seq}"),
                    );
                }
            }
        }
        self.hashes.push(hash);
    }

    /// Goes through beginnings and ends in the order in which they were.
    fn in_time(&mut self, calls: &[Call]) {
        let began = calls.iter().map(|call| (call.began, true, call));
        let ended = calls.iter().map(|call| (call.ended, false, call));
        let mut moments: Vec<_> = began.chain(ended).collect();
        moments.sort_unstable_by_key(|&(moment, ..)| moment);
        for (_, begins, call) in moments {
            if begins {
                self.begin(*call);
            } else if let Some(told) = told(call) {
                self.certain = self.certain.max(Some(told));
            }
        }
    }

    fn begin(&mut self, call: Call) {
        match call.what {
            Deed::Append { .. } => self.append(call, self.certain),
            Deed::Read { seq, hash } => {
                if let Some(certain) = self.certain
                    && seq < certain
                {
                    self.find(
                        Kind::Stale,
                        format_args!("{call} began when seq {certain} was certain"),
                    );
                }
                self.answered(&call, seq, hash);
            }
        }
    }

    fn append(&mut self, call: Call, certain: Option<u64>) {
        let Deed::Append { first, count, outcome } = call.what else { return };
        match outcome {
            Outcome::Committed { seq, hash } => {
                for (number, seq) in (first..first + count).zip(seq..) {
                    let there = usize::try_from(seq).ok().and_then(|at| self.log.get(at)).copied();
                    if there.map(|entry| entry.what) != Some(What::Payload(number)) {
                        return self
                            .find(Kind::Lost, format_args!("{call}: seq {seq} holds {there:?}"));
                    }
                }
                self.answered(&call, seq + count - 1, hash);
                self.placed(call, seq, certain);
            }
            Outcome::Refused => {
                for number in first..first + count {
                    self.refused.insert(number);
                    if let Some(seq) = self.places.get(&number).copied() {
                        self.find(
                            Kind::NotRefused,
                            format_args!("{call}: {number} is at seq {seq}"),
                        );
                    }
                }
            }
            Outcome::Unknown => {
                let places: Vec<_> =
                    (first..first + count).map(|it| self.places.get(&it).copied()).collect();
                let Some(&Some(seq)) = places.iter().find(|place| place.is_some()) else {
                    return self.open.push((call, certain));
                };
                if !places.iter().zip(seq..).all(|(place, seq)| *place == Some(seq)) {
                    return self.find(Kind::Torn, format_args!("{call} is at {places:?}"));
                }
                self.placed(call, seq, certain);
            }
        }
    }

    /// An append is in the log, from there on.
    fn placed(&mut self, call: Call, seq: u64, certain: Option<u64>) {
        if let Some(certain) = certain
            && seq <= certain
        {
            self.find(
                Kind::Order,
                format_args!("{call} is at seq {seq}, and began when seq {certain} was certain"),
            );
        }
        let (process, order) = (call.process, call.order);
        let before = self.calls.range((process, 0)..(process, order)).next_back();
        let after = self.calls.range((process, order + 1)..=(process, u64::MAX)).next();
        if before.is_some_and(|(_, &other)| other > seq) || after.is_some_and(|(_, &it)| it < seq) {
            let what = format!(
                "{call} is at seq {seq}, the call before it is {before:?}, the one after it {after:?}"
            );
            self.find(Kind::CallOrder, what);
        }
        self.calls.insert((process, order), seq);
    }

    fn answered(&mut self, call: &Call, seq: u64, hash: u64) {
        let right = usize::try_from(seq).ok().and_then(|at| self.hashes.get(at)).copied();
        if right != Some(hash) {
            self.find(
                Kind::Answer,
                format_args!("{call} was answered {hash:x}, the history up to it is {right:x?}"),
            );
        }
    }
}

/// The newest seq that the caller was told of when this call ended.
const fn told(call: &Call) -> Option<u64> {
    match call.what {
        Deed::Append { outcome: Outcome::Committed { seq, .. }, count, .. } => {
            Some(seq + count - 1)
        }
        Deed::Append { outcome: Outcome::Refused | Outcome::Unknown, .. } => None,
        Deed::Read { seq, .. } => Some(seq),
    }
}

/// Where two logs differ first; both begin at that seq.
pub(crate) fn diverged(
    name: &str,
    log: &[Logged],
    node: u64,
    other: &[Logged],
    from: u64,
) -> Option<Finding> {
    let count = log.iter().zip(other).take_while(|(one, other)| one == other).count();
    if count == log.len() && count == other.len() {
        return None;
    }
    let (one, two) = (log.get(count), other.get(count));
    let seq = from + count as u64;
    let what = format!("at seq {seq} {name} is {one:?}, and node {node} has {two:?}");
    Some(Finding { kind: Kind::Diverged, what })
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
