//! Evaluation: runs labelled pictures through the program and compares its records with the labels.
//!
//! Nothing here computes a face. An [`Evaluation`] provides the pictures and a sink for an ordinary
//! run, and compares the records, rounded as a reader gets them, with the labels. For definitions
//! see `docs/evaluation.md`.

mod dataset;
pub(crate) mod fuzzing;
mod judge;
mod listener;
mod matlab;
mod mesh;
mod metric;
mod report;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mmface::limited::read_text_limited;
use mmface::record::{self, Header};
use serde::{Deserialize, Serialize};

use crate::sink::Plan;
use crate::source::Input;
use crate::{Error, Result};
use dataset::{Dataset, Label};
use listener::ListenerPlan;
use mesh::{ByPicture, Fit, Known};
pub use report::{Comparison, Report};

/// Which of a record's landmarks are compared with the labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Judged {
    /// `landmarks`: the contour follows the visible outline.
    Visible,
    /// x and y of `landmarks3d`: fixed points of the mesh, hidden ones included.
    #[serde(rename = "3d")]
    Fixed,
}

/// The evaluated part of a frame record.
#[derive(Debug, Clone, Deserialize)]
struct Seen {
    latency_ms: record::Latency,
    faces: Vec<SeenFace>,
}

/// The evaluated part of a face in a record.
#[derive(Debug, Clone, Deserialize)]
struct SeenFace {
    r: [f64; 3],
    landmarks: Vec<[f64; 2]>,
    landmarks3d: Vec<[f64; 3]>,
}

/// What was collected during a run.
#[derive(Default)]
struct Notes {
    header: Option<Arc<Header>>,
    /// Records by the index of the picture.
    seen: HashMap<usize, Seen>,
    /// Comparisons with true meshes by the label's indices (data set, face).
    fits: HashMap<(usize, usize), Fit>,
}

/// Labelled data sets to evaluate.
pub struct Evaluation {
    data: Vec<Dataset>,
    /// The pictures of all data sets, without duplicates, in the order of the labels.
    files: Vec<(PathBuf, Arc<str>)>,
    /// Index of each picture in `files`.
    places: HashMap<PathBuf, usize>,
    notes: Arc<Mutex<Notes>>,
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Evaluation {
    /// Reads data sets. If a file `only` is given, just the pictures that it names.
    ///
    /// # Errors
    /// [`Error::Source`] for labels that cannot be read, [`Error::Usage`] for a file `only` that
    /// cannot be read.
    pub fn read(datasets: &[PathBuf], only: Option<&Path>) -> Result<Self> {
        let wanted = only.map(names).transpose()?;
        let read = |path: &PathBuf| Dataset::read(path, wanted.as_ref());
        let data = datasets.iter().map(read).collect::<Result<Vec<_>>>()?;
        warn_of_absent(wanted.as_ref(), &data);
        let (mut files, mut places) = (Vec::new(), HashMap::new());
        for label in data.iter().flat_map(|data| &data.faces) {
            places.entry(label.path.clone()).or_insert_with(|| {
                files.push((label.path.clone(), label.file.as_str().into()));
                files.len() - 1
            });
        }
        Ok(Self { data, files, places, notes: Arc::default() })
    }

    /// The pictures as the input of a run.
    #[must_use]
    pub fn input(&self) -> Input {
        let label = self.data.iter().map(|data| data.name.as_str()).collect::<Vec<_>>().join(", ");
        Input::Pictures { label, files: self.files.clone() }
    }

    /// Paths of the pictures.
    pub fn pictures(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// The sink that the run must have.
    #[must_use]
    pub fn listener(&self) -> Box<dyn Plan> {
        Box::new(ListenerPlan { notes: self.notes.clone(), meshed: self.meshed() })
    }

    /// The labels with a true mesh.
    fn meshed(&self) -> ByPicture {
        let mut meshed = ByPicture::new();
        for (set, data) in self.data.iter().enumerate() {
            for (face, label) in data.faces.iter().enumerate().filter(|(_, l)| l.mesh.is_some()) {
                if let Some(picture) = self.places.get(&label.path) {
                    let known = Known { place: (set, face), label: label.clone() };
                    meshed.entry(*picture).or_default().push(known);
                }
            }
        }
        meshed
    }

    /// The results of the run. `judged` overrides the data sets' own choice of landmarks.
    /// `stopped`: whether the run was stopped, so that it may not have processed every picture.
    ///
    /// # Errors
    /// [`Error::Bug`] if there was no run.
    pub fn report(&self, judged: Option<Judged>, stopped: bool) -> Result<Report> {
        let notes = lock(&self.notes);
        let header =
            notes.header.as_ref().ok_or_else(|| Error::Bug("a run without a header".into()))?;
        let count = self.files.len();
        // A picture without a record is unreadable, unless the run was stopped before it.
        let last_seen = notes.seen.keys().max().map_or(0, |last| last + 1);
        let reached = if stopped { last_seen } else { count };
        let datasets = self.data.iter().enumerate().map(|(set, data)| {
            let at = |label: &Label| {
                let place = self.places.get(&label.path).copied()?;
                (place < reached).then(|| notes.seen.get(&place))
            };
            let fit = |face| notes.fits.get(&(set, face));
            report::DatasetReport::new(data, judged.unwrap_or(data.judged), at, fit)
        });
        let datasets = datasets.collect();
        let in_order = (0..count).filter_map(|place| notes.seen.get(&place));
        let face_model = &header.face_model;
        Ok(Report {
            program: header.program.clone(),
            version: header.version.clone(),
            face_model: report::Named {
                name: face_model.name.clone(),
                hash: face_model.hash.clone(),
            },
            network: header.network.clone(),
            refine: header.refine.clone(),
            volume: header.volume,
            complete: reached == count,
            datasets,
            timing: report::Timing::of(in_order),
        })
    }
}

/// Warns about names in `only` that no data set has, because a typing error would make the set
/// smaller.
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

/// Most bytes of a list of names, and of a list of labels.
const LARGEST_LIST: u64 = 1 << 30;

/// Reads a file with one picture name per line.
fn names(path: &Path) -> Result<HashSet<String>> {
    let text =
        read_text_limited(path, LARGEST_LIST).map_err(|e| Error::Usage(format!("--only: {e}")))?;
    Ok(text.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect())
}
