//! Reading a log slowly, to find damage before somebody needs what is lost.

use std::{ops::Range, path::PathBuf, sync::Arc};

use tinyraftplus_core::Seq;

use crate::{Damage, LogError, LogRead, num::u64_of};
#[cfg(doc)]
use crate::{Log, Write};

/// Reads all entries of a log, a little at a time: as often as [`Scrub::step`] is called, and no more. It never waits
/// for the writer, nor the writer for it, and holds nothing but what the last step read.
///
/// What it finds can be put back with [`Write::repair`], by whoever can get it elsewhere. It looks at entries that
/// count; [`verify`](crate::verify) looks at everything, without an open log. What the operating system has in memory
/// is read from there.
///
/// ```
/// use tinyraftplus_log::{Log, LogExt, MemLog, Scrub};
///
/// let mut log = MemLog::new(Default::default())?;
/// log.append("entry")?;
/// let mut scrub = Scrub::new(log.reader());
/// while let Some(scrubbed) = scrub.step(64 << 10)? {
///     assert_eq!(scrubbed.damaged, None);
/// }
/// # Ok::<(), tinyraftplus_log::LogError>(())
/// ```
pub struct Scrub {
    reader: Arc<dyn LogRead>,
    next: Seq,
    /// Where the log ended when this began.
    end: Seq,
    /// A damaged place whose end is being looked for.
    found: Option<Found>,
}

/// What a step has read.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Scrubbed {
    /// Entries that are as they were written.
    pub sound: Range<Seq>,
    /// How many bytes of payload they have.
    pub bytes: u64,
    /// Entries that can't be read, from its seq on and before its end.
    pub damaged: Option<Damage>,
}

/// Entries before `bad` can't be read. All up to `good` have to be looked at, if that is known, and `good` can be read.
struct Found {
    damage: Damage,
    first: Seq,
    bad: Seq,
    good: Option<Seq>,
}

impl Scrub {
    /// Begins with the oldest entry, and ends with the one that is the newest now.
    pub fn new(reader: Arc<dyn LogRead>) -> Self {
        let Range { start, end } = reader.bounds();
        Self { reader, next: start, end, found: None }
    }

    /// Where it is, and where it ends.
    pub const fn left(&self) -> Range<Seq> {
        self.next..self.end
    }

    /// Reads on: one entry at least, and then up to so many bytes of payload. `None` at the end: begin another when
    /// it is time.
    ///
    /// A damaged place is told when its end was found. That takes a few steps, each of one entry.
    ///
    /// # Errors
    ///
    /// [`LogError::Closed`], and others that say nothing about entries.
    pub fn step(&mut self, bytes_max: u64) -> Result<Option<Scrubbed>, LogError> {
        let bounds = self.reader.bounds();
        if let Some(found) = self.found.take() {
            return self.look_for_the_end(found, &bounds).map(Some);
        }
        (self.next, self.end) = (self.next.max(bounds.start), self.end.min(bounds.end));
        if self.next >= self.end {
            return Ok(None);
        }
        match self.reader.read(self.next, self.end, bytes_max) {
            Ok(entries) => {
                let bytes = entries.iter().map(|entry| u64_of(entry.payload.len())).sum();
                let end = entries.last().map_or(self.next, |entry| entry.id.seq.after());
                let sound = std::mem::replace(&mut self.next, end)..end;
                Ok(Some(Scrubbed { sound, bytes, damaged: None }))
            }
            Err(error) => {
                let first = self.next;
                match damage_of(error, first) {
                    Ok(damage) => {
                        let bad = first.after();
                        self.found = Some(Found { damage, first, bad, good: None });
                        Ok(Some(nothing(first)))
                    }
                    Err(error) => self.moved(error).map(Some),
                }
            }
        }
    }

    /// Tries one entry: ever farther away until one can be read, and then halfway between.
    fn look_for_the_end(
        &mut self,
        mut found: Found,
        bounds: &Range<Seq>,
    ) -> Result<Scrubbed, LogError> {
        let end = self.end.min(bounds.end).max(found.bad);
        let tried = match found.good {
            Some(good) => found.bad.checked_add(good.since(found.bad) / 2),
            None => found.bad.checked_add(found.bad.since(found.first) - 1),
        };
        let tried = tried.unwrap_or(end).min(end);
        if found.good.is_some_and(|good| good <= found.bad) || tried >= end && found.bad >= end {
            let damage = Damage { end: Some(found.bad), ..found.damage };
            self.next = found.bad;
            return Ok(Scrubbed { damaged: Some(damage), ..nothing(found.bad) });
        }
        let tried = tried.min(end.before().unwrap_or(end));
        match self.reader.read(tried, tried.after(), 0) {
            Ok(_) => found.good = Some(tried),
            Err(error) => match damage_of(error, tried) {
                Ok(_) => found.bad = tried.after(),
                Err(error) => return self.moved(error),
            },
        }
        self.found = Some(found);
        Ok(nothing(self.next))
    }

    /// Entries may be dropped meanwhile; then reading goes on with what there is.
    fn moved(&self, error: LogError) -> Result<Scrubbed, LogError> {
        let moved = matches!(error, LogError::Compacted { .. } | LogError::Trimmed { .. });
        if moved { Ok(nothing(self.next)) } else { Err(error) }
    }
}

fn nothing(at: Seq) -> Scrubbed {
    Scrubbed { sound: at..at, bytes: 0, damaged: None }
}

/// The damage that an error tells of; or the error back.
fn damage_of(error: LogError, first: Seq) -> Result<Damage, LogError> {
    let damage = |path: PathBuf, offset, what| Damage {
        path,
        offset,
        seq: Some(first),
        end: None,
        what,
        mended: false,
        repaired: false,
    };
    if let LogError::Corrupt { path, offset, what, .. } = error {
        Ok(damage(path, offset, what.into()))
    } else if let LogError::Io { op: "read", path, source } = error {
        Ok(damage(path, 0, format!("it can't be read: {source}").into()))
    } else {
        Err(error)
    }
}
