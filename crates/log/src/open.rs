//! Opening a log: finding out what the file holds, and making that durable before anyone is told.
//!
//! A process that was killed leaves bytes that only the kernel holds. They can be read, but a power failure
//! would take them, so nothing read counts before it was written and synced again: everything that no later
//! frame proves durable.
//!
//! What was cut is made void in an order that survives a crash between any two steps:
//!
//! 1. After everything that was ever written, a frame that voids the torn group, with the newest term and
//!    vote that can be read anywhere, and its copy. Synced. The torn group may hold the only copy of a vote,
//!    and until here it is untouched.
//! 2. Zeros over the torn group, and a mark that proves step 1. Synced.
//!
//! Positions are never used twice, so there is no moment at which bytes of the torn group and of its
//! successor lie side by side.

use std::{io, path::Path};

use tinyraftplus_core::{HardState, Identity};

use crate::{
    Cut, Disk, DiskFile, LogError, LogOptions, Recovery,
    encode::{Place, put_copied},
    format::{FORMAT, SECTOR_BYTES, Segment, SegmentCopy, Tail, flags},
    num::{round_up, u64_of, usize_of},
    recover::{Scan, Tear, Void},
    space::{Space, is_full},
    state::State,
};

const PIECE_BYTES: u64 = 1 << 20;

/// A file whose contents are known and durable.
pub(crate) struct Opened {
    pub(crate) segment: Segment,
    pub(crate) state: State,
    pub(crate) index: crate::index::Index,
    pub(crate) position: u64,
    pub(crate) prev: u64,
    pub(crate) opening: u64,
    /// The last frame is a mark.
    pub(crate) marked: bool,
    pub(crate) space: Space,
    pub(crate) recovery: Recovery,
}

/// A file and what to call it.
struct Target<'a, F> {
    file: &'a F,
    path: &'a Path,
}

/// Opens the file, or makes it a log if it never was one.
pub(crate) fn open<D: Disk>(
    disk: &D,
    file: &D::File,
    path: &Path,
    options: &LogOptions,
) -> Result<Opened, LogError> {
    let target = Target { file, path };
    let mut recovery = Recovery::default();
    let (segment, header_damaged) = if let Some(found) = target.segment()? {
        found
    } else {
        recovery.created = true;
        (target.new_segment(options)?, false)
    };
    let mut scan = Scan::new(file, path, &segment)?;
    let tear = scan.run()?;
    recovery.copies_repaired = u64_of(scan.repairs.len()) + u64::from(header_damaged);
    // Measured once the header is there.
    let space = Space::new(0, options.space_bytes, options.reserve_bytes);
    let mut settle = Settle { target, segment, scan, space };
    settle.rewrite(header_damaged)?;
    settle.space.bytes = file.len().map_err(|error| settle.target.failed("measure", error))?;
    disk.sync_dir().map_err(|source| LogError::Io {
        op: "sync the directory of",
        path: path.to_owned(),
        source,
    })?;
    let marked = settle.void(tear, &mut recovery)?;
    let Settle { scan, space, .. } = settle;
    Ok(Opened {
        segment,
        opening: scan.opening_seen + 1,
        marked: marked || scan.marked,
        state: scan.state,
        index: scan.index,
        position: scan.position,
        prev: scan.prev,
        space,
        recovery,
    })
}

impl<F: DiskFile> Target<'_, F> {
    /// The header, and whether one of its copies is missing or damaged. `None` if there never was one.
    fn segment(&self) -> Result<Option<(Segment, bool)>, LogError> {
        let mut header = vec![0; usize_of(2 * SECTOR_BYTES)];
        self.file.read_at(0, &mut header).map_err(|error| self.failed("read", error))?;
        let (first, second) = header.split_at(usize_of(SECTOR_BYTES));
        match (Segment::decode(first), Segment::decode(second)) {
            (SegmentCopy::Valid(segment), other) | (other, SegmentCopy::Valid(segment)) => {
                Ok(Some((segment, other != SegmentCopy::Valid(segment))))
            }
            (SegmentCopy::Newer(found), _) | (_, SegmentCopy::Newer(found)) => {
                Err(LogError::NewerFormat {
                    path: self.path.to_owned(),
                    found,
                    newest_known: FORMAT,
                })
            }
            // A crash while the log was created leaves nothing at all: no sector is written in part.
            (SegmentCopy::Blank, SegmentCopy::Blank) if self.is_zero()? => Ok(None),
            (SegmentCopy::Foreign, SegmentCopy::Foreign | SegmentCopy::Blank) => {
                Err(LogError::NotALog(self.path.to_owned()))
            }
            _ => Err(LogError::Corrupt {
                path: self.path.to_owned(),
                offset: 0,
                seq: None,
                what: "both copies of its header are damaged, so nobody knows whose log it is",
            }),
        }
    }

    fn is_zero(&self) -> Result<bool, LogError> {
        let mut zero = true;
        let bytes = self.file.len().map_err(|error| self.failed("measure", error))?;
        crate::window::Window::new(self.file, usize_of(PIECE_BYTES))
            .pieces(0, bytes, |_, piece| {
                zero = piece.iter().all(|&byte| byte == 0);
                zero
            })
            .map_err(|error| self.failed("read", error))?;
        Ok(zero)
    }

    /// The header of a new log; it is written with everything else that nothing proves durable.
    fn new_segment(&self, options: &LogOptions) -> Result<Segment, LogError> {
        Ok(Segment {
            identity: new_identity(options.seed)
                .map_err(|error| self.failed("draw an identity for", error))?,
            number: 0,
            position: 0,
            header_bytes: u32::try_from(Segment::BYTES).expect("a constant below 4 GiB"),
            group_bytes_max: options.group_bytes_max,
            hard: HardState::default(),
            start: options.first_seq,
            before: tinyraftplus_core::Term::ZERO,
        })
    }

    fn write(&self, op: &'static str, at: u64, bytes: &[u8]) -> Result<(), LogError> {
        self.file.write_at(at, bytes).map_err(|error| self.failed(op, error))
    }

    fn sync(&self) -> Result<(), LogError> {
        self.file.sync_data().map_err(|error| self.failed("sync", error))
    }

    fn failed(&self, op: &'static str, source: io::Error) -> LogError {
        let path = self.path.to_owned();
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

/// Makes what was found durable.
struct Settle<'a, F> {
    target: Target<'a, F>,
    segment: Segment,
    scan: Scan<'a, F>,
    space: Space,
}

