//! The bytes of a file in pages that copies share until one of them changes.
//!
//! A crash test copies its disk for every way a crash can end, and looks at most of the bytes only. Pages that
//! were never written are zeros, and take no memory: a file may be given much space at once.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::SECTOR_BYTES;
use crate::num::{u64_of, usize_of};

const PAGE_BYTES: usize = 4096;

type Page = [u8; PAGE_BYTES];
pub(super) type Sector = [u8; SECTOR_BYTES];

/// The bytes of a file.
///
/// Its last sector may hold bytes beyond its end: a sector reaches the disk whole, and perhaps before the
/// length that it needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Pages {
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Makes it as long as this, if it is shorter.
    pub(super) fn reach(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Reads until the buffer is full or the file ends, and says how much that is.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let count = u64_of(buffer.len()).min(self.len.saturating_sub(offset));
        let mut rest = buffer.get_mut(..usize_of(count)).unwrap_or_default();
        for (number, part) in parts(offset, count) {
            let (to, after) = rest.split_at_mut(part.len());
            match self.pages.get(&number).and_then(|page| page.get(part)) {
                Some(from) => to.copy_from_slice(from),
                None => to.fill(0),
            }
            rest = after;
        }
        usize_of(count)
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        let count = u64_of(data.len());
        self.put(offset, data);
        if count > 0 {
            self.reach(offset + count);
        }
    }

    /// A sector, zeros where there is nothing.
    pub(super) fn sector(&self, sector: u64) -> Sector {
        let mut copy = [0; SECTOR_BYTES];
        for (number, part) in parts(sector * u64_of(SECTOR_BYTES), u64_of(SECTOR_BYTES)) {
            if let Some(from) = self.pages.get(&number).and_then(|page| page.get(part)) {
                copy.copy_from_slice(from);
            }
        }
        copy
    }

    /// Changes a sector, as long as the file is or not.
    pub(super) fn put_sector(&mut self, sector: u64, content: &Sector) {
        self.put(sector * u64_of(SECTOR_BYTES), content);
    }

    /// Forgets what lies beyond the end.
    pub(super) fn clear_beyond(&mut self) {
        let (last, used) = (self.len / u64_of(PAGE_BYTES), self.len % u64_of(PAGE_BYTES));
        self.pages.split_off(&(last + 1));
        if let Some(rest) =
            self.pages.get_mut(&last).and_then(|page| Arc::make_mut(page).get_mut(usize_of(used)..))
        {
            rest.fill(0);
        }
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize_of(self.len)];
        self.read(0, &mut bytes);
        bytes
    }

    fn put(&mut self, offset: u64, mut data: &[u8]) {
        for (number, part) in parts(offset, u64_of(data.len())) {
            let (from, after) = data.split_at(part.len());
            data = after;
            // Space is made of zeros by the megabyte, and most of it is never used in a test.
            if !self.pages.contains_key(&number) && from.iter().all(|&byte| byte == 0) {
                continue;
            }
            let page = self.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            if let Some(to) = Arc::make_mut(page).get_mut(part) {
                to.copy_from_slice(from);
            }
        }
    }
}

impl From<&[u8]> for Pages {
    fn from(bytes: &[u8]) -> Self {
        let mut pages = Self::default();
        pages.write(0, bytes);
        pages
    }
}

/// The pages of a range of bytes, and which part of each.
fn parts(offset: u64, count: u64) -> impl Iterator<Item = (u64, Range<usize>)> {
    let page_bytes = u64_of(PAGE_BYTES);
    let end = offset + count;
    let mut at = offset;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let (number, start) = (at / page_bytes, at % page_bytes);
            let take = (page_bytes - start).min(end - at);
            at += take;
            (number, usize_of(start)..usize_of(start + take))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim_disk::SimRng;

    /// Against a plain vector, with copies that must not change.
    #[test]
    fn pages_are_a_vector_of_bytes() {
        let mut rng = SimRng::new(1);
        let (mut pages, mut bytes) = (Pages::default(), Vec::new());
        let mut copies = Vec::new();
        for round in 0..500 {
            let (at, count) = (usize_of(rng.below(20_000)), usize_of(rng.below(9000)));
            let byte = u8::try_from(rng.below(4)).unwrap();
            match rng.below(4) {
                0 => {
                    pages.reach(u64_of(at));
                    bytes.resize(at.max(bytes.len()), 0);
                }
                1 => {
                    let sector = rng.below(u64_of(bytes.len() / SECTOR_BYTES + 1));
                    let at = usize_of(sector) * SECTOR_BYTES;
                    if at + SECTOR_BYTES <= bytes.len() {
                        assert_eq!(pages.sector(sector), bytes[at..at + SECTOR_BYTES]);
                        bytes[at..at + SECTOR_BYTES].fill(byte);
                        pages.put_sector(sector, &[byte; SECTOR_BYTES]);
                    }
                }
                _ => {
                    pages.write(u64_of(at), &vec![byte; count]);
                    if count > 0 {
                        bytes.resize((at + count).max(bytes.len()), 0);
                        bytes[at..at + count].fill(byte);
                    }
                }
            }
            assert_eq!(pages.len(), u64_of(bytes.len()));
            let mut buffer = vec![7; count];
            let there = bytes.get(at..).unwrap_or_default();
            let read = pages.read(u64_of(at), &mut buffer);
            assert_eq!(read, there.len().min(count));
            assert_eq!(buffer[..read], there[..read]);
            if round % 50 == 0 {
                copies.push((pages.clone(), bytes.clone()));
            }
        }
        for (pages, bytes) in copies {
            assert_eq!(pages.to_vec(), bytes);
        }
    }

    /// Fails if space that nobody wrote costs memory.
    #[test]
    fn space_is_free() {
        let mut pages = Pages::default();
        pages.reach(1 << 40);
        pages.write(1 << 20, &vec![0; 1 << 20]);
        assert_eq!(pages.pages.len(), 0);
        pages.write(1 << 30, b"x");
        assert_eq!((pages.pages.len(), pages.len()), (1, 1 << 40));
    }

    /// What lies beyond the end comes with the length, unless it was forgotten.
    #[test]
    fn bytes_beyond_the_end() {
        let mut pages = Pages::from(&b"abc"[..]);
        pages.put_sector(0, &[1; SECTOR_BYTES]);
        pages.put_sector(9, &[2; SECTOR_BYTES]);
        assert_eq!(pages.to_vec(), [1, 1, 1]);
        let mut forgetful = pages.clone();
        forgetful.clear_beyond();
        for pages in [&mut pages, &mut forgetful] {
            pages.reach(5000);
        }
        assert_eq!(pages.to_vec()[4607..4610], [0, 2, 2]);
        assert_eq!(forgetful.to_vec()[..5], [1, 1, 1, 0, 0]);
        assert!(forgetful.to_vec()[3..].iter().all(|&byte| byte == 0));
    }
}
