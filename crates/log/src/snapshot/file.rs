//! A snapshot's file: pieces in their places.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Disk, DiskFile, Encoder, LogError, Open,
    format::{
        About, FRONT_BYTES, Front, PIECE_HEADER_BYTES, Piece, PieceKind, SnapshotEnd,
        SnapshotHeader, Totals, checksum,
    },
    num::{u32_of, u64_of, usize_of},
};

/// This much is written at most before it is synced, so that a log on the same disk never waits for more. After a
/// crash, that much and what was written since the sync before is received again.
pub(super) const SYNC_BYTES: u64 = 4 << 20;
/// .. and so many chunks, where they are small.
const SYNC_CHUNKS: u64 = 16;

/// A directory of any disk.
pub(super) trait Dir: Send + Sync {
    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn DiskFile>>;
    fn list(&self) -> io::Result<Vec<String>>;
    fn remove(&self, name: &str) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
    fn path(&self, name: &str) -> PathBuf;
}

impl<D: Disk> Dir for D {
    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(Disk::open(self, name, how)?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Disk::list(self)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Disk::remove(self, name)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_dir()
    }

    fn path(&self, name: &str) -> PathBuf {
        Disk::path(self, name)
    }
}

/// Why something on a file failed.
pub(super) fn failed(op: &'static str, path: PathBuf, source: io::Error) -> LogError {
    if source.kind() == io::ErrorKind::StorageFull {
        LogError::NoSpace { path, source }
    } else {
        LogError::Io { op, path, source }
    }
}

/// An open file with a header.
pub(super) struct SnapshotFile {
    pub(super) file: Box<dyn DiskFile>,
    pub(super) path: PathBuf,
    pub(super) header: SnapshotHeader,
    pub(super) encoder: Arc<dyn Encoder>,
}

/// What a file begins with.
pub(super) fn front(file: &dyn DiskFile, path: &Path) -> Result<Front, LogError> {
    let mut front = vec![0; usize_of(FRONT_BYTES)];
    let read = file.read_at(0, &mut front);
    let read = read.map_err(|source| failed("read", path.to_owned(), source))?;
    Ok(Front::decode(front.get(..read).unwrap_or_default()))
}

impl SnapshotFile {
    pub(super) fn failed(&self, op: &'static str, source: io::Error) -> LogError {
        failed(op, self.path.clone(), source)
    }

    pub(super) fn corrupt(&self, piece: u64, what: &'static str) -> LogError {
        let offset = self.header.offset(piece);
        LogError::SnapshotCorrupt { path: self.path.clone(), offset, what }
    }

    /// Writes the front, not yet durably.
    pub(super) fn put_front(&self) -> Result<(), LogError> {
        self.file
            .write_at(0, &self.header.front(None))
            .map_err(|source| self.failed("write", source))
    }

    /// Makes the file complete: everything else must be durable. Writing it again makes sure that it is.
    pub(super) fn put_end(&self, end: &SnapshotEnd) -> Result<(), LogError> {
        self.file
            .write_durable_at(0, &self.header.front(Some(end)))
            .map_err(|source| self.failed("write", source))
    }

