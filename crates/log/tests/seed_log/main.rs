//! What the tests of the JavaScript package ask of its logs, asked of ours: each test carries the number that the
//! scenario has there (`01encode`, `02log`, `05multi`). `docs/from-js.md` has the list.
//!
//! The original throws from callbacks to see a write undone. Here the disk fails instead, in the two ways that
//! it can: it is full before any byte was written, and the call is refused; or a sync fails, and nobody knows.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod encode;
mod log;
mod multi;
mod place;

use std::sync::Arc;

use tinyraftplus_log::{
    Encoder, EncryptingEncoder, FsLog, Key, Log, LogError, LogOptions, MultiFsLog, PlainEncoder,
    XxHashEncoder, sim_disk::SimDisk,
};

/// A kind of log that has the scenarios.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) open: fn(&SimDisk) -> Result<Box<dyn Log>, LogError>,
    pub(crate) destroy: fn(&SimDisk) -> Result<(), LogError>,
    /// The original's segments of 64 bytes are this many times as large here, and so are its payloads.
    pub(crate) scale: usize,
    /// Several files, the larger the log the more.
    pub(crate) segmented: bool,
    /// Damage to a body is noticed.
    pub(crate) checks_bodies: bool,
}

/// One test for each scenario, for a kind of log.
macro_rules! scenarios {
    ($name:ident, $kind:expr) => {
        scenarios! { $name, $kind,
            encode:
            encode_01_to_03_round_trip
            encode_04_damage_is_named
            ;
            log:
            log_01_append_reopen
            log_02_append_one_reopen
            log_03_first_append_fails
            log_04_second_append_fails
            log_05_third_append_fails
            log_06_trim
            log_07_trim_of_an_empty_log_reopen
            log_08_trim_fails
            log_09_append_and_batch
            log_10_batches_reopen
            log_11_first_batch_fails
            log_12_second_batch_fails
            log_13_batch_after_a_batch_fails
            log_14_batch_and_trim_all
            log_15_batch_and_trim_to_the_first
            log_16_batch_and_trim_to_the_last
            log_17_empty_payloads_reopen
            log_18_empty_payloads_in_batches_reopen
            log_19_opened_twice
            log_20_closed_twice
            ;
            multi:
            multi_01_append_reopen
            multi_02_append_one_reopen
            multi_03_first_append_fails
            multi_04_second_append_fails
            multi_05_third_append_fails
            multi_06_trim_across_segments
            multi_07_many_segments_keep_their_order
            multi_08_trim_fails
            multi_09_append_and_batch
            multi_10_batches_reopen
            multi_11_first_batch_fails
            multi_12_second_batch_fails
            multi_13_batch_after_a_batch_fails
            multi_14_batch_and_trim_all
            multi_15_batch_and_trim_to_the_first
            multi_16_batch_and_trim_to_the_last
            multi_17_empty_payloads_destroy_and_reuse
            multi_18_empty_batches_destroy_and_reuse
            multi_19_opened_twice
            multi_20_closed_twice
            ;
        }
    };
    ($name:ident, $kind:expr, $($file:ident: $($scenario:ident)*;)*) => {
        mod $name {
            $($(
                #[test]
                fn $scenario() {
                    $crate::$file::$scenario($kind);
                }
            )*)*
        }
    };
}

/// Opens and destroys a kind of log with an encoder.
macro_rules! kind {
    ($log:ident, $encoder:expr) => {
        crate::Kind {
            open: |disk| Ok(Box::new(crate::$log::open_on(disk, "x", crate::options($encoder))?.0)),
            destroy: |disk| crate::$log::destroy_on(disk, "x"),
            scale: 900,
            segmented: stringify!($log).starts_with("Multi"),
            checks_bodies: crate::Encoder::checks_bodies(&$encoder),
        }
    };
}

scenarios!(fs_log, kind!(FsLog, crate::XxHashEncoder { body: true }));
scenarios!(fs_log_without_body_checksums, kind!(FsLog, crate::XxHashEncoder { body: false }));
scenarios!(fs_log_plain, kind!(FsLog, crate::PlainEncoder));
scenarios!(fs_log_encrypted, kind!(FsLog, crate::encrypting()));
scenarios!(multi_fs_log, kind!(MultiFsLog, crate::XxHashEncoder { body: true }));
scenarios!(
    multi_fs_log_without_body_checksums,
    kind!(MultiFsLog, crate::XxHashEncoder { body: false })
);
scenarios!(multi_fs_log_plain, kind!(MultiFsLog, crate::PlainEncoder));
scenarios!(multi_fs_log_encrypted, kind!(MultiFsLog, crate::encrypting()));

fn encrypting() -> EncryptingEncoder {
    EncryptingEncoder::new(&Key::from_bytes([7; 32]))
}

/// With segments of about 64 times the `scale`.
fn options(encoder: impl Encoder) -> LogOptions {
    let mut options = LogOptions::default();
    options.segment_bytes_max = 64 << 10;
    options.space_bytes = 16 << 10;
    options.reserve_bytes = 4 << 10;
    options.encoder = Arc::new(encoder);
    options
}
