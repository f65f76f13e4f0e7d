//! What to do about something.

use std::fmt;

/// What whoever runs a node should do. Told by [`Event::advice`](crate::Event::advice),
/// [`Warning::advice`](crate::Warning::advice) and [`StopReason::advice`](crate::StopReason::advice).
///
/// ```
/// use tinyraftplus::{Advice, StopReason, Warning};
///
/// assert_eq!(Warning::NoSpace("/data: full".into()).advice(), Advice::FreeSpace);
/// assert_eq!(StopReason::Closed.advice(), Advice::Nothing);
/// assert_eq!(Advice::FreeSpace.to_string(), "free space on the disk");
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Advice {
    /// Nothing: the cluster deals with it by itself, or it is as it should be.
    Nothing,
    /// Free space on the disk of this node. It goes on by itself then.
    FreeSpace,
    /// Look at the disk or at the network: something is slow, or fails now and then.
    Inspect,
    /// Something that a node was given does not fit the rest: members, rules, labels, versions. The text says what.
    Reconfigure,
    /// Open the node again. If it stops again within a minute, or can't be opened, replace it.
    Restart,
    /// Replace the node: what its log holds can't be trusted. Start it with an empty directory, on a disk that is well; the
    /// others give it everything again.
    Replace,
    /// Take what is in the log to a new cluster: this one can take no more.
    StartOver,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing has to be done",
            Self::FreeSpace => "free space on the disk",
            Self::Inspect => "look at the disk and the network",
            Self::Reconfigure => "change what the node was given",
            Self::Restart => "open the node again",
            Self::Replace => "replace the node, with an empty directory",
            Self::StartOver => "take what is in the log to a new cluster",
        })
    }
}
