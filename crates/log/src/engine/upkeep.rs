//! Work that nobody waits for: zeroing space ahead of the writer, preparing the next file, sealing the last,
//! giving old ones back.
//!
//! A log on a real disk has a thread for it. A log on a simulated one does the same within its calls, so that
//! the same calls always do the same. None of it is needed for what is durable: what a crash interrupts is
//! done again, or found out, when the log is opened.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use super::{
    buffer::Buffer,
    group::{Place, encode_seal},
    names::Names,
    space::{Need, Plan, Space, extend, is_full},
};
use crate::{
    Disk, DiskFile, Encoder, LogError, Open,
    format::{SEAL_BYTES_MAX, Summary},
    num::u64_of,
};

/// Zeroed at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// A file that is full.
pub(crate) struct Sealing<D: Disk> {
    pub(crate) file: Arc<D::File>,
    pub(crate) space: Arc<Space>,
    pub(crate) number: u64,
    /// The position of the file's first byte.
    pub(crate) base: u64,
    pub(crate) place: Place,
    pub(crate) summary: Summary,
}

/// A file that is not needed any more, and its handle if it was open.
pub(crate) type Retired<D> = (u64, Option<Arc<<D as Disk>::File>>);

enum Job<D: Disk> {
    Prepare(u64),
    Seal(Box<Sealing<D>>),
    Retire(Vec<Retired<D>>),
}

/// The next file: nothing in it yet but zeros, durably.
pub(crate) struct Prepared<D: Disk> {
    pub(crate) file: Arc<D::File>,
    pub(crate) bytes: u64,
    /// Up to here it was really written.
    pub(crate) zeroed: u64,
}

struct State<D: Disk> {
    jobs: VecDeque<Job<D>>,
    /// Where zeros are wanted.
    zero: Option<(u64, Arc<Space>)>,
    prepared: Option<Result<Prepared<D>, LogError>>,
    preparing: bool,
    /// A file of zeros to be used again, and how long it is.
    spare: Option<(String, u64)>,
    recycling: bool,
    stop: bool,
}

/// What the writer and the thread share.
pub(crate) struct Yard<D: Disk> {
    disk: D,
    names: Names,
    plan: Plan,
    encoder: Arc<dyn Encoder>,
    state: Mutex<State<D>>,
    changed: Condvar,
}

/// The yard and its thread, if there is one. Stops it when dropped.
pub(crate) struct Upkeep<D: Disk> {
    yard: Arc<Yard<D>>,
    thread: Option<JoinHandle<()>>,
    started: bool,
}

impl<D: Disk> Upkeep<D> {
    pub(crate) fn new(disk: D, names: Names, plan: Plan, encoder: Arc<dyn Encoder>) -> Self {
        let state = State {
            jobs: VecDeque::new(),
            zero: None,
            prepared: None,
            preparing: false,
            spare: None,
            recycling: false,
            stop: false,
        };
        let state = Mutex::new(state);
        let yard = Yard { disk, names, plan, encoder, state, changed: Condvar::new() };
        Self { yard: Arc::new(yard), thread: None, started: false }
    }

    /// Zeros would help the writer.
    pub(crate) fn zero(&mut self, number: u64, space: &Arc<Space>) {
        if self.yard.disk.in_background() && self.start() {
            let mut state = self.yard.state();
            state.zero = Some((number, Arc::clone(space)));
            drop(state);
            self.yard.changed.notify_all();
        }
    }

    /// The next file, prepared before or now.
    pub(crate) fn next_file(&self, number: u64) -> Result<Prepared<D>, LogError> {
        let yard = &self.yard;
        let mut state = yard.state();
        while state.preparing && state.prepared.is_none() {
            state = yard.wait(state);
        }
        let prepared = state.prepared.take();
        drop(state);
        match prepared.unwrap_or_else(|| yard.prepare(number)) {
            // There may be some by now: at the latest when a file that was given back is ready.
            Err(LogError::NoSpace { .. }) => {
                yard.wait_for_spare();
                yard.prepare(number)
            }
            result => result,
        }
    }

