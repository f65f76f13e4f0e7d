//! The entries of a log, as they lie in its files.
//!
//! First a survey says which entries count and where they lie. Then the files are read one after the other.
//! What is damaged is an error in its place, and what follows is given all the same.

use std::{
    collections::VecDeque,
    ops::{Bound, Range, RangeBounds},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use tinyraftplus_core::Seq;

use super::{
    names_of,
    survey::{Depth, Look, Place},
    view::{Seen, View},
};
use crate::{
    Disk, Encoder, LogEntry, LogError,
    engine::{Extent, Names, Patches, Repair, after_group},
    format::{BodyReader, EntryRecord, Frame, Record, SLOT_BYTES, Slot, flags},
};

/// The entries of a range of a log, as they were when this was called: what is appended later is not among them.
/// Changes nothing, and needs no lock.
///
/// Unlike an iterator of an open log, it goes on after an error: each damaged place is one, and then come the
/// entries behind it.
///
/// # Errors
///
/// As for [`survey`](super::survey).
pub fn dump<D: Disk>(
    disk: &D,
    name: &str,
    encoder: &Arc<dyn Encoder>,
    range: impl RangeBounds<Seq>,
) -> Result<Dump<D>, LogError> {
    let looked = Look::new(disk, name, encoder, Depth::Seals)?.run(&mut |_| {})?;
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(start) => start.after(),
        Bound::Unbounded => Seq::ZERO,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.after(),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => Seq::MAX,
    };
    let mut next = start.max(looked.survey.seqs.start);
    let end = end.min(looked.survey.seqs.end);
    next = next.min(end);
    Ok(Dump {
        disk: disk.clone(),
        names: names_of(disk, name)?,
        encoder: Arc::clone(encoder),
        places: looked.places.into(),
        patches: looked.patches,
        next,
        end,
        file: None,
        ready: VecDeque::new(),
    })
}

/// The entries of a log; see [`dump`].
pub struct Dump<D: Disk> {
    disk: D,
    names: Names,
    encoder: Arc<dyn Encoder>,
    places: VecDeque<Place>,
    patches: Patches,
    next: Seq,
    end: Seq,
    file: Option<OpenFile<D>>,
    ready: VecDeque<Result<LogEntry, LogError>>,
}

struct OpenFile<D: Disk> {
    view: Box<View<D>>,
    place: Place,
    /// Which extent is next.
    extent: usize,
    region: Option<Region>,
}

/// Frames that follow on each other.
struct Region {
    /// The entries in them that count and were asked for.
    seqs: Range<Seq>,
    position: u64,
    end: u64,
    /// The first place in them that is wrong.
    fault: Option<(u64, &'static str)>,
}

impl<D: Disk> Iterator for Dump<D> {
    type Item = Result<LogEntry, LogError>;

    fn next(&mut self) -> Option<Result<LogEntry, LogError>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(item);
            }
            if self.next >= self.end {
                return None;
            }
            let until = match self.patches.find(self.next) {
                Ok(repair) => {
                    self.repaired(repair);
                    continue;
                }
                Err(next) => next.map_or(self.end, |next| next.min(self.end)),
            };
            if let Some(file) = &mut self.file {
                if !file.step(&mut self.next, until, &mut self.ready) {
                    self.file = None;
                }
            } else {
                let place = self.places.pop_front();
                self.begin(place, until);
            }
        }
    }
}

impl<D: Disk> Dump<D> {
    /// Entries that were put back.
    fn repaired(&mut self, repair: Repair) {
        let end = repair.end.min(self.end);
        // What comes behind them may lie in the file that is being read.
        if let Some(file) = self.file.take() {
            self.places.push_front(file.place);
        }
        let view = match View::open(&self.disk, &self.names, repair.number, None, &self.encoder) {
            Ok(Seen::File(view)) => Some(view),
            Ok(Seen::Gone | Seen::Blank(_) | Seen::Unreadable(..)) | Err(_) => None,
        };
        let entries = view.map(|mut view| entries_of_repair(&mut view, repair.position));
        for entry in entries.unwrap_or_default() {
            if entry.id.seq == self.next && self.next < end {
                self.next = self.next.after();
                self.ready.push_back(Ok(entry));
            }
        }
        if self.next < end {
            let path = self.disk.path(&self.names.file(repair.number));
            self.missing(path, end, "what was put back here is damaged, too");
        }
    }

    /// Goes on with the next file, up to a seq.
    fn begin(&mut self, place: Option<Place>, limit: Seq) {
        let Some(place) = place else {
            // In a file that can't be read.
            let path = self.disk.path(&self.names.file(0));
            self.missing(path, limit, "entries are missing before the end of the log");
            return;
        };
        if place.seqs.end <= self.next {
            return;
        }
        let path = self.disk.path(&self.names.file(place.number));
        if self.next < place.seqs.start {
            let until = place.seqs.start.min(limit);
            self.missing(path.clone(), until, "entries before this file are missing");
            if until == limit {
                self.places.push_front(place);
                return;
            }
        }
        let end = place.seqs.end.min(limit);
        match View::open(&self.disk, &self.names, place.number, None, &self.encoder) {
            Ok(Seen::File(view)) => {
                self.file = Some(OpenFile { view, place, extent: 0, region: None });
            }
            Ok(Seen::Gone) => self.missing(path, end, "the file was deleted meanwhile"),
            Ok(Seen::Blank(_)) => self.missing(path, end, "its header reads as zeros"),
            Ok(Seen::Unreadable(_, error)) | Err(error) => {
                self.ready.push_back(Err(error));
                self.next = self.next.max(end);
            }
        }
    }

