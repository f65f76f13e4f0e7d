//! The three files of one `FsLog`: a log of its own, or a segment.

use tinyraftplus_log::Disk;

use super::{
    Doubt, Error, bytes,
    bytes::Records,
    window::{length, small},
};

/// The longest lock.
const LOCK_BYTES_MAX: usize = 12;

/// What there is of a log, and how much of it counts.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) off_len: u64,
    pub(super) log_len: u64,
    lock: Option<(Records, i64)>,
    /// The seq of its first entry in the whole log.
    pub(super) first: u64,
    /// How many entries count.
    pub(super) count: u64,
    /// Whether everything in its files does.
    pub(super) whole: bool,
}

impl Part {
    /// Looks at the lengths of the files, and at the lock.
    pub(super) fn read<D: Disk>(disk: &D, name: &str, files: &[String]) -> Result<Self, Error> {
        let has = |end: &str| files.binary_search(&format!("{name}{end}")).is_ok();
        let len = |end: &str| if has(end) { length(disk, &format!("{name}{end}")) } else { Ok(0) };
        let (off_len, log_len, lock_len) = (len(".off")?, len(".log")?, len(".lock")?);
        // A segment that was emptied and is being deleted may have lost some of its files.
        if off_len > 0 || log_len > 0 || lock_len > 0 {
            for end in [".lock", ".off", ".log"] {
                if !has(end) {
                    let what =
                        "it is missing, and the log is not complete without it; copy it, too";
                    return Err(doubt(disk, name, end, None, None, what).into());
                }
            }
        }
        let lock = if lock_len > 0 { read_lock(disk, name)? } else { None };
        Ok(Self {
            name: name.to_owned(),
            off_len,
            log_len,
            lock,
            first: 0,
            count: 0,
            whole: lock.is_none(),
        })
    }

    pub(super) const fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// What the lock says about records, if there is one.
    pub(super) fn lock_records(&self) -> Option<Records> {
        self.lock.map(|(records, _)| records)
    }

    /// Whether there is a record that may count.
    pub(super) fn has_records(&self) -> bool {
        self.off_len > 0 && self.lock.is_none_or(|(_, seq)| seq >= 0)
    }

    /// How many records the file has, whether they count or not.
    pub(super) const fn records(&self, records: Records) -> u64 {
        self.off_len / records.bytes()
    }

    /// Finds out how many entries count: all, or those up to the seq in the lock.
    pub(super) fn plan<D: Disk>(&mut self, disk: &D, records: Records) -> Result<(), Doubt> {
        let there = self.records(records);
        let doubt = |end, byte, seq, what: String| doubt(disk, &self.name, end, byte, seq, &what);
        let Some((kind, seq)) = self.lock else {
            let rest = self.off_len % records.bytes();
            if rest != 0 {
                let what =
                    format!("the file ends in the middle of a record, after {rest} bytes of it");
                let seq = self.first.saturating_add(there);
                return Err(doubt(".off", Some(self.off_len - rest), Some(seq), what));
            }
            self.count = there;
            return Ok(());
        };
        if kind != records && self.off_len > 0 {
            let what = "the lock is of another layout than the records".to_owned();
            return Err(doubt(".lock", Some(0), None, what));
        }
        let Some(count) = count_of(seq) else {
            return Err(doubt(".lock", Some(0), None, no_seq(seq)));
        };
        if count > there {
            let what = format!(
                "the lock says that everything up to seq {seq} of the file is to be kept, and there are only {there} whole records; some are lost, or nothing was being written when the lock was (trim beyond the end does that): in that case empty the lock's file, then import again"
            );
            return Err(doubt(".off", Some(self.off_len), Some(self.first + there), what));
        }
        self.count = count;
        Ok(())
    }

    /// Lets fewer entries count.
    pub(super) const fn cut(&mut self, count: u64) {
        if count < self.count {
            self.count = count;
            self.whole = false;
        }
    }
}

/// How many entries there are up to this seq, -1 being none.
pub(super) fn count_of(seq: i64) -> Option<u64> {
    u64::try_from(seq.checked_add(1)?).ok()
}

pub(super) fn no_seq(seq: i64) -> String {
    format!(
        "the lock says {seq}, which is no seq: the package writes that when trim({seq}n) is called, and trims nothing; if nothing else was being written, empty this file, then import again"
    )
}

pub(super) fn doubt<D: Disk>(
    disk: &D,
    name: &str,
    end: &str,
    byte: Option<u64>,
    seq: Option<u64>,
    what: &str,
) -> Doubt {
    Doubt { path: disk.path(&format!("{name}{end}")), byte, seq, what: what.to_owned() }
}

/// The lock of a log, or of one in segments: `None` if nothing was being written.
pub(super) fn read_lock<D: Disk>(disk: &D, name: &str) -> Result<Option<(Records, i64)>, Error> {
    let bytes = small(disk, &format!("{name}.lock"), LOCK_BYTES_MAX)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    bytes::lock(&bytes).map(Some).ok_or_else(|| {
        let what = if bytes.len() == LOCK_BYTES_MAX {
            "the checksum of the lock does not fit it"
        } else {
            "a lock has 8 or 12 bytes, or none; if the process was killed while it wrote this one, nothing else was written after it: in that case empty this file, then import again"
        };
        doubt(disk, name, ".lock", Some(0), None, what).into()
    })
}