    /// A file is full, and another goes on: the first is to be sealed, if it may be, and one after the other
    /// prepared.
    pub(crate) fn rotated(&mut self, sealing: Option<Sealing<D>>, next: u64) {
        if let Some(sealing) = sealing {
            self.give(Job::Seal(Box::new(sealing)));
        }
        if self.yard.disk.in_background() {
            self.yard.state().preparing = true;
            self.give(Job::Prepare(next));
        }
    }

    /// These files are not needed any more, the oldest first.
    pub(crate) fn retire(&mut self, files: Vec<Retired<D>>) {
        if !files.is_empty() {
            self.give(Job::Retire(files));
        }
    }

    /// A full file has no seal.
    pub(crate) fn seal(&mut self, sealing: Sealing<D>) {
        self.give(Job::Seal(Box::new(sealing)));
    }

    fn give(&mut self, job: Job<D>) {
        if self.yard.disk.in_background() && self.start() {
            self.yard.state().jobs.push_back(job);
            self.yard.changed.notify_all();
        } else {
            self.yard.run(job);
        }
    }

    /// Starts the thread if need be; without one, work is done within the calls.
    fn start(&mut self) -> bool {
        if self.thread.is_none() && !self.started {
            self.started = true;
            let yard = Arc::clone(&self.yard);
            let thread = std::thread::Builder::new().name("log upkeep".to_owned());
            self.thread = thread.spawn(move || yard.work()).ok();
        }
        self.thread.is_some()
    }

    /// Ends the thread; what was to be done and isn't is left to the next opening.
    pub(crate) fn stop(&mut self) {
        self.yard.state().stop = true;
        self.yard.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It can't have panicked in a way that matters to what is durable.
            let _ = thread.join();
        }
    }

    /// Waits until all work given so far is done.
    pub(crate) fn finish(&self) {
        let mut state = self.yard.state();
        while self.thread.is_some()
            && (!state.jobs.is_empty() || state.preparing || state.recycling)
        {
            state = self.yard.wait(state);
        }
    }
}

impl<D: Disk> Drop for Upkeep<D> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<D: Disk> Yard<D> {
    fn state(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<D>>) -> MutexGuard<'a, State<D>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// What the thread does.
    fn work(&self) {
        // Of its own: on Linux each open file hears of a failed write-back once, and the writer must hear of
        // its own.
        let mut open: Option<(u64, D::File)> = None;
        loop {
            let (job, zero) = {
                let mut state = self.state();
                while !state.stop && state.jobs.is_empty() && state.zero.is_none() {
                    state = self.wait(state);
                }
                if state.stop {
                    return;
                }
                let job = state.jobs.pop_front();
                (job, state.zero.take())
            };
            if let Some((number, space)) = zero {
                if open.as_ref().is_none_or(|(opened, _)| *opened != number) {
                    open = self
                        .disk
                        .open(&self.names.file(number), Open::Write)
                        .ok()
                        .map(|file| (number, file));
                }
                if let Some((_, file)) = &open
                    && !self.zero_ahead(file, &space)
                {
                    // The disk refuses; the writer will hear of it if it matters.
                    open = None;
                }
            }
            if let Some(job) = job {
                self.run(job);
                self.changed.notify_all();
            }
        }
    }

    fn zero_ahead(&self, file: &D::File, space: &Space) -> bool {
        // Through the page cache: around it, the file system would let the writer wait for each piece.
        let mut zeros = Buffer::default();
        while let Some(piece) = space.next_piece() {
            let count = piece.end - piece.start;
            let durable = file.write_durable_at(piece.start, zeros.zeros(count)).is_ok();
            space.zeroed(&piece, durable);
            if !durable || self.state().stop {
                return durable;
            }
        }
        true
    }

    fn run(&self, job: Job<D>) {
        match job {
            Job::Prepare(number) => {
                let prepared = self.prepare(number);
                let mut state = self.state();
                (state.prepared, state.preparing) = (Some(prepared), false);
            }
            Job::Seal(sealing) => {
                // Without a seal, opening reads the file in full and writes it then.
                let _ = self.seal(&sealing);
            }
            Job::Retire(files) => {
                self.state().recycling = true;
                // What can't be removed now is removed by the next opening.
                let spare = self.retire(files).ok().flatten();
                let mut state = self.state();
                state.recycling = false;
                if spare.is_some() {
                    state.spare = spare;
                }
            }
        }
    }

