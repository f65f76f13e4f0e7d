//! Made-up messages: every kind, with numbers at the edges of what fits. Whatever a peer says, a replica neither
//! panics nor works for ages.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use common::{Cluster, bytes, id, seq};
use tinyraftplus_core::{self as core, Entry, EntryBody, EntryId, Identity, MessageBody, Term};
use tinyraftplus_replica::{
    Answer, Answers, Forward, Happening, Inquire, Message, ReadIndex, ReadIndexReply, Refused,
    Route,
};

struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// Small, or at an edge.
    fn number(&mut self) -> u64 {
        match self.below(8) {
            0 => u64::MAX - self.below(3),
            1 => 1 << 63,
            2 => 1023 + self.below(4),
            _ => self.below(6),
        }
    }

    /// Seldom large, or nothing of the cluster's own term would be tried afterwards.
    fn term(&mut self) -> Term {
        let large = self.below(200) == 0;
        Term::new(if large { self.number() } else { self.below(4) })
    }

    fn entry(&mut self) -> EntryId {
        EntryId::new(self.term(), seq(self.number()))
    }

    fn some_entry(&mut self) -> Option<EntryId> {
        (self.below(3) > 0).then(|| self.entry())
    }

    fn identity(&mut self) -> Identity {
        Identity::new(u128::from(self.below(4)))
    }

    fn route(&mut self) -> Route {
        let (origin, leader) = (self.identity(), self.identity());
        Route { origin, incarnation: self.below(4), leader, term: self.term() }
    }

    fn answer(&mut self) -> Answer {
        match self.below(5) {
            0 => Answer::Accepted { first: self.entry(), last: self.entry() },
            1 => {
                let results = vec![bytes("x"); usize::try_from(self.below(3)).unwrap()];
                Answer::Committed { first: self.entry(), last: self.entry(), results }
            }
            2 => Answer::Refused(Refused::Stopped),
            3 => Answer::Absent,
            _ => Answer::Unknown,
        }
    }

    fn entries(&mut self) -> Vec<Entry<bytes::Bytes>> {
        let mut id = self.entry();
        let count = self.below(4);
        let next = |_| {
            let entry = Entry {
                id,
                ends_batch: self.below(3) > 0,
                body: EntryBody::Payload(bytes("made up")),
            };
            id = if self.below(5) == 0 {
                self.entry()
            } else {
                EntryId::new(id.term, id.seq.after())
            };
            entry
        };
        (0..count).map(next).collect()
    }

    fn body(&mut self) -> MessageBody<bytes::Bytes> {
        let (granted, round) = (self.below(2) == 0, self.number());
        match self.below(9) {
            0 => MessageBody::Ask { number: self.number() },
            1 => MessageBody::Answer {
                number: self.number(),
                configuration: None,
                founding: self.number(),
                group: None,
            },
            2 => MessageBody::PreVote { last: self.some_entry() },
            3 => MessageBody::PreVoteReply { granted },
            4 => MessageBody::Vote { last: self.some_entry(), transfer: false },
            5 => MessageBody::VoteReply { granted },
            6 => {
                let (prev, committed) = (self.some_entry(), seq(self.number()));
                MessageBody::Append { prev, entries: self.entries(), committed, round }
            }
            7 => MessageBody::Accepted {
                matched: seq(self.number()),
                round,
                priority: 0,
                promise: std::time::Duration::ZERO,
            },
            _ => MessageBody::Rejected { prev: self.some_entry(), hint: self.some_entry(), round },
        }
    }

    fn message(&mut self) -> Message {
        match self.below(8) {
            0 => {
                let calls = (0..self.below(4))
                    .map(|_| vec![bytes("call"); usize::try_from(self.below(3)).unwrap()])
                    .collect();
                let (awaiting, first) = (self.number(), self.number());
                Message::Forward(Forward { route: self.route(), awaiting, first, calls })
            }
            1 => {
                let (awaiting, end) = (self.number(), self.number());
                Message::Inquire(Inquire { route: self.route(), awaiting, end })
            }
            2 => {
                let answers = (0..self.below(4)).map(|_| (self.number(), self.answer())).collect();
                Message::Answers(Answers { route: self.route(), from: self.identity(), answers })
            }
            3 => {
                let (from, number) = (self.identity(), self.number());
                Message::ReadIndex(ReadIndex { from, incarnation: self.below(4), number })
            }
            4 => {
                let (to, number, end) = (self.identity(), self.number(), seq(self.number()));
                let (incarnation, kept) = (self.below(4), seq(self.number()));
                Message::ReadIndexReply(ReadIndexReply { to, incarnation, number, end, kept })
            }
            _ => {
                let to = (self.below(4) > 0).then(|| self.identity());
                let (from, term) = (self.identity(), self.term());
                Message::Raft(core::Message { from, to, term, body: self.body() })
            }
        }
    }
}

#[test]
fn made_up_messages_do_no_harm() {
    for seed in 0..60 {
        let mut rng = Rng(seed);
        let mut cluster = Cluster::new(3, |_| {});
        cluster.leader();
        for round in 0..400 {
            let (to, from) = (id(1 + rng.below(3)), id(1 + rng.below(4)));
            if round % 20 == 0 {
                cluster.append(to, "x");
                cluster.read(to);
            }
            let message = rng.message();
            cluster.step(to, Happening::Receive { from, message });
            // What liars do to a state machine is not what this is about.
            for number in 1..=3 {
                cluster.node(id(number)).apply = None;
            }
        }
        for number in 1..=3 {
            let status = cluster.replica(id(number)).status();
            assert!(status.applied <= status.committed && status.calls <= 40);
            cluster.step(id(number), Happening::Stop);
            assert_eq!(cluster.replica(id(number)).status().calls, 0);
        }
        let ended = u64::try_from(cluster.outcomes.len()).unwrap();
        assert_eq!(ended, 40, "seed {seed}: each call ends once");
    }
}
