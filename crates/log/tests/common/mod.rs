//! What the tests of the log share.

#![expect(clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use bytes::Bytes;
use tinyraftplus_core::{
    Configurations, EntryId, HardState, Identity, Member, NodeId, QuorumRule, Seq, Term,
};
use tinyraftplus_log::{
    EncryptingEncoder, EntryKind, FsLog, Key, Log, LogEntry, LogError, LogExt, LogOptions,
    MultiFsLog, PlainEncoder, Recovery, Reset, Write, XxHashEncoder,
    sim_disk::{SimDisk, SimRng},
};

pub(crate) const NAME: &str = "x";
pub(crate) const FILE: &str = "x.log";
/// Where the first frame lies.
pub(crate) const FIRST: u64 = 4096;

pub(crate) fn options() -> LogOptions {
    let mut options = LogOptions::default();
    options.space_bytes = 16 << 10;
    options.reserve_bytes = 4096;
    options.group_bytes_max = 8 << 20;
    options.batch_bytes_max = 4 << 20;
    options.seed = Some(1);
    options
}

pub(crate) fn open(disk: &SimDisk) -> (FsLog<SimDisk>, Recovery) {
    try_open(disk).unwrap()
}

pub(crate) fn try_open(disk: &SimDisk) -> Result<(FsLog<SimDisk>, Recovery), LogError> {
    FsLog::open_on(disk, NAME, options())
}

/// A kind of log, and how its bytes are written.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) what: &'static str,
    /// In segments, or in one file.
    pub(crate) many: bool,
    pub(crate) options: LogOptions,
    /// From how many bytes on its disk wants whole blocks.
    pub(crate) whole_blocks_from: Option<u64>,
}

/// Whatever kind of log, and what opening it found.
pub(crate) type Opened = Result<(Box<dyn Log>, Recovery), LogError>;

impl Setup {
    fn new(what: &'static str, many: bool, change: impl FnOnce(&mut LogOptions)) -> Self {
        let mut options = options();
        options.segment_bytes_max = 16 << 10;
        options.space_bytes = 8 << 10;
        change(&mut options);
        Self { what, many, options, whole_blocks_from: None }
    }

    /// A new disk for it.
    pub(crate) fn disk(&self) -> SimDisk {
        let disk = SimDisk::new();
        disk.set_whole_blocks_from(self.whole_blocks_from);
        disk
    }

    /// In one file, with checksums.
    pub(crate) fn one() -> Self {
        Self::new("one file", false, |_| {})
    }

    /// In tiny segments, with checksums.
    pub(crate) fn many() -> Self {
        Self::new("segments", true, |_| {})
    }

    /// In tiny segments, encrypted.
    pub(crate) fn encrypted() -> Self {
        Self::new("segments, encrypted", true, |options| {
            options.encoder = Arc::new(EncryptingEncoder::new(&Key::from_bytes([7; 32])));
        })
    }

    /// Both kinds of log with every encoder, with groups that begin with a block, and on a disk that wants whole blocks.
    pub(crate) fn all() -> Vec<Self> {
        [false, true]
            .into_iter()
            .flat_map(|many| {
                [
                    if many { Self::many() } else { Self::one() },
                    Self::new("bodies unchecked", many, |options| {
                        options.encoder = Arc::new(XxHashEncoder { body: false });
                    }),
                    Self::new("plain", many, |options| options.encoder = Arc::new(PlainEncoder)),
                    Self { many, ..Self::encrypted() },
                    Self::new("blocks", many, |options| {
                        options.block_bytes = 4096;
                        options.segment_bytes_max = 32 << 10;
                    }),
                    Self {
                        whole_blocks_from: Some(600),
                        ..Self::new("whole blocks", many, |_| {})
                    },
                ]
            })
            .collect()
    }

    /// The kinds of log with checksums.
    pub(crate) fn both() -> [Self; 2] {
        [Self::one(), Self::many()]
    }

    pub(crate) fn try_open(&self, disk: &SimDisk) -> Opened {
        if self.many {
            let (log, recovery) = MultiFsLog::open_on(disk, NAME, self.options.clone())?;
            Ok((Box::new(log), recovery))
        } else {
            let (log, recovery) = FsLog::open_on(disk, NAME, self.options.clone())?;
            Ok((Box::new(log), recovery))
        }
    }

    pub(crate) fn open(&self, disk: &SimDisk) -> (Box<dyn Log>, Recovery) {
        self.try_open(disk).unwrap_or_else(|error| panic!("{}: {error}", self.what))
    }

    pub(crate) fn destroy(&self, disk: &SimDisk) -> Result<(), LogError> {
        if self.many { MultiFsLog::destroy_on(disk, NAME) } else { FsLog::destroy_on(disk, NAME) }
    }
}

/// The segment with this number.
pub(crate) fn segment(number: u64) -> String {
    format!("{NAME}.{number:020}.seg")
}

/// Its numbers, rising.
pub(crate) fn segments(disk: &SimDisk) -> Vec<u64> {
    let number = |file: &String| {
        file.strip_suffix(".seg")?.strip_prefix(NAME)?.strip_prefix('.')?.parse().ok()
    };
    disk.files().iter().filter_map(number).collect()
}

