//! A log of the JavaScript package as a whole.

use tinyraftplus_log::{Disk, EntryKind, Key, LogEntry, LogKind, Term};
use twox_hash::xxhash3_128::Hasher;

use super::{
    Error, Layout,
    bytes::{Bodies, Records, record},
    error::Doubts,
    names::{self, Found},
    part::{Part, count_of, doubt, no_seq, read_lock},
    u64_of,
    walk::Walk,
    window::{failed, small},
};

/// How many entries are asked whether a log that is said to be encrypted is not.
const ASKED_OF_ENCRYPTED: u64 = 8;
/// From this many segments on, the package reads them in the wrong order.
const MISORDERED_FROM: usize = 11;

/// What is known about a log beside its files.
#[derive(Debug, Default)]
pub struct Options {
    /// Its name; needed only if the directory has several.
    pub name: Option<String>,
    /// Which encoder wrote it; needed only if that can't be told.
    pub layout: Option<Layout>,
    /// The key of an encrypted log.
    pub key: Option<Key>,
    /// Whether a `RaftNode` wrote it; needed only if it looks as if.
    pub raft: Option<bool>,
    /// Whether eleven or more segments hold what the order of their numbers says.
    pub segments_in_order: bool,
}

/// What a crash left behind that was never committed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RolledBack {
    /// Whole records of it.
    pub entries: u64,
    /// Bytes of bodies.
    pub bytes: u64,
}

/// What a log holds, once all of it was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Checked {
    /// How many entries.
    pub entries: u64,
    /// How many bytes of payload they have together.
    pub payload_bytes: u64,
    /// How many the largest has.
    pub largest: u64,
    /// The term of the newest.
    pub last_term: Term,
    /// How many empty entries of a `RaftNode`'s log may be a user's or a leader's second try.
    pub empty: u64,
    /// What was not committed.
    pub rolled_back: RolledBack,
    pub(super) digest: u128,
}

/// A log, of which the files were found and the lock was read.
#[derive(Debug)]
pub struct Source<D: Disk> {
    disk: D,
    name: String,
    kind: LogKind,
    layout: Layout,
    key: Option<Key>,
    raft: Option<bool>,
    parts: Vec<Part>,
    /// Segments behind the place that the log is rolled back to.
    dropped: RolledBack,
    locked: bool,
}

impl<D: Disk> Source<D> {
    /// Finds a log and what it is. Reads its bodies only if it can't be told otherwise which layout it has.
    ///
    /// # Errors
    ///
    /// If there is none or it takes an option to tell, if files are missing or don't fit each other, or can't be
    /// read.
    pub fn open(disk: &D, options: Options) -> Result<Self, Error> {
        let found = names::choose(disk, options.name.as_deref())?;
        if found.parts.len() >= MISORDERED_FROM && !options.segments_in_order {
            return Err(misordered(&found));
        }
        let mut files = disk.list().map_err(|error| failed("list", &disk.path(""), error))?;
        files.sort_unstable();
        let read = |name: &String| Part::read(disk, name, &files);
        let parts = found.parts.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let mut source = Self {
            disk: disk.clone(),
            locked: parts.iter().any(Part::is_locked),
            name: found.name,
            kind: found.kind,
            layout: options.layout.unwrap_or(Layout::Plain),
            key: options.key,
            raft: options.raft,
            parts,
            dropped: RolledBack::default(),
        };
        let records = options.layout.map_or_else(|| source.records(), |it| Ok(it.records()))?;
        source.plan(records)?;
        if options.layout.is_none() {
            source.layout = source.find_layout(records)?;
        }
        source.check_key()?;
        Ok(source)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is in one file or in segments.
    pub const fn kind(&self) -> LogKind {
        self.kind
    }

    /// Which encoder wrote it; `None` if there are no entries, which could tell.
    pub fn layout(&self) -> Option<Layout> {
        (self.entries() > 0).then_some(self.layout)
    }

    /// Whether its process died while it was writing.
    pub const fn locked(&self) -> bool {
        self.locked
    }

    /// How many entries it has.
    pub fn entries(&self) -> u64 {
        self.parts.iter().map(|part| part.count).sum()
    }

    /// Reads everything, and shows each entry that can be read.
    ///
    /// # Errors
    ///
    /// [`Error::Doubtful`] names each place that is damaged; [`Error::Ask`] if it can't be told whether entries
    /// begin with a term; [`Error::Io`].
    pub fn check(&self, mut each: impl FnMut(&LogEntry)) -> Result<Checked, Error> {
        let mut walk = self.walk()?;
        let mut doubts = Doubts::default();
        let mut summary = Summary::default();
        while let Some(step) = walk.step()? {
            match step {
                Ok(entry) => {
                    summary.add(&entry);
                    each(&entry);
                }
                Err(doubt) => doubts.push(doubt),
            }
            if doubts.is_enough() {
                break;
            }
        }
        doubts.none_or_err()?;
        if self.raft.is_none() && walk.terms.looks_raft() {
            return Err(Error::Ask(format!(
                "{}: each entry begins with 8 bytes that could be the term a RaftNode puts there; say --raft if a RaftNode wrote this log, else --no-raft",
                self.name
            )));
        }
        let mut rolled_back = walk.rolled_back;
        rolled_back.entries += self.dropped.entries;
        rolled_back.bytes += self.dropped.bytes;
        Ok(summary.end(walk.terms.newest(), walk.terms.empty, rolled_back))
    }

    /// The way through all entries.
    pub(super) fn walk(&self) -> Result<Walk<'_, D>, Error> {
        let bodies = match Bodies::new(self.layout, self.key.as_ref()) {
            Some(bodies) => bodies,
            None if self.entries() == 0 => Bodies::Raw,
            None => return Err(self.no_key()),
        };
        let raft = self.raft.unwrap_or(false);
        Ok(Walk::new(&self.disk, &self.parts, self.layout, bodies, raft))
    }

