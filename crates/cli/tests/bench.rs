//! The benchmark as a user meets it: tiny runs of everything, what is refused, and what is left of one that ends early.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long anything may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_mins(2);

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinyraftplus"));
    command.arg("bench").args(args);
    command
}

fn bench(args: &[&str]) -> Output {
    command(args).output().expect("the binary was built for this test")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).expect("it is there").next().is_none()
}

/// Each of these would else be measured as something else, or found out after minutes.
#[test]
fn what_can_not_be_measured_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let plot = missing.join("plot.svg");
    for (args, named) in [
        (vec!["--clients", "0"], "--clients"),
        (vec!["--clients", "1,1025"], "1..=1024"),
        (vec!["--clients", "many"], "many"),
        (vec!["--nodes", "2"], "3..=15"),
        (vec!["--nodes", "3,16"], "3..=15"),
        (vec!["--transport", "udp"], "in-process, tcp, processes"),
        (vec!["--log", "disk"], "mem, fs, multi"),
        (vec!["--from", "candidate"], "leader, follower"),
        (vec!["--payload", "0"], "--payload"),
        (vec!["--batch", "0"], "--batch"),
        (vec!["--seconds", "0"], "from 0.1 to 3600"),
        (vec!["--seconds", "NaN"], "from 0.1 to 3600"),
        (vec!["--warmup", "-1"], "--warmup"),
        (vec!["--rounds", "0"], "--rounds"),
        (vec!["--log", "fs,mem", "--encrypt"], "--encrypt"),
        (vec!["--clients", "1,1024", "--batch", "1000"], "--clients 1024 with --batch 1000"),
        (vec!["--dir", path(&missing)], "missing"),
        (vec!["--plot", path(&plot)], "--plot"),
        (vec!["--frobnicate"], "--frobnicate"),
        (vec!["catch-up", "--entries", "0"], "--entries"),
        (vec!["catch-up", "--log", "mem", "--encrypt"], "--encrypt"),
        (vec!["catchup"], "catchup"),
        (vec!["--clients", "1", "catch-up"], "--clients"),
    ] {
        let output = bench(&args);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(named), "{args:?}: {error}");
        assert!(!error.contains("panicked"), "{args:?}: {error}");
        assert!(output.stdout.is_empty(), "{args:?}: {}", text(&output.stdout));
    }
    assert!(is_empty(dir.path()));
}

#[test]
fn help_shows_what_there_is_but_not_what_is_for_itself() {
    let help = text(&bench(&["--help"]).stdout);
    for word in ["--clients", "--transport", "processes", "catch-up", "a row for each combination"]
    {
        assert!(help.contains(word), "{word}: {help}");
    }
    assert!(!help.contains("worker"), "{help}");
}

#[test]
fn every_transport_is_measured_and_every_row_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let plot = dir.path().join("plot.svg");
    let output = bench(&[
        "--json",
        "--clients",
        "1,4",
        "--transport",
        "in-process,tcp,processes",
        "--seconds",
        "0.2",
        "--warmup",
        "0.1",
        "--rounds",
        "1",
        "--payload",
        "100",
        "--dir",
        path(dir.path()),
        "--plot",
        path(&plot),
    ]);
    let report = json(&output);
    assert_eq!((&report["payload_bytes"], &report["batch"]), (&100.into(), &1.into()));
    let limits = report["limits"].as_array().unwrap();
    let shape =
        |limit: &serde_json::Value| (limit["files"].as_u64(), limit["write_bytes"].as_u64());
    let shapes: Vec<_> = limits.iter().map(shape).collect();
    assert_eq!(shapes, [(Some(1), Some(100)), (Some(3), Some(100)), (Some(3), Some(400))]);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 6, "{report}");
    for row in rows {
        // `null` is no number: each of these was measured.
        let number = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name}: {row}"));
        assert!(number("entries_per_second") > 0.0, "{row}");
        assert!(number("held_by") >= 2.0 && number("of_limit") > 0.0, "{row}");
        assert!(number("p50_us") <= number("p90_us") && number("p99_us") <= number("p999_us"));
        assert!(number("p999_us") <= number("max_us") && number("p50_us") > 0.0, "{row}");
        assert!(number("syncs_per_call") > 0.1 && number("syncs_per_call") < 3.0, "{row}");
        assert_eq!(row["rounds"].as_array().map(Vec::len), Some(1));
        if cfg!(target_os = "linux") {
            assert!(number("cpu_seconds_per_million") > 0.0, "{row}");
            assert!(number("peak_memory_bytes") > 1e6, "{row}");
        }
    }
    let transports: Vec<_> = rows.iter().map(|row| row["transport"].as_str().unwrap()).collect();
    assert_eq!(transports, ["in-process", "in-process", "tcp", "tcp", "processes", "processes"]);
    let drawn = std::fs::read_to_string(&plot).unwrap();
    assert!(drawn.starts_with("<svg ") && drawn.ends_with("</svg>\n"), "{drawn}");
    assert_eq!(drawn.matches("3 nodes, ").count(), 3, "a line and a name for each transport");
    std::fs::remove_file(&plot).unwrap();
    assert!(is_empty(dir.path()));
}

