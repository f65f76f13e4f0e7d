//! A reader of logs made from `docs/format.md` alone. It shares no code with the library.
//!
//! It reads logs that nothing happened to: it checks every checksum and every chain, and panics where one does
//! not hold. What a crash leaves is the library's to judge; only what earlier openings cut is skipped.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use blake2::{
    Blake2bMac,
    digest::{
        Mac,
        consts::{U16, U32},
    },
};
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce, aead::AeadInOut};

const END: u64 = 1;
const MARK: u64 = 2;
const COPY: u64 = 4;
const COPIED: u64 = 8;
const CUT: u64 = 16;
const SEAL: u64 = 4096;

/// What a log holds.
#[derive(Default)]
pub(crate) struct Contents {
    identity: u128,
    term: u64,
    vote: u128,
    configuration: Option<String>,
    start: u64,
    before: u64,
    end: u64,
    /// By seq: the term and the rest of the line.
    entries: BTreeMap<u64, (u64, String)>,
    /// Every flag that was met.
    pub(crate) flags: u64,
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "identity {:032x}\nterm {} vote {:032x}", self.identity, self.term, self.vote)?;
        writeln!(f, "configuration {}", self.configuration.as_deref().unwrap_or("none"))?;
        writeln!(f, "start {} before term {}\nend {}", self.start, self.before, self.end)?;
        for (seq, (term, line)) in self.entries.range(self.start..) {
            writeln!(f, "{seq} term {term} {line}")?;
        }
        Ok(())
    }
}

/// The log of this name among these files.
pub(crate) fn read(files: &BTreeMap<String, Vec<u8>>, name: &str, key: &str) -> Contents {
    let of_log = |file: &str| file == format!("{name}.log") || file.ends_with("seg");
    let mut log = Contents::default();
    let mut files =
        files.iter().filter(|(file, _)| of_log(file)).map(|(_, bytes)| bytes).peekable();
    let mut first = true;
    while let Some(bytes) = files.next() {
        let next = files.peek().map(|bytes| (number(bytes, 128, 8), number(bytes, 136, 8)));
        let mut file = File::new(bytes, key);
        file.header(&mut log, first);
        file.frames(&mut log, next);
        first = false;
    }
    log
}

pub(crate) fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    u64::try_from(wide(bytes, at, width)).unwrap()
}

pub(crate) fn wide(bytes: &[u8], at: usize, width: usize) -> u128 {
    bytes[at..at + width].iter().rev().fold(0, |value, &byte| value << 8 | u128::from(byte))
}

fn at(position: u64) -> usize {
    usize::try_from(position).unwrap()
}

pub(crate) fn sum(bytes: &[u8]) -> u64 {
    twox_hash::XxHash3_64::oneshot(bytes)
}

struct File<'a> {
    bytes: &'a [u8],
    key: &'a str,
    encoder: u8,
    block: u64,
    base: u64,
    tag: u64,
    /// Where the next frame lies, as an offset.
    offset: u64,
    prev: u64,
}

impl<'a> File<'a> {
    fn new(bytes: &'a [u8], key: &'a str) -> Self {
        assert_eq!(&bytes[..8], b"TRPlog\r\n");
        assert_eq!(bytes[..512], bytes[512..1024], "the header is there twice");
        assert_eq!(sum(&bytes[..504]), number(bytes, 504, 8));
        assert_eq!(number(bytes, 8, 2), 1, "format");
        assert!(bytes[176..504].iter().all(|&byte| byte == 0));
        let tag = [&bytes[16..32], &bytes[32..40], &bytes[96..112]].concat();
        Self {
            bytes,
            key,
            encoder: bytes[10],
            block: 1 << bytes[11],
            base: number(bytes, 40, 8),
            tag: sum(&tag),
            offset: number(bytes, 12, 4),
            prev: number(bytes, 136, 8),
        }
    }

