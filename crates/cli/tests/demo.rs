//! The demo as a user meets it: a process, its output, its exit code.

use std::path::Path;
use std::process::{Command, Output};

fn demo(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinyraftplus"));
    command.arg("demo").args(args).output().expect("the binary was built for this test")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

/// What lies in a directory, byte by byte.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .expect("the directory is there")
        .map(|entry| entry.expect("its entries can be read").path())
        .map(|path| (path.display().to_string(), std::fs::read(path).unwrap_or_default()))
        .collect();
    found.sort();
    found
}

#[test]
fn three_nodes_lose_their_leader_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("input");
    let lines: Vec<String> = (0..300).map(|n| format!("line {}", n % 7)).collect();
    std::fs::write(&input, lines.join("\n")).unwrap();
    let logs = dir.path().join("logs");
    let output = demo(&["--json", "--input", path(&input), "--dir", path(&logs)]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["held"], true);
    assert_eq!(report["lines"], 300);
    assert_eq!(report["leader_changes"], 1, "the leader was killed once: {report}");
    let found = report["logs"].as_array().unwrap();
    assert_eq!(found.len(), 3);
    for log in found {
        assert!(log["identical"] == true && log["syncs"].as_u64() > Some(0), "{report}");
    }
    // A second run would append to these logs, and compare what it never wrote.
    let before = contents(&logs);
    let again = demo(&["--input", path(&input), "--dir", path(&logs)]);
    assert_eq!(again.status.code(), Some(2), "{}", text(&again.stdout));
    assert!(text(&again.stderr).contains("node-1.log"), "{}", text(&again.stderr));
    assert_eq!(contents(&logs), before);
}

#[test]
fn a_story_for_people_ends_with_what_was_lost() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("input");
    std::fs::write(&input, "one\ntwo\n").unwrap();
    let output = demo(&["--nodes", "1", "--input", path(&input)]);
    let story = text(&output.stdout);
    assert!(output.status.success(), "{story}");
    assert!(story.contains("2 lines identical to the input"), "{story}");
    assert!(story.contains("lost, doubled or changed"), "{story}");
}

#[test]
fn what_can_not_be_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let before = contents(dir.path());
    let missing = dir.path().join("missing");
    let below_file = file.join("logs");
    for (args, named) in [
        (vec!["--nodes", "0"], "--nodes 0"),
        (vec!["--nodes", "16"], "--nodes 16"),
        (vec!["--nodes", "many"], "many"),
        (vec!["--input", path(&missing)], "missing"),
        (vec!["--input", path(dir.path())], "can't read"),
        (vec!["--dir", path(&file)], "can't use"),
        (vec!["--dir", path(&below_file)], "can't use"),
        (vec!["--frobnicate"], "--frobnicate"),
    ] {
        let output = demo(&args);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(named), "{args:?}: {error}");
        assert!(!error.contains("panicked"), "{args:?}: {error}");
    }
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn foreign_and_newer_logs_are_refused_by_name_and_kept() {
    let mut newer = vec![0; 8192];
    newer[..8].copy_from_slice(b"TRPlog\r\n");
    newer[8] = 9;
    let sum = twox_hash::XxHash3_64::oneshot(&newer[..504]);
    newer[504..512].copy_from_slice(&sum.to_le_bytes());
    for (bytes, said) in [(b"a diary".to_vec(), "not a log"), (newer, "format 9")] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("node-2.log"), bytes).unwrap();
        let before = contents(dir.path());
        let output = demo(&["--dir", path(dir.path())]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("node-2.log") && error.contains(said), "{error}");
        assert_eq!(contents(dir.path()), before);
    }
}
