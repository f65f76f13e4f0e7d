//! Who is there: two packets that prove to each side that the other has the key, now.
//!
//! Noise, pattern `NNpsk0`: the first packet can be read only with the key, the second only by who drew the secret that
//! belongs to the first, and the records after it only by who drew those of both. So what was recorded can't be played
//! again, and a key that is lost later opens no recording. **Nothing in the first packet has an effect**: it may be a
//! recording. Whoever answers knows that the other side is there once its first record opens.
//!
//! Names travel inside and are checked by both sides, but whoever has the key can claim any.

use snow::{Builder, HandshakeState, params::NoiseParams};
use tinyraftplus_core::{NodeId, quorum::CustomRule};
use tinyraftplus_log::Key;

use crate::session::Session;
use crate::wire::fields::{Fields, ITEMS, Writer};

/// Before each of the two packets.
pub(crate) const HEAD_BYTES: usize = 12;
/// The longest packet, without its head: room for 64 custom rules.
const PACKET_BYTES_MAX: usize = 8192;
/// The versions of the protocol that are spoken here.
pub(crate) const VERSIONS: Versions = Versions { oldest: 1, newest: 1 };

/// What the second packet is.
const NOISE: u8 = 0;
const OTHER_VERSION: u8 = 1;
const OTHER_KEY: u8 = 2;

/// What a connection is for: the two never talk to each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    Nodes,
    Pipe,
}

impl Purpose {
    const fn magic(self) -> [u8; 8] {
        match self {
            Self::Nodes => *b"TRPnode\n",
            Self::Pipe => *b"TRPpipe\n",
        }
    }

    /// The key as the handshake has it: an own one for each purpose, so that the cluster's key stays where it is.
    pub(crate) fn key(self, key: &Key) -> Key {
        key.subkey(match self {
            Self::Nodes => "tinyraftplus connections between nodes",
            Self::Pipe => "tinyraftplus message pipes",
        })
    }
}

/// The versions of the protocol that a program speaks, both included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Versions {
    /// The oldest.
    pub oldest: u8,
    /// The newest.
    pub newest: u8,
}

impl Versions {
    /// The newest version that both speak.
    fn common(self, other: Self) -> Option<u8> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.oldest == self.newest {
            return write!(f, "version {}", self.newest);
        }
        write!(f, "versions {} to {}", self.oldest, self.newest)
    }
}

/// What each side says of itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Hello {
    /// Who it is.
    pub(crate) id: Option<NodeId>,
    /// Whom it wants.
    pub(crate) to: Option<NodeId>,
    pub(crate) cluster: String,
    /// The custom rules it can evaluate, in order.
    pub(crate) rules: Vec<CustomRule>,
    /// The longest message that it takes, in bytes; 0 if it does not say.
    pub(crate) takes: u64,
}

/// Why two sides do not talk to each other. Both sides learn the reason, but for [`Foreign`](Self::Foreign).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Something else than this protocol.
    #[error("speaks another protocol; is it the right address?")]
    Foreign,
    /// No common version.
    #[error("speaks {theirs} of the protocol, this side {ours}; update the older one")]
    Version {
        /// What the other side speaks.
        theirs: Versions,
        /// What this side speaks.
        ours: Versions,
    },
    /// Another key, or a packet that was changed on the way.
    #[error("has another key; give both sides the same")]
    Key,
    /// Another cluster.
    #[error("belongs to cluster {theirs:?}, this node to {ours:?}; look at the addresses")]
    Cluster {
        /// The name of the other side's.
        theirs: String,
        /// The name of this side's.
        ours: String,
    },
    /// The node at an address is not the one that was looked for there.
    #[error("node {found} is at the address of node {wanted}; look at the addresses")]
    WrongNode {
        /// Who was looked for.
        wanted: NodeId,
        /// Who is there.
        found: NodeId,
    },
    /// A node that has this node's name, or this node itself.
    #[error("has the name of this node, {0}; every node needs its own")]
    SameName(NodeId),
    /// Each side has a custom rule that the other can't evaluate.
    #[error("has the custom rule {theirs} and not {ours}; give all nodes the same rules")]
    Rules {
        /// One that only the other side has.
        theirs: CustomRule,
        /// One that only this side has.
        ours: CustomRule,
    },
    /// The other side refused, for a reason that this version does not know.
    #[error("refused, for reason {0} that this version does not know")]
    Refused(u64),
    /// There are no random numbers.
    #[error("can't be reached: {0}")]
    Local(&'static str),
}

