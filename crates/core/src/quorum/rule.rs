//! Quorum rules as data: what a configuration holds and a person reads.

use super::CustomRule;
use crate::NodeId;
use alloc::{collections::BTreeMap, vec::Vec};
use core::fmt;

/// Which sets of voters decide.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum QuorumRule {
    /// More than half: `floor(n / 2) + 1` of n.
    #[default]
    Majority,
    /// At least this many voters.
    AtLeast(u32),
    /// In every group, more than half of its voters.
    MajorityOfEachGroup,
    /// More than half of its voters in more than half of the groups.
    MajorityOfGroups,
    /// At least this many voters of every group.
    InEachGroup(u32),
    /// Voters that together weigh enough.
    Weighted {
        /// What each weighs; voters not named weigh nothing. Only voters may be named.
        weights: BTreeMap<NodeId, u32>,
        /// What they must weigh together.
        at_least: u64,
    },
    /// All of these, at least one.
    All(Vec<Self>),
    /// Any of these, at least one.
    Any(Vec<Self>),
    /// A function that the program gave its nodes under this name.
    Custom(CustomRule),
}

impl QuorumRule {
    /// How many levels of [`All`](Self::All) and [`Any`](Self::Any) a rule has, with what they hold.
    pub const DEPTH_MAX: usize = 8;
    /// How many rules a rule is made of, itself included.
    pub const PARTS_MAX: usize = 64;

    /// A number that differs between different rules; custom rules count by name and version.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::default();
        self.digest(&mut hash);
        hash.finish()
    }

    fn has_custom(&self) -> bool {
        match self {
            Self::Custom(_) => true,
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::has_custom),
            Self::Majority
            | Self::AtLeast(_)
            | Self::MajorityOfEachGroup
            | Self::MajorityOfGroups
            | Self::InEachGroup(_)
            | Self::Weighted { .. } => false,
        }
    }

    /// Every field behind a tag and every list behind its length, so that no two rules read alike.
    fn digest(&self, hash: &mut Fnv) {
        match self {
            Self::Majority => hash.number(1),
            Self::AtLeast(count) => hash.number(2).number(u64::from(*count)),
            Self::MajorityOfEachGroup => hash.number(3),
            Self::MajorityOfGroups => hash.number(4),
            Self::InEachGroup(count) => hash.number(5).number(u64::from(*count)),
            Self::Weighted { weights, at_least } => {
                hash.number(6).number(*at_least).length(weights.len());
                for (id, weight) in weights {
                    hash.text(id.as_str()).number(u64::from(*weight));
                }
                hash
            }
            Self::All(parts) => Self::digest_parts(hash.number(7), parts),
            Self::Any(parts) => Self::digest_parts(hash.number(8), parts),
            Self::Custom(rule) => {
                hash.number(9).text(rule.name()).number(u64::from(rule.version()))
            }
        };
    }

    fn digest_parts<'a>(hash: &'a mut Fnv, parts: &[Self]) -> &'a mut Fnv {
        hash.length(parts.len());
        for part in parts {
            part.digest(hash);
        }
        hash
    }
}

impl fmt::Display for QuorumRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Majority => f.write_str("majority"),
            Self::AtLeast(count) => write!(f, "at least {count}"),
            Self::MajorityOfEachGroup => f.write_str("majority of each group"),
            Self::MajorityOfGroups => f.write_str("majority of groups"),
            Self::InEachGroup(count) => write!(f, "at least {count} in each group"),
            Self::Weighted { weights, at_least } => {
                write!(f, "weight of at least {at_least} among ")?;
                let weights = weights.iter().map(|(id, weight)| Pair(id, weight));
                fmt_list(f, weights, ", ")
            }
            Self::All(parts) => fmt_list(f, parts, " and "),
            Self::Any(parts) => fmt_list(f, parts, " or "),
            Self::Custom(rule) => write!(f, "{rule}"),
        }
    }
}

struct Pair<'a>(&'a NodeId, &'a u32);

impl fmt::Display for Pair<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0, self.1)
    }
}

fn fmt_list<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    items: impl IntoIterator<Item = T>,
    between: &str,
) -> fmt::Result {
    f.write_str("(")?;
    for (at, item) in items.into_iter().enumerate() {
        write!(f, "{}{item}", if at == 0 { "" } else { between })?;
    }
    f.write_str(")")
}

/// Who elects, and who commits.
///
/// Every set that elects must share a voter with every set that elects, or a term could have two leaders, and
/// with every set that commits, or a leader could lack what was committed. Two sets that commit need not meet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rules {
    /// Which voters can elect a leader.
    pub elections: QuorumRule,
    /// Which voters must hold an entry durably for it to be committed.
    pub commits: QuorumRule,
}

impl Rules {
    /// One rule for both.
    pub fn same(rule: QuorumRule) -> Self {
        Self { elections: rule.clone(), commits: rule }
    }

    /// Whether a function of the user's is part of them.
    pub(crate) fn has_custom(&self) -> bool {
        self.elections.has_custom() || self.commits.has_custom()
    }

    /// A number that differs between different pairs of rules.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::default();
        self.elections.digest(&mut hash);
        self.commits.digest(&mut hash);
        hash.finish()
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.elections == self.commits {
            write!(f, "{}", self.elections)
        } else {
            write!(f, "elections {}, commits {}", self.elections, self.commits)
        }
    }
}

/// FNV-1a: collisions by accident, not by malice, are what this has to tell apart.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    fn length(&mut self, length: usize) -> &mut Self {
        self.number(u64::try_from(length).unwrap_or(u64::MAX))
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.length(text.len()).bytes(text.as_bytes())
    }

    const fn finish(&self) -> u64 {
        self.0
    }
}
