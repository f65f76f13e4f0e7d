//! Looking at logs without changing them: which there are, what they hold, whether every byte of them is right.
//!
//! Nothing here takes a lock or writes, so it works beside the process that owns a log, and on files that can't
//! be opened any more. Two things follow from that:
//!
//! * **Damage is no reason to stop.** Opening a log ends at the first damaged place. Here reading goes on behind
//!   it: after a frame whose body is wrong, with the next; after a header that is wrong, with the next valid one,
//!   which says what the log was there; after a file without a readable header, with the next file, whose header
//!   says the same.
//! * **The owner goes on meanwhile.** It may be in the middle of a write, begin a file, seal one, delete one. So
//!   what looks wrong is read again before it is called damage: at the end of the log until the bytes hold still,
//!   and anywhere until it is known that the file is still part of the log.
//!
//! | here | reads | to find out |
//! | --- | --- | --- |
//! | [`find_logs`] | names of files | which logs a directory has |
//! | [`survey`] | headers, seals, the newest file | what a log holds and where; costs about as much as opening it |
//! | [`verify`] | everything | every damaged place |
//! | [`dump`] | what [`survey`] reads, then the entries | the entries, those behind damage too |
//! | [`frames`] | everything | the frames in words |

mod dump;
mod frames;
mod pass;
mod survey;
mod view;

use std::{borrow::Cow, fmt, io, ops::Range, path::PathBuf, sync::Arc};

use tinyraftplus_core::{Configurations, EntryId, HardState, Identity, Seq};

pub use self::{
    dump::{Dump, dump},
    frames::{FrameInfo, frames},
};
use crate::{Cut, Disk, Encoder, LogError, engine::Names};

/// What kind of log it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum LogKind {
    /// In one file: an [`FsLog`](crate::FsLog).
    OneFile,
    /// In many: a [`MultiFsLog`](crate::MultiFsLog).
    Segments,
}

/// A log in a directory.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub struct FoundLog {
    /// Its name.
    pub name: String,
    /// What kind it is.
    pub kind: LogKind,
}

/// What a log holds, and where.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Survey {
    /// Its name.
    pub name: String,
    /// What kind it is.
    pub kind: LogKind,
    /// Which log it is; drawn when it was created.
    pub identity: Identity,
    /// The version of its format.
    pub format: u16,
    /// The id of its encoder.
    pub encoder: u8,
    /// What the disk is trusted to write whole or not at all.
    pub block_bytes: u64,
    /// How many bytes one group may take.
    pub group_bytes_max: u64,
    /// Term and vote.
    pub hard_state: HardState,
    /// The configurations that it remembers, if it is a Raft member's log.
    pub configuration: Option<Arc<Configurations>>,
    /// The positions of the entries, half-open.
    pub seqs: Range<Seq>,
    /// The newest entry, or the one before the start if its term is known.
    pub last: Option<EntryId>,
    /// Entries before this are proven durable, by a frame that was written after them. The last group proves
    /// nothing about itself, until a mark or another follows.
    pub durable_end: Seq,
    /// Its files, the oldest first.
    pub segments: Vec<SegmentInfo>,
    /// Files that are kept to be used again.
    pub spares: Vec<SpareInfo>,
    /// A last group that never became durable: opening the log will cut it. That is no damage.
    pub torn: Option<Cut>,
    /// What is wrong, as far as it was looked at.
    pub damage: Vec<Damage>,
}

impl Survey {
    /// Whether a member of a Raft cluster owns it: it has a configuration, a term or a vote.
    pub fn is_raft(&self) -> bool {
        self.configuration.is_some() || self.hard_state != HardState::default()
    }

    /// How many entries it has.
    pub fn entries(&self) -> u64 {
        self.seqs.end.since(self.seqs.start)
    }
}

/// What a file of a log is for just now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SegmentState {
    /// It is written to.
    Newest,
    /// It is full, and ends with a seal that says what it holds.
    Sealed,
    /// It is full, and has no seal yet: opening reads it whole.
    Unsealed,
    /// It will be the next, and nothing is in it yet.
    Prepared,
    /// It was given up, and not deleted yet: a file between it and the log is gone.
    Leftover,
    /// Its header can't be read.
    Unreadable,
}

/// A file of a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its number; later files have higher ones.
    pub number: u64,
    /// Its name.
    pub file: String,
    /// What it is for.
    pub state: SegmentState,
    /// How many bytes it has.
    pub bytes: u64,
    /// How many of them are header and frames; the rest is a seal and space ahead of the writer.
    pub used_bytes: u64,
    /// The entries of the log that lie in it; none if all that it had were trimmed or compacted.
    pub seqs: Option<Range<Seq>>,
    /// The log's end when it was begun.
    pub begin: Seq,
}

