//! The bytes of configurations.
//!
//! Two layouts. The short one is for the first configuration of a cluster of equals, the only one there was
//! before members could change; the long one has everything.

use std::collections::BTreeMap;

use tinyraftplus_core::{
    Configuration, Configurations, Identity, Member, MemberSpec, Membership, NodeId, Placed, Plan,
    QuorumRule, Rules, Seq,
    quorum::{CustomRule, Group},
};

use super::{Take, put_varint};
use crate::{LogError, num::u64_of};

/// The first byte of the short layout is a rule.
const MAJORITY: u8 = 1;
const AT_LEAST: u8 = 2;
/// And that of the long one is this.
const LONG: u8 = 3;

const EACH_GROUP: u8 = 3;
const OF_GROUPS: u8 = 4;
const IN_EACH_GROUP: u8 = 5;
const WEIGHTED: u8 = 6;
const ALL: u8 = 7;
const ANY: u8 = 8;
const CUSTOM: u8 = 9;

const VOTES: u8 = 1;
const HAS_IDENTITY: u8 = 2;
const HAS_GROUP: u8 = 4;

/// A count is never believed beyond it.
const MEMBERS_MAX: u64 = Membership::MEMBERS_MAX as u64;

/// Adds what a log remembers of configurations to `out`.
pub(super) fn put(out: &mut Vec<u8>, configurations: &Configurations) -> Result<(), LogError> {
    if let Some((kind, count)) = short_rule(configurations) {
        let configuration = &configurations.newest().configuration;
        out.push(kind);
        out.extend(count.to_le_bytes());
        out.extend(configuration.first().get().to_le_bytes());
        put_varint(out, u64_of(configuration.members().len()));
        for member in configuration.members() {
            put_text(out, member.id.as_str());
            out.extend(member.identity.map_or(0, Identity::get).to_le_bytes());
        }
        return Ok(());
    }
    out.push(LONG);
    put_placed(out, configurations.newest())?;
    out.push(u8::from(configurations.before().is_some()));
    configurations.before().map_or(Ok(()), |before| put_placed(out, before))
}

/// Reads what [`put`] added.
pub(super) fn take(take: &mut Take<'_>) -> Option<Configurations> {
    let rule = match take.u8()? {
        LONG => {
            let newest = take_placed(take)?;
            let before = if take_flag(take)? { Some(take_placed(take)?) } else { None };
            return Configurations::restored(newest, before);
        }
        kind => {
            let count = take.u32()?;
            match kind {
                MAJORITY => QuorumRule::Majority,
                AT_LEAST => QuorumRule::AtLeast(count),
                _ => return None,
            }
        }
    };
    let first = Seq::new(take.u64()?);
    let mut members = Vec::new();
    for _ in 0..take.varint().filter(|&count| count <= MEMBERS_MAX)? {
        let id = take_name(take)?;
        members.push(Member::voter(id, Identity::new(take.u128()?)));
    }
    let members = Membership::new(members, Rules::same(rule)).ok()?;
    let configuration = Configuration::found(members, first).ok()?.into();
    Some(Configurations::first(Placed { at: None, configuration }))
}

/// How many bytes [`put`] adds.
pub(crate) fn configuration_bytes(configurations: &Configurations) -> u64 {
    let mut out = Vec::new();
    // What can't be written is refused when it is.
    drop(put(&mut out, configurations));
    u64_of(out.len())
}

/// The bytes of the payload of an entry that is a configuration.
///
/// # Errors
///
/// If it has a rule that this version can't write.
pub fn encode_configuration(configuration: &Configuration) -> Result<Vec<u8>, LogError> {
    let mut out = vec![LONG];
    put_configuration(&mut out, configuration)?;
    Ok(out)
}

/// Reads the payload of an entry that is a configuration; `None` if it is none.
pub fn decode_configuration(payload: &[u8]) -> Option<Configuration> {
    let mut take = Take(payload);
    take.u8().filter(|&layout| layout == LONG)?;
    take_configuration(&mut take).filter(|_| take.0.is_empty())
}

/// The bytes of members and rules that somebody wants: those of a membership whose members have no logs yet.
///
/// # Errors
///
/// If there is a rule that this version can't write.
pub fn encode_plan(plan: &Plan) -> Result<Vec<u8>, LogError> {
    let mut out = Vec::new();
    let member = |spec: &MemberSpec| {
        let MemberSpec { id, group, votes } = *spec;
        Member { id, identity: None, group, votes }
    };
    let members: Vec<Member> = plan.members().iter().map(member).collect();
    put_members(&mut out, plan.rules(), &members)?;
    Ok(out)
}

