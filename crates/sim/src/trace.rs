//! What happened, in order: as a hash always, in words when asked for.
//!
//! Two runs of a seed are the same if every event had the same time, place and content. The hash folds all of
//! that, so that a single number says so; the transcript is for people.

use crate::rng::mix;

/// The record of a run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: u64,
    events: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A record that keeps words too, if asked to.
    pub(crate) fn new(in_words: bool) -> Self {
        Self { hash: 0, events: 0, lines: in_words.then(Vec::new) }
    }

    /// Notes that this happened at that time on that node.
    pub(crate) fn note(
        &mut self,
        now: u64,
        node: usize,
        what: u64,
        words: impl FnOnce() -> String,
    ) {
        self.fold(now);
        self.fold(node as u64);
        self.fold(what);
        self.events += 1;
        if let Some(lines) = &mut self.lines {
            let who = if node == EVERYWHERE { "*".to_owned() } else { format!("n{}", node + 1) };
            let (seconds, micros) = (now / 1_000_000_000, now / 1_000 % 1_000_000);
            lines.push(format!("{seconds:>4}.{micros:06} {who:<3} {}", words()));
        }
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were: as many as the transcript has lines.
    pub(crate) const fn count(&self) -> u64 {
        self.events
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }

    const fn fold(&mut self, number: u64) {
        self.hash = mix(self.hash.rotate_left(5) ^ number);
    }
}

/// In place of a node: the whole cluster, or the world around it.
pub(crate) const EVERYWHERE: usize = usize::MAX;

/// One number for several, where the order counts.
pub(crate) fn digest(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0, |hash: u64, &number| mix(hash.rotate_left(5) ^ number))
}

/// One number for some bytes.
pub(crate) fn digest_bytes(bytes: &[u8]) -> u64 {
    // FNV-1a, spread out at the end.
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_place_content_and_order_all_change_the_hash() {
        let run = |events: &[(u64, usize, u64)]| {
            let mut trace = Trace::new(false);
            for &(now, node, what) in events {
                trace.note(now, node, what, String::new);
            }
            trace.hash()
        };
        let first = run(&[(1, 0, 7), (2, 1, 8)]);
        assert_eq!(first, run(&[(1, 0, 7), (2, 1, 8)]));
        for other in [
            [(2, 0, 7), (2, 1, 8)],
            [(1, 1, 7), (2, 1, 8)],
            [(1, 0, 9), (2, 1, 8)],
            [(2, 1, 8), (1, 0, 7)],
        ] {
            assert_ne!(first, run(&other));
        }
    }
}
