//! Lanes: three streams of messages over one connection, so that what is large never holds up what is urgent.
//!
//! A message is four bytes of length and then itself, and a lane is a stream of these. A record carries the next part
//! of one lane, and names it. The next record always goes to the first lane that has something: so an urgent
//! message waits for one record at most, whatever else is under way.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::session::CONTENT_BYTES_MAX;
use crate::wire::Lane;
use crate::wire::fields::Encoded;

/// Of control messages, so many wait at most: of more than that the oldest are dropped, since the newest say it all.
const CONTROL_COUNT_MAX: usize = 1024;
/// Of all others together so many in each lane. What comes then is dropped, since it could not be used without
/// what comes before it.
const COUNT_MAX: usize = 65_536;

const LENGTH_BYTES: usize = 4;
/// More memory than this a lane gives back as soon as it is empty: it is there for one large message, perhaps for weeks.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// The first byte of a record's content: what it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// The next part of this lane.
    Part(Lane),
    /// Are you there?
    Ping,
    /// The answer.
    Pong,
    /// Nothing comes after this.
    End,
}

impl Kind {
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Part(Lane::Control) => 0,
            Self::Part(Lane::Append) => 1,
            Self::Part(Lane::Bulk) => 2,
            Self::Ping => 3,
            Self::Pong => 4,
            Self::End => 5,
        }
    }

    /// `None` for what a newer version may send: it is skipped.
    pub(crate) const fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Part(Lane::Control),
            1 => Self::Part(Lane::Append),
            2 => Self::Part(Lane::Bulk),
            3 => Self::Ping,
            4 => Self::Pong,
            5 => Self::End,
            _ => return None,
        })
    }
}

/// What waits to be sent to one peer.
pub(crate) struct Outgoing {
    lanes: [Queue; 3],
    /// The most that may wait in each of the lanes that are not urgent.
    bytes_max: usize,
}

/// Messages, the first of which may be on its way already.
#[derive(Default)]
struct Queue {
    messages: VecDeque<Encoded>,
    bytes: usize,
    /// How much of the first message is gone.
    piece: usize,
    offset: usize,
    is_begun: bool,
}

impl Outgoing {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { lanes: Default::default(), bytes_max }
    }

    /// Puts a message at the end of its lane; says how many messages were dropped for lack of room, this one
    /// included. A message that is alone in its lane may be of any size.
    pub(crate) fn push(&mut self, lane: Lane, message: Encoded) -> u64 {
        let [control, append, bulk] = &mut self.lanes;
        let (queue, bytes_max, count_max) = match lane {
            Lane::Control => (control, self.bytes_max, CONTROL_COUNT_MAX),
            Lane::Append => (append, self.bytes_max, COUNT_MAX),
            Lane::Bulk => (bulk, self.bytes_max, COUNT_MAX),
        };
        let mut dropped = 0;
        while !queue.has_room(&message, bytes_max, count_max) {
            if lane != Lane::Control || !queue.drop_oldest() {
                return dropped + 1;
            }
            dropped += 1;
        }
        queue.bytes += message.bytes;
        queue.messages.push_back(message);
        dropped
    }

    /// Adds the next record's content to `content`, if there is anything to send.
    pub(crate) fn fill(&mut self, content: &mut Vec<u8>) -> bool {
        let lanes = self.lanes.iter_mut().zip([Lane::Control, Lane::Append, Lane::Bulk]);
        for (queue, lane) in lanes {
            if !queue.messages.is_empty() {
                content.push(Kind::Part(lane).byte());
                queue.fill(content);
                return true;
            }
        }
        false
    }

    /// Drops what is over a limit that became known only now, and says what: how many messages, and the largest. Nothing of
    /// them may be on its way.
    pub(crate) fn limit(&mut self, bytes_max: usize) -> Option<(u64, usize)> {
        let (mut count, mut largest) = (0, 0);
        for queue in &mut self.lanes {
            let is_too_large = |message: &Encoded| message.bytes > bytes_max;
            for message in queue.messages.iter().filter(|message| is_too_large(message)) {
                count += 1;
                largest = largest.max(message.bytes);
                queue.bytes -= message.bytes;
            }
            queue.messages.retain(|message| !is_too_large(message));
        }
        (count > 0).then_some((count, largest))
    }

    /// Drops everything; says how many messages that were.
    pub(crate) fn clear(&mut self) -> u64 {
        let count = self.lanes.iter().map(|queue| queue.messages.len() as u64).sum();
        self.lanes = Default::default();
        count
    }

    /// How many bytes of messages wait.
    pub(crate) fn bytes(&self) -> usize {
        self.lanes.iter().map(|queue| queue.bytes).sum()
    }
}

impl Queue {
    fn has_room(&self, message: &Encoded, bytes_max: usize, count_max: usize) -> bool {
        let fits = self.bytes.saturating_add(message.bytes) <= bytes_max;
        self.messages.is_empty() || fits && self.messages.len() < count_max
    }