/// Reads what [`encode_plan`] wrote; `None` if it is no plan. Whether the rules are safe is not asked.
pub fn decode_plan(bytes: &[u8]) -> Option<Plan> {
    let mut take = Take(bytes);
    let (members, rules) = take_members(&mut take).filter(|_| take.0.is_empty())?;
    let has_log = members.iter().any(|member| member.identity.is_some());
    let specs = members.iter().map(MemberSpec::from).collect();
    Plan::unchecked(specs, rules).ok().filter(|_| !has_log)
}

/// The rule, if everything about these configurations fits the short layout.
fn short_rule(configurations: &Configurations) -> Option<(u8, u32)> {
    let Placed { at: None, configuration } = configurations.newest() else { return None };
    let now = configuration.now();
    let founder = now.members().iter().find_map(|member| member.identity);
    let fits = configurations.before().is_none()
        && configuration.old().is_none()
        && founder == Some(configuration.cluster())
        && now.members().iter().all(|m| m.votes && m.group.is_none() && m.identity.is_some())
        && now.rules().elections == now.rules().commits;
    match (fits, &now.rules().elections) {
        (true, QuorumRule::Majority) => Some((MAJORITY, 0)),
        (true, QuorumRule::AtLeast(count)) => Some((AT_LEAST, *count)),
        _ => None,
    }
}

fn put_placed(out: &mut Vec<u8>, placed: &Placed) -> Result<(), LogError> {
    out.push(u8::from(placed.at.is_some()));
    if let Some(at) = placed.at {
        out.extend(at.get().to_le_bytes());
    }
    put_configuration(out, &placed.configuration)
}

fn take_placed(take: &mut Take<'_>) -> Option<Placed> {
    let at = if take_flag(take)? { Some(Seq::new(take.u64()?)) } else { None };
    Some(Placed { at, configuration: take_configuration(take)?.into() })
}

fn put_configuration(out: &mut Vec<u8>, configuration: &Configuration) -> Result<(), LogError> {
    out.extend(configuration.cluster().get().to_le_bytes());
    out.extend(configuration.first().get().to_le_bytes());
    put_membership(out, configuration.now())?;
    out.push(u8::from(configuration.old().is_some()));
    configuration.old().map_or(Ok(()), |old| put_membership(out, old))
}

fn take_configuration(take: &mut Take<'_>) -> Option<Configuration> {
    let cluster = take.u128().filter(|&it| it != 0).map(Identity::new)?;
    let first = Seq::new(take.u64()?);
    let now = take_membership(take)?;
    let old = if take_flag(take)? { Some(take_membership(take)?) } else { None };
    Configuration::restored(cluster, first, now, old).ok()
}

fn put_membership(out: &mut Vec<u8>, membership: &Membership) -> Result<(), LogError> {
    put_members(out, membership.rules(), membership.members())
}

fn put_members(out: &mut Vec<u8>, rules: &Rules, members: &[Member]) -> Result<(), LogError> {
    put_rule(out, &rules.elections)?;
    put_rule(out, &rules.commits)?;
    put_varint(out, u64_of(members.len()));
    for member in members {
        let flag = |is: bool, flag| if is { flag } else { 0 };
        out.push(
            flag(member.votes, VOTES)
                | flag(member.identity.is_some(), HAS_IDENTITY)
                | flag(member.group.is_some(), HAS_GROUP),
        );
        put_text(out, member.id.as_str());
        if let Some(identity) = member.identity {
            out.extend(identity.get().to_le_bytes());
        }
        if let Some(group) = &member.group {
            put_text(out, group.as_str());
        }
    }
    Ok(())
}

fn take_membership(take: &mut Take<'_>) -> Option<Membership> {
    let (members, rules) = take_members(take)?;
    Membership::new(members, rules).ok()
}

fn take_members(take: &mut Take<'_>) -> Option<(Vec<Member>, Rules)> {
    let mut parts = 0;
    let elections = take_rule(take, 1, &mut parts)?;
    parts = 0;
    let commits = take_rule(take, 1, &mut parts)?;
    let mut members = Vec::new();
    for _ in 0..take.varint().filter(|&count| count <= MEMBERS_MAX)? {
        let flags = take.u8().filter(|flags| flags & !(VOTES | HAS_IDENTITY | HAS_GROUP) == 0)?;
        let id = take_name(take)?;
        let has = |flag| flags & flag != 0;
        let identity = if has(HAS_IDENTITY) {
            Some(take.u128().filter(|&it| it != 0).map(Identity::new)?)
        } else {
            None
        };
        let group = if has(HAS_GROUP) { Some(Group::new(take_text(take)?).ok()?) } else { None };
        members.push(Member { id, identity, group, votes: has(VOTES) });
    }
    Some((members, Rules { elections, commits }))
}

