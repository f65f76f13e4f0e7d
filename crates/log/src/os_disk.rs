//! The real disk. Everything that differs between operating systems is in this file.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    BLOCK_BYTES, Disk, DiskFile, Open,
    num::{u64_of, usize_of},
};

#[cfg(not(unix))]
compile_error!("tinyraftplus-log knows how to make files durable on Unix only");

/// From so many bytes on a write around the page cache takes less time than a copy in there and on to the disk. It
/// also leaves the cache to those who read.
#[cfg(target_os = "linux")]
const DIRECT_BYTES_MIN: u64 = 64 << 10;

/// Written at a time, where zeros are the only way to get space.
const ZEROS_BYTES: usize = 1 << 20;

/// The locks that this process holds.
///
/// Some kernels give a lock to the process, not to the open file: there, only this table stops a second
/// opener in the same process.
static LOCKED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A directory of the operating system.
#[derive(Clone, Debug)]
pub struct OsDisk {
    dir: PathBuf,
}

impl OsDisk {
    /// The directory at this path, which is created durably if it is missing.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn create(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        let mut missing = Vec::new();
        let mut path = dir.as_path();
        while !path.as_os_str().is_empty() && !path.try_exists()? {
            missing.push(path);
            match path.parent() {
                Some(parent) => path = parent,
                None => break,
            }
        }
        fs::create_dir_all(&dir)?;
        for path in missing {
            sync_path(
                path.parent()
                    .filter(|parent| !parent.as_os_str().is_empty())
                    .unwrap_or_else(|| Path::new(".")),
            )?;
        }
        // What was there may have been created by a process that was killed before it could sync. Where this
        // is not allowed, we can't have created anything.
        for parent in dir.canonicalize()?.ancestors().skip(1) {
            let _ = sync_path(parent);
        }
        Ok(Self { dir })
    }

    /// The directory at this path, if there is one. Nothing is created or synced: it is enough for reading.
    pub fn existing(dir: &Path) -> Option<Self> {
        dir.is_dir().then(|| Self { dir: dir.to_owned() })
    }
}

impl Disk for OsDisk {
    type File = OsFile;
    type Lock = OsLock;

    fn open(&self, name: &str, how: Open) -> io::Result<OsFile> {
        let path = self.dir.join(name);
        let (write, create) = (how != Open::Read, how == Open::Create);
        let file = OpenOptions::new()
            .read(true)
            .write(write)
            .create(create)
            .truncate(false)
            .open(&path)?;
        let (mut durable, mut direct) = (None, None);
        if write {
            durable = again(&path, &file, Again::Durable)?;
            // Not every file system can.
            direct = again(&path, &file, Again::Direct).ok().flatten().map(Direct::new);
        }
        if create && fs::symlink_metadata(&path)?.is_symlink() {
            // What may just have been created is in a directory that nobody else syncs.
            path.canonicalize()?.parent().map_or(Ok(()), sync_path)?;
        }
        Ok(OsFile { file, durable, direct })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            // What isn't Unicode isn't ours.
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn sync_dir(&self) -> io::Result<()> {
        sync_path(&self.dir)
    }

    fn lock(&self, name: &str) -> io::Result<OsLock> {
        let path = self.dir.canonicalize()?.join(name);
        if !table().insert(path.clone()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // Dropped on any failure below, which takes the path off the table.
        let held = Held(path);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&held.0)?;
        try_lock(&file)?;
        Ok(OsLock { file, _held: held })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// A file of the operating system.
#[derive(Debug)]
pub struct OsFile {
    file: File,
    /// The same file, opened once more so that every write is durable when it returns. None if it was opened to
    /// be read only, or where there is no such thing.
    ///
    /// The kernel tells each open file once, and only once, that writing its pages back has failed, whoever
    /// wrote them. With one open file for both, this could happen: the writer's data fails to reach the disk,
    /// a sync in the background (of space made ahead, of a mark) is told so, and the next durable write, asking
    /// in its turn, hears that all is well and acknowledges what stands on lost bytes. A copy of the descriptor
    /// would not do: copies are the same open file to the kernel.
    durable: Option<File>,
    /// And once more, for durable writes around the page cache.
    direct: Option<Direct>,
}

/// An open file whose writes go around the page cache, until the file system refuses one.
#[derive(Debug)]
struct Direct {
    file: File,
    refused: AtomicBool,
}

impl Direct {
    const fn new(file: File) -> Self {
        Self { file, refused: AtomicBool::new(false) }
    }

    /// Whether it was written; if not, nothing was.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<bool> {
        match self.file.write_all_at(data, offset) {
            // It wants other blocks, or none: it looks before it does anything.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.refused.store(true, Ordering::Relaxed);
                Ok(false)
            }
            result => result.map(|()| true),
        }
    }
}

impl DiskFile for OsFile {
    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + u64_of(done)) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    #[cfg(target_os = "linux")]
    fn data_from(&self, offset: u64) -> io::Result<u64> {
        use rustix::{fs::SeekFrom, io::Errno};
        match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) => Ok(data),
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => self.len(),
            // Not every file system knows.
            Err(_) => Ok(offset),
        }
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        // On macOS the standard library asks for F_FULLFSYNC here.
        self.file.sync_data()
    }

    fn lock(&self) -> io::Result<()> {
        try_lock(&self.file)
    }

    fn unlock(&self) {
        // If it fails, the lock goes with the last that has the file open.
        let _ = self.file.unlock();
    }

    #[cfg(target_os = "linux")]
    fn whole_blocks_from(&self) -> Option<u64> {
        let direct = self.direct.as_ref()?;
        (!direct.refused.load(Ordering::Relaxed)).then_some(DIRECT_BYTES_MIN)
    }

    fn write_blocks_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Some(direct) = &self.direct
            && is_whole(offset, data)
            && direct.write(offset, data)?
        {
            return Ok(());
        }
        self.write_durable_at(offset, data)
    }

    fn write_durable_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Some(file) = &self.durable {
            return file.write_all_at(data, offset);
        }
        self.write_at(offset, data)?;
        self.sync_data()
    }

    /// Where the file system has no call for it, by writing zeros.
    fn allocate(&self, len: u64) -> io::Result<()> {
        let there = self.file.metadata()?.len();
        if len <= there {
            return Ok(());
        }
        match allocate(&self.file, there, len - there) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                write_zeros(&self.file, there, len)
            }
            result => result,
        }
    }
}

