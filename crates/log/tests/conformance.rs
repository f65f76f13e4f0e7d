//! What every log must do, whatever it is made of.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use bytes::Bytes;
use tinyraftplus_core::{
    Configuration, EntryId, HardState, Identity, Member, NodeId, QuorumRule, Seq, Term,
};
use tinyraftplus_log::{
    Effect, EntryKind, FsLog, Log, LogEntry, LogError, LogExt, LogOptions, MemLog, Reset, Write,
    sim_disk::SimDisk,
};

fn options() -> LogOptions {
    let mut options = LogOptions::default();
    options.batch_bytes_max = 100_000;
    options.entry_bytes_max = 50_000;
    options.group_bytes_max = 1 << 20;
    options
}

fn entry(seq: u64, term: u64, payload: &str) -> LogEntry {
    LogEntry {
        id: EntryId::new(Term::new(term), Seq::new(seq)),
        kind: EntryKind::Payload,
        ends_batch: true,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

fn append(entries: &[LogEntry]) -> Write {
    Write { append: entries.to_vec(), ..Write::default() }
}

fn payloads(log: &impl Log) -> Vec<Bytes> {
    log.iter(..).map(|entry| entry.unwrap().payload).collect()
}

fn conforms(make: impl Fn(LogOptions) -> Box<dyn FnOnce(&dyn Fn(&mut Dyn))>) {
    for check in [
        appends_and_reads as fn(&mut Dyn),
        bad_argument_blocks_log,
        too_large,
        trims_and_resets,
        a_group_is_all_or_nothing,
        hard_state_never_goes_back,
        reads_are_bounded,
        closing_ends_everything,
    ] {
        make(options())(&check);
    }
    let mut options = options();
    options.first_seq = Seq::new(u64::MAX - 2);
    make(options)(&full_at_the_last_position);
}

/// Any log, behind one type.
struct Dyn(Box<dyn Log>);

impl Log for Dyn {
    fn identity(&self) -> Identity {
        self.0.identity()
    }
    fn restored(&self) -> tinyraftplus_core::Restored {
        self.0.restored()
    }
    fn write(&mut self, group: &[Write]) -> Result<(), LogError> {
        self.0.write(group)
    }
    fn reader(&self) -> Arc<dyn tinyraftplus_log::LogRead> {
        self.0.reader()
    }
    fn bounds(&self) -> std::ops::Range<Seq> {
        self.0.bounds()
    }
    fn hard_state(&self) -> HardState {
        self.0.hard_state()
    }
    fn last(&self) -> Option<EntryId> {
        self.0.last()
    }
    fn stats(&self) -> tinyraftplus_log::LogStats {
        self.0.stats()
    }
    fn mark(&mut self) -> Result<(), LogError> {
        self.0.mark()
    }
    fn close(&mut self) -> Result<(), LogError> {
        self.0.close()
    }
}

fn appends_and_reads(log: &mut Dyn) {
    assert!(log.head().unwrap().is_none());
    assert_eq!(log.last(), None);
    assert_eq!(log.append("a").unwrap(), Seq::ZERO);
    assert_eq!(log.append_batch(["b", "", "d"]).unwrap(), Seq::new(1)..Seq::new(4));
    log.append_at(Seq::new(4), "e").unwrap();
    log.mark().unwrap();
    log.mark().unwrap();
    log.append("f").unwrap();
    assert_eq!(payloads(log), ["a", "b", "", "d", "e", "f"]);
    let ends: Vec<bool> = log.iter(..).map(|entry| entry.unwrap().ends_batch).collect();
    assert_eq!(ends, [true, false, false, true, true, true]);
    assert_eq!(log.head().unwrap().unwrap().payload, "f");
    assert_eq!(log.stats().entries, 6);
    assert_eq!(log.restored().terms.end(), Seq::new(6));
    let some: Vec<_> =
        log.iter(Seq::new(2)..=Seq::new(3)).map(|entry| entry.unwrap().id.seq.get()).collect();
    assert_eq!(some, [2, 3]);
    assert_eq!(log.iter(Seq::new(6)..).count(), 0);
    // An iterator shows the log as it was when it was made.
    let before = log.iter(..);
    log.append("g").unwrap();
    assert_eq!(before.count(), 6);
}

/// A refused call changes nothing, and the next works. Fails if a write is applied before it is judged.
fn bad_argument_blocks_log(log: &mut Dyn) {
    log.append("a").unwrap();
    let error = log.append_at(Seq::new(5), "x").unwrap_err();
    assert!(matches!(error, LogError::WrongSeq { .. }));
    assert_eq!(error.to_string(), "the next seq is 1, not 5");
    assert_eq!(error.effect(), Effect::None);
    assert!(!error.is_fatal());
    assert!(matches!(log.append_batch::<Bytes>([]), Err(LogError::Empty)));
    assert!(matches!(log.append_at(Seq::ZERO, "x"), Err(LogError::WrongSeq { .. })));
    let group = [append(&[entry(1, 1, "b")]), append(&[entry(1, 1, "c")])];
    assert!(matches!(log.write(&group), Err(LogError::WrongSeq { .. })));
    let mut half = entry(1, 1, "b");
    half.ends_batch = false;
    assert!(matches!(log.write(&[append(&[half])]), Err(LogError::BatchSplit { .. })));
    assert_eq!(payloads(log), ["a"]);
    log.append("b").unwrap();
    assert_eq!(payloads(log), ["a", "b"]);
}

fn too_large(log: &mut Dyn) {
    let error = log.append(vec![1; 50_001]).unwrap_err();
    assert_eq!(error.to_string(), "an entry of 50001 bytes is over the limit of 50000");
    assert!(matches!(
        log.append_batch([vec![1; 50_000], vec![1; 50_000], vec![1]]),
        Err(LogError::TooLarge { .. })
    ));
    log.append_batch([vec![1; 50_000], vec![0; 50_000]]).unwrap();
    log.append(vec![7; 10]).unwrap();
    assert_eq!(log.head().unwrap().unwrap().payload, vec![7; 10]);
    assert_eq!(payloads(log).iter().map(Bytes::len).collect::<Vec<_>>(), [50_000, 50_000, 10]);
}

fn trims_and_resets(log: &mut Dyn) {
    log.append_batch(["a", "b", "c"]).unwrap();
    log.append("d").unwrap();
    let mut stale = log.iter(Seq::new(1)..);
    log.trim(Some(Seq::new(1))).unwrap();
    assert!(matches!(stale.next(), Some(Err(LogError::Trimmed { .. }))));
    assert!(stale.next().is_none());
    assert_eq!(payloads(log), ["a", "b"]);
    // Already shorter: nothing happens.
    log.trim(Some(Seq::new(7))).unwrap();
    log.trim(Some(Seq::new(1))).unwrap();
    assert_eq!(payloads(log), ["a", "b"]);
    // Trimmed and filled again behind an iterator's back: the entries are others.
    let mut stale = log.iter(..);
    log.trim(Some(Seq::ZERO)).unwrap();
    log.append("other").unwrap();
    assert!(matches!(stale.next(), Some(Err(LogError::Trimmed { .. }))));
    log.trim(Some(Seq::ZERO)).unwrap();
    log.append("b").unwrap();
    log.write(&[append(&[entry(2, 3, "C")])]).unwrap();
    assert_eq!(payloads(log), ["a", "b", "C"]);
    // A trim with its appends is one unit.
    let write = Write {
        trim: Some(Seq::new(1)),
        append: vec![entry(1, 4, "B"), entry(2, 5, "CC")],
        ..Write::default()
    };
    log.write(&[write]).unwrap();
    assert_eq!(payloads(log), ["a", "B", "CC"]);
    assert_eq!(log.last().unwrap().to_string(), "2@5");
    assert!(matches!(log.write(&[append(&[entry(3, 4, "x")])]), Err(LogError::WrongTerm { .. })));
    log.trim(None).unwrap();
    assert!(log.head().unwrap().is_none());
    // The end may go back to 0, whatever its term was.
    log.write(&[append(&[entry(0, 1, "new")])]).unwrap();
    let reset = Write {
        reset: Some(Reset { start: Seq::new(100), before: Term::new(6) }),
        append: vec![entry(100, 6, "r")],
        ..Write::default()
    };
    log.write(&[reset]).unwrap();
    assert_eq!(payloads(log), ["r"]);
    assert_eq!(log.start(), Seq::new(100));
    assert!(matches!(log.trim(Some(Seq::new(98))), Err(LogError::Compacted { .. })));
    assert!(matches!(
        log.reader().read(Seq::new(99), Seq::new(101), 1),
        Err(LogError::Compacted { .. })
    ));
    log.trim(None).unwrap();
    assert_eq!(log.last().unwrap().to_string(), "99@6");
}

fn a_group_is_all_or_nothing(log: &mut Dyn) {
    log.append("a").unwrap();
    let syncs = log.stats().syncs;
    let group = [
        append(&[entry(1, 1, "b")]),
        Write { trim: Some(Seq::ZERO), append: vec![entry(0, 1, "A")], ..Write::default() },
        append(&[entry(1, 2, "B"), entry(2, 2, "C")]),
    ];
    log.write(&group).unwrap();
    assert_eq!(log.stats().syncs, syncs + 1);
    assert_eq!(payloads(log), ["A", "B", "C"]);
    log.write(&[]).unwrap();
    log.write(&[Write::default()]).unwrap();
    assert_eq!(payloads(log), ["A", "B", "C"]);
}

fn hard_state_never_goes_back(log: &mut Dyn) {
    let hard = |term, vote: Option<u128>| HardState {
        term: Term::new(term),
        vote: vote.map(Identity::new),
    };
    let write = |hard| [Write { hard_state: Some(hard), ..Write::default() }];
    log.write(&write(hard(3, None))).unwrap();
    log.write(&write(hard(3, Some(7)))).unwrap();
    for worse in [hard(2, None), hard(3, None), hard(3, Some(8))] {
        assert!(matches!(log.write(&write(worse)), Err(LogError::WrongTerm { .. })));
    }
    log.write(&write(hard(3, Some(7)))).unwrap();
    assert_eq!(log.hard_state(), hard(3, Some(7)));
    let member = Member { id: NodeId::from(1), identity: log.identity() };
    let configuration =
        Configuration::new(vec![member], QuorumRule::AtLeast(1), Seq::ZERO).unwrap();
    let both = Write {
        hard_state: Some(hard(4, None)),
        configuration: Some(Arc::new(configuration.clone())),
        append: vec![entry(0, 4, "a")],
        ..Write::default()
    };
    log.write(&[both]).unwrap();
    assert_eq!(log.restored().hard_state, hard(4, None));
    assert_eq!(log.restored().configuration.as_deref(), Some(&configuration));
    assert_eq!(payloads(log), ["a"]);
    // Standalone appends carry on in the newest term.
    log.append("b").unwrap();
    assert_eq!(log.last().unwrap().to_string(), "1@4");
}

fn reads_are_bounded(log: &mut Dyn) {
    for number in 0..100_u32 {
        log.append(vec![0; usize::try_from(number * 7 % 50).unwrap()]).unwrap();
    }
    let reader = log.reader();
    let read = |start, end, max| reader.read(Seq::new(start), Seq::new(end), max);
    assert_eq!(read(5, 5, 1).unwrap(), []);
    assert_eq!(read(5, 90, 0).unwrap().len(), 1);
    for start in [0, 1, 33, 98] {
        let entries = read(start, 100, 200).unwrap();
        let bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
        assert!(bytes <= 200);
        assert!(entries.iter().zip(start..).all(|(entry, seq)| entry.id.seq.get() == seq));
        assert!(
            entries.iter().all(|entry| entry.payload.len() as u64 == entry.id.seq.get() * 7 % 50)
        );
        let next = entries.len() as u64 + start;
        assert!(next == 100 || bytes as u64 + next * 7 % 50 > 200);
    }
    assert!(matches!(read(99, 101, 1), Err(LogError::Trimmed { .. })));
}

fn closing_ends_everything(log: &mut Dyn) {
    log.append("a").unwrap();
    log.append("b").unwrap();
    let mut iter = log.iter(..);
    log.close().unwrap();
    log.close().unwrap();
    assert!(matches!(log.append("c"), Err(LogError::Closed)));
    assert!(matches!(iter.next(), Some(Err(LogError::Closed))));
    assert!(iter.next().is_none());
}

fn full_at_the_last_position(log: &mut Dyn) {
    log.append_batch(["x", "y"]).unwrap();
    assert_eq!(log.end(), Seq::MAX);
    assert!(matches!(log.append("z"), Err(LogError::Full)));
    log.trim(Some(log.start())).unwrap();
    log.append("Y").unwrap();
    assert_eq!(payloads(log), ["x", "Y"]);
}

#[test]
fn mem_log_conforms() {
    conforms(|options| {
        Box::new(move |check| check(&mut Dyn(Box::new(MemLog::new(options).unwrap()))))
    });
}

#[test]
fn fs_log_conforms() {
    conforms(|options| {
        Box::new(move |check| {
            let dir = tempfile::tempdir().unwrap();
            let (log, recovery) =
                FsLog::open(dir.path().join("a/b"), "x", options.clone()).unwrap();
            assert!(recovery.created);
            let mut log = Dyn(Box::new(log));
            check(&mut log);
            let before = (log.bounds(), log.restored().hard_state, log.restored().configuration);
            drop(log);
            let (log, recovery) = FsLog::open(dir.path().join("a/b"), "x", options).unwrap();
            assert_eq!(
                (log.bounds(), log.restored().hard_state, log.restored().configuration),
                before
            );
            assert_eq!((recovery.cut, recovery.copies_repaired), (None, 0));
            assert_eq!(log.iter(..).map(Result::unwrap).count() as u64, log.stats().entries);
        })
    });
}

#[test]
fn fs_log_on_a_simulated_disk_conforms() {
    conforms(|options| {
        Box::new(move |check| {
            let disk = SimDisk::new();
            let (log, _) = FsLog::open_on(&disk, "x", options).unwrap();
            check(&mut Dyn(Box::new(log)));
        })
    });
}

#[test]
fn names_are_strangers_to_each_other() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("foreign"), "stays").unwrap();
    let names = ["a", "a1", "a-m1", "a.log", "a.lock", "a.log.log"];
    for name in names {
        let (mut log, recovery) = FsLog::open(dir.path(), name, LogOptions::default()).unwrap();
        assert!(recovery.created, "{name}");
        log.append(name).unwrap();
    }
    FsLog::destroy(dir.path(), "a").unwrap();
    FsLog::destroy(dir.path(), "a").unwrap();
    FsLog::destroy(dir.path().join("missing"), "a").unwrap();
    assert!(!dir.path().join("missing").exists());
    for name in names.into_iter().skip(1) {
        let (log, _) = FsLog::open(dir.path(), name, LogOptions::default()).unwrap();
        assert_eq!(log.head().unwrap().unwrap().payload, name);
    }
    assert_eq!(std::fs::read(dir.path().join("foreign")).unwrap(), b"stays");
    for name in ["", ".", "..", "a/b", "a\0", &"x".repeat(129)] {
        assert!(matches!(
            FsLog::open(dir.path(), name, LogOptions::default()),
            Err(LogError::BadName(_))
        ));
        assert!(matches!(FsLog::destroy(dir.path(), name), Err(LogError::BadName(_))));
    }
}

#[test]
fn a_foreign_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let text = "these are my notes, not a log".repeat(100);
    std::fs::write(dir.path().join("x.log"), &text).unwrap();
    assert!(matches!(
        FsLog::open(dir.path(), "x", LogOptions::default()),
        Err(LogError::NotALog(_))
    ));
    assert_eq!(std::fs::read_to_string(dir.path().join("x.log")).unwrap(), text);
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let disk = SimDisk::new();
    let mut options = LogOptions::default();
    options.first_seq = Seq::MAX;
    assert!(matches!(FsLog::open_on(&disk, "x", options), Err(LogError::BadOptions(_))));
    let missing = FsLog::<SimDisk>::destroy_on(&disk, "x");
    assert!(missing.is_ok(), "{missing:?}");
}
