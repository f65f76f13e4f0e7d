//! What happens to the body of a frame between memory and disk.
//!
//! Frames are sealed whole, never single entries: the fixed cost of a seal is large. Headers are not encoded;
//! they are always checked.
//!
//! | encoder | id | bodies |
//! | --- | --- | --- |
//! | [`PlainEncoder`] | 0 | as they are; nobody notices damage to them |
//! | [`XxHashEncoder`] | 1, or 2 without a checksum | as they are, with an XXH3 checksum unless told not to |
//! | [`EncryptingEncoder`] | 3 | encrypted and authenticated, with an XXH3 checksum of the ciphertext |
//! | your own | 64 and above | whatever [`Encoder::encode`] makes of them |

use std::{error::Error, fmt};

use tinyraftplus_core::Identity;

mod chunks;
mod encrypting;
mod key;
mod plain;

pub use self::{
    encrypting::EncryptingEncoder,
    key::{Key, KeyError},
    plain::{PlainEncoder, XxHashEncoder},
};

/// Transforms the body of each frame on its way to the disk and back.
///
/// Every frame says which encoder wrote it, and so does the log's header; a log is opened with the one that
/// wrote it. One encoder serves all threads at once: one writes while others read.
///
/// An encoder that keeps a secret must not print it with `Debug`: options are printed.
///
/// # Example
///
/// An encoder of one's own that makes runs of equal bytes short:
///
/// ```
/// use tinyraftplus_log::{Encoder, EncoderError};
///
/// #[derive(Debug)]
/// struct RunLength;
///
/// impl Encoder for RunLength {
///     fn id(&self) -> u8 {
///         64
///     }
///
///     // At worst no byte equals its neighbour, and each takes two.
///     fn encoded_bytes_max(&self, bytes: u64) -> u64 {
///         bytes.saturating_mul(2)
///     }
///
///     fn encode(&self, _: &[u8], buffer: &mut Vec<u8>, at: usize) -> Result<(), EncoderError> {
///         for run in buffer.split_off(at).chunk_by(|a, b| a == b) {
///             for part in run.chunks(255) {
///                 buffer.extend([part.len() as u8, part[0]]);
///             }
///         }
///         Ok(())
///     }
///
///     fn decode(&self, _: &[u8], body: &mut Vec<u8>, plain_bytes: u64) -> Result<(), EncoderError> {
///         let (runs, []) = body.as_chunks::<2>() else {
///             return Err(EncoderError::new("half a run"));
///         };
///         let bytes: u64 = runs.iter().map(|&[count, _]| u64::from(count)).sum();
///         if bytes != plain_bytes {
///             return Err(EncoderError::new("runs of another length"));
///         }
///         *body = runs.iter().flat_map(|&[count, byte]| std::iter::repeat_n(byte, count.into())).collect();
///         Ok(())
///     }
/// }
///
/// let mut buffer = b"before".to_vec();
/// buffer.extend([7; 1000]);
/// RunLength.encode(b"header", &mut buffer, 6)?;
/// assert_eq!(buffer.len(), 6 + 8);
///
/// let mut body = buffer.split_off(6);
/// RunLength.decode(b"header", &mut body, 1000)?;
/// assert_eq!(body, [7; 1000]);
/// # Ok::<(), EncoderError>(())
/// ```
pub trait Encoder: fmt::Debug + Send + Sync + 'static {
    /// Names this transformation for ever. Those of this crate are below 64; yours are 64 and above.
    fn id(&self) -> u8;

    /// Whether frames carry a checksum of the body as it is stored.
    ///
    /// Without one, damage to a body is noticed only if [`Encoder::decode`] does. With one, it is found without
    /// decoding, and a decoder sees no body that was not written.
    fn checks_bodies(&self) -> bool {
        true
    }

    /// Whether encoding and decoding change nothing, so that there is no need to call them.
    fn keeps_bodies(&self) -> bool {
        false
    }

    /// What is stored in the header of a log with this identity, to tell a wrong key from damage. All zeros if
    /// there is no key.
    ///
    /// Anybody who has the file can read it, so it must tell nothing of the key; and it must depend on the
    /// identity, or it would show which logs share a key.
    fn key_check(&self, _identity: Identity) -> [u8; 16] {
        [0; 16]
    }

    /// How many bytes a body of `bytes` may take at most once encoded.
    fn encoded_bytes_max(&self, bytes: u64) -> u64 {
        bytes
    }

    /// Encodes `buffer[at..]` in place; the buffer may grow or shrink behind `at`. What lies before `at` is
    /// not to be touched.
    ///
    /// `header` is what the frame's header says about itself that decoding will see again: which log, which
    /// place in it, what it holds.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from encoding. The write is refused then, what the buffer holds behind `at` is thrown
    /// away, and the log works on.
    fn encode(&self, header: &[u8], buffer: &mut Vec<u8>, at: usize) -> Result<(), EncoderError>;

    /// Decodes a whole body in place.
    ///
    /// The body had `plain_bytes` before it was encoded, says the frame's header. The log has checked that no group
    /// of it may be smaller than that, and refuses what is decoded to another length. But the
    /// bytes come from a file, so anybody may have written them: a decoder that makes bodies longer stops there.
    ///
    /// # Errors
    ///
    /// If these bytes are not what [`Encoder::encode`] made of a body under this header: they are corrupt.
    /// What `body` holds then is thrown away.
    fn decode(
        &self,
        header: &[u8],
        body: &mut Vec<u8>,
        plain_bytes: u64,
    ) -> Result<(), EncoderError>;
}

/// Why an encoder failed.
#[derive(Debug)]
pub struct EncoderError(Box<dyn Error + Send + Sync>);

impl EncoderError {
    /// An encoder failed for this reason.
    pub fn new(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for EncoderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for EncoderError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
