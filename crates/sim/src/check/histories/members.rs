//! Members that change, votes and disks of both halves, orders.

use std::sync::Arc;

use tinyraftplus_core::{
    Configuration, Configurations, Identity, Member, MemberSpec, Membership, MessageBody, NodeId,
    Placed, Plan, QuorumRule, Role, Rules, Seq,
};
use tinyraftplus_log::{EntryKind, LogEntry, Write, encode_configuration};

use super::cluster::{Cluster, append, founded, id, vote};

const QUORUM: &str = "committed is durable on a quorum";

fn half(ids: &[u64]) -> Membership {
    let member = |&n: &u64| Member::voter(NodeId::from(n), Identity::new(u128::from(n)));
    Membership::new(ids.iter().map(member).collect(), QuorumRule::Majority).unwrap()
}

fn configuration(now: &[u64], old: Option<&[u64]>) -> Configuration {
    Configuration::restored(Identity::new(1), Seq::ZERO, half(now), old.map(half)).unwrap()
}

/// From {1, 2, 3} to {1, 4, 5}.
fn joint() -> Configuration {
    configuration(&[1, 4, 5], Some(&[1, 2, 3]))
}

fn left() -> Configuration {
    configuration(&[1, 4, 5], None)
}

/// The entry that says so, after `before`.
fn change(term: u64, seq: u64, next: &Configuration, before: &Configurations) -> Write {
    let payload = encode_configuration(next).unwrap().into();
    let entry =
        LogEntry { id: id(term, seq), kind: EntryKind::Configuration, ends_batch: true, payload };
    let newest = Placed { at: Some(Seq::new(seq)), configuration: Arc::new(next.clone()) };
    let all = Configurations::restored(newest, Some(before.newest().clone())).unwrap();
    Write { append: vec![entry], configuration: Some(Arc::new(all)), ..Write::default() }
}

/// Five nodes; the first leads term 1, has committed its first entry and begun to replace 2 and 3 by 4 and 5: this is
/// on the disks of those.
fn begun(holders: &[usize]) -> Cluster {
    let (first, change) = (append(&[(1, 0, "")]), change(1, 1, &joint(), &founded(3)));
    let cluster = (0..5).fold(Cluster::of(5), |cluster, at| cluster.stores(at, &first));
    let cluster = cluster.leads(0, 1, 1, 1).writes(0, &change).says(0, Role::Leader, 1, 1);
    holders.iter().fold(cluster, |cluster, &at| {
        let cluster = if at == 0 { cluster } else { cluster.writes(at, &change) };
        cluster.then(|checks| checks.on_durable(at, &change))
    })
}

/// Fails if a majority of one half, or of all five, is enough.
#[test]
fn committed_is_on_the_disks_of_both_halves() {
    begun(&[0, 1, 3]).says(0, Role::Leader, 1, 2).holds();
    begun(&[0, 3, 4]).says(0, Role::Leader, 1, 2).breaks(QUORUM);
    begun(&[0, 1, 2]).says(0, Role::Leader, 1, 2).breaks(QUORUM);
    begun(&[1, 2, 3, 4]).says(0, Role::Leader, 1, 2).holds();
}

/// A leader that commits the joint configuration writes the next one at once: the first was still decided by both
/// halves. Fails if the newest configuration of a log is taken for the one that decided.
#[test]
fn what_ends_a_change_does_not_decide_about_it() {
    let both = |holders: &[usize]| {
        let cluster = begun(holders);
        let known = cluster.checks.nodes[0].decided.configuration.clone().unwrap();
        cluster.writes(0, &change(1, 2, &left(), &known)).says(0, Role::Leader, 1, 2)
    };
    both(&[0, 1, 3]).holds();
    both(&[0, 3, 4]).breaks(QUORUM);
}

#[test]
fn a_leader_has_the_votes_of_both_halves() {
    const CHECK: &str = "a leader has the votes of a quorum";
    let all = || begun(&[0, 1, 2, 3, 4]);
    all().leads_by(&[3, 0, 1], 2, 0).holds();
    all().leads_by(&[3, 0, 4], 2, 0).breaks(CHECK);
    all().leads_by(&[1, 0, 2], 2, 0).breaks(CHECK);
    // One that is out of date goes by what it knows.
    begun(&[0]).leads_by(&[1, 2], 2, 0).holds();
    begun(&[0]).leads_by(&[1, 4], 2, 0).breaks(CHECK);
}

