//! The bytes of one file, as they are read and as they would be found after a power failure.

use std::collections::BTreeMap;

use super::{Doubt, SECTOR_BYTES, SimRng};
use crate::num::{u64_of, usize_of};

#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    /// What reads see.
    pub(super) seen: Vec<u8>,
    /// What is durable.
    pub(super) durable: Vec<u8>,
    /// Versions of sectors since the last sync.
    pub(super) versions: BTreeMap<u64, Vec<[u8; SECTOR_BYTES]>>,
    /// The length changed since the last sync.
    pub(super) resized: bool,
}

impl Image {
    fn sector(bytes: &[u8], sector: u64) -> [u8; SECTOR_BYTES] {
        let mut copy = [0; SECTOR_BYTES];
        let at = usize_of(sector) * SECTOR_BYTES;
        let there = bytes.get(at..bytes.len().min(at + SECTOR_BYTES)).unwrap_or_default();
        copy.iter_mut().zip(there).for_each(|(to, from)| *to = *from);
        copy
    }

    fn put_sector(bytes: &mut [u8], sector: u64, content: &[u8; SECTOR_BYTES]) {
        let at = usize_of(sector) * SECTOR_BYTES;
        let end = bytes.len().min(at + SECTOR_BYTES);
        if let Some(there) = bytes.get_mut(at..end) {
            there.iter_mut().zip(content).for_each(|(to, from)| *to = *from);
        }
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        let (start, end) = (usize_of(offset), usize_of(offset) + data.len());
        if self.seen.len() < end {
            self.seen.resize(end, 0);
            self.resized = true;
        }
        if let Some(there) = self.seen.get_mut(start..end) {
            there.copy_from_slice(data);
        }
        if !data.is_empty() {
            for sector in start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
                let sector = u64_of(sector);
                self.versions.entry(sector).or_default().push(Self::sector(&self.seen, sector));
            }
        }
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.seen.len(), 0);
        for sector in std::mem::take(&mut self.versions).into_keys() {
            Self::put_sector(&mut self.durable, sector, &Self::sector(&self.seen, sector));
        }
        self.resized = false;
    }

    /// Makes durable what a durable write wrote: its own sectors, and as much of the length as they need. What
    /// else was not synced stays in doubt.
    pub(super) fn sync_range(&mut self, start: u64, end: u64) {
        self.reach(end);
        for sector in Self::sectors(start, end) {
            self.versions.remove(&sector);
            Self::put_sector(&mut self.durable, sector, &Self::sector(&self.seen, sector));
        }
    }

    /// The same, when it fails: its own sectors are lost, but for those that are drawn.
    pub(super) fn fail_sync_range(&mut self, start: u64, end: u64, mut survivors: Option<SimRng>) {
        self.reach(end);
        for sector in Self::sectors(start, end) {
            self.versions.remove(&sector);
            if survivors.as_mut().is_some_and(|rng| rng.below(2) > 0) {
                Self::put_sector(&mut self.durable, sector, &Self::sector(&self.seen, sector));
            }
        }
    }

    fn reach(&mut self, end: u64) {
        let end = usize_of(end);
        if self.durable.len() < end {
            self.durable.resize(end, 0);
            self.resized = self.durable.len() < self.seen.len();
        }
    }

    fn sectors(start: u64, end: u64) -> std::ops::Range<u64> {
        let bytes = u64_of(SECTOR_BYTES);
        if start == end { 0..0 } else { start / bytes..end.div_ceil(bytes) }
    }

    /// The kernel gave up writing: it counts its pages as clean and forgets that they differ.
    pub(super) fn fail_sync(&mut self, survivors: Option<SimRng>) {
        self.durable.resize(self.seen.len(), 0);
        let mut survivors = survivors;
        for sector in std::mem::take(&mut self.versions).into_keys() {
            if survivors.as_mut().is_some_and(|rng| rng.below(2) > 0) {
                Self::put_sector(&mut self.durable, sector, &Self::sector(&self.seen, sector));
            }
        }
        self.resized = false;
    }

    pub(super) fn lose(&mut self, file: &str, choose: &mut impl FnMut(&Doubt, u64) -> u64) -> u64 {
        let mut lost = 0;
        if self.resized && choose(&Doubt::Length { file: file.to_owned() }, 2) > 0 {
            self.durable.resize(self.seen.len(), 0);
        }
        for (sector, versions) in std::mem::take(&mut self.versions) {
            if usize_of(sector) * SECTOR_BYTES >= self.durable.len() {
                continue;
            }
            // Versions that repeat are one choice, or most choices would be none.
            let mut distinct = vec![Self::sector(&self.durable, sector)];
            for version in versions {
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
                Self::put_sector(&mut self.durable, sector, content);
            }
        }
        self.seen.clone_from(&self.durable);
        self.resized = false;
        lost
    }
}
