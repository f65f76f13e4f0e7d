//! A failure in a world that is as small as possible.
//!
//! A seed that fails does so after thousands of events, most of which have nothing to do with it. So parts of its
//! world are left out ([`Less`]), one after the other, and stay out if what is left fails in the same way and
//! not much later: kinds of faults, nodes, clients, then single faults and calls. Chance falls differently in a
//! smaller world, so worlds are tried with other dice too, and among those that fail the one that fails first is
//! taken (delta debugging: Zeller and Hildebrandt 2002, with dice).

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crate::fault::Fault;
use crate::less::Less;
use crate::many::in_order;
use crate::run::{Run, Settings, run, run_within};

/// With how many other dice a smaller world is tried.
const ROLLS: u64 = 12;
/// How many dice are thrown for a world that fails earlier.
const THROWS: u64 = 200;
/// By how many hundredths a transcript may grow when something is left out.
const GROWTH_PERCENT: u64 = 5;

/// A failure in a smaller world.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What is left out.
    pub less: Less,
    /// What happens in what is left.
    pub run: Run,
    /// How many worlds were tried.
    pub tries: u64,
}

/// Looks for a smaller world in which a seed fails the same check. Tries worlds until they had so many events
/// together; the same seed always shrinks to the same world. `None` if the seed does not fail.
pub fn shrink(seed: u64, settings: &Settings, events: u64) -> Option<Shrunk> {
    let first = run(seed, settings);
    let check = first.failure.as_ref()?.check;
    let best = Shrunk { less: settings.less.clone(), run: first, tries: 0 };
    let mut search = Search { seed, settings: settings.clone(), check, best, events, next_roll: 1 };
    loop {
        let before = search.best.run.size.lines;
        search.smaller_worlds();
        search.other_dice();
        if search.is_over() || search.best.run.size.lines * 4 > before * 3 {
            break;
        }
    }
    search.fewer_events();
    Some(search.best)
}

/// The search for a smaller world.
struct Search {
    seed: u64,
    settings: Settings,
    check: &'static str,
    best: Shrunk,
    /// How many events may still be tried.
    events: u64,
    next_roll: u64,
}

impl Search {
    const fn is_over(&self) -> bool {
        self.events == 0
    }

    /// Leaves out whole parts of the world.
    fn smaller_worlds(&mut self) {
        let nodes = self.best.run.size.nodes;
        let fewer = |nodes| move |less: &mut Less| less.nodes = Some(nodes);
        let _ = (1..nodes).any(|nodes| self.try_world(fewer(nodes)));
        self.try_world(|less| less.clients = Some(1));
        self.fewer_kinds();
        // Only a failure after all was mended comes earlier when it is mended earlier.
        let safety = self.best.run.size.safety;
        if self.best.run.counts.millis > safety {
            let shorter = |safety| move |less: &mut Less| less.safety = Some(safety);
            let _ = [16, 8, 4, 2].iter().any(|part| self.try_world(shorter(safety / part)));
        }
    }

    /// Leaves out kinds of faults: all, all but one, then one by one.
    fn fewer_kinds(&mut self) {
        let kinds = self.best.run.size.kinds.clone();
        let without = |out: BTreeSet<Fault>| move |less: &mut Less| less.without.extend(out);
        let mut out = vec![kinds.clone()];
        out.extend(
            kinds.iter().map(|&kept| kinds.iter().copied().filter(|&k| k != kept).collect()),
        );
        if kinds.len() > 1 && out.into_iter().any(|out| self.try_world(without(out))) {
            return;
        }
        for kind in kinds {
            self.try_world(without([kind].into()));
        }
    }

    /// Tries a change of the world, with the same dice and with others.
    fn try_world(&mut self, change: impl FnOnce(&mut Less)) -> bool {
        let mut less = self.best.less.clone();
        change(&mut less);
        if less == self.best.less {
            return false;
        }
        let rolls: Vec<u64> =
            std::iter::once(less.roll).chain(self.next_roll..self.next_roll + ROLLS).collect();
        self.next_roll += ROLLS;
        let worlds = rolls.into_iter().map(|roll| Less { roll, ..less.clone() });
        self.first_of(worlds.collect())
    }

    /// Throws other dice, and takes those with which the same world fails first.
    fn other_dice(&mut self) {
        let rolls = self.next_roll..self.next_roll + THROWS;
        self.next_roll = rolls.end;
        for roll in rolls.step_by(8) {
            let worlds = (roll..roll + 8).map(|roll| Less { roll, ..self.best.less.clone() });
            self.shortest_of(worlds.collect());
        }
    }

    /// Leaves out single faults and calls.
    fn fewer_events(&mut self) {
        for _ in 0..2 {
            self.thin(|size| &size.faults, |less, only| less.only_faults = Some(only));
            self.thin(|size| &size.calls, |less, only| less.only_calls = Some(only));
            let size = &self.best.run.size;
            let less = Less {
                only_faults: Some(size.faults.iter().copied().collect()),
                only_calls: Some(size.calls.iter().copied().collect()),
                close_up: true,
                ..self.best.less.clone()
            };
            self.first_of(vec![less]);
        }
    }

    /// Leaves out as many of these as possible: first all at once, then ever smaller parts.
    fn thin(
        &mut self,
        of: impl Fn(&crate::run::Size) -> &Vec<u64>,
        only: impl Fn(&mut Less, BTreeSet<u64>),
    ) {
        let mut part = of(&self.best.run.size).len();
        while part > 0 && !self.is_over() {
            let kept = of(&self.best.run.size).clone();
            let worlds = kept.chunks(part).map(|out| {
                let mut less = self.best.less.clone();
                only(
                    &mut less,
                    kept.iter().copied().filter(|number| !out.contains(number)).collect(),
                );
                less
            });
            if !self.first_of(worlds.collect()) {
                part /= 2;
            }
        }
    }

    /// Takes the first of these worlds that fails, and not much later than the best so far.
    fn first_of(&mut self, worlds: Vec<Less>) -> bool {
        let lines = self.best.run.size.lines;
        self.search(worlds, lines + lines * GROWTH_PERCENT / 100, true)
    }

    /// Takes the world that fails first, if it does so earlier than the best so far.
    fn shortest_of(&mut self, worlds: Vec<Less>) -> bool {
        let lines = self.best.run.size.lines;
        self.search(worlds, lines.saturating_sub(1), false)
    }

    fn search(&mut self, worlds: Vec<Less>, lines: u64, any: bool) -> bool {
        if self.is_over() {
            return false;
        }
        let Self { seed, settings, check, .. } = &*self;
        let fails = |run: &Run| {
            let same = run.failure.as_ref().is_some_and(|failure| failure.check == *check);
            same && run.size.lines <= lines
        };
        let (mut found, mut tries, mut events): (Option<(usize, Run)>, _, _) = (None, 0, 0);
        let try_one = |place: usize| {
            let less = worlds.get(place).cloned().unwrap_or_default();
            run_within(*seed, &Settings { less, ..settings.clone() }, lines)
        };
        in_order(worlds.len(), try_one, |run| {
            let place = tries;
            tries += 1;
            events += run.counts.steps;
            let shorter = |(_, best): &(usize, Run)| run.size.lines < best.size.lines;
            if fails(&run) && found.as_ref().is_none_or(shorter) {
                found = Some((place, run));
                if any {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        self.events = self.events.saturating_sub(events);
        self.best.tries += tries as u64;
        let Some((place, run)) = found else {
            return false;
        };
        self.best.run = run;
        self.best.less = worlds.into_iter().nth(place).unwrap_or_default();
        true
    }
}
