//! Whether a quorum holds exactly what was acknowledged. Figures of entries that are not there would be worth nothing.

use serde::{Deserialize, Serialize};

/// A set of entries: how many, and a sum over where each is and what is in it. The sum does not depend on their
/// order, and an entry that is missing, doubled, elsewhere or another one changes it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Tally {
    pub(super) entries: u64,
    sum: u64,
}

impl Tally {
    /// An entry of that stamp is at that seq.
    pub(super) fn add(&mut self, seq: u64, stamp: u64) {
        self.entries += 1;
        self.sum = self.sum.wrapping_add(mix(mix(seq) ^ stamp));
    }

    pub(super) fn join(&mut self, other: Self) {
        self.entries += other.entries;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// What a node's log holds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Held {
    pub(super) node: u64,
    /// Users' entries.
    pub(super) tally: Tally,
    /// A sum over the ids of all entries, no-ops too.
    pub(super) ids: u64,
    /// Entries that no client has made.
    pub(super) strange: u64,
}

impl Held {
    pub(super) const fn nothing(node: u64) -> Self {
        Self { node, tally: Tally { entries: 0, sum: 0 }, ids: 0, strange: 0 }
    }

    pub(super) fn add_id(&mut self, term: u64, seq: u64) {
        self.ids = self.ids.wrapping_add(mix(mix(term) ^ seq));
    }
}

/// How many nodes hold what was acknowledged, all under the same ids.
///
/// # Errors
///
/// If that is no quorum, or nothing was acknowledged: what each node holds.
pub(super) fn judge(acked: Tally, held: &[Held]) -> Result<u64, String> {
    if acked.entries == 0 {
        return Err("nothing was committed, so nothing was measured".to_owned());
    }
    let whole = |it: &&Held| it.tally == acked && it.strange == 0;
    let alike = |one: &Held| held.iter().filter(whole).filter(|it| it.ids == one.ids).count();
    let most = held.iter().filter(whole).map(alike).max().unwrap_or_default();
    if most > held.len() / 2 {
        return Ok(most as u64);
    }
    let found: Vec<_> = held.iter().map(describe).collect();
    Err(format!(
        "{} entries were acknowledged, but only {most} of {} nodes hold exactly these: {}",
        acked.entries,
        held.len(),
        found.join(", ")
    ))
}

fn describe(held: &Held) -> String {
    let Held { node, tally, ids, strange } = held;
    format!("node {node} has {} (ids {ids:x}, {strange} unknown)", tally.entries)
}

/// Spreads a number over all bits (the finalizer of `SplitMix64`).
const fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(node: u64, term: u64, entries: &[(u64, u64)]) -> Held {
        let mut held = Held::nothing(node);
        for &(seq, stamp) in entries {
            held.tally.add(seq, stamp);
            held.add_id(term, seq);
        }
        held
    }

    fn tally(entries: &[(u64, u64)]) -> Tally {
        log(0, 0, entries).tally
    }

    const ENTRIES: &[(u64, u64)] = &[(1, 10), (2, 20), (3, 30)];

    #[test]
    fn a_quorum_is_enough_and_the_order_does_not_matter() {
        let acked = tally(&[(3, 30), (1, 10), (2, 20)]);
        let held = [log(1, 5, ENTRIES), log(2, 5, ENTRIES), log(3, 5, &ENTRIES[..1])];
        assert_eq!(judge(acked, &held), Ok(2));
    }

    #[test]
    fn nothing_committed_is_a_failure() {
        let why = judge(Tally::default(), &[log(1, 5, &[]), log(2, 5, &[]), log(3, 5, &[])]);
        assert!(why.unwrap_err().contains("nothing was committed"));
    }

    /// Each of these fails if `judge` does not look at that: which entries, how often, in which term, what is in them.
    #[test]
    fn what_a_quorum_does_not_hold_is_a_failure() {
        let acked = tally(ENTRIES);
        let (good, short) = (log(1, 5, ENTRIES), &ENTRIES[..2]);
        let cases = [
            ("too few", [good, log(2, 5, short), log(3, 5, short)]),
            ("others", [good, log(2, 5, &[(1, 10), (2, 30), (3, 20)]), log(3, 5, short)]),
            ("elsewhere", [good, log(2, 5, &[(1, 10), (2, 20), (4, 30)]), log(3, 5, short)]),
            ("doubled", [good, log(2, 5, &[(1, 10), (1, 10), (2, 20)]), log(3, 5, short)]),
            ("another term", [good, log(2, 6, ENTRIES), log(3, 5, short)]),
            ("unknown", [good, Held { strange: 1, ..log(2, 5, ENTRIES) }, log(3, 5, short)]),
        ];
        for (name, held) in cases {
            let why = judge(acked, &held).expect_err(name);
            assert!(
                why.contains("only 1 of 3 nodes") && why.contains("node 3 has 2"),
                "{name}: {why}"
            );
        }
        let doubled = tally(&[(1, 10), (1, 10), (2, 20)]);
        assert!(judge(doubled, &[good, good, good]).is_err(), "two calls were given one seq");
    }
}
