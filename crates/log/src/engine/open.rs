//! Opening a log: finding out what its files hold, and making that durable before anyone is told.
//!
//! A process that was killed leaves bytes that only the kernel holds. They can be read, but a power failure
//! would take them, so nothing read counts before it was written and synced again: everything that no later
//! frame proves durable.
//!
//! Every file but the newest was durable before the next one was begun, and its seal says what it does to the
//! log. So two places of it are read, however large it is; the newest file is read in full.

use std::{io, path::PathBuf, sync::Arc};

use tinyraftplus_core::{Configurations, HardState, Identity, Term};

use super::{
    Effect,
    group::Place,
    index::Index,
    names::{Found, Names},
    parts::Parts,
    patches::Patches,
    recover::{Lost, Scan},
    settle::Settle,
    space::{Plan, Space, is_full},
    upkeep::Sealing,
};
use crate::{
    Damage, Disk, DiskFile, Encoder, LogError, LogOptions, Open, Recovery, Reset,
    format::{FORMAT, Frame, Last, SECTOR_BYTES, SLOT_BYTES, Segment, SegmentCopy, Summary, Tail},
    num::{is_zero, u64_of, usize_of},
    state::State,
};

const PIECE_BYTES: u64 = 1 << 20;

/// A log whose contents are known and durable.
pub(crate) struct Opened<D: Disk> {
    /// The header of the newest file, its handle and its space.
    pub(crate) segment: Segment,
    pub(crate) file: Arc<D::File>,
    pub(crate) path: PathBuf,
    pub(crate) space: Arc<Space>,
    pub(crate) state: State,
    /// Of the newest file.
    pub(crate) index: Index,
    pub(crate) effect: Effect,
    pub(crate) parts: Parts,
    pub(crate) position: u64,
    pub(crate) prev: u64,
    pub(crate) opening: u64,
    /// The last frame is a mark.
    pub(crate) marked: bool,
    pub(crate) recovery: Recovery,
    /// Full files without a seal.
    pub(crate) unsealed: Vec<Sealing<D>>,
    /// The numbers of files that hold nothing any more.
    pub(crate) void: Vec<u64>,
    pub(crate) patches: Patches,
    /// The newest file has damage that was passed over.
    pub(crate) damaged: bool,
}

/// How a log is opened.
pub(crate) struct Opening<'a, D: Disk> {
    pub(crate) disk: &'a D,
    pub(crate) names: &'a Names,
    pub(crate) options: &'a LogOptions,
    pub(crate) plan: Plan,
}

/// A file, and what to call it.
pub(crate) struct Target<F> {
    pub(crate) file: F,
    pub(crate) path: PathBuf,
}

/// A file with a header.
struct Head<F> {
    target: Target<F>,
    segment: Segment,
    /// The configuration, if there is one and either copy of it is whole. It is needed only if the files
    /// before this one are gone; while they are not, the write of this header may have been cut short.
    configuration: Option<Arc<Configurations>>,
    /// A copy of the header or of its configuration is missing or damaged.
    damaged: bool,
}