impl<F: DiskFile> Settle<'_, F> {
    /// Writes again whatever may be known to the kernel alone.
    fn rewrite(&self, header_damaged: bool) -> Result<(), LogError> {
        for (at, bytes) in &self.scan.repairs {
            self.target.write("repair", *at, bytes)?;
        }
        if header_damaged || self.scan.unproven.is_none() {
            self.target.write("write", 0, &self.segment.encode())?;
        }
        let (mut at, end) = self.scan.unproven.unwrap_or_default();
        while at < end {
            let mut piece = vec![0; usize_of((end - at).min(PIECE_BYTES))];
            self.target
                .file
                .read_at(at, &mut piece)
                .map_err(|error| self.target.failed("read", error))?;
            self.target.write("write again", at, &piece)?;
            at += u64_of(piece.len());
        }
        self.target.sync()
    }

    /// Makes what was cut void, now or before. Says whether it left a mark.
    fn void(&mut self, tear: Option<Tear>, recovery: &mut Recovery) -> Result<bool, LogError> {
        let void = match (tear, self.scan.void) {
            (Some(tear), _) => {
                let begin = self.scan.position;
                recovery.cut =
                    Some(Cut { position: begin, bytes: tear.written_end - begin, why: tear.why });
                recovery.hard_state_rescued = tear.hard.is_some();
                self.cut(tear)?
            }
            // The process that made this void may have died before the zeros were durable.
            (None, Some(void)) if void.groups <= 1 => void,
            (None, _) => return Ok(false),
        };
        self.zero(void.begin, void.end)?;
        if void.groups == 0 {
            self.mark()?;
        }
        self.target.sync()?;
        Ok(void.groups == 0)
    }

    /// Step 1: a frame that voids the torn group, after everything that was ever written.
    fn cut(&mut self, tear: Tear) -> Result<Void, LogError> {
        let begin = self.scan.position;
        if let Some(hard) = tear.hard {
            self.scan.state.hard = hard;
        }
        let place = Place { position: round_up(tear.written_end, SECTOR_BYTES), ..self.place() };
        let original = place.bare(flags::CUT | flags::HARD_STATE | flags::COPIED);
        let mut bytes = Vec::new();
        let (prev, end) = put_copied(&mut bytes, &original, place.tag);
        self.space.ensure(self.target.file, self.target.path, end + SECTOR_BYTES, true)?;
        self.target.write("write", place.position, &bytes)?;
        self.target.sync()?;
        (self.scan.prev, self.scan.position) = (prev, end);
        self.scan.index.break_off();
        Ok(Void { begin, end: place.position, groups: 0 })
    }

    /// Step 2, the mark.
    fn mark(&mut self) -> Result<(), LogError> {
        let frame = self.place().bare(flags::MARK | flags::END);
        let (bytes, sum) = frame.encode(self.segment.tag());
        self.space.ensure(self.target.file, self.target.path, frame.next_position(), true)?;
        self.target.write("write", frame.position, &bytes)?;
        (self.scan.prev, self.scan.position) = (sum, frame.next_position());
        Ok(())
    }

    fn zero(&self, begin: u64, end: u64) -> Result<(), LogError> {
        let zeros = vec![0; usize_of((end - begin).min(PIECE_BYTES))];
        let mut at = begin;
        while at < end {
            let piece = zeros.get(..usize_of((end - at).min(PIECE_BYTES))).unwrap_or(&zeros);
            self.target.write("clear", at, piece)?;
            at += u64_of(piece.len());
        }
        Ok(())
    }

    /// Where the next frame goes.
    fn place(&self) -> Place {
        let terms = &self.scan.state.terms;
        Place {
            tag: self.segment.tag(),
            opening: self.scan.opening_seen + 1,
            position: self.scan.position,
            prev: self.scan.prev,
            begin: self.scan.position,
            before: Tail::of(terms.end(), terms.last()),
            hard: self.scan.state.hard,
        }
    }
}
