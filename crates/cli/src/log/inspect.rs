//! `tinyraftplus log inspect`: what a log holds, and a picture of its files.

use super::which::{Which, encoder_name};
use crate::error::Error;
use serde_json::{Value, json};
use std::fmt;
use tinyraftplus_log::{LogKind, SegmentInfo, SegmentState, Survey, survey};

const BAR: u64 = 24;

/// Shows one.
pub(crate) fn run(which: &Which) -> Result<(), Error> {
    let place = which.find()?;
    let found = place.with(|encoder| survey(&place.disk, &place.log.name, encoder))?;
    if which.json {
        crate::out::line(format_args!("{}", json(&found)));
    } else {
        crate::out::line(format_args!("{}", Picture(&found)));
    }
    Ok(())
}

/// A log as a JSON object.
pub(crate) fn json(log: &Survey) -> Value {
    let seqs = |range: &std::ops::Range<_>| json!({ "start": number(range.start), "end": number(range.end) });
    let segments = log.segments.iter().map(|it| {
        json!({
            "file": it.file, "number": it.number, "state": state(it.state), "bytes": it.bytes,
            "used_bytes": it.used_bytes, "seqs": it.seqs.as_ref().map(seqs),
        })
    });
    let segments: Vec<_> = segments.collect();
    let spares: Vec<_> =
        log.spares.iter().map(|it| json!({ "file": it.file, "bytes": it.bytes })).collect();
    let members = log.configuration.as_ref().map(|configuration| {
        let members = configuration.newest().configuration.members().iter();
        members
            .map(|it| json!({ "id": it.id.as_str(), "identity": it.identity.map(identity) }))
            .collect::<Vec<_>>()
    });
    json!({
        "name": log.name, "kind": kind(log.kind), "identity": identity(log.identity),
        "format": log.format, "encoder": log.encoder, "block_bytes": log.block_bytes,
        "group_bytes_max": log.group_bytes_max, "term": log.hard_state.term.get(),
        "vote": log.hard_state.vote.map(identity), "members": members,
        "start": number(log.seqs.start), "end": number(log.seqs.end), "entries": log.entries(),
        "durable_end": number(log.durable_end), "segments": segments, "spares": spares,
        "torn": log.torn.map(|cut| json!({ "byte": cut.position, "bytes": cut.bytes, "why": cut.why })),
        "damage": log.damage.iter().map(damage).collect::<Vec<_>>(),
    })
}

/// A damaged place as a JSON object.
pub(crate) fn damage(it: &tinyraftplus_log::Damage) -> Value {
    json!({
        "file": it.path.display().to_string(), "byte": it.offset, "seq": it.seq.map(number),
        "end": it.end.map(number), "what": it.what, "mended_by_opening": it.mended,
    })
}

fn number(seq: tinyraftplus_log::Seq) -> u64 {
    seq.get()
}

fn identity(identity: tinyraftplus_log::Identity) -> String {
    format!("{:032x}", identity.get())
}

const fn kind(kind: LogKind) -> &'static str {
    match kind {
        LogKind::OneFile => "one file",
        LogKind::Segments => "segments",
    }
}

const fn state(state: SegmentState) -> &'static str {
    match state {
        SegmentState::Newest => "newest",
        SegmentState::Sealed => "sealed",
        SegmentState::Unsealed => "unsealed",
        SegmentState::Prepared => "prepared",
        SegmentState::Leftover => "leftover",
        SegmentState::Unreadable => "unreadable",
    }
}

/// The same for people.
struct Picture<'a>(&'a Survey);

