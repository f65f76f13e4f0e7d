//! Snapshots as they were written: made by today's code, read by it, and read by the words of `docs/format.md`.

use std::{collections::BTreeMap, fmt::Write as _, fs, io::Read as _, sync::Arc};

use tinyraftplus_core::{Configurations, EntryId, Identity, Member, NodeId, QuorumRule, Seq, Term};
use tinyraftplus_log::{FsLog, Log, SnapshotId, SnapshotMeta, SnapshotStore, sim_disk::SimDisk};

use crate::{
    fixtures::{self, Fixture, path},
    reader::{Records, configuration, decrypt, key_check, number, sum, wide},
};

const ID: u128 = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;
/// One that comes from elsewhere, and of which a part is there.
const PART: u128 = 5;

fn all() -> Vec<Fixture> {
    let fixture =
        |folder, encoder| Fixture { folder, many: false, encoder, block: 512, repaired: false };
    vec![
        fixture("snapshot-v1/xxh3", 1),
        fixture("snapshot-v1/plain", 0),
        fixture("snapshot-v1/xxh3-headers", 2),
        fixture("snapshot-v1/encrypted", 3),
    ]
}

fn open(fixture: &Fixture, disk: &SimDisk) -> (FsLog<SimDisk>, SnapshotStore) {
    let mut options = fixtures::options(fixture);
    options.snapshot_chunk_bytes = 1024;
    let log = FsLog::open_on(disk, "x", options).unwrap().0;
    let store = log.snapshots().unwrap();
    (log, store)
}

fn put(disk: &SimDisk, files: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in files {
        disk.put(name, bytes);
    }
}

fn files(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.files().into_iter().filter(|file| file.contains('-'));
    names.map(|file| (file.clone(), disk.contents(&file).unwrap())).collect()
}

fn configurations() -> Arc<Configurations> {
    let member = |n: u64| Member::voter(NodeId::from(n), Identity::new(u128::from(n) + 7));
    let members = (1..=3).map(member).collect();
    Arc::new(Configurations::found(members, QuorumRule::Majority, Seq::ZERO).unwrap())
}

/// The files of a complete snapshot, and of a part of one.
fn make(fixture: &Fixture) -> BTreeMap<String, Vec<u8>> {
    let disk = SimDisk::new();
    let (_log, store) = open(fixture, &disk);
    let last = EntryId::new(Term::new(3), Seq::new(41));
    let id = SnapshotId::new(ID);
    let mut writer = store.create(id, last, Some(configurations()), &[b't'; 1500]).unwrap();
    writer.write_all("state ".repeat(150).as_bytes()).unwrap();
    let meta = writer.finish().unwrap();
    assert_eq!(meta.chunks(), 3);
    let last = EntryId::new(Term::new(4), Seq::new(50));
    let id = SnapshotId::new(PART);
    let part = SnapshotMeta { id, last, configurations: None, tables_bytes: 0, ..meta };
    store.receive(&part).unwrap().write_chunk(0, &[b'p'; 1024]).unwrap();
    files(&disk)
}

/// What a snapshot holds, as text.
fn shown(store: &SnapshotStore) -> String {
    let meta = store.newest().unwrap();
    let reader = store.reader(meta.id).unwrap();
    let tables = String::from_utf8(reader.tables().unwrap()).unwrap();
    let mut state = String::new();
    reader.state().read_to_string(&mut state).unwrap();
    let configurations = meta.configurations.unwrap();
    let members = configurations.newest().configuration.members().to_vec();
    let name =
        |member: &Member| format!(" {}={:x}", member.id.as_str(), member.identity.unwrap().get());
    let members: String = members.iter().map(name).collect();
    format!(
        "snapshot {} last {} term {}\nconfiguration majority first 0{members}\n{} bytes in chunks of {}, \
         digest {:016x}\ntables {tables}\nstate {state}\n",
        meta.id, meta.last.seq, meta.last.term, meta.bytes, meta.chunk_bytes, meta.digest
    )
}

/// Writes all fixtures anew.
pub(crate) fn write() {
    for fixture in all() {
        let mut files = make(&fixture);
        let disk = SimDisk::new();
        put(&disk, &files);
        let (_log, store) = open(&fixture, &disk);
        files.insert("expected.txt".to_owned(), shown(&store).into_bytes());
        fixtures::put(fixture.folder, &files);
    }
}

fn expected(fixture: &Fixture) -> String {
    crate::files(fixture.folder);
    fs::read_to_string(path(fixture.folder).join("expected.txt")).unwrap()
}

/// Fails if any byte of the format is read otherwise than it was.
#[test]
fn snapshots_hold_what_they_did() {
    for fixture in all() {
        let disk = SimDisk::new();
        put(&disk, &crate::files(fixture.folder));
        let (_log, store) = open(&fixture, &disk);
        assert_eq!(store.list().len(), 1);
        assert_eq!(shown(&store), expected(&fixture), "{}", fixture.folder);
        store.remove(SnapshotId::new(PART)).unwrap();
    }
}

