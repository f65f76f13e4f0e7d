//! The golden scripts: commands in, everything that the nodes do out, one line each.
//!
//! `UPDATE_GOLDENFILES=1 cargo test -p tinyraftplus-core scripts` writes what the nodes do now into the
//! scripts; what changed is then for a person to review.
//!
//! | command | what happens |
//! | --- | --- |
//! | `cluster N [formed] [at-least=Q] [first=S] [lease=PPM]` | nodes 1 to N, on empty disks, or already formed |
//! | `disk N TERM.. [term=T] [vote=M]` | node N restarts on a log of such terms |
//! | `members N M..` | node N restarts with these in its options |
//! | `wake N`, `pass MS` | time passes until node N wants it, or that long |
//! | `persist N [all]` | the oldest unfinished write of node N, or all, reach the disk |
//! | `stall N`, `refuse N` | the oldest unfinished write takes too long; there is no space for it |
//! | `load N [unreadable]` | the oldest question about the log is answered |
//! | `flying`, `deliver [FROM TO]`, `drop ..`, `copy ..` | lists, delivers, loses or doubles what is under way |
//! | `settle` | everything arrives and is written, until nothing is under way; time stands still |
//! | `elect N` | time passes until node N is elected |
//! | `propose N P..`, `read N` | a client asks for a batch, or to read |
//! | `transfer N M` | node N is asked to hand its leadership to node M |
//! | `campaign N`, `step-down N`, `pause N`, `resume N`, `alive N M TERM` | node N is asked to; it hears from leader M |
//! | `crash N [written=J]`, `start N`, `wipe N` | node N dies, starts, loses its disk |
//! | `snapshot N`, `compact N` | node N takes a snapshot of what it has applied; drops what that stands for |
//! | `copy-snapshot N M`, `install N` | the snapshot of node N is durable at M; node N is told of the one it has |
//! | `cut A B`, `partition A-B C-D`, `heal` | links fail from the one to the other, between sides; all work |
//! | `status`, `log N` | what the nodes are, what a node's log shows, and whether it is durable |

use crate::harness::{Cluster, Disk, Letter, entry, id};
use crate::show;
use goldenscript::{ArgumentConsumer, Command, Context, Runner};
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use tinyraftplus_core::{Input, Lease, NodeId, Options, QuorumRule, Rules, Seq, Term};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

struct Stage {
    cluster: Cluster,
}

impl Runner for Stage {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Outcome<String> {
        let mut args = command.consume_args();
        let mut output = self.perform(&command.name, &mut args)?;
        args.reject_next()?;
        for line in self.cluster.transcript.iter_mut().flat_map(|lines| lines.drain(..)) {
            writeln!(output, "{line}")?;
        }
        Ok(output)
    }
}

fn number<T: std::str::FromStr<Err: Error + 'static>>(text: Option<&str>) -> Outcome<T> {
    Ok(text.ok_or("an argument is missing")?.parse()?)
}

impl Stage {
    fn node(&self, args: &mut ArgumentConsumer<'_>) -> Outcome<NodeId> {
        let node = id(number(args.next_pos())?);
        self.cluster.nodes.get(&node).map(|_| node).ok_or_else(|| "there is no such node".into())
    }

