//! Writing a log of ours with what another holds, and reading it again.

use std::sync::Arc;

use tinyraftplus_log::{
    Disk, Encoder, FsLog, HardState, Log, LogError, LogExt, LogKind, LogOptions, LogStats,
    MultiFsLog, Write,
};

use super::{Checked, Error, Source, source::Summary, u64_of};

/// Written at a time, unless one entry is larger.
const GROUP_BYTES: u64 = 4 << 20;
const GROUP_ENTRIES: usize = 16 << 10;
/// What larger entries than usual get.
const GROUP_FACTOR: u64 = 2;

/// Writes a new log of the same name and kind to a directory without one, and compares it with what
/// [`Source::check`] read. `progress` is told how many entries were written, and then how many compared.
///
/// # Errors
///
/// [`Error::Changed`] if the source is not what was checked, [`Error::Log`], [`Error::NotTheSame`]. Files that were
/// written by then stay.
pub fn write_log<D: Disk, T: Disk>(
    source: &Source<D>,
    checked: &Checked,
    to: &T,
    encoder: &Arc<dyn Encoder>,
    mut progress: impl FnMut(u64),
) -> Result<LogStats, Error> {
    let mut options = LogOptions::default();
    options.encoder = Arc::clone(encoder);
    // As whoever opens it will.
    let usual = options.clone();
    options.entry_bytes_max = options.entry_bytes_max.max(checked.largest);
    options.batch_bytes_max = options.entry_bytes_max;
    options.group_bytes_max =
        options.group_bytes_max.max(GROUP_FACTOR.saturating_mul(options.entry_bytes_max));
    let name = source.name();
    match source.kind() {
        LogKind::OneFile => {
            let mut log = FsLog::open_on(to, name, options)?.0;
            copy(source, checked, &mut log, &mut progress)?;
            drop(log);
            compare(checked, FsLog::open_on(to, name, usual)?.0, to, name, progress)
        }
        LogKind::Segments => {
            let mut log = MultiFsLog::open_on(to, name, options)?.0;
            copy(source, checked, &mut log, &mut progress)?;
            log.finish_upkeep();
            drop(log);
            compare(checked, MultiFsLog::open_on(to, name, usual)?.0, to, name, progress)
        }
    }
}

fn copy<D: Disk>(
    source: &Source<D>,
    checked: &Checked,
    log: &mut impl Log,
    mut progress: impl FnMut(u64),
) -> Result<(), Error> {
    let mut walk = source.walk()?;
    let mut summary = Summary::default();
    // A later term than that of the newest entry may have been seen; the package does not store it, nor votes.
    let term = HardState { term: checked.last_term, vote: None };
    let hard_state = (term != HardState::default()).then_some(term);
    let mut group = Write { hard_state, ..Write::default() };
    let mut bytes = 0_u64;
    while let Some(step) = walk.step()? {
        let Ok(entry) = step else { return Err(source.changed()) };
        summary.add(&entry);
        bytes = bytes.saturating_add(u64_of(entry.payload.len()));
        group.append.push(entry);
        if bytes >= GROUP_BYTES || group.append.len() >= GROUP_ENTRIES {
            progress(flush(log, &mut group)?);
            bytes = 0;
        }
    }
    progress(flush(log, &mut group)?);
    log.close()?;
    if summary.is(checked) { Ok(()) } else { Err(source.changed()) }
}

/// Writes what was gathered, and says how many entries the log has.
fn flush(log: &mut impl Log, group: &mut Write) -> Result<u64, LogError> {
    log.write(&[std::mem::take(group)])?;
    Ok(log.end().get())
}

fn compare<T: Disk>(
    checked: &Checked,
    mut log: impl Log,
    to: &T,
    name: &str,
    mut progress: impl FnMut(u64),
) -> Result<LogStats, Error> {
    let mut summary = Summary::default();
    for (entry, count) in log.iter(..).zip(1..) {
        summary.add(&entry?);
        progress(checked.entries + count);
    }
    let stats = log.stats();
    log.close()?;
    if summary.is(checked) { Ok(stats) } else { Err(Error::NotTheSame(to.path(name))) }
}
