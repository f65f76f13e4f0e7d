//! The frames of a file in words, for people.

use std::{fmt, io};

use tinyraftplus_core::{HardState, Seq};

use crate::{
    Disk, DiskFile, LogError, Open,
    engine::{Names, Target, Window},
    format::{BodyReader, Frame, Record, SLOT_BYTES, Slot, checksum, flags},
    num::{u64_of, usize_of},
};

const AHEAD_BYTES: usize = 1 << 20;

/// A frame, or what lies where one could be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FrameInfo {
    /// Where it lies.
    pub position: u64,
    /// What it says, in words.
    pub text: String,
    /// The seq of its first entry.
    pub first: Seq,
    /// How many entries it has.
    pub count: u64,
    /// The term and vote that it carries.
    pub hard_state: HardState,
}

impl fmt::Display for FrameInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} {}", self.position, self.text)
    }
}

/// Every valid frame header in the files of a log, in order of position, whatever lies between them. Changes
/// nothing, and needs no lock.
///
/// # Errors
///
/// If a file can't be read, or its header is not one of ours.
pub fn frames<D: Disk>(disk: &D, name: &str) -> Result<Vec<FrameInfo>, LogError> {
    let mut frames = Vec::new();
    let mut found = false;
    for many in [false, true] {
        let names = Names::new(name, many)?;
        let Ok(files) = names.find(disk) else { continue };
        for number in files.numbers {
            found = true;
            frames_of(disk, &names.file(number), &mut frames)?;
        }
    }
    if found {
        Ok(frames)
    } else {
        let path = disk.path(&Names::new(name, false)?.file(0));
        Err(LogError::Io { op: "find", path, source: io::ErrorKind::NotFound.into() })
    }
}

fn frames_of<D: Disk>(
    disk: &D,
    file_name: &str,
    infos: &mut Vec<FrameInfo>,
) -> Result<(), LogError> {
    let path = disk.path(file_name);
    let failed = |op, source: io::Error| LogError::Io { op, path: path.clone(), source };
    let file = disk.open(file_name, Open::Read).map_err(|error| failed("open", error))?;
    let target = Target { file, path: path.clone() };
    let Some((segment, _)) = target.segment(None)? else { return Ok(()) };
    let (file, base, stamp) = (&target.file, segment.position, segment.stamp());
    let mut frames = Vec::new();
    let end = base + file.len().map_err(|error| failed("measure", error))?;
    let mut positions = Window::new(file, base, AHEAD_BYTES);
    positions
        .pieces(segment.frames(), end, |at, piece| {
            for (slot, position) in
                piece.chunks_exact(usize_of(SLOT_BYTES)).zip((at..).step_by(usize_of(SLOT_BYTES)))
            {
                if let Slot::Frame(frame, _) = Frame::decode(slot, stamp, position) {
                    frames.push(frame);
                }
            }
            true
        })
        .map_err(|error| failed("read", error))?;
    let mut bodies = Window::new(file, base, AHEAD_BYTES);
    for frame in frames {
        // A length is believed only as far as there is a file.
        let bytes = u64::from(frame.body_bytes).min(end.saturating_sub(frame.body()));
        let body = bodies.bytes(frame.body(), bytes).map_err(|error| failed("read", error))?;
        infos.push(FrameInfo {
            position: frame.position,
            text: describe(&frame, body, stamp.encoder),
            first: frame.first,
            count: u64::from(frame.count),
            hard_state: frame.hard,
        });
    }
    Ok(())
}

fn describe(frame: &Frame, body: &[u8], encoder: u8) -> String {
    let mut words = vec![format!(
        "opening={} begin={} end={}@{}",
        frame.opening, frame.begin, frame.before.end, frame.before.term
    )];
    let HardState { term, vote } = frame.hard;
    words.push(
        vote.map_or_else(|| format!("term={term}"), |vote| format!("term={term} vote={vote}")),
    );
    for (flag, word) in [
        (flags::MARK, "mark"),
        (flags::CUT, "cut"),
        (flags::HARD_STATE, "hard-state"),
        (flags::COPIED, "copied"),
        (flags::COPY, "copy"),
    ] {
        if frame.has(flag) {
            words.push(word.to_owned());
        }
    }
    if encoder > 2 {
        words.push(format!("{} to {}", frame.first, frame.end()));
    } else if checksum(body) == frame.body_sum || frame.body_sum == 0 {
        for record in BodyReader::new(body, frame.first) {
            words.push(
                record.map_or_else(|| "nonsense".to_owned(), |record| describe_record(&record)),
            );
        }
    } else {
        words.push(format!("body of {} bytes damaged", u64_of(body.len())));
    }
    if frame.zero_sectors > 0 {
        words.push(format!("zero-sectors={}", frame.zero_sectors));
    }
    if frame.has(flags::END) {
        words.push("end".to_owned());
    }
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

/// A record in words; payloads are never shown, only their length.
fn describe_record(record: &Record<'_>) -> String {
    match record {
        Record::Configuration(configuration) => {
            let newest = &configuration.newest().configuration;
            let members: Vec<_> =
                newest.members().iter().map(|member| member.id.to_string()).collect();
            format!("configuration={}", members.join(","))
        }
        Record::Reset(reset) => format!("reset={}@{}", reset.start, reset.before),
        Record::Trim(end) => format!("trim={end}"),
        Record::Compact(start) => format!("start={}@{}", start.start, start.before),
        Record::Repair(first) => format!("repair={first}"),
        Record::Known => "known".to_owned(),
        Record::Summary(summary) => format!("seal={}", summary.extents.len()),
        Record::Term => String::new(),
        Record::Entry(entry) => {
            let kind = match entry.kind {
                crate::EntryKind::Payload => "",
                crate::EntryKind::Noop => "noop",
                crate::EntryKind::Configuration => "configuration",
            };
            let end = if entry.ends_batch { "." } else { "" };
            format!("{}:{kind}{}b{end}", entry.id, entry.payload.len())
        }
    }
}
