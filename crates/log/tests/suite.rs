//! Every log of this crate keeps every promise of the interface, and the suite notices logs that do not.

use tinyraftplus_log::{FsLog, MemLog, log_suite, sim_disk::SimDisk, suite::Subject};

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
