//! The header of a file: who the log is, and all it must not forget when older files are deleted.
//!
//! It is written twice, in two sectors, and a configuration may follow. Either copy is enough.

use tinyraftplus_core::{HardState, Identity, Seq, Term};

use super::{ENCODER_XXHASH, FORMAT, SECTOR_BYTES, Take, checksum};
use crate::num::usize_of;

const MAGIC: [u8; 8] = *b"TRPlog\r\n";

/// The header of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Segment {
    pub(crate) identity: Identity,
    /// Counts the files of a log from 0.
    pub(crate) number: u64,
    /// The position of the file's first byte.
    pub(crate) position: u64,
    /// How many bytes header and configuration take, with padding.
    pub(crate) header_bytes: u32,
    pub(crate) group_bytes_max: u64,
    pub(crate) hard: HardState,
    pub(crate) start: Seq,
    pub(crate) before: Term,
}

/// One copy of a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SegmentCopy {
    /// All zeros: not written.
    Blank,
    /// A header.
    Valid(Segment),
    /// A header of a newer version.
    Newer(u16),
    /// Began as a header.
    Damaged,
    /// Never was one.
    Foreign,
}

impl Segment {
    /// How many bytes the header takes without a configuration.
    pub(crate) const BYTES: u64 = 4096;

    /// Set in every frame of this file, and in no other.
    pub(crate) fn tag(&self) -> u64 {
        let mut bytes = [0; 24];
        let (identity, number) = bytes.split_at_mut(16);
        identity.copy_from_slice(&self.identity.get().to_le_bytes());
        number.copy_from_slice(&self.number.to_le_bytes());
        checksum(&bytes)
    }

    /// The bytes of the whole header.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(usize_of(SECTOR_BYTES));
        copy.extend(MAGIC);
        copy.extend(FORMAT.to_le_bytes());
        copy.extend([ENCODER_XXHASH, 0]);
        copy.extend(self.header_bytes.to_le_bytes());
        copy.extend(self.identity.get().to_le_bytes());
        for number in [self.number, self.position, self.group_bytes_max, self.hard.term.get()] {
            copy.extend(number.to_le_bytes());
        }
        copy.extend(self.hard.vote.map_or(0, Identity::get).to_le_bytes());
        copy.extend(self.start.get().to_le_bytes());
        copy.extend(self.before.get().to_le_bytes());
        // Room for the length and checksum of a configuration, the checksum of the last frame of the file
        // before, and an encoder's key check.
        copy.resize(usize_of(SECTOR_BYTES) - 8, 0);
        let sum = checksum(&copy);
        copy.extend(sum.to_le_bytes());
        let mut header = copy.clone();
        header.extend(copy);
        header.resize(usize_of(Self::BYTES), 0);
        header
    }

    /// What one copy, a sector, is.
    pub(crate) fn decode(sector: &[u8]) -> SegmentCopy {
        if sector.iter().all(|&byte| byte == 0) {
            return SegmentCopy::Blank;
        }
        if !sector.starts_with(&MAGIC) {
            return SegmentCopy::Foreign;
        }
        let Some((fields, sum)) = sector.split_last_chunk::<8>() else {
            return SegmentCopy::Damaged;
        };
        if checksum(fields) != u64::from_le_bytes(*sum) {
            return SegmentCopy::Damaged;
        }
        let mut take = Take(fields);
        match take.bytes(MAGIC.len()).and_then(|_| take.u16()) {
            Some(FORMAT) => Self::fields(take).map_or(SegmentCopy::Damaged, SegmentCopy::Valid),
            Some(version) => SegmentCopy::Newer(version),
            None => SegmentCopy::Damaged,
        }
    }

    fn fields(mut take: Take<'_>) -> Option<Self> {
        let encoder = take.u8()?;
        let _ = take.u8()?;
        let header_bytes = take.u32()?;
        let identity = Identity::new(take.u128()?);
        let (number, position, group_bytes_max) = (take.u64()?, take.u64()?, take.u64()?);
        let term = Term::new(take.u64()?);
        let vote = Some(take.u128()?).filter(|&vote| vote != 0).map(Identity::new);
        let (start, before) = (Seq::new(take.u64()?), Term::new(take.u64()?));
        let sound = encoder == ENCODER_XXHASH
            && u64::from(header_bytes) == Self::BYTES
            && position == 0
            && number == 0
            && start != Seq::MAX
            && (crate::LogOptions::GROUP_BYTES_MIN..=crate::LogOptions::GROUP_BYTES_MAX)
                .contains(&group_bytes_max);
        let hard = HardState { term, vote };
        sound.then_some(Self {
            identity,
            number,
            position,
            header_bytes,
            group_bytes_max,
            hard,
            start,
            before,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_copy_is_read_as_written_and_any_flip_is_noticed() {
        let segment = Segment {
            identity: Identity::new(5),
            number: 0,
            position: 0,
            header_bytes: 4096,
            group_bytes_max: 1 << 20,
            hard: HardState::default(),
            start: Seq::new(9),
            before: Term::new(1),
        };
        let header = segment.encode();
        assert_eq!(header.len(), 4096);
        for at in [0, 512] {
            let sector = &header[at..at + 512];
            assert_eq!(Segment::decode(sector), SegmentCopy::Valid(segment));
            for bit in 0..4096 {
                let mut flipped = sector.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(matches!(
                    Segment::decode(&flipped),
                    SegmentCopy::Damaged | SegmentCopy::Foreign
                ));
            }
        }
        assert_eq!(Segment::decode(&[0; 512]), SegmentCopy::Blank);
    }
}
