//! Bodies that only the holder of a key can read or write.
//!
//! XChaCha20-Poly1305, a frame at a time, in place. A body is cut into chunks of 128 KiB, of which the last may be
//! shorter, so that several threads can seal one. A body of no bytes is one chunk of none. A stored body is
//!
//! | bytes | what |
//! | --- | --- |
//! | as many as the body | the ciphertexts of all chunks, one after the other |
//! | 16 for each chunk | their tags in the same order, each over its ciphertext and what the frame's header says |
//! | 20 | random bytes |
//!
//! The nonce of a chunk is
//!
//! | bytes | what |
//! | --- | --- |
//! | 20 | the random bytes of the body |
//! | 4 | how many chunks come before it, and 2^31 more if it is the last (little-endian) |
//!
//! The associated data of each chunk is what the header says, zeros, and its length in 8 bytes (little-endian): a
//! multiple of 64 bytes in all. No two headers are the same so padded. (Poly1305 takes 64 bytes at a time; if the
//! chunk is not in step with that, all of it takes a seventh longer.)
//!
//! **What it keeps.** Without the key nobody reads a payload, nobody changes one, and nobody
//! moves a body to another frame, log or place in it: the header is authenticated with it, and says which it is.
//! Anybody who has the files sees what headers say: how many entries of which length, when they were synced,
//! terms and votes (as identities), and in the headers of files the names of a cluster's members. Headers have checksums only, so who can write to the files can destroy the
//! log or its end, and can put back an older copy of all of it.
//!
//! **Why chunks make one body.** This is the STREAM construction. A tag is right for one nonce only, and the nonce
//! says which body and where in it:
//!
//! * a chunk that was swapped, repeated or moved has another number there;
//! * if chunks were dropped from the end, none is marked as the last; if one was put behind the last, the last is
//!   marked too early; if one was dropped elsewhere, those behind it have wrong numbers;
//! * a chunk of another frame was sealed with other random bytes, and so was a chunk of the same frame when it was
//!   written before: not even two bodies sealed under equal headers can be mixed.
//!
//! The length of the body is in the header, so how many chunks there are is authenticated too. A body is given
//! out whole or not at all.
//!
//! **Why a nonce is never used twice.** With the same key and nonce, two chunks would give away their difference,
//! and the key of the tag. In a body no two chunks have the same number. For different bodies, the 20
//! bytes differ: they come from the operating system's generator, for each frame anew.
//! There is no state of ours that two openings, clones of the encoder, forked processes or two copies of a
//! virtual machine could share (Linux reseeds when the hypervisor says that the machine was copied); neither a
//! counter nor a crash can go back. Among 2^56 frames under one key (a million a second for two thousand years),
//! 160 random bits are equal for two with a probability of 2^-49. The call costs 0.3 us; the
//! rest of sealing an empty frame 2 us, the sync after it 100 us and more: a generator in our memory would save
//! nothing that shows.
//!
//! **Why the key check tells nothing.** Frames are sealed with one subkey, the key check is `BLAKE2b` of the log's
//! identity under another ([`Key::subkey`]). `BLAKE2b` with a secret key is a pseudorandom function: its output
//! can't be told from random bytes without the key, nor does the output for one identity say anything about
//! another, so equal keys of two logs can't be seen. It lets somebody with the file check a guessed passphrase,
//! which any frame does as well.
//!
//! The tags do not replace the checksum of the stored body: recovery checks bodies without decrypting them,
//! and damage to a disk is told from a wrong key.

use std::fmt;

use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce, aead::AeadInOut};
use tinyraftplus_core::Identity;

use super::{
    Encoder, EncoderError, Key,
    chunks::{Chunk, ChunkTag, chunk_count, for_each_chunk, threads_max},
};
use crate::num::u64_of;

const TAG_BYTES: usize = size_of::<ChunkTag>();
const RANDOM_BYTES: usize = 20;

/// Bodies that only the holder of a key can read or write: XChaCha20-Poly1305, a random nonce for every frame.
/// (Its id is 3.)
///
/// Each body takes 36 bytes more, and 16 for each 128 KiB after the first. Payloads are hidden; their number, their
/// lengths, terms and votes, and the names of a cluster's members are not. What was changed, moved elsewhere or taken
/// from another log is refused; an older copy of all files can't be told from the log as it was then.
///
/// A body of 512 KiB or more is encrypted and decrypted by up to four threads, but no more than there are cores:
/// whoever calls, and others that are started for it.
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
    threads: usize,
}

