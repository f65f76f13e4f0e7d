//! `tinyraftplus log dump`: the entries of a log, one a line.

use super::which::Which;
use crate::error::{Error, explain};
use serde_json::json;
use std::io::{self, BufWriter, ErrorKind, Write};
use tinyraftplus_log::Seq;
use tinyraftplus_log::{EntryKind, LogEntry, dump};

/// Which entries.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// The first entry to print
    #[arg(long, default_value_t = 0, value_name = "SEQ")]
    from: u64,
    /// Print only entries before this one
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true, value_name = "SEQ")]
    before: u64,
}

/// Prints them. Damage is told on stderr where it comes, and what lies behind it is printed.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let place = args.which.find()?;
    let range = Seq::new(args.from)..Seq::new(args.before.max(args.from));
    let entries =
        place.with(|encoder| dump(&place.disk, &place.log.name, encoder, range.clone()))?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut damaged = 0_u64;
    for entry in entries {
        let written = match entry {
            Ok(entry) if args.which.json => writeln!(out, "{}", object(&entry)),
            Ok(entry) => writeln!(out, "{} {}", entry.id, text(&entry)),
            Err(error) => {
                damaged += 1;
                // In the order in which somebody reads both.
                let flushed = out.flush();
                crate::out::error_line(format_args!(
                    "damaged: {}",
                    explain(&place.log.name, &error)
                ));
                flushed
            }
        };
        if let Some(end) = stop(written) {
            return end;
        }
    }
    if let Some(end) = stop(out.flush()) {
        return end;
    }
    if damaged == 0 {
        return Ok(());
    }
    Err(Error::failed(format!(
        "{} is damaged: some entries are missing above; see tinyraftplus log verify",
        place.log.name
    )))
}

/// Who stops reading has seen enough.
fn stop(written: io::Result<()>) -> Option<Result<(), Error>> {
    match written {
        Ok(()) => None,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Some(Ok(())),
        Err(error) => Some(Err(Error::failed(explain("can't print", &error)))),
    }
}

fn object(entry: &LogEntry) -> serde_json::Value {
    json!({
        "seq": entry.id.seq.get(), "term": entry.id.term.get(), "kind": kind(entry.kind),
        "ends_batch": entry.ends_batch, "payload": base64(&entry.payload),
    })
}

const fn kind(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Payload => "payload",
        EntryKind::Noop => "noop",
        EntryKind::Configuration => "configuration",
    }
}

/// An entry in one line, whatever its bytes are.
fn text(entry: &LogEntry) -> String {
    let batch = if entry.ends_batch { "" } else { " ..." };
    let kind = match entry.kind {
        EntryKind::Payload => String::new(),
        EntryKind::Noop | EntryKind::Configuration => format!("{} ", kind(entry.kind)),
    };
    let payload = if let Ok(text) = str::from_utf8(&entry.payload) {
        format!("{text:?}")
    } else {
        let mut hex = "0x".to_owned();
        for byte in &entry.payload {
            hex.extend(
                [byte >> 4, byte & 15]
                    .map(|digit| char::from_digit(digit.into(), 16).unwrap_or('?')),
            );
        }
        hex
    };
    format!("{kind}{payload}{batch}")
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let bits = part.iter().fold(0_usize, |bits, &byte| bits << 8 | usize::from(byte));
        let bits = bits << (8 * (3 - part.len()));
        for at in 0..4 {
            let digit = DIGITS.get(bits >> (18 - 6 * at) & 63).filter(|_| at <= part.len());
            text.push(digit.map_or('=', |&digit| char::from(digit)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let texts =
            ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(str::as_bytes).map(base64);
        let expected = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(texts, expected);
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }
}
