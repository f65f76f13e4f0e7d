//! What is fuzzed: everything that reads bytes which somebody else may have written.
//!
//! Each function takes any bytes and panics if a promise is broken. libFuzzer makes the bytes, and adds two
//! promises of its own: no input takes long, and none takes much memory.

mod import_js;
mod input;
mod recovery;
mod snapshot;

pub use import_js::import_js;
use input::Input;
pub use recovery::recovery;
pub use snapshot::snapshot;
use tinyraftplus_core::Identity;
use tinyraftplus_log::{
    Encoder, EncryptingEncoder, Key, PlainEncoder, XxHashEncoder,
    fuzzing::{body, frame_header, segment_header},
};

/// Headers and bodies. What is read is what was written: writing it again makes the same bytes (a header), or
/// bytes that read the same (a body).
pub fn frame(bytes: &[u8]) {
    let mut input = Input(bytes);
    match input.byte() % 3 {
        0 => frame_header(input.0),
        1 => segment_header(input.0),
        _ => {
            let first = input.number();
            body(input.0, first);
        }
    }
}

/// What encoders make of bytes that they did not write, and of those they did.
pub fn encoder(bytes: &[u8]) {
    let mut input = Input(bytes);
    let encrypting = EncryptingEncoder::new(&Key::from_bytes([7; 32]));
    let encoders: [&dyn Encoder; 4] =
        [&PlainEncoder, &XxHashEncoder::default(), &XxHashEncoder { body: false }, &encrypting];
    let encoder = encoders[usize::from(input.byte() % 4)];
    let change = usize::from(input.byte());
    let count = usize::from(input.byte()) % 130;
    let header = input.take(count).to_vec();
    let body = input.0;
    assert_eq!(encoder.key_check(Identity::new(5)), encoder.key_check(Identity::new(5)));

    let mut foreign = body.to_vec();
    let decoded = encoder.decode(&header, &mut foreign, body.len().saturating_sub(36) as u64);
    assert_eq!(decoded.is_ok(), encoder.keeps_bodies(), "nobody without the key seals a body");

    let mut buffer = [b"before", body].concat();
    encoder.encode(&header, &mut buffer, 6).unwrap();
    assert_eq!(&buffer[..6], b"before");
    let stored = buffer.split_off(6);
    assert!(stored.len() as u64 <= encoder.encoded_bytes_max(body.len() as u64));
    let length = body.len() as u64;
    let mut opened = stored.clone();
    encoder.decode(&header, &mut opened, length).unwrap();
    assert_eq!(opened, body);

    if !encoder.keeps_bodies() {
        let mut changed = stored.clone();
        let at = change % changed.len();
        changed[at] ^= 1 << (change % 8);
        assert!(encoder.decode(&header, &mut changed, length).is_err());
        let mut short = stored[..change % stored.len()].to_vec();
        assert!(encoder.decode(&header, &mut short, length).is_err());
        let mut moved = stored;
        assert!(encoder.decode(&[&header[..], &[0]].concat(), &mut moved, length).is_err());
    }
}
