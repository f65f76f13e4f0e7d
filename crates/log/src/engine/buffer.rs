//! The bytes of a write, in whole blocks where the disk gains by it.
//!
//! A group begins anywhere, but for its first and last block it is whole blocks. What lies before it in its first one
//! was durable before, and what comes after it in its last one is zeros: so it is written as blocks, these bytes along with it. A
//! sector holds what it held wherever the power fails, since what stands in it is written again as it is.

use crate::{
    BLOCK_BYTES, DiskFile,
    num::{u64_of, usize_of},
};

/// A buffer that grew beyond this is not kept.
const KEPT_BYTES: usize = 4 << 20;

/// Where the bytes of a group are put together, again and again.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// A block in memory begins here; before it is nothing.
    start: usize,
    /// The group begins here; between lies what its first block holds already.
    group: usize,
    /// The last block that was written, up to where the group after it begins.
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    end: u64,
    bytes: Vec<u8>,
}

impl Buffer {
    /// Begins a group at this offset of a file, of at most so many bytes.
    pub(crate) fn begin<F: DiskFile>(&mut self, file: &F, offset: u64, bytes_max: u64) {
        self.bytes.clear();
        (self.start, self.group) = (0, 0);
        if file.whole_blocks_from().is_none_or(|min| bytes_max < min) {
            self.last = None;
            return;
        }
        // All of it before the first byte: it may not move any more.
        self.bytes.reserve(usize_of(bytes_max).saturating_add(3 * BLOCK_BYTES));
        self.start = align(&self.bytes);
        self.group = self.start + usize_of(offset) % BLOCK_BYTES;
        self.bytes.resize(self.group, 0);
        let Some(before) = self.bytes.get_mut(self.start..) else { return };
        match self.last.take() {
            Some(last) if last.end == offset && last.bytes.len() == before.len() => {
                before.copy_from_slice(&last.bytes);
            }
            // It can be written as it is, then.
            _ if file.read_at(offset - u64_of(before.len()), before).ok() != Some(before.len()) => {
                self.bytes.clear();
                (self.start, self.group) = (0, 0);
            }
            _ => {}
        }
    }

    /// So many zeros, in memory that begins with a block.
    pub(crate) fn zeros(&mut self, count: u64) -> &[u8] {
        self.bytes.clear();
        self.bytes.reserve(usize_of(count) + BLOCK_BYTES);
        let start = align(&self.bytes);
        self.bytes.resize(start + usize_of(count), 0);
        self.bytes.get(start..).unwrap_or_default()
    }

    /// Where to add the bytes of the group.
    pub(crate) const fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The bytes of the group.
    pub(crate) fn group(&self) -> &[u8] {
        self.bytes.get(self.group..).unwrap_or_default()
    }

    /// The group in whole blocks, and where they begin, if that is worth while. Behind the group there are so many bytes
    /// in which nothing was written yet.
    pub(crate) fn blocks<F: DiskFile>(
        &mut self,
        file: &F,
        offset: u64,
        room: u64,
    ) -> Option<(u64, &[u8])> {
        let min = file.whole_blocks_from()?;
        let len = self.bytes.len().checked_sub(self.start)?;
        let whole = len.next_multiple_of(BLOCK_BYTES);
        if u64_of(len) < min || align(&self.bytes) != self.start || u64_of(whole - len) > room {
            return None;
        }
        let at = offset - u64_of(self.group - self.start);
        let last = self.bytes.get(self.bytes.len() - len % BLOCK_BYTES..)?.to_vec();
        self.last = Some(Last { end: at + u64_of(len), bytes: last });
        self.bytes.resize(self.start + whole, 0);
        Some((at, self.bytes.get(self.start..)?))
    }

    /// What is written next does not go behind the last group.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    /// Gives memory back, if it is much.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
    }
}

/// Where the first block begins in there.
fn align(bytes: &[u8]) -> usize {
    bytes.as_ptr().addr().next_multiple_of(BLOCK_BYTES) - bytes.as_ptr().addr()
}
