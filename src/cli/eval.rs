//! `mmface-live eval`: measures accuracy on labelled pictures.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::config::same;
use super::values::{JudgedArg, PrecisionArg};
use super::{Config, RunArgs, say};
use crate::eval::{Comparison, Evaluation, Judged, Report};
use crate::sink::files::cannot_write;
use crate::sink::json::{Json, Target};
use crate::sink::{Content, WhenSlow};
use crate::{Error, Result, run};

/// Help text of the subcommand.
pub const ABOUT: &str = "\
Measure accuracy on labelled pictures: landmarks, pose, faces missed, time

Every picture goes through detection and networks as with --images; the landmarks of the records are \
compared with the labels, and a table is printed. A DATASET is

  a file of JSON lines, one face per line: {\"file\": \"a.jpg\", \"points\": [[x, y], … 68 of them]}, \
files relative to its folder; optional are \"person\", \"source\", \"pose\": [pitch, yaw, roll] and \"mesh\": an OBJ file of the true head;
  or a folder in the format of AFLW2000-3D: image00002.jpg with image00002.mat, …

Errors are mean distances in % of √(area of the box around the labelled points), over the inner 51 \
points and all 68. \"free\" first subtracts the mean offset of each point, in which annotators differ; it \
is computed on one half of the people and applied to the other. Apart from the time, two runs give the same numbers.";

/// Examples for the help text.
pub const EXAMPLES: &str = "\
Examples:
  mmface-live eval faces.jsonl                                 a table
  mmface-live eval AFLW2000-3D/ --out aflw.json                the same numbers as JSON
  mmface-live eval a.jsonl b.jsonl --only validation.txt       some of the pictures
  mmface-live eval faces.jsonl --device cuda --precision f16   another backend
  mmface-live eval faces.jsonl --precisions f32,bf16,int8      what each precision costs
  mmface-live eval faces.jsonl --records records.jsonl         for engines/training/compare.py

Formats and definitions: docs/evaluation.md. Exit codes are those of a run.";

/// Arguments of `eval`.
#[derive(Debug, clap::Args)]
#[command(mut_args(without_meaning), allow_negative_numbers = true)]
pub struct Args {
    /// Labelled pictures: a file of JSON lines, or a folder of .jpg and .mat pairs
    #[arg(required = true, value_name = "DATASET")]
    pub datasets: Vec<PathBuf>,
    /// Compare these landmarks with the labels [default: 3d for folders, else visible]
    #[arg(long, value_enum, value_name = "visible|3d", help_heading = "Labels")]
    pub points: Option<JudgedArg>,
    /// Only the pictures whose names are in this file, one per line
    #[arg(long, value_name = "FILE", help_heading = "Labels")]
    pub only: Option<PathBuf>,
    /// Write the table as JSON
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub out: Option<PathBuf>,
    /// Write the records, as a run with --landmarks does
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub records: Option<PathBuf>,
    /// Measure in each of these precisions, and compare
    #[arg(long, value_enum, value_name = "NAME,NAME…", value_delimiter = ',')]
    #[arg(conflicts_with_all = ["precision", "records"], help_heading = "Computing")]
    pub precisions: Vec<PrecisionArg>,
    /// Flags of the run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Runs the program on the pictures of the data sets, evaluates the records, prints a table and
/// writes the requested files. Setting `stop` ends the run early; the results then cover what was
/// processed.
///
/// # Errors
/// [`Error::Source`] for labels that cannot be read, [`Error::Sink`] for results that cannot be
/// written, and those of [`run::run`].
pub fn run(args: Args, stop: &Arc<AtomicBool>) -> Result<()> {
    let Args { datasets, points, only, out, records, precisions, run } = args;
    let evaluation = Evaluation::read(&datasets, only.as_deref())?;
    let inputs: Vec<&Path> = datasets.iter().chain(&only).map(PathBuf::as_path).collect();
    let inputs = [inputs, evaluation.pictures().collect()].concat();
    check_outputs(out.as_deref(), records.as_deref(), &inputs)?;
    let judged = points.map(Into::into);
    if precisions.is_empty() {
        let report = measure(&evaluation, judged, records, run, stop)?;
        return tell(&report, out.as_deref());
    }
    let mut reports = Vec::new();
    for precision in precisions {
        // Each has an evaluation of its own.
        let evaluation = Evaluation::read(&datasets, only.as_deref())?;
        let run = RunArgs { precision: Some(precision), ..run.clone() };
        reports.push(measure(&evaluation, judged, None, run, stop)?);
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    tell(&Comparison(reports), out.as_deref())
}

/// One run over all pictures.
fn measure(
    evaluation: &Evaluation,
    judged: Option<Judged>,
    records: Option<PathBuf>,
    run: RunArgs,
    stop: &Arc<AtomicBool>,
) -> Result<Report> {
    let mut sinks = vec![evaluation.listener()];
    if let Some(path) = records {
        let content = Content { landmarks: true, ..Content::default() };
        sinks.push(Box::new(Json {
            target: Target::File(path),
            content,
            when_slow: WhenSlow::Wait,
        }));
    }
    let config = Config::with_sinks(run, evaluation.input(), sinks)?;
    run::run(&config.runtime.open()?, config.run, stop)?;
    evaluation.report(judged, stop.load(Ordering::Relaxed))
}

/// Prints results, and writes them to a file.
fn tell(report: &(impl Display + Serialize), out: Option<&Path>) -> Result<()> {
    let printed = say(report);
    if let Some(path) = out {
        let text = serde_json::to_string_pretty(report)
            .map_err(|e| Error::Bug(format!("the results cannot be serialised: {e}")))?;
        std::fs::write(path, text + "\n")
            .map_err(|e| cannot_write("the results", &path.display().to_string(), &e))?;
    }
    printed
}

/// Checks the output paths before the run, which may take an hour: each must be a file in an
/// existing folder, and differ from the inputs and from the other output.
fn check_outputs(out: Option<&Path>, records: Option<&Path>, inputs: &[&Path]) -> Result<()> {
    for (flag, path) in [("--out", out), ("--records", records)] {
        let Some(path) = path else { continue };
        if path == Path::new("-") {
            return Err(Error::Usage(format!("{flag} - would run into the table: name a file")));
        }
        if inputs.iter().any(|input| same(path, input)) {
            let path = path.display();
            return Err(Error::Usage(format!("{flag} would write over the input {path}")));
        }
        let folder = std::path::absolute(path).ok();
        if !folder.as_deref().and_then(Path::parent).is_some_and(Path::is_dir) || path.is_dir() {
            let path = path.display();
            return Err(Error::Sink(format!(
                "cannot write {path}: name a file in a folder that exists with {flag}"
            )));
        }
    }
    match (out, records) {
        (Some(a), Some(b)) if same(a, b) => {
            Err(Error::Usage("--out and --records name the same file".into()))
        }
        _ => Ok(()),
    }
}

/// Hides and rejects those flags of a run that make no sense here: for sources, outputs and time.
fn without_meaning(arg: clap::Arg) -> clap::Arg {
    let about = (arg.get_help_heading(), arg.get_id().as_str());
    match about {
        (_, "volume") => arg,
        (Some("Source" | "Output"), _) | (_, "smooth" | "detect_every" | "reidentify") => {
            arg.hide(true).conflicts_with("datasets")
        }
        _ => arg,
    }
}
