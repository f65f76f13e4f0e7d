//! Messages that no correct peer sends: nobody panics, whatever it is and whoever gets it.

use crate::harness::{Cluster, id};
use crate::random::Random;
use std::sync::Arc;
use std::time::Duration;
use tinyraftplus_core::{
    ChangeMembers, Configuration, Entry, EntryBody, EntryId, Identity, Input, Lease, Loaded,
    Member, MemberSpec, Membership, Message, MessageBody, NodeId, Placed, Plan, QuorumRule, Role,
    Seq, Term, Terms, Ticket, Time,
    quorum::{CustomRule, Group},
};

/// Numbers near the edges, and near what the node has.
fn number(random: &mut Random) -> u64 {
    let edges = [0, 1, 2, 3, 5, 1 << 32, 1 << 53, 1 << 63, u64::MAX - 2, u64::MAX - 1, u64::MAX];
    edges[random.index(edges.len())]
}

fn seq(random: &mut Random) -> Seq {
    Seq::new(number(random))
}

fn entry_id(random: &mut Random) -> EntryId {
    EntryId::new(Term::new(number(random)), seq(random))
}

fn maybe_id(random: &mut Random) -> Option<EntryId> {
    (!random.once_in(4)).then(|| entry_id(random))
}

/// An append that follows the log, more or less.
fn plausible(random: &mut Random, cluster: &Cluster, log: &Terms) -> MessageBody<String> {
    let back = random.below(3).min(log.end().since(log.start()));
    let mut at = Seq::new(log.end().get() - back);
    let prev = log.entry_before(at);
    let mut term = prev.map_or(1, |prev| prev.term.get());
    let mut entries = Vec::new();
    for _ in 0..random.below(4) {
        term = if random.once_in(4) { random.below(5) } else { term };
        let (id, body) = (EntryId::new(Term::new(term), at), body(random, cluster));
        entries.push(Entry { id, ends_batch: !random.once_in(4), body });
        at = if random.once_in(10) { seq(random) } else { at.after() };
    }
    MessageBody::Append { prev, entries, committed: seq(random), round: number(random) }
}

fn entries(random: &mut Random) -> Vec<Entry<String>> {
    let mut at = entry_id(random);
    (0..random.below(4))
        .map(|_| {
            at = entry_id(random);
            Entry { id: at, ends_batch: !random.once_in(3), body: EntryBody::Noop }
        })
        .collect()
}

fn identity(random: &mut Random, cluster: &Cluster) -> Identity {
    let known: Vec<Identity> = cluster.nodes.values().map(|node| node.disk.identity).collect();
    if random.once_in(5) { Identity::new(99) } else { known[random.index(known.len())] }
}

fn membership(random: &mut Random, cluster: &Cluster) -> Option<Membership> {
    let count = random.below(4);
    let members = (0..count)
        .map(|n| Member {
            id: id(n + random.below(2)),
            identity: (!random.once_in(8)).then(|| identity(random, cluster)),
            group: random.once_in(3).then(|| Group::new("a").unwrap()),
            votes: !random.once_in(4),
        })
        .collect();
    let unknown = CustomRule::new("unknown", 1).unwrap();
    let rules = [
        QuorumRule::Majority,
        QuorumRule::AtLeast(u32::try_from(random.below(4)).unwrap()),
        QuorumRule::MajorityOfEachGroup,
        QuorumRule::All(Vec::new()),
        QuorumRule::Custom(unknown),
    ];
    Membership::new(members, rules[random.index(rules.len())].clone()).ok()
}

fn configuration(random: &mut Random, cluster: &Cluster) -> Option<Arc<Configuration>> {
    let now = membership(random, cluster)?;
    let old = if random.once_in(2) { membership(random, cluster) } else { None };
    let of = identity(random, cluster);
    Configuration::restored(of, seq(random), now, old).ok().map(Arc::new)
}

fn placed(random: &mut Random, cluster: &Cluster) -> Option<Placed> {
    let at = (!random.once_in(3)).then(|| seq(random));
    configuration(random, cluster).map(|configuration| Placed { at, configuration })
}

fn body(random: &mut Random, cluster: &Cluster) -> EntryBody<String> {
    let configuration = if random.once_in(3) { configuration(random, cluster) } else { None };
    configuration.map_or_else(|| EntryBody::Payload("?".into()), EntryBody::Configuration)
}

fn message(
    random: &mut Random,
    cluster: &Cluster,
    (from, node): (NodeId, NodeId),
    log: &Terms,
) -> Message<String> {
    let granted = random.once_in(2);
    let body = match random.below(14) {
        10.. => plausible(random, cluster, log),
        0 => MessageBody::Ask { number: number(random) },
        1 => MessageBody::Answer {
            number: number(random),
            configuration: placed(random, cluster),
            founding: number(random),
            group: None,
        },
        2 => MessageBody::PreVote { last: maybe_id(random) },
        3 => MessageBody::PreVoteReply { granted },
        4 => MessageBody::Vote { last: maybe_id(random), transfer: random.once_in(2) },
        5 => MessageBody::VoteReply { granted },
        6 => MessageBody::Append {
            prev: maybe_id(random),
            entries: entries(random),
            committed: seq(random),
            round: number(random),
        },
        8 => MessageBody::TimeoutNow,
        7 => MessageBody::Accepted {
            matched: seq(random),
            round: number(random),
            priority: u32::from(granted),
            promise: Duration::from_nanos(number(random)),
        },
        _ => MessageBody::Rejected {
            prev: maybe_id(random),
            hint: maybe_id(random),
            round: number(random),
        },
    };
    // Mostly terms that get past the first door.
    let term = if random.once_in(3) { number(random) } else { random.below(4) };
    let true_one = |id| cluster.nodes.get(&id).map(|node| node.disk.identity);
    let to = if random.once_in(8) { Some(identity(random, cluster)) } else { true_one(node) };
    let stranger = identity(random, cluster);
    let from = if random.once_in(8) { stranger } else { true_one(from).unwrap_or(stranger) };
    Message { from, to: to.filter(|_| !random.once_in(8)), term: Term::new(term), body }
}

