//! `mmface-live eval`: how accurate the program is, on labelled pictures.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::RunArgs;
use crate::config::same;
use crate::eval::{self, Dataset, Judged};
use crate::sink::json;
use crate::{Error, Result};

/// The help of this subcommand.
pub const ABOUT: &str = "\
Measure accuracy on labelled pictures: landmarks, pose, faces missed, time

Every picture goes through detection and networks as with --images; the landmarks of the records are \
held against the labels, and a table is printed. A DATASET is

  a file of JSON lines, one face a line: {\"file\": \"a.jpg\", \"points\": [[x, y], … 68 of them]}, \
files relative to its folder; optional are \"person\", \"source\" and \"pose\": [pitch, yaw, roll];
  or a folder as AFLW2000-3D has it: image00002.jpg beside image00002.mat, …

Errors are mean distances in % of √(area of the box around the labelled points), over the inner 51 \
points and all 68. \"free\" takes the habit by which people place points off first, learnt on one half \
of the people and applied to the other. Apart from the time, two runs give the same numbers.";

/// Examples, below the flags.
pub const EXAMPLES: &str = "\
Examples:
  mmface-live eval faces.jsonl                                 a table
  mmface-live eval AFLW2000-3D/ --out aflw.json                the same numbers as JSON
  mmface-live eval a.jsonl b.jsonl --only validation.txt       some of the pictures
  mmface-live eval faces.jsonl --device cuda --precision f16   another backend
  mmface-live eval faces.jsonl --records records.jsonl         for engines/training/compare.py

Formats and definitions: docs/evaluation.md. Exit codes are those of a run.";

/// What to measure, and with what.
#[derive(Debug, clap::Args)]
#[command(mut_args(without_meaning))]
pub struct Args {
    /// Labelled pictures: a file of JSON lines, or a folder of .jpg and .mat pairs
    #[arg(required = true, value_name = "DATASET")]
    datasets: Vec<PathBuf>,
    /// Hold these landmarks against the labels [default: 3d for folders, else visible]
    #[arg(long, value_enum, value_name = "visible|3d", help_heading = "Labels")]
    points: Option<Judged>,
    /// Only the pictures whose names stand in this file, one a line
    #[arg(long, value_name = "FILE", help_heading = "Labels")]
    only: Option<PathBuf>,
    /// Write the table as JSON
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    out: Option<PathBuf>,
    /// Write the records, as a run with --landmarks does
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    records: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

/// Refuses and hides those flags of a run that are about sources, outputs and time.
fn without_meaning(arg: clap::Arg) -> clap::Arg {
    let about = (arg.get_help_heading(), arg.get_id().as_str());
    match about {
        (Some("Source" | "Output"), _) | (_, "smooth" | "detect_every") => {
            arg.hide(true).conflicts_with("datasets")
        }
        _ => arg,
    }
}

/// Measures, prints and writes.
///
/// # Errors
/// [`Error::Source`] for labels that cannot be read, [`Error::Sink`] for results that cannot be
/// written, and those of a run.
pub fn run(args: Args) -> Result<()> {
    keep_apart(&args)?;
    let only = args.only.as_deref().map(names).transpose()?;
    let read = |path: &PathBuf| Dataset::read(path, only.as_ref());
    let datasets = args.datasets.iter().map(read).collect::<Result<Vec<_>>>()?;
    args.out.as_deref().map_or(Ok(()), has_a_place)?;
    let stop = super::stop_on_signals()?;
    let report = eval::run(&datasets, args.points, args.records, args.run, &stop)?;
    let mut stdout = std::io::stdout();
    let printed = writeln!(stdout, "{report}")
        .and_then(|()| stdout.flush())
        .map_err(|e| json::failed("the table", "standard output", &e));
    if let Some(path) = &args.out {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|e| Error::Bug(format!("the results cannot be serialised: {e}")))?;
        std::fs::write(path, text + "\n")
            .map_err(|e| json::failed("the results", &path.display().to_string(), &e))?;
    }
    printed
}

/// Results must not be written over labels or over each other.
fn keep_apart(args: &Args) -> Result<()> {
    let outputs = [("--out", &args.out), ("--records", &args.records)];
    for (flag, path) in outputs.iter().filter_map(|(flag, path)| Some((flag, path.as_deref()?))) {
        if path == Path::new("-") {
            return Err(Error::Usage(format!("{flag} - would run into the table: name a file")));
        }
        if args.datasets.iter().chain(&args.only).any(|read| same(path, read)) {
            let path = path.display();
            return Err(Error::Usage(format!("{flag} would write over the labels in {path}")));
        }
    }
    match outputs.map(|(_, path)| path.as_deref()) {
        [Some(a), Some(b)] if same(a, b) => {
            Err(Error::Usage("--out and --records name the same file".into()))
        }
        _ => Ok(()),
    }
}

/// Better known now than after an hour, but without a trace in the results of yesterday.
fn has_a_place(path: &Path) -> Result<()> {
    let folder = std::path::absolute(path).ok().and_then(|path| Some(path.parent()?.to_owned()));
    if folder.is_some_and(|folder| folder.is_dir()) && !path.is_dir() {
        return Ok(());
    }
    let path = path.display();
    Err(Error::Sink(format!("cannot write {path}; name a file in a folder that exists with --out")))
}

fn names(path: &Path) -> Result<HashSet<String>> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::Usage(format!("cannot read --only {}: {e}", path.display())))?;
    Ok(text.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect())
}
