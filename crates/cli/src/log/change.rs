//! `tinyraftplus log trim` and `compact`: dropping entries by hand.
//!
//! A member of a Raft cluster has promised others what is in its log. Who drops acknowledged entries there can
//! make the cluster lose them, so that takes an option that says so. Term and vote are never touched.

use super::inspect::bytes;
use super::which::{Place, Which};
use crate::error::Error;
use serde_json::json;
use std::ops::Range;
use std::str::FromStr;
use tinyraftplus_log::Seq;
use tinyraftplus_log::{
    FsLog, Log, LogError, LogExt, LogKind, LogOptions, LogStats, MultiFsLog, survey,
};

/// Which entries to keep.
#[derive(Debug, clap::Args)]
pub(crate) struct TrimArgs {
    #[command(flatten)]
    which: Which,
    /// The last entry to keep, or `none` to drop all
    keep: Keep,
    #[command(flatten)]
    force: Force,
}

/// Which entries to drop.
#[derive(Debug, clap::Args)]
pub(crate) struct CompactArgs {
    #[command(flatten)]
    which: Which,
    /// The first entry to keep
    before: u64,
    #[command(flatten)]
    force: Force,
}

#[derive(Debug, clap::Args)]
struct Force {
    /// Change the log of a Raft member, too; its cluster may lose acknowledged entries
    #[arg(long)]
    force_raft_member: bool,
}

#[derive(Clone, Copy, Debug)]
struct Keep(Option<Seq>);

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let seq = text.parse().map_err(|_| "give the seq of the last entry to keep, or none")?;
        Ok(Self(Some(Seq::new(seq))))
    }
}

/// What there was before and after.
struct Change {
    seqs: [Range<Seq>; 2],
    stats: [LogStats; 2],
}

/// Drops the newest entries.
pub(crate) fn trim(args: &TrimArgs) -> Result<(), Error> {
    change(&args.which, &args.force, |log| log.trim(args.keep.0))
}

/// Drops the oldest entries.
pub(crate) fn compact(args: &CompactArgs) -> Result<(), Error> {
    let place = args.which.find()?;
    if place.log.kind == LogKind::OneFile {
        return Err(Error::failed(format!(
            "{} is a log in one file, which can't give its oldest entries back; only logs in segments can",
            place.log.name
        )));
    }
    change(&args.which, &args.force, |log| log.compact(Seq::new(args.before)))
}

/// An open log of either kind, and how to wait for what it does in the background.
trait Both: Log {
    fn finish(&self);
}

impl Both for FsLog {
    fn finish(&self) {}
}

impl Both for MultiFsLog {
    fn finish(&self) {
        self.finish_upkeep();
    }
}

fn change(
    which: &Which,
    force: &Force,
    act: impl Fn(&mut dyn Both) -> Result<(), LogError>,
) -> Result<(), Error> {
    let place = which.find()?;
    let name = &place.log.name;
    // Before it is opened, which writes to it.
    let found = place.with(|encoder| survey(&place.disk, name, encoder))?;
    refuse_raft(&place, found.is_raft(), force)?;
    let change = place.with(|encoder| {
        let mut options = LogOptions::default();
        options.encoder = std::sync::Arc::clone(encoder);
        match place.log.kind {
            LogKind::OneFile => run(FsLog::open(&place.dir, name, options)?.0, &act),
            LogKind::Segments => run(MultiFsLog::open(&place.dir, name, options)?.0, &act),
        }
    })?;
    tell(which, name, &change);
    Ok(())
}

fn refuse_raft(place: &Place, is_raft: bool, force: &Force) -> Result<(), Error> {
    if !is_raft || force.force_raft_member {
        return Ok(());
    }
    Err(Error::failed(format!(
        "{} is the log of a Raft member: others count on what it holds, and the cluster may lose acknowledged entries; if that is meant, say --force-raft-member",
        place.log.name
    )))
}

fn run(
    mut log: impl Both,
    act: &dyn Fn(&mut dyn Both) -> Result<(), LogError>,
) -> Result<Change, LogError> {
    let (seqs, stats) = (log.bounds(), log.stats());
    let acted = act(&mut log);
    log.finish();
    let change = Change { seqs: [seqs, log.bounds()], stats: [stats, log.stats()] };
    let closed = log.close();
    acted?;
    closed?;
    Ok(change)
}

fn tell(which: &Which, name: &str, change: &Change) {
    let [before, after] = &change.seqs;
    let [old, new] = &change.stats;
    let dropped = old.entries - new.entries;
    if which.json {
        let object = |seqs: &Range<Seq>, stats: &LogStats| {
            json!({
                "start": seqs.start.get(), "end": seqs.end.get(), "entries": stats.entries,
                "segments": stats.segments, "bytes": stats.bytes,
            })
        };
        crate::out::line(format_args!(
            "{}",
            json!({
                "name": name, "dropped": dropped,
                "before": object(before, old), "after": object(after, new),
            })
        ));
        return;
    }
    let has = |seqs: &Range<Seq>| match seqs.end.before().filter(|last| *last >= seqs.start) {
        Some(last) => format!("seq {} to {last}", seqs.start),
        None => format!("nothing; the next is seq {}", seqs.end),
    };
    if dropped == 0 {
        crate::out::line(format_args!("{name}: nothing to drop. It has {}.", has(after)));
        return;
    }
    let entries = if dropped == 1 { "one entry".to_owned() } else { format!("{dropped} entries") };
    crate::out::line(format_args!(
        "{name}: dropped {entries}. It had {}, and has {}.",
        has(before),
        has(after)
    ));
    if (old.segments, old.bytes) != (new.segments, new.bytes) {
        crate::out::line(format_args!(
            "Its files: {} with {} before, {} with {} now.",
            old.segments,
            bytes(old.bytes),
            new.segments,
            bytes(new.bytes)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_keep_is_a_seq_or_none() {
        assert_eq!("7".parse::<Keep>().unwrap().0, Some(Seq::new(7)));
        assert_eq!("none".parse::<Keep>().unwrap().0, None);
        assert!("-1".parse::<Keep>().unwrap_err().contains("or none"));
    }
}