    pub(super) fn changed(&self) -> Error {
        Error::Changed(self.disk.path(&self.name))
    }

    /// What its records look like, by the first there is; if there is none, by a lock.
    fn records(&self) -> Result<Records, Error> {
        let Some(part) = self.parts.iter().find(|part| part.has_records()) else {
            let lock = self.parts.iter().find_map(Part::lock_records);
            return Ok(lock.unwrap_or(Records::Plain));
        };
        let bytes = small(&self.disk, &format!("{}.off", part.name), 31)?;
        let plain = bytes.get(..24).and_then(|bytes| record(Records::Plain, bytes));
        let is_plain = plain.is_some_and(|it| it.seq == 0 && it.offset == 0 && it.len >= 0);
        let is_hashed = record(Records::Hashed, &bytes).is_some();
        match (is_plain, is_hashed) {
            (true, false) => Ok(Records::Plain),
            (false, true) => Ok(Records::Hashed),
            (true, true) => Err(Error::Ask(format!(
                "{}: its first record fits two layouts; say which it is with --layout",
                self.name
            ))),
            (false, false) => {
                let what = "the first record is damaged, or of no layout that the package writes; with --layout, all damaged places are named";
                Err(doubt(&self.disk, &part.name, ".off", Some(0), Some(0), what).into())
            }
        }
    }

    /// Finds out how many entries of each part count.
    fn plan(&mut self, records: Records) -> Result<(), Error> {
        let lock = match self.kind {
            LogKind::OneFile => None,
            LogKind::Segments => read_lock(&self.disk, &self.name)?,
        };
        let mut left = match lock {
            None => u64::MAX,
            Some((_, seq)) => count_of(seq).ok_or_else(|| {
                doubt(&self.disk, &self.name, ".lock", Some(0), None, &no_seq(seq))
            })?,
        };
        self.locked |= lock.is_some();
        let mut first = 0_u64;
        let mut gap: Option<String> = None;
        let mut kept = Vec::new();
        for mut part in std::mem::take(&mut self.parts) {
            if left == 0 {
                self.dropped.entries += part.records(records);
                self.dropped.bytes += part.log_len;
                continue;
            }
            if self.kind == LogKind::Segments && lock.is_none() && part.is_locked() {
                let what = "the segment has a lock, and the log has none: the package never leaves them so; if the log was opened as a log of one file, close it there first";
                return Err(doubt(&self.disk, &part.name, ".lock", Some(0), None, what).into());
            }
            part.first = first;
            part.plan(&self.disk, records)?;
            part.cut(left);
            if part.count > 0
                && let Some(gap) = &gap
            {
                let what = "the segment is empty, and there are entries in later ones";
                return Err(doubt(&self.disk, gap, ".off", Some(0), Some(first), what).into());
            }
            if part.count == 0 {
                gap.get_or_insert_with(|| part.name.clone());
            }
            first = first.saturating_add(part.count);
            if lock.is_some() {
                left -= part.count;
            }
            kept.push(part);
        }
        self.parts = kept;
        if let Some((_, seq)) = lock
            && left > 0
        {
            let what = format!(
                "the lock says that everything up to seq {seq} is to be kept, and the segments have only {first} entries; some are lost, or nothing was being written when the lock was (trim beyond the end does that): in that case empty this file, then import again"
            );
            return Err(doubt(&self.disk, &self.name, ".lock", Some(0), Some(first), &what).into());
        }
        Ok(())
    }

