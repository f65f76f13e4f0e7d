//! Which snapshots a log has.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tinyraftplus_core::{Configurations, EntryId, Identity, Seq};

use super::{
    Digest, Incoming, SnapshotId, SnapshotMeta, SnapshotReader, SnapshotWriter,
    file::{Dir, Output, SnapshotFile, failed, front},
};
use crate::{
    Damage, Disk, DiskFile, Encoder, LogError, Open,
    engine::Names,
    format::{About, CHUNK_BYTES_MIN, Front, SNAPSHOT_FORMAT, SnapshotEnd, SnapshotHeader, Totals},
    num::u64_of,
};

/// Where snapshots lie, by which the newest is the last.
pub(super) type Key = (Seq, SnapshotId);

/// What there is of a snapshot.
#[derive(Debug)]
enum Entry {
    Complete(SnapshotMeta),
    /// What was received of it is worth keeping.
    Part,
    /// Somebody writes it.
    Busy,
    Damaged(Damage),
}

/// The snapshots of an open log: [`Log::snapshots`](crate::Log::snapshots) gives it.
///
/// Clones are the same store. All calls block, and any thread may make them, beside the log's owner; what one
/// caller writes or reads keeps no other from doing so. When the log is closed, every call says [`LogError::Closed`].
///
/// Opening it removes what was begun here and not finished, keeps what was received in part
/// ([`SnapshotStore::receive`] goes on with it), and makes sure that each complete one is durable. It looks at how
/// each begins and ends; damage in between is an error when a chunk is read, or see [`SnapshotReader::verify`].
#[derive(Clone)]
pub struct SnapshotStore(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) dir: Box<dyn Dir>,
    names: Names,
    identity: Identity,
    encoder: Arc<dyn Encoder>,
    chunk_bytes: u32,
    entries: Mutex<BTreeMap<Key, Entry>>,
    closed: AtomicBool,
}

impl SnapshotStore {
    /// The snapshots of a log that the caller has locked.
    pub(crate) fn open<D: Disk>(
        disk: &D,
        names: &Names,
        identity: Identity,
        encoder: &Arc<dyn Encoder>,
        chunk_bytes: u32,
    ) -> Result<Self, LogError> {
        let inner = Inner {
            dir: Box::new(disk.clone()),
            names: names.clone(),
            identity,
            encoder: Arc::clone(encoder),
            chunk_bytes,
            entries: Mutex::default(),
            closed: AtomicBool::new(false),
        };
        let path = || inner.dir.path(&names.lock());
        let files = inner.dir.list();
        let files = files.map_err(|source| failed("list the directory of", path(), source))?;
        let mut entries = BTreeMap::new();
        let mut any = false;
        for key in files.iter().filter_map(|file| names.snapshot_of(file)) {
            any = true;
            match inner.look(key)? {
                Some(entry) => drop(entries.insert(key, entry)),
                None => inner.remove_file(key)?,
            }
        }
        if any {
            inner.sync_dir()?;
        }
        *inner.entries() = entries;
        Ok(Self(Arc::new(inner)))
    }

