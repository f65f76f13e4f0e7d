//! `tinyraftplus import-js`: a log of the JavaScript package, written anew.
//!
//! The new log is written into a directory beside the one that is asked for, read again and compared, and only then
//! gets its name. A crash before that leaves that directory, and nothing where a log is looked for.

use crate::error::{Error, explain};
use crate::log::{bytes, grouped, read_key};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tinyraftplus_cli::import_js::{
    Checked, Error as JsError, Layout, Options, RolledBack, Source, write_log,
};
use tinyraftplus_log::{
    Encoder, EncryptingEncoder, Key, LogError, LogKind, LogStats, OsDisk, XxHashEncoder,
};

/// Behind the name of the directory that is asked for, until it is whole.
const STAGING: &str = ".importing";

/// Which log, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory the log is in: NAME.lock, NAME.off and NAME.log, or segments NAME-m0.off and so on
    dir: PathBuf,
    /// The directory for the new log; it must be empty, or not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The name of the log; needed only if the directory has several
    #[arg(long)]
    name: Option<String>,
    /// A file with the key of an encrypted log: 64 hexadecimal digits; the new log is encrypted with it, too
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Write the new log of an encrypted one unencrypted
    #[arg(long, requires = "key_file")]
    decrypt: bool,
    /// Which encoder wrote the log; needed only if its bytes don't tell
    #[arg(long, value_enum)]
    layout: Option<LayoutArg>,
    #[command(flatten)]
    known: Known,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What no byte tells.
#[expect(clippy::doc_markdown, reason = "help texts")]
#[derive(Debug, clap::Args)]
struct Known {
    /// A RaftNode wrote the log: take the term off each entry, and keep it as the entry's term
    #[arg(long, conflicts_with = "no_raft")]
    raft: bool,
    /// No RaftNode wrote the log, although it looks as if: keep entries as they are
    #[arg(long)]
    no_raft: bool,
    /// Take 11 segments or more in the order of their numbers: the program that wrote them was never restarted while
    /// there were more than 10
    #[arg(long)]
    segments_in_order: bool,
}

#[expect(clippy::doc_markdown, reason = "help texts")]
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LayoutArg {
    /// Encoder, the default: no checksums
    Plain,
    /// XxHashEncoder(): checksums of records and bodies
    Xxhash,
    /// XxHashEncoder(false): checksums of records only
    XxhashHeaders,
    /// EncryptingEncoder of 0.2.2
    Encrypted,
}

impl LayoutArg {
    const fn layout(self) -> Layout {
        match self {
            Self::Plain => Layout::Plain,
            Self::Xxhash => Layout::XxHash,
            Self::XxhashHeaders => Layout::XxHashHeaders,
            Self::Encrypted => Layout::Encrypted,
        }
    }
}

/// Imports one.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let target = Target::new(&args.out)?;
    let Some(disk) = OsDisk::existing(&args.dir) else {
        return Err(Error::usage(format!("{} is not a directory; name one", args.dir.display())));
    };
    let key = args.key_file.as_deref().map(read_key).transpose()?;
    let options = Options {
        name: args.name.clone(),
        layout: args.layout.map(LayoutArg::layout),
        key: key.clone(),
        raft: (args.known.raft || args.known.no_raft).then_some(args.known.raft),
        segments_in_order: args.known.segments_in_order,
    };
    let refused = |error| refuse(args, error);
    let source = Source::open(&disk, options).map_err(refused)?;
    let bar = Bar::new(args.json, source.entries());
    let checked = source.check(|entry| bar.at("checking", entry.id.seq.get())).map_err(refused)?;
    let encoder = encoder(key.as_ref().filter(|_| !args.decrypt));
    let staging = target.stage()?;
    let staged = OsDisk::existing(&staging.path).ok_or_else(|| {
        Error::failed(format!("{} was removed while it was in use", staging.path.display()))
    })?;
    let written = write_log(&source, &checked, &staged, &encoder, |done| {
        bar.at("writing and comparing", checked.entries.saturating_add(done));
    });
    let stats = written.map_err(refused)?;
    staging.publish(&target)?;
    bar.end();
    tell(args, &source, &checked, &stats, &target);
    Ok(())
}

fn encoder(key: Option<&Key>) -> Arc<dyn Encoder> {
    match key {
        Some(key) => Arc::new(EncryptingEncoder::new(key)),
        None => Arc::new(XxHashEncoder::default()),
    }
}

/// Says why not, on stdout too if a program reads that.
fn refuse(args: &Args, error: JsError) -> Error {
    const NOTHING: &str = "nothing was written";
    if args.json
        && let JsError::Doubtful { first, more } = &error
    {
        let doubts: Vec<Value> = first
            .iter()
            .map(|it| json!({ "file": it.path.display().to_string(), "byte": it.byte, "seq": it.seq, "what": it.what }))
            .collect();
        crate::out::line(format_args!(
            "{}",
            json!({ "imported": false, "doubts": doubts, "more": more })
        ));
    }
    match error {
        JsError::Ask(what) => Error::usage(format!("{what}; {NOTHING}")),
        JsError::Doubtful { .. } => Error::failed(format!("{error}\n{NOTHING}")),
        JsError::Log(cause @ LogError::BadName(_)) => {
            Error::usage(format!("{cause}; give the files of the old log such a name; {NOTHING}"))
        }
        JsError::Io { .. } | JsError::Log(_) | JsError::Changed(_) | JsError::NotTheSame(_) => {
            Error::failed(format!("{}; {NOTHING}", explain("import-js", &error)))
        }
    }
}

/// Where the new log goes.
struct Target {
    /// The directory that is asked for.
    out: PathBuf,
    /// The one it lies in.
    parent: PathBuf,
    staging: PathBuf,
}

