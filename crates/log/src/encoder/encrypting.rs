//! Bodies that only the holder of a key can read or write.
//!
//! XChaCha20-Poly1305, a frame at a time, in place. A stored body is
//!
//! | bytes | what |
//! | --- | --- |
//! | as many as the body | ciphertext |
//! | 16 | tag, over the ciphertext and what the frame's header says |
//! | 24 | nonce |
//!
//! The associated data is what the header says, zeros, and its length in 8 bytes (little-endian): a multiple of
//! 64 bytes in all. No two headers are the same so padded. (Poly1305 takes 64 bytes at a time; if the body is not in
//! step with that, all of it takes a seventh longer.)
//!
//! **What it keeps.** Without the key nobody reads a payload, nobody changes one, and nobody
//! moves a body to another frame, log or place in it: the header is authenticated with it, and says which it is.
//! Anybody who has the files sees what headers say: how many entries of which length, when they were synced,
//! terms and votes (as identities), and in the headers of files the names of a cluster's members. Headers have checksums only, so who can write to the files can destroy the
//! log or its end, and can put back an older copy of all of it.
//!
//! **Why a nonce is never used twice.** With the same key and nonce, two bodies would give away their difference,
//! and the key of the tag. So all 24 bytes of each frame's nonce come from the operating system's generator.
//! There is no state of ours that two openings, clones of the encoder, forked processes or two copies of a
//! virtual machine could share (Linux reseeds when the hypervisor says that the machine was copied); neither a counter nor a crash can go
//! back. Among 2^64 frames under one key, two equal nonces have a probability of 2^-65. The call costs 0.3 us; the
//! rest of sealing an empty frame 2 us, the sync after it 100 us and more: a generator in our memory would save
//! nothing that shows.
//!
//! **Why the key check tells nothing.** Frames are sealed with one subkey, the key check is `BLAKE2b` of the log's
//! identity under another ([`Key::subkey`]). `BLAKE2b` with a secret key is a pseudorandom function: its output
//! can't be told from random bytes without the key, nor does the output for one identity say anything about
//! another, so equal keys of two logs can't be seen. It lets somebody with the file check a guessed passphrase,
//! which any frame does as well.
//!
//! The tag does not replace the checksum of the stored body: recovery checks bodies without decrypting them,
//! and damage to a disk is told from a wrong key.

use std::fmt;

use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce, aead::AeadInOut};
use tinyraftplus_core::Identity;

use super::{Encoder, EncoderError, Key};
use crate::num::u64_of;

const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;

/// Bodies that only the holder of a key can read or write: XChaCha20-Poly1305, a random nonce for every frame.
/// (Its id is 3.)
///
/// Each body takes 40 bytes more. Payloads are hidden; their number, their lengths, terms and votes, and the
/// names of a cluster's members are not. What was changed, moved elsewhere or taken from another log is refused; an older copy
/// of all files can't be told from the log as it was then.
///
/// ```
/// use std::sync::Arc;
/// use tinyraftplus_log::{EncryptingEncoder, Key, LogOptions};
///
/// let mut options = LogOptions::default();
/// options.encoder = Arc::new(EncryptingEncoder::new(&Key::generate()?));
/// # Ok::<(), tinyraftplus_log::KeyError>(())
/// ```
#[derive(Clone)]
pub struct EncryptingEncoder {
    frames: Key,
    check: Key,
}

impl EncryptingEncoder {
    /// Encrypts with this key. The same key may serve any number of logs, each node's own among them.
    pub fn new(key: &Key) -> Self {
        Self { frames: key.subkey("log frames 1"), check: key.subkey("log key check 1") }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.frames.reveal().into())
    }
}

/// Says that there is a key, and nothing about it.
impl fmt::Debug for EncryptingEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptingEncoder").finish_non_exhaustive()
    }
}

impl Encoder for EncryptingEncoder {
    fn id(&self) -> u8 {
        3
    }

    fn key_check(&self, identity: Identity) -> [u8; 16] {
        self.check.mac(&identity.get().to_le_bytes())
    }

    fn encoded_bytes_max(&self, bytes: u64) -> u64 {
        bytes.saturating_add(40)
    }

    fn encode(&self, header: &[u8], buffer: &mut Vec<u8>, at: usize) -> Result<(), EncoderError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|error| {
            EncoderError::new(format!("the operating system has no random numbers: {error}"))
        })?;
        let data = associated_data(header);
        let body = buffer.get_mut(at..).ok_or_else(|| EncoderError::new("there is no body"))?;
        let tag = self.cipher().encrypt_inout_detached(&XNonce::from(nonce), &data, body.into());
        let tag = tag
            .map_err(|_| EncoderError::new("the body is too large to be encrypted in one piece"))?;
        buffer.extend_from_slice(&tag);
        buffer.extend_from_slice(&nonce);
        Ok(())
    }

    fn decode(&self, header: &[u8], body: &mut Vec<u8>) -> Result<(), EncoderError> {
        let short = || EncoderError::new("the body is too short to be an encrypted one");
        let (rest, nonce) = body.split_last_chunk_mut::<NONCE_BYTES>().ok_or_else(short)?;
        let (text, tag) = rest.split_last_chunk_mut::<TAG_BYTES>().ok_or_else(short)?;
        let bytes = text.len();
        let data = associated_data(header);
        self.cipher()
            .decrypt_inout_detached(&XNonce::from(*nonce), &data, text.into(), &Tag::from(*tag))
            .map_err(|_| {
                EncoderError::new(
                    "the body can't be decrypted: it was changed, written for another place, or with another key",
                )
            })?;
        body.truncate(bytes);
        Ok(())
    }
}

