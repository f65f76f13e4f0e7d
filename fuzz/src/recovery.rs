//! Opening a log whose files were changed by somebody who knows the format.
//!
//! An input is a program: which log to begin with, what to change in its files, and whether the checksums are
//! made right afterwards, so that what comes behind them is reached. Then the log is opened.
//!
//! **What must hold**, whatever was changed:
//!
//! 1. Nothing panics (sums are checked for overflow), takes long, or takes much memory.
//! 2. Untouched, the log is what it was.
//! 3. One damaged byte in a closed log whose encoder checks bodies: an error, or the log as it was. Never another.
//! 4. What could be opened, read to its end and appended to is the same when it is opened again, with the
//!    entry that was added; or it is said to be corrupt where nobody looked before.

use std::{collections::BTreeMap, sync::Arc, sync::LazyLock};

use tinyraftplus_core::{
    Configurations, EntryId, HardState, Identity, Member, NodeId, QuorumRule, Seq, Term,
};
use tinyraftplus_log::{
    Encoder, EncryptingEncoder, EntryKind, FsLog, Key, Log, LogEntry, LogError, LogExt, LogOptions,
    MultiFsLog, PlainEncoder, Reset, Write, XxHashEncoder, inspect, sim_disk::SimDisk,
};

use crate::input::Input;

const NAME: &str = "x";
const SLOT: usize = 128;
/// Offsets and widths of the fields of a frame's header.
const FRAME_FIELDS: [(usize, usize); 20] = [
    (4, 1),
    (5, 1),
    (6, 2),
    (8, 8),
    (16, 8),
    (24, 8),
    (32, 8),
    (40, 8),
    (48, 8),
    (56, 8),
    (64, 8),
    (72, 4),
    (76, 4),
    (80, 4),
    (76, 8),
    (84, 4),
    (88, 8),
    (96, 8),
    (104, 8),
    (112, 8),
];
/// And of a file's header.
const FILE_FIELDS: [(usize, usize); 23] = [
    (8, 2),
    (10, 1),
    (11, 1),
    (12, 4),
    (16, 8),
    (24, 8),
    (32, 8),
    (40, 8),
    (48, 8),
    (56, 8),
    (64, 8),
    (72, 8),
    (80, 8),
    (88, 8),
    (96, 8),
    (104, 8),
    (112, 8),
    (120, 8),
    (128, 8),
    (136, 8),
    (144, 8),
    (160, 8),
    (168, 8),
];

/// A log to begin with.
struct Base {
    many: bool,
    options: LogOptions,
    disk: SimDisk,
    contents: Contents,
}

/// All that a log holds.
type Contents = (HardState, Option<Configurations>, Seq, Vec<LogEntry>);

static BASES: LazyLock<Vec<Base>> = LazyLock::new(|| {
    let key = Key::from_bytes([7; 32]);
    let encoders: [Arc<dyn Encoder>; 4] = [
        Arc::new(XxHashEncoder::default()),
        Arc::new(PlainEncoder),
        Arc::new(XxHashEncoder { body: false }),
        Arc::new(EncryptingEncoder::new(&key)),
    ];
    let mut bases = Vec::new();
    for many in [true, false] {
        for encoder in &encoders {
            for block in [512, 4096] {
                bases.push(base(many, Arc::clone(encoder), block));
            }
        }
    }
    bases
});

fn base(many: bool, encoder: Arc<dyn Encoder>, block: u32) -> Base {
    let mut options = LogOptions::default();
    options.space_bytes = 4096;
    options.reserve_bytes = 4096;
    options.group_bytes_max = LogOptions::GROUP_BYTES_MIN;
    options.batch_bytes_max = options.group_bytes_max / 2;
    options.segment_bytes_max = 24 << 10;
    options.block_bytes = block;
    options.encoder = encoder;
    options.seed = Some(7);
    let disk = SimDisk::new();
    let mut log = open(&disk, many, &options).unwrap();
    for group in groups(many) {
        log.write(&group).unwrap();
    }
    log.mark().unwrap();
    log.write(&[append(9, 4, &["after a mark"])]).unwrap();
    let contents = read(log.as_ref()).unwrap();
    log.close().unwrap();
    drop(log);
    disk.kill();
    Base { many, options, disk, contents }
}

