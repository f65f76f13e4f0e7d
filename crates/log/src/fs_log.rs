//! Logs on a disk: in one file, and in many.

use std::{ops::Range, path::Path, sync::Arc};

use tinyraftplus_core::{EntryId, HardState, Identity, Restored, Seq};

use crate::{
    Disk, Log, LogError, LogOptions, LogRead, LogStats, OsDisk, Recovery, SnapshotStore, Unknown,
    Write,
    engine::{self, Engine},
};

/// A log in one file of a directory.
///
/// The file grows for ever: its oldest entries can't be given back to the disk. Use [`MultiFsLog`] for a log
/// that is compacted.
pub struct FsLog<D: Disk = OsDisk>(Engine<D>);

/// A log in many files of a directory, its segments, each of at most
/// [`segment_bytes_max`](LogOptions::segment_bytes_max).
///
/// [Compacting](crate::LogExt::compact) it deletes old segments, or uses them again. Opening it reads the
/// newest in full, and two places of each other.
pub struct MultiFsLog<D: Disk = OsDisk>(Engine<D>);

macro_rules! on_disk {
    ($log:ident, $many:literal) => {
        impl $log {
            /// Opens the log of this name in a directory; creates what is missing.
            ///
            /// # Errors
            ///
            /// [`LogError::Locked`] if it is open elsewhere, [`LogError::Corrupt`] if acknowledged bytes are
            /// damaged, [`LogError::WrongEncoder`] or [`LogError::WrongKey`] if it was written with others.
            pub fn open(
                dir: impl AsRef<Path>,
                name: &str,
                options: LogOptions,
            ) -> Result<(Self, Recovery), LogError> {
                let dir = dir.as_ref();
                let disk = OsDisk::create(dir).map_err(|source| LogError::Io {
                    op: "create",
                    path: dir.to_owned(),
                    source,
                })?;
                Self::open_on(&disk, name, options)
            }

            /// Deletes the log of this name, if there is one, whichever kind it is. Nothing else in the
            /// directory is touched.
            ///
            /// # Errors
            ///
            /// [`LogError::Locked`] if it is open.
            #[doc(alias = "del")]
            pub fn destroy(dir: impl AsRef<Path>, name: &str) -> Result<(), LogError> {
                match OsDisk::existing(dir.as_ref()) {
                    Some(disk) => Self::destroy_on(&disk, name),
                    None => engine::Names::new(name, $many).map(drop),
                }
            }
        }

        impl<D: Disk> $log<D> {
            /// Opens the log of this name on a disk; creates what is missing.
            ///
            /// # Errors
            ///
            /// As for a directory.
            pub fn open_on(
                disk: &D,
                name: &str,
                options: LogOptions,
            ) -> Result<(Self, Recovery), LogError> {
                let (engine, recovery) = Engine::open(disk, name, $many, options)?;
                Ok((Self(engine), recovery))
            }

            /// Deletes the log of this name from a disk, if there is one, whichever kind it is.
            ///
            /// # Errors
            ///
            /// [`LogError::Locked`] if it is open.
            pub fn destroy_on(disk: &D, name: &str) -> Result<(), LogError> {
                engine::destroy(disk, name)
            }
        }

        impl<D: Disk> Log for $log<D> {
            fn identity(&self) -> Identity {
                self.0.identity()
            }

            fn restored(&self) -> Restored {
                self.0.restored()
            }

            fn write(&mut self, group: &[Write]) -> Result<(), LogError> {
                self.0.write(group)
            }

            fn reader(&self) -> Arc<dyn LogRead> {
                self.0.reader()
            }

            fn bounds(&self) -> Range<Seq> {
                self.0.bounds()
            }

            fn hard_state(&self) -> HardState {
                self.0.hard_state()
            }

            fn last(&self) -> Option<EntryId> {
                self.0.last()
            }

            fn compacts(&self) -> bool {
                $many
            }

            fn group_bytes_max(&self) -> u64 {
                self.0.group_bytes_max()
            }

            fn batch_bytes_max(&self) -> u64 {
                self.0.batch_bytes_max()
            }

            fn entry_bytes_max(&self) -> u64 {
                self.0.entry_bytes_max()
            }

            fn unknown(&self) -> Unknown {
                self.0.unknown()
            }

            fn stats(&self) -> LogStats {
                self.0.stats()
            }

            fn snapshots(&self) -> Result<SnapshotStore, LogError> {
                self.0.snapshots()
            }

            fn mark(&mut self) -> Result<(), LogError> {
                self.0.mark()
            }

            fn close(&mut self) -> Result<(), LogError> {
                self.0.close()
            }
        }
    };
}

on_disk!(FsLog, false);
on_disk!(MultiFsLog, true);

impl<D: Disk> MultiFsLog<D> {
    /// Waits until the work that nobody waits for is done: sealing full segments, deleting or clearing those
    /// that hold nothing any more, making the next one ready.
    pub fn finish_upkeep(&self) {
        self.0.finish_upkeep();
    }
}
