//! The header of a file: who the log is, and all it must not forget when older files are deleted.
//!
//! It is written twice, in two sectors, and so is a configuration that may follow. Either copy is enough.

use tinyraftplus_core::{Configurations, HardState, Identity, Seq, Term};

use super::{FORMAT, SECTOR_BYTES, Stamp, Tail, Take, checksum, configuration};
use crate::{
    LogError, Reset,
    num::{round_up, u32_of, usize_of},
};

const MAGIC: [u8; 8] = *b"TRPlog\r\n";

/// The header of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Segment {
    pub(crate) identity: Identity,
    /// Told to nobody: see [`Segment::stamp`].
    pub(crate) secret: u128,
    /// The id of the encoder, and what tells its key.
    pub(crate) encoder: u8,
    pub(crate) key_check: [u8; 16],
    /// What the disk is trusted to write whole or not at all.
    pub(crate) block: u64,
    pub(crate) group_bytes_max: u64,
    /// Counts the files of a log from 0.
    pub(crate) number: u64,
    /// The position of the file's first byte.
    pub(crate) position: u64,
    /// Where the frames of the file before it end, and the checksum of the last.
    pub(crate) last: Last,
    /// The term and vote at the beginning of this file.
    pub(crate) hard: HardState,
    /// Where the log starts.
    pub(crate) start: Reset,
    /// The log's end at the beginning of this file.
    pub(crate) tail: Tail,
    pub(crate) configuration: Option<StoredConfiguration>,
}

/// Where the frames of a file end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Last {
    pub(crate) end: u64,
    pub(crate) sum: u64,
}

/// Where to find a configuration, and how to check it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct StoredConfiguration {
    bytes: u32,
    sum: u64,
}

/// One copy of a header.
#[expect(clippy::large_enum_variant, reason = "looked at once, and not kept")]
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

impl StoredConfiguration {
    /// Where the two copies lie in the file.
    pub(crate) const fn offsets(self) -> [u64; 2] {
        [2 * SECTOR_BYTES, 2 * SECTOR_BYTES + round_up(self.bytes as u64, SECTOR_BYTES)]
    }

    /// The copies, as far as they are whole, of a header read in full.
    pub(crate) fn read(self, header: &[u8]) -> [Option<Configurations>; 2] {
        self.offsets().map(|at| {
            let bytes = header.get(usize_of(at)..)?.get(..usize_of(u64::from(self.bytes)))?;
            let mut take = Take(bytes);
            (checksum(bytes) == self.sum).then(|| configuration::take(&mut take))?
        })
    }
}

impl Segment {
    /// How many bytes a header takes at least.
    pub(crate) const BYTES: u64 = 4096;
    /// And at most: members are few, and their names are short.
    pub(crate) const BYTES_MAX: u64 = 1 << 20;

    /// No log gets there; a number or position is never believed from here on.
    pub(crate) const NUMBER_END: u64 = 1 << 62;
    pub(crate) const POSITION_END: u64 = 1 << 62;

    /// How many bytes header and configuration take, with padding.
    pub(crate) fn header_bytes(&self) -> u64 {
        let copies = self.configuration.map_or(0, |stored| {
            2 * SECTOR_BYTES + 2 * round_up(u64::from(stored.bytes), SECTOR_BYTES)
        });
        round_up(copies.max(1), Self::BYTES)
    }

    /// Where the first frame of this file lies.
    pub(crate) fn frames(&self) -> u64 {
        self.position.saturating_add(self.header_bytes())
    }

    /// Set in every frame of this file, and in no other.
    ///
    /// A payload may look like anything, and after a torn write recovery looks for frames between the bytes of
    /// payloads. The identity is known to every peer, so the tag takes a secret, too: who can't read the file
    /// can't make a frame.
    pub(crate) fn stamp(&self) -> Stamp {
        let mut bytes = Vec::with_capacity(40);
        bytes.extend(self.identity.get().to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.secret.to_le_bytes());
        Stamp { tag: checksum(&bytes), encoder: self.encoder, block: self.block }
    }

    /// The bytes of the whole header.
    pub(crate) fn encode(
        &mut self,
        configuration: Option<&Configurations>,
    ) -> Result<Vec<u8>, LogError> {
        let mut stored = Vec::new();
        self.configuration = None;
        if let Some(value) = configuration {
            configuration::put(&mut stored, value)?;
            self.configuration =
                Some(StoredConfiguration { bytes: u32_of(stored.len()), sum: checksum(&stored) });
        }
        let copy = self.sector();
        let mut header = copy.clone();
        header.extend(copy);
        if let Some(place) = self.configuration {
            for at in place.offsets() {
                header.resize(usize_of(at), 0);
                header.extend(&stored);
            }
        }
        header.resize(usize_of(self.header_bytes()), 0);
        Ok(header)
    }

