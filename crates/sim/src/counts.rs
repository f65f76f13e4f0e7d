//! What a run did, in numbers: a simulator that does nothing finds nothing.

use std::ops::AddAssign;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident: $label:literal,)*) => {
        /// What happened in a run, or in many.
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Each number with its name in words.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$(($label, self.$name),)*]
            }
        }

        impl AddAssign for Counts {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counts! {
    /// Events.
    steps: "steps",
    /// Simulated time, in milliseconds.
    millis: "simulated milliseconds",
    /// Entries committed.
    committed: "entries committed",
    /// Entries committed before the faults ended.
    committed_safety: "entries committed under faults",
    /// Terms with a leader.
    leaders: "leaders elected",
    /// Appends made.
    appends: "appends",
    /// Appends acknowledged.
    acknowledged: "appends acknowledged",
    /// Appends refused.
    refused: "appends refused",
    /// Appends with an unknown outcome.
    unknown: "appends unknown",
    /// Appends whose node died first.
    lost: "appends lost with their node",
    /// Reads made.
    reads: "reads",
    /// Reads answered.
    reads_answered: "reads answered",
    /// Processes killed.
    kills: "processes killed",
    /// Power losses.
    power_losses: "power losses",
    /// Proper restarts.
    restarts: "proper restarts",
    /// Starts, the first ones included.
    starts: "starts",
    /// Nodes that died while a group was being written.
    crashed_writing: "crashes in a write",
    /// Nodes that died while they opened their log.
    crashed_opening: "crashes in recovery",
    /// Groups that recovery cut off.
    torn: "torn groups cut by recovery",
    /// Terms and votes that were found only in what was cut.
    rescued: "votes rescued from a torn group",
    /// Sectors that a power loss took back.
    sectors_lost: "sectors lost",
    /// Syncs that failed.
    sync_failures: "sync failures",
    /// Writes refused for lack of space.
    full: "writes refused by a full disk",
    /// Writes reported as stalled.
    stalls: "stalls reported",
    /// Groups written.
    groups: "groups written",
    /// Writes in them.
    writes: "writes",
    /// Messages sent.
    sent: "messages sent",
    /// Messages lost.
    dropped: "messages dropped",
    /// Messages that arrived twice.
    duplicated: "messages duplicated",
    /// Messages that took long.
    delayed: "messages delayed",
    /// Partitions of any kind.
    partitions: "partitions",
    /// Links that held everything back.
    clogs: "clogged links",
    /// Processes that stood still for a while.
    pauses: "pauses",
    /// Disks lost.
    wipes: "disks wiped",
}
