//! Reading what is too old for the cache.
//!
//! The replica never touches a log. It hands out a [`LoadRequest`]; the driver runs it on a thread that may
//! block, or at a made-up time in a simulation, and hands the [`LoadReply`] in.

use tinyraftplus_core::{Load, Seq};
use tinyraftplus_log::{LogEntry, LogError, LogRead};

/// How many bytes are looked at in one go while searching for the start of a batch.
const SEARCH_BYTES: u64 = 1 << 20;
/// How many entries are asked for in one go: a limit in bytes of payload says nothing about empty ones.
const READ_ENTRIES: u64 = 4096;

/// Something to be read from the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LoadRequest {
    /// Comes back with the answer.
    pub number: u64,
    /// What to read.
    pub want: Want,
}

/// What to read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Want {
    /// All entries of a range.
    Exactly {
        /// Its start.
        start: Seq,
        /// Its end.
        end: Seq,
    },
    /// Entries from `start` on: at least one, then up to `bytes_max` bytes of payload, and none at `end`.
    Some {
        /// The first.
        start: Seq,
        /// The position after the last that is wanted.
        end: Seq,
        /// About how many bytes.
        bytes_max: u64,
    },
    /// Whole batches, beginning with the one that holds `at_most`, or that ends the log there: at least one,
    /// then as many as fit into `bytes_max` and end at or before `end`. Counts
    /// [`Load::ENTRY_COST`](tinyraftplus_core::Load::ENTRY_COST) for each entry besides its payload.
    Batches {
        /// A position in the first batch.
        at_most: Seq,
        /// The position after the last that is wanted.
        end: Seq,
        /// About how many bytes.
        bytes_max: u64,
    },
}

/// The answer to a [`LoadRequest`].
#[derive(Debug)]
pub struct LoadReply {
    /// What was asked for.
    pub request: LoadRequest,
    /// What the log said.
    pub entries: Result<Vec<LogEntry>, LogError>,
}

impl LoadRequest {
    /// Reads it. Blocks as long as the log does.
    pub fn run(self, log: &dyn LogRead) -> LoadReply {
        let entries = match self.want {
            Want::Exactly { start, end } => read_all(log, start, end),
            Want::Some { start, end, bytes_max } => log.read(start, end, bytes_max),
            Want::Batches { at_most, end, bytes_max } => read_batches(log, at_most, end, bytes_max),
        };
        LoadReply { request: self, entries }
    }
}

fn read_all(log: &dyn LogRead, start: Seq, end: Seq) -> Result<Vec<LogEntry>, LogError> {
    let mut entries: Vec<LogEntry> = Vec::new();
    let mut next = start;
    while next < end {
        entries.append(&mut log.read(next, end, u64::MAX)?);
        let reached = entries.last().map_or(start, |entry| entry.id.seq.after());
        if reached <= next {
            break;
        }
        next = reached;
    }
    Ok(entries)
}

fn read_batches(
    log: &dyn LogRead,
    at_most: Seq,
    end: Seq,
    bytes_max: u64,
) -> Result<Vec<LogEntry>, LogError> {
    let start = batch_start(log, at_most, end)?;
    let mut entries: Vec<LogEntry> = Vec::new();
    let mut bytes = 0;
    // Everything before this is whole batches.
    let mut whole = 0;
    let mut next = start;
    while next < end {
        let more = log.read(next, soon(next, end), bytes_max.max(1))?;
        if more.is_empty() {
            break;
        }
        for entry in more {
            next = entry.id.seq.after();
            bytes += Load::ENTRY_COST + entry.payload.len() as u64;
            if bytes > bytes_max && whole > 0 {
                entries.truncate(whole);
                return Ok(entries);
            }
            let ends_batch = entry.ends_batch;
            entries.push(entry);
            if ends_batch {
                whole = entries.len();
            }
        }
    }
    entries.truncate(whole);
    Ok(entries)
}

/// Where one read of `start..end` ends.
fn soon(start: Seq, end: Seq) -> Seq {
    start.checked_add(READ_ENTRIES).map_or(end, |soon| soon.min(end))
}

/// The first position of the batch that holds `at_most`, or of the last one before `end`.
///
/// Only the last entry of a batch knows that it is one, so this looks back in growing steps until it sees
/// where the batch before ends.
fn batch_start(log: &dyn LogRead, at_most: Seq, end: Seq) -> Result<Seq, LogError> {
    let log_start = log.bounds().start;
    let holder = at_most.min(end.before().unwrap_or(end));
    if holder < log_start {
        // It was compacted since it was asked for.
        return Err(LogError::Compacted { start: log_start, got: holder });
    }
    let mut step = 16;
    loop {
        let back = holder.since(log_start).min(step);
        let from = Seq::new(holder.get() - back);
        let mut found = (from == log_start).then_some(from);
        let mut next = from;
        while next < holder {
            let entries = log.read(next, soon(next, holder), SEARCH_BYTES)?;
            let Some(last) = entries.last() else {
                break;
            };
            next = last.id.seq.after();
            let ending = entries.iter().rev().find(|entry| entry.ends_batch);
            found = ending.map(|entry| entry.id.seq.after()).or(found);
        }
        if let Some(found) = found {
            return Ok(found);
        }
        step *= 4;
    }
}
