//! All files of a log, one after the other, and what they are together.

use std::{collections::VecDeque, io, ops::Range, path::PathBuf, sync::Arc};

use tinyraftplus_core::{Seq, Term};

use super::{
    Damage, LogKind, Progress, SegmentInfo, SegmentState, SpareInfo, Survey, names_of,
    pass::Pass,
    view::{Seen, View},
};
use crate::{
    Cut, Disk, DiskFile, Encoder, LogError, Open,
    engine::{Effect, Index, Names, Patches, check_encoder},
    format::{BodyReader, FORMAT, Frame, Last, Record, Segment, Summary, Tail},
    state::State,
};

/// An owner that deletes files faster than they can be looked at is not waited for for ever.
const TRIES_MAX: u32 = 20;

/// What is read of full files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Depth {
    /// Their headers and seals.
    Seals,
    /// Everything.
    All,
}

/// What was seen.
pub(super) struct Looked {
    pub(super) survey: Survey,
    pub(super) frames: u64,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    /// Where entries lie, one for each of the survey's segments that has any.
    pub(super) places: Vec<Place>,
    pub(super) patches: Patches,
}

/// Where the entries of a file lie.
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) index: Index,
    pub(super) seqs: Range<Seq>,
    /// The position after its last frame.
    pub(super) end: u64,
}

/// Looks at a log.
pub(super) struct Look<'a, D: Disk> {
    disk: &'a D,
    name: &'a str,
    names: Names,
    encoder: &'a Arc<dyn Encoder>,
    depth: Depth,
}

/// What is known of the files so far.
struct Run<'a> {
    /// The log after them; none before the first header.
    state: Option<State>,
    /// Damage hides what the log is here: the next header says it.
    loose: bool,
    header: Option<Segment>,
    files: Vec<File>,
    damage: Vec<Damage>,
    patches: Patches,
    torn: Option<Cut>,
    durable_end: Seq,
    frames: u64,
    entries: u64,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress),
}

struct File {
    info: SegmentInfo,
    /// The first entry in it that was not trimmed since.
    first: Option<Seq>,
    index: Index,
    end: u64,
}

/// The owner deleted what was being read.
struct Gone;

impl<'a, D: Disk> Look<'a, D> {
    pub(super) fn new(
        disk: &'a D,
        name: &'a str,
        encoder: &'a Arc<dyn Encoder>,
        depth: Depth,
    ) -> Result<Self, LogError> {
        let names = names_of(disk, name)?;
        Ok(Self { disk, name, names, encoder, depth })
    }

    pub(super) fn run(&self, progress: &mut dyn FnMut(Progress)) -> Result<Looked, LogError> {
        for _ in 0..TRIES_MAX {
            if let Ok(looked) = self.try_run(progress)? {
                return Ok(looked);
            }
        }
        let source = io::Error::other("its files are deleted faster than they can be read");
        Err(LogError::Io { op: "read", path: self.disk.path(&self.names.file(0)), source })
    }

