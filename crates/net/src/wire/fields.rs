//! Tagged fields: what messages are made of, so that versions can differ.
//!
//! A field is a tag, a varint: its number twice, and one more if bytes follow. Then a varint: the value, or how many
//! bytes follow. Whoever does not know a number can skip the field. Numbers below [`ITEMS`] occur once (of several the
//! last counts), [`ITEMS`] once an item.

use bytes::{Bytes, BytesMut};

use super::DecodeError;

/// The number of the field that may occur any number of times.
pub(crate) const ITEMS: u8 = 16;
/// Numbers of single fields are below this.
const SINGLES: usize = 12;
/// Payloads of so many bytes are not copied, but shared by all receivers.
const SHARED_BYTES_MIN: usize = 1024;
/// The longest varint: 64 bits, seven a byte.
const VARINT_BYTES_MAX: usize = 10;

/// An encoded message: pieces that follow each other, so that payloads need not be copied. A clone shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) bytes: usize,
}

impl Encoded {
    /// All in one piece.
    pub(crate) fn join(mut self) -> Bytes {
        if self.pieces.len() == 1 {
            return self.pieces.pop().unwrap_or_default();
        }
        let mut joined = BytesMut::with_capacity(self.bytes);
        for piece in &self.pieces {
            joined.extend_from_slice(piece);
        }
        joined.freeze()
    }
}

/// Writes fields, or counts what they would take.
#[derive(Default)]
pub(crate) struct Writer {
    is_counting: bool,
    bytes: usize,
    pieces: Vec<Bytes>,
    tail: BytesMut,
}

impl Writer {
    pub(crate) fn finish(mut self) -> Encoded {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.freeze());
        }
        Encoded { pieces: self.pieces, bytes: self.bytes }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        if !self.is_counting {
            self.tail.extend_from_slice(bytes);
        }
    }

    pub(crate) fn varint(&mut self, number: u64) {
        let (bytes, count) = varint(number);
        self.put(bytes.get(..count).unwrap_or_default());
    }

    /// A number; 0 is the same as no field.
    pub(crate) fn number(&mut self, field: u8, number: u64) {
        if number != 0 {
            self.given(field, Some(number));
        }
    }

    /// A number that differs from none, even if it is 0.
    pub(crate) fn given(&mut self, field: u8, number: Option<u64>) {
        if let Some(number) = number {
            self.varint(u64::from(field) * 2);
            self.varint(number);
        }
    }

    pub(crate) fn bytes(&mut self, field: u8, bytes: &[u8]) {
        self.head(field, bytes.len());
        self.put(bytes);
    }

    /// Bytes that are shared rather than copied, if that is worth it.
    pub(crate) fn payload(&mut self, field: u8, payload: &Bytes) {
        self.head(field, payload.len());
        if payload.len() < SHARED_BYTES_MIN || self.is_counting {
            self.put(payload);
            return;
        }
        self.bytes += payload.len();
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
        self.pieces.push(payload.clone());
    }

    /// Fields in a field. Called twice, because their length comes first.
    pub(crate) fn nested(&mut self, field: u8, fields: impl Fn(&mut Self)) {
        let mut count = Self { is_counting: true, ..Self::default() };
        fields(&mut count);
        self.head(field, count.bytes);
        fields(self);
    }

    fn head(&mut self, field: u8, bytes: usize) {
        self.varint(u64::from(field) * 2 + 1);
        self.varint(bytes as u64);
    }
}

fn varint(mut number: u64) -> ([u8; VARINT_BYTES_MAX], usize) {
    let mut bytes = [0; VARINT_BYTES_MAX];
    let mut count = 0;
    for byte in &mut bytes {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        *byte = if number == 0 { low } else { low | 0x80 };
        count += 1;
        if number == 0 {
            break;
        }
    }
    (bytes, count)
}

