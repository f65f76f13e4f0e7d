//! Which files of a directory are a log of the JavaScript package.
//!
//! A `FsLog` has `NAME.lock`, `NAME.off` and `NAME.log`. A `MultiFsLog` has `NAME.lock` and, for each segment, the
//! three files of `NAME-m0`, `NAME-m1` and so on.

use std::collections::{BTreeMap, BTreeSet};

use tinyraftplus_log::{Disk, LogKind};

use super::{Doubt, Error, window::failed};

/// A log that is there, by its file names.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) kind: LogKind,
    /// The names of its segments, in the order of their numbers; its own for a log in one file.
    pub(super) parts: Vec<String>,
}

/// Finds the log of this name, or the only one.
pub(super) fn choose<D: Disk>(disk: &D, name: Option<&str>) -> Result<Found, Error> {
    let directory = Directory::read(disk)?;
    let logs = directory.logs();
    let listed = logs.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let dir = disk.path("");
    let name = match name {
        Some(name) => name,
        None if logs.len() > 1 => {
            return Err(Error::Ask(format!(
                "there are several logs of the JavaScript package in {}: {listed}; choose one with --name",
                dir.display()
            )));
        }
        None => logs.first().map(String::as_str).ok_or_else(|| {
            Error::Ask(format!(
                "there is no log of the JavaScript package in {}: it would have files NAME.lock, NAME.off and NAME.log",
                dir.display()
            ))
        })?,
    };
    if let Some((base, _)) = segment(name)
        && logs.contains(base)
    {
        return Err(Error::Ask(format!(
            "{name} is a segment of the log {base}; import that with --name {base}"
        )));
    }
    if !logs.contains(name) {
        let there = if listed.is_empty() { "none at all" } else { &listed };
        return Err(Error::Ask(format!(
            "there is no log of the JavaScript package named {name} in {}; there is {there}",
            dir.display()
        )));
    }
    directory.of(disk, name)
}

/// The name of the log and the number of the segment that has this name.
fn segment(name: &str) -> Option<(&str, u64)> {
    let (base, digits) = name.rsplit_once("-m")?;
    let number = digits.parse().ok()?;
    (!base.is_empty() && digits == u64::to_string(&number)).then_some((base, number))
}

struct Directory {
    files: BTreeSet<String>,
    /// For each name that segments have before `-m`, their numbers.
    segments: BTreeMap<String, BTreeSet<u64>>,
}

impl Directory {
    fn read<D: Disk>(disk: &D) -> Result<Self, Error> {
        let files = disk.list().map_err(|error| failed("list", &disk.path(""), error))?;
        let mut segments: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for file in &files {
            let stem = file.strip_suffix(".off").or_else(|| file.strip_suffix(".log"));
            if let Some((base, number)) = stem.and_then(segment) {
                segments.entry(base.to_owned()).or_default().insert(number);
            }
        }
        Ok(Self { files: files.into_iter().collect(), segments })
    }

    fn has(&self, name: &str, end: &str) -> bool {
        self.files.contains(&format!("{name}{end}"))
    }

    /// Whether this is, or should be, a log in segments. A `FsLog` may be called `a-m0`, too, but not beside a lock
    /// of `a`, and not with a sibling.
    fn is_many(&self, base: &str) -> bool {
        let Some(numbers) = self.segments.get(base) else { return false };
        self.has(base, ".lock") || numbers.len() > 1
    }

    fn logs(&self) -> BTreeSet<String> {
        let mut logs = BTreeSet::new();
        for file in &self.files {
            let Some(stem) = file.strip_suffix(".off") else { continue };
            let base = segment(stem).map(|(base, _)| base).filter(|base| self.is_many(base));
            logs.insert(base.unwrap_or(stem).to_owned());
        }
        logs
    }

    fn of<D: Disk>(&self, disk: &D, name: &str) -> Result<Found, Error> {
        let missing = |file: String, what: &str| Doubt {
            path: disk.path(&file),
            byte: None,
            seq: None,
            what: what.to_owned(),
        };
        let lock_missing = || {
            missing(
                format!("{name}.lock"),
                "it is missing, and without it nobody can tell whether the newest entries were committed; copy it, too, or create an empty file if the log was closed properly",
            )
        };
        if !self.is_many(name) {
            for end in [".off", ".log"] {
                if !self.has(name, end) {
                    let what =
                        "it is missing, and the log is not complete without it; copy it, too";
                    return Err(missing(format!("{name}{end}"), what).into());
                }
            }
            if !self.has(name, ".lock") {
                return Err(lock_missing().into());
            }
            let parts = vec![name.to_owned()];
            return Ok(Found { name: name.to_owned(), kind: LogKind::OneFile, parts });
        }
        if self.has(name, ".off") || self.has(name, ".log") {
            return Err(Error::Ask(format!(
                "{name} is a log in one file, and {name}-m0 may be a segment of it or a log of its own; copy the files that are meant into another directory"
            )));
        }
        if !self.has(name, ".lock") {
            return Err(lock_missing().into());
        }
        let mut parts = Vec::new();
        for (&number, expected) in self.segments.get(name).into_iter().flatten().zip(0..) {
            if number != expected {
                let what = format!(
                    "it is missing: there is a segment {number}, so there was one with this number; copy it, too"
                );
                return Err(missing(format!("{name}-m{expected}.log"), &what).into());
            }
            parts.push(format!("{name}-m{number}"));
        }
        self.no_strange_segments(disk, name)?;
        Ok(Found { name: name.to_owned(), kind: LogKind::Segments, parts })
    }

    /// The package takes every file for a segment whose name has digits in the right place, even with more
    /// behind them, and then opens a segment twice.
    fn no_strange_segments<D: Disk>(&self, disk: &D, name: &str) -> Result<(), Error> {
        for file in &self.files {
            let rest = file.strip_prefix(name).and_then(|rest| rest.strip_prefix("-m"));
            let Some(rest) = rest.and_then(|rest| rest.strip_suffix(".log")) else { continue };
            let begins = rest.trim_start().starts_with(|c: char| c.is_ascii_digit());
            let stem = file.strip_suffix(".log").unwrap_or(file);
            if begins && segment(stem).is_none_or(|(base, _)| base != name) {
                return Err(Doubt {
                    path: disk.path(file),
                    byte: None,
                    seq: None,
                    what: "the JavaScript package takes it for a segment, and it has no name of one; move it away if it is something else".to_owned(),
                }
                .into());
            }
        }
        Ok(())
    }
}
