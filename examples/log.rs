//! The log alone, without Raft: open, append, transaction, trim, iterate; then the same encrypted.

use std::{error::Error, fs, sync::Arc};

use tinyraftplus_log::{EncryptingEncoder, FsLog, Key, LogExt, LogOptions, Seq, SharedLog};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let (log, _recovery) = FsLog::open(dir.path(), "events", LogOptions::default())?;
    // A handle for any number of threads and tasks. Each call waits until it is durable; `.await` does, too.
    let log = SharedLog::new(log);
    println!("seq {}", log.append("hello").wait()?);
    let seqs = log.append_batch(["all", "or nothing"]).wait()?;
    println!("batch {}..{}", seqs.start, seqs.end);

    // One writer at a time, and after a crash all of it or none.
    let mut txn = log.txn().wait()?;
    let seq = txn.append("a thought")?;
    txn.commit().wait()?;
    println!("transaction {seq}");
    let mut txn = log.txn().wait()?;
    txn.append("a second thought")?;
    txn.abort();

    // Keep the entries up to this one.
    log.trim(Some(Seq::new(2))).wait()?;
    let mut texts = Vec::new();
    for entry in log.iter(..) {
        texts.push(String::from_utf8(entry?.payload.to_vec())?);
    }
    println!("trimmed to 2: {}", texts.join(", "));
    log.close().wait()?;

    // The same encrypted: nobody reads it without the key, nobody changes it unnoticed.
    let mut options = LogOptions::default();
    options.encoder = Arc::new(EncryptingEncoder::new(&Key::generate()?));
    let (mut log, _recovery) = FsLog::open(dir.path(), "secrets", options)?;
    log.append("a secret")?;
    let head = log.head()?.ok_or("an empty log")?;
    let file = fs::read(dir.path().join("secrets.log"))?;
    let shown = file.windows(8).any(|bytes| bytes == b"a secret");
    println!(
        "encrypted: {}, and {} in the file",
        String::from_utf8(head.payload.to_vec())?,
        if shown { "readable" } else { "not a byte of it" }
    );
    let is_right = texts == ["hello", "all", "or nothing"] && !shown;
    if is_right { Ok(()) } else { Err("not what was appended".into()) }
}
