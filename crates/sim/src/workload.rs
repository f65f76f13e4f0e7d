//! What clients do: they append, one payload or a batch, and read, at any node, and do not wait for one call to
//! end before they make the next.

use bytes::Bytes;
use tinyraftplus_core::Time;
use tinyraftplus_replica::{Call, CallId, Happening, Request};

use crate::check::calls::{Asked, payload};
use crate::trace::digest;
use crate::world::{Phase, What, World};

impl World {
    /// A client makes some calls, and will make more soon.
    pub(crate) fn client(&mut self, client: usize) {
        if self.phase != Phase::Safety {
            return;
        }
        let pause = self.chance.clients.scale(self.profile.clients.pause);
        self.after(pause, What::Client(client));
        let at = self.chance.clients.place(self.profile.node_count);
        let count = self.chance.clients.within(self.profile.clients.burst);
        let mut asked = Vec::new();
        let first = self.checks.calls.next_number();
        for number in first..first + count {
            asked.push((
                self.draw(number),
                self.chance.clients.scale(self.profile.clients.deadline),
            ));
        }
        self.call(at, asked);
    }

    /// Makes calls at a node, if it is up; each with the time that it may take.
    pub(crate) fn call(&mut self, at: usize, asked: Vec<(Asked, u64)>) -> Option<u64> {
        let life = self.life(at)?;
        let clock = self.node(at).clock;
        let first = self.checks.calls.next_number();
        let mut calls = Vec::with_capacity(asked.len());
        for (request, time) in asked {
            let number = self.checks.calls.next_number();
            let deadline: Time = clock.shows(self.now + time);
            self.note(at, digest(&[60, number, deadline.as_nanos()]), || words(number, &request));
            self.checks.calls.on_call(life, deadline, request.clone());
            let request = match request {
                Asked::Append(payloads) => Request::Append { payloads },
                Asked::Read { local: false } => Request::Read { query: Bytes::new() },
                Asked::Read { local: true } => Request::ReadLocal { query: Bytes::new() },
            };
            calls.push(Call { id: CallId(number), request, deadline });
        }
        self.hand(life, Happening::Calls(calls));
        Some(first)
    }

    fn draw(&mut self, number: u64) -> Asked {
        let clients = &self.profile.clients;
        let rng = &mut self.chance.clients;
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
    }
}
