//! `tinyraftplus keygen` as a user meets it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tinyraftplus::Key;

fn keygen(file: &Path, more: &[&str], words: &str) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_tinyraftplus"));
    process.arg("keygen").arg(file).args(more);
    let mut process = process
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built for this test");
    process.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
    process.wait_with_output().unwrap()
}

#[test]
fn a_key_file_is_made_once_and_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cluster.key");
    let made = keygen(&file, &[], "");
    assert_eq!(made.status.code(), Some(0));
    let text = std::fs::read_to_string(&file).unwrap();
    let key = Key::from_hex(&text).unwrap();
    let said = String::from_utf8([made.stdout, made.stderr].concat()).unwrap();
    assert!(said.contains("holds a new key") && !said.contains(&text[..8]), "{said}");
    #[cfg(unix)]
    {
        let bits = std::os::unix::fs::MetadataExt::mode(&file.metadata().unwrap());
        assert_eq!(bits & 0o777, 0o600);
    }
    let again = keygen(&file, &[], "");
    assert_eq!(again.status.code(), Some(2));
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(said.starts_with("error: can't make ") && said.contains("cluster.key"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert_ne!(key.reveal(), &[0; 32]);
}

#[test]
fn words_make_the_same_key_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a");
    let words = "correct horse battery staple";
    assert_eq!(keygen(&file, &["--passphrase"], &format!("{words}\n")).status.code(), Some(0));
    let key = Key::from_hex(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(key.reveal(), Key::from_passphrase(words).unwrap().reveal());
    let none = keygen(&dir.path().join("b"), &["--passphrase"], "\n");
    assert_eq!(none.status.code(), Some(2));
    assert!(!dir.path().join("b").exists());
}