/// Whether these are whole blocks, in memory and in the file.
fn is_whole(offset: u64, data: &[u8]) -> bool {
    offset.is_multiple_of(u64_of(BLOCK_BYTES))
        && data.len().is_multiple_of(BLOCK_BYTES)
        && data.as_ptr().addr().is_multiple_of(BLOCK_BYTES)
}

/// What a file is opened once more for.
#[derive(Clone, Copy)]
enum Again {
    Durable,
    Direct,
}

/// The file once more, as an open file of its own: see [`OsFile`].
#[cfg(target_os = "linux")]
fn again(path: &Path, file: &File, what: Again) -> io::Result<Option<File>> {
    use rustix::fs::OFlags;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

    let flags = match what {
        Again::Durable => OFlags::DSYNC,
        Again::Direct => OFlags::DSYNC | OFlags::DIRECT,
    };
    let again =
        OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let (one, other) = (file.metadata()?, again.metadata()?);
    if (one.dev(), one.ino()) == (other.dev(), other.ino()) {
        Ok(Some(again))
    } else {
        Err(io::Error::other("another file took its name while it was opened; open it again"))
    }
}

/// Elsewhere a durable write is a write and a sync.
#[cfg(not(target_os = "linux"))]
fn again(_: &Path, _: &File, _: Again) -> io::Result<Option<File>> {
    Ok(None)
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, there: u64, count: u64) -> io::Result<()> {
    use rustix::{fs::FallocateFlags, io::Errno};

    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), there, count) {
            // A signal, before all of it was there. Asking again for what is there already is no harm.
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                return Err(io::ErrorKind::Unsupported.into());
            }
            result => return result.map_err(io::Error::from),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(_: &File, _: u64, _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES];
    let mut at = from;
    while at < to {
        let count = (to - at).min(u64_of(zeros.len()));
        file.write_all_at(zeros.get(..usize_of(count)).unwrap_or(&zeros), at)?;
        at += count;
    }
    Ok(())
}

/// A kernel lock on a file, free at once when the process dies.
#[derive(Debug)]
pub struct OsLock {
    file: File,
    _held: Held,
}

impl Drop for OsLock {
    /// Before the path leaves the table, and by name: a child process between its fork and its exec has the
    /// file open, too, so that closing alone would not unlock it.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

#[derive(Debug)]
struct Held(PathBuf);

impl Drop for Held {
    fn drop(&mut self) {
        table().remove(&self.0);
    }
}

fn table() -> std::sync::MutexGuard<'static, BTreeSet<PathBuf>> {
    LOCKED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn try_lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
        fs::TryLockError::Error(error) => error,
    })
}

