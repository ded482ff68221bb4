//! How accurate the program is: labelled pictures go through it as through any run, and its records
//! are held against the labels.
//!
//! Nothing here computes a face: [`run`] hands the pictures to [`pipeline::run`], and what it judges
//! are the records that come out, with the digits that a reader of them gets. `docs/evaluation.md`
//! has the definitions.

mod dataset;
mod matlab;
mod metric;
mod report;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Deserialize;

use crate::cli::RunArgs;
use crate::config::Config;
use crate::record::{self, Record};
use crate::sink::json::Target;
use crate::source::Input;
use crate::{Error, Result, pipeline};
pub use dataset::{Dataset, Judged, Label};
pub use report::Report;

/// What a record says, as far as it is judged.
#[derive(Debug, Clone, Deserialize)]
struct Seen {
    latency_ms: record::Latency,
    faces: Vec<SeenFace>,
}

/// A face of a record.
#[derive(Debug, Clone, Deserialize)]
struct SeenFace {
    r: [f64; 3],
    landmarks: Vec<[f64; 2]>,
    landmarks3d: Vec<[f64; 3]>,
}

/// The pictures of some data sets, each once, in the order of the labels.
struct Pictures<'a> {
    files: Vec<(PathBuf, Arc<str>)>,
    places: HashMap<&'a Path, usize>,
}

impl<'a> Pictures<'a> {
    fn of(datasets: &'a [Dataset]) -> Self {
        let mut this = Self { files: Vec::new(), places: HashMap::new() };
        for label in datasets.iter().flat_map(|data| &data.faces) {
            this.places.entry(&label.path).or_insert_with(|| {
                this.files.push((label.path.clone(), label.file.as_str().into()));
                this.files.len() - 1
            });
        }
        this
    }
}

/// Runs the program, set up by `args`, on the pictures of data sets and judges it by their labels.
/// Records go to a file too if `records` names one. Sets `stop` to end early: what was measured until
/// then is in the report.
///
/// # Errors
/// Those of [`Config::with_input`] and [`pipeline::run`].
pub fn run(
    datasets: &[Dataset],
    judged: Option<Judged>,
    records: Option<PathBuf>,
    args: RunArgs,
    stop: &Arc<AtomicBool>,
) -> Result<Report> {
    let pictures = Pictures::of(datasets);
    let label = datasets.iter().map(|data| data.name.as_str()).collect::<Vec<_>>().join(", ");
    let args = RunArgs { json: records.clone(), landmarks: true, ..args };
    let input = Input::Pictures { label, files: pictures.files.clone() };
    let mut config = Config::with_input(args, input)?;
    if records.is_none() {
        config.json = Target::Nowhere;
    }
    // Unbounded: it is read when all has been said.
    let (sender, said) = crossbeam_channel::unbounded();
    let end = pipeline::run(config, Some(sender), stop)?;

    let mut header = None;
    let mut seen: Vec<Option<Seen>> = vec![None; pictures.files.len()];
    for record in said {
        match record {
            Record::Header(this) => header = Some(this),
            Record::Frame(frame) => {
                // A picture's time is its place in the list.
                if let Some(place) = seen.get_mut(frame.pts as usize) {
                    *place = Some(read(&frame)?);
                }
            }
            _ => {}
        }
    }
    let header = header.ok_or_else(|| Error::Bug("a run without a header".into()))?;
    let reached = match end.frames.processed + end.frames.dropped.damaged {
        all if all >= seen.len() as u64 => seen.len(),
        _ => seen.iter().rposition(Option::is_some).map_or(0, |last| last + 1),
    };
    let datasets = datasets.iter().map(|data| {
        let at = |label: &Label| {
            let place = pictures.places.get(label.path.as_path()).copied()?;
            (place < reached).then(|| seen[place].as_ref())
        };
        report::DatasetReport::new(data, judged.unwrap_or(data.judged), at)
    });
    Ok(Report {
        program: header.program,
        version: header.version,
        face_model: report::Named { name: header.face_model.name, hash: header.face_model.hash },
        network: header.network,
        complete: reached == seen.len(),
        datasets: datasets.collect(),
        timing: report::Timing::of(seen.iter().flatten()),
    })
}

/// A record as its reader sees it: the numbers as they are written.
fn read(frame: &record::Frame) -> Result<Seen> {
    serde_json::to_value(frame)
        .and_then(serde_json::from_value)
        .map_err(|e| Error::Bug(format!("a record cannot be read back: {e}")))
}
