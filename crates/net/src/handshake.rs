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
mod tests;
