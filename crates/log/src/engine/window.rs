//! A piece of a file in memory, for reading on and on.

use std::io;

use crate::{
    DiskFile,
    num::{u64_of, usize_of},
};

/// Reads ahead; what lies after the end of the file reads as zeros.
pub(crate) struct Window<'a, F> {
    file: &'a F,
    /// The position of the file's first byte.
    base: u64,
    buffer: Vec<u8>,
    position: u64,
    ahead: usize,
}

impl<'a, F: DiskFile> Window<'a, F> {
    pub(crate) const fn new(file: &'a F, base: u64, ahead: usize) -> Self {
        Self { file, base, buffer: Vec::new(), position: 0, ahead }
    }

    /// The bytes from `position` on. Callers check `count` against a limit first.
    pub(crate) fn bytes(&mut self, position: u64, count: u64) -> io::Result<&[u8]> {
        let count = usize_of(count);
        let known = self.known(position, count);
        if known.is_none() {
            self.buffer.resize(count.max(self.ahead), 0);
            self.position = position;
            let read = self.file.read_at(position.saturating_sub(self.base), &mut self.buffer)?;
            // Zero where the file ends early.
            if let Some(rest) = self.buffer.get_mut(read..) {
                rest.fill(0);
            }
        }
        let at = known.unwrap_or(0);
        Ok(self.buffer.get(at..at + count).unwrap_or_default())
    }

    fn known(&self, position: u64, count: usize) -> Option<usize> {
        let at = usize::try_from(position.checked_sub(self.position)?).ok()?;
        (at.checked_add(count)? <= self.buffer.len()).then_some(at)
    }

    /// Calls `on` with every piece of the file from `start` to `end` that may hold anything but zeros, and
    /// where it lies, as long as it says to go on.
    pub(crate) fn pieces(
        &mut self,
        start: u64,
        end: u64,
        mut on: impl FnMut(u64, &[u8]) -> bool,
    ) -> io::Result<()> {
        let unit = u64_of(self.ahead);
        let mut position = start;
        while position < end {
            // Space that was never written is not worth reading: there may be much of it.
            let data = self.base + self.file.data_from(position - self.base)?;
            position += data.saturating_sub(position) / unit * unit;
            if position >= end {
                break;
            }
            let count = (end - position).min(unit);
            if !on(position, self.bytes(position, count)?) {
                break;
            }
            position += count;
        }
        Ok(())
    }
}