fn groups(many: bool) -> Vec<Vec<Write>> {
    let long = "long ".repeat(1000);
    let compact = |seq| Write { compact: many.then_some(Seq::new(seq)), ..Write::default() };
    vec![
        vec![append(0, 1, &["zero", "", &long])],
        vec![Write { configuration: Some(members()), ..vote(2, Some(11)) }],
        vec![append(3, 2, &[&long]), append(4, 2, &["four"])],
        vec![Write { append: entries(4, 3, &["new four", &long, "six"]), ..trim(4) }],
        vec![compact(2)],
        vec![append(7, 3, &[&"\0".repeat(2000)])],
        vec![Write { trim: Some(Seq::new(8)), ..vote(4, None) }],
        vec![append(8, 4, &["eight"]), compact(4)],
    ]
}

fn entries(first: u64, term: u64, payloads: &[&str]) -> Vec<LogEntry> {
    let entry = |(seq, payload): (u64, &&str)| LogEntry {
        id: EntryId::new(Term::new(term), Seq::new(seq)),
        kind: EntryKind::Payload,
        ends_batch: true,
        payload: (*payload).to_owned().into(),
    };
    (first..).zip(payloads).map(entry).collect()
}

fn append(first: u64, term: u64, payloads: &[&str]) -> Write {
    Write { append: entries(first, term, payloads), ..Write::default() }
}

fn vote(term: u64, vote: Option<u128>) -> Write {
    let hard = HardState { term: Term::new(term), vote: vote.map(Identity::new) };
    Write { hard_state: Some(hard), ..Write::default() }
}

fn trim(end: u64) -> Write {
    Write { trim: Some(Seq::new(end)), ..Write::default() }
}

fn members() -> Arc<Configurations> {
    let member = |n: u64| Member::voter(NodeId::from(n), Identity::new(n.into()));
    let members = (1..=3).map(member).collect();
    Arc::new(Configurations::found(members, QuorumRule::Majority, Seq::ZERO).unwrap())
}

fn open(disk: &SimDisk, many: bool, options: &LogOptions) -> Result<Box<dyn Log>, LogError> {
    Ok(if many {
        Box::new(MultiFsLog::open_on(disk, NAME, options.clone())?.0)
    } else {
        Box::new(FsLog::open_on(disk, NAME, options.clone())?.0)
    })
}

fn read(log: &dyn Log) -> Result<Contents, LogError> {
    let restored = log.restored();
    let entries = log.iter(..).collect::<Result<_, _>>()?;
    let configuration = restored.configuration.as_deref().cloned();
    Ok((restored.hard_state, configuration, restored.terms.start(), entries))
}

/// Opens a log from changed files; see above.
pub fn recovery(bytes: &[u8]) {
    let mut input = Input(bytes);
    let base = &BASES[usize::from(input.byte()) % BASES.len()];
    let mend = input.byte() % 2 == 0;
    let disk = base.disk.fork();
    let (mut edits, mut damage) = (0, 0);
    while !input.is_empty() && edits < 16 {
        damage += u64::from(edit(&disk, &mut input, base.options.encoder.checks_bodies()));
        edits += 1;
    }
    if mend {
        mend_sums(&disk, base.options.encoder.checks_bodies());
    }
    check(base, &disk, edits, edits == damage && (edits == 0 || edits == 1 && !mend));
}