impl HandshakeError {
    /// For the other side, if it can't find out by itself. 0 is none.
    const fn code(&self) -> u64 {
        match self {
            Self::Foreign | Self::Version { .. } | Self::Key | Self::Local(_) => 0,
            Self::Cluster { .. } => 1,
            Self::WrongNode { .. } => 2,
            Self::SameName(_) => 3,
            Self::Rules { .. } => 4,
            Self::Refused(code) => *code,
        }
    }
}

/// Whether a side that said `ours` talks to one that said `theirs`. Both sides ask this.
fn judge(ours: &Hello, theirs: &Hello) -> Result<(), HandshakeError> {
    if ours.cluster != theirs.cluster {
        let (theirs, ours) = (theirs.cluster.clone(), ours.cluster.clone());
        return Err(HandshakeError::Cluster { theirs, ours });
    }
    for (wants, is) in [(ours, theirs), (theirs, ours)] {
        if let (Some(wanted), Some(found)) = (wants.to, is.id)
            && wanted != found
        {
            return Err(HandshakeError::WrongNode { wanted, found });
        }
    }
    if let Some(id) = ours.id.filter(|_| ours.id == theirs.id) {
        return Err(HandshakeError::SameName(id));
    }
    // One that has more is fine: so rules can be added to one node after the other.
    let only = |here: &Hello, there: &Hello| {
        here.rules.iter().find(|rule| !there.rules.contains(rule)).copied()
    };
    if let (Some(theirs), Some(ours)) = (only(theirs, ours), only(ours, theirs)) {
        return Err(HandshakeError::Rules { theirs, ours });
    }
    Ok(())
}

/// The side that connected, between the two packets.
pub(crate) struct Initiator {
    noise: HandshakeState,
    hello: Hello,
}

impl Initiator {
    /// Begins, with the first packet.
    pub(crate) fn start(
        key: &Key,
        purpose: Purpose,
        hello: Hello,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let head = first_head(purpose, VERSIONS);
        let mut noise = noise(key, &head, Side::Initiator)?;
        let packet = packet(&mut noise, &head, &put_hello(&hello, 0, 0))?;
        Ok((Self { noise, hello }, packet))
    }

    /// Begins as a program would that speaks newer versions too, and says more.
    #[cfg(test)]
    pub(crate) fn start_newer(key: &Key, hello: Hello) -> (Self, Vec<u8>) {
        let head = first_head(Purpose::Nodes, Versions { oldest: 1, newest: 9 });
        let mut noise = noise(key, &head, Side::Initiator).unwrap();
        let newer = [&put_hello(&hello, 0, 0)[..], &[20, 5, 23, 1, 9]].concat();
        let packet = packet(&mut noise, &head, &newer).unwrap();
        (Self { noise, hello }, packet)
    }

    /// Ends, with the second packet.
    pub(crate) fn finish(
        mut self,
        head: Head,
        packet: &[u8],
    ) -> Result<(Session, Hello), HandshakeError> {
        let [kind, _] = head.says;
        match (kind, packet) {
            (NOISE, _) => {}
            (OTHER_VERSION, &[oldest, newest]) => {
                let theirs = Versions { oldest, newest };
                return Err(HandshakeError::Version { theirs, ours: VERSIONS });
            }
            (OTHER_KEY, _) => return Err(HandshakeError::Key),
            (kind, _) => return Err(HandshakeError::Refused(kind.into())),
        }
        let (theirs, version, code) = read_packet(&mut self.noise, packet)?;
        judge(&self.hello, &theirs)?;
        if code != 0 {
            return Err(HandshakeError::Refused(code));
        }
        if version != VERSIONS.newest.into() {
            return Err(HandshakeError::Refused(0));
        }
        Ok((session(self.noise)?, theirs))
    }
}

/// What the side that was connected to makes of the first packet.
pub(crate) struct Answered {
    /// The second packet, if one could be made.
    pub(crate) packet: Option<Vec<u8>>,
    /// The connection, once the first record of the other side opens.
    pub(crate) result: Result<(Session, Hello), HandshakeError>,
}

