//! Records: what goes over a connection after the handshake, encrypted and authenticated.
//!
//! A record is two bytes of length and then so many bytes of ciphertext. Its number is not sent but counted by both
//! sides, so one that is lost, repeated, moved or changed does not open.

use std::sync::Arc;

use snow::StatelessTransportState;

/// The longest record, with its length: 64 KiB.
pub(crate) const RECORD_BYTES_MAX: usize = 1 << 16;
/// Of which this much is not content.
const LENGTH_BYTES: usize = 2;
const TAG_BYTES: usize = 16;
/// The most content of a record.
pub(crate) const CONTENT_BYTES_MAX: usize = RECORD_BYTES_MAX - LENGTH_BYTES - TAG_BYTES;

/// Both directions of a connection.
#[derive(Clone)]
pub(crate) struct Session(Arc<StatelessTransportState>);

impl Session {
    pub(crate) fn new(noise: StatelessTransportState) -> Self {
        Self(Arc::new(noise))
    }

    pub(crate) fn split(self) -> (Sealer, Opener) {
        let noise = Arc::clone(&self.0);
        (Sealer { noise: self.0, number: 0 }, Opener { noise, number: 0 })
    }
}

/// A record that does not open, or can't be. Nothing after it can be trusted: the connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a record was changed, repeated or lost on the way")]
pub(crate) struct Broken;

/// Makes the records of one direction.
pub(crate) struct Sealer {
    noise: Arc<StatelessTransportState>,
    number: u64,
}

impl Sealer {
    /// Adds the record with this content to `out`.
    pub(crate) fn seal(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let sealed = content.len() + TAG_BYTES;
        let length = u16::try_from(sealed).map_err(|_| Broken)?;
        out.extend(length.to_le_bytes());
        let start = out.len();
        out.resize(start + sealed, 0);
        let to = out.get_mut(start..).ok_or(Broken)?;
        self.noise.write_message(self.number, content, to).map_err(|_| Broken)?;
        self.number = self.number.checked_add(1).ok_or(Broken)?;
        Ok(())
    }
}

/// Reads the records of one direction.
pub(crate) struct Opener {
    noise: Arc<StatelessTransportState>,
    number: u64,
}

impl Opener {
    /// How many bytes of ciphertext come after this length.
    pub(crate) fn sealed_bytes(length: [u8; LENGTH_BYTES]) -> Result<usize, Broken> {
        let bytes = usize::from(u16::from_le_bytes(length));
        let fits = (TAG_BYTES..=RECORD_BYTES_MAX - LENGTH_BYTES).contains(&bytes);
        fits.then_some(bytes).ok_or(Broken)
    }

    /// The content of a record, which replaces what is in `content`.
    pub(crate) fn open(&mut self, sealed: &[u8], content: &mut Vec<u8>) -> Result<(), Broken> {
        // What the cipher needs to work in is as long as what it reads.
        content.resize(sealed.len(), 0);
        let count = self.noise.read_message(self.number, sealed, content).map_err(|_| Broken)?;
        content.truncate(count);
        self.number = self.number.checked_add(1).ok_or(Broken)?;
        Ok(())
    }
}
