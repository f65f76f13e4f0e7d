//! What every log must do, whatever it is made of: a suite of tests for any [`Log`], one of your own too.
//!
//! [`log_suite!`](crate::log_suite) makes one `#[test]` of each promise that the interface makes. What it needs
//! is a [`Subject`]: how to open the log, and what it can't do.
//!
//! ```
//! # use tinyraftplus_log as log;
//! use log::{FsLog, MemLog, log_suite, suite::Subject};
//!
//! // Nothing is left of a log in memory once it is closed.
//! log_suite!(mem_log, Subject::new(|options| MemLog::new(options.clone())).forgets());
//!
//! log_suite!(fs_log, {
//!     let dir = tempfile::tempdir().unwrap();
//!     Subject::new(move |options| FsLog::open(dir.path(), "x", options.clone()).map(|(log, _)| log))
//!         .never_compacts()
//! });
//! ```
//!
//! Each check works on a log of its own. Whatever it does to the log it does to a plain list too, and after
//! each step it compares all that the log says about itself with that list: after a refused call, after
//! closing and opening again, after dropping without closing. A check that fails says what was expected and what
//! came instead.
//!
//! The suite can't see crashes, for it only has the [`Log`]. A log on a [`Disk`](crate::Disk) is tested for
//! those with [`SimDisk`](crate::sim_disk::SimDisk).

mod appending;
mod case;
mod closing;
mod compacting;
mod edges;
mod groups;
mod model;
mod random;
mod reading;
mod refusing;
mod remembering;
mod repairing;
mod trimming;

use std::fmt;

use crate::{Log, LogError, LogOptions};
use appending::{
    a_batch_is_one, an_empty_log, appends_in_order, empty_payloads, kinds_and_terms_are_kept,
    payloads_of_all_sizes,
};
use closing::{
    a_log_that_was_dropped_is_whole, closes_twice, closing_ends_everything, marks_change_nothing,
    opens_only_once, reopens_many_times,
};
use compacting::{
    compaction_moves_the_start, compacts_to_the_end_and_past_it, compacts_with_other_changes,
    nothing_to_compact,
};
use edges::{
    grows_at_the_limit_of_doubles, grows_at_the_limit_of_signed_numbers, grows_to_the_last_position,
};
use groups::{
    a_group_is_all_or_nothing, a_write_happens_in_its_order, groups_of_any_size_in_the_limit,
    groups_that_change_nothing,
};
use random::agrees_with_a_plain_list;
use reading::{
    a_trim_past_its_end_spares_an_iterator, a_trim_stops_an_iterator, an_iterator_is_a_snapshot,
    drops_are_counted, iterates_over_any_range, readers_beside_the_writer,
    readers_see_what_is_durable, reads_are_bounded, reads_outside_are_refused, stats_count,
};
use refusing::{
    a_refused_call_changes_nothing, a_split_batch_is_refused, a_wrong_seq_is_refused,
    an_empty_batch_is_refused, limits_are_named, terms_never_go_down,
};
use remembering::{a_configuration_is_kept, an_identity_is_kept, hard_state_never_goes_back};
use repairing::{repairs_of_something_else_are_refused, repairs_take_the_place_of_entries};
use trimming::{
    reset_begins_anew, trim_below_the_start_is_refused, trim_drops_the_newest,
    trim_with_appends_is_one,
};

/// A log to be tested: how it is opened, and what it can't do.
///
/// Everything that is not said to be missing is tested.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four abilities that have nothing to do with each other"
)]
pub struct Subject {
    opener: Opener,
    options: LogOptions,
    restarts: bool,
    compacts: bool,
    limits: bool,
    first_seq: bool,
}

type OpenFn = dyn FnMut(&LogOptions) -> Result<Box<dyn Log>, LogError>;

struct Opener(Box<OpenFn>);

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener")
    }
}

impl Subject {
    /// A log that `open` creates when called first, and opens again, with all that is in it, when called after
    /// the log was closed or dropped.
    ///
    /// The options are the same each time. A log that takes none of them looks at the positions and limits in
    /// them, or see [`Subject::has_no_limits`] and [`Subject::begins_at_zero`].
    pub fn new<L: Log>(mut open: impl FnMut(&LogOptions) -> Result<L, LogError> + 'static) -> Self {
        let open = move |options: &LogOptions| -> Result<Box<dyn Log>, LogError> {
            Ok(Box::new(open(options)?))
        };
        let options = LogOptions {
            entry_bytes_max: 20_000,
            batch_bytes_max: 50_000,
            group_bytes_max: 256 << 10,
            space_bytes: 16 << 10,
            reserve_bytes: 4 << 10,
            ..LogOptions::default()
        };
        Self {
            opener: Opener(Box::new(open)),
            options,
            restarts: true,
            compacts: true,
            limits: true,
            first_seq: true,
        }
    }

