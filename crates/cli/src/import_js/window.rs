//! Reading a file from its beginning to its end, with little memory.

use std::path::PathBuf;

use tinyraftplus_log::{Disk, DiskFile, Open};

use super::{Error, u64_of, usize_of};

/// Read at a time, at least.
const AHEAD_BYTES: u64 = 256 << 10;

/// A file, and a part of it in memory.
pub(super) struct Window<F> {
    file: F,
    path: PathBuf,
    len: u64,
    start: u64,
    buffer: Vec<u8>,
}

impl<F: DiskFile> Window<F> {
    /// Opens a file that had this length; what it got longer meanwhile is not read.
    pub(super) fn open<D: Disk<File = F>>(disk: &D, name: &str, len: u64) -> Result<Self, Error> {
        let path = disk.path(name);
        let file = open(disk, name)?;
        Ok(Self { file, path, len, start: 0, buffer: Vec::new() })
    }

    pub(super) const fn path(&self) -> &PathBuf {
        &self.path
    }

    /// These bytes, which lie within the file.
    pub(super) fn bytes(&mut self, at: u64, count: u64) -> Result<&[u8], Error> {
        let end = at.saturating_add(count);
        if at < self.start || end > self.start + u64_of(self.buffer.len()) {
            let wanted = count.max(AHEAD_BYTES.min(self.len.saturating_sub(at)));
            self.buffer.clear();
            self.buffer.shrink_to(usize_of(wanted));
            self.buffer.resize(usize_of(wanted), 0);
            let read = self.file.read_at(at, &mut self.buffer);
            let read = read.map_err(|error| failed("read", &self.path, error))?;
            self.buffer.truncate(read);
            self.start = at;
        }
        let from = usize_of(at - self.start);
        let bytes = self.buffer.get(from..from.saturating_add(usize_of(count)));
        bytes.ok_or_else(|| Error::Changed(self.path.clone()))
    }
}

fn open<D: Disk>(disk: &D, name: &str) -> Result<D::File, Error> {
    disk.open(name, Open::Read).map_err(|error| failed("open", &disk.path(name), error))
}

pub(super) fn failed(op: &'static str, path: &std::path::Path, source: std::io::Error) -> Error {
    Error::Io { op, path: path.to_owned(), source }
}

/// The length of a file.
pub(super) fn length<D: Disk>(disk: &D, name: &str) -> Result<u64, Error> {
    let file = open(disk, name)?;
    file.len().map_err(|error| failed("read the length of", &disk.path(name), error))
}

/// All of a small file, or its first bytes, one more than `most`.
pub(super) fn small<D: Disk>(disk: &D, name: &str, most: usize) -> Result<Vec<u8>, Error> {
    let file = open(disk, name)?;
    let mut bytes = vec![0; most + 1];
    let read = file.read_at(0, &mut bytes);
    let read = read.map_err(|error| failed("read", &disk.path(name), error))?;
    bytes.truncate(read);
    Ok(bytes)
}
