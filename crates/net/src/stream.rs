//! Encrypted messages over any byte stream, in one direction: to a file, through a pipe of the operating system.
//!
//! There is no handshake, so the reader can't tell a recording from the original: for connections there are
//! [`listen`](crate::listen) and [`connect`](crate::connect). Within a stream every message is whole, in its place, and
//! there once, and a stream that was cut off is told from one that was finished. `docs/protocol.md` has every byte.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};
use tinyraftplus_log::Key;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const MAGIC: [u8; 8] = *b"TRPstr1\n";
const PREFIX_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// Magic, prefix, and the seal of nothing, which only the right key makes.
const HEADER_BYTES: usize = MAGIC.len() + PREFIX_BYTES + TAG_BYTES;
const LENGTH_BYTES: usize = 4;

/// The first byte of what is sealed.
const MESSAGE: u8 = 0;
const END: u8 = 1;

/// Why a stream can't be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The bytes do not begin as such a stream does.
    #[error("this is no encrypted stream, or one of another version")]
    Foreign,
    /// The key is not the one that it was written with.
    #[error("the stream was written with another key")]
    WrongKey,
    /// What is read is not what was written.
    #[error("message {number} of the stream was changed, moved, repeated or lost")]
    Changed {
        /// Its number, counted from 0.
        number: u64,
    },
    /// It ends before it was finished.
    #[error("the stream was cut off after {number} messages")]
    CutOff {
        /// How many messages it has.
        number: u64,
    },
    /// A message over the limit.
    #[error(
        "a message of {bytes} bytes is over the limit of {limit}; make it smaller, or raise the limit on both sides"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// An error, or a call that was cancelled in the middle, came before: nobody knows what was written.
    #[error("an earlier write failed or was cancelled; begin another stream")]
    Broken,
    /// The stream below failed.
    #[error("the stream below failed: {0}")]
    Io(#[from] io::Error),
}

/// What both sides count.
struct Cipher {
    key: XChaCha20Poly1305,
    prefix: [u8; PREFIX_BYTES],
    /// Of the next seal: the header is 0.
    number: u64,
}

impl Cipher {
    fn new(key: &Key, prefix: [u8; PREFIX_BYTES]) -> Self {
        let key = key.subkey("tinyraftplus encrypted streams");
        Self { key: XChaCha20Poly1305::new(key.reveal().into()), prefix, number: 0 }
    }

    /// Never twice the same: the prefix is drawn, the number counted.
    fn nonce(&mut self) -> XNonce {
        let mut nonce = [0; 24];
        let bytes = self.prefix.into_iter().chain(self.number.to_le_bytes());
        nonce.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        self.number = self.number.checked_add(1).expect("2^64 messages take centuries");
        nonce.into()
    }

    fn seal(&mut self, mut content: Vec<u8>) -> Vec<u8> {
        let nonce = self.nonce();
        let tag = self.key.encrypt_inout_detached(&nonce, &[], content.as_mut_slice().into());
        content.extend(tag.expect("its length was checked"));
        content
    }

    /// Leaves the content where it was sealed. What is not genuine stays as it is, and is not counted.
    fn open(&mut self, sealed: &mut [u8]) -> Result<(), ()> {
        let number = self.number;
        let nonce = self.nonce();
        let (content, tag) = sealed.split_last_chunk_mut::<TAG_BYTES>().ok_or(())?;
        let tag = Tag::from(*tag);
        let opened = self.key.decrypt_inout_detached(&nonce, &[], content.into(), &tag);
        opened.map_err(|_| self.number = number)
    }
}

/// Encrypts messages into a byte stream, for a [`DecryptingStream`] with the same key: one write is one message there.
pub struct EncryptingStream<W> {
    to: W,
    cipher: Cipher,
    bytes_max: usize,
    has_begun: bool,
    is_broken: bool,
}

impl<W: AsyncWrite + Unpin> EncryptingStream<W> {
    /// Nothing is written before the first message, or the end.
    ///
    /// # Errors
    ///
    /// If the operating system has no random numbers.
    pub fn new(to: W, key: &Key) -> Result<Self, StreamError> {
        let mut prefix = [0; PREFIX_BYTES];
        getrandom::fill(&mut prefix).map_err(io::Error::other)?;
        let cipher = Cipher::new(key, prefix);
        let bytes_max = crate::pipe::MESSAGE_BYTES_MAX;
        Ok(Self { to, cipher, bytes_max, has_begun: false, is_broken: false })
    }

    /// With another limit for a message than 64 MiB.
    #[must_use]
    pub const fn message_bytes_max(mut self, limit: usize) -> Self {
        self.bytes_max = limit;
        self
    }

    /// Writes a message. If this is cancelled, the stream can't be used any more.
    ///
    /// # Errors
    ///
    /// If it is over the limit, then nothing was written; or what the stream below says.
    pub async fn write(&mut self, message: &[u8]) -> Result<(), StreamError> {
        let bytes = message.len();
        let limit = self.bytes_max.min(u32::MAX as usize - 1 - TAG_BYTES);
        if bytes > limit {
            return Err(StreamError::TooLarge { bytes, limit });
        }
        self.put(MESSAGE, message).await
    }