fn sync_path(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (tempfile::TempDir, OsDisk) {
        let dir = tempfile::tempdir().unwrap();
        let disk = OsDisk::create(dir.path()).unwrap();
        (dir, disk)
    }

    fn read(file: &OsFile, at: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0xee; count];
        let there = file.read_at(at, &mut bytes).unwrap();
        bytes.truncate(there);
        bytes
    }

    /// Fails if durable writes go through the open file that everything else uses, or don't wait for the disk.
    #[cfg(target_os = "linux")]
    #[test]
    fn durable_writes_have_an_open_file_of_their_own() {
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

        let (_dir, disk) = disk();
        let file = disk.open("f", Open::Create).unwrap();
        let durable = file.durable.as_ref().unwrap();
        assert!(fcntl_getfl(durable).unwrap().contains(OFlags::DSYNC));
        assert!(!fcntl_getfl(&file.file).unwrap().contains(OFlags::DSYNC));
        // Flags belong to the open file: one that is shared would show them on both sides.
        fcntl_setfl(durable, fcntl_getfl(durable).unwrap() | OFlags::NONBLOCK).unwrap();
        assert!(!fcntl_getfl(&file.file).unwrap().contains(OFlags::NONBLOCK));
        file.write_at(0, b"abcdef").unwrap();
        file.write_durable_at(2, b"CD").unwrap();
        assert_eq!(read(&file, 0, 9), b"abCDef");
    }

    /// Whole blocks go around the page cache, and whoever reads sees them, as does whoever writes through it. A file system that can't
    /// gets them otherwise.
    #[cfg(target_os = "linux")]
    #[test]
    fn whole_blocks_go_around_the_cache() {
        let (_dir, disk) = disk();
        let file = disk.open("f", Open::Create).unwrap();
        let min = usize_of(DIRECT_BYTES_MIN);
        let bytes = vec![7; min + 2 * BLOCK_BYTES];
        let start = bytes.as_ptr().addr().next_multiple_of(BLOCK_BYTES) - bytes.as_ptr().addr();
        let whole = &bytes[start..start + min];
        assert!(is_whole(8192, whole) && !is_whole(512, whole));
        assert!(!is_whole(0, &bytes[start + 1..=start + min]) && !is_whole(0, &whole[..min - 1]));
        file.write_durable_at(0, &[1; 10_000]).unwrap();
        assert_eq!(read(&file, 0, 10_000), [1; 10_000], "in the cache");
        if file.whole_blocks_from().is_some() {
            assert!(file.direct.as_ref().unwrap().write(8192, whole).unwrap());
            assert_eq!(read(&file, 8190, min + 2), [&[1, 1], whole].concat());
            assert!(
                !file.direct.as_ref().unwrap().write(1, whole).unwrap(),
                "no block begins there"
            );
            assert_eq!(file.whole_blocks_from(), None, "once is enough");
        }
        file.write_blocks_at(4096, whole).unwrap();
        assert_eq!(read(&file, 4090, min + 6), [&[1; 6], whole].concat());
        assert!(file.read_at(0, &mut [0; 10]).is_ok_and(|count| count == 10));
    }

    /// A file that nobody may write can be read, by a process that could write it, too.
    #[test]
    fn reading_needs_no_more_than_that() {
        let (dir, disk) = disk();
        disk.open("f", Open::Create).unwrap().write_durable_at(0, b"x").unwrap();
        let path = dir.path().join("f");
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).unwrap();
        let file = disk.open("f", Open::Read).unwrap();
        assert_eq!(read(&file, 0, 2), b"x");
        assert!(file.durable.is_none());
        file.write_at(0, b"y").unwrap_err();
        file.write_durable_at(0, b"y").unwrap_err();
        assert_eq!(read(&file, 0, 2), b"x");
    }

    /// Fails if space that the file system could not allocate is not made otherwise.
    #[test]
    fn space_is_zeros_whoever_makes_it() {
        let (_dir, disk) = disk();
        let file = disk.open("f", Open::Create).unwrap();
        file.write_at(0, b"abc").unwrap();
        file.allocate(10_000).unwrap();
        file.allocate(5000).unwrap();
        assert_eq!(file.len().unwrap(), 10_000);
        let end = 10_000 + u64_of(ZEROS_BYTES) + 17;
        write_zeros(&file.file, 10_000, end).unwrap();
        assert_eq!(file.len().unwrap(), end);
        assert_eq!(read(&file, 0, 3), b"abc");
        assert!(read(&file, 3, usize_of(end)).iter().all(|&byte| byte == 0));
    }
}
