//! What runs a replica: takes what it says to the disk, the network and the state machine, and brings back what
//! they say. The same work as the runtime's, with made-up times in place of threads.

use std::mem;

use tinyraftplus_core::{MessageBody, Role, Term};
use tinyraftplus_log::{LogError, Write};
use tinyraftplus_replica::{Actions, Happening, LoadRequest, Message};

use crate::check::{Verdict, View, Violation, calls::Life};
use crate::node::Task;
use crate::profile::node_id;
use crate::trace::{digest, digest_bytes};
use crate::words;
use crate::world::{Phase, What, World};

/// How long until a write without entries, for which there was no space, is tried again.
const FULL_RETRY: u64 = 20_000_000;

impl World {
    /// A process looks at everything that arrived, as one step.
    pub(crate) fn run_process(&mut self, life: Life) -> Verdict {
        let (now, paused_until) = (self.now, self.node(life.node).paused_until);
        if now < paused_until {
            self.at(paused_until, What::Run(life));
            return Ok(());
        }
        let shown = self.node(life.node).clock.shows(now);
        let Some(process) = self.alive(life) else {
            return Ok(());
        };
        process.due = false;
        let inbox = mem::take(&mut process.inbox);
        let identity = process.replica.core().identity();
        for term in inbox.iter().filter_map(appended_in) {
            self.checks.leases.on_heard(identity, term, shown);
        }
        let Some(process) = self.alive(life) else {
            return Ok(());
        };
        let actions = process.replica.step_all(shown, inbox);
        self.observe(life, &actions);
        self.perform(life, actions)?;
        self.checks.calls.on_step(life, shown)?;
        self.sleep(life);
        Ok(())
    }

    /// Does what a replica says, and looks whether it may say so.
    fn perform(&mut self, life: Life, actions: Actions) -> Verdict {
        let at = life.node;
        let Actions { writes, send, load, snapshots, apply, query, reply, events } = actions;
        self.checks.on_events(at, &events)?;
        self.checks.on_step_begun(at);
        for (job, write) in writes {
            let what = digest(&[30, job, words::write_digest(&write)]);
            self.note(at, what, || format!("writes {job}: {}", words::write(&write)));
            self.checks.on_write(at, &write)?;
            self.split_change(at, &write);
            if let Some(process) = self.alive(life) {
                process.queue.push_back((job, write));
            }
        }
        self.may_go_on(life, &reply);
        self.looks_at_lease(at)?;
        if let Some(node) = self.nodes.get(at)
            && let Some(process) = &node.process
        {
            self.checks.on_step(at, View::of(process.replica.core(), node.sits_still))?;
        }
        for (to, message) in send {
            self.send(at, to, message)?;
        }
        self.keep(life, snapshots);
        if let Some(apply) = apply {
            let what = digest(&[31, apply.start.get(), apply.end.get()]);
            self.note(at, what, || format!("applies {}..{}", apply.start, apply.end));
            self.checks.on_apply(at, &apply)?;
            self.task(life, Task::Apply(apply));
        }
        for query in query {
            self.task(life, Task::Query(query));
        }
        for (call, outcome) in reply {
            let what = digest(&[32, call.0, words::outcome_digest(&outcome)]);
            self.note(at, what, || format!("call {call}: {}", words::outcome(&outcome)));
            self.checks.calls.on_outcome(call.0, &outcome)?;
            self.obeyed(life, call.0, &outcome)?;
        }
        for request in load {
            let disk = &self.profile.disk;
            let delay = if self.chance.driver.chance(disk.stall + disk.slow_load) {
                self.counts.slow_reads += 1;
                self.chance.driver.within(disk.stall_time)
            } else {
                self.chance.driver.within(disk.load) * self.node(at).slowness
            };
            self.after(delay, What::Loaded(life, request));
        }
        self.write(life);
        Ok(())
    }