/// Answers a first packet, which may be anything at all.
pub(crate) fn answer(
    key: &Key,
    purpose: Purpose,
    ours: &Hello,
    head: Head,
    packet: &[u8],
) -> Answered {
    let [oldest, newest] = head.says;
    let theirs = Versions { oldest, newest };
    let Some(version) = VERSIONS.common(theirs) else {
        let own = [VERSIONS.oldest, VERSIONS.newest];
        return Answered {
            packet: with_head(&second_head(purpose, OTHER_VERSION), &own),
            result: Err(HandshakeError::Version { theirs, ours: VERSIONS }),
        };
    };
    let prologue = first_head(purpose, theirs);
    let mut noise = match noise(key, &prologue, Side::Responder) {
        Ok(noise) => noise,
        Err(error) => return Answered { packet: None, result: Err(error) },
    };
    let Ok((theirs, _, _)) = read_packet(&mut noise, packet) else {
        return Answered {
            packet: with_head(&second_head(purpose, OTHER_KEY), &[]),
            result: Err(HandshakeError::Key),
        };
    };
    let verdict = judge(ours, &theirs);
    let code = verdict.as_ref().err().map_or(0, HandshakeError::code);
    let reply = put_hello(ours, version.into(), code);
    let packet = self::packet(&mut noise, &second_head(purpose, NOISE), &reply);
    let result = verdict.and_then(|()| Ok((session(noise)?, theirs)));
    match packet {
        Ok(packet) => Answered { packet: Some(packet), result },
        Err(error) => Answered { packet: None, result: Err(error) },
    }
}

/// The head of a packet that is of this protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Head {
    /// Two versions, or what follows.
    says: [u8; 2],
    /// How many bytes follow.
    pub(crate) bytes: usize,
}

impl Head {
    /// A length is believed up to a limit, and only after the right first bytes.
    pub(crate) fn read(purpose: Purpose, head: [u8; HEAD_BYTES]) -> Result<Self, HandshakeError> {
        let [magic @ .., first, second, low, high] = head;
        let bytes = usize::from(u16::from_le_bytes([low, high]));
        if magic != purpose.magic() || bytes > PACKET_BYTES_MAX {
            return Err(HandshakeError::Foreign);
        }
        Ok(Self { says: [first, second], bytes })
    }
}

/// What comes before the length in the first packet. It is authenticated, so nobody on the way can talk two sides
/// into an older version.
fn first_head(purpose: Purpose, versions: Versions) -> [u8; 10] {
    second_head_of(purpose, [versions.oldest, versions.newest])
}

fn second_head(purpose: Purpose, kind: u8) -> [u8; 10] {
    second_head_of(purpose, [kind, 0])
}

fn second_head_of(purpose: Purpose, end: [u8; 2]) -> [u8; 10] {
    let mut head = [0; 10];
    head.iter_mut().zip(purpose.magic().into_iter().chain(end)).for_each(|(to, from)| *to = from);
    head
}

fn with_head(head: &[u8; 10], packet: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(packet.len()).ok()?.to_le_bytes();
    Some([&head[..], &length, packet].concat())
}

const NO_NOISE: HandshakeError =
    HandshakeError::Local("there are no random numbers for the handshake");

#[derive(Clone, Copy)]
enum Side {
    Initiator,
    Responder,
}

fn noise(key: &Key, prologue: &[u8; 10], side: Side) -> Result<HandshakeState, HandshakeError> {
    let noise = builder(key, prologue)?;
    let noise = match side {
        Side::Initiator => noise.build_initiator(),
        Side::Responder => noise.build_responder(),
    };
    noise.map_err(|_| NO_NOISE)
}

fn builder<'a>(key: &'a Key, prologue: &'a [u8; 10]) -> Result<Builder<'a>, HandshakeError> {
    let params: NoiseParams =
        "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s".parse().map_err(|_| NO_NOISE)?;
    let builder = Builder::new(params).psk(0, key.reveal());
    builder.and_then(|builder| builder.prologue(prologue)).map_err(|_| NO_NOISE)
}

fn packet(
    noise: &mut HandshakeState,
    head: &[u8; 10],
    hello: &[u8],
) -> Result<Vec<u8>, HandshakeError> {
    let mut sealed = vec![0; PACKET_BYTES_MAX];
    let count = noise.write_message(hello, &mut sealed);
    let count = count.map_err(|_| HandshakeError::Local("its packet is too long"))?;
    let sealed = sealed.get(..count).unwrap_or_default();
    with_head(head, sealed).ok_or(HandshakeError::Local("its packet is too long"))
}