/// What is written today can be read by what was released. Nonces of encrypted bodies are drawn, so those are read
/// only.
#[test]
fn the_same_calls_make_the_same_snapshots() {
    for fixture in all().iter().filter(|fixture| fixture.encoder != 3) {
        let kept = crate::files(fixture.folder);
        assert!(make(fixture) == kept, "{}", fixture.folder);
    }
}

/// The document is enough to read a snapshot. Fails if it leaves out or misstates anything.
#[test]
fn the_document_is_enough_to_read_a_snapshot() {
    for fixture in all() {
        let files = crate::files(fixture.folder);
        let name = format!("x.{:020}-{ID:032x}.snap", 41);
        assert_eq!(read(&files[&name], true).unwrap(), expected(&fixture), "{}", fixture.folder);
        let part = format!("x.{:020}-{PART:032x}.snap", 50);
        assert_eq!(read(&files[&part], false), None, "it has no end");
    }
}

/// Reads a snapshot by the words of the document. None if it is not complete.
fn read(bytes: &[u8], made_here: bool) -> Option<String> {
    assert_eq!(bytes[..4096], bytes[4096..8192]);
    assert!(bytes[..8] == *b"TRPsnp\r\n" && bytes[88..504].iter().all(|&byte| byte == 0));
    assert_eq!(sum(&bytes[..504]), number(bytes, 504, 8));
    assert_eq!((number(bytes, 8, 2), number(bytes, 11, 1)), (1, u64::from(!made_here)));
    let encoder = number(bytes, 10, 1);
    let identity = wide(bytes, 16, 16);
    let check = if encoder == 3 { key_check(fixtures::KEY, identity) } else { vec![0; 16] };
    assert_eq!(check, bytes[64..80]);
    let (about_place, place) = (number(bytes, 80, 4), number(bytes, 84, 4));
    let piece = |piece: u64, kind: u64| {
        let at = if piece == 0 { 8192 } else { 8192 + about_place + (piece - 1) * place };
        let at = usize::try_from(at).unwrap();
        let header = &bytes[at..at + 128];
        assert_eq!(
            header[..8],
            [b'T', b'R', b'P', b's', 1, bytes[10], u8::try_from(kind).unwrap(), 0]
        );
        assert_eq!((wide(header, 8, 16), wide(header, 24, 16)), (identity, wide(bytes, 32, 16)));
        assert_eq!((number(header, 40, 8), number(header, 56, 8)), (piece, 0));
        assert!(header[72..120].iter().all(|&byte| byte == 0));
        assert_eq!(sum(&header[..120]), number(header, 120, 8));
        let end = at + 128 + usize::try_from(number(header, 48, 4)).unwrap();
        let stored = &bytes[at + 128..end];
        assert_eq!(sum(stored), number(header, 64, 8));
        let plain = usize::try_from(number(header, 52, 4)).unwrap();
        if encoder != 3 {
            assert_eq!(plain, stored.len());
            return (stored.to_vec(), number(header, 120, 8));
        }
        let mut told = header[..120].to_vec();
        told[48..52].fill(0);
        told[56..72].fill(0);
        told.extend(sum(&told).to_le_bytes());
        (decrypt(fixtures::KEY, told, stored, plain), number(header, 120, 8))
    };
    if bytes[512..1024].iter().all(|&byte| byte == 0) {
        return None;
    }
    let end = &bytes[512..1024];
    assert!(end[..8] == *b"TRPend\r\n" && end[42..504].iter().all(|&byte| byte == 0));
    assert_eq!(sum(&end[..504]), number(end, 504, 8));
    assert_eq!((number(end, 8, 2), wide(end, 10, 16)), (1, wide(bytes, 32, 16)));
    let chunks = number(end, 26, 8);
    let (about, _) = piece(0, 1);
    let mut about = Records(&about);
    let (seq, term) = (about.number(8), about.number(8));
    assert_eq!((seq, term), (number(bytes, 48, 8), number(bytes, 56, 8)));
    let (chunk_bytes, tables) = (about.number(4), about.number(8));
    assert_eq!((chunk_bytes, about.number(1)), (number(bytes, 12, 4), 1));
    let configuration = configuration(&mut about);
    assert!(about.0.is_empty());
    let content: Vec<u8> = (1..=chunks).flat_map(|number| piece(number, 2).0).collect();
    let (last, header_sum) = piece(chunks + 1, 3);
    assert_eq!(header_sum, number(end, 34, 8));
    assert_eq!((number(&last, 0, 8), number(&last, 8, 8)), (chunks, content.len() as u64));
    let digest = number(&last, 16, 8);
    assert_eq!(sum(&[&bytes[32..48], &content].concat()), digest);
    let (tables, state) = content.split_at(usize::try_from(tables).unwrap());
    let mut text = String::new();
    writeln!(text, "snapshot {:032x} last {seq} term {term}", wide(bytes, 32, 16)).unwrap();
    writeln!(text, "configuration {configuration}").unwrap();
    let length = content.len();
    writeln!(text, "{length} bytes in chunks of {chunk_bytes}, digest {digest:016x}").unwrap();
    for (what, bytes) in [("tables", tables), ("state", state)] {
        writeln!(text, "{what} {}", String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
    }
    Some(text)
}
