//! Who belongs to the cluster, as programs decide it.

use tinyraftplus_core::quorum::Group;
use tinyraftplus_core::{MemberSpec, NodeId, Plan, QuorumRule, Rules, Seq};
use tinyraftplus_replica::{Base, Change, Effect, Outcome, Refused, Request, Unknown};

use crate::{MembersError, RaftNode};

/// A member of the cluster, as it is or as it is wanted.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Member {
    /// Its name.
    pub id: NodeId,
    /// Its label for quorum rules.
    pub group: Option<Group>,
    /// Whether it counts in quorums. A learner only receives: it answers reads and passes calls on, and nobody waits for it.
    pub votes: bool,
}

impl Member {
    /// One that counts in quorums. A name that is no number: `Member::voter(NodeId::new("a")?)`.
    pub fn voter(id: impl Into<NodeId>) -> Self {
        Self { id: id.into(), group: None, votes: true }
    }

    /// One that only receives.
    pub fn learner(id: impl Into<NodeId>) -> Self {
        Self { id: id.into(), group: None, votes: false }
    }

    /// With this label.
    #[must_use]
    pub const fn group(mut self, group: Group) -> Self {
        self.group = Some(group);
        self
    }
}

impl From<&tinyraftplus_core::Member> for Member {
    fn from(member: &tinyraftplus_core::Member) -> Self {
        Self { id: member.id, group: member.group, votes: member.votes }
    }
}

/// What the members, and the rules, are to become: a list of [`Member`]s, and what [`RaftNode::set_members`] should know besides.
#[derive(Clone, Debug)]
pub struct Members {
    list: Vec<Member>,
    rules: Option<Rules>,
    base: Option<Base>,
}

impl Members {
    /// These, in any order, under the rules that are in force.
    pub fn new(members: impl IntoIterator<Item = Member>) -> Self {
        Self { list: members.into_iter().collect(), rules: None, base: None }
    }

    /// So many voters elect a leader and commit an entry from now on. More than half.
    #[must_use]
    pub fn quorum(self, count: u32) -> Self {
        self.rule(QuorumRule::AtLeast(count))
    }

    /// Which voters elect a leader and commit an entry from now on.
    #[must_use]
    pub fn rule(self, rule: QuorumRule) -> Self {
        self.rules(Rules::same(rule))
    }

    /// Which voters elect a leader from now on, and which commit an entry.
    #[must_use]
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = Some(rules);
        self
    }

    /// Only if the members are still those that were decided there, see [`Status::members_at`](crate::Status::members_at): for
    /// whoever reads the members, changes the list and sets it, while others may do the same.
    #[must_use]
    pub const fn based_on(mut self, members_at: Option<Seq>) -> Self {
        self.base = Some(Base(members_at));
        self
    }
}

impl<const N: usize> From<[Member; N]> for Members {
    fn from(members: [Member; N]) -> Self {
        Self::new(members)
    }
}

impl From<Vec<Member>> for Members {
    fn from(members: Vec<Member>) -> Self {
        Self::new(members)
    }
}

/// Members and rules that were decided on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Membership {
    /// Where in the log that is written; `None` for what the cluster was formed with.
    pub at: Option<Seq>,
    /// All members, sorted by name.
    pub members: Vec<Member>,
    /// Which sets of voters decide.
    pub rules: Rules,
}

impl RaftNode {
    /// Changes the members, their labels, who of them votes, and the quorum rules: any change, in one call, on any node (joint
    /// consensus, Raft section 6). Returns when it is committed, and the cluster can do without what was before.
    ///
    /// ```no_run
    /// # async fn example(node: tinyraftplus::RaftNode) -> Result<(), Box<dyn std::error::Error>> {
    /// use tinyraftplus::{Group, Member, Members, QuorumRule};
    ///
    /// node.set_members([Member::voter(1), Member::voter(2), Member::voter(4), Member::learner(9)]).await?;
    ///
    /// let (east, west) = (Group::new("east")?, Group::new("west")?);
    /// let members = [Member::voter(1).group(east), Member::voter(2).group(east), Member::voter(4).group(west)];
    /// node.set_members(Members::new(members).rule(QuorumRule::MajorityOfEachGroup)).await?;
    ///
    /// let now = node.status(); // Change the list, unless somebody else was faster.
    /// let rest = now.members.into_iter().filter(|member| member.votes);
    /// node.set_members(Members::new(rest).based_on(now.members_at)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// New members are nodes that were opened to join, see [`NodeBuilder::join`](crate::NodeBuilder::join). New voters are learners
    /// first, until they have nearly everything, and nothing is begun that the new members could not complete: so one that is
    /// dead or slow ends this call with its name, in time, and holds up nothing else. Appends go on meanwhile. A leader that is
    /// removed hands over to another one; a member that is removed learns of it, and its calls say so.
    ///
    /// One change at a time: while another is under way, this one is refused. Calls on several nodes at once are refused or done
    /// one after the other.
    ///
    /// # Errors
    ///
    /// [`MembersError::effect`] says whether anything happened.
    #[doc(alias = "setNodes")]
    pub async fn set_members(
        &self,
        members: impl Into<Members>,
    ) -> Result<Membership, MembersError> {
        let Members { list, rules, base } = members.into();
        let keeps_rules = rules.is_none();
        let rules = rules.unwrap_or_else(|| self.shared.status.borrow().rules.clone());
        let customs = self.shared.custom_rules.clone();
        let specs: Vec<MemberSpec> = list.iter().map(MemberSpec::from).collect();
        // Trying all sets of voters may take seconds.
        let plan = tokio::task::spawn_blocking(move || Plan::new(specs, rules, &customs));
        let plan = match plan.await {
            Ok(plan) => plan?,
            Err(error) if error.is_panic() => return Err(MembersError::Panicked),
            Err(_) => return Err(self.no_more_changes(Effect::None)),
        };
        let met = Membership {
            at: None,
            members: plan.members().iter().map(Member::from).collect(),
            rules: plan.rules().clone(),
        };
        let change = Box::new(Change { plan, base, keeps_rules });
        match self.ask(Request::ChangeMembers(change), self.shared.members_timeout).await {
            Ok(Outcome::Changed { at }) => Ok(Membership { at, ..met }),
            Ok(Outcome::NotChanged(why)) => Err(MembersError::NotChanged(why)),
            Ok(Outcome::Refused(Refused::Stopped)) => Err(self.no_more_changes(Effect::None)),
            Ok(Outcome::Refused(why)) => Err(MembersError::Refused(why)),
            Ok(Outcome::Unknown(Unknown::Stopped)) => Err(self.no_more_changes(Effect::Possible)),
            Ok(Outcome::Unknown(why)) => Err(MembersError::Unknown(why)),
            Ok(
                Outcome::Committed { .. }
                | Outcome::Read { .. }
                | Outcome::Done
                | Outcome::NotTransferred(_),
            ) => Err(MembersError::Unknown(Unknown::Forgotten)),
            Err(effect) => Err(self.no_more_changes(effect)),
        }
    }

    fn no_more_changes(&self, effect: Effect) -> MembersError {
        MembersError::Stopped { effect, reason: self.stop_reason() }
    }
}

impl From<&Member> for MemberSpec {
    fn from(member: &Member) -> Self {
        Self { id: member.id, group: member.group, votes: member.votes }
    }
}

impl From<&MemberSpec> for Member {
    fn from(spec: &MemberSpec) -> Self {
        Self { id: spec.id, group: spec.group, votes: spec.votes }
    }
}
