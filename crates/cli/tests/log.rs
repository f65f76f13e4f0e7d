//! `tinyraftplus log` as a user meets it: a process, its output, its exit code.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use serde_json::Value;
use tinyraftplus_log::{
    EncryptingEncoder, FsLog, HardState, Key, Log, LogExt, LogOptions, MultiFsLog, Term, Write,
};

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs `tinyraftplus log COMMAND DIR ..`.
fn log(command: &str, dir: &Path, more: &[&str]) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_tinyraftplus"));
    process.args(["log", command, path(dir)]).args(more);
    process.output().expect("the binary was built for this test")
}

/// Exit code, stdout, stderr.
fn said(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", text(&output.stdout), text(&output.stderr))
    })
}

/// A log in one file: `count` entries, the first a batch of two.
fn one(dir: &Path, name: &str, count: usize) {
    let (mut log, _) = FsLog::open(dir, name, LogOptions::default()).unwrap();
    log.append_batch(["entry 0", "entry 1"]).unwrap();
    for number in 2..count {
        log.append(format!("entry {number}")).unwrap();
    }
    log.close().unwrap();
}

/// A log in segments of 64 KiB.
fn many(dir: &Path, count: usize) {
    let mut options = LogOptions::default();
    options.segment_bytes_max = 64 << 10;
    options.group_bytes_max = 64 << 10;
    options.batch_bytes_max = 16 << 10;
    let (mut log, _) = MultiFsLog::open(dir, "x", options).unwrap();
    for _ in 0..count {
        log.append(vec![7; 1000]).unwrap();
    }
    log.finish_upkeep();
    log.close().unwrap();
}

fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("x.{number:020}.seg"))
}

/// Changes a byte of a file.
fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// What lies in a directory, byte by byte.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut found: Vec<_> =
        files.map(|file| (file.clone(), fs::read(file).unwrap_or_default())).collect();
    found.sort();
    found
}

#[test]
fn inspect_shows_what_a_log_holds_and_its_files() {
    let dir = tempfile::tempdir().unwrap();
    many(dir.path(), 200);
    let before = contents(dir.path());
    let (code, out, error) = said(&log("inspect", dir.path(), &[]));
    assert_eq!((code, error.as_str()), (Some(0), ""));
    for part in [
        "x: a log in segments",
        "XXH3",
        "200: seq 0 to 199",
        "sealed",
        "newest",
        "[#",
        "seq 51 to 101",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let object = json(&log("inspect", dir.path(), &["--json"]));
    assert_eq!((&object["entries"], &object["durable_end"]), (&200.into(), &200.into()));
    let segments = object["segments"].as_array().unwrap();
    assert!(segments.len() > 2 && segments[0]["seqs"]["start"] == 0, "{object}");
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn verify_says_no_damage_or_names_it() {
    let dir = tempfile::tempdir().unwrap();
    many(dir.path(), 200);
    let (code, out, error) = said(&log("verify", dir.path(), &[]));
    assert_eq!((code, error.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("x: no damage") && out.contains("200 entries"), "{out}");
    // In the middle of a file that opening does not read.
    flip(&segment(dir.path(), 1), 20_000);
    let output = log("verify", dir.path(), &[]);
    let (code, out, error) = said(&output);
    assert_eq!(code, Some(1));
    assert!(out.contains("00001.seg at byte") && out.contains("(seq "), "{out}");
    assert_eq!(error, "error: x is damaged in one place\n");
    let output = log("verify", dir.path(), &["--json"]);
    let object = json(&output);
    assert_eq!((output.status.code(), &object["undamaged"]), (Some(1), &false.into()));
    assert!(object["damage"][0]["seq"].as_u64().unwrap() > 50, "{object}");
    assert!(object["damage"][0]["what"].as_str().unwrap().contains("frame"), "{object}");
}

#[test]
fn dump_prints_entries_and_goes_on_behind_damage() {
    let dir = tempfile::tempdir().unwrap();
    one(dir.path(), "a", 6);
    let (code, out, _) = said(&log("dump", dir.path(), &["--from", "1", "--before", "4"]));
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "1@0 \"entry 1\"\n2@0 \"entry 2\"\n3@0 \"entry 3\"\n")
    );
    let output = log("dump", dir.path(), &["--json"]);
    let lines: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    let first = serde_json::json!({
        "seq": 0, "term": 0, "kind": "payload", "ends_batch": false, "payload": "ZW50cnkgMA=="
    });
    assert_eq!((&lines[0], &lines[1]["ends_batch"]), (&first, &true.into()));
    // The payload of entry 3.
    let file = dir.path().join("a.log");
    let bytes = fs::read(&file).unwrap();
    let at = bytes.windows(7).position(|bytes| bytes == b"entry 3").unwrap();
    flip(&file, at);
    let (code, out, error) = said(&log("dump", dir.path(), &[]));
    assert_eq!(code, Some(1));
    assert!(!out.contains("3@0") && out.contains("5@0 \"entry 5\""), "{out}");
    assert!(error.contains("a.log is corrupt at byte") && error.contains("(seq 3)"), "{error}");
}

#[test]
fn a_reader_who_has_seen_enough_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    many(dir.path(), 500);
    let mut process = Command::new(env!("CARGO_BIN_EXE_tinyraftplus"));
    process.args(["log", "dump", path(dir.path())]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = process.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}

#[test]
fn trim_and_compact_say_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    many(dir.path(), 300);
    let (code, out, error) = said(&log("trim", dir.path(), &["249"]));
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(
        out.starts_with("x: dropped 50 entries. It had seq 0 to 299, and has seq 0 to 249."),
        "{out}"
    );
    let (_, out, _) = said(&log("trim", dir.path(), &["249"]));
    assert!(out.contains("nothing to drop"), "{out}");
    let object = json(&log("compact", dir.path(), &["200", "--json"]));
    assert_eq!((&object["dropped"], &object["after"]["start"]), (&200.into(), &200.into()));
    assert!(
        object["after"]["segments"].as_u64() < object["before"]["segments"].as_u64(),
        "{object}"
    );
    let (code, _, error) = said(&log("trim", dir.path(), &["100"]));
    assert_eq!(code, Some(1));
    assert!(error.contains("before the start of the log, 200"), "{error}");
    assert_eq!(log("trim", dir.path(), &["none"]).status.code(), Some(0));
    let object = json(&log("verify", dir.path(), &["--json"]));
    assert_eq!((&object["entries"], &object["undamaged"]), (&0.into(), &true.into()));
}

