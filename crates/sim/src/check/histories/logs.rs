//! What nodes write, say and find on their disks.

use tinyraftplus_core::{Event as RaftEvent, MessageBody, NodeId, Role, Seq, Term};
use tinyraftplus_log::{LogEntry, Reset, Write};
use tinyraftplus_replica::Event;

use super::cluster::{Cluster, append, append_message, entry, id, terms_of, vote};
use crate::check::{Checks, View};

const PROMISE: &str = "promises are durable";
const SURVIVES: &str = "what was durable survives a crash";

#[test]
fn one_entry_has_one_content_and_one_predecessor() {
    let first = || Cluster::new().writes(0, &append(&[(1, 0, "a"), (2, 1, "b")]));
    first().writes(1, &append(&[(1, 0, "a"), (2, 1, "b")])).holds();
    first().writes(1, &append(&[(1, 0, "b")])).breaks("log matching");
    first().writes(1, &append(&[(3, 0, "a"), (3, 1, "b")])).holds();
    first().writes(1, &append(&[(2, 0, "a"), (2, 1, "b")])).breaks("log matching");
    let mut split = append(&[(1, 0, "a")]);
    split.append[0].ends_batch = false;
    first().writes(1, &split).breaks("log matching");
}

#[test]
fn a_write_follows_its_log() {
    const CHECK: &str = "a write follows its log";
    let two = || Cluster::new().stores(0, &append(&[(1, 0, "a"), (2, 1, "b")]));
    let trim = |end: u64| Write { trim: Some(Seq::new(end)), ..append(&[(3, 1, "c")]) };
    two().stores(0, &append(&[(2, 2, "c")])).holds();
    two().writes(0, &append(&[(2, 3, "gap")])).breaks(CHECK);
    two().writes(0, &append(&[(1, 2, "older term")])).breaks(CHECK);
    two().stores(0, &trim(1)).holds();
    two().writes(0, &trim(0)).breaks(CHECK);
    let mut split = append(&[(2, 2, "c")]);
    split.append[0].ends_batch = false;
    two().writes(0, &split).breaks("batches are whole");
    // Only a first configuration may say where a log begins, and only to an empty one.
    let reset = Reset { start: Seq::new(5), before: Term::ZERO };
    two().writes(0, &Write { reset: Some(reset), ..Write::default() }).breaks(CHECK);
}

#[test]
fn term_and_vote_never_go_back() {
    const CHECK: &str = "term and vote never go back";
    let voted = || Cluster::new().stores(0, &vote(5, 2));
    voted().stores(0, &vote(5, 2)).stores(0, &vote(6, 0)).stores(0, &vote(6, 3)).holds();
    for back in [vote(4, 2), vote(5, 3), vote(5, 0)] {
        voted().writes(0, &back).breaks(CHECK);
        voted().starts(0, &[], &back, &[]).breaks(CHECK);
    }
    voted().starts(0, &[], &vote(5, 2), &[]).holds();
    // What was being written may be there, or not.
    voted().starts(0, &[vote(6, 3)], &vote(6, 3), &[]).holds();
    voted().starts(0, &[vote(6, 3)], &vote(6, 2), &[]).breaks(CHECK);
}

#[test]
fn a_term_has_one_leader() {
    const CHECK: &str = "one leader a term";
    let leads = || Cluster::new().stores(0, &vote(5, 1)).leads(0, 2, 5, 0);
    leads().says(0, Role::Leader, 5, 0).leads(1, 2, 6, 0).holds();
    leads().says(1, Role::Leader, 5, 0).breaks(CHECK);
    leads().says(1, Role::Follower, 5, 0).holds();
    leads().stores(1, &vote(5, 2)).sends(1, 2, 5, append_message()).breaks(CHECK);
}

#[test]
fn committed_never_changes() {
    const CHECK: &str = "committed never changes";
    let log = append(&[(1, 0, ""), (1, 1, "a")]);
    let committed = || Cluster::new().all_store(&log).leads(0, 1, 1, 2);
    committed().says(1, Role::Follower, 1, 1).says(1, Role::Follower, 1, 2).holds();
    committed().says(0, Role::Leader, 1, 1).breaks(CHECK);
    // Beyond the end of its own log.
    committed().says(1, Role::Follower, 1, 3).breaks(CHECK);
    let other = Write { trim: Some(Seq::new(1)), ..append(&[(2, 1, "b")]) };
    committed().stores(1, &other).says(1, Role::Follower, 2, 1).holds();
    committed().stores(1, &other).says(1, Role::Follower, 2, 2).breaks(CHECK);
}

#[test]
fn a_leader_has_what_was_committed_before_its_term() {
    let log = append(&[(1, 0, ""), (1, 1, "")]);
    let committed = || {
        let cluster = Cluster::new().stores(0, &log).stores(1, &log);
        cluster.leads(0, 1, 1, 2)
    };
    committed().leads(1, 2, 2, 0).holds();
    committed().leads(2, 1, 2, 0).breaks("leader completeness");
    // A candidate without it harms nobody.
    committed().says(2, Role::Candidate, 2, 0).holds();
}

