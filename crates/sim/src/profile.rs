//! What kind of world a seed is: everything that is drawn once, before anything happens.
//!
//! Worlds differ on purpose (swarm testing, Groce et al. 2012): a run in which every fault happens all the time
//! seldom gets anywhere, and a run with one kind of fault finds what a mixture hides. So each kind of fault is
//! on or off for a whole run, and rates are drawn over orders of magnitude.

use std::collections::BTreeSet;
use std::time::Duration;

use tinyraftplus_core::{NodeId, Options, Seq};
use tinyraftplus_replica::{ReplicaOptions, SnapshotOptions};

use crate::fault::Fault;
use crate::less::Less;
use crate::members::MembersProfile;
use crate::rng::{Range, Rng};
use crate::snapshots::SnapshotProfile;

/// Everything about a run that does not change while it lasts.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) node_count: usize,
    pub(crate) members: MembersProfile,
    pub(crate) first_seq: Seq,
    /// No faults at all, on purpose.
    pub(crate) calm: bool,
    /// How long the faults last, in nanoseconds.
    pub(crate) safety: u64,
    pub(crate) network: NetworkProfile,
    pub(crate) disk: DiskProfile,
    pub(crate) faults: FaultProfile,
    pub(crate) clients: ClientProfile,
    /// How large a segment is, of logs that have segments.
    pub(crate) segment_bytes: u64,
    pub(crate) replica: Knobs,
    /// By how many millionths clocks may run fast or slow.
    pub(crate) drift_ppm: u64,
    /// In how many of a thousand starts the process dies while it opens its log.
    pub(crate) dies_opening: u64,
    /// In how many of a thousand cases a machine is slow, and by which factor.
    pub(crate) slow: u64,
    pub(crate) slow_factor: u64,
    /// In how many of a thousand appends the beginning arrives first, and says that the leader lives.
    pub(crate) alive: u64,
    /// How long a node takes until it looks at what arrived.
    pub(crate) wakeup: Range,
    /// How long the state machine takes.
    pub(crate) machine: Range,
    /// In how many of a thousand starts the state machine remembers what it had seen.
    pub(crate) machine_durable: u64,
    /// Whether snapshots are taken, and how that goes.
    pub(crate) snapshots: Option<SnapshotProfile>,
}

/// How messages fare.
#[derive(Clone, Debug)]
pub(crate) struct NetworkProfile {
    pub(crate) latency: Range,
    /// In how many of a thousand cases a message is lost.
    pub(crate) drop: u64,
    /// .. arrives twice.
    pub(crate) duplicate: u64,
    /// .. takes a detour.
    pub(crate) detour: u64,
    pub(crate) detour_time: Range,
}

/// How disks behave.
#[derive(Clone, Debug)]
pub(crate) struct DiskProfile {
    pub(crate) sync: Range,
    pub(crate) load: Range,
    /// In how many of a thousand cases a write or a read takes very long.
    pub(crate) stall: u64,
    /// .. a read, beside these.
    pub(crate) slow_load: u64,
    pub(crate) stall_time: Range,
    /// After how long a write is reported as stalled.
    pub(crate) stall_limit: u64,
    /// In how many of a thousand idle moments a mark is written.
    pub(crate) mark: u64,
    pub(crate) space_bytes: u64,
}

/// How often something breaks, and what.
#[derive(Clone, Debug)]
pub(crate) struct FaultProfile {
    /// How long nothing breaks at first: to form, a cluster needs all of its members.
    pub(crate) grace: u64,
    /// From one fault to the next.
    pub(crate) interval: Range,
    /// How long a partition, a clogged link, a pause or a full disk lasts.
    pub(crate) lasting: Range,
    /// How long a node stays down.
    pub(crate) down: Range,
    /// In how many of a thousand changes of voters the network splits between those that come and those that go.
    pub(crate) split_change: u64,
    /// Which faults there are, the frequent ones several times. Empty in a calm world.
    pub(crate) kinds: Vec<Fault>,
}

