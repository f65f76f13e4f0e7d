//! What is appended: a number, and bytes that follow from it, so that a log that changed one of them is found out.

use bytes::Bytes;

use crate::rng::Rng;

/// The shortest payload: its number.
pub(crate) const BYTES_MIN: usize = 8;

/// The payload with this number, so many bytes long.
pub(crate) fn make(number: u64, bytes: usize) -> Bytes {
    let mut payload = Vec::with_capacity(bytes.max(BYTES_MIN));
    payload.extend(number.to_le_bytes());
    let mut rng = Rng::new(number);
    while payload.len() < bytes {
        let word = rng.next().to_le_bytes();
        let room = bytes - payload.len();
        payload.extend(word.iter().take(room));
    }
    Bytes::from(payload)
}

/// The number of a payload; `None` if these bytes are none.
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(*payload.first_chunk()?);
    (make(number, payload.len()) == payload).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_recognized_and_each_changed_byte_is_noticed() {
        for bytes in [0, 8, 9, 100, 1024] {
            let payload = make(42, bytes);
            assert_eq!(payload.len(), bytes.max(BYTES_MIN));
            assert_eq!(number(&payload), Some(42));
            for at in BYTES_MIN..payload.len() {
                let mut changed = payload.to_vec();
                changed[at] ^= 1;
                assert_eq!(number(&changed), None);
            }
        }
        assert_eq!(number(b"short"), None);
    }
}
