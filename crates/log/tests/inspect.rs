//! Looking at logs from outside: healthy, torn, damaged in each way, and while somebody writes.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use std::{
    io,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use common::{FILE, NAME, append, configuration, entry, noise, options, reset, trim, vote};
use tinyraftplus_core::Seq;
use tinyraftplus_log::{
    Damage, Disk, DiskFile, Encoder, EncryptingEncoder, FsLog, Key, Log, LogError, LogExt, LogKind,
    LogOptions, MultiFsLog, Open, OsDisk, PlainEncoder, SegmentState, SharedLog, Survey, Verified,
    Write, XxHashEncoder, dump, find_logs, inspect,
    sim_disk::{SimDisk, SimRng},
    survey, verify,
};

fn hashing() -> Arc<dyn Encoder> {
    Arc::new(XxHashEncoder::default())
}

fn encrypting(key: u8) -> Arc<dyn Encoder> {
    Arc::new(EncryptingEncoder::new(&Key::from_bytes([key; 32])))
}

fn check(disk: &SimDisk) -> Verified {
    verify(disk, NAME, &hashing(), |_| {}).unwrap()
}

fn seqs(range: Range<u64>) -> Range<Seq> {
    Seq::new(range.start)..Seq::new(range.end)
}

/// What a dump gives: seqs, and the seqs at which it complains.
fn dumped(disk: &SimDisk, encoder: &Arc<dyn Encoder>) -> (Vec<u64>, Vec<u64>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for item in dump(disk, NAME, encoder, ..).unwrap() {
        match item {
            Ok(entry) => good.push(entry.id.seq.get()),
            Err(LogError::Corrupt { seq, .. }) => bad.push(seq.unwrap().get()),
            Err(error) => panic!("{error}"),
        }
    }
    (good, bad)
}

fn many() -> LogOptions {
    let mut options = options();
    options.segment_bytes_max = 64 << 10;
    options.group_bytes_max = 64 << 10;
    options.batch_bytes_max = 16 << 10;
    options.space_bytes = 16 << 10;
    options
}

/// A log in segments with `count` entries of 1,000 bytes.
fn segments(disk: &SimDisk, count: u64, encoder: &Arc<dyn Encoder>) -> MultiFsLog<SimDisk> {
    let mut options = many();
    options.encoder = Arc::clone(encoder);
    let (mut log, _) = MultiFsLog::open_on(disk, NAME, options).unwrap();
    for seq in 0..count {
        log.append(noise(seq, 1000)).unwrap();
    }
    log
}

/// One damage, and it is this one.
fn only(survey: &Survey) -> &Damage {
    assert_eq!(survey.damage.len(), 1, "{:#?}", survey.damage);
    &survey.damage[0]
}

#[test]
fn logs_are_found_by_name_and_strangers_are_not() {
    let disk = SimDisk::new();
    drop(segments(&disk, 200, &hashing()));
    for name in ["a", "a1", "a.b"] {
        FsLog::open_on(&disk, name, options()).unwrap();
    }
    disk.put("notes.txt", b"hello");
    disk.put("x.0001.seg", b"hello");
    let found: Vec<_> =
        find_logs(&disk).unwrap().into_iter().map(|log| (log.name, log.kind)).collect();
    let one = |name: &str| (name.to_owned(), LogKind::OneFile);
    let expected = [one("a"), one("a.b"), one("a1"), (NAME.to_owned(), LogKind::Segments)];
    assert_eq!(found, expected);
    let missing = survey(&disk, "y", &hashing()).unwrap_err();
    assert!(matches!(missing, LogError::Io { op: "find", .. }), "{missing}");
}

#[test]
fn a_healthy_log_is_described_and_has_no_damage() {
    let disk = SimDisk::new();
    let (mut log, _) = common::open(&disk);
    let write = Write { configuration: Some(configuration(3)), ..vote(2, 71) };
    log.write(&[write]).unwrap();
    log.write(&[append((0..9).map(|seq| entry(seq, 2, noise(seq, 700))).collect())]).unwrap();
    log.write(&[Write { append: vec![entry(5, 2, "new")], ..trim(5) }]).unwrap();
    let seen = check(&disk);
    let survey = seen.survey;
    assert_eq!(survey.damage, []);
    assert_eq!((survey.seqs.clone(), survey.kind), (seqs(0..6), LogKind::OneFile));
    assert_eq!((survey.identity, survey.hard_state), (log.identity(), log.hard_state()));
    assert_eq!(
        (survey.last, survey.configuration.clone()),
        (log.last(), log.restored().configuration)
    );
    assert!(survey.is_raft() && survey.torn.is_none());
    assert_eq!(survey.durable_end, Seq::new(9).min(survey.seqs.end), "as of the group before");
    assert_eq!((seen.frames, seen.entries), (3, 10));
    assert_eq!(dumped(&disk, &hashing()), ((0..6).collect(), vec![]));
    log.close().unwrap();
    assert_eq!(check(&disk).survey.durable_end, Seq::new(6), "a mark proves it");
}