    fn perform(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome<String> {
        match name {
            "cluster" => self.make(args)?,
            "disk" => self.disk(args)?,
            "members" => {
                let node = self.node(args)?;
                self.cluster.crash(node, 0);
                let options = &mut self.cluster.nodes.get_mut(&node).unwrap().options;
                options.members.clear();
                while let Some(member) = args.next_pos() {
                    options.members.push(NodeId::new(member)?);
                }
                self.cluster.start(node);
            }
            "wake" => {
                let node = self.node(args)?;
                self.cluster.wake(node);
            }
            "pass" => {
                let millis = number(args.next_pos())?;
                self.cluster.now = self.cluster.now + Duration::from_millis(millis);
            }
            "settle" => self.cluster.settle(),
            "elect" => {
                let node = self.node(args)?;
                self.cluster.elect(node);
            }
            "propose" => {
                let node = self.node(args)?;
                let payloads: Vec<&str> = std::iter::from_fn(|| args.next_pos()).collect();
                self.cluster.propose(node, &payloads);
            }
            "read" => {
                let node = self.node(args)?;
                self.cluster.read(node);
            }
            "transfer" => {
                let node = self.node(args)?;
                let to = id(number(args.next_pos())?);
                self.cluster.transfer(node, to);
            }
            "campaign" | "step-down" | "pause" | "resume" | "alive" => self.steer(name, args)?,
            "cut" => {
                let (from, to) = (self.node(args)?, self.node(args)?);
                self.cluster.link(from, to, false);
            }
            "partition" => {
                let mut sides: Vec<Vec<u64>> = Vec::new();
                while let Some(side) = args.next_pos() {
                    sides.push(side.split('-').map(str::parse).collect::<Result<_, _>>()?);
                }
                let sides: Vec<&[u64]> = sides.iter().map(Vec::as_slice).collect();
                self.cluster.partition(&sides);
            }
            "heal" => self.cluster.heal(),
            "snapshot" | "compact" | "install" | "copy-snapshot" => {
                return self.snapshots(name, args);
            }
            "flying" | "deliver" | "drop" | "copy" => return self.letters(name, args),
            "persist" | "stall" | "refuse" | "load" => return self.local(name, args),
            "crash" | "start" | "wipe" => self.fate(name, args)?,
            "status" => {
                let nodes = self.cluster.nodes.iter();
                let lines: Vec<String> = nodes.map(|(&id, node)| show::status(id, node)).collect();
                return Ok(lines.join("\n"));
            }
            "log" => {
                let node = self.node(args)?;
                let node = self.cluster.node(node);
                let log = show::entries(&node.view.entries);
                let log = log.strip_prefix(' ').unwrap_or("empty");
                return Ok(format!("{log}, durable to {}\n", node.disk.end()));
            }
            name => return Err(format!("there is no command {name}").into()),
        }
        Ok(String::new())
    }

    fn make(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let count = number(args.next_pos())?;
        let formed = args.next_pos() == Some("formed");
        let rule = match args.take_key("at-least") {
            Some(text) => QuorumRule::AtLeast(text.parse()?),
            None => QuorumRule::Majority,
        };
        let first = Seq::new(args.take_key("first").unwrap_or("0").parse()?);
        let lease = args.take_key("lease").map(str::parse).transpose()?;
        let lease = lease.map(|clock_error_ppm| Lease { clock_error_ppm });
        let adjust = |options: &mut Options| {
            options.lease = lease;
            options.rules = Rules::same(rule.clone());
            options.first_seq = first;
        };
        self.cluster = if formed {
            Cluster::formed_with(count, adjust)
        } else {
            Cluster::with_options(count, adjust)
        };
        self.cluster.transcript = Some(Vec::new());
        Ok(())
    }

    fn disk(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let node = self.node(args)?;
        let term: Option<u64> = args.take_key("term").map(str::parse).transpose()?;
        let vote = args.take_key("vote").map(str::parse).transpose()?.map(id);
        let vote = vote.map(|vote| self.cluster.node(vote).disk.identity);
        let terms: Vec<u64> =
            std::iter::from_fn(|| args.next_pos()).map(str::parse).collect::<Result<_, _>>()?;
        self.cluster.preset(node, |disk: &mut Disk| {
            let seqs = disk.start.get()..;
            let named = seqs.zip(&terms).map(|(seq, &term)| entry(term, seq, &format!("t{term}")));
            disk.entries = named.collect();
            let last = terms.last().copied().unwrap_or(0);
            disk.hard_state.term = Term::new(term.unwrap_or(last));
            disk.hard_state.vote = vote;
        });
        Ok(())
    }

    fn steer(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let node = self.node(args)?;
        let input = match name {
            "campaign" => Input::Campaign,
            "step-down" => Input::StepDown,
            "pause" => Input::Pause(true),
            "resume" => Input::Pause(false),
            _ => {
                let from = self.node(args)?;
                Input::Alive { from, term: Term::new(number(args.next_pos())?) }
            }
        };
        self.cluster.step(node, input);
        Ok(())
    }

    fn local(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome<String> {
        let node = self.node(args)?;
        let how = args.next_pos();
        let done = match name {
            "persist" => {
                let done = self.cluster.persist(node);
                while how == Some("all") && self.cluster.persist(node) {}
                done
            }
            "refuse" => self.cluster.refuse(node),
            "stall" => {
                let job = self.cluster.node(node).jobs.front().map(|job| job.job);
                if let Some(job) = job {
                    self.cluster.step(node, Input::PersistStalled { job });
                }
                job.is_some()
            }
            _ => self.cluster.load(node, how != Some("unreadable")),
        };
        Ok(if done { String::new() } else { "nothing\n".to_owned() })
    }

    fn snapshots(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome<String> {
        let node = self.node(args)?;
        match name {
            "snapshot" if !self.cluster.snapshot(node) => return Ok("impossible\n".to_owned()),
            "snapshot" => {
                let snapshot = self.cluster.node(node).disk.snapshot.as_ref();
                return Ok(show::snapshot(snapshot));
            }
            "compact" => self.cluster.compact(node),
            "install" => self.cluster.install(node),
            _ => {
                let to = self.node(args)?;
                self.cluster.copy_snapshot(node, to);
            }
        }
        Ok(String::new())
    }

    fn fate(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let node = self.node(args)?;
        match name {
            "crash" => {
                let written = args.take_key("written").unwrap_or("0").parse()?;
                self.cluster.crash(node, written);
            }
            "start" => self.cluster.start(node),
            _ => self.cluster.wipe(node),
        }
        Ok(())
    }

    fn letters(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome<String> {
        let link = match args.next_pos() {
            Some(from) => Some((id(from.parse()?), self.node(args)?)),
            None => None,
        };
        let chosen = |letter: &Letter| link.is_none_or(|link| link == (letter.from, letter.to));
        let count = self.cluster.flying.iter().filter(|letter| chosen(letter)).count();
        if count == 0 {
            return Ok("nothing\n".to_owned());
        }
        let mut output = String::new();
        let mut at = 0;
        for _ in 0..count {
            // What is delivered here may put more under way, behind what is there now.
            while !chosen(&self.cluster.flying[at]) {
                at += 1;
            }
            match name {
                "deliver" => self.cluster.deliver(at),
                "drop" => drop(self.cluster.flying.remove(at)),
                "copy" => {
                    let letter = self.cluster.flying[at].clone();
                    self.cluster.flying.push_back(letter);
                    at += 1;
                }
                _ => {
                    let Letter { from, to, message } = &self.cluster.flying[at];
                    writeln!(output, "{from} -> {to} {}", show::message(message))?;
                    at += 1;
                }
            }
        }
        Ok(output)
    }
}

/// Runs every script of a folder in `tests/scripts`, and complains about one without any.
fn folder(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(name);
    let mut count = 0;
    for file in folder.read_dir().unwrap() {
        let mut stage = Stage { cluster: Cluster::unformed(1) };
        let path = file.unwrap().path();
        println!("{}", path.display());
        goldenscript::run(&mut stage, path).unwrap();
        count += 1;
    }
    assert!(count > 0, "no scripts in {}", folder.display());
}

#[test]
fn scripts_forming() {
    folder("forming");
}

#[test]
fn scripts_election() {
    folder("election");
}

#[test]
fn scripts_replication() {
    folder("replication");
}

#[test]
fn scripts_reads() {
    folder("reads");
}

#[test]
fn scripts_restart() {
    folder("restart");
}

#[test]
fn scripts_transfer() {
    folder("transfer");
}

#[test]
fn scripts_space() {
    folder("space");
}

#[test]
fn scripts_snapshots() {
    folder("snapshots");
}

#[test]
fn scripts_figures() {
    folder("figures");
}