    fn header(&self, log: &mut Contents, first: bool) {
        let bytes = self.bytes;
        let identity = wide(bytes, 16, 16);
        let (term, vote) = (number(bytes, 56, 8), wide(bytes, 64, 16));
        let (start, before) = (number(bytes, 80, 8), number(bytes, 88, 8));
        let end = number(bytes, 112, 8);
        let length = at(number(bytes, 160, 8));
        let configuration = (length > 0).then(|| {
            let stored = &bytes[1024..1024 + length];
            assert_eq!(sum(stored), number(bytes, 168, 8));
            let second = 1024 + length.next_multiple_of(512);
            assert_eq!(stored, &bytes[second..second + length]);
            configuration(&mut Records(stored))
        });
        if first {
            (log.identity, log.term, log.vote) = (identity, term, vote);
            (log.start, log.before, log.end) = (start, before, end);
            log.configuration = configuration;
        }
        // A header repeats what the files before it say.
        assert_eq!((log.identity, log.term, log.vote), (identity, term, vote));
        assert_eq!((log.start, log.before, log.end), (start, before, end));
        if self.encoder == 3 {
            assert_eq!(key_check(self.key, identity), bytes[144..160]);
        } else {
            assert!(bytes[144..160].iter().all(|&byte| byte == 0));
        }
    }

    /// Reads all frames; `last` is where they end and the checksum of the last, if another file says so.
    fn frames(&mut self, log: &mut Contents, last: Option<(u64, u64)>) {
        loop {
            if let Some((end, sum)) = last
                && self.base + self.offset == end
            {
                assert_eq!(self.prev, sum);
                let seal = self.frame(self.offset).expect("these files are sealed");
                assert_eq!(number(seal, 6, 2) & !8192, SEAL | END);
                log.flags |= SEAL | END;
                return self.seal(seal, log);
            }
            match self.frame(self.offset) {
                Some(frame) => self.group(frame, log),
                None => match self.cut() {
                    Some(offset) => {
                        self.offset = offset;
                        let frame = self.frame(offset).unwrap();
                        self.group(frame, log);
                    }
                    None => return assert_eq!(last, None, "frames end where the next file says"),
                },
            }
        }
    }

