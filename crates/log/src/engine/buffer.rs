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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Disk, Open, sim_disk::SimDisk};

    /// Writes a group of so many equal bytes; returns where in the file it began to write, if in whole blocks.
    fn write<F: DiskFile>(
        buffer: &mut Buffer,
        file: &F,
        offset: u64,
        group: &[u8],
        room: u64,
    ) -> Option<u64> {
        buffer.begin(file, offset, u64_of(group.len()) + 100);
        buffer.bytes().extend(group);
        assert_eq!(buffer.group(), group);
        let blocks = buffer.blocks(file, offset, room).map(|(at, blocks)| {
            assert!(at.is_multiple_of(4096) && blocks.len().is_multiple_of(4096));
            assert!(blocks.as_ptr().addr().is_multiple_of(4096));
            file.write_blocks_at(at, blocks).unwrap();
            at
        });
        if blocks.is_none() {
            file.write_durable_at(offset, buffer.group()).unwrap();
        }
        blocks
    }

    /// Groups of all sizes, one behind the other, are in the file as they were given: the first bytes of a block are not lost to
    /// what comes later, whether they were written in blocks or not. Fails if a group's first block begins with anything but what
    /// stands there.
    #[test]
    fn groups_are_where_they_belong() {
        let disk = SimDisk::new();
        disk.set_whole_blocks_from(Some(5000));
        let file = disk.open("f", Open::Create).unwrap();
        let mut buffer = Buffer::default();
        let (mut expected, mut blocks, mut reads) = (Vec::new(), 0, 0);
        for (round, size) in
            [100, 5000, 9000, 300, 6000, 4096, 8192, 1, 12_000, 5001].iter().enumerate()
        {
            let group = vec![u8::try_from(round + 1).unwrap(); *size];
            let offset = u64_of(expected.len());
            let is_known = buffer.last.as_ref().is_some_and(|last| last.end == offset);
            let at = write(&mut buffer, &file, offset, &group, 4096);
            assert_eq!(at.is_some(), *size >= 5000, "{size}");
            assert!(at.is_none_or(|at| at == offset - offset % 4096));
            blocks += u32::from(at.is_some());
            reads += u32::from(at.is_some() && !is_known);
            expected.extend(group);
        }
        let found = disk.contents("f").unwrap();
        assert_eq!(found[..expected.len()], expected);
        assert!(found[expected.len()..].iter().all(|&byte| byte == 0));
        assert_eq!((blocks, reads), (6, 4), "what is still known is not read again");
    }

    /// Fails if a block reaches beyond the space that is there, or a small group is made one.
    #[test]
    fn without_room_a_group_is_written_as_it_is() {
        let disk = SimDisk::new();
        let file = disk.open("f", Open::Create).unwrap();
        let mut buffer = Buffer::default();
        assert_eq!(write(&mut buffer, &file, 0, &[1; 9000], 9000), None, "it gains nothing");
        disk.set_whole_blocks_from(Some(1));
        assert_eq!(write(&mut buffer, &file, 9000, &[2; 9000], 2479), None);
        assert_eq!(disk.contents("f").unwrap().len(), 18_000);
        assert_eq!(write(&mut buffer, &file, 9000, &[3; 9000], 2480), Some(8192));
        assert_eq!(disk.contents("f").unwrap().len(), 20_480);
    }

    /// Another file may have the same offset. Fails if what is known of one counts for the other.
    #[test]
    fn blocks_of_another_file_are_forgotten() {
        let disk = SimDisk::new();
        disk.set_whole_blocks_from(Some(1));
        let one = disk.open("one", Open::Create).unwrap();
        let other = disk.open("other", Open::Create).unwrap();
        let mut buffer = Buffer::default();
        write(&mut buffer, &one, 0, &[1; 5000], 4096);
        other.write_durable_at(0, &[2; 5000]).unwrap();
        buffer.forget();
        write(&mut buffer, &other, 5000, &[3; 10], 4096);
        assert_eq!(disk.contents("other").unwrap()[..5010], [vec![2; 5000], vec![3; 10]].concat());
    }

    #[test]
    fn zeros_are_whole_blocks() {
        let mut buffer = Buffer::default();
        for count in [10_000, 4096, 70_000] {
            let zeros = buffer.zeros(count);
            assert!(u64_of(zeros.len()) == count && zeros.iter().all(|&byte| byte == 0));
            assert!(zeros.as_ptr().addr().is_multiple_of(4096));
        }
    }
}
