//! What a node is told when it starts.

use crate::quorum::{CustomRules, Group, Quorums, RuleError, Rules, Voter};
use crate::{EntryId, Lease, NodeId, Seq, Term};
use alloc::vec::Vec;
use core::{fmt, time::Duration};

/// What a node is told when it starts. The members and the rules matter only until the cluster has formed:
/// then the configuration in the log decides.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// This node's name.
    pub id: NodeId,
    /// All members' names, this node's among them, in any order. The smallest name forms the cluster.
    ///
    /// A node that lists only itself founds a cluster of one at once. When others have joined it, list them too: if its
    /// disk is lost, it would else found another cluster under its old name.
    pub members: Vec<NodeId>,
    /// Never founds a cluster, but waits until the leader of one adds it. `members` are then those that it asks for one, itself
    /// among them or not; with none it waits to be asked. Once its log knows a cluster, this means nothing. Off by default.
    pub joins: bool,
    /// Which sets of voters elect a leader, and which commit an entry.
    pub rules: Rules,
    /// The rules of the user's own that this node can evaluate.
    pub custom_rules: CustomRules,
    /// This node's label for quorum rules.
    pub group: Option<Group>,
    /// Forms the cluster as soon as members that could elect a leader have answered, the smallest name among
    /// them, instead of waiting for all. The absent count from the start, and can speak once they have appeared
    /// and a quorum has agreed to their logs. Off by default: if a founder's disk is lost before that, the others can't tell it from
    /// an absent member.
    pub form_with_majority: bool,
    /// How far a new voter may be behind the leader, in entries, when it begins to vote. Default 1,024.
    pub promote_distance: u64,
    /// The first position of the log.
    pub first_seq: Seq,
    /// Where the randomness of timeouts comes from, together with the identity of the log.
    pub seed: u64,
    /// How often a leader speaks. Default 100 ms.
    pub heartbeat_interval: Duration,
    /// How long a follower waits for its leader before it campaigns, and how long a leader goes on without
    /// hearing from a quorum. At least two heartbeat intervals. Default 500 ms.
    pub election_timeout: Duration,
    /// Up to this much is added to each wait, drawn at random: zero only for a cluster of one, as others would all
    /// campaign at the same moment. Default 500 ms.
    pub election_jitter: Duration,
    /// Who should lead: a leader hands over to a voter of a higher priority that has kept up with it for two
    /// election timeouts. After a transfer that failed it waits four election timeouts before the next, then eight,
    /// up to 128. Equal ones never take turns, and elections do not look at it. Default 0.
    pub priority: u32,
    /// Whether a leader answers reads by its lease, without asking its followers each time, and what that counts on.
    /// Default: no.
    pub lease: Option<Lease>,
    /// About how many bytes of payload go into one message. A batch that is larger goes alone. Default 1 MiB.
    pub append_bytes_max: u64,
    /// How many bytes may be on their way to one peer. Default 8 MiB.
    pub window_bytes: u64,
    /// How many bytes may wait to be committed before proposals are refused as busy. Default 64 MiB.
    pub uncommitted_bytes_max: u64,
}

impl Options {
    /// The defaults for a node and its cluster.
    pub fn new(id: NodeId, members: Vec<NodeId>, seed: u64) -> Self {
        Self {
            id,
            members,
            joins: false,
            rules: Rules::default(),
            custom_rules: CustomRules::default(),
            group: None,
            form_with_majority: false,
            promote_distance: 1024,
            first_seq: Seq::ZERO,
            seed,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(500),
            election_jitter: Duration::from_millis(500),
            priority: 0,
            lease: None,
            append_bytes_max: 1 << 20,
            window_bytes: 8 << 20,
            uncommitted_bytes_max: 64 << 20,
        }
    }