    /// From now on all calls fail.
    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
    }

    /// The complete snapshots, the oldest first.
    pub fn list(&self) -> Vec<SnapshotMeta> {
        self.0.entries().values().filter_map(Entry::complete).cloned().collect()
    }

    /// The complete snapshot with the newest entry.
    pub fn newest(&self) -> Option<SnapshotMeta> {
        self.0.entries().values().rev().find_map(Entry::complete).cloned()
    }

    /// The complete snapshot with this id.
    pub fn get(&self, id: SnapshotId) -> Option<SnapshotMeta> {
        self.0.entries().values().filter_map(Entry::complete).find(|meta| meta.id == id).cloned()
    }

    /// Snapshots of which the beginning or the end was damaged when this was opened. They are of no use, and are
    /// kept until they are removed: whoever needs one must know that it was there.
    pub fn damaged(&self) -> Vec<(SnapshotId, Damage)> {
        let damage = |((_, id), entry): (&Key, &Entry)| match entry {
            Entry::Damaged(damage) => Some((*id, damage.clone())),
            Entry::Complete(_) | Entry::Part | Entry::Busy => None,
        };
        self.0.entries().iter().filter_map(damage).collect()
    }

    /// Begins a snapshot of the entries up to `last`, where these configurations are in force. The tables are
    /// its first bytes.
    ///
    /// # Errors
    ///
    /// [`LogError::NoSpace`] if the disk is full, [`LogError::BadSnapshot`] if there is one with this id.
    pub fn create(
        &self,
        id: SnapshotId,
        last: EntryId,
        configurations: Option<Arc<Configurations>>,
        tables: &[u8],
    ) -> Result<SnapshotWriter, LogError> {
        let about = About {
            last,
            chunk_bytes: self.0.chunk_bytes,
            tables_bytes: u64_of(tables.len()),
            configurations,
        };
        self.0.usable()?;
        if last.seq == Seq::MAX {
            return Err(LogError::BadSnapshot("no entry has the last position there is"));
        }
        if self.0.entries().keys().any(|(_, other)| *other == id) {
            return Err(LogError::BadSnapshot("there is one with this id"));
        }
        let claim = Claim::new(&self.0, (last.seq, id))?;
        let output = claim.begin(&about, false)?;
        let mut writer = SnapshotWriter::new(claim, output, about);
        writer.write_all(tables)?;
        Ok(writer)
    }

    /// Begins to receive a snapshot that another node has, or goes on with it: with what was received durably
    /// before, whatever happened since. A part of any other snapshot is removed.
    ///
    /// If this one is complete already, nothing is left to be received.
    ///
    /// # Errors
    ///
    /// [`LogError::BadSnapshot`] if no snapshot can be so, or another one with this id is there;
    /// [`LogError::SnapshotBusy`] if it is being received already.
    pub fn receive(&self, meta: &SnapshotMeta) -> Result<Incoming, LogError> {
        self.0.usable()?;
        meta.check()?;
        if let Some(found) = self.get(meta.id) {
            let same = found == *meta;
            let other = LogError::BadSnapshot("there is another one with this id");
            return if same { Ok(Incoming::complete(&self.0, found)) } else { Err(other) };
        }
        let about = About::of(meta);
        let key = (meta.last.seq, meta.id);
        let (part, claim) = {
            let mut entries = self.0.entries();
            let others: Vec<Key> = entries
                .iter()
                .filter(|(other, entry)| matches!(entry, Entry::Part) && **other != key)
                .map(|(key, _)| *key)
                .collect();
            for other in others {
                entries.remove(&other);
                self.0.remove_file(other)?;
            }
            let part = matches!(entries.get(&key), Some(Entry::Part));
            (part, Claim::among(&self.0, &mut entries, key)?)
        };
        Incoming::begin(claim, meta.clone(), &about, part)
    }

    /// Reads a complete snapshot. It stays readable when it is removed.
    ///
    /// # Errors
    ///
    /// [`LogError::SnapshotMissing`] if there is none with this id, or its file can't be opened.
    pub fn reader(&self, id: SnapshotId) -> Result<SnapshotReader, LogError> {
        self.0.usable()?;
        let meta = self.get(id).ok_or(LogError::SnapshotMissing(id))?;
        let (file, path) = self.0.open((meta.last.seq, id), Open::Read)?;
        let same = |header: &SnapshotHeader| {
            (header.id, header.last, header.identity) == (id, meta.last, self.0.identity)
        };
        match front(&*file, &path)? {
            Front::Header(header, Some(_)) if same(&header) => {
                Ok(SnapshotReader::new(&self.0, self.0.file(file, path, header), meta))
            }
            Front::Header(..) | Front::Blank | Front::Newer(_) | Front::Damaged(..) => {
                let what = "the front is not what it was";
                Err(LogError::SnapshotCorrupt { path, offset: 0, what })
            }
        }
    }

    /// Removes a snapshot, complete or not, or damaged.
    ///
    /// # Errors
    ///
    /// [`LogError::SnapshotMissing`] if there is none with this id, [`LogError::SnapshotBusy`] if it is being
    /// written.
    pub fn remove(&self, id: SnapshotId) -> Result<(), LogError> {
        self.0.usable()?;
        let mut entries = self.0.entries();
        let key = entries.keys().find(|(_, other)| *other == id).copied();
        let key = key.ok_or(LogError::SnapshotMissing(id))?;
        if matches!(entries.get(&key), Some(Entry::Busy)) {
            return Err(LogError::SnapshotBusy(id));
        }
        self.0.remove_all(&mut entries, &[key])
    }

    /// Removes all snapshots of the same entry as this one or earlier ones, but for itself: complete ones, parts
    /// and damaged ones, but none that is being written.
    ///
    /// # Errors
    ///
    /// [`LogError::SnapshotMissing`] if this one is not complete.
    pub fn remove_older(&self, than: SnapshotId) -> Result<(), LogError> {
        self.0.usable()?;
        let last = self.get(than).ok_or(LogError::SnapshotMissing(than))?.last.seq;
        let mut entries = self.0.entries();
        let old = |(key, entry): (&Key, &Entry)| {
            let old = key.0 <= last && key.1 != than && !matches!(entry, Entry::Busy);
            old.then_some(*key)
        };
        let old: Vec<Key> = entries.iter().filter_map(old).collect();
        self.0.remove_all(&mut entries, &old)
    }
}

