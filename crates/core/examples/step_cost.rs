//! What one committed entry costs a leader: its core alone, with followers that answer at once.
//!
//! `step_cost VOTERS BATCH ENTRIES [custom]` appends that many entries, BATCH calls a step, and prints how many it has
//! committed, by majority or by a custom rule that looks at each name. `step_cost.sh` beside it counts the
//! instructions of [`measured`] and prints a table.
#![expect(clippy::print_stdout, reason = "a program to run by hand")]

use std::hint::black_box;
use std::sync::Arc;
use tinyraftplus_core::quorum::{CustomRule, Present};
use tinyraftplus_core::{
    Configurations, Core, Identity, Input, Member, Message, MessageBody, NodeId, Options, Output,
    Proposal, QuorumRule, Restored, Role, Seq, Term, Ticket, Time,
};

type Payload = &'static [u8];

/// One step of the leader, all that it takes to let go of its output included.
#[inline(never)]
fn measured(core: &mut Core<Payload>, now: Time, input: Input<Payload>) -> Option<u64> {
    let Output { persist, send, load, apply, resolve, events, .. } = core.step(now, input);
    let job = persist.as_ref().map(|persist| persist.job);
    drop(black_box((persist, send, load, apply, resolve, events)));
    job
}

struct Bench {
    core: Core<Payload>,
    peers: Vec<(NodeId, Identity)>,
    identity: Identity,
    now: Time,
    job: u64,
}

impl Bench {
    /// The leader of a cluster of that many voters, which has committed the first entry of its term.
    fn new(voters: u64, is_custom: bool) -> Self {
        let ids: Vec<NodeId> = (1..=voters).map(NodeId::from).collect();
        let mut options = Options::new(NodeId::from(1), ids.clone(), 1);
        let mut rule = QuorumRule::Majority;
        if is_custom {
            let most = move |present: &Present<'_>| {
                ids.iter().filter(|&&id| present.contains(id)).count() > ids.len() / 2
            };
            options.custom_rules.add("most", 1, most).expect("a good name");
            rule = QuorumRule::Custom(CustomRule::new("most", 1).expect("a good name"));
        }
        let identity = |number: u64| Identity::new(u128::from(number));
        let member = |number| Member::voter(NodeId::from(number), identity(number));
        let members = (1..=voters).map(member).collect();
        let configurations = Configurations::found(members, rule, Seq::ZERO);
        let mut restored = Restored::empty(identity(1));
        restored.configuration = configurations.ok().map(Arc::new);
        let core = Core::new(options, restored, Time::ZERO).expect("the options fit each other");
        let peers = (2..=voters).map(|n| (NodeId::from(n), identity(n))).collect();
        let mut bench = Self { core, peers, identity: identity(1), now: Time::ZERO, job: 0 };
        bench.now = bench.core.wake_at();
        bench.step(Input::Wake);
        bench.answer(Term::new(1), &MessageBody::PreVoteReply { granted: true });
        bench.write();
        bench.answer(Term::new(1), &MessageBody::VoteReply { granted: true });
        assert_eq!(bench.core.role(), Role::Leader, "everybody voted for it");
        bench.commit();
        bench
    }

    fn step(&mut self, input: Input<Payload>) {
        let job = measured(&mut self.core, self.now, input);
        self.job = job.unwrap_or(self.job);
    }

    /// Its disk has everything.
    fn write(&mut self) {
        self.step(Input::Persisted { job: self.job });
    }

    /// All peers say that.
    fn answer(&mut self, term: Term, body: &MessageBody<Payload>) {
        for at in 0..self.peers.len() {
            let Some(&(from, identity)) = self.peers.get(at) else { return };
            let message =
                Message { from: identity, to: Some(self.identity), term, body: body.clone() };
            self.step(Input::Receive { from, message });
        }
    }

    /// Everybody has all there is.
    fn commit(&mut self) {
        let (term, end) = (self.core.term(), self.core.terms().end());
        self.write();
        let promise = std::time::Duration::ZERO;
        let accepted = MessageBody::Accepted { matched: end, round: 0, priority: 0, promise };
        self.answer(term, &accepted);
        assert_eq!(self.core.committed(), end, "all have acknowledged it");
    }
}

fn main() {
    let is_custom = std::env::args().any(|argument| argument == "custom");
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let (Some(voters), Some(batch), Some(entries)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        println!("usage: step_cost VOTERS BATCH ENTRIES [custom]");
        return;
    };
    let mut bench = Bench::new(voters, is_custom);
    let first = bench.core.committed();
    while bench.core.committed().since(first) < entries {
        let start = bench.core.committed().get();
        let payload: Payload = &[7; 100];
        let propose = |number| Proposal { ticket: Ticket(number), payloads: vec![payload] };
        bench.step(Input::Propose((start..start + batch).map(propose).collect()));
        bench.commit();
        // So that heartbeats are in it too, as many as there would be at a thousand rounds a second.
        bench.now = bench.now + std::time::Duration::from_millis(1);
    }
    println!("{}", bench.core.committed().since(first));
}