impl<D: Disk> Opening<'_, D> {
    /// Opens the log, or makes it if it never was one.
    pub(crate) fn run(&self) -> Result<Opened<D>, LogError> {
        let mut recovery = Recovery::default();
        let Found { numbers, spares } = self.names.find(self.disk)?;
        let mut replay = Replay {
            parts: Parts::default(),
            unsealed: Vec::new(),
            leftovers: Vec::new(),
            headers: Vec::new(),
            opening_seen: 0,
            bytes: 0,
            patches: Patches::default(),
            lost: Vec::new(),
        };
        let (head, state) = if let Some(found) = self.last_head(&numbers, &mut replay)? {
            found
        } else {
            let (head, created) = self.create()?;
            recovery.created = created;
            let state = base(&head)?;
            (head, state)
        };
        for spare in spares {
            self.disk.remove(&spare).map_err(|error| self.failed("remove", &spare, error))?;
        }
        recovery.seals_rebuilt = u64_of(replay.unsealed.len());
        self.newest(head, state, replay, recovery)
    }

    /// Reads all files but the newest; returns that and the log at its beginning. `None` if there never was a
    /// log.
    fn last_head(
        &self,
        numbers: &[u64],
        replay: &mut Replay<D>,
    ) -> Result<Option<Reached<D>>, LogError> {
        // What is needed is the newest files without a gap. Older ones may be left of a deletion.
        let gap = numbers.windows(2).rposition(|pair| matches!(pair, [a, b] if a + 1 != *b));
        let (leftovers, numbers) = numbers.split_at(gap.map_or(0, |at| at + 1));
        let mut before: Option<Reached<D>> = None;
        for (at, &number) in numbers.iter().enumerate() {
            let previous = before.as_ref().map(|(head, _)| &head.segment);
            let Some(head) = self.head(number, previous)? else {
                // Prepared to be the next file, and not begun.
                let newest = at + 1 == numbers.len();
                if newest && before.is_some() {
                    let name = self.names.file(number);
                    self.disk.remove(&name).map_err(|error| self.failed("remove", &name, error))?;
                } else if !newest || number > 0 {
                    let what = "its header reads as zeros";
                    return Err(corrupt(self.disk.path(&self.names.file(number)), what));
                }
                break;
            };
            let state = match before.take() {
                Some((previous, state)) => self.follow(previous, state, &head, replay)?,
                None => base(&head)?,
            };
            replay.parts.begin(&head.segment, replay.bytes);
            before = Some((head, state));
        }
        // They are void, or the log's start is owed in the end.
        replay.leftovers = leftovers.to_vec();
        Ok(before)
    }

    /// Reads a file that is followed by another. Returns the log after it.
    fn follow(
        &self,
        head: Head<D::File>,
        state: State,
        next: &Head<D::File>,
        replay: &mut Replay<D>,
    ) -> Result<State, LogError> {
        let Head { target, segment, damaged, .. } = head;
        let before = state.unknown;
        if damaged {
            replay.headers.push((segment, state.configuration.clone()));
        }
        let last = next.segment.last;
        let encoder = &*self.options.encoder;
        let scan = Scan::new(&target.file, &target.path, segment, state, encoder)?;
        let mut scan = scan.on_damage(self.options.damaged);
        let sealed = scan.run_full(last, Some((next.segment.tail, next.segment.hard)))?;
        let effect = scan.effect.clone();
        replay.parts.apply(&effect);
        replay.patches.apply(&effect, segment.number);
        effect.prune(&mut replay.lost, |(_, lost)| (lost.first, &mut lost.end));
        replay.lost.extend(scan.lost.iter().map(|lost| (segment, *lost)));
        let damaged = scan.is_damaged;
        replay.bytes = target.file.len().map_err(|error| target.failed("measure", error))?;
        replay.opening_seen = replay.opening_seen.max(scan.opening_seen);
        let mut state = scan.state.clone();
        // The next header has the configuration, unless it says that it is not known.
        if damaged && next.segment.configuration.is_some() == next.configuration.is_some() {
            state.configuration.clone_from(&next.configuration);
            state.unknown.configuration = before.configuration;
        }
        let tail = next.segment.tail;
        state.learn(tail);
        let same = Tail::of(state.terms.end(), state.terms.last()) == tail
            && state.hard == next.segment.hard
            && segment.identity == next.segment.identity
            && last.end <= next.segment.position;
        if !same {
            return Err(corrupt(
                next.target.path.clone(),
                "it is of another log, or does not follow the file before it",
            ));
        }
        // A damaged one is read again each time, and each time it is told.
        if !sealed && !damaged {
            let place = Place {
                stamp: segment.stamp(),
                opening: scan.opening_seen,
                position: last.end,
                prev: last.sum,
                begin: last.end,
                before: tail,
                hard: state.hard,
                unknown: state.unknown,
            };
            let extents = scan.index.extents().to_vec();
            drop(scan);
            let there = replay.bytes;
            replay.unsealed.push(Sealing {
                space: Arc::new(Space::new(self.plan, there, last.end - segment.position, 0)),
                file: Arc::new(target.file),
                number: segment.number,
                base: segment.position,
                place,
                summary: Summary { effect, extents },
            });
        }
        Ok(state)
    }

    /// Reads the newest file, and makes what counts of it durable.
    fn newest(
        &self,
        head: Head<D::File>,
        state: State,
        replay: Replay<D>,
        mut recovery: Recovery,
    ) -> Result<Opened<D>, LogError> {
        let Head { target, segment, damaged, .. } = head;
        let configuration = state.configuration.clone();
        let mut parts = replay.parts;
        if parts.len() == 0 {
            parts.begin(&segment, 0);
        }
        let encoder = &*self.options.encoder;
        let scan = Scan::new(&target.file, &target.path, segment, state, encoder)?;
        let mut scan = scan.on_damage(self.options.damaged);
        let tear = scan.run().map_err(|error| {
            // It was followed by another once.
            let next = || self.disk.path(&self.names.file(segment.number.saturating_add(1)));
            if scan.sealed { LogError::SegmentMissing(next()) } else { error }
        })?;
        scan.opening_seen = scan.opening_seen.max(replay.opening_seen);
        recovery.copies_repaired =
            u64_of(scan.repairs.len() + replay.headers.len()) + u64::from(damaged);
        // Not before all of the log was read: a log that is refused is left alone.
        for (segment, configuration) in &replay.headers {
            self.rewrite_header(*segment, configuration.as_deref())?;
        }
        let space = Arc::new(Space::new(self.plan, 0, 0, 0));
        let mut settle = Settle { target: &target, segment, scan, space: &space };
        settle.rewrite(damaged, configuration.as_deref())?;
        let there = target.file.len().map_err(|error| target.failed("measure", error))?;
        space.found(there, settle.scan.position - segment.position);
        self.disk.sync_dir().map_err(|error| target.failed("sync the directory of", error))?;
        let end_at = tear.filter(|tear| tear.damaged).map(|tear| Damage {
            path: target.path.clone(),
            offset: settle.scan.position - segment.position,
            seq: Some(settle.scan.state.terms.end()),
            end: None,
            what: tear.why.into(),
            mended: false,
            repaired: false,
        });
        let marked = settle.void(tear, &mut recovery)?;
        let Scan { state, index, effect, position, prev, opening_seen, marked: by_mark, .. } =
            settle.scan;
        let (lost, damaged) = (settle.scan.lost, settle.scan.is_damaged);
        if state.owed.is_some() {
            let missing = parts.oldest().map_or(0, |part| part.number.saturating_sub(1));
            return Err(LogError::SegmentMissing(self.disk.path(&self.names.file(missing))));
        }
        parts.apply(&effect);
        let mut patches = replay.patches;
        patches.apply(&effect, segment.number);
        let mut all = replay.lost;
        effect.prune(&mut all, |(_, lost)| (lost.first, &mut lost.end));
        all.extend(lost.into_iter().map(|lost| (segment, lost)));
        let path = |number: u64| self.disk.path(&self.names.file(number));
        recovery.damaged =
            all.iter().map(|(file, lost)| lost.damage(path(file.number), file)).collect();
        recovery.damaged = patches.still(recovery.damaged, &state.terms);
        recovery.damaged.extend(end_at);
        recovery.unknown = state.unknown;
        let mut void = replay.leftovers;
        void.extend(parts.take_void(state.terms.start()).iter().map(|part| part.number));
        recovery.segments = u64_of(parts.len());
        let Target { file, path } = target;
        Ok(Opened {
            segment,
            file: Arc::new(file),
            path,
            space,
            state,
            index,
            effect,
            parts,
            position,
            prev,
            opening: opening_seen.saturating_add(1),
            marked: marked || by_mark,
            recovery,
            unsealed: replay.unsealed,
            void,
            patches,
            damaged,
        })
    }

    /// Writes the header of a full file again, from the copy that is whole.
    fn rewrite_header(
        &self,
        mut segment: Segment,
        configuration: Option<&Configurations>,
    ) -> Result<(), LogError> {
        let target = self.target(segment.number, Open::Write)?;
        let header = segment.encode(configuration)?;
        target
            .file
            .write_durable_at(0, &header)
            .map_err(|error| target.failed("repair the header of", error))
    }

    /// The first file of a new log, and true; or false, if somebody made one by another name of the file just
    /// now. The header is written with everything else that nothing proves durable.
    fn create(&self) -> Result<(Head<D::File>, bool), LogError> {
        let target = self.target(0, Open::Create)?;
        let target = match self.head_of(target, 0, None)? {
            Ok(head) => return Ok((head, false)),
            Err(target) => target,
        };
        let options = self.options;
        let drawn = |what, seed| new_identity(seed).map_err(|error| target.failed(what, error));
        let identity = drawn("draw an identity for", options.seed)?;
        let secret = drawn("draw a secret for", options.seed.map(|seed| !seed))?.get();
        let encoder = &options.encoder;
        let segment = Segment {
            identity,
            secret,
            encoder: encoder.id(),
            key_check: encoder.key_check(identity),
            block: u64::from(options.block_bytes),
            group_bytes_max: options.group_bytes_max,
            number: 0,
            position: 0,
            last: Last::default(),
            hard: HardState::default(),
            start: Reset { start: options.first_seq, before: Term::ZERO },
            tail: Tail { end: options.first_seq, term: Term::ZERO },
            configuration: None,
        };
        Ok((Head { target, segment, configuration: None, damaged: false }, true))
    }

    fn target(&self, number: u64, how: Open) -> Result<Target<D::File>, LogError> {
        let name = self.names.file(number);
        let file = self.disk.open(&name, how).map_err(|error| self.failed("open", &name, error))?;
        let target = Target { file, path: self.disk.path(&name) };
        if self.names.is_one() {
            // Before a byte is read. Links give a file two names, and each name has a lock of its own.
            let failed = |source| super::names::lock_failed(target.path.clone(), source);
            target.file.lock().map_err(failed)?;
        }
        Ok(target)
    }

    fn failed(&self, op: &'static str, name: &str, source: io::Error) -> LogError {
        LogError::Io { op, path: self.disk.path(name), source }
    }

    /// The file with this number, if it has a header. The one before it has this one.
    fn head(
        &self,
        number: u64,
        previous: Option<&Segment>,
    ) -> Result<Option<Head<D::File>>, LogError> {
        // The one file may be a link to where there is none yet.
        let how = if self.names.is_one() { Open::Create } else { Open::Write };
        Ok(self.head_of(self.target(number, how)?, number, previous)?.ok())
    }

    /// The header of this file, or the file back if it has none.
    fn head_of(
        &self,
        target: Target<D::File>,
        number: u64,
        previous: Option<&Segment>,
    ) -> Result<HeadOr<Target<D::File>, D::File>, LogError> {
        let Some((segment, damaged)) = target.segment(previous)? else {
            return Ok(Err(target));
        };
        let path = || target.path.clone();
        if segment.number != number {
            return Err(corrupt(
                path(),
                "it is another file of this log, or of another log, renamed",
            ));
        }
        check_encoder(&segment, &*self.options.encoder, &target.path)?;
        let mut configuration = None;
        let mut damaged = damaged;
        if let Some(stored) = segment.configuration {
            let mut header = vec![0; usize_of(segment.header_bytes())];
            target.file.read_at(0, &mut header).map_err(|error| target.failed("read", error))?;
            let copies = stored.read(&header);
            damaged |= copies.iter().any(Option::is_none);
            configuration = copies.into_iter().flatten().next().map(Arc::new);
        }
        Ok(Ok(Head { target, segment, configuration, damaged }))
    }
}

