//! Entries that differ, and are known again when a log is read.

use super::latency;
use bytes::{Bytes, BytesMut};

/// Bits of a stamp that number the entries of a client, and the clients of a run.
const ENTRY_BITS: u32 = 40;
const CLIENT_BITS: u32 = 12;
/// Bytes of a stamp.
const LEN: usize = size_of::<u64>();

/// Makes entries of one size. An entry begins with its stamp, or as much of it as there is room for.
#[derive(Clone)]
pub(super) struct Stamps {
    /// What entries have behind their stamps.
    filling: Bytes,
    kept: usize,
}

impl Stamps {
    pub(super) fn new(payload: u64) -> Self {
        let filling = latency::payload(usize::try_from(payload).unwrap_or_default());
        let kept = filling.len().min(LEN);
        Self { filling, kept }
    }

    /// The first stamp of a client in that run of clients.
    pub(super) const fn first(run: u64, client: u64) -> u64 {
        ((run << CLIENT_BITS) | client) << ENTRY_BITS
    }

    /// The entry with that stamp.
    pub(super) fn entry(&self, stamp: u64) -> Bytes {
        let mut entry = BytesMut::from(self.filling.as_ref());
        for (to, from) in entry.iter_mut().zip(stamp.to_le_bytes()) {
            *to = from;
        }
        entry.freeze()
    }

    /// What an entry keeps of its stamp.
    pub(super) fn what_is_kept(&self, stamp: u64) -> u64 {
        let bytes = stamp.to_le_bytes();
        number(bytes.get(..self.kept).unwrap_or(&bytes))
    }

    /// What an entry has kept of its stamp, unless no client can have made it.
    pub(super) fn of(&self, entry: &[u8]) -> Option<u64> {
        let (stamp, rest) = entry.split_at_checked(self.kept)?;
        (Some(rest) == self.filling.get(self.kept..)).then(|| number(stamp))
    }
}

fn number(front: &[u8]) -> u64 {
    let mut bytes = [0; LEN];
    for (to, from) in bytes.iter_mut().zip(front) {
        *to = *from;
    }
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_any_size_is_known_again_and_a_changed_one_is_not() {
        for len in [1, 7, 8, 9, 100] {
            let stamps = Stamps::new(len);
            let stamp = Stamps::first(3, 1023) + 5;
            let entry = stamps.entry(stamp);
            assert_eq!(entry.len() as u64, len);
            assert_eq!(stamps.of(&entry), Some(stamps.what_is_kept(stamp)));
            assert_eq!(stamps.of(&[&entry[..], &[0]].concat()), None, "too long");
            if len > 8 {
                let mut changed = entry.to_vec();
                changed[8] ^= 1;
                assert_eq!(stamps.of(&changed), None);
            }
        }
        assert_ne!(Stamps::first(0, 1), Stamps::first(1, 0));
    }
}