/// A file that is kept to be used again.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SpareInfo {
    /// Its name.
    pub file: String,
    /// How many bytes it has.
    pub bytes: u64,
}

/// A damaged place.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// The first entry that can't be read because of it, as far as that is known.
    pub seq: Option<Seq>,
    /// The first after it that can be read again, if that is known. The same as `seq` if no entry is lost.
    pub end: Option<Seq>,
    /// What is wrong.
    pub what: Cow<'static, str>,
    /// There is a second copy of what is lost: opening the log mends it.
    pub mended: bool,
    /// All entries that can't be read because of it have been put back: they lie elsewhere.
    pub repaired: bool,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.path.display(), self.offset)?;
        match (self.seq, self.end) {
            (Some(seq), Some(end)) if end.since(seq) > 1 => {
                write!(f, " (seq {seq} to {})", end.before().unwrap_or(end))?;
            }
            (Some(seq), end) if end != Some(seq) => write!(f, " (seq {seq})")?,
            (Some(_) | None, _) => {}
        }
        write!(f, ": {}", self.what)?;
        if self.repaired {
            return f.write_str("; what it had was put back");
        }
        if self.mended { f.write_str("; opening the log mends it") } else { Ok(()) }
    }
}

/// How far reading has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Progress {
    /// Bytes read.
    pub done: u64,
    /// Bytes to read, as far as is known; space ahead of the writer included, which is skipped.
    pub total: u64,
}

/// What [`verify`] has read, and what it found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Verified {
    /// The log; all damage is in [`Survey::damage`].
    pub survey: Survey,
    /// How many frames were read.
    pub frames: u64,
    /// How many entries were decoded, trimmed ones included.
    pub entries: u64,
    /// How many bytes of files were read.
    pub bytes: u64,
}

/// The logs on a disk, by name. Only names of files are looked at.
///
/// # Errors
///
/// If they can't be listed.
pub fn find_logs<D: Disk>(disk: &D) -> Result<Vec<FoundLog>, LogError> {
    let files = disk.list().map_err(|source| LogError::Io {
        op: "list the files of",
        path: disk.path(""),
        source,
    })?;
    let mut logs: Vec<_> = files
        .iter()
        .filter_map(|file| Names::log_of(file))
        .map(|(name, many)| FoundLog {
            name: name.to_owned(),
            kind: if many { LogKind::Segments } else { LogKind::OneFile },
        })
        .collect();
    logs.sort_unstable();
    logs.dedup();
    Ok(logs)
}

/// What a log holds, and where. Reads headers, seals and the newest file; changes nothing, and needs no lock.
///
/// Damage that it meets on the way is in [`Survey::damage`]; [`verify`] finds all.
///
/// # Errors
///
/// If there is no such log, it was written with another encoder, key or a newer version, or no header of any of
/// its files can be read.
pub fn survey<D: Disk>(
    disk: &D,
    name: &str,
    encoder: &Arc<dyn Encoder>,
) -> Result<Survey, LogError> {
    survey::Look::new(disk, name, encoder, survey::Depth::Seals)?
        .run(&mut |_| {})
        .map(|it| it.survey)
}

/// Reads everything that a log has: headers in both copies, each frame of each file, each record of each body,
/// seals against what the frames really do, and whether the files follow each other. Changes nothing, and needs
/// no lock.
///
/// # Errors
///
/// As for [`survey`]. Damage is no error: it is in [`Survey::damage`].
pub fn verify<D: Disk>(
    disk: &D,
    name: &str,
    encoder: &Arc<dyn Encoder>,
    mut progress: impl FnMut(Progress),
) -> Result<Verified, LogError> {
    let look = survey::Look::new(disk, name, encoder, survey::Depth::All)?;
    let seen = look.run(&mut progress)?;
    Ok(Verified {
        survey: seen.survey,
        frames: seen.frames,
        entries: seen.entries,
        bytes: seen.bytes,
    })
}

/// What a log's files are called.
fn names_of<D: Disk>(disk: &D, name: &str) -> Result<Names, LogError> {
    let one = Names::new(name, false)?;
    let mut kinds = find_logs(disk)?.into_iter().filter(|log| log.name == name).map(|log| log.kind);
    match kinds.next() {
        Some(LogKind::OneFile) => Ok(one),
        Some(LogKind::Segments) => Names::new(name, true),
        None => {
            let path = disk.path(&one.file(0));
            Err(LogError::Io { op: "find", path, source: io::ErrorKind::NotFound.into() })
        }
    }
}
