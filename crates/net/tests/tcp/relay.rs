//! A network between two sockets that can be slow, swallow everything, stand still, and remember.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::Interval;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Pass,
    /// Takes everything and passes nothing on, as if the cable were cut.
    Swallow,
    /// Takes nothing, as a process that was stopped.
    Stand,
    /// Passes so many bytes a millisecond on, in the direction of the one who was connected to.
    Slow(usize),
}

pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    mode: watch::Sender<Mode>,
    /// What those who connected said, each connection apart.
    recorded: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Relay {
    pub(crate) async fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // What the relay itself keeps is not the sender's to order.
        socket2::SockRef::from(&listener).set_recv_buffer_size(16 << 10).unwrap();
        let (mode, mode_seen) = watch::channel(Mode::Pass);
        let recorded = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&recorded);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let at = {
                    let mut record = record.lock().unwrap();
                    record.push(Vec::new());
                    record.len() - 1
                };
                let there = (mode_seen.clone(), Some((Arc::clone(&record), at)));
                tokio::spawn(relay(from, to, there, mode_seen.clone()));
            }
        });
        Self { address, mode, recorded }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    pub(crate) fn recorded(&self, at: usize) -> Vec<u8> {
        self.recorded.lock().unwrap().get(at).cloned().unwrap_or_default()
    }
}

type Record = Option<(Arc<Mutex<Vec<Vec<u8>>>>, usize)>;

async fn relay(
    from: TcpStream,
    to: SocketAddr,
    (mode, record): (watch::Receiver<Mode>, Record),
    back_mode: watch::Receiver<Mode>,
) {
    let socket = TcpSocket::new_v4().unwrap();
    let Ok(to) = socket.connect(to).await else { return };
    let (from_read, from_write) = from.into_split();
    let (to_read, to_write) = to.into_split();
    tokio::select! {
        () = copy(from_read, to_write, mode, record, true) => {}
        () = copy(to_read, from_write, back_mode, None, false) => {}
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    record: Record,
    is_there: bool,
) {
    let mut bytes = vec![0; 16 << 10];
    let mut beat: Interval = tokio::time::interval(Duration::from_millis(2));
    loop {
        if mode.wait_for(|mode| *mode != Mode::Stand).await.is_err() {
            return;
        }
        let now = *mode.borrow();
        let limit = match now {
            Mode::Slow(rate) if is_there => {
                // A model of a slow link, not a wait for something.
                beat.tick().await;
                rate * 2
            }
            Mode::Slow(_) | Mode::Pass | Mode::Swallow | Mode::Stand => bytes.len(),
        };
        let limit = limit.min(bytes.len());
        let part = bytes.get_mut(..limit).unwrap_or_default();
        let Ok(count @ 1..) = from.read(part).await else {
            // A cut cable carries no end of a connection either.
            drop(mode.wait_for(|mode| *mode != Mode::Swallow).await);
            return;
        };
        let part = bytes.get(..count).unwrap_or_default();
        if let Some((record, at)) = &record
            && let Some(said) = record.lock().unwrap().get_mut(*at)
        {
            said.extend(part);
        }
        if now != Mode::Swallow && to.write_all(part).await.is_err() {
            return;
        }
    }
}
