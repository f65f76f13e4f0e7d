//! What can go wrong in a world, or be asked of it beside appends and reads, by name.

use std::fmt;
use std::str::FromStr;

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident: $name:literal, $weight:literal,)*) => {
        /// A kind of fault. Each is on or off for a whole run.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum Fault {
            $($(#[$doc])* $fault,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$fault,)*];

            /// What it is called on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$fault => $name,)* }
            }

            /// How often it is drawn, beside the others, as the next thing to break; 0 for what goes on all the
            /// time.
            pub(crate) const fn weight(self) -> usize {
                match self { $(Self::$fault => $weight,)* }
            }
        }
    };
}

faults! {
    /// Two sides that can't talk.
    Split: "split", 3,
    /// One direction of one link.
    OneWay: "one-way", 2,
    /// The leader and everybody else.
    IsolateLeader: "isolate-leader", 3,
    /// The leader still speaks but hears nobody, or the other way round.
    DeafLeader: "deaf-leader", 2,
    /// A link holds back everything for a while.
    Clog: "clog", 1,
    /// A process stops answering for a while.
    Pause: "pause", 2,
    /// A process is killed.
    Kill: "kill", 2,
    /// A node loses power.
    PowerLoss: "power-loss", 2,
    /// A node dies in the middle of its next write.
    CrashInWrite: "crash-in-write", 4,
    /// The leader dies.
    CrashLeader: "crash-leader", 2,
    /// All nodes lose power at once.
    Blackout: "blackout", 1,
    /// The next sync fails.
    SyncFails: "sync-fails", 1,
    /// The disk can't be read for a while.
    ReadsFail: "reads-fail", 1,
    /// The next write takes very long.
    Stall: "stall", 1,
    /// The node is stopped properly and started again.
    Restart: "restart", 1,
    /// The disk has no room for new space for a while.
    FullDisk: "full-disk", 1,
    /// The disk is lost; the node comes back with an empty one.
    Wipe: "wipe", 2,
    /// Somebody wants other members, or other rules.
    ChangeMembers: "change-members", 3,
    /// Somebody wants another node to lead.
    HandOver: "hand-over", 2,
    /// Somebody wants a node not to lead.
    StepDown: "step-down", 1,
    /// Somebody wants a node to campaign.
    Campaign: "campaign", 1,
    /// Somebody wants a node to neither campaign nor lead for a while.
    SitStill: "sit-still", 1,
    /// Snapshots are taken, sent and installed, and logs compacted.
    Snapshots: "snapshots", 0,
    /// The leader and those that come are cut off from those that go, just when one membership begins to replace
    /// another.
    SplitChange: "split-change", 0,
    /// Messages are lost.
    Drop: "drop", 0,
    /// Messages arrive twice.
    Duplicate: "duplicate", 0,
    /// Messages take a detour, and others overtake them.
    Delay: "delay", 0,
    /// Any write or read may take very long.
    SlowDisk: "slow-disk", 0,
    /// A process may die while it opens its log.
    CrashInRecovery: "crash-in-recovery", 0,
    /// Clocks run fast or slow.
    Drift: "drift", 0,
    /// Some machines are slow.
    SlowNodes: "slow-nodes", 0,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().copied().find(|fault| fault.name() == name);
        known.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|fault| fault.name()).collect();
            format!("there is no fault {name:?}; there are: {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_known_by_their_names() {
        for &fault in Fault::ALL {
            assert_eq!(fault.name().parse(), Ok(fault));
        }
        assert!("earthquake".parse::<Fault>().is_err_and(|what| what.contains("blackout")));
    }
}
