//! What happens to the body of a frame between memory and disk.
//!
//! Frames are sealed whole, never single entries: the fixed cost of a seal is large. Headers are not encoded;
//! they are always checked.

use std::{error::Error, fmt};

use tinyraftplus_core::Identity;

/// Transforms the body of each frame on its way to the disk and back.
///
/// Every frame says which encoder wrote it, and so does the log's header; a log is opened with the one that
/// wrote it.
pub trait Encoder: fmt::Debug + Send + Sync + 'static {
    /// Names this transformation for ever. Those of this crate are below 64; yours are 64 and above.
    fn id(&self) -> u8;

    /// Whether frames carry a checksum of the body as it is stored.
    ///
    /// Without one, damage to a body is noticed only if [`Encoder::decode`] does.
    fn checks_bodies(&self) -> bool {
        true
    }

    /// Whether encoding and decoding change nothing, so that there is no need to call them.
    fn keeps_bodies(&self) -> bool {
        false
    }

    /// What is stored in the header of a log with this identity, to tell a wrong key from damage. All zeros if
    /// there is no key.
    fn key_check(&self, _identity: Identity) -> [u8; 16] {
        [0; 16]
    }

    /// How many bytes a body of `bytes` may take at most once encoded.
    fn encoded_bytes_max(&self, bytes: u64) -> u64 {
        bytes
    }

    /// Encodes `buffer[at..]` in place; the buffer may grow or shrink behind `at`.
    ///
    /// `header` is what the frame's header says about itself that decoding will see again: which log, which
    /// place in it, what it holds.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from encoding. The write is refused then, and the log works on.
    fn encode(&self, header: &[u8], buffer: &mut Vec<u8>, at: usize) -> Result<(), EncoderError>;

    /// Decodes a whole body in place.
    ///
    /// # Errors
    ///
    /// If these bytes are not what [`Encoder::encode`] made of a body under this header: they are corrupt.
    fn decode(&self, header: &[u8], body: &mut Vec<u8>) -> Result<(), EncoderError>;
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
