//! Encrypted pipes between two programs.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use tinyraftplus_net::{
    ConnectionError, HandshakeError, Key, Listener, MESSAGE_BYTES_MAX, Pipe, connect, listen,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(30), what).await.expect("it hangs")
}

fn key() -> Key {
    Key::from_bytes([7; 32])
}

async fn two() -> (Pipe, Pipe, Listener) {
    let mut listener = listen("127.0.0.1:0", &key()).await.unwrap();
    let here = connect(listener.local_addr(), &key()).await.unwrap();
    let there = soon(listener.accept()).await;
    (here, there, listener)
}

/// One send is one message at the other side, whatever its size; both sides answer; the end is told from a cut.
#[tokio::test(flavor = "multi_thread")]
async fn messages_go_both_ways_and_end() {
    let (here, there, _listener) = two().await;
    let sizes = [0, 1, 100, 65_517, 65_518, 200_000, 3 << 20];
    let (mut send, mut receive) = here.split();
    let echo = async {
        let (mut send, mut receive) = there.split();
        while let Some(message) = receive.receive().await.unwrap() {
            send.send(&message).await.unwrap();
        }
        send.close().await.unwrap();
    };
    let ask = async {
        for size in sizes {
            let message: Vec<u8> = (0..size).map(|at: usize| at.to_le_bytes()[0]).collect();
            send.send(&message).await.unwrap();
            assert_eq!(receive.receive().await.unwrap().unwrap(), message);
        }
        send.close().await.unwrap();
        assert_eq!(receive.receive().await.unwrap(), None);
        assert_eq!(receive.receive().await.unwrap(), None);
    };
    soon(async { tokio::join!(echo, ask) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_without_a_word_was_cut_off() {
    let (here, mut there, _listener) = two().await;
    drop(here);
    let error = soon(there.receive()).await.unwrap_err();
    assert!(matches!(error, ConnectionError::CutOff | ConnectionError::Io(_)), "{error}");
    let (mut here, _there, _listener) = two().await;
    let large = vec![0; MESSAGE_BYTES_MAX + 1];
    let text = "a message of 67108865 bytes is over the limit of 67108864; make it smaller, or raise the limit on both sides";
    assert_eq!(here.send(&large).await.unwrap_err().to_string(), text);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_or_protocol_is_named() {
    let listener = listen("127.0.0.1:0", &key()).await.unwrap();
    let error = connect(listener.local_addr(), &Key::from_bytes([8; 32])).await.unwrap_err();
    assert_eq!(error.to_string(), "the other side has another key; give both sides the same");
    let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = web.local_addr().unwrap();
    let answer = async {
        let (mut stream, _) = web.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        drop(stream.read(&mut [0; 100]).await);
    };
    let (error, ()) = tokio::join!(async { connect(address, &key()).await.unwrap_err() }, answer);
    assert!(matches!(error, ConnectionError::Handshake(HandshakeError::Foreign)), "{error}");
}

/// `slow_reader`: whoever sends waits for whoever reads; neither side keeps more than the network does.
#[tokio::test(flavor = "multi_thread")]
async fn a_sender_waits_for_the_reader() {
    let (mut here, mut there, _listener) = two().await;
    let mut sent = 0;
    // More than the kernel takes: at some point a send waits, and is given up.
    let megabyte = vec![9; 1 << 20];
    let fill = async {
        loop {
            here.send(&megabyte).await.unwrap();
            sent += 1;
        }
    };
    drop(tokio::time::timeout(std::time::Duration::from_secs(1), fill).await);
    assert!(sent < 64, "{sent} MiB");
    // Half of a message is gone: the pipe is of no more use, and says so, instead of sending what nobody can read.
    assert!(matches!(here.send(b"more").await, Err(ConnectionError::CutOff)));
    drop(here);
    for _ in 0..sent {
        assert_eq!(soon(there.receive()).await.unwrap().unwrap().len(), 1 << 20);
    }
    assert!(soon(there.receive()).await.is_err());
}

/// `replayed_session`: what was recorded is said again, and is no pipe.
#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_no_pipe() {
    let mut listener = listen("127.0.0.1:0", &key()).await.unwrap();
    let address = listener.local_addr();
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay_address = relay.local_addr().unwrap();
    let recorded = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&recorded);
    tokio::spawn(async move {
        let (mut from, _) = relay.accept().await.unwrap();
        let mut to = TcpStream::connect(address).await.unwrap();
        let (mut from_read, mut from_write) = from.split();
        let (mut to_read, mut to_write) = to.split();
        let there = async {
            let mut bytes = vec![0; 4096];
            while let Ok(count @ 1..) = from_read.read(&mut bytes).await {
                record.lock().unwrap().extend(&bytes[..count]);
                to_write.write_all(&bytes[..count]).await.unwrap();
            }
        };
        drop(tokio::join!(there, tokio::io::copy(&mut to_read, &mut from_write)));
    });
    let mut here = connect(relay_address, &key()).await.unwrap();
    here.send(b"pay eve 100").await.unwrap();
    let mut there = soon(listener.accept()).await;
    assert_eq!(soon(there.receive()).await.unwrap().unwrap(), &b"pay eve 100"[..]);
    let session = recorded.lock().unwrap().clone();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&session).await.unwrap();
    drop(soon(stream.read_to_end(&mut Vec::new())).await);
    // The next pipe is the next one that is real.
    let mut here = connect(address, &key()).await.unwrap();
    here.send(b"real").await.unwrap();
    let mut there = soon(listener.accept()).await;
    assert_eq!(soon(there.receive()).await.unwrap().unwrap(), &b"real"[..]);
    assert_eq!(listener.refused(), 1);
}
