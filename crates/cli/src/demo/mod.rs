//! `tinyraftplus demo`: a cluster on this machine, its leader killed in the middle, and a comparison of every
//! log with the input afterwards.

mod cluster;
mod input;
mod journal;
mod report;
mod story;

use crate::error::{Error, explain};
use cluster::Cluster;
use report::Report;
use std::path::{Path, PathBuf};
use story::Story;

/// More voters than this make a cluster slower, not safer.
const NODES_MAX: u64 = 15;

/// What the demo is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many nodes to run, 1 to 15; with one or two, nothing survives a loss, so none is killed
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    nodes: u64,
    /// Where the logs go; must hold no logs yet [default: a temporary directory, removed afterwards]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The file whose lines are appended [default: a ship's log of 6,148 lines]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print one JSON object instead of a story
    #[arg(long)]
    json: bool,
}

/// Runs the demo; it succeeds only if every log was identical to the input.
pub(crate) async fn run(args: Args) -> Result<(), Error> {
    if !(1..=NODES_MAX).contains(&args.nodes) {
        return Err(Error::usage(format!(
            "--nodes {}: a cluster has 1 to {NODES_MAX} nodes",
            args.nodes
        )));
    }
    let lines = input::read(args.input.as_deref())?;
    let dir = Dir::prepare(args.dir.as_deref())?;
    let story = Story::new(args.json, lines.len() as u64);
    let mut cluster = Cluster::new(dir.path(), args.nodes);
    let report = tell(&story, &mut cluster, &lines).await;
    story.end();
    if report.is_err() {
        for warning in cluster.warnings() {
            crate::out::error_line(format_args!("{warning}"));
        }
    }
    let report = report?;
    if args.json {
        crate::out::line(format_args!("{}", report.json()));
    } else {
        crate::out::line(format_args!("{report}"));
        match &args.dir {
            Some(dir) => crate::out::line(format_args!("The logs are in {}.", dir.display())),
            None => crate::out::line(format_args!(
                "The temporary directory is removed; --dir DIR keeps the logs."
            )),
        }
    }
    Ok(())
}

/// The story itself, from the first node to the last comparison.
async fn tell(
    story: &Story,
    cluster: &mut Cluster,
    lines: &[bytes::Bytes],
) -> Result<Report, Error> {
    let mut report = Report::new(cluster.count(), lines);
    story.say(format_args!(
        "Starting {}, each with a log of its own in {}.",
        nodes(cluster.count()),
        cluster.dir().display()
    ));
    cluster.start_all().await?;
    let leader = cluster.leader().await?;
    story.say(format_args!("They have formed a cluster and elected node {leader}."));

    let middle = lines.len() / 2;
    let (before, after) = lines.split_at(middle);
    story.say(format_args!(
        "Appending {} lines through every node in turn, one by one and in batches.",
        before.len()
    ));
    cluster.append(before, story, &mut report).await?;

    if cluster.count() > 2 {
        let leader = cluster.leader().await?;
        story.say(format_args!("Killing node {leader}, the leader, without a goodbye."));
        let failover = cluster.kill(leader).await?;
        report.leader_found = Some(failover.leader_found);
        story.say(format_args!(
            "Node {} was elected {} ms later. The others go on.",
            failover.leader,
            failover.leader_found.as_millis()
        ));
        let (without, with) = after.split_at(after.len() / 2);
        cluster.append(without, story, &mut report).await?;
        report.append_after = cluster.append_after_kill();
        story.say(format_args!(
            "Restarting node {leader} on its old log, which lacks {} lines.",
            without.len()
        ));
        let took = cluster.restart(leader).await?;
        report.caught_up = Some(took);
        story.say(format_args!("It caught up within {} ms.", took.as_millis()));
        cluster.append(with, story, &mut report).await?;
    } else {
        story.say(format_args!(
            "With {} of {} nodes needed for a quorum none can be lost, so none is killed.",
            cluster.count() / 2 + 1,
            cluster.count()
        ));
        cluster.append(after, story, &mut report).await?;
    }

    story.say(format_args!("Reading the state machine of every node."));
    cluster.check_states(lines).await?;
    report.leaders = cluster.leaders_seen();
    story.say(format_args!("Closing all nodes, and opening their logs again from disk."));
    cluster.close().await?;
    for number in 1..=cluster.count() {
        let found = cluster.compare(number, lines)?;
        story.say(format_args!(
            "Node {number}: {} entries, all {} lines identical to the input.",
            found.entries,
            lines.len()
        ));
        report.logs.push(found);
    }
    Ok(report)
}

fn nodes(count: u64) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

/// Where the logs go.
enum Dir {
    Temporary(tempfile::TempDir),
    Given(PathBuf),
}

impl Dir {
    /// A directory without logs that can be written to. What was there before stays as it was.
    fn prepare(dir: Option<&Path>) -> Result<Self, Error> {
        let Some(dir) = dir else {
            let made = tempfile::Builder::new().prefix("tinyraftplus-demo-").tempdir();
            return made.map(Self::Temporary).map_err(|error| {
                Error::usage(explain("can't make a temporary directory", &error))
            });
        };
        let cant = |error: &std::io::Error| {
            Error::usage(explain(format_args!("can't use {} for logs", dir.display()), error))
        };
        match std::fs::read_dir(dir) {
            Ok(entries) => {
                for entry in entries {
                    refuse_log(&entry.map_err(|error| cant(&error))?.path())?;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(dir).map_err(|error| cant(&error))?;
            }
            Err(error) => return Err(cant(&error)),
        }
        tempfile::tempfile_in(dir).map_err(|error| cant(&error))?;
        Ok(Self::Given(dir.to_path_buf()))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Given(dir) => dir,
        }
    }
}

/// Refuses a directory that holds somebody's log: the demo compares whole logs with its input.
fn refuse_log(path: &Path) -> Result<(), Error> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !name.starts_with("node-") {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{} is there already ({}); the demo needs a directory without logs, so choose another or remove it",
        path.display(),
        cluster::describe(path)
    )))
}
