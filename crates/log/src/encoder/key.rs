//! Secret keys: where they come from, and how they stay secret.
//!
//! A key lies in one place on the heap, which is overwritten when it is dropped; moving a [`Key`] moves a pointer
//! and leaves no copy behind. Nothing prints one: there is no `Display`, and `Debug` says that it is a key. There
//! is no comparison either, so none that takes a different time for a nearly right key.

use std::{fmt, io};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use blake2::{
    Blake2bMac,
    digest::{KeyInit, Mac, consts::U16, consts::U32},
};
use zeroize::{Zeroize, Zeroizing};

const KEY_BYTES: usize = 32;

/// The same for everybody, because all nodes of a cluster must get the same key from the same words.
const PASSPHRASE_SALT: &[u8] = b"tinyraftplus key from passphrase";

/// A secret key of 256 bits.
#[derive(Clone)]
pub struct Key(Box<Zeroizing<[u8; KEY_BYTES]>>);

impl Key {
    /// How many bytes a passphrase may have.
    pub const PASSPHRASE_BYTES_MAX: usize = 4096;

    /// A new key, from the operating system's random numbers.
    ///
    /// # Errors
    ///
    /// [`KeyError::NoRandomness`] if it has none.
    pub fn generate() -> Result<Self, KeyError> {
        let mut key = Self::zeros();
        getrandom::fill(&mut **key.0)
            .map_err(|error| KeyError::NoRandomness(io::Error::other(error)))?;
        Ok(key)
    }