    fn try_run(
        &self,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Result<Looked, Gone>, LogError> {
        let found = self.names.find(self.disk)?;
        // What is needed is the newest files without a gap. Older ones may be left of a deletion.
        let gap = found.numbers.windows(2).rposition(|pair| matches!(pair, [a, b] if a + 1 != *b));
        let (leftovers, numbers) = found.numbers.split_at(gap.map_or(0, |at| at + 1));
        let total = found.numbers.iter().map(|number| self.bytes(&self.names.file(*number))).sum();
        let mut run = Run {
            state: None,
            loose: false,
            header: None,
            files: Vec::new(),
            damage: Vec::new(),
            patches: Patches::default(),
            torn: None,
            durable_end: Seq::ZERO,
            frames: 0,
            entries: 0,
            done: 0,
            total,
            progress,
        };
        for &number in leftovers {
            let bytes = self.bytes(&self.names.file(number));
            run.files.push(self.bare(number, SegmentState::Leftover, bytes));
        }
        let mut left: VecDeque<u64> = numbers.iter().copied().collect();
        let mut unreadable = None;
        let Some(first) = left.pop_front() else { return Ok(Err(Gone)) };
        let mut next = Some((first, self.open(first, None)?));
        while let Some((number, seen)) = next.take() {
            if left.is_empty() {
                // The owner may have begun another meanwhile.
                left.extend(self.names.find(self.disk)?.numbers.iter().filter(|&&it| it > number));
            }
            let follower = left.pop_front();
            let strange = match &seen {
                Seen::Blank(_) => follower.is_some(),
                Seen::Unreadable(..) => true,
                Seen::File(_) | Seen::Gone => false,
            };
            if strange && matches!(self.open(number, run.header.as_ref())?, Seen::File(_)) {
                // It was opened as the next one, before or while the owner began it; then the one before it was
                // read. Meanwhile the owner went on. What was seen is too old.
                return Ok(Err(Gone));
            }
            let previous = match &seen {
                Seen::File(view) => Some(view.segment),
                Seen::Gone | Seen::Blank(_) | Seen::Unreadable(..) => run.header,
            };
            let following = match follower {
                Some(number) => Some((number, self.open(number, previous.as_ref())?)),
                None => None,
            };
            match seen {
                Seen::Gone => return Ok(Err(Gone)),
                Seen::Blank(bytes) => self.blank(&mut run, number, bytes, follower.is_none()),
                Seen::Unreadable(bytes, error) => {
                    let file = self.bare(number, SegmentState::Unreadable, bytes);
                    run.unreadable(file, self.path(number), &error);
                    unreadable = unreadable.or(Some(error));
                }
                Seen::File(view) => {
                    let last = match &following {
                        Some((_, Seen::File(next))) => Some(next.segment.last),
                        Some((_, Seen::Gone | Seen::Blank(_) | Seen::Unreadable(..))) | None => {
                            None
                        }
                    };
                    let more =
                        following.as_ref().is_some_and(|(_, it)| !matches!(it, Seen::Blank(_)));
                    if self.file(&mut run, *view, last, more)?.is_err() {
                        return Ok(Err(Gone));
                    }
                }
            }
            next = following;
        }
        if run.header.is_none() {
            return Err(unreadable.unwrap_or_else(|| self.never_created(first)));
        }
        self.whole(run, &found.spares).map(Ok)
    }

    fn open(&self, number: u64, previous: Option<&Segment>) -> Result<Seen<D>, LogError> {
        View::open(self.disk, &self.names, number, previous, self.encoder)
    }

    fn bytes(&self, file: &str) -> u64 {
        self.disk.open(file, Open::Read).and_then(|file| file.len()).unwrap_or(0)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.disk.path(&self.names.file(number))
    }

    fn bare(&self, number: u64, state: SegmentState, bytes: u64) -> File {
        let info = SegmentInfo {
            number,
            file: self.names.file(number),
            state,
            bytes,
            used_bytes: 0,
            seqs: None,
            begin: Seq::ZERO,
        };
        File { info, first: None, index: Index::default(), end: 0 }
    }

    fn never_created(&self, number: u64) -> LogError {
        let why = "its creation was never finished; whoever opens it next begins it anew";
        let source = io::Error::new(io::ErrorKind::UnexpectedEof, why);
        LogError::Io { op: "read a header from", path: self.path(number), source }
    }

    /// A file without a header.
    fn blank(&self, run: &mut Run<'_>, number: u64, bytes: u64, newest: bool) {
        run.files.push(self.bare(number, SegmentState::Prepared, bytes));
        if !newest || run.header.is_none() && number > 0 {
            let seq = run.state.as_ref().map(|state| state.terms.end());
            run.damage.push(Damage {
                path: self.path(number),
                offset: 0,
                seq,
                end: None,
                what: "its header reads as zeros".into(),
                mended: false,
                repaired: false,
            });
            run.loose = true;
        }
    }

    /// A file with a header. `last` is where it ends, if the next one says so.
    fn file(
        &self,
        run: &mut Run<'_>,
        mut view: View<D>,
        last: Option<Last>,
        more: bool,
    ) -> Result<Result<(), Gone>, LogError> {
        if run.header.is_none() {
            check_encoder(&view.segment, &**self.encoder, &view.path)?;
        }
        let segment = view.segment;
        let known = run.damage.len();
        let state = run.begin(&mut view);
        let mut info = SegmentInfo {
            number: view.number,
            file: view.file_name.clone(),
            state: if more { SegmentState::Unsealed } else { SegmentState::Newest },
            bytes: view.bytes,
            used_bytes: 0,
            seqs: None,
            begin: segment.tail.end,
        };
        let mut pass = Pass::new(view, &**self.encoder, state, last, false);
        let total = run.total;
        let done = run.done;
        let sealed = self.depth == Depth::Seals && pass.take_seal();
        if !sealed {
            let progress = &mut *run.progress;
            pass.read(&mut |at| {
                progress(Progress { done: done + at, total: total.max(done + at) });
            });
        }
        if let Some(found) = pass.view.newer {
            let path = pass.view.path.clone();
            return Err(LogError::NewerFormat { path, found, newest_known: FORMAT });
        }
        let wrong = run.damage.len() > known || !pass.damage.is_empty() || pass.torn.is_some();
        if wrong && !self.is_there(pass.view.number) {
            // What was read was being deleted.
            return Ok(Err(Gone));
        }
        run.done += pass.view.bytes;
        run.total = total.max(run.done);
        (run.progress)(Progress { done: run.done, total: run.total });
        if pass.sealed {
            info.state = SegmentState::Sealed;
            if !more {
                // The seal was written when the next file was begun.
                let next = pass.view.number.saturating_add(1);
                if self.is_there(next) {
                    return Ok(Err(Gone));
                }
                pass.damage.push(Damage {
                    path: self.path(next),
                    offset: 0,
                    seq: Some(pass.state.terms.end()),
                    end: None,
                    what: "the file is missing: the one before it is full and ends with a seal"
                        .into(),
                    mended: false,
                    repaired: false,
                });
            }
        }
        info.bytes = pass.view.bytes;
        info.used_bytes = pass.view.offset(pass.position);
        for file in &mut run.files {
            file.apply(&pass.effect);
        }
        run.patches.apply(&pass.effect, pass.view.number);
        let mut file =
            File { info, first: None, index: pass.index, end: pass.position.min(pass.view.end()) };
        file.begin(&pass.effect);
        run.files.push(file);
        run.durable_end = if more { pass.state.terms.end() } else { pass.durable_end };
        run.loose = !pass.damage.iter().all(|damage| damage.mended);
        run.damage.append(&mut pass.damage);
        run.torn = pass.torn;
        run.frames += pass.frames;
        run.entries += pass.entries;
        run.state = Some(pass.state);
        run.header = Some(segment);
        Ok(Ok(()))
    }

    fn is_there(&self, number: u64) -> bool {
        self.names.find(self.disk).is_ok_and(|found| found.numbers.contains(&number))
    }

    /// What the files are together.
    fn whole(&self, mut run: Run<'_>, spares: &[String]) -> Result<Looked, LogError> {
        let (Some(segment), Some(state)) = (run.header, run.state.take()) else {
            return Err(self.never_created(0));
        };
        let numbers = run.files.iter().filter(|file| file.info.state != SegmentState::Leftover);
        if let (Some(owed), Some(oldest)) = (state.owed, numbers.map(|file| file.info.number).min())
            && run.damage.is_empty()
        {
            run.damage.push(Damage {
                path: self.path(oldest.saturating_sub(1)),
                offset: 0,
                seq: Some(owed.start),
                end: Some(state.terms.start()),
                what: "the file is missing: the one after it needs it".into(),
                mended: false,
                repaired: false,
            });
        }
        for damage in &mut run.damage {
            damage.repaired = run.patches.cover(damage, &state.terms);
        }
        let seqs = state.terms.start()..state.terms.end();
        let mut places = Vec::new();
        let mut until = seqs.end;
        for file in run.files.iter_mut().rev() {
            let Some(first) = file.first else { continue };
            let (start, end) = (first.max(seqs.start), until);
            until = until.min(first);
            if start < end {
                file.info.seqs = Some(start..end);
                let index = std::mem::take(&mut file.index);
                let (number, end_at) = (file.info.number, file.end);
                places.push(Place { number, index, seqs: start..end, end: end_at });
            }
        }
        places.reverse();
        let spares =
            spares.iter().map(|file| SpareInfo { file: file.clone(), bytes: self.bytes(file) });
        let survey = Survey {
            name: self.name.to_owned(),
            kind: if self.names.is_one() { LogKind::OneFile } else { LogKind::Segments },
            identity: segment.identity,
            format: FORMAT,
            encoder: segment.encoder,
            block_bytes: segment.block,
            group_bytes_max: segment.group_bytes_max,
            hard_state: state.hard,
            configuration: state.configuration.clone(),
            last: state.terms.last(),
            durable_end: run.durable_end.min(seqs.end),
            seqs,
            spares: spares.collect(),
            segments: run.files.into_iter().map(|file| file.info).collect(),
            torn: run.torn,
            damage: run.damage,
        };
        Ok(Looked {
            survey,
            frames: run.frames,
            entries: run.entries,
            bytes: run.done,
            places,
            patches: run.patches,
        })
    }
}

impl File {
    /// Takes note of what a later file does.
    fn apply(&mut self, effect: &Effect) {
        if effect.reset.is_some() {
            self.first = None;
        }
        if let Some(end) = effect.trim {
            self.first = self.first.filter(|first| *first < end);
        }
    }