impl fmt::Display for Picture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.0;
        writeln!(f, "{}: a log in {}, format {}", log.name, kind(log.kind), log.format)?;
        writeln!(f, "  identity  {}", identity(log.identity))?;
        writeln!(f, "  encoder   {} ({})", log.encoder, encoder_name(log.encoder))?;
        match log.entries() {
            0 => writeln!(f, "  entries   none; the next is seq {}", log.seqs.end)?,
            count => writeln!(f, "  entries   {}: {}", grouped(count), range(&log.seqs))?,
        }
        let open = log.seqs.end.since(log.durable_end);
        if open == 0 {
            writeln!(f, "  durable   all, proven by what was written after")?;
        } else {
            writeln!(
                f,
                "  durable   up to {} proven; the last group, {open} more, proves nothing about itself",
                log.durable_end
            )?;
        }
        if log.is_raft() {
            let vote = log.hard_state.vote.map_or_else(|| "none".to_owned(), identity);
            writeln!(f, "  term      {}, vote {vote}", log.hard_state.term)?;
        }
        if let Some(configuration) = &log.configuration {
            let members: Vec<_> = configuration
                .newest()
                .configuration
                .members()
                .iter()
                .map(|member| member.id.to_string())
                .collect();
            writeln!(f, "  members   {}", members.join(", "))?;
        }
        writeln!(f)?;
        self.files(f)?;
        if let Some(cut) = log.torn {
            write!(
                f,
                "\nThe end is torn: {} from byte {} on never became durable, and opening cuts them ({}).",
                bytes(cut.bytes),
                cut.position,
                cut.why
            )?;
        }
        for damage in &log.damage {
            write!(f, "\ndamaged: {damage}")?;
        }
        Ok(())
    }
}

impl Picture<'_> {
    fn files(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.0;
        let files = log.segments.iter().map(|it| it.file.len());
        let width = files.chain(log.spares.iter().map(|it| it.file.len())).max().unwrap_or(0);
        let (mut used, mut all) = (0, 0);
        let largest = log.segments.iter().map(|it| it.bytes).max().unwrap_or(1).max(1);
        for it in &log.segments {
            let holds = match &it.seqs {
                Some(seqs) => range(seqs),
                None => match it.state {
                    SegmentState::Newest => "nothing yet".to_owned(),
                    SegmentState::Prepared => "to be the next".to_owned(),
                    SegmentState::Unreadable => "nobody knows what".to_owned(),
                    SegmentState::Sealed | SegmentState::Unsealed | SegmentState::Leftover => {
                        "void: nothing in it counts any more".to_owned()
                    }
                },
            };
            writeln!(
                f,
                "  {:width$}  [{}]  {:>9} of {:>9}  {:<10}  {holds}",
                it.file,
                bar(it, largest),
                bytes(it.used_bytes),
                bytes(it.bytes),
                state(it.state),
            )?;
            (used, all) = (used + it.used_bytes, all + it.bytes);
        }
        for it in &log.spares {
            let blank = " ".repeat(usize::try_from(BAR).unwrap_or(0));
            writeln!(
                f,
                "  {:width$}   {blank}   {:>9}    {:>9}  spare       to be used again",
                it.file,
                "",
                bytes(it.bytes)
            )?;
            all += it.bytes;
        }
        write!(
            f,
            "  {} used of {}; # holds entries, : is void, . is space ahead",
            bytes(used),
            bytes(all)
        )
    }
}

/// A bar as long as the file, compared with the largest.
fn bar(segment: &SegmentInfo, largest: u64) -> String {
    let share = |part: u64| {
        let cells = u128::from(part) * u128::from(BAR) / u128::from(largest);
        usize::try_from(cells).unwrap_or(0)
    };
    let all = share(segment.bytes).max(1);
    let used = share(segment.used_bytes).max(usize::from(segment.used_bytes > 0)).min(all);
    let mark = if segment.seqs.is_some() { "#" } else { ":" };
    let text = mark.repeat(used) + &".".repeat(all - used);
    format!("{text:<width$}", width = usize::try_from(BAR).unwrap_or(0))
}

fn range(seqs: &std::ops::Range<tinyraftplus_log::Seq>) -> String {
    match seqs.end.before() {
        Some(last) if last > seqs.start => format!("seq {} to {last}", seqs.start),
        Some(_) | None => format!("seq {}", seqs.start),
    }
}

/// A number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut tenths = u128::from(count) * 10;
    let mut unit = "B";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1024, next);
    }
    if unit == "B" || tenths >= 1000 || tenths % 10 == 0 {
        format!("{} {unit}", tenths / 10)
    } else {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

/// A number with commas.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        let texts = [0, 1023, 1024, 1536, 1 << 20, 123_456_789, 1 << 40].map(bytes);
        assert_eq!(texts, ["0 B", "1023 B", "1 KiB", "1.5 KiB", "1 MiB", "117 MiB", "1 TiB"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