    pub(crate) fn sector(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(usize_of(SECTOR_BYTES));
        copy.extend(MAGIC);
        copy.extend(FORMAT.to_le_bytes());
        let block_bits = u8::try_from(self.block.trailing_zeros()).unwrap_or(u8::MAX);
        copy.extend([self.encoder, block_bits]);
        copy.extend(u32_of(usize_of(self.header_bytes())).to_le_bytes());
        copy.extend(self.identity.get().to_le_bytes());
        for number in [self.number, self.position, self.group_bytes_max, self.hard.term.get()] {
            copy.extend(number.to_le_bytes());
        }
        copy.extend(self.hard.vote.map_or(0, Identity::get).to_le_bytes());
        copy.extend(self.start.start.get().to_le_bytes());
        copy.extend(self.start.before.get().to_le_bytes());
        copy.extend(self.secret.to_le_bytes());
        copy.extend(self.tail.end.get().to_le_bytes());
        copy.extend(self.tail.term.get().to_le_bytes());
        copy.extend(self.last.end.to_le_bytes());
        copy.extend(self.last.sum.to_le_bytes());
        copy.extend(self.key_check);
        let (bytes, sum) = self.configuration.map_or((0, 0), |stored| (stored.bytes, stored.sum));
        copy.extend(u64::from(bytes).to_le_bytes());
        copy.extend(sum.to_le_bytes());
        copy.resize(usize_of(SECTOR_BYTES) - 8, 0);
        let sum = checksum(&copy);
        copy.extend(sum.to_le_bytes());
        copy
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
        let (encoder, block_bits) = (take.u8()?, take.u8()?);
        let header_bytes = u64::from(take.u32()?);
        let identity = Some(take.u128()?).filter(|&it| it != 0).map(Identity::new)?;
        let (number, position, group_bytes_max) = (take.u64()?, take.u64()?, take.u64()?);
        let term = Term::new(take.u64()?);
        let vote = Some(take.u128()?).filter(|&vote| vote != 0).map(Identity::new);
        let start = take.start()?;
        let secret = take.u128()?;
        let tail = take.tail()?;
        let last = Last { end: take.u64()?, sum: take.u64()? };
        let key_check = take.array()?;
        let (bytes, sum) = (take.u64()?, take.u64()?);
        let bytes =
            u32::try_from(bytes).ok().filter(|&bytes| u64::from(bytes) < Self::BYTES_MAX / 4)?;
        if bytes == 0 && sum != 0 {
            return None;
        }
        let configuration = (bytes > 0).then_some(StoredConfiguration { bytes, sum });
        // Nothing in a later version of this format hides here: what is written again is written as zeros.
        if take.0.iter().any(|&byte| byte != 0) {
            return None;
        }
        let block = 1_u64.checked_shl(u32::from(block_bits))?;
        let hard = HardState { term, vote };
        let segment = Self {
            identity,
            secret,
            encoder,
            key_check,
            block,
            group_bytes_max,
            number,
            position,
            last,
            hard,
            start,
            tail,
            configuration,
        };
        let sound = header_bytes == segment.header_bytes()
            && (block == SECTOR_BYTES || block == 4096)
            && number < Self::NUMBER_END
            && position < Self::POSITION_END
            && position.is_multiple_of(Self::BYTES)
            && position.checked_sub(last.end).is_some_and(|gap| gap < Self::BYTES)
            && (number == 0) == (position == 0)
            && start.start != Seq::MAX
            && start.start <= tail.end
            && (crate::LogOptions::GROUP_BYTES_MIN..=crate::LogOptions::GROUP_BYTES_MAX)
                .contains(&group_bytes_max);
        sound.then_some(segment)
    }
}

#[cfg(test)]
mod tests {
    use tinyraftplus_core::{Member, NodeId, QuorumRule};

    use super::*;

    fn segment() -> Segment {
        Segment {
            identity: Identity::new(5),
            secret: 11,
            encoder: 3,
            key_check: [9; 16],
            block: 512,
            group_bytes_max: 1 << 20,
            number: 2,
            position: 8192,
            last: Last { end: 8000, sum: 77 },
            hard: HardState::default(),
            start: Reset { start: Seq::new(9), before: Term::new(1) },
            tail: Tail { end: Seq::new(11), term: Term::new(1) },
            configuration: None,
        }
    }

    #[test]
    fn either_copy_is_read_as_written_and_any_flip_is_noticed() {
        let mut segment = segment();
        let header = segment.encode(None).unwrap();
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

    #[test]
    fn either_copy_of_a_configuration_is_enough() {
        let member = |n: u64| Member::voter(NodeId::from(n), Identity::new(n.into()));
        let members = (1..=300).map(member).collect();
        let configuration =
            Configurations::found(members, QuorumRule::Majority, Seq::ZERO).unwrap();
        let mut segment = segment();
        let header = segment.encode(Some(&configuration)).unwrap();
        assert!(header.len() > 4096 && header.len().is_multiple_of(4096));
        assert_eq!(Segment::decode(&header[..512]), SegmentCopy::Valid(segment));
        let stored = segment.configuration.unwrap();
        let both = [Some(configuration.clone()), Some(configuration.clone())];
        assert_eq!(stored.read(&header), both);
        let [first, second] = stored.offsets().map(usize_of);
        let mut damaged = header;
        damaged[first + 3] ^= 1;
        assert_eq!(stored.read(&damaged), [None, Some(configuration)]);
        damaged[second + 3] ^= 1;
        assert_eq!(stored.read(&damaged), [None, None]);
    }
}
