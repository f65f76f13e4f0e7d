//! Randomness from a given seed: `SplitMix64`. Only timeouts are drawn from it, so quality is no concern.

use crate::Identity;

#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The identity goes in too: nodes that were all given one seed would else time out together for ever.
    pub(crate) fn new(seed: u64, identity: Identity) -> Self {
        let bytes = seed.to_le_bytes().into_iter().chain(identity.get().to_le_bytes());
        // FNV-1a.
        Self(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..limit`; 0 if `limit` is 0.
    pub(crate) const fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next() % limit }
    }
}
