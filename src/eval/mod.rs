//! How accurate the program is: labelled pictures go through it as through any run, and its records
//! are held against the labels.
//!
//! Nothing here computes a face: it hands the pictures to [`pipeline::run`], and what it judges
//! are the records that come out, with the digits that a reader of them gets. `docs/evaluation.md`
//! has the definitions.

mod dataset;
mod judge;
mod matlab;
mod mesh;
mod metric;
mod report;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;

use crate::cli::eval::{Args, Judged};
use crate::cli::{RunArgs, say};
use crate::config::{Config, same};
use crate::pipeline::{MakeSink, Watcher};
use crate::record::{self, Record};
use crate::sink::json::{self, Target};
use crate::sink::volumes::Origin;
use crate::source::Input;
use crate::{Error, Result, pipeline};
use dataset::{Dataset, Label};
use mesh::{ByPicture, Fit, Judge, Known};
use report::Report;

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

/// Runs the program on the pictures of data sets, judges it by their labels, prints a table and writes
/// what else is asked for. Setting `stop` ends it early, with what was measured until then.
///
/// # Errors
/// [`Error::Source`] for labels that cannot be read, [`Error::Sink`] for results that cannot be
/// written, and those of [`pipeline::run`].
pub fn run(args: Args, stop: &Arc<AtomicBool>) -> Result<()> {
    let Args { datasets, points, only, out, records, run } = args;
    let wanted = only.as_deref().map(names).transpose()?;
    let read = |path: &PathBuf| Dataset::read(path, wanted.as_ref());
    let data = datasets.iter().map(read).collect::<Result<Vec<_>>>()?;
    warn_of_absent(wanted.as_ref(), &data);
    let pictures = data.iter().flat_map(|data| &data.faces).map(|label| &label.path);
    let inputs: Vec<&PathBuf> = datasets.iter().chain(&only).chain(pictures).collect();
    check_outputs(out.as_deref(), records.as_deref(), &inputs)?;
    let report = measure(&data, points, records, run, stop)?;
    let printed = say(&report);
    if let Some(path) = &out {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|e| Error::Bug(format!("the results cannot be serialised: {e}")))?;
        std::fs::write(path, text + "\n")
            .map_err(|e| json::failed("the results", &path.display().to_string(), &e))?;
    }
    printed
}

/// Says which wanted pictures no data set has: a name that is mistyped would make the set smaller.
fn warn_of_absent(wanted: Option<&HashSet<String>>, data: &[Dataset]) {
    let absent = |name: &&String| !data.iter().any(|data| data.met.contains(*name));
    let mut absent: Vec<_> =
        wanted.into_iter().flatten().filter(absent).map(String::as_str).collect();
    absent.sort_unstable();
    if let Some(first) = absent.first() {
        let others = match absent.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        tracing::warn!("--only names {first}{others}, which no data set has");
    }
}

/// The names of pictures, one a line.
fn names(path: &Path) -> Result<HashSet<String>> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::Usage(format!("cannot read --only {}: {e}", path.display())))?;
    Ok(text.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect())
}

/// Results need a place, which is better known now than after an hour, and not that of an input or of
/// each other.
fn check_outputs(out: Option<&Path>, records: Option<&Path>, inputs: &[&PathBuf]) -> Result<()> {
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

/// The pictures through the program, its records against the labels.
fn measure(
    datasets: &[Dataset],
    judged: Option<Judged>,
    records: Option<PathBuf>,
    args: RunArgs,
    stop: &Arc<AtomicBool>,
) -> Result<Report> {
    let pictures = Pictures::of(datasets);
    let label = datasets.iter().map(|data| data.name.as_str()).collect::<Vec<_>>().join(", ");
    let args = RunArgs { landmarks: true, ..args };
    let input = Input::Pictures { label, files: pictures.files.clone() };
    let mut config = Config::with_input(args, input)?;
    config.json = records.map_or(Target::Nowhere, Target::File);
    // Unbounded: they are read when all has been said.
    let (sender, said) = crossbeam_channel::unbounded();
    let (fits, fitted) = crossbeam_channel::unbounded();
    let meshed = meshed(datasets, &pictures);
    if !meshed.is_empty() {
        config.volumes = Some(Origin::Network);
        config.nets.volume = Some(config.volume);
    }
    let sink = (!meshed.is_empty()).then(|| -> MakeSink {
        Box::new(|model| Box::new(Judge::new(model.clone(), meshed, fits)))
    });
    pipeline::run(config, Some(Watcher { records: sender, sink }), stop)?;
    let fits: HashMap<_, Fit> = fitted.into_iter().map(|fit| (fit.label, fit)).collect();

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
    // A picture without a record is unreadable, unless the run was stopped before it.
    let reached = match stop.load(Ordering::Relaxed) {
        true => seen.iter().rposition(Option::is_some).map_or(0, |last| last + 1),
        false => seen.len(),
    };
    let datasets = datasets.iter().enumerate().map(|(set, data)| {
        let at = |label: &Label| {
            let place = pictures.places.get(label.path.as_path()).copied()?;
            (place < reached).then(|| seen[place].as_ref())
        };
        let fit = |face| fits.get(&(set, face));
        report::DatasetReport::new(data, judged.unwrap_or(data.judged), at, fit)
    });
    Ok(Report {
        program: header.program,
        version: header.version,
        face_model: report::Named { name: header.face_model.name, hash: header.face_model.hash },
        network: header.network,
        refine: header.refine,
        volume: header.volume,
        complete: reached == seen.len(),
        datasets: datasets.collect(),
        timing: report::Timing::of(seen.iter().flatten()),
    })
}

/// The labels that name a mesh.
fn meshed(datasets: &[Dataset], pictures: &Pictures) -> ByPicture {
    let mut meshed = ByPicture::new();
    for (set, data) in datasets.iter().enumerate() {
        for (face, label) in data.faces.iter().enumerate().filter(|(_, l)| l.mesh.is_some()) {
            if let Some(picture) = pictures.places.get(label.path.as_path()) {
                let known = Known { place: (set, face), label: label.clone() };
                meshed.entry(*picture).or_default().push(known);
            }
        }
    }
    meshed
}

/// A record as its reader sees it: the numbers as they are written.
fn read(frame: &record::Frame) -> Result<Seen> {
    serde_json::to_value(frame)
        .and_then(serde_json::from_value)
        .map_err(|e| Error::Bug(format!("a record cannot be read back: {e}")))
}
