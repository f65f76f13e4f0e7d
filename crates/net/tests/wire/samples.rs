//! Messages: one of each kind with a fixed content, and any number of made-up ones.

use std::time::Duration;

use bytes::Bytes;
use tinyraftplus_core::quorum::{CustomRule, Group};
use tinyraftplus_core::{
    self as core, Configuration, ConfigurationError, Configurations, Entry, EntryBody, EntryId,
    Identity, Member, MemberSpec, Membership, MessageBody, NodeId, Placed, Plan, QuorumRule, Rules,
    Seq, Term, TransferError,
};
use tinyraftplus_net::Message;
use tinyraftplus_replica::{
    Answer, Answers, Base, ChangeAnswer, ChangeAsk, ChangeError, ChangeReply, Forward, Inquire,
    ReadIndex, ReadIndexReply, Refused, Route, SnapshotAck, SnapshotChunk, SnapshotId,
    SnapshotMeta, SnapshotOffer, TransferAsk, TransferReply,
};

/// Numbers like those that go wrong.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn chance(&mut self) -> bool {
        self.below(2) == 0
    }

    fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(3),
            1 => u64::MAX - self.below(3),
            2 => self.next() >> self.below(64),
            _ => self.below(10_000),
        }
    }

    fn identity(&mut self) -> Identity {
        Identity::new(u128::from(self.number()) << 64 | u128::from(self.number()))
    }

    fn entry_id(&mut self) -> EntryId {
        EntryId::new(Term::new(self.number()), Seq::new(self.number()))
    }

    fn maybe_entry_id(&mut self) -> Option<EntryId> {
        self.chance().then(|| self.entry_id())
    }

    pub(crate) fn bytes(&mut self) -> Bytes {
        let count = match self.below(8) {
            0 => 0,
            1 => 1000 + self.below(3000),
            _ => self.below(40),
        };
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    fn all_bytes(&mut self) -> Vec<Bytes> {
        (0..self.below(5)).map(|_| self.bytes()).collect()
    }

    fn id(&mut self) -> NodeId {
        if self.chance() {
            NodeId::from(self.number())
        } else {
            NodeId::new("db-3.example.org:7000").unwrap()
        }
    }

    fn route(&mut self) -> Route {
        Route {
            origin: self.identity(),
            incarnation: self.number(),
            leader: self.identity(),
            term: Term::new(self.number()),
        }
    }
}

pub(crate) fn configuration() -> Configuration {
    let label = |name| Some(Group::new(name).unwrap());
    let member = |id: u64, group| Member {
        id: NodeId::from(id),
        identity: Some(Identity::new(u128::from(id) + 70)),
        group,
        votes: true,
    };
    let members = vec![
        member(1, label("east")),
        member(2, label("west")),
        Member { votes: false, ..member(3, None) },
    ];
    let rules = Rules {
        elections: QuorumRule::MajorityOfEachGroup,
        commits: QuorumRule::All(vec![
            QuorumRule::AtLeast(2),
            QuorumRule::Custom(CustomRule::new("near", 3).unwrap()),
        ]),
    };
    let now = Membership::new(members, rules).unwrap();
    let old = vec![Member::voter(NodeId::from(1), Identity::new(71))];
    let old = Membership::new(old, Rules::same(QuorumRule::Majority)).unwrap();
    Configuration::restored(Identity::new(71), Seq::new(0), now, Some(old)).unwrap()
}

const BODIES: u64 = 10;
const CALLS: u64 = 12;
/// How many kinds of messages there are.
pub(crate) const KINDS: u64 = BODIES + CALLS;

fn any_plan(rng: &mut Rng) -> Plan {
    let from = configuration();
    let keeps = |rng: &mut Rng| rng.below(3) > 0;
    let specs = from.members().iter().map(MemberSpec::from);
    let mut specs: Vec<MemberSpec> = specs.filter(|_| keeps(rng)).collect();
    specs.push(MemberSpec::voter(NodeId::new("db-9.example.org:7000").unwrap()));
    let rules = if rng.chance() { from.now().rules().clone() } else { Rules::default() };
    Plan::unchecked(specs, rules).unwrap()
}

