//! Random calls against a plain list.

use std::sync::Arc;

use bytes::Bytes;
use tinyraftplus_core::{Configurations, EntryId, Identity, Member, NodeId, QuorumRule, Seq, Term};

use super::{
    Make,
    case::{Case, Leave, compact_before, hard},
    model::{Model, entry},
};
use crate::{
    EntryKind, LogError, LogOptions, Reset, Write,
    num::{u64_of, usize_of},
    sim_disk::SimRng,
};

const CASES: u64 = 64;
const STEPS: u64 = 24;

/// What was done is the number of the case: the same each time.
pub(super) fn agrees_with_a_plain_list(make: &Make<'_>) {
    for seed in 0..CASES {
        let mut rng = SimRng::new(seed);
        let mut case = Case::new(make);
        if case.begins_anywhere() && rng.below(3) == 0 {
            case = Case::starting_at(make, Seq::new(rng.below(1 << 40)));
        }
        for step in 0..STEPS {
            let when = format!("in random case {seed}, step {step}");
            match rng.below(12) {
                0 if rng.below(3) == 0 => _ = case.reopen(Leave::Closed),
                0 => _ = case.reopen(Leave::Dropped),
                1 => {
                    let end = case.model.end().get();
                    let keep = (rng.below(8) > 0).then(|| end.saturating_sub(rng.below(6)));
                    let keep = keep.map(|keep| keep.max(case.model.start.get()));
                    case.keep(keep, &when);
                }
                2 => {
                    let count = rng.below(5) + 1;
                    let payloads: Vec<Bytes> = (0..count).map(|_| payload(&mut rng)).collect();
                    case.add(payloads, &when);
                }
                3 if case.compacts() => {
                    let count = rng.below(u64_of(case.model.entries.len()) + 1);
                    case.one(compact_before(case.model.start.get() + count), &when);
                }
                4 => {
                    let mut group = random_group(&mut rng, &case);
                    group.push(random_mistake(&mut rng, &case.model, &group));
                    case.refuses(&group, &format!("a refusal {when}"), |error| {
                        matches!(
                            error,
                            LogError::WrongSeq { .. }
                                | LogError::WrongTerm { .. }
                                | LogError::BatchSplit { .. }
                                | LogError::Compacted { .. }
                        )
                    });
                }
                _ => {
                    let group = random_group(&mut rng, &case);
                    case.group(&group, &when);
                }
            }
        }
        case.restart();
    }
}

fn random_group(rng: &mut SimRng, case: &Case) -> Vec<Write> {
    let mut next = case.model.clone();
    (0..=rng.below(3))
        .map(|_| {
            let write = random_write(rng, &next, case.options(), case.compacts());
            next.apply(&write);
            write
        })
        .collect()
}

/// A write that fits the list.
fn random_write(rng: &mut SimRng, model: &Model, options: &LogOptions, compacts: bool) -> Write {
    let mut write = Write::default();
    if rng.below(4) == 0 {
        let term = model.hard.term.get() + rng.below(2);
        let free = term > model.hard.term.get() || model.hard.vote.is_none();
        let vote = if free {
            Some(u128::from(rng.below(3))).filter(|&vote| vote > 0)
        } else {
            model.hard.vote.map(Identity::get)
        };
        write.hard_state = Some(hard(term, vote));
    }
    if rng.below(12) == 0 {
        write.configuration = random_configuration(rng);
    }
    if rng.below(15) == 0 {
        let start = rng.below(1000);
        let before = if start == 0 { 0 } else { rng.below(4) };
        write.reset = Some(Reset { start: Seq::new(start), before: Term::new(before) });
    }
    let mut next = model.clone();
    next.apply(&write);
    if rng.below(5) == 0 {
        let count = rng.below(u64_of(next.entries.len()) + 2);
        write.trim = Some(Seq::new(next.start.get() + count));
        next = model.clone();
        next.apply(&write);
    }
    if compacts && rng.below(8) == 0 {
        let count = rng.below(u64_of(next.entries.len()) + 1);
        write.compact = Some(Seq::new(next.start.get() + count));
        next = model.clone();
        next.apply(&write);
    }
    if rng.below(6) == 0 && !next.entries.is_empty() {
        write.repair = random_repair(rng, &next);
        next = model.clone();
        next.apply(&write);
    }
    let batch_max = usize_of(options.batch_bytes_max / 4);
    for _ in 0..rng.below(5) {
        let term = next.newest_term().get() + rng.below(8) / 7;
        let mut entry = entry(next.end().get(), term, payload(rng));
        entry.payload.truncate(batch_max.min(usize_of(options.entry_bytes_max)));
        entry.ends_batch = rng.below(3) > 0;
        entry.kind = match rng.below(6) {
            0 => EntryKind::Configuration,
            1 if entry.payload.is_empty() => EntryKind::Noop,
            _ => EntryKind::Payload,
        };
        next.entries.push(entry.clone());
        write.append.push(entry);
    }
    if let Some(last) = write.append.last_mut() {
        last.ends_batch = true;
    }
    write
}

/// Other payloads for some of the entries.
fn random_repair(rng: &mut SimRng, model: &Model) -> Vec<crate::LogEntry> {
    let count = u64_of(model.entries.len());
    let first = rng.below(count);
    let end = first + 1 + rng.below((count - first).min(4));
    let entries = model.entries.get(usize_of(first)..usize_of(end)).unwrap_or_default();
    entries.iter().map(|entry| crate::LogEntry { payload: payload(rng), ..entry.clone() }).collect()
}

/// A write that can't follow the group.
fn random_mistake(rng: &mut SimRng, model: &Model, group: &[Write]) -> Write {
    let mut after = model.clone();
    for write in group {
        after.apply(write);
    }
    let end = after.end().get();
    let term = after.newest_term().get();
    let append =
        |id: EntryId| vec![crate::LogEntry { id, ..entry(id.seq.get(), id.term.get(), "mistake") }];
    let at = |seq: u64, term: u64| EntryId::new(Term::new(term), Seq::new(seq));
    match rng.below(5) {
        0 if term > 0 => Write { append: append(at(end, term - 1)), ..Write::default() },
        1 if after.start > Seq::ZERO => Write { trim: after.start.before(), ..Write::default() },
        2 => {
            let mut append = append(at(end, term));
            for entry in &mut append {
                entry.ends_batch = false;
            }
            Write { append, ..Write::default() }
        }
        3 if after.hard.term > Term::ZERO => {
            let older = after.hard.term.get() - 1;
            Write { hard_state: Some(hard(older, None)), ..Write::default() }
        }
        _ => Write { append: append(at(end + 1, term)), ..Write::default() },
    }
}

fn random_configuration(rng: &mut SimRng) -> Option<Arc<Configurations>> {
    let members = (0..=rng.below(4))
        .map(|n| Member::voter(NodeId::from(n), Identity::new(u128::from(n) + 70)));
    Configurations::found(members.collect(), QuorumRule::Majority, Seq::ZERO).ok().map(Arc::new)
}

fn payload(rng: &mut SimRng) -> Bytes {
    let size = match rng.below(6) {
        0 => 0,
        1 => 1,
        2 => rng.below(30),
        3 => rng.below(600),
        4 => rng.below(5000),
        _ => 10,
    };
    let byte = rng.next().to_le_bytes()[0];
    if byte < 64 {
        vec![0; usize_of(size)].into()
    } else {
        (0..size).map(|_| rng.next().to_le_bytes()[0]).collect()
    }
}