#[test]
fn committed_is_on_the_disks_of_a_quorum_and_by_an_entry_of_the_leader() {
    let log = append(&[(1, 0, ""), (1, 1, "")]);
    let two = || Cluster::new().stores(0, &log).writes(1, &log);
    two().leads(0, 2, 1, 2).breaks("committed is durable on a quorum");
    two().then(|checks| checks.on_durable(1, &log)).leads(0, 2, 1, 2).holds();
    // A disk that is lost was one when it was acknowledged.
    let lost = |checks: &mut Checks| {
        checks.on_wiped(1);
        Ok(())
    };
    let stored = || two().then(|checks| checks.on_durable(1, &log));
    stored().then(lost).leads(0, 2, 1, 2).holds();
    // By a leader of term 2: only together with an entry of its own (figure 8).
    let early = stored().leads(0, 2, 2, 2);
    early.breaks("a leader commits by an entry of its own term");
    stored().says(0, Role::Follower, 2, 2).holds();
    let own = append(&[(2, 2, "")]);
    stored().stores(0, &own).stores(1, &own).leads(0, 2, 2, 3).holds();
}

#[test]
fn a_node_knows_its_own_log_and_disk() {
    const CHECK: &str = "a node knows its own log";
    let log = append(&[(1, 0, ""), (1, 1, "a")]);
    let says = |durable: u64, end: u64| {
        Cluster::new().stores(0, &log).writes(0, &append(&[(1, 2, "b")])).then(|checks| {
            let terms = terms_of(Seq::new(end), |seq| Some(id(1, seq.get())));
            let view = View {
                role: Role::Follower,
                term: Term::new(1),
                committed: Seq::ZERO,
                durable: Seq::new(durable),
                terms: &terms,
                sits_still: false,
            };
            checks.on_step(0, view)
        })
    };
    says(2, 3).holds();
    says(1, 3).holds();
    says(3, 3).breaks(CHECK);
    says(2, 2).breaks(CHECK);
    // What is being replaced is on the disk, and is not what counts.
    let replaces = |durable: u64| {
        let other = Write { trim: Some(Seq::new(1)), ..append(&[(2, 1, "b")]) };
        Cluster::new().stores(0, &log).writes(0, &other).then(|checks| {
            let terms = terms_of(Seq::new(2), |seq| checks.nodes[0].decided.entry(seq));
            let (role, term) = (Role::Follower, Term::new(2));
            let durable = Seq::new(durable);
            checks.on_step(
                0,
                View {
                    role,
                    term,
                    committed: Seq::ZERO,
                    durable,
                    terms: &terms,
                    sits_still: false,
                },
            )
        })
    };
    replaces(1).holds();
    replaces(2).breaks(CHECK);
}

#[test]
fn what_is_applied_is_committed_durable_and_in_order() {
    const CHECK: &str = "applied is committed, durable and in order";
    let log = append(&[(1, 0, ""), (1, 1, "a"), (1, 2, ""), (1, 3, "b")]);
    let ready = || Cluster::new().all_store(&log).leads(0, 1, 1, 4);
    ready().applies(0, 0, 2, &[(1, "a")]).applies(0, 3, 4, &[(3, "b")]).holds();
    ready().applies(0, 1, 4, &[(1, "a"), (3, "b")]).holds();
    ready().applies(0, 2, 4, &[(3, "b")]).breaks(CHECK);
    ready().applies(0, 0, 2, &[(1, "a")]).applies(0, 1, 2, &[(1, "a")]).breaks(CHECK);
    ready().applies(0, 0, 4, &[(1, "a")]).breaks(CHECK);
    ready().applies(0, 0, 2, &[(1, "a"), (3, "b")]).breaks(CHECK);
    ready().applies(0, 0, 2, &[(1, "b")]).breaks(CHECK);
    // Not committed as far as this node knows.
    ready().applies(1, 0, 2, &[(1, "a")]).breaks(CHECK);
    // Committed and not durable here.
    let two = || Cluster::new().writes(0, &log).stores(1, &log).stores(2, &log);
    two().leads(0, 1, 1, 4).applies(0, 0, 2, &[(1, "a")]).breaks(CHECK);
    let stored = two().then(|checks| checks.on_durable(0, &log));
    stored.leads(0, 1, 1, 4).applies(0, 0, 2, &[(1, "a")]).holds();
}

