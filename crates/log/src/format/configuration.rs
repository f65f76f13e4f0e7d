//! The bytes of a configuration.

use tinyraftplus_core::{Configuration, Identity, Member, NodeId, QuorumRule, Seq};

use super::{Take, put_varint};
use crate::{LogError, num::u64_of};

const MAJORITY: u8 = 1;
const AT_LEAST: u8 = 2;
/// More members than any cluster has; a count is never believed beyond it.
const MEMBERS_MAX: u64 = 1000;

/// Adds a configuration to `out`.
pub(super) fn put(out: &mut Vec<u8>, configuration: &Configuration) -> Result<(), LogError> {
    let (kind, count) = match configuration.rule() {
        QuorumRule::Majority => (MAJORITY, 0),
        QuorumRule::AtLeast(count) => (AT_LEAST, count),
        _ => return Err(LogError::Unsupported("this quorum rule")),
    };
    let members = u64_of(configuration.members().len());
    if members > MEMBERS_MAX {
        return Err(LogError::TooLarge {
            what: "a configuration's members",
            bytes: members,
            limit: MEMBERS_MAX,
        });
    }
    out.push(kind);
    out.extend(count.to_le_bytes());
    out.extend(configuration.first().get().to_le_bytes());
    put_varint(out, members);
    for member in configuration.members() {
        let name = member.id.as_str();
        put_varint(out, u64_of(name.len()));
        out.extend(name.as_bytes());
        out.extend(member.identity.get().to_le_bytes());
    }
    Ok(())
}

/// Reads what [`put`] added.
pub(super) fn take(take: &mut Take<'_>) -> Option<Configuration> {
    let kind = take.u8()?;
    let count = take.u32()?;
    let first = Seq::new(take.u64()?);
    let rule = match kind {
        MAJORITY => QuorumRule::Majority,
        AT_LEAST => QuorumRule::AtLeast(count),
        _ => return None,
    };
    let mut members = Vec::new();
    for _ in 0..take.varint().filter(|&count| count <= MEMBERS_MAX)? {
        let name = take.varint().and_then(|count| take.bytes(usize::try_from(count).ok()?))?;
        let id = NodeId::new(str::from_utf8(name).ok()?).ok()?;
        let identity = Identity::new(take.u128()?);
        members.push(Member { id, identity });
    }
    Configuration::new(members, rule, first)
}