fn read_packet(
    noise: &mut HandshakeState,
    packet: &[u8],
) -> Result<(Hello, u64, u64), HandshakeError> {
    let mut hello = vec![0; packet.len()];
    let count = noise.read_message(packet, &mut hello).map_err(|_| HandshakeError::Key)?;
    let hello = hello.get(..count).unwrap_or_default();
    // It was sealed by who has the key, so what makes no sense is of another version.
    take_hello(hello).ok_or(HandshakeError::Refused(0))
}

fn session(noise: HandshakeState) -> Result<Session, HandshakeError> {
    let transport = noise.into_stateless_transport_mode();
    transport.map(Session::new).map_err(|_| HandshakeError::Local("the handshake did not end"))
}

pub(crate) fn put_hello(hello: &Hello, version: u64, refusal: u64) -> Vec<u8> {
    let mut out = Writer::default();
    for (field, id) in [(1, hello.id), (2, hello.to)] {
        if let Some(id) = id {
            out.bytes(field, id.as_str().as_bytes());
        }
    }
    out.bytes(3, hello.cluster.as_bytes());
    out.number(4, version);
    out.number(5, refusal);
    out.number(6, hello.takes);
    for rule in &hello.rules {
        out.nested(ITEMS, |out| {
            out.bytes(1, rule.name().as_bytes());
            out.number(2, rule.version().into());
        });
    }
    out.finish().join().to_vec()
}

