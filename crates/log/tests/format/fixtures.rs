//! Which fixtures there are, and what their texts say.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf, sync::Arc};

use tinyraftplus_core::{Configurations, Identity, QuorumRule, Term};
use tinyraftplus_log::{
    Encoder, EncryptingEncoder, EntryKind, Key, Log, LogExt, LogOptions, PlainEncoder,
    XxHashEncoder,
};

use crate::script;

/// The key of the encrypted logs. It protects nothing: it is printed beside them, too.
pub(crate) const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

pub(crate) struct Fixture {
    pub(crate) folder: &'static str,
    pub(crate) many: bool,
    /// The id.
    pub(crate) encoder: u8,
    pub(crate) block: u32,
    /// Entries were put back, so it has frames of format 2.
    pub(crate) repaired: bool,
}

pub(crate) fn all() -> Vec<Fixture> {
    let fixture = |folder, many, encoder, block| {
        let repaired = false;
        Fixture { folder, many, encoder, block, repaired }
    };
    vec![
        fixture("log-v1/one-xxh3", false, 1, 512),
        fixture("log-v1/one-plain", false, 0, 512),
        fixture("log-v1/one-xxh3-headers", false, 2, 512),
        fixture("log-v1/one-encrypted", false, 3, 512),
        fixture("log-v1/one-xxh3-4096", false, 1, 4096),
        fixture("log-v1/many-xxh3", true, 1, 512),
        fixture("log-v1/many-plain", true, 0, 512),
        fixture("log-v1/many-xxh3-headers", true, 2, 512),
        fixture("log-v1/many-encrypted", true, 3, 512),
    ]
}

pub(crate) fn repaired() -> Vec<Fixture> {
    let fixture = |folder, many, encoder| {
        let (block, repaired) = (512, true);
        Fixture { folder, many, encoder, block, repaired }
    };
    vec![
        fixture("log-v1-repaired/one-xxh3", false, 1),
        fixture("log-v1-repaired/many-xxh3", true, 1),
        fixture("log-v1-repaired/many-encrypted", true, 3),
    ]
}

pub(crate) fn every() -> Vec<Fixture> {
    all().into_iter().chain(repaired()).collect()
}

pub(crate) fn options(fixture: &Fixture) -> LogOptions {
    let encoder: Arc<dyn Encoder> = match fixture.encoder {
        0 => Arc::new(PlainEncoder),
        1 => Arc::new(XxHashEncoder { body: true }),
        2 => Arc::new(XxHashEncoder { body: false }),
        _ => Arc::new(EncryptingEncoder::new(&Key::from_hex(KEY).unwrap())),
    };
    let mut options = LogOptions::default();
    options.space_bytes = 4096;
    options.reserve_bytes = 4096;
    options.group_bytes_max = LogOptions::GROUP_BYTES_MIN;
    options.batch_bytes_max = options.group_bytes_max / 2;
    options.segment_bytes_max = LogOptions::SEGMENT_BYTES_MIN;
    options.block_bytes = fixture.block;
    options.encoder = encoder;
    options.seed = Some(1);
    options
}

pub(crate) fn path(folder: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(folder)
}

/// All that a log holds, as text.
pub(crate) fn shown(log: &dyn Log) -> String {
    let restored = log.restored();
    let start = restored.terms.start();
    let before = restored.terms.entry_before(start).map_or(Term::ZERO, |id| id.term);
    let hard = restored.hard_state;
    let mut text = format!(
        "identity {:032x}\nterm {} vote {:032x}\n",
        restored.identity.get(),
        hard.term,
        hard.vote.map_or(0, Identity::get)
    );
    match restored.configuration.as_deref() {
        Some(configuration) => configured(&mut text, configuration),
        None => text.push_str("configuration none\n"),
    }
    writeln!(text, "start {start} before term {before}\nend {}", log.end()).unwrap();
    for entry in log.iter(..) {
        let entry = entry.unwrap();
        let kind = match entry.kind {
            EntryKind::Payload => "payload",
            EntryKind::Noop => "noop",
            EntryKind::Configuration => "configuration",
        };
        let ends = if entry.ends_batch { "ends" } else { "goes-on" };
        let (seq, term) = (entry.id.seq, entry.id.term);
        write!(text, "{seq} term {term} {kind} {ends} ").unwrap();
        entry.payload.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    text
}

fn configured(text: &mut String, configurations: &Configurations) {
    let configuration = &configurations.newest().configuration;
    assert_eq!(*configuration.now().rules(), QuorumRule::Majority.into());
    let rule = "majority";
    write!(text, "configuration {rule} first {}", configuration.first()).unwrap();
    for member in configuration.members() {
        write!(text, " {}={:x}", member.id.as_str(), member.identity.unwrap().get()).unwrap();
    }
    text.push('\n');
}

/// Writes fixtures anew.
pub(crate) fn write(fixtures: Vec<Fixture>) {
    for fixture in fixtures {
        let (mut files, text) = script::run(&fixture);
        files.insert("expected.txt".to_owned(), text.into_bytes());
        put(fixture.folder, &files);
        if fixture.folder == "log-v1/one-xxh3" {
            let bytes = &files["x.log"];
            for (folder, bytes) in script::newer(bytes) {
                put(folder, &BTreeMap::from([("x.log".to_owned(), bytes)]));
            }
        }
    }
}

pub(crate) fn put(folder: &str, files: &BTreeMap<String, Vec<u8>>) {
    let folder = path(folder);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
}
