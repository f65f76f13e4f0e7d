//! Who belongs to the cluster, whose word counts, and where in the log that was decided.
//!
//! A configuration is an entry like any other, but for one thing: it is in force from the moment it is in a
//! node's log, committed or not (Raft section 6). Trimming it brings the one before it back. A leader begins a
//! change only when the one before is committed, so of all configurations in a log at most the newest is not:
//! remembering two is enough.

use crate::planted::{self, Bug};
use crate::quorum::{Group, QuorumRule, Rules, Voter};
use crate::{Identity, NodeId, Seq};
use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::fmt;

/// A member of the cluster: a name, and the one log that may speak under it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Member {
    /// Its name.
    pub id: NodeId,
    /// The identity of its log; `None` for a voter that was absent when the cluster formed. Nothing can be
    /// said in its name until a later configuration binds a log to it.
    pub identity: Option<Identity>,
    /// Its label for quorum rules.
    pub group: Option<Group>,
    /// Whether it counts in quorums. A learner only receives.
    pub votes: bool,
}

impl Member {
    /// A voter without a label.
    pub const fn voter(id: NodeId, identity: Identity) -> Self {
        Self { id, identity: Some(identity), group: None, votes: true }
    }

    /// Whether it is this log that speaks for it.
    pub fn is(&self, id: NodeId, identity: Identity) -> bool {
        self.id == id && (self.identity == Some(identity) || planted::is(Bug::TrustWiped))
    }
}

impl From<QuorumRule> for Rules {
    /// One rule for both.
    fn from(rule: QuorumRule) -> Self {
        Self::same(rule)
    }
}

/// Members, and the rules that say which sets of the voters among them decide.
///
/// Invariants: members are sorted by name, names and identities are distinct, and at least one votes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Membership {
    members: Vec<Member>,
    rules: Rules,
}

impl Membership {
    /// The most members, learners included.
    pub const MEMBERS_MAX: usize = 1000;

    /// These members under these rules, in any order. Whether the rules are safe for them is not asked here.
    ///
    /// # Errors
    ///
    /// If a name or an identity repeats, there are no voters or too many members, or a learner has no identity.
    pub fn new(
        mut members: Vec<Member>,
        rules: impl Into<Rules>,
    ) -> Result<Self, ConfigurationError> {
        if members.len() > Self::MEMBERS_MAX {
            return Err(ConfigurationError::TooManyMembers { count: members.len() });
        }
        members.sort_unstable();
        if let Some([twice, _]) =
            members.windows(2).find(|pair| matches!(pair, [a, b] if a.id == b.id))
        {
            return Err(ConfigurationError::NameTwice(twice.id));
        }
        let mut identities: Vec<_> =
            members.iter().filter_map(|member| Some((member.identity?, member.id))).collect();
        identities.sort_unstable();
        if let Some([a, b]) =
            identities.windows(2).find(|pair| matches!(pair, [a, b] if a.0 == b.0))
        {
            return Err(ConfigurationError::IdentityTwice(a.1, b.1));
        }
        if let Some(learner) = members.iter().find(|m| !m.votes && m.identity.is_none()) {
            return Err(ConfigurationError::LearnerWithoutLog(learner.id));
        }
        if !members.iter().any(|member| member.votes) {
            return Err(ConfigurationError::NoVoters);
        }
        Ok(Self { members, rules: rules.into() })
    }

    /// The members, sorted by name.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The members that count in quorums, sorted by name.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.votes)
    }

    /// Which sets of voters decide.
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The member of that name.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        let at = self.members.binary_search_by(|member| member.id.cmp(&id)).ok()?;
        self.members.get(at)
    }

    /// Whether the same sets of the same logs decide in both.
    pub(crate) fn decides_like(&self, other: &Self) -> bool {
        let is_same = |(a, b): (&Member, &Member)| {
            a == b || planted::is(Bug::BindAtOnce) && (a.id, a.group) == (b.id, b.group)
        };
        let count = |membership: &Self| membership.voters().count();
        self.rules == other.rules
            && count(self) == count(other)
            && self.voters().zip(other.voters()).all(is_same)
    }

    /// The voters as rules see them.
    pub(crate) fn electors(&self) -> Vec<Voter> {
        self.voters().map(|member| Voter { id: member.id, group: member.group }).collect()
    }
}