#[test]
fn segments_are_described_with_what_lies_in_them() {
    let disk = SimDisk::new();
    for encoder in [hashing(), encrypting(1), Arc::new(PlainEncoder)] {
        let disk = disk.fork();
        let mut log = segments(&disk, 200, &encoder);
        log.trim(Some(Seq::new(149))).unwrap();
        log.append("newest").unwrap();
        log.compact(Seq::new(70)).unwrap();
        let (cheap, full) = (
            survey(&disk, NAME, &encoder).unwrap(),
            verify(&disk, NAME, &encoder, |_| {}).unwrap().survey,
        );
        for seen in [&cheap, &full] {
            assert_eq!(seen.damage, []);
            assert_eq!(seen.seqs, seqs(70..151));
            assert_eq!(seen.spares.len(), 1);
            let held: Vec<_> = seen.segments.iter().filter_map(|it| it.seqs.clone()).collect();
            assert_eq!((held[0].start, held[held.len() - 1].end), (Seq::new(70), Seq::new(151)));
            assert!(held.windows(2).all(|pair| pair[0].end == pair[1].start), "{held:?}");
            let (newest, old) = seen.segments.split_last().unwrap();
            assert_eq!(newest.state, SegmentState::Newest);
            assert!(old.iter().all(|it| it.state == SegmentState::Sealed), "{old:?}");
            assert!(seen.segments.iter().all(|it| it.used_bytes <= it.bytes));
        }
        assert_eq!(dumped(&disk, &encoder), ((70..151).collect(), vec![]));
        log.close().unwrap();
    }
}

#[test]
fn a_torn_tail_is_no_damage() {
    let disk = SimDisk::new();
    let (mut log, _) = common::open(&disk);
    log.append(noise(1, 3000)).unwrap();
    let at = inspect(&disk, NAME).unwrap().len();
    log.append(noise(2, 3000)).unwrap();
    let position = usize::try_from(inspect(&disk, NAME).unwrap()[at].position).unwrap();
    drop(log);
    let torn = (position / 512 + 2) * 512;
    disk.edit(FILE, |bytes| bytes[torn..torn + 512].fill(0));
    let survey = check(&disk).survey;
    assert_eq!((survey.damage, survey.seqs), (vec![], seqs(0..1)));
    assert_eq!(survey.torn.unwrap().position, position as u64);
    assert_eq!(dumped(&disk, &hashing()), (vec![0], vec![]));
    // And it is what opening does.
    let (log, recovery) = common::open(&disk);
    assert_eq!((recovery.cut, log.end()), (survey.torn, Seq::new(1)));
    drop(log);
    assert_eq!(check(&disk).survey.torn, None);
}

#[test]
fn reading_goes_on_behind_each_damaged_place() {
    let disk = SimDisk::new();
    let (mut log, _) = common::open(&disk);
    for seq in 0..10 {
        log.append(noise(seq, 2000)).unwrap();
    }
    log.close().unwrap();
    let frames: Vec<_> = inspect(&disk, NAME)
        .unwrap()
        .iter()
        .map(|it| usize::try_from(it.position).unwrap())
        .collect();
    // A body, a header, and a frame that reads as zeros.
    disk.edit(FILE, |bytes| {
        bytes[frames[2] + 500] ^= 1;
        bytes[frames[5] + 20] ^= 1;
        bytes[frames[8]..frames[9]].fill(0);
    });
    let survey = check(&disk).survey;
    let found: Vec<_> = survey
        .damage
        .iter()
        .map(|it| (it.offset, it.seq.map(Seq::get), it.end.map(Seq::get), &*it.what))
        .collect();
    let at = |frame: usize| frames[frame] as u64;
    assert_eq!(
        found,
        [
            (at(2), Some(2), Some(3), "the body of a frame is damaged"),
            (at(5), Some(5), Some(6), "the header of a frame is damaged"),
            (at(8), Some(8), Some(9), "a frame is gone: zeros lie there"),
        ]
    );
    assert_eq!((survey.seqs, survey.torn), (seqs(0..10), None));
    assert_eq!(dumped(&disk, &hashing()), (vec![0, 1, 3, 4, 6, 7, 9], vec![2, 5, 8]));
    assert!(matches!(common::try_open(&disk), Err(LogError::Corrupt { .. })));
}

