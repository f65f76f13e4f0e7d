//! What a leader knows of each peer.

use crate::{Seq, Time};

/// What this leader knows of a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerStatus {
    /// Everything before this is durable there and equal to our log.
    pub matched: Seq,
    /// When it was last heard from.
    pub last_contact: Option<Time>,
    /// Whether its log is the one that the configuration names.
    pub is_member: bool,
}