    /// Nothing is left of it once it is closed or dropped: it is never opened again.
    #[must_use]
    pub const fn forgets(mut self) -> Self {
        self.restarts = false;
        self
    }

    /// It refuses to compact, without any effect.
    #[must_use]
    pub const fn never_compacts(mut self) -> Self {
        self.compacts = false;
        self
    }

    /// It takes entries, batches and groups of any size.
    #[must_use]
    pub const fn has_no_limits(mut self) -> Self {
        self.limits = false;
        self
    }

    /// It can begin at seq 0 only.
    #[must_use]
    pub const fn begins_at_zero(mut self) -> Self {
        self.first_seq = false;
        self
    }

    /// It is opened with these options. The checks set [`LogOptions::first_seq`] themselves.
    ///
    /// The checks write entries and batches up to the limits, so smaller ones are faster; an entry may have 2 KiB
    /// and a batch twice as much, at least.
    #[must_use]
    pub fn options(mut self, options: LogOptions) -> Self {
        self.options = options;
        self
    }

    fn open(&mut self) -> Result<Box<dyn Log>, LogError> {
        (self.opener.0)(&self.options)
    }
}

/// Makes a module of tests, one for each promise that a [`Log`] makes, for the log that a
/// [`Subject`](crate::suite::Subject) opens. The second argument is evaluated anew for each log.
///
/// See [`suite`](crate::suite) for an example.
#[macro_export]
macro_rules! log_suite {
    ($name:ident, $subject:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "the subject may need nothing from there")]
            use super::*;

            $crate::__log_checks! { [$crate::__log_tests] [$subject] }
        }
    };
}

/// The one list of all checks.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_checks {
    ([$($then:tt)*] [$($with:tt)*]) => {
        $($then)* ! { [$($with)*]
            an_empty_log
            appends_in_order
            a_batch_is_one
            empty_payloads
            kinds_and_terms_are_kept
            payloads_of_all_sizes
            a_wrong_seq_is_refused
            an_empty_batch_is_refused
            a_split_batch_is_refused
            terms_never_go_down
            limits_are_named
            a_refused_call_changes_nothing
            a_group_is_all_or_nothing
            a_write_happens_in_its_order
            groups_that_change_nothing
            groups_of_any_size_in_the_limit
            hard_state_never_goes_back
            a_configuration_is_kept
            an_identity_is_kept
            trim_drops_the_newest
            trim_below_the_start_is_refused
            trim_with_appends_is_one
            reset_begins_anew
            repairs_take_the_place_of_entries
            repairs_of_something_else_are_refused
            compaction_moves_the_start
            compacts_to_the_end_and_past_it
            compacts_with_other_changes
            nothing_to_compact
            an_iterator_is_a_snapshot
            a_trim_stops_an_iterator
            a_trim_past_its_end_spares_an_iterator
            iterates_over_any_range
            reads_are_bounded
            reads_outside_are_refused
            readers_see_what_is_durable
            drops_are_counted
            readers_beside_the_writer
            stats_count
            closing_ends_everything
            closes_twice
            reopens_many_times
            a_log_that_was_dropped_is_whole
            marks_change_nothing
            opens_only_once
            grows_at_the_limit_of_doubles
            grows_at_the_limit_of_signed_numbers
            grows_to_the_last_position
            agrees_with_a_plain_list
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_tests {
    ([$subject:expr] $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                $crate::suite::check(stringify!($check), &|| $subject);
            }
        )*
    };
}

macro_rules! table {
    ([] $($check:ident)*) => {
        const TABLE: &[(&str, fn(&Make<'_>))] = &[$((stringify!($check), $check)),*];
    };
}

/// Makes a subject with a new log.
type Make<'a> = dyn Fn() -> Subject + 'a;

__log_checks! { [table] [] }

/// The names of all checks.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

/// Runs one check on logs that `make` makes; for test frames other than `#[test]`.
///
/// # Panics
///
/// If the log does not keep the promise, saying what was expected; or if there is no check of this name.
pub fn check(name: &str, make: &dyn Fn() -> Subject) {
    let (_, check) =
        TABLE.iter().find(|(known, _)| *known == name).expect("a check is called by its name");
    check(make);
}