/// Who belongs to the cluster, and which sets of voters decide.
///
/// While one membership replaces another, both are in it, and every decision needs a quorum in each of them,
/// counted among its own voters by its own rules (joint consensus, Raft section 6).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Configuration {
    cluster: Identity,
    first: Seq,
    now: Membership,
    old: Option<Box<Membership>>,
}

impl Configuration {
    /// The first configuration of a cluster, whose log begins at `first`.
    ///
    /// # Errors
    ///
    /// If nobody in it has a log, or `first` is past the last position.
    pub fn found(now: Membership, first: Seq) -> Result<Self, ConfigurationError> {
        let founder = now.members.iter().find_map(|member| member.identity);
        let cluster = founder.ok_or(ConfigurationError::NoFounder)?;
        Self::restored(cluster, first, now, None)
    }

    /// A configuration as it was stored or sent.
    ///
    /// # Errors
    ///
    /// If `first` is past the last position.
    pub fn restored(
        cluster: Identity,
        first: Seq,
        now: Membership,
        old: Option<Membership>,
    ) -> Result<Self, ConfigurationError> {
        if first == Seq::MAX {
            return Err(ConfigurationError::NoRoom);
        }
        Ok(Self { cluster, first, now, old: old.map(Box::new) })
    }

    /// The next configuration on the way to that membership: it at once if the same sets decide, else the
    /// joint one of both.
    pub(crate) fn towards(&self, next: Membership) -> Self {
        let old = (!self.now.decides_like(&next)).then(|| Box::new(self.now.clone()));
        Self { cluster: self.cluster, first: self.first, now: next, old }
    }

    /// The configuration that ends a joint one.
    pub(crate) fn left(&self) -> Self {
        Self { old: None, ..self.clone() }
    }

    /// The identity of the cluster: that of its founder's log, for ever.
    pub const fn cluster(&self) -> Identity {
        self.cluster
    }

    /// The first position of the cluster's log.
    pub const fn first(&self) -> Seq {
        self.first
    }

    /// The membership that it leads to, or that is there to stay.
    pub const fn now(&self) -> &Membership {
        &self.now
    }

    /// The membership that is being replaced.
    pub fn old(&self) -> Option<&Membership> {
        self.old.as_deref()
    }

    /// Both, if there are two.
    pub fn halves(&self) -> impl Iterator<Item = &Membership> {
        core::iter::once(&self.now).chain(self.old())
    }

    /// The members, sorted by name; in a joint configuration those of the new membership.
    pub fn members(&self) -> &[Member] {
        &self.now.members
    }

    /// All whom a leader sends to: the members of the new membership, then those that are only in the old.
    pub fn everyone(&self) -> impl Iterator<Item = &Member> {
        let leaving = self.old().into_iter().flat_map(Membership::members);
        let leaving = leaving.filter(|member| self.now.member(member.id).is_none());
        self.now.members.iter().chain(leaving)
    }

    /// The member of that name; if it has two logs, with the one that comes.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.halves().find_map(|half| half.member(id))
    }

    /// The identity that this node's log must have to speak for it.
    pub fn identity_of(&self, id: NodeId) -> Option<Identity> {
        self.member(id)?.identity
    }

    /// Whether it names this log, as a voter or a learner.
    pub fn names(&self, id: NodeId, identity: Identity) -> bool {
        self.halves().any(|half| half.member(id).is_some_and(|member| member.is(id, identity)))
    }

    /// Whether this log counts in a quorum.
    pub fn counts(&self, id: NodeId, identity: Identity) -> bool {
        self.halves().any(|half| {
            half.member(id).is_some_and(|member| member.votes && member.is(id, identity))
        })
    }

    /// The name under which this log is a member.
    pub fn name_of(&self, identity: Identity) -> Option<NodeId> {
        let mut members = self.halves().flat_map(Membership::members);
        members.find(|member| member.identity == Some(identity)).map(|member| member.id)
    }
}