    /// Sees to it that what was written is on its way.
    ///
    /// # Errors
    ///
    /// What the stream below says.
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        Ok(self.to.flush().await?)
    }

    /// Writes the end, and gives back the stream below. Without it the reader takes the stream for cut off.
    ///
    /// # Errors
    ///
    /// What the stream below says.
    pub async fn finish(mut self) -> Result<W, StreamError> {
        self.put(END, &[]).await?;
        self.to.flush().await?;
        Ok(self.to)
    }

    async fn put(&mut self, kind: u8, message: &[u8]) -> Result<(), StreamError> {
        if self.is_broken {
            return Err(StreamError::Broken);
        }
        self.is_broken = true;
        if !self.has_begun {
            let seal = self.cipher.seal(Vec::new());
            let header = [&MAGIC[..], &self.cipher.prefix, &seal].concat();
            self.to.write_all(&header).await?;
            self.has_begun = true;
        }
        let sealed = self.cipher.seal([&[kind], message].concat());
        let length = u32::try_from(sealed.len()).expect("limited by the callers");
        self.to.write_all(&length.to_le_bytes()).await?;
        self.to.write_all(&sealed).await?;
        self.is_broken = false;
        Ok(())
    }
}

/// Reads what an [`EncryptingStream`] wrote.
pub struct DecryptingStream<R> {
    from: R,
    key: Key,
    cipher: Option<Cipher>,
    waiting: BytesMut,
    bytes_max: usize,
    is_ended: bool,
}

impl<R: AsyncRead + Unpin> DecryptingStream<R> {
    /// Reads from this stream.
    pub fn new(from: R, key: &Key) -> Self {
        let bytes_max = crate::pipe::MESSAGE_BYTES_MAX;
        let waiting = BytesMut::new();
        Self { from, key: key.clone(), cipher: None, waiting, bytes_max, is_ended: false }
    }

    /// With another limit for a message than 64 MiB.
    #[must_use]
    pub const fn message_bytes_max(mut self, limit: usize) -> Self {
        self.bytes_max = limit;
        self
    }

    /// The next message; `None` after the last one of a stream that was finished. May be cancelled, and called again.
    ///
    /// # Errors
    ///
    /// What is wrong with the stream. It stays wrong: no message after that is shown.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StreamError> {
        while !self.is_ended {
            if let Some((kind, message)) = self.take()? {
                match kind {
                    MESSAGE => return Ok(Some(message)),
                    END => self.is_ended = true,
                    _ => return Err(StreamError::Foreign),
                }
                continue;
            }
            // Memory is taken for what has come, never for what a length says.
            self.waiting.reserve(self.waiting.len().clamp(4096, 1 << 20));
            if self.from.read_buf(&mut self.waiting).await? == 0 {
                return Err(StreamError::CutOff { number: self.number() });
            }
        }
        Ok(None)
    }

    /// How many messages were read.
    fn number(&self) -> u64 {
        self.cipher.as_ref().map_or(0, |cipher| cipher.number - 1)
    }

    /// The next frame, if all of it has come.
    fn take(&mut self) -> Result<Option<(u8, Bytes)>, StreamError> {
        let number = self.number();
        let Some(cipher) = &mut self.cipher else {
            self.begin()?;
            return if self.cipher.is_some() { self.take() } else { Ok(None) };
        };
        let Some((length, rest)) = self.waiting.split_first_chunk_mut::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let bytes = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some(content) = bytes.checked_sub(TAG_BYTES + 1) else {
            return Err(StreamError::Changed { number });
        };
        if content > self.bytes_max {
            return Err(StreamError::TooLarge { bytes: content, limit: self.bytes_max });
        }
        let Some(sealed) = rest.get_mut(..bytes) else { return Ok(None) };
        cipher.open(sealed).map_err(|()| StreamError::Changed { number })?;
        let mut frame = self.waiting.split_to(LENGTH_BYTES + bytes);
        frame.truncate(LENGTH_BYTES + 1 + content);
        frame.advance(LENGTH_BYTES);
        Ok(Some((frame.get_u8(), frame.freeze())))
    }

    /// Reads the header, if all of it has come.
    fn begin(&mut self) -> Result<(), StreamError> {
        let is_foreign = self.waiting.iter().zip(MAGIC).any(|(&byte, magic)| byte != magic);
        if is_foreign {
            return Err(StreamError::Foreign);
        }
        let Some(header) = self.waiting.first_chunk_mut::<HEADER_BYTES>() else { return Ok(()) };
        let (_, rest) = header.split_at_mut(MAGIC.len());
        let Some((prefix, seal)) = rest.split_first_chunk_mut() else { return Ok(()) };
        let mut cipher = Cipher::new(&self.key, *prefix);
        cipher.open(seal).map_err(|()| StreamError::WrongKey)?;
        self.waiting.advance(HEADER_BYTES);
        self.cipher = Some(cipher);
        Ok(())
    }
}

/// The stream below and the key are nobody's concern.
impl<W> std::fmt::Debug for EncryptingStream<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncryptingStream").finish_non_exhaustive()
    }
}

/// The stream below and the key are nobody's concern.
impl<R> std::fmt::Debug for DecryptingStream<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecryptingStream").finish_non_exhaustive()
    }
}
