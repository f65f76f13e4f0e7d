//! The bytes of an input as numbers. When they are used up, all that follows is 0.

/// What is left of an input.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    pub(crate) fn short(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    pub(crate) fn long(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A number like those that go wrong: small, near the largest of some width, or anything.
    pub(crate) fn number(&mut self) -> u64 {
        let kind = self.byte();
        let small = u64::from(self.byte());
        match kind % 8 {
            0 | 1 => small,
            2 => u64::MAX - small,
            3 => (u64::MAX >> 1).wrapping_add(small),
            4 => u64::from(u32::MAX).wrapping_sub(small),
            5 => 4096 + small * 128,
            6 => {
                1_u64.rotate_left(u32::from(kind / 8) + u32::from(self.byte())).wrapping_sub(small)
            }
            _ => self.long(),
        }
    }

    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