/// The header so padded that the body is in step with the 64 bytes that Poly1305 takes at a time.
fn associated_data(header: &[u8]) -> Vec<u8> {
    let bytes = (header.len() + 8).next_multiple_of(64);
    let mut data = Vec::with_capacity(bytes);
    data.extend_from_slice(header);
    data.resize(bytes - 8, 0);
    data.extend_from_slice(&u64_of(header.len()).to_le_bytes());
    data
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use super::*;
    use crate::LogOptions;

    fn key() -> Key {
        Key::from_bytes(std::array::from_fn(|at| u8::try_from(at).unwrap()))
    }

    fn encoder() -> EncryptingEncoder {
        EncryptingEncoder::new(&key())
    }

    fn sealed(encoder: &EncryptingEncoder, header: &[u8], body: &[u8]) -> Vec<u8> {
        let mut buffer = [b"before", body].concat();
        encoder.encode(header, &mut buffer, 6).unwrap();
        assert_eq!(&buffer[..6], b"before");
        buffer.split_off(6)
    }

    fn opened(encoder: &EncryptingEncoder, header: &[u8], stored: &[u8]) -> Option<Vec<u8>> {
        let mut body = stored.to_vec();
        encoder.decode(header, &mut body).ok().map(|()| body)
    }

    #[test]
    fn bodies_are_read_as_written() {
        for bytes in [0, 1, 15, 16, 17, 63, 64, 65, 1000, 300_000] {
            let body = vec![0x5a; bytes];
            let stored = sealed(&encoder(), b"header", &body);
            assert_eq!(
                u64::try_from(stored.len()).unwrap(),
                encoder().encoded_bytes_max(body.len() as u64)
            );
            assert_eq!(opened(&encoder(), b"header", &stored), Some(body), "{bytes} bytes");
        }
    }

    /// Made by another implementation (`BLAKE2b` and ChaCha20-Poly1305 of Python, `HChaCha20` by hand): bodies that are
    /// in files somewhere stay readable.
    #[test]
    fn a_body_from_elsewhere_is_read() {
        let hex = "9e8a4e7f26d39389f7a68cd1a4eededf177f1913af6465666768696a6b6c6d6e6f707172737475767778797a7b";
        let stored: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        assert_eq!(opened(&encoder(), b"header", &stored).as_deref(), Some(b"hello".as_slice()));
        let check = encoder().key_check(Identity::new(7));
        assert_eq!(u128::from_le_bytes(check), 0x2abe_d46f_81d1_3609_0586_7257_2230_5762);
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let header = b"log 7, position 4096";
        let stored = sealed(&encoder(), header, b"a body of some length");
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(&encoder(), header, &flipped), None, "bit {bit} of the body");
        }
        for bit in 0..header.len() * 8 {
            let mut flipped = *header;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(&encoder(), &flipped, &stored), None, "bit {bit} of the header");
        }
        for bytes in 0..stored.len() {
            assert_eq!(opened(&encoder(), header, &stored[..bytes]), None, "cut to {bytes}");
        }
        assert_eq!(opened(&encoder(), header, &[stored.as_slice(), &[0]].concat()), None);
    }

    #[test]
    fn a_body_is_refused_under_another_header_or_key() {
        let stored = sealed(&encoder(), b"position 4096", b"body");
        assert_eq!(opened(&encoder(), b"position 8192", &stored), None);
        for header in [b"position 4096\0".as_slice(), b"position 409", b""] {
            assert_eq!(opened(&encoder(), header, &stored), None);
        }
        let other = EncryptingEncoder::new(&Key::generate().unwrap());
        assert_eq!(opened(&other, b"position 4096", &stored), None);
        // Nor is the master key of any use as the key of frames.
        let raw = EncryptingEncoder { frames: key(), check: key() };
        assert_eq!(opened(&raw, b"position 4096", &stored), None);
    }

    /// Two clones, and two openings with the same key, are as far apart as two frames of one.
    #[test]
    fn equal_bodies_have_nothing_in_common() {
        let body = b"eight by".repeat(500);
        let first = encoder();
        let clone = first.clone();
        let mut nonces = BTreeSet::new();
        let mut pieces = BTreeSet::new();
        let mut count = 0;
        for encoder in [&first, &clone, &encoder(), &first] {
            let stored = sealed(encoder, b"header", &body);
            assert!(nonces.insert(stored[stored.len() - NONCE_BYTES..].to_vec()));
            // Any 8 bytes: neither of the body, nor twice.
            for piece in stored.windows(8) {
                assert!(!body.windows(8).any(|window| window == piece));
                pieces.insert(piece.to_vec());
                count += 1;
            }
        }
        assert_eq!(pieces.len(), count);
    }

    #[test]
    fn a_key_check_is_of_one_key_and_one_log() {
        let check = encoder().key_check(Identity::new(7));
        assert_eq!(encoder().key_check(Identity::new(7)), check);
        assert_ne!(encoder().key_check(Identity::new(8)), check);
        let other = EncryptingEncoder::new(&Key::generate().unwrap());
        assert_ne!(other.key_check(Identity::new(7)), check);
        assert_ne!(check, [0; 16]);
    }

    #[test]
    fn debug_output_has_nothing_of_the_key() {
        let options = LogOptions { encoder: Arc::new(encoder()), ..LogOptions::default() };
        assert!(format!("{options:#?}").contains("EncryptingEncoder { .. }"));
        assert_eq!(format!("{:?}", encoder()), "EncryptingEncoder { .. }");
    }

    /// A caller's mistake is an error, not a panic in the writer's thread.
    #[test]
    fn a_body_that_begins_behind_the_buffer_is_refused() {
        let mut buffer = vec![1, 2, 3];
        assert!(encoder().encode(b"", &mut buffer, 4).is_err());
        assert_eq!(buffer, [1, 2, 3]);
    }
}
