//! What clients were told is true: acknowledged appends are there once and whole, refused ones never, all others
//! at most once; one node's calls commit in their order; every call ends once, and in time.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tinyraftplus_core::{Seq, Term, Time};
use tinyraftplus_log::EntryKind;
use tinyraftplus_replica::Outcome;

use super::{Verdict, Violation, matching::Known, reads::Reads, require};
use crate::orders::Order;

/// Names one start of one node's process.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Life {
    pub(crate) node: usize,
    pub(crate) number: u64,
}

/// All calls of a run.
#[derive(Debug)]
pub(crate) struct Calls {
    records: Vec<Record>,
    reads: Reads,
    /// The batch that was committed only in part so far.
    batch: Option<(u64, usize)>,
    /// The newest committed call of each process.
    newest_of: BTreeMap<Life, u64>,
    /// The calls of each process that have not ended, by deadline.
    open: BTreeMap<Life, BTreeSet<(Time, u64)>>,
    /// Positions of single empty payloads, which all look alike, and the calls that were told they are theirs.
    empties: BTreeMap<Seq, Option<u64>>,
    pub(crate) counts: Counts,
}

/// How calls ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    pub(crate) appends: u64,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    /// Appends whose node died before it could answer.
    pub(crate) lost: u64,
    pub(crate) reads: u64,
    pub(crate) reads_answered: u64,
}

#[derive(Debug)]
struct Record {
    life: Life,
    deadline: Time,
    /// That of its node when it began.
    term: Term,
    request: Asked,
    /// What had been acknowledged or read when it began: it comes after all of that.
    floor: Seq,
    /// Where it was committed.
    at: Option<(Seq, Seq)>,
    ended: Option<Ended>,
}

/// What a call asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    /// Append these.
    Append(Vec<Bytes>),
    /// Read, from all of them or from this node only.
    Read { local: bool },
    /// Do as you are told.
    Order(Order),
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    Committed,
    Read,
    Done,
    Refused,
    Unknown,
    /// Its node died.
    Lost,
}

const ORDER: &str = "calls of a node are committed in order";
const OUTCOME: &str = "outcomes are true";
const WHOLE: &str = "batches are whole";

impl Calls {
    pub(crate) const fn new(start: Seq) -> Self {
        Self {
            records: Vec::new(),
            reads: Reads::new(start),
            batch: None,
            newest_of: BTreeMap::new(),
            open: BTreeMap::new(),
            empties: BTreeMap::new(),
            counts: Counts {
                appends: 0,
                acknowledged: 0,
                refused: 0,
                unknown: 0,
                lost: 0,
                reads: 0,
                reads_answered: 0,
            },
        }
    }