impl EncryptingEncoder {
    /// Encrypts with this key. The same key may serve any number of logs, each node's own among them.
    pub fn new(key: &Key) -> Self {
        Self {
            frames: key.subkey("log frames 1"),
            check: key.subkey("log key check 1"),
            threads: threads_max(),
        }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.frames.reveal().into())
    }

    /// Seals a body with these random bytes, which must never be used again.
    fn seal(
        &self,
        header: &[u8],
        buffer: &mut Vec<u8>,
        at: usize,
        random: [u8; RANDOM_BYTES],
    ) -> Result<(), EncoderError> {
        let body = buffer.get(at..).ok_or_else(|| EncoderError::new("there is no body"))?;
        let bytes = body.len();
        let tag_bytes = tag_bytes(bytes)
            .ok_or_else(|| EncoderError::new("a body of 4 GiB or more can't be encrypted"))?;
        buffer.resize(at + bytes + tag_bytes, 0);
        let (text, tags) = buffer.split_at_mut(at + bytes);
        let text = text.get_mut(at..).unwrap_or_default();
        let (cipher, data) = (self.cipher(), associated_data(header));
        let sealed = for_each_chunk(text, tags.as_chunks_mut().0, self.threads, |chunk| {
            let Chunk { place, text, tag } = chunk;
            let nonce = nonce(random, place);
            let sealed = cipher.encrypt_inout_detached(&nonce, &data, text.into());
            sealed.map(|sealed| *tag = sealed.into()).is_ok()
        });
        if !sealed {
            return Err(EncoderError::new("the body can't be encrypted"));
        }
        buffer.extend_from_slice(&random);
        Ok(())
    }

    /// The length of the body that is now at the front of a stored one.
    fn open(
        &self,
        header: &[u8],
        stored: &mut [u8],
        plain_bytes: u64,
    ) -> Result<usize, EncoderError> {
        let length = || EncoderError::new("the body has not the length of an encrypted one");
        let bytes = usize::try_from(plain_bytes).map_err(|_| length())?;
        let (rest, random) = stored.split_last_chunk_mut::<RANDOM_BYTES>().ok_or_else(length)?;
        let (text, tags) = rest.split_at_mut_checked(bytes).ok_or_else(length)?;
        if tag_bytes(bytes) != Some(tags.len()) {
            return Err(length());
        }
        let (cipher, data) = (self.cipher(), associated_data(header));
        let opened = for_each_chunk(text, tags.as_chunks_mut().0, self.threads, |chunk| {
            let Chunk { place, text, tag } = chunk;
            let nonce = nonce(*random, place);
            cipher.decrypt_inout_detached(&nonce, &data, text.into(), &Tag::from(*tag)).is_ok()
        });
        let refused = "the body can't be decrypted: it was changed, written for another place, or with another key";
        if opened { Ok(bytes) } else { Err(EncoderError::new(refused)) }
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
        let tags = chunk_count(bytes).saturating_mul(u64_of(TAG_BYTES));
        bytes.saturating_add(tags).saturating_add(u64_of(RANDOM_BYTES))
    }

    fn encode(&self, header: &[u8], buffer: &mut Vec<u8>, at: usize) -> Result<(), EncoderError> {
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(|error| {
            EncoderError::new(format!("the operating system has no random numbers: {error}"))
        })?;
        self.seal(header, buffer, at, random)
    }

    fn decode(
        &self,
        header: &[u8],
        body: &mut Vec<u8>,
        plain_bytes: u64,
    ) -> Result<(), EncoderError> {
        match self.open(header, body, plain_bytes) {
            Ok(bytes) => {
                body.truncate(bytes);
                Ok(())
            }
            Err(error) => {
                // No part of a body, however genuine, is taken for the whole.
                body.clear();
                Err(error)
            }
        }
    }
}

/// How many bytes the tags of a body take. A frame has less than 4 GiB, so that there are fewer than 2^15 of them.
fn tag_bytes(bytes: usize) -> Option<usize> {
    let bytes = u64::from(u32::try_from(bytes).ok()?);
    usize::try_from(chunk_count(bytes)).ok()?.checked_mul(TAG_BYTES)
}

fn nonce(random: [u8; RANDOM_BYTES], place: u32) -> XNonce {
    let mut nonce = XNonce::default();
    for (to, from) in nonce.iter_mut().zip(random.into_iter().chain(place.to_le_bytes())) {
        *to = from;
    }
    nonce
}

