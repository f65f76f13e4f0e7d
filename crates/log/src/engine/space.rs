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
    zeroing: Option<Range<u64>>,
    /// The writer is writing around the page cache, up to here.
    around: Option<u64>,
}

/// While it is there, nothing near by is written through the page cache.
pub(crate) struct Around<'a>(&'a Space);

impl Drop for Around<'_> {
    fn drop(&mut self) {
        self.0.state().around = None;
    }
}

impl Space {
    pub(crate) const fn new(plan: Plan, there: u64, used: u64, zeroed: u64) -> Self {
        let state = Mutex::new(State { there, used, zeroed, zeroing: None, around: None });
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
        while state.zeroing.as_ref().is_some_and(|piece| piece.start < end) {
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

    /// The writer is about to write around the page cache, up to this offset. Waits until nobody writes through it near by:
    /// see [`DiskFile::write_blocks_at`].
    pub(crate) fn around_the_cache(&self, end: u64) -> Around<'_> {
        let mut state = self.state();
        while state.zeroing.as_ref().is_some_and(|piece| is_near(piece, end)) {
            state = self.zeroed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.around = Some(end);
        Around(self)
    }

    /// Takes the next piece to be zeroed ahead of the writer, if there is need for one.
    pub(crate) fn next_piece(&self) -> Option<Range<u64>> {
        let mut state = self.state();
        let start = state.zeroed.max(state.used).next_multiple_of(u64_of(BLOCK_BYTES));
        let end = (start + PIECE_BYTES).min(state.there);
        let enough = (state.used + ZEROED_MAX).min(state.there);
        let near = state.around.is_some_and(|written| is_near(&(start..end), written));
        (state.zeroing.is_none() && start < end && start < enough && !near).then(|| {
            state.zeroing = Some(start..end);
            start..end
        })
    }

    /// The piece was zeroed, durably or not at all.
    pub(crate) fn zeroed(&self, piece: &Range<u64>, durable: bool) {
        let mut state = self.state();
        state.zeroing = None;
        if durable {
            state.zeroed = piece.end;
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

/// Whether the page cache may keep some of it together with what ends here.
const fn is_near(piece: &Range<u64>, end: u64) -> bool {
    piece.start - piece.start % CACHED_TOGETHER_BYTES < end
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// While the writer goes around the page cache, zeros go through it only where they can't meet. Fails if a piece begins in the same
    /// piece of the cache, or is not waited for.
    #[test]
    fn zeros_do_not_meet_what_goes_around_the_cache() {
        let plan = Plan { step: MIB, reserve: 4096, enough: u64::MAX, block: 512 };
        let space = Space::new(plan, 64 * MIB, MIB + 100, 0);
        let around = space.around_the_cache(2 * MIB);
        assert_eq!(space.next_piece(), None);
        drop(around);
        let mut end = MIB + 4096;
        while let Some(piece) = space.next_piece() {
            assert_eq!(
                (piece.start, space.next_piece()),
                (end, None),
                "one at a time, without gaps"
            );
            end = piece.end;
            space.zeroed(&piece, true);
        }
        assert!(end >= MIB + 100 + ZEROED_MAX);

        let space = Space::new(plan, 64 * MIB, MIB, 2 * MIB);
        let around = space.around_the_cache(2 * MIB);
        let apart = space.next_piece().unwrap();
        assert_eq!(apart.start, 2 * MIB);
        drop(around);
        drop(space.around_the_cache(2 * MIB));
        std::thread::scope(|scope| {
            let near = scope.spawn(|| drop(space.around_the_cache(2 * MIB + 1)));
            assert!(!near.is_finished());
            space.zeroed(&apart, false);
            near.join().unwrap();
        });
    }
}
