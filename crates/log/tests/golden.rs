//! Scripts: commands in, every disk operation out. `UPDATE_GOLDENFILES=1` records anew; read the difference.

#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod common;

use std::{error::Error, fmt::Write as _, fs, io, path::Path};

use common::{append, configuration, entry, hard, options, reset, trim};
use goldenscript::{Command, Context, Runner};
use tinyraftplus_log::{
    FsLog, Log, LogExt, Write, inspect,
    sim_disk::{Doubt, SimDisk},
};

#[derive(Default)]
struct Script {
    disk: SimDisk,
    log: Option<FsLog<SimDisk>>,
}

impl Script {
    fn log(&mut self) -> Result<&mut FsLog<SimDisk>, Box<dyn Error>> {
        self.log.as_mut().ok_or_else(|| "no log is open".into())
    }

    fn open(&mut self) -> Result<String, Box<dyn Error>> {
        self.log = None;
        let (log, recovery) = FsLog::open_on(&self.disk, common::NAME, options())?;
        let mut out = String::new();
        if recovery.created {
            writeln!(out, "created {}", log.identity())?;
        }
        if let Some(cut) = recovery.cut {
            writeln!(out, "cut {} bytes at {}: {}", cut.bytes, cut.position, cut.why)?;
        }
        if recovery.hard_state_rescued {
            writeln!(out, "rescued the term and vote")?;
        }
        if recovery.copies_repaired > 0 {
            writeln!(out, "repaired {} copies", recovery.copies_repaired)?;
        }
        out += &state(&log);
        self.log = Some(log);
        Ok(out)
    }

    /// The payloads of the rest of the arguments: a text, or so many zeros as `zeros-N` or other bytes as
    /// `noise-N`.
    fn entries(
        &mut self,
        args: &mut goldenscript::ArgumentConsumer<'_>,
        batch: bool,
    ) -> Result<Write, Box<dyn Error>> {
        let log = self.log()?;
        let term = number(args, "term")?;
        let term = term.unwrap_or_else(|| log.hard_state().term.get());
        let at = number(args, "at")?;
        let mut seq = at.unwrap_or_else(|| log.end().get());
        let mut entries = Vec::new();
        while let Some(arg) = args.next_pos() {
            let payload = match arg.split_once('-') {
                Some(("zeros", count)) => vec![0; count.parse()?].into(),
                Some(("noise", count)) => common::noise(1, count.parse()?),
                _ => arg.to_owned().into(),
            };
            let mut entry = entry(seq, term, payload);
            entry.ends_batch = !batch;
            entries.push(entry);
            seq += 1;
        }
        if let Some(last) = entries.last_mut() {
            last.ends_batch = true;
        }
        Ok(append(entries))
    }

    fn write(&mut self, write: Write) -> Result<String, Box<dyn Error>> {
        let log = self.log()?;
        log.write(&[write])?;
        Ok(state(log))
    }

