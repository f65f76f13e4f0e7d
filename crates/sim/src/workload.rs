//! What clients do: they append, one payload or a batch, and read, at any node, and do not wait for one call to
//! end before they make the next.

use bytes::Bytes;
use tinyraftplus_core::Time;
use tinyraftplus_replica::{Call, CallId, Happening, Request};

use crate::check::calls::{Asked, payload};
use crate::rng::Rng;
use crate::trace::{EVERYWHERE, digest};
use crate::world::{Phase, What, World};

/// Somebody who calls.
#[derive(Debug)]
pub(crate) struct Client {
    rng: Rng,
    bursts: u64,
}

/// Calls that a client makes at once.
#[derive(Clone, Debug)]
pub(crate) struct Burst {
    /// They count from 1, over all clients.
    number: u64,
    /// Chance of its own, so that those before it can be left out and it stays the same.
    rng: Rng,
}

impl Client {
    pub(crate) const fn new(rng: Rng) -> Self {
        Self { rng, bursts: 0 }
    }
}

impl World {
    /// Plans what a client does next.
    pub(crate) fn plan_calls(&mut self, at: usize) {
        let pause = self.profile.clients.pause;
        let last = self.less.only_calls.as_ref().map(|only| only.last().copied().unwrap_or(0));
        let mut delay = 0;
        let count = self.clients.len() as u64;
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        loop {
            let number = client.bursts * count + at as u64 + 1;
            let (wait, rng) = (client.rng.scale(pause), client.rng.fork());
            if last.is_some_and(|last| number > last) {
                return;
            }
            let happens = self.less.has_calls(number);
            if client.bursts > 0 && (happens || !self.less.close_up) {
                delay += wait;
            }
            client.bursts += 1;
            if happens {
                self.after(delay, What::Client(at, Burst { number, rng }));
                return;
            }
        }
    }

    /// A client makes some calls, and will make more soon.
    pub(crate) fn client(&mut self, client: usize, burst: Burst) {
        if self.phase != Phase::Safety {
            return;
        }
        let Burst { number, mut rng } = burst;
        self.calls_happened.push(number);
        let at = rng.place(self.profile.node_count);
        let count = rng.within(self.profile.clients.burst);
        let first = self.checks.calls.next_number();
        let calls = (first..first + count)
            .map(|number| (self.draw(&mut rng, number), rng.scale(self.profile.clients.deadline)));
        let calls = calls.collect();
        self.note(EVERYWHERE, digest(&[61, number]), || format!("calls {number}, at n{}", at + 1));
        self.call(at, calls);
        self.plan_calls(client);
    }

    /// Makes calls at a node, if it is up; each with the time that it may take.
    pub(crate) fn call(&mut self, at: usize, asked: Vec<(Asked, u64)>) -> Option<u64> {
        let life = self.life(at)?;
        let clock = self.node(at).clock;
        let core = self.nodes.get(at)?.process.as_ref()?.replica.core();
        let term = core.term();
        let first = self.checks.calls.next_number();
        let mut calls = Vec::with_capacity(asked.len());
        for (request, time) in asked {
            let number = self.checks.calls.next_number();
            let deadline: Time = clock.shows(self.now + time);
            self.note(at, digest(&[60, number, deadline.as_nanos()]), || words(number, &request));
            self.checks.calls.on_call(life, deadline, term, request.clone());
            let request = match request {
                Asked::Append(payloads) => Request::Append { payloads },
                Asked::Read { local: false } => Request::Read { query: Bytes::new() },
                Asked::Read { local: true } => Request::ReadLocal { query: Bytes::new() },
                Asked::Order(order) => order.request(),
            };
            calls.push(Call { id: CallId(number), request, deadline });
        }
        self.hand(life, Happening::Calls(calls));
        Some(first)
    }

    fn draw(&self, rng: &mut Rng, number: u64) -> Asked {
        let clients = &self.profile.clients;
        if rng.chance(clients.read) {
            return Asked::Read { local: rng.chance(clients.read_local) };
        }
        if rng.chance(clients.empty) {
            return Asked::Append(vec![Bytes::new()]);
        }
        let count = if rng.chance(clients.batches) { rng.within(clients.batch) } else { 1 };
        let count = usize::try_from(count).expect("a small batch");
        let payloads = (0..count).map(|place| {
            if place > 0 && rng.chance(clients.empty) {
                return Bytes::new();
            }
            let len = usize::try_from(rng.scale(clients.payload)).expect("a small payload");
            payload(number, place, len)
        });
        Asked::Append(payloads.collect())
    }
}

fn words(number: u64, request: &Asked) -> String {
    match request {
        Asked::Append(payloads) => format!("call {number}: append {} entries", payloads.len()),
        Asked::Read { local } => format!("call {number}: read, local={local}"),
        Asked::Order(order) => format!("call {number}: {order:?}"),
    }
}
