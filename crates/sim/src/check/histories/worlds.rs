//! Whole worlds in which something is done that no fault does: to heal a network that stays cut, to give a node an
//! old disk back.

use std::panic;

use tinyraftplus_core::{Identity, Message, MessageBody, NodeId, Term};

use crate::check::Verdict;
use crate::node::Death;
use crate::run::{Settings, guarded};
use crate::world::{Phase, STEPS_MAX, World};

fn calm_world() -> World {
    let world = |seed| World::new(seed, &Settings::default());
    let calm = (0..1000).map(world);
    calm.into_iter().find(|world| world.profile.calm && world.profile.node_count == 3).unwrap()
}

/// Lives on until that phase.
fn live_until(world: &mut World, is_there: impl Fn(&World) -> bool) {
    while !is_there(world) {
        let lines = world.trace.count();
        world.run(lines).unwrap();
    }
}

fn breaks(verdict: Verdict, check: &str) {
    assert_eq!(verdict.expect_err("a bad world").check, check);
}

#[test]
fn a_cluster_that_does_not_heal_is_noticed() {
    let mut world = calm_world();
    live_until(&mut world, |world| world.phase == Phase::Liveness);
    assert_eq!(world.run(u64::MAX), Ok(()));
    let mut world = calm_world();
    live_until(&mut world, |world| world.phase == Phase::Liveness);
    world.network.split(1, |node| node == 0);
    breaks(world.run(u64::MAX), "a healed cluster works");
}

#[test]
fn a_node_that_comes_back_with_an_old_disk_is_noticed() {
    let killed = |old: bool| {
        let mut world = calm_world();
        let committed = |count: u64| move |world: &World| world.checks.committed.count() > count;
        live_until(&mut world, committed(10));
        let (disk, end) = (world.node(1).disk.fork(), world.checks.nodes[1].durable.end());
        live_until(&mut world, |world| world.checks.nodes[1].durable.end() > end);
        world.kill(1, Death::Killed);
        if old {
            world.node(1).disk = disk;
        }
        world.run(u64::MAX)
    };
    assert_eq!(killed(false), Ok(()));
    breaks(killed(true), "what was durable survives a crash");
}

#[test]
fn a_run_must_end_and_go_on() {
    let mut world = calm_world();
    world.counts.steps = STEPS_MAX - 100;
    breaks(world.run(u64::MAX), "a run ends");
    let mut world = calm_world();
    live_until(&mut world, |world| world.checks.committed.count() > 0);
    world.forget_all();
    breaks(world.run(u64::MAX), "the world goes on");
}

#[test]
fn a_panic_is_a_failure_and_a_message_goes_to_a_member() {
    assert_eq!(guarded(|| Ok(())), Ok(()));
    let verdict = guarded(|| panic::panic_any("deliberate"));
    breaks(verdict, "nothing panics");
    let message = || {
        let body = MessageBody::Ask { number: 0 };
        let raft = Message { from: Identity::new(1), to: None, term: Term::ZERO, body };
        tinyraftplus_replica::Message::Raft(raft)
    };
    let mut world = calm_world();
    assert_eq!(world.send(0, NodeId::from(2), message()), Ok(()));
    breaks(world.send(0, NodeId::from(9), message()), "messages go to members");
}
