//! The logs in `fixtures/js-logs`, and how they are imported.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use tinyraftplus_cli::import_js::{Checked, Error, Layout, Options, Source, write_log};
use tinyraftplus_log::sim_disk::SimDisk;
use tinyraftplus_log::{
    Encoder, EntryId, EntryKind, FsLog, Key, LogEntry, LogExt, LogKind, LogOptions, MultiFsLog,
    Seq, Term, XxHashEncoder,
};

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Fixture {
    pub(crate) layout: Layout,
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
}

impl Fixture {
    pub(crate) fn new(layout: Layout, name: &str) -> Self {
        let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/js-logs"));
        Self { layout, name: name.to_owned(), dir: dir.join(layout.name()).join(name) }
    }

    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        for file in fs::read_dir(&self.dir).unwrap() {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            if name != "expected.txt" {
                files.push((name, fs::read(file.path()).unwrap()));
            }
        }
        files.sort();
        files
    }

    pub(crate) fn disk(&self) -> SimDisk {
        let disk = SimDisk::new();
        for (name, bytes) in self.files() {
            disk.put(&name, &bytes);
        }
        disk
    }

    pub(crate) fn is_raft(&self) -> bool {
        self.name == "raft"
    }

    /// Whether its process was killed while it was writing.
    pub(crate) fn is_locked(&self) -> bool {
        self.files()
            .iter()
            .any(|(name, bytes)| name.strip_suffix(".lock").is_some() && !bytes.is_empty())
    }

    /// Everything that can be said about it.
    pub(crate) fn options(&self) -> Options {
        Options {
            layout: Some(self.layout),
            raft: Some(self.is_raft()),
            segments_in_order: true,
            ..self.detecting()
        }
    }

    /// As little as possible.
    pub(crate) fn detecting(&self) -> Options {
        let key = (self.layout == Layout::Encrypted).then(key);
        Options { key, raft: self.is_raft().then_some(true), ..Options::default() }
    }

    /// What the package reads from it.
    pub(crate) fn expected(&self) -> Vec<LogEntry> {
        let text = fs::read_to_string(self.dir.join("expected.txt")).unwrap();
        let mut newest = Term::ZERO;
        text.lines()
            .map(|line| {
                let [seq, term, hex] = line.split(' ').collect::<Vec<_>>()[..] else {
                    panic!("{line}")
                };
                let term = Term::new(term.parse().unwrap());
                let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                let payload: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
                let is_noop = self.is_raft() && payload.is_empty() && term > newest;
                newest = term;
                LogEntry {
                    id: EntryId::new(term, Seq::new(seq.parse().unwrap())),
                    kind: if is_noop { EntryKind::Noop } else { EntryKind::Payload },
                    ends_batch: true,
                    payload: payload.into(),
                }
            })
            .collect()
    }
}

/// All with this layout.
pub(crate) fn of(layout: Layout) -> Vec<Fixture> {
    let dir = Fixture::new(layout, "").dir;
    let names = fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.ends_with("reopened")).collect();
    names.sort();
    names.iter().map(|name| Fixture::new(layout, name)).collect()
}

pub(crate) fn all() -> Vec<Fixture> {
    Layout::ALL.into_iter().flat_map(of).collect()
}

pub(crate) fn key() -> Key {
    Key::from_bytes(std::array::from_fn(|at| u8::try_from(at).unwrap()))
}

/// Imports a log from one disk to another, and reads what is there then.
pub(crate) fn import(disk: &SimDisk, options: Options) -> Result<(Vec<LogEntry>, Checked), Error> {
    let source = Source::open(disk, options)?;
    let checked = source.check(|_| {})?;
    let to = SimDisk::new();
    let encoder: Arc<dyn Encoder> = Arc::new(XxHashEncoder::default());
    let stats = write_log(&source, &checked, &to, &encoder, |_| {})?;
    let entries = read(&to, source.name(), source.kind());
    assert_eq!(u64::try_from(entries.len()).unwrap(), stats.entries);
    Ok((entries, checked))
}

/// What would be imported, without writing it.
pub(crate) fn check(disk: &SimDisk, options: Options) -> Result<Vec<LogEntry>, Error> {
    let mut entries = Vec::new();
    Source::open(disk, options)?.check(|entry| entries.push(entry.clone()))?;
    Ok(entries)
}

/// Opens a log as whoever knows nothing of its past does, and reads it.
pub(crate) fn read(disk: &SimDisk, name: &str, kind: LogKind) -> Vec<LogEntry> {
    let options = LogOptions::default();
    match kind {
        LogKind::OneFile => {
            let (log, recovery) = FsLog::open_on(disk, name, options).unwrap();
            assert!(!recovery.created && recovery.cut.is_none());
            log.iter(..).map(Result::unwrap).collect()
        }
        LogKind::Segments => {
            let (log, recovery) = MultiFsLog::open_on(disk, name, options).unwrap();
            assert!(!recovery.created && recovery.cut.is_none());
            log.iter(..).map(Result::unwrap).collect()
        }
    }
}

/// Files as `Encoder` writes them.
pub(crate) fn put_plain(disk: &SimDisk, name: &str, bodies: &[Vec<u8>]) {
    let (mut off, mut log) = (Vec::new(), Vec::new());
    for (seq, body) in bodies.iter().enumerate() {
        for number in [seq, log.len(), body.len()] {
            off.extend(big_endian(number));
        }
        log.extend(body);
    }
    disk.put(&format!("{name}.off"), &off);
    disk.put(&format!("{name}.log"), &log);
    disk.put(&format!("{name}.lock"), b"");
}

pub(crate) fn big_endian(number: usize) -> [u8; 8] {
    let mut bytes = u64::try_from(number).unwrap().to_le_bytes();
    bytes.reverse();
    bytes
}