    /// The number that the next call gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.records.len() as u64
    }

    /// A call begins.
    pub(crate) fn on_call(&mut self, life: Life, deadline: Time, term: Term, request: Asked) {
        match request {
            Asked::Append(_) => self.counts.appends += 1,
            Asked::Read { .. } => self.counts.reads += 1,
            Asked::Order(_) => {}
        }
        let number = self.next_number();
        self.open.entry(life).or_default().insert((deadline, number));
        let floor = self.reads.floor();
        let (at, ended) = (None, None);
        self.records.push(Record { life, deadline, term, request, floor, at, ended });
    }

    /// What a call asks for.
    pub(crate) fn asked(&self, call: u64) -> Option<&Asked> {
        self.record(call).map(|record| &record.request)
    }

    /// The term of its node when a call began.
    pub(crate) fn term(&self, call: u64) -> Term {
        self.record(call).map(|record| record.term).unwrap_or_default()
    }

    /// How a call ended, if it has.
    pub(crate) fn ended(&self, call: u64) -> Option<Ended> {
        self.record(call).and_then(|record| record.ended)
    }

    /// An entry is committed, for the first time anywhere.
    pub(crate) fn on_committed(&mut self, seq: Seq, entry: &Known) -> Verdict {
        let payload = (entry.kind == EntryKind::Payload).then_some(&entry.payload);
        self.reads.on_committed(seq, payload);
        let (call, place) = match (self.batch, payload) {
            (Some((call, _)), None) => {
                let what = format!("{} cuts the batch of call {call} in two", entry.id);
                return Err(Violation::new(WHOLE, what));
            }
            (None, None) => return Ok(()),
            (Some((call, place)), Some(_)) => (call, place),
            (None, Some(payload)) if payload.is_empty() => {
                require!(entry.ends_batch, WHOLE, "{} is a batch without its end", entry.id);
                self.empties.insert(seq, None);
                return Ok(());
            }
            (None, Some(payload)) => (self.begin(seq, entry, payload)?, 0),
        };
        self.go_on(seq, entry, call, place)
    }

    /// The first entry of a call is committed.
    fn begin(&mut self, seq: Seq, entry: &Known, payload: &Bytes) -> Result<u64, Violation> {
        let Some(call) = call_of(payload).filter(|&call| call < self.next_number()) else {
            let what = format!("{} is committed, and nobody appended it", entry.id);
            return Err(Violation::new(OUTCOME, what));
        };
        let record = self.record_mut(call);
        require!(
            record.at.is_none(),
            "an append commits once",
            "call {call} is committed as {:?} and again at {seq}",
            record.at
        );
        require!(
            record.ended != Some(Ended::Refused),
            OUTCOME,
            "call {call} was refused, and is committed at {seq}"
        );
        require!(
            seq >= record.floor,
            "later appends come later",
            "call {call} is committed at {seq}, and when it began everything before {} had been acknowledged",
            record.floor
        );
        let life = record.life;
        let newest = self.newest_of.insert(life, call);
        require!(
            newest.is_none_or(|newest| newest < call),
            ORDER,
            "node {} called {call} before {newest:?}, and it is committed after it",
            life.node + 1
        );
        Ok(call)
    }

    /// Entry number `place` of a call is committed.
    fn go_on(&mut self, seq: Seq, entry: &Known, call: u64, place: usize) -> Verdict {
        let record = self.record_mut(call);
        let Asked::Append(payloads) = &record.request else {
            return Err(Violation::new(
                OUTCOME,
                format!("call {call} was no append, and is committed"),
            ));
        };
        let ends = place + 1 == payloads.len();
        let same = payloads.get(place).is_some_and(|payload| *payload == entry.payload);
        require!(
            same && ends == entry.ends_batch,
            WHOLE,
            "{} is not entry {place} of {} of call {call}",
            entry.id,
            payloads.len()
        );
        record.at = Some((record.at.map_or(seq, |(first, _)| first), seq));
        self.batch = (!ends).then_some((call, place + 1));
        Ok(())
    }

    /// A client is told how its call ended.
    pub(crate) fn on_outcome(&mut self, call: u64, outcome: &Outcome) -> Result<Ended, Violation> {
        let Some(record) = self.record(call) else {
            return Err(Violation::new(OUTCOME, format!("call {call} ended and was never made")));
        };
        require!(
            record.ended.is_none(),
            "a call ends once",
            "call {call} ended as {:?} and then as {outcome:?}",
            record.ended
        );
        let append = match &record.request {
            Asked::Append(payloads) => Some(payloads.clone()),
            Asked::Read { .. } | Asked::Order(_) => None,
        };
        let is_order = matches!(record.request, Asked::Order(_));
        let is_transfer = matches!(record.request, Asked::Order(Order::HandOver(_)));
        let is_change = matches!(record.request, Asked::Order(Order::Members(_)));
        let (life, deadline, at, floor) = (record.life, record.deadline, record.at, record.floor);
        let ended = match (outcome, append) {
            (Outcome::Committed { first, last, results }, Some(payloads)) => {
                self.counts.acknowledged += 1;
                self.on_acknowledged(call, (*first, *last), &payloads, floor)?;
                self.reads.on_results(call, *first, payloads.len(), results)?;
                Ended::Committed
            }
            (Outcome::Read { seq, result }, None) if !is_order => {
                self.counts.reads_answered += 1;
                let local = matches!(
                    self.record(call).map(|r| &r.request),
                    Some(Asked::Read { local: true })
                );
                self.reads.on_answer(call, floor, local, *seq, result)?;
                Ended::Read
            }
            (Outcome::Refused(why), append) => {
                self.counts.refused += u64::from(append.is_some());
                require!(
                    at.is_none(),
                    OUTCOME,
                    "call {call} is refused ({why}), and committed as {at:?}"
                );
                Ended::Refused
            }
            (Outcome::Done, None) if is_order && !is_change => Ended::Done,
            (Outcome::Changed { .. }, None) if is_change => Ended::Done,
            (Outcome::NotChanged(_), None) if is_change => Ended::Refused,
            (Outcome::NotTransferred(_), None) if is_transfer => Ended::Refused,
            (Outcome::Unknown(_), None) if is_order => Ended::Unknown,
            (Outcome::Unknown(_), Some(_)) => {
                self.counts.unknown += 1;
                Ended::Unknown
            }
            (Outcome::Committed { .. } | Outcome::Unknown(_), None)
            | (
                Outcome::Read { .. }
                | Outcome::Done
                | Outcome::NotTransferred(_)
                | Outcome::Changed { .. }
                | Outcome::NotChanged(_),
                _,
            ) => {
                let what = format!("call {call} ended as what it never was: {outcome:?}");
                return Err(Violation::new(OUTCOME, what));
            }
        };
        if let Some(open) = self.open.get_mut(&life) {
            open.remove(&(deadline, call));
        }
        self.record_mut(call).ended = Some(ended);
        Ok(ended)
    }

    fn on_acknowledged(
        &mut self,
        call: u64,
        at: (Seq, Seq),
        payloads: &[Bytes],
        floor: Seq,
    ) -> Verdict {
        const CHECK: &str = "acknowledged is committed";
        let (first, last) = at;
        if payloads.iter().all(Bytes::is_empty) && payloads.len() == 1 {
            let slot = self.empties.get_mut(&first).filter(|_| first == last && first >= floor);
            let mine = slot.is_some_and(|owner| owner.replace(call).is_none());
            require!(
                mine,
                CHECK,
                "call {call} is said to be at {first}, where no empty payload of its own is committed"
            );
        } else {
            let committed = self.record(call).and_then(|record| record.at);
            let whole = last.since(first) + 1 == payloads.len() as u64
                && self.batch.is_none_or(|(open, _)| open != call);
            require!(
                whole && committed == Some(at),
                CHECK,
                "call {call} is said to be committed as {at:?}, and {committed:?} is"
            );
        }
        self.reads.on_acknowledged(last);
        Ok(())
    }

    /// A process has taken a step at that time: none of its calls may be open past its deadline.
    pub(crate) fn on_step(&self, life: Life, now: Time) -> Verdict {
        let overdue =
            self.open.get(&life).and_then(BTreeSet::first).filter(|(deadline, _)| *deadline <= now);
        require!(
            overdue.is_none(),
            "calls end in time",
            "call {} on node {} is open {:?} after its deadline",
            overdue.map_or(0, |&(_, call)| call),
            life.node + 1,
            overdue.map(|&(deadline, _)| now.since(deadline)).unwrap_or_default()
        );
        Ok(())
    }

    /// A process was told to stop: all of its calls must have ended.
    pub(crate) fn on_stopped(&self, life: Life) -> Verdict {
        let open = self.open.get(&life).map(BTreeSet::len).unwrap_or_default();
        require!(
            open == 0,
            "every call ends",
            "node {} stopped and left {open} calls without an outcome",
            life.node + 1
        );
        Ok(())
    }

    /// A process died: its clients will never know.
    pub(crate) fn on_died(&mut self, life: Life) {
        for (_, call) in self.open.remove(&life).unwrap_or_default() {
            let record = self.record_mut(call);
            record.ended = Some(Ended::Lost);
            let append = matches!(record.request, Asked::Append(_));
            self.counts.lost += u64::from(append);
        }
    }

    /// The run is over: everything has ended, and there are not more empty payloads than were appended.
    pub(crate) fn at_end(&self) -> Verdict {
        let open = self.open.values().map(BTreeSet::len).sum::<usize>();
        require!(open == 0, "every call ends", "{open} calls never ended");
        let may_be = self.records.iter().filter(|record| {
            let empty = matches!(&record.request, Asked::Append(payloads) if payloads.iter().all(Bytes::is_empty));
            empty && record.ended != Some(Ended::Refused)
        });
        let (most, count) = (may_be.count(), self.empties.len());
        require!(
            count <= most,
            "an append commits once",
            "{count} single empty payloads are committed, and at most {most} were appended"
        );
        Ok(())
    }

    pub(crate) fn open_count(&self) -> usize {
        self.open.values().map(BTreeSet::len).sum()
    }

    fn record(&self, call: u64) -> Option<&Record> {
        self.records.get(usize::try_from(call).ok()?)
    }

    fn record_mut(&mut self, call: u64) -> &mut Record {
        let place = usize::try_from(call).expect("calls are numbered by their place");
        self.records.get_mut(place).expect("only calls that were made are asked for")
    }
}

/// A payload that says whose it is: entry `place` of a call, with `len` bytes or as few as that takes.
pub(crate) fn payload(call: u64, place: usize, len: usize) -> Bytes {
    let header = call.to_le_bytes().into_iter().chain((place as u64).to_le_bytes());
    // Zeros and all but zeros: what a disk loses must not look like what it keeps, nor like nothing.
    let filling =
        std::iter::repeat_n(if call.is_multiple_of(3) { 0 } else { 0xa5 }, len.saturating_sub(16));
    header.chain(filling).collect()
}

/// Whose payload this is, if it is the first of a call.
fn call_of(payload: &[u8]) -> Option<u64> {
    let (call, rest) = payload.split_first_chunk::<8>()?;
    let (place, _) = rest.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*place) == 0).then_some(u64::from_le_bytes(*call))
}