impl Lost {
    fn damage(&self, path: PathBuf, segment: &Segment) -> Damage {
        Damage {
            path,
            offset: self.position.saturating_sub(segment.position),
            seq: Some(self.first),
            end: Some(self.end),
            what: self.what.into(),
            mended: false,
            repaired: false,
        }
    }
}

/// A file with a header, or something else.
type HeadOr<E, F> = Result<Head<F>, E>;

/// The newest file that was begun, and the log at its beginning.
type Reached<D> = (Head<<D as Disk>::File>, State);

/// The log at the beginning of a file, without the files before it.
fn base<F>(head: &Head<F>) -> Result<State, LogError> {
    let Segment { identity, hard, tail, start, .. } = head.segment;
    if head.segment.configuration.is_some() && head.configuration.is_none() {
        let what = "both copies of the configuration in its header are damaged";
        return Err(corrupt(head.target.path.clone(), what));
    }
    let mut state = State::new(identity, hard, tail.end, tail.term);
    state.configuration.clone_from(&head.configuration);
    state.owed = (start.start < tail.end).then_some(start);
    Ok(state)
}

/// What reading the files, oldest first, has found.
struct Replay<D: Disk> {
    parts: Parts,
    unsealed: Vec<Sealing<D>>,
    /// Files before a gap.
    leftovers: Vec<u64>,
    /// Full files of whose header, or of its configuration, a copy is damaged; and what it should be.
    headers: Vec<(Segment, Option<Arc<Configurations>>)>,
    opening_seen: u64,
    /// How long the last file is.
    bytes: u64,
    patches: Patches,
    /// Entries that can't be read, and in which file.
    lost: Vec<(Segment, Lost)>,
}

