//! How processes begin and end: starting on whatever the disk holds, dying in the middle of a write, dying while
//! recovering from that.

use tinyraftplus_core::{Role, Seq};

use tinyraftplus_log::{Log, LogEntry, LogError, LogOptions, Write, sim_disk::SimDisk};
use tinyraftplus_replica::{Happening, Keeper, Replica};

use crate::check::{Verdict, Violation, calls::Life};
use crate::machine::Machine;
use crate::node::{Death, Process};
use crate::observe::Seen;
use crate::profile::node_id;
use crate::snapshots::CHUNK_BYTES;
use crate::trace::digest;
use crate::words;
use crate::world::{What, World};

impl World {
    /// A process starts, if none runs.
    pub(crate) fn start(&mut self, at: usize) -> Verdict {
        if self.node(at).process.is_some() {
            return Ok(());
        }
        let dies = self.breaks() && self.chance.deaths.chance(self.profile.dies_opening);
        if dies {
            let count = self.chance.deaths.below(8);
            self.node(at).disk.crash_after(count);
        }
        let mut options = LogOptions::default();
        options.first_seq = self.profile.first_seq;
        options.space_bytes = self.profile.disk.space_bytes;
        options.seed = Some(self.chance.seeds.next());
        options.snapshot_chunk_bytes = CHUNK_BYTES;
        let opened = self.node(at).open(options);
        if dies {
            drop(opened);
            self.note(at, 40, || "dies while it opens its log".to_owned());
            self.counts.crashed_opening += 1;
            let death = self.death();
            self.crash_disk(at, death);
            self.after(1_000_000, What::Start(at));
            return Ok(());
        }
        let (log, recovery) = match opened {
            Ok(opened) => opened,
            Err(LogError::Io { .. }) if self.is_unreadable(at) => {
                self.counts.read_failures += 1;
                self.note(at, 45, || "can't read its log, and tries again later".to_owned());
                self.after(50_000_000, What::Start(at));
                return Ok(());
            }
            Err(LogError::NoSpace { .. }) => {
                self.after(50_000_000, What::Start(at));
                return Ok(());
            }
            Err(error) => {
                let what = format!("node {} can't open its log: {error}", at + 1);
                return Err(Violation::new("what was durable survives a crash", what));
            }
        };
        self.counts.starts += 1;
        self.counts.torn += u64::from(recovery.cut.is_some());
        self.counts.rescued += u64::from(recovery.hard_state_rescued);
        let (end, cut) = (log.bounds().end, recovery.cut.is_some());
        self.note(at, digest(&[41, end.get(), u64::from(cut)]), || {
            let (identity, found) = (log.identity(), words::recovery(&recovery));
            format!("starts as {identity} with a log up to {end}: {found}")
        });
        self.begin_life(at, log, recovery.segments)
    }

    /// Whether nothing can be read from the disk of that node.
    pub(crate) fn is_unreadable(&self, at: usize) -> bool {
        self.nodes.get(at).is_some_and(|node| node.unreadable_until > self.now)
    }

    /// A process begins its life with this log.
    fn begin_life(&mut self, at: usize, log: Box<dyn Log>, segments: u64) -> Verdict {
        let start = self.profile.first_seq;
        let node = self.node(at);
        let machine = node.kept.unwrap_or_else(|| Machine::new(start));
        node.lives += 1;
        node.sits_still = false;
        let life = Life { node: at, number: node.lives };
        let shown = node.clock.shows(self.now);
        let unfinished: Vec<Write> = std::mem::take(&mut self.node(at).unfinished);
        let restored = log.restored();
        let reader = log.reader();
        let entries = read_all(&*reader).map_err(|error| {
            let what = format!("node {} can't read its log: {error}", at + 1);
            Violation::new("what was durable survives a crash", what)
        })?;
        self.checks.on_start(at, &restored, &entries, &unfinished, machine.end)?;
        let is_new_disk = self.checks.nodes.get(at).is_some_and(|node| !node.lost.is_empty());
        let mut options = self.profile.options(at, is_new_disk, self.chance.seeds.next());
        if let Some(snapshots) = &mut options.snapshots {
            snapshots.compacts = self.node(at).compacts();
        }
        let store = log.snapshots().map_err(|error| {
            let what = format!("node {} has no snapshots: {error}", at + 1);
            Violation::new("what was durable survives a crash", what)
        })?;
        let newest = store.newest();
        let replica = Replica::new(options, restored, machine.end, newest, life.number, shown);
        let replica = replica.map_err(|error| {
            let what = format!("node {} can't start: {error}", at + 1);
            Violation::new("a state machine is not ahead of its log", what)
        })?;
        self.node(at).process = Some(Process {
            life,
            replica,
            log,
            segments,
            seen: Seen::default(),
            reader,
            inbox: Vec::new(),
            due: false,
            wake: None,
            queue: std::collections::VecDeque::new(),
            sync_fails: false,
            flight: Vec::new(),
            machine,
            tasks: std::collections::VecDeque::new(),
            working: false,
            keeper: Keeper::new(store),
            works: std::collections::VecDeque::new(),
        });
        self.hand(life, Happening::Wake);
        Ok(())
    }