    /// Takes note of what the file itself does.
    fn begin(&mut self, effect: &Effect) {
        self.first = effect.has_entries().then_some(effect.first);
    }
}

impl Run<'_> {
    fn unreadable(&mut self, file: File, path: PathBuf, error: &LogError) {
        let seq = self.state.as_ref().map(|state| state.terms.end());
        let (mut offset, mut what) = (0, error.to_string().into());
        if let LogError::Corrupt { offset: at, what: why, .. } = error {
            (offset, what) = (*at, (*why).into());
        }
        let damage = Damage { path, offset, seq, end: None, what, mended: false, repaired: false };
        self.damage.push(damage);
        self.files.push(file);
        self.loose = true;
    }

    /// The log at the beginning of a file: as the file before left it, if both agree.
    fn begin<D: Disk>(&mut self, view: &mut View<D>) -> State {
        let segment = view.segment;
        let Segment { identity, hard, tail, start, .. } = segment;
        let (configuration, lost) = view.copies();
        let mut alone = State::new(identity, hard, tail.end, tail.term);
        alone.configuration.clone_from(&configuration);
        alone.owed = (start.start < tail.end).then_some(start);
        // If both copies are gone, the files before this one know it.
        let is_lost = segment.configuration.is_some()
            && configuration.is_none()
            && (self.state.is_none() || self.loose);
        for copy in lost {
            self.damage.push(Damage {
                path: view.path.clone(),
                offset: copy.offset,
                seq: Some(tail.end),
                end: Some(tail.end),
                what: copy.what.into(),
                mended: !is_lost,
                repaired: false,
            });
        }
        let Some(mut before) = self.state.take() else {
            // What lay in files that can't be read is known to have been there.
            if let Some(damage) = self.damage.iter_mut().find(|damage| damage.seq.is_none()) {
                (damage.seq, damage.end) = (Some(start.start), Some(tail.end));
            }
            return alone;
        };
        before.learn(tail);
        let follows = self.header.is_none_or(|header| header.identity == identity)
            && before.hard == hard
            && Tail::of(before.terms.end(), before.terms.last()) == tail;
        if follows {
            return before;
        }
        if self.loose {
            if let Some(damage) = self.damage.iter_mut().rev().find(|damage| damage.end.is_none()) {
                damage.end = Some(tail.end);
            }
        } else {
            self.damage.push(Damage {
                path: view.path.clone(),
                offset: 0,
                seq: Some(tail.end),
                end: Some(tail.end),
                what: "it is of another log, or does not follow the file before it".into(),
                mended: false,
                repaired: false,
            });
        }
        let start = before.terms.start();
        if start <= tail.end && before.owed.is_none() {
            // The entries in between are not known, but they are part of the log.
            let mut terms = before.terms;
            terms.trim(tail.end);
            let missing = tail.end.since(terms.end());
            let newest = terms.last().map_or(Term::ZERO, |id| id.term);
            terms.append(tail.term.max(newest), missing);
            alone.terms = terms;
            alone.owed = None;
        }
        alone
    }
}