/// A configuration, and the entry that holds it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placed {
    /// The position of its entry; `None` for the first configuration, which takes none. A node that was added
    /// to a cluster knows one before its log has got that far.
    pub at: Option<Seq>,
    /// What it says.
    pub configuration: Arc<Configuration>,
}

/// What a log remembers of configurations: the newest, which is in force, and the one that comes back if that is
/// trimmed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Configurations {
    newest: Placed,
    before: Option<Placed>,
}

impl Configurations {
    /// The first one a node learns of.
    pub const fn first(newest: Placed) -> Self {
        Self { newest, before: None }
    }

    /// Those of a cluster that these voters and learners found, whose log begins at `first`.
    ///
    /// # Errors
    ///
    /// What is wrong with the members.
    pub fn found(
        members: Vec<Member>,
        rules: impl Into<Rules>,
        first: Seq,
    ) -> Result<Self, ConfigurationError> {
        let configuration = Configuration::found(Membership::new(members, rules)?, first)?;
        Ok(Self::first(Placed { at: None, configuration: Arc::new(configuration) }))
    }

    /// What was stored; `None` if the one before is not older.
    pub fn restored(newest: Placed, before: Option<Placed>) -> Option<Self> {
        let in_order = before.as_ref().is_none_or(|before| before.at < newest.at);
        in_order.then_some(Self { newest, before })
    }

    /// The one in force.
    pub const fn newest(&self) -> &Placed {
        &self.newest
    }

    /// The one that it replaced.
    pub const fn before(&self) -> Option<&Placed> {
        self.before.as_ref()
    }

    /// The newest one below that position: with `committed`, the newest that can't be trimmed any more.
    pub fn settled(&self, committed: Seq) -> &Placed {
        match &self.before {
            Some(before) if self.newest.at.is_some_and(|at| at >= committed) => before,
            Some(_) | None => &self.newest,
        }
    }

    /// With that entry, if it is newer.
    pub(crate) fn with(&self, next: Placed) -> Option<Self> {
        let is_newer = next.at > self.newest.at;
        is_newer.then(|| Self { before: Some(self.newest.clone()), newest: next })
    }

    /// Without the entries at `from` and after it, if one of them was the newest.
    ///
    /// Not if the log has not got as far as it: then it came from a leader that had it committed.
    pub(crate) fn without(&self, from: Seq, end: Seq) -> Option<Self> {
        let goes = self.newest.at.is_some_and(|at| from <= at && at < end);
        let before = self.before.clone().filter(|_| goes)?;
        Some(Self { newest: before, before: None })
    }
}

/// Why something is no configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// A member is listed twice.
    NameTwice(NodeId),
    /// Two members have logs of one identity: one is a copy of the other, and its vote would pass for the
    /// other's.
    IdentityTwice(NodeId, NodeId),
    /// A learner has to have a log.
    LearnerWithoutLog(NodeId),
    /// Nobody could decide anything.
    NoVoters,
    /// There are more than [`Membership::MEMBERS_MAX`] members, those that a change would add for a while included.
    TooManyMembers {
        /// How many.
        count: usize,
    },
    /// A cluster is founded by a log.
    NoFounder,
    /// The log would begin where it ends.
    NoRoom,
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTwice(id) => write!(f, "member {id} is listed twice"),
            Self::IdentityTwice(a, b) => write!(
                f,
                "members {a} and {b} have logs of the same identity: one is a copy of the other; start one of them on an empty directory"
            ),
            Self::LearnerWithoutLog(id) => write!(f, "learner {id} has no log"),
            Self::NoVoters => f.write_str("a configuration needs at least one voter"),
            Self::TooManyMembers { count } => write!(
                f,
                "a configuration has at most {} members, not {count}",
                Membership::MEMBERS_MAX
            ),
            Self::NoFounder => f.write_str("a first configuration needs a member with a log"),
            Self::NoRoom => {
                write!(f, "a log can't begin at seq {}, the last position there is", Seq::MAX)
            }
        }
    }
}

impl core::error::Error for ConfigurationError {}