/// What clients do.
#[derive(Clone, Debug)]
pub(crate) struct ClientProfile {
    pub(crate) count: usize,
    /// From one burst of calls of a client to the next.
    pub(crate) pause: Range,
    /// How many calls in a burst.
    pub(crate) burst: Range,
    /// How long a call may take.
    pub(crate) deadline: Range,
    pub(crate) payload: Range,
    pub(crate) batch: Range,
    /// In how many of a thousand calls something is read.
    pub(crate) read: u64,
    /// .. something is read without asking the others.
    pub(crate) read_local: u64,
    /// .. a batch is appended.
    pub(crate) batches: u64,
    /// .. an empty payload is appended.
    pub(crate) empty: u64,
}

/// What replicas are told.
#[derive(Clone, Debug)]
pub(crate) struct Knobs {
    pub(crate) heartbeat: Duration,
    pub(crate) election: Duration,
    pub(crate) jitter: Duration,
    retry: Duration,
    notice: Duration,
    append_bytes_max: u64,
    window_bytes: u64,
    uncommitted_bytes_max: u64,
    cache_bytes_max: u64,
    apply_entries_max: usize,
    apply_bytes_max: u64,
    forward_bytes_max: u64,
    calls_max: usize,
    fail_fast: bool,
}

impl Profile {
    /// The world of a seed, with less in it than was drawn.
    pub(crate) fn new(rng: &mut Rng, less: &Less) -> Self {
        let mut profile = Self::draw(rng);
        profile.lessen(less);
        profile
    }

    fn lessen(&mut self, less: &Less) {
        if let Some(nodes) = less.nodes.filter(|&nodes| nodes < self.node_count) {
            self.node_count = nodes.max(1);
            self.members.lessen(self.node_count);
        }
        self.clients.count = self.clients.count.min(less.clients.unwrap_or(usize::MAX));
        self.safety = self.safety.min(less.safety.unwrap_or(u64::MAX).saturating_mul(1_000_000));
        self.faults.kinds.retain(|kind| !less.without.contains(kind));
        for &fault in &less.without {
            match fault {
                Fault::SplitChange => self.faults.split_change = 0,
                Fault::Drop => self.network.drop = 0,
                Fault::Duplicate => self.network.duplicate = 0,
                Fault::Delay => self.network.detour = 0,
                Fault::SlowDisk => (self.disk.stall, self.disk.slow_load) = (0, 0),
                Fault::CrashInRecovery => self.dies_opening = 0,
                Fault::Drift => self.drift_ppm = 0,
                Fault::SlowNodes => self.slow = 0,
                Fault::Split
                | Fault::OneWay
                | Fault::IsolateLeader
                | Fault::DeafLeader
                | Fault::Clog
                | Fault::Pause
                | Fault::Kill
                | Fault::PowerLoss
                | Fault::CrashInWrite
                | Fault::CrashLeader
                | Fault::Blackout
                | Fault::SyncFails
                | Fault::ReadsFail
                | Fault::Stall
                | Fault::Restart
                | Fault::FullDisk
                | Fault::Wipe
                | Fault::ChangeMembers
                | Fault::HandOver
                | Fault::StepDown
                | Fault::Campaign
                | Fault::SitStill => {}
            }
        }
    }

    /// The kinds of faults that this world has.
    pub(crate) fn faults(&self) -> BTreeSet<Fault> {
        let always = [
            (Fault::SplitChange, self.faults.split_change),
            (Fault::Drop, self.network.drop),
            (Fault::Duplicate, self.network.duplicate),
            (Fault::Delay, self.network.detour),
            (Fault::SlowDisk, self.disk.stall + self.disk.slow_load),
            (Fault::CrashInRecovery, self.dies_opening),
            (Fault::Drift, self.drift_ppm),
            (Fault::SlowNodes, self.slow),
        ];
        let always = always.into_iter().filter(|&(_, rate)| rate > 0).map(|(fault, _)| fault);
        self.faults.kinds.iter().copied().chain(always).collect()
    }