    /// The key with these bytes. They must come from a good source of random numbers; the caller's own copy is
    /// the caller's to overwrite.
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let mut key = Self::zeros();
        **key.0 = bytes;
        bytes.zeroize();
        key
    }

    /// The key that belongs to these words, on every machine. Prefer [`Key::generate`] and a key file.
    ///
    /// Argon2id with 64 MiB and 3 passes (the second choice of RFC 9106) makes each guess expensive, a fifth of a
    /// second of one core; so this call takes as long. The salt is a constant of this crate, because the nodes of
    /// a cluster have nothing else in common before they meet. Its price: work spent on guessing words for one
    /// cluster counts against all others, and equal words give equal keys. So the words must be hard to guess by
    /// themselves: six or more drawn by dice, not one from a person's head.
    ///
    /// Words are taken as they are, byte by byte: a line break at the end counts, and so does the way in which
    /// an accent is put together.
    ///
    /// The JavaScript original derives keys with `generichash(32, 'secret')`, one `BLAKE2b`. That hash is made to be
    /// fast: a graphics card tries thousands of millions of words a second. It is not carried over, and the files of
    /// the original have another format anyway.
    ///
    /// # Errors
    ///
    /// If there are no words (a variable that was not set, most likely), more than
    /// [`Key::PASSPHRASE_BYTES_MAX`] bytes of them, or no 64 MiB of memory.
    #[doc(alias = "generichash")]
    pub fn from_passphrase(passphrase: &str) -> Result<Self, KeyError> {
        if passphrase.is_empty() {
            return Err(KeyError::EmptyPassphrase);
        }
        if passphrase.len() > Self::PASSPHRASE_BYTES_MAX {
            return Err(KeyError::PassphraseTooLong { bytes: passphrase.len() });
        }
        let params = Params::new(64 << 10, 3, 4, Some(KEY_BYTES)).expect("RFC 9106, section 4");
        // The key follows from what stays behind in these blocks, so they are overwritten too.
        let mut blocks = Zeroizing::new(Vec::new());
        blocks
            .try_reserve_exact(params.block_count())
            .map_err(|error| KeyError::NoMemory(io::Error::other(error)))?;
        blocks.resize(params.block_count(), Block::new());
        let mut key = Self::zeros();
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(
                passphrase.as_bytes(),
                PASSPHRASE_SALT,
                &mut **key.0,
                blocks.as_mut_slice(),
            )
            .expect("the lengths were checked above");
        Ok(key)
    }

    /// The key in a key file: 64 hexadecimal digits, with or without space around them.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotHex`] if the text is anything else. What it is instead is not repeated.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let (pairs, rest) = text.trim().as_bytes().as_chunks::<2>();
        if pairs.len() != KEY_BYTES || !rest.is_empty() {
            return Err(KeyError::NotHex);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let mut key = Self::zeros();
        for (byte, [high, low]) in key.0.iter_mut().zip(pairs) {
            let (high, low) = digit(*high).zip(digit(*low)).ok_or(KeyError::NotHex)?;
            *byte = u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte");
        }
        Ok(key)
    }

    /// The text for a key file, which [`Key::from_hex`] reads. **Whoever sees it has the key.** It is overwritten
    /// when dropped.
    #[doc(alias = "to_hex")]
    pub fn reveal_hex(&self) -> Zeroizing<String> {
        let digit = |value: u8| char::from_digit(value.into(), 16).expect("less than 16");
        // All at once: a string that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_BYTES));
        text.extend(self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
        text
    }

    /// The bytes of the key. **Whoever sees them has the key.**
    #[doc(alias = "as_bytes")]
    pub fn reveal(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key for one purpose: `BLAKE2b` of its name under this key.
    ///
    /// Different purposes have keys that say nothing of each other nor of this one, so that one key file can
    /// serve them all. The same purpose has the same key, always.
    #[must_use]
    pub fn subkey(&self, purpose: &str) -> Self {
        let mac = Blake2bMac::<U32>::new_from_slice(self.reveal()).expect("BLAKE2b takes 32 bytes");
        let mut subkey = Self::zeros();
        let mut bytes = mac.chain_update(purpose).finalize().into_bytes();
        subkey.0.copy_from_slice(&bytes);
        bytes.zeroize();
        subkey
    }

    /// What only a holder of this key can say about these bytes.
    pub(super) fn mac(&self, bytes: &[u8]) -> [u8; 16] {
        let mac = Blake2bMac::<U16>::new_from_slice(self.reveal()).expect("BLAKE2b takes 32 bytes");
        mac.chain_update(bytes).finalize().into_bytes().into()
    }

    fn zeros() -> Self {
        Self(Box::new(Zeroizing::new([0; KEY_BYTES])))
    }
}

/// Says that it is a key, and nothing about it.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Why there is no key. No message repeats what was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The operating system has no random numbers.
    #[error("the operating system has no random numbers for a key")]
    NoRandomness(#[source] io::Error),
    /// A passphrase of no words.
    #[error("the passphrase is empty; is the variable or file that it comes from set?")]
    EmptyPassphrase,
    /// Not a passphrase.
    #[error("a passphrase has at most {} bytes, not {bytes}", Key::PASSPHRASE_BYTES_MAX)]
    PassphraseTooLong {
        /// How many bytes it has.
        bytes: usize,
    },
    /// Making a key from a passphrase takes 64 MiB for a moment.
    #[error("not enough memory to make a key from a passphrase: it takes 64 MiB")]
    NoMemory(#[source] io::Error),
    /// Not the text of a key.
    #[error("a key is written as 64 hexadecimal digits and nothing else")]
    NotHex,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::from_bytes(std::array::from_fn(|at| u8::try_from(200 + at).unwrap()))
    }

    #[test]
    fn generated_keys_differ() {
        let (one, two) = (Key::generate().unwrap(), Key::generate().unwrap());
        assert_ne!(one.reveal(), two.reveal());
        assert_ne!(one.reveal(), &[0; 32]);
    }

    #[test]
    fn a_key_file_holds_the_key() {
        let text = key().reveal_hex();
        assert_eq!(text.len(), 64);
        assert!(text.starts_with("c8c9cacb"));
        for text in [text.to_string(), format!(" {}\r\n", *text), text.to_uppercase()] {
            assert_eq!(Key::from_hex(&text).unwrap().reveal(), key().reveal());
        }
    }

    #[test]
    fn what_is_not_a_key_is_refused_and_not_repeated() {
        let text = key().reveal_hex();
        let cut = &text[1..];
        let long = format!("{}00", *text);
        let sign = text.replacen('c', "+", 1);
        let wide = text.replacen("c8", "é", 1);
        for text in ["", "secret", cut, &text[2..], &long, &sign, &wide] {
            let error = Key::from_hex(text).unwrap_err();
            assert_eq!(
                error.to_string(),
                "a key is written as 64 hexadecimal digits and nothing else"
            );
            assert_eq!(format!("{error:?}"), "NotHex");
        }
    }

    /// The expected key was made by another implementation (OpenSSL's): nodes must agree on it for ever.
    #[test]
    fn equal_words_are_equal_keys() {
        let key = Key::from_passphrase("correct horse battery staple").unwrap();
        assert_eq!(
            *key.reveal_hex(),
            "9ddfba8a1255852a6352b46a9958af6287d6e729eff0f17ce6353946dfe0669c"
        );
        let other = Key::from_passphrase("correct horse battery staple\n").unwrap();
        assert_ne!(key.reveal(), other.reveal());
    }

    #[test]
    fn no_words_and_too_many_are_refused() {
        assert!(matches!(Key::from_passphrase(""), Err(KeyError::EmptyPassphrase)));
        let long = "x".repeat(Key::PASSPHRASE_BYTES_MAX + 1);
        let error = Key::from_passphrase(&long).unwrap_err();
        assert_eq!(error.to_string(), "a passphrase has at most 4096 bytes, not 4097");
    }

    #[test]
    fn each_purpose_has_its_key() {
        assert_eq!(key().subkey("a").reveal(), key().subkey("a").reveal());
        assert_ne!(key().subkey("a").reveal(), key().subkey("b").reveal());
        assert_ne!(key().subkey("").reveal(), key().reveal());
        assert_ne!(key().subkey("a").reveal(), Key::from_bytes([1; 32]).subkey("a").reveal());
    }

    #[test]
    fn a_key_is_never_printed() {
        assert_eq!(format!("{:?}", key()), "Key(..)");
        assert_eq!(format!("{:#?}", Some(key())), "Some(\n    Key(..),\n)");
        for byte in *key().reveal() {
            assert!(!format!("{:?}", key()).contains(&byte.to_string()));
            assert!(!format!("{:?}", key()).contains(&format!("{byte:x}")));
        }
    }
}