/// A number that can be made larger to test more.
pub(crate) fn effort(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

pub(crate) fn entry(seq: u64, term: u64, payload: impl Into<Bytes>) -> LogEntry {
    LogEntry {
        id: EntryId::new(Term::new(term), Seq::new(seq)),
        kind: EntryKind::Payload,
        ends_batch: true,
        payload: payload.into(),
    }
}

pub(crate) fn hard(term: u64, vote: Option<u128>) -> HardState {
    HardState { term: Term::new(term), vote: vote.map(Identity::new) }
}

pub(crate) fn append(entries: Vec<LogEntry>) -> Write {
    Write { append: entries, ..Write::default() }
}

pub(crate) fn vote(term: u64, vote: u128) -> Write {
    Write { hard_state: Some(hard(term, Some(vote))), ..Write::default() }
}

pub(crate) fn trim(end: u64) -> Write {
    Write { trim: Some(Seq::new(end)), ..Write::default() }
}

pub(crate) fn repair(entries: Vec<LogEntry>) -> Write {
    Write { repair: entries, ..Write::default() }
}

pub(crate) fn compact(start: u64) -> Write {
    Write { compact: Some(Seq::new(start)), ..Write::default() }
}

pub(crate) fn reset(start: u64, before: u64) -> Write {
    Write {
        reset: Some(Reset { start: Seq::new(start), before: Term::new(before) }),
        ..Write::default()
    }
}

pub(crate) fn configuration(members: u64) -> Arc<Configurations> {
    let members =
        (1..=members).map(|n| Member::voter(NodeId::from(n), Identity::new(u128::from(n) + 70)));
    Arc::new(Configurations::found(members.collect(), QuorumRule::Majority, Seq::ZERO).unwrap())
}

/// Bytes without a zero among them.
pub(crate) fn noise(seed: u64, bytes: usize) -> Bytes {
    let mut rng = SimRng::new(seed);
    (0..bytes).map(|_| u8::try_from(rng.below(255) + 1).unwrap()).collect::<Vec<u8>>().into()
}

/// A dumb log.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    pub(crate) hard: HardState,
    pub(crate) configuration: Option<Configurations>,
    pub(crate) start: u64,
    pub(crate) before: u64,
    pub(crate) entries: Vec<LogEntry>,
}

impl Model {
    pub(crate) fn end(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    pub(crate) fn term(&self) -> u64 {
        self.entries.last().map_or(self.before, |entry| entry.id.term.get())
    }

    pub(crate) fn apply(&mut self, write: &Write) {
        self.hard = write.hard_state.unwrap_or(self.hard);
        if let Some(configuration) = &write.configuration {
            self.configuration = Some((**configuration).clone());
        }
        if let Some(Reset { start, before }) = write.reset {
            (self.start, self.before) = (start.get(), before.get());
            self.entries.clear();
        }
        if let Some(end) = write.trim {
            self.entries.truncate(usize::try_from(end.get() - self.start).unwrap());
        }
        if let Some(start) = write.compact.filter(|start| start.get() > self.start) {
            let gone = self.entries.drain(..usize::try_from(start.get() - self.start).unwrap());
            self.before = gone.last().map_or(self.before, |entry| entry.id.term.get());
            self.start = start.get();
        }
        for entry in &write.repair {
            self.entries[usize::try_from(entry.id.seq.get() - self.start).unwrap()] = entry.clone();
        }
        self.entries.extend(write.append.iter().cloned());
    }

    pub(crate) fn after(&self, group: &[Write]) -> Self {
        let mut next = self.clone();
        for write in group {
            next.apply(write);
        }
        next
    }

    /// What a log holds, read back in full.
    pub(crate) fn of(log: &(impl Log + ?Sized)) -> Self {
        let restored = log.restored();
        let start = restored.terms.start();
        let before = start.before().and_then(|seq| restored.terms.term_of(seq)).unwrap_or_default();
        let entries: Vec<LogEntry> = log.iter(..).map(|entry| entry.unwrap()).collect();
        for entry in &entries {
            assert_eq!(restored.terms.term_of(entry.id.seq), Some(entry.id.term));
        }
        assert_eq!(restored.terms.end().get(), start.get() + entries.len() as u64);
        Self {
            hard: restored.hard_state,
            configuration: restored.configuration.as_deref().cloned(),
            start: start.get(),
            before: before.get(),
            entries,
        }
    }
}

/// How a power loss ends for everything in doubt: all ways if they are few, else some at random.
pub(crate) fn outcomes(disk: &SimDisk, many: u64, seed: u64) -> Vec<SimDisk> {
    let doubts = disk.doubts();
    let total = doubts
        .iter()
        .try_fold(1_u64, |total, (_, choices)| total.checked_mul(*choices))
        .unwrap_or(u64::MAX);
    let mut rng = SimRng::new(seed);
    (0..total.min(many))
        .map(|outcome| {
            let after = disk.fork();
            let mut rest = outcome;
            // All of it and nothing of it are always tried.
            after.power_loss_choosing(|_, choices| {
                if total <= many {
                    let choice = rest % choices;
                    rest /= choices;
                    choice
                } else {
                    match outcome {
                        0 => 0,
                        1 => choices - 1,
                        _ => rng.below(choices),
                    }
                }
            });
            after
        })
        .collect()
}

/// How many combinations a power loss has now.
pub(crate) fn combinations(disk: &SimDisk) -> u64 {
    disk.doubts().iter().fold(1, |total, (_, choices)| total.saturating_mul(*choices))
}