#[test]
fn a_log_in_one_file_is_not_compacted_and_an_open_one_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    one(dir.path(), "a", 4);
    let (code, _, error) = said(&log("compact", dir.path(), &["2"]));
    assert_eq!(code, Some(1));
    assert!(error.contains("a log in one file"), "{error}");
    let (mut open, _) = FsLog::open(dir.path(), "a", LogOptions::default()).unwrap();
    let (code, _, error) = said(&log("trim", dir.path(), &["2"]));
    assert_eq!(code, Some(1));
    assert!(error.contains("locked") && error.contains("close it there first"), "{error}");
    // Who only reads needs no lock.
    for command in ["inspect", "verify", "dump"] {
        assert_eq!(log(command, dir.path(), &[]).status.code(), Some(0), "{command}");
    }
    assert_eq!(open.end().get(), 4);
    open.close().unwrap();
}

/// A member has promised others what its log holds.
#[test]
fn the_log_of_a_raft_member_is_changed_only_when_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    one(dir.path(), "node-1", 4);
    let (mut open, _) = FsLog::open(dir.path(), "node-1", LogOptions::default()).unwrap();
    let hard_state = HardState { term: Term::new(7), vote: Some(open.identity()) };
    open.write(&[Write { hard_state: Some(hard_state), ..Write::default() }]).unwrap();
    open.close().unwrap();
    let before = contents(dir.path());
    let (code, _, error) = said(&log("trim", dir.path(), &["1"]));
    assert_eq!(code, Some(1));
    assert!(error.contains("--force-raft-member"), "{error}");
    assert_eq!(contents(dir.path()), before);
    assert_eq!(log("trim", dir.path(), &["1", "--force-raft-member"]).status.code(), Some(0));
    let object = json(&log("inspect", dir.path(), &["--json"]));
    assert_eq!((&object["term"], &object["end"]), (&7.into(), &2.into()), "its vote is kept");
    assert!(object["vote"].is_string());
}

