//! What the demo appends: the lines of a file, or of the text that ships with it.

use crate::error::{Error, explain};
use bytes::Bytes;
use std::path::Path;

/// Two years of a ship's log, as long as a demo needs.
const SHIPS_LOG: &[u8] = include_bytes!("../../assets/ships_log.txt");

/// A demo is about leaders and disks, not about how much memory there is.
const INPUT_BYTES_MAX: u64 = 1 << 30;

/// The lines of the input, without their line ends. Any bytes will do.
pub(crate) fn read(file: Option<&Path>) -> Result<Vec<Bytes>, Error> {
    let text = match file {
        None => Bytes::from_static(SHIPS_LOG),
        Some(path) => Bytes::from(read_file(path)?),
    };
    let mut lines = Vec::new();
    let mut start = 0;
    for (at, _) in text.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        lines.push(text.slice(start..at));
        start = at + 1;
    }
    if start < text.len() {
        lines.push(text.slice(start..));
    }
    match file {
        Some(path) if lines.is_empty() => Err(Error::usage(format!(
            "{} is empty: the demo needs at least one line",
            path.display()
        ))),
        Some(_) | None => Ok(lines),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let cant = |error: &std::io::Error| {
        Error::usage(explain(format_args!("can't read the input {}", path.display()), error))
    };
    let bytes = std::fs::metadata(path).map_err(|error| cant(&error))?.len();
    if bytes > INPUT_BYTES_MAX {
        let path = path.display();
        return Err(Error::usage(format!(
            "{path} has {bytes} bytes; the demo takes at most {INPUT_BYTES_MAX}"
        )));
    }
    std::fs::read(path).map_err(|error| cant(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_that_ships_is_long_enough_and_has_odd_lines() {
        let lines = read(None).unwrap();
        assert!(lines.len() >= 5000);
        assert!(lines.iter().any(Bytes::is_empty), "an empty payload is a case of its own");
        assert!(lines.iter().any(|line| !line.is_ascii()));
    }

    #[test]
    fn a_last_line_without_an_end_counts_and_an_end_makes_no_line() {
        let dir = tempfile::tempdir().unwrap();
        for (text, lines) in [("a\n\nb", vec!["a", "", "b"]), ("a\n", vec!["a"]), ("\n", vec![""])]
        {
            let path = dir.path().join("input");
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(Some(&path)).unwrap(), lines);
        }
    }

    #[test]
    fn a_missing_or_empty_file_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nothing.txt");
        assert!(
            matches!(read(Some(&path)), Err(Error::Usage(what)) if what.contains("nothing.txt"))
        );
        std::fs::write(&path, "").unwrap();
        assert!(matches!(read(Some(&path)), Err(Error::Usage(what)) if what.contains("empty")));
    }
}
