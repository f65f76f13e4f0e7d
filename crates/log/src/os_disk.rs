//! The real disk. Everything that differs between operating systems is in this file.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{Disk, DiskFile, Open};

#[cfg(not(unix))]
compile_error!("tinyraftplus-log knows how to make files durable on Unix only");

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

    /// The directory at this path, if there is one.
    pub(crate) fn existing(dir: &Path) -> Option<Self> {
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
        if create && fs::symlink_metadata(&path)?.is_symlink() {
            // What may just have been created is in a directory that nobody else syncs.
            path.canonicalize()?.parent().map_or(Ok(()), sync_path)?;
        }
        Ok(OsFile { file })
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
}

impl DiskFile for OsFile {
    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + crate::num::u64_of(done)) {
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

    fn allocate(&self, len: u64) -> io::Result<()> {
        let there = self.file.metadata()?.len();
        if len <= there {
            return Ok(());
        }
        #[cfg(target_os = "linux")]
        return rustix::fs::fallocate(
            &self.file,
            rustix::fs::FallocateFlags::empty(),
            there,
            len - there,
        )
        .map_err(io::Error::from);
        #[cfg(not(target_os = "linux"))]
        return Err(io::ErrorKind::Unsupported.into());
    }
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