#[test]
fn every_flipped_bit_of_a_frame_or_header_is_found() {
    let disk = SimDisk::new();
    let (mut log, _) = common::open(&disk);
    log.write(&[vote(1, 7)]).unwrap();
    log.append(noise(1, 100)).unwrap();
    log.append(noise(2, 100)).unwrap();
    log.close().unwrap();
    let frames = inspect(&disk, NAME).unwrap();
    let mut places: Vec<u64> = (0..1024).collect();
    for frame in &frames {
        // Header and body; nobody looks at padding.
        let bytes = if frame.count > 0 { 128 + 100 } else { 128 };
        places.extend(frame.position..frame.position + bytes);
    }
    for place in places {
        let disk = disk.fork();
        disk.edit(FILE, |bytes| bytes[usize::try_from(place).unwrap()] ^= 1 << (place % 8));
        let survey = check(&disk).survey;
        assert!(!survey.damage.is_empty() || survey.torn.is_some(), "byte {place}");
        // A mark proves all entries; the mark itself is the last frame, and nothing proves that.
        let last = frames.last().unwrap().position;
        assert!(!survey.damage.is_empty() || place >= last, "byte {place}");
    }
}

#[test]
fn what_is_damaged_in_a_full_file_is_found_and_later_files_are_read() {
    let disk = SimDisk::new();
    segments(&disk, 200, &hashing()).close().unwrap();
    let whole = check(&disk).survey;
    assert_eq!(whole.damage, []);
    let (second, third) = (&whole.segments[1], &whole.segments[2]);
    let held = second.seqs.clone().unwrap();
    let name = second.file.clone();
    let at = |share: u64| usize::try_from(second.used_bytes * share / 100).unwrap();
    let seal = usize::try_from(second.used_bytes).unwrap();

    let damage = |change: &dyn Fn(&mut Vec<u8>)| {
        let disk = disk.fork();
        disk.edit(&name, |bytes| change(bytes));
        let survey = check(&disk).survey;
        assert_eq!(survey.seqs, seqs(0..200), "{:#?}", survey.damage);
        assert!(survey.damage.iter().all(|it| it.path.ends_with(&name)), "{:#?}", survey.damage);
        (survey, dumped(&disk, &hashing()))
    };
    // Opening reads no frame of it, so nothing but verifying can know.
    let (survey, (good, bad)) = damage(&|bytes| bytes[at(50)] ^= 4);
    let seq = only(&survey).seq.unwrap();
    assert!(held.contains(&seq));
    assert_eq!(bad, [seq.get()]);
    assert_eq!(good.len(), 199);
    // Its seal: opening mends that.
    let (survey, (good, _)) = damage(&|bytes| bytes[seal + 130] ^= 1);
    assert!(only(&survey).mended && good.len() == 200, "{:#?}", survey.damage);
    // One copy of its header, and both.
    let (survey, (good, _)) = damage(&|bytes| bytes[600] ^= 1);
    assert!(only(&survey).mended && only(&survey).offset == 512 && good.len() == 200);
    let (survey, (good, bad)) = damage(&|bytes| bytes[..1024].fill(7));
    assert_eq!((only(&survey).seq, only(&survey).end), (Some(held.start), Some(held.end)));
    assert_eq!(survey.segments[1].state, SegmentState::Unreadable);
    assert_eq!(
        (good.len() as u64, bad),
        (200 - held.end.since(held.start), vec![held.start.get()])
    );
    // A frame's header: what lies behind it is read all the same.
    let (survey, (good, bad)) = damage(&|bytes| {
        let from = at(50);
        let header = bytes[from..].windows(4).position(|bytes| bytes == b"TRPf").unwrap();
        bytes[from + header + 9] ^= 1;
    });
    assert_eq!((good.len(), bad), (199, vec![only(&survey).seq.unwrap().get()]));
    // Its last frames gone.
    let (survey, _) = damage(&|bytes| bytes.truncate(at(60)));
    assert_eq!(survey.damage.last().unwrap().end.unwrap_or(held.end), held.end);
    assert!(survey.damage[0].seq.unwrap() < third.seqs.clone().unwrap().start);
}

