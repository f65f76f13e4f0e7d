//! The parts that read foreign bytes, for fuzzing alone: none of this is for users.
//!
//! Each function takes any bytes and panics if a promise is broken.

use std::sync::OnceLock;

use bytes::Bytes;
use tinyraftplus_core::NodeId;
use tinyraftplus_log::Key;

use crate::handshake::{
    HEAD_BYTES, Head, Hello, Initiator, Purpose, answer, put_hello, take_hello,
};
use crate::lanes::Joiner;
use crate::session::{Opener, Session};
use crate::{DecryptingStream, EncryptingStream, Message, StreamError, Wire};

fn key() -> Key {
    Key::from_bytes([7; 32])
}

/// As a message: what is read is the same when it is written and read again.
pub fn message(bytes: &[u8]) {
    if let Ok(message) = Message::decode(&Bytes::copy_from_slice(bytes)) {
        let _ = message.malformed();
        assert_eq!(Message::decode(&message.encode()), Ok(message));
    }
}

/// As either packet of a handshake, of somebody without the key; and as what is inside of one, of somebody with it.
pub fn handshake(bytes: &[u8]) {
    if let Some((hello, version, refusal)) = take_hello(bytes) {
        let again = put_hello(&hello, version, refusal);
        assert_eq!(take_hello(&again), Some((hello, version, refusal)));
    }
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return };
    for purpose in [Purpose::Nodes, Purpose::Pipe] {
        let Ok(head) = Head::read(purpose, *head) else { continue };
        let ours = Hello { id: Some(NodeId::from(2)), ..Hello::default() };
        let answered = answer(&key(), purpose, &ours, head, rest);
        assert!(answered.result.is_err(), "nobody without the key gets in");
        assert!(answered.packet.is_some(), "who speaks this protocol is told what is wrong");
    }
}

/// As records, as parts of a lane, and as an encrypted stream.
pub fn records(bytes: &[u8]) {
    static SESSION: OnceLock<Session> = OnceLock::new();
    let session = SESSION.get_or_init(|| {
        fn split(packet: &[u8]) -> (Head, &[u8]) {
            let (head, rest) = packet.split_first_chunk().expect("a head");
            (Head::read(Purpose::Nodes, *head).expect("it is genuine"), rest)
        }
        let hello = Hello::default();
        let start = Initiator::start(&key(), Purpose::Nodes, hello.clone());
        let (initiator, packet) = start.expect("random numbers");
        let (head, rest) = split(&packet);
        let reply = answer(&key(), Purpose::Nodes, &hello, head, rest).packet;
        let reply = reply.expect("it is genuine");
        let (head, rest) = split(&reply);
        initiator.finish(head, rest).expect("it is genuine").0
    });
    if let Some((length, rest)) = bytes.split_first_chunk() {
        let _ = Opener::sealed_bytes(*length);
        let (_, mut opener) = session.clone().split();
        assert!(
            opener.open(rest, &mut Vec::new()).is_err(),
            "nobody without the key seals a record"
        );
    }
    joined(bytes);
    stream(bytes);
}

/// Whatever the parts, the messages are the same, and no more is kept than has come.
fn joined(bytes: &[u8]) {
    let Some((&size, bytes)) = bytes.split_first() else { return };
    let all = |parts: &mut dyn Iterator<Item = &[u8]>| {
        let mut joiner = Joiner::new(300);
        let mut messages = Vec::new();
        for part in parts {
            joiner.push(part);
            loop {
                match joiner.next() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(error) => return (messages, Some(error)),
                }
            }
        }
        (messages, None)
    };
    let (whole, pieces) =
        (all(&mut std::iter::once(bytes)), all(&mut bytes.chunks(usize::from(size).max(1))));
    assert_eq!(whole, pieces);
}

/// A stream is read as it was written, and with the bytes of the input over it not beyond the first of them.
fn stream(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut writer = EncryptingStream::new(Vec::new(), &key()).expect("random numbers");
        writer.write(bytes).await.expect("it is small");
        let mut written = writer.finish().await.expect("a vector takes everything");
        let mut reader = DecryptingStream::new(&written[..], &key());
        assert_eq!(reader.next().await.expect("it is whole").as_deref(), Some(bytes));
        assert!(matches!(reader.next().await, Ok(None)));
        let at = bytes.first().map_or(0, |&at| usize::from(at) % written.len());
        let mut changed = false;
        for (to, from) in written.iter_mut().skip(at).zip(bytes) {
            changed |= to != from;
            *to = *from;
        }
        let mut reader = DecryptingStream::new(&written[..], &key()).message_bytes_max(1000);
        let error = loop {
            match reader.next().await {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        assert_eq!(error.is_some(), changed);
        assert!(!matches!(error, Some(StreamError::Io(_) | StreamError::Broken)));
    });
}
