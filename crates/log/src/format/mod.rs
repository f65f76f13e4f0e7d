//! The bytes of a log's file. Nothing outside this module knows them; `docs/format.md` has them in words.
//!
//! A file begins with a [`Segment`] header, twice. Then come frames: a header of [`FRAME_HEADER_BYTES`], a
//! body, zeros up to the next slot. Slots are as large as frame headers, so that no header crosses a sector.

mod body;
mod configuration;
mod frame;
mod segment;
mod snapshot;
mod summary;

pub(crate) use body::{
    BodyReader, ENTRY_OVERHEAD_MAX, EntryRecord, Record, put_compact, put_configuration, put_entry,
    put_known, put_repair, put_reset, put_summary, put_term, put_trim,
};
pub(crate) use configuration::configuration_bytes;
pub use configuration::{decode_configuration, decode_plan, encode_configuration, encode_plan};
pub(crate) use frame::{Frame, Slot, Stamp, Tail, flags, zero_sectors};
pub(crate) use segment::{Last, Segment, SegmentCopy};
pub(crate) use snapshot::{
    About, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, FRONT_BYTES, Front, PIECE_HEADER_BYTES, Piece,
    PieceKind, SNAPSHOT_CHUNKS_MAX, SNAPSHOT_FORMAT, SnapshotEnd, SnapshotHeader, Totals,
};
pub(crate) use summary::Summary;

use tinyraftplus_core::{Seq, Term};

use crate::Reset;

/// What a disk writes whole or not at all.
pub(crate) const SECTOR_BYTES: u64 = 512;
/// Frames begin at multiples of this.
pub(crate) const SLOT_BYTES: u64 = 128;
/// The header of a frame fills one slot.
pub(crate) const FRAME_HEADER_BYTES: u64 = SLOT_BYTES;
/// About how large the body of a frame gets, unless one batch is larger.
pub(crate) const FRAME_BODY_BYTES: u64 = 256 << 10;
/// The most that a seal may have; a file with more to say goes without one.
pub(crate) const SEAL_BYTES_MAX: u64 = 16 << 20;
/// The version of all this.
pub(crate) const FORMAT: u16 = 1;
/// The newest version of a frame: see [`Frame`].
pub(crate) const FRAME_FORMAT: u16 = 2;
/// The checksum of headers and bodies.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    twox_hash::XxHash3_64::oneshot(bytes)
}

/// Takes numbers off the front of bytes that may be too short, or anything at all.
#[derive(Clone, Copy)]
pub(crate) struct Take<'a>(pub(crate) &'a [u8]);

impl<'a> Take<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    #[inline]
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// A position, and the term of the entry before it; there is none before the first position.
    pub(crate) fn seq_and_term(&mut self) -> Option<(Seq, Term)> {
        let (seq, term) = (Seq::new(self.u64()?), Term::new(self.u64()?));
        (seq > Seq::ZERO || term == Term::ZERO).then_some((seq, term))
    }

    pub(crate) fn start(&mut self) -> Option<Reset> {
        self.seq_and_term().map(|(start, before)| Reset { start, before })
    }

    pub(crate) fn tail(&mut self) -> Option<Tail> {
        self.seq_and_term().map(|(end, term)| Tail { end, term })
    }

    /// A number in groups of seven bits, the lowest first.
    #[inline]
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

pub(crate) fn put_varint(buffer: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            buffer.push(low & 0x7f);
            return;
        }
        buffer.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_is_read_as_written_and_never_overflows() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut buffer = Vec::new();
            put_varint(&mut buffer, value);
            assert_eq!(Take(&buffer).varint(), Some(value));
            assert_eq!(Take(&buffer[..buffer.len() - 1]).varint(), None);
        }
        assert_eq!(Take(&[0xff; 20]).varint(), None);
        assert_eq!(
            Take(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).varint(),
            None
        );
    }
}
