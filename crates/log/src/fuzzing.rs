//! The parts of the format, for fuzzing alone: none of this is for users.
//!
//! Each function takes any bytes and panics if what was read, written again, is something else.

use tinyraftplus_core::Seq;

use crate::LogEntry;
use crate::format::{
    BodyReader, Frame, Record, Segment, SegmentCopy, Slot, Stamp, checksum, put_compact,
    put_configuration, put_entry, put_known, put_repair, put_reset, put_summary, put_term,
    put_trim,
};

/// These bytes as the header of a frame with a right checksum.
pub fn frame_header(bytes: &[u8]) {
    let mut header = [0; 128];
    header.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    header[..4].copy_from_slice(b"TRPf");
    let sum = checksum(&header[..120]);
    header[120..].copy_from_slice(&sum.to_le_bytes());
    let number = |at: usize| {
        let bytes = header.get(at..).and_then(<[u8]>::first_chunk).copied();
        u64::from_le_bytes(bytes.unwrap_or_default())
    };
    let encoder = header.get(5).copied().unwrap_or_default();
    let stamp = Stamp { tag: number(8), encoder, block: 512 };
    match Frame::decode(&header, stamp, number(16)) {
        Slot::Frame(frame, found) => {
            assert_eq!((frame.encode(stamp), found), ((header, sum), sum));
            let _ = frame.associated(stamp);
            let next = frame.next_position(stamp);
            assert!(next >= frame.position || frame.position > u64::MAX / 2);
        }
        Slot::Newer(version) => assert!(version > 1),
        Slot::Bad(_) => {}
        Slot::Blank => panic!("a header with a checksum is blank"),
    }
    let _ = Frame::decode(bytes, stamp, 0);
}

/// These bytes as the header of a file with a right checksum.
pub fn segment_header(bytes: &[u8]) {
    let mut sector = [0; 512];
    sector.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    sector[..8].copy_from_slice(b"TRPlog\r\n");
    let sum = checksum(&sector[..504]);
    sector[504..].copy_from_slice(&sum.to_le_bytes());
    match Segment::decode(&sector) {
        SegmentCopy::Valid(segment) => {
            assert_eq!(segment.sector(), sector);
            let _ = segment.frames();
        }
        SegmentCopy::Newer(version) => assert_ne!(version, 1),
        SegmentCopy::Damaged => {}
        SegmentCopy::Blank | SegmentCopy::Foreign => panic!("a header with a checksum is none"),
    }
    let _ = Segment::decode(bytes);
}

/// These bytes as a body whose first entry has this seq.
pub fn body(bytes: &[u8], first: u64) {
    let first = Seq::new(first);
    let records: Option<Vec<Record<'_>>> = BodyReader::new(bytes, first).collect();
    let Some(records) = records else { return };
    let mut out = Vec::new();
    for record in &records {
        put(&mut out, record);
    }
    let again: Option<Vec<Record<'_>>> = BodyReader::new(&out, first).collect();
    let words = |records: &[Record<'_>]| {
        // A configuration before a seal's summary is a record of its own, and terms are written where needed.
        records
            .iter()
            .filter(|it| !matches!(it, Record::Term))
            .map(|it| format!("{it:?}"))
            .collect()
    };
    let (before, after): (Vec<String>, Vec<String>) =
        (words(&records), words(&again.unwrap_or_default()));
    assert_eq!(before, after);
}

fn put(out: &mut Vec<u8>, record: &Record<'_>) {
    match record {
        Record::Configuration(value) => put_configuration(out, value).expect("it was read"),
        Record::Reset(reset) => put_reset(out, *reset),
        Record::Compact(compact) => put_compact(out, *compact),
        Record::Trim(end) => put_trim(out, *end),
        Record::Repair(first) => put_repair(out, *first),
        Record::Known => put_known(out),
        Record::Term => {}
        Record::Entry(entry) => {
            put_term(out, entry.id.term);
            put_entry(
                out,
                &LogEntry {
                    id: entry.id,
                    kind: entry.kind,
                    ends_batch: entry.ends_batch,
                    payload: entry.payload.to_vec().into(),
                },
            );
        }
        Record::Summary(summary) => put_summary(out, summary).expect("it was read"),
    }
}
