//! Which log is meant, and how its bodies are read.

use crate::error::{Error, explain};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tinyraftplus_log::{
    Encoder, EncryptingEncoder, FoundLog, Key, LogError, OsDisk, PlainEncoder, XxHashEncoder,
    find_logs,
};

/// A key file is 64 digits, and a line break or two.
const KEY_FILE_BYTES_MAX: u64 = 1024;

/// Which log is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// The directory the log is in
    dir: PathBuf,
    /// The name of the log; needed only if the directory has several
    #[arg(long)]
    name: Option<String>,
    /// A file with the key of an encrypted log: 64 hexadecimal digits
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A log that is there.
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) disk: OsDisk,
    pub(crate) log: FoundLog,
    key: Option<Key>,
}

impl Which {
    /// Finds it.
    pub(crate) fn find(&self) -> Result<Place, Error> {
        let dir = &self.dir;
        let Some(disk) = OsDisk::existing(dir) else {
            return Err(Error::usage(format!("{} is not a directory; name one", dir.display())));
        };
        let found = find_logs(&disk);
        let logs = found.map_err(|error| failed("can't look for logs", &error))?;
        let log = self.choose(logs)?;
        let key = self.key_file.as_deref().map(read_key).transpose()?;
        Ok(Place { dir: dir.clone(), disk, log, key })
    }

    fn choose(&self, mut logs: Vec<FoundLog>) -> Result<FoundLog, Error> {
        let dir = self.dir.display();
        let mut names: Vec<_> = logs.iter().map(|log| log.name.clone()).collect();
        names.dedup();
        let names = names.join(", ");
        match &self.name {
            Some(name) => logs.into_iter().find(|log| log.name == *name).ok_or_else(|| {
                let there = if names.is_empty() { "no log at all".to_owned() } else { names };
                Error::usage(format!("there is no log named {name} in {dir}; there is {there}"))
            }),
            None if logs.len() > 1 => Err(Error::usage(format!(
                "there are several logs in {dir}: {names}; choose one with --name"
            ))),
            None => logs.pop().ok_or_else(|| Error::usage(format!("there is no log in {dir}"))),
        }
    }
}

impl Place {
    /// Does something with the log and the encoder that wrote it.
    pub(crate) fn with<T>(
        &self,
        mut act: impl FnMut(&Arc<dyn Encoder>) -> Result<T, LogError>,
    ) -> Result<T, Error> {
        let first: Arc<dyn Encoder> = match &self.key {
            Some(key) => Arc::new(EncryptingEncoder::new(key)),
            None => Arc::new(XxHashEncoder::default()),
        };
        let result = match act(&first) {
            Err(LogError::WrongEncoder { found, .. }) => act(&self.encoder(found)?),
            result => result,
        };
        result.map_err(|error| {
            let hint = if matches!(error, LogError::WrongKey(_)) {
                "; --key-file names another one"
            } else {
                ""
            };
            Error::failed(format!("{}{hint}", explain(&self.log.name, &error)))
        })
    }

    /// The encoder with this id, if this program has it.
    fn encoder(&self, id: u8) -> Result<Arc<dyn Encoder>, Error> {
        let name = &self.log.name;
        let encoder: Arc<dyn Encoder> = match id {
            3 => {
                return Err(Error::failed(format!(
                    "{name} is encrypted: give its key with --key-file FILE"
                )));
            }
            _ if self.key.is_some() => {
                return Err(Error::failed(format!(
                    "{name} is not encrypted: leave --key-file out"
                )));
            }
            0 => Arc::new(PlainEncoder),
            2 => Arc::new(XxHashEncoder { body: false }),
            1 => Arc::new(XxHashEncoder::default()),
            other => {
                return Err(Error::failed(format!(
                    "{name} was written with encoder {other}, which this program does not have"
                )));
            }
        };
        Ok(encoder)
    }
}

/// The name of an encoder.
pub(crate) const fn encoder_name(id: u8) -> &'static str {
    match id {
        0 => "plain, without checksums of bodies",
        1 => "XXH3 checksums",
        2 => "plain, by an XxHashEncoder told to leave bodies alone",
        3 => "XChaCha20-Poly1305",
        _ => "a user's own",
    }
}

/// The key in a key file.
pub(crate) fn read_key(path: &Path) -> Result<Key, Error> {
    let cant = |what: &dyn std::fmt::Display| {
        Error::usage(format!("--key-file {}: {what}", path.display()))
    };
    let bytes = std::fs::metadata(path).map_err(|error| cant(&error))?.len();
    if bytes > KEY_FILE_BYTES_MAX {
        return Err(cant(&"it is too large for a key file, which has 64 hexadecimal digits"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| cant(&error))?;
    Key::from_hex(&text).map_err(|error| cant(&error))
}

pub(crate) fn failed(what: &str, error: &dyn std::error::Error) -> Error {
    Error::failed(explain(what, error))
}
