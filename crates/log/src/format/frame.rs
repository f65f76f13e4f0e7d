//! The header of a frame.
//!
//! It says so much about itself that a frame can't be taken for another: which log, which place, which
//! opening, what came before. Three fields are there for the day after a power failure:
//!
//! * `begin`: where its commit group begins. No byte of a group is written before the group before it is
//!   durable, so everything before `begin` was durable when this frame was written. Damage before it is
//!   corruption, whatever it looks like.
//! * `zero_sectors`: how many sectors of its body hold nothing but zeros, because someone wrote zeros. A body
//!   with more of them never reached the disk whole; a body with wrong bytes but no more of them was damaged.
//! * `hard`: the term and vote in force, in every header, so that they outlive nearly anything.

use tinyraftplus_core::{EntryId, HardState, Identity, Seq, Term};

use super::{FORMAT, FRAME_FORMAT, FRAME_HEADER_BYTES, SECTOR_BYTES, SLOT_BYTES, Take, checksum};
use crate::{
    Unknown,
    num::{round_up, u64_of, usize_of},
};

const MAGIC: u32 = u32::from_le_bytes(*b"TRPf");

/// What a frame is and holds.
pub(crate) mod flags {
    /// The last frame of its group.
    pub(crate) const END: u16 = 1;
    /// Nothing but a mark that everything before is durable.
    pub(crate) const MARK: u16 = 2;
    /// A copy of the term and vote of the frame before it, in another sector.
    pub(crate) const COPY: u16 = 4;
    /// A [`COPY`] follows.
    pub(crate) const COPIED: u16 = 8;
    /// What lies between the group's begin and this frame was cut off and is void.
    pub(crate) const CUT: u16 = 16;
    /// The group changes the term or the vote.
    pub(crate) const HARD_STATE: u16 = 32;
    /// The body has a configuration.
    pub(crate) const CONFIGURATION: u16 = 64;
    /// The body has a reset.
    pub(crate) const RESET: u16 = 128;
    /// The body has a trim.
    pub(crate) const TRIM: u16 = 256;
    /// The body has entries.
    pub(crate) const ENTRIES: u16 = 512;
    /// The body has a new start of the log.
    pub(crate) const COMPACT: u16 = 1024;
    /// Every entry of the body has the term in force.
    pub(crate) const CURRENT: u16 = 2048;
    /// The last frame of a file: what all of it together does to the log, and where its entries lie.
    pub(crate) const SEAL: u16 = 4096;
    /// The body has entries that take the place of damaged ones. Format 2.
    pub(crate) const REPAIR: u16 = 8192;
    /// Damage may have hidden the end of the log, and nobody has said yet that it is known again. Format 2.
    pub(crate) const UNKNOWN_END: u16 = 16384;
    /// The same for the configuration. Format 2.
    pub(crate) const UNKNOWN_CONFIGURATION: u16 = 32768;
    /// Both.
    pub(crate) const UNKNOWN: u16 = UNKNOWN_END | UNKNOWN_CONFIGURATION;
    /// What makes a frame one of format 2.
    pub(crate) const NEWER: u16 = REPAIR | UNKNOWN;
    /// What a body has, of what the log does.
    pub(crate) const RECORDS: u16 = CONFIGURATION | RESET | TRIM | ENTRIES | COMPACT | REPAIR;
}

/// What all frames of a file have in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stamp {
    /// Of this file and no other; see [`super::Segment::stamp`].
    pub(crate) tag: u64,
    /// The id of the encoder of bodies.
    pub(crate) encoder: u8,
    /// What the disk is promised to write whole or not at all: groups begin at multiples of it, if it is more
    /// than a sector.
    pub(crate) block: u64,
}

/// The end of a log, and the term of its newest entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Tail {
    pub(crate) end: Seq,
    pub(crate) term: Term,
}

