//! The examples are what newcomers copy: each must run and end well, and print what the README says.

use std::path::PathBuf;
use std::time::Duration;

use tokio::process::Command;

/// Cargo builds the examples before the tests, into a directory beside that of the tests.
fn run(example: &str) -> String {
    let tests = std::env::current_exe().expect("tests run from a file");
    let dir = tests.ancestors().nth(2).map(|dir| dir.join("examples")).unwrap_or_default();
    let path: PathBuf = dir.join(example).with_extension(std::env::consts::EXE_EXTENSION);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let output = runtime.expect("a runtime").block_on(async {
        let output = Command::new(&path).kill_on_drop(true).output();
        let output = tokio::time::timeout(Duration::from_mins(1), output).await;
        let output = output.unwrap_or_else(|_| panic!("{} does not end", path.display()));
        output.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    });
    let text = String::from_utf8(output.stdout).expect("it prints text");
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn log() {
    let expected = "seq 0\nbatch 1..3\ntransaction 3\ntrimmed to 2: hello, all, or nothing\n";
    assert_eq!(
        run("log"),
        format!("{expected}encrypted: a secret, and not a byte of it in the file\n")
    );
}

/// It compares what happens with the tolerance report by itself, and fails where they differ.
#[test]
fn quorum_groups() {
    let text = run("quorum_groups");
    let lost = |what: &str| text.lines().filter(|line| line.starts_with(what)).count();
    assert_eq!((lost("without node "), lost("without site ")), (13, 5), "{text}");
    let stops: Vec<&str> = text.lines().filter(|line| line.contains("elections stop")).collect();
    let expected = ["a", "b"].map(|s| format!("without site {s}: elections stop, commits stop"));
    assert_eq!(stops, expected, "only two sites without a third stop");
}

#[test]
fn replicated_log() {
    let expected = "open\nhave leader\nseq = 1\nseq = 2\nseq = 3\n";
    let heads = "head {\"c\":3}\n".repeat(3);
    assert_eq!(run("replicated_log"), format!("{expected}{heads}"));
}

#[test]
fn members() {
    let removed =
        "not appended: this node is not a member of the cluster any more; call one that is";
    let (joined, replaced) = ("two have joined: 1 2 3 4 5", "one is replaced: 1 2 4 5 6");
    assert_eq!(
        run("members"),
        format!(
            "{joined}\n{replaced}\nremoved: {removed}\n4 members go on, led by another: true\n"
        )
    );
}

#[test]
fn state_machine() {
    assert_eq!(run("state_machine"), "state 1 1\nstate 2 2\nstate 3 3\nread  3 3\n");
}

#[test]
fn snapshots() {
    let given_back = "the logs of nodes 1 and 2 have given old entries back\n";
    assert_eq!(run("snapshots"), format!("{given_back}node 3 is back, and knows the sum: true\n"));
}

/// Lines of code, of which comments and empty lines are none.
fn lines(source: &str) -> usize {
    let lines = source.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

/// The whole thing is 40 lines: the original needs 79 for the same.
#[test]
fn tcp_cluster() {
    let lines = lines(include_str!("../../../examples/tcp_cluster.rs"));
    assert!(lines <= 40, "{lines} lines");
    let expected = [("1", "2"), ("3", "4"), ("5", "6")].into_iter().zip([1, 3, 5]);
    let expected =
        expected.map(|((a, b), seq)| format!("seq {seq} [b\"{a}\", b\"{b}\"] b\"{b}\"\n"));
    assert_eq!(run("tcp_cluster"), expected.collect::<String>());
}

#[test]
fn election() {
    let expected = "node 3 leads\n\
        it was told that it led: true, with 2 followers\n\
        node 2 leads, in a later term: true\n\
        node 3 sits still, and node 2 leads\n\
        node 3 leads again\n";
    assert_eq!(run("election"), expected);
}
