//! What a whole file does to the log, and where its entries lie: the body of its seal.
//!
//! With it, opening a log reads two places of a full file, and not all of it.

use tinyraftplus_core::{Seq, Term};

use super::{SLOT_BYTES, Take, put_varint};
use crate::{
    Reset, Unknown,
    engine::{Effect, Extent, Patch},
    num::u64_of,
};

const RESET: u8 = 1;
const TRIM: u8 = 2;
const COMPACT: u8 = 4;
const REPAIRS: u8 = 8;
const KNOWN: u8 = 16;

/// The body of a seal. The configuration is a record of its own before it.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    pub(crate) effect: Effect,
    pub(crate) extents: Vec<Extent>,
}

pub(super) fn put(out: &mut Vec<u8>, summary: &Summary) {
    let Summary { effect, extents } = summary;
    let flag = |present, flag| if present { flag } else { 0 };
    out.push(
        flag(effect.reset.is_some(), RESET)
            | flag(effect.trim.is_some(), TRIM)
            | flag(effect.compact.is_some(), COMPACT)
            | flag(!effect.patches.is_empty(), REPAIRS)
            | flag(effect.unknown == Some(Unknown::NOTHING), KNOWN),
    );
    for Reset { start, before } in effect.reset.iter().chain(&effect.compact) {
        out.extend(start.get().to_le_bytes());
        out.extend(before.get().to_le_bytes());
    }
    out.extend(effect.first.get().to_le_bytes());
    put_varint(out, u64_of(effect.runs.len()));
    let mut last = 0;
    for &(term, count) in &effect.runs {
        put_varint(out, term.get() - last);
        put_varint(out, count);
        last = term.get();
    }
    put_varint(out, u64_of(extents.len()));
    let (mut first, mut slot) = (0, 0);
    for extent in extents {
        let at = extent.position / SLOT_BYTES;
        put_varint(out, extent.first.get() - first);
        put_varint(out, at - slot);
        (first, slot) = (extent.first.get(), at);
    }
    if effect.patches.is_empty() {
        return;
    }
    put_varint(out, u64_of(effect.patches.len()));
    for Patch { first, end, position } in &effect.patches {
        put_varint(out, first.get());
        put_varint(out, end.since(*first));
        put_varint(out, position / SLOT_BYTES);
    }
}

pub(super) fn take(take: &mut Take<'_>) -> Option<Summary> {
    let flags =
        take.u8().filter(|flags| flags & !(RESET | TRIM | COMPACT | REPAIRS | KNOWN) == 0)?;
    let mut start = |flag| (flags & flag != 0).then(|| take.start());
    let (reset, compact) = (start(RESET), start(COMPACT));
    let mut effect = Effect::none(0, Seq::new(take.u64()?));
    effect.trim = (flags & TRIM != 0).then_some(effect.first);
    if let Some(reset) = reset {
        effect.reset = Some(reset?);
    }
    if let Some(compact) = compact {
        effect.compact = Some(compact?);
    }
    let mut term = 0_u64;
    for _ in 0..take.varint()? {
        term = term.checked_add(take.varint()?)?;
        effect.runs.push((Term::new(term), take.varint().filter(|&count| count > 0)?));
    }
    let mut extents = Vec::new();
    let (mut first, mut slot) = (0_u64, 0_u64);
    for _ in 0..take.varint()? {
        first = first.checked_add(take.varint()?)?;
        slot = slot.checked_add(take.varint()?)?;
        let position = slot.checked_mul(SLOT_BYTES)?;
        extents.push(Extent { first: Seq::new(first), position });
    }
    effect.unknown = (flags & KNOWN != 0).then_some(Unknown::NOTHING);
    if flags & REPAIRS != 0 {
        for _ in 0..take.varint().filter(|&count| count > 0)? {
            let first = Seq::new(take.varint()?);
            let end = first.checked_add(take.varint().filter(|&count| count > 0)?)?;
            let position = take.varint()?.checked_mul(SLOT_BYTES)?;
            effect.patches.push(Patch { first, end, position });
        }
    }
    Some(Summary { effect, extents })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_written() {
        let mut effect = Effect::none(0, Seq::new(7));
        effect.compact = Some(Reset { start: Seq::new(9), before: Term::new(3) });
        effect.trim = Some(Seq::new(7));
        effect.add_entries(Term::new(3), 5);
        effect.add_entries(Term::new(9), 1000);
        let extents = vec![
            Extent { first: Seq::new(7), position: 4096 },
            Extent { first: Seq::new(12), position: 1 << 40 },
        ];
        let mut out = Vec::new();
        put(&mut out, &Summary { effect: effect.clone(), extents: extents.clone() });
        let read = take(&mut Take(&out)).unwrap();
        assert_eq!((read.effect.trim, read.effect.first), (effect.trim, effect.first));
        assert_eq!((read.effect.compact, read.effect.runs), (effect.compact, effect.runs));
        assert_eq!((read.effect.reset, read.extents), (None, extents));
        for cut in 0..out.len() {
            assert!(take(&mut Take(&out[..cut])).is_none());
        }
    }
}