impl Tail {
    pub(crate) fn of(end: Seq, last: Option<EntryId>) -> Self {
        Self { end, term: last.map_or(Term::ZERO, |id| id.term) }
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Frame {
    pub(crate) flags: u16,
    pub(crate) position: u64,
    pub(crate) opening: u64,
    /// The header checksum of the frame before it.
    pub(crate) prev: u64,
    pub(crate) begin: u64,
    /// The log at `begin`.
    pub(crate) before: Tail,
    /// The seq of the first entry; without entries, the end of the log.
    pub(crate) first: Seq,
    pub(crate) count: u32,
    /// As stored.
    pub(crate) body_bytes: u32,
    /// Once decoded.
    pub(crate) plain_bytes: u32,
    pub(crate) zero_sectors: u32,
    pub(crate) hard: HardState,
    pub(crate) body_sum: u64,
}

/// What lies where a frame's header could be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Slot {
    /// All zeros.
    Blank,
    /// A header that was written here, and its checksum.
    Frame(Frame, u64),
    /// The header of a frame that a newer version wrote here.
    Newer(u16),
    /// Something else.
    Bad(&'static str),
}

/// What the header of a frame begins with, in this and all later versions.
struct Preamble {
    version: u16,
    encoder: u8,
    flags: u16,
    tag: u64,
    position: u64,
}

impl Preamble {
    fn take(take: &mut Take<'_>) -> Option<Self> {
        let _magic = take.u32()?;
        Some(Self {
            version: take.u8()?.into(),
            encoder: take.u8()?,
            flags: take.u16()?,
            tag: take.u64()?,
            position: take.u64()?,
        })
    }
}

impl Frame {
    /// The bytes, and the checksum that the next frame repeats.
    pub(crate) fn encode(&self, stamp: Stamp) -> ([u8; usize_header()], u64) {
        let mut out = Vec::with_capacity(usize_header());
        out.extend(MAGIC.to_le_bytes());
        let [version, _] = self.version().to_le_bytes();
        out.extend([version, stamp.encoder]);
        out.extend(self.flags.to_le_bytes());
        for number in [stamp.tag, self.position, self.opening, self.prev, self.begin] {
            out.extend(number.to_le_bytes());
        }
        for number in [self.before.end.get(), self.before.term.get(), self.first.get()] {
            out.extend(number.to_le_bytes());
        }
        for number in [self.count, self.body_bytes, self.plain_bytes, self.zero_sectors] {
            out.extend(number.to_le_bytes());
        }
        out.extend(self.hard.term.get().to_le_bytes());
        out.extend(self.hard.vote.map_or(0, Identity::get).to_le_bytes());
        out.extend(self.body_sum.to_le_bytes());
        let sum = checksum(&out);
        out.extend(sum.to_le_bytes());
        (out.try_into().expect("the fields fill the header"), sum)
    }

    /// What an encoder is told of the header: all but the fields that are computed from what it returns.
    pub(crate) fn associated(&self, stamp: Stamp) -> [u8; usize_header()] {
        let blank = Self { body_bytes: 0, zero_sectors: 0, body_sum: 0, ..*self };
        blank.encode(stamp).0
    }

    /// What these bytes are at this position of a file with this stamp.
    pub(crate) fn decode(bytes: &[u8], stamp: Stamp, position: u64) -> Slot {
        if bytes.first() == Some(&0) && bytes.iter().all(|&byte| byte == 0) {
            return Slot::Blank;
        }
        let Some((fields, sum)) =
            bytes.split_last_chunk::<8>().map(|(fields, sum)| (fields, u64::from_le_bytes(*sum)))
        else {
            return Slot::Bad("a frame header is cut short");
        };
        if !fields.starts_with(&MAGIC.to_le_bytes()) || checksum(fields) != sum {
            return Slot::Bad("the header of a frame is damaged");
        }
        let Some(preamble) = Preamble::take(&mut Take(fields)) else {
            return Slot::Bad("a frame header is cut short");
        };
        // These come first, and lie there in every version.
        if preamble.tag != stamp.tag {
            return Slot::Bad("a frame of another log or file lies here");
        }
        if preamble.position != position {
            return Slot::Bad("a frame that was written elsewhere lies here");
        }
        if preamble.version > FRAME_FORMAT {
            return Slot::Newer(preamble.version);
        }
        if preamble.encoder != stamp.encoder {
            return Slot::Bad("a frame of another encoder lies here");
        }
        match Self::fields(Take(fields)) {
            Some(frame) => Slot::Frame(frame, sum),
            None => Slot::Bad("the header of a frame has a value that no version writes"),
        }
    }

    /// Whether these bytes are the header of a frame of the file with this stamp, of whatever version and
    /// wherever it was written.
    pub(crate) fn is_of(bytes: &[u8], stamp: Stamp) -> bool {
        let Some((fields, sum)) = bytes.split_last_chunk::<8>() else { return false };
        fields.starts_with(&MAGIC.to_le_bytes())
            && checksum(fields) == u64::from_le_bytes(*sum)
            && Preamble::take(&mut Take(fields)).is_some_and(|found| found.tag == stamp.tag)
    }

    fn fields(mut take: Take<'_>) -> Option<Self> {
        let Preamble { version, flags, position, .. } = Preamble::take(&mut take)?;
        let opening = take.u64()?;
        let prev = take.u64()?;
        let begin = take.u64()?;
        let before = take.tail()?;
        let first = Seq::new(take.u64()?);
        let count = take.u32()?;
        let body_bytes = take.u32()?;
        let plain_bytes = take.u32()?;
        let zero_sectors = take.u32()?;
        let term = Term::new(take.u64()?);
        let vote = Some(take.u128()?).filter(|&vote| vote != 0).map(Identity::new);
        let body_sum = take.u64()?;
        let sound = version == Self::version_of(flags)
            && begin <= position
            && (flags & flags::ENTRIES != 0) == (count > 0)
            // Files begin before this, and no file is as long.
            && position < 1 << 63
            && first.checked_add(u64::from(count)).is_some();
        let hard = HardState { term, vote };
        let frame = Self {
            flags,
            position,
            opening,
            prev,
            begin,
            before,
            first,
            count,
            body_bytes,
            plain_bytes,
            zero_sectors,
            hard,
            body_sum,
        };
        sound.then_some(frame)
    }

    /// A frame says that it is of a newer format only if it has what older versions don't know.
    const fn version(&self) -> u16 {
        Self::version_of(self.flags)
    }

    const fn version_of(flags: u16) -> u16 {
        if flags & flags::NEWER != 0 { FRAME_FORMAT } else { FORMAT }
    }

    /// What damage may have hidden.
    pub(crate) const fn unknown(&self) -> Unknown {
        Unknown {
            end: self.has(flags::UNKNOWN_END),
            configuration: self.has(flags::UNKNOWN_CONFIGURATION),
        }
    }

    pub(crate) const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Whether its body has a checksum, with an encoder that gives bodies one or doesn't: everything but entries
    /// of the term in force has one in any case. Nobody may see a configuration, a trim or a term that was never
    /// written; of entries, whoever goes without checksums has said that he can.
    pub(crate) const fn is_checked(&self, by_encoder: bool) -> bool {
        let entries = self.flags & flags::RECORDS == flags::ENTRIES && self.has(flags::CURRENT);
        by_encoder || !entries || self.body_bytes == 0
    }

    /// Where its body begins.
    pub(crate) const fn body(&self) -> u64 {
        self.position + FRAME_HEADER_BYTES
    }

    /// Where its body ends.
    pub(crate) const fn body_end(&self) -> u64 {
        // Positions are checked against the limit of a group before a frame is believed.
        self.body().saturating_add(self.body_bytes as u64)
    }

    /// The position after its last entry.
    pub(crate) fn end(&self) -> Seq {
        self.first.checked_add(u64::from(self.count)).unwrap_or(Seq::MAX)
    }

    /// Where the next frame of the group begins: for one that is copied, in another block.
    pub(crate) const fn next_position(&self, stamp: Stamp) -> u64 {
        let next = round_up(self.body_end(), SLOT_BYTES);
        if self.has(flags::COPIED) && next / stamp.block == self.position / stamp.block {
            round_up(next, stamp.block)
        } else {
            next
        }
    }

    /// The copy that follows this frame, whose checksum is `sum`.
    pub(crate) fn copy(&self, sum: u64, stamp: Stamp) -> Self {
        Self {
            flags: (self.flags & (flags::CUT | flags::UNKNOWN))
                | flags::HARD_STATE
                | flags::COPY
                | flags::END,
            position: self.next_position(stamp),
            prev: sum,
            first: self.end(),
            count: 0,
            body_bytes: 0,
            plain_bytes: 0,
            zero_sectors: 0,
            body_sum: checksum(&[]),
            ..*self
        }
    }

    /// The frame at `position`, after the one with checksum `prev`, that this is the copy of. It is known
    /// exactly, if it had no body.
    pub(crate) fn original(&self, stamp: Stamp, position: u64, prev: u64) -> Option<(Self, u64)> {
        if !self.has(flags::COPY) {
            return None;
        }
        let flags =
            (self.flags & (flags::CUT | flags::UNKNOWN)) | flags::HARD_STATE | flags::COPIED;
        let original = Self { flags, position, prev, ..*self };
        let (_, sum) = original.encode(stamp);
        (sum == self.prev && original.next_position(stamp) == self.position)
            .then_some((original, sum))
    }
}

/// How many sectors after the first hold nothing of a body but zeros. The first has the frame's header.
pub(crate) fn zero_sectors(body_position: u64, body: &[u8]) -> u32 {
    // A body that begins with a sector has its header in the one before.
    let in_first = usize_of(round_up(body_position, SECTOR_BYTES) - body_position).min(body.len());
    let rest = body.get(in_first..).unwrap_or_default();
    let zero = rest
        .chunks(usize_of(SECTOR_BYTES))
        .filter(|part| part.iter().all(|&byte| byte == 0))
        .count();
    u32::try_from(u64_of(zero)).unwrap_or(u32::MAX)
}

const fn usize_header() -> usize {
    128
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { tag: 7, encoder: 1, block: SECTOR_BYTES };

    fn frame() -> Frame {
        Frame {
            flags: flags::ENTRIES | flags::COPIED,
            position: 4096,
            opening: 3,
            prev: 17,
            begin: 4096,
            before: Tail { end: Seq::new(5), term: Term::new(2) },
            first: Seq::new(5),
            count: 2,
            body_bytes: 300,
            plain_bytes: 300,
            zero_sectors: 0,
            hard: HardState { term: Term::new(4), vote: Some(Identity::new(99)) },
            body_sum: 1234,
        }
    }

    #[test]
    fn a_header_is_read_as_written_and_nowhere_else() {
        let (bytes, sum) = frame().encode(STAMP);
        assert_eq!(Frame::decode(&bytes, STAMP, 4096), Slot::Frame(frame(), sum));
        assert!(matches!(Frame::decode(&bytes, Stamp { tag: 8, ..STAMP }, 4096), Slot::Bad(_)));
        assert!(matches!(Frame::decode(&bytes, STAMP, 4224), Slot::Bad(_)));
        assert_eq!(Frame::decode(&[0; 128], STAMP, 4096), Slot::Blank);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Frame::decode(&flipped, STAMP, 4096), Slot::Bad(_)), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_is_no_damage_if_it_is_of_this_file() {
        let (mut bytes, _) = frame().encode(STAMP);
        bytes[4] = 3;
        bytes[5..8].fill(0xff);
        let sum = checksum(&bytes[..120]);
        bytes[120..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(Frame::decode(&bytes, STAMP, 4096), Slot::Newer(3));
        assert!(Frame::is_of(&bytes, STAMP));
        assert!(matches!(Frame::decode(&bytes, STAMP, 4224), Slot::Bad(_)));
        let other = Stamp { tag: 8, ..STAMP };
        assert!(matches!(Frame::decode(&bytes, other, 4096), Slot::Bad(_)));
        assert!(!Frame::is_of(&bytes, other));
    }

    #[test]
    fn a_copy_and_its_original_follow_from_each_other() {
        for position in [4096, 4224, 4352, 4480] {
            let original = Frame {
                flags: flags::HARD_STATE | flags::COPIED,
                position,
                count: 0,
                body_bytes: 0,
                plain_bytes: 0,
                body_sum: checksum(&[]),
                ..frame()
            };
            let (_, sum) = original.encode(STAMP);
            let copy = original.copy(sum, STAMP);
            assert_ne!(copy.position / SECTOR_BYTES, position / SECTOR_BYTES);
            assert_eq!(copy.original(STAMP, position, original.prev), Some((original, sum)));
            assert_eq!(copy.original(STAMP, position, original.prev + 1), None);
        }
    }

    #[test]
    fn only_written_zeros_count_as_zero_sectors() {
        let mut body = vec![0; 2000];
        assert_eq!(zero_sectors(128, &body), 4);
        assert_eq!(zero_sectors(512, &body), 4);
        body[384] = 1;
        assert_eq!(zero_sectors(128, &body), 3);
        assert_eq!(zero_sectors(128, &body[..384]), 0);
    }
}