    /// Makes the next file: one of zeros that was used before, or a new one.
    ///
    /// If it fails but for lack of space, the log is not to be written to any more: what a failed sync left
    /// undone, another may not find.
    fn prepare(&self, number: u64) -> Result<Prepared<D>, LogError> {
        let name = self.names.file(number);
        let path = self.disk.path(&name);
        let failed = |op, source| {
            let path = path.clone();
            if is_full(&source) {
                LogError::NoSpace { path, source }
            } else {
                LogError::WriteFailed { op, path, source }
            }
        };
        let spare = self.state().spare.take();
        if let Some((spare, _)) = &spare {
            self.disk
                .rename(spare, &name)
                .map_err(|source| failed("rename a spare file to", source))?;
        }
        let file =
            self.disk.open(&name, Open::Create).map_err(|source| failed("create", source))?;
        let (bytes, zeroed) = if let Some((_, bytes)) = spare {
            (bytes, bytes)
        } else {
            let there = file.len().map_err(|source| failed("measure", source))?;
            let bytes = self.plan.step + self.plan.reserve;
            extend(&file, &path, there, bytes)?;
            (bytes.max(there), 0)
        };
        self.disk.sync_dir().map_err(|source| failed("sync the directory of", source))?;
        Ok(Prepared { file: Arc::new(file), bytes, zeroed })
    }

    /// Waits until a file that is being zeroed can be used, if there is one.
    fn wait_for_spare(&self) {
        let mut state = self.state();
        while state.recycling && state.spare.is_none() {
            state = self.wait(state);
        }
    }

    /// Removes files; one is kept and zeroed, to be used again.
    fn retire(&self, mut files: Vec<Retired<D>>) -> io::Result<Option<(String, u64)>> {
        let keep = if self.state().spare.is_none() { files.pop() } else { None };
        for (number, _) in &files {
            self.disk.remove(&self.names.file(*number))?;
        }
        let Some((number, file)) = keep else { return self.disk.sync_dir().map(|()| None) };
        let name = self.names.file(number);
        // Whoever reads it now must see its old bytes to the end.
        if file.is_some_and(|file| Arc::strong_count(&file) > 1) {
            self.disk.remove(&name)?;
            return self.disk.sync_dir().map(|()| None);
        }
        let spare = self.names.spare(number);
        self.disk.rename(&name, &spare)?;
        // Before a byte of it changes: under its old name it would be a damaged file of the log.
        self.disk.sync_dir()?;
        let file = self.disk.open(&spare, Open::Write)?;
        let bytes = file.len()?;
        let mut zeros = Buffer::default();
        let mut at = 0;
        while at < bytes {
            let count = (bytes - at).min(PIECE_BYTES);
            file.write_blocks_at(at, zeros.zeros(count))?;
            at += count;
            if self.state().stop {
                return Ok(None);
            }
        }
        Ok(Some((spare, bytes)))
    }

    /// Writes the seal of a file after its last frame.
    fn seal(&self, sealing: &Sealing<D>) -> Result<(), LogError> {
        let bytes = encode_seal(sealing.place, &sealing.summary, &*self.encoder)?;
        if u64_of(bytes.len()) > SEAL_BYTES_MAX {
            // Opening reads the file instead.
            return Ok(());
        }
        let at = sealing.place.position - sealing.base;
        let end = at + u64_of(bytes.len());
        let path = self.disk.path(&self.names.file(sealing.number));
        sealing.space.take(&*sealing.file, &path, end, Need::Recovery)?;
        sealing.file.write_durable_at(at, &bytes).map_err(|source| LogError::Io {
            op: "seal",
            path,
            source,
        })
    }
}

/// Whatever fails while a file is made ready, nothing that anybody was told of is in doubt.
pub(crate) fn without_effect(error: LogError) -> LogError {
    if let LogError::WriteFailed { op, path, source } = error {
        LogError::Io { op, path, source }
    } else {
        error
    }
}