    fn draw(rng: &mut Rng) -> Self {
        let node_count = rng.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 7]);
        let first_seq = match rng.below(20) {
            0 => Seq::new((1 << 53) - 2),
            1 => Seq::new((1 << 63) - 2),
            2 => Seq::new(1),
            _ => Seq::ZERO,
        };
        let calm = rng.chance(50);
        let drift_ppm = if calm { 0 } else { rng.pick(&[0, 100, 10_000, 50_000]) };
        let replica = Knobs::draw(rng);
        let mut profile = Self {
            node_count,
            members: MembersProfile::draw(rng, node_count, drift_ppm),
            first_seq,
            calm,
            safety: rng.within(Range::millis(5_000, 25_000)),
            network: NetworkProfile::draw(rng, calm),
            disk: DiskProfile::draw(rng, calm),
            faults: FaultProfile::draw(rng, calm),
            clients: ClientProfile::draw(rng),
            segment_bytes: 8 << 20,
            replica,
            drift_ppm,
            dies_opening: if calm { 0 } else { 60 },
            slow: if calm || rng.chance(700) { 0 } else { 400 },
            slow_factor: rng.pick(&[4, 10, 20]),
            alive: rng.pick(&[0, 300]),
            wakeup: Range::micros(0, rng.pick(&[1, 50, 1_000])),
            machine: Range::micros(1, rng.pick(&[10, 200, 2_000])),
            machine_durable: rng.pick(&[0, 500, 1000]),
            snapshots: None,
        };
        if !calm && node_count > 2 && rng.chance(250) {
            profile.churn(rng);
        }
        if rng.chance(300) {
            profile.segment(rng);
        }
        if !calm && node_count > 2 && profile.members.has_lease() && rng.chance(500) {
            profile.doubt(rng);
        }
        profile.snapshots = SnapshotProfile::draw(rng, calm);
        profile
    }

    /// Logs that begin another segment again and again. What a replica writes at once must fit into one.
    fn segment(&mut self, rng: &mut Rng) {
        self.segment_bytes = rng.pick(&[48 << 10, 64 << 10]);
        self.clients.payload.most = self.clients.payload.most.min(300);
        self.replica.uncommitted_bytes_max = self.replica.uncommitted_bytes_max.min(12_000);
        self.replica.append_bytes_max = self.replica.append_bytes_max.min(12_000);
    }

    /// Leases that are put to the test: many reads at leaders that are cut off, while others are elected as soon as
    /// they can be.
    fn doubt(&mut self, rng: &mut Rng) {
        use Fault::{HandOver, IsolateLeader, Kill, OneWay, Restart, Split};
        let kinds = [Split, OneWay, IsolateLeader, IsolateLeader, Kill, Kill, Restart, HandOver];
        self.faults.kinds = kinds.into_iter().filter(|_| rng.chance(700)).collect();
        self.faults.kinds.push(IsolateLeader);
        let term = crate::rng::nanos(self.replica.election);
        self.faults.interval = Range::new(term / 8, term);
        self.faults.lasting = Range::new(term, term * 3);
        self.faults.down = Range::new(1_000, term / 10);
        self.replica.jitter = self.replica.election / rng.pick(&[1, 4, 20]);
        self.replica.retry = Duration::from_millis(20);
        self.network.latency = Range::micros(50, 500);
        self.disk.sync = Range::micros(20, 200);
        self.clients.count = 5;
        self.clients.pause = Range::millis(5, 30);
        self.clients.burst = Range::new(1, 2);
        (self.clients.read, self.clients.read_local) = (600, 0);
        self.safety = self.safety.min(10_000_000_000);
    }

    /// Leaders that seldom last: the worlds of the Raft paper's figure 8, where an entry changes hands between
    /// leaders before it is committed.
    fn churn(&mut self, rng: &mut Rng) {
        use Fault::{
            Blackout, CrashInWrite, CrashLeader, DeafLeader, IsolateLeader, PowerLoss, Split,
        };
        let kinds = [
            Split,
            IsolateLeader,
            DeafLeader,
            CrashLeader,
            CrashLeader,
            CrashInWrite,
            PowerLoss,
            Blackout,
        ];
        self.faults.kinds = kinds.into_iter().filter(|_| rng.chance(600)).collect();
        self.faults.kinds.push(CrashLeader);
        let term = crate::rng::nanos(self.replica.election);
        self.faults.interval = Range::new(term / 4, term * 3);
        self.faults.lasting = Range::new(term / 4, term * 3);
        self.faults.down = Range::new(term / 10, term);
        self.clients.pause = Range::millis(20, 100);
        self.network.drop = self.network.drop.min(50);
        // Entry by entry: what one leader began, the next one ends.
        self.replica.append_bytes_max = rng.pick(&[1, 1, 1 << 20]);
        self.replica.window_bytes = rng.pick(&[1, 1, 8 << 20]);
        if rng.chance(500) {
            // What a leader reads for a peer may come when its log is another's already.
            self.replica.cache_bytes_max = 0;
            self.disk.slow_load = 200;
            self.faults.kinds.push(Split);
        }
    }

    /// What the node at that place is told, with a new disk or its first one.
    pub(crate) fn options(&self, at: usize, is_new_disk: bool, seed: u64) -> ReplicaOptions {
        let knobs = &self.replica;
        let names = if is_new_disk { self.members.all_names() } else { self.members.names(at) };
        let mut raft = Options::new(node_id(at), names, seed);
        raft.first_seq = self.first_seq;
        raft.heartbeat_interval = knobs.heartbeat;
        raft.election_timeout = knobs.election;
        raft.election_jitter = knobs.jitter;
        raft.commit_notice_delay = knobs.notice;
        raft.append_bytes_max = knobs.append_bytes_max;
        raft.window_bytes = knobs.window_bytes;
        raft.uncommitted_bytes_max = knobs.uncommitted_bytes_max;
        self.members.tell(at, is_new_disk, &mut raft);
        let mut options = ReplicaOptions::new(raft);
        options.state_machine = true;
        options.fail_fast = knobs.fail_fast;
        options.retry_interval = knobs.retry;
        options.cache_bytes_max = knobs.cache_bytes_max;
        options.apply_entries_max = knobs.apply_entries_max;
        options.apply_bytes_max = knobs.apply_bytes_max;
        options.forward_bytes_max = knobs.forward_bytes_max;
        options.calls_max = knobs.calls_max;
        options.snapshots = self.snapshots.map(|it| SnapshotOptions {
            compacts: true,
            log_bytes: Some(it.log_bytes),
            keep_entries: it.keep_entries,
            window_bytes: it.window_chunks << 10,
            bytes_per_second: it.bytes_per_second,
        });
        options
    }

    /// How long a healed cluster with so many entries may take until everything is as it should be, in
    /// nanoseconds.
    ///
    /// Elections are random; thirty of the longest waits are far beyond what a correct cluster needs, and far
    /// below what a person would take for working. A node that has nothing, in a cluster that sends one entry at
    /// a time, needs two round trips for each.
    pub(crate) fn liveness(&self, entries: u64) -> u64 {
        let wait = crate::rng::nanos(self.replica.election + self.replica.jitter);
        let trip = self.network.latency.most + self.wakeup.most;
        let work = self.disk.sync.most + 2 * self.disk.load.most + self.machine.most;
        // A transfer that failed again and again under faults is tried again only after 128 election timeouts.
        let has_priorities = self.members.priorities.iter().any(|&priority| priority > 0);
        let patience = if has_priorities { 140 } else { 0 };
        (30 + patience) * wait + 10_000_000_000 + entries * (4 * trip + work)
    }
}