pub(crate) fn take_hello(bytes: &[u8]) -> Option<(Hello, u64, u64)> {
    let mut room = PACKET_BYTES_MAX;
    let fields = Fields::read(bytes, &mut room).ok()?;
    let id = |field| match fields.text(field).ok()? {
        Some(name) => Some(Some(NodeId::new(name).ok()?)),
        None => Some(None),
    };
    let mut rules = Vec::new();
    for item in &fields.items {
        let rule = Fields::read(item, &mut room).ok()?;
        let version = u32::try_from(rule.number(2)).ok()?;
        rules.push(CustomRule::new(rule.text(1).ok()??, version).ok()?);
    }
    let cluster = fields.text(3).ok()?.unwrap_or_default().to_owned();
    let hello = Hello { id: id(1)?, to: id(2)?, cluster, rules, takes: fields.number(6) };
    Some((hello, fields.number(4), fields.number(5)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{CONTENT_BYTES_MAX, Opener};

    fn hello(id: u64) -> Hello {
        Hello { id: Some(NodeId::from(id)), ..Hello::default() }
    }

    fn key() -> Key {
        Key::from_bytes([7; 32])
    }

    fn split(packet: &[u8]) -> (Head, &[u8]) {
        let (head, rest) = packet.split_first_chunk().unwrap();
        let head = Head::read(Purpose::Nodes, *head).unwrap();
        assert_eq!(head.bytes, rest.len());
        (head, rest)
    }

    /// Without a look at the length: that is the reader's business.
    fn changed(mut packet: Vec<u8>, bit: usize) -> Option<(Head, Vec<u8>)> {
        packet[bit / 8] ^= 1 << (bit % 8);
        let (head, rest) = packet.split_first_chunk().unwrap();
        Some((Head::read(Purpose::Nodes, *head).ok()?, rest.to_vec()))
    }

    fn start(hello: Hello) -> (Initiator, Vec<u8>) {
        Initiator::start(&key(), Purpose::Nodes, hello).unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn unhex(text: &str) -> Vec<u8> {
        let pairs = text.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    fn answered(packet: &[u8]) -> Answered {
        let (head, rest) = split(packet);
        answer(&key(), Purpose::Nodes, &hello(2), head, rest)
    }

    #[test]
    fn both_sides_learn_who_the_other_is_and_read_each_other() {
        let rules = (0..64).map(|version| CustomRule::new(&"x".repeat(63), version).unwrap());
        let first = Hello { to: Some(NodeId::from(2)), rules: rules.collect(), ..hello(1) };
        let (initiator, packet) = start(first.clone());
        let Answered { packet, result } = answered(&packet);
        let (there, theirs) = result.unwrap();
        assert_eq!(theirs, first);
        let packet = packet.unwrap();
        let (head, rest) = split(&packet);
        let (here, theirs) = initiator.finish(head, rest).unwrap();
        assert_eq!(theirs, hello(2));
        let (mut seal, mut open) = (here.split().0, there.split().1);
        let (mut sealed, mut content) = (Vec::new(), Vec::new());
        seal.seal(b"hello", &mut sealed).unwrap();
        open.open(&sealed[2..], &mut content).unwrap();
        assert_eq!(content, b"hello");
        // The same record again, and one that was changed.
        assert!(open.open(&sealed[2..], &mut content).is_err());
        seal.seal(b"hello", &mut sealed).unwrap();
        sealed[30] ^= 1;
        assert!(open.open(&sealed[25..], &mut content).is_err());
    }

    /// `reflected_session`: whatever a side has sealed does not open at that side, and its own first packet is no answer to it.
    #[test]
    fn reflected_session() {
        let (initiator, first) = start(hello(1));
        let (head, rest) = split(&first);
        let reflected = Initiator { noise: start(hello(1)).0.noise, hello: hello(1) };
        assert!(reflected.finish(head, rest).is_err());
        let back = answer(&key(), Purpose::Nodes, &hello(1), head, rest).result;
        assert_eq!(back.err(), Some(HandshakeError::SameName(NodeId::from(1))));

        let Answered { packet, result } = answered(&first);
        let packet = packet.unwrap();
        let (head, rest) = split(&packet);
        let here = initiator.finish(head, rest).unwrap().0;
        for (mut sealer, mut opener) in [here.split(), result.unwrap().0.split()] {
            let mut sealed = Vec::new();
            sealer.seal(b"hello", &mut sealed).unwrap();
            assert!(opener.open(&sealed[2..], &mut Vec::new()).is_err());
        }
    }

    /// A whole connection of version 1, as it was when that was frozen, with the secret that its initiator had drawn: today's code reads both
    /// sides, and writes the same as the initiator did. `WIRE_FIXTURES=write cargo test -p tinyraftplus-net --lib` makes a new one; for a
    /// version that was released, never.
    #[test]
    fn a_session_of_version_1_is_frozen() {
        const SECRET: [u8; 32] = [11; 32];
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/wire-v1/session.txt");
        let key = Purpose::Nodes.key(&key());
        let prologue = first_head(Purpose::Nodes, VERSIONS);
        let rules = vec![CustomRule::new("near", 2).unwrap()];
        let cluster = "tests".to_owned();
        let said = |id: u64| Hello {
            id: Some(NodeId::from(id)),
            to: (id == 1).then(|| NodeId::from(2)),
            cluster: cluster.clone(),
            rules: rules.clone(),
            takes: 64 << 20,
        };
        let drawn = builder(&key, &prologue).unwrap().fixed_ephemeral_key_for_testing_only(&SECRET);
        let mut noise = drawn.build_initiator().unwrap();
        let first = packet(&mut noise, &prologue, &put_hello(&said(1), 0, 0)).unwrap();
        let initiator = Initiator { noise, hello: said(1) };
        let records = [&b"\x03"[..], b"\x00\x02\0\0\0hi", &[2; CONTENT_BYTES_MAX]];
        let sealed = |session: &Session| {
            let mut sealer = session.clone().split().0;
            let mut sealed = Vec::new();
            records.iter().for_each(|record| sealer.seal(record, &mut sealed).unwrap());
            // Of the longest, its end is enough.
            [&sealed[..200], &sealed[sealed.len() - 16..]].concat()
        };
        let (head, rest) = split(&first);
        let answered = answer(&key, Purpose::Nodes, &said(2), head, rest);
        if std::env::var_os("WIRE_FIXTURES").is_some_and(|it| it == "write") {
            let second = answered.packet.clone().unwrap();
            let there = sealed(&answered.result.as_ref().unwrap().0);
            let (head, rest) = split(&second);
            let drawn = builder(&key, &prologue).unwrap();
            let drawn = drawn.fixed_ephemeral_key_for_testing_only(&SECRET);
            let mut noise = drawn.build_initiator().unwrap();
            packet(&mut noise, &prologue, &put_hello(&said(1), 0, 0)).unwrap();
            let here = Initiator { noise, hello: said(1) }.finish(head, rest).unwrap().0;
            let lines = [&first, &second, &sealed(&here), &there].map(|bytes| hex(bytes));
            std::fs::write(path, lines.join("\n") + "\n").unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap();
        let [kept_first, kept_second, here, there] =
            <[Vec<u8>; 4]>::try_from(kept.lines().map(unhex).collect::<Vec<_>>()).unwrap();
        assert_eq!(first, kept_first);
        assert_eq!(answered.result.unwrap().1, said(1));
        let (head, rest) = split(&kept_second);
        let (session, theirs) = initiator.finish(head, rest).unwrap();
        assert_eq!(theirs, said(2));
        assert_eq!(sealed(&session), here);
        let mut opener = session.split().1;
        let mut content = Vec::new();
        let mut rest = &there[..];
        for record in &records[..2] {
            let (length, sealed) = rest.split_first_chunk().unwrap();
            let (sealed, after) = sealed.split_at(Opener::sealed_bytes(*length).unwrap());
            opener.open(sealed, &mut content).unwrap();
            assert_eq!(content, *record);
            rest = after;
        }
    }

    /// Any bit of either packet, and any shorter one: no connection, and no panic.
    #[test]
    fn a_changed_packet_is_no_handshake() {
        let (_, packet) = start(hello(1));
        for bit in (0..80).chain(96..packet.len() * 8) {
            if let Some((head, rest)) = changed(packet.clone(), bit) {
                assert!(answer(&key(), Purpose::Nodes, &hello(2), head, &rest).result.is_err());
            }
        }
        let reply = answered(&packet).packet.unwrap();
        // Byte 9 says nothing.
        for bit in (0..72).chain(96..reply.len() * 8) {
            let (initiator, packet) = start(hello(1));
            if let Some((head, rest)) = changed(answered(&packet).packet.unwrap(), bit) {
                assert!(initiator.finish(head, &rest).is_err());
            }
        }
        for cut in 0..packet.len() - HEAD_BYTES {
            let (head, rest) = split(&packet);
            assert!(answer(&key(), Purpose::Nodes, &hello(2), head, &rest[..cut]).result.is_err());
        }
    }

    /// An answer that was recorded belongs to another first packet.
    #[test]
    fn a_recorded_answer_is_none() {
        let (_, packet) = start(hello(1));
        let recorded = answered(&packet).packet.unwrap();
        let (initiator, _) = start(hello(1));
        let (head, rest) = split(&recorded);
        assert_eq!(initiator.finish(head, rest).err(), Some(HandshakeError::Key));
    }

    /// `wrong_cluster`, versions: a newer program that still speaks this version gets it; one that does not is told, and
    /// tells.
    #[test]
    fn versions_are_agreed_on_or_named() {
        let from = |oldest, newest| {
            let versions = Versions { oldest, newest };
            let head = first_head(Purpose::Nodes, versions);
            let mut noise = noise(&key(), &head, Side::Initiator).unwrap();
            let packet = packet(&mut noise, &head, &put_hello(&hello(1), 0, 0)).unwrap();
            (noise, packet)
        };
        let (mut noise, packet) = from(1, 9);
        let reply = answered(&packet).packet.unwrap();
        let (_, version, code) = read_packet(&mut noise, split(&reply).1).unwrap();
        assert_eq!((version, code), (1, 0));

        let (_, packet) = from(2, 9);
        let Answered { packet, result } = answered(&packet);
        let text =
            "speaks versions 2 to 9 of the protocol, this side version 1; update the older one";
        assert_eq!(result.err().unwrap().to_string(), text);
        let reply = packet.unwrap();
        let (initiator, _) = start(hello(1));
        let (head, _) = split(&reply);
        let error = initiator.finish(head, &[2, 9]).err().unwrap();
        assert_eq!(error.to_string(), text);
        assert_eq!(reply[HEAD_BYTES..], [1, 1]);
        // Nobody on the way can make two programs speak an older version.
        let (_, mut packet) = from(1, 9);
        packet[9] = 1;
        assert_eq!(answered(&packet).result.err(), Some(HandshakeError::Key));
    }

    /// What a newer version says besides, and a reason that this one does not know.
    #[test]
    fn a_newer_hello_is_read() {
        let newer = [&put_hello(&hello(1), 0, 0)[..], &[20, 5, 23, 1, 9]].concat();
        assert_eq!(take_hello(&newer), Some((hello(1), 0, 0)));
        let (initiator, packet) = start(hello(1));
        let (_, rest) = split(&packet);
        let mut noise =
            noise(&key(), &first_head(Purpose::Nodes, VERSIONS), Side::Responder).unwrap();
        read_packet(&mut noise, rest).unwrap();
        let reply = put_hello(&hello(2), 1, 77);
        let reply = super::packet(&mut noise, &second_head(Purpose::Nodes, NOISE), &reply).unwrap();
        let (head, rest) = split(&reply);
        assert_eq!(initiator.finish(head, rest).err(), Some(HandshakeError::Refused(77)));
    }
}
