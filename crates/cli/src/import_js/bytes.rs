//! The bytes of the JavaScript package's files, and what they mean.
//!
//! All numbers are signed, have 64 bits and begin with their highest byte. `NAME.lock` is empty or has the seq to
//! go back to, -1 for an empty log. `NAME.off` has a record an entry: seq, place and length of its body in
//! `NAME.log`, which has nothing but bodies. Three of the four layouts put checksums before lock and record.
#![expect(clippy::big_endian_bytes, reason = "it is not our format")]

use bytes::Bytes;
use crypto_secretbox::{AeadInPlace, KeyInit, XSalsa20Poly1305};
use tinyraftplus_log::Key;
use twox_hash::{XxHash3_128, XxHash32, XxHash64};

/// Which of the package's encoders wrote a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// `Encoder`, the default: no checksums.
    Plain,
    /// `XxHashEncoder` or `XxHashEncoder(true)`: checksums of records and bodies.
    XxHash,
    /// `XxHashEncoder(false)`: checksums of records.
    XxHashHeaders,
    /// `EncryptingEncoder` of 0.2.2: checksums of records, encrypted bodies.
    Encrypted,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Plain, Self::XxHash, Self::XxHashHeaders, Self::Encrypted];

    /// What it is called on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::XxHash => "xxhash",
            Self::XxHashHeaders => "xxhash-headers",
            Self::Encrypted => "encrypted",
        }
    }

    pub(super) const fn records(self) -> Records {
        match self {
            Self::Plain => Records::Plain,
            Self::XxHash | Self::XxHashHeaders | Self::Encrypted => Records::Hashed,
        }
    }

    /// Whether a changed byte of a body is noticed.
    pub const fn checks_bodies(self) -> bool {
        matches!(self, Self::XxHash | Self::Encrypted)
    }
}

/// What locks and records look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Records {
    Plain,
    Hashed,
}

impl Records {
    pub(super) const fn bytes(self) -> u64 {
        match self {
            Self::Plain => 24,
            Self::Hashed => 32,
        }
    }

    /// Where in a record the fields begin, after its checksum.
    pub(super) const fn fields(self) -> u64 {
        self.bytes() - 24
    }
}

/// Where the body of an entry is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Record {
    pub(super) seq: i64,
    pub(super) offset: i64,
    pub(super) len: i64,
}

/// Reads a record of as many bytes as its kind has. `None` if its checksum is wrong.
pub(super) fn record(records: Records, bytes: &[u8]) -> Option<Record> {
    let fields = match records {
        Records::Plain => bytes,
        Records::Hashed => {
            let (hash, fields) = bytes.split_first_chunk::<8>()?;
            (u64::from_be_bytes(*hash) == XxHash64::oneshot(0, fields)).then_some(fields)?
        }
    };
    let (numbers, rest) = fields.as_chunks::<8>();
    match numbers {
        [seq, offset, len] if rest.is_empty() => {
            let [seq, offset, len] = [seq, offset, len].map(|number| i64::from_be_bytes(*number));
            Some(Record { seq, offset, len })
        }
        _ => None,
    }
}

/// What a lock that is not empty says: the seq to go back to. `None` if its checksum or length is wrong.
pub(super) fn lock(bytes: &[u8]) -> Option<(Records, i64)> {
    if let Some((hash, seq)) = bytes.split_first_chunk::<4>()
        && let Ok(number) = <[u8; 8]>::try_from(seq)
    {
        let is_right = u32::from_be_bytes(*hash) == XxHash32::oneshot(0, seq);
        return is_right.then(|| (Records::Hashed, i64::from_be_bytes(number)));
    }
    <[u8; 8]>::try_from(bytes).ok().map(|number| (Records::Plain, i64::from_be_bytes(number)))
}

/// Whether this begins with the checksum of the rest.
pub(super) fn is_hashed(stored: &[u8]) -> bool {
    stored
        .split_first_chunk::<16>()
        .is_some_and(|(hash, body)| u128::from_be_bytes(*hash) == XxHash3_128::oneshot(body))
}

