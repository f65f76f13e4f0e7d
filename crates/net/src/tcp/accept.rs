//! Connections that others make: who they are, and what comes over them.

use std::future::poll_fn;
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use tinyraftplus_core::NodeId;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::{NetEvent, PEERS_MAX, Shared, tune};
use crate::door::Door;
use crate::handshake::{HandshakeError, Hello, Purpose};
use crate::lanes::{Joiner, Kind};
use crate::records::{RecordReader, RecordWriter, respond, within};
use crate::wire::Lane;
use crate::{ConnectionError, DecodeError, Inbox, Message, Wire};

/// Accepts until the listener is gone.
pub(super) async fn run(shared: Weak<Shared>, listener: Weak<TcpListener>, hello: Hello) {
    let mut door = None;
    loop {
        // It is held for moments only, so that the address is free as soon as the node is detached.
        let accepted = poll_fn(|context| match listener.upgrade() {
            Some(listener) => listener.poll_accept(context).map(Some),
            None => Poll::Ready(None),
        });
        let (Some(accepted), Some(shared)) = (accepted.await, shared.upgrade()) else { return };
        let door = door.get_or_insert_with(|| Door::new(shared.options.handshakes_max));
        match accepted {
            Ok((stream, from)) => door.open(greet(shared, stream, from, hello.clone())),
            // Most likely there are too many open files; that takes a while.
            Err(why) => {
                if let Some(inbox) = shared.inbox() {
                    shared.reporter.cant_accept(&*inbox, why);
                }
                drop(shared);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Lets a connection in once it is proved.
async fn greet(shared: Arc<Shared>, stream: TcpStream, from: SocketAddr, hello: Hello) {
    let limit = shared.options.handshake_timeout;
    let proved = within(limit, prove(&shared, stream, &hello)).await;
    let Some(inbox) = shared.inbox() else { return };
    match proved {
        Ok((peer, incoming)) => shared.admit(peer, from, incoming, &inbox),
        Err(why) => shared.reporter.refused(&*inbox, from, why),
    }
}

/// The handshake, and the first record, which only who is there now can make.
async fn prove(
    shared: &Shared,
    mut stream: TcpStream,
    hello: &Hello,
) -> Result<(NodeId, Incoming), ConnectionError> {
    tune(&stream)?;
    let (session, theirs) = respond(&mut stream, &shared.key, Purpose::Nodes, hello).await?;
    let peer = theirs.id.ok_or(HandshakeError::Foreign)?;
    let (read, write) = stream.into_split();
    let (sealer, opener) = session.split();
    let mut records = RecordReader::new(read, opener);
    // It says no more than that it is there.
    if records.next().await?.first() != Some(&Kind::Ping.byte()) {
        return Err(HandshakeError::Foreign.into());
    }
    Ok((peer, Incoming { records, replies: RecordWriter::new(write, sealer) }))
}

/// A connection that was let in.
struct Incoming {
    records: RecordReader<OwnedReadHalf>,
    replies: RecordWriter<OwnedWriteHalf>,
}

impl Shared {
    fn inbox(&self) -> Option<Arc<dyn Inbox>> {
        self.state().node.as_ref().map(|node| Arc::clone(&node.inbox))
    }

    /// From now on this is the connection of that name.
    fn admit(
        self: &Arc<Self>,
        peer: NodeId,
        from: SocketAddr,
        incoming: Incoming,
        inbox: &Arc<dyn Inbox>,
    ) {
        let mut state = self.state();
        // Closed meanwhile.
        let Some(node) = state.node.as_mut() else { return };
        if node.receiving.len() >= PEERS_MAX {
            node.receiving.retain(|_, running| !running.is_finished());
        }
        if node.receiving.len() >= PEERS_MAX && !node.receiving.contains_key(&peer) {
            drop(state);
            self.reporter.refused(&**inbox, from, ConnectionError::Crowded { limit: PEERS_MAX });
            return;
        }
        self.reporter.accepted();
        let receiving = receive(Arc::clone(self), peer, incoming, Arc::clone(inbox));
        let running = self.runtime.spawn(receiving).abort_handle();
        let before = node.receiving.insert(peer, running);
        // It is there, so it can be reached.
        if let Some((link, _)) = node.links.get(&peer) {
            link.note_seen();
        }
        drop(state);
        if let Some(before) = before.filter(|before| !before.is_finished()) {
            before.abort();
            inbox.tell(NetEvent::Replaced { peer });
        }
    }
}

/// Gives what comes to the node, until the connection ends. Whoever made it makes another one.
async fn receive(shared: Arc<Shared>, peer: NodeId, mut incoming: Incoming, inbox: Arc<dyn Inbox>) {
    let limit = shared.options.silence_timeout;
    let mut lanes = [(); 3].map(|()| Joiner::new(shared.options.message_bytes_max));
    let mut is_newer = false;
    let Incoming { records, replies } = &mut incoming;
    let pong = [Kind::Pong.byte()];
    if within(limit, replies.write(&pong)).await.is_err() {
        return;
    }
    // A record after the other: a peer that sends much and reads nothing holds up only itself.
    let why = loop {
        let taken = within(limit, async {
            let content = records.next().await?;
            take(&shared, content, &mut lanes, |message| match message {
                Ok(message) => shared.reporter.received(inbox.deliver(peer, message)),
                Err(why @ DecodeError::Newer { .. }) => {
                    shared.reporter.skipped();
                    if !mem::replace(&mut is_newer, true) {
                        inbox.tell(NetEvent::Newer { peer, why });
                    }
                }
                Err(why) => shared.reporter.malformed(&*inbox, peer, why),
            })
        });
        let is_ping = match taken.await {
            Ok(is_ping) => is_ping,
            Err(why) => break why,
        };
        if is_ping && within(limit, replies.write(&pong)).await.is_err() {
            return;
        }
    };
    // That it is gone, its own way says.
    if matches!(why, ConnectionError::Changed | ConnectionError::TooLarge { .. }) {
        shared.reporter.ended(&*inbox, peer, why);
    }
}

/// Takes a record; true if it wants an answer.
fn take(
    shared: &Shared,
    content: &[u8],
    lanes: &mut [Joiner; 3],
    mut give: impl FnMut(Result<Message, DecodeError>),
) -> Result<bool, ConnectionError> {
    let Some((&kind, part)) = content.split_first() else { return Ok(false) };
    let [control, append, bulk] = lanes;
    let lane = match Kind::of(kind) {
        Some(Kind::Part(Lane::Control)) => control,
        Some(Kind::Part(Lane::Append)) => append,
        Some(Kind::Part(Lane::Bulk)) => bulk,
        Some(Kind::Ping) => return Ok(true),
        Some(Kind::Pong | Kind::End) => return Ok(false),
        None => {
            shared.reporter.skipped();
            return Ok(false);
        }
    };
    lane.push(part);
    while let Some(bytes) = lane.next()? {
        give(Message::decode(&bytes));
    }
    Ok(false)
}
