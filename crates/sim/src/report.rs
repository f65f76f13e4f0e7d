//! What is said of a seed that failed: how to see it again, and a smaller world that fails too.

use tinyraftplus_sim::{Run, Settings, Shrunk, run, shrink};

use crate::args::Args;

/// How many lines of transcript are shown with a failure.
const LINES_SHOWN: usize = 30;
/// How many events shrinking may take: seconds.
const SHRINK_EVENTS: u64 = 20_000_000;

/// Says what failed, and how to see it again.
pub(crate) fn report(run: &Run, args: &Args) {
    let Some(failure) = &run.failure else {
        return;
    };
    say!("");
    say!("seed {} FAILED: {failure}", run.seed);
    let settings = args.settings();
    last_lines(run.seed, &settings);
    say!("see it again: {}", command(run.seed, &settings, args));
    if let Some(shrunk) = shrunk(run, args) {
        say!("");
        say!("{}", in_words(run, &shrunk));
        if let Some(failure) = &shrunk.run.failure {
            say!("there: {failure}");
        }
        let settings = Settings { less: shrunk.less, ..settings };
        last_lines(run.seed, &settings);
        say!("see it again: {}", command(run.seed, &settings, args));
    }
}

/// A smaller world in which a seed fails too.
pub(crate) fn shrunk(run: &Run, args: &Args) -> Option<Shrunk> {
    shrink(run.seed, &args.settings(), SHRINK_EVENTS)
}

/// How much smaller a world became.
pub(crate) fn in_words(run: &Run, shrunk: &Shrunk) -> String {
    let size = &shrunk.run.size;
    format!(
        "shrunk from {} lines to {}: {} nodes, {} faults, {} calls ({} worlds tried)",
        run.size.lines,
        size.lines,
        size.nodes,
        size.faults.len(),
        size.calls.len(),
        shrunk.tries
    )
}

/// The command that shows a run.
pub(crate) fn command(seed: u64, settings: &Settings, args: &Args) -> String {
    let outside = if args.outside_only { " --outside-only" } else { "" };
    let (flags, target, planted) = match &args.planted {
        Some(name) => (
            "RUSTFLAGS=\"--cfg planted\" ",
            " --target-dir target/planted",
            format!(" --planted {name}"),
        ),
        None => ("", "", String::new()),
    };
    let until = settings.until.map(|until| format!(" --until {until:?}")).unwrap_or_default();
    format!(
        "{flags}cargo run --release{target} -p tinyraftplus-sim --{planted} --seed {seed}{}{outside}{until} --trace",
        settings.less
    )
}

fn last_lines(seed: u64, settings: &Settings) {
    let again = run(seed, &Settings { transcript: true, ..settings.clone() });
    say!("the last events:");
    let skip = again.transcript.len().saturating_sub(LINES_SHOWN);
    for line in again.transcript.iter().skip(skip) {
        say!("  {line}");
    }
}