    /// A process dies, if it still lives. If it was writing, some of that reaches the disk.
    pub(crate) fn die(&mut self, life: Life, death: Death) {
        let writing = self.alive(life).is_some_and(|process| !process.flight.is_empty());
        // Mostly between the write and its sync: that is where a group can be torn.
        let reached = self.chance.deaths.pick(&[0, 1, 1, 1, 2, 3, 6]);
        let node = self.node(life.node);
        let Some(mut process) = node.process.take_if(|process| process.life == life) else {
            return;
        };
        if writing {
            node.disk.crash_after(reached);
            node.unfinished = process.flight.drain(..).map(|(_, write)| write).collect();
            // Whatever it says, nobody is left to hear it.
            let _ = process.log.write(&node.unfinished);
            self.counts.crashed_writing += 1;
        }
        self.counts.dead_leaders += u64::from(process.replica.core().role() == Role::Leader);
        match death {
            Death::Killed => self.counts.kills += 1,
            Death::PowerLost => self.counts.power_losses += 1,
        }
        let what = digest(&[42, u64::from(death == Death::Killed), u64::from(writing)]);
        self.note(life.node, what, || {
            let when = if writing { " while it writes" } else { "" };
            format!("dies{when}: {death:?}")
        });
        self.count_segments(&process);
        drop(process.log);
        self.crash_disk(life.node, death);
        self.checks.calls.on_died(life);
        let down = if self.breaks() {
            self.chance.deaths.scale(self.profile.faults.down)
        } else {
            1_000_000
        };
        self.after(down, What::Start(life.node));
    }

    /// The process of a node dies, if it has one.
    pub(crate) fn kill(&mut self, at: usize, death: Death) {
        if let Some(life) = self.life(at) {
            self.die(life, death);
        }
    }

    /// The node stops properly, and starts again soon.
    pub(crate) fn restart(&mut self, at: usize) -> Verdict {
        let Some(life) = self.life(at) else {
            return Ok(());
        };
        self.note(at, 43, || "stops properly".to_owned());
        self.stop(life)?;
        if let Some(mut process) = self.node(at).process.take() {
            // What was not written yet had not happened for anybody; what is being written ends first.
            let group: Vec<Write> = process.flight.drain(..).map(|(_, write)| write).collect();
            self.node(at).unfinished.clone_from(&group);
            self.count_segments(&process);
            let written = process.log.write(&group);
            let closed = process.log.close();
            if let Err(error) = written.and(closed)
                && !process.sync_fails
                && !matches!(error, LogError::NoSpace { .. })
            {
                let what = format!("node {} can't close its log: {error}", at + 1);
                return Err(Violation::new("a log takes what a replica writes", what));
            }
            if process.sync_fails {
                // Nobody knows what a failed sync left behind, and the page cache must not pretend to.
                drop(process.log);
                let death = self.death();
                self.crash_disk(at, death);
            }
        }
        self.counts.restarts += 1;
        self.checks.calls.on_died(life);
        let down = self.chance.deaths.scale(self.profile.faults.down);
        self.after(down, What::Start(at));
        Ok(())
    }

    /// The node's disk is lost: it comes back with an empty one.
    pub(crate) fn wipe(&mut self, at: usize) {
        self.kill(at, Death::PowerLost);
        self.note(at, 44, || "loses its disk".to_owned());
        self.counts.wipes += 1;
        let node = self.node(at);
        node.disk = SimDisk::new();
        node.unfinished.clear();
        node.kept = None;
        self.checks.on_wiped(at);
    }

    /// How many segments the log of a process that ends has begun.
    pub(crate) fn count_segments(&mut self, process: &Process) {
        let more = process.log.stats().segments.saturating_sub(process.segments);
        self.counts.segments += more;
    }

    /// The process that runs on a node, if any.
    pub(crate) fn life(&self, at: usize) -> Option<Life> {
        Some(self.nodes.get(at)?.process.as_ref()?.life)
    }

    /// Whether a node is a member of the configuration that is there to stay.
    pub(crate) fn takes_part(&self, at: usize) -> bool {
        self.settled().is_some_and(|settled| settled.member(node_id(at)).is_some())
    }

    pub(crate) fn death(&mut self) -> Death {
        if self.chance.deaths.chance(500) { Death::Killed } else { Death::PowerLost }
    }

    fn crash_disk(&mut self, at: usize, death: Death) {
        let node = self.node(at);
        match death {
            Death::Killed => node.disk.kill(),
            Death::PowerLost => node.disk.power_loss(&mut node.disk_rng),
        }
    }
}

/// Everything that a log holds.
pub(crate) fn read_all(reader: &dyn tinyraftplus_log::LogRead) -> Result<Vec<LogEntry>, LogError> {
    let std::ops::Range { start, end } = reader.bounds();
    let mut entries: Vec<LogEntry> = Vec::new();
    let mut next: Seq = start;
    while next < end {
        let mut more = reader.read(next, end, u64::MAX)?;
        let Some(last) = more.last() else {
            break;
        };
        next = last.id.seq.after();
        entries.append(&mut more);
    }
    Ok(entries)
}
