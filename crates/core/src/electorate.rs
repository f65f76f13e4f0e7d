//! A configuration that this node can evaluate: what its quorums are, in both halves if it is joint.

use crate::planted::{self, Bug};
use crate::quorum::{CustomRules, Quorums, RuleError, Voter, VoterSet};
use crate::{Configuration, Configurations, Member, Membership, Placed, Seq};
use alloc::{sync::Arc, vec::Vec};

/// The quorums of a configuration.
///
/// Every question is asked in each half among its own voters, and all halves must agree. Who counts is decided
/// by the log, not by the name: a node that lost its disk and got a new place is two voters, and its new log
/// never speaks for the old.
#[derive(Clone, Debug)]
pub(crate) struct Electorate {
    halves: Vec<Half>,
}

#[derive(Clone, Debug)]
struct Half {
    voters: Vec<Member>,
    quorums: Quorums,
}

impl Electorate {
    pub(crate) fn new(
        configuration: &Configuration,
        customs: &CustomRules,
    ) -> Result<Self, RuleError> {
        let half = |membership: &Membership| {
            let members = membership.members().iter().copied();
            let voters: Vec<Member> = members.filter(counts).collect();
            let elector = |member: &Member| Voter { id: member.id, group: member.group };
            let electors: Vec<Voter> = voters.iter().map(elector).collect();
            let quorums = Quorums::compile(&electors, membership.rules(), customs)?;
            Ok(Half { voters, quorums })
        };
        Ok(Self { halves: configuration.halves().map(half).collect::<Result<_, _>>()? })
    }

    /// Whether these members may elect a leader.
    pub(crate) fn elects(&self, has: impl Fn(&Member) -> bool) -> bool {
        self.halves(Bug::ElectInNewHalf).all(|half| half.quorums.elects(half.set(&has)))
    }

    /// Whether these members may commit an entry.
    pub(crate) fn may_commit(&self, has: impl Fn(&Member) -> bool) -> bool {
        self.halves(Bug::CommitInNewHalf).all(|half| half.quorums.commits(half.set(&has)))
    }

    /// Whether no leader can have been elected without one of these members: what confirms a read, and what a
    /// leader must hear from to stay one.
    ///
    /// In each half: that all others of both halves together do not elect would not be enough. From {A, B, C} to
    /// {A, D, E}, A confirmed by D and E would not notice that B and C elect B under the old configuration.
    pub(crate) fn confirms(&self, has: impl Fn(&Member) -> bool) -> bool {
        self.halves(Bug::ConfirmInNewHalf).all(|half| half.quorums.confirms(half.set(&has)))
    }

    /// Up to where a set of members that commits agrees, given how far each does.
    pub(crate) fn agreed(&self, matched: impl Fn(&Member) -> Seq) -> Seq {
        let agreed = self.halves(Bug::CommitInNewHalf).map(|half| {
            let ends: Vec<Seq> = half.voters.iter().map(&matched).collect();
            half.quorums.agreed(&ends)
        });
        agreed.min().unwrap_or_default()
    }

    /// All halves; with that bug, the new one.
    fn halves(&self, bug: Bug) -> impl Iterator<Item = &Half> {
        let count = if planted::is(bug) { 1 } else { self.halves.len() };
        self.halves.iter().take(count)
    }
}

/// Whether a member's word counts.
fn counts(member: &Member) -> bool {
    member.votes || planted::is(Bug::CountLearners)
}

impl Half {
    fn set(&self, has: &impl Fn(&Member) -> bool) -> VoterSet {
        let places = self.voters.iter().enumerate();
        places.filter(|(_, voter)| has(voter)).map(|(at, _)| at).collect()
    }
}

/// The configuration in force at this node, and the one that comes back if it is trimmed, ready to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    all: Arc<Configurations>,
    newest: Arc<Electorate>,
    before: Option<Arc<Electorate>>,
}

impl Active {
    pub(crate) fn new(all: Arc<Configurations>, customs: &CustomRules) -> Result<Self, RuleError> {
        let electorate =
            |placed: &Placed| Electorate::new(&placed.configuration, customs).map(Arc::new);
        let newest = electorate(all.newest())?;
        let before = all.before().map(electorate).transpose()?;
        Ok(Self { all, newest, before })
    }

    /// What is stored of it.
    pub(crate) const fn all(&self) -> &Arc<Configurations> {
        &self.all
    }

    pub(crate) fn configuration(&self) -> &Arc<Configuration> {
        &self.all.newest().configuration
    }

    /// The position of its entry, if it has one.
    pub(crate) fn at(&self) -> Option<Seq> {
        self.all.newest().at
    }

    pub(crate) fn electorate(&self) -> &Electorate {
        &self.newest
    }

    /// With that entry of the log; the same if it is not newer.
    pub(crate) fn with(&self, next: Placed, customs: &CustomRules) -> Result<Self, RuleError> {
        let newest = Electorate::new(&next.configuration, customs)?;
        Ok(match self.all.with(next) {
            Some(all) => Self {
                all: Arc::new(all),
                newest: Arc::new(newest),
                before: Some(Arc::clone(&self.newest)),
            },
            None => self.clone(),
        })
    }

    /// Without the entries of `from..end`: the same unless the newest is among them.
    pub(crate) fn without(&self, from: Seq, end: Seq) -> Self {
        if planted::is(Bug::KeepConfiguration) {
            return self.clone();
        }
        match (self.all.without(from, end), &self.before) {
            (Some(all), Some(before)) => {
                Self { all: Arc::new(all), newest: Arc::clone(before), before: None }
            }
            _ => self.clone(),
        }
    }
}
