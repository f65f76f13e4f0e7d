//! The words of quorum rules: groups, voters, the names of custom rules.

use crate::{NodeId, NodeIdError};
use core::{fmt, str};

/// A label that quorum rules go by: a cloud, a zone, a rack. 1 to 63 bytes of text without spaces or control
/// characters.
///
/// It comes from the configuration only. A node that could say itself which group it is in could make a
/// quorum of what is none.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Group(
    // What may name a node may name a group, and is stored alike.
    NodeId,
);

impl Group {
    /// The longest label, in bytes.
    pub const BYTES_MAX: usize = NodeId::BYTES_MAX;

    /// The group with this label.
    ///
    /// # Errors
    ///
    /// If the label is empty, longer than [`Group::BYTES_MAX`], or holds a space or a control character.
    pub fn new(label: &str) -> Result<Self, GroupError> {
        NodeId::new(label).map(Self).map_err(GroupError)
    }

    /// The label.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl str::FromStr for Group {
    type Err = GroupError;

    fn from_str(label: &str) -> Result<Self, GroupError> {
        Self::new(label)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not the label of a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GroupError(NodeIdError);

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_name_error(f, "a group's label", self.0)
    }
}

impl core::error::Error for GroupError {}

/// A voter as quorum rules see it: what the configuration says of it, never what it says of itself.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Voter {
    /// Its name.
    pub id: NodeId,
    /// Its label, if it has one.
    pub group: Option<Group>,
}

/// Names a rule that a program wrote itself; every node that has to evaluate it needs the same function under
/// this name. A function that changes takes a new version.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CustomRule {
    name: NodeId,
    version: u32,
}

impl CustomRule {
    /// The rule with this name and version.
    ///
    /// # Errors
    ///
    /// If the name is empty, longer than 63 bytes, or holds a space or a control character.
    pub fn new(name: &str, version: u32) -> Result<Self, CustomRuleError> {
        let name = NodeId::new(name).map_err(CustomRuleError::BadName)?;
        Ok(Self { name, version })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Its version.
    pub const fn version(&self) -> u32 {
        self.version
    }
}

/// `two-clouds/3` is version 3 of two-clouds.
impl fmt::Display for CustomRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

impl fmt::Debug for CustomRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a custom rule is not taken on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CustomRuleError {
    /// Its name is none.
    BadName(NodeIdError),
    /// There is a function of this name and version already.
    Repeated(CustomRule),
    /// There are [`CustomRules::COUNT_MAX`](super::CustomRules::COUNT_MAX) already.
    TooMany,
}

impl fmt::Display for CustomRuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName(error) => fmt_name_error(f, "a custom rule's name", *error),
            Self::Repeated(rule) => {
                write!(f, "custom rule {rule} is there already; give a new function a new version")
            }
            Self::TooMany => {
                write!(f, "a node has at most {} custom rules", super::CustomRules::COUNT_MAX)
            }
        }
    }
}

impl core::error::Error for CustomRuleError {}

fn fmt_name_error(f: &mut fmt::Formatter<'_>, what: &str, error: NodeIdError) -> fmt::Result {
    match error {
        NodeIdError::Empty => write!(f, "{what} must not be empty"),
        NodeIdError::TooLong => write!(f, "{what} has at most {} bytes", NodeId::BYTES_MAX),
        NodeIdError::BadCharacter => write!(f, "{what} holds no spaces or control characters"),
    }
}
