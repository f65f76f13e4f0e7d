//! The handshake and records over a byte stream: what waits.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tinyraftplus_log::Key;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::handshake::{
    Answered, HEAD_BYTES, HandshakeError, Head, Hello, Initiator, Purpose, answer,
};
use crate::session::{Broken, Opener, RECORD_BYTES_MAX, Sealer, Session};

/// Why there is no connection, or no more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The two sides do not talk to each other.
    #[error("the other side {0}")]
    Handshake(#[from] HandshakeError),
    /// The operating system says so.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// Nothing came in time.
    #[error("nothing came for {0:?}")]
    TimedOut(Duration),
    /// What came is not what was sent.
    #[error("a record was changed, repeated or lost on the way")]
    Changed,
    /// The stream ended without a word.
    #[error("the connection was cut off")]
    CutOff,
    /// A message over the limit.
    #[error(
        "a message of {bytes} bytes is over the limit of {limit}; make it smaller, or raise the limit on both sides"
    )]
    TooLarge {
        /// Its size, or what is known of it.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Connections of too many nodes stand already.
    #[error("connections of {limit} other nodes stand already")]
    Crowded {
        /// How many there may be.
        limit: usize,
    },
    /// The name in an address could not be looked up, or there is no address at all.
    #[error("there is no address for node {0}; name one, or use an address as its name")]
    NoAddress(tinyraftplus_core::NodeId),
}

impl From<Broken> for ConnectionError {
    fn from(Broken: Broken) -> Self {
        Self::Changed
    }
}

impl From<crate::lanes::TooLarge> for ConnectionError {
    fn from(error: crate::lanes::TooLarge) -> Self {
        Self::TooLarge { bytes: error.bytes, limit: error.limit }
    }
}

/// Makes it an error if it takes longer.
pub(crate) async fn within<T, E: Into<ConnectionError>>(
    limit: Duration,
    what: impl Future<Output = Result<T, E>>,
) -> Result<T, ConnectionError> {
    let result = tokio::time::timeout(limit, what).await;
    result.map_err(|_| ConnectionError::TimedOut(limit))?.map_err(Into::into)
}

/// The handshake of the side that connected.
pub(crate) async fn initiate(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    key: &Key,
    purpose: Purpose,
    hello: Hello,
) -> Result<(Session, Hello), ConnectionError> {
    let (initiator, packet) = Initiator::start(key, purpose, hello)?;
    stream.write_all(&packet).await?;
    let (head, packet) = read_packet(stream, purpose).await?;
    Ok(initiator.finish(head, &packet)?)
}

/// The handshake of the side that was connected to. The session is worth nothing yet: the first record must open.
pub(crate) async fn respond(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    key: &Key,
    purpose: Purpose,
    hello: &Hello,
) -> Result<(Session, Hello), ConnectionError> {
    let (head, packet) = read_packet(stream, purpose).await?;
    let Answered { packet, result } = answer(key, purpose, hello, head, &packet);
    if let Some(packet) = packet {
        stream.write_all(&packet).await?;
        if result.is_err() {
            // It should get there before the connection ends.
            stream.shutdown().await?;
        }
    }
    Ok(result?)
}

async fn read_packet(
    stream: &mut (impl AsyncRead + Unpin),
    purpose: Purpose,
) -> Result<(Head, Vec<u8>), ConnectionError> {
    let mut head = [0; HEAD_BYTES];
    read_exact(stream, &mut head).await?;
    let head = Head::read(purpose, head)?;
    let mut packet = vec![0; head.bytes];
    read_exact(stream, &mut packet).await?;
    Ok((head, packet))
}

async fn read_exact(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut [u8],
) -> Result<(), ConnectionError> {
    match stream.read_exact(bytes).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(ConnectionError::CutOff),
        Err(error) => Err(error.into()),
    }
}

/// Reads records.
pub(crate) struct RecordReader<R> {
    stream: R,
    opener: Opener,
    sealed: BytesMut,
    content: Vec<u8>,
}

impl<R: AsyncRead + Unpin> RecordReader<R> {
    pub(crate) fn new(stream: R, opener: Opener) -> Self {
        Self { stream, opener, sealed: BytesMut::new(), content: Vec::new() }
    }

    /// The content of the next record. May be cancelled, and called again.
    pub(crate) async fn next(&mut self) -> Result<&[u8], ConnectionError> {
        loop {
            if let Some((length, rest)) = self.sealed.split_first_chunk() {
                let count = Opener::sealed_bytes(*length)?;
                if let Some(sealed) = rest.get(..count) {
                    self.opener.open(sealed, &mut self.content)?;
                    self.sealed.advance(length.len() + count);
                    return Ok(&self.content);
                }
            }
            // Room for the rest of the longest record: nothing is taken for more than one.
            self.sealed.reserve(RECORD_BYTES_MAX);
            if self.stream.read_buf(&mut self.sealed).await? == 0 {
                return Err(ConnectionError::CutOff);
            }
        }
    }
}

/// Writes records.
pub(crate) struct RecordWriter<W> {
    stream: W,
    sealer: Sealer,
    sealed: Vec<u8>,
    /// A write began and did not end: half a record may have left.
    is_broken: bool,
}

impl<W: AsyncWrite + Unpin> RecordWriter<W> {
    pub(crate) const fn new(stream: W, sealer: Sealer) -> Self {
        Self { stream, sealer, sealed: Vec::new(), is_broken: false }
    }

    /// Writes a record. If that is cancelled, the connection is of no more use.
    pub(crate) async fn write(&mut self, content: &[u8]) -> Result<(), ConnectionError> {
        if self.is_broken {
            return Err(ConnectionError::CutOff);
        }
        self.sealed.clear();
        self.sealer.seal(content, &mut self.sealed)?;
        self.is_broken = true;
        self.stream.write_all(&self.sealed).await?;
        self.is_broken = false;
        Ok(())
    }

    pub(crate) async fn shutdown(&mut self) -> Result<(), ConnectionError> {
        Ok(self.stream.shutdown().await?)
    }
}

impl<R> std::fmt::Debug for RecordReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordReader").finish_non_exhaustive()
    }
}

impl<W> std::fmt::Debug for RecordWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordWriter").finish_non_exhaustive()
    }
}