#[test]
fn what_was_durable_survives_a_crash_a_group_whole_or_not_at_all() {
    let (none, group) = (Write::default(), [vote(2, 1), append(&[(2, 1, "b"), (2, 2, "c")])]);
    let begun = || {
        let cluster = Cluster::new().stores(0, &append(&[(1, 0, "a")]));
        group.iter().fold(cluster, |cluster, write| cluster.writes(0, write))
    };
    let (a, b, c) = (entry(1, 0, "a"), entry(2, 1, "b"), entry(2, 2, "c"));
    let all = [a.clone(), b.clone(), c.clone()];
    begun().starts(0, &group, &none, std::slice::from_ref(&a)).holds();
    begun().starts(0, &group, &vote(2, 1), &all).holds();
    // The vote of a group that is cut may count.
    begun().starts(0, &group, &vote(2, 1), std::slice::from_ref(&a)).holds();
    begun().starts(0, &group, &none, &all).breaks(SURVIVES);
    begun().starts(0, &group, &vote(2, 1), &[a.clone(), b.clone()]).breaks(SURVIVES);
    begun().starts(0, &group, &none, &[]).breaks(SURVIVES);
    begun().starts(0, &[], &none, &all).breaks(SURVIVES);
    let changed = [entry(1, 0, "A")];
    begun().starts(0, &group, &none, &changed).breaks(SURVIVES);
}

#[test]
fn at_the_end_a_log_is_what_was_committed() {
    const CHECK: &str = "all logs become the same";
    let log = append(&[(1, 0, ""), (1, 1, "a")]);
    let found = |entries: &[LogEntry]| {
        let committed = Cluster::new().all_store(&log).leads(0, 1, 1, 2);
        committed.then(|checks| checks.verify(1, entries))
    };
    found(&log.append).holds();
    found(&log.append[..1]).breaks(CHECK);
    found(&[entry(1, 0, ""), entry(1, 1, "b")]).breaks(CHECK);
    found(&[entry(1, 0, ""), entry(2, 1, "a")]).breaks(CHECK);
}

#[test]
fn a_vote_is_given_once_a_term_and_not_before_it_is_durable() {
    let granted = MessageBody::VoteReply { granted: true };
    let new = Cluster::new;
    new().sends(0, 1, 5, granted.clone()).breaks(PROMISE);
    let voted = || new().stores(0, &vote(5, 2)).sends(0, 1, 5, granted.clone());
    voted().sends(0, 1, 5, granted.clone()).holds();
    voted().sends(0, 2, 5, granted.clone()).breaks("one vote a term");
    voted().sends(0, 2, 5, MessageBody::VoteReply { granted: false }).holds();
    voted().stores(0, &vote(6, 3)).sends(0, 2, 6, granted.clone()).holds();
    // To stand for election is to vote for oneself.
    let asks = MessageBody::Vote { last: None, transfer: false };
    voted().sends(0, 1, 5, asks.clone()).breaks("one vote a term");
    new().sends(0, 1, 5, asks.clone()).breaks(PROMISE);
    new().stores(0, &vote(5, 1)).sends(0, 1, 5, asks).holds();
}

#[test]
fn what_is_acknowledged_is_on_the_disk_and_its_term_too() {
    let accepted = |matched| {
        let (matched, promise) = (Seq::new(matched), std::time::Duration::ZERO);
        MessageBody::Accepted { matched, round: 0, priority: 0, promise }
    };
    let (log, term) = (append(&[(5, 0, "a")]), vote(5, 0));
    let stored = || Cluster::new().stores(0, &term).stores(0, &log);
    stored().sends(0, 1, 5, accepted(1)).holds();
    stored().sends(0, 1, 5, accepted(2)).breaks(PROMISE);
    stored().sends(0, 1, 6, accepted(1)).breaks(PROMISE);
    stored().writes(0, &append(&[(5, 1, "b")])).sends(0, 1, 5, accepted(2)).breaks(PROMISE);
    // A step may bring the end of a term, and what replaces its entries, right after an acknowledgement.
    let replaced = || {
        let begun = stored().then(|checks| {
            checks.on_step_begun(0);
            Ok(())
        });
        let other = Write { trim: Some(Seq::ZERO), ..append(&[(6, 0, "b")]) };
        begun.writes(0, &vote(6, 0)).writes(0, &other)
    };
    replaced().sends(0, 1, 5, accepted(1)).holds();
    replaced().sends(0, 1, 5, accepted(2)).breaks(PROMISE);
    replaced().sends(0, 1, 6, accepted(1)).breaks(PROMISE);
    // Whoever leads has voted for itself, durably.
    stored().sends(0, 1, 5, append_message()).breaks(PROMISE);
    Cluster::new().stores(0, &vote(5, 1)).sends(0, 1, 5, append_message()).holds();
}

#[test]
fn no_node_takes_another_for_broken() {
    let from = NodeId::from(2);
    let reports = |event: Event| Cluster::new().then(|checks| checks.on_events(0, &[event]));
    reports(Event::Committed { end: Seq::ZERO }).holds();
    reports(Event::Raft(RaftEvent::FoundersDisagree { peer: from })).holds();
    reports(Event::Malformed { from, what: "lies" }).breaks("no node seems broken");
    let raft = RaftEvent::Malformed { from, what: "lies" };
    reports(Event::Raft(raft)).breaks("no node seems broken");
}