/// The name of the node at that place: they count from 1.
pub(crate) fn node_id(at: usize) -> NodeId {
    NodeId::from(at as u64 + 1)
}

impl NetworkProfile {
    fn draw(rng: &mut Rng, calm: bool) -> Self {
        let most = rng.pick(&[500, 2_000, 20_000]);
        let rate = |rng: &mut Rng, most| if calm || rng.chance(400) { 0 } else { rng.below(most) };
        Self {
            latency: Range::micros(most / 10, most),
            drop: rate(rng, 200),
            duplicate: rate(rng, 200),
            detour: rate(rng, 150),
            detour_time: Range::millis(1, rng.pick(&[50, 500, 5_000])),
        }
    }

    /// What is left when nothing is wrong any more.
    pub(crate) fn heal(&mut self) {
        (self.drop, self.duplicate, self.detour) = (0, 0, 0);
    }
}

impl DiskProfile {
    fn draw(rng: &mut Rng, calm: bool) -> Self {
        let most = rng.pick(&[200, 2_000, 20_000]);
        Self {
            sync: Range::micros(most / 10, most),
            load: Range::micros(10, most),
            stall: if calm || rng.chance(700) { 0 } else { rng.below(10) },
            slow_load: 0,
            stall_time: Range::millis(100, 5_000),
            stall_limit: rng.pick(&[200, 1_000]) * 1_000_000,
            mark: rng.pick(&[0, 20, 500]),
            space_bytes: rng.pick(&[4096, 16 << 10, 64 << 10]),
        }
    }

