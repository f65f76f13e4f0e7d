//! Space ahead of the writer.
//!
//! A frame only ever enters space that is durably there and reads as zeros if nothing was written to it. So a
//! full disk shows before any byte of a frame is written, and a sector that reads as zeros was never written.
//!
//! Space is made in two steps. It is *allocated*: the file gets its length and its blocks, which costs
//! the same for any size. Then it is *zeroed*, really written once: a small write into such space costs about
//! half, because the file system has nothing to note down any more. Large writes don't gain by it, they would
//! only be written twice; so zeroing happens beside the writer, a little ahead of it, and only while its writes
//! are small.

use std::{
    io,
    ops::Range,
    path::Path,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::{
    BLOCK_BYTES, CACHED_TOGETHER_BYTES, DiskFile, LogError,
    num::{u64_of, usize_of},
};

/// What opening a log may need beyond everything that was written, to void a torn group: a frame and its copy
/// in two blocks, a mark, and what it takes to begin with a block.
///
/// Nothing else may use it: on a full disk a log that can't be opened is worse than a vote refused.
const RECOVERY_BLOCKS: u64 = 4;
/// Writes above this are large: they take the space as it is.
const SMALL_BYTES: u64 = 256 << 10;
/// Zeroing begins when less than this is left ahead of the writer.
const ZEROED_MIN: u64 = 4 << 20;
/// It ends when there is so much.
const ZEROED_MAX: u64 = 8 << 20;
/// Zeroed at a time: the writer may have to wait for it.
const PIECE_BYTES: u64 = 512 << 10;
/// The most that is allocated at a time.
const STEP_MAX: u64 = 64 << 20;

/// For what space is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Need {
    /// For entries: the reserve stays free.
    Entries,
    /// For what a full disk must not stop: the reserve may be used up.
    Urgent,
    /// To open the log at all.
    Recovery,
}

/// How space is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Allocated at a time, at least.
    pub(crate) step: u64,
    /// Held back for what a full disk must not stop.
    pub(crate) reserve: u64,
    /// Not more than this is made ahead, as nothing but the reserve would be used of it.
    pub(crate) enough: u64,
    /// What the disk writes whole or not at all.
    pub(crate) block: u64,
}

impl Plan {
    /// How much must stay free behind what is asked for, on a full disk too.
    const fn spare(self, need: Need) -> u64 {
        match need {
            Need::Entries => self.reserve,
            Need::Urgent => RECOVERY_BLOCKS * self.block,
            Need::Recovery => 0,
        }
    }

    /// How long a file should become that has `there` bytes and needs at least `end`.
    fn target(self, there: u64, end: u64) -> u64 {
        // A quarter of what is there: small logs stay small, and large ones don't stop often.
        let step = self.step.max((there / 4).min(STEP_MAX)).next_multiple_of(4096);
        let target = end.max(there).next_multiple_of(step);
        target.min(self.enough.saturating_add(self.reserve)).max(end)
    }
}

/// The space of one file; all numbers are offsets in it.
#[derive(Debug)]
pub(crate) struct Space {
    plan: Plan,
    state: Mutex<State>,
    /// A piece was zeroed.
    zeroed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Up to here the file is durably there.
    there: u64,
    /// Up to here the writer has used it.
    used: u64,
    /// Up to here it was zeroed on the disk itself.
    zeroed: u64,
    /// What is being zeroed now: nobody else may write there.
    zeroing: Option<Piece>,
    /// The writer is writing around the page cache.
    around: bool,
}

/// What is zeroed at once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Piece {
    pub(crate) range: Range<u64>,
    /// Whether it is done around the page cache.
    around: bool,
}

impl Piece {
    /// Whether the writer has to wait for it, before it writes up to this offset.
    ///
    /// What goes around the cache and what goes through it must not meet in one piece of the cache: see
    /// [`DiskFile::whole_blocks_from`].
    const fn is_in_the_way(&self, end: u64) -> bool {
        let start = self.range.start;
        end > if self.around { start - start % CACHED_TOGETHER_BYTES } else { start }
    }
}

