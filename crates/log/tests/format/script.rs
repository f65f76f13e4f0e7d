//! The calls that made the fixtures.

use std::{collections::BTreeMap, sync::Arc};

use tinyraftplus_core::{
    Configurations, EntryId, HardState, Identity, Member, NodeId, QuorumRule, Seq, Term,
};
use tinyraftplus_log::{EntryKind, Log, LogEntry, LogExt, Reset, Write, sim_disk::SimDisk};

use crate::{
    fixtures::{Fixture, shown},
    open,
};

/// Makes a log with everything that a log can have. Returns its files, zeros at their ends cut off, and what it
/// holds as text.
pub(crate) fn run(fixture: &Fixture) -> (BTreeMap<String, Vec<u8>>, String) {
    let disk = SimDisk::new();
    let mut log = open(fixture, &disk).unwrap();
    for group in first_groups(fixture.many) {
        log.write(&group).unwrap();
    }
    // A mark that nothing makes durable but the group after it.
    log.mark().unwrap();
    log.write(&[append(vec![entry(6, 4, "after a mark")])]).unwrap();
    let mut log = torn(fixture, &disk, log);
    log.write(&[append(vec![entry(7, 6, "after a cut")])]).unwrap();
    log.write(&[append(vec![entry(8, 6, &"\0".repeat(1200))])]).unwrap();
    for group in if fixture.many { segment_groups() } else { reset_groups() } {
        log.write(&group).unwrap();
    }
    if fixture.repaired {
        for group in repairs(log.as_ref()) {
            log.write(&group).unwrap();
        }
    }
    let text = shown(log.as_ref());
    log.close().unwrap();
    drop(log);
    disk.kill();
    let mut files = BTreeMap::new();
    for name in disk.files() {
        if !name.ends_with("lock") && !name.ends_with("spare") {
            let mut bytes = disk.contents(&name).unwrap();
            let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
            bytes.truncate(used.next_multiple_of(512));
            files.insert(name, bytes);
        }
    }
    (files, text)
}

fn first_groups(many: bool) -> Vec<Vec<Write>> {
    let compact = Write { compact: many.then_some(Seq::new(1)), ..Write::default() };
    let noop = LogEntry { kind: EntryKind::Noop, ..entry(2, 3, "") };
    let configured = Write { configuration: Some(members()), ..hard(3, None) };
    let members = LogEntry { kind: EntryKind::Configuration, ..entry(3, 3, "members") };
    vec![
        vec![append(batch(0, 1))],
        vec![hard(2, Some(0x0b))],
        vec![Write { append: vec![noop, members], ..configured }],
        vec![append(vec![entry(4, 3, "four")]), append(vec![entry(5, 3, &"long ".repeat(150))])],
        vec![Write {
            trim: Some(Seq::new(4)),
            ..append(vec![entry(4, 3, "four again"), entry(5, 4, "five again")])
        }],
        vec![compact, Write { configuration: Some(self::members()), ..Write::default() }],
    ]
}

/// The power fails in the middle of a group with a newer term and vote; the next opening cuts it.
fn torn(fixture: &Fixture, disk: &SimDisk, log: Box<dyn Log>) -> Box<dyn Log> {
    let lost = append(vec![entry(7, 6, &"lost ".repeat(300))]);
    let lost = [Write { append: lost.append, ..hard(6, Some(0x0c)) }];
    drop(log);
    disk.kill();
    // All but the last operation, which makes the group durable.
    let probe = disk.fork();
    let mut log = open(fixture, &probe).unwrap();
    let before = probe.operation_count();
    log.write(&lost).unwrap();
    let count = probe.operation_count() - before;
    let mut log = open(fixture, disk).unwrap();
    disk.crash_after(count - 1);
    log.write(&lost).unwrap_err();
    drop(log);
    // The second of the sectors in doubt is lost, and no other.
    let mut nth = 0;
    disk.power_loss_choosing(|_, choices| {
        nth += 1;
        if nth == 2 { 0 } else { choices - 1 }
    });
    open(fixture, disk).unwrap()
}

/// Repairs of entries in any file, two of the same, and then so much that another file begins.
fn repairs(log: &dyn Log) -> Vec<Vec<Write>> {
    let entries: Vec<LogEntry> = log.iter(..).map(|entry| entry.unwrap()).collect();
    let again = |entry: &LogEntry, payload: &str| LogEntry {
        payload: payload.to_owned().into(),
        ..entry.clone()
    };
    let repair = |entries: Vec<LogEntry>| Write { repair: entries, ..Write::default() };
    let (end, last) = (log.end().get(), entries[entries.len() - 1].id.term.get());
    let more = (end..end + 10).map(|seq| append(vec![entry(seq, last, &format!("entry {seq}"))]));
    vec![
        vec![repair(entries[..2].iter().map(|entry| again(entry, "put back")).collect())],
        vec![repair(vec![again(&entries[1], "put back again")]), hard(9, None)],
        more.collect(),
        vec![repair(vec![again(&entries[2], "later")])],
    ]
}