#[test]
fn logs_callers_batches_and_nodes_are_varied() {
    let dir = tempfile::tempdir().unwrap();
    let common = ["--seconds", "0.2", "--warmup", "0", "--rounds", "1", "--dir", path(dir.path())];
    let run = |args: &[&str]| bench(&[args, &common].concat());
    let report = json(&run(&["--json", "--log", "mem,multi", "--from", "leader,follower"]));
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 8, "{report}");
    for row in rows {
        assert_eq!(
            row["of_limit"].is_null(),
            row["log"] == "mem",
            "memory knows no such limit: {row}"
        );
    }
    let report = json(&run(&["--json", "--clients", "2", "--batch", "50", "--encrypt"]));
    assert_eq!(report["encrypted"], true);
    assert_eq!(report["rows"].as_array().map(Vec::len), Some(1));

    let output = run(&["--log", "mem", "--nodes", "3,5", "--clients", "8"]);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(shown.contains("entries/s against nodes"), "{shown}");
    assert!(shown.contains("a quorum held exactly"), "{shown}");
    assert!(output.stderr.is_empty(), "a bar where there is no terminal: {}", text(&output.stderr));
    assert!(is_empty(dir.path()));
}

#[test]
fn a_follower_catches_up_over_every_transport() {
    let dir = tempfile::tempdir().unwrap();
    let report = json(&bench(&[
        "catch-up",
        "--json",
        "--entries",
        "20000",
        "--transport",
        "in-process,tcp,processes",
        "--rounds",
        "1",
        "--dir",
        path(dir.path()),
    ]));
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3, "{report}");
    for row in rows {
        assert!(row["bytes_per_second"].as_f64() > Some(0.0), "{row}");
        assert!(row["first_ms"].as_f64() <= row["all_ms"].as_f64(), "{row}");
    }
    assert!(is_empty(dir.path()));
}

