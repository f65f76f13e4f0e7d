//! The bytes of a snapshot's file.
//!
//! It begins with a *front*: a header and a place for an end, twice, in blocks of their own. Then come pieces,
//! each in a place of a fixed size: what the snapshot is of, chunks, a last one that says how many there were.
//! The end is written when all else is durable, so it says that the snapshot is complete.

use std::sync::Arc;

use tinyraftplus_core::{Configurations, EntryId, Identity, Seq, Term};

use super::{FRAME_HEADER_BYTES, SECTOR_BYTES, Take, checksum, configuration};
use crate::{
    LogError, SnapshotId,
    num::{is_zero, round_up},
};

const MAGIC: [u8; 8] = *b"TRPsnp\r\n";
const END_MAGIC: [u8; 8] = *b"TRPend\r\n";
const PIECE_MAGIC: [u8; 4] = *b"TRPs";
/// The version of all this.
pub(crate) const SNAPSHOT_FORMAT: u16 = 1;
/// What comes before the pieces.
pub(crate) const FRONT_BYTES: u64 = 2 * COPY_BYTES;
/// A header, a place for an end, and zeros.
const COPY_BYTES: u64 = 4096;
/// The header of a piece.
pub(crate) const PIECE_HEADER_BYTES: u64 = FRAME_HEADER_BYTES;
/// No chunk is larger: what a reader needs memory for.
pub(crate) const CHUNK_BYTES_MAX: u32 = 1 << 20;
pub(crate) const CHUNK_BYTES_MIN: u32 = 1 << 10;
/// What a place may have at most, whatever an encoder makes of a body.
const PLACE_BYTES_MAX: u32 = 64 << 20;
/// Numbers beyond are nonsense, and nothing that is computed from those below overflows.
pub(crate) const SNAPSHOT_CHUNKS_MAX: u64 = 1 << 36;

/// What a snapshot's file begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SnapshotHeader {
    /// The log that has it.
    pub(crate) identity: Identity,
    pub(crate) id: SnapshotId,
    pub(crate) last: EntryId,
    /// It comes from another node, so a part of it is worth keeping.
    pub(crate) received: bool,
    pub(crate) encoder: u8,
    pub(crate) key_check: [u8; 16],
    /// What each chunk has, but for the last.
    pub(crate) chunk_bytes: u32,
    /// The size of the first place, and that of all others.
    pub(crate) about_place: u32,
    pub(crate) place: u32,
}

/// What its front ends with, once it is complete.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SnapshotEnd {
    pub(crate) chunks: u64,
    /// The header's sum of the last piece.
    pub(crate) sum: u64,
}

/// What there is at the front of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Front {
    /// It was never begun.
    Blank,
    Newer(u16),
    Damaged(u64, &'static str),
    /// Without an end, it was never finished.
    Header(SnapshotHeader, Option<SnapshotEnd>),
}

/// A sector, as it should be.
enum Sector<T> {
    Blank,
    Newer(u16),
    Damaged,
    Valid(T),
}

impl<T> Sector<T> {
    fn decode(
        bytes: &[u8],
        magic: [u8; 8],
        fields: impl FnOnce(Take<'_>) -> Option<T>,
        encode: impl FnOnce(&T) -> Vec<u8>,
    ) -> Self {
        if is_zero(bytes) {
            return Self::Blank;
        }
        let mut take = Take(bytes);
        if take.array() != Some(magic) {
            return Self::Damaged;
        }
        let Some((rest, sum)) = bytes.split_last_chunk() else { return Self::Damaged };
        if u64::from_le_bytes(*sum) != checksum(rest) {
            return Self::Damaged;
        }
        match take.u16() {
            Some(SNAPSHOT_FORMAT) => {}
            Some(newer @ 2..) => return Self::Newer(newer),
            Some(_) | None => return Self::Damaged,
        }
        // What is not looked at must be zeros.
        match fields(take) {
            Some(value) if encode(&value) == bytes => Self::Valid(value),
            Some(_) | None => Self::Damaged,
        }
    }
}

/// Begins a sector.
fn begin(magic: [u8; 8]) -> Vec<u8> {
    let mut out = magic.to_vec();
    out.extend(SNAPSHOT_FORMAT.to_le_bytes());
    out
}

/// Ends one.
fn seal(mut out: Vec<u8>) -> Vec<u8> {
    let bytes = usize::try_from(SECTOR_BYTES).unwrap_or_default();
    out.resize(bytes - 8, 0);
    out.extend(checksum(&out).to_le_bytes());
    out
}

impl SnapshotHeader {
    /// Places for what is stored of a body of so many bytes.
    pub(crate) fn place(stored_max: u64) -> Result<u32, LogError> {
        let bytes =
            round_up(PIECE_HEADER_BYTES.saturating_add(stored_max).min(1 << 62), SECTOR_BYTES);
        let limit = u64::from(PLACE_BYTES_MAX);
        u32::try_from(bytes)
            .ok()
            .filter(|&place| place <= PLACE_BYTES_MAX)
            .ok_or(LogError::TooLarge { what: "a piece of a snapshot", bytes, limit })
    }