#[test]
fn a_missing_file_is_named() {
    let disk = SimDisk::new();
    segments(&disk, 200, &hashing()).close().unwrap();
    let files: Vec<_> = check(&disk).survey.segments.iter().map(|it| it.file.clone()).collect();
    disk.take(&files[1]);
    let survey = check(&disk).survey;
    assert!(only(&survey).path.ends_with(&files[1]), "{survey:#?}");
    assert_eq!(survey.segments[0].state, SegmentState::Leftover);
    let error = MultiFsLog::open_on(&disk, NAME, many()).err().unwrap();
    assert!(matches!(error, LogError::SegmentMissing(path) if path == only(&survey).path));
}

/// Fails without the look at whether the newest file ends with a seal, which is written when the next is begun.
#[test]
fn a_missing_newest_file_is_named() {
    let disk = SimDisk::new();
    segments(&disk, 200, &hashing()).close().unwrap();
    let newest = check(&disk).survey.segments.last().unwrap().clone();
    disk.take(&newest.file);
    let survey = check(&disk).survey;
    assert!(only(&survey).path.ends_with(&newest.file), "{survey:#?}");
    assert_eq!((only(&survey).seq, only(&survey).end), (Some(newest.begin), None));
    let error = MultiFsLog::open_on(&disk, NAME, many()).err().unwrap();
    assert!(matches!(error, LogError::SegmentMissing(path) if path == only(&survey).path));
}

#[test]
fn another_key_or_encoder_is_an_error_and_not_damage() {
    let disk = SimDisk::new();
    segments(&disk, 100, &encrypting(1)).close().unwrap();
    let wrong_key = verify(&disk, NAME, &encrypting(2), |_| {}).unwrap_err();
    assert!(matches!(wrong_key, LogError::WrongKey(_)), "{wrong_key}");
    let wrong = verify(&disk, NAME, &hashing(), |_| {}).unwrap_err();
    assert!(matches!(wrong, LogError::WrongEncoder { found: 3, given: 1, .. }), "{wrong}");
    let mut total = 0;
    let right = verify(&disk, NAME, &encrypting(1), |progress| {
        assert!(progress.done <= progress.total);
        total = progress.done;
    });
    let right = right.unwrap();
    assert_eq!((right.survey.damage, right.entries), (vec![], 100));
    assert_eq!(total, right.bytes);
}

#[test]
fn nothing_of_ours_and_nothing_begun_are_refused() {
    let disk = SimDisk::new();
    disk.put(FILE, b"a diary, and not a short one");
    assert!(matches!(verify(&disk, NAME, &hashing(), |_| {}), Err(LogError::NotALog(_))));
    disk.put(FILE, &[0; 8192]);
    let error = survey(&disk, NAME, &hashing()).unwrap_err();
    assert!(matches!(error, LogError::Io { op: "read a header from", .. }), "{error}");
}

#[test]
fn looking_changes_nothing_and_needs_no_lock() {
    let disk = SimDisk::new();
    let mut log = segments(&disk, 100, &hashing());
    disk.take_operations();
    check(&disk);
    dumped(&disk, &hashing());
    inspect(&disk, NAME).unwrap();
    assert_eq!(disk.take_operations(), Vec::<String>::new());
    log.close().unwrap();
}

