//! `tinyraftplus keygen`: a secret key in a file.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use tinyraftplus::Key;

use crate::error::{Error, explain};

/// Where the key goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to make, which only its owner can read; one that is there is never replaced
    file: PathBuf,
    /// Make the key from the words on standard input instead of random numbers: at least six, drawn by dice
    #[arg(long)]
    passphrase: bool,
}

/// Makes a key.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let file = args.file.display();
    let key =
        if args.passphrase { from_words()? } else { Key::generate().map_err(Error::failed)? };
    let mut open = OpenOptions::new();
    open.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
    let made = open.open(&args.file);
    let mut made =
        made.map_err(|error| Error::usage(explain(format!("can't make {file}"), &error)))?;
    let text = key.reveal_hex();
    let written = made.write_all(text.as_bytes()).and_then(|()| made.write_all(b"\n"));
    written
        .and_then(|()| made.sync_all())
        .map_err(|error| Error::failed(explain(format!("can't write {file}"), &error)))?;
    crate::out::line(format_args!(
        "{file} holds a new key: copy it to all nodes, and to nobody else"
    ));
    Ok(())
}

/// A line, without its end.
fn from_words() -> Result<Key, Error> {
    let mut words = String::new();
    let read = std::io::stdin().read_line(&mut words);
    read.map_err(|error| Error::usage(explain("can't read the words", &error)))?;
    Key::from_passphrase(words.trim_end_matches(['\r', '\n'])).map_err(Error::usage)
}
