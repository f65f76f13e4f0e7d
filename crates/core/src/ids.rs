//! The words: sequence numbers, terms, node names, identities, instants.

use core::cmp::Ordering;
use core::hash::{Hash, Hasher};
use core::{fmt, ops, str, time::Duration};

/// Position of an entry in the log, counted from 0.
///
/// The largest `u64` is never the seq of an entry, so that the end of a log always fits.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Seq(u64);

impl Seq {
    /// The first position of an ordinary log.
    pub const ZERO: Self = Self(0);
    /// The end of a log that is full. No entry has this seq.
    pub const MAX: Self = Self(u64::MAX);

    /// The position with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of this position.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position `count` further on, if there is one.
    pub const fn checked_add(self, count: u64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The position just before, if there is one.
    pub const fn before(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The position just after an entry that exists: the end of a log whose newest entry this is.
    ///
    /// Entries never have the seq [`Seq::MAX`], so there always is one; for `MAX` itself it stays there.
    #[must_use]
    pub const fn after(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// How many positions lie in `start..self`; 0 if `start` is further on.
    pub const fn since(self, start: Self) -> u64 {
        self.0.saturating_sub(start.0)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A Raft term (Raft section 5.1). Term 0 is before the first election.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Term(u64);

impl Term {
    /// Before the first election.
    pub const ZERO: Self = Self(0);

    /// The term with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of this term.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The term after this one, if there is one.
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one entry for ever: two logs that both hold it agree on everything up to it (Raft section 5.3).
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct EntryId {
    /// The term whose leader created it.
    pub term: Term,
    /// Its position.
    pub seq: Seq,
}

impl EntryId {
    /// The entry at `seq` that the leader of `term` created.
    pub const fn new(term: Term, seq: Seq) -> Self {
        Self { term, seq }
    }
}

/// Orders logs by their newest entry: the later term wins, then the longer log (Raft section 5.4.1).
impl Ord for EntryId {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.term, self.seq).cmp(&(other.term, other.seq))
    }
}

impl PartialOrd for EntryId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `7@2` is seq 7 of term 2.
impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.seq, self.term)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Which log this is: drawn at random when a log is created, never 0.
///
/// A node that lost its disk comes back under its old name with another identity, so nobody mistakes it for
/// the one that voted and acknowledged.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Identity(u128);

impl Identity {
    /// The identity with this number; 0 is reserved and becomes 1.
    pub const fn new(number: u128) -> Self {
        Self(if number == 0 { 1 } else { number })
    }

    /// Its number, never 0.
    pub const fn get(self) -> u128 {
        self.0
    }
}

/// The first eight hexadecimal digits are enough to tell the logs of one cluster apart.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 96)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A node as it speaks: its name, and the log that it speaks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) identity: Identity,
}

/// What must be durable before a vote or an acknowledgement leaves a node (Raft figure 2, persistent state).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HardState {
    /// The newest term this node has seen.
    pub term: Term,
    /// Whom it voted for in that term: the identity of the candidate's log.
    pub vote: Option<Identity>,
}

/// The name of a node: 1 to 63 bytes of text without spaces or control characters.
///
/// A number names the same node as its decimal digits: `NodeId::from(1)` is `NodeId::new("1")`.
#[derive(Clone, Copy, Eq)]
pub struct NodeId {
    // Zeros after the name, so that comparing the array compares the names.
    bytes: [u8; Self::BYTES_MAX],
    len: u8,
}

impl NodeId {
    /// The longest name, in bytes: room for a host name with a port.
    pub const BYTES_MAX: usize = 63;

    /// The node with this name.
    ///
    /// # Errors
    ///
    /// If the name is empty, longer than [`NodeId::BYTES_MAX`], or holds a space or a control character.
    pub fn new(name: &str) -> Result<Self, NodeIdError> {
        let len = u8::try_from(name.len()).map_err(|_| NodeIdError::TooLong)?;
        if name.is_empty() {
            return Err(NodeIdError::Empty);
        }
        if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(NodeIdError::BadCharacter);
        }
        let mut bytes = [0; Self::BYTES_MAX];
        bytes.get_mut(..name.len()).ok_or(NodeIdError::TooLong)?.copy_from_slice(name.as_bytes());
        Ok(Self { bytes, len })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let name = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        str::from_utf8(name).expect("made from a str in `new` and never changed")
    }

    /// The first bytes as a number that is ordered as they are. Nearly always enough to tell names apart, and a
    /// leader compares names all the time.
    const fn front(&self) -> u64 {
        match self.bytes.first_chunk() {
            Some(front) => u64::from_le_bytes(*front).swap_bytes(),
            None => 0,
        }
    }