fn put_rule(out: &mut Vec<u8>, rule: &QuorumRule) -> Result<(), LogError> {
    match rule {
        QuorumRule::Majority => out.push(MAJORITY),
        QuorumRule::AtLeast(count) => put_count(out, AT_LEAST, *count),
        QuorumRule::MajorityOfEachGroup => out.push(EACH_GROUP),
        QuorumRule::MajorityOfGroups => out.push(OF_GROUPS),
        QuorumRule::InEachGroup(count) => put_count(out, IN_EACH_GROUP, *count),
        QuorumRule::Weighted { weights, at_least } => {
            out.push(WEIGHTED);
            out.extend(at_least.to_le_bytes());
            put_varint(out, u64_of(weights.len()));
            for (id, weight) in weights {
                put_text(out, id.as_str());
                out.extend(weight.to_le_bytes());
            }
        }
        QuorumRule::All(parts) => return put_rules(out, ALL, parts),
        QuorumRule::Any(parts) => return put_rules(out, ANY, parts),
        QuorumRule::Custom(rule) => {
            out.push(CUSTOM);
            put_text(out, rule.name());
            out.extend(rule.version().to_le_bytes());
        }
        _ => return Err(LogError::Unsupported("this quorum rule")),
    }
    Ok(())
}

fn put_count(out: &mut Vec<u8>, tag: u8, count: u32) {
    out.push(tag);
    out.extend(count.to_le_bytes());
}

fn put_rules(out: &mut Vec<u8>, tag: u8, parts: &[QuorumRule]) -> Result<(), LogError> {
    out.push(tag);
    put_varint(out, u64_of(parts.len()));
    parts.iter().try_for_each(|part| put_rule(out, part))
}

fn take_rule(take: &mut Take<'_>, depth: usize, parts: &mut usize) -> Option<QuorumRule> {
    *parts += 1;
    if depth > QuorumRule::DEPTH_MAX || *parts > QuorumRule::PARTS_MAX {
        return None;
    }
    Some(match take.u8()? {
        MAJORITY => QuorumRule::Majority,
        AT_LEAST => QuorumRule::AtLeast(take.u32()?),
        EACH_GROUP => QuorumRule::MajorityOfEachGroup,
        OF_GROUPS => QuorumRule::MajorityOfGroups,
        IN_EACH_GROUP => QuorumRule::InEachGroup(take.u32()?),
        WEIGHTED => {
            let at_least = take.u64()?;
            let mut weights = BTreeMap::new();
            for _ in 0..take.varint().filter(|&count| count <= MEMBERS_MAX)? {
                let id = take_name(take)?;
                if weights.last_key_value().is_some_and(|(last, _)| *last >= id) {
                    return None;
                }
                weights.insert(id, take.u32()?);
            }
            QuorumRule::Weighted { weights, at_least }
        }
        ALL => QuorumRule::All(take_rules(take, depth, parts)?),
        ANY => QuorumRule::Any(take_rules(take, depth, parts)?),
        CUSTOM => {
            let name = take_text(take)?;
            QuorumRule::Custom(CustomRule::new(name, take.u32()?).ok()?)
        }
        _ => return None,
    })
}

fn take_rules(take: &mut Take<'_>, depth: usize, parts: &mut usize) -> Option<Vec<QuorumRule>> {
    let count = take.varint().filter(|&count| count <= u64_of(QuorumRule::PARTS_MAX))?;
    (0..count).map(|_| take_rule(take, depth + 1, parts)).collect()
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, u64_of(text.len()));
    out.extend(text.as_bytes());
}

fn take_text<'a>(take: &mut Take<'a>) -> Option<&'a str> {
    let bytes = take.varint().and_then(|count| take.bytes(usize::try_from(count).ok()?))?;
    str::from_utf8(bytes).ok()
}

fn take_name(take: &mut Take<'_>) -> Option<NodeId> {
    NodeId::new(take_text(take)?).ok()
}