#[test]
fn configurations_are_of_one_lineage() {
    const CHECK: &str = "configurations are of one lineage";
    let first = || {
        Cluster::of(5).stores(0, &append(&[(1, 0, "")])).then(|checks| {
            checks.on_write(1, &Write { configuration: Some(founded(3)), ..Write::default() })
        })
    };
    first().writes(0, &change(1, 1, &joint(), &founded(3))).holds();
    first().writes(0, &change(1, 1, &left(), &founded(3))).breaks(CHECK);
    let other_old = configuration(&[1, 4, 5], Some(&[1, 2]));
    first().writes(0, &change(1, 1, &other_old, &founded(3))).breaks(CHECK);
    let two = Write { configuration: Some(founded(2)), ..Write::default() };
    first().stores(1, &two).breaks("one cluster is founded");
    // Not on a disk yet, nobody else has heard of it.
    first().writes(1, &two).holds();
}

#[test]
fn changes_come_one_after_the_other() {
    let known = |cluster: &Cluster| cluster.checks.nodes[0].decided.configuration.clone().unwrap();
    let ends = |committed: u64| {
        let cluster = begun(&[0, 1, 2, 3, 4]);
        let known = known(&cluster);
        cluster.writes(0, &change(1, 2, &left(), &known)).says(0, Role::Leader, 1, committed)
    };
    ends(2).holds();
    ends(1).breaks("one change at a time");
    // A follower has what it is sent.
    let cluster = begun(&[0, 1, 2, 3, 4]);
    let all = known(&cluster);
    cluster.writes(1, &change(1, 2, &left(), &all)).says(1, Role::Follower, 1, 1).holds();
}

/// Ongaro 2015: what another leader committed is not known before.
#[test]
fn a_leader_changes_nothing_before_its_first_commit() {
    let begins = |committed: u64| {
        let cluster = (0..3).fold(Cluster::of(5), |it, at| it.stores(at, &append(&[(1, 0, "")])));
        let own = append(&[(2, 1, "")]);
        let cluster = (0..3).fold(cluster, |cluster, at| cluster.stores(at, &own));
        let cluster = cluster.leads(0, 1, 2, committed);
        cluster.writes(0, &change(2, 2, &joint(), &founded(3))).says(0, Role::Leader, 2, committed)
    };
    begins(2).holds();
    begins(0).breaks("a leader changes members after its first commit");
}

/// What a client is told of members: by that configuration they were as it wanted them. Fails if a joint one will do, or
/// one that is not committed, or other members.
#[test]
fn members_are_as_a_client_was_told() {
    let plan = |ids: &[u64]| {
        let specs = ids.iter().map(|&n| MemberSpec::voter(NodeId::from(n))).collect();
        Plan::unchecked(specs, Rules::default()).unwrap()
    };
    let at = |seq: u64| Some(Seq::new(seq));
    let cluster = begun(&[0, 1, 2, 3, 4]).says(0, Role::Leader, 1, 2);
    let known = cluster.checks.nodes[0].decided.configuration.clone().unwrap();
    let cluster = (0..5).fold(cluster, |it, at| it.stores(at, &change(1, 2, &left(), &known)));
    assert!(!cluster.checks.lineage.was(at(2), &plan(&[1, 4, 5])), "not committed");
    let cluster = cluster.says(0, Role::Leader, 1, 3);
    let lineage = &cluster.checks.lineage;
    assert!(lineage.was(at(2), &plan(&[1, 4, 5])) && lineage.was(None, &plan(&[1, 2, 3])));
    assert!(!lineage.was(at(1), &plan(&[1, 4, 5])), "joint");
    assert!(!lineage.was(at(2), &plan(&[1, 4])) && !lineage.was(at(2), &plan(&[1, 4, 5, 6])));
    assert!(!lineage.was(None, &plan(&[1, 4, 5])) && !lineage.was(at(0), &plan(&[1, 2, 3])));
    cluster.holds();
}

#[test]
fn who_was_told_to_sit_still_does() {
    let told = |role: Role| {
        Cluster::new().then(|checks| {
            let terms = super::cluster::terms_of(Seq::ZERO, |_| None);
            let (term, end) = (tinyraftplus_core::Term::ZERO, Seq::ZERO);
            let view = crate::check::View {
                role,
                term,
                committed: end,
                durable: end,
                terms: &terms,
                sits_still: true,
            };
            checks.on_step(0, view)
        })
    };
    told(Role::Follower).holds();
    told(Role::Candidate).breaks("who was told to sit still does");
}

#[test]
fn a_transfer_is_the_wish_of_the_leader_of_the_term_before() {
    let asks = MessageBody::Vote { last: None, transfer: true };
    let told = |wish: u64, campaign: u64| {
        let cluster = Cluster::new().sends(0, 1, wish, MessageBody::TimeoutNow);
        cluster.stores(1, &vote(campaign, 2)).sends(1, 0, campaign, asks.clone())
    };
    told(5, 6).holds();
    told(5, 7).breaks("a transfer is the leader's wish");
    told(6, 6).breaks("a transfer is the leader's wish");
}