    /// Writes a piece with what is in the buffer from [`PIECE_HEADER_BYTES`] on. Returns its bytes and its
    /// header's sum.
    pub(super) fn put(
        &self,
        kind: PieceKind,
        number: u64,
        durable: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<(u64, u64), LogError> {
        let at = usize_of(PIECE_HEADER_BYTES);
        let plain = u32_of(buffer.len() - at);
        let mut piece = Piece { kind, number, stored: plain, plain, durable, sum: 0 };
        if !self.encoder.keeps_bodies() {
            let refused = |source| LogError::Encoder { op: "encode a piece of a snapshot", source };
            let header = piece.associated(&self.header);
            self.encoder.encode(&header, buffer, at).map_err(refused)?;
        }
        let body = buffer.get(at..).unwrap_or_default();
        let limit = u64::from(self.header.stored_max(number));
        if u64_of(body.len()) > limit {
            let bytes = u64_of(body.len());
            return Err(LogError::TooLarge {
                what: "an encoded piece of a snapshot",
                bytes,
                limit,
            });
        }
        (piece.stored, piece.sum) = (u32_of(body.len()), checksum(body));
        let (header, sum) = piece.encode(&self.header);
        buffer.splice(..at, header);
        self.file
            .write_at(self.header.offset(number), buffer)
            .map_err(|source| self.failed("write", source))?;
        Ok((u64_of(buffer.len()), sum))
    }

    /// The header of a piece and its sum, if it is one.
    pub(super) fn header_of(&self, number: u64) -> Result<(Piece, u64), LogError> {
        let mut header = [0; 128];
        let read = self.file.read_at(self.header.offset(number), &mut header);
        let read = read.map_err(|source| self.failed("read", source))?;
        Piece::decode(header.get(..read).unwrap_or_default(), &self.header, number)
            .ok_or_else(|| self.corrupt(number, "the header of a piece has a wrong checksum"))
    }

    /// What a piece holds, and its header's sum.
    pub(super) fn get(&self, kind: PieceKind, number: u64) -> Result<(Vec<u8>, u64), LogError> {
        let (piece, sum) = self.header_of(number)?;
        if piece.kind != kind {
            return Err(self.corrupt(number, "a piece is of another kind"));
        }
        let at = self.header.offset(number) + PIECE_HEADER_BYTES;
        // A length is not believed before there are so many bytes.
        let len = self.file.len().map_err(|source| self.failed("read", source))?;
        if len.saturating_sub(at) < piece.stored.into() {
            return Err(self.corrupt(number, "the file ends in a piece"));
        }
        let mut body = vec![0; usize_of(piece.stored.into())];
        let read = self.file.read_at(at, &mut body);
        let read = read.map_err(|source| self.failed("read", source))?;
        if read != body.len() || checksum(&body) != piece.sum {
            return Err(self.corrupt(number, "a piece has a wrong checksum"));
        }
        if !self.encoder.keeps_bodies() {
            let header = piece.associated(&self.header);
            self.encoder
                .decode(&header, &mut body, piece.plain.into())
                .map_err(|_| self.corrupt(number, "a piece can't be decoded"))?;
        }
        if u64_of(body.len()) != u64::from(piece.plain) {
            return Err(self.corrupt(number, "a piece has another length than its header says"));
        }
        Ok((body, sum))
    }

    pub(super) fn about(&self) -> Result<About, LogError> {
        let (body, _) = self.get(PieceKind::About, 0)?;
        let about =
            About::decode(&body).ok_or_else(|| self.corrupt(0, "what it is of makes no sense"))?;
        let fits = (about.last, about.chunk_bytes) == (self.header.last, self.header.chunk_bytes);
        if fits {
            Ok(about)
        } else {
            Err(self.corrupt(0, "it is of something else than its header"))
        }
    }

    /// The last piece of a file with this end.
    pub(super) fn totals(&self, end: &SnapshotEnd) -> Result<Totals, LogError> {
        let number = end.chunks + 1;
        let (body, sum) = self.get(PieceKind::Last, number)?;
        let totals = Totals::decode(&body)
            .filter(|totals| sum == end.sum && totals.chunks == end.chunks)
            .filter(|it| it.bytes.div_ceil(self.header.chunk_bytes.into()) == it.chunks);
        totals.ok_or_else(|| self.corrupt(number, "the last piece is not that of the end"))
    }
}

/// A file that is being written.
pub(super) struct Output {
    pub(super) file: SnapshotFile,
    /// The number of the next piece.
    pub(super) next: u64,
    /// How many are durable.
    durable: u64,
    unsynced: u64,
    /// Something failed: nobody knows what is there.
    failed: bool,
    buffer: Vec<u8>,
}

impl Output {
    /// Begins a file.
    pub(super) fn begin(file: SnapshotFile, about: &[u8]) -> Result<Self, LogError> {
        let mut output = Self::resume(file, 0);
        output.file.put_front()?;
        output.unsynced = FRONT_BYTES;
        output.put(PieceKind::About, about)?;
        Ok(output)
    }

    /// Goes on with a file of which so many pieces are durable.
    pub(super) const fn resume(file: SnapshotFile, durable: u64) -> Self {
        Self { file, next: durable, durable, unsynced: 0, failed: false, buffer: Vec::new() }
    }

    fn once<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        if self.failed {
            return Err(LogError::BadSnapshot("writing it failed before; begin it anew"));
        }
        let done = work(self);
        self.failed = done.is_err();
        done
    }

    /// Adds a piece. Returns its header's sum.
    pub(super) fn put(&mut self, kind: PieceKind, body: &[u8]) -> Result<u64, LogError> {
        self.once(|it| {
            it.buffer.clear();
            it.buffer.resize(usize_of(PIECE_HEADER_BYTES), 0);
            it.buffer.extend_from_slice(body);
            let (bytes, sum) = it.file.put(kind, it.next, it.durable, &mut it.buffer)?;
            it.next += 1;
            it.unsynced += bytes;
            let chunks = SYNC_CHUNKS * u64::from(it.file.header.chunk_bytes);
            if it.unsynced >= SYNC_BYTES.min(chunks) {
                it.sync()?;
            }
            Ok(sum)
        })
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.file.file.sync_data().map_err(|source| self.file.failed("sync", source))?;
        (self.durable, self.unsynced) = (self.next, 0);
        Ok(())
    }

    /// Adds the last piece and the end.
    pub(super) fn finish(&mut self, dir: &dyn Dir, totals: Totals) -> Result<(), LogError> {
        let sum = self.put(PieceKind::Last, &totals.encode())?;
        self.once(|it| {
            it.sync()?;
            dir.sync().map_err(|source| it.file.failed("sync the directory of", source))?;
            it.file.put_end(&SnapshotEnd { chunks: totals.chunks, sum })
        })
    }
}
