//! Bodies in chunks, each with a tag of its own, so that several threads can work on one body.
//!
//! Whoever is done with a chunk takes the next. So nothing is lost but time if a thread can't be started or
//! comes late, and a core that is busy with something else holds up one chunk at most.

use std::{
    slice,
    sync::{Mutex, PoisonError},
    thread,
};

/// How much a tag covers. All chunks of a body but the last are as long.
///
/// A tag and a nonce for each cost nothing that shows from here on, it lies in a core's own cache between
/// encryption and authentication, and four of them keep two threads busy.
pub(super) const CHUNK_BYTES: usize = 128 << 10;

/// Threads that are started for a body are worth it from here on: until another core has begun and been waited
/// for, one seals 100 KiB.
const SHARED_BYTES_MIN: usize = 512 << 10;

/// Each of them should find so much to do.
const THREAD_BYTES_MIN: usize = 256 << 10;

const THREADS_MAX: usize = 4;

/// In the place of a chunk: no other follows.
pub(super) const LAST: u32 = 1 << 31;

/// A tag, as the cipher makes it.
pub(super) type ChunkTag = [u8; 16];

/// A piece of a body.
pub(super) struct Chunk<'a> {
    /// How many are before it, and whether it is the last.
    pub(super) place: u32,
    pub(super) text: &'a mut [u8],
    pub(super) tag: &'a mut ChunkTag,
}

/// Cuts a body, whose tags these are; there is one tag for an empty body.
struct Chunks<'a> {
    number: u32,
    text: &'a mut [u8],
    tags: slice::IterMut<'a, ChunkTag>,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        let tag = self.tags.next()?;
        let text = std::mem::take(&mut self.text);
        let (text, rest) = text.split_at_mut(text.len().min(CHUNK_BYTES));
        let place = self.number | if self.tags.len() == 0 { LAST } else { 0 };
        self.number += 1;
        self.text = rest;
        Some(Chunk { place, text, tag })
    }
}

/// How many chunks a body has. An empty one has one, so that it has a tag.
pub(super) const fn chunk_count(bytes: u64) -> u64 {
    let chunks = bytes.div_ceil(CHUNK_BYTES as u64);
    if chunks == 0 { 1 } else { chunks }
}

/// How many threads may work on a body. To be asked once: the answer takes reading a few files.
pub(super) fn threads_max() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(THREADS_MAX))
}

/// Does this to all chunks of a body, with up to so many threads if it is large. False if it failed for one; then
/// there may be others that it was not done to.
pub(super) fn for_each_chunk(
    text: &mut [u8],
    tags: &mut [ChunkTag],
    threads: usize,
    work: impl Fn(Chunk<'_>) -> bool + Sync,
) -> bool {
    let threads =
        if text.len() < SHARED_BYTES_MIN { 1 } else { threads.min(text.len() / THREAD_BYTES_MIN) };
    let chunks = Mutex::new(Chunks { number: 0, text, tags: tags.iter_mut() });
    let take = || chunks.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || std::iter::from_fn(take).all(&work);
    if threads < 2 {
        return run();
    }
    thread::scope(|scope| {
        let start = |_| {
            let named = thread::Builder::new().name("log-encoder".to_owned());
            named.spawn_scoped(scope, run).ok()
        };
        let others: Vec<_> = (1..threads).map_while(start).collect();
        let own = run();
        // All are waited for, whatever the first says; one that panicked has done nothing that counts.
        others.into_iter().fold(own, |all, other| other.join().unwrap_or(false) && all)
    })
}
