//! `tinyraftplus log verify`: every byte of a log.

use super::inspect::{self, bytes, grouped};
use super::which::Which;
use crate::error::Error;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tinyraftplus_log::verify;

/// Reads one.
pub(crate) fn run(which: &Which) -> Result<(), Error> {
    let place = which.find()?;
    let name = &place.log.name;
    // Draws on stderr, and only if that is a terminal.
    let bar = if which.json { ProgressBar::hidden() } else { ProgressBar::new(0) };
    if let Ok(style) = ProgressStyle::with_template(
        "  {bar:40} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}",
    ) {
        bar.set_style(style);
    }
    let seen = place.with(|encoder| {
        verify(&place.disk, name, encoder, |progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        })
    });
    bar.finish_and_clear();
    let seen = seen?;
    let (survey, count) = (&seen.survey, seen.survey.damage.len());
    if which.json {
        let mut object = inspect::json(survey);
        if let Some(object) = object.as_object_mut() {
            object.insert("undamaged".to_owned(), json!(count == 0));
            object.insert("frames_read".to_owned(), json!(seen.frames));
            object.insert("entries_read".to_owned(), json!(seen.entries));
            object.insert("bytes_read".to_owned(), json!(seen.bytes));
        }
        crate::out::line(format_args!("{object}"));
    } else {
        for damage in &survey.damage {
            crate::out::line(format_args!("{damage}"));
        }
        if let Some(cut) = survey.torn {
            crate::out::line(format_args!(
                "The end is torn, which is no damage: {} from byte {} on never became durable, and opening cuts them.",
                bytes(cut.bytes),
                cut.position
            ));
        }
        if count == 0 {
            crate::out::line(format_args!(
                "{name}: no damage. Read {} frames with {} entries in {}.",
                grouped(seen.frames),
                grouped(seen.entries),
                files(survey.segments.len(), seen.bytes)
            ));
        }
    }
    if count == 0 {
        return Ok(());
    }
    let mended = survey.damage.iter().filter(|damage| damage.mended).count();
    let places = if count == 1 { "one place".to_owned() } else { format!("{count} places") };
    let mends = if mended == count { "; opening the log mends all of it" } else { "" };
    Err(Error::failed(format!("{name} is damaged in {places}{mends}")))
}

fn files(count: usize, all: u64) -> String {
    if count == 1 {
        format!("one file of {}", bytes(all))
    } else {
        format!("{count} files of {} together", bytes(all))
    }
}