/// While it is there, nothing near by is written through the page cache.
pub(crate) struct Around<'a>(&'a Space);

impl Drop for Around<'_> {
    fn drop(&mut self) {
        self.0.state().around = false;
    }
}

impl Space {
    pub(crate) const fn new(plan: Plan, there: u64, used: u64, zeroed: u64) -> Self {
        let state = Mutex::new(State { there, used, zeroed, zeroing: None, around: false });
        Self { plan, state, zeroed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the file is.
    pub(crate) fn bytes(&self) -> u64 {
        self.state().there
    }

    /// The file was found to be so long, and used up to here.
    pub(crate) fn found(&self, there: u64, used: u64) {
        let mut state = self.state();
        (state.there, state.used) = (there, used);
    }

    /// Takes the space up to `end` for one write, and makes it first if it has to, with the reserve beyond; on
    /// a full disk less will do, as [`Need`] says.
    ///
    /// Returns how often it had to sync.
    pub(crate) fn take<F: DiskFile>(
        &self,
        file: &F,
        path: &Path,
        end: u64,
        need: Need,
    ) -> Result<u64, LogError> {
        let mut state = self.state();
        let mut syncs = 0;
        if end + self.plan.reserve > state.there {
            match self.grow(&mut state, file, path, end) {
                Err(LogError::NoSpace { .. }) if end + self.plan.spare(need) <= state.there => {}
                result => syncs = result?,
            }
        }
        while state.zeroing.as_ref().is_some_and(|piece| piece.is_in_the_way(end)) {
            state = self.zeroed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.used = state.used.max(end);
        Ok(syncs)
    }

    fn grow<F: DiskFile>(
        &self,
        state: &mut State,
        file: &F,
        path: &Path,
        end: u64,
    ) -> Result<u64, LogError> {
        let least = end + self.plan.reserve;
        let target = self.plan.target(state.there, least);
        let grown = match extend(file, path, state.there, target) {
            Err(LogError::NoSpace { .. }) if least < target => {
                extend(file, path, state.there, least).map(|()| least)
            }
            result => result.map(|()| target),
        }?;
        state.there = grown;
        Ok(1)
    }

    /// Whether zeroing ahead would help a writer that just wrote so many bytes.
    pub(crate) fn wants_zeros(&self, written: u64) -> bool {
        if written > SMALL_BYTES {
            return false;
        }
        let state = self.state();
        state.zeroing.is_none() && state.zeroed < (state.used + ZEROED_MIN).min(state.there)
    }

    /// The writer is about to write around the page cache. Waits until nobody writes through it.
    pub(crate) fn around_the_cache(&self) -> Around<'_> {
        let mut state = self.state();
        while state.zeroing.as_ref().is_some_and(|piece| !piece.around) {
            state = self.zeroed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.around = true;
        Around(self)
    }

    /// Takes the next piece to be zeroed ahead of the writer, if there is need for one. It goes around the page cache
    /// if it has `around_from` bytes and nothing that the writer has written lies near by.
    pub(crate) fn next_piece(&self, around_from: Option<u64>) -> Option<Piece> {
        let mut state = self.state();
        let start = state.zeroed.max(state.used).next_multiple_of(u64_of(BLOCK_BYTES));
        let there = state.there - state.there % u64_of(BLOCK_BYTES);
        let near_end = start - start % CACHED_TOGETHER_BYTES;
        let apart = around_from.is_some() && near_end >= state.used;
        let next = near_end + CACHED_TOGETHER_BYTES;
        let end = (start + PIECE_BYTES).min(there).min(next);
        let around = apart && around_from.is_some_and(|from| end.saturating_sub(start) >= from);
        let enough = (state.used + ZEROED_MAX).min(there);
        if state.zeroing.is_some() || start >= end || start >= enough || state.around && !around {
            return None;
        }
        let piece = Piece { range: start..end, around };
        state.zeroing = Some(piece.clone());
        Some(piece)
    }

    /// The piece was zeroed, durably or not at all.
    pub(crate) fn zeroed(&self, piece: &Piece, durable: bool) {
        let mut state = self.state();
        state.zeroing = None;
        if durable {
            state.zeroed = piece.range.end;
        }
        drop(state);
        self.zeroed.notify_all();
    }
}

/// Makes a file longer, durably.
pub(crate) fn extend<F: DiskFile>(
    file: &F,
    path: &Path,
    there: u64,
    target: u64,
) -> Result<(), LogError> {
    match file.allocate(target) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            let zeros = vec![0; usize_of((target - there).min(1 << 20))];
            let mut at = there;
            while at < target {
                let count = usize_of((target - at).min(u64_of(zeros.len())));
                file.write_at(at, zeros.get(..count).unwrap_or_default())
                    .map_err(|source| refused(path, source))?;
                at += u64_of(count);
            }
        }
        result => result.map_err(|source| refused(path, source))?,
    }
    file.sync_data().map_err(|source| LogError::WriteFailed {
        op: "sync",
        path: path.to_owned(),
        source,
    })
}

/// A full disk is refused before anything was written; anything else leaves us in doubt.
fn refused(path: &Path, source: io::Error) -> LogError {
    let path = path.to_owned();
    if is_full(&source) {
        LogError::NoSpace { path, source }
    } else {
        LogError::WriteFailed { op: "extend", path, source }
    }
}

/// Whether a write was refused because there is no room for it.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn space(used: u64) -> Space {
        let plan = Plan { step: MIB, reserve: 4096, enough: u64::MAX, block: 512 };
        Space::new(plan, 64 * MIB, used, 0)
    }

    /// Near the writer zeros go through the page cache, which it uses too; elsewhere around it. Fails if a piece around the cache
    /// may share a piece of the cache with what the writer has written.
    #[test]
    fn zeros_go_around_the_cache_only_far_from_the_writer() {
        let space = space(MIB + 100);
        let mut pieces = Vec::new();
        while let Some(piece) = space.next_piece(Some(64 << 10)) {
            assert_eq!(space.next_piece(Some(64 << 10)), None, "one at a time");
            space.zeroed(&piece, true);
            pieces.push(piece);
        }
        let first = &pieces[0];
        assert_eq!(first.range.start, MIB + 4096);
        assert!(pieces.windows(2).all(|two| two[0].range.end == two[1].range.start));
        for piece in &pieces {
            assert_eq!(piece.around, piece.range.start >= CACHED_TOGETHER_BYTES, "{piece:?}");
        }
        assert!(pieces.last().unwrap().range.end >= MIB + 100 + ZEROED_MAX);
        let space = self::space(0);
        while let Some(piece) = space.next_piece(None) {
            assert!(!piece.around);
            space.zeroed(&piece, true);
        }
    }

    /// Who writes around the cache and who writes through it wait for each other where they could meet.
    #[test]
    fn what_goes_around_the_cache_does_not_meet_what_goes_through_it() {
        let space = space(0);
        let around = space.around_the_cache();
        assert_eq!(
            space.next_piece(None),
            None,
            "through the cache, while the writer goes around it"
        );
        drop(around);
        let near = space.next_piece(Some(4096)).unwrap();
        assert_eq!((near.range.start, near.around), (0, true));
        assert!(near.is_in_the_way(1));
        let far = Piece { range: 3 * MIB..4 * MIB, around: true };
        assert!(!far.is_in_the_way(2 * MIB) && far.is_in_the_way(2 * MIB + 1));
        let through = Piece { around: false, ..far };
        assert!(!through.is_in_the_way(3 * MIB) && through.is_in_the_way(3 * MIB + 1));
    }
}