/// Takes a varint off the front.
pub(crate) fn take_varint(rest: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut number = 0_u64;
    for at in 0..VARINT_BYTES_MAX {
        let (&byte, after) = rest.split_first().ok_or(DecodeError::Cut)?;
        *rest = after;
        let low = u64::from(byte & 0x7f);
        let shifted = low << (7 * at);
        if shifted >> (7 * at) != low {
            break;
        }
        number |= shifted;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(DecodeError::Malformed("a number of more than 64 bits"))
}

/// The fields of a message, or of a field of one.
pub(crate) struct Fields<'a> {
    /// One bit a field that is there: first those that are numbers, then those that are bytes.
    has: [u16; 2],
    numbers: [u64; SINGLES],
    bytes: [&'a [u8]; SINGLES],
    pub(crate) items: Vec<&'a [u8]>,
}

impl<'a> Fields<'a> {
    /// Reads them all. `room` is how many items there may be yet.
    pub(crate) fn read(mut rest: &'a [u8], room: &mut usize) -> Result<Self, DecodeError> {
        let mut fields =
            Self { has: [0; 2], numbers: [0; SINGLES], bytes: [&[]; SINGLES], items: Vec::new() };
        while !rest.is_empty() {
            let tag = take_varint(&mut rest)?;
            let field = usize::try_from(tag / 2).unwrap_or(usize::MAX);
            let value = take_varint(&mut rest)?;
            if tag % 2 == 0 {
                if let Some(number) = fields.numbers.get_mut(field) {
                    *number = value;
                    fields.has[0] |= 1 << field;
                }
                continue;
            }
            let count = usize::try_from(value).map_err(|_| DecodeError::Cut)?;
            let (bytes, after) = rest.split_at_checked(count).ok_or(DecodeError::Cut)?;
            rest = after;
            if let Some(place) = fields.bytes.get_mut(field) {
                *place = bytes;
                fields.has[1] |= 1 << field;
            } else if field == usize::from(ITEMS) {
                *room = room.checked_sub(1).ok_or(DecodeError::Malformed("too many items"))?;
                fields.items.push(bytes);
            }
        }
        Ok(fields)
    }

    /// A number; 0 without the field.
    pub(crate) fn number(&self, field: u8) -> u64 {
        self.given(field).unwrap_or(0)
    }

    /// A number, if there is the field.
    pub(crate) fn given(&self, field: u8) -> Option<u64> {
        let is_there = self.has[0] & (1 << field) != 0;
        self.numbers.get(usize::from(field)).filter(|_| is_there).copied()
    }

    pub(crate) fn flag(&self, field: u8) -> bool {
        self.number(field) != 0
    }

    pub(crate) fn bytes(&self, field: u8) -> Option<&'a [u8]> {
        let is_there = self.has[1] & (1 << field) != 0;
        self.bytes.get(usize::from(field)).filter(|_| is_there).copied()
    }

    pub(crate) fn text(&self, field: u8) -> Result<Option<&'a str>, DecodeError> {
        let text = self.bytes(field).map(str::from_utf8).transpose();
        text.map_err(|_| DecodeError::Malformed("a text that is none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_lengths_come_back() {
        for shift in 0..64 {
            for number in [1_u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let (bytes, count) = varint(number);
                let mut rest = &bytes[..count];
                assert_eq!(take_varint(&mut rest), Ok(number));
                assert!(rest.is_empty());
                for cut in 0..count {
                    assert_eq!(take_varint(&mut &bytes[..cut]), Err(DecodeError::Cut));
                }
            }
        }
        let long = [[0xff; 9].as_slice(), &[2]].concat();
        assert!(matches!(take_varint(&mut &long[..]), Err(DecodeError::Malformed(_))));
        assert!(matches!(take_varint(&mut &[0xff; 11][..]), Err(DecodeError::Malformed(_))));
    }

    #[test]
    fn what_is_not_known_is_skipped_and_the_rest_is_read() {
        let mut writer = Writer::default();
        writer.number(11, 7);
        writer.given(12, Some(9));
        writer.bytes(15, b"new");
        writer.bytes(100, b"newer");
        writer.given(u8::MAX, Some(0));
        writer.nested(ITEMS, |writer| writer.bytes(1, b"item"));
        writer.bytes(0, b"zero");
        let bytes = writer.finish().join();
        let fields = Fields::read(&bytes, &mut 1).unwrap();
        assert_eq!((fields.number(11), fields.number(10)), (7, 0));
        assert_eq!((fields.bytes(0), fields.bytes(1)), (Some(&b"zero"[..]), None));
        assert_eq!(Fields::read(fields.items[0], &mut 0).unwrap().text(1), Ok(Some("item")));
        assert!(Fields::read(&bytes, &mut 0).is_err());
    }

    /// A length is compared with what is there before anything else is done with it.
    #[test]
    fn a_length_is_not_believed() {
        for length in [5, 1 << 32, u64::MAX] {
            let mut writer = Writer::default();
            writer.varint(3);
            writer.varint(length);
            writer.put(b"four");
            let bytes = writer.finish().join();
            assert_eq!(Fields::read(&bytes, &mut 9).err(), Some(DecodeError::Cut));
        }
    }

    #[test]
    fn large_payloads_are_shared_and_small_ones_are_not() {
        let large = Bytes::from(vec![7; SHARED_BYTES_MIN]);
        let mut writer = Writer::default();
        writer.nested(ITEMS, |writer| writer.payload(1, &large));
        writer.payload(2, &Bytes::from_static(b"small"));
        let encoded = writer.finish();
        assert_eq!(encoded.pieces.len(), 3);
        assert_eq!(encoded.pieces[1].as_ptr(), large.as_ptr());
        assert_eq!(encoded.bytes, encoded.pieces.iter().map(Bytes::len).sum::<usize>());
        assert_eq!(encoded.clone().join().len(), encoded.bytes);
    }
}
