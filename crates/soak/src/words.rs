//! What the harness and a node say to each other, a line each: words on stdin and stdout.

use std::fmt;
use std::str::{FromStr, SplitWhitespace};

/// What a node is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Command {
    /// Where another node is. Not answered.
    Peer { id: u64, address: String },
    /// A call; the answer has its number.
    Call { number: u64, ask: Ask },
    /// Close the node and exit.
    Close,
}

/// What is asked of a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Ask {
    /// Append the payloads with the numbers from `first` on, as a batch if there are several.
    Append { first: u64, count: u64, bytes: usize },
    /// Read the state machine.
    Read,
    /// What the node knows of itself.
    Status,
    /// Committed entries, at least one and at most those.
    Entries { from: u64, to: u64 },
    /// Make load inside of the node: so many appends, so many at once, `batch` of them in each call.
    Load { count: u64, bytes: usize, calls: u64, batch: u64 },
    /// Make so many reads inside of the node, so many at once.
    Reads { count: u64, calls: u64 },
}

/// What a node says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Line {
    /// It runs, and listens there.
    Ready { address: String },
    /// It leads from now on.
    Leads { term: u64 },
    /// It no longer runs.
    Stopped { why: String },
    /// An answer to a call.
    Answer { number: u64, answer: Answer },
}

/// The answer to a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// Appended, the first of them at this seq; the state machine's answer to the last.
    Committed { first: u64, hash: u64 },
    /// Nothing happened and never will.
    Refused { why: String },
    /// Nobody knows.
    Unknown { why: String },
    /// Read: the newest entry that the answer knows of, and the answer.
    Read { seq: u64, hash: u64 },
    /// What the node knows of itself.
    Status(State),
    /// Entries one after the other, from the seq that was asked for.
    Entries(Vec<Logged>),
    /// Load: so many calls were answered, and so many were not.
    Loaded { answered: u64, failed: u64 },
    /// It could not be done: a read, or a look at the log.
    Failed { why: String },
}

/// What a node knows of itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct State {
    pub(crate) leads: bool,
    /// 0 if it knows of none.
    pub(crate) leader: u64,
    pub(crate) term: u64,
    pub(crate) durable: u64,
    pub(crate) committed: u64,
    pub(crate) applied: u64,
}

/// An entry of a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Logged {
    pub(crate) term: u64,
    pub(crate) what: What,
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum What {
    /// The payload with this number.
    Payload(u64),
    /// Something of the cluster's own.
    Own,
    /// A payload that nobody made.
    Damaged,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer { id, address } => write!(f, "peer {id} {address}"),
            Self::Call { number, ask } => write!(f, "{number} {ask}"),
            Self::Close => f.write_str("close"),
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append { first, count, bytes } => write!(f, "append {first} {count} {bytes}"),
            Self::Read => f.write_str("read"),
            Self::Status => f.write_str("status"),
            Self::Entries { from, to } => write!(f, "entries {from} {to}"),
            Self::Load { count, bytes, calls, batch } => {
                write!(f, "load {count} {bytes} {calls} {batch}")
            }
            Self::Reads { count, calls } => write!(f, "reads {count} {calls}"),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready { address } => write!(f, "ready {address}"),
            Self::Leads { term } => write!(f, "leads {term}"),
            Self::Stopped { why } => write!(f, "stopped {}", one_line(why)),
            Self::Answer { number, answer } => write!(f, "{number} {answer}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed { first, hash } => write!(f, "committed {first} {hash}"),
            Self::Refused { why } => write!(f, "refused {}", one_line(why)),
            Self::Unknown { why } => write!(f, "unknown {}", one_line(why)),
            Self::Read { seq, hash } => write!(f, "read {seq} {hash}"),
            Self::Status(State { leads, leader, term, durable, committed, applied }) => {
                let leads = u64::from(*leads);
                write!(f, "status {leads} {leader} {term} {durable} {committed} {applied}")
            }
            Self::Entries(entries) => {
                f.write_str("entries")?;
                for Logged { term, what } in entries {
                    match what {
                        What::Payload(number) => write!(f, " {term} {number}")?,
                        What::Own => write!(f, " {term} -")?,
                        What::Damaged => write!(f, " {term} !")?,
                    }
                }
                Ok(())
            }
            Self::Loaded { answered, failed } => write!(f, "loaded {answered} {failed}"),
            Self::Failed { why } => write!(f, "failed {}", one_line(why)),
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Why a line makes no sense.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Nonsense;

/// The words of a line, one after the other.
struct Words<'a>(SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn new(line: &'a str) -> Self {
        Self(line.split_whitespace())
    }

    fn word(&mut self) -> Result<&'a str, Nonsense> {
        self.0.next().ok_or(Nonsense)
    }

    fn number<T: FromStr>(&mut self) -> Result<T, Nonsense> {
        self.word()?.parse().map_err(|_| Nonsense)
    }

    fn rest(self) -> String {
        self.0.collect::<Vec<_>>().join(" ")
    }

    fn end(mut self) -> Result<(), Nonsense> {
        if self.0.next().is_some() { Err(Nonsense) } else { Ok(()) }
    }
}

