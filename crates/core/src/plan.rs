//! What somebody wants the membership to become.

use crate::quorum::{CustomRules, Group, Quorums, RuleError, Rules, Voter};
use crate::{Member, Membership, NodeId, Seq, Ticket, Time};
use alloc::vec::Vec;
use core::fmt;

/// A member as it is wanted.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct MemberSpec {
    /// Its name.
    pub id: NodeId,
    /// Its label for quorum rules.
    pub group: Option<Group>,
    /// Whether it counts in quorums. A learner only receives.
    pub votes: bool,
}

impl MemberSpec {
    /// A voter without a label.
    pub const fn voter(id: NodeId) -> Self {
        Self { id, group: None, votes: true }
    }

    /// A member that only receives.
    pub const fn learner(id: NodeId) -> Self {
        Self { id, group: None, votes: false }
    }
}

impl From<&Member> for MemberSpec {
    fn from(member: &Member) -> Self {
        Self { id: member.id, group: member.group, votes: member.votes }
    }
}

/// Members and rules that fit each other.
///
/// Whether rules are safe is found out by trying all sets of voters, which can take seconds with twenty of them.
/// So it is done here, before a leader that must not stand still sees the plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    members: Vec<MemberSpec>,
    rules: Rules,
}

impl Plan {
    /// Checks that these members, in any order, can decide by these rules, and that no two sets of them can
    /// decide against each other.
    ///
    /// # Errors
    ///
    /// What is wrong with the members, or with the rules for them.
    pub fn new(
        members: Vec<MemberSpec>,
        rules: Rules,
        customs: &CustomRules,
    ) -> Result<Self, PlanError> {
        let plan = Self::unchecked(members, rules)?;
        plan.quorums(customs)?.check()?;
        Ok(plan)
    }

    /// The same without asking whether the rules are safe: for a plan that somebody else has checked.
    ///
    /// # Errors
    ///
    /// What is wrong with the members.
    pub fn unchecked(mut members: Vec<MemberSpec>, rules: Rules) -> Result<Self, PlanError> {
        if members.len() > Membership::MEMBERS_MAX {
            return Err(PlanError::TooManyMembers { count: members.len() });
        }
        members.sort_unstable();
        if let Some([twice, _]) =
            members.windows(2).find(|pair| matches!(pair, [a, b] if a.id == b.id))
        {
            return Err(PlanError::NameTwice(twice.id));
        }
        if !members.iter().any(|member| member.votes) {
            return Err(PlanError::NoVoters);
        }
        Ok(Self { members, rules })
    }

    /// The members, sorted by name.
    pub fn members(&self) -> &[MemberSpec] {
        &self.members
    }

    /// Which sets of voters decide.
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Its voters and its rules, ready to be asked; not checked for safety.
    ///
    /// # Errors
    ///
    /// If a rule makes no sense for the voters, or needs a function that `customs` has not.
    pub fn quorums(&self, customs: &CustomRules) -> Result<Quorums, RuleError> {
        let voters = self.members.iter().filter(|member| member.votes);
        let voters: Vec<Voter> =
            voters.map(|member| Voter { id: member.id, group: member.group }).collect();
        Quorums::compile(&voters, &self.rules, customs)
    }

    /// Whether these are the members and the rules that it wants.
    pub fn is_met_by(&self, membership: &Membership) -> bool {
        let specs = membership.members().iter().map(MemberSpec::from);
        self.rules == *membership.rules() && specs.eq(self.members.iter().copied())
    }
}

/// A wish for other members or rules.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChangeMembers {
    /// Comes back with the outcome.
    pub ticket: Ticket,
    /// The position of the configuration that it was planned on (`None` for the first): a change that was
    /// repeated by the network must not undo a later one.
    pub base: Option<Seq>,
    /// What they should become.
    pub plan: Plan,
    /// How long new members may take to answer and to catch up.
    pub until: Time,
}

/// What is wrong with a plan.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PlanError {
    /// A member is listed twice.
    NameTwice(NodeId),
    /// Nobody could decide anything.
    NoVoters,
    /// There are more than [`Membership::MEMBERS_MAX`] members.
    TooManyMembers {
        /// How many.
        count: usize,
    },
    /// The rules do not fit the members.
    Rule(RuleError),
}

impl From<RuleError> for PlanError {
    fn from(error: RuleError) -> Self {
        Self::Rule(error)
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTwice(id) => write!(f, "member {id} is listed twice"),
            Self::NoVoters => f.write_str("a cluster needs at least one voter"),
            Self::TooManyMembers { count } => {
                write!(f, "a cluster has at most {} members, not {count}", Membership::MEMBERS_MAX)
            }
            Self::Rule(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for PlanError {}
