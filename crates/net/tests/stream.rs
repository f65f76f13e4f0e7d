//! Encrypted messages in a byte stream that somebody may have changed.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use tinyraftplus_net::{DecryptingStream, EncryptingStream, Key, StreamError};

fn key() -> Key {
    Key::from_bytes([7; 32])
}

const MESSAGES: [&[u8]; 5] = [b"first", b"", b"third and a little longer", b"4", b"4"];

async fn written() -> Vec<u8> {
    let mut stream = EncryptingStream::new(Vec::new(), &key()).unwrap();
    for message in MESSAGES {
        stream.write(message).await.unwrap();
    }
    stream.finish().await.unwrap()
}

/// What can be read of it, and how that ends.
async fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Option<StreamError>) {
    let mut stream = DecryptingStream::new(bytes, &key()).message_bytes_max(1000);
    let mut messages = Vec::new();
    loop {
        match stream.next().await {
            Ok(Some(message)) => messages.push(message.to_vec()),
            Ok(None) => return (messages, None),
            Err(error) => {
                // It stays wrong.
                assert_eq!(stream.next().await.unwrap_err().to_string(), error.to_string());
                return (messages, Some(error));
            }
        }
    }
}

/// Where each frame begins, and the end.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![40];
    while let Some(length) = bytes.get(starts[starts.len() - 1]..).and_then(|it| it.first_chunk()) {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap();
        starts.push(starts[starts.len() - 1] + 4 + length);
    }
    starts
}

#[tokio::test]
async fn one_write_is_one_message() {
    let bytes = written().await;
    let (messages, error) = read(&bytes).await;
    assert!(error.is_none());
    assert_eq!(messages, MESSAGES);
    // Equal messages, and equal streams, look different.
    let starts = frames(&bytes);
    assert_eq!(starts.len(), MESSAGES.len() + 2);
    assert_ne!(bytes[starts[3]..starts[4]], bytes[starts[4]..starts[5]]);
    assert_ne!(bytes, written().await);
}

/// In pieces of any size, over a pipe that is full after a few bytes.
#[tokio::test]
async fn boundaries_are_kept_whatever_the_pieces() {
    for size in [1, 2, 7, 4096] {
        let (near, far) = tokio::io::duplex(size);
        let large = vec![5; 100_000];
        let write = async {
            let mut stream = EncryptingStream::new(near, &key()).unwrap();
            stream.write(&large).await.unwrap();
            stream.write(b"small").await.unwrap();
            stream.finish().await.unwrap()
        };
        let read = async {
            let mut stream = DecryptingStream::new(far, &key());
            assert_eq!(stream.next().await.unwrap().unwrap(), large);
            assert_eq!(stream.next().await.unwrap().unwrap(), &b"small"[..]);
            assert_eq!(stream.next().await.unwrap(), None);
        };
        tokio::join!(write, read);
    }
}

/// Any bit: what comes before is read, nothing after it, and never something else.
#[tokio::test]
async fn any_changed_bit_is_an_error() {
    let bytes = written().await;
    let starts = frames(&bytes);
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (messages, error) = read(&bytes).await;
        let whole = starts.iter().filter(|&&start| start <= bit / 8).count().saturating_sub(1);
        assert_eq!(messages, MESSAGES[..whole.min(5)], "bit {bit}");
        assert!(error.is_some(), "bit {bit}");
    }
}

/// Frames that are moved, repeated or left out; and every place where it can be cut.
#[tokio::test]
async fn reordered_repeated_and_cut_off_are_errors() {
    let bytes = written().await;
    let starts = frames(&bytes);
    let frame = |at: usize| &bytes[starts[at]..starts[at + 1]];
    let header = &bytes[..40];
    let changed: [(&[&[u8]], u64); 4] = [
        (&[header, frame(1), frame(0)], 0),
        (&[header, frame(0), frame(0)], 1),
        (&[header, frame(0), frame(2)], 1),
        (&[header, frame(0), frame(1), frame(4)], 2),
    ];
    for (parts, at) in changed {
        let (messages, error) = read(&parts.concat()).await;
        assert_eq!(messages.len() as u64, at);
        let text = format!("message {at} of the stream was changed, moved, repeated or lost");
        assert_eq!(error.unwrap().to_string(), text);
    }
    for cut in 0..bytes.len() {
        let (messages, error) = read(&bytes[..cut]).await;
        assert_eq!(messages[..], MESSAGES[..messages.len()]);
        let number = messages.len() as u64;
        assert!(matches!(error, Some(StreamError::CutOff { number: n }) if n == number), "{cut}");
    }
}

#[tokio::test]
async fn another_key_another_stream_and_large_messages_are_named() {
    let bytes = written().await;
    let mut stream = DecryptingStream::new(&bytes[..], &Key::from_bytes([8; 32]));
    assert!(matches!(stream.next().await, Err(StreamError::WrongKey)));
    let (_, error) = read(b"GET / HTTP/1.1").await;
    assert!(matches!(error, Some(StreamError::Foreign)));

    // `huge_frame`: refused before anything is kept for it.
    let huge = [&bytes[..40], &u32::MAX.to_le_bytes(), &[0; 100]].concat();
    let (_, error) = read(&huge).await;
    assert!(matches!(error, Some(StreamError::TooLarge { limit: 1000, .. })));

    let mut stream = EncryptingStream::new(Vec::new(), &key()).unwrap().message_bytes_max(9);
    assert!(matches!(
        stream.write(&[0; 10]).await,
        Err(StreamError::TooLarge { bytes: 10, limit: 9 })
    ));
    stream.write(&[0; 9]).await.unwrap();
    let bytes = stream.finish().await.unwrap();
    assert_eq!(read(&bytes).await.0, [[0; 9]]);
}
