//! One machine of the cluster: a disk that survives, and a process that does not.

use std::collections::VecDeque;
use std::sync::Arc;

use tinyraftplus_core::{Configurations, EntryId, Time};
use tinyraftplus_log::{
    Encoder, EncryptingEncoder, FsLog, Key, Log, LogError, LogOptions, LogRead, MultiFsLog,
    PlainEncoder, Recovery, Write, XxHashEncoder,
    sim_disk::{SimDisk, SimRng},
};
use tinyraftplus_replica::{Apply, Happening, Keeper, Query, Replica, SnapshotMeta, SnapshotWork};

use crate::check::calls::Life;
use crate::machine::Machine;
use crate::observe::Seen;
use crate::profile::Profile;
use crate::rng::Rng;

/// The name of each node's log.
const NAME: &str = "log";

/// A machine.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) disk: SimDisk,
    pub(crate) disk_rng: SimRng,
    kind: LogKind,
    /// Nothing can be read from the disk before this time.
    pub(crate) unreadable_until: u64,
    /// By how much everything takes longer here.
    pub(crate) slowness: u64,
    pub(crate) clock: Clock,
    pub(crate) process: Option<Process>,
    /// How many processes it has had.
    pub(crate) lives: u64,
    /// Whether its state machine keeps what it has seen on a disk of its own, and what that is.
    pub(crate) keeps_machine: bool,
    pub(crate) kept: Option<Machine>,
    /// Whether its process has said that it sits still.
    pub(crate) sits_still: bool,
    /// Nothing runs on it before this time.
    pub(crate) paused_until: u64,
    /// What was being written when its process died.
    pub(crate) unfinished: Vec<Write>,
    pub(crate) plans: Plans,
}

/// Faults that wait for their moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plans {
    /// Its process dies during its next write.
    pub(crate) dies_writing: Option<Death>,
    /// .. of a term or a vote.
    pub(crate) dies_voting: bool,
    /// Its next sync fails.
    pub(crate) sync_fails: bool,
    /// Its next write takes very long.
    pub(crate) stalls: bool,
}

/// How a process dies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Death {
    /// Killed: what it wrote stays in the page cache.
    Killed,
    /// The power fails: what was not synced is there or not, sector by sector.
    PowerLost,
}

/// A process: everything that a crash takes away.
pub(crate) struct Process {
    pub(crate) life: Life,
    pub(crate) replica: Replica,
    pub(crate) log: Box<dyn Log>,
    /// How many files the log had when it was opened.
    pub(crate) segments: u64,
    pub(crate) seen: Seen,
    pub(crate) reader: Arc<dyn LogRead>,
    /// What happened since its last step.
    pub(crate) inbox: Vec<Happening>,
    /// Whether a step is due.
    pub(crate) due: bool,
    /// When it wants to be woken; events for any other time are out of date.
    pub(crate) wake: Option<u64>,
    /// What is to be written next, as one group.
    pub(crate) queue: VecDeque<(u64, Write)>,
    /// Its disk fails the next sync.
    pub(crate) sync_fails: bool,
    /// The group that is being written.
    pub(crate) flight: Vec<(u64, Write)>,
    pub(crate) machine: Machine,
    /// What the state machine has to do, in order, and whether it is at it.
    pub(crate) tasks: VecDeque<Task>,
    pub(crate) working: bool,
    pub(crate) keeper: Keeper,
    /// What the keeper has to do, in order.
    pub(crate) works: VecDeque<SnapshotWork>,
}

/// Work for the state machine.
#[derive(Debug)]
pub(crate) enum Task {
    Apply(Apply),
    Query(Query),
    Snapshot(EntryId, Arc<Configurations>),
    Restore(SnapshotMeta),
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("life", &self.life).finish_non_exhaustive()
    }
}

/// From how many bytes on a disk wants whole blocks: what many groups have.
const WHOLE_BLOCKS_FROM: u64 = 1024;

/// What kind of log a node has: each node of a cluster may have another.
#[derive(Clone, Debug)]
struct LogKind {
    /// In segments of that size; none for a log in one file.
    segment_bytes: Option<u64>,
    encoder: Arc<dyn Encoder>,
}

