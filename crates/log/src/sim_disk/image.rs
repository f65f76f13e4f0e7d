//! A file, as it is read and as it would be found after a power failure.

use std::{collections::BTreeMap, io, ops::Range};

use super::{
    Doubt, SECTOR_BYTES, SimRng,
    pages::{Pages, Sector},
};
use crate::num::{u64_of, usize_of};

#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    /// What reads see.
    pub(super) seen: Pages,
    /// What is durable. If the length differs, it is in doubt: files only grow.
    durable: Pages,
    /// Sectors written since the last sync, and the versions they had meanwhile; the newest is what is seen.
    unsynced: BTreeMap<u64, Vec<Sector>>,
    /// What can't be read, and why.
    unreadable: Vec<(Range<u64>, io::ErrorKind)>,
}

impl Image {
    /// A file that is durable.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let pages = Pages::from(bytes);
        Self { seen: pages.clone(), durable: pages, ..Self::default() }
    }

    /// Changes it behind everybody's back, durably.
    pub(super) fn replace(&mut self, bytes: &[u8]) {
        let unreadable = std::mem::take(&mut self.unreadable);
        *self = Self { unreadable, ..Self::of(bytes) };
    }

    /// Flips a bit behind everybody's back. What else was not synced is durable then, too.
    pub(super) fn flip(&mut self, bit: u64) -> bool {
        let mut byte = [0];
        if self.seen.read(bit / 8, &mut byte) == 0 {
            return false;
        }
        self.seen.write(bit / 8, &byte.map(|byte| byte ^ 1 << (bit % 8)));
        self.durable = self.seen.clone();
        self.unsynced.clear();
        true
    }

    /// As [`crate::DiskFile::read_at`], unless something on the way can't be read.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let end = offset.saturating_add(u64_of(buffer.len())).min(self.seen.len());
        match self.unreadable.iter().find(|(bad, _)| bad.start < end && offset < bad.end) {
            Some((_, kind)) if offset < end => Err((*kind).into()),
            Some(_) | None => Ok(self.seen.read(offset, buffer)),
        }
    }

    pub(super) fn fail_reads(&mut self, range: Range<u64>, kind: io::ErrorKind) {
        self.unreadable.push((range, kind));
    }

    pub(super) fn mend_reads(&mut self) {
        self.unreadable.clear();
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        for sector in sectors(offset, u64_of(data.len())) {
            let seen = &self.seen;
            self.unsynced
                .entry(sector)
                .and_modify(|versions| versions.push(seen.sector(sector)))
                .or_default();
        }
        self.seen.write(offset, data);
    }

    pub(super) fn sync(&mut self) {
        self.durable.reach(self.seen.len());
        for sector in std::mem::take(&mut self.unsynced).into_keys() {
            self.durable.put_sector(sector, &self.seen.sector(sector));
        }
    }

    /// The kernel gave up writing: it counts its pages as clean and forgets that they differ. All are lost, but
    /// for those that are drawn.
    pub(super) fn fail_sync(&mut self, mut survivors: Option<SimRng>) {
        self.durable.reach(self.seen.len());
        for sector in std::mem::take(&mut self.unsynced).into_keys() {
            self.settle(sector, survivors.as_mut());
        }
    }

    /// Makes durable what a durable write wrote: its own sectors, and as much of the length as they need. What
    /// else was not synced stays in doubt.
    pub(super) fn sync_range(&mut self, offset: u64, count: u64) {
        if count > 0 {
            self.durable.reach(offset + count);
        }
        for sector in sectors(offset, count) {
            self.unsynced.remove(&sector);
            self.durable.put_sector(sector, &self.seen.sector(sector));
        }
    }

    /// The same, when it fails: its own sectors are lost, but for those that are drawn. The length stays in
    /// doubt.
    pub(super) fn fail_sync_range(
        &mut self,
        offset: u64,
        count: u64,
        mut survivors: Option<SimRng>,
    ) {
        for sector in sectors(offset, count) {
            self.unsynced.remove(&sector);
            self.settle(sector, survivors.as_mut());
        }
    }

    /// A write that only readers ever see: no sync finds it, unless its sectors are written again.
    pub(super) fn write_past_disk(&mut self, offset: u64, data: &[u8]) {
        self.seen.write(offset, data);
        for sector in sectors(offset, u64_of(data.len())) {
            self.unsynced.remove(&sector);
        }
    }

    /// A write that the disk put here by mistake. What would lie beyond the end hits nothing of this file.
    pub(super) fn write_astray(&mut self, offset: u64, data: &[u8]) {
        for pages in [&mut self.seen, &mut self.durable] {
            let room = pages.len().saturating_sub(offset).min(u64_of(data.len()));
            pages.write(offset, data.get(..usize_of(room)).unwrap_or_default());
        }
    }

    /// The power fails. Returns how many sectors are not as they were seen.
    pub(super) fn lose(&mut self, file: &str, choose: &mut impl FnMut(&Doubt, u64) -> u64) -> u64 {
        let mut lost = 0;
        if self.durable.len() < self.seen.len()
            && choose(&Doubt::Length { file: file.to_owned() }, 2) > 0
        {
            self.durable.reach(self.seen.len());
        }
        for (sector, versions) in std::mem::take(&mut self.unsynced) {
            if sector * u64_of(SECTOR_BYTES) >= self.durable.len() {
                continue;
            }
            // Versions that repeat are one choice, or most choices would be none.
            let mut distinct = vec![self.durable.sector(sector)];
            for version in versions.into_iter().chain([self.seen.sector(sector)]) {
                if distinct.last() != Some(&version) {
                    distinct.push(version);
                }
            }
            let choices = u64_of(distinct.len());
            if choices < 2 {
                continue;
            }
            let chosen =
                choose(&Doubt::Sector { file: file.to_owned(), sector }, choices).min(choices - 1);
            lost += u64::from(chosen + 1 < choices);
            if let Some(content) = distinct.get(usize_of(chosen)) {
                self.durable.put_sector(sector, content);
            }
        }
        self.durable.clear_beyond();
        self.seen = self.durable.clone();
        lost
    }

    fn settle(&mut self, sector: u64, survivors: Option<&mut SimRng>) {
        if survivors.is_some_and(|rng| rng.below(2) > 0) {
            self.durable.put_sector(sector, &self.seen.sector(sector));
        }
    }
}

fn sectors(offset: u64, count: u64) -> Range<u64> {
    let bytes = u64_of(SECTOR_BYTES);
    if count == 0 { 0..0 } else { offset / bytes..(offset + count).div_ceil(bytes) }
}