    fn execute(&mut self, command: &Command) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let out = match command.name.as_str() {
            "open" => self.open()?,
            "close" => self.log()?.close().map(|()| String::new())?,
            "mark" => self.log()?.mark().map(|()| String::new())?,
            "append" => {
                let write = self.entries(&mut args, false)?;
                self.write(write)?
            }
            "batch" => {
                let write = self.entries(&mut args, true)?;
                self.write(write)?
            }
            "replace" => {
                let end: u64 = number(&mut args, "from")?.unwrap_or(0);
                let mut write = self.entries(&mut args, false)?;
                write.trim = trim(end).trim;
                for (entry, seq) in write.append.iter_mut().zip(end..) {
                    entry.id.seq = tinyraftplus_core::Seq::new(seq);
                }
                self.write(write)?
            }
            "vote" => {
                let term = number(&mut args, "term")?.unwrap_or(0);
                let vote = number(&mut args, "for")?.map(|vote| u128::from(vote) << 96);
                self.write(Write { hard_state: Some(hard(term, vote)), ..Write::default() })?
            }
            "vote-append" => {
                let term = number(&mut args, "term")?.unwrap_or(0);
                let vote = number(&mut args, "for")?.map(|vote| u128::from(vote) << 96);
                let entries = self.entries(&mut args, false)?;
                self.write(Write { hard_state: Some(hard(term, vote)), ..entries })?
            }
            "configure" => {
                let members = number(&mut args, "members")?.unwrap_or(1);
                self.write(Write {
                    configuration: Some(configuration(members)),
                    ..Write::default()
                })?
            }
            "trim" => {
                let end = number(&mut args, "end")?.unwrap_or(0);
                self.write(trim(end))?
            }
            "reset" => {
                let (start, before) = (
                    number(&mut args, "start")?.unwrap_or(0),
                    number(&mut args, "before")?.unwrap_or(0),
                );
                self.write(reset(start, before))?
            }
            "read" => read(self.log()?),
            "kill" => {
                self.log = None;
                self.disk.kill();
                String::new()
            }
            "power-loss" => self.power_loss(args.take_key("keep"))?,
            "crash-after" => {
                self.disk.crash_after(args.next_pos().ok_or("how many?")?.parse()?);
                String::new()
            }
            "fail-sync" => {
                self.disk.fail_sync(0, io::ErrorKind::Other);
                String::new()
            }
            "full" => {
                self.disk.set_capacity(Some(self.disk.bytes_used()));
                String::new()
            }
            "flip" => {
                let byte: u64 = args.next_pos().ok_or("which byte?")?.parse()?;
                if self.disk.flip_bit(common::FILE, byte * 8) {
                    String::new()
                } else {
                    "no such byte".to_owned()
                }
            }
            "dump" => {
                let mut out = String::new();
                for frame in inspect(&self.disk, common::NAME)? {
                    writeln!(out, "{frame}")?;
                }
                out
            }
            name => return Err(format!("unknown command {name}").into()),
        };
        args.reject_next()?;
        Ok(out)
    }

    /// Keeps the sectors of which the numbers are given, or all, or none.
    fn power_loss(&mut self, keep: Option<&str>) -> Result<String, Box<dyn Error>> {
        self.log = None;
        let keep = keep.unwrap_or("none");
        let mut out = String::new();
        let mut sectors = Vec::new();
        if keep != "none" && keep != "all" {
            for sector in keep.split('-') {
                sectors.push(sector.parse::<u64>()?);
            }
        }
        self.disk.power_loss_choosing(|doubt, choices| {
            let kept = match doubt {
                Doubt::Sector { sector, .. } => keep == "all" || sectors.contains(sector),
                Doubt::Length { .. } | Doubt::Entry { .. } => keep != "none",
            };
            let _ = match doubt {
                Doubt::Sector { sector, .. } => {
                    writeln!(out, "sector {sector} {}", if kept { "kept" } else { "lost" })
                }
                Doubt::Length { file } => {
                    writeln!(out, "length of {file} {}", if kept { "kept" } else { "lost" })
                }
                Doubt::Entry { file } => {
                    writeln!(out, "entry of {file} {}", if kept { "kept" } else { "lost" })
                }
            };
            if kept { choices - 1 } else { 0 }
        });
        Ok(out)
    }
}

fn number(
    args: &mut goldenscript::ArgumentConsumer<'_>,
    key: &str,
) -> Result<Option<u64>, Box<dyn Error>> {
    Ok(args.take_key(key).map(str::parse).transpose()?)
}

fn state(log: &FsLog<SimDisk>) -> String {
    let bounds = log.bounds();
    let last = log.last().map_or_else(|| "nothing".to_owned(), |id| id.to_string());
    let hard = log.hard_state();
    let vote = hard.vote.map_or_else(String::new, |vote| format!(" vote {vote}"));
    format!("{}..{} last {last} term {}{vote}\n", bounds.start, bounds.end, hard.term)
}

fn read(log: &FsLog<SimDisk>) -> String {
    let mut out = String::new();
    for entry in log.iter(..) {
        let _ = match entry {
            Ok(entry) if entry.payload.len() > 20 => {
                writeln!(out, "{} {} bytes", entry.id, entry.payload.len())
            }
            Ok(entry) => writeln!(out, "{} {:?}", entry.id, entry.payload),
            Err(error) => writeln!(out, "{error}"),
        };
    }
    out
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        self.disk.take_operations();
        let result = self.execute(command);
        let mut out = String::new();
        for operation in self.disk.take_operations() {
            writeln!(out, "- {operation}")?;
        }
        // A failure shows what the disk did, too.
        match result {
            Ok(text) => Ok(out + &text),
            Err(error) => Ok(format!("{out}error: {error}\n")),
        }
    }
}

#[test]
fn scripts() {
    let mut count = 0;
    for script in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts")).unwrap()
    {
        let path = script.unwrap().path();
        goldenscript::run(&mut Script::default(), &path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        count += 1;
    }
    assert!(count >= 6);
}