impl LogKind {
    fn draw(rng: &mut Rng, segment_bytes: u64) -> Self {
        let encoder: Arc<dyn Encoder> = match rng.below(4) {
            0 => Arc::new(PlainEncoder),
            1 => Arc::new(EncryptingEncoder::new(&Key::from_bytes([7; 32]))),
            _ => Arc::new(XxHashEncoder::default()),
        };
        Self { segment_bytes: rng.chance(500).then_some(segment_bytes), encoder }
    }
}

impl Node {
    pub(crate) fn draw(rng: &mut Rng, profile: &Profile) -> Self {
        let keeps_machine = rng.chance(profile.machine_durable);
        let is_slow = rng.chance(profile.slow);
        Self {
            disk: SimDisk::new(),
            disk_rng: SimRng::new(rng.next()),
            kind: LogKind::draw(rng, profile.segment_bytes),
            unreadable_until: 0,
            slowness: if is_slow { profile.slow_factor } else { 1 },
            clock: Clock::draw(rng, profile.drift_ppm),
            process: None,
            lives: 0,
            keeps_machine,
            kept: None,
            sits_still: false,
            paused_until: 0,
            unfinished: Vec::new(),
            plans: Plans::default(),
        }
    }

    /// Opens its log.
    pub(crate) fn open(
        &self,
        mut options: LogOptions,
    ) -> Result<(Box<dyn Log>, Recovery), LogError> {
        options.encoder = Arc::clone(&self.kind.encoder);
        // One half of the nodes have such a disk.
        self.disk.set_whole_blocks_from(self.kind.segment_bytes.map(|_| WHOLE_BLOCKS_FROM));
        if let Some(bytes) = self.kind.segment_bytes {
            options.segment_bytes_max = bytes;
            let (log, recovery) = MultiFsLog::open_on(&self.disk, NAME, options)?;
            Ok((Box::new(log), recovery))
        } else {
            let (log, recovery) = FsLog::open_on(&self.disk, NAME, options)?;
            Ok((Box::new(log), recovery))
        }
    }

    /// Whether its log can give its oldest entries back.
    pub(crate) const fn compacts(&self) -> bool {
        self.kind.segment_bytes.is_some()
    }

    /// What kind of node it is, in words.
    pub(crate) fn kind(&self) -> String {
        let (encoder, slowness) = (&self.kind.encoder, self.slowness);
        let files = match self.kind.segment_bytes {
            Some(bytes) => format!("segments of {bytes} bytes"),
            None => "one file".to_owned(),
        };
        let slow = if slowness > 1 { format!(", {slowness} times as slow") } else { String::new() };
        format!("has a log in {files}, {encoder:?}{slow}")
    }

    pub(crate) const fn drifts(&self) -> bool {
        self.clock.rate as u128 != MILLION
    }
}

/// A node's clock: it began elsewhere, and runs a little fast or slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: u64,
    /// How many of its own nanoseconds go into a millisecond of the world.
    rate: u64,
}

const MILLION: u128 = 1_000_000;

impl Clock {
    fn draw(rng: &mut Rng, drift_ppm: u64) -> Self {
        let rate = 1_000_000 - drift_ppm + rng.below(2 * drift_ppm + 1);
        Self { origin: rng.below(1 << 40), rate }
    }

    /// What it shows at a time of the world.
    pub(crate) fn shows(self, now: u64) -> Time {
        let elapsed = u128::from(now) * u128::from(self.rate) / MILLION;
        Time::from_nanos(self.origin.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX)))
    }

    /// The first time of the world at which it shows that; `None` if it never does.
    pub(crate) fn when(self, shown: Time) -> Option<u64> {
        if shown == Time::NEVER {
            return None;
        }
        let elapsed = u128::from(shown.as_nanos().saturating_sub(self.origin)) * MILLION;
        u64::try_from(elapsed.div_ceil(u128::from(self.rate))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_a_time_when_it_says_so_and_not_before() {
        let mut rng = Rng::new(3);
        for _ in 0..1000 {
            let clock = Clock::draw(&mut rng, 50_000);
            let shown = Time::from_nanos(clock.origin + rng.below(1 << 40));
            let when = clock.when(shown).unwrap();
            assert!(clock.shows(when) >= shown);
            assert!(when == 0 || clock.shows(when - 1) < shown);
        }
        assert_eq!(Clock::draw(&mut rng, 0).when(Time::NEVER), None);
    }
}