    /// Where a piece lies: the first says what the snapshot is of, then come the chunks.
    pub(crate) fn offset(&self, piece: u64) -> u64 {
        let chunk = |piece: u64| piece.saturating_mul(self.place.into());
        let chunks = piece.checked_sub(1).map(|before| u64::from(self.about_place) + chunk(before));
        FRONT_BYTES + chunks.unwrap_or(0)
    }

    /// What a piece may have as stored.
    pub(crate) const fn stored_max(&self, piece: u64) -> u32 {
        let place = if piece == 0 { self.about_place } else { self.place };
        place.saturating_sub(128)
    }

    fn sector(&self) -> Vec<u8> {
        let mut out = begin(MAGIC);
        out.extend([self.encoder, u8::from(self.received)]);
        out.extend(self.chunk_bytes.to_le_bytes());
        out.extend(self.identity.get().to_le_bytes());
        out.extend(self.id.get().to_le_bytes());
        out.extend(self.last.seq.get().to_le_bytes());
        out.extend(self.last.term.get().to_le_bytes());
        out.extend(self.key_check);
        out.extend(self.about_place.to_le_bytes());
        out.extend(self.place.to_le_bytes());
        seal(out)
    }

    fn fields(mut take: Take<'_>) -> Option<Self> {
        let (encoder, received) = (take.u8()?, take.u8()?);
        let chunk_bytes = take.u32()?;
        let header = Self {
            received: received > 0,
            encoder,
            chunk_bytes,
            identity: Identity::new(take.u128().filter(|&identity| identity > 0)?),
            id: SnapshotId::new(take.u128()?),
            last: take_entry(&mut take)?,
            key_check: take.array()?,
            about_place: take.u32()?,
            place: take.u32()?,
        };
        let place =
            |bytes: u32| (128..=PLACE_BYTES_MAX).contains(&bytes) && bytes.is_multiple_of(512);
        let chunk = (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&chunk_bytes);
        (place(header.about_place) && place(header.place) && chunk).then_some(header)
    }

    /// All of the front.
    pub(crate) fn front(&self, end: Option<&SnapshotEnd>) -> Vec<u8> {
        let mut copy = self.sector();
        copy.extend(end.map(|end| end.sector(self.id)).unwrap_or_default());
        copy.resize(usize::try_from(COPY_BYTES).unwrap_or_default(), 0);
        copy.repeat(2)
    }
}

impl SnapshotEnd {
    fn sector(&self, id: SnapshotId) -> Vec<u8> {
        let mut out = begin(END_MAGIC);
        out.extend(id.get().to_le_bytes());
        out.extend(self.chunks.to_le_bytes());
        out.extend(self.sum.to_le_bytes());
        seal(out)
    }

    fn fields(mut take: Take<'_>, id: SnapshotId) -> Option<Self> {
        (take.u128()? == id.get()).then_some(())?;
        let end = Self { chunks: take.u64()?, sum: take.u64()? };
        (end.chunks <= SNAPSHOT_CHUNKS_MAX).then_some(end)
    }
}

fn take_entry(take: &mut Take<'_>) -> Option<EntryId> {
    let seq = Seq::new(take.u64()?);
    let term = Term::new(take.u64()?);
    (seq < Seq::MAX).then_some(EntryId { term, seq })
}

impl Front {
    /// The front of a file, of which bytes that are not there are zeros.
    ///
    /// A sector is written whole or not at all, so one that is neither zeros nor valid is damaged. One valid copy
    /// is enough.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let mut front = bytes.to_vec();
        front.resize(usize::try_from(FRONT_BYTES).unwrap_or_default(), 0);
        let sector = usize::try_from(SECTOR_BYTES).unwrap_or_default();
        let copies = front.chunks(front.len() / 2);
        let (mut header, mut end): (Option<SnapshotHeader>, Option<SnapshotEnd>) = (None, None);
        let mut damaged = None;
        let mut at = 0;
        for copy in copies.clone() {
            let bytes = copy.get(..sector).unwrap_or_default();
            let found =
                Sector::decode(bytes, MAGIC, SnapshotHeader::fields, SnapshotHeader::sector);
            match found {
                Sector::Newer(format) => return Self::Newer(format),
                Sector::Valid(found) if header.is_some_and(|header| header != found) => {
                    return Self::Damaged(at, "the two headers differ");
                }
                Sector::Valid(found) => header = Some(found),
                Sector::Damaged => damaged = damaged.or(Some(at)),
                Sector::Blank => {}
            }
            at += COPY_BYTES;
        }
        let Some(header) = header else {
            return match damaged {
                Some(at) => Self::Damaged(at, "the header has a wrong checksum"),
                None if is_zero(&front) => Self::Blank,
                None => Self::Damaged(0, "there is no header"),
            };
        };
        let mut at = SECTOR_BYTES;
        for copy in copies {
            let bytes = copy.get(sector..2 * sector).unwrap_or_default();
            let fields = |take: Take<'_>| SnapshotEnd::fields(take, header.id);
            let found = Sector::decode(bytes, END_MAGIC, fields, |end| end.sector(header.id));
            match found {
                Sector::Newer(format) => return Self::Newer(format),
                Sector::Valid(found) if end.is_some_and(|end| end != found) => {
                    return Self::Damaged(at, "the two ends differ");
                }
                Sector::Valid(found) => end = Some(found),
                Sector::Damaged => damaged = damaged.or(Some(at)),
                Sector::Blank => {}
            }
            at += COPY_BYTES;
        }
        match (end, damaged) {
            (None, Some(at)) => Self::Damaged(at, "the end has a wrong checksum"),
            (end, _) => Self::Header(header, end),
        }
    }
}