    /// Whether [`NodeId::front`] is all of it.
    const fn is_short(&self) -> bool {
        self.len <= 8
    }
}

impl PartialEq for NodeId {
    fn eq(&self, other: &Self) -> bool {
        self.front() == other.front()
            && self.len == other.len
            && (self.is_short() || self.bytes == other.bytes)
    }
}

impl Ord for NodeId {
    fn cmp(&self, other: &Self) -> Ordering {
        let rest = || {
            if self.is_short() && other.is_short() {
                Ordering::Equal
            } else {
                self.bytes.cmp(&other.bytes)
            }
        };
        self.front().cmp(&other.front()).then_with(rest)
    }
}

impl PartialOrd for NodeId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for NodeId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl From<u64> for NodeId {
    fn from(mut number: u64) -> Self {
        let mut digits = [0; 20];
        let mut start = digits.len();
        loop {
            start -= 1;
            let digit = u8::try_from(number % 10).expect("a remainder of ten fits");
            *digits.get_mut(start).expect("a u64 has at most 20 digits") = b'0' + digit;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        let digits =
            digits.get(start..).and_then(|d| str::from_utf8(d).ok()).expect("ASCII digits");
        Self::new(digits).expect("digits are a valid name")
    }
}

impl str::FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(name: &str) -> Result<Self, NodeIdError> {
        Self::new(name)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not the name of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum NodeIdError {
    /// It has no characters.
    Empty,
    /// It has more than [`NodeId::BYTES_MAX`] bytes.
    TooLong,
    /// It holds a space or a control character.
    BadCharacter,
}

impl fmt::Display for NodeIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a node's name must not be empty"),
            Self::TooLong => write!(f, "a node's name has at most {} bytes", NodeId::BYTES_MAX),
            Self::BadCharacter => {
                f.write_str("a node's name holds no spaces or control characters")
            }
        }
    }
}

impl core::error::Error for NodeIdError {}

/// Names one request of the driver's; the answer carries it. Never sent, never stored.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ticket(pub u64);

/// An instant in nanoseconds, since an origin that the driver picks.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time(u64);

impl Time {
    /// The driver's origin.
    pub const ZERO: Self = Self(0);
    /// An instant that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The instant this many nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` until this; zero if that is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Stays at [`Time::NEVER`] rather than wrapping.
impl ops::Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_its_digits_are_one_node() {
        for number in [0, 1, 9, 10, 4711, u64::MAX] {
            let id = NodeId::from(number);
            assert_eq!(id, NodeId::new(&alloc::format!("{number}")).unwrap());
        }
        assert_ne!(NodeId::from(1), NodeId::new("01").unwrap());
    }

    #[test]
    fn names_that_would_not_print_are_refused() {
        assert_eq!(NodeId::new(""), Err(NodeIdError::Empty));
        assert_eq!(NodeId::new("a b"), Err(NodeIdError::BadCharacter));
        assert_eq!(NodeId::new("a\n"), Err(NodeIdError::BadCharacter));
        assert_eq!(NodeId::new(&"x".repeat(64)), Err(NodeIdError::TooLong));
        assert_eq!(NodeId::new(&"x".repeat(300)), Err(NodeIdError::TooLong));
        assert_eq!(NodeId::new(&"x".repeat(63)).unwrap().as_str().len(), 63);
    }

    /// Fails if more than the front of a name is left out, or names of which one begins with the other are equal.
    #[test]
    fn names_are_ordered_as_text_is() {
        let names =
            ["1", "10", "2", "abcdefgh", "abcdefgh1", "abcdefgh2", "abcdefghi", "b", "\u{ff}"];
        for (at, a) in names.iter().enumerate() {
            for (other, b) in names.iter().enumerate() {
                let (x, y) = (NodeId::new(a).unwrap(), NodeId::new(b).unwrap());
                assert_eq!(x.cmp(&y), at.cmp(&other), "{a} {b}");
                assert_eq!(x == y, at == other, "{a} {b}");
            }
        }
    }

    #[test]
    fn the_later_term_is_the_newer_log_whatever_its_length() {
        let short_but_new = EntryId::new(Term::new(3), Seq::new(1));
        let long_but_old = EntryId::new(Term::new(2), Seq::new(9));
        assert!(short_but_new > long_but_old);
        assert_eq!(alloc::format!("{long_but_old}"), "9@2");
    }
}
