//! A log on a disk that can fail, and the words of the scenarios.

use std::io::ErrorKind;

use bytes::Bytes;
use tinyraftplus_core::Seq;
use tinyraftplus_log::{Effect, Log, LogError, LogExt, sim_disk::SimDisk};

use crate::Kind;

/// A log on a disk of its own.
pub(crate) struct Place {
    pub(crate) kind: Kind,
    pub(crate) disk: SimDisk,
    pub(crate) log: Option<Box<dyn Log>>,
}

impl Place {
    pub(crate) fn new(kind: Kind) -> Self {
        let disk = SimDisk::new();
        let log = Some((kind.open)(&disk).unwrap());
        Self { kind, disk, log }
    }

    pub(crate) fn log(&mut self) -> &mut dyn Log {
        &mut **self.log.as_mut().unwrap()
    }

    /// Bytes that take as much of a segment as `count` do in the original.
    pub(crate) fn payload(&self, count: usize, mark: &str) -> Bytes {
        let mut payload = mark.as_bytes().to_vec();
        payload.resize(count * self.kind.scale, b'.');
        payload.into()
    }

    pub(crate) fn append(&mut self, payload: &str) -> u64 {
        self.log().append(Bytes::copy_from_slice(payload.as_bytes())).unwrap().get()
    }

    /// The first seq, as the original.
    pub(crate) fn batch(&mut self, payloads: &[&str]) -> u64 {
        let payloads = payloads.iter().map(|text| Bytes::copy_from_slice(text.as_bytes()));
        self.log().append_batch(payloads).unwrap().start.get()
    }

    /// Checks the newest seq and what is there; the seq of an empty log is `None`.
    #[track_caller]
    pub(crate) fn is(&mut self, seq: Option<u64>, head: &str) {
        let log = self.log();
        assert_eq!(log.end().before().map(Seq::get), seq);
        let found = log.head().unwrap();
        assert_eq!(found.as_ref().map(|head| head.id.seq.get()), seq);
        let found = found.map(|head| head.payload).unwrap_or_default();
        assert!(found == head || head.len() < found.len() && found.starts_with(head.as_bytes()));
        assert!(head.is_empty() == found.is_empty());
        // The head is what an iteration ends with, too.
        let last = log.iter(..).last().transpose().unwrap();
        assert_eq!(last.map(|entry| entry.payload).unwrap_or_default(), found);
    }

    pub(crate) fn reopen(&mut self) {
        self.log().close().unwrap();
        self.log = None;
        self.log = Some((self.kind.open)(&self.disk).unwrap());
    }

    /// As by a new object on the files of one that nobody closed.
    pub(crate) fn reopen_unclosed(&mut self) {
        self.log = None;
        self.log = Some((self.kind.open)(&self.disk).unwrap());
    }

    pub(crate) fn segments(&mut self) -> u64 {
        self.log().stats().segments
    }

    /// A call fails because the disk is full, and nothing happened.
    #[track_caller]
    pub(crate) fn refused_for_space<T: std::fmt::Debug>(
        &mut self,
        call: impl FnOnce(&mut dyn Log) -> Result<T, LogError>,
    ) {
        self.disk.set_capacity(Some(self.disk.bytes_used()));
        let error = call(self.log()).unwrap_err();
        assert!(matches!(error, LogError::NoSpace { .. }), "{error:?}");
        assert_eq!((error.effect(), error.is_fatal()), (Effect::None, false));
        self.disk.set_capacity(None);
    }

    /// Appends until there is no room for an append.
    pub(crate) fn fill_the_disk(&mut self) {
        self.disk.set_capacity(Some(self.disk.bytes_used()));
        for size in [4000, 100] {
            let payload = Bytes::from(vec![1; size]);
            let full = (0..10_000).find_map(|_| self.log().append(payload.clone()).err()).unwrap();
            assert!(matches!(full, LogError::NoSpace { .. }), "{full:?}");
        }
    }

    /// On a copy of the disk: a call fails because a sync does. After the power failed too it never happened;
    /// after a restart it did or did not, whole.
    #[track_caller]
    pub(crate) fn fails_for_good<T: std::fmt::Debug>(
        &self,
        call: impl Fn(&mut dyn Log) -> Result<T, LogError>,
        may_be: &[(u64, &str)],
    ) {
        for power in [true, false] {
            let disk = self.disk.fork();
            disk.kill();
            let mut log = (self.kind.open)(&disk).unwrap();
            let before: Vec<_> = log.iter(..).map(Result::unwrap).collect();
            disk.fail_sync(0, ErrorKind::Other);
            let error = call(&mut *log).unwrap_err();
            assert!(matches!(error, LogError::WriteFailed { .. }), "{error:?}");
            assert_eq!((error.effect(), error.is_fatal()), (Effect::Possible, true));
            // Nobody may believe in anything that was not synced.
            assert_eq!(log.iter(..).map(Result::unwrap).collect::<Vec<_>>(), before);
            assert!(matches!(log.append("more"), Err(LogError::Poisoned)));
            drop(log);
            if power {
                disk.power_loss_choosing(|_, _| 0);
            } else {
                disk.kill();
            }
            let mut log = (self.kind.open)(&disk).unwrap();
            let after: Vec<_> = log.iter(..).map(Result::unwrap).collect();
            if after != before {
                assert!(!power, "it came back: {after:?}");
                let words: Vec<_> =
                    after.iter().map(|entry| (entry.id.seq.get(), &*entry.payload)).collect();
                let may_be: Vec<_> =
                    may_be.iter().map(|(seq, text)| (*seq, text.as_bytes())).collect();
                assert_eq!(words, may_be);
            }
            log.append("works on").unwrap();
        }
    }
}

/// More than the space that is kept ahead, so that a full disk shows, and less than a segment.
pub(crate) fn large() -> Bytes {
    vec![7; 50_000].into()
}
