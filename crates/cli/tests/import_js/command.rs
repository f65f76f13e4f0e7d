//! The command as a user meets it: a process, its output, its exit code.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tinyraftplus_cli::import_js::Layout;
use tinyraftplus_log::{
    EncryptingEncoder, FsLog, Log, LogEntry, LogError, LogExt, LogOptions, MultiFsLog, Term,
};

use crate::fixtures::{Fixture, all, key};

fn command(fixture: &Path, out: &Path, more: &[&str]) -> Command {
    let mut process = Command::new(env!("CARGO_BIN_EXE_tinyraftplus"));
    process.arg("import-js").arg(fixture).arg("--out").arg(out).args(more);
    process
}

fn run(fixture: &Path, out: &Path, more: &[&str]) -> Output {
    command(fixture, out, more).output().expect("the binary was built for this test")
}

/// Exit code, stdout, stderr.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {:?}", said(output)))
}

fn key_file(dir: &Path) -> PathBuf {
    let path = dir.join("key");
    fs::write(&path, format!("{}\n", *key().reveal_hex())).unwrap();
    path
}

fn entries(log: &impl Log) -> Vec<LogEntry> {
    log.iter(..).map(Result::unwrap).collect()
}

/// The names in a directory.
fn names(dir: &Path) -> Vec<String> {
    let files = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A copy of a fixture that may be damaged.
fn copy(fixture: &Fixture, dir: &Path) -> PathBuf {
    let copy = dir.join("js");
    fs::create_dir(&copy).unwrap();
    for (name, bytes) in fixture.files() {
        fs::write(copy.join(name), bytes).unwrap();
    }
    copy
}

#[test]
fn every_log_by_the_command() {
    for fixture in all() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("new/log");
        let key_path = key_file(dir.path());
        let mut more = vec!["--layout", fixture.layout.name(), "--json"];
        if fixture.layout == Layout::Encrypted {
            more.extend(["--key-file", key_path.to_str().unwrap()]);
        }
        if fixture.is_raft() {
            more.push("--raft");
        }
        if fixture.name == "segments-13" {
            more.push("--segments-in-order");
        }
        let output = run(&fixture.dir, &out, &more);
        assert_eq!(said(&output).0, Some(0), "{fixture:?} {:?}", said(&output));
        let expected = fixture.expected();
        let object = json(&output);
        assert_eq!(object["entries"], expected.len(), "{object}");
        assert_eq!(object["was_being_written"], fixture.is_locked());
        assert_eq!(names(&dir.path().join("new")), ["log"]);
        let mut options = LogOptions::default();
        if fixture.layout == Layout::Encrypted {
            options.encoder = std::sync::Arc::new(EncryptingEncoder::new(&key()));
        }
        let (found, hard_state) = if fixture.name.starts_with("segments") {
            let (log, recovery) = MultiFsLog::open(&out, "x", options).unwrap();
            assert!(!recovery.created);
            (entries(&log), log.hard_state())
        } else {
            let (mut log, recovery) = FsLog::open(&out, "x", options).unwrap();
            assert!(!recovery.created);
            let found = entries(&log);
            // It goes on.
            log.append("more").unwrap();
            (found, log.hard_state())
        };
        assert_eq!(found, expected, "{fixture:?}");
        let term = expected.last().map_or(Term::ZERO, |entry| entry.id.term);
        assert_eq!((hard_state.term, hard_state.vote), (term, None));
    }
}

/// Fails if what was encrypted lies on the disk in the clear, unless that is asked for.
#[test]
fn an_encrypted_log_stays_encrypted() {
    let fixture = Fixture::new(Layout::Encrypted, "few");
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let key_path = key_file(dir.path());
    let more = ["--key-file", key_path.to_str().unwrap()];
    let (code, out, error) = said(&run(&fixture.dir, &one, &more));
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(out.contains("7 entries, seq 0 to 6") && out.contains("layout encrypted"), "{out}");
    let holds = |dir: &Path| {
        let bytes = fs::read(dir.join("x.log")).unwrap();
        bytes.windows(16).any(|part| part == b"in a transaction")
    };
    assert!(!holds(&one));
    let opened = FsLog::open(&one, "x", LogOptions::default());
    assert!(matches!(opened, Err(LogError::WrongEncoder { .. })));
    let output = run(&fixture.dir, &two, &[more[0], more[1], "--decrypt"]);
    assert_eq!(said(&output).0, Some(0));
    assert!(holds(&two));
    let (log, _) = FsLog::open(&two, "x", LogOptions::default()).unwrap();
    assert_eq!(entries(&log), fixture.expected());
}