    /// The header of the frame at this offset, if there is one.
    fn frame(&self, offset: u64) -> Option<&'a [u8]> {
        let header = self.bytes.get(at(offset)..at(offset) + 128)?;
        if header.iter().all(|&byte| byte == 0) {
            return None;
        }
        assert_eq!(&header[..4], b"TRPf");
        assert_eq!(sum(&header[..120]), number(header, 120, 8));
        let format = if number(header, 6, 2) >> 13 > 0 { 2 } else { 1 };
        assert_eq!((header[4], header[5]), (format, self.encoder));
        assert_eq!(number(header, 8, 8), self.tag);
        assert_eq!(number(header, 16, 8), self.base + offset);
        Some(header)
    }

    /// Where the frame lies that voids everything from here on up to it.
    fn cut(&self) -> Option<u64> {
        (self.offset..self.bytes.len() as u64).step_by(128).find(|&offset| {
            let header = self.bytes.get(at(offset)..at(offset) + 128).unwrap_or_default();
            header.starts_with(b"TRPf")
                && sum(&header[..120]) == number(header, 120, 8)
                && number(header, 6, 2) & CUT != 0
                && number(header, 40, 8) == self.base + self.offset
                && number(header, 32, 8) == self.prev
        })
    }

    /// Reads a group whose first frame has this header.
    fn group(&mut self, first: &'a [u8], log: &mut Contents) {
        let mut header = first;
        loop {
            let flags = number(header, 6, 2);
            log.flags |= flags;
            assert_eq!(number(header, 32, 8), self.prev, "a frame repeats the checksum before it");
            assert_eq!(
                number(header, 40, 8),
                number(first, 40, 8),
                "frames of a group have one begin"
            );
            assert_eq!(wide(header, 88, 8), wide(first, 88, 8));
            (log.term, log.vote) = (number(header, 88, 8), wide(header, 96, 16));
            self.body(header, log);
            self.prev = number(header, 120, 8);
            let (begin, length) = (self.offset, number(header, 76, 4));
            self.offset = (begin + 128 + length).next_multiple_of(128);
            if flags & COPIED != 0 {
                if self.offset / self.block == begin / self.block {
                    self.offset = self.offset.next_multiple_of(self.block);
                }
                let copy = self.frame(self.offset).expect("a copy follows");
                assert_eq!(copy[88..112], header[88..112]);
                log.flags |= number(copy, 6, 2);
                assert_eq!(number(copy, 6, 2) & (COPY | END), COPY | END);
                self.prev = number(copy, 120, 8);
                self.offset += 128;
            }
            if flags & (END | COPIED) != 0 {
                // The next group begins with a block, but what follows a mark may be of its group.
                if flags & MARK == 0 && self.block > 512 {
                    self.offset = self.offset.next_multiple_of(self.block);
                }
                return;
            }
            header = self.frame(self.offset).expect("the group goes on");
        }
    }

    /// The body of a frame as it was before it was encoded.
    fn plain(&self, header: &[u8]) -> Vec<u8> {
        let begin = at(number(header, 16, 8) - self.base) + 128;
        let stored = &self.bytes[begin..begin + at(number(header, 76, 4))];
        let flags = number(header, 6, 2);
        let bare = flags & (64 | 128 | 256 | 512 | 1024) == 512 && flags & 2048 > 0;
        let checked = self.encoder == 1 || self.encoder == 3 || stored.is_empty() || !bare;
        assert_eq!(number(header, 112, 8), if checked { sum(stored) } else { 0 });
        let mut sectors = stored.get((512 - begin % 512) % 512..).unwrap_or_default().chunks(512);
        let zeros = sectors.by_ref().filter(|part| part.iter().all(|&byte| byte == 0)).count();
        assert_eq!(number(header, 84, 4), zeros as u64);
        let plain = if self.encoder == 3 && !stored.is_empty() {
            self.decrypt(header, stored)
        } else {
            stored.to_vec()
        };
        assert_eq!(plain.len() as u64, number(header, 80, 4));
        plain
    }

    fn decrypt(&self, header: &[u8], stored: &[u8]) -> Vec<u8> {
        // What the encoder was told of the header: without what followed from its result.
        let mut told = header[..120].to_vec();
        told[76..80].fill(0);
        told[84..88].fill(0);
        told[112..120].fill(0);
        told.extend(sum(&told).to_le_bytes());
        decrypt(self.key, told, stored, at(number(header, 80, 4)))
    }

    fn body(&self, header: &[u8], log: &mut Contents) {
        let body = self.plain(header);
        let mut records = Records(&body);
        let (mut term, mut count) = (0, 0);
        let (mut seq, mut flags) = (number(header, 64, 8), 0);
        while !records.0.is_empty() {
            let tag = records.number(1);
            match tag {
                1 => {
                    log.configuration = Some(configuration(&mut records));
                    flags |= 64;
                }
                2 => {
                    (log.start, log.before) = (records.number(8), records.number(8));
                    log.end = log.start;
                    log.entries.clear();
                    flags |= 128;
                }
                3 => {
                    log.end = records.number(8);
                    log.entries.split_off(&log.end);
                    flags |= 256;
                }
                4 => term = records.varint(),
                5 => {
                    (log.start, log.before) = (records.number(8), records.number(8));
                    flags |= 1024;
                }
                7 => {
                    (seq, term) = (records.number(8), 0);
                    flags |= 8192;
                }
                16..=18 | 20..=22 => {
                    let repair = flags & 8192 > 0;
                    assert_eq!(seq == log.end, !repair, "entries follow those before them");
                    let kind = ["payload", "noop", "configuration"][at(tag & 3)];
                    let ends = if tag & 4 != 0 { "ends" } else { "goes-on" };
                    let length = at(records.varint());
                    let mut line = format!("{kind} {ends} ");
                    for byte in records.take(length) {
                        write!(line, "{byte:02x}").unwrap();
                    }
                    let before = log.entries.insert(seq, (term, line));
                    if repair {
                        assert!(before.is_none_or(|(before, _)| before == term));
                        seq += 1;
                        continue;
                    }
                    (seq, count, log.end) = (seq + 1, count + 1, seq + 1);
                    flags |= 512;
                }
                other => panic!("record {other}"),
            }
        }
        assert_eq!(number(header, 72, 4), count);
        assert_eq!(number(header, 6, 2) & (64 | 128 | 256 | 512 | 1024 | 8192), flags);
    }

    /// The seal says what the frames of its file do together, and where its entries lie.
    fn seal(&self, header: &[u8], log: &Contents) {
        let body = self.plain(header);
        let mut records = Records(&body);
        let mut tag = records.number(1);
        if tag == 1 {
            assert_eq!(log.configuration.as_ref(), Some(&configuration(&mut records)));
            tag = records.number(1);
        }
        assert_eq!(tag, 6);
        let flags = records.number(1);
        let mut starts = [None, None];
        for (flag, start) in [1, 4].into_iter().zip(&mut starts) {
            *start = (flags & flag != 0).then(|| (records.number(8), records.number(8)));
        }
        if let [_, Some(start)] = starts {
            assert_eq!(start, (log.start, log.before));
        }
        let mut seq = records.number(8);
        let mut term = 0;
        for _ in 0..records.varint() {
            term += records.varint();
            for _ in 0..records.varint() {
                assert!(log.entries.get(&seq).is_none_or(|entry| entry.0 == term));
                seq += 1;
            }
        }
        assert_eq!(seq, log.end);
        let (mut first, mut slot) = (0, 0);
        for _ in 0..records.varint() {
            first += records.varint();
            slot += records.varint();
            let frame = self.frame(slot * 128 - self.base).unwrap();
            assert!(number(frame, 64, 8) <= first && number(frame, 6, 2) & 512 != 0);
        }
        if flags & 8 != 0 {
            for _ in 0..records.varint() {
                let (first, count, slot) = (records.varint(), records.varint(), records.varint());
                assert!(first + count <= log.end);
                let frame = self.frame(slot * 128 - self.base).unwrap();
                assert!(number(frame, 6, 2) & 8192 > 0);
            }
        }
        let newer = flags & 8 != 0 || flags & 16 != 0;
        assert_eq!(number(header, 6, 2) & 8192 > 0, newer);
        assert!(records.0.is_empty());
    }
}

