//! The frames of a file in words, for people.

use std::{fmt, io};

use bytes::Bytes;
use tinyraftplus_core::{HardState, Seq};

use crate::{
    Disk, DiskFile, LogError, Open,
    format::{
        BodyReader, FORMAT, Frame, Record, SECTOR_BYTES, SLOT_BYTES, Segment, SegmentCopy, Slot,
        checksum, flags,
    },
    fs_log::{check_name, file_name},
    num::{u64_of, usize_of},
    window::Window,
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

/// Every valid frame header in the file of a log, in order of position, whatever lies between them. Changes
/// nothing, and needs no lock.
///
/// # Errors
///
/// If the file can't be read, or its header is not one of ours.
pub fn inspect<D: Disk>(disk: &D, name: &str) -> Result<Vec<FrameInfo>, LogError> {
    check_name(name)?;
    let file_name = file_name(name);
    let path = disk.path(&file_name);
    let failed = |op, source: io::Error| LogError::Io { op, path: path.clone(), source };
    let file = disk.open(&file_name, Open::Read).map_err(|error| failed("open", error))?;
    let mut header = vec![0; usize_of(2 * SECTOR_BYTES)];
    file.read_at(0, &mut header).map_err(|error| failed("read", error))?;
    let (first, second) = header.split_at(usize_of(SECTOR_BYTES));
    let segment = match (Segment::decode(first), Segment::decode(second)) {
        (SegmentCopy::Valid(segment), _) | (_, SegmentCopy::Valid(segment)) => segment,
        (SegmentCopy::Newer(found), _) | (_, SegmentCopy::Newer(found)) => {
            return Err(LogError::NewerFormat { path, found, newest_known: FORMAT });
        }
        _ => return Err(LogError::NotALog(path)),
    };
    let mut frames = Vec::new();
    let end = file.len().map_err(|error| failed("measure", error))?;
    let mut positions = Window::new(&file, AHEAD_BYTES);
    positions
        .pieces(Segment::BYTES, end, |at, piece| {
            for (slot, position) in
                piece.chunks_exact(usize_of(SLOT_BYTES)).zip((at..).step_by(usize_of(SLOT_BYTES)))
            {
                if let Slot::Frame(frame, _) = Frame::decode(slot, segment.tag(), position) {
                    frames.push(frame);
                }
            }
            true
        })
        .map_err(|error| failed("read", error))?;
    let mut bodies = Window::new(&file, AHEAD_BYTES);
    frames
        .into_iter()
        .map(|frame| {
            // A length is believed only as far as there is a file.
            let bytes = u64::from(frame.body_bytes).min(end.saturating_sub(frame.body()));
            let body = bodies.bytes(frame.body(), bytes).map_err(|error| failed("read", error))?;
            let body = Bytes::copy_from_slice(body);
            Ok(FrameInfo {
                position: frame.position,
                text: describe(&frame, &body),
                first: frame.first,
                count: u64::from(frame.count),
                hard_state: frame.hard,
            })
        })
        .collect()
}

fn describe(frame: &Frame, body: &Bytes) -> String {
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
    if checksum(body) == frame.body_sum {
        for record in BodyReader::new(body, body, frame.first) {
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
fn describe_record(record: &Record) -> String {
    match record {
        Record::Configuration(configuration) => {
            let members: Vec<_> =
                configuration.members().iter().map(|member| member.id.to_string()).collect();
            format!("configuration={}", members.join(","))
        }
        Record::Reset(reset) => format!("reset={}@{}", reset.start, reset.before),
        Record::Trim(end) => format!("trim={end}"),
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
