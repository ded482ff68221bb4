//! `mmface-live eval`: how accurate the program is, on labelled pictures.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;

use super::RunArgs;

/// The help of this subcommand.
pub const ABOUT: &str = "\
Measure accuracy on labelled pictures: landmarks, pose, faces missed, time

Every picture goes through detection and networks as with --images; the landmarks of the records are \
held against the labels, and a table is printed. A DATASET is

  a file of JSON lines, one face a line: {\"file\": \"a.jpg\", \"points\": [[x, y], … 68 of them]}, \
files relative to its folder; optional are \"person\", \"source\", \"pose\": [pitch, yaw, roll] and \"mesh\": an OBJ file of the true head;
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
#[command(mut_args(without_meaning), allow_negative_numbers = true)]
pub struct Args {
    /// Labelled pictures: a file of JSON lines, or a folder of .jpg and .mat pairs
    #[arg(required = true, value_name = "DATASET")]
    pub datasets: Vec<PathBuf>,
    /// Hold these landmarks against the labels [default: 3d for folders, else visible]
    #[arg(long, value_enum, value_name = "visible|3d", help_heading = "Labels")]
    pub points: Option<Judged>,
    /// Only the pictures whose names stand in this file, one a line
    #[arg(long, value_name = "FILE", help_heading = "Labels")]
    pub only: Option<PathBuf>,
    /// Write the table as JSON
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub out: Option<PathBuf>,
    /// Write the records, as a run with --landmarks does
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub records: Option<PathBuf>,
    /// How the program runs meanwhile.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Which of a record's landmarks are held against the labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Judged {
    /// `landmarks`: the contour follows the visible outline.
    Visible,
    /// `landmarks3d`, their x and y: fixed on the face, hidden ones too.
    #[value(name = "3d")]
    #[serde(rename = "3d")]
    Fixed,
}

/// Refuses and hides those flags of a run that are about sources, outputs and time.
fn without_meaning(arg: clap::Arg) -> clap::Arg {
    let about = (arg.get_help_heading(), arg.get_id().as_str());
    match about {
        (_, "volume") => arg,
        (Some("Source" | "Output"), _) | (_, "smooth" | "detect_every") => {
            arg.hide(true).conflicts_with("datasets")
        }
        _ => arg,
    }
}