fn any_change_answer(rng: &mut Rng) -> ChangeAnswer {
    let at = rng.chance().then(|| Seq::new(rng.number()));
    let (id, other) = (rng.id(), rng.id());
    let count = usize::try_from(rng.below(5000)).unwrap();
    ChangeAnswer::Refused(match rng.below(19) {
        0 => return ChangeAnswer::Begun,
        1 => return ChangeAnswer::Changed { at },
        2 => return ChangeAnswer::Absent,
        3 => return ChangeAnswer::Unsettled,
        4 => ChangeError::UnderWay,
        5 => ChangeError::MembersChanged { at },
        6 => ChangeError::Unreachable(id),
        7 => ChangeError::TooSlow(id),
        8 => ChangeError::ForeignCluster(id),
        9 => ChangeError::UnfitRules,
        10 => ChangeError::LogFull,
        11 => ChangeError::Busy,
        kind => ChangeError::NoConfiguration(match kind {
            12 => ConfigurationError::NameTwice(id),
            13 => ConfigurationError::IdentityTwice(id, other),
            14 => ConfigurationError::LearnerWithoutLog(id),
            15 => ConfigurationError::NoVoters,
            16 => ConfigurationError::TooManyMembers { count },
            17 => ConfigurationError::NoFounder,
            _ => ConfigurationError::NoRoom,
        }),
    })
}

/// A message of this kind, the rest of it made up.
pub(crate) fn any(kind: u64, rng: &mut Rng) -> Message {
    if kind < BODIES {
        return Message::Raft(core::Message {
            from: rng.identity(),
            to: rng.chance().then(|| rng.identity()),
            term: Term::new(rng.number()),
            body: any_body(kind, rng),
        });
    }
    let (incarnation, number) = (rng.number(), rng.number());
    match kind - BODIES {
        0 => Message::Forward(Forward {
            route: rng.route(),
            awaiting: rng.number(),
            first: number,
            calls: (0..rng.below(4)).map(|_| rng.all_bytes()).collect(),
        }),
        1 => Message::Inquire(Inquire { route: rng.route(), awaiting: number, end: rng.number() }),
        2 => Message::Answers(Answers {
            route: rng.route(),
            from: rng.identity(),
            answers: (0..rng.below(16)).map(|_| (rng.number(), any_answer(rng))).collect(),
        }),
        3 => Message::ReadIndex(ReadIndex { from: rng.identity(), incarnation, number }),
        4 => Message::ReadIndexReply(ReadIndexReply {
            to: rng.identity(),
            incarnation,
            number,
            end: Seq::new(rng.number()),
            kept: Seq::new(rng.number()),
        }),
        5 => Message::TransferAsk(TransferAsk {
            from: rng.identity(),
            incarnation,
            number,
            term: Term::new(rng.number()),
            to: rng.id(),
        }),
        7 => Message::ChangeAsk(Box::new(ChangeAsk {
            from: rng.identity(),
            incarnation,
            number,
            term: Term::new(rng.number()),
            base: Base(rng.chance().then(|| Seq::new(rng.number()))),
            plan: any_plan(rng),
            time: Duration::from_nanos(rng.number()),
        })),
        8 => {
            let answer = any_change_answer(rng);
            let to = rng.identity();
            Message::ChangeReply(ChangeReply { to, incarnation, number, answer })
        }
        9 => {
            let at = rng.chance().then(|| Seq::new(rng.number()));
            let placed = Placed { at, configuration: configuration().into() };
            let meta = SnapshotMeta {
                id: SnapshotId::new(rng.identity().get()),
                last: rng.entry_id(),
                configurations: rng.chance().then(|| Configurations::first(placed).into()),
                chunk_bytes: u32::try_from(rng.number() >> 32).unwrap(),
                tables_bytes: rng.number(),
                bytes: rng.number(),
                digest: rng.number(),
            };
            let (from, term) = (rng.identity(), Term::new(rng.number()));
            Message::SnapshotOffer(Box::new(SnapshotOffer { from, term, meta }))
        }
        10 => Message::SnapshotChunk(SnapshotChunk {
            from: rng.identity(),
            term: Term::new(rng.number()),
            id: SnapshotId::new(rng.identity().get()),
            number,
            checksum: rng.number(),
            bytes: rng.bytes(),
        }),
        11 => Message::SnapshotAck(SnapshotAck {
            from: rng.identity(),
            term: Term::new(rng.number()),
            id: SnapshotId::new(rng.identity().get()),
            next: number,
        }),
        _ => {
            let id = rng.id();
            let result = match rng.below(8) {
                0 => Err(TransferError::NotLeader { leader: Some(id) }),
                1 => Err(TransferError::NotLeader { leader: None }),
                2 => Err(TransferError::NotAMember),
                3 => Err(TransferError::UnderWay { to: id }),
                4 => Err(TransferError::Silent),
                5 => Err(TransferError::TimedOut),
                6 => Err(TransferError::Another { leader: id }),
                _ => Ok(()),
            };
            Message::TransferReply(TransferReply {
                to: rng.identity(),
                incarnation,
                number,
                result,
            })
        }
    }
}

