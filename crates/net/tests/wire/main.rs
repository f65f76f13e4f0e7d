//! Messages as bytes: all of them, those of other versions, and bytes that are none.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod samples;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

use bytes::Bytes;
use samples::{KINDS, Rng, any};
use tinyraftplus_core::{
    Entry, EntryBody, EntryId, Identity, MessageBody, NodeId, Options, Seq, Term,
};
use tinyraftplus_net::{DecodeError, Message, Wire};
use tinyraftplus_replica::{Answer, Answers, ENTRIES_MAX, Forward, ReplicaOptions, Route};

#[test]
fn what_was_written_is_read() {
    let mut rng = Rng(1);
    for _ in 0..200 {
        for kind in 0..KINDS {
            let message = any(kind, &mut rng);
            let bytes = message.encode();
            assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message));
        }
    }
}

/// A part of a message is no message, or is one that lacks its last fields; it never reads beyond its end.
#[test]
fn what_is_cut_off_is_noticed_or_lacks_its_end() {
    let mut rng = Rng(2);
    for kind in 0..KINDS {
        let bytes = any(kind, &mut rng).encode();
        for cut in 0..bytes.len() {
            if let Ok(message) = Message::decode(&bytes.slice(..cut)) {
                assert!(message.encode().len() <= cut + 40, "{message:?}");
            }
        }
    }
}