/// A wish that nobody has checked.
fn change(random: &mut Random) -> ChangeMembers {
    let member = |n| MemberSpec { id: id(n), group: None, votes: n % 3 > 0 };
    let first = random.below(3);
    let members = (first..first + 2 + random.below(3)).map(member).collect();
    let rules = QuorumRule::AtLeast(u32::try_from(random.below(5)).unwrap());
    let plan = Plan::unchecked(members, rules.into()).unwrap();
    let base = random.once_in(2).then(|| seq(random));
    ChangeMembers { ticket: Ticket(0), base, plan, until: Time::from_nanos(number(random)) }
}

/// A node in the given role, with a log and work under way.
fn stage(role: Role, random: &mut Random) -> (Cluster, NodeId) {
    let first = [0, 1 << 53, u64::MAX - 4][random.index(3)];
    let (leases, bits) = (random.once_in(2), random.next());
    let adjust = |options: &mut tinyraftplus_core::Options| {
        options.first_seq = Seq::new(first);
        options.lease = leases.then_some(Lease { clock_error_ppm: 1000 });
        options.form_with_majority = bits & 1 == 0;
        options.priority = u32::from(bits & 2 == 0);
    };
    let mut cluster = if role == Role::Learner {
        Cluster::with_options(3, adjust)
    } else {
        Cluster::formed_with(3, adjust)
    };
    let node = id(1);
    match role {
        Role::Learner => {
            if random.once_in(2) {
                cluster.wake(node);
            }
        }
        Role::Leader => {
            cluster.elect(node);
            cluster.propose(node, &["a"]);
            cluster.read(node);
        }
        Role::Follower => {
            cluster.elect(id(2));
            cluster.propose(id(2), &["a"]);
            cluster.deliver_all(id(2), node);
        }
        Role::Candidate => {
            cluster.wake(node);
            if random.once_in(2) {
                cluster.settle();
            }
        }
    }
    (cluster, node)
}

/// Random absurd messages at a node in every role, with its disk and its clock going on. Nothing is checked
/// but that it goes on: who can send such messages holds the cluster's key. Fails if `malformed_entries` does
/// not compare an entry's term with the one before it and with the message's, or its seq with the last there is.
#[test]
fn malformed_message() {
    for seed in 0..2000 {
        let mut random = Random(seed);
        let roles = [Role::Learner, Role::Follower, Role::Candidate, Role::Leader];
        let role = roles[random.index(4)];
        let (cluster, node) = stage(role, &mut random);
        let mut now = cluster.now;
        let mut core = {
            // From here on no checks: they are for correct peers.
            let mut cluster = cluster.nodes;
            let entry = cluster.get_mut(&node).unwrap();
            entry.core.take().unwrap()
        };
        let (cluster, _) = stage(Role::Learner, &mut random);
        let (mut jobs, mut latest) = (0, now);
        for _ in 0..60 {
            let from = id(random.below(5));
            let message = message(&mut random, &cluster, (from, node), core.terms());
            let input = match random.below(21) {
                7 => Input::ChangeMembers(change(&mut random)),
                8 => Input::Read { ticket: Ticket(0) },
                9 => Input::Alive { from, term: Term::new(random.below(4)) },
                0 => Input::Wake,
                1 => Input::Persisted { job: jobs },
                2 => Input::PersistStalled { job: number(&mut random) },
                4 => Input::Transfer { ticket: Ticket(0), to: id(random.below(5)) },
                5 => [Input::Campaign, Input::StepDown, Input::Pause(true), Input::Pause(false)]
                    .into_iter()
                    .nth(random.index(4))
                    .unwrap(),
                6 => Input::PersistRefused { job: number(&mut random).min(jobs) },
                3 => Input::Loaded(Loaded {
                    to: from,
                    number: random.below(4),
                    range: Some((seq(&mut random), seq(&mut random))),
                    bytes: number(&mut random),
                }),
                _ => Input::Receive { from, message },
            };
            now = if random.once_in(30) { Time::from_nanos(number(&mut random)) } else { now };
            let is_wake = matches!(input, Input::Wake);
            let output = core.step(now, input);
            latest = latest.max(now);
            let comes_again = core.wake_at() <= latest && latest < Time::NEVER;
            assert!(!is_wake || !comes_again, "it wants to be woken for ever");
            jobs = output.persist.map_or(jobs, |job| job.job);
            let (applied, end) = (core.committed(), core.terms().end());
            assert!(applied <= end && core.durable() <= end);
        }
    }
}