fn check(base: &Base, disk: &SimDisk, edits: u64, must_notice: bool) {
    let _ = inspect(disk, NAME);
    let mut log = match open(disk, base.many, &base.options) {
        Ok(log) => log,
        Err(error) => {
            assert!(edits > 0, "an untouched log is refused: {error}");
            return;
        }
    };
    let found = read(log.as_ref());
    if must_notice && let Ok(found) = &found {
        assert!(*found == base.contents, "one damaged byte makes another log");
    }
    let term = log.last().map_or(Term::ZERO, |id| id.term);
    let entry = LogEntry {
        id: EntryId::new(term, log.bounds().end),
        kind: EntryKind::Payload,
        ends_batch: true,
        payload: "on".into(),
    };
    let write = Write { append: vec![entry.clone()], ..Write::default() };
    let written = log.write(&[write]);
    assert!(!matches!(written, Err(LogError::WriteFailed { .. })), "{written:?}");
    let reset = Reset { start: Seq::new(1 << 40), before: term };
    let _ = log.close();
    drop(log);
    disk.kill();
    if let (Ok(mut found), Ok(())) = (found, written) {
        found.3.push(entry);
        let mut log = open(disk, base.many, &base.options).unwrap_or_else(|error| {
            panic!("a log that was opened, read and written to is refused afterwards: {error}")
        });
        match read(log.as_ref()) {
            Ok(again) => assert!(again == found, "what was opened once is something else later"),
            // What lies behind the last entry of a body is looked at when there are more.
            Err(LogError::Corrupt { .. }) => {}
            Err(error) => panic!("what was read can't be read again: {error}"),
        }
        let _ = log.write(&[Write { reset: Some(reset), ..Write::default() }]);
    }
}

/// Changes something. True if it is damage that nobody must fail to notice: one byte.
fn edit(disk: &SimDisk, input: &mut Input<'_>, bodies_checked: bool) -> bool {
    let files: Vec<String> =
        disk.files().into_iter().filter(|file| !file.ends_with(".lock")).collect();
    let op = input.byte();
    let Some(file) = files.get(usize::from(input.byte()) % files.len().max(1)) else {
        return false;
    };
    let mut damage = false;
    match op % 12 {
        9 => drop(disk.take(file)),
        10 => {
            let bytes = disk.take(file).unwrap_or_default();
            let number = input.number();
            let end = if input.byte() % 4 == 0 { "spare" } else { "seg" };
            disk.put(&format!("{NAME}.{number:020}.{end}"), &bytes);
        }
        op => drop(disk.edit(file, |bytes| damage = change(bytes, op, input, bodies_checked))),
    }
    damage
}

fn change(bytes: &mut Vec<u8>, op: u8, input: &mut Input<'_>, bodies_checked: bool) -> bool {
    let frames = frames(bytes);
    let frame = |input: &mut Input<'_>| {
        frames.get(usize::from(input.byte()) % frames.len().max(1)).copied().unwrap_or_default()
    };
    match op {
        0 => {
            let Some(count) = bytes.len().checked_sub(1) else { return false };
            let at = input.short() % (count + 1);
            bytes[at] ^= input.byte().max(1);
            return bodies_checked;
        }
        1 | 2 => {
            let at = frame(input);
            let (field, width) = FRAME_FIELDS[usize::from(input.byte()) % FRAME_FIELDS.len()];
            put(bytes, at + field, width, input);
        }
        3 => {
            let at = frame(input) + SLOT + input.short() % 4096;
            if let Some(byte) = bytes.get_mut(at) {
                *byte = input.byte();
            }
        }
        4 => {
            let at = frame(input);
            let count = usize::from(input.byte() % 80);
            let body = input.take(count);
            if let Some(place) = bytes.get_mut(at + SLOT..at + SLOT + body.len()) {
                place.copy_from_slice(body);
                let count = u32::try_from(body.len()).unwrap_or_default().to_le_bytes();
                bytes[at + 76..at + 80].copy_from_slice(&count);
                bytes[at + 80..at + 84].copy_from_slice(&count);
            }
        }
        5 => {
            let (from, to) = (frame(input), input.short() % 256 * SLOT);
            let count = SLOT * (1 + usize::from(input.byte() % 8));
            if let Some(slots) = bytes.get(from..from + count).map(<[u8]>::to_vec)
                && let Some(place) = bytes.get_mut(to..to + count)
            {
                place.copy_from_slice(&slots);
                let base = u64::from_le_bytes(bytes[40..48].try_into().unwrap_or_default());
                let position = base.wrapping_add(to as u64).to_le_bytes();
                bytes[to + 16..to + 24].copy_from_slice(&position);
            }
        }
        6 => {
            let (field, width) = FILE_FIELDS[usize::from(input.byte()) % FILE_FIELDS.len()];
            put(bytes, field, width, input);
            if let Some((first, second)) =
                bytes.get_mut(..1024).map(|header| header.split_at_mut(512))
            {
                second.copy_from_slice(first);
            }
        }
        7 => {
            let at = input.short() % 128 * 512;
            let count = 512 * (1 + usize::from(input.byte() % 8));
            let end = (at + count).min(bytes.len());
            if let Some(sectors) = bytes.get_mut(at..end) {
                sectors.fill(0);
            }
        }
        8 => bytes.resize(input.short(), 0),
        _ => {
            let at = input.short();
            let count = usize::from(input.byte());
            let raw = input.take(count);
            if let Some(place) = bytes.get_mut(at..at + raw.len()) {
                place.copy_from_slice(raw);
            }
        }
    }
    false
}

