//! The commands as somebody who calls them meets them: small runs of real processes on the loopback, and what is left of them.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinyraftplus-soak"));
    command.args(arguments);
    command
}

fn soak(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What a command reports that must succeed and leave nothing behind.
fn report(arguments: &[&str]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let output = soak(&[arguments, &["--json", "--dir", path(dir.path())]].concat());
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}{complained}");
    assert_eq!(dir.path().read_dir().unwrap().count(), 0, "it left something behind");
    serde_json::from_str(&said).unwrap()
}

#[test]
fn rounds_of_faults_break_no_promise() {
    let report = report(&["run", "--rounds", "3", "--fault", "700"]);
    assert_eq!(report["findings"], Value::Array(Vec::new()));
    assert_eq!(report["rounds"], 3);
    let seen = report["faults"].as_object().unwrap().values();
    assert!(seen.map(|it| it["seen"].as_u64().unwrap()).sum::<u64>() > 0, "{report}");
    let committed = report["appends"]["committed"].as_u64().unwrap();
    assert!(report["entries"].as_u64().unwrap() > committed, "{report}");
    assert!(committed > 100 && report["reads"]["answered"].as_u64().unwrap() > 10, "{report}");
}

#[test]
fn a_failover_is_measured() {
    let report = report(&["failover", "--kills", "2"]);
    assert_eq!(report["kills"], 2);
    let times = &report["from_the_kill"];
    let median = |what: &str| times[what]["median_ms"].as_u64().unwrap();
    // The others wait for an election timeout of 500 ms, but for the last heartbeat, which was 100 ms ago at most.
    assert!(median("new_leader") >= 350, "{report}");
    assert!(median("first_append") >= median("new_leader"), "{report}");
}

#[test]
fn memory_is_measured_while_a_follower_goes_and_comes_back() {
    let report = report(&["memory", "--appends", "6000", "--reads", "600", "--bytes", "100"]);
    let samples = report["samples"].as_array().unwrap();
    assert!(samples.last().unwrap()["entries"].as_u64().unwrap() >= 6000, "{report}");
    let running = |sample: &Value| sample["memory"].as_array().unwrap().len();
    assert!(samples.iter().any(|sample| running(sample) == 2), "{report}");
    assert_eq!(running(samples.last().unwrap()), 3);
    assert_eq!(report["growth"].as_array().unwrap().len(), 3);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for arguments in [
        ["run", "--rounds", "0"],
        ["run", "--fault", "1"],
        ["failover", "--kills", "0"],
        ["memory", "--appends", "1"],
    ] {
        assert_eq!(soak(&arguments).status.code(), Some(2), "{arguments:?}");
    }
}

/// The processes whose command line names this directory.
#[cfg(target_os = "linux")]
fn processes(dir: &Path) -> Vec<Pid> {
    let pids = Path::new("/proc").read_dir().unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        text(&line).contains(path(dir)).then_some(pid)
    });
    pids.collect()
}

/// A run that would take long, once its first round is over.
fn begun(dir: &Path) -> Child {
    let arguments = ["run", "--rounds", "1000", "--fault", "200", "--dir", path(dir)];
    let mut child = command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("1:"), "{first}");
    child
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Protection: `unless_interrupted`.
#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = begun(dir.path());
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(processes(dir.path()), []);
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

/// Protection: `die_with_the_harness`. A process that was stopped does not see that its input ends.
#[test]
#[cfg(target_os = "linux")]
fn a_harness_that_is_killed_takes_stopped_nodes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = begun(dir.path());
    let harness = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    // Stopped first, so that it starts no other node.
    signal(&child, Signal::STOP);
    let nodes: Vec<_> = processes(dir.path()).into_iter().filter(|&pid| pid != harness).collect();
    for &node in &nodes {
        // One may just have been killed.
        let _ = kill_process(node, Signal::STOP);
    }
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !processes(dir.path()).is_empty() {
        assert!(Instant::now() < deadline, "{:?} are still there", processes(dir.path()));
        std::thread::yield_now();
    }
}