/// Reading is a second implementation of recovery. Whatever a log went through, crashes included, both say the same
/// of it; without the rule that what a cut made void is passed over, or that a vote in a torn group counts, they
/// don't.
#[test]
fn what_is_said_of_a_log_is_what_opening_it_finds() {
    let (mut torn, mut voids) = (0, 0);
    for seed in 0..300_u64 {
        let mut rng = SimRng::new(seed);
        let disk = SimDisk::new();
        let mut options = many();
        options.block_bytes = if rng.below(4) == 0 { 4096 } else { 512 };
        options.encoder = if rng.below(3) == 0 { encrypting(1) } else { hashing() };
        let encoder = Arc::clone(&options.encoder);
        let in_segments = rng.below(2) == 0;
        let open = || -> Box<dyn Log> {
            if in_segments {
                Box::new(MultiFsLog::open_on(&disk, NAME, options.clone()).unwrap().0)
            } else {
                Box::new(FsLog::open_on(&disk, NAME, options.clone()).unwrap().0)
            }
        };
        for _ in 0..=rng.below(4) {
            let mut log = open();
            disk.crash_after(disk.operation_count() + 5 + rng.below(60));
            // Until it ends badly.
            while random_call(&mut *log, &mut rng, in_segments).is_ok() && rng.below(80) > 0 {}
            drop(log);
            if rng.below(3) == 0 {
                disk.kill();
            } else {
                disk.power_loss(&mut rng);
            }
            let seen = verify(&disk, NAME, &encoder, |_| {});
            let cheap = survey(&disk, NAME, &encoder);
            let entries: Vec<_> = match dump(&disk, NAME, &encoder, ..) {
                Ok(entries) => entries.map(Result::unwrap).collect(),
                Err(_) => Vec::new(),
            };
            let mut log = open();
            let Ok(seen) = seen.map(|seen| seen.survey) else { continue };
            let unmended: Vec<_> = seen.damage.iter().filter(|it| !it.mended).collect();
            assert_eq!(unmended, Vec::<&Damage>::new(), "seed {seed}");
            let cheap = cheap.unwrap();
            assert!(cheap.damage.iter().all(|it| it.mended), "seed {seed}: {:?}", cheap.damage);
            for seen in [&seen, &cheap] {
                assert_eq!(seen.seqs, log.bounds(), "seed {seed}");
                assert_eq!(seen.hard_state, log.hard_state(), "seed {seed}");
                assert_eq!(seen.last, log.last(), "seed {seed}");
                assert_eq!(seen.configuration, log.restored().configuration, "seed {seed}");
            }
            let read: Vec<_> = log.iter(..).map(Result::unwrap).collect();
            assert_eq!(entries, read, "seed {seed}");
            torn += u64::from(seen.torn.is_some());
            voids +=
                u64::from(inspect(&disk, NAME).unwrap().iter().any(|it| it.text.contains("cut")));
            log.close().unwrap();
        }
    }
    assert!(torn > 20 && voids > 20, "{torn} {voids}");
}

fn random_call(log: &mut dyn Log, rng: &mut SimRng, in_segments: bool) -> Result<(), LogError> {
    let (bounds, hard) = (log.bounds(), log.hard_state());
    let (start, end) = (bounds.start.get(), bounds.end.get());
    let term = hard.term.get().max(log.last().map_or(0, |last| last.term.get()));
    let between = start + rng.below(end - start + 1);
    let next = |rng: &mut SimRng, seq: u64| {
        let count = rng.below(4);
        let bytes = usize::try_from(rng.below(6000)).unwrap();
        append((seq..seq + count).map(|seq| entry(seq, term, noise(seq, bytes))).collect())
    };
    match rng.below(12) {
        0 => log.write(&[vote(term + 1, 7)]),
        1 => log.write(&[Write { append: next(rng, between).append, ..trim(between) }]),
        2 if in_segments => log.compact(Seq::new(between)),
        3 => log.mark(),
        4 => log.write(&[Write { configuration: Some(configuration(3)), ..vote(term + 1, 9) }]),
        5 if rng.below(6) == 0 => log.write(&[reset(end + rng.below(3), term)]),
        _ => log.write(&[next(rng, end)]),
    }
}

/// A disk that lets something happen at each read, as if somebody else were at work.
#[derive(Clone)]
struct Beside {
    disk: SimDisk,
    /// Sees the name of the file, the offset, and what was read; says whether to read again.
    at_read: Arc<AtRead>,
}

type AtRead = dyn Fn(&str, u64, &mut [u8]) -> bool + Send + Sync;

struct BesideFile {
    name: String,
    file: <SimDisk as Disk>::File,
    at_read: Arc<AtRead>,
}

impl Disk for Beside {
    type File = BesideFile;
    type Lock = <SimDisk as Disk>::Lock;

    fn open(&self, name: &str, how: Open) -> io::Result<BesideFile> {
        assert_eq!(how, Open::Read);
        let file = self.disk.open(name, how)?;
        Ok(BesideFile { name: name.to_owned(), file, at_read: Arc::clone(&self.at_read) })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn lock(&self, _: &str) -> io::Result<Self::Lock> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }
}

impl DiskFile for BesideFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(offset, buffer)?;
        if (self.at_read)(&self.name, offset, &mut buffer[..read]) {
            return self.file.read_at(offset, buffer);
        }
        Ok(read)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Fails if what looks torn is not read again, and again for as long as it changes.