/// Puts a number there: one like those that go wrong, or a little more or less than what is there.
fn put(bytes: &mut [u8], at: usize, width: usize, input: &mut Input<'_>) {
    let Some(place) = bytes.get_mut(at..at + width) else { return };
    let mut old = [0; 8];
    old[..width].copy_from_slice(place);
    let old = u64::from_le_bytes(old);
    let new = match input.byte() % 4 {
        0 => old.wrapping_add(u64::from(input.byte())),
        1 => old.wrapping_sub(u64::from(input.byte())),
        2 => old ^ 1 << (input.byte() % 64),
        _ => input.number(),
    };
    place.copy_from_slice(&new.to_le_bytes()[..width]);
}

/// Where frames lie, valid or not.
fn frames(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len() / SLOT)
        .map(|slot| slot * SLOT)
        .filter(|&at| bytes[at..].starts_with(b"TRPf"))
        .collect()
}

/// Makes all checksums right: of headers and bodies, where a frame repeats that of another, and where the next
/// file does.
fn mend_sums(disk: &SimDisk, bodies_checked: bool) {
    let mut sums = BTreeMap::new();
    disk.edit_all(|file, bytes| {
        if file.ends_with(".lock") || bytes.len() < 1024 {
            return;
        }
        let last = u64::from_le_bytes(bytes[136..144].try_into().unwrap_or_default());
        for at in [0, 512] {
            let header = &mut bytes[at..at + 512];
            if let Some(sum) = sums.get(&last) {
                header[136..144].copy_from_slice(&u64::to_le_bytes(*sum));
            }
            let sum = sum(&header[..504]);
            header[504..].copy_from_slice(&sum.to_le_bytes());
        }
        for at in frames(bytes) {
            let (_, frame) = bytes.split_at_mut(at);
            let (header, rest) = frame.split_at_mut(SLOT);
            let number = |header: &[u8], at: usize| {
                u64::from_le_bytes(header[at..at + 8].try_into().unwrap_or_default())
            };
            let count = usize::try_from(number(header, 76) & u64::from(u32::MAX)).unwrap_or(0);
            if let Some(body) = rest.get(..count)
                && (bodies_checked || number(header, 112) != 0)
            {
                header[112..120].copy_from_slice(&sum(body).to_le_bytes());
            }
            if let Some(prev) = sums.get(&number(header, 32)) {
                header[32..40].copy_from_slice(&u64::to_le_bytes(*prev));
            }
            let old = number(header, 120);
            let new = sum(&header[..120]);
            header[120..].copy_from_slice(&new.to_le_bytes());
            sums.insert(old, new);
        }
    });
}

fn sum(bytes: &[u8]) -> u64 {
    twox_hash::XxHash3_64::oneshot(bytes)
}