    fn missing(&mut self, path: PathBuf, until: Seq, what: &'static str) {
        let seq = Some(self.next);
        self.ready.push_back(Err(LogError::Corrupt { path, offset: 0, seq, what }));
        self.next = until.min(self.end).max(self.next);
    }
}

/// What a repair holds, as far as it is whole.
fn entries_of_repair<D: Disk>(view: &mut View<D>, position: u64) -> Vec<LogEntry> {
    let Slot::Frame(frame, _) = view.slot(position) else { return Vec::new() };
    let Ok(body) = view.body(&frame).map(|body| Bytes::copy_from_slice(&body)) else {
        return Vec::new();
    };
    let record = |record| match record {
        Some(Record::Entry(entry)) => Some(entry_of(&entry, &body)),
        _ => None,
    };
    BodyReader::new(&body, frame.first).filter_map(record).collect()
}

fn entry_of(entry: &EntryRecord<'_>, body: &Bytes) -> LogEntry {
    LogEntry {
        id: entry.id,
        kind: entry.kind,
        ends_batch: entry.ends_batch,
        payload: body.slice_ref(entry.payload),
    }
}

impl<D: Disk> OpenFile<D> {
    /// Reads the next frame. False at the end of the file.
    fn step(
        &mut self,
        next: &mut Seq,
        end: Seq,
        ready: &mut VecDeque<Result<LogEntry, LogError>>,
    ) -> bool {
        if self.region.is_none() {
            self.region = self.next_region(*next, end);
        }
        let Some(mut region) = self.region.take() else {
            let until = self.place.seqs.end.min(end);
            if *next < until {
                let at = self.view.segment.position;
                ready.push_back(Err(self.corrupt(at, *next, "no frame has these entries")));
                *next = until;
            }
            return false;
        };
        if *next < region.seqs.start {
            let what = "no frame has these entries";
            ready.push_back(Err(self.corrupt(region.position, *next, what)));
            *next = region.seqs.start;
        }
        if *next >= region.seqs.end {
            return true;
        }
        if region.position >= region.end {
            let (at, what) = region.fault.unwrap_or((region.end, "no frame has these entries"));
            ready.push_back(Err(self.corrupt(at, *next, what)));
            *next = region.seqs.end;
            return true;
        }
        match self.view.slot(region.position) {
            Slot::Frame(frame, _) => self.frame(&frame, next, &mut region, ready),
            slot @ (Slot::Blank | Slot::Newer(_) | Slot::Bad(_)) => {
                let what = if let Slot::Bad(what) = slot { what } else { "a frame is gone" };
                region.fault = region.fault.or(Some((region.position, what)));
                let from = region.position.saturating_add(SLOT_BYTES);
                region.position = self.view.next_frame(from, region.end).unwrap_or(region.end);
            }
        }
        self.region = Some(region);
        true
    }

    /// Where the frames with the next entries lie.
    fn next_region(&mut self, next: Seq, end: Seq) -> Option<Region> {
        let extents = self.place.index.extents();
        while let Some(&Extent { first, position }) = extents.get(self.extent) {
            self.extent += 1;
            let following = extents.get(self.extent);
            let until = following.map_or(self.place.seqs.end, |extent| extent.first);
            let seqs = first.max(self.place.seqs.start)..until.min(self.place.seqs.end).min(end);
            if seqs.start < seqs.end && seqs.end > next {
                let end = following.map_or(self.place.end, |extent| extent.position);
                let seqs = seqs.start.max(next)..seqs.end;
                return Some(Region { seqs, position, end, fault: None });
            }
        }
        None
    }

    fn frame(
        &mut self,
        frame: &Frame,
        next: &mut Seq,
        region: &mut Region,
        ready: &mut VecDeque<Result<LogEntry, LogError>>,
    ) {
        let stamp = self.view.segment.stamp();
        let after = frame.next_position(stamp);
        let at = region.position;
        region.position = if frame.flags & (flags::END | flags::MARK) == flags::END {
            after_group(after, stamp)
        } else {
            after
        };
        let end = frame.end().min(region.seqs.end);
        if !frame.has(flags::ENTRIES) || end <= *next || frame.first >= region.seqs.end {
            return;
        }
        if *next < frame.first {
            let (at, what) = region.fault.take().unwrap_or((at, "a frame before this is missing"));
            ready.push_back(Err(self.corrupt(at, *next, what)));
            *next = frame.first;
        }
        let body = self.view.body(frame).map(|body| Bytes::copy_from_slice(&body));
        let mut what = "the body of a frame makes no sense";
        match body {
            Ok(body) => {
                for record in BodyReader::new(&body, frame.first) {
                    let Some(record) = record else { break };
                    let Record::Entry(entry) = record else { continue };
                    if entry.id.seq == *next && *next < end {
                        ready.push_back(Ok(entry_of(&entry, &body)));
                        *next = next.after();
                    }
                }
            }
            Err(why) => what = why,
        }
        if *next < end {
            ready.push_back(Err(self.corrupt(at, *next, what)));
            *next = end;
        }
    }

    fn corrupt(&self, position: u64, seq: Seq, what: &'static str) -> LogError {
        let offset = self.view.offset(position);
        LogError::Corrupt { path: self.view.path.clone(), offset, seq: Some(seq), what }
    }
}