/// The header so padded that the chunk is in step with the 64 bytes that Poly1305 takes at a time.
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

    use super::{super::chunks::CHUNK_BYTES, *};
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

    /// Opens a body whose header says that it has the length that a stored one of this length has.
    fn opened(encoder: &EncryptingEncoder, header: &[u8], stored: &[u8]) -> Option<Vec<u8>> {
        opened_as(encoder, header, stored, plain_bytes(stored))
    }

    fn opened_as(
        encoder: &EncryptingEncoder,
        header: &[u8],
        stored: &[u8],
        plain_bytes: u64,
    ) -> Option<Vec<u8>> {
        let mut body = stored.to_vec();
        let decoded = encoder.decode(header, &mut body, plain_bytes);
        assert!(decoded.is_ok() || body.is_empty(), "a part of a body was given out");
        decoded.ok().map(|()| body)
    }

    fn plain_bytes(stored: &[u8]) -> u64 {
        let bytes = stored.len().saturating_sub(RANDOM_BYTES);
        let chunks = bytes.div_ceil(CHUNK_BYTES + TAG_BYTES).max(1);
        u64_of(bytes.saturating_sub(chunks * TAG_BYTES))
    }

    /// An encoder that works alone, and one that has three others to help it, on any machine.
    fn alone_and_helped() -> [EncryptingEncoder; 2] {
        [1, 4].map(|threads| EncryptingEncoder { threads, ..encoder() })
    }

    fn pattern(bytes: usize) -> Vec<u8> {
        (0..=250).cycle().take(bytes).collect()
    }

    #[test]
    fn bodies_are_read_as_written_by_any_number_of_threads() {
        const CHUNK: usize = 128 << 10;
        let mut lengths = vec![0, 1, 15, 16, 17, 63, 64, 65, 1000, CHUNK - 1, CHUNK, CHUNK + 1];
        let half = 512 << 10;
        lengths.extend([300_000, half - 1, half, half + 1, 1 << 20, (1 << 20) + 1, 3 << 20]);
        for bytes in lengths {
            let body = pattern(bytes);
            for sealer in alone_and_helped() {
                let stored = sealed(&sealer, b"header", &body);
                assert_eq!(u64_of(stored.len()), sealer.encoded_bytes_max(u64_of(bytes)));
                for opener in alone_and_helped() {
                    let found = opened_as(&opener, b"header", &stored, u64_of(bytes));
                    assert!(found.as_ref() == Some(&body), "{bytes} bytes");
                }
            }
        }
    }

    #[test]
    fn threads_write_what_one_writes() {
        let [alone, helped] = alone_and_helped().map(|encoder| {
            let mut buffer = pattern(3 << 20);
            encoder.seal(b"header", &mut buffer, 0, random()).unwrap();
            buffer
        });
        assert!(alone == helped);
    }

    /// 100, 101, and so on.
    fn random() -> [u8; RANDOM_BYTES] {
        std::array::from_fn(|at| u8::try_from(100 + at).unwrap())
    }

    fn from_hex(hex: &str) -> Vec<u8> {
        let digits: Vec<char> = hex.chars().collect();
        let bytes = digits.chunks(2).map(|pair| pair.iter().collect::<String>());
        bytes.map(|pair| u8::from_str_radix(&pair, 16).unwrap()).collect()
    }

    /// Made by another implementation (`BLAKE2b` and ChaCha20-Poly1305 of Python, `HChaCha20` by hand): bodies that are
    /// in files somewhere stay readable.
    #[test]
    fn a_body_from_elsewhere_is_read() {
        let hello =
            "9121f99fdf3dd55907cc4a1b558a905034a6bfab426465666768696a6b6c6d6e6f7071727374757677";
        let nothing = "b7dbbd2bf8f0255a80124d5c13a4f5826465666768696a6b6c6d6e6f7071727374757677";
        for (hex, body) in [(hello, b"hello".as_slice()), (nothing, b"")] {
            let stored = from_hex(hex);
            assert_eq!(opened(&encoder(), b"header", &stored).as_deref(), Some(body));
            let mut buffer = body.to_vec();
            encoder().seal(b"header", &mut buffer, 0, random()).unwrap();
            assert_eq!(buffer, stored);
        }
        // Of several chunks: `BLAKE2b` of the stored body under the key.
        for (bytes, mac) in [
            (131_072, "ad7d3defa7cd079645201cf053581a6f"),
            (131_073, "853becc851d989c8ada400eaa10cdad2"),
            (300_000, "cbb75fd9b26b6961144e7be61eddbcd4"),
            (1_048_576, "9224c8d8bcf0dbf81f750a55b1a4e5ec"),
        ] {
            let mut buffer = pattern(bytes);
            encoder().seal(b"header", &mut buffer, 0, random()).unwrap();
            assert_eq!(key().mac(&buffer).to_vec(), from_hex(mac), "{bytes} bytes");
        }
        let check = encoder().key_check(Identity::new(7));
        assert_eq!(u128::from_le_bytes(check), 0x2abe_d46f_81d1_3609_0586_7257_2230_5762);
    }

    /// A stored body, taken apart.
    #[derive(Clone)]
    struct Parts {
        chunks: Vec<(Vec<u8>, Vec<u8>)>,
        random: Vec<u8>,
    }

    impl Parts {
        fn of(stored: &[u8]) -> Self {
            let (rest, random) = stored.split_at(stored.len() - RANDOM_BYTES);
            let bytes = usize::try_from(plain_bytes(stored)).unwrap();
            let (text, tags) = rest.split_at(bytes);
            let chunks = text.chunks(CHUNK_BYTES).zip(tags.chunks(TAG_BYTES));
            let chunks = chunks.map(|(text, tag)| (text.to_vec(), tag.to_vec())).collect();
            Self { chunks, random: random.to_vec() }
        }

        /// What is opened of it, whatever length the header says.
        fn open(&self) -> Option<Vec<u8>> {
            let texts: Vec<u8> = self.chunks.iter().flat_map(|(text, _)| text.clone()).collect();
            let tags = self.chunks.iter().flat_map(|(_, tag)| tag.clone());
            let plain_bytes = u64_of(texts.len());
            let stored: Vec<u8> =
                texts.iter().copied().chain(tags).chain(self.random.clone()).collect();
            let [alone, helped] = alone_and_helped()
                .map(|encoder| opened_as(&encoder, b"header", &stored, plain_bytes));
            assert!(alone == helped);
            alone
        }
    }

    /// Every way to put together a body of up to three pieces of two bodies that were sealed under one header.
    /// Protection: the number, the mark of the last chunk and the random bytes in the nonce; without any of them,
    /// one of these is opened.
    #[test]
    fn chunks_stay_where_they_are() {
        let body = pattern(3 * CHUNK_BYTES);
        let [one, two] = [0, 1].map(|_| Parts::of(&sealed(&encoder(), b"header", &body)));
        assert!(one.open().is_some() && two.open().is_some());
        let pieces: Vec<_> = one.chunks.iter().chain(&two.chunks).collect();
        let choices = || (0..=pieces.len()).map(|at| pieces.get(at).copied());
        let mut whole = 0;
        for first in choices() {
            for second in choices() {
                for third in choices() {
                    let chunks: Vec<_> =
                        [first, second, third].into_iter().flatten().cloned().collect();
                    if chunks.is_empty() {
                        continue;
                    }
                    let is_one = chunks == one.chunks;
                    let parts = Parts { chunks, random: one.random.clone() };
                    assert_eq!(parts.open().is_some(), is_one);
                    whole += usize::from(is_one);
                }
            }
        }
        assert_eq!(whole, 1);
        // Nor with a chunk behind the last, or with a shorter one.
        let mut longer = one.clone();
        longer.chunks.push(two.chunks[2].clone());
        assert!(longer.open().is_none());
        for bytes in [0, 1, CHUNK_BYTES - 1] {
            let mut shorter = one.clone();
            shorter.chunks[2].0.truncate(bytes);
            assert!(shorter.open().is_none());
        }
    }

    /// Protection: the lengths of what is stored and of what the header says are compared before anything is cut.
    #[test]
    fn a_body_of_another_length_than_the_header_says_is_refused() {
        for bytes in [0, 5, CHUNK_BYTES, CHUNK_BYTES + 1] {
            let stored = sealed(&encoder(), b"header", &pattern(bytes));
            let bytes = u64_of(bytes);
            for other in [0, 1, bytes / 2, bytes.saturating_sub(1), bytes + 1, bytes + 16] {
                let found = opened_as(&encoder(), b"header", &stored, other);
                assert_eq!(found.is_some(), other == bytes, "{bytes} bytes as {other}");
            }
            for other in [1 << 32, (1 << 32) - 1, u64::MAX] {
                assert_eq!(opened_as(&encoder(), b"header", &stored, other), None);
            }
        }
        assert_eq!(encoder().encoded_bytes_max(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_flipped_bit_in_any_chunk_is_refused() {
        let body = pattern((512 << 10) + 5);
        for encoder in alone_and_helped() {
            let stored = sealed(&encoder, b"header", &body);
            let ends = (0..body.len()).step_by(CHUNK_BYTES).flat_map(|at| [at, at + 1, at + 4]);
            for at in ends.chain(body.len()..stored.len()) {
                let mut flipped = stored.clone();
                flipped[at] ^= 1 << (at % 8);
                assert!(
                    opened_as(&encoder, b"header", &flipped, u64_of(body.len())).is_none(),
                    "byte {at}"
                );
            }
            assert!(opened_as(&encoder, b"Header", &stored, u64_of(body.len())).is_none());
        }
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
            let cut = &stored[..bytes];
            assert_eq!(opened(&encoder(), header, cut), None, "cut to {bytes}");
            assert_eq!(opened_as(&encoder(), header, cut, plain_bytes(&stored)), None);
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
        let raw = EncryptingEncoder { frames: key(), check: key(), threads: 1 };
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
            assert!(nonces.insert(stored[stored.len() - RANDOM_BYTES..].to_vec()));
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