/// An encrypted body of so many bytes, whose encoder was told these 128 bytes of its header.
pub(crate) fn decrypt(key: &str, mut told: Vec<u8>, stored: &[u8], bytes: usize) -> Vec<u8> {
    told.resize(184, 0);
    told.extend(128_u64.to_le_bytes());
    let (text, rest) = stored.split_at(bytes);
    let (tags, random) = rest.split_at(rest.len() - 20);
    let mut text = text.to_vec();
    let cipher = XChaCha20Poly1305::new(&subkey(key, "log frames 1").into());
    let count = u32::try_from(tags.len() / 16).unwrap();
    for ((chunk, tag), index) in text.chunks_mut(128 << 10).zip(tags.chunks(16)).zip(0..) {
        let last = if index + 1 == count { 1 << 31 } else { 0 };
        let nonce = [random, &(index | last).to_le_bytes()].concat();
        let nonce = XNonce::try_from(&nonce[..]).unwrap();
        let tag = Tag::try_from(tag).unwrap();
        cipher.decrypt_inout_detached(&nonce, &told, chunk.into(), &tag).unwrap();
    }
    text
}

fn subkey(key: &str, purpose: &str) -> [u8; 32] {
    let digits = |pair| u8::from_str_radix(pair, 16).unwrap();
    let key: Vec<u8> = (0..32).map(|at| digits(&key[2 * at..2 * at + 2])).collect();
    let keyed = Blake2bMac::<U32>::new_from_slice(&key).unwrap();
    mac(keyed, purpose.as_bytes()).try_into().unwrap()
}

/// What the header of a file has to tell the key.
pub(crate) fn key_check(key: &str, identity: u128) -> Vec<u8> {
    let keyed = Blake2bMac::<U16>::new_from_slice(&subkey(key, "log key check 1"));
    mac(keyed.unwrap(), &identity.to_le_bytes())
}

fn mac(keyed: impl Mac, bytes: &[u8]) -> Vec<u8> {
    keyed.chain_update(bytes).finalize().into_bytes().to_vec()
}

/// What is left of a body.
pub(crate) struct Records<'a>(pub(crate) &'a [u8]);

impl<'a> Records<'a> {
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    pub(crate) fn number(&mut self, width: usize) -> u64 {
        number(self.take(width), 0, width)
    }

    fn varint(&mut self) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.number(1);
            value |= (byte & 127) << shift;
            shift += 7;
            if byte < 128 {
                return value;
            }
        }
    }
}

pub(crate) fn configuration(records: &mut Records<'_>) -> String {
    let rule = match (records.number(1), records.number(4)) {
        (1, _) => "majority".to_owned(),
        (_, count) => format!("AtLeast({count})"),
    };
    let mut text = format!("{rule} first {}", records.number(8));
    for _ in 0..records.varint() {
        let length = at(records.varint());
        let name = String::from_utf8(records.take(length).to_vec()).unwrap();
        write!(text, " {name}={:x}", wide(records.take(16), 0, 16)).unwrap();
    }
    text
}