impl fmt::Debug for SnapshotStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotStore").field("snapshots", &*self.0.entries()).finish()
    }
}

impl Entry {
    const fn complete(&self) -> Option<&SnapshotMeta> {
        match self {
            Self::Complete(meta) => Some(meta),
            Self::Part | Self::Busy | Self::Damaged(_) => None,
        }
    }
}

impl About {
    fn of(meta: &SnapshotMeta) -> Self {
        Self {
            last: meta.last,
            chunk_bytes: meta.chunk_bytes,
            tables_bytes: meta.tables_bytes,
            configurations: meta.configurations.clone(),
        }
    }
}

impl SnapshotFile {
    /// What a complete file holds.
    fn meta(&self, end: &SnapshotEnd) -> Result<SnapshotMeta, LogError> {
        let About { last, chunk_bytes, tables_bytes, configurations } = self.about()?;
        let Totals { bytes, digest, .. } = self.totals(end)?;
        let id = self.header.id;
        let meta =
            SnapshotMeta { id, last, configurations, chunk_bytes, tables_bytes, bytes, digest };
        meta.check().map_err(|_| self.corrupt(0, "it is of a size that none has"))?;
        Ok(meta)
    }
}

impl Inner {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn usable(&self) -> Result<(), LogError> {
        if self.closed.load(Ordering::Acquire) { Err(LogError::Closed) } else { Ok(()) }
    }

    fn header(
        &self,
        about: &About,
        id: SnapshotId,
        received: bool,
    ) -> Result<SnapshotHeader, LogError> {
        let place = |bytes: u64| SnapshotHeader::place(self.encoder.encoded_bytes_max(bytes));
        Ok(SnapshotHeader {
            identity: self.identity,
            id,
            last: about.last,
            received,
            encoder: self.encoder.id(),
            key_check: self.encoder.key_check(self.identity),
            chunk_bytes: about.chunk_bytes,
            about_place: place(u64_of(about.encode()?.len()))?,
            // The last piece is smaller than any chunk may be.
            place: place(about.chunk_bytes.max(CHUNK_BYTES_MIN).into())?,
        })
    }

    fn open(&self, key: Key, how: Open) -> Result<(Box<dyn DiskFile>, PathBuf), LogError> {
        let name = self.names.snapshot(key.0, key.1);
        let path = self.dir.path(&name);
        match self.dir.open(&name, how) {
            Ok(file) => Ok((file, path)),
            Err(source) => Err(failed("open", path, source)),
        }
    }

    fn file(&self, file: Box<dyn DiskFile>, path: PathBuf, header: SnapshotHeader) -> SnapshotFile {
        SnapshotFile { file, path, header, encoder: Arc::clone(&self.encoder) }
    }

    /// What a file holds, if it is to be kept. A complete one is made durable: whoever wrote it may have died
    /// before it was, and what is read now may come from the page cache alone. The end proves all else.
    fn look(&self, key: Key) -> Result<Option<Entry>, LogError> {
        let (file, path) = self.open(key, Open::Write)?;
        let damaged = |offset: u64, what: &'static str| {
            let (path, what) = (path.clone(), what.into());
            let damage = Damage {
                path,
                offset,
                seq: Some(key.0),
                end: None,
                what,
                mended: false,
                repaired: false,
            };
            Ok(Some(Entry::Damaged(damage)))
        };
        let (header, end) = match front(&*file, &path)? {
            Front::Blank => return Ok(None),
            Front::Newer(found) => {
                return Err(LogError::NewerFormat { path, found, newest_known: SNAPSHOT_FORMAT });
            }
            Front::Damaged(offset, what) => return damaged(offset, what),
            Front::Header(header, end) => (header, end),
        };
        if header.identity != self.identity {
            let (found, log) = (header.identity, self.identity);
            return Err(LogError::ForeignSnapshot { path, found, log });
        }
        if (header.last.seq, header.id) != key {
            return damaged(0, "it is another snapshot than its name says");
        }
        if header.encoder != self.encoder.id() {
            let (found, given) = (header.encoder, self.encoder.id());
            return Err(LogError::WrongEncoder { path, found, given });
        }
        if header.key_check != self.encoder.key_check(self.identity) {
            return Err(LogError::WrongKey(path));
        }
        let Some(end) = end else { return Ok(header.received.then_some(Entry::Part)) };
        let file = self.file(file, path.clone(), header);
        match file.meta(&end) {
            Ok(meta) => {
                file.put_end(&end)?;
                Ok(Some(Entry::Complete(meta)))
            }
            Err(LogError::SnapshotCorrupt { offset, what, .. }) => damaged(offset, what),
            Err(error) => Err(error),
        }
    }

    fn remove_file(&self, key: Key) -> Result<(), LogError> {
        let name = self.names.snapshot(key.0, key.1);
        match self.dir.remove(&name) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", self.dir.path(&name), source))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn remove_all(&self, entries: &mut BTreeMap<Key, Entry>, keys: &[Key]) -> Result<(), LogError> {
        for key in keys {
            self.remove_file(*key)?;
            entries.remove(key);
        }
        if keys.is_empty() { Ok(()) } else { self.sync_dir() }
    }

    fn sync_dir(&self) -> Result<(), LogError> {
        let path = || self.dir.path(&self.names.lock());
        self.dir.sync().map_err(|source| failed("sync the directory of", path(), source))
    }
}