#[test]
fn a_group_that_is_being_written_is_waited_for() {
    let disk = SimDisk::new();
    let (mut log, _) = common::open(&disk);
    log.append(noise(1, 500)).unwrap();
    log.append(noise(2, 6000)).unwrap();
    let last = inspect(&disk, NAME).unwrap().pop().unwrap().position;
    // With each look, one sector more of the last group is there.
    let there = AtomicU64::new(last.div_ceil(512));
    let at_read = move |_: &str, offset: u64, bytes: &mut [u8]| {
        let end = offset + bytes.len() as u64;
        if end > last {
            let known = there.fetch_add(1, Ordering::Relaxed) * 512;
            let from = known.max(offset).min(end) - offset;
            bytes[usize::try_from(from).unwrap()..].fill(0);
        }
        false
    };
    let beside = Beside { disk: disk.clone(), at_read: Arc::new(at_read) };
    let survey = verify(&beside, NAME, &hashing(), |_| {}).unwrap().survey;
    assert_eq!((survey.damage, survey.torn, survey.seqs), (vec![], None, seqs(0..2)));
}

/// Fails without the look at whether a file that seems damaged is still part of the log: the owner has deleted it,
/// and makes it one of zeros, to be used again.
#[test]
fn a_file_that_is_deleted_while_it_is_read_is_not_damaged() {
    for bytes_read in [1024, 2048] {
        let disk = SimDisk::new();
        let log = Mutex::new(segments(&disk, 200, &hashing()));
        let oldest = check(&disk).survey.segments[0].file.clone();
        let done = AtomicBool::new(false);
        let at_read = move |name: &str, _: u64, bytes: &mut [u8]| {
            let now = name == oldest && bytes.len() >= bytes_read;
            if now && !done.swap(true, Ordering::Relaxed) {
                log.lock().unwrap().compact(Seq::new(150)).unwrap();
                return true;
            }
            false
        };
        let beside = Beside { disk: disk.clone(), at_read: Arc::new(at_read) };
        let survey = verify(&beside, NAME, &hashing(), |_| {}).unwrap().survey;
        assert_eq!((survey.damage, survey.seqs), (vec![], seqs(150..200)));
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the owner is writing at this moment must not look like damage, nor what it seals, deletes or uses again.
#[test]
fn beside_an_owner_that_writes_rotates_and_compacts_nothing_looks_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = many();
    options.segment_bytes_max = 256 << 10;
    options.group_bytes_max = 128 << 10;
    options.batch_bytes_max = 64 << 10;
    let (log, _) = MultiFsLog::open(dir.path(), NAME, options).unwrap();
    let log = SharedLog::new(log);
    let disk = OsDisk::existing(dir.path()).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut rounds = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                log.append_batch((0..30).map(|n| noise(rounds + n, 900))).wait().unwrap();
                rounds += 1;
                if rounds.is_multiple_of(40) {
                    log.compact(Seq::new((rounds - 20) * 30)).wait().unwrap();
                }
                if rounds.is_multiple_of(33) {
                    log.trim(Some(log.end().before().unwrap().before().unwrap())).wait().unwrap();
                    log.append("again").wait().unwrap();
                }
            }
            rounds
        });
        // If this fails, the writer must end, too.
        let stopping = Stop(&stop);
        let mut ends = Vec::new();
        // Not before the writer has rotated and compacted.
        while ends.len() < 40 || log.start() == Seq::ZERO {
            let seen = verify(&disk, NAME, &hashing(), |_| {}).unwrap();
            assert_eq!(seen.survey.damage, [], "{:#?}", seen.survey);
            assert_eq!(seen.survey.torn, None);
            let cheap = survey(&disk, NAME, &hashing()).unwrap();
            assert_eq!(cheap.damage, [], "{cheap:#?}");
            ends.push(seen.survey.seqs.end);
        }
        drop(stopping);
        assert!(writer.join().unwrap() > 0);
        assert!(ends.windows(2).all(|pair| pair[0] <= pair[1].after()), "{ends:?}");
    });
    log.close().wait().unwrap();
    let seen = verify(&disk, NAME, &hashing(), |_| {}).unwrap().survey;
    assert_eq!((seen.damage, seen.seqs.end, seen.durable_end), (vec![], log.end(), log.end()));
}
