//! A disk that hangs: syncs begin and do not end.

use std::{
    io,
    sync::{Arc, Condvar, MutexGuard, PoisonError},
};

use super::{Inner, SimDisk};

#[derive(Debug, Default)]
pub(super) struct Stall {
    on: bool,
    /// How many syncs hang.
    waiting: u64,
    /// Something changed that somebody may wait for.
    pub(super) wake: Arc<Condvar>,
}

impl SimDisk {
    /// From now on syncs, of the directory and of durable writes too, block their thread until
    /// [`SimDisk::release`], or until the process dies or the power fails. Nothing else ends it.
    pub fn stall(&self) {
        self.inner().stall.on = true;
    }

    /// Syncs that block go on, and later ones don't block. They make durable what there is by then.
    pub fn release(&self) {
        self.inner().release();
    }

    /// Blocks until so many syncs block.
    pub fn wait_until_stalled(&self, count: u64) {
        let mut inner = self.inner();
        while inner.stall.waiting < count {
            inner = wait(inner);
        }
    }
}

impl Inner {
    pub(super) fn release(&mut self) {
        self.stall.on = false;
        self.stall.wake.notify_all();
    }
}

/// Blocks a sync of this life as long as the disk hangs.
pub(super) fn pass(
    mut inner: MutexGuard<'_, Inner>,
    life: u64,
) -> io::Result<MutexGuard<'_, Inner>> {
    if inner.stall.on {
        inner.note("stalled");
        inner.stall.waiting += 1;
        inner.stall.wake.notify_all();
        while inner.stall.on && inner.alive(life).is_ok() {
            inner = wait(inner);
        }
        inner.stall.waiting -= 1;
    }
    inner.alive(life)?;
    Ok(inner)
}

fn wait(inner: MutexGuard<'_, Inner>) -> MutexGuard<'_, Inner> {
    let wake = Arc::clone(&inner.stall.wake);
    wake.wait(inner).unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Disk, DiskFile, Open};

    /// Fails if a sync of any kind passes while the disk hangs (then it is this test that hangs), or hangs on
    /// after it was released.
    #[test]
    fn syncs_wait_until_released() {
        let disk = SimDisk::new();
        disk.put("f", &[1; 512]);
        let file = disk.open("f", Open::Write).unwrap();
        disk.stall();
        std::thread::scope(|scope| {
            let syncs = [
                scope.spawn(|| file.sync_data()),
                scope.spawn(|| file.write_durable_at(0, &[2; 512])),
                scope.spawn(|| disk.sync_dir()),
            ];
            disk.wait_until_stalled(3);
            assert_eq!(disk.contents("f").unwrap()[0], 2, "others go on meanwhile");
            let lost = disk.fork();
            lost.power_loss_choosing(|_, _| 0);
            assert_eq!(lost.contents("f").unwrap()[0], 1);
            assert_eq!(disk.stats().syncs, 0);
            disk.release();
            for sync in syncs {
                sync.join().unwrap().unwrap();
            }
        });
        assert_eq!((disk.stats().syncs, disk.stats().faults), (2, 3));
        file.sync_data().unwrap();
    }

    /// Fails if a process that died goes on when the disk does, or hangs if its death wakes nobody.
    #[test]
    fn a_crash_ends_what_hangs() {
        let ends: [fn(&SimDisk); 3] = [
            SimDisk::kill,
            |disk| disk.power_loss_choosing(|_, _| 0),
            |disk| {
                disk.crash_after(0);
                disk.sync_dir().unwrap_err();
            },
        ];
        for end in ends {
            let disk = SimDisk::new();
            disk.put("f", &[1; 512]);
            let file = disk.open("f", Open::Write).unwrap();
            file.write_at(0, &[2; 512]).unwrap();
            disk.stall();
            std::thread::scope(|scope| {
                let sync = scope.spawn(|| file.sync_data());
                disk.wait_until_stalled(1);
                end(&disk);
                sync.join().unwrap().unwrap_err();
            });
            assert_eq!(disk.stats().syncs, 0);
            disk.kill();
            disk.open("f", Open::Write).unwrap().sync_data().unwrap();
        }
    }
}
