//! What this process uses of the machine, where the system says so.

use std::time::Duration;

/// Processor time of all its threads so far, in the kernel too.
pub(crate) fn cpu_time() -> Option<Duration> {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Duration::new(u64::try_from(spent.tv_sec).ok()?, u32::try_from(spent.tv_nsec).ok()?))
}

/// Bytes of memory in use now.
pub(super) fn memory() -> Option<u64> {
    memory_line("VmRSS:")
}

/// The most bytes of memory that were in use since [`forget_peak`], or since it started.
pub(super) fn peak_memory() -> Option<u64> {
    memory_line("VmHWM:")
}

/// Begins to look for the peak anew. Where that can't be, the peak is that of the whole process.
pub(super) fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn memory_line(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
