//! Bodies as they are, with and without a checksum.

use super::{Encoder, EncoderError};

/// Bodies as they are, and no checksum of them. (Its id is 0.)
///
/// Damage to a payload goes unnoticed, as in a plain file. Headers are checked all the same, so the log knows
/// where its entries are, and a torn end is still told from a damaged one. A checksum costs next to nothing
/// beside a sync: rather take [`XxHashEncoder`], the default.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PlainEncoder;

impl Encoder for PlainEncoder {
    fn id(&self) -> u8 {
        0
    }

    fn checks_bodies(&self) -> bool {
        false
    }

    fn keeps_bodies(&self) -> bool {
        true
    }

    fn encode(&self, _: &[u8], _: &mut Vec<u8>, _: usize) -> Result<(), EncoderError> {
        Ok(())
    }

    fn decode(&self, _: &[u8], _: &mut Vec<u8>, _: u64) -> Result<(), EncoderError> {
        Ok(())
    }
}

/// Bodies as they are, with an XXH3 checksum of 64 bits. (Its id is 1, or 2 without the checksum.)
///
/// A checksum finds damage. It does not keep out somebody who can write to the file: [`EncryptingEncoder`]
/// does.
///
/// [`EncryptingEncoder`]: super::EncryptingEncoder
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct XxHashEncoder {
    /// Whether bodies are checked too, not only headers. Default true.
    pub body: bool,
}

impl Default for XxHashEncoder {
    fn default() -> Self {
        Self { body: true }
    }
}

impl Encoder for XxHashEncoder {
    fn id(&self) -> u8 {
        if self.body { 1 } else { 2 }
    }

    fn checks_bodies(&self) -> bool {
        self.body
    }

    fn keeps_bodies(&self) -> bool {
        true
    }

    fn encode(&self, _: &[u8], _: &mut Vec<u8>, _: usize) -> Result<(), EncoderError> {
        Ok(())
    }

    fn decode(&self, _: &[u8], _: &mut Vec<u8>, _: u64) -> Result<(), EncoderError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tinyraftplus_core::Identity;

    use super::*;

    #[test]
    fn bodies_stay_as_they_are() {
        let encoders: [&dyn Encoder; 3] =
            [&PlainEncoder, &XxHashEncoder::default(), &XxHashEncoder { body: false }];
        for encoder in encoders {
            let mut buffer = b"before body".to_vec();
            encoder.encode(b"header", &mut buffer, 7).unwrap();
            assert_eq!(buffer, b"before body", "{encoder:?}");
            encoder.decode(b"header", &mut buffer, 11).unwrap();
            assert_eq!(buffer, b"before body", "{encoder:?}");
            assert_eq!(encoder.encoded_bytes_max(11), 11);
            assert_eq!(encoder.key_check(Identity::new(7)), [0; 16]);
        }
    }

    /// They are in every log that was ever written.
    #[test]
    fn ids_stay_what_they_are() {
        assert_eq!((PlainEncoder.id(), PlainEncoder.checks_bodies()), (0, false));
        let checked = XxHashEncoder::default();
        assert_eq!((checked.id(), checked.checks_bodies()), (1, true));
        let unchecked = XxHashEncoder { body: false };
        assert_eq!((unchecked.id(), unchecked.checks_bodies()), (2, false));
    }
}
