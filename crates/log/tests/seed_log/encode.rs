//! `01encode`.

use tinyraftplus_core::{HardState, Identity, Seq, Term};
use tinyraftplus_log::{Disk, LogError, LogExt, Write};

use crate::{Kind, place::Place};

/// Entries, an empty one too, and what the original keeps in its lock: here a term and vote.
pub(crate) fn encode_01_to_03_round_trip(kind: Kind) {
    let mut place = Place::new(kind);
    let vote = HardState { term: Term::new(1), vote: Some(Identity::new(23)) };
    place.log().write(&[Write { hard_state: Some(vote), ..Write::default() }]).unwrap();
    place.append("abc123");
    place.append("");
    for _ in 0..2 {
        place.reopen();
        assert_eq!(place.log().hard_state(), vote);
        let entries: Vec<_> = place.log().iter(..).map(|entry| entry.unwrap().payload).collect();
        assert_eq!(entries, ["abc123", ""]);
        place.is(Some(1), "");
    }
}

/// Fails if headers, or bodies with a checksum, are believed unchecked, by opening or by reading.
pub(crate) fn encode_04_damage_is_named(kind: Kind) {
    let mut place = Place::new(kind);
    place.append("0123456789abcdefghij");
    place.append("after it");
    place.log().close().unwrap();
    place.log = None;
    let file =
        place.disk.list().unwrap().into_iter().find(|name| {
            place.disk.contents(name).is_some_and(|bytes| bytes.starts_with(b"TRPlog"))
        });
    let file = file.unwrap();
    let bytes = place.disk.contents(&file).unwrap();
    let frame = (4096..bytes.len()).step_by(128).find(|&at| {
        let flags = u16::from_le_bytes([bytes[at + 6], bytes[at + 7]]);
        bytes[at..].starts_with(b"TRPf") && flags & 512 != 0
    });
    let frame = frame.unwrap();
    let damaged = |places: &[usize]| {
        let disk = place.disk.fork();
        disk.edit(&file, |bytes| places.iter().for_each(|&at| bytes[at] ^= 0xff)).unwrap();
        let log = (kind.open)(&disk)?;
        log.iter(..).map(|entry| Ok(entry?.payload)).collect::<Result<Vec<_>, LogError>>()
    };
    let whole = damaged(&[]).unwrap();
    // Of the log's header there are two copies.
    assert_eq!(damaged(&[0]).unwrap(), whole);
    let error = damaged(&[0, 512]).unwrap_err();
    assert!(matches!(error, LogError::NotALog(_) | LogError::Corrupt { .. }), "{error:?}");
    let error = damaged(&[frame]).unwrap_err();
    assert!(matches!(error, LogError::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains(&frame.to_string()), "{error}");
    if kind.checks_bodies {
        let error = damaged(&[frame + 128 + 16]).unwrap_err();
        assert!(matches!(error, LogError::Corrupt { .. }), "{error:?}");
        // What is damaged while it is open is not read either.
        let log = (kind.open)(&place.disk).unwrap();
        place.disk.edit(&file, |bytes| bytes[frame + 128 + 16] ^= 0xff).unwrap();
        let error = log.iter(..).next().unwrap().unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, LogError::Corrupt { seq: Some(Seq::ZERO), .. }), "{error:?}");
        assert!(text.contains(&file) && text.contains(&frame.to_string()), "{text}");
    }
}