/// `malformed_message`: whatever the bytes, they are a message or a reason why not, and a message that was read is
/// the same when it is written and read again.
#[test]
fn foreign_bytes_are_no_panic_and_nothing_made_up() {
    let mut rng = Rng(3);
    for round in 0..20_000 {
        let mut bytes = if round % 2 == 0 {
            any(rng.below(KINDS), &mut rng).encode().to_vec()
        } else {
            [&[1 + u8::try_from(rng.below(40)).unwrap()], &rng.bytes()[..]].concat()
        };
        for _ in 0..=rng.below(3) {
            let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
            bytes[at] = rng.next().to_le_bytes()[0];
        }
        if let Ok(message) = Message::decode(&Bytes::from(bytes)) {
            let _ = message.malformed();
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }
}

/// Payloads of some size are parts of what came from the network.
#[test]
fn payloads_are_not_copied() {
    let mut rng = Rng(4);
    let mut seen = 0;
    while seen < 20 {
        let bytes = any(6, &mut rng).encode();
        let within = bytes.as_ptr_range();
        let Message::Raft(message) = Message::decode(&bytes).unwrap() else { panic!() };
        let MessageBody::Append { entries, .. } = message.body else { panic!() };
        for entry in entries {
            if let EntryBody::Payload(payload) = entry.body
                && !payload.is_empty()
            {
                assert!(within.contains(&payload.as_ptr()));
                seen += 1;
            }
        }
    }
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

/// Fields of versions that do not exist yet, at the end of a message and of every item.
fn newer_fields(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=rng.below(3) {
        let number =
            [10, 11, 12, 15, 17, 18, 900, u64::MAX / 2][usize::try_from(rng.below(8)).unwrap()];
        let value = rng.bytes();
        if rng.below(2) == 0 {
            bytes.extend(varint(number * 2));
            bytes.extend(varint(rng.next()));
        } else {
            bytes.extend(varint(number * 2 + 1));
            bytes.extend(varint(value.len() as u64));
            bytes.extend(&value[..]);
        }
    }
    bytes
}

/// A newer version says more than this one knows: what this one knows is read as ever. Fails if an unknown number
/// is an error, or is taken for a known one.
#[test]
fn fields_of_a_newer_version_are_skipped() {
    let mut rng = Rng(5);
    for _ in 0..100 {
        for kind in 0..KINDS {
            let message = any(kind, &mut rng);
            let bytes = [&message.encode()[..], &newer_fields(&mut rng)].concat();
            assert_eq!(Message::decode(&bytes.into()), Ok(message));
        }
    }
    // In an item: an entry with its payload, and more.
    let mut entry = vec![5 * 2 + 1, 2, b'h', b'i'];
    entry.extend(newer_fields(&mut rng));
    let mut append = vec![7, 3];
    append.push(16);
    append.extend([9; 16]);
    append.extend(varint(16 * 2 + 1));
    append.extend(varint(entry.len() as u64));
    append.extend(entry);
    let Message::Raft(message) = Message::decode(&append.into()).unwrap() else { panic!() };
    let MessageBody::Append { entries, .. } = message.body else { panic!() };
    let payload = Bytes::from_static(b"hi");
    assert_eq!(entries[0].body, EntryBody::Payload(payload));
}

/// What this version can't understand at all says so, and is not taken for a mistake.
#[test]
fn kinds_of_a_newer_version_are_told_from_malformed_ones() {
    let identity: Vec<u8> = [&[3, 16][..], &[9; 16]].concat();
    for kind in [0, 11, 31, 44, 127, 128, u64::MAX] {
        let bytes = [varint(kind), identity.clone()].concat();
        let newer = Err(DecodeError::Newer { what: "a message", kind });
        assert_eq!(Message::decode(&bytes.into()), newer);
    }
    let entry = [&[33, 2, 3 * 2][..], &[99]].concat();
    let bytes = [&[7][..], &identity, &entry].concat();
    let newer = Err(DecodeError::Newer { what: "an entry", kind: 99 });
    assert_eq!(Message::decode(&bytes.into()), newer);
    let text = DecodeError::Newer { what: "an entry", kind: 99 }.to_string();
    assert_eq!(text, "is, or holds, an entry of kind 99, which this version does not know");
}

/// `too_large`, the other way round: the largest batch there may be is read, whatever it travels in, and is no longer than nodes reckon with. Fails
/// if a receiver counts a call, or an answer, as one of the entries in it: a batch of 1,048,576 entries never came from a follower to its leader.
#[test]
fn the_largest_batches_are_read() {
    let count = ENTRIES_MAX;
    let route = Route {
        origin: Identity::new(1),
        incarnation: u64::MAX,
        leader: Identity::new(2),
        term: Term::new(u64::MAX),
    };
    let payloads = |bytes| vec![Bytes::from(vec![9; bytes]); count];
    let id = |seq| EntryId::new(Term::new(u64::MAX), Seq::new(seq));
    let entries = |bytes| {
        let entry = |(seq, payload)| Entry {
            id: id(seq),
            ends_batch: seq == u64::MAX - 1,
            body: EntryBody::Payload(payload),
        };
        (u64::MAX - count as u64..).zip(payloads(bytes)).map(entry).collect()
    };
    let append = |bytes| {
        Message::Raft(tinyraftplus_core::Message {
            from: Identity::new(1),
            to: Some(Identity::new(2)),
            term: Term::new(u64::MAX),
            body: MessageBody::Append {
                prev: Some(EntryId::new(Term::new(1), Seq::new(1))),
                entries: entries(bytes),
                committed: Seq::MAX,
                round: u64::MAX,
            },
        })
    };
    let forward = |bytes| {
        Message::Forward(Forward {
            route,
            awaiting: 1,
            first: u64::MAX,
            calls: vec![payloads(bytes)],
        })
    };
    let answers = |bytes| {
        let answer = Answer::Committed { first: id(0), last: id(9), results: payloads(bytes) };
        Message::Answers(Answers { route, from: Identity::new(2), answers: vec![(1, answer)] })
    };
    for bytes in [0, 1, 16] {
        let mut options = ReplicaOptions::new(Options::new(NodeId::from(1), Vec::new(), 0));
        options.batch_bytes_max = (count * bytes) as u64;
        for message in [append(bytes), forward(bytes), answers(bytes)] {
            let encoded = message.encode();
            assert!(encoded.len() as u64 <= options.message_bytes_max(), "{}", encoded.len());
            assert!(Message::decode(&encoded) == Ok(message));
        }
    }
}

/// A message of two bytes an item would take fifty times its size in memory.
#[test]
fn items_are_counted_before_they_are_kept() {
    let many = |count: usize| {
        let mut bytes = vec![7, 3, 16];
        bytes.extend([9; 16]);
        bytes.extend([33, 0].repeat(count));
        Message::decode(&bytes.into())
    };
    let most = ENTRIES_MAX + 1024;
    assert!(many(most).is_ok());
    assert_eq!(many(most + 1), Err(DecodeError::Malformed("too many items")));
}

/// The bytes of version 1, as they were when it was frozen, and what they say: today's code reads the same, and writes
/// the same. `WIRE_FIXTURES=write cargo test -p tinyraftplus-net --test wire` writes them anew; for a version that was
/// released, never: add to them.
#[test]
fn version_1_is_frozen() {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/wire-v1/messages.txt");
    if std::env::var_os("WIRE_FIXTURES").is_some_and(|it| it == "write") {
        let mut text = String::new();
        for kind in 0..KINDS {
            let mut rng = Rng(kind);
            for message in (0..4).map(|_| any(kind, &mut rng)) {
                let mut hex = String::new();
                message.encode().iter().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
                writeln!(text, "{message:?}\n{hex}\n").unwrap();
            }
        }
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    let mut kinds = BTreeSet::new();
    for block in kept.trim_end().split("\n\n") {
        let (shown, hex) = block.split_once('\n').unwrap();
        let pairs = hex.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
        let bytes: Bytes = pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        let read = Message::decode(&bytes).unwrap();
        assert_eq!(format!("{read:?}"), shown);
        assert_eq!(read.encode(), bytes, "{shown}");
        kinds.insert(bytes[0]);
    }
    assert_eq!(kinds.len() as u64, KINDS);
}