    /// Which encoder wrote the bodies.
    fn find_layout(&self, records: Records) -> Result<Layout, Error> {
        if records == Records::Plain {
            return Ok(Layout::Plain);
        }
        if self.key.is_some() {
            let is_hashed = self.any_is_hashed(ASKED_OF_ENCRYPTED)?;
            return Ok(if is_hashed { Layout::XxHash } else { Layout::Encrypted });
        }
        if self.entries() == 0 || self.any_is_hashed(u64::MAX)? {
            return Ok(Layout::XxHash);
        }
        Err(Error::Ask(format!(
            "{}: no body has a checksum that fits. If EncryptingEncoder wrote it, give its key with --key-file FILE; if XxHashEncoder(false) did, say --layout xxhash-headers, and nobody can check the bodies; if XxHashEncoder() did, every body is damaged: --layout xxhash names them",
            self.name
        )))
    }

    /// Whether there is a body with a checksum among the first ones. If one has it, all must.
    fn any_is_hashed(&self, most: u64) -> Result<bool, Error> {
        let mut walk =
            Walk::new(&self.disk, &self.parts, Layout::XxHashHeaders, Bodies::Raw, false);
        let mut count = 0;
        while count < most && walk.step()?.is_some() {
            if walk.hashed > 0 {
                return Ok(true);
            }
            count += 1;
        }
        Ok(false)
    }

    fn check_key(&self) -> Result<(), Error> {
        match self.layout {
            _ if self.entries() == 0 => Ok(()),
            Layout::Encrypted if self.key.is_none() => Err(self.no_key()),
            Layout::Plain | Layout::XxHash | Layout::XxHashHeaders if self.key.is_some() => {
                Err(Error::Ask(format!("{} is not encrypted: leave --key-file out", self.name)))
            }
            Layout::Plain | Layout::XxHash | Layout::XxHashHeaders | Layout::Encrypted => Ok(()),
        }
    }

    fn no_key(&self) -> Error {
        Error::Ask(format!("{} is encrypted: give its key with --key-file FILE", self.name))
    }
}

fn misordered(found: &Found) -> Error {
    Error::Ask(format!(
        "{} has {} segments. The JavaScript package takes those of a log that it opens in the order 0, 1, 10, 11, 2: if the program that wrote this one was restarted while there were more than ten, what it appended then lies in the middle, and no file tells. If it was not, say --segments-in-order to take them by their numbers",
        found.name,
        found.parts.len()
    ))
}

/// Counts entries and remembers a hash of them.
#[derive(Default)]
pub(super) struct Summary {
    entries: u64,
    payload_bytes: u64,
    largest: u64,
    hasher: Hasher,
}

impl Summary {
    pub(super) fn add(&mut self, entry: &LogEntry) {
        let len = u64_of(entry.payload.len());
        self.entries += 1;
        self.payload_bytes = self.payload_bytes.saturating_add(len);
        self.largest = self.largest.max(len);
        let kind = match entry.kind {
            EntryKind::Payload => 0,
            EntryKind::Noop => 1,
            EntryKind::Configuration => 2,
        };
        for number in [entry.id.seq.get(), entry.id.term.get(), kind, len] {
            self.hasher.write(&number.to_le_bytes());
        }
        self.hasher.write(&entry.payload);
    }

    /// Whether it is the same log.
    pub(super) fn is(&self, checked: &Checked) -> bool {
        self.entries == checked.entries && self.hasher.finish_128() == checked.digest
    }

    fn end(&self, last_term: Term, empty: u64, rolled_back: RolledBack) -> Checked {
        Checked {
            entries: self.entries,
            payload_bytes: self.payload_bytes,
            largest: self.largest,
            last_term,
            empty,
            rolled_back,
            digest: self.hasher.finish_128(),
        }
    }
}