    /// One that is begun stays: the rest of it is expected.
    fn drop_oldest(&mut self) -> bool {
        let dropped = self.messages.remove(usize::from(self.is_begun));
        self.bytes -= dropped.as_ref().map_or(0, |message| message.bytes);
        dropped.is_some()
    }

    fn fill(&mut self, content: &mut Vec<u8>) {
        while let Some(first) = self.messages.front() {
            if !self.is_begun {
                if CONTENT_BYTES_MAX - content.len() < LENGTH_BYTES {
                    return;
                }
                let length = u32::try_from(first.bytes).expect("limited when it was pushed");
                content.extend(length.to_le_bytes());
                self.is_begun = true;
            }
            while let Some(piece) = first.pieces.get(self.piece) {
                let rest = piece.get(self.offset..).unwrap_or_default();
                let part = rest.get(..CONTENT_BYTES_MAX - content.len()).unwrap_or(rest);
                content.extend_from_slice(part);
                if part.len() < rest.len() {
                    self.offset += part.len();
                    return;
                }
                self.piece += 1;
                self.offset = 0;
            }
            self.bytes -= first.bytes;
            self.messages.pop_front();
            (self.piece, self.offset, self.is_begun) = (0, 0, false);
        }
    }
}

/// A message over the limit of the receiver, which was told in no uncertain terms by both sides' options.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a message of {bytes} bytes is over the limit of {limit}; give all nodes the same")]
pub(crate) struct TooLarge {
    pub(crate) bytes: usize,
    pub(crate) limit: usize,
}

/// Puts the messages of a lane together again.
#[derive(Debug)]
pub(crate) struct Joiner {
    waiting: BytesMut,
    bytes_max: usize,
}