    /// Checks that the options fit each other.
    ///
    /// # Errors
    ///
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), OptionsError> {
        let mut sorted = self.members.clone();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find_map(|pair| match pair {
            [a, b] if a == b => Some(*a),
            _ => None,
        }) {
            return Err(OptionsError::DuplicateMember(twice));
        }
        if !self.joins {
            if !self.members.contains(&self.id) {
                return Err(OptionsError::NotAMember(self.id));
            }
            self.check_rules()?;
        }
        if self.first_seq == Seq::MAX {
            return Err(OptionsError::NoRoom);
        }
        if self.heartbeat_interval.is_zero()
            || self.election_timeout < self.heartbeat_interval.saturating_mul(2)
        {
            return Err(OptionsError::Timeouts {
                heartbeat: self.heartbeat_interval,
                election: self.election_timeout,
            });
        }
        if (self.joins || self.members.len() > 1) && self.election_jitter.is_zero() {
            return Err(OptionsError::NoJitter);
        }
        if let Some(lease) = self.lease
            && lease.shorten(self.election_timeout) <= self.heartbeat_interval
        {
            return Err(OptionsError::LeaseTooShort {
                heartbeat: self.heartbeat_interval,
                lease: lease.shorten(self.election_timeout),
            });
        }
        if self.append_bytes_max == 0 || self.window_bytes == 0 || self.uncommitted_bytes_max == 0 {
            return Err(OptionsError::ZeroLimit);
        }
        Ok(())
    }

    /// The labels of the others are not known yet; a rule that asks for them is checked when the cluster forms.
    fn check_rules(&self) -> Result<(), OptionsError> {
        let mut members = self.members.clone();
        members.sort_unstable();
        let voter = |id| Voter { id, group: self.group.filter(|_| id == self.id) };
        let voters: Vec<Voter> = members.into_iter().map(voter).collect();
        let quorums = match Quorums::compile(&voters, &self.rules, &self.custom_rules) {
            Err(RuleError::Unlabelled { .. }) if self.group.is_none() => {
                return Err(OptionsError::Rule(RuleError::Unlabelled { voter: self.id }));
            }
            Err(RuleError::Unlabelled { .. }) if voters.len() > 1 => return Ok(()),
            other => other.map_err(OptionsError::Rule)?,
        };
        if self.rules.has_custom() && self.group.is_some() && voters.len() > 1 {
            return Ok(());
        }
        quorums.check().map_err(OptionsError::Rule)
    }

    /// A number that differs between nodes that would found different clusters: other names, rules or first
    /// positions. Identities and labels do not count: they are what forming finds out.
    pub fn founding(&self) -> u64 {
        let mut ids: Vec<&NodeId> = self.members.iter().collect();
        ids.sort_unstable();
        let names = ids.into_iter().flat_map(|id| id.as_str().bytes().chain([0]));
        // FNV-1a: collisions by accident, not by malice, are what this has to tell apart.
        let numbers = self.rules.fingerprint().to_le_bytes().into_iter();
        numbers
            .chain(self.first_seq.get().to_le_bytes())
            .chain(names)
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
    }
}

/// Why options are refused.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum OptionsError {
    /// A member is listed twice.
    DuplicateMember(NodeId),
    /// The node is not among its own members.
    NotAMember(NodeId),
    /// The quorum rule does not fit the members.
    Rule(RuleError),
    /// Elections would begin while the leader is fine.
    Timeouts {
        /// The heartbeat interval.
        heartbeat: Duration,
        /// The election timeout.
        election: Duration,
    },
    /// All nodes would campaign at the same moment, again and again.
    NoJitter,
    /// A lease would end before the next heartbeat could renew it.
    LeaseTooShort {
        /// The heartbeat interval.
        heartbeat: Duration,
        /// How long a lease lasts: the election timeout less what the clocks may differ.
        lease: Duration,
    },
    /// A limit in bytes is zero.
    ZeroLimit,
    /// The log would begin where it ends.
    NoRoom,
    /// The log is that of another member.
    LogOfAnother {
        /// The node that opened it.
        id: NodeId,
        /// The member it belongs to.
        owner: NodeId,
    },
    /// The log holds an entry of a term that was never stored, so votes may have been forgotten too.
    TermBehindLog {
        /// Its newest entry.
        last: EntryId,
        /// The term it has stored.
        term: Term,
    },
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateMember(id) => write!(f, "member {id} is listed twice"),
            Self::NotAMember(id) => write!(
                f,
                "node {id} is not in its own list of members; list it, or let it join a cluster that is there"
            ),
            Self::Rule(error) => error.fmt(f),
            Self::Timeouts { heartbeat, election } => write!(
                f,
                "an election timeout of {election:?} is too short for a heartbeat every {heartbeat:?}; it must be at least twice as long, and the heartbeat interval not zero"
            ),
            Self::NoJitter => f.write_str(
                "with more than one node election_jitter must not be zero: they would all campaign at once, and nobody would win; about the election timeout is good",
            ),
            Self::LeaseTooShort { heartbeat, lease } => write!(
                f,
                "a lease of {lease:?} is over before the heartbeat of every {heartbeat:?} renews it; use a longer election timeout, or a smaller clock error"
            ),
            Self::ZeroLimit => f.write_str(
                "append_bytes_max, window_bytes and uncommitted_bytes_max must not be zero",
            ),
            Self::LogOfAnother { id, owner } => write!(
                f,
                "node {id} was given the log of node {owner}; give it its own, or an empty directory"
            ),
            Self::TermBehindLog { last, term } => write!(
                f,
                "the log holds entry {last} but has stored only term {term}; it can't be trusted with votes, start this node on an empty directory"
            ),
            Self::NoRoom => {
                write!(f, "a log can't begin at seq {}, the last position there is", Seq::MAX)
            }
        }
    }
}

impl core::error::Error for OptionsError {}