/// A process that hosts nodes, told by hand.
struct Worker {
    process: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Worker {
    fn ask(&mut self, line: &serde_json::Value) -> serde_json::Value {
        let orders = self.process.stdin.as_mut().expect("it is piped");
        writeln!(orders, "{line}").expect("it listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        serde_json::from_str(&answer).expect("JSON")
    }
}

/// One node of three can commit nothing: that is no measurement of no entries, but a failure.
#[test]
fn a_node_without_a_quorum_gives_no_figures() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = command(&["worker"]);
    let process = process.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut process = process.expect("the binary was built for this test");
    let answers = BufReader::new(process.stdout.take().expect("it is piped"));
    let mut worker = Worker { process, answers };
    let key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let setup = serde_json::json!({
        "dir": dir.path(), "nodes": 3, "tcp": false, "log": "Mem", "encrypt": false, "key": key,
    });
    assert_eq!(worker.ask(&setup), "Done");
    assert_eq!(worker.ask(&serde_json::json!({ "Open": { "node": 1 } })), "Done");
    let load = serde_json::json!({
        "Run": { "node": 1, "clients": 2, "batch": 1, "payload": 10, "until": { "Seconds": 0.2 } },
    });
    let answer = worker.ask(&load);
    let what = answer["Failed"]["what"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(what.contains("an append failed"), "{what}");
    drop(worker.process.stdin.take());
    assert!(worker.process.wait().unwrap().success());
    assert!(is_empty(dir.path()));
}

/// A benchmark that would run for an hour and is in the middle of it: all three nodes have written some.
fn endless(dir: &Path, transport: &str) -> Child {
    let mut command = command(&["--transport", transport, "--warmup", "3600", "--clients", "2"]);
    let command = command.args(["--dir", path(dir)]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let process = command.spawn().expect("the binary was built for this test");
    let began = Instant::now();
    while logs(dir).iter().filter(|&&bytes| bytes > 3 << 20).count() < 3 {
        assert!(began.elapsed() < PATIENCE, "the logs are {:?}", logs(dir));
        std::thread::yield_now();
    }
    process
}

/// How large the logs are that lie in directories below this one.
fn logs(dir: &Path) -> Vec<u64> {
    let below = |dir: &Path| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().map_while(Result::ok);
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut found = below(dir);
    for _ in 0..3 {
        found = found.iter().flat_map(|path| below(path)).collect();
    }
    let logs = found.iter().filter(|path| path.extension().is_some_and(|it| it == "log"));
    logs.filter_map(|path| Some(path.metadata().ok()?.len())).collect()
}

/// The processes that a benchmark has started.
#[cfg(target_os = "linux")]
fn children(process: &Child) -> Vec<u32> {
    let id = process.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    let children = children.expect("it runs");
    children.split_whitespace().map(|id| id.parse().expect("a number")).collect()
}

/// Whether all of them were there to hear it.
fn signal(name: &str, processes: &[u32]) -> bool {
    let processes = processes.iter().map(u32::to_string);
    let sent = Command::new("kill").arg(name).args(processes).stderr(Stdio::null()).status();
    sent.expect("there is kill").success()
}

/// What it says on stderr until all processes that have it open are gone, its children too.
fn last_words(process: &mut Child) -> String {
    let mut stderr = process.stderr.take().expect("it is piped");
    let (sender, words) = mpsc::channel();
    std::thread::spawn(move || {
        let mut words = String::new();
        let _ = stderr.read_to_string(&mut words);
        sender.send(words)
    });
    words.recv_timeout(PATIENCE).expect("a process is left")
}

/// Fails without `unless_interrupted`, which lets all that was started be dropped, and if a process is not killed then: one
/// that hangs would be left.
#[test]
fn an_interrupted_benchmark_leaves_nothing() {
    for name in ["-INT", "-TERM", "-HUP"] {
        let dir = tempfile::tempdir().unwrap();
        let mut process = endless(dir.path(), "processes");
        #[cfg(target_os = "linux")]
        assert!(signal("-STOP", &children(&process)[1..2]));
        assert!(signal(name, &[process.id()]));
        let words = last_words(&mut process);
        assert_eq!(process.wait().unwrap().code(), Some(1), "{words}");
        assert!(words.contains("interrupted"), "{words}");
        assert!(is_empty(dir.path()), "{name}");
    }
}

/// Fails if a process with nodes does not look at its stdin while it is busy.
#[test]
fn processes_with_nodes_do_not_outlive_a_killed_benchmark() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = endless(dir.path(), "in-process");
    assert!(signal("-KILL", &[process.id()]));
    last_words(&mut process);
    assert_eq!(process.wait().unwrap().code(), None);
    assert!(logs(dir.path()).is_empty(), "they removed their logs");
}

/// Two of three nodes die: whichever leads, the benchmark says so instead of giving figures.
#[cfg(target_os = "linux")]
#[test]
fn a_benchmark_that_loses_its_quorum_fails() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = endless(dir.path(), "processes");
    let children = children(&process);
    assert_eq!(children.len(), 3, "{children:?}");
    // If the first one led, the benchmark may end the second itself.
    let _ = signal("-KILL", &children[..2]);
    let words = last_words(&mut process);
    assert_eq!(process.wait().unwrap().code(), Some(1), "{words}");
    assert!(words.contains("error: 3 nodes, processes"), "{words}");
    assert!(is_empty(dir.path()));
}