/// The right to write a snapshot's file. If it is given up, the file goes, unless a part of it is to be kept.
pub(super) struct Claim {
    store: Arc<Inner>,
    key: Key,
    /// It is complete, or a part of it is worth keeping.
    keep: Option<Entry>,
}

impl Claim {
    fn new(store: &Arc<Inner>, key: Key) -> Result<Self, LogError> {
        Self::among(store, &mut store.entries(), key)
    }

    fn among(
        store: &Arc<Inner>,
        entries: &mut BTreeMap<Key, Entry>,
        key: Key,
    ) -> Result<Self, LogError> {
        match entries.get(&key) {
            Some(Entry::Busy | Entry::Complete(_)) => return Err(LogError::SnapshotBusy(key.1)),
            Some(Entry::Part | Entry::Damaged(_)) | None => {}
        }
        entries.insert(key, Entry::Busy);
        Ok(Self { store: Arc::clone(store), key, keep: None })
    }

    pub(super) fn usable(&self) -> Result<(), LogError> {
        self.store.usable()
    }

    pub(super) fn store(&self) -> Arc<Inner> {
        Arc::clone(&self.store)
    }

    pub(super) fn dir(&self) -> &dyn Dir {
        &*self.store.dir
    }

    /// The header that a new file has.
    pub(super) fn header(&self, about: &About, received: bool) -> Result<SnapshotHeader, LogError> {
        self.store.header(about, self.key.1, received)
    }

    pub(super) fn open(&self, header: &SnapshotHeader) -> Result<SnapshotFile, LogError> {
        let (file, path) = self.store.open(self.key, Open::Create)?;
        Ok(self.store.file(file, path, *header))
    }

    /// Begins the file anew.
    pub(super) fn begin(&self, about: &About, received: bool) -> Result<Output, LogError> {
        let body = about.encode()?;
        self.store.remove_file(self.key)?;
        let output = Output::begin(self.open(&self.header(about, received)?)?, &body)?;
        // A part is of use after a crash only if it has a name then.
        if received {
            self.store.sync_dir()?;
        }
        Ok(output)
    }

    /// The file is worth keeping as it is.
    pub(super) fn keep_part(&mut self) {
        self.keep = Some(Entry::Part);
    }

    /// It is not.
    pub(super) fn keep_nothing(&mut self) {
        self.keep = None;
    }

    /// Adds the last piece and the end, and tells all.
    pub(super) fn finish(
        mut self,
        mut output: Output,
        about: About,
        bytes: u64,
        digest: &Digest,
    ) -> Result<SnapshotMeta, LogError> {
        let meta = SnapshotMeta {
            id: self.key.1,
            last: about.last,
            configurations: about.configurations,
            chunk_bytes: about.chunk_bytes,
            tables_bytes: about.tables_bytes,
            bytes,
            digest: digest.get(),
        };
        meta.check()?;
        let totals = Totals { chunks: meta.chunks(), bytes, digest: meta.digest };
        output.finish(self.dir(), totals)?;
        self.keep = Some(Entry::Complete(meta.clone()));
        Ok(meta)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut entries = self.store.entries();
        if let Some(entry) = self.keep.take() {
            entries.insert(self.key, entry);
            return;
        }
        entries.remove(&self.key);
        // What can't be removed now is removed by the next opening. Once the log is closed, somebody else may own
        // the file.
        if self.usable().is_ok() {
            drop(self.store.remove_file(self.key));
        }
    }
}