fn any_body(kind: u64, rng: &mut Rng) -> MessageBody<Bytes> {
    match kind {
        0 => MessageBody::Ask { number: rng.number() },
        1 => MessageBody::Answer {
            number: rng.number(),
            configuration: rng.chance().then(|| Placed {
                at: rng.chance().then(|| Seq::new(rng.number())),
                configuration: configuration().into(),
            }),
            founding: rng.number(),
            group: rng.chance().then(|| Group::new("east").unwrap()),
        },
        2 => MessageBody::PreVote { last: rng.maybe_entry_id() },
        3 => MessageBody::PreVoteReply { granted: rng.chance() },
        4 => MessageBody::Vote { last: rng.maybe_entry_id(), transfer: rng.chance() },
        5 => MessageBody::VoteReply { granted: rng.chance() },
        6 => MessageBody::Append {
            prev: rng.maybe_entry_id(),
            entries: any_entries(rng),
            committed: Seq::new(rng.number()),
            round: rng.number(),
        },
        7 => MessageBody::Accepted {
            matched: Seq::new(rng.number()),
            round: rng.number(),
            priority: u32::try_from(rng.number() >> 32).unwrap(),
            promise: Duration::from_nanos(rng.number()),
        },
        8 => MessageBody::Rejected {
            prev: rng.maybe_entry_id(),
            hint: rng.maybe_entry_id(),
            round: rng.number(),
        },
        _ => MessageBody::TimeoutNow,
    }
}

/// Mostly one after the other, as a leader sends them.
fn any_entries(rng: &mut Rng) -> Vec<Entry<Bytes>> {
    let mut id = rng.entry_id();
    let count = rng.below(9);
    let entries = (0..count).map(|_| {
        id = match rng.below(9) {
            0 => rng.entry_id(),
            1 => EntryId::new(Term::new(id.term.get().saturating_add(1)), id.seq.after()),
            _ => EntryId::new(id.term, id.seq.after()),
        };
        let body = match rng.below(6) {
            0 => EntryBody::Noop,
            1 => EntryBody::Configuration(configuration().into()),
            _ => EntryBody::Payload(rng.bytes()),
        };
        Entry { id, ends_batch: rng.chance(), body }
    });
    entries.collect()
}

fn any_answer(rng: &mut Rng) -> Answer {
    let (first, last) = (rng.entry_id(), rng.entry_id());
    let size = usize::try_from(rng.number()).unwrap();
    Answer::Refused(match rng.below(14) {
        0 => return Answer::Accepted { first, last },
        1 => return Answer::Committed { first, last, results: rng.all_bytes() },
        2 => return Answer::Absent,
        3 => return Answer::Unknown,
        4 => Refused::NoLeader,
        5 => Refused::Busy,
        6 => Refused::Empty,
        7 => Refused::TooLarge { what: "a batch", bytes: rng.number(), limit: rng.number() },
        8 => Refused::TooMany { count: size, limit: 7 },
        9 => Refused::LogFull,
        10 => Refused::Deadline,
        11 => Refused::Overtaken,
        12 => Refused::Stopped,
        _ => Refused::Query("no such table".into()),
    })
}