impl FromStr for Command {
    type Err = Nonsense;

    fn from_str(line: &str) -> Result<Self, Nonsense> {
        let mut words = Words::new(line);
        let command = match words.word()? {
            "peer" => Self::Peer { id: words.number()?, address: words.word()?.to_owned() },
            "close" => Self::Close,
            number => {
                let number = number.parse().map_err(|_| Nonsense)?;
                Self::Call { number, ask: ask(&mut words)? }
            }
        };
        words.end()?;
        Ok(command)
    }
}

fn ask(words: &mut Words<'_>) -> Result<Ask, Nonsense> {
    Ok(match words.word()? {
        "append" => {
            Ask::Append { first: words.number()?, count: words.number()?, bytes: words.number()? }
        }
        "read" => Ask::Read,
        "status" => Ask::Status,
        "entries" => Ask::Entries { from: words.number()?, to: words.number()? },
        "load" => Ask::Load {
            count: words.number()?,
            bytes: words.number()?,
            calls: words.number()?,
            batch: words.number()?,
        },
        "reads" => Ask::Reads { count: words.number()?, calls: words.number()? },
        _ => return Err(Nonsense),
    })
}

impl FromStr for Line {
    type Err = Nonsense;

    fn from_str(line: &str) -> Result<Self, Nonsense> {
        let mut words = Words::new(line);
        Ok(match words.word()? {
            "ready" => Self::Ready { address: words.word()?.to_owned() },
            "leads" => Self::Leads { term: words.number()? },
            "stopped" => Self::Stopped { why: words.rest() },
            number => {
                let number = number.parse().map_err(|_| Nonsense)?;
                Self::Answer { number, answer: answer(words)? }
            }
        })
    }
}

fn answer(mut words: Words<'_>) -> Result<Answer, Nonsense> {
    Ok(match words.word()? {
        "committed" => Answer::Committed { first: words.number()?, hash: words.number()? },
        "refused" => Answer::Refused { why: words.rest() },
        "unknown" => Answer::Unknown { why: words.rest() },
        "read" => Answer::Read { seq: words.number()?, hash: words.number()? },
        "status" => Answer::Status(State {
            leads: words.number::<u64>()? != 0,
            leader: words.number()?,
            term: words.number()?,
            durable: words.number()?,
            committed: words.number()?,
            applied: words.number()?,
        }),
        "entries" => Answer::Entries(entries(words)?),
        "loaded" => Answer::Loaded { answered: words.number()?, failed: words.number()? },
        "failed" => Answer::Failed { why: words.rest() },
        _ => return Err(Nonsense),
    })
}

fn entries(mut words: Words<'_>) -> Result<Vec<Logged>, Nonsense> {
    let mut entries = Vec::new();
    while let Some(term) = words.0.next() {
        let term = term.parse().map_err(|_| Nonsense)?;
        let what = match words.word()? {
            "-" => What::Own,
            "!" => What::Damaged,
            number => What::Payload(number.parse().map_err(|_| Nonsense)?),
        };
        entries.push(Logged { term, what });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let call = |ask| Command::Call { number: 7, ask };
        for command in [
            Command::Peer { id: 2, address: "127.0.0.1:4000".into() },
            call(Ask::Append { first: 5, count: 3, bytes: 100 }),
            call(Ask::Read),
            call(Ask::Status),
            call(Ask::Entries { from: 0, to: 9 }),
            call(Ask::Load { count: 1, bytes: 2, calls: 3, batch: 4 }),
            call(Ask::Reads { count: 1, calls: 2 }),
            Command::Close,
        ] {
            assert_eq!(command.to_string().parse(), Ok(command));
        }
        let logged = |what| Logged { term: 3, what };
        let entries = vec![logged(What::Own), logged(What::Payload(9)), logged(What::Damaged)];
        let answer = |answer| Line::Answer { number: 7, answer };
        for line in [
            Line::Ready { address: "127.0.0.1:4000".into() },
            Line::Leads { term: 4 },
            Line::Stopped { why: "the disk failed".into() },
            answer(Answer::Committed { first: 1, hash: u64::MAX }),
            answer(Answer::Refused { why: "too much".into() }),
            answer(Answer::Unknown { why: "who knows".into() }),
            answer(Answer::Read { seq: 1, hash: 2 }),
            answer(Answer::Status(State { leads: true, leader: 2, term: 3, ..State::default() })),
            answer(Answer::Entries(entries)),
            answer(Answer::Loaded { answered: 5, failed: 0 }),
            answer(Answer::Failed { why: "no".into() }),
        ] {
            assert_eq!(line.to_string().parse(), Ok(line));
        }
    }

    #[test]
    fn nonsense_is_noticed() {
        for line in
            ["", "peer", "peer x y", "7", "7 dance", "7 append 1 2", "close now", "7 read x"]
        {
            assert_eq!(line.parse::<Command>(), Err(Nonsense), "{line:?}");
        }
        for line in ["", "ready", "7", "7 committed x", "7 entries 1", "7 entries 1 x"] {
            assert_eq!(line.parse::<Line>(), Err(Nonsense), "{line:?}");
        }
    }
}