#[test]
fn damage_is_told_and_nothing_written() {
    let fixture = Fixture::new(Layout::XxHash, "few");
    let dir = tempfile::tempdir().unwrap();
    let source = copy(&fixture, dir.path());
    let mut bytes = fs::read(source.join("x.log")).unwrap();
    bytes[20] ^= 1;
    fs::write(source.join("x.log"), bytes).unwrap();
    let out = dir.path().join("out");
    let (code, stdout, error) = said(&run(&source, &out, &[]));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    let place = format!("{} at byte 19 (seq 1)", source.join("x.log").display());
    assert!(error.contains(&place) && error.contains("nothing was written"), "{error}");
    let output = run(&source, &out, &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let object = json(&output);
    assert_eq!((&object["imported"], &object["doubts"][0]["byte"]), (&false.into(), &19.into()));
    assert_eq!(names(dir.path()), ["js"]);
}

#[test]
fn questions_are_usage_errors() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    for (layout, name, flag) in [
        (Layout::XxHashHeaders, "few", "--layout xxhash-headers"),
        (Layout::XxHash, "raft", "--raft"),
        (Layout::XxHash, "segments-13", "--segments-in-order"),
    ] {
        let (code, stdout, error) = said(&run(&Fixture::new(layout, name).dir, &out, &[]));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{error}");
        assert!(error.contains(flag) && error.contains("nothing was written"), "{error}");
    }
    let few = Fixture::new(Layout::XxHash, "few").dir;
    for more in [&["--decrypt"][..], &["--raft", "--no-raft"], &["--name", "y"], &["--layout", "z"]]
    {
        assert_eq!(said(&run(&few, &out, more)).0, Some(2), "{more:?}");
    }
    assert_eq!(said(&run(&dir.path().join("none"), &out, &[])).0, Some(2));
    assert!(names(dir.path()).is_empty());
}

/// Fails if anything that is there already is touched.
#[test]
fn a_target_that_exists_is_refused() {
    let few = Fixture::new(Layout::XxHash, "few").dir;
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    assert_eq!(said(&run(&few, &out, &[])).0, Some(0));
    let before = fs::read(out.join("x.log")).unwrap();
    let (code, _, error) = said(&run(&few, &out, &[]));
    assert_eq!(code, Some(2));
    assert!(error.contains("not empty"), "{error}");
    assert_eq!(fs::read(out.join("x.log")).unwrap(), before);
    // Its own directory, a file, and one where another import is under way.
    let copied = copy(&Fixture::new(Layout::XxHash, "few"), dir.path());
    assert_eq!(said(&run(&copied, &copied, &[])).0, Some(2));
    assert_eq!(said(&run(&few, &out.join("x.log"), &[])).0, Some(2));
    fs::create_dir(dir.path().join("two.importing")).unwrap();
    let (code, _, error) = said(&run(&few, &dir.path().join("two"), &[]));
    assert_eq!(code, Some(2));
    assert!(error.contains("two.importing is there") && error.contains("remove it"), "{error}");
    assert_eq!(names(dir.path()), ["js", "out", "two.importing"]);
    // An empty one will do.
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(said(&run(&few, empty.path(), &[])).0, Some(0));
    assert_eq!(names(empty.path()), ["x.lock", "x.log"]);
}

#[test]
fn a_directory_that_is_named_from_within() {
    let few = fs::canonicalize(Fixture::new(Layout::XxHash, "few").dir).unwrap();
    for out in ["out", "./out", "out/", ".", "a/b"] {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let output = command(&few, Path::new(out), &[]).current_dir(&inner).output().unwrap();
        assert_eq!(said(&output).0, Some(0), "{out} {:?}", said(&output));
        let log = FsLog::open(inner.join(out), "x", LogOptions::default()).unwrap().0;
        assert_eq!(entries(&log).len(), 7);
    }
}

/// The package takes any name, and even none.
#[test]
fn a_name_that_no_log_of_ours_can_have() {
    let dir = tempfile::tempdir().unwrap();
    let source = copy(&Fixture::new(Layout::XxHash, "few"), dir.path());
    for name in ["", ".x", "a\\b"] {
        let here = dir.path().join("renamed");
        fs::create_dir(&here).unwrap();
        for end in ["lock", "off", "log"] {
            fs::copy(source.join(format!("x.{end}")), here.join(format!("{name}.{end}"))).unwrap();
        }
        let (code, _, error) = said(&run(&here, &dir.path().join("out"), &[]));
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains("can't name a log") && error.contains("old log"), "{error}");
        fs::remove_dir_all(&here).unwrap();
        assert_eq!(names(dir.path()), ["js"]);
    }
}

/// Killed at any time, an import leaves nothing where a log is looked for, or all of it.
#[test]
fn a_killed_import_leaves_no_half_log() {
    let fixture = Fixture::new(Layout::XxHash, "segments");
    let expected = fixture.expected();
    let (mut whole, mut absent) = (0, 0);
    for round in 0..40_u64 {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let mut process = command(&fixture.dir, &out, &[]);
        process.stdout(Stdio::null()).stderr(Stdio::null());
        let started = std::time::Instant::now();
        let mut child = process.spawn().unwrap();
        // Later and later, until it is through; where that falls does not matter for what must hold.
        while started.elapsed() < std::time::Duration::from_micros(round * 700)
            && child.try_wait().unwrap().is_none()
        {
            std::hint::spin_loop();
        }
        let _ = child.kill();
        child.wait().unwrap();
        if out.exists() {
            let log = MultiFsLog::open(&out, "x", LogOptions::default()).unwrap().0;
            assert_eq!(entries(&log), expected);
            whole += 1;
        } else {
            absent += 1;
        }
    }
    assert!(absent > 0, "{whole} {absent}");
}
