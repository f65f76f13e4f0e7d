//! Every log of this crate keeps every promise of the interface, and the suite notices logs that do not.

use std::{sync::Arc, time::Duration};

use tinyraftplus_log::{
    Encoder, EncryptingEncoder, FsLog, Key, LogOptions, MemLog, MultiFsLog, PlainEncoder,
    TimeoutLog, Timeouts, XxHashEncoder, log_suite, sim_disk::SimDisk, suite::Subject,
};

log_suite!(mem_log, Subject::new(|options| MemLog::new(options.clone())).forgets());

log_suite!(fs_log, {
    let dir = tempfile::tempdir().unwrap();
    Subject::new(move |options| FsLog::open(dir.path(), "x", options.clone()).map(|(log, _)| log))
        .never_compacts()
});

log_suite!(fs_log_on_a_simulated_disk, {
    let disk = SimDisk::new();
    Subject::new(move |options| FsLog::open_on(&disk, "x", options.clone()).map(|(log, _)| log))
        .never_compacts()
});

/// Segments so small that the checks fill many.
fn small(options: &LogOptions) -> LogOptions {
    let mut options = options.clone();
    options.segment_bytes_max = (4 * options.group_bytes_max).max(64 << 10);
    options
}

log_suite!(multi_fs_log, {
    let dir = tempfile::tempdir().unwrap();
    Subject::new(move |options| {
        MultiFsLog::open(dir.path(), "x", small(options)).map(|(log, _)| log)
    })
});

log_suite!(multi_fs_log_on_a_simulated_disk, {
    let disk = SimDisk::new();
    Subject::new(move |options| MultiFsLog::open_on(&disk, "x", small(options)).map(|(log, _)| log))
});

log_suite!(plain, with(Arc::new(PlainEncoder)));
log_suite!(without_body_checksums, with(Arc::new(XxHashEncoder { body: false })));
log_suite!(encrypted, with(Arc::new(EncryptingEncoder::new(&Key::from_bytes([7; 32])))));

fn with(encoder: Arc<dyn Encoder>) -> Subject {
    let disk = SimDisk::new();
    Subject::new(move |options| {
        let mut options = small(options);
        options.encoder = Arc::clone(&encoder);
        MultiFsLog::open_on(&disk, "x", options).map(|(log, _)| log)
    })
}

log_suite!(timeout_log, {
    let disk = SimDisk::new();
    Subject::new(move |options| {
        let (disk, options) = (disk.clone(), small(options));
        let timeouts = Timeouts::all(Duration::from_mins(1));
        TimeoutLog::open(timeouts, move || MultiFsLog::open_on(&disk, "x", options))
            .map(|(log, _)| log)
    })
});

log_suite!(timeout_log_in_memory, {
    Subject::new(move |options| {
        TimeoutLog::new(Timeouts::all(Duration::from_mins(1)), MemLog::new(options.clone())?)
    })
    .forgets()
});

log_suite!(blocks_of_4096, {
    let disk = SimDisk::new();
    Subject::new(move |options| {
        let mut options = small(options);
        options.block_bytes = 4096;
        MultiFsLog::open_on(&disk, "x", options).map(|(log, _)| log)
    })
});
