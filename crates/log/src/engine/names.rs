//! Which files of a directory are a log's.
//!
//! Names of logs can't be mistaken for each other, whatever they are: what stands between a log's name and the
//! end of a file's name is nothing, or twenty digits, or those and an id of a snapshot.

use std::{io, path::PathBuf};

use tinyraftplus_core::Seq;

use crate::{Disk, LogError, SnapshotId};

const SEGMENT: &str = ".seg";
const SPARE: &str = ".spare";
const ONE: &str = ".log";
const SNAPSHOT: &str = ".snap";

/// How the files of a log are called.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    name: String,
    /// Many files, or one.
    many: bool,
}

/// What a directory has of a log.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The numbers of its files, rising.
    pub(crate) numbers: Vec<u64>,
    /// Files that a killed process was about to use again: nothing in them counts.
    pub(crate) spares: Vec<String>,
}

impl Names {
    pub(crate) fn new(name: &str, many: bool) -> Result<Self, LogError> {
        let sound = !name.is_empty()
            && name.len() <= 128
            && !name.starts_with('.')
            && !name.chars().any(|c| c == '/' || c == '\\' || c.is_control());
        if !sound {
            return Err(LogError::BadName(name.to_owned()));
        }
        Ok(Self { name: name.to_owned(), many })
    }

    /// Whether the log is one file for ever.
    pub(crate) const fn is_one(&self) -> bool {
        !self.many
    }

    pub(crate) fn lock(&self) -> String {
        format!("{}.lock", self.name)
    }

    /// The file with this number. A log in one file has number 0 only.
    pub(crate) fn file(&self, number: u64) -> String {
        if self.many { format!("{}.{number:020}{SEGMENT}", self.name) } else { self.one() }
    }

    /// What that file is called until it is ready, or once it is not needed any more.
    pub(crate) fn spare(&self, number: u64) -> String {
        format!("{}.{number:020}{SPARE}", self.name)
    }

    /// The snapshot with this id, of which the last entry has this seq.
    pub(crate) fn snapshot(&self, last: Seq, id: SnapshotId) -> String {
        format!("{}.{:020}-{id:x}{SNAPSHOT}", self.name, last.get())
    }

    /// What a file's name says of the snapshot in it, if it is one of this log.
    pub(crate) fn snapshot_of(&self, file: &str) -> Option<(Seq, SnapshotId)> {
        let name = file.strip_prefix(&self.name)?.strip_prefix('.')?.strip_suffix(SNAPSHOT)?;
        let (seq, id) = name.split_once('-')?;
        let key =
            (Seq::new(seq.parse().ok()?), SnapshotId::new(u128::from_str_radix(id, 16).ok()?));
        // No other name says the same.
        (self.snapshot(key.0, key.1) == file).then_some(key)
    }

    fn one(&self) -> String {
        format!("{}{ONE}", self.name)
    }

    /// The number in a file's name, if it is this log's and ends like this.
    fn number(&self, file: &str, end: &str) -> Option<u64> {
        let digits = file.strip_prefix(&self.name)?.strip_prefix('.')?.strip_suffix(end)?;
        let sound = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| sound)
    }

    /// The name of the log that a file with this name belongs to, and whether it is one of many.
    pub(crate) fn log_of(file: &str) -> Option<(&str, bool)> {
        let (name, many) = match file.strip_suffix(SEGMENT) {
            Some(rest) => (rest.rsplit_once('.')?.0, true),
            None => (file.strip_suffix(ONE)?, false),
        };
        let names = Self::new(name, many).ok()?;
        (!many || names.number(file, SEGMENT).is_some()).then_some((name, many))
    }

    /// What there is of this log.
    pub(crate) fn find<D: Disk>(&self, disk: &D) -> Result<Found, LogError> {
        let files = disk.list().map_err(|source| LogError::Io {
            op: "list the directory of",
            path: disk.path(&self.file(0)),
            source,
        })?;
        let mut found = Found::default();
        for file in files {
            let other = if file == self.one() {
                found.numbers.extend((!self.many).then_some(0));
                self.many
            } else if let Some(number) = self.number(&file, SEGMENT) {
                found.numbers.extend(self.many.then_some(number));
                !self.many
            } else {
                if self.number(&file, SPARE).is_some() {
                    found.spares.push(file);
                }
                continue;
            };
            if other {
                const KINDS: [&str; 2] = ["a log in one file", "a log in segments"];
                let [one, many] = KINDS;
                let (found, wanted) = if self.many { (one, many) } else { (many, one) };
                return Err(LogError::OtherKind { path: disk.path(&file), found, wanted });
            }
        }
        found.numbers.sort_unstable();
        Ok(found)
    }

    /// Every file of this log, of either kind, but for its lock.
    pub(crate) fn all<D: Disk>(&self, disk: &D) -> io::Result<Vec<String>> {
        let mut files = disk.list()?;
        files.retain(|file| {
            *file == self.one()
                || self.number(file, SEGMENT).is_some()
                || self.number(file, SPARE).is_some()
                || self.snapshot_of(file).is_some()
        });
        Ok(files)
    }
}

/// The lock of a log, held until it is dropped.
pub(crate) fn lock<D: Disk>(disk: &D, names: &Names) -> Result<D::Lock, LogError> {
    let name = names.lock();
    disk.lock(&name).map_err(|source| lock_failed(disk.path(&name), source))
}

pub(crate) fn lock_failed(path: PathBuf, source: io::Error) -> LogError {
    if source.kind() == io::ErrorKind::WouldBlock {
        LogError::Locked(path)
    } else {
        LogError::Io { op: "lock", path, source }
    }
}

/// Deletes the log of this name, if there is one.
pub(crate) fn destroy<D: Disk>(disk: &D, name: &str) -> Result<(), LogError> {
    let names = Names::new(name, false)?;
    // The lock's file stays: whoever waits for it would otherwise lock one that nobody else sees.
    let _lock = lock(disk, &names)?;
    let failed = |op, file: &str, source| LogError::Io { op, path: disk.path(file), source };
    let list = || names.all(disk).map_err(|error| failed("list the directory of", name, error));
    // The newest first: what is left by a crash in between says that something is missing at its end, or
    // nothing is.
    // Snapshots before all else: a log without those that it needs is refused, and one that is created later
    // must not find them.
    let (snapshots, files): (Vec<_>, Vec<_>) =
        list()?.into_iter().partition(|file| names.snapshot_of(file).is_some());
    for file in &snapshots {
        disk.remove(file).map_err(|error| failed("remove", file, error))?;
    }
    if !snapshots.is_empty() {
        disk.sync_dir().map_err(|error| failed("sync the directory of", name, error))?;
    }
    for file in files.iter().rev() {
        disk.remove(file).map_err(|error| failed("remove", file, error))?;
    }
    if files.is_empty() {
        return Ok(());
    }
    disk.sync_dir().map_err(|error| failed("sync the directory of", name, error))
}