/// What a seal says.
pub(super) fn summary_of(frame: &Frame, body: &[u8]) -> Option<Summary> {
    let (mut summary, mut configuration) = (None, None);
    for record in BodyReader::new(body, frame.first) {
        match record? {
            Record::Configuration(value) => configuration = Some(value),
            Record::Summary(value) => summary = Some(value),
            Record::Reset(_)
            | Record::Trim(_)
            | Record::Compact(_)
            | Record::Repair(_)
            | Record::Known
            | Record::Term
            | Record::Entry(_) => return None,
        }
    }
    let mut summary: Summary = *summary?;
    summary.effect.configuration = configuration;
    Some(summary)
}

#[cfg(test)]
mod tests {
    use tinyraftplus_core::Term;

    use super::*;
    use crate::{
        LogExt, LogOptions, MultiFsLog,
        engine::Extent,
        format::{FRAME_HEADER_BYTES, Slot, checksum, put_summary},
        num::{u32_of, usize_of},
        sim_disk::SimDisk,
    };

    /// Changes what the seal of the first of several files says, as somebody would who can make checksums right.
    /// Says what verifying finds then.
    fn with_seal(change: impl FnOnce(&mut Summary)) -> Vec<Damage> {
        let disk = SimDisk::new();
        let mut options = LogOptions::default();
        (options.segment_bytes_max, options.group_bytes_max) = (64 << 10, 64 << 10);
        options.batch_bytes_max = 8 << 10;
        let encoder = Arc::clone(&options.encoder);
        let (mut log, _) = MultiFsLog::open_on(&disk, "x", options).unwrap();
        for seq in 0..150 {
            log.append(vec![seq; 1000]).unwrap();
            if seq == 20 {
                log.trim(Some(Seq::new(10))).unwrap();
            }
        }
        drop(log);
        let names = names_of(&disk, "x").unwrap();
        let open = |number| match View::open(&disk, &names, number, None, &encoder).unwrap() {
            Seen::File(view) => view,
            Seen::Gone | Seen::Blank(_) | Seen::Unreadable(..) => panic!("it has a header"),
        };
        let (mut first, next) = (open(0), open(1));
        let at = next.segment.last.end;
        let Slot::Frame(mut frame, _) = first.slot(at) else { panic!("it has a seal") };
        let mut summary = summary_of(&frame, &first.body(&frame).unwrap()).unwrap();
        change(&mut summary);
        let mut body = Vec::new();
        put_summary(&mut body, &summary).unwrap();
        (frame.body_bytes, frame.plain_bytes) = (u32_of(body.len()), u32_of(body.len()));
        frame.body_sum = checksum(&body);
        let (header, _) = frame.encode(first.segment.stamp());
        disk.edit(&first.file_name, |bytes| {
            let at = usize_of(at);
            let body_at = at + usize_of(FRAME_HEADER_BYTES);
            bytes[at..body_at].copy_from_slice(&header);
            bytes[body_at..body_at + body.len()].copy_from_slice(&body);
        });
        let look = Look::new(&disk, "x", &encoder, Depth::All).unwrap();
        look.run(&mut |_| {}).unwrap().survey.damage
    }

    /// Fails without the comparison of a seal with the frames of its file: opening believes seals.
    #[test]
    fn a_seal_that_contradicts_its_frames_is_found() {
        assert_eq!(with_seal(|_| {}), []);
        let says = |change: fn(&mut Summary)| {
            let found = with_seal(change);
            assert_eq!(found.len(), 1, "{found:?}");
            found.first().map(|damage| damage.what.to_string()).unwrap_or_default()
        };
        let other = "the seal of the file says that its frames do something else";
        assert_eq!(says(|it| it.effect.add_entries(Term::ZERO, 1)), other);
        assert_eq!(says(|it| it.effect.trim = Some(Seq::ZERO)), other);
        let elsewhere = "the seal of the file says that its entries lie elsewhere";
        // Without the extent after the trim, entries would be looked for where trimmed ones lie.
        assert_eq!(says(|it| it.extents.retain(|extent| extent.first != Seq::new(11))), elsewhere);
        assert_eq!(says(|it| it.extents.iter_mut().for_each(|it| it.position += 128)), elsewhere);
        let back = Extent { first: Seq::new(1), position: 4096 };
        let found = with_seal(|it| it.extents.insert(1, back));
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