    pub(crate) fn heal(&mut self) {
        (self.stall, self.slow_load) = (0, 0);
        (self.sync.most, self.load.most) =
            (self.sync.most.min(2_000_000), self.load.most.min(200_000));
        self.sync.least = self.sync.least.min(self.sync.most);
    }
}

impl FaultProfile {
    fn draw(rng: &mut Rng, calm: bool) -> Self {
        let mut kinds = Vec::new();
        for &kind in Fault::ALL {
            if kind.weight() > 0 && rng.chance(500) {
                kinds.extend(std::iter::repeat_n(kind, kind.weight()));
            }
        }
        if calm {
            kinds.clear();
        }
        let pace = rng.pick(&[200, 600, 2_000]);
        Self {
            grace: rng.pick(&[0, 1_500, 1_500, 3_000]) * 1_000_000,
            interval: Range::millis(pace / 4, pace * 2),
            lasting: Range::millis(50, rng.pick(&[500, 3_000])),
            down: Range::millis(1, rng.pick(&[100, 3_000])),
            split_change: if calm { 0 } else { rng.pick(&[0, 500]) },
            kinds,
        }
    }
}

impl ClientProfile {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            count: rng.pick(&[1, 2, 3, 5]),
            pause: Range::millis(20, rng.pick(&[100, 300, 1_000])),
            burst: Range::new(1, rng.pick(&[1, 2, 8])),
            deadline: Range::millis(50, rng.pick(&[300, 3_000, 10_000, 10_000])),
            payload: Range::new(16, rng.pick(&[32, 300, 2_000, 20_000])),
            batch: Range::new(2, rng.pick(&[3, 20])),
            read: rng.pick(&[100, 300, 600]),
            read_local: rng.pick(&[0, 50]),
            batches: rng.pick(&[0, 200, 800]),
            empty: rng.pick(&[0, 100]),
        }
    }
}

impl Knobs {
    fn draw(rng: &mut Rng) -> Self {
        let heartbeat = Duration::from_millis(rng.between(20, 150));
        let election = heartbeat * u32::try_from(rng.between(2, 10)).expect("a small number");
        let election = election.max(Duration::from_millis(150));
        Self {
            heartbeat,
            election,
            jitter: election,
            retry: Duration::from_millis(rng.pick(&[20, 100, 400])),
            append_bytes_max: rng.pick(&[1, 200, 2_000, 1 << 20]),
            window_bytes: rng.pick(&[1, 1_000, 8 << 20]),
            uncommitted_bytes_max: rng.pick(&[2_000, 64 << 20, 64 << 20, 64 << 20]),
            cache_bytes_max: rng.pick(&[0, 500, 10_000, 32 << 20]),
            apply_entries_max: rng.pick(&[1, 7, 4096]),
            apply_bytes_max: rng.pick(&[1, 500, 1 << 20]),
            forward_bytes_max: rng.pick(&[1, 1_000, 8 << 20]),
            calls_max: rng.pick(&[8, 65_536, 65_536, 65_536]),
            fail_fast: rng.chance(200),
            notice: Duration::from_millis(rng.pick(&[0, 1, 1, 30])),
        }
    }
}