/// Whether this encoder wrote the log.
pub(crate) fn check_encoder(
    segment: &Segment,
    encoder: &dyn Encoder,
    path: &std::path::Path,
) -> Result<(), LogError> {
    let path = path.to_owned();
    if segment.encoder != encoder.id() {
        return Err(LogError::WrongEncoder { path, found: segment.encoder, given: encoder.id() });
    }
    if segment.key_check != encoder.key_check(segment.identity) {
        return Err(LogError::WrongKey(path));
    }
    Ok(())
}

fn corrupt(path: PathBuf, what: &'static str) -> LogError {
    LogError::Corrupt { path, offset: 0, seq: None, what }
}

impl<F: DiskFile> Target<F> {
    /// The header, and whether one of its copies is missing or damaged. `None` if it was never written durably.
    ///
    /// `previous` is the header of the file before this one, if there is one.
    pub(crate) fn segment(
        &self,
        previous: Option<&Segment>,
    ) -> Result<Option<(Segment, bool)>, LogError> {
        let mut header = vec![0; usize_of(2 * SECTOR_BYTES)];
        self.file.read_at(0, &mut header).map_err(|error| self.failed("read", error))?;
        let (first, second) = header.split_at(usize_of(SECTOR_BYTES));
        match (Segment::decode(first), Segment::decode(second)) {
            (SegmentCopy::Valid(first), SegmentCopy::Valid(second)) => {
                if first == second {
                    Ok(Some((first, false)))
                } else {
                    Err(self.corrupt("the copies of its header are those of different logs"))
                }
            }
            // Before a copy of ours: a newer version that was killed here may have left its own frames.
            (SegmentCopy::Newer(found), _) | (_, SegmentCopy::Newer(found)) => {
                Err(LogError::NewerFormat { path: self.path.clone(), found, newest_known: FORMAT })
            }
            (SegmentCopy::Valid(segment), _) | (_, SegmentCopy::Valid(segment)) => {
                Ok(Some((segment, true)))
            }
            // A crash while the file was begun leaves neither: no sector is written in part. What else it may
            // leave is the configuration behind them, and no frame.
            (SegmentCopy::Blank, SegmentCopy::Blank) if !self.is_begun(previous)? => Ok(None),
            (SegmentCopy::Foreign, SegmentCopy::Foreign | SegmentCopy::Blank) => {
                Err(LogError::NotALog(self.path.clone()))
            }
            _ => Err(self
                .corrupt("both copies of its header are damaged, so nobody knows whose log it is")),
        }
    }