impl Joiner {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { waiting: BytesMut::new(), bytes_max }
    }

    /// Takes the next part of the lane.
    pub(crate) fn push(&mut self, part: &[u8]) {
        self.waiting.extend_from_slice(part);
    }

    /// The next message that is complete. Memory is taken for what has come, never for what a length says.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, TooLarge> {
        let Some((length, rest)) = self.waiting.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let bytes = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if bytes > self.bytes_max {
            return Err(TooLarge { bytes, limit: self.bytes_max });
        }
        if rest.len() < bytes {
            return Ok(None);
        }
        let message = self.waiting.split_to(LENGTH_BYTES + bytes).freeze();
        if self.waiting.is_empty() && self.waiting.capacity() + bytes > SPARE_BYTES_MAX {
            self.waiting = BytesMut::new();
        }
        Ok(Some(message.slice(LENGTH_BYTES..)))
    }

    /// Whether a message has begun and not ended.
    pub(crate) fn is_begun(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(byte: u8, bytes: usize) -> Encoded {
        Encoded { pieces: vec![vec![byte; bytes].into()], bytes }
    }

    fn record(outgoing: &mut Outgoing) -> Option<(Option<Kind>, Vec<u8>)> {
        let mut content = Vec::new();
        outgoing.fill(&mut content).then(|| {
            assert!(content.len() <= CONTENT_BYTES_MAX);
            (Kind::of(content[0]), content.split_off(1))
        })
    }

    /// `control_behind_bulk`, without a network: a heartbeat that comes while a batch of 16 MiB is under way is in the next
    /// record. Fails if records are made of the lanes in turn, or in order of arrival.
    #[test]
    fn a_control_message_waits_for_one_record() {
        let mut outgoing = Outgoing::new(32 << 20);
        outgoing.push(Lane::Bulk, message(3, 1 << 20));
        outgoing.push(Lane::Append, message(2, 16 << 20));
        for _ in 0..3 {
            assert_eq!(record(&mut outgoing).unwrap().0, Some(Kind::Part(Lane::Append)));
        }
        outgoing.push(Lane::Control, message(1, 10));
        outgoing.push(Lane::Control, message(1, 20));
        let (kind, content) = record(&mut outgoing).unwrap();
        assert_eq!((kind, content.len()), (Some(Kind::Part(Lane::Control)), 38));
        assert_eq!(record(&mut outgoing).unwrap().0, Some(Kind::Part(Lane::Append)));
    }

    /// Messages of all sizes, cut wherever records end and wherever pieces do.
    #[test]
    fn what_is_cut_into_records_comes_together_again() {
        let mut outgoing = Outgoing::new(usize::MAX);
        let sizes = [0, 1, 3, 65_000, 512, CONTENT_BYTES_MAX - 5, 4, 200_000, 0, 0, 70_000, 2];
        let lanes = [Lane::Control, Lane::Append, Lane::Bulk];
        for (at, size) in sizes.into_iter().enumerate() {
            let bytes: Bytes = (0..size).map(|byte| (byte % 251).to_le_bytes()[0]).collect();
            let cut = size / 3;
            let pieces = vec![bytes.slice(..cut), Bytes::new(), bytes.slice(cut..)];
            for lane in lanes.into_iter().take(1 + at % 3) {
                assert_eq!(outgoing.push(lane, Encoded { pieces: pieces.clone(), bytes: size }), 0);
            }
        }
        let mut joiners = lanes.map(|_| Joiner::new(200_000));
        let mut found = [const { Vec::new() }; 3];
        while let Some((kind, part)) = record(&mut outgoing) {
            let lane = lanes.iter().position(|&lane| kind == Some(Kind::Part(lane))).unwrap();
            joiners[lane].push(&part);
            while let Some(message) = joiners[lane].next().unwrap() {
                assert!(message.iter().enumerate().all(|(at, &it)| usize::from(it) == at % 251));
                found[lane].push(message.len());
            }
        }
        assert_eq!(found[0], sizes);
        let count = |least| sizes.iter().enumerate().filter(|(at, _)| at % 3 >= least).count();
        assert_eq!((found[1].len(), found[2].len()), (count(1), count(2)));
        assert!(joiners.iter().all(|joiner| !joiner.is_begun()));
        assert_eq!(outgoing.bytes(), 0);
    }

    /// `slow_reader`: of a peer that takes nothing, so much is kept and no more. Of urgent messages the newest.
    #[test]
    fn a_lane_that_is_full_drops() {
        let mut outgoing = Outgoing::new(1000);
        let mut dropped = 0;
        for _ in 0..100 {
            dropped += outgoing.push(Lane::Append, message(2, 300));
        }
        assert_eq!((dropped, outgoing.bytes()), (97, 900));
        // A batch over the limit is sent when it is alone.
        assert_eq!(outgoing.push(Lane::Bulk, message(3, 5000)), 0);
        assert_eq!(outgoing.push(Lane::Bulk, message(3, 1)), 1);
        assert_eq!(outgoing.clear(), 4);

        for byte in 0..5 {
            let dropped = outgoing.push(Lane::Control, message(byte, 300));
            assert_eq!(dropped, u64::from(byte > 2));
        }
        assert_eq!(outgoing.bytes(), 900);
        let (_, content) = record(&mut outgoing).unwrap();
        assert_eq!((content[4], content.len()), (2, 912));
        for _ in 0..3000 {
            outgoing.push(Lane::Control, message(9, 0));
        }
        assert_eq!(outgoing.clear(), CONTROL_COUNT_MAX as u64);
    }

    /// What has begun goes on, or the receiver would take the rest of another message for it.
    #[test]
    fn a_message_that_is_begun_is_not_dropped() {
        let mut outgoing = Outgoing::new(100_000);
        outgoing.push(Lane::Control, message(1, 90_000));
        let (_, first) = record(&mut outgoing).unwrap();
        assert_eq!(outgoing.push(Lane::Control, message(2, 50_000)), 1);
        assert_eq!(outgoing.push(Lane::Control, message(3, 5_000)), 0);
        let (_, second) = record(&mut outgoing).unwrap();
        let mut joiner = Joiner::new(100_000);
        joiner.push(&first);
        joiner.push(&second);
        assert_eq!(joiner.next().unwrap().map(|message| message.len()), Some(90_000));
        assert_eq!(joiner.next().unwrap().map(|message| message[0]), Some(3));
    }

    /// A large message comes once, and then small ones for weeks: the memory that it took is given back. Fails without `SPARE_BYTES_MAX`.
    #[test]
    fn memory_for_a_large_message_is_given_back() {
        let (mut joiner, part) = (Joiner::new(64 << 20), vec![7; 60_000]);
        for bytes in [20 << 20, 10_u32] {
            joiner.push(&bytes.to_le_bytes());
            for _ in 0..bytes.div_ceil(60_000) {
                joiner.push(&part);
            }
            joiner.waiting.truncate(LENGTH_BYTES + bytes as usize);
            assert_eq!(joiner.next().unwrap().map(|it| it.len()), Some(bytes as usize));
            let kept = joiner.waiting.capacity();
            assert!(kept <= SPARE_BYTES_MAX, "{kept} bytes are kept");
        }
    }

    /// `huge_frame`: refused before anything is kept for it.
    #[test]
    fn a_length_over_the_limit_is_refused_at_once() {
        let mut joiner = Joiner::new(1000);
        joiner.push(&1001_u32.to_le_bytes());
        let error = joiner.next().unwrap_err();
        let text = "a message of 1001 bytes is over the limit of 1000; give all nodes the same";
        assert_eq!(error.to_string(), text);
        let mut joiner = Joiner::new(usize::MAX);
        joiner.push(&u32::MAX.to_le_bytes());
        assert_eq!(joiner.next(), Ok(None));
        assert!(joiner.waiting.capacity() < 1000);
    }
}