fn take_flag(take: &mut Take<'_>) -> Option<bool> {
    match take.u8()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim_disk::SimRng;

    fn rule(rng: &mut SimRng, depth: u64) -> QuorumRule {
        let small = |rng: &mut SimRng| u32::try_from(rng.below(9)).unwrap();
        match rng.below(if depth > 3 { 7 } else { 9 }) {
            0 => QuorumRule::Majority,
            1 => QuorumRule::AtLeast(small(rng)),
            2 => QuorumRule::MajorityOfEachGroup,
            3 => QuorumRule::MajorityOfGroups,
            4 => QuorumRule::InEachGroup(small(rng)),
            5 => QuorumRule::Custom(CustomRule::new("near", small(rng)).unwrap()),
            6 => QuorumRule::Weighted {
                weights: (0..rng.below(4)).map(|n| (NodeId::from(n), small(rng))).collect(),
                at_least: rng.below(20),
            },
            kind => {
                let parts = (0..rng.below(3)).map(|_| rule(rng, depth + 1)).collect();
                if kind == 7 { QuorumRule::All(parts) } else { QuorumRule::Any(parts) }
            }
        }
    }

    fn membership(rng: &mut SimRng) -> Membership {
        let members = (0..=rng.below(5)).map(|n| Member {
            id: NodeId::from(n),
            identity: (n == 0 || rng.below(3) > 0).then(|| Identity::new(u128::from(n) + 70)),
            group: (rng.below(2) == 0).then(|| Group::new("east").unwrap()),
            votes: n == 0 || rng.below(3) > 0,
        });
        let members = members.map(|m| Member { votes: m.votes || m.identity.is_none(), ..m });
        let members = members.collect();
        let rules = Rules { elections: rule(rng, 1), commits: rule(rng, 1) };
        Membership::new(members, rules).unwrap()
    }

    fn configuration(rng: &mut SimRng) -> Configuration {
        let old = (rng.below(2) == 0).then(|| membership(rng));
        let first = Seq::new(rng.below(5));
        Configuration::restored(Identity::new(70), first, membership(rng), old).unwrap()
    }

    #[test]
    fn what_was_written_is_read_and_nothing_less() {
        let mut rng = SimRng::new(11);
        for _ in 0..500 {
            let entry = configuration(&mut rng);
            let payload = encode_configuration(&entry).unwrap();
            assert_eq!(decode_configuration(&payload).as_ref(), Some(&entry));
            let before = Placed { at: None, configuration: entry.into() };
            let at = Some(Seq::new(rng.below(100)));
            let newest = Placed { at, configuration: configuration(&mut rng).into() };
            let all = Configurations::restored(newest, Some(before)).unwrap();
            let mut bytes = Vec::new();
            put(&mut bytes, &all).unwrap();
            let mut reader = Take(&bytes);
            assert_eq!(take(&mut reader).as_ref(), Some(&all));
            assert!(reader.0.is_empty());
            for cut in 0..bytes.len() {
                assert_eq!(take(&mut Take(&bytes[..cut])), None, "{cut} of {}", bytes.len());
            }
            assert!((0..payload.len()).all(|cut| decode_configuration(&payload[..cut]).is_none()));
        }
    }

    #[test]
    fn foreign_bytes_are_no_configuration_and_no_panic() {
        let mut rng = SimRng::new(12);
        for _ in 0..2000 {
            let mut payload = encode_configuration(&configuration(&mut rng)).unwrap();
            let at = usize::try_from(rng.below(u64_of(payload.len()))).unwrap();
            payload[at] ^= 1 << rng.below(8);
            if let Some(read) = decode_configuration(&payload) {
                let again = encode_configuration(&read).unwrap();
                assert_eq!(decode_configuration(&again), Some(read));
            }
        }
    }

    /// Any plan comes back, cut off it is none, and nobody is made of one with a log. Fails if `decode_plan` takes members
    /// with identities.
    #[test]
    fn plans_are_read_as_they_were_written() {
        let mut rng = SimRng::new(11);
        for _ in 0..300 {
            let now = membership(&mut rng);
            let specs = now.members().iter().map(MemberSpec::from).collect();
            let plan = Plan::unchecked(specs, now.rules().clone()).unwrap();
            let bytes = encode_plan(&plan).unwrap();
            assert_eq!(decode_plan(&bytes), Some(plan));
            assert!((0..bytes.len()).all(|cut| decode_plan(&bytes[..cut]).is_none()));
            let mut with_logs = Vec::new();
            put_membership(&mut with_logs, &now).unwrap();
            assert_eq!(decode_plan(&with_logs), None);
        }
    }
}