    /// A leader that would answer reads by its lease must be right.
    fn looks_at_lease(&self, at: usize) -> Verdict {
        if !self.profile.members.has_lease() {
            return Ok(());
        }
        let clocks: Vec<_> = self.nodes.iter().map(|it| it.clock.shows(self.now)).collect();
        let (shown, process) =
            (clocks.get(at), self.nodes.get(at).and_then(|node| node.process.as_ref()));
        match process.map(|process| process.replica.core()) {
            Some(core) if shown.is_some_and(|&shown| core.holds_lease_at(shown)) => {
                self.checks.on_lease(at, core, &clocks)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Has the process woken when it wants to be.
    fn sleep(&mut self, life: Life) {
        let clock = self.node(life.node).clock;
        let now = self.now;
        let Some(process) = self.alive(life) else {
            return;
        };
        // A process that wants to be woken at once, again and again, still lets time go by.
        let when = clock.when(process.replica.wake_at()).map(|when| when.max(now + 1_000));
        if process.wake != when {
            process.wake = when;
            if let Some(when) = when {
                self.at(when, What::Wake(life));
            }
        }
    }

    pub(crate) fn send(
        &mut self,
        from: usize,
        to: tinyraftplus_core::NodeId,
        message: Message,
    ) -> Verdict {
        let Some(to) = (0..self.profile.node_count).find(|&at| node_id(at) == to) else {
            return Err(Violation::new(
                "messages go to members",
                format!("node {} sends to {to}", from + 1),
            ));
        };
        let shown = self.node(from).clock.shows(self.now);
        self.checks.on_sent(from, to, shown, &message)?;
        let fate = self.network.send(self.now, from, to);
        self.counts.sent += 1;
        self.counts.dropped += u64::from(fate.arrivals.is_empty());
        self.counts.duplicated += u64::from(fate.arrivals.len() > 1);
        self.counts.delayed += u64::from(fate.delayed);
        self.counts.reordered += u64::from(fate.overtakes);
        for &time in fate.arrivals.iter().skip(1) {
            self.at(time, What::Deliver { from, to, message: Box::new(message.clone()) });
        }
        if let Some(&time) = fate.arrivals.first() {
            self.at(time, What::Deliver { from, to, message: Box::new(message) });
        }
        Ok(())
    }

    /// Begins to write everything that piled up, unless something is being written.
    fn write(&mut self, life: Life) {
        let (sync, stall) = (self.profile.disk.sync, self.profile.disk.stall);
        let plans = self.node(life.node).plans;
        let Some(process) = self.alive(life).filter(|p| p.flight.is_empty() && !p.queue.is_empty())
        else {
            return;
        };
        let limit = process.log.group_bytes_max();
        let mut bytes = 0;
        while let Some(next) = process.queue.pop_front_if(|(_, write)| {
            bytes += size(write);
            bytes <= limit || process.flight.is_empty()
        }) {
            process.flight.push(next);
        }
        let job = process.flight.first().map_or(0, |&(job, _)| job);
        let votes = process.flight.iter().any(|(_, write)| write.hard_state.is_some());
        self.counts.groups += 1;
        let stalls = plans.stalls || self.chance.driver.chance(stall);
        let time = if stalls {
            self.chance.driver.within(self.profile.disk.stall_time)
        } else {
            self.chance.driver.within(sync) * self.node(life.node).slowness
        };
        if time > self.profile.disk.stall_limit {
            self.after(self.profile.disk.stall_limit, What::WriteSlow(life, job));
        }
        let death = plans.dies_writing.filter(|_| votes || !plans.dies_voting);
        if let Some(death) = death {
            let moment = self.chance.driver.below(time);
            self.after(moment, What::Die(life, death));
            self.node(life.node).plans.dies_writing = None;
        }
        self.after(time, What::Written(life));
        self.node(life.node).plans.stalls = false;
    }

    pub(crate) fn write_slow(&mut self, life: Life, job: u64) {
        let waits = self.alive(life).is_some_and(|p| p.flight.first().is_some_and(|f| f.0 == job));
        if waits {
            self.counts.stalls += 1;
            self.note(life.node, digest(&[33, job]), || format!("write {job} has stalled"));
            self.hand(life, Happening::PersistStalled { job });
        }
    }

    /// The disk comes to what it was asked.
    pub(crate) fn written(&mut self, life: Life) -> Verdict {
        let node = self.node(life.node);
        let Some(process) = node.process.as_mut().filter(|process| process.life == life) else {
            return Ok(());
        };
        if mem::take(&mut node.plans.sync_fails) {
            process.sync_fails = true;
            node.disk.fail_sync(0, std::io::ErrorKind::Other);
        }
        let flight = mem::take(&mut process.flight);
        let group: Vec<_> = flight.iter().map(|(_, write)| write.clone()).collect();
        let last = flight.last().map_or(0, |&(job, _)| job);
        match process.log.write(&group) {
            Ok(()) => {
                self.durable(life, last, &group)?;
                self.mark(life)?;
                self.write(life);
                Ok(())
            }
            Err(error) => {
                if let Some(process) = self.alive(life) {
                    process.flight = flight;
                }
                if matches!(error, LogError::NoSpace { .. }) {
                    return self.write_again(life);
                }
                self.not_written(life, &error)
            }
        }
    }

    fn durable(&mut self, life: Life, last: u64, group: &[Write]) -> Verdict {
        self.counts.writes += group.len() as u64;
        self.counts.grouped += u64::from(group.len() > 1);
        for write in group {
            self.checks.on_durable(life.node, write)?;
        }
        self.note(life.node, digest(&[34, last]), || format!("write {last} is durable"));
        self.hand(life, Happening::Persisted { job: last });
        Ok(())
    }

    /// The log did not take what is under way.
    fn not_written(&mut self, life: Life, error: &LogError) -> Verdict {
        let is_read = matches!(error, LogError::Io { .. }) && self.is_unreadable(life.node);
        if !is_read && !self.alive(life).is_some_and(|process| process.sync_fails) {
            let what = format!("node {} can't write: {error}", life.node + 1);
            return Err(Violation::new("a log takes what a replica writes", what));
        }
        // A failed sync is final: the process stops, and finds out what is on its disk as after a crash.
        self.counts.sync_failures += u64::from(!is_read);
        self.note(life.node, 36, || format!("a write failed: {error}"));
        self.stop(life)?;
        let death = self.death();
        self.die(life, death);
        Ok(())
    }

    /// A full disk refused a group: it goes again, each write for itself, as far as there is room.
    pub(crate) fn write_again(&mut self, life: Life) -> Verdict {
        while let Some(process) = self.alive(life) {
            let Some((job, write)) = process.flight.first().cloned() else {
                self.write(life);
                return Ok(());
            };
            match process.log.write(std::slice::from_ref(&write)) {
                Ok(()) => {
                    process.flight.remove(0);
                    self.durable(life, job, &[write])?;
                }
                Err(LogError::NoSpace { .. }) => {
                    self.no_space(life, job, !write.append.is_empty());
                    return Ok(());
                }
                Err(error) => return self.not_written(life, &error),
            }
        }
        Ok(())
    }

    /// There is no space for a write: one with entries is given back, and all after it; one without is tried again.
    fn no_space(&mut self, life: Life, job: u64, is_refused: bool) {
        self.counts.full += 1;
        self.note(life.node, digest(&[35, job]), || format!("no space for write {job}"));
        if !is_refused {
            self.after(FULL_RETRY, What::WriteAgain(life));
            return;
        }
        if let Some(process) = self.alive(life) {
            let void = process.flight.drain(..).chain(process.queue.drain(..));
            let void: Vec<Write> = void.map(|(_, write)| write).collect();
            self.checks.on_refused(life.node, &void);
            self.hand(life, Happening::PersistRefused { job });
        }
    }

    /// An idle log may say that everything so far is durable.
    fn mark(&mut self, life: Life) -> Verdict {
        let marks = self.chance.driver.chance(self.profile.disk.mark);
        let Some(process) = self.alive(life).filter(|p| marks && p.queue.is_empty()) else {
            return Ok(());
        };
        match process.log.mark() {
            Ok(()) | Err(LogError::NoSpace { .. }) => Ok(()),
            Err(error) => self.not_written(life, &error),
        }
    }

    /// The log is read, as it is now.
    pub(crate) fn loaded(&mut self, life: Life, request: LoadRequest) {
        let Some(process) = self.alive(life) else {
            return;
        };
        let reply = request.run(&*process.reader);
        self.counts.read_failures += u64::from(reply.entries.is_err());
        let count = reply.entries.as_ref().map_or(u64::MAX, |entries| entries.len() as u64);
        self.note(life.node, digest(&[37, request.number, count]), || match &reply.entries {
            Ok(entries) => format!("loads {:?}: {} entries", request.want, entries.len()),
            Err(error) => format!("can't load {:?}: {error}", request.want),
        });
        self.hand(life, Happening::Loaded(reply));
    }

    /// Gives the state machine something to do.
    pub(crate) fn task(&mut self, life: Life, task: Task) {
        if let Some(process) = self.alive(life) {
            process.tasks.push_back(task);
            if !mem::replace(&mut process.working, true) {
                self.work(life);
            }
        }
    }

    fn work(&mut self, life: Life) {
        let time = self.chance.driver.within(self.profile.machine);
        let time = time * self.node(life.node).slowness;
        self.after(time, What::Worked(life));
    }

    /// The state machine has done the first thing that it had to do.
    pub(crate) fn worked(&mut self, life: Life) -> Verdict {
        let Some(process) = self.alive(life) else {
            return Ok(());
        };
        let Some(task) = process.tasks.pop_front() else {
            return Ok(());
        };
        let more = !process.tasks.is_empty();
        process.working = more;
        if more {
            self.work(life);
        }
        let happening = match task {
            Task::Snapshot(last, configurations) => {
                return self.snapshot(life, last, configurations);
            }
            Task::Restore(meta) => return self.restore(life, &meta),
            Task::Apply(apply) => {
                let Some(process) = self.alive(life) else {
                    return Ok(());
                };
                let results = process.machine.apply(&apply);
                let machine = process.machine;
                let node = self.node(life.node);
                // Its own storage keeps what it has seen and how far that is as one: it is never torn.
                node.kept = node.keeps_machine.then_some(machine);
                Happening::Applied { results }
            }
            Task::Query(query) => {
                let Some(process) = self.alive(life) else {
                    return Ok(());
                };
                let result = process.machine.read();
                self.note(life.node, digest(&[38, digest_bytes(&result)]), || {
                    format!("answers query {}", query.call)
                });
                Happening::Answered { call: query.call, result: Ok(result) }
            }
        };
        self.hand(life, happening);
        Ok(())
    }

    /// Who leads, as far as the one in the newest term says.
    pub(crate) fn leader(&self) -> Option<usize> {
        let processes = self
            .nodes
            .iter()
            .enumerate()
            .filter_map(|(at, node)| Some((at, node.process.as_ref()?)));
        let leaders =
            processes.filter(|(_, process)| process.replica.core().role() == Role::Leader);
        leaders.max_by_key(|(_, process)| process.replica.core().term()).map(|(at, _)| at)
    }

    /// Tells a process to stop: all of its calls end.
    pub(crate) fn stop(&mut self, life: Life) -> Verdict {
        let shown = self.node(life.node).clock.shows(self.now);
        let Some(process) = self.alive(life) else {
            return Ok(());
        };
        let mut inbox = mem::take(&mut process.inbox);
        inbox.push(Happening::Stop);
        let Actions { reply, .. } = process.replica.step_all(shown, inbox);
        for (call, outcome) in reply {
            let what = digest(&[32, call.0, words::outcome_digest(&outcome)]);
            self.note(life.node, what, || format!("call {call}: {}", words::outcome(&outcome)));
            self.counts.stopped += 1;
            self.checks.calls.on_outcome(call.0, &outcome)?;
        }
        self.checks.calls.on_stopped(life)
    }

    /// Whether faults may still happen.
    pub(crate) fn breaks(&self) -> bool {
        self.phase == Phase::Safety
    }
}

/// The term of the leader whose append this is.
fn appended_in(happening: &Happening) -> Option<Term> {
    let Happening::Receive { message: Message::Raft(message), .. } = happening else {
        return None;
    };
    matches!(message.body, MessageBody::Append { .. }).then_some(message.term)
}

/// How many bytes of a group a write takes at most, by what a log says about groups.
fn size(write: &Write) -> u64 {
    1024 + write.append.iter().map(|entry| 32 + entry.payload.len() as u64).sum::<u64>()
}
