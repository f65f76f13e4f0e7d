//! Both packets, changed, repeated, reflected, of other versions, and as they were when they were frozen.

use super::*;
use crate::session::{CONTENT_BYTES_MAX, Opener};

fn hello(id: u64) -> Hello {
    Hello { id: Some(NodeId::from(id)), ..Hello::default() }
}

fn key() -> Key {
    Key::from_bytes([7; 32])
}

fn split(packet: &[u8]) -> (Head, &[u8]) {
    let (head, rest) = packet.split_first_chunk().unwrap();
    let head = Head::read(Purpose::Nodes, *head).unwrap();
    assert_eq!(head.bytes, rest.len());
    (head, rest)
}

/// Without a look at the length: that is the reader's business.
fn changed(mut packet: Vec<u8>, bit: usize) -> Option<(Head, Vec<u8>)> {
    packet[bit / 8] ^= 1 << (bit % 8);
    let (head, rest) = packet.split_first_chunk().unwrap();
    Some((Head::read(Purpose::Nodes, *head).ok()?, rest.to_vec()))
}

fn start(hello: Hello) -> (Initiator, Vec<u8>) {
    Initiator::start(&key(), Purpose::Nodes, hello).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn answered(packet: &[u8]) -> Answered {
    let (head, rest) = split(packet);
    answer(&key(), Purpose::Nodes, &hello(2), head, rest)
}

#[test]
fn both_sides_learn_who_the_other_is_and_read_each_other() {
    let rules = (0..64).map(|version| CustomRule::new(&"x".repeat(63), version).unwrap());
    let first = Hello { to: Some(NodeId::from(2)), rules: rules.collect(), ..hello(1) };
    let (initiator, packet) = start(first.clone());
    let Answered { packet, result } = answered(&packet);
    let (there, theirs) = result.unwrap();
    assert_eq!(theirs, first);
    let packet = packet.unwrap();
    let (head, rest) = split(&packet);
    let (here, theirs) = initiator.finish(head, rest).unwrap();
    assert_eq!(theirs, hello(2));
    let (mut seal, mut open) = (here.split().0, there.split().1);
    let (mut sealed, mut content) = (Vec::new(), Vec::new());
    seal.seal(b"hello", &mut sealed).unwrap();
    open.open(&sealed[2..], &mut content).unwrap();
    assert_eq!(content, b"hello");
    // The same record again, and one that was changed.
    assert!(open.open(&sealed[2..], &mut content).is_err());
    seal.seal(b"hello", &mut sealed).unwrap();
    sealed[30] ^= 1;
    assert!(open.open(&sealed[25..], &mut content).is_err());
}

/// `reflected_session`: whatever a side has sealed does not open at that side, and its own first packet is no answer to it.
#[test]
fn reflected_session() {
    let (initiator, first) = start(hello(1));
    let (head, rest) = split(&first);
    let reflected = Initiator { noise: start(hello(1)).0.noise, hello: hello(1) };
    assert!(reflected.finish(head, rest).is_err());
    let back = answer(&key(), Purpose::Nodes, &hello(1), head, rest).result;
    assert_eq!(back.err(), Some(HandshakeError::SameName(NodeId::from(1))));

    let Answered { packet, result } = answered(&first);
    let packet = packet.unwrap();
    let (head, rest) = split(&packet);
    let here = initiator.finish(head, rest).unwrap().0;
    for (mut sealer, mut opener) in [here.split(), result.unwrap().0.split()] {
        let mut sealed = Vec::new();
        sealer.seal(b"hello", &mut sealed).unwrap();
        assert!(opener.open(&sealed[2..], &mut Vec::new()).is_err());
    }
}

/// A whole connection of version 1, as it was when that was frozen, with the secret that its initiator had drawn: today's code reads both
/// sides, and writes the same as the initiator did. `WIRE_FIXTURES=write cargo test -p tinyraftplus-net --lib` makes a new one; for a
/// version that was released, never.
#[test]
fn a_session_of_version_1_is_frozen() {
    const SECRET: [u8; 32] = [11; 32];
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/wire-v1/session.txt");
    let key = Purpose::Nodes.key(&key());
    let prologue = first_head(Purpose::Nodes, VERSIONS);
    let rules = vec![CustomRule::new("near", 2).unwrap()];
    let cluster = "tests".to_owned();
    let said = |id: u64| Hello {
        id: Some(NodeId::from(id)),
        to: (id == 1).then(|| NodeId::from(2)),
        cluster: cluster.clone(),
        rules: rules.clone(),
        takes: 64 << 20,
    };
    let drawn = builder(&key, &prologue).unwrap().fixed_ephemeral_key_for_testing_only(&SECRET);
    let mut noise = drawn.build_initiator().unwrap();
    let first = packet(&mut noise, &prologue, &put_hello(&said(1), 0, 0)).unwrap();
    let initiator = Initiator { noise, hello: said(1) };
    let longest = vec![2; CONTENT_BYTES_MAX];
    let records = [&b"\x03"[..], b"\x00\x02\0\0\0hi", &longest];
    let sealed = |session: &Session| {
        let (mut sealer, _) = session.clone().split();
        let mut bytes = Vec::new();
        for record in records {
            sealer.seal(record, &mut bytes).unwrap();
        }
        // Of the longest, its end is enough.
        [&bytes[..200], &bytes[bytes.len() - 16..]].concat()
    };
    let (head, rest) = split(&first);
    let answered = answer(&key, Purpose::Nodes, &said(2), head, rest);
    if std::env::var_os("WIRE_FIXTURES").is_some_and(|it| it == "write") {
        let second = answered.packet.clone().unwrap();
        let there = sealed(&answered.result.as_ref().unwrap().0);
        let (head, rest) = split(&second);
        let drawn = builder(&key, &prologue).unwrap();
        let drawn = drawn.fixed_ephemeral_key_for_testing_only(&SECRET);
        let mut noise = drawn.build_initiator().unwrap();
        packet(&mut noise, &prologue, &put_hello(&said(1), 0, 0)).unwrap();
        let here = Initiator { noise, hello: said(1) }.finish(head, rest).unwrap().0;
        let lines = [&first, &second, &sealed(&here), &there].map(|bytes| hex(bytes));
        std::fs::write(path, lines.join("\n") + "\n").unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap();
    let [kept_first, kept_second, here, there] =
        <[Vec<u8>; 4]>::try_from(kept.lines().map(unhex).collect::<Vec<_>>()).unwrap();
    assert_eq!(first, kept_first);
    assert_eq!(answered.result.unwrap().1, said(1));
    let (head, rest) = split(&kept_second);
    let (session, theirs) = initiator.finish(head, rest).unwrap();
    assert_eq!(theirs, said(2));
    assert_eq!(sealed(&session), here);
    let mut opener = session.split().1;
    let mut content = Vec::new();
    let mut rest = &there[..];
    for record in &records[..2] {
        let (length, sealed) = rest.split_first_chunk().unwrap();
        let (sealed, after) = sealed.split_at(Opener::sealed_bytes(*length).unwrap());
        opener.open(sealed, &mut content).unwrap();
        assert_eq!(content, *record);
        rest = after;
    }
}

/// Any bit of either packet, and any shorter one: no connection, and no panic.
#[test]
fn a_changed_packet_is_no_handshake() {
    let (_, packet) = start(hello(1));
    for bit in (0..80).chain(96..packet.len() * 8) {
        if let Some((head, rest)) = changed(packet.clone(), bit) {
            assert!(answer(&key(), Purpose::Nodes, &hello(2), head, &rest).result.is_err());
        }
    }
    let reply = answered(&packet).packet.unwrap();
    // Byte 9 says nothing.
    for bit in (0..72).chain(96..reply.len() * 8) {
        let (initiator, packet) = start(hello(1));
        if let Some((head, rest)) = changed(answered(&packet).packet.unwrap(), bit) {
            assert!(initiator.finish(head, &rest).is_err());
        }
    }
    for cut in 0..packet.len() - HEAD_BYTES {
        let (head, rest) = split(&packet);
        assert!(answer(&key(), Purpose::Nodes, &hello(2), head, &rest[..cut]).result.is_err());
    }
}

/// An answer that was recorded belongs to another first packet.
#[test]
fn a_recorded_answer_is_none() {
    let (_, packet) = start(hello(1));
    let recorded = answered(&packet).packet.unwrap();
    let (initiator, _) = start(hello(1));
    let (head, rest) = split(&recorded);
    assert_eq!(initiator.finish(head, rest).err(), Some(HandshakeError::Key));
}

/// `wrong_cluster`, versions: a newer program that still speaks this version gets it; one that does not is told, and
/// tells.
#[test]
fn versions_are_agreed_on_or_named() {
    let from = |oldest, newest| {
        let versions = Versions { oldest, newest };
        let head = first_head(Purpose::Nodes, versions);
        let mut noise = noise(&key(), &head, Side::Initiator).unwrap();
        let packet = packet(&mut noise, &head, &put_hello(&hello(1), 0, 0)).unwrap();
        (noise, packet)
    };
    let (mut noise, packet) = from(1, 9);
    let reply = answered(&packet).packet.unwrap();
    let (_, version, code) = read_packet(&mut noise, split(&reply).1).unwrap();
    assert_eq!((version, code), (1, 0));

    let (_, packet) = from(2, 9);
    let Answered { packet, result } = answered(&packet);
    let text = "speaks versions 2 to 9 of the protocol, this side version 1; update the older one";
    assert_eq!(result.err().unwrap().to_string(), text);
    let reply = packet.unwrap();
    let (initiator, _) = start(hello(1));
    let (head, _) = split(&reply);
    let error = initiator.finish(head, &[2, 9]).err().unwrap();
    assert_eq!(error.to_string(), text);
    assert_eq!(reply[HEAD_BYTES..], [1, 1]);
    // Nobody on the way can make two programs speak an older version.
    let (_, mut packet) = from(1, 9);
    packet[9] = 1;
    assert_eq!(answered(&packet).result.err(), Some(HandshakeError::Key));
}

/// What a newer version says besides, and a reason that this one does not know.
#[test]
fn a_newer_hello_is_read() {
    let newer = [&put_hello(&hello(1), 0, 0)[..], &[20, 5, 23, 1, 9]].concat();
    assert_eq!(take_hello(&newer), Some((hello(1), 0, 0)));
    let (initiator, packet) = start(hello(1));
    let (_, rest) = split(&packet);
    let mut noise = noise(&key(), &first_head(Purpose::Nodes, VERSIONS), Side::Responder).unwrap();
    read_packet(&mut noise, rest).unwrap();
    let reply = put_hello(&hello(2), 1, 77);
    let reply = super::packet(&mut noise, &second_head(Purpose::Nodes, NOISE), &reply).unwrap();
    let (head, rest) = split(&reply);
    assert_eq!(initiator.finish(head, rest).err(), Some(HandshakeError::Refused(77)));
}