#[test]
fn an_encrypted_log_needs_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let key = |byte| Key::from_bytes([byte; 32]);
    let key_file = |byte| {
        let file = dir.path().join(format!("key-{byte}"));
        fs::write(&file, key(byte).reveal_hex().as_bytes()).unwrap();
        file
    };
    let mut options = LogOptions::default();
    options.encoder = Arc::new(EncryptingEncoder::new(&key(1)));
    let (mut open, _) = FsLog::open(dir.path(), "secret", options).unwrap();
    open.append("nobody knows").unwrap();
    open.close().unwrap();
    let (right, wrong) = (key_file(1), key_file(2));
    let (code, out, _) = said(&log("dump", dir.path(), &["--key-file", path(&right)]));
    assert_eq!((code, out.as_str()), (Some(0), "0@0 \"nobody knows\"\n"));
    for command in ["inspect", "verify", "dump"] {
        let (code, out, error) = said(&log(command, dir.path(), &[]));
        assert_eq!((code, out.as_str()), (Some(1), ""));
        assert!(error.contains("--key-file FILE"), "{error}");
        let (code, out, error) = said(&log(command, dir.path(), &["--key-file", path(&wrong)]));
        assert_eq!((code, out.as_str()), (Some(1), ""));
        assert!(error.contains("another key") && error.contains("--key-file"), "{error}");
    }
    fs::write(&wrong, "not a key").unwrap();
    let (code, _, error) = said(&log("dump", dir.path(), &["--key-file", path(&wrong)]));
    assert_eq!(code, Some(2));
    assert!(error.contains("key-2") && !error.contains("not a key"), "{error}");
    let plain = tempfile::tempdir().unwrap();
    one(plain.path(), "a", 3);
    let (code, _, error) = said(&log("dump", plain.path(), &["--key-file", path(&right)]));
    assert_eq!(code, Some(1));
    assert!(error.contains("not encrypted"), "{error}");
}

#[test]
fn a_log_is_chosen_by_name_if_there_are_several() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, error) = said(&log("inspect", dir.path(), &[]));
    assert_eq!(code, Some(2));
    assert!(error.contains("there is no log in"), "{error}");
    one(dir.path(), "a", 3);
    one(dir.path(), "b", 4);
    let (code, _, error) = said(&log("inspect", dir.path(), &[]));
    assert_eq!(code, Some(2));
    assert!(error.contains("a, b; choose one with --name"), "{error}");
    let object = json(&log("inspect", dir.path(), &["--name", "b", "--json"]));
    assert_eq!((&object["name"], &object["entries"]), (&"b".into(), &4.into()));
    let (code, _, error) = said(&log("inspect", dir.path(), &["--name", "c"]));
    assert_eq!(code, Some(2));
    assert!(error.contains("no log named c") && error.contains("a, b"), "{error}");
}

#[test]
fn what_can_not_be_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    one(dir.path(), "a", 3);
    let file = dir.path().join("a.log");
    let before = contents(dir.path());
    for (command, at, more, named) in [
        ("inspect", &dir.path().join("missing"), &[][..], "missing is not a directory"),
        ("inspect", &file, &[], "a.log is not a directory"),
        ("verify", &dir.path().to_owned(), &["--jsno"], "--jsno"),
        ("trim", &dir.path().to_owned(), &["-3"], "-3"),
        ("trim", &dir.path().to_owned(), &["half"], "or none"),
        ("trim", &dir.path().to_owned(), &[], "KEEP"),
        ("compact", &dir.path().to_owned(), &["two"], "two"),
        ("dump", &dir.path().to_owned(), &["--from", "x"], "--from"),
        ("bench", &dir.path().to_owned(), &["--only", "onne"], "--only onne"),
        ("bench", &dir.path().to_owned(), &["--seconds", "0"], "--seconds"),
        ("bench", &dir.path().join("missing"), &[], "is not a directory"),
        ("frobnicate", &dir.path().to_owned(), &[], "frobnicate"),
    ] {
        let (code, out, error) = said(&log(command, at, more));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{command} {more:?}: {error}");
        assert!(error.contains(named), "{command} {more:?}: {error}");
    }
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn what_is_no_log_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("diary.log"), "a diary, and not a short one").unwrap();
    for (command, more) in [("inspect", &[][..]), ("verify", &[]), ("dump", &[]), ("trim", &["0"])]
    {
        let (code, out, error) = said(&log(command, dir.path(), more));
        assert_eq!((code, out.as_str()), (Some(1), ""), "{command}");
        assert!(error.contains("diary.log is not a log of ours"), "{error}");
    }
}

#[test]
fn bench_measures_what_is_asked_for_beside_its_limits_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--seconds", "1", "--rounds", "1", "--only", "one", "txn", "--json"];
    let output = log("bench", dir.path(), &more);
    let object = json(&output);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let rows = object["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["disk-dsync", "disk-fdatasync", "one", "disk-growing", "txn"]);
    for row in rows {
        assert!(row["per_second"].as_f64() > Some(0.0), "{row}");
        assert_eq!(row["of_limit"].is_number(), !row["name"].as_str().unwrap().starts_with("disk"));
    }
    assert_eq!(contents(dir.path()), []);
}