    /// Whether anything was written that comes after a durable header.
    fn is_begun(&self, previous: Option<&Segment>) -> Result<bool, LogError> {
        let stamp = previous.map(|it| Segment { number: it.number + 1, ..*it }.stamp());
        let slot_bytes = usize_of(SLOT_BYTES);
        let begun = |piece: &[u8]| match stamp {
            Some(stamp) => piece.chunks_exact(slot_bytes).any(|slot| Frame::is_of(slot, stamp)),
            None => !is_zero(piece),
        };
        let mut found = false;
        let bytes = self.file.len().map_err(|error| self.failed("measure", error))?;
        super::window::Window::new(&self.file, 0, usize_of(PIECE_BYTES))
            .pieces(0, bytes, |_, piece| {
                found = begun(piece);
                !found
            })
            .map_err(|error| self.failed("read", error))?;
        Ok(found)
    }

    fn corrupt(&self, what: &'static str) -> LogError {
        corrupt(self.path.clone(), what)
    }

    pub(crate) fn failed(&self, op: &'static str, source: io::Error) -> LogError {
        let path = self.path.clone();
        if is_full(&source) {
            LogError::NoSpace { path, source }
        } else {
            LogError::Io { op, path, source }
        }
    }
}

/// A random identity, or one that is a function of the seed.
pub(crate) fn new_identity(seed: Option<u64>) -> io::Result<Identity> {
    if let Some(seed) = seed {
        let mut rng = crate::sim_disk::SimRng::new(seed);
        return Ok(Identity::new(u128::from(rng.next()) << 64 | u128::from(rng.next())));
    }
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(Identity::new(u128::from_le_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_follow_from_a_seed_or_differ() {
        assert_eq!(new_identity(Some(1)).unwrap(), new_identity(Some(1)).unwrap());
        assert_ne!(new_identity(Some(1)).unwrap(), new_identity(Some(2)).unwrap());
        assert_ne!(new_identity(None).unwrap(), new_identity(None).unwrap());
    }
}
