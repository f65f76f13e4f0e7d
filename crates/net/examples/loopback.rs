//! How fast messages go over encrypted TCP on this machine: `cargo run --release -p tinyraftplus-net --example loopback`.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinyraftplus_core::{
    self as core, Entry, EntryBody, EntryId, Identity, MessageBody, Seq, Term,
};
use tinyraftplus_net::{Inbox, Key, Message, NodeId, TcpTransport, Transport, Wire};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

struct Ears(NodeId, UnboundedSender<Message>);

impl Inbox for Ears {
    fn deliver(&self, _from: NodeId, message: Message) -> bool {
        self.1.send(message).is_ok()
    }

    fn id(&self) -> NodeId {
        self.0
    }
}

async fn node(
    id: u64,
    key: &Key,
) -> Result<(TcpTransport, UnboundedReceiver<Message>), Box<dyn Error>> {
    let transport = TcpTransport::bind("127.0.0.1:0", key, &[]).await?;
    let (sender, messages) = unbounded_channel();
    transport.attach(Arc::new(Ears(NodeId::from(id), sender)));
    Ok((transport, messages))
}

/// What a leader sends: so many entries of so many bytes.
fn append(entries: u64, bytes: usize) -> Message {
    let term = Term::new(3);
    let entry = |seq| Entry {
        id: EntryId::new(term, Seq::new(seq)),
        ends_batch: true,
        body: EntryBody::Payload(Bytes::from(vec![7; bytes])),
    };
    let (prev, round) = (None, 1);
    let entries = (0..entries).map(entry).collect();
    let body = MessageBody::Append { prev, entries, committed: Seq::ZERO, round };
    Message::Raft(core::Message { from: Identity::new(1), to: Some(Identity::new(2)), term, body })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let key = Key::generate()?;
    let (one, mut to_one) = node(1, &key).await?;
    let (two, mut to_two) = node(2, &key).await?;
    one.set_peer(NodeId::from(2), two.local_addr().to_string());
    two.set_peer(NodeId::from(1), one.local_addr().to_string());

    println!("a message there and another back, one at a time");
    for (what, message) in
        [("heartbeat", append(0, 0)), ("1 KiB", append(1, 1024)), ("64 KiB", append(64, 1024))]
    {
        let mut took = Vec::new();
        for _ in 0..20_000 {
            let began = Instant::now();
            one.send(NodeId::from(2), message.clone());
            let there = to_two.recv().await.ok_or("gone")?;
            two.send(NodeId::from(1), there);
            to_one.recv().await.ok_or("gone")?;
            took.push(began.elapsed());
        }
        took.sort();
        let at = |part: usize| took.get(took.len() * part / 1000).copied().unwrap_or_default();
        println!(
            "  {what:<10} p50 {:>8.1?} p99 {:>8.1?} p99.9 {:>8.1?}",
            at(500),
            at(990),
            at(999)
        );
    }

    println!("as much as goes, in one direction");
    for (what, message, window) in [
        ("heartbeats", append(0, 0), 512),
        ("1 KiB in one entry", append(1, 1024), 512),
        ("64 KiB in entries of 256 B", append(256, 256), 64),
        ("64 KiB in entries of 1 KiB", append(64, 1024), 64),
        ("1 MiB in entries of 1 KiB", append(1024, 1024), 8),
        ("1 MiB in one entry", append(1, 1 << 20), 8),
    ] {
        let bytes = message.encode().len();
        let (mut sent, mut got) = (0_u32, 0);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) || got < sent {
            while sent - got < window && began.elapsed() < Duration::from_secs(2) {
                one.send(NodeId::from(2), message.clone());
                sent += 1;
            }
            if got < sent {
                to_two.recv().await.ok_or("gone")?;
                got += 1;
            }
        }
        let rate = f64::from(got) / began.elapsed().as_secs_f64();
        let megabytes = rate * f64::from(u32::try_from(bytes)?) / 1e6;
        println!("  {what:<28} {rate:>9.0} messages/s {megabytes:>7.0} MB/s");
    }

    println!("without a network");
    for (what, message) in [
        ("64 KiB in entries of 256 B", append(256, 256)),
        ("64 KiB in entries of 1 KiB", append(64, 1024)),
    ] {
        let bytes = message.encode();
        let time = |run: &dyn Fn()| {
            let began = Instant::now();
            (0..5000).for_each(|_| run());
            began.elapsed() / 5000
        };
        let encode = time(&|| drop(std::hint::black_box(message.encode())));
        let decode = time(&|| drop(std::hint::black_box(Message::decode(&bytes))));
        println!("  {what:<28} encode {encode:>7.1?} decode {decode:>7.1?}");
    }
    let lost = one.stats().dropped + two.stats().dropped;
    if lost == 0 { Ok(()) } else { Err(format!("{lost} messages were dropped").into()) }
}