/// What opens bodies.
pub(super) enum Bodies {
    Raw,
    Hashed,
    Sealed(Box<XSalsa20Poly1305>),
}

impl Bodies {
    /// `None` if it takes a key and there is none.
    pub(super) fn new(layout: Layout, key: Option<&Key>) -> Option<Self> {
        match layout {
            Layout::Plain | Layout::XxHashHeaders => Some(Self::Raw),
            Layout::XxHash => Some(Self::Hashed),
            Layout::Encrypted => {
                let cipher = XSalsa20Poly1305::new(key?.reveal().into());
                Some(Self::Sealed(Box::new(cipher)))
            }
        }
    }

    /// How many bytes more than its payload a body has.
    pub(super) const fn overhead(&self) -> u64 {
        match self {
            Self::Raw => 0,
            Self::Hashed => 16,
            Self::Sealed(_) => 24 + 16,
        }
    }

    /// The payload of a body; what is wrong with it, if there is none.
    pub(super) fn open(&self, stored: &[u8]) -> Result<Bytes, &'static str> {
        match self {
            Self::Raw => Ok(Bytes::copy_from_slice(stored)),
            Self::Hashed if is_hashed(stored) => {
                Ok(Bytes::copy_from_slice(stored.get(16..).unwrap_or_default()))
            }
            Self::Hashed => Err("the checksum of the body does not fit it"),
            Self::Sealed(cipher) => unseal(cipher, stored)
                .ok_or("the body can't be decrypted: it is damaged, or encrypted with another key"),
        }
    }
}

/// libsodium's `crypto_secretbox_easy`, after its nonce: a tag, then the ciphertext.
fn unseal(cipher: &XSalsa20Poly1305, stored: &[u8]) -> Option<Bytes> {
    let (nonce, rest) = stored.split_first_chunk::<24>()?;
    let (tag, sealed) = rest.split_first_chunk::<16>()?;
    let mut payload = sealed.to_vec();
    cipher.decrypt_in_place_detached(nonce.into(), &[], &mut payload, tag.into()).ok()?;
    Some(payload.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: String = hex.split_whitespace().collect();
        digits
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// Bytes that the package wrote for 'abc', '', and 'de' in an open transaction.
    #[test]
    fn the_package_s_own_bytes() {
        assert_eq!(lock(&bytes("0000000000000001")), Some((Records::Plain, 1)));
        assert_eq!(lock(&bytes("f414a945 0000000000000001")), Some((Records::Hashed, 1)));
        assert_eq!(lock(&bytes("f414a945 0000000000000000")), None);
        for wrong in ["", "00", "00000000000001", "f414a9450000000000000001 00"] {
            assert_eq!(lock(&bytes(wrong)), None);
        }
        let second = Record { seq: 1, offset: 3, len: 0 };
        let plain = bytes("0000000000000001 0000000000000003 0000000000000000");
        assert_eq!(record(Records::Plain, &plain), Some(second));
        let hashed = bytes("b24a7fcedb9f71aa 0000000000000001 0000000000000003 0000000000000000");
        assert_eq!(record(Records::Hashed, &hashed), Some(second));
        assert_eq!(record(Records::Hashed, &plain), None);
        assert_eq!(record(Records::Plain, &hashed), None);
        let body = bytes("06b05ab6733a618578af5f94892f3950 616263");
        assert_eq!(Bodies::Hashed.open(&body), Ok("abc".into()));
        assert_eq!(Bodies::Hashed.open(&bytes("99aa06d3014798d86001c324468d497f")), Ok("".into()));
        Bodies::Hashed.open(&body[..18]).unwrap_err();
        Bodies::Hashed.open(b"").unwrap_err();
    }

    /// No checksum of eight bytes is three fields, so a record of one kind is none of the other.
    #[test]
    fn numbers_are_signed() {
        assert_eq!(lock(&[0xff; 8]), Some((Records::Plain, -1)));
        let record = record(Records::Plain, &[0xff; 24]).unwrap();
        assert_eq!((record.seq, record.offset, record.len), (-1, -1, -1));
    }
}