impl Target {
    fn new(out: &Path) -> Result<Self, Error> {
        let shown = out.display();
        let failed = |error| Error::failed(explain(format_args!("can't look at {shown}"), &error));
        let full = match fs::read_dir(out).map(|mut files| files.next().is_none()) {
            Ok(true) => fs::canonicalize(out).map_err(failed)?,
            Ok(false) => {
                return Err(Error::usage(format!(
                    "--out {shown} is there already and not empty; name a directory that does not exist yet"
                )));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => out.to_owned(),
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(Error::usage(format!("--out {shown} is not a directory")));
            }
            Err(error) => return Err(failed(error)),
        };
        let Some(name) = full.file_name() else {
            return Err(Error::usage(format!(
                "--out {shown} can't be made; name a directory that can"
            )));
        };
        let parent = match full.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        let mut staging = name.to_owned();
        staging.push(STAGING);
        Ok(Self { staging: parent.join(staging), out: parent.join(name), parent })
    }

    /// Makes the directory in which the log is written.
    fn stage(&self) -> Result<Staging, Error> {
        let failed = |path: &Path, error: std::io::Error| {
            Error::failed(explain(format_args!("can't create {}", path.display()), &error))
        };
        OsDisk::create(&self.parent).map_err(|error| failed(&self.parent, error))?;
        match fs::create_dir(&self.staging) {
            Ok(()) => Ok(Staging { path: self.staging.clone(), published: false }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::usage(format!(
                "{} is there: another import into {} is running, or was killed; if none is running, remove it and import again",
                self.staging.display(),
                self.out.display()
            ))),
            Err(error) => Err(failed(&self.staging, error)),
        }
    }
}

/// The directory in which the log is written, removed if that fails.
struct Staging {
    path: PathBuf,
    published: bool,
}

impl Staging {
    /// Gives the log its name, durably.
    fn publish(mut self, target: &Target) -> Result<(), Error> {
        let sync = |path: &Path| File::open(path).and_then(|dir| dir.sync_all());
        let failed = |error: &std::io::Error| {
            let (from, to) = (self.path.display(), target.out.display());
            let what = format!(
                "can't rename {from} to {to}, so nothing was written; name a directory that does not exist yet"
            );
            Error::failed(explain(what, error))
        };
        sync(&self.path).map_err(|error| failed(&error))?;
        // Over an empty directory, too; refused if there is anything in it by now.
        fs::rename(&self.path, &target.out).map_err(|error| failed(&error))?;
        let synced = sync(&target.parent).map_err(|error| {
            let out = target.out.display();
            Error::failed(explain(
                format_args!("the log is in {out}, and may be gone after a power failure"),
                &error,
            ))
        });
        self.published = true;
        synced
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // Whatever is left says itself what it is when somebody imports again.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// On stderr, and only if that is a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new(json: bool, entries: u64) -> Self {
        // Each entry is read, written, and read again.
        let bar =
            if json { ProgressBar::hidden() } else { ProgressBar::new(entries.saturating_mul(3)) };
        if let Ok(style) = ProgressStyle::with_template("  {bar:40} {percent} % {msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn at(&self, what: &'static str, done: u64) {
        if self.0.position() == 0 || self.0.message() != what {
            self.0.set_message(what);
        }
        self.0.set_position(done);
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.end();
    }
}

fn tell(
    args: &Args,
    source: &Source<OsDisk>,
    checked: &Checked,
    stats: &LogStats,
    target: &Target,
) {
    let (name, out) = (source.name(), target.out.display());
    let layout = source.layout().map(Layout::name);
    let rolled_back = checked.rolled_back;
    if args.json {
        let kind = match source.kind() {
            LogKind::OneFile => "one file",
            LogKind::Segments => "segments",
        };
        let object = json!({
            "imported": true, "name": name, "kind": kind, "layout": layout,
            "bodies_checked": source.layout().is_some_and(Layout::checks_bodies),
            "entries": checked.entries, "payload_bytes": checked.payload_bytes,
            "term": checked.last_term.get(), "empty_entries_of_unknown_origin": checked.empty,
            "was_being_written": source.locked(),
            "rolled_back": { "entries": rolled_back.entries, "bytes": rolled_back.bytes },
            "out": out.to_string(), "bytes": stats.bytes, "segments": stats.segments,
        });
        crate::out::line(format_args!("{object}"));
        return;
    }
    let say = |text: std::fmt::Arguments<'_>| crate::out::line(text);
    let entries = match checked.entries {
        0 => "no entries".to_owned(),
        1 => "1 entry, seq 0".to_owned(),
        count => format!("{} entries, seq 0 to {}", grouped(count), count - 1),
    };
    say(format_args!(
        "{name}: {entries}, {} of payload{}, now in {out}.",
        bytes(checked.payload_bytes),
        layout.map_or_else(String::new, |layout| format!(", layout {layout}"))
    ));
    if source.locked() {
        let left_out = match rolled_back {
            RolledBack { entries: 0, bytes: 0 } => "nothing was there".to_owned(),
            RolledBack { entries: 1, bytes: it } => {
                format!("one entry with {} is left out", bytes(it))
            }
            RolledBack { entries, bytes: it } => {
                format!("{} entries with {} are left out", grouped(entries), bytes(it))
            }
        };
        say(format_args!(
            "The program that wrote it died while it was writing; of what it had not committed, {left_out}."
        ));
    }
    if source.layout().is_some_and(|layout| !layout.checks_bodies()) {
        say(format_args!(
            "Its bodies had no checksums, so nobody can tell whether they are what was appended."
        ));
    }
    if checked.empty > 0 {
        say(format_args!(
            "{} empty entries could be a user's or a leader's: they are kept as empty payloads.",
            grouped(checked.empty)
        ));
    }
}
