//! The few calls that a log makes on a disk, so that a simulator or a crash test can stand in for it.

use std::{io, path::PathBuf};

/// What a file is opened for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Open {
    /// To read it.
    Read,
    /// To read and write it.
    Write,
    /// To read and write it; if there is none, it is created.
    Create,
}

/// The size of a block: see [`DiskFile::write_blocks_at`].
pub const BLOCK_BYTES: usize = 4096;

/// The kernel's page cache keeps no more than so many bytes as one piece, which begins at a multiple of it.
pub const CACHED_TOGETHER_BYTES: u64 = 2 << 20;

/// A directory.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file in it.
    type File: DiskFile;
    /// An exclusive lock, given back when dropped.
    type Lock: Send + 'static;

    /// Opens a file.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn open(&self, name: &str, how: Open) -> io::Result<Self::File>;

    /// The names of the files, sorted.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name, at once or not at all, whatever else a crash undoes. A file that had that
    /// name is gone.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes it durable which files there are.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn sync_dir(&self) -> io::Result<()>;

    /// Locks a file that is never removed, creating it if it is missing.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if somebody has it locked, else what the operating system says.
    fn lock(&self, name: &str) -> io::Result<Self::Lock>;

    /// Whether a log may do work ahead in a thread of its own: making space, deleting old files. If not, it
    /// does so within its calls, and the same calls always do the same to the disk.
    fn in_background(&self) -> bool {
        true
    }

    /// What to call a file in messages.
    fn path(&self, name: &str) -> PathBuf;
}

/// An open file.
pub trait DiskFile: Send + Sync + 'static {
    /// Its length.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads until the buffer is full or the file ends, and says how much it read.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Everything from `offset` up to what this returns reads as zeros, if that is cheap to know.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn data_from(&self, offset: u64) -> io::Result<u64> {
        Ok(offset)
    }

    /// Writes all of `data`, not yet durably.
    ///
    /// # Errors
    ///
    /// What the operating system says; some of it may have been written.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes all that was written durable, and the length.
    ///
    /// # Errors
    ///
    /// What the operating system says. What was written since the last success may be lost then, even if it
    /// can still be read, and even if the next call succeeds.
    fn sync_data(&self) -> io::Result<()>;

    /// Writes all of `data` and makes it durable, and as much of the length as it needs. What was written
    /// elsewhere, before or meanwhile, is as durable as it was.
    ///
    /// # Errors
    ///
    /// What the operating system says. Some of it may have been written and may be lost, as after a failed
    /// [`DiskFile::sync_data`].
    fn write_durable_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_at(offset, data)?;
        self.sync_data()
    }

    /// From how many bytes on [`DiskFile::write_blocks_at`] takes less time than [`DiskFile::write_durable_at`]; `None` if it never
    /// does.
    fn whole_blocks_from(&self) -> Option<u64> {
        None
    }

    /// As [`DiskFile::write_durable_at`], for whole blocks: the offset, the length and the address in memory are multiples of
    /// [`BLOCK_BYTES`].
    ///
    /// It may go around the page cache. If the kernel finds what was written changed in the cache then, and not yet written back, it
    /// fails the *next* sync of everybody who has the file open. It looks at pieces of up to [`CACHED_TOGETHER_BYTES`]: in
    /// these, nobody else may write meanwhile.
    ///
    /// # Errors
    ///
    /// As for [`DiskFile::write_durable_at`].
    fn write_blocks_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_durable_at(offset, data)
    }

    /// Locks the file itself until [`DiskFile::unlock`], whatever name it was opened by. Where a file has one
    /// name only, there is nothing to do.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if somebody has it locked, else what the operating system says.
    fn lock(&self) -> io::Result<()> {
        Ok(())
    }

    /// Gives the lock back, if there is one. Readers may still hold the file open.
    fn unlock(&self) {}

    /// Gives a file that is shorter this length, with room on the disk: what was not there reads as zeros.
    /// Not durable before the next sync. Nobody may write beyond its end meanwhile.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::StorageFull`] if there is no room, [`io::ErrorKind::Unsupported`] from a disk that
    /// can't; else what the operating system says. The file may be longer then, but not as long as was asked.
    fn allocate(&self, len: u64) -> io::Result<()>;
}