fn reset_groups() -> Vec<Vec<Write>> {
    let reset = Some(Reset { start: Seq::new(20), before: Term::new(6) });
    vec![
        vec![Write { reset, configuration: Some(members()), ..append(batch(20, 6)) }],
        vec![hard(7, None), append(vec![LogEntry { kind: EntryKind::Noop, ..entry(22, 7, "") }])],
    ]
}

/// Groups that are reckoned large and are not: each begins another file.
fn segment_groups() -> Vec<Vec<Write>> {
    let many = |first: u64, term| {
        let write = |seq| append(vec![entry(seq, term, &format!("entry {seq}"))]);
        (first..first + 10).map(write).collect::<Vec<Write>>()
    };
    vec![
        many(9, 6),
        vec![Write { trim: Some(Seq::new(8)), ..append(vec![entry(8, 6, "eight again")]) }],
        vec![append(vec![entry(9, 6, "nine again")])],
        many(10, 7),
        vec![Write { compact: Some(Seq::new(2)), ..hard(8, Some(0x0d)) }],
        vec![append(batch(20, 8))],
    ]
}

fn entry(seq: u64, term: u64, payload: &str) -> LogEntry {
    LogEntry {
        id: EntryId::new(Term::new(term), Seq::new(seq)),
        kind: EntryKind::Payload,
        ends_batch: true,
        payload: payload.to_owned().into(),
    }
}

/// Two entries, the second empty.
fn batch(first: u64, term: u64) -> Vec<LogEntry> {
    let begins = LogEntry { ends_batch: false, ..entry(first, term, "one batch") };
    vec![begins, entry(first + 1, term, "")]
}

/// Empty entries, each with a term of its own.
pub(crate) fn rising(first: u64, count: u64) -> Write {
    append((first..first + count).map(|seq| entry(seq, seq + 1, "")).collect())
}

fn append(entries: Vec<LogEntry>) -> Write {
    Write { append: entries, ..Write::default() }
}

fn hard(term: u64, vote: Option<u128>) -> Write {
    let hard = HardState { term: Term::new(term), vote: vote.map(Identity::new) };
    Write { hard_state: Some(hard), ..Write::default() }
}

fn members() -> Arc<Configurations> {
    let member = |n: u64| Member::voter(NodeId::from(n), Identity::new(u128::from(n) + 70));
    let members = (1..=3).map(member).collect();
    Arc::new(Configurations::found(members, QuorumRule::Majority, Seq::ZERO).unwrap())
}

/// What a version that does not exist yet may write: another header; a frame after ours; a frame after one that
/// a crash tore.
pub(crate) fn newer(bytes: &[u8]) -> [(&'static str, Vec<u8>); 3] {
    let mend = |bytes: &mut [u8]| {
        let (fields, sum) = bytes.split_at_mut(bytes.len() - 8);
        sum.copy_from_slice(&twox_hash::XxHash3_64::oneshot(fields).to_le_bytes());
    };
    let mut header = bytes.to_vec();
    for at in [0, 512] {
        header[at + 8] = 2;
        header[at + 200] = 1;
        mend(&mut header[at..at + 512]);
    }
    // A frame that only its beginning has in common with ours.
    let end = bytes.len().next_multiple_of(128);
    let newer = |at: usize| {
        let mut frame = vec![0xee; 128];
        frame[..4].copy_from_slice(b"TRPf");
        frame[4] = 3;
        frame[8..16].copy_from_slice(&bytes[4096 + 8..4096 + 16]);
        frame[16..24].copy_from_slice(&(at as u64).to_le_bytes());
        mend(&mut frame);
        frame
    };
    // After the last frame: whatever zeros follow it were cut off.
    let last = (0..end / 128).rev().find(|slot| bytes[slot * 128..].starts_with(b"TRPf")).unwrap();
    let mut after = bytes[..last * 128 + 128].to_vec();
    after.extend(newer(after.len()));
    let mut torn = bytes[..last * 128 + 128].to_vec();
    torn.resize(torn.len() + 512, 0);
    torn.extend(newer(torn.len()));
    [("log-newer/header", header), ("log-newer/frame", after), ("log-newer/frame-after-torn", torn)]
}
