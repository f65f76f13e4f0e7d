//! Numbers between the width of memory and the width of files, without casts.

/// The length of something in memory.
pub(crate) fn u64_of(length: usize) -> u64 {
    u64::try_from(length).expect("no machine has more than 64 bits of address")
}

/// A length that was checked against a limit which fits into memory.
pub(crate) fn usize_of(length: u64) -> usize {
    usize::try_from(length).expect("checked against a limit that fits into memory")
}

/// A length that was checked against a limit below 4 GiB.
pub(crate) fn u32_of(length: usize) -> u32 {
    u32::try_from(length).expect("checked against a limit below 4 GiB")
}

/// Whether there is nothing but zeros. Looks at many bytes at once, as there are many.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(1024).all(|part| part.iter().fold(0, |any, byte| any | byte) == 0)
}

/// The next multiple of `unit`, a power of two, at or after `value`.
pub(crate) const fn round_up(value: u64, unit: u64) -> u64 {
    value.next_multiple_of(unit)
}