/// What a piece is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PieceKind {
    About,
    Chunk,
    Last,
}

/// The header of a piece.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Piece {
    pub(crate) kind: PieceKind,
    /// How many are before it.
    pub(crate) number: u64,
    /// Bytes of its body as stored, and once decoded.
    pub(crate) stored: u32,
    pub(crate) plain: u32,
    /// How many were durable when this one was written.
    pub(crate) durable: u64,
    /// The sum of its body as stored.
    pub(crate) sum: u64,
}

impl Piece {
    /// The header, and its sum.
    pub(crate) fn encode(&self, of: &SnapshotHeader) -> (Vec<u8>, u64) {
        let mut out = PIECE_MAGIC.to_vec();
        let kind = match self.kind {
            PieceKind::About => 1,
            PieceKind::Chunk => 2,
            PieceKind::Last => 3,
        };
        out.extend([1, of.encoder, kind, 0]);
        out.extend(of.identity.get().to_le_bytes());
        out.extend(of.id.get().to_le_bytes());
        out.extend(self.number.to_le_bytes());
        out.extend(self.stored.to_le_bytes());
        out.extend(self.plain.to_le_bytes());
        out.extend(self.durable.to_le_bytes());
        out.extend(self.sum.to_le_bytes());
        out.resize(120, 0);
        let sum = checksum(&out);
        out.extend(sum.to_le_bytes());
        (out, sum)
    }

    /// What an encoder binds the body to: all of the header that does not follow from how it was stored.
    pub(crate) fn associated(&self, of: &SnapshotHeader) -> Vec<u8> {
        Self { stored: 0, durable: 0, sum: 0, ..*self }.encode(of).0
    }

    /// The header of the piece with this number, and its sum.
    pub(crate) fn decode(bytes: &[u8], of: &SnapshotHeader, number: u64) -> Option<(Self, u64)> {
        let mut take = Take(bytes);
        take.bytes(6)?;
        let kind = match take.u8()? {
            1 => PieceKind::About,
            2 => PieceKind::Chunk,
            3 => PieceKind::Last,
            _ => return None,
        };
        take.bytes(1 + 16 + 16)?;
        let piece = Self {
            number: take.u64()?,
            stored: take.u32()?,
            plain: take.u32()?,
            durable: take.u64()?,
            sum: take.u64()?,
            kind,
        };
        let fits = piece.number == number
            && piece.stored <= of.stored_max(number)
            && piece.plain <= PLACE_BYTES_MAX
            && piece.durable <= number
            && (piece.kind == PieceKind::About) == (number == 0);
        let (again, sum) = piece.encode(of);
        (fits && again == bytes).then_some((piece, sum))
    }
}

/// The body of the first piece.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct About {
    pub(crate) last: EntryId,
    pub(crate) chunk_bytes: u32,
    pub(crate) tables_bytes: u64,
    pub(crate) configurations: Option<Arc<Configurations>>,
}

impl About {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, LogError> {
        let mut out = self.last.seq.get().to_le_bytes().to_vec();
        out.extend(self.last.term.get().to_le_bytes());
        out.extend(self.chunk_bytes.to_le_bytes());
        out.extend(self.tables_bytes.to_le_bytes());
        out.push(u8::from(self.configurations.is_some()));
        if let Some(configurations) = self.configurations.as_deref() {
            configuration::put(&mut out, configurations)?;
        }
        Ok(out)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        let last = take_entry(&mut take)?;
        let (chunk_bytes, tables_bytes) = (take.u32()?, take.u64()?);
        let configurations = match take.u8()? {
            0 => None,
            1 => Some(Arc::new(configuration::take(&mut take)?)),
            _ => return None,
        };
        take.0.is_empty().then_some(Self { last, chunk_bytes, tables_bytes, configurations })
    }
}

/// The body of the last piece.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Totals {
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
    pub(crate) digest: u64,
}

impl Totals {
    pub(crate) fn encode(self) -> Vec<u8> {
        [self.chunks, self.bytes, self.digest].into_iter().flat_map(u64::to_le_bytes).collect()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        let totals = Self { chunks: take.u64()?, bytes: take.u64()?, digest: take.u64()? };
        take.0.is_empty().then_some(totals)
    }
}
