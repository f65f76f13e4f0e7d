//! Snapshots on their way to a peer.

use std::sync::Arc;

use tinyraftplus_core::{Configurations, EntryId, Identity, Placed, Seq, Term};
use tinyraftplus_log::{decode_configuration, encode_configuration};
use tinyraftplus_replica::{SnapshotAck, SnapshotChunk, SnapshotId, SnapshotMeta, SnapshotOffer};

use super::fields::{Fields, ITEMS, Writer, take_varint};
use super::raft::{HAS_BYTES, NO_CONFIGURATION};
use super::{DecodeError, Input, put_entry_id, put_identity, take_entry_id, take_identity};

const NO_ENTRY: DecodeError = DecodeError::Malformed("a snapshot of nothing");

/// Numbers 1 to 3 are the same in all of them.
fn put_head(out: &mut Writer, from: Identity, id: SnapshotId, term: Term) {
    put_identity(out, 1, from);
    out.bytes(2, &id.get().to_le_bytes());
    out.number(3, term.get());
}

fn take_id(fields: &Fields<'_>) -> Result<SnapshotId, DecodeError> {
    let bytes = fields.bytes(2).and_then(|bytes| bytes.try_into().ok());
    let id = bytes.map(|bytes| SnapshotId::new(u128::from_le_bytes(bytes)));
    id.ok_or(DecodeError::Malformed("no snapshot where one must be"))
}

pub(super) fn put_offer(out: &mut Writer, offer: &SnapshotOffer) {
    let SnapshotOffer { from, term, meta } = offer;
    let SnapshotMeta { id, last, configurations, chunk_bytes, tables_bytes, bytes, digest } = meta;
    put_head(out, *from, *id, *term);
    put_entry_id(out, 4, Some(*last));
    if let Some(all) = configurations {
        let Placed { at, configuration } = all.newest();
        out.given(5, at.map(Seq::get));
        out.bytes(6, &encode_configuration(configuration).expect(HAS_BYTES));
    }
    let sizes = [u64::from(*chunk_bytes), *tables_bytes, *bytes, *digest];
    out.nested(7, |out| sizes.iter().for_each(|&number| out.varint(number)));
}

pub(super) fn take_offer(fields: &Fields<'_>) -> Result<SnapshotOffer, DecodeError> {
    let configuration = fields.bytes(6).map(|bytes| {
        let configuration = decode_configuration(bytes).ok_or(NO_CONFIGURATION)?.into();
        let placed = Placed { at: fields.given(5).map(Seq::new), configuration };
        Ok(Arc::new(Configurations::first(placed)))
    });
    let last: EntryId = take_entry_id(fields, 4)?.ok_or(NO_ENTRY)?;
    let mut sizes = fields.bytes(7).unwrap_or_default();
    let meta = SnapshotMeta {
        id: take_id(fields)?,
        last,
        configurations: configuration.transpose()?,
        chunk_bytes: u32::try_from(take_varint(&mut sizes)?).unwrap_or(u32::MAX),
        tables_bytes: take_varint(&mut sizes)?,
        bytes: take_varint(&mut sizes)?,
        digest: take_varint(&mut sizes)?,
    };
    Ok(SnapshotOffer { from: take_identity(fields, 1)?, term: Term::new(fields.number(3)), meta })
}

pub(super) fn put_chunk(out: &mut Writer, chunk: &SnapshotChunk) {
    let SnapshotChunk { from, term, id, number, checksum, bytes } = chunk;
    put_head(out, *from, *id, *term);
    out.number(4, *number);
    out.number(5, *checksum);
    out.payload(ITEMS, bytes);
}

pub(super) fn take_chunk(
    fields: &Fields<'_>,
    input: &Input<'_>,
) -> Result<SnapshotChunk, DecodeError> {
    Ok(SnapshotChunk {
        from: take_identity(fields, 1)?,
        term: Term::new(fields.number(3)),
        id: take_id(fields)?,
        number: fields.number(4),
        checksum: fields.number(5),
        bytes: fields.items.first().map(|bytes| input.share(bytes)).unwrap_or_default(),
    })
}

pub(super) fn put_ack(out: &mut Writer, ack: SnapshotAck) {
    let SnapshotAck { from, term, id, next } = ack;
    put_head(out, from, id, term);
    out.number(4, next);
}

pub(super) fn take_ack(fields: &Fields<'_>) -> Result<SnapshotAck, DecodeError> {
    Ok(SnapshotAck {
        from: take_identity(fields, 1)?,
        term: Term::new(fields.number(3)),
        id: take_id(fields)?,
        next: fields.number(4),
    })
}
